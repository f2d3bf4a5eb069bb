//! Discovery, version and OpenAPI, which clients read first.

use std::collections::BTreeSet;

use http::Method;
use serde_json::Value;

use crate::common::*;

const AGGREGATED: &str =
    "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList,application/json";

fn strings(list: &Value, field: &str) -> BTreeSet<String> {
    list.as_array()
        .unwrap()
        .iter()
        .map(|item| text(&item[field]))
        .collect()
}

#[tokio::test]
async fn groups_and_resources_are_listed() {
    let cluster = Cluster::start().await;
    assert_eq!(
        cluster.get("/api").await.expect(200)["versions"],
        serde_json::json!(["v1"])
    );
    let groups = cluster.get("/apis").await.expect(200);
    assert!(
        strings(&groups["groups"], "name").is_superset(&BTreeSet::from(["apps".into(), "policy".into()]))
    );
    assert_eq!(
        cluster.get("/apis/apps").await.expect(200)["preferredVersion"]["groupVersion"],
        "apps/v1"
    );
    let core = cluster.get("/api/v1").await.expect(200);
    let names = strings(&core["resources"], "name");
    for name in [
        "pods",
        "pods/status",
        "pods/binding",
        "pods/log",
        "namespaces/finalize",
        "serviceaccounts/token",
    ] {
        assert!(names.contains(name), "{name} is missing of {names:?}");
    }
    let resources = core["resources"].as_array().unwrap();
    let evictions = resources.iter().find(|r| r["name"] == "pods/eviction").unwrap();
    assert_eq!(
        (&evictions["group"], &evictions["version"], &evictions["kind"]),
        (&"policy".into(), &"v1".into(), &"Eviction".into()),
        "drain looks for it"
    );
    assert_eq!(cluster.get("/apis/none").await.code, 404);
    assert_eq!(cluster.get("/apis/apps/v2").await.code, 404);
}

#[tokio::test]
async fn aggregated_discovery_is_the_same_in_one_answer() {
    let cluster = Cluster::start().await;
    let answer = cluster.get_as("/apis", AGGREGATED).await;
    assert_eq!(
        answer.header("content-type"),
        "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList"
    );
    let etag = answer.header("etag").to_owned();
    let groups = answer.expect(200);
    let apps = groups["items"]
        .as_array()
        .unwrap()
        .iter()
        .find(|group| group["metadata"]["name"] == "apps")
        .unwrap();
    let resources = &apps["versions"][0]["resources"];
    assert_eq!(
        strings(resources, "resource"),
        BTreeSet::from(["controllerrevisions".into(), "daemonsets".into()])
    );
    let headers = [("accept", AGGREGATED), ("if-none-match", etag.as_str())];
    assert_eq!(cluster.send(Method::GET, "/apis", &headers, "").await.code, 304);
}

#[tokio::test]
async fn version_and_health_answer() {
    let cluster = Cluster::start().await;
    let version = cluster.get("/version").await.expect(200);
    assert!(text(&version["gitVersion"]).starts_with("v1.36."));
    for path in [
        "/healthz",
        "/livez",
        "/readyz",
        "/readyz/ping",
        "/readyz/etcd",
        "/readyz/poststarthook/admin-kubeconfig",
    ] {
        assert_eq!(cluster.get(path).await.text, "ok", "{path}");
    }
    assert_eq!(cluster.get("/readyz/unknown").await.code, 404);
    assert_eq!(
        cluster.get("/livez?verbose").await.text,
        "[+]ping ok\nlivez check passed\n"
    );
    assert_eq!(
        cluster
            .get("/readyz?verbose&exclude=etcd&exclude=unknown")
            .await
            .text,
        "[+]ping ok\n[+]etcd excluded: ok\n[+]poststarthook/rbac/bootstrap-roles ok\n\
         [+]poststarthook/admin-kubeconfig ok\n[+]shutdown ok\n\
         warn: some health checks cannot be excluded: no matches for \"unknown\"\nreadyz check passed\n"
    );
    assert_eq!(cluster.send(Method::POST, "/version", &[], "").await.code, 405);
}

#[tokio::test]
async fn readyz_names_the_store_when_its_directory_is_gone() {
    let cluster = Cluster::start().await;
    std::fs::remove_dir_all(cluster.dir.path().join("store")).unwrap();
    let look = async || match cluster.get("/readyz").await {
        answer if answer.code == 200 => Err(answer.text),
        answer => Ok(answer),
    };
    let answer = testkit::wait_for_async("the store's trouble", look)
        .await
        .unwrap();
    assert_eq!(answer.code, 500);
    assert!(
        answer.text.contains("[-]etcd failed: reason withheld\n"),
        "{}",
        answer.text
    );
    assert!(answer.text.ends_with("readyz check failed\n"), "{}", answer.text);
    let why = cluster.get("/readyz/etcd").await.text;
    assert!(
        why.starts_with("internal server error: the store accepts no writes: ")
            && why.contains("was removed"),
        "{why}"
    );
    assert_eq!(cluster.get("/readyz?exclude=etcd").await.text, "ok");
    assert_eq!(
        cluster.get("/livez").await.text,
        "ok",
        "a restart would lose what is in memory"
    );
    let metrics = cluster.get("/metrics").await.text;
    assert!(
        metrics.contains("kubernetes_healthcheck{name=\"etcd\",type=\"readyz\"} 0\n"),
        "{metrics}"
    );
    let object = serde_json::json!({"kind": "ConfigMap", "apiVersion": "v1", "metadata": {"name": "lost"}});
    let refused = cluster
        .send(Method::POST, CONFIG_MAPS, &[], object.to_string())
        .await;
    assert_eq!(refused.code, 500, "{}", refused.text);
    assert!(
        cluster.server.shutdown().await.is_err(),
        "it was not closed in order"
    );
}

#[tokio::test]
async fn metrics_count_each_request_once() {
    let cluster = Cluster::start().await;
    for _ in 0..3 {
        cluster.get(CONFIG_MAPS).await.expect(200);
    }
    let text = cluster.get("/metrics").await.text;
    let labels = "verb=\"list\",resource=\"configmaps\",code=\"200\"";
    for line in [
        format!("apiserver_request_total{{{labels}}} 3\n"),
        format!("apiserver_request_duration_seconds_bucket{{{labels},le=\"+Inf\"}} 3\n"),
        format!("apiserver_request_duration_seconds_bucket{{{labels},le=\"10\"}} 3\n"),
        format!("apiserver_request_duration_seconds_count{{{labels}}} 3\n"),
    ] {
        assert!(text.contains(&line), "{line}{text}");
    }
    assert!(text.contains("apiserver_storage_revision"));
}

#[tokio::test]
async fn there_are_no_custom_kinds() {
    let cluster = Cluster::start().await;
    let path = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions";
    let list = cluster.get(path).await.expect(200);
    assert_eq!(list["kind"], "CustomResourceDefinitionList");
    assert_eq!(list["items"], serde_json::json!([]));
    // With any other response a client could conclude that the kind exists.
    let definition = serde_json::json!({
        "kind": "CustomResourceDefinition", "apiVersion": "apiextensions.k8s.io/v1",
        "metadata": {"name": "gizmos.example.com"}, "spec": {},
    });
    let one = format!("{path}/gizmos.example.com");
    for answer in [
        cluster.create(path, &definition).await,
        cluster.delete(path, &Value::Null).await,
        cluster.get(&format!("{path}?watch=true")).await,
        cluster
            .get(&format!("{path}?watch=1&allowWatchBookmarks=true"))
            .await,
        cluster.get(&one).await,
        cluster.put(&one, &definition).await,
        cluster.patch(&one, MERGE, &definition).await,
        cluster.patch(&format!("{one}/status"), MERGE, &definition).await,
    ] {
        assert_eq!(
            (answer.code, &answer.json["reason"]),
            (404, &"NotFound".into()),
            "{}",
            answer.text
        );
    }
    // Discovery does not list the kind.
    assert_eq!(cluster.get("/apis/apiextensions.k8s.io").await.code, 404);
}

#[tokio::test]
async fn openapi_is_served_in_both_versions() {
    let cluster = Cluster::start().await;
    let index = cluster.get("/openapi/v3").await.expect(200);
    let url = text(&index["paths"]["apis/apps/v1"]["serverRelativeURL"]);
    assert!(url.contains("hash="), "{url}");
    let document = cluster.get(&url).await.expect(200);
    let patch = &document["paths"]["/apis/apps/v1/namespaces/{namespace}/daemonsets/{name}"]["patch"];
    assert_eq!(patch["x-kubernetes-group-version-kind"]["kind"], "DaemonSet");
    assert!(strings(&patch["parameters"], "name").contains("fieldValidation"));
    assert_eq!(cluster.get("/openapi/v3/apis/none/v1").await.code, 404);
    let v2 = cluster.get("/openapi/v2").await;
    assert_eq!(v2.json["swagger"], "2.0");
    let asked = "application/com.github.proto-openapi.spec.v2@v1.0+protobuf";
    let answered = "application/com.github.proto-openapi.spec.v2.v1.0+protobuf";
    let binary = cluster.get_as("/openapi/v2", asked).await;
    assert_eq!((binary.code, binary.header("content-type")), (200, answered));
    assert!(binary.text.len() > 10_000);
}

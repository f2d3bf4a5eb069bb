//! create: fields that the server sets, and objects that it refuses.

use crate::common::*;
use http::Method;
use serde_json::{Value, json};

#[tokio::test]
async fn created_object_is_stamped_and_can_be_read() {
    let cluster = Cluster::start().await;
    let created = cluster.create(CONFIG_MAPS, &config_map("a")).await.expect(201);
    let metadata = &created["metadata"];
    assert_eq!(metadata["namespace"], "default");
    assert_eq!(text(&metadata["uid"]).len(), 36);
    assert!(text(&metadata["creationTimestamp"]).ends_with('Z'));
    assert!(text(&metadata["resourceVersion"]).parse::<u64>().unwrap() > 0);
    assert_eq!(
        cluster.get(&format!("{CONFIG_MAPS}/a")).await.expect(200),
        created
    );
}

#[tokio::test]
async fn same_name_again_is_a_conflict() {
    let cluster = Cluster::start().await;
    cluster.create(CONFIG_MAPS, &config_map("a")).await.expect(201);
    let status = cluster.create(CONFIG_MAPS, &config_map("a")).await.expect(409);
    assert_eq!(status["reason"], "AlreadyExists");
    assert_eq!(status["message"], "configmaps \"a\" already exists");
    assert_eq!(status["details"], json!({"name": "a", "kind": "configmaps"}));
}

#[tokio::test]
async fn generate_name_gives_each_object_its_own_name() {
    let cluster = Cluster::start().await;
    let object = json!({"kind": "ConfigMap", "apiVersion": "v1", "metadata": {"generateName": "a-"}});
    let mut names = Vec::new();
    for _ in 0..5 {
        names.push(text(
            &cluster.create(CONFIG_MAPS, &object).await.expect(201)["metadata"]["name"],
        ));
    }
    assert!(
        names.iter().all(|name| name.starts_with("a-") && name.len() == 7),
        "{names:?}"
    );
    names.sort();
    names.dedup();
    assert_eq!(names.len(), 5);
}

#[tokio::test]
async fn object_needs_a_namespace_that_is_there() {
    let cluster = Cluster::start().await;
    let status = cluster
        .create("/api/v1/namespaces/nowhere/configmaps", &config_map("a"))
        .await
        .expect(404);
    assert_eq!(status["message"], "namespaces \"nowhere\" not found");
    let mut elsewhere = config_map("a");
    elsewhere["metadata"]["namespace"] = "kube-system".into();
    let status = cluster.create(CONFIG_MAPS, &elsewhere).await.expect(400);
    assert_eq!(
        status["message"],
        "the namespace of the provided object does not match the namespace sent on the request"
    );
}

#[tokio::test]
async fn resource_version_cannot_be_given() {
    let cluster = Cluster::start().await;
    let mut object = config_map("a");
    object["metadata"]["resourceVersion"] = "1".into();
    cluster.create(CONFIG_MAPS, &object).await.expect(400);
}

#[tokio::test]
async fn an_object_of_the_cluster_has_no_namespace() {
    let cluster = Cluster::start().await;
    let mut class = json!({
        "kind": "PriorityClass", "apiVersion": "scheduling.k8s.io/v1",
        "metadata": {"name": "high", "namespace": "default"}, "value": 7,
    });
    let classes = "/apis/scheduling.k8s.io/v1/priorityclasses";
    let created = cluster.create(classes, &class).await.expect(201);
    assert_eq!(created["metadata"]["namespace"], Value::Null);
    class["description"] = "d".into();
    let path = format!("{classes}/high");
    let updated = cluster.put(&path, &class).await.expect(200);
    assert_eq!(updated["metadata"]["namespace"], Value::Null);
    let patch = json!({"metadata": {"namespace": "default", "labels": {"a": "b"}}});
    let patched = cluster.patch(&path, MERGE, &patch).await.expect(200);
    assert_eq!(patched["metadata"]["namespace"], Value::Null);
}

#[tokio::test]
async fn nothing_is_created_under_a_name_or_across_namespaces() {
    let cluster = Cluster::start().await;
    assert_eq!(
        cluster
            .create(&format!("{CONFIG_MAPS}/a"), &config_map("a"))
            .await
            .code,
        405
    );
    assert_eq!(
        cluster.create("/api/v1/configmaps", &config_map("a")).await.code,
        405
    );
    assert_eq!(
        cluster
            .put(&format!("{CONFIG_MAPS}/a"), &config_map("a"))
            .await
            .code,
        404
    );
}

#[tokio::test]
async fn yaml_is_taken_and_given() {
    let cluster = Cluster::start().await;
    let yaml = "apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: a\ndata:\n  x: \"1\"\n";
    let headers = [
        ("content-type", "application/yaml"),
        ("accept", "application/yaml"),
    ];
    let answer = cluster.send(Method::POST, CONFIG_MAPS, &headers, yaml).await;
    assert_eq!(answer.code, 201, "{}", answer.text);
    assert_eq!(answer.header("content-type"), "application/yaml");
    assert!(answer.text.contains("\n  name: a\n"), "{}", answer.text);
    assert_eq!(
        cluster.get(&format!("{CONFIG_MAPS}/a")).await.json["data"],
        json!({"x": "1"})
    );
}

#[tokio::test]
async fn pod_gets_account_tolerations_and_priority() {
    let cluster = Cluster::start().await;
    let created = cluster.create(PODS, &pod("a")).await.expect(201);
    let spec = &created["spec"];
    assert_eq!(spec["serviceAccountName"], "default");
    assert_eq!(spec["priority"], 0);
    assert_eq!(spec["tolerations"].as_array().unwrap().len(), 2);
    assert_eq!(spec["containers"][0]["volumeMounts"].as_array().unwrap().len(), 1);
    assert_eq!(created["status"]["phase"], "Pending");

    let mut critical = pod("b");
    critical["spec"]["priorityClassName"] = "system-node-critical".into();
    assert_eq!(
        cluster.create(PODS, &critical).await.expect(201)["spec"]["priority"],
        2_000_001_000
    );
    critical["spec"]["priorityClassName"] = "none-such".into();
    let status = cluster.create(PODS, &critical).await.expect(403);
    assert_eq!(
        status["message"],
        "pods \"b\" is forbidden: no PriorityClass with name none-such was found"
    );
    let mut stranger = pod("c");
    stranger["spec"]["serviceAccountName"] = "nobody".into();
    let status = cluster.create(PODS, &stranger).await.expect(403);
    assert_eq!(
        status["message"],
        "pods \"c\" is forbidden: error looking up service account default/nobody: serviceaccount \"nobody\" not found"
    );
}

fn service(name: &str, ty: &str) -> serde_json::Value {
    json!({
        "kind": "Service", "apiVersion": "v1", "metadata": {"name": name},
        "spec": {"type": ty, "ports": [{"port": 80}]},
    })
}

#[tokio::test]
async fn services_get_addresses_and_ports_of_their_own() {
    let cluster = Cluster::start().await;
    let path = "/api/v1/namespaces/default/services";
    let kubernetes = cluster.get(&format!("{path}/kubernetes")).await.expect(200);
    assert_eq!(kubernetes["spec"]["clusterIP"], "10.96.0.1");
    let first = cluster.create(path, &service("a", "ClusterIP")).await.expect(201);
    let second = cluster.create(path, &service("b", "NodePort")).await.expect(201);
    let third = cluster.create(path, &service("c", "NodePort")).await.expect(201);
    assert_ne!(first["spec"]["clusterIP"], second["spec"]["clusterIP"]);
    assert_ne!(
        second["spec"]["ports"][0]["nodePort"],
        third["spec"]["ports"][0]["nodePort"]
    );
    assert_eq!(first["spec"]["clusterIPs"], json!([first["spec"]["clusterIP"]]));

    let mut taken = service("d", "ClusterIP");
    taken["spec"]["clusterIP"] = first["spec"]["clusterIP"].clone();
    let status = cluster.create(path, &taken).await.expect(422);
    assert_eq!(causes(&status)[0].0, "spec.clusterIPs");
    let mut headless = service("e", "ClusterIP");
    headless["spec"]["clusterIP"] = "None".into();
    assert_eq!(
        cluster.create(path, &headless).await.expect(201)["spec"]["clusterIP"],
        "None"
    );

    // An update without the address keeps it.
    let kept = cluster
        .put(&format!("{path}/a"), &service("a", "ClusterIP"))
        .await
        .expect(200);
    assert_eq!(kept["spec"]["clusterIP"], first["spec"]["clusterIP"]);
}

#[tokio::test]
async fn both_kinds_of_event_are_the_same_objects() {
    let cluster = Cluster::start().await;
    let event = json!({
        "kind": "Event", "apiVersion": "v1", "metadata": {"name": "e"},
        "involvedObject": {"kind": "Pod", "name": "p", "namespace": "default"},
        "reason": "Started", "message": "it runs", "type": "Normal",
        "source": {"component": "test"}, "count": 1,
    });
    cluster
        .create("/api/v1/namespaces/default/events", &event)
        .await
        .expect(201);
    let path = "/apis/events.k8s.io/v1/namespaces/default/events";
    let other = cluster.get(&format!("{path}/e")).await.expect(200);
    assert_eq!(other["apiVersion"], "events.k8s.io/v1");
    assert_eq!(other["note"], "it runs");
    assert_eq!(other["regarding"]["name"], "p");
    let list = cluster.get(path).await.expect(200);
    assert_eq!(list["items"][0]["regarding"]["name"], "p");
    let selectors = [
        ("regarding.name%3Dp,reason%3DStarted", 1),
        ("reportingController%3Dtest", 0),
        ("regarding.kind!%3DPod", 0),
        ("regarding.namespace%3Ddefault,type%3DNormal", 1),
    ];
    for (selector, count) in selectors {
        let list = cluster
            .get(&format!("{path}?fieldSelector={selector}"))
            .await
            .expect(200);
        assert_eq!(list["items"].as_array().unwrap().len(), count, "{selector}");
    }
    let patch = json!({"count": 2, "lastTimestamp": "2026-01-01T00:00:00Z"});
    let patched = cluster
        .patch("/api/v1/namespaces/default/events/e", STRATEGIC, &patch)
        .await
        .expect(200);
    assert_eq!(patched["count"], 2);
}

#[tokio::test]
async fn services_stay_within_their_ranges() {
    let cluster = Cluster::start().await;
    let path = "/api/v1/namespaces/default/services";
    let mut low = service("a", "NodePort");
    low["spec"]["ports"][0]["nodePort"] = 80.into();
    let status = cluster.create(path, &low).await.expect(422);
    assert_eq!(causes(&status)[0].0, "spec.ports[0].nodePort");
    assert!(text(&status["message"]).ends_with("The range of valid ports is 30000-32767"));
    let mut elsewhere = service("a", "ClusterIP");
    elsewhere["spec"]["clusterIP"] = "1.2.3.4".into();
    let status = cluster.create(path, &elsewhere).await.expect(422);
    assert_eq!(causes(&status)[0].0, "spec.clusterIPs");
    assert!(text(&status["message"]).ends_with("The range of valid IPs is 10.96.0.0/12"));
}

#[tokio::test]
async fn there_is_one_default_priority_class() {
    let cluster = Cluster::start().await;
    let path = "/apis/scheduling.k8s.io/v1/priorityclasses";
    let class = |name: &str, value: i64, default: bool| {
        json!({
            "kind": "PriorityClass", "apiVersion": "scheduling.k8s.io/v1", "metadata": {"name": name},
            "value": value, "globalDefault": default,
        })
    };
    let priority = async |name: &str| {
        let pod = cluster.create(PODS, &pod(name)).await.expect(201);
        pod["spec"]["priority"].clone()
    };
    assert_eq!(priority("a").await, 0);
    cluster.create(path, &class("first", 5, true)).await.expect(201);
    assert_eq!(priority("b").await, 5);
    cluster.create(path, &class("second", 6, false)).await.expect(201);
    let refused = cluster.create(path, &class("third", 7, true)).await.expect(403);
    assert!(text(&refused["message"]).contains("PriorityClass first is already marked as default"));
    cluster
        .delete(&format!("{path}/first"), &json!({}))
        .await
        .expect(200);
    assert_eq!(priority("c").await, 0);
    cluster.create(path, &class("first", 8, true)).await.expect(201);
    assert_eq!(priority("d").await, 8);
}

//! list: pages, selectors, resource versions.

use base64::Engine;
use serde_json::{Value, json};

use crate::common::*;

const ALL: &str = "/api/v1/namespaces/pages/configmaps";

async fn with_config_maps(count: usize) -> Cluster {
    let cluster = Cluster::start().await;
    let namespace = json!({"kind": "Namespace", "apiVersion": "v1", "metadata": {"name": "pages"}});
    cluster.create("/api/v1/namespaces", &namespace).await.expect(201);
    for n in 0..count {
        let mut object = config_map(&format!("n-{n:02}"));
        object["metadata"]["labels"] = json!({"parity": if n % 2 == 0 { "even" } else { "odd" }});
        cluster.create(ALL, &object).await.expect(201);
    }
    cluster
}

fn names(list: &Value) -> Vec<String> {
    list["items"]
        .as_array()
        .unwrap()
        .iter()
        .map(|item| text(&item["metadata"]["name"]))
        .collect()
}

#[tokio::test]
async fn empty_list_has_items_and_a_version() {
    let cluster = with_config_maps(0).await;
    let list = cluster.get(ALL).await.expect(200);
    assert_eq!(list["kind"], "ConfigMapList");
    assert_eq!(list["apiVersion"], "v1");
    assert_eq!(list["items"], json!([]));
    assert!(text(&list["metadata"]["resourceVersion"]).parse::<u64>().is_ok());
}

#[tokio::test]
async fn pages_together_are_the_list_as_of_the_first() {
    let cluster = with_config_maps(7).await;
    let first = cluster.get(&format!("{ALL}?limit=3")).await.expect(200);
    assert_eq!(names(&first), ["n-00", "n-01", "n-02"]);
    assert_eq!(first["metadata"]["remainingItemCount"], 4);
    // Changes between the pages do not appear in them.
    cluster
        .delete(&format!("{ALL}/n-04"), &Value::Null)
        .await
        .expect(200);
    cluster.create(ALL, &config_map("n-99")).await.expect(201);
    let token = text(&first["metadata"]["continue"]);
    let second = cluster
        .get(&format!("{ALL}?limit=3&continue={token}"))
        .await
        .expect(200);
    assert_eq!(names(&second), ["n-03", "n-04", "n-05"]);
    assert_eq!(
        second["metadata"]["resourceVersion"],
        first["metadata"]["resourceVersion"]
    );
    let token = text(&second["metadata"]["continue"]);
    let third = cluster
        .get(&format!("{ALL}?limit=3&continue={token}"))
        .await
        .expect(200);
    assert_eq!(names(&third), ["n-06"]);
    assert!(third["metadata"].get("continue").is_none());
}

#[tokio::test]
async fn list_of_many_frames_is_whole() {
    let cluster = with_config_maps(0).await;
    for n in 0..30 {
        let mut object = config_map(&format!("big-{n:02}"));
        object["data"]["a"] = "x".repeat(10_000).into();
        cluster.create(ALL, &object).await.expect(201);
    }
    let answer = cluster.get(ALL).await;
    assert_eq!(answer.header("content-type"), "application/json");
    assert_eq!(names(&answer.json).len(), 30);
}

#[tokio::test]
async fn expired_token_gets_a_fresh_one() {
    let cluster = with_config_maps(3).await;
    let token = |rv: i64| {
        let json = json!({"v": "meta.k8s.io/v1", "rv": rv, "start": "n-00"}).to_string();
        base64::prelude::BASE64_URL_SAFE_NO_PAD.encode(json)
    };
    // Fills the history until its beginning is compacted.
    let path = format!("{ALL}/n-02");
    let mut n = 0;
    let status = loop {
        let answer = cluster.get(&format!("{ALL}?limit=1&continue={}", token(1))).await;
        if answer.code == 410 {
            break answer.json;
        }
        assert!(n < 200, "the history has no end");
        for _ in 0..10 {
            n += 1;
            let patch = json!({"data": {"a": format!("{n}{}", "x".repeat(100_000))}});
            cluster.patch(&path, MERGE, &patch).await.expect(200);
        }
    };
    assert_eq!(status["reason"], "Expired");
    let fresh = text(&status["metadata"]["continue"]);
    let list = cluster
        .get(&format!("{ALL}?limit=1&continue={fresh}"))
        .await
        .expect(200);
    assert_eq!(names(&list), ["n-01"]);
    for broken in ["x", "", "e30"] {
        let code = cluster
            .get(&format!("{ALL}?limit=1&continue={broken}"))
            .await
            .code;
        assert_eq!(code, if broken.is_empty() { 200 } else { 400 });
    }
}

#[tokio::test]
async fn selectors_choose() {
    let cluster = with_config_maps(4).await;
    let odd = cluster
        .get(&format!("{ALL}?labelSelector=parity%20in%20(odd)&limit=1"))
        .await
        .expect(200);
    assert_eq!(names(&odd), ["n-01"]);
    assert!(odd["metadata"].get("remainingItemCount").is_none());
    let one = cluster
        .get(&format!("{ALL}?fieldSelector=metadata.name%3Dn-03"))
        .await
        .expect(200);
    assert_eq!(names(&one), ["n-03"]);
    let others = cluster
        .get(&format!("{ALL}?fieldSelector=metadata.name!%3Dn-03"))
        .await
        .expect(200);
    assert_eq!(names(&others).len(), 3);
    assert_eq!(cluster.get(&format!("{ALL}?labelSelector=a%20b")).await.code, 400);
    let status = cluster
        .get(&format!("{ALL}?fieldSelector=data.a%3Db"))
        .await
        .expect(400);
    assert!(
        text(&status["message"]).contains("is not a known field selector"),
        "{status}"
    );
}

#[tokio::test]
async fn resource_versions_mean_what_the_rule_says() {
    let cluster = with_config_maps(1).await;
    let before = text(&cluster.get(ALL).await.expect(200)["metadata"]["resourceVersion"]);
    cluster.create(ALL, &config_map("later")).await.expect(201);
    let list = |query: String| {
        let cluster = &cluster;
        async move { cluster.get(&format!("{ALL}?{query}")).await }
    };
    let exact = list(format!("resourceVersion={before}&resourceVersionMatch=Exact"))
        .await
        .expect(200);
    assert_eq!(names(&exact), ["n-00"]);
    let newer = list(format!(
        "resourceVersion={before}&resourceVersionMatch=NotOlderThan"
    ))
    .await
    .expect(200);
    assert_eq!(names(&newer).len(), 2);
    assert_eq!(
        names(
            &list(format!("resourceVersion={before}&limit=5"))
                .await
                .expect(200)
        )
        .len(),
        1
    );
    assert_eq!(
        names(&list("resourceVersion=0".to_owned()).await.expect(200)).len(),
        2
    );
    assert_eq!(list("resourceVersionMatch=Exact".to_owned()).await.code, 422);
    assert_eq!(
        list("resourceVersion=0&resourceVersionMatch=Exact".to_owned())
            .await
            .code,
        422
    );
    assert_eq!(list("resourceVersion=abc".to_owned()).await.code, 400);
}

#[tokio::test]
async fn future_version_times_out() {
    let cluster = with_config_maps(0).await;
    tokio::time::pause();
    let status = cluster
        .get(&format!("{ALL}?resourceVersion=99999999999"))
        .await
        .expect(504);
    assert_eq!(
        status["details"]["causes"][0]["reason"],
        "ResourceVersionTooLarge"
    );
}

#[tokio::test]
async fn pods_are_found_by_their_node() {
    let cluster = Cluster::start().await;
    for (name, node) in [("a", "one"), ("b", "two"), ("c", "one"), ("d", "")] {
        let mut object = pod(name);
        if !node.is_empty() {
            object["spec"]["nodeName"] = node.into();
        }
        cluster.create(PODS, &object).await.expect(201);
    }
    let on = |selector: &str| format!("/api/v1/pods?fieldSelector=spec.nodeName{selector}");
    assert_eq!(names(&cluster.get(&on("%3Done")).await.expect(200)), ["a", "c"]);
    assert_eq!(names(&cluster.get(&on("%3D")).await.expect(200)), ["d"]);
    assert_eq!(names(&cluster.get(&on("!%3Done")).await.expect(200)), ["b", "d"]);
}

//! watch: order, selectors, bookmarks, initial events, ends.

use serde_json::{Value, json};

use crate::common::*;

fn labelled(name: &str, value: &str) -> Value {
    let mut object = config_map(name);
    object["metadata"]["labels"] = json!({"pick": value});
    object
}

#[tokio::test]
async fn changes_come_in_order_after_the_version_asked_for() {
    let cluster = Cluster::start().await;
    let created = cluster.create(CONFIG_MAPS, &config_map("a")).await.expect(201);
    let version = text(&created["metadata"]["resourceVersion"]);
    cluster
        .patch(&format!("{CONFIG_MAPS}/a"), MERGE, &json!({"data": {"x": "1"}}))
        .await
        .expect(200);
    let mut watch = cluster
        .watch(&format!("{CONFIG_MAPS}?watch=true&resourceVersion={version}"))
        .await;
    cluster.create(CONFIG_MAPS, &config_map("b")).await.expect(201);
    cluster
        .delete(&format!("{CONFIG_MAPS}/a"), &Value::Null)
        .await
        .expect(200);
    let mut versions = vec![version.parse::<u64>().unwrap()];
    for expected in [seen("MODIFIED", "a"), seen("ADDED", "b"), seen("DELETED", "a")] {
        let event = watch.next().await.unwrap();
        assert_eq!(
            (text(&event["type"]), text(&event["object"]["metadata"]["name"])),
            expected
        );
        versions.push(
            text(&event["object"]["metadata"]["resourceVersion"])
                .parse()
                .unwrap(),
        );
    }
    assert!(versions.is_sorted_by(|a, b| a < b), "{versions:?}");
}

#[tokio::test]
async fn watch_without_a_version_begins_with_what_is_there() {
    let cluster = Cluster::start().await;
    cluster
        .create(CONFIG_MAPS, &labelled("a", "yes"))
        .await
        .expect(201);
    let mut watch = cluster
        .watch(&format!("{CONFIG_MAPS}?watch=1&labelSelector=pick"))
        .await;
    assert_eq!(watch.next_seen().await, seen("ADDED", "a"));
}

#[tokio::test]
async fn object_enters_and_leaves_the_selection() {
    let cluster = Cluster::start().await;
    let created = cluster
        .create(CONFIG_MAPS, &labelled("a", "no"))
        .await
        .expect(201);
    let version = text(&created["metadata"]["resourceVersion"]);
    let query = format!("watch=1&labelSelector=pick%3Dyes&resourceVersion={version}");
    let mut watch = cluster.watch(&format!("{CONFIG_MAPS}?{query}")).await;
    let path = format!("{CONFIG_MAPS}/a");
    let label = |value: &str| json!({"metadata": {"labels": {"pick": value}}});
    cluster.patch(&path, MERGE, &label("yes")).await.expect(200);
    cluster
        .patch(&path, MERGE, &json!({"data": {"x": "1"}}))
        .await
        .expect(200);
    let left = cluster.patch(&path, MERGE, &label("no")).await.expect(200);
    cluster
        .patch(&path, MERGE, &json!({"data": {"x": "2"}}))
        .await
        .expect(200);
    cluster
        .create(CONFIG_MAPS, &labelled("b", "yes"))
        .await
        .expect(201);
    assert_eq!(watch.next_seen().await, seen("ADDED", "a"));
    assert_eq!(watch.next_seen().await, seen("MODIFIED", "a"));
    let event = watch.next().await.unwrap();
    assert_eq!(event["type"], "DELETED");
    // The last state that matched, at the revision at which the object stopped matching.
    assert_eq!(event["object"]["metadata"]["labels"]["pick"], "yes");
    assert_eq!(
        event["object"]["metadata"]["resourceVersion"],
        left["metadata"]["resourceVersion"]
    );
    assert_eq!(watch.next_seen().await, seen("ADDED", "b"));
}

#[tokio::test]
async fn node_watches_its_own_pods() {
    let cluster = Cluster::start().await;
    let mut watch = cluster
        .watch("/api/v1/pods?watch=1&fieldSelector=spec.nodeName%3Dmine")
        .await;
    for (name, node) in [("a", "mine"), ("b", "other"), ("c", "mine")] {
        cluster.create(PODS, &pod(name)).await.expect(201);
        let binding =
            json!({"kind": "Binding", "apiVersion": "v1", "target": {"kind": "Node", "name": node}});
        cluster
            .create(&format!("{PODS}/{name}/binding"), &binding)
            .await
            .expect(201);
    }
    assert_eq!(watch.next_seen().await, seen("ADDED", "a"));
    assert_eq!(watch.next_seen().await, seen("ADDED", "c"));
    cluster
        .delete(&format!("{PODS}/c"), &json!({"gracePeriodSeconds": 0}))
        .await
        .expect(200);
    assert_eq!(watch.next_seen().await, seen("DELETED", "c"));
}

#[tokio::test]
async fn initial_events_end_with_a_bookmark() {
    let cluster = Cluster::start().await;
    cluster.create(CONFIG_MAPS, &config_map("a")).await.expect(201);
    let query = "watch=1&sendInitialEvents=true&resourceVersionMatch=NotOlderThan&allowWatchBookmarks=true";
    let mut watch = cluster.watch(&format!("{CONFIG_MAPS}?{query}")).await;
    assert_eq!(watch.next_seen().await, seen("ADDED", "a"));
    assert_eq!(watch.next_seen().await, seen("ADDED", "kube-root-ca.crt"));
    let bookmark = watch.next().await.unwrap();
    assert_eq!(bookmark["type"], "BOOKMARK");
    assert_eq!(bookmark["object"]["kind"], "ConfigMap");
    assert_eq!(
        bookmark["object"]["metadata"]["annotations"]["k8s.io/initial-events-end"],
        "true"
    );
    cluster.create(CONFIG_MAPS, &config_map("b")).await.expect(201);
    assert_eq!(watch.next_seen().await, seen("ADDED", "b"));
    let without_rule = format!("{CONFIG_MAPS}?watch=1&sendInitialEvents=true");
    assert_eq!(cluster.get(&without_rule).await.code, 422);
    let rule_alone = format!("{CONFIG_MAPS}?watch=1&resourceVersion=1&resourceVersionMatch=NotOlderThan");
    assert_eq!(cluster.get(&rule_alone).await.code, 422);
}

#[tokio::test]
async fn watch_ends_in_time_with_a_last_bookmark() {
    let cluster = Cluster::start().await;
    let list = cluster.get(CONFIG_MAPS).await.expect(200);
    let version = text(&list["metadata"]["resourceVersion"]);
    let query = format!("watch=1&resourceVersion={version}&timeoutSeconds=100&allowWatchBookmarks=true");
    let mut watch = cluster.watch(&format!("{CONFIG_MAPS}?{query}")).await;
    tokio::time::pause();
    let began = tokio::time::Instant::now();
    let mut bookmarks = 0;
    while let Some(event) = watch.next().await {
        assert_eq!(event["type"], "BOOKMARK");
        bookmarks += 1;
    }
    // One bookmark after a minute, and one shortly before the end.
    assert_eq!(bookmarks, 2);
    assert_eq!(began.elapsed().as_secs(), 100);
}

#[tokio::test]
async fn history_that_is_gone_is_410() {
    let cluster = Cluster::start().await;
    cluster.create(CONFIG_MAPS, &config_map("a")).await.expect(201);
    let path = format!("{CONFIG_MAPS}/a");
    for n in 0..400 {
        let mut watch = format!("{CONFIG_MAPS}?watch=1&timeoutSeconds=1&resourceVersion=1");
        if n % 20 == 0 && n > 0 {
            watch.push_str("&fieldSelector=metadata.name%3Dnone");
            let answer = http_code(&cluster, &watch).await;
            if answer == 410 {
                return;
            }
        }
        let patch = json!({"data": {"a": format!("{n}{}", "x".repeat(100_000))}});
        cluster.patch(&path, MERGE, &patch).await.expect(200);
    }
    panic!("the history has no end");
}

/// Returns the code of a watch's response, without waiting for its events.
async fn http_code(cluster: &Cluster, path: &str) -> u16 {
    let request = http::Request::get(path)
        .body(kube::client::Body::empty())
        .unwrap();
    cluster
        .server
        .client(apiserver::User::admin())
        .send(request)
        .await
        .unwrap()
        .status()
        .as_u16()
}

#[tokio::test]
async fn watches_end_when_the_server_stops() {
    let cluster = Cluster::start().await;
    let mut watch = cluster.watch(&format!("{CONFIG_MAPS}?watch=1")).await;
    assert_eq!(watch.next_seen().await, seen("ADDED", "kube-root-ca.crt"));
    let Cluster { server, dir } = cluster;
    server.shutdown().await.expect("stop the server");
    assert!(watch.next().await.is_none());
    drop(dir);
}

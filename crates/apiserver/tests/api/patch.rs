//! patch: the three patch types, conditions and conflicts.

use futures::future::join_all;
use serde_json::json;

use crate::common::*;

#[tokio::test]
async fn merge_patch_sets_and_removes() {
    let cluster = Cluster::start().await;
    cluster.create(CONFIG_MAPS, &config_map("a")).await.expect(201);
    let patch = json!({"data": {"a": null, "x": "y"}});
    let patched = cluster
        .patch(&format!("{CONFIG_MAPS}/a"), MERGE, &patch)
        .await
        .expect(200);
    assert_eq!(patched["data"], json!({"x": "y"}));
}

#[tokio::test]
async fn strategic_patch_merges_containers_by_name() {
    let cluster = Cluster::start().await;
    cluster.create(DAEMON_SETS, &daemon_set("a")).await.expect(201);
    let patch = json!({"spec": {"template": {"spec": {"containers": [
        {"name": "c", "image": "busybox:2"}, {"name": "d", "image": "other:1"},
    ]}}}});
    let patched = cluster
        .patch(&format!("{DAEMON_SETS}/a"), STRATEGIC, &patch)
        .await
        .expect(200);
    let containers = patched["spec"]["template"]["spec"]["containers"]
        .as_array()
        .unwrap();
    let images: Vec<(String, String)> = containers
        .iter()
        .map(|c| (text(&c["name"]), text(&c["image"])))
        .collect();
    assert_eq!(images.len(), 2);
    assert!(images.contains(&seen("c", "busybox:2")));
    assert!(images.contains(&seen("d", "other:1")));
    // Fields that had a default get it again.
    assert!(
        containers
            .iter()
            .all(|container| container["terminationMessagePolicy"] == "File")
    );
}

#[tokio::test]
async fn json_patch_applies_and_tests() {
    let cluster = Cluster::start().await;
    cluster.create(CONFIG_MAPS, &config_map("a")).await.expect(201);
    let path = format!("{CONFIG_MAPS}/a");
    let patch = json!([{"op": "test", "path": "/data/a", "value": "b"}, {"op": "add", "path": "/data/c", "value": "d"}]);
    let patched = cluster.patch(&path, JSON_PATCH, &patch).await.expect(200);
    assert_eq!(patched["data"], json!({"a": "b", "c": "d"}));
    let patch = json!([{"op": "test", "path": "/data/a", "value": "other"}]);
    assert_eq!(cluster.patch(&path, JSON_PATCH, &patch).await.code, 422);
    assert_eq!(
        cluster
            .patch(&path, JSON_PATCH, &json!({"not": "a list"}))
            .await
            .code,
        400
    );
}

#[tokio::test]
async fn patch_with_a_version_is_conditional() {
    let cluster = Cluster::start().await;
    let created = cluster.create(CONFIG_MAPS, &config_map("a")).await.expect(201);
    let path = format!("{CONFIG_MAPS}/a");
    let version = &created["metadata"]["resourceVersion"];
    let patch = |data: &str| json!({"metadata": {"resourceVersion": version}, "data": {"a": data}});
    cluster.patch(&path, MERGE, &patch("1")).await.expect(200);
    cluster.patch(&path, MERGE, &patch("2")).await.expect(409);
}

#[tokio::test]
async fn concurrent_patches_without_a_version_all_happen() {
    let cluster = Cluster::start().await;
    cluster.create(CONFIG_MAPS, &config_map("a")).await.expect(201);
    let path = format!("{CONFIG_MAPS}/a");
    let patches = (0..4).map(|n| {
        let patch = json!({"data": {format!("key-{n}"): "x"}});
        let (cluster, path) = (&cluster, path.as_str());
        async move { cluster.patch(path, MERGE, &patch).await.expect(200) }
    });
    join_all(patches).await;
    let stored = cluster.get(&path).await.expect(200);
    assert_eq!(stored["data"].as_object().unwrap().len(), 5);
}

#[tokio::test]
async fn patch_cannot_make_what_is_not_allowed() {
    let cluster = Cluster::start().await;
    cluster.create(DAEMON_SETS, &daemon_set("a")).await.expect(201);
    let path = format!("{DAEMON_SETS}/a");
    let status = cluster
        .patch(
            &path,
            MERGE,
            &json!({"spec": {"selector": {"matchLabels": {"x": "y"}}}}),
        )
        .await;
    assert_eq!(status.code, 422, "{}", status.text);
    assert_eq!(
        cluster
            .patch(&path, MERGE, &json!({"spec": {"minReadySeconds": "many"}}))
            .await
            .code,
        422
    );
    assert_eq!(
        cluster
            .patch(&path, MERGE, &json!({"metadata": {"name": "b"}}))
            .await
            .code,
        422
    );
    assert_eq!(
        cluster.patch(&path, MERGE, &json!({"kind": "Pod"})).await.code,
        422
    );
    assert_eq!(cluster.patch(&path, MERGE, &json!(3)).await.code, 400);
    assert_eq!(
        cluster
            .patch(&format!("{DAEMON_SETS}/none"), MERGE, &json!({}))
            .await
            .code,
        404
    );
    let apply = cluster
        .patch(&path, "application/apply-patch+yaml", &daemon_set("a"))
        .await
        .expect(415);
    assert!(text(&apply["message"]).starts_with("server-side apply is not served"));
}

#[tokio::test]
async fn patches_without_a_version_all_land() {
    const PATCHES: usize = 100;
    let cluster = Cluster::start().await;
    cluster.create(CONFIG_MAPS, &config_map("a")).await.expect(201);
    let path = format!("{CONFIG_MAPS}/a");
    let answers = join_all((0..PATCHES).map(async |n| {
        let key = format!("k{n}");
        cluster.patch(&path, MERGE, &json!({"data": {key: "x"}})).await
    }));
    for answer in answers.await {
        answer.expect(200);
    }
    let data = cluster.get(&path).await.expect(200)["data"].clone();
    assert_eq!(data.as_object().unwrap().len(), PATCHES + 1);
}

//! update: optimistic concurrency, immutable metadata, writes that change nothing.

use crate::common::*;
use serde_json::{Value, json};

#[tokio::test]
async fn update_from_an_old_version_is_a_conflict() {
    let cluster = Cluster::start().await;
    let path = format!("{CONFIG_MAPS}/a");
    let mut first = cluster.create(CONFIG_MAPS, &config_map("a")).await.expect(201);
    let mut second = first.clone();
    first["data"]["a"] = "1".into();
    second["data"]["a"] = "2".into();
    let stored = cluster.put(&path, &first).await.expect(200);
    assert!(version(&stored) > version(&first));
    let status = cluster.put(&path, &second).await.expect(409);
    assert_eq!(status["reason"], "Conflict");
    assert_eq!(
        status["message"],
        "Operation cannot be fulfilled on configmaps \"a\": the object has been modified; please apply your changes to the latest version and try again"
    );
}

#[tokio::test]
async fn update_without_a_version_wins() {
    let cluster = Cluster::start().await;
    cluster.create(CONFIG_MAPS, &config_map("a")).await.expect(201);
    let mut object = config_map("a");
    object["data"]["a"] = "c".into();
    let stored = cluster
        .put(&format!("{CONFIG_MAPS}/a"), &object)
        .await
        .expect(200);
    assert_eq!(stored["data"]["a"], "c");
}

#[tokio::test]
async fn write_that_changes_nothing_is_no_write() {
    let cluster = Cluster::start().await;
    let created = cluster.create(CONFIG_MAPS, &config_map("a")).await.expect(201);
    let mut watch = cluster
        .watch(&format!(
            "{CONFIG_MAPS}?watch=1&resourceVersion={}",
            version(&created)
        ))
        .await;
    let path = format!("{CONFIG_MAPS}/a");
    assert_eq!(
        version(&cluster.put(&path, &config_map("a")).await.expect(200)),
        version(&created)
    );
    assert_eq!(
        version(&cluster.patch(&path, MERGE, &json!({})).await.expect(200)),
        version(&created)
    );
    cluster.create(CONFIG_MAPS, &config_map("b")).await.expect(201);
    // The first event of the watch is the next change.
    assert_eq!(watch.next_seen().await, seen("ADDED", "b"));
}

#[tokio::test]
async fn what_the_server_stamped_stays() {
    let cluster = Cluster::start().await;
    let created = cluster.create(CONFIG_MAPS, &config_map("a")).await.expect(201);
    let path = format!("{CONFIG_MAPS}/a");
    let mut object = config_map("a");
    object["metadata"]["creationTimestamp"] = "2000-01-01T00:00:00Z".into();
    object["data"]["a"] = "c".into();
    let stored = cluster.put(&path, &object).await.expect(200);
    assert_eq!(
        stored["metadata"]["creationTimestamp"],
        created["metadata"]["creationTimestamp"]
    );
    assert_eq!(stored["metadata"]["uid"], created["metadata"]["uid"]);
    object["metadata"]["uid"] = "another".into();
    assert_eq!(cluster.put(&path, &object).await.code, 409);
    let status = cluster
        .patch(&path, MERGE, &json!({"metadata": {"uid": "another"}}))
        .await
        .expect(422);
    assert_eq!(causes(&status)[0].0, "metadata.uid");
}

#[tokio::test]
async fn name_in_the_body_must_be_the_name_in_the_path() {
    let cluster = Cluster::start().await;
    cluster.create(CONFIG_MAPS, &config_map("a")).await.expect(201);
    let status = cluster
        .put(&format!("{CONFIG_MAPS}/a"), &config_map("b"))
        .await
        .expect(400);
    assert_eq!(
        status["message"],
        "the name of the object (b) does not match the name on the URL (a)"
    );
}

#[tokio::test]
async fn generation_counts_changes_of_the_spec() {
    let cluster = Cluster::start().await;
    let path = format!("{DAEMON_SETS}/a");
    let created = cluster.create(DAEMON_SETS, &daemon_set("a")).await.expect(201);
    assert_eq!(created["metadata"]["generation"], 1);
    let generation = |object: Value| object["metadata"]["generation"].clone();
    let labelled = cluster
        .patch(&path, MERGE, &json!({"metadata": {"labels": {"x": "y"}}}))
        .await
        .expect(200);
    assert_eq!(generation(labelled), 1);
    let changed = cluster
        .patch(&path, MERGE, &json!({"spec": {"minReadySeconds": 5}}))
        .await
        .expect(200);
    assert_eq!(generation(changed), 2);
}

#[tokio::test]
async fn status_and_spec_have_their_own_doors() {
    let cluster = Cluster::start().await;
    let path = format!("{DAEMON_SETS}/a");
    let created = cluster.create(DAEMON_SETS, &daemon_set("a")).await.expect(201);
    let mut both = created.clone();
    both["spec"]["minReadySeconds"] = 7.into();
    both["status"]["numberReady"] = 3.into();
    let stored = cluster.put(&format!("{path}/status"), &both).await.expect(200);
    assert_eq!(stored["status"]["numberReady"], 3);
    assert!(
        stored["spec"]
            .get("minReadySeconds")
            .is_none_or(|seconds| seconds == 0)
    );
    assert_eq!(stored["metadata"]["generation"], 1);
    let mut both = stored.clone();
    both["spec"]["minReadySeconds"] = 7.into();
    both["status"]["numberReady"] = 9.into();
    let stored = cluster.put(&path, &both).await.expect(200);
    assert_eq!(stored["spec"]["minReadySeconds"], 7);
    assert_eq!(stored["status"]["numberReady"], 3);
}

#[tokio::test]
async fn nothing_acknowledged_is_lost_by_a_restart() {
    let cluster = Cluster::start().await;
    let created = cluster.create(CONFIG_MAPS, &config_map("a")).await.expect(201);
    let cluster = cluster.restart().await;
    assert_eq!(
        cluster.get(&format!("{CONFIG_MAPS}/a")).await.expect(200),
        created
    );
    let later = cluster.create(CONFIG_MAPS, &config_map("b")).await.expect(201);
    assert!(version(&later) > version(&created));
}

fn version(object: &Value) -> u64 {
    text(&object["metadata"]["resourceVersion"]).parse().unwrap()
}

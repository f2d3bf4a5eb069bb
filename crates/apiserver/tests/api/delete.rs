//! delete: grace, finalizers, propagation, preconditions, namespaces.

use serde_json::{Value, json};

use crate::common::*;

#[tokio::test]
async fn deleted_object_is_gone_and_the_answer_names_it() {
    let cluster = Cluster::start().await;
    let created = cluster.create(CONFIG_MAPS, &config_map("a")).await.expect(201);
    let path = format!("{CONFIG_MAPS}/a");
    let status = cluster.delete(&path, &Value::Null).await.expect(200);
    assert_eq!(status["status"], "Success");
    assert_eq!(status["details"]["uid"], created["metadata"]["uid"]);
    assert_eq!(cluster.get(&path).await.code, 404);
    assert_eq!(cluster.delete(&path, &Value::Null).await.code, 404);
}

#[tokio::test]
async fn scheduled_pod_waits_for_its_kubelet() {
    let cluster = Cluster::start().await;
    cluster.create(PODS, &pod("a")).await.expect(201);
    bind(&cluster, "a", "n").await;
    let path = format!("{PODS}/a");
    let going = cluster.delete(&path, &Value::Null).await.expect(200);
    assert_eq!(going["metadata"]["deletionGracePeriodSeconds"], 30);
    let still = cluster.get(&path).await.expect(200);
    assert_eq!(
        still["metadata"]["deletionTimestamp"],
        going["metadata"]["deletionTimestamp"]
    );
    // A longer period changes nothing, a shorter one does. A kubelet sends 0 when it has stopped
    // the pod.
    let longer = cluster
        .delete(&path, &json!({"gracePeriodSeconds": 300}))
        .await
        .expect(200);
    assert_eq!(longer["metadata"]["deletionGracePeriodSeconds"], 30);
    let shorter = cluster
        .delete(&path, &json!({"gracePeriodSeconds": 5}))
        .await
        .expect(200);
    assert_eq!(shorter["metadata"]["deletionGracePeriodSeconds"], 5);
    cluster
        .delete(&path, &json!({"gracePeriodSeconds": 0}))
        .await
        .expect(200);
    assert_eq!(cluster.get(&path).await.code, 404);
}

#[tokio::test]
async fn unscheduled_pod_goes_at_once() {
    let cluster = Cluster::start().await;
    cluster.create(PODS, &pod("a")).await.expect(201);
    let gone = cluster
        .delete(&format!("{PODS}/a"), &Value::Null)
        .await
        .expect(200);
    assert_eq!(gone["kind"], "Pod");
    assert_eq!(cluster.get(&format!("{PODS}/a")).await.code, 404);
}

#[tokio::test]
async fn finalizers_hold_an_object_until_the_update_that_empties_them() {
    let cluster = Cluster::start().await;
    let mut object = config_map("a");
    object["metadata"]["finalizers"] = json!(["example.com/hold"]);
    cluster.create(CONFIG_MAPS, &object).await.expect(201);
    let path = format!("{CONFIG_MAPS}/a");
    let mut watch = cluster
        .watch(&format!("{CONFIG_MAPS}?watch=1&fieldSelector=metadata.name%3Da"))
        .await;
    assert_eq!(watch.next_seen().await, seen("ADDED", "a"));
    let going = cluster.delete(&path, &Value::Null).await.expect(200);
    assert_eq!(going["metadata"]["deletionGracePeriodSeconds"], 0);
    assert_eq!(watch.next_seen().await, seen("MODIFIED", "a"));
    let more = json!({"metadata": {"finalizers": ["example.com/hold", "example.com/more"]}});
    assert_eq!(cluster.patch(&path, MERGE, &more).await.code, 422);
    cluster
        .patch(&path, MERGE, &json!({"metadata": {"finalizers": null}}))
        .await
        .expect(200);
    assert_eq!(cluster.get(&path).await.code, 404);
    let last = watch.next().await.unwrap();
    assert_eq!(last["type"], "DELETED");
    assert!(last["object"]["metadata"]["deletionTimestamp"].is_string());
}

#[tokio::test]
async fn propagation_policy_becomes_a_finalizer() {
    let cluster = Cluster::start().await;
    for (name, policy, finalizer) in [
        ("a", "Foreground", "foregroundDeletion"),
        ("b", "Orphan", "orphan"),
    ] {
        cluster.create(DAEMON_SETS, &daemon_set(name)).await.expect(201);
        let path = format!("{DAEMON_SETS}/{name}");
        let going = cluster
            .delete(&path, &json!({"propagationPolicy": policy}))
            .await
            .expect(200);
        assert_eq!(going["metadata"]["finalizers"], json!([finalizer]));
        assert_eq!(going["metadata"]["generation"], 2);
        cluster
            .patch(&path, MERGE, &json!({"metadata": {"finalizers": []}}))
            .await
            .expect(200);
        assert_eq!(cluster.get(&path).await.code, 404);
    }
    cluster.create(DAEMON_SETS, &daemon_set("c")).await.expect(201);
    let both = json!({"propagationPolicy": "Orphan", "orphanDependents": false});
    assert_eq!(cluster.delete(&format!("{DAEMON_SETS}/c"), &both).await.code, 422);
    assert_eq!(
        cluster
            .delete(
                &format!("{DAEMON_SETS}/c?propagationPolicy=Sideways"),
                &Value::Null
            )
            .await
            .code,
        422
    );
    cluster
        .delete(
            &format!("{DAEMON_SETS}/c?propagationPolicy=Background"),
            &Value::Null,
        )
        .await
        .expect(200);
    assert_eq!(cluster.get(&format!("{DAEMON_SETS}/c")).await.code, 404);
}

#[tokio::test]
async fn preconditions_must_hold() {
    let cluster = Cluster::start().await;
    let created = cluster.create(CONFIG_MAPS, &config_map("a")).await.expect(201);
    let path = format!("{CONFIG_MAPS}/a");
    for wrong in [json!({"uid": "other"}), json!({"resourceVersion": "1"})] {
        let status = cluster
            .delete(&path, &json!({"preconditions": wrong}))
            .await
            .expect(409);
        assert_eq!(status["reason"], "Conflict");
    }
    let right = json!({
        "uid": created["metadata"]["uid"],
        "resourceVersion": created["metadata"]["resourceVersion"],
    });
    cluster
        .delete(&path, &json!({"preconditions": right}))
        .await
        .expect(200);
}

#[tokio::test]
async fn collection_is_deleted_by_selector() {
    let cluster = Cluster::start().await;
    for name in ["a", "b", "c"] {
        let mut object = config_map(name);
        object["metadata"]["labels"] = json!({"pick": if name == "c" { "no" } else { "yes" }});
        cluster.create(CONFIG_MAPS, &object).await.expect(201);
    }
    let list = cluster
        .delete(&format!("{CONFIG_MAPS}?labelSelector=pick%3Dyes"), &Value::Null)
        .await
        .expect(200);
    assert_eq!(list["kind"], "ConfigMapList");
    assert_eq!(list["items"].as_array().unwrap().len(), 2);
    let left = cluster
        .get(&format!("{CONFIG_MAPS}?labelSelector=pick"))
        .await
        .expect(200);
    assert_eq!(left["items"][0]["metadata"]["name"], "c");
    assert_eq!(cluster.delete("/api/v1/namespaces", &Value::Null).await.code, 405);
    assert_eq!(cluster.delete("/api/v1/configmaps", &Value::Null).await.code, 405);
}

#[tokio::test]
async fn namespace_goes_in_two_phases() {
    let cluster = Cluster::start().await;
    let object = json!({"kind": "Namespace", "apiVersion": "v1", "metadata": {"name": "x"}});
    cluster.create("/api/v1/namespaces", &object).await.expect(201);
    let path = "/api/v1/namespaces/x";
    let going = cluster.delete(path, &Value::Null).await.expect(200);
    assert_eq!(going["status"]["phase"], "Terminating");
    let status = cluster
        .create(&format!("{path}/configmaps"), &config_map("a"))
        .await
        .expect(403);
    assert_eq!(status["details"]["causes"][0]["reason"], "NamespaceTerminating");
    let mut empty = cluster.get(path).await.expect(200);
    empty["spec"]["finalizers"] = json!([]);
    cluster.put(&format!("{path}/finalize"), &empty).await.expect(200);
    assert_eq!(cluster.get(path).await.code, 404);
    let status = cluster
        .delete("/api/v1/namespaces/kube-system", &Value::Null)
        .await
        .expect(403);
    assert_eq!(
        status["message"],
        "namespaces \"kube-system\" is forbidden: this namespace may not be deleted"
    );
}

async fn bind(cluster: &Cluster, pod: &str, node: &str) {
    let binding = json!({
        "kind": "Binding", "apiVersion": "v1", "metadata": {"name": pod},
        "target": {"kind": "Node", "name": node},
    });
    cluster
        .create(&format!("{PODS}/{pod}/binding"), &binding)
        .await
        .expect(201);
}

//! A new template reaches every node, within the budget.

use serde_json::{Value, json};

use crate::support::{Cluster, SETS, daemon_set, set_path};

fn image(pod: &Value) -> &str {
    pod["spec"]["containers"][0]["image"].as_str().unwrap_or_default()
}

fn new_image() -> Value {
    json!({"spec": {"template": {"spec": {"containers": [{"name": "c", "image": "registry.example/daemon:2"}]}}}})
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rolling_update_replaces_every_pod_within_its_budget() {
    let cluster = Cluster::start(5).await;
    cluster.create(SETS, daemon_set("a", |_| {})).await;
    cluster.ready("a", 5).await;
    cluster.strategic(&set_path("a"), new_image()).await;
    cluster
        .until("all pods are new", || async {
            let pods = cluster.pods().await;
            let ready = |p: &&Value| {
                let conditions = p["status"]["conditions"].as_array();
                conditions.is_some_and(|c| c.iter().any(|c| c["type"] == "Ready" && c["status"] == "True"))
                    && p["metadata"]["deletionTimestamp"].is_null()
            };
            assert!(pods.iter().filter(ready).count() >= 4, "maxUnavailable is 1");
            (pods.len() == 5 && pods.iter().all(|p| image(p).ends_with(":2"))).then_some(())
        })
        .await;
    cluster.ready("a", 5).await;
    let revisions = cluster
        .items("/apis/apps/v1/namespaces/default/controllerrevisions")
        .await;
    let mut numbers: Vec<_> = revisions.iter().map(|r| r["revision"].as_i64()).collect();
    numbers.sort();
    assert_eq!(numbers, [Some(1), Some(2)]);
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_delete_waits_for_the_user() {
    let cluster = Cluster::start(2).await;
    cluster
        .create(
            SETS,
            daemon_set("a", |s| s["spec"]["updateStrategy"] = json!({"type": "OnDelete"})),
        )
        .await;
    cluster.ready("a", 2).await;
    cluster.strategic(&set_path("a"), new_image()).await;
    cluster
        .until("the change is observed", || async {
            let set = cluster.get(&set_path("a")).await?;
            (set["status"]["observedGeneration"] == 2).then_some(())
        })
        .await;
    let pods = cluster.pods().await;
    assert!(pods.iter().all(|p| image(p).ends_with(":1")));
    let (first, node) = (&pods[0]["metadata"]["name"], pods[0]["spec"]["nodeName"].clone());
    cluster
        .delete(
            &format!(
                "/api/v1/namespaces/default/pods/{}",
                first.as_str().expect("a name")
            ),
            None,
        )
        .await;
    cluster
        .until("the deleted one is new", || async {
            let pods = cluster.pods().await;
            let new = pods
                .iter()
                .any(|p| p["spec"]["nodeName"] == node && image(p).ends_with(":2"));
            let old = pods
                .iter()
                .any(|p| p["spec"]["nodeName"] != node && image(p).ends_with(":1"));
            (new && old && pods.len() == 2).then_some(())
        })
        .await;
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn conditions_show_progress_and_keep_foreign_ones() {
    let cluster = Cluster::start(2).await;
    cluster.create(SETS, daemon_set("a", |_| {})).await;
    cluster.ready("a", 2).await;
    let conditions = || async {
        let set = cluster.get(&set_path("a")).await?;
        let conditions = set["status"]["conditions"].as_array()?.clone();
        let word = |c: &Value| format!("{}={}", c["type"].as_str().unwrap_or("?"), c["reason"]);
        Some(conditions.iter().map(word).collect::<Vec<_>>())
    };
    let done = |conditions: &[String]| {
        let said = |word: &str| conditions.iter().any(|said| said == word);
        said("Available=\"MinimumPodsAvailable\"") && said("Progressing=\"NewPodsAvailable\"")
    };
    cluster
        .until("both conditions", || async {
            conditions().await.filter(|c| done(c))
        })
        .await;
    let theirs = json!({"status": {"conditions": [
        {"type": "Theirs", "status": "True", "reason": "Test", "message": "set by a test"}]}});
    cluster.merge(&format!("{}/status", set_path("a")), theirs).await;
    cluster
        .until("ours beside theirs", || async {
            let conditions = conditions().await?;
            (done(&conditions) && conditions.len() == 3).then_some(())
        })
        .await;
    cluster.stop().await;
}

//! What goes with what, when it is deleted.

use serde_json::{Value, json};

use crate::support::{Cluster, SETS, daemon_set, set_path};

const REVISIONS: &str = "/apis/apps/v1/namespaces/default/controllerrevisions";

async fn with_a_running_set(nodes: u32) -> Cluster {
    let cluster = Cluster::start(nodes).await;
    cluster.create(SETS, daemon_set("a", |_| {})).await;
    cluster.ready("a", nodes.into()).await;
    cluster
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn background_deletion_takes_pods_and_history_along() {
    let cluster = with_a_running_set(3).await;
    cluster.delete(&set_path("a"), Some("Background")).await;
    assert!(
        cluster.get(&set_path("a")).await.is_none(),
        "the set itself goes at once"
    );
    cluster
        .until("nothing is left", || async {
            (cluster.pods().await.is_empty() && cluster.items(REVISIONS).await.is_empty()).then_some(())
        })
        .await;
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn foreground_deletion_keeps_the_set_until_its_pods_are_gone() {
    let cluster = with_a_running_set(3).await;
    cluster.delete(&set_path("a"), Some("Foreground")).await;
    cluster
        .until("the set is gone", || async {
            let set = cluster.get(&set_path("a")).await;
            if let Some(set) = &set {
                assert!(set["metadata"]["deletionTimestamp"].is_string());
            }
            set.is_none().then_some(())
        })
        .await;
    assert_eq!(cluster.pods().await, Vec::<Value>::new());
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn orphans_stay_and_a_new_set_adopts_them() {
    let cluster = with_a_running_set(2).await;
    let mut before: Vec<_> = cluster
        .pods()
        .await
        .iter()
        .map(|p| p["metadata"]["uid"].clone())
        .collect();
    before.sort_by_key(ToString::to_string);
    cluster.delete(&set_path("a"), Some("Orphan")).await;
    cluster
        .until("the set is gone", || async {
            cluster.get(&set_path("a")).await.is_none().then_some(())
        })
        .await;
    let pods = cluster.pods().await;
    assert!(
        pods.iter()
            .all(|p| p["metadata"]["ownerReferences"].is_null()
                && p["metadata"]["deletionTimestamp"].is_null())
    );
    cluster.create(SETS, daemon_set("a", |_| {})).await;
    cluster.ready("a", 2).await;
    let mut after: Vec<_> = cluster
        .pods()
        .await
        .iter()
        .map(|p| p["metadata"]["uid"].clone())
        .collect();
    after.sort_by_key(ToString::to_string);
    assert_eq!(before, after, "no pod was restarted");
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_namespace_goes_with_everything_in_it() {
    let cluster = Cluster::start(2).await;
    let namespace = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "shop"}});
    cluster.create("/api/v1/namespaces", namespace).await;
    cluster
        .create(
            "/apis/apps/v1/namespaces/shop/daemonsets",
            daemon_set("a", |_| {}),
        )
        .await;
    let secret = json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "s"}});
    cluster.create("/api/v1/namespaces/shop/secrets", secret).await;
    cluster
        .until("its pods run", || async {
            let pods = cluster.items("/api/v1/namespaces/shop/pods").await;
            (pods.len() == 2 && pods.iter().all(|p| p["status"]["phase"] == "Running")).then_some(())
        })
        .await;
    cluster.delete("/api/v1/namespaces/shop", None).await;
    cluster
        .until("the namespace is gone", || async {
            cluster
                .get("/api/v1/namespaces/shop")
                .await
                .is_none()
                .then_some(())
        })
        .await;
    assert_eq!(
        cluster.items("/api/v1/namespaces/shop/pods").await,
        Vec::<Value>::new()
    );
    assert_eq!(
        cluster.items("/api/v1/namespaces/shop/secrets").await,
        Vec::<Value>::new()
    );
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_namespace_has_a_service_account_and_the_root_certificate_and_gets_them_back() {
    let cluster = Cluster::start(0).await;
    let namespace = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "shop"}});
    cluster.create("/api/v1/namespaces", namespace).await;
    let (account, root) = (
        "/api/v1/namespaces/shop/serviceaccounts/default",
        "/api/v1/namespaces/shop/configmaps/kube-root-ca.crt",
    );
    let both = || async {
        let certificate = cluster.get(root).await?["data"]["ca.crt"]
            .as_str()?
            .contains("BEGIN CERTIFICATE");
        (certificate && cluster.get(account).await.is_some()).then_some(())
    };
    cluster.until("both are there", both).await;
    cluster.delete(account, None).await;
    cluster.merge(root, json!({"data": {"ca.crt": "forged"}})).await;
    cluster.until("both are there again", both).await;
    cluster.stop().await;
}

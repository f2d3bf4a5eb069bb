//! Deletion of owners, dependents and namespaces.

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
async fn namespace_keeps_its_service_account_and_root_certificate() {
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

fn reference(kind: &str, name: &str, uid: &str) -> Value {
    json!({"apiVersion": "v1", "kind": kind, "name": name, "uid": uid})
}

fn config_map(name: &str, owners: &[Value]) -> Value {
    json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name, "ownerReferences": owners}})
}

const MAPS: &str = "/api/v1/namespaces/default/configmaps";

async fn uid_of(cluster: &Cluster, path: &str) -> String {
    let object = cluster.get(path).await.expect("it is there");
    object["metadata"]["uid"].as_str().unwrap_or_default().to_owned()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_lost_its_only_owner_goes_and_what_has_another_is_let_go() {
    let cluster = Cluster::start(0).await;
    cluster.create(MAPS, config_map("alive", &[])).await;
    let alive = reference(
        "ConfigMap",
        "alive",
        &uid_of(&cluster, &format!("{MAPS}/alive")).await,
    );
    // A DaemonSet that is deleted while the collector does not run leaves its pods like this.
    let dead = json!({"apiVersion": "apps/v1", "kind": "DaemonSet", "name": "gone", "uid": "0"});
    cluster
        .create(MAPS, config_map("orphan", std::slice::from_ref(&dead)))
        .await;
    cluster
        .create(MAPS, config_map("kept", &[alive.clone(), dead]))
        .await;
    cluster
        .until("the first is gone, the second free of the dead owner", || async {
            let kept = cluster.get(&format!("{MAPS}/kept")).await?;
            let gone = cluster.get(&format!("{MAPS}/orphan")).await.is_none();
            let owners = kept["metadata"]["ownerReferences"].as_array()?;
            (gone && owners.len() == 1 && owners[0]["uid"] == alive["uid"]).then_some(())
        })
        .await;
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn reference_into_another_namespace_is_reported_and_ignored() {
    let cluster = Cluster::start(0).await;
    let namespace = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "shop"}});
    cluster.create("/api/v1/namespaces", namespace).await;
    let elsewhere = "/api/v1/namespaces/shop/configmaps";
    cluster.create(elsewhere, config_map("owner", &[])).await;
    let uid = uid_of(&cluster, &format!("{elsewhere}/owner")).await;
    cluster
        .create(
            MAPS,
            config_map("claimant", &[reference("ConfigMap", "owner", &uid)]),
        )
        .await;
    cluster
        .until("it is gone and warned about", || async {
            let gone = cluster.get(&format!("{MAPS}/claimant")).await.is_none();
            let path = "/api/v1/namespaces/default/events?fieldSelector=reason=OwnerRefInvalidNamespace";
            let events = cluster.items(path).await;
            let message = events.first()?["message"].as_str()?;
            let expected = format!(
                "ownerRef [v1/ConfigMap, namespace: default, name: owner, uid: {uid}] does not exist in namespace \"default\""
            );
            (gone && message == expected).then_some(())
        })
        .await;
    assert!(cluster.get(&format!("{elsewhere}/owner")).await.is_some());
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn foreground_deletion_waits_for_each_level() {
    let cluster = Cluster::start(0).await;
    let blocked_by = |name: &str, uid: &str| {
        let mut owner = reference("ConfigMap", name, uid);
        owner["blockOwnerDeletion"] = true.into();
        owner
    };
    cluster.create(MAPS, config_map("top", &[])).await;
    let top = uid_of(&cluster, &format!("{MAPS}/top")).await;
    cluster
        .create(MAPS, config_map("middle", &[blocked_by("top", &top)]))
        .await;
    let middle = uid_of(&cluster, &format!("{MAPS}/middle")).await;
    let mut leaf = config_map("leaf", &[blocked_by("middle", &middle)]);
    leaf["metadata"]["finalizers"] = json!(["example.com/wait"]);
    cluster.create(MAPS, leaf).await;
    cluster.delete(&format!("{MAPS}/top"), Some("Foreground")).await;
    let finalizers = |name: &str| {
        let path = format!("{MAPS}/{name}");
        let cluster = &cluster;
        async move {
            let object = cluster.get(&path).await?;
            object["metadata"]["deletionTimestamp"].as_str()?;
            Some(object["metadata"]["finalizers"].clone())
        }
    };
    let foreground = json!(["foregroundDeletion"]);
    cluster
        .until("all three wait", || async {
            let all = (
                finalizers("top").await?,
                finalizers("middle").await?,
                finalizers("leaf").await?,
            );
            (all == (
                foreground.clone(),
                foreground.clone(),
                json!(["example.com/wait"]),
            ))
                .then_some(())
        })
        .await;
    cluster
        .merge(&format!("{MAPS}/leaf"), json!({"metadata": {"finalizers": null}}))
        .await;
    cluster
        .until("all three are gone", || async {
            for name in ["top", "middle", "leaf"] {
                if cluster.get(&format!("{MAPS}/{name}")).await.is_some() {
                    return None;
                }
            }
            Some(())
        })
        .await;
    cluster.stop().await;
}

/// Rounds in which a remaining namespace could be rewritten.
const QUIET_ROUNDS: usize = 5;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn remaining_namespace_reports_why_and_is_not_rewritten() {
    let cluster = Cluster::start(0).await;
    let namespace = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "stuck"}});
    cluster.create("/api/v1/namespaces", namespace).await;
    let mut kept = config_map("kept", &[]);
    kept["metadata"]["finalizers"] = json!(["example.com/wait"]);
    let maps = "/api/v1/namespaces/stuck/configmaps";
    cluster.create(maps, kept).await;
    cluster.delete("/api/v1/namespaces/stuck", None).await;
    let kept = || async {
        let map = cluster.get(&format!("{maps}/kept")).await?;
        map["metadata"]["deletionTimestamp"].as_str()?;
        let namespace = cluster.get("/api/v1/namespaces/stuck").await?;
        let conditions = namespace["status"]["conditions"].as_array()?;
        let says = |kind: &str, message: &str| {
            conditions
                .iter()
                .any(|c| c["type"] == kind && c["status"] == "True" && c["message"] == message)
        };
        let remaining = "Some resources are remaining: configmaps has 1 resource instances";
        let finalizers = "Some content in the namespace has finalizers remaining: example.com/wait in 1 resource instances";
        (says("NamespaceContentRemaining", remaining) && says("NamespaceFinalizersRemaining", finalizers))
            .then(|| namespace["metadata"]["resourceVersion"].clone())
    };
    let mut quiet = false;
    // A late event may briefly change what remains. A rewrite without a reason would come in every
    // round.
    for round in 0..QUIET_ROUNDS {
        let version = cluster.until("it says what keeps it", kept).await;
        // Another namespace that was deleted later gets at least one pass, so this one gets it too.
        let later = format!("later-{round}");
        let path = format!("/api/v1/namespaces/{later}");
        let object = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": later}});
        cluster.create("/api/v1/namespaces", object).await;
        cluster.delete(&path, None).await;
        cluster
            .until("the later one is gone", || async {
                cluster.get(&path).await.is_none().then_some(())
            })
            .await;
        quiet |= cluster.until("it still says so", kept).await == version;
        if quiet {
            break;
        }
    }
    assert!(quiet, "it is written although nothing changes");
    cluster
        .merge(&format!("{maps}/kept"), json!({"metadata": {"finalizers": null}}))
        .await;
    cluster
        .until("it is gone", || async {
            cluster
                .get("/api/v1/namespaces/stuck")
                .await
                .is_none()
                .then_some(())
        })
        .await;
    cluster.stop().await;
}

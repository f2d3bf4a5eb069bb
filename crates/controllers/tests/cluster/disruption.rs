//! Evictions and PodDisruptionBudgets.

use serde_json::{Value, json};

use crate::support::{Cluster, SETS, daemon_set, name};

const BUDGETS: &str = "/apis/policy/v1/namespaces/default/poddisruptionbudgets";

impl Cluster {
    async fn budget(&self, name: &str, spec: Value) {
        let mut budget = json!({
            "apiVersion": "policy/v1", "kind": "PodDisruptionBudget", "metadata": {"name": name}, "spec": spec,
        });
        budget["spec"]["selector"] = json!({"matchLabels": {"app": "a"}});
        self.create(BUDGETS, budget).await;
    }

    /// Waits until the budget has these numbers of expected, healthy and desired pods, and of
    /// allowed disruptions.
    async fn counted(&self, name: &str, wanted: [u64; 4]) {
        let path = format!("{BUDGETS}/{name}");
        self.until(&format!("{name} says {wanted:?}"), || async {
            let budget = self.get(&path).await?;
            let status = &budget["status"];
            let fields = [
                "expectedPods",
                "currentHealthy",
                "desiredHealthy",
                "disruptionsAllowed",
            ];
            let says = fields.map(|field| status[field].as_u64().unwrap_or(0));
            let observed = status["observedGeneration"] == budget["metadata"]["generation"];
            (observed && says == wanted).then_some(())
        })
        .await;
    }

    async fn evict(&self, pod: &str) -> u16 {
        let eviction = json!({"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": pod}});
        let path = format!("/api/v1/namespaces/default/pods/{pod}/eviction");
        match self.api.create(&path, &eviction).await {
            Ok(()) => 201,
            Err(failure) => failure.code(),
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_budget_counts_a_daemon_set_by_the_nodes_that_should_run_it() {
    let cluster = Cluster::start(4).await;
    cluster.create(SETS, daemon_set("a", |_| {})).await;
    cluster.ready("a", 4).await;
    cluster.budget("number", json!({"minAvailable": 3})).await;
    cluster.counted("number", [4, 4, 3, 1]).await;
    cluster.delete(&format!("{BUDGETS}/number"), None).await;
    cluster.budget("share", json!({"minAvailable": "50%"})).await;
    cluster.counted("share", [4, 4, 2, 2]).await;
    cluster.delete(&format!("{BUDGETS}/share"), None).await;
    cluster.budget("away", json!({"maxUnavailable": 1})).await;
    cluster.counted("away", [4, 4, 3, 1]).await;
    let path = format!("{BUDGETS}/away");
    cluster.merge(&path, json!({"spec": {"maxUnavailable": 0}})).await;
    cluster.counted("away", [4, 4, 4, 0]).await;
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn evicted_daemons_come_back_and_the_budget_holds_the_others() {
    let cluster = Cluster::start(3).await;
    cluster.create(SETS, daemon_set("a", |_| {})).await;
    cluster.ready("a", 3).await;
    cluster.budget("two", json!({"minAvailable": 2})).await;
    cluster.counted("two", [3, 3, 2, 1]).await;
    let pods: Vec<String> = cluster.pods().await.iter().map(name).collect();
    assert_eq!(cluster.evict(&pods[0]).await, 201);
    // The budget is exhausted until the first pod is replaced, which may have happened by now.
    cluster
        .until("the evicted pod is gone", || async {
            let left = cluster.pods().await;
            left.iter().all(|pod| name(pod) != pods[0]).then_some(())
        })
        .await;
    cluster.ready("a", 3).await;
    cluster.counted("two", [3, 3, 2, 1]).await;
    cluster
        .merge(&format!("{BUDGETS}/two"), json!({"spec": {"minAvailable": 3}}))
        .await;
    cluster.counted("two", [3, 3, 3, 0]).await;
    assert_eq!(cluster.evict(&pods[1]).await, 429);
    cluster.stop().await;
}

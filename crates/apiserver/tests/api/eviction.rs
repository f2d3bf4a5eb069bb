//! Evictions, and the disruption budgets that they must respect.

use futures::future::join_all;
use http::Method;
use serde_json::{Value, json};

use crate::common::*;

const BUDGETS: &str = "/apis/policy/v1/namespaces/default/poddisruptionbudgets";

fn eviction(pod: &str) -> Value {
    json!({"kind": "Eviction", "apiVersion": "policy/v1", "metadata": {"name": pod}})
}

fn evict_path(pod: &str) -> String {
    format!("{PODS}/{pod}/eviction")
}

impl Cluster {
    async fn evict(&self, pod: &str) -> Answer {
        self.create(&evict_path(pod), &eviction(pod)).await
    }

    /// Creates a pod with the label `app: a` that runs on a node.
    async fn run(&self, name: &str, ready: bool) {
        let mut pod = pod(name);
        pod["metadata"]["labels"] = json!({"app": "a"});
        self.create(PODS, &pod).await.expect(201);
        let binding = json!({"kind": "Binding", "apiVersion": "v1", "target": {"kind": "Node", "name": "n"}});
        self.create(&format!("{PODS}/{name}/binding"), &binding)
            .await
            .expect(201);
        let ready = json!({"type": "Ready", "status": if ready { "True" } else { "False" }});
        let status = json!({"status": {"phase": "Running", "conditions": [ready]}});
        self.patch(&format!("{PODS}/{name}/status"), STRATEGIC, &status)
            .await
            .expect(200);
    }

    /// Creates a budget for the pods `app: a`, with the number of disruptions that its controller
    /// allows.
    async fn budget(&self, name: &str, allowed: i64, change: Value) {
        let mut budget = json!({
            "kind": "PodDisruptionBudget", "apiVersion": "policy/v1", "metadata": {"name": name},
            "spec": {"maxUnavailable": 1, "selector": {"matchLabels": {"app": "a"}}},
        });
        for (field, value) in change.as_object().into_iter().flatten() {
            budget["spec"][field] = value.clone();
        }
        let created = self.create(BUDGETS, &budget).await.expect(201);
        let status = json!({"status": {
            "disruptionsAllowed": allowed, "observedGeneration": created["metadata"]["generation"],
            "currentHealthy": 2 + allowed, "desiredHealthy": 2, "expectedPods": 3,
        }});
        self.patch(&format!("{BUDGETS}/{name}/status"), MERGE, &status)
            .await
            .expect(200);
    }

    async fn pod(&self, name: &str) -> Value {
        self.get(&format!("{PODS}/{name}")).await.expect(200)
    }
}

#[tokio::test]
async fn an_evicted_pod_is_marked_and_goes_within_its_grace_period() {
    let cluster = Cluster::start().await;
    cluster.run("a", true).await;
    let mut watch = cluster
        .watch(&format!("{PODS}?watch=1&fieldSelector=metadata.name=a"))
        .await;
    assert_eq!(watch.next_seen().await, seen("ADDED", "a"));
    let answer = cluster.evict("a").await.expect(201);
    assert_eq!(
        (&answer["kind"], &answer["status"]),
        (&json!("Status"), &json!("Success"))
    );
    let pod = watch.next().await.expect("an event")["object"].clone();
    assert!(pod["metadata"]["deletionTimestamp"].is_string());
    assert_eq!(pod["metadata"]["deletionGracePeriodSeconds"], 30);
    let conditions = pod["status"]["conditions"].as_array().expect("conditions");
    let target = conditions
        .iter()
        .find(|c| c["type"] == "DisruptionTarget")
        .expect("it is marked");
    assert_eq!(
        (&target["status"], &target["reason"], &target["message"]),
        (
            &json!("True"),
            &json!("EvictionByEvictionAPI"),
            &json!("Eviction API: evicting")
        )
    );
    cluster.evict("a").await.expect(201);
    assert_eq!(
        cluster.pod("a").await["metadata"]["resourceVersion"],
        pod["metadata"]["resourceVersion"],
        "evicting it again changes nothing"
    );
}

#[tokio::test]
async fn an_eviction_gives_way_to_the_budget_and_takes_from_it() {
    let cluster = Cluster::start().await;
    cluster.run("a", true).await;
    cluster.run("b", true).await;
    cluster.budget("all", 1, json!({})).await;
    cluster.evict("a").await.expect(201);
    let spent = cluster.get(&format!("{BUDGETS}/all")).await.expect(200);
    assert_eq!(spent["status"]["disruptionsAllowed"], 0);
    assert!(spent["status"]["disruptedPods"]["a"].is_string());
    let refused = cluster.evict("b").await;
    assert_eq!(
        refused.header("retry-after"),
        "",
        "clients tell their user at once"
    );
    let status = refused.expect(429);
    assert_eq!(status["reason"], "TooManyRequests");
    assert_eq!(
        status["message"],
        "Cannot evict pod as it would violate the pod's disruption budget."
    );
    let cause = &status["details"]["causes"][0];
    assert_eq!(
        (&cause["reason"], &cause["message"]),
        (
            &json!("DisruptionBudget"),
            &json!("The disruption budget all does not allow evicting pods currently")
        )
    );
    assert!(cluster.pod("b").await["metadata"]["deletionTimestamp"].is_null());
}

#[tokio::test]
async fn a_new_budget_asks_to_come_back() {
    let cluster = Cluster::start().await;
    cluster.run("a", true).await;
    let budget = json!({
        "kind": "PodDisruptionBudget", "apiVersion": "policy/v1", "metadata": {"name": "new"},
        "spec": {"minAvailable": 0, "selector": {}},
    });
    cluster.create(BUDGETS, &budget).await.expect(201);
    let refused = cluster.evict("a").await;
    assert_eq!((refused.code, refused.header("retry-after")), (429, "10"));
}

#[tokio::test]
async fn two_budgets_over_one_pod_are_an_error() {
    let cluster = Cluster::start().await;
    cluster.run("a", true).await;
    cluster.budget("one", 1, json!({})).await;
    cluster.budget("two", 1, json!({})).await;
    let status = cluster.evict("a").await.expect(500);
    assert_eq!(
        status["message"],
        "This pod has more than one PodDisruptionBudget, which the eviction subresource does not support."
    );
}

#[tokio::test]
async fn pods_that_do_not_serve_pass_a_spent_budget() {
    let cluster = Cluster::start().await;
    cluster.budget("spent", 0, json!({})).await;
    for phase in ["Pending", "Succeeded", "Failed"] {
        cluster.run("a", true).await;
        let status = json!({"status": {"phase": phase}});
        cluster
            .patch(&format!("{PODS}/a/status"), MERGE, &status)
            .await
            .expect(200);
        cluster.evict("a").await.expect(201);
        cluster
            .delete(&format!("{PODS}/a"), &json!({"gracePeriodSeconds": 0}))
            .await;
        assert_eq!(cluster.get(&format!("{PODS}/a")).await.code, 404, "{phase}");
    }
    cluster.run("sick", false).await;
    cluster.evict("sick").await.expect(201);
    let budget = cluster.get(&format!("{BUDGETS}/spent")).await.expect(200);
    assert!(budget["status"]["disruptedPods"].is_null());
}

#[tokio::test]
async fn the_policy_for_unhealthy_pods_is_obeyed() {
    let cluster = Cluster::start().await;
    cluster.run("sick", false).await;
    cluster.budget("strict", 0, json!({})).await;
    let sick = json!({"status": {"currentHealthy": 1}});
    let path = format!("{BUDGETS}/strict");
    cluster
        .patch(&format!("{path}/status"), MERGE, &sick)
        .await
        .expect(200);
    assert_eq!(cluster.evict("sick").await.code, 429);
    let lenient = json!({"spec": {"unhealthyPodEvictionPolicy": "AlwaysAllow"}});
    cluster.patch(&path, MERGE, &lenient).await.expect(200);
    cluster.evict("sick").await.expect(201);
}

#[tokio::test]
async fn a_dry_run_asks_the_budget_and_changes_nothing() {
    let cluster = Cluster::start().await;
    cluster.run("a", true).await;
    cluster.budget("one", 1, json!({})).await;
    let before = cluster.pod("a").await;
    let path = evict_path("a");
    cluster
        .create(&format!("{path}?dryRun=All"), &eviction("a"))
        .await
        .expect(201);
    let mut dry = eviction("a");
    dry["deleteOptions"] = json!({"dryRun": ["All"]});
    cluster.create(&path, &dry).await.expect(201);
    dry["deleteOptions"] = json!({"dryRun": ["Some"]});
    assert_eq!(cluster.create(&path, &dry).await.code, 422);
    assert_eq!(cluster.pod("a").await, before);
    let budget = cluster.get(&format!("{BUDGETS}/one")).await.expect(200);
    assert_eq!(budget["status"]["disruptionsAllowed"], 1);
    let none = json!({"status": {"disruptionsAllowed": 0}});
    cluster
        .patch(&format!("{BUDGETS}/one/status"), MERGE, &none)
        .await
        .expect(200);
    dry["deleteOptions"] = json!({"dryRun": ["All"]});
    assert_eq!(cluster.create(&path, &dry).await.code, 429);
}

#[tokio::test]
async fn delete_options_of_an_eviction_hold() {
    let cluster = Cluster::start().await;
    cluster.run("a", true).await;
    let with = |options: Value| {
        let mut eviction = eviction("a");
        eviction["deleteOptions"] = options;
        eviction
    };
    let path = evict_path("a");
    let pod = cluster.pod("a").await;
    let stranger = with(json!({"preconditions": {"uid": "another"}}));
    assert_eq!(cluster.create(&path, &stranger).await.code, 409);
    let old = with(json!({"preconditions": {"resourceVersion": "1"}}));
    assert_eq!(cluster.create(&path, &old).await.code, 409);
    let exact = with(json!({"gracePeriodSeconds": 7, "preconditions": {
        "uid": pod["metadata"]["uid"], "resourceVersion": pod["metadata"]["resourceVersion"],
    }}));
    cluster.create(&path, &exact).await.expect(201);
    assert_eq!(
        cluster.pod("a").await["metadata"]["deletionGracePeriodSeconds"],
        7
    );
}

#[tokio::test]
async fn an_eviction_names_its_pod_and_comes_in_either_version() {
    let cluster = Cluster::start().await;
    cluster.run("a", true).await;
    let path = evict_path("a");
    let status = cluster.create(&path, &eviction("b")).await.expect(400);
    assert_eq!(
        status["message"],
        "name in URL does not match name in Eviction object"
    );
    let mut elsewhere = eviction("a");
    elsewhere["metadata"]["namespace"] = "kube-system".into();
    assert_eq!(cluster.create(&path, &elsewhere).await.code, 400);
    assert_eq!(
        cluster.create(&evict_path("none"), &eviction("none")).await.code,
        404
    );
    assert_eq!(cluster.send(Method::GET, &path, &[], "").await.code, 405);
    let mut old = eviction("a");
    old["apiVersion"] = "policy/v1beta1".into();
    cluster.create(&path, &old).await.expect(201);
}

#[tokio::test]
async fn concurrent_evictions_share_what_the_budget_allows() {
    const PODS_RUNNING: usize = 12;
    const ALLOWED: usize = 4;
    let cluster = Cluster::start().await;
    let names: Vec<String> = (0..PODS_RUNNING).map(|i| format!("p{i}")).collect();
    for name in &names {
        cluster.run(name, true).await;
    }
    cluster.budget("some", ALLOWED as i64, json!({})).await;
    let answers = join_all(names.iter().map(|name| cluster.evict(name))).await;
    let granted = answers.iter().filter(|answer| answer.code == 201).count();
    let refused = answers.iter().filter(|answer| answer.code == 429).count();
    assert_eq!((granted, refused), (ALLOWED, PODS_RUNNING - ALLOWED));
    let pods = cluster.get(PODS).await.expect(200);
    let going = pods["items"].as_array().expect("items").iter();
    let going = going.filter(|pod| pod["metadata"]["deletionTimestamp"].is_string());
    assert_eq!(going.count(), ALLOWED);
}

//! Bindings, and the reports about pods that are not bound.

use controllers::Options;
use serde_json::{Value, json};

use crate::support::{Cluster, SETS, daemon_set};

fn scheduled(pod: &Value) -> Option<&Value> {
    pod["status"]["conditions"]
        .as_array()?
        .iter()
        .find(|c| c["type"] == "PodScheduled")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn daemon_without_room_reports_why_and_runs_when_it_fits() {
    let cluster = Cluster::start(2).await;
    let hungry = |s: &mut Value| {
        s["spec"]["template"]["spec"]["containers"][0]["resources"] = json!({"requests": {"memory": "10Gi"}});
    };
    cluster.create(SETS, daemon_set("first", hungry)).await;
    cluster.ready("first", 2).await;
    cluster.create(SETS, daemon_set("second", hungry)).await;
    let expected = "0/2 nodes are available: 1 Insufficient memory, 1 node(s) didn't satisfy plugin(s) [NodeAffinity]. \
                    preemption: 0/2 nodes are available: 1 No preemption victims found for incoming pod, \
                    1 Preemption is not helpful for scheduling.";
    cluster
        .until("both wait and say why", || async {
            let pods = cluster
                .items("/api/v1/namespaces/default/pods?labelSelector=app%3Dsecond")
                .await;
            let says = |p: &Value| {
                scheduled(p).is_some_and(|c| c["reason"] == "Unschedulable" && c["message"] == expected)
            };
            (pods.len() == 2 && pods.iter().all(says)).then_some(())
        })
        .await;
    cluster
        .delete(&crate::support::set_path("first"), Some("Background"))
        .await;
    cluster.ready("second", 2).await;
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pods_without_a_daemon_set_are_spread() {
    let cluster = Cluster::start(2).await;
    cluster
        .until("the nodes are ready", || async {
            let nodes = cluster.items("/api/v1/nodes").await;
            (nodes.len() == 2 && nodes.iter().all(|n| n["spec"]["taints"].is_null())).then_some(())
        })
        .await;
    for i in 0..4 {
        let pod = json!({
            "apiVersion": "v1", "kind": "Pod", "metadata": {"name": format!("p{i}")},
            "spec": {"containers": [{"name": "c", "image": "i"}]},
        });
        cluster.create("/api/v1/namespaces/default/pods", pod).await;
    }
    cluster
        .until("two run on each node", || async {
            let pods = cluster.pods().await;
            let on = |node: &str| {
                pods.iter()
                    .filter(|p| p["spec"]["nodeName"] == node && p["status"]["phase"] == "Running")
                    .count()
            };
            ((on("node-0"), on("node-1")) == (2, 2)).then_some(())
        })
        .await;
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_scheduler_pods_wait_for_another_one() {
    let cluster = Cluster::start_with(
        1,
        Options {
            scheduler: false,
            ..Options::default()
        },
    )
    .await;
    cluster.create(SETS, daemon_set("a", |_| {})).await;
    let pod = cluster
        .until("a pod", || async { cluster.pods().await.into_iter().next() })
        .await;
    assert!(scheduled(&pod).is_none() && pod["spec"]["nodeName"].is_null());
    let name = crate::support::name(&pod);
    let binding = json!({
        "apiVersion": "v1", "kind": "Binding", "metadata": {"name": name},
        "target": {"apiVersion": "v1", "kind": "Node", "name": "node-0"},
    });
    cluster
        .create(
            &format!("/api/v1/namespaces/default/pods/{name}/binding"),
            binding,
        )
        .await;
    cluster.ready("a", 1).await;
    cluster.stop().await;
}

/// A node with 4 CPUs is full with these pods.
fn filler(s: &mut Value) {
    s["spec"]["template"]["spec"]["containers"][0]["resources"] = json!({"requests": {"cpu": "3"}});
}

fn critical(s: &mut Value) {
    filler(s);
    s["spec"]["template"]["spec"]["priorityClassName"] = "system-node-critical".into();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn critical_daemon_preempts_pods_on_full_nodes() {
    let cluster = Cluster::start(2).await;
    cluster.create(SETS, daemon_set("filler", filler)).await;
    cluster.ready("filler", 2).await;
    let fillers = cluster.pods().await;
    let sets = "/apis/apps/v1/namespaces/kube-system/daemonsets";
    cluster.create(sets, daemon_set("critical", critical)).await;
    let critical_pods = || cluster.items("/api/v1/namespaces/kube-system/pods");
    cluster
        .until("both critical daemons run", || async {
            let pods = critical_pods().await;
            let run =
                |p: &Value| p["status"]["phase"] == "Running" && p["status"]["nominatedNodeName"].is_null();
            (pods.len() == 2 && pods.iter().all(run)).then_some(())
        })
        .await;
    let uids: Vec<_> = critical_pods()
        .await
        .iter()
        .map(|p| p["metadata"]["uid"].clone())
        .collect();
    cluster
        .until("the events say whose place was taken for whom", || async {
            let events = cluster.items("/api/v1/namespaces/default/events").await;
            let told = |filler: &Value| {
                let node = &filler["spec"]["nodeName"];
                events.iter().any(|e| {
                    e["reason"] == "Preempted"
                        && e["involvedObject"]["uid"] == filler["metadata"]["uid"]
                        && uids.iter().any(|uid| {
                            let uid = uid.as_str().unwrap_or_default();
                            e["message"]
                                == format!(
                                    "Preempted by pod {uid} on node {}",
                                    node.as_str().unwrap_or_default()
                                )
                        })
                })
            };
            fillers.iter().all(told).then_some(())
        })
        .await;
    cluster
        .until("the fillers wait, and may take nobody's place", || async {
            let pods = cluster.pods().await;
            let waits = |p: &Value| {
                scheduled(p).is_some_and(|c| {
                    c["reason"] == "Unschedulable"
                        && c["message"]
                            .as_str()
                            .is_some_and(|m| m.contains("1 No preemption victims found for incoming pod"))
                })
            };
            (pods.len() == 2 && pods.iter().all(waits)).then_some(())
        })
        .await;
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn victim_reports_preemption_and_keeps_its_grace_period() {
    let cluster = Cluster::start(1).await;
    cluster
        .until("the node is ready", || async {
            let node = cluster.get("/api/v1/nodes/node-0").await?;
            node["spec"]["taints"].is_null().then_some(())
        })
        .await;
    let pods = "/api/v1/namespaces/default/pods";
    let pod = |name: &str, priority: &str| {
        json!({
            "apiVersion": "v1", "kind": "Pod",
            "metadata": {"name": name, "finalizers": if name == "low" { json!(["example.com/hold"]) } else { json!([]) }},
            "spec": {"priorityClassName": priority, "terminationGracePeriodSeconds": 1,
                "containers": [{"name": "c", "image": "i", "resources": {"requests": {"cpu": "3"}}}]},
        })
    };
    let class = json!({"apiVersion": "scheduling.k8s.io/v1", "kind": "PriorityClass", "metadata": {"name": "high"}, "value": 1000});
    cluster
        .create("/apis/scheduling.k8s.io/v1/priorityclasses", class)
        .await;
    cluster.create(pods, pod("low", "")).await;
    let low = format!("{pods}/low");
    cluster
        .until("the first runs", || async {
            (cluster.get(&low).await?["status"]["phase"] == "Running").then_some(())
        })
        .await;
    cluster.create(pods, pod("high", "high")).await;
    cluster
        .until("the victim is ending and says why", || async {
            let victim = cluster.get(&low).await?;
            let conditions = victim["status"]["conditions"].as_array()?.clone();
            let why = conditions.iter().find(|c| c["type"] == "DisruptionTarget")?;
            assert_eq!(
                (&why["status"], &why["reason"], &why["message"]),
                (
                    &json!("True"),
                    &json!("PreemptionByScheduler"),
                    &json!("default-scheduler: preempting to accommodate a higher priority pod")
                )
            );
            victim["metadata"]["deletionTimestamp"].is_string().then_some(())
        })
        .await;
    let high = format!("{pods}/high");
    cluster
        .until("the other is nominated", || async {
            let pod = cluster.get(&high).await?;
            let is_nominated = pod["status"]["nominatedNodeName"] == "node-0";
            let said = scheduled(&pod).is_some_and(|c| {
                c["message"]
                    .as_str()
                    .is_some_and(|m| m.starts_with("0/1 nodes are available: 1 Insufficient cpu."))
            });
            (is_nominated && said && pod["spec"]["nodeName"].is_null()).then_some(())
        })
        .await;
    cluster
        .merge(&low, json!({"metadata": {"finalizers": null}}))
        .await;
    cluster
        .until("it is bound and nominated no more", || async {
            let pod = cluster.get(&high).await?;
            (pod["spec"]["nodeName"] == "node-0" && pod["status"]["nominatedNodeName"].is_null())
                .then_some(())
        })
        .await;
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_gated_pod_says_so_and_is_scheduled_once_its_gates_are_gone() {
    let cluster = Cluster::start(1).await;
    let pods = "/api/v1/namespaces/default/pods";
    let pod = json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p"},
        "spec": {"schedulingGates": [{"name": "example.com/wait"}], "containers": [{"name": "c", "image": "i"}]},
    });
    cluster.create(pods, pod).await;
    let path = format!("{pods}/p");
    let pod = cluster.get(&path).await.expect("the pod");
    assert_eq!(scheduled(&pod).expect("a condition")["reason"], "SchedulingGated");
    cluster
        .merge(&path, json!({"spec": {"schedulingGates": null}}))
        .await;
    cluster
        .until("it runs", || async {
            (cluster.get(&path).await?["status"]["phase"] == "Running").then_some(())
        })
        .await;
    cluster.stop().await;
}

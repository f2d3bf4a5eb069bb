//! `Available` and `Progressing`.

use serde_json::{Value, json};

use super::Cluster;

fn available(cluster: &Cluster) -> String {
    cluster.conditions("daemon")[0].clone()
}

fn progressing(cluster: &Cluster) -> String {
    cluster.conditions("daemon")[1].clone()
}

fn since(cluster: &Cluster, kind: &str) -> i64 {
    let set = cluster.set("daemon");
    let condition = set
        .conditions
        .iter()
        .find(|condition| condition.kind == kind)
        .unwrap();
    condition.last_transition_time.unwrap().as_second()
}

fn unavailable(count: u8) -> Value {
    json!({"updateStrategy": {"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": count, "maxSurge": 0}}})
}

#[test]
fn a_set_that_is_done_says_so() {
    let cluster = Cluster::deployed(&["a", "b"], json!({}));
    assert_eq!(
        cluster.conditions("daemon"),
        [
            "Available=True MinimumPodsAvailable: 2 of 2 nodes have an available pod",
            "Progressing=True NewPodsAvailable: 2 of 2 nodes have an available pod of the current template",
        ]
    );
    let nowhere = Cluster::deployed(&[], json!({}));
    assert!(
        available(&nowhere).starts_with("Available=True"),
        "nothing is missing"
    );
}

#[test]
fn while_pods_come_up_the_nodes_that_are_waited_for_are_named() {
    let mut cluster = Cluster::new();
    for node in ["a", "b", "c", "d", "e"] {
        cluster.add_node(node, json!({}));
    }
    cluster.apply_set("daemon", json!({}));
    cluster.settle();
    let unscheduled = cluster.pod_on("b");
    cluster.edit_pod(&unscheduled, |pod| {
        pod["status"]["conditions"] = json!([{"type": "PodScheduled", "status": "False",
            "reason": "Unschedulable", "message": "0/5 nodes are available: 1 Insufficient cpu."}]);
    });
    cluster.settle();
    assert_eq!(
        cluster.conditions("daemon"),
        [
            "Available=False MinimumPodsUnavailable: 0 of 5 nodes have an available pod, and at most 1 may lack one",
            "Progressing=True PodsUpdating: 0 of 5 nodes are done; waiting for a (its pod is not ready), \
             b (its pod cannot be scheduled: 0/5 nodes are available: 1 Insufficient cpu.), \
             c (its pod is not ready) and 2 more",
        ]
    );
}

#[test]
fn single_node_without_pod_is_unavailable_whatever_the_budget() {
    let mut cluster = Cluster::deployed(&["a"], unavailable(1));
    let pod = cluster.pod_on("a");
    cluster.phase(&pod, "Running", false);
    cluster.settle();
    assert!(available(&cluster).starts_with("Available=False MinimumPodsUnavailable"));
    let mut cluster = Cluster::deployed(&["a", "b"], unavailable(1));
    let pod = cluster.pod_on("a");
    cluster.phase(&pod, "Running", false);
    cluster.settle();
    assert_eq!(
        available(&cluster),
        "Available=True MinimumPodsAvailable: 1 of 2 nodes have an available pod"
    );
}

#[test]
fn an_update_names_those_first_that_hold_it_up() {
    let mut cluster = Cluster::deployed(&["a", "b", "c", "d", "e"], unavailable(1));
    let pod = cluster.pod_on("e");
    cluster.phase(&pod, "Running", false);
    cluster.apply_set("daemon", Cluster::image("v2"));
    cluster.settle();
    cluster.finish(&pod);
    cluster.settle();
    assert_eq!(
        progressing(&cluster),
        "Progressing=True PodsUpdating: 0 of 5 nodes are done; waiting for e (its pod is not ready), \
         a (its pod is of an old template), b (its pod is of an old template) and 2 more"
    );
}

#[test]
fn nodes_that_do_not_answer_are_said_to() {
    let mut cluster = Cluster::deployed(
        &["a", "b"],
        json!({"template": {"spec": {"tolerations": [{"operator": "Exists"}]}}}),
    );
    let pod = cluster.pod_on("a");
    cluster.phase(&pod, "Running", false);
    cluster.taint(
        "a",
        json!([{"key": "node.kubernetes.io/unreachable", "effect": "NoExecute"}]),
    );
    cluster.converge();
    assert_eq!(
        progressing(&cluster),
        "Progressing=True PodsUpdating: 1 of 2 nodes are done; waiting for a (the node does not answer)"
    );
}

#[test]
fn what_is_refused_stops_the_progress_in_the_servers_words() {
    let mut cluster = Cluster::new();
    for node in ["a", "b"] {
        cluster.add_node(node, json!({}));
    }
    cluster.refused_nodes.insert("b".into());
    cluster.apply_set("daemon", json!({}));
    cluster.settle();
    let refused = "Progressing=False FailedCreate: b (refused: denied the request)";
    assert_eq!(progressing(&cluster), refused);
    let refused_at = since(&cluster, "Progressing");
    for _ in 0..20 {
        cluster.machines();
        cluster.now = cluster.look_again().unwrap_or(cluster.now);
        cluster.settle();
    }
    assert_eq!(progressing(&cluster), refused, "it is still so");
    assert_eq!(since(&cluster, "Progressing"), refused_at);
    cluster.refused_nodes.clear();
    cluster.converge();
    assert!(progressing(&cluster).starts_with("Progressing=True NewPodsAvailable"));
}

#[test]
fn on_delete_makes_no_progress_by_itself() {
    let mut cluster = Cluster::deployed(
        &["a", "b"],
        json!({"updateStrategy": {"type": "OnDelete", "rollingUpdate": null}}),
    );
    cluster.apply_set("daemon", Cluster::image("v2"));
    cluster.converge();
    assert_eq!(
        progressing(&cluster),
        "Progressing=False OnDelete: 2 of 2 nodes have a pod of an old template, which must be deleted by hand"
    );
}

#[test]
fn the_time_of_a_condition_is_that_of_its_last_change_of_status() {
    let mut cluster = Cluster::deployed(&["a", "b"], unavailable(1));
    let at_first = since(&cluster, "Available");
    cluster.wait(100);
    cluster.apply_set("daemon", Cluster::image("v2"));
    cluster.converge();
    assert_eq!(since(&cluster, "Available"), at_first, "it was True all the time");
    cluster.wait(100);
    for node in ["a", "b"] {
        let pod = cluster.pod_on(node);
        cluster.phase(&pod, "Running", false);
    }
    cluster.settle();
    assert_eq!(since(&cluster, "Available"), cluster.now.as_second());
}

#[test]
fn conditions_of_others_stay_and_ours_come_back() {
    let mut cluster = Cluster::deployed(&["a"], json!({}));
    let at_first = since(&cluster, "Available");
    cluster.wait(100);
    cluster.edit_set("daemon", |set| {
        set["status"]["conditions"] =
            json!([{"type": "Theirs", "status": "True", "reason": "E2E", "message": "Set"}]);
    });
    cluster.converge();
    let kinds: Vec<_> = cluster
        .set("daemon")
        .conditions
        .iter()
        .map(|condition| condition.kind.clone())
        .collect();
    assert_eq!(kinds, ["Theirs", "Available", "Progressing"]);
    assert_eq!(since(&cluster, "Available"), at_first);
}

#[test]
fn conditions_cost_no_writes_of_their_own() {
    let names: Vec<String> = (0..20).map(|number| format!("node-{number:02}")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let mut cluster = Cluster::deployed(&names, unavailable(3));
    cluster.apply_set("daemon", Cluster::image("v2"));
    cluster.converge();
    cluster.delete(&cluster.pod_on("node-07"));
    cluster.converge();
    cluster.add_node("node-20", json!({}));
    cluster.converge();
    assert_eq!(cluster.writes_of_words, 0);
    assert_eq!(cluster.plan_and_act(), 0);
    cluster.relist();
    assert_eq!(
        cluster.plan_and_act(),
        0,
        "what is said already is not said again"
    );
}

//! Refused requests, lost answers, late watches: nothing is done twice, and everything is retried.

use serde_json::json;

use super::Cluster;
use super::model::{Fault, Kind};
use crate::fleet::{Act, Options, Work};

fn nodes(count: usize) -> Vec<String> {
    (0..count).map(|number| format!("node-{number:05}")).collect()
}

fn burst(burst: usize) -> Options {
    Options {
        burst,
        ..Options::default()
    }
}

fn with_nodes(count: usize, options: Options) -> Cluster {
    let mut cluster = Cluster::with_options(options);
    for name in nodes(count) {
        cluster.add_node(&name, json!({}));
    }
    cluster.apply_set("daemon", json!({}));
    cluster
}

#[test]
fn a_pod_that_the_watch_has_not_shown_yet_is_not_created_again() {
    let mut cluster = with_nodes(1, Options::default());
    for kind in [Kind::Node, Kind::Set, Kind::Revision] {
        cluster.deliver(kind, usize::MAX);
    }
    for _ in 0..10 {
        cluster.plan_and_act();
        cluster.deliver(Kind::Set, usize::MAX);
        cluster.deliver(Kind::Revision, usize::MAX);
    }
    assert_eq!(cluster.pods().len(), 1);
    assert_eq!(
        cluster
            .done
            .iter()
            .filter(|done| done.contains("create pod"))
            .count(),
        1
    );
}

#[test]
fn a_pod_whose_creations_answer_was_lost_is_found_to_be_there() {
    let mut cluster = with_nodes(1, Options::default());
    cluster.settle_until_first_creation(Fault::LoseAnswer);
    assert_eq!(cluster.pods().len(), 1, "it took effect");
    cluster.fault = Fault::None;
    for _ in 0..10 {
        cluster.wait(1);
        cluster.plan_and_act();
    }
    assert_eq!(cluster.pods().len(), 1, "{:?}", cluster.done);
    assert!(cluster.done.iter().any(|done| done.contains("read pod")));
    cluster.converge();
    assert_eq!(cluster.pods().len(), 1);
}

#[test]
fn a_controller_that_starts_anew_makes_no_second_pod() {
    let mut cluster = with_nodes(3, Options::default());
    cluster.deliver_all();
    cluster.plan_and_act();
    cluster.plan_and_act();
    cluster.restart();
    cluster.converge();
    assert_eq!(cluster.pods().len(), 3);
}

#[test]
fn a_name_that_a_stranger_has_is_stepped_over() {
    let mut probe = with_nodes(1, Options::default());
    probe.converge();
    let taken = probe.pod_on("node-00000");

    let mut cluster = with_nodes(1, Options::default());
    cluster.create_pod(json!({
        "metadata": {"name": taken, "namespace": "default", "ownerReferences": [
            {"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "x", "uid": "x", "controller": true}]},
        "spec": {"containers": [{"name": "main", "image": "other"}]}, "status": {},
    }));
    cluster.converge();
    assert_eq!(cluster.pods().len(), 2);
    assert_ne!(cluster.pod_on("node-00000"), taken);
}

#[test]
fn creations_start_slowly_so_that_a_quota_costs_few_refusals() {
    let mut cluster = with_nodes(100, Options::default());
    cluster.quota = Some(10);
    cluster.deliver_all();
    for _ in 0..20 {
        cluster.plan_and_act();
        cluster.deliver_all();
    }
    let calls = cluster
        .done
        .iter()
        .filter(|done| done.contains("create pod"))
        .count();
    assert_eq!(cluster.pods().len(), 10);
    assert!(calls <= 15, "{calls} calls");
    let refused = cluster
        .events
        .iter()
        .find(|event| event.reason == "FailedCreate")
        .unwrap();
    assert_eq!(
        (refused.warning, refused.message.as_str()),
        (true, "Error creating: exceeded quota")
    );
    assert_eq!(
        cluster.set("daemon").status.current_number_scheduled,
        10,
        "the status is written all the same"
    );

    cluster.quota = None;
    cluster.converge();
    assert_eq!(cluster.pods().len(), 100);
}

#[test]
fn no_more_than_the_burst_is_in_flight() {
    let mut cluster = with_nodes(40, burst(8));
    cluster.deliver_all();
    let mut most = 0;
    for _ in 0..50 {
        let plan = cluster.plan();
        most = most.max(
            plan.iter()
                .filter(|action| action.to_string().contains("create pod"))
                .count(),
        );
        for action in &plan {
            cluster.act(action);
        }
        cluster.deliver_all();
    }
    assert_eq!(most, 8);
    assert_eq!(cluster.pods().len(), 40);
    cluster.machines();
    cluster.apply_set(
        "daemon",
        json!({"template": {"spec": {"nodeSelector": {"no": "where"}}}}),
    );
    cluster.deliver_all();
    cluster.plan_and_act();
    cluster.deliver_all();
    let deletions = cluster.plan();
    assert_eq!(
        deletions
            .iter()
            .filter(|action| action.to_string().contains("delete pod"))
            .count(),
        8
    );
}

#[test]
fn a_terminating_namespace_is_left_in_peace() {
    let mut cluster = with_nodes(3, Options::default());
    cluster.settle_until_first_creation(Fault::NamespaceTerminating);
    for _ in 0..10 {
        cluster.plan_and_act();
        cluster.deliver_all();
    }
    assert!(cluster.events.iter().all(|event| event.reason != "FailedCreate"));
    assert!(
        cluster
            .done
            .iter()
            .filter(|done| done.contains("create pod"))
            .count()
            <= 1,
        "{:?}",
        cluster.done
    );
}

#[test]
fn a_refused_deletion_is_told_and_tried_again() {
    let mut cluster = Cluster::deployed(&["a"], json!({}));
    cluster.taint("a", json!([{"key": "evil", "effect": "NoExecute"}]));
    cluster.fault = Fault::Refuse;
    cluster.deliver_all();
    cluster.plan_and_act();
    assert_eq!(cluster.events[0].reason, "FailedDelete");
    assert_eq!(cluster.events[0].message, "Error deleting: exceeded quota");
    assert_eq!(cluster.plan_and_act(), 0, "not at once");
    cluster.fault = Fault::None;
    cluster.converge();
    assert_eq!(cluster.picture(), "");
}

/// A set whose update has requested the deletion of the pod on `a`, with this fault. From then on
/// the watch of pods shows nothing.
fn deleting_in_doubt(fault: Fault) -> Cluster {
    let mut cluster = Cluster::deployed(&["a", "b", "c"], json!({}));
    cluster.apply_set("daemon", Cluster::image("v2"));
    // The revision comes first.
    cluster.deliver_all();
    cluster.plan_and_act();
    cluster.done.clear();
    cluster.fault = fault;
    work_without_pods(&mut cluster, 1);
    cluster.fault = Fault::None;
    cluster
}

/// Only answers show what happens to pods.
fn work_without_pods(cluster: &mut Cluster, rounds: usize) {
    for _ in 0..rounds {
        cluster.plan_and_act();
        cluster.deliver(Kind::Set, usize::MAX);
        cluster.deliver(Kind::Revision, usize::MAX);
        cluster.wait(1);
    }
}

fn deletions(cluster: &Cluster) -> Vec<&String> {
    let deletions = cluster.done.iter().filter(|done| done.contains("delete pod"));
    deletions.collect()
}

#[test]
fn lost_deletion_uses_budget_until_pod_was_read() {
    for (fault, times) in [(Fault::LoseAnswer, 1), (Fault::LoseRequest, 2)] {
        let mut cluster = deleting_in_doubt(fault);
        work_without_pods(&mut cluster, 8);
        let deletions = deletions(&cluster);
        assert_eq!(deletions.len(), times, "{fault:?}: {:?}", cluster.done);
        assert!(
            deletions.iter().all(|deletion| *deletion == deletions[0]),
            "{fault:?}: {deletions:?}"
        );
        cluster.converge();
        assert_eq!(cluster.picture(), "a: v2 ready, b: v2 ready, c: v2 ready");
    }
}

#[test]
fn failed_deletion_is_dropped_when_template_is_back() {
    let mut cluster = deleting_in_doubt(Fault::LoseRequest);
    let asked = deletions(&cluster).len();
    let before: Vec<_> = cluster.pods().iter().map(|pod| pod.meta.uid.clone()).collect();
    cluster.apply_set("daemon", Cluster::image("v1"));
    cluster.deliver(Kind::Set, usize::MAX);
    work_without_pods(&mut cluster, 8);
    cluster.converge();
    assert_eq!(deletions(&cluster).len(), asked, "{:?}", cluster.done);
    let after: Vec<_> = cluster.pods().iter().map(|pod| pod.meta.uid.clone()).collect();
    assert_eq!(before, after);
}

#[test]
fn lost_creation_is_read_before_another_template_follows() {
    let mut cluster = with_nodes(1, Options::default());
    cluster.settle_until_first_creation(Fault::LoseAnswer);
    cluster.fault = Fault::None;
    cluster.apply_set("daemon", Cluster::image("v2"));
    for _ in 0..10 {
        cluster.deliver(Kind::Set, usize::MAX);
        cluster.deliver(Kind::Revision, usize::MAX);
        cluster.plan_and_act();
        cluster.wait(1);
    }
    assert_eq!(cluster.pods().len(), 1, "{:?}", cluster.done);
    cluster.converge();
    assert_eq!(cluster.picture(), "node-00000: v2 ready");
}

#[test]
fn a_status_that_arrives_late_a_second_time_is_refused() {
    let mut cluster = Cluster::deployed(&["a"], json!({}));
    cluster.add_node("b", json!({}));
    cluster.deliver_all();
    let mut first = None;
    for _ in 0..5 {
        for action in cluster.plan() {
            if matches!(action.act, Act::UpdateStatus { .. }) {
                first.get_or_insert(action.clone());
            }
            cluster.act(&action);
        }
        cluster.deliver_all();
    }
    cluster.apply_set("daemon", json!({"minReadySeconds": 1}));
    cluster.converge();
    let status = cluster.set("daemon").status.clone();
    cluster.act(&first.unwrap());
    assert_eq!(cluster.set("daemon").status, status);
}

#[test]
fn conflicting_status_is_planned_again_after_a_delay() {
    let mut cluster = Cluster::deployed(&["a"], json!({}));
    cluster.add_node("b", json!({}));
    cluster.deliver(Kind::Node, usize::MAX);
    // The watch has not shown this yet.
    cluster.apply_set("daemon", json!({"minReadySeconds": 1}));
    cluster.done.clear();
    let writes = |cluster: &Cluster| {
        let writes = cluster
            .done
            .iter()
            .filter(|done| done.contains("write the status"));
        writes.count()
    };
    for _ in 0..5 {
        cluster.plan_and_act();
    }
    assert_eq!(writes(&cluster), 1, "{:?}", cluster.done);
    assert!(cluster.look_again().is_some());
    cluster.converge();
    assert_eq!(cluster.set("daemon").status.desired_number_scheduled, 2);
    assert_eq!(cluster.set("daemon").status.observed_generation, 2);
}

#[test]
fn a_node_whose_pod_is_refused_holds_nobody_up() {
    let mut cluster = Cluster::new();
    for node in ["a", "b", "c"] {
        cluster.add_node(node, json!({}));
    }
    cluster.refused_nodes.insert("b".into());
    cluster.apply_set("daemon", json!({}));
    for _ in 0..40 {
        cluster.settle();
        cluster.machines();
        cluster.now = cluster.look_again().unwrap_or(cluster.now);
    }
    assert_eq!(cluster.picture(), "a: v1 ready, c: v1 ready");
    cluster.settle();
    let next = cluster.look_again().unwrap();
    assert_eq!(
        next.duration_since(cluster.now).as_secs(),
        60,
        "by now b is asked for once a minute"
    );

    cluster.add_node("d", json!({}));
    cluster.delete(&cluster.pod_on("a"));
    cluster.settle();
    cluster.machines();
    cluster.settle();
    cluster.machines();
    assert_eq!(
        cluster.picture(),
        "a: v1 ready, c: v1 ready, d: v1 ready",
        "at once, a node that joins and one whose pod was deleted"
    );
    let verdict = cluster.fleet.explain("default", "daemon", cluster.now).unwrap();
    assert_eq!(
        verdict.decisions[1].verdict.to_string(),
        "refused: denied the request"
    );
    assert!(cluster.now < next);
    cluster.refused_nodes.clear();
    cluster.converge();
    assert_eq!(cluster.pods_on("b").len(), 1);
}

#[test]
fn what_was_refused_is_asked_for_again_when_the_set_is_changed() {
    let mut cluster = with_nodes(3, Options::default());
    cluster.quota = Some(0);
    for _ in 0..40 {
        cluster.settle();
        cluster.now = cluster.look_again().unwrap_or(cluster.now);
    }
    cluster.settle();
    cluster.quota = None;
    cluster.settle();
    assert_eq!(cluster.pods().len(), 0, "it does not know that it may");
    cluster.apply_set("daemon", Cluster::image("v2"));
    cluster.settle();
    assert_eq!(cluster.pods().len(), 3);
}

#[test]
fn a_refused_deletion_delays_no_other() {
    let mut cluster = Cluster::deployed(&["a", "b"], json!({}));
    cluster.refused_nodes.insert("a".into());
    for node in ["a", "b"] {
        cluster.taint(node, json!([{"key": "evil", "effect": "NoExecute"}]));
    }
    cluster.settle();
    cluster.machines();
    assert_eq!(cluster.picture(), "a: v1 ready");
    cluster.refused_nodes.clear();
    cluster.converge();
    assert_eq!(cluster.picture(), "");
}

#[test]
fn a_pod_that_cannot_be_adopted_holds_up_its_node_alone() {
    let mut cluster = Cluster::new();
    for node in ["a", "b", "c"] {
        cluster.add_node(node, json!({}));
    }
    for node in ["a", "b"] {
        cluster.create_pod(json!({
            "metadata": {"name": format!("orphan-{node}"), "namespace": "default", "labels": {"app": "daemon"}},
            "spec": {"nodeName": node, "containers": [{"name": "main", "image": "v0"}]},
            "status": {"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}]},
        }));
    }
    cluster.refused_patches.insert("orphan-a".into());
    cluster.apply_set(
        "daemon",
        json!({"updateStrategy": {"type": "OnDelete", "rollingUpdate": null}}),
    );
    for _ in 0..10 {
        cluster.settle();
        cluster.machines();
        cluster.wait(1);
    }
    assert_eq!(cluster.picture(), "a: v0 ready, b: v0 ready, c: v1 ready");
    let owned = |node: &str| cluster.pods_on(node)[0].meta.controller().is_some();
    assert_eq!([owned("a"), owned("b")], [false, true]);
    cluster.refused_patches.clear();
    cluster.converge();
    assert!(cluster.pods_on("a")[0].meta.controller().is_some());
}

#[test]
fn pods_of_duplicate_revision_are_all_relabelled() {
    let mut cluster = with_nodes(7, Options::default());
    cluster.converge();
    let first = cluster.revisions()[0].clone();
    cluster.create_revision(json!({
        "metadata": {
            "name": "daemon-double", "namespace": "default",
            "labels": {"app": "daemon", "controller-revision-hash": "double"},
            "ownerReferences": [{"apiVersion": "apps/v1", "kind": "DaemonSet", "name": "daemon",
                "uid": &*first.meta.controller().unwrap().uid, "controller": true}],
        },
        "data": &*first.data,
        "revision": 7,
    }));
    cluster.restart_with(burst(2));
    cluster.converge();
    let labels = cluster.pods();
    let relabelled = labels
        .iter()
        .filter(|pod| pod.meta.labels.get("controller-revision-hash") == Some("double"));
    assert_eq!((relabelled.count(), cluster.revisions().len()), (7, 1));
}

#[test]
fn a_status_that_could_not_be_written_is_written_later() {
    let mut cluster = Cluster::deployed(&["a"], json!({}));
    let pod = cluster.pod_on("a");
    cluster.phase(&pod, "Running", false);
    cluster.fault = Fault::Refuse;
    cluster.deliver_all();
    assert_eq!(cluster.plan_and_act(), 1);
    assert_eq!(cluster.plan_and_act(), 0, "not at once");
    assert_eq!(cluster.set("daemon").status.number_ready, 1);
    cluster.fault = Fault::None;
    cluster.now = cluster.look_again().unwrap();
    cluster.settle();
    assert_eq!(cluster.set("daemon").status.number_ready, 0);
}

#[test]
fn recreated_pod_of_same_name_is_not_deleted() {
    let mut cluster = Cluster::deployed(&["a"], json!({}));
    let name = cluster.pod_on("a");
    cluster.taint("a", json!([{"key": "evil", "effect": "NoExecute"}]));
    cluster.deliver(Kind::Node, 9);
    let plan = cluster.plan();
    cluster.finish(&name);
    cluster.create_pod(json!({"metadata": {"name": name, "namespace": "default"}, "spec": {}, "status": {}}));
    for action in &plan {
        cluster.act(action);
    }
    assert_eq!(cluster.pods().len(), 1);
}

// ---- work ----

fn work_of(cluster: &mut Cluster, happening: impl FnOnce(&mut Cluster)) -> (u64, u64) {
    cluster.converge();
    let Work {
        pairs_looked_at: pairs,
        actions,
        ..
    } = cluster.fleet.work();
    happening(cluster);
    cluster.settle();
    let after = cluster.fleet.work();
    (after.pairs_looked_at - pairs, after.actions - actions)
}

#[test]
fn the_work_of_an_event_does_not_grow_with_the_fleet() {
    let of_size = |size: usize| {
        let mut cluster = with_nodes(size, Options::default());
        let heartbeat = work_of(&mut cluster, |cluster| {
            cluster.edit_node("node-00003", |node| {
                node["status"]["conditions"] =
                    json!([{"type": "Ready", "status": "True", "lastHeartbeatTime": "2026-01-01T00:00:09Z"}]);
            });
        });
        let deleted = work_of(&mut cluster, |cluster| {
            cluster.delete(&cluster.pod_on("node-00003"))
        });
        let unready = work_of(&mut cluster, |cluster| {
            let name = cluster.pod_on("node-00004");
            cluster.phase(&name, "Running", false);
        });
        let joined = work_of(&mut cluster, |cluster| cluster.add_node("zzz", json!({})));
        let tainted = work_of(&mut cluster, |cluster| {
            cluster.taint("zzz", json!([{"key": "evil", "effect": "NoExecute"}]));
        });
        (heartbeat, deleted, unready, joined, tainted)
    };
    let small = of_size(10);
    assert_eq!(small.0, (0, 0), "a heartbeat is no work at all");
    assert_eq!(small, of_size(200));
}

#[test]
fn rollout_judges_each_node_a_few_times_at_any_size() {
    let looks = |size: usize| {
        let mut cluster = with_nodes(size, Options::default());
        cluster.apply_set(
            "daemon",
            json!({"updateStrategy": {"rollingUpdate": {"maxUnavailable": "10%"}}}),
        );
        let rolled = work_of(&mut cluster, |cluster| {
            cluster.apply_set("daemon", Cluster::image("v2"));
            cluster.converge();
        });
        rolled.0 as f64 / size as f64
    };
    let (small, large) = (looks(20), looks(200));
    assert!(large <= small * 1.2, "{small} looks a node became {large}");
    assert!(large < 12.0, "{large}");
}

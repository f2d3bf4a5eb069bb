//! Updates replace old pods with new ones.

use serde_json::{Value, json};

use super::Cluster;

fn unavailable(count: impl Into<Value>) -> Value {
    let rolling = json!({"maxUnavailable": count.into(), "maxSurge": 0});
    json!({"updateStrategy": {"type": "RollingUpdate", "rollingUpdate": rolling}})
}

fn surge(count: impl Into<Value>) -> Value {
    let rolling = json!({"maxUnavailable": 0, "maxSurge": count.into()});
    json!({"updateStrategy": {"type": "RollingUpdate", "rollingUpdate": rolling}})
}

const FIVE: [&str; 5] = ["a", "b", "c", "d", "e"];

/// Number of pods that terminate, are missing, or are not ready in each round. The machines act
/// between rounds.
fn waves(cluster: &mut Cluster) -> Vec<usize> {
    let mut waves = Vec::new();
    for _ in 0..40 {
        cluster.settle();
        let leaving = cluster.pods().iter().filter(|pod| pod.is_terminating()).count();
        if leaving > 0 {
            waves.push(leaving);
        }
        cluster.machines();
    }
    waves
}

#[test]
fn two_of_five_at_a_time_take_three_waves() {
    let mut cluster = Cluster::deployed(&FIVE, unavailable(2));
    cluster.apply_set("daemon", Cluster::image("v2"));
    assert_eq!(waves(&mut cluster), [2, 2, 1]);
    assert_eq!(
        cluster.picture(),
        "a: v2 ready, b: v2 ready, c: v2 ready, d: v2 ready, e: v2 ready"
    );
}

#[test]
fn percentages_round_up() {
    for (percent, first_wave) in [("1%", 1), ("20%", 1), ("21%", 2), ("50%", 3), ("100%", 5)] {
        let mut cluster = Cluster::deployed(&FIVE, unavailable(percent));
        cluster.apply_set("daemon", Cluster::image("v2"));
        assert_eq!(waves(&mut cluster)[0], first_wave, "{percent}");
    }
}

#[test]
fn nodes_take_their_turns_by_name() {
    let mut cluster = Cluster::deployed(&FIVE, unavailable(1));
    cluster.apply_set("daemon", Cluster::image("v2"));
    let mut order = Vec::new();
    for _ in 0..40 {
        cluster.settle();
        order.extend(
            cluster
                .pods()
                .iter()
                .filter(|pod| pod.is_terminating())
                .filter_map(|pod| pod.node_name.clone()),
        );
        cluster.machines();
    }
    assert_eq!(order, FIVE.map(Into::into));
}

#[test]
fn broken_old_pods_are_deleted_first_without_budget() {
    let mut cluster = Cluster::deployed(&FIVE, unavailable(1));
    for node in ["c", "d", "e"] {
        let pod = cluster.pod_on(node);
        cluster.phase(&pod, "Running", false);
    }
    cluster.apply_set("daemon", Cluster::image("v2"));
    cluster.settle();
    let expected = "a: v1 ready, b: v1 ready, c: v1 terminating, d: v1 terminating, e: v1 terminating";
    assert_eq!(cluster.picture(), expected);
}

#[test]
fn new_pods_that_do_not_get_ready_stall_the_rollout() {
    let mut cluster = Cluster::deployed(&FIVE, unavailable(2));
    cluster.apply_set("daemon", Cluster::image("v2"));
    for _ in 0..5 {
        cluster.settle();
        for pod in cluster.pods() {
            if pod.is_terminating() {
                cluster.finish(&pod.meta.name);
            }
        }
    }
    assert_eq!(
        cluster.picture(),
        "a: v2 unbound, b: v2 unbound, c: v1 ready, d: v1 ready, e: v1 ready"
    );
}

#[test]
fn two_broken_old_pods_are_deleted_before_available_ones() {
    let names: Vec<String> = (0..100).map(|number| format!("node-{number:02}")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let mut cluster = Cluster::deployed(&names, unavailable(2));
    cluster.apply_set(
        "daemon",
        json!({"updateStrategy": {"type": "OnDelete", "rollingUpdate": null}}),
    );
    cluster.apply_set("daemon", Cluster::image("v2"));
    for node in &names[..88] {
        cluster.delete(&cluster.pod_on(node));
    }
    cluster.converge();
    for node in &names[88..90] {
        let pod = cluster.pod_on(node);
        cluster.phase(&pod, "Running", false);
    }
    cluster.apply_set("daemon", unavailable(2));
    cluster.settle();
    let mut leaving: Vec<_> = cluster
        .pods()
        .iter()
        .filter(|pod| pod.is_terminating())
        .filter_map(|pod| pod.node_name.clone())
        .collect();
    leaving.sort();
    assert_eq!(leaving, ["node-88".into(), "node-89".into()]);
}

#[test]
fn pod_counts_only_after_min_ready_seconds() {
    let mut spec = unavailable(1);
    spec["minReadySeconds"] = 15.into();
    let mut cluster = Cluster::deployed(&["a", "b"], spec);
    cluster.apply_set("daemon", Cluster::image("v2"));
    cluster.settle();
    cluster.machines();
    cluster.settle();
    cluster.machines();
    let ready_at = cluster.now;
    cluster.settle();
    assert_eq!(cluster.picture(), "a: v2 ready, b: v1 ready");
    cluster.wait(10);
    cluster.settle();
    assert_eq!(
        cluster.picture(),
        "a: v2 ready, b: v1 ready",
        "10 s are too short"
    );
    assert_eq!(
        cluster
            .fleet
            .plan(cluster.now)
            .look_again
            .unwrap()
            .duration_since(ready_at)
            .as_secs(),
        15
    );
    cluster.wait(10);
    cluster.settle();
    assert_eq!(
        cluster.picture(),
        "a: v2 ready, b: v1 terminating",
        "20 s are enough"
    );
}

#[test]
fn on_delete_replaces_pod_when_a_user_deletes_it() {
    let mut cluster = Cluster::deployed(
        &["a", "b"],
        json!({"updateStrategy": {"type": "OnDelete", "rollingUpdate": null}}),
    );
    cluster.apply_set("daemon", Cluster::image("v2"));
    cluster.converge();
    assert_eq!(cluster.picture(), "a: v1 ready, b: v1 ready");
    assert_eq!(cluster.set("daemon").status.updated_number_scheduled, 0);
    assert_eq!(
        cluster.revisions().len(),
        2,
        "the template is remembered all the same"
    );
    cluster.delete(&cluster.pod_on("b"));
    cluster.converge();
    assert_eq!(cluster.picture(), "a: v1 ready, b: v2 ready");
    cluster.apply_set("daemon", unavailable(1));
    cluster.converge();
    assert_eq!(
        cluster.picture(),
        "a: v2 ready, b: v2 ready",
        "a change to RollingUpdate replaces what is old"
    );
}

#[test]
fn a_change_of_the_strategy_alone_replaces_nothing() {
    let mut cluster = Cluster::deployed(&["a", "b"], unavailable(1));
    cluster.apply_set("daemon", unavailable(2));
    cluster.apply_set("daemon", surge(1));
    cluster.converge();
    assert!(
        cluster.done.iter().all(|done| done.contains("write the status")),
        "{:?}",
        cluster.done
    );
}

#[test]
fn rollback_restarts_only_replaced_pods() {
    let mut cluster = Cluster::deployed(&FIVE, unavailable(1));
    let before: Vec<_> = FIVE.iter().map(|node| cluster.pod_on(node)).collect();
    cluster.apply_set("daemon", Cluster::image("v2"));
    for _ in 0..4 {
        cluster.settle();
        cluster.machines();
    }
    cluster.apply_set("daemon", Cluster::image("v1"));
    cluster.converge();
    let after: Vec<_> = FIVE.iter().map(|node| cluster.pod_on(node)).collect();
    let kept: Vec<_> = before
        .iter()
        .zip(&after)
        .map(|(before, after)| before == after)
        .collect();
    assert_eq!(kept[2..], [true, true, true]);
    assert!(!kept[0]);
    assert_eq!(cluster.revisions().len(), 2);
}

#[test]
fn update_keeps_pod_where_it_could_not_start_again() {
    let mut cluster = Cluster::deployed(&["a", "b"], unavailable(1));
    cluster.taint("a", json!([{"key": "busy", "effect": "NoSchedule"}]));
    cluster.apply_set("daemon", Cluster::image("v2"));
    cluster.converge();
    assert_eq!(cluster.picture(), "a: v1 ready, b: v2 ready");
    cluster.taint("a", json!([]));
    cluster.converge();
    assert_eq!(cluster.picture(), "a: v2 ready, b: v2 ready");
}

#[test]
fn a_surge_brings_the_new_pod_before_the_old_one_goes() {
    let mut cluster = Cluster::deployed(&FIVE, surge(2));
    cluster.apply_set("daemon", Cluster::image("v2"));
    cluster.settle();
    assert_eq!(
        cluster.picture(),
        "a: v1 ready, a: v2 unbound, b: v1 ready, b: v2 unbound, c: v1 ready, d: v1 ready, e: v1 ready"
    );
    for _ in 0..40 {
        cluster.settle();
        let ready = |node: &&&str| {
            cluster
                .pods_on(node)
                .iter()
                .any(|pod| pod.ready.status && !pod.is_terminating())
        };
        assert_eq!(
            FIVE.iter().filter(ready).count(),
            5,
            "every node is served all the time"
        );
        cluster.machines();
    }
    assert_eq!(
        cluster.picture(),
        "a: v2 ready, b: v2 ready, c: v2 ready, d: v2 ready, e: v2 ready"
    );
}

#[test]
fn overtaken_surge_creates_no_third_pod_before_second_ends() {
    let mut spec = surge(1);
    spec["minReadySeconds"] = 10.into();
    let mut cluster = Cluster::deployed(&["a"], spec);
    cluster.wait(20);
    cluster.apply_set("daemon", Cluster::image("v2"));
    cluster.settle();
    cluster.machines();
    cluster.settle();
    assert_eq!(cluster.pods().len(), 2, "{}", cluster.picture());
    cluster.apply_set("daemon", Cluster::image("v3"));
    cluster.deliver_all();
    // The requests of a plan may arrive in any order.
    for _ in 0..10 {
        let plan = cluster.plan();
        let has = |word: &str| plan.iter().any(|action| action.to_string().contains(word));
        assert!(!(has("delete pod") && has("create pod")), "{plan:?}");
        for action in &plan {
            cluster.act(action);
        }
        cluster.deliver_all();
    }
    cluster.converge();
    assert_eq!(cluster.picture(), "a: v3 ready");
}

#[test]
fn surge_waits_for_available_not_only_ready() {
    let mut spec = surge(1);
    spec["minReadySeconds"] = 15.into();
    let mut cluster = Cluster::deployed(&["a"], spec);
    cluster.apply_set("daemon", Cluster::image("v2"));
    cluster.settle();
    cluster.machines();
    cluster.wait(10);
    cluster.settle();
    assert_eq!(cluster.picture(), "a: v1 ready, a: v2 ready");
    cluster.wait(10);
    cluster.settle();
    assert_eq!(cluster.picture(), "a: v1 terminating, a: v2 ready");
}

#[test]
fn broken_old_pods_are_replaced_beyond_the_surge() {
    let mut cluster = Cluster::deployed(&FIVE, surge(3));
    for node in FIVE {
        let pod = cluster.pod_on(node);
        cluster.phase(&pod, "Running", false);
    }
    cluster.settle();
    cluster.apply_set("daemon", Cluster::image("v2"));
    cluster.deliver_all();
    while cluster.plan_and_act() > 0 {}
    assert_eq!(cluster.pods().len(), 10, "{}", cluster.picture());
}

#[test]
fn a_surge_begins_where_the_daemon_is_broken() {
    let mut cluster = Cluster::deployed(&FIVE, surge(2));
    let pod = cluster.pod_on("d");
    cluster.phase(&pod, "Running", false);
    cluster.settle();
    cluster.apply_set("daemon", Cluster::image("v2"));
    cluster.done.clear();
    cluster.settle();
    let created: Vec<_> = cluster
        .done
        .iter()
        .filter_map(|done| done.split_once("for node ").map(|(_, node)| node))
        .collect();
    assert_eq!(created, ["d", "a", "b"]);
}

/// Four nodes, two of them unreachable. The daemon tolerates everything, so it should run on all.
fn half_dead(strategy: Value) -> Cluster {
    let mut spec = strategy;
    spec["template"] = json!({"spec": {"tolerations": [{"operator": "Exists"}]}});
    let mut cluster = Cluster::deployed(&["a", "b", "c", "d"], spec);
    for node in ["a", "b"] {
        let pod = cluster.pod_on(node);
        cluster.phase(&pod, "Running", false);
        let taint = |effect: &str| json!({"key": "node.kubernetes.io/unreachable", "effect": effect});
        cluster.taint(node, json!([taint("NoSchedule"), taint("NoExecute")]));
    }
    cluster.settle();
    cluster
}

#[test]
fn update_skips_unreachable_nodes_and_visits_them_later() {
    for strategy in [unavailable(1), surge(1)] {
        let mut cluster = half_dead(strategy);
        cluster.apply_set("daemon", Cluster::image("v2"));
        cluster.converge();
        assert_eq!(cluster.picture(), "a: v1, b: v1, c: v2 ready, d: v2 ready");
        let status = &cluster.set("daemon").status;
        assert_eq!(
            (status.desired_number_scheduled, status.updated_number_scheduled),
            (4, 2)
        );
        for node in ["a", "b"] {
            cluster.taint(node, json!([]));
        }
        cluster.converge();
        assert_eq!(
            cluster.picture(),
            "a: v2 ready, b: v2 ready, c: v2 ready, d: v2 ready"
        );
    }
}

#[test]
fn node_unreachable_under_new_template_stops_the_update() {
    let mut cluster = half_dead(unavailable(1));
    cluster.apply_set("daemon", Cluster::image("v2"));
    cluster.settle();
    cluster.machines();
    cluster.settle();
    assert_eq!(cluster.picture(), "a: v1, b: v1, c: v2 unbound, d: v1 ready");
    cluster.bind(&cluster.pod_on("c"));
    cluster.taint(
        "c",
        json!([{"key": "node.kubernetes.io/unreachable", "effect": "NoExecute"}]),
    );
    cluster.converge();
    assert_eq!(cluster.picture(), "a: v1, b: v1, c: v2, d: v1 ready");
}

#[test]
fn dead_node_with_untolerated_taint_is_not_desired() {
    let mut cluster = Cluster::deployed(&["a", "b"], unavailable(1));
    let taint = |effect: &str| json!({"key": "node.kubernetes.io/unreachable", "effect": effect});
    cluster.taint("a", json!([taint("NoSchedule"), taint("NoExecute")]));
    cluster.apply_set("daemon", Cluster::image("v2"));
    cluster.converge();
    assert_eq!(cluster.picture(), "a: v1 ready, b: v2 ready");
    let status = &cluster.set("daemon").status;
    assert_eq!(
        (status.desired_number_scheduled, status.number_misscheduled),
        (1, 1)
    );
}

#[test]
fn moving_surge_keeps_old_pods_until_new_ones_serve() {
    let mut cluster = Cluster::deployed(&["a", "b"], surge(1));
    cluster.taint("a", json!([{"key": "busy", "effect": "NoSchedule"}]));
    cluster.settle();
    cluster.apply_set("daemon", Cluster::image("v2"));
    cluster.settle();
    // Two nodes serve and one is desired, so the pod on the other is deleted.
    assert_eq!(cluster.picture(), "a: v1 terminating, b: v1 ready, b: v2 unbound");
    cluster.converge();
    assert_eq!(cluster.picture(), "b: v2 ready");
}

#[test]
fn any_percentage_of_surge_counts_however_few_the_nodes() {
    let mut cluster = Cluster::deployed(&["a"], surge("1%"));
    cluster.apply_set("daemon", Cluster::image("v2"));
    cluster.settle();
    assert_eq!(cluster.picture(), "a: v1 ready, a: v2 unbound");
}

#[test]
fn a_surging_sets_pod_that_keeps_failing_does_not_multiply() {
    let mut cluster = Cluster::deployed(&["a"], surge(1));
    for _ in 0..4 {
        for pod in cluster.pods() {
            cluster.bind(&pod.meta.name);
            cluster.phase(&pod.meta.name, "Failed", false);
        }
        cluster.settle();
        assert!(cluster.pods().len() <= 2, "{}", cluster.picture());
    }
}

#[test]
fn observed_generation_rises_when_older_writes_are_seen() {
    let mut cluster = Cluster::deployed(&["a", "b"], unavailable(1));
    cluster.apply_set("daemon", Cluster::image("v2"));
    cluster.deliver(super::model::Kind::Set, 9);
    // The new revision, then the first deletion, whose effect the watch has not shown yet.
    while cluster.plan_and_act() > 0 {
        cluster.deliver(super::model::Kind::Revision, 9);
        cluster.deliver(super::model::Kind::Set, 9);
    }
    assert_eq!(cluster.set("daemon").status.observed_generation, 2);
    cluster.apply_set("daemon", Cluster::image("v1"));
    cluster.deliver(super::model::Kind::Set, 9);
    while cluster.plan_and_act() > 0 {
        cluster.deliver(super::model::Kind::Revision, 9);
        cluster.deliver(super::model::Kind::Set, 9);
    }
    let status = &cluster.set("daemon").status;
    assert_eq!(
        status.observed_generation, 2,
        "two pods of v1 are to be seen, but one is on its way out"
    );
    cluster.settle();
    assert_eq!(cluster.set("daemon").status.observed_generation, 3);
}

/// The set tolerates the taints of these keys.
fn tolerating(keys: &[&str]) -> Value {
    let tolerations: Vec<_> = keys
        .iter()
        .map(|key| json!({"key": key, "operator": "Exists"}))
        .collect();
    json!({"template": {"spec": {"tolerations": tolerations}}})
}

#[test]
fn a_surging_set_follows_its_tolerations_from_place_to_place() {
    let mut cluster = Cluster::new();
    for (node, taint) in [
        ("y1", "y"),
        ("y2", "y"),
        ("z1", "z"),
        ("z2", "z"),
        ("c1", "common"),
        ("c2", "common"),
    ] {
        cluster.add_node(
            node,
            json!({"spec": {"taints": [{"key": taint, "effect": "NoSchedule"}]}}),
        );
    }
    let active = |cluster: &Cluster| {
        let pods = cluster.pods();
        pods.iter().filter(|pod| !pod.is_terminating()).count()
    };
    let mut step = |keys: &[&str]| {
        let mut spec = surge(1);
        crate::fleet::tests::model::merge(&mut spec, &tolerating(keys));
        cluster.apply_set("daemon", spec);
        cluster.settle();
        let at_once = active(&cluster);
        cluster.converge();
        (at_once, active(&cluster))
    };
    assert_eq!(step(&["y", "common"]), (4, 4));
    assert_eq!(step(&["z", "common"]), (7, 4), "what left serves until others do");
    assert_eq!(step(&["y", "z", "common"]), (7, 6));
    assert_eq!(step(&[]), (0, 0));
}

#[test]
fn change_from_surge_to_in_place_keeps_serving_pods() {
    let mut cluster = Cluster::deployed(&["a", "b", "c"], surge(2));
    cluster.apply_set("daemon", Cluster::image("v2"));
    cluster.settle();
    assert_eq!(cluster.pods().len(), 5);
    cluster.apply_set("daemon", unavailable(1));
    cluster.settle();
    let ready = |cluster: &Cluster| {
        let pods = cluster.pods();
        let serves = |node: &&&str| {
            let mut on_it = pods.iter().filter(|pod| pod.node_name.as_deref() == Some(**node));
            on_it.any(|pod| pod.ready.status && !pod.is_terminating())
        };
        ["a", "b", "c"].iter().filter(serves).count()
    };
    assert!(ready(&cluster) >= 2, "{}", cluster.picture());
    cluster.converge();
    assert_eq!(cluster.picture(), "a: v2 ready, b: v2 ready, c: v2 ready");
}

#[test]
fn a_change_to_on_delete_mid_way_stops_the_update_where_it_is() {
    let mut cluster = Cluster::deployed(&["a", "b", "c"], unavailable(1));
    cluster.apply_set("daemon", Cluster::image("v2"));
    cluster.settle();
    cluster.apply_set(
        "daemon",
        json!({"updateStrategy": {"type": "OnDelete", "rollingUpdate": null}}),
    );
    cluster.converge();
    assert_eq!(cluster.picture(), "a: v2 ready, b: v1 ready, c: v1 ready");
    cluster.apply_set("daemon", unavailable(1));
    cluster.converge();
    assert_eq!(cluster.picture(), "a: v2 ready, b: v2 ready, c: v2 ready");
}

#[test]
fn a_second_update_overtakes_the_first() {
    let mut cluster = Cluster::deployed(&FIVE, unavailable(1));
    cluster.apply_set("daemon", Cluster::image("v2"));
    for _ in 0..4 {
        cluster.settle();
        cluster.machines();
    }
    cluster.apply_set("daemon", Cluster::image("v3"));
    cluster.converge();
    assert_eq!(
        cluster.picture(),
        "a: v3 ready, b: v3 ready, c: v3 ready, d: v3 ready, e: v3 ready"
    );
    let revisions = cluster.revisions();
    let carried = |name: &str| cluster.done.iter().filter(|done| done.contains(name)).count();
    assert_eq!(revisions.len(), 3);
    assert!(
        carried("create pod") < 5 + 5,
        "nodes that v2 never reached went to v3 at once"
    );
}

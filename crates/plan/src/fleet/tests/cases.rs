//! One pod on every node that should have one.

use serde_json::json;

use super::Cluster;
use crate::daemonset::Aim;
use crate::fleet::{Options, Verdict};

#[test]
fn every_node_gets_one_pod_and_the_status_says_so() {
    let cluster = Cluster::deployed(&["a", "b", "c"], json!({}));
    assert_eq!(cluster.picture(), "a: v1 ready, b: v1 ready, c: v1 ready");
    let status = &cluster.set("daemon").status;
    assert_eq!(
        (
            status.desired_number_scheduled,
            status.current_number_scheduled,
            status.number_ready
        ),
        (3, 3, 3)
    );
    assert_eq!((status.number_available, status.updated_number_scheduled), (3, 3));
    assert_eq!(
        (
            status.number_unavailable,
            status.number_misscheduled,
            status.observed_generation
        ),
        (0, 0, 1)
    );
}

#[test]
fn nothing_is_planned_before_all_kinds_are_listed() {
    let mut fleet = crate::fleet::Fleet::new(Default::default());
    let cluster = Cluster::deployed(&["a"], json!({}));
    fleet.daemon_set(crate::fleet::Change::Replace {
        items: vec![cluster.set("daemon")],
        revision: 9,
    });
    fleet.node(crate::fleet::Change::Replace {
        items: cluster.nodes(),
        revision: 9,
    });
    fleet.revision(crate::fleet::Change::Replace {
        items: cluster.revisions(),
        revision: 9,
    });
    assert_eq!(
        fleet.plan(cluster.now).actions,
        vec![],
        "the pods are not known yet"
    );
}

#[test]
fn a_set_without_nodes_has_a_status_of_nothing() {
    let cluster = Cluster::deployed(&[], json!({}));
    assert_eq!(cluster.set("daemon").status.observed_generation, 1);
    assert_eq!(cluster.picture(), "");
}

#[test]
fn a_node_that_joins_gets_its_pod() {
    let mut cluster = Cluster::deployed(&["a"], json!({}));
    cluster.add_node("b", json!({}));
    cluster.converge();
    assert_eq!(cluster.picture(), "a: v1 ready, b: v1 ready");
}

#[test]
fn cordoned_and_unready_nodes_get_pods_too() {
    let taint = |key: &str| json!([{"key": key, "effect": "NoSchedule"}]);
    let mut cluster = Cluster::new();
    cluster.add_node(
        "cordoned",
        json!({"spec": {"unschedulable": true, "taints": taint("node.kubernetes.io/unschedulable")}}),
    );
    cluster.add_node(
        "pressed",
        json!({"spec": {"taints": taint("node.kubernetes.io/disk-pressure")}}),
    );
    cluster.add_node(
        "dead",
        json!({"spec": {"taints": [{"key": "node.kubernetes.io/unreachable", "effect": "NoExecute"}]}}),
    );
    cluster.apply_set("daemon", json!({}));
    cluster.converge();
    assert_eq!(
        cluster.picture(),
        "cordoned: v1 ready, dead: v1, pressed: v1 ready"
    );
}

#[test]
fn every_condition_of_a_node_that_repels_pods_is_put_up_with() {
    let mut cluster = Cluster::new();
    for (node, key, effect) in [
        ("a", "not-ready", "NoExecute"),
        ("b", "unreachable", "NoExecute"),
        ("c", "disk-pressure", "NoSchedule"),
        ("d", "memory-pressure", "NoSchedule"),
        ("e", "pid-pressure", "NoSchedule"),
        ("f", "unschedulable", "NoSchedule"),
    ] {
        let taint = json!({"key": format!("node.kubernetes.io/{key}"), "effect": effect});
        cluster.add_node(node, json!({"spec": {"taints": [taint]}}));
    }
    cluster.apply_set("daemon", json!({}));
    cluster.settle();
    assert_eq!(cluster.set("daemon").status.current_number_scheduled, 6);
}

#[test]
fn affinity_terms_are_alternatives_over_labels_or_names() {
    let labelled = json!({"matchExpressions": [{"key": "zone", "operator": "In", "values": ["eu"]}]});
    let named = json!({"matchFields": [{"key": "metadata.name", "operator": "In", "values": ["f"]}]});
    let required = json!({"nodeSelectorTerms": [labelled, named]});
    let affinity = json!({"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": required}});
    let mut cluster = Cluster::new();
    for (node, zone) in [
        ("a", "eu"),
        ("b", "us"),
        ("c", "eu"),
        ("d", "us"),
        ("e", "us"),
        ("f", "us"),
    ] {
        cluster.add_node(node, json!({"metadata": {"labels": {"zone": zone}}}));
    }
    cluster.apply_set("daemon", json!({"template": {"spec": {"affinity": affinity}}}));
    cluster.converge();
    assert_eq!(cluster.picture(), "a: v1 ready, c: v1 ready, f: v1 ready");
}

#[test]
fn pod_without_room_waits_and_other_nodes_get_theirs() {
    let mut cluster = Cluster::new();
    for node in ["full", "roomy"] {
        cluster.add_node(node, json!({}));
    }
    cluster.apply_set("daemon", json!({}));
    cluster.settle();
    let (waits, runs) = (cluster.pod_on("full"), cluster.pod_on("roomy"));
    cluster.edit_pod(&waits, |pod| {
        pod["status"]["conditions"] = json!([{"type": "PodScheduled", "status": "False",
            "reason": "Unschedulable", "message": "Insufficient memory"}]);
    });
    cluster.bind(&runs);
    cluster.phase(&runs, "Running", true);
    cluster.settle();
    assert_eq!(cluster.picture(), "full: v1 unbound, roomy: v1 ready");
    let status = &cluster.set("daemon").status;
    assert_eq!(
        (status.current_number_scheduled, status.number_unavailable),
        (2, 1)
    );
    assert_eq!(cluster.pod_on("full"), waits, "it is not made again and again");
}

#[test]
fn where_the_network_is_down_only_pods_on_the_hosts_network_run() {
    let network_down = json!({"spec": {"taints": [
        {"key": "node.kubernetes.io/network-unavailable", "effect": "NoSchedule"},
    ]}});
    for (host_network, picture) in [(false, ""), (true, "a: v1 ready")] {
        let mut cluster = Cluster::new();
        cluster.add_node("a", network_down.clone());
        cluster.apply_set(
            "daemon",
            json!({"template": {"spec": {"hostNetwork": host_network}}}),
        );
        cluster.converge();
        assert_eq!(cluster.picture(), picture);
    }
}

#[test]
fn no_schedule_keeps_what_runs_and_no_execute_removes_it() {
    let mut cluster = Cluster::deployed(&["a", "b"], json!({}));
    cluster.taint("a", json!([{"key": "busy", "effect": "NoSchedule"}]));
    cluster.taint("b", json!([{"key": "evil", "effect": "NoExecute"}]));
    cluster.converge();
    assert_eq!(cluster.picture(), "a: v1 ready");
    let status = &cluster.set("daemon").status;
    assert_eq!(
        (status.desired_number_scheduled, status.number_misscheduled),
        (0, 1)
    );

    cluster.delete(&cluster.pod_on("a"));
    cluster.converge();
    assert_eq!(
        cluster.picture(),
        "",
        "what is gone from a tainted node does not come back"
    );

    cluster.taint("a", json!([]));
    cluster.taint("b", json!([]));
    cluster.converge();
    assert_eq!(cluster.picture(), "a: v1 ready, b: v1 ready");
}

#[test]
fn a_node_whose_labels_no_longer_match_loses_its_pod() {
    let spec = json!({"template": {"spec": {"nodeSelector": {"kubernetes.io/hostname": "a"}}}});
    let mut cluster = Cluster::deployed(&["a", "b"], spec);
    assert_eq!(cluster.picture(), "a: v1 ready");
    cluster.edit_node("a", |node| {
        node["metadata"]["labels"]["kubernetes.io/hostname"] = "z".into()
    });
    cluster.edit_node("b", |node| {
        node["metadata"]["labels"]["kubernetes.io/hostname"] = "a".into()
    });
    cluster.converge();
    assert_eq!(cluster.picture(), "b: v1 ready");
}

#[test]
fn a_deleted_pod_comes_back_under_another_name_once_it_is_gone() {
    let mut cluster = Cluster::deployed(&["a"], json!({}));
    let old = cluster.pod_on("a");
    cluster.delete(&old);
    cluster.settle();
    assert_eq!(
        cluster.picture(),
        "a: v1 terminating",
        "not before the old one has ended"
    );
    assert_eq!(
        cluster.set("daemon").status.current_number_scheduled,
        1,
        "until then it counts"
    );
    cluster.finish(&old);
    cluster.settle();
    assert_eq!(cluster.picture(), "a: v1 unbound");
    assert_ne!(
        cluster.pod_on("a"),
        old,
        "who waits for the old name to vanish sees it vanish"
    );
}

#[test]
fn ended_pod_with_finalizer_does_not_block_its_successor() {
    let mut cluster = Cluster::deployed(&["a"], json!({}));
    let old = cluster.pod_on("a");
    cluster.edit_pod(&old, |pod| {
        pod["metadata"]["finalizers"] = json!(["example.com/wait"])
    });
    cluster.phase(&old, "Succeeded", false);
    cluster.settle();
    assert_eq!(cluster.picture(), "a: v1 terminating, a: v1 unbound");
    assert_eq!(cluster.events[0].reason, "SucceededDaemonPod");
}

#[test]
fn failed_pods_back_off_and_succeeded_ones_do_not() {
    let mut cluster = Cluster::deployed(&["a"], json!({}));
    let mut waited = Vec::new();
    for _ in 0..5 {
        cluster.settle();
        let name = cluster.pod_on("a");
        cluster.bind(&name);
        cluster.phase(&name, "Failed", false);
        let failed_at = cluster.now;
        cluster.settle();
        while cluster.picture().contains("failed") {
            cluster.now = cluster
                .fleet
                .plan(cluster.now)
                .look_again
                .expect("it is looked at again");
            cluster.settle();
        }
        waited.push(cluster.now.duration_since(failed_at).as_secs());
    }
    assert_eq!(waited, [0, 1, 2, 4, 8]);
    let found: Vec<_> = cluster
        .events
        .iter()
        .filter(|event| event.reason == "FailedDaemonPod")
        .collect();
    assert_eq!(found.len(), 5);
    assert!(found[0].warning);
    assert!(
        found[0]
            .message
            .starts_with("Found failed daemon pod default/daemon-")
    );
    assert!(found[0].message.ends_with(" on node a, will try to kill it"));

    for _ in 0..3 {
        cluster.settle();
        let name = cluster.pod_on("a");
        cluster.bind(&name);
        cluster.phase(&name, "Succeeded", false);
        cluster.settle();
        assert_eq!(
            cluster.picture(),
            "a: v1 unbound",
            "an end without failure is not punished"
        );
    }
    let found: Vec<_> = cluster
        .events
        .iter()
        .filter(|event| event.reason == "SucceededDaemonPod")
        .collect();
    assert_eq!(found.len(), 3);
    assert!(!found[0].warning);
    assert!(
        found[0]
            .message
            .starts_with("Found succeeded daemon pod default/daemon-")
    );
    assert!(found[0].message.ends_with(" on node a, will try to delete it"));
}

#[test]
fn a_changed_set_does_not_wait_for_the_failures_of_the_old_one() {
    let mut cluster = Cluster::deployed(&["a"], json!({}));
    for _ in 0..3 {
        cluster.settle();
        let name = cluster.pod_on("a");
        cluster.bind(&name);
        cluster.phase(&name, "Failed", false);
        cluster.wait(4);
    }
    cluster.settle();
    cluster.apply_set("daemon", Cluster::image("v2"));
    cluster.settle();
    assert_eq!(cluster.picture(), "a: v2 unbound");
}

#[test]
fn of_several_pods_the_senior_one_stays() {
    let mut cluster = Cluster::deployed(&["a"], json!({}));
    let senior = cluster.pod_on("a");
    let owner = json!([{"apiVersion": "apps/v1", "kind": "DaemonSet", "name": "daemon",
        "uid": &*cluster.set("daemon").meta.uid, "controller": true}]);
    cluster.wait(5);
    for name in ["junior", "unbound"] {
        let node = if name == "junior" { json!("a") } else { json!(null) };
        let pinned = json!([{"matchFields": [{"key": "metadata.name", "operator": "In", "values": ["a"]}]}]);
        cluster.create_pod(json!({
            "metadata": {"name": name, "namespace": "default", "labels": {"app": "daemon"}, "ownerReferences": owner},
            "spec": {"nodeName": node, "affinity": {"nodeAffinity":
                {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": pinned}}}},
            "status": {},
        }));
    }
    cluster.converge();
    assert_eq!(cluster.pod_on("a"), senior);
}

#[test]
fn collector_gets_bound_pods_of_deleted_node_we_unbound_ones() {
    let mut cluster = Cluster::deployed(&["a", "b"], json!({}));
    cluster.add_node("c", json!({}));
    cluster.settle();
    cluster.remove_node("a");
    cluster.remove_node("c");
    cluster.settle();
    assert_eq!(cluster.picture(), "a: v1 ready, b: v1 ready");
    assert_eq!(cluster.set("daemon").status.desired_number_scheduled, 1);
}

#[test]
fn a_node_that_returns_gets_the_template_that_stands_then() {
    let mut cluster = Cluster::deployed(&["a", "b"], json!({}));
    cluster.remove_node("a");
    cluster.converge();
    cluster.apply_set("daemon", Cluster::image("v2"));
    cluster.converge();
    cluster.add_node("a", json!({}));
    cluster.converge();
    assert_eq!(cluster.picture(), "a: v2 ready, b: v2 ready");
}

#[test]
fn nothing_is_done_for_a_set_that_is_being_deleted() {
    let mut cluster = Cluster::deployed(&["a"], json!({}));
    let now = cluster.now.to_string();
    cluster.edit_set("daemon", |set| set["metadata"]["deletionTimestamp"] = now.into());
    cluster.delete(&cluster.pod_on("a"));
    cluster.machines();
    cluster.add_node("b", json!({}));
    cluster.settle();
    assert_eq!(cluster.done, Vec::<String>::new());
    let explanation = cluster.fleet.explain("default", "daemon", cluster.now).unwrap();
    assert_eq!(explanation.halted, Some("it is being deleted"));
}

#[test]
fn a_set_that_selects_everything_does_nothing_and_says_so() {
    let mut cluster = Cluster::new();
    cluster.add_node("a", json!({}));
    cluster.apply_set("daemon", json!({"selector": null}));
    cluster.edit_set("daemon", |set| set["spec"]["selector"] = json!({}));
    cluster.settle();
    cluster.settle();
    assert_eq!(cluster.done, Vec::<String>::new());
    let said: Vec<_> = cluster
        .events
        .iter()
        .map(|event| (event.reason, event.message.as_str()))
        .collect();
    let text = "This daemon set is selecting all pods. A non-empty selector is required.";
    assert_eq!(said, [("SelectingAll", text)]);
}

#[test]
fn a_deleted_set_leaves_its_pods_to_the_collector() {
    let mut cluster = Cluster::deployed(&["a"], json!({}));
    cluster.remove_set("daemon");
    cluster.settle();
    assert_eq!(cluster.done, Vec::<String>::new());
    assert!(!cluster.set_exists("daemon"));
    assert!(cluster.fleet.explain("default", "daemon", cluster.now).is_none());
}

#[test]
fn creations_and_deletions_are_told_as_events() {
    let mut cluster = Cluster::deployed(&["a"], json!({}));
    let old = cluster.pod_on("a");
    cluster.taint("a", json!([{"key": "evil", "effect": "NoExecute"}]));
    cluster.converge();
    cluster.taint("a", json!([]));
    cluster.converge();
    let said: Vec<_> = cluster
        .events
        .iter()
        .map(|event| format!("{} {}", event.reason, event.message))
        .collect();
    let new = cluster.pod_on("a");
    assert_eq!(
        said,
        [
            format!("SuccessfulDelete Deleted pod: {old}"),
            format!("SuccessfulCreate Created pod: {new}")
        ]
    );
}

// ---- without a scheduler ----

fn bound_from_the_start() -> Options {
    Options {
        aim: Aim::NodeName,
        ..Options::default()
    }
}

#[test]
fn without_scheduler_pods_get_node_names_even_if_cordoned() {
    let mut cluster = Cluster::with_options(bound_from_the_start());
    let cordoned = json!({"key": "node.kubernetes.io/unschedulable", "effect": "NoSchedule"});
    cluster.add_node("a", json!({}));
    cluster.add_node(
        "b",
        json!({"spec": {"unschedulable": true, "taints": [cordoned]}}),
    );
    cluster.apply_set("daemon", json!({}));
    cluster.settle();
    assert_eq!(
        cluster.picture(),
        "a: v1, b: v1",
        "bound, though there is nobody who binds"
    );
    cluster.converge();
    assert_eq!(cluster.set("daemon").status.number_available, 2);
}

#[test]
fn unbound_pods_are_recreated_when_scheduler_is_disabled() {
    let mut cluster = Cluster::new();
    cluster.add_node("a", json!({}));
    cluster.apply_set("daemon", json!({}));
    cluster.settle();
    assert_eq!(cluster.picture(), "a: v1 unbound");
    cluster.restart_with(bound_from_the_start());
    cluster.settle();
    assert_eq!(cluster.picture(), "a: v1");
}

#[test]
fn each_node_explains_itself() {
    let mut cluster = Cluster::deployed(&["a", "b", "c", "d"], json!({"minReadySeconds": 10}));
    cluster.taint(
        "a",
        json!([{"key": "gpu", "value": "true", "effect": "NoSchedule"}]),
    );
    cluster.add_node(
        "z",
        json!({"spec": {"taints": [{"key": "gpu", "value": "true", "effect": "NoSchedule"}]}}),
    );
    cluster.delete(&cluster.pod_on("b"));
    let pod = cluster.pod_on("c");
    cluster.phase(&pod, "Running", false);
    let pod = cluster.pod_on("d");
    cluster.phase(&pod, "Running", false);
    cluster.wait(1);
    cluster.phase(&pod, "Running", true);
    cluster.settle();
    let explanation = cluster.fleet.explain("default", "daemon", cluster.now).unwrap();
    let said: Vec<_> = explanation
        .decisions
        .iter()
        .map(|decision| format!("{}: {}", decision.node, decision.verdict))
        .collect();
    assert_eq!(
        said,
        [
            "a: running, but a new pod could not start here: taint gpu=true:NoSchedule is not tolerated",
            "b: waiting for the old pod to end",
            "c: not ready",
            "d: ready, available at 2026-01-01T00:00:21Z",
            "z: not here: taint gpu=true:NoSchedule is not tolerated",
        ]
    );
    assert!(matches!(explanation.decisions[2].verdict, Verdict::NotReady));
}

// ---- adoption ----

fn orphan(name: &str, node: &str, labels: serde_json::Value) -> serde_json::Value {
    json!({
        "metadata": {"name": name, "namespace": "default", "labels": labels},
        "spec": {"nodeName": node, "containers": [{"name": "main", "image": "v0"}]},
        "status": {"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}]},
    })
}

#[test]
fn matching_orphan_is_adopted_and_updated_like_an_old_pod() {
    let mut cluster = Cluster::new();
    cluster.add_node("a", json!({}));
    cluster.create_pod(orphan("found", "a", json!({"app": "daemon"})));
    cluster.create_pod(orphan("other", "a", json!({"app": "else"})));
    cluster.apply_set("daemon", json!({"updateStrategy": {"type": "OnDelete"}}));
    cluster.settle();
    assert_eq!(
        cluster.picture(),
        "a: v0 ready, a: v0 ready",
        "no second pod is made beside the orphan"
    );
    let adopted = cluster
        .done
        .iter()
        .position(|done| done.ends_with("adopt pod found"));
    let confirmed = cluster
        .done
        .iter()
        .position(|done| done.contains("check whether it still exists"));
    assert!(confirmed.is_some() && confirmed < adopted, "{:?}", cluster.done);
    assert!(!cluster.done.iter().any(|done| done.contains("other")));

    let rolling = json!({"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": 1, "maxSurge": 0}});
    cluster.apply_set("daemon", json!({"updateStrategy": rolling}));
    cluster.converge();
    assert_eq!(cluster.picture(), "a: v0 ready, a: v1 ready");
}

#[test]
fn deleted_set_adopts_nothing_even_if_watch_is_late() {
    let mut cluster = Cluster::deployed(&["a"], json!({}));
    cluster.create_pod(orphan("found", "b", json!({"app": "daemon"})));
    let now = cluster.now.to_string();
    cluster.edit_set("daemon", |set| set["metadata"]["deletionTimestamp"] = now.into());
    cluster.deliver(super::model::Kind::Pod, 9);
    while cluster.plan_and_act() > 0 {}
    assert_eq!(
        cluster.done,
        ["DaemonSet default/daemon: check whether it still exists before adopting"]
    );
}

#[test]
fn neither_terminating_pods_nor_those_of_others_are_adopted() {
    let mut cluster = Cluster::deployed(&["a"], json!({}));
    let mut terminating = orphan("terminating", "b", json!({"app": "daemon"}));
    terminating["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z".into();
    cluster.create_pod(terminating);
    let mut of_another = orphan("of-another", "b", json!({"app": "daemon"}));
    of_another["metadata"]["ownerReferences"] =
        json!([{"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "x", "uid": "x", "controller": true}]);
    cluster.create_pod(of_another);
    let mut elsewhere = orphan("elsewhere", "b", json!({"app": "daemon"}));
    elsewhere["metadata"]["namespace"] = "kube-system".into();
    cluster.create_pod(elsewhere);
    cluster.settle();
    assert_eq!(cluster.done, Vec::<String>::new());
}

#[test]
fn what_lies_in_another_namespace_is_not_its_business() {
    let mut cluster = Cluster::new();
    cluster.add_node("a", json!({}));
    let mut stray = orphan("stray", "a", json!({"app": "daemon"}));
    stray["metadata"]["namespace"] = "other".into();
    cluster.create_pod(stray);
    cluster.create_revision(json!({
        "metadata": {"name": "stray", "namespace": "other", "labels": {"app": "daemon"}},
        "data": {"spec": {"template": {}}}, "revision": 9,
    }));
    cluster.apply_set("daemon", json!({}));
    cluster.converge();
    assert!(
        cluster.done.iter().all(|done| !done.contains("stray")),
        "{:?}",
        cluster.done
    );
    assert_eq!(cluster.revisions()[0].revision, 1, "its own history begins at 1");
}

#[test]
fn a_pod_whose_labels_no_longer_match_is_released_and_replaced() {
    let mut cluster = Cluster::deployed(&["a"], json!({}));
    let old = cluster.pod_on("a");
    cluster.edit_pod(&old, |pod| pod["metadata"]["labels"]["app"] = "debug".into());
    cluster.converge();
    let pods = cluster.pods_on("a");
    assert_eq!(pods.len(), 2, "{}", cluster.picture());
    let released = pods.iter().find(|pod| *pod.meta.name == *old).unwrap();
    assert!(released.meta.controller().is_none());
}

// ---- history ----

fn revisions(cluster: &Cluster) -> Vec<(i64, String)> {
    let image = |data: &serde_json::Value| {
        data["spec"]["template"]["spec"]["containers"][0]["image"]
            .as_str()
            .unwrap_or_default()
            .to_owned()
    };
    cluster
        .revisions()
        .iter()
        .map(|revision| (revision.revision, image(&revision.data)))
        .collect()
}

#[test]
fn each_template_is_remembered_and_a_return_to_one_renumbers_it() {
    let mut cluster = Cluster::deployed(&["a"], json!({}));
    for version in ["v2", "v3"] {
        cluster.apply_set("daemon", Cluster::image(version));
        cluster.converge();
    }
    let pairs = |expected: &[(i64, &str)]| {
        expected
            .iter()
            .map(|(n, v)| (*n, (*v).to_owned()))
            .collect::<Vec<_>>()
    };
    assert_eq!(revisions(&cluster), pairs(&[(1, "v1"), (2, "v2"), (3, "v3")]));
    cluster.apply_set("daemon", Cluster::image("v1"));
    cluster.converge();
    assert_eq!(revisions(&cluster), pairs(&[(2, "v2"), (3, "v3"), (4, "v1")]));
}

#[test]
fn a_revision_copies_the_sets_annotations_and_is_owned_by_it() {
    let mut cluster = Cluster::new();
    cluster.apply_set("daemon", json!({}));
    cluster.edit_set("daemon", |set| {
        set["metadata"]["annotations"]["kubernetes.io/change-cause"] = "because".into()
    });
    cluster.converge();
    let revision = &cluster.revisions()[0];
    assert_eq!(revision.meta.controller().unwrap().name, "daemon".into());
    let hash = revision.meta.labels.get("controller-revision-hash").unwrap();
    assert_eq!(*revision.meta.name, *format!("daemon-{hash}"));
    assert_eq!(revision.meta.labels.get("app"), Some("daemon"));
}

#[test]
fn old_revisions_beyond_limit_are_deleted_unless_in_use() {
    let mut cluster = Cluster::deployed(
        &["a", "b"],
        json!({"revisionHistoryLimit": 1, "updateStrategy": {"type": "OnDelete", "rollingUpdate": null}}),
    );
    for version in ["v2", "v3", "v4"] {
        cluster.apply_set("daemon", Cluster::image(version));
        cluster.converge();
    }
    let versions = |cluster: &Cluster| {
        revisions(cluster)
            .into_iter()
            .map(|(_, image)| image)
            .collect::<Vec<_>>()
    };
    assert_eq!(
        versions(&cluster),
        ["v1", "v4"],
        "v1 runs; of the others, as many as the limit leaves"
    );
    for node in ["a", "b"] {
        cluster.delete(&cluster.pod_on(node));
    }
    cluster.converge();
    assert_eq!(versions(&cluster), ["v1", "v4"]);
    cluster.apply_set("daemon", json!({"revisionHistoryLimit": 0}));
    cluster.converge();
    assert_eq!(versions(&cluster), ["v4"], "the current one never counts");
}

#[test]
fn a_name_taken_by_another_template_raises_the_collision_count() {
    let mut cluster = Cluster::new();
    cluster.apply_set("daemon", json!({}));
    let view = cluster.set("daemon");
    let name = crate::history::revision_name(
        &view,
        &crate::history::hash(&crate::history::data(&view.template), None),
    );
    cluster.create_revision(json!({
        "metadata": {"name": name, "namespace": "default"}, "data": {"spec": {"template": {}}}, "revision": 1,
    }));
    cluster.add_node("a", json!({}));
    cluster.converge();
    assert_eq!(cluster.set("daemon").status.collision_count, Some(1));
    assert_eq!(cluster.picture(), "a: v1 ready");
    assert_eq!(cluster.revisions().len(), 2);
}

#[test]
fn duplicate_revisions_merge_and_pods_are_relabelled() {
    let mut cluster = Cluster::deployed(&["a", "b"], json!({}));
    let before: Vec<_> = cluster.pods().iter().map(|pod| pod.meta.uid.clone()).collect();
    let first = cluster.revisions()[0].clone();
    let owner = first.meta.controller().unwrap();
    cluster.create_revision(json!({
        "metadata": {
            "name": "daemon-double", "namespace": "default",
            "labels": {"app": "daemon", "controller-revision-hash": "double"},
            "ownerReferences": [{"apiVersion": "apps/v1", "kind": "DaemonSet", "name": "daemon",
                "uid": &*owner.uid, "controller": true}],
        },
        "data": &*first.data,
        "revision": 7,
    }));
    cluster.settle();
    assert_eq!(
        cluster.done,
        Vec::<String>::new(),
        "a new revision alone wakes nobody"
    );
    cluster.restart();
    cluster.converge();
    assert_eq!(cluster.revisions().len(), 1);
    assert_eq!(&*cluster.revisions()[0].meta.name, "daemon-double");
    for pod in cluster.pods() {
        assert_eq!(pod.meta.labels.get("controller-revision-hash"), Some("double"));
    }
    let after: Vec<_> = cluster.pods().iter().map(|pod| pod.meta.uid.clone()).collect();
    assert_eq!(before, after, "no pod was restarted for it");
}

/// Deletes the set as `--cascade=orphan` does.
fn delete_with_orphaning(cluster: &mut Cluster) {
    for pod in cluster.pods() {
        cluster.edit_pod(&pod.meta.name, |pod| {
            pod["metadata"]["ownerReferences"] = json!([])
        });
    }
    cluster.orphan_revisions();
    cluster.remove_set("daemon");
    cluster.settle();
}

#[test]
fn orphans_of_another_template_are_replaced_despite_generation() {
    let mut cluster = Cluster::deployed(&["a", "b", "c"], json!({}));
    delete_with_orphaning(&mut cluster);
    cluster.done.clear();
    cluster.wait(1);
    cluster.apply_set("daemon", Cluster::image("v2"));
    assert_eq!(cluster.set("daemon").template_generation(), Some(1));
    cluster.converge();
    assert_eq!(cluster.picture(), "a: v2 ready, b: v2 ready, c: v2 ready");
    let adopted = cluster
        .done
        .iter()
        .filter(|done| done.contains("adopt pod"))
        .count();
    assert_eq!(adopted, 3, "{:?}", cluster.done);
}

#[test]
fn recreated_set_adopts_orphaned_pods_and_history() {
    let mut cluster = Cluster::deployed(&["a", "b"], json!({}));
    let before: Vec<_> = cluster.pods().iter().map(|pod| pod.meta.uid.clone()).collect();
    delete_with_orphaning(&mut cluster);
    cluster.apply_set("daemon", json!({}));
    cluster.converge();
    let after: Vec<_> = cluster.pods().iter().map(|pod| pod.meta.uid.clone()).collect();
    assert_eq!(before, after, "what fits is not restarted");
    assert_eq!(cluster.revisions().len(), 1);
    let uid = &cluster.set("daemon").meta.uid;
    assert!(
        cluster
            .pods()
            .iter()
            .all(|pod| &pod.meta.controller().unwrap().uid == uid)
    );
}

#[test]
fn a_template_that_is_recorded_in_other_bytes_restarts_nothing() {
    let mut cluster = Cluster::deployed(&["a", "b"], json!({}));
    let before: Vec<_> = cluster.pods().iter().map(|pod| pod.meta.uid.clone()).collect();
    // A newer server adds a default that the older one did not have. No user changed the template,
    // so its number stays.
    cluster.edit_set("daemon", |set| {
        set["spec"]["template"]["spec"]["aDefaultOfTomorrow"] = true.into();
    });
    cluster.wait(60);
    cluster.converge();
    let after: Vec<_> = cluster.pods().iter().map(|pod| pod.meta.uid.clone()).collect();
    assert_eq!(before, after);
    assert_eq!(cluster.set("daemon").status.updated_number_scheduled, 2);
}

#[test]
fn a_surge_goes_on_beside_a_pod_of_a_node_that_is_not_known() {
    let surge = json!({"updateStrategy": {"rollingUpdate": {"maxUnavailable": 0, "maxSurge": 1}}});
    let mut cluster = Cluster::deployed(&["a", "b"], surge);
    let left = cluster.pods_on("b")[0].meta.name.clone();
    cluster.remove_node("b");
    cluster.deliver_all();
    cluster.apply_set("daemon", Cluster::image("v2"));
    // Until the garbage collector deletes it.
    for _ in 0..30 {
        cluster.plan_and_act();
        cluster.deliver_all();
        cluster.machines();
        cluster.wait(1);
    }
    assert!(
        cluster.picture().starts_with("a: v2 ready"),
        "{}",
        cluster.picture()
    );
    assert!(
        cluster
            .done
            .iter()
            .all(|done| !done.contains(&format!("delete pod {left}")))
    );
}

#[test]
fn a_surge_is_not_held_up_where_its_new_pod_can_never_start() {
    let surge = json!({"updateStrategy": {"rollingUpdate": {"maxUnavailable": 0, "maxSurge": 1}}});
    let mut cluster = Cluster::deployed(&["a", "b"], surge);
    cluster.apply_set("daemon", Cluster::image("v2"));
    cluster.deliver_all();
    cluster.settle();
    let waiting = cluster.pods_on("a").iter().any(|pod| pod.node_name.is_none());
    assert!(waiting, "{}", cluster.picture());
    cluster.taint("a", json!([{"key": "evil", "effect": "NoSchedule"}]));
    cluster.converge();
    // The pod on the tainted node is deleted, because enough others serve.
    assert_eq!(cluster.picture(), "b: v2 ready");
}

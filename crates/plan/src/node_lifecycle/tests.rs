//! One case for each rule.

use std::collections::BTreeMap;

use proptest::prelude::*;
use serde_json::json;

use super::*;

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_second(1_000_000 + seconds).expect("a time")
}

fn node_of(ready: Option<&str>, change: impl FnOnce(&mut Value)) -> Arc<NodeView> {
    let mut node = json!({
        "metadata": {"name": "n", "uid": "uid-n", "resourceVersion": "7", "creationTimestamp": at(0).to_string()},
        "spec": {}, "status": {"conditions": []},
    });
    if let Some(status) = ready {
        let kinds = [
            ("Ready", status),
            ("MemoryPressure", "False"),
            ("DiskPressure", "False"),
            ("PIDPressure", "False"),
        ];
        node["status"]["conditions"] = kinds
            .iter()
            .map(|(kind, status)| json!({"type": kind, "status": status}))
            .collect();
    }
    change(&mut node);
    Arc::new(serde_json::from_value(node).expect("a node"))
}

fn pod_of(change: impl FnOnce(&mut Value)) -> Arc<PodView> {
    let mut pod = json!({
        "metadata": {"name": "p", "namespace": "default", "uid": "uid-p"},
        "spec": {"nodeName": "n"},
        "status": {"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}]},
    });
    change(&mut pod);
    Arc::new(serde_json::from_value(pod).expect("a pod"))
}

fn lease(renewed: i64) -> LeaseView {
    serde_json::from_value(json!({
        "metadata": {"name": "n", "namespace": LEASE_NAMESPACE}, "spec": {"renewTime": at(renewed).to_string()},
    }))
    .expect("a lease")
}

fn named(name: &str, ready: Option<&str>, change: impl FnOnce(&mut Value)) -> Arc<NodeView> {
    node_of(ready, |node| {
        node["metadata"]["name"] = name.into();
        node["metadata"]["uid"] = format!("uid-{name}").into();
        change(node);
    })
}

fn listening() -> Nodes {
    let mut nodes = Nodes::new(Limits {
        deaf_after: Duration::from_secs(3600),
        ..Limits::default()
    });
    nodes.plan(at(-60), 100);
    nodes
}

/// Nodes with reports since second 0: a ready node with a pod, and another one without further
/// reports or deadlines for hours.
fn settled() -> Nodes {
    let mut nodes = listening();
    nodes.put_node(&named("other", Some("True"), |_| {}), at(20_000));
    nodes.put_node(&node_of(Some("True"), |_| {}), at(0));
    nodes.put_pod(&pod_of(|_| {}), at(0));
    let registered = |name: &str| Action::RecordEvent {
        node: name.into(),
        uid: format!("uid-{name}").into(),
        event: NodeEvent::Registered,
    };
    assert_eq!(nodes.plan(at(0), 100), vec![registered("other"), registered("n")]);
    assert_eq!(nodes.plan(at(0), 100), vec![]);
    nodes
}

fn key() -> PodKey {
    PodKey {
        namespace: "default".into(),
        name: "p".into(),
    }
}

fn taints(actions: &[Action]) -> Option<Vec<String>> {
    actions.iter().find_map(|a| match a {
        Action::SetTaints { taints, .. } => Some(taints.iter().map(|t| t.to_string()).collect()),
        _ => None,
    })
}

#[test]
fn a_node_silent_for_the_grace_period_becomes_unknown() {
    let mut nodes = settled();
    assert_eq!(nodes.next_look(), Some(at(50)));
    assert_eq!(nodes.plan(at(49), 100), vec![]);
    let actions = nodes.plan(at(50), 100);
    let [Action::SetConditions { conditions, .. }] = actions.as_slice() else {
        panic!("{actions:?}")
    };
    let said: Vec<_> = conditions
        .iter()
        .map(|c| (c["type"].as_str(), c["status"].as_str(), c["reason"].as_str()))
        .collect();
    let unknown = |kind| (Some(kind), Some("Unknown"), Some("NodeStatusUnknown"));
    assert_eq!(
        said,
        [
            unknown("Ready"),
            unknown("MemoryPressure"),
            unknown("DiskPressure"),
            unknown("PIDPressure")
        ]
    );
    assert_eq!(conditions[0]["message"], "Kubelet stopped posting node status.");
}

#[test]
fn renewed_lease_keeps_node_alive_whatever_its_clock() {
    let mut nodes = settled();
    nodes.put_lease(&lease(-9999), at(40));
    assert_eq!(nodes.plan(at(50), 100), vec![]);
    assert_eq!(nodes.plan(at(89), 100), vec![]);
    nodes.put_lease(&lease(-9999), at(89));
    assert!(
        !nodes.plan(at(90), 100).is_empty(),
        "the same renewal seen again is no renewal"
    );
}

#[test]
fn a_node_that_never_spoke_has_sixty_seconds() {
    let mut nodes = listening();
    nodes.put_node(&node_of(None, |_| {}), at(0));
    assert!(matches!(
        nodes.plan(at(59), 100).as_slice(),
        [Action::RecordEvent { .. }]
    ));
    let actions = nodes.plan(at(60), 100);
    let [Action::SetConditions { conditions, .. }] = actions.as_slice() else {
        panic!("{actions:?}")
    };
    assert_eq!(conditions[0]["message"], "Kubelet never posted node status.");
}

#[test]
fn after_a_gap_in_listening_nodes_get_time_to_speak() {
    let mut nodes = settled();
    nodes.limits.deaf_after = Duration::from_secs(20);
    assert_eq!(nodes.plan(at(1000), 100), vec![]);
    for second in (1000..1050).step_by(5) {
        assert_eq!(nodes.plan(at(second), 100), vec![], "at {second}");
    }
    assert!(!nodes.plan(at(1050), 100).is_empty());
}

#[test]
fn conditions_become_taints() {
    let cases = [
        (
            "False",
            vec![
                "node.kubernetes.io/not-ready:NoSchedule",
                "node.kubernetes.io/not-ready:NoExecute",
            ],
        ),
        (
            "Unknown",
            vec![
                "node.kubernetes.io/unreachable:NoSchedule",
                "node.kubernetes.io/unreachable:NoExecute",
            ],
        ),
    ];
    for (status, expected) in cases {
        let mut nodes = settled();
        nodes.put_node(&node_of(Some(status), |_| {}), at(1));
        assert_eq!(
            taints(&nodes.plan(at(1), 100)),
            Some(expected.into_iter().map(String::from).collect())
        );
    }
}

#[test]
fn taints_flip_with_the_condition_and_users_taints_stay() {
    let mut nodes = settled();
    nodes.put_node(
        &node_of(Some("Unknown"), |n| {
            n["spec"]["taints"] = json!([
                {"key": NOT_READY, "effect": "NoSchedule"}, {"key": NOT_READY, "effect": "NoExecute"},
                {"key": "gpu", "value": "true", "effect": "NoExecute"}]);
        }),
        at(1),
    );
    let expected = [
        "gpu=true:NoExecute",
        "node.kubernetes.io/unreachable:NoSchedule",
        "node.kubernetes.io/unreachable:NoExecute",
    ];
    assert_eq!(
        taints(&nodes.plan(at(1), 100)),
        Some(expected.map(String::from).to_vec())
    );
}

#[test]
fn a_ready_node_loses_the_taints_of_its_past() {
    let mut nodes = settled();
    let tainted = node_of(Some("True"), |n| {
        n["spec"]["taints"] = json!([{"key": NOT_READY, "effect": "NoSchedule"}])
    });
    nodes.put_node(&tainted, at(1));
    assert_eq!(taints(&nodes.plan(at(1), 100)), Some(vec![]));
}

#[test]
fn a_node_that_has_not_spoken_keeps_what_it_was_admitted_with() {
    let mut nodes = settled();
    let new = node_of(None, |n| {
        n["spec"]["taints"] = json!([{"key": NOT_READY, "effect": "NoSchedule"}])
    });
    nodes.put_node(&new, at(1));
    assert_eq!(taints(&nodes.plan(at(1), 100)), None);
}

#[test]
fn pressure_and_cordon_are_taints_too() {
    let mut nodes = settled();
    let node = node_of(Some("True"), |n| {
        n["spec"]["unschedulable"] = true.into();
        n["status"]["conditions"][2]["status"] = "True".into();
    });
    nodes.put_node(&node, at(1));
    let expected = [
        "node.kubernetes.io/disk-pressure:NoSchedule",
        "node.kubernetes.io/unschedulable:NoSchedule",
    ];
    assert_eq!(
        taints(&nodes.plan(at(1), 100)),
        Some(expected.map(String::from).to_vec())
    );
}

#[test]
fn pods_of_a_node_that_turned_not_ready_are_not_ready() {
    let mut nodes = settled();
    nodes.put_node(&node_of(Some("Unknown"), |_| {}), at(1));
    let actions = nodes.plan(at(1), 100);
    assert!(actions.contains(&Action::RecordEvent {
        node: "n".into(),
        uid: "uid-n".into(),
        event: NodeEvent::NotReady
    }));
    assert!(actions.contains(&Action::PodNotReady {
        pod: key(),
        uid: "uid-p".into()
    }));
    nodes.put_pod(
        &pod_of(|p| p["status"]["conditions"][0]["status"] = "False".into()),
        at(2),
    );
    assert_eq!(nodes.plan(at(2), 100), vec![]);
}

/// When a pod with these tolerations leaves a node with a NoExecute taint that was added at second
/// 0.
fn leaves(tolerations: Value) -> Option<i64> {
    let mut nodes = settled();
    nodes.put_pod(&pod_of(|p| p["spec"]["tolerations"] = tolerations), at(0));
    let tainted = node_of(Some("True"), |n| {
        n["spec"]["taints"] =
            json!([{"key": "k", "value": "v", "effect": "NoExecute", "timeAdded": at(0).to_string()}]);
    });
    nodes.put_node(&tainted, at(0));
    (0..400).find(|second| {
        // The node continues to report.
        nodes.put_lease(&lease(*second), at(*second));
        nodes.plan(at(*second), 100).contains(&Action::Evict {
            pod: key(),
            uid: "uid-p".into(),
        })
    })
}

#[test]
fn no_execute_drives_out_at_once_or_when_patience_ends() {
    let tolerates = |seconds: Value| json!([{"key": "k", "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": seconds}]);
    assert_eq!(leaves(json!([])), Some(0));
    assert_eq!(leaves(tolerates(300.into())), Some(300));
    assert_eq!(leaves(tolerates(0.into())), Some(0));
    assert_eq!(leaves(tolerates((-5).into())), Some(0));
    assert_eq!(leaves(tolerates(Value::Null)), None, "forever");
    assert_eq!(leaves(json!([{"key": "other", "operator": "Exists"}])), Some(0));
}

#[test]
fn the_shortest_patience_among_the_taints_decides() {
    let taints = [
        Taint::new("a", "", Effect::NoExecute),
        Taint::new("b", "", Effect::NoExecute),
    ];
    let tolerates = |key: &str, seconds| api::taint::Toleration {
        toleration_seconds: seconds,
        ..api::taint::Toleration::exists(key, Effect::NoExecute)
    };
    let both = [tolerates("a", Some(60)), tolerates("b", Some(30))];
    assert_eq!(eviction::when(&taints, &both, at(0)), Some(at(30)));
    let one_forever = [tolerates("a", None), tolerates("b", Some(30))];
    assert_eq!(eviction::when(&taints, &one_forever, at(0)), Some(at(30)));
    assert_eq!(eviction::when(&taints, &both[..1], at(0)), Some(at(0)));
}

#[test]
fn an_eviction_is_cancelled_when_the_taint_goes() {
    let mut nodes = settled();
    let patient =
        pod_of(|p| p["spec"]["tolerations"] = json!([{"operator": "Exists", "tolerationSeconds": 30}]));
    nodes.put_pod(&patient, at(0));
    nodes.put_node(
        &node_of(Some("True"), |n| {
            n["spec"]["taints"] = json!([{"key": "k", "effect": "NoExecute"}])
        }),
        at(0),
    );
    assert_eq!(nodes.plan(at(0), 100), vec![]);
    nodes.put_node(&node_of(Some("True"), |_| {}), at(10));
    assert_eq!(
        nodes.plan(at(10), 100),
        vec![Action::CancelEviction {
            pod: key(),
            uid: "uid-p".into()
        }]
    );
    assert_eq!(nodes.plan(at(40), 100), vec![]);
}

#[test]
fn a_pod_is_driven_out_once_however_often_it_is_seen() {
    let mut nodes = settled();
    nodes.put_node(
        &node_of(Some("True"), |n| {
            n["spec"]["taints"] = json!([{"key": "k", "effect": "NoExecute"}])
        }),
        at(1),
    );
    assert_eq!(evicted(&nodes.plan(at(1), 100)), 1);
    let marked = pod_of(|p| p["metadata"]["resourceVersion"] = "9".into());
    nodes.put_pod(&marked, at(1));
    assert_eq!(evicted(&nodes.plan(at(1), 100)), 0, "its eviction is under way");
    nodes.retry_pod(&key());
    assert_eq!(evicted(&nodes.plan(at(2), 100)), 1, "it failed");
}

fn evicted(actions: &[Action]) -> usize {
    actions
        .iter()
        .filter(|a| matches!(a, Action::Evict { .. }))
        .count()
}

fn marked(actions: &[Action]) -> usize {
    actions
        .iter()
        .filter(|a| matches!(a, Action::PodNotReady { .. }))
        .count()
}

#[test]
fn pod_that_reports_ready_again_on_unready_node_is_left_alone() {
    let mut nodes = settled();
    nodes.put_node(&node_of(Some("False"), |_| {}), at(1));
    assert_eq!(marked(&nodes.plan(at(1), 100)), 1);
    nodes.put_pod(&pod_of(|p| p["metadata"]["resourceVersion"] = "9".into()), at(2));
    assert_eq!(marked(&nodes.plan(at(2), 100)), 0);
    nodes.put_node(&node_of(Some("Unknown"), |_| {}), at(3));
    assert_eq!(marked(&nodes.plan(at(3), 100)), 0, "the node did not turn");
    let late = pod_of(|p| {
        p["metadata"]["name"] = "late".into();
        p["metadata"]["uid"] = "uid-late".into();
    });
    nodes.put_pod(&late, at(4));
    assert_eq!(
        marked(&nodes.plan(at(4), 100)),
        1,
        "a pod that comes to such a node is not ready there"
    );
}

#[test]
fn a_controller_that_begins_beside_a_dead_node_marks_its_pods() {
    let mut nodes = listening();
    nodes.put_pod(&pod_of(|_| {}), at(0));
    nodes.put_node(&node_of(Some("Unknown"), |_| {}), at(0));
    assert_eq!(marked(&nodes.plan(at(0), 100)), 1);
}

#[test]
fn added_and_deleted_nodes_get_events_older_ones_do_not() {
    let events = |actions: &[Action]| -> Vec<String> {
        actions
            .iter()
            .filter_map(|a| match a {
                Action::RecordEvent { node, event, .. } => Some(event.message(node)),
                _ => None,
            })
            .collect()
    };
    let mut nodes = Nodes::new(Limits::default());
    nodes.put_node(&named("old", Some("True"), |_| {}), at(1_000));
    assert_eq!(events(&nodes.plan(at(1_000), 100)), Vec::<String>::new());
    nodes.put_node(&named("new", Some("True"), |_| {}), at(1_001));
    assert_eq!(
        events(&nodes.plan(at(1_001), 100)),
        ["Node new event: Registered Node new in Controller"]
    );
    nodes.delete_node(&"old".into());
    assert_eq!(
        events(&nodes.plan(at(1_002), 100)),
        ["Node old event: Removing Node old from Controller"]
    );
}

#[test]
fn labels_of_old_names_follow_those_of_today() {
    let mut nodes = settled();
    let odd = node_of(Some("True"), |n| {
        n["metadata"]["labels"] = json!({"kubernetes.io/os": "linux", "kubernetes.io/arch": "arm64", "beta.kubernetes.io/arch": "amd64"});
    });
    nodes.put_node(&odd, at(1));
    let labels = vec![
        ("beta.kubernetes.io/os", "linux".into()),
        ("beta.kubernetes.io/arch", "arm64".into()),
    ];
    assert_eq!(
        nodes.plan(at(1), 100),
        vec![Action::SetLabels {
            node: "n".into(),
            labels
        }]
    );
}

#[test]
fn one_write_of_a_node_s_taints_is_under_way_at_a_time() {
    let mut nodes = settled();
    let cordoned = node_of(Some("True"), |n| n["spec"]["unschedulable"] = true.into());
    nodes.put_node(&cordoned, at(1));
    assert!(taints(&nodes.plan(at(1), 100)).is_some());
    let labelled = node_of(Some("True"), |n| {
        n["spec"]["unschedulable"] = true.into();
        n["metadata"]["labels"] = json!({"a": "b"});
    });
    nodes.put_node(&labelled, at(1));
    assert_eq!(taints(&nodes.plan(at(1), 100)), None, "it is of the same version");
    nodes.retry_node(&"n".into());
    assert!(taints(&nodes.plan(at(1), 100)).is_some());
}

#[test]
fn a_heartbeat_decides_nothing() {
    let mut nodes = settled();
    let beat = node_of(Some("True"), |n| {
        n["status"]["conditions"][0]["lastHeartbeatTime"] = at(9).to_string().into()
    });
    nodes.put_node(&beat, at(9));
    assert!(!nodes.has_work());
}

/// A server of nodes that carries out plans at once, and records when each node got a NoExecute
/// taint.
struct World {
    nodes: Nodes,
    objects: BTreeMap<String, Value>,
    driven: Vec<(i64, String)>,
    now: i64,
}

impl World {
    /// Nodes with these names, all ready. The letters before the digits name the zone.
    fn new(names: impl IntoIterator<Item = String>) -> World {
        let mut world = World {
            nodes: listening(),
            objects: BTreeMap::new(),
            driven: Vec::new(),
            now: 0,
        };
        for name in names {
            let mut node = json!({
                "metadata": {"name": name, "uid": format!("uid-{name}"), "resourceVersion": "1", "labels": {
                    "topology.kubernetes.io/region": "earth", "topology.kubernetes.io/zone": zone(&name),
                }},
                "spec": {}, "status": {"conditions": []},
            });
            node["status"]["conditions"] = json!([{"type": "Ready", "status": "True"}]);
            world.put(&name, node);
        }
        world.settle();
        world
    }

    fn put(&mut self, name: &str, node: Value) {
        let view = Arc::new(serde_json::from_value(node.clone()).expect("a node"));
        self.objects.insert(name.to_owned(), node);
        self.nodes.put_node(&view, at(self.now));
    }

    fn change(&mut self, name: &str, change: impl FnOnce(&mut Value)) {
        let mut node = self.objects[name].clone();
        change(&mut node);
        let version: u64 = node["metadata"]["resourceVersion"]
            .as_str()
            .and_then(|v| v.parse().ok())
            .expect("a version");
        node["metadata"]["resourceVersion"] = (version + 1).to_string().into();
        self.put(name, node);
    }

    fn turn(&mut self, name: &str, status: &str) {
        self.change(name, |node| {
            node["status"]["conditions"][0]["status"] = status.into()
        });
        self.settle();
    }

    fn settle(&mut self) {
        for _ in 0..1000 {
            let actions = self.nodes.plan(at(self.now), 1000);
            for action in &actions {
                let Action::SetTaints { node, taints, .. } = action else {
                    continue;
                };
                let before = self.drives_out(node);
                let list: Vec<Value> = taints
                    .iter()
                    .map(|t| json!({"key": &*t.key, "effect": t.effect.as_str()}))
                    .collect();
                self.change(node, |node| node["spec"]["taints"] = list.into());
                if self.drives_out(node) && !before {
                    self.driven.push((self.now, node.to_string()));
                }
            }
            if actions.is_empty() && !self.nodes.has_work() {
                return;
            }
        }
        panic!("the plan does not come to an end");
    }

    fn wait(&mut self, seconds: i64) {
        for _ in 0..seconds {
            self.now += 1;
            let names: Vec<String> = self.objects.keys().cloned().collect();
            for name in names {
                // All continue to renew their Leases. The test sets their readiness.
                let mut lease = lease(self.now);
                lease.meta.name = name.as_str().into();
                self.nodes.put_lease(&lease, at(self.now));
            }
            self.settle();
        }
    }

    fn effects(&self, name: &str) -> Vec<(String, String)> {
        let taints = self.objects[name]["spec"]["taints"]
            .as_array()
            .cloned()
            .unwrap_or_default();
        let text = |v: &Value| v.as_str().unwrap_or_default().to_owned();
        taints
            .iter()
            .map(|t| (text(&t["key"]), text(&t["effect"])))
            .collect()
    }

    fn drives_out(&self, name: &str) -> bool {
        self.effects(name).iter().any(|(_, effect)| effect == "NoExecute")
    }

    fn driven_out(&self) -> Vec<&str> {
        let names = self.objects.keys();
        names
            .filter(|name| self.drives_out(name))
            .map(String::as_str)
            .collect()
    }

    fn status(&self, name: &str) -> &str {
        self.objects[name]["status"]["conditions"][0]["status"]
            .as_str()
            .unwrap_or_default()
    }
}

fn zone(name: &str) -> &str {
    name.trim_end_matches(|c: char| c.is_ascii_digit())
}

fn of_zone(zone: &str, nodes: usize) -> impl Iterator<Item = String> {
    (0..nodes).map(move |i| format!("{zone}{i:02}"))
}

#[test]
fn unready_nodes_of_zone_get_taints_in_order_every_ten_seconds() {
    let mut world = World::new(of_zone("a", 8));
    for name in ["a05", "a03", "a04"] {
        world.turn(name, "Unknown");
    }
    assert_eq!(world.driven_out(), ["a05"], "the first at once");
    world.wait(9);
    assert_eq!(world.driven_out(), ["a05"]);
    world.wait(1);
    assert_eq!(world.driven_out(), ["a03", "a05"]);
    world.turn("a04", "True");
    world.wait(20);
    assert_eq!(world.driven_out(), ["a03", "a05"], "who came back lost its turn");
}

#[test]
fn no_schedule_comes_at_once_whatever_the_rate() {
    let mut world = World::new(of_zone("a", 8));
    for name in ["a00", "a01", "a02"] {
        world.turn(name, "False");
        assert!(
            world
                .effects(name)
                .contains(&(NOT_READY.into(), "NoSchedule".into()))
        );
    }
}

#[test]
fn a_taint_flips_at_once_and_goes_at_once() {
    let mut world = World::new(of_zone("a", 8));
    world.turn("a00", "Unknown");
    world.turn("a01", "Unknown");
    world.turn("a00", "False");
    let not_ready = |effect: &str| (NOT_READY.to_owned(), effect.to_owned());
    assert_eq!(
        world.effects("a00"),
        [not_ready("NoSchedule"), not_ready("NoExecute")]
    );
    world.turn("a00", "True");
    assert_eq!(world.effects("a00"), []);
}

#[test]
fn a_small_zone_of_which_much_is_down_gives_nobody_up() {
    let mut world = World::new(of_zone("a", 4).chain(of_zone("b", 4)));
    for name in ["a00", "a01", "a02"] {
        world.turn(name, "Unknown");
    }
    world.wait(100);
    assert_eq!(world.driven_out(), ["a00"], "one of four is not much; three are");
    world.turn("b00", "Unknown");
    assert_eq!(world.driven_out(), ["a00", "b00"], "another zone goes by itself");
    world.turn("a01", "True");
    world.wait(10);
    assert_eq!(
        world.driven_out(),
        ["a00", "a02", "b00"],
        "it is not much any more"
    );
}

#[test]
fn a_large_zone_of_which_much_is_down_goes_slowly() {
    let mut world = World::new(of_zone("a", 60).chain(of_zone("b", 1)));
    for name in of_zone("a", 40) {
        world.turn(&name, "Unknown");
    }
    world.wait(1000);
    let since = world.driven.len();
    world.wait(1000);
    assert_eq!(world.driven.len() - since, 10, "one in a hundred seconds");
}

#[test]
fn zone_that_is_all_down_gets_taints_at_normal_rate() {
    let mut world = World::new(of_zone("a", 4).chain(of_zone("b", 4)));
    for name in of_zone("a", 4) {
        world.turn(&name, "Unknown");
    }
    world.wait(60);
    assert_eq!(world.driven_out(), ["a00", "a01", "a02", "a03"]);
}

#[test]
fn no_pod_is_evicted_while_all_nodes_are_down() {
    let mut world = World::new(of_zone("a", 2).chain(of_zone("b", 1)));
    for name in ["a00", "a01", "b00"] {
        world.turn(name, "Unknown");
    }
    assert_eq!(
        world.driven_out(),
        Vec::<&str>::new(),
        "what was tainted before is free again"
    );
    world.wait(100);
    assert_eq!(world.driven_out(), Vec::<&str>::new());
    assert!(!world.effects("a00").is_empty(), "nothing new is put there");
    world.turn("b00", "True");
    assert_eq!(world.driven_out(), Vec::<&str>::new(), "nobody goes at once");
    world.wait(20);
    assert_eq!(world.driven_out(), ["a00", "a01"]);
}

#[test]
fn a_node_that_is_excluded_does_not_count_in_its_zone() {
    let mut world = World::new(of_zone("a", 2));
    world.change("a01", |n| {
        n["metadata"]["labels"]["node.kubernetes.io/exclude-disruption"] = "".into()
    });
    world.settle();
    world.turn("a00", "Unknown");
    assert_eq!(world.driven_out(), Vec::<&str>::new(), "all that count are down");
}

#[test]
fn a_taint_that_somebody_takes_off_waits_for_another_turn() {
    let mut world = World::new(of_zone("a", 8));
    world.turn("a00", "Unknown");
    world.change("a00", |n| n["spec"]["taints"] = json!([]));
    world.settle();
    assert_eq!(world.driven_out(), Vec::<&str>::new());
    world.wait(10);
    assert_eq!(world.driven_out(), ["a00"]);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// With any changes of readiness in any order, no zone exceeds its rate, NoSchedule always
    /// follows the condition, and NoExecute never contradicts it, and is not set while every node
    /// is down.
    #[test]
    fn taints_follow_conditions_and_rates_are_never_exceeded(
        steps in proptest::collection::vec((0usize..9, 0usize..3, 0i64..30), 0..60),
    ) {
        let names: Vec<String> = of_zone("a", 3).chain(of_zone("b", 6)).collect();
        let mut world = World::new(names.clone());
        for (index, status, seconds) in steps {
            world.turn(&names[index], ["True", "False", "Unknown"][status]);
            world.wait(seconds);
            let all_down = names.iter().all(|name| world.status(name) != "True");
            for name in &names {
                let key = match world.status(name) {
                    "False" => Some(NOT_READY),
                    "Unknown" => Some(UNREACHABLE),
                    _ => None,
                };
                let effects = world.effects(name);
                let of = |effect: &str| -> Vec<&str> {
                    effects.iter().filter(|(_, e)| e == effect).map(|(k, _)| k.as_str()).collect()
                };
                prop_assert_eq!(of("NoSchedule"), Vec::from_iter(key));
                let driving = of("NoExecute");
                prop_assert!(driving.is_empty() || driving == Vec::from_iter(key));
                prop_assert!(driving.is_empty() || !all_down);
            }
        }
        for zone_name in ["a", "b"] {
            let times: Vec<i64> = world.driven.iter().filter(|(_, n)| zone(n) == zone_name).map(|(at, _)| *at).collect();
            prop_assert!(times.windows(2).all(|pair| pair[1] - pair[0] >= 10), "{:?}", times);
        }
    }
}

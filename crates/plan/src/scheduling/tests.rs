//! One case a rule, in the words that users see; then: a sequence of events ends where a fresh look at the same cluster would.

use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;

fn node_of(name: &str, change: impl FnOnce(&mut Value)) -> Arc<NodeView> {
    let mut node = json!({
        "metadata": {"name": name, "uid": format!("uid-{name}"), "labels": {"kubernetes.io/hostname": name}},
        "spec": {},
        "status": {"allocatable": {"cpu": "4", "memory": "16Gi", "pods": "110"}},
    });
    change(&mut node);
    Arc::new(serde_json::from_value(node).expect("a node"))
}

fn node(name: &str) -> Arc<NodeView> {
    node_of(name, |_| {})
}

fn pod_of(name: &str, change: impl FnOnce(&mut Value)) -> Arc<PodView> {
    let mut pod = json!({
        "metadata": {"name": name, "namespace": "default", "uid": format!("uid-{name}")},
        "spec": {"schedulerName": DEFAULT_SCHEDULER, "containers": [{"name": "c"}]},
        "status": {"phase": "Pending"},
    });
    change(&mut pod);
    Arc::new(serde_json::from_value(pod).expect("a pod"))
}

fn pinned(name: &str, node: &str, change: impl FnOnce(&mut Value)) -> Arc<PodView> {
    pod_of(name, |pod| {
        pod["spec"]["affinity"] = json!({"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {
            "nodeSelectorTerms": [{"matchFields": [{"key": "metadata.name", "operator": "In", "values": [node]}]}]}}});
        change(pod);
    })
}

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_second(1_000_000 + seconds).expect("a time")
}

fn with(nodes: &[Arc<NodeView>]) -> Scheduler {
    let mut scheduler = Scheduler::new();
    nodes.iter().for_each(|n| scheduler.put_node(n));
    scheduler
}

fn verdict(scheduler: &mut Scheduler, pod: &Arc<PodView>) -> Verdict {
    scheduler.put_pod(pod);
    scheduler.next(at(0)).expect("a turn").0.verdict
}

fn refusal(scheduler: &mut Scheduler, pod: &Arc<PodView>) -> String {
    match verdict(scheduler, pod) {
        Verdict::Unschedulable { message } => message,
        Verdict::Bind { node } => panic!("bound to {node}"),
    }
}

fn bind(node: &str) -> Verdict {
    Verdict::Bind { node: node.into() }
}

#[test]
fn a_pinned_pod_goes_to_its_node() {
    let mut scheduler = with(&[node("a"), node("b"), node("c")]);
    assert_eq!(verdict(&mut scheduler, &pinned("p", "b", |_| {})), bind("b"));
}

#[test]
fn a_pinned_pod_that_does_not_fit_names_the_shortage_and_leaves_the_others_out() {
    let mut scheduler = with(&[node("a"), node("b"), node("c")]);
    let eater = pod_of("eater", |p| {
        p["spec"]["nodeName"] = "b".into();
        p["spec"]["containers"][0]["resources"] = json!({"requests": {"memory": "15Gi"}});
    });
    scheduler.put_pod(&eater);
    let hungry = pinned("p", "b", |p| {
        p["spec"]["containers"][0]["resources"] = json!({"requests": {"memory": "2Gi"}})
    });
    assert_eq!(
        refusal(&mut scheduler, &hungry),
        "0/3 nodes are available: 1 Insufficient memory, 2 node(s) didn't satisfy plugin(s) [NodeAffinity]. preemption: \
         0/3 nodes are available: 1 No preemption victims found for incoming pod, 2 Preemption is not helpful for scheduling."
    );
}

#[test]
fn what_a_node_never_had_no_preemption_wins() {
    let mut scheduler = with(&[node("a")]);
    let huge = pinned("p", "a", |p| {
        p["spec"]["containers"][0]["resources"] = json!({"requests": {"cpu": "5"}})
    });
    assert_eq!(
        refusal(&mut scheduler, &huge),
        "0/1 nodes are available: 1 Insufficient cpu. preemption: 0/1 nodes are available: \
         1 Preemption is not helpful for scheduling."
    );
}

#[test]
fn a_pod_that_never_preempts_says_so() {
    let mut scheduler = with(&[node("a")]);
    let polite = pinned("p", "a", |p| {
        p["spec"]["containers"][0]["resources"] = json!({"requests": {"cpu": "5"}});
        p["spec"]["preemptionPolicy"] = "Never".into();
    });
    assert_eq!(
        refusal(&mut scheduler, &polite),
        "0/1 nodes are available: 1 Insufficient cpu. preemption: not eligible due to preemptionPolicy=Never."
    );
}

#[test]
fn each_filter_has_its_sentence() {
    let cases: [(&str, Arc<NodeView>, Arc<PodView>); 5] = [
        (
            "node(s) were unschedulable",
            node_of("a", |n| n["spec"]["unschedulable"] = true.into()),
            pinned("p", "a", |_| {}),
        ),
        (
            "node(s) had untolerated taint(s)",
            node_of("a", |n| {
                n["spec"]["taints"] = json!([{"key": "gpu", "value": "true", "effect": "NoSchedule"}])
            }),
            pinned("p", "a", |_| {}),
        ),
        (
            "node(s) didn't match Pod's node affinity/selector",
            node("a"),
            pinned("p", "a", |p| p["spec"]["nodeSelector"] = json!({"disk": "ssd"})),
        ),
        (
            "Too many pods",
            node_of("a", |n| n["status"]["allocatable"]["pods"] = "0".into()),
            pinned("p", "a", |_| {}),
        ),
        (
            "Insufficient example.com/device",
            node("a"),
            pinned("p", "a", |p| {
                p["spec"]["containers"][0]["resources"] = json!({"requests": {"example.com/device": "1"}})
            }),
        ),
    ];
    for (sentence, node, pod) in cases {
        let said = refusal(&mut with(&[node]), &pod);
        assert!(
            said.starts_with(&format!("0/1 nodes are available: 1 {sentence}. ")),
            "{said}"
        );
    }
}

#[test]
fn an_empty_cluster_says_that_there_are_no_nodes() {
    assert_eq!(
        refusal(&mut with(&[]), &pinned("p", "a", |_| {})),
        "no nodes available to schedule pods"
    );
}

#[test]
fn a_cordoned_node_takes_a_pod_that_tolerates_the_cordon() {
    let mut scheduler = with(&[node_of("a", |n| n["spec"]["unschedulable"] = true.into())]);
    let daemon = pinned("p", "a", |p| {
        p["spec"]["tolerations"] = json!([{"key": "node.kubernetes.io/unschedulable", "operator": "Exists", "effect": "NoSchedule"}]);
    });
    assert_eq!(verdict(&mut scheduler, &daemon), bind("a"));
}

#[test]
fn a_host_port_is_given_once() {
    let mut scheduler = with(&[node("a")]);
    let port = |name: &str| {
        pinned(name, "a", |p| {
            p["spec"]["containers"][0]["ports"] = json!([{"containerPort": 80, "hostPort": 80}])
        })
    };
    assert_eq!(verdict(&mut scheduler, &port("first")), bind("a"));
    let said = refusal(&mut scheduler, &port("second"));
    assert!(
        said.contains("1 node(s) didn't have free ports for the requested pod ports."),
        "{said}"
    );
}

#[test]
fn a_pod_with_a_choice_goes_where_there_is_most_room() {
    let mut scheduler = with(&[node("a"), node("b")]);
    for i in 0..4 {
        let pod = pod_of(&format!("p{i}"), |p| {
            p["spec"]["containers"][0]["resources"] = json!({"requests": {"cpu": "1"}})
        });
        verdict(&mut scheduler, &pod);
    }
    let on = |name: &str| scheduler.placed.values().filter(|p| &*p.node == name).count();
    assert_eq!((on("a"), on("b")), (2, 2));
}

#[test]
fn a_preferred_label_outweighs_a_little_room() {
    let mut scheduler = with(&[
        node("a"),
        node_of("b", |n| n["metadata"]["labels"]["disk"] = "ssd".into()),
    ]);
    let pod = pod_of("p", |p| {
        p["spec"]["affinity"] = json!({"nodeAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": [
            {"weight": 100, "preference": {"matchExpressions": [{"key": "disk", "operator": "In", "values": ["ssd"]}]}}]}});
    });
    assert_eq!(verdict(&mut scheduler, &pod), bind("b"));
}

#[test]
fn terms_beside_the_node_s_name_leave_a_choice() {
    let mut scheduler = with(&[
        node("a"),
        node_of("b", |n| n["metadata"]["labels"]["disk"] = "ssd".into()),
    ]);
    let pod = pod_of("p", |p| {
        p["spec"]["affinity"] = json!({"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [
            {"matchFields": [{"key": "metadata.name", "operator": "In", "values": ["gone"]}]},
            {"matchExpressions": [{"key": "disk", "operator": "Exists"}]}]}}});
    });
    assert_eq!(verdict(&mut scheduler, &pod), bind("b"));
}

#[test]
fn higher_priority_has_the_first_turn() {
    let mut scheduler = with(&[node("a")]);
    scheduler.put_pod(&pinned("low", "a", |_| {}));
    scheduler.put_pod(&pinned("high", "a", |p| p["spec"]["priority"] = 1000.into()));
    assert_eq!(&*scheduler.next(at(0)).expect("a turn").0.pod.name, "high");
}

#[test]
fn a_parked_pod_is_woken_by_its_own_node_and_waits_out_its_back_off() {
    let taint = |n: &mut Value| n["spec"]["taints"] = json!([{"key": "k", "effect": "NoSchedule"}]);
    let mut scheduler = with(&[node_of("a", taint), node("b")]);
    scheduler.put_pod(&pinned("p", "a", |_| {}));
    scheduler.next(at(0)).expect("a turn");
    scheduler.put_node(&node_of("b", |n| n["spec"]["unschedulable"] = true.into()));
    assert!(
        scheduler.next(at(5)).is_none(),
        "another node's change does not concern it"
    );
    scheduler.put_node(&node("a"));
    assert!(scheduler.next(at(0)).is_none(), "the back-off of 1 s is not over");
    assert_eq!(scheduler.next_turn(), Some(at(1)));
    assert_eq!(scheduler.next(at(1)).expect("a turn").0.verdict, bind("a"));
}

#[test]
fn room_that_a_pod_leaves_wakes_who_waits_for_it() {
    let mut scheduler = with(&[node_of("a", |n| n["status"]["allocatable"]["pods"] = "1".into())]);
    let first = pinned("first", "a", |_| {});
    assert_eq!(verdict(&mut scheduler, &first), bind("a"));
    refusal(&mut scheduler, &pinned("second", "a", |_| {}));
    scheduler.delete_pod(&PodKey::of(&first));
    assert_eq!(scheduler.next(at(2)).expect("a turn").0.verdict, bind("a"));
}

#[test]
fn nothing_is_written_twice_while_nothing_changes() {
    let mut scheduler = with(&[]);
    let message = refusal(&mut scheduler, &pinned("p", "a", |_| {}));
    let said = pinned("p", "a", |p| {
        p["status"]["conditions"] = json!([{"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": message}]);
    });
    scheduler.put_pod(&said);
    let (decision, _) = scheduler.next(at(400)).expect("the look after five minutes");
    assert!(decision.known);
}

#[test]
fn a_failed_binding_gives_the_room_back() {
    let mut scheduler = with(&[node_of("a", |n| n["status"]["allocatable"]["pods"] = "1".into())]);
    let pod = pinned("p", "a", |_| {});
    assert_eq!(verdict(&mut scheduler, &pod), bind("a"));
    scheduler.bind_failed(&PodKey::of(&pod), &pod, at(0));
    assert_eq!(scheduler.next(at(1)).expect("a turn").0.verdict, bind("a"));
}

#[test]
fn gated_terminating_and_foreign_pods_are_left_alone() {
    let mut scheduler = with(&[node("a")]);
    scheduler.put_pod(&pinned("gated", "a", |p| {
        p["spec"]["schedulingGates"] = json!([{"name": "wait"}])
    }));
    scheduler.put_pod(&pinned("going", "a", |p| {
        p["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z".into()
    }));
    scheduler.put_pod(&pinned("other", "a", |p| {
        p["spec"]["schedulerName"] = "mine".into()
    }));
    assert!(scheduler.next(at(0)).is_none());
}

#[derive(Clone, Debug)]
enum Step {
    Node { index: usize, pods: u8, tainted: bool },
    NodeGone(usize),
    Pod { index: usize, node: usize },
    PodGone(usize),
    Turns,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        (0usize..4, 0u8..4, any::<bool>()).prop_map(|(index, pods, tainted)| Step::Node {
            index,
            pods,
            tainted
        }),
        (0usize..4).prop_map(Step::NodeGone),
        (0usize..12, 0usize..4).prop_map(|(index, node)| Step::Pod { index, node }),
        (0usize..12).prop_map(Step::PodGone),
        Just(Step::Turns),
    ];
    proptest::collection::vec(step, 0..60)
}

proptest! {
    /// However events come: no node is ever given more pods than it has room for by us, and in the end a pod waits only if its node
    /// would refuse it now.
    #[test]
    fn nobody_waits_for_what_is_there_and_nothing_is_given_twice(steps in steps()) {
        let mut scheduler = Scheduler::new();
        let mut now = 0;
        let mut alive: HashMap<usize, Arc<PodView>> = HashMap::new();
        for step in steps.into_iter().chain([Step::Turns]) {
            match step {
                Step::Node { index, pods, tainted } => scheduler.put_node(&node_of(&format!("n{index}"), |n| {
                    n["status"]["allocatable"]["pods"] = pods.to_string().into();
                    if tainted { n["spec"]["taints"] = json!([{"key": "k", "effect": "NoSchedule"}]); }
                })),
                Step::NodeGone(index) => scheduler.delete_node(&format!("n{index}")),
                Step::Pod { index, node } => {
                    alive.entry(index).or_insert_with(|| {
                        let pod = pinned(&format!("p{index}"), &format!("n{node}"), |_| {});
                        scheduler.put_pod(&pod);
                        pod
                    });
                }
                Step::PodGone(index) => if let Some(pod) = alive.remove(&index) {
                    scheduler.delete_pod(&PodKey::of(&pod));
                },
                Step::Turns => {
                    now += 20;
                    while let Some((decision, _)) = scheduler.next(at(now)) {
                        if let Verdict::Bind { node } = decision.verdict {
                            let state = &scheduler.nodes[&node];
                            let used = scheduler.placed.values().filter(|p| p.node == node).count();
                            let room = state.node.as_ref().expect("bound to a known node").allocatable.pods;
                            prop_assert!(i64::try_from(used).expect("few") <= room, "{node} has room for {room}, {used} are there");
                        }
                    }
                }
            }
        }
        prop_assert_eq!(scheduler.pending() + scheduler.placed.len(), alive.len());
        for pod in alive.values().filter(|p| !scheduler.placed.contains_key(&PodKey::of(p))) {
            let takes = scheduler.nodes.get(pin(pod).expect("pinned")).is_some_and(|state| state.check(pod).is_ok());
            prop_assert!(!takes, "{} waits although its node takes it", pod.meta.name);
        }
    }
}

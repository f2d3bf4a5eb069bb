//! What holds whatever happens: random clusters, random sequences of events, watches that lag, answers that get lost.

use std::collections::BTreeMap;
use std::sync::Arc;

use api::view::{DaemonSetStatusView, DaemonSetView, PodView};
use jiff::SignedDuration;
use proptest::prelude::*;
use serde_json::{Value, json};

use super::Cluster;
use super::model::{Fault, KINDS};
use crate::daemonset::{Placement, available_from, is_past, is_updated, seniority};
use crate::fleet::{Act, Change, Fleet, Options};
use crate::history;
use crate::rollout::Budget;

const NODES: [&str; 5] = ["a", "b", "c", "d", "e"];

/// One thing that happens.
#[derive(Clone, Debug)]
enum Happening {
    AddNode(usize, Taints),
    RemoveNode(usize),
    Taint(usize, Taints),
    Label(usize, bool),
    Heartbeat(usize),
    /// Changes the set: another image, strategy, placement.
    Apply(Spec),
    OrphanSet,
    DeletePod(usize),
    Fail(usize),
    Succeed(usize),
    Unready(usize),
    Run(usize),
    Finish(usize),
    Machines,
    Wait(i64),
    Deliver(usize, usize),
    Fault(Fault),
    Relist,
    Restart,
    Work,
}

#[derive(Clone, Copy, Debug)]
enum Taints {
    None,
    NoSchedule,
    NoExecute,
}

#[derive(Clone, Debug)]
enum Spec {
    Image(u8),
    MaxUnavailable(u8),
    Surge(u8),
    OnDelete,
    MinReady(u8),
    OnlyLabelled(bool),
}

fn taints(taints: Taints) -> Value {
    match taints {
        Taints::None => json!([]),
        Taints::NoSchedule => json!([{"key": "busy", "effect": "NoSchedule"}]),
        Taints::NoExecute => json!([{"key": "evil", "value": "very", "effect": "NoExecute"}]),
    }
}

fn spec(spec: &Spec) -> Value {
    let rolling = |unavailable: u8, surge: u8| {
        let rolling = json!({"maxUnavailable": unavailable, "maxSurge": surge});
        json!({"updateStrategy": {"type": "RollingUpdate", "rollingUpdate": rolling}})
    };
    match spec {
        Spec::Image(version) => Cluster::image(&format!("v{version}")),
        Spec::MaxUnavailable(count) => rolling(*count, 0),
        Spec::Surge(count) => rolling(0, *count),
        Spec::OnDelete => json!({"updateStrategy": {"type": "OnDelete", "rollingUpdate": null}}),
        Spec::MinReady(seconds) => json!({"minReadySeconds": seconds}),
        Spec::OnlyLabelled(only) => {
            let selector = if *only {
                json!({"role": "edge"})
            } else {
                Value::Null
            };
            json!({"template": {"spec": {"nodeSelector": selector}}})
        }
    }
}

fn any_taints() -> impl Strategy<Value = Taints> {
    prop_oneof![3 => Just(Taints::None), 1 => Just(Taints::NoSchedule), 1 => Just(Taints::NoExecute)]
}

fn any_spec() -> impl Strategy<Value = Spec> {
    prop_oneof![
        4 => (1u8..4).prop_map(Spec::Image),
        2 => (1u8..4).prop_map(Spec::MaxUnavailable),
        2 => (1u8..3).prop_map(Spec::Surge),
        1 => Just(Spec::OnDelete),
        1 => prop_oneof![Just(0), Just(10)].prop_map(Spec::MinReady),
        1 => any::<bool>().prop_map(Spec::OnlyLabelled),
    ]
}

fn any_fault() -> impl Strategy<Value = Fault> {
    prop_oneof![
        4 => Just(Fault::None),
        1 => Just(Fault::Refuse),
        1 => Just(Fault::NamespaceTerminating),
        2 => Just(Fault::LoseAnswer),
        1 => Just(Fault::LoseRequest),
    ]
}

fn happening() -> impl Strategy<Value = Happening> {
    let node = 0..NODES.len();
    let pod = 0..8usize;
    prop_oneof![
        3 => (node.clone(), any_taints()).prop_map(|(node, taints)| Happening::AddNode(node, taints)),
        1 => node.clone().prop_map(Happening::RemoveNode),
        2 => (node.clone(), any_taints()).prop_map(|(node, taints)| Happening::Taint(node, taints)),
        1 => (node.clone(), any::<bool>()).prop_map(|(node, edge)| Happening::Label(node, edge)),
        1 => node.prop_map(Happening::Heartbeat),
        4 => any_spec().prop_map(Happening::Apply),
        1 => Just(Happening::OrphanSet),
        2 => pod.clone().prop_map(Happening::DeletePod),
        1 => pod.clone().prop_map(Happening::Fail),
        1 => pod.clone().prop_map(Happening::Succeed),
        1 => pod.clone().prop_map(Happening::Unready),
        4 => pod.clone().prop_map(Happening::Run),
        3 => pod.prop_map(Happening::Finish),
        4 => Just(Happening::Machines),
        2 => (1i64..20).prop_map(Happening::Wait),
        8 => (0..4usize, 1..6usize).prop_map(|(kind, count)| Happening::Deliver(kind, count)),
        2 => any_fault().prop_map(Happening::Fault),
        1 => Just(Happening::Relist),
        1 => Just(Happening::Restart),
        12 => Just(Happening::Work),
    ]
}

fn happen(cluster: &mut Cluster, happening: &Happening) {
    let pod =
        |cluster: &Cluster, index: usize| cluster.pods().get(index).map(|pod| pod.meta.name.to_string());
    let exists = |cluster: &Cluster, node: usize| cluster.node_names().iter().any(|name| name == NODES[node]);
    match happening {
        Happening::AddNode(node, with) => {
            if !exists(cluster, *node) {
                cluster.add_node(NODES[*node], json!({"spec": {"taints": taints(*with)}}));
            }
        }
        Happening::RemoveNode(node) => cluster.remove_node(NODES[*node]),
        Happening::Taint(node, with) => cluster.taint(NODES[*node], taints(*with)),
        Happening::Label(node, edge) => cluster.edit_node(NODES[*node], |node| {
            node["metadata"]["labels"]["role"] = if *edge { "edge" } else { "core" }.into();
        }),
        Happening::Heartbeat(node) => {
            let now = cluster.now.to_string();
            cluster.edit_node(NODES[*node], |node| {
                node["status"]["conditions"] = json!([{"type": "Ready", "lastHeartbeatTime": now}])
            });
        }
        Happening::Apply(change) => cluster.apply_set("daemon", spec(change)),
        Happening::OrphanSet => {
            // As `kubectl delete --cascade=orphan` followed by a create.
            for pod in cluster.pods() {
                cluster.edit_pod(&pod.meta.name, |pod| {
                    pod["metadata"]["ownerReferences"] = json!([])
                });
            }
            cluster.orphan_revisions();
            cluster.remove_set("daemon");
            cluster.apply_set("daemon", spec(&Spec::Image(1)));
        }
        Happening::DeletePod(index) => {
            if let Some(pod) = pod(cluster, *index) {
                cluster.delete(&pod);
            }
        }
        Happening::Fail(index) | Happening::Succeed(index) | Happening::Unready(index) => {
            if let Some(pod) = pod(cluster, *index) {
                let phase = match happening {
                    Happening::Fail(_) => "Failed",
                    Happening::Succeed(_) => "Succeeded",
                    _ => "Running",
                };
                cluster.phase(&pod, phase, false);
            }
        }
        Happening::Run(index) => {
            if let Some(pod) = pod(cluster, *index) {
                cluster.bind(&pod);
                if cluster.is_bound(&pod) {
                    cluster.phase(&pod, "Running", true);
                }
            }
        }
        Happening::Finish(index) => {
            let pods = cluster.pods();
            if let Some(pod) = pods.get(*index).filter(|pod| pod.is_terminating()) {
                cluster.finish(&pod.meta.name);
            }
        }
        Happening::Machines => cluster.machines(),
        Happening::Wait(seconds) => cluster.wait(*seconds),
        Happening::Deliver(kind, count) => cluster.deliver(KINDS[*kind], *count),
        Happening::Fault(fault) => cluster.fault = *fault,
        Happening::Relist => cluster.relist(),
        Happening::Restart => cluster.restart(),
        Happening::Work => {
            cluster.plan_and_act();
        }
    }
}

/// The truth about the set, recomputed from everything there is, one loop a rule.
struct Oracle {
    set: Arc<DaemonSetView>,
    hash: Option<Arc<str>>,
    /// Pods of the set by node.
    pods: BTreeMap<Arc<str>, Vec<Arc<PodView>>>,
    desired: Vec<Arc<str>>,
    may_stay: Vec<Arc<str>>,
    status: DaemonSetStatusView,
}

fn oracle(cluster: &Cluster) -> Oracle {
    let set = cluster.set("daemon");
    let data = history::data(&set.template);
    let current = cluster.revisions().into_iter().rev().find(|revision| {
        schema::gojson::to_vec(&revision.data) == data
            && revision
                .meta
                .controller()
                .is_some_and(|owner| owner.uid == set.meta.uid)
    });
    let hash: Option<Arc<str>> = current.map(|revision| {
        revision
            .meta
            .labels
            .get("controller-revision-hash")
            .unwrap()
            .into()
    });
    let mut pods: BTreeMap<Arc<str>, Vec<Arc<PodView>>> = BTreeMap::new();
    for pod in cluster.pods() {
        let owned = pod
            .meta
            .controller()
            .is_some_and(|owner| owner.uid == set.meta.uid);
        if let Some(node) = pod.target_node()
            && owned
            && !is_past(&pod)
        {
            pods.entry(node.clone()).or_default().push(pod);
        }
    }
    for pods in pods.values_mut() {
        pods.sort_by(|a, b| seniority(a, b));
    }
    let placement = Placement::compile(&set.template);
    let mut status = DaemonSetStatusView {
        observed_generation: set.meta.generation,
        collision_count: set.status.collision_count,
        ..DaemonSetStatusView::default()
    };
    let (mut desired, mut may_stay) = (Vec::new(), Vec::new());
    for node in cluster.nodes() {
        let name = &node.meta.name;
        let first = pods.get(name).map(|pods| &pods[0]);
        let fit = placement.fit(&node);
        if fit.should_continue() {
            may_stay.push(name.clone());
        }
        if !fit.should_run() {
            status.number_misscheduled += i32::from(first.is_some());
            continue;
        }
        desired.push(name.clone());
        status.desired_number_scheduled += 1;
        if let Some(pod) = first {
            status.current_number_scheduled += 1;
            status.number_ready += i32::from(pod.ready.status);
            let available =
                available_from(pod, set.min_ready_seconds).is_some_and(|from| from <= cluster.now);
            status.number_available += i32::from(available);
            let updated = is_updated(pod, hash.as_deref().unwrap_or("?"), set.template_generation());
            status.updated_number_scheduled += i32::from(updated);
        }
    }
    status.number_unavailable = status.desired_number_scheduled - status.number_available;
    Oracle {
        set,
        hash,
        pods,
        desired,
        may_stay,
        status,
    }
}

impl Oracle {
    /// The desired nodes with an available pod that is not on its way out.
    fn served(&self, now: jiff::Timestamp) -> usize {
        let serves = |pod: &Arc<PodView>| {
            !pod.is_terminating()
                && available_from(pod, self.set.min_ready_seconds).is_some_and(|from| from <= now)
        };
        let served = |node: &&Arc<str>| self.pods.get(*node).is_some_and(|pods| pods.iter().any(serves));
        self.desired.iter().filter(served).count()
    }
}

/// What must hold at rest: one current pod wherever one should be, none where none may be.
fn assert_as_desired(cluster: &Cluster) {
    let oracle = oracle(cluster);
    assert_eq!(oracle.set.status, oracle.status, "{}", cluster.picture());
    assert!(oracle.hash.is_some());
    let on_delete = oracle.set.strategy == api::view::UpdateStrategyView::OnDelete;
    for node in &oracle.desired {
        let pods = &oracle.pods[node];
        assert_eq!(pods.len(), 1, "on {node}: {}", cluster.picture());
        let updated = is_updated(
            &pods[0],
            oracle.hash.as_deref().unwrap(),
            oracle.set.template_generation(),
        );
        assert!(updated || on_delete, "on {node}: {}", cluster.picture());
        assert!(pods[0].ready.status);
    }
    for node in oracle.pods.keys() {
        assert!(oracle.may_stay.contains(node), "on {node}: {}", cluster.picture());
    }
}

/// The index says what a fresh index says that is told the same.
fn assert_index_is_as_if_built_anew(cluster: &mut Cluster) {
    let incremental = format!("{:?}", cluster.fleet.digest());
    cluster.restart();
    cluster.fleet.plan(cluster.now);
    assert_eq!(incremental, format!("{:?}", cluster.fleet.digest()));
}

fn random_run(happenings: &[Happening]) -> Cluster {
    let mut cluster = Cluster::new();
    cluster.add_node("a", json!({}));
    cluster.apply_set("daemon", json!({}));
    for happening in happenings {
        happen(&mut cluster, happening);
        assert_eq!(cluster.violations, Vec::<String>::new(), "after {happening:?}");
    }
    cluster
}

fn runs(length: usize) -> impl Strategy<Value = Vec<Happening>> {
    prop::collection::vec(happening(), 1..length)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, ..ProptestConfig::default() })]

    #[test]
    fn every_run_ends_as_desired_and_there_nothing_is_left_to_do(happenings in runs(60)) {
        let mut cluster = random_run(&happenings);
        cluster.fault = Fault::None;
        cluster.converge();
        assert_eq!(cluster.violations, Vec::<String>::new());
        assert_as_desired(&cluster);
        prop_assert_eq!(cluster.plan(), vec![]);
        assert_index_is_as_if_built_anew(&mut cluster);
    }

    #[test]
    fn the_status_is_what_a_full_recompute_gives_whenever_all_is_seen(happenings in runs(40)) {
        let mut cluster = random_run(&happenings);
        cluster.fault = Fault::None;
        cluster.wait(120);
        cluster.settle();
        let oracle = oracle(&cluster);
        prop_assert_eq!(&oracle.set.status, &oracle.status);
    }

    #[test]
    fn no_more_available_pods_are_taken_than_the_budget_allows(happenings in runs(40)) {
        let mut cluster = random_run(&happenings);
        cluster.fault = Fault::None;
        for round in 0..12 {
            cluster.deliver_all();
            let before = oracle(&cluster);
            let served = before.served(cluster.now);
            for action in cluster.plan() {
                let outdated = matches!(&action.act, Act::DeletePod { reason, .. } if *reason == crate::daemonset::DeleteReason::Outdated);
                cluster.act(&action);
                if outdated {
                    let after = oracle(&cluster).served(cluster.now);
                    let budget = Budget::of(&before.set.strategy, before.desired.len());
                    let allowed = before.desired.len().saturating_sub(budget.max_unavailable).min(served);
                    prop_assert!(after >= allowed, "{} of {}: {}", after, before.desired.len(), cluster.picture());
                }
            }
            if round % 3 == 0 {
                cluster.machines();
            }
            cluster.now += SignedDuration::from_secs(3);
        }
    }

    #[test]
    fn the_order_in_which_things_are_listed_does_not_matter(happenings in runs(40), seed in any::<u64>()) {
        let mut cluster = random_run(&happenings);
        cluster.restart();
        let plan = cluster.fleet.plan(cluster.now);
        let mut shuffled = Fleet::new(Options::default());
        let revision = u64::MAX;
        let shuffle = |index: &usize| (*index as u64 ^ seed).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        fn in_order<V: Clone>(items: &[V], order: impl Fn(&usize) -> u64) -> Vec<V> {
            let mut indexes: Vec<usize> = (0..items.len()).collect();
            indexes.sort_by_key(order);
            indexes.into_iter().map(|index| items[index].clone()).collect()
        }
        let pods = in_order(&cluster.pods(), shuffle);
        let (nodes, revisions) = (in_order(&cluster.nodes(), shuffle), in_order(&cluster.revisions(), shuffle));
        if seed.is_multiple_of(2) {
            shuffled.pod(Change::Replace { items: pods, revision });
            shuffled.revision(Change::Replace { items: revisions, revision });
            shuffled.daemon_set(Change::Replace { items: vec![cluster.set("daemon")], revision });
            shuffled.node(Change::Replace { items: nodes, revision });
        } else {
            shuffled.daemon_set(Change::Replace { items: vec![cluster.set("daemon")], revision });
            shuffled.node(Change::Replace { items: nodes, revision });
            pods.into_iter().for_each(|pod| shuffled.pod(Change::Upsert(pod)));
            shuffled.pod(Change::Bookmark(revision));
            shuffled.revision(Change::Replace { items: revisions, revision });
            let items = cluster.pods();
            shuffled.pod(Change::Replace { items, revision });
        }
        prop_assert_eq!(shuffled.plan(cluster.now), plan);
    }
}

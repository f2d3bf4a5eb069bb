//! Properties of random clusters with random events, late watches and lost answers.

use std::collections::BTreeMap;
use std::sync::Arc;

use api::view::{ControllerRevisionView, DaemonSetStatusView, DaemonSetView, PodView, UpdateStrategyView};
use jiff::SignedDuration;
use proptest::prelude::*;
use serde_json::{Value, json};

use super::Cluster;
use super::model::{Fault, KINDS};
use crate::daemonset::{
    Aim, CurrentTemplate, Placement, Trouble, available_from, is_past, is_updated, seniority,
};
use crate::fleet::{Act, Change, Fleet, NodeChange, Options};
use crate::history;
use crate::rollout::Budget;

const NODES: [&str; 5] = ["a", "b", "c", "d", "e"];

/// An event.
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
    /// Requests about a node's pods are refused, or no longer.
    Refuse(usize, bool),
    Relist,
    Restart,
    Work,
}

#[derive(Clone, Copy, Debug)]
enum Taints {
    None,
    NoSchedule,
    NoExecute,
    /// The node is unreachable. Daemons tolerate that.
    Unreachable,
}

#[derive(Clone, Debug)]
enum Spec {
    Image(u8),
    MaxUnavailable(u8),
    MaxUnavailablePercent(u8),
    Surge(u8),
    SurgePercent(u8),
    OnDelete,
    MinReady(u8),
    OnlyLabelled(bool),
}

fn taints(taints: Taints) -> Value {
    match taints {
        Taints::None => json!([]),
        Taints::NoSchedule => json!([{"key": "busy", "effect": "NoSchedule"}]),
        Taints::Unreachable => json!([{"key": "node.kubernetes.io/unreachable", "effect": "NoExecute"}]),
        Taints::NoExecute => json!([{"key": "evil", "value": "very", "effect": "NoExecute"}]),
    }
}

fn spec(spec: &Spec) -> Value {
    let percent = |percent: u8| Value::from(format!("{percent}%"));
    let rolling = |unavailable: Value, surge: Value| {
        let rolling = json!({"maxUnavailable": unavailable, "maxSurge": surge});
        json!({"updateStrategy": {"type": "RollingUpdate", "rollingUpdate": rolling}})
    };
    match spec {
        Spec::Image(version) => Cluster::image(&format!("v{version}")),
        Spec::MaxUnavailable(count) => rolling((*count).into(), 0.into()),
        Spec::MaxUnavailablePercent(count) => rolling(percent(*count), 0.into()),
        Spec::Surge(count) => rolling(0.into(), (*count).into()),
        Spec::SurgePercent(count) => rolling(0.into(), percent(*count)),
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
    prop_oneof![3 => Just(Taints::None), 1 => Just(Taints::NoSchedule), 1 => Just(Taints::NoExecute), 1 => Just(Taints::Unreachable)]
}

fn any_spec() -> impl Strategy<Value = Spec> {
    prop_oneof![
        4 => (1u8..4).prop_map(Spec::Image),
        2 => (1u8..4).prop_map(Spec::MaxUnavailable),
        1 => (1u8..=100).prop_map(Spec::MaxUnavailablePercent),
        2 => (1u8..3).prop_map(Spec::Surge),
        1 => (1u8..=100).prop_map(Spec::SurgePercent),
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
        1 => node.clone().prop_map(Happening::Heartbeat),
        1 => (node, any::<bool>()).prop_map(|(node, refuse)| Happening::Refuse(node, refuse)),
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
            // Like `kubectl delete --cascade=orphan` followed by a create.
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
        Happening::Refuse(node, true) => drop(cluster.refused_nodes.insert(NODES[*node].to_owned())),
        Happening::Refuse(node, false) => drop(cluster.refused_nodes.remove(NODES[*node])),
        Happening::Relist => cluster.relist(),
        Happening::Restart => cluster.restart(),
        Happening::Work => {
            cluster.plan_and_act();
        }
    }
}

/// The correct state of the set, recomputed from all objects with one loop for each rule.
struct Oracle {
    set: Arc<DaemonSetView>,
    hash: Option<Arc<str>>,
    /// Pods of the set by node.
    pods: BTreeMap<Arc<str>, Vec<Arc<PodView>>>,
    desired: Vec<Arc<str>>,
    /// Nodes that an update cannot reach: they are unreachable, and have no pod of the current
    /// template.
    out_of_reach: usize,
    may_stay: Vec<Arc<str>>,
    status: DaemonSetStatusView,
}

fn oracle(cluster: &Cluster) -> Oracle {
    let set = cluster.set("daemon");
    let data = history::data(&set.template);
    let mut revisions = cluster.revisions();
    revisions.retain(|revision| {
        let owner = revision.meta.controller();
        owner.is_some_and(|owner| owner.uid == set.meta.uid)
    });
    let hash_of = |revision: &ControllerRevisionView| -> Arc<str> {
        let hash = revision.meta.labels.get("controller-revision-hash");
        hash.unwrap().into()
    };
    let mut current = revisions
        .iter()
        .filter(|revision| schema::gojson::to_vec(&revision.data) == data);
    let hash: Option<Arc<str>> = current.next_back().map(|revision| hash_of(revision));
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
    let (mut desired, mut may_stay, mut out_of_reach) = (Vec::new(), Vec::new(), 0);
    let template = CurrentTemplate {
        hash: hash.as_deref().unwrap_or("?"),
        generation: set.template_generation(),
        since: set.meta.creation_timestamp,
    };
    let updated = |pod: &PodView| is_updated(pod, &template);
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
        let silent = Trouble::of(&node) == Some(Trouble::Unreachable);
        let staying = pods
            .get(name)
            .into_iter()
            .flatten()
            .filter(|pod| !pod.is_terminating());
        out_of_reach += usize::from(silent && !staying.into_iter().any(|pod| updated(pod)));
        status.desired_number_scheduled += 1;
        if let Some(pod) = first {
            status.current_number_scheduled += 1;
            status.number_ready += i32::from(pod.ready.status);
            let available =
                available_from(pod, set.min_ready_seconds).is_some_and(|from| from <= cluster.now);
            status.number_available += i32::from(available);
            status.updated_number_scheduled += i32::from(updated(pod));
        }
    }
    status.number_unavailable = status.desired_number_scheduled - status.number_available;
    Oracle {
        set,
        hash,
        pods,
        desired,
        out_of_reach,
        may_stay,
        status,
    }
}

/// A condition without the nodes that it names.
fn without_nodes(condition: &str) -> String {
    let end = condition.find("; waiting for").unwrap_or(condition.len());
    condition[..end].to_owned()
}

impl Oracle {
    fn template(&self) -> CurrentTemplate<'_> {
        CurrentTemplate {
            hash: self.hash.as_deref().unwrap_or("?"),
            generation: self.set.template_generation(),
            since: self.set.meta.creation_timestamp,
        }
    }

    /// The expected conditions, without the nodes that the rollout waits for.
    fn conditions(&self, now: jiff::Timestamp) -> Vec<String> {
        let (status, on_delete) = (&self.status, self.set.strategy == UpdateStrategyView::OnDelete);
        let (desired, available) = (status.desired_number_scheduled, status.number_available);
        let allowed = Budget::of(&self.set.strategy, self.desired.len()).max_unavailable;
        let have = format!("{available} of {desired} nodes have an available pod");
        let enough = status.number_unavailable as usize <= allowed && (available > 0 || desired == 0);
        let is_done = |node: &&Arc<str>| {
            self.pods.get(*node).is_some_and(|pods| {
                let from = available_from(&pods[0], self.set.min_ready_seconds);
                let current = is_updated(&pods[0], &self.template());
                from.is_some_and(|from| from <= now) && (current || on_delete)
            })
        };
        let done = self.desired.iter().filter(is_done).count();
        let old = desired - status.updated_number_scheduled;
        let available = match enough {
            true => format!("Available=True MinimumPodsAvailable: {have}"),
            false => {
                format!("Available=False MinimumPodsUnavailable: {have}, and at most {allowed} may lack one")
            }
        };
        let progressing = if done < self.desired.len() {
            format!("Progressing=True PodsUpdating: {done} of {desired} nodes are done")
        } else if old > 0 {
            format!(
                "Progressing=False OnDelete: {old} of {desired} nodes have a pod of an old template, which must be deleted by hand"
            )
        } else {
            format!(
                "Progressing=True NewPodsAvailable: {desired} of {desired} nodes have an available pod of the current template"
            )
        };
        vec![available, progressing]
    }

    /// Returns whether an available pod that does not terminate is on a node.
    fn serves(&self, node: &str, now: jiff::Timestamp) -> bool {
        let serves = |pod: &Arc<PodView>| {
            let from = available_from(pod, self.set.min_ready_seconds);
            !pod.is_terminating() && from.is_some_and(|from| from <= now)
        };
        self.pods.get(node).is_some_and(|pods| pods.iter().any(serves))
    }

    /// Returns whether a new pod starts beside an available one.
    fn is_surging(&self, node: &str, now: jiff::Timestamp) -> bool {
        let staying = |pods: &Vec<Arc<PodView>>| pods.iter().filter(|pod| !pod.is_terminating()).count();
        self.serves(node, now) && self.pods.get(node).map_or(0, staying) > 1
    }

    /// The desired nodes with an available pod that does not terminate.
    fn served(&self, now: jiff::Timestamp) -> usize {
        self.desired.iter().filter(|node| self.serves(node, now)).count()
    }
}

/// Invariants at rest: one current pod on each desired node, and none where none may be.
fn assert_as_desired(cluster: &Cluster) {
    let oracle = oracle(cluster);
    assert_eq!(oracle.set.status, oracle.status, "{}", cluster.picture());
    assert!(oracle.hash.is_some());
    let on_delete = oracle.set.strategy == api::view::UpdateStrategyView::OnDelete;
    for node in &oracle.desired {
        let pods = &oracle.pods[node];
        assert_eq!(pods.len(), 1, "on {node}: {}", cluster.picture());
        let updated = is_updated(&pods[0], &oracle.template());
        assert!(updated || on_delete, "on {node}: {}", cluster.picture());
        assert!(pods[0].ready.status);
    }
    for node in oracle.pods.keys() {
        assert!(oracle.may_stay.contains(node), "on {node}: {}", cluster.picture());
    }
}

/// The index equals a new one with the same objects.
fn assert_index_is_as_if_built_anew(cluster: &mut Cluster) {
    let incremental = format!("{:?}", cluster.fleet.digest());
    cluster.restart();
    cluster.fleet.plan(cluster.now);
    assert_eq!(incremental, format!("{:?}", cluster.fleet.digest()));
}

/// Ends all faults: refusals, lost answers, unreachable nodes.
fn mend(cluster: &mut Cluster) {
    cluster.fault = Fault::None;
    cluster.refused_nodes.clear();
    for node in cluster.nodes() {
        if Trouble::of(&node).is_some() {
            cluster.taint(&node.meta.name, json!([]));
        }
    }
}

/// With or without a scheduler.
fn any_aim() -> impl Strategy<Value = Aim> {
    prop_oneof![3 => Just(Aim::Affinity), 1 => Just(Aim::NodeName)]
}

fn random_run(aim: Aim, happenings: &[Happening]) -> Cluster {
    let mut cluster = Cluster::with_options(Options {
        aim,
        ..Options::default()
    });
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
    fn every_run_ends_as_desired_and_there_nothing_is_left_to_do(aim in any_aim(), happenings in runs(60)) {
        let mut cluster = random_run(aim, &happenings);
        mend(&mut cluster);
        cluster.converge();
        assert_eq!(cluster.violations, Vec::<String>::new());
        assert_as_desired(&cluster);
        prop_assert_eq!(cluster.plan(), vec![]);
        assert_index_is_as_if_built_anew(&mut cluster);
    }

    #[test]
    fn status_equals_full_recompute_when_everything_is_seen(aim in any_aim(), happenings in runs(40)) {
        let mut cluster = random_run(aim, &happenings);
        cluster.fault = Fault::None;
        cluster.refused_nodes.clear();
        cluster.wait(120);
        cluster.settle();
        let oracle = oracle(&cluster);
        prop_assert_eq!(&oracle.set.status, &oracle.status);
        let said: Vec<_> = cluster.conditions("daemon").iter().map(|said| without_nodes(said)).collect();
        prop_assert_eq!(said, oracle.conditions(cluster.now));
    }

    #[test]
    fn no_more_available_pods_are_taken_than_the_budget_allows(aim in any_aim(), happenings in runs(40)) {
        let mut cluster = random_run(aim, &happenings);
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
                    let reachable = before.desired.len() - before.out_of_reach;
                    let allowed = reachable.saturating_sub(budget.max_unavailable).min(served);
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
    fn a_surge_has_no_more_nodes_with_two_pods_than_its_budget(aim in any_aim(), surge in 1u8..4, happenings in runs(40)) {
        let mut cluster = random_run(aim, &happenings);
        cluster.fault = Fault::None;
        cluster.apply_set("daemon", spec(&Spec::Surge(surge)));
        cluster.apply_set("daemon", spec(&Spec::Image(9)));
        for round in 0..12 {
            cluster.deliver_all();
            for action in cluster.plan() {
                let before = oracle(&cluster);
                let Act::CreatePod { node, .. } = &action.act else {
                    cluster.act(&action);
                    continue;
                };
                let beside_an_available_one = before.serves(node, cluster.now);
                cluster.act(&action);
                if beside_an_available_one {
                    let after = oracle(&cluster);
                    let surging = after.desired.iter().filter(|node| after.is_surging(node, cluster.now)).count();
                    prop_assert!(surging <= usize::from(surge), "{} of {}: {}", surging, surge, cluster.picture());
                }
            }
            if round % 3 == 0 {
                cluster.machines();
            }
            cluster.now += SignedDuration::from_secs(3);
        }
    }

    #[test]
    fn what_is_forecast_is_what_then_happens(aim in any_aim(), happenings in runs(30), change in any_spec()) {
        let mut cluster = random_run(aim, &happenings);
        cluster.fault = Fault::None;
        cluster.refused_nodes.clear();
        cluster.converge();
        let pod_of = |cluster: &Cluster, node: &str| {
            oracle(cluster).pods.get(node).map(|pods| pods[0].meta.uid.clone())
        };
        let set = cluster.dry_run("daemon", spec(&change));
        let forecast = cluster.observed().forecast(&set, cluster.now);
        let before: Vec<_> = forecast.nodes.iter().map(|node| pod_of(&cluster, &node.node)).collect();
        cluster.apply_set("daemon", spec(&change));
        cluster.converge();
        for (node, before) in forecast.nodes.iter().zip(before) {
            let after = pod_of(&cluster, &node.node);
            let happened = match (&before, &after) {
                (None, None) => matches!(node.change, NodeChange::NotHere(_) | NodeChange::Waits),
                (None, Some(_)) => node.change == NodeChange::Gains,
                (Some(_), None) => node.change == NodeChange::Loses,
                (Some(before), Some(after)) if before == after => matches!(node.change, NodeChange::Keeps | NodeChange::KeepsOld),
                (Some(_), Some(_)) => node.change == NodeChange::Replaces,
            };
            prop_assert!(happened, "{}: {} was forecast; {:?} became {:?}", node.node, node.change, before, after);
        }
    }

    #[test]
    fn the_order_in_which_things_are_listed_does_not_matter(aim in any_aim(), happenings in runs(40), seed in any::<u64>()) {
        let mut cluster = random_run(aim, &happenings);
        cluster.restart();
        let plan = cluster.fleet.plan(cluster.now);
        let mut shuffled = Fleet::new(Options { aim, ..Options::default() });
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

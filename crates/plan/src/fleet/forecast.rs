//! Forecasts what a DaemonSet would do if it were written now. It runs the planner against a
//! simulated cluster, in which the server accepts every request, every new pod becomes ready, and
//! every deleted pod ends.
//!
//! What is broken now stays broken: pods that are not ready stay so, and nothing starts or ends on
//! an unreachable node. So a forecast can end before every node is up to date, and then names those
//! nodes.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;

use api::view::Labels;
use api::view::{
    ControllerRevisionView, DaemonSetView, ObjectMetaView, OwnerView, PhaseView, PodView, ReadyView,
};
use jiff::Timestamp;
use serde_json::json;

use super::action::{Act, Action, Answer, Target};
use super::conditions::Condition;
use super::explain::Case;
use super::{Change, Fleet, ObjectKey, Objects, Verdict};
use crate::daemonset::{HASH_LABEL, Misfit, NodeName, Trouble, is_past, seniority};

/// Forecast of a DaemonSet.
#[derive(Clone, PartialEq, Debug)]
pub struct Forecast {
    /// The nodes, by name: those that should run it, those that have a pod of it, and why the
    /// others are excluded.
    pub nodes: Vec<NodeForecast>,
    /// Number of waves. A wave is what the update's budget allows at a time.
    pub waves: usize,
}

/// Forecast for one node.
#[derive(Clone, PartialEq, Debug)]
pub struct NodeForecast {
    /// The node.
    pub node: NodeName,
    /// What happens to its pod.
    pub change: NodeChange,
    /// The wave in which it begins, from 1; `None` if nothing happens.
    pub wave: Option<usize>,
    /// The pod that it has now.
    pub pod: Option<Arc<PodView>>,
    /// The state of the set there in the end.
    pub verdict: Verdict,
}

/// What happens to a node's pod.
#[derive(Clone, PartialEq, Debug)]
pub enum NodeChange {
    /// It has none, and gets one.
    Gains,
    /// Its pod is replaced by a new one.
    Replaces,
    /// Its pod stays, and has the template that is current in the end.
    Keeps,
    /// Its old pod stays: because of OnDelete, a taint, or an update that is stuck.
    KeepsOld,
    /// Its pod is deleted, and not replaced.
    Loses,
    /// It has none, and gets none.
    NotHere(Misfit),
    /// It should get one but does not; the verdict has the reason.
    Waits,
}

impl fmt::Display for NodeChange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            NodeChange::Gains => f.write_str("gains a pod"),
            NodeChange::Replaces => f.write_str("gets a new pod in place of the old one"),
            NodeChange::Keeps => f.write_str("keeps its pod"),
            NodeChange::KeepsOld => f.write_str("keeps its old pod"),
            NodeChange::Loses => f.write_str("loses its pod"),
            NodeChange::NotHere(why) => write!(f, "has none: {why}"),
            NodeChange::Waits => f.write_str("gets no pod"),
        }
    }
}

/// Most rounds of requests and of simulated machines for each node. A node takes about five (delete
/// the old pod, end it, create the new one, ready, available), so a forecast that takes more does
/// not end.
const ROUNDS_A_NODE: usize = 16;

/// Further rounds, whatever the number of nodes: history, adoption, status.
const ROUNDS: usize = 64;

impl Fleet {
    /// Forecasts what would happen if `set` were written now, as a new DaemonSet or as an update.
    ///
    /// `set` must be complete: with defaults, uid, generation and the template's generation, like
    /// the server's answer to a dry run. The fleet itself does not change.
    pub fn forecast(&self, set: &Arc<DaemonSetView>, now: Timestamp) -> Forecast {
        let before = self.pods_by_node(set);
        let mut rehearsal = Rehearsal::new(self, set, now);
        rehearsal.run();
        rehearsal.result(&before)
    }

    /// The senior pod of the set with this name on each node.
    fn pods_by_node(&self, set: &DaemonSetView) -> BTreeMap<NodeName, Arc<PodView>> {
        let key = (set.meta.namespace.clone(), set.meta.name.clone());
        let Some(present) = self.sets.get(&key) else {
            return BTreeMap::new();
        };
        let senior = |pods: &[(Arc<PodView>, _)]| {
            let counted = pods.iter().map(|(pod, _)| pod).filter(|pod| !is_past(pod));
            counted.min_by(|a, b| seniority(a, b)).cloned()
        };
        let pairs = present.pairs.iter();
        pairs
            .filter_map(|(node, pair)| Some((node.clone(), senior(&pair.pods)?)))
            .collect()
    }
}

/// A simulated cluster that carries out every request.
struct Rehearsal {
    fleet: Fleet,
    key: ObjectKey,
    now: Timestamp,
    /// The last resourceVersion.
    revision: u64,
    /// Pods that a machine must start or end.
    unfinished: BTreeSet<ObjectKey>,
    /// The wave of the first action on each node.
    begun: BTreeMap<NodeName, usize>,
    waves: usize,
}

impl Rehearsal {
    fn new(fleet: &Fleet, set: &Arc<DaemonSetView>, now: Timestamp) -> Rehearsal {
        let namespace = &set.meta.namespace;
        let of_namespace = |(of, _): &ObjectKey| of == namespace;
        let pods: Vec<_> = fleet
            .pods
            .iter()
            .filter(|(key, _)| of_namespace(key))
            .map(|(_, entry)| entry.pod.clone())
            .collect();
        let revisions: Vec<_> = fleet
            .revisions
            .iter()
            .filter(|(key, _)| of_namespace(key))
            .map(|(_, revision)| revision.clone())
            .collect();
        let versions = pods.iter().map(|pod| pod.meta.resource_version);
        let versions = versions.chain(revisions.iter().map(|revision| revision.meta.resource_version));
        let revision = versions.chain([set.meta.resource_version]).max().unwrap_or(0);
        let unfinished = pods.iter().filter(|pod| pod.is_terminating());
        Rehearsal {
            key: (namespace.clone(), set.meta.name.clone()),
            now,
            revision,
            unfinished: unfinished.map(|pod| pod_key(pod)).collect(),
            begun: BTreeMap::new(),
            waves: 0,
            fleet: Fleet::of(
                fleet.options,
                Objects {
                    nodes: fleet.nodes.values().cloned().collect(),
                    pods,
                    daemon_sets: vec![set.clone()],
                    revisions,
                },
                now,
            ),
        }
    }

    fn run(&mut self) {
        let rounds = ROUNDS + ROUNDS_A_NODE * self.fleet.nodes.len();
        for _ in 0..rounds {
            let look_again = self.settle();
            if self.machines() {
                continue;
            }
            match look_again {
                Some(moment) => self.now = moment,
                None => return,
            }
        }
    }

    /// Plans, and carries out the actions, until a plan is empty. The nodes on which this begins
    /// are one wave.
    fn settle(&mut self) -> Option<Timestamp> {
        let mut begun = BTreeSet::new();
        let look_again = loop {
            let plan = self.fleet.plan(self.now);
            if plan.actions.is_empty() {
                break plan.look_again;
            }
            for action in plan.actions {
                if let Act::CreatePod { node, .. } | Act::DeletePod { node, .. } = &action.act
                    && !self.begun.contains_key(node)
                {
                    begun.insert(node.clone());
                }
                self.grant(&action);
            }
        };
        if !begun.is_empty() {
            self.waves += 1;
            self.begun
                .extend(begun.into_iter().map(|node| (node, self.waves)));
        }
        look_again
    }

    /// Carries out an action and answers it.
    fn grant(&mut self, action: &Action) {
        self.revision += 1;
        let mut code = 200;
        let mut body =
            json!({"metadata": {"resourceVersion": self.revision.to_string(), "uid": &*action.set.uid}});
        match &action.act {
            Act::CreatePod { .. } => self.create_pod(action),
            Act::DeletePod { name, .. } => self.delete_pod(name),
            Act::AdoptPod(target) => self.edit_pod(target, |pod| adopt(&mut pod.meta, action)),
            Act::ReleasePod(target) => self.edit_pod(target, |pod| pod.meta.owners = None),
            Act::RelabelPod(target, hash) => self.edit_pod(target, |pod| label(&mut pod.meta, hash)),
            Act::WriteRevision { body, .. } => self.write_revision(body),
            Act::AdoptRevision(target) => {
                self.edit_revision(target, |revision| adopt(&mut revision.meta, action));
            }
            Act::ReleaseRevision(target) => {
                self.edit_revision(target, |revision| revision.meta.owners = None)
            }
            Act::LabelRevision(target, hash) => {
                self.edit_revision(target, |revision| label(&mut revision.meta, hash));
            }
            Act::RenumberRevision(target, number) => {
                self.edit_revision(target, |revision| revision.revision = *number);
            }
            Act::DropRevision(target) => self.drop_revision(target),
            Act::UpdateStatus {
                status, conditions, ..
            } => self.edit_set(|set| {
                set.status = status.clone();
                set.conditions = conditions.iter().map(Condition::view).collect();
            }),
            Act::ConfirmSet => {}
            // No name is taken in a rehearsal, so these actions do not occur.
            Act::InspectPod { .. } | Act::ConfirmPod { .. } | Act::InspectRevision(_) => {
                (code, body) = (404, json!({}))
            }
        }
        let body = body.to_string();
        let answer = Answer::Response {
            code,
            body: body.as_bytes(),
        };
        self.fleet.answer(action, answer, self.now);
    }

    fn create_pod(&mut self, action: &Action) {
        let body = action.request().body;
        let Ok(mut pod) = serde_json::from_slice::<PodView>(&body) else {
            return;
        };
        pod.meta.uid = format!("forecast-{}", self.revision).into();
        pod.meta.creation_timestamp = Some(self.now);
        self.unfinished.insert(pod_key(&pod));
        self.put_pod(pod);
    }

    fn delete_pod(&mut self, name: &Arc<str>) {
        let key = (self.key.0.clone(), name.clone());
        let Some(mut pod) = self.pod(&key) else {
            return;
        };
        pod.meta.deletion_timestamp.get_or_insert(self.now);
        self.unfinished.insert(key);
        self.put_pod(pod);
    }

    fn pod(&self, key: &ObjectKey) -> Option<PodView> {
        self.fleet.pods.get(key).map(|entry| (*entry.pod).clone())
    }

    fn put_pod(&mut self, mut pod: PodView) {
        pod.meta.resource_version = self.revision;
        self.fleet.pod(Change::Upsert(Arc::new(pod)));
    }

    fn edit_pod(&mut self, target: &Target, edit: impl FnOnce(&mut PodView)) {
        if let Some(mut pod) = self.pod(&(self.key.0.clone(), target.name.clone())) {
            edit(&mut pod);
            self.put_pod(pod);
        }
    }

    fn write_revision(&mut self, body: &[u8]) {
        if let Ok(mut revision) = serde_json::from_slice::<ControllerRevisionView>(body) {
            revision.meta.uid = format!("forecast-{}", self.revision).into();
            revision.meta.resource_version = self.revision;
            self.fleet.revision(Change::Upsert(Arc::new(revision)));
        }
    }

    fn revision(&self, target: &Target) -> Option<ControllerRevisionView> {
        let key = (self.key.0.clone(), target.name.clone());
        self.fleet.revisions.get(&key).map(|revision| {
            let mut revision = (**revision).clone();
            revision.meta.resource_version = self.revision;
            revision
        })
    }

    fn edit_revision(&mut self, target: &Target, edit: impl FnOnce(&mut ControllerRevisionView)) {
        if let Some(mut revision) = self.revision(target) {
            edit(&mut revision);
            self.fleet.revision(Change::Upsert(Arc::new(revision)));
        }
    }

    fn drop_revision(&mut self, target: &Target) {
        if let Some(revision) = self.revision(target) {
            self.fleet.revision(Change::Delete(Arc::new(revision)));
        }
    }

    fn edit_set(&mut self, edit: impl FnOnce(&mut DaemonSetView)) {
        if let Some(set) = self.fleet.sets.get(&self.key) {
            let mut view = (*set.view).clone();
            view.meta.resource_version = self.revision;
            edit(&mut view);
            self.fleet.daemon_set(Change::Upsert(Arc::new(view)));
        }
    }

    /// The reachable machines end the deleted pods and start the new ones. Returns whether anything
    /// was done.
    fn machines(&mut self) -> bool {
        let mut done = false;
        for key in std::mem::take(&mut self.unfinished) {
            let Some(mut pod) = self.pod(&key) else {
                continue;
            };
            let node = pod.target_node().and_then(|node| self.fleet.nodes.get(node));
            if node.is_some_and(|node| Trouble::of(node) == Some(Trouble::Unreachable)) {
                continue;
            }
            done = true;
            self.revision += 1;
            if pod.is_terminating() {
                pod.meta.resource_version = self.revision;
                self.fleet.pod(Change::Delete(Arc::new(pod)));
                continue;
            }
            pod.node_name = pod.target_node().cloned();
            pod.phase = PhaseView::Running;
            pod.ready = ReadyView {
                status: true,
                since: Some(self.now),
            };
            self.put_pod(pod);
        }
        done
    }

    fn result(mut self, before: &BTreeMap<NodeName, Arc<PodView>>) -> Forecast {
        let Some(set) = self.fleet.sets.get(&self.key) else {
            return Forecast {
                nodes: Vec::new(),
                waves: 0,
            };
        };
        let mut nodes = Vec::new();
        for (node, pair) in &set.pairs {
            let view = self.fleet.nodes.get(node).map(|node| &**node);
            let case = Case::new(set, pair, view, self.now);
            let Some((verdict, _)) = case.verdict() else {
                continue;
            };
            let before = before.get(node).cloned();
            let change = change(before.as_deref(), &case, &verdict);
            nodes.push(NodeForecast {
                node: node.clone(),
                change,
                wave: self.begun.remove(node),
                pod: before,
                verdict,
            });
        }
        Forecast {
            nodes,
            waves: self.waves,
        }
    }
}

fn change(before: Option<&PodView>, case: &Case<'_>, verdict: &Verdict) -> NodeChange {
    match (before, case.senior(), verdict) {
        (None, _, Verdict::NotHere(why)) => NodeChange::NotHere(why.clone()),
        (None, None, _) => NodeChange::Waits,
        (None, Some(_), _) => NodeChange::Gains,
        (Some(_), None, _) => NodeChange::Loses,
        (Some(before), Some(after), _) if before.meta.uid != after.meta.uid => NodeChange::Replaces,
        (Some(_), Some(after), _) if after.is_terminating() || !case.is_updated(after) => {
            NodeChange::KeepsOld
        }
        (Some(_), Some(_), _) => NodeChange::Keeps,
    }
}

fn pod_key(pod: &PodView) -> ObjectKey {
    (pod.meta.namespace.clone(), pod.meta.name.clone())
}

fn adopt(meta: &mut ObjectMetaView, action: &Action) {
    let owner = OwnerView {
        api_version: "apps/v1".into(),
        kind: "DaemonSet".into(),
        name: action.set.name.clone(),
        uid: action.set.uid.clone(),
        controller: true,
        block_owner_deletion: true,
    };
    meta.owners = Some([owner].into());
}

fn label(meta: &mut ObjectMetaView, hash: &str) {
    let others = meta.labels.iter().filter(|(key, _)| *key != HASH_LABEL);
    meta.labels = Labels::new(others.chain([(HASH_LABEL, hash)]));
}

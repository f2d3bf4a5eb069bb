//! Selects a node for each pod.
//!
//! A daemon pod is pinned: its required node affinity names one node, and only that node is
//! checked. Only pods with a choice need search and scores. [`Scheduler`] tracks the capacity of
//! nodes, its use by bound pods, and the waiting pods, event by event. A pod that did not fit is
//! woken by a change that may help, not by time.
//!
//! The rules and messages are those of Kubernetes' scheduler plugins NodeUnschedulable,
//! TaintToleration, NodeAffinity, NodePorts, NodeResourcesFit, PodTopologySpread and
//! InterPodAffinity, in this order, and of DefaultPreemption if no node fits.
//!
//! A decision is assumed at once: the pod counts on its node until the binding is seen, or
//! [`Scheduler::bind_failed`] reverts it. The victims of a preemption count as leaving until they
//! are deleted, or until [`Scheduler::preemption_failed`].

mod cluster;
mod message;
mod neighbours;
mod node;
mod nominations;
mod preemption;
mod queue;
mod reason;
mod score;
#[cfg(test)]
mod tests;
mod topology;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use api::view::{NamespaceView, NodeView, PodDisruptionBudgetView, PodView};
use jiff::Timestamp;

use self::cluster::Cluster;
use self::message::Histogram;
use self::nominations::Nominations;
use self::queue::{Queue, Refused, Tried};
use self::reason::{Reason, Rejection};
use self::score::Candidate;
use self::topology::Outlook;

/// The name of this scheduler in `spec.schedulerName`.
pub const DEFAULT_SCHEDULER: &str = "default-scheduler";

/// A search ends when this many nodes fit, and scores those. On a large cluster, the best of some
/// hundred nodes is hardly worse than the best of all. Kubernetes samples too.
const NODES_SCORED: usize = 200;

/// The first backoff of a pod that was not scheduled. It doubles up to [`BACKOFF_LONGEST`]:
/// Kubernetes' `podInitialBackoffSeconds` and `podMaxBackoffSeconds`.
pub const BACKOFF_FIRST: Duration = Duration::from_secs(1);
/// The longest backoff.
pub const BACKOFF_LONGEST: Duration = Duration::from_secs(10);
/// A pod that no change wakes is tried again after this time, in case a change was overlooked.
pub const LOOK_AGAIN: Duration = Duration::from_secs(300);

/// Namespace and name of a pod.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PodKey {
    /// Its namespace.
    pub namespace: Arc<str>,
    /// Its name.
    pub name: Arc<str>,
}

impl PodKey {
    /// The key of a pod.
    pub fn of(pod: &PodView) -> Self {
        Self {
            namespace: pod.meta.namespace.clone(),
            name: pod.meta.name.clone(),
        }
    }
}

/// Result of an attempt to schedule a pod.
#[derive(Clone, Debug, PartialEq)]
pub enum Verdict {
    /// Bind it to this node.
    Bind {
        /// The node's name.
        node: Arc<str>,
    },
    /// No node fits now.
    Unschedulable {
        /// Message of the FailedScheduling event and the PodScheduled condition.
        message: String,
        /// Its new `status.nominatedNodeName`.
        nominated: Option<Arc<str>>,
        /// The preemption that makes room for it.
        preemption: Option<Preemption>,
    },
}

/// Room made for a pod of a higher priority.
#[derive(Clone, Debug, PartialEq)]
pub struct Preemption {
    /// The node.
    pub node: Arc<str>,
    /// The pods to delete, the most important first, without those that are terminating already.
    pub victims: Vec<Arc<PodView>>,
    /// Pods of a lower priority whose nomination to the node ends.
    pub unseated: Vec<Arc<PodView>>,
}

/// A decision about a pod.
#[derive(Clone, Debug, PartialEq)]
pub struct Decision {
    /// The pod.
    pub pod: PodKey,
    /// Its uid, so that a later pod with the same name is not bound.
    pub uid: Arc<str>,
    /// What to do.
    pub verdict: Verdict,
    /// Whether the pod's status already contains the verdict, so that nothing must be written.
    pub known: bool,
}

/// Why no node fits a pod now.
struct Refusal {
    histogram: Histogram,
    /// Nodes on which a preemption may help, in the order of the search.
    resolvable: Vec<Arc<str>>,
}

impl Refusal {
    fn new() -> Self {
        Refusal {
            histogram: Histogram::default(),
            resolvable: Vec::new(),
        }
    }

    fn add(&mut self, node: &Arc<str>, rejection: &Rejection) {
        self.histogram.add(rejection);
        if rejection.resolvable {
            self.resolvable.push(node.clone());
        }
    }
}

/// Counters of the scheduler's work.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Work {
    /// Attempts to schedule a pod.
    pub turns: u64,
    /// Checks of a pod on a node.
    pub looks: u64,
}

/// The nodes, their use, and the waiting pods.
#[derive(Default)]
pub struct Scheduler {
    cluster: Cluster,
    queue: Queue,
    nominations: Nominations,
    budgets: BTreeMap<(Arc<str>, Arc<str>), Arc<PodDisruptionBudgetView>>,
    /// The node at which the last search ended. The next one continues there, so that pods spread
    /// over nodes with equal scores.
    cursor: Arc<str>,
    work: Work,
}

/// Events.
impl Scheduler {
    /// An empty scheduler.
    pub fn new() -> Self {
        Self::default()
    }

    /// A node was added or changed.
    pub fn put_node(&mut self, node: &Arc<NodeView>) {
        let change = self.cluster.put_node(node);
        if change.here {
            self.wake_for(&node.meta.name);
        }
        if change.around {
            self.queue.wake_topology();
        }
    }

    /// A node was deleted. Its pods stay counted until they are deleted, and nominations to it end.
    pub fn delete_node(&mut self, name: &str) {
        if !self.cluster.delete_node(name) {
            return;
        }
        for pod in self.nominations.on(name) {
            let key = PodKey::of(&pod);
            self.nominations.end(&key);
            self.queue.wake_pod(&key);
        }
        self.queue.wake_topology();
    }

    /// A namespace was added or changed.
    pub fn put_namespace(&mut self, namespace: &NamespaceView) {
        let meta = &namespace.meta;
        if self.cluster.neighbours.put_namespace(&meta.name, &meta.labels) {
            self.queue.wake_topology();
        }
    }

    /// A namespace was deleted.
    pub fn delete_namespace(&mut self, name: &str) {
        self.cluster.neighbours.delete_namespace(name);
    }

    /// A PodDisruptionBudget was added or changed.
    pub fn put_budget(&mut self, budget: &Arc<PodDisruptionBudgetView>) {
        let key = (budget.meta.namespace.clone(), budget.meta.name.clone());
        self.budgets.insert(key, budget.clone());
    }

    /// A PodDisruptionBudget was deleted.
    pub fn delete_budget(&mut self, budget: &PodDisruptionBudgetView) {
        let key = (budget.meta.namespace.clone(), budget.meta.name.clone());
        self.budgets.remove(&key);
    }

    /// A pod was added or changed.
    pub fn put_pod(&mut self, pod: &Arc<PodView>) {
        let key = PodKey::of(pod);
        if pod.is_terminal() {
            self.forget(&key);
        } else if let Some(node) = &pod.node_name {
            self.queue.remove(&key);
            self.end_nomination(&key);
            self.place(&key, pod, node, false);
        } else if pod.is_terminating() || !self.is_being_bound(&key, pod) {
            self.put_unbound(key, pod);
        }
    }

    /// A pod was deleted.
    pub fn delete_pod(&mut self, key: &PodKey) {
        self.forget(key);
    }

    /// Returns whether this state of the pod is older than its binding, which is in flight.
    fn is_being_bound(&self, key: &PodKey, pod: &PodView) -> bool {
        let placed = self.cluster.placed(key);
        placed.is_some_and(|placed| placed.assumed && placed.pod.meta.uid == pod.meta.uid)
    }

    fn put_unbound(&mut self, key: PodKey, pod: &Arc<PodView>) {
        self.release(&key);
        let ours = &*pod.spec.scheduler_name == DEFAULT_SCHEDULER || pod.spec.scheduler_name.is_empty();
        if !ours || pod.spec.gated || pod.is_terminating() {
            self.forget(&key);
            return;
        }
        self.hear_nomination(&key, pod);
        self.queue.put(key, pod.clone());
    }

    /// Applies a new nomination in the pod's status. It may be from before a restart, or from
    /// another component.
    fn hear_nomination(&mut self, key: &PodKey, pod: &Arc<PodView>) {
        let before = self.queue.get(key).filter(|old| old.meta.uid == pod.meta.uid);
        match (before, &pod.nominated_node) {
            (Some(before), now) if before.nominated_node == *now => {}
            (_, Some(node)) => {
                let node = node.clone();
                self.nominate(pod, &node);
            }
            (_, None) => self.end_nomination(key),
        }
    }

    /// The binding of an assumed pod failed: the pod no longer counts, and backs off.
    pub fn bind_failed(&mut self, key: &PodKey, pod: &Arc<PodView>, now: Timestamp) {
        if self.is_being_bound(key, pod) {
            self.release(key);
            self.queue.put_back(key.clone(), pod.clone(), now);
        }
    }

    /// A victim could not be deleted: it stays, and the preempting pod is tried again.
    pub fn preemption_failed(&mut self, key: &PodKey, victim: &PodView) {
        self.cluster
            .set_leaving(&PodKey::of(victim), &victim.meta.uid, false);
        self.queue.wake_pod(key);
    }

    /// The pod neither waits nor counts any more.
    fn forget(&mut self, key: &PodKey) {
        self.queue.remove(key);
        self.end_nomination(key);
        self.release(key);
    }

    fn place(&mut self, key: &PodKey, pod: &Arc<PodView>, node: &Arc<str>, assumed: bool) {
        let (is_news, before) = self.cluster.place(key, pod, node, assumed);
        if let Some(before) = before {
            self.wake_for(&before.node);
        }
        if is_news {
            self.queue.wake_topology();
        }
    }

    fn release(&mut self, key: &PodKey) {
        if let Some(placed) = self.cluster.release(key) {
            self.wake_for(&placed.node);
            self.queue.wake_topology();
        }
    }

    /// Reserves room for the pod on this node, and on no other.
    fn nominate(&mut self, pod: &Arc<PodView>, node: &Arc<str>) {
        if self.nominations.node_of(pod) != Some(node) {
            self.end_nomination(&PodKey::of(pod));
        }
        self.nominations.set(pod, node);
    }

    /// Releases the room that was reserved for the pod.
    fn end_nomination(&mut self, key: &PodKey) {
        if let Some(node) = self.nominations.end(key) {
            self.wake_for(&node);
            self.queue.wake_topology();
        }
    }

    /// A node changed: wakes one pod of each group that waits for it and may fit now.
    fn wake_for(&mut self, node: &Arc<str>) {
        for group in self.queue.waiting_for(node) {
            self.wake_group_for(group, node);
        }
    }

    fn wake_group_for(&mut self, group: u64, node: &Arc<str>) {
        let Some(pod) = self.queue.sample(group).cloned() else {
            return;
        };
        if self.queue.is_topology(group) {
            // Checking whether the change helps costs as much as an attempt.
            if self.queue.is_idle(group) {
                self.queue.wake(group);
            }
            return;
        }
        let mut outlook = Outlook::of(&mut self.cluster, &pod);
        match self.takes(&pod, &mut outlook, node) {
            Ok(()) => self.queue.wake(group),
            Err(rejection) if rejection.is_topology() => self.queue.set_topology(group),
            Err(rejection) if self.may_go_on(&pod, node, &rejection) => self.queue.wake(group),
            Err(_) => {}
        }
    }

    /// Returns whether an attempt may help although the node does not fit: it may preempt pods, or
    /// give up a nomination that became useless. While victims are terminating, there is nothing to
    /// do.
    fn may_go_on(&self, pod: &PodView, node: &Arc<str>, rejection: &Rejection) -> bool {
        let lower = self.cluster.lower(node, pod.spec.priority);
        let is_nominated = self.nominations.node_of(pod) == Some(node);
        match is_nominated {
            true => !rejection.resolvable || !lower.iter().any(|(_, placed)| placed.leaving),
            false => rejection.resolvable && !pod.spec.never_preempts && !lower.is_empty(),
        }
    }
}

/// Decisions.
impl Scheduler {
    /// Takes the next pod from the queue and decides. A pod that fits is assumed on its node.
    /// `None` if no pod is ready.
    pub fn next(&mut self, now: Timestamp) -> Option<(Decision, Arc<PodView>)> {
        let (key, pod, tried) = self.queue.pop(now)?;
        self.work.turns += 1;
        let verdict = self.decide(&key, &pod, tried, now);
        let decision = Decision {
            known: is_known(&pod, &verdict),
            pod: key,
            uid: pod.meta.uid.clone(),
            verdict,
        };
        Some((decision, pod))
    }

    /// When [`Scheduler::next`] may return a pod even if nothing changes, because a backoff ends.
    pub fn next_turn(&self) -> Option<Timestamp> {
        self.queue.next_turn()
    }

    /// Number of waiting pods.
    pub fn pending(&self) -> usize {
        self.queue.len()
    }

    /// The work done so far.
    pub fn work(&self) -> Work {
        self.work
    }

    fn decide(&mut self, key: &PodKey, pod: &Arc<PodView>, tried: Tried, now: Timestamp) -> Verdict {
        let pin = pin(pod);
        if self.nominations.node_of(pod).is_none()
            && let Some(refused) = self.queue.refused(pod, pin, &tried)
        {
            let message = refused.message.to_string();
            self.queue.park(key.clone(), pod.clone(), tried, refused, now);
            return Verdict::Unschedulable {
                message,
                nominated: None,
                preemption: None,
            };
        }
        let mut outlook = Outlook::of(&mut self.cluster, pod);
        match self.find(pod, &mut outlook) {
            Ok(node) => {
                self.end_nomination(key);
                self.place(key, pod, &node, true);
                if let Some(group) = self.queue.placed(&tried) {
                    self.wake_group_for(group, &node);
                }
                Verdict::Bind { node }
            }
            Err(refusal) => self.refuse(key, pod, tried, &mut outlook, &refusal, now),
        }
    }

    /// Preempts other pods for the pod if possible, and parks it.
    fn refuse(
        &mut self,
        key: &PodKey,
        pod: &Arc<PodView>,
        tried: Tried,
        outlook: &mut Outlook,
        refusal: &Refusal,
        now: Timestamp,
    ) -> Verdict {
        let preemption = self.preempt(pod, outlook, refusal);
        match &preemption {
            Ok(preemption) => self.nominate(pod, &preemption.node),
            // A pod that waits for its victims, or may not preempt, keeps its nomination.
            Err(message::NoPreemption::Useless(_)) => self.end_nomination(key),
            Err(_) => {}
        }
        let known = self.cluster.known();
        let message = message::message(known, &refusal.histogram, preemption.as_ref().err());
        let nominated = self.nominations.node_of(pod).cloned();
        let refused = Refused {
            pin: pin(pod).cloned(),
            nominated: nominated.clone(),
            topology: pod.spec.topology.is_some() || refusal.histogram.is_topology(),
            message: message.as_str().into(),
        };
        self.queue.park(key.clone(), pod.clone(), tried, refused, now);
        Verdict::Unschedulable {
            message,
            nominated,
            preemption: preemption.ok(),
        }
    }

    /// The node for a pod: the nominated one if it fits by now, or else the best one that fits.
    fn find(&mut self, pod: &PodView, outlook: &mut Outlook) -> Result<Arc<str>, Refusal> {
        if let Some(nominated) = self.nominations.node_of(pod).cloned()
            && self.takes(pod, outlook, &nominated).is_ok()
        {
            return Ok(nominated);
        }
        if let Some(name) = pin(pod) {
            return self.ask_pinned(pod, outlook, name);
        }
        let required = pod.spec.node_affinity.as_ref().and_then(|a| a.required.as_ref());
        match required.and_then(|selector| selector.named_nodes()) {
            Some(names) => self.ask_named(pod, outlook, &names),
            None => self.search(pod, outlook),
        }
    }

    fn ask_pinned(
        &mut self,
        pod: &PodView,
        outlook: &mut Outlook,
        name: &Arc<str>,
    ) -> Result<Arc<str>, Refusal> {
        let mut refusal = Refusal::new();
        let is_known = self.cluster.node(name).is_some();
        if is_known {
            match self.takes(pod, outlook, name) {
                Ok(()) => return Ok(name.clone()),
                Err(rejection) => refusal.add(name, &rejection),
            }
        }
        let others = self.cluster.known() - usize::from(is_known);
        refusal.histogram.count(Reason::NotNamed, others);
        Err(refusal)
    }

    /// Checks only the nodes that the pod names.
    fn ask_named(
        &mut self,
        pod: &PodView,
        outlook: &mut Outlook,
        names: &BTreeSet<Arc<str>>,
    ) -> Result<Arc<str>, Refusal> {
        let mut refusal = Refusal::new();
        if names.is_empty() {
            refusal
                .histogram
                .count(Reason::TermsConflict, self.cluster.known());
            return Err(refusal);
        }
        let mut fitting = Vec::new();
        let mut known = 0;
        for name in names
            .iter()
            .filter(|name| self.cluster.node(name).is_some())
            .cloned()
            .collect::<Vec<_>>()
        {
            known += 1;
            match self.takes(pod, outlook, &name) {
                Ok(()) => fitting.extend(self.candidate(pod, outlook, &name)),
                Err(rejection) => refusal.add(&name, &rejection),
            }
        }
        refusal
            .histogram
            .count(Reason::NotNamed, self.cluster.known() - known);
        score::best(&fitting).cloned().ok_or(refusal)
    }

    /// Filters and scores nodes until enough of them fit, from where the last search ended. Nodes
    /// with nominated pods come last.
    fn search(&mut self, pod: &PodView, outlook: &mut Outlook) -> Result<Arc<str>, Refusal> {
        let mut refusal = Refusal::new();
        let mut fitting = Vec::new();
        let mut contested = Vec::new();
        let neighbours = &self.cluster.neighbours;
        for (name, state, node) in self.cluster.nodes_after(&self.cursor) {
            if fitting.len() == NODES_SCORED {
                break;
            }
            if self.nominations.any_on(name) {
                contested.push(name.clone());
                continue;
            }
            self.work.looks += 1;
            match state
                .check(pod)
                .and_then(|()| outlook.check(neighbours, pod, node))
            {
                Ok(()) => fitting.push(Candidate::new(name, state, node, pod, outlook, neighbours)),
                Err(rejection) => refusal.add(name, &rejection),
            }
        }
        for name in contested {
            if fitting.len() == NODES_SCORED {
                break;
            }
            match self.takes(pod, outlook, &name) {
                Ok(()) => fitting.extend(self.candidate(pod, outlook, &name)),
                Err(rejection) => refusal.add(&name, &rejection),
            }
        }
        let node = score::best(&fitting).cloned().ok_or(refusal)?;
        self.cursor = node.clone();
        Ok(node)
    }

    fn candidate(&self, pod: &PodView, outlook: &Outlook, name: &Arc<str>) -> Option<Candidate> {
        let (state, node) = self.cluster.node(name)?;
        let neighbours = &self.cluster.neighbours;
        Some(Candidate::new(name, state, node, pod, outlook, neighbours))
    }

    /// Checks whether the node fits the pod, both with and without the pods of at least its
    /// priority that are nominated to the node: they may still go elsewhere.
    fn takes(&mut self, pod: &PodView, outlook: &mut Outlook, name: &Arc<str>) -> Result<(), Rejection> {
        self.work.looks += 1;
        let rivals = self.nominations.rivals(pod, name);
        if rivals.is_empty() {
            return self.filter(pod, outlook, name);
        }
        for rival in &rivals {
            self.suppose(pod, outlook, rival, name, 1);
        }
        let avoided_by_rival = rivals.iter().any(|rival| rival.spec.topology.is_some());
        let with_rivals = if avoided_by_rival {
            let fresh = Outlook::of(&mut self.cluster, pod);
            self.filter(pod, &fresh, name)
        } else {
            self.filter(pod, outlook, name)
        };
        for rival in &rivals {
            self.suppose(pod, outlook, rival, name, -1);
        }
        with_rivals?;
        self.filter(pod, outlook, name)
    }

    fn filter(&self, pod: &PodView, outlook: &Outlook, name: &str) -> Result<(), Rejection> {
        let Some((state, node)) = self.cluster.node(name) else {
            return Err(Rejection::lasting(Reason::NotNamed));
        };
        state.check(pod)?;
        outlook.check(&self.cluster.neighbours, pod, node)
    }

    /// Adds (1) or removes (-1) another pod on a node temporarily, in everything that the decision
    /// about `pod` depends on.
    fn suppose(&mut self, pod: &PodView, outlook: &mut Outlook, other: &PodView, name: &Arc<str>, sign: i64) {
        self.cluster.count(other, name, sign);
        if let Some((_, node)) = self.cluster.node(name) {
            outlook.shift(pod, other, node, sign);
        }
    }
}

/// Returns whether the pod's status already contains the verdict.
fn is_known(pod: &PodView, verdict: &Verdict) -> bool {
    match (verdict, &pod.unscheduled) {
        (
            Verdict::Unschedulable {
                message,
                nominated,
                preemption: None,
            },
            Some(said),
        ) => {
            *said.message == **message && &*said.reason == "Unschedulable" && pod.nominated_node == *nominated
        }
        _ => false,
    }
}

/// The only node that the pod's required node affinity allows, if there is just one.
fn pin(pod: &PodView) -> Option<&Arc<str>> {
    let alternatives = pod
        .spec
        .node_affinity
        .as_ref()
        .and_then(|a| a.required.as_ref())
        .map_or(0, |r| r.terms.len());
    // With several terms, the named node is one of several alternatives.
    if alternatives > 1 {
        None
    } else {
        pod.pinned_node.as_ref()
    }
}

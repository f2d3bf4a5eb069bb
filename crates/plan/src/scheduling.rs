//! Which node a pod goes to.
//!
//! A daemon pod is pinned: its required node affinity names one node, so that node alone is checked. Only pods that have a choice
//! are searched for and scored. [`Scheduler`] keeps what nodes have and what bound pods use, event by event, and the pods that wait:
//! a pod that did not fit is woken by the change that may let it fit, not by time.
//!
//! The rules and the wording are those of Kubernetes' scheduler plugins NodeUnschedulable, TaintToleration, NodeAffinity, NodePorts
//! and NodeResourcesFit, asked in that order.
//!
//! A decision is assumed at once: the pod counts on its node until the binding is seen, or until [`Scheduler::bind_failed`] takes
//! it back.

mod filter;
mod message;
mod queue;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, HashMap};
use std::ops::Bound;
use std::sync::Arc;
use std::time::Duration;

use api::affinity::NodeFacts;
use api::taint::{Effect, tolerated};
use api::view::{NodeView, PodSpecView, PodView};
use jiff::Timestamp;

use self::filter::NodeState;
use self::message::Histogram;
use self::queue::Queue;

/// The scheduler whose pods these are, by the name that pods give in `spec.schedulerName`.
pub const DEFAULT_SCHEDULER: &str = "default-scheduler";

/// A pod with a choice is scored on this many nodes that fit, then the search ends: on a large cluster the best of some hundred is
/// hardly worse than the best of all (Kubernetes samples too).
const NODES_SCORED: usize = 200;

/// The first wait of a pod whose turn failed, doubling to [`BACKOFF_LONGEST`]: Kubernetes' `podInitialBackoffSeconds` and
/// `podMaxBackoffSeconds`.
pub const BACKOFF_FIRST: Duration = Duration::from_secs(1);
/// The longest wait of a pod that something woke.
pub const BACKOFF_LONGEST: Duration = Duration::from_secs(10);
/// A pod that nothing wakes is tried again after this, in case a reason was overlooked.
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

/// What became of a pod's turn.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It goes to this node.
    Bind {
        /// The node's name.
        node: Arc<str>,
    },
    /// No node takes it now.
    Unschedulable {
        /// What the FailedScheduling event and the PodScheduled condition say.
        message: String,
    },
}

/// A verdict about a pod.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Decision {
    /// The pod.
    pub pod: PodKey,
    /// Its uid: a binding must not hit a later pod of the same name.
    pub uid: Arc<str>,
    /// What to do.
    pub verdict: Verdict,
    /// Whether the PodScheduled condition already says so: then nothing need be written.
    pub known: bool,
}

/// A pod that counts on a node, bound or assumed.
struct Placed {
    uid: Arc<str>,
    node: Arc<str>,
    spec: Arc<PodSpecView>,
    assumed: bool,
}

/// Nodes, what is used of them, and the pods that wait for one.
#[derive(Default)]
pub struct Scheduler {
    nodes: BTreeMap<Arc<str>, NodeState>,
    /// How many nodes are known by a Node object; others only carry pods.
    known_nodes: usize,
    placed: HashMap<PodKey, Placed>,
    queue: Queue,
    /// Where the last search ended; the next goes on from there, so that pods spread over nodes that score alike.
    cursor: Arc<str>,
}

impl Scheduler {
    /// Knows nothing yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// A node was added or changed.
    pub fn put_node(&mut self, node: &Arc<NodeView>) {
        let state = self.nodes.entry(node.meta.name.clone()).or_default();
        let changed = match &state.node {
            None => {
                self.known_nodes += 1;
                true
            }
            Some(old) => {
                old.allocatable != node.allocatable
                    || old.taints != node.taints
                    || old.unschedulable != node.unschedulable
                    || old.meta.labels != node.meta.labels
            }
        };
        state.node = Some(node.clone());
        if changed {
            self.queue.wake_for_node(&node.meta.name);
        }
    }

    /// A node is gone. What its pods use stays counted until they go too.
    pub fn delete_node(&mut self, name: &str) {
        let Some(state) = self.nodes.get_mut(name) else {
            return;
        };
        if state.node.take().is_some() {
            self.known_nodes -= 1;
        }
        if state.is_unused() {
            self.nodes.remove(name);
        }
    }

    /// A pod was added or changed.
    pub fn put_pod(&mut self, pod: &Arc<PodView>) {
        let key = PodKey::of(pod);
        if pod.is_terminal() {
            self.queue.remove(&key);
            self.release(&key);
            return;
        }
        if let Some(node) = &pod.node_name {
            self.queue.remove(&key);
            self.place(key, pod, node.clone(), false);
            return;
        }
        let same = |placed: &Placed| placed.assumed && placed.uid == pod.meta.uid;
        if self.placed.get(&key).is_some_and(same) {
            // Our own binding is under way; this is an echo from before it.
            return;
        }
        self.release(&key);
        let ours = &*pod.spec.scheduler_name == DEFAULT_SCHEDULER || pod.spec.scheduler_name.is_empty();
        if !ours || pod.spec.gated || pod.is_terminating() {
            self.queue.remove(&key);
            return;
        }
        self.queue.put(key, pod.clone());
    }

    /// A pod is gone.
    pub fn delete_pod(&mut self, key: &PodKey) {
        self.queue.remove(key);
        self.release(key);
    }

    /// The binding of an assumed pod failed: it no longer counts, and waits before its next turn.
    pub fn bind_failed(&mut self, key: &PodKey, pod: &Arc<PodView>, now: Timestamp) {
        if self
            .placed
            .get(key)
            .is_some_and(|p| p.assumed && p.uid == pod.meta.uid)
        {
            self.release(key);
            self.queue.put_back(key.clone(), pod.clone(), now);
        }
    }

    /// The pod whose turn it is, and the verdict about it. A pod that fits is assumed on its node. `None` when nobody's turn it is.
    pub fn next(&mut self, now: Timestamp) -> Option<(Decision, Arc<PodView>)> {
        let (key, pod, tried) = self.queue.pop(now)?;
        let verdict = match self.place_for(&pod) {
            Ok(node) => {
                self.place(key.clone(), &pod, node.clone(), true);
                Verdict::Bind { node }
            }
            Err(histogram) => {
                let message = histogram.message(self.known_nodes, pod.spec.never_preempts);
                self.queue
                    .park(key.clone(), pod.clone(), tried, pin(&pod).cloned(), now);
                Verdict::Unschedulable { message }
            }
        };
        let known = matches!(
            (&verdict, &pod.unscheduled),
            (Verdict::Unschedulable { message }, Some(said)) if *said.message == **message && &*said.reason == "Unschedulable"
        );
        Some((
            Decision {
                pod: key,
                uid: pod.meta.uid.clone(),
                verdict,
                known,
            },
            pod,
        ))
    }

    /// When [`Scheduler::next`] may have something again although nothing changes: a back-off that ends.
    pub fn next_turn(&self) -> Option<Timestamp> {
        self.queue.next_turn()
    }

    /// How many pods wait, whatever for.
    pub fn pending(&self) -> usize {
        self.queue.len()
    }

    fn place_for(&mut self, pod: &PodView) -> Result<Arc<str>, Histogram> {
        match pin(pod) {
            Some(name) => self.check_pinned(pod, name),
            None => self.search(pod),
        }
    }

    fn check_pinned(&self, pod: &PodView, name: &Arc<str>) -> Result<Arc<str>, Histogram> {
        let mut histogram = Histogram::default();
        let known = self.nodes.get(name).filter(|state| state.node.is_some());
        histogram.excluded_by_affinity(self.known_nodes - usize::from(known.is_some()));
        match known.map(|state| state.check(pod)) {
            Some(Ok(())) => Ok(name.clone()),
            Some(Err(rejection)) => {
                histogram.add(&rejection);
                Err(histogram)
            }
            None => Err(histogram),
        }
    }

    /// Filters and scores, beginning where the last search ended, until enough nodes fit.
    fn search(&mut self, pod: &PodView) -> Result<Arc<str>, Histogram> {
        let mut histogram = Histogram::default();
        let mut best: Option<(i64, Arc<str>)> = None;
        let mut fitting = 0;
        let after = self
            .nodes
            .range::<Arc<str>, _>((Bound::Excluded(&self.cursor), Bound::Unbounded));
        let before = self
            .nodes
            .range::<Arc<str>, _>((Bound::Unbounded, Bound::Included(&self.cursor)));
        for (name, state) in after.chain(before) {
            if state.node.is_none() {
                continue;
            }
            match state.check(pod) {
                Err(rejection) => histogram.add(&rejection),
                Ok(()) => {
                    let score = score(state, pod);
                    if best.as_ref().is_none_or(|(highest, _)| score > *highest) {
                        best = Some((score, name.clone()));
                    }
                    fitting += 1;
                    if fitting == NODES_SCORED {
                        break;
                    }
                }
            }
        }
        let (_, node) = best.ok_or(histogram)?;
        self.cursor = node.clone();
        Ok(node)
    }

    fn place(&mut self, key: PodKey, pod: &PodView, node: Arc<str>, assumed: bool) {
        if let Some(placed) = self.placed.get_mut(&key)
            && placed.uid == pod.meta.uid
            && placed.node == node
            && placed.spec == pod.spec
        {
            placed.assumed &= assumed;
            return;
        }
        self.release(&key);
        self.nodes.entry(node.clone()).or_default().add(&pod.spec);
        let placed = Placed {
            uid: pod.meta.uid.clone(),
            node,
            spec: pod.spec.clone(),
            assumed,
        };
        self.placed.insert(key, placed);
    }

    fn release(&mut self, key: &PodKey) {
        let Some(placed) = self.placed.remove(key) else {
            return;
        };
        if let Some(state) = self.nodes.get_mut(&placed.node) {
            state.remove(&placed.spec);
            if state.is_unused() && state.node.is_none() {
                self.nodes.remove(&placed.node);
            }
        }
        self.queue.wake_for_node(&placed.node);
    }
}

/// The one node that a pod's required node affinity leaves it, if there is such a node.
fn pin(pod: &PodView) -> Option<&Arc<str>> {
    let alternatives = pod
        .spec
        .node_affinity
        .as_ref()
        .and_then(|a| a.required.as_ref())
        .map_or(0, |r| r.terms.len());
    // With several terms the named node is one way among others.
    if alternatives > 1 {
        None
    } else {
        pod.pinned_node.as_ref()
    }
}

/// How well a node that fits suits a pod: room left (in thousandths of cpu and memory), what the pod prefers, what the node would
/// rather not have. Higher is better.
fn score(state: &NodeState, pod: &PodView) -> i64 {
    let Some(node) = &state.node else { return i64::MIN };
    let unwanted = node
        .taints
        .iter()
        .filter(|t| t.effect == Effect::PreferNoSchedule && !tolerated(t, &pod.spec.tolerations))
        .count();
    let preferred: i64 = pod.spec.node_affinity.as_ref().map_or(0, |affinity| {
        affinity
            .preferred
            .iter()
            .filter(|p| p.term.matches(&**node))
            .map(|p| i64::from(p.weight))
            .sum()
    });
    let unwanted = i64::try_from(unwanted).unwrap_or(i64::MAX / 10_000);
    state.room(&pod.spec) + preferred * 20 - unwanted.saturating_mul(3_000)
}

/// Whether the node's labels satisfy what the pod asks of them.
fn selects(pod: &PodView, node: &NodeView) -> bool {
    let wanted = pod
        .spec
        .node_selector
        .iter()
        .all(|(key, value)| node.label(key) == Some(value));
    let required = pod.spec.node_affinity.as_ref().and_then(|a| a.required.as_ref());
    let pinned_elsewhere = required.is_none()
        && pod
            .pinned_node
            .as_ref()
            .is_some_and(|name| *name != node.meta.name);
    wanted && !pinned_elsewhere && required.is_none_or(|selector| selector.matches(node))
}

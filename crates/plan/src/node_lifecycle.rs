//! What the silence or the word of a node means for it and for its pods.
//!
//! A node speaks by renewing its Lease and by posting its status. Both are taken at *our* clock, when they are seen to change, so a
//! node's own clock does not matter. A node that has been silent for [`Limits::grace`] gets its conditions set to Unknown; conditions
//! become taints (NoSchedule at once, NoExecute for not-ready and unreachable); pods on a node that is not ready are no longer Ready;
//! and NoExecute taints drive out the pods that do not tolerate them, or not for longer.
//!
//! A renewal costs a map lookup: deadlines are looked at when they fall due, and moved on if the node has spoken since.
//!
//! When this function was not called for a while (the process was stopped, the machine slept), every node looks silent though
//! nobody listened. So after a gap the nodes get a whole grace period to speak again.

mod eviction;
#[cfg(test)]
mod tests;

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use api::taint::{Effect, Taint};
use api::view::{LeaseView, NodeView, PodView};
use jiff::Timestamp;
use serde_json::{Value, json};

use self::eviction::Evictions;
use crate::scheduling::PodKey;

/// Where node Leases live.
pub const LEASE_NAMESPACE: &str = "kube-node-lease";

/// The taint of a node whose Ready condition is False.
pub const NOT_READY: &str = "node.kubernetes.io/not-ready";
/// The taint of a node whose Ready condition is Unknown.
pub const UNREACHABLE: &str = "node.kubernetes.io/unreachable";
const UNSCHEDULABLE: &str = "node.kubernetes.io/unschedulable";

/// A condition that is True, and the taint that it brings.
const PRESSURES: [(&str, &str); 4] = [
    ("MemoryPressure", "node.kubernetes.io/memory-pressure"),
    ("DiskPressure", "node.kubernetes.io/disk-pressure"),
    ("PIDPressure", "node.kubernetes.io/pid-pressure"),
    ("NetworkUnavailable", "node.kubernetes.io/network-unavailable"),
];

/// The conditions that become Unknown with a silent node. NetworkUnavailable is not the agent's to report and is left.
const REPORTED: [&str; 4] = ["Ready", "MemoryPressure", "DiskPressure", "PIDPressure"];

/// How long silence is borne.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Of a node that has posted its status (`--node-monitor-grace-period`).
    pub grace: Duration,
    /// Of a node that never has (`--node-startup-grace-period`).
    pub startup_grace: Duration,
    /// A longer gap between two calls of [`Nodes::plan`] means that nobody listened.
    pub deaf_after: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Limits {
            grace: Duration::from_secs(50),
            startup_grace: Duration::from_secs(60),
            deaf_after: Duration::from_secs(20),
        }
    }
}

/// One thing to do.
#[derive(Clone, Debug, PartialEq)]
pub enum Action {
    /// Patch the node's conditions (strategic merge, by type) and warn that it is not ready.
    SetConditions {
        /// The node.
        node: Arc<str>,
        /// The conditions to merge.
        conditions: Vec<Value>,
    },
    /// Replace the node's taints, if the node is still at this version.
    SetTaints {
        /// The node.
        node: Arc<str>,
        /// The version that this was decided on.
        resource_version: u64,
        /// All its taints.
        taints: Vec<Taint>,
    },
    /// The node turned not ready: say so in an event on it (`NodeNotReady`).
    NodeNotReady {
        /// The node.
        node: Arc<str>,
        /// Its uid.
        uid: Arc<str>,
    },
    /// Set the pod's Ready condition to False, and warn (`NodeNotReady`, "Node is not ready").
    PodNotReady {
        /// The pod.
        pod: PodKey,
        /// Its uid.
        uid: Arc<str>,
    },
    /// Delete the pod: it does not tolerate a NoExecute taint of its node (any more).
    Evict {
        /// The pod.
        pod: PodKey,
        /// Its uid.
        uid: Arc<str>,
    },
    /// Say that an eviction that was due later will not be (`TaintManagerEviction`, "Cancelling deletion").
    CancelEviction {
        /// The pod.
        pod: PodKey,
        /// Its uid.
        uid: Arc<str>,
    },
}

struct Record {
    node: Option<Arc<NodeView>>,
    /// When it last spoke, at our clock.
    spoke: Timestamp,
    renewed: Option<Timestamp>,
    /// The entry of this node in the deadlines.
    deadline: Option<Timestamp>,
    /// Whether the last look found it ready.
    was_ready: bool,
    pods: BTreeSet<PodKey>,
}

/// All nodes, what they last said, and their pods.
pub struct Nodes {
    limits: Limits,
    records: HashMap<Arc<str>, Record>,
    deadlines: BTreeSet<(Timestamp, Arc<str>)>,
    pods: HashMap<PodKey, Arc<PodView>>,
    dirty_nodes: BTreeSet<Arc<str>>,
    dirty_pods: BTreeSet<PodKey>,
    evictions: Evictions,
    planned: Option<Timestamp>,
    /// Silence before this time counts for nothing.
    deaf_until: Timestamp,
}

impl Nodes {
    /// Knows no node yet.
    pub fn new(limits: Limits) -> Self {
        Nodes {
            limits,
            records: HashMap::new(),
            deadlines: BTreeSet::new(),
            pods: HashMap::new(),
            dirty_nodes: BTreeSet::new(),
            dirty_pods: BTreeSet::new(),
            evictions: Evictions::default(),
            planned: None,
            deaf_until: Timestamp::MIN,
        }
    }

    /// A node was added or changed.
    pub fn put_node(&mut self, node: &Arc<NodeView>, now: Timestamp) {
        let name = node.meta.name.clone();
        let record = self.record(&name, now);
        let heartbeat = |n: &NodeView| n.condition("Ready").and_then(|c| c.last_heartbeat_time);
        let decides = |n: &NodeView| {
            let conditions: Vec<_> = n
                .conditions
                .iter()
                .map(|c| (c.kind.clone(), c.status.clone()))
                .collect();
            (conditions, n.taints.clone(), n.unschedulable, n.meta.uid.clone())
        };
        let (spoke, changed) = match &record.node {
            None => (true, true),
            Some(old) if old.meta.uid != node.meta.uid => (true, true),
            Some(old) => (heartbeat(old) != heartbeat(node), decides(old) != decides(node)),
        };
        record.node = Some(node.clone());
        if spoke {
            record.spoke = now;
        }
        self.set_deadline(&name);
        if changed {
            self.dirty_nodes.insert(name);
        } else if let Some(record) = self.records.get(&name)
            && record.was_ready != node.is_ready()
        {
            self.dirty_nodes.insert(name);
        }
    }

    /// A node is gone; its pods are the pod collector's.
    pub fn delete_node(&mut self, name: &Arc<str>) {
        self.dirty_nodes.remove(name);
        let Some(record) = self.records.get_mut(name) else {
            return;
        };
        record.node = None;
        record.was_ready = false;
        if let Some(deadline) = record.deadline.take() {
            self.deadlines.remove(&(deadline, name.clone()));
        }
        for pod in &record.pods {
            self.evictions.forget(pod);
        }
        if record.pods.is_empty() {
            self.records.remove(name);
        }
    }

    /// A Lease was added or changed. Only those of [`LEASE_NAMESPACE`] count.
    pub fn put_lease(&mut self, lease: &LeaseView, now: Timestamp) {
        if &*lease.meta.namespace != LEASE_NAMESPACE {
            return;
        }
        // A Lease without a node says nothing; it is read again when the node appears, by its next renewal.
        let Some(record) = self.records.get_mut(&lease.meta.name) else {
            return;
        };
        if record.renewed != lease.renew_time {
            record.renewed = lease.renew_time;
            record.spoke = now;
            if record.deadline.is_none() && record.node.is_some() {
                let name = lease.meta.name.clone();
                self.set_deadline(&name);
            }
        }
    }

    /// A pod was added or changed.
    pub fn put_pod(&mut self, pod: &Arc<PodView>, now: Timestamp) {
        let key = PodKey::of(pod);
        let Some(node) = pod.node_name.clone() else {
            self.delete_pod(&key);
            return;
        };
        if let Some(old) = self.pods.insert(key.clone(), pod.clone())
            && old.node_name.as_ref() != Some(&node)
            && let Some(name) = &old.node_name
        {
            self.unlink(&key, name);
        }
        let record = self.record(&node, now);
        record.pods.insert(key.clone());
        // A pod on a quiet, untainted node needs no look.
        let troubled = record
            .node
            .as_ref()
            .is_some_and(|n| !n.is_ready() || n.taints.iter().any(|t| t.effect == Effect::NoExecute));
        if troubled || self.evictions.holds(&key) {
            self.dirty_pods.insert(key);
        }
    }

    /// A pod is gone.
    pub fn delete_pod(&mut self, key: &PodKey) {
        self.evictions.forget(key);
        self.dirty_pods.remove(key);
        if let Some(old) = self.pods.remove(key)
            && let Some(node) = &old.node_name
        {
            self.unlink(key, node);
        }
    }

    /// An action about this node failed: look at it again.
    pub fn retry_node(&mut self, name: &Arc<str>) {
        if self.records.contains_key(name) {
            self.set_deadline(name);
            self.dirty_nodes.insert(name.clone());
        }
    }

    /// An action about this pod failed: look at it again.
    pub fn retry_pod(&mut self, key: &PodKey) {
        if self.pods.contains_key(key) {
            self.dirty_pods.insert(key.clone());
        }
    }

    /// When [`Nodes::plan`] has something to do although nothing happens.
    pub fn next_look(&self) -> Option<Timestamp> {
        let deadline = self.deadlines.first().map(|(at, _)| *at);
        [deadline, self.evictions.next()].into_iter().flatten().min()
    }

    /// Whether an event left something to decide.
    pub fn has_work(&self) -> bool {
        !self.dirty_nodes.is_empty() || !self.dirty_pods.is_empty()
    }

    /// Decides about what events marked and about what fell due, at most `limit` nodes and `limit` pods.
    pub fn plan(&mut self, now: Timestamp, limit: usize) -> Vec<Action> {
        let mut actions = Vec::new();
        if self
            .planned
            .is_none_or(|last| last + self.limits.deaf_after < now)
        {
            self.deaf_until = now + self.limits.grace;
        }
        self.planned = Some(now);
        self.judge_silence(now, limit, &mut actions);
        for _ in 0..limit {
            let Some(name) = self.dirty_nodes.pop_first() else {
                break;
            };
            self.judge_node(&name, now, &mut actions);
        }
        for _ in 0..limit {
            let Some(key) = self.dirty_pods.pop_first() else {
                break;
            };
            self.judge_pod(&key, now, &mut actions);
        }
        for key in self.evictions.due(now, limit) {
            if let Some(pod) = self.pods.get(&key) {
                actions.push(Action::Evict {
                    pod: key,
                    uid: pod.meta.uid.clone(),
                });
            }
        }
        actions
    }

    fn judge_silence(&mut self, now: Timestamp, limit: usize, actions: &mut Vec<Action>) {
        let mut silent = 0;
        while let Some((at, name)) = self.deadlines.first().cloned() {
            if at > now || silent == limit {
                break;
            }
            self.deadlines.pop_first();
            let limits = self.limits;
            let deaf_until = self.deaf_until;
            let Some(record) = self.records.get_mut(&name) else {
                continue;
            };
            record.deadline = None;
            let Some(node) = record.node.clone() else { continue };
            let until = (record.spoke + grace(&limits, &node)).max(deaf_until);
            if until > now {
                self.deadline_at(&name, until);
                continue;
            }
            silent += 1;
            let conditions = unknown_conditions(&node, now);
            if !conditions.is_empty() {
                actions.push(Action::SetConditions {
                    node: name,
                    conditions,
                });
            }
        }
    }

    fn judge_node(&mut self, name: &Arc<str>, now: Timestamp, actions: &mut Vec<Action>) {
        let Some(record) = self.records.get_mut(name) else {
            return;
        };
        let Some(node) = record.node.clone() else { return };
        if let Some(taints) = wanted_taints(&node, now) {
            let resource_version = node.meta.resource_version;
            actions.push(Action::SetTaints {
                node: name.clone(),
                resource_version,
                taints,
            });
        }
        let ready = node.is_ready();
        if record.was_ready && !ready {
            actions.push(Action::NodeNotReady {
                node: name.clone(),
                uid: node.meta.uid.clone(),
            });
        }
        record.was_ready = ready;
        // Also when all is well again: evictions that were due are cancelled.
        let concerned = record.pods.iter().cloned();
        self.dirty_pods.extend(concerned);
    }

    fn judge_pod(&mut self, key: &PodKey, now: Timestamp, actions: &mut Vec<Action>) {
        let Some(pod) = self.pods.get(key) else { return };
        let Some(node) = pod
            .node_name
            .as_ref()
            .and_then(|n| self.records.get(n)?.node.clone())
        else {
            return;
        };
        let uid = pod.meta.uid.clone();
        // A node without a Ready condition has not spoken yet; it takes nothing back.
        let silent_or_sick = node.condition("Ready").is_some() && !node.is_ready();
        if silent_or_sick && pod.ready.status {
            actions.push(Action::PodNotReady {
                pod: key.clone(),
                uid: uid.clone(),
            });
        }
        if pod.is_terminating() || pod.is_terminal() {
            self.evictions.forget(key);
            return;
        }
        match eviction::when(&node.taints, &pod.spec.tolerations, now) {
            None => {
                if self.evictions.forget(key) {
                    actions.push(Action::CancelEviction {
                        pod: key.clone(),
                        uid,
                    });
                }
            }
            Some(at) if at <= now => {
                self.evictions.forget(key);
                actions.push(Action::Evict {
                    pod: key.clone(),
                    uid,
                });
            }
            Some(at) => self.evictions.at(key, at),
        }
    }

    fn record(&mut self, name: &Arc<str>, now: Timestamp) -> &mut Record {
        self.records.entry(name.clone()).or_insert_with(|| Record {
            node: None,
            spoke: now,
            renewed: None,
            deadline: None,
            was_ready: false,
            pods: BTreeSet::new(),
        })
    }

    fn unlink(&mut self, key: &PodKey, node: &Arc<str>) {
        let Some(record) = self.records.get_mut(node) else {
            return;
        };
        record.pods.remove(key);
        if record.pods.is_empty() && record.node.is_none() {
            self.records.remove(node);
        }
    }

    /// A node has at most one deadline; one that is too early is moved on when it falls due.
    fn set_deadline(&mut self, name: &Arc<str>) {
        let Some(record) = self.records.get(name) else {
            return;
        };
        let (None, Some(node)) = (record.deadline, &record.node) else {
            return;
        };
        let at = record.spoke + grace(&self.limits, node);
        self.deadline_at(name, at);
    }

    fn deadline_at(&mut self, name: &Arc<str>, at: Timestamp) {
        if let Some(record) = self.records.get_mut(name) {
            record.deadline = Some(at);
            self.deadlines.insert((at, name.clone()));
        }
    }
}

fn grace(limits: &Limits, node: &NodeView) -> Duration {
    if node.condition("Ready").is_some() {
        limits.grace
    } else {
        limits.startup_grace
    }
}

/// The conditions of a silent node that are not Unknown yet.
fn unknown_conditions(node: &NodeView, now: Timestamp) -> Vec<Value> {
    REPORTED
        .iter()
        .filter(|kind| node.condition(kind).is_none_or(|c| &*c.status != "Unknown"))
        .map(|kind| {
            let posted = node.condition(kind).is_some();
            let (reason, message) = match posted {
                true => ("NodeStatusUnknown", "Kubelet stopped posting node status."),
                false => ("NodeStatusNeverUpdated", "Kubelet never posted node status."),
            };
            let mut condition = json!({
                "type": kind, "status": "Unknown", "reason": reason, "message": message,
                "lastTransitionTime": seconds(now),
            });
            if !posted {
                let since = node.meta.creation_timestamp.unwrap_or(now);
                condition["lastHeartbeatTime"] = seconds(since).into();
            }
            condition
        })
        .collect()
}

/// RFC 3339 in whole seconds, as `metav1.Time` is written.
fn seconds(at: Timestamp) -> String {
    let whole = Timestamp::from_second(at.as_second()).unwrap_or(at);
    whole.to_string()
}

/// The taints that the node should have, if they are not those that it has. Taints that are not about conditions are kept.
fn wanted_taints(node: &NodeView, now: Timestamp) -> Option<Vec<Taint>> {
    let mut wanted: Vec<(&str, Effect)> = Vec::new();
    match node.condition("Ready").map(|c| &*c.status) {
        Some("False") => wanted.extend([(NOT_READY, Effect::NoSchedule), (NOT_READY, Effect::NoExecute)]),
        Some("Unknown") => wanted.extend([
            (UNREACHABLE, Effect::NoSchedule),
            (UNREACHABLE, Effect::NoExecute),
        ]),
        Some(_) => {}
        // It has not said anything: what it was registered with stands.
        None => {
            let has = |key: &str, effect| node.taints.iter().any(|t| &*t.key == key && t.effect == effect);
            let both = [NOT_READY, UNREACHABLE]
                .into_iter()
                .flat_map(|k| [(k, Effect::NoSchedule), (k, Effect::NoExecute)]);
            wanted.extend(both.filter(|(key, effect)| has(key, *effect)));
        }
    }
    let pressed = |kind: &str| node.condition(kind).is_some_and(|c| &*c.status == "True");
    wanted.extend(
        PRESSURES
            .iter()
            .filter(|(kind, _)| pressed(kind))
            .map(|(_, key)| (*key, Effect::NoSchedule)),
    );
    if node.unschedulable {
        wanted.push((UNSCHEDULABLE, Effect::NoSchedule));
    }
    let is_wanted = |t: &Taint| {
        wanted
            .iter()
            .any(|(key, effect)| &*t.key == *key && t.effect == *effect)
    };
    let mut taints: Vec<Taint> = node
        .taints
        .iter()
        .filter(|t| !is_ours(t) || is_wanted(t))
        .cloned()
        .collect();
    let kept = taints.len();
    for (key, effect) in wanted {
        if !taints.iter().any(|t| &*t.key == key && t.effect == effect) {
            let mut taint = Taint::new(key, "", effect);
            taint.time_added = Some(now);
            taints.push(taint);
        }
    }
    (kept != node.taints.len() || taints.len() != kept).then_some(taints)
}

/// Taints that stand for conditions are ours to add and to remove; NoExecute only those of readiness.
fn is_ours(taint: &Taint) -> bool {
    let readiness = matches!(&*taint.key, NOT_READY | UNREACHABLE);
    let condition =
        readiness || &*taint.key == UNSCHEDULABLE || PRESSURES.iter().any(|(_, key)| *key == &*taint.key);
    match taint.effect {
        Effect::NoSchedule => condition,
        Effect::NoExecute => readiness,
        Effect::PreferNoSchedule | Effect::Unknown => false,
    }
}

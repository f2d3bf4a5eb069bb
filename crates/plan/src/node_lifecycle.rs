//! Reacts to nodes that stop reporting or report that they are not ready.
//!
//! A node reports by renewing its Lease and by posting its status. The time of a report is when
//! this process sees the change, so the node's clock does not matter. A node without a report for
//! [`Limits::grace`] gets conditions with the status Unknown. Conditions become taints. Pods on a
//! node that became not ready are marked not ready once (an agent that still runs corrects this).
//! NoExecute taints evict pods that do not tolerate them, or whose `tolerationSeconds` have passed.
//!
//! NoSchedule taints follow the conditions at once. The NoExecute taints for readiness are set one
//! node at a time, at a rate that depends on how much of the node's zone is down. If all nodes are
//! down, none is set: then this controller is probably cut off ([`zones`]).
//!
//! A renewal costs a map lookup: a deadline is checked when it is due, and moved if the node has
//! reported since.
//!
//! If [`Nodes::plan`] was not called for a while, because the process was stopped or the machine
//! slept, no node seems to report. After such a gap, all nodes get a whole grace period again.

mod eviction;
mod taints;
#[cfg(test)]
mod tests;
mod zones;

use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use api::taint::{Effect, Taint};
use api::view::{LeaseView, NodeView, PodView};
use jiff::Timestamp;
use serde_json::{Value, json};

use self::eviction::Evictions;
pub use self::taints::{NOT_READY, UNREACHABLE};
use self::zones::{Turn, Zones};
use crate::scheduling::PodKey;

/// The namespace of node Leases.
pub const LEASE_NAMESPACE: &str = "kube-node-lease";

/// The conditions that become Unknown. NetworkUnavailable is not reported by the agent, so it
/// stays.
const REPORTED: [&str; 4] = ["Ready", "MemoryPressure", "DiskPressure", "PIDPressure"];

/// Labels with deprecated copies.
const OLD_LABELS: [(&str, &str); 2] = [
    ("kubernetes.io/os", "beta.kubernetes.io/os"),
    ("kubernetes.io/arch", "beta.kubernetes.io/arch"),
];

/// Timeouts and rates. The defaults are those of Kubernetes' controller manager.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Timeout of a node that has posted its status (`--node-monitor-grace-period`).
    pub grace: Duration,
    /// Timeout of a node that never has (`--node-startup-grace-period`).
    pub startup_grace: Duration,
    /// Longest gap between two calls of [`Nodes::plan`] in which no report is missed.
    pub deaf_after: Duration,
    /// Nodes of a zone that get a NoExecute taint per second (`--node-eviction-rate`).
    pub eviction_rate: f64,
    /// The same in a large zone that is mostly down (`--secondary-node-eviction-rate`).
    pub secondary_eviction_rate: f64,
    /// Most nodes of a small zone. If a small zone is mostly down, none of its nodes gets a taint
    /// (`--large-cluster-size-threshold`).
    pub large_zone: usize,
    /// Share of unready nodes from which a zone is mostly down, if they are at least three
    /// (`--unhealthy-zone-threshold`).
    pub unhealthy_zone: f64,
}

impl Default for Limits {
    fn default() -> Self {
        Limits {
            grace: Duration::from_secs(50),
            startup_grace: Duration::from_secs(60),
            deaf_after: Duration::from_secs(20),
            eviction_rate: 0.1,
            secondary_eviction_rate: 0.01,
            large_zone: 50,
            unhealthy_zone: 0.55,
        }
    }
}

/// One action.
#[derive(Clone, Debug, PartialEq)]
pub enum Action {
    /// Patch the node's conditions (strategic merge, by type), and record a warning that it is not
    /// ready.
    SetConditions {
        /// The node.
        node: Arc<str>,
        /// The conditions to merge.
        conditions: Vec<Value>,
    },
    /// Replace the node's taints, if it still has this resourceVersion.
    SetTaints {
        /// The node.
        node: Arc<str>,
        /// The resourceVersion that this was decided on.
        resource_version: u64,
        /// All its taints.
        taints: Vec<Taint>,
    },
    /// Set labels of the node.
    SetLabels {
        /// The node.
        node: Arc<str>,
        /// Names and values.
        labels: Vec<(&'static str, Arc<str>)>,
    },
    /// Record an event on the node.
    RecordEvent {
        /// The node.
        node: Arc<str>,
        /// Its uid.
        uid: Arc<str>,
        /// The kind of event.
        event: NodeEvent,
    },
    /// Set the pod's Ready condition to False, and record a warning (`NodeNotReady`, "Node is not
    /// ready").
    PodNotReady {
        /// The pod.
        pod: PodKey,
        /// Its uid.
        uid: Arc<str>,
    },
    /// Delete the pod, because it does not tolerate a NoExecute taint of its node (any more).
    Evict {
        /// The pod.
        pod: PodKey,
        /// Its uid.
        uid: Arc<str>,
    },
    /// Record that a planned eviction is cancelled (`TaintManagerEviction`, "Cancelling deletion").
    CancelEviction {
        /// The pod.
        pod: PodKey,
        /// Its uid.
        uid: Arc<str>,
    },
}

/// Kinds of events on a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NodeEvent {
    /// The node was added.
    Registered,
    /// The node was deleted.
    Removing,
    /// The node became not ready.
    NotReady,
}

impl NodeEvent {
    /// The event's reason.
    pub fn reason(self) -> &'static str {
        match self {
            NodeEvent::Registered => "RegisteredNode",
            NodeEvent::Removing => "RemovingNode",
            NodeEvent::NotReady => "NodeNotReady",
        }
    }

    /// The event's message.
    pub fn message(self, node: &str) -> String {
        match self {
            NodeEvent::Registered => format!("Node {node} event: Registered Node {node} in Controller"),
            NodeEvent::Removing => format!("Node {node} event: Removing Node {node} from Controller"),
            NodeEvent::NotReady => format!("Node {node} status is now: NodeNotReady"),
        }
    }
}

struct Record {
    node: Option<Arc<NodeView>>,
    /// When its last report was seen, by this process's clock.
    last_report: Timestamp,
    renewed: Option<Timestamp>,
    /// Its entry in the deadlines.
    deadline: Option<Timestamp>,
    /// Ready, not ready, or no condition yet, at the last decision.
    readiness: Option<bool>,
    /// Its zone, and whether it counts there as ready; `None` if it does not count.
    zone: Option<(Arc<str>, Option<bool>)>,
    /// When it was queued for its NoExecute taint.
    queued: Option<Timestamp>,
    /// Its taint was granted, but is not visible yet.
    granted: bool,
    /// The resourceVersion for which a write of its taints is in flight.
    writing: Option<u64>,
    pods: BTreeSet<PodKey>,
}

/// All nodes, their last reports, and their pods.
pub struct Nodes {
    limits: Limits,
    records: HashMap<Arc<str>, Record>,
    deadlines: BTreeSet<(Timestamp, Arc<str>)>,
    pods: HashMap<PodKey, Arc<PodView>>,
    dirty_nodes: BTreeSet<Arc<str>>,
    dirty_pods: BTreeSet<PodKey>,
    /// Pods of nodes that became not ready, to be marked not ready.
    unready: HashSet<PodKey>,
    evictions: Evictions,
    zones: Zones,
    events: Vec<Action>,
    planned: Option<Timestamp>,
    /// No node times out before this time.
    grace_until: Timestamp,
}

impl Nodes {
    /// An index without nodes.
    pub fn new(limits: Limits) -> Self {
        Nodes {
            limits,
            records: HashMap::new(),
            deadlines: BTreeSet::new(),
            pods: HashMap::new(),
            dirty_nodes: BTreeSet::new(),
            dirty_pods: BTreeSet::new(),
            unready: HashSet::new(),
            evictions: Evictions::default(),
            zones: Zones::new(limits),
            events: Vec::new(),
            planned: None,
            grace_until: Timestamp::MIN,
        }
    }

    /// A node was added or changed.
    pub fn put_node(&mut self, node: &Arc<NodeView>, now: Timestamp) {
        let name = node.meta.name.clone();
        let record = self.record(&name, now);
        let heartbeat = |n: &NodeView| n.condition("Ready").and_then(|c| c.last_heartbeat_time);
        let old = record.node.replace(node.clone());
        let same = old.filter(|old| old.meta.uid == node.meta.uid);
        match &same {
            None => {
                record.last_report = now;
                (record.readiness, record.granted, record.writing) = (None, false, None);
                self.record_registration(node, now);
            }
            Some(old) if heartbeat(old) != heartbeat(node) => record.last_report = now,
            Some(_) => {}
        }
        self.set_deadline(&name);
        self.settle_zone(&name);
        if same.is_none_or(|old| !decides_alike(&old, node)) {
            self.dirty_nodes.insert(name);
        }
    }

    /// A node was deleted; the garbage collector deletes its pods.
    pub fn delete_node(&mut self, name: &Arc<str>) {
        self.dirty_nodes.remove(name);
        self.dequeue(name);
        let Some(record) = self.records.get_mut(name) else {
            return;
        };
        if let Some(node) = record.node.take() {
            self.events.push(Action::RecordEvent {
                node: name.clone(),
                uid: node.meta.uid.clone(),
                event: NodeEvent::Removing,
            });
        }
        (record.readiness, record.granted, record.writing) = (None, false, None);
        if let Some(deadline) = record.deadline.take() {
            self.deadlines.remove(&(deadline, name.clone()));
        }
        for pod in &record.pods {
            self.evictions.forget(pod);
        }
        if record.pods.is_empty() {
            let zone = record.zone.take();
            self.records.remove(name);
            if let Some((zone, counts)) = zone {
                self.zones.leave(&zone, counts);
            }
        } else {
            self.settle_zone(name);
        }
    }

    /// Records an event for a new node, unless it was there before this process started.
    fn record_registration(&mut self, node: &NodeView, now: Timestamp) {
        let made = node.meta.creation_timestamp.unwrap_or(Timestamp::MIN);
        if self.planned.is_some() || after(made, self.limits.startup_grace) > now {
            self.events.push(Action::RecordEvent {
                node: node.meta.name.clone(),
                uid: node.meta.uid.clone(),
                event: NodeEvent::Registered,
            });
        }
    }

    /// Counts the node in the zone of its labels.
    fn settle_zone(&mut self, name: &Arc<str>) {
        let Some(record) = self.records.get_mut(name) else {
            return;
        };
        let now = record.node.as_ref().map(|node| zones::membership(node));
        if now == record.zone {
            return;
        }
        let before = std::mem::replace(&mut record.zone, now.clone());
        let moved = before.as_ref().map(|(zone, _)| zone) != now.as_ref().map(|(zone, _)| zone);
        let queued = record.queued.filter(|_| moved);
        if let Some((zone, counts)) = &now {
            self.zones.join(zone, *counts);
            if let Some(since) = queued {
                self.zones.enqueue(zone, name, since);
            }
        }
        if let Some((zone, counts)) = &before {
            if let Some(since) = queued {
                self.zones.dequeue(zone, name, since);
            }
            self.zones.leave(zone, *counts);
        }
    }

    /// A Lease was added or changed. Only those in [`LEASE_NAMESPACE`] count.
    pub fn put_lease(&mut self, lease: &LeaseView, now: Timestamp) {
        if &*lease.meta.namespace != LEASE_NAMESPACE {
            return;
        }
        // A Lease without a node is ignored. Its next renewal counts when the node exists.
        let Some(record) = self.records.get_mut(&lease.meta.name) else {
            return;
        };
        if record.renewed != lease.renew_time {
            record.renewed = lease.renew_time;
            record.last_report = now;
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
        let old = self.pods.insert(key.clone(), pod.clone());
        if let Some(old) = &old
            && old.node_name.as_ref() != Some(&node)
            && let Some(name) = &old.node_name
        {
            self.unlink(&key, name);
        }
        let is_new =
            old.is_none_or(|old| old.node_name.as_ref() != Some(&node) || old.meta.uid != pod.meta.uid);
        let record = self.record(&node, now);
        record.pods.insert(key.clone());
        let Some(node) = record.node.clone() else { return };
        // A pod on a ready node without taints needs no decision.
        let sick = taints::is_sick(&node);
        if is_new && sick {
            self.unready.insert(key.clone());
        }
        if is_new {
            self.evictions.forget(&key);
        }
        let driven = node.taints.iter().any(|t| t.effect == Effect::NoExecute);
        if (is_new && sick) || driven || self.evictions.holds(&key) {
            self.dirty_pods.insert(key);
        }
    }

    /// A pod was deleted.
    pub fn delete_pod(&mut self, key: &PodKey) {
        self.evictions.forget(key);
        self.dirty_pods.remove(key);
        self.unready.remove(key);
        if let Some(old) = self.pods.remove(key)
            && let Some(node) = &old.node_name
        {
            self.unlink(key, node);
        }
    }

    /// An action about this node failed, so it is decided again.
    pub fn retry_node(&mut self, name: &Arc<str>) {
        if let Some(record) = self.records.get_mut(name) {
            record.writing = None;
            self.set_deadline(name);
            self.dirty_nodes.insert(name.clone());
        }
    }

    /// An action about this pod failed, so it is decided again.
    pub fn retry_pod(&mut self, key: &PodKey) {
        if self.pods.contains_key(key) {
            self.evictions.forget(key);
            self.unready.insert(key.clone());
            self.dirty_pods.insert(key.clone());
        }
    }

    /// When [`Nodes::plan`] has something to do even if no event comes.
    pub fn next_look(&self) -> Option<Timestamp> {
        let deadline = self.deadlines.first().map(|(at, _)| *at);
        [deadline, self.evictions.next(), self.zones.next()]
            .into_iter()
            .flatten()
            .min()
    }

    /// Returns whether events left something to decide.
    pub fn has_work(&self) -> bool {
        !self.dirty_nodes.is_empty() || !self.dirty_pods.is_empty() || !self.events.is_empty()
    }

    /// Decides about everything that events marked or that is due, at most `limit` nodes and
    /// `limit` pods.
    pub fn plan(&mut self, now: Timestamp, limit: usize) -> Vec<Action> {
        let mut actions = std::mem::take(&mut self.events);
        if self
            .planned
            .is_none_or(|last| after(last, self.limits.deaf_after) < now)
        {
            self.grace_until = after(now, self.limits.grace);
        }
        self.planned = Some(now);
        self.judge_reports(now, limit, &mut actions);
        self.judge_zones(now);
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

    /// Stops or resumes evictions, and grants taints to queued nodes.
    fn judge_zones(&mut self, now: Timestamp) {
        let concerned = |record: &Record| record.node.as_ref().is_some_and(|node| taints::is_sick(node));
        match self.zones.judge(now) {
            Turn::None => {}
            Turn::Halted => {
                let sick = self.records.iter().filter(|(_, record)| concerned(record));
                self.dirty_nodes.extend(sick.map(|(name, _)| name.clone()));
            }
            Turn::Resumed => {
                // Their reports may have been lost, so each node gets a whole grace period again.
                for (name, record) in &mut self.records {
                    record.last_report = now;
                    if concerned(record) {
                        self.dirty_nodes.insert(name.clone());
                    }
                }
            }
        }
        for name in self.zones.turns(now) {
            self.grant(name);
        }
    }

    fn grant(&mut self, name: Arc<str>) {
        if let Some(record) = self.records.get_mut(&name) {
            record.queued = None;
            record.granted = true;
            self.dirty_nodes.insert(name);
        }
    }

    fn judge_reports(&mut self, now: Timestamp, limit: usize, actions: &mut Vec<Action>) {
        let mut overdue = 0;
        while let Some((at, name)) = self.deadlines.first().cloned() {
            if at > now || overdue == limit {
                break;
            }
            self.deadlines.pop_first();
            let limits = self.limits;
            let grace_until = self.grace_until;
            let Some(record) = self.records.get_mut(&name) else {
                continue;
            };
            record.deadline = None;
            let Some(node) = record.node.clone() else { continue };
            let until = after(record.last_report, grace(&limits, &node)).max(grace_until);
            if until > now {
                self.deadline_at(&name, until);
                continue;
            }
            overdue += 1;
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
        let Some(node) = self.records.get(name).and_then(|record| record.node.clone()) else {
            return;
        };
        let no_execute = self.judge_turn(name, &node, now);
        let Some(record) = self.records.get_mut(name) else {
            return;
        };
        let version = node.meta.resource_version;
        if record.writing != Some(version)
            && let Some(taints) = taints::wanted(&node, no_execute, now)
        {
            record.writing = Some(version);
            actions.push(Action::SetTaints {
                node: name.clone(),
                resource_version: version,
                taints,
            });
        }
        let labels = old_labels(&node);
        if !labels.is_empty() {
            actions.push(Action::SetLabels {
                node: name.clone(),
                labels,
            });
        }
        let before = std::mem::replace(
            &mut record.readiness,
            node.condition("Ready").map(|_| node.is_ready()),
        );
        if record.readiness != Some(true) && before == Some(true) {
            actions.push(Action::RecordEvent {
                node: name.clone(),
                uid: node.meta.uid.clone(),
                event: NodeEvent::NotReady,
            });
        }
        if record.readiness == Some(false) && before != Some(false) {
            self.unready.extend(record.pods.iter().cloned());
        }
        // Needed also when the node is ready again, to cancel planned evictions.
        let concerned = record.pods.iter().cloned();
        self.dirty_pods.extend(concerned);
    }

    /// Returns whether the node must have the NoExecute taint for its readiness now, and queues or
    /// dequeues it.
    fn judge_turn(&mut self, name: &Arc<str>, node: &NodeView, now: Timestamp) -> bool {
        let tainted = taints::drives_out(node);
        let may = taints::is_sick(node) && !self.zones.halted();
        let Some(record) = self.records.get_mut(name) else {
            return false;
        };
        // The grant ends when the taint is visible. If a user removes the taint, the node is queued
        // again.
        record.granted &= may && !tainted;
        if !may || tainted || record.granted {
            self.dequeue(name);
            return may;
        }
        let Some((zone, _)) = record.zone.clone() else {
            return false;
        };
        if record.queued.is_none() {
            record.queued = Some(now);
            self.zones.enqueue(&zone, name, now);
        }
        // The next grant may be for this node, or for one that has waited longer.
        match self.zones.turn(&zone, now) {
            Some(first) => {
                let mine = first == *name;
                self.grant(first);
                if mine {
                    self.dirty_nodes.remove(name);
                }
                mine
            }
            None => false,
        }
    }

    fn dequeue(&mut self, name: &Arc<str>) {
        if let Some(record) = self.records.get_mut(name)
            && let Some(since) = record.queued.take()
            && let Some((zone, _)) = &record.zone
        {
            self.zones.dequeue(zone, name, since);
        }
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
        if self.unready.remove(key) && taints::is_sick(&node) && pod.ready.status {
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
                if self.evictions.begin(key) {
                    actions.push(Action::Evict {
                        pod: key.clone(),
                        uid,
                    });
                }
            }
            Some(at) => self.evictions.at(key, at),
        }
    }

    fn record(&mut self, name: &Arc<str>, now: Timestamp) -> &mut Record {
        self.records.entry(name.clone()).or_insert_with(|| Record {
            node: None,
            last_report: now,
            renewed: None,
            deadline: None,
            readiness: None,
            zone: None,
            queued: None,
            granted: false,
            writing: None,
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

    /// A node has at most one deadline. One that is too early is moved when it is due.
    fn set_deadline(&mut self, name: &Arc<str>) {
        let Some(record) = self.records.get(name) else {
            return;
        };
        let (None, Some(node)) = (record.deadline, &record.node) else {
            return;
        };
        let at = after(record.last_report, grace(&self.limits, node));
        self.deadline_at(name, at);
    }

    fn deadline_at(&mut self, name: &Arc<str>, at: Timestamp) {
        if let Some(record) = self.records.get_mut(name) {
            record.deadline = Some(at);
            self.deadlines.insert((at, name.clone()));
        }
    }
}

/// Adds a duration; an overflow means never.
fn after(at: Timestamp, by: Duration) -> Timestamp {
    at.checked_add(by).unwrap_or(Timestamp::MAX)
}

fn grace(limits: &Limits, node: &NodeView) -> Duration {
    if node.condition("Ready").is_some() {
        limits.grace
    } else {
        limits.startup_grace
    }
}

/// The conditions of a node without reports that are not Unknown yet.
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

/// RFC 3339 in whole seconds, like `metav1.Time`.
fn seconds(at: Timestamp) -> String {
    api::time::rfc3339(at)
}

/// Returns whether two states of a node lead to the same decisions.
fn decides_alike(one: &NodeView, other: &NodeView) -> bool {
    let conditions = |n: &NodeView| -> Vec<_> {
        let pairs = n.conditions.iter();
        pairs.map(|c| (c.kind.clone(), c.status.clone())).collect()
    };
    conditions(one) == conditions(other)
        && one.taints == other.taints
        && one.unschedulable == other.unschedulable
        && one.meta.labels == other.meta.labels
}

/// Deprecated labels that differ from the present ones.
fn old_labels(node: &NodeView) -> Vec<(&'static str, Arc<str>)> {
    let labels = &node.meta.labels;
    OLD_LABELS
        .iter()
        .filter_map(|(name, old)| {
            let value = labels.get(name)?;
            (labels.get(old) != Some(value)).then(|| (*old, value.into()))
        })
        .collect()
}

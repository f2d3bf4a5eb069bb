//! Deletes pods that no node will finish.
//!
//! Four kinds, like Kubernetes' PodGC: pods bound to a deleted node, terminating pods that never
//! had a node, terminating pods of a node that is not ready and that its administrator has taken
//! [out of service](OUT_OF_SERVICE), and terminated pods beyond [`TERMINATED_PODS_KEPT`]. A node
//! that the watch does not show may still exist, so the plan requests one read
//! ([`PodAction::Look`]) and deletes only if the read does not find the node.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::Arc;

use api::view::{NodeView, PodView};
use jiff::Timestamp;

use crate::scheduling::PodKey;

/// Most terminated pods to keep for inspection (`--terminated-pod-gc-threshold`).
pub const TERMINATED_PODS_KEPT: usize = 12_500;

/// Taint with which an administrator declares that a node is shut down, so that none of its pods
/// can still run.
pub const OUT_OF_SERVICE: &str = "node.kubernetes.io/out-of-service";

/// Why a pod is deleted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PodReason {
    /// Its node was deleted.
    NodeGone,
    /// It is terminating and never had a node.
    NeverScheduled,
    /// It is terminating and its node is out of service.
    OutOfService,
    /// It has terminated, and there are too many such pods.
    Terminated,
}

/// One action.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PodAction {
    /// Read the node, and report the result to [`Pods::node_is`].
    Look {
        /// The node's name.
        node: Arc<str>,
    },
    /// Delete the pod with grace period 0, if it still has this uid.
    Delete {
        /// The pod.
        pod: PodKey,
        /// Its uid.
        uid: Arc<str>,
        /// Why.
        reason: PodReason,
        /// Whether its phase must become Failed first, for clients that wait for its end: it has
        /// not ended.
        fail_first: bool,
    },
}

struct Tracked {
    uid: Arc<str>,
    node: Option<Arc<str>>,
    terminal: bool,
    terminating: bool,
    created: Timestamp,
}

/// The pods by node.
#[derive(Default)]
pub struct Pods {
    pods: HashMap<PodKey, Tracked>,
    by_node: HashMap<Arc<str>, BTreeSet<PodKey>>,
    nodes: HashSet<Arc<str>>,
    /// Nodes that are out of service and not ready.
    out_of_service: HashSet<Arc<str>>,
    /// Nodes that a read did not find.
    gone: HashSet<Arc<str>>,
    /// Terminated pods, oldest first.
    finished: BTreeSet<(Timestamp, PodKey)>,
    dirty_pods: BTreeSet<PodKey>,
    dirty_nodes: BTreeSet<Arc<str>>,
    asked: HashSet<Arc<str>>,
    synced: bool,
}

impl Pods {
    /// An empty index, which plans nothing before [`Pods::synced`].
    pub fn new() -> Self {
        Self::default()
    }

    /// All existing nodes and pods were added.
    pub fn synced(&mut self) {
        self.synced = true;
    }

    /// A node was added or changed.
    pub fn put_node(&mut self, node: &NodeView) {
        let name = &node.meta.name;
        self.gone.remove(name);
        self.nodes.insert(name.clone());
        let out = !node.is_ready() && node.taints.iter().any(|taint| &*taint.key == OUT_OF_SERVICE);
        if !out {
            self.out_of_service.remove(name);
        } else if self.out_of_service.insert(name.clone()) {
            let pods = self.by_node.get(name).into_iter().flatten();
            self.dirty_pods.extend(pods.cloned());
        }
    }

    /// The watch shows that a node was deleted.
    pub fn delete_node(&mut self, name: &Arc<str>) {
        self.nodes.remove(name);
        self.out_of_service.remove(name);
        if self.by_node.contains_key(name) {
            self.dirty_nodes.insert(name.clone());
        }
    }

    /// The answer to a [`PodAction::Look`].
    pub fn node_is(&mut self, name: &Arc<str>, there: bool) {
        self.asked.remove(name);
        if there {
            // The watch will show it too.
            return;
        }
        if self.nodes.contains(name) {
            // It was created again, or the watch has not shown the deletion yet.
            self.dirty_nodes.insert(name.clone());
            return;
        }
        if let Some(pods) = self.by_node.get(name) {
            self.gone.insert(name.clone());
            self.dirty_pods.extend(pods.iter().cloned());
        }
    }

    /// A read or a deletion failed, so it is retried.
    pub fn retry_node(&mut self, name: &Arc<str>) {
        self.asked.remove(name);
        self.dirty_nodes.insert(name.clone());
    }

    /// A deletion failed, so it is retried.
    pub fn retry_pod(&mut self, key: &PodKey) {
        if self.pods.contains_key(key) {
            self.dirty_pods.insert(key.clone());
        }
    }

    /// A pod was added or changed.
    pub fn put_pod(&mut self, pod: &PodView) {
        let key = PodKey::of(pod);
        let tracked = Tracked {
            uid: pod.meta.uid.clone(),
            node: pod.node_name.clone(),
            terminal: pod.is_terminal(),
            terminating: pod.is_terminating(),
            created: pod.meta.creation_timestamp.unwrap_or(Timestamp::MIN),
        };
        if let Some(old) = self.pods.get(&key)
            && old.uid == tracked.uid
            && old.node == tracked.node
            && old.terminal == tracked.terminal
            && old.terminating == tracked.terminating
        {
            return;
        }
        self.delete_pod(&key);
        if let Some(node) = &tracked.node {
            self.by_node.entry(node.clone()).or_default().insert(key.clone());
            if !self.nodes.contains(node) {
                self.dirty_nodes.insert(node.clone());
            }
        }
        if tracked.terminal {
            self.finished.insert((tracked.created, key.clone()));
        }
        let unconfirmed = tracked
            .node
            .as_ref()
            .is_none_or(|node| self.out_of_service.contains(node));
        if tracked.terminating && unconfirmed {
            self.dirty_pods.insert(key.clone());
        }
        self.pods.insert(key, tracked);
    }

    /// A pod was deleted.
    pub fn delete_pod(&mut self, key: &PodKey) {
        self.dirty_pods.remove(key);
        let Some(old) = self.pods.remove(key) else { return };
        self.finished.remove(&(old.created, key.clone()));
        if let Some(node) = &old.node
            && let Some(set) = self.by_node.get_mut(node)
        {
            set.remove(key);
            if set.is_empty() {
                self.by_node.remove(node);
                self.gone.remove(node);
                self.dirty_nodes.remove(node);
            }
        }
    }

    /// Plans at most `limit` actions, and none before [`Pods::synced`].
    pub fn plan(&mut self, limit: usize) -> Vec<PodAction> {
        let mut actions = Vec::new();
        if !self.synced {
            return actions;
        }
        while let Some(node) = self.dirty_nodes.pop_first() {
            let known = self.nodes.contains(&node) || !self.by_node.contains_key(&node);
            if known {
                continue;
            }
            if self.gone.contains(&node) {
                // The read is done: a pod that was bound later is deleted like the others.
                self.dirty_pods
                    .extend(self.by_node.get(&node).into_iter().flatten().cloned());
            } else if self.asked.insert(node.clone()) {
                actions.push(PodAction::Look { node });
            }
        }
        // A planned pod leaves `finished`, so each is added once.
        let excess = self.finished.len().saturating_sub(TERMINATED_PODS_KEPT);
        self.dirty_pods
            .extend(self.finished.iter().take(excess).map(|(_, key)| key.clone()));
        for _ in 0..limit {
            let Some(key) = self.dirty_pods.pop_first() else {
                break;
            };
            if let Some(action) = self.collect(key) {
                actions.push(action);
            }
        }
        actions
    }

    /// Returns whether [`Pods::plan`] has something to do.
    pub fn has_work(&self) -> bool {
        let changed = !self.dirty_nodes.is_empty() || !self.dirty_pods.is_empty();
        self.synced && (changed || self.finished.len() > TERMINATED_PODS_KEPT)
    }

    fn collect(&mut self, key: PodKey) -> Option<PodAction> {
        let pod = self.pods.get(&key)?;
        let reason = match &pod.node {
            Some(node) if self.gone.contains(node) && !self.nodes.contains(node) => PodReason::NodeGone,
            None if pod.terminating => PodReason::NeverScheduled,
            Some(node) if pod.terminating && self.out_of_service.contains(node) => PodReason::OutOfService,
            _ if pod.terminal => PodReason::Terminated,
            _ => return None,
        };
        // No longer counted, so that the next plan takes the next oldest one.
        self.finished.remove(&(pod.created, key.clone()));
        let fail_first = !pod.terminal;
        Some(PodAction::Delete {
            pod: key,
            uid: pod.uid.clone(),
            reason,
            fail_first,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pod(name: &str, node: Option<&str>) -> PodView {
        let mut pod = PodView {
            node_name: node.map(Into::into),
            ..PodView::default()
        };
        pod.meta.name = name.into();
        pod.meta.namespace = "default".into();
        pod.meta.uid = format!("uid-{name}").into();
        pod
    }

    fn collected(actions: &[PodAction]) -> Vec<(&str, PodReason)> {
        let name = |a| match a {
            &PodAction::Delete { ref pod, reason, .. } => Some((&*pod.name, reason)),
            PodAction::Look { .. } => None,
        };
        actions.iter().filter_map(name).collect()
    }

    fn node(name: &str) -> NodeView {
        let mut node = NodeView::default();
        node.meta.name = name.into();
        node
    }

    fn ready(name: &str) -> Pods {
        let node = name;
        let mut pods = Pods::new();
        pods.put_node(&self::node(name));
        pods.put_pod(&pod("a", Some(node)));
        pods.synced();
        pods
    }

    #[test]
    fn pods_of_deleted_node_are_deleted_after_one_read() {
        let mut pods = ready("n");
        assert_eq!(pods.plan(10), vec![]);
        pods.delete_node(&"n".into());
        assert_eq!(pods.plan(10), vec![PodAction::Look { node: "n".into() }]);
        assert_eq!(pods.plan(10), vec![], "one read is asked for once");
        pods.node_is(&"n".into(), false);
        assert_eq!(collected(&pods.plan(10)), [("a", PodReason::NodeGone)]);
    }

    #[test]
    fn node_found_by_read_keeps_its_pods() {
        let mut pods = ready("n");
        pods.delete_node(&"n".into());
        pods.plan(10);
        pods.put_node(&node("n"));
        pods.node_is(&"n".into(), true);
        assert_eq!(pods.plan(10), vec![]);
    }

    #[test]
    fn pod_bound_to_deleted_node_later_is_deleted_too() {
        let mut pods = ready("n");
        pods.delete_node(&"n".into());
        pods.plan(10);
        pods.node_is(&"n".into(), false);
        pods.plan(10);
        pods.put_pod(&pod("late", Some("n")));
        assert_eq!(
            collected(&pods.plan(10)).last(),
            Some(&("late", PodReason::NodeGone))
        );
    }

    #[test]
    fn terminating_pod_without_node_is_deleted() {
        let mut pods = ready("n");
        let mut lost = pod("lost", None);
        lost.meta.deletion_timestamp = Some(Timestamp::UNIX_EPOCH);
        pods.put_pod(&lost);
        assert_eq!(collected(&pods.plan(10)), [("lost", PodReason::NeverScheduled)]);
    }

    #[test]
    fn terminating_pods_are_deleted_when_node_is_out_of_service() {
        let node = |ready: &str, taints: serde_json::Value| -> NodeView {
            serde_json::from_value(serde_json::json!({
                "metadata": {"name": "n"}, "spec": {"taints": taints},
                "status": {"conditions": [{"type": "Ready", "status": ready}]},
            }))
            .expect("a node")
        };
        let shut =
            serde_json::json!([{"key": OUT_OF_SERVICE, "value": "nodeshutdown", "effect": "NoExecute"}]);
        let mut pods = ready("n");
        let mut going = pod("going", Some("n"));
        going.meta.deletion_timestamp = Some(Timestamp::UNIX_EPOCH);
        pods.put_pod(&going);
        pods.put_node(&node("Unknown", serde_json::json!([])));
        assert_eq!(pods.plan(10), vec![], "its node may come back and confirm");
        pods.put_node(&node("True", shut.clone()));
        assert_eq!(pods.plan(10), vec![], "it runs");
        pods.put_node(&node("Unknown", shut));
        assert_eq!(collected(&pods.plan(10)), [("going", PodReason::OutOfService)]);
        let mut late = pod("late", Some("n"));
        late.meta.deletion_timestamp = Some(Timestamp::UNIX_EPOCH);
        pods.put_pod(&late);
        assert_eq!(collected(&pods.plan(10)), [("late", PodReason::OutOfService)]);
    }

    #[test]
    fn oldest_terminated_pods_beyond_bound_are_deleted() {
        let mut pods = ready("n");
        for i in 0..TERMINATED_PODS_KEPT + 2 {
            let mut done = pod(&format!("done-{i:05}"), Some("n"));
            done.phase = api::view::PhaseView::Succeeded;
            done.meta.creation_timestamp = Timestamp::from_second(i as i64).ok();
            pods.put_pod(&done);
        }
        let plan = pods.plan(10);
        assert_eq!(
            collected(&plan),
            [
                ("done-00000", PodReason::Terminated),
                ("done-00001", PodReason::Terminated)
            ]
        );
    }

    #[test]
    fn nothing_is_deleted_before_all_nodes_are_listed() {
        let mut pods = Pods::new();
        pods.put_pod(&pod("a", Some("n")));
        assert_eq!(pods.plan(10), vec![]);
        pods.put_node(&node("n"));
        pods.synced();
        assert_eq!(pods.plan(10), vec![]);
    }
}

//! The nodes and their pods.

use std::collections::{BTreeMap, HashMap};
use std::ops::Bound;
use std::sync::Arc;

use api::view::{NodeView, PodView};

use super::PodKey;
use super::neighbours::{Neighbours, Question};
use super::node::NodeState;

/// A pod that counts on a node, bound or assumed.
pub(super) struct Placed {
    pub(super) pod: Arc<PodView>,
    pub(super) node: Arc<str>,
    pub(super) assumed: bool,
    /// It is a victim of a preemption: it is terminating, or will be deleted.
    pub(super) leaving: bool,
}

/// What pods may be able to do after a change of a node.
pub(super) struct NodeChange {
    /// To be scheduled to it.
    pub(super) here: bool,
    /// To be scheduled to any node, because topology depends on labels and taints of nodes.
    pub(super) around: bool,
}

/// The nodes and the pods that count on them.
#[derive(Default)]
pub(super) struct Cluster {
    nodes: BTreeMap<Arc<str>, NodeState>,
    /// Number of nodes with a Node object; others only have pods.
    known: usize,
    placed: HashMap<PodKey, Placed>,
    pub(super) neighbours: Neighbours,
}

impl Cluster {
    pub(super) fn put_node(&mut self, node: &Arc<NodeView>) -> NodeChange {
        let state = self.nodes.entry(node.meta.name.clone()).or_default();
        let old = state.node.replace(node.clone());
        let Some(old) = old else {
            self.known += 1;
            self.count_neighbours(&node.meta.name, node, 1);
            return NodeChange {
                here: true,
                around: true,
            };
        };
        let relabelled = old.meta.labels != node.meta.labels;
        if relabelled {
            self.count_neighbours(&node.meta.name, &old, -1);
            self.count_neighbours(&node.meta.name, node, 1);
        }
        let around = relabelled || old.taints != node.taints;
        NodeChange {
            here: around || old.unschedulable != node.unschedulable || old.allocatable != node.allocatable,
            around,
        }
    }

    /// A node was deleted. Its pods stay counted until they are deleted. Returns whether it
    /// existed.
    pub(super) fn delete_node(&mut self, name: &str) -> bool {
        let Some(node) = self.nodes.get_mut(name).and_then(|state| state.node.take()) else {
            return false;
        };
        self.known -= 1;
        self.count_neighbours(name, &node, -1);
        if self.nodes.get(name).is_some_and(NodeState::is_unused) {
            self.nodes.remove(name);
        }
        true
    }

    fn count_neighbours(&mut self, name: &str, node: &NodeView, sign: i64) {
        let pods = self.nodes.get(name).into_iter().flat_map(|state| &state.pods);
        for (_, key) in pods {
            if let Some(placed) = self.placed.get(key) {
                self.neighbours.count(&placed.pod, node, sign);
            }
        }
    }

    /// Counts a pod on a node. Returns whether this changes anything for other pods, and the pod's
    /// old place.
    pub(super) fn place(
        &mut self,
        key: &PodKey,
        pod: &Arc<PodView>,
        node: &Arc<str>,
        assumed: bool,
    ) -> (bool, Option<Placed>) {
        if let Some(placed) = self.placed.get_mut(key)
            && placed.counts_like(pod, node)
        {
            placed.assumed &= assumed;
            placed.leaving |= leaving(pod);
            placed.pod = pod.clone();
            return (false, None);
        }
        let before = self.release(key);
        self.count(pod, node, 1);
        let state = self.nodes.entry(node.clone()).or_default();
        state.pods.push((pod.spec.priority, key.clone()));
        let placed = Placed {
            pod: pod.clone(),
            node: node.clone(),
            assumed,
            leaving: leaving(pod) || before.as_ref().is_some_and(|b| b.leaving && b.is(pod)),
        };
        self.placed.insert(key.clone(), placed);
        (true, before)
    }

    /// Removes the pod from its node.
    pub(super) fn release(&mut self, key: &PodKey) -> Option<Placed> {
        let placed = self.placed.remove(key)?;
        self.count(&placed.pod, &placed.node, -1);
        if placed.pod.spec.topology.is_some() {
            self.neighbours.tidy();
        }
        if let Some(state) = self.nodes.get_mut(&placed.node) {
            if let Some(at) = state.pods.iter().position(|(_, other)| other == key) {
                state.pods.swap_remove(at);
            }
            if state.is_unused() {
                self.nodes.remove(&placed.node);
            }
        }
        Some(placed)
    }

    /// Adds (1) or removes (-1) a pod temporarily, without placing it.
    pub(super) fn count(&mut self, pod: &PodView, node: &Arc<str>, sign: i64) {
        let state = self.nodes.entry(node.clone()).or_default();
        state.count(&pod.spec, sign);
        if let Some(view) = &state.node {
            self.neighbours.count(pod, view, sign);
        }
    }

    /// A node with a Node object.
    pub(super) fn node(&self, name: &str) -> Option<(&NodeState, &Arc<NodeView>)> {
        let state = self.nodes.get(name)?;
        Some((state, state.node.as_ref()?))
    }

    /// Number of nodes with a Node object.
    pub(super) fn known(&self) -> usize {
        self.known
    }

    /// All nodes with a Node object, by name, from the one after `cursor` on.
    pub(super) fn nodes_after(
        &self,
        cursor: &Arc<str>,
    ) -> impl Iterator<Item = (&Arc<str>, &NodeState, &Arc<NodeView>)> {
        let after = self
            .nodes
            .range::<Arc<str>, _>((Bound::Excluded(cursor), Bound::Unbounded));
        let before = self
            .nodes
            .range::<Arc<str>, _>((Bound::Unbounded, Bound::Included(cursor)));
        after
            .chain(before)
            .filter_map(|(name, state)| Some((name, state, state.node.as_ref()?)))
    }

    /// All nodes with a Node object, by name.
    pub(super) fn nodes(&self) -> impl Iterator<Item = (&Arc<str>, &Arc<NodeView>)> {
        self.nodes
            .iter()
            .filter_map(|(name, state)| Some((name, state.node.as_ref()?)))
    }

    pub(super) fn placed(&self, key: &PodKey) -> Option<&Placed> {
        self.placed.get(key)
    }

    #[cfg(test)]
    pub(super) fn all_placed(&self) -> impl Iterator<Item = (&PodKey, &Placed)> {
        self.placed.iter()
    }

    /// The pods of a node with a lower priority.
    pub(super) fn lower(&self, node: &str, priority: i32) -> Vec<(&PodKey, &Placed)> {
        let pods = self.nodes.get(node).into_iter().flat_map(|state| &state.pods);
        pods.filter(|(other, _)| *other < priority)
            .filter_map(|(_, key)| self.placed.get_key_value(key))
            .collect()
    }

    /// Sets whether the pod is a victim of a preemption.
    pub(super) fn set_leaving(&mut self, key: &PodKey, uid: &str, is_leaving: bool) {
        if let Some(placed) = self.placed.get_mut(key)
            && *placed.pod.meta.uid == *uid
        {
            placed.leaving = is_leaving || leaving(&placed.pod);
        }
    }

    /// The id of the answer to a question about placed pods. Counts it if it is new.
    pub(super) fn ask(&mut self, question: &Question) -> u64 {
        let (id, uncounted) = self.neighbours.ask(question);
        if uncounted {
            for placed in self.placed.values() {
                let node = self.nodes.get(&placed.node).and_then(|state| state.node.as_ref());
                if let Some(node) = node {
                    self.neighbours.count_in(id, &placed.pod, node);
                }
            }
        }
        id
    }
}

impl Placed {
    fn is(&self, pod: &PodView) -> bool {
        self.pod.meta.uid == pod.meta.uid
    }

    /// Returns whether another state of the pod counts the same.
    fn counts_like(&self, pod: &PodView, node: &Arc<str>) -> bool {
        self.is(pod)
            && self.node == *node
            && self.pod.spec == pod.spec
            && self.pod.meta.labels == pod.meta.labels
            && self.pod.is_terminating() == pod.is_terminating()
    }
}

/// Returns whether the pod is terminating because it was preempted, according to its status.
fn leaving(pod: &PodView) -> bool {
    pod.preempted && pod.is_terminating()
}

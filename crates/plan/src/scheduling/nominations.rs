//! Pods that will get the room made on a node (`status.nominatedNodeName`).

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use api::view::PodView;

use super::PodKey;

/// Nominated pods by node.
#[derive(Default)]
pub(super) struct Nominations {
    of: HashMap<PodKey, (Arc<PodView>, Arc<str>)>,
    on: HashMap<Arc<str>, BTreeSet<PodKey>>,
}

impl Nominations {
    /// The pod's nominated node.
    pub(super) fn node_of(&self, pod: &PodView) -> Option<&Arc<str>> {
        if self.of.is_empty() {
            return None;
        }
        self.of.get(&PodKey::of(pod)).map(|(_, node)| node)
    }

    /// Nominates the pod to this node, and to no other.
    pub(super) fn set(&mut self, pod: &Arc<PodView>, node: &Arc<str>) {
        let key = PodKey::of(pod);
        self.end(&key);
        self.on.entry(node.clone()).or_default().insert(key.clone());
        self.of.insert(key, (pod.clone(), node.clone()));
    }

    /// Ends the pod's nomination, and returns its node.
    pub(super) fn end(&mut self, key: &PodKey) -> Option<Arc<str>> {
        if self.of.is_empty() {
            return None;
        }
        let (_, node) = self.of.remove(key)?;
        if let Some(keys) = self.on.get_mut(&node) {
            keys.remove(key);
            if keys.is_empty() {
                self.on.remove(&node);
            }
        }
        Some(node)
    }

    /// Returns whether any pod is nominated to the node.
    pub(super) fn any_on(&self, node: &str) -> bool {
        !self.on.is_empty() && self.on.contains_key(node)
    }

    /// All pods that are nominated to the node.
    pub(super) fn on(&self, node: &str) -> Vec<Arc<PodView>> {
        let keys = self.on.get(node).into_iter().flatten();
        keys.filter_map(|key| self.of.get(key))
            .map(|(pod, _)| pod.clone())
            .collect()
    }

    /// The other pods nominated to the node that have at least the priority of `pod`.
    pub(super) fn rivals(&self, pod: &PodView, node: &str) -> Vec<Arc<PodView>> {
        if !self.any_on(node) {
            return Vec::new();
        }
        let mut rivals = self.on(node);
        rivals.retain(|other| other.meta.uid != pod.meta.uid && other.spec.priority >= pod.spec.priority);
        rivals
    }
}

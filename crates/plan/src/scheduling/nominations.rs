//! Who is to have the room that is being made on a node (`status.nominatedNodeName`).

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use api::view::PodView;

use super::PodKey;

/// Who is to have the room that is being made on a node.
#[derive(Default)]
pub(super) struct Nominations {
    of: HashMap<PodKey, (Arc<PodView>, Arc<str>)>,
    on: HashMap<Arc<str>, BTreeSet<PodKey>>,
}

impl Nominations {
    /// Where the pod is nominated to.
    pub(super) fn node_of(&self, pod: &PodView) -> Option<&Arc<str>> {
        if self.of.is_empty() {
            return None;
        }
        self.of.get(&PodKey::of(pod)).map(|(_, node)| node)
    }

    /// The pod is to have its place on this node, and on no other.
    pub(super) fn set(&mut self, pod: &Arc<PodView>, node: &Arc<str>) {
        let key = PodKey::of(pod);
        self.end(&key);
        self.on.entry(node.clone()).or_default().insert(key.clone());
        self.of.insert(key, (pod.clone(), node.clone()));
    }

    /// The pod's nomination is over: where it was.
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

    /// Whether anybody is nominated to the node.
    pub(super) fn any_on(&self, node: &str) -> bool {
        !self.on.is_empty() && self.on.contains_key(node)
    }

    /// All that are nominated to the node.
    pub(super) fn on(&self, node: &str) -> Vec<Arc<PodView>> {
        let keys = self.on.get(node).into_iter().flatten();
        keys.filter_map(|key| self.of.get(key))
            .map(|(pod, _)| pod.clone())
            .collect()
    }

    /// The pods that come before `pod` on the node: the others of its priority or a higher one.
    pub(super) fn rivals(&self, pod: &PodView, node: &str) -> Vec<Arc<PodView>> {
        if !self.any_on(node) {
            return Vec::new();
        }
        let mut rivals = self.on(node);
        rivals.retain(|other| other.meta.uid != pod.meta.uid && other.spec.priority >= pod.spec.priority);
        rivals
    }
}

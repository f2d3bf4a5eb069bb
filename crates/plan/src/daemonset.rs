//! The DaemonSet rules for one node: whether it should run the set's pod, which of its pods stay,
//! what is created, and what the node counts for in the status.
//!
//! All functions are pure. [`crate::fleet`] calls them for the nodes that changed; tests call them
//! for all nodes and compare the results.

mod judge;
pub(crate) mod name;
mod placement;
mod template;

pub use judge::{Count, DeleteReason, Facts, Held, Judgement, Rules, judge};
pub use name::{Lineage, pod_name};
pub use placement::{Fit, Misfit, Placement, Trouble};
pub(crate) use template::owner_reference;
pub use template::{Aim, PodTemplate};

use std::cmp::Ordering;
use std::sync::Arc;

use api::view::PodView;
use jiff::{SignedDuration, Timestamp};

/// Label with the template's hash on pods and revisions.
pub const HASH_LABEL: &str = "controller-revision-hash";

/// Label that older controllers compared; pods still carry it.
pub const GENERATION_LABEL: &str = "pod-template-generation";

/// Orders the pods of a set on a node: bound before unbound, then by age, then by name. The first
/// one is the senior pod.
pub fn seniority(a: &PodView, b: &PodView) -> Ordering {
    a.node_name
        .is_none()
        .cmp(&b.node_name.is_none())
        .then_with(|| a.meta.creation_timestamp.cmp(&b.meta.creation_timestamp))
        .then_with(|| a.meta.name.cmp(&b.meta.name))
}

/// Returns whether a pod has the current template: it carries its hash or its generation.
///
/// The generation is ignored if the pod is older than the set: a set that adopts the pods of a
/// deleted one counts its templates from 1 again. For the set's own pods the generation is enough,
/// so that a newer server that encodes the same template differently does not replace them.
pub fn is_updated(pod: &PodView, template: &CurrentTemplate<'_>) -> bool {
    let labels = &pod.meta.labels;
    if labels.get(HASH_LABEL) == Some(template.hash) {
        return true;
    }
    if pod.meta.creation_timestamp < template.since {
        return false;
    }
    let same_generation = || {
        let pods = labels.get(GENERATION_LABEL)?.parse::<i64>().ok()?;
        Some(pods == template.generation?)
    };
    same_generation().unwrap_or(false)
}

/// Identifies pods of a set's current template.
#[derive(Clone, Copy, Debug)]
pub struct CurrentTemplate<'a> {
    /// Its hash, which its pods carry.
    pub hash: &'a str,
    /// Its number, if the server counts templates.
    pub generation: Option<i64>,
    /// The set's creation, from which it counts its templates.
    pub since: Option<Timestamp>,
}

/// When a Ready pod becomes available: at once without minReadySeconds, otherwise that long after
/// it became Ready. `None` if it is not Ready, or has no transition time.
pub fn available_from(pod: &PodView, min_ready_seconds: i32) -> Option<Timestamp> {
    if !pod.ready.status {
        return None;
    }
    if min_ready_seconds <= 0 {
        return Some(Timestamp::MIN);
    }
    pod.ready
        .since?
        .checked_add(SignedDuration::from_secs(min_ready_seconds.into()))
        .ok()
}

/// Returns whether a pod has ended and is terminating. Such a pod no longer counts, even if a
/// finalizer keeps its object.
pub fn is_past(pod: &PodView) -> bool {
    pod.is_terminal() && pod.is_terminating()
}

/// Shared name of a node.
pub type NodeName = Arc<str>;

#[cfg(test)]
mod tests;

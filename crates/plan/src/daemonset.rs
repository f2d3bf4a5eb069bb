//! The DaemonSet rules, one node at a time: should this node run the set's pod, which of the pods on it stay, what is
//! made anew, and what does the node count for in the status.
//!
//! Everything here is a function of its arguments. [`crate::fleet`] asks these questions for the nodes that something
//! happened to; tests ask them for all nodes and compare.

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

/// The label that names the template a pod or a revision was made of.
pub const HASH_LABEL: &str = "controller-revision-hash";

/// The label that older controllers compared; pods still carry it.
pub const GENERATION_LABEL: &str = "pod-template-generation";

/// Which of several pods of a set on a node is the one: bound before unbound, then the oldest, then by name.
pub fn seniority(a: &PodView, b: &PodView) -> Ordering {
    a.node_name
        .is_none()
        .cmp(&b.node_name.is_none())
        .then_with(|| a.meta.creation_timestamp.cmp(&b.meta.creation_timestamp))
        .then_with(|| a.meta.name.cmp(&b.meta.name))
}

/// Whether a pod was made of the current template: it carries its hash, or its generation.
///
/// The generation says nothing of a pod that is older than the set: a set that takes over the pods of one that is gone counts its
/// templates from 1 again. Of the set's own pods it says enough: one whose hash is no longer the template's, because a newer
/// server writes the same template in other bytes, is not replaced for that.
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

/// How pods of a set's current template are told from older ones.
#[derive(Clone, Copy, Debug)]
pub struct CurrentTemplate<'a> {
    /// Its name, which its pods carry.
    pub hash: &'a str,
    /// Its number, when the server keeps one.
    pub generation: Option<i64>,
    /// Since when the set counts its templates: its creation.
    pub since: Option<Timestamp>,
}

/// When a Ready pod counts as available: at once without minReadySeconds, otherwise that long after it became Ready.
/// `None` when it is not Ready, or when it is not known since when.
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

/// A pod that is over and on its way out no longer counts as being on its node, whatever still holds its object.
pub fn is_past(pod: &PodView) -> bool {
    pod.is_terminal() && pod.is_terminating()
}

/// A name of a node, shared.
pub type NodeName = Arc<str>;

#[cfg(test)]
mod tests;

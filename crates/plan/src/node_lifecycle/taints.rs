//! The taints that a node's conditions mean.

use api::taint::{Effect, Taint};
use api::view::NodeView;
use jiff::Timestamp;

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

/// Whether the node says, or its silence, that it is not ready. One that has said nothing yet is not sick.
pub(super) fn is_sick(node: &NodeView) -> bool {
    readiness_taint(node).is_some()
}

/// Whether it has a taint that drives pods out because it is not ready.
pub(super) fn drives_out(node: &NodeView) -> bool {
    node.taints
        .iter()
        .any(|t| matches!(&*t.key, NOT_READY | UNREACHABLE) && t.effect == Effect::NoExecute)
}

fn readiness_taint(node: &NodeView) -> Option<&'static str> {
    match node.condition("Ready").map(|c| &*c.status) {
        Some("False") => Some(NOT_READY),
        Some("Unknown") => Some(UNREACHABLE),
        _ => None,
    }
}

/// The taints that the node should have, if they are not those that it has; with `no_execute`, the one that drives pods out of a node that
/// is not ready among them. Taints that are not about conditions are kept.
pub(super) fn wanted(node: &NodeView, no_execute: bool, now: Timestamp) -> Option<Vec<Taint>> {
    let mut wanted: Vec<(&str, Effect)> = Vec::new();
    if let Some(key) = readiness_taint(node) {
        wanted.push((key, Effect::NoSchedule));
        if no_execute {
            wanted.push((key, Effect::NoExecute));
        }
    } else if node.condition("Ready").is_none() {
        // It has not said anything: what it was registered with stands.
        let has = |key: &str, effect| node.taints.iter().any(|t| &*t.key == key && t.effect == effect);
        let both = [NOT_READY, UNREACHABLE]
            .into_iter()
            .flat_map(|k| [(k, Effect::NoSchedule), (k, Effect::NoExecute)]);
        wanted.extend(both.filter(|(key, effect)| has(key, *effect)));
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

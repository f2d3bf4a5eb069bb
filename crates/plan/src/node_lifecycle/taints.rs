//! Taints that follow from a node's conditions.

use api::taint::{Effect, Taint};
use api::view::NodeView;
use jiff::Timestamp;

/// Taint of a node whose Ready condition is False.
pub const NOT_READY: &str = "node.kubernetes.io/not-ready";
/// Taint of a node whose Ready condition is Unknown.
pub const UNREACHABLE: &str = "node.kubernetes.io/unreachable";
const UNSCHEDULABLE: &str = "node.kubernetes.io/unschedulable";

/// Conditions that cause a taint when they are True.
const PRESSURES: [(&str, &str); 4] = [
    ("MemoryPressure", "node.kubernetes.io/memory-pressure"),
    ("DiskPressure", "node.kubernetes.io/disk-pressure"),
    ("PIDPressure", "node.kubernetes.io/pid-pressure"),
    ("NetworkUnavailable", "node.kubernetes.io/network-unavailable"),
];

/// Returns whether the Ready condition is False or Unknown. A node without the condition is not
/// sick.
pub(super) fn is_sick(node: &NodeView) -> bool {
    readiness_taint(node).is_some()
}

/// Returns whether it has a NoExecute taint for its readiness.
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

/// The taints that the node should have, or `None` if it has them. With `no_execute` they include
/// the NoExecute taint for readiness. Taints that are not about conditions stay.
pub(super) fn wanted(node: &NodeView, no_execute: bool, now: Timestamp) -> Option<Vec<Taint>> {
    let mut wanted: Vec<(&str, Effect)> = Vec::new();
    if let Some(key) = readiness_taint(node) {
        wanted.push((key, Effect::NoSchedule));
        if no_execute {
            wanted.push((key, Effect::NoExecute));
        }
    } else if node.condition("Ready").is_none() {
        // The node has not reported yet, so its taints from registration stay.
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

/// Returns whether this controller manages the taint: taints for conditions, but NoExecute only for
/// readiness.
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

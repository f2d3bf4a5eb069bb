//! The message when no node fits a pod.

use std::collections::BTreeMap;

use super::reason::{Reason, Rejection};

/// Number of nodes for each reason.
#[derive(Clone, Debug, Default)]
pub(super) struct Histogram(BTreeMap<Reason, usize>);

impl Histogram {
    pub(super) fn add(&mut self, rejection: &Rejection) {
        for reason in &rejection.reasons {
            self.count(reason.clone(), 1);
        }
    }

    pub(super) fn count(&mut self, reason: Reason, nodes: usize) {
        if nodes > 0 {
            *self.0.entry(reason).or_default() += nodes;
        }
    }

    /// Returns whether a change on another node may remove a reason.
    pub(super) fn is_topology(&self) -> bool {
        self.0.keys().any(Reason::is_topology)
    }

    /// `0/3 nodes are available: 1 Insufficient memory, 2 ….` The counts are sorted as strings, as
    /// in Kubernetes.
    pub(super) fn message(&self, nodes: usize) -> String {
        let mut counts: Vec<_> = self
            .0
            .iter()
            .map(|(reason, count)| match reason {
                // Found before any node was checked, so no nodes are counted.
                Reason::TermsConflict => reason.to_string(),
                reason => format!("{count} {reason}"),
            })
            .collect();
        counts.sort();
        format!("0/{nodes} nodes are available: {}.", counts.join(", "))
    }
}

/// Why no pod is preempted.
#[derive(Clone, Debug)]
pub(super) enum NoPreemption {
    /// The pod forbids it (`preemptionPolicy: Never`).
    Never,
    /// Pods of lower priority are terminating on the nominated node.
    Underway,
    /// It would not make room on any node.
    Useless(Histogram),
}

impl NoPreemption {
    fn message(&self, nodes: usize) -> String {
        match self {
            NoPreemption::Never => "not eligible due to preemptionPolicy=Never.".to_owned(),
            NoPreemption::Underway => {
                "not eligible due to a terminating pod on the nominated node.".to_owned()
            }
            NoPreemption::Useless(histogram) => histogram.message(nodes),
        }
    }
}

/// The whole message for a pod that no node fits. `preemption` is `None` if a preemption makes
/// room.
pub(super) fn message(nodes: usize, filtered: &Histogram, preemption: Option<&NoPreemption>) -> String {
    if nodes == 0 {
        return "no nodes available to schedule pods".to_owned();
    }
    let mut message = filtered.message(nodes);
    if let Some(preemption) = preemption {
        message.push_str(" preemption: ");
        message.push_str(&preemption.message(nodes));
    }
    message
}

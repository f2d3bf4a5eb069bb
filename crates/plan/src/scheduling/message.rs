//! What the scheduler says when no node takes a pod.

use std::collections::BTreeMap;

use super::reason::{Reason, Rejection};

/// How many nodes gave which reason.
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

    /// Whether a change around some node, and not only of it, may cure a reason.
    pub(super) fn is_topology(&self) -> bool {
        self.0.keys().any(Reason::is_topology)
    }

    /// `0/3 nodes are available: 1 Insufficient memory, 2 ….` The counts are sorted as strings, as Kubernetes sorts them.
    pub(super) fn message(&self, nodes: usize) -> String {
        let mut counts: Vec<_> = self
            .0
            .iter()
            .map(|(reason, count)| match reason {
                // Found before any node was asked, so no nodes are counted.
                Reason::TermsConflict => reason.to_string(),
                reason => format!("{count} {reason}"),
            })
            .collect();
        counts.sort();
        format!("0/{nodes} nodes are available: {}.", counts.join(", "))
    }
}

/// Why no pod is removed for one that no node takes.
#[derive(Clone, Debug)]
pub(super) enum NoPreemption {
    /// The pod asks for it (`preemptionPolicy: Never`).
    Never,
    /// Pods of lower priority are on their way out of the node where the pod is to go.
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

/// The whole message about a pod that no node takes; with room being made for it when `preemption` is `None`.
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

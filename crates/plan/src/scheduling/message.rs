//! What the scheduler says when no node takes a pod.

use std::collections::BTreeMap;

use super::filter::Rejection;

const EXCLUDED: &str = "node(s) didn't satisfy plugin(s) [NodeAffinity]";
const NOT_HELPFUL: &str = "Preemption is not helpful for scheduling";
const NO_VICTIMS: &str = "No preemption victims found for incoming pod";

/// How many nodes gave which reason.
#[derive(Debug, Default)]
pub(super) struct Histogram {
    reasons: BTreeMap<String, usize>,
    resolvable: usize,
    unresolvable: usize,
}

impl Histogram {
    pub(super) fn add(&mut self, rejection: &Rejection) {
        for reason in &rejection.reasons {
            *self.reasons.entry(reason.clone()).or_default() += 1;
        }
        match rejection.resolvable {
            true => self.resolvable += 1,
            false => self.unresolvable += 1,
        }
    }

    /// Nodes that the pod's affinity leaves out by name: they are counted, not looked at.
    pub(super) fn excluded_by_affinity(&mut self, nodes: usize) {
        if nodes > 0 {
            *self.reasons.entry(EXCLUDED.to_owned()).or_default() += nodes;
            self.unresolvable += nodes;
        }
    }

    /// `0/3 nodes are available: 1 Insufficient memory, 2 …. preemption: 0/3 nodes are available: …`
    pub(super) fn message(&self, nodes: usize, never_preempts: bool) -> String {
        if nodes == 0 {
            return "no nodes available to schedule pods".to_owned();
        }
        let reasons = self.reasons.iter().map(|(reason, n)| format!("{n} {reason}"));
        let mut message = format!("0/{nodes} nodes are available: {}. preemption: ", sorted(reasons));
        if never_preempts {
            message.push_str("not eligible due to preemptionPolicy=Never.");
            return message;
        }
        let counts = [(self.resolvable, NO_VICTIMS), (self.unresolvable, NOT_HELPFUL)];
        let outcomes = counts
            .iter()
            .filter(|(n, _)| *n > 0)
            .map(|(n, outcome)| format!("{n} {outcome}"));
        message.push_str(&format!("0/{nodes} nodes are available: {}.", sorted(outcomes)));
        message
    }
}

/// As strings, counts included: so Kubernetes sorts them, and so messages stay comparable.
fn sorted(parts: impl Iterator<Item = String>) -> String {
    let mut parts: Vec<_> = parts.collect();
    parts.sort();
    parts.join(", ")
}

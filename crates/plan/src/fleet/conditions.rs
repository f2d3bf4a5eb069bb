//! The conditions `Available` and `Progressing`, which Kubernetes' DaemonSets lack: whether enough
//! nodes have an available pod, and what the rollout waits for. Where a Deployment has a fitting
//! reason, they use it.
//!
//! They are written with the numbers of the status and must not cause writes of their own. So their
//! text about a node is coarser than an [explanation](super::Explanation), and changes only with
//! the node's numbers.

use std::sync::Arc;

use api::view::{DaemonSetConditionView, NodeView, PhaseView};
use jiff::Timestamp;

use super::explain::{Case, Verdict};
use super::set::Set;
use crate::daemonset::NodeName;
use crate::rollout::Mode;

/// A condition of a DaemonSet.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Condition {
    /// `Available` or `Progressing`.
    pub kind: &'static str,
    /// Whether it is True; otherwise it is False.
    pub status: bool,
    /// Reason in CamelCase.
    pub reason: &'static str,
    /// Message for users.
    pub message: String,
    /// When the status last changed.
    pub since: Timestamp,
}

impl Condition {
    /// `True` or `False`.
    pub fn word(&self) -> &'static str {
        if self.status { "True" } else { "False" }
    }

    /// The condition as a view of the written set has it.
    pub(super) fn view(&self) -> DaemonSetConditionView {
        DaemonSetConditionView {
            kind: self.kind.to_owned(),
            status: self.word().to_owned(),
            reason: self.reason.to_owned(),
            message: self.message.clone(),
            last_transition_time: Some(self.since),
        }
    }

    /// Returns whether `present` equals this condition, except for the time.
    fn equals(&self, present: &DaemonSetConditionView) -> bool {
        present.kind == self.kind
            && present.status == self.word()
            && present.reason == self.reason
            && present.message == self.message
    }
}

/// Most nodes that a message names. It counts the others.
const NAMED_NODES: usize = 3;

/// Longest quote of another component's message for a node, in bytes. A scheduler's message lists
/// every reason.
const LONGEST_QUOTE: usize = 256;

impl Set {
    /// The desired conditions.
    pub(super) fn conditions<'n>(
        &self,
        nodes: impl Fn(&NodeName) -> Option<&'n Arc<NodeView>>,
        now: Timestamp,
    ) -> [Condition; 2] {
        let text = |node: &NodeName| {
            let pair = self.pairs.get(node)?;
            let case = Case::new(self, pair, nodes(node).map(|node| &**node), now);
            Some(format!("{node} ({})", case.in_short()))
        };
        let (available, progressing) = (self.available(), self.progressing(text));
        [("Available", available), ("Progressing", progressing)].map(|(kind, finding)| Condition {
            kind,
            since: self.since(kind, finding.status, now),
            status: finding.status,
            reason: finding.reason,
            message: finding.message,
        })
    }

    /// When a condition got its status: from the set, or from the last write if a client removed
    /// it.
    fn since(&self, kind: &str, status: bool, now: Timestamp) -> Timestamp {
        let present = self.view.conditions.iter().find(|present| present.kind == kind);
        let written = self
            .written_conditions
            .iter()
            .find(|written| written.kind == kind);
        match (present, written) {
            (Some(present), _) if (present.status == "True") == status => present.last_transition_time,
            (None, Some(written)) if written.status == status => Some(written.since),
            _ => None,
        }
        .unwrap_or(now)
    }

    /// Returns whether the set already has `conditions`.
    pub(super) fn has_conditions(&self, conditions: &[Condition]) -> bool {
        let is_present = |condition: &Condition| {
            let mut present = self.view.conditions.iter();
            present.any(|present| condition.equals(present))
        };
        conditions.iter().all(is_present)
    }

    /// True if no more nodes lack an available pod than the update strategy allows, and not all of
    /// them.
    fn available(&self) -> Finding {
        let (desired, available) = (self.tally.desired, self.tally.available);
        let allowed = self.budget().max_unavailable;
        let message = format!("{available} of {desired} nodes have an available pod");
        if desired - available <= allowed && (available > 0 || desired == 0) {
            Finding::new(true, "MinimumPodsAvailable", message)
        } else {
            let message = format!("{message}, and at most {allowed} may lack one");
            Finding::new(false, "MinimumPodsUnavailable", message)
        }
    }

    fn progressing(&self, text: impl Fn(&NodeName) -> Option<String>) -> Finding {
        let (desired, queues) = (self.tally.desired, &self.queues);
        if !queues.refused.is_empty() {
            let message = named(queues.refused.iter(), queues.refused.len(), text);
            return Finding::new(false, "FailedCreate", message);
        }
        let waiting = queues.stuck.len() + queues.waiting.len();
        if waiting > 0 {
            let nodes = queues.stuck.iter().chain(&queues.waiting);
            let message = format!(
                "{} of {desired} nodes are done; waiting for {}",
                desired - waiting,
                named(nodes, waiting, text)
            );
            return Finding::new(true, "PodsUpdating", message);
        }
        let old = desired - self.tally.updated;
        if old > 0 && self.rules().mode == Mode::OnDelete {
            let message = format!(
                "{old} of {desired} nodes have a pod of an old template, which must be deleted by hand"
            );
            return Finding::new(false, "OnDelete", message);
        }
        let message = format!("{desired} of {desired} nodes have an available pod of the current template");
        Finding::new(true, "NewPodsAvailable", message)
    }
}

/// A condition without its type and time.
struct Finding {
    status: bool,
    reason: &'static str,
    message: String,
}

impl Finding {
    fn new(status: bool, reason: &'static str, message: String) -> Finding {
        Finding {
            status,
            reason,
            message,
        }
    }
}

/// The first few of `count` nodes, each with its text, and the number of the others.
fn named<'n>(
    nodes: impl Iterator<Item = &'n NodeName>,
    count: usize,
    text: impl Fn(&NodeName) -> Option<String>,
) -> String {
    let first: Vec<_> = nodes.filter_map(text).take(NAMED_NODES).collect();
    match (first.join(", "), count.saturating_sub(first.len())) {
        (first, 0) => first,
        (first, more) => format!("{first} and {more} more"),
    }
}

impl Case<'_> {
    /// Why the rollout waits for the node, in words that rarely change.
    fn in_short(&self) -> String {
        let Some((verdict, pod)) = self.verdict() else {
            return "its node is gone".to_owned();
        };
        let updated = pod.is_none_or(|pod| self.is_updated(pod));
        let text = match &verdict {
            Verdict::Refused(why, _) => return quoted("refused: ", why),
            Verdict::Unscheduled(why) if !why.is_empty() => {
                return quoted("its pod cannot be scheduled: ", why);
            }
            Verdict::NodeDown(trouble) => return format!("the node {trouble}"),
            Verdict::Outdated => "its pod is of an old template",
            // A terminating old pod keeps its text, so that the condition does not change.
            Verdict::Ending if !updated => "its pod is of an old template",
            Verdict::Ending => "its pod is ending",
            Verdict::Creating | Verdict::Missing => "its pod is being created",
            Verdict::Adopting => "its pod is being adopted",
            Verdict::BackingOff(_) | Verdict::Ended(PhaseView::Failed) => "its pod failed",
            Verdict::Ended(_) => "its pod ended",
            Verdict::AvailableAt(_) => "its pod has not been ready for long enough",
            Verdict::Surging => "its new pod is not available",
            _ => "its pod is not ready",
        };
        text.to_owned()
    }
}

/// The beginning of another component's message.
fn quoted(before: &str, words: &str) -> String {
    match words.len() <= LONGEST_QUOTE {
        true => format!("{before}{words}"),
        false => format!("{before}{}…", &words[..words.floor_char_boundary(LONGEST_QUOTE)]),
    }
}

//! The conditions `Available` and `Progressing`, which Kubernetes' DaemonSets lack: whether enough nodes are served, and
//! what is waited for. Their reasons are a Deployment's where it has one.
//!
//! They are written with the numbers, and must not cost writes of their own: so what they say about a node is coarser
//! than an [explanation](super::Explanation), and changes when the node's numbers do.

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
    /// One CamelCase word.
    pub reason: &'static str,
    /// A sentence.
    pub message: String,
    /// Since when the status is so.
    pub since: Timestamp,
}

impl Condition {
    /// `True` or `False`.
    pub fn word(&self) -> &'static str {
        if self.status { "True" } else { "False" }
    }

    /// The condition as the set says it once it is written.
    pub(super) fn view(&self) -> DaemonSetConditionView {
        DaemonSetConditionView {
            kind: self.kind.to_owned(),
            status: self.word().to_owned(),
            reason: self.reason.to_owned(),
            message: self.message.clone(),
            last_transition_time: Some(self.since),
        }
    }

    /// Whether `present` says the same, whenever it came to.
    fn is_said_by(&self, present: &DaemonSetConditionView) -> bool {
        present.kind == self.kind
            && present.status == self.word()
            && present.reason == self.reason
            && present.message == self.message
    }
}

/// How many nodes a message names; the others it counts.
const NAMED_NODES: usize = 3;

/// How much of somebody else's words a message quotes for a node. A scheduler's explanation lists every reason.
const LONGEST_QUOTE: usize = 256;

impl Set {
    /// What the conditions should say.
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
        [("Available", available), ("Progressing", progressing)].map(|(kind, told)| Condition {
            kind,
            since: self.since(kind, told.status, now),
            status: told.status,
            reason: told.reason,
            message: told.message,
        })
    }

    /// Since when a condition has had its status: as the set says, or as was last written, if somebody took it away.
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

    /// Whether the set itself says what `conditions` do.
    pub(super) fn says(&self, conditions: &[Condition]) -> bool {
        let said = |condition: &Condition| {
            let mut present = self.view.conditions.iter();
            present.any(|present| condition.is_said_by(present))
        };
        conditions.iter().all(said)
    }

    /// Enough nodes are served when no more than the update strategy allows are without an available pod, and not all.
    fn available(&self) -> Told {
        let (desired, available) = (self.tally.desired, self.tally.available);
        let allowed = self.budget().max_unavailable;
        let message = format!("{available} of {desired} nodes have an available pod");
        if desired - available <= allowed && (available > 0 || desired == 0) {
            Told::new(true, "MinimumPodsAvailable", message)
        } else {
            let message = format!("{message}, and at most {allowed} may be without");
            Told::new(false, "MinimumPodsUnavailable", message)
        }
    }

    fn progressing(&self, text: impl Fn(&NodeName) -> Option<String>) -> Told {
        let (desired, queues) = (self.tally.desired, &self.queues);
        if !queues.refused.is_empty() {
            let message = named(queues.refused.iter(), queues.refused.len(), text);
            return Told::new(false, "FailedCreate", message);
        }
        let waiting = queues.stuck.len() + queues.waiting.len();
        if waiting > 0 {
            let nodes = queues.stuck.iter().chain(&queues.waiting);
            let message = format!(
                "{} of {desired} nodes are done; waiting for {}",
                desired - waiting,
                named(nodes, waiting, text)
            );
            return Told::new(true, "PodsUpdating", message);
        }
        let old = desired - self.tally.updated;
        if old > 0 && self.rules().mode == Mode::OnDelete {
            let message = format!(
                "{old} of {desired} nodes have a pod of an old template, which stays until it is deleted"
            );
            return Told::new(false, "OnDelete", message);
        }
        let message = format!("{desired} of {desired} nodes have an available pod of the current template");
        Told::new(true, "NewPodsAvailable", message)
    }
}

/// A condition without its name and time.
struct Told {
    status: bool,
    reason: &'static str,
    message: String,
}

impl Told {
    fn new(status: bool, reason: &'static str, message: String) -> Told {
        Told {
            status,
            reason,
            message,
        }
    }
}

/// The first few of `count` nodes, each with its text, and how many more there are.
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
    /// Why the node is waited for, in words that last.
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
            // Until it is gone, an old pod on its way out is what it was.
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

/// The beginning of somebody else's words.
fn quoted(before: &str, words: &str) -> String {
    match words.len() <= LONGEST_QUOTE {
        true => format!("{before}{words}"),
        false => format!("{before}{}…", &words[..words.floor_char_boundary(LONGEST_QUOTE)]),
    }
}

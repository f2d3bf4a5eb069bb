//! Rollouts: how pods of the current template replace those of old ones.
//!
//! Each node is in one of a few lanes. The budget depends only on the sizes of the lanes, so a
//! rollout costs as much as nodes change, whatever the size of the cluster.
//!
//! Without surge, an old pod is deleted, and its successor is created when it is gone. Old pods
//! that are not available are deleted at once, whatever the budget; available ones in the order of
//! node names, as far as maxUnavailable allows. With surge, the successor is created first, on as
//! many nodes as maxSurge allows, and the old pod is deleted when the successor is available. Only
//! nodes that should run the set take part: where a NoSchedule taint lets a pod stay, an update
//! does not delete it, because it could not create it again.

use api::view::UpdateStrategyView;
use schema::int_or_percent::IntOrPercent;

use crate::daemonset::{DeleteReason, Fit};

/// How a set replaces its old pods.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Mode {
    /// Not at all: they stay until a user deletes them.
    OnDelete,
    /// The old pod is deleted first.
    InPlace,
    /// The new pod is created first.
    Surge,
}

/// State of a node in a rollout.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, PartialOrd, Ord)]
pub enum Lane {
    /// Nothing to do, or the node takes no part.
    #[default]
    Quiet,
    /// Without surge: it should have an available pod, but has none. Uses the budget.
    Unavailable,
    /// It has an available old pod, which is replaced when the budget allows.
    Candidate,
    /// With surge: its successor is starting. Uses the budget.
    Surging,
    /// With surge: it has an available old pod, but should have none. The pod is deleted when
    /// enough other nodes are served.
    Sunset,
}

/// Everything that the lane depends on. Pods that are being deleted do not count.
#[derive(Clone, Copy, Debug)]
pub struct Standing {
    /// Whether the set belongs on the node.
    pub fit: Fit,
    /// Whether the node is unreachable.
    pub unreachable: bool,
    /// Whether a creation was requested that the watch has not shown yet.
    pub creating: bool,
    /// Whether a deletion was requested of a pod that probably still runs.
    pub parting: bool,
    /// Pods of the current template: their number, and whether the first one is available.
    pub new: (usize, bool),
    /// Pods of older templates, as above.
    pub old: (usize, bool),
}

/// The lane, and what is done whatever the budget.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Verdict {
    /// The node's lane.
    pub lane: Lane,
    /// Why its old pod is deleted, if it is.
    pub delete_old: Option<DeleteReason>,
    /// Whether a new pod is created beside the old one.
    pub create: bool,
}

impl From<Lane> for Verdict {
    fn from(lane: Lane) -> Self {
        Verdict {
            lane,
            ..Verdict::default()
        }
    }
}

impl Mode {
    /// The mode of a strategy. A percentage of surge counts if it is not zero.
    pub fn of(strategy: &UpdateStrategyView) -> Mode {
        match strategy {
            UpdateStrategyView::OnDelete => Mode::OnDelete,
            UpdateStrategyView::RollingUpdate { max_surge, .. } if max_surge.scaled(1, true) > 0 => {
                Mode::Surge
            }
            UpdateStrategyView::RollingUpdate { .. } => Mode::InPlace,
        }
    }

    /// Returns the lane of a node, and what the rollout does there whatever the budget.
    pub fn lane(self, standing: &Standing) -> Verdict {
        if standing.is_out_of_reach() {
            return Verdict::default();
        }
        match self {
            Mode::OnDelete => Verdict::default(),
            Mode::InPlace if standing.fit.should_run() => in_place(standing),
            Mode::InPlace => Verdict::default(),
            Mode::Surge => surge(standing),
        }
    }

    /// The lane of a node while pods there are to be adopted.
    pub(crate) fn lane_while_unsettled(self, fit: Option<Fit>) -> Lane {
        match self {
            Mode::InPlace if fit.is_some_and(Fit::should_run) => Lane::Unavailable,
            _ => Lane::Quiet,
        }
    }
}

impl Standing {
    /// Returns whether the node is unreachable and has no pod of the current template. Such a node
    /// takes no part: requests would have no effect there, and its old pod cannot become more
    /// unavailable. So dead nodes do not use the budget, and the update continues on the others. If
    /// the node has a pod of the current template, that template may be why it is unreachable, so
    /// it counts.
    fn is_out_of_reach(&self) -> bool {
        self.unreachable && self.new.0 == 0
    }
}

fn in_place(standing: &Standing) -> Verdict {
    match (standing.new, standing.old) {
        ((1, true), (0, _)) => Lane::Quiet.into(),
        ((0, _), (1, true)) => Lane::Candidate.into(),
        ((0, _), (1, false)) => Verdict {
            lane: Lane::Unavailable,
            delete_old: Some(DeleteReason::Outdated),
            create: false,
        },
        _ => Lane::Unavailable.into(),
    }
}

fn surge(standing: &Standing) -> Verdict {
    let should_run = standing.fit.should_run();
    match (standing.new, standing.old) {
        ((2.., _), _) | (_, (2.., _)) => Lane::Surging.into(),
        ((_, _), (0, _)) => Lane::Quiet.into(),
        ((0, _), (1, _)) if standing.creating => Lane::Surging.into(),
        // No third pod is created before the second one has ended.
        ((0, _), (1, _)) if standing.parting && should_run => Lane::Surging.into(),
        ((0, _), (1, true)) if should_run => Lane::Candidate.into(),
        ((0, _), (1, true)) => Lane::Sunset.into(),
        ((0, _), (1, false)) if should_run => Verdict {
            create: true,
            ..Verdict::default()
        },
        ((0, _), (1, false)) => Verdict {
            delete_old: Some(DeleteReason::Misplaced),
            ..Verdict::default()
        },
        ((1, true), (1, _)) => Verdict {
            delete_old: Some(DeleteReason::Replaced),
            ..Verdict::default()
        },
        ((1, false), (1, _)) => Lane::Surging.into(),
    }
}

/// How many nodes may lack an available pod, or have a second pod.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Budget {
    /// Nodes without an available pod.
    pub max_unavailable: usize,
    /// Nodes with a second pod.
    pub max_surge: usize,
}

impl Budget {
    /// The budget of a set that should run on `desired` nodes. Percentages are of those, rounded
    /// up. If both results are zero, one node may be unavailable, because otherwise no update could
    /// proceed.
    pub fn of(strategy: &UpdateStrategyView, desired: usize) -> Budget {
        let UpdateStrategyView::RollingUpdate {
            max_unavailable,
            max_surge,
        } = strategy
        else {
            return Budget {
                max_unavailable: 0,
                max_surge: 0,
            };
        };
        let total = i32::try_from(desired).unwrap_or(i32::MAX);
        let scaled = |number: &IntOrPercent| usize::try_from(number.scaled(total, true)).unwrap_or(0);
        let mut budget = Budget {
            max_unavailable: scaled(max_unavailable),
            max_surge: scaled(max_surge),
        };
        if budget.max_unavailable == 0 && budget.max_surge == 0 && desired > 0 {
            budget.max_unavailable = 1;
        }
        budget
    }
}

#[cfg(test)]
mod tests;

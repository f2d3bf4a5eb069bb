//! Rollouts: how the pods of an old template give way to those of the current one.
//!
//! A node stands in one of a few lanes. The lanes' sizes are all that the budget needs to know, so a rollout over any
//! number of nodes costs what the nodes that move cost.
//!
//! Without surge an old pod is deleted and its successor made when it is gone. Old pods that are not available go at
//! once, whatever the budget; available ones, by the names of their nodes, as far as maxUnavailable allows.
//! With surge the successor is made first, on as many nodes as maxSurge allows, and the old pod goes when it is
//! available. Only nodes that should run the set take part: a pod that a NoSchedule taint merely suffers is not
//! deleted for the sake of an update that could not bring it back.

use api::view::UpdateStrategyView;
use schema::int_or_percent::IntOrPercent;

use crate::daemonset::{DeleteReason, Fit};

/// How a set replaces its old pods.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Mode {
    /// Not at all: they stay until somebody deletes them.
    OnDelete,
    /// The old pod goes first.
    InPlace,
    /// The new pod comes first.
    Surge,
}

/// How a node stands in a rollout.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, PartialOrd, Ord)]
pub enum Lane {
    /// Nothing is going on, or the node takes no part.
    #[default]
    Quiet,
    /// Without surge: it should have an available pod and has none; it uses up the budget.
    Unavailable,
    /// It has an available old pod, which may be replaced when its turn comes.
    Candidate,
    /// With surge: its successor is being brought up; it uses up the budget.
    Surging,
    /// With surge: it has an available old pod and should have none; the pod goes when others serve in its place.
    Sunset,
}

/// What the lane depends on: of the pods that are staying, how many are of the current template and how many of
/// older ones, and whether (the first of) each is available.
#[derive(Clone, Copy, Debug)]
pub struct Standing {
    /// Whether the set belongs on the node.
    pub fit: Fit,
    /// Whether the node does not answer.
    pub unreachable: bool,
    /// Whether a pod was asked for that is not yet to be seen.
    pub creating: bool,
    /// Whether a pod was asked to go that, as far as is known, still runs.
    pub parting: bool,
    /// Pods of the current template: their number, and whether one is available.
    pub new: (usize, bool),
    /// Pods of older templates, likewise.
    pub old: (usize, bool),
}

/// The lane, and what is done without asking the budget.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Verdict {
    /// Where the node stands.
    pub lane: Lane,
    /// Whether, and why, its old pod goes.
    pub delete_old: Option<DeleteReason>,
    /// Whether a new pod is made beside the old one.
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
    /// The mode that a strategy asks for. A percentage of surge counts as soon as it is not zero.
    pub fn of(strategy: &UpdateStrategyView) -> Mode {
        match strategy {
            UpdateStrategyView::OnDelete => Mode::OnDelete,
            UpdateStrategyView::RollingUpdate { max_surge, .. } if max_surge.scaled(1, true) > 0 => {
                Mode::Surge
            }
            UpdateStrategyView::RollingUpdate { .. } => Mode::InPlace,
        }
    }

    /// The lane of a node and what the rollout does there in any case.
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

    /// The lane of a node while it is not known whose its pods are.
    pub(crate) fn lane_while_unsettled(self, fit: Option<Fit>) -> Lane {
        match self {
            Mode::InPlace if fit.is_some_and(Fit::should_run) => Lane::Unavailable,
            _ => Lane::Quiet,
        }
    }
}

impl Standing {
    /// A node that does not answer, and that the current template has not reached, takes no part: nothing that is asked
    /// for there would be done, and its old pod, though it may still be called available, is as unavailable as it will be. So dead nodes do not use up the budget,
    /// and the update goes on around them. Where a pod of the current template was made and the node fell silent since,
    /// the template may be the cause: there it counts.
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
        // A third one does not come before the second has gone.
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

/// How many nodes may be without an available pod, or carry a second one.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Budget {
    /// Nodes without an available pod.
    pub max_unavailable: usize,
    /// Nodes with a pod too many.
    pub max_surge: usize,
}

impl Budget {
    /// The budget of a set that should run on `desired` nodes. Percentages are of those, rounded up; when both come
    /// out as nothing, one node may be unavailable, or no update would ever move.
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

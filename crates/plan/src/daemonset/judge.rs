//! Judgement of one node: what it counts for, what must be done there, and its state in a rollout.

use std::sync::Arc;

use api::view::{PhaseView, PodView};
use jiff::Timestamp;

use super::{Aim, CurrentTemplate, Fit, available_from, is_past, is_updated, seniority};
use crate::rollout::{Lane, Mode, Standing};

/// Rules of a set that apply to all nodes.
#[derive(Clone, Copy, Debug)]
pub struct Rules<'a> {
    /// The current template.
    pub template: CurrentTemplate<'a>,
    /// How long a pod must be Ready to be available, in seconds.
    pub min_ready_seconds: i32,
    /// How old pods are replaced.
    pub mode: Mode,
    /// How pods get their node.
    pub aim: Aim,
}

/// State of one node.
#[derive(Clone, Copy, Debug)]
pub struct Facts<'a> {
    /// Whether the set belongs there; `None` if the node does not exist.
    pub fit: Option<Fit>,
    /// Whether the node is unreachable.
    pub unreachable: bool,
    /// The set's pods there, in any order.
    pub pods: &'a [(Arc<PodView>, Held)],
    /// Whether a creation was requested that the watch has not shown yet.
    pub creating: bool,
    /// The end of the backoff of failed pods, if it is in the future.
    pub back_off: Option<Timestamp>,
}

/// Ownership of a pod.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Held {
    /// Ours.
    Ours,
    /// Ours; its deletion was requested, but the watch has not shown it yet.
    Going,
    /// To be adopted. Until then nothing is done on its node.
    NotYetOurs,
}

/// Why a pod is deleted.
#[derive(Clone, Copy, PartialEq, Eq, Debug, PartialOrd, Ord)]
pub enum DeleteReason {
    /// It failed; a new one replaces it.
    Failed,
    /// It succeeded, which a daemon should not.
    Succeeded,
    /// There are more pods than the node should have.
    Duplicate,
    /// The node should not run it.
    Misplaced,
    /// It is unbound, and its node was deleted.
    NodeGone,
    /// It is unbound, but the set's pods are created with a node name.
    Unbound,
    /// It has an old template.
    Outdated,
    /// Its successor on the node is available, or it was not ready.
    Replaced,
}

impl DeleteReason {
    /// The reason in a few words, for the log.
    pub fn as_str(self) -> &'static str {
        match self {
            DeleteReason::Failed => "it failed",
            DeleteReason::Succeeded => "it succeeded, but a daemon must keep running",
            DeleteReason::Duplicate => "the node has another one",
            DeleteReason::Misplaced => "the node should not run it",
            DeleteReason::Unbound => "it waits for a scheduler, but its set uses none",
            DeleteReason::NodeGone => "its node was deleted before it was scheduled",
            DeleteReason::Outdated => "it has an old template",
            DeleteReason::Replaced => "its successor replaced it",
        }
    }
}

/// What one node counts for in the status.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Count {
    /// It should run the pod.
    pub desired: bool,
    /// It should, and has one.
    pub current: bool,
    /// It should not, and has one.
    pub misscheduled: bool,
    /// It should, and its senior pod is Ready.
    pub ready: bool,
    /// It should, and its senior pod is available.
    pub available: bool,
    /// It should, and its senior pod is of the current template.
    pub updated: bool,
}

/// Decision about one node.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Judgement {
    /// Its part of the status.
    pub count: Count,
    /// Whether a pod is to be created.
    pub create: bool,
    /// The pods to delete, whatever the rollout's budget.
    pub delete: Vec<(Arc<PodView>, DeleteReason)>,
    /// The node's state in the rollout.
    pub lane: Lane,
    /// Whether the node counts as served in a surge: by its old pod, or without one by its new.
    pub served: bool,
    /// When to judge again if no event comes before.
    pub look_at: Option<Timestamp>,
    /// Whether the last request for this node was refused.
    pub refused: bool,
    /// Whether the rollout waits for the node: it should run the set, but has no available pod of
    /// the right template.
    pub waits: bool,
}

impl Judgement {
    /// Returns whether there is something to do, now or when the rollout allows it.
    pub(crate) fn asks(&self) -> bool {
        self.create || !self.delete.is_empty() || matches!(self.lane, Lane::Candidate | Lane::Sunset)
    }

    /// Returns whether the rollout waits for the node and the node uses its budget.
    pub(crate) fn is_stuck(&self) -> bool {
        self.waits && matches!(self.lane, Lane::Unavailable | Lane::Surging)
    }

    /// Requests nothing before `until`.
    pub(crate) fn hold_back(&mut self, until: Timestamp) {
        self.create = false;
        self.delete.clear();
        if matches!(self.lane, Lane::Candidate | Lane::Sunset) {
            self.lane = Lane::Quiet;
        }
        self.look_at = self.look_at.into_iter().chain([until]).min();
    }
}

/// The pods of a node that count, sorted by seniority.
struct Pods<'a> {
    all: Vec<&'a (Arc<PodView>, Held)>,
}

impl<'a> Pods<'a> {
    fn of(facts: &Facts<'a>) -> Pods<'a> {
        let mut all: Vec<_> = facts.pods.iter().filter(|(pod, _)| !is_past(pod)).collect();
        all.sort_by(|(a, _), (b, _)| seniority(a, b));
        Pods { all }
    }

    fn senior(&self) -> Option<&'a PodView> {
        self.all.first().map(|(pod, _)| &**pod)
    }

    /// Pods that neither are terminating nor have a requested deletion.
    fn staying(&self) -> impl Iterator<Item = &'a Arc<PodView>> {
        self.all
            .iter()
            .filter(|(pod, held)| !pod.is_terminating() && *held != Held::Going)
            .map(|(pod, _)| pod)
    }

    /// Number of pods with a requested deletion that probably still run.
    fn asked_to_go(&self) -> usize {
        let asked = |(pod, held): &&&(Arc<PodView>, Held)| {
            *held == Held::Going && !pod.is_terminating() && !pod.is_terminal()
        };
        self.all.iter().filter(asked).count()
    }
}

/// Judges one node.
pub fn judge(rules: &Rules<'_>, facts: &Facts<'_>, now: Timestamp) -> Judgement {
    let pods = Pods::of(facts);
    let count = count(rules, facts.fit, &pods, now);
    let may_be_old = rules.mode == Mode::OnDelete;
    let mut judgement = Judgement {
        count,
        waits: count.desired && !(count.available && (count.updated || may_be_old)),
        look_at: next_availability(rules, &pods, now),
        ..Judgement::default()
    };
    if pods.all.iter().any(|(_, held)| *held == Held::NotYetOurs) {
        judgement.lane = rules.mode.lane_while_unsettled(facts.fit);
        return judgement;
    }
    manage(rules, facts, &pods, now, &mut judgement);
    roll(rules, facts, &pods, now, &mut judgement);
    judgement
}

fn is_available(rules: &Rules<'_>, pod: &PodView, now: Timestamp) -> bool {
    available_from(pod, rules.min_ready_seconds).is_some_and(|from| from <= now)
}

fn count(rules: &Rules<'_>, fit: Option<Fit>, pods: &Pods<'_>, now: Timestamp) -> Count {
    let Some(fit) = fit else {
        return Count::default();
    };
    let desired = fit.should_run();
    let senior = pods.senior();
    let is = |what: &dyn Fn(&PodView) -> bool| desired && senior.is_some_and(what);
    Count {
        desired,
        current: is(&|_| true),
        misscheduled: !desired && senior.is_some(),
        ready: is(&|pod| pod.ready.status),
        available: is(&|pod| is_available(rules, pod, now)),
        updated: is(&|pod| is_updated(pod, &rules.template)),
    }
}

fn next_availability(rules: &Rules<'_>, pods: &Pods<'_>, now: Timestamp) -> Option<Timestamp> {
    let moments = pods
        .all
        .iter()
        .filter_map(|(pod, _)| available_from(pod, rules.min_ready_seconds));
    moments.filter(|moment| *moment > now).min()
}

/// Keeps one pod on the node: creates a missing one, deletes ended and surplus ones.
fn manage(rules: &Rules<'_>, facts: &Facts<'_>, pods: &Pods<'_>, now: Timestamp, judgement: &mut Judgement) {
    let Some(fit) = facts.fit else {
        // The pod garbage collector deletes bound pods of a deleted node; the unbound ones are
        // ours.
        let waiting = pods.staying().filter(|pod| pod.node_name.is_none());
        judgement
            .delete
            .extend(waiting.map(|pod| (pod.clone(), DeleteReason::NodeGone)));
        return;
    };
    if !fit.should_continue() {
        judgement
            .delete
            .extend(pods.staying().map(|pod| (pod.clone(), DeleteReason::Misplaced)));
        return;
    }
    if pods.all.is_empty() {
        judgement.create = fit.should_run() && !facts.creating;
        return;
    }
    let mut running = Vec::new();
    let mut failed_left_alone = false;
    for pod in pods.staying() {
        match (pod.phase, facts.back_off) {
            (PhaseView::Failed, Some(until)) => {
                failed_left_alone = true;
                judgement.look_at = judgement.look_at.into_iter().chain([until]).min();
            }
            (PhaseView::Failed, None) => judgement.delete.push((pod.clone(), DeleteReason::Failed)),
            (PhaseView::Succeeded, _) => judgement.delete.push((pod.clone(), DeleteReason::Succeeded)),
            // Created when the scheduler was to bind it; now no scheduler handles it.
            _ if rules.aim == Aim::NodeName && pod.node_name.is_none() => {
                judgement.delete.push((pod.clone(), DeleteReason::Unbound));
            }
            _ => running.push(pod),
        }
    }
    match rules.mode {
        Mode::Surge if running.is_empty() => {
            // A surging set does not wait until the old pod ends. But if pods keep failing, the
            // backoff applies.
            judgement.create =
                fit.should_run() && !facts.creating && !failed_left_alone && pods.asked_to_go() < 2;
        }
        Mode::Surge if running.len() > 1 => {
            let delete = too_many_in_surge(rules, fit, &running, now);
            judgement.delete.extend(delete);
        }
        _ => {
            let juniors = running.into_iter().skip(1);
            judgement
                .delete
                .extend(juniors.map(|pod| (pod.clone(), DeleteReason::Duplicate)));
        }
    }
}

/// Surplus pods in a surge, which allows a pair: the senior pod of the current template and the
/// senior pod of another. The old one is deleted when it is not Ready, or when the new one is
/// available. If the node may not run new pods any more, the new one is deleted if unbound: it
/// would never be scheduled, and hold up the update elsewhere.
fn too_many_in_surge(
    rules: &Rules<'_>,
    fit: Fit,
    running: &[&Arc<PodView>],
    now: Timestamp,
) -> Vec<(Arc<PodView>, DeleteReason)> {
    let (mut new, mut old) = (None, None);
    let mut delete = Vec::new();
    for pod in running {
        let of_current_template = pod.meta.labels.get(super::HASH_LABEL) == Some(rules.template.hash);
        let kept = if of_current_template { &mut new } else { &mut old };
        match kept {
            None => *kept = Some(*pod),
            Some(_) => delete.push(((*pod).clone(), DeleteReason::Duplicate)),
        }
    }
    if let (Some(new), Some(old)) = (new, old) {
        if new.node_name.is_none() && !fit.should_run() {
            delete.push((new.clone(), DeleteReason::Misplaced));
        } else if !old.ready.status || is_available(rules, new, now) {
            delete.push((old.clone(), DeleteReason::Replaced));
        }
    }
    delete
}

/// Sets the node's state in the rollout, and what the rollout does there without using its budget.
fn roll(rules: &Rules<'_>, facts: &Facts<'_>, pods: &Pods<'_>, now: Timestamp, judgement: &mut Judgement) {
    let (mut new, mut old) = (Vec::new(), Vec::new());
    for pod in pods.staying() {
        let updated = is_updated(pod, &rules.template);
        if updated { &mut new } else { &mut old }.push(pod);
    }
    let available = |pod: &PodView| is_available(rules, pod, now);
    judgement.served = facts.fit.is_some()
        && new.len() <= 1
        && old.len() <= 1
        && old.first().or(new.first()).is_some_and(|pod| available(pod));
    let Some(fit) = facts.fit else {
        return;
    };
    let verdict = rules.mode.lane(&Standing {
        fit,
        unreachable: facts.unreachable,
        creating: facts.creating,
        parting: pods.asked_to_go() > 0,
        new: (new.len(), new.first().is_some_and(|pod| available(pod))),
        old: (old.len(), old.first().is_some_and(|pod| available(pod))),
    });
    judgement.lane = verdict.lane;
    let already = |pod: &PodView| {
        judgement
            .delete
            .iter()
            .any(|(deleted, _)| deleted.meta.uid == pod.meta.uid)
    };
    if let (Some(reason), Some(old)) = (verdict.delete_old, old.first())
        && !already(old)
    {
        judgement.delete.push(((*old).clone(), reason));
    }
    judgement.create |= verdict.create;
}

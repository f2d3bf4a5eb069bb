//! Explains the state of a set on each node: since when, and what happens next.

use std::fmt;
use std::sync::Arc;

use api::view::{DaemonSetStatusView, NodeView, PhaseView, PodView};
use jiff::Timestamp;

use super::Fleet;
use super::conditions::Condition;
use super::pair::Pair;
use super::set::Set;
use crate::daemonset::{Held, Misfit, NodeName, Trouble, available_from, is_past, is_updated, seniority};
use crate::rollout::{Lane, Mode};

/// The state of a set on all its nodes.
#[derive(Clone, PartialEq, Debug)]
pub struct Explanation {
    /// Why nothing is done for the set, if so.
    pub halted: Option<&'static str>,
    /// The desired status.
    pub status: DaemonSetStatusView,
    /// The desired conditions `Available` and `Progressing`.
    pub conditions: [Condition; 2],
    /// What an update may do at a time, and what it does now.
    pub rollout: RolloutState,
    /// The nodes, by name. Nodes that must not run the set are [`Verdict::NotHere`].
    pub decisions: Vec<Decision>,
}

/// Progress of an update.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct RolloutState {
    /// How old pods are replaced.
    pub mode: Mode,
    /// Most nodes that the update may use at a time: without an available pod, or in a surge with
    /// two pods.
    pub budget: usize,
    /// Nodes that use the budget now.
    pub held: usize,
    /// Available old pods that wait for the update.
    pub candidates: usize,
}

/// The state of a set on one node.
#[derive(Clone, PartialEq, Debug)]
pub struct Decision {
    /// The node.
    pub node: NodeName,
    /// The state of the set there.
    pub verdict: Verdict,
    /// The pod that this is about, if there is one.
    pub pod: Option<Arc<PodView>>,
    /// Since when, if the objects contain it.
    pub since: Option<Timestamp>,
    /// What must happen before this changes.
    pub waits_for: WaitsFor,
}

/// State of a set on a node.
#[derive(Clone, PartialEq, Debug)]
pub enum Verdict {
    /// The node must not run a pod, and has none.
    NotHere(Misfit),
    /// The node would get no new pod; its present pod may stay.
    Stays(Misfit),
    /// The node must not run a pod; its pod is being deleted.
    Leaving(Misfit),
    /// The node does not exist; the garbage collector deletes its pod.
    NodeGone,
    /// The node is not ready or unreachable, and so is its pod.
    NodeDown(Trouble),
    /// The creation of a pod was requested.
    Creating,
    /// A pod is missing, and will be created.
    Missing,
    /// The old pod must end before the new one is created.
    Ending,
    /// A pod without a controller is being adopted.
    Adopting,
    /// The last request was refused with this message; it is repeated at this time.
    Refused(Box<str>, Timestamp),
    /// Pods keep failing; the next one is created at this time.
    BackingOff(Timestamp),
    /// The pod ended or failed; another one replaces it.
    Ended(PhaseView),
    /// The pod has no node yet; the scheduler's message.
    Unscheduled(Box<str>),
    /// The pod is not Ready.
    NotReady,
    /// The pod is Ready, and becomes available at this time.
    AvailableAt(Timestamp),
    /// The pod is of an old template, and will be replaced.
    Outdated,
    /// The new pod starts beside the old one.
    Surging,
    /// The current pod is available.
    UpToDate,
}

/// What must happen before a [`Verdict`] changes.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum WaitsFor {
    /// Nothing: the state is final.
    Nothing,
    /// The DaemonSet controller, which acts at once.
    Controller,
    /// The scheduler.
    Scheduler,
    /// The node, whose agent starts and stops pods.
    Node,
    /// The node must become reachable again.
    NodeToRecover,
    /// A time.
    Time(Timestamp),
    /// Other nodes must be updated first.
    Turn,
    /// A user must delete the pod: the update strategy is OnDelete.
    User,
    /// The pod garbage collector.
    Collector,
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Verdict::NotHere(why) => write!(f, "not here: {why}"),
            Verdict::Stays(why) => write!(f, "running, but a new pod could not start here: {why}"),
            Verdict::Leaving(why) => write!(f, "leaving: {why}"),
            Verdict::NodeGone => f.write_str("the node is gone"),
            Verdict::NodeDown(trouble) => write!(f, "the node {trouble}"),
            Verdict::Creating => f.write_str("being created"),
            Verdict::Missing => f.write_str("missing: to be created"),
            Verdict::Ending => f.write_str("waiting for the old pod to end"),
            Verdict::Adopting => f.write_str("being adopted"),
            Verdict::Refused(why, _) => write!(f, "refused: {why}"),
            Verdict::BackingOff(until) => write!(f, "failed: the next attempt is at {until}"),
            Verdict::Ended(PhaseView::Failed) => f.write_str("failed: to be replaced"),
            Verdict::Ended(_) => f.write_str("ended: to be replaced"),
            Verdict::Unscheduled(why) if why.is_empty() => f.write_str("waiting to be scheduled"),
            Verdict::Unscheduled(why) => write!(f, "cannot be scheduled: {why}"),
            Verdict::NotReady => f.write_str("not ready"),
            Verdict::AvailableAt(moment) => write!(f, "ready, available at {moment}"),
            Verdict::Outdated => f.write_str("of an old template"),
            Verdict::Surging => f.write_str("the new pod is starting beside the old one"),
            Verdict::UpToDate => f.write_str("up to date"),
        }
    }
}

impl fmt::Display for WaitsFor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            WaitsFor::Nothing => f.write_str("nothing"),
            WaitsFor::Controller => f.write_str("the DaemonSet controller"),
            WaitsFor::Scheduler => f.write_str("the scheduler"),
            WaitsFor::Node => f.write_str("the node"),
            WaitsFor::NodeToRecover => f.write_str("the node to recover"),
            WaitsFor::Time(moment) => write!(f, "{moment}"),
            WaitsFor::Turn => f.write_str("its turn in the update"),
            WaitsFor::User => f.write_str("a user to delete the pod (OnDelete)"),
            WaitsFor::Collector => f.write_str("the pod garbage collector"),
        }
    }
}

impl Fleet {
    /// The state of a set on each node, as last planned or [read](Fleet::of). `None` if there is no
    /// such set.
    pub fn explain(&self, namespace: &str, name: &str, now: Timestamp) -> Option<Explanation> {
        let set = self.sets.get(&(Arc::from(namespace), Arc::from(name)))?;
        let decision = |(node, pair): (&NodeName, &Pair)| {
            Case::new(set, pair, self.nodes.get(node).map(|node| &**node), now).decision(node)
        };
        Some(Explanation {
            halted: halted(set),
            status: set.status(),
            conditions: set.conditions(|node| self.nodes.get(node), now),
            rollout: set.rollout_state(),
            decisions: set.pairs.iter().filter_map(decision).collect(),
        })
    }
}

impl Set {
    fn rollout_state(&self) -> RolloutState {
        let (mode, budget) = (self.rules().mode, self.budget());
        let (budget, held) = match mode {
            Mode::OnDelete => (0, 0),
            Mode::InPlace => (budget.max_unavailable, self.tally.unavailable),
            Mode::Surge => (budget.max_surge, self.tally.surging),
        };
        RolloutState {
            mode,
            budget,
            held,
            candidates: self.queues.candidates.len(),
        }
    }
}

/// Why nothing is done for a set.
fn halted(set: &Set) -> Option<&'static str> {
    if set.view.meta.is_terminating() {
        Some("it is being deleted")
    } else if set.view.selector.is_everything() {
        Some("its selector is empty")
    } else {
        None
    }
}

/// One set on one node, for an explanation.
pub(super) struct Case<'a> {
    set: &'a Set,
    pair: &'a Pair,
    view: Option<&'a NodeView>,
    /// The pods that count, by seniority.
    pods: Vec<&'a (Arc<PodView>, Held)>,
    now: Timestamp,
}

impl<'a> Case<'a> {
    pub(super) fn new(set: &'a Set, pair: &'a Pair, view: Option<&'a NodeView>, now: Timestamp) -> Case<'a> {
        let mut pods: Vec<_> = pair.pods.iter().filter(|(pod, _)| !is_past(pod)).collect();
        pods.sort_by(|(a, _), (b, _)| seniority(a, b));
        Case {
            set,
            pair,
            view,
            pods,
            now,
        }
    }

    /// The senior pod, which represents the node.
    pub(super) fn senior(&self) -> Option<&'a Arc<PodView>> {
        self.pods.first().map(|(pod, _)| pod)
    }

    fn decision(&self, node: &NodeName) -> Option<Decision> {
        let (verdict, pod) = self.verdict()?;
        Some(Decision {
            node: node.clone(),
            since: self.since(&verdict, pod),
            waits_for: self.waits_for(&verdict, pod),
            pod: pod.cloned(),
            verdict,
        })
    }

    /// The verdict and its pod; `None` if neither node nor pod exists.
    pub(super) fn verdict(&self) -> Option<(Verdict, Option<&'a Arc<PodView>>)> {
        let senior = self.senior();
        let Some(view) = self.view else {
            return senior.map(|pod| (Verdict::NodeGone, Some(pod)));
        };
        if let Some(why) = self.set.placement.misfit(view) {
            let verdict = match self.pair.fit {
                _ if senior.is_none() => Verdict::NotHere(why),
                Some(fit) if fit.should_continue() => Verdict::Stays(why),
                _ => Verdict::Leaving(why),
            };
            return Some((verdict, senior));
        }
        if let Some((orphan, _)) = self.pods.iter().find(|(_, held)| *held == Held::NotYetOurs) {
            return Some((Verdict::Adopting, Some(orphan)));
        }
        if let Some(refusal) = &self.pair.refusal {
            let until = refusal.retry.ends_at(self.now).unwrap_or(self.now);
            return Some((Verdict::Refused(refusal.why.clone(), until), senior));
        }
        if let Some(trouble) = Trouble::of(view)
            && !senior.is_some_and(|pod| pod.ready.status)
        {
            return Some((Verdict::NodeDown(trouble), senior));
        }
        let staying = |(pod, held): &&&(Arc<PodView>, Held)| !pod.is_terminating() && *held != Held::Going;
        let Some((pod, _)) = self.pods.iter().find(staying) else {
            let verdict = match (self.pair.creation(), senior) {
                (Some(_), _) => Verdict::Creating,
                (None, None) => Verdict::Missing,
                (None, Some(_)) => Verdict::Ending,
            };
            return Some((verdict, senior));
        };
        if self.pair.judgement.lane == Lane::Surging {
            let newest = self.pods.last().map(|(pod, _)| pod);
            return Some((Verdict::Surging, newest));
        }
        Some((self.verdict_of(pod), Some(pod)))
    }

    /// Returns whether a pod has the current template.
    pub(super) fn is_updated(&self, pod: &PodView) -> bool {
        let rules = self.set.rules();
        is_updated(pod, &rules.template)
    }

    /// The verdict for a pod on a node that should run it.
    fn verdict_of(&self, pod: &PodView) -> Verdict {
        let rules = self.set.rules();
        let back_off = self
            .pair
            .failed_pods_wait_until(self.set.view.meta.generation, self.now);
        let available_from = available_from(pod, rules.min_ready_seconds);
        match (pod.phase, back_off, available_from) {
            (PhaseView::Failed, Some(until), _) => Verdict::BackingOff(until),
            (phase @ (PhaseView::Failed | PhaseView::Succeeded), ..) => Verdict::Ended(phase),
            _ if !self.is_updated(pod) => Verdict::Outdated,
            _ if pod.node_name.is_none() => {
                let why = pod.unscheduled.as_ref().map(|why| why.message.clone());
                Verdict::Unscheduled(why.unwrap_or_default())
            }
            (_, _, None) => Verdict::NotReady,
            (_, _, Some(moment)) if moment > self.now => Verdict::AvailableAt(moment),
            (_, _, Some(_)) => Verdict::UpToDate,
        }
    }

    fn since(&self, verdict: &Verdict, pod: Option<&Arc<PodView>>) -> Option<Timestamp> {
        match verdict {
            Verdict::NotHere(why) | Verdict::Stays(why) | Verdict::Leaving(why) => match why {
                Misfit::Taint(taint) => taint.time_added,
                _ => None,
            },
            Verdict::NodeDown(trouble) => trouble.since(self.view?),
            Verdict::Creating | Verdict::Missing | Verdict::Refused(..) | Verdict::NodeGone => None,
            Verdict::Ending => pod?.meta.deletion_timestamp,
            Verdict::Unscheduled(_) | Verdict::Adopting | Verdict::Outdated | Verdict::Surging => {
                pod?.meta.creation_timestamp
            }
            Verdict::BackingOff(_)
            | Verdict::Ended(_)
            | Verdict::NotReady
            | Verdict::AvailableAt(_)
            | Verdict::UpToDate => pod?.ready.since.or(pod?.meta.creation_timestamp),
        }
    }

    fn waits_for(&self, verdict: &Verdict, pod: Option<&Arc<PodView>>) -> WaitsFor {
        let bound = pod.is_some_and(|pod| pod.node_name.is_some());
        match verdict {
            Verdict::NotHere(_) | Verdict::Stays(_) | Verdict::UpToDate => WaitsFor::Nothing,
            Verdict::Leaving(_) if pod.is_some_and(|pod| pod.is_terminating()) => WaitsFor::Node,
            Verdict::Leaving(_)
            | Verdict::Creating
            | Verdict::Missing
            | Verdict::Adopting
            | Verdict::Ended(_) => WaitsFor::Controller,
            Verdict::NodeGone => WaitsFor::Collector,
            Verdict::NodeDown(_) => WaitsFor::NodeToRecover,
            Verdict::Unscheduled(_) => WaitsFor::Scheduler,
            Verdict::Surging if !bound => WaitsFor::Scheduler,
            Verdict::Surging | Verdict::Ending | Verdict::NotReady => WaitsFor::Node,
            Verdict::Refused(_, moment) | Verdict::BackingOff(moment) | Verdict::AvailableAt(moment) => {
                WaitsFor::Time(*moment)
            }
            Verdict::Outdated => match (self.set.rules().mode, self.pair.judgement.lane) {
                (Mode::OnDelete, _) => WaitsFor::User,
                (_, Lane::Candidate) => WaitsFor::Turn,
                _ => WaitsFor::Controller,
            },
        }
    }
}

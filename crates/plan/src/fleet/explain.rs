//! A plan explains itself: what each node's state is, and why.

use std::fmt;
use std::sync::Arc;

use api::view::{DaemonSetStatusView, PhaseView, PodView};
use jiff::Timestamp;

use super::Fleet;
use super::pair::Pair;
use super::set::Set;
use crate::daemonset::{Held, Misfit, NodeName, available_from, is_past, is_updated, seniority};
use crate::rollout::Lane;

/// The state of a set on all its nodes.
#[derive(Clone, PartialEq, Debug)]
pub struct Explanation {
    /// Why nothing at all is done, when that is so.
    pub halted: Option<&'static str>,
    /// The numbers.
    pub status: DaemonSetStatusView,
    /// The nodes, by name.
    pub decisions: Vec<Decision>,
}

/// The state of a set on one node.
#[derive(Clone, PartialEq, Debug)]
pub struct Decision {
    /// The node.
    pub node: NodeName,
    /// How it stands there.
    pub verdict: Verdict,
}

/// How a set stands on a node.
#[derive(Clone, PartialEq, Debug)]
pub enum Verdict {
    /// The node should not run it, and does not.
    NotHere(Misfit),
    /// The node should not run it any more; its pod stays since it may.
    Stays(Misfit),
    /// The node should not run it; its pod is on its way out.
    Leaving(Misfit),
    /// There is no such node; its pod is collected.
    NodeGone,
    /// A pod was asked for.
    Creating,
    /// A pod is missing, and will be asked for.
    Missing,
    /// The old pod must end before the next is made.
    Ending,
    /// A pod was found that belongs to nobody; it is being adopted.
    Adopting,
    /// Pods keep failing; the next is made then.
    BackingOff(Timestamp),
    /// The pod has no node yet; the scheduler's explanation.
    Unscheduled(Box<str>),
    /// The pod is not Ready.
    NotReady,
    /// The pod is Ready and becomes available then.
    AvailableAt(Timestamp),
    /// The pod is of an old template and will be replaced when the budget allows.
    Outdated,
    /// The new pod is coming up beside the old one.
    Surging,
    /// The current pod is available.
    UpToDate,
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Verdict::NotHere(why) => write!(f, "not here: {why}"),
            Verdict::Stays(why) => write!(f, "stays, though nothing new would start here: {why}"),
            Verdict::Leaving(why) => write!(f, "leaving: {why}"),
            Verdict::NodeGone => f.write_str("the node is gone"),
            Verdict::Creating => f.write_str("being created"),
            Verdict::Missing => f.write_str("missing: to be created"),
            Verdict::Ending => f.write_str("waiting for the old pod to end"),
            Verdict::Adopting => f.write_str("being adopted"),
            Verdict::BackingOff(until) => write!(f, "failed: the next attempt is at {until}"),
            Verdict::Unscheduled(why) if why.is_empty() => f.write_str("waiting to be scheduled"),
            Verdict::Unscheduled(why) => write!(f, "cannot be scheduled: {why}"),
            Verdict::NotReady => f.write_str("not ready"),
            Verdict::AvailableAt(moment) => write!(f, "ready, available at {moment}"),
            Verdict::Outdated => f.write_str("of an old template: waiting for its turn"),
            Verdict::Surging => f.write_str("the new pod is coming up beside the old one"),
            Verdict::UpToDate => f.write_str("up to date"),
        }
    }
}

impl Fleet {
    /// How a set stands on each node, as last planned. `None` when there is no such set.
    pub fn explain(&self, namespace: &str, name: &str, now: Timestamp) -> Option<Explanation> {
        let set = self.sets.get(&(Arc::from(namespace), Arc::from(name)))?;
        let decision = |(node, pair): (&NodeName, &Pair)| {
            Some(Decision {
                node: node.clone(),
                verdict: self.verdict(set, node, pair, now)?,
            })
        };
        Some(Explanation {
            halted: halted(set),
            status: set.status(),
            decisions: set.pairs.iter().filter_map(decision).collect(),
        })
    }

    fn verdict(&self, set: &Set, node: &NodeName, pair: &Pair, now: Timestamp) -> Option<Verdict> {
        let mut pods: Vec<_> = pair.pods.iter().filter(|(pod, _)| !is_past(pod)).collect();
        pods.sort_by(|(a, _), (b, _)| seniority(a, b));
        let Some(view) = self.nodes.get(node) else {
            return (!pods.is_empty()).then_some(Verdict::NodeGone);
        };
        if let Some(why) = set.placement.misfit(view) {
            return Some(match pair.fit {
                _ if pods.is_empty() => Verdict::NotHere(why),
                Some(fit) if fit.should_continue() => Verdict::Stays(why),
                _ => Verdict::Leaving(why),
            });
        }
        if pods.iter().any(|(_, held)| *held == Held::NotYetOurs) {
            return Some(Verdict::Adopting);
        }
        if pair.judgement.lane == Lane::Surging {
            return Some(Verdict::Surging);
        }
        let staying = |(pod, held): &&&(Arc<PodView>, Held)| !pod.is_terminating() && *held != Held::Going;
        let Some((pod, _)) = pods.iter().find(staying) else {
            return Some(match (pair.creation(), pods.is_empty()) {
                (Some(_), _) => Verdict::Creating,
                (None, true) => Verdict::Missing,
                (None, false) => Verdict::Ending,
            });
        };
        let rules = set.rules();
        let back_off = pair
            .back_off
            .as_ref()
            .and_then(|back_off| back_off.until(set.view.meta.generation));
        Some(
            match (
                back_off.filter(|until| *until > now),
                available_from(pod, rules.min_ready_seconds),
            ) {
                (Some(until), _) if pod.phase == PhaseView::Failed => Verdict::BackingOff(until),
                _ if !is_updated(pod, rules.hash, rules.template_generation) => Verdict::Outdated,
                _ if pod.node_name.is_none() => Verdict::Unscheduled(
                    pod.unscheduled
                        .as_ref()
                        .map(|why| why.message.clone())
                        .unwrap_or_default(),
                ),
                (_, None) => Verdict::NotReady,
                (_, Some(moment)) if moment > now => Verdict::AvailableAt(moment),
                (_, Some(_)) => Verdict::UpToDate,
            },
        )
    }
}

fn halted(set: &Set) -> Option<&'static str> {
    if set.view.meta.is_terminating() {
        Some("it is being deleted")
    } else if set.view.selector.is_everything() {
        Some("its selector is empty")
    } else {
        None
    }
}

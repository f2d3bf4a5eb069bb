//! Preemption: removes pods of a lower priority to make room for a pod.
//!
//! Only nodes on which it can help are considered. There, all pods of a lower priority are removed
//! tentatively. If the pod then fits, as many as possible are added back: first those whose removal
//! would violate a PodDisruptionBudget, then the others, in both cases by importance (higher
//! priority, then older). Pods that are terminating already are added back last. The remaining ones
//! are the victims. Among several nodes, the least harmful one wins: by fewest violated budgets,
//! lowest highest victim priority, lowest sum of priorities, fewest victims, and youngest victim of
//! the highest priority.
//!
//! These are the rules of Kubernetes' DefaultPreemption.

use std::cmp::Reverse;
use std::collections::HashMap;
use std::sync::Arc;

use api::view::{PodDisruptionBudgetView, PodView};
use jiff::Timestamp;

use super::message::{Histogram, NoPreemption};
use super::reason::{Reason, Rejection};
use super::topology::Outlook;
use super::{PodKey, Preemption, Refusal, Scheduler};

/// Most nodes that are compared, the first ones of the search. Kubernetes' minimum.
const NODES_COMPARED: usize = 100;

/// A pod that may be preempted.
#[derive(Clone)]
struct Victim {
    pod: Arc<PodView>,
    /// It is terminating already.
    ending: bool,
    breaks_budget: bool,
}

/// A node where the pod fits without these victims.
struct Offer {
    node: Arc<str>,
    victims: Vec<Victim>,
}

impl Scheduler {
    /// Selects the node and the victims, or returns why there is no preemption.
    pub(super) fn preempt(
        &mut self,
        pod: &PodView,
        outlook: &mut Outlook,
        refusal: &Refusal,
    ) -> Result<Preemption, NoPreemption> {
        if pod.spec.never_preempts {
            return Err(NoPreemption::Never);
        }
        if self.is_underway(pod, refusal) {
            return Err(NoPreemption::Underway);
        }
        let mut useless = Histogram::default();
        let mut offers = Vec::new();
        for node in &refusal.resolvable {
            match self.offer(pod, outlook, node) {
                Ok(offer) => offers.push(offer),
                Err(rejection) => useless.add(&rejection),
            }
            if offers.len() == NODES_COMPARED {
                break;
            }
        }
        match offers.into_iter().min_by_key(Offer::harm) {
            Some(offer) => Ok(self.accept(pod, offer)),
            None => {
                let others = self.cluster.known().saturating_sub(refusal.resolvable.len());
                useless.count(Reason::NotHelpful, others);
                Err(NoPreemption::Useless(useless))
            }
        }
    }

    /// Returns whether pods are terminating on the nominated node. Then the pod waits for them and
    /// preempts no others.
    fn is_underway(&self, pod: &PodView, refusal: &Refusal) -> bool {
        let node = self.nominations.node_of(pod);
        node.filter(|node| refusal.resolvable.contains(node))
            .is_some_and(|node| {
                let lower = self.cluster.lower(node, pod.spec.priority);
                lower.iter().any(|(_, placed)| placed.leaving)
            })
    }

    /// The victims on this node.
    fn offer(&mut self, pod: &PodView, outlook: &mut Outlook, node: &Arc<str>) -> Result<Offer, Rejection> {
        let lower = self.cluster.lower(node, pod.spec.priority);
        let mut lower: Vec<_> = lower
            .into_iter()
            .map(|(_, placed)| Victim {
                pod: placed.pod.clone(),
                ending: placed.leaving || placed.pod.is_terminating(),
                breaks_budget: false,
            })
            .collect();
        if lower.is_empty() {
            return Err(Rejection::lasting(Reason::NoVictims));
        }
        lower.sort_by_key(|victim| importance(&victim.pod));
        self.mark_broken_budgets(&mut lower);
        for victim in &lower {
            self.suppose(pod, outlook, &victim.pod, node, -1);
        }
        let fits = self.takes(pod, outlook, node);
        // The order of adding back. The sort is stable, so importance decides the rest.
        lower.sort_by_key(|victim| (victim.ending, !victim.breaks_budget));
        let mut victims = Vec::new();
        for victim in lower {
            self.suppose(pod, outlook, &victim.pod, node, 1);
            if fits.is_ok() && self.takes(pod, outlook, node).is_err() {
                self.suppose(pod, outlook, &victim.pod, node, -1);
                victims.push(victim);
            }
        }
        for victim in &victims {
            self.suppose(pod, outlook, &victim.pod, node, 1);
        }
        fits?;
        victims.sort_by_key(|victim| importance(&victim.pod));
        Ok(Offer {
            node: node.clone(),
            victims,
        })
    }

    /// Marks the pods whose deletion would exceed a budget. The most important pods come first.
    fn mark_broken_budgets(&self, pods: &mut [Victim]) {
        let mut taken: HashMap<(&Arc<str>, &Arc<str>), i32> = HashMap::new();
        for victim in pods.iter_mut().filter(|victim| !victim.ending) {
            for budget in self.budgets.values().filter(|b| governs(b, &victim.pod)) {
                let taken = taken
                    .entry((&budget.meta.namespace, &budget.meta.name))
                    .or_default();
                *taken += 1;
                victim.breaks_budget |= *taken > budget.status.disruptions_allowed;
            }
        }
    }

    /// Accepts the offer: its victims count as leaving, and nominations of pods with a lower
    /// priority end, so that they are tried again.
    fn accept(&mut self, pod: &PodView, offer: Offer) -> Preemption {
        let Offer { node, victims } = offer;
        for victim in &victims {
            self.cluster
                .set_leaving(&PodKey::of(&victim.pod), &victim.pod.meta.uid, true);
        }
        let mut unseated = self.nominations.on(&node);
        unseated.retain(|other| other.spec.priority < pod.spec.priority);
        for other in &unseated {
            let key = PodKey::of(other);
            self.nominations.end(&key);
            self.queue.wake_pod(&key);
        }
        let alive = victims.into_iter().filter(|victim| !victim.pod.is_terminating());
        Preemption {
            node,
            victims: alive.map(|victim| victim.pod).collect(),
            unseated,
        }
    }
}

impl Offer {
    /// The harm of the offer: less is better.
    fn harm(&self) -> impl Ord + use<> {
        let alive: Vec<_> = self.victims.iter().filter(|victim| !victim.ending).collect();
        let broken = alive.iter().filter(|victim| victim.breaks_budget).count();
        let highest = alive.iter().map(|victim| victim.pod.spec.priority).max();
        // Priorities count from the lowest possible one, so that more victims never have a lower
        // sum.
        let sum: i64 = alive
            .iter()
            .map(|victim| i64::from(victim.pod.spec.priority) - i64::from(i32::MIN) + 1)
            .sum();
        let of_highest = alive
            .iter()
            .filter(|victim| Some(victim.pod.spec.priority) == highest);
        let oldest = of_highest.map(|victim| age(&victim.pod)).min();
        (broken, highest, sum, alive.len(), Reverse(oldest))
    }
}

/// Orders pods by importance, the most important first.
fn importance(pod: &PodView) -> impl Ord + use<> {
    (Reverse(pod.spec.priority), age(pod), PodKey::of(pod))
}

/// Creation time of the pod; without one it counts as new.
fn age(pod: &PodView) -> Timestamp {
    pod.meta.creation_timestamp.unwrap_or(Timestamp::MAX)
}

/// Returns whether the budget counts the pod, and does not record it as disrupted.
fn governs(budget: &PodDisruptionBudgetView, pod: &PodView) -> bool {
    budget.meta.namespace == pod.meta.namespace
        && budget.selector.matches_labels(&pod.meta.labels)
        && !budget.status.disrupted_pods.contains_key(&*pod.meta.name)
}

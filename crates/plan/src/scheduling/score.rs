//! Scores the nodes that fit a pod.
//!
//! Each measure gives a node 0 to 100 points, relative to the other nodes of the search, with
//! Kubernetes' default weights. Among equal sums, the first node of the search wins, and searches
//! begin where the last one ended.
//!
//! | measure | weight | points |
//! |---|---|---|
//! | taints with PreferNoSchedule that the pod does not tolerate | 3 | fewer are better |
//! | preferred node affinity | 2 | the sum of the weights that match |
//! | preferred pod affinity and anti-affinity | 2 | the sum of weight times pods in the place |
//! | spread constraints with ScheduleAnyway | 2 | emptier places are better |
//! | room | 1 | the share of cpu and memory left, on average |
//! | balance | 1 | the nearer the shares of cpu and memory used, the better |

use std::sync::Arc;

use api::taint::{Effect, tolerated};
use api::view::{NodeView, PodView};

use super::neighbours::Neighbours;
use super::node::NodeState;
use super::topology::Outlook;

/// Values of a node that fits, before the comparison of the nodes.
pub(super) struct Candidate {
    pub(super) node: Arc<str>,
    unwanted: i64,
    preferred: i64,
    liking: i64,
    crowding: Option<i64>,
    /// 0 to 200.
    room_and_balance: i64,
}

impl Candidate {
    pub(super) fn new(
        name: &Arc<str>,
        state: &NodeState,
        node: &NodeView,
        pod: &PodView,
        outlook: &Outlook,
        neighbours: &Neighbours,
    ) -> Self {
        let unwanted = node
            .taints
            .iter()
            .filter(|t| t.effect == Effect::PreferNoSchedule && !tolerated(t, &pod.spec.tolerations))
            .count();
        let preferred = pod.spec.node_affinity.as_ref().map_or(0, |affinity| {
            let matching = affinity.preferred.iter().filter(|p| p.term.matches(node));
            matching.map(|p| i64::from(p.weight)).sum()
        });
        let (cpu, memory) = state.shares_with(&pod.spec);
        let room = (2_000 - cpu - memory) / 20;
        let balance = 100 - (cpu - memory).abs() / 20;
        Candidate {
            node: name.clone(),
            unwanted: i64::try_from(unwanted).unwrap_or(i64::MAX),
            preferred,
            liking: outlook.liking(neighbours, node),
            crowding: outlook.crowding(pod, node),
            room_and_balance: room + balance,
        }
    }
}

/// The node with the most points, and among equals the first one.
pub(super) fn best(candidates: &[Candidate]) -> Option<&Arc<str>> {
    let unwanted = Range::of(candidates.iter().map(|c| c.unwanted));
    let preferred = Range::of(candidates.iter().map(|c| c.preferred));
    let liking = Range::of(candidates.iter().map(|c| c.liking));
    let crowding = Range::of(candidates.iter().filter_map(|c| c.crowding));
    let points = |c: &Candidate| {
        3 * (100 - unwanted.share_of_most(c.unwanted))
            + 2 * preferred.share_of_most(c.preferred)
            + 2 * liking.share_of_width(c.liking)
            + 2 * c.crowding.map_or(0, |crowded| crowding.emptiness(crowded))
            + c.room_and_balance
    };
    let mut best: Option<(i64, &Candidate)> = None;
    for candidate in candidates {
        let points = points(candidate);
        if best.is_none_or(|(most, _)| points > most) {
            best = Some((points, candidate));
        }
    }
    best.map(|(_, candidate)| &candidate.node)
}

/// Range of a measure over the nodes of one search.
struct Range {
    least: i64,
    most: i64,
}

impl Range {
    fn of(values: impl Iterator<Item = i64>) -> Self {
        let (mut least, mut most) = (i64::MAX, i64::MIN);
        for value in values {
            least = least.min(value);
            most = most.max(value);
        }
        Range { least, most }
    }

    /// 0 for zero, 100 for the highest value.
    fn share_of_most(&self, value: i64) -> i64 {
        if self.most <= 0 {
            0
        } else {
            value * 100 / self.most
        }
    }

    /// 0 for the lowest value, 100 for the highest.
    fn share_of_width(&self, value: i64) -> i64 {
        match self.most - self.least {
            0 => 0,
            width => (value - self.least) * 100 / width,
        }
    }

    /// 100 for the lowest value, and less for higher ones, relative to the highest.
    fn emptiness(&self, value: i64) -> i64 {
        match self.most {
            0 => 100,
            most => 100 * (most + self.least - value) / most,
        }
    }
}

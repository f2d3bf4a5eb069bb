//! Constraints of one pod on its neighbours, for one attempt: the filters PodTopologySpread and
//! InterPodAffinity.
//!
//! The counts are taken once for each attempt, and then read for each node. For a pod without
//! constraints that no other pod excludes, the outlook is empty and costs nothing.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use api::affinity::NodeFacts;
use api::view::{NodeView, PodTermView, PodView, SpreadConstraintView, TopologyView};

use super::cluster::Cluster;
use super::neighbours::{Neighbours, Place, Question};
use super::node::{repels, selects};
use super::reason::{Reason, Rejection};

/// Constraints of one pod on its neighbours, with the counts that they need.
#[derive(Default)]
pub(super) struct Outlook {
    /// For each required affinity term: its label, and the id of the count of pods that match all
    /// of them.
    company: Vec<(Arc<str>, u64)>,
    /// Whether the pod matches its own affinity. The first pod of its kind then needs no other.
    is_own_company: bool,
    /// For each required anti-affinity term: its label, and the id of the count of pods that match
    /// it.
    avoided: Vec<(Arc<str>, u64)>,
    /// Anti-affinity terms of other pods that match this pod.
    unwelcome: Vec<u64>,
    /// For each preferred term: its weight, its label, and the id of the count of pods that match
    /// it.
    preferred: Vec<(i64, Arc<str>, u64)>,
    /// The required spread constraints.
    spread: Vec<Spread>,
    /// The preferred spread constraints.
    wishes: Vec<Spread>,
}

/// The state of one spread constraint.
struct Spread {
    /// Its index among the pod's constraints.
    index: usize,
    /// Whether the constraint's selector matches the pod itself.
    counts_itself: bool,
    /// Number of matching pods in each domain, including zeros.
    places: HashMap<Arc<str>, i64>,
    /// Number of domains by their number of pods.
    levels: BTreeMap<i64, usize>,
}

impl Outlook {
    pub(super) fn of(cluster: &mut Cluster, pod: &PodView) -> Outlook {
        let unwelcome = cluster.neighbours.repelling(pod);
        let Some(topology) = &pod.spec.topology else {
            return Outlook {
                unwelcome,
                ..Outlook::default()
            };
        };
        let namespace = &pod.meta.namespace;
        let one = |cluster: &mut Cluster, term: &PodTermView| {
            let place = Place::Label(term.topology_key.clone());
            ask(cluster, namespace, Box::new([term.clone()]), place)
        };
        let company = topology.affinity.iter().map(|term| {
            let place = Place::Label(term.topology_key.clone());
            let all = topology.affinity.clone();
            (term.topology_key.clone(), ask(cluster, namespace, all, place))
        });
        let company = company.collect();
        let is_own_company = cluster.neighbours.speak_of(&topology.affinity, namespace, pod);
        let avoided = topology.anti_affinity.iter();
        let avoided = avoided.map(|term| (term.topology_key.clone(), one(cluster, term)));
        let avoided = avoided.collect();
        let preferred = topology.preferred.iter().map(|wish| {
            let key = wish.term.topology_key.clone();
            (i64::from(wish.weight), key, one(cluster, &wish.term))
        });
        let preferred = preferred.collect();
        Outlook {
            company,
            is_own_company,
            avoided,
            unwelcome,
            preferred,
            spread: spreads(cluster, pod, topology, true),
            wishes: spreads(cluster, pod, topology, false),
        }
    }

    /// Checks whether the neighbours allow the pod on the node.
    pub(super) fn check(
        &self,
        neighbours: &Neighbours,
        pod: &PodView,
        node: &NodeView,
    ) -> Result<(), Rejection> {
        self.check_spread(pod, node)?;
        if !self.has_company(neighbours, node) {
            return Err(Rejection::lasting(Reason::NoCompany));
        }
        let is_there = |(key, id): &(Arc<str>, u64)| {
            node.label(key)
                .is_some_and(|place| neighbours.in_place(*id, place) > 0)
        };
        if self.avoided.iter().any(is_there) {
            return Err(Rejection::resolvable(Reason::Avoided));
        }
        if self.unwelcome.iter().any(|id| neighbours.is_repelled(*id, node)) {
            return Err(Rejection::resolvable(Reason::Unwelcome));
        }
        Ok(())
    }

    fn check_spread(&self, pod: &PodView, node: &NodeView) -> Result<(), Rejection> {
        for spread in &self.spread {
            let Some(constraint) = constraint(pod, spread.index) else {
                continue;
            };
            let Some(place) = node.label(&constraint.topology_key) else {
                return Err(Rejection::lasting(Reason::NoPlace));
            };
            let there = spread.in_place(place) + i64::from(spread.counts_itself);
            if there - spread.least(constraint.min_domains) > i64::from(constraint.max_skew) {
                return Err(Rejection::resolvable(Reason::Skewed));
            }
        }
        Ok(())
    }

    fn has_company(&self, neighbours: &Neighbours, node: &NodeView) -> bool {
        let mut all_there = true;
        for (key, id) in &self.company {
            let Some(place) = node.label(key) else {
                return false;
            };
            all_there &= neighbours.in_place(*id, place) > 0;
        }
        let is_first = || self.company.iter().all(|(_, id)| neighbours.is_nowhere(*id));
        all_there || (self.is_own_company && is_first())
    }

    /// Adds (1) or removes (-1) another pod, where spread constraints of `pod` count it.
    pub(super) fn shift(&mut self, pod: &PodView, other: &PodView, node: &NodeView, sign: i64) {
        if other.meta.namespace != pod.meta.namespace || other.is_terminating() {
            return;
        }
        for spread in &mut self.spread {
            let counted = constraint(pod, spread.index)
                .filter(|c| c.selector.matches_labels(&other.meta.labels) && counts(c, pod, node));
            let place = counted.and_then(|c| node.label(&c.topology_key));
            if let Some(place) = place.filter(|place| spread.places.contains_key(*place)) {
                spread.add(place.into(), sign);
            }
        }
    }

    /// Score of preferred affinity: the sum of weight times pods in the node's domains. Higher is
    /// better.
    pub(super) fn liking(&self, neighbours: &Neighbours, node: &NodeView) -> i64 {
        let liking = |(weight, key, id): &(i64, Arc<str>, u64)| {
            let there = node.label(key).map_or(0, |place| neighbours.in_place(*id, place));
            weight.saturating_mul(there)
        };
        self.preferred.iter().map(liking).sum()
    }

    /// Score of preferred spread constraints, in thousandths. A constraint with few domains has
    /// less weight. Lower is better. `None` if the node lacks a label.
    pub(super) fn crowding(&self, pod: &PodView, node: &NodeView) -> Option<i64> {
        let mut crowding = 0;
        for spread in &self.wishes {
            let constraint = constraint(pod, spread.index)?;
            let there = spread.in_place(node.label(&constraint.topology_key)?);
            let weight = (spread.places.len() as f64 + 2.0).ln() * 1_000.0;
            crowding += there * weight as i64 + i64::from(constraint.max_skew - 1) * 1_000;
        }
        Some(crowding)
    }
}

impl Spread {
    fn in_place(&self, place: &str) -> i64 {
        self.places.get(place).copied().unwrap_or(0)
    }

    /// The number of pods in the emptiest domain, or 0 if there are fewer domains than
    /// `min_domains`.
    fn least(&self, min_domains: i32) -> i64 {
        let enough = usize::try_from(min_domains).is_ok_and(|min| self.places.len() >= min);
        match self.levels.first_key_value() {
            Some((least, _)) if enough => *least,
            _ => 0,
        }
    }

    fn add(&mut self, place: Arc<str>, more: i64) {
        let count = self.places.entry(place).or_insert_with(|| {
            *self.levels.entry(0).or_default() += 1;
            0
        });
        if let Some(level) = self.levels.get_mut(count) {
            *level -= 1;
            if *level == 0 {
                self.levels.remove(count);
            }
        }
        *count += more;
        *self.levels.entry(*count).or_default() += 1;
    }
}

fn ask(cluster: &mut Cluster, namespace: &Arc<str>, terms: Box<[PodTermView]>, place: Place) -> u64 {
    cluster.ask(&Question {
        namespace: namespace.clone(),
        terms,
        place,
    })
}

fn constraint(pod: &PodView, index: usize) -> Option<&SpreadConstraintView> {
    pod.spec.topology.as_ref()?.spread.get(index)
}

/// Returns whether the node belongs to a domain of the constraint.
fn counts(constraint: &SpreadConstraintView, pod: &PodView, node: &NodeView) -> bool {
    (!constraint.honors_affinity || selects(pod, node))
        && (!constraint.honors_taints || !repels(node, &pod.spec))
}

/// The state of the pod's required or preferred constraints. Nodes that lack the label of any of
/// them have no domain.
fn spreads(cluster: &mut Cluster, pod: &PodView, topology: &TopologyView, required: bool) -> Vec<Spread> {
    let constraints = topology.spread.iter().enumerate();
    let constraints: Vec<_> = constraints.filter(|(_, c)| c.required == required).collect();
    let mut spreads = Vec::new();
    for (index, constraint) in &constraints {
        let term = PodTermView {
            selector: constraint.selector.clone(),
            namespaces: Box::default(),
            namespace_selector: None,
            topology_key: "".into(),
        };
        let tally = ask(cluster, &pod.meta.namespace, Box::new([term]), Place::Node);
        let mut spread = Spread {
            index: *index,
            counts_itself: constraint.selector.matches_labels(&pod.meta.labels),
            places: HashMap::new(),
            levels: BTreeMap::new(),
        };
        let mut look_at = |name: &str, node: &NodeView| {
            let is_labelled = constraints
                .iter()
                .all(|(_, c)| node.label(&c.topology_key).is_some());
            if let Some(place) = node.label(&constraint.topology_key)
                && is_labelled
                && counts(constraint, pod, node)
            {
                spread.add(place.into(), cluster.neighbours.in_place(tally, name));
            }
        };
        match super::pin(pod).filter(|_| constraint.honors_affinity) {
            // A pinned pod has one domain, so other nodes need no check.
            Some(pin) => cluster
                .node(pin)
                .into_iter()
                .for_each(|(_, node)| look_at(pin, node)),
            None => cluster.nodes().for_each(|(name, node)| look_at(name, node)),
        }
        spreads.push(spread);
    }
    spreads
}

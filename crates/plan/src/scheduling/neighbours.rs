//! Counts pods by topology domain, for pods with affinity or spread constraints.
//!
//! Two indexes, both empty if no pod has such constraints. *Repelling*: each distinct required
//! anti-affinity term of placed pods once, with the domains of its holders. *Tallies*: the number
//! of pods that match some terms, by domain. A tally is counted over all placed pods when it is
//! first asked, and then updated with every pod.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use api::affinity::NodeFacts;
use api::selector::LabelSelector;
use api::view::{Labels, NodeView, PodTermView, PodView};

/// Most tallies in the cache. Each costs a check for every added or removed pod. The least recently
/// asked one is removed, and counted again when needed.
const TALLIES: usize = 256;

/// Number of pods by domain.
pub(super) type Places = HashMap<Arc<str>, i64>;

/// A kind of topology domain.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(super) enum Place {
    /// All nodes with the same value of this label.
    Label(Arc<str>),
    /// Each node. Terminating pods do not count. Used by topology spread.
    Node,
}

/// How many pods that match all these terms are in each domain?
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(super) struct Question {
    /// The namespace of the pod that asks.
    pub(super) namespace: Arc<str>,
    pub(super) terms: Box<[PodTermView]>,
    pub(super) place: Place,
}

struct Tally {
    question: Question,
    places: Places,
    /// The number of the last question that used it.
    asked: u64,
}

struct Repelling {
    /// The namespace of the pods that have the term.
    namespace: Arc<str>,
    term: PodTermView,
    places: Places,
}

/// The pods by topology domain, as far as constraints need them.
#[derive(Default)]
pub(super) struct Neighbours {
    namespaces: HashMap<Arc<str>, Labels>,
    repelling: BTreeMap<u64, Repelling>,
    repelling_ids: HashMap<(Arc<str>, PodTermView), u64>,
    tallies: BTreeMap<u64, Tally>,
    tally_ids: HashMap<Question, u64>,
    /// Number of ids and questions so far.
    count: u64,
}

impl Neighbours {
    /// Returns whether there are neither tallies nor anti-affinity terms.
    #[cfg(test)]
    pub(super) fn is_empty(&self) -> bool {
        self.repelling.is_empty() && self.tallies.is_empty()
    }

    /// Stores a namespace's labels, for terms that select namespaces. Returns whether they changed.
    pub(super) fn put_namespace(&mut self, name: &Arc<str>, labels: &Labels) -> bool {
        let old = self.namespaces.insert(name.clone(), labels.clone());
        let changed = old.as_ref().unwrap_or(&Labels::default()) != labels;
        if changed {
            self.forget_selected_namespaces();
        }
        changed
    }

    /// A namespace was deleted.
    pub(super) fn delete_namespace(&mut self, name: &str) {
        if self.namespaces.remove(name).is_some() {
            self.forget_selected_namespaces();
        }
    }

    /// Removes tallies that depend on namespace labels. They are counted again when needed.
    fn forget_selected_namespaces(&mut self) {
        let selects = |term: &PodTermView| term.namespace_selector.is_some();
        self.tallies
            .retain(|_, tally| !tally.question.terms.iter().any(selects));
        self.tally_ids
            .retain(|question, _| !question.terms.iter().any(selects));
    }

    /// Adds (1) or removes (-1) a pod on a node.
    pub(super) fn count(&mut self, pod: &PodView, node: &NodeView, sign: i64) {
        if let Some(topology) = &pod.spec.topology {
            for term in &topology.anti_affinity {
                self.count_repelling(&pod.meta.namespace, term, node, sign);
            }
        }
        let namespaces = &self.namespaces;
        for tally in self.tallies.values_mut() {
            if tally.question.counts(pod, namespaces)
                && let Some(place) = tally.question.place_of(node)
            {
                shift(&mut tally.places, place, sign);
            }
        }
    }

    fn count_repelling(&mut self, namespace: &Arc<str>, term: &PodTermView, node: &NodeView, sign: i64) {
        let Some(place) = node.label(&term.topology_key) else {
            return;
        };
        let id = *self
            .repelling_ids
            .entry((namespace.clone(), term.clone()))
            .or_insert_with(|| {
                self.count += 1;
                self.count
            });
        let repelling = self.repelling.entry(id).or_insert_with(|| Repelling {
            namespace: namespace.clone(),
            term: term.clone(),
            places: Places::new(),
        });
        shift(&mut repelling.places, place, sign);
    }

    /// Removes the terms that no pod has any more.
    pub(super) fn tidy(&mut self) {
        if self.repelling.values().any(|r| r.places.is_empty()) {
            self.repelling.retain(|_, r| !r.places.is_empty());
            self.repelling_ids.retain(|_, id| self.repelling.contains_key(id));
        }
    }

    /// The anti-affinity terms of placed pods that match this pod.
    pub(super) fn repelling(&self, pod: &PodView) -> Vec<u64> {
        self.repelling
            .iter()
            .filter(|(_, r)| covers(&r.term, &r.namespace, pod, &self.namespaces))
            .map(|(id, _)| *id)
            .collect()
    }

    /// Returns whether a pod with the term is in the node's domain.
    pub(super) fn is_repelled(&self, id: u64, node: &NodeView) -> bool {
        self.repelling.get(&id).is_some_and(|r| {
            node.label(&r.term.topology_key)
                .is_some_and(|place| r.places.contains_key(place))
        })
    }

    /// The id of the answer, and whether [`Neighbours::count_in`] must still count it.
    pub(super) fn ask(&mut self, question: &Question) -> (u64, bool) {
        self.count += 1;
        let now = self.count;
        if let Some(id) = self.tally_ids.get(question) {
            if let Some(tally) = self.tallies.get_mut(id) {
                tally.asked = now;
            }
            return (*id, false);
        }
        if self.tallies.len() >= TALLIES {
            self.forget_oldest();
        }
        let tally = Tally {
            question: question.clone(),
            places: Places::new(),
            asked: now,
        };
        self.tallies.insert(now, tally);
        self.tally_ids.insert(question.clone(), now);
        (now, true)
    }

    fn forget_oldest(&mut self) {
        let oldest = self.tallies.iter().min_by_key(|(_, tally)| tally.asked);
        if let Some((id, question)) = oldest.map(|(id, tally)| (*id, tally.question.clone())) {
            self.tallies.remove(&id);
            self.tally_ids.remove(&question);
        }
    }

    /// Adds a placed pod to an answer.
    pub(super) fn count_in(&mut self, id: u64, pod: &PodView, node: &NodeView) {
        let Some(tally) = self.tallies.get_mut(&id) else {
            return;
        };
        if tally.question.counts(pod, &self.namespaces)
            && let Some(place) = tally.question.place_of(node)
        {
            shift(&mut tally.places, place, 1);
        }
    }

    /// The number of pods in this domain.
    pub(super) fn in_place(&self, id: u64, place: &str) -> i64 {
        let places = self.tallies.get(&id).map(|tally| &tally.places);
        places.and_then(|p| p.get(place)).copied().unwrap_or(0)
    }

    /// Returns whether no domain has any.
    pub(super) fn is_nowhere(&self, id: u64) -> bool {
        self.tallies.get(&id).is_none_or(|tally| tally.places.is_empty())
    }

    /// Returns whether all these terms of a pod in `namespace` match `pod`.
    pub(super) fn speak_of(&self, terms: &[PodTermView], namespace: &str, pod: &PodView) -> bool {
        terms
            .iter()
            .all(|term| covers(term, namespace, pod, &self.namespaces))
    }
}

impl Question {
    fn counts(&self, pod: &PodView, namespaces: &HashMap<Arc<str>, Labels>) -> bool {
        let gone = self.place == Place::Node && pod.is_terminating();
        !gone
            && self
                .terms
                .iter()
                .all(|term| covers(term, &self.namespace, pod, namespaces))
    }

    fn place_of<'n>(&self, node: &'n NodeView) -> Option<&'n str> {
        match &self.place {
            Place::Label(key) => node.label(key),
            Place::Node => Some(&node.meta.name),
        }
    }
}

/// Returns whether a term of a pod in `namespace` matches `pod`.
fn covers(
    term: &PodTermView,
    namespace: &str,
    pod: &PodView,
    namespaces: &HashMap<Arc<str>, Labels>,
) -> bool {
    let own = &pod.meta.namespace;
    let selected = |selector: &LabelSelector| {
        selector.matches(|key| namespaces.get(own).and_then(|labels| labels.get(key)))
    };
    let in_scope = match &term.namespace_selector {
        None if term.namespaces.is_empty() => **own == *namespace,
        selector => term.namespaces.contains(own) || selector.as_ref().is_some_and(selected),
    };
    in_scope && term.selector.matches_labels(&pod.meta.labels)
}

fn shift(places: &mut Places, place: &str, sign: i64) {
    match places.get_mut(place) {
        Some(count) => {
            *count += sign;
            if *count == 0 {
                places.remove(place);
            }
        }
        None => {
            places.insert(place.into(), sign);
        }
    }
}

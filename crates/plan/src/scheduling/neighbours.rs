//! Which pods are where, as far as some pod asks.
//!
//! Two indexes, both empty in a cluster whose pods ask nothing about each other. *Repelling*: the required anti-affinity of placed pods, a
//! term once however many hold it, with the places of its holders. *Tallies*: answers to what pods ask (how many pods of these terms are
//! in which place), counted over all placed pods when first asked and kept up with every pod that comes or goes.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use api::affinity::NodeFacts;
use api::selector::LabelSelector;
use api::view::{Labels, NodeView, PodTermView, PodView};

/// Answers that are kept. Each costs a look at every pod that comes or goes; the one that was asked for longest ago gives way, and is
/// counted anew when it is asked for again.
const TALLIES: usize = 256;

/// How many pods are where.
pub(super) type Places = HashMap<Arc<str>, i64>;

/// What counts as one place.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(super) enum Place {
    /// All nodes with one value of this label.
    Label(Arc<str>),
    /// Each node by itself; pods on their way out do not count. What topology spread asks.
    Node,
}

/// How many pods, of which all these terms speak, are in each place?
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
    /// When it was last asked for, by the count of questions.
    asked: u64,
}

struct Repelling {
    /// The namespace of the holders.
    namespace: Arc<str>,
    term: PodTermView,
    places: Places,
}

/// Which pods are where, as far as some pod asks.
#[derive(Default)]
pub(super) struct Neighbours {
    namespaces: HashMap<Arc<str>, Labels>,
    repelling: BTreeMap<u64, Repelling>,
    repelling_ids: HashMap<(Arc<str>, PodTermView), u64>,
    tallies: BTreeMap<u64, Tally>,
    tally_ids: HashMap<Question, u64>,
    /// Ids given and questions asked.
    count: u64,
}

impl Neighbours {
    /// Whether nobody asked anything, and nobody avoids anybody.
    #[cfg(test)]
    pub(super) fn is_empty(&self) -> bool {
        self.repelling.is_empty() && self.tallies.is_empty()
    }

    /// A namespace's labels, for terms that select namespaces. Whether they are new.
    pub(super) fn put_namespace(&mut self, name: &Arc<str>, labels: &Labels) -> bool {
        let old = self.namespaces.insert(name.clone(), labels.clone());
        let changed = old.as_ref().unwrap_or(&Labels::default()) != labels;
        if changed {
            self.forget_selected_namespaces();
        }
        changed
    }

    /// A namespace is gone.
    pub(super) fn delete_namespace(&mut self, name: &str) {
        if self.namespaces.remove(name).is_some() {
            self.forget_selected_namespaces();
        }
    }

    /// Answers that depend on the labels of namespaces are counted anew when they are asked for.
    fn forget_selected_namespaces(&mut self) {
        let selects = |term: &PodTermView| term.namespace_selector.is_some();
        self.tallies
            .retain(|_, tally| !tally.question.terms.iter().any(selects));
        self.tally_ids
            .retain(|question, _| !question.terms.iter().any(selects));
    }

    /// Counts a pod on a node in (1) or out (-1).
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

    /// Drops the terms that nobody holds any more.
    pub(super) fn tidy(&mut self) {
        if self.repelling.values().any(|r| r.places.is_empty()) {
            self.repelling.retain(|_, r| !r.places.is_empty());
            self.repelling_ids.retain(|_, id| self.repelling.contains_key(id));
        }
    }

    /// The terms of placed pods that speak of this pod.
    pub(super) fn repelling(&self, pod: &PodView) -> Vec<u64> {
        self.repelling
            .iter()
            .filter(|(_, r)| covers(&r.term, &r.namespace, pod, &self.namespaces))
            .map(|(id, _)| *id)
            .collect()
    }

    /// Whether a holder of the term is in the place of the node.
    pub(super) fn is_repelled(&self, id: u64, node: &NodeView) -> bool {
        self.repelling.get(&id).is_some_and(|r| {
            node.label(&r.term.topology_key)
                .is_some_and(|place| r.places.contains_key(place))
        })
    }

    /// The id of the answer, and whether it must be counted yet, by [`Neighbours::count_in`].
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

    /// Counts a placed pod into an answer.
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

    /// How many are in this place.
    pub(super) fn in_place(&self, id: u64, place: &str) -> i64 {
        let places = self.tallies.get(&id).map(|tally| &tally.places);
        places.and_then(|p| p.get(place)).copied().unwrap_or(0)
    }

    /// Whether there is none anywhere.
    pub(super) fn is_nowhere(&self, id: u64) -> bool {
        self.tallies.get(&id).is_none_or(|tally| tally.places.is_empty())
    }

    /// Whether all these terms of a pod in `namespace` speak of `pod`.
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

/// Whether a term of a pod in `namespace` speaks of `pod`.
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

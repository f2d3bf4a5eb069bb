//! What a pod asks about the pods beside it: pod affinity and anti-affinity, and topology spread constraints.

use std::borrow::Cow;
use std::sync::Arc;

use serde::Deserialize;

use super::share::shared;
use super::{Labels, nullable};
use crate::selector::LabelSelector;

/// What a pod asks about the pods beside it.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Default)]
pub struct TopologyView {
    /// `podAffinity`, required: every term must find such a pod in its topology.
    pub affinity: Box<[PodTermView]>,
    /// `podAntiAffinity`, required: no term may find such a pod in its topology.
    pub anti_affinity: Box<[PodTermView]>,
    /// What is preferred of both. A term of anti-affinity has a negative weight.
    pub preferred: Box<[PreferredPodTermView]>,
    /// `topologySpreadConstraints`.
    pub spread: Box<[SpreadConstraintView]>,
}

/// Some pods, and how far around them counts as beside them.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct PodTermView {
    /// `labelSelector`, with `matchLabelKeys` and `mismatchLabelKeys` worked in.
    pub selector: LabelSelector,
    /// `namespaces`. With none here and none selected, the pod's own is meant.
    pub namespaces: Box<[Arc<str>]>,
    /// `namespaceSelector`: further namespaces, by their labels.
    pub namespace_selector: Option<LabelSelector>,
    /// `topologyKey`: nodes with one value of this label are one place.
    pub topology_key: Arc<str>,
}

/// A term and how much it weighs: 1 to 100, or -1 to -100 to stay away.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct PreferredPodTermView {
    /// What it adds to the score of a node for each pod that it finds there.
    pub weight: i32,
    /// What it looks for.
    pub term: PodTermView,
}

/// One of `topologySpreadConstraints`.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct SpreadConstraintView {
    /// `maxSkew`: by how many pods a place may be ahead of the emptiest one.
    pub max_skew: i32,
    /// `topologyKey`
    pub topology_key: Arc<str>,
    /// Whether `whenUnsatisfiable` is `DoNotSchedule`; else it is a wish.
    pub required: bool,
    /// `labelSelector`, with `matchLabelKeys` worked in.
    pub selector: LabelSelector,
    /// `minDomains`: with fewer places than this, the emptiest one counts as empty. 1 when absent.
    pub min_domains: i32,
    /// Whether `nodeAffinityPolicy` is `Honor`, the default: nodes that the pod does not select are no places.
    pub honors_affinity: bool,
    /// Whether `nodeTaintsPolicy` is `Honor`: nodes whose taints the pod does not tolerate are no places.
    pub honors_taints: bool,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct WirePodAffinity<'a> {
    #[serde(borrow, deserialize_with = "nullable")]
    required_during_scheduling_ignored_during_execution: Vec<WireTerm<'a>>,
    #[serde(borrow, deserialize_with = "nullable")]
    preferred_during_scheduling_ignored_during_execution: Vec<WirePreferred<'a>>,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct WirePreferred<'a> {
    #[serde(deserialize_with = "nullable")]
    weight: i32,
    #[serde(borrow, deserialize_with = "nullable")]
    pod_affinity_term: WireTerm<'a>,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct WireTerm<'a> {
    label_selector: Option<LabelSelector>,
    #[serde(borrow, deserialize_with = "nullable")]
    namespaces: Vec<Cow<'a, str>>,
    namespace_selector: Option<LabelSelector>,
    #[serde(borrow, deserialize_with = "crate::view::text")]
    topology_key: Cow<'a, str>,
    #[serde(borrow, deserialize_with = "nullable")]
    match_label_keys: Vec<Cow<'a, str>>,
    #[serde(borrow, deserialize_with = "nullable")]
    mismatch_label_keys: Vec<Cow<'a, str>>,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct WireSpread<'a> {
    #[serde(deserialize_with = "nullable")]
    max_skew: i32,
    #[serde(borrow, deserialize_with = "crate::view::text")]
    topology_key: Cow<'a, str>,
    #[serde(borrow, deserialize_with = "crate::view::text")]
    when_unsatisfiable: Cow<'a, str>,
    label_selector: Option<LabelSelector>,
    min_domains: Option<i32>,
    #[serde(borrow, deserialize_with = "crate::view::text")]
    node_affinity_policy: Cow<'a, str>,
    #[serde(borrow, deserialize_with = "crate::view::text")]
    node_taints_policy: Cow<'a, str>,
    #[serde(borrow, deserialize_with = "nullable")]
    match_label_keys: Vec<Cow<'a, str>>,
}

impl WireTerm<'_> {
    fn read(&self, labels: &Labels) -> PodTermView {
        let selector = self.label_selector.clone().unwrap_or_else(LabelSelector::nothing);
        let value = |key: &str| labels.get(key);
        let matched = self
            .match_label_keys
            .iter()
            .filter_map(|key| Some((&**key, value(key)?)));
        let mismatched = self
            .mismatch_label_keys
            .iter()
            .filter_map(|key| Some((&**key, value(key)?)));
        PodTermView {
            selector: selector.and_with(matched).and_without(mismatched),
            namespaces: self.namespaces.iter().map(|name| shared(name)).collect(),
            namespace_selector: self.namespace_selector.clone(),
            topology_key: shared(&self.topology_key),
        }
    }
}

impl WireSpread<'_> {
    fn read(&self, labels: &Labels) -> SpreadConstraintView {
        let selector = self.label_selector.clone().unwrap_or_else(LabelSelector::nothing);
        let matched = self
            .match_label_keys
            .iter()
            .filter_map(|key| Some((&**key, labels.get(key)?)));
        SpreadConstraintView {
            max_skew: self.max_skew,
            topology_key: shared(&self.topology_key),
            required: self.when_unsatisfiable != "ScheduleAnyway",
            selector: selector.and_with(matched),
            min_domains: self.min_domains.unwrap_or(1),
            honors_affinity: self.node_affinity_policy != "Ignore",
            honors_taints: self.node_taints_policy == "Honor",
        }
    }
}

/// What a pod with these labels asks; `None` when it asks nothing, as nearly all daemons do.
pub(super) fn read(
    affinity: &WirePodAffinity<'_>,
    anti_affinity: &WirePodAffinity<'_>,
    spread: &[WireSpread<'_>],
    labels: &Labels,
) -> Option<Box<TopologyView>> {
    let required = |wire: &WirePodAffinity<'_>| {
        wire.required_during_scheduling_ignored_during_execution
            .iter()
            .map(|term| term.read(labels))
            .collect()
    };
    let preferred = |wire: &WirePodAffinity<'_>, sign: i32| {
        wire.preferred_during_scheduling_ignored_during_execution
            .iter()
            .map(|preferred| PreferredPodTermView {
                weight: sign.saturating_mul(preferred.weight),
                term: preferred.pod_affinity_term.read(labels),
            })
            .collect::<Vec<_>>()
    };
    let view = TopologyView {
        affinity: required(affinity),
        anti_affinity: required(anti_affinity),
        preferred: [preferred(affinity, 1), preferred(anti_affinity, -1)]
            .concat()
            .into(),
        spread: spread.iter().map(|constraint| constraint.read(labels)).collect(),
    };
    (view != TopologyView::default()).then(|| Box::new(view))
}

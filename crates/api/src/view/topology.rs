//! The rules of a pod about other pods: pod affinity and anti-affinity, and topology spread
//! constraints.

use std::borrow::Cow;
use std::sync::Arc;

use serde::Deserialize;

use super::share::shared;
use super::{Labels, nullable};
use crate::selector::LabelSelector;

/// The rules of a pod about other pods.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Default)]
pub struct TopologyView {
    /// Required `podAffinity`: every term must match a pod in the topology domain.
    pub affinity: Box<[PodTermView]>,
    /// Required `podAntiAffinity`: no term may match a pod in the topology domain.
    pub anti_affinity: Box<[PodTermView]>,
    /// The preferred terms of both. Terms of anti-affinity have a negative weight.
    pub preferred: Box<[PreferredPodTermView]>,
    /// `topologySpreadConstraints`.
    pub spread: Box<[SpreadConstraintView]>,
}

/// A pod selector and its topology domain.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct PodTermView {
    /// `labelSelector`, combined with `matchLabelKeys` and `mismatchLabelKeys`.
    pub selector: LabelSelector,
    /// `namespaces`. The pod's own namespace when this is empty and there is no selector.
    pub namespaces: Box<[Arc<str>]>,
    /// `namespaceSelector`: additional namespaces, by their labels.
    pub namespace_selector: Option<LabelSelector>,
    /// `topologyKey`: nodes with the same value of this label form a domain.
    pub topology_key: Arc<str>,
}

/// A term and its weight: 1 to 100 for affinity, -1 to -100 for anti-affinity.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct PreferredPodTermView {
    /// The weight, which is added to the score of a node for each matching pod.
    pub weight: i32,
    /// The term.
    pub term: PodTermView,
}

/// One of `topologySpreadConstraints`.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct SpreadConstraintView {
    /// `maxSkew`: the largest difference between the number of pods in a domain and the minimum.
    pub max_skew: i32,
    /// `topologyKey`
    pub topology_key: Arc<str>,
    /// Whether `whenUnsatisfiable` is `DoNotSchedule`; otherwise the constraint is only preferred.
    pub required: bool,
    /// `labelSelector`, combined with `matchLabelKeys`.
    pub selector: LabelSelector,
    /// `minDomains`: with fewer domains, the minimum counts as 0. 1 when absent.
    pub min_domains: i32,
    /// Whether `nodeAffinityPolicy` is `Honor` (default): nodes that the pod's affinity excludes do
    /// not count.
    pub honors_affinity: bool,
    /// Whether `nodeTaintsPolicy` is `Honor`: nodes with taints that the pod does not tolerate do
    /// not count.
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

/// Returns the rules of a pod with these labels; `None` when there are none, as for most daemon
/// pods.
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

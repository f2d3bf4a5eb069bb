//! The views of a DaemonSet and of its ControllerRevisions. They are few, so they keep what is written on raw.

use std::collections::BTreeMap;
use std::sync::Arc;

use jiff::Timestamp;
use schema::int_or_percent::IntOrPercent;
use serde::{Deserialize, Deserializer};
use serde_json::Value;

use super::{ObjectMetaView, View, lenient_time, nullable};
use crate::selector::LabelSelector;

/// The annotation in which the server keeps a DaemonSet's template generation.
const TEMPLATE_GENERATION: &str = "deprecated.daemonset.template.generation";

/// What deciders read of a DaemonSet.
#[derive(Clone, PartialEq, Debug)]
pub struct DaemonSetView {
    /// Metadata.
    pub meta: ObjectMetaView,
    /// All annotations: revisions copy them.
    pub annotations: Arc<BTreeMap<String, String>>,
    /// The compiled selector; one that cannot be understood selects nothing.
    pub selector: LabelSelector,
    /// The pod template as the server sent it: pods and revisions are made of it.
    pub template: Arc<Value>,
    /// How pods are replaced when the template changes.
    pub strategy: UpdateStrategyView,
    /// How long a pod must have been Ready to count as available.
    pub min_ready_seconds: i32,
    /// How many old revisions are kept.
    pub revision_history_limit: i32,
    /// What was last written about it.
    pub status: DaemonSetStatusView,
    /// `status.conditions`, whoever wrote them.
    pub conditions: Vec<DaemonSetConditionView>,
}

/// `spec.updateStrategy`.
#[derive(Clone, PartialEq, Debug)]
pub enum UpdateStrategyView {
    /// Old pods are replaced within the budget.
    RollingUpdate {
        /// How many nodes may be without an available pod.
        max_unavailable: IntOrPercent,
        /// How many nodes may carry a second pod meanwhile.
        max_surge: IntOrPercent,
    },
    /// Old pods stay until somebody deletes them.
    OnDelete,
}

/// `status` of a DaemonSet.
#[derive(Clone, PartialEq, Eq, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct DaemonSetStatusView {
    /// Nodes that should run it and do.
    pub current_number_scheduled: i32,
    /// Nodes that run it and should not.
    pub number_misscheduled: i32,
    /// Nodes that should run it.
    pub desired_number_scheduled: i32,
    /// Nodes that should run it and whose pod is Ready.
    pub number_ready: i32,
    /// The generation that these numbers are about.
    pub observed_generation: i64,
    /// Nodes that should run it and whose pod is of the current template.
    pub updated_number_scheduled: i32,
    /// Nodes that should run it and whose pod has been Ready for long enough.
    pub number_available: i32,
    /// Nodes that should run it without such a pod.
    pub number_unavailable: i32,
    /// How often a revision's name was taken; part of the hash.
    pub collision_count: Option<i32>,
}

/// One of `status.conditions` of a DaemonSet.
#[derive(Clone, PartialEq, Eq, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct DaemonSetConditionView {
    /// Its name; there is at most one of a type.
    #[serde(rename = "type", deserialize_with = "nullable")]
    pub kind: String,
    /// `True`, `False` or `Unknown`.
    #[serde(deserialize_with = "nullable")]
    pub status: String,
    /// One CamelCase word.
    #[serde(deserialize_with = "nullable")]
    pub reason: String,
    /// A sentence.
    #[serde(deserialize_with = "nullable")]
    pub message: String,
    /// When the status last changed.
    #[serde(deserialize_with = "lenient_time")]
    pub last_transition_time: Option<Timestamp>,
}

impl DaemonSetView {
    /// The number that labels its pods beside the hash; `None` when the server keeps none.
    pub fn template_generation(&self) -> Option<i64> {
        self.annotations.get(TEMPLATE_GENERATION)?.parse().ok()
    }

    /// Whether a second pod may run on a node during an update. A percentage counts as soon as it is not zero,
    /// however few nodes there are.
    pub fn allows_surge(&self) -> bool {
        match self.strategy {
            UpdateStrategyView::RollingUpdate { max_surge, .. } => max_surge.scaled(1, true) > 0,
            UpdateStrategyView::OnDelete => false,
        }
    }
}

impl View for DaemonSetView {
    const GROUP: &'static str = "apps";
    const VERSION: &'static str = "v1";
    const KIND: &'static str = "DaemonSet";
    const PLURAL: &'static str = "daemonsets";
    const NAMESPACED: bool = true;

    fn meta(&self) -> &ObjectMetaView {
        &self.meta
    }
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct WireDaemonSet {
    metadata: Value,
    #[serde(deserialize_with = "nullable")]
    spec: WireSpec,
    #[serde(deserialize_with = "nullable")]
    status: WireStatus,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct WireStatus {
    #[serde(flatten)]
    numbers: DaemonSetStatusView,
    #[serde(deserialize_with = "nullable")]
    conditions: Vec<DaemonSetConditionView>,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct WireSpec {
    selector: Option<LabelSelector>,
    template: Value,
    #[serde(deserialize_with = "nullable")]
    update_strategy: WireStrategy,
    #[serde(deserialize_with = "nullable")]
    min_ready_seconds: i32,
    revision_history_limit: Option<i32>,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct WireStrategy {
    #[serde(rename = "type")]
    kind: String,
    #[serde(deserialize_with = "nullable")]
    rolling_update: WireRollingUpdate,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct WireRollingUpdate {
    max_unavailable: Value,
    max_surge: Value,
}

/// What the server fills in when the field is absent.
const DEFAULT_REVISION_HISTORY_LIMIT: i32 = 10;

fn annotations(metadata: &Value) -> BTreeMap<String, String> {
    let Some(annotations) = metadata.get("annotations").and_then(Value::as_object) else {
        return BTreeMap::new();
    };
    annotations
        .iter()
        .filter_map(|(key, value)| Some((key.clone(), value.as_str()?.to_owned())))
        .collect()
}

impl<'de> Deserialize<'de> for DaemonSetView {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let wire = WireDaemonSet::deserialize(deserializer)?;
        let rolling = &wire.spec.update_strategy.rolling_update;
        let strategy = match wire.spec.update_strategy.kind.as_str() {
            "OnDelete" => UpdateStrategyView::OnDelete,
            _ => UpdateStrategyView::RollingUpdate {
                max_unavailable: IntOrPercent::from_value(&rolling.max_unavailable)
                    .unwrap_or(IntOrPercent::Int(1)),
                max_surge: IntOrPercent::from_value(&rolling.max_surge).unwrap_or(IntOrPercent::Int(0)),
            },
        };
        Ok(DaemonSetView {
            annotations: Arc::new(annotations(&wire.metadata)),
            meta: meta(wire.metadata)?,
            selector: wire.spec.selector.unwrap_or_else(LabelSelector::nothing),
            template: Arc::new(wire.spec.template),
            strategy,
            min_ready_seconds: wire.spec.min_ready_seconds,
            revision_history_limit: wire
                .spec
                .revision_history_limit
                .unwrap_or(DEFAULT_REVISION_HISTORY_LIMIT),
            status: wire.status.numbers,
            conditions: wire.status.conditions,
        })
    }
}

/// Reads metadata out of a value; none at all is the default.
fn meta<E: serde::de::Error>(metadata: Value) -> Result<ObjectMetaView, E> {
    match metadata {
        Value::Null => Ok(ObjectMetaView::default()),
        metadata => ObjectMetaView::deserialize(metadata).map_err(E::custom),
    }
}

/// What deciders read of a ControllerRevision.
#[derive(Clone, PartialEq, Debug, Default, Deserialize)]
#[serde(default)]
pub struct ControllerRevisionView {
    /// Metadata.
    #[serde(rename = "metadata")]
    pub meta: ObjectMetaView,
    /// The template that it remembers, as `{"spec":{"template":{"$patch":"replace", …}}}`.
    pub data: Arc<Value>,
    /// Its place in the history; the highest is current.
    pub revision: i64,
}

impl View for ControllerRevisionView {
    const GROUP: &'static str = "apps";
    const VERSION: &'static str = "v1";
    const KIND: &'static str = "ControllerRevision";
    const PLURAL: &'static str = "controllerrevisions";
    const NAMESPACED: bool = true;

    fn meta(&self) -> &ObjectMetaView {
        &self.meta
    }
}

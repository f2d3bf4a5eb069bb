//! The views of DaemonSets and ControllerRevisions. There are few, so the parts that are copied
//! stay JSON.

use std::collections::BTreeMap;
use std::sync::Arc;

use jiff::Timestamp;
use schema::int_or_percent::IntOrPercent;
use serde::{Deserialize, Deserializer};
use serde_json::Value;

use super::{ObjectMetaView, View, lenient_time, nullable};
use crate::selector::LabelSelector;

/// The annotation with the template generation of a DaemonSet.
const TEMPLATE_GENERATION: &str = "deprecated.daemonset.template.generation";

/// The fields of a DaemonSet that decisions need.
#[derive(Clone, PartialEq, Debug)]
pub struct DaemonSetView {
    /// Metadata.
    pub meta: ObjectMetaView,
    /// All annotations, because revisions copy them.
    pub annotations: Arc<BTreeMap<String, String>>,
    /// The compiled selector; an invalid one selects nothing.
    pub selector: LabelSelector,
    /// The pod template in its original form, because pods and revisions copy it.
    pub template: Arc<Value>,
    /// How pods are replaced when the template changes.
    pub strategy: UpdateStrategyView,
    /// Seconds that a pod must be Ready to count as available.
    pub min_ready_seconds: i32,
    /// Number of old revisions to keep.
    pub revision_history_limit: i32,
    /// The numbers in the status.
    pub status: DaemonSetStatusView,
    /// `status.conditions`.
    pub conditions: Vec<DaemonSetConditionView>,
}

/// `spec.updateStrategy`.
#[derive(Clone, PartialEq, Debug)]
pub enum UpdateStrategyView {
    /// Old pods are replaced, within these limits.
    RollingUpdate {
        /// Most nodes without an available pod.
        max_unavailable: IntOrPercent,
        /// Most nodes with a second pod during the update.
        max_surge: IntOrPercent,
    },
    /// Old pods are replaced only when somebody deletes them.
    OnDelete,
}

/// `status` of a DaemonSet.
#[derive(Clone, PartialEq, Eq, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct DaemonSetStatusView {
    /// Number of nodes that run it and should.
    pub current_number_scheduled: i32,
    /// Number of nodes that run it and should not.
    pub number_misscheduled: i32,
    /// Number of nodes that should run it.
    pub desired_number_scheduled: i32,
    /// Number of nodes that should run it and have a Ready pod.
    pub number_ready: i32,
    /// The generation for which the numbers were counted.
    pub observed_generation: i64,
    /// Number of nodes that should run it and have a pod of the current template.
    pub updated_number_scheduled: i32,
    /// Number of nodes that should run it and have an available pod (Ready for `minReadySeconds`).
    pub number_available: i32,
    /// Number of nodes that should run it and have no available pod.
    pub number_unavailable: i32,
    /// Number of collisions of revision names; part of the hash in the name.
    pub collision_count: Option<i32>,
}

/// One of `status.conditions` of a DaemonSet.
#[derive(Clone, PartialEq, Eq, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct DaemonSetConditionView {
    /// The type; unique in the list.
    #[serde(rename = "type", deserialize_with = "nullable")]
    pub kind: String,
    /// `True`, `False` or `Unknown`.
    #[serde(deserialize_with = "nullable")]
    pub status: String,
    /// The reason, in CamelCase.
    #[serde(deserialize_with = "nullable")]
    pub reason: String,
    /// The message for people.
    #[serde(deserialize_with = "nullable")]
    pub message: String,
    /// When the status last changed.
    #[serde(deserialize_with = "lenient_time")]
    pub last_transition_time: Option<Timestamp>,
}

impl DaemonSetView {
    /// Returns the template generation, which is a label of its pods; `None` without the
    /// annotation.
    pub fn template_generation(&self) -> Option<i64> {
        self.annotations.get(TEMPLATE_GENERATION)?.parse().ok()
    }

    /// Returns whether a node may run a second pod during an update. Any percentage above 0 counts,
    /// because surge is rounded up.
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

/// The server's default.
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

/// Reads metadata from a value; null is the default.
fn meta<E: serde::de::Error>(metadata: Value) -> Result<ObjectMetaView, E> {
    match metadata {
        Value::Null => Ok(ObjectMetaView::default()),
        metadata => ObjectMetaView::deserialize(metadata).map_err(E::custom),
    }
}

/// The fields of a ControllerRevision that decisions need.
#[derive(Clone, PartialEq, Debug, Default, Deserialize)]
#[serde(default)]
pub struct ControllerRevisionView {
    /// Metadata.
    #[serde(rename = "metadata")]
    pub meta: ObjectMetaView,
    /// The pod template, as `{"spec":{"template":{"$patch":"replace", …}}}`.
    pub data: Arc<Value>,
    /// The number of the revision; the highest one is current.
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

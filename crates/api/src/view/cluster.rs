//! Views of the kinds for leases, namespaces, priorities, disruption budgets and garbage
//! collection.

use std::collections::BTreeMap;
use std::sync::Arc;

use jiff::Timestamp;
use schema::int_or_percent::IntOrPercent;
use serde::{Deserialize, Deserializer};
use serde_json::Value;

use super::share::shared;
use super::{ObjectMetaView, View, lenient_time, nullable};
use crate::selector::LabelSelector;

/// Any object, with only its metadata, as garbage collection reads it.
#[derive(Clone, PartialEq, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ObjectView {
    /// Group and version, such as `apps/v1`; empty inside typed lists.
    pub api_version: Box<str>,
    /// The kind; empty inside typed lists.
    pub kind: Box<str>,
    /// Metadata.
    #[serde(rename = "metadata")]
    pub meta: ObjectMetaView,
}

/// The fields of a Lease that decisions need.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct LeaseView {
    /// Metadata.
    pub meta: ObjectMetaView,
    /// `holderIdentity`.
    pub holder: Option<Arc<str>>,
    /// `leaseDurationSeconds`: seconds after a renewal until the lease expires.
    pub duration_seconds: Option<i32>,
    /// When the holder acquired it.
    pub acquire_time: Option<Timestamp>,
    /// When the holder last renewed it.
    pub renew_time: Option<Timestamp>,
    /// Number of changes of the holder.
    pub transitions: i32,
}

/// The fields of a Namespace that decisions need.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct NamespaceView {
    /// Metadata.
    pub meta: ObjectMetaView,
    /// `spec.finalizers`: the namespace is deleted when this is empty.
    pub finalizers: Box<[Arc<str>]>,
    /// Whether `status.phase` is `Terminating`.
    pub terminating: bool,
}

/// The fields of a PriorityClass that decisions need.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct PriorityClassView {
    /// Metadata.
    pub meta: ObjectMetaView,
    /// The priority of its pods.
    pub value: i32,
    /// Whether it is the class of pods that name none.
    pub global_default: bool,
    /// Whether its pods preempt no other pods.
    pub never_preempts: bool,
}

/// The fields of a PodDisruptionBudget that decisions need.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct PodDisruptionBudgetView {
    /// Metadata.
    pub meta: ObjectMetaView,
    /// `spec.selector`. Absent selects nothing, `{}` all pods in the namespace.
    pub selector: LabelSelector,
    /// `spec.minAvailable`
    pub min_available: Option<IntOrPercent>,
    /// `spec.maxUnavailable`
    pub max_unavailable: Option<IntOrPercent>,
    /// Whether `unhealthyPodEvictionPolicy` is `AlwaysAllow`.
    pub always_evicts_unhealthy: bool,
    /// `status`
    pub status: PodDisruptionBudgetStatusView,
}

/// `status` of a PodDisruptionBudget.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct PodDisruptionBudgetStatusView {
    /// The generation that the rest of the status is about.
    pub observed_generation: i64,
    /// Number of pods that may be disrupted now.
    pub disruptions_allowed: i32,
    /// Evicted pods that the controller has not yet seen as deleted, by name, with the time of the
    /// eviction.
    pub disrupted_pods: BTreeMap<Box<str>, Option<Timestamp>>,
    /// Number of healthy pods.
    pub current_healthy: i32,
    /// Least number of healthy pods.
    pub desired_healthy: i32,
    /// Number of pods that the budget selects.
    pub expected_pods: i32,
    /// `conditions` as JSON, because the writer compares them with the new ones.
    pub conditions: Vec<Value>,
}

impl View for LeaseView {
    const GROUP: &'static str = "coordination.k8s.io";
    const VERSION: &'static str = "v1";
    const KIND: &'static str = "Lease";
    const PLURAL: &'static str = "leases";
    const NAMESPACED: bool = true;

    fn meta(&self) -> &ObjectMetaView {
        &self.meta
    }
}

impl View for NamespaceView {
    const GROUP: &'static str = "";
    const VERSION: &'static str = "v1";
    const KIND: &'static str = "Namespace";
    const PLURAL: &'static str = "namespaces";
    const NAMESPACED: bool = false;

    fn meta(&self) -> &ObjectMetaView {
        &self.meta
    }
}

impl View for PodDisruptionBudgetView {
    const GROUP: &'static str = "policy";
    const VERSION: &'static str = "v1";
    const KIND: &'static str = "PodDisruptionBudget";
    const PLURAL: &'static str = "poddisruptionbudgets";
    const NAMESPACED: bool = true;

    fn meta(&self) -> &ObjectMetaView {
        &self.meta
    }
}

impl View for PriorityClassView {
    const GROUP: &'static str = "scheduling.k8s.io";
    const VERSION: &'static str = "v1";
    const KIND: &'static str = "PriorityClass";
    const PLURAL: &'static str = "priorityclasses";
    const NAMESPACED: bool = false;

    fn meta(&self) -> &ObjectMetaView {
        &self.meta
    }
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct WireLease {
    metadata: ObjectMetaView,
    #[serde(deserialize_with = "nullable")]
    spec: WireLeaseSpec,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct WireLeaseSpec {
    holder_identity: Option<Box<str>>,
    lease_duration_seconds: Option<i32>,
    #[serde(deserialize_with = "lenient_time")]
    acquire_time: Option<Timestamp>,
    #[serde(deserialize_with = "lenient_time")]
    renew_time: Option<Timestamp>,
    #[serde(deserialize_with = "nullable")]
    lease_transitions: i32,
}

impl<'de> Deserialize<'de> for LeaseView {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let WireLease { metadata, spec } = WireLease::deserialize(deserializer)?;
        Ok(LeaseView {
            meta: metadata,
            holder: spec.holder_identity.map(Into::into),
            duration_seconds: spec.lease_duration_seconds,
            acquire_time: spec.acquire_time,
            renew_time: spec.renew_time,
            transitions: spec.lease_transitions,
        })
    }
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct WireNamespace {
    metadata: ObjectMetaView,
    #[serde(deserialize_with = "nullable")]
    spec: WireNamespaceSpec,
    #[serde(deserialize_with = "nullable")]
    status: WireNamespaceStatus,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct WireNamespaceSpec {
    #[serde(deserialize_with = "nullable")]
    finalizers: Vec<String>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct WireNamespaceStatus {
    phase: Option<String>,
}

impl<'de> Deserialize<'de> for NamespaceView {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let WireNamespace {
            metadata,
            spec,
            status,
        } = WireNamespace::deserialize(deserializer)?;
        Ok(NamespaceView {
            meta: metadata,
            finalizers: spec
                .finalizers
                .iter()
                .map(|finalizer| shared(finalizer))
                .collect(),
            terminating: status.phase.as_deref() == Some("Terminating"),
        })
    }
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct WirePriorityClass {
    metadata: ObjectMetaView,
    value: i32,
    global_default: bool,
    preemption_policy: Option<String>,
}

impl<'de> Deserialize<'de> for PriorityClassView {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let wire = WirePriorityClass::deserialize(deserializer)?;
        Ok(PriorityClassView {
            meta: wire.metadata,
            value: wire.value,
            global_default: wire.global_default,
            never_preempts: wire.preemption_policy.as_deref() == Some("Never"),
        })
    }
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct WireBudget {
    metadata: ObjectMetaView,
    #[serde(deserialize_with = "nullable")]
    spec: WireBudgetSpec,
    #[serde(deserialize_with = "nullable")]
    status: WireBudgetStatus,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct WireBudgetSpec {
    selector: Option<LabelSelector>,
    min_available: Value,
    max_unavailable: Value,
    unhealthy_pod_eviction_policy: Option<String>,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct WireBudgetStatus {
    #[serde(deserialize_with = "nullable")]
    observed_generation: i64,
    #[serde(deserialize_with = "nullable")]
    disruptions_allowed: i32,
    #[serde(deserialize_with = "nullable")]
    disrupted_pods: BTreeMap<Box<str>, Value>,
    #[serde(deserialize_with = "nullable")]
    current_healthy: i32,
    #[serde(deserialize_with = "nullable")]
    desired_healthy: i32,
    #[serde(deserialize_with = "nullable")]
    expected_pods: i32,
    #[serde(deserialize_with = "nullable")]
    conditions: Vec<Value>,
}

impl<'de> Deserialize<'de> for PodDisruptionBudgetView {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let WireBudget {
            metadata,
            spec,
            status,
        } = WireBudget::deserialize(deserializer)?;
        let granted = |at: &Value| at.as_str().and_then(|at| at.parse().ok());
        Ok(PodDisruptionBudgetView {
            meta: metadata,
            selector: spec.selector.unwrap_or_else(LabelSelector::nothing),
            min_available: IntOrPercent::from_value(&spec.min_available),
            max_unavailable: IntOrPercent::from_value(&spec.max_unavailable),
            always_evicts_unhealthy: spec.unhealthy_pod_eviction_policy.as_deref() == Some("AlwaysAllow"),
            status: PodDisruptionBudgetStatusView {
                observed_generation: status.observed_generation,
                disruptions_allowed: status.disruptions_allowed,
                disrupted_pods: status
                    .disrupted_pods
                    .iter()
                    .map(|(name, at)| (name.clone(), granted(at)))
                    .collect(),
                current_healthy: status.current_healthy,
                desired_healthy: status.desired_healthy,
                expected_pods: status.expected_pods,
                conditions: status.conditions,
            },
        })
    }
}

//! The view of a Node.

use std::borrow::Cow;
use std::net::IpAddr;
use std::sync::Arc;

use jiff::Timestamp;
use serde::{Deserialize, Deserializer};

use super::share::shared;
use super::{ObjectMetaView, Resources, View, lenient_time, nullable};
use crate::affinity::NodeFacts;
use crate::taint::Taint;

/// The fields of a Node that decisions need.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct NodeView {
    /// Metadata.
    pub meta: ObjectMetaView,
    /// `spec.unschedulable`: the node is cordoned.
    pub unschedulable: bool,
    /// `spec.taints`.
    pub taints: Arc<[Taint]>,
    /// `spec.podCIDRs`, or `spec.podCIDR` if that is absent.
    pub pod_cidrs: Box<[Box<str>]>,
    /// `status.allocatable`: the limit for the sum of the pods' requests.
    pub allocatable: Arc<Resources>,
    /// `status.conditions`.
    pub conditions: Box<[NodeConditionView]>,
}

/// One condition of a Node.
#[derive(Clone, PartialEq, Debug)]
pub struct NodeConditionView {
    /// The type, for example `Ready` or `MemoryPressure`.
    pub kind: Arc<str>,
    /// `True`, `False` or `Unknown`.
    pub status: Arc<str>,
    /// The reason, in CamelCase.
    pub reason: Arc<str>,
    /// When the node last reported it.
    pub last_heartbeat_time: Option<Timestamp>,
    /// When the status last changed.
    pub last_transition_time: Option<Timestamp>,
}

impl NodeView {
    /// Returns the condition of type `kind`.
    pub fn condition(&self, kind: &str) -> Option<&NodeConditionView> {
        self.conditions.iter().find(|condition| *condition.kind == *kind)
    }

    /// Returns whether the condition Ready is True.
    pub fn is_ready(&self) -> bool {
        self.condition("Ready")
            .is_some_and(|condition| &*condition.status == "True")
    }
}

impl View for NodeView {
    const GROUP: &'static str = "";
    const VERSION: &'static str = "v1";
    const KIND: &'static str = "Node";
    const PLURAL: &'static str = "nodes";
    const NAMESPACED: bool = false;

    fn meta(&self) -> &ObjectMetaView {
        &self.meta
    }
}

impl NodeFacts for NodeView {
    fn node_name(&self) -> &str {
        &self.meta.name
    }

    fn label(&self, key: &str) -> Option<&str> {
        self.meta.labels.get(key)
    }
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct WireNode<'a> {
    metadata: ObjectMetaView,
    #[serde(deserialize_with = "nullable")]
    spec: WireNodeSpec,
    #[serde(borrow, deserialize_with = "nullable")]
    status: WireNodeStatus<'a>,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct WireNodeSpec {
    #[serde(deserialize_with = "nullable")]
    unschedulable: bool,
    #[serde(deserialize_with = "nullable")]
    taints: Vec<Taint>,
    #[serde(rename = "podCIDR", deserialize_with = "nullable")]
    pod_cidr: Box<str>,
    #[serde(rename = "podCIDRs", deserialize_with = "nullable")]
    pod_cidrs: Vec<Box<str>>,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct WireNodeStatus<'a> {
    allocatable: Resources,
    #[serde(borrow, deserialize_with = "nullable")]
    conditions: Vec<WireCondition<'a>>,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct WireCondition<'a> {
    #[serde(borrow, rename = "type", deserialize_with = "crate::view::text")]
    kind: Cow<'a, str>,
    #[serde(borrow, deserialize_with = "crate::view::text")]
    status: Cow<'a, str>,
    #[serde(borrow, deserialize_with = "crate::view::text")]
    reason: Cow<'a, str>,
    #[serde(deserialize_with = "lenient_time")]
    last_heartbeat_time: Option<Timestamp>,
    #[serde(deserialize_with = "lenient_time")]
    last_transition_time: Option<Timestamp>,
}

impl<'de> Deserialize<'de> for NodeView {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let mut wire = WireNode::deserialize(deserializer)?;
        if wire.spec.pod_cidrs.is_empty() && !wire.spec.pod_cidr.is_empty() {
            wire.spec.pod_cidrs.push(wire.spec.pod_cidr);
        }
        Ok(NodeView {
            meta: wire.metadata,
            unschedulable: wire.spec.unschedulable,
            taints: wire.spec.taints.into(),
            pod_cidrs: wire.spec.pod_cidrs.into(),
            allocatable: Arc::new(wire.status.allocatable),
            conditions: wire
                .status
                .conditions
                .into_iter()
                .map(|condition| NodeConditionView {
                    kind: shared(&condition.kind),
                    status: shared(&condition.status),
                    reason: shared(&condition.reason),
                    last_heartbeat_time: condition.last_heartbeat_time,
                    last_transition_time: condition.last_transition_time,
                })
                .collect(),
        })
    }
}

/// The fields of another node that an agent needs to reach its pods.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct NodeNetworkView {
    /// Metadata.
    pub meta: ObjectMetaView,
    /// `spec.podCIDRs`, as written; one for each family.
    pub pod_cidrs: Box<[Arc<str>]>,
    /// `status.addresses` of type `InternalIP`, in their order.
    pub internal_ips: Box<[IpAddr]>,
    /// `status.addresses` of type `ExternalIP`, in their order.
    pub external_ips: Box<[IpAddr]>,
}

impl View for NodeNetworkView {
    const GROUP: &'static str = "";
    const VERSION: &'static str = "v1";
    const KIND: &'static str = "Node";
    const PLURAL: &'static str = "nodes";
    const NAMESPACED: bool = false;

    fn meta(&self) -> &ObjectMetaView {
        &self.meta
    }
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct WireNodeNetwork<'a> {
    metadata: ObjectMetaView,
    #[serde(borrow, deserialize_with = "nullable")]
    spec: WireRanges<'a>,
    #[serde(borrow, deserialize_with = "nullable")]
    status: WireAddresses<'a>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct WireRanges<'a> {
    #[serde(borrow, rename = "podCIDRs", deserialize_with = "nullable")]
    pod_cidrs: Vec<Cow<'a, str>>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct WireAddresses<'a> {
    #[serde(borrow, deserialize_with = "nullable")]
    addresses: Vec<WireAddress<'a>>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct WireAddress<'a> {
    #[serde(borrow, rename = "type", deserialize_with = "crate::view::text")]
    kind: Cow<'a, str>,
    #[serde(borrow, deserialize_with = "crate::view::text")]
    address: Cow<'a, str>,
}

impl<'de> Deserialize<'de> for NodeNetworkView {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let wire = WireNodeNetwork::deserialize(deserializer)?;
        let of_type = |kind: &str| {
            let addresses = wire.status.addresses.iter();
            let those = addresses.filter(|address| address.kind == kind);
            those.filter_map(|address| address.address.parse().ok()).collect()
        };
        Ok(NodeNetworkView {
            pod_cidrs: wire.spec.pod_cidrs.iter().map(|cidr| (&**cidr).into()).collect(),
            internal_ips: of_type("InternalIP"),
            external_ips: of_type("ExternalIP"),
            meta: wire.metadata,
        })
    }
}

//! Views of the endpoints of Services: EndpointSlices, and the older Endpoints.

use std::borrow::Cow;
use std::sync::Arc;

use serde::{Deserialize, Deserializer};

use super::share::shared;
use super::{IpFamily, ObjectMetaView, View, nullable};

/// `addressType` of an EndpointSlice.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub enum AddressType {
    /// `IPv4`
    #[default]
    V4,
    /// `IPv6`
    V6,
    /// `FQDN`: host names.
    Fqdn,
}

impl From<IpFamily> for AddressType {
    fn from(family: IpFamily) -> Self {
        match family {
            IpFamily::V4 => AddressType::V4,
            IpFamily::V6 => AddressType::V6,
        }
    }
}

/// A port of endpoints.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct EndpointPortView {
    /// The name of the Service's port; empty when the port has none.
    pub name: Arc<str>,
    /// `TCP`, `UDP` or `SCTP`.
    pub protocol: Arc<str>,
    /// The number; `None` means all ports.
    pub port: Option<u16>,
    /// The application protocol.
    pub app_protocol: Option<Arc<str>>,
}

/// The object of an endpoint.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct TargetView {
    /// The kind: `Pod`.
    pub kind: Arc<str>,
    /// Its namespace.
    pub namespace: Arc<str>,
    /// Its name.
    pub name: Arc<str>,
    /// Its uid.
    pub uid: Arc<str>,
}

/// One endpoint of a slice. Absent conditions have their defaults.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct EndpointView {
    /// The addresses of the endpoint. They are equivalent, and consumers use the first.
    pub addresses: Box<[Box<str>]>,
    /// `conditions.ready`: it accepts new connections.
    pub ready: bool,
    /// `conditions.serving`: the pod is Ready, even if it is terminating.
    pub serving: bool,
    /// `conditions.terminating`: the pod is being deleted.
    pub terminating: bool,
    /// Its host name in the Service's DNS domain.
    pub hostname: Option<Arc<str>>,
    /// The name of its node.
    pub node: Option<Arc<str>>,
    /// The zone of its node.
    pub zone: Option<Arc<str>>,
    /// Its pod.
    pub target: Option<TargetView>,
    /// `hints.forZones`: clients in these zones should use it.
    pub for_zones: Box<[Arc<str>]>,
    /// `hints.forNodes`: clients on these nodes should use it.
    pub for_nodes: Box<[Arc<str>]>,
}

/// The fields of an EndpointSlice that decisions need.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct EndpointSliceView {
    /// Metadata.
    pub meta: ObjectMetaView,
    /// `addressType`
    pub address_type: AddressType,
    /// `ports`
    pub ports: Box<[EndpointPortView]>,
    /// `endpoints`
    pub endpoints: Box<[EndpointView]>,
}

/// The label of a slice with the name of its Service.
const SERVICE_NAME: &str = "kubernetes.io/service-name";

impl EndpointSliceView {
    /// Returns the name of its Service, which is in the same namespace.
    pub fn service_name(&self) -> Option<&str> {
        self.meta.labels.get(SERVICE_NAME).filter(|name| !name.is_empty())
    }
}

/// One address of Endpoints.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct EndpointAddressView {
    /// The address.
    pub ip: Box<str>,
    /// Its host name in the Service's DNS domain; empty without one.
    pub hostname: Arc<str>,
    /// The name of its node.
    pub node: Option<Arc<str>>,
    /// Its pod.
    pub target: Option<TargetView>,
}

/// Addresses with the same ports.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct SubsetView {
    /// The addresses that accept traffic.
    pub addresses: Vec<EndpointAddressView>,
    /// The addresses that are not ready.
    pub not_ready: Vec<EndpointAddressView>,
    /// The ports.
    pub ports: Vec<EndpointPortView>,
}

/// The fields of Endpoints that decisions need.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct EndpointsView {
    /// Metadata.
    pub meta: ObjectMetaView,
    /// `subsets`
    pub subsets: Vec<SubsetView>,
}

impl View for EndpointSliceView {
    const GROUP: &'static str = "discovery.k8s.io";
    const VERSION: &'static str = "v1";
    const KIND: &'static str = "EndpointSlice";
    const PLURAL: &'static str = "endpointslices";
    const NAMESPACED: bool = true;

    fn meta(&self) -> &ObjectMetaView {
        &self.meta
    }
}

impl View for EndpointsView {
    const GROUP: &'static str = "";
    const VERSION: &'static str = "v1";
    const KIND: &'static str = "Endpoints";
    const PLURAL: &'static str = "endpoints";
    const NAMESPACED: bool = true;

    fn meta(&self) -> &ObjectMetaView {
        &self.meta
    }
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct WireSlice<'a> {
    metadata: ObjectMetaView,
    #[serde(borrow, deserialize_with = "crate::view::text")]
    address_type: Cow<'a, str>,
    #[serde(borrow, deserialize_with = "nullable")]
    ports: Vec<WirePort<'a>>,
    #[serde(borrow, deserialize_with = "nullable")]
    endpoints: Vec<WireEndpoint<'a>>,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct WirePort<'a> {
    #[serde(borrow, deserialize_with = "crate::view::text")]
    name: Cow<'a, str>,
    #[serde(borrow, deserialize_with = "crate::view::text")]
    protocol: Cow<'a, str>,
    port: Option<i64>,
    #[serde(borrow, deserialize_with = "crate::view::text")]
    app_protocol: Cow<'a, str>,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct WireEndpoint<'a> {
    #[serde(deserialize_with = "nullable")]
    addresses: Vec<Box<str>>,
    #[serde(deserialize_with = "nullable")]
    conditions: WireConditions,
    #[serde(borrow, deserialize_with = "crate::view::text")]
    hostname: Cow<'a, str>,
    #[serde(borrow, deserialize_with = "crate::view::text")]
    node_name: Cow<'a, str>,
    #[serde(borrow, deserialize_with = "crate::view::text")]
    zone: Cow<'a, str>,
    #[serde(borrow)]
    target_ref: Option<WireTarget<'a>>,
    #[serde(borrow, deserialize_with = "nullable")]
    hints: WireHints<'a>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct WireConditions {
    ready: Option<bool>,
    serving: Option<bool>,
    terminating: Option<bool>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct WireTarget<'a> {
    #[serde(borrow, deserialize_with = "crate::view::text")]
    kind: Cow<'a, str>,
    #[serde(borrow, deserialize_with = "crate::view::text")]
    namespace: Cow<'a, str>,
    #[serde(borrow, deserialize_with = "crate::view::text")]
    name: Cow<'a, str>,
    #[serde(borrow, deserialize_with = "crate::view::text")]
    uid: Cow<'a, str>,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct WireHints<'a> {
    #[serde(borrow, deserialize_with = "nullable")]
    for_zones: Vec<WireName<'a>>,
    #[serde(borrow, deserialize_with = "nullable")]
    for_nodes: Vec<WireName<'a>>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct WireName<'a> {
    #[serde(borrow, deserialize_with = "crate::view::text")]
    name: Cow<'a, str>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct WireEndpoints<'a> {
    metadata: ObjectMetaView,
    #[serde(borrow, deserialize_with = "nullable")]
    subsets: Vec<WireSubset<'a>>,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct WireSubset<'a> {
    #[serde(borrow, deserialize_with = "nullable")]
    addresses: Vec<WireAddress<'a>>,
    #[serde(borrow, deserialize_with = "nullable")]
    not_ready_addresses: Vec<WireAddress<'a>>,
    #[serde(borrow, deserialize_with = "nullable")]
    ports: Vec<WirePort<'a>>,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct WireAddress<'a> {
    #[serde(borrow, deserialize_with = "crate::view::text")]
    ip: Cow<'a, str>,
    #[serde(borrow, deserialize_with = "crate::view::text")]
    hostname: Cow<'a, str>,
    #[serde(borrow, deserialize_with = "crate::view::text")]
    node_name: Cow<'a, str>,
    #[serde(borrow)]
    target_ref: Option<WireTarget<'a>>,
}

fn optional(text: &str) -> Option<Arc<str>> {
    (!text.is_empty()).then(|| shared(text))
}

/// Returns a name or uid, which no other object shares.
fn unique(text: &str) -> Arc<str> {
    text.into()
}

impl From<WirePort<'_>> for EndpointPortView {
    fn from(wire: WirePort<'_>) -> Self {
        let protocol = match &*wire.protocol {
            "" => "TCP",
            given => given,
        };
        EndpointPortView {
            name: shared(&wire.name),
            protocol: shared(protocol),
            port: wire.port.and_then(|port| u16::try_from(port).ok()),
            app_protocol: optional(&wire.app_protocol),
        }
    }
}

impl From<WireTarget<'_>> for TargetView {
    fn from(wire: WireTarget<'_>) -> Self {
        TargetView {
            kind: shared(&wire.kind),
            namespace: shared(&wire.namespace),
            name: unique(&wire.name),
            uid: unique(&wire.uid),
        }
    }
}

impl From<WireEndpoint<'_>> for EndpointView {
    fn from(wire: WireEndpoint<'_>) -> Self {
        let names = |names: Vec<WireName<'_>>| names.iter().map(|name| shared(&name.name)).collect();
        let ready = wire.conditions.ready.unwrap_or(true);
        EndpointView {
            addresses: wire.addresses.into(),
            ready,
            serving: wire.conditions.serving.unwrap_or(ready),
            terminating: wire.conditions.terminating.unwrap_or(false),
            hostname: optional(&wire.hostname),
            node: optional(&wire.node_name),
            zone: optional(&wire.zone),
            target: wire.target_ref.map(Into::into),
            for_zones: names(wire.hints.for_zones),
            for_nodes: names(wire.hints.for_nodes),
        }
    }
}

impl From<WireAddress<'_>> for EndpointAddressView {
    fn from(wire: WireAddress<'_>) -> Self {
        EndpointAddressView {
            ip: wire.ip.into(),
            hostname: shared(&wire.hostname),
            node: optional(&wire.node_name),
            target: wire.target_ref.map(Into::into),
        }
    }
}

impl From<WireSubset<'_>> for SubsetView {
    fn from(wire: WireSubset<'_>) -> Self {
        SubsetView {
            addresses: wire.addresses.into_iter().map(Into::into).collect(),
            not_ready: wire.not_ready_addresses.into_iter().map(Into::into).collect(),
            ports: wire.ports.into_iter().map(Into::into).collect(),
        }
    }
}

impl<'de> Deserialize<'de> for EndpointSliceView {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let wire = WireSlice::deserialize(deserializer)?;
        Ok(EndpointSliceView {
            meta: wire.metadata,
            address_type: match &*wire.address_type {
                "IPv6" => AddressType::V6,
                "FQDN" => AddressType::Fqdn,
                _ => AddressType::V4,
            },
            ports: wire.ports.into_iter().map(Into::into).collect(),
            endpoints: wire.endpoints.into_iter().map(Into::into).collect(),
        })
    }
}

impl<'de> Deserialize<'de> for EndpointsView {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let wire = WireEndpoints::deserialize(deserializer)?;
        Ok(EndpointsView {
            meta: wire.metadata,
            subsets: wire.subsets.into_iter().map(Into::into).collect(),
        })
    }
}

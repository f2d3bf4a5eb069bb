//! The view of a Service.

use std::borrow::Cow;
use std::net::IpAddr;
use std::sync::Arc;

use serde::{Deserialize, Deserializer};
use serde_json::Value;

use super::share::shared;
use super::{Labels, ObjectMetaView, View, nullable};

/// An address family.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum IpFamily {
    /// `IPv4`
    V4,
    /// `IPv6`
    V6,
}

impl IpFamily {
    /// Returns the family of an address.
    pub fn of(address: IpAddr) -> Self {
        match address {
            IpAddr::V4(_) => IpFamily::V4,
            IpAddr::V6(_) => IpFamily::V6,
        }
    }

    /// Returns `IPv4` or `IPv6`.
    pub fn as_str(self) -> &'static str {
        match self {
            IpFamily::V4 => "IPv4",
            IpFamily::V6 => "IPv6",
        }
    }
}

/// `spec.type`.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum ServiceType {
    /// A cluster IP, or none (headless). The default.
    #[default]
    ClusterIp,
    /// `ClusterIP`, and a port on every node.
    NodePort,
    /// `NodePort`, and an address from an external load balancer.
    LoadBalancer,
    /// An alias of another DNS name.
    ExternalName,
}

/// `spec.trafficDistribution`.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum TrafficDistribution {
    /// Any endpoint. Also for unknown values.
    #[default]
    Any,
    /// `PreferSameZone`, or its older name `PreferClose`.
    SameZone,
    /// `PreferSameNode`
    SameNode,
}

/// `targetPort` of a port.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum TargetPortView {
    /// A number.
    Number(u16),
    /// The name of a container's port.
    Name(Arc<str>),
}

/// One port of a Service.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ServicePortView {
    /// Its name; may be empty when it is the only port.
    pub name: Arc<str>,
    /// `TCP`, `UDP` or `SCTP`.
    pub protocol: Arc<str>,
    /// The port at the Service's addresses.
    pub port: u16,
    /// The target port of the pods.
    pub target: TargetPortView,
    /// The port on every node; 0 without one.
    pub node_port: u16,
    /// The application protocol.
    pub app_protocol: Option<Arc<str>>,
}

/// The fields of a Service that decisions need.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct ServiceView {
    /// Metadata.
    pub meta: ObjectMetaView,
    /// `spec.type`
    pub kind: ServiceType,
    /// `spec.selector`; `None` when it is absent or empty, because then the endpoints are managed
    /// by others.
    pub selector: Option<Labels>,
    /// `spec.clusterIPs`; empty for a headless Service.
    pub cluster_ips: Box<[IpAddr]>,
    /// Whether `clusterIP` is `None`.
    pub headless: bool,
    /// `spec.ipFamilies`
    pub families: Box<[IpFamily]>,
    /// `spec.ports`
    pub ports: Arc<[ServicePortView]>,
    /// `spec.publishNotReadyAddresses`
    pub publishes_not_ready: bool,
    /// `spec.trafficDistribution`
    pub traffic_distribution: TrafficDistribution,
    /// Whether `internalTrafficPolicy` is `Local`.
    pub internal_local: bool,
    /// Whether `externalTrafficPolicy` is `Local`.
    pub external_local: bool,
    /// Seconds that a client keeps its endpoint (`sessionAffinity: ClientIP`); `None` without
    /// affinity.
    pub affinity_seconds: Option<u32>,
    /// `spec.externalIPs`
    pub external_ips: Box<[IpAddr]>,
    /// The addresses in `status.loadBalancer.ingress`.
    pub load_balancer_ips: Box<[IpAddr]>,
    /// `spec.loadBalancerSourceRanges`: clients that may use those addresses; empty means all.
    pub source_ranges: Box<[Box<str>]>,
    /// `spec.externalName`; empty when absent.
    pub external_name: Box<str>,
}

impl ServiceView {
    /// Returns whether the Service selects pods: it has a selector and is not an ExternalName.
    pub fn selects(&self) -> bool {
        self.selector.is_some() && self.kind != ServiceType::ExternalName
    }
}

impl View for ServiceView {
    const GROUP: &'static str = "";
    const VERSION: &'static str = "v1";
    const KIND: &'static str = "Service";
    const PLURAL: &'static str = "services";
    const NAMESPACED: bool = true;

    fn meta(&self) -> &ObjectMetaView {
        &self.meta
    }
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct WireService<'a> {
    metadata: ObjectMetaView,
    #[serde(borrow, deserialize_with = "nullable")]
    spec: WireSpec<'a>,
    #[serde(borrow, deserialize_with = "nullable")]
    status: WireStatus<'a>,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct WireSpec<'a> {
    #[serde(rename = "type", borrow, deserialize_with = "crate::view::text")]
    kind: Cow<'a, str>,
    selector: Labels,
    #[serde(rename = "clusterIP", borrow, deserialize_with = "crate::view::text")]
    cluster_ip: Cow<'a, str>,
    #[serde(rename = "clusterIPs", deserialize_with = "nullable")]
    cluster_ips: Vec<String>,
    #[serde(deserialize_with = "nullable")]
    ip_families: Vec<String>,
    #[serde(borrow, deserialize_with = "nullable")]
    ports: Vec<WirePort<'a>>,
    #[serde(deserialize_with = "nullable")]
    publish_not_ready_addresses: bool,
    #[serde(borrow, deserialize_with = "crate::view::text")]
    traffic_distribution: Cow<'a, str>,
    #[serde(borrow, deserialize_with = "crate::view::text")]
    internal_traffic_policy: Cow<'a, str>,
    #[serde(borrow, deserialize_with = "crate::view::text")]
    external_traffic_policy: Cow<'a, str>,
    #[serde(borrow, deserialize_with = "crate::view::text")]
    session_affinity: Cow<'a, str>,
    #[serde(deserialize_with = "nullable")]
    session_affinity_config: WireAffinity,
    #[serde(rename = "externalIPs", deserialize_with = "nullable")]
    external_ips: Vec<String>,
    #[serde(deserialize_with = "nullable")]
    load_balancer_source_ranges: Vec<String>,
    #[serde(borrow, deserialize_with = "crate::view::text")]
    external_name: Cow<'a, str>,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct WirePort<'a> {
    #[serde(borrow, deserialize_with = "crate::view::text")]
    name: Cow<'a, str>,
    #[serde(borrow, deserialize_with = "crate::view::text")]
    protocol: Cow<'a, str>,
    #[serde(deserialize_with = "nullable")]
    port: i64,
    target_port: Value,
    #[serde(deserialize_with = "nullable")]
    node_port: i64,
    #[serde(borrow, deserialize_with = "crate::view::text")]
    app_protocol: Cow<'a, str>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct WireAffinity {
    #[serde(rename = "clientIP", deserialize_with = "nullable")]
    client_ip: WireClientIp,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct WireClientIp {
    timeout_seconds: Option<u32>,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct WireStatus<'a> {
    #[serde(borrow, deserialize_with = "nullable")]
    load_balancer: WireLoadBalancer<'a>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct WireLoadBalancer<'a> {
    #[serde(borrow, deserialize_with = "nullable")]
    ingress: Vec<WireIngress<'a>>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct WireIngress<'a> {
    #[serde(borrow, deserialize_with = "crate::view::text")]
    ip: Cow<'a, str>,
}

/// Default of the affinity's timeout: three hours.
const AFFINITY_SECONDS: u32 = 10_800;

fn number(port: i64) -> u16 {
    u16::try_from(port).unwrap_or(0)
}

fn addresses(texts: &[String]) -> Box<[IpAddr]> {
    texts.iter().filter_map(|text| text.parse().ok()).collect()
}

impl From<WirePort<'_>> for ServicePortView {
    fn from(wire: WirePort<'_>) -> Self {
        let port = number(wire.port);
        let target = match &wire.target_port {
            Value::String(name) if !name.is_empty() => TargetPortView::Name(shared(name)),
            Value::Number(target) => TargetPortView::Number(target.as_i64().map_or(port, number)),
            _ => TargetPortView::Number(port),
        };
        let protocol = match &*wire.protocol {
            "" => "TCP",
            given => given,
        };
        ServicePortView {
            name: shared(&wire.name),
            protocol: shared(protocol),
            port,
            target,
            node_port: number(wire.node_port),
            app_protocol: (!wire.app_protocol.is_empty()).then(|| shared(&wire.app_protocol)),
        }
    }
}

impl<'de> Deserialize<'de> for ServiceView {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let WireService {
            metadata,
            spec,
            status,
        } = WireService::deserialize(deserializer)?;
        let kind = match &*spec.kind {
            "NodePort" => ServiceType::NodePort,
            "LoadBalancer" => ServiceType::LoadBalancer,
            "ExternalName" => ServiceType::ExternalName,
            _ => ServiceType::ClusterIp,
        };
        let mut cluster_ips = addresses(&spec.cluster_ips);
        if cluster_ips.is_empty() {
            cluster_ips = spec.cluster_ip.parse().into_iter().collect();
        }
        let family = |text: &String| match text.as_str() {
            "IPv4" => Some(IpFamily::V4),
            "IPv6" => Some(IpFamily::V6),
            _ => None,
        };
        Ok(ServiceView {
            meta: metadata,
            kind,
            selector: (!spec.selector.is_empty()).then_some(spec.selector),
            cluster_ips,
            headless: spec.cluster_ip == "None",
            families: spec.ip_families.iter().filter_map(family).collect(),
            ports: spec.ports.into_iter().map(Into::into).collect(),
            publishes_not_ready: spec.publish_not_ready_addresses,
            traffic_distribution: match &*spec.traffic_distribution {
                "PreferClose" | "PreferSameZone" => TrafficDistribution::SameZone,
                "PreferSameNode" => TrafficDistribution::SameNode,
                _ => TrafficDistribution::Any,
            },
            internal_local: spec.internal_traffic_policy == "Local",
            external_local: spec.external_traffic_policy == "Local",
            affinity_seconds: (spec.session_affinity == "ClientIP").then(|| {
                let client = &spec.session_affinity_config.client_ip;
                client.timeout_seconds.unwrap_or(AFFINITY_SECONDS)
            }),
            external_ips: addresses(&spec.external_ips),
            load_balancer_ips: status
                .load_balancer
                .ingress
                .iter()
                .filter_map(|ingress| ingress.ip.parse().ok())
                .collect(),
            source_ranges: spec
                .load_balancer_source_ranges
                .iter()
                .map(|range| range.trim().into())
                .collect(),
            external_name: spec.external_name.into(),
        })
    }
}

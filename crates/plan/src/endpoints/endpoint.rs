//! A pod's endpoint for a Service, and the Service's ports on the pod.

use std::sync::Arc;

use api::view::{
    AddressType, EndpointPortView, EndpointView, IpFamily, PodView, ServiceView, TargetPortView, TargetView,
    TrafficDistribution,
};

/// Families of a Service's endpoints. A Service without the field (written to an old server) has
/// the family of its address, or both if it is headless.
pub(super) fn families(service: &ServiceView) -> Vec<AddressType> {
    let mut families: Vec<IpFamily> = service.families.to_vec();
    if families.is_empty() {
        families.extend(service.cluster_ips.first().map(|ip| IpFamily::of(*ip)));
    }
    if families.is_empty() {
        families.extend([IpFamily::V4, IpFamily::V6]);
    }
    families.into_iter().map(AddressType::from).collect()
}

/// Returns whether a pod may be an endpoint, terminating or not.
pub(super) fn is_candidate(pod: &PodView) -> bool {
    !pod.is_terminal() && !pod.pod_ips.is_empty()
}

/// The pod's endpoint of a family. `zone` is that of its node, and `None` if the node is unknown:
/// such a pod is omitted unless the Service publishes addresses that are not ready.
pub(super) fn endpoint(
    service: &ServiceView,
    pod: &PodView,
    zone: Option<Option<&Arc<str>>>,
    family: AddressType,
) -> Option<EndpointView> {
    if !is_candidate(pod) || (zone.is_none() && !service.publishes_not_ready) {
        return None;
    }
    let addresses: Box<[Box<str>]> = pod
        .pod_ips
        .iter()
        .filter(|ip| AddressType::from(IpFamily::of(**ip)) == family)
        .map(|ip| ip.to_string().into())
        .collect();
    if addresses.is_empty() {
        return None;
    }
    let (serving, terminating) = (pod.ready.status, pod.is_terminating());
    let ready = service.publishes_not_ready || (serving && !terminating);
    let zone = zone.flatten().cloned();
    let hint = |wanted: bool, of: &Option<Arc<str>>| match wanted && ready {
        true => of.iter().cloned().collect(),
        false => Box::default(),
    };
    let distribution = service.traffic_distribution;
    Some(EndpointView {
        addresses,
        ready,
        serving,
        terminating,
        hostname: hostname(service, pod).cloned(),
        node: pod.node_name.clone(),
        for_zones: hint(distribution != TrafficDistribution::Any, &zone),
        for_nodes: hint(distribution == TrafficDistribution::SameNode, &pod.node_name),
        zone,
        target: Some(target(pod)),
    })
}

/// The reference to a pod.
pub(super) fn target(pod: &PodView) -> TargetView {
    TargetView {
        kind: api::view::shared("Pod"),
        namespace: pod.meta.namespace.clone(),
        name: pod.meta.name.clone(),
        uid: pod.meta.uid.clone(),
    }
}

/// The pod's name below the Service's name: its hostname, if its subdomain is the Service.
pub(super) fn hostname<'p>(service: &ServiceView, pod: &'p PodView) -> Option<&'p Arc<str>> {
    let spec = &pod.spec;
    (!spec.hostname.is_empty() && spec.subdomain == service.meta.name).then_some(&spec.hostname)
}

/// The Service's ports on this pod. A named port that the pod does not have is omitted.
pub(super) fn ports(service: &ServiceView, pod: &PodView) -> Box<[EndpointPortView]> {
    let number = |name: &Arc<str>, protocol: &Arc<str>| {
        let named = pod.spec.named_ports.iter();
        let found = named
            .filter(|port| port.name == *name && port.protocol == *protocol)
            .map(|port| port.port);
        found.into_iter().next()
    };
    service
        .ports
        .iter()
        .filter_map(|port| {
            Some(EndpointPortView {
                name: port.name.clone(),
                protocol: port.protocol.clone(),
                port: Some(match &port.target {
                    TargetPortView::Number(number) => *number,
                    TargetPortView::Name(name) => number(name, &port.protocol)?,
                }),
                app_protocol: port.app_protocol.clone(),
            })
        })
        .collect()
}

/// Ports as a set, whatever their order.
pub(super) fn port_key(ports: &[EndpointPortView]) -> Box<[EndpointPortView]> {
    let mut key: Box<[EndpointPortView]> = ports.into();
    key.sort_unstable();
    key
}

//! Views as JSON, for the agent's saved state.
//!
//! The JSON has the shape of the API's objects, with only the fields of the view. It has no
//! resourceVersion, because nothing can be watched from an old version.

use std::net::IpAddr;

use serde_json::{Map, Value, json};

use super::{
    AddressType, EndpointPortView, EndpointSliceView, EndpointView, IpFamily, NodeNetworkView,
    ObjectMetaView, OwnerView, ServicePortView, ServiceType, ServiceView, TargetPortView, TargetView,
    TrafficDistribution, View,
};

/// A view that can be written as JSON, and parsed to an equal view except for its version and
/// generation.
pub trait Written: View {
    /// Returns an object with the fields of the view.
    fn written(&self) -> Value;
}

impl Written for ServiceView {
    fn written(&self) -> Value {
        let ServiceView {
            meta,
            kind,
            selector,
            cluster_ips,
            headless,
            families,
            ports,
            publishes_not_ready,
            traffic_distribution,
            internal_local,
            external_local,
            affinity_seconds,
            external_ips,
            load_balancer_ips,
            source_ranges,
            external_name,
        } = self;
        let mut spec = Map::new();
        let mut set = |field: &str, value: Value| spec.insert(field.to_owned(), value);
        set("type", service_type(*kind).into());
        if let Some(selector) = selector {
            let pairs = selector.iter();
            set(
                "selector",
                pairs
                    .map(|(key, value)| (key.to_owned(), Value::from(value)))
                    .collect(),
            );
        }
        if *headless {
            set("clusterIP", "None".into());
        }
        set("clusterIPs", addresses(cluster_ips));
        set(
            "ipFamilies",
            families.iter().copied().map(IpFamily::as_str).collect(),
        );
        set("ports", ports.iter().map(service_port).collect());
        set("publishNotReadyAddresses", (*publishes_not_ready).into());
        match traffic_distribution {
            TrafficDistribution::Any => None,
            TrafficDistribution::SameZone => set("trafficDistribution", "PreferSameZone".into()),
            TrafficDistribution::SameNode => set("trafficDistribution", "PreferSameNode".into()),
        };
        for (field, local) in [
            ("internalTrafficPolicy", internal_local),
            ("externalTrafficPolicy", external_local),
        ] {
            if *local {
                set(field, "Local".into());
            }
        }
        if let Some(seconds) = affinity_seconds {
            set("sessionAffinity", "ClientIP".into());
            set(
                "sessionAffinityConfig",
                json!({"clientIP": {"timeoutSeconds": seconds}}),
            );
        }
        set("externalIPs", addresses(external_ips));
        set(
            "loadBalancerSourceRanges",
            source_ranges.iter().map(|range| Value::from(&**range)).collect(),
        );
        set("externalName", (**external_name).into());
        let ingress = load_balancer_ips.iter();
        let ingress: Vec<Value> = ingress.map(|ip| json!({"ip": ip.to_string()})).collect();
        json!({
            "metadata": metadata(meta),
            "spec": spec,
            "status": {"loadBalancer": {"ingress": ingress}},
        })
    }
}

impl Written for EndpointSliceView {
    fn written(&self) -> Value {
        let EndpointSliceView {
            meta,
            address_type,
            ports,
            endpoints,
        } = self;
        let address_type = match address_type {
            AddressType::V4 => "IPv4",
            AddressType::V6 => "IPv6",
            AddressType::Fqdn => "FQDN",
        };
        json!({
            "metadata": metadata(meta),
            "addressType": address_type,
            "ports": ports.iter().map(endpoint_port).collect::<Vec<_>>(),
            "endpoints": endpoints.iter().map(endpoint).collect::<Vec<_>>(),
        })
    }
}

impl Written for NodeNetworkView {
    fn written(&self) -> Value {
        let NodeNetworkView {
            meta,
            pod_cidrs,
            internal_ips,
            external_ips,
        } = self;
        let of_type = |kind: &'static str, ips: &[IpAddr]| -> Vec<Value> {
            let ips = ips.iter();
            ips.map(|ip| json!({"type": kind, "address": ip.to_string()}))
                .collect()
        };
        let internal = of_type("InternalIP", internal_ips);
        let addresses = [internal, of_type("ExternalIP", external_ips)].concat();
        json!({
            "metadata": metadata(meta),
            "spec": {"podCIDRs": texts(pod_cidrs)},
            "status": {"addresses": addresses},
        })
    }
}

fn metadata(meta: &ObjectMetaView) -> Value {
    let ObjectMetaView {
        name,
        namespace,
        uid,
        resource_version: _,
        generation: _,
        labels,
        owners,
        finalizers,
        creation_timestamp,
        deletion_timestamp,
        deletion_grace_period_seconds,
    } = meta;
    let mut written = Map::new();
    let mut set = |field: &str, value: Value| written.insert(field.to_owned(), value);
    set("name", (**name).into());
    set("namespace", (**namespace).into());
    set("uid", (**uid).into());
    if !labels.is_empty() {
        let pairs = labels.iter();
        set(
            "labels",
            pairs
                .map(|(key, value)| (key.to_owned(), Value::from(value)))
                .collect(),
        );
    }
    if let Some(owners) = owners {
        set("ownerReferences", owners.iter().map(owner).collect());
    }
    if let Some(finalizers) = finalizers {
        set("finalizers", texts(finalizers));
    }
    for (field, at) in [
        ("creationTimestamp", creation_timestamp),
        ("deletionTimestamp", deletion_timestamp),
    ] {
        if let Some(at) = at {
            set(field, at.to_string().into());
        }
    }
    if let Some(seconds) = deletion_grace_period_seconds {
        set("deletionGracePeriodSeconds", (*seconds).into());
    }
    written.into()
}

fn owner(owner: &OwnerView) -> Value {
    let OwnerView {
        api_version,
        kind,
        name,
        uid,
        controller,
        block_owner_deletion,
    } = owner;
    json!({
        "apiVersion": **api_version,
        "kind": **kind,
        "name": **name,
        "uid": **uid,
        "controller": controller,
        "blockOwnerDeletion": block_owner_deletion,
    })
}

fn service_type(kind: ServiceType) -> &'static str {
    match kind {
        ServiceType::ClusterIp => "ClusterIP",
        ServiceType::NodePort => "NodePort",
        ServiceType::LoadBalancer => "LoadBalancer",
        ServiceType::ExternalName => "ExternalName",
    }
}

fn service_port(port: &ServicePortView) -> Value {
    let ServicePortView {
        name,
        protocol,
        port,
        target,
        node_port,
        app_protocol,
    } = port;
    let target = match target {
        TargetPortView::Number(number) => Value::from(*number),
        TargetPortView::Name(name) => Value::from(&**name),
    };
    json!({
        "name": **name,
        "protocol": **protocol,
        "port": port,
        "targetPort": target,
        "nodePort": node_port,
        "appProtocol": app_protocol.as_deref(),
    })
}

fn endpoint_port(port: &EndpointPortView) -> Value {
    let EndpointPortView {
        name,
        protocol,
        port,
        app_protocol,
    } = port;
    json!({"name": **name, "protocol": **protocol, "port": port, "appProtocol": app_protocol.as_deref()})
}

fn endpoint(endpoint: &EndpointView) -> Value {
    let EndpointView {
        addresses,
        ready,
        serving,
        terminating,
        hostname,
        node,
        zone,
        target,
        for_zones,
        for_nodes,
    } = endpoint;
    let named = |names: &[std::sync::Arc<str>]| -> Vec<Value> {
        names.iter().map(|name| json!({"name": **name})).collect()
    };
    let target = target.as_ref().map(|target| {
        let TargetView {
            kind,
            namespace,
            name,
            uid,
        } = target;
        json!({"kind": **kind, "namespace": **namespace, "name": **name, "uid": **uid})
    });
    json!({
        "addresses": texts(addresses),
        "conditions": {"ready": ready, "serving": serving, "terminating": terminating},
        "hostname": hostname.as_deref(),
        "nodeName": node.as_deref(),
        "zone": zone.as_deref(),
        "targetRef": target,
        "hints": {"forZones": named(for_zones), "forNodes": named(for_nodes)},
    })
}

fn addresses(addresses: &[IpAddr]) -> Value {
    addresses.iter().map(IpAddr::to_string).collect()
}

fn texts<T: AsRef<str>>(texts: &[T]) -> Value {
    texts.iter().map(|text| Value::from(text.as_ref())).collect()
}

#[cfg(test)]
mod tests {
    use serde::de::DeserializeOwned;

    use super::*;

    /// Parses the view, writes it as text, and parses it again.
    fn check_round_trip<V: Written + DeserializeOwned + PartialEq + std::fmt::Debug>(object: Value) {
        let first: V = serde_json::from_value(object).expect("a view");
        let text = first.written().to_string();
        let again: V = serde_json::from_str(&text).expect("the view again");
        assert_eq!(again, first, "{text}");
    }

    fn meta() -> Value {
        json!({
            "name": "web", "namespace": "shop", "uid": "u-1",
            "labels": {"app": "web", "kubernetes.io/service-name": "web", "empty": ""},
            "ownerReferences": [
                {"apiVersion": "apps/v1", "kind": "DaemonSet", "name": "d", "uid": "u-2", "controller": true},
                {"apiVersion": "v1", "kind": "ConfigMap", "name": "c", "uid": "u-3", "blockOwnerDeletion": true},
            ],
            "finalizers": ["example.org/wait"],
            "creationTimestamp": "2026-02-03T04:05:06Z",
            "deletionTimestamp": "2026-02-03T05:05:06Z",
            "deletionGracePeriodSeconds": 30,
        })
    }

    #[test]
    fn service_round_trips() {
        for kind in ["ClusterIP", "NodePort", "LoadBalancer", "ExternalName"] {
            check_round_trip::<ServiceView>(json!({
                "metadata": meta(),
                "spec": {
                    "type": kind,
                    "selector": {"app": "web"},
                    "clusterIP": "10.96.1.2",
                    "clusterIPs": ["10.96.1.2", "fd00:10:96::7"],
                    "ipFamilies": ["IPv4", "IPv6"],
                    "ports": [
                        {"name": "http", "protocol": "TCP", "port": 80, "targetPort": "web", "nodePort": 30080, "appProtocol": "http"},
                        {"name": "dns", "protocol": "UDP", "port": 53, "targetPort": 5353},
                        {"port": 7, "protocol": "SCTP"},
                    ],
                    "publishNotReadyAddresses": true,
                    "trafficDistribution": "PreferSameNode",
                    "internalTrafficPolicy": "Local",
                    "externalTrafficPolicy": "Local",
                    "sessionAffinity": "ClientIP",
                    "sessionAffinityConfig": {"clientIP": {"timeoutSeconds": 77}},
                    "externalIPs": ["192.0.2.1"],
                    "loadBalancerSourceRanges": ["192.0.2.0/24"],
                    "externalName": "web.example.org",
                },
                "status": {"loadBalancer": {"ingress": [{"ip": "198.51.100.7"}]}},
            }));
        }
        for spec in [
            json!({}),
            json!({"clusterIP": "None", "trafficDistribution": "PreferClose"}),
            json!({"clusterIP": "10.96.1.2", "sessionAffinity": "ClientIP"}),
        ] {
            check_round_trip::<ServiceView>(json!({"metadata": {"name": "s"}, "spec": spec}));
        }
    }

    #[test]
    fn endpoint_slice_round_trips() {
        for family in ["IPv4", "IPv6", "FQDN"] {
            check_round_trip::<EndpointSliceView>(json!({
                "metadata": meta(),
                "addressType": family,
                "ports": [{"name": "http", "protocol": "TCP", "port": 8080, "appProtocol": "http"}, {}],
                "endpoints": [
                    {
                        "addresses": ["10.244.1.2"],
                        "conditions": {"ready": false, "serving": true, "terminating": true},
                        "hostname": "web-0", "nodeName": "n", "zone": "a",
                        "targetRef": {"kind": "Pod", "namespace": "shop", "name": "web-0", "uid": "u-9"},
                        "hints": {"forZones": [{"name": "a"}], "forNodes": [{"name": "n"}]},
                    },
                    {"addresses": ["10.244.1.3", "10.244.1.4"]},
                ],
            }));
        }
    }

    #[test]
    fn node_round_trips() {
        check_round_trip::<NodeNetworkView>(json!({
            "metadata": meta(),
            "spec": {"podCIDRs": ["10.244.3.0/24", "fd00:10:244:3::/64"]},
            "status": {"addresses": [
                {"type": "InternalIP", "address": "192.0.2.7"},
                {"type": "ExternalIP", "address": "198.51.100.7"},
                {"type": "Hostname", "address": "n"},
            ]},
        }));
    }

    #[test]
    fn resource_version_is_not_written() {
        let mut meta = meta();
        meta["resourceVersion"] = "17".into();
        meta["generation"] = 3.into();
        let view: NodeNetworkView = serde_json::from_value(json!({"metadata": meta})).expect("a view");
        let again: NodeNetworkView = serde_json::from_value(view.written()).expect("the view again");
        assert_eq!((again.meta.resource_version, again.meta.generation), (0, 0));
    }
}

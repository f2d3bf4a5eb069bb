//! Reads the objects that names depend on.

use std::sync::Arc;

use api::view::{AddressType, EndpointSliceView, EndpointView, ServiceType, ServiceView};

use super::{Endpoint, Port, Service, Slice};

impl From<&ServiceView> for Service {
    fn from(view: &ServiceView) -> Service {
        let port = |name: &str, protocol: &str, number| Port {
            name: name.to_owned(),
            protocol: protocol.to_ascii_lowercase(),
            number,
        };
        let external = view.kind == ServiceType::ExternalName;
        Service {
            headless: view.headless,
            cluster_ips: match external {
                true => Vec::new(),
                false => view.cluster_ips.to_vec(),
            },
            external_name: external.then(|| view.external_name.to_string()),
            ports: view
                .ports
                .iter()
                .map(|own| port(&own.name, &own.protocol, own.port))
                .collect(),
            publish_not_ready_addresses: view.publishes_not_ready,
        }
    }
}

impl Slice {
    /// The part of a slice that names depend on; `None` if it belongs to no Service, or has names
    /// instead of addresses.
    pub fn of(view: &EndpointSliceView) -> Option<Slice> {
        let service = view.service_name()?;
        if view.address_type == AddressType::Fqdn {
            return None;
        }
        let ports: Arc<[Port]> = view
            .ports
            .iter()
            // A port that stands for all ports has no number.
            .filter_map(|port| {
                Some(Port {
                    name: port.name.to_string(),
                    protocol: port.protocol.to_ascii_lowercase(),
                    number: port.port?,
                })
            })
            .collect();
        Some(Slice {
            service: service.to_owned(),
            ports,
            endpoints: view.endpoints.iter().map(Endpoint::from).collect(),
        })
    }
}

impl From<&EndpointView> for Endpoint {
    fn from(view: &EndpointView) -> Endpoint {
        let text = |text: &Option<Arc<str>>| text.as_deref().map(str::to_owned);
        Endpoint {
            addresses: view
                .addresses
                .iter()
                .filter_map(|address| address.parse().ok())
                .collect(),
            ready: view.ready,
            hostname: text(&view.hostname),
            node: text(&view.node),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_service_is_read_for_its_names() {
        let read = |spec| {
            let view: ServiceView = serde_json::from_value(json!({"spec": spec})).expect("a Service");
            Service::from(&view)
        };
        let port = json!({"name": "dns", "protocol": "UDP", "port": 53});
        let service = read(json!({"clusterIP": "10.96.0.10", "clusterIPs": ["10.96.0.10"], "ports": [port]}));
        assert_eq!(
            service.cluster_ips,
            ["10.96.0.10".parse::<std::net::IpAddr>().unwrap()]
        );
        assert_eq!(
            (service.ports[0].protocol.as_str(), service.ports[0].number),
            ("udp", 53)
        );
        let service =
            read(json!({"clusterIP": "None", "clusterIPs": ["None"], "publishNotReadyAddresses": true}));
        assert!(service.headless && service.publish_not_ready_addresses && service.cluster_ips.is_empty());
        let service = read(json!({"type": "ExternalName", "externalName": "db.example.org"}));
        assert_eq!(service.external_name.as_deref(), Some("db.example.org"));
    }

    #[test]
    fn a_slice_is_read_for_its_names() {
        let read = |labels, kind| {
            let slice = json!({
                "metadata": {"labels": labels},
                "addressType": kind,
                "ports": [{"name": "http", "protocol": "TCP", "port": 80}, {"name": "any"}],
                "endpoints": [
                    {"addresses": ["10.0.0.1"], "nodeName": "n1"},
                    {"addresses": ["10.0.0.2"], "conditions": {"ready": false}, "hostname": "h"},
                ],
            });
            let view: EndpointSliceView = serde_json::from_value(slice).expect("a slice");
            Slice::of(&view)
        };
        let ours = json!({"kubernetes.io/service-name": "web"});
        let slice = read(ours.clone(), "IPv4").expect("a slice of a Service");
        assert_eq!((slice.service.as_str(), slice.ports.len()), ("web", 1));
        assert_eq!(
            slice.endpoints.iter().map(|one| one.ready).collect::<Vec<_>>(),
            [true, false]
        );
        assert_eq!(slice.endpoints[0].node.as_deref(), Some("n1"));
        assert_eq!(slice.endpoints[1].hostname.as_deref(), Some("h"));
        assert_eq!(read(json!({}), "IPv4"), None);
        assert_eq!(read(ours, "FQDN"), None);
    }
}

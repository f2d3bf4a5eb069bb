//! What a Service gets that no other Service has: a cluster address, node ports.

use std::collections::BTreeSet;
use std::net::Ipv4Addr;

use api::field_error::{FieldError, Path};
use api::kinds::Kind;
use api::kinds::core::service::set_cluster_ip;
use api::meta;
use api::status::Status;
use serde_json::{Value, json};

use crate::objects;
use crate::shared::{SERVICE_NETWORK, Shared};

/// Kubernetes' range of node ports.
const NODE_PORTS: std::ops::RangeInclusive<u16> = 30_000..=32_767;
/// The address of a Service that wants none.
const HEADLESS: &str = "None";
/// Addresses are handed out from here on, so that the lower ones stay free for Services that name theirs.
const FIRST_DYNAMIC_OFFSET: u32 = 256;

pub(crate) fn is_service(kind: &Kind) -> bool {
    kind.group.is_empty() && kind.kind == "Service"
}

/// Gives a Service its addresses and ports; those that `old` (null for a new Service) had are kept. 422 for one
/// that another Service has.
pub(crate) fn allocate(
    shared: &Shared,
    kind: &'static Kind,
    service: &mut Value,
    old: &Value,
) -> Result<(), Status> {
    let ty = service["spec"]["type"].as_str().unwrap_or("ClusterIP").to_owned();
    let own = objects::key(kind, meta::namespace(service), meta::name(service));
    if ty != "ExternalName" {
        cluster_address(shared, kind, service, old, own.as_str())?;
    }
    if matches!(ty.as_str(), "NodePort" | "LoadBalancer") {
        node_ports(shared, kind, service, old, own.as_str())?;
    }
    Ok(())
}

fn cluster_address(
    shared: &Shared,
    kind: &'static Kind,
    service: &mut Value,
    old: &Value,
    own: &str,
) -> Result<(), Status> {
    let text = |value: &Value| value["spec"]["clusterIP"].as_str().unwrap_or_default().to_owned();
    let (given, before) = (text(service), text(old));
    let address = match given.as_str() {
        "" if !before.is_empty() => before,
        "" => free_address(&used_addresses(shared, kind, own))
            .ok_or_else(|| Status::internal("failed to allocate a serviceIP: range is full"))?
            .to_string(),
        HEADLESS => given,
        same if same == before => given,
        wanted => {
            let refuse = |why: &str| {
                let spec = Path::Root("spec");
                let why = format!("failed to allocate IP {wanted}: {why}");
                let error = FieldError::invalid(&spec.child("clusterIPs"), json!([wanted]), why);
                Err(Status::invalid(kind, meta::name(service), &[error]))
            };
            if !wanted.parse().is_ok_and(is_service_address) {
                let (network, bits) = SERVICE_NETWORK;
                return refuse(&format!(
                    "the provided IP ({wanted}) is not in the valid range. The range of valid IPs is {}/{bits}",
                    Ipv4Addr::from(network)
                ));
            }
            if used_addresses(shared, kind, own).contains(wanted) {
                return refuse("provided IP is already allocated");
            }
            given
        }
    };
    set_cluster_ip(service, &address);
    Ok(())
}

fn services<'a>(
    shared: &Shared,
    kind: &'static Kind,
    own: &'a str,
) -> impl Iterator<Item = std::sync::Arc<objects::Object>> + use<'a> {
    let all: Vec<_> = shared
        .objects
        .list(&objects::prefix(kind, ""))
        .iter()
        .cloned()
        .collect();
    all.into_iter().filter(move |object| object.key.as_str() != own)
}

fn used_addresses(shared: &Shared, kind: &'static Kind, own: &str) -> BTreeSet<String> {
    let at = kind.selectable.iter().position(|path| *path == "spec.clusterIP");
    services(shared, kind, own)
        .filter_map(|object| Some(object.attributes.attributes.field(at?).to_owned()))
        .filter(|address| !address.is_empty() && address != HEADLESS)
        .collect()
}

/// Whether a Service may have this address.
fn is_service_address(address: Ipv4Addr) -> bool {
    let (network, bits) = SERVICE_NETWORK;
    u32::from(address) >> (32 - u32::from(bits)) == network >> (32 - u32::from(bits))
}

/// The lowest free address of the dynamic part of the range, else of the whole.
fn free_address(used: &BTreeSet<String>) -> Option<Ipv4Addr> {
    let (network, bits) = SERVICE_NETWORK;
    let size = 1_u32 << (32 - u32::from(bits));
    // Neither the network's own address nor its broadcast address.
    let offsets = (FIRST_DYNAMIC_OFFSET..size - 1).chain(1..FIRST_DYNAMIC_OFFSET);
    offsets
        .map(|offset| Ipv4Addr::from(network + offset))
        .find(|address| !used.contains(&address.to_string()))
}

fn node_ports(
    shared: &Shared,
    kind: &'static Kind,
    service: &mut Value,
    old: &Value,
    own: &str,
) -> Result<(), Status> {
    let mut used: BTreeSet<(String, u16)> = BTreeSet::new();
    for object in services(shared, kind, own) {
        let other = objects::value(kind, &object.body)?;
        used.extend(
            ports(&other)
                .iter()
                .filter_map(|port| Some((protocol(port), node_port(port)?))),
        );
    }
    let name = meta::name(service).to_owned();
    let old_ports = ports(old).to_vec();
    let Some(list) = service["spec"]["ports"].as_array_mut() else {
        return Ok(());
    };
    // What is named comes first, so that no port without a name takes it.
    for (index, port) in list.iter().enumerate() {
        let Some(wanted) = node_port(port) else { continue };
        let had = old_ports.iter().any(|old| node_port(old) == Some(wanted));
        let why = if !used.insert((protocol(port), wanted)) {
            "provided port is already allocated".to_owned()
        } else if !had && !NODE_PORTS.contains(&wanted) {
            format!(
                "provided port is not in the valid range. The range of valid ports is {}-{}",
                NODE_PORTS.start(),
                NODE_PORTS.end()
            )
        } else {
            continue;
        };
        let spec = Path::Root("spec");
        let path = spec.child("ports");
        let error = FieldError::invalid(&path.index(index).child("nodePort"), wanted, why);
        return Err(Status::invalid(kind, &name, &[error]));
    }
    for port in list.iter_mut().filter(|port| node_port(port).is_none()) {
        let protocol = protocol(port);
        let same = old_ports
            .iter()
            .find(|old| old["port"] == port["port"] && self::protocol(old) == protocol);
        let kept = same
            .and_then(node_port)
            .filter(|number| !used.contains(&(protocol.clone(), *number)));
        let free = || {
            NODE_PORTS
                .clone()
                .find(|number| !used.contains(&(protocol.clone(), *number)))
        };
        let number = kept
            .or_else(free)
            .ok_or_else(|| Status::internal("failed to allocate a nodePort: range is full"))?;
        used.insert((protocol, number));
        port["nodePort"] = number.into();
    }
    Ok(())
}

fn ports(service: &Value) -> &[Value] {
    service["spec"]["ports"]
        .as_array()
        .map(Vec::as_slice)
        .unwrap_or_default()
}

fn protocol(port: &Value) -> String {
    port["protocol"].as_str().unwrap_or("TCP").to_owned()
}

fn node_port(port: &Value) -> Option<u16> {
    port["nodePort"]
        .as_u64()
        .and_then(|number| u16::try_from(number).ok())
        .filter(|number| *number != 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_handed_out_above_the_reserved_ones() {
        let mut used = BTreeSet::new();
        assert_eq!(free_address(&used), Some(Ipv4Addr::new(10, 96, 1, 0)));
        used.insert("10.96.1.0".to_owned());
        assert_eq!(free_address(&used), Some(Ipv4Addr::new(10, 96, 1, 1)));
    }

    #[test]
    fn range_of_services_has_its_ends() {
        for (address, inside) in [
            ("10.96.0.1", true),
            ("10.111.255.254", true),
            ("10.112.0.0", false),
            ("1.2.3.4", false),
        ] {
            assert_eq!(is_service_address(address.parse().unwrap()), inside, "{address}");
        }
    }
}

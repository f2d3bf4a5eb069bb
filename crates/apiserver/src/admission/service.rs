//! What a Service gets that no other Service has: a cluster address, node ports.

use std::collections::BTreeSet;
use std::net::Ipv4Addr;
use std::sync::atomic::Ordering;

use api::field_error::{FieldError, Path};
use api::kinds::Kind;
use api::kinds::core::service::set_cluster_ip;
use api::meta;
use api::status::Status;
use serde_json::{Value, json};

use crate::objects::{self, INDEX_CLUSTER_IP};
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
        one_family(kind, service)?;
        cluster_address(shared, kind, service, old, own.as_str())?;
    }
    if matches!(ty.as_str(), "NodePort" | "LoadBalancer") {
        node_ports(shared, kind, service, old, own.as_str())?;
    }
    Ok(())
}

/// Service addresses are of one family: 422 for a Service that must have more, or another.
fn one_family(kind: &'static Kind, service: &Value) -> Result<(), Status> {
    let path = &Path::Root("spec");
    let refuse = |error| Err(Status::invalid(kind, meta::name(service), &[error]));
    let spec = &service["spec"];
    let is_selectorless = spec["selector"].as_object().is_none_or(serde_json::Map::is_empty);
    // Whoever gives endpoints to a headless Service by hand decides their family.
    if spec["clusterIP"] == HEADLESS && is_selectorless {
        return Ok(());
    }
    if spec["ipFamilyPolicy"] == "RequireDualStack" {
        let detail = "this cluster is not configured for dual-stack services";
        let policy = path.child("ipFamilyPolicy");
        return refuse(FieldError::invalid(&policy, "RequireDualStack", detail));
    }
    let families = spec["ipFamilies"].as_array().into_iter().flatten();
    for (index, family) in families.enumerate() {
        if family == "IPv6" {
            let families = path.child("ipFamilies");
            let detail = "not configured on this cluster";
            return refuse(FieldError::invalid(&families.index(index), "IPv6", detail));
        }
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
        "" => {
            let cursor = shared.service_cursor.load(Ordering::Relaxed);
            let free = free_offset(cursor, |address| is_used(shared, kind, own, address))
                .ok_or_else(|| Status::internal("failed to allocate a serviceIP: range is full"))?;
            // Allocations come one after the other, so no two look from the same place.
            shared.service_cursor.store(free + 1, Ordering::Relaxed);
            address_at(free).to_string()
        }
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
            if is_used(shared, kind, own, wanted) {
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

/// Whether another Service has this address.
fn is_used(shared: &Shared, kind: &'static Kind, own: &str, address: &str) -> bool {
    let holders = shared
        .objects
        .list_where(&objects::prefix(kind, ""), INDEX_CLUSTER_IP, address);
    holders.iter().any(|object| object.key.as_str() != own)
}

/// Whether a Service may have this address.
fn is_service_address(address: Ipv4Addr) -> bool {
    let (network, bits) = SERVICE_NETWORK;
    u32::from(address) >> (32 - u32::from(bits)) == network >> (32 - u32::from(bits))
}

fn address_at(offset: u32) -> Ipv4Addr {
    Ipv4Addr::from(SERVICE_NETWORK.0 + offset)
}

/// The offset of a free address: of the dynamic part of the range, from `cursor` on and around, else of the rest.
fn free_offset(cursor: u32, is_used: impl Fn(&str) -> bool) -> Option<u32> {
    let size = 1_u32 << (32 - u32::from(SERVICE_NETWORK.1));
    // Neither the network's own address nor its broadcast address.
    let last = size - 1;
    let cursor = cursor.clamp(FIRST_DYNAMIC_OFFSET, last);
    let mut offsets = (cursor..last)
        .chain(FIRST_DYNAMIC_OFFSET..cursor)
        .chain(1..FIRST_DYNAMIC_OFFSET);
    offsets.find(|offset| !is_used(&address_at(*offset).to_string()))
}

fn node_ports(
    shared: &Shared,
    kind: &'static Kind,
    service: &mut Value,
    old: &Value,
    own: &str,
) -> Result<(), Status> {
    let mut used: BTreeSet<(String, u16)> = BTreeSet::new();
    let at = kind.selectable.iter().position(|path| *path == "spec.type");
    for object in services(shared, kind, own) {
        let ty = at.map(|at| object.attributes.attributes.field(at));
        if !matches!(ty, Some("NodePort" | "LoadBalancer")) {
            continue;
        }
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
    fn addresses_are_handed_out_above_the_reserved_ones_and_around() {
        let free = |cursor, used: &[&str]| {
            let offset = free_offset(cursor, |address| used.contains(&address));
            offset.map(|offset| address_at(offset).to_string())
        };
        assert_eq!(free(0, &[]).as_deref(), Some("10.96.1.0"));
        assert_eq!(free(0, &["10.96.1.0"]).as_deref(), Some("10.96.1.1"));
        assert_eq!(free(300, &[]).as_deref(), Some("10.96.1.44"));
        assert_eq!(free(u32::MAX, &[]).as_deref(), Some("10.96.1.0"));
        assert_eq!(free_offset(0, |address| address != "10.96.0.9"), Some(9));
        assert_eq!(free_offset(0, |_| true), None);
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

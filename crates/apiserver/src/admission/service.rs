//! Allocation of cluster addresses and node ports, which no two Services share.

mod taken;

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::PoisonError;

use api::field_error::{FieldError, Path};
use api::kinds::Kind;
use api::kinds::core::service::families;
use api::meta;
use api::status::Status;
use serde_json::Value;
use store::Key;

use self::taken::NODE_PORTS;
pub(crate) use self::taken::Taken;
use crate::objects;
use crate::service_ranges::ServiceRanges;
use crate::shared::Shared;

pub(crate) fn is_service(kind: &Kind) -> bool {
    kind.group.is_empty() && kind.kind == "Service"
}

/// Allocates the addresses and ports of a Service. It keeps those in `old`, which is null for a new
/// Service. Returns 422 for one that another Service has, or for a family that the cluster does not
/// have.
pub(crate) fn allocate(
    shared: &Shared,
    kind: &'static Kind,
    service: &mut Value,
    old: &Value,
) -> Result<(), Status> {
    let ty = service["spec"]["type"].as_str().unwrap_or("ClusterIP").to_owned();
    let own = objects::key(kind, meta::namespace(service), meta::name(service));
    let mut taken = shared
        .services_taken
        .lock()
        .unwrap_or_else(PoisonError::into_inner);
    taken.follow(&shared.objects);
    if ty != "ExternalName" {
        let settled = families::settle(service, old, &shared.service_ranges.families());
        settled.map_err(|errors| Status::invalid(kind, meta::name(service), &errors))?;
        let given = cluster_addresses(&mut taken, &shared.service_ranges, service, old, &own);
        let addresses = given.map_err(|refused| refused.status(kind, service))?;
        families::set_addresses(service, &addresses);
    }
    if matches!(ty.as_str(), "NodePort" | "LoadBalancer") {
        node_ports(&taken, kind, service, old, &own)?;
    }
    Ok(())
}

/// Why a Service gets no address.
enum Refused {
    /// The requested address, and why the Service cannot have it.
    Asked(String, String),
    /// No address of the family is left.
    Full,
}

impl Refused {
    fn status(self, kind: &Kind, service: &Value) -> Status {
        match self {
            Refused::Asked(address, why) => {
                let why = format!("failed to allocate IP {address}: {why}");
                let asked = service["spec"]["clusterIPs"].clone();
                let error = FieldError::invalid(&Path::Root("spec").child("clusterIPs"), asked, why);
                Status::invalid(kind, meta::name(service), &[error])
            }
            Refused::Full => Status::internal("failed to allocate a serviceIP: range is full"),
        }
    }
}

/// Returns an address for each of the Service's families: the one it had, the one it requests, or a
/// free one. Empty for a headless Service.
fn cluster_addresses(
    taken: &mut Taken,
    ranges: &ServiceRanges,
    service: &Value,
    old: &Value,
    own: &Key,
) -> Result<Vec<String>, Refused> {
    let spec = &service["spec"];
    if families::is_headless(spec) {
        return Ok(Vec::new());
    }
    let had = families::addresses(&old["spec"]);
    let asked: Vec<&str> = spec["clusterIPs"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(Value::as_str)
        .collect();
    let mut addresses = Vec::new();
    for (index, family) in families::families(spec).into_iter().enumerate() {
        let Some(address) = asked.get(index) else {
            let range = ranges.of(family).ok_or(Refused::Full)?;
            let free = taken.next_address(range).ok_or(Refused::Full)?;
            addresses.push(free.to_string());
            continue;
        };
        let refused = |why: &str| Err(Refused::Asked((*address).to_owned(), why.to_owned()));
        let parsed: Option<IpAddr> = address.parse().ok();
        let is_own = parsed.is_some_and(|parsed| had.contains(&parsed));
        if !is_own && !parsed.is_some_and(|parsed| ranges.contain(parsed)) {
            let range = ranges.of(family).map(ToString::to_string).unwrap_or_default();
            return refused(&format!(
                "the provided IP ({address}) is not in the valid range. The range of valid IPs is {range}"
            ));
        }
        if !is_own && parsed.is_some_and(|parsed| taken.has_address(parsed, own)) {
            return refused("provided IP is already allocated");
        }
        addresses.push((*address).to_owned());
    }
    Ok(addresses)
}

fn node_ports(
    taken: &Taken,
    kind: &'static Kind,
    service: &mut Value,
    old: &Value,
    own: &Key,
) -> Result<(), Status> {
    let name = meta::name(service).to_owned();
    let old_ports = ports(old).to_vec();
    let Some(list) = service["spec"]["ports"].as_array_mut() else {
        return Ok(());
    };
    // Ports that this Service has so far.
    let mut used: BTreeSet<(String, u16)> = BTreeSet::new();
    let is_used = |used: &BTreeSet<(String, u16)>, protocol: &str, number: u16| {
        used.contains(&(protocol.to_owned(), number)) || taken.has_port(protocol, number, own)
    };
    // Requested ports come first, so that they are not allocated to a port without a request.
    for (index, port) in list.iter().enumerate() {
        let Some(wanted) = node_port(port) else { continue };
        let had = old_ports.iter().any(|old| node_port(old) == Some(wanted));
        let why = if is_used(&used, &protocol(port), wanted) {
            "provided port is already allocated".to_owned()
        } else if !had && !NODE_PORTS.contains(&wanted) {
            format!(
                "provided port is not in the valid range. The range of valid ports is {}-{}",
                NODE_PORTS.start(),
                NODE_PORTS.end()
            )
        } else {
            used.insert((protocol(port), wanted));
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
        let is_free = |number: &u16| !is_used(&used, &protocol, *number);
        let kept = same.and_then(node_port).filter(is_free);
        let number = kept
            .or_else(|| NODE_PORTS.clone().find(is_free))
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

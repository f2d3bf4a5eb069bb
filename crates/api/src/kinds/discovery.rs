//! `discovery.k8s.io/v1` EndpointSlice: endpoints of a Service.

use serde_json::Value;

use crate::default;
use crate::field_error::{FieldError, Path};
use crate::kinds::core::endpoints::endpoint_address;
use crate::kinds::{AGE, Kind, NAME, Strategy, column, row};
use crate::meta;
use crate::print;
use crate::validate::field::{
    PORTS, check_immutable, check_name, check_number, check_one_of, list, text, texts,
};
use crate::validate::name;

const MAX_ENDPOINTS: usize = 1000;
const MAX_PORTS: usize = 20000;
const MAX_ADDRESSES: usize = 100;
/// Most ports or addresses in a table's cell. The rest are counted.
const SHOWN: usize = 3;

/// The row of EndpointSlice.
pub static ENDPOINT_SLICE: Kind = Kind {
    columns: &[
        NAME,
        column(
            "AddressType",
            "The type of address carried by this EndpointSlice.",
        ),
        column(
            "Ports",
            "The list of network ports exposed by each endpoint in this slice.",
        ),
        column("Endpoints", "The list of unique endpoints in this slice."),
        AGE,
    ],
    strategy: Strategy {
        default,
        generation: true,
        update,
        rules,
        update_rules: |new, old, errors| {
            rules(new, errors);
            check_immutable(
                &new["addressType"],
                &old["addressType"],
                &Path::Root("addressType"),
                errors,
            );
        },
        row: |object, now| {
            vec![
                meta::name(object).into(),
                text(object, "addressType").into(),
                ports(object).into(),
                endpoints(object).into(),
                print::age(object, now),
            ]
        },
        ..BASE.strategy
    },
    ..BASE
};

const BASE: Kind = row(
    "discovery.k8s.io",
    "v1",
    "EndpointSlice",
    "endpointslices",
    "endpointslice",
);

fn ports(object: &Value) -> String {
    let ports = list(object, "ports");
    if ports.is_empty() {
        return "<unset>".to_owned();
    }
    let shown = ports.iter().map(|port| match port["port"].as_i64() {
        Some(number) => number.to_string(),
        None => "*".to_owned(),
    });
    shorten(shown.collect())
}

fn endpoints(object: &Value) -> String {
    let addresses: Vec<String> = list(object, "endpoints")
        .iter()
        .flat_map(|endpoint| texts(endpoint, "addresses"))
        .map(str::to_owned)
        .collect();
    if addresses.is_empty() {
        "<unset>".to_owned()
    } else {
        shorten(addresses)
    }
}

/// Returns the first texts, joined by commas, and the number of the others.
pub(crate) fn shorten(mut texts: Vec<String>) -> String {
    let more = texts.len().saturating_sub(SHOWN);
    texts.truncate(SHOWN);
    let shown = texts.join(",");
    if more > 0 {
        format!("{shown} + {more} more...")
    } else {
        shown
    }
}

fn default(object: &mut Value) {
    let Some(fields) = object.as_object_mut() else {
        return;
    };
    for port in default::items(fields, "ports") {
        default::set_missing(port, "name", || "".into());
        default::set_text(port, "protocol", "TCP");
    }
}

/// A slice has no spec, so any change of its content increments the generation.
fn update(new: &mut Value, old: &Value) {
    let changed = ["endpoints", "ports", "addressType"]
        .iter()
        .any(|field| new[*field] != old[*field])
        || meta::labels(new) != meta::labels(old);
    if changed {
        meta::set_generation(new, meta::generation(old) + 1);
    }
}

fn rules(object: &Value, errors: &mut Vec<FieldError>) {
    let root = &Path::Root("");
    let family = text(object, "addressType");
    check_one_of(object, "addressType", &["FQDN", "IPv4", "IPv6"], root, errors);
    let path = root.child("endpoints");
    let endpoints = list(object, "endpoints");
    if endpoints.len() > MAX_ENDPOINTS {
        errors.push(FieldError::too_many(&path, endpoints.len(), MAX_ENDPOINTS));
    }
    for (index, endpoint) in endpoints.iter().enumerate() {
        endpoint_rules(endpoint, family, &path.index(index), errors);
    }
    let path = root.child("ports");
    let ports = list(object, "ports");
    if ports.len() > MAX_PORTS {
        errors.push(FieldError::too_many(&path, ports.len(), MAX_PORTS));
    }
    for (index, port) in ports.iter().enumerate() {
        let path = &path.index(index);
        let found = text(port, "name");
        if !found.is_empty() {
            check_name(found, name::dns_label, &path.child("name"), errors);
        }
        if ports[..index].iter().any(|before| text(before, "name") == found) {
            errors.push(FieldError::duplicate(&path.child("name"), found));
        }
        check_one_of(port, "protocol", &["SCTP", "TCP", "UDP"], path, errors);
        if let Some(number) = port["port"].as_i64() {
            check_number(number, PORTS, &path.child("port"), errors);
        }
    }
}

fn endpoint_rules(endpoint: &Value, family: &str, path: &Path<'_>, errors: &mut Vec<FieldError>) {
    let addresses = list(endpoint, "addresses");
    let addresses_path = path.child("addresses");
    if addresses.is_empty() {
        errors.push(FieldError::required(
            &addresses_path,
            "must contain at least 1 address",
        ));
    } else if addresses.len() > MAX_ADDRESSES {
        errors.push(FieldError::too_many(
            &addresses_path,
            addresses.len(),
            MAX_ADDRESSES,
        ));
    }
    for (index, address) in texts(endpoint, "addresses").enumerate() {
        let path = &addresses_path.index(index);
        match family {
            "IPv4" if address.parse::<std::net::Ipv4Addr>().is_err() => {
                errors.push(FieldError::invalid(path, address, "must be a valid IPv4 address"));
            }
            "IPv6" if address.parse::<std::net::Ipv6Addr>().is_err() => {
                errors.push(FieldError::invalid(path, address, "must be a valid IPv6 address"));
            }
            "FQDN" => check_name(address, name::dns_subdomain, path, errors),
            "IPv4" | "IPv6" => endpoint_address(address, path, errors),
            _ => {}
        }
    }
    if let Some(node) = endpoint["nodeName"].as_str() {
        check_name(node, name::dns_subdomain, &path.child("nodeName"), errors);
    }
    if let Some(host) = endpoint["hostname"].as_str() {
        check_name(host, name::dns_label, &path.child("hostname"), errors);
    }
}

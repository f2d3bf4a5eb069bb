//! `v1` Endpoints: the older form of a Service's endpoints.

use std::net::IpAddr;

use serde_json::Value;

use crate::default;
use crate::field_error::{FieldError, Path};
use crate::kinds::{AGE, Kind, NAME, Strategy, column, row};
use crate::meta;
use crate::print;
use crate::validate::field::{PORTS, check_name, check_number, check_one_of, list, text};
use crate::validate::name;

/// Most endpoints in a table's cell. The rest are counted.
const SHOWN: usize = 3;

/// The row of the registry.
pub static KIND: Kind = Kind {
    short_names: &["ep"],
    columns: &[
        NAME,
        column("Endpoints", "The addresses and ports of the endpoints."),
        AGE,
    ],
    create_on_update: true,
    strategy: Strategy {
        default,
        rules,
        update_rules: |new, _, errors| rules(new, errors),
        row: |object, now| {
            vec![
                meta::name(object).into(),
                print::or_none(&endpoints(object)),
                print::age(object, now),
            ]
        },
        ..BASE.strategy
    },
    ..BASE
};

const BASE: Kind = row("", "v1", "Endpoints", "endpoints", "endpoints");

fn default(object: &mut Value) {
    let Some(fields) = object.as_object_mut() else {
        return;
    };
    for subset in default::items(fields, "subsets") {
        default::items(subset, "ports").for_each(|port| default::set_text(port, "protocol", "TCP"));
    }
}

fn endpoints(object: &Value) -> String {
    let mut shown: Vec<String> = Vec::new();
    let mut count = 0;
    for subset in list(object, "subsets") {
        let (addresses, ports) = (list(subset, "addresses"), list(subset, "ports"));
        count += addresses.len() * ports.len().max(1);
        for address in addresses {
            let ip = text(address, "ip");
            if ports.is_empty() {
                shown.push(ip.to_owned());
            }
            for port in ports {
                let number = port["port"].as_i64().unwrap_or_default();
                shown.push(if ip.contains(':') {
                    format!("[{ip}]:{number}")
                } else {
                    format!("{ip}:{number}")
                });
            }
            if shown.len() >= SHOWN {
                break;
            }
        }
    }
    shown.truncate(SHOWN);
    let more = count - shown.len().min(count);
    let shown = shown.join(",");
    if more > 0 {
        format!("{shown} + {more} more...")
    } else {
        shown
    }
}

fn rules(object: &Value, errors: &mut Vec<FieldError>) {
    let path = Path::Root("subsets");
    for (index, subset) in list(object, "subsets").iter().enumerate() {
        let path = &path.index(index);
        if list(subset, "addresses").is_empty() && list(subset, "notReadyAddresses").is_empty() {
            let detail = "must specify `addresses` or `notReadyAddresses`";
            errors.push(FieldError::required(path, detail));
        }
        for field in ["addresses", "notReadyAddresses"] {
            let path = path.child(field);
            for (index, address) in list(subset, field).iter().enumerate() {
                let path = path.index(index);
                endpoint_address(text(address, "ip"), &path.child("ip"), errors);
            }
        }
        let ports = list(subset, "ports");
        let ports_path = path.child("ports");
        for (index, port) in ports.iter().enumerate() {
            let path = &ports_path.index(index);
            match text(port, "name") {
                "" if ports.len() > 1 => errors.push(FieldError::required(&path.child("name"), "")),
                "" => {}
                found => check_name(found, name::dns_label, &path.child("name"), errors),
            }
            check_number(
                port["port"].as_i64().unwrap_or_default(),
                PORTS,
                &path.child("port"),
                errors,
            );
            check_one_of(port, "protocol", &["SCTP", "TCP", "UDP"], path, errors);
        }
    }
}

/// Validates that other machines can use an address: it is not unspecified, loopback or link-local.
pub(in crate::kinds) fn endpoint_address(text: &str, path: &Path<'_>, errors: &mut Vec<FieldError>) {
    let before = errors.len();
    check_name(text, name::ip, path, errors);
    let Ok(address) = text.parse::<IpAddr>() else {
        return;
    };
    if errors.len() > before {
        return;
    }
    let (link_local, link_local_multicast) = match address {
        IpAddr::V4(v4) => (v4.is_link_local(), v4.octets()[..3] == [224, 0, 0]),
        IpAddr::V6(v6) => (v6.is_unicast_link_local(), v6.segments()[0] & 0xff0f == 0xff02),
    };
    let ranges = [
        (address.is_unspecified(), "may not be unspecified (0.0.0.0 or ::)"),
        (
            address.is_loopback(),
            "may not be in the loopback range (127.0.0.0/8, ::1/128)",
        ),
        (
            link_local,
            "may not be in the link-local range (169.254.0.0/16, fe80::/10)",
        ),
        (
            link_local_multicast,
            "may not be in the link-local multicast range (224.0.0.0/24, ff02::/10)",
        ),
    ];
    for (is_inside, detail) in ranges {
        if is_inside {
            errors.push(FieldError::invalid(path, text, detail));
        }
    }
}

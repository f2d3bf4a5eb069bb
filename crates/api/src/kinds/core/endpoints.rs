//! `v1` Endpoints: the older form of where a Service's traffic goes.

use serde_json::Value;

use crate::default;
use crate::field_error::{FieldError, Path};
use crate::kinds::{AGE, Kind, NAME, Strategy, column, row};
use crate::meta;
use crate::print;
use crate::validate::field::{PORTS, check_name, check_number, check_one_of, list, text};
use crate::validate::name;

/// How many endpoints a table's cell names before it counts the rest.
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
                check_name(text(address, "ip"), name::ip, &path.child("ip"), errors);
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

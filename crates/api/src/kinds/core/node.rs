//! `v1` Node: a machine that runs pods.

use serde_json::Value;

use crate::field_error::{FieldError, Path};
use crate::kinds::{AGE, Column, Kind, NAME, StatusField, Strategy, column, proxy_of, row, status_of, wide};
use crate::meta;
use crate::print;
use crate::validate::field::{check_name, flag, list, text, texts};
use crate::validate::{name, resources, taint};

const ROLE_PREFIX: &str = "node-role.kubernetes.io/";
const ROLE_LABEL: &str = "kubernetes.io/role";

/// The row of the registry.
pub static KIND: Kind = Kind {
    short_names: &["no"],
    namespaced: false,
    subresources: &[proxy_of("NodeProxyOptions"), status_of(("", "v1", "Node"))],
    selectable: &["spec.unschedulable"],
    columns: COLUMNS,
    strategy: Strategy {
        status: StatusField::GivenAtCreate,
        rules,
        update_rules,
        status_rules: |new, _, errors| status(new, errors),
        field: |object, path| {
            (path == "spec.unschedulable").then(|| flag(&object["spec"], "unschedulable").to_string())
        },
        row: table_row,
        ..BASE.strategy
    },
    ..BASE
};

const BASE: Kind = row("", "v1", "Node", "nodes", "node");

const COLUMNS: &[Column] = &[
    NAME,
    column("Status", "The status of the node"),
    column("Roles", "The roles of the node"),
    AGE,
    column("Version", "Kubelet Version reported by the node."),
    wide("Internal-IP", "The address of the node inside the cluster."),
    wide("External-IP", "The address of the node outside the cluster."),
    wide("OS-Image", "OS Image reported by the node."),
    wide("Kernel-Version", "Kernel Version reported by the node."),
    wide(
        "Container-Runtime",
        "ContainerRuntime Version reported by the node.",
    ),
];

fn table_row(object: &Value, now: jiff::Timestamp) -> Vec<Value> {
    let info = &object["status"]["nodeInfo"];
    let or_unknown = |text: &str| match text {
        "" => Value::from("<unknown>"),
        text => text.into(),
    };
    let (kernel, architecture) = (text(info, "kernelVersion"), text(info, "architecture"));
    let kernel = match (kernel, architecture) {
        ("", _) | (_, "") => kernel.to_owned(),
        _ => format!("{kernel} ({architecture})"),
    };
    vec![
        meta::name(object).into(),
        status_text(object).into(),
        print::joined(roles(object)),
        print::age(object, now),
        text(info, "kubeletVersion").into(),
        print::or_none(address(object, "InternalIP")),
        print::or_none(address(object, "ExternalIP")),
        or_unknown(text(info, "osImage")),
        or_unknown(&kernel),
        or_unknown(text(info, "containerRuntimeVersion")),
    ]
}

fn status_text(object: &Value) -> String {
    let ready = list(&object["status"], "conditions")
        .iter()
        .find(|condition| text(condition, "type") == "Ready");
    let mut status = match ready.map(|condition| text(condition, "status")) {
        Some("True") => "Ready",
        Some(_) => "NotReady",
        None => "Unknown",
    }
    .to_owned();
    if flag(&object["spec"], "unschedulable") {
        status.push_str(",SchedulingDisabled");
    }
    status
}

fn roles(object: &Value) -> Vec<&str> {
    let mut roles: Vec<&str> = meta::labels(object)
        .into_iter()
        .flatten()
        .filter_map(|(key, value)| match key.strip_prefix(ROLE_PREFIX) {
            Some(role) => Some(role),
            None if key == ROLE_LABEL => value.as_str(),
            None => None,
        })
        .filter(|role| !role.is_empty())
        .collect();
    roles.sort_unstable();
    roles.dedup();
    roles
}

fn address<'a>(object: &'a Value, kind: &str) -> &'a str {
    list(&object["status"], "addresses")
        .iter()
        .find(|address| text(address, "type") == kind)
        .map(|address| text(address, "address"))
        .unwrap_or_default()
}

fn rules(object: &Value, errors: &mut Vec<FieldError>) {
    let path = Path::Root("spec");
    let spec = &object["spec"];
    taint::taints(spec, &path.child("taints"), errors);
    let cidrs = path.child("podCIDRs");
    for (index, cidr) in texts(spec, "podCIDRs").enumerate() {
        check_name(cidr, name::cidr, &cidrs.index(index), errors);
    }
    status(object, errors);
}

fn status(object: &Value, errors: &mut Vec<FieldError>) {
    let path = Path::Root("status");
    for field in ["capacity", "allocatable"] {
        resources::resource_list(&object["status"][field], &path.child(field), errors);
    }
    let addresses = list(&object["status"], "addresses");
    let addresses_path = path.child("addresses");
    for (index, address) in addresses.iter().enumerate() {
        let same =
            |other: &&Value| other["type"] == address["type"] && other["address"] == address["address"];
        if addresses[..index].iter().any(|other| same(&other)) {
            errors.push(FieldError::duplicate(
                &addresses_path.index(index),
                address.clone(),
            ));
        }
    }
}

fn update_rules(new: &Value, old: &Value, errors: &mut Vec<FieldError>) {
    rules(new, errors);
    let path = Path::Root("spec");
    for (field, label) in [
        ("podCIDR", "podCIDR"),
        ("podCIDRs", "podCIDR"),
        ("providerID", "providerID"),
    ] {
        let before = &old["spec"][field];
        if !before.is_null() && *before != new["spec"][field] {
            let detail = format!("node updates may not change {label} except from \"\" to valid");
            errors.push(FieldError::forbidden(&path.child(field), detail));
        }
    }
}

/// Returns the warning about a deprecated node label, if it is one.
pub(in crate::kinds) fn deprecated_label(key: &str) -> Option<&'static str> {
    Some(match key {
        "beta.kubernetes.io/arch" => "deprecated since v1.14; use \"kubernetes.io/arch\" instead",
        "beta.kubernetes.io/os" => "deprecated since v1.14; use \"kubernetes.io/os\" instead",
        "failure-domain.beta.kubernetes.io/region" => {
            "deprecated since v1.17; use \"topology.kubernetes.io/region\" instead"
        }
        "failure-domain.beta.kubernetes.io/zone" => {
            "deprecated since v1.17; use \"topology.kubernetes.io/zone\" instead"
        }
        "beta.kubernetes.io/instance-type" => {
            "deprecated since v1.17; use \"node.kubernetes.io/instance-type\" instead"
        }
        "app.kubernetes.io/created-by" => "deprecated since v1.9",
        "scheduler.alpha.kubernetes.io/preferAvoidPods" => {
            "deprecated since v1.22; use Taints and Tolerations instead"
        }
        "node-role.kubernetes.io/master" => "use \"node-role.kubernetes.io/control-plane\" instead",
        _ => return None,
    })
}

/// Returns whether a text is a valid name of a node.
pub fn is_name(text: &str) -> bool {
    let mut errors = Vec::new();
    check_name(text, name::dns_subdomain, &Path::Root("name"), &mut errors);
    errors.is_empty()
}

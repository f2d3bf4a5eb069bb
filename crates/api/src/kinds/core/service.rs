//! `v1` Service: a name, and usually an address, for a set of pods.

pub mod families;

use serde_json::{Value, json};

use crate::default;
use crate::field_error::{FieldError, Path};
use crate::kinds::core::endpoints::endpoint_address;
use crate::kinds::{AGE, Column, Kind, NAME, StatusField, Strategy, column, proxy_of, row, status_of, wide};
use crate::meta;
use crate::print;
use crate::validate::field::{
    PORTS, check_name, check_number, check_one_of, check_optional_one_of, check_port, list, present, text,
    texts,
};
use crate::validate::meta::labels;
use crate::validate::name;

/// The default timeout of client affinity: three hours.
const AFFINITY_SECONDS: i64 = 10_800;
const AFFINITY_SECONDS_HIGHEST: i64 = 86_400;
const NONE: &str = families::NONE;

/// The row of the registry.
pub static KIND: Kind = Kind {
    short_names: &["svc"],
    categories: &["all"],
    subresources: &[proxy_of("ServiceProxyOptions"), status_of(("", "v1", "Service"))],
    selectable: &["spec.clusterIP", "spec.type"],
    columns: COLUMNS,
    create_on_update: true,
    strategy: Strategy {
        status: StatusField::Separate,
        default,
        create,
        update,
        name: name::dns_label,
        rules,
        update_rules,
        status_rules: |new, _, errors| status_rules(new, errors),
        row: table_row,
        ..BASE.strategy
    },
    ..BASE
};

const BASE: Kind = row("", "v1", "Service", "services", "service");

const COLUMNS: &[Column] = &[
    NAME,
    column("Type", "How the Service is exposed."),
    column("Cluster-IP", "The address of the Service inside the cluster."),
    column("External-IP", "The addresses of the Service outside the cluster."),
    column("Port(s)", "The ports that the Service exposes."),
    AGE,
    wide("Selector", "The selector of the Service's pods."),
];

fn table_row(object: &Value, now: jiff::Timestamp) -> Vec<Value> {
    let spec = &object["spec"];
    let ip = texts(spec, "clusterIPs")
        .next()
        .unwrap_or_else(|| text(spec, "clusterIP"));
    vec![
        meta::name(object).into(),
        text(spec, "type").into(),
        print::or_none(ip),
        external_ip(object),
        ports_text(spec),
        print::age(object, now),
        print::label_map(&spec["selector"]),
    ]
}

fn external_ip(object: &Value) -> Value {
    let spec = &object["spec"];
    let external = texts(spec, "externalIPs");
    match text(spec, "type") {
        "ExternalName" => text(spec, "externalName").into(),
        "LoadBalancer" => {
            let given = list(&object["status"]["loadBalancer"], "ingress")
                .iter()
                .map(|ingress| match text(ingress, "ip") {
                    "" => text(ingress, "hostname"),
                    ip => ip,
                });
            let all: Vec<&str> = given.chain(external).collect();
            if all.is_empty() {
                "<pending>".into()
            } else {
                all.join(",").into()
            }
        }
        _ => print::joined(external),
    }
}

fn ports_text(spec: &Value) -> Value {
    let ports: Vec<String> = list(spec, "ports")
        .iter()
        .map(|port| {
            let (number, protocol) = (port["port"].as_i64().unwrap_or_default(), text(port, "protocol"));
            match port["nodePort"].as_i64().unwrap_or_default() {
                0 => format!("{number}/{protocol}"),
                node => format!("{number}:{node}/{protocol}"),
            }
        })
        .collect();
    print::or_none(&ports.join(","))
}

fn default(object: &mut Value) {
    let Some(fields) = object.as_object_mut() else {
        return;
    };
    let Some(spec) = default::object_or_new(fields, "spec") else {
        return;
    };
    default::set_text(spec, "sessionAffinity", NONE);
    default::set_text(spec, "type", "ClusterIP");
    let kind = spec
        .get("type")
        .and_then(Value::as_str)
        .unwrap_or_default()
        .to_owned();
    if spec.get("sessionAffinity").and_then(Value::as_str) == Some("ClientIP")
        && let Some(config) = default::object_or_new(spec, "sessionAffinityConfig")
        && let Some(client) = default::object_or_new(config, "clientIP")
    {
        default::set_missing(client, "timeoutSeconds", || AFFINITY_SECONDS.into());
    }
    for port in default::items(spec, "ports") {
        default::set_text(port, "protocol", "TCP");
        let number = port.get("port").cloned().unwrap_or(Value::Null);
        if port
            .get("targetPort")
            .is_none_or(|target| target.is_null() || *target == 0 || target == "")
        {
            port.insert("targetPort".to_owned(), number);
        }
    }
    if kind != "ExternalName" {
        default::set_text(spec, "internalTrafficPolicy", "Cluster");
    }
    if matches!(kind.as_str(), "NodePort" | "LoadBalancer") {
        default::set_text(spec, "externalTrafficPolicy", "Cluster");
    }
    if kind == "LoadBalancer" {
        default::set_missing(spec, "allocateLoadBalancerNodePorts", || true.into());
    }
}

fn create(object: &mut Value) {
    let Some(fields) = object.as_object_mut() else {
        return;
    };
    fields.insert("status".to_owned(), json!({"loadBalancer": {}}));
    if let Some(spec) = fields.get_mut("spec").and_then(Value::as_object_mut) {
        families::normalize_new(spec);
    }
}

/// Keeps values that the server has assigned when an update leaves them out, and removes those that
/// the new type does not have.
fn update(new: &mut Value, old: &Value) {
    families::normalize_update(new, old);
    if text(&new["spec"], "type") == "ExternalName" && text(&old["spec"], "type") != "ExternalName" {
        families::clear_for_external_name(new, old);
    }
    clear_external_fields(new, old);
}

/// Removes fields of an external Service from one that becomes internal, unless the update changes
/// them.
fn clear_external_fields(new: &mut Value, old: &Value) {
    let is_external = |object: &Value| matches!(text(&object["spec"], "type"), "NodePort" | "LoadBalancer");
    if !is_external(old) || is_external(new) {
        return;
    }
    let before = &old["spec"];
    let Some(spec) = new.get_mut("spec").and_then(Value::as_object_mut) else {
        return;
    };
    for field in ["externalTrafficPolicy", "allocateLoadBalancerNodePorts"] {
        if spec.get(field) == Some(&before[field]) {
            spec.remove(field);
        }
    }
    let node_ports = |ports: &[Value]| -> Vec<Value> {
        let ports = ports.iter();
        ports.map(|port| port["nodePort"].clone()).collect()
    };
    let now = spec.get("ports").and_then(Value::as_array).map(Vec::as_slice);
    if node_ports(now.unwrap_or_default()) == node_ports(list(before, "ports")) {
        for port in default::items(spec, "ports") {
            port.remove("nodePort");
        }
    }
}

fn rules(object: &Value, errors: &mut Vec<FieldError>) {
    let path = &Path::Root("spec");
    let spec = &object["spec"];
    let kind = text(spec, "type");
    let headless = text(spec, "clusterIP") == NONE;
    let ports = list(spec, "ports");
    if ports.is_empty() && !headless && kind != "ExternalName" {
        errors.push(FieldError::required(&path.child("ports"), ""));
    }
    match kind {
        "LoadBalancer" | "NodePort" if headless => {
            let ips = path.child("clusterIPs");
            let detail = format!("may not be set to 'None' for {kind} services");
            errors.push(FieldError::invalid(&ips.index(0), NONE, detail));
        }
        "ExternalName" => external_name(spec, path, errors),
        _ => {}
    }
    let ports_path = path.child("ports");
    load_balancer(spec, kind, path, errors);
    for (index, port) in ports.iter().enumerate() {
        port_rules(
            port,
            &ports[..index],
            ports.len() > 1,
            &ports_path.index(index),
            errors,
        );
    }
    labels(&spec["selector"], &path.child("selector"), errors);
    check_one_of(spec, "sessionAffinity", &["ClientIP", NONE], path, errors);
    session_affinity(spec, path, errors);
    families::rules(spec, errors);
    let external = path.child("externalIPs");
    for (index, ip) in texts(spec, "externalIPs").enumerate() {
        endpoint_address(ip, &external.index(index), errors);
    }
    source_ranges(spec, kind, errors);
    let types = ["ClusterIP", "ExternalName", "LoadBalancer", "NodePort"];
    check_one_of(spec, "type", &types, path, errors);
    if kind == "ClusterIP" {
        for (index, port) in ports.iter().enumerate() {
            if port["nodePort"].as_i64().unwrap_or_default() != 0 {
                let path = ports_path.index(index);
                let detail = "may not be used when `type` is 'ClusterIP'";
                errors.push(FieldError::forbidden(&path.child("nodePort"), detail));
            }
        }
    }
    let policies = ["Cluster", "Local"];
    check_optional_one_of(spec, "internalTrafficPolicy", &policies, path, errors);
    if present(spec, "trafficDistribution") {
        let wishes = ["PreferClose", "PreferSameNode", "PreferSameZone"];
        check_one_of(spec, "trafficDistribution", &wishes, path, errors);
    }
    let from_outside = matches!(kind, "NodePort" | "LoadBalancer")
        || kind == "ClusterIP" && !list(spec, "externalIPs").is_empty();
    if !from_outside && !text(spec, "externalTrafficPolicy").is_empty() {
        let bad = text(spec, "externalTrafficPolicy");
        let detail = "may only be set for externally-accessible services";
        errors.push(FieldError::invalid(
            &path.child("externalTrafficPolicy"),
            bad,
            detail,
        ));
    } else {
        check_optional_one_of(spec, "externalTrafficPolicy", &policies, path, errors);
    }
}

/// Validates the fields for load balancers, which other types must not have.
fn load_balancer(spec: &Value, kind: &str, path: &Path<'_>, errors: &mut Vec<FieldError>) {
    const KUBELET_PORT: i64 = 10_250;
    const ALONE: &str = "may only be used when `type` is 'LoadBalancer'";
    if kind == "LoadBalancer" {
        let ports = path.child("ports");
        for (index, port) in list(spec, "ports").iter().enumerate() {
            if port["port"] == KUBELET_PORT {
                let path = ports.index(index);
                let detail = "may not expose port 10250 externally since it is used by kubelet";
                errors.push(FieldError::invalid(&path, KUBELET_PORT, detail));
            }
        }
        if !text(spec, "loadBalancerClass").is_empty() {
            let path = path.child("loadBalancerClass");
            check_name(text(spec, "loadBalancerClass"), name::qualified, &path, errors);
        }
    } else {
        for field in ["allocateLoadBalancerNodePorts", "loadBalancerClass"] {
            if present(spec, field) {
                errors.push(FieldError::forbidden(&path.child(field), ALONE));
            }
        }
    }
    let checked = spec["healthCheckNodePort"].as_i64().unwrap_or_default();
    if checked != 0 && (kind != "LoadBalancer" || text(spec, "externalTrafficPolicy") != "Local") {
        let detail = "may only be set when `type` is 'LoadBalancer' and `externalTrafficPolicy` is 'Local'";
        errors.push(FieldError::invalid(
            &path.child("healthCheckNodePort"),
            checked,
            detail,
        ));
    }
}

fn source_ranges(spec: &Value, kind: &str, errors: &mut Vec<FieldError>) {
    // Kubernetes uses this path in its errors.
    let root = Path::Root("spec");
    let path = root.child("LoadBalancerSourceRanges");
    if list(spec, "loadBalancerSourceRanges").is_empty() {
        return;
    }
    if kind != "LoadBalancer" {
        let detail = "may only be used when `type` is 'LoadBalancer'";
        errors.push(FieldError::forbidden(&path, detail));
    }
    for (index, range) in texts(spec, "loadBalancerSourceRanges").enumerate() {
        // The annotation that preceded this field allowed spaces around the ranges.
        check_name(range.trim(), name::cidr, &path.index(index), errors);
    }
}

fn external_name(spec: &Value, path: &Path<'_>, errors: &mut Vec<FieldError>) {
    for field in ["clusterIPs", "ipFamilies", "ipFamilyPolicy"] {
        if present(spec, field) {
            let detail = "may not be set for ExternalName services";
            errors.push(FieldError::forbidden(&path.child(field), detail));
        }
    }
    let given = text(spec, "externalName");
    match given.strip_suffix('.').unwrap_or(given) {
        "" => errors.push(FieldError::required(&path.child("externalName"), "")),
        host => check_name(host, name::dns_subdomain, &path.child("externalName"), errors),
    }
}

fn port_rules(port: &Value, before: &[Value], named: bool, path: &Path<'_>, errors: &mut Vec<FieldError>) {
    match text(port, "name") {
        "" if named => errors.push(FieldError::required(&path.child("name"), "")),
        "" => {}
        found => {
            check_name(found, name::dns_label, &path.child("name"), errors);
            if before.iter().any(|other| text(other, "name") == found) {
                errors.push(FieldError::duplicate(&path.child("name"), found));
            }
        }
    }
    check_number(
        port["port"].as_i64().unwrap_or_default(),
        PORTS,
        &path.child("port"),
        errors,
    );
    check_one_of(port, "protocol", &["SCTP", "TCP", "UDP"], path, errors);
    check_port(&port["targetPort"], &path.child("targetPort"), errors);
    if present(port, "appProtocol") {
        check_name(
            text(port, "appProtocol"),
            name::qualified,
            &path.child("appProtocol"),
            errors,
        );
    }
    let node_port = port["nodePort"].as_i64().unwrap_or_default();
    let same = |other: &&Value| other["nodePort"] == node_port && other["protocol"] == port["protocol"];
    if node_port != 0 && before.iter().any(|other| same(&other)) {
        errors.push(FieldError::duplicate(&path.child("nodePort"), node_port));
    }
    let same = |other: &&Value| other["port"] == port["port"] && other["protocol"] == port["protocol"];
    if before.iter().any(|other| same(&other)) {
        let bad = json!({"port": port["port"], "protocol": port["protocol"]});
        errors.push(FieldError::duplicate(path, bad));
    }
}

fn session_affinity(spec: &Value, path: &Path<'_>, errors: &mut Vec<FieldError>) {
    let config = path.child("sessionAffinityConfig");
    match text(spec, "sessionAffinity") {
        "ClientIP" => {
            let seconds = &spec["sessionAffinityConfig"]["clientIP"]["timeoutSeconds"];
            let seconds = seconds.as_i64().unwrap_or_default();
            if !(1..=AFFINITY_SECONDS_HIGHEST).contains(&seconds) {
                let client = config.child("clientIP");
                let detail = format!("must be greater than 0 and less than {AFFINITY_SECONDS_HIGHEST}");
                errors.push(FieldError::invalid(
                    &client.child("timeoutSeconds"),
                    seconds,
                    detail,
                ));
            }
        }
        NONE if present(spec, "sessionAffinityConfig") => {
            errors.push(FieldError::forbidden(
                &config,
                "must not be set when session affinity is None",
            ));
        }
        _ => {}
    }
}

fn update_rules(new: &Value, old: &Value, errors: &mut Vec<FieldError>) {
    families::update_rules(&new["spec"], &old["spec"], errors);
    let class = |object: &Value| object["spec"]["loadBalancerClass"].clone();
    let is_balanced = |object: &Value| text(&object["spec"], "type") == "LoadBalancer";
    if is_balanced(new) && is_balanced(old) && class(new) != class(old) {
        let path = &Path::Root("spec");
        let detail = "may not change once set";
        errors.push(FieldError::invalid(
            &path.child("loadBalancerClass"),
            class(new),
            detail,
        ));
    }
    rules(new, errors);
}

/// Validates the addresses that the controller of a load balancer sets for clients.
fn status_rules(object: &Value, errors: &mut Vec<FieldError>) {
    let root = Path::Root("status");
    let path = &root.child("loadBalancer");
    let path = &path.child("ingress");
    let ingress = list(&object["status"]["loadBalancer"], "ingress");
    if !ingress.is_empty() && text(&object["spec"], "type") != "LoadBalancer" {
        let detail = "may only be used when `spec.type` is \"LoadBalancer\"";
        errors.push(FieldError::forbidden(path, detail));
        return;
    }
    for (index, place) in ingress.iter().enumerate() {
        let path = &path.index(index);
        let (ip, host) = (text(place, "ip"), text(place, "hostname"));
        if !ip.is_empty() {
            check_name(ip, name::ip, &path.child("ip"), errors);
        }
        if !host.is_empty() {
            check_name(host, name::dns_subdomain, &path.child("hostname"), errors);
            if host.parse::<std::net::IpAddr>().is_ok() {
                let detail = "must be a DNS name, not an IP address";
                errors.push(FieldError::invalid(&path.child("hostname"), host, detail));
            }
        }
        if present(place, "ipMode") {
            if ip.is_empty() {
                let detail = "may not be specified when `ip` is not set";
                errors.push(FieldError::forbidden(&path.child("ipMode"), detail));
            } else {
                check_one_of(place, "ipMode", &["Proxy", "VIP"], path, errors);
            }
        }
    }
}

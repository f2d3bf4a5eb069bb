//! Validation of pod specs, in Pods and in templates.

use serde_json::Value;

use crate::field_error::{FieldError, Path};
use crate::validate::field::{
    check_name, check_number, check_one_of, check_optional_one_of, flag, list, present, text, texts,
};
use crate::validate::{
    affinity, container, meta, name, os, pod_annotations, resources, security, taint, volume,
};

/// Where a pod spec is. Some rules apply only to Pods.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Within {
    /// In a Pod.
    Pod,
    /// In the template of a workload.
    Template,
}

const DNS_NAMESERVERS: usize = 3;
const DNS_SEARCHES: usize = 32;
const DNS_SEARCH_CHARACTERS: usize = 2048;

/// Validates a pod spec that has its defaults.
pub fn validate(spec: &Value, within: Within, path: &Path<'_>, errors: &mut Vec<FieldError>) {
    // A negative grace period causes a warning and counts as one second.
    if spec["terminationGracePeriodSeconds"].is_null() {
        errors.push(FieldError::required(
            &path.child("terminationGracePeriodSeconds"),
            "",
        ));
    }
    volume::volumes(spec, &path.child("volumes"), errors);
    container::containers(spec, path, errors);
    if present(spec, "resources") {
        resources::requirements(&spec["resources"], &path.child("resources"), errors);
        resources::of_pod(spec, &path.child("resources"), errors);
    }
    host_network_ports(spec, within, &path.child("containers"), errors);
    check_one_of(
        spec,
        "restartPolicy",
        &["Always", "OnFailure", "Never"],
        path,
        errors,
    );
    let policies = ["ClusterFirstWithHostNet", "ClusterFirst", "Default", "None"];
    check_one_of(spec, "dnsPolicy", &policies, path, errors);
    meta::labels(&spec["nodeSelector"], &path.child("nodeSelector"), errors);
    security::pod(spec, &path.child("securityContext"), errors);
    affinity::affinity(&spec["affinity"], &path.child("affinity"), errors);
    dns_config(spec, &path.child("dnsConfig"), errors);
    gates(spec, path, errors);
    affinity::topology_spread(spec, &path.child("topologySpreadConstraints"), errors);
    host_users(spec, path, errors);
    for (field, rule) in [
        (
            "serviceAccountName",
            name::dns_subdomain as fn(&str, &mut Vec<&'static str>),
        ),
        ("nodeName", name::dns_subdomain),
    ] {
        check_if_given(spec, field, rule, path, errors);
    }
    if let Some(seconds) = spec["activeDeadlineSeconds"].as_i64() {
        check_number(
            seconds,
            (1, i64::from(i32::MAX)),
            &path.child("activeDeadlineSeconds"),
            errors,
        );
    }
    check_if_given(spec, "hostname", name::dns_label, path, errors);
    check_if_given(spec, "subdomain", name::dns_label, path, errors);
    hostname_override(spec, path, errors);
    taint::tolerations(spec, "tolerations", &path.child("tolerations"), errors);
    host_aliases(spec, &path.child("hostAliases"), errors);
    check_if_given(spec, "priorityClassName", name::dns_subdomain, path, errors);
    check_if_given(spec, "runtimeClassName", name::dns_subdomain, path, errors);
    check_optional_one_of(
        spec,
        "preemptionPolicy",
        &["PreemptLowerPriority", "Never"],
        path,
        errors,
    );
    resources::resource_list(&spec["overhead"], &path.child("overhead"), errors);
    if present(spec, "os") {
        check_one_of(
            &spec["os"],
            "name",
            &["linux", "windows"],
            &path.child("os"),
            errors,
        );
        os::fields(spec, path, errors);
    }
    if within == Within::Pod {
        image_spaces(spec, path, errors);
    }
}

fn check_if_given(
    spec: &Value,
    field: &str,
    rule: fn(&str, &mut Vec<&'static str>),
    path: &Path<'_>,
    errors: &mut Vec<FieldError>,
) {
    let found = text(spec, field);
    if !found.is_empty() {
        check_name(found, rule, &path.child(field), errors);
    }
}

/// Validates that the container's port and the host's port are equal on the host's network.
fn host_network_ports(spec: &Value, within: Within, path: &Path<'_>, errors: &mut Vec<FieldError>) {
    if !flag(spec, "hostNetwork") {
        return;
    }
    for (index, container) in list(spec, "containers").iter().enumerate() {
        let path = path.index(index);
        let ports = path.child("ports");
        for (index, port) in list(container, "ports").iter().enumerate() {
            let host = port["hostPort"].as_i64().unwrap_or_default();
            let must_match = within == Within::Pod || host != 0;
            if must_match && host != port["containerPort"].as_i64().unwrap_or_default() {
                let path = ports.index(index);
                let detail = "must match `containerPort` when `hostNetwork` is true";
                errors.push(FieldError::invalid(&path.child("hostPort"), host, detail));
            }
        }
    }
}

fn dns_config(spec: &Value, path: &Path<'_>, errors: &mut Vec<FieldError>) {
    let config = &spec["dnsConfig"];
    let servers = list(config, "nameservers");
    if text(spec, "dnsPolicy") == "None" {
        if config.is_null() {
            let detail = "must provide `dnsConfig` when `dnsPolicy` is None";
            errors.push(FieldError::required(path, detail));
            return;
        }
        if servers.is_empty() {
            let detail = "must provide at least one DNS nameserver when `dnsPolicy` is None";
            errors.push(FieldError::required(&path.child("nameservers"), detail));
            return;
        }
    }
    let servers_path = path.child("nameservers");
    if servers.len() > DNS_NAMESERVERS {
        let detail = format!("must not have more than {DNS_NAMESERVERS} nameservers");
        errors.push(FieldError::invalid(
            &servers_path,
            config["nameservers"].clone(),
            detail,
        ));
    }
    for (index, server) in texts(config, "nameservers").enumerate() {
        check_name(server, name::ip, &servers_path.index(index), errors);
    }
    let searches_path = path.child("searches");
    let searches = list(config, "searches");
    if searches.len() > DNS_SEARCHES {
        let detail = format!("must not have more than {DNS_SEARCHES} search paths");
        errors.push(FieldError::invalid(
            &searches_path,
            config["searches"].clone(),
            detail,
        ));
    }
    for (index, search) in texts(config, "searches").enumerate() {
        // A single dot is the root.
        if search != "." {
            let search = search.strip_suffix('.').unwrap_or(search);
            check_name(search, name::dns_search, &searches_path.index(index), errors);
        }
    }
    let characters: usize = texts(config, "searches").map(|search| search.len() + 1).sum();
    if characters > DNS_SEARCH_CHARACTERS + 1 {
        let detail = format!(
            "must not have more than {DNS_SEARCH_CHARACTERS} characters (including spaces) in the search list"
        );
        errors.push(FieldError::invalid(
            &searches_path,
            config["searches"].clone(),
            detail,
        ));
    }
    for (index, option) in list(config, "options").iter().enumerate() {
        if text(option, "name").is_empty() {
            let options = path.child("options");
            errors.push(FieldError::required(&options.index(index), "must not be empty"));
        }
    }
}

fn gates(spec: &Value, path: &Path<'_>, errors: &mut Vec<FieldError>) {
    let readiness = path.child("readinessGates");
    for (index, gate) in list(spec, "readinessGates").iter().enumerate() {
        let path = readiness.index(index);
        check_name(
            text(gate, "conditionType"),
            name::qualified,
            &path.child("conditionType"),
            errors,
        );
    }
    let scheduling = path.child("schedulingGates");
    let gates = list(spec, "schedulingGates");
    for (index, gate) in gates.iter().enumerate() {
        let found = text(gate, "name");
        check_name(found, name::qualified, &scheduling.index(index), errors);
        if gates[..index].iter().any(|before| text(before, "name") == found) {
            errors.push(FieldError::duplicate(&scheduling.index(index), found));
        }
    }
}

fn host_users(spec: &Value, path: &Path<'_>, errors: &mut Vec<FieldError>) {
    if spec["hostUsers"] != false {
        return;
    }
    for field in ["hostNetwork", "hostPID", "hostIPC"] {
        if flag(spec, field) {
            errors.push(FieldError::forbidden(
                &path.child(field),
                "when `pod.Spec.HostUsers` is false",
            ));
        }
    }
}

/// Validates `hostnameOverride`, which excludes `hostNetwork` and `setHostnameAsFQDN`.
fn hostname_override(spec: &Value, path: &Path<'_>, errors: &mut Vec<FieldError>) {
    const LENGTH: usize = 64;
    let host = text(spec, "hostnameOverride");
    if host.is_empty() {
        return;
    }
    let path = &path.child("hostnameOverride");
    check_name(host, name::dns_subdomain, path, errors);
    if host.len() > LENGTH {
        errors.push(FieldError::too_long(path, LENGTH));
    }
    for field in ["hostNetwork", "setHostnameAsFQDN"] {
        if flag(spec, field) {
            let detail = format!("may not be set when `{field}` is true");
            errors.push(FieldError::forbidden(path, detail));
        }
    }
}

fn host_aliases(spec: &Value, path: &Path<'_>, errors: &mut Vec<FieldError>) {
    for (index, alias) in list(spec, "hostAliases").iter().enumerate() {
        let path = path.index(index);
        check_name(text(alias, "ip"), name::ip, &path.child("ip"), errors);
        let names = path.child("hostnames");
        for (index, host) in texts(alias, "hostnames").enumerate() {
            check_name(host, name::dns_subdomain, &names.index(index), errors);
        }
    }
}

fn image_spaces(spec: &Value, path: &Path<'_>, errors: &mut Vec<FieldError>) {
    for field in ["containers", "initContainers"] {
        let containers = path.child(field);
        for (index, container) in list(spec, field).iter().enumerate() {
            let image = text(container, "image");
            if image.trim() != image {
                let path = containers.index(index);
                let detail = "must not have leading or trailing whitespace";
                errors.push(FieldError::invalid(&path.child("image"), image, detail));
            }
        }
    }
}

/// Validates the template of a workload: its labels, annotations and spec.
pub(crate) fn template(template: &Value, path: &Path<'_>, errors: &mut Vec<FieldError>) {
    // Go embeds the metadata in the template, so its fields have no `metadata` in their paths.
    meta::labels(&template["metadata"]["labels"], &path.child("labels"), errors);
    meta::annotations(
        &template["metadata"]["annotations"],
        &path.child("annotations"),
        errors,
    );
    pod_annotations::rules(template, &path.child("annotations"), errors);
    let spec = path.child("spec");
    validate(&template["spec"], Within::Template, &spec, errors);
    if !list(&template["spec"], "ephemeralContainers").is_empty() {
        let detail = "ephemeral containers not allowed in pod template";
        errors.push(FieldError::forbidden(&spec.child("ephemeralContainers"), detail));
    }
}

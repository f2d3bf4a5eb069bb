//! Validation of containers: regular, init and ephemeral.

use std::borrow::Cow;

use serde_json::Value;

use crate::field_error::{FieldError, Path};
use crate::validate::field::{
    PORTS, check_name, check_number, check_one_of, check_required_name, flag, list, present, text,
};
use crate::validate::name;
use crate::validate::probe::{Probe, lifecycle, probe};
use crate::validate::restart::restart_policy;
use crate::validate::volume::check_descending_path;
use crate::validate::{resources, security};

const ENV_FIELDS: [&str; 9] = [
    "metadata.name",
    "metadata.namespace",
    "metadata.uid",
    "spec.nodeName",
    "spec.serviceAccountName",
    "status.hostIP",
    "status.hostIPs",
    "status.podIP",
    "status.podIPs",
];
const RESOURCE_FIELDS: [&str; 6] = [
    "limits.cpu",
    "limits.ephemeral-storage",
    "limits.memory",
    "requests.cpu",
    "requests.ephemeral-storage",
    "requests.memory",
];
const BYTE_DIVISORS: [&str; 13] = [
    "1", "1k", "1M", "1G", "1T", "1P", "1E", "1Ki", "1Mi", "1Gi", "1Ti", "1Pi", "1Ei",
];
const RESIZE_POLICIES: [&str; 2] = ["NotRequired", "RestartContainer"];

/// Validates `spec.containers`, `spec.initContainers` and `spec.ephemeralContainers` of a pod.
pub(crate) fn containers(spec: &Value, path: &Path<'_>, errors: &mut Vec<FieldError>) {
    let grace = spec["terminationGracePeriodSeconds"].as_i64();
    regular(spec, grace, &path.child("containers"), errors);
    init(spec, grace, &path.child("initContainers"), errors);
    ephemeral(spec, &path.child("ephemeralContainers"), errors);
}

fn regular(spec: &Value, grace: Option<i64>, path: &Path<'_>, errors: &mut Vec<FieldError>) {
    let containers = list(spec, "containers");
    if containers.is_empty() {
        errors.push(FieldError::required(path, ""));
    }
    for (index, container) in containers.iter().enumerate() {
        let path = &path.index(index);
        common(container, spec, path, errors);
        unique_name(container, &containers[..index], &[], path, errors);
        hooks_and_probes(container, grace, path, errors);
        restart_policy(container, path, errors);
    }
    unique_host_ports(containers, path, errors);
}

fn init(spec: &Value, grace: Option<i64>, path: &Path<'_>, errors: &mut Vec<FieldError>) {
    let (containers, regular) = (list(spec, "initContainers"), list(spec, "containers"));
    for (index, container) in containers.iter().enumerate() {
        let path = &path.index(index);
        common(container, spec, path, errors);
        let policy = text(container, "restartPolicy");
        restart_policy(container, path, errors);
        unique_name(container, regular, &containers[..index], path, errors);
        unique_host_ports(std::slice::from_ref(container), path, errors);
        if policy == "Always" {
            hooks_and_probes(container, grace, path, errors);
            continue;
        }
        for field in ["lifecycle", "livenessProbe", "readinessProbe", "startupProbe"] {
            if present(container, field) {
                let detail = "may not be set for init containers without restartPolicy=Always";
                errors.push(FieldError::forbidden(&path.child(field), detail));
            }
        }
    }
}

fn ephemeral(spec: &Value, path: &Path<'_>, errors: &mut Vec<FieldError>) {
    const NOT_FOR_EPHEMERAL: [&str; 9] = [
        "lifecycle",
        "livenessProbe",
        "ports",
        "readinessProbe",
        "resizePolicy",
        "restartPolicy",
        "restartPolicyRules",
        "startupProbe",
        "volumeDevices",
    ];
    let containers = list(spec, "ephemeralContainers");
    for (index, container) in containers.iter().enumerate() {
        let path = &path.index(index);
        common(container, spec, path, errors);
        unique_name(
            container,
            list(spec, "containers"),
            list(spec, "initContainers"),
            path,
            errors,
        );
        unique_name(container, &containers[..index], &[], path, errors);
        let target = text(container, "targetContainerName");
        let exists = ["containers", "initContainers"].iter().any(|field| {
            list(spec, field)
                .iter()
                .any(|other| text(other, "name") == target)
        });
        if !target.is_empty() && !exists {
            errors.push(FieldError::not_found(&path.child("targetContainerName"), target));
        }
        for field in NOT_FOR_EPHEMERAL {
            if present(container, field) {
                let detail = "cannot be set for an Ephemeral Container";
                errors.push(FieldError::forbidden(&path.child(field), detail));
            }
        }
    }
}

fn unique_name(
    container: &Value,
    before: &[Value],
    also_before: &[Value],
    path: &Path<'_>,
    errors: &mut Vec<FieldError>,
) {
    let found = text(container, "name");
    let taken = |others: &[Value]| others.iter().any(|other| text(other, "name") == found);
    if !found.is_empty() && (taken(before) || taken(also_before)) {
        errors.push(FieldError::duplicate(&path.child("name"), found));
    }
}

fn hooks_and_probes(container: &Value, grace: Option<i64>, path: &Path<'_>, errors: &mut Vec<FieldError>) {
    lifecycle(&container["lifecycle"], grace, &path.child("lifecycle"), errors);
    for (kind, field) in Probe::ALL {
        if present(container, field) {
            probe(kind, &container[field], &path.child(field), errors);
        }
    }
}

/// Validates the fields of all types of containers.
fn common(container: &Value, spec: &Value, path: &Path<'_>, errors: &mut Vec<FieldError>) {
    check_required_name(container, "name", name::dns_label, path, errors);
    if text(container, "image").is_empty() {
        errors.push(FieldError::required(&path.child("image"), ""));
    }
    check_one_of(
        container,
        "terminationMessagePolicy",
        &["File", "FallbackToLogsOnError"],
        path,
        errors,
    );
    ports(container, &path.child("ports"), errors);
    env(container, &path.child("env"), errors);
    env_from(container, &path.child("envFrom"), errors);
    volume_mounts(container, spec, &path.child("volumeMounts"), errors);
    volume_devices(container, spec, &path.child("volumeDevices"), errors);
    check_one_of(
        container,
        "imagePullPolicy",
        &["Always", "IfNotPresent", "Never"],
        path,
        errors,
    );
    resources::requirements(&container["resources"], &path.child("resources"), errors);
    resize_policy(container, spec, &path.child("resizePolicy"), errors);
    if present(container, "securityContext") {
        security::container(
            &container["securityContext"],
            spec["hostUsers"] != false,
            &path.child("securityContext"),
            errors,
        );
    }
}

fn ports(container: &Value, path: &Path<'_>, errors: &mut Vec<FieldError>) {
    let ports = list(container, "ports");
    for (index, port) in ports.iter().enumerate() {
        let path = &path.index(index);
        let found = text(port, "name");
        if !found.is_empty() {
            check_name(found, name::port_name, &path.child("name"), errors);
            if ports[..index].iter().any(|before| text(before, "name") == found) {
                errors.push(FieldError::duplicate(&path.child("name"), found));
            }
        }
        match port["containerPort"].as_i64().unwrap_or_default() {
            0 => errors.push(FieldError::required(&path.child("containerPort"), "")),
            number => check_number(number, PORTS, &path.child("containerPort"), errors),
        }
        match port["hostPort"].as_i64().unwrap_or_default() {
            0 => {}
            number => check_number(number, PORTS, &path.child("hostPort"), errors),
        }
        check_one_of(port, "protocol", &["SCTP", "TCP", "UDP"], path, errors);
    }
}

fn unique_host_ports(containers: &[Value], path: &Path<'_>, errors: &mut Vec<FieldError>) {
    let mut seen: Vec<(&str, &str, i64)> = Vec::new();
    for (index, container) in containers.iter().enumerate() {
        let path = path.index(index);
        let ports_path = path.child("ports");
        for (index, port) in list(container, "ports").iter().enumerate() {
            let number = port["hostPort"].as_i64().unwrap_or_default();
            if number == 0 {
                continue;
            }
            let key = (text(port, "protocol"), text(port, "hostIP"), number);
            if seen.contains(&key) {
                let path = ports_path.index(index);
                let bad = format!("{}/{}/{}", key.0, key.1, key.2);
                errors.push(FieldError::duplicate(&path.child("hostPort"), bad));
            } else {
                seen.push(key);
            }
        }
    }
}

fn env(container: &Value, path: &Path<'_>, errors: &mut Vec<FieldError>) {
    for (index, variable) in list(container, "env").iter().enumerate() {
        let path = &path.index(index);
        check_required_name(variable, "name", name::env_var, path, errors);
        if present(variable, "valueFrom") {
            value_from(variable, &path.child("valueFrom"), errors);
        }
    }
}

fn value_from(variable: &Value, path: &Path<'_>, errors: &mut Vec<FieldError>) {
    let source = &variable["valueFrom"];
    let mut sources = 0;
    for field in ["fieldRef", "resourceFieldRef", "configMapKeyRef", "secretKeyRef"] {
        if !present(source, field) {
            continue;
        }
        sources += 1;
        let path = &path.child(field);
        match field {
            "fieldRef" => field_ref(&source[field], &ENV_FIELDS, path, errors),
            "resourceFieldRef" => resource_field_ref(&source[field], false, path, errors),
            _ => key_ref(&source[field], path, errors),
        }
    }
    if sources == 0 {
        let detail =
            "must specify one of: `fieldRef`, `resourceFieldRef`, `configMapKeyRef` or `secretKeyRef`";
        errors.push(FieldError::invalid(path, "", detail));
    } else if !text(variable, "value").is_empty() {
        errors.push(FieldError::invalid(
            path,
            "",
            "may not be specified when `value` is not empty",
        ));
    } else if sources > 1 {
        errors.push(FieldError::invalid(
            path,
            "",
            "may not have more than one field specified at a time",
        ));
    }
}

fn key_ref(reference: &Value, path: &Path<'_>, errors: &mut Vec<FieldError>) {
    check_name(
        text(reference, "name"),
        name::dns_subdomain,
        &path.child("name"),
        errors,
    );
    check_required_name(reference, "key", name::config_key, path, errors);
}

/// Validates a reference to a field of the pod. `allowed` are the fields other than single labels
/// and annotations.
pub(crate) fn field_ref(reference: &Value, allowed: &[&str], path: &Path<'_>, errors: &mut Vec<FieldError>) {
    for field in ["apiVersion", "fieldPath"] {
        if text(reference, field).is_empty() {
            errors.push(FieldError::required(&path.child(field), ""));
            return;
        }
    }
    let field = text(reference, "fieldPath");
    if let Some((map, key)) = subscript(field) {
        match map {
            "metadata.annotations" => {
                let lower: Cow<'_, str> = key.to_ascii_lowercase().into();
                check_name(&lower, name::qualified, path, errors);
            }
            "metadata.labels" => check_name(key, name::qualified, path, errors),
            other => errors.push(FieldError::invalid(path, other, "does not support subscript")),
        }
        return;
    }
    if !is_pod_field(field) {
        let detail = format!("error converting fieldPath: field label not supported: {field}");
        errors.push(FieldError::invalid(&path.child("fieldPath"), field, detail));
    } else if !allowed.contains(&field) {
        errors.push(FieldError::not_supported(
            &path.child("fieldPath"),
            field,
            allowed,
        ));
    }
}

/// Splits `metadata.labels['app']` into field and key.
fn subscript(field: &str) -> Option<(&str, &str)> {
    field.strip_suffix("']")?.split_once("['")
}

/// Returns whether the downward API has this field of a pod.
fn is_pod_field(field: &str) -> bool {
    const OTHERS: [&str; 5] = [
        "metadata.annotations",
        "metadata.labels",
        "spec.restartPolicy",
        "spec.schedulerName",
        "status.phase",
    ];
    ENV_FIELDS.contains(&field) || OTHERS.contains(&field)
}

/// Validates a reference to a request or limit of a container.
pub(crate) fn resource_field_ref(
    reference: &Value,
    in_volume: bool,
    path: &Path<'_>,
    errors: &mut Vec<FieldError>,
) {
    let resource = text(reference, "resource");
    let huge = resource.starts_with("limits.hugepages-") || resource.starts_with("requests.hugepages-");
    if in_volume && text(reference, "containerName").is_empty() {
        errors.push(FieldError::required(&path.child("containerName"), ""));
    } else if resource.is_empty() {
        errors.push(FieldError::required(&path.child("resource"), ""));
    } else if !huge && !RESOURCE_FIELDS.contains(&resource) {
        errors.push(FieldError::not_supported(
            &path.child("resource"),
            resource,
            &RESOURCE_FIELDS,
        ));
    }
    let divisor = match &reference["divisor"] {
        Value::String(text) => Cow::from(text.as_str()),
        Value::Null => return,
        other => Cow::from(other.to_string()),
    };
    if divisor == "0" {
        return;
    }
    let (allowed, what): (&[&str], &str) = match resource {
        "limits.cpu" | "requests.cpu" => (&["1m", "1"], "1m and 1 are supported with the cpu resource"),
        "limits.memory" | "requests.memory" => (
            &BYTE_DIVISORS,
            "1, 1k, 1M, 1G, 1T, 1P, 1E, 1Ki, 1Mi, 1Gi, 1Ti, 1Pi, 1Ei are supported with the memory resource",
        ),
        "limits.ephemeral-storage" | "requests.ephemeral-storage" => (
            &BYTE_DIVISORS,
            "1, 1k, 1M, 1G, 1T, 1P, 1E, 1Ki, 1Mi, 1Gi, 1Ti, 1Pi, 1Ei are supported with the local ephemeral storage resource",
        ),
        _ if huge => (
            &BYTE_DIVISORS,
            "1, 1k, 1M, 1G, 1T, 1P, 1E, 1Ki, 1Mi, 1Gi, 1Ti, 1Pi, 1Ei are supported with the hugepages resource",
        ),
        _ => return,
    };
    if !allowed.contains(&divisor.as_ref()) {
        let detail = format!("only divisor's values {what}");
        errors.push(FieldError::invalid(&path.child("divisor"), resource, detail));
    }
}

fn env_from(container: &Value, path: &Path<'_>, errors: &mut Vec<FieldError>) {
    for (index, source) in list(container, "envFrom").iter().enumerate() {
        let item = &path.index(index);
        let prefix = text(source, "prefix");
        if !prefix.is_empty() {
            check_name(prefix, name::env_var, &item.child("prefix"), errors);
        }
        let mut sources = 0;
        for field in ["configMapRef", "secretRef"] {
            if present(source, field) {
                sources += 1;
                check_required_name(
                    &source[field],
                    "name",
                    name::dns_subdomain,
                    &item.child(field),
                    errors,
                );
            }
        }
        match sources {
            0 => {
                let detail = "must specify one of: `configMapRef` or `secretRef`";
                errors.push(FieldError::invalid(path, "", detail));
            }
            1 => {}
            _ => {
                let detail = "may not have more than one field specified at a time";
                errors.push(FieldError::invalid(path, "", detail));
            }
        }
    }
}

fn volume_mounts(container: &Value, spec: &Value, path: &Path<'_>, errors: &mut Vec<FieldError>) {
    let mounts = list(container, "volumeMounts");
    for (index, mount) in mounts.iter().enumerate() {
        let item = &path.index(index);
        let (found, target) = (text(mount, "name"), text(mount, "mountPath"));
        if found.is_empty() {
            errors.push(FieldError::required(&item.child("name"), ""));
        }
        if !list(spec, "volumes")
            .iter()
            .any(|volume| text(volume, "name") == found)
        {
            errors.push(FieldError::not_found(&item.child("name"), found));
        }
        if target.is_empty() {
            errors.push(FieldError::required(&item.child("mountPath"), ""));
        }
        if mounts[..index]
            .iter()
            .any(|before| text(before, "mountPath") == target)
        {
            errors.push(FieldError::invalid(
                &item.child("mountPath"),
                target,
                "must be unique",
            ));
        }
        let devices = list(container, "volumeDevices");
        if !target.is_empty() && is_taken(devices, "devicePath", target) {
            let detail = "must not already exist as a path in volumeDevices";
            errors.push(FieldError::invalid(&item.child("mountPath"), target, detail));
        }
        if is_taken(devices, "name", found) {
            let detail = "must not already exist in volumeDevices";
            errors.push(FieldError::invalid(&item.child("name"), found, detail));
        }
        let (sub, expression) = (text(mount, "subPath"), text(mount, "subPathExpr"));
        if !sub.is_empty() {
            check_descending_path(sub, &path.child("subPath"), errors);
        }
        if !expression.is_empty() {
            if !sub.is_empty() {
                let detail = "subPathExpr and subPath are mutually exclusive";
                errors.push(FieldError::invalid(
                    &item.child("subPathExpr"),
                    expression,
                    detail,
                ));
            }
            check_descending_path(expression, &path.child("subPathExpr"), errors);
        }
        mount_propagation(mount, container, &path.child("mountPropagation"), errors);
        recursive_read_only(mount, &path.child("recursiveReadOnly"), errors);
    }
}

fn mount_propagation(mount: &Value, container: &Value, path: &Path<'_>, errors: &mut Vec<FieldError>) {
    match mount["mountPropagation"].as_str() {
        None | Some("HostToContainer" | "None") => {}
        Some("Bidirectional") => {
            if !flag(&container["securityContext"], "privileged") {
                let detail = "Bidirectional mount propagation is available only to privileged containers";
                errors.push(FieldError::forbidden(path, detail));
            }
        }
        Some(other) => {
            let supported = ["Bidirectional", "HostToContainer", "None"];
            errors.push(FieldError::not_supported(path, other, &supported));
        }
    }
}

fn recursive_read_only(mount: &Value, path: &Path<'_>, errors: &mut Vec<FieldError>) {
    match mount["recursiveReadOnly"].as_str() {
        None | Some("Disabled") => {}
        Some("Enabled" | "IfPossible") => {
            if !flag(mount, "readOnly") {
                let detail = "may only be specified when readOnly is true";
                errors.push(FieldError::forbidden(path, detail));
            }
        }
        Some(other) => {
            errors.push(FieldError::not_supported(
                path,
                other,
                &["Disabled", "Enabled", "IfPossible"],
            ));
        }
    }
}

fn volume_devices(container: &Value, spec: &Value, path: &Path<'_>, errors: &mut Vec<FieldError>) {
    let devices = list(container, "volumeDevices");
    for (index, device) in devices.iter().enumerate() {
        let path = &path.index(index);
        let found = text(device, "name");
        if !found.is_empty() && is_taken(&devices[..index], "name", found) {
            errors.push(FieldError::invalid(&path.child("name"), found, "must be unique"));
        }
        match list(spec, "volumes")
            .iter()
            .find(|volume| text(volume, "name") == found)
        {
            _ if found.is_empty() => errors.push(FieldError::required(&path.child("name"), "")),
            None => errors.push(FieldError::not_found(&path.child("name"), found)),
            Some(volume) if present(volume, "persistentVolumeClaim") || present(volume, "ephemeral") => {}
            Some(_) => {
                let detail =
                    "can only use volume source type of PersistentVolumeClaim or Ephemeral for block mode";
                errors.push(FieldError::invalid(&path.child("name"), found, detail));
            }
        }
        let (target, target_path) = (text(device, "devicePath"), path.child("devicePath"));
        if target.is_empty() {
            errors.push(FieldError::required(&target_path, ""));
            continue;
        }
        if is_taken(&devices[..index], "devicePath", target) {
            errors.push(FieldError::invalid(&target_path, target, "must be unique"));
        }
        if target.split('/').any(|part| part == "..") {
            let detail = "can not contain backsteps ('..')";
            errors.push(FieldError::invalid(&target_path, target, detail));
        }
    }
}

fn is_taken(before: &[Value], field: &str, value: &str) -> bool {
    before.iter().any(|other| text(other, field) == value)
}

fn resize_policy(container: &Value, spec: &Value, path: &Path<'_>, errors: &mut Vec<FieldError>) {
    let policies = list(container, "resizePolicy");
    for (index, policy) in policies.iter().enumerate() {
        let (resource, restart) = (text(policy, "resourceName"), text(policy, "restartPolicy"));
        if policies[..index]
            .iter()
            .any(|before| text(before, "resourceName") == resource)
        {
            errors.push(FieldError::duplicate(path, resource));
        }
        if !matches!(resource, "cpu" | "memory") {
            errors.push(FieldError::not_supported(path, resource, &["cpu", "memory"]));
        }
        if !RESIZE_POLICIES.contains(&restart) {
            errors.push(FieldError::not_supported(path, restart, &RESIZE_POLICIES));
        }
        if text(spec, "restartPolicy") == "Never" && restart != "NotRequired" {
            let detail = "must be 'NotRequired' when `restartPolicy` is 'Never'";
            errors.push(FieldError::invalid(path, restart, detail));
        }
    }
}

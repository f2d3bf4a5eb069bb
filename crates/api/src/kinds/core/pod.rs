//! `v1` Pod: containers that run together on one node.

use serde_json::{Map, Value, json};

use crate::default;
use crate::field_error::{FieldError, Path};
use crate::kinds::{Kind, StatusField, Strategy, proxy_of, row, status_of, subresource};
use crate::meta;
use crate::validate::field::{check_immutable, check_name, flag, list, present, text};
use crate::validate::name;
use crate::validate::pod_annotations;
use crate::validate::pod_spec::{self, Within};

mod diff;
mod print;
mod qos;
mod update;
mod warnings;

pub use qos::qos_class;
pub(in crate::kinds) use warnings::of_template as template_warnings;

/// The row of the registry.
pub static KIND: Kind = Kind {
    short_names: &["po"],
    categories: &["all"],
    subresources: &[
        subresource("binding", ("", "v1", "Binding"), &["create"]),
        subresource("eviction", ("policy", "v1", "Eviction"), &["create"]),
        subresource("exec", ("", "v1", "PodExecOptions"), &["create", "get"]),
        subresource("log", ("", "v1", "Pod"), &["get"]),
        proxy_of("PodProxyOptions"),
        status_of(("", "v1", "Pod")),
    ],
    selectable: &[
        "spec.nodeName",
        "spec.restartPolicy",
        "spec.schedulerName",
        "spec.serviceAccountName",
        "spec.hostNetwork",
        "status.phase",
        "status.podIP",
        "status.podIPs",
        "status.nominatedNodeName",
    ],
    columns: print::COLUMNS,
    strategy: Strategy {
        status: StatusField::Separate,
        generation: true,
        default,
        create,
        status_update,
        rules,
        update_rules: update::rules,
        status_rules,
        warnings: warnings::of_pod,
        field,
        row: print::row,
        row_conditions: print::row_conditions,
        ..BASE.strategy
    },
    ..BASE
};

const BASE: Kind = row("", "v1", "Pod", "pods", "pod");

fn default(object: &mut Value) {
    let Some(fields) = object.as_object_mut() else {
        return;
    };
    if let Some(spec) = default::object_or_new(fields, "spec") {
        default::pod_spec(spec);
        default::pod_only(spec);
    }
}

/// The shortest grace period of a pod on a node, in seconds. It replaces negative values, which
/// meant "at once" before Kubernetes rejected them.
const SHORTEST_GRACE_SECONDS: i64 = 1;

fn create(object: &mut Value) {
    let grace = object.pointer_mut("/spec/terminationGracePeriodSeconds");
    if let Some(grace) = grace.filter(|grace| grace.as_i64().is_some_and(|seconds| seconds < 0)) {
        *grace = SHORTEST_GRACE_SECONDS.into();
    }
    let mut status = json!({"phase": "Pending", "qosClass": qos_class(&object["spec"])});
    if !list(&object["spec"], "schedulingGates").is_empty() {
        status["conditions"] = json!([{
            "type": "PodScheduled",
            "status": "False",
            "reason": "SchedulingGated",
            "message": "Scheduling is blocked due to non-empty scheduling gates",
            "observedGeneration": meta::generation(object),
            "lastProbeTime": null,
            "lastTransitionTime": meta::creation_timestamp(object),
        }]);
    }
    if let Some(fields) = object.as_object_mut() {
        fields.insert("status".to_owned(), status);
    }
}

fn status_update(new: &mut Value, old: &Value) {
    // Old kubelets sent incomplete owner references, so the status subresource ignores them, as in
    // Kubernetes.
    let owners = old["metadata"].get("ownerReferences").cloned();
    let metadata = meta::metadata_mut(new);
    match owners {
        Some(owners) => metadata.insert("ownerReferences".to_owned(), owners),
        None => metadata.remove("ownerReferences"),
    };
    let class = &old["status"]["qosClass"];
    if let Some(status) = default::object(new, "status")
        && !class.is_null()
    {
        default::set_missing(status, "qosClass", || class.clone());
    }
}

fn field(object: &Value, path: &str) -> Option<String> {
    match path {
        "spec.hostNetwork" => Some(flag(&object["spec"], "hostNetwork").to_string()),
        "status.podIPs" => list(&object["status"], "podIPs")
            .first()
            .map(|ip| text(ip, "ip").to_owned()),
        _ => None,
    }
}

fn rules(object: &Value, errors: &mut Vec<FieldError>) {
    let metadata = Path::Root("metadata");
    pod_annotations::rules(object, &metadata.child("annotations"), errors);
    let spec = &object["spec"];
    let path = &Path::Root("spec");
    spec_rules(spec, path, errors);
    if !list(spec, "ephemeralContainers").is_empty() {
        errors.push(FieldError::forbidden(
            &path.child("ephemeralContainers"),
            "cannot be set on create",
        ));
    }
    if !text(spec, "nodeName").is_empty() && !list(spec, "schedulingGates").is_empty() {
        let detail = "cannot be set until all schedulingGates have been cleared";
        errors.push(FieldError::forbidden(&path.child("nodeName"), detail));
    }
}

fn spec_rules(spec: &Value, path: &Path<'_>, errors: &mut Vec<FieldError>) {
    pod_spec::validate(spec, Within::Pod, path, errors);
    if text(spec, "serviceAccountName").is_empty() {
        token_needs_account(spec, path, errors);
    }
}

fn token_needs_account(spec: &Value, path: &Path<'_>, errors: &mut Vec<FieldError>) {
    let volumes = path.child("volumes");
    for (index, volume) in list(spec, "volumes").iter().enumerate() {
        let path = volumes.index(index);
        let path = path.child("projected");
        let sources = path.child("sources");
        for (index, source) in list(&volume["projected"], "sources").iter().enumerate() {
            if present(source, "serviceAccountToken") {
                let path = sources.index(index);
                let detail = "must not be specified when serviceAccountName is not set";
                errors.push(FieldError::forbidden(&path.child("serviceAccountToken"), detail));
            }
        }
    }
}

fn status_rules(new: &Value, old: &Value, errors: &mut Vec<FieldError>) {
    let metadata = Path::Root("metadata");
    let conditions = metadata.child("conditions");
    for (index, condition) in list(&new["status"], "conditions").iter().enumerate() {
        let path = conditions.index(index);
        check_name(
            text(condition, "type"),
            name::qualified,
            &path.child("Type"),
            errors,
        );
    }
    let path = &Path::Root("status");
    let (after, before) = (&new["status"], &old["status"]);
    let nominated = text(after, "nominatedNodeName");
    if !nominated.is_empty() && nominated != text(before, "nominatedNodeName") {
        check_name(
            nominated,
            name::dns_subdomain,
            &path.child("nominatedNodeName"),
            errors,
        );
    }
    if !before["qosClass"].is_null() {
        check_immutable(
            &after["qosClass"],
            &before["qosClass"],
            &path.child("qosClass"),
            errors,
        );
    }
    for (field, init) in [("containerStatuses", false), ("initContainerStatuses", true)] {
        check_terminated_containers(old, after, before, (field, init), &path.child(field), errors);
    }
    for field in ["podIPs", "hostIPs"] {
        ips(after, field, &path.child(field), errors);
    }
}

/// Validates the addresses in a list field: at most one of each family.
fn ips(status: &Value, field: &str, path: &Path<'_>, errors: &mut Vec<FieldError>) {
    let all = list(status, field);
    for (index, ip) in all.iter().enumerate() {
        check_name(text(ip, "ip"), name::ip, &path.index(index), errors);
        if all[..index].contains(ip) {
            errors.push(FieldError::duplicate(&path.index(index), ip.clone()));
        }
    }
    let of_family = |is_v4: bool| {
        let addresses = all.iter().filter_map(|ip| text(ip, "ip").parse().ok());
        addresses
            .filter(|ip: &std::net::IpAddr| ip.is_ipv4() == is_v4)
            .count()
    };
    if of_family(true) > 1 || of_family(false) > 1 {
        let detail = "may specify no more than one IP for each IP family";
        errors.push(FieldError::invalid(path, status[field].clone(), detail));
    }
}

/// Validates that a container that has terminated and is not restarted does not run again.
fn check_terminated_containers(
    old: &Value,
    after: &Value,
    before: &Value,
    (field, init): (&str, bool),
    path: &Path<'_>,
    errors: &mut Vec<FieldError>,
) {
    let policy = text(&old["spec"], "restartPolicy");
    if policy == "Always" {
        return;
    }
    let specs = list(&old["spec"], if init { "initContainers" } else { "containers" });
    // A container can have its own restart policy, and rules for it.
    let restarts_always = |container: &str| {
        specs.iter().any(|spec| {
            text(spec, "name") == container
                && (matches!(text(spec, "restartPolicy"), "Always" | "OnFailure")
                    || !list(spec, "restartPolicyRules").is_empty())
        })
    };
    for (index, status) in list(before, field).iter().enumerate() {
        let ended = &status["state"]["terminated"];
        let container = text(status, "name");
        let may_restart = ended["exitCode"] != 0 && policy == "OnFailure";
        if ended.is_null() || may_restart || restarts_always(container) {
            continue;
        }
        let runs = |new: &&Value| text(new, "name") == container && new["state"]["terminated"].is_null();
        if list(after, field).iter().any(|new| runs(&new)) {
            let path = path.index(index);
            let detail = "may not be transitioned to non-terminated state";
            errors.push(FieldError::forbidden(&path.child("state"), detail));
        }
    }
}

/// Validates the body of `pods/binding`.
pub fn validate_binding(binding: &Value) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let target = &binding["target"];
    let path = Path::Root("target");
    let kind = text(target, "kind");
    if !matches!(kind, "" | "Node") {
        errors.push(FieldError::not_supported(
            &path.child("kind"),
            kind,
            &["Node", "<empty>"],
        ));
    }
    if text(target, "name").is_empty() {
        errors.push(FieldError::required(&path.child("name"), ""));
    }
    errors
}

/// Binds a pod to a node: sets the node's name, the annotations and labels of the binding, and the
/// condition PodScheduled. The error is the message of a Conflict.
pub fn bind(pod: &mut Value, binding: &Value, now: jiff::Timestamp) -> Result<(), String> {
    let node = text(&binding["target"], "name").to_owned();
    let name = meta::name(pod).to_owned();
    if meta::deletion_timestamp(pod).is_some() {
        return Err(format!(
            "pod {name} is being deleted, cannot be assigned to a host"
        ));
    }
    let bound = text(&pod["spec"], "nodeName");
    if !bound.is_empty() {
        return Err(format!(
            "pod {name} is already assigned to node {}",
            crate::field_error::quote(bound)
        ));
    }
    if !list(&pod["spec"], "schedulingGates").is_empty() {
        return Err(format!("pod {name} has non-empty .spec.schedulingGates"));
    }
    for field in ["annotations", "labels"] {
        if let Some(given) = binding["metadata"][field]
            .as_object()
            .filter(|given| !given.is_empty())
            && let Some(map) = default::object_or_new(meta::metadata_mut(pod), field)
        {
            map.extend(given.iter().map(|(key, value)| (key.clone(), value.clone())));
        }
    }
    // Kubernetes does not increment the generation here, although the spec changes.
    let generation = meta::generation(pod);
    if let Some(fields) = pod.as_object_mut() {
        if let Some(spec) = default::object_or_new(fields, "spec") {
            spec.insert("nodeName".to_owned(), node.into());
        }
        if let Some(status) = default::object_or_new(fields, "status") {
            // The nomination is not needed any more.
            status.remove("nominatedNodeName");
            set_scheduled(status, generation, now);
        }
    }
    Ok(())
}

fn set_scheduled(status: &mut Map<String, Value>, generation: i64, now: jiff::Timestamp) {
    let condition = json!({
        "type": "PodScheduled",
        "status": "True",
        "observedGeneration": generation,
        "lastProbeTime": null,
        "lastTransitionTime": crate::time::rfc3339(now),
    });
    set_condition(status, condition, |known| known["status"] == "True");
}

/// Sets a condition by its type, unless `settled` returns true for the existing one.
fn set_condition(status: &mut Map<String, Value>, condition: Value, settled: impl Fn(&Value) -> bool) {
    default::set_missing(status, "conditions", || json!([]));
    let Some(conditions) = status.get_mut("conditions").and_then(Value::as_array_mut) else {
        return;
    };
    match conditions
        .iter_mut()
        .find(|found| found["type"] == condition["type"])
    {
        Some(found) if settled(found) => {}
        Some(found) => *found = condition,
        None => conditions.push(condition),
    }
}

/// Sets the condition DisruptionTarget in the pod's status, with the reason for the disruption. An
/// equal one keeps its time.
pub fn set_disruption_target(pod: &mut Value, reason: &str, message: &str, now: jiff::Timestamp) {
    let mut condition = json!({
        "type": "DisruptionTarget", "status": "True", "reason": reason, "message": message,
        "lastProbeTime": null, "lastTransitionTime": crate::time::rfc3339(now),
    });
    let generation = meta::generation(pod);
    if generation > 0 {
        condition["observedGeneration"] = generation.into();
    }
    let is_equal =
        |known: &Value| known["status"] == "True" && known["reason"] == reason && known["message"] == message;
    if let Some(fields) = pod.as_object_mut()
        && let Some(status) = default::object_or_new(fields, "status")
    {
        set_condition(status, condition, is_equal);
    }
}

/// Returns the grace period of a deleted pod in seconds: the client's, or else the pod's; 0 for a
/// pod without a node or one that has ended.
pub fn deletion_grace_seconds(pod: &Value, asked: Option<i64>) -> i64 {
    let ended = matches!(text(&pod["status"], "phase"), "Succeeded" | "Failed");
    if text(&pod["spec"], "nodeName").is_empty() || ended {
        return 0;
    }
    let seconds = asked
        .or_else(|| pod["spec"]["terminationGracePeriodSeconds"].as_i64())
        .unwrap_or_default();
    if seconds < 0 {
        SHORTEST_GRACE_SECONDS
    } else {
        seconds
    }
}

/// Returns the names of all containers of a pod, init containers first.
pub fn container_names(pod: &Value) -> impl Iterator<Item = &str> {
    ["initContainers", "containers", "ephemeralContainers"]
        .into_iter()
        .flat_map(|field| {
            list(&pod["spec"], field)
                .iter()
                .map(|container| text(container, "name"))
        })
}

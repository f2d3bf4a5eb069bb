//! Warnings about valid pods, in Kubernetes' words.

mod volumes;

use schema::quantity::Quantity;
use serde_json::Value;

use crate::field_error::{Path, quote};
use crate::kinds::core::node;
use crate::meta;
use crate::validate::field::{list, present, text, texts};
use crate::validate::meta::entries;
use crate::validate::name;

const REQUIRED: &str = "requiredDuringSchedulingIgnoredDuringExecution";
const PREFERRED: &str = "preferredDuringSchedulingIgnoredDuringExecution";
/// Resources with whole bytes as their unit.
const BYTES: [&str; 2] = ["memory", "ephemeral-storage"];

/// Annotations without effect.
const DEAD_ANNOTATIONS: [(&str, &str); 3] = [
    (
        "scheduler.alpha.kubernetes.io/critical-pod",
        "non-functional in v1.16+; use the \"priorityClassName\" field instead",
    ),
    (
        "security.alpha.kubernetes.io/sysctls",
        "non-functional in v1.11+; use the \"sysctls\" field instead",
    ),
    (
        "security.alpha.kubernetes.io/unsafe-sysctls",
        "non-functional in v1.11+; use the \"sysctls\" field instead",
    ),
];
const SECCOMP_OF_POD: &str = "seccomp.security.alpha.kubernetes.io/pod";
const SECCOMP_OF_CONTAINER: &str = "container.seccomp.security.alpha.kubernetes.io/";
const APPARMOR_OF_CONTAINER: &str = "container.apparmor.security.beta.kubernetes.io/";

/// The subject of a warning: a pod or a pod template.
#[derive(Clone, Copy, PartialEq, Eq)]
enum About {
    Pod,
    Template,
}

/// Returns the warnings about a pod.
pub(super) fn of_pod(pod: &Value) -> Vec<String> {
    let mut found = Vec::new();
    let mut faults = Vec::new();
    name::dns_label(meta::name(pod), &mut faults);
    if !faults.is_empty() {
        found.push(format!(
            "metadata.name: this is used in the Pod's hostname, which can result in surprising behavior; a DNS \
             label is recommended: [{}]",
            faults.join(" ")
        ));
    }
    found.extend(warnings(pod, &Path::Root(""), About::Pod));
    found
}

/// Returns the warnings about a pod template at `path`.
pub(in crate::kinds) fn of_template(template: &Value, path: &Path<'_>) -> Vec<String> {
    warnings(template, path, About::Template)
}

fn warnings(pod: &Value, path: &Path<'_>, about: About) -> Vec<String> {
    let mut warnings = Vec::new();
    let spec = &pod["spec"];
    let spec_path = &path.child("spec");
    node_labels(spec, spec_path, &mut warnings);
    topology_spread(spec, spec_path, &mut warnings);
    dead_annotations(pod, path, &mut warnings);
    volumes::warnings(spec, spec_path, &mut warnings);
    repeated(spec, spec_path, &mut warnings);
    fractions(&spec["overhead"], &spec_path.child("overhead"), &mut warnings);
    seccomp_annotation(pod, path, &mut warnings);
    for (field, index, container) in containers(spec) {
        let list_path = spec_path.child(field);
        let container_path = &list_path.index(index);
        container_annotations(pod, container, path, about, &mut warnings);
        for kind in ["limits", "requests"] {
            let resources = container_path.child("resources");
            fractions(
                &container["resources"][kind],
                &resources.child(kind),
                &mut warnings,
            );
        }
        hidden_variables(container, container_path, &mut warnings);
    }
    ports(spec, spec_path, &mut warnings);
    if spec["terminationGracePeriodSeconds"]
        .as_i64()
        .is_some_and(|seconds| seconds < 0)
    {
        let path = spec_path.child("terminationGracePeriodSeconds");
        warnings.push(format!(
            "{path}: must be >= 0; negative values are invalid and will be treated as 1"
        ));
    }
    pod_affinity(spec, spec_path, &mut warnings);
    warnings
}

/// Returns all containers with their list and index.
fn containers(spec: &Value) -> impl Iterator<Item = (&'static str, usize, &Value)> {
    ["initContainers", "containers", "ephemeralContainers"]
        .into_iter()
        .flat_map(move |field| {
            let containers = list(spec, field).iter().enumerate();
            containers.map(move |(index, container)| (field, index, container))
        })
}

/// Warns about deprecated node labels wherever the pod selects nodes by them.
fn node_labels(spec: &Value, path: &Path<'_>, warnings: &mut Vec<String>) {
    for (key, _) in entries(&spec["nodeSelector"]) {
        if let Some(why) = node::deprecated_label(key) {
            warnings.push(format!("{}: {why}", path.child("nodeSelector").key(key)));
        }
    }
    let affinity = &spec["affinity"]["nodeAffinity"];
    let affinity_path = path.child("affinity");
    let affinity_path = affinity_path.child("nodeAffinity");
    let required = affinity_path.child(REQUIRED);
    let terms = required.child("nodeSelectorTerms");
    for (index, term) in list(&affinity[REQUIRED], "nodeSelectorTerms").iter().enumerate() {
        node_term(term, &terms.index(index), warnings);
    }
    let preferred = affinity_path.child(PREFERRED);
    for (index, term) in list(affinity, PREFERRED).iter().enumerate() {
        let path = preferred.index(index);
        let path = path.child("preference");
        node_term(&term["preference"], &path, warnings);
        unmatchable_values(&term["preference"], &path, warnings);
    }
}

fn node_term(term: &Value, path: &Path<'_>, warnings: &mut Vec<String>) {
    let expressions = path.child("matchExpressions");
    for (index, expression) in list(term, "matchExpressions").iter().enumerate() {
        let key = text(expression, "key");
        if let Some(why) = node::deprecated_label(key) {
            warnings.push(format!(
                "{}: {key} is {why}",
                expressions.index(index).child("key")
            ));
        }
    }
}

/// Warns about values that no label can have. Preferred terms are not validated, so they may
/// contain such values.
fn unmatchable_values(term: &Value, path: &Path<'_>, warnings: &mut Vec<String>) {
    let expressions = path.child("matchExpressions");
    for (index, expression) in list(term, "matchExpressions").iter().enumerate() {
        let path = expressions.index(index);
        let path = path.child("values");
        for (index, value) in texts(expression, "values").enumerate() {
            let mut faults = Vec::new();
            name::label_value(value, &mut faults);
            let path = path.index(index);
            warnings.extend(
                faults
                    .iter()
                    .map(|fault| format!("{path}: {value} is invalid, {fault}")),
            );
        }
    }
}

fn topology_spread(spec: &Value, path: &Path<'_>, warnings: &mut Vec<String>) {
    let path = path.child("topologySpreadConstraints");
    for (index, constraint) in list(spec, "topologySpreadConstraints").iter().enumerate() {
        let path = path.index(index);
        let key = text(constraint, "topologyKey");
        if let Some(why) = node::deprecated_label(key) {
            warnings.push(format!("{}: {key} is {why}", path.child("topologyKey")));
        }
        matches_no_pod(constraint, &path, warnings);
    }
}

/// Warns about a missing label selector, which matches nothing (an empty one matches everything).
fn matches_no_pod(term: &Value, path: &Path<'_>, warnings: &mut Vec<String>) {
    if !present(term, "labelSelector") {
        let path = path.child("labelSelector");
        warnings.push(format!("{path}: a null labelSelector results in matching no pod"));
    }
}

fn pod_affinity(spec: &Value, path: &Path<'_>, warnings: &mut Vec<String>) {
    let affinity_path = path.child("affinity");
    for field in ["podAffinity", "podAntiAffinity"] {
        let affinity = &spec["affinity"][field];
        let path = affinity_path.child(field);
        let required = path.child(REQUIRED);
        for (index, term) in list(affinity, REQUIRED).iter().enumerate() {
            matches_no_pod(term, &required.index(index), warnings);
        }
        let preferred = path.child(PREFERRED);
        for (index, term) in list(affinity, PREFERRED).iter().enumerate() {
            let path = preferred.index(index);
            matches_no_pod(&term["podAffinityTerm"], &path.child("podAffinityTerm"), warnings);
        }
    }
}

fn has_annotation(pod: &Value, key: &str) -> bool {
    present(&pod["metadata"]["annotations"], key)
}

fn annotation(pod_path: &Path<'_>, key: &str, why: &str) -> String {
    let metadata = pod_path.child("metadata");
    format!("{}: {why}", metadata.child("annotations").key(key))
}

fn dead_annotations(pod: &Value, path: &Path<'_>, warnings: &mut Vec<String>) {
    for (key, why) in DEAD_ANNOTATIONS {
        if has_annotation(pod, key) {
            warnings.push(annotation(path, key, why));
        }
    }
}

const USE_SECCOMP_FIELD: &str = "non-functional in v1.27+; use the \"seccompProfile\" field instead";

fn seccomp_annotation(pod: &Value, path: &Path<'_>, warnings: &mut Vec<String>) {
    let in_field = present(&pod["spec"]["securityContext"], "seccompProfile");
    if !in_field && has_annotation(pod, SECCOMP_OF_POD) {
        warnings.push(annotation(path, SECCOMP_OF_POD, USE_SECCOMP_FIELD));
    }
}

/// Warns about annotations that name a container and that a field has replaced. A pod's AppArmor
/// annotations still work.
fn container_annotations(
    pod: &Value,
    container: &Value,
    path: &Path<'_>,
    about: About,
    warnings: &mut Vec<String>,
) {
    let has_field = |field| present(&container["securityContext"], field);
    let name = text(container, "name");
    let seccomp = format!("{SECCOMP_OF_CONTAINER}{name}");
    if !has_field("seccompProfile") && has_annotation(pod, &seccomp) {
        warnings.push(annotation(path, &seccomp, USE_SECCOMP_FIELD));
    }
    let in_field =
        has_field("appArmorProfile") || present(&pod["spec"]["securityContext"], "appArmorProfile");
    let apparmor = format!("{APPARMOR_OF_CONTAINER}{name}");
    if about == About::Template && !in_field && has_annotation(pod, &apparmor) {
        let why = "deprecated since v1.30; use the \"appArmorProfile\" field instead";
        warnings.push(annotation(path, &apparmor, why));
    }
}

/// Warns about list entries that occur twice or have no name.
fn repeated(spec: &Value, path: &Path<'_>, warnings: &mut Vec<String>) {
    let aliases = list(spec, "hostAliases");
    let aliases_path = path.child("hostAliases");
    for (index, ip) in repeats(aliases, "ip") {
        let path = aliases_path.index(index);
        warnings.push(format!("{}: duplicate ip {}", path.child("ip"), quote(ip)));
    }
    let secrets = list(spec, "imagePullSecrets");
    let secrets_path = path.child("imagePullSecrets");
    for (index, name) in repeats(secrets, "name") {
        let path = secrets_path.index(index);
        warnings.push(format!("{}: duplicate name {}", path.child("name"), quote(name)));
    }
    for (index, secret) in secrets.iter().enumerate() {
        if text(secret, "name").is_empty() {
            let path = secrets_path.index(index);
            warnings.push(format!("{}: invalid empty name \"\"", path.child("name")));
        }
    }
}

/// Returns the items with the same `field` as an earlier item.
fn repeats<'a>(items: &'a [Value], field: &'a str) -> impl Iterator<Item = (usize, &'a str)> {
    let all = items.iter().map(move |item| text(item, field)).enumerate();
    all.filter(move |(index, value)| items[..*index].iter().any(|before| text(before, field) == *value))
}

fn fractions(resources: &Value, path: &Path<'_>, warnings: &mut Vec<String>) {
    for resource in BYTES {
        if let Ok(quantity) = Quantity::from_value(&resources[resource])
            && quantity.milli() % 1000 != 0
        {
            let path = path.key(resource);
            let value = quote(&quantity.to_string());
            warnings.push(format!(
                "{path}: fractional byte value {value} is invalid, must be an integer"
            ));
        }
    }
}

/// Warns about variables that occur twice, unless the later one refers to the earlier one.
fn hidden_variables(container: &Value, path: &Path<'_>, warnings: &mut Vec<String>) {
    let variables = list(container, "env");
    let env = path.child("env");
    for (index, name) in repeats(variables, "name") {
        let variable = &variables[index];
        let value = text(variable, "value");
        let reference = format!("$({name})");
        let extends = !present(variable, "valueFrom") && value != reference && value.contains(&reference);
        if !extends {
            warnings.push(format!(
                "{}: hides previous definition of {}, which may be dropped when using apply",
                env.index(index),
                quote(name)
            ));
        }
    }
}

/// A port of a container, and its path.
struct Port<'a> {
    field: &'static str,
    container: usize,
    index: usize,
    port: &'a Value,
}

impl Port<'_> {
    fn path(&self, spec: &Path<'_>) -> String {
        let containers = spec.child(self.field);
        let container = containers.index(self.container);
        container.child("ports").index(self.index).to_string()
    }

    fn number(&self, field: &str) -> i64 {
        self.port[field].as_i64().unwrap_or_default()
    }

    fn text(&self, field: &str) -> &str {
        text(self.port, field)
    }

    fn is_same_inside(&self, other: &Port<'_>) -> bool {
        self.number("containerPort") == other.number("containerPort")
            && self.text("protocol") == other.text("protocol")
    }
}

/// Warns about ports that are opened twice, by one container or by two.
fn ports(spec: &Value, path: &Path<'_>, warnings: &mut Vec<String>) {
    let mut seen: Vec<Port<'_>> = Vec::new();
    for (field, container, spec) in containers(spec) {
        for (index, port) in list(spec, "ports").iter().enumerate() {
            let port = Port {
                field,
                container,
                index,
                port,
            };
            if !port.text("hostIP").is_empty() && port.number("hostPort") == 0 {
                warnings.push(format!(
                    "{}: hostIP set without hostPort: {{Name:{} HostPort:0 ContainerPort:{} Protocol:{} HostIP:{}}}",
                    port.path(path),
                    port.text("name"),
                    port.number("containerPort"),
                    port.text("protocol"),
                    port.text("hostIP"),
                ));
            }
            for before in seen.iter().filter(|before| before.is_same_inside(&port)) {
                if let Some(how) = collision(&port, before) {
                    warnings.push(format!(
                        "{}: {how} port definition with {}",
                        port.path(path),
                        before.path(path)
                    ));
                }
            }
            seen.push(port);
        }
    }
}

/// Returns how two entries for the same container port conflict on the host, if they do.
fn collision(one: &Port<'_>, other: &Port<'_>) -> Option<&'static str> {
    let (port, other_port) = (one.number("hostPort"), other.number("hostPort"));
    let (ip, other_ip) = (one.text("hostIP"), other.text("hostIP"));
    if (port, ip) == (other_port, other_ip) {
        Some("duplicate")
    } else if port == 0 || other_port == 0 {
        Some("overlapping")
    } else if port == other_port && ip.is_empty() != other_ip.is_empty() {
        Some("dangerously ambiguous")
    } else {
        None
    }
}

//! Warnings about valid pods and pod templates.

use super::*;
use crate::kinds::apps::daemon_set;
use crate::kinds::core::pod;

const NONE: [&str; 0] = [];

/// Returns the warnings about a DaemonSet with this pod spec and these annotations in its template.
fn of(spec: Value, annotations: Value) -> Vec<String> {
    let template = json!({"metadata": {"annotations": annotations}, "spec": spec});
    daemon_set::KIND.warnings(&json!({"spec": {"template": template}}))
}

fn of_spec(spec: Value) -> Vec<String> {
    of(spec, Value::Null)
}

fn of_container(container: Value) -> Vec<String> {
    of_spec(json!({"containers": [container]}))
}

#[test]
fn ordinary_template_has_no_warning() {
    let spec = json!({"nodeSelector": {"kubernetes.io/os": "linux"}, "containers": [{"name": "a",
        "env": [{"name": "A", "value": "1"}, {"name": "A", "value": "$(A)2"}], "ports": [{"containerPort": 1}, {"containerPort": 2}],
        "resources": {"limits": {"memory": "1Gi"}, "requests": {"cpu": "1m"}}}]});
    assert_eq!(of_spec(spec), NONE);
}

#[test]
fn deprecated_node_labels_cause_warnings() {
    let expression = json!({"key": "beta.kubernetes.io/arch", "operator": "Exists"});
    let spec = json!({
        "nodeSelector": {"beta.kubernetes.io/os": "linux", "node-role.kubernetes.io/master": ""},
        "affinity": {"nodeAffinity": {
            "requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [{"matchExpressions": [expression]}]},
            "preferredDuringSchedulingIgnoredDuringExecution": [{"weight": 1, "preference": {"matchExpressions": [expression]}}]}},
        "topologySpreadConstraints": [{"topologyKey": "failure-domain.beta.kubernetes.io/zone", "labelSelector": {}}]});
    let affinity = "spec.template.spec.affinity.nodeAffinity";
    let arch = "beta.kubernetes.io/arch is deprecated since v1.14; use \"kubernetes.io/arch\" instead";
    assert_eq!(
        of_spec(spec),
        [
            "spec.template.spec.nodeSelector[beta.kubernetes.io/os]: deprecated since v1.14; use \"kubernetes.io/os\" instead".to_owned(),
            "spec.template.spec.nodeSelector[node-role.kubernetes.io/master]: use \"node-role.kubernetes.io/control-plane\" instead".to_owned(),
            format!("{affinity}.requiredDuringSchedulingIgnoredDuringExecution.nodeSelectorTerms[0].matchExpressions[0].key: {arch}"),
            format!("{affinity}.preferredDuringSchedulingIgnoredDuringExecution[0].preference.matchExpressions[0].key: {arch}"),
            "spec.template.spec.topologySpreadConstraints[0].topologyKey: failure-domain.beta.kubernetes.io/zone is deprecated since v1.17; use \"topology.kubernetes.io/zone\" instead".to_owned(),
        ]
    );
}

#[test]
fn impossible_preferred_label_value_causes_a_warning() {
    let warnings = of_spec(
        json!({"affinity": {"nodeAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": [
        {"weight": 1, "preference": {"matchExpressions": [{"key": "a", "operator": "In", "values": ["b c"]}]}}]}}}),
    );
    assert_eq!(warnings.len(), 1);
    let path = "spec.template.spec.affinity.nodeAffinity.preferredDuringSchedulingIgnoredDuringExecution[0].preference.matchExpressions[0].values[0]";
    assert!(
        warnings[0].starts_with(&format!("{path}: b c is invalid, a valid label must")),
        "{warnings:?}"
    );
}

#[test]
fn missing_pod_selector_causes_a_warning() {
    let term = json!({"topologyKey": "a"});
    let warnings = of_spec(json!({
        "topologySpreadConstraints": [{"topologyKey": "a"}],
        "affinity": {
            "podAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [term]},
            "podAntiAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": [{"weight": 1, "podAffinityTerm": term}]}}}));
    let no_pod = "labelSelector: a null labelSelector results in matching no pod";
    assert_eq!(
        warnings,
        [
            format!("spec.template.spec.topologySpreadConstraints[0].{no_pod}"),
            format!(
                "spec.template.spec.affinity.podAffinity.requiredDuringSchedulingIgnoredDuringExecution[0].{no_pod}"
            ),
            format!(
                "spec.template.spec.affinity.podAntiAffinity.preferredDuringSchedulingIgnoredDuringExecution[0].podAffinityTerm.{no_pod}"
            ),
        ]
    );
}

#[test]
fn annotations_replaced_by_fields_cause_warnings() {
    let annotations = json!({
        "scheduler.alpha.kubernetes.io/critical-pod": "",
        "seccomp.security.alpha.kubernetes.io/pod": "runtime/default",
        "container.seccomp.security.alpha.kubernetes.io/a": "runtime/default",
        "container.apparmor.security.beta.kubernetes.io/a": "runtime/default"});
    let plain = of(
        json!({"containers": [{"name": "a"}, {"name": "b"}]}),
        annotations.clone(),
    );
    let path = "spec.template.metadata.annotations";
    let seccomp = "non-functional in v1.27+; use the \"seccompProfile\" field instead";
    assert_eq!(
        plain,
        [
            format!(
                "{path}[scheduler.alpha.kubernetes.io/critical-pod]: non-functional in v1.16+; use the \"priorityClassName\" field instead"
            ),
            format!("{path}[seccomp.security.alpha.kubernetes.io/pod]: {seccomp}"),
            format!("{path}[container.seccomp.security.alpha.kubernetes.io/a]: {seccomp}"),
            format!(
                "{path}[container.apparmor.security.beta.kubernetes.io/a]: deprecated since v1.30; use the \"appArmorProfile\" field instead"
            ),
        ]
    );
    let profile =
        json!({"seccompProfile": {"type": "RuntimeDefault"}, "appArmorProfile": {"type": "RuntimeDefault"}});
    let with_fields =
        json!({"securityContext": profile, "containers": [{"name": "a", "securityContext": profile}]});
    assert_eq!(of(with_fields, annotations).len(), 1, "the fields say it");
}

#[test]
fn deprecated_volume_types_cause_warnings() {
    let volumes = json!([{"name": "a", "gitRepo": {"repository": "r"}}, {"name": "b", "storageos": {}}, {"name": "c", "rbd": {}}]);
    assert_eq!(
        of_spec(json!({"volumes": volumes})),
        [
            "spec.template.spec.volumes[0].gitRepo: deprecated in v1.11",
            "spec.template.spec.volumes[1].storageOS: deprecated in v1.22, non-functional in v1.25+",
            "spec.template.spec.volumes[2].rbd: deprecated in v1.28, non-functional in v1.31+",
        ]
    );
}

#[test]
fn overlapping_files_of_a_volume_cause_warnings() {
    let items = |paths: &[&str]| {
        paths
            .iter()
            .map(|path| json!({"key": "k", "path": path}))
            .collect::<Vec<_>>()
    };
    let volumes = json!([
        {"name": "a", "configMap": {"name": "c", "items": items(&["x", "x/y", "xz"])}},
        {"name": "b", "projected": {"sources": [
            {"serviceAccountToken": {"path": "token"}}, {"secret": {"name": "s", "items": items(&["token"])}}]}},
        {"name": "c", "secret": {"secretName": "s"}}]);
    assert_eq!(
        of_spec(json!({"volumes": volumes})),
        [
            "volume \"a\" (ConfigMap \"c\"): overlapping paths: \"x/y\" with \"x\"",
            "volume \"b\" (Projected Secret \"s\"): overlapping paths: \"token\" with \"token\"",
        ]
    );
}

#[test]
fn repeated_entries_cause_warnings() {
    let spec = json!({"hostAliases": [{"ip": "10.0.0.1"}, {"ip": "10.0.0.1"}],
        "imagePullSecrets": [{"name": "s"}, {"name": "s"}, {}],
        "containers": [{"name": "a", "env": [{"name": "A", "value": "1"}, {"name": "A", "value": "2"},
            {"name": "A", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}}]}]});
    let hides = "hides previous definition of \"A\", which may be dropped when using apply";
    assert_eq!(
        of_spec(spec),
        [
            "spec.template.spec.hostAliases[1].ip: duplicate ip \"10.0.0.1\"".to_owned(),
            "spec.template.spec.imagePullSecrets[1].name: duplicate name \"s\"".to_owned(),
            "spec.template.spec.imagePullSecrets[2].name: invalid empty name \"\"".to_owned(),
            format!("spec.template.spec.containers[0].env[1]: {hides}"),
            format!("spec.template.spec.containers[0].env[2]: {hides}"),
        ]
    );
}

#[test]
fn fraction_of_a_byte_causes_a_warning() {
    let resources =
        json!({"limits": {"memory": "1500m"}, "requests": {"ephemeral-storage": "100m", "cpu": "100m"}});
    assert_eq!(
        of_container(json!({"name": "a", "resources": resources})),
        [
            "spec.template.spec.containers[0].resources.limits[memory]: fractional byte value \"1500m\" is invalid, must be an integer",
            "spec.template.spec.containers[0].resources.requests[ephemeral-storage]: fractional byte value \"100m\" is invalid, must be an integer",
        ]
    );
}

#[test]
fn conflicting_ports_cause_warnings() {
    let first = json!({"containerPort": 80, "protocol": "TCP", "hostPort": 80});
    let check = |port: Value| {
        of_spec(json!({"containers": [{"name": "a", "ports": [first]}, {"name": "b", "ports": [port]}]}))
    };
    let at = "spec.template.spec.containers[1].ports[0]";
    let with = "port definition with spec.template.spec.containers[0].ports[0]";
    assert_eq!(check(first.clone()), [format!("{at}: duplicate {with}")]);
    assert_eq!(
        check(json!({"containerPort": 80, "protocol": "TCP"})),
        [format!("{at}: overlapping {with}")]
    );
    assert_eq!(
        check(json!({"containerPort": 80, "protocol": "TCP", "hostPort": 80, "hostIP": "10.0.0.1"})),
        [format!("{at}: dangerously ambiguous {with}")]
    );
    assert_eq!(check(json!({"containerPort": 80, "protocol": "UDP"})), NONE);
    assert_eq!(
        check(json!({"name": "x", "containerPort": 81, "protocol": "TCP", "hostIP": "10.0.0.1"})),
        [format!(
            "{at}: hostIP set without hostPort: {{Name:x HostPort:0 ContainerPort:81 Protocol:TCP HostIP:10.0.0.1}}"
        )]
    );
}

#[test]
fn negative_grace_period_causes_a_warning() {
    assert_eq!(
        of_spec(json!({"terminationGracePeriodSeconds": -1})),
        [
            "spec.template.spec.terminationGracePeriodSeconds: must be >= 0; negative values are invalid and will be treated as 1"
        ]
    );
}

#[test]
fn daemon_set_update_warns_when_its_template_changed() {
    let object = |generation: &str| {
        json!({"metadata": {"annotations": {"deprecated.daemonset.template.generation": generation}},
            "spec": {"template": {"spec": {"terminationGracePeriodSeconds": -1}}}})
    };
    assert_eq!(daemon_set::KIND.update_warnings(&object("2"), &object("2")), NONE);
    assert_eq!(
        daemon_set::KIND.update_warnings(&object("3"), &object("2")).len(),
        1
    );
}

#[test]
fn pod_causes_warnings_only_at_creation() {
    let object =
        json!({"metadata": {"name": "a.b"}, "spec": {"nodeSelector": {"beta.kubernetes.io/os": "linux"}}});
    let warnings = pod::KIND.warnings(&object);
    assert_eq!(
        warnings,
        [
            "metadata.name: this is used in the Pod's hostname, which can result in surprising behavior; a DNS label is recommended: [must not contain dots]",
            "spec.nodeSelector[beta.kubernetes.io/os]: deprecated since v1.14; use \"kubernetes.io/os\" instead",
        ]
    );
    assert_eq!(pod::KIND.update_warnings(&object, &json!({})), NONE);
}

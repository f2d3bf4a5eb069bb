//! What is allowed in a pod spec and still worth a word.

use serde_json::Value;

use crate::validate::field::{list, text};
use crate::validate::meta::entries;

/// Labels of nodes that have a newer name.
const RENAMED_LABELS: [(&str, &str, &str); 5] = [
    ("beta.kubernetes.io/arch", "v1.14", "kubernetes.io/arch"),
    ("beta.kubernetes.io/os", "v1.14", "kubernetes.io/os"),
    (
        "beta.kubernetes.io/instance-type",
        "v1.17",
        "node.kubernetes.io/instance-type",
    ),
    (
        "failure-domain.beta.kubernetes.io/region",
        "v1.17",
        "topology.kubernetes.io/region",
    ),
    (
        "failure-domain.beta.kubernetes.io/zone",
        "v1.17",
        "topology.kubernetes.io/zone",
    ),
];

/// The warnings of the pod spec at `path` (`spec`, `spec.template.spec`).
pub(in crate::kinds) fn spec_warnings(spec: &Value, path: &str) -> Vec<String> {
    let mut warnings = Vec::new();
    for (key, _) in entries(&spec["nodeSelector"]) {
        if let Some((old, since, new)) = RENAMED_LABELS.iter().find(|(old, ..)| old == key) {
            warnings.push(format!(
                "{path}.nodeSelector[{old}]: deprecated since {since}; use {new:?} instead"
            ));
        }
    }
    if spec["terminationGracePeriodSeconds"]
        .as_i64()
        .is_some_and(|seconds| seconds < 0)
    {
        warnings.push(format!(
            "{path}.terminationGracePeriodSeconds: must be >= 0; negative values are invalid and will be treated as 1"
        ));
    }
    for field in ["initContainers", "containers"] {
        for (index, container) in list(spec, field).iter().enumerate() {
            repeated_variables(container, &format!("{path}.{field}[{index}]"), &mut warnings);
        }
    }
    warnings
}

fn repeated_variables(container: &Value, path: &str, warnings: &mut Vec<String>) {
    let variables = list(container, "env");
    for (index, variable) in variables.iter().enumerate() {
        let name = text(variable, "name");
        if variables[..index]
            .iter()
            .any(|before| text(before, "name") == name)
        {
            warnings.push(format!(
                "{path}.env[{index}]: hides previous definition of {name:?}, which may be dropped when using apply"
            ));
        }
    }
}

//! Kubernetes' placement rules for DaemonSets, implemented again on plain JSON, independent of
//! `plan` and `api`.

use serde_json::Value;

/// Decision about a DaemonSet on a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    /// A pod should run there.
    pub(crate) run: bool,
    /// A pod that runs there may continue.
    pub(crate) stay: bool,
}

const NOWHERE: Place = Place {
    run: false,
    stay: false,
};

/// Returns the decision for the objects of a DaemonSet and a node.
pub(crate) fn place(set: &Value, node: &Value) -> Place {
    let spec = &set["spec"]["template"]["spec"];
    if let Some(name) = spec["nodeName"].as_str()
        && !name.is_empty()
        && node["metadata"]["name"] != name
    {
        return NOWHERE;
    }
    let labels = &node["metadata"]["labels"];
    let selected = spec["nodeSelector"]
        .as_object()
        .is_none_or(|wanted| wanted.iter().all(|(key, value)| labels[key] == *value));
    if !selected || !affine(spec, node) {
        return NOWHERE;
    }
    let stay = !repelled(spec, node, "NoExecute");
    Place {
        run: stay && !repelled(spec, node, "NoSchedule"),
        stay,
    }
}

/// Returns whether a node has a taint with this effect that the pod spec does not tolerate.
pub(crate) fn repelled(spec: &Value, node: &Value, effect: &str) -> bool {
    let taints = node["spec"]["taints"].as_array();
    taints
        .into_iter()
        .flatten()
        .any(|taint| taint["effect"] == effect && !tolerated(spec, taint))
}

fn affine(spec: &Value, node: &Value) -> bool {
    let required = &spec["affinity"]["nodeAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"];
    let Some(terms) = required["nodeSelectorTerms"].as_array() else {
        return true;
    };
    let requirement = |value: Option<&str>, requirement: &Value| {
        let listed = requirement["values"]
            .as_array()
            .is_some_and(|values| values.iter().any(|v| v.as_str() == value && value.is_some()));
        match requirement["operator"].as_str() {
            Some("In") => listed,
            Some("NotIn") => !listed,
            Some("Exists") => value.is_some(),
            Some("DoesNotExist") => value.is_none(),
            other => panic!("the workload does not use the operator {other:?}"),
        }
    };
    terms.iter().any(|term| {
        let by_labels = term["matchExpressions"].as_array();
        let by_fields = term["matchFields"].as_array();
        (by_labels.is_some() || by_fields.is_some())
            && by_labels.into_iter().flatten().all(|r| {
                let key = r["key"].as_str().unwrap_or_default();
                requirement(node["metadata"]["labels"][key].as_str(), r)
            })
            && by_fields
                .into_iter()
                .flatten()
                .all(|r| requirement(node["metadata"]["name"].as_str(), r))
    })
}

/// Tolerations that Kubernetes adds to the pods of every DaemonSet.
const ALWAYS: [(&str, &str); 6] = [
    ("node.kubernetes.io/not-ready", "NoExecute"),
    ("node.kubernetes.io/unreachable", "NoExecute"),
    ("node.kubernetes.io/disk-pressure", "NoSchedule"),
    ("node.kubernetes.io/memory-pressure", "NoSchedule"),
    ("node.kubernetes.io/pid-pressure", "NoSchedule"),
    ("node.kubernetes.io/unschedulable", "NoSchedule"),
];

fn tolerated(spec: &Value, taint: &Value) -> bool {
    let is = |(key, effect): &(&str, &str)| taint["key"] == *key && taint["effect"] == *effect;
    if ALWAYS.iter().any(is) {
        return true;
    }
    let tolerates = |toleration: &Value| {
        let effect = &toleration["effect"];
        let key = toleration["key"].as_str().unwrap_or_default();
        (effect.is_null() || effect == "" || *effect == taint["effect"])
            && match toleration["operator"].as_str() {
                Some("Exists") => key.is_empty() || taint["key"] == key,
                _ => {
                    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
                    taint["key"] == key && text(&toleration["value"]) == text(&taint["value"])
                }
            }
    };
    spec["tolerations"]
        .as_array()
        .is_some_and(|tolerations| tolerations.iter().any(tolerates))
}

/// Returns a number, or a percentage of `total`, rounded up.
pub(crate) fn scaled(value: &Value, total: u64) -> u64 {
    match value {
        Value::Null => 0,
        Value::String(percent) => {
            let percent: u64 = percent.trim_end_matches('%').parse().expect("a percentage");
            (percent * total).div_ceil(100)
        }
        number => number.as_u64().expect("a number"),
    }
}

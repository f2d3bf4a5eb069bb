//! The objects that a node may read because of its pods, and the labels that it may set on itself.

use serde_json::Value;

/// A kind of object that a pod may refer to, in its own namespace.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PodReference {
    /// A Secret: volumes, environment, image pulls.
    Secret,
    /// A ConfigMap: volumes, environment.
    ConfigMap,
    /// The ServiceAccount of the pod.
    ServiceAccount,
}

/// Returns whether a pod refers to the object of this kind and name, so that its node must read it.
pub fn pod_refers_to(pod: &Value, what: PodReference, name: &str) -> bool {
    let spec = &pod["spec"];
    match what {
        PodReference::ServiceAccount => spec["serviceAccountName"] == name,
        PodReference::Secret => {
            items(&spec["imagePullSecrets"]).any(|secret| secret["name"] == name)
                || items(&spec["volumes"]).any(|volume| volume_secret(volume, name))
                || environment(spec, "secretRef", "secretKeyRef").any(|found| found == name)
        }
        PodReference::ConfigMap => {
            items(&spec["volumes"]).any(|volume| {
                volume["configMap"]["name"] == name
                    || items(&volume["projected"]["sources"])
                        .any(|source| source["configMap"]["name"] == name)
            }) || environment(spec, "configMapRef", "configMapKeyRef").any(|found| found == name)
        }
    }
}

/// Returns whether a volume uses the Secret. Each type of volume has its own field for it.
fn volume_secret(volume: &Value, name: &str) -> bool {
    const BY_REFERENCE: [&str; 7] = [
        "cephfs",
        "cinder",
        "flexVolume",
        "iscsi",
        "rbd",
        "scaleIO",
        "storageos",
    ];
    volume["secret"]["secretName"] == name
        || volume["azureFile"]["secretName"] == name
        || volume["csi"]["nodePublishSecretRef"]["name"] == name
        || items(&volume["projected"]["sources"]).any(|source| source["secret"]["name"] == name)
        || BY_REFERENCE
            .into_iter()
            .any(|storage| volume[storage]["secretRef"]["name"] == name)
}

fn items(list: &Value) -> impl Iterator<Item = &Value> {
    list.as_array().into_iter().flatten()
}

/// Returns the names of the objects that the environments of a pod's containers refer to, as a
/// whole or by single keys.
fn environment<'a>(spec: &'a Value, whole: &'static str, key: &'static str) -> impl Iterator<Item = &'a str> {
    ["containers", "initContainers", "ephemeralContainers"]
        .into_iter()
        .flat_map(|field| items(&spec[field]))
        .flat_map(move |container| {
            let from = items(&container["envFrom"]).map(move |source| &source[whole]);
            let single = items(&container["env"]).map(move |variable| &variable["valueFrom"][key]);
            from.chain(single)
        })
        .filter_map(|reference| reference["name"].as_str())
}

/// Labels below `kubernetes.io` and `k8s.io` that a node may set on itself.
const OWN_LABELS: [&str; 12] = [
    "beta.kubernetes.io/arch",
    "beta.kubernetes.io/instance-type",
    "beta.kubernetes.io/os",
    "failure-domain.beta.kubernetes.io/region",
    "failure-domain.beta.kubernetes.io/zone",
    "failure-domain.kubernetes.io/region",
    "failure-domain.kubernetes.io/zone",
    "kubernetes.io/arch",
    "kubernetes.io/hostname",
    "kubernetes.io/os",
    "topology.kubernetes.io/region",
    "topology.kubernetes.io/zone",
];

/// Prefixes below which a node may set any label.
const OWN_PREFIXES: [&str; 2] = ["kubelet.kubernetes.io", "node.kubernetes.io"];
/// The prefix that is reserved for labels that nodes may not set.
const RESTRICTION: &str = "node-restriction.kubernetes.io";

/// Returns whether a node may not set this label on itself, because it could attract workloads with
/// it.
pub fn node_label_is_forbidden(label: &str) -> bool {
    let Some((prefix, _)) = label.split_once('/') else {
        return false;
    };
    let within = |domain: &str| {
        prefix
            .strip_suffix(domain)
            .is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
    };
    if within(RESTRICTION) {
        return true;
    }
    (within("kubernetes.io") || within("k8s.io"))
        && !OWN_LABELS.contains(&label)
        && !OWN_PREFIXES.into_iter().any(within)
}

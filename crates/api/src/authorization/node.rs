//! What a node needs of the cluster because of the pods that are bound to it, and which labels it may give itself.

use serde_json::Value;

/// What a pod may refer to, all in its own namespace.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PodReference {
    /// A Secret: volumes, environment, image pulls.
    Secret,
    /// A ConfigMap: volumes, environment.
    ConfigMap,
    /// The ServiceAccount that it runs as.
    ServiceAccount,
}

/// Whether a pod refers to the object of this kind and name, so that its node has to read it.
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

/// Whether a volume takes something from the Secret. Each kind of storage names its Secret in its own way.
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

/// The names that the environments of a pod's containers take values from: whole objects, and single keys.
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

/// Labels below `kubernetes.io` and `k8s.io` that a node says of itself.
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

/// The prefixes below which a node may say what it likes.
const OWN_PREFIXES: [&str; 2] = ["kubelet.kubernetes.io", "node.kubernetes.io"];
/// The prefix that is there to keep nodes out.
const RESTRICTION: &str = "node-restriction.kubernetes.io";

/// Whether a node may not give itself this label, since workloads are drawn to nodes by it.
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

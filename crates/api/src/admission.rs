//! Admission: what the cluster adds to new objects, as pure functions. The server passes the
//! objects that they need.
//!
//! The names are those of Kubernetes' admission plugins: Priority, DefaultTolerationSeconds,
//! ServiceAccount, TaintNodesByCondition.

use serde_json::{Map, Value, json};

use crate::default;
use crate::meta;
use crate::validate::field::{flag, list, text};

/// Default `tolerationSeconds` of pods on a node that is not ready or unreachable.
pub const DEFAULT_TOLERATION_SECONDS: i64 = 300;
/// The taint of a node that is not ready.
pub const NOT_READY: &str = "node.kubernetes.io/not-ready";
/// The taint of a node that has stopped sending its status.
pub const UNREACHABLE: &str = "node.kubernetes.io/unreachable";
/// Path of the token's volume in every container.
pub const TOKEN_PATH: &str = "/var/run/secrets/kubernetes.io/serviceaccount";
/// The ConfigMap in every namespace with the certificate of the cluster's authority.
pub const ROOT_CA_CONFIG_MAP: &str = "kube-root-ca.crt";
/// The ServiceAccount of pods that name none.
pub const DEFAULT_SERVICE_ACCOUNT: &str = "default";
/// Prefix of the name of the token's volume.
pub const TOKEN_VOLUME_PREFIX: &str = "kube-api-access-";
/// Lifetime of a token in seconds: an hour and 7 seconds, as in Kubernetes.
const TOKEN_SECONDS: i64 = 3607;

/// A rejection with the message of a 403.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// The PriorityClass of the pod does not exist.
    #[error("no PriorityClass with name {0} was found")]
    NoPriorityClass(String),
    /// The pod has another priority than its PriorityClass.
    #[error(
        "the integer value of priority ({given}) must not be provided in pod spec; priority admission controller computed {computed} from the given PriorityClass name"
    )]
    Priority {
        /// The value in the pod.
        given: i64,
        /// The value of its class.
        computed: i64,
    },
    /// The pod has another preemption policy than its PriorityClass.
    #[error(
        "the string value of PreemptionPolicy ({given}) must not be provided in pod spec; priority admission controller computed {computed} from the given PriorityClass name"
    )]
    PreemptionPolicy {
        /// The value in the pod.
        given: String,
        /// The value of its class.
        computed: String,
    },
}

fn spec_mut(object: &mut Value) -> Option<&mut Map<String, Value>> {
    default::object_or_new(object.as_object_mut()?, "spec")
}

/// Returns the name of the pod's PriorityClass.
pub fn priority_class_name(pod: &Value) -> Option<&str> {
    Some(text(&pod["spec"], "priorityClassName")).filter(|name| !name.is_empty())
}

/// Returns the PriorityClass of pods that name none: of those with `globalDefault`, the one with
/// the lowest value.
pub fn default_priority_class<'a>(classes: impl IntoIterator<Item = &'a Value>) -> Option<&'a Value> {
    classes
        .into_iter()
        .filter(|class| flag(class, "globalDefault"))
        .min_by_key(|class| class["value"].as_i64().unwrap_or_default())
}

/// Sets the priority of a pod. `class` is the PriorityClass that the pod names, or the default one.
pub fn priority(pod: &mut Value, class: Option<&Value>) -> Result<(), Refusal> {
    let named = priority_class_name(pod).map(str::to_owned);
    let Some(spec) = spec_mut(pod) else { return Ok(()) };
    let (priority, policy) = match (class, named) {
        (Some(class), named) => {
            if named.is_none() {
                spec.insert("priorityClassName".to_owned(), meta::name(class).into());
            }
            (
                class["value"].as_i64().unwrap_or_default(),
                text(class, "preemptionPolicy"),
            )
        }
        (None, Some(named)) => return Err(Refusal::NoPriorityClass(named)),
        (None, None) => (0, "PreemptLowerPriority"),
    };
    let policy = if policy.is_empty() {
        "PreemptLowerPriority"
    } else {
        policy
    };
    if let Some(given) = spec.get("priority").and_then(Value::as_i64)
        && given != priority
    {
        return Err(Refusal::Priority {
            given,
            computed: priority,
        });
    }
    if let Some(given) = spec.get("preemptionPolicy").and_then(Value::as_str)
        && given != policy
    {
        return Err(Refusal::PreemptionPolicy {
            given: given.to_owned(),
            computed: policy.to_owned(),
        });
    }
    spec.insert("priority".to_owned(), priority.into());
    spec.insert("preemptionPolicy".to_owned(), policy.into());
    Ok(())
}

/// Adds tolerations of the taints not-ready and unreachable for [`DEFAULT_TOLERATION_SECONDS`],
/// unless the pod has its own.
pub fn default_toleration_seconds(pod: &mut Value) {
    let tolerates = |key: &str| {
        list(&pod["spec"], "tolerations").iter().any(|toleration| {
            let (own_key, effect) = (text(toleration, "key"), text(toleration, "effect"));
            matches!(own_key, "") && matches!(effect, "" | "NoExecute")
                || own_key == key && matches!(effect, "" | "NoExecute")
        })
    };
    let missing: Vec<Value> = [NOT_READY, UNREACHABLE]
        .into_iter()
        .filter(|key| !tolerates(key))
        .map(|key| {
            json!({
                "key": key,
                "operator": "Exists",
                "effect": "NoExecute",
                "tolerationSeconds": DEFAULT_TOLERATION_SECONDS,
            })
        })
        .collect();
    if missing.is_empty() {
        return;
    }
    let Some(spec) = spec_mut(pod) else { return };
    default::set_missing(spec, "tolerations", || json!([]));
    if let Some(tolerations) = spec.get_mut("tolerations").and_then(Value::as_array_mut) {
        tolerations.extend(missing);
    }
}

/// Returns the name of the pod's ServiceAccount.
pub fn service_account_name(pod: &Value) -> &str {
    match text(&pod["spec"], "serviceAccountName") {
        "" => DEFAULT_SERVICE_ACCOUNT,
        name => name,
    }
}

/// Sets the ServiceAccount of a pod: its name, its pull secrets, and in every container the volume
/// with token, CA certificate and namespace. `account` is the ServiceAccount named by
/// [`service_account_name`]; `suffix` makes the volume's name unique.
pub fn service_account(pod: &mut Value, account: &Value, suffix: &str) {
    let name = service_account_name(pod).to_owned();
    let wants_token = match &pod["spec"]["automountServiceAccountToken"] {
        Value::Bool(wants) => *wants,
        _ => account["automountServiceAccountToken"] != false,
    };
    let Some(spec) = spec_mut(pod) else { return };
    spec.insert("serviceAccount".to_owned(), name.as_str().into());
    spec.insert("serviceAccountName".to_owned(), name.into());
    let secrets = list(account, "imagePullSecrets");
    if !secrets.is_empty() && spec.get("imagePullSecrets").is_none_or(list_is_empty) {
        spec.insert("imagePullSecrets".to_owned(), secrets.into());
    }
    if wants_token {
        mount_token(spec, suffix);
    }
}

fn list_is_empty(value: &Value) -> bool {
    value.as_array().is_none_or(Vec::is_empty)
}

fn mount_token(spec: &mut Map<String, Value>, suffix: &str) {
    let volume = format!("{TOKEN_VOLUME_PREFIX}{suffix}");
    let mut mounted = false;
    for field in ["initContainers", "containers"] {
        for container in default::items(spec, field) {
            default::set_missing(container, "volumeMounts", || json!([]));
            let Some(mounts) = container.get_mut("volumeMounts").and_then(Value::as_array_mut) else {
                continue;
            };
            if mounts.iter().any(|mount| text(mount, "mountPath") == TOKEN_PATH) {
                continue;
            }
            mounts.push(json!({"name": volume, "mountPath": TOKEN_PATH, "readOnly": true}));
            mounted = true;
        }
    }
    if !mounted {
        return;
    }
    default::set_missing(spec, "volumes", || json!([]));
    if let Some(volumes) = spec.get_mut("volumes").and_then(Value::as_array_mut) {
        volumes.push(token_volume(&volume));
    }
}

fn token_volume(name: &str) -> Value {
    json!({
        "name": name,
        "projected": {
            "defaultMode": 0o644,
            "sources": [
                {"serviceAccountToken": {"expirationSeconds": TOKEN_SECONDS, "path": "token"}},
                {"configMap": {"name": ROOT_CA_CONFIG_MAP, "items": [{"key": "ca.crt", "path": "ca.crt"}]}},
                {"downwardAPI": {"items": [{
                    "path": "namespace",
                    "fieldRef": {"apiVersion": "v1", "fieldPath": "metadata.namespace"},
                }]}},
            ],
        },
    })
}

/// Adds the taint not-ready to a new node, so that no pods are placed there before it is ready.
pub fn taint_new_node(node: &mut Value) {
    let Some(spec) = spec_mut(node) else { return };
    default::set_missing(spec, "taints", || json!([]));
    let Some(taints) = spec.get_mut("taints").and_then(Value::as_array_mut) else {
        return;
    };
    let tainted = taints
        .iter()
        .any(|taint| text(taint, "key") == NOT_READY && text(taint, "effect") == "NoSchedule");
    if !tainted {
        taints.push(json!({"key": NOT_READY, "effect": "NoSchedule"}));
    }
}

#[cfg(test)]
mod tests;

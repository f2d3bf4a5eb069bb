//! Body of a daemon pod: rendered once for each template, then completed with the names of pod and
//! node.

use api::view::DaemonSetView;
use serde_json::{Map, Value, json};

use super::placement::automatic_tolerations;
use super::{GENERATION_LABEL, HASH_LABEL};

/// How a pod gets its node.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Aim {
    /// Its required node affinity is replaced by the node's name, and the scheduler binds it when
    /// it fits.
    #[default]
    Affinity,
    /// Its `nodeName` is set, so no scheduler is needed. Kubernetes did this before daemon pods
    /// went through the scheduler.
    NodeName,
}

/// A rendered pod that lacks the names of the pod and the node.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PodTemplate {
    /// The JSON before the pod's name, between the two names, and after the node's.
    parts: [Box<str>; 3],
}

impl PodTemplate {
    /// Renders the pods of `set` for the template with this hash: labels, owner, tolerations and
    /// node. Does not change the set's own template.
    pub fn render(set: &DaemonSetView, hash: &str, aim: Aim) -> PodTemplate {
        // Two marks that no string of the template contains.
        let plain = set.template.to_string();
        let mut mark = String::from("everynode");
        while plain.contains(&mark) || set.meta.name.contains(&mark) {
            mark.push('.');
        }
        let (name, node) = (format!("{mark}/name"), format!("{mark}/node"));
        // The name's mark comes first: metadata precedes spec.
        let rendered = format!(
            r#"{{"kind":"Pod","apiVersion":"v1","metadata":{},"spec":{}}}"#,
            metadata(set, hash, &name),
            spec(&set.template, aim, &node)
        );
        let (before, rest) = rendered.split_once(&name).unwrap_or((&rendered, ""));
        let (between, after) = rest.split_once(&node).unwrap_or((rest, ""));
        PodTemplate {
            parts: [before.into(), between.into(), after.into()],
        }
    }

    /// The JSON of the pod `name` on `node`.
    pub fn body(&self, name: &str, node: &str) -> Vec<u8> {
        let [before, between, after] = &self.parts;
        [
            before.as_bytes(),
            &escaped(name),
            between.as_bytes(),
            &escaped(node),
            after.as_bytes(),
        ]
        .concat()
    }
}

/// The text as it is written between the quotes of a JSON string.
fn escaped(text: &str) -> std::borrow::Cow<'_, [u8]> {
    if text
        .bytes()
        .all(|byte| byte.is_ascii_graphic() && byte != b'"' && byte != b'\\')
    {
        return text.as_bytes().into();
    }
    let quoted = Value::from(text).to_string();
    quoted.as_bytes()[1..quoted.len() - 1].to_vec().into()
}

fn metadata(set: &DaemonSetView, hash: &str, name: &str) -> Value {
    let template = set.template.get("metadata");
    let part = |key: &str| template.and_then(|template| template.get(key)).cloned();
    let mut labels = part("labels").and_then(into_object).unwrap_or_default();
    labels.insert(HASH_LABEL.to_owned(), hash.into());
    if let Some(generation) = set.template_generation() {
        labels.insert(GENERATION_LABEL.to_owned(), generation.to_string().into());
    }
    let mut metadata = json!({
        "name": name,
        "generateName": format!("{}-", set.meta.name),
        "namespace": &*set.meta.namespace,
        "labels": labels,
        "ownerReferences": [owner_reference(set)],
    });
    for key in ["annotations", "finalizers"] {
        if let Some(value) = part(key) {
            metadata[key] = value;
        }
    }
    metadata
}

/// The owner reference of a pod or revision of `set`.
pub(crate) fn owner_reference(set: &DaemonSetView) -> Value {
    json!({
        "apiVersion": "apps/v1",
        "kind": "DaemonSet",
        "name": &*set.meta.name,
        "uid": &*set.meta.uid,
        "controller": true,
        "blockOwnerDeletion": true,
    })
}

fn spec(template: &Value, aim: Aim, node: &str) -> Value {
    let mut spec = template
        .get("spec")
        .cloned()
        .and_then(into_object)
        .unwrap_or_default();
    let host_network = spec.get("hostNetwork").and_then(Value::as_bool).unwrap_or(false);
    let mut tolerations = match spec.remove("tolerations") {
        Some(Value::Array(tolerations)) => tolerations,
        _ => Vec::new(),
    };
    for automatic in automatic_tolerations(host_network) {
        let automatic = json!({
            "key": &*automatic.key,
            "operator": "Exists",
            "effect": automatic.effect.map(api::taint::Effect::as_str),
        });
        match tolerations
            .iter_mut()
            .find(|present| same_identity(present, &automatic))
        {
            Some(present) => *present = automatic,
            None => tolerations.push(automatic),
        }
    }
    spec.insert("tolerations".to_owned(), Value::Array(tolerations));
    match aim {
        Aim::Affinity => pin(&mut spec, node),
        Aim::NodeName => drop(spec.insert("nodeName".to_owned(), node.into())),
    }
    Value::Object(spec)
}

/// Replaces the required node affinity with the name of one node; preferences stay. Adding a term
/// would widen the affinity, because terms are alternatives.
fn pin(spec: &mut Map<String, Value>, node: &str) {
    let mut affinity = spec.remove("affinity").and_then(into_object).unwrap_or_default();
    let mut node_affinity = affinity
        .remove("nodeAffinity")
        .and_then(into_object)
        .unwrap_or_default();
    let this_node = json!({"key": "metadata.name", "operator": "In", "values": [node]});
    node_affinity.insert(
        "requiredDuringSchedulingIgnoredDuringExecution".to_owned(),
        json!({"nodeSelectorTerms": [{"matchFields": [this_node]}]}),
    );
    affinity.insert("nodeAffinity".to_owned(), Value::Object(node_affinity));
    spec.insert("affinity".to_owned(), Value::Object(affinity));
}

/// Tolerations are the same if key, effect, operator and value are; the seconds are overwritten.
fn same_identity(a: &Value, b: &Value) -> bool {
    let text = |toleration, key| Value::as_str(Value::get(toleration, key)?).filter(|text| !text.is_empty());
    ["key", "effect", "operator", "value"]
        .iter()
        .all(|key| text(a, key) == text(b, key))
}

fn into_object(value: Value) -> Option<Map<String, Value>> {
    match value {
        Value::Object(map) => Some(map),
        _ => None,
    }
}

//! What a node may do: what concerns itself and the pods that are bound to it.

use std::sync::LazyLock;

use api::authorization::{Action, PodReference, Resource, Rule, defaults, pod_refers_to};
use api::field_error::quote;
use api::selector::FieldSelector;
use api::status::Status;

use crate::objects::{self, INDEX_NODE, core};
use crate::shared::Shared;

/// Where the heartbeats of nodes lie.
pub(crate) const NODE_LEASES: &str = "kube-node-lease";

/// The rules that hold for every node.
static RULES: LazyLock<Vec<Rule>> = LazyLock::new(defaults::node_rules);

/// What the Node authorizer says.
pub(super) enum Opinion {
    Allow,
    /// Others may allow it. Why this one does not; may be empty.
    None(String),
}

impl Opinion {
    fn none(reason: &str) -> Opinion {
        Opinion::None(reason.to_owned())
    }

    fn no_relationship(node: &str) -> Opinion {
        Opinion::None(format!(
            "no relationship found between node '{node}' and this object"
        ))
    }
}

/// What the agent of `node` may do. 404 for a pod that is not there: a node has to hear that its pod is gone.
pub(super) fn opinion(
    shared: &Shared,
    node: &str,
    action: &Action<'_>,
    selector: Option<&FieldSelector>,
) -> Result<Opinion, Status> {
    if node.is_empty() {
        return Ok(Opinion::none("unknown node for user \"system:node:\""));
    }
    let wanted = match action {
        Action::Resource(wanted) => wanted,
        Action::Path { path, .. } => {
            return Ok(match *path == format!("/everynode/v1/nodes/{node}/tunnel") {
                true => Opinion::Allow,
                false => Opinion::none(""),
            });
        }
    };
    Ok(match (wanted.group, wanted.resource) {
        ("", "secrets") => reads_of_pods(shared, node, PodReference::Secret, wanted),
        ("", "configmaps") => reads_of_pods(shared, node, PodReference::ConfigMap, wanted),
        ("", "serviceaccounts") => tokens(shared, node, wanted),
        ("", "nodes") => nodes(node, wanted),
        ("", "pods") => return pods(shared, node, wanted, selector),
        ("coordination.k8s.io", "leases") => leases(node, wanted),
        _ => match RULES.iter().any(|rule| rule.allows(action)) {
            true => Opinion::Allow,
            false => Opinion::none(""),
        },
    })
}

/// Secrets and ConfigMaps: by name alone, and only those that a pod on the node refers to.
fn reads_of_pods(shared: &Shared, node: &str, what: PodReference, wanted: &Resource<'_>) -> Opinion {
    if !matches!(wanted.verb, "get" | "list" | "watch") {
        return Opinion::none("can only read resources of this type");
    }
    if !wanted.subresource.is_empty() {
        return Opinion::none("cannot read subresource");
    }
    if wanted.namespace.is_empty() {
        return Opinion::none("can only read namespaced object of this type");
    }
    if wanted.name.is_empty() {
        return Opinion::none("No Object name found");
    }
    // There lie the records of which certificates are good, whatever a pod there may refer to.
    let is_record = what == PodReference::Secret && wanted.namespace == NODE_LEASES;
    match !is_record && is_referred_to(shared, node, what, wanted) {
        true => Opinion::Allow,
        false => Opinion::no_relationship(node),
    }
}

fn tokens(shared: &Shared, node: &str, wanted: &Resource<'_>) -> Opinion {
    if wanted.verb != "create" || wanted.name.is_empty() {
        return Opinion::none("can only create tokens for individual service accounts");
    }
    if wanted.subresource != "token" {
        return Opinion::none("can only create token subresource of serviceaccount");
    }
    match is_referred_to(shared, node, PodReference::ServiceAccount, wanted) {
        true => Opinion::Allow,
        false => Opinion::no_relationship(node),
    }
}

/// Whether a pod on the node refers to the object. Pods are parsed one after the other, and only those that have the name in their
/// text: a node has some hundred, and mostly the first that is parsed is the one.
fn is_referred_to(shared: &Shared, node: &str, what: PodReference, wanted: &Resource<'_>) -> bool {
    let Some(kind) = core("Pod") else {
        return false;
    };
    let mut text = quote(wanted.name);
    if text.len() != wanted.name.len() + 2 {
        // No object has a name that would be written with escapes.
        return false;
    }
    text.insert(0, ':');
    let prefix = objects::prefix(kind, wanted.namespace);
    let pods = shared.objects.list_where(&prefix, INDEX_NODE, node);
    pods.iter().any(|pod| {
        let named = std::str::from_utf8(&pod.body).is_ok_and(|body| body.contains(&text));
        named && objects::value(kind, &pod.body).is_ok_and(|pod| pod_refers_to(&pod, what, wanted.name))
    })
}

/// Its own Node. Admission says what it may write into it. All nodes may be read by a ClusterRole.
fn nodes(node: &str, wanted: &Resource<'_>) -> Opinion {
    match (wanted.subresource, wanted.verb) {
        ("", "create") => Opinion::Allow,
        ("" | "status", "update" | "patch") if wanted.name == node => Opinion::Allow,
        ("" | "status", "update" | "patch") => {
            let (node, other) = (quote(node), quote(wanted.name));
            Opinion::None(format!("node {node} is not allowed to modify node {other}"))
        }
        ("", "get" | "list" | "watch") => match wanted.name {
            name if name == node => Opinion::Allow,
            "" => Opinion::None(format!(
                "node '{node}' cannot read all nodes, only its own Node object"
            )),
            name => Opinion::None(format!(
                "node '{node}' cannot read '{name}', only its own Node object"
            )),
        },
        ("status", "get") if wanted.name == node => Opinion::Allow,
        _ => Opinion::none(""),
    }
}

/// Pods that are bound to the node. Admission looks again at the object that is written.
fn pods(
    shared: &Shared,
    node: &str,
    wanted: &Resource<'_>,
    selector: Option<&FieldSelector>,
) -> Result<Opinion, Status> {
    if let ("", "list" | "watch") = (wanted.subresource, wanted.verb) {
        let on_node = |selector: &FieldSelector| {
            selector
                .requirements()
                .iter()
                .any(|wanted| wanted.equal && *wanted.field == *"spec.nodeName" && *wanted.value == *node)
        };
        if selector.is_some_and(on_node) {
            return Ok(Opinion::Allow);
        }
        if wanted.name.is_empty() {
            let why = "can only list/watch pods with spec.nodeName field selector";
            return Ok(Opinion::none(why));
        }
    } else {
        let known = matches!(
            (wanted.subresource, wanted.verb),
            ("", "get" | "delete") | ("status", "get" | "patch" | "update") | ("eviction", "create")
        );
        if !known {
            return Ok(Opinion::none(""));
        }
    }
    let kind = core("Pod").ok_or_else(Status::path_not_found)?;
    let pod = objects::get(&shared.objects, kind, wanted.namespace, wanted.name)?;
    Ok(
        match store::Attributes::index_value(&pod.attributes, INDEX_NODE) == Some(node) {
            true => Opinion::Allow,
            false => Opinion::no_relationship(node),
        },
    )
}

/// Its own heartbeat. Of a new one admission looks at the name.
fn leases(node: &str, wanted: &Resource<'_>) -> Opinion {
    if !matches!(wanted.verb, "get" | "create" | "update" | "patch" | "delete") {
        return Opinion::none("can only get, create, update, patch, or delete a node lease");
    }
    if wanted.namespace != NODE_LEASES {
        return Opinion::None(format!(
            "can only access leases in the {NODE_LEASES:?} system namespace"
        ));
    }
    if wanted.verb != "create" && wanted.name != node {
        return Opinion::none("can only access node lease with the same name as the requesting node");
    }
    Opinion::Allow
}

//! The Node authorizer: a node may access itself and what its pods need.

use std::sync::LazyLock;

use api::authorization::{Action, PodReference, Resource, Rule, defaults, pod_refers_to};
use api::field_error::quote;
use api::selector::FieldSelector;
use api::status::Status;

use crate::objects::{self, INDEX_NODE, core};
use crate::shared::Shared;

/// Namespace of the nodes' Leases.
pub(crate) const NODE_LEASES: &str = "kube-node-lease";

/// The rules that apply to every node.
static RULES: LazyLock<Vec<Rule>> = LazyLock::new(defaults::node_rules);

/// Decision of the Node authorizer.
pub(super) enum Opinion {
    Allow,
    /// Not allowed here; another authorizer may allow it. Holds the reason, which may be empty.
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

/// Decides what the agent of `node` may do. Returns 404 for a pod that does not exist, because a
/// node must learn that its pod was deleted.
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

/// Secrets and ConfigMaps: only by name, and only those that a pod on the node refers to.
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
    // Secrets in this namespace record which certificates are valid. A node cannot read them, even
    // if a pod there refers to them.
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

/// Returns whether a pod on the node refers to the object. Pods are parsed one at a time, and only
/// if their text contains the name. A node has a few hundred pods, and usually the first one parsed
/// has the reference.
fn is_referred_to(shared: &Shared, node: &str, what: PodReference, wanted: &Resource<'_>) -> bool {
    let Some(kind) = core("Pod") else {
        return false;
    };
    let mut text = quote(wanted.name);
    if text.len() != wanted.name.len() + 2 {
        // No object's name contains a character that JSON escapes.
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

/// A node's own Node object. Admission checks what the node may write into it. A ClusterRole allows
/// reading all nodes.
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

/// Pods that are bound to the node. Admission checks the written object again.
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

/// The node's own Lease. Admission checks the name of a new one.
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

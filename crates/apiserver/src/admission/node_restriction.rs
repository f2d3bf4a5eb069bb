//! NodeRestriction: limits what a node may write into objects that it has the right to write. It
//! checks each object in the state that the write replaces.

use std::net::IpAddr;

use api::authorization::node_label_is_forbidden;
use api::bootstrap_token;
use api::certificates::NODE_CLIENT_SIGNER;
use api::field_error::quote;
use api::kinds::Kind;
use api::meta;
use api::status::Status;
use serde_json::Value;

use crate::authorization::{NODE_LEASES, Who};
use crate::objects;
use crate::shared::Shared;
use crate::user::User;

/// The signer of kubelets' serving certificates.
const SERVING_SIGNER: &str = "kubernetes.io/kubelet-serving";

/// Metadata fields that a node must not change when it writes a status.
const SETTLED: [&str; 4] = ["labels", "annotations", "ownerReferences", "finalizers"];

/// Metadata fields that a node must not change in any object. Both decide when an object is
/// removed: a finalizer keeps a deleted one, and owners keep or delete it. A removed Node would
/// register again without its taints.
const LIFE: [&str; 2] = ["finalizers", "ownerReferences"];

/// The object that is refused, for the error.
struct Refusal<'a> {
    kind: &'a Kind,
    name: &'a str,
}

impl Refusal<'_> {
    fn say(&self, why: String) -> Result<(), Status> {
        Err(Status::forbidden(self.kind, self.name, &why))
    }
}

/// Returns the node that makes a request; 403 if the node has no name.
fn node_of<'a>(user: &'a User, kind: &Kind, name: &str) -> Result<Option<&'a str>, Status> {
    match Who::of(user).node() {
        Some("") => {
            let why = format!("could not determine node from user {}", quote(&user.name));
            Err(Status::forbidden(kind, name, &why))
        }
        node => Ok(node),
    }
}

fn is(kind: &Kind, group: &str, name: &str) -> bool {
    kind.group == group && kind.kind == name
}

/// Admits a new object.
pub(super) fn on_create(
    shared: &Shared,
    user: &User,
    kind: &'static Kind,
    object: &Value,
) -> Result<(), Status> {
    let name = meta::name(object);
    let refusal = Refusal { kind, name };
    let Some(node) = node_of(user, kind, name)? else {
        // A machine that joins with a bootstrap token has no node name yet.
        return match user.groups.iter().any(|group| group == bootstrap_token::GROUP) {
            true => life_must_stay(
                &format!("user {}", quote(&user.name)),
                object,
                &Value::Null,
                &refusal,
            ),
            false => Ok(()),
        };
    };
    if objects::is_pod(kind) {
        return refusal.say(format!(
            "node {0} cannot create pods: there are no mirror pods here, and node {0} could create no others",
            quote(node)
        ));
    }
    life(node, kind, object, &Value::Null, &refusal)?;
    if is(kind, "", "Node") {
        new_node(node, object, &refusal)?;
        return own_ranges(shared, kind, node, object, &refusal);
    }
    if is(kind, "coordination.k8s.io", "Lease") {
        return lease(node, meta::namespace(object), &refusal);
    }
    if is(kind, "certificates.k8s.io", "CertificateSigningRequest") {
        return signing_request(node, object, &refusal);
    }
    Ok(())
}

/// Admits the next state of an object or of its status.
pub(super) fn on_update(
    user: &User,
    kind: &Kind,
    new: &Value,
    old: &Value,
    is_status: bool,
) -> Result<(), Status> {
    let name = meta::name(old);
    let Some(node) = node_of(user, kind, name)? else {
        return Ok(());
    };
    let refusal = Refusal { kind, name };
    if objects::is_pod(kind) {
        return match is_status {
            true => pod_status(node, new, old, &refusal),
            false => refusal.say(format!(
                "unexpected operation \"UPDATE\", node {} can only delete pods and update their status",
                quote(node)
            )),
        };
    }
    life(node, kind, new, old, &refusal)?;
    if is(kind, "", "Node") {
        return changed_node(node, new, old, &refusal);
    }
    if is(kind, "coordination.k8s.io", "Lease") {
        return lease(node, meta::namespace(old), &refusal);
    }
    Ok(())
}

/// Admits a deletion of the object in this state.
pub(super) fn on_delete(user: &User, kind: &Kind, old: &Value) -> Result<(), Status> {
    let name = meta::name(old);
    let Some(node) = node_of(user, kind, name)? else {
        return Ok(());
    };
    let refusal = Refusal { kind, name };
    if objects::is_pod(kind) && !is_bound(old, node) {
        let node = quote(node);
        return refusal.say(format!(
            "node {node} can only delete pods with spec.nodeName set to itself"
        ));
    }
    if is(kind, "coordination.k8s.io", "Lease") {
        return lease(node, meta::namespace(old), &refusal);
    }
    Ok(())
}

/// Admits the eviction of a pod in this state.
pub(crate) fn on_eviction(user: &User, kind: &Kind, pod: &Value) -> Result<(), Status> {
    let name = meta::name(pod);
    match node_of(user, kind, name)? {
        Some(node) if !is_bound(pod, node) => Refusal { kind, name }.say(format!(
            "node {node} can only evict pods with spec.nodeName set to itself"
        )),
        _ => Ok(()),
    }
}

/// Admits a token request for a ServiceAccount. The token must be bound to a pod on the node, and
/// its audience must be one that the pod names. `pod` fetches the pod that the request names.
pub(crate) fn on_token(
    user: &User,
    kind: &Kind,
    account: &str,
    request: &Value,
    pod: impl FnOnce(&str) -> Result<Value, Status>,
) -> Result<(), Status> {
    let Some(node) = node_of(user, kind, account)? else {
        return Ok(());
    };
    let refusal = Refusal { kind, name: account };
    let reference = &request["spec"]["boundObjectRef"];
    let text = |field: &str| reference[field].as_str().unwrap_or_default();
    if (text("apiVersion"), text("kind")) != ("v1", "Pod") || text("name").is_empty() {
        return refusal.say("node requested token not bound to a pod".to_owned());
    }
    if text("uid").is_empty() {
        return refusal.say("node requested token with a pod binding without a uid".to_owned());
    }
    let pod = pod(text("name"))?;
    if text("uid") != meta::uid(&pod) {
        let uid = text("uid");
        return refusal.say(format!(
            "the UID in the bound object reference ({uid}) does not match the UID in record. The object might have been \
             deleted and then recreated"
        ));
    }
    if !is_bound(&pod, node) {
        return refusal.say("node requested token bound to a pod scheduled on a different node".to_owned());
    }
    let audiences = request["spec"]["audiences"].as_array().into_iter().flatten();
    for audience in audiences.filter_map(Value::as_str) {
        if !names_audience(&pod, audience) {
            let audience = quote(audience);
            return refusal.say(format!("audience {audience} not found in pod spec volume"));
        }
    }
    Ok(())
}

/// Returns whether a volume of the pod requests a token for this audience. A volume without an
/// audience requests the API server's.
fn names_audience(pod: &Value, audience: &str) -> bool {
    let volumes = pod["spec"]["volumes"].as_array().into_iter().flatten();
    let sources = volumes.flat_map(|volume| volume["projected"]["sources"].as_array().into_iter().flatten());
    sources
        .filter_map(|source| source["serviceAccountToken"].as_object())
        .any(|token| match token.get("audience").and_then(Value::as_str) {
            None | Some("") => audience == crate::token::ISSUER,
            Some(named) => named == audience,
        })
}

fn is_bound(pod: &Value, node: &str) -> bool {
    pod["spec"]["nodeName"] == node
}

fn lease(node: &str, namespace: &str, refusal: &Refusal<'_>) -> Result<(), Status> {
    if namespace != NODE_LEASES {
        return refusal.say(format!(
            "can only access leases in the {NODE_LEASES:?} system namespace"
        ));
    }
    if refusal.name != node {
        return refusal
            .say("can only access node lease with the same name as the requesting node".to_owned());
    }
    Ok(())
}

/// Returns 403 for a change of finalizers or owners. Exception: the owner of a node's Lease is its
/// Node, so that the Lease is deleted with it.
fn life(node: &str, kind: &Kind, new: &Value, old: &Value, refusal: &Refusal<'_>) -> Result<(), Status> {
    let who = format!("node {}", quote(node));
    if !is(kind, "coordination.k8s.io", "Lease") {
        return life_must_stay(&who, new, old, refusal);
    }
    let is_its_node =
        |owner: &Value| owner["apiVersion"] == "v1" && owner["kind"] == "Node" && owner["name"] == node;
    let changed = new["metadata"]["ownerReferences"] != old["metadata"]["ownerReferences"];
    if changed && !meta::owner_references(new).iter().all(is_its_node) {
        return refusal.say(format!(
            "{who} is not allowed to give its lease another owner than its node"
        ));
    }
    must_stay("finalizers", &who, new, old, refusal)
}

fn life_must_stay(who: &str, new: &Value, old: &Value, refusal: &Refusal<'_>) -> Result<(), Status> {
    LIFE.into_iter()
        .try_for_each(|field| must_stay(field, who, new, old, refusal))
}

fn must_stay(field: &str, who: &str, new: &Value, old: &Value, refusal: &Refusal<'_>) -> Result<(), Status> {
    let of = |object: &Value| object["metadata"][field].as_array().cloned().unwrap_or_default();
    match of(new) == of(old) {
        true => Ok(()),
        false => refusal.say(format!("{who} is not allowed to modify {field}")),
    }
}

fn pod_status(node: &str, new: &Value, old: &Value, refusal: &Refusal<'_>) -> Result<(), Status> {
    if !is_bound(old, node) {
        let node = quote(node);
        return refusal.say(format!(
            "node {node} can only update pod status for pods with spec.nodeName set to itself"
        ));
    }
    for field in SETTLED {
        if new["metadata"][field] != old["metadata"][field] {
            let node = quote(node);
            return refusal.say(format!("node {node} cannot update {field} through pod status"));
        }
    }
    Ok(())
}

fn new_node(node: &str, object: &Value, refusal: &Refusal<'_>) -> Result<(), Status> {
    must_be_itself(node, refusal)?;
    let forbidden = changed_labels(object, &Value::Null);
    if !forbidden.is_empty() {
        return refusal.say(format!(
            "node {} is not allowed to set the following labels: {}",
            quote(node),
            forbidden.join(", ")
        ));
    }
    let spec = object["spec"].as_object().into_iter().flatten();
    for (field, _) in spec.filter(|(_, value)| !value.is_null()) {
        if !matches!(
            field.as_str(),
            "taints" | "unschedulable" | "providerID" | "podCIDR" | "podCIDRs"
        ) {
            let node = quote(node);
            return refusal.say(format!("node {node} is not allowed to set spec.{field}"));
        }
    }
    Ok(())
}

/// Checks a node's pod ranges. A node may set its own, but no range that overlaps another node's,
/// because all nodes route packets by them.
fn own_ranges(
    shared: &Shared,
    kind: &'static Kind,
    node: &str,
    object: &Value,
    refusal: &Refusal<'_>,
) -> Result<(), Status> {
    let wanted: Vec<&str> = ranges(object).collect();
    if wanted.is_empty() {
        return Ok(());
    }
    for other in shared.objects.list(&objects::prefix(kind, "")).iter() {
        let other = objects::value(kind, &other.body)?;
        let taken = wanted
            .iter()
            .find(|range| ranges(&other).any(|taken| overlap(range, taken)));
        if let Some(range) = taken.filter(|_| meta::name(&other) != node) {
            let (node, other) = (quote(node), quote(meta::name(&other)));
            return refusal.say(format!(
                "node {node} is not allowed to take the pod range {range} of node {other}"
            ));
        }
    }
    Ok(())
}

fn ranges(node: &Value) -> impl Iterator<Item = &str> {
    let all = node["spec"]["podCIDRs"].as_array().into_iter().flatten();
    all.chain([&node["spec"]["podCIDR"]]).filter_map(Value::as_str)
}

/// Returns whether two ranges overlap. Malformed ranges do not; validation refuses them.
fn overlap(one: &str, other: &str) -> bool {
    let (Some((one, one_bits)), Some((other, other_bits))) = (range(one), range(other)) else {
        return false;
    };
    if one.is_ipv4() != other.is_ipv4() {
        return false;
    }
    let width = if one.is_ipv4() { 32 } else { 128 };
    let front = |address: IpAddr| {
        let bits = match address {
            IpAddr::V4(address) => u128::from(address.to_bits()),
            IpAddr::V6(address) => address.to_bits(),
        };
        let shift = width - one_bits.min(other_bits).min(width);
        bits.checked_shr(shift).unwrap_or(0)
    };
    front(one) == front(other)
}

fn range(text: &str) -> Option<(IpAddr, u32)> {
    let (address, bits) = text.split_once('/')?;
    Some((address.parse().ok()?, bits.parse().ok()?))
}

fn changed_node(node: &str, new: &Value, old: &Value, refusal: &Refusal<'_>) -> Result<(), Status> {
    must_be_itself(node, refusal)?;
    if new["spec"]["taints"] != old["spec"]["taints"] {
        return refusal.say(format!("node {} is not allowed to modify taints", quote(node)));
    }
    if new["spec"] != old["spec"] {
        return refusal.say(format!("node {} is not allowed to modify its spec", quote(node)));
    }
    let forbidden = changed_labels(new, old);
    if !forbidden.is_empty() {
        return refusal.say(format!(
            "is not allowed to modify labels: {}",
            forbidden.join(", ")
        ));
    }
    Ok(())
}

fn must_be_itself(node: &str, refusal: &Refusal<'_>) -> Result<(), Status> {
    if refusal.name == node {
        return Ok(());
    }
    let (node, other) = (quote(node), quote(refusal.name));
    refusal.say(format!("node {node} is not allowed to modify node {other}"))
}

/// Returns the labels that differ and that a node must not change, sorted.
fn changed_labels<'a>(new: &'a Value, old: &'a Value) -> Vec<&'a str> {
    let (new, old) = (meta::labels(new), meta::labels(old));
    let value = |labels: Option<&serde_json::Map<String, Value>>, label: &str| {
        labels.and_then(|l| l.get(label).cloned())
    };
    let mut labels: Vec<&str> = new
        .into_iter()
        .chain(old)
        .flat_map(|labels| labels.keys().map(String::as_str))
        .filter(|label| node_label_is_forbidden(label) && value(new, label) != value(old, label))
        .collect();
    labels.sort_unstable();
    labels.dedup();
    labels
}

/// Checks that a node requests certificates only for itself.
fn signing_request(node: &str, request: &Value, refusal: &Refusal<'_>) -> Result<(), Status> {
    let spec = &request["spec"];
    if spec["signerName"] != NODE_CLIENT_SIGNER && spec["signerName"] != SERVING_SIGNER {
        return Ok(());
    }
    let wanted = format!("system:node:{node}");
    match super::certificates::asked(request) {
        None => refusal.say("unable to parse csr".to_owned()),
        Some(asked) if asked.common_names == [wanted.as_str()] => Ok(()),
        Some(_) => refusal.say(format!("can only create a node CSR with CN={wanted}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_overlap_when_one_holds_the_other() {
        for (one, other, expected) in [
            ("10.244.1.0/24", "10.244.1.0/24", true),
            ("10.244.0.0/16", "10.244.1.0/24", true),
            ("10.244.1.128/25", "10.244.1.0/24", true),
            ("10.244.1.0/24", "10.244.2.0/24", false),
            ("0.0.0.0/0", "10.244.2.0/24", true),
            ("fd00::/64", "10.244.2.0/24", false),
            ("fd00::/48", "fd00:0:0:1::/64", true),
            ("none", "10.244.2.0/24", false),
        ] {
            assert_eq!(overlap(one, other), expected, "{one} {other}");
            assert_eq!(overlap(other, one), expected, "{other} {one}");
        }
    }
}

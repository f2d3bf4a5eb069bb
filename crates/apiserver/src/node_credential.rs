//! Checks and records the valid certificates of nodes in the store: see [`api::node_credential`].

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use api::kinds::{self, Kind};
use api::node_credential::{DELETED_REASON, Issued, NAMESPACE, NodeCredential};
use api::status::Status;
use store::{Change, Expect};
use tokio_util::sync::CancellationToken;

use crate::authenticate::Holder;
use crate::bootstrap;
use crate::client::InProcess;
use crate::objects::{self, Object, Place, Write, core};
use crate::pki::Credential;
use crate::server::CredentialError;
use crate::shared::Shared;

/// Returns the record of a node's certificates, and the Secret that holds it.
fn record(shared: &Shared, node: &str) -> Option<(NodeCredential, std::sync::Arc<Object>)> {
    let object = objects::get(&shared.objects, secrets()?, NAMESPACE, node).ok()?;
    let record = NodeCredential::of_secret_json(&object.body)?;
    Some((record, object))
}

fn secrets() -> Option<&'static Kind> {
    core("Secret")
}

fn is_node(kind: &Kind) -> bool {
    kind.group.is_empty() && kind.kind == "Node"
}

/// Returns whether the Node is being deleted. A node that has not registered has no Node object,
/// and its certificate is valid.
fn is_being_deleted(shared: &Shared, node: &str) -> bool {
    let node = core("Node").and_then(|nodes| objects::get(&shared.objects, nodes, "", node).ok());
    node.is_some_and(|node| node.attributes.attributes.deletion.is_some())
}

/// Returns status 401 unless the record of the node accepts this fingerprint. The deletion of a
/// Node invalidates its certificates at once, even if finalizers keep the object.
pub(crate) fn must_accept(shared: &Shared, node: &str, fingerprint: &str) -> Result<(), Status> {
    match record(shared, node) {
        Some((record, _)) if record.accepts(fingerprint) && !is_being_deleted(shared, node) => Ok(()),
        _ => {
            let why = format!(
                "the certificate of node {node:?} is not good any more: the node was deleted, or another machine joined under its name"
            );
            Err(Status::new(401, DELETED_REASON, why))
        }
    }
}

/// Returns the writes of the transaction that deletes an object. With a Node, the record of its
/// certificates is deleted, so that they are invalid for a later node of this name. The object's
/// own write is the last.
pub(crate) fn ended_with(shared: &Shared, place: Place<'_>, write: Write) -> Vec<Write> {
    let record = is_node(place.kind).then(|| record(shared, place.name)).flatten();
    let Some((_, object)) = record else {
        return vec![write];
    };
    let Some(secrets) = secrets() else {
        return vec![write];
    };
    let Ok(last) = objects::value(secrets, &object.body) else {
        return vec![write];
    };
    let (body, attributes) = objects::stored_form(secrets, &last);
    let record = Write {
        key: object.key.clone(),
        expect: Expect::At(object.revision),
        change: Change::Delete {
            last: body,
            attributes,
        },
    };
    vec![record, write]
}

/// Called after the deletion of an object, even if finalizers keep it. Ends the watches of a
/// deleted node, and closes its tunnel.
pub(crate) fn was_deleted(shared: &Shared, place: Place<'_>) {
    if is_node(place.kind) {
        shared.node_streams.end(place.name);
        shared.tunnels.close(place.name);
    }
}

/// Returns a token that is cancelled when the node of the certificate is deleted. For certificates
/// of other users it is never cancelled.
pub(crate) fn end_of(shared: &Shared, holder: &Holder) -> CancellationToken {
    holder
        .node()
        .map(|node| shared.node_streams.end_of(node))
        .unwrap_or_default()
}

/// The ends of nodes' streams. Watches and tunnels outlive the authentication of their request, so
/// they end when the node's certificate becomes invalid.
#[derive(Default)]
pub(crate) struct NodeStreams {
    /// By node. Bounded by the nodes with a valid certificate, because the deletion of a Node
    /// removes its entry.
    ends: Mutex<HashMap<String, CancellationToken>>,
}

impl NodeStreams {
    fn end_of(&self, node: &str) -> CancellationToken {
        let mut ends = self.ends.lock().unwrap_or_else(PoisonError::into_inner);
        match ends.get(node) {
            Some(end) => end.clone(),
            None => ends.entry(node.to_owned()).or_default().clone(),
        }
    }

    fn end(&self, node: &str) {
        let end = self
            .ends
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .remove(node);
        if let Some(end) = end {
            end.cancel();
        }
    }
}

/// Records the certificate of the agent beside this server. It replaces the certificate with the
/// fingerprint `before`.
pub(crate) async fn keep(
    shared: &Shared,
    admin: &InProcess,
    node: &str,
    credential: &Credential,
    before: Option<&str>,
) -> Result<(), CredentialError> {
    let failed = |message: String| CredentialError::Record {
        node: node.to_owned(),
        message,
    };
    let certificate = credential.certificate.as_bytes();
    let issued = api::certificates::fingerprint(certificate)
        .zip(api::certificates::public_key_hash(certificate))
        .map(|(fingerprint, key)| Issued { fingerprint, key })
        .ok_or_else(|| failed("its certificate cannot be read".to_owned()))?;
    let known = record(shared, node).map(|(record, _)| record);
    if let Some(known) = &known {
        if known.accepts(&issued.fingerprint) {
            return Ok(());
        }
        let mine = before.is_some_and(|before| known.accepts(before));
        let lives = kinds::by_kind("", "v1", "Node")
            .is_some_and(|nodes| objects::get(&shared.objects, nodes, "", node).is_ok());
        if lives && !mine {
            return Err(CredentialError::Taken(node.to_owned()));
        }
    }
    let record = known.unwrap_or_default().with(issued, before);
    let secret = record.to_secret(node, None);
    let collection = format!("/api/v1/namespaces/{NAMESPACE}/secrets");
    bootstrap::create_or_replace(admin, &collection, &secret)
        .await
        .map_err(|error| failed(error.message))
}

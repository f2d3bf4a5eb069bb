//! Which certificates of nodes are good, as the store knows it: see [`api::node_credential`].

use api::kinds::{self, Kind};
use api::node_credential::{DELETED_REASON, Issued, NAMESPACE, NodeCredential};
use api::status::Status;
use store::{Change, Expect};

use crate::bootstrap;
use crate::client::InProcess;
use crate::objects::{self, Object, Place, Write, core};
use crate::pki::Credential;
use crate::server::CredentialError;
use crate::shared::Shared;

/// The record of a node, and the object that it is in.
fn record(shared: &Shared, node: &str) -> Option<(NodeCredential, std::sync::Arc<Object>)> {
    let object = objects::get(&shared.objects, secrets()?, NAMESPACE, node).ok()?;
    let record = NodeCredential::of_secret_json(&object.body)?;
    Some((record, object))
}

fn secrets() -> Option<&'static Kind> {
    core("Secret")
}

/// 401 unless the certificate of this fingerprint is one of the node's.
pub(crate) fn must_accept(shared: &Shared, node: &str, fingerprint: &str) -> Result<(), Status> {
    match record(shared, node) {
        Some((record, _)) if record.accepts(fingerprint) => Ok(()),
        _ => {
            let why = format!(
                "the certificate of node {node:?} is not good any more: the node was deleted, or another machine joined under its name"
            );
            Err(Status::new(401, DELETED_REASON, why))
        }
    }
}

/// The writes of a transaction in which an object goes: with a node goes the record of its certificates, so that none of them is good for
/// a node that later has its name. The object's own write is the last.
pub(crate) fn ended_with(shared: &Shared, place: Place<'_>, write: Write) -> Vec<Write> {
    let is_node = place.kind.group.is_empty() && place.kind.kind == "Node";
    let record = is_node.then(|| record(shared, place.name)).flatten();
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

/// After an object has gone: the way to a node that has gone is closed.
pub(crate) fn has_gone(shared: &Shared, place: Place<'_>) {
    if place.kind.group.is_empty() && place.kind.kind == "Node" {
        shared.tunnels.close(place.name);
    }
}

/// Records the certificate of the agent beside this server, in place of `before`, the fingerprint of the one that it had.
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

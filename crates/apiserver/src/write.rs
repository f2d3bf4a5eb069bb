//! Writes of changed objects: the steps that update, patch, binding, finalize and status share.

use std::sync::Arc;

use api::encode;
use api::kinds::Kind;
use api::meta;
use api::status::Status;
use serde_json::Value;
use store::{Change, CommitError, Durability, Expect};

use crate::limits::CONFLICT_RETRIES_MAX;
use crate::node_credential;
use crate::objects::{self, Entry, Object, Place, Write};
use crate::respond::Payload;
use crate::shared::Shared;

/// Changes a stored object. `change` gets the current state, as a value and as stored, and returns
/// the new state, prepared and validated. When another write comes first, `change` runs again on
/// the newer state, at most [`CONFLICT_RETRIES_MAX`] times in all. An error of `change` ends it.
///
/// An unchanged object is not written. An object that [`is_finished`] is removed from the store.
pub(crate) async fn update(
    shared: &Shared,
    place: Place<'_>,
    dry_run: bool,
    mut change: impl FnMut(&Value, &Object) -> Result<Value, Status>,
) -> Result<Payload, Status> {
    let key = place.key();
    let mut current = shared
        .objects
        .get(key.as_str())
        .ok_or_else(|| place.not_found())?;
    for _ in 0..CONFLICT_RETRIES_MAX {
        let old = objects::value(place.kind, &current.body)?;
        let new = change(&old, &current)?;
        let removed = is_finished(place.kind, &new);
        let durability = durability(place.kind, place.namespace, &old, &new);
        let (body, attributes) = objects::stored_form(place.kind, &new);
        let spliced = encode::splice(&body, current.revision.0);
        if dry_run {
            return Ok(Payload::Bytes(spliced));
        }
        if spliced == current.body && !removed {
            return Ok(Payload::Stored(current));
        }
        let change = match removed {
            true => Change::Delete {
                last: body,
                attributes,
            },
            false => Change::Put { body, attributes },
        };
        let write = Write {
            key: key.clone(),
            expect: Expect::At(current.revision),
            change,
        };
        let writes = match removed {
            true => node_credential::ended_with(shared, place, write),
            false => vec![write],
        };
        match shared.objects.commit(writes, durability).await {
            Ok(written) => {
                if removed {
                    node_credential::was_deleted(shared, place);
                }
                return single(written).map(Payload::Stored);
            }
            // The conflict is on another object of the same transaction.
            Err(CommitError::Conflict { key: other, .. }) if other != key => {}
            Err(CommitError::Conflict {
                current: Some(newer), ..
            }) => current = newer,
            Err(CommitError::Conflict { current: None, .. }) => return Err(place.not_found()),
            Err(error) => return Err(commit_failed(&error)),
        }
    }
    Err(Status::modified(place.kind, place.name))
}

/// Returns whether the object is being deleted, and no finalizer or grace period delays that.
pub(crate) fn is_finished(kind: &Kind, object: &Value) -> bool {
    meta::deletion_timestamp(object).is_some()
        && meta::finalizers(object).next().is_none()
        && object["metadata"]["deletionGracePeriodSeconds"]
            .as_i64()
            .unwrap_or(0)
            == 0
        && !(objects::is_namespace(kind) && has_spec_finalizers(object))
}

/// Returns whether the deletion of the namespace must still wait for its content to be deleted.
pub(crate) fn has_spec_finalizers(namespace: &Value) -> bool {
    namespace["spec"]["finalizers"]
        .as_array()
        .is_some_and(|finalizers| !finalizers.is_empty())
}

/// Returns how durable a write must be. A node repeats its heartbeat, so the server may acknowledge
/// it before it is on disk. All other writes must be on disk first, also a new holder of a Lease.
fn durability(kind: &Kind, namespace: &str, old: &Value, new: &Value) -> Durability {
    const HEARTBEATS: &str = "kube-node-lease";
    let is_heartbeat = namespace == HEARTBEATS
        && kind.kind == "Lease"
        && old["spec"]["holderIdentity"] == new["spec"]["holderIdentity"]
        && meta::deletion_timestamp(new).is_none();
    if is_heartbeat {
        Durability::Relaxed
    } else {
        Durability::Durable
    }
}

/// Returns the last object of a transaction. It is the requested one; a node's record may precede
/// it.
pub(crate) fn single(mut written: Vec<Arc<Object>>) -> Result<Arc<Object>, Status> {
    written
        .pop()
        .ok_or_else(|| Status::internal("a commit of one write gave no object"))
}

/// Returns the status for a commit that failed for a reason other than a conflict.
pub(crate) fn commit_failed(error: &CommitError<Entry>) -> Status {
    match error {
        CommitError::Closed => Status::unavailable("the server is shutting down"),
        error => {
            // The store logs once that the disk refuses writes. Clients may retry without a limit,
            // so this line is for debugging only.
            tracing::debug!(%error, "a commit failed");
            Status::internal(error)
        }
    }
}

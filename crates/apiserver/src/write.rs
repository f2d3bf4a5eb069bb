//! How a changed object gets into the store: the steps that update, patch, binding, finalize and status share.

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

/// Changes a stored object: `change` gets its present state (as a value, and as stored) and gives the next one,
/// prepared and judged. A write that came between is met by trying again, unless `change` itself then finds that
/// its condition no longer holds.
///
/// A next state that is the present one is no write. One that is being deleted and has nothing left to wait for
/// removes the object.
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
            // It was another object that goes along.
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

/// Whether an object in this state has nothing left to wait for and goes.
pub(crate) fn is_finished(kind: &Kind, object: &Value) -> bool {
    meta::deletion_timestamp(object).is_some()
        && meta::finalizers(object).next().is_none()
        && object["metadata"]["deletionGracePeriodSeconds"]
            .as_i64()
            .unwrap_or(0)
            == 0
        && !(objects::is_namespace(kind) && has_spec_finalizers(object))
}

/// Whether a namespace still waits for its content to be gone.
pub(crate) fn has_spec_finalizers(namespace: &Value) -> bool {
    namespace["spec"]["finalizers"]
        .as_array()
        .is_some_and(|finalizers| !finalizers.is_empty())
}

/// A node's heartbeat repeats itself, so it need not reach the disk before it is acknowledged. Everything else
/// must, a Lease that changes hands above all.
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

/// The object of a transaction that had one write.
pub(crate) fn single(mut written: Vec<Arc<Object>>) -> Result<Arc<Object>, Status> {
    written
        .pop()
        .ok_or_else(|| Status::internal("a commit of one write gave no object"))
}

/// The answer to a commit that failed for a reason other than a conflict.
pub(crate) fn commit_failed(error: &CommitError<Entry>) -> Status {
    match error {
        CommitError::Closed => Status::unavailable("the server is shutting down"),
        error => {
            // The store logs once that the disk refuses writes. Every client may try as often as it likes.
            tracing::debug!(%error, "a commit failed");
            Status::internal(error)
        }
    }
}

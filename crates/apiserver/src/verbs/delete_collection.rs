//! deletecollection: deletes all objects that match the selectors.

use api::status::Status;
use futures::future::join_all;
use http::{Response, StatusCode};
use serde_json::{Value, json};

use crate::body::Body;
use crate::limits::DELETE_COLLECTION_CONCURRENCY;
use crate::objects::{self, Object, Place};
use crate::request::Request;
use crate::respond::{self, Payload};
use crate::shared::Shared;
use crate::verbs::delete::{self, DeleteOptions};
use crate::verbs::list_options::Selection;

/// Deletes the objects that match the selectors now, and answers with their list.
pub(crate) async fn delete_collection(
    shared: &Shared,
    request: Request,
    selection: Selection,
) -> Result<Response<Body>, Status> {
    let options = DeleteOptions::of(&request).await?;
    let kind = request.target.kind;
    let snapshot = shared
        .objects
        .list(&objects::prefix(kind, &request.target.namespace));
    let found: Vec<_> = snapshot
        .iter()
        .filter(|object| selection.matches(&object.attributes))
        .cloned()
        .collect();
    let mut items = Vec::with_capacity(found.len());
    for together in found.chunks(DELETE_COLLECTION_CONCURRENCY) {
        let deletions = together
            .iter()
            .map(|object| delete_found(shared, &request, &options, object));
        for deletion in join_all(deletions).await {
            items.extend(deletion?);
        }
    }
    let list = json!({
        "kind": format!("{}List", kind.kind),
        "apiVersion": kind.api_version(),
        "metadata": {"resourceVersion": shared.objects.revision().to_string()},
        "items": items,
    });
    respond::payload(&request, StatusCode::OK, &Payload::Value(list))
}

/// Deletes one object and returns its last state. None when it no longer exists.
async fn delete_found(
    shared: &Shared,
    request: &Request,
    options: &DeleteOptions,
    object: &Object,
) -> Result<Option<Value>, Status> {
    let kind = request.target.kind;
    let attributes = &object.attributes.attributes;
    let place = Place {
        kind,
        namespace: &attributes.namespace,
        name: &attributes.name,
    };
    match delete::delete_object(shared, &request.user, place, options, request.now).await {
        Ok(deletion) => match deletion.into_payload() {
            Payload::Stored(object) => objects::value(kind, &object.body).map(Some),
            Payload::Bytes(bytes) => objects::value(kind, &bytes).map(Some),
            Payload::Value(value) => Ok(Some(value)),
        },
        Err(status) if status.code == 404 => Ok(None),
        Err(status) => Err(status),
    }
}

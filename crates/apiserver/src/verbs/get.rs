//! get: one object.

use http::{Response, StatusCode};

use api::status::Status;

use crate::body::Body;
use crate::objects;
use crate::request::Request;
use crate::respond::{self, Payload};
use crate::shared::Shared;
use crate::verbs::list_options;

/// Returns the current object. With a resource version, waits first until the store has reached it.
pub(crate) async fn get(shared: &Shared, request: &Request) -> Result<Response<Body>, Status> {
    let target = &request.target;
    if let Some(revision) = list_options::revision(request.query.non_empty("resourceVersion"))? {
        list_options::reach(shared, revision).await?;
    }
    let object = objects::get(&shared.objects, target.kind, &target.namespace, &target.name)?;
    respond::payload(request, StatusCode::OK, &Payload::Stored(object))
}

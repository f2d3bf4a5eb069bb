//! pods/binding: binds a pod to a node, for the scheduler.

use api::kinds::core::pod;
use api::meta;
use api::status::Status;
use http::{Response, StatusCode};
use serde_json::{Value, json};

use crate::body::Body;
use crate::objects::Place;
use crate::request::{Request, WriteOptions};
use crate::respond::{self, Payload};
use crate::shared::Shared;
use crate::write;

/// Binds the pod in the path to the node in the body. A binding is permanent.
pub(crate) async fn bind(shared: &Shared, mut request: Request) -> Result<Response<Body>, Status> {
    let options = WriteOptions::of(&request.query, "CreateOptions")?;
    let ty = schema::lookup("", "v1", "Binding").ok_or_else(Status::path_not_found)?;
    let binding = request.decode_as(ty, options.field_validation).await?;
    check(&request, &binding)?;
    let target = &request.target;
    let place = Place {
        kind: target.kind,
        namespace: &target.namespace,
        name: &target.name,
    };
    let now = request.now;
    write::update(shared, place, options.dry_run, |old, _| {
        let wanted = meta::uid(&binding);
        if !wanted.is_empty() && wanted != meta::uid(old) {
            return Err(Status::uid_mismatch(
                place.kind,
                place.name,
                wanted,
                meta::uid(old),
            ));
        }
        let mut new = old.clone();
        pod::bind(&mut new, &binding, now).map_err(|why| conflict(place, &why))?;
        Ok(new)
    })
    .await?;
    let success = json!({
        "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "code": 201,
    });
    respond::payload(&request, StatusCode::CREATED, &Payload::Value(success))
}

fn check(request: &Request, binding: &Value) -> Result<(), Status> {
    let errors = pod::validate_binding(binding);
    if !errors.is_empty() {
        return Err(Status::invalid_kind("", "Binding", meta::name(binding), &errors));
    }
    let (given, wanted) = (meta::name(binding), request.target.name.as_str());
    if !given.is_empty() && given != wanted {
        return Err(Status::bad_request(format!(
            "name in URL does not match name in Binding object: {wanted}, {given}"
        )));
    }
    let namespace = meta::namespace(binding);
    if !namespace.is_empty() && namespace != request.target.namespace {
        let why = "the namespace of the provided object does not match the namespace sent on the request";
        return Err(Status::bad_request(why));
    }
    Ok(())
}

fn conflict(place: Place<'_>, why: &str) -> Status {
    let mut status = Status::conflict(place.kind, place.name, why);
    status.message = format!(
        "Operation cannot be fulfilled on pods/binding \"{}\": {why}",
        place.name
    );
    if let Some(details) = &mut status.details {
        details.kind = "pods/binding".to_owned();
    }
    status
}

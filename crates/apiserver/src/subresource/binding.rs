//! pods/binding: the scheduler gives a pod its node.

use api::field_error::{FieldError, Path};
use api::meta;
use api::status::Status;
use http::{Response, StatusCode};
use serde_json::{Value, json};

use crate::body::Body;
use crate::request::{Request, WriteOptions};
use crate::respond::{self, Payload};
use crate::shared::Shared;
use crate::write::{self, Place};

/// Binds the pod that the path names to the node in the body, once and for all.
pub(crate) async fn bind(shared: &Shared, mut request: Request) -> Result<Response<Body>, Status> {
    let options = WriteOptions::of(&request.query, "CreateOptions")?;
    let ty = schema::lookup("", "v1", "Binding").ok_or_else(Status::path_not_found)?;
    let binding = request.decode_as(ty, options.field_validation)?;
    check(&request, &binding)?;
    let target = &request.target;
    let place = Place { kind: target.kind, namespace: &target.namespace, name: &target.name };
    let node = binding["target"]["name"].as_str().unwrap_or_default();
    let now = api::time::rfc3339(request.now);
    write::update(shared, place, options.dry_run, |old, _| {
        let refuse = |why: String| conflict(place, &why);
        let wanted = meta::uid(&binding);
        if !wanted.is_empty() && wanted != meta::uid(old) {
            return Err(Status::uid_mismatch(place.kind, place.name, wanted, meta::uid(old)));
        }
        if meta::deletion_timestamp(old).is_some() {
            return Err(refuse(format!("pod {} is being deleted, cannot be assigned to a host", place.name)));
        }
        let bound = old["spec"]["nodeName"].as_str().unwrap_or_default();
        if !bound.is_empty() {
            return Err(refuse(format!("pod {} is already assigned to node \"{bound}\"", place.name)));
        }
        if old["spec"]["schedulingGates"].as_array().is_some_and(|gates| !gates.is_empty()) {
            return Err(refuse(format!("pod {} has non-empty .spec.schedulingGates", place.name)));
        }
        let mut new = old.clone();
        new["spec"]["nodeName"] = node.into();
        for field in ["annotations", "labels"] {
            if let Some(given) = binding["metadata"][field].as_object().filter(|given| !given.is_empty()) {
                let metadata = meta::metadata_mut(&mut new);
                let present = metadata.entry(field).or_insert_with(|| json!({}));
                given.iter().for_each(|(key, value)| present[key] = value.clone());
            }
        }
        set_scheduled(&mut new, &now);
        Ok(new)
    })
    .await?;
    let success = json!({
        "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "code": 201,
    });
    respond::payload(&request, StatusCode::CREATED, &Payload::Value(success))
}

fn check(request: &Request, binding: &Value) -> Result<(), Status> {
    let path = Path::Root("target");
    let mut errors = Vec::new();
    if !matches!(binding["target"]["kind"].as_str().unwrap_or_default(), "" | "Node") {
        let kind = binding["target"]["kind"].clone();
        errors.push(FieldError::not_supported(&path.child("kind"), kind, &["Node", "<empty>"]));
    }
    if binding["target"]["name"].as_str().unwrap_or_default().is_empty() {
        errors.push(FieldError::required(&path.child("name"), ""));
    }
    if !errors.is_empty() {
        return Err(Status::invalid_kind("", "Binding", meta::name(binding), &errors));
    }
    let (given, wanted) = (meta::name(binding), request.target.name.as_str());
    if !given.is_empty() && given != wanted {
        return Err(Status::bad_request(format!("name in URL does not match name in Binding object: {wanted}, {given}")));
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
    status.message = format!("Operation cannot be fulfilled on pods/binding \"{}\": {why}", place.name);
    if let Some(details) = &mut status.details {
        details.kind = "pods/binding".to_owned();
    }
    status
}

/// Sets the condition PodScheduled, as binding does.
fn set_scheduled(pod: &mut Value, now: &str) {
    if !pod["status"].is_object() {
        pod["status"] = json!({});
    }
    let conditions = &mut pod["status"]["conditions"];
    if !conditions.is_array() {
        *conditions = json!([]);
    }
    let Some(conditions) = conditions.as_array_mut() else { return };
    let scheduled = json!({
        "type": "PodScheduled", "status": "True", "lastProbeTime": null, "lastTransitionTime": now,
    });
    match conditions.iter_mut().find(|condition| condition["type"] == "PodScheduled") {
        Some(condition) => *condition = scheduled,
        None => conditions.push(scheduled),
    }
}

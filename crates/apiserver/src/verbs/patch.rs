//! patch: changes an object, or its status, by a JSON patch, a merge patch or a strategic merge
//! patch.

use std::borrow::Cow;

use api::field_error::{FieldError, Path};
use api::kinds::Kind;
use api::meta;
use api::status::Status;
use http::{Response, StatusCode};
use schema::decode::{self, FieldValidation, Format};
use schema::patch::{self, PatchError};
use serde_json::Value;

use crate::admission;
use crate::body::Body;
use crate::negotiate::{self, PatchType};
use crate::objects::Place;
use crate::request::{Request, WriteOptions};
use crate::respond;
use crate::shared::Shared;
use crate::verbs::update::{self, Part};
use crate::write;

/// Parsed patch. A JSON patch is parsed when it is applied.
enum Patch<'a> {
    Json(&'a [u8]),
    Merge(Value),
    Strategic(Value),
}

/// Applies the patch in the body to the object in the path. A patch without a `resourceVersion`
/// applies to any state of the object.
pub(crate) async fn patch(
    shared: &Shared,
    mut request: Request,
    part: Part,
) -> Result<Response<Body>, Status> {
    let options = WriteOptions::of(&request.query, "PatchOptions")?;
    let patch_type = negotiate::patch_type(&request.headers)?;
    let body = request.body.clone();
    let patch = read(patch_type, &body)?;
    let kind = request.target.kind;
    let target = &request.target;
    let place = Place {
        kind,
        namespace: &target.namespace,
        name: &target.name,
    };
    let _allocation = admission::allocation(shared, kind).await;
    let mut warnings = Vec::new();
    let payload = write::update(shared, place, options.dry_run, |old, current| {
        warnings.clear();
        let patched = apply(kind, &patch, old)?;
        let new = as_object(kind, patched, old, &body, options.field_validation, &mut warnings)?;
        update::check_patched_version(kind, place.name, &new, current)?;
        let mut advice = Vec::new();
        let new = update::prepare(shared, &request.user, kind, part, new, old, &mut advice)?;
        warnings.append(&mut advice);
        Ok(new)
    })
    .await?;
    request.warnings.append(&mut warnings);
    respond::payload(&request, StatusCode::OK, &payload)
}

fn read(patch_type: PatchType, body: &[u8]) -> Result<Patch<'_>, Status> {
    // Kubernetes accepts only JSON, not YAML, for these three media types.
    let value =
        || decode::untyped(body, Format::Json).map_err(|error| Status::bad_request(error.to_string()));
    let object = || match value()? {
        value @ Value::Object(_) => Ok(value),
        _ => Err(Status::bad_request("the patch is not a JSON object")),
    };
    Ok(match patch_type {
        PatchType::Json => Patch::Json(body),
        PatchType::Merge => Patch::Merge(object()?),
        PatchType::Strategic => Patch::Strategic(object()?),
    })
}

fn apply(kind: &Kind, patch: &Patch<'_>, old: &Value) -> Result<Value, Status> {
    match patch {
        Patch::Json(bytes) => patch::json(old, bytes),
        Patch::Merge(value) => Ok(patch::merge(old, value)),
        Patch::Strategic(value) => patch::strategic(kind.ty(), old, value),
    }
    .map_err(|error| failed(kind, &error, meta::name(old)))
}

fn failed(kind: &Kind, error: &PatchError, name: &str) -> Status {
    match error {
        PatchError::Malformed(message) => Status::bad_request(message),
        PatchError::TooManyOperations { .. } => Status::new(413, "RequestEntityTooLarge", error.to_string()),
        PatchError::Unprocessable(message) => {
            let mut status = Status::new(422, "Invalid", message);
            status.details = Status::not_found(kind, name).details;
            status
        }
    }
}

/// Makes the patched value an object of the kind: handles unknown fields as the client requested,
/// checks types, makes the value canonical, and sets defaults.
fn as_object(
    kind: &'static Kind,
    mut patched: Value,
    old: &Value,
    body: &[u8],
    validation: FieldValidation,
    warnings: &mut Vec<String>,
) -> Result<Value, Status> {
    if patched["kind"] != old["kind"] || patched["apiVersion"] != old["apiVersion"] {
        return Err(unfit(body, "kind and apiVersion cannot be changed"));
    }
    let ty = kind.ty();
    let unknown = schema::prune_unknown(ty, &mut patched);
    if !unknown.is_empty() {
        let texts = unknown
            .iter()
            .map(|path| format!("unknown field {}", api::field_error::quote(path)));
        match validation {
            FieldValidation::Ignore => {}
            FieldValidation::Warn => warnings.extend(texts),
            FieldValidation::Strict => {
                let texts: Vec<String> = texts.collect();
                return Err(unfit(
                    body,
                    &format!("strict decoding error: {}", texts.join(", ")),
                ));
            }
        }
    }
    schema::check(ty, &patched).map_err(|error| unfit(body, &error.to_string()))?;
    kind.check_decoded(&patched).map_err(|why| unfit(body, &why))?;
    schema::canonicalize(ty, &mut patched);
    kind.default(&mut patched);
    Ok(patched)
}

/// Returns 422, because the kind does not allow the result of the patch.
fn unfit(body: &[u8], why: &str) -> Status {
    const SHOWN_BYTES: usize = 1024;
    let shown: Cow<'_, str> = String::from_utf8_lossy(&body[..body.len().min(SHOWN_BYTES)]);
    let error = FieldError::invalid(&Path::Root("patch"), shown.into_owned(), why);
    Status::invalid_kind("", "", "", &[error])
}

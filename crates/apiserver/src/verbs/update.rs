//! update: replaces an object, its status or its approval.

use api::field_error::{FieldError, Path};
use api::kinds::{Kind, certificates};
use api::meta;
use api::status::Status;
use http::{Response, StatusCode};
use serde_json::Value;

use crate::admission;
use crate::authorization;
use crate::body::Body;
use crate::objects::{Object, Place};
use crate::request::{Request, WriteOptions};
use crate::respond;
use crate::shared::Shared;
use crate::user::User;
use crate::verbs::{Verb, create};
use crate::write;

/// Which part of an object a write may change.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Part {
    /// Everything but the status.
    Main,
    /// The status, and the user's part of the metadata.
    Status,
    /// The approval of a certificate signing request.
    Approval,
}

/// Replaces the object in the path with the one in the body.
pub(crate) async fn update(
    shared: &Shared,
    mut request: Request,
    part: Part,
) -> Result<Response<Body>, Status> {
    let options = WriteOptions::of(&request.query, "UpdateOptions")?;
    let mut object = request.decode_object(options.field_validation).await?;
    check_name(&request, &object)?;
    request.settle_namespace(&mut object)?;
    let kind = request.target.kind;
    kind.default(&mut object);
    let target = &request.target;
    let place = Place {
        kind,
        namespace: &target.namespace,
        name: &target.name,
    };
    let missing =
        part == Part::Main && kind.create_on_update && shared.objects.get(place.key().as_str()).is_none();
    if missing && meta::uid(&object).is_empty() && meta::resource_version(&object).is_empty() {
        authorization::must_allow_verb(shared, &request.user, Verb::Create, &request.target)?;
        let payload = create::create_object(shared, &mut request, object, options).await?;
        return respond::payload(&request, StatusCode::CREATED, &payload);
    }
    let _allocation = admission::allocation(shared, kind).await;
    let mut warnings = Vec::new();
    // An object with a resource version replaces only that version, so it needs no retry and no
    // clone.
    let once = !matches!(meta::resource_version(&object), "" | "0");
    let mut object = Some(object);
    let payload = write::update(shared, place, options.dry_run, |old, _| {
        let Some(given) = &object else {
            return Err(Status::modified(kind, &target.name));
        };
        check_preconditions(kind, &target.name, given, old, part)?;
        let new = if once { object.take() } else { object.clone() };
        let new = new.unwrap_or_default();
        prepare(shared, &request.user, kind, part, new, old, &mut warnings)
    })
    .await?;
    request.warnings.append(&mut warnings);
    respond::payload(&request, StatusCode::OK, &payload)
}

/// Prepares and validates the new state of an object. `new` is the client's object with defaults.
pub(crate) fn prepare(
    shared: &Shared,
    user: &User,
    kind: &'static Kind,
    part: Part,
    mut new: Value,
    old: &Value,
    warnings: &mut Vec<String>,
) -> Result<Value, Status> {
    meta::metadata_mut(&mut new).remove("managedFields");
    let errors = match part {
        Part::Main => {
            kind.prepare_update(&mut new, old);
            admission::on_update(shared, user, kind, &mut new, old)?;
            kind.validate_update(&new, old)
        }
        Part::Status => {
            kind.prepare_status(&mut new, old);
            admission::on_status_update(shared, user, kind, &new, old)?;
            kind.validate_status(&new, old)
        }
        Part::Approval => {
            admission::on_approval(shared, user, kind, old)?;
            certificates::prepare_approval(&mut new, old);
            certificates::validate_approval(&new, old)
        }
    };
    if !errors.is_empty() {
        return Err(Status::invalid(kind, meta::name(old), &errors));
    }
    if part == Part::Main {
        *warnings = kind.update_warnings(&new, old);
        admission::judge_update(shared, kind, &new, old, warnings)?;
    } else if certificates::CERTIFICATE_SIGNING_REQUEST == *kind {
        certificates::stamp_conditions(&mut new, old, shared.clock.now());
    }
    Ok(new)
}

/// Compares the UID and the resource version in the body with the stored ones.
///
/// Returns 409 if one differs, 422 if the kind requires a resource version and the body has none,
/// and 400 if it is not a number.
fn check_preconditions(kind: &Kind, name: &str, new: &Value, old: &Value, part: Part) -> Result<(), Status> {
    let (wanted, found) = (meta::uid(new), meta::uid(old));
    if !wanted.is_empty() && wanted != found {
        return Err(Status::uid_mismatch(kind, name, wanted, found));
    }
    match meta::resource_version(new) {
        "" | "0" if kind.unconditional_update || part != Part::Main => Ok(()),
        "" | "0" => {
            let path = Path::Root("metadata");
            let error = FieldError::invalid(
                &path.child("resourceVersion"),
                0,
                "must be specified for an update",
            );
            Err(Status::invalid(kind, name, &[error]))
        }
        version if version == meta::resource_version(old) => Ok(()),
        version if version.bytes().all(|byte| byte.is_ascii_digit()) => Err(Status::modified(kind, name)),
        version => Err(Status::bad_request(format!(
            "invalid resource version {}: it is no whole number",
            api::field_error::quote(version)
        ))),
    }
}

fn check_name(request: &Request, object: &Value) -> Result<(), Status> {
    let (given, wanted) = (meta::name(object), request.target.name.as_str());
    if given.is_empty() {
        return Err(Status::bad_request(format!(
            "the name of the object ({wanted} based on URL) was undeterminable: name must be provided"
        )));
    }
    if given != wanted {
        return Err(Status::bad_request(format!(
            "the name of the object ({given}) does not match the name on the URL ({wanted})"
        )));
    }
    Ok(())
}

/// Returns 409 when the patch sets a resource version other than the current one.
pub(crate) fn check_patched_version(
    kind: &Kind,
    name: &str,
    new: &Value,
    current: &Object,
) -> Result<(), Status> {
    match meta::resource_version(new) {
        "" | "0" => Ok(()),
        version if version == current.revision.0.to_string() => Ok(()),
        _ => Err(Status::modified(kind, name)),
    }
}

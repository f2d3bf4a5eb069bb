//! delete: deletes an object at once, or after its grace period and finalizers.

use api::field_error::{FieldError, Path};
use api::kinds::Kind;
use api::kinds::core::{namespace, pod};
use api::meta;
use api::status::{self, Status};
use http::{Response, StatusCode};
use jiff::{SignedDuration, Timestamp};
use schema::decode::FieldValidation;
use serde_json::{Value, json};
use store::{Change, CommitError, Durability, Expect};

use crate::admission;
use crate::body::Body;
use crate::decoding;
use crate::limits::CONFLICT_RETRIES_MAX;
use crate::negotiate;
use crate::node_credential;
use crate::objects::{self, Place, Write};
use crate::query::Query;
use crate::request::{self, Request};
use crate::respond::{self, Payload};
use crate::shared::Shared;
use crate::user::User;
use crate::write;

/// What happens to the dependents of a deleted object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Propagation {
    Background,
    Foreground,
    Orphan,
}

/// Options of a deletion.
#[derive(Debug, Default)]
pub(crate) struct DeleteOptions {
    pub(crate) dry_run: bool,
    pub(crate) grace_seconds: Option<i64>,
    pub(crate) propagation: Option<Propagation>,
    pub(crate) uid: Option<String>,
    pub(crate) resource_version: Option<String>,
    /// True for `orphanDependents: false`, the old spelling of background. Kubernetes then answers
    /// 202 while the object still exists.
    pub(crate) not_orphan: bool,
}

impl DeleteOptions {
    /// Reads the options from the body, or from the query when the body is empty.
    pub(crate) async fn of(request: &Request) -> Result<DeleteOptions, Status> {
        let value = match request.body.is_empty() {
            true => from_query(&request.query)?,
            false => from_body(request).await?,
        };
        DeleteOptions::of_value(&value)
    }

    /// Reads the options from a `DeleteOptions` object. Null sets no option.
    pub(crate) fn of_value(value: &Value) -> Result<DeleteOptions, Status> {
        let mut errors = Vec::new();
        let dry_run_values = value["dryRun"].as_array().map(Vec::as_slice).unwrap_or_default();
        let dry_run = request::dry_run(dry_run_values.iter().filter_map(Value::as_str), &mut errors);
        let orphan = value["orphanDependents"].as_bool();
        let propagation = propagation(value, orphan, &mut errors);
        request::refuse("DeleteOptions", &errors)?;
        let text = |field: &str| value["preconditions"][field].as_str().map(str::to_owned);
        Ok(DeleteOptions {
            dry_run,
            // Kubernetes reads a negative grace period as the shortest one.
            grace_seconds: value["gracePeriodSeconds"]
                .as_i64()
                .map(|seconds| if seconds < 0 { 1 } else { seconds }),
            propagation,
            uid: text("uid"),
            resource_version: text("resourceVersion"),
            not_orphan: orphan == Some(false),
        })
    }
}

async fn from_body(request: &Request) -> Result<Value, Status> {
    let format = negotiate::body_format(&request.headers)?;
    let ty = schema::lookup("", "v1", "DeleteOptions");
    let decoded = decoding::object(&request.user, &request.body, format, ty, FieldValidation::Ignore).await?;
    Ok(decoded.value)
}

fn from_query(query: &Query) -> Result<Value, Status> {
    let mut value = json!({});
    if let Some(seconds) = query.integer("gracePeriodSeconds")? {
        value["gracePeriodSeconds"] = seconds.into();
    }
    if let Some(policy) = query.non_empty("propagationPolicy") {
        value["propagationPolicy"] = policy.into();
    }
    if query.non_empty("orphanDependents").is_some() {
        value["orphanDependents"] = query.flag("orphanDependents").into();
    }
    let dry_run: Vec<Value> = query.all("dryRun").map(Value::from).collect();
    value["dryRun"] = dry_run.into();
    Ok(value)
}

fn propagation(value: &Value, orphan: Option<bool>, errors: &mut Vec<FieldError>) -> Option<Propagation> {
    let policy = value["propagationPolicy"].as_str();
    let path = Path::Root("propagationPolicy");
    match (policy, orphan) {
        (Some(policy), Some(_)) => {
            let why = "orphanDependents and deletionPropagation cannot be both set";
            errors.push(FieldError::invalid(&path, policy, why));
            None
        }
        (None, Some(true)) => Some(Propagation::Orphan),
        (None, Some(false)) => Some(Propagation::Background),
        (Some("Background"), None) => Some(Propagation::Background),
        (Some("Foreground"), None) => Some(Propagation::Foreground),
        (Some("Orphan"), None) => Some(Propagation::Orphan),
        (Some(other), None) => {
            errors.push(FieldError::not_supported(
                &path,
                other,
                &["Foreground", "Background", "Orphan", "nil"],
            ));
            None
        }
        (None, None) => None,
    }
}

/// Deletes the object in the path.
pub(crate) async fn delete(shared: &Shared, request: Request) -> Result<Response<Body>, Status> {
    let options = DeleteOptions::of(&request).await?;
    let target = &request.target;
    let place = Place {
        kind: target.kind,
        namespace: &target.namespace,
        name: &target.name,
    };
    let deletion = delete_object(shared, &request.user, place, &options, request.now).await?;
    let code = match deletion.is_gone() || !options.not_orphan {
        true => StatusCode::OK,
        false => StatusCode::ACCEPTED,
    };
    let payload = match deletion {
        Deletion::Gone { payload, .. } if shows_object(place.kind) => payload,
        Deletion::Gone { uid, .. } => Payload::Value(status::deleted(place.kind, place.name, &uid)),
        Deletion::Going(payload) => payload,
    };
    respond::payload(&request, code, &payload)
}

/// Returns whether the response to a deletion is the object and not a `Status`, as in Kubernetes.
fn shows_object(kind: &Kind) -> bool {
    kind.group.is_empty() && matches!(kind.kind, "Pod" | "Service" | "ServiceAccount")
}

/// Result of a deletion.
pub(crate) enum Deletion {
    /// The object was removed. The payload is its last state.
    Gone { payload: Payload, uid: String },
    /// The object still waits for its grace period or its finalizers.
    Going(Payload),
}

impl Deletion {
    fn is_gone(&self) -> bool {
        matches!(self, Deletion::Gone { .. })
    }

    /// Returns the last state of a removed object, or the current state.
    pub(crate) fn into_payload(self) -> Payload {
        match self {
            Deletion::Gone { payload, .. } | Deletion::Going(payload) => payload,
        }
    }
}

/// Deletes one object.
pub(crate) async fn delete_object(
    shared: &Shared,
    user: &User,
    place: Place<'_>,
    options: &DeleteOptions,
    now: Timestamp,
) -> Result<Deletion, Status> {
    admission::on_delete(place)?;
    let key = place.key();
    let mut current = shared
        .objects
        .get(key.as_str())
        .ok_or_else(|| place.not_found())?;
    for _ in 0..CONFLICT_RETRIES_MAX {
        let old = objects::value(place.kind, &current.body)?;
        admission::on_delete_of(user, place.kind, &old)?;
        check_preconditions(place, options, &old)?;
        let step = next_step(place.kind, &old, options, now);
        let (new, gone) = match step {
            Step::Wait => return Ok(Deletion::Going(Payload::Stored(current))),
            Step::Mark(new) => (new, false),
            Step::Remove(new) => (new, true),
        };
        let (body, attributes) = objects::stored_form(place.kind, &new);
        let uid = meta::uid(&old).to_owned();
        if options.dry_run {
            let payload = Payload::Bytes(api::encode::splice(&body, current.revision.0));
            return Ok(if gone {
                Deletion::Gone { payload, uid }
            } else {
                Deletion::Going(payload)
            });
        }
        let change = match gone {
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
        let writes = match gone {
            true => node_credential::ended_with(shared, place, write),
            false => vec![write],
        };
        match shared.objects.commit(writes, Durability::Durable).await {
            Ok(written) => {
                let payload = Payload::Stored(write::single(written)?);
                node_credential::was_deleted(shared, place);
                return Ok(if gone {
                    Deletion::Gone { payload, uid }
                } else {
                    Deletion::Going(payload)
                });
            }
            // The conflict is on another object of the same transaction.
            Err(CommitError::Conflict { key: other, .. }) if other != key => {}
            Err(CommitError::Conflict {
                current: Some(newer), ..
            }) => current = newer,
            Err(CommitError::Conflict { current: None, .. }) => return Err(place.not_found()),
            Err(error) => return Err(write::commit_failed(&error)),
        }
    }
    Err(Status::modified(place.kind, place.name))
}

/// Returns 409 when the UID or the resource version differs from the precondition.
pub(crate) fn check_preconditions(
    place: Place<'_>,
    options: &DeleteOptions,
    old: &Value,
) -> Result<(), Status> {
    let (uid, version) = (meta::uid(old), meta::resource_version(old));
    if let Some(wanted) = options.uid.as_deref().filter(|wanted| *wanted != uid) {
        let why = format!(
            "the UID in the precondition ({wanted}) does not match the UID in record ({uid}). \
             The object might have been deleted and then recreated"
        );
        return Err(Status::conflict(place.kind, place.name, &why));
    }
    if let Some(wanted) = options
        .resource_version
        .as_deref()
        .filter(|wanted| *wanted != version)
    {
        let why = format!(
            "the ResourceVersion in the precondition ({wanted}) does not match the ResourceVersion in record \
             ({version}). The object might have been modified"
        );
        return Err(Status::conflict(place.kind, place.name, &why));
    }
    Ok(())
}

/// Next step of a deletion.
pub(crate) enum Step {
    /// No write: the deletion has begun, and this request does not change it.
    Wait,
    /// Store this state. The object is marked as being deleted.
    Mark(Value),
    /// Remove the object. The value is its last state.
    Remove(Value),
}

/// Decides the next step of a deletion with these options.
pub(crate) fn next_step(kind: &Kind, old: &Value, options: &DeleteOptions, now: Timestamp) -> Step {
    let marked = meta::deletion_timestamp(old).is_some();
    let pending_grace = old["metadata"]["deletionGracePeriodSeconds"].as_i64();
    let mut new = old.clone();
    match (
        grace_seconds(kind, old, options),
        pending_grace.filter(|_| marked),
    ) {
        // The deletion has begun: a request can only shorten the grace period.
        (Some(_), Some(pending)) => match options.grace_seconds {
            Some(asked) if asked < pending => shorten_grace(&mut new, pending, asked),
            _ => return Step::Wait,
        },
        (Some(seconds), None) => {
            set_propagation(&mut new, options.propagation);
            meta::stamp_deletion(&mut new, now, seconds);
        }
        (None, _) => {
            set_propagation(&mut new, options.propagation);
            let waits_for_content = objects::is_namespace(kind) && write::has_spec_finalizers(&new);
            if meta::finalizers(&new).next().is_none() && !waits_for_content {
                return Step::Remove(new);
            }
            if !marked {
                meta::stamp_deletion(&mut new, now, 0);
                if objects::is_namespace(kind) {
                    namespace::set_terminating(&mut new);
                }
            }
        }
    }
    match write::is_finished(kind, &new) {
        true => Step::Remove(new),
        false if new == *old => Step::Wait,
        false => Step::Mark(new),
    }
}

/// Returns the grace period in seconds. None for kinds other than pods; 0 for a pod that no kubelet
/// has to stop.
fn grace_seconds(kind: &Kind, object: &Value, options: &DeleteOptions) -> Option<i64> {
    if !objects::is_pod(kind) {
        return None;
    }
    Some(pod::deletion_grace_seconds(object, options.grace_seconds))
}

fn shorten_grace(object: &mut Value, pending: i64, asked: i64) {
    let at = meta::deletion_timestamp(object)
        .and_then(api::time::parse)
        .unwrap_or(Timestamp::UNIX_EPOCH);
    let at = at
        .saturating_sub(SignedDuration::from_secs(pending - asked))
        .unwrap_or(at);
    let metadata = meta::metadata_mut(object);
    metadata.insert("deletionTimestamp".to_owned(), api::time::rfc3339(at).into());
    metadata.insert("deletionGracePeriodSeconds".to_owned(), asked.into());
}

/// Sets the finalizer that selects the garbage collector's treatment of the dependents. Without a
/// policy the finalizers stay unchanged.
fn set_propagation(object: &mut Value, propagation: Option<Propagation>) {
    let Some(propagation) = propagation else { return };
    let wanted = match propagation {
        Propagation::Background => None,
        Propagation::Foreground => Some(meta::FOREGROUND_FINALIZER),
        Propagation::Orphan => Some(meta::ORPHAN_FINALIZER),
    };
    let is_policy = |name: &str| name == meta::FOREGROUND_FINALIZER || name == meta::ORPHAN_FINALIZER;
    let mut finalizers: Vec<Value> = meta::finalizers(object)
        .filter(|name| !is_policy(name))
        .map(Value::from)
        .collect();
    finalizers.extend(wanted.map(Value::from));
    let metadata = meta::metadata_mut(object);
    match finalizers.is_empty() {
        true => metadata.remove("finalizers"),
        false => metadata.insert("finalizers".to_owned(), finalizers.into()),
    };
}

#[cfg(test)]
mod tests;

//! The errors of the API: `metav1.Status` with Kubernetes' codes, reasons, wording and causes.

use std::fmt;

use serde_json::{Value, json};

use crate::field_error::{FieldError, aggregate, quote};
use crate::kinds::Kind;

/// Sent with a 409 for an update of a version that is no longer the newest.
pub const OBJECT_MODIFIED: &str =
    "the object has been modified; please apply your changes to the latest version and try again";

/// A failure, as the client receives it.
#[derive(Clone, Debug, PartialEq)]
pub struct Status {
    /// The HTTP status code.
    pub code: u16,
    /// The machine-readable reason, for example `NotFound`. Empty when Kubernetes gives none.
    pub reason: &'static str,
    /// The message for people.
    pub message: String,
    /// The object and the causes of the failure.
    pub details: Option<Box<Details>>,
}

/// The object of a [`Status`], and what is wrong with it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Details {
    /// The object's name.
    pub name: String,
    /// The API group of the kind.
    pub group: String,
    /// The resource (`daemonsets`). For `Invalid` the kind (`DaemonSet`), as in Kubernetes.
    pub kind: String,
    /// The uid of the object.
    pub uid: String,
    /// One entry for each fault.
    pub causes: Vec<Cause>,
    /// Seconds after which the client may retry; 0 for no advice.
    pub retry_after_seconds: u32,
}

/// One fault of a [`Status`].
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Cause {
    /// The machine-readable reason, for example `FieldValueInvalid`.
    pub reason: String,
    /// The message without the path of the field.
    pub message: String,
    /// The field's path.
    pub field: String,
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Status {}

/// Returns the resource with its group: `daemonsets.apps`, `pods`.
fn qualified_resource(kind: &Kind) -> String {
    qualified(kind.plural, kind.group)
}

fn qualified(name: &str, group: &str) -> String {
    if group.is_empty() {
        name.to_owned()
    } else {
        format!("{name}.{group}")
    }
}

impl Status {
    /// Returns a failure without details.
    pub fn new(code: u16, reason: &'static str, message: impl Into<String>) -> Status {
        Status {
            code,
            reason,
            message: message.into(),
            details: None,
        }
    }

    fn about(code: u16, reason: &'static str, message: String, kind: &Kind, name: &str) -> Status {
        let details = Details {
            name: name.to_owned(),
            group: kind.group.to_owned(),
            kind: kind.plural.to_owned(),
            ..Details::default()
        };
        Status {
            code,
            reason,
            message,
            details: Some(Box::new(details)),
        }
    }

    /// 404: no object of this kind has this name.
    pub fn not_found(kind: &Kind, name: &str) -> Status {
        let message = format!("{} {} not found", qualified_resource(kind), quote(name));
        Status::about(404, "NotFound", message, kind, name)
    }

    /// 404: nothing is served under the request's path.
    pub fn path_not_found() -> Status {
        let mut status = Status::new(
            404,
            "NotFound",
            "the server could not find the requested resource",
        );
        status.details = Some(Box::default());
        status
    }

    /// 409: an object with this name exists.
    pub fn already_exists(kind: &Kind, name: &str) -> Status {
        let message = format!("{} {} already exists", qualified_resource(kind), quote(name));
        Status::about(409, "AlreadyExists", message, kind, name)
    }

    /// 409: every name made from the `generateName` was taken.
    pub fn generate_name_conflict(kind: &Kind, name: &str) -> Status {
        let message = format!(
            "{} {} already exists, the server was not able to generate a unique name for the object",
            qualified_resource(kind),
            quote(name)
        );
        let mut status = Status::about(409, "AlreadyExists", message, kind, name);
        if let Some(details) = &mut status.details {
            details.retry_after_seconds = 1;
        }
        status
    }

    /// 409: the state of the object does not allow the operation, with the reason `why`.
    pub fn conflict(kind: &Kind, name: &str, why: &str) -> Status {
        let message = format!(
            "Operation cannot be fulfilled on {} {}: {why}",
            qualified_resource(kind),
            quote(name)
        );
        Status::about(409, "Conflict", message, kind, name)
    }

    /// 409: the update was made from an old version of the object.
    pub fn modified(kind: &Kind, name: &str) -> Status {
        Status::conflict(kind, name, OBJECT_MODIFIED)
    }

    /// 409: the uid in the request is not that of the object.
    pub fn uid_mismatch(kind: &Kind, name: &str, wanted: &str, found: &str) -> Status {
        let why = format!("Precondition failed: UID in precondition: {wanted}, UID in object meta: {found}");
        Status::conflict(kind, name, &why)
    }

    /// 409: the resourceVersion in the request is not that of the object.
    pub fn version_mismatch(kind: &Kind, name: &str, wanted: &str, found: &str) -> Status {
        let why = format!(
            "Precondition failed: ResourceVersion in precondition: {wanted}, ResourceVersion in object meta: {found}"
        );
        Status::conflict(kind, name, &why)
    }

    /// 422: the object breaks rules of its kind.
    pub fn invalid(kind: &Kind, name: &str, errors: &[FieldError]) -> Status {
        Status::invalid_kind(kind.group, kind.kind, name, errors)
    }

    /// 422 for a kind that is not in the registry (DeleteOptions, the options of a list).
    pub fn invalid_kind(group: &str, kind: &str, name: &str, errors: &[FieldError]) -> Status {
        let message = format!(
            "{} {} is invalid: {}",
            qualified(kind, group),
            quote(name),
            aggregate(errors)
        );
        let causes = errors
            .iter()
            .map(|error| Cause {
                reason: error.kind.reason().to_owned(),
                message: error.body(),
                field: error.path.clone(),
            })
            .collect();
        let details = Details {
            name: name.to_owned(),
            group: group.to_owned(),
            kind: kind.to_owned(),
            causes,
            ..Details::default()
        };
        Status {
            code: 422,
            reason: "Invalid",
            message,
            details: Some(Box::new(details)),
        }
    }

    /// 400: the server cannot read the request.
    pub fn bad_request(message: impl Into<String>) -> Status {
        Status::new(400, "BadRequest", message)
    }

    /// 401: no authenticator accepts the credentials.
    pub fn unauthorized() -> Status {
        Status::new(401, "Unauthorized", "Unauthorized")
    }

    /// 403: the user may not do this to this object, or no user may. An empty `name` means the
    /// whole resource.
    pub fn forbidden(kind: &Kind, name: &str, why: &str) -> Status {
        let resource = qualified_resource(kind);
        let message = match name {
            "" => format!("{resource} is forbidden: {why}"),
            _ => format!("{resource} {} is forbidden: {why}", quote(name)),
        };
        Status::about(403, "Forbidden", message, kind, name)
    }

    /// 403: the namespace is being deleted, so no object can be created in it.
    pub fn namespace_terminating(kind: &Kind, name: &str, namespace: &str) -> Status {
        let why =
            format!("unable to create new content in namespace {namespace} because it is being terminated");
        let mut status = Status::forbidden(kind, name, &why);
        status.add_cause(
            "NamespaceTerminating",
            format!("namespace {namespace} is being terminated"),
            "metadata.namespace",
        );
        status
    }

    /// 405: the resource is served, but not with this verb.
    pub fn method_not_supported(kind: &Kind, action: &str) -> Status {
        let message = format!(
            "{action} is not supported on resources of kind {}",
            quote(&qualified_resource(kind))
        );
        Status::about(405, "MethodNotAllowed", message, kind, "")
    }

    /// 406: the server has none of the media types that the client accepts.
    pub fn not_acceptable(accepted: &[&str]) -> Status {
        let message = format!(
            "only the following media types are accepted: {}",
            accepted.join(", ")
        );
        Status::new(406, "NotAcceptable", message)
    }

    /// 410: the history for the request is no longer kept; the client must list again.
    pub fn expired(message: impl Into<String>) -> Status {
        Status::new(410, "Expired", message)
    }

    /// 410 for a watch or list from `revision`, when `oldest` is the oldest revision in the
    /// history.
    pub fn too_old_resource_version(revision: u64, oldest: u64) -> Status {
        Status::expired(format!("too old resource version: {revision} ({oldest})"))
    }

    /// 410 for a list with a continue token whose revision is no longer kept.
    pub fn continue_expired() -> Status {
        Status::expired(
            "The provided continue parameter is too old to display a consistent list result. \
             You can start a new list without the continue parameter, or use the continue token in this response to \
             retrieve the remainder of the results. Continuing with the provided token results in an inconsistent \
             list - objects that were created, modified, or deleted between the time the first chunk was returned \
             and now may show up in the list.",
        )
    }

    /// 413: the body is larger than `limit` bytes.
    pub fn too_large(limit: usize) -> Status {
        Status::new(
            413,
            "RequestEntityTooLarge",
            format!("Request entity too large: limit is {limit}"),
        )
    }

    /// 415: the body's media type is none of `accepted`.
    pub fn unsupported_media_type(accepted: &[&str]) -> Status {
        let message = format!(
            "the body of the request was in an unknown format - accepted media types include: {}",
            accepted.join(", ")
        );
        Status::new(415, "UnsupportedMediaType", message)
    }

    /// 429: too many requests, or the eviction is not allowed now. The client may retry after
    /// `retry_after` seconds.
    pub fn too_many_requests(message: impl Into<String>, retry_after: u32) -> Status {
        let mut status = Status::new(429, "TooManyRequests", message);
        let details = Details {
            retry_after_seconds: retry_after,
            ..Details::default()
        };
        status.details = Some(Box::new(details));
        status
    }

    /// 500: a fault of the server.
    pub fn internal(cause: impl fmt::Display) -> Status {
        let cause = cause.to_string();
        let mut status = Status::new(500, "InternalError", format!("Internal error occurred: {cause}"));
        status.add_cause("", cause, "");
        status
    }

    /// 503: the server cannot answer now (it starts, it stops, or its store has failed).
    pub fn unavailable(why: impl Into<String>) -> Status {
        Status::new(503, "ServiceUnavailable", why)
    }

    /// 504: the answer took too long.
    pub fn timeout(message: impl fmt::Display, retry_after: u32) -> Status {
        let mut status = Status::new(504, "Timeout", format!("Timeout: {message}"));
        let details = Details {
            retry_after_seconds: retry_after,
            ..Details::default()
        };
        status.details = Some(Box::new(details));
        status
    }

    /// 504 for a read at a revision that the store has not reached.
    pub fn too_large_resource_version(wanted: u64, current: u64) -> Status {
        let message = format!("Too large resource version: {wanted}, current: {current}");
        let mut status = Status::timeout(message, 1);
        status.add_cause(
            "ResourceVersionTooLarge",
            "Too large resource version".to_owned(),
            "",
        );
        status
    }

    /// Appends a cause. Creates the details when there are none.
    pub fn add_cause(&mut self, reason: &str, message: String, field: &str) {
        self.details.get_or_insert_default().causes.push(Cause {
            reason: reason.to_owned(),
            message,
            field: field.to_owned(),
        });
    }

    /// Returns the body of the response: a `v1` `Status` object.
    pub fn to_value(&self) -> Value {
        let mut value = json!({
            "kind": "Status",
            "apiVersion": "v1",
            "metadata": {},
            "status": "Failure",
            "message": self.message,
            "code": self.code,
        });
        if !self.reason.is_empty() {
            value["reason"] = self.reason.into();
        }
        if let Some(details) = &self.details {
            value["details"] = details.to_value();
        }
        value
    }
}

impl Details {
    fn to_value(&self) -> Value {
        let mut value = json!({});
        let texts = [
            ("name", &self.name),
            ("group", &self.group),
            ("kind", &self.kind),
            ("uid", &self.uid),
        ];
        for (key, text) in texts {
            if !text.is_empty() {
                value[key] = text.as_str().into();
            }
        }
        if !self.causes.is_empty() {
            value["causes"] = self.causes.iter().map(Cause::to_value).collect();
        }
        if self.retry_after_seconds > 0 {
            value["retryAfterSeconds"] = self.retry_after_seconds.into();
        }
        value
    }
}

impl Cause {
    fn to_value(&self) -> Value {
        let mut value = json!({});
        let texts = [
            ("reason", &self.reason),
            ("message", &self.message),
            ("field", &self.field),
        ];
        for (key, text) in texts {
            if !text.is_empty() {
                value[key] = text.as_str().into();
            }
        }
        value
    }
}

/// Returns the `Success` response of a deletion after which no object is left.
pub fn deleted(kind: &Kind, name: &str, uid: &str) -> Value {
    let details = Details {
        name: name.to_owned(),
        group: kind.group.to_owned(),
        kind: kind.plural.to_owned(),
        uid: uid.to_owned(),
        ..Details::default()
    };
    json!({
        "kind": "Status",
        "apiVersion": "v1",
        "metadata": {},
        "status": "Success",
        "details": details.to_value(),
    })
}

#[cfg(test)]
mod tests;

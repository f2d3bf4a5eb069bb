//! A request for objects, and the options in its parameters and its body.

use std::sync::Arc;

use api::field_error::{FieldError, Path};
use api::status::Status;
use bytes::Bytes;
use http::HeaderMap;
use jiff::Timestamp;
use schema::decode::{DecodeError, FieldValidation};
use serde_json::Value;

use crate::decoding;
use crate::negotiate::{self, Answer};
use crate::query::Query;
use crate::routes::Target;
use crate::user::User;

/// A request for objects, authenticated and with its body read.
pub(crate) struct Request {
    pub(crate) user: Arc<User>,
    pub(crate) target: Target,
    pub(crate) query: Query,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
    pub(crate) answer: Answer,
    pub(crate) now: Timestamp,
    /// Texts of the `Warning` headers of the response.
    pub(crate) warnings: Vec<String>,
}

/// The options of every write.
#[derive(Debug, Clone, Copy)]
pub(crate) struct WriteOptions {
    pub(crate) dry_run: bool,
    pub(crate) field_validation: FieldValidation,
}

impl WriteOptions {
    /// Parses the options in the query. `options` is their Kubernetes type, such as
    /// `CreateOptions`.
    pub(crate) fn of(query: &Query, options: &str) -> Result<WriteOptions, Status> {
        let mut errors = Vec::new();
        let dry_run = dry_run(query.all("dryRun"), &mut errors);
        let field_validation = match query.get("fieldValidation") {
            None | Some("" | "Warn") => FieldValidation::Warn,
            Some("Ignore") => FieldValidation::Ignore,
            Some("Strict") => FieldValidation::Strict,
            Some(other) => {
                let path = Path::Root("fieldValidation");
                errors.push(FieldError::not_supported(
                    &path,
                    other,
                    &["", "Ignore", "Strict", "Warn"],
                ));
                FieldValidation::Warn
            }
        };
        refuse(options, &errors)?;
        Ok(WriteOptions {
            dry_run,
            field_validation,
        })
    }
}

/// Returns whether `dryRun` has a value. The only valid value is `All`.
pub(crate) fn dry_run<'a>(values: impl Iterator<Item = &'a str>, errors: &mut Vec<FieldError>) -> bool {
    let mut asked = false;
    for value in values.filter(|value| !value.is_empty()) {
        asked = true;
        if value != "All" {
            errors.push(FieldError::not_supported(&Path::Root("dryRun"), value, &["All"]));
        }
    }
    asked
}

/// Returns status 422 if the options have errors.
pub(crate) fn refuse(options: &str, errors: &[FieldError]) -> Result<(), Status> {
    match errors {
        [] => Ok(()),
        errors => Err(Status::invalid_kind("meta.k8s.io", options, "", errors)),
    }
}

impl Request {
    /// Decodes the body as an object of the target's kind.
    pub(crate) async fn decode_object(&mut self, validation: FieldValidation) -> Result<Value, Status> {
        let kind = self.target.kind;
        let object = self.decode_as(kind.ty(), validation).await?;
        let unfit = |why| DecodeError::Unfit {
            kind: kind.kind.to_owned(),
            version: kind.version.to_owned(),
            expected: kind.kind.to_owned(),
            cause: Box::new(DecodeError::Type(why)),
        };
        match kind.check_decoded(&object) {
            Ok(()) => Ok(object),
            Err(why) => Err(Status::bad_request(unfit(why).to_string())),
        }
    }

    /// Decodes the body as an object of this type.
    pub(crate) async fn decode_as(
        &mut self,
        ty: &'static schema::Type,
        validation: FieldValidation,
    ) -> Result<Value, Status> {
        let format = negotiate::body_format(&self.headers)?;
        let decoded = decoding::object(&self.user, &self.body, format, Some(ty), validation).await?;
        self.warnings.extend(decoded.warnings);
        Ok(decoded.value)
    }

    /// Returns status 400 unless the body's namespace is that of the path. Sets it when the body
    /// has none. Removes it from a cluster-scoped object.
    pub(crate) fn settle_namespace(&self, object: &mut Value) -> Result<(), Status> {
        let wanted = self.target.namespace.as_str();
        let metadata = api::meta::metadata_mut(object);
        if !self.target.kind.namespaced {
            metadata.remove("namespace");
            return Ok(());
        }
        match metadata.get("namespace").and_then(Value::as_str) {
            Some(given) if given == wanted => Ok(()),
            None | Some("") => {
                if !wanted.is_empty() {
                    metadata.insert("namespace".to_owned(), wanted.into());
                }
                Ok(())
            }
            Some(_) => Err(Status::bad_request(
                "the namespace of the provided object does not match the namespace sent on the request",
            )),
        }
    }
}

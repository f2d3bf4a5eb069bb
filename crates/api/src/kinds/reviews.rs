//! Bodies that are answered and forgotten: who am I, may I, give me a token.

use serde_json::Value;

use crate::field_error::{FieldError, Path};
use crate::kinds::{Kind, Strategy, row};
use crate::validate::field::present;

/// The row of SelfSubjectReview: who the server takes the caller for.
pub static SELF_SUBJECT_REVIEW: Kind = Kind {
    namespaced: false,
    stored: false,
    verbs: &["create"],
    columns: &[],
    strategy: Strategy {
        row: |_, _| Vec::new(),
        ..SELF_BASE.strategy
    },
    ..SELF_BASE
};

/// The row of SelfSubjectAccessReview: whether the caller may do something.
pub static SELF_SUBJECT_ACCESS_REVIEW: Kind = Kind {
    namespaced: false,
    stored: false,
    verbs: &["create"],
    columns: &[],
    strategy: Strategy {
        rules: access_rules,
        row: |_, _| Vec::new(),
        ..ACCESS_BASE.strategy
    },
    ..ACCESS_BASE
};

const SELF_BASE: Kind = row(
    "authentication.k8s.io",
    "v1",
    "SelfSubjectReview",
    "selfsubjectreviews",
    "selfsubjectreview",
);
const ACCESS_BASE: Kind = row(
    "authorization.k8s.io",
    "v1",
    "SelfSubjectAccessReview",
    "selfsubjectaccessreviews",
    "selfsubjectaccessreview",
);

/// The shortest life of a requested token, in seconds.
const TOKEN_SECONDS_LOWEST: i64 = 600;
/// The life of a token whose request does not say.
const TOKEN_SECONDS_DEFAULT: i64 = 3600;
/// The longest.
const TOKEN_SECONDS_HIGHEST: i64 = 1 << 32;

fn access_rules(object: &Value, errors: &mut Vec<FieldError>) {
    let spec = &object["spec"];
    let path = &Path::Root("spec");
    match (
        present(spec, "resourceAttributes"),
        present(spec, "nonResourceAttributes"),
    ) {
        (true, true) => errors.push(FieldError::invalid(
            &path.child("nonResourceAttributes"),
            spec["nonResourceAttributes"].clone(),
            "cannot be specified in combination with resourceAttributes",
        )),
        (false, false) => errors.push(FieldError::invalid(
            &path.child("resourceAttributes"),
            Value::Null,
            "exactly one of nonResourceAttributes or resourceAttributes must be specified",
        )),
        _ => {}
    }
}

/// Judges the body of `serviceaccounts/token`.
pub fn validate_token_request(request: &Value) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let spec = Path::Root("spec");
    let path = spec.child("expirationSeconds");
    let seconds = request["spec"]["expirationSeconds"].as_i64();
    if let Some(seconds) = seconds.filter(|seconds| *seconds < TOKEN_SECONDS_LOWEST) {
        errors.push(FieldError::invalid(
            &path,
            seconds,
            "may not specify a duration less than 10 minutes",
        ));
    }
    if let Some(seconds) = seconds.filter(|seconds| *seconds > TOKEN_SECONDS_HIGHEST) {
        errors.push(FieldError::invalid(
            &path,
            seconds,
            "may not specify a duration larger than 2^32 seconds",
        ));
    }
    errors
}

/// Fills in what a token request leaves out: an hour of life.
pub fn default_token_request(request: &mut Value) {
    let Some(fields) = request.as_object_mut() else {
        return;
    };
    if let Some(spec) = crate::default::object_or_new(fields, "spec") {
        crate::default::set_missing(spec, "expirationSeconds", || TOKEN_SECONDS_DEFAULT.into());
    }
}

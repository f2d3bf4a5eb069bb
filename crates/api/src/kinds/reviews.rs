//! Kinds that are answered and not stored: the user's own identity, permissions, tokens.

use serde_json::Value;

use crate::field_error::{FieldError, Path};
use crate::kinds::{Kind, Strategy, row};
use crate::validate::field::{list, present, text};

/// The row of SelfSubjectReview: the user of the request.
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

/// The row of SelfSubjectAccessReview: whether the user of the request may do something.
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

/// The row of SubjectAccessReview: whether a given user may do something.
pub static SUBJECT_ACCESS_REVIEW: Kind = Kind {
    namespaced: false,
    ..LOCAL_SUBJECT_ACCESS_REVIEW_BASE
};

/// The row of LocalSubjectAccessReview: whether a given user may do something in this namespace.
pub static LOCAL_SUBJECT_ACCESS_REVIEW: Kind = Kind {
    kind: "LocalSubjectAccessReview",
    plural: "localsubjectaccessreviews",
    singular: "localsubjectaccessreview",
    strategy: Strategy {
        rules: local_subject_rules,
        ..LOCAL_SUBJECT_ACCESS_REVIEW_BASE.strategy
    },
    ..LOCAL_SUBJECT_ACCESS_REVIEW_BASE
};

/// The row of SelfSubjectRulesReview: what the user of the request may do in a namespace.
pub static SELF_SUBJECT_RULES_REVIEW: Kind = Kind {
    namespaced: false,
    stored: false,
    verbs: &["create"],
    columns: &[],
    strategy: Strategy {
        rules: rules_rules,
        row: |_, _| Vec::new(),
        ..RULES_BASE.strategy
    },
    ..RULES_BASE
};

const LOCAL_SUBJECT_ACCESS_REVIEW_BASE: Kind = Kind {
    stored: false,
    verbs: &["create"],
    columns: &[],
    strategy: Strategy {
        rules: subject_rules,
        row: |_, _| Vec::new(),
        ..SUBJECT_BASE.strategy
    },
    ..SUBJECT_BASE
};

const SUBJECT_BASE: Kind = row(
    "authorization.k8s.io",
    "v1",
    "SubjectAccessReview",
    "subjectaccessreviews",
    "subjectaccessreview",
);
const RULES_BASE: Kind = row(
    "authorization.k8s.io",
    "v1",
    "SelfSubjectRulesReview",
    "selfsubjectrulesreviews",
    "selfsubjectrulesreview",
);
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

/// The shortest lifetime of a requested token, in seconds.
const TOKEN_SECONDS_LOWEST: i64 = 600;
/// The default lifetime of a requested token, in seconds.
const TOKEN_SECONDS_DEFAULT: i64 = 3600;
/// The longest lifetime of a requested token, in seconds.
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

fn subject_rules(object: &Value, errors: &mut Vec<FieldError>) {
    access_rules(object, errors);
    let spec = &object["spec"];
    if text(spec, "user").is_empty() && list(spec, "groups").is_empty() {
        let why = "at least one of user or group must be specified";
        errors.push(FieldError::required(&Path::Root("spec").child("user"), why));
    }
}

fn local_subject_rules(object: &Value, errors: &mut Vec<FieldError>) {
    subject_rules(object, errors);
    let spec = &object["spec"];
    let path = &Path::Root("spec");
    if present(spec, "nonResourceAttributes") {
        errors.push(FieldError::invalid(
            &path.child("nonResourceAttributes"),
            spec["nonResourceAttributes"].clone(),
            "disallowed on this kind of request",
        ));
    }
    let (inside, asked) = (crate::meta::namespace(object), &spec["resourceAttributes"]);
    if present(spec, "resourceAttributes") && text(asked, "namespace") != inside {
        let attributes = path.child("resourceAttributes");
        errors.push(FieldError::invalid(
            &attributes.child("namespace"),
            text(asked, "namespace"),
            "must match metadata.namespace",
        ));
    }
}

fn rules_rules(object: &Value, errors: &mut Vec<FieldError>) {
    if text(&object["spec"], "namespace").is_empty() {
        errors.push(FieldError::required(
            &Path::Root("spec").child("namespace"),
            "no namespace on request",
        ));
    }
}

/// Validates the body of `serviceaccounts/token`.
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

/// Sets the defaults of a token request: the lifetime.
pub fn default_token_request(request: &mut Value) {
    let Some(fields) = request.as_object_mut() else {
        return;
    };
    if let Some(spec) = crate::default::object_or_new(fields, "spec") {
        crate::default::set_missing(spec, "expirationSeconds", || TOKEN_SECONDS_DEFAULT.into());
    }
}

//! `certificates.k8s.io/v1` CertificateSigningRequest: a request for a certificate of a key. An
//! approver approves or denies it, and a signer issues the certificate.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use crate::certificates::SigningRequest;
use crate::field_error::{FieldError, Path};
use crate::kinds::{AGE, Kind, NAME, StatusField, Strategy, column, keep_field, row, status_of, subresource};
use crate::meta;
use crate::print;
use crate::time;
use crate::validate::field::{list, text, texts};
use crate::validate::name;

const GVK: (&str, &str, &str) = ("certificates.k8s.io", "v1", "CertificateSigningRequest");

/// The row of CertificateSigningRequest.
pub static CERTIFICATE_SIGNING_REQUEST: Kind = Kind {
    short_names: &["csr"],
    namespaced: false,
    subresources: &[
        subresource("approval", GVK, &["get", "patch", "update"]),
        status_of(GVK),
    ],
    selectable: &["spec.signerName"],
    columns: &[
        NAME,
        AGE,
        column("SignerName", "The signer of the certificate."),
        column("Requestor", "The user that created the request."),
        column("RequestedDuration", "The requested lifetime of the certificate."),
        column(
            "Condition",
            "Whether it was approved, and whether the certificate was issued.",
        ),
    ],
    strategy: Strategy {
        status: StatusField::Separate,
        // The spec is immutable, because it may already be approved.
        update: |new, old| keep_field(new, old, "spec"),
        status_update: |new, old| keep_conditions(new, old, &[APPROVED, DENIED]),
        name: name::path_segment,
        rules,
        status_rules,
        row: table_row,
        ..BASE.strategy
    },
    ..BASE
};

const BASE: Kind = row(
    GVK.0,
    GVK.1,
    GVK.2,
    "certificatesigningrequests",
    "certificatesigningrequest",
);

/// The condition of an approved request.
pub const APPROVED: &str = "Approved";
/// The condition of a denied request.
pub const DENIED: &str = "Denied";
/// The condition that the signer sets when it cannot issue.
pub const FAILED: &str = "Failed";
const FINAL: [&str; 3] = [APPROVED, DENIED, FAILED];

/// Sorted as in Kubernetes' error.
const USAGES: [&str; 23] = [
    "any",
    "cert sign",
    "client auth",
    "code signing",
    "content commitment",
    "crl sign",
    "data encipherment",
    "decipher only",
    "digital signature",
    "email protection",
    "encipher only",
    "ipsec end system",
    "ipsec tunnel",
    "ipsec user",
    "key agreement",
    "key encipherment",
    "microsoft sgc",
    "netscape sgc",
    "ocsp signing",
    "s/mime",
    "server auth",
    "signing",
    "timestamping",
];

/// The shortest `expirationSeconds` of a request.
const LIFE_LOWEST: i64 = 600;
/// Most bytes of the domain in a signer's name.
const SIGNER_DOMAIN: usize = 253;
/// Most bytes of a signer's name: the domain, a slash, a subdomain, a dot and a label.
const SIGNER: usize = SIGNER_DOMAIN + 1 + 253 + 1 + 63;
/// The signer of requests without a signer in older API versions. It is no longer valid.
const LEGACY_SIGNER: &str = "kubernetes.io/legacy-unknown";

/// Returns whether a request has a condition of this type.
pub fn has_condition(object: &Value, kind: &str) -> bool {
    list(&object["status"], "conditions")
        .iter()
        .any(|condition| text(condition, "type") == kind)
}

/// Sets the requester in a new request, and ignores what the client wrote.
pub fn set_requestor(object: &mut Value, requestor: Requestor<'_>) {
    let Some(spec) = object.get_mut("spec").and_then(Value::as_object_mut) else {
        return;
    };
    let known = json!({
        "username": requestor.name,
        "uid": requestor.uid,
        "groups": requestor.groups,
        "extra": requestor.extra,
    });
    for (field, value) in known.as_object().into_iter().flatten() {
        let empty = match value {
            Value::String(text) => text.is_empty(),
            Value::Array(items) => items.is_empty(),
            Value::Object(fields) => fields.is_empty(),
            _ => false,
        };
        match empty {
            true => spec.remove(field),
            false => spec.insert(field.clone(), value.clone()),
        };
    }
}

/// The user that creates a request.
#[derive(Clone, Copy, Debug)]
pub struct Requestor<'a> {
    /// The user's name.
    pub name: &'a str,
    /// The user's uid; empty without one.
    pub uid: &'a str,
    /// All groups.
    pub groups: &'a [String],
    /// The user's extra fields, for example about the credential.
    pub extra: &'a std::collections::BTreeMap<String, Vec<String>>,
}

/// Prepares the `approval` subresource: only the conditions in the status can change, except
/// Failed.
pub fn prepare_approval(new: &mut Value, old: &Value) {
    meta::carry_over(new, old);
    keep_field(new, old, "spec");
    let conditions = new["status"]["conditions"].take();
    keep_field(new, old, "status");
    if let Some(fields) = new.as_object_mut()
        && let Some(status) = crate::default::object_or_new(fields, "status")
    {
        match conditions.is_null() {
            true => status.remove("conditions"),
            false => status.insert("conditions".to_owned(), conditions),
        };
    }
    keep_conditions(new, old, &[FAILED]);
}

/// Validates a prepared approval.
pub fn validate_approval(new: &Value, old: &Value) -> Vec<FieldError> {
    let mut errors = Vec::new();
    status_rules(new, old, &mut errors);
    errors
}

/// Sets the times of changed conditions.
pub fn stamp_conditions(object: &mut Value, old: &Value, now: jiff::Timestamp) {
    let before = list(&old["status"], "conditions").to_vec();
    let conditions = object["status"]
        .get_mut("conditions")
        .and_then(Value::as_array_mut);
    for condition in conditions.into_iter().flatten() {
        let same = before
            .iter()
            .find(|known| text(known, "type") == text(condition, "type"));
        if same.is_some_and(|known| known == condition) {
            continue;
        }
        for field in ["lastUpdateTime", "lastTransitionTime"] {
            if condition[field].is_null() {
                condition[field] = time::rfc3339(now).into();
            }
        }
    }
}

/// Restores the conditions of these types from `old`, because the writer of `new` may not change
/// them.
fn keep_conditions(new: &mut Value, old: &Value, types: &[&str]) {
    let given = list(&new["status"], "conditions");
    let is_kept = |condition: &&Value| types.contains(&text(condition, "type"));
    let kept = list(&old["status"], "conditions").iter().filter(is_kept);
    let others = given.iter().filter(|condition| !is_kept(condition));
    let conditions: Vec<Value> = kept.chain(others).cloned().collect();
    match conditions.is_empty() {
        true => {
            if let Some(status) = new["status"].as_object_mut() {
                status.remove("conditions");
            }
        }
        false => new["status"]["conditions"] = conditions.into(),
    }
}

fn rules(object: &Value, errors: &mut Vec<FieldError>) {
    let spec = &object["spec"];
    let path = &Path::Root("spec");
    let request = text(spec, "request");
    let pem = STANDARD.decode(request).unwrap_or_default();
    if let Err(why) = SigningRequest::parse(&pem) {
        errors.push(FieldError::invalid(&path.child("request"), request, why));
    }
    signer_name(text(spec, "signerName"), &path.child("signerName"), errors);
    let usages = path.child("usages");
    if list(spec, "usages").is_empty() {
        errors.push(FieldError::required(&usages, ""));
    }
    let mut seen: Vec<&str> = Vec::new();
    for (index, usage) in texts(spec, "usages").enumerate() {
        if !USAGES.contains(&usage) {
            errors.push(FieldError::not_supported(&usages.index(index), usage, &USAGES));
        }
        if seen.contains(&usage) {
            errors.push(FieldError::duplicate(&usages.index(index), usage));
        }
        seen.push(usage);
    }
    if let Some(seconds) = spec["expirationSeconds"]
        .as_i64()
        .filter(|seconds| *seconds < LIFE_LOWEST)
    {
        let detail = "may not specify a duration less than 600 seconds (10 minutes)";
        errors.push(FieldError::invalid(
            &path.child("expirationSeconds"),
            seconds,
            detail,
        ));
    }
}

/// Validates the name of a signer: `domain/path`, where the domain has at least two labels.
fn signer_name(signer: &str, path: &Path<'_>, errors: &mut Vec<FieldError>) {
    if signer.is_empty() {
        errors.push(FieldError::required(path, ""));
        return;
    }
    if signer == LEGACY_SIGNER {
        let detail = "the legacy signerName is not allowed via this API version";
        errors.push(FieldError::invalid(path, signer, detail));
        return;
    }
    let parts: Vec<&str> = signer.split('/').collect();
    let [domain, name] = parts.as_slice() else {
        let detail = "must be a fully qualified domain and path of the form 'example.com/signer-name'";
        errors.push(FieldError::invalid(path, signer, detail));
        return;
    };
    if domain.len() > SIGNER_DOMAIN {
        errors.push(FieldError::too_long(path, SIGNER_DOMAIN));
    }
    each_label(domain, name::dns_label, path, errors);
    if !domain.contains('.') {
        let detail = "should be a domain with at least two segments separated by dots";
        errors.push(FieldError::invalid(path, *domain, detail));
    }
    each_label(name, name::dns_subdomain, path, errors);
    if signer.len() > SIGNER {
        errors.push(FieldError::too_long(path, SIGNER));
    }
}

/// Validates each label of a part of a signer's name. Dots separate the labels.
fn each_label(
    part: &str,
    rule: impl Fn(&str, &mut Vec<&'static str>),
    path: &Path<'_>,
    errors: &mut Vec<FieldError>,
) {
    for label in part.split('.') {
        let mut wrong = Vec::new();
        rule(label, &mut wrong);
        errors.extend(
            wrong
                .iter()
                .map(|why| FieldError::invalid(path, part, format!("validating label {label:?}: {why}"))),
        );
    }
}

fn status_rules(new: &Value, old: &Value, errors: &mut Vec<FieldError>) {
    let path = &Path::Root("status");
    let conditions = path.child("conditions");
    let mut seen: Vec<&str> = Vec::new();
    for (index, condition) in list(&new["status"], "conditions").iter().enumerate() {
        let path = conditions.index(index);
        let kind = text(condition, "type");
        let is = text(condition, "status");
        let allowed: &[&str] = match FINAL.contains(&kind) {
            true => &["True"],
            false => &["False", "True", "Unknown"],
        };
        if kind.is_empty() {
            errors.push(FieldError::required(&path.child("type"), ""));
        }
        if is.is_empty() {
            errors.push(FieldError::required(&path.child("status"), ""));
        } else if !allowed.contains(&is) {
            errors.push(FieldError::not_supported(&path.child("status"), is, allowed));
        }
        if seen.contains(&kind) {
            errors.push(FieldError::duplicate(&path.child("type"), kind));
        }
        let excluded = match kind {
            APPROVED => seen.contains(&DENIED),
            DENIED => seen.contains(&APPROVED),
            _ => false,
        };
        if excluded {
            let detail = "Approved and Denied conditions are mutually exclusive";
            errors.push(FieldError::invalid(&path.child("type"), kind, detail));
        }
        seen.push(kind);
    }
    for kind in FINAL {
        if has_condition(old, kind) && !has_condition(new, kind) {
            let detail = format!("updates may not remove a condition of type {kind:?}");
            errors.push(FieldError::forbidden(&conditions, detail));
        }
    }
    certificate(new, old, &path.child("certificate"), errors);
}

fn certificate(new: &Value, old: &Value, path: &Path<'_>, errors: &mut Vec<FieldError>) {
    let (issued, before) = (
        text(&new["status"], "certificate"),
        text(&old["status"], "certificate"),
    );
    if issued == before {
        return;
    }
    if !before.is_empty() {
        let detail = "updates may not modify existing certificate content";
        errors.push(FieldError::forbidden(path, detail));
    }
    let pem = STANDARD.decode(issued).unwrap_or_default();
    if crate::certificates::public_key_hash(&pem).is_none() {
        let detail = "must contain at least one CERTIFICATE PEM block";
        errors.push(FieldError::invalid(path, "<certificate data>", detail));
    }
}

fn table_row(object: &Value, now: jiff::Timestamp) -> Vec<Value> {
    let spec = &object["spec"];
    let life = match spec["expirationSeconds"].as_i64() {
        Some(seconds) => time::human_duration(seconds),
        None => print::NONE.to_owned(),
    };
    vec![
        meta::name(object).into(),
        print::age(object, now),
        text(spec, "signerName").into(),
        text(spec, "username").into(),
        life.into(),
        condition(object).into(),
    ]
}

fn condition(object: &Value) -> String {
    let mut condition = if has_condition(object, DENIED) {
        "Denied".to_owned()
    } else if has_condition(object, APPROVED) {
        "Approved".to_owned()
    } else {
        "Pending".to_owned()
    };
    if has_condition(object, FAILED) {
        condition.push_str(",Failed");
    }
    if !text(&object["status"], "certificate").is_empty() {
        condition.push_str(",Issued");
    }
    condition
}

//! `certificates.k8s.io/v1` CertificateSigningRequest: somebody has a key and wants a certificate for it. An approver says yes or no,
//! a signer issues.

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
        column("SignerName", "The signer that is to issue the certificate."),
        column("Requestor", "Who asked."),
        column("RequestedDuration", "How long the certificate is to last."),
        column(
            "Condition",
            "Whether it was approved, and whether the certificate was issued.",
        ),
    ],
    strategy: Strategy {
        status: StatusField::Separate,
        // What is asked for does not change: somebody may have approved it.
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

/// The condition by which a request is granted.
pub const APPROVED: &str = "Approved";
/// The condition by which it is refused.
pub const DENIED: &str = "Denied";
/// The condition by which the signer says that it cannot issue.
pub const FAILED: &str = "Failed";
const FINAL: [&str; 3] = [APPROVED, DENIED, FAILED];

/// In the order in which an error lists them.
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

/// The shortest life that may be asked for, in seconds.
const LIFE_LOWEST: i64 = 600;
/// The longest domain of a signer's name.
const SIGNER_DOMAIN: usize = 253;
/// The longest name of a signer: the domain and, after a slash, a subdomain and a label with a dot between.
const SIGNER: usize = SIGNER_DOMAIN + 1 + 253 + 1 + 63;
/// What signed everything when nobody was asked who should; it cannot be asked for any more.
const LEGACY_SIGNER: &str = "kubernetes.io/legacy-unknown";

/// Whether a request has a condition of this type.
pub fn has_condition(object: &Value, kind: &str) -> bool {
    list(&object["status"], "conditions")
        .iter()
        .any(|condition| text(condition, "type") == kind)
}

/// Writes into a new request who made it: what a client says of that itself counts for nothing.
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

/// Who made a request.
#[derive(Clone, Copy, Debug)]
pub struct Requestor<'a> {
    /// The user's name.
    pub name: &'a str,
    /// The user's uid, empty if there is none.
    pub uid: &'a str,
    /// All groups.
    pub groups: &'a [String],
    /// Further facts about the credential.
    pub extra: &'a std::collections::BTreeMap<String, Vec<String>>,
}

/// Prepares the `approval` subresource: of the status only the conditions are taken, of these only Approved and Denied.
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

/// Judges a prepared approval.
pub fn validate_approval(new: &Value, old: &Value) -> Vec<FieldError> {
    let mut errors = Vec::new();
    status_rules(new, old, &mut errors);
    errors
}

/// Fills in when conditions changed.
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

/// Takes the conditions of these types from `old`: whoever writes `new` has no say about them.
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

/// A signer is `domain/path`, the domain with at least two labels.
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

/// Judges what stands between the dots of a part of a signer's name.
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

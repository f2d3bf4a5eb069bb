//! Decoding of request bodies: JSON, YAML and protobuf.

mod json;
mod protobuf;
mod value;
mod yaml;

use serde_json::Value;

use self::value::Shape;
use crate::{
    canonicalize, check,
    types::{Gvk, Type},
};

/// The encoding of a body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// `application/json`
    Json,
    /// `application/yaml`
    Yaml,
    /// `application/vnd.kubernetes.protobuf`
    Protobuf,
}

/// How to treat unknown and duplicate fields (the `fieldValidation` parameter).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum FieldValidation {
    /// Drop them.
    Ignore,
    /// Drop them and return warnings.
    #[default]
    Warn,
    /// Reject the body.
    Strict,
}

/// A decoded body.
#[derive(Debug)]
pub struct Decoded {
    /// The object. Its types are checked, unknown fields are dropped, it is canonical (see
    /// [`crate::canonicalize`]), and `apiVersion` and `kind` are set.
    pub value: Value,
    /// With [`FieldValidation::Warn`]: a message for each unknown or duplicate field.
    pub warnings: Vec<String>,
}

/// Why a body was rejected, in Kubernetes' words. All are 400 `BadRequest`.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// The body is not valid JSON, YAML or protobuf.
    #[error("{0}")]
    Syntax(String),
    /// A value of the wrong type.
    #[error("{0}")]
    Type(String),
    /// Unknown or duplicate fields, with [`FieldValidation::Strict`].
    #[error("strict decoding error: {}", .0.join(", "))]
    Strict(Vec<String>),
    /// More than [`MAX_DEPTH`] levels.
    #[error("exceeded max depth")]
    TooDeep,
    /// The body has no kind, and the caller expects no specific one. Contains the (shortened) body.
    #[error("Object 'Kind' is missing in '{0}'")]
    NoKind(String),
    /// The body has no version, and the caller expects no specific one. Contains the (shortened)
    /// body.
    #[error("Object 'apiVersion' is missing in '{0}'")]
    NoVersion(String),
    /// A kind that is not served.
    #[error(
        "no kind \"{kind}\" is registered for version \"{api_version}\" in scheme \"k8s.io/kubernetes/pkg/api/legacyscheme/scheme.go:30\""
    )]
    NotRegistered {
        /// The version in the body.
        api_version: String,
        /// The kind in the body.
        kind: String,
    },
    /// A known kind that is not the expected one.
    #[error("converting ({found}) to ({expected}): unknown conversion")]
    Mismatch {
        /// Go's name of the body's type.
        found: &'static str,
        /// Go's name of the expected type.
        expected: &'static str,
    },
    /// The expected kind in another version.
    #[error("the API version in the data ({found}) does not match the expected API version ({expected})")]
    WrongVersion {
        /// The version in the body.
        found: String,
        /// The version of the resource.
        expected: String,
    },
    /// The body has a kind but cannot be decoded.
    #[error("{kind} in version \"{version}\" cannot be handled as a {expected}: {cause}")]
    Unfit {
        /// The body's kind.
        kind: String,
        /// The body's version, without the group.
        version: String,
        /// The expected kind.
        expected: String,
        /// The cause.
        cause: Box<DecodeError>,
    },
    /// The body cannot be decoded and has no kind.
    #[error("the object provided is unrecognized (must be of type {expected}): {cause} ({summary})")]
    Unrecognized {
        /// The expected kind.
        expected: String,
        /// The cause.
        cause: Box<DecodeError>,
        /// The first bytes of the body: as text when it looks like JSON, else in hexadecimal.
        summary: String,
    },
}

/// Most levels of nested lists and objects in a body. It is far more than API objects have, and
/// small enough for the smallest stack of a request handler.
pub const MAX_DEPTH: usize = 200;

/// Most unknown and duplicate fields that are reported, as in Kubernetes.
pub(crate) const MAX_STRICT_ERRORS: usize = 100;

/// Most bytes of a body in an error.
const SUMMARY_BYTES: usize = 30;

/// Decodes an object: checks its types, drops or rejects unknown fields, makes it canonical, and
/// sets `apiVersion` and `kind`.
///
/// With `ty`, the body must have that type. `apiVersion` and `kind` may be missing in JSON and YAML
/// if the type has a single kind. Without `ty`, the body's own kind determines the type.
pub fn object(
    body: &[u8],
    format: Format,
    ty: Option<&'static Type>,
    validation: FieldValidation,
) -> Result<Decoded, DecodeError> {
    let (mut value, mut warnings, found) = match format {
        Format::Json => json::object(body, ty)?,
        Format::Yaml => yaml::object(body, ty)?,
        Format::Protobuf => protobuf::object(body, ty)?,
    };
    let refuse = |cause: DecodeError, value: &Value| unfit(cause, value, found);
    check(found, &value).map_err(|cause| refuse(cause, &value))?;
    match validation {
        FieldValidation::Strict if !warnings.is_empty() => {
            return Err(refuse(DecodeError::Strict(warnings), &value));
        }
        FieldValidation::Warn => {}
        FieldValidation::Strict | FieldValidation::Ignore => warnings.clear(),
    }
    canonicalize(found, &mut value);
    if let (Some(map), [gvk]) = (value.as_object_mut(), found.gvks) {
        map.entry("apiVersion")
            .or_insert_with(|| gvk.api_version().into());
        map.entry("kind").or_insert_with(|| gvk.kind.into());
    }
    Ok(Decoded { value, warnings })
}

/// Decodes a body without a type, such as a patch. The last of duplicate fields counts.
pub fn untyped(body: &[u8], format: Format) -> Result<Value, DecodeError> {
    untyped_with_duplicates(body, format).map(|(value, _)| value)
}

/// Decodes a body without a type. Also returns a message for each duplicate field, as in
/// [`Decoded::warnings`].
pub fn untyped_with_duplicates(body: &[u8], format: Format) -> Result<(Value, Vec<String>), DecodeError> {
    match format {
        Format::Json => json::parse(body, Shape::Any),
        Format::Yaml => yaml::parse(body, Shape::Any),
        Format::Protobuf => Err(DecodeError::Syntax(
            "protobuf carries no untyped values".to_owned(),
        )),
    }
}

/// Compares the kind of a body with the expected one, and returns the type for decoding.
fn resolve_type(
    value: &Value,
    expected: Option<&'static Type>,
    body: &[u8],
) -> Result<&'static Type, DecodeError> {
    let text = |name: &str| value.get(name).and_then(Value::as_str).unwrap_or_default();
    let (api_version, kind) = (text("apiVersion"), text("kind"));
    let (group, version) = crate::split_api_version(api_version);
    let not_registered = || DecodeError::NotRegistered {
        api_version: api_version.to_owned(),
        kind: kind.to_owned(),
    };
    let Some(ty) = expected else {
        let shortened = || String::from_utf8_lossy(&body[..body.len().min(SUMMARY_BYTES)]).into_owned();
        return match (kind, api_version) {
            ("", _) => Err(DecodeError::NoKind(shortened())),
            (_, "") => Err(DecodeError::NoVersion(shortened())),
            _ => crate::lookup(group, version, kind).ok_or_else(not_registered),
        };
    };
    if kind.is_empty() || kind == ty.kind() {
        // Types with many versions (DeleteOptions) are also valid in unknown groups.
        if api_version.is_empty()
            || ty.gvks.len() > 1
            || ty.gvks.iter().any(|gvk| is_version(gvk, api_version))
        {
            return Ok(ty);
        }
        let expected = ty.gvks.first().map(Gvk::api_version).unwrap_or_default();
        return Err(DecodeError::WrongVersion {
            found: api_version.to_owned(),
            expected,
        });
    }
    let cause = match crate::lookup(group, version, kind) {
        Some(found) => DecodeError::Mismatch {
            found: found.go,
            expected: ty.go,
        },
        None => not_registered(),
    };
    Err(unfit(cause, value, ty))
}

fn is_version(gvk: &Gvk, api_version: &str) -> bool {
    (gvk.group, gvk.version) == crate::split_api_version(api_version)
}

/// Returns the error for a body with a known kind.
fn unfit(cause: DecodeError, value: &Value, expected: &'static Type) -> DecodeError {
    let text = |name: &str| value.get(name).and_then(Value::as_str).unwrap_or_default();
    let default = expected.gvks.first();
    let kind = Some(text("kind"))
        .filter(|kind| !kind.is_empty())
        .unwrap_or(expected.kind());
    let version = Some(crate::split_api_version(text("apiVersion")).1)
        .filter(|version| !version.is_empty())
        .unwrap_or(default.map_or("", |gvk| gvk.version));
    DecodeError::Unfit {
        kind: kind.to_owned(),
        version: version.to_owned(),
        expected: expected.kind().to_owned(),
        cause: Box::new(cause),
    }
}

/// Returns the error for a body without a kind. Without an expected type, it is the cause itself.
fn unrecognized(cause: DecodeError, expected: Option<&'static Type>, body: &[u8]) -> DecodeError {
    match expected {
        None => cause,
        Some(ty) => DecodeError::Unrecognized {
            expected: ty.kind().to_owned(),
            cause: Box::new(cause),
            summary: summarize(body),
        },
    }
}

fn summarize(body: &[u8]) -> String {
    let shown = &body[..body.len().min(SUMMARY_BYTES)];
    let more = if shown.len() < body.len() { " ..." } else { "" };
    match body.first() {
        None => "<empty>".to_owned(),
        Some(b'{') => format!("{}{more}", String::from_utf8_lossy(shown)),
        Some(_) => {
            let digits: String = shown.iter().map(|byte| format!("{byte:02x}")).collect();
            format!("{digits}{more}")
        }
    }
}

#[cfg(test)]
mod tests;

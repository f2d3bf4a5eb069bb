//! Request bodies into values: JSON, YAML and protobuf.

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

/// What to do about unknown and duplicate fields (the `fieldValidation` parameter).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum FieldValidation {
    /// Drop them silently.
    Ignore,
    /// Drop them and say so.
    #[default]
    Warn,
    /// Refuse the body.
    Strict,
}

/// A decoded body.
#[derive(Debug)]
pub struct Decoded {
    /// The object: types checked, unknown fields dropped, canonical (see [`crate::canonicalize`]), `apiVersion` and `kind` set.
    pub value: Value,
    /// Under [`FieldValidation::Warn`]: one text per unknown or duplicate field.
    pub warnings: Vec<String>,
}

/// Why a body was refused. `Display` has the wording of Kubernetes; all of them are 400 `BadRequest`.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// Not JSON, not YAML or not protobuf.
    #[error("{0}")]
    Syntax(String),
    /// A value of the wrong type.
    #[error("{0}")]
    Type(String),
    /// Unknown or duplicate fields under [`FieldValidation::Strict`].
    #[error("strict decoding error: {}", .0.join(", "))]
    Strict(Vec<String>),
    /// More than [`MAX_DEPTH`] levels.
    #[error("exceeded max depth")]
    TooDeep,
    /// The body names no kind, and none is expected. Holds the (shortened) body.
    #[error("Object 'Kind' is missing in '{0}'")]
    NoKind(String),
    /// The body names no version, and none is expected. Holds the (shortened) body.
    #[error("Object 'apiVersion' is missing in '{0}'")]
    NoVersion(String),
    /// A kind that is not served.
    #[error(
        "no kind \"{kind}\" is registered for version \"{api_version}\" in scheme \"k8s.io/kubernetes/pkg/api/legacyscheme/scheme.go:30\""
    )]
    NotRegistered {
        /// As in the body.
        api_version: String,
        /// As in the body.
        kind: String,
    },
    /// A known kind, but not the expected one.
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
        /// As in the body.
        found: String,
        /// Of the resource.
        expected: String,
    },
    /// The body names its kind, but cannot be taken.
    #[error("{kind} in version \"{version}\" cannot be handled as a {expected}: {cause}")]
    Unfit {
        /// The body's kind.
        kind: String,
        /// The body's version, without the group.
        version: String,
        /// The expected kind.
        expected: String,
        /// What is wrong.
        cause: Box<DecodeError>,
    },
    /// The body does not even name its kind.
    #[error("the object provided is unrecognized (must be of type {expected}): {cause} ({summary})")]
    Unrecognized {
        /// The expected kind.
        expected: String,
        /// What is wrong.
        cause: Box<DecodeError>,
        /// The first bytes of the body: as text when it looks like JSON, else in hexadecimal.
        summary: String,
    },
}

/// The deepest nesting of lists and objects in a body: far beyond any object of the API, and shallow enough for the smallest
/// stack that handles requests.
pub const MAX_DEPTH: usize = 200;

/// The most unknown and duplicate fields that are reported, as in Kubernetes.
pub(crate) const MAX_STRICT_ERRORS: usize = 100;

/// How much of a body an error shows.
const SUMMARY_BYTES: usize = 30;

/// Decodes an object: checks its types, drops unknown fields (or refuses them), makes it canonical, and sets `apiVersion` and `kind`.
///
/// With `ty`, the body must be of that type; a JSON or YAML body may then leave out `apiVersion` and `kind`, which are filled in if
/// the type has but one kind. Without, the type is the one that the body names.
pub fn object(
    body: &[u8],
    format: Format,
    ty: Option<&'static Type>,
    validation: FieldValidation,
) -> Result<Decoded, DecodeError> {
    let (mut value, mut remarks, found) = match format {
        Format::Json => json::object(body, ty)?,
        Format::Yaml => yaml::object(body, ty)?,
        Format::Protobuf => protobuf::object(body, ty)?,
    };
    let refuse = |cause: DecodeError, value: &Value| unfit(cause, value, found);
    check(found, &value).map_err(|cause| refuse(cause, &value))?;
    match validation {
        FieldValidation::Strict if !remarks.is_empty() => {
            return Err(refuse(DecodeError::Strict(remarks), &value));
        }
        FieldValidation::Warn => {}
        FieldValidation::Strict | FieldValidation::Ignore => remarks.clear(),
    }
    canonicalize(found, &mut value);
    if let (Some(map), [gvk]) = (value.as_object_mut(), found.gvks) {
        map.entry("apiVersion")
            .or_insert_with(|| gvk.api_version().into());
        map.entry("kind").or_insert_with(|| gvk.kind.into());
    }
    Ok(Decoded {
        value,
        warnings: remarks,
    })
}

/// Decodes a body of no particular type, such as a patch. Of duplicate fields the last one stands.
pub fn untyped(body: &[u8], format: Format) -> Result<Value, DecodeError> {
    untyped_with_duplicates(body, format).map(|(value, _)| value)
}

/// Decodes a body of no particular type; besides, one text per duplicate field, as in [`Decoded::warnings`].
pub fn untyped_with_duplicates(body: &[u8], format: Format) -> Result<(Value, Vec<String>), DecodeError> {
    match format {
        Format::Json => json::parse(body, Shape::Any),
        Format::Yaml => yaml::parse(body, Shape::Any),
        Format::Protobuf => Err(DecodeError::Syntax(
            "protobuf carries no untyped values".to_owned(),
        )),
    }
}

/// Checks what a body says about its kind against what is expected, and answers the type to go on with.
fn settle(value: &Value, expected: Option<&'static Type>, body: &[u8]) -> Result<&'static Type, DecodeError> {
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
        // What comes in many versions (DeleteOptions) comes in those of unknown groups too.
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

/// An error of a body whose kind is known.
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

/// An error of a body that does not even say its kind; without an expectation, the bare cause.
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

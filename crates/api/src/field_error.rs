//! Errors about one field of an object, in Kubernetes' words, and the path that names the field.
//!
//! Validation builds paths on the stack and formats them only for an error. A valid object causes
//! no allocation here.

use std::fmt;

use serde_json::Value;

/// The place of a value in its object: `spec.containers[0].ports[1].hostPort`,
/// `metadata.labels[app]`.
///
/// Each step borrows the step before it.
#[derive(Clone, Copy, Debug)]
pub enum Path<'a> {
    /// The first field, for example `spec`.
    Root(&'a str),
    /// A named field of the path before it.
    Child(&'a Path<'a>, &'a str),
    /// An element of a list.
    Index(&'a Path<'a>, usize),
    /// An entry of a map.
    Key(&'a Path<'a>, &'a str),
}

impl<'a> Path<'a> {
    /// Returns the path of the field `name` below this path.
    pub fn child(&'a self, name: &'a str) -> Path<'a> {
        Path::Child(self, name)
    }

    /// Returns the path of the element at `index` of the list at this path.
    pub fn index(&'a self, index: usize) -> Path<'a> {
        Path::Index(self, index)
    }

    /// Returns the path of the entry `key` of the map at this path.
    pub fn key(&'a self, key: &'a str) -> Path<'a> {
        Path::Key(self, key)
    }
}

impl fmt::Display for Path<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            // The object as a whole.
            Path::Root("") => f.write_str("[]"),
            Path::Root(name) => f.write_str(name),
            // An object that is validated without its owner (a pod spec, for example) has an empty
            // root.
            Path::Child(Path::Root(""), name) => f.write_str(name),
            Path::Child(before, name) => write!(f, "{before}.{name}"),
            Path::Index(before, index) => write!(f, "{before}[{index}]"),
            Path::Key(before, key) => write!(f, "{before}[{key}]"),
        }
    }
}

/// What is wrong with a field. The names are those of Kubernetes' `field.ErrorType`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ErrorKind {
    /// The value refers to something that does not exist.
    NotFound,
    /// A value is missing.
    Required,
    /// The value occurs twice in a list of unique values.
    Duplicate,
    /// The value has a bad form or range.
    Invalid,
    /// The value is not one of a fixed set.
    NotSupported,
    /// The field must not be set here.
    Forbidden,
    /// The value has too many bytes.
    TooLong,
    /// The list has too many items.
    TooMany,
    /// The value has the wrong type.
    TypeInvalid,
    /// The server failed to check the value.
    Internal,
}

impl ErrorKind {
    /// Returns the words that start the message of such an error.
    pub fn text(self) -> &'static str {
        match self {
            ErrorKind::NotFound => "Not found",
            ErrorKind::Required => "Required value",
            ErrorKind::Duplicate => "Duplicate value",
            ErrorKind::Invalid | ErrorKind::TypeInvalid => "Invalid value",
            ErrorKind::NotSupported => "Unsupported value",
            ErrorKind::Forbidden => "Forbidden",
            ErrorKind::TooLong => "Too long",
            ErrorKind::TooMany => "Too many",
            ErrorKind::Internal => "Internal error",
        }
    }

    /// Returns the `reason` of the cause in a Status, for example `FieldValueInvalid`.
    pub fn reason(self) -> &'static str {
        match self {
            ErrorKind::NotFound => "FieldValueNotFound",
            ErrorKind::Required => "FieldValueRequired",
            ErrorKind::Duplicate => "FieldValueDuplicate",
            ErrorKind::Invalid => "FieldValueInvalid",
            ErrorKind::NotSupported => "FieldValueNotSupported",
            ErrorKind::Forbidden => "FieldValueForbidden",
            ErrorKind::TooLong => "FieldValueTooLong",
            ErrorKind::TooMany => "FieldValueTooMany",
            ErrorKind::TypeInvalid => "FieldValueTypeInvalid",
            ErrorKind::Internal => "InternalError",
        }
    }
}

/// An error about one field. Displays as `spec.x: Invalid value: "y": detail`.
#[derive(Clone, Debug, PartialEq)]
pub struct FieldError {
    /// The path of the field as text.
    pub path: String,
    /// What is wrong with it.
    pub kind: ErrorKind,
    /// The rejected value, if the message quotes it.
    pub bad: Option<Value>,
    /// The rule for the value, in words; may be empty.
    pub detail: String,
}

impl FieldError {
    /// A value with a bad form or range.
    pub fn invalid(path: &Path<'_>, bad: impl Into<Value>, detail: impl Into<String>) -> FieldError {
        FieldError {
            path: path.to_string(),
            kind: ErrorKind::Invalid,
            bad: Some(bad.into()),
            detail: detail.into(),
        }
    }

    /// A missing value.
    pub fn required(path: &Path<'_>, detail: impl Into<String>) -> FieldError {
        FieldError {
            path: path.to_string(),
            kind: ErrorKind::Required,
            bad: None,
            detail: detail.into(),
        }
    }

    /// A field that must not be set here.
    pub fn forbidden(path: &Path<'_>, detail: impl Into<String>) -> FieldError {
        FieldError {
            path: path.to_string(),
            kind: ErrorKind::Forbidden,
            bad: None,
            detail: detail.into(),
        }
    }

    /// A value that occurs twice in a list of unique values.
    pub fn duplicate(path: &Path<'_>, bad: impl Into<Value>) -> FieldError {
        FieldError {
            path: path.to_string(),
            kind: ErrorKind::Duplicate,
            bad: Some(bad.into()),
            detail: String::new(),
        }
    }

    /// A value outside the fixed set `supported`. The message lists the set in the given order.
    pub fn not_supported(path: &Path<'_>, bad: impl Into<Value>, supported: &[&str]) -> FieldError {
        let quoted: Vec<String> = supported.iter().map(|value| format!("{value:?}")).collect();
        let detail = if quoted.is_empty() {
            String::new()
        } else {
            format!("supported values: {}", quoted.join(", "))
        };
        FieldError {
            path: path.to_string(),
            kind: ErrorKind::NotSupported,
            bad: Some(bad.into()),
            detail,
        }
    }

    /// A reference to something that does not exist.
    pub fn not_found(path: &Path<'_>, bad: impl Into<Value>) -> FieldError {
        FieldError {
            path: path.to_string(),
            kind: ErrorKind::NotFound,
            bad: Some(bad.into()),
            detail: String::new(),
        }
    }

    /// A value of more than `max` bytes.
    pub fn too_long(path: &Path<'_>, max: usize) -> FieldError {
        let detail = format!("may not be more than {max} bytes");
        FieldError {
            path: path.to_string(),
            kind: ErrorKind::TooLong,
            bad: None,
            detail,
        }
    }

    /// A list of `actual` items of which at most `max` are allowed.
    pub fn too_many(path: &Path<'_>, actual: usize, max: usize) -> FieldError {
        let detail = format!("must have at most {max} items");
        FieldError {
            path: path.to_string(),
            kind: ErrorKind::TooMany,
            bad: Some(actual.into()),
            detail,
        }
    }

    /// Returns the message without the path, as in the `message` of a cause.
    pub fn body(&self) -> String {
        let mut text = self.kind.text().to_owned();
        let quotes_value = !matches!(
            self.kind,
            ErrorKind::Required | ErrorKind::Forbidden | ErrorKind::TooLong | ErrorKind::Internal
        );
        if let Some(bad) = self.bad.as_ref().filter(|_| quotes_value) {
            text.push_str(": ");
            match bad {
                Value::String(bad) => text.push_str(&quote(bad)),
                other => text.push_str(&other.to_string()),
            }
        }
        if !self.detail.is_empty() {
            text.push_str(": ");
            text.push_str(&self.detail);
        }
        text
    }
}

impl fmt::Display for FieldError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.path, self.body())
    }
}

/// Returns the text as Go's `%q` prints it.
pub fn quote(text: &str) -> String {
    use fmt::Write as _;
    let mut quoted = String::with_capacity(text.len() + 2);
    quoted.push('"');
    for c in text.chars() {
        match c {
            '"' => quoted.push_str("\\\""),
            '\\' => quoted.push_str("\\\\"),
            '\u{7}' => quoted.push_str("\\a"),
            '\u{8}' => quoted.push_str("\\b"),
            '\u{c}' => quoted.push_str("\\f"),
            '\n' => quoted.push_str("\\n"),
            '\r' => quoted.push_str("\\r"),
            '\t' => quoted.push_str("\\t"),
            '\u{b}' => quoted.push_str("\\v"),
            c if (c as u32) < 0x20 || c as u32 == 0x7f => {
                write!(quoted, "\\x{:02x}", c as u32).unwrap_or_default();
            }
            c => quoted.push(c),
        }
    }
    quoted.push('"');
    quoted
}

/// Joins all errors into one message, without repetition: one error as it is, several as `[a, b]`.
pub fn aggregate(errors: &[FieldError]) -> String {
    let mut messages: Vec<String> = Vec::with_capacity(errors.len());
    for error in errors {
        let message = error.to_string();
        if !messages.contains(&message) {
            messages.push(message);
        }
    }
    match messages.len() {
        1 => messages.remove(0),
        _ => format!("[{}]", messages.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn message_quotes_strings_and_prints_objects_compactly() {
        let path = Path::Root("spec");
        let text = FieldError::invalid(&path.child("x"), "a\"b\n", "no").to_string();
        assert_eq!(text, r#"spec.x: Invalid value: "a\"b\n": no"#);
        let text = FieldError::invalid(&path.child("selector"), json!({"b": 1, "a": {}}), "bad").to_string();
        assert_eq!(text, r#"spec.selector: Invalid value: {"a":{},"b":1}: bad"#);
        assert_eq!(
            FieldError::invalid(&path, -1, "low").to_string(),
            "spec: Invalid value: -1: low"
        );
    }

    #[test]
    fn required_forbidden_and_too_long_do_not_quote_a_value() {
        let path = Path::Root("metadata");
        assert_eq!(
            FieldError::required(&path.child("name"), "").to_string(),
            "metadata.name: Required value"
        );
        assert_eq!(
            FieldError::forbidden(&path.child("x"), "no").to_string(),
            "metadata.x: Forbidden: no"
        );
        let text = FieldError::too_long(&path.child("annotations"), 262144).to_string();
        assert_eq!(
            text,
            "metadata.annotations: Too long: may not be more than 262144 bytes"
        );
    }

    #[test]
    fn unsupported_value_lists_the_supported_ones() {
        let text = FieldError::not_supported(&Path::Root("type"), "X", &["B", "A"]).to_string();
        assert_eq!(
            text,
            r#"type: Unsupported value: "X": supported values: "B", "A""#
        );
    }

    #[test]
    fn paths_show_indexes_and_keys() {
        let spec = Path::Root("spec");
        let containers = spec.child("containers");
        let first = containers.index(0);
        let limits = first.child("limits");
        assert_eq!(limits.key("cpu").to_string(), "spec.containers[0].limits[cpu]");
    }

    #[test]
    fn several_errors_are_listed_once_each_in_brackets() {
        let a = FieldError::required(&Path::Root("a"), "");
        let b = FieldError::required(&Path::Root("b"), "");
        assert_eq!(aggregate(std::slice::from_ref(&a)), "a: Required value");
        assert_eq!(
            aggregate(&[a.clone(), b, a]),
            "[a: Required value, b: Required value]"
        );
    }
}

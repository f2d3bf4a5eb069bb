//! JSON bodies.

use serde::{Deserialize, de::DeserializeSeed};
use serde_json::Value;

use super::{
    DecodeError, resolve_type, unfit, unrecognized,
    value::{Seed, Shape, TOO_DEEP, Warnings},
};
use crate::types::Type;

/// Decodes an object. Returns it with its warnings and its type.
pub(super) fn object(
    body: &[u8],
    ty: Option<&'static Type>,
) -> Result<(Value, Vec<String>, &'static Type), DecodeError> {
    let guide = match ty {
        Some(ty) => ty,
        None => named_type(body)?,
    };
    let (value, warnings) = parse(body, Shape::Object(guide)).map_err(|cause| match cause {
        DecodeError::TooDeep => unfit(cause, &Value::Null, guide),
        DecodeError::Syntax(text) => {
            let cause = DecodeError::Syntax(format!("couldn't get version/kind; json parse error: {text}"));
            unrecognized(cause, ty, body)
        }
        other => other,
    })?;
    if !value.is_object() {
        return Err(not_an_object(&value, ty, body));
    }
    let settled = resolve_type(&value, Some(guide), body)?;
    Ok((value, warnings, settled))
}

fn not_an_object(value: &Value, ty: Option<&'static Type>, body: &[u8]) -> DecodeError {
    let found = match value {
        Value::Array(_) => "array",
        Value::String(_) => "string",
        Value::Number(_) => "number",
        Value::Bool(_) => "bool",
        Value::Null | Value::Object(_) => {
            return DecodeError::NoKind(String::from_utf8_lossy(body).into_owned());
        }
    };
    let kind = "struct { APIVersion string \"json:\\\"apiVersion,omitempty\\\"\"; Kind string \"json:\\\"kind,omitempty\\\"\" }";
    let text = format!(
        "couldn't get version/kind; json parse error: json: cannot unmarshal {found} into Go value of type {kind}"
    );
    unrecognized(DecodeError::Syntax(text), ty, body)
}

/// Returns the type that the body's kind names.
fn named_type(body: &[u8]) -> Result<&'static Type, DecodeError> {
    #[derive(Deserialize, Default)]
    #[serde(default, rename_all = "camelCase")]
    struct TypeMeta {
        api_version: Option<String>,
        kind: Option<String>,
    }
    let text = utf8(body)?;
    // If this fails (a duplicate kind, an array), parsing the whole body gives a better error.
    let value = match serde_json::from_str::<TypeMeta>(text) {
        Ok(meta) => {
            serde_json::json!({"apiVersion": meta.api_version.unwrap_or_default(), "kind": meta.kind.unwrap_or_default()})
        }
        Err(_) => match parse(body, Shape::Any)?.0 {
            value @ Value::Object(_) => value,
            value => return Err(not_an_object(&value, None, body)),
        },
    };
    resolve_type(&value, None, body)
}

/// Parses a value. Returns it with its warnings.
pub(super) fn parse(body: &[u8], shape: Shape) -> Result<(Value, Vec<String>), DecodeError> {
    let text = utf8(body)?;
    if text.trim().is_empty() {
        return Err(DecodeError::Syntax("unexpected end of JSON input".to_owned()));
    }
    let mut warnings = Warnings::default();
    let mut deserializer = serde_json::Deserializer::from_str(text);
    // MAX_DEPTH is the limit instead.
    deserializer.disable_recursion_limit();
    let value = Seed::new(shape, &mut warnings)
        .deserialize(&mut deserializer)
        .and_then(|value| deserializer.end().map(|()| value))
        .map_err(|error| explain(&error, text))?;
    Ok((value, warnings.0))
}

fn utf8(body: &[u8]) -> Result<&str, DecodeError> {
    std::str::from_utf8(body)
        .map_err(|error| DecodeError::Syntax(format!("invalid UTF-8 at byte {}", error.valid_up_to())))
}

/// Converts an error of serde_json to Go's words, as far as both find the same fault.
fn explain(error: &serde_json::Error, text: &str) -> DecodeError {
    let message = error.to_string();
    if message.contains(TOO_DEEP) {
        return DecodeError::TooDeep;
    }
    if error.is_eof() {
        return DecodeError::Syntax("unexpected end of JSON input".to_owned());
    }
    let complaint = message.split(" at line ").next().unwrap_or(&message);
    let place = match complaint {
        "expected value" | "expected ident" => "looking for beginning of value",
        "key must be a string" => "looking for beginning of object key string",
        "expected `:`" => "after object key",
        "expected `,` or `}`" => "after object key:value pair",
        "expected `,` or `]`" => "after array element",
        "trailing characters" => "after top-level value",
        "trailing comma" => "looking for beginning of value",
        "control character (\\u0000-\\u001F) found while parsing a string" => "in string literal",
        "invalid escape" => "in string escape code",
        "invalid number" => "in numeric literal",
        _ => return DecodeError::Syntax(message),
    };
    match character(text, error.line(), error.column()) {
        Some(found) => DecodeError::Syntax(format!("invalid character {} {place}", quote(found))),
        None => DecodeError::Syntax(message),
    }
}

/// Returns the character at a line and a column in bytes, both counted from 1.
fn character(text: &str, line: usize, column: usize) -> Option<char> {
    let line = text.split('\n').nth(line.checked_sub(1)?)?;
    line.get(column.checked_sub(1)?..)?.chars().next()
}

fn quote(found: char) -> String {
    match found {
        '\'' => r"'\''".to_owned(),
        '"' => "'\"'".to_owned(),
        found => format!("'{}'", found.escape_debug()),
    }
}

//! Checks the types of an object's values. The errors have the words of Go's decoder.

use base64::Engine as _;
use serde_json::{Map, Number, Value};

use crate::{
    decode::DecodeError,
    quantity,
    quantity::Quantity,
    time::{self, Precision},
    types::{FieldType, Type},
};

/// Checks that every known field has a value of its type. Unknown fields are ignored, and `null` is
/// valid for all types.
///
/// The first error is reported as in Go, e.g. `json: cannot unmarshal string into Go struct field
/// DaemonSetSpec.spec.minReadySeconds of type int32`.
pub fn check(ty: &'static Type, value: &Value) -> Result<(), DecodeError> {
    object(ty, value, None, "").map_err(DecodeError::Type)
}

/// The current position for errors: the innermost struct, and the names of the fields on the path
/// to it.
#[derive(Clone, Copy)]
struct Place<'a> {
    holder: &'static Type,
    field: &'static str,
    parent: Option<&'a Place<'a>>,
}

impl Place<'_> {
    fn path(&self) -> String {
        match self.parent {
            Some(parent) => format!("{}.{}", parent.path(), self.field),
            None => self.field.to_owned(),
        }
    }
}

fn object(ty: &'static Type, value: &Value, place: Option<&Place<'_>>, go: &str) -> Result<(), String> {
    match value {
        Value::Object(map) => members(ty, map, place),
        Value::Null => Ok(()),
        _ => Err(misfit(value, place, if go.is_empty() { ty.go } else { go })),
    }
}

fn members(ty: &'static Type, map: &Map<String, Value>, parent: Option<&Place<'_>>) -> Result<(), String> {
    let mut fields = ty.fields.iter();
    let mut candidate = fields.next();
    for (key, value) in map {
        // Both sides are sorted, so one pass is enough.
        while let Some(field) = candidate
            && field.json < key.as_str()
        {
            candidate = fields.next();
        }
        if let Some(field) = candidate
            && field.json == key
        {
            let place = Place {
                holder: ty,
                field: field.json,
                parent,
            };
            any(&field.ty, value, Some(&place), field.go)?;
        }
    }
    Ok(())
}

/// Checks one value. `go` is the field's type in Go if the table has it; its prefix (`[]`,
/// `map[…]`) is removed for elements.
fn any(ty: &FieldType, value: &Value, place: Option<&Place<'_>>, go: &str) -> Result<(), String> {
    let named = |default: &str| {
        if go.is_empty() {
            default.to_owned()
        } else {
            go.to_owned()
        }
    };
    match (ty, value) {
        (_, Value::Null) | (FieldType::Raw, _) => Ok(()),
        (FieldType::Object(ty), _) => object(ty, value, place, go),
        (FieldType::List(inner), Value::Array(items)) => {
            let go = go.strip_prefix("[]").unwrap_or_default();
            items.iter().try_for_each(|item| any(inner, item, place, go))
        }
        (FieldType::Map(inner), Value::Object(map)) => {
            let go = go
                .strip_prefix("map[")
                .and_then(|go| go.split_once(']'))
                .map_or("", |(_, go)| go);
            map.values().try_for_each(|value| any(inner, value, place, go))
        }
        (FieldType::StringList, Value::Array(items)) => items
            .iter()
            .try_for_each(|item| any(&FieldType::String, item, place, "")),
        (FieldType::String, Value::String(_))
        | (FieldType::Bool, Value::Bool(_))
        | (FieldType::FieldsV1, Value::Object(_)) => Ok(()),
        (FieldType::Int32, Value::Number(number))
            if number
                .as_i64()
                .is_some_and(|number| i32::try_from(number).is_ok()) =>
        {
            Ok(())
        }
        (FieldType::Int64, Value::Number(number)) if number.is_i64() => Ok(()),
        (FieldType::Int32 | FieldType::Int64, Value::Number(number)) => Err(misfit_text(
            &format!("number {number}"),
            place,
            &named(plain_name(ty)),
        )),
        (FieldType::Bytes, Value::String(text)) => bytes(text),
        (FieldType::Time, Value::String(text)) => time::parse(text, Precision::Seconds).map(drop),
        (FieldType::MicroTime, Value::String(text)) => time::parse(text, Precision::Micros).map(drop),
        (FieldType::Time | FieldType::MicroTime, _) => Err(format!(
            "json: cannot unmarshal {} into Go value of type string",
            describe(value)
        )),
        (FieldType::Quantity, Value::String(text)) => quantity::canonical(text.trim())
            .map(drop)
            .map_err(|error| error.to_string()),
        (FieldType::Quantity, _) => Quantity::from_value(value)
            .map(drop)
            .map_err(|error| error.to_string()),
        (FieldType::IntOrString, Value::String(_)) => Ok(()),
        (FieldType::IntOrString, Value::Number(number)) if fits_i32(number) => Ok(()),
        (FieldType::IntOrString, Value::Number(number)) => Err(format!(
            "json: cannot unmarshal number {number} into Go value of type int32"
        )),
        (FieldType::IntOrString, _) => Err(format!(
            "json: cannot unmarshal {} into Go value of type int32",
            describe(value)
        )),
        (FieldType::Map(_), _) if !go.is_empty() => Err(misfit(value, place, go)),
        _ => Err(misfit(value, place, &named(&go_name(ty)))),
    }
}

fn fits_i32(number: &Number) -> bool {
    number
        .as_i64()
        .is_some_and(|number| i32::try_from(number).is_ok())
}

/// Decodes base64. Like Go's decoder, it skips line breaks.
pub(crate) fn decode_base64(text: &str) -> Result<Vec<u8>, base64::DecodeError> {
    let engine = &base64::engine::general_purpose::STANDARD;
    if text.contains(['\r', '\n']) {
        engine.decode(text.replace(['\r', '\n'], ""))
    } else {
        engine.decode(text)
    }
}

fn bytes(text: &str) -> Result<(), String> {
    decode_base64(text).map(drop).map_err(|error| {
        let at = match error {
            base64::DecodeError::InvalidByte(at, _) | base64::DecodeError::InvalidLastSymbol(at, _) => at,
            _ => text.len(),
        };
        format!("illegal base64 data at input byte {at}")
    })
}

fn misfit(value: &Value, place: Option<&Place<'_>>, go: &str) -> String {
    misfit_text(describe(value), place, go)
}

fn misfit_text(found: &str, place: Option<&Place<'_>>, go: &str) -> String {
    match place {
        Some(place) => {
            let (holder, path) = (place.holder.short_name(), place.path());
            format!("json: cannot unmarshal {found} into Go struct field {holder}.{path} of type {go}")
        }
        None => format!("json: cannot unmarshal {found} into Go value of type {go}"),
    }
}

fn describe(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "bool",
        Value::Number(_) => "number",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    }
}

fn plain_name(ty: &FieldType) -> &'static str {
    match ty {
        FieldType::String => "string",
        FieldType::Bytes => "[]uint8",
        FieldType::Bool => "bool",
        FieldType::Int32 => "int32",
        FieldType::Int64 => "int64",
        FieldType::Time => "v1.Time",
        FieldType::MicroTime => "v1.MicroTime",
        FieldType::Quantity => "resource.Quantity",
        FieldType::IntOrString => "intstr.IntOrString",
        FieldType::Raw => "runtime.RawExtension",
        FieldType::FieldsV1 => "v1.FieldsV1",
        FieldType::StringList => "v1.ExtraValue",
        FieldType::Object(ty) => ty.go,
        FieldType::List(_) | FieldType::Map(_) => "",
    }
}

/// Returns the name of a type in Go's errors.
fn go_name(ty: &FieldType) -> String {
    match ty {
        FieldType::List(inner) => format!("[]{}", go_name(inner)),
        FieldType::Map(inner) => format!("map[string]{}", go_name(inner)),
        plain => plain_name(plain).to_owned(),
    }
}

#[cfg(test)]
mod tests;

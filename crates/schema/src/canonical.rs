//! The canonical form of an object: the result of decoding and encoding it in Go.
//!
//! Unset and zero values are left out or written as Go's types specify, and quantities and times
//! have one form. Equal objects then have equal bytes. This detects writes that change nothing, and
//! templates that equal a revision.

use serde_json::{Map, Value};

use crate::{
    check::decode_base64,
    quantity::{self, Quantity},
    time::{self, Precision},
    types::{Field, FieldType, Omit, Type},
};

/// Converts an object to its canonical form. Values of a wrong type (see [`crate::check`]) and
/// unknown fields stay as they are.
///
/// Lists, maps and pointers that Go always writes are `null` when unset (`selector` of a DaemonSet,
/// `rules` of a Role). Structs that Go always writes are objects (`status`, `resources` of a
/// container).
pub fn canonicalize(ty: &'static Type, value: &mut Value) {
    if let Value::Object(map) = value {
        members(ty, map);
    }
}

fn members(ty: &'static Type, map: &mut Map<String, Value>) {
    let mut fields = ty.fields.iter();
    let mut candidate = fields.next();
    let mut absent: Vec<&'static Field> = Vec::new();
    // Both sides are sorted, so one pass finds the present and the missing fields.
    map.retain(|key, value| {
        while let Some(field) = candidate
            && field.json < key.as_str()
        {
            if matches!(field.omit, Omit::Never | Omit::Null) {
                absent.push(field);
            }
            candidate = fields.next();
        }
        match candidate {
            Some(field) if field.json == key => {
                candidate = fields.next();
                keep(field, value)
            }
            _ => true,
        }
    });
    absent.extend(
        candidate
            .into_iter()
            .chain(fields)
            .filter(|field| matches!(field.omit, Omit::Never | Omit::Null)),
    );
    for field in absent {
        let value = match field.omit {
            Omit::Never => zero(&field.ty),
            _ => Value::Null,
        };
        map.insert(field.json.to_owned(), value);
    }
}

/// Makes a field's value canonical. Returns false when Go leaves the field out.
fn keep(field: &Field, value: &mut Value) -> bool {
    if value.is_null() {
        if field.omit == Omit::Never {
            *value = zero(&field.ty);
        }
        return matches!(field.omit, Omit::Never | Omit::Null);
    }
    if is_resource_list(field) {
        round_up(value);
    }
    any(&field.ty, value);
    field.omit != Omit::Empty || !is_zero(value)
}

fn any(ty: &FieldType, value: &mut Value) {
    match (ty, value) {
        (FieldType::Object(ty), Value::Object(map)) => members(ty, map),
        (FieldType::List(inner), Value::Array(items)) => {
            items.iter_mut().for_each(|item| element(inner, item))
        }
        (FieldType::Map(inner), Value::Object(map)) => map.values_mut().for_each(|item| element(inner, item)),
        (FieldType::StringList, Value::Array(items)) => items
            .iter_mut()
            .for_each(|item| element(&FieldType::String, item)),
        (FieldType::Quantity, value) => quantity(value),
        (FieldType::Time, value) => instant(value, Precision::Seconds),
        (FieldType::MicroTime, value) => instant(value, Precision::Micros),
        (FieldType::Bytes, Value::String(text)) => bytes(text),
        _ => {}
    }
}

/// Makes an element of a list or a map canonical. Go reads `null` as the zero value.
fn element(ty: &FieldType, value: &mut Value) {
    if value.is_null() {
        *value = zero(ty);
    } else {
        any(ty, value);
    }
}

fn quantity(value: &mut Value) {
    let written = match value {
        Value::String(text) => match quantity::canonical(text.trim()) {
            Ok(canonical) if canonical == text.as_str() => return,
            Ok(canonical) => canonical.into_owned(),
            Err(_) => return,
        },
        Value::Number(number) => match quantity::canonical(&number.to_string()) {
            Ok(canonical) => canonical.into_owned(),
            Err(_) => return,
        },
        _ => return,
    };
    *value = Value::String(written);
}

/// Kubernetes rounds the values of resource lists up to a multiple of 0.001.
fn is_resource_list(field: &Field) -> bool {
    field.go == "v1.ResourceList"
}

fn round_up(value: &mut Value) {
    let Value::Object(map) = value else { return };
    for value in map.values_mut() {
        if let Ok(quantity) = Quantity::from_value(value) {
            let rounded = quantity.round_up_to_milli();
            if rounded != quantity {
                *value = Value::String(rounded.to_string());
            }
        }
    }
}

fn instant(value: &mut Value, precision: Precision) {
    if let Value::String(text) = value
        && !time::is_canonical(text, precision)
        && let Ok(instant) = time::parse(text, precision)
    {
        *text = time::format(instant, precision);
    }
}

fn bytes(text: &mut String) {
    use base64::Engine as _;
    if text.contains(['\r', '\n'])
        && let Ok(bytes) = decode_base64(text)
    {
        *text = base64::engine::general_purpose::STANDARD.encode(bytes);
    }
}

/// Returns the value that Go writes for an unset field without `omitempty`.
fn zero(ty: &FieldType) -> Value {
    match ty {
        FieldType::String | FieldType::Bytes => Value::String(String::new()),
        FieldType::Bool => Value::Bool(false),
        FieldType::Int32 | FieldType::Int64 | FieldType::IntOrString => Value::from(0),
        FieldType::Quantity => Value::from("0"),
        FieldType::Object(ty) => {
            let mut map = Map::new();
            members(ty, &mut map);
            Value::Object(map)
        }
        FieldType::Time
        | FieldType::MicroTime
        | FieldType::Raw
        | FieldType::FieldsV1
        | FieldType::List(_)
        | FieldType::StringList
        | FieldType::Map(_) => Value::Null,
    }
}

fn is_zero(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Bool(value) => !value,
        Value::Number(number) => number.as_i64() == Some(0),
        Value::String(text) => text.is_empty(),
        Value::Array(items) => items.is_empty(),
        Value::Object(map) => map.is_empty(),
    }
}

/// Removes the fields that the type does not have. Returns their paths, e.g.
/// `spec.template.spec.containers[0].foo`.
pub fn prune_unknown(ty: &'static Type, value: &mut Value) -> Vec<String> {
    let mut unknown = Vec::new();
    if let Value::Object(map) = value {
        prune_members(ty, map, &Path::Root, &mut unknown);
    }
    unknown
}

/// A path that allocates only when it is formatted.
enum Path<'a> {
    Root,
    Key(&'a Path<'a>, &'a str),
    Index(&'a Path<'a>, usize),
}

impl Path<'_> {
    fn write(&self, out: &mut String) {
        match self {
            Self::Root => {}
            Self::Key(parent, key) => {
                parent.write(out);
                if !out.is_empty() {
                    out.push('.');
                }
                out.push_str(key);
            }
            Self::Index(parent, at) => {
                parent.write(out);
                out.push_str(&format!("[{at}]"));
            }
        }
    }
}

fn prune_members(
    ty: &'static Type,
    map: &mut Map<String, Value>,
    path: &Path<'_>,
    unknown: &mut Vec<String>,
) {
    let mut fields = ty.fields.iter().peekable();
    map.retain(|key, value| {
        while fields.next_if(|field| field.json < key.as_str()).is_some() {}
        let path = Path::Key(path, key);
        match fields.next_if(|field| field.json == key) {
            Some(field) => {
                prune(&field.ty, value, &path, unknown);
                true
            }
            None => {
                let mut text = String::new();
                path.write(&mut text);
                unknown.push(text);
                false
            }
        }
    });
}

fn prune(ty: &FieldType, value: &mut Value, path: &Path<'_>, unknown: &mut Vec<String>) {
    match (ty, value) {
        (FieldType::Object(ty), Value::Object(map)) => prune_members(ty, map, path, unknown),
        (
            FieldType::List(inner @ (FieldType::Object(_) | FieldType::List(_) | FieldType::Map(_))),
            Value::Array(items),
        ) => {
            for (at, item) in items.iter_mut().enumerate() {
                prune(inner, item, &Path::Index(path, at), unknown);
            }
        }
        (
            FieldType::Map(inner @ (FieldType::Object(_) | FieldType::List(_) | FieldType::Map(_))),
            Value::Object(map),
        ) => {
            for (key, item) in map {
                prune(inner, item, &Path::Key(path, key), unknown);
            }
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests;

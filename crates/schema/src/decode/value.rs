//! Deserializes any self-describing format to a `Value`. It uses the table to report unknown and
//! duplicate fields with their paths, and limits the nesting.

use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value};

use super::{MAX_DEPTH, MAX_STRICT_ERRORS};
use crate::types::{FieldType, Type};

/// The message of the error for a body that is nested too deeply.
pub(super) const TOO_DEEP: &str = "exceeded max depth";

/// The expected type of a value in the body.
#[derive(Clone, Copy)]
pub(super) enum Shape {
    /// Any value; duplicate fields are reported.
    Any,
    /// Any value, and nothing is reported: the content of raw values.
    Opaque,
    /// An object of a type.
    Object(&'static Type),
    /// The content of a field.
    Field(&'static FieldType),
}

impl Shape {
    fn of(ty: &'static FieldType) -> Self {
        match ty {
            FieldType::Object(ty) => Self::Object(ty),
            FieldType::List(_) | FieldType::Map(_) => Self::Field(ty),
            _ => Self::Opaque,
        }
    }

    fn element(self) -> Self {
        match self {
            Self::Any => Self::Any,
            Self::Field(FieldType::List(inner)) => Self::of(inner),
            _ => Self::Opaque,
        }
    }
}

/// Warnings: `unknown field "spec.foo"`, `duplicate field "spec.x"`.
#[derive(Default)]
pub(super) struct Warnings(pub(super) Vec<String>);

impl Warnings {
    fn add(&mut self, what: &str, path: &Path<'_>, key: &str) {
        if self.0.len() < MAX_STRICT_ERRORS {
            let mut text = format!("{what} field \"");
            let start = text.len();
            path.write(&mut text, start);
            if text.len() > start {
                text.push('.');
            }
            text.push_str(key);
            text.push('"');
            self.0.push(text);
        }
    }
}

/// The path from the root, which is formatted only for a warning.
#[derive(Clone, Copy)]
enum Path<'a> {
    Root,
    Key(&'a Path<'a>, &'a str),
    Index(&'a Path<'a>, usize),
}

impl Path<'_> {
    fn write(&self, out: &mut String, start: usize) {
        match self {
            Self::Root => {}
            Self::Key(parent, key) => {
                parent.write(out, start);
                if out.len() > start {
                    out.push('.');
                }
                out.push_str(key);
            }
            Self::Index(parent, at) => {
                parent.write(out, start);
                out.push_str(&format!("[{at}]"));
            }
        }
    }
}

/// Deserializes one value.
pub(super) struct Seed<'a> {
    shape: Shape,
    path: Path<'a>,
    depth: usize,
    warnings: &'a mut Warnings,
}

impl<'a> Seed<'a> {
    pub(super) fn new(shape: Shape, warnings: &'a mut Warnings) -> Self {
        Self {
            shape,
            path: Path::Root,
            depth: 0,
            warnings,
        }
    }
}

impl<'de> DeserializeSeed<'de> for Seed<'_> {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Seed<'_> {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Bool(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(Value::from(value))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(Value::from(value))
    }

    fn visit_f64<E: serde::de::Error>(self, value: f64) -> Result<Value, E> {
        Number::from_f64(value)
            .map(Value::Number)
            .ok_or_else(|| E::custom(format_args!("json: unsupported value: {value}")))
    }

    fn visit_i128<E: serde::de::Error>(self, value: i128) -> Result<Value, E> {
        self.visit_f64(value as f64)
    }

    fn visit_u128<E: serde::de::Error>(self, value: u128) -> Result<Value, E> {
        self.visit_f64(value as f64)
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(Value::String(value.to_owned()))
    }

    fn visit_string<E>(self, value: String) -> Result<Value, E> {
        Ok(Value::String(value))
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_none<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut access: A) -> Result<Value, A::Error> {
        let depth = deeper::<A::Error>(self.depth)?;
        let mut items = Vec::new();
        let shape = self.shape.element();
        loop {
            let path = Path::Index(&self.path, items.len());
            let seed = Seed {
                shape,
                path,
                depth,
                warnings: &mut *self.warnings,
            };
            match access.next_element_seed(seed)? {
                Some(item) => items.push(item),
                None => return Ok(Value::Array(items)),
            }
        }
    }

    fn visit_map<A: MapAccess<'de>>(self, mut access: A) -> Result<Value, A::Error> {
        let depth = deeper::<A::Error>(self.depth)?;
        let mut map = Map::new();
        while let Some(key) = access.next_key_seed(KeySeed)? {
            let shape = match self.shape {
                Shape::Any => Shape::Any,
                Shape::Opaque | Shape::Field(FieldType::List(_)) => Shape::Opaque,
                Shape::Field(FieldType::Map(inner)) => Shape::of(inner),
                Shape::Field(_) => Shape::Opaque,
                Shape::Object(ty) => match ty.field(&key) {
                    Some(field) => Shape::of(&field.ty),
                    None => {
                        self.warnings.add("unknown", &self.path, &key);
                        access.next_value::<IgnoredAny>()?;
                        continue;
                    }
                },
            };
            if map.contains_key(&key) && !matches!(self.shape, Shape::Opaque) {
                self.warnings.add("duplicate", &self.path, &key);
            }
            let path = Path::Key(&self.path, &key);
            let value = access.next_value_seed(Seed {
                shape,
                path,
                depth,
                warnings: &mut *self.warnings,
            })?;
            map.insert(key, value);
        }
        Ok(Value::Object(map))
    }
}

fn deeper<E: serde::de::Error>(depth: usize) -> Result<usize, E> {
    if depth < MAX_DEPTH {
        Ok(depth + 1)
    } else {
        Err(E::custom(TOO_DEEP))
    }
}

/// Deserializes a key. YAML keys that are not strings are converted to their text in JSON.
struct KeySeed;

impl<'de> DeserializeSeed<'de> for KeySeed {
    type Value = String;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<String, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl Visitor<'_> for KeySeed {
    type Value = String;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a string, a number or a boolean as key")
    }

    fn visit_str<E>(self, value: &str) -> Result<String, E> {
        Ok(value.to_owned())
    }

    fn visit_string<E>(self, value: String) -> Result<String, E> {
        Ok(value)
    }

    fn visit_bool<E>(self, value: bool) -> Result<String, E> {
        Ok(value.to_string())
    }

    fn visit_i64<E>(self, value: i64) -> Result<String, E> {
        Ok(value.to_string())
    }

    fn visit_u64<E>(self, value: u64) -> Result<String, E> {
        Ok(value.to_string())
    }

    fn visit_f64<E>(self, value: f64) -> Result<String, E> {
        Ok(value.to_string())
    }

    fn visit_unit<E: serde::de::Error>(self) -> Result<String, E> {
        Ok("null".to_owned())
    }
}

//! Protobuf bodies: Kubernetes' envelope, and a generic decoder that the table drives.
//!
//! As in Go's generated decoders, unknown field numbers are skipped, a repeated scalar is
//! overwritten, and a repeated message is merged. Any bytes give a value or an error.

use base64::Engine as _;
use jiff::Timestamp;
use serde_json::{Map, Value};

use super::{DecodeError, json, resolve_type, unfit, unrecognized, value::Shape};
use crate::{
    time::{self, Precision},
    types::{Field, FieldType, Type},
};

/// The prefix of every body: `k8s` and a zero.
const MAGIC: [u8; 4] = [0x6b, 0x38, 0x73, 0x00];

/// Errors have the words of Go's decoders.
type Result<T, E = String> = std::result::Result<T, E>;

/// Decodes an object. Returns it with its type, and without warnings because protobuf has no
/// unknown names.
pub(super) fn object(
    body: &[u8],
    ty: Option<&'static Type>,
) -> Result<(Value, Vec<String>, &'static Type), DecodeError> {
    let envelope = Envelope::read(body).map_err(|text| unrecognized(DecodeError::Syntax(text), ty, body))?;
    let head = serde_json::json!({"apiVersion": envelope.api_version, "kind": envelope.kind});
    let settled = resolve_type(&head, ty, body)?;
    let mut map = Map::new();
    message(settled, 0, envelope.raw, &mut map)
        .map_err(|text| unfit(DecodeError::Syntax(text), &head, settled))?;
    for (name, text) in [("apiVersion", envelope.api_version), ("kind", envelope.kind)] {
        if !text.is_empty() {
            map.insert(name.to_owned(), Value::String(text));
        }
    }
    Ok((Value::Object(map), Vec::new(), settled))
}

/// `runtime.Unknown`: the kind and the bytes of the object.
#[derive(Default)]
struct Envelope<'a> {
    api_version: String,
    kind: String,
    raw: &'a [u8],
}

impl<'a> Envelope<'a> {
    fn read(body: &'a [u8]) -> Result<Self> {
        if body.is_empty() {
            return Err("empty data".to_owned());
        }
        let Some(rest) = body.strip_prefix(&MAGIC) else {
            return Err(
                "provided data does not appear to be a protobuf message, expected prefix [107 56 115 0]"
                    .to_owned(),
            );
        };
        let mut envelope = Envelope::default();
        let mut reader = Reader(rest);
        while let Some((number, wire)) = reader.tag()? {
            match number {
                1 => envelope.type_meta(reader.bytes(wire, "TypeMeta")?)?,
                2 => envelope.raw = reader.bytes(wire, "Raw")?,
                _ => reader.skip(wire)?,
            }
        }
        Ok(envelope)
    }

    fn type_meta(&mut self, bytes: &[u8]) -> Result<()> {
        let mut reader = Reader(bytes);
        while let Some((number, wire)) = reader.tag()? {
            match number {
                1 => self.api_version = text(reader.bytes(wire, "APIVersion")?)?,
                2 => self.kind = text(reader.bytes(wire, "Kind")?)?,
                _ => reader.skip(wire)?,
            }
        }
        Ok(())
    }
}

/// Decodes the fields of a message into `map`. `within` is 0, or the number of a message that JSON
/// flattens into its parent. The recursion is bounded, because no type contains itself.
fn message(ty: &'static Type, within: u32, bytes: &[u8], map: &mut Map<String, Value>) -> Result<()> {
    let mut reader = Reader(bytes);
    while let Some((number, wire)) = reader.tag()? {
        match ty
            .fields
            .iter()
            .find(|field| field.number == number && field.within == within)
        {
            Some(field) => {
                let slot = map.entry(field.json).or_insert(Value::Null);
                take(field, &field.ty, wire, &mut reader, slot)?;
            }
            None if within == 0 && number != 0 && ty.fields.iter().any(|field| field.within == number) => {
                message(ty, number, reader.bytes(wire, ty.short_name())?, map)?;
            }
            None => reader.skip(wire)?,
        }
    }
    Ok(())
}

fn take(
    field: &Field,
    ty: &'static FieldType,
    wire: Wire,
    reader: &mut Reader<'_>,
    slot: &mut Value,
) -> Result<()> {
    match ty {
        FieldType::List(inner @ (FieldType::Int32 | FieldType::Int64 | FieldType::Bool))
            if wire == Wire::Bytes =>
        {
            let mut packed = Reader(reader.bytes(wire, field.json)?);
            while !packed.0.is_empty() {
                let item = scalar(inner, packed.varint()?);
                push(slot, item);
            }
        }
        FieldType::List(inner) => {
            let mut item = Value::Null;
            take(field, inner, wire, reader, &mut item)?;
            push(slot, item);
        }
        FieldType::Map(inner) => {
            let mut entry = Reader(reader.bytes(wire, field.json)?);
            let (mut key, mut value) = (String::new(), Value::Null);
            while let Some((number, wire)) = entry.tag()? {
                match number {
                    1 => key = text(entry.bytes(wire, field.json)?)?,
                    2 => take(field, inner, wire, &mut entry, &mut value)?,
                    _ => entry.skip(wire)?,
                }
            }
            if !slot.is_object() {
                *slot = Value::Object(Map::new());
            }
            if let Value::Object(map) = slot {
                map.insert(key, value);
            }
        }
        FieldType::Object(ty) => {
            let bytes = reader.bytes(wire, field.json)?;
            if !slot.is_object() {
                *slot = Value::Object(Map::new());
            }
            if let Value::Object(map) = slot {
                message(ty, 0, bytes, map)?;
            }
        }
        FieldType::Bool | FieldType::Int32 | FieldType::Int64 => {
            *slot = scalar(ty, reader.varint_of(wire, field.json)?)
        }
        FieldType::String => *slot = Value::String(text(reader.bytes(wire, field.json)?)?),
        FieldType::Bytes => {
            let bytes = reader.bytes(wire, field.json)?;
            *slot = Value::String(base64::engine::general_purpose::STANDARD.encode(bytes));
        }
        FieldType::Time => *slot = instant(reader.bytes(wire, field.json)?, Precision::Seconds)?,
        FieldType::MicroTime => *slot = instant(reader.bytes(wire, field.json)?, Precision::Micros)?,
        FieldType::Quantity => {
            let found = last_bytes(reader.bytes(wire, field.json)?, 1)?;
            *slot = found.map_or_else(|| Ok(Value::from("0")), |bytes| text(bytes).map(Value::String))?;
        }
        FieldType::Raw | FieldType::FieldsV1 => *slot = raw(reader.bytes(wire, field.json)?)?,
        FieldType::IntOrString => *slot = int_or_string(reader.bytes(wire, field.json)?)?,
        FieldType::StringList => {
            let mut items = Vec::new();
            let mut list = Reader(reader.bytes(wire, field.json)?);
            while let Some((number, wire)) = list.tag()? {
                match number {
                    1 => items.push(Value::String(text(list.bytes(wire, field.json)?)?)),
                    _ => list.skip(wire)?,
                }
            }
            *slot = Value::Array(items);
        }
    }
    Ok(())
}

fn push(slot: &mut Value, item: Value) {
    match slot {
        Value::Array(items) => items.push(item),
        _ => *slot = Value::Array(vec![item]),
    }
}

fn scalar(ty: &FieldType, number: u64) -> Value {
    match ty {
        FieldType::Bool => Value::Bool(number != 0),
        // Negative numbers are encoded as 64 bits in two's complement. Narrower types keep the low
        // bits, as in Go's decoders.
        FieldType::Int32 => Value::from(number as i32),
        _ => Value::from(number as i64),
    }
}

fn text(bytes: &[u8]) -> Result<String> {
    std::str::from_utf8(bytes)
        .map(str::to_owned)
        .map_err(|_| "proto: string field contains invalid UTF-8".to_owned())
}

/// Decodes a `Timestamp`: seconds and nanoseconds since 1970. If both are zero, the time is unset,
/// as in Go.
fn instant(bytes: &[u8], precision: Precision) -> Result<Value> {
    let (mut seconds, mut nanos) = (0, 0);
    let mut reader = Reader(bytes);
    if bytes.is_empty() {
        return Ok(Value::Null);
    }
    while let Some((number, wire)) = reader.tag()? {
        match number {
            1 => seconds = reader.varint_of(wire, "seconds")? as i64,
            2 => nanos = reader.varint_of(wire, "nanos")? as i32,
            _ => reader.skip(wire)?,
        }
    }
    // Start of the year 1 in seconds: the encoded form of Go's zero time.
    const UNSET: i64 = -62_135_596_800;
    if seconds == UNSET {
        return Ok(Value::Null);
    }
    let instant = Timestamp::new(seconds, nanos)
        .map_err(|_| format!("proto: time of {seconds} seconds is out of range"))?;
    Ok(Value::String(time::format(instant, precision)))
}

/// Returns the last occurrence of a bytes field.
fn last_bytes(bytes: &[u8], wanted: u32) -> Result<Option<&[u8]>> {
    let mut found = None;
    let mut reader = Reader(bytes);
    while let Some((number, wire)) = reader.tag()? {
        if number == wanted {
            found = Some(reader.bytes(wire, "Raw")?);
        } else {
            reader.skip(wire)?;
        }
    }
    Ok(found)
}

/// Decodes JSON inside protobuf.
fn raw(bytes: &[u8]) -> Result<Value> {
    match last_bytes(bytes, 1)? {
        None | Some([]) => Ok(Value::Null),
        Some(bytes) => json::parse(bytes, Shape::Opaque)
            .map(|(value, _)| value)
            .map_err(|error| error.to_string()),
    }
}

fn int_or_string(bytes: &[u8]) -> Result<Value> {
    let (mut is_string, mut number_value, mut string_value) = (false, 0i32, String::new());
    let mut reader = Reader(bytes);
    while let Some((number, wire)) = reader.tag()? {
        match number {
            1 => is_string = reader.varint_of(wire, "Type")? != 0,
            2 => number_value = reader.varint_of(wire, "IntVal")? as i32,
            3 => string_value = text(reader.bytes(wire, "StrVal")?)?,
            _ => reader.skip(wire)?,
        }
    }
    Ok(if is_string {
        Value::String(string_value)
    } else {
        Value::from(number_value)
    })
}

/// The wire types of proto2, without groups, which Kubernetes does not use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Wire {
    Varint = 0,
    Fixed64 = 1,
    Bytes = 2,
    Fixed32 = 5,
}

struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    /// Returns the number and the wire type of the next field; `None` at the end.
    fn tag(&mut self) -> Result<Option<(u32, Wire)>> {
        if self.0.is_empty() {
            return Ok(None);
        }
        let tag = self.varint()?;
        let wire = match tag & 7 {
            0 => Wire::Varint,
            1 => Wire::Fixed64,
            2 => Wire::Bytes,
            5 => Wire::Fixed32,
            other => return Err(format!("proto: illegal wireType {other}")),
        };
        match u32::try_from(tag >> 3) {
            Ok(number) if number > 0 => Ok(Some((number, wire))),
            _ => Err(format!("proto: illegal tag {} (wire type {})", tag >> 3, tag & 7)),
        }
    }

    fn varint(&mut self) -> Result<u64> {
        let mut number = 0u64;
        for shift in (0..64).step_by(7) {
            let (byte, rest) = self.0.split_first().ok_or("unexpected EOF")?;
            self.0 = rest;
            number |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Ok(number);
            }
        }
        Err("proto: integer overflow".to_owned())
    }

    fn varint_of(&mut self, wire: Wire, field: &str) -> Result<u64> {
        match wire {
            Wire::Varint => self.varint(),
            _ => Err(wrong(wire, field)),
        }
    }

    fn bytes(&mut self, wire: Wire, field: &str) -> Result<&'a [u8]> {
        match wire {
            Wire::Bytes => {
                let length = self.varint()?;
                self.cut(length)
            }
            _ => Err(wrong(wire, field)),
        }
    }

    fn cut(&mut self, length: u64) -> Result<&'a [u8]> {
        let (head, rest) = usize::try_from(length)
            .ok()
            .and_then(|length| self.0.split_at_checked(length))
            .ok_or("unexpected EOF")?;
        self.0 = rest;
        Ok(head)
    }

    fn skip(&mut self, wire: Wire) -> Result<()> {
        match wire {
            Wire::Varint => self.varint().map(drop),
            Wire::Fixed64 => self.cut(8).map(drop),
            Wire::Fixed32 => self.cut(4).map(drop),
            Wire::Bytes => self.bytes(wire, "").map(drop),
        }
    }
}

fn wrong(wire: Wire, field: &str) -> String {
    let mut letters = field.chars();
    let name: String = letters
        .next()
        .into_iter()
        .flat_map(char::to_uppercase)
        .chain(letters)
        .collect();
    format!("proto: wrong wireType = {} for field {name}", wire as u8)
}

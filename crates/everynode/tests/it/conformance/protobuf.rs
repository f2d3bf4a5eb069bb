//! Objects as typed Go clients send them.

use anyhow::{Context, Result, bail};
use base64::Engine as _;
use jiff::Timestamp;
use schema::{Field, FieldType, Omit, Type};
use serde_json::Value;

/// An object in Kubernetes' envelope. Scalars that are not set travel with their zero values, as Go's encoder writes them.
pub(super) fn encode(object: &Value) -> Result<Vec<u8>> {
    let (api_version, kind) = (text(&object["apiVersion"])?, text(&object["kind"])?);
    let (group, version) = schema::split_api_version(api_version);
    let ty =
        schema::lookup(group, version, kind).with_context(|| format!("{api_version} {kind} is no kind"))?;
    let mut head = Vec::new();
    bytes(&mut head, 1, api_version.as_bytes());
    bytes(&mut head, 2, kind.as_bytes());
    let mut body = b"k8s\0".to_vec();
    bytes(&mut body, 1, &head);
    bytes(&mut body, 2, &message(ty, 0, object)?);
    // contentEncoding and contentType, empty.
    bytes(&mut body, 3, b"");
    bytes(&mut body, 4, b"");
    Ok(body)
}

/// The fields of `object` that stand in the message itself (`within` 0) or in one that JSON flattens into it.
fn message(ty: &Type, within: u32, object: &Value) -> Result<Vec<u8>> {
    let mut out = Vec::new();
    for (name, _) in object.as_object().into_iter().flatten() {
        if ty.field(name).is_none() {
            bail!("{} has no field {name}", ty.name);
        }
    }
    let mut inline: Vec<u32> = Vec::new();
    for field in ty.fields.iter().filter(|field| field.number != 0) {
        if field.within != within {
            let set = !object[field.json].is_null();
            if within == 0 && set && !inline.contains(&field.within) {
                inline.push(field.within);
                bytes(&mut out, field.within, &message(ty, field.within, object)?);
            }
            continue;
        }
        value(&mut out, field, &field.ty, &object[field.json])
            .with_context(|| format!("{}.{}", ty.name, field.json))?;
    }
    Ok(out)
}

fn value(out: &mut Vec<u8>, field: &Field, ty: &FieldType, given: &Value) -> Result<()> {
    let number = field.number;
    if given.is_null() {
        match (ty, field.omit) {
            (FieldType::String, Omit::Never | Omit::Empty) => bytes(out, number, b""),
            (FieldType::Bool | FieldType::Int32 | FieldType::Int64, Omit::Never | Omit::Empty) => {
                varint_field(out, number, 0);
            }
            (FieldType::Object(ty), Omit::Never) => bytes(out, number, &message(ty, 0, &Value::Null)?),
            _ => {}
        }
        return Ok(());
    }
    match ty {
        FieldType::String => bytes(out, number, text(given)?.as_bytes()),
        FieldType::Bytes => {
            let decoded = base64::engine::general_purpose::STANDARD.decode(text(given)?)?;
            bytes(out, number, &decoded);
        }
        FieldType::Bool => varint_field(out, number, u64::from(given.as_bool().context("no boolean")?)),
        FieldType::Int32 | FieldType::Int64 => {
            varint_field(out, number, given.as_i64().context("no integer")?.cast_unsigned());
        }
        FieldType::Time | FieldType::MicroTime => {
            let instant: Timestamp = text(given)?.parse()?;
            let mut time = Vec::new();
            varint_field(&mut time, 1, instant.as_second().cast_unsigned());
            varint_field(
                &mut time,
                2,
                i64::from(instant.subsec_nanosecond()).cast_unsigned(),
            );
            bytes(out, number, &time);
        }
        FieldType::Quantity => {
            let mut quantity = Vec::new();
            bytes(&mut quantity, 1, text(given)?.as_bytes());
            bytes(out, number, &quantity);
        }
        FieldType::IntOrString => {
            let mut either = Vec::new();
            varint_field(&mut either, 1, u64::from(given.is_string()));
            varint_field(&mut either, 2, given.as_i64().unwrap_or(0).cast_unsigned());
            bytes(&mut either, 3, given.as_str().unwrap_or_default().as_bytes());
            bytes(out, number, &either);
        }
        FieldType::Raw | FieldType::FieldsV1 => {
            let mut raw = Vec::new();
            bytes(&mut raw, 1, &serde_json::to_vec(given)?);
            bytes(out, number, &raw);
        }
        FieldType::Object(ty) => bytes(out, number, &message(ty, 0, given)?),
        FieldType::List(item) => {
            for element in given.as_array().context("no list")? {
                value(out, field, item, element)?;
            }
        }
        FieldType::StringList => {
            let mut list = Vec::new();
            for element in given.as_array().context("no list")? {
                bytes(&mut list, 1, text(element)?.as_bytes());
            }
            bytes(out, number, &list);
        }
        FieldType::Map(item) => {
            for (key, element) in given.as_object().context("no object")? {
                let mut entry = Vec::new();
                bytes(&mut entry, 1, key.as_bytes());
                let second = Field { number: 2, ..*field };
                value(&mut entry, &second, item, element)?;
                bytes(out, number, &entry);
            }
        }
    }
    Ok(())
}

fn text(value: &Value) -> Result<&str> {
    value.as_str().with_context(|| format!("no string but {value}"))
}

fn bytes(out: &mut Vec<u8>, number: u32, content: &[u8]) {
    varint(out, u64::from(number) << 3 | 2);
    varint(out, content.len() as u64);
    out.extend_from_slice(content);
}

fn varint_field(out: &mut Vec<u8>, number: u32, value: u64) {
    varint(out, u64::from(number) << 3);
    varint(out, value);
}

fn varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push((value & 0x7f) as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

#[test]
fn a_small_object_is_encoded_as_go_encodes_it() -> Result<()> {
    let encoded = encode(&serde_json::json!({
        "apiVersion": "v1", "kind": "DeleteOptions", "gracePeriodSeconds": 1, "propagationPolicy": "Background",
    }))?;
    let mut expected =
        b"k8s\0\x0a\x13\x0a\x02v1\x12\x0dDeleteOptions\x12\x0e\x08\x01\x22\x0aBackground".to_vec();
    expected.extend_from_slice(b"\x1a\x00\x22\x00");
    assert_eq!(encoded, expected);
    Ok(())
}

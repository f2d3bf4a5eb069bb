//! OpenAPI version 2 as protobuf: the parts of gnostic's `openapi.v2.Document` that our documents
//! use.
//!
//! Vendor extensions are YAML text; JSON is valid YAML.

use serde_json::{Map, Value};

/// Encodes a document of [`super::v2_json`].
pub(super) fn encode(document: &Value) -> Vec<u8> {
    let mut out = Message::default();
    out.text(1, &document["swagger"]);
    out.message(2, |info| {
        info.text(1, &document["info"]["title"]);
        info.text(2, &document["info"]["version"]);
    });
    out.message(8, |paths| {
        for (path, item) in entries(&document["paths"]) {
            paths.named(2, path, |value| path_item(value, item));
        }
    });
    out.message(9, |definitions| {
        for (name, definition) in entries(&document["definitions"]) {
            definitions.named(1, name, |value| schema(value, definition));
        }
    });
    out.0
}

fn entries(value: &Value) -> impl Iterator<Item = (&String, &Value)> {
    value.as_object().into_iter().flatten()
}

fn items(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().into_iter().flatten()
}

fn path_item(out: &mut Message, item: &Value) {
    for (name, number) in [("get", 2), ("put", 3), ("post", 4), ("delete", 5), ("patch", 8)] {
        if let Some(content) = item.get(name) {
            out.message(number, |out| operation(out, content));
        }
    }
    for content in items(&item["parameters"]) {
        out.message(9, |out| parameter(out, content));
    }
}

fn operation(out: &mut Message, operation: &Value) {
    out.text(5, &operation["operationId"]);
    for content in items(&operation["parameters"]) {
        out.message(8, |out| parameter(out, content));
    }
    out.message(9, |responses| {
        for (code, response) in entries(&operation["responses"]) {
            // NamedResponseValue{value: ResponseValue{response: Response}}
            responses.named(1, code, |value| {
                value.message(1, |out| out.text(1, &response["description"]))
            });
        }
    });
    extensions(out, 13, operation);
}

/// ParametersItem{parameter: Parameter{non_body_parameter: NonBodyParameter{query or path}}}
fn parameter(out: &mut Message, content: &Value) {
    let path = content["in"] == "path";
    out.message(1, |out| {
        out.message(2, |out| {
            out.message(if path { 4 } else { 3 }, |out| {
                if content["required"] == true {
                    out.boolean(1);
                }
                out.text(2, &content["in"]);
                out.text(4, &content["name"]);
                out.text(if path { 5 } else { 6 }, &content["type"]);
            });
        });
    });
}

fn schema(out: &mut Message, content: &Value) {
    out.text(1, &content["$ref"]);
    out.text(2, &content["format"]);
    for name in items(&content["required"]) {
        out.text(19, name);
    }
    if let Some(inner) = content.get("additionalProperties") {
        out.message(21, |out| out.message(1, |out| schema(out, inner)));
    }
    if content.get("type").is_some() {
        out.message(22, |out| out.text(1, &content["type"]));
    }
    if let Some(inner) = content.get("items") {
        out.message(23, |out| out.message(1, |out| schema(out, inner)));
    }
    if content.get("properties").is_some() {
        out.message(25, |out| {
            for (name, inner) in entries(&content["properties"]) {
                out.named(1, name, |value| schema(value, inner));
            }
        });
    }
    extensions(out, 31, content);
}

fn extensions(out: &mut Message, number: u32, content: &Value) {
    let empty = Map::new();
    for (name, value) in content.as_object().unwrap_or(&empty) {
        if name.starts_with("x-") {
            // NamedAny{name, value: Any{yaml}}
            out.named(number, name, |any| any.bytes(2, format!("{value}\n").as_bytes()));
        }
    }
}

/// A protobuf message that is being written.
#[derive(Default)]
struct Message(Vec<u8>);

impl Message {
    fn varint(&mut self, mut number: u64) {
        while number >= 0x80 {
            self.0.push(number as u8 | 0x80);
            number >>= 7;
        }
        self.0.push(number as u8);
    }

    fn bytes(&mut self, number: u32, bytes: &[u8]) {
        self.varint(u64::from(number) << 3 | 2);
        self.varint(bytes.len() as u64);
        self.0.extend_from_slice(bytes);
    }

    /// Writes a string; nothing if the value is not one.
    fn text(&mut self, number: u32, value: &Value) {
        if let Value::String(text) = value {
            self.bytes(number, text.as_bytes());
        }
    }

    /// Writes the boolean `true`; `false` is left out.
    fn boolean(&mut self, number: u32) {
        self.varint(u64::from(number) << 3);
        self.varint(1);
    }

    fn message(&mut self, number: u32, fill: impl FnOnce(&mut Message)) {
        let mut inner = Message::default();
        fill(&mut inner);
        self.bytes(number, &inner.0);
    }

    /// Writes a pair of name and value, which is gnostic's form of maps.
    fn named(&mut self, number: u32, name: &str, fill: impl FnOnce(&mut Message)) {
        self.message(number, |pair| {
            pair.bytes(1, name.as_bytes());
            pair.message(2, fill);
        });
    }
}

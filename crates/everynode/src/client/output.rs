//! The `-o` formats of an object (YAML, JSON, name) and the server's table.

use anyhow::{Context, Result};
use clap::ValueEnum;
use serde_json::Value;

use super::resources::Resource;

/// What `-o` asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Output {
    /// Complete objects as YAML
    Yaml,
    /// Complete objects as JSON
    Json,
    /// `resource/name`, one per line
    Name,
    /// Table with additional columns
    Wide,
}

/// `-o` of verbs whose answer is data of their own, not an object of the server.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Data {
    /// As YAML
    Yaml,
    /// As JSON
    Json,
}

impl Data {
    /// Returns `data` in this format, with a newline at the end.
    pub(crate) fn text(self, data: &Value) -> Result<String> {
        match self {
            Data::Yaml => yaml(data),
            Data::Json => json(data),
        }
    }
}

/// Returns an object in this format, with a newline at the end.
pub(crate) fn object(output: Output, resource: &Resource, object: &Value) -> Result<String> {
    match output {
        Output::Name => {
            let name = object["metadata"]["name"].as_str().unwrap_or_default();
            Ok(format!("{}/{name}\n", resource.display()))
        }
        Output::Yaml => yaml(object),
        Output::Json | Output::Wide => json(object),
    }
}

/// Formats JSON with four spaces of indentation, like kubectl.
pub(crate) fn json(object: &Value) -> Result<String> {
    let mut text = Vec::new();
    let formatter = serde_json::ser::PrettyFormatter::with_indent(b"    ");
    let mut serializer = serde_json::Serializer::with_formatter(&mut text, formatter);
    serde::Serialize::serialize(object, &mut serializer).context("write JSON")?;
    text.push(b'\n');
    String::from_utf8(text).context("write JSON")
}

/// Formats YAML with sorted keys.
pub(crate) fn yaml(object: &Value) -> Result<String> {
    let mut text = serde_saphyr::to_string(object).context("write YAML")?;
    if !text.ends_with('\n') {
        text.push('\n');
    }
    Ok(text)
}

/// Returns several objects as the `List` that kubectl prints.
pub(crate) fn list(items: Vec<Value>) -> Value {
    serde_json::json!({"apiVersion": "v1", "items": items, "kind": "List", "metadata": {"resourceVersion": ""}})
}

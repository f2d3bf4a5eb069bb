//! YAML bodies in Kubernetes' dialect: YAML 1.1 (`yes` and `on` are booleans, `0644` is octal),
//! converted to JSON.

use serde::de::DeserializeSeed;
use serde_json::Value;
use serde_saphyr::{
    Options,
    options::{DuplicateKeyPolicy, MergeKeyPolicy},
};

use super::{
    DecodeError, resolve_type, unrecognized,
    value::{Seed, Shape, TOO_DEEP, Warnings},
};
use crate::{prune_unknown, types::Type};

/// Most levels of nested collections: more than manifests have, and few enough for the recursive
/// parser.
const MAX_YAML_DEPTH: usize = 100;

/// The parser needs up to 25 KiB of stack for each level in unoptimized builds, so it runs on a
/// thread with its own stack. YAML bodies are rare, and a thread costs about 20 µs.
const STACK_BYTES: usize = 8 << 20;

/// Most nodes of a document with all aliases expanded.
const MAX_NODES: usize = 500_000;

/// Most nodes that aliases add. It stops alias bombs, in which a few bytes stand for many nodes.
/// Manifests that share a map by an alias use a few hundred.
const MAX_ALIAS_NODES: usize = 20_000;

/// Decodes an object. Returns it with its warnings and its type.
pub(super) fn object(
    body: &[u8],
    ty: Option<&'static Type>,
) -> Result<(Value, Vec<String>, &'static Type), DecodeError> {
    let (mut value, mut warnings) = parse(body, Shape::Any).map_err(|cause| unrecognized(cause, ty, body))?;
    if !value.is_object() {
        return Err(unrecognized(DecodeError::NoKind(value.to_string()), ty, body));
    }
    let settled = resolve_type(&value, ty, body)?;
    warnings.extend(
        prune_unknown(settled, &mut value)
            .into_iter()
            .map(|path| format!("unknown field {path:?}")),
    );
    warnings.truncate(super::MAX_STRICT_ERRORS);
    Ok((value, warnings, settled))
}

/// Parses a value. Returns it with its warnings.
pub(super) fn parse(body: &[u8], shape: Shape) -> Result<(Value, Vec<String>), DecodeError> {
    let text = std::str::from_utf8(body).map_err(|_| explain("invalid UTF-8"))?;
    std::thread::scope(|scope| {
        let reader = std::thread::Builder::new()
            .name("yaml".to_owned())
            .stack_size(STACK_BYTES);
        let reading = reader.spawn_scoped(scope, || read(text, shape));
        let reading = reading.map_err(|error| explain(&format!("no thread to read in: {error}")))?;
        reading
            .join()
            .unwrap_or_else(|_| Err(explain("the reader failed")))
    })
}

fn read(text: &str, shape: Shape) -> Result<(Value, Vec<String>), DecodeError> {
    let mut warnings = Warnings::default();
    let value = serde_saphyr::with_deserializer_from_str_with_options(text, options(), |deserializer| {
        Seed::new(shape, &mut warnings).deserialize(deserializer)
    })
    .map_err(|error| explain(&error.to_string()))?;
    Ok((value, warnings.0))
}

fn options() -> Options {
    serde_saphyr::options! {
        budget: serde_saphyr::budget! {
            max_depth: MAX_YAML_DEPTH,
            max_nodes: MAX_NODES,
            max_documents: 1,
        },
        duplicate_keys: DuplicateKeyPolicy::PassThrough,
        merge_keys: MergeKeyPolicy::Merge,
        alias_limits: serde_saphyr::alias_limits! { max_total_replayed_events: MAX_ALIAS_NODES },
        legacy_octal_numbers: true,
        strict_booleans: false,
        with_snippet: false,
    }
}

fn explain(message: &str) -> DecodeError {
    if message.contains(TOO_DEEP) {
        DecodeError::TooDeep
    } else {
        DecodeError::Syntax(format!("error converting YAML to JSON: yaml: {message}"))
    }
}

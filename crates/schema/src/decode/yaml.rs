//! YAML bodies, read as Kubernetes reads them: YAML 1.1 (`yes` and `on` are booleans, `0644` is octal), made into JSON.

use serde::de::DeserializeSeed;
use serde_json::Value;
use serde_saphyr::{
    Options,
    options::{DuplicateKeyPolicy, MergeKeyPolicy},
};

use super::{
    DecodeError, settle, unrecognized,
    value::{Remarks, Seed, Shape, TOO_DEEP},
};
use crate::{prune_unknown, types::Type};

/// The most nested collections; deeper than any manifest, and shallow enough for the reader's recursion.
const MAX_YAML_DEPTH: usize = 100;

/// The reader's frames are large, unoptimised ones most of all (25 KiB a level): it gets a stack of its own. YAML bodies are rare, and
/// a thread costs them some 20 µs.
const STACK_BYTES: usize = 8 << 20;

/// The most nodes of a document, aliases replayed: a bomb of aliases ends here.
const MAX_NODES: usize = 500_000;

/// An object, what was noticed in it, and its type.
pub(super) fn object(
    body: &[u8],
    ty: Option<&'static Type>,
) -> Result<(Value, Vec<String>, &'static Type), DecodeError> {
    let (mut value, mut remarks) = parse(body, Shape::Any).map_err(|cause| unrecognized(cause, ty, body))?;
    if !value.is_object() {
        return Err(unrecognized(DecodeError::NoKind(value.to_string()), ty, body));
    }
    let settled = settle(&value, ty, body)?;
    remarks.extend(
        prune_unknown(settled, &mut value)
            .into_iter()
            .map(|path| format!("unknown field {path:?}")),
    );
    remarks.truncate(super::MAX_STRICT_ERRORS);
    Ok((value, remarks, settled))
}

/// A value and what was noticed in it.
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
    let mut remarks = Remarks::default();
    let value = serde_saphyr::with_deserializer_from_str_with_options(text, options(), |deserializer| {
        Seed::new(shape, &mut remarks).deserialize(deserializer)
    })
    .map_err(|error| explain(&error.to_string()))?;
    Ok((value, remarks.0))
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
        alias_limits: serde_saphyr::alias_limits! { max_total_replayed_events: MAX_NODES },
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

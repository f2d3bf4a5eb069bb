//! JSON patch, with limits: a short patch can cause much work (copies of copies) or a document that
//! is nested too deeply.

use json_patch::{PatchErrorKind, PatchOperation};
use serde_json::Value;

use super::{MAX_JSON_PATCH_OPERATIONS, PatchError};
use crate::decode::{self, Format, MAX_DEPTH};

/// Most bytes that all `copy` operations together may add: the limit of a request body, as in
/// Kubernetes.
const MAX_COPIED_BYTES: usize = 3 * 1024 * 1024;

/// Most times that a patch may come near the limit of nesting. Each time costs a pass over the
/// document.
const MAX_DEPTH_WALKS: usize = 64;

pub(super) fn apply(document: &Value, patch: &[u8]) -> Result<Value, PatchError> {
    let malformed =
        |error: &dyn std::fmt::Display| PatchError::Malformed(format!("error decoding patch: {error}"));
    let operations = decode::untyped(patch, Format::Json).map_err(|error| malformed(&error))?;
    if let Value::Array(items) = &operations
        && items.len() > MAX_JSON_PATCH_OPERATIONS
    {
        return Err(PatchError::TooManyOperations { got: items.len() });
    }
    let operations: Vec<PatchOperation> =
        serde_json::from_value(operations).map_err(|error| malformed(&error))?;
    let mut state = State {
        document: document.clone(),
        copied: 0,
        deepest: depth(document),
        walks: 0,
    };
    for operation in &operations {
        state.step(operation)?;
    }
    Ok(state.document)
}

struct State {
    document: Value,
    /// Bytes that `copy` operations have added.
    copied: usize,
    /// Upper limit of the document's depth.
    deepest: usize,
    walks: usize,
}

impl State {
    fn step(&mut self, operation: &PatchOperation) -> Result<(), PatchError> {
        let tokens = operation.path().tokens().count();
        match operation {
            PatchOperation::Copy(copy) => {
                if let Ok(source) = copy.from.resolve(&self.document) {
                    self.copied += size(source);
                }
                if self.copied > MAX_COPIED_BYTES {
                    let text = format!(
                        "Unable to copy, the accumulated size increase of copy is {}, exceeding the limit {MAX_COPIED_BYTES}",
                        self.copied
                    );
                    return Err(PatchError::Unprocessable(text));
                }
                self.deepen(tokens)?;
            }
            PatchOperation::Move(_) => self.deepen(tokens)?,
            PatchOperation::Add(add) => self.reach(tokens + depth(&add.value))?,
            PatchOperation::Replace(replace) => self.reach(tokens + depth(&replace.value))?,
            PatchOperation::Remove(_) | PatchOperation::Test(_) => {}
        }
        json_patch::patch_unsafe(&mut self.document, std::slice::from_ref(operation))
            .map_err(|error| describe(operation, &error.kind))
    }

    /// Records that a value of this depth, counted from the root, will be inserted.
    fn reach(&mut self, depth: usize) -> Result<(), PatchError> {
        self.deepest = self.deepest.max(depth);
        if self.deepest > MAX_DEPTH {
            Err(too_deep())
        } else {
            Ok(())
        }
    }

    /// Records that a part of the document will be moved below `tokens` more levels.
    fn deepen(&mut self, tokens: usize) -> Result<(), PatchError> {
        if self.deepest + tokens > MAX_DEPTH {
            self.walks += 1;
            if self.walks > MAX_DEPTH_WALKS {
                return Err(too_deep());
            }
            self.deepest = depth(&self.document);
        }
        self.reach(self.deepest + tokens)
    }
}

fn too_deep() -> PatchError {
    PatchError::Unprocessable(format!(
        "the patched object would be nested deeper than {MAX_DEPTH} levels"
    ))
}

fn describe(operation: &PatchOperation, kind: &PatchErrorKind) -> PatchError {
    let path = operation.path().as_str();
    let (name, operation_text) = match operation {
        PatchOperation::Add(_) => ("add", "add operation does not apply"),
        PatchOperation::Remove(_) => ("remove", "remove operation does not apply"),
        PatchOperation::Replace(_) => ("replace", "replace operation does not apply"),
        PatchOperation::Move(_) => ("move", "error in move"),
        PatchOperation::Copy(_) => ("copy", "error in copy"),
        PatchOperation::Test(_) => ("test", "testing value"),
    };
    PatchError::Unprocessable(match kind {
        PatchErrorKind::TestFailed => format!("testing value {path} failed: test failed"),
        _ if name == "test" => format!("error in test for path: '{path}': missing value"),
        PatchErrorKind::InvalidFromPointer => {
            format!("{operation_text} for path '{path}': missing source value: missing value")
        }
        PatchErrorKind::InvalidPointer if name == "remove" => {
            format!("{operation_text}: doc is missing key: {path}: missing value")
        }
        _ => format!("{operation_text}: doc is missing path: \"{path}\": missing value"),
    })
}

/// Returns the approximate size of the value as JSON, in bytes.
fn size(value: &Value) -> usize {
    match value {
        Value::Null | Value::Bool(_) => 4,
        Value::Number(_) => 8,
        Value::String(text) => text.len() + 2,
        Value::Array(items) => 2 + items.iter().map(|item| size(item) + 1).sum::<usize>(),
        Value::Object(map) => {
            2 + map
                .iter()
                .map(|(key, value)| key.len() + 4 + size(value))
                .sum::<usize>()
        }
    }
}

/// Returns the number of nested lists and objects. Recursive, so it is called only for documents
/// within [`MAX_DEPTH`].
fn depth(value: &Value) -> usize {
    match value {
        Value::Array(items) => 1 + items.iter().map(depth).max().unwrap_or(0),
        Value::Object(map) => 1 + map.values().map(depth).max().unwrap_or(0),
        _ => 0,
    }
}

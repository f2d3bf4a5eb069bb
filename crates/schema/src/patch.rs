//! The three types of patches of the Kubernetes API: JSON patch, merge patch and strategic merge
//! patch.
//!
//! All are pure functions from a document and a patch to a new document. The result is not checked
//! and not canonical: call [`crate::check`], [`crate::prune_unknown`] and [`crate::canonicalize`]
//! on it.

mod json;
mod strategic;
mod three_way;

use serde_json::Value;

use crate::types::Type;

/// Most operations in a JSON patch, as in Kubernetes.
pub const MAX_JSON_PATCH_OPERATIONS: usize = 10_000;

/// Why a patch could not be applied.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PatchError {
    /// The patch itself is not well-formed: 400 `BadRequest`.
    #[error("{0}")]
    Malformed(String),
    /// Too many operations: 413 `RequestEntityTooLarge`.
    #[error("The allowed maximum operations in a JSON patch is {max}, got {got}", max = MAX_JSON_PATCH_OPERATIONS)]
    TooManyOperations {
        /// Number of operations in the patch.
        got: usize,
    },
    /// A well-formed patch that cannot be applied to the object (a failed `test`, a missing path):
    /// 422 `Invalid`.
    #[error("{0}")]
    Unprocessable(String),
}

/// Applies a JSON patch (RFC 6902). The work and the size of the result are bounded.
pub fn json(document: &Value, patch: &[u8]) -> Result<Value, PatchError> {
    json::apply(document, patch)
}

/// Applies a merge patch (RFC 7386): objects merge, `null` removes, everything else replaces.
pub fn merge(document: &Value, patch: &Value) -> Value {
    let mut merged = document.clone();
    json_patch::merge(&mut merged, patch);
    merged
}

/// Applies a strategic merge patch: a merge patch in which lists merge by keys of the table, with
/// additional directives (`$patch`, `$retainKeys`, `$setElementOrder/…`,
/// `$deleteFromPrimitiveList/…`).
pub fn strategic(ty: &'static Type, document: &Value, patch: &Value) -> Result<Value, PatchError> {
    strategic::apply(ty, document, patch)
}

/// Returns the patch that `kubectl apply` sends: a strategic merge patch with a type, a merge patch
/// without. `original` is the last applied configuration (from the annotation), `modified` the new
/// one, `current` the object on the server. A field that is absent or `null` in `modified` keeps
/// its value, unless `original` had it. `{}` when there is nothing to change.
pub fn three_way(
    ty: Option<&'static Type>,
    original: Option<&Value>,
    modified: &Value,
    current: &Value,
) -> Value {
    three_way::make(ty, original, modified, current)
}

#[cfg(test)]
mod tests;

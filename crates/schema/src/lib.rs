//! The schema of the Kubernetes API, and the code that uses it.
//!
//! A generated table has the fields of every served type: their types, their protobuf numbers, when
//! Go leaves them out of JSON, and how patches merge them. It drives decoding (JSON, YAML and
//! protobuf; strict or not), the canonical form, the three types of patches, and the OpenAPI
//! documents. Objects are `serde_json::Value`s; there are no typed structs.
//!
//! Pure: no clock, no randomness, no I/O. Nothing that a client sends can cause a panic.

mod canonical;
mod check;
pub mod decode;
pub mod gojson;
pub mod int_or_percent;
pub mod openapi;
pub mod patch;
pub mod quantity;
#[rustfmt::skip]
mod table;
mod time;
mod types;

pub use canonical::{canonicalize, prune_unknown};
pub use check::check;
pub use types::{Field, FieldType, Gvk, ListType, Omit, PatchStrategy, Type};

/// Returns the type of bodies of this kind: served kinds, their lists, and other bodies
/// (`DeleteOptions`, `Status`, `Binding`, `Eviction`, `TokenRequest`, the reviews).
pub fn lookup(group: &str, version: &str, kind: &str) -> Option<&'static Type> {
    table::KINDS
        .binary_search_by(|(gvk, _)| (gvk.group, gvk.version, gvk.kind).cmp(&(group, version, kind)))
        .ok()
        .map(|at| table::KINDS[at].1)
}

/// Splits `apps/v1` into group and version. `v1` has the core group.
pub fn split_api_version(api_version: &str) -> (&str, &str) {
    api_version.split_once('/').unwrap_or(("", api_version))
}

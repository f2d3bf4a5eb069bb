//! Wire facts of the Kubernetes API, and what follows from them.
//!
//! One generated table says of every served type which fields it has, what they hold, under which protobuf numbers they
//! travel, when Go leaves them out of JSON, and how patches merge them. On it stand decoding (JSON, YAML,
//! protobuf; strict or not), the canonical form, the three kinds of patch, and the OpenAPI documents. Objects are
//! `serde_json::Value`s throughout; there are no typed structs.
//!
//! Pure: no clock, no randomness, no input or output. Nothing that a client sends can make it panic.

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

/// The type that bodies of this kind have: served kinds, their lists, and what travels beside them (`DeleteOptions`,
/// `Status`, `Binding`, `Eviction`, `TokenRequest`, the reviews).
pub fn lookup(group: &str, version: &str, kind: &str) -> Option<&'static Type> {
    table::KINDS
        .binary_search_by(|(gvk, _)| (gvk.group, gvk.version, gvk.kind).cmp(&(group, version, kind)))
        .ok()
        .map(|at| table::KINDS[at].1)
}

/// Splits `apps/v1` into group and version; `v1` is the core group's.
pub fn split_api_version(api_version: &str) -> (&str, &str) {
    api_version.split_once('/').unwrap_or(("", api_version))
}

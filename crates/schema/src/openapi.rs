//! The OpenAPI documents, made from the schema table: version 3 for each group version, and version
//! 2 for older clients, as JSON and as protobuf (kubectl before 1.28 validates only with the
//! latter).
//!
//! They contain what clients use: the kinds, the fields of objects, how lists merge, and the
//! parameters of PATCH. There are no descriptions, because they would be the largest part of the
//! binary's data. Documents are made on demand, and callers cache them.

mod gnostic;
mod paths;
mod schemas;

use std::hash::{DefaultHasher, Hash, Hasher};

use serde_json::{Map, Value, json};

/// One served resource.
#[derive(Debug, Clone)]
pub struct Route {
    /// The API group; empty for core.
    pub group: &'static str,
    /// The version.
    pub version: &'static str,
    /// The kind of the bodies.
    pub kind: &'static str,
    /// The resource's name in paths, e.g. `daemonsets`.
    pub plural: &'static str,
    /// Whether paths contain a namespace.
    pub namespaced: bool,
    /// `create`, `get`, `list`, `watch`, `update`, `patch`, `delete`, `deletecollection`.
    pub verbs: &'static [&'static str],
    /// Names of subresources, e.g. `status`.
    pub subresources: &'static [&'static str],
}

/// The two versions of OpenAPI.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Dialect {
    V2,
    V3,
}

/// The version in the documents.
const VERSION: &str = "v1.36.0";

impl Route {
    /// Returns `api/v1` or `apis/apps/v1`.
    fn prefix(&self) -> String {
        prefix(self.group, self.version)
    }
}

fn prefix(group: &str, version: &str) -> String {
    match group {
        "" => format!("api/{version}"),
        _ => format!("apis/{group}/{version}"),
    }
}

/// Returns the index at `/openapi/v3` with the address of the document of each group version. The
/// `hash` in an address changes with the document, so clients can cache it.
pub fn v3_index(routes: &[Route]) -> Value {
    let mut entries = Map::new();
    for route in routes {
        let prefix = route.prefix();
        if entries.contains_key(&prefix) {
            continue;
        }
        if let Some(document) = v3_document(routes, route.group, route.version) {
            let address = format!("/openapi/v3/{prefix}?hash={:016X}", hash(&document));
            entries.insert(prefix, json!({"serverRelativeURL": address}));
        }
    }
    json!({"paths": entries})
}

/// Returns the document at `/openapi/v3/apis/<group>/<version>` (`/openapi/v3/api/v1` for the core
/// group).
pub fn v3_document(routes: &[Route], group: &str, version: &str) -> Option<Value> {
    let routes: Vec<&Route> = routes
        .iter()
        .filter(|route| route.group == group && route.version == version)
        .collect();
    if routes.is_empty() {
        return None;
    }
    Some(json!({
        "openapi": "3.0.0",
        "info": {"title": "Kubernetes", "version": VERSION},
        "paths": paths::all(&routes, Dialect::V3),
        "components": {"schemas": schemas::all(&routes, Dialect::V3)},
    }))
}

/// Returns `/openapi/v2` as JSON.
pub fn v2_json(routes: &[Route]) -> Value {
    let routes: Vec<&Route> = routes.iter().collect();
    json!({
        "swagger": "2.0",
        "info": {"title": "Kubernetes", "version": VERSION},
        "paths": paths::all(&routes, Dialect::V2),
        "definitions": schemas::all(&routes, Dialect::V2),
    })
}

/// Returns `/openapi/v2` as protobuf
/// (`application/com.github.proto-openapi.spec.v2.v1.0+protobuf`): a gnostic `openapi.v2.Document`.
pub fn v2_protobuf(routes: &[Route]) -> Vec<u8> {
    gnostic::encode(&v2_json(routes))
}

/// Returns a hash of the document, for addresses and ETags.
pub fn hash(document: &Value) -> u64 {
    let mut hasher = DefaultHasher::new();
    document.to_string().hash(&mut hasher);
    hasher.finish()
}

#[cfg(test)]
mod tests;

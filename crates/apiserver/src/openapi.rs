//! The OpenAPI documents, built on the first request for each.

use std::collections::BTreeMap;
use std::sync::{Arc, LazyLock, Mutex, PoisonError};

use api::kinds::KINDS;
use api::status::Status;
use http::Response;
use http::header::HeaderMap;
use schema::openapi::{self, Route};

use crate::body::Body;
use crate::discovery::Document;
use crate::negotiate::{self, JSON};

/// Media type that clients send in `Accept` for the protobuf form.
const V2_PROTOBUF_ASKED: &str = "application/com.github.proto-openapi.spec.v2@v1.0+protobuf";
/// Media type of the response: Go cannot parse a `Content-Type` that contains an `@`.
const V2_PROTOBUF: &str = "application/com.github.proto-openapi.spec.v2.v1.0+protobuf";

/// All served resources. Built once in a process, because the memory is leaked.
static ROUTES: LazyLock<Vec<Route>> = LazyLock::new(routes);

/// Documents by group and version. The registry bounds their number.
type Documents = BTreeMap<(String, String), Arc<Document>>;

/// The OpenAPI documents.
pub(crate) struct Openapi {
    v2_json: LazyLock<Document>,
    v2_protobuf: LazyLock<Document>,
    index: LazyLock<Document>,
    v3: Mutex<Documents>,
}

impl Default for Openapi {
    fn default() -> Openapi {
        Openapi {
            v2_json: LazyLock::new(|| Document::new(JSON, openapi::v2_json(&ROUTES).to_string())),
            v2_protobuf: LazyLock::new(|| Document::new(V2_PROTOBUF, openapi::v2_protobuf(&ROUTES))),
            index: LazyLock::new(|| Document::new(JSON, openapi::v3_index(&ROUTES).to_string())),
            v3: Mutex::default(),
        }
    }
}

impl Openapi {
    /// Serves `/openapi/v2`; as protobuf if the client prefers it.
    pub(crate) fn v2(&self, headers: &HeaderMap) -> Result<Response<Body>, Status> {
        for clause in negotiate::accept_clauses(headers) {
            match clause.media_type {
                JSON | "application/*" | "*/*" => return Ok(self.v2_json.respond(headers)),
                V2_PROTOBUF_ASKED | V2_PROTOBUF => return Ok(self.v2_protobuf.respond(headers)),
                _ => {}
            }
        }
        match headers.contains_key(http::header::ACCEPT) {
            true => Err(Status::not_acceptable(&[JSON, V2_PROTOBUF_ASKED])),
            false => Ok(self.v2_json.respond(headers)),
        }
    }

    /// Serves `/openapi/v3`: the paths of the group versions' documents, with their hashes.
    pub(crate) fn index(&self, headers: &HeaderMap) -> Response<Body> {
        self.index.respond(headers)
    }

    /// Serves the document of one group version.
    pub(crate) fn v3(
        &self,
        group: &str,
        version: &str,
        headers: &HeaderMap,
    ) -> Result<Response<Body>, Status> {
        let key = (group.to_owned(), version.to_owned());
        let known = self
            .v3
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .get(&key)
            .cloned();
        if let Some(document) = known {
            return Ok(document.respond(headers));
        }
        let value = openapi::v3_document(&ROUTES, group, version).ok_or_else(Status::path_not_found)?;
        let document = Arc::new(Document::new(JSON, value.to_string()));
        self.v3
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(key, document.clone());
        Ok(document.respond(headers))
    }
}

fn routes() -> Vec<Route> {
    let route = |kind: &&'static api::kinds::Kind| Route {
        group: kind.group,
        version: kind.version,
        kind: kind.kind,
        plural: kind.plural,
        namespaced: kind.namespaced,
        verbs: kind.verbs,
        subresources: subresource_names(kind),
    };
    KINDS.iter().map(route).collect()
}

/// The schema crate takes names and the registry has structs; both live as long as the process.
fn subresource_names(kind: &api::kinds::Kind) -> &'static [&'static str] {
    Vec::leak(
        kind.subresources
            .iter()
            .map(|subresource| subresource.name)
            .collect(),
    )
}

//! Discovery: the groups, versions and resources, plain and aggregated. All of it follows from the
//! registry, so the main documents are built once.

use std::sync::LazyLock;

use api::kinds::{KINDS, Kind};
use api::status::Status;
use bytes::Bytes;
use http::header::{ETAG, HeaderMap, HeaderValue, IF_NONE_MATCH, VARY};
use http::{Method, Response, StatusCode};
use serde_json::{Value, json};

use crate::body::Body;
use crate::negotiate::{self, JSON};
use crate::query::Query;
use crate::respond;

const AGGREGATED_V2: &str = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList";
const AGGREGATED_V2BETA1: &str = "application/json;g=apidiscovery.k8s.io;v=v2beta1;as=APIGroupDiscoveryList";

/// Document that is built once, with its hash as ETag.
pub(crate) struct Document {
    content_type: &'static str,
    bytes: Bytes,
    etag: HeaderValue,
}

impl Document {
    pub(crate) fn new(content_type: &'static str, bytes: impl Into<Bytes>) -> Document {
        let bytes = bytes.into();
        let digest = ring::digest::digest(&ring::digest::SHA256, &bytes);
        let hex: String = digest.as_ref().iter().map(|byte| format!("{byte:02X}")).collect();
        // Hexadecimal digits in quotes are a valid header.
        let etag = HeaderValue::from_str(&format!("\"{hex}\"")).unwrap_or(HeaderValue::from_static("\"\""));
        Document {
            content_type,
            bytes,
            etag,
        }
    }

    /// Returns the document, or 304 if the client has it.
    pub(crate) fn respond(&self, headers: &HeaderMap) -> Response<Body> {
        let known = headers
            .get_all(IF_NONE_MATCH)
            .into_iter()
            .any(|etag| etag == self.etag);
        let (code, bytes) = match known {
            true => (StatusCode::NOT_MODIFIED, Bytes::new()),
            false => (StatusCode::OK, self.bytes.clone()),
        };
        let mut response = respond::bytes_response(code, self.content_type, bytes);
        response.headers_mut().insert(ETAG, self.etag.clone());
        response
            .headers_mut()
            .insert(VARY, HeaderValue::from_static("Accept"));
        response
    }
}

/// The discovery documents.
pub(crate) struct Discovery {
    core: LazyLock<Aggregates>,
    groups: LazyLock<Aggregates>,
}

/// One endpoint's document in its three forms.
struct Aggregates {
    plain: Document,
    v2: Document,
    v2beta1: Document,
}

impl Aggregates {
    fn new(plain: &Value, groups: &[Group]) -> Aggregates {
        let aggregated = |version: &str, content_type| {
            let list = json!({
                "kind": "APIGroupDiscoveryList",
                "apiVersion": format!("apidiscovery.k8s.io/{version}"),
                "metadata": {},
                "items": groups.iter().map(Group::aggregated).collect::<Vec<_>>(),
            });
            Document::new(content_type, list.to_string())
        };
        Aggregates {
            plain: Document::new(JSON, plain.to_string()),
            v2: aggregated("v2", AGGREGATED_V2),
            v2beta1: aggregated("v2beta1", AGGREGATED_V2BETA1),
        }
    }

    fn respond(&self, headers: &HeaderMap) -> Response<Body> {
        let mut clauses = negotiate::accept_clauses(headers).filter(|clause| clause.media_type == JSON);
        let wanted = clauses.find_map(|clause| match (clause.parameter("as"), clause.parameter("v")) {
            (Some("APIGroupDiscoveryList"), Some("v2")) => Some(&self.v2),
            (Some("APIGroupDiscoveryList"), Some("v2beta1")) => Some(&self.v2beta1),
            (None, _) => Some(&self.plain),
            _ => None,
        });
        wanted.unwrap_or(&self.plain).respond(headers)
    }
}

impl Default for Discovery {
    fn default() -> Discovery {
        Discovery {
            core: LazyLock::new(core_versions),
            groups: LazyLock::new(group_list),
        }
    }
}

impl Discovery {
    /// Serves `/api`.
    pub(crate) fn core(&self, headers: &HeaderMap) -> Response<Body> {
        self.core.respond(headers)
    }

    /// Serves `/apis`.
    pub(crate) fn groups(&self, headers: &HeaderMap) -> Response<Body> {
        self.groups.respond(headers)
    }

    /// Serves `/apis/<group>`.
    pub(crate) fn group(&self, name: &str) -> Result<Response<Body>, Status> {
        let groups = groups();
        let group = groups.iter().find(|group| group.name == name && !name.is_empty());
        let mut value = group.ok_or_else(Status::path_not_found)?.plain();
        value["kind"] = "APIGroup".into();
        value["apiVersion"] = "v1".into();
        Ok(respond::json(StatusCode::OK, &value))
    }

    /// Serves `/api/v1` and `/apis/<group>/<version>`.
    pub(crate) fn resources(&self, group: &str, version: &str) -> Result<Response<Body>, Status> {
        let kinds: Vec<&Kind> = KINDS
            .iter()
            .copied()
            .filter(|kind| kind.group == group && kind.version == version)
            .collect();
        if kinds.is_empty() {
            return Err(Status::path_not_found());
        }
        let resources: Vec<Value> = kinds.iter().flat_map(|kind| plain_resources(kind)).collect();
        let list = json!({
            "kind": "APIResourceList",
            "apiVersion": "v1",
            "groupVersion": kinds[0].api_version(),
            "resources": resources,
        });
        Ok(respond::json(StatusCode::OK, &list))
    }
}

/// A group with its versions, in the order of the registry.
struct Group {
    name: &'static str,
    versions: Vec<(&'static str, Vec<&'static Kind>)>,
}

fn groups() -> Vec<Group> {
    let mut groups: Vec<Group> = Vec::new();
    for kind in KINDS.iter().copied() {
        let at = groups
            .iter()
            .position(|group| group.name == kind.group)
            .unwrap_or_else(|| {
                groups.push(Group {
                    name: kind.group,
                    versions: Vec::new(),
                });
                groups.len() - 1
            });
        let versions = &mut groups[at].versions;
        match versions.iter_mut().find(|(version, _)| *version == kind.version) {
            Some((_, kinds)) => kinds.push(kind),
            None => versions.push((kind.version, vec![kind])),
        }
    }
    groups
}

fn core_versions() -> Aggregates {
    let groups: Vec<Group> = groups()
        .into_iter()
        .filter(|group| group.name.is_empty())
        .collect();
    let versions: Vec<&str> = groups
        .iter()
        .flat_map(|group| &group.versions)
        .map(|(version, _)| *version)
        .collect();
    let plain = json!({
        "kind": "APIVersions",
        "versions": versions,
        // Empty: clients go on using the address by which they reached the server.
        "serverAddressByClientCIDRs": [],
    });
    Aggregates::new(&plain, &groups)
}

fn group_list() -> Aggregates {
    let groups: Vec<Group> = groups()
        .into_iter()
        .filter(|group| !group.name.is_empty())
        .collect();
    let plain = json!({
        "kind": "APIGroupList",
        "apiVersion": "v1",
        "groups": groups.iter().map(Group::plain).collect::<Vec<_>>(),
    });
    Aggregates::new(&plain, &groups)
}

impl Group {
    fn plain(&self) -> Value {
        let version =
            |version: &str| json!({"groupVersion": format!("{}/{version}", self.name), "version": version});
        let versions: Vec<Value> = self.versions.iter().map(|(name, _)| version(name)).collect();
        json!({"name": self.name, "preferredVersion": versions.first(), "versions": versions})
    }

    fn aggregated(&self) -> Value {
        let version = |version: &str, kinds: &[&Kind]| {
            json!({
                "version": version,
                "resources": kinds.iter().map(|kind| aggregated_resource(kind)).collect::<Vec<_>>(),
                "freshness": "Current",
            })
        };
        let versions: Vec<Value> = self
            .versions
            .iter()
            .map(|(name, kinds)| version(name, kinds))
            .collect();
        json!({"metadata": {"name": self.name, "creationTimestamp": null}, "versions": versions})
    }
}

/// Returns a resource and its subresources as `APIResource`s.
fn plain_resources(kind: &Kind) -> Vec<Value> {
    let mut resource = json!({
        "name": kind.plural,
        "singularName": kind.singular,
        "namespaced": kind.namespaced,
        "kind": kind.kind,
        "verbs": kind.verbs,
    });
    for (field, names) in [("shortNames", kind.short_names), ("categories", kind.categories)] {
        if !names.is_empty() {
            resource[field] = json!(names);
        }
    }
    if kind.stored {
        resource["storageVersionHash"] = storage_version_hash(kind).into();
    }
    let subresources = kind.subresources.iter().map(|subresource| {
        let mut value = json!({
            "name": format!("{}/{}", kind.plural, subresource.name),
            "singularName": "",
            "namespaced": kind.namespaced,
            "kind": subresource.kind,
            "verbs": subresource.verbs,
        });
        if (subresource.group, subresource.version) != (kind.group, kind.version) {
            value["group"] = subresource.group.into();
            value["version"] = subresource.version.into();
        }
        value
    });
    let mut resources = vec![resource];
    resources.extend(subresources);
    resources
}

fn aggregated_resource(kind: &Kind) -> Value {
    let response_kind =
        |group: &str, version: &str, kind: &str| json!({"group": group, "version": version, "kind": kind});
    let mut resource = json!({
        "resource": kind.plural,
        "responseKind": response_kind(kind.group, kind.version, kind.kind),
        "scope": if kind.namespaced { "Namespaced" } else { "Cluster" },
        "singularResource": kind.singular,
        "verbs": kind.verbs,
    });
    for (field, names) in [("shortNames", kind.short_names), ("categories", kind.categories)] {
        if !names.is_empty() {
            resource[field] = json!(names);
        }
    }
    let subresources: Vec<Value> = kind
        .subresources
        .iter()
        .map(|subresource| {
            json!({
                "subresource": subresource.name,
                "responseKind": response_kind(subresource.group, subresource.version, subresource.kind),
                "verbs": subresource.verbs,
            })
        })
        .collect();
    if !subresources.is_empty() {
        resource["subresources"] = subresources.into();
    }
    resource
}

/// Hash that changes when the stored form of a resource changes: its group, version or kind.
fn storage_version_hash(kind: &Kind) -> String {
    use base64::Engine;
    const BYTES: usize = 8;
    let stored = kind.conversion.map_or(kind, |conversion| conversion.stored);
    let text = format!("{}/{}/{}", stored.group, stored.version, stored.kind);
    let digest = ring::digest::digest(&ring::digest::SHA256, text.as_bytes());
    base64::prelude::BASE64_STANDARD.encode(&digest.as_ref()[..BYTES])
}

/// Returns an empty list of CustomResourceDefinitions. The kind is not served, but kubectl lists it
/// before it reports an unknown kind, and prints another error if the list fails.
///
/// All other requests get 404: a client that creates or watches a CustomResourceDefinition must not
/// conclude that the kind exists.
pub(crate) fn no_custom_kinds(
    revision: store::Revision,
    method: &Method,
    query: &Query,
) -> Result<Response<Body>, Status> {
    if !matches!(*method, Method::GET | Method::HEAD) || query.flag("watch") {
        return Err(Status::path_not_found());
    }
    let list = json!({
        "kind": "CustomResourceDefinitionList",
        "apiVersion": "apiextensions.k8s.io/v1",
        "metadata": {"resourceVersion": revision.to_string()},
        "items": [],
    });
    Ok(respond::json(StatusCode::OK, &list))
}

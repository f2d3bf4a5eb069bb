use serde_json::json;

use super::*;

const ALL: &[&str] = &[
    "create",
    "get",
    "list",
    "watch",
    "update",
    "patch",
    "delete",
    "deletecollection",
];

fn routes() -> Vec<Route> {
    let route = |group, version, kind, plural, namespaced| Route {
        group,
        version,
        kind,
        plural,
        namespaced,
        verbs: ALL,
        subresources: &["status"],
    };
    vec![
        route("apps", "v1", "DaemonSet", "daemonsets", true),
        route("", "v1", "Pod", "pods", true),
        route("", "v1", "Node", "nodes", false),
    ]
}

#[test]
fn index_has_each_group_version_once() {
    let index = v3_index(&routes());
    let paths = index["paths"].as_object().expect("paths");
    assert_eq!(paths.keys().collect::<Vec<_>>(), ["api/v1", "apis/apps/v1"]);
    let address = paths["apis/apps/v1"]["serverRelativeURL"]
        .as_str()
        .expect("an address");
    assert!(address.starts_with("/openapi/v3/apis/apps/v1?hash="), "{address}");
}

#[test]
fn document_has_what_kubectl_reads() {
    let document = v3_document(&routes(), "apps", "v1").expect("served");
    let patch = &document["paths"]["/apis/apps/v1/namespaces/{namespace}/daemonsets/{name}"]["patch"];
    assert_eq!(
        patch["x-kubernetes-group-version-kind"],
        json!({"group": "apps", "version": "v1", "kind": "DaemonSet"})
    );
    let parameters: Vec<_> = patch["parameters"]
        .as_array()
        .expect("parameters")
        .iter()
        .map(|parameter| &parameter["name"])
        .collect();
    assert!(parameters.contains(&&json!("fieldValidation")) && parameters.contains(&&json!("dryRun")));
    let schemas = &document["components"]["schemas"];
    let volumes = &schemas["io.k8s.api.core.v1.PodSpec"]["properties"]["volumes"];
    assert_eq!(volumes["x-kubernetes-patch-strategy"], "merge,retainKeys");
    assert_eq!(volumes["x-kubernetes-patch-merge-key"], "name");
    assert_eq!(volumes["x-kubernetes-list-map-keys"], json!(["name"]));
    assert_eq!(
        schemas["io.k8s.api.apps.v1.DaemonSetSpec"]["required"],
        json!(["selector", "template"])
    );
    assert!(v3_document(&routes(), "batch", "v1").is_none());
}

#[test]
fn every_reference_has_a_target() {
    for (document, base, schemas) in [
        (
            v3_document(&routes(), "", "v1").expect("served"),
            "#/components/schemas/",
            "/components/schemas",
        ),
        (v2_json(&routes()), "#/definitions/", "/definitions"),
    ] {
        let known = document
            .pointer(schemas)
            .and_then(Value::as_object)
            .expect("schemas");
        let mut stack = vec![&document];
        while let Some(value) = stack.pop() {
            match value {
                Value::Object(map) => {
                    if let Some(Value::String(reference)) = map.get("$ref") {
                        let name = reference.strip_prefix(base).expect("a reference of this dialect");
                        assert!(known.contains_key(name), "{name}");
                    }
                    stack.extend(map.values());
                }
                Value::Array(items) => stack.extend(items),
                _ => {}
            }
        }
    }
}

#[test]
fn protobuf_document_starts_with_its_version() {
    let bytes = v2_protobuf(&routes());
    assert!(bytes.starts_with(b"\x0a\x032.0\x12"));
}

//! The paths and their operations.

use serde_json::{Map, Value, json};

use super::{Dialect, Route};

/// Query parameters of all writes.
const WRITE_PARAMETERS: &[&str] = &["dryRun", "fieldManager", "fieldValidation", "pretty"];

/// Returns all paths of the routes.
pub(super) fn all(routes: &[&Route], dialect: Dialect) -> Value {
    let mut paths = Map::new();
    for route in routes {
        let prefix = route.prefix();
        let plural = route.plural;
        let scope = if route.namespaced {
            "namespaces/{namespace}/"
        } else {
            ""
        };
        let mut add = |path: String, operations: &[(&str, &str, &str)]| {
            let item = path_item(route, &path, operations, dialect);
            if let Some(item) = item {
                paths.insert(path, item);
            }
        };
        let collection = [
            ("get", "list", "list"),
            ("post", "create", "post"),
            ("delete", "deletecollection", "deletecollection"),
        ];
        let item = [
            ("get", "get", "get"),
            ("put", "update", "put"),
            ("patch", "patch", "patch"),
            ("delete", "delete", "delete"),
        ];
        add(format!("/{prefix}/{scope}{plural}"), &collection);
        add(format!("/{prefix}/{scope}{plural}/{{name}}"), &item);
        if route.namespaced {
            add(format!("/{prefix}/{plural}"), &collection[..1]);
        }
        if route.subresources.contains(&"status") {
            add(format!("/{prefix}/{scope}{plural}/{{name}}/status"), &item[..3]);
        }
    }
    Value::Object(paths)
}

/// Returns those of the operations (method, verb, action) that the route's verbs allow; `None` if
/// there are none.
fn path_item(
    route: &Route,
    path: &str,
    operations: &[(&str, &str, &str)],
    dialect: Dialect,
) -> Option<Value> {
    let mut item = Map::new();
    for (method, verb, action) in operations {
        if route.verbs.contains(verb) {
            item.insert(
                (*method).to_owned(),
                operation(route, path, method, action, dialect),
            );
        }
    }
    if item.is_empty() {
        return None;
    }
    let variables = ["namespace", "name"]
        .into_iter()
        .filter(|name| path.contains(&format!("{{{name}}}")));
    let parameters: Vec<Value> = variables.map(|name| parameter(name, "path", dialect)).collect();
    if !parameters.is_empty() {
        item.insert("parameters".to_owned(), Value::Array(parameters));
    }
    Some(Value::Object(item))
}

fn operation(route: &Route, path: &str, method: &str, action: &str, dialect: Dialect) -> Value {
    let id: String = path
        .split(['/', '{', '}', '.'])
        .filter(|word| !word.is_empty())
        .flat_map(|word| [word, "_"])
        .chain([action])
        .collect();
    let mut operation = json!({
        "operationId": id,
        "responses": {"200": {"description": "OK"}},
        "x-kubernetes-action": action,
        "x-kubernetes-group-version-kind": {"group": route.group, "version": route.version, "kind": route.kind},
    });
    if method != "get" {
        let parameters: Vec<Value> = WRITE_PARAMETERS
            .iter()
            .map(|name| parameter(name, "query", dialect))
            .collect();
        operation["parameters"] = Value::Array(parameters);
    }
    operation
}

fn parameter(name: &str, place: &str, dialect: Dialect) -> Value {
    let mut parameter = json!({"name": name, "in": place});
    match dialect {
        Dialect::V2 => parameter["type"] = "string".into(),
        Dialect::V3 => parameter["schema"] = json!({"type": "string"}),
    }
    if place == "path" {
        parameter["required"] = true.into();
    }
    parameter
}

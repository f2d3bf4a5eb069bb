//! ConfigMaps, Secrets and ServiceAccounts that a template requires, and whether they exist.

use std::collections::BTreeSet;

use serde_json::Value;

use crate::client::connection::Connection;
use crate::client::error::is_not_found;
use crate::client::resources::escape;

/// An object in the template's namespace that its pods require.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Reference {
    /// `ConfigMap`, `Secret` or `ServiceAccount`.
    pub(super) kind: &'static str,
    pub(super) name: String,
}

impl Reference {
    fn plural(&self) -> &'static str {
        match self.kind {
            "ConfigMap" => "configmaps",
            "Secret" => "secrets",
            _ => "serviceaccounts",
        }
    }
}

/// Returns a message for each required object that does not exist and is not in the manifest.
pub(super) async fn missing(
    connection: &Connection,
    namespace: &str,
    template: &Value,
    made: &BTreeSet<(String, String, String)>,
) -> Vec<String> {
    let mut sentences = Vec::new();
    for reference in required(&template["spec"]) {
        let Reference { kind, name } = &reference;
        if made.contains(&((*kind).to_owned(), namespace.to_owned(), name.clone())) {
            continue;
        }
        let path = format!(
            "/api/v1/namespaces/{}/{}/{}",
            escape(namespace),
            reference.plural(),
            escape(name)
        );
        // A user who may not read Secrets gets no message about them.
        if connection
            .get(&path)
            .await
            .is_err_and(|error| is_not_found(&error))
        {
            let effect = match *kind {
                "ServiceAccount" => "no pod is created without it",
                _ => "no container starts without it",
            };
            sentences.push(format!(
                "there is no {kind} {name} in the namespace {namespace}: {effect}"
            ));
        }
    }
    sentences
}

/// Returns the objects that a pod's spec requires; not those marked as optional.
fn required(spec: &Value) -> BTreeSet<Reference> {
    let mut found = BTreeSet::new();
    let mut add = |kind: &'static str, source: &Value, field: &str| {
        let name = source[field].as_str().unwrap_or_default();
        if !name.is_empty() && source["optional"] != true {
            found.insert(Reference {
                kind,
                name: name.to_owned(),
            });
        }
    };
    if spec["serviceAccountName"] != "default" {
        add("ServiceAccount", spec, "serviceAccountName");
    }
    for volume in list(&spec["volumes"]) {
        add("ConfigMap", &volume["configMap"], "name");
        add("Secret", &volume["secret"], "secretName");
        for source in list(&volume["projected"]["sources"]) {
            add("ConfigMap", &source["configMap"], "name");
            add("Secret", &source["secret"], "name");
        }
    }
    for container in list(&spec["initContainers"]).chain(list(&spec["containers"])) {
        for source in list(&container["envFrom"]) {
            add("ConfigMap", &source["configMapRef"], "name");
            add("Secret", &source["secretRef"], "name");
        }
        for variable in list(&container["env"]) {
            add("ConfigMap", &variable["valueFrom"]["configMapKeyRef"], "name");
            add("Secret", &variable["valueFrom"]["secretKeyRef"], "name");
        }
    }
    found
}

fn list(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().into_iter().flatten()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn every_place_that_names_an_object_is_read() {
        let spec = json!({
            "serviceAccountName": "collector",
            "volumes": [
                {"configMap": {"name": "a"}}, {"secret": {"secretName": "b"}}, {"emptyDir": {}},
                {"projected": {"sources": [{"configMap": {"name": "c"}}, {"secret": {"name": "d", "optional": true}}]}},
            ],
            "initContainers": [{"envFrom": [{"secretRef": {"name": "e"}}]}],
            "containers": [{"env": [
                {"valueFrom": {"configMapKeyRef": {"name": "f", "key": "k"}}}, {"valueFrom": {"fieldRef": {"fieldPath": "x"}}}]}],
        });
        let found: Vec<String> = required(&spec)
            .iter()
            .map(|one| format!("{} {}", one.kind, one.name))
            .collect();
        assert_eq!(
            found,
            [
                "ConfigMap a",
                "ConfigMap c",
                "ConfigMap f",
                "Secret b",
                "Secret e",
                "ServiceAccount collector"
            ]
        );
        assert!(required(&json!({"serviceAccountName": "default"})).is_empty());
    }
}

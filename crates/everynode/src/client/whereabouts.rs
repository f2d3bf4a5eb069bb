//! Hints for an object that was not found: usually it is in another namespace.

use anyhow::Error;
use serde_json::Value;

use super::connection::{ConnectArgs, Connection};
use super::error::{ServerError, is_not_found};
use super::resources::{Resources, escape};

/// Most namespaces in a hint. A name that exists in more namespaces is probably not a mistake.
const NAMED: usize = 3;

/// Returns a hint for an object that was not found: the namespaces with an object of that name, or
/// that the namespace does not exist.
pub(crate) async fn hint(error: &Error, connect: &ConnectArgs) -> Option<String> {
    let server = error.downcast_ref::<ServerError>()?;
    let (plural, name) = server.object.as_ref().filter(|_| server.code == 404)?;
    let connection = connect.connect().await.ok()?;
    let resources = Resources::discover(&connection).await.ok()?;
    let resource = resources
        .named(plural)
        .ok()
        .filter(|resource| resource.namespaced)?;
    if is_missing(&connection).await {
        return Some(no_namespace(&connection.namespace));
    }
    let field = escape(&format!("metadata.name={name}"));
    let path = format!("{}?fieldSelector={field}", resource.collection(None));
    let found = connection.get(&path).await.ok()?;
    elsewhere(&found, name)
}

/// Returns a hint if the namespace does not exist.
pub(crate) async fn namespace_hint(connection: &Connection) -> Option<String> {
    is_missing(connection)
        .await
        .then(|| no_namespace(&connection.namespace))
}

async fn is_missing(connection: &Connection) -> bool {
    let path = format!("/api/v1/namespaces/{}", escape(&connection.namespace));
    connection
        .get(&path)
        .await
        .is_err_and(|error| is_not_found(&error))
}

fn no_namespace(name: &str) -> String {
    format!("There is no namespace {name}: `everynode get namespaces` lists them.")
}

fn elsewhere(found: &Value, name: &str) -> Option<String> {
    let items = found["items"].as_array()?;
    let mut namespaces: Vec<&str> = items
        .iter()
        // A server may not support the field selector.
        .filter(|object| object["metadata"]["name"] == name)
        .filter_map(|object| object["metadata"]["namespace"].as_str())
        .collect();
    namespaces.sort_unstable();
    match namespaces.as_slice() {
        [] => None,
        [one] => Some(format!("There is one in the namespace {one}: add `-n {one}`.")),
        several if several.len() <= NAMED => Some(format!(
            "There is one in each of the namespaces {}.",
            several.join(", ")
        )),
        several => Some(format!(
            "There is one in each of {} other namespaces.",
            several.len()
        )),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn told(namespaces: &[&str]) -> Option<String> {
        let object = |namespace: &&str| json!({"metadata": {"name": "a", "namespace": namespace}});
        let mut items: Vec<Value> = namespaces.iter().map(object).collect();
        items.push(json!({"metadata": {"name": "b", "namespace": "default"}}));
        elsewhere(&json!({"items": items}), "a")
    }

    #[test]
    fn the_namespaces_that_have_one_are_named() {
        assert_eq!(told(&[]), None);
        assert_eq!(
            told(&["logs"]).as_deref(),
            Some("There is one in the namespace logs: add `-n logs`.")
        );
        assert_eq!(
            told(&["y", "x"]).as_deref(),
            Some("There is one in each of the namespaces x, y.")
        );
        assert_eq!(
            told(&["a", "b", "c", "d"]).as_deref(),
            Some("There is one in each of 4 other namespaces.")
        );
    }
}

//! The verbs, one file each. A role or a client verb consists of its arguments and `run`.

pub(crate) mod agent;
pub(crate) mod annotate;
pub(crate) mod apply;
pub(crate) mod completion;
pub(crate) mod cordon;
pub(crate) mod create;
pub(crate) mod delete;
pub(crate) mod describe;
pub(crate) mod drain;
pub(crate) mod events;
pub(crate) mod exec;
pub(crate) mod get;
pub(crate) mod image;
pub(crate) mod kubeconfig;
pub(crate) mod label;
pub(crate) mod logs;
pub(crate) mod page;
pub(crate) mod pairs;
pub(crate) mod plan;
pub(crate) mod rollout;
pub(crate) mod server;
pub(crate) mod simulate;
pub(crate) mod store;
pub(crate) mod taint;
pub(crate) mod token;
pub(crate) mod up;
pub(crate) mod version;
pub(crate) mod why;

use anyhow::{Result, bail};
use serde_json::Value;

use crate::client::connection::Connection;
use crate::client::resources::{Resources, Targets, escape};

/// Default data directory of a role.
pub(crate) const DATA_DIR: &str = "/var/lib/everynode";

/// Annotation with the container that `kubectl exec` and `logs` use by default.
const DEFAULT_CONTAINER: &str = "kubectl.kubernetes.io/default-container";

/// Returns the container to use: the named one, else the one in the pod's annotation, else the
/// first.
async fn container_of(connection: &Connection, pod: &str, named: Option<String>) -> Result<Option<String>> {
    let path = format!(
        "/api/v1/namespaces/{}/pods/{}",
        escape(&connection.namespace),
        escape(pod)
    );
    let object = connection.get(&path).await?;
    let names = |field: &str| -> Vec<String> {
        let containers = object["spec"][field].as_array().into_iter().flatten();
        containers
            .filter_map(|container| container["name"].as_str().map(str::to_owned))
            .collect()
    };
    let containers = names("containers");
    if let Some(named) = named {
        let others = [names("initContainers"), names("ephemeralContainers")].concat();
        let all: Vec<String> = containers.into_iter().chain(others).collect();
        if !all.contains(&named) {
            bail!(
                "container {named} is not valid for pod {pod}: it has {}",
                all.join(", ")
            );
        }
        return Ok(Some(named));
    }
    let annotated = object["metadata"]["annotations"][DEFAULT_CONTAINER].as_str();
    if let Some(name) = annotated.filter(|name| containers.iter().any(|container| container == name)) {
        return Ok(Some(name.to_owned()));
    }
    let all: Vec<String> = containers
        .iter()
        .cloned()
        .chain(
            names("initContainers")
                .iter()
                .map(|name| format!("{name} (init)")),
        )
        .collect();
    let first = containers.into_iter().next();
    if let (Some(first), true) = (&first, all.len() > 1) {
        eprintln!("Defaulted container \"{first}\" out of: {}", all.join(", "));
    }
    Ok(first)
}

/// Returns the pod that `target` names, or one of the pods of `ds/NAME`.
async fn pod_of(connection: &Connection, resources: &Resources, target: &str) -> Result<String> {
    let pods = pods_of(connection, resources, target, None).await?;
    match pods.as_slice() {
        [] => bail!("{target} has no pods"),
        [pod] => Ok(pod.clone()),
        [first, ..] => {
            eprintln!("Found {} pods, using pod/{first}", pods.len());
            Ok(first.clone())
        }
    }
}

/// Returns the pods that `target` names: one pod for `NAME` or `pod/NAME`, all pods for `ds/NAME`,
/// running ones first. With a node, only the pods there.
async fn pods_of(
    connection: &Connection,
    resources: &Resources,
    target: &str,
    node: Option<&str>,
) -> Result<Vec<String>> {
    if !target.contains('/') {
        return Ok(vec![target.to_owned()]);
    }
    let pairs = Targets::parse(&[target.to_owned()])?.pairs;
    let [(kind, Some(name))] = pairs.as_slice() else {
        bail!("name a pod, or `ds/NAME`")
    };
    let resource = resources.named(kind)?;
    if resource.kind == "Pod" {
        return Ok(vec![name.clone()]);
    }
    let owner = connection
        .get(&resource.object(&connection.namespace, name))
        .await?;
    let Some(selector) = rollout::selector_query(&owner["spec"]["selector"]) else {
        bail!("{target} selects no pods");
    };
    list_pods(connection, resources, &selector, node).await
}

/// Returns the pods of the namespace with these labels, running ones first. With a node, only the
/// pods there.
async fn list_pods(
    connection: &Connection,
    resources: &Resources,
    selector: &str,
    node: Option<&str>,
) -> Result<Vec<String>> {
    let path = resources
        .of_kind("v1", "Pod")?
        .collection(Some(&connection.namespace));
    let mut query = format!("labelSelector={}", escape(selector));
    if let Some(node) = node {
        query = format!(
            "{query}&fieldSelector={}",
            escape(&format!("spec.nodeName={node}"))
        );
    }
    let pod = |pod: &Value| {
        let name = pod["metadata"]["name"].as_str().unwrap_or_default().to_owned();
        Ok((pod["status"]["phase"] != "Running", name))
    };
    let mut pods = connection.list(&path, &query, pod).await?;
    pods.sort();
    Ok(pods.into_iter().map(|(_, name)| name).collect())
}

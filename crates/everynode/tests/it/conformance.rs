//! Kubernetes' own end-to-end tests of DaemonSets, each written anew from the description of what it asks for.
//!
//! They meet the server as the originals do: a namespace of their own whose annotations are patched first, bodies of creations,
//! updates and deletions in protobuf, as typed Go clients send them, and a clean-up that leaves the pods to the garbage collector.
//! The nodes are simulated: what an original does inside a container (`kubectl exec`), the test reports in the pod's status.

mod daemon_set;
mod protobuf;
mod revisions;
mod surge;
mod upgrade;

use anyhow::{Context, Result};
use http::Method;
use serde_json::{Value, json};
use testkit::{MERGE, PROTOBUF, eventually, wait_for};

use crate::fleet::Fleet;

const NAMESPACE: &str = "daemonsets";

/// The nodes of a fleet of five, the size of the originals' clusters and a bit.
const FIVE: [&str; 5] = ["node-0", "node-1", "node-2", "node-3", "node-4"];

/// Runs a test as the originals are run.
fn in_a_namespace(
    nodes: usize,
    simulate: &[&str],
    test: impl FnOnce(&mut Fleet) -> Result<()>,
) -> Result<()> {
    let mut fleet = Fleet::start_with(nodes, &[], simulate)?;
    fleet.namespace = NAMESPACE;
    let namespace = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE}});
    typed(&fleet, Method::POST, "/api/v1/namespaces", &namespace)?;
    let path = format!("/api/v1/namespaces/{NAMESPACE}");
    eventually("the namespace's service account", || {
        let account = format!("{path}/serviceaccounts/default");
        Ok(fleet.api.find(&account)?.is_some())
    })?;
    let annotation =
        json!({"metadata": {"annotations": {"scheduler.alpha.kubernetes.io/node-selector": ""}}});
    fleet.api.patch(&path, MERGE, &annotation)?;
    test(&mut fleet)?;
    clean_up(&fleet)
}

/// Deletes every DaemonSet in the background; the garbage collector takes pods and history along.
fn clean_up(fleet: &Fleet) -> Result<()> {
    for set in fleet.api.items(&fleet.sets_path())? {
        let path = fleet.set_path(&crate::fleet::name(&set));
        typed(
            fleet,
            Method::DELETE,
            &path,
            &delete_options(json!({"propagationPolicy": "Background"})),
        )?;
    }
    wait_for("the garbage collector to take everything along", || {
        let pods = fleet.api.items(&fleet.pods_path())?;
        let revisions = fleet.api.items(&fleet.revisions_path())?;
        let left: Vec<String> = pods.iter().chain(&revisions).map(crate::fleet::name).collect();
        Ok(match left.is_empty() {
            true => Ok(()),
            false => Err(format!("{left:?}")),
        })
    })
}

/// Sends an object in protobuf, as typed Go clients do.
fn typed(fleet: &Fleet, method: Method, path: &str, object: &Value) -> Result<Value> {
    let what = format!("{method} {path}");
    fleet
        .api
        .send(method, path, PROTOBUF, protobuf::encode(object)?)?
        .ok()
        .context(what)
}

fn create(fleet: &Fleet, set: &Value) -> Result<Value> {
    typed(fleet, Method::POST, &fleet.sets_path(), set)
}

fn delete_options(mut options: Value) -> Value {
    options["apiVersion"] = "v1".into();
    options["kind"] = "DeleteOptions".into();
    options
}

/// Reads the object, changes it and writes it back, again when someone else was faster.
fn update(fleet: &Fleet, path: &str, change: impl Fn(&mut Value)) -> Result<Value> {
    wait_for(&format!("an update of {path} without a conflict"), || {
        let mut object = fleet.api.get(path)?;
        change(&mut object);
        let answer = fleet
            .api
            .send(Method::PUT, path, PROTOBUF, protobuf::encode(&object)?)?;
        match answer.code {
            409 => Ok(Err(answer.body.to_string())),
            _ => answer.ok().map(Ok),
        }
    })
}

//! Clusters over several machines: faults, and the ways to reach their daemons, with real containers, daemons and clients.

mod absence;
mod addresses;
mod alone;
mod cni;
mod control_plane;
mod faults;
mod inside;
mod join;
mod network;
mod ways;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::Path;

use anyhow::Result;
use serde_json::{Value, json};
use testkit::{Fleet, Observer, Pod, Seen, busybox, is_root, report, skip};

/// The daemon of most of these tests: it serves a page that names its pod.
const PAGE: &str = "everynode.local/page:1";
/// Busybox, and a client that finds names in the DNS.
const CURL: &str = "everynode.local/curl:1";
/// Says who answers, over HTTP, on port 8080.
const SERVE: &str = "echo $HOSTNAME > /tmp/index.html; exec httpd -f -p 8080 -h /tmp";
/// Where the page is on every node's own address.
const PORT: u16 = 8080;

/// The binary under test.
fn binary() -> &'static Path {
    Path::new(env!("CARGO_BIN_EXE_everynode"))
}

/// A fleet that has the image [`PAGE`], or nothing where machines cannot be played. `extra` are words for `everynode up`.
fn fleet(nodes: usize, extra: &[&str]) -> Result<Option<Fleet>> {
    if !is_root() {
        skip("machines need root");
        return Ok(None);
    }
    let mut fleet = Fleet::start(binary(), nodes, extra)?;
    let archive = busybox(fleet.topology().folder(), PAGE, &["sh", "-c", SERVE])?;
    fleet.import(&archive)?;
    Ok(Some(fleet))
}

/// The DaemonSet `page` on every node, with what `change` makes of it.
fn page(change: impl FnOnce(&mut Value)) -> Value {
    let labels = json!({"app": "page"});
    let mut set = json!({
        "apiVersion": "apps/v1", "kind": "DaemonSet", "metadata": {"name": "page"},
        "spec": {
            "selector": {"matchLabels": labels},
            "template": {"metadata": {"labels": labels}, "spec": {
                "terminationGracePeriodSeconds": 1,
                "containers": [{
                    "name": "page", "image": PAGE,
                    "ports": [{"containerPort": 8080, "hostPort": PORT}],
                    "readinessProbe": {"httpGet": {"path": "/", "port": 8080}, "periodSeconds": 1},
                }],
            }},
        },
    });
    change(&mut set);
    set
}

/// A client of every node's page, from outside the cluster.
fn watch_pages(fleet: &Fleet) -> Observer {
    Observer::start(fleet.nodes().iter().map(|node| {
        let address = SocketAddr::from((node.machine.address(), PORT));
        (node.machine.name().to_owned(), address)
    }))
}

/// The Service of this name that leads port 80 to the pages, with `more` in its specification.
fn service(name: &str, more: Value) -> Value {
    let mut service = json!({
        "apiVersion": "v1", "kind": "Service", "metadata": {"name": name},
        "spec": {"selector": {"app": "page"}, "ports": [{"port": 80, "targetPort": 8080}]},
    });
    for (field, value) in more.as_object().into_iter().flatten() {
        service["spec"][field] = value.clone();
    }
    service
}

/// What `get` says of an object, or of a list; null when there is none.
fn object(fleet: &Fleet, what: &[&str]) -> Value {
    let said = fleet.client().run(&[&["get"], what, &["-o", "json"]].concat());
    serde_json::from_str(&said.stdout).unwrap_or_default()
}

/// Tells what clients saw during a fault.
fn tell(fault: &str, seen: &BTreeMap<String, Seen>) {
    for (client, seen) in seen {
        report(&format!("{fault}: client of {client}: {seen}"));
    }
}

/// What must not differ when nothing was to restart: a pod, how often its containers began again, and which runs of them there are, since when.
fn identity(pod: &Pod) -> (String, i64, Vec<String>) {
    (pod.uid.clone(), pod.restarts, pod.runs.clone())
}

fn identities(pods: &BTreeMap<String, Pod>) -> BTreeMap<String, (String, i64, Vec<String>)> {
    pods.iter()
        .map(|(node, pod)| (node.clone(), identity(pod)))
        .collect()
}

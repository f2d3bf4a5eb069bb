//! Clusters over several machines: faults, and the ways to reach their daemons, with real containers, daemons and clients.

mod addresses;
mod alone;
mod faults;
mod join;
mod ways;

use std::net::SocketAddr;
use std::path::Path;

use anyhow::Result;
use serde_json::{Value, json};
use testkit::{Fleet, Observer, Pod, busybox, is_root, skip};

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

/// What must not differ when nothing was to restart: a pod, and how often its containers began again.
fn identity(pod: &Pod) -> (String, i64) {
    (pod.uid.clone(), pod.restarts)
}

//! The ways to reach the daemons of a DaemonSet, with real daemons and real clients, over several machines.

mod gatherers;
mod hardware;
mod host_port;
mod names;
mod proxy;
mod push;
mod service;
mod storage;

use std::collections::BTreeMap;
use std::net::SocketAddr;

use anyhow::{Context, Result};
use serde_json::{Value, json};
use testkit::{Client, Fleet, Package, get, kubectls, programs, skip};

const EXPORTER: &str = "quay.io/prometheus/node-exporter:v1.5.0";

/// A Debian package, or nothing, and that is said.
fn package(name: &str) -> Option<Package> {
    let found = Package::find(name);
    if found.is_none() {
        skip(&format!(
            "Debian's {name} is not here: `cargo xtask ci` unpacks it"
        ));
    }
    found
}

/// Imports the exporter of a machine's metrics.
fn import_exporter(fleet: &mut Fleet, package: &Package) -> Result<()> {
    let program = package.file("/usr/bin/prometheus-node-exporter");
    let image = programs(fleet.topology().folder(), EXPORTER, &[&program], &["sh"])?;
    fleet.import(&image)
}

/// A DaemonSet of one container on the network of its pods, with what `change` makes of its pod's specification.
fn daemon(name: &str, image: &str, command: &[&str], change: impl FnOnce(&mut Value)) -> Value {
    let labels = json!({"app": name});
    let mut spec = json!({
        "terminationGracePeriodSeconds": 1,
        "containers": [{"name": "main", "image": image, "command": command}],
    });
    change(&mut spec);
    json!({
        "apiVersion": "apps/v1", "kind": "DaemonSet", "metadata": {"name": name},
        "spec": {
            "selector": {"matchLabels": labels},
            "template": {"metadata": {"labels": labels}, "spec": spec},
        },
    })
}

/// A Service without an address of its own: its name stands for all of its pods.
fn headless(name: &str, ports: Value) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Service", "metadata": {"name": name},
        "spec": {"clusterIP": "None", "selector": {"app": name}, "ports": ports},
    })
}

fn exporter_command(listen: &str) -> [&str; 5] {
    [
        "/usr/bin/prometheus-node-exporter",
        "--collector.disable-defaults",
        "--collector.uname",
        "--collector.loadavg",
        listen,
    ]
}

/// Our own client of the cluster, and every kubectl that there is.
fn clients(fleet: &Fleet) -> Vec<Client> {
    let kubeconfig = fleet.kubeconfig();
    let others = kubectls();
    let others = others.iter().map(|kubectl| Client::new(kubectl, &kubeconfig));
    [fleet.client()].into_iter().chain(others).collect()
}

/// The ready daemons of `app` are asked for `path` at their nodes' addresses; the answers by node.
fn at_nodes(fleet: &Fleet, port: u16, path: &str) -> Result<BTreeMap<String, String>> {
    let answers = fleet.nodes().iter().map(|node| {
        let name = node.machine.name();
        let address = SocketAddr::from((node.machine.address(), port));
        let answer = get(address, path).with_context(|| format!("ask {name}"))?;
        Ok((name.to_owned(), answer))
    });
    answers.collect()
}

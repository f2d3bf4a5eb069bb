//! A node whose pods' network is that of the machine's own plugins, with those that Debian packages: bridge, host-local and portmap.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use testkit::{Fleet, Pod, eventually, programs, skip, wait_for};

use crate::{CURL, PAGE, fleet};

/// The plugins' configuration, on the machine's own disk.
const FOLDER: &str = "/var/lib/net.d";
const FLAGS: [&str; 3] = ["--cni", "--cni-conf-dir", FOLDER];
/// Where host-local writes down which addresses it has given, one file each.
const GIVEN: &str = "/var/lib/cni/networks/pods";
/// What the kubelet says of a node without a network.
const NOT_READY: &str = "container runtime network not ready: NetworkReady=false reason:NetworkPluginNotReady \
                         message:Network plugin returns error: cni plugin not initialized";
const HOST_PORT: u16 = 8080;

/// The network `pods`: a bridge, addresses of both families, and host ports if `ports`.
fn network(range: &str, ports: bool) -> Value {
    let bridge = json!({
        "type": "bridge", "bridge": "pods0", "isGateway": true, "ipMasq": true, "hairpinMode": true,
        "ipam": {
            "type": "host-local",
            "ranges": [[{"subnet": range}], [{"subnet": "fd99:7::/64"}]],
            "routes": [{"dst": "0.0.0.0/0"}, {"dst": "::/0"}],
        },
    });
    let portmap = json!({"type": "portmap", "capabilities": {"portMappings": true}});
    let plugins = if ports {
        vec![bridge, portmap]
    } else {
        vec![bridge]
    };
    json!({"cniVersion": "1.0.0", "name": "pods", "plugins": plugins})
}

/// A pod of node-2 that serves a page at a port of the node, and can ask for others.
fn pod(name: &str, host_port: Option<u16>) -> Value {
    let mut page = json!({"name": "page", "image": PAGE, "readinessProbe": {"httpGet": {"path": "/", "port": 8080}, "periodSeconds": 1}});
    page["ports"] = json!([{"containerPort": 8080}]);
    if let Some(port) = host_port {
        page["ports"][0]["hostPort"] = port.into();
    }
    let asks = json!({"name": "asks", "image": CURL, "command": ["sleep", "86400"]});
    json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "labels": {"app": name}},
        "spec": {"nodeName": "node-2", "terminationGracePeriodSeconds": 0, "containers": [page, asks]},
    })
}

/// A plain node, and one whose network is plugins'; none is configured yet.
fn stage() -> Result<Option<Fleet>> {
    if !Path::new("/usr/lib/cni/bridge").exists() || !Path::new("/usr/sbin/iptables").exists() {
        skip("the plugins are Debian's containernetworking-plugins, and want iptables");
        return Ok(None);
    }
    let Some(mut fleet) = fleet(1, &[])? else {
        return Ok(None);
    };
    let curl = programs(
        fleet.topology().folder(),
        CURL,
        &[Path::new("/usr/bin/curl")],
        &["sh"],
    )?;
    fleet.import(&curl)?;
    fleet.join(&FLAGS)?;
    Ok(Some(fleet))
}

fn configure(fleet: &Fleet, network: &Value) -> Result<()> {
    let folder = fleet.nodes()[1].machine.file(FOLDER);
    fs::create_dir_all(&folder)?;
    // Whole at once: the agent looks at it meanwhile.
    let written = folder.join("10-pods.conflist.new");
    fs::write(&written, network.to_string())?;
    fs::rename(&written, folder.join("10-pods.conflist"))?;
    Ok(())
}

/// The addresses that host-local has given, and not taken back.
fn given(fleet: &Fleet) -> Result<BTreeSet<String>> {
    let folder = fleet.nodes()[1].machine.file(GIVEN);
    let Ok(entries) = fs::read_dir(&folder) else {
        return Ok(BTreeSet::new());
    };
    let mut names = BTreeSet::new();
    for entry in entries {
        let name = entry?.file_name().to_string_lossy().into_owned();
        if !name.starts_with("last_reserved") && name != "lock" {
            names.insert(name);
        }
    }
    Ok(names)
}

fn addresses(fleet: &Fleet, name: &str) -> Result<Vec<String>> {
    let object = fleet.client().ok(&["get", "pod", name, "-o", "json"]);
    let object: Value = serde_json::from_str(&object)?;
    let list = object["status"]["podIPs"].as_array().context("its addresses")?;
    let text = |ip: &Value| ip["ip"].as_str().map(str::to_owned).context("an address");
    list.iter().map(text).collect()
}

/// What a pod of node-2 gets.
fn ask(fleet: &Fleet, name: &str, url: &str) -> Result<String> {
    let words = [
        "exec",
        name,
        "-c",
        "asks",
        "--",
        "curl",
        "-ksS",
        "--max-time",
        "10",
        url,
    ];
    let output = fleet.client().run(&words);
    ensure!(output.success, "{name} asks {url}: {}", output.stderr);
    Ok(output.stdout.trim().to_owned())
}

/// The page at a port of node-2, asked for on one of the machines.
fn at_node(fleet: &Fleet, from: usize, host: &str, port: u16) -> Result<String, String> {
    let url = format!("http://{host}:{port}/");
    let output = fleet.nodes()[from - 1].run(&["timeout", "10", "busybox", "wget", "-qO-", &url]);
    match output.success {
        true => Ok(output.stdout.trim().to_owned()),
        false => Err(format!("node-{from} asks {url}: {}", output.stderr)),
    }
}

fn node_condition(fleet: &Fleet) -> Result<(String, String)> {
    let node = fleet.client().run(&["get", "node", "node-2", "-o", "json"]);
    let node: Value = serde_json::from_str(&node.stdout).unwrap_or_default();
    let conditions = node["status"]["conditions"].as_array().into_iter().flatten();
    let ready = conditions
        .into_iter()
        .find(|condition| condition["type"] == "Ready");
    let text = |field: &str| {
        ready
            .and_then(|ready| ready[field].as_str())
            .unwrap_or_default()
            .to_owned()
    };
    Ok((text("status"), text("message")))
}

fn wait_for_event(fleet: &Fleet, reason: &str, words: &str) -> Result<()> {
    wait_for(&format!("the event {reason}"), || {
        let events = fleet.client().run(&["get", "events", "-o", "json"]);
        let events: Value = serde_json::from_str(&events.stdout).unwrap_or_default();
        let list: Vec<String> = events["items"]
            .as_array()
            .into_iter()
            .flatten()
            .filter(|event| event["reason"] == reason)
            .filter_map(|event| event["message"].as_str().map(str::to_owned))
            .collect();
        Ok(match list.iter().any(|message| message.contains(words)) {
            true => Ok(()),
            false => Err(list.join("\n")),
        })
    })
}

fn the_only(fleet: &mut Fleet, app: &str) -> Result<Pod> {
    fleet.running(app, 1)?.remove("node-2").context("a pod of node-2")
}

#[test]
fn a_node_waits_for_its_plugins_and_says_what_is_wrong_with_them() -> Result<()> {
    let Some(mut fleet) = stage()? else {
        return Ok(());
    };
    wait_for("node-2 not to be Ready", || {
        let (status, message) = node_condition(&fleet)?;
        Ok(match status == "False" && message.starts_with(NOT_READY) {
            true => Ok(()),
            false => Err(format!("{status} {message}")),
        })
    })?;
    fleet.apply(&pod("web", None));
    wait_for_event(
        &fleet,
        "NetworkNotReady",
        &format!("network is not ready: {NOT_READY}"),
    )?;

    // The event repeats the plugin's message about a mistake in its configuration.
    configure(&fleet, &network("10.99.7.0", true))?;
    fleet.ready(2)?;
    wait_for_event(
        &fleet,
        "FailedCreatePodSandBox",
        "plugin type=\"bridge\" failed (add): invalid CIDR address: 10.99.7.0",
    )?;
    configure(&fleet, &network("10.99.7.0/24", true))?;
    let web = the_only(&mut fleet, "web")?;
    ensure!(web.address.starts_with("10.99.7."), "{web:?}");
    Ok(())
}

#[test]
fn pods_of_plugins_are_pods_like_others() -> Result<()> {
    let Some(mut fleet) = stage()? else {
        return Ok(());
    };
    configure(&fleet, &network("10.99.7.0/24", true))?;
    fleet.ready(2)?;
    fleet.apply(&pod("web", Some(HOST_PORT)));
    fleet.apply(&pod("client", None));
    fleet.apply(&json!({
        "apiVersion": "v1", "kind": "Service", "metadata": {"name": "web"},
        "spec": {"selector": {"app": "web"}, "ports": [{"port": 80, "targetPort": 8080}]},
    }));
    let web = the_only(&mut fleet, "web")?;
    let client = the_only(&mut fleet, "client")?;
    let own = addresses(&fleet, "web")?;
    ensure!(
        own.len() == 2 && own[0].starts_with("10.99.7.") && own[1].starts_with("fd99:7::"),
        "{own:?}"
    );
    let expected: BTreeSet<String> = own.iter().cloned().chain(addresses(&fleet, "client")?).collect();
    ensure!(
        given(&fleet)? == expected,
        "host-local gave {:?}, pods have {expected:?}",
        given(&fleet)?
    );

    // Names, Services and the API server, from a pod, to a pod beside it and to itself.
    for asks in ["client", "web"] {
        eventually("the Service to lead to its pod", || {
            Ok(ask(&fleet, asks, "http://web.default.svc.cluster.local/").is_ok_and(|page| page == "web"))
        })?;
    }
    let version = ask(
        &fleet,
        "client",
        "https://kubernetes.default.svc.cluster.local/version",
    )?;
    ensure!(version.contains("gitVersion"), "{version}");
    ensure!(ask(&fleet, "client", &format!("http://[{}]:8080/", own[1]))? == "web");

    // The port of the node, from another machine, from the node itself and from a pod.
    let node = fleet.nodes()[1].machine.address().to_string();
    for (from, host) in [(1, &*node), (2, &*node), (2, "127.0.0.1")] {
        let page = at_node(&fleet, from, host, HOST_PORT).map_err(anyhow::Error::msg)?;
        ensure!(page == "web", "{page}");
    }
    ensure!(ask(&fleet, "client", &format!("http://{node}:{HOST_PORT}/"))? == "web");

    // An agent that is killed and started again finds its pods, and they all that they had.
    fleet.node(2).restart()?;
    eventually("the new agent to answer for its pods", || {
        Ok(ask(&fleet, "client", "http://web.default.svc.cluster.local/").is_ok_and(|page| page == "web"))
    })?;
    ensure!(the_only(&mut fleet, "web")? == web && the_only(&mut fleet, "client")? == client);
    ensure!(given(&fleet)? == expected);

    // What is deleted goes back to the plugins.
    fleet.client().ok(&["delete", "pod", "web"]);
    eventually("the pod's addresses to be free", || Ok(given(&fleet)?.len() == 2))?;
    ensure!(
        at_node(&fleet, 1, &node, HOST_PORT).is_err(),
        "nobody is left at the port"
    );

    // So does what was lost with the power, once somebody can say so.
    fleet.node(2).reboot()?;
    let after = the_only(&mut fleet, "client")?;
    ensure!(after.uid == client.uid, "{after:?}");
    eventually("the addresses of before to be free", || {
        // The pod has none until it is made again.
        let own: BTreeSet<String> = addresses(&fleet, "client")
            .unwrap_or_default()
            .into_iter()
            .collect();
        Ok(!own.is_empty() && own == given(&fleet)?)
    })?;

    // Without a plugin for ports the node leads them itself.
    configure(&fleet, &network("10.99.7.0/24", false))?;
    fleet.apply(&pod("plain", Some(HOST_PORT)));
    the_only(&mut fleet, "plain")?;
    for (from, host) in [(1, &*node), (2, &*node), (2, "127.0.0.1")] {
        let page = at_node(&fleet, from, host, HOST_PORT).map_err(anyhow::Error::msg)?;
        ensure!(page == "plain", "{page}");
    }
    ensure!(ask(&fleet, "client", &format!("http://{node}:{HOST_PORT}/"))? == "plain");
    fleet.client().ok(&["delete", "pod", "plain"]);
    eventually("the port to be nobody's", || {
        Ok(at_node(&fleet, 1, &node, HOST_PORT).is_err())
    })?;
    Ok(())
}

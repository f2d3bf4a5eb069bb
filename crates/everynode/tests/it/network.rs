//! Pods of many nodes reach each other with their own addresses: over a common link, through routers, in both families.

use std::collections::BTreeMap;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use testkit::{Api, Fleet, eventually};

const IMAGE: &str = "everynode.local/who:1";
/// Answers who asks, and has a page that does not fit in one packet.
const SERVE: &str = "mkdir -p /tmp/www/cgi-bin; \
    printf '#!/bin/sh\\nprintf \"Content-type: text/plain\\\\r\\\\n\\\\r\\\\n$REMOTE_ADDR\"\\n' > /tmp/www/cgi-bin/who; \
    chmod +x /tmp/www/cgi-bin/who; head -c 200000 /dev/zero > /tmp/www/large; \
    exec httpd -f -p 8080 -h /tmp/www";
const HOST_PORT: u16 = 18080;

fn daemon() -> Value {
    let labels = json!({"app": "who"});
    json!({
        "apiVersion": "apps/v1", "kind": "DaemonSet", "metadata": {"name": "who", "namespace": "default"},
        "spec": {
            "selector": {"matchLabels": labels},
            "template": {"metadata": {"labels": labels}, "spec": {
                "terminationGracePeriodSeconds": 0,
                "containers": [{
                    "name": "who", "image": IMAGE, "command": ["sh", "-c", SERVE],
                    "ports": [{"containerPort": 8080, "hostPort": HOST_PORT}],
                    "readinessProbe": {"httpGet": {"path": "/cgi-bin/who", "port": 8080}, "periodSeconds": 1},
                }],
            }},
        },
    })
}

/// Two nodes on a link and one behind a router; every node has a range of each family.
fn fleet() -> Result<Option<Fleet>> {
    if !testkit::is_root() {
        return Ok(None);
    }
    let families = ["--cluster-cidr", "10.244.0.0/16,fd00:10:244::/56"];
    let mut fleet = Fleet::start(super::binary(), 2, &families)?;
    fleet.join_on(1, &[])?;
    fleet.ready(3)?;
    let folder = fleet.topology().folder().to_owned();
    let image = testkit::busybox(&folder, IMAGE, &["sh"])?;
    fleet.import(&image)?;
    fleet.apply(&daemon());
    fleet.running("who", 3)?;
    Ok(Some(fleet))
}

/// Names and addresses of the daemon's pods, by node.
fn pods(fleet: &Fleet) -> Result<BTreeMap<String, (String, Vec<String>)>> {
    let pods = Api::connect(&fleet.kubeconfig())?.items("/api/v1/namespaces/default/pods")?;
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let pod = |pod: &Value| {
        let addresses = pod["status"]["podIPs"].as_array().into_iter().flatten();
        let addresses = addresses.map(|address| text(&address["ip"])).collect();
        (
            text(&pod["spec"]["nodeName"]),
            (text(&pod["metadata"]["name"]), addresses),
        )
    };
    Ok(pods.iter().map(pod).collect())
}

fn url(host: &str, port: u16, path: &str) -> String {
    match host.contains(':') {
        true => format!("http://[{host}]:{port}/{path}"),
        false => format!("http://{host}:{port}/{path}"),
    }
}

/// What a pod gets from an address; the error is what it was told.
fn fetch(fleet: &Fleet, pod: &str, url: &str) -> Result<String> {
    let words = ["exec", pod, "--", "timeout", "10", "wget", "-qO-", url];
    let output = fleet.client().run(&words);
    ensure!(output.success, "{pod} asks {url}: {}", output.stderr);
    Ok(output.stdout)
}

fn routes(fleet: &Fleet, node: usize) -> String {
    let routes = |family| {
        fleet.nodes()[node - 1]
            .run(&["ip", family, "route", "show", "proto", "110"])
            .stdout
    };
    routes("-4") + &routes("-6")
}

#[test]
fn pods_of_all_nodes_see_each_other_with_their_own_addresses() -> Result<()> {
    let Some(mut fleet) = fleet()? else {
        return Ok(());
    };
    let by_node = pods(&fleet)?;
    for (from, (pod, own)) in &by_node {
        for (to, (_, addresses)) in &by_node {
            ensure!(addresses.len() == 2, "{to} has {addresses:?}");
            for (own, address) in own.iter().zip(addresses) {
                let seen = fetch(&fleet, pod, &url(address, 8080, "cgi-bin/who"))?;
                ensure!(
                    seen.contains(own),
                    "{to} sees {seen:?} and not {own}, the pod of {from}"
                );
                let large = fetch(&fleet, pod, &url(address, 8080, "large"))?;
                ensure!(large.len() == 200_000, "from {to} to {from} came {}", large.len());
            }
        }
    }
    the_ways_are_the_right_ones(&fleet)?;
    nodes_and_known_ports(&fleet, &by_node)?;
    services_of_both_families(&fleet, &by_node)?;
    what_is_removed_comes_back(&fleet, &by_node)?;

    // An agent that is killed and started again finds all as it was.
    fleet.node(2).restart()?;
    eventually("node-2 to have its routes and its pod", || {
        let pod = &by_node["node-1"].0;
        let address = &by_node["node-2"].1[0];
        Ok(fetch(&fleet, pod, &url(address, 8080, "cgi-bin/who")).is_ok()
            && routes(&fleet, 2).lines().count() == 4)
    })?;
    ensure!(pods(&fleet)? == by_node, "the pods are others now");

    // A node that goes takes its routes with it.
    fleet.node(3).machine.kill()?;
    fleet.client().ok(&["delete", "node", "node-3"]);
    let gone = &by_node["node-3"].1[0];
    let range = gone.rsplit_once('.').context("an IPv4 address")?.0;
    eventually("the routes to node-3 to go", || {
        Ok(!routes(&fleet, 1).contains(range))
    })?;
    Ok(())
}

/// Over the link as they are, through the router and where the other node has no address of the family, wrapped.
fn the_ways_are_the_right_ones(fleet: &Fleet) -> Result<()> {
    let (second, routes) = (fleet.nodes()[1].machine.address(), routes(fleet, 1));
    let lines: Vec<&str> = routes.lines().collect();
    let wrapped = lines.iter().filter(|line| line.contains(" dev vxlan-")).count();
    let direct = lines
        .iter()
        .filter(|line| line.contains(&format!("via {second} dev eth0")));
    ensure!(
        lines.len() == 4 && wrapped == 3 && direct.count() == 1,
        "{routes}"
    );
    Ok(())
}

fn nodes_and_known_ports(fleet: &Fleet, by_node: &BTreeMap<String, (String, Vec<String>)>) -> Result<()> {
    let (pod, own) = &by_node["node-1"];
    for node in fleet.nodes() {
        let name = node.machine.name();
        for address in [
            node.machine.address().to_string(),
            node.machine.address_v6().to_string(),
        ] {
            let url = url(&address, HOST_PORT, "cgi-bin/who");
            // From another machine, from the test's own host, and from a pod.
            for asker in fleet.nodes().iter().filter(|other| other.machine.name() != name) {
                let got = asker.run(&["timeout", "10", "busybox", "wget", "-qO-", &url]);
                ensure!(got.success, "{} asks {url}: {}", asker.machine.name(), got.stderr);
            }
            let seen = fetch(fleet, pod, &url)?;
            // The one on the link knows the way back to the pod.
            let keeps = name == "node-2" && !address.contains(':');
            ensure!(!keeps || seen.contains(&own[0]), "{name} sees {seen}");
        }
        let local = url("127.0.0.1", HOST_PORT, "cgi-bin/who");
        let got = node.run(&["timeout", "10", "busybox", "wget", "-qO-", &local]);
        ensure!(got.success, "{name} asks {local}: {}", got.stderr);
        for (_, addresses) in by_node.values() {
            for address in addresses {
                let url = url(address, 8080, "cgi-bin/who");
                let got = node.run(&["timeout", "10", "busybox", "wget", "-qO-", &url]);
                ensure!(got.success, "node {name} asks {url}: {}", got.stderr);
            }
        }
    }
    Ok(())
}

/// A Service of both families answers by both addresses, by both kinds of record, and by its port of every node; what it gives back is
/// gone.
fn services_of_both_families(fleet: &Fleet, by_node: &BTreeMap<String, (String, Vec<String>)>) -> Result<()> {
    const NODE_PORT: u16 = 30_080;
    const NAME: &str = "both.default.svc.cluster.local";
    fleet.apply(&json!({
        "apiVersion": "v1", "kind": "Service", "metadata": {"name": "both", "namespace": "default"},
        "spec": {
            "type": "NodePort", "ipFamilyPolicy": "RequireDualStack", "selector": {"app": "who"},
            "ports": [{"port": 80, "targetPort": 8080, "nodePort": NODE_PORT}],
        },
    }));
    let api = Api::connect(&fleet.kubeconfig())?;
    let path = "/api/v1/namespaces/default/services/both";
    let ips = |service: &Value| -> Vec<String> {
        let ips = service["spec"]["clusterIPs"].as_array().into_iter().flatten();
        ips.filter_map(Value::as_str).map(str::to_owned).collect()
    };
    let addresses = ips(&api.get(path)?);
    let [four, six] = &addresses[..] else {
        anyhow::bail!("it has {addresses:?}");
    };
    ensure!(six.starts_with("fd00:10:96::"), "{six}");
    let slices = || -> Result<BTreeMap<String, usize>> {
        let slices = api.items(
            "/apis/discovery.k8s.io/v1/namespaces/default/endpointslices?labelSelector=kubernetes.io/service-name%3Dboth",
        )?;
        let of_family = |slice: &Value| {
            let endpoints = slice["endpoints"].as_array().map_or(0, Vec::len);
            (
                slice["addressType"].as_str().unwrap_or_default().to_owned(),
                endpoints,
            )
        };
        Ok(slices.iter().map(of_family).collect())
    };
    eventually("endpoints of each family", || {
        Ok(slices()? == [("IPv4".to_owned(), 3), ("IPv6".to_owned(), 3)].into())
    })?;
    let older = api.get("/api/v1/namespaces/default/endpoints/both")?.to_string();
    ensure!(
        !older.contains("fd00:"),
        "Endpoints are of the first family: {older}"
    );

    let look_up = |pod: &str, words: &[&str]| {
        let all: Vec<&str> = ["exec", pod, "--", "timeout", "10", "nslookup"]
            .iter()
            .chain(words)
            .copied()
            .collect();
        fleet.client().run(&all).stdout
    };
    for (node, (pod, _)) in by_node {
        for address in &addresses {
            eventually(&format!("{address} to answer on {node}"), || {
                Ok(fetch(fleet, pod, &url(address, 80, "cgi-bin/who")).is_ok())
            })?;
        }
        // Whom the pod asks by itself, and the same server at its other address.
        for server in [&[][..], &["fd00:10:96::a"], &["10.96.0.10"]] {
            let words: Vec<&str> = [NAME].iter().chain(server).copied().collect();
            let told = look_up(pod, &words);
            ensure!(
                told.contains(four) && told.contains(six),
                "{node} at {server:?} hears {told}"
            );
        }
        for address in &addresses {
            let told = look_up(pod, &[address]);
            ensure!(
                told.contains(NAME),
                "{node} asks whose {address} is and hears {told}"
            );
        }
    }
    let pod = &by_node["node-1"].0;
    for node in fleet.nodes() {
        for address in [
            node.machine.address().to_string(),
            node.machine.address_v6().to_string(),
        ] {
            let url = url(&address, NODE_PORT, "cgi-bin/who");
            for asker in fleet.nodes() {
                let got = asker.run(&["timeout", "10", "busybox", "wget", "-qO-", &url]);
                ensure!(got.success, "{} asks {url}: {}", asker.machine.name(), got.stderr);
            }
            fetch(fleet, pod, &url)?;
        }
    }

    let single = json!({"spec": {"ipFamilyPolicy": "SingleStack"}});
    let single = api.patch(path, "application/merge-patch+json", &single)?;
    ensure!(ips(&single) == [four.as_str()], "{single}");
    eventually("the second family to go", || {
        let told = look_up(pod, &[NAME]);
        Ok(slices()? == [("IPv4".to_owned(), 3)].into() && told.contains(four) && !told.contains(six))
    })?;
    fetch(fleet, pod, &url(four, 80, "cgi-bin/who"))?;
    ensure!(
        fetch(fleet, pod, &url(six, 80, "cgi-bin/who")).is_err(),
        "{six} still answers"
    );
    fleet.client().ok(&["delete", "service", "both"]);
    Ok(())
}

fn what_is_removed_comes_back(
    fleet: &Fleet,
    by_node: &BTreeMap<String, (String, Vec<String>)>,
) -> Result<()> {
    let first = &fleet.nodes()[0];
    let before = routes(fleet, 1);
    ensure!(first.run(&["ip", "-4", "route", "flush", "proto", "110"]).success);
    let links = first.run(&["ip", "-o", "link", "show", "type", "vxlan"]).stdout;
    let tunnel = links.split(": ").nth(1).context("a tunnel")?.to_owned();
    ensure!(first.run(&["ip", "link", "delete", &tunnel]).success);
    eventually("the routes to come back", || {
        let sorted = |text: &str| {
            let mut lines: Vec<String> = text.lines().map(|line| line.trim().to_owned()).collect();
            lines.sort();
            lines
        };
        Ok(sorted(&routes(fleet, 1)) == sorted(&before))
    })?;
    for node in ["node-2", "node-3"] {
        for address in &by_node[node].1 {
            fetch(fleet, &by_node["node-1"].0, &url(address, 8080, "cgi-bin/who"))?;
        }
    }
    // What others have made stays.
    ensure!(!first.run(&["ip", "route", "show", "default"]).stdout.is_empty());
    Ok(())
}

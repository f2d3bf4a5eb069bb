//! The pods' network when the machines around it change, and ports of nodes as other machines see them.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use serde_json::{Value, json};
use testkit::topology::{Machine, Program};
use testkit::{Client, Fleet, Output, Pod, eventually, programs, skip, wait_for};

use crate::{PAGE, binary, fleet, page};

const UDP: u16 = 9000;
const TCP: u16 = 8081;
const ECHO: &str = "everynode.local/echo:1";
/// Answers every packet with the pod's name.
const SERVE: &str = r#"socket(S,2,2,0); bind(S,pack("Snx12",2,9000)) or die;
while(defined($from=recv(S,$text,99,0))){send(S,$ENV{HOSTNAME},0,$from)}"#;
/// Sends a packet and prints what comes back.
const ASK: &str = r#"use IO::Socket::INET; alarm 5; $s = IO::Socket::INET->new(Proto => "udp", PeerAddr => "TO") or die;
$s->send("?"); defined($s->recv($text, 99)) or die "nothing came"; print $text"#;
/// Where the second instance keeps its data, on each machine.
const OTHER: &str = "/var/lib/other";
const OTHER_PORT: u16 = 7443;

/// The page on every node, at the pods' addresses alone.
fn pages() -> Value {
    page(|set| {
        let container = &mut set["spec"]["template"]["spec"]["containers"][0];
        container["ports"] = json!([{"containerPort": 8080}]);
    })
}

/// A pod of node-2 with one port of the node.
fn pod(name: &str, image: &str, command: &[&str], port: &Value) -> Value {
    let mut container = json!({"name": "main", "image": image, "ports": [port]});
    match command {
        [] => {
            container["readinessProbe"] = json!({"httpGet": {"path": "/", "port": 8080}, "periodSeconds": 1})
        }
        words => container["command"] = json!(words),
    }
    json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "labels": {"app": name}},
        "spec": {"nodeName": "node-2", "terminationGracePeriodSeconds": 0, "containers": [container]},
    })
}

/// What a pod gets from another one.
fn fetch(client: &Client, pod: &str, address: &str) -> Output {
    let url = format!("http://{address}:8080/");
    client.run(&["exec", pod, "--", "timeout", "5", "wget", "-qO-", &url])
}

/// Waits until every pod reaches every other one.
fn reach_each_other(client: &Client, pods: &BTreeMap<String, Pod>) -> Result<()> {
    for from in pods.values() {
        for to in pods.values() {
            wait_for(
                &format!("{} to reach {} at {}", from.name, to.name, to.address),
                || {
                    let got = fetch(client, &from.name, &to.address);
                    Ok(if got.stdout.trim() == to.name {
                        Ok(())
                    } else {
                        Err(format!("{}{}", got.stdout, got.stderr))
                    })
                },
            )?;
        }
    }
    Ok(())
}

/// What a machine gets at `http://HOST:PORT/`.
fn at(machine: &Machine, host: &str, port: u16) -> Option<String> {
    let url = format!("http://{host}:{port}/");
    let got = machine.run(&["timeout", "5", "busybox", "wget", "-qO-", &url]);
    got.success.then(|| got.stdout.trim().to_owned())
}

fn internal_ip(fleet: &Fleet, node: &str) -> Result<String> {
    let node = fleet.client().run(&["get", "node", node, "-o", "json"]);
    let node: Value = serde_json::from_str(&node.stdout).unwrap_or_default();
    let addresses = node["status"]["addresses"].as_array().into_iter().flatten();
    let own = addresses
        .into_iter()
        .find(|address| address["type"] == "InternalIP");
    let own = own.and_then(|own| own["address"].as_str());
    Ok(own.unwrap_or_default().to_owned())
}

#[test]
fn a_node_that_gets_another_address_is_reached_at_it() -> Result<()> {
    let Some(mut fleet) = fleet(2, &[])? else {
        return Ok(());
    };
    // Behind a router, so that its pods are reached through a tunnel.
    fleet.join_on(1, &[])?;
    fleet.ready(3)?;
    fleet.apply(&pages());
    let pods = fleet.running("page", 3)?;
    reach_each_other(&fleet.client(), &pods)?;
    for number in [2, 3] {
        let machine = &fleet.nodes()[number - 1].machine;
        let old = machine.address();
        let [a, b, c, d] = old.octets();
        let new = std::net::Ipv4Addr::new(a, b, c, d + 20);
        let routes = machine.run(&["ip", "route", "show", "default"]).stdout;
        let router = routes.split_whitespace().nth(2).context("a default route")?;
        let change = format!(
            "ip address del {old}/26 dev eth0; ip address add {new}/26 dev eth0 && ip route add default via {router}"
        );
        let changed = machine.run(&["sh", "-c", &change]);
        ensure!(changed.success, "{change}: {}", changed.stderr);
        let name = format!("node-{number}");
        wait_for(&format!("{name} to say its new address"), || {
            let told = internal_ip(&fleet, &name)?;
            Ok(if told == new.to_string() {
                Ok(())
            } else {
                Err(told)
            })
        })?;
        fleet.ready(3)?;
        reach_each_other(&fleet.client(), &pods)?;
        ensure!(fleet.running("page", 3)? == pods, "the pods are others now");
    }
    Ok(())
}

#[test]
fn a_port_of_a_node_may_be_of_udp_and_of_one_address_alone() -> Result<()> {
    let perl = Path::new("/usr/bin/perl");
    if !perl.exists() {
        skip("a daemon that speaks UDP needs perl");
        return Ok(());
    }
    let Some(mut fleet) = fleet(2, &[])? else {
        return Ok(());
    };
    let image = programs(fleet.topology().folder(), ECHO, &[perl], &["sh"])?;
    fleet.import(&image)?;
    let node = fleet.nodes()[1].machine.address().to_string();
    let port = json!({"containerPort": UDP, "hostPort": UDP, "protocol": "UDP"});
    fleet.apply(&pod("talk", ECHO, &["perl", "-e", SERVE], &port));
    for (name, host) in [("outside", node.as_str()), ("inside", "127.0.0.1")] {
        let port = json!({"containerPort": 8080, "hostPort": TCP, "hostIP": host});
        fleet.apply(&pod(name, PAGE, &[], &port));
    }
    for name in ["talk", "outside", "inside"] {
        fleet.running(name, 1)?;
    }
    let [first, second] = [0, 1].map(|number| &fleet.nodes()[number].machine);
    for (machine, host) in [(first, &*node), (second, &*node), (second, "127.0.0.1")] {
        let ask = ASK.replace("TO", &format!("{host}:{UDP}"));
        wait_for(
            &format!("{} to be answered at {host} over UDP", machine.name()),
            || {
                let got = machine.run(&["perl", "-e", &ask]);
                Ok(if got.stdout.starts_with("talk") {
                    Ok(())
                } else {
                    Err(format!("{}{}", got.stdout, got.stderr))
                })
            },
        )?;
    }
    ensure!(at(first, &node, TCP).as_deref() == Some("outside"));
    ensure!(at(second, &node, TCP).as_deref() == Some("outside"));
    ensure!(at(second, "127.0.0.1", TCP).as_deref() == Some("inside"));
    let v6 = fleet.nodes()[1].machine.address_v6();
    ensure!(
        at(first, &format!("[{v6}]"), TCP).is_none(),
        "nobody is at its other address"
    );
    Ok(())
}

/// A second cluster on the machines of a fleet, with data and addresses of its own.
struct Other {
    client: Client,
    kubeconfig: PathBuf,
    /// Dropped, they end.
    programs: Vec<Program>,
}

impl Other {
    fn start(fleet: &Fleet) -> Result<Self> {
        let [first, second] = [0, 1].map(|number| &fleet.nodes()[number].machine);
        let program = binary().display().to_string();
        let listen = format!("{}:{OTHER_PORT}", first.address());
        let own = ["--data-dir", OTHER, "--pod-network", "vxlan"];
        let up = [
            &program,
            "up",
            "--listen",
            &listen,
            "--cluster-cidr",
            "10.245.0.0/16",
        ];
        let mut other = Other {
            kubeconfig: first.file(&format!("{OTHER}/admin.kubeconfig")),
            client: Client::new(binary(), &first.file(&format!("{OTHER}/admin.kubeconfig"))),
            programs: vec![first.start("other", &[&up[..], &own].concat())?],
        };
        eventually("the other server to answer", || {
            Ok(other.kubeconfig.exists() && other.client.run(&["get", "--raw", "/readyz"]).success)
        })?;
        let said = other.client.run(&["token", "create"]).stdout;
        let words: Vec<&str> = said.split_whitespace().filter(|word| *word != "\\").collect();
        let verb = words
            .iter()
            .position(|word| *word == "agent")
            .context("a command to join with")?;
        let agent = [&[&*program], &words[verb..], &own].concat();
        other.programs.push(second.start("other", &agent)?);
        let archive = testkit::busybox(fleet.topology().folder(), PAGE, &["sh", "-c", crate::SERVE])?;
        for machine in [first, second] {
            let words = [
                &program,
                "image",
                "import",
                "--data-dir",
                OTHER,
                &archive.display().to_string(),
            ];
            let done = machine.run(&words);
            ensure!(done.success, "{words:?}: {}", done.stderr);
        }
        Ok(other)
    }

    fn pages(&self) -> Result<BTreeMap<String, Pod>> {
        let applied = self
            .client
            .run_with_input(&["apply", "-f", "-"], &pages().to_string());
        ensure!(applied.success, "{}", applied.stderr);
        wait_for("the other cluster's pages to run", || {
            let listed = self.client.run(&["get", "pods", "-l", "app=page", "-o", "json"]);
            let list: Value = serde_json::from_str(&listed.stdout).unwrap_or_default();
            let items: &[Value] = list["items"].as_array().map_or(&[], Vec::as_slice);
            let pods: BTreeMap<String, Pod> = items.iter().filter_map(Pod::running).collect();
            Ok(if pods.len() == 2 {
                Ok(pods)
            } else {
                Err(listed.stdout)
            })
        })
    }
}

#[test]
fn two_instances_with_tunnels_share_their_machines() -> Result<()> {
    let wrapped = ["--pod-network", "vxlan"];
    let Some(mut fleet) = fleet(1, &wrapped)? else {
        return Ok(());
    };
    fleet.join(&wrapped)?;
    fleet.ready(2)?;
    fleet.apply(&pages());
    let pods = fleet.running("page", 2)?;
    reach_each_other(&fleet.client(), &pods)?;
    let mut other = Other::start(&fleet)?;
    let others = other.pages()?;
    reach_each_other(&other.client, &others)?;
    reach_each_other(&fleet.client(), &pods)?;
    let tunnels = |number: usize| -> Result<usize> {
        let links = fleet.nodes()[number].run(&["ip", "-o", "link", "show", "type", "vxlan"]);
        Ok(links.stdout.lines().count())
    };
    ensure!(tunnels(0)? == 2 && tunnels(1)? == 2, "one device an instance");

    // What one leaves is nothing of the other's.
    let mut agent = other.programs.pop().context("the other agent")?;
    agent.kill()?;
    let program = binary().display().to_string();
    let left = fleet.nodes()[1].run(&[&program, "agent", "--clean-up", "--data-dir", OTHER]);
    if !left.success {
        bail!("clean up: {}{}", left.stdout, left.stderr);
    }
    ensure!(tunnels(1)? == 1, "its device is gone, and the other's is not");
    reach_each_other(&fleet.client(), &pods)
}

#[test]
fn pods_reach_each_other_where_iptables_drops_what_is_forwarded() -> Result<()> {
    if !Path::new("/usr/sbin/iptables").exists() {
        skip("iptables is not installed");
        return Ok(());
    }
    let Some(mut fleet) = fleet(2, &[])? else {
        return Ok(());
    };
    fleet.apply(&pages());
    let pods = fleet.running("page", 2)?;
    reach_each_other(&fleet.client(), &pods)?;
    // As Docker does when it starts.
    let second = &fleet.nodes()[1].machine;
    let dropped = second.run(&["iptables", "-P", "FORWARD", "DROP"]);
    ensure!(dropped.success, "{}", dropped.stderr);
    reach_each_other(&fleet.client(), &pods)?;
    let rules = second.run(&["iptables", "-S", "FORWARD"]).stdout;
    ensure!(
        rules.starts_with("-P FORWARD DROP") && rules.contains(" -i pods-"),
        "{rules}"
    );

    // A firewall that a person made is left alone, and told.
    let site = "add table inet site; add chain inet site passing { type filter hook forward priority 0; policy drop; }";
    let made = second.run(&["nft", site]);
    ensure!(made.success, "{}", made.stderr);
    let remedy = wait_for("the event of the firewall", || {
        let events = fleet.client().run(&["get", "events", "-A", "-o", "json"]);
        let events: Value = serde_json::from_str(&events.stdout).unwrap_or_default();
        let events = events["items"].as_array().into_iter().flatten();
        let told = events
            .into_iter()
            .find(|event| event["reason"] == "ForwardingDenied");
        let message = told.and_then(|event| event["message"].as_str());
        Ok(message.map(str::to_owned).ok_or_else(String::new))
    })?;
    ensure!(
        remedy.contains("the chain passing of the table inet site drops packets of pods"),
        "{remedy}"
    );
    // The remedy is one.
    let command = remedy
        .split("nft '")
        .nth(1)
        .context("a command")?
        .trim_end_matches('\'');
    let second = &fleet.nodes()[1].machine;
    let done = second.run(&["nft", command]);
    ensure!(done.success, "{command}: {}", done.stderr);
    reach_each_other(&fleet.client(), &pods)
}

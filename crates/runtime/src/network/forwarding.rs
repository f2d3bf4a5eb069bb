//! Address translation: masquerade for packets that leave the cluster, redirects and host ports.
//! One nftables table for each instance.
//!
//! Every change is one script and therefore one kernel transaction. Host ports are elements of a
//! verdict map, each with its own chain. A change therefore costs only its own ports and is undone
//! by name. The networks without masquerade are a set; changes add and remove single elements.

use std::fmt::Write as _;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::process::{Command, Stdio};

use ipnet::IpNet;

use super::{Redirect, RedirectTo};
use crate::bounded;
use crate::{Error, HostPort, Protocol, Result};

/// Addresses of a pod, and the machine's ports that are forwarded to it.
#[derive(Clone, Debug)]
pub(super) struct Forward {
    pub(super) addresses: Vec<IpAddr>,
    pub(super) ports: Vec<HostPort>,
}

/// Content of the whole table.
pub(super) struct Table<'a> {
    pub(super) name: &'a str,
    pub(super) bridge: &'a str,
    /// Networks of this instance's pods.
    pub(super) pods: &'a [IpNet],
    /// Networks that pods reach without masquerade.
    pub(super) untranslated: &'a [IpNet],
    pub(super) redirects: &'a [Redirect],
    /// The bridge's addresses in the ranges that pods get addresses from.
    pub(super) gateways: &'a [IpAddr],
    /// Pods of this instance that plugins connected, and the devices with routes to them.
    pub(super) plugged: Plug<'a>,
}

/// Addresses of pods that are not on the bridge, and devices with routes to IPv4 pods.
#[derive(Clone, Copy)]
pub(super) struct Plug<'a> {
    pub(super) addresses: &'a [IpAddr],
    pub(super) devices: &'a [String],
}

impl Plug<'_> {
    /// Returns the script that adds them to the table or deletes them from it.
    pub(super) fn script(&self, verb: &str, table: &str) -> String {
        let addresses = self.addresses.iter().map(|address| {
            let suffix = if address.is_ipv4() { "" } else { "6" };
            format!("{verb} element inet {table} plugged{suffix} {{ {address} }}\n")
        });
        let devices = self.devices.iter();
        let devices =
            devices.map(|device| format!("{verb} element inet {table} plugged_by {{ \"{device}\" }}\n"));
        addresses.chain(devices).collect()
    }
}

impl Table<'_> {
    /// Returns the script that writes the whole table again.
    pub(super) fn script<'f>(&self, living: impl Iterator<Item = &'f Forward>) -> String {
        let Table { name, bridge, .. } = self;
        let redirects: String = self
            .redirects
            .iter()
            .filter_map(|redirect| self.redirect(redirect))
            .collect();
        let mut script = format!(
            r#"table inet {name}
delete table inet {name}
table inet {name} {{
  map ports {{ type inet_proto . inet_service : verdict; }}
  map addressed_ports {{ type ipv4_addr . inet_proto . inet_service : verdict; }}
  map addressed_ports6 {{ type ipv6_addr . inet_proto . inet_service : verdict; }}
  set pods {{ type ipv4_addr; flags interval; }}
  set pods6 {{ type ipv6_addr; flags interval; }}
  set untranslated {{ type ipv4_addr; flags interval; }}
  set untranslated6 {{ type ipv6_addr; flags interval; }}
  set plugged {{ type ipv4_addr; }}
  set plugged6 {{ type ipv6_addr; }}
  set plugged_by {{ type ifname; }}
  set hairpins {{ type ipv4_addr . ipv4_addr; }}
  set hairpins6 {{ type ipv6_addr . ipv6_addr; }}
  chain host_ports {{
    ip daddr . meta l4proto . th dport vmap @addressed_ports
    ip6 daddr . meta l4proto . th dport vmap @addressed_ports6
    meta l4proto . th dport vmap @ports
  }}
  chain prerouting {{
    type nat hook prerouting priority -100; policy accept;
{redirects}    fib daddr type local jump host_ports
  }}
  chain output {{
    type nat hook output priority -100; policy accept;
    fib daddr type local jump host_ports
  }}
  chain postrouting {{
    type nat hook postrouting priority 100; policy accept;
    oifname "{bridge}" ip saddr 127.0.0.0/8 masquerade
    oifname "{bridge}" ip saddr . ip daddr @hairpins ct status dnat masquerade
    oifname "{bridge}" ip6 saddr . ip6 daddr @hairpins6 ct status dnat masquerade
    ip daddr @plugged ip saddr 127.0.0.0/8 masquerade
    ip daddr @plugged ip saddr . ip daddr @hairpins ct status dnat masquerade
    ip6 daddr @plugged6 ip6 saddr . ip6 daddr @hairpins6 ct status dnat masquerade
    ip daddr @untranslated return
    ip6 daddr @untranslated6 return
    ip saddr @pods ip daddr != 224.0.0.0/4 masquerade
    ip6 saddr @pods6 ip6 daddr != ff00::/8 masquerade
  }}
  chain loopback_stays {{
    type filter hook prerouting priority -300; policy accept;
    iifname "{bridge}" ip daddr 127.0.0.0/8 drop
    iifname @plugged_by ip daddr 127.0.0.0/8 drop
  }}
}}
"#
        );
        script.push_str(&elements("add", name, "pods", self.pods));
        script.push_str(&elements("add", name, "untranslated", self.untranslated));
        script.push_str(&self.plugged.script("add", name));
        for forward in living {
            script.push_str(&add(name, forward));
        }
        script
    }
}

impl Table<'_> {
    /// Returns the rule of a redirect; `None` if the bridge has no address of its family.
    fn redirect(&self, redirect: &Redirect) -> Option<String> {
        let Redirect { protocol, from, to } = redirect;
        let (to, leads_plugged) = match to {
            RedirectTo::Address(to) => (*to, true),
            // Pods that are not on the bridge are not redirected to it, because they may have no
            // route there.
            RedirectTo::Bridge(port) => {
                let mut own = self.gateways.iter();
                let own = own.find(|own| own.is_ipv4() == from.is_ipv4())?;
                (SocketAddr::new(*own, *port), false)
            }
        };
        if to.is_ipv4() != from.is_ipv4() {
            return None;
        }
        let ip = if from.is_ipv4() { "ip" } else { "ip6" };
        let (bridge, address, port) = (self.bridge, from.ip(), from.port());
        let protocol = self::protocol(*protocol);
        let lead =
            |who: &str| format!("    {who} {ip} daddr {address} {protocol} dport {port} dnat {ip} to {to}\n");
        let mut rules = lead(&format!("iifname \"{bridge}\""));
        if leads_plugged {
            let suffix = if from.is_ipv4() { "" } else { "6" };
            rules.push_str(&lead(&format!("{ip} saddr @plugged{suffix}")));
        }
        Some(rules)
    }
}

/// Returns the script that applies redirects to the instance's pods on the host's network. It
/// matches them by their cgroup, so that other programs and other instances are not affected.
///
/// `cgroup` is the instance's, at the first level of the v2 hierarchy.
pub(super) fn redirects_of_host_pods(name: &str, cgroup: &str, redirects: &[Redirect]) -> String {
    let rule = |redirect: &Redirect| {
        // The bridge's port accepts only pods on the bridge.
        let RedirectTo::Address(to) = redirect.to else {
            return None;
        };
        let from = redirect.from;
        let ip = if from.is_ipv4() { "ip" } else { "ip6" };
        (from.is_ipv4() == to.is_ipv4()).then(|| {
            let (address, port, protocol) = (from.ip(), from.port(), protocol(redirect.protocol));
            format!(
                "add rule inet {name} output socket cgroupv2 level 1 \"{cgroup}\" \
                 {ip} daddr {address} {protocol} dport {port} dnat {ip} to {to}\n"
            )
        })
    };
    redirects.iter().filter_map(rule).collect()
}

/// Returns the script that changes the networks without masquerade from one state to another.
pub(super) fn untranslated(name: &str, before: &[IpNet], after: &[IpNet]) -> String {
    let without = |all: &[IpNet], others: &[IpNet]| -> Vec<IpNet> {
        let others: std::collections::HashSet<&IpNet> = others.iter().collect();
        all.iter().filter(|net| !others.contains(net)).copied().collect()
    };
    let mut script = elements("delete", name, "untranslated", &without(before, after));
    script.push_str(&elements("add", name, "untranslated", &without(after, before)));
    script
}

/// Returns the change of a set and of its counterpart for IPv6.
fn elements(verb: &str, table: &str, set: &str, nets: &[IpNet]) -> String {
    let mut script = String::new();
    for (suffix, is_ipv4) in [("", true), ("6", false)] {
        let of_family = nets.iter().filter(|net| net.addr().is_ipv4() == is_ipv4);
        let texts: Vec<String> = of_family.map(ToString::to_string).collect();
        if !texts.is_empty() {
            // Writing into a string cannot fail.
            writeln!(
                script,
                "{verb} element inet {table} {set}{suffix} {{ {} }}",
                texts.join(", ")
            )
            .ok();
        }
    }
    script
}

/// Returns the networks that are not inside others, sorted, as an interval set requires.
pub(super) fn apart(mut nets: Vec<IpNet>) -> Vec<IpNet> {
    nets.sort_by_key(|net| (net.network(), net.prefix_len()));
    let mut apart: Vec<IpNet> = Vec::with_capacity(nets.len());
    for net in nets {
        if !apart.last().is_some_and(|last| last.contains(&net)) {
            apart.push(net.trunc());
        }
    }
    apart
}

/// Returns the script that removes the table, if it exists.
pub(super) fn drop_table(name: &str) -> String {
    format!("table inet {name}\ndelete table inet {name}\n")
}

/// Returns the script that forwards a pod's host ports for each family of its addresses. Packets of
/// the pod to its own host port are masqueraded, because it would not answer its own address.
pub(super) fn add(name: &str, forward: &Forward) -> String {
    let mut script = hairpins("add", name, forward);
    for port in &forward.ports {
        let chain = chain(port);
        let protocol = protocol(port.protocol);
        let (map, key) = element(port);
        writeln!(script, "add chain inet {name} {chain}").ok();
        for address in &forward.addresses {
            let (family, to) = match address {
                IpAddr::V4(address) => ("ip", address.to_string()),
                IpAddr::V6(address) => ("ip6", format!("[{address}]")),
            };
            let nfproto = if address.is_ipv4() { "ipv4" } else { "ipv6" };
            writeln!(
                script,
                "add rule inet {name} {chain} meta nfproto {nfproto} meta l4proto {protocol} dnat {family} to {to}:{}",
                port.container_port
            )
            .ok();
        }
        writeln!(
            script,
            "create element inet {name} {map} {{ {key} : jump {chain} }}"
        )
        .ok();
    }
    script
}

fn hairpins(verb: &str, name: &str, forward: &Forward) -> String {
    let addresses = forward.addresses.iter().filter(|_| !forward.ports.is_empty());
    let change = |address: &IpAddr| {
        let suffix = if address.is_ipv4() { "" } else { "6" };
        format!("{verb} element inet {name} hairpins{suffix} {{ {address} . {address} }}\n")
    };
    addresses.map(change).collect()
}

/// Returns the script that removes a pod's host ports.
pub(super) fn remove(name: &str, forward: &Forward) -> String {
    let mut script = hairpins("delete", name, forward);
    for port in &forward.ports {
        let chain = chain(port);
        let (map, key) = element(port);
        writeln!(
            script,
            "delete element inet {name} {map} {{ {key} }}\n\
             flush chain inet {name} {chain}\n\
             delete chain inet {name} {chain}"
        )
        .ok();
    }
    script
}

/// Returns the ports as text for messages.
pub(super) fn names(ports: &[HostPort]) -> String {
    let names: Vec<String> = ports
        .iter()
        .map(|port| format!("{}/{}", port.host_port, protocol(port.protocol)))
        .collect();
    names.join(", ")
}

fn chain(port: &HostPort) -> String {
    let mut name = format!("{}-{}", protocol(port.protocol), port.host_port);
    if let Some(address) = address(port) {
        name.push('-');
        name.push_str(&address.to_string().replace(['.', ':'], "-"));
    }
    name
}

fn element(port: &HostPort) -> (&'static str, String) {
    let key = format!("{} . {}", protocol(port.protocol), port.host_port);
    match address(port) {
        Some(address @ IpAddr::V4(_)) => ("addressed_ports", format!("{address} . {key}")),
        Some(address @ IpAddr::V6(_)) => ("addressed_ports6", format!("{address} . {key}")),
        None => ("ports", key),
    }
}

fn address(port: &HostPort) -> Option<IpAddr> {
    port.host_ip.filter(|address| !address.is_unspecified())
}

fn protocol(protocol: Protocol) -> &'static str {
    match protocol {
        Protocol::Tcp => "tcp",
        Protocol::Udp => "udp",
        Protocol::Sctp => "sctp",
    }
}
/// Runs `nft` with a script.
pub(super) fn apply(script: &str) -> Result<()> {
    run(&["-f", "-"], script, Stdio::null).map(drop)
}

/// Returns the output of `nft`.
pub(super) fn read(arguments: &[&str]) -> Result<String> {
    run(arguments, "", Stdio::piped)
}

fn run(arguments: &[&str], script: &str, output: fn() -> Stdio) -> Result<String> {
    let start = |program: &str| {
        let mut command = Command::new(program);
        command
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(output())
            .stderr(Stdio::piped());
        bounded::output(&mut command, script.as_bytes())
    };
    let missing = |error: &io::Error| error.kind() == io::ErrorKind::NotFound;
    // The `PATH` of a shell may lack the administrator's folders.
    let output = start("nft")
        .or_else(|error| {
            if missing(&error) {
                start("/usr/sbin/nft")
            } else {
                Err(error)
            }
        })
        .map_err(|error| {
            if missing(&error) {
                Error::machine("nft is missing: install the package nftables")
            } else {
                Error::machine(format!("run nft: {error}"))
            }
        })?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    let words = String::from_utf8_lossy(&output.stderr);
    Err(Error::machine(format!(
        "nft: {}",
        words.lines().next().unwrap_or("no reason given")
    )))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn nets(texts: &[&str]) -> Vec<IpNet> {
        texts.iter().map(|text| text.parse().unwrap()).collect()
    }

    #[test]
    fn networks_that_lie_in_others_are_left_out() {
        let all = nets(&[
            "10.1.0.0/16",
            "192.0.2.7/32",
            "10.1.2.0/24",
            "10.0.0.0/24",
            "192.0.2.7/32",
            "fd00::/64",
            "fd00::5/128",
        ]);
        assert_eq!(
            apart(all),
            nets(&["10.0.0.0/24", "10.1.0.0/16", "192.0.2.7/32", "fd00::/64"])
        );
    }

    #[test]
    fn a_change_of_what_is_not_translated_costs_the_change() {
        let before = nets(&["10.1.0.0/24", "10.2.0.0/24", "fd00::/64"]);
        let after = nets(&["10.1.0.0/24", "10.3.0.0/24"]);
        assert_eq!(
            untranslated("t", &before, &after),
            "delete element inet t untranslated { 10.2.0.0/24 }\n\
             delete element inet t untranslated6 { fd00::/64 }\n\
             add element inet t untranslated { 10.3.0.0/24 }\n"
        );
        assert_eq!(untranslated("t", &after, &after), "");
    }

    #[test]
    fn redirects_stay_within_their_family() {
        let redirect = |from: &str, to: RedirectTo| Redirect {
            protocol: Protocol::Udp,
            from: from.parse().unwrap(),
            to,
        };
        let address = |text: &str| RedirectTo::Address(text.parse().unwrap());
        let rules = |gateways: &[&str]| -> Vec<String> {
            let gateways: Vec<IpAddr> = gateways.iter().map(|ip| ip.parse().unwrap()).collect();
            let table = Table {
                name: "t",
                bridge: "b",
                pods: &[],
                untranslated: &[],
                redirects: &[],
                gateways: &gateways,
                plugged: Plug {
                    addresses: &[],
                    devices: &[],
                },
            };
            let redirects = [
                redirect("10.96.0.10:53", address("127.96.1.2:53")),
                redirect("[fd00:10:96::a]:53", RedirectTo::Bridge(53)),
                redirect("[fd00:10:96::1]:443", address("127.0.0.1:6443")),
            ];
            let rules = redirects.iter().filter_map(|redirect| table.redirect(redirect));
            rules.map(|rule| rule.trim().to_owned()).collect()
        };
        let four = "iifname \"b\" ip daddr 10.96.0.10 udp dport 53 dnat ip to 127.96.1.2:53\n    \
                    ip saddr @plugged ip daddr 10.96.0.10 udp dport 53 dnat ip to 127.96.1.2:53";
        let six = "iifname \"b\" ip6 daddr fd00:10:96::a udp dport 53 dnat ip6 to [fd00::1]:53";
        assert_eq!(rules(&["10.1.0.1"]), [four]);
        assert_eq!(rules(&["10.1.0.1", "fd00::1"]), [four, six]);
    }

    #[test]
    fn a_port_leads_to_the_pod_over_each_family() {
        let forward = Forward {
            addresses: vec!["10.1.0.2".parse().unwrap(), "fd00::2".parse().unwrap()],
            ports: vec![HostPort {
                protocol: Protocol::Udp,
                host_ip: Some("2001:db8::1".parse().unwrap()),
                host_port: 53,
                container_port: 5353,
            }],
        };
        assert_eq!(
            add("t", &forward),
            "add element inet t hairpins { 10.1.0.2 . 10.1.0.2 }\n\
             add element inet t hairpins6 { fd00::2 . fd00::2 }\n\
             add chain inet t udp-53-2001-db8--1\n\
             add rule inet t udp-53-2001-db8--1 meta nfproto ipv4 meta l4proto udp dnat ip to 10.1.0.2:5353\n\
             add rule inet t udp-53-2001-db8--1 meta nfproto ipv6 meta l4proto udp dnat ip6 to [fd00::2]:5353\n\
             create element inet t addressed_ports6 { 2001:db8::1 . udp . 53 : jump udp-53-2001-db8--1 }\n"
        );
    }
}

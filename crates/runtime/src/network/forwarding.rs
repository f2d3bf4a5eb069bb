//! Address translation: masquerading of what leaves the pod range, redirects and host ports, in one nftables table an instance.
//!
//! Every change is one script and thus one transaction of the kernel: all of it or nothing. Host ports are elements of a verdict map,
//! each with a chain of its own, so that a change costs its own ports and is undone by name.

use std::fmt::Write as _;
use std::io::{self, Write as _};
use std::process::{Command, Stdio};

use super::{Forward, Range, Redirect};
use crate::error::Context as _;
use crate::{Error, HostPort, Protocol, Result};

/// The script that makes the whole table anew.
pub(super) fn table(
    name: &str,
    bridge: &str,
    range: Range,
    redirects: &[Redirect],
    living: &[Forward<'_>],
) -> String {
    let redirects: String = redirects
        .iter()
        .map(|Redirect { protocol, from, to }| {
            let (address, port) = (from.ip(), from.port());
            let protocol = self::protocol(*protocol);
            format!("    iifname \"{bridge}\" ip daddr {address} {protocol} dport {port} dnat to {to}\n")
        })
        .collect();
    let mut script = format!(
        r#"table ip {name}
delete table ip {name}
table ip {name} {{
  map ports {{ type inet_proto . inet_service : verdict; }}
  map addressed_ports {{ type ipv4_addr . inet_proto . inet_service : verdict; }}
  chain host_ports {{
    ip daddr . meta l4proto . th dport vmap @addressed_ports
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
    ip saddr {range} ip daddr != {range} ip daddr != 224.0.0.0/4 masquerade
    oifname "{bridge}" ip saddr 127.0.0.0/8 masquerade
    oifname "{bridge}" ip saddr {range} ct status dnat masquerade
  }}
  chain loopback_stays {{
    type filter hook prerouting priority -300; policy accept;
    iifname "{bridge}" ip daddr 127.0.0.0/8 drop
  }}
}}
"#
    );
    for forward in living {
        script.push_str(&add(name, forward));
    }
    script
}

/// The script that removes the table, whether it is there or not.
pub(super) fn drop_table(name: &str) -> String {
    format!("table ip {name}\ndelete table ip {name}\n")
}

/// The script that forwards a pod's ports.
pub(super) fn add(name: &str, forward: &Forward<'_>) -> String {
    let mut script = String::new();
    for port in forward.ports {
        let chain = chain(port);
        let protocol = protocol(port.protocol);
        let (map, key) = element(port);
        // Writing into a string cannot fail.
        writeln!(
            script,
            "add chain ip {name} {chain}\n\
             add rule ip {name} {chain} meta l4proto {protocol} dnat to {}:{}\n\
             create element ip {name} {map} {{ {key} : jump {chain} }}",
            forward.address, port.container_port
        )
        .ok();
    }
    script
}

/// The script that takes ports back.
pub(super) fn remove(name: &str, ports: &[HostPort]) -> String {
    let mut script = String::new();
    for port in ports {
        let chain = chain(port);
        let (map, key) = element(port);
        writeln!(
            script,
            "delete element ip {name} {map} {{ {key} }}\n\
             flush chain ip {name} {chain}\n\
             delete chain ip {name} {chain}"
        )
        .ok();
    }
    script
}

/// The ports as a person reads them.
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
        name.push_str(&address.to_string().replace('.', "-"));
    }
    name
}

fn element(port: &HostPort) -> (&'static str, String) {
    let key = format!("{} . {}", protocol(port.protocol), port.host_port);
    match address(port) {
        Some(address) => ("addressed_ports", format!("{address} . {key}")),
        None => ("ports", key),
    }
}

fn address(port: &HostPort) -> Option<std::net::Ipv4Addr> {
    port.host_ip.filter(|address| !address.is_unspecified())
}

fn protocol(protocol: Protocol) -> &'static str {
    match protocol {
        Protocol::Tcp => "tcp",
        Protocol::Udp => "udp",
        Protocol::Sctp => "sctp",
    }
}

/// Hands a script to `nft`.
pub(super) fn apply(script: &str) -> Result<()> {
    let start = |program: &str| {
        Command::new(program)
            .args(["-f", "-"])
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
    };
    let missing = |error: &io::Error| error.kind() == io::ErrorKind::NotFound;
    // The search path of a shell without administrator's folders is no reason to fail.
    let mut nft = start("nft")
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
                Error::machine(format!("start nft: {error}"))
            }
        })?;
    if let Some(mut input) = nft.stdin.take() {
        // When nft ends early, what it says on its error stream is the reason.
        input.write_all(script.as_bytes()).ok();
    }
    let output = nft.wait_with_output().context(|| "run nft")?;
    if output.status.success() {
        return Ok(());
    }
    let words = String::from_utf8_lossy(&output.stderr);
    Err(Error::machine(format!(
        "nft: {}",
        words.lines().next().unwrap_or("no reason given")
    )))
}

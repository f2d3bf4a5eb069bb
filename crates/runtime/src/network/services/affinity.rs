//! IPv4 clients that keep their endpoint. The kernel stores them when they connect.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use serde_json::Value;

use super::super::forwarding;
use super::{Destination, script};
use crate::{Protocol, Result};

/// A stored client.
pub(super) struct Remembered {
    client: Ipv4Addr,
    /// The address and port that it connected to, which may be a node port.
    saw: (Ipv4Addr, Protocol, u16),
    pub(super) endpoint: SocketAddr,
    timeout_seconds: u64,
    expires_seconds: u64,
}

impl Remembered {
    /// Returns the possible destinations of its connection: an address, or a node port.
    pub(super) fn destinations(&self) -> [Destination; 2] {
        let (address, protocol, port) = self.saw;
        let node_port = Destination::NodePort {
            ipv6: false,
            protocol,
            port,
        };
        [
            Destination::Address(IpAddr::V4(address), protocol, port),
            node_port,
        ]
    }

    fn key(&self) -> String {
        let (address, protocol, port) = self.saw;
        format!(
            "{} . {address} . {} . {port}",
            self.client,
            script::protocol(protocol)
        )
    }

    /// Returns the script that adds it again.
    pub(super) fn element(&self, table: &str) -> String {
        format!(
            "add element ip {table} affinity {{ {} timeout {}s expires {}s : {} }}\n",
            self.key(),
            self.timeout_seconds,
            self.expires_seconds,
            script::endpoint(self.endpoint)
        )
    }
}

/// Returns the clients that are stored now; empty if there is no table.
pub(super) fn remembered(table: &str) -> Vec<Remembered> {
    let listed = forwarding::read(&["--json", "list", "map", "ip", table, "affinity"]);
    listed.map_or(Vec::new(), |text| read(&text))
}

/// Removes clients for which `keeps` returns false, because their endpoint no longer serves them.
pub(super) fn forget(table: &str, keeps: impl Fn(&Remembered) -> bool) -> Result<()> {
    let gone: Vec<String> = remembered(table)
        .iter()
        .filter(|one| !keeps(one))
        .map(Remembered::key)
        .collect();
    if gone.is_empty() {
        return Ok(());
    }
    // An entry that expires at this moment fails the whole script. Then the entries are removed one
    // by one.
    let together = format!("delete element ip {table} affinity {{ {} }}\n", gone.join(", "));
    if forwarding::apply(&together).is_err() {
        for key in &gone {
            forwarding::apply(&format!("delete element ip {table} affinity {{ {key} }}\n")).ok();
        }
    }
    Ok(())
}

fn read(text: &str) -> Vec<Remembered> {
    let listed: Value = serde_json::from_str(text).unwrap_or_default();
    let objects = listed["nftables"].as_array().into_iter().flatten();
    let elements = objects
        .filter_map(|object| object["map"]["elem"].as_array())
        .flatten();
    elements.filter_map(element).collect()
}

fn element(element: &Value) -> Option<Remembered> {
    let (key, value) = (&element[0]["elem"], &element[1]["concat"]);
    let saw = &key["val"]["concat"];
    let address = |value: &Value| value.as_str()?.parse::<Ipv4Addr>().ok();
    let port = |value: &Value| u16::try_from(value.as_u64()?).ok();
    Some(Remembered {
        client: address(&saw[0])?,
        saw: (address(&saw[1])?, protocol(&saw[2])?, port(&saw[3])?),
        endpoint: (address(&value[0])?, port(&value[1])?).into(),
        timeout_seconds: key["timeout"].as_u64()?,
        expires_seconds: key["expires"].as_u64()?,
    })
}

fn protocol(value: &Value) -> Option<Protocol> {
    match value.as_str()? {
        "tcp" => Some(Protocol::Tcp),
        "udp" => Some(Protocol::Udp),
        "sctp" => Some(Protocol::Sctp),
        _ => None,
    }
}

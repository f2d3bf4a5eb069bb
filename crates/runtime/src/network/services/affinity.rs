//! Clients of IPv4 that stay with their endpoint: the kernel writes them down as they come.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use serde_json::Value;

use super::super::forwarding;
use super::{Destination, script};
use crate::{Protocol, Result};

/// One client that is remembered.
pub(super) struct Remembered {
    client: Ipv4Addr,
    /// The address and port that it connected to, which may be one of the node.
    saw: (Ipv4Addr, Protocol, u16),
    pub(super) endpoint: SocketAddr,
    timeout_seconds: u64,
    expires_seconds: u64,
}

impl Remembered {
    /// What it connected to, either way to see it.
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

    /// The element that brings it back.
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

/// Those who are remembered now; nobody where there is no table.
pub(super) fn remembered(table: &str) -> Vec<Remembered> {
    let listed = forwarding::read(&["--json", "list", "map", "ip", table, "affinity"]);
    listed.map_or(Vec::new(), |text| read(&text))
}

/// Forgets those whose endpoint serves them no more.
pub(super) fn forget(table: &str, keeps: impl Fn(&Remembered) -> bool) -> Result<()> {
    let gone: Vec<String> = remembered(table)
        .iter()
        .filter(|one| !keeps(one))
        .map(Remembered::key)
        .collect();
    if gone.is_empty() {
        return Ok(());
    }
    // One that ends by itself at this moment would make the whole script fail; each by itself, it is as good.
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

//! The ready endpoints of one Service, by all their names.

use std::collections::{BTreeMap, HashMap};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

use super::counted::Counted;
use super::{Endpoint, Port, lower};

/// The reverse name of an address, and its rank: 0 for a Service's own address, 1 for a hostname, 2
/// for an address with dashes.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Pointer {
    pub(super) rank: u8,
    pub(super) name: String,
}

/// The endpoints behind one name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Host {
    v4: Counted<Ipv4Addr>,
    v6: Counted<Ipv6Addr>,
    ports: Counted<Arc<[Port]>>,
}

/// The ready endpoints of one Service.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Endpoints {
    all: Host,
    /// By hostname or address with dashes.
    hosts: BTreeMap<Box<str>, Host>,
    /// By the node that they run on.
    nodes: BTreeMap<Box<str>, Host>,
    /// For nodes `a.b.c`: `b.c` and `c`, which are names without records of their own.
    above_nodes: HashMap<Box<str>, u32>,
}

impl Endpoints {
    /// Adds one address of an endpoint; `label` is its own name.
    pub(super) fn insert(&mut self, address: IpAddr, label: &str, endpoint: &Endpoint, ports: &Arc<[Port]>) {
        self.all.insert(address, ports);
        self.hosts.entry(label.into()).or_default().insert(address, ports);
        if let Some(node) = node(endpoint) {
            let host = self.nodes.entry(node.as_str().into()).or_default();
            if host.is_empty() {
                for above in above(&node) {
                    *self.above_nodes.entry(above.into()).or_default() += 1;
                }
            }
            host.insert(address, ports);
        }
    }

    /// Removes one address of an endpoint.
    pub(super) fn remove(&mut self, address: IpAddr, label: &str, endpoint: &Endpoint, ports: &Arc<[Port]>) {
        self.all.remove(address, ports);
        remove(&mut self.hosts, label, address, ports);
        let Some(node) = node(endpoint) else { return };
        if remove(&mut self.nodes, &node, address, ports) {
            for above in above(&node) {
                if let Some(count) = self.above_nodes.get_mut(above) {
                    *count -= 1;
                    if *count == 0 {
                        self.above_nodes.remove(above);
                    }
                }
            }
        }
    }

    pub(super) fn all(&self) -> &Host {
        &self.all
    }

    /// The endpoints with this name: of a hostname, or else of a node.
    pub(super) fn named(&self, name: &str) -> Option<(&str, &Host)> {
        let found = self.hosts.get_key_value(name);
        let found = found.or_else(|| self.nodes.get_key_value(name));
        found.map(|(name, host)| (&**name, host))
    }

    /// Returns whether a node's name ends with this name.
    pub(super) fn leads_to_a_node(&self, name: &str) -> bool {
        self.above_nodes.contains_key(name)
    }

    /// Each endpoint's own name.
    pub(super) fn hosts(&self) -> impl Iterator<Item = (&str, &Host)> {
        self.hosts.iter().map(|(name, host)| (&**name, host))
    }
}

impl Host {
    fn insert(&mut self, address: IpAddr, ports: &Arc<[Port]>) {
        match address {
            IpAddr::V4(address) => self.v4.insert(address),
            IpAddr::V6(address) => self.v6.insert(address),
        }
        self.ports.insert(Arc::clone(ports));
    }

    fn remove(&mut self, address: IpAddr, ports: &Arc<[Port]>) {
        match address {
            IpAddr::V4(address) => self.v4.remove(&address),
            IpAddr::V6(address) => self.v6.remove(&address),
        }
        self.ports.remove(ports);
    }

    pub(super) fn v4(&self) -> &[Ipv4Addr] {
        self.v4.members()
    }

    pub(super) fn v6(&self) -> &[Ipv6Addr] {
        self.v6.members()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.v4.is_empty() && self.v6.is_empty()
    }

    /// Its ports. A port of two slices occurs twice, but the slices of a Service mostly have the
    /// same ports.
    pub(super) fn ports(&self) -> impl Iterator<Item = &Port> {
        self.ports.members().iter().flat_map(|ports| ports.iter())
    }
}

/// Removes an address, and returns whether the name is removed too.
fn remove(hosts: &mut BTreeMap<Box<str>, Host>, name: &str, address: IpAddr, ports: &Arc<[Port]>) -> bool {
    let Some(host) = hosts.get_mut(name) else {
        return false;
    };
    host.remove(address, ports);
    let gone = host.is_empty();
    if gone {
        hosts.remove(name);
    }
    gone
}

fn node(endpoint: &Endpoint) -> Option<String> {
    let node = endpoint.node.as_deref().filter(|node| !node.is_empty());
    node.map(lower)
}

/// The names above a dotted one: `b.c` and `c` of `a.b.c`.
fn above(name: &str) -> impl Iterator<Item = &str> {
    name.match_indices('.').map(|(at, _)| &name[at + 1..])
}

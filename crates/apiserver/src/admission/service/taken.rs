//! The addresses and node ports of all Services, so that none is allocated twice.
//!
//! This is a copy of the store. Each allocation first reads the store's watch, so a changed Service
//! costs only its own change. After a crash the copy is built from the committed Services; an
//! allocation that was not committed is free again.

use std::collections::{BTreeSet, HashMap};
use std::net::IpAddr;

use api::view::{ServiceView, View};
use ipnet::IpNet;
use store::{EventKind, Interest, Key, Watcher};

use crate::objects::{self, Entry, Object, Objects};
use crate::service_ranges::address_at;

/// Kubernetes' range of node ports.
pub(super) const NODE_PORTS: std::ops::RangeInclusive<u16> = 30_000..=32_767;

/// The allocated addresses and ports.
#[derive(Default)]
pub(crate) struct Taken {
    watcher: Option<Watcher<Entry>>,
    addresses: HashMap<IpAddr, Key>,
    ports: HashMap<(Protocol, u16), Key>,
    held: HashMap<Key, Held>,
    /// Offset in each range at which the search for the next free address starts.
    cursors: HashMap<IpNet, u32>,
}

/// `TCP`, `UDP` or `SCTP`.
pub(super) type Protocol = Box<str>;

/// Addresses and ports of one Service.
#[derive(Default, PartialEq)]
struct Held {
    addresses: Vec<IpAddr>,
    ports: BTreeSet<(Protocol, u16)>,
}

impl Held {
    fn of(object: &Object) -> Held {
        // An object that cannot be decoded has no addresses and ports in effect.
        let service = serde_json::from_slice::<ServiceView>(&object.body).unwrap_or_default();
        let ports = service.ports.iter().filter(|port| port.node_port != 0);
        Held {
            addresses: service.cluster_ips.to_vec(),
            ports: ports
                .map(|port| ((*port.protocol).into(), port.node_port))
                .collect(),
        }
    }
}

impl Taken {
    /// Applies the Services that were committed since the last call. The holder of the lock on
    /// allocations therefore sees all earlier ones.
    pub(super) fn follow(&mut self, objects: &Objects) {
        let mut watcher = match self.watcher.take() {
            Some(watcher) => watcher,
            None => match self.anew(objects) {
                Some(watcher) => watcher,
                // The store closes: nothing is committed any more.
                None => return,
            },
        };
        loop {
            match watcher.try_next() {
                Ok(Some(event)) => {
                    self.release(&event.object.key);
                    if event.kind == EventKind::Put {
                        self.hold(&event.object);
                    }
                }
                Ok(None) => break,
                // The store has compacted the history since the last call.
                Err(_) => match self.anew(objects) {
                    Some(next) => watcher = next,
                    None => return,
                },
            }
        }
        self.watcher = Some(watcher);
    }

    fn anew(&mut self, objects: &Objects) -> Option<Watcher<Entry>> {
        let cursors = std::mem::take(&mut self.cursors);
        *self = Taken {
            cursors,
            ..Taken::default()
        };
        let prefix = objects::prefix(objects::core(ServiceView::KIND)?, "");
        let list = objects.list(&prefix);
        for object in list.iter() {
            self.hold(object);
        }
        objects.watch(&prefix, list.revision(), Interest::All).ok()
    }

    fn hold(&mut self, object: &Object) {
        let held = Held::of(object);
        for address in &held.addresses {
            self.addresses.insert(*address, object.key.clone());
        }
        for port in &held.ports {
            self.ports.insert(port.clone(), object.key.clone());
        }
        self.held.insert(object.key.clone(), held);
    }

    fn release(&mut self, key: &Key) {
        let Some(held) = self.held.remove(key) else { return };
        for address in held.addresses {
            if self.addresses.get(&address) == Some(key) {
                self.addresses.remove(&address);
            }
        }
        for port in held.ports {
            if self.ports.get(&port) == Some(key) {
                self.ports.remove(&port);
            }
        }
    }

    /// Returns whether another Service has the address.
    pub(super) fn has_address(&self, address: IpAddr, own: &Key) -> bool {
        self.addresses.get(&address).is_some_and(|holder| holder != own)
    }

    /// Returns whether another Service has the node port.
    pub(super) fn has_port(&self, protocol: &str, port: u16, own: &Key) -> bool {
        let holder = self.ports.get(&(protocol.into(), port));
        holder.is_some_and(|holder| holder != own)
    }

    /// Returns a free address of a range, if possible one that was not in use recently. `None` if
    /// all are in use.
    pub(super) fn next_address(&mut self, range: &IpNet) -> Option<IpAddr> {
        let cursor = self.cursors.get(range).copied().unwrap_or(0);
        let free = free_offset(range, cursor, |address| self.addresses.contains_key(&address))?;
        self.cursors.insert(*range, free + 1);
        Some(address_at(range, free))
    }
}

/// Returns the offset of a free address. Searches the dynamic part of the range from `cursor` and
/// around, then the reserved part. Kubernetes reserves a sixteenth of a range, between 16 and 256
/// addresses, for Services that request an address.
fn free_offset(range: &IpNet, cursor: u32, is_used: impl Fn(IpAddr) -> bool) -> Option<u32> {
    let size = 1_u32 << (range.max_prefix_len() - range.prefix_len());
    let reserved = if size <= 16 { 1 } else { (size / 16).clamp(16, 256) };
    // Excludes the network address, and the broadcast address in IPv4.
    let end = if range.addr().is_ipv4() { size - 1 } else { size };
    let cursor = cursor.clamp(reserved, end);
    let mut offsets = (cursor..end).chain(reserved..cursor).chain(1..reserved);
    offsets.find(|offset| !is_used(address_at(range, *offset)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn free(range: &str, cursor: u32, used: &[&str]) -> Option<String> {
        let range = range.parse().unwrap();
        let used: Vec<IpAddr> = used.iter().map(|ip| ip.parse().unwrap()).collect();
        let offset = free_offset(&range, cursor, |address| used.contains(&address));
        offset.map(|offset| address_at(&range, offset).to_string())
    }

    #[test]
    fn addresses_are_handed_out_above_the_reserved_ones_and_around() {
        for (range, cursor, used, expected) in [
            ("10.96.0.0/12", 0, &[][..], "10.96.1.0"),
            ("10.96.0.0/12", 0, &["10.96.1.0"], "10.96.1.1"),
            ("10.96.0.0/12", 300, &[], "10.96.1.44"),
            ("10.96.0.0/12", u32::MAX, &[], "10.96.1.0"),
            ("10.0.0.0/28", 0, &["10.0.0.1"], "10.0.0.2"),
            ("10.0.0.0/27", 31, &[], "10.0.0.16"),
            ("fd00:10:96::/112", 0, &[], "fd00:10:96::100"),
            ("fd00:10:96::/112", 0xffff, &[], "fd00:10:96::ffff"),
        ] {
            assert_eq!(
                free(range, cursor, used).as_deref(),
                Some(expected),
                "{range} {cursor}"
            );
        }
    }

    #[test]
    fn reserved_addresses_are_used_when_the_rest_is_taken() {
        let range = "10.0.0.0/27".parse().unwrap();
        let only = |free: u32| move |address| address != address_at(&"10.0.0.0/27".parse().unwrap(), free);
        assert_eq!(free_offset(&range, 0, only(9)), Some(9));
        assert_eq!(free_offset(&range, 0, only(31)), None, "the broadcast address");
        assert_eq!(free_offset(&range, 0, |_| true), None);
    }
}

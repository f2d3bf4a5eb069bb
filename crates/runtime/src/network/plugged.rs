//! Pods of this instance that plugins connected. They are not on our bridge, so rules match their
//! addresses.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::forwarding;
use crate::Result;

/// Addresses of these pods. The network writes them to its own table. The tables of Services are
/// written by `Services`; a lock prevents it from writing them while they change here.
#[derive(Clone, Debug, Default)]
pub(super) struct Plugged(Arc<Mutex<State>>);

#[derive(Debug, Default)]
struct State {
    addresses: BTreeSet<IpAddr>,
    /// Whether the tables of Services exist and contain all addresses.
    told: bool,
}

impl Plugged {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn addresses(&self) -> BTreeSet<IpAddr> {
        self.lock().addresses.clone()
    }

    /// Returns whether the tables of Services exist and contain all addresses.
    pub(super) fn are_told(&self) -> bool {
        self.lock().told
    }

    /// Writes the tables of Services with the current addresses.
    pub(super) fn tell(&self, make: impl FnOnce(&BTreeSet<IpAddr>) -> Result<()>) -> Result<()> {
        let mut state = self.lock();
        state.told = false;
        make(&state.addresses)?;
        state.told = true;
        Ok(())
    }

    /// Adds a pod's addresses. `services` is the prefix of the names of the tables of Services.
    pub(super) fn add(&self, services: &str, addresses: &[IpAddr]) {
        let mut state = self.lock();
        state.addresses.extend(addresses);
        state.change("add", services, addresses);
    }

    pub(super) fn remove(&self, services: &str, addresses: &[IpAddr]) {
        let mut state = self.lock();
        state.addresses.retain(|address| !addresses.contains(address));
        state.change("delete", services, addresses);
    }
}

impl State {
    /// If a change fails, the writer of Services soon writes the tables again.
    fn change(&mut self, verb: &str, table: &str, addresses: &[IpAddr]) {
        if !self.told || addresses.is_empty() {
            return;
        }
        let script: String = addresses
            .iter()
            .map(|address| {
                let family = if address.is_ipv4() { "ip" } else { "ip6" };
                format!("{verb} element {family} {table} plugged {{ {address} }}\n")
            })
            .collect();
        if let Err(error) = forwarding::apply(&script) {
            tracing::warn!(%error, "cannot add a pod's address to the rules of Services");
            self.told = false;
        }
    }
}

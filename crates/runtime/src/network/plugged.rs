//! Own pods that plugins have connected. They are on no bridge of ours, so that rules know them by their addresses.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::forwarding;
use crate::Result;

/// Their addresses. The network's table gets them from the network; the tables of Services have another keeper, whose making of them and
/// whose changes here exclude each other.
#[derive(Clone, Debug, Default)]
pub(super) struct Plugged(Arc<Mutex<State>>);

#[derive(Debug, Default)]
struct State {
    addresses: BTreeSet<IpAddr>,
    /// Whether the tables of Services stand and have them all.
    told: bool,
}

impl Plugged {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn addresses(&self) -> BTreeSet<IpAddr> {
        self.lock().addresses.clone()
    }

    /// Whether the tables of Services, which were made once, have them all.
    pub(super) fn are_told(&self) -> bool {
        self.lock().told
    }

    /// Makes the tables of Services with the addresses that there are.
    pub(super) fn tell(&self, make: impl FnOnce(&BTreeSet<IpAddr>) -> Result<()>) -> Result<()> {
        let mut state = self.lock();
        state.told = false;
        make(&state.addresses)?;
        state.told = true;
        Ok(())
    }

    /// Takes in a pod's addresses; `services` begins the names of the tables of Services.
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
    /// What cannot be changed is made anew by the keeper of Services, soon.
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

//! The rules that forward clients of Services to endpoints: two nftables tables for each instance,
//! one for each family.
//!
//! They apply to pods on this instance's bridge, to pods that plugins connected for it, and to the
//! machine's own programs. They do not apply to pods on the bridge of another instance. If two
//! instances forward the same address for the machine's own programs, the older tables win.
//!
//! A change is one script and therefore one transaction: no packet meets a state in between. The
//! tables stay when the agent ends. The next agent replaces them with its own state in one
//! transaction. If the kernel refuses a difference, all tables are written again.

mod affinity;
mod script;
mod slots;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use ipnet::IpNet;

use self::script::{Chain, Family, Script, Set};
use super::plugged::Plugged;
use super::{conntrack, forwarding};
use crate::{Protocol, Result};

/// Destination of a Service's clients.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Destination {
    /// An address and port of the Service.
    Address(IpAddr, Protocol, u16),
    /// A port on every address of the machine.
    NodePort {
        /// Whether it applies to the machine's IPv6 addresses instead of the IPv4 ones.
        ipv6: bool,
        /// The transport.
        protocol: Protocol,
        /// The port.
        port: u16,
    },
}

impl Destination {
    fn family(&self) -> Family {
        match self {
            Destination::Address(address, ..) => Family::of(*address),
            Destination::NodePort { ipv6: true, .. } => Family::V6,
            Destination::NodePort { ipv6: false, .. } => Family::V4,
        }
    }

    fn protocol(&self) -> Protocol {
        match self {
            Destination::Address(_, protocol, _) | Destination::NodePort { protocol, .. } => *protocol,
        }
    }

    fn is_node_port(&self) -> bool {
        matches!(self, Destination::NodePort { .. })
    }

    fn picks(&self) -> Set {
        let protocol = self.protocol();
        self.set(Set::Picks(protocol), Set::NodePortPicks(protocol))
    }

    /// Returns `address` or `node_port`, depending on the kind of the destination.
    fn set(&self, address: Set, node_port: Set) -> Set {
        if self.is_node_port() { node_port } else { address }
    }
}

/// Endpoints and options of a destination. They apply to new connections.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ServiceRoute {
    /// Endpoints of the destination's family, without duplicates. One is chosen at random.
    pub endpoints: Arc<[SocketAddr]>,
    /// Endpoints for this instance's pods and the machine's own programs, if they differ.
    pub inside: Option<Arc<[SocketAddr]>>,
    /// If there are no endpoints: drop the client's packets instead of refusing them.
    pub silent: bool,
    /// Seconds for which a client keeps its endpoint.
    pub affinity_seconds: Option<u32>,
    /// Whether packets are masqueraded, so that the endpoint sees this machine's address instead of
    /// the client's.
    pub masquerade: bool,
    /// Networks of permitted clients, of the destination's family and not overlapping. Other
    /// packets are dropped. `None` permits everything, and is required for node ports.
    pub sources: Option<Arc<[IpNet]>>,
}

/// Changes of the rules. `None` and `false` remove an entry.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct ServiceChanges {
    /// Destinations.
    pub routes: BTreeMap<Destination, Option<ServiceRoute>>,
    /// Addresses that only Services use. Packets to their other ports are refused.
    pub cluster_ips: BTreeMap<IpAddr, bool>,
    /// Addresses of endpoints on this machine. If an endpoint connects to itself through a Service,
    /// the connection is masqueraded, because the answers would not come back through this machine
    /// otherwise.
    pub local: BTreeMap<IpAddr, bool>,
}

/// Cost of applying a change.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct ServiceCost {
    /// Size of the script for nft in bytes.
    pub bytes: usize,
    /// Whether all tables were written again.
    pub anew: bool,
    /// Number of deleted conntrack entries of UDP connections to removed endpoints.
    pub forgotten: usize,
}

/// State of a destination in the kernel.
struct Led {
    route: ServiceRoute,
    /// The endpoints by number.
    slots: Vec<SocketAddr>,
    inside: Vec<SocketAddr>,
}

/// Rules of one data directory.
pub struct Services {
    table: String,
    bridge: String,
    led: BTreeMap<Destination, Led>,
    cluster_ips: BTreeSet<IpAddr>,
    local: BTreeSet<IpAddr>,
    /// The chains in use, with their number of destinations.
    chains: BTreeMap<(Family, Chain), usize>,
    memories: BTreeSet<u32>,
    /// Pods of this instance that are not on the bridge.
    plugged: Plugged,
    /// Whether the kernel should have this state.
    made: bool,
}

impl Services {
    pub(super) fn new(instance: &str, bridge: &str, plugged: Plugged) -> Services {
        Services {
            table: table(instance),
            bridge: bridge.to_owned(),
            led: BTreeMap::new(),
            cluster_ips: BTreeSet::new(),
            local: BTreeSet::new(),
            chains: BTreeMap::new(),
            memories: BTreeSet::new(),
            plugged,
            made: false,
        }
    }

    /// Applies a change in one transaction. The first change, and a change after a failure, write
    /// all tables again and replace those of an earlier process.
    pub fn update(&mut self, changes: &ServiceChanges) -> Result<ServiceCost> {
        let mut script = Script::default();
        let mut left = BTreeSet::new();
        for (destination, route) in &changes.routes {
            if self.lead(*destination, route.as_ref(), &mut script) {
                left.insert(*destination);
            }
        }
        for (address, present) in &changes.cluster_ips {
            if mark(&mut self.cluster_ips, *address, *present) {
                let family = Family::of(*address);
                say(
                    &mut script,
                    *present,
                    family,
                    Set::ClusterIps,
                    address.to_string(),
                );
            }
        }
        for (address, present) in &changes.local {
            if mark(&mut self.local, *address, *present) {
                let family = Family::of(*address);
                say(
                    &mut script,
                    *present,
                    family,
                    Set::Hairpins,
                    format!("{address} . {address}"),
                );
            }
        }
        let mut cost = self.apply(&script)?;
        cost.forgotten = self.forget(&left)?;
        Ok(cost)
    }

    /// Writes the tables again if another program removed them. Returns whether that was so.
    pub fn check(&mut self) -> Result<bool> {
        if self.made && self.plugged.are_told() && self.is_there() {
            return Ok(false);
        }
        self.made = false;
        self.apply(&Script::default())?;
        Ok(true)
    }

    /// Returns whether the kernel should have the rules.
    pub fn is_made(&self) -> bool {
        self.made
    }

    fn is_there(&self) -> bool {
        let same =
            |family: Family| forwarding::apply(&format!("list chain {} {} lead\n", family.ip(), self.table));
        script::FAMILIES.into_iter().all(|family| same(family).is_ok())
    }

    /// Sends a difference to the kernel, or everything if the kernel refuses the difference.
    fn apply(&mut self, script: &Script) -> Result<ServiceCost> {
        if self.made {
            let text = script.text(&self.table, &self.bridge);
            let cost = ServiceCost {
                bytes: text.len(),
                ..ServiceCost::default()
            };
            if text.is_empty() {
                return Ok(cost);
            }
            match forwarding::apply(&text) {
                Ok(()) => return Ok(cost),
                Err(error) => {
                    tracing::warn!(%error, "cannot change the rules of Services; writing all of them again")
                }
            }
            self.made = false;
        }
        let mut bytes = 0;
        self.plugged.tell(|plugged| {
            let text = self.anew(plugged);
            bytes = text.len();
            forwarding::apply(&text)
        })?;
        self.made = true;
        Ok(ServiceCost {
            bytes,
            anew: true,
            forgotten: 0,
        })
    }

    /// Returns the script that writes all tables again and keeps the clients' endpoints.
    fn anew(&self, plugged: &BTreeSet<IpAddr>) -> String {
        let mut script = Script {
            new_chains: self.chains.keys().copied().collect(),
            new_memories: self.memories.clone(),
            ..Script::default()
        };
        for (destination, led) in &self.led {
            for (set, key, value) in plain(destination, led) {
                script.add(destination.family(), set, key, value);
            }
            for (for_inside, slots) in [(false, &led.slots), (true, &led.inside)] {
                for (number, endpoint) in slots.iter().enumerate() {
                    pick(&mut script, destination, for_inside, number, Some(*endpoint));
                }
            }
        }
        for address in &self.cluster_ips {
            script.add(Family::of(*address), Set::ClusterIps, address.to_string(), None);
        }
        for address in &self.local {
            script.add(
                Family::of(*address),
                Set::Hairpins,
                format!("{address} . {address}"),
                None,
            );
        }
        for address in plugged {
            script.add(Family::of(*address), Set::Plugged, address.to_string(), None);
        }
        let mut text = script::tables(&self.table, &self.bridge) + &script.text(&self.table, &self.bridge);
        for one in affinity::remembered(&self.table) {
            if self.is_served(&one) {
                text.push_str(&one.element(&self.table));
            }
        }
        text
    }

    /// Sets the route of a destination, or removes it. Returns whether the destination lost an
    /// endpoint or gained its first.
    fn lead(&mut self, destination: Destination, route: Option<&ServiceRoute>, script: &mut Script) -> bool {
        let family = destination.family();
        let before = self.led.remove(&destination);
        let said_before = before
            .iter()
            .flat_map(|led| plain(&destination, led))
            .collect::<BTreeSet<_>>();
        let chains_before = before
            .as_ref()
            .map_or(Vec::new(), |led| chains(&destination, led));
        let (mut slots, mut inside) = before.map_or_else(Default::default, |led| (led.slots, led.inside));
        let had = (slots.len(), inside.len());

        let wanted = route.map_or(&[][..], |route| &route.endpoints);
        let changed = slots::refill(&mut slots, wanted);
        let wanted_inside = route
            .and_then(|route| route.inside.as_deref())
            .unwrap_or_default();
        let changed_inside = slots::refill(&mut inside, wanted_inside);
        let left = |changed: &BTreeMap<usize, Option<SocketAddr>>, had: usize| {
            changed
                .keys()
                .next()
                .is_some_and(|first| *first < had || had == 0)
        };
        let left = left(&changed, had.0) || left(&changed_inside, had.1);
        for (for_inside, changed, had) in [(false, changed, had.0), (true, changed_inside, had.1)] {
            for (number, endpoint) in changed {
                if number < had {
                    let place = script::place(&destination, for_inside, number);
                    script.remove(family, destination.picks(), place);
                }
                pick(script, &destination, for_inside, number, endpoint);
            }
        }

        let led = route.map(|route| Led {
            route: route.clone(),
            slots,
            inside,
        });
        let says = led
            .iter()
            .flat_map(|led| plain(&destination, led))
            .collect::<BTreeSet<_>>();
        for (set, key, _) in said_before.difference(&says) {
            script.remove(family, *set, key.clone());
        }
        for (set, key, value) in says.difference(&said_before) {
            script.add(family, *set, key.clone(), value.clone());
        }
        for chain in led.as_ref().map_or(Vec::new(), |led| chains(&destination, led)) {
            self.hold((family, chain), script);
        }
        for chain in chains_before {
            self.let_go((family, chain), script);
        }
        if let Some(led) = led {
            if let Some(seconds) = led.route.affinity_seconds
                && self.memories.insert(seconds)
            {
                script.new_memories.insert(seconds);
            }
            self.led.insert(destination, led);
        }
        left
    }

    fn hold(&mut self, chain: (Family, Chain), script: &mut Script) {
        let holders = self.chains.entry(chain).or_default();
        *holders += 1;
        if *holders == 1 && !script.old_chains.remove(&chain) {
            script.new_chains.insert(chain);
        }
    }

    fn let_go(&mut self, chain: (Family, Chain), script: &mut Script) {
        let Some(holders) = self.chains.get_mut(&chain) else {
            return;
        };
        *holders -= 1;
        if *holders == 0 {
            self.chains.remove(&chain);
            if !script.new_chains.remove(&chain) {
                script.old_chains.insert(chain);
            }
        }
    }

    fn serves(&self, destination: &Destination, endpoint: SocketAddr) -> bool {
        let led = self.led.get(destination);
        led.is_some_and(|led| led.slots.contains(&endpoint) || led.inside.contains(&endpoint))
    }

    fn is_served(&self, one: &affinity::Remembered) -> bool {
        let [address, node_port] = one.destinations();
        let destination = if self.led.contains_key(&address) {
            address
        } else {
            node_port
        };
        self.serves(&destination, one.endpoint)
    }

    /// Deletes UDP connections and clients' saved endpoints for endpoints that these destinations
    /// no longer have.
    fn forget(&self, left: &BTreeSet<Destination>) -> Result<usize> {
        let serves = |destination: &Destination, endpoint| self.serves(destination, endpoint);
        let stuck = |destination: &Destination| {
            self.led
                .get(destination)
                .is_some_and(|led| led.route.affinity_seconds.is_some())
        };
        if left.iter().any(stuck) {
            affinity::forget(&self.table, |one| self.is_served(one))?;
        }
        if !left
            .iter()
            .any(|destination| destination.protocol() == Protocol::Udp)
        {
            return Ok(0);
        }
        conntrack::forget_udp(|client_saw, endpoint| {
            let address = Destination::Address(client_saw.ip(), Protocol::Udp, client_saw.port());
            let node_port = Destination::NodePort {
                ipv6: client_saw.is_ipv6(),
                protocol: Protocol::Udp,
                port: client_saw.port(),
            };
            let own =
                |destination: &Destination| left.contains(destination) && !serves(destination, endpoint);
            own(&address) || (own(&node_port) && !self.led.contains_key(&address) && client_saw != endpoint)
        })
    }
}

/// Removes the tables of an instance, if they exist.
pub(super) fn tear_down(instance: &str) -> Result<()> {
    forwarding::apply(&script::drop_tables(&table(instance)))
}

/// Returns the name of both tables.
pub(super) fn table(instance: &str) -> String {
    format!("{instance}-services")
}

/// Adds or removes a member. Returns whether the set changed.
fn mark(members: &mut BTreeSet<IpAddr>, address: IpAddr, present: bool) -> bool {
    if present {
        members.insert(address)
    } else {
        members.remove(&address)
    }
}

fn say(script: &mut Script, present: bool, family: Family, set: Set, key: String) {
    if present {
        script.add(family, set, key, None);
    } else {
        script.remove(family, set, key);
    }
}

fn pick(
    script: &mut Script,
    destination: &Destination,
    for_inside: bool,
    number: usize,
    endpoint: Option<SocketAddr>,
) {
    if let Some(endpoint) = endpoint {
        let set = destination.picks();
        let place = script::place(destination, for_inside, number);
        script.add(destination.family(), set, place, Some(script::endpoint(endpoint)));
    }
}

/// Returns the elements of a destination, without its endpoints.
fn plain(destination: &Destination, led: &Led) -> Vec<(Set, String, Option<String>)> {
    let key = || script::key(destination);
    let mut elements = Vec::new();
    let chain = chain(destination, led);
    if chain.endpoints > 0 || chain.inside.is_some() {
        let to = Some(format!("goto {}", chain.name()));
        elements.push((destination.set(Set::Services, Set::NodePorts), key(), to));
        if led.route.masquerade {
            let set = destination.set(Set::Masqueraded, Set::MasqueradedNodePorts);
            elements.push((set, key(), None));
        }
        if let Some(seconds) = led.route.affinity_seconds
            && destination.family() == Family::V4
        {
            let to = Some(format!("jump {}", script::remember(seconds)));
            elements.push((destination.set(Set::Affine, Set::AffineNodePorts), key(), to));
        }
    }
    if let Some(sources) = led
        .route
        .sources
        .as_deref()
        .filter(|_| !destination.is_node_port())
    {
        elements.push((Set::Guarded, key(), None));
        let may_come = sources
            .iter()
            .map(|net| (Set::Sources, format!("{} . {net}", key()), None));
        elements.extend(may_come);
    }
    if led.slots.is_empty() {
        let what = if led.route.silent { "drop" } else { "goto refuse" };
        elements.push((
            destination.set(Set::Absent, Set::AbsentNodePorts),
            key(),
            Some(what.into()),
        ));
    }
    elements
}

fn chain(destination: &Destination, led: &Led) -> Chain {
    Chain {
        protocol: destination.protocol(),
        node_port: destination.is_node_port(),
        for_inside: false,
        endpoints: led.slots.len(),
        inside: (!led.inside.is_empty()).then_some(led.inside.len()),
        sticky: led.route.affinity_seconds.is_some(),
    }
}

/// Returns the chains that a destination needs.
fn chains(destination: &Destination, led: &Led) -> Vec<Chain> {
    let outer = chain(destination, led);
    let needed = outer.endpoints > 0 || outer.inside.is_some();
    let outer = needed.then_some(outer);
    let inner = outer.and_then(|outer| outer.inner());
    outer.into_iter().chain(inner).collect()
}

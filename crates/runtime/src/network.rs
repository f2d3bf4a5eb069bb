//! The pods' network on this machine: one bridge for each instance, a veth and addresses for each
//! pod, and routes to the pods of other nodes.
//!
//! A pod's network namespace is held by its shim. It needs no name and no mount. When its last
//! process ends, the kernel removes it with both ends of the veth.
//!
//! The network is opened when the node's ranges are known, which may be long after the runtime was
//! opened. Until then only pods on the host's network run. It may be opened again with other
//! ranges: new pods get addresses from these. An old range stays on the bridge until its last
//! living pod has ended.
//!
//! Alternatively, CNI plugins ([`Cni`]) give addresses, create interfaces and set routes. This
//! module then only forwards their pods to Services. A machine may change between the two; living
//! pods keep their network.

mod cni;
mod conntrack;
mod firewall;
mod forwarding;
mod link;
mod plugged;
mod range;
mod routes;
mod services;
mod sysctl;

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io::Write as _;
use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use ipnet::IpNet;
use nix::fcntl::{Flock, FlockArg};
use serde::{Deserialize, Serialize};

use self::cni::Newcomer;
use self::forwarding::{Forward, Plug, Table, apart};
use self::plugged::Plugged;
use self::range::interfaces;
use self::routes::Place;
use self::sysctl::{filter_bridged, forward_ipv6, write_sysctl};
use crate::bounded;
use crate::cgroup::Hierarchies;
use crate::error::Context as _;
use crate::layout::{self, Layout};
use crate::{Error, ErrorKind, Giver, HostPort, PodAddress, PodNetwork, Protocol, Result, SandboxSpec};

pub use self::cni::Cni;
pub use self::range::{Range, Ranges};
pub use self::routes::{ROUTE_PROTOCOL, Route, RouteFailures, TunnelEnd, Via};
pub use self::services::{Destination, ServiceChanges, ServiceCost, ServiceRoute, Services};

/// The machine's interfaces. Locked during the search for free addresses.
const INTERFACES: &str = "/sys/class/net";

/// Default UDP port that receives tunnel packets. The same as the kernel's default and flannel's.
pub const TUNNEL_PORT: u16 = 8472;

/// MTU in bytes of a link whose MTU is not known: Ethernet's.
const MTU: u32 = 1500;

/// An address that is forwarded for this machine's pods, such as a Service's. Nothing else is
/// redirected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Redirect {
    /// The transport protocol.
    pub protocol: Protocol,
    /// The address that pods send to.
    pub from: SocketAddr,
    /// The destination that replaces it.
    pub to: RedirectTo,
}

/// Destination of a redirect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RedirectTo {
    /// An address of the same family. It may be an IPv4 loopback address, of which pods can then
    /// reach this one port. The kernel does not forward to the IPv6 loopback address.
    Address(SocketAddr),
    /// This port of the bridge's address of the same family, if pods get addresses of that family.
    Bridge(u16),
}

/// Configuration of the network.
#[derive(Clone, Debug, Default)]
pub struct NetworkConfig {
    /// Ranges that pods get addresses from.
    pub ranges: Ranges,
    /// Addresses of this machine for other nodes, the primary one first.
    pub node_addresses: Vec<IpAddr>,
    /// UDP port of tunnels; 0 means [`TUNNEL_PORT`].
    pub tunnel_port: u16,
}

/// Saved state of the network without its pods, for the next process.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
struct Kept {
    ranges: Vec<Range>,
    node_addresses: Vec<IpAddr>,
    tunnel_port: u16,
}

/// A living pod.
#[derive(Debug)]
struct Living {
    network: PodNetwork,
    /// The host ports that our rules forward to it.
    forward: Forward,
    /// The machine's device with the route to it, if plugins connected it.
    device: Option<String>,
}

impl Living {
    fn is_plugged(&self) -> bool {
        self.network.given_by != Giver::Bridge
    }
}

/// Network of one data directory.
#[derive(Debug)]
pub(crate) struct Network {
    layout: Arc<Layout>,
    redirects: Vec<Redirect>,
    /// Set if CNI plugins own the network. They may use the ranges, if there are any, or their own.
    cni: Option<Cni>,
    /// Pods that plugins have connected.
    plugged: Plugged,
    /// Locked while the rules change, so that changes are applied one after the other.
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// Whether plugins connect new pods, so that the ranges do not belong to the bridge.
    by_plugins: bool,
    /// `None` until the network is opened.
    open: Option<Kept>,
    /// Living pods.
    pods: BTreeMap<String, Living>,
    /// Networks of other nodes that pods reach without masquerade.
    others: Vec<IpNet>,
    /// Networks without masquerade that the table has now: [`State::others`] and the own ranges.
    untranslated: Vec<IpNet>,
    /// Whether a tunnel exists, so that packets must be smaller.
    tunnel: bool,
    /// Start of the search for the next address, by range.
    next: BTreeMap<Range, u128>,
    /// Addresses of pods that ended while no agent ran. A pod that is created again gets the same
    /// addresses, so that its clients still reach it. Other pods do not get them while other
    /// addresses are free.
    left: BTreeMap<String, Vec<IpAddr>>,
}

impl State {
    fn open(&self) -> Result<&Kept> {
        self.open.as_ref().ok_or_else(|| {
            Error::new(
                ErrorKind::NetworkNotReady,
                "the node has no pod range (spec.podCIDR) yet",
            )
        })
    }

    /// Returns the bridge's addresses in the ranges that pods get addresses from.
    fn gateways(&self) -> Vec<IpAddr> {
        let open = self.open.iter().filter(|_| !self.by_plugins);
        open.flat_map(|open| &open.ranges).map(Range::gateway).collect()
    }

    /// Returns the bridge's addresses: those in the ranges, and the gateways of living pods.
    fn bridge_addresses(&self) -> Vec<(IpAddr, u8)> {
        let ranges = self
            .open
            .iter()
            .filter(|_| !self.by_plugins)
            .flat_map(|open| &open.ranges);
        let mut addresses: Vec<(IpAddr, u8)> =
            ranges.map(|range| (range.gateway(), range.prefix())).collect();
        let living = self.pods.values().filter(|pod| !pod.is_plugged());
        let living = living.flat_map(|pod| &pod.network.addresses);
        addresses.extend(living.filter_map(|given| Some((given.gateway?, given.prefix))));
        addresses.sort();
        addresses.dedup();
        addresses
    }

    /// Returns the networks of this instance's pods.
    fn own(&self) -> Vec<IpNet> {
        let nets = self.bridge_addresses().into_iter();
        apart(
            nets.filter_map(|(address, prefix)| IpNet::new(address, prefix).ok())
                .collect(),
        )
    }

    /// Returns the devices with routes to pods that plugins connected.
    fn devices(&self) -> BTreeSet<String> {
        self.pods.values().filter_map(|pod| pod.device.clone()).collect()
    }

    fn all_untranslated(&self) -> Vec<IpNet> {
        let mut nets = self.own();
        nets.extend(&self.others);
        apart(nets)
    }
}

impl Network {
    /// Creates a network that is not open.
    pub(crate) fn new(layout: Arc<Layout>, redirects: Vec<Redirect>, cni: Option<Cni>) -> Network {
        let state = State {
            by_plugins: cni.is_some(),
            ..State::default()
        };
        Network {
            layout,
            redirects,
            cni,
            plugged: Plugged::default(),
            state: Mutex::new(state),
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // After a panic at most some rules are missing. The next call of `open` writes them.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds a pod that lived before this process.
    pub(crate) fn adopt(&self, pod: &str, network: &PodNetwork, ports: &[HostPort]) {
        let living = living(network, ports);
        if living.is_plugged() {
            self.plugged
                .add(&self.services_table(), &living.forward.addresses);
        }
        self.lock().pods.insert(pod.to_owned(), living);
    }

    /// Keeps the addresses of a dead pod, so that it gets the same if it is created again.
    pub(crate) fn remember(&self, pod: &str, network: &PodNetwork) {
        let addresses = network.ips().collect();
        self.lock().left.insert(pod.to_owned(), addresses);
    }

    /// Opens the network with its saved configuration, if there is one. Plugins need no
    /// configuration.
    pub(crate) fn reopen(&self) -> Result<()> {
        let kept = layout::read_json::<Kept>(&self.layout.network())?.unwrap_or_default();
        // Plugins need no ranges.
        if kept.ranges.is_empty() && self.cni.is_none() {
            return Ok(());
        }
        self.open(NetworkConfig {
            ranges: Ranges::Given(kept.ranges),
            node_addresses: kept.node_addresses,
            tunnel_port: kept.tunnel_port,
        })
        .map(drop)
    }

    /// Creates the bridge and the rules, or corrects existing ones. Returns the ranges that pods
    /// now get addresses from.
    pub(crate) fn open(&self, config: NetworkConfig) -> Result<Vec<Range>> {
        let mut state = self.lock();
        let (bridge, tunnel) = (self.layout.bridge(), self.layout.tunnel());
        let before = match &state.open {
            Some(open) => open.ranges.clone(),
            None => {
                layout::read_json::<Kept>(&self.layout.network())?.map_or_else(Vec::new, |kept| kept.ranges)
            }
        };
        // Another instance that starts now waits until our addresses are visible.
        let claim = File::open(INTERFACES).context(|| format!("open {INTERFACES}"))?;
        let claim = Flock::lock(claim, FlockArg::LockExclusive)
            .map_err(|(_, error)| Error::machine(format!("lock {INTERFACES}: {error}")))?;
        let ranges = match (&self.cni, config.ranges) {
            // Interfaces of the machine that use these ranges belong to the plugins.
            (Some(_), Ranges::Given(ranges)) => ranges,
            (_, ranges) => ranges.choose(&interfaces()?, &[&bridge, &tunnel], &before)?,
        };
        let kept = Kept {
            ranges: ranges.clone(),
            node_addresses: config.node_addresses,
            tunnel_port: match config.tunnel_port {
                0 => TUNNEL_PORT,
                port => port,
            },
        };
        let was = state.open.replace(kept.clone());
        let opened = self.make(&mut state);
        drop(claim);
        if let Err(error) = opened {
            state.open = was;
            return Err(error);
        }
        layout::write_json(&self.layout.network(), &kept)?;
        Ok(ranges)
    }

    fn make(&self, state: &mut State) -> Result<()> {
        let folder = self.layout.addresses();
        fs::create_dir_all(&folder).context(|| format!("create {}", folder.display()))?;
        let bridge = self.layout.bridge();
        write_sysctl("net/ipv4/ip_forward", "1")?;
        let addresses = state.bridge_addresses();
        if addresses.is_empty() {
            link::remove(&bridge)?;
        } else {
            link::ensure_bridge(&bridge, &addresses)?;
            // Lets the machine reach host ports through 127.0.0.1, and redirects forward to
            // loopback. The rules drop all other packets of pods to loopback.
            write_sysctl(&format!("net/ipv4/conf/{bridge}/route_localnet"), "1")?;
            // Pods reach each other through the machine, because its rules must see all packets.
            // ICMP redirects would give them a shorter route.
            write_sysctl(&format!("net/ipv4/conf/{bridge}/send_redirects"), "0")?;
        }
        if self.cni.is_some() {
            filter_bridged()?;
        }
        if addresses.iter().any(|(address, _)| address.is_ipv6()) {
            forward_ipv6()?;
        }
        state.untranslated = state.all_untranslated();
        let name = self.layout.name();
        let plugged: Vec<IpAddr> = self.plugged.addresses().into_iter().collect();
        let devices: Vec<String> = state.devices().into_iter().collect();
        let table = Table {
            name: &name,
            bridge: &bridge,
            pods: &state.own(),
            untranslated: &state.untranslated,
            redirects: &self.redirects,
            gateways: &state.gateways(),
            plugged: Plug {
                addresses: &plugged,
                devices: &devices,
            },
        };
        forwarding::apply(&table.script(state.pods.values().map(|pod| &pod.forward)))?;
        self.redirect_host_pods(&name)
    }

    /// Applies the redirects to pods on the host's network, if the kernel can match packets by
    /// cgroup.
    fn redirect_host_pods(&self, name: &str) -> Result<()> {
        let Some(cgroup) = Hierarchies::find()?.for_rules(&format!("/{name}"))? else {
            return Ok(());
        };
        let script = forwarding::redirects_of_host_pods(name, &cgroup, &self.redirects);
        // Kernels before 5.13 do not support the match.
        if let Err(error) = forwarding::apply(&script) {
            tracing::warn!(%error, "cannot redirect pods on the host network to the API server");
        }
        Ok(())
    }

    /// Returns the bridge's addresses, by which pods reach the machine. Empty until the network is
    /// open, and with plugins.
    pub(crate) fn gateways(&self) -> Vec<IpAddr> {
        self.lock().gateways()
    }

    /// Returns the ranges that pods get addresses from. Empty until the network is open.
    pub(crate) fn ranges(&self) -> Vec<Range> {
        let state = self.lock();
        state.open.iter().flat_map(|open| open.ranges.clone()).collect()
    }

    /// Returns the machine's addresses with their networks, without those of this network.
    pub(crate) fn links(&self) -> Result<Vec<IpNet>> {
        let own = ["lo".to_owned(), self.layout.bridge(), self.layout.tunnel()];
        let interfaces = interfaces()?.into_iter();
        let links = interfaces.filter(|interface| !own.contains(&interface.name));
        Ok(links.map(|interface| interface.net).collect())
    }

    /// Sets the routes to other nodes' pods to exactly `wanted`. Pods reach the ranges of these
    /// routes, and `untranslated`, without masquerade.
    pub(crate) fn route(&self, wanted: &[Route], untranslated: &[IpNet]) -> Result<RouteFailures> {
        let mut state = self.lock();
        let place = self.place(state.open()?);
        let failures = routes::apply(&place, wanted)?;
        state.tunnel = wanted.iter().any(|route| matches!(route.via, Via::Tunnel(..)));
        let ranges = wanted.iter().map(|route| route.range.net());
        state.others = ranges.chain(untranslated.iter().copied()).collect();
        let after = state.all_untranslated();
        let script = forwarding::untranslated(&self.layout.name(), &state.untranslated, &after);
        if !script.is_empty() {
            // If another program removed the table or parts of it, it is written again.
            if let Err(error) = forwarding::apply(&script) {
                tracing::warn!(%error, "the rules were changed by another program; writing them again");
                self.make(&mut state)?;
            }
            state.untranslated = after;
        }
        Ok(failures)
    }

    fn place(&self, open: &Kept) -> Place {
        Place {
            tunnel: self.layout.tunnel(),
            metric: self.layout.metric(),
            own: open.ranges.clone(),
            node_addresses: open.node_addresses.clone(),
            port: open.tunnel_port,
        }
    }

    /// Allocates the network of a pod whose namespace does not exist yet: its addresses, or nothing
    /// if plugins give them.
    pub(crate) fn prepare(&self, pod: &str) -> Result<Option<PodNetwork>> {
        match &self.cni {
            None => self.allocate(pod).map(Some),
            Some(cni) => cni.is_configured().map(|()| None),
        }
    }

    /// Gives a pod one free address of each range. [`Network::release`] removes the files that
    /// reserve them.
    fn allocate(&self, pod: &str) -> Result<PodNetwork> {
        let mut state = self.lock();
        let open = state.open()?.clone();
        let had = state.left.remove(pod).unwrap_or_default();
        let others: BTreeSet<IpAddr> = state.left.values().flatten().copied().collect();
        let mut addresses = Vec::with_capacity(open.ranges.len());
        for range in &open.ranges {
            let own = had.iter().find(|address| range.net().contains(*address));
            // Goes around the range, so that an address stays unused for a while. Clients of an old
            // pod then do not reach a new one.
            let first = state.next.get(range).copied().unwrap_or(0);
            let address = match own {
                Some(own) if self.try_address(*own, pod)? => *own,
                _ => {
                    let free = self.take_address(range, first, pod, &others)?;
                    let free = match free {
                        Some(free) => Some(free),
                        None => self.take_address(range, first, pod, &BTreeSet::new())?,
                    };
                    let (index, address) = free.ok_or_else(|| {
                        Error::new(
                            ErrorKind::AddressesExhausted,
                            format!("no address is left in the pod range {range}"),
                        )
                    })?;
                    state.next.insert(*range, index + 1);
                    address
                }
            };
            addresses.push(PodAddress {
                address,
                gateway: Some(range.gateway()),
                prefix: range.prefix(),
            });
        }
        let mut mtu = mtu_of(&open.node_addresses);
        if state.tunnel {
            let over_ipv4 = open.node_addresses.first().is_none_or(IpAddr::is_ipv4);
            mtu -= routes::tunnel_overhead(over_ipv4);
        }
        Ok(PodNetwork {
            addresses,
            mtu: Some(mtu),
            given_by: Giver::Bridge,
        })
    }

    /// Reserves the next free address from `first` on that is not in `others`.
    fn take_address(
        &self,
        range: &Range,
        first: u128,
        pod: &str,
        others: &BTreeSet<IpAddr>,
    ) -> Result<Option<(u128, IpAddr)>> {
        for (index, address) in range.pods(first) {
            if !others.contains(&address) && self.try_address(address, pod)? {
                return Ok(Some((index, address)));
            }
        }
        Ok(None)
    }

    /// Reserves this address for a pod. Returns false if it is taken.
    fn try_address(&self, address: IpAddr, pod: &str) -> Result<bool> {
        let path = self.layout.addresses().join(address.to_string());
        match File::options().write(true).create_new(true).open(&path) {
            Ok(mut file) => {
                file.write_all(pod.as_bytes())
                    .context(|| format!("write {}", path.display()))?;
                Ok(true)
            }
            Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => Ok(false),
            Err(error) => Err(Error::machine(format!("create {}: {error}", path.display()))),
        }
    }

    /// Connects a pod, whose namespace is that of a process: attaches a veth to the bridge, or runs
    /// the plugins. Then forwards its host ports, all or none.
    pub(crate) fn connect(
        &self,
        spec: &SandboxSpec,
        prepared: Option<PodNetwork>,
        pid: u32,
    ) -> Result<PodNetwork> {
        let network = match (prepared, &self.cni) {
            (Some(network), _) => {
                link::attach(&self.layout.cable(&spec.id), &self.layout.bridge(), &network, pid)?;
                network
            }
            (None, Some(cni)) => self.plug_in(cni, spec, pid)?,
            (None, None) => return Err(Error::machine("a pod without addresses cannot be connected")),
        };
        self.forward(&spec.id, &network, &spec.host_ports)?;
        Ok(network)
    }

    fn plug_in(&self, cni: &Cni, spec: &SandboxSpec, pid: u32) -> Result<PodNetwork> {
        let open = self.lock().open()?.clone();
        link::set_loopback_up_of(pid)?;
        let newcomer = Newcomer {
            id: &spec.id,
            args: &spec.plugin_args,
            host_ports: &spec.host_ports,
            ranges: &open.ranges,
            pid,
        };
        let added = cni.add(&newcomer, &self.layout.pod(&spec.id).attachment())?;
        let mut addresses = added.addresses;
        // A pod's primary address has the family of its node's primary address.
        let ipv4 = open.node_addresses.first().is_none_or(IpAddr::is_ipv4);
        addresses.sort_by_key(|given| given.address.is_ipv4() != ipv4);
        Ok(PodNetwork {
            addresses,
            mtu: None,
            given_by: Giver::Plugins {
                lead_ports: added.leads_ports,
            },
        })
    }

    fn forward(&self, pod: &str, network: &PodNetwork, ports: &[HostPort]) -> Result<()> {
        let mut state = self.lock();
        let pod_lives = living(network, ports);
        let (forward, name) = (&pod_lives.forward, self.layout.name());
        let mut script = String::new();
        if pod_lives.is_plugged() {
            let devices: Vec<String> = pod_lives.device.clone().into_iter().collect();
            for device in &devices {
                // Redirects may forward to loopback, and host ports of 127.0.0.1 to the pod. The
                // rules drop all other packets of the pod to loopback.
                write_sysctl(&format!("net/ipv4/conf/{device}/route_localnet"), "1")?;
            }
            let plug = Plug {
                addresses: &forward.addresses,
                devices: &devices,
            };
            script.push_str(&plug.script("add", &name));
        }
        if !forward.ports.is_empty() {
            script.push_str(&forwarding::add(&name, forward));
        }
        if !script.is_empty() {
            forwarding::apply(&script).map_err(|error| match ports {
                [] => error,
                ports => {
                    let names = forwarding::names(ports);
                    Error::new(
                        error.kind,
                        format!("forward host ports {names}: {}", error.message),
                    )
                }
            })?;
        }
        forget_clients(&forward.ports);
        if pod_lives.is_plugged() {
            self.plugged.add(&self.services_table(), &forward.addresses);
        }
        state.pods.insert(pod.to_owned(), pod_lives);
        Ok(())
    }

    /// Removes a pod's host ports and its veth, and frees its addresses. `namespace` is its network
    /// namespace, if it still exists.
    pub(crate) fn release(&self, pod: &str, namespace: Option<&File>) -> Result<()> {
        self.stop_leading(pod)?;
        cni::delete(&self.layout.pod(pod).attachment(), namespace)?;
        link::remove(&self.layout.cable(pod))?;
        let folder = self.layout.addresses();
        let Ok(entries) = fs::read_dir(&folder) else {
            return Ok(());
        };
        for entry in entries.flatten() {
            if bounded::read(&entry.path(), bounded::FILE).is_ok_and(|holder| holder == pod.as_bytes()) {
                fs::remove_file(entry.path()).context(|| format!("remove {}", entry.path().display()))?;
            }
        }
        // When the last pod of an old range ends, the range is removed from the bridge.
        let mut state = self.lock();
        if state.open.is_some() && state.untranslated != state.all_untranslated() {
            self.make(&mut state)?;
        }
        Ok(())
    }

    /// Removes a pod from the rules.
    fn stop_leading(&self, pod: &str) -> Result<()> {
        let mut state = self.lock();
        let devices = state.devices();
        let Some(was) = state.pods.remove(pod) else {
            return Ok(());
        };
        let (forward, name) = (&was.forward, self.layout.name());
        let mut script = String::new();
        if was.is_plugged() {
            self.plugged.remove(&self.services_table(), &forward.addresses);
            let left = state.devices();
            let devices: Vec<String> = devices.difference(&left).cloned().collect();
            let plug = Plug {
                addresses: &forward.addresses,
                devices: &devices,
            };
            script.push_str(&plug.script("delete", &name));
        }
        if !forward.ports.is_empty() {
            script.push_str(&forwarding::remove(&name, forward));
        }
        if script.is_empty() || state.open.is_none() {
            return Ok(());
        }
        if let Err(error) = forwarding::apply(&script) {
            // Another program removed the table or parts of it.
            tracing::warn!(pod, %error, "the rules were changed by another program; writing them again");
            self.make(&mut state)?;
        }
        forget_clients(&forward.ports);
        Ok(())
    }

    /// Returns an error if pods cannot be connected: the network is not open, or the plugins are
    /// not ready.
    pub(crate) fn check(&self) -> Result<()> {
        self.lock().open()?;
        self.cni.as_ref().map_or(Ok(()), Cni::check)
    }

    /// Adds iptables rules that accept the bridge's packets. Returns a description of everything
    /// that still drops them.
    pub(crate) fn let_through(&self) -> Result<Vec<String>> {
        self.lock().open()?;
        firewall::let_through(&self.layout.bridge())
    }

    fn services_table(&self) -> String {
        services::table(&self.layout.name())
    }

    /// Returns the writer of rules for Services. It has written none yet.
    pub(crate) fn services(&self) -> Services {
        Services::new(&self.layout.name(), &self.layout.bridge(), self.plugged.clone())
    }

    /// Removes the bridge, the routes and the rules.
    pub(crate) fn tear_down(&self) -> Result<()> {
        let mut state = self.lock();
        *state = State {
            by_plugins: self.cni.is_some(),
            ..State::default()
        };
        routes::clear(&self.layout.tunnel(), self.layout.metric())?;
        link::remove(&self.layout.bridge())?;
        firewall::forget(&self.layout.bridge());
        services::tear_down(&self.layout.name())?;
        forwarding::apply(&forwarding::drop_table(&self.layout.name()))
    }
}

/// Builds the entry of a living pod. Our rules do not contain host ports that plugins forward.
fn living(network: &PodNetwork, ports: &[HostPort]) -> Living {
    let ports = match network.given_by {
        Giver::Plugins { lead_ports: true } => Vec::new(),
        _ => ports.to_vec(),
    };
    let addresses: Vec<IpAddr> = network.ips().collect();
    let first = addresses.iter().find_map(|address| match address {
        IpAddr::V4(address) if network.given_by != Giver::Bridge => Some(*address),
        _ => None,
    });
    // Without the device, its programs reach Services on other machines, but not those that are
    // forwarded to loopback.
    let device = first.and_then(|address| {
        let found = link::device_to(address);
        found
            .inspect_err(|error| tracing::warn!(%address, %error, "cannot find the device of a pod's route"))
            .ok()
    });
    Living {
        network: network.clone(),
        forward: Forward { addresses, ports },
        device,
    }
}

/// Deletes the conntrack entries of UDP clients of host ports. Otherwise a client that keeps
/// sending would stay with the old pod, even after another pod got its address, or with none. A
/// failure is only logged and does not delay the pod.
fn forget_clients(ports: &[HostPort]) {
    let of_udp = |port: &&HostPort| port.protocol == Protocol::Udp;
    let ports: Vec<u16> = ports.iter().filter(of_udp).map(|port| port.host_port).collect();
    if ports.is_empty() {
        return;
    }
    let forgotten = interfaces().and_then(|own| {
        conntrack::forget_udp(|client_saw, _| {
            ports.contains(&client_saw.port())
                && own
                    .iter()
                    .any(|interface| interface.net.addr() == client_saw.ip())
        })
    });
    if let Err(error) = forgotten {
        tracing::warn!(%error, "cannot delete conntrack entries of UDP host ports");
    }
}

/// Returns the MTU in bytes towards other nodes: that of the interface with the node's address.
fn mtu_of(node_addresses: &[IpAddr]) -> u32 {
    let name = interfaces().ok().and_then(|interfaces| {
        let mut holders = interfaces
            .into_iter()
            .filter(|interface| interface.name != "lo" && node_addresses.contains(&interface.net.addr()));
        holders.next().map(|interface| interface.name)
    });
    let read = |name: String| bounded::kernel(Path::new(INTERFACES).join(name).join("mtu")).ok();
    let mtu = name.and_then(read).and_then(|text| text.trim().parse().ok());
    // IPv6 requires at least 1280 bytes.
    mtu.unwrap_or(MTU).max(1280)
}

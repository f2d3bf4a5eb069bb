//! Plans where a node forwards the clients of Services: an index of Services and EndpointSlices for
//! the node's proxy.
//!
//! [`Services`] receives changed objects. [`Services::changes`] returns the resulting changes on
//! this node: a [`Route`] for each destination that clients connect to. A change costs as much as
//! it affects Services, however many others there are.
//!
//! The rules are those of Kubernetes. The serving endpoints follow from their conditions (ready
//! ones, or if there is none, terminating ones that still serve), from hints
//! (`trafficDistribution`), and from the traffic policies. [`Route`] describes what happens without
//! endpoints.

mod endpoints;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::hash::Hash;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use api::view::{EndpointSliceView, IpFamily, ServicePortView, ServiceType, ServiceView};
use ipnet::IpNet;
use jiff::Timestamp;

use self::endpoints::{Categories, Place};

/// Namespace and name.
pub type Key = (Arc<str>, Arc<str>);

/// A transport protocol.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Protocol {
    /// `TCP`
    Tcp,
    /// `UDP`
    Udp,
    /// `SCTP`
    Sctp,
}

impl Protocol {
    fn of(name: &str) -> Option<Protocol> {
        match name {
            "TCP" => Some(Protocol::Tcp),
            "UDP" => Some(Protocol::Udp),
            "SCTP" => Some(Protocol::Sctp),
            _ => None,
        }
    }
}

/// A destination that clients connect to.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Destination {
    /// An address of a Service: a cluster IP, an external IP, or a load balancer's.
    Address(IpAddr, Protocol, u16),
    /// A port on every address of the node.
    NodePort(IpFamily, Protocol, u16),
}

impl Destination {
    fn family(&self) -> IpFamily {
        match self {
            Destination::Address(address, ..) => IpFamily::of(*address),
            Destination::NodePort(family, ..) => *family,
        }
    }
}

/// Where new connections to one destination are forwarded.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Route {
    /// One of these at random. Sorted, without duplicates.
    pub endpoints: Arc<[SocketAddr]>,
    /// Endpoints for the node's own programs and pods, if they differ: `externalTrafficPolicy:
    /// Local` does not apply to them.
    pub inside: Option<Arc<[SocketAddr]>>,
    /// Whether packets are dropped and not rejected when `endpoints` is empty. There are endpoints,
    /// but a policy excludes them on this node.
    pub silent: bool,
    /// Session affinity of a client, in seconds.
    pub affinity_seconds: Option<u32>,
    /// Whether connections are masqueraded, so that the endpoint answers through this node.
    pub masquerade: bool,
    /// Networks of the destination's family from which clients are accepted, none inside another.
    /// Other packets are dropped. `None` accepts all.
    pub sources: Option<Arc<[IpNet]>>,
}

/// Changes on the node. `None` and `false` mean removed.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Changes {
    /// Routes of destinations.
    pub routes: BTreeMap<Destination, Option<Route>>,
    /// Addresses that only Services use. Packets to them that are not forwarded are rejected.
    pub cluster_ips: BTreeMap<IpAddr, bool>,
    /// Addresses of endpoints on this node. A connection from an endpoint to itself through a
    /// Service must be masqueraded.
    pub local: BTreeMap<IpAddr, bool>,
}

impl Changes {
    /// Returns whether nothing changed.
    pub fn is_empty(&self) -> bool {
        self.routes.is_empty() && self.cluster_ips.is_empty() && self.local.is_empty()
    }
}

/// What one Service needs on the node.
#[derive(Default)]
struct Wanted {
    routes: BTreeMap<Destination, Route>,
    cluster_ips: BTreeSet<IpAddr>,
    local: BTreeSet<IpAddr>,
}

/// Priority of a Service's claim to a destination that several Services name: the oldest Service
/// gets it.
type Claim = (Option<Timestamp>, Key);

/// The index.
pub struct Services {
    place: Place,
    services: HashMap<Key, Arc<ServiceView>>,
    slices: HashMap<Key, Arc<EndpointSliceView>>,
    /// Names of each Service's slices.
    slices_of: HashMap<Key, BTreeSet<Arc<str>>>,
    /// What each Service needed last, with its claim.
    wanted: HashMap<Key, (Claim, Wanted)>,
    routes: BTreeMap<Destination, BTreeMap<Claim, Route>>,
    cluster_ips: HashMap<IpAddr, usize>,
    local: HashMap<IpAddr, usize>,
    /// Uids of the node's own pods, with the number of endpoints that forward new clients to each.
    led_to: HashMap<Arc<str>, usize>,
    dirty: BTreeSet<Key>,
}

impl Services {
    /// An index for the node with this name. [`Services::set_zone`] sets its zone later.
    pub fn new(node: &str) -> Self {
        Self {
            place: Place {
                node: node.into(),
                zone: None,
            },
            services: HashMap::new(),
            slices: HashMap::new(),
            slices_of: HashMap::new(),
            wanted: HashMap::new(),
            routes: BTreeMap::new(),
            cluster_ips: HashMap::new(),
            local: HashMap::new(),
            led_to: HashMap::new(),
            dirty: BTreeSet::new(),
        }
    }

    /// Sets the node's zone: its label `topology.kubernetes.io/zone`.
    pub fn set_zone(&mut self, zone: Option<&str>) {
        if self.place.zone.as_deref() != zone {
            self.place.zone = zone.map(Into::into);
            self.dirty.extend(self.services.keys().cloned());
        }
    }

    /// Adds, changes or removes (`None`) a Service.
    pub fn set_service(&mut self, key: Key, service: Option<Arc<ServiceView>>) {
        match service {
            Some(service) => self.services.insert(key.clone(), service),
            None => self.services.remove(&key),
        };
        self.dirty.insert(key);
    }

    /// Adds, changes or removes (`None`) an EndpointSlice.
    pub fn set_slice(&mut self, key: Key, slice: Option<Arc<EndpointSliceView>>) {
        let before = self.slices.remove(&key);
        for pod in before
            .iter()
            .flat_map(|slice| endpoints::led_to(slice, &self.place))
        {
            release(&mut self.led_to, pod);
        }
        if let Some(service) = before.and_then(|slice| service_of(&key, &slice)) {
            if let Some(slices) = self.slices_of.get_mut(&service) {
                slices.remove(&key.1);
                if slices.is_empty() {
                    self.slices_of.remove(&service);
                }
            }
            self.dirty.insert(service);
        }
        let Some(slice) = slice else { return };
        if let Some(service) = service_of(&key, &slice) {
            self.slices_of
                .entry(service.clone())
                .or_default()
                .insert(key.1.clone());
            self.dirty.insert(service);
            for pod in endpoints::led_to(&slice, &self.place) {
                *self.led_to.entry(pod.clone()).or_default() += 1;
            }
            self.slices.insert(key, slice);
        }
    }

    /// Uids of the pods on this node that receive new clients: those with an endpoint that is ready
    /// and not terminating. Includes headless Services.
    pub fn led_to(&self) -> impl Iterator<Item = &Arc<str>> {
        self.led_to.keys()
    }

    /// The changes on the node since the last call.
    pub fn changes(&mut self) -> Changes {
        let mut touched = Touched::default();
        for key in std::mem::take(&mut self.dirty) {
            self.withdraw(&key, &mut touched);
            self.claim(key, &mut touched);
        }
        touched.changes(self)
    }

    /// Number of destinations.
    pub fn len(&self) -> usize {
        self.routes.len()
    }

    /// Returns whether there are no destinations.
    pub fn is_empty(&self) -> bool {
        self.routes.is_empty()
    }

    fn withdraw(&mut self, key: &Key, touched: &mut Touched) {
        let Some((claim, wanted)) = self.wanted.remove(key) else {
            return;
        };
        for destination in wanted.routes.into_keys() {
            touched.destination(self, destination);
            if let Some(claims) = self.routes.get_mut(&destination) {
                claims.remove(&claim);
                if claims.is_empty() {
                    self.routes.remove(&destination);
                }
            }
        }
        for address in wanted.cluster_ips {
            touched.cluster_ip(self, address);
            release(&mut self.cluster_ips, &address);
        }
        for address in wanted.local {
            touched.local(self, address);
            release(&mut self.local, &address);
        }
    }

    fn claim(&mut self, key: Key, touched: &mut Touched) {
        let Some(service) = self.services.get(&key) else {
            return;
        };
        let wanted = self.want(&key, service);
        let claim = (service.meta.creation_timestamp, key.clone());
        for (destination, route) in &wanted.routes {
            touched.destination(self, *destination);
            let claims = self.routes.entry(*destination).or_default();
            claims.insert(claim.clone(), route.clone());
        }
        for address in &wanted.cluster_ips {
            touched.cluster_ip(self, *address);
            *self.cluster_ips.entry(*address).or_default() += 1;
        }
        for address in &wanted.local {
            touched.local(self, *address);
            *self.local.entry(*address).or_default() += 1;
        }
        self.wanted.insert(key, (claim, wanted));
    }

    /// Derives what a Service needs on the node from its endpoints.
    fn want(&self, key: &Key, service: &ServiceView) -> Wanted {
        let mut wanted = Wanted::default();
        if service.headless || service.kind == ServiceType::ExternalName {
            return wanted;
        }
        wanted.cluster_ips.extend(&*service.cluster_ips);
        let slices = || {
            let names = self.slices_of.get(key).into_iter().flatten();
            names.filter_map(|name| {
                self.slices
                    .get(&(key.0.clone(), name.clone()))
                    .map(|slice| &**slice)
            })
        };
        for port in &*service.ports {
            let Some(protocol) = Protocol::of(&port.protocol) else {
                continue;
            };
            // One list for each family, whatever the number of addresses.
            let mut lists: BTreeMap<IpFamily, Categories> = BTreeMap::new();
            for (destination, way) in destinations(service, port, protocol) {
                let family = destination.family();
                let categories = lists
                    .entry(family)
                    .or_insert_with(|| endpoints::categorize(service, port, family, slices(), &self.place));
                let route = route(service, categories, way, family);
                wanted.routes.insert(destination, route);
            }
            wanted
                .local
                .extend(lists.into_values().flat_map(|list| list.local_addresses));
        }
        wanted
    }
}

/// The Service that a slice belongs to.
fn service_of(slice_key: &Key, slice: &EndpointSliceView) -> Option<Key> {
    Some((slice_key.0.clone(), slice.service_name()?.into()))
}

fn release<K: Eq + Hash>(counts: &mut HashMap<K, usize>, what: &K) {
    if let Some(count) = counts.get_mut(what) {
        *count -= 1;
        if *count == 0 {
            counts.remove(what);
        }
    }
}

/// How clients address a Service.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Coming {
    /// With a cluster IP.
    Inside,
    /// With an external IP, or a port of the node.
    Outside,
    /// With an address of a load balancer.
    Balanced,
}

/// All destinations of a Service's port, and how clients address it there.
fn destinations(
    service: &ServiceView,
    port: &ServicePortView,
    protocol: Protocol,
) -> Vec<(Destination, Coming)> {
    let at = |address: &IpAddr| Destination::Address(*address, protocol, port.port);
    let internal = service
        .cluster_ips
        .iter()
        .map(|address| (at(address), Coming::Inside));
    let families: BTreeSet<IpFamily> = service.cluster_ips.iter().copied().map(IpFamily::of).collect();
    // Addresses of a family that the Service does not have are ignored.
    let own = |address: &&IpAddr| families.contains(&IpFamily::of(**address));
    let external = service.external_ips.iter().filter(own);
    let external = external.map(|address| (at(address), Coming::Outside));
    let balanced = service.load_balancer_ips.iter().filter(own);
    let balanced = balanced.map(|address| (at(address), Coming::Balanced));
    let has_node_port =
        port.node_port != 0 && matches!(service.kind, ServiceType::NodePort | ServiceType::LoadBalancer);
    let node_ports = families.iter().copied().filter(|_| has_node_port);
    let node_ports = node_ports.map(|family| {
        let destination = Destination::NodePort(family, protocol, port.node_port);
        (destination, Coming::Outside)
    });
    internal
        .chain(external)
        .chain(balanced)
        .chain(node_ports)
        .collect()
}

/// The networks of a family from which clients of a load balancer are accepted. As in Kubernetes,
/// ranges of the other family have no effect.
fn sources(service: &ServiceView, family: IpFamily) -> Option<Arc<[IpNet]>> {
    let ranges = service.source_ranges.iter();
    let ranges: Vec<IpNet> = ranges
        .filter_map(|range| range.parse().ok())
        .filter(|range: &IpNet| IpFamily::of(range.addr()) == family)
        .collect();
    (!ranges.is_empty()).then(|| IpNet::aggregate(&ranges).into())
}

fn route(service: &ServiceView, categories: &Categories, coming: Coming, family: IpFamily) -> Route {
    let external = coming != Coming::Inside;
    let local = if external {
        service.external_local
    } else {
        service.internal_local
    };
    let endpoints = if local {
        &categories.local
    } else {
        &categories.cluster
    };
    Route {
        endpoints: endpoints.clone(),
        inside: (external && local && categories.cluster != categories.local)
            .then(|| categories.cluster.clone()),
        silent: endpoints.is_empty() && categories.any,
        affinity_seconds: service.affinity_seconds,
        masquerade: external && !local,
        sources: match coming {
            Coming::Balanced => sources(service, family),
            Coming::Inside | Coming::Outside => None,
        },
    }
}

/// Everything that may have changed, with its old state.
#[derive(Default)]
struct Touched {
    routes: BTreeMap<Destination, Option<Route>>,
    cluster_ips: BTreeMap<IpAddr, bool>,
    local: BTreeMap<IpAddr, bool>,
}

impl Touched {
    fn destination(&mut self, index: &Services, destination: Destination) {
        let before = || index.route(&destination).cloned();
        self.routes.entry(destination).or_insert_with(before);
    }

    fn cluster_ip(&mut self, index: &Services, address: IpAddr) {
        let before = || index.cluster_ips.contains_key(&address);
        self.cluster_ips.entry(address).or_insert_with(before);
    }

    fn local(&mut self, index: &Services, address: IpAddr) {
        let before = || index.local.contains_key(&address);
        self.local.entry(address).or_insert_with(before);
    }

    /// The differences to the old state.
    fn changes(self, index: &Services) -> Changes {
        let mut changes = Changes::default();
        for (destination, before) in self.routes {
            let now = index.route(&destination);
            if before.as_ref() != now {
                changes.routes.insert(destination, now.cloned());
            }
        }
        let differing = |before: BTreeMap<IpAddr, bool>, counts: &HashMap<IpAddr, usize>| {
            before
                .into_iter()
                .map(|(address, before)| (address, before, counts.contains_key(&address)))
                .filter(|(_, before, now)| before != now)
                .map(|(address, _, now)| (address, now))
                .collect()
        };
        changes.cluster_ips = differing(self.cluster_ips, &index.cluster_ips);
        changes.local = differing(self.local, &index.local);
        changes
    }
}

impl Services {
    fn route(&self, destination: &Destination) -> Option<&Route> {
        let (_, route) = self.routes.get(destination)?.first_key_value()?;
        Some(route)
    }
}

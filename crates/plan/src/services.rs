//! Where a node leads the clients of Services: an index over Services and EndpointSlices, as the node's proxy reads them.
//!
//! [`Services`] is told objects as they change; [`Services::changes`] answers what that changes for this node: per destination that clients
//! connect to, a [`Route`]. A change costs the Services that it touches, however many others there are.
//!
//! The rules are those of Kubernetes' Services: which endpoints serve follows from their conditions (ready ones; when none is, those that
//! still serve while they terminate), from hints (`trafficDistribution`) and from the traffic policies. See [`Route`] for what happens without any.

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

/// What a client connects to.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Destination {
    /// A Service's own address: a cluster IP, an external IP, a load balancer's.
    Address(IpAddr, Protocol, u16),
    /// A port of every address of the node.
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

/// Where new connections to one destination go.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Route {
    /// One of these, by chance. Sorted, each once.
    pub endpoints: Arc<[SocketAddr]>,
    /// For the node's own programs and pods, where that differs: a destination whose `externalTrafficPolicy` is `Local` is, from inside,
    /// like any other.
    pub inside: Option<Arc<[SocketAddr]>>,
    /// Without endpoints: whether the client is left waiting instead of refused. There are endpoints, but a policy keeps them from this node.
    pub silent: bool,
    /// For how many seconds a client stays with its endpoint.
    pub affinity_seconds: Option<u32>,
    /// Whether the endpoint sees the node instead of the client, so that its answers come back here.
    pub masquerade: bool,
    /// Who may come: networks of the destination's family, none within another. Packets of others are dropped. `None` is anybody.
    pub sources: Option<Arc<[IpNet]>>,
}

/// What changed for the node: `None` and `false` are gone.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Changes {
    /// Destinations.
    pub routes: BTreeMap<Destination, Option<Route>>,
    /// Addresses that belong to Services alone: what is not led anywhere there is refused.
    pub cluster_ips: BTreeMap<IpAddr, bool>,
    /// Addresses of endpoints on this node: what one sends to itself by a Service must come from elsewhere.
    pub local: BTreeMap<IpAddr, bool>,
}

impl Changes {
    /// Whether nothing changed.
    pub fn is_empty(&self) -> bool {
        self.routes.is_empty() && self.cluster_ips.is_empty() && self.local.is_empty()
    }
}

/// What one Service asks of the node.
#[derive(Default)]
struct Wanted {
    routes: BTreeMap<Destination, Route>,
    cluster_ips: BTreeSet<IpAddr>,
    local: BTreeSet<IpAddr>,
}

/// Whose a destination is when several Services name it: the oldest one's.
type Claim = (Option<Timestamp>, Key);

/// The index.
pub struct Services {
    place: Place,
    services: HashMap<Key, Arc<ServiceView>>,
    slices: HashMap<Key, Arc<EndpointSliceView>>,
    /// The slices of a Service, by name.
    slices_of: HashMap<Key, BTreeSet<Arc<str>>>,
    /// What was last worked out of each Service, and under which claim.
    wanted: HashMap<Key, (Claim, Wanted)>,
    routes: BTreeMap<Destination, BTreeMap<Claim, Route>>,
    cluster_ips: HashMap<IpAddr, usize>,
    local: HashMap<IpAddr, usize>,
    /// Uids of the node's own pods, each with the number of endpoints that lead new clients to it.
    led_to: HashMap<Arc<str>, usize>,
    dirty: BTreeSet<Key>,
}

impl Services {
    /// Of the node of this name. Its zone comes later, by [`Services::set_zone`].
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

    /// The node's zone: its label `topology.kubernetes.io/zone`.
    pub fn set_zone(&mut self, zone: Option<&str>) {
        if self.place.zone.as_deref() != zone {
            self.place.zone = zone.map(Into::into);
            self.dirty.extend(self.services.keys().cloned());
        }
    }

    /// The Service of this key as it is now; `None` is gone.
    pub fn set_service(&mut self, key: Key, service: Option<Arc<ServiceView>>) {
        match service {
            Some(service) => self.services.insert(key.clone(), service),
            None => self.services.remove(&key),
        };
        self.dirty.insert(key);
    }

    /// The EndpointSlice of this key as it is now; `None` is gone.
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

    /// Uids of the pods on this node to which the slices lead new clients: those with an endpoint that is ready and not terminating. Headless
    /// Services count too.
    pub fn led_to(&self) -> impl Iterator<Item = &Arc<str>> {
        self.led_to.keys()
    }

    /// What changed for the node since it was last asked.
    pub fn changes(&mut self) -> Changes {
        let mut touched = Touched::default();
        for key in std::mem::take(&mut self.dirty) {
            self.withdraw(&key, &mut touched);
            self.claim(key, &mut touched);
        }
        touched.changes(self)
    }

    /// How many destinations there are.
    pub fn len(&self) -> usize {
        self.routes.len()
    }

    /// Whether no Service has a destination.
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

    /// What a Service asks of the node, worked out from its endpoints.
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
            // One list a family, whatever number of addresses leads to it.
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

/// Which way clients come.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Coming {
    /// By a cluster address.
    Inside,
    /// By an external address, or a port of the node.
    Outside,
    /// By an address of a load balancer.
    Balanced,
}

/// All that clients of a Service's port connect to, and how they come that way.
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
    // A Service has nothing to do with addresses of a family that it does not have.
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

/// The networks of a family from which clients of a load balancer may come. Kubernetes' rule: ranges of the other family say nothing.
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

/// What may have changed, each with what it was before.
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

    /// What is different now.
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

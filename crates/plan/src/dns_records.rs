//! DNS records of the cluster, by Kubernetes' DNS specification (schema 1.1.0), from Services and
//! EndpointSlices.
//!
//! [`Records`] is an index that follows the objects: a changed slice costs as much as it has
//! endpoints, not as its Service has. Answers do not depend on the order of the changes. Names are
//! lower-case labels, the leftmost first. An answer borrows from the index.
//!
//! Below a Service's name, each ready endpoint has a name: its hostname, or else its address with
//! dashes. Beyond the specification, each node also has a name, with the ready endpoints on the
//! node: a node's daemon keeps that name when its pod is replaced. A hostname has precedence over a
//! node's name. A node's name may contain dots.

mod counted;
mod endpoints;
mod question;
mod read;

use std::collections::{BTreeMap, HashMap, HashSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

use counted::Counted;
use endpoints::{Endpoints, Pointer};

pub use question::Kind;

/// TTL of an answer in seconds, also of a negative one. The server runs on the client's machine, so
/// another query is cheap. CoreDNS has the same default; kubeadm configures 30.
pub const TTL: u32 = 5;
/// TTL of the schema version in seconds: the example of the specification.
pub const VERSION_TTL: u32 = 28_800;
/// The version of the specification.
pub const SCHEMA_VERSION: &str = "1.1.0";

/// The part of a Service that names depend on.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Service {
    /// `clusterIP: None`: its name resolves to its endpoints.
    pub headless: bool,
    /// Addresses of the Service; empty if it is headless.
    pub cluster_ips: Vec<IpAddr>,
    /// The name that it is an alias of (type ExternalName).
    pub external_name: Option<String>,
    /// Its ports.
    pub ports: Vec<Port>,
    /// Whether endpoints that are not ready count too.
    pub publish_not_ready_addresses: bool,
}

/// A port, of a Service or of an endpoint.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Port {
    /// Name; empty without one.
    pub name: String,
    /// `tcp`, `udp` or `sctp`.
    pub protocol: String,
    /// Number.
    pub number: u16,
}

/// The part of an EndpointSlice that names depend on.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Slice {
    /// The Service that the slice belongs to, in the same namespace.
    pub service: String,
    /// Ports of all its endpoints.
    pub ports: Arc<[Port]>,
    /// Its endpoints.
    pub endpoints: Vec<Endpoint>,
}

/// One endpoint of a slice.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Endpoint {
    /// Its addresses, of one family.
    pub addresses: Vec<IpAddr>,
    /// Whether it is ready; an unknown state counts as ready.
    pub ready: bool,
    /// The pod's hostname, if its subdomain is the Service.
    pub hostname: Option<String>,
    /// The node that it runs on.
    pub node: Option<String>,
}

/// The answer to a question.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer<'a> {
    /// The name is outside the cluster's domain: forward the question.
    Elsewhere,
    /// Neither this name nor one below it exists.
    NoName,
    /// The name exists, but has no record of this type.
    NoData,
    /// The name is an alias of another one (`CNAME`).
    Alias(&'a str),
    /// `A`.
    V4(&'a [Ipv4Addr]),
    /// `AAAA`.
    V6(&'a [Ipv6Addr]),
    /// The address that the name itself contains.
    Spelt(IpAddr),
    /// `SRV`.
    Targets(Vec<Target<'a>>),
    /// `PTR`: names relative to the cluster's domain.
    Pointers(Vec<&'a str>),
    /// `TXT`: [`SCHEMA_VERSION`].
    Version,
    /// `NS`.
    NameServer,
    /// `SOA`.
    Authority,
}

/// One `SRV` record: a port and its target. The target's name is [`Target::below`] and the
/// Service's name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target<'a> {
    /// Port.
    pub port: u16,
    /// Labels below the Service's name; `None` is the Service itself.
    pub below: Option<&'a str>,
    /// The target's IPv4 addresses.
    pub v4: &'a [Ipv4Addr],
    /// Its IPv6 addresses.
    pub v6: &'a [Ipv6Addr],
}

/// All names of a cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Records {
    /// Labels of the domain, the leftmost first.
    domain: Vec<Box<str>>,
    server_v4: Vec<Ipv4Addr>,
    server_v6: Vec<Ipv6Addr>,
    /// By namespace, then name.
    services: HashMap<Box<str>, HashMap<Box<str>, Entry>>,
    /// Which Service a slice belongs to, by namespace and name of the slice.
    slices: HashMap<(Box<str>, Box<str>), Box<str>>,
    reverse: Reverse,
}

/// A Service's name: the Service, its slices (which may come first), and the records from both.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Entry {
    service: Option<Service>,
    slices: BTreeMap<Box<str>, Slice>,
    cluster_v4: Vec<Ipv4Addr>,
    cluster_v6: Vec<Ipv6Addr>,
    endpoints: Endpoints,
}

impl Records {
    /// An index without Services. `domain` is the cluster's (`cluster.local`), `server` the
    /// addresses of its DNS.
    pub fn new(domain: &str, server: &[IpAddr]) -> Records {
        let (server_v4, server_v6) = by_family(server);
        Records {
            domain: labels(domain).map(|label| lower(label).into()).collect(),
            server_v4,
            server_v6,
            services: HashMap::new(),
            slices: HashMap::new(),
            reverse: HashMap::new(),
        }
    }

    /// The cluster's domain, `cluster.local`.
    pub fn domain(&self) -> String {
        self.domain.join(".")
    }

    /// Adds, changes or removes a Service.
    pub fn set_service(&mut self, namespace: &str, name: &str, service: Option<Service>) {
        let place = Place { namespace, name };
        let reverse = &mut self.reverse;
        let services = self.services.entry(namespace.into()).or_default();
        let entry = services.entry(name.into()).or_default();
        // Its own addresses, ports and alias are cheap. The endpoints are counted again only if
        // needed.
        let counts = |service: &Option<Service>| {
            let service = service.as_ref();
            service.map(|service| (service.headless, service.publish_not_ready_addresses))
        };
        let recount = counts(&entry.service) != counts(&service);
        entry.count_service(place, reverse, Count::Out);
        if recount {
            entry.count_slices(place, reverse, Count::Out);
        }
        let addresses = service.as_ref().map(|service| service.cluster_ips.as_slice());
        (entry.cluster_v4, entry.cluster_v6) = by_family(addresses.unwrap_or_default());
        entry.service = service;
        entry.count_service(place, reverse, Count::In);
        if recount {
            entry.count_slices(place, reverse, Count::In);
        }
        self.forget_if_empty(namespace, name);
    }

    /// Adds, changes or removes a slice.
    pub fn set_slice(&mut self, namespace: &str, name: &str, slice: Option<Slice>) {
        let key = (namespace.into(), name.into());
        let owner = slice
            .as_ref()
            .map(|slice| Box::<str>::from(slice.service.as_str()));
        let before = match &owner {
            Some(owner) => self.slices.insert(key, owner.clone()),
            None => self.slices.remove(&key),
        };
        if let Some(before) = before.filter(|before| Some(before) != owner.as_ref()) {
            self.replace_slice(namespace, &before, name, None);
            self.forget_if_empty(namespace, &before);
        }
        if let Some(owner) = owner {
            self.replace_slice(namespace, &owner, name, slice);
        }
    }

    /// Replaces a slice of a Service. Endpoints in both versions are not touched.
    fn replace_slice(&mut self, namespace: &str, service: &str, name: &str, slice: Option<Slice>) {
        let place = Place {
            namespace,
            name: service,
        };
        let reverse = &mut self.reverse;
        let services = self.services.entry(namespace.into()).or_default();
        let entry = services.entry(service.into()).or_default();
        let before = entry.slices.remove(name).unwrap_or_default();
        let stays = slice.is_some();
        let mut after = slice.unwrap_or_default();
        let mut seen = HashSet::new();
        after.endpoints.retain(|endpoint| seen.insert(endpoint.clone()));
        let kept: HashSet<Endpoint> = match before.ports == after.ports {
            true => before
                .endpoints
                .iter()
                .filter(|one| seen.contains(one))
                .cloned()
                .collect(),
            false => HashSet::new(),
        };
        let changed = |endpoint: &&Endpoint| !kept.contains(*endpoint);
        let gone = before.endpoints.iter().filter(changed);
        entry.count(place, gone, &before.ports, reverse, Count::Out);
        let new = after.endpoints.iter().filter(changed);
        entry.count(place, new, &after.ports, reverse, Count::In);
        if stays {
            entry.slices.insert(name.into(), after);
        }
    }

    fn forget_if_empty(&mut self, namespace: &str, name: &str) {
        let Some(services) = self.services.get_mut(namespace) else {
            return;
        };
        let empty = |entry: &Entry| entry.service.is_none() && entry.slices.is_empty();
        if services.get(name).is_some_and(empty) {
            services.remove(name);
        }
        if services.is_empty() {
            self.services.remove(namespace);
        }
    }
}

/// Namespace and name of a Service.
#[derive(Clone, Copy)]
struct Place<'a> {
    namespace: &'a str,
    name: &'a str,
}

/// Whether records are added or removed.
#[derive(Clone, Copy)]
enum Count {
    In,
    Out,
}

type Reverse = HashMap<IpAddr, Counted<Pointer>>;

impl Entry {
    /// Adds or removes all slices.
    fn count_slices(&mut self, place: Place, reverse: &mut Reverse, count: Count) {
        let slices = std::mem::take(&mut self.slices);
        for slice in slices.values() {
            self.count(place, slice.endpoints.iter(), &slice.ports, reverse, count);
        }
        self.slices = slices;
    }

    /// Adds or removes endpoints.
    fn count<'a>(
        &mut self,
        place: Place,
        endpoints: impl Iterator<Item = &'a Endpoint>,
        ports: &Arc<[Port]>,
        reverse: &mut Reverse,
        count: Count,
    ) {
        // Slices without a Service have no names.
        let Some(service) = &self.service else { return };
        let counts = |endpoint: &&Endpoint| endpoint.ready || service.publish_not_ready_addresses;
        for endpoint in endpoints.filter(counts) {
            for address in &endpoint.addresses {
                let hostname = endpoint.hostname.as_deref().filter(|name| !name.is_empty());
                let label = hostname.map_or_else(|| dashed(*address), lower);
                match count {
                    Count::In => self.endpoints.insert(*address, &label, endpoint, ports),
                    Count::Out => self.endpoints.remove(*address, &label, endpoint, ports),
                }
                // The reverse name of an endpoint of a Service with an own address exists only for
                // a hostname.
                if hostname.is_some() || service.headless {
                    let rank = if hostname.is_some() { 1 } else { 2 };
                    let name = format!("{label}.{}.{}.svc", place.name, place.namespace);
                    point(reverse, *address, Pointer { rank, name }, count);
                }
            }
        }
    }

    /// Adds or removes the reverse names of the Service's own addresses.
    fn count_service(&self, place: Place, reverse: &mut Reverse, count: Count) {
        for address in self.service.iter().flat_map(|service| &service.cluster_ips) {
            let name = format!("{}.{}.svc", place.name, place.namespace);
            point(reverse, *address, Pointer { rank: 0, name }, count);
        }
    }
}

/// Adds or removes a reverse name of an address.
fn point(reverse: &mut Reverse, address: IpAddr, pointer: Pointer, count: Count) {
    let pointers = reverse.entry(address).or_default();
    match count {
        Count::In => pointers.insert(pointer),
        Count::Out => pointers.remove(&pointer),
    }
    if pointers.is_empty() {
        reverse.remove(&address);
    }
}

/// The label of an endpoint without a hostname: its address, with dashes.
fn dashed(address: IpAddr) -> String {
    address.to_string().replace(['.', ':'], "-")
}

fn lower(text: &str) -> String {
    text.to_ascii_lowercase()
}

fn labels(name: &str) -> impl Iterator<Item = &str> {
    name.split('.').filter(|label| !label.is_empty())
}

fn by_family(addresses: &[IpAddr]) -> (Vec<Ipv4Addr>, Vec<Ipv6Addr>) {
    let v4 = addresses.iter().filter_map(|address| match address {
        IpAddr::V4(address) => Some(*address),
        IpAddr::V6(_) => None,
    });
    let v6 = addresses.iter().filter_map(|address| match address {
        IpAddr::V6(address) => Some(*address),
        IpAddr::V4(_) => None,
    });
    (v4.collect(), v6.collect())
}

#[cfg(test)]
mod tests;

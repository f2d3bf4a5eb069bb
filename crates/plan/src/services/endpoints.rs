//! Selects the endpoints of a Service's port for a node.

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use api::view::{AddressType, EndpointSliceView, EndpointView, IpFamily, ServicePortView, ServiceView};

/// Name and zone of the node.
pub(super) struct Place {
    pub(super) node: Arc<str>,
    pub(super) zone: Option<Arc<str>>,
}

/// The endpoints of one port and family, by traffic policy.
pub(super) struct Categories {
    /// Endpoints for the policy `Cluster`: of all nodes, or only near ones if hints exist.
    pub(super) cluster: Arc<[SocketAddr]>,
    /// Endpoints for the policy `Local`: on this node.
    pub(super) local: Arc<[SocketAddr]>,
    /// Whether any endpoint serves on any node.
    pub(super) any: bool,
    /// Addresses of endpoints on this node, in any state.
    pub(super) local_addresses: BTreeSet<IpAddr>,
}

/// An endpoint with its port.
struct At<'a> {
    address: SocketAddr,
    endpoint: &'a EndpointView,
}

/// Selects the endpoints of a Service's port, like Kubernetes' proxies.
pub(super) fn categorize<'a>(
    service: &ServiceView,
    port: &ServicePortView,
    family: IpFamily,
    slices: impl Iterator<Item = &'a EndpointSliceView>,
    place: &Place,
) -> Categories {
    let all: Vec<At<'a>> = slices
        .filter(|slice| slice.address_type == AddressType::from(family))
        .filter_map(|slice| Some((slice, target_port(slice, port)?)))
        .flat_map(|(slice, port)| {
            slice
                .endpoints
                .iter()
                .filter_map(move |endpoint| at(endpoint, port))
        })
        .filter(|at| IpFamily::of(at.address.ip()) == family)
        .collect();
    let is_local = |at: &&At<'_>| at.endpoint.node.as_deref() == Some(&*place.node);
    let ready = |at: &&At<'_>| at.endpoint.ready;
    let leaving = |at: &&At<'_>| at.endpoint.serving && at.endpoint.terminating;

    let near = nearness(&all, place);
    let mut cluster = addresses(all.iter().filter(ready).filter(|at| near.admits(at, place)));
    if cluster.is_empty() {
        cluster = addresses(all.iter().filter(leaving));
    }
    let local = if service.internal_local || service.external_local {
        let local = addresses(all.iter().filter(is_local).filter(ready));
        if local.is_empty() {
            addresses(all.iter().filter(is_local).filter(leaving))
        } else {
            local
        }
    } else {
        Arc::default()
    };
    Categories {
        any: !cluster.is_empty(),
        cluster,
        local,
        local_addresses: all.iter().filter(is_local).map(|at| at.address.ip()).collect(),
    }
}

/// Uids of the pods on this node to which a slice forwards new clients, once for each endpoint. An
/// endpoint that is published before it is ready stays ready while it terminates, but is not
/// included.
pub(super) fn led_to<'a>(
    slice: &'a EndpointSliceView,
    place: &'a Place,
) -> impl Iterator<Item = &'a Arc<str>> {
    let leading = slice.endpoints.iter().filter(|endpoint| {
        endpoint.ready && !endpoint.terminating && endpoint.node.as_deref() == Some(&*place.node)
    });
    let pods = leading.filter_map(|endpoint| endpoint.target.as_ref());
    pods.filter(|target| &*target.kind == "Pod")
        .map(|target| &target.uid)
}

/// The port number of a slice for a Service's port.
fn target_port(slice: &EndpointSliceView, port: &ServicePortView) -> Option<u16> {
    let mut ports = slice.ports.iter();
    ports
        .find(|other| other.name == port.name && other.protocol == port.protocol)?
        .port
}

fn at(endpoint: &EndpointView, port: u16) -> Option<At<'_>> {
    let address: IpAddr = endpoint.addresses.first()?.parse().ok()?;
    Some(At {
        address: SocketAddr::new(address, port),
        endpoint,
    })
}

fn addresses<'a>(endpoints: impl Iterator<Item = &'a At<'a>>) -> Arc<[SocketAddr]> {
    let mut addresses: Vec<SocketAddr> = endpoints.map(|at| at.address).collect();
    addresses.sort_unstable();
    addresses.dedup();
    addresses.into()
}

/// Required distance of an endpoint.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Nearness {
    Anywhere,
    Zone,
    Node,
}

impl Nearness {
    fn admits(self, at: &At<'_>, place: &Place) -> bool {
        match self {
            Nearness::Anywhere => true,
            Nearness::Zone => place
                .zone
                .as_ref()
                .is_some_and(|zone| at.endpoint.for_zones.contains(zone)),
            Nearness::Node => at.endpoint.for_nodes.contains(&place.node),
        }
    }
}

/// The distance that hints require. They count only if every ready endpoint has hints and one of
/// them matches here. Otherwise the slices may be incomplete, or no near endpoint would be left.
fn nearness(all: &[At<'_>], place: &Place) -> Nearness {
    let counts = |nearness: Nearness, hinted: fn(&EndpointView) -> bool| {
        let ready = || all.iter().filter(|at| at.endpoint.ready);
        ready().all(|at| hinted(at.endpoint)) && ready().any(|at| nearness.admits(at, place))
    };
    if counts(Nearness::Node, |endpoint| !endpoint.for_nodes.is_empty()) {
        Nearness::Node
    } else if counts(Nearness::Zone, |endpoint| !endpoint.for_zones.is_empty()) {
        Nearness::Zone
    } else {
        Nearness::Anywhere
    }
}

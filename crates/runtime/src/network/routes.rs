//! Routes to the pods of other nodes: directly to a node on the same link, and through a VXLAN
//! device to others.
//!
//! The wanted state is compared with the kernel's, and the difference is applied: missing entries
//! are added, unwanted ones are removed, and the others are not touched. Own routes have a protocol
//! number and a metric of this instance; other routes are never removed.
//!
//! The receiving end of a tunnel follows from its node's range ([`TunnelEnd::of`]), both VNI and
//! hardware address. Each node receives with its own VNI, so several instances can share a machine
//! and a port.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use futures::TryStreamExt;
use ipnet::IpNet;
use nix::net::if_::if_nametoindex;
use rtnetlink::packet_route::AddressFamily;
use rtnetlink::packet_route::link::{InfoData, InfoVxlan, LinkAttribute, LinkInfo};
use rtnetlink::packet_route::neighbour::{
    NeighbourAddress, NeighbourAttribute, NeighbourFlags, NeighbourMessage,
};
use rtnetlink::packet_route::route::{RouteAddress, RouteAttribute, RouteMessage, RouteProtocol};
use rtnetlink::{Handle, LinkUnspec, LinkVxlan, RouteMessageBuilder};

use super::Range;
use super::link::{add_address, index_of, netlink, remove_other_addresses};
use crate::error::Context as _;
use crate::layout::short_hash;
use crate::{Error, Result};

/// Protocol number of own routes, as in `ip route` (`proto 110`). No routing daemon uses it.
pub const ROUTE_PROTOCOL: u8 = 110;

/// Bytes that VXLAN adds to a packet, over IPv4 and over IPv6.
const OVERHEAD: (u32, u32) = (50, 70);

/// A route to the pods of another node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Route {
    /// The range of these pods.
    pub range: Range,
    /// The next hop.
    pub via: Via,
}

/// The next hop to another node's pods.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Via {
    /// The node's address on a common link.
    Link(IpAddr),
    /// The node's address outside the tunnel, and the receiving end of the tunnel.
    Tunnel(IpAddr, TunnelEnd),
}

/// The receiving end of a tunnel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TunnelEnd {
    /// VXLAN network identifier under which it receives.
    pub vni: u32,
    /// Its hardware address.
    pub mac: [u8; 6],
}

impl TunnelEnd {
    /// Returns the end of the node with this first range.
    pub fn of(range: &Range) -> TunnelEnd {
        let digits = short_hash(range.to_string().as_bytes(), 14);
        let number = u64::from_str_radix(&digits, 16).unwrap_or(0).to_be_bytes();
        TunnelEnd {
            // VNI 0 is not valid.
            vni: u32::from_be_bytes([0, number[1], number[2], number[3]]).max(1),
            // Locally administered and unicast.
            mac: [0x0e, 0x11, number[4], number[5], number[6], number[7]],
        }
    }
}

/// Errors of routes that could not be set, by range.
pub type RouteFailures = BTreeMap<Range, Error>;

/// Names and numbers of this instance.
#[derive(Clone, Debug)]
pub(super) struct Place {
    pub(super) tunnel: String,
    pub(super) metric: u32,
    pub(super) own: Vec<Range>,
    pub(super) node_addresses: Vec<IpAddr>,
    pub(super) port: u16,
}

/// A route in the kernel.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Entry {
    to: IpNet,
    gateway: IpAddr,
    /// Link index of the tunnel, if the route uses it.
    tunnel: Option<u32>,
}

/// Sets the kernel's routes to the wanted ones.
pub(super) fn apply(place: &Place, wanted: &[Route]) -> Result<RouteFailures> {
    let (place, wanted) = (place.clone(), wanted.to_vec());
    netlink(None, async move |handle| {
        let peers = tunnel_peers(&wanted);
        let tunnel = match peers.is_empty() {
            true => None,
            false => Some(ensure_tunnel(&handle, &place, &peers).await?),
        };
        let desired: BTreeMap<Entry, Range> = wanted
            .iter()
            .map(|route| (entry(route, tunnel), route.range))
            .collect();
        let present = own_routes(&handle, place.metric).await?;
        for (entry, message) in &present {
            if !desired.contains_key(entry) {
                delete(&handle, entry, message).await?;
            }
        }
        let mut failures = RouteFailures::new();
        for (entry, range) in &desired {
            if present.contains_key(entry) {
                continue;
            }
            if let Err(error) = handle.route().add(message(entry, place.metric)).execute().await {
                let Entry { to, gateway, .. } = entry;
                failures.insert(
                    *range,
                    Error::machine(format!("route {to} via {gateway}: {error}")),
                );
            }
        }
        if tunnel.is_none() {
            super::link::remove_with(&handle, &place.tunnel).await?;
        }
        Ok(failures)
    })
}

/// Removes all routes and the tunnel.
pub(super) fn clear(tunnel: &str, metric: u32) -> Result<()> {
    let tunnel = tunnel.to_owned();
    netlink(None, async move |handle| {
        for (entry, message) in own_routes(&handle, metric).await? {
            delete(&handle, &entry, &message).await?;
        }
        super::link::remove_with(&handle, &tunnel).await
    })
}

fn entry(route: &Route, tunnel: Option<u32>) -> Entry {
    match route.via {
        Via::Link(gateway) => Entry {
            to: route.range.net(),
            gateway,
            tunnel: None,
        },
        Via::Tunnel(..) => Entry {
            to: route.range.net(),
            gateway: route.range.base(),
            tunnel,
        },
    }
}

async fn own_routes(handle: &Handle, metric: u32) -> Result<BTreeMap<Entry, RouteMessage>> {
    let mut own = BTreeMap::new();
    let families = [
        RouteMessageBuilder::<Ipv4Addr>::new().build(),
        RouteMessageBuilder::<Ipv6Addr>::new().build(),
    ];
    for family in families {
        let mut all = std::pin::pin!(handle.route().get(family).execute());
        while let Some(message) = all.try_next().await.context(|| "list the routes")? {
            if let Some(entry) = own_entry(&message, metric) {
                own.insert(entry, message);
            }
        }
    }
    Ok(own)
}

/// Returns a message as an entry, if it belongs to this instance.
fn own_entry(message: &RouteMessage, metric: u32) -> Option<Entry> {
    if message.header.protocol != RouteProtocol::from(ROUTE_PROTOCOL) {
        return None;
    }
    let (mut to, mut gateway, mut output, mut priority) = (None, None, None, None);
    for attribute in &message.attributes {
        match attribute {
            RouteAttribute::Destination(address) => to = ip(address),
            RouteAttribute::Gateway(address) => gateway = ip(address),
            RouteAttribute::Oif(index) => output = Some(*index),
            RouteAttribute::Priority(number) => priority = Some(*number),
            _ => {}
        }
    }
    let to = IpNet::new(to?, message.header.destination_prefix_length).ok()?;
    let gateway = gateway?;
    (priority? == metric).then(|| Entry {
        // The next hop of a route through the tunnel is the base address of its peer's range.
        tunnel: output.filter(|_| gateway == to.network()),
        to,
        gateway,
    })
}

fn ip(address: &RouteAddress) -> Option<IpAddr> {
    match address {
        RouteAddress::Inet(address) => Some((*address).into()),
        RouteAddress::Inet6(address) => Some((*address).into()),
        _ => None,
    }
}

fn message(entry: &Entry, metric: u32) -> RouteMessage {
    let protocol = RouteProtocol::from(ROUTE_PROTOCOL);
    let length = entry.to.prefix_len();
    macro_rules! build {
        ($family:ty, $to:expr, $gateway:expr) => {{
            let route = RouteMessageBuilder::<$family>::new()
                .destination_prefix($to, length)
                .gateway($gateway)
                .protocol(protocol)
                .priority(metric);
            match entry.tunnel {
                Some(index) => route.output_interface(index).onlink().build(),
                None => route.build(),
            }
        }};
    }
    match (entry.to.network(), entry.gateway) {
        (IpAddr::V6(to), IpAddr::V6(gateway)) => build!(Ipv6Addr, to, gateway),
        (IpAddr::V4(to), IpAddr::V4(gateway)) => build!(Ipv4Addr, to, gateway),
        // The planner pairs families; the kernel would refuse a mixed pair.
        (IpAddr::V4(to), IpAddr::V6(_)) => build!(Ipv4Addr, to, Ipv4Addr::UNSPECIFIED),
        (IpAddr::V6(to), IpAddr::V4(_)) => build!(Ipv6Addr, to, Ipv6Addr::UNSPECIFIED),
    }
}

async fn delete(handle: &Handle, entry: &Entry, message: &RouteMessage) -> Result<()> {
    match handle.route().del(message.clone()).execute().await {
        Ok(()) => Ok(()),
        // The route was removed with its link.
        Err(rtnetlink::Error::NetlinkError(error)) if error.raw_code() == -libc::ESRCH => Ok(()),
        Err(error) => Err(Error::machine(format!(
            "remove the route {} via {}: {error}",
            entry.to, entry.gateway
        ))),
    }
}

/// A node behind the tunnel: the inner address of its end, its outer address, and its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Peer {
    inner: IpAddr,
    outer: IpAddr,
    end: TunnelEnd,
}

fn tunnel_peers(wanted: &[Route]) -> BTreeSet<Peer> {
    let peers = wanted.iter().filter_map(|route| match route.via {
        Via::Link(_) => None,
        Via::Tunnel(outer, end) => Some(Peer {
            inner: route.range.base(),
            outer,
            end,
        }),
    });
    peers.collect()
}

/// Creates the tunnel's device with its addresses and peers. Returns its link index.
async fn ensure_tunnel(handle: &Handle, place: &Place, peers: &BTreeSet<Peer>) -> Result<u32> {
    let name = &place.tunnel;
    let Some(first) = place.own.first() else {
        return Err(Error::machine("a tunnel needs a pod range of its own"));
    };
    let end = TunnelEnd::of(first);
    let over_ipv4 = peers.iter().any(|peer| peer.outer.is_ipv4());
    let mtu = super::mtu_of(&place.node_addresses) - tunnel_overhead(over_ipv4);
    let local = place
        .node_addresses
        .iter()
        .find(|address| address.is_ipv4() == over_ipv4)
        .copied();
    if !is_from(handle, name, local).await? {
        // The source address of a device cannot be changed. Its routes and neighbors are removed
        // with it and added again.
        super::link::remove_with(handle, name).await?;
    }
    if if_nametoindex(name.as_str()).is_err() {
        let device = LinkVxlan::new(name, end.vni)
            .port(place.port)
            .learning(false)
            .address(end.mac.to_vec())
            .mtu(mtu);
        let device = match local {
            Some(IpAddr::V4(local)) => device.local(local),
            Some(IpAddr::V6(local)) => device.local6(local),
            None => device,
        };
        super::link::create(handle, device.build(), "vxlan")
            .await
            .context(|| format!("create the VXLAN device {name} at port {}", place.port))?;
    }
    let index = index_of(name)?;
    if place.own.iter().any(|range| !range.is_ipv4()) {
        super::write_sysctl(&format!("net/ipv6/conf/{name}/disable_ipv6"), "0")?;
    }
    let addresses: Vec<(IpAddr, u8)> = place
        .own
        .iter()
        .map(|range| (range.base(), if range.is_ipv4() { 32 } else { 128 }))
        .collect();
    for (address, prefix) in &addresses {
        add_address(handle, index, *address, *prefix)
            .await
            .context(|| format!("give {name} the address {address}"))?;
    }
    remove_other_addresses(handle, index, &addresses)
        .await
        .context(|| format!("take other addresses from {name}"))?;
    handle
        .link()
        .set(
            LinkUnspec::new_with_index(index)
                .address(end.mac.to_vec())
                .mtu(mtu)
                .up()
                .build(),
        )
        .execute()
        .await
        .context(|| format!("set {name} up"))?;
    keep_neighbours(handle, index, peers, place.port).await?;
    Ok(index)
}

/// Returns whether the tunnel's device sends from this address. Also true if the device does not
/// exist.
async fn is_from(handle: &Handle, name: &str, local: Option<IpAddr>) -> Result<bool> {
    let Ok(index) = if_nametoindex(name) else {
        return Ok(true);
    };
    let mut links = std::pin::pin!(handle.link().get().match_index(index).execute());
    let link = links.try_next().await.context(|| format!("look at {name}"))?;
    let infos = link.into_iter().flat_map(|link| link.attributes);
    let infos = infos.filter_map(|attribute| match attribute {
        LinkAttribute::LinkInfo(infos) => Some(infos),
        _ => None,
    });
    let data = infos.flatten().find_map(|info| match info {
        LinkInfo::Data(InfoData::Vxlan(data)) => Some(data),
        _ => None,
    });
    let from = data.into_iter().flatten().find_map(|info| match info {
        InfoVxlan::Local(address) => Some(IpAddr::V4(address)),
        InfoVxlan::Local6(address) => Some(IpAddr::V6(address)),
        _ => None,
    });
    Ok(from == local)
}

/// Returns the bytes that a tunnel adds to a packet.
pub(super) fn tunnel_overhead(over_ipv4: bool) -> u32 {
    if over_ipv4 { OVERHEAD.0 } else { OVERHEAD.1 }
}

/// Sets the tunnel's neighbors: the hardware address of each inner address, and the outer address
/// of each hardware address.
async fn keep_neighbours(handle: &Handle, index: u32, peers: &BTreeSet<Peer>, port: u16) -> Result<()> {
    let known = neighbours(handle, index).await?;
    let wanted: BTreeSet<Neighbour> = peers
        .iter()
        .flat_map(|peer| {
            [
                Neighbour::Address(peer.inner, peer.end.mac),
                Neighbour::Forward(peer.end.mac, peer.outer, peer.end.vni),
            ]
        })
        .collect();
    for (neighbour, message) in known {
        if !wanted.contains(&neighbour) {
            handle
                .neighbours()
                .del(message)
                .execute()
                .await
                .context(|| format!("forget {neighbour:?}"))?;
        }
    }
    for neighbour in wanted {
        // Cheap, and it corrects an entry that another program changed.
        match neighbour {
            Neighbour::Address(inner, mac) => handle
                .neighbours()
                .add(index, inner)
                .link_layer_address(&mac)
                .replace()
                .execute()
                .await
                .context(|| format!("learn the neighbour {inner}"))?,
            Neighbour::Forward(mac, outer, vni) => {
                let mut request = handle
                    .neighbours()
                    .add_bridge(index, &mac)
                    .flags(NeighbourFlags::Own)
                    .destination(outer)
                    .replace();
                let attributes = &mut request.message_mut().attributes;
                attributes.push(NeighbourAttribute::Vni(vni));
                attributes.push(NeighbourAttribute::Port(port));
                request
                    .execute()
                    .await
                    .context(|| format!("learn the way to {outer}"))?;
            }
        }
    }
    Ok(())
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Neighbour {
    Address(IpAddr, [u8; 6]),
    Forward([u8; 6], IpAddr, u32),
}

async fn neighbours(handle: &Handle, index: u32) -> Result<Vec<(Neighbour, NeighbourMessage)>> {
    let mut found = Vec::new();
    for family in [AddressFamily::Inet, AddressFamily::Inet6, AddressFamily::Bridge] {
        let request = handle.neighbours().get().set_address_family(family);
        let mut all = std::pin::pin!(request.execute());
        while let Some(message) = all.try_next().await.context(|| "list the neighbours")? {
            if message.header.ifindex == index
                && let Some(neighbour) = neighbour(&message)
            {
                found.push((neighbour, message));
            }
        }
    }
    Ok(found)
}

fn neighbour(message: &NeighbourMessage) -> Option<Neighbour> {
    let (mut mac, mut to, mut vni) = (None, None, 0);
    for attribute in &message.attributes {
        match attribute {
            NeighbourAttribute::LinkLayerAddress(bytes) => mac = bytes.as_slice().try_into().ok(),
            NeighbourAttribute::Destination(address) => to = neighbour_ip(address),
            NeighbourAttribute::Vni(number) => vni = *number,
            _ => {}
        }
    }
    match message.header.family {
        AddressFamily::Bridge => Some(Neighbour::Forward(mac?, to?, vni)),
        // The kernel adds multicast entries by itself.
        _ => Some(Neighbour::Address(to.filter(|to| !to.is_multicast())?, mac?)),
    }
}

fn neighbour_ip(address: &NeighbourAddress) -> Option<IpAddr> {
    match address {
        NeighbourAddress::Inet(address) => Some((*address).into()),
        NeighbourAddress::Inet6(address) => Some((*address).into()),
        NeighbourAddress::Other(bytes) => match bytes.len() {
            4 => <[u8; 4]>::try_from(bytes.as_slice()).ok().map(IpAddr::from),
            16 => <[u8; 16]>::try_from(bytes.as_slice()).ok().map(IpAddr::from),
            _ => None,
        },
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_of_a_tunnel_is_known_from_the_range_of_its_node() {
        let end = |text: &str| TunnelEnd::of(&text.parse().unwrap());
        let one = end("10.244.1.0/24");
        assert_eq!(one, end("10.244.1.7/24"));
        assert_ne!(one, end("10.244.2.0/24"));
        assert!(one.vni > 0 && one.vni < 1 << 24);
        // Locally administered and unicast.
        assert_eq!(one.mac[0] & 3, 2);
    }
}

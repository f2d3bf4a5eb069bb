//! Plans routes from one node to the pods of the others.
//!
//! If a node's address is in a network of this machine, both share a link, and packets for its pods
//! are routed to it directly. Any other node is behind routers without routes to pods, so the
//! packets are encapsulated (VXLAN).
//!
//! Pods keep their own addresses when they reach pods, and nodes on a shared link, because those
//! have a route back. Packets to other destinations are masqueraded.

use std::net::IpAddr;

use api::view::NodeNetworkView;
use ipnet::IpNet;

/// State of this node.
#[derive(Clone, Debug)]
pub struct Here<'a> {
    /// Its name.
    pub name: &'a str,
    /// Its pod ranges.
    pub ranges: &'a [IpNet],
    /// The machine's addresses, each with its network.
    pub links: &'a [IpNet],
    /// Whether packets for nodes on a shared link are encapsulated too.
    pub always_wrap: bool,
}

/// The route to a range.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// Through the node's address on a shared link.
    Link(IpAddr),
    /// Encapsulated to the node's address. The second field is the node's first range, which
    /// identifies the tunnel.
    Tunnel(IpAddr, IpNet),
}

/// The desired state.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ways {
    /// The routes, at most one for each range.
    pub routes: Vec<(IpNet, Way)>,
    /// Networks that pods reach with their own addresses, in addition to those of the routes.
    pub untranslated: Vec<IpNet>,
    /// Problems, for the log.
    pub odd: Vec<String>,
}

/// The routes to the pods of `others`, which may include this node. If two nodes claim a range, the
/// first one in the order of `others` gets it.
pub fn ways<'a>(here: &Here<'_>, others: impl IntoIterator<Item = &'a NodeNetworkView>) -> Ways {
    let mut ways = Ways::default();
    let mut claimed: std::collections::BTreeMap<IpNet, &str> = std::collections::BTreeMap::new();
    for node in others {
        let name = &*node.meta.name;
        if name == here.name {
            continue;
        }
        let ranges: Vec<IpNet> = node
            .pod_cidrs
            .iter()
            .filter_map(|text| text.parse().ok())
            .collect();
        let same_machine = node
            .internal_ips
            .iter()
            .any(|ip| here.links.iter().any(|link| link.addr() == *ip));
        for range in &ranges {
            let range = range.trunc();
            if here.ranges.iter().any(|own| overlap(own, &range)) {
                ways.odd.push(format!(
                    "node {name} has pod range {range}, which overlaps this node's"
                ));
                continue;
            }
            if let Some(other) = claimed.get(&range) {
                ways.odd
                    .push(format!("nodes {other} and {name} both have pod range {range}"));
                continue;
            }
            claimed.insert(range, name);
            if same_machine {
                // Its bridge is on this machine.
                ways.untranslated.push(range);
                continue;
            }
            match way(here, node, &range, ranges[0].trunc()) {
                Some(way) => {
                    if let Way::Link(gateway) = way {
                        ways.untranslated.push(gateway.into());
                    }
                    ways.routes.push((range, way));
                }
                None => ways.odd.push(format!(
                    "node {name} has no InternalIP of a family that this node has, so its pods in {range} cannot be reached"
                )),
            }
        }
    }
    ways.untranslated.sort();
    ways.untranslated.dedup();
    ways
}

fn way(here: &Here<'_>, node: &NodeNetworkView, range: &IpNet, first: IpNet) -> Option<Way> {
    let is_ipv4 = |ip: &IpAddr| ip.is_ipv4();
    let on_link = |ip: &&IpAddr| {
        is_ipv4(ip) == range.addr().is_ipv4() && here.links.iter().any(|link| link.contains(*ip))
    };
    let ips = &node.internal_ips;
    if let Some(gateway) = ips.iter().find(on_link).filter(|_| !here.always_wrap) {
        return Some(Way::Link(*gateway));
    }
    // IPv4 for all if there is a choice, because a device sends from one address.
    let speaks = |ip: &&IpAddr| here.links.iter().any(|link| is_ipv4(&link.addr()) == is_ipv4(ip));
    let outer = ips.iter().find(|ip| is_ipv4(ip) && speaks(ip));
    let outer = outer.or_else(|| ips.iter().find(speaks))?;
    Some(Way::Tunnel(*outer, first))
}

fn overlap(one: &IpNet, other: &IpNet) -> bool {
    one.contains(&other.addr()) || other.contains(&one.addr())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn nets(texts: &[&str]) -> Vec<IpNet> {
        texts
            .iter()
            .map(|text| text.parse().expect("a network"))
            .collect()
    }

    fn node(name: &str, ips: &[&str], ranges: &[&str]) -> NodeNetworkView {
        let mut node = NodeNetworkView::default();
        node.meta.name = name.into();
        node.internal_ips = ips.iter().map(|ip| ip.parse().expect("an address")).collect();
        node.pod_cidrs = ranges.iter().map(|range| (*range).into()).collect();
        node
    }

    fn plan(links: &[&str], always_wrap: bool, others: &[NodeNetworkView]) -> Ways {
        let (links, ranges) = (nets(links), nets(&["10.244.0.0/24", "fd00:1::/64"]));
        let here = Here {
            name: "here",
            ranges: &ranges,
            links: &links,
            always_wrap,
        };
        ways(&here, others)
    }

    fn route(range: &str, way: Way) -> (IpNet, Way) {
        (range.parse().expect("a range"), way)
    }

    fn link(ip: &str) -> Way {
        Way::Link(ip.parse().expect("an address"))
    }

    fn tunnel(ip: &str, first: &str) -> Way {
        Way::Tunnel(ip.parse().expect("an address"), first.parse().expect("a range"))
    }

    #[test]
    fn routes_use_shared_link_or_tunnel() {
        let others = [
            node("here", &["192.0.2.1"], &["10.244.0.0/24"]),
            node("near", &["192.0.2.2"], &["10.244.1.0/24"]),
            node("far", &["198.51.100.3"], &["10.244.2.0/24"]),
            node("young", &["192.0.2.9"], &[]),
        ];
        let ways = plan(&["192.0.2.1/24"], false, &others);
        assert_eq!(
            ways.routes,
            [
                route("10.244.1.0/24", link("192.0.2.2")),
                route("10.244.2.0/24", tunnel("198.51.100.3", "10.244.2.0/24")),
            ]
        );
        // A node behind other routers reaches this node's pods only through the tunnel.
        assert_eq!(ways.untranslated, nets(&["192.0.2.2/32"]));
        assert!(ways.odd.is_empty());
    }

    #[test]
    fn each_family_has_its_own_route_or_a_tunnel() {
        let both = ["10.244.1.0/24", "fd00:1:0:1::/64"];
        let others = [
            node("both", &["192.0.2.2", "2001:db8::2"], &both),
            node("ipv4", &["192.0.2.3"], &["10.244.3.0/24", "fd00:1:0:3::/64"]),
        ];
        let ways = plan(&["192.0.2.1/24", "2001:db8::1/64"], false, &others);
        assert_eq!(
            ways.routes,
            [
                route("10.244.1.0/24", link("192.0.2.2")),
                route("fd00:1:0:1::/64", link("2001:db8::2")),
                route("10.244.3.0/24", link("192.0.2.3")),
                route("fd00:1:0:3::/64", tunnel("192.0.2.3", "10.244.3.0/24")),
            ]
        );
    }

    #[test]
    fn always_wrap_encapsulates_everything() {
        let others = [node("near", &["192.0.2.2"], &["10.244.1.0/24"])];
        let ways = plan(&["192.0.2.1/24"], true, &others);
        assert_eq!(
            ways.routes,
            [route("10.244.1.0/24", tunnel("192.0.2.2", "10.244.1.0/24"))]
        );
        assert!(ways.untranslated.is_empty());
    }

    #[test]
    fn node_on_the_same_machine_needs_no_route() {
        let others = [node("twin", &["192.0.2.1"], &["10.244.1.0/24"])];
        let ways = plan(&["192.0.2.1/24"], false, &others);
        assert!(ways.routes.is_empty());
        assert_eq!(ways.untranslated, nets(&["10.244.1.0/24"]));
    }

    #[test]
    fn range_of_two_nodes_goes_to_first_and_is_reported() {
        let others = [
            node("a", &["192.0.2.2"], &["10.244.1.0/24"]),
            node("b", &["192.0.2.3"], &["10.244.1.0/24"]),
            node("c", &["192.0.2.4"], &["10.244.0.128/25"]),
            node("d", &[], &["10.244.5.0/24"]),
        ];
        let ways = plan(&["192.0.2.1/24"], false, &others);
        assert_eq!(ways.routes, [route("10.244.1.0/24", link("192.0.2.2"))]);
        assert_eq!(
            ways.odd,
            [
                "nodes a and b both have pod range 10.244.1.0/24",
                "node c has pod range 10.244.0.128/25, which overlaps this node's",
                "node d has no InternalIP of a family that this node has, so its pods in 10.244.5.0/24 cannot be reached",
            ]
        );
    }
}

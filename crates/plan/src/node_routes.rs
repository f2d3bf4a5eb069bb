//! The ways from one node to the pods of the others.
//!
//! A node whose address is in a network that this machine stands in is on a common link: packets for its pods go to it as they are.
//! Any other is behind routers that know nothing of pods, so packets for its pods go in packets to the node (VXLAN).
//!
//! Pods reach all pods with their own addresses, and the nodes on a common link too, because those know the way back. What leads
//! through foreign routers is translated to the node's address, as such routers expect.

use std::net::IpAddr;

use api::view::NodeNetworkView;
use ipnet::IpNet;

/// What is known of this node.
#[derive(Clone, Debug)]
pub struct Here<'a> {
    /// Its name.
    pub name: &'a str,
    /// Its pods' ranges.
    pub ranges: &'a [IpNet],
    /// The machine's addresses, each with the network that it is in.
    pub links: &'a [IpNet],
    /// Whether packets for pods of a node on a common link are wrapped, too.
    pub always_wrap: bool,
}

/// The way to a range.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// Through the node's address on a common link.
    Link(IpAddr),
    /// In packets to the node's address. The second is its first range, by which it is known.
    Tunnel(IpAddr, IpNet),
}

/// What is to be.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ways {
    /// The routes, no two to one range.
    pub routes: Vec<(IpNet, Way)>,
    /// Networks that pods reach with their own addresses, besides those of the routes.
    pub untranslated: Vec<IpNet>,
    /// What cannot be, in words.
    pub odd: Vec<String>,
}

/// The ways to the pods of `others`, of which this node may be one. Where two nodes claim one range, the first in the order of
/// `others` has it.
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
                ways.odd
                    .push(format!("node {name} has pod range {range}, which is this node's"));
                continue;
            }
            if let Some(other) = claimed.get(&range) {
                ways.odd
                    .push(format!("nodes {other} and {name} both have pod range {range}"));
                continue;
            }
            claimed.insert(range, name);
            if same_machine {
                // Its bridge is this machine's.
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
                    "node {name} has no address by which its pods {range} are reached"
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
    // All of one family where there is a choice: a device has one address to send from.
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
    fn a_node_on_a_common_link_is_the_way_to_its_pods_and_any_other_is_wrapped_to() {
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
        // The one that is reached through foreign routers knows no way to this node's pods but the tunnel.
        assert_eq!(ways.untranslated, nets(&["192.0.2.2/32"]));
        assert!(ways.odd.is_empty());
    }

    #[test]
    fn each_family_goes_its_own_way_and_in_packets_where_it_has_none() {
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
    fn everything_may_be_wrapped() {
        let others = [node("near", &["192.0.2.2"], &["10.244.1.0/24"])];
        let ways = plan(&["192.0.2.1/24"], true, &others);
        assert_eq!(
            ways.routes,
            [route("10.244.1.0/24", tunnel("192.0.2.2", "10.244.1.0/24"))]
        );
        assert!(ways.untranslated.is_empty());
    }

    #[test]
    fn a_node_on_this_very_machine_needs_no_route() {
        let others = [node("twin", &["192.0.2.1"], &["10.244.1.0/24"])];
        let ways = plan(&["192.0.2.1/24"], false, &others);
        assert!(ways.routes.is_empty());
        assert_eq!(ways.untranslated, nets(&["10.244.1.0/24"]));
    }

    #[test]
    fn a_range_has_one_node_and_what_cannot_be_is_said() {
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
                "node c has pod range 10.244.0.128/25, which is this node's",
                "node d has no address by which its pods 10.244.5.0/24 are reached",
            ]
        );
    }
}

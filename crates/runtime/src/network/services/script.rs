//! The rules for Services as a script for nft.
//!
//! Everything that scales with the number of Services is an element of a set or map. A change is
//! therefore a few elements, whatever the number of Services and endpoints. `services` and
//! `node_ports` map a destination to the chain for its number of endpoints. The chain draws a
//! random number and looks the endpoint up in `picks` or `node_port_picks`. There are few chains:
//! one for each number of endpoints that occurs.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::net::{IpAddr, SocketAddr};

use super::Destination;
use crate::Protocol;

/// Address family of an nftables table.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub(super) enum Family {
    V4,
    V6,
}

pub(super) const FAMILIES: [Family; 2] = [Family::V4, Family::V6];

/// First number of the endpoints for inside clients. Every list is shorter than this.
const INSIDE: usize = 1 << 24;
/// Largest number of clients with a saved endpoint, in all Services of a node. Limits the kernel's
/// memory to some MiB. Further clients get any endpoint.
const REMEMBERED: usize = 65_536;
/// Arbitrary seed. It is the same in all chains, so that a client gets the same hash in each.
const HASH_SEED: &str = "0x65766572";

impl Family {
    pub(super) fn of(address: IpAddr) -> Family {
        match address {
            IpAddr::V4(_) => Family::V4,
            IpAddr::V6(_) => Family::V6,
        }
    }

    /// Returns the family's name, which is also the keyword of its matches.
    pub(super) fn ip(self) -> &'static str {
        match self {
            Family::V4 => "ip",
            Family::V6 => "ip6",
        }
    }

    fn address_type(self) -> &'static str {
        match self {
            Family::V4 => "ipv4_addr",
            Family::V6 => "ipv6_addr",
        }
    }
}

/// Chain that forwards to one of a number of endpoints.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub(super) struct Chain {
    pub(super) protocol: Protocol,
    /// Whether it is for node ports instead of Services' own addresses.
    pub(super) node_port: bool,
    /// Whether it forwards to the list for inside clients.
    pub(super) for_inside: bool,
    /// Number of endpoints.
    pub(super) endpoints: usize,
    /// Number of endpoints in the list for inside clients, if there is such a list.
    pub(super) inside: Option<usize>,
    /// Whether a client keeps its endpoint.
    pub(super) sticky: bool,
}

impl Chain {
    pub(super) fn name(&self) -> String {
        let mut name = format!(
            "{}_{}_{}{}",
            protocol(self.protocol),
            if self.node_port { "node_port" } else { "address" },
            if self.for_inside { "inside_" } else { "" },
            self.endpoints
        );
        if let Some(inside) = self.inside {
            write!(name, "_or_inside_{inside}").ok();
        }
        if self.sticky {
            name.push_str("_sticky");
        }
        name
    }

    /// Returns the chain that this one jumps to for inside clients.
    pub(super) fn inner(&self) -> Option<Chain> {
        Some(Chain {
            for_inside: true,
            endpoints: self.inside?,
            inside: None,
            ..*self
        })
    }

    fn rules(&self, family: Family, bridge: &str) -> Vec<String> {
        let ip = family.ip();
        let mut rules = Vec::new();
        if let Some(inner) = self.inner() {
            let inner = inner.name();
            rules.push(format!("iifname \"{bridge}\" goto {inner}"));
            rules.push(format!("{ip} saddr @plugged goto {inner}"));
            rules.push(format!("fib saddr type local goto {inner}"));
        }
        if self.sticky && family == Family::V4 && self.endpoints > 0 {
            rules.push("dnat ip to ip saddr . ip daddr . meta l4proto . th dport map @affinity".into());
        }
        let l4 = protocol(self.protocol);
        let (key, picks) = if self.node_port {
            (format!("{l4} dport"), "node_port_picks")
        } else {
            (format!("{ip} daddr . {l4} dport"), "picks")
        };
        let offset = if self.for_inside {
            format!(" offset {INSIDE}")
        } else {
            String::new()
        };
        // nft cannot store an IPv6 client with its endpoint, because it has too few registers. A
        // hash of the client's address is used instead.
        let draw = |among: usize| match (family, self.sticky) {
            (Family::V6, true) => format!("jhash ip6 saddr mod {among} seed {HASH_SEED}{offset}"),
            _ => format!("numgen random mod {among}{offset}"),
        };
        // If the list became shorter while a packet was in the chain, the packet goes to the first
        // endpoint.
        for among in [self.endpoints, 1] {
            if self.endpoints > 0 {
                rules.push(format!("dnat {ip} to {key} . {} map @{picks}_{l4}", draw(among)));
            }
        }
        rules.dedup();
        rules
    }
}

/// Set or map of the table.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub(super) enum Set {
    /// Destinations at addresses, with their chains.
    Services,
    /// Node ports, with their chains.
    NodePorts,
    /// Endpoints of addresses, by number. There is one map for each protocol, because nft can look
    /// up a port and a number only in a map for ports of one protocol.
    Picks(Protocol),
    /// Endpoints of node ports, by number.
    NodePortPicks(Protocol),
    /// Addresses without an endpoint for this node, with their verdict.
    Absent,
    /// Node ports without an endpoint for this node, with their verdict.
    AbsentNodePorts,
    /// Addresses whose clients keep their endpoint, with the time.
    Affine,
    /// Node ports whose clients keep their endpoint, with the time.
    AffineNodePorts,
    /// Addresses whose clients are masqueraded.
    Masqueraded,
    /// Node ports whose clients are masqueraded.
    MasqueradedNodePorts,
    /// Addresses that only Services use.
    ClusterIps,
    /// Endpoints on this node, each paired with itself.
    Hairpins,
    /// Addresses that permit only some clients.
    Guarded,
    /// Those addresses, each with a permitted network.
    Sources,
    /// Pods of this instance that are not on the bridge.
    Plugged,
}

impl Set {
    fn name(self) -> String {
        let name = match self {
            Set::Services => "services",
            Set::NodePorts => "node_ports",
            Set::Picks(l4) => return format!("picks_{}", protocol(l4)),
            Set::NodePortPicks(l4) => return format!("node_port_picks_{}", protocol(l4)),
            Set::Absent => "absent",
            Set::AbsentNodePorts => "absent_node_ports",
            Set::Affine => "affine",
            Set::AffineNodePorts => "affine_node_ports",
            Set::Masqueraded => "masqueraded",
            Set::MasqueradedNodePorts => "masqueraded_node_ports",
            Set::ClusterIps => "cluster_ips",
            Set::Hairpins => "hairpins",
            Set::Guarded => "guarded",
            Set::Sources => "sources",
            Set::Plugged => "plugged",
        };
        name.to_owned()
    }
}

pub(super) fn protocol(protocol: Protocol) -> &'static str {
    match protocol {
        Protocol::Tcp => "tcp",
        Protocol::Udp => "udp",
        Protocol::Sctp => "sctp",
    }
}

/// Returns a destination as a key of maps.
pub(super) fn key(destination: &Destination) -> String {
    match destination {
        Destination::Address(address, l4, port) => format!("{address} . {} . {port}", protocol(*l4)),
        Destination::NodePort {
            protocol: l4, port, ..
        } => format!("{} . {port}", protocol(*l4)),
    }
}

/// Returns the number of an endpoint as a key of picks.
pub(super) fn place(destination: &Destination, for_inside: bool, number: usize) -> String {
    let number = number + if for_inside { INSIDE } else { 0 };
    match destination {
        Destination::Address(address, _, port) => format!("{address} . {port} . {number}"),
        Destination::NodePort { port, .. } => format!("{port} . {number}"),
    }
}

pub(super) fn endpoint(endpoint: SocketAddr) -> String {
    format!("{} . {}", endpoint.ip(), endpoint.port())
}

/// Returns the name of the chain that saves clients' endpoints for this time.
pub(super) fn remember(seconds: u32) -> String {
    format!("remember_{seconds}")
}

/// A key, and the value if the element is a map's.
type Element = (String, Option<String>);

/// A change of the tables, collected and then written in the order that nft needs.
#[derive(Default)]
pub(super) struct Script {
    pub(super) new_chains: BTreeSet<(Family, Chain)>,
    pub(super) old_chains: BTreeSet<(Family, Chain)>,
    pub(super) new_memories: BTreeSet<u32>,
    /// Elements to remove.
    pub(super) removed: BTreeMap<(Family, Set), Vec<String>>,
    pub(super) added: BTreeMap<(Family, Set), Vec<Element>>,
}

impl Script {
    pub(super) fn remove(&mut self, family: Family, set: Set, key: String) {
        self.removed.entry((family, set)).or_default().push(key);
    }

    pub(super) fn add(&mut self, family: Family, set: Set, key: String, value: Option<String>) {
        self.added.entry((family, set)).or_default().push((key, value));
    }

    /// Returns the script. An empty one changes nothing.
    pub(super) fn text(&self, table: &str, bridge: &str) -> String {
        let mut text = String::new();
        // Chains come before the rules that jump to them. Writing into a string cannot fail.
        for (family, chain) in &self.new_chains {
            writeln!(text, "add chain {} {table} {}", family.ip(), chain.name()).ok();
        }
        for (family, chain) in &self.new_chains {
            let rules = chain.rules(*family, bridge);
            rules_text(&mut text, *family, table, &chain.name(), &rules);
        }
        for seconds in &self.new_memories {
            let rules = [Protocol::Tcp, Protocol::Udp, Protocol::Sctp].map(|l4| {
                format!(
                    "meta l4proto {} update @affinity {{ ip saddr . ct original ip daddr . meta l4proto . ct original proto-dst timeout {seconds}s : ip daddr . th dport }}",
                    protocol(l4)
                )
            });
            writeln!(text, "add chain ip {table} {}", remember(*seconds)).ok();
            rules_text(&mut text, Family::V4, table, &remember(*seconds), &rules);
        }
        for ((family, set), keys) in &self.removed {
            let (ip, set) = (family.ip(), set.name());
            writeln!(
                text,
                "delete element {ip} {table} {set} {{ {} }}",
                keys.join(", ")
            )
            .ok();
        }
        for ((family, set), elements) in &self.added {
            let (ip, set) = (family.ip(), set.name());
            write!(text, "add element {ip} {table} {set} {{ ").ok();
            for (n, (key, value)) in elements.iter().enumerate() {
                let joint = if n == 0 { "" } else { ", " };
                write!(text, "{joint}{key}").ok();
                if let Some(value) = value {
                    write!(text, " : {value}").ok();
                }
            }
            text.push_str(" }\n");
        }
        for (family, chain) in &self.old_chains {
            writeln!(text, "flush chain {} {table} {}", family.ip(), chain.name()).ok();
        }
        for (family, chain) in &self.old_chains {
            writeln!(text, "delete chain {} {table} {}", family.ip(), chain.name()).ok();
        }
        text
    }
}

fn rules_text(text: &mut String, family: Family, table: &str, chain: &str, rules: &[String]) {
    let ip = family.ip();
    for rule in rules {
        writeln!(text, "add rule {ip} {table} {chain} {rule}").ok();
    }
}

/// Returns the script that creates both tables empty and replaces existing ones. The NAT chains
/// come after those for redirects and host ports (priority -100), which therefore take precedence.
pub(super) fn tables(table: &str, bridge: &str) -> String {
    FAMILIES.map(|family| base(family, table, bridge)).concat()
}

/// Returns the script that removes both tables, if they exist.
pub(super) fn drop_tables(table: &str) -> String {
    let drop = |family: Family| {
        let ip = family.ip();
        format!("table {ip} {table}\ndelete table {ip} {table}\n")
    };
    FAMILIES.map(drop).concat()
}

fn base(family: Family, table: &str, bridge: &str) -> String {
    let (ip, address) = (family.ip(), family.address_type());
    // The bridges of other instances have the same prefix.
    let others = format!(
        "iifname \"{}*\" iifname != \"{bridge}\" return",
        crate::layout::BRIDGES
    );
    let loopback = match family {
        Family::V4 => "ip daddr != 127.0.0.0/8",
        Family::V6 => "ip6 daddr != ::1",
    };
    let daddr = format!("ct original {ip} daddr");
    let port = "meta l4proto . ct original proto-dst";
    let each = |rules: &dyn Fn(&str) -> String| {
        [Protocol::Tcp, Protocol::Udp, Protocol::Sctp]
            .map(|l4| rules(protocol(l4)))
            .concat()
    };
    let remember = each(&|l4| {
        format!(
            "    meta l4proto {l4} {daddr} . {port} vmap @affine\n    \
             meta l4proto {l4} {daddr} != @cluster_ips {port} vmap @affine_node_ports\n"
        )
    });
    let remember = if family == Family::V4 {
        remember
    } else {
        String::new()
    };
    let masquerade = each(&|l4| {
        format!(
            "    meta l4proto {l4} {daddr} . {port} @masqueraded masquerade\n    \
             meta l4proto {l4} {daddr} != @cluster_ips {port} @masqueraded_node_ports masquerade\n"
        )
    });
    let picks = each(&|l4| {
        format!(
            "  map picks_{l4} {{ typeof {ip} daddr . {l4} dport . numgen random mod 2 : {ip} daddr . {l4} dport; }}\n  \
             map node_port_picks_{l4} {{ typeof {l4} dport . numgen random mod 2 : {ip} daddr . {l4} dport; }}\n"
        )
    });
    let affinity = match family {
        Family::V4 => format!(
            "  map affinity {{ type ipv4_addr . ipv4_addr . inet_proto . inet_service : ipv4_addr . inet_service; flags dynamic,timeout; size {REMEMBERED}; }}\n"
        ),
        Family::V6 => String::new(),
    };
    format!(
        r#"table {ip} {table}
delete table {ip} {table}
table {ip} {table} {{
  map services {{ type {address} . inet_proto . inet_service : verdict; }}
  map node_ports {{ type inet_proto . inet_service : verdict; }}
{picks}  map absent {{ type {address} . inet_proto . inet_service : verdict; }}
  map absent_node_ports {{ type inet_proto . inet_service : verdict; }}
  map affine {{ type {address} . inet_proto . inet_service : verdict; }}
  map affine_node_ports {{ type inet_proto . inet_service : verdict; }}
{affinity}  set masqueraded {{ type {address} . inet_proto . inet_service; }}
  set masqueraded_node_ports {{ type inet_proto . inet_service; }}
  set cluster_ips {{ type {address}; }}
  set hairpins {{ type {address} . {address}; }}
  set guarded {{ type {address} . inet_proto . inet_service; }}
  set sources {{ type {address} . inet_proto . inet_service . {address}; flags interval; }}
  set plugged {{ type {address}; }}
  chain refuse {{
    meta l4proto tcp reject with tcp reset
    reject
  }}
  chain lead {{
    {ip} daddr . meta l4proto . th dport vmap @services
    {loopback} fib daddr type local meta l4proto . th dport vmap @node_ports
  }}
  chain guard {{
    {ip} daddr . meta l4proto . th dport @guarded {ip} daddr . meta l4proto . th dport . {ip} saddr != @sources drop
  }}
  chain prerouting_guard {{
    type filter hook prerouting priority -105; policy accept;
    {others}
    ct state new jump guard
  }}
  chain output_guard {{
    type filter hook output priority -105; policy accept;
    ct state new jump guard
  }}
  chain plugged_prerouting {{
    type nat hook prerouting priority -96; policy accept;
    {ip} saddr @plugged jump lead
  }}
  chain prerouting {{
    type nat hook prerouting priority -95; policy accept;
    {others}
    jump lead
  }}
  chain output {{
    type nat hook output priority -95; policy accept;
    jump lead
  }}
  chain led {{
{remember}    oifname != "lo" {ip} saddr . {ip} daddr @hairpins masquerade
{masquerade}  }}
  chain postrouting {{
    type nat hook postrouting priority 95; policy accept;
    ct status dnat jump led
  }}
  chain not_led {{
    {ip} daddr . meta l4proto . th dport vmap @absent
    {ip} daddr @cluster_ips goto refuse
  }}
  chain input_not_led {{
    {others}
    jump not_led
    {loopback} fib daddr type local meta l4proto . th dport vmap @absent_node_ports
  }}
  chain forward_not_led {{
    {others}
    jump not_led
  }}
  chain input {{
    type filter hook input priority -5; policy accept;
    ct state new jump input_not_led
  }}
  chain forward {{
    type filter hook forward priority -5; policy accept;
    ct state new jump forward_not_led
  }}
  chain local_output {{
    type filter hook output priority -5; policy accept;
    ct state new jump not_led
  }}
}}
"#
    )
}

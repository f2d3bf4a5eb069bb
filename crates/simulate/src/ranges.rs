//! Pod ranges of the simulated nodes. The server assigns them, or the nodes register with parts of
//! one given range.

use std::convert::Infallible;
use std::net::IpAddr;
use std::pin::pin;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use futures::StreamExt;
use http::Request;
use ipnet::{IpNet, Ipv4Net};
use kube::core::WatchEvent;
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::sync::SetOnce;

use crate::request::{Api, Error};
use crate::{Options, node};

/// Watch of all nodes, from the current state on.
const WATCH: &str = "/api/v1/nodes?watch=1&allowWatchBookmarks=true&timeoutSeconds=270";

/// Wait before a broken watch is opened again.
const PAUSE: Duration = Duration::from_millis(500);

/// Prefix length of the part that a node registers: room for its 110 pods.
const OWN_PREFIX: u8 = 25;

/// Addresses of a range that no pod gets: the network's, the node's and the last one.
const SET_ASIDE: u32 = 3;

/// Fields of a Node that hold its ranges.
#[derive(Clone, Deserialize)]
pub(crate) struct Node {
    metadata: Meta,
    #[serde(default)]
    spec: Spec,
}

#[derive(Clone, Deserialize)]
struct Meta {
    #[serde(default)]
    name: String,
    #[serde(default)]
    uid: String,
}

#[derive(Clone, Default, Deserialize)]
#[serde(default)]
struct Spec {
    #[serde(rename = "podCIDRs")]
    pod_cidrs: Vec<String>,
}

impl Node {
    pub(crate) fn uid(&self) -> &str {
        &self.metadata.uid
    }

    /// Returns the ranges that can be parsed.
    fn ranges(&self) -> Vec<IpNet> {
        let texts = self.spec.pod_cidrs.iter();
        texts.filter_map(|text| text.parse().ok()).collect()
    }

    pub(crate) fn has_ranges(&self) -> bool {
        !self.ranges().is_empty()
    }
}

/// Ranges of all nodes of a simulation.
pub(crate) struct Ranges {
    own: Option<Ipv4Net>,
    start: u32,
    /// By node. A Node's ranges do not change after they are set.
    of: Vec<SetOnce<Box<[IpNet]>>>,
    /// Number of nodes without ranges.
    missing: AtomicU32,
}

impl Ranges {
    /// Returns an error if the given range is too small for all nodes.
    pub(crate) fn new(options: &Options) -> Result<Self, Error> {
        if let Some(range) = options.pod_range {
            let bits = OWN_PREFIX.checked_sub(range.prefix_len());
            let room = bits.map_or(0, |bits| 1u64 << bits);
            let wanted = u64::from(options.start) + u64::from(options.nodes);
            if room < wanted {
                return Err(Error::SmallRange { range, room, wanted });
            }
        }
        Ok(Ranges {
            own: options.pod_range,
            start: options.start,
            of: (0..options.nodes).map(|_| SetOnce::new()).collect(),
            missing: AtomicU32::new(options.nodes),
        })
    }

    /// Returns the range that a node registers with, if nodes have their own.
    pub(crate) fn own(&self, index: u32) -> Option<IpNet> {
        let own = self.own?;
        let first = own.network().to_bits() + ((self.start + index) << (32 - OWN_PREFIX));
        Ipv4Net::new(first.into(), OWN_PREFIX).ok().map(IpNet::V4)
    }

    /// Returns the `spec` with which a node registers.
    pub(crate) fn spec(&self, index: u32) -> Value {
        match self.own(index) {
            Some(range) => json!({"podCIDR": range, "podCIDRs": [range]}),
            None => json!({}),
        }
    }

    /// Returns the ranges of a node; `None` until its Node has some.
    pub(crate) fn of(&self, index: u32) -> Option<&[IpNet]> {
        self.of[index as usize].get().map(AsRef::as_ref)
    }

    /// Returns whether a node has ranges or registers with one.
    pub(crate) fn has(&self, index: u32) -> bool {
        self.own.is_some() || self.of(index).is_some()
    }

    /// Waits until a node has ranges.
    pub(crate) async fn given(&self, index: u32) {
        self.of[index as usize].wait().await;
    }

    /// Returns the number of nodes without ranges.
    pub(crate) fn missing(&self) -> u32 {
        self.missing.load(Ordering::Relaxed)
    }

    /// Stores the ranges of a Node that the server returned.
    pub(crate) fn learn(&self, index: u32, node: &Node) {
        let ranges = node.ranges();
        if !ranges.is_empty() && self.of[index as usize].set(ranges.into()).is_ok() {
            self.missing.fetch_sub(1, Ordering::Relaxed);
        }
    }

    /// Watches until every node has ranges. Nodes with their own ranges take them from the response
    /// to their registration.
    pub(crate) async fn follow(&self, api: &Api, options: &Options) -> Infallible {
        while self.own.is_none() && self.missing() > 0 {
            if let Err(error) = self.watch(api, options).await {
                tracing::warn!(%error, "the watch of nodes was interrupted");
                tokio::time::sleep(PAUSE).await;
            }
        }
        std::future::pending().await
    }

    /// Reads one watch to its end.
    async fn watch(&self, api: &Api, options: &Options) -> Result<(), kube::Error> {
        let path = match options.nodes {
            // The client may be the node itself, which may watch only its own Node.
            1 => format!("{WATCH}&fieldSelector=metadata.name%3D{}", node::name(options, 0)),
            _ => WATCH.to_owned(),
        };
        let request = Request::get(path)
            .body(Vec::new())
            .map_err(kube::Error::HttpError)?;
        let mut events = pin!(api.client.request_events::<Node>(request).await?);
        while self.missing() > 0
            && let Some(event) = events.next().await
        {
            match event? {
                WatchEvent::Added(seen) | WatchEvent::Modified(seen) => {
                    if let Some(index) = node::index(options, &seen.metadata.name) {
                        self.learn(index, &seen);
                    }
                }
                WatchEvent::Error(status) => return Err(kube::Error::Api(status)),
                WatchEvent::Deleted(_) | WatchEvent::Bookmark(_) => {}
            }
        }
        Ok(())
    }
}

/// Returns the address of pod number `turn` in a range. After the last address it starts again.
pub(crate) fn pod_address(range: &IpNet, turn: u32) -> IpAddr {
    let bits = u32::from(range.max_prefix_len() - range.prefix_len()).min(31);
    let offset = match 1u32 << bits {
        few @ ..=SET_ASIDE => turn % few,
        many => 2 + turn % (many - SET_ASIDE),
    };
    match range.network() {
        IpAddr::V4(first) => IpAddr::V4(first.to_bits().wrapping_add(offset).into()),
        IpAddr::V6(first) => IpAddr::V6(first.to_bits().wrapping_add(offset.into()).into()),
    }
}

/// Returns the number for which [`pod_address`] returns this address.
pub(crate) fn turn(range: &IpNet, address: IpAddr) -> Option<u32> {
    let offset = match (range.network(), address) {
        _ if !range.contains(&address) => return None,
        (IpAddr::V4(first), IpAddr::V4(address)) => address.to_bits() - first.to_bits(),
        (IpAddr::V6(first), IpAddr::V6(address)) => {
            u32::try_from(address.to_bits() - first.to_bits()).ok()?
        }
        _ => return None,
    };
    offset.checked_sub(2)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(nodes: u32, range: &str) -> Options {
        Options {
            nodes,
            pod_range: Some(range.parse().expect("a range")),
            ..Options::default()
        }
    }

    #[test]
    fn nodes_that_bring_ranges_share_none_and_need_room() {
        let ranges = Ranges::new(&options(1 << 17, "10.0.0.0/8")).expect("room");
        assert_eq!(ranges.own(0), Some("10.0.0.0/25".parse().expect("a range")));
        assert_eq!(ranges.own(1), Some("10.0.0.128/25".parse().expect("a range")));
        assert_eq!(
            ranges.own((1 << 17) - 1),
            Some("10.255.255.128/25".parse().expect("a range"))
        );
        for (nodes, range) in [
            ((1 << 17) + 1, "10.0.0.0/8"),
            (3, "10.0.0.0/24"),
            (1, "10.0.0.0/26"),
        ] {
            let refused = Ranges::new(&options(nodes, range))
                .err()
                .map(|error| error.to_string());
            assert!(
                refused.is_some_and(|error| error.contains(range)),
                "{nodes} nodes in {range}"
            );
        }
        assert!(Ranges::new(&options(2, "10.0.0.0/24")).is_ok());
    }

    #[test]
    fn a_node_has_no_range_until_the_server_gives_it_one() {
        let ranges = Ranges::new(&Options::default()).expect("ranges");
        let learn = |spec: Value| {
            let node = json!({"metadata": {"name": "node-0", "uid": "u"}, "spec": spec});
            ranges.learn(0, &serde_json::from_value(node).expect("a node"));
            (ranges.of(0).map(<[IpNet]>::len), ranges.missing())
        };
        assert_eq!(ranges.spec(0), json!({}));
        assert_eq!(learn(json!({})), (None, 1));
        assert_eq!(
            learn(json!({"podCIDR": "10.240.0.0/24", "podCIDRs": ["10.240.0.0/24", "fd00::/64"]})),
            (Some(2), 0)
        );
        assert_eq!(
            learn(json!({"podCIDRs": ["10.240.0.0/24", "fd00::/64"]})),
            (Some(2), 0)
        );
    }

    #[test]
    fn pods_get_all_addresses_of_a_range_but_those_at_its_ends() {
        let range: IpNet = "10.240.3.0/24".parse().expect("a range");
        let addresses: std::collections::BTreeSet<IpAddr> =
            (0..253).map(|turn| pod_address(&range, turn)).collect();
        assert_eq!(addresses.len(), 253);
        assert_eq!(
            addresses.first().map(ToString::to_string).as_deref(),
            Some("10.240.3.2")
        );
        assert_eq!(
            addresses.last().map(ToString::to_string).as_deref(),
            Some("10.240.3.254")
        );
        assert_eq!(pod_address(&range, 253), pod_address(&range, 0));
        assert!((0..253).all(|number| turn(&range, pod_address(&range, number)) == Some(number)));
        assert_eq!(turn(&range, "10.240.4.2".parse().expect("an address")), None);
        let wide: IpNet = "fd00:0:0:7::/64".parse().expect("a range");
        assert_eq!(pod_address(&wide, 0).to_string(), "fd00:0:0:7::2");
        assert!(range.contains(&pod_address(&"10.240.3.7/32".parse().expect("a range"), 0)));
    }
}

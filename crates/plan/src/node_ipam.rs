//! Assigns pod ranges to nodes: `spec.podCIDR` and `spec.podCIDRs`, from the cluster's ranges.
//!
//! Like Kubernetes' range allocator, it gives a node without a range one of each family: the next
//! one after the last assigned, so that a released range is not reused at once. A node that is
//! created with ranges keeps them, and they are given to no other node. A node holds its ranges
//! until its object is deleted. A new node of the same name gets the old ranges if they are free,
//! because its pods may still run.
//!
//! The cost of a node is constant: ranges are counted by block, and a heartbeat does not change
//! them. If a family has no range left, a node without a range gets a condition, and gets a range
//! when another node releases one.

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::fmt;
use std::sync::Arc;

use api::view::NodeView;
use ipnet::{IpNet, Ipv4Net, Ipv6Net};

/// Reason of the condition `NetworkUnavailable` and of the event for a node without a pod range, as
/// in the event of Kubernetes' range allocator.
pub const NONE_LEFT: &str = "CIDRNotAvailable";

/// The condition that keeps pods with their own network away from such a node.
const NETWORK_UNAVAILABLE: &str = "NetworkUnavailable";

/// Base-2 logarithm of the most parts of a cluster range: Kubernetes' limit.
const LARGEST_SPLIT: u8 = 16;

/// Most deleted nodes whose ranges are stored. Beyond, all are removed: only a preference is lost.
const REMEMBERED: usize = 4096;

/// A range of the cluster, and the prefix length of the part that a node gets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClusterRange {
    range: IpNet,
    node_prefix: u8,
}

impl ClusterRange {
    /// Refuses node ranges that are larger than the cluster's range, or too many.
    pub fn new(range: IpNet, node_prefix: u8) -> Result<Self, String> {
        let range = range.trunc();
        if node_prefix < range.prefix_len() || node_prefix > range.max_prefix_len() {
            return Err(format!(
                "a node's range of /{node_prefix} does not fit into the cluster's range {range}"
            ));
        }
        let split = node_prefix - range.prefix_len();
        if split > LARGEST_SPLIT {
            return Err(format!(
                "the cluster's range {range} has more than {} parts of /{node_prefix}. Use a shorter prefix for nodes",
                1u32 << LARGEST_SPLIT
            ));
        }
        Ok(ClusterRange { range, node_prefix })
    }

    /// The cluster's range.
    pub fn range(&self) -> IpNet {
        self.range
    }

    /// The prefix length of a node's range.
    pub fn node_prefix(&self) -> u8 {
        self.node_prefix
    }

    fn is_ipv4(&self) -> bool {
        self.range.addr().is_ipv4()
    }

    /// Number of nodes that can get a range.
    pub fn blocks(&self) -> u32 {
        1 << (self.node_prefix - self.range.prefix_len())
    }

    fn block(&self, index: u32) -> IpNet {
        let up = u32::from(self.range.max_prefix_len() - self.node_prefix);
        // The prefix length was validated, so this cannot panic.
        match self.range {
            IpNet::V4(range) => {
                let bits = range.addr().to_bits() | index.checked_shl(up).unwrap_or(0);
                IpNet::V4(Ipv4Net::new_assert(bits.into(), self.node_prefix))
            }
            IpNet::V6(range) => {
                let bits = range.addr().to_bits() | u128::from(index).checked_shl(up).unwrap_or(0);
                IpNet::V6(Ipv6Net::new_assert(bits.into(), self.node_prefix))
            }
        }
    }

    /// The first and the last block that a range overlaps; `None` if there is none.
    fn covered(&self, other: &IpNet) -> Option<(u32, u32)> {
        let same_family = self.is_ipv4() == other.addr().is_ipv4();
        if !same_family || !(self.range.contains(other) || other.contains(&self.range)) {
            return None;
        }
        if other.contains(&self.range) {
            return Some((0, self.blocks() - 1));
        }
        let bits = |address: std::net::IpAddr| match address {
            std::net::IpAddr::V4(address) => u128::from(address.to_bits()),
            std::net::IpAddr::V6(address) => address.to_bits(),
        };
        let up = u32::from(self.range.max_prefix_len() - self.node_prefix);
        let index = |address| {
            let offset = bits(address) - bits(self.range.addr());
            // Smaller than the number of blocks, so it fits.
            u32::try_from(offset.checked_shr(up).unwrap_or(0)).unwrap_or(0)
        };
        Some((index(other.network()), index(other.broadcast())))
    }
}

impl fmt::Display for ClusterRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} in parts of /{}", self.range, self.node_prefix)
    }
}

/// An action.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Write a node's ranges, the one of the cluster's first family first.
    Assign {
        /// The node.
        node: Arc<str>,
        /// The node's uid.
        uid: Arc<str>,
        /// Its `spec.podCIDRs`.
        ranges: Vec<IpNet>,
    },
    /// Set the condition of a node that gets no range.
    NoneLeft {
        /// The node.
        node: Arc<str>,
        /// The node's uid.
        uid: Arc<str>,
        /// The exhausted range, and the remedy.
        message: String,
    },
    /// Remove the condition from a node that has a range now.
    Unmark {
        /// The node.
        node: Arc<str>,
        /// The node's uid.
        uid: Arc<str>,
    },
}

/// The blocks of one cluster range.
#[derive(Debug)]
struct Pool {
    cluster: ClusterRange,
    /// Number of nodes that hold each block, without zeros. Nodes created with ranges may share
    /// one.
    held: HashMap<u32, u32>,
    next: u32,
}

impl Pool {
    fn is_used_up(&self) -> bool {
        self.held.len() as u64 >= u64::from(self.cluster.blocks())
    }

    fn take_next(&mut self) -> Option<IpNet> {
        if self.is_used_up() {
            return None;
        }
        let blocks = self.cluster.blocks();
        let mut index = self.next;
        while self.held.contains_key(&index) {
            index = (index + 1) % blocks;
        }
        self.next = (index + 1) % blocks;
        let range = self.cluster.block(index);
        self.occupy(&range);
        Some(range)
    }

    fn is_free(&self, range: &IpNet) -> bool {
        let own = self.cluster.covered(range).filter(|(first, last)| first == last);
        range.prefix_len() == self.cluster.node_prefix
            && own.is_some_and(|(index, _)| !self.held.contains_key(&index))
    }

    fn occupy(&mut self, range: &IpNet) {
        if let Some((first, last)) = self.cluster.covered(range) {
            for index in first..=last {
                *self.held.entry(index).or_default() += 1;
            }
        }
    }

    fn release(&mut self, range: &IpNet) {
        if let Some((first, last)) = self.cluster.covered(range) {
            for index in first..=last {
                if let Some(holders) = self.held.get_mut(&index) {
                    *holders -= 1;
                    if *holders == 0 {
                        self.held.remove(&index);
                    }
                }
            }
        }
    }
}

#[derive(Debug)]
struct Node {
    uid: Arc<str>,
    /// The ranges that it holds.
    ranges: Vec<IpNet>,
    /// Whether its object has the ranges; if not, the write is planned or in flight.
    written: bool,
}

/// All ranges of the cluster, and the nodes that hold them.
#[derive(Debug)]
pub struct Ipam {
    pools: Vec<Pool>,
    nodes: HashMap<Arc<str>, Node>,
    /// Nodes to decide, in the order of their arrival.
    queue: VecDeque<Arc<str>>,
    /// Nodes that got no range.
    without: BTreeSet<Arc<str>>,
    /// Ranges of deleted nodes.
    before: HashMap<Arc<str>, Vec<IpNet>>,
    /// Nodes with a range that still have the condition, with their uids.
    to_unmark: BTreeMap<Arc<str>, Arc<str>>,
}

impl Ipam {
    /// An allocator for the cluster's ranges, at most one of each family. Without ranges it assigns
    /// none.
    pub fn new(cluster: &[ClusterRange]) -> Self {
        let pool = |cluster: &ClusterRange| Pool {
            cluster: *cluster,
            held: HashMap::new(),
            next: 0,
        };
        Ipam {
            pools: cluster.iter().map(pool).collect(),
            nodes: HashMap::new(),
            queue: VecDeque::new(),
            without: BTreeSet::new(),
            before: HashMap::new(),
            to_unmark: BTreeMap::new(),
        }
    }

    /// A node was added or changed.
    pub fn put_node(&mut self, view: &NodeView) {
        if self.pools.is_empty() {
            return;
        }
        let (name, uid) = (&view.meta.name, &view.meta.uid);
        // A range that cannot be parsed covers nothing.
        let says: Vec<IpNet> = view
            .pod_cidrs
            .iter()
            .filter_map(|text| text.parse().ok())
            .collect();
        let condition = view.condition(NETWORK_UNAVAILABLE);
        if condition.is_some_and(|condition| &*condition.reason == NONE_LEFT) && !view.pod_cidrs.is_empty() {
            self.to_unmark.insert(name.clone(), uid.clone());
        }
        match self.nodes.get_mut(name) {
            Some(node) if node.uid == *uid && view.pod_cidrs.is_empty() => return,
            Some(node) if node.uid == *uid && node.ranges == says => {
                node.written = true;
                return;
            }
            Some(_) => self.forget(name),
            None => {}
        }
        let written = !view.pod_cidrs.is_empty();
        for range in &says {
            self.pools.iter_mut().for_each(|pool| pool.occupy(range));
        }
        let node = Node {
            uid: uid.clone(),
            ranges: says,
            written,
        };
        self.nodes.insert(name.clone(), node);
        if !written {
            self.queue.push_back(name.clone());
        }
    }

    /// A node was deleted, so its ranges are released.
    pub fn delete_node(&mut self, name: &str) {
        self.forget(name);
    }

    fn forget(&mut self, name: &str) {
        self.without.remove(name);
        self.to_unmark.remove(name);
        let Some(node) = self.nodes.remove(name) else {
            return;
        };
        for range in &node.ranges {
            self.pools.iter_mut().for_each(|pool| pool.release(range));
        }
        if !node.ranges.is_empty() {
            self.queue.extend(self.without.pop_first());
            if self.before.len() >= REMEMBERED {
                self.before.clear();
            }
            self.before.insert(name.into(), node.ranges);
        }
    }

    /// A write failed. It is planned again with the same ranges, unless the watch shows that the
    /// node has ranges.
    pub fn retry(&mut self, name: &Arc<str>) {
        if self.nodes.get(name).is_some_and(|node| !node.written) {
            self.without.remove(name);
            self.queue.push_back(name.clone());
        }
    }

    /// Returns whether [`Ipam::plan`] has something to do.
    pub fn has_work(&self) -> bool {
        !self.queue.is_empty() || !self.to_unmark.is_empty()
    }

    /// Plans at most `room` actions. Planned ranges are held for their node until [`Ipam::retry`],
    /// or until the watch shows them.
    pub fn plan(&mut self, room: usize) -> Vec<Action> {
        let mut actions = Vec::new();
        while actions.len() < room
            && let Some((node, uid)) = self.to_unmark.pop_first()
        {
            actions.push(Action::Unmark { node, uid });
        }
        while actions.len() < room
            && let Some(name) = self.queue.pop_front()
        {
            let Some(node) = self.nodes.get_mut(&name).filter(|node| !node.written) else {
                continue;
            };
            if node.ranges.is_empty() {
                let before = self.before.remove(&name);
                let again = before.filter(|ranges| take_again(&mut self.pools, ranges));
                node.ranges = again.unwrap_or_else(|| take_one_each(&mut self.pools));
            }
            if !node.ranges.is_empty() {
                actions.push(Action::Assign {
                    node: name,
                    uid: node.uid.clone(),
                    ranges: node.ranges.clone(),
                });
                continue;
            }
            actions.push(Action::NoneLeft {
                node: name.clone(),
                uid: node.uid.clone(),
                message: none_left(&self.pools, &name),
            });
            self.without.insert(name);
        }
        actions
    }
}

/// The message that names the exhausted range and the remedy.
fn none_left(pools: &[Pool], node: &str) -> String {
    let used_up = pools.iter().find(|pool| pool.is_used_up());
    let Some(cluster) = used_up.map(|pool| pool.cluster) else {
        return format!("node {node} gets no pod range");
    };
    let (blocks, ClusterRange { range, node_prefix }) = (cluster.blocks(), cluster);
    let flag = if cluster.is_ipv4() {
        "--node-cidr-mask-size"
    } else {
        "--node-cidr-mask-size-ipv6"
    };
    format!(
        "node {node} gets no pod range: all {blocks} ranges (/{node_prefix}) of --cluster-cidr {range} are taken. Start the server with a larger --cluster-cidr or a larger {flag}"
    )
}

/// Takes exactly these ranges, if they are free blocks of all families.
fn take_again(pools: &mut [Pool], ranges: &[IpNet]) -> bool {
    let whole = pools.len() == ranges.len();
    let free = whole && pools.iter().zip(ranges).all(|(pool, range)| pool.is_free(range));
    if free {
        for (pool, range) in pools.iter_mut().zip(ranges) {
            pool.occupy(range);
        }
    }
    free
}

/// Takes one range of each family, or none at all.
fn take_one_each(pools: &mut [Pool]) -> Vec<IpNet> {
    let mut taken = Vec::with_capacity(pools.len());
    for index in 0..pools.len() {
        match pools[index].take_next() {
            Some(range) => taken.push(range),
            None => {
                for (pool, range) in pools.iter_mut().zip(&taken) {
                    pool.release(range);
                }
                return Vec::new();
            }
        }
    }
    taken
}

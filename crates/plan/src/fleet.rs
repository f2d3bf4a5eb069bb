//! Index of nodes, pods, DaemonSets and their revisions. It plans what the DaemonSet controller
//! does, at a cost that depends on the size of a change only.
//!
//! Watch events enter through [`Fleet::node`], [`Fleet::pod`], [`Fleet::daemon_set`] and
//! [`Fleet::revision`]. Each marks the affected (set, node) pairs dirty. [`Fleet::plan`] judges the
//! dirty pairs again, updates the tallies and queues, and returns actions. [`Fleet::answer`]
//! receives their results. A heartbeat marks nothing, and neither does any other change of a node
//! except in its labels and taints.
//!
//! Invariants:
//! - The tallies and queues of a set hold exactly the last judgement of each of its pairs.
//! - An issued write counts as done until the watch has reached its revision, so a late watch never
//!   causes a second request. Even if the same pod is requested twice, both requests use the same
//!   name.
//! - A refused request is repeated after a delay. [`Plan::look_again`] holds the time.
//! - Nothing is planned before each kind was listed once, and nothing for a set that is being
//!   deleted.
//!
//! The caller contains no rule of DaemonSets. It feeds events, sends the [`Action::request`]s,
//! passes the answers back, records events, and plans again after an event or at the given time.

mod action;
mod answer;
mod apply;
mod claims;
mod conditions;
mod explain;
mod forecast;
mod gate;
mod offer;
mod pair;
mod set;
mod write;

pub use action::{Act, Action, Answer, DaemonSetRef, EventRecord, Method, Request, Target};
pub use conditions::Condition;
pub use explain::{Decision, Explanation, RolloutState, Verdict, WaitsFor};
pub use forecast::{Forecast, NodeChange, NodeForecast};

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use api::view::{ControllerRevisionView, DaemonSetView, NodeView, PodView};
use jiff::Timestamp;

use crate::daemonset::{Aim, NodeName};
use set::Set;

/// A watch event, or the result of a list, of one kind.
#[derive(Clone, Debug)]
pub enum Change<V> {
    /// An object was added or changed.
    Upsert(Arc<V>),
    /// An object was deleted: its last state, at the revision of the deletion.
    Delete(Arc<V>),
    /// The kind was listed: all its objects at this revision.
    Replace {
        /// All objects.
        items: Vec<Arc<V>>,
        /// The list's resourceVersion.
        revision: u64,
    },
    /// Nothing changed up to this revision.
    Bookmark(u64),
}

/// All objects that a fleet is built from, read once.
#[derive(Clone, Debug, Default)]
pub struct Objects {
    /// All nodes.
    pub nodes: Vec<Arc<NodeView>>,
    /// The pods, at least those of the namespaces of the DaemonSets.
    pub pods: Vec<Arc<PodView>>,
    /// The DaemonSets.
    pub daemon_sets: Vec<Arc<DaemonSetView>>,
    /// Their revisions.
    pub revisions: Vec<Arc<ControllerRevisionView>>,
}

/// Settings of the planner.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// Most creations, and most deletions, of one set in flight. 250 by default, like Kubernetes'
    /// burst.
    pub burst: usize,
    /// How pods get their node: through the scheduler or directly.
    pub aim: Aim,
}

impl Default for Options {
    fn default() -> Self {
        Options {
            burst: 250,
            aim: Aim::default(),
        }
    }
}

/// Result of planning.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Plan {
    /// Requests to send, in any order. Each must be answered exactly once.
    pub actions: Vec<Action>,
    /// Events to record.
    pub events: Vec<EventRecord>,
    /// When to plan again if no event comes before.
    pub look_again: Option<Timestamp>,
}

/// Counters of work, for metrics and for tests that the work does not grow with the fleet.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Work {
    /// Changes received.
    pub changes: u64,
    /// Plans made.
    pub plans: u64,
    /// (DaemonSet, node) pairs judged.
    pub pairs_looked_at: u64,
    /// Actions issued.
    pub actions: u64,
}

/// A namespace and a name.
pub(crate) type ObjectKey = (Arc<str>, Arc<str>);

/// The kinds whose watches confirm writes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Resource {
    Pods,
    DaemonSets,
    Revisions,
}

/// Progress of the watches, and the writes that they have not shown yet.
#[derive(Debug, Default)]
struct World {
    seen: Seen,
    unseen: Unseen,
    work: Work,
}

/// The revision that each watch has reached.
#[derive(Clone, Copy, Debug, Default)]
struct Seen {
    pods: u64,
    daemon_sets: u64,
    revisions: u64,
}

/// The writes that each watch has not shown yet, by revision.
#[derive(Debug, Default)]
struct Unseen {
    pods: BTreeSet<(u64, ObjectKey, Spot)>,
    daemon_sets: BTreeSet<(u64, ObjectKey, Spot)>,
    revisions: BTreeSet<(u64, ObjectKey, Spot)>,
}

/// The part of a set that a write belongs to.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
enum Spot {
    Pair(NodeName),
    Claim(ObjectKey),
    Revision(Arc<str>),
    Status,
}

impl Seen {
    fn of(&mut self, resource: Resource) -> &mut u64 {
        match resource {
            Resource::Pods => &mut self.pods,
            Resource::DaemonSets => &mut self.daemon_sets,
            Resource::Revisions => &mut self.revisions,
        }
    }
}

impl Unseen {
    fn of(&mut self, resource: Resource) -> &mut BTreeSet<(u64, ObjectKey, Spot)> {
        match resource {
            Resource::Pods => &mut self.pods,
            Resource::DaemonSets => &mut self.daemon_sets,
            Resource::Revisions => &mut self.revisions,
        }
    }
}

/// A pod in the index, with the set that it belongs to.
#[derive(Clone, Debug)]
struct PodEntry {
    pod: Arc<PodView>,
    home: Option<Home>,
}

/// Relation of a pod to a set.
#[derive(Clone, PartialEq, Eq, Debug)]
struct Home {
    set: ObjectKey,
    role: Role,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Role {
    /// The set controls and selects it.
    Ours,
    /// It has no controller, and the set selects it.
    ToAdopt,
    /// The set controls it, but no longer selects it.
    ToRelease,
}

/// Which kinds have been listed.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
struct Listed {
    nodes: bool,
    pods: bool,
    daemon_sets: bool,
    revisions: bool,
}

/// The index. See the module's documentation.
#[derive(Debug)]
pub struct Fleet {
    options: Options,
    listed: Listed,
    nodes: BTreeMap<NodeName, Arc<NodeView>>,
    pods: BTreeMap<ObjectKey, PodEntry>,
    revisions: BTreeMap<ObjectKey, Arc<ControllerRevisionView>>,
    sets: BTreeMap<ObjectKey, Set>,
    /// Sets with unprocessed changes.
    dirty: BTreeSet<ObjectKey>,
    /// When sets must be planned even if no event comes.
    wakes: BTreeSet<(Timestamp, ObjectKey)>,
    world: World,
}

impl Fleet {
    /// An empty index.
    pub fn new(options: Options) -> Fleet {
        Fleet {
            options,
            listed: Listed::default(),
            nodes: BTreeMap::new(),
            pods: BTreeMap::new(),
            revisions: BTreeMap::new(),
            sets: BTreeMap::new(),
            dirty: BTreeSet::new(),
            wakes: BTreeSet::new(),
            world: World::default(),
        }
    }

    /// Builds the index from objects that were read once, judged at `now`, to explain and forecast
    /// outside the controller. Issues no action.
    pub fn of(options: Options, objects: Objects, now: Timestamp) -> Fleet {
        fn all<V>(items: Vec<Arc<V>>) -> Change<V> {
            Change::Replace { items, revision: 0 }
        }
        let mut fleet = Fleet::new(options);
        fleet.node(all(objects.nodes));
        fleet.pod(all(objects.pods));
        fleet.daemon_set(all(objects.daemon_sets));
        fleet.revision(all(objects.revisions));
        fleet.judge(now);
        fleet
    }

    /// Applies an event of the watch of nodes. The events of one kind must come in the order of the
    /// watch.
    pub fn node(&mut self, change: Change<NodeView>) {
        self.world.work.changes += 1;
        self.apply_node(change);
    }

    /// Applies an event of the watch of pods.
    pub fn pod(&mut self, change: Change<PodView>) {
        self.world.work.changes += 1;
        self.apply_pod(change);
    }

    /// Applies an event of the watch of DaemonSets.
    pub fn daemon_set(&mut self, change: Change<DaemonSetView>) {
        self.world.work.changes += 1;
        self.apply_daemon_set(change);
    }

    /// Applies an event of the watch of ControllerRevisions.
    pub fn revision(&mut self, change: Change<ControllerRevisionView>) {
        self.world.work.changes += 1;
        self.apply_revision(change);
    }

    /// The work done so far.
    pub fn work(&self) -> Work {
        self.world.work
    }

    /// The node in the index.
    pub fn find_node(&self, name: &str) -> Option<&Arc<NodeView>> {
        self.nodes.get(name)
    }

    /// All DaemonSets in the index, by namespace and name.
    pub fn daemon_sets(&self) -> impl Iterator<Item = &Arc<DaemonSetView>> {
        self.sets.values().map(|set| &set.view)
    }
}

#[cfg(test)]
impl Fleet {
    /// Everything that the index counts and queues, to compare two of them.
    fn digest(&self) -> impl std::fmt::Debug + use<> {
        let of = |(key, set): (&ObjectKey, &Set)| {
            (
                key.clone(),
                set.hash.clone(),
                set.settled,
                set.tally,
                set.queues.clone(),
                set.hashes.clone(),
            )
        };
        self.sets.iter().map(of).collect::<Vec<_>>()
    }
}

#[cfg(test)]
mod tests;

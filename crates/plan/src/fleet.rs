//! The index over nodes, pods, DaemonSets and their revisions from which DaemonSets are planned: the cost of a change
//! is the size of the change.
//!
//! Watch events go in through [`Fleet::node`], [`Fleet::pod`], [`Fleet::daemon_set`] and [`Fleet::revision`]; each
//! marks the (set, node) pairs that it concerns. [`Fleet::plan`] judges the marked pairs anew, keeps tallies and queues
//! of all pairs in step, and gives out actions. [`Fleet::answer`] takes in what became of them. A heartbeat, or any
//! change of a node but that of its labels and taints, marks nothing.
//!
//! Invariants:
//! - The tallies and queues of a set hold exactly the last judgement of each of its pairs.
//! - A write that was given out counts as done until the watch has reached its revision; so nothing is asked for twice
//!   because the watch is behind. And whoever asks for the same pod twice all the same, asks for the same name.
//! - What was refused is asked for again, after a delay. [`Plan::look_again`] says when.
//! - Nothing is planned before each kind has been listed once, and nothing for a set that is being deleted.
//!
//! The shell around it knows no rule of DaemonSets: it feeds events, sends [`Action::request`]s, hands back answers,
//! records events, and calls again when something happened or the time has come.

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

/// What a watch says about one kind.
#[derive(Clone, Debug)]
pub enum Change<V> {
    /// An object was added or changed.
    Upsert(Arc<V>),
    /// An object is gone; this is its last state, at the revision of its deletion.
    Delete(Arc<V>),
    /// The kind was listed: these are all objects, at this revision.
    Replace {
        /// All objects.
        items: Vec<Arc<V>>,
        /// The list's resourceVersion.
        revision: u64,
    },
    /// Nothing changed up to this revision.
    Bookmark(u64),
}

/// All that a fleet is about, as it was read once.
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

/// What may be tuned.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// How many creations, and how many deletions, of one set may be in flight. Kubernetes' burst.
    pub burst: usize,
    /// Whether the scheduler binds the pods, or they are made for their node at once.
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

/// What is to be done now.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Plan {
    /// Requests, in no order: none depends on another. Each must be answered, once.
    pub actions: Vec<Action>,
    /// Events to record.
    pub events: Vec<EventRecord>,
    /// When to plan again though nothing happens.
    pub look_again: Option<Timestamp>,
}

/// How much was done; for metrics, and for tests that the work does not grow with the fleet.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Work {
    /// Changes taken in.
    pub changes: u64,
    /// Plans made.
    pub plans: u64,
    /// (DaemonSet, node) pairs that were judged.
    pub pairs_looked_at: u64,
    /// Actions given out.
    pub actions: u64,
}

/// A namespace and a name.
pub(crate) type ObjectKey = (Arc<str>, Arc<str>);

/// The kinds whose watches settle writes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Resource {
    Pods,
    DaemonSets,
    Revisions,
}

/// How far the watches are, and what waits for them.
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

/// Where to look when a watch reaches a revision.
#[derive(Debug, Default)]
struct Unseen {
    pods: BTreeSet<(u64, ObjectKey, Spot)>,
    daemon_sets: BTreeSet<(u64, ObjectKey, Spot)>,
    revisions: BTreeSet<(u64, ObjectKey, Spot)>,
}

/// A place in a set where a write waits to be seen.
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

/// A pod of the index, and where it stands in it.
#[derive(Clone, Debug)]
struct PodEntry {
    pod: Arc<PodView>,
    home: Option<Home>,
}

/// What a pod is to a set.
#[derive(Clone, PartialEq, Eq, Debug)]
struct Home {
    set: ObjectKey,
    role: Role,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Role {
    /// The set controls and selects it.
    Ours,
    /// Nobody controls it, and the set selects it.
    ToAdopt,
    /// The set controls it, and does not select it any more.
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
    /// Sets that something happened to.
    dirty: BTreeSet<ObjectKey>,
    /// When sets must be looked at though nothing happens.
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

    /// The index over objects that were read once, judged at `now`: for explaining and forecasting from outside of the
    /// controller. Nothing is asked for.
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

    /// Takes in what the watch of nodes says. Events of one kind come in the order of the watch.
    pub fn node(&mut self, change: Change<NodeView>) {
        self.world.work.changes += 1;
        self.apply_node(change);
    }

    /// Takes in what the watch of pods says.
    pub fn pod(&mut self, change: Change<PodView>) {
        self.world.work.changes += 1;
        self.apply_pod(change);
    }

    /// Takes in what the watch of DaemonSets says.
    pub fn daemon_set(&mut self, change: Change<DaemonSetView>) {
        self.world.work.changes += 1;
        self.apply_daemon_set(change);
    }

    /// Takes in what the watch of ControllerRevisions says.
    pub fn revision(&mut self, change: Change<ControllerRevisionView>) {
        self.world.work.changes += 1;
        self.apply_revision(change);
    }

    /// How much was done so far.
    pub fn work(&self) -> Work {
        self.world.work
    }

    /// The node, as the index knows it.
    pub fn find_node(&self, name: &str) -> Option<&Arc<NodeView>> {
        self.nodes.get(name)
    }

    /// All DaemonSets that the index knows, by namespace and name.
    pub fn daemon_sets(&self) -> impl Iterator<Item = &Arc<DaemonSetView>> {
        self.sets.values().map(|set| &set.view)
    }
}

#[cfg(test)]
impl Fleet {
    /// All that the index counts and queues, for comparing two of them.
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

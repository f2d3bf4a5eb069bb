//! Queue of the pods to schedule.
//!
//! A pod is in one of three states: *ready* (ordered by priority, then by arrival), *backing off*
//! (woken, but its last failure is too recent), or *parked* (nothing changed since its failure that
//! could help).
//!
//! Pods with the same requirements are parked as one [`Group`], because they have the same verdict.
//! A change that may help wakes one of them, a scout. If the scout finds a node, the next pod is
//! woken; if it fails, the others need no attempt. So for ten thousand pods that do not fit, a
//! change costs one check, and another pod like them is refused without a search. [`LOOK_AGAIN`]
//! wakes a scout if no change does.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use api::view::{Labels, PodSpecView, PodView};
use jiff::Timestamp;

use super::{BACKOFF_FIRST, BACKOFF_LONGEST, LOOK_AGAIN, PodKey};

/// Higher priority first, then earlier arrival.
type Turn = (Reverse<i32>, u64);

struct Waiting {
    pod: Arc<PodView>,
    turn: Turn,
    failures: u32,
    /// The group that it is a scout of.
    scout_of: Option<u64>,
    place: Place,
}

/// State that a pod keeps between attempts.
pub(super) struct Tried {
    turn: Turn,
    failures: u32,
    scout_of: Option<u64>,
}

enum Place {
    Ready,
    BackingOff(Timestamp),
    Parked { group: u64, back: Timestamp },
}

/// Everything that the decision about a pod depends on: pods of the same shape have the same
/// verdict.
#[derive(Clone, PartialEq, Eq, Hash)]
struct Shape {
    pin: Option<Arc<str>>,
    nominated: Option<Arc<str>>,
    namespace: Arc<str>,
    labels: Labels,
    spec: Arc<PodSpecView>,
}

/// Parked pods of one shape.
struct Group {
    shape: Shape,
    /// The pod that was refused last.
    sample: Arc<PodView>,
    message: Arc<str>,
    /// By the end of their backoff, then by order.
    members: BTreeSet<(Timestamp, Turn, PodKey)>,
    /// Number of its pods that are ready or backing off.
    scouts: usize,
    /// Whether changes on other nodes may help too.
    topology: bool,
    look: Timestamp,
}

/// Why a pod is parked.
pub(super) struct Refused {
    /// The only node that it may be scheduled to.
    pub(super) pin: Option<Arc<str>>,
    /// Its nominated node.
    pub(super) nominated: Option<Arc<str>>,
    /// Whether it depends on neighbouring pods.
    pub(super) topology: bool,
    pub(super) message: Arc<str>,
}

#[derive(Default)]
pub(super) struct Queue {
    pods: HashMap<PodKey, Waiting>,
    ready: BTreeSet<(Turn, PodKey)>,
    /// Pods that back off, by the end of the backoff.
    timed: BTreeSet<(Timestamp, PodKey)>,
    groups: BTreeMap<u64, Group>,
    by_shape: HashMap<Shape, u64>,
    /// Groups that may be scheduled to one node only, by that node.
    pinned: HashMap<Arc<str>, BTreeSet<u64>>,
    /// Groups with a choice of nodes.
    free: BTreeSet<u64>,
    /// Groups without a scout that a change on any node may help.
    topology: BTreeSet<u64>,
    /// When each group is tried even if nothing changes.
    looks: BTreeSet<(Timestamp, u64)>,
    /// Number of arrivals and groups so far.
    count: u64,
}

impl Queue {
    pub(super) fn len(&self) -> usize {
        self.pods.len()
    }

    /// A waiting pod, in its last state.
    pub(super) fn get(&self, key: &PodKey) -> Option<&Arc<PodView>> {
        self.pods.get(key).map(|waiting| &waiting.pod)
    }

    /// Adds or replaces a waiting pod. A change of its requirements makes it ready at once. Any
    /// other change, like our own condition in its status, does not.
    pub(super) fn put(&mut self, key: PodKey, pod: Arc<PodView>) {
        if let Some(waiting) = self.pods.get_mut(&key) {
            let same = waiting.pod.spec == pod.spec
                && waiting.pod.pinned_node == pod.pinned_node
                && waiting.pod.meta.labels == pod.meta.labels
                && waiting.pod.meta.uid == pod.meta.uid;
            if same {
                waiting.pod = pod;
                return;
            }
            self.remove(&key);
        }
        let turn = self.arrive(&pod);
        self.ready.insert((turn, key.clone()));
        let waiting = Waiting {
            pod,
            turn,
            failures: 0,
            scout_of: None,
            place: Place::Ready,
        };
        self.pods.insert(key, waiting);
    }

    /// Adds a pod whose binding failed, with a backoff.
    pub(super) fn put_back(&mut self, key: PodKey, pod: Arc<PodView>, now: Timestamp) {
        let turn = self.arrive(&pod);
        let until = now + BACKOFF_FIRST;
        self.timed.insert((until, key.clone()));
        let waiting = Waiting {
            pod,
            turn,
            failures: 1,
            scout_of: None,
            place: Place::BackingOff(until),
        };
        self.pods.insert(key, waiting);
    }

    fn arrive(&mut self, pod: &PodView) -> Turn {
        self.count += 1;
        (Reverse(pod.spec.priority), self.count)
    }

    pub(super) fn remove(&mut self, key: &PodKey) {
        let Some(waiting) = self.pods.remove(key) else {
            return;
        };
        match waiting.place {
            Place::Ready => {
                self.ready.remove(&(waiting.turn, key.clone()));
            }
            Place::BackingOff(until) => {
                self.timed.remove(&(until, key.clone()));
            }
            Place::Parked { group: id, back } => {
                if let Some(group) = self.groups.get_mut(&id) {
                    group.members.remove(&(back, waiting.turn, key.clone()));
                }
                self.settle(id);
            }
        }
        if let Some(id) = waiting.scout_of {
            self.return_scout(id);
            // Another pod becomes the scout.
            self.wake(id);
        }
    }

    /// Takes the next ready pod, with its state for [`Queue::park`].
    pub(super) fn pop(&mut self, now: Timestamp) -> Option<(PodKey, Arc<PodView>, Tried)> {
        self.end_waits(now);
        let (turn, key) = self.ready.pop_first()?;
        let waiting = self.pods.remove(&key)?;
        let tried = Tried {
            turn,
            failures: waiting.failures,
            scout_of: waiting.scout_of,
        };
        Some((key, waiting.pod, tried))
    }

    /// The refusal of the pods like this one, if nothing has changed since that could help them.
    pub(super) fn refused(&self, pod: &PodView, pin: Option<&Arc<str>>, tried: &Tried) -> Option<Refused> {
        if tried.scout_of.is_some() || !self.is_parked_at(pin) {
            return None;
        }
        let shape = Shape::of(pod, pin.cloned(), None);
        let group = self.groups.get(self.by_shape.get(&shape)?)?;
        (group.scouts == 0).then(|| Refused {
            pin: shape.pin,
            nominated: None,
            topology: group.topology,
            message: group.message.clone(),
        })
    }

    fn is_parked_at(&self, pin: Option<&Arc<str>>) -> bool {
        match pin {
            Some(node) => self.pinned.contains_key(node),
            None => !self.free.is_empty(),
        }
    }

    /// Parks a pod that no node fits.
    pub(super) fn park(
        &mut self,
        key: PodKey,
        pod: Arc<PodView>,
        tried: Tried,
        refused: Refused,
        now: Timestamp,
    ) {
        let failures = tried.failures.saturating_add(1);
        let back = now + backoff(failures);
        let id = self.group(&pod, &refused, now);
        if let Some(group) = self.groups.get_mut(&id) {
            group.members.insert((back, tried.turn, key.clone()));
            group.sample = pod.clone();
            group.message = refused.message;
            group.topology |= refused.topology;
        }
        let waiting = Waiting {
            pod,
            turn: tried.turn,
            failures,
            scout_of: None,
            place: Place::Parked { group: id, back },
        };
        self.pods.insert(key, waiting);
        match tried.scout_of {
            Some(sender) if sender != id => {
                // Its requirements or its nomination changed, so its old group may try too.
                self.return_scout(sender);
                self.wake(sender);
            }
            Some(sender) => self.return_scout(sender),
            None => {}
        }
        self.settle(id);
    }

    /// The group of the pod's shape; a new one if needed.
    fn group(&mut self, pod: &Arc<PodView>, refused: &Refused, now: Timestamp) -> u64 {
        let shape = Shape::of(pod, refused.pin.clone(), refused.nominated.clone());
        if let Some(id) = self.by_shape.get(&shape) {
            return *id;
        }
        self.count += 1;
        let (id, look) = (self.count, now + LOOK_AGAIN);
        match &shape.pin {
            Some(node) => self.pinned.entry(node.clone()).or_default().insert(id),
            None => self.free.insert(id),
        };
        self.looks.insert((look, id));
        self.by_shape.insert(shape.clone(), id);
        let group = Group {
            shape,
            sample: pod.clone(),
            message: refused.message.clone(),
            members: BTreeSet::new(),
            scouts: 0,
            topology: refused.topology,
            look,
        };
        self.groups.insert(id, group);
        id
    }

    /// A scout was scheduled. Returns its group, whose next pod may try.
    pub(super) fn placed(&mut self, tried: &Tried) -> Option<u64> {
        let id = tried.scout_of?;
        self.return_scout(id);
        self.groups.contains_key(&id).then_some(id)
    }

    /// The groups that a change of this node may help.
    pub(super) fn waiting_for(&self, node: &str) -> Vec<u64> {
        if self.groups.is_empty() {
            return Vec::new();
        }
        let pinned = self.pinned.get(node).into_iter().flatten();
        pinned.chain(&self.free).copied().collect()
    }

    /// A pod that represents the group.
    pub(super) fn sample(&self, id: u64) -> Option<&Arc<PodView>> {
        let group = self.groups.get(&id)?;
        (!group.members.is_empty()).then_some(&group.sample)
    }

    /// Marks that the group depends on neighbouring pods.
    pub(super) fn set_topology(&mut self, id: u64) {
        if let Some(group) = self.groups.get_mut(&id) {
            group.topology = true;
        }
        self.settle(id);
    }

    pub(super) fn is_topology(&self, id: u64) -> bool {
        self.groups.get(&id).is_some_and(|group| group.topology)
    }

    /// Returns whether the group has no scout.
    pub(super) fn is_idle(&self, id: u64) -> bool {
        self.groups.get(&id).is_some_and(|group| group.scouts == 0)
    }

    /// Neighbours changed: wakes a scout of every group that depends on them.
    pub(super) fn wake_topology(&mut self) {
        for id in std::mem::take(&mut self.topology) {
            self.wake(id);
        }
    }

    /// Wakes the pod of the group whose backoff ends first.
    pub(super) fn wake(&mut self, id: u64) {
        let first = self.groups.get(&id).and_then(|group| group.members.first());
        if let Some((_, _, key)) = first.cloned() {
            self.wake_pod(&key);
        }
    }

    /// Wakes this pod, if it is parked.
    pub(super) fn wake_pod(&mut self, key: &PodKey) {
        let Some(waiting) = self.pods.get_mut(key) else {
            return;
        };
        let Place::Parked { group: id, back } = waiting.place else {
            return;
        };
        waiting.place = Place::BackingOff(back);
        waiting.scout_of = Some(id);
        self.timed.insert((back, key.clone()));
        let member = (back, waiting.turn, key.clone());
        if let Some(group) = self.groups.get_mut(&id) {
            group.members.remove(&member);
            group.scouts += 1;
        }
        self.settle(id);
    }

    fn return_scout(&mut self, id: u64) {
        if let Some(group) = self.groups.get_mut(&id) {
            group.scouts = group.scouts.saturating_sub(1);
        }
        self.settle(id);
    }

    /// Removes an empty group, and updates the index of groups that wait for any change.
    fn settle(&mut self, id: u64) {
        let Some(group) = self.groups.get(&id) else {
            return;
        };
        if group.topology && group.scouts == 0 && !group.members.is_empty() {
            self.topology.insert(id);
        } else {
            self.topology.remove(&id);
        }
        if group.scouts > 0 || !group.members.is_empty() {
            return;
        }
        let Some(group) = self.groups.remove(&id) else {
            return;
        };
        self.looks.remove(&(group.look, id));
        self.by_shape.remove(&group.shape);
        match &group.shape.pin {
            None => {
                self.free.remove(&id);
            }
            Some(node) => {
                if let Some(ids) = self.pinned.get_mut(node) {
                    ids.remove(&id);
                    if ids.is_empty() {
                        self.pinned.remove(node);
                    }
                }
            }
        }
    }

    pub(super) fn next_turn(&self) -> Option<Timestamp> {
        if !self.ready.is_empty() {
            return Some(Timestamp::MIN);
        }
        let waits = self.timed.first().map(|(until, _)| *until);
        let looks = self.looks.first().map(|(look, _)| *look);
        waits.into_iter().chain(looks).min()
    }

    fn end_waits(&mut self, now: Timestamp) {
        while let Some((look, id)) = self.looks.first().copied()
            && look <= now
        {
            self.looks.pop_first();
            self.looks.insert((now + LOOK_AGAIN, id));
            if let Some(group) = self.groups.get_mut(&id) {
                group.look = now + LOOK_AGAIN;
            }
            if self.is_idle(id) {
                self.wake(id);
            }
        }
        while let Some((until, key)) = self.timed.first().cloned()
            && until <= now
        {
            self.timed.pop_first();
            if let Some(waiting) = self.pods.get_mut(&key) {
                waiting.place = Place::Ready;
                self.ready.insert((waiting.turn, key));
            }
        }
    }
}

impl Shape {
    fn of(pod: &PodView, pin: Option<Arc<str>>, nominated: Option<Arc<str>>) -> Self {
        Shape {
            pin,
            nominated,
            namespace: pod.meta.namespace.clone(),
            labels: pod.meta.labels.clone(),
            spec: pod.spec.clone(),
        }
    }
}

/// The backoff after this many failures: 1 s, 2 s, 4 s, … up to the longest.
fn backoff(failures: u32) -> std::time::Duration {
    let doublings = failures.saturating_sub(1).min(8);
    BACKOFF_FIRST.saturating_mul(1 << doublings).min(BACKOFF_LONGEST)
}

//! Whose turn it is.
//!
//! A pod is in one of three places: *ready* (its turn comes by priority, then by arrival), *backing off* (woken, but its last
//! failure is too fresh), or *parked* (no change since its failure could help it).
//!
//! Pods that ask for the same are parked as one [`Group`]: what is refused to one is refused to all, so a change that may help wakes one
//! of them, a scout. When the scout finds a node the next one may go; when it fails the others need not try. So ten thousand pods that
//! do not fit cost a change one look, and a pod that is like them is refused without a search. [`LOOK_AGAIN`] sends a scout that nothing
//! woke.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use api::view::{Labels, PodSpecView, PodView};
use jiff::Timestamp;

use super::{BACKOFF_FIRST, BACKOFF_LONGEST, LOOK_AGAIN, PodKey};

/// Higher priority first, then who came first.
type Turn = (Reverse<i32>, u64);

struct Waiting {
    pod: Arc<PodView>,
    turn: Turn,
    failures: u32,
    /// The group that sent it out.
    scout_of: Option<u64>,
    place: Place,
}

/// What a pod keeps from turn to turn.
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

/// All that decides about a pod: pods that are alike in it have the same verdict.
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
    /// The one that was last refused.
    sample: Arc<PodView>,
    message: Arc<str>,
    /// By when their back-off ends, then by turn.
    members: BTreeSet<(Timestamp, Turn, PodKey)>,
    /// How many of its members are out, ready or backing off.
    scouts: usize,
    /// Whether changes anywhere may help, not only those of a node that the pods may go to.
    topology: bool,
    look: Timestamp,
}

/// Why a pod is parked.
pub(super) struct Refused {
    /// The only node that it may go to.
    pub(super) pin: Option<Arc<str>>,
    /// Where room is made for it.
    pub(super) nominated: Option<Arc<str>>,
    /// Whether the pods around decide.
    pub(super) topology: bool,
    pub(super) message: Arc<str>,
}

#[derive(Default)]
pub(super) struct Queue {
    pods: HashMap<PodKey, Waiting>,
    ready: BTreeSet<(Turn, PodKey)>,
    /// Backing off, by when that ends.
    timed: BTreeSet<(Timestamp, PodKey)>,
    groups: BTreeMap<u64, Group>,
    by_shape: HashMap<Shape, u64>,
    /// Groups whose pods may go to one node only, by that node.
    pinned: HashMap<Arc<str>, BTreeSet<u64>>,
    /// Groups whose pods have a choice.
    free: BTreeSet<u64>,
    /// Groups that a change anywhere may help and that have nobody out.
    topology: BTreeSet<u64>,
    /// When each group is looked at although nothing happened.
    looks: BTreeSet<(Timestamp, u64)>,
    /// Numbers given to arrivals and groups.
    count: u64,
}

impl Queue {
    pub(super) fn len(&self) -> usize {
        self.pods.len()
    }

    /// A pod that waits, as it was last seen.
    pub(super) fn get(&self, key: &PodKey) -> Option<&Arc<PodView>> {
        self.pods.get(key).map(|waiting| &waiting.pod)
    }

    /// A pod waits, or one that waits changed. A change of what it asks for makes it ready at once; anything else (our own
    /// condition written to its status, for one) leaves it where it is.
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

    /// A pod whose turn went wrong after the decision waits out its back-off.
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
            // Its errand is done by another.
            self.wake(id);
        }
    }

    /// Takes the pod whose turn it is out of the queue, with what to hand back if no node takes it.
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

    /// What was said to the pods that are like this one, if nothing has happened since that could help them.
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

    /// No node took the pod.
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
                // It got on, though not onto a node: those that stayed behind may try too.
                self.return_scout(sender);
                self.wake(sender);
            }
            Some(sender) => self.return_scout(sender),
            None => {}
        }
        self.settle(id);
    }

    /// The group of the pod's shape, a new one if there is none.
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

    /// A pod that had its turn has a node. Its group, if it was the scout of one: the next of it may try.
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

    /// A pod of the group, for all of them.
    pub(super) fn sample(&self, id: u64) -> Option<&Arc<PodView>> {
        let group = self.groups.get(&id)?;
        (!group.members.is_empty()).then_some(&group.sample)
    }

    /// The pods around decide about the group's.
    pub(super) fn set_topology(&mut self, id: u64) {
        if let Some(group) = self.groups.get_mut(&id) {
            group.topology = true;
        }
        self.settle(id);
    }

    pub(super) fn is_topology(&self, id: u64) -> bool {
        self.groups.get(&id).is_some_and(|group| group.topology)
    }

    /// Whether nobody of the group is out.
    pub(super) fn is_idle(&self, id: u64) -> bool {
        self.groups.get(&id).is_some_and(|group| group.scouts == 0)
    }

    /// Something changed about which pods are where: every group that asks about that sends a scout.
    pub(super) fn wake_topology(&mut self) {
        for id in std::mem::take(&mut self.topology) {
            self.wake(id);
        }
    }

    /// Sends the member of the group whose back-off ends first.
    pub(super) fn wake(&mut self, id: u64) {
        let first = self.groups.get(&id).and_then(|group| group.members.first());
        if let Some((_, _, key)) = first.cloned() {
            self.wake_pod(&key);
        }
    }

    /// Sends this pod, if it is parked.
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

    /// Drops the group if it is over, and keeps the index of those that wait for changes anywhere.
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

/// How long a pod waits after so many failures: 1 s, 2 s, 4 s, … to the longest.
fn backoff(failures: u32) -> std::time::Duration {
    let doublings = failures.saturating_sub(1).min(8);
    BACKOFF_FIRST.saturating_mul(1 << doublings).min(BACKOFF_LONGEST)
}

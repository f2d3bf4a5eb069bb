//! Whose turn it is.
//!
//! A pod is in one of three places: *ready* (its turn comes by priority, then by arrival), *backing off* (woken, but its last
//! failure is too fresh), or *parked* (no change since its failure could help it). Changes to a node wake the pods pinned to it and
//! those that have a choice; [`LOOK_AGAIN`] wakes what was overlooked.

use std::cmp::Reverse;
use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use api::view::PodView;
use jiff::Timestamp;

use super::{BACKOFF_FIRST, BACKOFF_LONGEST, LOOK_AGAIN, PodKey};

/// Higher priority first, then who came first.
type Turn = (Reverse<i32>, u64);

struct Waiting {
    pod: Arc<PodView>,
    turn: Turn,
    failures: u32,
    /// When it last failed.
    failed: Option<Timestamp>,
    place: Place,
}

/// What a pod keeps from turn to turn.
pub(super) struct Tried {
    turn: Turn,
    failures: u32,
}

enum Place {
    Ready,
    BackingOff(Timestamp),
    Parked { until: Timestamp, pin: Option<Arc<str>> },
}

#[derive(Default)]
pub(super) struct Queue {
    pods: HashMap<PodKey, Waiting>,
    ready: BTreeSet<(Turn, PodKey)>,
    /// Backing off or parked, by when that ends.
    timed: BTreeSet<(Timestamp, PodKey)>,
    parked_for: HashMap<Arc<str>, BTreeSet<PodKey>>,
    parked_anywhere: BTreeSet<PodKey>,
    arrivals: u64,
}

impl Queue {
    pub(super) fn len(&self) -> usize {
        self.pods.len()
    }

    /// A pod waits, or one that waits changed. A change of what it asks for makes it ready at once; anything else (our own
    /// condition written to its status, for one) leaves it where it is.
    pub(super) fn put(&mut self, key: PodKey, pod: Arc<PodView>) {
        if let Some(waiting) = self.pods.get_mut(&key) {
            let same = waiting.pod.spec == pod.spec
                && waiting.pod.pinned_node == pod.pinned_node
                && waiting.pod.meta.uid == pod.meta.uid;
            if same {
                waiting.pod = pod;
                return;
            }
            self.remove(&key);
        }
        self.arrivals += 1;
        let turn = (Reverse(pod.spec.priority), self.arrivals);
        let waiting = Waiting {
            pod,
            turn,
            failures: 0,
            failed: None,
            place: Place::Ready,
        };
        self.ready.insert((turn, key.clone()));
        self.pods.insert(key, waiting);
    }

    /// A pod whose turn went wrong after the decision waits out its back-off.
    pub(super) fn put_back(&mut self, key: PodKey, pod: Arc<PodView>, now: Timestamp) {
        self.arrivals += 1;
        let turn = (Reverse(pod.spec.priority), self.arrivals);
        let until = now + BACKOFF_FIRST;
        self.timed.insert((until, key.clone()));
        let waiting = Waiting {
            pod,
            turn,
            failures: 1,
            failed: Some(now),
            place: Place::BackingOff(until),
        };
        self.pods.insert(key, waiting);
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
            Place::Parked { until, pin } => {
                self.timed.remove(&(until, key.clone()));
                self.unpark(key, pin.as_ref());
            }
        }
    }

    /// Takes the pod whose turn it is out of the queue, with what to hand back if no node takes it.
    pub(super) fn pop(&mut self, now: Timestamp) -> Option<(PodKey, Arc<PodView>, Tried)> {
        self.end_waits(now);
        let (turn, key) = self.ready.pop_first()?;
        let waiting = self.pods.remove(&key)?;
        Some((
            key,
            waiting.pod,
            Tried {
                turn,
                failures: waiting.failures,
            },
        ))
    }

    /// No node took the pod.
    pub(super) fn park(
        &mut self,
        key: PodKey,
        pod: Arc<PodView>,
        tried: Tried,
        pin: Option<Arc<str>>,
        now: Timestamp,
    ) {
        let until = now + LOOK_AGAIN;
        self.timed.insert((until, key.clone()));
        match &pin {
            Some(node) => self
                .parked_for
                .entry(node.clone())
                .or_default()
                .insert(key.clone()),
            None => self.parked_anywhere.insert(key.clone()),
        };
        let place = Place::Parked { until, pin };
        let failures = tried.failures.saturating_add(1);
        self.pods.insert(
            key,
            Waiting {
                pod,
                turn: tried.turn,
                failures,
                failed: Some(now),
                place,
            },
        );
    }

    /// Something about the node changed that may let a pod fit.
    pub(super) fn wake_for_node(&mut self, node: &str) {
        let mut woken: Vec<PodKey> = self.parked_anywhere.iter().cloned().collect();
        woken.extend(self.parked_for.get(node).into_iter().flatten().cloned());
        for key in woken {
            self.wake(&key);
        }
    }

    pub(super) fn next_turn(&self) -> Option<Timestamp> {
        if self.ready.is_empty() {
            self.timed.first().map(|(until, _)| *until)
        } else {
            Some(Timestamp::MIN)
        }
    }

    fn wake(&mut self, key: &PodKey) {
        let Some(waiting) = self.pods.get_mut(key) else {
            return;
        };
        let Place::Parked { until, pin } = std::mem::replace(&mut waiting.place, Place::Ready) else {
            return;
        };
        let backoff = BACKOFF_FIRST
            .saturating_mul(1 << waiting.failures.saturating_sub(1).min(8))
            .min(BACKOFF_LONGEST);
        // A pod that never waited has no back-off to finish; otherwise the wait counts from the failure.
        let ready_at = waiting.failed.map_or(Timestamp::MIN, |failed| failed + backoff);
        waiting.place = Place::BackingOff(ready_at);
        self.timed.remove(&(until, key.clone()));
        self.timed.insert((ready_at, key.clone()));
        self.unpark(key, pin.as_ref());
    }

    fn unpark(&mut self, key: &PodKey, pin: Option<&Arc<str>>) {
        match pin {
            None => {
                self.parked_anywhere.remove(key);
            }
            Some(node) => {
                if let Some(set) = self.parked_for.get_mut(node) {
                    set.remove(key);
                    if set.is_empty() {
                        self.parked_for.remove(node);
                    }
                }
            }
        }
    }

    fn end_waits(&mut self, now: Timestamp) {
        while let Some((until, key)) = self.timed.first().cloned() {
            if until > now {
                break;
            }
            self.timed.pop_first();
            let Some(waiting) = self.pods.get_mut(&key) else {
                continue;
            };
            let place = std::mem::replace(&mut waiting.place, Place::Ready);
            self.ready.insert((waiting.turn, key.clone()));
            if let Place::Parked { pin, .. } = place {
                self.unpark(&key, pin.as_ref());
            }
        }
    }
}

//! Pods whose owner must change: to adopt or to release. Relabelled pods are tracked here too, so
//! that no pod is patched twice at the same time.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use jiff::Timestamp;

use super::ObjectKey;
use super::write::{Retry, Write};

/// The change of a pod's owner.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Claim {
    /// The set becomes its controller.
    Adopt,
    /// The set stops being its controller.
    Release,
}

/// The claims of one set.
#[derive(Clone, Debug)]
pub(super) struct Claims {
    /// Most patches in flight.
    burst: usize,
    /// The wanted change of each pod, and the pod's uid.
    wanted: BTreeMap<ObjectKey, (Claim, Arc<str>)>,
    /// Those of [`Claims::wanted`] that may be requested: not in flight, and not backing off.
    adopt: BTreeSet<ObjectKey>,
    release: BTreeSet<ObjectKey>,
    /// Requested and not yet shown by the watch.
    writes: BTreeMap<ObjectKey, Write>,
    /// Backoff of pods whose last patch was refused; true while it waits in [`Claims::wakes`].
    refused: BTreeMap<ObjectKey, (Retry, bool)>,
    wakes: BTreeSet<(Timestamp, ObjectKey)>,
    /// Backoff of reading the set, which precedes any adoption.
    pub(super) confirm_retry: Retry,
}

impl Claims {
    pub(super) fn new(burst: usize) -> Claims {
        Claims {
            burst,
            wanted: BTreeMap::new(),
            adopt: BTreeSet::new(),
            release: BTreeSet::new(),
            writes: BTreeMap::new(),
            refused: BTreeMap::new(),
            wakes: BTreeSet::new(),
            confirm_retry: Retry::default(),
        }
    }

    /// A pod's owner must change.
    pub(super) fn want(&mut self, key: &ObjectKey, claim: Claim, uid: &Arc<str>) {
        self.wanted.insert(key.clone(), (claim, uid.clone()));
        self.offer(key);
    }

    /// A pod's owner is right, or is not ours to change.
    pub(super) fn unwant(&mut self, key: &ObjectKey) {
        self.wanted.remove(key);
        self.adopt.remove(key);
        self.release.remove(key);
    }

    fn offer(&mut self, key: &ObjectKey) {
        let waits = self.refused.get(key).is_some_and(|(_, waits)| *waits);
        if waits || self.writes.contains_key(key) {
            return;
        }
        match self.wanted.get(key) {
            Some((Claim::Adopt, _)) => self.adopt.insert(key.clone()),
            Some((Claim::Release, _)) => self.release.insert(key.clone()),
            None => false,
        };
    }

    /// Returns whether a pod can be adopted.
    pub(super) fn has_orphans(&self) -> bool {
        !self.adopt.is_empty()
    }

    /// The next pod to claim, with its uid; `None` if the bound on requests is reached.
    pub(super) fn next(&self, claim: Claim) -> Option<(ObjectKey, Arc<str>)> {
        if !self.has_room() {
            return None;
        }
        let queue = match claim {
            Claim::Adopt => &self.adopt,
            Claim::Release => &self.release,
        };
        let key = queue.first()?;
        let (_, uid) = self.wanted.get(key)?;
        Some((key.clone(), uid.clone()))
    }

    pub(super) fn has_room(&self) -> bool {
        self.writes.len() < self.burst
    }

    /// Whether a pod is being patched.
    pub(super) fn is_being_written(&self, key: &ObjectKey) -> bool {
        self.writes.contains_key(key)
    }

    /// A pod's patch was issued.
    pub(super) fn asked(&mut self, key: ObjectKey, write: Write) {
        self.adopt.remove(&key);
        self.release.remove(&key);
        self.writes.insert(key, write);
    }

    /// The patch of a pod that is in flight or not yet shown.
    pub(super) fn write_of(&mut self, key: &ObjectKey) -> Option<&mut Write> {
        self.writes.get_mut(key)
    }

    /// The patch succeeded. It is settled when the watch shows it.
    pub(super) fn granted(&mut self, key: &ObjectKey) {
        self.refused.remove(key);
    }

    /// The patch failed, or got no answer. It is retried after the backoff, if it is still wanted.
    pub(super) fn refused(&mut self, key: &ObjectKey, now: Timestamp) {
        self.writes.remove(key);
        let (retry, waits) = self.refused.entry(key.clone()).or_default();
        retry.failed(now);
        *waits = true;
        if let Some(moment) = retry.ends_at(now) {
            self.wakes.insert((moment, key.clone()));
        }
    }

    /// The watch has reached the revision `seen`.
    pub(super) fn reached(&mut self, key: &ObjectKey, seen: u64) {
        if self.writes.get(key).is_some_and(|write| write.is_seen(seen)) {
            self.writes.remove(key);
            self.offer(key);
        }
    }

    /// Makes the pods available whose backoff has ended.
    pub(super) fn due(&mut self, now: Timestamp) {
        while let Some((moment, _)) = self.wakes.first()
            && *moment <= now
        {
            let Some((_, key)) = self.wakes.pop_first() else {
                return;
            };
            match self.refused.get_mut(&key) {
                Some((_, waits)) if self.wanted.contains_key(&key) => *waits = false,
                _ => drop(self.refused.remove(&key)),
            }
            self.offer(&key);
        }
    }

    pub(super) fn next_wake(&self, now: Timestamp) -> Option<Timestamp> {
        let retry = self.wakes.first().map(|(moment, _)| *moment);
        retry.into_iter().chain(self.confirm_retry.ends_at(now)).min()
    }
}

//! Pods whose owner is to change: those to adopt and those to release. (Pods that get another hash label pass through
//! here too, so that no pod is patched twice at once.)

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use jiff::Timestamp;

use super::ObjectKey;
use super::write::{Retry, Write};

/// What is to become of a pod's owner.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Claim {
    /// It is to be ours.
    Adopt,
    /// It is to be ours no longer.
    Release,
}

/// The claims of one set.
#[derive(Clone, Debug)]
pub(super) struct Claims {
    /// How many may be in flight.
    burst: usize,
    /// What is wanted, and of which pod.
    wanted: BTreeMap<ObjectKey, (Claim, Arc<str>)>,
    /// Those of [`Claims::wanted`] that may be asked for: not asked for yet, and not refused just now.
    adopt: BTreeSet<ObjectKey>,
    release: BTreeSet<ObjectKey>,
    /// What was asked for and is not yet to be seen.
    writes: BTreeMap<ObjectKey, Write>,
    /// What was refused the last time, and whether it still waits for its moment among [`Claims::wakes`].
    refused: BTreeMap<ObjectKey, (Retry, bool)>,
    wakes: BTreeSet<(Timestamp, ObjectKey)>,
    /// When the set itself may be read again, which comes before any adoption.
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

    /// A pod's owner is to change.
    pub(super) fn want(&mut self, key: &ObjectKey, claim: Claim, uid: &Arc<str>) {
        self.wanted.insert(key.clone(), (claim, uid.clone()));
        self.offer(key);
    }

    /// A pod's owner is right, or it is not ours to change.
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

    /// Whether there is anything to adopt.
    pub(super) fn has_orphans(&self) -> bool {
        !self.adopt.is_empty()
    }

    /// The next pod to claim, with its uid, as long as there is room for more requests.
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

    /// A pod's patch was given out.
    pub(super) fn asked(&mut self, key: ObjectKey, write: Write) {
        self.adopt.remove(&key);
        self.release.remove(&key);
        self.writes.insert(key, write);
    }

    /// The patch that was given out for a pod.
    pub(super) fn write_of(&mut self, key: &ObjectKey) -> Option<&mut Write> {
        self.writes.get_mut(key)
    }

    /// The patch was done. It is settled when the watch shows it.
    pub(super) fn granted(&mut self, key: &ObjectKey) {
        self.refused.remove(key);
    }

    /// The patch was refused, or nobody knows: it is tried again after a while, if it is still wanted then.
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

    /// The pods whose moment has come.
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

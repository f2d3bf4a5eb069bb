//! Queue of the Services to process.
//!
//! A Service is processed when it is marked, none of its writes is in flight, the watch has shown
//! the last write, and its pause is over. Everything that happened until then is one pass.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;

use super::{Answer, ServiceKey};

/// The first and the longest delay after a failed write; it doubles each time.
const RETRY: (Duration, Duration) = (Duration::from_millis(500), Duration::from_secs(30));

/// Number of doublings that reach the longest delay.
const DOUBLINGS: u32 = 6;

#[derive(Default)]
struct Entry {
    marked: bool,
    in_flight: usize,
    /// The resourceVersion that the watch must show first.
    awaited: u64,
    /// Uids of deleted objects that the watch still shows.
    going: BTreeSet<Arc<str>>,
    not_before: Option<Timestamp>,
    failures: u32,
    failed: bool,
}

/// Services, by the time when they are due.
#[derive(Default)]
pub(super) struct Queue {
    entries: BTreeMap<ServiceKey, Entry>,
    /// Services that may be processed; `None` is at once.
    due: BTreeSet<(Option<Timestamp>, ServiceKey)>,
    /// Services that wait until the watch shows a resourceVersion.
    awaiting: BTreeSet<(u64, ServiceKey)>,
    /// The resourceVersion up to which the watch has shown everything.
    seen: u64,
}

impl Queue {
    /// Something about the Service changed.
    pub(super) fn mark(&mut self, key: &ServiceKey) {
        self.entries.entry(key.clone()).or_default().marked = true;
        self.settle(key);
    }

    /// The next Service that is due.
    pub(super) fn take(&mut self, now: Timestamp) -> Option<ServiceKey> {
        let (at, _) = self.due.first()?;
        if at.is_some_and(|at| at > now) {
            return None;
        }
        let (_, key) = self.due.pop_first()?;
        if let Some(entry) = self.entries.get_mut(&key) {
            entry.marked = false;
        }
        Some(key)
    }

    /// When the next Service is due; [`Timestamp::MIN`] means at once.
    pub(super) fn next(&self) -> Option<Timestamp> {
        self.due.first().map(|(at, _)| at.unwrap_or(Timestamp::MIN))
    }

    /// Records writes in flight of the Service, which is not processed before `not_before`.
    pub(super) fn wrote(&mut self, key: &ServiceKey, writes: usize, not_before: Timestamp) {
        let entry = self.entries.entry(key.clone()).or_default();
        entry.in_flight += writes;
        entry.not_before = Some(not_before);
    }

    /// Applies the result of a write. `gone` is the uid of a deleted object that the watch still
    /// shows. Returns whether the Service must be compared as a whole.
    pub(super) fn answered(
        &mut self,
        key: &ServiceKey,
        answer: Answer,
        gone: Option<Arc<str>>,
        now: Timestamp,
    ) -> bool {
        let Some(entry) = self.entries.get_mut(key) else {
            return false;
        };
        entry.in_flight = entry.in_flight.saturating_sub(1);
        match answer {
            Answer::Written(version) => entry.awaited = entry.awaited.max(version),
            Answer::Deleted => entry.going.extend(gone),
            Answer::NoPlace => {}
            Answer::Failed => (entry.failed, entry.marked) = (true, true),
        }
        if entry.in_flight == 0 {
            if std::mem::take(&mut entry.failed) {
                let wait = (RETRY.0 * 2_u32.pow(entry.failures.min(DOUBLINGS))).min(RETRY.1);
                entry.failures += 1;
                let at = now.checked_add(wait).unwrap_or(now);
                entry.not_before = entry.not_before.max(Some(at));
            } else {
                entry.failures = 0;
            }
        }
        self.settle(key);
        answer == Answer::Failed
    }

    /// The watch has shown everything up to this resourceVersion.
    pub(super) fn saw(&mut self, version: u64) {
        self.seen = self.seen.max(version);
        while let Some((awaited, _)) = self.awaiting.first()
            && *awaited <= self.seen
            && let Some((_, key)) = self.awaiting.pop_first()
        {
            self.settle(&key);
        }
    }

    /// The watch has shown that an object was deleted.
    pub(super) fn saw_gone(&mut self, key: &ServiceKey, uid: &str) {
        if let Some(entry) = self.entries.get_mut(key)
            && entry.going.remove(uid)
        {
            self.settle(key);
        }
    }

    /// The watch has shown a complete list, so all other objects are deleted.
    pub(super) fn saw_all(&mut self, version: u64) {
        self.saw(version);
        let waiting = self.entries.iter().filter(|(_, entry)| !entry.going.is_empty());
        for key in waiting.map(|(key, _)| key.clone()).collect::<Vec<_>>() {
            if let Some(entry) = self.entries.get_mut(&key) {
                entry.going.clear();
            }
            self.settle(&key);
        }
    }

    /// Moves the Service to the due ones, the waiting ones, or neither.
    fn settle(&mut self, key: &ServiceKey) {
        let Some(entry) = self.entries.get(key) else {
            return;
        };
        let is_free = entry.in_flight == 0 && entry.going.is_empty();
        if entry.awaited > self.seen {
            self.awaiting.insert((entry.awaited, key.clone()));
        } else if entry.marked && is_free {
            self.due.insert((entry.not_before, key.clone()));
        }
    }

    /// Removes the entry of a Service with nothing left to do.
    pub(super) fn forget(&mut self, key: &ServiceKey) {
        if let Some(entry) = self.entries.get(key)
            && !entry.marked
            && entry.in_flight == 0
        {
            self.awaiting.remove(&(entry.awaited, key.clone()));
            self.entries.remove(key);
        }
    }
}

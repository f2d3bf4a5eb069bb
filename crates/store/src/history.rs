//! The recent changes of a collection, limited in number and in bytes.

use std::collections::VecDeque;
use std::collections::vec_deque;
use std::sync::Arc;

use crate::object::{Object, Revision};

/// Most changes in the history of a collection. A list in pages of 500 over 100,000 objects takes a
/// few seconds, in which a busy cluster makes about 10,000 changes. After more changes the client
/// must list again, as with Kubernetes.
pub const HISTORY_EVENTS_MAX: usize = 16_384;

/// Bytes of bodies that the history of any collection may have, however small it is: about 1,500
/// pods.
pub const HISTORY_BYTES_MIN: usize = 5 << 20;

/// The history of a large collection may have more than [`HISTORY_BYTES_MIN`]: the bytes of its
/// objects divided by this number. This limits its share of the memory, and is enough for a wave of
/// changes to part of the fleet.
pub const HISTORY_LIVE_SHARE: usize = 4;

/// Approximate bytes of an event in addition to its body.
const EVENT_OVERHEAD_BYTES: usize = 256;

/// Limits of the history of a collection.
#[derive(Clone, Copy, Debug)]
pub struct HistoryLimits {
    /// Number of changes.
    pub events: usize,
    /// Bytes for a small collection.
    pub bytes: usize,
}

impl Default for HistoryLimits {
    fn default() -> Self {
        HistoryLimits {
            events: HISTORY_EVENTS_MAX,
            bytes: HISTORY_BYTES_MIN,
        }
    }
}

/// The kind of a change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EventKind {
    /// The object was created (there is no previous state) or changed.
    Put,
    /// The object was deleted. The event has its last state, with the revision of the deletion.
    Delete,
}

/// One change of one object.
#[derive(Debug)]
pub struct Event<A> {
    /// The kind of the change.
    pub kind: EventKind,
    /// The state after the change.
    pub object: Arc<Object<A>>,
    /// The state before the change. With it, a watch with a selector turns a change into ADDED or
    /// DELETED.
    pub previous: Option<Arc<Object<A>>>,
}

impl<A> Event<A> {
    /// Returns the revision of the change.
    pub fn revision(&self) -> Revision {
        self.object.revision
    }

    fn bytes(&self) -> usize {
        self.object.body.len() + EVENT_OVERHEAD_BYTES
    }
}

impl<A> Clone for Event<A> {
    fn clone(&self) -> Self {
        Event {
            kind: self.kind,
            object: Arc::clone(&self.object),
            previous: self.previous.clone(),
        }
    }
}

pub(crate) struct History<A> {
    /// Sorted by revision.
    events: VecDeque<Event<A>>,
    bytes: usize,
    /// Changes up to this revision have been removed, or were never here.
    compacted: Revision,
}

impl<A> History<A> {
    pub(crate) fn new(compacted: Revision) -> History<A> {
        History {
            events: VecDeque::new(),
            bytes: 0,
            compacted,
        }
    }

    /// Returns the revision after which all changes are in the history.
    pub(crate) fn compacted(&self) -> Revision {
        self.compacted
    }

    pub(crate) fn len(&self) -> usize {
        self.events.len()
    }

    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Adds a change. Changes that are removed for it go to `garbage`, so that they are freed
    /// without a lock.
    pub(crate) fn push(
        &mut self,
        event: Event<A>,
        limits: HistoryLimits,
        live: usize,
        garbage: &mut Vec<Event<A>>,
    ) {
        let bytes_max = limits.bytes.max(live / HISTORY_LIVE_SHARE);
        self.bytes += event.bytes();
        self.events.push_back(event);
        while self.events.len() > limits.events || (self.bytes > bytes_max && self.events.len() > 1) {
            self.forget_oldest(garbage);
        }
    }

    /// Removes the changes up to `revision`.
    pub(crate) fn compact(&mut self, revision: Revision, garbage: &mut Vec<Event<A>>) {
        while self
            .events
            .front()
            .is_some_and(|event| event.revision() <= revision)
        {
            self.forget_oldest(garbage);
        }
        self.compacted = self.compacted.max(revision);
    }

    /// Returns the changes after `revision`, oldest first; `None` when some of them have been
    /// removed.
    pub(crate) fn after(&self, revision: Revision) -> Option<vec_deque::Iter<'_, Event<A>>> {
        if revision < self.compacted {
            return None;
        }
        let start = self.events.partition_point(|event| event.revision() <= revision);
        Some(self.events.range(start..))
    }

    fn forget_oldest(&mut self, garbage: &mut Vec<Event<A>>) {
        if let Some(event) = self.events.pop_front() {
            self.bytes -= event.bytes();
            self.compacted = event.revision();
            garbage.push(event);
        }
    }
}

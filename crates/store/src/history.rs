//! The recent changes of one collection, bounded by count and by bytes.

use std::collections::VecDeque;
use std::collections::vec_deque;
use std::sync::Arc;

use crate::object::{Object, Revision};

/// Changes that a collection remembers at most. A list in pages of 500 over 100,000 objects takes some seconds, in
/// which a busy cluster makes some ten thousand changes; beyond that the client begins anew, as with Kubernetes.
pub const HISTORY_EVENTS_MAX: usize = 16_384;

/// Bytes of bodies that the history of a collection may hold however small the collection is: about 1,500 pods.
pub const HISTORY_BYTES_MIN: usize = 5 << 20;

/// A large collection may remember more than [`HISTORY_BYTES_MIN`]: its live bytes divided by this, so the history
/// adds a bounded share to the memory and still covers a wave of changes over a part of the fleet.
pub const HISTORY_LIVE_SHARE: usize = 4;

/// What an event holds beside the bytes of its body, about.
const EVENT_OVERHEAD_BYTES: usize = 256;

/// How long the history of a collection may get.
#[derive(Clone, Copy, Debug)]
pub struct HistoryLimits {
    /// Changes.
    pub events: usize,
    /// Bytes that a small collection may use.
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

/// What happened to an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EventKind {
    /// It was created (there is no previous state) or changed.
    Put,
    /// It was deleted; the event's object is its last state, with the revision of the deletion.
    Delete,
}

/// One change of one object.
#[derive(Debug)]
pub struct Event<A> {
    /// What happened.
    pub kind: EventKind,
    /// The state after it.
    pub object: Arc<Object<A>>,
    /// The state before it. A watcher that selects by labels or fields turns a change into ADDED or DELETED by it.
    pub previous: Option<Arc<Object<A>>>,
}

impl<A> Event<A> {
    /// The revision of the change.
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
    /// In the order of their revisions.
    events: VecDeque<Event<A>>,
    bytes: usize,
    /// Changes up to this revision are not here any more (or never were).
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

    /// Every change after this revision is here.
    pub(crate) fn compacted(&self) -> Revision {
        self.compacted
    }

    pub(crate) fn len(&self) -> usize {
        self.events.len()
    }

    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Remembers a change, and hands what had to be forgotten for it to `garbage`, to be freed without a lock.
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

    /// Forgets the changes up to `revision`.
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

    /// The changes after `revision`, oldest first; `None` when some of them are forgotten.
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

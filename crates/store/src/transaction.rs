//! Deciding transactions: checks conditions in order, against the current objects and the earlier
//! transactions of the group, and gives each write its revision.

use std::collections::HashMap;
use std::sync::Arc;

use bytes::Bytes;
use tokio::sync::{OwnedSemaphorePermit, oneshot};

use crate::history::{Event, EventKind};
use crate::object::{Change, CommitError, Durability, Expect, Key, Object, Revision, Write};

/// The result of a commit: the new states, in the order of the writes.
pub(crate) type Answer<A> = Result<Vec<Arc<Object<A>>>, CommitError<A>>;

/// A transaction that waits for its decision.
pub(crate) struct Transaction<A> {
    pub(crate) writes: Vec<Write<A>>,
    pub(crate) durability: Durability,
    pub(crate) pending: Pending<A>,
}

/// The reply channel of a transaction, and its permits of the queue, which are released with the
/// reply.
pub(crate) struct Pending<A> {
    pub(crate) reply: oneshot::Sender<Answer<A>>,
    pub(crate) _share: OwnedSemaphorePermit,
}

impl<A> Pending<A> {
    /// Sends the result. The caller may have stopped waiting; the transaction happens all the same.
    pub(crate) fn answer(self, answer: Answer<A>) {
        drop(self.reply.send(answer));
    }
}

/// Decided transactions that are not visible yet.
pub(crate) struct Group<A> {
    pub(crate) events: Vec<Event<A>>,
    /// The state of each key that the group has changed so far.
    changed: HashMap<Key, Option<Arc<Object<A>>>>,
}

impl<A> Default for Group<A> {
    fn default() -> Self {
        Group {
            events: Vec::new(),
            changed: HashMap::new(),
        }
    }
}

/// Assigns revisions.
pub(crate) struct Sequencer {
    last: Revision,
    splice: fn(&[u8], u64) -> Bytes,
}

impl Sequencer {
    pub(crate) fn new(last: Revision, splice: fn(&[u8], u64) -> Bytes) -> Sequencer {
        Sequencer { last, splice }
    }

    /// Returns the newest assigned revision.
    pub(crate) fn last(&self) -> Revision {
        self.last
    }

    /// Releases the revisions after `last`. No client may have seen them, and the engine must not
    /// have them.
    pub(crate) fn rewind(&mut self, last: Revision) {
        self.last = last;
    }

    /// Decides one transaction. If all conditions are true, its events are added to the group.
    /// Otherwise nothing changes.
    pub(crate) fn decide<A>(
        &mut self,
        current: &dyn Fn(&Key) -> Option<Arc<Object<A>>>,
        group: &mut Group<A>,
        writes: Vec<Write<A>>,
    ) -> Answer<A> {
        let mut before = Vec::with_capacity(writes.len());
        for (number, write) in writes.iter().enumerate() {
            if writes[..number].iter().any(|other| other.key == write.key) {
                return Err(CommitError::Duplicate {
                    key: write.key.clone(),
                });
            }
            let object = match group.changed.get(&write.key) {
                Some(object) => object.clone(),
                None => current(&write.key),
            };
            let holds = match (write.expect, &object, &write.change) {
                (Expect::Absent, None, Change::Put { .. }) => true,
                (Expect::At(revision), Some(object), _) => object.revision == revision,
                (Expect::Exists, Some(_), _) => true,
                _ => false,
            };
            if !holds {
                return Err(CommitError::Conflict {
                    key: write.key.clone(),
                    current: object,
                });
            }
            before.push(object);
        }
        let mut objects = Vec::with_capacity(writes.len());
        for (write, previous) in writes.into_iter().zip(before) {
            self.last = Revision(self.last.0 + 1);
            let (kind, body, attributes) = match write.change {
                Change::Put { body, attributes } => (EventKind::Put, body, attributes),
                Change::Delete { last, attributes } => (EventKind::Delete, last, attributes),
            };
            let body = (self.splice)(&body, self.last.0);
            let object = Arc::new(Object {
                key: write.key,
                revision: self.last,
                body,
                attributes,
            });
            let now = (kind == EventKind::Put).then(|| Arc::clone(&object));
            group.changed.insert(object.key.clone(), now);
            group.events.push(Event {
                kind,
                object: Arc::clone(&object),
                previous,
            });
            objects.push(object);
        }
        Ok(objects)
    }
}

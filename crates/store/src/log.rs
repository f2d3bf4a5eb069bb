//! The one order of all transactions, and who keeps it.
//!
//! A log decides transactions one after another and feeds the cache. What is above it (conditions, watches, lists) is
//! the same whoever keeps the order; `tests/contract.rs` holds each log against the same suite.

use std::sync::{Arc, Mutex, PoisonError};

use crate::cache::Cache;
use crate::object::{Attributes, CommitError};
use crate::transaction::{Group, Sequencer, Transaction};

/// An ordered log of transactions.
pub(crate) trait Log<A>: Send + Sync {
    /// Takes a transaction. It is decided after all that were taken before it; when it is done (and visible in the
    /// cache), its `reply` is answered. Returns quickly.
    fn submit(&self, transaction: Transaction<A>);

    /// Does what was taken, and then takes no more. Blocks until that is so.
    fn close(&self) -> Result<(), Arc<str>>;
}

/// A log that lasts as long as the process. Decides in the caller's thread, so that a simulation with a paused clock
/// never waits for another thread.
pub(crate) struct MemoryLog<A> {
    cache: Arc<Cache<A>>,
    sequencer: Mutex<Sequencer>,
}

impl<A> MemoryLog<A> {
    pub(crate) fn new(cache: Arc<Cache<A>>, sequencer: Sequencer) -> MemoryLog<A> {
        MemoryLog {
            cache,
            sequencer: Mutex::new(sequencer),
        }
    }
}

impl<A: Attributes> Log<A> for MemoryLog<A> {
    fn submit(&self, transaction: Transaction<A>) {
        let mut sequencer = self.sequencer.lock().unwrap_or_else(PoisonError::into_inner);
        if self.cache.is_closed() {
            return transaction.pending.answer(Err(CommitError::Closed));
        }
        let mut group = Group::default();
        let Transaction { writes, pending, .. } = transaction;
        let answer = self
            .cache
            .with_current(|current| sequencer.decide(current, &mut group, writes));
        self.cache.apply(group.events);
        drop(sequencer);
        pending.answer(answer);
    }

    fn close(&self) -> Result<(), Arc<str>> {
        let _last = self.sequencer.lock().unwrap_or_else(PoisonError::into_inner);
        self.cache.close();
        Ok(())
    }
}

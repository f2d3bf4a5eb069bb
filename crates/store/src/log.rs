//! The order of all transactions.
//!
//! A log decides transactions one after another and passes them to the cache. Everything above it
//! (conditions, watches, lists) is the same for each implementation; `tests/contract.rs` runs the
//! same tests with each.

use std::sync::{Arc, Mutex, PoisonError};

use crate::cache::Cache;
use crate::object::{Attributes, CommitError};
use crate::transaction::{Group, Sequencer, Transaction};

/// An ordered log of transactions.
pub(crate) trait Log<A>: Send + Sync {
    /// Accepts a transaction and returns quickly. It is decided after all earlier ones. When it is
    /// done and visible in the cache, its `reply` is sent.
    fn submit(&self, transaction: Transaction<A>);

    /// Finishes the accepted transactions and accepts no more. Blocks until that is done.
    fn close(&self) -> Result<(), Arc<str>>;
}

/// A log without durability. It decides in the caller's thread, so that a simulation with a paused
/// clock never waits for another thread.
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

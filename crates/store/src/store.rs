//! The store as its user sees it.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::{Semaphore, oneshot};

use crate::cache::{Cache, CacheStats, ListError, Shape};
use crate::committer::{CommitterLog, Counters};
use crate::dir::{Dir, Seal};
use crate::engine::{self, Engine, Redb};
use crate::history::HistoryLimits;
use crate::log::{Log, MemoryLog};
use crate::object::{
    Attributes, Change, CommitError, Durability, Key, Object, Revision, Write, collection_of,
};
use crate::open::{self, DecodeError, Loaded, OpenError};
use crate::snapshot::Snapshot;
use crate::transaction::{Pending, Sequencer, Transaction};
use crate::watch::{Interest, WatchError, Watcher};

/// Shares of the queue before the committer. A transaction takes one, and one more for each [`SHARE_BYTES`] of its
/// bodies, so at most 128 MiB wait, or as many small transactions; whoever comes then waits before the queue.
const QUEUE_SHARES: u32 = 32_768;
const SHARE_BYTES: usize = 4096;

/// How a store is used.
pub struct Options<A> {
    /// Makes the attributes of an object from its body as it was stored (with its revision spliced in). Called once
    /// for each object at the start, in several threads.
    pub decode: fn(&Key, &[u8]) -> Result<A, DecodeError>,
    /// Puts the revision into a body. Called once for each write.
    pub splice: fn(&[u8], u64) -> Bytes,
    /// How many indexes [`Attributes::index_value`] knows.
    pub indexes: usize,
    /// How long the history of each collection may get.
    pub history: HistoryLimits,
}

/// What the store holds and has done, for metrics.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// What is in memory.
    pub cache: CacheStats,
    /// Transactions that were decided, refused ones included.
    pub transactions: u64,
    /// Batches that were made durable; the others shared them.
    pub flushes: u64,
}

/// An ordered log of transactions over revisioned keys, and its watch cache. A clone is another handle of the same;
/// when the last one goes, the store is closed.
pub struct Store<A: Attributes> {
    inner: Arc<Inner<A>>,
}

impl<A: Attributes> Clone for Store<A> {
    fn clone(&self) -> Self {
        Store {
            inner: Arc::clone(&self.inner),
        }
    }
}

struct Inner<A: Attributes> {
    cache: Arc<Cache<A>>,
    log: Box<dyn Log<A>>,
    queue: Arc<Semaphore>,
    counters: Arc<Counters>,
}

impl<A: Attributes> Drop for Inner<A> {
    fn drop(&mut self) {
        if let Err(error) = self.log.close() {
            tracing::error!(%error, "the store was not closed in order");
        }
    }
}

impl<A: Attributes> Store<A> {
    /// Opens the store in a directory, or makes one there. Blocks while it reads all objects.
    pub fn open(dir: &Path, options: Options<A>) -> Result<Store<A>, OpenError> {
        let dir = Dir::lock(dir)?;
        let seal = dir.read_seal()?;
        let path = dir.path().join(engine::FILE_NAME);
        if seal.is_some() && !path.exists() {
            return Err(OpenError::Damaged {
                path,
                what: "it is gone".into(),
            });
        }
        let mut engine = Redb::open(dir.path())?;
        let mut loaded = open::load(&mut engine, &path, options.decode)?;
        open::check_seal(&path, seal, &loaded.ledger)?;
        let base = open::open_block(&mut engine, &mut loaded.ledger)?;
        dir.write_seal(Seal::Open(loaded.ledger))?;
        Store::start(Box::new(engine), Some(dir), options, loaded, base)
    }

    /// Opens a store on an engine of the caller's, without a directory of its own: for measurements and tests.
    pub fn open_on(mut engine: Box<dyn Engine>, options: Options<A>) -> Result<Store<A>, OpenError> {
        let mut loaded = open::load(&mut *engine, Path::new("engine"), options.decode)?;
        let base = open::open_block(&mut *engine, &mut loaded.ledger)?;
        Store::start(engine, None, options, loaded, base)
    }

    /// A store that lasts as long as its handles. It has no thread: a commit is done by the time its future is first
    /// polled, so a simulation with a paused clock runs it like any computation.
    pub fn in_memory(options: Options<A>) -> Store<A> {
        let base = Revision(1);
        let shape = Shape {
            indexes: options.indexes,
            history: options.history,
        };
        let cache = Arc::new(Cache::new(shape, base, Vec::new()));
        let log = Box::new(MemoryLog::new(
            Arc::clone(&cache),
            Sequencer::new(base, options.splice),
        ));
        Store::of(cache, log, Arc::default())
    }

    fn start(
        engine: Box<dyn Engine>,
        dir: Option<Dir>,
        options: Options<A>,
        loaded: Loaded<A>,
        base: Revision,
    ) -> Result<Store<A>, OpenError> {
        let shape = Shape {
            indexes: options.indexes,
            history: options.history,
        };
        let cache = Arc::new(Cache::new(shape, base, loaded.objects));
        let sequencer = Sequencer::new(base, options.splice);
        let counters = Arc::<Counters>::default();
        let path = dir
            .as_ref()
            .map_or_else(Default::default, |dir| dir.path().to_owned());
        let log = CommitterLog::start(
            Arc::clone(&cache),
            sequencer,
            engine,
            dir,
            loaded.ledger,
            Arc::clone(&counters),
        )
        .map_err(|source| OpenError::Io { path, source })?;
        Ok(Store::of(cache, Box::new(log), counters))
    }

    fn of(cache: Arc<Cache<A>>, log: Box<dyn Log<A>>, counters: Arc<Counters>) -> Store<A> {
        let queue = Arc::new(Semaphore::new(QUEUE_SHARES as usize));
        Store {
            inner: Arc::new(Inner {
                cache,
                log,
                queue,
                counters,
            }),
        }
    }

    /// Does all of the writes or none, each under its condition, and returns the new states in their order (the last
    /// states, for deletions). Each write gets a revision of its own; what returns is visible to get, list and watch,
    /// and everything seen before it was decided before it.
    ///
    /// A caller that stops waiting does not undo it: it happens or not, as if the answer had been lost.
    pub async fn commit(
        &self,
        writes: Vec<Write<A>>,
        durability: Durability,
    ) -> Result<Vec<Arc<Object<A>>>, CommitError<A>> {
        let bytes: usize = writes.iter().map(|write| write.change.body().len()).sum();
        let shares = u32::try_from(1 + bytes / SHARE_BYTES)
            .unwrap_or(QUEUE_SHARES)
            .min(QUEUE_SHARES);
        let queue = Arc::clone(&self.inner.queue);
        let share = queue
            .acquire_many_owned(shares)
            .await
            .map_err(|_| CommitError::Closed)?;
        let (reply, answer) = oneshot::channel();
        let pending = Pending { reply, _share: share };
        self.inner.log.submit(Transaction {
            writes,
            durability,
            pending,
        });
        answer
            .await
            .unwrap_or_else(|_| Err(CommitError::Failed("the committer ended".into())))
    }

    /// The revision of the newest visible write.
    pub fn revision(&self) -> Revision {
        self.inner.cache.revision()
    }

    /// The current state of an object.
    pub fn get(&self, key: &str) -> Option<Arc<Object<A>>> {
        self.inner.cache.get(key)
    }

    /// The current objects under a prefix: `/<collection>/` for all of a collection, `/<collection>/<namespace>/` for
    /// a namespace of it, or a whole key for that object alone.
    pub fn list(&self, prefix: &str) -> Snapshot<A> {
        self.inner.cache.list(prefix)
    }

    /// The current objects under a prefix whose value in an index is `value`. Costs as much as there are of those in
    /// the collection, not as there are objects.
    pub fn list_where(&self, prefix: &str, index: usize, value: &str) -> Snapshot<A> {
        self.inner.cache.list_where(prefix, index, value)
    }

    /// The objects under a prefix as they were at a revision that the history still reaches back to.
    pub fn list_at(&self, prefix: &str, revision: Revision) -> Result<Snapshot<A>, ListError> {
        self.inner.cache.list_at(prefix, revision)
    }

    /// Watches what happens under a prefix (see [`Store::list`]) after revision `from`, which may be in the future.
    pub fn watch(&self, prefix: &str, from: Revision, interest: Interest) -> Result<Watcher<A>, WatchError> {
        debug_assert!(
            collection_of(prefix).is_some(),
            "a prefix begins with /<collection>/"
        );
        self.inner.cache.watch(prefix, from, interest)
    }

    /// Waits until the store is at `revision` or past it, at most `timeout`; returns where it is then.
    pub async fn wait_for(&self, revision: Revision, timeout: Duration) -> Revision {
        self.inner.cache.wait_for(revision, timeout).await
    }

    /// Forgets the changes up to `revision`: watches and lists from before it end with `Compacted`.
    pub fn compact(&self, revision: Revision) {
        self.inner.cache.compact(revision);
    }

    /// What the store holds and has done.
    pub fn stats(&self) -> Stats {
        Stats {
            cache: self.inner.cache.stats(),
            transactions: self.inner.counters.transactions.load(Ordering::Relaxed),
            flushes: self.inner.counters.flushes.load(Ordering::Relaxed),
        }
    }

    /// Does what waits, writes down what is not durable yet, and ends. Commits after it fail, reads go on, watches end
    /// when they have handed out what happened. Blocks for a flush; may be called again.
    pub fn close(&self) -> Result<(), CommitError<A>> {
        self.inner.log.close().map_err(CommitError::Failed)
    }
}

impl<A> Change<A> {
    fn body(&self) -> &Bytes {
        match self {
            Change::Put { body, .. } => body,
            Change::Delete { last, .. } => last,
        }
    }
}

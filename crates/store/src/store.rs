//! The store as its user sees it.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;
use disk::Disk;
use tokio::sync::{Semaphore, oneshot};

use crate::archive::Archive;
use crate::cache::{Cache, CacheStats, ListError, Shape};
use crate::committer::{Beginning, CommitterLog, Counters};
use crate::dir::{Dir, State};
use crate::engine::{self, Engine, EngineError, Redb};
use crate::health::{Health, Trouble};
use crate::history::HistoryLimits;
use crate::log::{Log, MemoryLog};
use crate::object::{
    Attributes, Change, CommitError, Durability, Key, Object, Revision, Write, collection_of,
};
use crate::open::{self, DecodeError, OpenError, REVISIONS_SKIPPED};
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
    /// The way to the disk.
    pub disk: Disk,
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
    /// Writes that the disk refused, retries included.
    pub failures: u64,
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
    health: Arc<Health>,
}

impl<A: Attributes> Drop for Inner<A> {
    fn drop(&mut self) {
        if let Err(error) = self.log.close() {
            tracing::error!(%error, "the store was not closed in order");
        }
    }
}

/// Whether a store lies in the directory, whole or damaged.
pub fn exists(dir: &Path) -> bool {
    dir.join(engine::FILE_NAME).exists() || Dir::is_sealed(dir)
}

/// A directory that no store can be opened in while this lives.
#[derive(Debug)]
pub struct Locked(#[allow(dead_code, reason = "it holds the lock")] Dir);

/// Keeps others from opening the store in a directory, which is made where it is missing.
pub fn lock(dir: &Path) -> Result<Locked, OpenError> {
    Dir::lock(dir, &Disk::default()).map(Locked)
}

impl<A: Attributes> Store<A> {
    /// Opens the store in a directory, or makes one there. Blocks while it reads all objects.
    ///
    /// A disk that takes no write, because it is full, does not keep a store from being opened that was there before:
    /// it can be read, and takes writes when the disk does. [`Store::trouble`] says so until then.
    pub fn open(dir: &Path, options: Options<A>) -> Result<Store<A>, OpenError> {
        let dir = Dir::lock(dir, &options.disk)?;
        let seal = dir.read_seal()?;
        let path = dir.path().join(engine::FILE_NAME);
        if seal.is_some() && !path.exists() {
            return Err(OpenError::Damaged {
                path,
                what: "it is gone".into(),
            });
        }
        let existed = path.exists();
        let (mut engine, mut refused) = match Redb::open(dir.path(), &options.disk) {
            Ok(engine) => (engine, None),
            Err(error @ EngineError::Io { .. }) if existed => {
                let engine = Redb::open_to_read(dir.path(), &options.disk)?;
                (engine, Some(error.to_string()))
            }
            Err(error) => return Err(error.into()),
        };
        let loaded = open::load(&mut engine, &path, options.decode)?;
        open::check_seal(&path, seal.as_ref(), &loaded.ledger)?;
        let mut base = open::base(&loaded.ledger);
        let file = seal.and_then(|seal| seal.file);
        if file.is_some() && file != dir.file_id() {
            base.0 += REVISIONS_SKIPPED;
            tracing::warn!(
                path = %path.display(),
                skipped = REVISIONS_SKIPPED,
                "the store's file is a copy: revisions are moved ahead and clients list again"
            );
        }
        let mut engine: Box<dyn Engine> = Box::new(engine);
        let wanted = open::with_block(&loaded.ledger, base);
        if refused.is_none() {
            refused = match open::write_ledger(&mut *engine, &wanted) {
                Ok(()) => {
                    let sealed = dir.write_seal(State::Open, wanted);
                    sealed.err().map(|error| error.to_string())
                }
                Err(error @ EngineError::Io { .. }) => Some(error.to_string()),
                Err(damaged) => return Err(damaged.into()),
            };
        }
        let beginning = Beginning {
            base,
            durable: loaded.ledger,
            wanted,
            refused: refused.map(Into::into),
        };
        Store::start(engine, Some(dir), options, loaded.objects, beginning)
    }

    /// Opens a store on an engine of the caller's, without a directory of its own: for measurements and tests.
    pub fn open_on(mut engine: Box<dyn Engine>, options: Options<A>) -> Result<Store<A>, OpenError> {
        let loaded = open::load(&mut *engine, Path::new("engine"), options.decode)?;
        let base = open::base(&loaded.ledger);
        let wanted = open::with_block(&loaded.ledger, base);
        open::write_ledger(&mut *engine, &wanted)?;
        let beginning = Beginning {
            base,
            durable: loaded.ledger,
            wanted,
            refused: None,
        };
        Store::start(engine, None, options, loaded.objects, beginning)
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
        Store::of(cache, log, Arc::default(), Arc::default())
    }

    fn start(
        engine: Box<dyn Engine>,
        dir: Option<Dir>,
        options: Options<A>,
        objects: Vec<Arc<Object<A>>>,
        beginning: Beginning,
    ) -> Result<Store<A>, OpenError> {
        let shape = Shape {
            indexes: options.indexes,
            history: options.history,
        };
        let cache = Arc::new(Cache::new(shape, beginning.base, objects));
        let sequencer = Sequencer::new(beginning.base, options.splice);
        let counters = Arc::<Counters>::default();
        let health = Arc::<Health>::default();
        let path = dir
            .as_ref()
            .map_or_else(Default::default, |dir| dir.path().to_owned());
        let log = CommitterLog::start(
            Arc::clone(&cache),
            sequencer,
            (engine, dir),
            beginning,
            Arc::clone(&counters),
            Arc::clone(&health),
        )
        .map_err(|source| OpenError::Io { path, source })?;
        Ok(Store::of(cache, Box::new(log), counters, health))
    }

    fn of(
        cache: Arc<Cache<A>>,
        log: Box<dyn Log<A>>,
        counters: Arc<Counters>,
        health: Arc<Health>,
    ) -> Store<A> {
        let queue = Arc::new(Semaphore::new(QUEUE_SHARES as usize));
        Store {
            inner: Arc::new(Inner {
                cache,
                log,
                queue,
                counters,
                health,
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

    /// The store as it is now, to be written elsewhere, with files to be kept beside it. Takes no time and stops no
    /// writer; see [`restore`](crate::restore).
    pub fn archive(&self, files: &[(String, Vec<u8>)]) -> Archive<A> {
        let (revision, snapshots) = self.inner.cache.everything();
        Archive::new(revision, snapshots, files)
    }

    /// What the store holds and has done.
    pub fn stats(&self) -> Stats {
        Stats {
            cache: self.inner.cache.stats(),
            transactions: self.inner.counters.transactions.load(Ordering::Relaxed),
            flushes: self.inner.counters.flushes.load(Ordering::Relaxed),
            failures: self.inner.health.failures(),
        }
    }

    /// Why the store takes no durable writes now. Costs a lock for a moment and never waits for the disk.
    pub fn trouble(&self) -> Option<Trouble> {
        self.inner.health.trouble()
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

//! The public interface of the store.

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

/// Permits of the queue before the committer. A transaction takes one, and one more for each
/// [`SHARE_BYTES`] of its bodies. So at most 128 MiB, or as many small transactions, wait in the
/// queue. More transactions wait for a permit.
const QUEUE_SHARES: u32 = 32_768;
const SHARE_BYTES: usize = 4096;

/// Parameters of a store.
pub struct Options<A> {
    /// Returns the attributes of an object from its stored body (with its revision). Called once
    /// for each object at the start, in several threads.
    pub decode: fn(&Key, &[u8]) -> Result<A, DecodeError>,
    /// Inserts the revision into a body. Called once for each write.
    pub splice: fn(&[u8], u64) -> Bytes,
    /// Number of indexes of [`Attributes::index_value`].
    pub indexes: usize,
    /// Limits of the history of each collection.
    pub history: HistoryLimits,
    /// The access to the disk.
    pub disk: Disk,
}

/// Numbers for metrics.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// Numbers of the cache.
    pub cache: CacheStats,
    /// Number of decided transactions, including rejected ones.
    pub transactions: u64,
    /// Number of durable batches. A batch contains one or more transactions.
    pub flushes: u64,
    /// Number of failed writes, including retries.
    pub failures: u64,
}

/// An ordered log of transactions over revisioned keys, and its watch cache. A clone is another
/// handle of the same store. Dropping the last handle closes it.
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
            tracing::error!(%error, "cannot close the store in order");
        }
    }
}

/// Returns whether the directory contains a store, intact or damaged.
pub fn exists(dir: &Path) -> bool {
    dir.join(engine::FILE_NAME).exists() || Dir::is_sealed(dir)
}

/// Prevents that a store is opened in a directory, as long as this value exists.
#[derive(Debug)]
pub struct Locked(#[allow(dead_code, reason = "it holds the lock")] Dir);

/// Locks the directory of a store, and creates it if necessary.
pub fn lock(dir: &Path) -> Result<Locked, OpenError> {
    Dir::lock(dir, &Disk::default()).map(Locked)
}

impl<A: Attributes> Store<A> {
    /// Opens or creates the store in a directory. Blocks while it reads all objects.
    ///
    /// An existing store can be opened when the disk accepts no writes, for example because it is
    /// full. It can be read then, and becomes writable when the disk does. [`Store::trouble`]
    /// returns the reason until then.
    pub fn open(dir: &Path, options: Options<A>) -> Result<Store<A>, OpenError> {
        let dir = Dir::lock(dir, &options.disk)?;
        let seal = dir.read_seal()?;
        let path = dir.path().join(engine::FILE_NAME);
        if seal.is_some() && !path.exists() {
            return Err(OpenError::Damaged {
                path,
                what: "the file is missing".into(),
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

    /// Opens a store on an engine of the caller, without a directory. For benchmarks and tests.
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

    /// Returns a store without durability. It has no thread: a commit is done when its future is
    /// first polled, so it also works in a simulation with a paused clock.
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

    /// Performs all writes or none, each with its condition. Returns the new states in the order of
    /// the writes (for deletions, the last states). Each write gets its own revision. When this
    /// returns, the changes are visible to get, list and watch, and they were decided after
    /// everything visible before.
    ///
    /// Dropping the future does not cancel the transaction. It may happen or not, as after a lost
    /// response.
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

    /// Returns the revision of the newest visible write.
    pub fn revision(&self) -> Revision {
        self.inner.cache.revision()
    }

    /// Returns the current state of an object.
    pub fn get(&self, key: &str) -> Option<Arc<Object<A>>> {
        self.inner.cache.get(key)
    }

    /// Returns the current objects under a prefix: `/<collection>/` for a collection,
    /// `/<collection>/<namespace>/` for a namespace, or a whole key for one object.
    pub fn list(&self, prefix: &str) -> Snapshot<A> {
        self.inner.cache.list(prefix)
    }

    /// Returns the current objects under a prefix with `value` in an index. The cost depends on the
    /// number of objects with this value in the collection, not on the number of all objects.
    pub fn list_where(&self, prefix: &str, index: usize, value: &str) -> Snapshot<A> {
        self.inner.cache.list_where(prefix, index, value)
    }

    /// Returns the objects under a prefix at an earlier revision, if the history goes back to it.
    pub fn list_at(&self, prefix: &str, revision: Revision) -> Result<Snapshot<A>, ListError> {
        self.inner.cache.list_at(prefix, revision)
    }

    /// Watches the changes under a prefix (see [`Store::list`]) after revision `from`, which may be
    /// in the future.
    pub fn watch(&self, prefix: &str, from: Revision, interest: Interest) -> Result<Watcher<A>, WatchError> {
        debug_assert!(
            collection_of(prefix).is_some(),
            "a prefix starts with /<collection>/"
        );
        self.inner.cache.watch(prefix, from, interest)
    }

    /// Waits until the store is at `revision` or later, at most `timeout`. Returns the revision of
    /// the store.
    pub async fn wait_for(&self, revision: Revision, timeout: Duration) -> Revision {
        self.inner.cache.wait_for(revision, timeout).await
    }

    /// Removes the changes up to `revision` from the history. Watches and lists from before it end
    /// with `Compacted`.
    pub fn compact(&self, revision: Revision) {
        self.inner.cache.compact(revision);
    }

    /// Returns an archive of the current state, with files to store beside it. It takes no time and
    /// does not block writers; see [`restore`](crate::restore).
    pub fn archive(&self, files: &[(String, Vec<u8>)]) -> Archive<A> {
        let (revision, snapshots) = self.inner.cache.everything();
        Archive::new(revision, snapshots, files)
    }

    /// Returns numbers for metrics.
    pub fn stats(&self) -> Stats {
        Stats {
            cache: self.inner.cache.stats(),
            transactions: self.inner.counters.transactions.load(Ordering::Relaxed),
            flushes: self.inner.counters.flushes.load(Ordering::Relaxed),
            failures: self.inner.health.failures(),
        }
    }

    /// Returns why the store accepts no durable writes now. Takes a lock briefly and never waits
    /// for the disk.
    pub fn trouble(&self) -> Option<Trouble> {
        self.inner.health.trouble()
    }

    /// Finishes the waiting transactions, writes what is not durable, and closes. Then commits
    /// fail, reads continue, and watches end after the remaining events. Blocks for a flush. It may
    /// be called again.
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

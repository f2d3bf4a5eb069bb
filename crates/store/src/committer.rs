//! The log of the embedded store: one thread that receives all waiting transactions, decides them
//! in order, and makes them durable with one batch of the engine.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crate::cache::Cache;
use crate::dir::{Dir, State};
use crate::engine::{Engine, Entry};
use crate::health::Health;
use crate::history::{Event, EventKind};
use crate::log::Log;
use crate::object::{Attributes, CommitError, Durability, Key, Object, Revision};
use crate::open::REVISION_BLOCK;
use crate::record::{self, LEDGER_KEY, Ledger};
use crate::transaction::{Answer, Group, Pending, Sequencer, Transaction};

/// Longest time until a relaxed write is durable, if the disk accepts writes. It is half the period
/// of a node's Lease renewals, so a crash loses less than one renewal.
pub const RELAXED_DELAY_MAX: Duration = Duration::from_secs(5);

/// Bytes of bodies after which a group is closed. All transactions of the group wait for its flush,
/// which this keeps short.
const GROUP_BYTES_MAX: usize = 8 << 20;

/// Most keys with relaxed writes that are not durable. More are flushed early, which bounds the
/// batch. The objects are in the cache in any case.
const UNWRITTEN_KEYS_MAX: usize = 65_536;

/// The pause before a failed write is retried. It doubles with each failure.
const RETRY_MIN: Duration = Duration::from_millis(100);

/// The longest pause between retries. Each retry reads and checks the engine's file, which takes
/// 0.5 s with 100,000 objects.
const RETRY_MAX: Duration = Duration::from_secs(10);

/// Period of checking that the file of an idle store still exists.
const LOOK_PERIOD: Duration = Duration::from_secs(1);

/// Counters of the committer, for metrics.
#[derive(Debug, Default)]
pub(crate) struct Counters {
    pub(crate) transactions: AtomicU64,
    pub(crate) flushes: AtomicU64,
}

struct Waiting<A> {
    transactions: Vec<Transaction<A>>,
    closing: bool,
    /// The thread has ended and accepts no transactions.
    ended: bool,
}

struct Queue<A> {
    waiting: Mutex<Waiting<A>>,
    arrived: Condvar,
}

impl<A> Queue<A> {
    fn waiting(&self) -> MutexGuard<'_, Waiting<A>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits for transactions, for the deadline, or for the end. Returns the transactions, and
    /// whether the store is closing.
    fn take(&self, deadline: Option<Instant>) -> (Vec<Transaction<A>>, bool) {
        let mut waiting = self.waiting();
        while waiting.transactions.is_empty() && !waiting.closing {
            waiting = match deadline {
                None => self.arrived.wait(waiting).unwrap_or_else(PoisonError::into_inner),
                Some(deadline) => {
                    let left = deadline.saturating_duration_since(Instant::now());
                    if left.is_zero() {
                        break;
                    }
                    self.arrived
                        .wait_timeout(waiting, left)
                        .unwrap_or_else(PoisonError::into_inner)
                        .0
                }
            };
        }
        let closing = waiting.closing && waiting.transactions.is_empty();
        (std::mem::take(&mut waiting.transactions), closing)
    }
}

/// The result of the thread: success, or why something was not written.
type Outcome = Result<(), Arc<str>>;

/// The state found and the steps done when the store was opened.
pub(crate) struct Beginning {
    /// The first revision of this run, which no object has.
    pub(crate) base: Revision,
    /// The ledger in the engine.
    pub(crate) durable: Ledger,
    /// The ledger that was to be written before the first object.
    pub(crate) wanted: Ledger,
    /// Why writing this ledger or the seal failed.
    pub(crate) refused: Option<Arc<str>>,
}

/// The handle of the thread.
pub(crate) struct CommitterLog<A> {
    queue: Arc<Queue<A>>,
    thread: Mutex<Option<JoinHandle<Outcome>>>,
    outcome: Mutex<Outcome>,
}

impl<A: Attributes> CommitterLog<A> {
    /// Starts the thread.
    pub(crate) fn start(
        cache: Arc<Cache<A>>,
        sequencer: Sequencer,
        (engine, dir): (Box<dyn Engine>, Option<Dir>),
        beginning: Beginning,
        counters: Arc<Counters>,
        health: Arc<Health>,
    ) -> std::io::Result<CommitterLog<A>> {
        let waiting = Waiting {
            transactions: Vec::new(),
            closing: false,
            ended: false,
        };
        let queue = Arc::new(Queue {
            waiting: Mutex::new(waiting),
            arrived: Condvar::new(),
        });
        let Beginning {
            durable,
            wanted,
            refused,
            ..
        } = beginning;
        let mut committer = Committer {
            cache,
            sequencer,
            engine,
            file: dir.as_ref().and_then(Dir::watched_file),
            dir,
            ledger: wanted,
            durable: wanted,
            attempted: None,
            is_sealed_open: true,
            unwritten: BTreeMap::new(),
            unwritten_until: None,
            trouble: None,
            look_at: Instant::now() + LOOK_PERIOD,
            counters,
            health,
        };
        if let Some(why) = refused {
            // Until then, only revisions that earlier runs reserved may be used.
            committer.ledger.reserved = beginning.base;
            committer.durable = durable;
            committer.attempted = Some(wanted);
            committer.is_sealed_open = false;
            committer.set_trouble(why);
        }
        let thread_queue = Arc::clone(&queue);
        let run = move || {
            let _end = End(&thread_queue);
            committer.run(&thread_queue)
        };
        let thread = std::thread::Builder::new()
            .name("store-committer".into())
            .spawn(run)?;
        Ok(CommitterLog {
            queue,
            thread: Mutex::new(Some(thread)),
            outcome: Mutex::new(Ok(())),
        })
    }
}

impl<A: Attributes> Log<A> for CommitterLog<A> {
    fn submit(&self, transaction: Transaction<A>) {
        let mut waiting = self.queue.waiting();
        if waiting.closing || waiting.ended {
            drop(waiting);
            return transaction.pending.answer(Err(CommitError::Closed));
        }
        waiting.transactions.push(transaction);
        // The thread checks the queue before it sleeps, so only the first transaction must wake it.
        if waiting.transactions.len() == 1 {
            self.queue.arrived.notify_one();
        }
    }

    fn close(&self) -> Outcome {
        self.queue.waiting().closing = true;
        self.queue.arrived.notify_one();
        let mut outcome = self.outcome.lock().unwrap_or_else(PoisonError::into_inner);
        let thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(thread) = thread {
            *outcome = thread
                .join()
                .unwrap_or_else(|_| Err("the committer panicked".into()));
        }
        outcome.clone()
    }
}

/// Rejects all transactions when the thread ends, also after a panic.
struct End<'a, A>(&'a Queue<A>);

impl<A> Drop for End<'_, A> {
    fn drop(&mut self) {
        let mut waiting = self.0.waiting();
        waiting.ended = true;
        // Dropping a transaction drops its reply channel, which the waiting caller notices.
        waiting.transactions.clear();
    }
}

struct Committer<A> {
    cache: Arc<Cache<A>>,
    sequencer: Sequencer,
    engine: Box<dyn Engine>,
    dir: Option<Dir>,
    /// The engine's file as it was when the store was opened.
    file: Option<(u64, u64)>,
    /// The ledger of the decided state, which the engine has after each flush. Revisions up to
    /// `reserved` may be used.
    ledger: Ledger,
    /// The ledger that is certainly in the engine.
    durable: Ledger,
    /// The ledger that may be in the engine instead, after a failed write.
    attempted: Option<Ledger>,
    /// Whether the seal has the state `Open` of this run. No object is written before.
    is_sealed_open: bool,
    /// The decided state of keys that the engine does not have, or may have wrongly.
    unwritten: BTreeMap<Key, Option<Arc<Object<A>>>>,
    /// The deadline for flushing relaxed writes.
    unwritten_until: Option<Instant>,
    /// Set after a failed write.
    trouble: Option<Retry>,
    /// When to check that the engine's file still exists.
    look_at: Instant,
    counters: Arc<Counters>,
    health: Arc<Health>,
}

/// A failure to write, and the time of the next retry.
struct Retry {
    error: Arc<str>,
    pause: Duration,
    at: Instant,
}

/// Transactions that are flushed and answered together.
struct Round<A> {
    /// The last revision before the round.
    before: Revision,
    group: Group<A>,
    durable: bool,
    bytes: usize,
    answers: Vec<(Pending<A>, Answer<A>)>,
}

impl<A> Round<A> {
    fn after(before: Revision) -> Self {
        Round {
            before,
            group: Group::default(),
            durable: false,
            bytes: 0,
            answers: Vec::new(),
        }
    }

    fn refuse(self, error: &Arc<str>) {
        for (pending, _) in self.answers {
            pending.answer(Err(CommitError::Failed(Arc::clone(error))));
        }
    }
}

impl<A: Attributes> Committer<A> {
    fn run(mut self, queue: &Queue<A>) -> Outcome {
        loop {
            let (transactions, closing) = queue.take(Some(self.wakes_at()));
            self.commit_all(transactions);
            if closing {
                break;
            }
            self.tend(Instant::now());
        }
        let outcome = self.seal();
        self.cache.close();
        outcome
    }

    /// Returns when [`Committer::tend`] has to run next.
    fn wakes_at(&self) -> Instant {
        match (&self.trouble, self.unwritten_until) {
            (Some(retry), _) => retry.at,
            (None, Some(until)) => until.min(self.look_at),
            (None, None) => self.look_at,
        }
    }

    /// Does the due work that no transaction waits for. A failure is kept in `trouble`.
    fn tend(&mut self, now: Instant) {
        if let Some(retry) = &self.trouble {
            if retry.at <= now {
                drop(self.recover());
            }
        } else if self.unwritten_until.is_some_and(|until| until <= now) {
            drop(self.flush());
        } else if self.look_at <= now {
            self.look_at = now + LOOK_PERIOD;
            if let Err(error) = self.check_file() {
                self.set_trouble(error);
            }
        }
    }

    fn commit_all(&mut self, transactions: Vec<Transaction<A>>) {
        let mut round = Round::after(self.sequencer.last());
        for Transaction {
            writes,
            durability,
            pending,
        } in transactions
        {
            let durable = durability == Durability::Durable;
            // Relaxed writes before the first durable one need not wait for its flush.
            let relaxed_end = durable && !round.durable && !round.group.events.is_empty();
            if relaxed_end || round.bytes > GROUP_BYTES_MAX {
                let next = Round::after(self.sequencer.last());
                self.finish(std::mem::replace(&mut round, next));
            }
            let Round { group, .. } = &mut round;
            let answer = self
                .cache
                .with_current(|current| self.sequencer.decide(current, group, writes));
            if let Ok(objects) = &answer {
                round.durable |= durable && !objects.is_empty();
                round.bytes += objects.iter().map(|object| object.body.len()).sum::<usize>();
            }
            round.answers.push((pending, answer));
        }
        self.finish(round);
    }

    /// Makes a round durable if necessary, then visible, and then answers its transactions.
    fn finish(&mut self, round: Round<A>) {
        self.counters
            .transactions
            .fetch_add(round.answers.len() as u64, Ordering::Relaxed);
        let changes = !round.group.events.is_empty();
        let must_flush = changes
            && (round.durable
                || self.sequencer.last() > self.ledger.reserved
                || self.unwritten.len() + round.group.events.len() > UNWRITTEN_KEYS_MAX);
        if must_flush && let Some(retry) = &self.trouble {
            // The engine has not stored these revisions.
            self.sequencer.rewind(round.before);
            return round.refuse(&Arc::clone(&retry.error));
        }
        let before = self.ledger;
        self.record(&round.group.events);
        if must_flush {
            if let Err(error) = self.flush() {
                self.undo(&round.group.events, before);
                return round.refuse(&error);
            }
        } else if changes {
            self.unwritten_until
                .get_or_insert_with(|| Instant::now() + RELAXED_DELAY_MAX);
        }
        self.cache.apply(round.group.events);
        for (pending, answer) in round.answers {
            pending.answer(answer);
        }
    }

    /// Records changes that must be written.
    fn record(&mut self, events: &[Event<A>]) {
        for event in events {
            let key = event.object.key.as_str().as_bytes();
            if let Some(previous) = &event.previous {
                self.ledger.subtract(key, previous.revision);
            }
            let now = (event.kind == EventKind::Put).then(|| Arc::clone(&event.object));
            if now.is_some() {
                self.ledger.add(key, event.object.revision);
            }
            self.unwritten.insert(event.object.key.clone(), now);
        }
    }

    /// Undoes events whose flush failed. The engine may have them, so the next flush writes the
    /// earlier state.
    fn undo(&mut self, events: &[Event<A>], before: Ledger) {
        self.ledger = before;
        for event in events {
            let key = &event.object.key;
            self.unwritten.insert(key.clone(), self.cache.get(key.as_str()));
        }
    }

    /// Writes all recorded changes.
    fn flush(&mut self) -> Outcome {
        if let Some(retry) = &self.trouble {
            return Err(Arc::clone(&retry.error));
        }
        let reserved = self.ledger.reserved;
        self.reserve();
        self.write().inspect_err(|error| {
            self.ledger.reserved = reserved;
            self.set_trouble(Arc::clone(error));
        })
    }

    /// Reserves a block of revisions when half of the last block is used.
    fn reserve(&mut self) {
        let last = self.sequencer.last();
        if last.0 + REVISION_BLOCK / 2 > self.ledger.reserved.0 {
            self.ledger.reserved = Revision(last.0 + REVISION_BLOCK);
        }
    }

    fn write(&mut self) -> Outcome {
        self.ledger.revision = self.sequencer.last();
        let mut batch: Vec<Entry> = Vec::with_capacity(self.unwritten.len() + 1);
        batch.push((LEDGER_KEY.to_vec(), Some(self.ledger.encode())));
        for (key, object) in &self.unwritten {
            let key = key.as_str().as_bytes();
            let record = object
                .as_ref()
                .map(|object| record::encode(key, object.revision, &object.body));
            batch.push((key.to_vec(), record));
        }
        self.counters.flushes.fetch_add(1, Ordering::Relaxed);
        self.attempted = Some(self.ledger);
        let Committer { health, engine, .. } = self;
        health
            .during(|| engine.write(&batch))
            .map_err(|error| Arc::from(error.to_string()))?;
        self.check_file()?;
        self.durable = self.ledger;
        self.attempted = None;
        self.unwritten.clear();
        self.unwritten_until = None;
        Ok(())
    }

    /// Checks that the next start will find what is written.
    fn check_file(&self) -> Outcome {
        match (&self.dir, self.file) {
            (Some(dir), Some(file)) => dir.check_file(file).map_err(Arc::from),
            _ => Ok(()),
        }
    }

    fn set_trouble(&mut self, error: Arc<str>) {
        self.health.refused(Arc::clone(&error));
        let pause = match &self.trouble {
            Some(retry) => (2 * retry.pause).min(RETRY_MAX),
            None => {
                // This is logged once, and once at recovery. Repeated lines could fill the last
                // space of a full disk.
                tracing::error!(%error, "cannot write to the store; retrying until the disk accepts writes");
                RETRY_MIN
            }
        };
        self.trouble = Some(Retry {
            error,
            pause,
            at: Instant::now() + pause,
        });
    }

    /// Tries to make the store writable again.
    fn recover(&mut self) -> Outcome {
        let reserved = self.ledger.reserved;
        match self.rewrite() {
            Ok(()) => {
                self.trouble = None;
                self.health.recovered();
                tracing::warn!("the store is writable again");
                Ok(())
            }
            Err(error) => {
                self.ledger.reserved = reserved;
                self.set_trouble(Arc::clone(&error));
                Err(error)
            }
        }
    }

    /// Opens the engine from the disk, and writes the decided state over it. The ledger shows
    /// whether a failed write is there. It is overwritten completely, because no client has seen
    /// its result.
    fn rewrite(&mut self) -> Outcome {
        let text = |error: &dyn std::fmt::Display| Arc::<str>::from(error.to_string());
        self.check_file()?;
        let Committer { health, engine, .. } = self;
        let record = health
            .during(|| engine.reopen(LEDGER_KEY))
            .map_err(|error| text(&error))?;
        let found = match record {
            Some(record) => Ledger::decode(&record).map_err(|error| text(&error))?,
            None => Ledger::default(),
        };
        if found != self.durable && Some(found) != self.attempted {
            return Err("the file has neither the last written state nor the one before".into());
        }
        self.durable = found;
        self.reserve();
        self.write()?;
        if let Some(dir) = self.dir.as_ref().filter(|_| !self.is_sealed_open) {
            dir.write_seal(State::Open, self.ledger)
                .map_err(|error| text(&error))?;
            self.is_sealed_open = true;
        }
        Ok(())
    }

    /// Closes in order: writes the remaining changes, writes the seal for the next start, and
    /// returns the unused part of the reserved block. The order matters: if the seal promised more
    /// than the engine has, a kill in between would look like damage.
    fn seal(&mut self) -> Outcome {
        if self.trouble.is_some() {
            self.recover()?;
        }
        if !self.unwritten.is_empty() {
            self.flush()?;
        }
        let last = self.sequencer.last();
        if let Some(dir) = &self.dir {
            let closed = Ledger {
                reserved: last.min(self.durable.reserved),
                ..self.durable
            };
            dir.write_seal(State::Closed, closed)
                .map_err(|error| Arc::from(error.to_string()))?;
        }
        self.ledger.reserved = last;
        self.write()
    }
}

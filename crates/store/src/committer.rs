//! The log of the embedded store: one thread that takes all that waits, decides it in order, and makes it durable with
//! one batch of the engine.

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

/// A relaxed write is durable after this time at the latest, as long as the disk takes writes. Half the period of a node's Lease renewals: a crash sets
/// a Lease back by less than one renewal.
pub const RELAXED_DELAY_MAX: Duration = Duration::from_secs(5);

/// Bytes of bodies after which a group is closed, so that its flush, which all of it waits for, stays short.
const GROUP_BYTES_MAX: usize = 8 << 20;

/// Keys with relaxed writes that are not durable yet, before they are made durable early. Their objects live in the
/// cache anyway; this bounds the batch.
const UNWRITTEN_KEYS_MAX: usize = 65_536;

/// The pause before a write that failed is tried again. It doubles with each failure.
const RETRY_MIN: Duration = Duration::from_millis(100);

/// The longest such pause. Each try reads and checks the engine's file, which takes half a second at 100,000 objects.
const RETRY_MAX: Duration = Duration::from_secs(10);

/// How often a store that is not written to looks whether its file is still there.
const LOOK_PERIOD: Duration = Duration::from_secs(1);

/// What the committer has done, for metrics.
#[derive(Debug, Default)]
pub(crate) struct Counters {
    pub(crate) transactions: AtomicU64,
    pub(crate) flushes: AtomicU64,
}

struct Waiting<A> {
    transactions: Vec<Transaction<A>>,
    closing: bool,
    /// The thread has ended; nobody would take a transaction any more.
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

    /// Waits for transactions, for the deadline, or for the end; what waits, and whether this is the end.
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

/// How the thread ended: in order, or with what was not written.
type Outcome = Result<(), Arc<str>>;

/// What was found and done when the store was opened.
pub(crate) struct Beginning {
    /// The first revision of this run, which nothing has.
    pub(crate) base: Revision,
    /// What the engine held.
    pub(crate) durable: Ledger,
    /// What it was asked to hold before the first write.
    pub(crate) wanted: Ledger,
    /// Why the engine or the seal did not take that.
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
            // No revision beyond those that earlier runs reserved may be given out yet.
            committer.ledger.reserved = beginning.base;
            committer.durable = durable;
            committer.attempted = Some(wanted);
            committer.is_sealed_open = false;
            committer.fall_into_trouble(why);
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
        // The thread looks again before it sleeps, so only the first of a group has to wake it.
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

/// Lets nobody wait for a thread that is gone, however it went.
struct End<'a, A>(&'a Queue<A>);

impl<A> Drop for End<'_, A> {
    fn drop(&mut self) {
        let mut waiting = self.0.waiting();
        waiting.ended = true;
        // Dropping a transaction drops its reply, which whoever waits for it notices.
        waiting.transactions.clear();
    }
}

struct Committer<A> {
    cache: Arc<Cache<A>>,
    sequencer: Sequencer,
    engine: Box<dyn Engine>,
    dir: Option<Dir>,
    /// Which file the engine's was when the store was opened.
    file: Option<(u64, u64)>,
    /// The truth about the decided state; the engine holds it after each flush. Revisions up to `reserved` may be
    /// given out.
    ledger: Ledger,
    /// What the engine holds for sure.
    durable: Ledger,
    /// What it may hold instead, because a write of this failed.
    attempted: Option<Ledger>,
    /// Whether the seal says that this run opened the store. No object is written before.
    is_sealed_open: bool,
    /// What the engine does not hold yet, or may hold wrongly: the decided state of keys.
    unwritten: BTreeMap<Key, Option<Arc<Object<A>>>>,
    /// When relaxed writes must have been flushed.
    unwritten_until: Option<Instant>,
    /// The last write failed.
    trouble: Option<Retry>,
    /// When to look whether the engine's file is still there.
    look_at: Instant,
    counters: Arc<Counters>,
    health: Arc<Health>,
}

/// Why nothing can be written, and when it is tried again.
struct Retry {
    error: Arc<str>,
    pause: Duration,
    at: Instant,
}

/// Transactions that are flushed and answered together.
struct Round<A> {
    /// The last revision before it.
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

    /// When [`Committer::tend`] has something to do.
    fn wakes_at(&self) -> Instant {
        match (&self.trouble, self.unwritten_until) {
            (Some(retry), _) => retry.at,
            (None, Some(until)) => until.min(self.look_at),
            (None, None) => self.look_at,
        }
    }

    /// Does what is due and what no transaction waits for. A failure is kept in `trouble`.
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
                self.fall_into_trouble(error);
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
            // Relaxed writes that stand before the first durable one need not wait for its flush.
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

    /// Makes a round durable where it has to be, then visible, then answers.
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
            // The engine has not seen its revisions.
            self.sequencer.rewind(round.before);
            return round.refuse(&Arc::clone(&retry.error));
        }
        let before = self.ledger;
        self.record(&round.group.events);
        if must_flush {
            if let Err(error) = self.flush() {
                self.take_back(&round.group.events, before);
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

    /// Notes what is to be written.
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

    /// Forgets events whose flush failed. The engine may hold them, so the next flush writes what was there before.
    fn take_back(&mut self, events: &[Event<A>], before: Ledger) {
        self.ledger = before;
        for event in events {
            let key = &event.object.key;
            self.unwritten.insert(key.clone(), self.cache.get(key.as_str()));
        }
    }

    /// Writes down everything decided.
    fn flush(&mut self) -> Outcome {
        if let Some(retry) = &self.trouble {
            return Err(Arc::clone(&retry.error));
        }
        let reserved = self.ledger.reserved;
        self.reserve();
        self.write().inspect_err(|error| {
            self.ledger.reserved = reserved;
            self.fall_into_trouble(Arc::clone(error));
        })
    }

    /// Reserves a block of revisions when half of the last one is used.
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

    /// Whether what is written can be found at the next start.
    fn check_file(&self) -> Outcome {
        match (&self.dir, self.file) {
            (Some(dir), Some(file)) => dir.check_file(file).map_err(Arc::from),
            _ => Ok(()),
        }
    }

    fn fall_into_trouble(&mut self, error: Arc<str>) {
        self.health.refused(Arc::clone(&error));
        let pause = match &self.trouble {
            Some(retry) => (2 * retry.pause).min(RETRY_MAX),
            None => {
                // Once, and once more when it is over: a disk that stays full must not fill what is left of it.
                tracing::error!(%error, "the store takes no writes; it tries again until the disk does");
                RETRY_MIN
            }
        };
        self.trouble = Some(Retry {
            error,
            pause,
            at: Instant::now() + pause,
        });
    }

    /// Tries to take writes again.
    fn recover(&mut self) -> Outcome {
        let reserved = self.ledger.reserved;
        match self.write_anew() {
            Ok(()) => {
                self.trouble = None;
                self.health.recovered();
                tracing::warn!("the store takes writes again");
                Ok(())
            }
            Err(error) => {
                self.ledger.reserved = reserved;
                self.fall_into_trouble(Arc::clone(&error));
                Err(error)
            }
        }
    }

    /// Opens the engine from what the disk holds, and writes the decided state over it. What a write that failed left
    /// there is known by its ledger; it is overwritten, so that nothing of it remains that nobody has seen.
    fn write_anew(&mut self) -> Outcome {
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
            return Err("the file holds neither the last state that was written nor the one before".into());
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

    /// The orderly end: what is not written is written, the seal says what the next one must find, and the rest of the
    /// block is given back. In this order: a seal that said more than the engine holds would make a kill in between
    /// look like damage.
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

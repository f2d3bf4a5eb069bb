//! The log of the embedded store: one thread that takes all that waits, decides it in order, and makes it durable with
//! one batch of the engine.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crate::cache::Cache;
use crate::dir::{Dir, Seal};
use crate::engine::{Engine, Entry};
use crate::history::EventKind;
use crate::log::Log;
use crate::object::{Attributes, CommitError, Durability, Key, Object, Revision};
use crate::open::REVISION_BLOCK;
use crate::record::{self, LEDGER_KEY, Ledger};
use crate::transaction::{Answer, Group, Pending, Sequencer, Transaction};

/// A relaxed write is durable after this time at the latest. Half the period of a node's Lease renewals: a crash sets
/// a Lease back by less than one renewal.
pub const RELAXED_DELAY_MAX: Duration = Duration::from_secs(5);

/// Bytes of bodies after which a group is closed, so that its flush, which all of it waits for, stays short.
const GROUP_BYTES_MAX: usize = 8 << 20;

/// Keys with relaxed writes that are not durable yet, before they are made durable early. Their objects live in the
/// cache anyway; this bounds the batch.
const UNWRITTEN_KEYS_MAX: usize = 65_536;

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

/// The handle of the thread.
pub(crate) struct CommitterLog<A> {
    queue: Arc<Queue<A>>,
    thread: Mutex<Option<JoinHandle<Outcome>>>,
    outcome: Mutex<Outcome>,
}

impl<A: Attributes> CommitterLog<A> {
    /// Starts the thread. `ledger` is what the engine holds now.
    pub(crate) fn start(
        cache: Arc<Cache<A>>,
        sequencer: Sequencer,
        engine: Box<dyn Engine>,
        dir: Option<Dir>,
        ledger: Ledger,
        counters: Arc<Counters>,
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
        let committer = Committer {
            cache,
            sequencer,
            engine,
            dir,
            ledger,
            unwritten: BTreeMap::new(),
            unwritten_until: None,
            failed: None,
            counters,
        };
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
    /// The truth about the decided state; the engine holds it after each flush.
    ledger: Ledger,
    /// What the engine does not hold yet: the decided state of keys.
    unwritten: BTreeMap<Key, Option<Arc<Object<A>>>>,
    /// When relaxed writes must have been flushed.
    unwritten_until: Option<Instant>,
    /// Why nothing can be written any more. After a failed flush nobody knows what the disk holds, so nothing is
    /// tried again.
    failed: Option<Arc<str>>,
    counters: Arc<Counters>,
}

/// Transactions that are flushed and answered together.
struct Round<A> {
    group: Group<A>,
    durable: bool,
    bytes: usize,
    answers: Vec<(Pending<A>, Answer<A>)>,
}

impl<A> Default for Round<A> {
    fn default() -> Self {
        Round {
            group: Group::default(),
            durable: false,
            bytes: 0,
            answers: Vec::new(),
        }
    }
}

impl<A: Attributes> Committer<A> {
    fn run(mut self, queue: &Queue<A>) -> Outcome {
        loop {
            let (transactions, closing) = queue.take(self.unwritten_until);
            self.commit_all(transactions);
            if closing {
                break;
            }
            if self.unwritten_until.is_some_and(|until| until <= Instant::now()) {
                // A failure is kept in `failed`; there is nobody to answer here.
                self.flush()
                    .unwrap_or_else(|error| tracing::error!(%error, "relaxed writes are not durable"));
            }
        }
        let outcome = self.seal();
        self.cache.close();
        outcome
    }

    fn commit_all(&mut self, transactions: Vec<Transaction<A>>) {
        let mut round = Round::default();
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
                self.finish(std::mem::take(&mut round));
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
        let Round {
            group,
            durable,
            answers,
            ..
        } = round;
        self.counters
            .transactions
            .fetch_add(answers.len() as u64, Ordering::Relaxed);
        for event in &group.events {
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
        let beyond_reserve = self.sequencer.last() > self.ledger.reserved;
        if durable || beyond_reserve || self.unwritten.len() > UNWRITTEN_KEYS_MAX {
            if let Err(error) = self.flush() {
                for (pending, _) in answers {
                    pending.answer(Err(CommitError::Failed(Arc::clone(&error))));
                }
                return;
            }
        } else if !group.events.is_empty() {
            self.unwritten_until
                .get_or_insert_with(|| Instant::now() + RELAXED_DELAY_MAX);
        }
        self.cache.apply(group.events);
        for (pending, answer) in answers {
            pending.answer(answer);
        }
    }

    /// Writes down everything decided.
    fn flush(&mut self) -> Outcome {
        let last = self.sequencer.last();
        if last.0 + REVISION_BLOCK / 2 > self.ledger.reserved.0 {
            self.ledger.reserved = Revision(last.0 + REVISION_BLOCK);
        }
        self.write()
    }

    fn write(&mut self) -> Outcome {
        if let Some(error) = &self.failed {
            return Err(Arc::clone(error));
        }
        self.unwritten_until = None;
        self.ledger.revision = self.sequencer.last();
        let mut batch: Vec<Entry> = Vec::with_capacity(self.unwritten.len() + 1);
        batch.push((LEDGER_KEY.to_vec(), Some(self.ledger.encode())));
        for (key, object) in std::mem::take(&mut self.unwritten) {
            let key = key.as_str().as_bytes();
            let record = object.map(|object| record::encode(key, object.revision, &object.body));
            batch.push((key.to_vec(), record));
        }
        self.counters.flushes.fetch_add(1, Ordering::Relaxed);
        self.engine.write(&batch).map_err(|error| {
            let error: Arc<str> = error.to_string().into();
            self.failed = Some(Arc::clone(&error));
            error
        })
    }

    /// The orderly end: what is not written is written, the rest of the block is given back, and the seal says what
    /// the next one must find.
    fn seal(&mut self) -> Outcome {
        self.ledger.reserved = self.sequencer.last();
        self.write()?;
        match &self.dir {
            Some(dir) => dir
                .write_seal(Seal::Closed(self.ledger))
                .map_err(|error| error.to_string().into()),
            None => Ok(()),
        }
    }
}

//! Watchers: their interests and their queues.
//!
//! Each watcher has a short queue that the writer fills. When it is full, the watcher is *lagging*:
//! the writer skips it, and the watcher itself reads the history, from the end of its queue until
//! it has caught up. If the history no longer has these changes, the watch ends with
//! [`WatchError::Compacted`]. So a slow watcher costs a bounded queue and never blocks a writer.

use std::collections::{HashMap, VecDeque};
use std::future::poll_fn;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use crate::cache::Cache;
use crate::history::Event;
use crate::object::{Attributes, Object, Revision, collection_of};

/// Most changes in a watcher's own queue. One group commit rarely has more. A slower watcher reads
/// the shared history, which needs no additional memory.
pub const WATCH_QUEUE_MAX: usize = 256;

/// Changes that a lagging watcher reads before it releases the lock for writers.
const CATCH_UP_EVENTS_MAX: usize = 512;

/// The changes under a prefix that a watcher receives.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Interest {
    /// Every change.
    All,
    /// Changes of objects that have this value in an index, or had it before the change. Others
    /// cost nothing.
    Index {
        /// The number of the index, below [`Options::indexes`](crate::Options::indexes).
        index: usize,
        /// The value.
        value: Arc<str>,
    },
}

/// Why a watch ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WatchError {
    /// The history no longer has the changes after the requested (or the reached) revision: list
    /// again.
    #[error("watch: the changes after revision {from} are gone, the history starts after {oldest}")]
    Compacted {
        /// The revision after which the watch would continue.
        from: Revision,
        /// The oldest revision at which a watch can start.
        oldest: Revision,
    },
    /// The store has been closed.
    #[error("watch: the store is closed")]
    Closed,
}

/// Returns whether a prefix covers a key: a prefix with a slash at the end covers all keys below
/// it, otherwise only the equal key.
pub(crate) fn covers(prefix: &str, key: &str) -> bool {
    if prefix.ends_with('/') {
        key.starts_with(prefix)
    } else {
        key == prefix
    }
}

/// The queue of one watcher, which the writer fills.
pub(crate) struct Slot<A> {
    prefix: Box<str>,
    interest: Interest,
    mail: Mutex<Mail<A>>,
}

struct Mail<A> {
    queue: VecDeque<Event<A>>,
    /// The queue has overflowed or was never filled: later changes must be read from the history.
    lagging: bool,
    waker: Option<Waker>,
}

impl<A: Attributes> Slot<A> {
    fn mail(&self) -> MutexGuard<'_, Mail<A>> {
        // Nothing panics while holding the lock, and the data is consistent in any case.
        self.mail.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wants(&self, event: &Event<A>) -> bool {
        let selects = |object: &Arc<Object<A>>| match &self.interest {
            Interest::All => true,
            Interest::Index { index, value } => object.attributes.index_value(*index) == Some(value),
        };
        covers(&self.prefix, event.object.key.as_str())
            && (selects(&event.object) || event.previous.as_ref().is_some_and(selects))
    }

    /// Adds an event to the queue. Returns the task to wake.
    fn offer(&self, event: &Event<A>) -> Option<Waker> {
        let mut mail = self.mail();
        if mail.lagging {
            return None;
        }
        if mail.queue.len() == WATCH_QUEUE_MAX {
            mail.lagging = true;
            return None;
        }
        mail.queue.push_back(event.clone());
        mail.waker.take()
    }
}

type Slots<K, A> = HashMap<K, Vec<Arc<Slot<A>>>>;

/// The watchers of a collection, indexed by their interest.
pub(crate) struct Registry<A> {
    /// Watchers of all changes, by prefix: `/<collection>/`, `/<collection>/<namespace>/`, or a
    /// whole key.
    by_prefix: Slots<Box<str>, A>,
    /// The other watchers, by index number and value.
    by_value: Vec<Slots<Arc<str>, A>>,
    len: usize,
}

impl<A: Attributes> Registry<A> {
    pub(crate) fn new(indexes: usize) -> Registry<A> {
        Registry {
            by_prefix: HashMap::new(),
            by_value: (0..indexes).map(|_| HashMap::new()).collect(),
            len: 0,
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.len
    }

    fn add(&mut self, slot: Arc<Slot<A>>) {
        self.len += 1;
        match &slot.interest {
            Interest::All => self.by_prefix.entry(slot.prefix.clone()).or_default().push(slot),
            Interest::Index { index, value } => {
                self.by_value[*index]
                    .entry(Arc::clone(value))
                    .or_default()
                    .push(slot);
            }
        }
    }

    pub(crate) fn remove(&mut self, slot: &Arc<Slot<A>>) {
        fn take<K: std::hash::Hash + Eq + std::borrow::Borrow<str>, A>(
            bucket: &mut Slots<K, A>,
            name: &str,
            slot: &Arc<Slot<A>>,
        ) -> usize {
            let Some(slots) = bucket.get_mut(name) else {
                return 0;
            };
            let before = slots.len();
            slots.retain(|other| !Arc::ptr_eq(other, slot));
            let taken = before - slots.len();
            if slots.is_empty() {
                bucket.remove(name);
            }
            taken
        }
        self.len -= match &slot.interest {
            Interest::All => take(&mut self.by_prefix, &slot.prefix, slot),
            Interest::Index { index, value } => take(&mut self.by_value[*index], value, slot),
        };
    }

    /// Adds an event to the queues of all interested watchers. The tasks to wake go to `wakers`.
    pub(crate) fn deliver(&self, event: &Event<A>, wakers: &mut Vec<Waker>) {
        if self.len == 0 {
            return;
        }
        let key = &event.object.key;
        let parent = key.parent();
        let root = &parent[..key.collection().len() + 2];
        for prefix in [root, parent, key.as_str()] {
            for slot in self.by_prefix.get(prefix).into_iter().flatten() {
                wakers.extend(slot.offer(event));
            }
        }
        for (index, slots_of) in self.by_value.iter().enumerate() {
            if slots_of.is_empty() {
                continue;
            }
            let value = event.object.attributes.index_value(index);
            let previous = event
                .previous
                .as_ref()
                .and_then(|object| object.attributes.index_value(index));
            let also = previous.filter(|previous| Some(*previous) != value);
            for value in [value, also].into_iter().flatten() {
                for slot in slots_of.get(value).into_iter().flatten() {
                    if covers(&slot.prefix, key.as_str()) {
                        wakers.extend(slot.offer(event));
                    }
                }
            }
        }
    }

    /// Returns the tasks of all watchers, to end them.
    pub(crate) fn wake_all(&self, wakers: &mut Vec<Waker>) {
        let slots = self
            .by_prefix
            .values()
            .chain(self.by_value.iter().flat_map(HashMap::values))
            .flatten();
        wakers.extend(slots.filter_map(|slot| slot.mail().waker.take()));
    }
}

/// A running watch: every change of interest after its revision, once, in the order of revisions.
pub struct Watcher<A: Attributes> {
    cache: Arc<Cache<A>>,
    slot: Arc<Slot<A>>,
    /// Events that were read from the history and not yet returned. They come before those in the
    /// slot's queue.
    caught_up: VecDeque<Event<A>>,
    /// Every change up to this revision has been returned, is in `caught_up`, or was of no
    /// interest.
    read: Revision,
}

impl<A: Attributes> Watcher<A> {
    /// Registers a watcher in `registry`. It starts lagging, unless it starts at `current` or
    /// later.
    pub(crate) fn register(
        cache: Arc<Cache<A>>,
        registry: &mut Registry<A>,
        prefix: &str,
        interest: Interest,
        from: Revision,
        current: Revision,
    ) -> Watcher<A> {
        let mail = Mail {
            queue: VecDeque::new(),
            lagging: from < current,
            waker: None,
        };
        let slot = Arc::new(Slot {
            prefix: prefix.into(),
            interest,
            mail: Mutex::new(mail),
        });
        registry.add(Arc::clone(&slot));
        Watcher {
            cache,
            slot,
            caught_up: VecDeque::new(),
            read: from,
        }
    }

    /// Waits for the next change. Dropping the future loses no change.
    pub async fn next(&mut self) -> Result<Event<A>, WatchError> {
        poll_fn(|cx| self.poll_next(cx)).await
    }

    /// Waits for a change, and returns it with further available changes, at most `max` (at least
    /// 1). Dropping the future loses no change.
    pub async fn next_batch(&mut self, max: usize) -> Result<Vec<Event<A>>, WatchError> {
        let mut events = vec![self.next().await?];
        while events.len() < max
            && let Some(event) = self.take()
        {
            events.push(event);
        }
        Ok(events)
    }

    /// Returns the next change if it is available.
    pub fn try_next(&mut self) -> Result<Option<Event<A>>, WatchError> {
        match self.poll_next(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(event) => event.map(Some),
            Poll::Pending => Ok(None),
        }
    }

    /// Returns the revision up to which every change of interest has been returned, for bookmarks.
    /// It increases with the store, also without changes of interest.
    pub fn position(&self) -> Revision {
        if let Some(event) = self.caught_up.front() {
            // The revision before the next change; `read` may be later.
            return Revision(event.revision().0 - 1);
        }
        self.cache.with_revision(|current| {
            let mail = self.slot.mail();
            if mail.queue.is_empty() && !mail.lagging {
                current.max(self.read)
            } else {
                self.read
            }
        })
    }

    /// Returns the next change, or registers the waker. It is woken after each group with a change
    /// of interest.
    pub fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Result<Event<A>, WatchError>> {
        loop {
            if let Some(event) = self.take() {
                return Poll::Ready(Ok(event));
            }
            {
                let mut mail = self.slot.mail();
                if !mail.queue.is_empty() {
                    // It was added after the check above.
                    continue;
                }
                if !mail.lagging {
                    if self.cache.is_closed() {
                        return Poll::Ready(Err(WatchError::Closed));
                    }
                    match &mut mail.waker {
                        Some(waker) => waker.clone_from(cx.waker()),
                        none => *none = Some(cx.waker().clone()),
                    }
                    return Poll::Pending;
                }
            }
            if let Err(error) = self.catch_up() {
                return Poll::Ready(Err(error));
            }
        }
    }

    fn take(&mut self) -> Option<Event<A>> {
        if let Some(event) = self.caught_up.pop_front() {
            return Some(event);
        }
        let mut mail = self.slot.mail();
        loop {
            let event = mail.queue.pop_front()?;
            // A watch may start in the future; earlier changes are not for it.
            if event.revision() > self.read {
                self.read = event.revision();
                return Some(event);
            }
        }
    }

    /// Reads part of the history. The queue is empty, and stays empty until the end of the history
    /// is reached. No change is missed then, because a writer needs the lock under which the
    /// history is read.
    fn catch_up(&mut self) -> Result<(), WatchError> {
        let Watcher {
            cache,
            slot,
            caught_up,
            read,
        } = self;
        let collection = collection_of(&slot.prefix).unwrap_or_default();
        cache.with_history(collection, |history, current| {
            let oldest = history.compacted();
            let mut events = history
                .after(*read)
                .ok_or(WatchError::Compacted { from: *read, oldest })?;
            for event in events.by_ref().take(CATCH_UP_EVENTS_MAX) {
                *read = event.revision();
                if slot.wants(event) {
                    caught_up.push_back(event.clone());
                }
            }
            if events.next().is_none() {
                *read = current;
                slot.mail().lagging = false;
            }
            Ok(())
        })
    }
}

impl<A: Attributes> Drop for Watcher<A> {
    fn drop(&mut self) {
        self.cache
            .forget_watcher(collection_of(&self.slot.prefix).unwrap_or_default(), &self.slot);
    }
}

//! Watchers: who wants to hear of what, and how it reaches them.
//!
//! Each watcher has a short queue that the writer fills. When it is full, the watcher is *lagging*: the writer forgets
//! about it, and the watcher reads on from the history by itself, from the revision where its queue ended, until it
//! has caught up; when the history is gone by then, it ends with [`WatchError::Compacted`]. So a slow watcher costs a
//! bounded queue and never stops a writer.

use std::collections::{HashMap, VecDeque};
use std::future::poll_fn;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use crate::cache::Cache;
use crate::history::Event;
use crate::object::{Attributes, Object, Revision, collection_of};

/// Changes that wait for a watcher in its own queue. One group commit rarely makes more; a watcher that falls further
/// behind reads the shared history, which costs no memory of its own.
pub const WATCH_QUEUE_MAX: usize = 256;

/// Changes that a lagging watcher looks at before it lets the writer in again.
const CATCH_UP_EVENTS_MAX: usize = 512;

/// What of a prefix a watcher wants to hear of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Interest {
    /// Every change.
    All,
    /// Changes of objects whose value in an index is, or was before the change, this one. Others cost it nothing.
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
    /// The changes after the revision asked for (or after the one reached) are forgotten: list again.
    #[error("watch: the changes after revision {from} are forgotten, the history begins after {oldest}")]
    Compacted {
        /// The revision to go on from.
        from: Revision,
        /// The oldest revision from which a watch can begin.
        oldest: Revision,
    },
    /// The store has been closed.
    #[error("watch: the store is closed")]
    Closed,
}

/// Whether a key lies under a prefix: below it when it ends with a slash, else being it.
pub(crate) fn covers(prefix: &str, key: &str) -> bool {
    if prefix.ends_with('/') {
        key.starts_with(prefix)
    } else {
        key == prefix
    }
}

/// The place where a writer leaves events for one watcher.
pub(crate) struct Slot<A> {
    prefix: Box<str>,
    interest: Interest,
    mail: Mutex<Mail<A>>,
}

struct Mail<A> {
    queue: VecDeque<Event<A>>,
    /// The queue overflowed or has not begun: what comes after it is to be read from the history.
    lagging: bool,
    waker: Option<Waker>,
}

impl<A: Attributes> Slot<A> {
    fn mail(&self) -> MutexGuard<'_, Mail<A>> {
        // Nothing panics while holding it; a poisoned one would still be consistent.
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

    /// Leaves an event, and tells whom to wake.
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

/// The watchers of one collection, found by what they want.
pub(crate) struct Registry<A> {
    /// Those who want all, by prefix: `/<collection>/`, `/<collection>/<namespace>/`, or a whole key.
    by_prefix: Slots<Box<str>, A>,
    /// The others, by index number and value.
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

    /// Leaves an event with everyone who wants it; whom to wake goes to `wakers`.
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

    /// Wakes everyone, for the end.
    pub(crate) fn wake_all(&self, wakers: &mut Vec<Waker>) {
        let slots = self
            .by_prefix
            .values()
            .chain(self.by_value.iter().flat_map(HashMap::values))
            .flatten();
        wakers.extend(slots.filter_map(|slot| slot.mail().waker.take()));
    }
}

/// A watch that goes on: every change after its revision that it is interested in, once, in the order of revisions.
pub struct Watcher<A: Attributes> {
    cache: Arc<Cache<A>>,
    slot: Arc<Slot<A>>,
    /// Read from the history and not handed out yet. Comes before the slot's queue.
    caught_up: VecDeque<Event<A>>,
    /// Every change up to here has been handed out, or is in `caught_up`, or was of no interest.
    read: Revision,
}

impl<A: Attributes> Watcher<A> {
    /// A watcher registered in `registry`. It begins lagging, unless `current` says that there is nothing to catch up.
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

    /// Waits for the next change. Can be dropped while waiting without losing one.
    pub async fn next(&mut self) -> Result<Event<A>, WatchError> {
        poll_fn(|cx| self.poll_next(cx)).await
    }

    /// Waits for a change, then takes what else is there, up to `max` (at least 1) in all. Can be dropped while
    /// waiting without losing one.
    pub async fn next_batch(&mut self, max: usize) -> Result<Vec<Event<A>>, WatchError> {
        let mut events = vec![self.next().await?];
        while events.len() < max
            && let Some(event) = self.take()
        {
            events.push(event);
        }
        Ok(events)
    }

    /// The next change, if it is there already.
    pub fn try_next(&mut self) -> Result<Option<Event<A>>, WatchError> {
        match self.poll_next(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(event) => event.map(Some),
            Poll::Pending => Ok(None),
        }
    }

    /// The revision up to which every change of interest has been handed out: what a bookmark says. Grows with the
    /// store, also when nothing of interest happens.
    pub fn position(&self) -> Revision {
        if let Some(event) = self.caught_up.front() {
            // Before the next change to hand out; `read` may be past it.
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

    /// What the waker is for: called after each group of changes that holds one of interest.
    pub fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Result<Event<A>, WatchError>> {
        loop {
            if let Some(event) = self.take() {
                return Poll::Ready(Ok(event));
            }
            {
                let mut mail = self.slot.mail();
                if !mail.queue.is_empty() {
                    // It came between the look above and this one.
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
            // A watch may begin in the future; the changes before that are not for it.
            if event.revision() > self.read {
                self.read = event.revision();
                return Some(event);
            }
        }
    }

    /// Reads a piece of the history. The queue is empty; nothing is put there before the end is reached, and then
    /// nothing is missed, because whoever writes needs the lock that the history is read under.
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

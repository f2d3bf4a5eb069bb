//! The state in memory: current objects, history and watchers of each collection, at one revision.
//!
//! One writer at a time calls [`Cache::apply`] with decided changes, which are durable if they must
//! be. All changes of a group become visible to get, list and watch under one lock, so no reader
//! sees part of a transaction. Readers hold the lock for a lookup or to clone a pointer, never
//! while they use a result.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::time::Duration;

use tokio::sync::watch;

use crate::history::{Event, EventKind, History, HistoryLimits};
use crate::object::{Attributes, Key, Object, Revision, collection_of};
use crate::snapshot::Snapshot;
use crate::tree::Tree;
use crate::watch::{Interest, Registry, Slot, WatchError, Watcher};

/// The parameters of a cache.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Shape {
    pub(crate) indexes: usize,
    pub(crate) history: HistoryLimits,
}

pub(crate) struct Cache<A> {
    shape: Shape,
    state: RwLock<State<A>>,
    /// The revision, for tasks that wait for one.
    progress: watch::Sender<Revision>,
    closed: AtomicBool,
}

struct State<A> {
    revision: Revision,
    /// The revision at which the store was opened; no history is older.
    base: Revision,
    collections: HashMap<Box<str>, Collection<A>>,
}

/// The objects with a value in an index, by that value, sorted by key.
type Members<A> = HashMap<Box<str>, Vec<Arc<Object<A>>>>;

struct Collection<A> {
    tree: Tree<A>,
    /// Bytes of the bodies in `tree`.
    live_bytes: usize,
    /// Indexed by the number of the index.
    by_value: Vec<Members<A>>,
    history: History<A>,
    watchers: Registry<A>,
}

/// Why a list at an earlier revision is impossible.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ListError {
    /// The changes since then are no longer in the history, so they cannot be undone.
    #[error("cannot list: revision {asked} is too old, the history starts after {oldest}")]
    Compacted {
        /// The requested revision.
        asked: Revision,
        /// The oldest possible revision.
        oldest: Revision,
    },
    /// The store has not reached this revision; use [`Store::wait_for`](crate::Store::wait_for).
    #[error("cannot list: revision {asked} is in the future, the store is at {current}")]
    Future {
        /// The requested revision.
        asked: Revision,
        /// The revision of the store.
        current: Revision,
    },
}

/// Numbers for metrics.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CacheStats {
    /// Number of current objects.
    pub objects: usize,
    /// Bytes of their bodies.
    pub object_bytes: usize,
    /// Number of changes in the histories.
    pub events: usize,
    /// Approximate bytes of these changes.
    pub event_bytes: usize,
    /// Number of watchers.
    pub watchers: usize,
}

impl<A: Attributes> Cache<A> {
    /// Returns a cache at `revision` with objects that are sorted by key.
    pub(crate) fn new(shape: Shape, revision: Revision, objects: Vec<Arc<Object<A>>>) -> Cache<A> {
        let mut state = State {
            revision,
            base: revision,
            collections: HashMap::new(),
        };
        let mut objects = objects.into_iter().peekable();
        while let Some(first) = objects.next() {
            let name: Box<str> = first.key.collection().into();
            let mut members = vec![first];
            while let Some(object) = objects.next_if(|object| object.key.collection() == &*name) {
                members.push(object);
            }
            state
                .collections
                .insert(name, Collection::load(shape, revision, members));
        }
        let progress = watch::Sender::new(revision);
        Cache {
            shape,
            state: RwLock::new(state),
            progress,
            closed: AtomicBool::new(false),
        }
    }

    fn read(&self) -> RwLockReadGuard<'_, State<A>> {
        self.state.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, State<A>> {
        self.state.write().unwrap_or_else(PoisonError::into_inner)
    }

    /// Makes decided changes visible, all at once. Their revisions increase and are above all
    /// earlier ones.
    pub(crate) fn apply(&self, events: Vec<Event<A>>) {
        let Some(revision) = events.last().map(Event::revision) else {
            return;
        };
        let mut wakers = Vec::new();
        let mut garbage = Vec::new();
        {
            let mut state = self.write();
            debug_assert!(
                events
                    .first()
                    .is_some_and(|event| event.revision() > state.revision)
            );
            state.revision = revision;
            for event in events {
                state.collection(self.shape, event.object.key.collection()).apply(
                    event,
                    self.shape.history,
                    &mut wakers,
                    &mut garbage,
                );
            }
        }
        self.progress.send_replace(revision);
        for waker in wakers {
            waker.wake();
        }
    }

    pub(crate) fn revision(&self) -> Revision {
        self.read().revision
    }

    pub(crate) fn get(&self, key: &str) -> Option<Arc<Object<A>>> {
        self.read()
            .collections
            .get(collection_of(key)?)?
            .tree
            .get(key)
            .cloned()
    }

    pub(crate) fn list(&self, prefix: &str) -> Snapshot<A> {
        let state = self.read();
        let (revision, tree) = (state.revision, state.tree_of(prefix));
        drop(state);
        Snapshot::new(revision, tree, prefix)
    }

    /// Returns all objects of all collections at one revision.
    pub(crate) fn everything(&self) -> (Revision, Vec<Snapshot<A>>) {
        let state = self.read();
        let collections = state.collections.iter();
        let snapshots = collections
            .map(|(name, collection)| {
                Snapshot::new(state.revision, collection.tree.clone(), &format!("/{name}/"))
            })
            .collect();
        (state.revision, snapshots)
    }

    pub(crate) fn list_where(&self, prefix: &str, index: usize, value: &str) -> Snapshot<A> {
        let state = self.read();
        let members = collection_of(prefix)
            .and_then(|collection| state.collections.get(collection)?.by_value.get(index)?.get(value))
            .cloned()
            .unwrap_or_default();
        let revision = state.revision;
        drop(state);
        Snapshot::new(revision, Tree::from_sorted(members), prefix)
    }

    pub(crate) fn list_at(&self, prefix: &str, asked: Revision) -> Result<Snapshot<A>, ListError> {
        let state = self.read();
        let current = state.revision;
        if asked > current {
            return Err(ListError::Future { asked, current });
        }
        let Some(collection) = collection_of(prefix).and_then(|name| state.collections.get(name)) else {
            // This collection never had a change.
            return match state.base <= asked {
                true => Ok(Snapshot::new(asked, Tree::default(), prefix)),
                false => Err(ListError::Compacted {
                    asked,
                    oldest: state.base,
                }),
            };
        };
        let oldest = collection.history.compacted();
        let later = collection
            .history
            .after(asked)
            .ok_or(ListError::Compacted { asked, oldest })?;
        let later: Vec<Event<A>> = later.cloned().collect();
        let mut tree = collection.tree.clone();
        drop(state);
        // Undoing from the newest to the oldest gives the state before the oldest.
        for event in later.into_iter().rev() {
            match event.previous {
                Some(previous) => tree.insert(previous),
                None => tree.remove(event.object.key.as_str()),
            };
        }
        Ok(Snapshot::new(asked, tree, prefix))
    }

    pub(crate) fn watch(
        self: &Arc<Self>,
        prefix: &str,
        from: Revision,
        interest: Interest,
    ) -> Result<Watcher<A>, WatchError> {
        let mut state = self.write();
        let current = state.revision;
        let collection = state.collection(self.shape, collection_of(prefix).unwrap_or_default());
        let oldest = collection.history.compacted();
        if from < oldest {
            return Err(WatchError::Compacted { from, oldest });
        }
        Ok(Watcher::register(
            Arc::clone(self),
            &mut collection.watchers,
            prefix,
            interest,
            from,
            current,
        ))
    }

    pub(crate) fn forget_watcher(&self, collection: &str, slot: &Arc<Slot<A>>) {
        if let Some(collection) = self.write().collections.get_mut(collection) {
            collection.watchers.remove(slot);
        }
    }

    /// Waits until the store is at `revision`, at most `timeout`. Returns the revision of the
    /// store.
    pub(crate) async fn wait_for(&self, revision: Revision, timeout: Duration) -> Revision {
        let mut progress = self.progress.subscribe();
        // A timeout is not an error here: the caller compares the revisions. The sender exists as
        // long as the cache.
        match tokio::time::timeout(timeout, progress.wait_for(|current| *current >= revision)).await {
            Ok(_) | Err(_) => self.revision(),
        }
    }

    /// Calls `f` with the revision, which cannot change during the call.
    pub(crate) fn with_revision<R>(&self, f: impl FnOnce(Revision) -> R) -> R {
        f(self.read().revision)
    }

    /// Calls `f` with the history of a collection and the revision. Neither can change during the
    /// call.
    pub(crate) fn with_history<R>(&self, collection: &str, f: impl FnOnce(&History<A>, Revision) -> R) -> R {
        let state = self.read();
        match state.collections.get(collection) {
            Some(collection) => f(&collection.history, state.revision),
            None => f(&History::new(state.base), state.revision),
        }
    }

    /// Calls `f` with a lookup of current objects, which cannot change during the call.
    pub(crate) fn with_current<R>(&self, f: impl FnOnce(&dyn Fn(&Key) -> Option<Arc<Object<A>>>) -> R) -> R {
        let state = self.read();
        f(&|key| {
            state
                .collections
                .get(key.collection())?
                .tree
                .get(key.as_str())
                .cloned()
        })
    }

    pub(crate) fn compact(&self, revision: Revision) {
        let mut garbage = Vec::new();
        let mut state = self.write();
        let revision = revision.min(state.revision);
        for collection in state.collections.values_mut() {
            collection.history.compact(revision, &mut garbage);
        }
        drop(state);
    }

    pub(crate) fn stats(&self) -> CacheStats {
        let state = self.read();
        state
            .collections
            .values()
            .fold(CacheStats::default(), |sum, collection| CacheStats {
                objects: sum.objects + collection.tree.len(),
                object_bytes: sum.object_bytes + collection.live_bytes,
                events: sum.events + collection.history.len(),
                event_bytes: sum.event_bytes + collection.history.bytes(),
                watchers: sum.watchers + collection.watchers.len(),
            })
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.closed.load(Ordering::SeqCst)
    }

    /// Ends the watches after they have returned the remaining events.
    pub(crate) fn close(&self) {
        let mut wakers = Vec::new();
        {
            let state = self.write();
            self.closed.store(true, Ordering::SeqCst);
            for collection in state.collections.values() {
                collection.watchers.wake_all(&mut wakers);
            }
        }
        for waker in wakers {
            waker.wake();
        }
    }
}

impl<A: Attributes> State<A> {
    fn collection(&mut self, shape: Shape, name: &str) -> &mut Collection<A> {
        if !self.collections.contains_key(name) {
            // A missing collection has not changed since the store was opened.
            self.collections
                .insert(name.into(), Collection::load(shape, self.base, Vec::new()));
        }
        self.collections.get_mut(name).expect("it was inserted above")
    }

    fn tree_of(&self, prefix: &str) -> Tree<A> {
        let collection = collection_of(prefix).and_then(|name| self.collections.get(name));
        collection
            .map(|collection| collection.tree.clone())
            .unwrap_or_default()
    }
}

impl<A: Attributes> Collection<A> {
    fn load(shape: Shape, base: Revision, objects: Vec<Arc<Object<A>>>) -> Collection<A> {
        let mut by_value: Vec<Members<A>> = (0..shape.indexes).map(|_| HashMap::new()).collect();
        for object in &objects {
            for (index, members_of) in by_value.iter_mut().enumerate() {
                if let Some(value) = object.attributes.index_value(index) {
                    members_of
                        .entry(value.into())
                        .or_default()
                        .push(Arc::clone(object));
                }
            }
        }
        Collection {
            live_bytes: objects.iter().map(|object| object.body.len()).sum(),
            tree: Tree::from_sorted(objects),
            by_value,
            history: History::new(base),
            watchers: Registry::new(shape.indexes),
        }
    }

    fn apply(
        &mut self,
        event: Event<A>,
        limits: HistoryLimits,
        wakers: &mut Vec<std::task::Waker>,
        garbage: &mut Vec<Event<A>>,
    ) {
        let after = match event.kind {
            EventKind::Put => {
                self.tree.insert(Arc::clone(&event.object));
                self.live_bytes += event.object.body.len();
                Some(&event.object)
            }
            EventKind::Delete => {
                self.tree.remove(event.object.key.as_str());
                None
            }
        };
        if let Some(previous) = &event.previous {
            self.live_bytes -= previous.body.len();
        }
        for (index, members_of) in self.by_value.iter_mut().enumerate() {
            reindex(members_of, index, event.previous.as_ref(), after);
        }
        self.watchers.deliver(&event, wakers);
        self.history.push(event, limits, self.live_bytes, garbage);
    }
}

/// Moves an object to its new place in an index.
fn reindex<A: Attributes>(
    members_of: &mut Members<A>,
    index: usize,
    before: Option<&Arc<Object<A>>>,
    after: Option<&Arc<Object<A>>>,
) {
    let old = before.and_then(|object| object.attributes.index_value(index));
    let new = after.and_then(|object| object.attributes.index_value(index));
    if let (Some(value), Some(before)) = (old, before)
        && old != new
        && let Some(members) = members_of.get_mut(value)
    {
        if let Ok(at) = members.binary_search_by(|member| member.key.cmp(&before.key)) {
            members.remove(at);
        }
        if members.is_empty() {
            members_of.remove(value);
        }
    }
    if let (Some(value), Some(after)) = (new, after) {
        let members = match members_of.get_mut(value) {
            Some(members) => members,
            None => members_of.entry(value.into()).or_default(),
        };
        match members.binary_search_by(|member| member.key.cmp(&after.key)) {
            Ok(at) => members[at] = Arc::clone(after),
            Err(at) => members.insert(at, Arc::clone(after)),
        }
    }
}

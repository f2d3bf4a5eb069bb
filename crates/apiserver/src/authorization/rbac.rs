//! The cluster's roles and bindings, as a parsed copy of the store.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::task::{Context, Poll, Wake, Waker};

use api::authorization::Policy;
use api::kinds::{Kind, rbac};
use store::{Event, EventKind, Interest, WatchError, Watcher};

use crate::objects::{self, Entry, Objects};

static KINDS: [&Kind; 4] = [
    &rbac::CLUSTER_ROLE,
    &rbac::CLUSTER_ROLE_BINDING,
    &rbac::ROLE,
    &rbac::ROLE_BINDING,
];

/// All roles and bindings, as of the last completed write.
///
/// A check costs one load of a flag, and the evaluation of the user's own bindings. The store sets
/// the flag at the first change after the last check, before it confirms the change to the writer.
/// The next check applies the new changes, and only those.
pub(crate) struct Rbac {
    changed: Arc<Changed>,
    kept: RwLock<Kept>,
}

struct Changed(AtomicBool);

impl Wake for Changed {
    fn wake(self: Arc<Self>) {
        self.0.store(true, Ordering::Release);
    }
}

struct Kept {
    policy: Policy,
    watchers: Vec<(&'static Kind, Watcher<Entry>)>,
}

impl Rbac {
    pub(crate) fn new(objects: &Objects) -> Rbac {
        Rbac {
            changed: Arc::new(Changed(AtomicBool::new(true))),
            kept: RwLock::new(Kept::of(objects)),
        }
    }

    /// Calls `ask` with the current policy.
    pub(crate) fn with<T>(&self, objects: &Objects, ask: impl FnOnce(&Policy) -> T) -> T {
        if self.changed.0.load(Ordering::Acquire) {
            let mut kept = self.kept.write().unwrap_or_else(PoisonError::into_inner);
            // Cleared under the lock: a check that sees it cleared waits for the lock until the
            // changes are applied.
            if self.changed.0.swap(false, Ordering::AcqRel) {
                let waker = Waker::from(self.changed.clone());
                if kept.catch_up(&waker).is_err() {
                    *kept = Kept::of(objects);
                    self.changed.0.store(true, Ordering::Release);
                }
            }
        }
        let kept = self.kept.read().unwrap_or_else(PoisonError::into_inner);
        ask(&kept.policy)
    }
}

impl Kept {
    fn of(objects: &Objects) -> Kept {
        let mut policy = Policy::default();
        let mut watchers = Vec::with_capacity(KINDS.len());
        for kind in KINDS {
            let prefix = objects::prefix(kind, "");
            let snapshot = objects.list(&prefix);
            for object in snapshot.iter() {
                insert(&mut policy, kind, &object.body);
            }
            // The revision is too new to be compacted. A closing store has no more changes.
            if let Ok(watcher) = objects.watch(&prefix, snapshot.revision(), Interest::All) {
                watchers.push((kind, watcher));
            }
        }
        Kept { policy, watchers }
    }

    /// Applies new changes, and registers `waker` for the next one.
    fn catch_up(&mut self, waker: &Waker) -> Result<(), WatchError> {
        for (kind, watcher) in &mut self.watchers {
            loop {
                match watcher.poll_next(&mut Context::from_waker(waker)) {
                    Poll::Ready(Ok(event)) => apply(&mut self.policy, kind, &event),
                    Poll::Ready(Err(WatchError::Closed)) | Poll::Pending => break,
                    Poll::Ready(Err(error)) => return Err(error),
                }
            }
        }
        Ok(())
    }
}

fn apply(policy: &mut Policy, kind: &'static Kind, event: &Event<Entry>) {
    match event.kind {
        EventKind::Put => insert(policy, kind, &event.object.body),
        EventKind::Delete => {
            let attributes = &event.object.attributes.attributes;
            policy.remove(kind.kind, &attributes.namespace, &attributes.name);
        }
    }
}

fn insert(policy: &mut Policy, kind: &'static Kind, body: &[u8]) {
    match objects::value(kind, body) {
        Ok(object) => policy.insert(&object),
        Err(error) => tracing::error!(%error, "ignoring a role or binding that cannot be decoded"),
    }
}

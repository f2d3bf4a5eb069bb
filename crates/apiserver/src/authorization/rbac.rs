//! The cluster's roles and bindings, kept parsed beside the store.

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

/// All roles and bindings, as of the newest write that anybody has heard of.
///
/// A question costs a look at a flag and the user's own bindings. The store raises the flag with the first change after the last look,
/// before it tells the writer that the change is made; who asks next takes the changes in, and only them.
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
            // Taken down under the lock: who finds it down waits here until the changes are in.
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
            // A revision that was current a moment ago is not forgotten; a store that closes changes no more.
            if let Ok(watcher) = objects.watch(&prefix, snapshot.revision(), Interest::All) {
                watchers.push((kind, watcher));
            }
        }
        Kept { policy, watchers }
    }

    /// Takes in what has happened, and has `waker` told of what comes next.
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

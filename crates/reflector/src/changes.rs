//! Which objects changed, for readers that need the current state and not its history.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

use crate::{Key, Reflector, Watched};

/// Changes since the last call of [`Changes::next`]. It never blocks the reflector. Each key waits
/// only once, however often its object changes. So the number of waiting keys is bounded by the
/// objects that exist or existed at the last call.
pub struct Changes<V> {
    reflector: Reflector<V>,
    pending: Arc<Pending>,
    /// Whether the first list has been returned.
    begun: bool,
}

impl<V: Watched> Changes<V> {
    pub(crate) fn new(reflector: Reflector<V>, pending: Arc<Pending>) -> Self {
        Self {
            reflector,
            pending,
            begun: false,
        }
    }

    /// Returns the changed keys in order, each with its current object; `None` means deleted. The
    /// first call waits for a complete list and then returns all objects, even if there are none,
    /// so a reader never takes a partial state for the whole. Later calls wait for changes.
    /// Cancel-safe.
    pub async fn next(&mut self) -> Vec<(Key, Option<Arc<V>>)> {
        let keys = loop {
            let woken = self.pending.wake.notified();
            if let Some(keys) = self.pending.lock().take(self.begun) {
                break keys;
            }
            woken.await;
        };
        self.begun = true;
        keys.into_iter()
            .map(|key| {
                let object = self.reflector.at(&key);
                (key, object)
            })
            .collect()
    }
}

/// Keys that one reader has not fetched yet.
#[derive(Default)]
pub(crate) struct Pending {
    keys: Mutex<Keys>,
    wake: Notify,
}

#[derive(Default)]
struct Keys {
    changed: BTreeSet<Key>,
    /// Whether a list was complete.
    complete: bool,
}

impl Keys {
    fn take(&mut self, begun: bool) -> Option<BTreeSet<Key>> {
        let ready = self.complete && !(begun && self.changed.is_empty());
        ready.then(|| std::mem::take(&mut self.changed))
    }
}

impl Pending {
    /// Adds changed keys, and records whether a list is complete.
    pub(crate) fn add(&self, changed: &[Key], complete: bool) {
        let mut keys = self.lock();
        keys.changed.extend(changed.iter().cloned());
        keys.complete |= complete;
        drop(keys);
        self.wake.notify_one();
    }

    fn lock(&self) -> MutexGuard<'_, Keys> {
        // No code panics while it holds the lock.
        self.keys.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

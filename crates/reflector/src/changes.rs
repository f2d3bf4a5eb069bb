//! Which objects changed, for readers who want the present state and not its history.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

use crate::{Key, Reflector, Watched};

/// What changed since it was last asked. It never holds the reflector up: a key waits once, however often its object
/// changes, so what waits is bounded by the objects that there are, and were when it was last asked.
pub struct Changes<V> {
    reflector: Reflector<V>,
    pending: Arc<Pending>,
    /// Whether the first list has been handed out.
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

    /// The keys that changed, in their order, each with its object now; `None` is gone. It first waits until one list was whole,
    /// and answers all that is known then, be it nothing: whoever begins with it never takes half a state for the whole.
    /// From then on it waits for changes. Cancel-safe.
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

/// The keys that one reader has not yet asked for.
#[derive(Default)]
pub(crate) struct Pending {
    keys: Mutex<Keys>,
    wake: Notify,
}

#[derive(Default)]
struct Keys {
    changed: BTreeSet<Key>,
    /// Whether a list was whole.
    complete: bool,
}

impl Keys {
    fn take(&mut self, begun: bool) -> Option<BTreeSet<Key>> {
        let ready = self.complete && !(begun && self.changed.is_empty());
        ready.then(|| std::mem::take(&mut self.changed))
    }
}

impl Pending {
    /// Adds what changed, and whether a list is whole now.
    pub(crate) fn add(&self, changed: &[Key], complete: bool) {
        let mut keys = self.lock();
        keys.changed.extend(changed.iter().cloned());
        keys.complete |= complete;
        drop(keys);
        self.wake.notify_one();
    }

    fn lock(&self) -> MutexGuard<'_, Keys> {
        // Nothing panics while it is held.
        self.keys.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

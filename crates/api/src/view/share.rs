//! Sharing of equal values between objects.
//!
//! The objects of a set are alike: 100,000 daemon pods have one namespace, one owner and one
//! specification. Each thread keeps a pool of recently parsed values and returns an equal one from
//! it. Values are immutable and compared by content, so sharing only saves memory.

use std::cell::RefCell;
use std::collections::HashSet;
use std::hash::Hash;
use std::sync::Arc;

use super::meta::OwnerView;
use super::pod::PodSpecView;

/// Most distinct values of one type in a thread's pool. A cluster has at most a few hundred
/// DaemonSets, namespaces and label sets. A full pool is cleared, and some values are then stored
/// twice.
const POOL_SIZE: usize = 4096;

/// Most bytes of a shared string. Longer strings are rarely equal.
const LONGEST_SHARED: usize = 512;

struct Pool<T: ?Sized>(HashSet<Arc<T>>);

impl<T: ?Sized + Hash + Eq> Pool<T> {
    fn share<B>(&mut self, value: B) -> Arc<T>
    where
        B: AsRef<T> + Into<Arc<T>>,
    {
        if let Some(known) = self.0.get(value.as_ref()) {
            return known.clone();
        }
        if self.0.len() >= POOL_SIZE {
            self.0.clear();
        }
        let value: Arc<T> = value.into();
        self.0.insert(value.clone());
        value
    }
}

thread_local! {
    static STRINGS: RefCell<Pool<str>> = RefCell::new(Pool(HashSet::new()));
    static SPECS: RefCell<HashSet<Arc<PodSpecView>>> = RefCell::new(HashSet::new());
    static OWNERS: RefCell<Pool<[OwnerView]>> = RefCell::new(Pool(HashSet::new()));
}

/// Returns the string, shared with equal ones that this thread has recently read. For recurring
/// strings (namespaces, keys, label sets), not for unique ones (names, uids).
pub fn shared(text: &str) -> Arc<str> {
    if text.len() > LONGEST_SHARED {
        return text.into();
    }
    STRINGS.with_borrow_mut(|pool| pool.share(text))
}

pub(super) fn shared_owners(owners: Vec<OwnerView>) -> Arc<[OwnerView]> {
    OWNERS.with_borrow_mut(|pool| pool.share(owners))
}

pub(super) fn shared_spec(spec: PodSpecView) -> Arc<PodSpecView> {
    SPECS.with_borrow_mut(|specs| {
        if let Some(known) = specs.get(&spec) {
            return known.clone();
        }
        if specs.len() >= POOL_SIZE {
            specs.clear();
        }
        let spec = Arc::new(spec);
        specs.insert(spec.clone());
        spec
    })
}

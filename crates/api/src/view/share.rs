//! Sharing equal values between objects.
//!
//! Objects of one set are alike: a hundred thousand daemon pods carry one namespace, one owner, one specification.
//! Each thread remembers the values that it lately parsed and hands out the one it has. Sharing is invisible: values
//! are immutable and compare by content; it only saves memory.

use std::cell::RefCell;
use std::collections::HashSet;
use std::hash::Hash;
use std::sync::Arc;

use super::meta::OwnerView;
use super::pod::PodSpecView;

/// How many distinct values of a sort a thread remembers. A cluster has some hundred DaemonSets, namespaces and label
/// sets at most; when there are more, the memory starts anew and some values are kept twice.
const REMEMBERED: usize = 4096;

/// Longer strings than this are seldom alike and are not remembered.
const LONGEST_REMEMBERED: usize = 512;

struct Pool<T: ?Sized>(HashSet<Arc<T>>);

impl<T: ?Sized + Hash + Eq> Pool<T> {
    fn share<B>(&mut self, value: B) -> Arc<T>
    where
        B: AsRef<T> + Into<Arc<T>>,
    {
        if let Some(known) = self.0.get(value.as_ref()) {
            return known.clone();
        }
        if self.0.len() >= REMEMBERED {
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

/// The string, shared with equal ones that this thread lately read. For what recurs (namespaces, keys, label sets),
/// not for what is unique (names, uids).
pub fn shared(text: &str) -> Arc<str> {
    if text.len() > LONGEST_REMEMBERED {
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
        if specs.len() >= REMEMBERED {
            specs.clear();
        }
        let spec = Arc::new(spec);
        specs.insert(spec.clone());
        spec
    })
}

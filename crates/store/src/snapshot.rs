//! A consistent view of a prefix at one revision.

use std::sync::Arc;

use crate::object::{Object, Revision};
use crate::tree::{Items, Tree};

/// The objects under a prefix at one revision. It is cheap to create and to keep, and does not
/// block writers.
pub struct Snapshot<A> {
    revision: Revision,
    tree: Tree<A>,
    start: usize,
    end: usize,
}

impl<A> Snapshot<A> {
    /// Returns the part of `tree` under `prefix` (see [`Store::list`](crate::Store::list)).
    pub(crate) fn new(revision: Revision, tree: Tree<A>, prefix: &str) -> Snapshot<A> {
        let start = tree.rank(prefix);
        let end = match prefix.strip_suffix('/') {
            // '0' is the character after '/'.
            Some(stem) => tree.rank(&format!("{stem}0")),
            None => start + usize::from(tree.get(prefix).is_some()),
        };
        Snapshot {
            revision,
            tree,
            start,
            end,
        }
    }

    /// Returns the revision of this state.
    pub fn revision(&self) -> Revision {
        self.revision
    }

    /// Returns the number of objects.
    pub fn len(&self) -> usize {
        self.end - self.start
    }

    /// Returns whether there are no objects.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Returns all objects, sorted by key.
    pub fn iter(&self) -> Items<'_, A> {
        self.tree.range(self.start..self.end)
    }

    /// Returns the objects with a key greater than `key`, sorted by key: the pages after the one
    /// that ended with `key`. Its `len()` is the number of remaining objects.
    pub fn after(&self, key: &str) -> Items<'_, A> {
        let next = self.tree.rank(key) + usize::from(self.tree.get(key).is_some());
        self.tree.range(next.clamp(self.start, self.end)..self.end)
    }
}

impl<'a, A> IntoIterator for &'a Snapshot<A> {
    type Item = &'a Arc<Object<A>>;
    type IntoIter = Items<'a, A>;

    fn into_iter(self) -> Items<'a, A> {
        self.iter()
    }
}

impl<A> std::fmt::Debug for Snapshot<A> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Snapshot")
            .field("revision", &self.revision)
            .field("len", &self.len())
            .finish()
    }
}

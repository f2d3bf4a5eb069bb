//! The current objects of a collection, sorted by key: a copy-on-write map with two levels.
//!
//! A clone increments one reference count, so a snapshot is free and needs no lock. A write after a
//! clone copies the spine (one pointer for each [`CHUNK_MAX`] objects) once, and each changed chunk
//! once. Without a clone it copies nothing. Two levels are enough for a million objects, whose
//! spine has 8,000 to 16,000 pointers.

use std::ops::Range;
use std::sync::Arc;

use crate::object::Object;

/// Most objects in a chunk before it is split. A write after a snapshot copies one chunk and one
/// spine. With 100,000 objects, both have about 1,000 pointers.
const CHUNK_MAX: usize = 128;

type Chunk<A> = Vec<Arc<Object<A>>>;

pub(crate) struct Tree<A> {
    /// Chunks sorted by key. None is empty.
    chunks: Arc<Vec<Arc<Chunk<A>>>>,
    len: usize,
}

impl<A> Clone for Tree<A> {
    fn clone(&self) -> Self {
        Tree {
            chunks: Arc::clone(&self.chunks),
            len: self.len,
        }
    }
}

impl<A> Default for Tree<A> {
    fn default() -> Self {
        Tree {
            chunks: Arc::default(),
            len: 0,
        }
    }
}

impl<A> Tree<A> {
    /// Returns a tree of objects that are sorted by key, without duplicates.
    pub(crate) fn from_sorted(objects: Vec<Arc<Object<A>>>) -> Tree<A> {
        debug_assert!(objects.is_sorted_by(|a, b| a.key < b.key));
        let len = objects.len();
        let chunks = objects
            .chunks(CHUNK_MAX / 2)
            .map(|chunk| Arc::new(chunk.to_vec()))
            .collect();
        Tree {
            chunks: Arc::new(chunks),
            len,
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.len
    }

    pub(crate) fn get(&self, key: &str) -> Option<&Arc<Object<A>>> {
        let chunk = &self.chunks[self.chunk_of(key)?];
        let at = chunk
            .binary_search_by(|object| object.key.as_str().cmp(key))
            .ok()?;
        Some(&chunk[at])
    }

    /// Inserts an object at its key. Returns the object that was there.
    pub(crate) fn insert(&mut self, object: Arc<Object<A>>) -> Option<Arc<Object<A>>> {
        let Some(number) = self.chunk_of(object.key.as_str()) else {
            Arc::make_mut(&mut self.chunks).insert(0, Arc::new(vec![object]));
            self.len += 1;
            return None;
        };
        let chunks = Arc::make_mut(&mut self.chunks);
        let chunk = Arc::make_mut(&mut chunks[number]);
        match chunk.binary_search_by(|other| other.key.cmp(&object.key)) {
            Ok(at) => Some(std::mem::replace(&mut chunk[at], object)),
            Err(at) => {
                chunk.insert(at, object);
                self.len += 1;
                if chunk.len() > CHUNK_MAX {
                    let right = chunk.split_off(CHUNK_MAX / 2);
                    chunks.insert(number + 1, Arc::new(right));
                }
                None
            }
        }
    }

    /// Removes an object.
    pub(crate) fn remove(&mut self, key: &str) -> Option<Arc<Object<A>>> {
        let number = self.chunk_of(key)?;
        let at = self.chunks[number]
            .binary_search_by(|object| object.key.as_str().cmp(key))
            .ok()?;
        let chunks = Arc::make_mut(&mut self.chunks);
        let chunk = Arc::make_mut(&mut chunks[number]);
        let removed = chunk.remove(at);
        if chunk.is_empty() {
            chunks.remove(number);
        }
        self.len -= 1;
        Some(removed)
    }

    /// Returns the number of keys before `key`.
    pub(crate) fn rank(&self, key: &str) -> usize {
        let Some(number) = self.chunk_of(key) else {
            return 0;
        };
        let before: usize = self.chunks[..number].iter().map(|chunk| chunk.len()).sum();
        before + self.chunks[number].partition_point(|object| object.key.as_str() < key)
    }

    /// Returns the objects with these ranks, sorted by key.
    pub(crate) fn range(&self, ranks: Range<usize>) -> Items<'_, A> {
        let mut offset = ranks.start;
        let mut chunk = 0;
        while chunk < self.chunks.len() && offset >= self.chunks[chunk].len() {
            offset -= self.chunks[chunk].len();
            chunk += 1;
        }
        Items {
            chunks: &self.chunks[chunk..],
            offset,
            left: ranks.len(),
        }
    }

    /// Returns the number of the chunk that has `key` or where it belongs (keys before the first
    /// one belong to the first chunk); `None` when there is no chunk.
    fn chunk_of(&self, key: &str) -> Option<usize> {
        if self.chunks.is_empty() {
            return None;
        }
        Some(
            self.chunks
                .partition_point(|chunk| chunk[0].key.as_str() <= key)
                .saturating_sub(1),
        )
    }
}

/// Objects sorted by key.
#[derive(Debug)]
pub struct Items<'a, A> {
    chunks: &'a [Arc<Chunk<A>>],
    offset: usize,
    left: usize,
}

impl<'a, A> Iterator for Items<'a, A> {
    type Item = &'a Arc<Object<A>>;

    fn next(&mut self) -> Option<Self::Item> {
        self.left = self.left.checked_sub(1)?;
        let (chunk, rest) = self.chunks.split_first()?;
        let object = &chunk[self.offset];
        self.offset += 1;
        if self.offset == chunk.len() {
            self.offset = 0;
            self.chunks = rest;
        }
        Some(object)
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.left, Some(self.left))
    }
}

impl<A> ExactSizeIterator for Items<'_, A> {}

#[cfg(test)]
mod tests;

//! The types of the store: keys, revisions, objects, writes.

use std::borrow::Borrow;
use std::fmt;
use std::sync::Arc;

use bytes::Bytes;

/// A point in the history of the store. Its decimal form is Kubernetes' `resourceVersion`.
///
/// Revisions increase strictly. Every write has its own, and none is used twice, not even after a
/// crash that lost relaxed writes. There may be gaps.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Revision(pub u64);

impl fmt::Display for Revision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The key of an object: `/<collection>/<namespace>/<name>`. The namespace is empty for
/// cluster-scoped objects.
///
/// The first segment is the *collection*: order, history, snapshots and watches are separate for
/// each collection. The store does not interpret the other segments.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key(Arc<str>);

impl Key {
    /// Returns the key of a text, or `None` when it does not start with `/<collection>/`.
    pub fn new(text: impl Into<Arc<str>>) -> Option<Key> {
        let text = text.into();
        collection_of(&text)?;
        Some(Key(text))
    }

    /// Returns `/<collection>/<namespace>/<name>`. A part with a slash gives a key that no object
    /// has, because names in Kubernetes contain none.
    pub fn of(collection: &str, namespace: &str, name: &str) -> Key {
        debug_assert!(
            !collection.is_empty()
                && ![collection, namespace, name]
                    .iter()
                    .any(|part| part.contains('/'))
        );
        Key(format!("/{collection}/{namespace}/{name}").into())
    }

    /// Returns the whole text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Returns the first segment.
    pub fn collection(&self) -> &str {
        collection_of(&self.0).unwrap_or_default()
    }

    /// Returns `/<collection>/<namespace>/`, the text up to and including its last slash.
    pub(crate) fn parent(&self) -> &str {
        let end = self.0.rfind('/').map_or(0, |slash| slash + 1);
        &self.0[..end]
    }
}

impl Borrow<str> for Key {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

/// Returns the collection of a key or a prefix: the text between its first two slashes.
pub(crate) fn collection_of(text: &str) -> Option<&str> {
    let (collection, _) = text.strip_prefix('/')?.split_once('/')?;
    (!collection.is_empty()).then_some(collection)
}

/// Values that the caller stores beside the bytes of an object, so that selecting needs no parsing.
pub trait Attributes: Send + Sync + 'static {
    /// Returns the value of this object in an index (index 0 of pods is `spec.nodeName`, for
    /// example), or `None`. It is called for the numbers below
    /// [`Options::indexes`](crate::Options::indexes). The value must not change during the object's
    /// life.
    fn index_value(&self, index: usize) -> Option<&str>;
}

impl Attributes for () {
    fn index_value(&self, _index: usize) -> Option<&str> {
        None
    }
}

/// One state of an object. All readers share it as `Arc<Object<A>>`.
#[derive(Debug)]
pub struct Object<A> {
    /// The object's key.
    pub key: Key,
    /// The revision of the write that made this state.
    pub revision: Revision,
    /// The encoded object with its revision. The last state of a deleted object has the revision of
    /// the deletion.
    pub body: Bytes,
    /// The caller's values.
    pub attributes: A,
}

/// The condition of a write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expect {
    /// The object does not exist.
    Absent,
    /// The last change of the object has exactly this revision.
    At(Revision),
    /// The object exists, with any revision.
    Exists,
}

/// The effect of a write.
#[derive(Debug)]
pub enum Change<A> {
    /// Sets the state of the object.
    Put {
        /// The encoded object without its revision.
        body: Bytes,
        /// The caller's values.
        attributes: A,
    },
    /// Deletes the object.
    Delete {
        /// Its final state without its revision, for watches.
        last: Bytes,
        /// The caller's values.
        attributes: A,
    },
}

/// A change with its condition.
#[derive(Debug)]
pub struct Write<A> {
    /// The key of the object. It may occur only once in a transaction.
    pub key: Key,
    /// The condition.
    pub expect: Expect,
    /// The change.
    pub change: Change<A>,
}

/// When a commit returns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Durability {
    /// After it is durable: neither `kill -9` nor a power failure can lose it.
    Durable,
    /// As soon as it is visible. It becomes durable with the next durable commit, or within
    /// [`RELAXED_DELAY_MAX`](crate::RELAXED_DELAY_MAX). A crash before that undoes it. It is meant
    /// for renewals of Leases, which are repeated anyway.
    Relaxed,
}

/// Why a commit failed.
#[derive(Debug, thiserror::Error)]
pub enum CommitError<A> {
    /// A condition was false; nothing was changed.
    #[error("commit: {key} is not as expected (its current revision: {})", current.as_ref().map_or(0, |object| object.revision.0))]
    Conflict {
        /// The first key whose condition was false.
        key: Key,
        /// The current object; `None` when it does not exist.
        current: Option<Arc<Object<A>>>,
    },
    /// The transaction is invalid (it has a key twice); nothing was changed.
    #[error("commit: {key} appears twice in one transaction")]
    Duplicate {
        /// The key.
        key: Key,
    },
    /// A write failed, now or shortly before. Nothing of the transaction is visible, but a start
    /// after a kill at this moment may find it. The store retries by itself until the disk accepts
    /// writes. Reads continue, and so do relaxed writes up to the last reserved revision.
    #[error("commit: the store accepts no writes now: {0}")]
    Failed(Arc<str>),
    /// The store is closed; nothing was changed.
    #[error("commit: the store is closed")]
    Closed,
}

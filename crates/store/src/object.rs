//! What the store holds and what it is asked to do: keys, revisions, objects, writes.

use std::borrow::Borrow;
use std::fmt;
use std::sync::Arc;

use bytes::Bytes;

/// A point in the history of the store; Kubernetes' `resourceVersion` is its decimal form.
///
/// Revisions grow strictly: every write has its own, and none is ever given out twice, not even after a crash that
/// lost relaxed writes. They may leave gaps.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Revision(pub u64);

impl fmt::Display for Revision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The name of an object: `/<collection>/<namespace>/<name>`, the namespace being empty for cluster-scoped ones.
///
/// The first segment is the *collection*: ordering, history, snapshots and watches are kept by collection. What the
/// other segments mean is the caller's business.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key(Arc<str>);

impl Key {
    /// A key from its text, or `None` when it does not begin with `/<collection>/`.
    pub fn new(text: impl Into<Arc<str>>) -> Option<Key> {
        let text = text.into();
        collection_of(&text)?;
        Some(Key(text))
    }

    /// `/<collection>/<namespace>/<name>`. A part that holds a slash names nothing that is ever
    /// written, since names in Kubernetes hold none.
    pub fn of(collection: &str, namespace: &str, name: &str) -> Key {
        debug_assert!(
            !collection.is_empty()
                && ![collection, namespace, name]
                    .iter()
                    .any(|part| part.contains('/'))
        );
        Key(format!("/{collection}/{namespace}/{name}").into())
    }

    /// The whole text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The first segment.
    pub fn collection(&self) -> &str {
        collection_of(&self.0).unwrap_or_default()
    }

    /// `/<collection>/<namespace>/`, the text up to and with its last slash.
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

/// The collection that a key or a prefix lies in: what stands between its first and its second slash.
pub(crate) fn collection_of(text: &str) -> Option<&str> {
    let (collection, _) = text.strip_prefix('/')?.split_once('/')?;
    (!collection.is_empty()).then_some(collection)
}

/// What the caller keeps beside the bytes of an object, so that selecting needs no parsing.
pub trait Attributes: Send + Sync + 'static {
    /// The value of this object in the index of that number (for pods, say, index 0 is `spec.nodeName`), or `None`
    /// when it has none. Asked for the numbers below [`Options::indexes`](crate::Options::indexes); must not change
    /// during the object's life.
    fn index_value(&self, index: usize) -> Option<&str>;
}

impl Attributes for () {
    fn index_value(&self, _index: usize) -> Option<&str> {
        None
    }
}

/// One state of one object. Handed out as `Arc<Object<A>>` and shared by everybody who reads it.
#[derive(Debug)]
pub struct Object<A> {
    /// Its name.
    pub key: Key,
    /// The revision of the write that made this state.
    pub revision: Revision,
    /// The encoded object with its revision spliced in. For the last state of a deleted object, the revision is that
    /// of the deletion.
    pub body: Bytes,
    /// What the caller keeps beside the bytes.
    pub attributes: A,
}

/// What must be true of a key for a write to happen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expect {
    /// There is no such object.
    Absent,
    /// The object's last change is of exactly this revision.
    At(Revision),
    /// The object exists, whatever its revision.
    Exists,
}

/// What a write does to its key.
#[derive(Debug)]
pub enum Change<A> {
    /// The object gets this state.
    Put {
        /// The encoded object without its revision.
        body: Bytes,
        /// What the caller keeps beside the bytes.
        attributes: A,
    },
    /// The object goes.
    Delete {
        /// Its final state without its revision, for those who watch.
        last: Bytes,
        /// What the caller keeps beside the bytes.
        attributes: A,
    },
}

/// One change under one condition.
#[derive(Debug)]
pub struct Write<A> {
    /// The object to change. A transaction may name a key once only.
    pub key: Key,
    /// The condition.
    pub expect: Expect,
    /// The change.
    pub change: Change<A>,
}

/// When a commit is acknowledged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Durability {
    /// After it cannot be lost any more, neither by `kill -9` nor by a power cut.
    Durable,
    /// As soon as it is visible. It becomes durable with the next durable commit, or within
    /// [`RELAXED_DELAY_MAX`](crate::RELAXED_DELAY_MAX); a crash before that takes it back. Meant for the renewals of
    /// Leases, which repeat themselves.
    Relaxed,
}

/// Why a commit did not happen.
#[derive(Debug, thiserror::Error)]
pub enum CommitError<A> {
    /// A condition did not hold; nothing of the transaction happened.
    #[error("commit: {key} is not as expected (its current revision: {})", current.as_ref().map_or(0, |object| object.revision.0))]
    Conflict {
        /// The first key whose condition did not hold.
        key: Key,
        /// What is there; `None` when there is no such object.
        current: Option<Arc<Object<A>>>,
    },
    /// The transaction itself is wrong (the same key twice); nothing of it happened.
    #[error("commit: {key} appears twice in one transaction")]
    Duplicate {
        /// The key.
        key: Key,
    },
    /// The disk refused a write, now or a moment ago. Nothing of the transaction is visible; a start after a kill at
    /// this moment may find it all the same. The store tries again by itself and takes writes when the disk does.
    /// Reads go on, and so do relaxed writes as far as the reserved revisions reach.
    #[error("commit: the store takes no writes now: {0}")]
    Failed(Arc<str>),
    /// The store has been closed; nothing of the transaction happened.
    #[error("commit: the store is closed")]
    Closed,
}

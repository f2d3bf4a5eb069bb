//! An ordered log of transactions over revisioned keys, and the watch cache before it.
//!
//! - **Writes** are transactions under conditions ([`Store::commit`]): all or nothing, checked in the order in which
//!   they came, made durable in groups with one flush to the disk for all that wait.
//! - **Reads** never touch the disk. The current objects live in memory as shared bytes, encoded once, with their
//!   revision spliced in once. A [`Snapshot`] is consistent, costs nothing to take and does not stop the writers.
//! - **Watches** begin at a revision, give every later change exactly once and in order, and cost only those who
//!   asked for the object ([`Interest`]).
//!
//! The parts, from the bottom: an `engine` keeps bytes on the disk, `record` says what they mean and `dir` who may open
//! them; `committer` is the one writer, `transaction` what it decides with; `cache` is what everybody reads, made of
//! `tree` (the present), `history` (the past) and `watch` (the future). `log` is the seam for another keeper of the
//! order, such as etcd.
//!
//! The store knows no kinds: what an object says of itself beside its bytes is the caller's [`Attributes`].
//! Only `apiserver` uses this crate.

mod archive;
mod cache;
mod committer;
mod dir;
pub mod engine;
mod health;
mod history;
mod log;
mod object;
mod open;
mod record;
mod snapshot;
mod store;
mod transaction;
mod tree;
mod watch;

pub use archive::{Archive, ArchiveError, Contents, check, copy, restore};
pub use cache::{CacheStats, ListError};
pub use committer::RELAXED_DELAY_MAX;
pub use health::{STALL_MIN, Trouble};
pub use history::{
    Event, EventKind, HISTORY_BYTES_MIN, HISTORY_EVENTS_MAX, HISTORY_LIVE_SHARE, HistoryLimits,
};
pub use object::{Attributes, Change, CommitError, Durability, Expect, Key, Object, Revision, Write};
pub use open::{DecodeError, OpenError, REVISIONS_SKIPPED};
pub use snapshot::Snapshot;
pub use store::{Locked, Options, Stats, Store, exists, lock};
pub use tree::Items;
pub use watch::{Interest, WATCH_QUEUE_MAX, WatchError, Watcher};

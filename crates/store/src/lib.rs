//! An ordered log of transactions over revisioned keys, and its watch cache.
//!
//! - **Writes** are transactions with conditions ([`Store::commit`]). They are atomic, are decided
//!   in the order of arrival, and become durable in groups with one flush.
//! - **Reads** never use the disk. The current objects are in memory as shared bytes, which are
//!   encoded once, with their revision. A [`Snapshot`] is consistent, costs nothing and does not
//!   block writers.
//! - **Watches** start at a revision and return every later change once and in order. Changes
//!   outside of their [`Interest`] cost them nothing.
//!
//! The parts, from the bottom: an `engine` stores bytes on the disk, `record` defines their format,
//! and `dir` controls who may open them. `committer` is the only writer, and `transaction` decides
//! for it. Readers use `cache`, which consists of `tree` (current objects), `history` (past
//! changes) and `watch` (future changes). `log` is the interface for another order of transactions,
//! such as etcd's.
//!
//! The store does not interpret objects: selecting uses the caller's [`Attributes`]. Only
//! `apiserver` uses this crate.

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

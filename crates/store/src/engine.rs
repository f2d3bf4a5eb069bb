//! Engines: the durable map from key to record below the embedded store, changed by batches.
//!
//! An engine need not interpret or check its records: each has a checksum, and so has the set of
//! all records (see `record`). The store reads it only at the start. Its one duty is atomic
//! durability: when [`Engine::write`] returns, the whole batch survives a crash or a power failure.
//! If it does not return, the batch is there completely or not at all.

use std::path::PathBuf;

mod pages;
mod redb;

pub use self::redb::{FILE_NAME, Redb};

/// Why an operation of an engine failed.
#[derive(Debug, thiserror::Error)]
pub enum EngineError {
    /// An error of the operating system.
    #[error("{operation} {path}: {source}")]
    Io {
        /// The operation, such as "write".
        operation: &'static str,
        /// The file.
        path: PathBuf,
        /// The cause.
        source: std::io::Error,
    },
    /// The file has invalid content.
    #[error("{operation} {path}: {what}")]
    Damaged {
        /// The operation.
        operation: &'static str,
        /// The file.
        path: PathBuf,
        /// The fault.
        what: String,
    },
}

/// One change of a batch: the new record of a key, or `None` to remove it.
pub type Entry = (Vec<u8>, Option<Vec<u8>>);

/// A durable map, used by one thread at a time.
pub trait Engine: Send {
    /// Calls `visit` for each record, sorted by key.
    fn load(&mut self, visit: &mut dyn FnMut(&[u8], &[u8])) -> Result<(), EngineError>;

    /// Writes a batch atomically. No key occurs twice. Returns when the batch is durable.
    fn write(&mut self, batch: &[Entry]) -> Result<(), EngineError>;

    /// Opens the engine again after a failed write, from the state on the disk, and returns the
    /// record of `key`. The failed batch is there completely or not at all. An engine that does not
    /// support this accepts no more writes.
    fn reopen(&mut self, _key: &[u8]) -> Result<Option<Vec<u8>>, EngineError> {
        Err(EngineError::Io {
            operation: "reopen",
            path: PathBuf::new(),
            source: std::io::Error::from(std::io::ErrorKind::Unsupported),
        })
    }
}

//! Where the embedded store keeps its bytes: a map from key to record, changed by batches.
//!
//! An engine need not understand what it keeps, need not check it (each record carries its checksum, and the set of
//! records has one too, see `record`), and is never read after the start. It must do one thing well: once
//! [`Engine::write`] returns, the batch is there, whole, whatever happens to the process or the power; and when it
//! does not return, the batch is there whole or not at all.

use std::path::PathBuf;

mod pages;
mod redb;

pub use self::redb::{FILE_NAME, Redb};

/// Why an engine could not do what it was asked to.
#[derive(Debug, thiserror::Error)]
pub enum EngineError {
    /// The operating system refused.
    #[error("{operation} {path}: {source}")]
    Io {
        /// What was being done, such as "write".
        operation: &'static str,
        /// To what.
        path: PathBuf,
        /// Why not.
        source: std::io::Error,
    },
    /// What is in the file makes no sense.
    #[error("{operation} {path}: {what}")]
    Damaged {
        /// What was being done.
        operation: &'static str,
        /// To what.
        path: PathBuf,
        /// What was found.
        what: String,
    },
}

/// One change of a batch: the new record of a key, or `None` to remove it.
pub type Entry = (Vec<u8>, Option<Vec<u8>>);

/// A durable map. Used by one thread at a time.
pub trait Engine: Send {
    /// Calls `visit` for each record, in the order of keys.
    fn load(&mut self, visit: &mut dyn FnMut(&[u8], &[u8])) -> Result<(), EngineError>;

    /// Makes a batch durable: all of it or nothing. No key appears twice. Blocks until it cannot be lost.
    fn write(&mut self, batch: &[Entry]) -> Result<(), EngineError>;

    /// Opens the engine anew after a write that failed, from what the disk holds, and gives the record of `key`. The
    /// batch that failed is there whole or not at all. An engine that cannot do so takes no more writes.
    fn reopen(&mut self, _key: &[u8]) -> Result<Option<Vec<u8>>, EngineError> {
        Err(EngineError::Io {
            operation: "reopen",
            path: PathBuf::new(),
            source: std::io::Error::from(std::io::ErrorKind::Unsupported),
        })
    }
}

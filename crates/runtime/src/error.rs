//! Errors of this crate: what was attempted on what, and a kind to decide by.

use std::fmt::Display;

use serde::{Deserialize, Serialize};

/// Result of this crate's calls.
pub type Result<T> = std::result::Result<T, Error>;

/// A failed operation. Its text names the operation, its operands and the cause, fit for a pod's status message.
#[derive(Clone, Debug, thiserror::Error, Serialize, Deserialize)]
#[error("{message}")]
pub struct Error {
    /// What a caller decides by.
    pub kind: ErrorKind,
    /// What a person reads.
    pub message: String,
}

/// Kinds of failure that callers tell apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ErrorKind {
    /// The named image, pod or container is not here.
    NotFound,
    /// A pod or container of that id is already here.
    AlreadyExists,
    /// The image is used by a container.
    InUse,
    /// What was asked for makes no sense (a malformed name, id, archive or mount).
    Invalid,
    /// The container's process could not be started; the message has the runtime's words.
    StartFailed,
    /// The image runs as root, or as a name, where [`crate::SecuritySpec::run_as_non_root`] forbids it.
    RunAsNonRoot,
    /// A sub path leads out of its volume or cannot be made.
    SubPath,
    /// A registry could not be reached (name, connection, TLS).
    RegistryUnavailable,
    /// A registry refused the credentials, or wants some.
    Unauthorized,
    /// The registry does not have that image.
    ImageNotFound,
    /// The container's process is not running.
    NotRunning,
    /// The pod's shim is not there any more.
    ShimGone,
    /// The pod's shim is there and does not answer.
    ShimStuck,
    /// Pods get no addresses yet.
    NetworkNotReady,
    /// No address is left in the pod range.
    AddressesExhausted,
    /// Anything else of the machine.
    Machine,
}

impl Error {
    pub(crate) fn new(kind: ErrorKind, message: impl Into<String>) -> Error {
        Error {
            kind,
            message: message.into(),
        }
    }

    pub(crate) fn machine(message: impl Into<String>) -> Error {
        Error::new(ErrorKind::Machine, message)
    }

    pub(crate) fn invalid(message: impl Into<String>) -> Error {
        Error::new(ErrorKind::Invalid, message)
    }
}

/// Names the operation that failed: `path.open().context(|| format!("open {path}"))`.
pub(crate) trait Context<T> {
    fn context<M: Display>(self, operation: impl FnOnce() -> M) -> Result<T>;
}

impl<T, E: Display> Context<T> for std::result::Result<T, E> {
    fn context<M: Display>(self, operation: impl FnOnce() -> M) -> Result<T> {
        self.map_err(|cause| Error::machine(format!("{}: {cause}", operation())))
    }
}

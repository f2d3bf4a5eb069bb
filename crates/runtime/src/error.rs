//! Errors of this crate: the failed operation, its object, and a kind for the caller's decisions.

use std::fmt::Display;

use serde::{Deserialize, Serialize};

/// Result of this crate's calls.
pub type Result<T> = std::result::Result<T, Error>;

/// A failed operation. The message names the operation, its operands and the cause, and can be used
/// in a pod's status.
#[derive(Clone, Debug, thiserror::Error, Serialize, Deserialize)]
#[error("{message}")]
pub struct Error {
    /// Kind for the caller's decisions.
    pub kind: ErrorKind,
    /// Message for users.
    pub message: String,
}

/// Kinds of failures that callers distinguish.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ErrorKind {
    /// The image, pod or container does not exist here.
    NotFound,
    /// A pod or container with this id already exists.
    AlreadyExists,
    /// A container uses the image.
    InUse,
    /// The request is not valid (a malformed name, id, archive or mount).
    Invalid,
    /// The container's process could not be started. The message contains the runtime's.
    StartFailed,
    /// The image's user is root or a name, which [`crate::SecuritySpec::run_as_non_root`] forbids.
    RunAsNonRoot,
    /// A sub path leaves its volume or cannot be created.
    SubPath,
    /// A registry could not be reached (name, connection, TLS).
    RegistryUnavailable,
    /// A registry refused the credentials or requires some.
    Unauthorized,
    /// The registry does not have the image.
    ImageNotFound,
    /// The container's process is not running.
    NotRunning,
    /// The pod's shim does not run any more.
    ShimGone,
    /// The pod's shim runs but does not answer.
    ShimStuck,
    /// Pods cannot get addresses yet.
    NetworkNotReady,
    /// No address is free in the pod range.
    AddressesExhausted,
    /// Any other failure on the machine.
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

/// Adds the failed operation to an error: `path.open().context(|| format!("open {path}"))`.
pub(crate) trait Context<T> {
    fn context<M: Display>(self, operation: impl FnOnce() -> M) -> Result<T>;
}

impl<T, E: Display> Context<T> for std::result::Result<T, E> {
    fn context<M: Display>(self, operation: impl FnOnce() -> M) -> Result<T> {
        self.map_err(|cause| Error::machine(format!("{}: {cause}", operation())))
    }
}

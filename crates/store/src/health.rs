//! Whether the store is writable, for requests that must not wait for the committer.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// A flush that takes longer counts as stalled. kube-apiserver uses the same timeout for etcd in
/// its readiness check.
pub const STALL_MIN: Duration = Duration::from_secs(2);

/// Why the store accepts no durable writes now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Trouble {
    /// The last write failed and is retried.
    Refused(Arc<str>),
    /// A write has been running for this time.
    Stalled(Duration),
}

impl fmt::Display for Trouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Trouble::Refused(why) => write!(f, "the store accepts no writes: {why}"),
            Trouble::Stalled(time) => write!(
                f,
                "the disk has not answered a write of the store for {} s",
                time.as_secs()
            ),
        }
    }
}

/// The state that the committer reports.
#[derive(Debug)]
pub(crate) struct Health {
    start: Instant,
    /// Milliseconds from `start` to the start of the current flush, plus one. 0 between flushes.
    flush_began: AtomicU64,
    refused: Mutex<Option<Arc<str>>>,
    failures: AtomicU64,
}

impl Default for Health {
    fn default() -> Self {
        Health {
            start: Instant::now(),
            flush_began: AtomicU64::new(0),
            refused: Mutex::default(),
            failures: AtomicU64::new(0),
        }
    }
}

impl Health {
    /// Runs a flush, which counts as running until it returns.
    pub(crate) fn during<R>(&self, flush: impl FnOnce() -> R) -> R {
        self.flush_began.store(self.now() + 1, Ordering::Relaxed);
        let result = flush();
        self.flush_began.store(0, Ordering::Relaxed);
        result
    }

    fn now(&self) -> u64 {
        u64::try_from(self.start.elapsed().as_millis()).unwrap_or(u64::MAX - 1)
    }

    /// Counts a failed write, and keeps the reason until [`Health::recovered`].
    pub(crate) fn refused(&self, why: Arc<str>) {
        self.failures.fetch_add(1, Ordering::Relaxed);
        *self.refused.lock().unwrap_or_else(PoisonError::into_inner) = Some(why);
    }

    pub(crate) fn recovered(&self) {
        *self.refused.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }

    /// Returns the number of failed writes.
    pub(crate) fn failures(&self) -> u64 {
        self.failures.load(Ordering::Relaxed)
    }

    pub(crate) fn trouble(&self) -> Option<Trouble> {
        let began = self.flush_began.load(Ordering::Relaxed);
        if let Some(began) = began.checked_sub(1) {
            let time = Duration::from_millis(self.now().saturating_sub(began));
            if time >= STALL_MIN {
                return Some(Trouble::Stalled(time));
            }
        }
        let refused = self.refused.lock().unwrap_or_else(PoisonError::into_inner);
        refused.clone().map(Trouble::Refused)
    }
}

//! Waiting longer after each failure.

use std::time::Duration;

/// Doubles from a first wait to a longest one.
#[derive(Clone, Debug)]
pub struct Backoff {
    first: Duration,
    longest: Duration,
    next: Duration,
}

impl Backoff {
    /// Begins with the first wait.
    pub fn new(first: Duration, longest: Duration) -> Self {
        Self {
            first,
            longest,
            next: first,
        }
    }

    /// The wait before the next try.
    pub fn next_wait(&mut self) -> Duration {
        let now = self.next;
        self.next = (now * 2).min(self.longest);
        now
    }

    /// A try succeeded.
    pub fn reset(&mut self) {
        self.next = self.first;
    }
}

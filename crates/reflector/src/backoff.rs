//! Exponential backoff.

use std::time::Duration;

/// Backoff that doubles from a first wait to a longest one.
#[derive(Clone, Debug)]
pub struct Backoff {
    first: Duration,
    longest: Duration,
    next: Duration,
}

impl Backoff {
    /// Returns a backoff that starts at the first wait.
    pub fn new(first: Duration, longest: Duration) -> Self {
        Self {
            first,
            longest,
            next: first,
        }
    }

    /// Returns the wait before the next attempt.
    pub fn next_wait(&mut self) -> Duration {
        let now = self.next;
        self.next = (now * 2).min(self.longest);
        now
    }

    /// Resets the backoff after a successful attempt.
    pub fn reset(&mut self) {
        self.next = self.first;
    }
}

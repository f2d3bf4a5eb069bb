//! Exponential backoff of restarts of a container and pulls of an image.

use jiff::{SignedDuration, Timestamp};

/// The first delay.
pub const INITIAL: SignedDuration = SignedDuration::from_secs(10);
/// The longest delay.
pub const MAXIMUM: SignedDuration = SignedDuration::from_secs(300);
/// A container that ran longer than this starts again with the first delay.
pub(super) const RESET_AFTER: SignedDuration = SignedDuration::from_secs(600);

/// Backoff before the next attempt: none before the first, then 10 s, doubling to 5 minutes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Backoff {
    delay: Option<SignedDuration>,
    last_attempt: Option<Timestamp>,
}

impl Backoff {
    /// When something that failed at `failed` may be retried; `None` is at once.
    pub fn until(&self, failed: Timestamp) -> Option<Timestamp> {
        if self.has_rested(failed) {
            return None;
        }
        self.delay
            .map(|delay| failed.saturating_add(delay).unwrap_or(Timestamp::MAX))
    }

    /// The current delay.
    pub fn delay(&self) -> SignedDuration {
        self.delay.unwrap_or(SignedDuration::ZERO)
    }

    /// Records that another attempt begins at `now`, after a failure at `failed`.
    pub fn attempt(&mut self, failed: Timestamp, now: Timestamp) {
        self.delay = Some(match self.delay {
            Some(delay) if !self.has_rested(failed) => delay.saturating_mul(2).min(MAXIMUM),
            _ => INITIAL,
        });
        self.last_attempt = Some(now);
    }

    fn has_rested(&self, failed: Timestamp) -> bool {
        self.last_attempt
            .is_none_or(|last| failed.duration_since(last) > RESET_AFTER)
    }
}

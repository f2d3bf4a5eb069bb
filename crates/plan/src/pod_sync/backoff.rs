//! Growing delays between attempts: restarts of a container, pulls of an image.

use jiff::{SignedDuration, Timestamp};

/// The first delay.
pub const INITIAL: SignedDuration = SignedDuration::from_secs(10);
/// The longest delay.
pub const MAXIMUM: SignedDuration = SignedDuration::from_secs(300);
/// A container that ran this long starts over with the first delay.
pub(super) const RESET_AFTER: SignedDuration = SignedDuration::from_secs(600);

/// The delay before the next attempt: none for the first, then 10 s, doubling to 5 minutes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Backoff {
    delay: Option<SignedDuration>,
    last_attempt: Option<Timestamp>,
}

impl Backoff {
    /// Until when a thing that failed at `failed` has to wait; `None` when it may be tried at once.
    pub fn until(&self, failed: Timestamp) -> Option<Timestamp> {
        if self.has_rested(failed) {
            return None;
        }
        self.delay
            .map(|delay| failed.saturating_add(delay).unwrap_or(Timestamp::MAX))
    }

    /// The delay now in force.
    pub fn delay(&self) -> SignedDuration {
        self.delay.unwrap_or(SignedDuration::ZERO)
    }

    /// Another attempt begins at `now` after a failure at `failed`.
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

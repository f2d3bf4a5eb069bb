//! What time it is, as a value that is handed to those who ask.
//!
//! A service never asks the machine for the time of day: it is given a [`Clock`]. That of a simulation follows tokio's clock, which
//! a paused runtime moves from one timer to the next, so hours pass in moments and pass alike each time. Each component may be
//! given a clock of its own that goes before or after the others, as machines' clocks do.
//!
//! Durations are tokio's affair throughout (`sleep`, `timeout`, `Instant`); this is about dates.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use tokio::time::Instant;

/// The longest single wait: a clock that is set back must not stall anybody for longer.
const LONGEST: Duration = Duration::from_secs(60);

/// Tells the time of day. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct Clock(Option<Simulated>);

/// A clock that shows `begin` at `origin` and goes as tokio's does.
#[derive(Clone, Debug)]
struct Simulated {
    begin: Timestamp,
    origin: Instant,
}

impl Clock {
    /// The machine's.
    pub fn system() -> Clock {
        Clock(None)
    }

    /// One that shows `begin` now, and goes on with the runtime's clock, paused or not. Needs a runtime.
    pub fn simulated(begin: Timestamp) -> Clock {
        Clock(Some(Simulated {
            begin,
            origin: Instant::now(),
        }))
    }

    /// A simulated clock that goes `by` before this one, or after it when `by` is negative. The machine's has no such sibling
    /// and is returned as it is.
    pub fn skewed(&self, by: SignedDuration) -> Clock {
        Clock(self.0.as_ref().map(|simulated| Simulated {
            begin: saturating_add(simulated.begin, by),
            origin: simulated.origin,
        }))
    }

    /// The time of day.
    pub fn now(&self) -> Timestamp {
        match &self.0 {
            None => Timestamp::now(),
            Some(simulated) => {
                let passed = SignedDuration::try_from(simulated.origin.elapsed());
                saturating_add(simulated.begin, passed.unwrap_or(SignedDuration::MAX))
            }
        }
    }

    /// Returns at `at` or somewhat before (the caller looks and waits again); never, when there is nothing to wait for.
    pub async fn until(&self, at: Option<Timestamp>) {
        let Some(at) = at else {
            return std::future::pending().await;
        };
        match Duration::try_from(at.duration_since(self.now())) {
            Ok(left) if !left.is_zero() => tokio::time::sleep(left.min(LONGEST)).await,
            _ => tokio::task::yield_now().await,
        }
    }
}

fn saturating_add(at: Timestamp, by: SignedDuration) -> Timestamp {
    at.saturating_add(by).unwrap_or(at)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).expect("a time")
    }

    #[tokio::test(start_paused = true)]
    async fn a_simulated_clock_goes_as_the_runtime_s_does() {
        let clock = Clock::simulated(at(1_000));
        assert_eq!(clock.now(), at(1_000));
        tokio::time::sleep(Duration::from_secs(5)).await;
        assert_eq!(clock.now(), at(1_005));
        assert_eq!(clock.clone().now(), at(1_005));
    }

    #[tokio::test(start_paused = true)]
    async fn a_skewed_clock_keeps_its_distance() {
        let clock = Clock::simulated(at(1_000));
        tokio::time::sleep(Duration::from_secs(5)).await;
        let (early, late) = (
            clock.skewed(SignedDuration::from_secs(7)),
            clock.skewed(SignedDuration::from_secs(-7)),
        );
        tokio::time::sleep(Duration::from_secs(5)).await;
        assert_eq!((early.now(), late.now()), (at(1_017), at(1_003)));
    }

    #[tokio::test(start_paused = true)]
    async fn waiting_ends_at_the_time_or_before_it_and_never_without_one() {
        let clock = Clock::simulated(at(1_000));
        clock.until(Some(at(1_030))).await;
        assert_eq!(clock.now(), at(1_030));
        clock.until(Some(at(1_030))).await;
        clock.until(Some(at(3_000))).await;
        assert_eq!(clock.now(), at(1_090));
        let never = tokio::time::timeout(Duration::from_secs(3600), clock.until(None));
        assert!(never.await.is_err());
    }
}

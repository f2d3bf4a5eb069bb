//! The time of day, as a value that components receive.
//!
//! A component never reads the machine's clock itself. It gets a [`Clock`]. The clock of a
//! simulation follows tokio's clock, which a paused runtime moves from one timer to the next. So
//! hours pass in moments, and every run is the same. Each component may have a clock that is ahead
//! of the others or behind them, as real machines have.
//!
//! This crate is only about dates. Durations use tokio directly (`sleep`, `timeout`, `Instant`).

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use tokio::time::Instant;

/// Longest single wait. A clock that is set back must not delay a waiting task for longer.
const LONGEST: Duration = Duration::from_secs(60);

/// Clock that returns the time of day. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct Clock(Option<Simulated>);

/// Clock that shows `begin` at `origin` and advances with tokio's clock.
#[derive(Clone, Debug)]
struct Simulated {
    begin: Timestamp,
    origin: Instant,
}

impl Clock {
    /// Returns the machine's clock.
    pub fn system() -> Clock {
        Clock(None)
    }

    /// Returns a clock that shows `begin` now and advances with the runtime's clock, paused or not.
    /// Needs a runtime.
    pub fn simulated(begin: Timestamp) -> Clock {
        Clock(Some(Simulated {
            begin,
            origin: Instant::now(),
        }))
    }

    /// Returns a simulated clock that is ahead of this one by `by`, or behind it when `by` is
    /// negative. The machine's clock is returned unchanged.
    pub fn skewed(&self, by: SignedDuration) -> Clock {
        Clock(self.0.as_ref().map(|simulated| Simulated {
            begin: saturating_add(simulated.begin, by),
            origin: simulated.origin,
        }))
    }

    /// Returns the time of day.
    pub fn now(&self) -> Timestamp {
        match &self.0 {
            None => Timestamp::now(),
            Some(simulated) => {
                let passed = SignedDuration::try_from(simulated.origin.elapsed());
                saturating_add(simulated.begin, passed.unwrap_or(SignedDuration::MAX))
            }
        }
    }

    /// Returns at `at` or earlier, after at most 60 s; the caller must check the time and wait
    /// again. Never returns when `at` is `None`.
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

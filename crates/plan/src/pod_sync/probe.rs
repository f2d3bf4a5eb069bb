//! Combines results of single probe runs.

use jiff::{SignedDuration, Timestamp};

use super::pod::Probe;

/// Consecutive results, and the combined result.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    last: Option<bool>,
    run: i64,
    verdict: Option<bool>,
}

impl Tally {
    /// Counts one result. Returns the combined result if this run reaches or confirms it.
    pub fn record(&mut self, probe: &Probe, success: bool) -> Option<bool> {
        if self.last == Some(success) {
            self.run = self.run.saturating_add(1);
        } else {
            self.last = Some(success);
            self.run = 1;
        }
        let threshold = if success {
            probe.success_threshold
        } else {
            probe.failure_threshold
        };
        if self.run < threshold.max(1) {
            return None;
        }
        self.verdict = Some(success);
        self.verdict
    }

    /// The combined result so far.
    pub fn verdict(&self) -> Option<bool> {
        self.verdict
    }
}

/// When a probe of a container that was started at `started` runs next. `last` is its last run.
pub fn next_run(probe: &Probe, started: Timestamp, last: Option<Timestamp>) -> Timestamp {
    let first = later(started, probe.initial_delay_seconds.max(0));
    match last {
        None => first,
        Some(last) => later(last, probe.period_seconds.max(1)).max(first),
    }
}

fn later(from: Timestamp, seconds: i64) -> Timestamp {
    from.saturating_add(SignedDuration::from_secs(seconds))
        .unwrap_or(Timestamp::MAX)
}

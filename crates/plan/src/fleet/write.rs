//! Writes that the watch has not shown yet, and backoff after failures.

use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};

/// An issued write. Until the watch shows its effect, the index counts it as done, so that a late
/// cache causes no second request.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(super) struct Write {
    /// When it was issued.
    pub(super) issued: Timestamp,
    /// The set's generation then.
    pub(super) generation: i64,
    /// Its progress.
    pub(super) state: WriteState,
}

#[derive(Clone, Copy, PartialEq, Debug)]
pub(super) enum WriteState {
    /// Not yet answered.
    InFlight,
    /// The answer was lost, so it is unknown whether it took effect. It counts as done until the
    /// object was read. If it had no effect, it is dropped, and requested again only if a new
    /// judgement needs it.
    Doubtful,
    /// Done at this revision; `None` if the answer has no resourceVersion.
    Written(Option<u64>),
}

/// How long a write with an unknown revision counts as done without being seen: the timeout of an
/// expectation in Kubernetes' controllers.
const LONGEST_UNSEEN: SignedDuration = SignedDuration::from_mins(5);

impl Write {
    pub(super) fn new(generation: i64, now: Timestamp) -> Write {
        Write {
            issued: now,
            generation,
            state: WriteState::InFlight,
        }
    }

    pub(super) fn is_in_flight(&self) -> bool {
        self.state == WriteState::InFlight
    }

    /// Returns whether a watch that has reached the revision `seen` must have shown its effect.
    pub(super) fn is_settled(&self, seen: u64, now: Timestamp) -> bool {
        match self.state {
            WriteState::InFlight | WriteState::Doubtful => false,
            WriteState::Written(Some(_)) => self.is_seen(seen),
            WriteState::Written(None) => self.gives_up_at() <= Some(now),
        }
    }

    /// Returns whether a watch that has reached the revision `seen` has shown its effect.
    pub(super) fn is_seen(&self, seen: u64) -> bool {
        matches!(self.state, WriteState::Written(Some(revision)) if revision <= seen)
    }

    /// When it no longer counts as done; `None` if a revision settles it.
    pub(super) fn gives_up_at(&self) -> Option<Timestamp> {
        match self.state {
            WriteState::Written(None) => self.issued.checked_add(LONGEST_UNSEEN).ok(),
            _ => None,
        }
    }
}

/// Exponential backoff after failures.
#[derive(Clone, Copy, PartialEq, Debug, Default)]
pub(super) struct Retry {
    failures: u32,
    not_before: Option<Timestamp>,
}

/// The delay after the first failure, as in Kubernetes' controllers.
const FIRST_RETRY: SignedDuration = SignedDuration::from_millis(5);

/// The longest delay. Kubernetes doubles up to 1000 s, but any event wakes it. One minute reacts
/// soon to a raised quota, and causes little load.
const LONGEST_RETRY: SignedDuration = SignedDuration::from_secs(60);

impl Retry {
    /// Records a failure. Failures during the backoff count as one: they were requested together.
    pub(super) fn failed(&mut self, now: Timestamp) {
        if self.is_waiting(now) {
            return;
        }
        let doubled = 2_i32
            .checked_pow(self.failures)
            .and_then(|factor| FIRST_RETRY.checked_mul(factor));
        self.wait(
            doubled.map_or(LONGEST_RETRY, |delay| delay.min(LONGEST_RETRY)),
            now,
        );
        self.failures = self.failures.saturating_add(1);
    }

    /// Waits for the longest delay: the refusal will last.
    pub(super) fn hold(&mut self, now: Timestamp) {
        self.wait(LONGEST_RETRY, now);
    }

    fn wait(&mut self, delay: SignedDuration, now: Timestamp) {
        self.not_before = now.checked_add(delay).ok();
    }

    /// Records a success, which ends the backoff unless a failure came with it.
    pub(super) fn succeeded(&mut self, now: Timestamp) {
        if !self.is_waiting(now) {
            *self = Retry::default();
        }
    }

    pub(super) fn is_waiting(&self, now: Timestamp) -> bool {
        self.not_before.is_some_and(|moment| moment > now)
    }

    /// The end of the backoff, if it is in the future.
    pub(super) fn ends_at(&self, now: Timestamp) -> Option<Timestamp> {
        self.not_before.filter(|moment| *moment > now)
    }
}

/// A refused request about a pair, not repeated before the backoff ends.
#[derive(Clone, PartialEq, Debug)]
pub(super) struct Refusal {
    pub(super) retry: Retry,
    /// The server's message.
    pub(super) why: Box<str>,
}

/// Backoff of the failed pods of one node.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(super) struct BackOff {
    generation: i64,
    delay: SignedDuration,
    since: Timestamp,
}

/// The delay after the first failed pod.
const FIRST_BACK_OFF: SignedDuration = SignedDuration::from_secs(1);

/// The longest delay between two failed pods of a node.
const LONGEST_BACK_OFF: SignedDuration = SignedDuration::from_mins(15);

/// After this long without a failed pod, the backoff starts from the beginning.
const FORGIVEN_AFTER: SignedDuration = SignedDuration::from_mins(30);

impl BackOff {
    /// The next backoff, when a failed pod is deleted: twice the last, unless that is long ago or
    /// belongs to another generation of the set.
    pub(super) fn next(last: Option<BackOff>, generation: i64, now: Timestamp) -> BackOff {
        let last = last.filter(|last| last.generation == generation && !last.is_forgiven(now));
        let doubled = |last: BackOff| last.delay.checked_mul(2).unwrap_or(LONGEST_BACK_OFF);
        let delay = last.map_or(FIRST_BACK_OFF, |last| doubled(last).min(LONGEST_BACK_OFF));
        BackOff {
            generation,
            delay,
            since: now,
        }
    }

    fn is_forgiven(&self, now: Timestamp) -> bool {
        now.duration_since(self.since) > FORGIVEN_AFTER
    }

    /// The end of the backoff; `None` if the set has changed since.
    pub(super) fn until(&self, generation: i64) -> Option<Timestamp> {
        (self.generation == generation)
            .then(|| self.since.checked_add(self.delay).ok())
            .flatten()
    }
}

/// A requested creation.
#[derive(Clone, PartialEq, Debug)]
pub(super) struct Creation {
    pub(super) name: Arc<str>,
    pub(super) write: Write,
    /// Whether the pod must be read: its name is taken, or the creation got no answer.
    pub(super) inspect: Inspect,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Inspect {
    No,
    Wanted,
    InFlight,
}

impl Inspect {
    /// Returns whether a read is wanted, and marks it as in flight.
    pub(super) fn begins(&mut self) -> bool {
        let wanted = *self == Inspect::Wanted;
        if wanted {
            *self = Inspect::InFlight;
        }
        wanted
    }
}

//! What was asked for and is not yet to be seen, and when to ask again.

use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};

/// A write that was given out. Until its effect is to be seen in the watch, the index counts it as done, so that
/// nothing is asked for twice because a cache is behind.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(super) struct Write {
    /// When it was given out.
    pub(super) issued: Timestamp,
    /// The set's generation then.
    pub(super) generation: i64,
    /// How far it is.
    pub(super) state: WriteState,
}

#[derive(Clone, Copy, PartialEq, Debug)]
pub(super) enum WriteState {
    /// Not yet answered.
    InFlight,
    /// Nobody knows whether it was done: the answer was lost. It counts as done until somebody has looked. If it was not, it is
    /// forgotten, and asked for again only if it is judged anew to be wanted.
    Doubtful,
    /// Done at this revision; `None` when the answer did not say which.
    Written(Option<u64>),
}

/// How long a write whose revision is not known is believed in without being seen, as long as Kubernetes'
/// controllers hold on to an expectation.
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

    /// Whether its effect must have been seen by a watch that has reached the revision `seen`.
    pub(super) fn is_settled(&self, seen: u64, now: Timestamp) -> bool {
        match self.state {
            WriteState::InFlight | WriteState::Doubtful => false,
            WriteState::Written(Some(_)) => self.is_seen(seen),
            WriteState::Written(None) => self.gives_up_at() <= Some(now),
        }
    }

    /// Whether a watch that has reached the revision `seen` has shown its effect.
    pub(super) fn is_seen(&self, seen: u64) -> bool {
        matches!(self.state, WriteState::Written(Some(revision)) if revision <= seen)
    }

    /// When it is no longer believed in; `None` for one that a revision settles.
    pub(super) fn gives_up_at(&self) -> Option<Timestamp> {
        match self.state {
            WriteState::Written(None) => self.issued.checked_add(LONGEST_UNSEEN).ok(),
            _ => None,
        }
    }
}

/// When to try again after failures: doubling delays.
#[derive(Clone, Copy, PartialEq, Debug, Default)]
pub(super) struct Retry {
    failures: u32,
    not_before: Option<Timestamp>,
}

/// The delay after the first failure, as Kubernetes' controllers have it.
const FIRST_RETRY: SignedDuration = SignedDuration::from_millis(5);

/// The longest delay. Kubernetes goes on doubling to 1000 s, but is woken by any event; a minute is soon enough for a
/// quota that was raised, and no load.
const LONGEST_RETRY: SignedDuration = SignedDuration::from_secs(60);

impl Retry {
    /// Notes a failure. Those that come together count as one: they were asked for together.
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

    /// Waits as long as after many failures: what was refused will be refused for a while.
    pub(super) fn hold(&mut self, now: Timestamp) {
        self.wait(LONGEST_RETRY, now);
    }

    fn wait(&mut self, delay: SignedDuration, now: Timestamp) {
        self.not_before = now.checked_add(delay).ok();
    }

    /// Notes a success: unless a failure came with it, all is well again.
    pub(super) fn succeeded(&mut self, now: Timestamp) {
        if !self.is_waiting(now) {
            *self = Retry::default();
        }
    }

    pub(super) fn is_waiting(&self, now: Timestamp) -> bool {
        self.not_before.is_some_and(|moment| moment > now)
    }

    /// When the waiting ends, if it has not.
    pub(super) fn ends_at(&self, now: Timestamp) -> Option<Timestamp> {
        self.not_before.filter(|moment| *moment > now)
    }
}

/// A request about a pair was refused: it is not repeated before its time.
#[derive(Clone, PartialEq, Debug)]
pub(super) struct Refusal {
    pub(super) retry: Retry,
    /// In the server's words.
    pub(super) why: Box<str>,
}

/// How long failed pods of one node are left alone.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(super) struct BackOff {
    generation: i64,
    delay: SignedDuration,
    since: Timestamp,
}

/// The delay after the first failed pod.
const FIRST_BACK_OFF: SignedDuration = SignedDuration::from_secs(1);

/// The longest delay between two failed pods.
const LONGEST_BACK_OFF: SignedDuration = SignedDuration::from_mins(15);

/// After this long without a failed pod all is forgotten.
const FORGIVEN_AFTER: SignedDuration = SignedDuration::from_mins(30);

impl BackOff {
    /// The next one, when a failed pod is deleted: twice the last, unless that was long ago or about another
    /// generation of the set.
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

    /// Until when failed pods are left alone; `None` when the set has changed since.
    pub(super) fn until(&self, generation: i64) -> Option<Timestamp> {
        (self.generation == generation)
            .then(|| self.since.checked_add(self.delay).ok())
            .flatten()
    }
}

/// A pod that was asked for.
#[derive(Clone, PartialEq, Debug)]
pub(super) struct Creation {
    pub(super) name: Arc<str>,
    pub(super) write: Write,
    /// The name is taken, or nobody knows whether it was created: whose pod has the name, if any, is being looked at.
    pub(super) inspect: Inspect,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Inspect {
    No,
    Wanted,
    InFlight,
}

impl Inspect {
    /// Whether it is wanted; from now on it is under way.
    pub(super) fn begins(&mut self) -> bool {
        let wanted = *self == Inspect::Wanted;
        if wanted {
            *self = Inspect::InFlight;
        }
        wanted
    }
}

//! Limits how many missing pods may be requested, and which: slow start, and backoff after
//! refusals.

use std::collections::BTreeSet;

use jiff::Timestamp;

use super::write::Retry;
use crate::daemonset::NodeName;

/// Limits the creations of one set.
///
/// It starts with one creation, and doubles the number with each successful round, so a quota or a
/// bad template costs a few refusals and not thousands. After a refusal, the nodes without a pod
/// back off, longer with each refusal in a row. A node that needs a pod only later is tried at
/// once, because the refusal often does not apply to it.
#[derive(Clone, Debug)]
pub(super) struct Gate {
    /// Most creations in flight now.
    window: usize,
    /// Upper bound of the window.
    burst: usize,
    in_flight: usize,
    retry: Retry,
    /// No creation is allowed before [`Gate::retry`] permits it: the namespace is terminating.
    closed: bool,
    /// Nodes that need a pod only since the last refusal.
    fresh: BTreeSet<NodeName>,
}

impl Gate {
    pub(super) fn new(burst: usize) -> Gate {
        Gate {
            window: 1,
            burst: burst.max(1),
            in_flight: 0,
            retry: Retry::default(),
            closed: false,
            fresh: BTreeSet::new(),
        }
    }

    /// A node needs a pod now.
    pub(super) fn needed(&mut self, node: &NodeName) {
        self.fresh.insert(node.clone());
    }

    /// A node no longer needs a pod, or its creation was requested.
    pub(super) fn not_needed(&mut self, node: &NodeName) {
        self.fresh.remove(node);
    }

    /// Nothing is missing: the next creations start slowly again.
    pub(super) fn rest(&mut self) {
        if self.in_flight == 0 {
            self.window = 1;
        }
    }

    /// The next node without a pod, by name; `None` if no creation is allowed now.
    pub(super) fn next(&self, missing: &BTreeSet<NodeName>, now: Timestamp) -> Option<NodeName> {
        if !self.has_room() || self.is_closed(now) {
            return None;
        }
        match self.retry.is_waiting(now) {
            false => missing.first().cloned(),
            true => self.fresh.first().cloned(),
        }
    }

    /// Returns whether a second pod may be created beside an existing one, in a surge.
    pub(super) fn admits_surge(&self, now: Timestamp) -> bool {
        self.has_room() && !self.retry.is_waiting(now)
    }

    fn has_room(&self) -> bool {
        self.in_flight < self.window
    }

    fn is_closed(&self, now: Timestamp) -> bool {
        self.closed && self.retry.is_waiting(now)
    }

    /// A creation was requested.
    pub(super) fn asked(&mut self) {
        self.in_flight += 1;
    }

    /// An answer came, of any kind.
    pub(super) fn answered(&mut self) {
        self.in_flight = self.in_flight.saturating_sub(1);
    }

    /// A creation succeeded: one more may be in flight, which doubles their number each round.
    pub(super) fn granted(&mut self, now: Timestamp) {
        self.window = (self.window + 1).min(self.burst);
        self.retry.succeeded(now);
    }

    /// A creation was refused.
    pub(super) fn refused(&mut self, now: Timestamp) {
        self.window = 1;
        self.closed = false;
        self.fresh.clear();
        self.retry.failed(now);
    }

    /// A creation was refused because the namespace is terminating: the longest backoff applies.
    pub(super) fn close(&mut self, now: Timestamp) {
        self.window = 1;
        self.closed = true;
        self.retry.hold(now);
    }

    /// The set was changed, so requests that were refused may succeed now.
    pub(super) fn reopen(&mut self) {
        self.retry = Retry::default();
        self.closed = false;
    }

    /// When more creations are allowed, if a refusal delays them.
    pub(super) fn opens_at(&self, now: Timestamp) -> Option<Timestamp> {
        self.retry.ends_at(now)
    }
}

#[cfg(test)]
mod tests {
    use jiff::SignedDuration;

    use super::*;

    fn now() -> Timestamp {
        "2026-01-01T00:00:00Z".parse().unwrap()
    }

    fn names(names: &[&str]) -> BTreeSet<NodeName> {
        names.iter().map(|name| NodeName::from(*name)).collect()
    }

    #[test]
    fn creations_double_each_good_round_up_to_the_burst() {
        let (mut gate, missing) = (Gate::new(20), names(&["a"]));
        let mut rounds = Vec::new();
        for _ in 0..7 {
            let mut round = 0;
            while gate.next(&missing, now()).is_some() {
                gate.asked();
                round += 1;
            }
            for _ in 0..round {
                gate.answered();
                gate.granted(now());
            }
            rounds.push(round);
        }
        assert_eq!(rounds, [1, 2, 4, 8, 16, 20, 20]);
    }

    #[test]
    fn gate_tries_only_new_nodes_during_backoff() {
        let mut gate = Gate::new(250);
        gate.needed(&"a".into());
        gate.needed(&"b".into());
        gate.refused(now());
        assert_eq!(gate.next(&names(&["a", "b"]), now()), None);
        gate.needed(&"z".into());
        assert_eq!(gate.next(&names(&["a", "b", "z"]), now()), Some("z".into()));
        let later = now() + SignedDuration::from_millis(5);
        assert_eq!(gate.opens_at(now()), Some(later));
        assert_eq!(gate.next(&names(&["a", "b", "z"]), later), Some("a".into()));
    }

    #[test]
    fn closed_gate_admits_nothing_until_reopened() {
        let mut gate = Gate::new(250);
        gate.close(now());
        gate.needed(&"z".into());
        assert_eq!(gate.next(&names(&["z"]), now()), None);
        gate.reopen();
        assert_eq!(gate.next(&names(&["z"]), now()), Some("z".into()));
    }
}

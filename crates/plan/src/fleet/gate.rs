//! How many of the missing pods may be asked for, and which: slow start, and patience after refusals.

use std::collections::BTreeSet;

use jiff::Timestamp;

use super::write::Retry;
use crate::daemonset::NodeName;

/// The gate through which the creations of one set go.
///
/// A first one, then twice as many with each round that goes well, so that a quota or a bad template costs a few
/// refusals and not thousands. After a refusal the nodes that waited then wait for a while, the longer the more
/// refusals there were in a row; but a node that comes to need a pod only afterwards is tried at once: what was refused
/// to the others is often none of its business.
#[derive(Clone, Debug)]
pub(super) struct Gate {
    /// How many may be in flight.
    window: usize,
    /// How far the window may grow.
    burst: usize,
    in_flight: usize,
    retry: Retry,
    /// Nothing may pass before [`Gate::retry`] says so: the namespace is on its way out.
    closed: bool,
    /// Nodes that came to need a pod after the last refusal.
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

    /// A node came to need a pod.
    pub(super) fn needed(&mut self, node: &NodeName) {
        self.fresh.insert(node.clone());
    }

    /// A node needs none any more, or it was asked for.
    pub(super) fn not_needed(&mut self, node: &NodeName) {
        self.fresh.remove(node);
    }

    /// Nothing is missing: the next creations start slowly again.
    pub(super) fn rest(&mut self) {
        if self.in_flight == 0 {
            self.window = 1;
        }
    }

    /// The next of the nodes that lack a pod, by name; `None` when no more may be asked for now.
    pub(super) fn next(&self, missing: &BTreeSet<NodeName>, now: Timestamp) -> Option<NodeName> {
        if !self.has_room() || self.is_closed(now) {
            return None;
        }
        match self.retry.is_waiting(now) {
            false => missing.first().cloned(),
            true => self.fresh.first().cloned(),
        }
    }

    /// Whether a pod may be asked for beside one that is there, as a surge does.
    pub(super) fn admits_surge(&self, now: Timestamp) -> bool {
        self.has_room() && !self.retry.is_waiting(now)
    }

    fn has_room(&self) -> bool {
        self.in_flight < self.window
    }

    fn is_closed(&self, now: Timestamp) -> bool {
        self.closed && self.retry.is_waiting(now)
    }

    /// A pod was asked for.
    pub(super) fn asked(&mut self) {
        self.in_flight += 1;
    }

    /// An answer came, of whatever kind.
    pub(super) fn answered(&mut self) {
        self.in_flight = self.in_flight.saturating_sub(1);
    }

    /// A creation went well: one more may be in flight, which doubles their number a round.
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

    /// Creations were refused because the namespace is being deleted: nothing more is tried for long.
    pub(super) fn close(&mut self, now: Timestamp) {
        self.window = 1;
        self.closed = true;
        self.retry.hold(now);
    }

    /// The set was changed: what was refused before may be granted now.
    pub(super) fn reopen(&mut self) {
        self.retry = Retry::default();
        self.closed = false;
    }

    /// When more may pass, if a refusal holds something back.
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
    fn rounds_that_go_well_double_up_to_the_burst() {
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
    fn after_a_refusal_only_nodes_that_were_not_waiting_then_are_tried_before_its_time() {
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
    fn a_closed_gate_lets_nothing_through_until_it_is_opened_again() {
        let mut gate = Gate::new(250);
        gate.close(now());
        gate.needed(&"z".into());
        assert_eq!(gate.next(&names(&["z"]), now()), None);
        gate.reopen();
        assert_eq!(gate.next(&names(&["z"]), now()), Some("z".into()));
    }
}

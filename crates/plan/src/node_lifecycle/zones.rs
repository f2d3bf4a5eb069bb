//! How fast nodes that are not ready are given up.
//!
//! Nodes fail one by one, and networks by zones. Each zone (region and zone of the node's labels) gives its nodes their NoExecute taint
//! in the order in which they turned not ready, at a rate of its own: the normal one while most of the zone is well; a slow one, or none in
//! a small zone, while much of it is down; the normal one again when all of it is down, since then the zone is gone and the others can
//! take over. When every node of every zone is down there is nobody to take over, and the fault is probably on this side: nothing is
//! driven out any more, and what has not gone yet may stay.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use api::view::NodeView;
use jiff::Timestamp;

use super::Limits;

/// A node with this label does not count in the health of its zone.
const EXCLUDED: &str = "node.kubernetes.io/exclude-disruption";

/// Fewer nodes than this are not much of a zone, whatever their share.
const MUCH_AT_LEAST: usize = 3;

/// The zone of a node, and whether it counts there as ready; `None` when it does not count.
pub(super) fn membership(node: &NodeView) -> (Arc<str>, Option<bool>) {
    let labels = &node.meta.labels;
    let label = |names: [&str; 2]| names.iter().find_map(|name| labels.get(name)).unwrap_or_default();
    let region = label([
        "topology.kubernetes.io/region",
        "failure-domain.beta.kubernetes.io/region",
    ]);
    let zone = label([
        "topology.kubernetes.io/zone",
        "failure-domain.beta.kubernetes.io/zone",
    ]);
    // Neither may hold a NUL.
    let key = match (region, zone) {
        ("", "") => "".into(),
        (region, zone) => format!("{region}\0{zone}").into(),
    };
    (key, labels.get(EXCLUDED).is_none().then(|| node.is_ready()))
}

/// What changed for all nodes.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Turn {
    /// Nothing.
    None,
    /// Every node is down: no pod is driven out for it any more.
    Halted,
    /// Some node is well again.
    Resumed,
}

/// All zones that have nodes.
pub(super) struct Zones {
    limits: Limits,
    zones: BTreeMap<Arc<str>, Zone>,
    halted: bool,
    changed: bool,
}

struct Zone {
    members: usize,
    ready: usize,
    unready: usize,
    /// Nodes a second; 0 is never.
    rate: f64,
    /// When the next may have its turn.
    next: Timestamp,
    queue: BTreeSet<(Timestamp, Arc<str>)>,
}

impl Zones {
    pub(super) fn new(limits: Limits) -> Zones {
        Zones {
            limits,
            zones: BTreeMap::new(),
            halted: false,
            changed: false,
        }
    }

    pub(super) fn halted(&self) -> bool {
        self.halted
    }

    pub(super) fn join(&mut self, zone: &Arc<str>, counts: Option<bool>) {
        let rate = if self.halted {
            0.0
        } else {
            self.limits.eviction_rate
        };
        let zone = self.zones.entry(zone.clone()).or_insert_with(|| Zone {
            members: 0,
            ready: 0,
            unready: 0,
            rate,
            next: Timestamp::MIN,
            queue: BTreeSet::new(),
        });
        zone.members += 1;
        match counts {
            Some(true) => zone.ready += 1,
            Some(false) => zone.unready += 1,
            None => {}
        }
        self.changed = true;
    }

    pub(super) fn leave(&mut self, zone: &Arc<str>, counts: Option<bool>) {
        let Some(known) = self.zones.get_mut(zone) else {
            return;
        };
        known.members = known.members.saturating_sub(1);
        match counts {
            Some(true) => known.ready = known.ready.saturating_sub(1),
            Some(false) => known.unready = known.unready.saturating_sub(1),
            None => {}
        }
        if known.members == 0 {
            self.zones.remove(zone);
        }
        self.changed = true;
    }

    pub(super) fn enqueue(&mut self, zone: &Arc<str>, node: &Arc<str>, since: Timestamp) {
        if let Some(zone) = self.zones.get_mut(zone) {
            zone.queue.insert((since, node.clone()));
        }
    }

    pub(super) fn dequeue(&mut self, zone: &Arc<str>, node: &Arc<str>, since: Timestamp) {
        if let Some(zone) = self.zones.get_mut(zone) {
            zone.queue.remove(&(since, node.clone()));
        }
    }

    /// Looks at the health of the zones, if it changed, and sets their rates.
    pub(super) fn judge(&mut self, now: Timestamp) -> Turn {
        if !std::mem::take(&mut self.changed) {
            return Turn::None;
        }
        let mut counting = self
            .zones
            .values()
            .filter(|zone| zone.ready + zone.unready > 0)
            .peekable();
        let all_down = counting.peek().is_some() && counting.all(|zone| zone.ready == 0);
        let turn = match (self.halted, all_down) {
            (false, true) => Turn::Halted,
            (true, false) => Turn::Resumed,
            _ => Turn::None,
        };
        self.halted = all_down;
        for zone in self.zones.values_mut() {
            let rate = if all_down {
                0.0
            } else {
                zone.fitting_rate(&self.limits)
            };
            zone.set_rate(rate, now);
        }
        turn
    }

    /// The nodes whose turn it is now.
    pub(super) fn turns(&mut self, now: Timestamp) -> Vec<Arc<str>> {
        self.zones
            .values_mut()
            .filter_map(|zone| zone.turn(now))
            .collect()
    }

    /// The node of this zone whose turn it is now.
    pub(super) fn turn(&mut self, zone: &Arc<str>, now: Timestamp) -> Option<Arc<str>> {
        self.zones.get_mut(zone)?.turn(now)
    }

    /// When the next turn comes.
    pub(super) fn next(&self) -> Option<Timestamp> {
        let waiting = |zone: &&Zone| zone.rate > 0.0 && !zone.queue.is_empty();
        self.zones.values().filter(waiting).map(|zone| zone.next).min()
    }
}

impl Zone {
    fn fitting_rate(&self, limits: &Limits) -> f64 {
        let all = self.ready + self.unready;
        let much = self.unready >= MUCH_AT_LEAST && self.unready as f64 / all as f64 >= limits.unhealthy_zone;
        match (much, self.ready) {
            (false, _) | (true, 0) => limits.eviction_rate,
            (true, _) if all > limits.large_zone => limits.secondary_eviction_rate,
            (true, _) => 0.0,
        }
    }

    /// A rate that changes does not give a turn away: who waited for one waits on, for as long as the new rate says.
    fn set_rate(&mut self, rate: f64, now: Timestamp) {
        if rate == self.rate {
            return;
        }
        let waits = self.rate == 0.0 || self.next > now;
        self.rate = rate;
        if waits && let Some(interval) = self.interval() {
            self.next = now.checked_add(interval).unwrap_or(Timestamp::MAX);
        }
    }

    fn turn(&mut self, now: Timestamp) -> Option<Arc<str>> {
        let interval = self.interval().filter(|_| self.next <= now)?;
        let (_, node) = self.queue.pop_first()?;
        self.next = now.checked_add(interval).unwrap_or(Timestamp::MAX);
        Some(node)
    }

    fn interval(&self) -> Option<Duration> {
        (self.rate > 0.0).then(|| Duration::try_from_secs_f64(1.0 / self.rate).unwrap_or(Duration::MAX))
    }
}

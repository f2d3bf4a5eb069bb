//! Limits the rate at which nodes get NoExecute taints.
//!
//! Nodes fail one by one, but networks fail by zone. Each zone (region and zone labels of the
//! nodes) has its own queue and rate. The rate is normal while most of the zone is ready. If the
//! zone is mostly down, a large zone has a slow rate and a small one none. If a whole zone is down,
//! the rate is normal again, because other zones can take over. If all nodes of all zones are down,
//! the fault is probably on this side: no pod is evicted any more, and planned evictions are
//! cancelled.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use api::view::NodeView;
use jiff::Timestamp;

use super::Limits;

/// Nodes with this label do not count in the health of their zone.
const EXCLUDED: &str = "node.kubernetes.io/exclude-disruption";

/// A zone with fewer unready nodes than this is not mostly down, whatever their share.
const MUCH_AT_LEAST: usize = 3;

/// The zone of a node, and whether it is ready; `None` if it does not count.
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
    // Labels cannot contain a NUL.
    let key = match (region, zone) {
        ("", "") => "".into(),
        (region, zone) => format!("{region}\0{zone}").into(),
    };
    (key, labels.get(EXCLUDED).is_none().then(|| node.is_ready()))
}

/// Change for all nodes.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Turn {
    /// Nothing.
    None,
    /// All nodes are down: no pod is evicted for it.
    Halted,
    /// Some node is ready again.
    Resumed,
}

/// All zones with nodes.
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
    /// Nodes per second; 0 is never.
    rate: f64,
    /// When the next node may get the taint.
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

    /// Sets the rates if the health of the zones changed.
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

    /// Takes the nodes that may get the taint now.
    pub(super) fn turns(&mut self, now: Timestamp) -> Vec<Arc<str>> {
        self.zones
            .values_mut()
            .filter_map(|zone| zone.turn(now))
            .collect()
    }

    /// Takes the node of this zone that may get the taint now.
    pub(super) fn turn(&mut self, zone: &Arc<str>, now: Timestamp) -> Option<Arc<str>> {
        self.zones.get_mut(zone)?.turn(now)
    }

    /// When the next node may get the taint.
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

    /// Changes the rate. A node that waits keeps waiting, for the interval of the new rate.
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

//! Decides when a NoExecute taint evicts a pod.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::time::Duration;

use api::taint::{Effect, Taint, Toleration};
use jiff::Timestamp;

use crate::scheduling::PodKey;

/// When a pod with these tolerations must leave a node with these taints; `None` is never.
///
/// One untolerated taint evicts now. Otherwise each taint counts with the first toleration that
/// matches, and the shortest `tolerationSeconds` decides; without any it is never. The time starts
/// at the taint's `timeAdded`.
pub(super) fn when(taints: &[Taint], tolerations: &[Toleration], now: Timestamp) -> Option<Timestamp> {
    let mut earliest: Option<Timestamp> = None;
    for taint in taints.iter().filter(|t| t.effect == Effect::NoExecute) {
        let Some(toleration) = tolerations.iter().find(|t| t.tolerates(taint)) else {
            return Some(now);
        };
        let Some(seconds) = toleration.toleration_seconds else {
            continue;
        };
        let from = taint.time_added.unwrap_or(now);
        let tolerated = Duration::from_secs(u64::try_from(seconds).unwrap_or(0));
        let leaves = from.checked_add(tolerated).unwrap_or(Timestamp::MAX);
        earliest = Some(earliest.map_or(leaves, |e| e.min(leaves)));
    }
    earliest
}

/// Evictions that are planned or in flight.
#[derive(Default)]
pub(super) struct Evictions {
    due: BTreeSet<(Timestamp, PodKey)>,
    of: HashMap<PodKey, Timestamp>,
    /// In flight until the pod is seen terminating, or the eviction failed.
    begun: HashSet<PodKey>,
}

impl Evictions {
    pub(super) fn holds(&self, pod: &PodKey) -> bool {
        self.of.contains_key(pod)
    }

    pub(super) fn next(&self) -> Option<Timestamp> {
        self.due.first().map(|(at, _)| *at)
    }

    /// Plans an eviction. A later time does not replace an earlier one, so a second taint never
    /// prolongs a pod's stay.
    pub(super) fn at(&mut self, pod: &PodKey, at: Timestamp) {
        if self.begun.contains(pod) || self.of.get(pod).is_some_and(|known| *known <= at) {
            return;
        }
        self.forget(pod);
        self.due.insert((at, pod.clone()));
        self.of.insert(pod.clone(), at);
    }

    /// Begins an eviction now; false if it has begun already.
    pub(super) fn begin(&mut self, pod: &PodKey) -> bool {
        if self.begun.contains(pod) {
            return false;
        }
        self.forget(pod);
        self.begun.insert(pod.clone())
    }

    /// Removes an eviction, and returns whether it was planned.
    pub(super) fn forget(&mut self, pod: &PodKey) -> bool {
        self.begun.remove(pod);
        let Some(at) = self.of.remove(pod) else {
            return false;
        };
        self.due.remove(&(at, pod.clone()))
    }

    pub(super) fn due(&mut self, now: Timestamp, limit: usize) -> Vec<PodKey> {
        let mut pods = Vec::new();
        while pods.len() < limit && self.due.first().is_some_and(|(at, _)| *at <= now) {
            if let Some((_, pod)) = self.due.pop_first() {
                self.of.remove(&pod);
                self.begun.insert(pod.clone());
                pods.push(pod);
            }
        }
        pods
    }
}

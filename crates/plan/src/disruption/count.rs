//! Counts the pods of a budget.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use api::view::{OwnerView, PodView};

/// Sums over the pods of a budget, updated with each pod.
#[derive(Default)]
pub(super) struct Count {
    /// All pods.
    pub(super) pods: usize,
    /// Ready pods that do not terminate.
    pub(super) healthy: usize,
    /// Pods without a controller.
    pub(super) unmanaged: usize,
    /// Names of the other pods, by their controller's uid.
    controlled: BTreeMap<Arc<str>, BTreeSet<Arc<str>>>,
}

/// Returns whether a pod is ready and does not terminate.
pub(super) fn is_healthy(pod: &PodView) -> bool {
    pod.ready.status && !pod.is_terminating()
}

impl Count {
    pub(super) fn of<'a>(pods: impl Iterator<Item = &'a Arc<PodView>>) -> Count {
        let mut count = Count::default();
        pods.for_each(|pod| count.add(pod));
        count
    }

    /// Returns whether both pods count the same.
    pub(super) fn is_same(one: &PodView, other: &PodView) -> bool {
        let controller = |pod: &PodView| pod.meta.controller().map(|owner| owner.uid.clone());
        is_healthy(one) == is_healthy(other)
            && one.is_terminating() == other.is_terminating()
            && controller(one) == controller(other)
    }

    pub(super) fn add(&mut self, pod: &PodView) {
        self.pods += 1;
        self.healthy += usize::from(is_healthy(pod));
        match pod.meta.controller() {
            None => self.unmanaged += 1,
            Some(OwnerView { uid, .. }) => {
                let names = self.controlled.entry(uid.clone()).or_default();
                names.insert(pod.meta.name.clone());
            }
        }
    }

    pub(super) fn remove(&mut self, pod: &PodView) {
        self.pods = self.pods.saturating_sub(1);
        self.healthy = self.healthy.saturating_sub(usize::from(is_healthy(pod)));
        match pod.meta.controller() {
            None => self.unmanaged = self.unmanaged.saturating_sub(1),
            Some(OwnerView { uid, .. }) => {
                if let Some(names) = self.controlled.get_mut(uid) {
                    names.remove(&pod.meta.name);
                    if names.is_empty() {
                        self.controlled.remove(uid);
                    }
                }
            }
        }
    }

    pub(super) fn has_controller(&self, uid: &str) -> bool {
        self.controlled.contains_key(uid)
    }

    /// The number of pods that all controllers together want; `Err` names a pod whose controller is
    /// not in `sets`.
    pub(super) fn expected(&self, sets: &HashMap<Arc<str>, i32>) -> Result<i32, String> {
        self.controlled.iter().try_fold(0_i32, |sum, (uid, names)| {
            let unknown = || {
                format!(
                    "found no controllers for pod {:?}",
                    names.first().map_or("", |n| n)
                )
            };
            let wanted = sets.get(uid).ok_or_else(unknown)?;
            Ok(sum.saturating_add(*wanted))
        })
    }
}

//! What a budget counts of its pods.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use api::view::{OwnerView, PodView};

/// Sums over the pods of a budget, kept as they come and go.
#[derive(Default)]
pub(super) struct Count {
    /// All of them.
    pub(super) pods: usize,
    /// Those that are ready and stay.
    pub(super) healthy: usize,
    /// Those without a controller.
    pub(super) unmanaged: usize,
    /// The names of the others, by their controller's uid.
    controlled: BTreeMap<Arc<str>, BTreeSet<Arc<str>>>,
}

/// Whether a pod does its work and will go on doing it.
pub(super) fn is_healthy(pod: &PodView) -> bool {
    pod.ready.status && !pod.is_terminating()
}

impl Count {
    pub(super) fn of<'a>(pods: impl Iterator<Item = &'a Arc<PodView>>) -> Count {
        let mut count = Count::default();
        pods.for_each(|pod| count.add(pod));
        count
    }

    /// Whether both count alike.
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

    /// How many pods the controllers want in sum; `Err` names a pod whose controller is not one of `sets`.
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

//! One DaemonSet on one node.

use std::sync::Arc;

use api::view::PodView;
use jiff::Timestamp;

use super::write::{BackOff, Creation, Inspect, Refusal, Retry, Write};
use crate::daemonset::{self, DeleteReason, Facts, Fit, Held, Judgement, Lineage, Rules, Trouble};

/// State of a set on a node, and its last judgement.
#[derive(Clone, Debug, Default)]
pub(super) struct Pair {
    /// Whether the set belongs there; `None` if the node does not exist.
    pub(super) fit: Option<Fit>,
    /// Whether the node is not ready or unreachable.
    pub(super) trouble: Option<Trouble>,
    /// The set's pods there, including terminated ones.
    pub(super) pods: Vec<(Arc<PodView>, Held)>,
    /// The last judgement, which the set's tallies contain.
    pub(super) judgement: Judgement,
    /// Requested writes. Most pairs have none.
    pub(super) writes: Option<Box<Writes>>,
    /// Backoff after failed pods.
    pub(super) back_off: Option<Box<BackOff>>,
    /// The refusal of the last request about the pair.
    pub(super) refusal: Option<Box<Refusal>>,
    /// The youngest pods that the set has had there.
    pub(super) lineage: Lineage,
    /// Raised if another owner's pod has the next pod's name.
    pub(super) salt: u32,
}

/// Writes of a pair that the watch has not shown yet.
#[derive(Clone, Debug, Default)]
pub(super) struct Writes {
    pub(super) creation: Option<Creation>,
    pub(super) deletions: Vec<Deletion>,
}

/// A pod whose deletion was requested.
#[derive(Clone, Debug)]
pub(super) struct Deletion {
    /// The pod's uid.
    pub(super) uid: Arc<str>,
    pub(super) name: Arc<str>,
    pub(super) write: Write,
    /// Whether the pod must be read, because the deletion got no answer.
    pub(super) inspect: Inspect,
}

impl Pair {
    /// Adds a pod, or replaces its older state.
    pub(super) fn attach(&mut self, pod: Arc<PodView>, ours: bool) {
        let deleted = self
            .deletions()
            .iter()
            .any(|deletion| deletion.uid == pod.meta.uid);
        let held = match (ours, deleted) {
            (_, true) => Held::Going,
            (true, false) => Held::Ours,
            (false, false) => Held::NotYetOurs,
        };
        if self.lineage.extend(pod.meta.creation_timestamp, &pod.meta.uid) {
            self.salt = 0;
        }
        match self
            .pods
            .iter_mut()
            .find(|(present, _)| present.meta.uid == pod.meta.uid)
        {
            Some(present) => *present = (pod, held),
            None => self.pods.push((pod, held)),
        }
    }

    pub(super) fn detach(&mut self, uid: &str) {
        self.pods.retain(|(pod, _)| *pod.meta.uid != *uid);
    }

    pub(super) fn deletions(&self) -> &[Deletion] {
        self.writes.as_ref().map_or(&[], |writes| &writes.deletions)
    }

    pub(super) fn creation(&self) -> Option<&Creation> {
        self.writes.as_ref()?.creation.as_ref()
    }

    /// The requested creation, if it is of the pod with this name.
    pub(super) fn creation_of(&mut self, name: &str) -> Option<&mut Creation> {
        self.writes
            .as_mut()?
            .creation
            .as_mut()
            .filter(|creation| *creation.name == *name)
    }

    pub(super) fn deletion_of(&mut self, uid: &str) -> Option<&mut Deletion> {
        let deletions = &mut self.writes.as_mut()?.deletions;
        deletions.iter_mut().find(|deletion| *deletion.uid == *uid)
    }

    /// Removes the record of a pod's deletion.
    pub(super) fn forget_deletion(&mut self, uid: &str) -> Option<Write> {
        let deletions = &mut self.writes.as_mut()?.deletions;
        let at = deletions.iter().position(|deletion| *deletion.uid == *uid)?;
        Some(deletions.remove(at).write)
    }

    pub(super) fn writes_mut(&mut self) -> &mut Writes {
        self.writes.get_or_insert_default()
    }

    /// Returns whether the pair holds no state.
    pub(super) fn is_empty(&self) -> bool {
        self.fit.is_none() && self.pods.is_empty() && self.writes.is_none()
    }

    /// Removes the writes whose effect was seen or must have been seen, and returns them.
    pub(super) fn settle(&mut self, seen: u64, now: Timestamp) -> Vec<Write> {
        let mut settled = Vec::new();
        let Some(writes) = &mut self.writes else {
            return settled;
        };
        let pods = &self.pods;
        if let Some(creation) = &writes.creation {
            let visible = pods.iter().any(|(pod, _)| pod.meta.name == creation.name);
            let answered = !creation.write.is_in_flight() && creation.inspect != Inspect::InFlight;
            if answered && (visible || creation.write.is_settled(seen, now)) {
                settled.push(creation.write);
                writes.creation = None;
            }
        }
        writes.deletions.retain(|Deletion { uid, write, .. }| {
            let staying = pods
                .iter()
                .any(|(pod, _)| pod.meta.uid == *uid && !pod.is_terminating());
            let done = !write.is_in_flight() && (!staying || write.is_settled(seen, now));
            if done {
                settled.push(*write);
            }
            !done
        });
        if writes.creation.is_none() && writes.deletions.is_empty() {
            self.writes = None;
        }
        for (pod, held) in &mut self.pods {
            let deleted = self.writes.as_ref().is_some_and(|writes| {
                writes
                    .deletions
                    .iter()
                    .any(|deletion| deletion.uid == pod.meta.uid)
            });
            if *held == Held::Going && !deleted {
                *held = Held::Ours;
            }
        }
        settled
    }

    /// Records a refusal. The backoff grows with each.
    pub(super) fn refused(&mut self, why: &str, now: Timestamp) {
        let mut retry = self
            .refusal
            .take()
            .map_or(Retry::default(), |refusal| refusal.retry);
        retry.failed(now);
        self.refusal = Some(Box::new(Refusal {
            retry,
            why: why.into(),
        }));
    }

    /// Returns whether requests wait because one was refused.
    pub(super) fn is_held_back(&self, now: Timestamp) -> bool {
        let refusal = self.refusal.as_ref();
        refusal.is_some_and(|refusal| refusal.retry.is_waiting(now))
    }

    /// Judges the pair. Drops a refusal if nothing needs to be requested any more.
    pub(super) fn judge(&mut self, rules: &Rules<'_>, generation: i64, now: Timestamp) -> Judgement {
        let visible = |name: &str| self.pods.iter().any(|(pod, _)| *pod.meta.name == *name);
        let facts = Facts {
            fit: self.fit,
            unreachable: self.trouble == Some(Trouble::Unreachable),
            pods: &self.pods,
            creating: self.creation().is_some_and(|creation| !visible(&creation.name)),
            back_off: self.failed_pods_wait_until(generation, now),
        };
        let mut judgement = daemonset::judge(rules, &facts, now);
        if !judgement.asks() && self.writes.is_none() {
            self.refusal = None;
        }
        if let Some(refusal) = &self.refusal {
            judgement.refused = true;
            if let Some(until) = refusal.retry.ends_at(now) {
                judgement.hold_back(until);
            }
        }
        let writes = self.creation().map(|creation| creation.write);
        let writes = writes
            .into_iter()
            .chain(self.deletions().iter().map(|deletion| deletion.write));
        let gives_up = writes
            .filter_map(|write| write.gives_up_at())
            .filter(|moment| *moment > now)
            .min();
        judgement.look_at = judgement.look_at.into_iter().chain(gives_up).min();
        judgement
    }

    /// The end of the backoff of failed pods, if it is in the future.
    pub(super) fn failed_pods_wait_until(&self, generation: i64, now: Timestamp) -> Option<Timestamp> {
        self.back_off
            .as_ref()?
            .until(generation)
            .filter(|until| *until > now)
    }

    /// Records that the deletion of a pod was requested.
    pub(super) fn deletion_issued(
        &mut self,
        pod: &PodView,
        reason: DeleteReason,
        write: Write,
        now: Timestamp,
    ) {
        let uid = &pod.meta.uid;
        self.writes_mut().deletions.push(Deletion {
            uid: uid.clone(),
            name: pod.meta.name.clone(),
            write,
            inspect: Inspect::No,
        });
        for (pod, held) in &mut self.pods {
            if pod.meta.uid == *uid {
                *held = Held::Going;
            }
        }
        if reason == DeleteReason::Failed {
            let last = self.back_off.as_deref().copied();
            self.back_off = Some(Box::new(BackOff::next(last, write.generation, now)));
        }
    }
}

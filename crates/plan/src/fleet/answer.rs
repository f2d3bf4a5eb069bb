//! Applies the answers to actions.

use std::sync::Arc;

use api::view::{ControllerRevisionView, ObjectView, PodView};
use jiff::Timestamp;
use serde::Deserialize;

use super::action::{Act, Action, Answer, EventRecord, Target};
use super::pair::Deletion;
use super::set::{Confirm, Set};
use super::write::{Inspect, Write, WriteState};
use super::{Fleet, ObjectKey, Resource, Spot};
use crate::daemonset::NodeName;

/// An answer, classified.
#[derive(Debug)]
enum Outcome<'a> {
    /// The request succeeded.
    Done(&'a [u8]),
    /// No object of this name, or none with this uid.
    Gone,
    /// The name is taken.
    Taken,
    /// The namespace is being deleted.
    NamespaceTerminating,
    /// The request failed and changed nothing.
    Failed(String),
    /// It is unknown whether the request took effect.
    Unknown(String),
}

/// The part of a Status that decisions read.
#[derive(Deserialize, Default)]
#[serde(default)]
struct Refusal {
    reason: String,
    message: String,
    details: Option<Details>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Details {
    causes: Vec<Cause>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Cause {
    reason: String,
}

fn sort(answer: Answer<'_>) -> Outcome<'_> {
    let (code, body) = match answer {
        Answer::Response { code, body } => (code, body),
        Answer::Lost(why) => return Outcome::Unknown(why.to_owned()),
    };
    if (200..300).contains(&code) {
        return Outcome::Done(body);
    }
    let refusal: Refusal = serde_json::from_slice(body).unwrap_or_default();
    let causes = refusal.details.map(|details| details.causes).unwrap_or_default();
    match (code, refusal.reason.as_str()) {
        (404, _) => Outcome::Gone,
        (409, "AlreadyExists") => Outcome::Taken,
        (403, _) if causes.iter().any(|cause| cause.reason == "NamespaceTerminating") => {
            Outcome::NamespaceTerminating
        }
        _ if refusal.message.is_empty() => Outcome::Failed(format!("the server answered with status {code}")),
        _ => Outcome::Failed(refusal.message),
    }
}

/// The resourceVersion of the object in an answer, found without parsing: the first occurrence is
/// the object's own, because quotes inside strings are escaped. A Status has none.
fn revision_in(body: &[u8]) -> Option<u64> {
    const KEY: &[u8] = b"\"resourceVersion\":";
    let at = body.windows(KEY.len()).position(|window| window == KEY)? + KEY.len();
    let rest = body.get(at..)?.trim_ascii_start().strip_prefix(b"\"")?;
    let digits = rest.iter().take_while(|byte| byte.is_ascii_digit()).count();
    std::str::from_utf8(&rest[..digits]).ok()?.parse().ok()
}

/// The revision at which the watch shows a finished write.
struct Awaited {
    resource: Resource,
    revision: u64,
    spot: Spot,
}

impl Fleet {
    /// Applies the result of an action, and returns an Event to record. Must be called exactly once
    /// for each action, in any order.
    pub fn answer(&mut self, action: &Action, answer: Answer<'_>, now: Timestamp) -> Option<EventRecord> {
        let key: ObjectKey = (action.set.namespace.clone(), action.set.name.clone());
        let pods = &self.pods;
        let set = self
            .sets
            .get_mut(&key)
            .filter(|set| set.view.meta.uid == action.set.uid)?;
        self.dirty.insert(key.clone());
        let outcome = sort(answer);
        let mut answered = Answered {
            set,
            now,
            awaited: None,
            event: None,
        };
        match &action.act {
            Act::CreatePod { node, name, .. } => {
                let known = pods.get(&(key.0.clone(), name.clone())).map(|entry| &*entry.pod);
                answered.pod_created(node, name, known, outcome);
            }
            Act::InspectPod { node, name } => answered.pod_inspected(node, name, outcome),
            Act::ConfirmPod { node, pod } => answered.pod_confirmed(node, &pod.uid, outcome),
            Act::DeletePod { node, name, uid, .. } => answered.pod_deleted(node, name, uid, outcome),
            Act::ConfirmSet => answered.set_confirmed(outcome),
            Act::AdoptPod(Target { name, .. }) | Act::ReleasePod(Target { name, .. }) => {
                answered.pod_claimed((key.0.clone(), name.clone()), outcome);
            }
            Act::RelabelPod(Target { name, .. }, _) => {
                answered.pod_relabelled((key.0.clone(), name.clone()), outcome);
            }
            Act::WriteRevision { name, .. } => answered.revision_written(name, outcome),
            Act::InspectRevision(name) => answered.revision_inspected(name, outcome),
            Act::AdoptRevision(target)
            | Act::ReleaseRevision(target)
            | Act::LabelRevision(target, _)
            | Act::RenumberRevision(target, _)
            | Act::DropRevision(target) => {
                let known = self.revisions.get(&(key.0.clone(), target.name.clone()));
                let present = known.is_some_and(|revision| revision.meta.uid == target.uid);
                answered.revision_changed(&target.name, present, outcome);
            }
            Act::UpdateStatus { .. } => answered.status_written(outcome),
        }
        let Answered { awaited, event, .. } = answered;
        if let Some(Awaited {
            resource,
            revision,
            spot,
        }) = awaited
        {
            self.world.unseen.of(resource).insert((revision, key, spot));
            // The watch may have been faster than the answer.
            let seen = *self.world.seen.of(resource);
            self.reached(resource, seen);
        }
        event
    }
}

/// One answer to one set.
struct Answered<'a> {
    set: &'a mut Set,
    now: Timestamp,
    awaited: Option<Awaited>,
    event: Option<EventRecord>,
}

impl Answered<'_> {
    fn record(&mut self, warning: bool, reason: &'static str, message: String) {
        self.event = Some(EventRecord {
            set: self.set.reference.clone(),
            warning,
            reason,
            message,
        });
    }

    fn awaits(&mut self, resource: Resource, revision: Option<u64>, spot: Spot) {
        self.awaited = revision.map(|revision| Awaited {
            resource,
            revision,
            spot,
        });
    }

    fn pod_created(
        &mut self,
        node: &NodeName,
        name: &Arc<str>,
        known: Option<&PodView>,
        outcome: Outcome<'_>,
    ) {
        self.set.gate.answered();
        self.set.dirty.insert(node.clone());
        match outcome {
            Outcome::Done(body) => {
                self.went_well(node);
                self.creation_done(node, name, revision_in(body));
                self.record(false, "SuccessfulCreate", format!("Created pod: {name}"));
            }
            Outcome::Taken => match known {
                Some(pod) if self.is_the_one(pod, node) => {
                    self.creation_done(node, name, Some(pod.meta.resource_version));
                }
                Some(_) => self.name_is_a_strangers(node, name),
                None => {
                    let creation = self
                        .set
                        .pairs
                        .get_mut(node)
                        .and_then(|pair| pair.creation_of(name));
                    if let Some(creation) = creation {
                        creation.inspect = Inspect::Wanted;
                        self.set.inspect.insert(node.clone());
                    }
                }
            },
            Outcome::NamespaceTerminating => {
                self.creation_failed(node, name);
                self.set.gate.close(self.now);
            }
            Outcome::Gone => {
                let namespace = &self.set.view.meta.namespace;
                let why = format!("namespaces \"{namespace}\" not found");
                self.creation_refused(node, name, &why);
                self.record(true, "FailedCreate", format!("Error creating: {why}"));
            }
            Outcome::Failed(why) => {
                self.creation_refused(node, name, &why);
                self.record(true, "FailedCreate", format!("Error creating: {why}"));
            }
            Outcome::Unknown(why) => {
                self.creation_in_doubt(node, name, &why);
                self.record(true, "FailedCreate", format!("Error creating: {why}"));
            }
        }
    }

    fn pod_inspected(&mut self, node: &NodeName, name: &Arc<str>, outcome: Outcome<'_>) {
        self.set.dirty.insert(node.clone());
        match outcome {
            Outcome::Done(body) => match serde_json::from_slice::<PodView>(body) {
                Ok(pod) if self.is_the_one(&pod, node) => {
                    self.creation_done(node, name, Some(pod.meta.resource_version));
                }
                _ => self.name_is_a_strangers(node, name),
            },
            Outcome::Failed(why) | Outcome::Unknown(why) => self.creation_in_doubt(node, name, &why),
            _ => self.creation_failed(node, name),
        }
    }

    /// Returns whether the pod that has the name is the one to be created: then it was created, and
    /// only the answer was lost.
    fn is_the_one(&self, pod: &PodView, node: &NodeName) -> bool {
        let ours = pod
            .meta
            .controller()
            .is_some_and(|owner| owner.uid == self.set.view.meta.uid);
        ours && pod.target_node() == Some(node) && !pod.is_terminating()
    }

    fn creation_done(&mut self, node: &NodeName, name: &str, revision: Option<u64>) {
        let Some(creation) = self
            .set
            .pairs
            .get_mut(node)
            .and_then(|pair| pair.creation_of(name))
        else {
            return;
        };
        creation.inspect = Inspect::No;
        creation.write.state = WriteState::Written(revision);
        self.awaits(Resource::Pods, revision, Spot::Pair(node.clone()));
    }

    fn creation_failed(&mut self, node: &NodeName, name: &str) {
        let Some(pair) = self.set.pairs.get_mut(node) else {
            return;
        };
        let Some(write) = pair.creation_of(name).map(|creation| creation.write) else {
            return;
        };
        pair.writes_mut().creation = None;
        self.set.write_settled(write);
    }

    /// The creation was refused: the node backs off, and for a moment the other nodes without a pod
    /// too.
    fn creation_refused(&mut self, node: &NodeName, name: &str, why: &str) {
        self.creation_failed(node, name);
        self.hold_creations_back(node, why);
    }

    /// It is unknown whether the pod was created. It is read before another one is created, because
    /// the next one might have another name and run beside it.
    fn creation_in_doubt(&mut self, node: &NodeName, name: &str, why: &str) {
        let pair = self.set.pairs.get_mut(node);
        let Some(creation) = pair.and_then(|pair| pair.creation_of(name)) else {
            return;
        };
        creation.write.state = WriteState::Doubtful;
        creation.inspect = Inspect::Wanted;
        self.set.inspect.insert(node.clone());
        self.hold_creations_back(node, why);
    }

    fn hold_creations_back(&mut self, node: &NodeName, why: &str) {
        self.set.gate.refused(self.now);
        if let Some(pair) = self.set.pairs.get_mut(node) {
            pair.refused(why, self.now);
        }
    }

    fn name_is_a_strangers(&mut self, node: &NodeName, name: &str) {
        self.creation_failed(node, name);
        if let Some(pair) = self.set.pairs.get_mut(node) {
            pair.salt = pair.salt.wrapping_add(1);
        }
    }

    fn went_well(&mut self, node: &NodeName) {
        self.set.gate.granted(self.now);
        if let Some(pair) = self.set.pairs.get_mut(node) {
            pair.refusal = None;
        }
    }

    fn pod_deleted(&mut self, node: &NodeName, name: &str, uid: &str, outcome: Outcome<'_>) {
        self.set.deletes_in_flight = self.set.deletes_in_flight.saturating_sub(1);
        self.set.dirty.insert(node.clone());
        let Some(pair) = self.set.pairs.get_mut(node) else {
            return;
        };
        let shown = pair.pods.iter().find(|(pod, _)| *pod.meta.uid == *uid);
        let shown = shown.map_or(0, |(pod, _)| pod.meta.resource_version);
        let Some(Deletion { write, .. }) = pair.deletion_of(uid) else {
            return;
        };
        match outcome {
            Outcome::Done(body) => {
                // The last state of a pod that was removed at once is older than its deletion.
                let revision = revision_in(body).filter(|revision| *revision > shown);
                write.state = WriteState::Written(revision);
                pair.refusal = None;
                self.awaits(Resource::Pods, revision, Spot::Pair(node.clone()));
                self.record(false, "SuccessfulDelete", format!("Deleted pod: {name}"));
            }
            // The pod was already deleted, or another pod has the name now.
            Outcome::Gone | Outcome::Taken => write.state = WriteState::Written(None),
            Outcome::Unknown(why) => {
                self.deletion_in_doubt(node, uid, &why);
                self.record(true, "FailedDelete", format!("Error deleting: {why}"));
            }
            Outcome::NamespaceTerminating => self.deletion_failed(node, uid, "the namespace is terminating"),
            Outcome::Failed(why) => self.deletion_failed(node, uid, &why),
        }
    }

    /// Applies the check after a deletion without an answer. If the pod still exists, it is judged
    /// again, because meanwhile it may have become the one to keep.
    fn pod_confirmed(&mut self, node: &NodeName, uid: &str, outcome: Outcome<'_>) {
        self.set.dirty.insert(node.clone());
        let Some(pair) = self.set.pairs.get_mut(node) else {
            return;
        };
        let Some(deletion) = pair.deletion_of(uid) else {
            return;
        };
        match outcome {
            Outcome::Failed(why) | Outcome::Unknown(why) => self.deletion_in_doubt(node, uid, &why),
            Outcome::Done(body) => match serde_json::from_slice::<PodView>(body) {
                Ok(pod) if *pod.meta.uid == *uid && !pod.is_terminating() => {
                    if let Some(write) = pair.forget_deletion(uid) {
                        self.set.write_settled(write);
                    }
                }
                Ok(pod) if *pod.meta.uid == *uid => {
                    let revision = Some(pod.meta.resource_version);
                    deletion.write.state = WriteState::Written(revision);
                    pair.refusal = None;
                    self.awaits(Resource::Pods, revision, Spot::Pair(node.clone()));
                }
                _ => deletion.write.state = WriteState::Written(None),
            },
            _ => deletion.write.state = WriteState::Written(None),
        }
    }

    /// The pod counts as being deleted, and keeps using the budget, until it was read.
    fn deletion_in_doubt(&mut self, node: &NodeName, uid: &str, why: &str) {
        let Some(pair) = self.set.pairs.get_mut(node) else {
            return;
        };
        let Some(deletion) = pair.deletion_of(uid) else {
            return;
        };
        deletion.write.state = WriteState::Doubtful;
        deletion.inspect = Inspect::Wanted;
        pair.refused(why, self.now);
        self.set.inspect.insert(node.clone());
    }

    fn deletion_failed(&mut self, node: &NodeName, uid: &str, why: &str) {
        let Some(pair) = self.set.pairs.get_mut(node) else {
            return;
        };
        let Some(write) = pair.forget_deletion(uid) else {
            return;
        };
        pair.refused(why, self.now);
        self.set.write_settled(write);
        self.record(true, "FailedDelete", format!("Error deleting: {why}"));
    }

    fn set_confirmed(&mut self, outcome: Outcome<'_>) {
        self.set.confirm = match outcome {
            Outcome::Done(body) => match serde_json::from_slice::<ObjectView>(body) {
                Ok(live) if live.meta.uid == self.set.view.meta.uid && !live.meta.is_terminating() => {
                    Confirm::Alive
                }
                _ => Confirm::Dying,
            },
            Outcome::Gone => Confirm::Dying,
            _ => {
                self.set.claims.confirm_retry.failed(self.now);
                Confirm::No
            }
        };
    }

    fn pod_claimed(&mut self, key: ObjectKey, outcome: Outcome<'_>) {
        let revision = match outcome {
            Outcome::Done(body) => revision_in(body),
            _ => None,
        };
        match (self.set.claims.write_of(&key), revision) {
            (Some(write), Some(_)) => {
                write.state = WriteState::Written(revision);
                self.set.claims.granted(&key);
                self.awaits(Resource::Pods, revision, Spot::Claim(key));
            }
            // Deleted or changed meanwhile: the watch shows it, and the pod is tried again after
            // the backoff.
            _ => self.set.claims.refused(&key, self.now),
        }
    }

    fn pod_relabelled(&mut self, key: ObjectKey, outcome: Outcome<'_>) {
        if !matches!(outcome, Outcome::Done(_)) {
            // Its revision must not be deleted before, so the next pass over the history requests
            // the label again.
            self.set.history_dirty = true;
            self.set.history_retry.failed(self.now);
        }
        self.pod_claimed(key, outcome);
    }

    fn revision_written(&mut self, name: &Arc<str>, outcome: Outcome<'_>) {
        match outcome {
            Outcome::Done(body) => {
                self.set.history_retry.succeeded(self.now);
                // The template may have changed before the answer came.
                let current = *self.set.revision_name() == **name;
                self.set.settled |= current;
                match revision_in(body) {
                    None => self.revision_failed(name),
                    revision => self.revision_done(name, revision),
                }
            }
            Outcome::Taken => self.set.inspect_revision = Some(name.clone()),
            Outcome::NamespaceTerminating => {
                self.revision_failed(name);
                self.set.history_retry.hold(self.now);
            }
            Outcome::Gone | Outcome::Failed(_) | Outcome::Unknown(_) => {
                self.revision_failed(name);
                self.set.history_retry.failed(self.now);
            }
        }
    }

    fn revision_inspected(&mut self, name: &Arc<str>, outcome: Outcome<'_>) {
        self.set.revision_writes.remove(name);
        let current = *self.set.revision_name() == **name;
        match outcome {
            Outcome::Done(body) if current => {
                // Any author will do if the content is the same. The next change of the history
                // checks it again.
                let same = serde_json::from_slice::<ControllerRevisionView>(body)
                    .is_ok_and(|revision| schema::gojson::to_vec(&revision.data) == self.set.data);
                self.set.settled = same;
                self.set.collided = !same;
                self.set.history_dirty |= !same;
            }
            Outcome::Done(_) | Outcome::Gone => self.set.history_dirty = true,
            _ => {
                self.set.history_dirty = true;
                self.set.history_retry.failed(self.now);
            }
        }
    }

    fn revision_changed(&mut self, name: &Arc<str>, still_there: bool, outcome: Outcome<'_>) {
        match outcome {
            Outcome::Done(body) => match revision_in(body) {
                Some(revision) => self.revision_done(name, Some(revision)),
                None if still_there => self.revision_done(name, None),
                None => self.revision_failed(name),
            },
            Outcome::Gone if !still_there => self.revision_failed(name),
            _ => {
                self.revision_failed(name);
                self.set.history_retry.failed(self.now);
            }
        }
    }

    fn revision_done(&mut self, name: &Arc<str>, revision: Option<u64>) {
        if let Some(write) = self.set.revision_writes.get_mut(name) {
            write.state = WriteState::Written(revision);
        }
        self.awaits(Resource::Revisions, revision, Spot::Revision(name.clone()));
    }

    fn revision_failed(&mut self, name: &Arc<str>) {
        self.set.revision_writes.remove(name);
        self.set.history_dirty = true;
    }

    fn status_written(&mut self, outcome: Outcome<'_>) {
        let revision = match outcome {
            Outcome::Done(body) => revision_in(body),
            _ => None,
        };
        if revision.is_none() {
            self.set.status_write = None;
            self.set.status_retry.failed(self.now);
            return;
        }
        self.set.status_retry.succeeded(self.now);
        self.set.status_write = self.set.status_write.map(|write| Write {
            state: WriteState::Written(revision),
            ..write
        });
        self.awaits(Resource::DaemonSets, revision, Spot::Status);
    }
}

//! Garbage collection by owner references, and of pods that no node will finish.
//!
//! [`Graph`] stores every object's owners and every owner's dependents. An event marks the objects
//! that it may affect. [`Graph::plan`] examines only those, so a deletion costs as much as it has
//! dependents.
//!
//! Kubernetes has three modes of cascading deletion. *Background*: the owner is deleted, then its
//! dependents. *Foreground*: the owner stays, with the finalizer `foregroundDeletion`, until the
//! dependents that block it are deleted. *Orphan*: the owner stays, with the finalizer `orphan`,
//! until no dependent refers to it.
//!
//! An owner that the graph does not contain may still exist: another watch may read its kind and be
//! late, or none may. The plan then requests a read ([`Action::Look`]), and decides after
//! [`Graph::owner_is`] got the answer.

mod pods;
#[cfg(test)]
mod tests;

pub use pods::{OUT_OF_SERVICE, PodAction, PodReason, Pods, TERMINATED_PODS_KEPT};

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet, VecDeque};
use std::sync::Arc;

use api::view::{ObjectMetaView, OwnerView};

/// Finalizer of an object that waits for its blocking dependents
/// (`metav1.FinalizerDeleteDependents`).
pub const FOREGROUND_FINALIZER: &str = "foregroundDeletion";
/// Finalizer of an object whose dependents must lose their reference to it
/// (`metav1.FinalizerOrphanDependents`).
pub const ORPHAN_FINALIZER: &str = "orphan";

/// Most uids of absent objects to cache, as in Kubernetes. A removed entry costs one request when
/// it is needed again.
const ABSENT_REMEMBERED: usize = 500;

/// An object's uid. Uids are never reused, so absent ones can be cached.
pub type Uid = Arc<str>;

/// Identity of an object.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Identity {
    /// `v1`, `apps/v1`.
    pub api_version: Arc<str>,
    /// `Pod`, `DaemonSet`.
    pub kind: Arc<str>,
    /// Empty for cluster-scoped kinds.
    pub namespace: Arc<str>,
    /// The object's name.
    pub name: Arc<str>,
    /// The object's uid.
    pub uid: Uid,
}

/// The part of an object that garbage collection reads, of any kind.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Object {
    /// Identity of the object.
    pub identity: Identity,
    /// `metadata.resourceVersion` at which this was read.
    pub resource_version: u64,
    /// `metadata.ownerReferences`.
    pub owners: Arc<[OwnerView]>,
    /// Whether `metadata.deletionTimestamp` is set.
    pub deleting: bool,
    /// Whether the finalizer `foregroundDeletion` is there.
    pub foreground: bool,
    /// Whether the finalizer `orphan` is there.
    pub orphan: bool,
}

impl Object {
    /// Reads an object's metadata. `api_version` and `kind` are those of references to it.
    pub fn of(api_version: &Arc<str>, kind: &Arc<str>, meta: &ObjectMetaView) -> Self {
        let has = |finalizer: &str| meta.finalizers().iter().any(|f| &**f == finalizer);
        Object {
            identity: Identity {
                api_version: api_version.clone(),
                kind: kind.clone(),
                namespace: meta.namespace.clone(),
                name: meta.name.clone(),
                uid: meta.uid.clone(),
            },
            resource_version: meta.resource_version,
            owners: meta.owners.clone().unwrap_or_default(),
            deleting: meta.is_terminating(),
            foreground: has(FOREGROUND_FINALIZER),
            orphan: has(ORPHAN_FINALIZER),
        }
    }

    /// Returns whether it is being deleted and waits for its dependents.
    fn waits_for_dependents(&self) -> bool {
        self.deleting && self.foreground
    }

    /// Returns whether it is being deleted and waits until its dependents are orphaned.
    fn waits_for_orphans(&self) -> bool {
        self.deleting && self.orphan
    }
}

/// `propagationPolicy` of a deletion.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Propagation {
    /// The object is deleted at once, then its dependents.
    Background,
    /// The object waits for its dependents.
    Foreground,
    /// The dependents stay.
    Orphan,
}

impl Propagation {
    /// The value of `DeleteOptions.propagationPolicy`.
    pub fn as_str(self) -> &'static str {
        match self {
            Propagation::Background => "Background",
            Propagation::Foreground => "Foreground",
            Propagation::Orphan => "Orphan",
        }
    }
}

/// One action. It contains the object's uid, so a late execution affects no other object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Read the owner, and report to [`Graph::owner_is`] whether it exists.
    Look {
        /// The dependent's reference.
        owner: OwnerView,
        /// The namespace of the dependent, to read in.
        namespace: Arc<str>,
    },
    /// Delete the object, if its uid and resourceVersion are still these.
    Delete {
        /// What to delete.
        object: Identity,
        /// The resourceVersion that this was decided on.
        resource_version: u64,
        /// The propagation policy.
        propagation: Propagation,
    },
    /// Remove the references to these owners from the object.
    StripOwners {
        /// The dependent.
        object: Identity,
        /// The uids of the references to remove, in order.
        owners: Vec<Uid>,
    },
    /// Clear `blockOwnerDeletion` on this object, because it is in a cycle of owners that wait for
    /// each other.
    Unblock {
        /// The dependent.
        object: Identity,
        /// The uids of all its owners.
        owners: Vec<Uid>,
    },
    /// Remove a finalizer that is not needed any more.
    RemoveFinalizer {
        /// The owner.
        object: Identity,
        /// [`FOREGROUND_FINALIZER`] or [`ORPHAN_FINALIZER`].
        finalizer: &'static str,
    },
    /// Record a warning that a reference crosses namespaces, which is not allowed
    /// (`OwnerRefInvalidNamespace`).
    Warn {
        /// The dependent.
        object: Identity,
        /// The reference.
        owner: OwnerView,
    },
}

/// State of an owner.
enum OwnerState {
    Solid,
    Waiting,
    Absent,
    /// It is in another namespace, so the reference is invalid: the same as absent.
    Elsewhere,
    Unknown,
    /// A namespaced owner of a cluster-scoped object: ignored, but not absent.
    Unreachable,
}

/// Owner graph of all watched objects.
#[derive(Default)]
pub struct Graph {
    objects: HashMap<Uid, Object>,
    dependents: HashMap<Uid, BTreeSet<Uid>>,
    absent: HashSet<Uid>,
    absent_order: VecDeque<Uid>,
    /// Owners that were read and that no watch covers. Removed if a later read does not find them.
    present: HashSet<Uid>,
    /// Owners whose read has not been answered yet.
    asked: HashSet<Uid>,
    dirty: BTreeSet<Uid>,
    warned: HashSet<(Uid, Uid)>,
}

impl Graph {
    /// An empty graph.
    pub fn new() -> Self {
        Self::default()
    }

    /// Number of objects.
    pub fn len(&self) -> usize {
        self.objects.len()
    }

    /// Returns whether it contains no objects.
    pub fn is_empty(&self) -> bool {
        self.objects.is_empty()
    }

    /// An object was added or changed.
    pub fn put(&mut self, object: Object) {
        let uid = object.identity.uid.clone();
        if let Some(old) = self.objects.get(&uid) {
            if old.owners == object.owners
                && old.deleting == object.deleting
                && old.foreground == object.foreground
                && old.orphan == object.orphan
            {
                // Nothing relevant changed. The version is needed for preconditions.
                if let Some(old) = self.objects.get_mut(&uid) {
                    old.resource_version = object.resource_version;
                }
                return;
            }
            let old_owners: Vec<Uid> = old.owners.iter().map(|o| o.uid.clone()).collect();
            for owner in old_owners {
                if !object.owners.iter().any(|o| o.uid == owner) {
                    self.unlink(&owner, &uid);
                }
            }
            // The reference may have stopped blocking the owner.
            for owner in object.owners.iter() {
                self.mark_if_waiting(&owner.uid);
            }
        } else {
            for owner in object.owners.iter() {
                self.mark_if_waiting(&owner.uid);
            }
            self.present.remove(&uid);
            self.asked.remove(&uid);
            // Dependents that came first may wait for the owner.
            self.mark_dependents(&uid);
        }
        for owner in object.owners.iter() {
            self.dependents
                .entry(owner.uid.clone())
                .or_default()
                .insert(uid.clone());
        }
        let interesting =
            !object.owners.is_empty() || object.waits_for_dependents() || object.waits_for_orphans();
        if object.waits_for_dependents() {
            self.mark_dependents(&uid);
        }
        self.objects.insert(uid.clone(), object);
        if interesting {
            self.dirty.insert(uid);
        }
    }

    /// An object was deleted.
    pub fn delete(&mut self, uid: &Uid) {
        if self.dependents.contains_key(uid) {
            self.remember_absent(uid.clone());
        }
        if let Some(old) = self.objects.remove(uid) {
            for owner in old.owners.iter() {
                self.unlink(&owner.uid, uid);
                self.warned.remove(&(uid.clone(), owner.uid.clone()));
            }
        }
        self.dirty.remove(uid);
        self.mark_dependents(uid);
    }

    /// The answer to an [`Action::Look`]: whether the object with this uid exists.
    pub fn owner_is(&mut self, uid: &Uid, there: bool) {
        self.asked.remove(uid);
        if there {
            self.present.insert(uid.clone());
        } else {
            self.present.remove(uid);
            self.remember_absent(uid.clone());
        }
        self.mark_dependents(uid);
    }

    /// An action about this object failed, or a read of it did: it is decided again, with the
    /// dependents of this uid.
    pub fn retry(&mut self, uid: &Uid) {
        self.asked.remove(uid);
        if self.objects.contains_key(uid) {
            self.dirty.insert(uid.clone());
        }
        self.mark_dependents(uid);
    }

    /// Drops the results of reads of owners that no watch covers, so that they are read again:
    /// nothing else would show their deletion.
    pub fn recheck_unwatched(&mut self) {
        for uid in std::mem::take(&mut self.present) {
            self.mark_dependents(&uid);
        }
    }

    /// Returns whether [`Graph::plan`] has something to do.
    pub fn has_work(&self) -> bool {
        !self.dirty.is_empty()
    }

    /// Decides about at most `limit` of the marked objects, in the order of their uids.
    pub fn plan(&mut self, limit: usize) -> Vec<Action> {
        let mut actions = Vec::new();
        for _ in 0..limit {
            let Some(uid) = self.dirty.pop_first() else { break };
            self.decide(&uid, &mut actions);
        }
        actions
    }

    fn decide(&mut self, uid: &Uid, actions: &mut Vec<Action>) {
        let Some(object) = self.objects.get(uid).cloned() else {
            return;
        };
        if object.waits_for_orphans() {
            self.orphan_dependents(&object, actions);
            return;
        }
        if object.waits_for_dependents() {
            self.finish_foreground(&object, actions);
            return;
        }
        if object.deleting || object.owners.is_empty() {
            return;
        }
        self.judge_by_owners(&object, actions);
    }

    /// Removes the owner's reference from every dependent, and then the finalizer.
    fn orphan_dependents(&self, owner: &Object, actions: &mut Vec<Action>) {
        let mut left = false;
        for dependent in self.dependents_of(&owner.identity.uid) {
            left = true;
            actions.push(Action::StripOwners {
                object: dependent.identity.clone(),
                owners: vec![owner.identity.uid.clone()],
            });
        }
        if !left {
            actions.push(Action::RemoveFinalizer {
                object: owner.identity.clone(),
                finalizer: ORPHAN_FINALIZER,
            });
        }
    }

    /// Removes the finalizer if no blocking dependent is left. Until then, each dependent's own
    /// decision deletes it.
    fn finish_foreground(&self, owner: &Object, actions: &mut Vec<Action>) {
        let uid = &owner.identity.uid;
        let blocked = self
            .dependents_of(uid)
            .any(|d| d.owners.iter().any(|o| o.uid == *uid && o.block_owner_deletion));
        if !blocked {
            actions.push(Action::RemoveFinalizer {
                object: owner.identity.clone(),
                finalizer: FOREGROUND_FINALIZER,
            });
        }
    }

    fn judge_by_owners(&mut self, object: &Object, actions: &mut Vec<Action>) {
        let (mut solid, mut waiting, mut gone) = (0, Vec::new(), Vec::new());
        let mut unknown = false;
        for owner in object.owners.iter() {
            match self.owner_state(object, owner) {
                OwnerState::Solid => solid += 1,
                OwnerState::Waiting => waiting.push(owner.uid.clone()),
                OwnerState::Absent => gone.push(owner.uid.clone()),
                OwnerState::Elsewhere => {
                    gone.push(owner.uid.clone());
                    actions.extend(self.warn(object, owner));
                }
                OwnerState::Unreachable => {
                    solid += 1;
                    actions.extend(self.warn(object, owner));
                }
                OwnerState::Unknown => {
                    unknown = true;
                    if self.asked.insert(owner.uid.clone()) {
                        let namespace = object.identity.namespace.clone();
                        actions.push(Action::Look {
                            owner: owner.clone(),
                            namespace,
                        });
                    }
                }
            }
        }
        if unknown || (waiting.is_empty() && gone.is_empty()) {
            return;
        }
        let identity = object.identity.clone();
        if solid > 0 {
            gone.extend(waiting);
            gone.sort();
            actions.push(Action::StripOwners {
                object: identity,
                owners: gone,
            });
            return;
        }
        let has_dependents = self.dependents_of(&identity.uid).next().is_some();
        let propagation = if !waiting.is_empty() && has_dependents {
            // A cycle of objects that wait for each other would never end, so an object that a
            // dependent waits for stops blocking its own owners.
            if self
                .dependents_of(&identity.uid)
                .any(Object::waits_for_dependents)
            {
                actions.push(Action::Unblock {
                    object: identity.clone(),
                    owners: object.owners.iter().map(|owner| owner.uid.clone()).collect(),
                });
            }
            Propagation::Foreground
        } else if object.orphan {
            Propagation::Orphan
        } else if object.foreground {
            Propagation::Foreground
        } else {
            Propagation::Background
        };
        actions.push(Action::Delete {
            object: identity,
            resource_version: object.resource_version,
            propagation,
        });
    }

    /// Reports once that a reference crosses namespaces.
    fn warn(&mut self, object: &Object, owner: &OwnerView) -> Option<Action> {
        let pair = (object.identity.uid.clone(), owner.uid.clone());
        self.warned.insert(pair).then(|| Action::Warn {
            object: object.identity.clone(),
            owner: owner.clone(),
        })
    }

    fn owner_state(&self, object: &Object, owner: &OwnerView) -> OwnerState {
        if let Some(found) = self.objects.get(&owner.uid) {
            let reachable =
                found.identity.namespace.is_empty() || found.identity.namespace == object.identity.namespace;
            if !reachable && object.identity.namespace.is_empty() {
                return OwnerState::Unreachable;
            }
            let same = found.identity.kind == owner.kind && found.identity.name == owner.name;
            return match (same, reachable, found.waits_for_dependents()) {
                (false, _, _) => OwnerState::Absent,
                (true, false, _) => OwnerState::Elsewhere,
                (true, true, true) => OwnerState::Waiting,
                (true, true, false) => OwnerState::Solid,
            };
        }
        if self.absent.contains(&owner.uid) {
            return OwnerState::Absent;
        }
        if self.present.contains(&owner.uid) {
            return OwnerState::Solid;
        }
        OwnerState::Unknown
    }

    fn dependents_of<'a>(&'a self, uid: &Uid) -> impl Iterator<Item = &'a Object> + 'a {
        self.dependents
            .get(uid)
            .into_iter()
            .flatten()
            .filter_map(|d| self.objects.get(d))
    }

    fn mark_dependents(&mut self, owner: &Uid) {
        if let Some(dependents) = self.dependents.get(owner) {
            self.dirty.extend(dependents.iter().cloned());
        }
    }

    fn mark_if_waiting(&mut self, owner: &Uid) {
        let waits = |o: &Object| o.waits_for_dependents() || o.waits_for_orphans();
        if self.objects.get(owner).is_some_and(waits) {
            self.dirty.insert(owner.clone());
        }
    }

    fn unlink(&mut self, owner: &Uid, dependent: &Uid) {
        if let Some(set) = self.dependents.get_mut(owner) {
            set.remove(dependent);
            if set.is_empty() {
                self.dependents.remove(owner);
            }
        }
        // A waiting owner is decided again only if its last dependent, or perhaps its last blocking
        // one, was removed.
        let Some(waiting) = self.objects.get(owner) else {
            return;
        };
        if waiting.waits_for_orphans() && self.dependents.contains_key(owner) {
            return;
        }
        if waiting.waits_for_dependents() || waiting.waits_for_orphans() {
            self.dirty.insert(owner.clone());
        }
    }

    fn remember_absent(&mut self, uid: Uid) {
        if self.absent.insert(uid.clone()) {
            self.absent_order.push_back(uid);
        }
        while self.absent_order.len() > ABSENT_REMEMBERED {
            if let Some(oldest) = self.absent_order.pop_front() {
                self.absent.remove(&oldest);
            }
        }
    }
}

/// The strategic merge patch that removes references to `owners` from `object`. It contains the
/// uid, so that the server refuses it if another object has the name now.
pub fn strip_owners_patch(object: &Identity, owners: &[Uid]) -> serde_json::Value {
    let references: Vec<_> = owners
        .iter()
        .map(|uid| serde_json::json!({"$patch": "delete", "uid": &**uid}))
        .collect();
    serde_json::json!({"metadata": {"uid": &*object.uid, "ownerReferences": references}})
}

/// The strategic merge patch that makes `object` block none of `owners`.
pub fn unblock_patch(object: &Identity, owners: &[Uid]) -> serde_json::Value {
    let references: Vec<_> = owners
        .iter()
        .map(|uid| serde_json::json!({"uid": &**uid, "blockOwnerDeletion": false}))
        .collect();
    serde_json::json!({"metadata": {"uid": &*object.uid, "ownerReferences": references}})
}

/// Groups reads of the same owner, so that a thousand dependents cost one request.
pub fn distinct_looks(actions: &[Action]) -> BTreeMap<Uid, (OwnerView, Arc<str>)> {
    let mut looks = BTreeMap::new();
    for action in actions {
        if let Action::Look { owner, namespace } = action {
            looks
                .entry(owner.uid.clone())
                .or_insert_with(|| (owner.clone(), namespace.clone()));
        }
    }
    looks
}

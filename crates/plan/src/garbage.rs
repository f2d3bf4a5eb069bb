//! Garbage collection by owner reference, and of pods that nobody will finish.
//!
//! [`Graph`] keeps every object's owners and, the other way round, every owner's dependents. An event marks the objects whose
//! fate it may change; [`Graph::plan`] looks at those alone, so the cost of a deletion is the number of its dependents.
//!
//! Three deletions exist (Kubernetes' "cascading deletion"). *Background*: the owner is gone, its dependents follow. *Foreground*:
//! the owner waits, marked with the finalizer `foregroundDeletion`, until the dependents that block it are gone. *Orphan*: the
//! owner waits, marked with the finalizer `orphan`, until no dependent refers to it any more.
//!
//! An owner that the graph has not seen is not an owner that is absent: its kind may be read by another watch, which lags, or by
//! none. The plan then asks ([`Action::Look`]) and decides only when the answer came back through [`Graph::owner_is`].

mod pods;
#[cfg(test)]
mod tests;

pub use pods::{OUT_OF_SERVICE, PodAction, PodReason, Pods, TERMINATED_PODS_KEPT};

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet, VecDeque};
use std::sync::Arc;

use api::view::{ObjectMetaView, OwnerView};

/// The finalizer of an object that waits for its blocking dependents (`metav1.FinalizerDeleteDependents`).
pub const FOREGROUND_FINALIZER: &str = "foregroundDeletion";
/// The finalizer of an object whose dependents are to lose their reference to it (`metav1.FinalizerOrphanDependents`).
pub const ORPHAN_FINALIZER: &str = "orphan";

/// How many uids known to be absent are remembered. Forgetting one costs one request when it is met again; the number is
/// Kubernetes' own for the same cache.
const ABSENT_REMEMBERED: usize = 500;

/// An object's uid. Uids never return, which is what makes remembering absent ones safe.
pub type Uid = Arc<str>;

/// Where an object lives and who it is.
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

/// What garbage collection needs to know of an object, whatever its kind.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Object {
    /// Who it is.
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
    /// What the graph needs of an object's metadata. `api_version` and `kind` are what references to it say.
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

    /// It is being deleted and waits for its dependents to go.
    fn waits_for_dependents(&self) -> bool {
        self.deleting && self.foreground
    }

    /// It is being deleted and waits for its dependents to be let go.
    fn waits_for_orphans(&self) -> bool {
        self.deleting && self.orphan
    }
}

/// `propagationPolicy` of a deletion.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Propagation {
    /// The object goes at once, its dependents follow.
    Background,
    /// The object waits for its dependents.
    Foreground,
    /// The dependents stay.
    Orphan,
}

impl Propagation {
    /// The word of `DeleteOptions.propagationPolicy`.
    pub fn as_str(self) -> &'static str {
        match self {
            Propagation::Background => "Background",
            Propagation::Foreground => "Foreground",
            Propagation::Orphan => "Orphan",
        }
    }
}

/// One thing to do. Each carries the uid of what it acts on, so a stale execution hits nothing else.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Read the owner live and tell [`Graph::owner_is`] whether it is there.
    Look {
        /// The reference as the dependent has it.
        owner: OwnerView,
        /// The namespace to look in: the dependent's.
        namespace: Arc<str>,
    },
    /// Delete the object, if its uid and resourceVersion are still these.
    Delete {
        /// What to delete.
        object: Identity,
        /// The version this was decided on.
        resource_version: u64,
        /// How.
        propagation: Propagation,
    },
    /// Remove the references to these owners from the object.
    StripOwners {
        /// The dependent.
        object: Identity,
        /// The uids of the references to remove, in order.
        owners: Vec<Uid>,
    },
    /// Let this object block no owner any more: it is part of a circle that would wait for itself.
    Unblock {
        /// The dependent.
        object: Identity,
        /// All its references, with `blockOwnerDeletion` cleared.
        owners: Vec<Uid>,
    },
    /// Remove a finalizer whose work is done.
    RemoveFinalizer {
        /// The owner.
        object: Identity,
        /// [`FOREGROUND_FINALIZER`] or [`ORPHAN_FINALIZER`].
        finalizer: &'static str,
    },
    /// Warn that a reference crosses namespaces, which no reference may (`OwnerRefInvalidNamespace`).
    Warn {
        /// The dependent.
        object: Identity,
        /// The reference.
        owner: OwnerView,
    },
}

/// What an owner reference points at.
enum OwnerState {
    Solid,
    Waiting,
    Absent,
    /// It lives in another namespace, which no reference reaches: as good as absent.
    Elsewhere,
    Unknown,
    /// Out of reach: a namespaced owner of a cluster-scoped object. It is neither followed nor taken for absent.
    Unreachable,
}

/// The owner graph of everything that is watched.
#[derive(Default)]
pub struct Graph {
    objects: HashMap<Uid, Object>,
    dependents: HashMap<Uid, BTreeSet<Uid>>,
    absent: HashSet<Uid>,
    absent_order: VecDeque<Uid>,
    /// Owners seen live that no watch feeds. Removed when an answer says otherwise.
    present: HashSet<Uid>,
    /// Looks that were asked and not answered.
    asked: HashSet<Uid>,
    dirty: BTreeSet<Uid>,
    warned: HashSet<(Uid, Uid)>,
}

impl Graph {
    /// An empty graph.
    pub fn new() -> Self {
        Self::default()
    }

    /// How many objects it holds.
    pub fn len(&self) -> usize {
        self.objects.len()
    }

    /// Whether it holds none.
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
                // Nothing that decides changed; remember the version for preconditions.
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
            // An owner that waits no longer counts on this dependent if the reference stopped blocking.
            for owner in object.owners.iter() {
                self.mark_if_waiting(&owner.uid);
            }
        } else {
            for owner in object.owners.iter() {
                self.mark_if_waiting(&owner.uid);
            }
            self.present.remove(&uid);
            self.asked.remove(&uid);
            // Dependents that were seen first may have been waiting for the owner to appear.
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

    /// An object is gone.
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

    /// The answer to a [`Action::Look`]: the object with this uid is there, or is not.
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

    /// An action about this object failed (or its look did): decide about it anew. An owner's uid marks what waits for it.
    pub fn retry(&mut self, uid: &Uid) {
        self.asked.remove(uid);
        if self.objects.contains_key(uid) {
            self.dirty.insert(uid.clone());
        }
        self.mark_dependents(uid);
    }

    /// Forget the live answers about owners that no watch feeds, so that they are asked for again: nothing else would ever
    /// tell that such an owner went away.
    pub fn recheck_unwatched(&mut self) {
        for uid in std::mem::take(&mut self.present) {
            self.mark_dependents(&uid);
        }
    }

    /// Whether something waits for [`Graph::plan`].
    pub fn has_work(&self) -> bool {
        !self.dirty.is_empty()
    }

    /// Decides about at most `limit` of the objects that an event marked, in the order of their uids.
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

    /// Every dependent loses its reference; with the last one the finalizer goes.
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

    /// With no blocking dependent left the finalizer goes; until then each dependent's own decision deletes it.
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
            // A circle of objects that all wait for one another would never end: an object that a dependent waits for lets its
            // own owners go first.
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

    /// Says once that a reference reaches into another namespace.
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
        // An owner that waits needs a look only when its last dependent went, or one that may have been the last blocker.
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

/// The strategic merge patch that removes references to `owners` from `object`. The uid in it makes the server refuse the patch
/// when another object has taken the name.
pub fn strip_owners_patch(object: &Identity, owners: &[Uid]) -> serde_json::Value {
    let references: Vec<_> = owners
        .iter()
        .map(|uid| serde_json::json!({"$patch": "delete", "uid": &**uid}))
        .collect();
    serde_json::json!({"metadata": {"uid": &*object.uid, "ownerReferences": references}})
}

/// The strategic merge patch that lets `object` block none of `owners`.
pub fn unblock_patch(object: &Identity, owners: &[Uid]) -> serde_json::Value {
    let references: Vec<_> = owners
        .iter()
        .map(|uid| serde_json::json!({"uid": &**uid, "blockOwnerDeletion": false}))
        .collect();
    serde_json::json!({"metadata": {"uid": &*object.uid, "ownerReferences": references}})
}

/// Groups looks about the same owner, so that a thousand dependents cost one request.
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

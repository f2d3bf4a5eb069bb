//! Applies watch events to the index, and marks what they affect.

use std::collections::BTreeSet;
use std::sync::Arc;

use api::taint::Taint;
use api::view::{ControllerRevisionView, DaemonSetView, NodeView, PodView, View};

use super::claims::Claim;
use super::set::Set;
use super::{Change, Fleet, Home, ObjectKey, PodEntry, Resource, Role, Spot};

fn key_of(view: &impl View) -> ObjectKey {
    (view.meta().namespace.clone(), view.meta().name.clone())
}

/// Returns whether a change of a node can affect DaemonSets: one of labels or taints can, a
/// heartbeat cannot.
fn concerns_daemons(old: &NodeView, new: &NodeView) -> bool {
    let same_taints =
        |a: &[Taint], b: &[Taint]| a.len() == b.len() && a.iter().zip(b).all(|(a, b)| a.same(b));
    old.meta.labels != new.meta.labels || !same_taints(&old.taints, &new.taints)
}

impl Fleet {
    pub(super) fn apply_node(&mut self, change: Change<NodeView>) {
        match change {
            Change::Upsert(node) => self.node_upsert(node),
            Change::Delete(node) => self.node_gone(&node.meta.name),
            Change::Replace { items, .. } => {
                let present: BTreeSet<_> = items.iter().map(|node| node.meta.name.clone()).collect();
                let gone: Vec<_> = self
                    .nodes
                    .keys()
                    .filter(|name| !present.contains(*name))
                    .cloned()
                    .collect();
                for name in gone {
                    self.node_gone(&name);
                }
                items.into_iter().for_each(|node| self.node_upsert(node));
                self.listed.nodes = true;
            }
            Change::Bookmark(_) => {}
        }
    }

    fn node_upsert(&mut self, node: Arc<NodeView>) {
        let name = node.meta.name.clone();
        let old = self.nodes.insert(name.clone(), node.clone());
        if old.is_some_and(|old| !concerns_daemons(&old, &node)) {
            return;
        }
        for (key, set) in &mut self.sets {
            set.node_changed(&name, Some(&node));
            if set.dirty.contains(&name) {
                self.dirty.insert(key.clone());
            }
        }
    }

    fn node_gone(&mut self, name: &Arc<str>) {
        if self.nodes.remove(name).is_none() {
            return;
        }
        for (key, set) in &mut self.sets {
            set.node_changed(name, None);
            if set.dirty.contains(name) {
                self.dirty.insert(key.clone());
            }
        }
    }

    pub(super) fn apply_pod(&mut self, change: Change<PodView>) {
        match change {
            Change::Upsert(pod) => {
                let revision = pod.meta.resource_version;
                self.pod_upsert(pod);
                self.reached(Resource::Pods, revision);
            }
            Change::Delete(pod) => {
                self.pod_gone(&key_of(&*pod));
                self.reached(Resource::Pods, pod.meta.resource_version);
            }
            Change::Replace { items, revision } => {
                let present: BTreeSet<_> = items.iter().map(|pod| key_of(&**pod)).collect();
                let gone: Vec<_> = self
                    .pods
                    .keys()
                    .filter(|key| !present.contains(*key))
                    .cloned()
                    .collect();
                for key in gone {
                    self.pod_gone(&key);
                }
                items.into_iter().for_each(|pod| self.pod_upsert(pod));
                self.reached(Resource::Pods, revision);
                self.listed.pods = true;
            }
            Change::Bookmark(revision) => self.reached(Resource::Pods, revision),
        }
    }

    fn pod_upsert(&mut self, pod: Arc<PodView>) {
        let key = key_of(&*pod);
        if self.pods.get(&key).is_some_and(|old| old.pod == pod) {
            return;
        }
        self.pod_gone(&key);
        // Pods of other controllers are ignored.
        if pod.meta.controller().is_some_and(|owner| !is_daemon_set(owner)) {
            return;
        }
        self.settle_pod(key, pod);
    }

    /// Adds a pod to the set that it belongs to now.
    fn settle_pod(&mut self, key: ObjectKey, pod: Arc<PodView>) {
        let home = self.home_of(&pod);
        if let Some(Home { set, role }) = &home
            && let Some(of) = self.sets.get_mut(set)
        {
            match role {
                Role::Ours => of.attach(&key, &pod, true),
                Role::ToAdopt => {
                    of.attach(&key, &pod, false);
                    of.claims.want(&key, Claim::Adopt, &pod.meta.uid);
                }
                Role::ToRelease => of.claims.want(&key, Claim::Release, &pod.meta.uid),
            }
            self.dirty.insert(set.clone());
        }
        self.pods.insert(key, PodEntry { pod, home });
    }

    fn pod_gone(&mut self, key: &ObjectKey) {
        let Some(PodEntry { pod, home }) = self.pods.remove(key) else {
            return;
        };
        if let Some(Home { set, role }) = home
            && let Some(of) = self.sets.get_mut(&set)
        {
            match role {
                Role::Ours => of.detach(key, &pod, true),
                Role::ToAdopt => {
                    of.detach(key, &pod, false);
                    of.claims.unwant(key);
                }
                Role::ToRelease => of.claims.unwant(key),
            }
            self.dirty.insert(set);
        }
    }

    /// The set that a pod belongs to, and how. An owner counts if kind, name and uid match. An
    /// orphan belongs to the first set, by name, that selects it.
    fn home_of(&self, pod: &PodView) -> Option<Home> {
        let namespace = &pod.meta.namespace;
        if let Some(owner) = pod.meta.controller() {
            let set = (namespace.clone(), owner.name.clone());
            let view = &self
                .sets
                .get(&set)
                .filter(|set| set.view.meta.uid == owner.uid)?
                .view;
            let role = match view.selector.matches_labels(&pod.meta.labels) {
                true => Role::Ours,
                false => Role::ToRelease,
            };
            return Some(Home { set, role });
        }
        if pod.is_terminating() {
            return None;
        }
        let set = self
            .sets_of(namespace)
            .find(|(_, set)| !set.is_halted() && set.view.selector.matches_labels(&pod.meta.labels))?;
        Some(Home {
            set: set.0.clone(),
            role: Role::ToAdopt,
        })
    }

    fn sets_of(&self, namespace: &Arc<str>) -> impl Iterator<Item = (&ObjectKey, &Set)> {
        let start = (namespace.clone(), Arc::from(""));
        self.sets
            .range(start..)
            .take_while(move |((of, _), _)| of == namespace)
    }

    /// Finds the sets of a namespace's pods again, after a set was created, changed or deleted.
    fn resettle(&mut self, namespace: &Arc<str>, concerns: impl Fn(&PodEntry) -> bool) {
        let start = (namespace.clone(), Arc::from(""));
        let pods = self
            .pods
            .range(start..)
            .take_while(|((of, _), _)| of == namespace);
        let keys: Vec<_> = pods
            .filter(|(_, entry)| concerns(entry))
            .map(|(key, _)| key.clone())
            .collect();
        for key in keys {
            if let Some(PodEntry { pod, .. }) = self.pods.get(&key).cloned() {
                self.pod_gone(&key);
                self.settle_pod(key, pod);
            }
        }
    }

    pub(super) fn apply_daemon_set(&mut self, change: Change<DaemonSetView>) {
        match change {
            Change::Upsert(set) => {
                let revision = set.meta.resource_version;
                self.set_upsert(set);
                self.reached(Resource::DaemonSets, revision);
            }
            Change::Delete(set) => {
                self.set_gone(&key_of(&*set));
                self.reached(Resource::DaemonSets, set.meta.resource_version);
            }
            Change::Replace { items, revision } => {
                let present: BTreeSet<_> = items.iter().map(|set| key_of(&**set)).collect();
                let gone: Vec<_> = self
                    .sets
                    .keys()
                    .filter(|key| !present.contains(*key))
                    .cloned()
                    .collect();
                for key in gone {
                    self.set_gone(&key);
                }
                items.into_iter().for_each(|set| self.set_upsert(set));
                self.reached(Resource::DaemonSets, revision);
                self.listed.daemon_sets = true;
            }
            Change::Bookmark(revision) => self.reached(Resource::DaemonSets, revision),
        }
    }

    fn set_upsert(&mut self, view: Arc<DaemonSetView>) {
        let key = key_of(&*view);
        let namespace = key.0.clone();
        let old = self.sets.get(&key).map(|set| set.view.clone());
        self.dirty.insert(key.clone());
        match old {
            Some(old) if old.meta.uid == view.meta.uid => {
                let claims_change =
                    old.selector != view.selector || old.meta.is_terminating() != view.meta.is_terminating();
                if let Some(set) = self.sets.get_mut(&key) {
                    set.update(view, &self.nodes);
                }
                if claims_change {
                    let concerned = key.clone();
                    self.resettle(&namespace, move |entry| match &entry.home {
                        Some(home) => home.set == concerned,
                        None => true,
                    });
                }
            }
            recreated => {
                if recreated.is_some() {
                    self.set_gone(&key);
                }
                self.dirty.insert(key.clone());
                let uid = view.meta.uid.clone();
                self.sets
                    .insert(key.clone(), Set::new(view, &self.nodes, self.options));
                self.resettle(&namespace, move |entry| {
                    entry.home.is_none() && entry.pod.meta.controller().is_none_or(|owner| owner.uid == uid)
                });
            }
        }
    }

    fn set_gone(&mut self, key: &ObjectKey) {
        let Some(set) = self.sets.remove(key) else {
            return;
        };
        if let Some(moment) = set.wake_at {
            self.wakes.remove(&(moment, key.clone()));
        }
        self.dirty.remove(key);
        // Its pods stay in the index, because another set may adopt the orphans.
        let gone = key.clone();
        self.resettle(&key.0, move |entry| {
            entry.home.as_ref().is_some_and(|home| home.set == gone)
        });
    }

    pub(super) fn apply_revision(&mut self, change: Change<ControllerRevisionView>) {
        match change {
            Change::Upsert(revision) => {
                let at = revision.meta.resource_version;
                self.revision_upsert(revision);
                self.reached(Resource::Revisions, at);
            }
            Change::Delete(revision) => {
                self.revision_gone(&key_of(&*revision));
                self.reached(Resource::Revisions, revision.meta.resource_version);
            }
            Change::Replace { items, revision } => {
                let present: BTreeSet<_> = items.iter().map(|revision| key_of(&**revision)).collect();
                let gone: Vec<_> = self
                    .revisions
                    .keys()
                    .filter(|key| !present.contains(*key))
                    .cloned()
                    .collect();
                for key in gone {
                    self.revision_gone(&key);
                }
                items
                    .into_iter()
                    .for_each(|revision| self.revision_upsert(revision));
                self.reached(Resource::Revisions, revision);
                self.listed.revisions = true;
            }
            Change::Bookmark(revision) => self.reached(Resource::Revisions, revision),
        }
    }

    fn revision_upsert(&mut self, revision: Arc<ControllerRevisionView>) {
        let key = key_of(&*revision);
        let old = self.revisions.insert(key.clone(), revision.clone());
        if old.as_ref() == Some(&revision) {
            return;
        }
        // A new revision that already has its owner does not trigger a pass over the history: we
        // wrote it ourselves, or its author is not finished.
        if old.is_some() || !revision.meta.controller().is_some_and(is_daemon_set) {
            self.history_changed(&key);
        }
    }

    fn revision_gone(&mut self, key: &ObjectKey) {
        if self.revisions.remove(key).is_some() {
            self.history_changed(key);
        }
    }

    /// Marks the history of every set in the namespace dirty: revisions are few and rarely change.
    fn history_changed(&mut self, key: &ObjectKey) {
        let keys: Vec<_> = self.sets_of(&key.0).map(|(set, _)| set.clone()).collect();
        for set_key in keys {
            if let Some(set) = self.sets.get_mut(&set_key) {
                set.history_dirty = true;
                if set
                    .revision_writes
                    .get(&key.1)
                    .is_some_and(|write| !write.is_in_flight())
                {
                    set.revision_writes.remove(&key.1);
                }
            }
            self.dirty.insert(set_key);
        }
    }

    /// A watch has reached a revision, so it has shown all writes up to there.
    pub(super) fn reached(&mut self, resource: Resource, revision: u64) {
        let seen = self.world.seen.of(resource);
        *seen = revision.max(*seen);
        let seen = *seen;
        let unseen = self.world.unseen.of(resource);
        while unseen.first().is_some_and(|(at, _, _)| *at <= seen) {
            let Some((_, key, spot)) = unseen.pop_first() else {
                break;
            };
            let Some(set) = self.sets.get_mut(&key) else {
                continue;
            };
            match spot {
                Spot::Pair(node) => {
                    set.dirty.insert(node);
                }
                Spot::Claim(pod) => set.claims.reached(&pod, seen),
                Spot::Revision(name) => {
                    if set
                        .revision_writes
                        .get(&name)
                        .is_some_and(|write| write.is_seen(seen))
                    {
                        set.revision_writes.remove(&name);
                        set.history_dirty = true;
                    }
                }
                Spot::Status => set.status_write = set.status_write.filter(|write| !write.is_seen(seen)),
            }
            self.dirty.insert(key);
        }
    }
}

fn is_daemon_set(owner: &api::view::OwnerView) -> bool {
    &*owner.kind == "DaemonSet" && owner.api_version.split('/').next() == Some("apps")
}

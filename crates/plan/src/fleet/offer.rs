//! Plans the actions for all sets with unprocessed changes.

use std::collections::BTreeMap;
use std::sync::Arc;

use api::view::{ControllerRevisionView, NodeView};
use jiff::Timestamp;

use super::action::{Act, Action, EventRecord, Target};
use super::claims::Claim;
use super::pair::Writes;
use super::set::{Confirm, Set};
use super::write::{Creation, Inspect, Write};
use super::{Fleet, ObjectKey, Options, Plan, World};
use crate::daemonset::{DeleteReason, NodeName, pod_name};
use crate::history;
use crate::rollout::Mode;

impl Fleet {
    /// Plans. Everything in the plan counts as requested: each action must be carried out and
    /// answered.
    pub fn plan(&mut self, now: Timestamp) -> Plan {
        let mut plan = Plan::default();
        let listed = self.listed;
        if !(listed.nodes && listed.pods && listed.daemon_sets && listed.revisions) {
            return plan;
        }
        self.world.work.plans += 1;
        while let Some((moment, _)) = self.wakes.first()
            && *moment <= now
        {
            if let Some((_, key)) = self.wakes.pop_first() {
                if let Some(set) = self.sets.get_mut(&key) {
                    set.wake_at = None;
                    set.due(now);
                }
                self.dirty.insert(key);
            }
        }
        for key in std::mem::take(&mut self.dirty) {
            let revisions = self.revisions_of(&key);
            let Some(set) = self.sets.get_mut(&key) else {
                continue;
            };
            let mut pass = Pass {
                set,
                world: &mut self.world,
                options: self.options,
                now,
                nodes: &self.nodes,
                plan: &mut plan,
                adopted: false,
            };
            pass.run(&revisions);
            let wake_at = set.next_wake(now);
            if set.wake_at != wake_at {
                if let Some(moment) = set.wake_at {
                    self.wakes.remove(&(moment, key.clone()));
                }
                if let Some(moment) = wake_at {
                    self.wakes.insert((moment, key.clone()));
                }
                set.wake_at = wake_at;
            }
        }
        self.world.work.actions += plan.actions.len() as u64;
        plan.look_again = self.wakes.first().map(|(moment, _)| *moment);
        plan
    }

    /// Judges the dirty sets, and issues no action.
    pub(super) fn judge(&mut self, now: Timestamp) {
        for key in self.dirty.clone() {
            let revisions = self.revisions_of(&key);
            let Some(set) = self.sets.get_mut(&key) else {
                continue;
            };
            let history = set.judge_history(&revisions);
            set.set_hash(history.hash);
            for node in std::mem::take(&mut set.dirty) {
                set.refresh(&node, &mut self.world, now);
            }
        }
    }

    /// The revisions of a set's namespace, if the set's history is dirty.
    fn revisions_of(&self, key: &ObjectKey) -> Vec<Arc<ControllerRevisionView>> {
        if !self.sets.get(key).is_some_and(|set| set.history_dirty) {
            return Vec::new();
        }
        let start = (key.0.clone(), Arc::from(""));
        let of_namespace = self
            .revisions
            .range(start..)
            .take_while(|((namespace, _), _)| *namespace == key.0);
        of_namespace.map(|(_, revision)| revision.clone()).collect()
    }
}

/// One pass over one set.
struct Pass<'a> {
    set: &'a mut Set,
    world: &'a mut World,
    options: Options,
    now: Timestamp,
    nodes: &'a BTreeMap<NodeName, Arc<NodeView>>,
    plan: &'a mut Plan,
    /// Whether anything was adopted in this pass.
    adopted: bool,
}

impl Pass<'_> {
    fn run(&mut self, revisions: &[Arc<ControllerRevisionView>]) {
        if self.set.view.meta.is_terminating() {
            self.set.dirty.clear();
            return;
        }
        if self.set.view.selector.is_everything() {
            self.set.dirty.clear();
            self.complain_of_empty_selector();
            return;
        }
        self.claim_pods();
        self.look_at_history(revisions);
        if self.adopted {
            // The read of the set confirmed all adoptions of this pass. The next adoption needs
            // another read.
            self.set.confirm = Confirm::No;
        }
        for node in std::mem::take(&mut self.set.dirty) {
            self.set.refresh(&node, self.world, self.now);
        }
        if self.set.settled {
            self.delete_pods();
            self.create_pods();
            self.roll_out();
        }
        self.write_status();
    }

    fn act(&mut self, act: Act) {
        self.plan.actions.push(Action {
            set: self.set.reference.clone(),
            act,
        });
    }

    fn event(&mut self, warning: bool, reason: &'static str, message: String) {
        self.plan.events.push(EventRecord {
            set: self.set.reference.clone(),
            warning,
            reason,
            message,
        });
    }

    fn write(&self) -> Write {
        Write::new(self.set.view.meta.generation, self.now)
    }

    fn complain_of_empty_selector(&mut self) {
        let generation = self.set.view.meta.generation;
        if self.set.complained.replace(generation) != Some(generation) {
            let message = "This daemon set is selecting all pods. A non-empty selector is required.";
            self.event(true, "SelectingAll", message.to_owned());
        }
    }

    /// Adopts and releases pods. Reads the set before the first adoption, because the watch may not
    /// yet have shown that it is terminating.
    fn claim_pods(&mut self) {
        while let Some((key, uid)) = self.set.claims.next(Claim::Release) {
            let target = Target {
                name: key.1.clone(),
                uid,
            };
            self.claim(key, Act::ReleasePod(target));
        }
        if !self.set.claims.has_orphans() || !self.confirmed() {
            return;
        }
        while let Some((key, uid)) = self.set.claims.next(Claim::Adopt) {
            let target = Target {
                name: key.1.clone(),
                uid,
            };
            self.claim(key, Act::AdoptPod(target));
        }
    }

    fn claim(&mut self, key: ObjectKey, act: Act) {
        let write = self.write();
        self.set.claims.asked(key, write);
        self.act(act);
    }

    /// Returns whether a read just showed the set alive; if not, requests a read.
    fn confirmed(&mut self) -> bool {
        match self.set.confirm {
            Confirm::Alive => {
                self.adopted = true;
                true
            }
            Confirm::No if self.set.claims.confirm_retry.is_waiting(self.now) => false,
            Confirm::No => {
                self.set.confirm = Confirm::InFlight;
                self.act(Act::ConfirmSet);
                false
            }
            Confirm::InFlight | Confirm::Dying => false,
        }
    }

    fn look_at_history(&mut self, revisions: &[Arc<ControllerRevisionView>]) {
        if let Some(name) = self.set.inspect_revision.take() {
            self.act(Act::InspectRevision(name));
        }
        if !self.set.history_dirty
            || !self.set.revision_writes.is_empty()
            || self.set.history_retry.is_waiting(self.now)
        {
            return;
        }
        self.set.history_dirty = false;
        let history = self.set.judge_history(revisions);
        self.set.set_hash(history.hash);
        self.set.settled = history.settled;
        for step in history.steps {
            self.history_step(step);
        }
    }

    fn history_step(&mut self, step: history::Step) {
        use history::Step;
        let target = |revision: &ControllerRevisionView| Target {
            name: revision.meta.name.clone(),
            uid: revision.meta.uid.clone(),
        };
        let (name, act) = match step {
            Step::Write { name, revision } => {
                if self.set.settled || self.set.collided {
                    return;
                }
                let body = history::body(&self.set.view, &self.set.data, &name, &self.set.hash, revision);
                (
                    name.clone(),
                    Act::WriteRevision {
                        name,
                        body: body.into(),
                    },
                )
            }
            Step::Adopt(revision) => {
                if !self.confirmed() {
                    self.set.history_dirty = true;
                    return;
                }
                (revision.meta.name.clone(), Act::AdoptRevision(target(&revision)))
            }
            Step::Release(revision) => (
                revision.meta.name.clone(),
                Act::ReleaseRevision(target(&revision)),
            ),
            Step::Label(revision) => {
                let hash = revision.meta.name.clone();
                (
                    revision.meta.name.clone(),
                    Act::LabelRevision(target(&revision), hash),
                )
            }
            Step::Renumber(revision, number) => (
                revision.meta.name.clone(),
                Act::RenumberRevision(target(&revision), number),
            ),
            Step::Drop(revision) => (revision.meta.name.clone(), Act::DropRevision(target(&revision))),
            Step::Relabel { from, to } => {
                self.relabel_pods(&from, &to);
                return;
            }
        };
        // One write for each revision at a time: the next change follows when the watch shows this
        // one.
        if self.set.revision_writes.contains_key(&name) {
            self.set.history_dirty = true;
            return;
        }
        let write = self.write();
        self.set.revision_writes.insert(name, write);
        self.act(act);
    }

    /// Gives the pods of a duplicate revision the hash of the one that is kept, so that they count
    /// as updated.
    fn relabel_pods(&mut self, from: &str, to: &Arc<str>) {
        let carries = |pod: &api::view::PodView| {
            pod.meta.labels.get(crate::daemonset::HASH_LABEL) == Some(from) && !pod.is_terminating()
        };
        let of_nodes = self
            .set
            .pairs
            .values()
            .flat_map(|pair| pair.pods.iter().map(|(pod, _)| pod));
        let pods: Vec<_> = of_nodes
            .chain(self.set.homeless.values())
            .filter(|pod| carries(pod))
            .cloned()
            .collect();
        for pod in pods {
            let key = (pod.meta.namespace.clone(), pod.meta.name.clone());
            if !self.set.claims.has_room() {
                // The rest follows when requests are answered.
                self.set.history_dirty = true;
                return;
            }
            if !self.set.claims.is_being_written(&key) {
                let target = Target {
                    name: pod.meta.name.clone(),
                    uid: pod.meta.uid.clone(),
                };
                self.claim(key, Act::RelabelPod(target, to.clone()));
            }
        }
    }

    fn room_for_deletes(&self) -> usize {
        self.options.burst.saturating_sub(self.set.deletes_in_flight)
    }

    /// Deletes the pods that must be deleted whatever the budget.
    fn delete_pods(&mut self) {
        while self.room_for_deletes() > 0
            && let Some(node) = self.set.queues.delete.first().cloned()
        {
            let Some(pair) = self.set.pairs.get(&node) else {
                self.set.queues.delete.remove(&node);
                continue;
            };
            for (pod, reason) in pair.judgement.delete.clone() {
                self.delete(&node, &pod, reason);
            }
            self.set.refresh(&node, self.world, self.now);
        }
    }

    fn delete(&mut self, node: &NodeName, pod: &api::view::PodView, reason: DeleteReason) {
        let write = self.write();
        let uid = pod.meta.uid.clone();
        let Some(pair) = self.set.pairs.get_mut(node) else {
            return;
        };
        pair.deletion_issued(pod, reason, write, self.now);
        self.set.write_issued();
        self.set.deletes_in_flight += 1;
        let (namespace, name) = (&pod.meta.namespace, &pod.meta.name);
        match reason {
            DeleteReason::Failed => self.event(
                true,
                "FailedDaemonPod",
                format!("Found failed daemon pod {namespace}/{name} on node {node}, will try to kill it"),
            ),
            DeleteReason::Succeeded => self.event(
                false,
                "SucceededDaemonPod",
                format!(
                    "Found succeeded daemon pod {namespace}/{name} on node {node}, will try to delete it"
                ),
            ),
            _ => {}
        }
        self.act(Act::DeletePod {
            node: node.clone(),
            name: name.clone(),
            uid,
            reason,
        });
    }

    /// Replaces available old pods within the budget, in the order of node names. Pods that are not
    /// available were replaced before, without using the budget.
    fn roll_out(&mut self) {
        let budget = self.set.budget();
        match self.set.rules().mode {
            Mode::OnDelete => {}
            Mode::InPlace => {
                while self.set.tally.unavailable < budget.max_unavailable
                    && self.room_for_deletes() > 0
                    && let Some(node) = self.set.queues.candidates.first().cloned()
                {
                    if !self.delete_staying(&node, DeleteReason::Outdated) {
                        return;
                    }
                }
            }
            Mode::Surge => {
                while self.set.tally.served > self.set.tally.desired
                    && self.room_for_deletes() > 0
                    && let Some(node) = self.set.queues.sunset.first().cloned()
                {
                    if !self.delete_staying(&node, DeleteReason::Misplaced) {
                        return;
                    }
                }
                while self.set.tally.surging < budget.max_surge
                    && self.set.gate.admits_surge(self.now)
                    && let Some(node) = self.set.queues.candidates.first().cloned()
                {
                    self.create(&node);
                }
            }
        }
    }

    /// Deletes the one pod of a node that stays until the rollout replaces it. Returns false if
    /// there is none, which the queues exclude.
    fn delete_staying(&mut self, node: &NodeName, reason: DeleteReason) -> bool {
        let staying = self.set.pairs.get(node).and_then(|pair| {
            pair.pods
                .iter()
                .find(|(pod, held)| *held == crate::daemonset::Held::Ours && !pod.is_terminating())
        });
        let Some((pod, _)) = staying.cloned() else {
            return false;
        };
        self.delete(node, &pod, reason);
        self.set.refresh(node, self.world, self.now);
        true
    }

    /// Creates missing pods, in the order of node names, as far as the gate allows.
    fn create_pods(&mut self) {
        if self.set.queues.create.is_empty() {
            self.set.gate.rest();
        }
        self.look_at_names();
        while let Some(node) = self.set.gate.next(&self.set.queues.create, self.now) {
            self.create(&node);
        }
    }

    fn create(&mut self, node: &NodeName) {
        let (hash, template, write) = (self.set.hash.clone(), self.set.template(), self.write());
        let meta = &self.set.view.meta;
        let Some(pair) = self.set.pairs.get_mut(node) else {
            self.set.queues.create.remove(node);
            self.set.queues.candidates.remove(node);
            return;
        };
        let name: Arc<str> = pod_name(&meta.name, &meta.uid, node, &hash, &pair.lineage, pair.salt).into();
        let earlier = pair.writes_mut().creation.replace(Creation {
            name: name.clone(),
            write,
            inspect: Inspect::No,
        });
        if let Some(earlier) = earlier {
            // Its pod is visible before the answer came; otherwise no second creation would be
            // planned.
            self.set.write_settled(earlier.write);
        }
        self.set.write_issued();
        self.set.gate.asked();
        self.act(Act::CreatePod {
            node: node.clone(),
            name,
            hash,
            template,
        });
        self.set.refresh(node, self.world, self.now);
    }

    /// Reads pods whose names block creations, and pods whose creation or deletion got no answer.
    fn look_at_names(&mut self) {
        for node in std::mem::take(&mut self.set.inspect) {
            let Some(pair) = self.set.pairs.get_mut(&node) else {
                continue;
            };
            if pair.is_held_back(self.now) {
                self.set.inspect.insert(node);
                continue;
            }
            let Some(Writes { creation, deletions }) = pair.writes.as_deref_mut() else {
                continue;
            };
            let mut acts = Vec::new();
            if let Some(creation) = creation
                && creation.inspect.begins()
            {
                acts.push(Act::InspectPod {
                    node: node.clone(),
                    name: creation.name.clone(),
                });
            }
            for deletion in deletions {
                if deletion.inspect.begins() {
                    acts.push(Act::ConfirmPod {
                        node: node.clone(),
                        pod: Target {
                            name: deletion.name.clone(),
                            uid: deletion.uid.clone(),
                        },
                    });
                }
            }
            acts.into_iter().for_each(|act| self.act(act));
        }
    }

    /// Writes the status if it differs from the desired one; one write at a time.
    fn write_status(&mut self) {
        let set = &mut *self.set;
        if set.status_write.is_some() || set.status_retry.is_waiting(self.now) {
            return;
        }
        let mut status = set.status();
        let mut conditions = Vec::new();
        if set.collided {
            let collisions = set.view.status.collision_count.unwrap_or(0);
            status = set.view.status.clone();
            status.collision_count = Some(collisions.saturating_add(1));
        } else if !set.settled {
            // The numbers are about a template that has no revision yet.
            return;
        } else {
            conditions.extend(set.conditions(|node| self.nodes.get(node), self.now));
        }
        if status == set.view.status && set.has_conditions(&conditions) {
            return;
        }
        if !conditions.is_empty() {
            set.written_conditions.clone_from(&conditions);
        }
        set.observed_generation = status.observed_generation;
        let at = set.view.meta.resource_version;
        set.status_write = Some(Write::new(set.view.meta.generation, self.now));
        self.act(Act::UpdateStatus {
            status,
            conditions,
            at,
        });
    }
}

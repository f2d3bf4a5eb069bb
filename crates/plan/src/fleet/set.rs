//! One DaemonSet: its compiled template, its nodes, and their counts for status and budget.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use api::view::{ControllerRevisionView, DaemonSetStatusView, DaemonSetView, NodeView, PodView};
use jiff::Timestamp;

use super::action::DaemonSetRef;
use super::claims::Claims;
use super::conditions::Condition;
use super::gate::Gate;
use super::pair::Pair;
use super::write::{Retry, Write};
use super::{ObjectKey, Options, World};
use crate::daemonset::{Aim, CurrentTemplate, Judgement, NodeName, Placement, PodTemplate, Rules, Trouble};
use crate::history::{self, History};
use crate::rollout::{Budget, Lane, Mode};

/// A DaemonSet and its state.
#[derive(Debug)]
pub(super) struct Set {
    pub(super) view: Arc<DaemonSetView>,
    pub(super) reference: Arc<DaemonSetRef>,
    pub(super) placement: Placement,
    /// The current template as a revision holds it.
    pub(super) data: Vec<u8>,
    /// The hash of the current template.
    pub(super) hash: Arc<str>,
    /// Whether the revision of the current template exists. Pods are created only then.
    pub(super) settled: bool,
    template: Option<Arc<PodTemplate>>,
    aim: Aim,

    pub(super) pairs: BTreeMap<NodeName, Pair>,
    /// Pairs to judge again.
    pub(super) dirty: BTreeSet<NodeName>,
    pub(super) tally: Tally,
    pub(super) queues: Queues,
    deadlines: BTreeSet<(Timestamp, NodeName)>,
    /// Our pods that have no node.
    pub(super) homeless: BTreeMap<ObjectKey, Arc<PodView>>,
    /// Number of our pods with each hash.
    pub(super) hashes: BTreeMap<Arc<str>, usize>,

    /// Pods to adopt, to release and to relabel.
    pub(super) claims: Claims,
    pub(super) confirm: Confirm,

    pub(super) history_dirty: bool,
    pub(super) history_retry: Retry,
    /// Revisions that are being written, by name.
    pub(super) revision_writes: BTreeMap<Arc<str>, Write>,
    /// A revision to read because its name is taken.
    pub(super) inspect_revision: Option<Arc<str>>,

    pub(super) status_write: Option<Write>,
    /// The conditions that were last written.
    pub(super) written_conditions: Vec<Condition>,
    /// A revision of another template has the hash's name: `collisionCount` must rise.
    pub(super) collided: bool,

    pub(super) gate: Gate,
    pub(super) deletes_in_flight: usize,
    /// Nodes with a pod that must be read, because its name is taken or an answer was lost.
    pub(super) inspect: BTreeSet<NodeName>,
    pub(super) status_retry: Retry,
    /// Writes of pods not yet shown by the watch, and those of them that an older generation
    /// requested.
    pub(super) unseen: usize,
    pub(super) unseen_of_older: usize,
    pub(super) observed_generation: i64,
    /// The generation for which an event reported the empty selector.
    pub(super) complained: Option<i64>,
    pub(super) wake_at: Option<Timestamp>,
}

/// Whether the set was read, as it must be before it adopts anything.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Confirm {
    No,
    InFlight,
    Alive,
    /// It is terminating or deleted; the watch will show it.
    Dying,
}

/// Number of nodes in each state.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(super) struct Tally {
    pub(super) desired: usize,
    pub(super) current: usize,
    pub(super) misscheduled: usize,
    pub(super) ready: usize,
    pub(super) available: usize,
    pub(super) updated: usize,
    pub(super) unavailable: usize,
    pub(super) surging: usize,
    pub(super) served: usize,
}

impl Tally {
    fn counters(&mut self, judgement: &Judgement) -> [(&mut usize, bool); 9] {
        let count = judgement.count;
        [
            (&mut self.desired, count.desired),
            (&mut self.current, count.current),
            (&mut self.misscheduled, count.misscheduled),
            (&mut self.ready, count.ready),
            (&mut self.available, count.available),
            (&mut self.updated, count.updated),
            (&mut self.unavailable, judgement.lane == Lane::Unavailable),
            (&mut self.surging, judgement.lane == Lane::Surging),
            (&mut self.served, judgement.served),
        ]
    }

    pub(super) fn add(&mut self, judgement: &Judgement) {
        for (counter, counts) in self.counters(judgement) {
            *counter += usize::from(counts);
        }
    }

    fn remove(&mut self, judgement: &Judgement) {
        for (counter, counts) in self.counters(judgement) {
            *counter -= usize::from(counts);
        }
    }
}

/// Nodes with something to do, by name.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(super) struct Queues {
    pub(super) create: BTreeSet<NodeName>,
    pub(super) delete: BTreeSet<NodeName>,
    pub(super) candidates: BTreeSet<NodeName>,
    pub(super) sunset: BTreeSet<NodeName>,
    /// Nodes that the rollout waits for and that use its budget.
    pub(super) stuck: BTreeSet<NodeName>,
    /// The other nodes that the rollout waits for.
    pub(super) waiting: BTreeSet<NodeName>,
    /// Nodes where a request was refused.
    pub(super) refused: BTreeSet<NodeName>,
}

impl Queues {
    fn update(&mut self, node: &NodeName, old: &Judgement, new: &Judgement) {
        let queues = [
            (&mut self.create, old.create, new.create),
            (&mut self.delete, !old.delete.is_empty(), !new.delete.is_empty()),
            (
                &mut self.candidates,
                old.lane == Lane::Candidate,
                new.lane == Lane::Candidate,
            ),
            (
                &mut self.sunset,
                old.lane == Lane::Sunset,
                new.lane == Lane::Sunset,
            ),
            (&mut self.stuck, old.is_stuck(), new.is_stuck()),
            (
                &mut self.waiting,
                old.waits && !old.is_stuck(),
                new.waits && !new.is_stuck(),
            ),
            (&mut self.refused, old.refused, new.refused),
        ];
        for (queue, was_in, is_in) in queues {
            match (was_in, is_in) {
                (false, true) => {
                    queue.insert(node.clone());
                }
                (true, false) => {
                    queue.remove(node);
                }
                _ => {}
            }
        }
    }
}

impl Set {
    /// A set over the existing nodes; its pods are attached afterwards.
    pub(super) fn new(
        view: Arc<DaemonSetView>,
        nodes: &BTreeMap<NodeName, Arc<NodeView>>,
        options: Options,
    ) -> Set {
        let data = history::data(&view.template);
        let mut set = Set {
            reference: reference(&view),
            placement: Placement::compile(&view.template),
            hash: history::hash(&data, view.status.collision_count).into(),
            data,
            settled: false,
            template: None,
            aim: options.aim,
            pairs: BTreeMap::new(),
            dirty: BTreeSet::new(),
            tally: Tally::default(),
            queues: Queues::default(),
            deadlines: BTreeSet::new(),
            homeless: BTreeMap::new(),
            hashes: BTreeMap::new(),
            claims: Claims::new(options.burst),
            confirm: Confirm::No,
            history_dirty: true,
            history_retry: Retry::default(),
            revision_writes: BTreeMap::new(),
            inspect_revision: None,
            status_write: None,
            written_conditions: Vec::new(),
            collided: false,
            gate: Gate::new(options.burst),
            deletes_in_flight: 0,
            inspect: BTreeSet::new(),
            status_retry: Retry::default(),
            unseen: 0,
            unseen_of_older: 0,
            observed_generation: view.status.observed_generation,
            complained: None,
            wake_at: None,
            view,
        };
        for (name, node) in nodes {
            set.node_changed(name, Some(node));
        }
        set
    }

    /// Applies the set's new state, and marks the pairs that the change affects.
    pub(super) fn update(&mut self, view: Arc<DaemonSetView>, nodes: &BTreeMap<NodeName, Arc<NodeView>>) {
        let old = std::mem::replace(&mut self.view, view);
        self.reference = reference(&self.view);
        let new = &self.view;
        if old.meta.generation != new.meta.generation {
            self.unseen_of_older = self.unseen;
            self.gate.reopen();
            self.history_retry = Retry::default();
            // Requests that were refused before the change may succeed now.
            for pair in self.pairs.values_mut() {
                pair.refusal = None;
            }
        }
        if self.confirm == Confirm::Dying {
            self.confirm = Confirm::No;
        }
        let template_changed = old.template != new.template;
        let pods_change = template_changed || old.template_generation() != new.template_generation();
        if pods_change {
            self.template = None;
        }
        if old.status.collision_count != new.status.collision_count {
            self.collided = false;
        }
        self.history_dirty |= template_changed
            || old.status.collision_count != new.status.collision_count
            || old.revision_history_limit != new.revision_history_limit;
        let rules_change = old.strategy != new.strategy
            || old.min_ready_seconds != new.min_ready_seconds
            || old.meta.generation != new.meta.generation
            || old.meta.is_terminating() != new.meta.is_terminating();
        if template_changed {
            self.settled = false;
            self.collided = false;
            self.data = history::data(&self.view.template);
            self.hash = history::hash(&self.data, self.view.status.collision_count).into();
            self.placement = Placement::compile(&self.view.template);
            for (name, node) in nodes {
                self.node_changed(name, Some(node));
            }
        }
        if pods_change || rules_change {
            self.dirty.extend(self.pairs.keys().cloned());
        }
    }

    /// The rules that apply to all nodes.
    pub(super) fn rules(&self) -> Rules<'_> {
        Rules {
            template: CurrentTemplate {
                hash: &self.hash,
                generation: self.view.template_generation(),
                since: self.view.meta.creation_timestamp,
            },
            min_ready_seconds: self.view.min_ready_seconds,
            mode: Mode::of(&self.view.strategy),
            aim: self.aim,
        }
    }

    /// The rollout's budget for the present number of nodes.
    pub(super) fn budget(&self) -> Budget {
        Budget::of(&self.view.strategy, self.tally.desired)
    }

    /// The current template's pod, rendered on first use.
    pub(super) fn template(&mut self) -> Arc<PodTemplate> {
        let (view, hash, aim) = (&self.view, &self.hash, self.aim);
        self.template
            .get_or_insert_with(|| Arc::new(PodTemplate::render(view, hash, aim)))
            .clone()
    }

    /// Sets the hash of the current template.
    pub(super) fn set_hash(&mut self, current: Arc<str>) {
        if self.hash == current {
            return;
        }
        self.hash = current;
        self.template = None;
        self.dirty.extend(self.pairs.keys().cloned());
    }

    /// Judges the set's history.
    pub(super) fn judge_history(&self, revisions: &[Arc<ControllerRevisionView>]) -> History {
        history::judge(&self.view, &self.data, revisions, |hash| {
            self.hashes.contains_key(hash)
        })
    }

    /// The name of the current template's revision.
    pub(super) fn revision_name(&self) -> String {
        history::revision_name(&self.view, &self.hash)
    }

    /// Returns whether nothing may be done: the set is terminating, or selects every pod.
    pub(super) fn is_halted(&self) -> bool {
        self.view.meta.is_terminating() || self.view.selector.is_everything()
    }

    /// A node was added, changed or deleted.
    pub(super) fn node_changed(&mut self, name: &NodeName, node: Option<&Arc<NodeView>>) {
        let fit = node.map(|node| self.placement.fit(node));
        if fit.is_none() && !self.pairs.contains_key(name) {
            return;
        }
        let trouble = node.and_then(|node| Trouble::of(node));
        let pair = self.pairs.entry(name.clone()).or_default();
        if (pair.fit, pair.trouble) != (fit, trouble) {
            (pair.fit, pair.trouble) = (fit, trouble);
            self.dirty.insert(name.clone());
        }
    }

    /// A pod of ours, or one to adopt, was added or changed.
    pub(super) fn attach(&mut self, key: &ObjectKey, pod: &Arc<PodView>, ours: bool) {
        if ours && let Some(hash) = pod.meta.labels.get(crate::daemonset::HASH_LABEL) {
            *self.hashes.entry(api::view::shared(hash)).or_default() += 1;
        }
        match pod.target_node() {
            Some(node) => {
                self.pairs
                    .entry(node.clone())
                    .or_default()
                    .attach(pod.clone(), ours);
                self.dirty.insert(node.clone());
            }
            None => {
                self.homeless.insert(key.clone(), pod.clone());
            }
        }
    }

    /// Removes the older state of a pod.
    pub(super) fn detach(&mut self, key: &ObjectKey, pod: &Arc<PodView>, ours: bool) {
        if ours
            && let Some(hash) = pod.meta.labels.get(crate::daemonset::HASH_LABEL)
            && let Some(count) = self.hashes.get_mut(hash)
        {
            *count -= 1;
            if *count == 0 {
                self.hashes.remove(hash);
                // An old revision may exceed the history limit now.
                self.history_dirty = true;
            }
        }
        match pod.target_node() {
            Some(node) => {
                if let Some(pair) = self.pairs.get_mut(node) {
                    pair.detach(&pod.meta.uid);
                }
                self.dirty.insert(node.clone());
            }
            None => {
                self.homeless.remove(key);
            }
        }
    }

    /// Judges a node again, and updates tallies, queues and deadlines.
    pub(super) fn refresh(&mut self, node: &NodeName, world: &mut World, now: Timestamp) {
        world.work.pairs_looked_at += 1;
        let Some(mut pair) = self.pairs.remove(node) else {
            return;
        };
        for write in pair.settle(world.seen.pods, now) {
            self.write_settled(write);
        }
        let judgement = pair.judge(&self.rules(), self.view.meta.generation, now);
        self.tally.remove(&pair.judgement);
        self.tally.add(&judgement);
        self.queues.update(node, &pair.judgement, &judgement);
        match (pair.judgement.create, judgement.create) {
            (false, true) if !judgement.refused => self.gate.needed(node),
            (true, false) => self.gate.not_needed(node),
            _ => {}
        }
        if pair.judgement.look_at != judgement.look_at {
            if let Some(moment) = pair.judgement.look_at {
                self.deadlines.remove(&(moment, node.clone()));
            }
            if let Some(moment) = judgement.look_at {
                self.deadlines.insert((moment, node.clone()));
            }
        }
        pair.judgement = judgement;
        if pair.is_empty() {
            self.tally.remove(&pair.judgement);
            self.queues.update(node, &pair.judgement, &Judgement::default());
        } else {
            self.pairs.insert(node.clone(), pair);
        }
    }

    /// A write of a pod was issued.
    pub(super) fn write_issued(&mut self) {
        self.unseen += 1;
    }

    /// A write of a pod was seen, or failed.
    pub(super) fn write_settled(&mut self, write: Write) {
        self.unseen = self.unseen.saturating_sub(1);
        if write.generation < self.view.meta.generation {
            self.unseen_of_older = self.unseen_of_older.saturating_sub(1);
        }
    }

    /// Marks the nodes and pods whose time has come.
    pub(super) fn due(&mut self, now: Timestamp) {
        self.claims.due(now);
        while let Some((moment, _)) = self.deadlines.first()
            && *moment <= now
        {
            if let Some((_, node)) = self.deadlines.pop_first() {
                if let Some(pair) = self.pairs.get_mut(&node) {
                    // The deadline was removed; the next judgement sets a new one.
                    pair.judgement.look_at = None;
                }
                self.dirty.insert(node);
            }
        }
    }

    /// When the set must be planned even if no event comes.
    pub(super) fn next_wake(&self, now: Timestamp) -> Option<Timestamp> {
        let deadline = self.deadlines.first().map(|(moment, _)| *moment);
        let moments = [
            deadline,
            self.claims.next_wake(now),
            self.gate.opens_at(now),
            self.history_retry.ends_at(now),
            self.status_retry.ends_at(now),
        ];
        moments.into_iter().flatten().min()
    }

    /// The desired status. A generation counts as observed only when the watch has shown all writes
    /// of older ones: until then the numbers may include pods that are being deleted.
    pub(super) fn status(&self) -> DaemonSetStatusView {
        let number = |count: usize| i32::try_from(count).unwrap_or(i32::MAX);
        let observed_generation = match self.unseen_of_older {
            0 => self.view.meta.generation,
            _ => self.observed_generation.max(self.view.status.observed_generation),
        };
        DaemonSetStatusView {
            current_number_scheduled: number(self.tally.current),
            number_misscheduled: number(self.tally.misscheduled),
            desired_number_scheduled: number(self.tally.desired),
            number_ready: number(self.tally.ready),
            observed_generation,
            updated_number_scheduled: number(self.tally.updated),
            number_available: number(self.tally.available),
            number_unavailable: number(self.tally.desired - self.tally.available),
            collision_count: self.view.status.collision_count,
        }
    }
}

fn reference(view: &DaemonSetView) -> Arc<DaemonSetRef> {
    Arc::new(DaemonSetRef {
        namespace: view.meta.namespace.clone(),
        name: view.meta.name.clone(),
        uid: view.meta.uid.clone(),
        resource_version: view.meta.resource_version,
    })
}

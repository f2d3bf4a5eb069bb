//! What happened: every write in order, who made it, and the properties that no history may break.

use std::collections::{BTreeMap, BTreeSet};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::time::Duration;

use apiserver::{Change, Changes};
use clock::Clock;
use serde_json::Value;
use tokio::time::Instant;

use crate::picture::{Key, Past, Picture, Pod, Seen, min_ready};
use crate::placement::{place, repelled, scaled};

/// The component that runs DaemonSets.
pub(crate) const CONTROLLERS: &str = "controllers";

/// What the network brings a second time after its answer has been given, as a proxy may: the sender has no part in it.
pub(crate) const ECHO: &str = "echo";

/// The component that binds pods.
pub(crate) const SCHEDULER: &str = "scheduler";

/// What the scheduler may still believe to be there.
const REMEMBERED_FOR: Duration = Duration::from_secs(60);

/// The label of pods that no DaemonSet may touch.
pub(crate) const STRANGER: &str = "stranger";

pub(crate) struct History {
    changes: Changes,
    began: Instant,
    /// The controllers' clock: what is available is so by it.
    pub(crate) controllers_clock: Clock,
    /// As of when the controllers' view is, at least, when they sent what is under way.
    pub(crate) floor: Instant,
    pub(crate) picture: Picture,
    lines: Vec<String>,
    hash: DefaultHasher,
    pub(crate) violations: Vec<String>,
    /// Writes of anything but Leases and Events.
    pub(crate) writes: u64,
    /// By set: the nodes whose available pod the controllers took, and which have none again yet.
    taken: BTreeMap<Key, BTreeSet<String>>,
    /// The pods that were live, and until when.
    ended: Vec<(Instant, Pod)>,
    /// Pods that were made by a request which the network brought a second time: nobody wanted those.
    echoes: BTreeSet<Key>,
    /// Pods whose deletion the controllers asked for, unless it was refused: the request may be under way.
    pub(crate) leaving: BTreeSet<Key>,
}

impl History {
    pub(crate) fn new(changes: Changes, clock: Clock) -> History {
        History {
            changes,
            began: Instant::now(),
            controllers_clock: clock,
            floor: Instant::now(),
            picture: Picture::default(),
            lines: Vec::new(),
            hash: DefaultHasher::new(),
            violations: Vec::new(),
            writes: 0,
            taken: BTreeMap::new(),
            ended: Vec::new(),
            echoes: BTreeSet::new(),
            leaving: BTreeSet::new(),
        }
    }

    /// Notes a line.
    pub(crate) fn say(&mut self, who: &str, what: &str) {
        let line = format!("{:>9.3} {who}: {what}", self.began.elapsed().as_secs_f64());
        line.hash(&mut self.hash);
        self.lines.push(line);
    }

    /// Two runs of one seed give the same.
    pub(crate) fn hash(&self) -> u64 {
        self.hash.finish()
    }

    /// All that happened, a line each.
    pub(crate) fn take_lines(&mut self) -> Vec<String> {
        std::mem::take(&mut self.lines)
    }

    pub(crate) fn broken(&mut self, property: &str, what: String) {
        let seen = self.floor.duration_since(self.began).as_secs_f64();
        self.say("BROKEN", &format!("{property}: {what} (as seen at {seen:.3})"));
        self.violations.push(format!("{property}: {what}"));
    }

    /// Notes what was written since the last time: `who` wrote it, by the request `what`.
    pub(crate) fn observe(&mut self, who: &str, what: &str) {
        for change in self.changes.take() {
            self.note(who, what, &change);
        }
    }

    fn note(&mut self, who: &str, what: &str, change: &Change) {
        if matches!(change.kind.kind, "Lease" | "Event") {
            return;
        }
        self.writes += 1;
        let seen = self.picture.apply(change);
        self.say(who, &format!("#{} {what}{}", change.revision, summary(&seen)));
        if std::env::var_os("EVERYNODE_BODIES").is_some() {
            let body = change.after.as_deref().unwrap_or_default();
            self.say(who, &String::from_utf8_lossy(body));
        }
        match seen {
            Seen::Pod(None, Some(pod)) => self.created(who, &pod),
            Seen::Pod(Some(before), Some(after)) => self.changed(who, &before, &after),
            Seen::Pod(Some(before), None) => self.removed(who, &before),
            Seen::Set(key, before) => self.set_changed(who, &key, before.as_ref()),
            _ => {}
        }
    }

    /// A pod is made: where it should run, and nowhere twice but to replace by surge.
    fn created(&mut self, who: &str, pod: &Pod) {
        match who {
            ECHO => self.echoes.insert(pod.key.clone()),
            _ => self.echoes.remove(&pod.key),
        };
        let Some((_, set)) = self.picture.set_of(pod) else {
            return;
        };
        if who != CONTROLLERS {
            return;
        }
        let Some(node) = &pod.target else {
            let what = format!("{} is made for no node", pod.key.1);
            return self.broken("a daemon's pod is made for one node", what);
        };
        let belongs = self.picture.nodes.get(node).is_some_and(|nodes| {
            let mut states = nodes.since(self.floor).flatten();
            states.any(|node| set.since(self.floor).flatten().any(|set| place(set, node).run))
        });
        let others: Vec<&Pod> = self
            .picture
            .pods
            .values()
            .filter(|other| {
                other.key != pod.key
                    && other.owner == pod.owner
                    && other.target == pod.target
                    && other.is_live()
            })
            // What came after what the controllers have seen is not theirs to know, unless they made it.
            .filter(|other| {
                let made = other.owned == other.created && !self.echoes.contains(&other.key);
                other.owned < self.floor || made
            })
            .collect();
        // Whose deletion is under way is replaced, too, though the template that it has may be back by now.
        let goes = |other: &&Pod| other.hash() != pod.hash() || self.leaving.contains(&other.key);
        let surges = set
            .since(self.floor)
            .flatten()
            .any(|set| surge(set) && others.iter().all(goes));
        let twice = match others.len() {
            0 => false,
            1 => !surges,
            _ => true,
        };
        let (name, node) = (pod.key.1.clone(), node.clone());
        let others: Vec<String> = others.iter().map(|other| other.key.1.clone()).collect();
        if !belongs {
            let what = format!("{name} is made for {node}");
            self.broken("no pod is made where it should not run", what);
        }
        if twice {
            let what = format!("{name} is made for {node} beside {others:?}");
            self.broken("one pod a node, two only in a surge", what);
        }
    }

    fn changed(&mut self, who: &str, before: &Pod, after: &Pod) {
        let name = &after.key.1;
        if before.bound && before.target != after.target {
            self.broken("a pod stays on its node", format!("{name} moved"));
        }
        if before.deleting && !after.deleting {
            self.broken("a deletion is final", format!("{name} came back"));
        }
        if is_stranger(after)
            && is_ours(who)
            && (before.owner != after.owner || before.labels != after.labels)
        {
            self.broken("nobody else's pod is touched", format!("{who} changed {name}"));
        }
        if before.is_live() && after.deleting {
            self.deleted(who, before);
        }
        if before.is_live() && !after.is_live() {
            self.ended.push((Instant::now(), before.clone()));
        }
        // What was available at the end of its readiness gave its node back.
        if before.ready_since.is_some() && after.ready_since.is_none() {
            self.give_back(before);
        }
    }

    fn removed(&mut self, who: &str, before: &Pod) {
        if before.is_live() {
            self.deleted(who, before);
            self.ended.push((Instant::now(), before.clone()));
        }
        self.give_back(before);
    }

    /// A live pod is being deleted by somebody.
    fn deleted(&mut self, who: &str, pod: &Pod) {
        if !is_ours(who) {
            return;
        }
        let Some(node) = pod.target.clone() else { return };
        let Some(nodes) = self.picture.nodes.get(&node) else {
            return;
        };
        // A node that was away may take its pods with it.
        if nodes.since(self.floor).any(|state| state.is_none()) {
            return;
        }
        if is_stranger(pod) {
            let what = format!("{who} deleted {}", pod.key.1);
            return self.broken("nobody else's pod is touched", what);
        }
        if self.was_preempted(who, pod) {
            return;
        }
        let Some((key, set)) = self.picture.set_of(pod) else {
            return;
        };
        let key = key.clone();
        let states: Vec<&Value> = set.since(self.floor).flatten().collect();
        let Some(now) = set.now() else { return };
        let leaving = nodes
            .since(self.floor)
            .flatten()
            // An older template may have tolerated less than the present one.
            .any(|node| {
                repelled(&pod.spec, node, "NoExecute") || states.iter().any(|set| !place(set, node).stay)
            });
        // Where none could be made any more, a surge ends with the old one.
        let sunset = states.iter().any(|set| surge(set))
            && nodes
                .since(self.floor)
                .flatten()
                .any(|node| states.iter().any(|set| !place(set, node).run));
        let ending = states
            .iter()
            .any(|set| set["metadata"]["deletionTimestamp"].is_string());
        let clock = self.controllers_clock.now();
        let available = |pod: &Pod, set: &Value| {
            pod.available_since(min_ready(set))
                .is_some_and(|since| since <= clock)
        };
        // Available by every state of the set that the controllers may have seen, and of the pod.
        let was_available = pod.told_ready.is_some_and(|told| told < self.floor)
            && states.iter().all(|set| available(pod, set));
        // The controllers may not have heard that the other one ended.
        let ended = self.ended.iter().filter(|(at, _)| *at >= self.floor);
        let live = self.picture.pods.values().filter(|other| other.is_live());
        let doubled = live
            .chain(ended.map(|(_, other)| other))
            .any(|other| other.key != pod.key && other.owner == pod.owner && other.target == pod.target);
        if leaving || sunset || ending || !was_available || doubled {
            return;
        }
        let name = &pod.key.1;
        let rolling = |set: &Value| set["spec"]["updateStrategy"]["type"] != "OnDelete";
        if !states.iter().any(|set| rolling(set)) {
            let what = format!("{name} was deleted by {who}");
            return self.broken("with OnDelete nothing running is deleted", what);
        }
        if states.iter().all(|set| self.picture.fits(pod, set)) {
            let what = format!("{name}, which is of the current template, was deleted by {who}");
            return self.broken("what fits is not replaced", what);
        }
        if states.iter().all(|set| surge(set)) {
            let what = format!("{name} was deleted by {who}, though nothing available replaces it");
            return self.broken("a surge takes nothing that is available", what);
        }
        let allowed = states
            .iter()
            .map(|set| self.unavailable_allowed(set))
            .max()
            .unwrap_or(0);
        let here = self.picture.nodes.iter().filter_map(|(name, past)| {
            // Where none should run for a moment, none is missing.
            let mut states = past.since(self.floor);
            states
                .all(|node| node.is_some_and(|node| place(now, node).run))
                .then(|| name.clone())
        });
        let here: BTreeSet<String> = here.collect();
        let min_ready = states.iter().map(|set| min_ready(set)).min().unwrap_or(0);
        let given_back: BTreeSet<String> = self
            .picture
            .pods
            .values()
            .filter(|other| other.owner == pod.owner && other.is_live())
            .filter(|other| {
                other
                    .available_since(min_ready)
                    .is_some_and(|since| since <= clock)
            })
            .filter_map(|other| other.target.clone())
            .collect();
        let taken = self.taken.entry(key).or_default();
        taken.retain(|node| here.contains(node) && !given_back.contains(node));
        if here.contains(&node) {
            taken.insert(node);
        }
        let mut taken = taken.clone();
        // What fell silent before the new template reached it takes nothing: an update goes on around it.
        taken.retain(|node| {
            let silent = self.picture.nodes[node].since(self.floor).flatten().any(|state| {
                let taints = state["spec"]["taints"].as_array();
                let mut taints = taints.into_iter().flatten();
                taints.any(|taint| taint["key"] == "node.kubernetes.io/unreachable")
            });
            let reached = self.picture.pods.values().any(|other| {
                other.owner == pod.owner
                    && other.target.as_ref() == Some(node)
                    && other.is_live()
                    && states.iter().all(|set| self.picture.fits(other, set))
            });
            !silent || reached
        });
        if taken.len() as u64 > allowed {
            let what = format!("{taken:?} wait for an available pod, {allowed} may");
            self.broken("never more than maxUnavailable is taken", what);
        }
    }

    /// Whether the scheduler makes room for a pod that is more important, or was when it last looked.
    fn was_preempted(&self, who: &str, pod: &Pod) -> bool {
        let recently = self.ended.iter().filter(|(at, _)| at.elapsed() < REMEMBERED_FOR);
        let mut others = self.picture.pods.values().chain(recently.map(|(_, other)| other));
        who == SCHEDULER && others.any(|other| pod.is_in_the_way_of(other) && other.priority > pod.priority)
    }

    /// The most that `set` may have had unavailable for an update since the floor.
    fn unavailable_allowed(&self, set: &Value) -> u64 {
        let wanted = &set["spec"]["updateStrategy"]["rollingUpdate"]["maxUnavailable"];
        let eligible = |at: Instant| {
            let nodes = self.picture.nodes_at(at);
            scaled(wanted, nodes.filter(|node| place(set, node).run).count() as u64)
        };
        let moments = self.picture.moments_of_nodes(self.floor);
        // Zero with a surge of zero is refused; a percentage of few nodes is one at least.
        moments.into_iter().map(eligible).max().unwrap_or(1).max(1)
    }

    /// A pod is about to be no longer ready: if it was available until now, its node has been given back.
    fn give_back(&mut self, pod: &Pod) {
        let Some((key, set)) = self.picture.set_of(pod) else {
            return;
        };
        let Some(set) = set.now() else { return };
        let clock = self.controllers_clock.now();
        let was = pod
            .available_since(min_ready(set))
            .is_some_and(|since| since <= clock);
        let key = key.clone();
        if let (true, Some(node), Some(taken)) = (was, &pod.target, self.taken.get_mut(&key)) {
            taken.remove(node);
        }
    }

    fn set_changed(&mut self, who: &str, key: &Key, before: Option<&Value>) {
        let after = self.picture.sets.get(key).and_then(Past::now);
        let uid = |set: Option<&Value>| set.map(|set| set["metadata"]["uid"].clone());
        if uid(before) != uid(after) {
            self.taken.remove(key);
            return;
        }
        if let (Some(before), Some(after)) = (before, after) {
            let of_people = |set: &Value| {
                let meta = &set["metadata"];
                ["labels", "annotations", "generation", "ownerReferences"].map(|field| meta[field].clone())
            };
            if who == CONTROLLERS
                && (before["spec"] != after["spec"] || of_people(before) != of_people(after))
            {
                let what = format!("{} was changed", key.1);
                return self.broken("of a set the controllers change the status alone", what);
            }
        }
        let number = |set: Option<&Value>, path: &str| {
            set.and_then(|set| set.pointer(path)?.as_i64())
                .unwrap_or_default()
        };
        const OBSERVED: &str = "/status/observedGeneration";
        let (old, new) = (number(before, OBSERVED), number(after, OBSERVED));
        let generation = number(after, "/metadata/generation");
        if new > generation {
            let what = format!("{} observed {new} of {generation}", key.1);
            self.broken("observedGeneration is one that there was", what);
        }
        if new < old {
            let what = format!("{} went from {old} to {new}", key.1);
            self.broken("observedGeneration does not go back", what);
        }
    }
}

fn surge(set: &Value) -> bool {
    let update = &set["spec"]["updateStrategy"];
    let surge = &update["rollingUpdate"]["maxSurge"];
    update["type"] != "OnDelete" && !surge.is_null() && *surge != 0 && *surge != "0%"
}

fn is_stranger(pod: &Pod) -> bool {
    pod.labels.contains_key(STRANGER)
}

/// The project's own components; nodes and people may do more.
fn is_ours(who: &str) -> bool {
    matches!(who, CONTROLLERS | SCHEDULER)
}

fn summary(seen: &Seen) -> String {
    match seen {
        Seen::Pod(before, after) => {
            let now = match after {
                None => "gone".to_owned(),
                Some(pod) => format!(
                    "{} on {} {}{}{}",
                    pod.hash(),
                    pod.target.as_deref().unwrap_or("-"),
                    pod.phase,
                    if pod.ready_since.is_some() { " ready" } else { "" },
                    if pod.deleting { " terminating" } else { "" }
                ),
            };
            let pod = after.as_ref().or(before.as_ref());
            let name = pod.map_or("", |pod| pod.key.1.as_str());
            format!(" -> pod {name}: {now}")
        }
        Seen::Node(name) => format!(" -> node {name}"),
        Seen::Set(key, _) => format!(" -> set {}", key.1),
        Seen::Other => String::new(),
    }
}

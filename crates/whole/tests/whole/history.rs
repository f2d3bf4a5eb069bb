//! History of a run: every write in order with its author, and the properties that must always
//! hold.

use std::collections::{BTreeMap, BTreeSet};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::time::Duration;

use apiserver::{Change, Changes};
use clock::Clock;
use serde_json::Value;
use tokio::time::Instant;

use crate::picture::{Key, Past, Picture, Pod, Seen, min_ready};
use crate::placement::{place, repelled, scaled};

/// Component with the DaemonSet controller.
pub(crate) const CONTROLLERS: &str = "controllers";

/// Author of repeated requests: the network sends them again after their response, as a proxy may.
/// The sender is not responsible for them.
pub(crate) const ECHO: &str = "echo";

/// Component that binds pods.
pub(crate) const SCHEDULER: &str = "scheduler";

/// Time for which the scheduler may use deleted pods in its decisions.
const REMEMBERED_FOR: Duration = Duration::from_secs(60);

/// Label of pods that no DaemonSet may touch.
pub(crate) const STRANGER: &str = "stranger";

pub(crate) struct History {
    changes: Changes,
    began: Instant,
    /// Clock of the controllers, which decides about availability.
    pub(crate) controllers_clock: Clock,
    /// Earliest moment from which the controllers' view dates for the current request.
    pub(crate) floor: Instant,
    pub(crate) picture: Picture,
    lines: Vec<String>,
    hash: DefaultHasher,
    pub(crate) violations: Vec<String>,
    /// Number of writes, except Leases and Events.
    pub(crate) writes: u64,
    /// By DaemonSet: nodes whose available pod the controllers deleted and that have no available
    /// pod yet.
    taken: BTreeMap<Key, BTreeSet<String>>,
    /// Pods that have ended, with the time of their end.
    ended: Vec<(Instant, Pod)>,
    /// Pods that a repeated request created. No component wanted them.
    echoes: BTreeSet<Key>,
    /// Pods that the controllers deleted, unless the server rejected it. The request may be in
    /// flight.
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

    /// Records a line.
    pub(crate) fn say(&mut self, who: &str, what: &str) {
        let line = format!("{:>9.3} {who}: {what}", self.began.elapsed().as_secs_f64());
        line.hash(&mut self.hash);
        self.lines.push(line);
    }

    /// Returns the hash, which is equal for two runs of a seed.
    pub(crate) fn hash(&self) -> u64 {
        self.hash.finish()
    }

    /// Returns all lines.
    pub(crate) fn take_lines(&mut self) -> Vec<String> {
        std::mem::take(&mut self.lines)
    }

    pub(crate) fn broken(&mut self, property: &str, what: String) {
        let seen = self.floor.duration_since(self.began).as_secs_f64();
        self.say("BROKEN", &format!("{property}: {what} (as seen at {seen:.3})"));
        self.violations.push(format!("{property}: {what}"));
    }

    /// Records the writes since the last call: `who` made them with the request `what`.
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

    /// Checks a created pod: it must be on an eligible node, and a second one only for a surge.
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
            // The controllers cannot know pods that were created after their view, except their
            // own.
            .filter(|other| {
                let made = other.owned == other.created && !self.echoes.contains(&other.key);
                other.owned < self.floor || made
            })
            .collect();
        // A terminating pod is replaced too, even if the DaemonSet has its template again.
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
        // A pod that was available when it lost readiness frees its node.
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

    /// Checks the deletion of a live pod.
    fn deleted(&mut self, who: &str, pod: &Pod) {
        if !is_ours(who) {
            return;
        }
        let Some(node) = pod.target.clone() else { return };
        let Some(nodes) = self.picture.nodes.get(&node) else {
            return;
        };
        // The pods of a node that was deleted may be deleted too.
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
            // An older template may have had fewer tolerations.
            .any(|node| {
                repelled(&pod.spec, node, "NoExecute") || states.iter().any(|set| !place(set, node).stay)
            });
        // If no new pod can be created on the node any more, the surge ends with the deletion of
        // the old one.
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
        // Available for every state of the DaemonSet and the pod that the controllers may have
        // seen.
        let was_available = pod.told_ready.is_some_and(|told| told < self.floor)
            && states.iter().all(|set| available(pod, set));
        // The controllers may not have received the end of the other pod.
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
            // A node that was not eligible at some moment since the floor is not missing a pod.
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
        // A node that stopped responding before the new template reached it does not count: an
        // update continues without it.
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

    /// Returns whether the scheduler preempts the pod for one with a higher priority, now or with
    /// its last view.
    fn was_preempted(&self, who: &str, pod: &Pod) -> bool {
        let recently = self.ended.iter().filter(|(at, _)| at.elapsed() < REMEMBERED_FOR);
        let mut others = self.picture.pods.values().chain(recently.map(|(_, other)| other));
        who == SCHEDULER && others.any(|other| pod.is_in_the_way_of(other) && other.priority > pod.priority)
    }

    /// Returns the largest number of unavailable pods that an update of `set` could have had since
    /// the floor.
    fn unavailable_allowed(&self, set: &Value) -> u64 {
        let wanted = &set["spec"]["updateStrategy"]["rollingUpdate"]["maxUnavailable"];
        let eligible = |at: Instant| {
            let nodes = self.picture.nodes_at(at);
            scaled(wanted, nodes.filter(|node| place(set, node).run).count() as u64)
        };
        let moments = self.picture.moments_of_nodes(self.floor);
        // Zero with a surge of zero is invalid; a percentage is rounded up to at least one.
        moments.into_iter().map(eligible).max().unwrap_or(1).max(1)
    }

    /// Records that a pod loses readiness. If it was available until now, its node counts as freed.
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

/// Returns whether the author is a component of the project. Nodes and users may do more.
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

//! The cluster as stored, updated by every change.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use apiserver::Change;
use jiff::{SignedDuration, Timestamp};
use serde_json::Value;
use tokio::time::Instant;

/// Namespace and name.
pub(crate) type Key = (String, String);

/// States of an object, each with the time since when it holds.
#[derive(Clone, Debug, Default)]
pub(crate) struct Past(Vec<(Instant, Option<Value>)>);

impl Past {
    fn push(&mut self, state: Option<Value>) {
        self.0.push((Instant::now(), state));
    }

    /// Returns every state since `floor`, including the current one.
    pub(crate) fn since(&self, floor: Instant) -> impl Iterator<Item = Option<&Value>> {
        let first = self
            .0
            .partition_point(|(since, _)| *since < floor)
            .saturating_sub(1);
        self.0[first..].iter().map(|(_, state)| state.as_ref())
    }

    pub(crate) fn now(&self) -> Option<&Value> {
        self.0.last()?.1.as_ref()
    }

    fn at(&self, at: Instant) -> Option<&Value> {
        let next = self.0.partition_point(|(since, _)| *since <= at);
        self.0.get(next.checked_sub(1)?)?.1.as_ref()
    }
}

/// Fields of a pod that the properties need.
#[derive(Clone, Debug)]
pub(crate) struct Pod {
    pub(crate) key: Key,
    pub(crate) labels: BTreeMap<String, String>,
    /// Kind, name and uid of the controller.
    pub(crate) owner: Option<(String, String, String)>,
    /// Node that it runs on or is created for.
    pub(crate) target: Option<String>,
    pub(crate) bound: bool,
    pub(crate) phase: String,
    pub(crate) ready_since: Option<Timestamp>,
    /// When the server received that it is ready.
    pub(crate) told_ready: Option<Instant>,
    pub(crate) deleting: bool,
    pub(crate) spec: Value,
    pub(crate) priority: i64,
    /// Host ports.
    ports: Vec<i64>,
    pub(crate) created: Instant,
    /// Creation time that the server wrote.
    stamped: Option<Timestamp>,
    /// Since when the controller owns it.
    pub(crate) owned: Instant,
}

impl Pod {
    fn read(object: &Value, before: Option<&Pod>) -> Pod {
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let meta = &object["metadata"];
        let references = meta["ownerReferences"].as_array();
        let owner = references
            .into_iter()
            .flatten()
            .find(|reference| reference["controller"] == true)
            .map(|owner| (text(&owner["kind"]), text(&owner["name"]), text(&owner["uid"])));
        let bound = object["spec"]["nodeName"]
            .as_str()
            .filter(|name| !name.is_empty());
        let required =
            &object["spec"]["affinity"]["nodeAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"];
        let pinned = required["nodeSelectorTerms"][0]["matchFields"][0]["values"][0].as_str();
        let conditions = object["status"]["conditions"].as_array();
        let ready = conditions
            .into_iter()
            .flatten()
            .find(|c| c["type"] == "Ready" && c["status"] == "True");
        let labels = meta["labels"].as_object();
        let now = Instant::now();
        Pod {
            key: (text(&meta["namespace"]), text(&meta["name"])),
            labels: labels
                .into_iter()
                .flatten()
                .map(|(key, value)| (key.clone(), text(value)))
                .collect(),
            target: bound.or(pinned).map(str::to_owned),
            bound: bound.is_some(),
            phase: text(&object["status"]["phase"]),
            told_ready: ready.map(|_| before.and_then(|pod| pod.told_ready).unwrap_or(now)),
            ready_since: ready.and_then(|c| c["lastTransitionTime"].as_str()?.parse().ok()),
            deleting: meta["deletionTimestamp"].is_string(),
            spec: object["spec"].clone(),
            priority: object["spec"]["priority"].as_i64().unwrap_or(0),
            ports: ports(&object["spec"]),
            created: before.map_or(now, |pod| pod.created),
            stamped: timestamp(object),
            owned: before
                .filter(|pod| pod.owner == owner)
                .map_or(now, |pod| pod.owned),
            owner,
        }
    }

    pub(crate) fn is_live(&self) -> bool {
        !self.deleting && !self.is_over()
    }

    pub(crate) fn is_over(&self) -> bool {
        matches!(self.phase.as_str(), "Failed" | "Succeeded")
    }

    pub(crate) fn is_of(&self, set: &Value) -> bool {
        self.owner
            .as_ref()
            .is_some_and(|(kind, _, uid)| kind == "DaemonSet" && set["metadata"]["uid"] == **uid)
    }

    /// Returns whether both pods need the same host port.
    pub(crate) fn is_in_the_way_of(&self, other: &Pod) -> bool {
        self.key != other.key
            && self.target == other.target
            && self.ports.iter().any(|port| other.ports.contains(port))
    }

    /// Returns the order of two pods of a DaemonSet on a node: bound ones first, then older ones.
    pub(crate) fn seniority(&self) -> impl Ord + use<'_> {
        (!self.bound, self.stamped, &self.key.1)
    }

    pub(crate) fn hash(&self) -> &str {
        self.labels
            .get("controller-revision-hash")
            .map_or("", String::as_str)
    }

    /// Returns since when it counts as available with `min_ready` seconds.
    pub(crate) fn available_since(&self, min_ready: i64) -> Option<Timestamp> {
        self.ready_since?
            .checked_add(SignedDuration::from_secs(min_ready))
            .ok()
    }
}

fn ports(spec: &Value) -> Vec<i64> {
    let containers = spec["containers"].as_array();
    let ports = containers
        .into_iter()
        .flatten()
        .filter_map(|container| container["ports"].as_array())
        .flatten();
    ports.filter_map(|port| port["hostPort"].as_i64()).collect()
}

/// `spec.minReadySeconds` of a DaemonSet.
pub(crate) fn min_ready(set: &Value) -> i64 {
    set["spec"]["minReadySeconds"].as_i64().unwrap_or(0)
}

/// All objects that the properties need.
#[derive(Default)]
pub(crate) struct Picture {
    pub(crate) nodes: BTreeMap<String, Past>,
    pub(crate) sets: BTreeMap<Key, Past>,
    pub(crate) pods: BTreeMap<Key, Pod>,
    pub(crate) revisions: BTreeMap<Key, Value>,
    pub(crate) budgets: BTreeMap<Key, Value>,
}

/// A change, as the properties need it.
pub(crate) enum Seen {
    Node(String),
    Set(Key, Option<Value>),
    /// The pod before and after.
    Pod(Option<Box<Pod>>, Option<Box<Pod>>),
    Other,
}

impl Picture {
    pub(crate) fn apply(&mut self, change: &Change) -> Seen {
        let parse = |bytes: &Option<bytes::Bytes>| -> Option<Value> {
            let bytes = bytes.as_ref()?;
            Some(serde_json::from_slice(bytes).expect("what is stored is JSON"))
        };
        let key = |object: &Value| -> Key {
            let text = |field: &str| object["metadata"][field].as_str().unwrap_or_default().to_owned();
            (text("namespace"), text("name"))
        };
        if !matches!(
            change.kind.kind,
            "Node" | "DaemonSet" | "Pod" | "ControllerRevision" | "PodDisruptionBudget"
        ) {
            return Seen::Other;
        }
        let after = parse(&change.after);
        let named = match &after {
            Some(object) => key(object),
            None => key(&parse(&change.before).expect("a deletion has a state before")),
        };
        match change.kind.kind {
            "Node" => {
                self.nodes.entry(named.1.clone()).or_default().push(after);
                Seen::Node(named.1)
            }
            "DaemonSet" => {
                let past = self.sets.entry(named.clone()).or_default();
                let before = past.now().cloned();
                past.push(after);
                Seen::Set(named, before)
            }
            "Pod" => {
                let before = self.pods.remove(&named);
                let after = after.map(|object| Pod::read(&object, before.as_ref()));
                if let Some(pod) = &after {
                    self.pods.insert(named, pod.clone());
                }
                Seen::Pod(before.map(Box::new), after.map(Box::new))
            }
            kind => {
                let kept = match kind {
                    "ControllerRevision" => &mut self.revisions,
                    _ => &mut self.budgets,
                };
                match after {
                    Some(object) => kept.insert(named, object),
                    None => kept.remove(&named),
                };
                Seen::Other
            }
        }
    }

    /// Returns the existing nodes.
    pub(crate) fn present_nodes(&self) -> impl Iterator<Item = (&String, &Value)> {
        self.nodes
            .iter()
            .filter_map(|(name, past)| Some((name, past.now()?)))
    }

    /// Returns `floor` and the times of all changes of nodes since then. A change at exactly
    /// `floor` may not have been seen.
    pub(crate) fn moments_of_nodes(&self, floor: Instant) -> BTreeSet<Instant> {
        let changes = self.nodes.values().flat_map(|past| &past.0);
        let since = changes.map(|(at, _)| *at).filter(|at| *at > floor);
        let before = floor.checked_sub(Duration::from_nanos(1)).unwrap_or(floor);
        since.chain([before, floor]).collect()
    }

    /// Returns the nodes at a time.
    pub(crate) fn nodes_at(&self, at: Instant) -> impl Iterator<Item = &Value> {
        self.nodes.values().filter_map(move |past| past.at(at))
    }

    /// Returns the existing DaemonSets.
    pub(crate) fn present_sets(&self) -> impl Iterator<Item = (&Key, &Value)> {
        self.sets
            .iter()
            .filter_map(|(key, past)| Some((key, past.now()?)))
    }

    /// Returns whether the pod waits for a host port of another pod that it may not preempt.
    pub(crate) fn is_blocked(&self, pod: &Pod) -> bool {
        !pod.bound
            && self.pods.values().any(|other| {
                other.bound
                    && !other.is_over()
                    && other.is_in_the_way_of(pod)
                    && other.priority >= pod.priority
            })
    }

    /// Returns the DaemonSet that owns the pod, if it exists.
    pub(crate) fn set_of(&self, pod: &Pod) -> Option<(&Key, &Past)> {
        let (kind, name, uid) = pod.owner.as_ref()?;
        if kind != "DaemonSet" {
            return None;
        }
        let (key, past) = self.sets.get_key_value(&(pod.key.0.clone(), name.clone()))?;
        (past.now()?["metadata"]["uid"] == **uid).then_some((key, past))
    }

    /// Returns whether the pod has the template of `set`: by the revision's hash, or by the
    /// template generation if the DaemonSet set it.
    pub(crate) fn fits(&self, pod: &Pod, set: &Value) -> bool {
        let number = set["metadata"]["annotations"]["deprecated.daemonset.template.generation"].as_str();
        let counted = pod.labels.get("pod-template-generation").map(String::as_str);
        if counted.is_some() && counted == number && pod.stamped >= timestamp(set) {
            return true;
        }
        let namespace = set["metadata"]["namespace"].as_str();
        self.revisions.values().any(|revision| {
            revision["metadata"]["namespace"].as_str() == namespace
                && revision["metadata"]["labels"]["controller-revision-hash"] == *pod.hash()
                && same_template(&revision["data"]["spec"]["template"], &set["spec"]["template"])
        })
    }
}

fn timestamp(object: &Value) -> Option<Timestamp> {
    object["metadata"]["creationTimestamp"].as_str()?.parse().ok()
}

fn same_template(recorded: &Value, template: &Value) -> bool {
    let mut recorded = recorded.clone();
    if let Some(fields) = recorded.as_object_mut() {
        fields.remove("$patch");
    }
    recorded == *template
}

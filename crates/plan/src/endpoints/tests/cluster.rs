//! A cluster of Services, pods and nodes, with a server that carries out writes and shows them
//! later.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use api::view::{EndpointSliceView, NodeView, PodView, ServiceView};
use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

use crate::endpoints::{Action, Answer, Slices, Write};

/// What the server does with a write.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Fate {
    Done,
    /// It succeeds, but the answer is lost.
    Lost,
    Refused,
}

pub(super) struct Cluster {
    pub(super) now: Timestamp,
    version: u64,
    pub(super) known: Slices,
    pub(super) slices: BTreeMap<String, Value>,
    /// Changes of slices that the watch has not shown yet: the object, and whether it was deleted.
    untold: VecDeque<(Value, bool)>,
    pub(super) services: BTreeMap<String, Value>,
    pub(super) pods: BTreeMap<String, Value>,
    pub(super) nodes: BTreeMap<String, Value>,
    pub(super) writes: usize,
    uids: u64,
}

pub(super) fn service(name: &str, change: impl FnOnce(&mut Value)) -> Value {
    let mut service = json!({
        "metadata": {"name": name, "namespace": "d", "labels": {"team": "blue"}, "creationTimestamp": "2026-01-01T00:00:00Z"},
        "spec": {
            "selector": {"app": "a"}, "clusterIP": "10.96.1.1", "clusterIPs": ["10.96.1.1"], "ipFamilies": ["IPv4"],
            "ports": [{"name": "web", "port": 80, "targetPort": "http", "protocol": "TCP"}],
        },
    });
    change(&mut service);
    service
}

pub(super) fn pod(name: &str, ip: u32, change: impl FnOnce(&mut Value)) -> Value {
    let ip = std::net::Ipv4Addr::from(0x0a01_0000 + ip).to_string();
    let mut pod = json!({
        "metadata": {"name": name, "namespace": "d", "labels": {"app": "a"}},
        "spec": {"nodeName": "n", "containers": [{"name": "c", "ports": [{"name": "http", "containerPort": 8080}]}]},
        "status": {
            "phase": "Running", "podIP": ip, "podIPs": [{"ip": ip}],
            "conditions": [{"type": "Ready", "status": "True", "lastTransitionTime": "2026-01-01T00:00:10Z"}],
        },
    });
    change(&mut pod);
    pod
}

fn view<V: serde::de::DeserializeOwned>(object: &Value) -> Arc<V> {
    Arc::new(serde_json::from_value(object.clone()).expect("a view"))
}

impl Cluster {
    pub(super) fn new() -> Self {
        let mut cluster = Self {
            now: "2026-01-01T01:00:00Z".parse().expect("a time"),
            version: 0,
            known: Slices::new(),
            slices: BTreeMap::new(),
            untold: VecDeque::new(),
            services: BTreeMap::new(),
            pods: BTreeMap::new(),
            nodes: BTreeMap::new(),
            writes: 0,
            uids: 0,
        };
        cluster.put_node("n", "zone-1");
        cluster
    }

    fn stamp(&mut self, object: &mut Value, old: Option<&Value>) {
        self.version += 1;
        self.uids += 1;
        object["metadata"]["resourceVersion"] = self.version.to_string().into();
        object["metadata"]["uid"] = match old {
            Some(old) => old["metadata"]["uid"].clone(),
            None => format!("uid-{}", self.uids).into(),
        };
    }

    pub(super) fn put_node(&mut self, name: &str, zone: &str) {
        let mut node = json!({"metadata": {"name": name, "labels": {"topology.kubernetes.io/zone": zone}}});
        let old = self.nodes.get(name).cloned();
        self.stamp(&mut node, old.as_ref());
        self.known.put_node(&view::<NodeView>(&node));
        self.nodes.insert(name.to_owned(), node);
    }

    pub(super) fn delete_node(&mut self, name: &str) {
        if let Some(node) = self.nodes.remove(name) {
            self.known.delete_node(&view::<NodeView>(&node));
        }
    }

    pub(super) fn put_service(&mut self, mut service: Value) {
        let name = api::meta::name(&service).to_owned();
        let old = self.services.get(&name).cloned();
        self.stamp(&mut service, old.as_ref());
        self.known.put_service(&view::<ServiceView>(&service));
        self.services.insert(name, service);
    }

    pub(super) fn delete_service(&mut self, name: &str) {
        let Some(service) = self.services.remove(name) else {
            return;
        };
        self.known.delete_service(&view::<ServiceView>(&service));
        // The garbage collector.
        let of = |slice: &Value| slice["metadata"]["ownerReferences"][0]["uid"] == service["metadata"]["uid"];
        let names: Vec<String> = self
            .slices
            .iter()
            .filter(|(_, slice)| of(slice))
            .map(|(name, _)| name.clone())
            .collect();
        for name in names {
            self.remove_slice(&name);
        }
    }

    /// Adds or changes a pod. An existing one keeps its uid.
    pub(super) fn put_pod(&mut self, mut pod: Value) {
        let name = api::meta::name(&pod).to_owned();
        let old = self.pods.get(&name).cloned();
        self.stamp(&mut pod, old.as_ref());
        self.known.put_pod(&view::<PodView>(&pod));
        self.pods.insert(name, pod);
    }

    pub(super) fn change_pod(&mut self, name: &str, change: impl FnOnce(&mut Value)) {
        if let Some(mut pod) = self.pods.get(name).cloned() {
            change(&mut pod);
            self.put_pod(pod);
        }
    }

    pub(super) fn delete_pod(&mut self, name: &str) {
        if let Some(pod) = self.pods.remove(name) {
            self.known.delete_pod(&view::<PodView>(&pod));
        }
    }

    /// Another client changes a slice.
    pub(super) fn meddle(&mut self, name: &str, change: impl FnOnce(&mut Value)) {
        if let Some(mut slice) = self.slices.get(name).cloned() {
            change(&mut slice);
            self.store(slice);
        }
    }

    fn store(&mut self, mut slice: Value) -> u64 {
        let name = api::meta::name(&slice).to_owned();
        let old = self.slices.get(&name).cloned();
        self.stamp(&mut slice, old.as_ref());
        self.slices.insert(name, slice.clone());
        self.untold.push_back((slice, false));
        self.version
    }

    pub(super) fn remove_slice(&mut self, name: &str) {
        if let Some(mut slice) = self.slices.remove(name) {
            self.version += 1;
            slice["metadata"]["resourceVersion"] = self.version.to_string().into();
            self.untold.push_back((slice, true));
        }
    }

    /// The watch shows the next `count` changes of slices.
    pub(super) fn tell(&mut self, count: usize) {
        for _ in 0..count {
            let Some((slice, gone)) = self.untold.pop_front() else {
                return;
            };
            let view = view::<EndpointSliceView>(&slice);
            match gone {
                true => self.known.delete_slice(&view),
                false => self.known.put_slice(&view),
            }
        }
    }

    /// Plans and carries out the writes. Returns whether there were any.
    pub(super) fn work(&mut self, fate: Fate) -> bool {
        let actions = self.known.plan(self.now, 100);
        for action in &actions {
            self.writes += 1;
            let answer = match fate {
                Fate::Refused => Answer::Failed,
                Fate::Done => self.apply(action),
                Fate::Lost => {
                    self.apply(action);
                    Answer::Failed
                }
            };
            self.known.answered(action, answer, self.now);
        }
        !actions.is_empty()
    }

    fn apply(&mut self, action: &Action) -> Answer {
        match &action.write {
            Write::Create(object) => {
                let name = api::meta::name(object);
                if self.slices.contains_key(name) {
                    return Answer::Failed;
                }
                Answer::Written(self.store(object.clone()))
            }
            Write::Update { name, patch } => {
                let Some(mut slice) = self.slices.get(&**name).cloned() else {
                    return Answer::Failed;
                };
                if slice["metadata"]["resourceVersion"] != patch["metadata"]["resourceVersion"] {
                    return Answer::Failed;
                }
                merge(&mut slice, patch);
                Answer::Written(self.store(slice))
            }
            Write::Delete { name, uid } => {
                let there = self.slices.get(&**name);
                if there.is_some_and(|slice| slice["metadata"]["uid"] == **uid) {
                    self.remove_slice(name);
                }
                Answer::Deleted
            }
        }
    }

    /// Plans, shows changes and advances the time until nothing is left to do.
    pub(super) fn settle(&mut self) {
        for _ in 0..200 {
            let worked = self.work(Fate::Done);
            let told = !self.untold.is_empty();
            self.tell(usize::MAX);
            self.now += SignedDuration::from_secs(60);
            if !worked && !told && self.known.next_look().is_none() {
                return;
            }
        }
        panic!("it never comes to rest: {:?}", self.known.next_look());
    }

    /// Another controller takes over, and receives all objects.
    pub(super) fn restart(&mut self) {
        self.known = Slices::new();
        self.untold.clear();
        let objects = |objects: &BTreeMap<String, Value>| objects.values().cloned().collect::<Vec<_>>();
        for node in objects(&self.nodes) {
            self.known.put_node(&view::<NodeView>(&node));
        }
        for service in objects(&self.services) {
            self.known.put_service(&view::<ServiceView>(&service));
        }
        for slice in objects(&self.slices) {
            self.known.put_slice(&view::<EndpointSliceView>(&slice));
        }
        for pod in objects(&self.pods) {
            self.known.put_pod(&view::<PodView>(&pod));
        }
        self.known.synced(self.version);
    }

    /// The slices of a Service, by name.
    pub(super) fn slices_of(&self, service: &str) -> Vec<&Value> {
        let of = |slice: &&Value| slice["metadata"]["labels"]["kubernetes.io/service-name"] == service;
        self.slices.values().filter(of).collect()
    }

    pub(super) fn endpoints_of(&self, service: &str) -> Vec<&Value> {
        let lists = self.slices_of(service).into_iter();
        lists
            .filter_map(|slice| slice["endpoints"].as_array())
            .flatten()
            .collect()
    }
}

/// RFC 7396.
fn merge(into: &mut Value, patch: &Value) {
    let Value::Object(patch) = patch else {
        *into = patch.clone();
        return;
    };
    if !into.is_object() {
        *into = json!({});
    }
    for (key, value) in patch {
        match (value, into.as_object_mut()) {
            (Value::Null, Some(into)) => drop(into.remove(key)),
            _ => merge(&mut into[key], value),
        }
    }
}

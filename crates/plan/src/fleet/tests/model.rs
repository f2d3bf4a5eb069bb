//! A small model of a cluster. It answers the requests of actions, feeds four watches from a log as
//! slowly as a test needs, and acts as scheduler and kubelets on request.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use api::view::{ControllerRevisionView, DaemonSetConditionView, DaemonSetView, NodeView, PodView};
use jiff::{SignedDuration, Timestamp};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::daemonset::Trouble;
use crate::fleet::{Act, Action, Answer, Change, EventRecord, Fleet, Method, Objects, Options, Request};

/// The kinds, in the order of the watches.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) enum Kind {
    Node,
    Pod,
    Set,
    Revision,
}

pub(super) const KINDS: [Kind; 4] = [Kind::Node, Kind::Pod, Kind::Set, Kind::Revision];

type Key = (Kind, String, String);

#[derive(Clone, Debug)]
struct Logged {
    kind: Kind,
    deleted: bool,
    object: Value,
}

/// Reaction of the server to the next writes.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) enum Fault {
    #[default]
    None,
    /// It refuses them, like a quota.
    Refuse,
    /// It creates no objects, because the namespace is terminating.
    NamespaceTerminating,
    /// They succeed, but the answers are lost.
    LoseAnswer,
    /// The requests are lost.
    LoseRequest,
}

pub(crate) struct Cluster {
    pub(crate) fleet: Fleet,
    options: Options,
    pub(crate) now: Timestamp,
    pub(crate) fault: Fault,
    /// Nodes whose pods are neither created nor deleted, like by an admission webhook.
    pub(crate) refused_nodes: BTreeSet<String>,
    /// Names of objects that are not patched.
    pub(crate) refused_patches: BTreeSet<String>,
    /// Most pods that may exist.
    pub(crate) quota: Option<usize>,
    /// Number of status writes that changed no number.
    pub(crate) writes_of_words: usize,
    /// Every action that was carried out, as text.
    pub(crate) done: Vec<String>,
    pub(crate) events: Vec<EventRecord>,
    /// Violations of invariants in this run.
    pub(crate) violations: Vec<String>,
    revision: u64,
    objects: BTreeMap<Key, Value>,
    /// All pods, parsed.
    pods: BTreeMap<Key, Arc<PodView>>,
    log: Vec<Logged>,
    cursors: [usize; 4],
    uids: u64,
}

fn meta<'v>(object: &'v Value, key: &str) -> &'v str {
    object["metadata"][key].as_str().unwrap_or_default()
}

fn view<V: for<'de> Deserialize<'de>>(object: &Value) -> Arc<V> {
    Arc::new(V::deserialize(object).unwrap_or_else(|error| panic!("{error}: {object}")))
}

fn change<V: for<'de> Deserialize<'de>>(logged: &Logged) -> Change<V> {
    match logged.deleted {
        true => Change::Delete(view(&logged.object)),
        false => Change::Upsert(view(&logged.object)),
    }
}

impl Cluster {
    pub(crate) fn new() -> Cluster {
        Cluster::with_options(Options::default())
    }

    pub(crate) fn with_options(options: Options) -> Cluster {
        let mut cluster = Cluster {
            fleet: Fleet::new(options),
            options,
            now: "2026-01-01T00:00:00Z".parse().unwrap(),
            fault: Fault::None,
            refused_nodes: BTreeSet::new(),
            refused_patches: BTreeSet::new(),
            quota: None,
            writes_of_words: 0,
            done: Vec::new(),
            events: Vec::new(),
            violations: Vec::new(),
            revision: 1,
            objects: BTreeMap::new(),
            pods: BTreeMap::new(),
            log: Vec::new(),
            cursors: [0; 4],
            uids: 0,
        };
        cluster.relist();
        cluster
    }

    /// A cluster with the nodes `names` and the DaemonSet `daemon`, deployed everywhere and
    /// available.
    pub(crate) fn deployed(names: &[&str], spec: Value) -> Cluster {
        let mut cluster = Cluster::new();
        for name in names {
            cluster.add_node(name, json!({}));
        }
        cluster.apply_set("daemon", spec);
        cluster.converge();
        cluster.done.clear();
        cluster.events.clear();
        cluster
    }

    // ---- the store ----

    fn put(&mut self, kind: Kind, mut object: Value) -> Value {
        self.revision += 1;
        object["metadata"]["resourceVersion"] = self.revision.to_string().into();
        let key = (
            kind,
            meta(&object, "namespace").to_owned(),
            meta(&object, "name").to_owned(),
        );
        if kind == Kind::Pod {
            self.pods.insert(key.clone(), view(&object));
        }
        self.objects.insert(key, object.clone());
        self.log.push(Logged {
            kind,
            deleted: false,
            object: object.clone(),
        });
        object
    }

    fn create(&mut self, kind: Kind, mut object: Value) -> Value {
        self.uids += 1;
        object["metadata"]["uid"] = format!("uid-{}", self.uids).into();
        object["metadata"]["creationTimestamp"] = self.now.to_string().into();
        self.put(kind, object)
    }

    fn remove(&mut self, key: &Key) -> Option<Value> {
        let mut object = self.objects.remove(key)?;
        self.pods.remove(key);
        self.revision += 1;
        object["metadata"]["resourceVersion"] = self.revision.to_string().into();
        self.log.push(Logged {
            kind: key.0,
            deleted: true,
            object: object.clone(),
        });
        Some(object)
    }

    fn edit(&mut self, key: &Key, edit: impl FnOnce(&mut Value)) {
        if let Some(mut object) = self.objects.get(key).cloned() {
            let old = object.clone();
            edit(&mut object);
            if object != old {
                self.put(key.0, object);
            }
        }
    }

    // ---- the watches ----

    /// Lists everything again.
    pub(crate) fn relist(&mut self) {
        let objects = |kind: Kind| {
            self.objects
                .iter()
                .filter(move |((of, ..), _)| *of == kind)
                .map(|(_, object)| object)
        };
        let revision = self.revision;
        self.fleet.node(Change::Replace {
            items: objects(Kind::Node).map(view).collect(),
            revision,
        });
        self.fleet.pod(Change::Replace {
            items: objects(Kind::Pod).map(view).collect(),
            revision,
        });
        self.fleet.daemon_set(Change::Replace {
            items: objects(Kind::Set).map(view).collect(),
            revision,
        });
        self.fleet.revision(Change::Replace {
            items: objects(Kind::Revision).map(view).collect(),
            revision,
        });
        self.cursors = [self.log.len(); 4];
    }

    /// A new controller process without state.
    pub(crate) fn restart(&mut self) {
        self.restart_with(self.options);
    }

    /// A new controller process with other options.
    pub(crate) fn restart_with(&mut self, options: Options) {
        self.options = options;
        self.fleet = Fleet::new(options);
        self.relist();
    }

    /// Lets one watch show the next `count` events.
    pub(super) fn deliver(&mut self, kind: Kind, count: usize) {
        let cursor = &mut self.cursors[kind as usize];
        let mut left = count;
        while left > 0 && *cursor < self.log.len() {
            let logged = &self.log[*cursor];
            *cursor += 1;
            if logged.kind != kind {
                continue;
            }
            left -= 1;
            match kind {
                Kind::Node => self.fleet.node(change::<NodeView>(logged)),
                Kind::Pod => self.fleet.pod(change::<PodView>(logged)),
                Kind::Set => self.fleet.daemon_set(change::<DaemonSetView>(logged)),
                Kind::Revision => self.fleet.revision(change::<ControllerRevisionView>(logged)),
            }
        }
    }

    pub(crate) fn deliver_all(&mut self) {
        for kind in KINDS {
            self.deliver(kind, usize::MAX);
        }
    }

    // ---- the server ----

    /// Plans, and carries out the plan at once. The watches show nothing yet. Returns the number of
    /// actions.
    pub(crate) fn plan_and_act(&mut self) -> usize {
        let actions = self.plan();
        let count = actions.len();
        for action in actions {
            self.act(&action);
        }
        count
    }

    pub(crate) fn plan(&mut self) -> Vec<Action> {
        let plan = self.fleet.plan(self.now);
        self.events.extend(plan.events);
        plan.actions
    }

    pub(crate) fn act(&mut self, action: &Action) {
        self.done.push(action.to_string());
        if let Act::UpdateStatus { status, .. } = &action.act
            && self.set_exists(&action.set.name)
            && *status == self.set(&action.set.name).status
        {
            self.writes_of_words += 1;
        }
        let request = action.request();
        let writes = request.method != Method::Get;
        let fault = if writes { self.fault } else { Fault::None };
        let refused = |code: u16, reason: &str, message: &str, cause: &str| {
            let causes = json!({"causes": [{"reason": cause}]});
            (
                code,
                json!({"kind": "Status", "reason": reason, "message": message, "details": causes}),
            )
        };
        let creates = request.method == Method::Post;
        let over_quota = creates
            && request.path.ends_with("/pods")
            && self.quota.is_some_and(|quota| self.pods.len() >= quota);
        let node_refused = match &action.act {
            Act::CreatePod { node, .. } | Act::DeletePod { node, .. } => self.refused_nodes.contains(&**node),
            Act::AdoptPod(target) | Act::ReleasePod(target) => self.refused_patches.contains(&*target.name),
            _ => false,
        };
        let (code, body) = match fault {
            _ if node_refused => refused(403, "Forbidden", "denied the request", ""),
            _ if over_quota => refused(403, "Forbidden", "exceeded quota", ""),
            Fault::Refuse => refused(403, "Forbidden", "exceeded quota", ""),
            Fault::NamespaceTerminating if creates => {
                refused(403, "Forbidden", "is being terminated", "NamespaceTerminating")
            }
            Fault::LoseRequest => (0, Value::Null),
            _ => self.serve(action, &request),
        };
        let body = body.to_string();
        let answer = match fault {
            Fault::LoseRequest | Fault::LoseAnswer => Answer::Lost("connection reset"),
            _ => Answer::Response {
                code,
                body: body.as_bytes(),
            },
        };
        self.events.extend(self.fleet.answer(action, answer, self.now));
    }

    fn serve(&mut self, action: &Action, request: &Request) -> (u16, Value) {
        let body: Value = serde_json::from_slice(&request.body).unwrap_or_default();
        let parts: Vec<&str> = request
            .path
            .split('/')
            .skip_while(|part| *part != "namespaces")
            .collect();
        let kind = match parts[2] {
            "pods" => Kind::Pod,
            "daemonsets" => Kind::Set,
            "controllerrevisions" => Kind::Revision,
            other => panic!("no such resource: {other}"),
        };
        let namespace = parts[1].to_owned();
        let name = parts
            .get(3)
            .map_or_else(|| meta(&body, "name").to_owned(), |name| (*name).to_owned());
        let key = (kind, namespace, name);
        let status = |code: u16, reason: &str| {
            (
                code,
                json!({"kind": "Status", "reason": reason, "message": format!("{reason}: {}", key.2)}),
            )
        };
        let existing = self.objects.get(&key).cloned();
        match (request.method, existing) {
            (Method::Post, Some(_)) => status(409, "AlreadyExists"),
            (Method::Post, None) => {
                if kind == Kind::Pod {
                    self.watch_creation(action, &body);
                }
                (201, self.create(kind, body))
            }
            (_, None) => status(404, "NotFound"),
            (Method::Get, Some(object)) => (200, object),
            (Method::Delete, Some(object)) => {
                if body["preconditions"]["uid"] != object["metadata"]["uid"] {
                    return status(409, "Conflict");
                }
                if !self.known_as_owned(action, &key) {
                    self.violations.push(format!("deleted a stranger: {}", key.2));
                }
                match kind {
                    Kind::Pod => (200, self.delete_pod(&key).unwrap_or_default()),
                    _ => {
                        self.remove(&key);
                        (200, json!({"kind": "Status", "status": "Success"}))
                    }
                }
            }
            (Method::Patch, Some(object)) => {
                let Some(patched) = patched(&object, &body) else {
                    return status(422, "Invalid");
                };
                let version = &body["metadata"]["resourceVersion"];
                if version.is_string() && *version != object["metadata"]["resourceVersion"] {
                    return status(409, "Conflict");
                }
                match patched == object {
                    true => (200, object),
                    false => (200, self.put(kind, patched)),
                }
            }
        }
    }

    /// Returns whether the watch has shown the controller that the object belongs to the set. It
    /// cannot act on what it has not seen.
    fn known_as_owned(&self, action: &Action, (kind, namespace, name): &Key) -> bool {
        let key = (Arc::from(namespace.as_str()), Arc::from(name.as_str()));
        let meta = match kind {
            Kind::Pod => self.fleet.pods.get(&key).map(|entry| &entry.pod.meta),
            _ => self.fleet.revisions.get(&key).map(|revision| &revision.meta),
        };
        meta.and_then(|meta| meta.controller())
            .is_some_and(|owner| owner.uid == action.set.uid)
    }

    /// A bound, running pod gets its grace period; any other is deleted at once.
    fn delete_pod(&mut self, key: &Key) -> Option<Value> {
        let pod = self.objects.get(key)?;
        let terminal = matches!(pod["status"]["phase"].as_str(), Some("Failed" | "Succeeded"));
        let bound = pod["spec"]["nodeName"].is_string();
        let held = pod["metadata"]["finalizers"]
            .as_array()
            .is_some_and(|finalizers| !finalizers.is_empty());
        if (bound && !terminal) || held {
            let now = self.now.to_string();
            self.edit(key, |pod| {
                if pod["metadata"]["deletionTimestamp"].is_null() {
                    pod["metadata"]["deletionTimestamp"] = now.into();
                }
            });
            self.objects.get(key).cloned()
        } else {
            self.remove(key)
        }
    }

    /// A set without surge never has two pods on a node.
    fn watch_creation(&mut self, action: &Action, pod: &Value) {
        let target: Arc<PodView> = view(pod);
        // The controller must follow the set as it has seen it.
        let surges = self
            .fleet
            .daemon_sets()
            .any(|set| set.meta.uid == action.set.uid && set.allows_surge());
        let others = self.pods().into_iter().filter(|other| {
            other.target_node() == target.target_node()
                && other.meta.controller().map(|owner| &owner.uid) == Some(&action.set.uid)
                && !crate::daemonset::is_past(other)
        });
        let others = others.filter(|other| !surges || !other.is_terminating()).count();
        if others > usize::from(surges) {
            self.violations
                .push(format!("a pod too many on {:?}", target.target_node()));
        }
    }

    // ---- the users ----

    fn set_key(name: &str) -> Key {
        (Kind::Set, "default".to_owned(), name.to_owned())
    }

    pub(crate) fn pod_key(name: &str) -> (String, String) {
        ("default".to_owned(), name.to_owned())
    }

    pub(crate) fn add_node(&mut self, name: &str, more: Value) {
        let mut node =
            json!({"metadata": {"name": name, "labels": {"kubernetes.io/hostname": name}}, "spec": {}});
        merge(&mut node, &more);
        self.create(Kind::Node, node);
    }

    pub(crate) fn edit_node(&mut self, name: &str, edit: impl FnOnce(&mut Value)) {
        self.edit(&(Kind::Node, String::new(), name.to_owned()), edit);
    }

    pub(crate) fn taint(&mut self, name: &str, taints: Value) {
        self.edit_node(name, |node| node["spec"]["taints"] = taints);
    }

    pub(crate) fn remove_node(&mut self, name: &str) {
        self.remove(&(Kind::Node, String::new(), name.to_owned()));
    }

    pub(crate) fn node_names(&self) -> Vec<String> {
        self.objects
            .keys()
            .filter(|(kind, ..)| *kind == Kind::Node)
            .map(|(.., name)| name.clone())
            .collect()
    }

    /// Creates a set, or changes its spec, and raises its generation and template generation like
    /// the server. `spec` is merged into a plain one, or into the existing one.
    pub(crate) fn apply_set(&mut self, name: &str, spec: Value) {
        const GENERATION: &str = "deprecated.daemonset.template.generation";
        let key = Self::set_key(name);
        let Some(old) = self.objects.get(&key).cloned() else {
            let labels = json!({"app": name});
            let mut set = json!({
                "metadata": {"name": name, "namespace": "default", "generation": 1, "annotations": {GENERATION: "1"}},
                "spec": {
                    "selector": {"matchLabels": labels},
                    "template": {
                        "metadata": {"labels": labels},
                        "spec": {"containers": [{"name": "main", "image": "v1"}]},
                    },
                    "updateStrategy": {"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": 1, "maxSurge": 0}},
                    "revisionHistoryLimit": 10,
                },
                "status": {},
            });
            merge(&mut set["spec"], &spec);
            self.create(Kind::Set, set);
            return;
        };
        let mut set = old.clone();
        merge(&mut set["spec"], &spec);
        if set["spec"] == old["spec"] {
            return;
        }
        set["metadata"]["generation"] =
            (old["metadata"]["generation"].as_i64().unwrap_or_default() + 1).into();
        if set["spec"]["template"] != old["spec"]["template"] {
            let generation: i64 = old["metadata"]["annotations"][GENERATION]
                .as_str()
                .unwrap()
                .parse()
                .unwrap();
            set["metadata"]["annotations"][GENERATION] = (generation + 1).to_string().into();
        }
        self.put(Kind::Set, set);
    }

    pub(crate) fn image(version: &str) -> Value {
        json!({"template": {"spec": {"containers": [{"name": "main", "image": version}]}}})
    }

    pub(crate) fn edit_set(&mut self, name: &str, edit: impl FnOnce(&mut Value)) {
        self.edit(&Self::set_key(name), edit);
    }

    pub(crate) fn remove_set(&mut self, name: &str) {
        self.remove(&Self::set_key(name));
    }

    pub(crate) fn set(&self, name: &str) -> Arc<DaemonSetView> {
        view(&self.objects[&Self::set_key(name)])
    }

    /// The set with `spec` merged into it, like the server's answer to a dry run.
    pub(crate) fn dry_run(&mut self, name: &str, spec: Value) -> Arc<DaemonSetView> {
        let before = (self.objects.clone(), self.log.len(), self.revision, self.uids);
        self.apply_set(name, spec);
        let set = self.set(name);
        self.log.truncate(before.1);
        (self.objects, self.revision, self.uids) = (before.0, before.2, before.3);
        set
    }

    /// All objects, read once, like a client does.
    pub(crate) fn observed(&self) -> Fleet {
        let of_kind = |kind: Kind| self.objects.iter().filter(move |((of, ..), _)| *of == kind);
        let objects = Objects {
            nodes: self.nodes(),
            pods: self.pods(),
            daemon_sets: of_kind(Kind::Set).map(|(_, set)| view(set)).collect(),
            revisions: self.revisions(),
        };
        Fleet::of(self.options, objects, self.now)
    }

    pub(crate) fn set_exists(&self, name: &str) -> bool {
        self.objects.contains_key(&Self::set_key(name))
    }

    pub(crate) fn create_pod(&mut self, pod: Value) -> Arc<PodView> {
        view(&self.create(Kind::Pod, pod))
    }

    pub(crate) fn create_revision(&mut self, revision: Value) {
        self.create(Kind::Revision, revision);
    }

    /// Removes all owners from the revisions, like deleting a set with orphaning.
    pub(crate) fn orphan_revisions(&mut self) {
        let keys: Vec<_> = self
            .objects
            .keys()
            .filter(|(kind, ..)| *kind == Kind::Revision)
            .cloned()
            .collect();
        for key in keys {
            self.edit(&key, |revision| {
                revision["metadata"]["ownerReferences"] = json!([])
            });
        }
    }

    pub(crate) fn edit_pod(&mut self, name: &str, edit: impl FnOnce(&mut Value)) {
        let (namespace, name) = Self::pod_key(name);
        self.edit(&(Kind::Pod, namespace, name), edit);
    }

    /// `kubectl delete pod`.
    pub(crate) fn delete(&mut self, name: &str) {
        let (namespace, name) = Self::pod_key(name);
        self.delete_pod(&(Kind::Pod, namespace, name));
    }

    pub(crate) fn pods(&self) -> Vec<Arc<PodView>> {
        self.pods.values().cloned().collect()
    }

    pub(crate) fn nodes(&self) -> Vec<Arc<NodeView>> {
        self.objects
            .iter()
            .filter(|((kind, ..), _)| *kind == Kind::Node)
            .map(|(_, node)| view(node))
            .collect()
    }

    pub(crate) fn revisions(&self) -> Vec<Arc<ControllerRevisionView>> {
        let of_kind = self
            .objects
            .iter()
            .filter(|((kind, ..), _)| *kind == Kind::Revision);
        let mut revisions: Vec<Arc<ControllerRevisionView>> =
            of_kind.map(|(_, revision)| view(revision)).collect();
        revisions.sort_by_key(|revision| revision.revision);
        revisions
    }

    pub(crate) fn pods_on(&self, node: &str) -> Vec<Arc<PodView>> {
        self.pods()
            .into_iter()
            .filter(|pod| pod.target_node().is_some_and(|target| **target == *node))
            .collect()
    }

    /// The name of the only pod on a node.
    pub(crate) fn pod_on(&self, node: &str) -> String {
        let pods = self.pods_on(node);
        assert_eq!(pods.len(), 1, "pods on {node}");
        pods[0].meta.name.to_string()
    }

    /// The conditions of a set, in words: `Available=True MinimumPodsAvailable: …`.
    pub(crate) fn conditions(&self, name: &str) -> Vec<String> {
        let line = |condition: &DaemonSetConditionView| {
            let DaemonSetConditionView {
                kind,
                status,
                reason,
                message,
                ..
            } = condition;
            format!("{kind}={status} {reason}: {message}")
        };
        self.set(name).conditions.iter().map(line).collect()
    }

    /// Every pod on its node, in words: `a: v1 ready, b: v2 terminating`.
    pub(crate) fn picture(&self) -> String {
        let mut lines = Vec::new();
        for ((kind, ..), pod) in &self.objects {
            if *kind != Kind::Pod {
                continue;
            }
            let seen: Arc<PodView> = view(pod);
            let node = seen.target_node().map_or("?", |node| node);
            let image = pod["spec"]["containers"][0]["image"]
                .as_str()
                .unwrap_or("?")
                .to_owned();
            let state = match () {
                () if seen.is_terminating() => " terminating",
                () if seen.phase == api::view::PhaseView::Failed => " failed",
                () if seen.phase == api::view::PhaseView::Succeeded => " succeeded",
                () if seen.ready.status => " ready",
                () if seen.node_name.is_none() => " unbound",
                () => "",
            };
            lines.push(format!("{node}: {image}{state}"));
        }
        lines.sort();
        lines.join(", ")
    }

    // ---- the machines ----

    /// Binds a pod to the node that it is pinned to, if the node exists.
    pub(crate) fn bind(&mut self, name: &str) {
        let nodes = self.node_names();
        self.edit_pod(name, |pod| {
            let pinned = view::<PodView>(pod).pinned_node.clone();
            if let Some(node) = pinned
                && nodes.iter().any(|name| **name == *node)
            {
                pod["spec"]["nodeName"] = node.to_string().into();
            }
        });
    }

    pub(crate) fn phase(&mut self, name: &str, phase: &str, ready: bool) {
        let now = self.now.to_string();
        self.edit_pod(name, |pod| {
            let status = if ready { "True" } else { "False" };
            let was = &pod["status"]["conditions"][0];
            let since = if was["status"] == status {
                was["lastTransitionTime"].clone()
            } else {
                now.into()
            };
            pod["status"]["phase"] = phase.into();
            pod["status"]["conditions"] =
                json!([{"type": "Ready", "status": status, "lastTransitionTime": since}]);
        });
    }

    /// Deletes a pod that has ended, like a kubelet.
    pub(crate) fn finish(&mut self, name: &str) {
        let (namespace, name) = Self::pod_key(name);
        self.remove(&(Kind::Pod, namespace, name));
    }

    /// Deletes what belongs to a deleted set, like the garbage collector.
    fn collect_garbage(&mut self) {
        let uids: Vec<Value> = self
            .objects
            .iter()
            .filter(|((kind, ..), _)| *kind == Kind::Set)
            .map(|(_, set)| set["metadata"]["uid"].clone())
            .collect();
        let dangles = |object: &Value| {
            let owner = &object["metadata"]["ownerReferences"][0];
            owner["kind"] == "DaemonSet" && !uids.contains(&owner["uid"])
        };
        let garbage: Vec<_> = self
            .objects
            .iter()
            .filter(|(_, object)| dangles(object))
            .map(|(key, _)| key.clone())
            .collect();
        for key in garbage {
            self.remove(&key);
        }
    }

    /// Lets the scheduler and all kubelets do everything, and the garbage collector delete what
    /// belongs to deleted nodes and sets.
    pub(crate) fn machines(&mut self) {
        self.collect_garbage();
        let nodes = self.node_names();
        let silent: BTreeSet<_> = self
            .nodes()
            .iter()
            .filter(|node| Trouble::of(node) == Some(Trouble::Unreachable))
            .map(|node| node.meta.name.clone())
            .collect();
        for pod in self.pods() {
            let name = &*pod.meta.name;
            if pod.node_name.as_ref().is_some_and(|node| silent.contains(node)) {
                continue;
            }
            let bound_to_nowhere = pod
                .node_name
                .as_ref()
                .is_some_and(|node| !nodes.iter().any(|name| **name == **node));
            if pod.is_terminating() || bound_to_nowhere {
                self.finish(name);
            } else if !pod.is_terminal() && !pod.ready.status {
                self.bind(name);
                if self.is_bound(name) && !pod.target_node().is_some_and(|node| silent.contains(node)) {
                    self.phase(name, "Running", true);
                }
            }
        }
    }

    pub(crate) fn is_bound(&self, name: &str) -> bool {
        let (namespace, name) = Self::pod_key(name);
        self.objects
            .get(&(Kind::Pod, namespace, name))
            .is_some_and(|pod| pod["spec"]["nodeName"].is_string())
    }

    // ---- time ----

    /// When the controller, which has nothing to do now, plans again.
    pub(crate) fn look_again(&mut self) -> Option<Timestamp> {
        let plan = self.fleet.plan(self.now);
        assert!(plan.actions.is_empty(), "settled, but: {:?}", plan.actions);
        plan.look_again
    }

    pub(crate) fn wait(&mut self, seconds: i64) {
        self.now += SignedDuration::from_secs(seconds);
    }

    /// Shows events, plans and acts until nothing is left to do, without the machines.
    pub(crate) fn settle(&mut self) {
        for _ in 0..1000 {
            self.deliver_all();
            if self.plan_and_act() == 0 {
                return;
            }
        }
        panic!(
            "it does not come to rest: {:?}",
            &self.done[self.done.len() - 10..]
        );
    }

    /// Continues until the first creation of a pod, and then makes the server fail.
    pub(crate) fn settle_until_first_creation(&mut self, fault: Fault) {
        self.deliver_all();
        for _ in 0..10 {
            for action in self.plan() {
                if action.to_string().contains("create pod") {
                    self.fault = fault;
                }
                self.act(&action);
            }
            if self.fault == fault {
                return;
            }
        }
        panic!("no pod is created: {:?}", self.done);
    }

    /// Settles with machines and time, until nothing changes any more.
    pub(crate) fn converge(&mut self) {
        for _ in 0..1000 {
            self.settle();
            let before = self.log.len();
            self.machines();
            if self.log.len() != before {
                continue;
            }
            match self.look_again() {
                Some(moment) => self.now = moment,
                None => return,
            }
        }
        panic!("it does not end: {}", self.picture());
    }
}

/// Applies the patch to the object; `None` if the uid in it is another object's.
fn patched(object: &Value, patch: &Value) -> Option<Value> {
    let mut patch = patch.clone();
    if let Some(metadata) = patch["metadata"].as_object_mut() {
        if metadata
            .remove("uid")
            .is_some_and(|uid| uid != object["metadata"]["uid"])
        {
            return None;
        }
        metadata.remove("resourceVersion");
    }
    let mut patched = object.clone();
    let owners = patch["metadata"]
        .as_object_mut()
        .and_then(|metadata| metadata.remove("ownerReferences"));
    for owner in owners.iter().flat_map(|owners| owners.as_array().unwrap()) {
        let mut kept = patched["metadata"]["ownerReferences"]
            .as_array()
            .cloned()
            .unwrap_or_default();
        kept.retain(|kept| kept["uid"] != owner["uid"]);
        if owner["$patch"] != "delete" {
            kept.push(owner.clone());
        }
        patched["metadata"]["ownerReferences"] = Value::Array(kept);
    }
    let conditions = patch
        .get_mut("status")
        .and_then(|status| status.as_object_mut()?.remove("conditions"));
    merge(&mut patched, &patch);
    for condition in conditions
        .iter()
        .flat_map(|conditions| conditions.as_array().unwrap())
    {
        let mut kept = patched["status"]["conditions"]
            .as_array()
            .cloned()
            .unwrap_or_default();
        match kept.iter_mut().find(|kept| kept["type"] == condition["type"]) {
            Some(kept) => *kept = condition.clone(),
            None => kept.push(condition.clone()),
        }
        patched["status"]["conditions"] = Value::Array(kept);
    }
    Some(patched)
}

/// JSON merge patch.
pub(super) fn merge(target: &mut Value, patch: &Value) {
    let Value::Object(patch) = patch else {
        *target = patch.clone();
        return;
    };
    if !target.is_object() {
        *target = json!({});
    }
    for (key, value) in patch {
        match value {
            Value::Null => {
                if let Some(target) = target.as_object_mut() {
                    target.remove(key);
                }
            }
            value => merge(&mut target[key], value),
        }
    }
}

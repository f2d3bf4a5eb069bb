//! A server with simulated nodes, and what the tests ask of it.

use std::collections::BTreeMap;

use anyhow::{Context, Result, bail};
use serde_json::{Value, json};
use testkit::{Api, MERGE, Nodes, Process, STRATEGIC, Watch, wait_for};

pub(crate) const NODES: &str = "/api/v1/nodes";

/// A server, nodes named node-0, node-1 and so on, and a namespace in which one test plays.
pub(crate) struct Fleet {
    pub(crate) api: Api,
    nodes: Option<Nodes>,
    pub(crate) server: Process,
    pub(crate) namespace: &'static str,
}

impl Fleet {
    /// With `nodes` simulated nodes, and further words for `everynode server` and `everynode simulate`. The test plays in
    /// `default`.
    pub(crate) fn start_with(nodes: usize, server: &[&str], simulate: &[&str]) -> Result<Self> {
        let server = Process::start(super::binary(), "server", server)?;
        let nodes = match nodes {
            0 => None,
            count => Some(server.simulate_with(count, "node", simulate)?),
        };
        Ok(Self {
            api: Api::connect(&server.kubeconfig())?,
            nodes,
            server,
            namespace: "default",
        })
    }

    /// The nodes fall silent: pods that are bound stay Pending, and pods that are deleted stay.
    pub(crate) fn silence(&mut self) {
        self.nodes = None;
    }

    pub(crate) fn pods_path(&self) -> String {
        format!("/api/v1/namespaces/{}/pods", self.namespace)
    }

    pub(crate) fn pod_path(&self, name: &str) -> String {
        format!("{}/{name}", self.pods_path())
    }

    pub(crate) fn sets_path(&self) -> String {
        format!("/apis/apps/v1/namespaces/{}/daemonsets", self.namespace)
    }

    pub(crate) fn set_path(&self, name: &str) -> String {
        format!("{}/{name}", self.sets_path())
    }

    pub(crate) fn revisions_path(&self) -> String {
        format!("/apis/apps/v1/namespaces/{}/controllerrevisions", self.namespace)
    }

    pub(crate) fn set(&self, name: &str) -> Result<Value> {
        self.api.get(&self.set_path(name))
    }

    /// Creates a DaemonSet as [`daemon_set`] makes it.
    pub(crate) fn create(&self, name: &str, change: impl FnOnce(&mut Value)) -> Result<Value> {
        self.api.create(&self.sets_path(), &daemon_set(name, change))
    }

    pub(crate) fn patch(&self, name: &str, patch: &Value) -> Result<Value> {
        self.api.patch(&self.set_path(name), STRATEGIC, patch)
    }

    /// Gives the DaemonSet's one container another image.
    pub(crate) fn set_image(&self, name: &str, image: &str) -> Result<Value> {
        let containers = json!([{"name": "app", "image": image}]);
        self.patch(
            name,
            &json!({"spec": {"template": {"spec": {"containers": containers}}}}),
        )
    }

    /// All pods that the DaemonSet of this name controls.
    pub(crate) fn pods(&self, set: &str) -> Result<Vec<Value>> {
        let uid = self.set(set)?["metadata"]["uid"].clone();
        let mut pods = self.api.items(&self.pods_path())?;
        pods.retain(|pod| controller(pod).is_some_and(|owner| owner["uid"] == uid));
        Ok(pods)
    }

    /// The names of the nodes' pods, by node, as soon as the DaemonSet has exactly one available pod, which is not being
    /// deleted, on each of these nodes, and none elsewhere.
    pub(crate) fn runs_on(&self, set: &str, nodes: &[&str]) -> Result<BTreeMap<String, String>> {
        let mut wanted: Vec<&str> = nodes.to_vec();
        wanted.sort_unstable();
        wait_for(&format!("{set} to run on {wanted:?}"), || {
            let pods = self.pods(set)?;
            let mut running: Vec<(String, String)> = pods
                .iter()
                .filter(|pod| !is_terminating(pod))
                .map(|pod| match is_ready(pod) {
                    true => (node(pod).to_owned(), name(pod)),
                    false => (format!("{} (not ready)", node(pod)), name(pod)),
                })
                .collect();
            running.sort();
            let seen: Vec<&str> = running.iter().map(|(node, _)| node.as_str()).collect();
            Ok(match seen == wanted {
                true => Ok(running.into_iter().collect()),
                false => Err(format!("{seen:?}\n{}", self.set(set)?["status"])),
            })
        })
    }

    /// Waits until the DaemonSet's status says that `nodes` nodes have the newest template's pods, all of them
    /// available.
    pub(crate) fn complete(&self, set: &str, nodes: u64) -> Result<()> {
        self.status(set, &format!("{set} to be complete on {nodes} nodes"), |status| {
            [
                "desiredNumberScheduled",
                "currentNumberScheduled",
                "updatedNumberScheduled",
                "numberReady",
                "numberAvailable",
            ]
            .iter()
            .all(|field| status[field].as_u64().unwrap_or(0) == nodes)
        })
    }

    /// Waits until the DaemonSet's status, observed in its newest generation, is as `wanted`.
    pub(crate) fn status(&self, set: &str, what: &str, wanted: impl Fn(&Value) -> bool) -> Result<()> {
        wait_for(what, || {
            let set = self.set(set)?;
            let observed = set["status"]["observedGeneration"] == set["metadata"]["generation"];
            Ok(match observed && wanted(&set["status"]) {
                true => Ok(()),
                false => Err(set["status"].to_string()),
            })
        })
    }

    /// The DaemonSet's revisions, lowest number first.
    pub(crate) fn revisions(&self, set: &str) -> Result<Vec<Value>> {
        let uid = self.set(set)?["metadata"]["uid"].clone();
        let mut revisions = self.api.items(&self.revisions_path())?;
        revisions.retain(|revision| controller(revision).is_some_and(|owner| owner["uid"] == uid));
        revisions.sort_by_key(|revision| revision["revision"].as_u64());
        Ok(revisions)
    }

    pub(crate) fn label_node(&self, node: &str, key: &str, value: Option<&str>) -> Result<Value> {
        let patch = json!({"metadata": {"labels": {key: value}}});
        self.api.patch(&format!("{NODES}/{node}"), MERGE, &patch)
    }

    /// Replaces the taints that people gave the node; those of the control plane stay.
    pub(crate) fn taint_node(&self, node: &str, key: &str, effect: Option<&str>) -> Result<Value> {
        let path = format!("{NODES}/{node}");
        let mut taints: Vec<Value> = self.api.get(&path)?["spec"]["taints"]
            .as_array()
            .cloned()
            .unwrap_or_default();
        taints.retain(|taint| taint["key"] != key);
        if let Some(effect) = effect {
            taints.push(json!({"key": key, "effect": effect}));
        }
        self.api.patch(&path, MERGE, &json!({"spec": {"taints": taints}}))
    }

    /// Reports another status of a pod, as its node's kubelet would.
    pub(crate) fn report(&self, pod: &str, status: &Value) -> Result<Value> {
        let path = format!("{}/status", self.pod_path(pod));
        self.api.patch(&path, STRATEGIC, &json!({"status": status}))
    }

    /// Reports that a pod's readiness probe fails.
    pub(crate) fn make_unready(&self, pod: &str) -> Result<Value> {
        let conditions = ["ContainersReady", "Ready"].map(|kind| {
            json!({"type": kind, "status": "False", "reason": "ContainersNotReady",
                "message": "containers with unready status: [app]"})
        });
        self.report(pod, &json!({"conditions": conditions}))
    }

    /// Reports that a pod has ended, `Succeeded` or `Failed`.
    pub(crate) fn end(&self, pod: &str, phase: &str) -> Result<Value> {
        self.make_unready(pod)?;
        self.report(pod, &json!({"phase": phase}))
    }

    /// Waits until nothing of the DaemonSet is left.
    pub(crate) fn gone(&self, app: &str) -> Result<()> {
        let pods = format!("{}?labelSelector=app={app}", self.pods_path());
        wait_for(&format!("the pods of {app} to go"), || {
            let left: Vec<String> = self.api.items(&pods)?.iter().map(name).collect();
            Ok(match left.is_empty() {
                true => Ok(()),
                false => Err(format!("{left:?}")),
            })
        })
    }
}

/// Every state of the namespace's pods since the watch began: nothing is too quick to be seen.
pub(crate) struct PodWatch<'a> {
    watch: Watch<'a>,
    pub(crate) pods: BTreeMap<String, Value>,
}

impl<'a> PodWatch<'a> {
    pub(crate) fn open(fleet: &'a Fleet) -> Result<Self> {
        let list = fleet.api.get(&fleet.pods_path())?;
        let version = list["metadata"]["resourceVersion"]
            .as_str()
            .context("no version")?;
        let path = format!("{}?watch=1&resourceVersion={version}", fleet.pods_path());
        let pods = list["items"].as_array().cloned().unwrap_or_default();
        Ok(Self {
            watch: fleet.api.watch(&path)?,
            pods: pods.into_iter().map(|pod| (name(&pod), pod)).collect(),
        })
    }

    /// The next state.
    pub(crate) fn step(&mut self) -> Result<()> {
        let mut event = self.watch.event()?;
        let pod = event["object"].take();
        match event["type"].as_str() {
            Some("ADDED" | "MODIFIED") => self.pods.insert(name(&pod), pod),
            Some("DELETED") => self.pods.remove(&name(&pod)),
            other => bail!("an event of type {other:?}: {pod}"),
        };
        Ok(())
    }

    /// Looks at every state until one is as `wanted`.
    pub(crate) fn until(&mut self, wanted: impl Fn(&BTreeMap<String, Value>) -> Result<bool>) -> Result<()> {
        while !wanted(&self.pods)? {
            self.step()?;
        }
        Ok(())
    }
}

/// A small DaemonSet: its pods are found by the label `app`, have one container `app`, and end within a second.
pub(crate) fn daemon_set(name: &str, change: impl FnOnce(&mut Value)) -> Value {
    let mut set = json!({
        "apiVersion": "apps/v1", "kind": "DaemonSet", "metadata": {"name": name, "labels": {"app": name}},
        "spec": {
            "selector": {"matchLabels": {"app": name}},
            "template": {
                "metadata": {"labels": {"app": name}},
                "spec": {
                    "containers": [{"name": "app", "image": "registry.example/app:1"}],
                    "terminationGracePeriodSeconds": 1,
                },
            },
        },
    });
    change(&mut set);
    set
}

/// Waits until the second in which the last of these pods was created is over: what is created then is younger.
pub(crate) fn be_older<'a>(pods: impl IntoIterator<Item = &'a Value>) -> Result<()> {
    let created = |pod: &'a Value| {
        let at = pod["metadata"]["creationTimestamp"].as_str()?;
        at.parse::<jiff::Timestamp>().ok()
    };
    let last = pods.into_iter().filter_map(created).max();
    testkit::eventually("the second of the pods to pass", || {
        Ok(last.is_none_or(|last| jiff::Timestamp::now().duration_since(last).as_secs() > 0))
    })
}

pub(crate) fn name(object: &Value) -> String {
    object["metadata"]["name"].as_str().unwrap_or_default().to_owned()
}

/// The node that the pod is bound to, or an empty name.
pub(crate) fn node(pod: &Value) -> &str {
    pod["spec"]["nodeName"].as_str().unwrap_or_default()
}

pub(crate) fn image(pod: &Value) -> &str {
    pod["spec"]["containers"][0]["image"].as_str().unwrap_or_default()
}

/// The hash of the template that a pod or a revision was made from.
pub(crate) fn hash(object: &Value) -> &str {
    object["metadata"]["labels"]["controller-revision-hash"]
        .as_str()
        .unwrap_or_default()
}

pub(crate) fn controller(object: &Value) -> Option<&Value> {
    let owners = object["metadata"]["ownerReferences"].as_array()?;
    owners.iter().find(|owner| owner["controller"] == true)
}

pub(crate) fn is_terminating(object: &Value) -> bool {
    !object["metadata"]["deletionTimestamp"].is_null()
}

pub(crate) fn condition<'a>(object: &'a Value, kind: &str) -> Option<&'a Value> {
    let conditions = object["status"]["conditions"].as_array()?;
    conditions.iter().find(|condition| condition["type"] == kind)
}

pub(crate) fn is_ready(object: &Value) -> bool {
    condition(object, "Ready").is_some_and(|condition| condition["status"] == "True")
}

/// An object's resourceVersion as a number.
pub(crate) fn version(object: &Value) -> Result<u64> {
    let version = object["metadata"]["resourceVersion"]
        .as_str()
        .context("no resourceVersion")?;
    version
        .parse()
        .with_context(|| format!("resourceVersion {version:?} is no decimal number"))
}

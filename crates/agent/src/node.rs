//! The Node object: registered, described, and kept alive.

mod lease;
mod machine;

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use api::node_credential::DELETED_REASON;
use futures::StreamExt;
use http::Method;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Node;
use serde_json::{Map, Value, json};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::admission::Offer;
use crate::cluster::{Cluster, is_gone, message};
use crate::events::Recorder;
use crate::network;
use crate::options::{Options, PodRanges};
use crate::progress::Progress;

pub(crate) use lease::renew;
pub(crate) use machine::{
    available_memory, has_address, memory as machine_memory, primary_address, routed_address,
};

/// How often the node's state is looked at.
const LOOK: Duration = Duration::from_secs(10);
/// How often an unchanged state is posted all the same.
const POST_UNCHANGED: Duration = Duration::from_secs(300);
/// Wait after a failed call, doubling up to the second value.
const RETRY: (Duration, Duration) = (Duration::from_millis(200), Duration::from_secs(10));
/// Pods a node takes: the kubelet's default.
const PODS: u32 = 110;
/// Images that the node tells of, the largest first: the kubelet's default.
const IMAGES: usize = 50;
/// Names told of each image: the kubelet's bound.
const IMAGE_NAMES: usize = 5;
/// Below this much free memory the node is under memory pressure: the kubelet's default.
const LEAST_MEMORY: u64 = 100 << 20;
/// Below this share of free disk the node is under disk pressure, in percent: the kubelet's default.
const LEAST_DISK_PERCENT: u64 = 10;

/// What was last said of the node.
struct Posted {
    state: Value,
    /// When it is said again, though nothing changed.
    due: tokio::time::Instant,
}

/// What decides whether the node is ready.
pub(crate) struct Health {
    pub(crate) network: watch::Receiver<network::State>,
    pub(crate) progress: Progress,
}

/// Keeps the Node object true.
pub(crate) struct Keeper {
    cluster: Cluster,
    recorder: Recorder,
    name: String,
    addresses: watch::Receiver<Vec<IpAddr>>,
    health: Health,
    /// Whether the node registers with the ranges that it has.
    network_is_own: bool,
    labels: BTreeMap<String, String>,
    taints: Value,
    data_dir: PathBuf,
    images: runtime::Images,
    offer: watch::Sender<Offer>,
    /// The Node object's, once there is one.
    uid: Option<String>,
    /// Cancelled when the node is found to be deleted.
    deleted: CancellationToken,
    /// Status of each condition and the time of its last change.
    since: BTreeMap<String, (String, String)>,
}

impl Keeper {
    /// A keeper, and what it learns of the node: its labels as the API has them, and what it can give to pods.
    pub(crate) fn new(
        cluster: Cluster,
        recorder: Recorder,
        options: &Options,
        images: runtime::Images,
        addresses: watch::Receiver<Vec<IpAddr>>,
        health: Health,
        deleted: CancellationToken,
    ) -> (Self, watch::Receiver<Offer>) {
        let mut labels = options.labels.clone();
        labels.extend(machine::labels(&options.node_name));
        let capacity = machine::capacity(&options.data_dir, PODS);
        let offer = Offer {
            name: options.node_name.clone(),
            labels: labels.clone(),
            allocatable: capacity,
        };
        let (offer, told) = watch::channel(offer);
        let keeper = Self {
            cluster,
            recorder,
            name: options.node_name.clone(),
            addresses,
            health,
            network_is_own: matches!(options.network.ranges, PodRanges::Own(_)),
            labels,
            taints: serde_json::to_value(&options.taints).unwrap_or_default(),
            data_dir: options.data_dir.clone(),
            images,
            offer,
            uid: None,
            deleted,
            since: BTreeMap::new(),
        };
        (keeper, told)
    }

    /// Until a server says which labels the node has, it has those that it had.
    pub(crate) fn recall_labels(&self, labels: BTreeMap<String, String>) {
        self.offer.send_modify(|offer| offer.labels = labels);
    }

    /// Registers the node, and posts its state until `shutdown`, or until somebody deletes the node: what an administrator took out of
    /// the cluster does not put itself in again.
    pub(crate) async fn run(mut self, shutdown: CancellationToken) {
        self.recorder
            .node(&self.name, false, "Starting", "Starting kubelet.".into());
        let api = self.cluster.nodes();
        let mut changes = std::pin::pin!(kube::runtime::watcher::watch_object(api, &self.name));
        let mut timer = tokio::time::interval(LOOK);
        timer.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut posted: Option<Posted> = None;
        let (mut network, mut addresses) = (self.health.network.clone(), self.addresses.clone());
        loop {
            tokio::select! {
                () = shutdown.cancelled() => return,
                // Its keeper ends with this one.
                Ok(()) = network.changed() => {}
                Ok(()) = addresses.changed() => {}
                change = changes.next() => match change {
                    Some(Ok(Some(node))) => {
                        let contradicted = posted.as_mut().filter(|posted| contradicts(&node, &posted.state));
                        if let Some(posted) = contradicted {
                            posted.due = tokio::time::Instant::now();
                        }
                        self.learn(node).await;
                        // What changed was mostly this agent's own doing: the timer posts.
                        if posted.is_some() {
                            continue;
                        }
                    }
                    Some(Ok(None)) => {
                        posted = None;
                        self.ask_whether_deleted().await;
                    }
                    Some(Err(error)) => {
                        tracing::debug!(node = self.name, %error, "watch of the own node failed");
                        tokio::time::sleep(RETRY.0).await;
                        continue;
                    }
                    None => return,
                },
                _ = timer.tick() => {}
            }
            if self.deleted.is_cancelled() {
                return;
            }
            self.post(&mut posted, &shutdown).await;
        }
    }

    /// Whether the node that was registered is there no more. A list that was under way while it was registered lacks it, too, so the
    /// server is asked.
    async fn ask_whether_deleted(&self) {
        let Some(uid) = &self.uid else { return };
        match self.cluster.nodes().get_opt(&self.name).await {
            Ok(Some(node)) if node.metadata.uid.as_ref() == Some(uid) => {}
            Ok(_) => self.deleted.cancel(),
            Err(error) => self.heed(&error),
        }
    }

    /// A server that says that this node was deleted is believed: it has shown that it is the cluster's.
    fn heed(&self, error: &kube::Error) {
        if matches!(error, kube::Error::Api(status) if status.reason == DELETED_REASON) {
            self.deleted.cancel();
        }
    }

    async fn learn(&mut self, node: Node) {
        if self.uid.is_some() && self.uid != node.metadata.uid {
            return self.ask_whether_deleted().await;
        }
        self.uid = node.metadata.uid;
        let conditions = node.status.and_then(|status| status.conditions);
        for condition in conditions.into_iter().flatten() {
            if let Some(at) = condition.last_transition_time {
                let known = (condition.status, api::time::rfc3339(at.0));
                self.since.entry(condition.type_).or_insert(known);
            }
        }
        let labels = node.metadata.labels.unwrap_or_default();
        self.offer.send_if_modified(|offer| {
            let changed = offer.labels != labels;
            offer.labels = labels;
            changed
        });
    }

    /// Posts the state if it changed or has not been posted for long; registers first if need be.
    async fn post(&mut self, posted: &mut Option<Posted>, shutdown: &CancellationToken) {
        let state = self.state();
        let fresh = |posted: &Posted| posted.state == state && tokio::time::Instant::now() < posted.due;
        if posted.as_ref().is_some_and(fresh) {
            return;
        }
        if posted.is_none() {
            self.register(shutdown).await;
            if self.deleted.is_cancelled() {
                return;
            }
        }
        let body = json!({ "status": self.status(&state) });
        let path = format!("/api/v1/nodes/{}/status", self.name);
        let kind = "application/strategic-merge-patch+json";
        match self.cluster.call(Method::PATCH, &path, kind, &body).await {
            Ok(_) => {
                let due = tokio::time::Instant::now() + POST_UNCHANGED;
                *posted = Some(Posted { state, due });
            }
            Err(error) if is_gone(&error) => {
                *posted = None;
                self.ask_whether_deleted().await;
            }
            Err(error) => {
                self.heed(&error);
                tracing::warn!(
                    node = self.name,
                    error = message(&error),
                    "cannot update the node's status"
                );
            }
        }
    }

    /// Makes the Node object, or brings its own labels up to date, until one of the two succeeds.
    async fn register(&mut self, shutdown: &CancellationToken) {
        let mut wait = RETRY.0;
        while !shutdown.is_cancelled() {
            match self.try_register().await {
                Ok(()) => return,
                Err(error) => {
                    self.heed(&error);
                    tracing::warn!(
                        node = self.name,
                        error = message(&error),
                        "cannot register the node"
                    );
                }
            }
            tokio::select! {
                () = shutdown.cancelled() => return,
                () = self.deleted.cancelled() => return,
                () = tokio::time::sleep(wait) => {}
            }
            wait = (wait * 2).min(RETRY.1);
        }
    }

    async fn try_register(&mut self) -> Result<(), kube::Error> {
        let path = format!("/api/v1/nodes/{}", self.name);
        let annotations = json!({"volumes.kubernetes.io/controller-managed-attach-detach": "true"});
        let metadata = json!({"name": self.name, "labels": self.labels, "annotations": annotations});
        let patch = json!({"metadata": {"labels": self.labels}});
        let kind = "application/strategic-merge-patch+json";
        match self.cluster.call(Method::PATCH, &path, kind, &patch).await {
            Err(kube::Error::Api(status)) if status.code == 404 => {}
            answer => {
                if let Ok(node) = serde_json::from_value(answer?) {
                    self.learn(node).await;
                }
                return Ok(());
            }
        }
        let state = self.state();
        let status = self.status(&state);
        let mut spec = Map::new();
        let ranges: Vec<String> = match self.network_is_own {
            true => self
                .health
                .network
                .borrow()
                .ranges
                .iter()
                .map(ToString::to_string)
                .collect(),
            false => Vec::new(),
        };
        if let Some(first) = ranges.first() {
            spec.insert("podCIDR".into(), first.clone().into());
            spec.insert("podCIDRs".into(), ranges.into());
        }
        if self.taints.as_array().is_some_and(|taints| !taints.is_empty()) {
            spec.insert("taints".into(), self.taints.clone());
        }
        let body = json!({
            "apiVersion": "v1",
            "kind": "Node",
            "metadata": metadata,
            "spec": spec,
            "status": status,
        });
        let made = self
            .cluster
            .call(Method::POST, "/api/v1/nodes", "application/json", &body)
            .await;
        match made {
            Err(kube::Error::Api(status)) if status.code == 409 => Ok(()),
            answer => {
                if let Ok(node) = serde_json::from_value(answer?) {
                    self.learn(node).await;
                }
                Ok(())
            }
        }
    }

    /// What the node says of itself, without times.
    fn state(&self) -> Value {
        let capacity = machine::capacity(&self.data_dir, PODS);
        let conditions: Vec<Value> = pressure(&self.data_dir)
            .into_iter()
            .map(|(kind, pressed, reason, message)| {
                let status = if pressed { "True" } else { "False" };
                json!({"type": kind, "status": status, "reason": reason, "message": message})
            })
            .chain(network_conditions(
                &self.health.network.borrow(),
                self.health.progress.stalled(),
            ))
            .collect();
        let ips = self
            .addresses
            .borrow()
            .clone()
            .into_iter()
            .map(|ip| json!({"type": "InternalIP", "address": ip.to_string()}));
        let hostname = json!({"type": "Hostname", "address": self.name});
        let addresses: Vec<Value> = ips.chain([hostname]).collect();
        json!({
            "capacity": capacity,
            "allocatable": capacity,
            "conditions": conditions,
            "addresses": addresses,
            "nodeInfo": machine::node_info(),
            "images": self.images(),
        })
    }

    fn images(&self) -> Vec<Value> {
        let images = self.images.list().unwrap_or_else(|error| {
            tracing::warn!(%error, "cannot list the node's images");
            Vec::new()
        });
        // One entry an image, under all its names: those with digests first, as the kubelet has them.
        let mut by_id: BTreeMap<String, (Vec<String>, u64)> = BTreeMap::new();
        for image in images {
            let (names, size) = by_id.entry(image.digest).or_default();
            let digests = names.iter().filter(|name| name.contains('@')).count();
            if let Some(digest) = image.repo_digest.filter(|digest| !names.contains(digest)) {
                names.insert(digests, digest);
            }
            if !names.contains(&image.name) {
                names.push(image.name);
            }
            *size = image.size;
        }
        let mut images: Vec<(Vec<String>, u64)> = by_id.into_values().collect();
        images.sort_by_key(|(_, size)| std::cmp::Reverse(*size));
        let largest = images.into_iter().take(IMAGES);
        largest
            .map(|(mut names, size)| {
                names.truncate(IMAGE_NAMES);
                json!({"names": names, "sizeBytes": size})
            })
            .collect()
    }

    /// The state with its times; a condition keeps its transition time while its status stays.
    fn status(&mut self, state: &Value) -> Value {
        let now = api::time::rfc3339(Timestamp::now());
        let mut status = state.clone();
        for condition in status["conditions"].as_array_mut().into_iter().flatten() {
            condition["lastHeartbeatTime"] = now.clone().into();
            let text = |field: &str| condition[field].as_str().unwrap_or_default().to_owned();
            let (kind, is) = (text("type"), text("status"));
            let since = self
                .since
                .entry(kind)
                .or_insert_with(|| (is.clone(), now.clone()));
            if since.0 != is {
                *since = (is, now.clone());
            }
            condition["lastTransitionTime"] = since.1.clone().into();
        }
        status
    }
}

/// Whether a Node says of a condition something else than was posted: the controllers gave up a node of which they did not hear for a while,
/// and believe nobody but itself that it is there.
fn contradicts(node: &Node, posted: &Value) -> bool {
    let conditions = node.status.as_ref().and_then(|status| status.conditions.as_ref());
    let mut posted = posted["conditions"].as_array().into_iter().flatten();
    posted.any(|posted| {
        let mut told = conditions.into_iter().flatten();
        told.any(|told| posted["type"] == *told.type_ && posted["status"] != *told.status)
    })
}

/// Whether pods can be made, whether the agent gets on, and whether they reach those of other nodes.
fn network_conditions(state: &network::State, stalled: Option<String>) -> Vec<Value> {
    let condition = |kind: &str, status: &str, reason: &str, message: &str| json!({"type": kind, "status": status, "reason": reason, "message": message});
    let not_ready = stalled.or_else(|| state.not_ready.as_deref().map(network::not_ready));
    let ready = match &not_ready {
        None => condition("Ready", "True", "KubeletReady", "kubelet is posting ready status"),
        Some(why) => condition("Ready", "False", "KubeletNotReady", why),
    };
    let routes = match &state.routes {
        None => None,
        Some(Ok(())) => Some((
            "False",
            "RouteCreated",
            "the routes to the other nodes' pods stand",
        )),
        Some(Err(why)) => Some(("True", "NoRouteCreated", why.as_str())),
    };
    let routes =
        routes.map(|(status, reason, message)| condition("NetworkUnavailable", status, reason, message));
    routes.into_iter().chain([ready]).collect()
}

type Pressure = (&'static str, bool, &'static str, &'static str);

fn pressure(data_dir: &std::path::Path) -> [Pressure; 3] {
    let memory = available_memory().is_some_and(|bytes| bytes < LEAST_MEMORY);
    let disk = machine::disk(data_dir)
        .is_some_and(|disk| disk.free.saturating_mul(100) < disk.size * LEAST_DISK_PERCENT);
    [
        match memory {
            true => (
                "MemoryPressure",
                true,
                "KubeletHasInsufficientMemory",
                "kubelet has insufficient memory available",
            ),
            false => (
                "MemoryPressure",
                false,
                "KubeletHasSufficientMemory",
                "kubelet has sufficient memory available",
            ),
        },
        match disk {
            true => (
                "DiskPressure",
                true,
                "KubeletHasDiskPressure",
                "kubelet has disk pressure",
            ),
            false => (
                "DiskPressure",
                false,
                "KubeletHasNoDiskPressure",
                "kubelet has no disk pressure",
            ),
        },
        (
            "PIDPressure",
            false,
            "KubeletHasSufficientPID",
            "kubelet has sufficient PID available",
        ),
    ]
}

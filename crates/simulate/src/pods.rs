//! Pods of all simulated nodes, from one watch.

use std::collections::{HashMap, HashSet, VecDeque};
use std::convert::Infallible;
use std::net::IpAddr;
use std::pin::pin;
use std::time::Duration;

use futures::future::BoxFuture;
use futures::stream::FuturesUnordered;
use futures::{FutureExt, StreamExt};
use http::{Method, Request};
use ipnet::IpNet;
use jiff::Timestamp;
use kube::core::WatchEvent;
use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::{Value, json};

use crate::ranges::{self, Ranges};
use crate::request::{Api, Error};
use crate::{Options, node, request};

/// Watch of the pods of all namespaces. Without a resource version it begins with all existing
/// pods.
const WATCH: &str =
    "/api/v1/pods?watch=1&allowWatchBookmarks=true&timeoutSeconds=270&fieldSelector=spec.nodeName";

/// Returns the path of the watch: the pods of all nodes, or of the single node, because a node's
/// user may read only its own pods.
fn watch(options: &Options) -> String {
    match options.nodes {
        1 => format!("{WATCH}%3D{}", node::name(options, 0)),
        _ => format!("{WATCH}%21%3D"),
    }
}

/// Wait before a broken watch is opened again.
const PAUSE: Duration = Duration::from_millis(500);

/// Longest backoff of a report. While the server is unavailable, the watch is not read.
const PAUSE_MAX: Duration = Duration::from_secs(10);

/// A report that failed this often is logged.
const TRIES: u32 = 5;

/// Time after which a kubelet corrects a status that the server has wrong: the period of its status
/// manager.
const CORRECTED_AFTER: Duration = Duration::from_secs(10);

/// Fields of a pod that a simulated kubelet reads.
#[derive(Clone, Debug, Deserialize)]
struct Pod {
    metadata: Meta,
    #[serde(default)]
    spec: Spec,
    #[serde(default)]
    status: Status,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Meta {
    #[serde(default)]
    name: String,
    #[serde(default)]
    namespace: String,
    #[serde(default)]
    uid: String,
    #[serde(default)]
    resource_version: String,
    deletion_timestamp: Option<Timestamp>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Spec {
    node_name: String,
    host_network: bool,
    containers: Vec<Container>,
}

#[derive(Clone, Debug, Deserialize)]
struct Container {
    name: String,
    #[serde(default)]
    image: String,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Status {
    phase: String,
    #[serde(rename = "podIP")]
    pod_ip: Option<IpAddr>,
    container_statuses: Vec<IgnoredAny>,
    conditions: Vec<Condition>,
}

#[derive(Clone, Debug, Deserialize)]
struct Condition {
    #[serde(rename = "type")]
    kind: String,
    status: String,
}

/// Next action of a node for a pod.
#[derive(Debug, PartialEq, Eq)]
enum Deed {
    /// Report the pod as running.
    Run,
    /// Report that its image cannot be pulled.
    Wait,
    /// Report it as ready: the control plane set it to not ready when its node was unreachable.
    Correct,
    /// Confirm the end of a deleted pod.
    Finish,
}

impl Deed {
    /// Returns how long a node takes before this action.
    fn wait(&self, options: &Options) -> Duration {
        match self {
            Deed::Run | Deed::Wait => options.start_up,
            Deed::Correct => CORRECTED_AFTER,
            Deed::Finish => Duration::ZERO,
        }
    }
}

impl Pod {
    /// Returns whether the control plane set the pod to not ready although its containers are
    /// ready.
    fn is_given_up(&self) -> bool {
        let is = |kind: &str, status: &str| {
            let mut conditions = self.status.conditions.iter();
            conditions.any(|condition| condition.kind == kind && condition.status == status)
        };
        self.metadata.deletion_timestamp.is_none() && is("Ready", "False") && is("ContainersReady", "True")
    }

    fn deed(&self, missing_images: &[String]) -> Option<Deed> {
        let missing = |container: &Container| missing_images.contains(&container.image);
        match (self.metadata.deletion_timestamp, self.status.phase.as_str()) {
            (Some(_), _) => Some(Deed::Finish),
            // Reported once: pulling again does not help.
            (None, "" | "Pending") if self.spec.containers.iter().any(missing) => {
                self.status.container_statuses.is_empty().then_some(Deed::Wait)
            }
            (None, "" | "Pending") => Some(Deed::Run),
            (None, "Running") if !self.is_ready() => Some(Deed::Correct),
            _ => None,
        }
    }

    fn is_ready(&self) -> bool {
        let mut conditions = self.status.conditions.iter();
        conditions.any(|condition| condition.kind == "Ready" && condition.status == "True")
    }
}

/// Reports and finishes pods until it is dropped.
pub(crate) async fn play(api: &Api, options: &Options, ranges: &Ranges) -> Infallible {
    let mut version = String::new();
    let mut work = Work {
        api,
        options,
        ranges,
        running: FuturesUnordered::new(),
        delayed: FuturesUnordered::new(),
        due: VecDeque::new(),
        held: HashMap::new(),
        given: FuturesUnordered::new(),
        reporting: HashSet::new(),
        turns: vec![0; options.nodes as usize],
    };
    loop {
        match follow(&mut work, &mut version).await {
            Ok(()) => {}
            Err(error) => {
                tracing::warn!(error = %chain(&error), "the watch of pods was interrupted");
                version.clear();
                // The next watch returns these pods again, if they still exist.
                work.let_go();
                tokio::time::sleep(PAUSE).await;
            }
        }
    }
}

/// Waiting and running actions for pods. It outlives a watch.
struct Work<'a> {
    api: &'a Api,
    options: &'a Options,
    ranges: &'a Ranges,
    running: FuturesUnordered<BoxFuture<'a, (String, Deed)>>,
    /// Actions whose time has not come. They do not count as running, because a waiting pod must
    /// not block others.
    delayed: FuturesUnordered<BoxFuture<'a, Task>>,
    due: VecDeque<Task>,
    /// Actions for pods of nodes without a pod range, by node.
    held: HashMap<u32, Vec<Task>>,
    /// Each future returns a node of `held` when the node has a range.
    given: FuturesUnordered<BoxFuture<'a, u32>>,
    /// UIDs of pods with a waiting or running action. Events of these pods are ignored until it
    /// ends.
    reporting: HashSet<String>,
    /// Number of addresses that each node has assigned.
    turns: Vec<u32>,
}

impl<'a> Work<'a> {
    fn has_room(&self) -> bool {
        self.running.len() < self.options.in_flight
    }

    /// Starts actions that are due, and handles finished ones. Never returns while there is nothing
    /// to do.
    async fn step(&mut self) {
        while self.has_room()
            && let Some(task) = self.due.pop_front()
        {
            let turn = self.turns[task.index as usize];
            self.turns[task.index as usize] = turn.wrapping_add(task.needs_address().into());
            let work = perform(self.api, self.options, self.ranges, task, turn);
            self.running.push(work.boxed());
        }
        tokio::select! {
            biased;
            Some((uid, deed)) = self.running.next() => if deed != Deed::Finish {
                self.reporting.remove(&uid);
            },
            Some(task) = self.delayed.next() => self.begin(task),
            Some(node) = self.given.next() => self.due.extend(self.held.remove(&node).into_iter().flatten()),
            else => std::future::pending().await,
        }
    }

    /// Queues the action that a pod needs.
    fn take(&mut self, pod: Pod) {
        let Some(index) = node::index(self.options, &pod.spec.node_name) else {
            return;
        };
        self.skip_address(index, &pod);
        if pod.metadata.deletion_timestamp.is_some() {
            self.forget(index, &pod.metadata.uid);
        }
        let Some(deed) = pod.deed(&self.options.missing_images) else {
            return;
        };
        if deed != Deed::Finish && !self.reporting.insert(pod.metadata.uid.clone()) {
            return;
        }
        let wait = deed.wait(self.options);
        let task = Task { pod, deed, index };
        match wait.is_zero() {
            true => self.begin(task),
            false => self.delayed.push(
                async move {
                    tokio::time::sleep(wait).await;
                    task
                }
                .boxed(),
            ),
        }
    }

    /// Skips an address that a pod has from an earlier simulation.
    fn skip_address(&mut self, index: u32, pod: &Pod) {
        let mut ranges = self.ranges.of(index).into_iter().flatten();
        let turn = pod
            .status
            .pod_ip
            .and_then(|ip| ranges.find_map(|range| ranges::turn(range, ip)));
        let next = &mut self.turns[index as usize];
        *next = turn.map_or(*next, |turn| turn.saturating_add(1).max(*next));
    }

    /// Starts an action. It waits if the pod needs an address and its node has no pod range yet.
    fn begin(&mut self, task: Task) {
        let index = task.index;
        if !task.needs_address() || self.ranges.has(index) {
            self.due.push_back(task);
            return;
        }
        let held = self.held.entry(index).or_insert_with(|| {
            let given = self.ranges.given(index).map(move |()| index);
            self.given.push(given.boxed());
            Vec::new()
        });
        held.push(task);
    }

    /// Drops a deleted pod from the waiting ones.
    fn forget(&mut self, index: u32, uid: &str) {
        if let Some(held) = self.held.get_mut(&index) {
            held.retain(|task| task.pod.metadata.uid != uid);
            self.reporting.remove(uid);
        }
    }

    /// Drops all waiting actions.
    fn let_go(&mut self) {
        for task in self.held.values_mut().flat_map(|held| held.drain(..)) {
            self.reporting.remove(&task.pod.metadata.uid);
        }
    }
}

/// Reads one watch to its end.
async fn follow(work: &mut Work<'_>, version: &mut String) -> Result<(), kube::Error> {
    let path = match version.as_str() {
        "" => watch(work.options),
        version => format!("{}&resourceVersion={version}", watch(work.options)),
    };
    let request = Request::get(path)
        .body(Vec::new())
        .map_err(kube::Error::HttpError)?;
    let events = work.api.client.request_events::<Pod>(request).await?;
    let mut events = pin!(events);
    loop {
        let has_room = work.has_room();
        let event = tokio::select! {
            biased;
            () = work.step() => continue,
            event = events.next(), if has_room => event,
        };
        match event {
            None => return Ok(()),
            Some(Err(error)) => return Err(error),
            Some(Ok(WatchEvent::Added(pod) | WatchEvent::Modified(pod))) => {
                version.clone_from(&pod.metadata.resource_version);
                work.take(pod);
            }
            Some(Ok(WatchEvent::Deleted(pod))) => {
                if let Some(index) = node::index(work.options, &pod.spec.node_name) {
                    work.forget(index, &pod.metadata.uid);
                }
                *version = pod.metadata.resource_version;
            }
            Some(Ok(WatchEvent::Bookmark(mark))) => *version = mark.metadata.resource_version,
            Some(Ok(WatchEvent::Error(status))) => return Err(kube::Error::Api(status)),
        }
    }
}

/// An action for a pod.
struct Task {
    pod: Pod,
    deed: Deed,
    /// Index of its node.
    index: u32,
}

impl Task {
    /// Returns whether the action needs a pod range of the node.
    fn needs_address(&self) -> bool {
        matches!(self.deed, Deed::Run | Deed::Wait) && !self.pod.spec.host_network
    }
}

/// Performs the action and retries until it succeeds. `turn` is the number of the pod's address.
/// Returns the pod's UID and the action.
async fn perform(api: &Api, options: &Options, ranges: &Ranges, task: Task, turn: u32) -> (String, Deed) {
    let Task { mut pod, deed, index } = task;
    let mut attempt = 0;
    loop {
        attempt += 1;
        let now = format!("{:.0}", options.clock.now());
        let result = match deed {
            Deed::Run | Deed::Wait => {
                // Nodes of other simulations, which have other numbers, have other addresses.
                let number = options.start + index;
                let host = node::address(number).into();
                let addresses = match (pod.spec.host_network, ranges.of(index)) {
                    (false, Some(ranges)) => addresses(ranges, turn),
                    _ => vec![host],
                };
                let status = status(&pod, &options.missing_images, host, &addresses, &now);
                report(api, &pod, &status).await
            }
            Deed::Correct => report(api, &pod, &ready(&pod, &now)).await,
            Deed::Finish => finish(api, &pod).await,
        };
        match result {
            Ok(()) => break,
            // The pod was deleted, or replaced by another one.
            Err(error) if matches!(error.code(), 404 | 422) => break,
            // The pod changed since it was read. Its event was ignored because of this report.
            Err(error) if error.code() == 409 => match look(api, &pod).await {
                Ok(found) if found.deed(&options.missing_images).as_ref() == Some(&deed) => pod = found,
                Err(error) if error.code() != 404 => {}
                _ => break,
            },
            Err(error) => {
                if attempt == TRIES {
                    tracing::warn!(%error, pod = pod.metadata.name, "cannot update a pod's status");
                }
            }
        }
        tokio::time::sleep((PAUSE * attempt).min(PAUSE_MAX)).await;
    }
    (pod.metadata.uid, deed)
}

async fn report(api: &Api, pod: &Pod, status: &Value) -> Result<(), Error> {
    let path = format!(
        "/api/v1/namespaces/{}/pods/{}/status",
        pod.metadata.namespace, pod.metadata.name
    );
    api.send(
        Method::PATCH,
        &path,
        "application/strategic-merge-patch+json",
        status,
    )
    .await
    .map(|_| ())
}

/// Returns the current pod. The error is 404 also when another pod has the name.
async fn look(api: &Api, pod: &Pod) -> Result<Pod, Error> {
    let path = format!(
        "/api/v1/namespaces/{}/pods/{}",
        pod.metadata.namespace, pod.metadata.name
    );
    let found = api
        .send(Method::GET, &path, "application/json", &Value::Null)
        .await?;
    match serde_json::from_slice::<Pod>(&found) {
        Ok(found) if found.metadata.uid == pod.metadata.uid => Ok(found),
        _ => Err(Error::Refused {
            method: Method::GET,
            path,
            code: 404,
            message: "the name has gone over to another pod".to_owned(),
        }),
    }
}

#[derive(Deserialize)]
struct Pods {
    items: Vec<Pod>,
}

/// Reports the pods of a node as ready again, after the control plane set them to not ready.
pub(crate) async fn report_again(api: &Api, options: &Options, node: &str) -> Result<(), Error> {
    let path = format!("/api/v1/pods?fieldSelector=spec.nodeName%3D{node},status.phase%3DRunning");
    let list = api
        .send(Method::GET, &path, "application/json", &Value::Null)
        .await?;
    // A pod list that cannot be parsed cannot be corrected either.
    let Ok(Pods { items }) = serde_json::from_slice(&list) else {
        return Ok(());
    };
    let now = format!("{:.0}", options.clock.now());
    for pod in items.iter().filter(|pod| pod.is_given_up()) {
        let path = format!(
            "/api/v1/namespaces/{}/pods/{}/status",
            pod.metadata.namespace, pod.metadata.name
        );
        let ready = json!({"type": "Ready", "status": "True", "lastTransitionTime": now});
        let patch = json!({"metadata": {"uid": pod.metadata.uid}, "status": {"conditions": [ready]}});
        match api
            .send(
                Method::PATCH,
                &path,
                "application/strategic-merge-patch+json",
                &patch,
            )
            .await
        {
            // The pod was deleted, or replaced by another one.
            Err(error) if matches!(error.code(), 404 | 409 | 422) => {}
            result => drop(result?),
        }
    }
    Ok(())
}

async fn finish(api: &Api, pod: &Pod) -> Result<(), request::Error> {
    let path = format!(
        "/api/v1/namespaces/{}/pods/{}",
        pod.metadata.namespace, pod.metadata.name
    );
    let options = json!({
        "apiVersion": "v1", "kind": "DeleteOptions", "gracePeriodSeconds": 0,
        "preconditions": {"uid": pod.metadata.uid},
    });
    api.send(Method::DELETE, &path, "application/json", &options)
        .await
        .map(|_| ())
}

/// Returns the status patch of a pod that is ready again.
fn ready(pod: &Pod, now: &str) -> Value {
    json!({
        "metadata": {"uid": pod.metadata.uid},
        "status": {"conditions": [{"type": "Ready", "status": "True", "lastTransitionTime": now}]},
    })
}

/// Returns a pod's addresses: one from each range of its node.
fn addresses(ranges: &[IpNet], turn: u32) -> Vec<IpAddr> {
    let ranges = ranges.iter();
    ranges.map(|range| ranges::pod_address(range, turn)).collect()
}

/// Returns the status of a pod whose containers all run, except those whose image is missing.
fn status(pod: &Pod, missing_images: &[String], host: IpAddr, addresses: &[IpAddr], now: &str) -> Value {
    let missing = |container: &Container| missing_images.contains(&container.image);
    let container = |container: &Container| {
        let image = &container.image;
        let (runs, state) = match missing(container) {
            false => (true, json!({"running": {"startedAt": now}})),
            true => (
                false,
                json!({"waiting": {"reason": "ImagePullBackOff", "message": format!("Back-off pulling image \"{image}\"")}}),
            ),
        };
        json!({
            "name": container.name, "image": image, "imageID": "", "ready": runs, "started": runs,
            "restartCount": 0, "state": state, "lastState": {},
        })
    };
    let unready: Vec<&str> = pod
        .spec
        .containers
        .iter()
        .filter(|container| missing(container))
        .map(|container| &*container.name)
        .collect();
    let condition = |kind: &str| json!({"type": kind, "status": "True", "lastTransitionTime": now});
    let readiness = |kind: &str| match unready.is_empty() {
        true => condition(kind),
        false => json!({
            "type": kind, "status": "False", "lastTransitionTime": now, "reason": "ContainersNotReady",
            "message": format!("containers with unready status: [{}]", unready.join(" ")),
        }),
    };
    json!({
        // The resource version rejects the write if the pod changed meanwhile. The next event then
        // returns the pod.
        "metadata": {"uid": pod.metadata.uid, "resourceVersion": pod.metadata.resource_version},
        "status": {
            "phase": if unready.is_empty() { "Running" } else { "Pending" }, "startTime": now,
            "hostIP": host, "hostIPs": [{"ip": host}], "podIP": addresses.first(),
            "podIPs": addresses.iter().map(|ip| json!({"ip": ip})).collect::<Vec<_>>(),
            "conditions": [condition("Initialized"), readiness("ContainersReady"), readiness("Ready")],
            "containerStatuses": pod.spec.containers.iter().map(container).collect::<Vec<_>>(),
        },
    })
}

fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(source) = cause {
        text.push_str(": ");
        text.push_str(&source.to_string());
        cause = source.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pod(change: impl FnOnce(&mut Value)) -> Pod {
        let mut pod = json!({
            "metadata": {"name": "p", "namespace": "default", "uid": "u", "resourceVersion": "1"},
            "spec": {"nodeName": "node-0", "containers": [{"name": "c", "image": "i"}]}, "status": {"phase": "Pending"},
        });
        change(&mut pod);
        serde_json::from_value(pod).expect("a pod")
    }

    #[test]
    fn deed_runs_pending_finishes_deleted_and_corrects_unready_pods() {
        assert_eq!(pod(|_| {}).deed(&[]), Some(Deed::Run));
        let running = |ready: &str| {
            let conditions = json!([{"type": "Ready", "status": ready}]);
            pod(|p| p["status"] = json!({"phase": "Running", "conditions": conditions})).deed(&[])
        };
        assert_eq!((running("True"), running("False")), (None, Some(Deed::Correct)));
        assert_eq!(pod(|p| p["status"]["phase"] = "Failed".into()).deed(&[]), None);
        assert_eq!(
            pod(|p| p["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z".into()).deed(&[]),
            Some(Deed::Finish)
        );
    }

    #[test]
    fn a_running_pod_that_somebody_said_is_not_ready_is_given_up() {
        let given_up = |ready: &str, containers: &str| {
            let conditions = json!([
                {"type": "Ready", "status": ready}, {"type": "ContainersReady", "status": containers},
            ]);
            pod(|p| p["status"] = json!({"phase": "Running", "conditions": conditions})).is_given_up()
        };
        assert!(given_up("False", "True"));
        assert!(!given_up("True", "True"));
        assert!(!given_up("False", "False"));
    }

    #[test]
    fn a_pod_has_an_address_of_each_of_its_node_s_ranges() {
        let ranges = ["10.240.1.0/24", "fd00::/64"].map(|range| range.parse().expect("a range"));
        let host: IpAddr = "100.64.0.1".parse().expect("an address");
        let status = super::status(&pod(|_| {}), &[], host, &addresses(&ranges, 5), "now");
        assert_eq!(status["status"]["podIP"], "10.240.1.7");
        assert_eq!(status["status"]["podIPs"][1]["ip"], "fd00::7");
        assert_eq!(status["status"]["hostIP"], "100.64.0.1");
    }

    #[test]
    fn a_pod_whose_image_is_missing_waits_and_says_so_once() {
        let missing = ["i".to_owned()];
        assert_eq!(pod(|_| {}).deed(&missing), Some(Deed::Wait));
        let mut reported = super::status(&pod(|_| {}), &missing, [100, 64, 0, 1].into(), &[], "now");
        assert_eq!(reported["status"]["phase"], "Pending");
        assert_eq!(
            reported["status"]["containerStatuses"][0]["state"]["waiting"]["reason"],
            "ImagePullBackOff"
        );
        assert_eq!(reported["status"]["conditions"][2]["status"], "False");
        let status = reported["status"].take();
        assert_eq!(pod(|p| p["status"] = status).deed(&missing), None);
    }
}

//! The pods of all played nodes, on one watch.

use std::collections::{HashSet, VecDeque};
use std::convert::Infallible;
use std::pin::pin;
use std::time::Duration;

use futures::StreamExt;
use futures::stream::FuturesUnordered;
use http::{Method, Request};
use jiff::Timestamp;
use kube::core::WatchEvent;
use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::{Value, json};

use crate::node;
use crate::request::{Api, Error};
use crate::{Options, request};

/// Pods of all namespaces, from the present state on: without a version the watch begins with everything that exists.
const WATCH: &str =
    "/api/v1/pods?watch=1&allowWatchBookmarks=true&timeoutSeconds=270&fieldSelector=spec.nodeName";

/// The watch of the nodes' pods: of all that are bound, or of the one node's, who as itself may not see others'.
fn watch(options: &Options) -> String {
    match options.nodes {
        1 => format!("{WATCH}%3D{}", node::name(options, 0)),
        _ => format!("{WATCH}%21%3D"),
    }
}

/// The wait before a watch that broke is opened again.
const PAUSE: Duration = Duration::from_millis(500);

/// The longest wait before a report that failed is tried again. While the server is away the watch is read no further.
const PAUSE_MAX: Duration = Duration::from_secs(10);

/// After so many tries of a report somebody is told.
const TRIES: u32 = 5;

/// How long a kubelet takes to see that the server has another opinion of a pod, and to correct it: the period of its status manager.
const CORRECTED_AFTER: Duration = Duration::from_secs(10);

/// Of a pod, what a simulated kubelet looks at.
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
    container_statuses: Vec<IgnoredAny>,
    conditions: Vec<Condition>,
}

#[derive(Clone, Debug, Deserialize)]
struct Condition {
    #[serde(rename = "type")]
    kind: String,
    status: String,
}

/// What a node does for a pod now.
#[derive(Debug, PartialEq, Eq)]
enum Deed {
    /// Report it running.
    Run,
    /// Report that its image cannot be pulled.
    Wait,
    /// It runs and is said not to be ready, as all pods of a node are that was not heard of: correct that.
    Correct,
    /// It is to go: confirm its end.
    Finish,
}

impl Deed {
    /// How long a node takes before it does this.
    fn wait(&self, options: &Options) -> Duration {
        match self {
            Deed::Run | Deed::Wait => options.start_up,
            Deed::Correct => CORRECTED_AFTER,
            Deed::Finish => Duration::ZERO,
        }
    }
}

impl Pod {
    /// Whether somebody else said that it is not ready although its containers are.
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
            // Said once: nothing comes of pulling again.
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

/// Reports and finishes pods for ever.
pub(crate) async fn play(api: &Api, options: &Options) -> Infallible {
    let mut version = String::new();
    loop {
        match follow(api, options, &mut version).await {
            Ok(()) => {}
            Err(error) => {
                tracing::warn!(error = %chain(&error), "the watch over pods broke");
                version.clear();
                tokio::time::sleep(PAUSE).await;
            }
        }
    }
}

/// One watch, to its end.
async fn follow(api: &Api, options: &Options, version: &mut String) -> Result<(), kube::Error> {
    let path = match version.as_str() {
        "" => watch(options),
        version => format!("{}&resourceVersion={version}", watch(options)),
    };
    let request = Request::get(path)
        .body(Vec::new())
        .map_err(kube::Error::HttpError)?;
    let events = api.client.request_events::<Pod>(request).await?;
    let mut events = pin!(events);
    let mut running = FuturesUnordered::new();
    // What is to be done later. It keeps no place among what is running: one pod that waits must not hold up another.
    let mut delayed = FuturesUnordered::new();
    let mut due: VecDeque<Task> = VecDeque::new();
    let mut addresses = vec![0u8; options.nodes as usize];
    // Of these something is being reported already, which settles what an event says meanwhile.
    let mut reporting: HashSet<String> = HashSet::new();
    loop {
        while running.len() < options.in_flight
            && let Some(task) = due.pop_front()
        {
            running.push(perform(api, options, task));
        }
        tokio::select! {
            biased;
            Some((uid, deed)) = running.next() => if deed != Deed::Finish {
                reporting.remove(&uid);
            },
            Some(task) = delayed.next() => due.push_back(task),
            event = events.next(), if running.len() < options.in_flight => {
                let pod = match event {
                    None => break,
                    Some(Err(error)) => {
                        while running.next().await.is_some() {}
                        return Err(error);
                    }
                    Some(Ok(WatchEvent::Added(pod) | WatchEvent::Modified(pod))) => pod,
                    Some(Ok(WatchEvent::Deleted(pod))) => {
                        *version = pod.metadata.resource_version;
                        continue;
                    }
                    Some(Ok(WatchEvent::Bookmark(mark))) => {
                        *version = mark.metadata.resource_version;
                        continue;
                    }
                    Some(Ok(WatchEvent::Error(status))) => {
                        while running.next().await.is_some() {}
                        return Err(kube::Error::Api(status));
                    }
                };
                version.clone_from(&pod.metadata.resource_version);
                let Some(index) = node::index(options, &pod.spec.node_name) else { continue };
                let Some(deed) = pod.deed(&options.missing_images) else { continue };
                if deed != Deed::Finish && !reporting.insert(pod.metadata.uid.clone()) {
                    continue;
                }
                let last = &mut addresses[index as usize];
                *last = *last % 126 + 1;
                let wait = deed.wait(options);
                let task = Task { pod, deed, index, host: *last };
                match wait.is_zero() {
                    true => due.push_back(task),
                    false => delayed.push(async move {
                        tokio::time::sleep(wait).await;
                        task
                    }),
                }
            }
        }
    }
    // What the events asked for is done before the next watch, which does not tell of it again.
    loop {
        running.extend(due.drain(..).map(|task| perform(api, options, task)));
        tokio::select! {
            Some(_) = running.next() => {}
            Some(task) = delayed.next() => due.push_back(task),
            else => return Ok(()),
        }
    }
}

/// What is to be done for a pod.
struct Task {
    pod: Pod,
    deed: Deed,
    /// The number of its node.
    index: u32,
    /// The number of its address among those of the node.
    host: u8,
}

/// Does it, however often it fails. Gives back of which pod, and what.
async fn perform(api: &Api, options: &Options, task: Task) -> (String, Deed) {
    let Task {
        mut pod,
        deed,
        index,
        host,
    } = task;
    let mut attempt = 0;
    loop {
        attempt += 1;
        let now = format!("{:.0}", options.clock.now());
        let result = match deed {
            Deed::Run | Deed::Wait => {
                // Nodes that other processes play, with other numbers, have other addresses.
                let number = options.start + index;
                let status = status(&pod, &options.missing_images, number, host, &now);
                report(api, &pod, &status).await
            }
            Deed::Correct => report(api, &pod, &ready(&pod, &now)).await,
            Deed::Finish => finish(api, &pod).await,
        };
        match result {
            Ok(()) => break,
            // Gone, or another pod by now.
            Err(error) if matches!(error.code(), 404 | 422) => break,
            // Changed since it was seen, by an event that was not heeded because of this report.
            Err(error) if error.code() == 409 => match look(api, &pod).await {
                Ok(found) if found.deed(&options.missing_images).as_ref() == Some(&deed) => pod = found,
                Err(error) if error.code() != 404 => {}
                _ => break,
            },
            Err(error) => {
                if attempt == TRIES {
                    tracing::warn!(%error, pod = pod.metadata.name, "reporting a pod");
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

/// The pod as it is now; 404 also when there is another one of its name.
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

/// Says of the pods of a node which was given up, and which lives, that they are ready after all.
pub(crate) async fn report_again(api: &Api, options: &Options, node: &str) -> Result<(), Error> {
    let path = format!("/api/v1/pods?fieldSelector=spec.nodeName%3D{node},status.phase%3DRunning");
    let list = api
        .send(Method::GET, &path, "application/json", &Value::Null)
        .await?;
    // What cannot be read is not ours to mend.
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
            // Gone, or another pod by now.
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

/// The correction for a pod that is ready after all.
fn ready(pod: &Pod, now: &str) -> Value {
    json!({
        "metadata": {"uid": pod.metadata.uid},
        "status": {"conditions": [{"type": "Ready", "status": "True", "lastTransitionTime": now}]},
    })
}

/// The status of a pod whose containers all run, but for those whose image is missing.
fn status(pod: &Pod, missing_images: &[String], index: u32, host: u8, now: &str) -> Value {
    let host_ip = node::address(index).to_string();
    let pod_ip = match pod.spec.host_network {
        true => host_ip.clone(),
        false => std::net::Ipv4Addr::from(u32::from(node::pod_network(index)) + u32::from(host)).to_string(),
    };
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
        // The pod as it was seen: what somebody reported meanwhile stays, and the next event brings it here.
        "metadata": {"uid": pod.metadata.uid, "resourceVersion": pod.metadata.resource_version},
        "status": {
            "phase": if unready.is_empty() { "Running" } else { "Pending" }, "startTime": now,
            "hostIP": host_ip, "hostIPs": [{"ip": host_ip}], "podIP": pod_ip, "podIPs": [{"ip": pod_ip}],
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
    fn a_pending_pod_is_run_a_deleted_one_finished_a_wrong_word_corrected_and_the_rest_left() {
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
    fn a_pod_gets_an_address_of_its_node_s_network_and_a_host_network_pod_the_node_s() {
        let status = super::status(&pod(|_| {}), &[], 2, 7, "now");
        assert_eq!(status["status"]["podIP"], "10.0.1.7");
        let status = super::status(&pod(|p| p["spec"]["hostNetwork"] = true.into()), &[], 2, 7, "now");
        assert_eq!(status["status"]["podIP"], status["status"]["hostIP"]);
    }
    #[test]
    fn a_pod_whose_image_is_missing_waits_and_says_so_once() {
        let missing = ["i".to_owned()];
        assert_eq!(pod(|_| {}).deed(&missing), Some(Deed::Wait));
        let mut reported = super::status(&pod(|_| {}), &missing, 2, 7, "now");
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

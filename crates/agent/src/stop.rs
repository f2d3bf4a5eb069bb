//! Ending a node for good: its pods stop, and what was made for them on the machine is removed.

use std::collections::HashMap;
use std::path::Path;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;
use runtime::{ContainerState, ContainerStatus, ErrorKind, PodLogs, Runtime};
use serde_json::{Map, Value, json};

use crate::calls::{PODS, blocking};
use crate::cluster::{Cluster, PodRef, message};
use crate::container::{ATTEMPT, CONTAINER, find};
use crate::hooks::{self, LEAST_GRACE};
use crate::kubelet_dir;
use crate::options::{Error, Options};
use crate::pods::{Keeps, open, pods_dir};
use crate::volumes;
use crate::worker::exit_reason;

/// How long the API server may take to tell what the pods were promised; without its answer they are stopped all the same.
const ASK: Duration = Duration::from_secs(3);

/// How long the exit of a container that was killed may take.
const LAST_EXIT: Duration = Duration::from_secs(2);

/// Stops all pods of an agent whose [`crate::run`] has returned, each with its own grace but at most `grace`: preStop hooks,
/// SIGTERM, SIGKILL. Then removes shims, mounts, cgroups, network and the pods' files; images stay.
pub async fn stop_all(options: &Options, grace: Duration) -> Result<(), Error> {
    let runtime = open(options, Vec::new(), None).await?;
    Keeps::of(&options.data_dir, &runtime).forget();
    let folder = pods_dir(&options.data_dir);
    let logs = PodLogs::at(&options.pod_logs_dir).map_err(Error::PodLogs)?;
    let cluster = Cluster::new(options.client.clone());
    let specs = match tokio::time::timeout(ASK, cluster.pods_of(&options.node_name)).await {
        Ok(Ok(pods)) => pods,
        Ok(Err(error)) => {
            tracing::warn!(
                error = message(&error),
                "cannot get the pods from the API server; stopping them without their preStop hooks"
            );
            Vec::new()
        }
        Err(_) => {
            tracing::warn!("the API server does not answer; stopping the pods without their preStop hooks");
            Vec::new()
        }
    };
    let mut specs: HashMap<String, Pod> = specs
        .into_iter()
        .map(|pod| (pod.metadata.uid.clone().unwrap_or_default(), pod))
        .collect();
    let stopping = runtime.pods().into_iter().map(|pod| {
        let (runtime, folder, logs, cluster) = (
            runtime.clone(),
            folder.join(pod.id()),
            logs.clone(),
            cluster.clone(),
        );
        let spec = specs.remove(pod.id()).unwrap_or_default();
        async move {
            let began = Instant::now();
            let own = spec
                .spec
                .as_ref()
                .and_then(|spec| spec.termination_grace_period_seconds);
            let grace = own.map_or(grace, |own| grace.min(Duration::from_secs(own.unsigned_abs())));
            run_hooks(&pod, &spec, grace).await;
            let left = grace.saturating_sub(began.elapsed()).max(LEAST_GRACE.min(grace));
            let id = pod.id().to_owned();
            match PODS
                .run(&id, move || stop_pod(&runtime, &pod, &logs, &folder, left))
                .await
            {
                Ok(ended) => report(&cluster, &spec, &ended).await,
                Err(error) => tracing::warn!(%error, "cannot stop a pod"),
            }
        }
    });
    futures::future::join_all(stopping).await;
    let stopped = blocking(move || {
        for pod in std::fs::read_dir(&folder).into_iter().flatten().flatten() {
            if let Err(error) = remove_files(&logs, &pod.path()) {
                tracing::warn!(%error, "cannot remove a pod's files");
            }
        }
        if let Err(error) = volumes::remove_below(&folder) {
            tracing::warn!(%error, "cannot remove the pods' files");
        }
        runtime.clean_up()
    });
    stopped.await.map_err(|source| Error::Runtime {
        data_dir: options.data_dir.clone(),
        source,
    })
}

/// Removes the folders that an agent makes outside of its data directory, unless something uses them: for a machine that is no node any more.
pub fn remove_shared_folders(options: &Options) -> Result<(), Error> {
    PodLogs::at(&options.pod_logs_dir)
        .map_err(Error::PodLogs)?
        .remove_if_unused();
    kubelet_dir::remove_if_unused(&options.kubelet_dir);
    Ok(())
}

/// Stops the containers of a pod that have no preStop hook and runs those of the others, for at most `grace`.
async fn run_hooks(pod: &runtime::Pod, spec: &Pod, grace: Duration) {
    let sandbox = pod.clone();
    let asked = PODS.run(pod.id(), move || sandbox.containers()).await;
    let runs = asked.unwrap_or_default();
    let (Some(containers), false) = (&spec.spec, grace.is_zero()) else {
        return;
    };
    let pod_ips: Vec<String> = pod
        .network()
        .map(|network| network.ips().map(|ip| ip.to_string()).collect())
        .unwrap_or_default();
    let pod_ips = &pod_ips;
    let runs = runs.into_iter().filter(|run| run.state.is_running());
    let stopping = runs.filter_map(|run| {
        let container = find(containers, run.annotations.get(CONTAINER)?)?;
        let attempt = run.annotations.get(ATTEMPT)?.parse().ok()?;
        let hook = container
            .lifecycle
            .as_ref()
            .and_then(|lifecycle| lifecycle.pre_stop.as_ref());
        Some(async move {
            let Some(hook) = hook else {
                let sandbox = pod.clone();
                let stop = move || sandbox.stop_container(&run.id, grace);
                if let Err(error) = PODS.run(pod.id(), stop).await {
                    tracing::debug!(%error, "a container has ended by itself");
                }
                return;
            };
            let ran = hooks::run(pod, container, attempt, hook, pod_ips);
            match tokio::time::timeout(grace, ran).await {
                Ok(Ok(())) => {}
                Ok(Err(why)) => tracing::warn!(container = container.name, why, "the preStop hook failed"),
                Err(_) => tracing::warn!(
                    container = container.name,
                    "the preStop hook did not end within the grace period"
                ),
            }
        })
    });
    futures::future::join_all(stopping).await;
}

/// Tells the API how the containers of a pod ended, so that the node's next agent does not have to say that it does not know. A server that does not
/// answer is not waited for.
async fn report(cluster: &Cluster, pod: &Pod, ended: &[ContainerStatus]) {
    let status = serde_json::to_value(&pod.status).unwrap_or_default();
    let Some(patch) = ends(&status, ended) else {
        return;
    };
    let pod = PodRef::of(pod);
    let told = cluster.patch_pod_status(&pod, &patch);
    match tokio::time::timeout(ASK, told).await {
        Ok(Ok(_)) => {}
        Ok(Err(error)) => tracing::debug!("report how a pod ended: {}", message(&error)),
        Err(_) => tracing::debug!("report how a pod ended: the API server does not answer"),
    }
}

/// The patch of a pod's status that enters the ends of its newest runs; `None` when it has none of them.
fn ends(status: &Value, ended: &[ContainerStatus]) -> Option<Value> {
    let mut patch = Map::new();
    for list in ["initContainerStatuses", "containerStatuses"] {
        let mut statuses = status[list].as_array().cloned().unwrap_or_default();
        let mut changed = false;
        for status in &mut statuses {
            let end = ended.iter().find_map(|run| {
                let newest = run.annotations.get(CONTAINER).map(String::as_str) == status["name"].as_str()
                    && run
                        .annotations
                        .get(ATTEMPT)
                        .and_then(|attempt| attempt.parse().ok())
                        == status["restartCount"].as_u64();
                newest.then(|| terminated(run, &status["containerID"])).flatten()
            });
            if let Some(end) = end {
                status["state"] = end;
                status["ready"] = false.into();
                status["started"] = false.into();
                changed = true;
            }
        }
        if changed {
            patch.insert(list.into(), statuses.into());
        }
    }
    if patch.is_empty() {
        return None;
    }
    let now = api::time::rfc3339(Timestamp::now());
    let unready = ["Ready", "ContainersReady"].map(|kind| {
        let message = "the node was stopped";
        json!({"type": kind, "status": "False", "reason": "ContainersNotReady", "message": message, "lastTransitionTime": now})
    });
    patch.insert("conditions".into(), unready.into_iter().collect());
    Some(patch.into())
}

/// The state of a run that has ended.
fn terminated(run: &ContainerStatus, container_id: &Value) -> Option<Value> {
    let ContainerState::Exited {
        exit_code,
        oom_killed,
        started_at,
        finished_at,
        ..
    } = run.state
    else {
        return None;
    };
    Some(json!({"terminated": {
        "exitCode": exit_code,
        "reason": exit_reason(exit_code, oom_killed),
        "startedAt": api::time::rfc3339(started_at),
        "finishedAt": api::time::rfc3339(finished_at),
        "containerID": container_id,
    }}))
}

/// Stops a pod's containers, all at once, and removes it and its files; answers how those ended that ran. Blocks for at most `grace` and what
/// removing takes.
pub(crate) fn stop_pod(
    runtime: &Runtime,
    pod: &runtime::Pod,
    logs: &PodLogs,
    folder: &Path,
    grace: Duration,
) -> runtime::Result<Vec<ContainerStatus>> {
    let ended = match stop_containers(pod, grace) {
        Ok(ended) => ended,
        // Removing it ends what is there all the same.
        Err(error) => {
            tracing::warn!(pod = pod.id(), %error, "cannot stop the containers of a pod");
            Vec::new()
        }
    };
    runtime.remove_pod(pod.id())?;
    remove_files(logs, folder).map_err(|error| runtime::Error {
        kind: ErrorKind::Machine,
        message: format!("remove {} and the pod's logs: {error}", folder.display()),
    })?;
    Ok(ended)
}

/// Stops the containers of a pod, and answers how they stand then.
fn stop_containers(pod: &runtime::Pod, grace: Duration) -> runtime::Result<Vec<ContainerStatus>> {
    let deadline = Instant::now() + grace;
    let mut running = pod.containers()?;
    running.retain(|container| container.state.is_running());
    for container in &running {
        match pod.stop_container(&container.id, grace) {
            Err(error) if !matches!(error.kind, ErrorKind::NotFound | ErrorKind::NotRunning) => {
                return Err(error);
            }
            _ => {}
        }
    }
    for container in &running {
        // The shim sends SIGKILL when the grace is over, and then has an exit to tell.
        let left = deadline.saturating_duration_since(Instant::now()) + LAST_EXIT;
        pod.wait_container(&container.id, left)?;
    }
    pod.containers()
}

/// Removes the logs and files of a pod, whose uid is the name of their folder. The folder goes last: it is how the next agent knows of what is left.
pub(crate) fn remove_files(logs: &PodLogs, folder: &Path) -> std::io::Result<()> {
    if let Some(uid) = folder.file_name().and_then(|name| name.to_str()) {
        logs.remove(uid)?;
    }
    volumes::remove_below(folder)
}

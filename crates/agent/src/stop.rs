//! Ending a node for good: its pods stop, and what was made for them on the machine is removed.

use std::collections::HashMap;
use std::path::Path;
use std::time::{Duration, Instant};

use k8s_openapi::api::core::v1::Pod;
use runtime::{ErrorKind, PodLogs, Runtime};

use crate::cluster::{Cluster, message};
use crate::container::{ATTEMPT, CONTAINER, find};
use crate::hooks::{self, LEAST_GRACE};
use crate::kubelet_dir;
use crate::options::{Error, Options};
use crate::pods::{Keeps, open, pods_dir};
use crate::volumes;
use crate::worker::blocking;

/// How long the API server may take to tell what the pods were promised; without its answer they are stopped all the same.
const ASK: Duration = Duration::from_secs(3);

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
            tracing::warn!("stop the pods without their hooks: {}", message(&error));
            Vec::new()
        }
        Err(_) => {
            tracing::warn!("stop the pods without their hooks: the API server does not answer");
            Vec::new()
        }
    };
    let mut specs: HashMap<String, Pod> = specs
        .into_iter()
        .map(|pod| (pod.metadata.uid.clone().unwrap_or_default(), pod))
        .collect();
    let stopping = runtime.pods().into_iter().map(|pod| {
        let (runtime, folder, logs) = (runtime.clone(), folder.join(pod.id()), logs.clone());
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
            if let Err(error) = blocking(move || stop_pod(&runtime, &pod, &logs, &folder, left)).await {
                tracing::warn!(%error, "stop a pod");
            }
        }
    });
    futures::future::join_all(stopping).await;
    let stopped = blocking(move || {
        for pod in std::fs::read_dir(&folder).into_iter().flatten().flatten() {
            if let Err(error) = remove_files(&logs, &pod.path()) {
                tracing::warn!(%error, "remove a pod's files");
            }
        }
        if let Err(error) = volumes::remove_below(&folder) {
            tracing::warn!(%error, "remove the pods' files");
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
    let runs = blocking(move || sandbox.containers()).await.unwrap_or_default();
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
                if let Err(error) = blocking(move || sandbox.stop_container(&run.id, grace)).await {
                    tracing::debug!(%error, "a container has ended by itself");
                }
                return;
            };
            let ran = hooks::run(pod, container, attempt, hook, pod_ips);
            match tokio::time::timeout(grace, ran).await {
                Ok(Ok(())) => {}
                Ok(Err(why)) => tracing::warn!(container = container.name, why, "run a preStop hook"),
                Err(_) => tracing::warn!(container = container.name, "a preStop hook took all the grace"),
            }
        })
    });
    futures::future::join_all(stopping).await;
}

/// Stops a pod's containers, all at once, and removes it and its files. Blocks for at most `grace` and what removing takes.
pub(crate) fn stop_pod(
    runtime: &Runtime,
    pod: &runtime::Pod,
    logs: &PodLogs,
    folder: &Path,
    grace: Duration,
) -> runtime::Result<()> {
    let deadline = Instant::now() + grace;
    let running = pod.containers().unwrap_or_default();
    let running: Vec<String> = running
        .into_iter()
        .filter(|container| container.state.is_running())
        .map(|container| container.id)
        .collect();
    for id in &running {
        match pod.stop_container(id, grace) {
            Err(error) if !matches!(error.kind, ErrorKind::NotFound | ErrorKind::NotRunning) => {
                tracing::warn!(container = id, %error, "stop a container");
            }
            _ => {}
        }
    }
    for id in &running {
        let left = deadline.saturating_duration_since(Instant::now());
        if let Err(error) = pod.wait_container(id, left) {
            tracing::debug!(container = id, %error, "wait for a container");
        }
    }
    runtime.remove_pod(pod.id())?;
    remove_files(logs, folder).map_err(|error| runtime::Error {
        kind: ErrorKind::Machine,
        message: format!("remove {} and the pod's logs: {error}", folder.display()),
    })
}

/// Removes the logs and files of a pod, whose uid is the name of their folder. The folder goes last: it is how the next agent knows of what is left.
pub(crate) fn remove_files(logs: &PodLogs, folder: &Path) -> std::io::Result<()> {
    if let Some(uid) = folder.file_name().and_then(|name| name.to_str()) {
        logs.remove(uid)?;
    }
    volumes::remove_below(folder)
}

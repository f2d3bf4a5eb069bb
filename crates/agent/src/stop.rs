//! Ending a node for good: its pods stop, and what was made for them on the machine is removed.

use std::path::Path;
use std::time::{Duration, Instant};

use runtime::{ErrorKind, Runtime};

use crate::options::{Error, Options};
use crate::pods::{open, pods_dir};
use crate::volumes;
use crate::worker::blocking;

/// Stops all pods of an agent whose [`crate::run`] has returned: SIGTERM, `grace`, SIGKILL. Then removes shims, mounts, cgroups,
/// network and the pods' files; images stay.
pub async fn stop_all(options: &Options, grace: Duration) -> Result<(), Error> {
    let runtime = open(options, None).await?;
    let folder = pods_dir(&options.data_dir);
    let stopped = blocking(move || {
        let pods = runtime.pods();
        let stopping = pods.into_iter().map(|pod| {
            let (runtime, folder) = (runtime.clone(), folder.join(pod.id()));
            std::thread::spawn(move || stop_pod(&runtime, &pod, &folder, grace))
        });
        let stopping: Vec<_> = stopping.collect();
        for stopped in stopping {
            match stopped.join() {
                Ok(Ok(())) => {}
                Ok(Err(error)) => tracing::warn!(%error, "stop a pod"),
                Err(_) => tracing::error!("stopping a pod broke off"),
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

/// Stops a pod's containers, all at once, and removes it and its files. Blocks for at most `grace` and what removing takes.
pub(crate) fn stop_pod(
    runtime: &Runtime,
    pod: &runtime::Pod,
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
    volumes::remove_below(folder).map_err(|error| runtime::Error {
        kind: ErrorKind::Machine,
        message: format!("remove {}: {error}", folder.display()),
    })
}

//! postStart and preStop hooks, and commands that probes run in a container.

use std::time::Duration;

use k8s_openapi::api::core::v1::{Container, LifecycleHandler};
use runtime::{ExecSpec, Finished};

use crate::calls::PROBES;
use crate::container::{self, run_id};
use crate::probes::http;

/// Longest a hook's command may run: nothing in Kubernetes bounds postStart; this does. preStop is bounded by the pod's grace.
const LONGEST: Duration = Duration::from_secs(3600);
/// After a preStop hook that took all the grace there is this much left, as the kubelet has it.
pub(crate) const LEAST_GRACE: Duration = Duration::from_secs(2);
/// What is kept of a command's output, in bytes, as the kubelet cuts it.
const OUTPUT: usize = 10 << 10;

/// Runs a hook to its end. The error is the message of its event.
pub(crate) async fn run(
    sandbox: &runtime::Pod,
    container: &Container,
    attempt: u32,
    hook: &LifecycleHandler,
    pod_ips: &[String],
) -> Result<(), String> {
    if let Some(exec_action) = &hook.exec {
        let command = exec_action.command.clone().unwrap_or_default();
        return exec(sandbox, container, attempt, command, LONGEST).await;
    }
    if let Some(get) = &hook.http_get {
        let port = container::port(&get.port, container).ok_or("the hook's port is unknown")?;
        let host = container::host(pod_ips);
        let page = http::get(get, &host, port, "kube-lifecycle/1.36");
        let page = tokio::time::timeout(LONGEST, page).await;
        let page = page.map_err(|_| format!("HTTP hook did not end within {}s", LONGEST.as_secs()))??;
        return match page.status {
            200..400 => Ok(()),
            other => Err(format!("HTTP hook failed with statuscode: {other}")),
        };
    }
    if let Some(sleep) = &hook.sleep {
        tokio::time::sleep(Duration::from_secs(sleep.seconds.unsigned_abs())).await;
    }
    Ok(())
}

/// Runs a command in a container; an error unless it ends with 0 within the limit. Out of time, and when the caller leaves, it ends with all that it
/// has started; what a command that ended by itself left in the background stays, as other runtimes have it.
pub(crate) async fn exec(
    sandbox: &runtime::Pod,
    container: &Container,
    attempt: u32,
    command: Vec<String>,
    limit: Duration,
) -> Result<(), String> {
    let (pod, sandbox) = (sandbox.id().to_owned(), sandbox.clone());
    let id = run_id(&container.name, attempt);
    let shown = command.join(" ");
    let spec = ExecSpec {
        command,
        stdout: true,
        stderr: true,
        ..Default::default()
    };
    let finished = match PROBES.run(&pod, move || sandbox.exec(&id, &spec)).await {
        Ok(process) => process.finish(limit, OUTPUT).await,
        Err(error) => Err(error),
    };
    let Finished { code, output } = finished.map_err(|error| error.message)?;
    match code {
        Some(0) => Ok(()),
        Some(code) if output.is_empty() => Err(format!("command \"{shown}\" exited with {code}")),
        Some(_) => Err(String::from_utf8_lossy(&output).into_owned()),
        None => Err(format!(
            "command timed out: \"{shown}\" timed out after {}s",
            limit.as_secs()
        )),
    }
}

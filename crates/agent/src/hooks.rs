//! postStart and preStop hooks, and commands that probes run in a container.

use std::io::Read;
use std::time::Duration;

use k8s_openapi::api::core::v1::{Container, LifecycleHandler};
use runtime::ExecSpec;

use crate::container::{self, run_id};
use crate::probes::http;
use crate::worker::blocking;

/// Longest a hook's command may run: nothing in Kubernetes bounds postStart; this does. preStop is bounded by the pod's grace.
const LONGEST: Duration = Duration::from_secs(3600);
/// After a preStop hook that took all the grace there is this much left, as the kubelet has it.
pub(crate) const LEAST_GRACE: Duration = Duration::from_secs(2);
/// What is kept of a command's output, in bytes, as the kubelet cuts it.
const OUTPUT: u64 = 10 << 10;
/// SIGKILL.
const KILL: i32 = 9;

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
        let status = http::get(get, &container::host(pod_ips), port, "kube-lifecycle/1.36").await?;
        return match status {
            200..400 => Ok(()),
            other => Err(format!("HTTP hook failed with statuscode: {other}")),
        };
    }
    if let Some(sleep) = &hook.sleep {
        tokio::time::sleep(Duration::from_secs(sleep.seconds.unsigned_abs())).await;
    }
    Ok(())
}

/// Runs a command in a container; an error unless it ends with 0 within the limit.
pub(crate) async fn exec(
    sandbox: &runtime::Pod,
    container: &Container,
    attempt: u32,
    command: Vec<String>,
    limit: Duration,
) -> Result<(), String> {
    let sandbox = sandbox.clone();
    let id = run_id(&container.name, attempt);
    let shown = command.join(" ");
    let ran = blocking(move || {
        let spec = ExecSpec {
            command,
            stdout: true,
            stderr: true,
            ..Default::default()
        };
        let process = sandbox.exec(&id, &spec)?;
        let readers = [process.stdout(), process.stderr()].map(|pipe| pipe.map(read));
        let code = process.wait(limit)?;
        if code.is_none() {
            process.signal(KILL)?;
        }
        let texts = readers
            .into_iter()
            .flatten()
            .filter_map(|reader| reader.join().ok());
        let text: String = texts.collect();
        Ok((code, text))
    });
    match ran.await {
        Ok((Some(0), _)) => Ok(()),
        Ok((Some(code), text)) if text.is_empty() => Err(format!("command \"{shown}\" exited with {code}")),
        Ok((Some(_), text)) => Err(text),
        Ok((None, _)) => Err(format!(
            "command timed out: \"{shown}\" timed out after {}s",
            limit.as_secs()
        )),
        Err(error) => Err(error.message),
    }
}

/// Reads a pipe beside the command, so that a full one does not stop it; the rest is thrown away.
fn read(mut pipe: std::fs::File) -> std::thread::JoinHandle<String> {
    std::thread::spawn(move || {
        let mut kept = Vec::new();
        let read = pipe.by_ref().take(OUTPUT).read_to_end(&mut kept);
        let rest = read.and_then(|_| std::io::copy(&mut pipe, &mut std::io::sink()));
        if let Err(error) = rest {
            tracing::debug!(%error, "read the output of a command");
        }
        String::from_utf8_lossy(&kept).into_owned()
    })
}

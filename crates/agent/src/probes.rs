//! Probes of running containers.
//!
//! Each run of a container has a task: the startup probe first, and after its success liveness and readiness side by side.
//! Single results are counted by [`plan::pod_sync::Tally`]; a verdict goes to the pod's worker.

pub(crate) mod http;
mod tasks;

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Container, Probe as ApiProbe};
use plan::pod_sync::{Probe, Tally, next_run};
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use crate::cluster::PodRef;
use crate::container;
use crate::hooks;
use crate::worker::{Message, Shared};

/// How long starting and ending a probe's command may take beside its own limit.
const COMMAND_PATIENCE: Duration = Duration::from_secs(10);

/// Which probe.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Startup,
    Liveness,
    Readiness,
}

impl Kind {
    fn name(self) -> &'static str {
        match self {
            Self::Startup => "Startup",
            Self::Liveness => "Liveness",
            Self::Readiness => "Readiness",
        }
    }

    fn of(self, container: &Container) -> Option<&ApiProbe> {
        match self {
            Self::Startup => container.startup_probe.as_ref(),
            Self::Liveness => container.liveness_probe.as_ref(),
            Self::Readiness => container.readiness_probe.as_ref(),
        }
    }
}

/// A probe's verdict on a run.
#[derive(Clone, Debug)]
pub(crate) struct Verdict {
    pub(crate) container: String,
    pub(crate) attempt: u32,
    pub(crate) kind: Kind,
    pub(crate) success: bool,
}

/// The run that is probed.
#[derive(Clone)]
pub(crate) struct Target {
    pub(crate) shared: Arc<Shared>,
    pub(crate) identity: PodRef,
    /// `spec.containers{name}`.
    pub(crate) field: String,
    pub(crate) container: Container,
    pub(crate) attempt: u32,
    pub(crate) started_at: Timestamp,
    pub(crate) pod_ips: Vec<String>,
}

impl Target {
    fn event(&self, reason: &str, message: String) {
        self.shared
            .recorder
            .pod(&self.identity, self.field.clone(), true, reason, message);
    }
}

/// Probes a run until the answer is dropped.
pub(crate) fn watch(target: Target, verdicts: mpsc::Sender<Message>) -> JoinSet<()> {
    let mut tasks = JoinSet::new();
    let probed = [Kind::Startup, Kind::Liveness, Kind::Readiness];
    if probed.iter().any(|kind| kind.of(&target.container).is_some()) {
        tasks.spawn(async move {
            if !repeat(&target, Kind::Startup, &verdicts, true).await {
                return;
            }
            let liveness = repeat(&target, Kind::Liveness, &verdicts, false);
            let readiness = repeat(&target, Kind::Readiness, &verdicts, false);
            tokio::join!(liveness, readiness);
        });
    }
    tasks
}

/// Runs one probe again and again; answers whether it succeeded where `until_success` ends it, and at once when there is none.
async fn repeat(target: &Target, kind: Kind, verdicts: &mpsc::Sender<Message>, until_success: bool) -> bool {
    let Some(probe) = kind.of(&target.container) else {
        return true;
    };
    let facts = serde_json::to_value(probe).ok();
    let facts: Probe = facts
        .and_then(|facts| serde_json::from_value(facts).ok())
        .unwrap_or_default();
    let mut tally = Tally::default();
    let mut last = None;
    let mut told = None;
    loop {
        let next = next_run(&facts, target.started_at, last);
        let wait = Duration::try_from(next.duration_since(Timestamp::now()));
        tokio::time::sleep(wait.unwrap_or_default()).await;
        last = Some(Timestamp::now());
        let limit = Duration::from_secs(facts.timeout_seconds.max(1).unsigned_abs());
        let result = once(target, probe, limit).await;
        match &result {
            Ok(None) => {}
            Ok(Some(warning)) => {
                let message = format!("{} probe warning: {warning}", kind.name());
                target.event("ProbeWarning", message);
            }
            Err(why) => target.event("Unhealthy", format!("{} probe failed: {why}", kind.name())),
        }
        let verdict = tally.record(&facts, result.is_ok());
        if let Some(success) = verdict
            && told != Some(success)
        {
            told = Some(success);
            let verdict = Verdict {
                container: target.container.name.clone(),
                attempt: target.attempt,
                kind,
                success,
            };
            if verdicts.send(Message::Verdict(verdict)).await.is_err() {
                return false;
            }
            if success && until_success {
                return true;
            }
            // The run is stopped for it: the next run has probes of its own.
            if !success && kind != Kind::Readiness {
                return false;
            }
        }
    }
}

/// One run of a probe: a warning if there is one, or why it failed.
async fn once(target: &Target, probe: &ApiProbe, limit: Duration) -> Result<Option<String>, String> {
    let container = &target.container;
    let host = || container::host(&target.pod_ips);
    let run = async {
        if let Some(exec) = &probe.exec {
            let sandbox = target.shared.runtime.pod(&target.identity.uid);
            let sandbox = sandbox.ok_or("the pod's sandbox is gone")?;
            let command = exec.command.clone().unwrap_or_default();
            let ran = hooks::exec(&sandbox, container, target.attempt, command, limit);
            ran.await.map(|()| None)
        } else if let Some(get) = &probe.http_get {
            let port = container::port(&get.port, container).ok_or("the probe's port is unknown")?;
            let page = http::get(get, &host(), port, "kube-probe/1.36").await?;
            match page.status {
                200..300 => Ok(None),
                300..400 => Ok(Some(format!(
                    "Probe terminated redirects, Response body: {}",
                    page.body
                ))),
                other => Err(format!("HTTP probe failed with statuscode: {other}")),
            }
        } else if let Some(socket) = &probe.tcp_socket {
            let port = container::port(&socket.port, container).ok_or("the probe's port is unknown")?;
            let named = socket.host.clone().filter(|host| !host.is_empty());
            let address = format!("{}:{port}", named.unwrap_or_else(host));
            let connected = TcpStream::connect(&address).await;
            connected
                .map(|_| None)
                .map_err(|error| format!("dial tcp {address}: {error}"))
        } else if let Some(grpc) = &probe.grpc {
            let port = u16::try_from(grpc.port).map_err(|_| "the probe's port is unknown")?;
            let address = format!("{}:{port}", host());
            let asked = http::grpc_health(&address, grpc.service.as_deref().unwrap_or_default());
            asked.await.map(|()| None)
        } else {
            Ok(None)
        }
    };
    // A command has the limit itself, and words for it.
    let patience = match probe.exec {
        Some(_) => limit + COMMAND_PATIENCE,
        None => limit,
    };
    match tokio::time::timeout(patience, run).await {
        Ok(result) => result,
        Err(_) => Err(format!("the probe timed out after {}s", limit.as_secs())),
    }
}

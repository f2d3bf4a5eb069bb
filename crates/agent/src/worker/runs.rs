//! What becomes of sandboxes, images and runs: each fact that arrives, entered into what the worker has seen.

use std::path::Path;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Container;
use plan::pod_sync::{Exit, Failure, ImageSeen, Run, Sandbox, Verdicts};
use runtime::beneath::Root;
use runtime::{ContainerState, ContainerStatus, ErrorKind};
use serde_json::Value;

use super::{Shared, Worker, jobs, lost};
use crate::calls::PODS;
use crate::container::{ATTEMPT, CONTAINER, run_id, write_network_files};
use crate::probes;

/// Bytes of a container's last words, from their end, as the kubelet cuts them.
const MESSAGE_BYTES: u64 = 4096;
/// Bytes of the last words of all containers of a pod, as the kubelet shares them out.
const POD_MESSAGE_BYTES: u64 = 12 << 10;
/// Bytes that are taken from the end of the log in their place, as the kubelet takes them.
const MESSAGE_FROM_LOG_BYTES: u64 = 2048;
/// Lines that are taken from the end of the log at most.
const MESSAGE_FROM_LOG_LINES: usize = 80;

impl Worker {
    // ---- finding the pod again

    /// A pod that has run here, as the API says or its logs, and of which nothing else is left: its runs are counted on. Runs that no server
    /// heard of have left a log all the same.
    pub(super) fn recall(&mut self) {
        let now = Timestamp::now();
        for (name, status) in self.reported_statuses() {
            let Some(id) = status["containerID"].as_str() else {
                continue;
            };
            let attempt = status["restartCount"]
                .as_u64()
                .and_then(|count| u32::try_from(count).ok());
            // A run that was stopped in order was reported before the node ended.
            let ended = exit_of(&status["state"]["terminated"]);
            let seen = self.seen.containers.entry(name).or_default();
            seen.attempt = attempt.unwrap_or(0).saturating_add(1);
            seen.last = Some(ended.unwrap_or_else(|| lost(id.to_owned(), now)));
        }
        let log = self.shared.log(&self.identity);
        for name in log.containers() {
            let Some(newest) = log.newest(&name) else {
                continue;
            };
            let known = self.seen.containers.get(&name);
            if self.container(&name).is_some() && known.is_none_or(|known| known.attempt <= newest) {
                let last = lost(self.container_id(&name, newest), now);
                let seen = self.seen.containers.entry(name).or_default();
                seen.attempt = newest.saturating_add(1);
                seen.last = Some(last);
            }
        }
    }

    /// The first word of a server on a pod that was taken from what was kept: what was reported of it before counts on.
    pub(super) fn catch_up(&mut self) {
        let started = self.seen.reported["startTime"].as_str();
        if let Some(at) = started.and_then(|at| at.parse().ok()) {
            self.seen.start_time = Some(at);
        }
        for (name, status) in self.reported_statuses() {
            let count = status["restartCount"].as_u64().unwrap_or(0);
            let behind = self.seen.containers.get(&name).is_some_and(|seen| {
                let idle = !seen.starting && !matches!(seen.run, Run::Running { .. });
                idle && u64::from(seen.attempt) < count
            });
            if behind {
                self.count_on(&name, &status);
            }
            self.take_verdicts(&name, &status);
        }
    }

    /// What probes found of the present run, as it was reported. What they have found since stands.
    fn take_verdicts(&mut self, name: &str, status: &Value) {
        if let Some(seen) = self.seen.containers.get_mut(name)
            && status["restartCount"].as_u64() == Some(u64::from(seen.attempt))
        {
            let verdict = |field: &str| (status[field] == true).then_some(true);
            seen.probes.startup = seen.probes.startup.or(verdict("started"));
            seen.probes.readiness = seen.probes.readiness.or(verdict("ready"));
        }
    }

    /// A pod whose shim lives: its runs go on as the runtime knows them, its probes' verdicts as they were reported.
    pub(super) async fn adopt(&mut self, sandbox: &runtime::Pod) {
        self.seen.sandbox = Sandbox::Ready;
        self.take_addresses(sandbox);
        let asked = sandbox.clone();
        let mut runs = match PODS.run(&self.identity.uid, move || asked.containers()).await {
            Ok(runs) => runs,
            Err(error) => {
                tracing::warn!(pod = self.identity.name, %error, "cannot list the shim's containers");
                if error.kind == ErrorKind::ShimStuck {
                    self.shared.runtime.kill_shim(&self.identity.uid);
                }
                self.seen.sandbox = Sandbox::Broken;
                return;
            }
        };
        runs.sort_by_key(|run| attempt_of(run).unwrap_or(0));
        for run in runs {
            self.container_changed(run);
        }
        for (name, status) in self.reported_statuses() {
            self.count_on(&name, &status);
            self.take_verdicts(&name, &status);
        }
        let Shared { node_name, names, .. } = &*self.shared;
        let files = write_network_files(&self.pod, &self.files, &self.seen.pod_ips, node_name, names);
        if let Err(error) = files {
            tracing::warn!(pod = self.identity.name, %error, "cannot write the pod's network files");
        }
        self.refresh_at = Some(tokio::time::Instant::now());
    }

    /// A run that never started is unknown to the runtime, but it was reported: the next one comes after it.
    fn count_on(&mut self, name: &str, status: &Value) {
        let Some(exit) = reported_exit(status) else { return };
        let count = status["restartCount"].as_u64();
        let count = count.and_then(|count| u32::try_from(count).ok()).unwrap_or(0);
        let known = self.seen.containers.get(name);
        if known.is_some_and(|known| known.attempt >= count && !matches!(known.run, Run::None)) {
            return;
        }
        let seen = self.seen.containers.entry(name.to_owned()).or_default();
        seen.attempt = count;
        seen.run = Run::Exited(exit);
    }

    fn reported_statuses(&self) -> Vec<(String, Value)> {
        let lists = ["initContainerStatuses", "containerStatuses"];
        let statuses = lists
            .into_iter()
            .filter_map(|list| self.seen.reported[list].as_array());
        let named = |status: &Value| Some((status["name"].as_str()?.to_owned(), status.clone()));
        statuses.flatten().filter_map(named).collect()
    }

    // ---- the sandbox

    pub(super) fn sandbox_made(&mut self, made: Result<runtime::Pod, Failure>, now: Timestamp) {
        match made {
            Ok(sandbox) => {
                self.make_failures.remove("sandbox");
                self.seen.sandbox = Sandbox::Ready;
                self.take_addresses(&sandbox);
                self.schedule_refresh();
            }
            Err(why) => {
                self.event("", true, &why.reason, why.message.clone());
                self.seen.sandbox = Sandbox::Failed(why, self.retry_at("sandbox", now));
            }
        }
    }

    fn take_addresses(&mut self, sandbox: &runtime::Pod) {
        self.seen.pod_ips = match sandbox.network() {
            Some(network) => network.ips().map(|ip| ip.to_string()).collect(),
            None => self.shared.host_ips(),
        };
    }

    pub(super) fn shim_gone(&mut self) {
        if matches!(self.seen.sandbox, Sandbox::Ready) {
            let message = "Pod sandbox changed, it will be killed and re-created.".to_owned();
            self.event("", false, "SandboxChanged", message);
            self.seen.sandbox = Sandbox::Broken;
            self.end_runs();
        }
    }

    pub(super) fn sandbox_removed(&mut self) {
        self.seen.sandbox = Sandbox::Absent;
        self.refresh_at = None;
        self.end_runs();
        if self.view.metadata.deletion_timestamp.is_none() && !self.seen.unwanted {
            // The pod begins anew, init containers included; its runs are counted on.
            for seen in self.seen.containers.values_mut() {
                if let Run::Exited(exit) = std::mem::take(&mut seen.run) {
                    seen.last = Some(exit);
                    seen.attempt = seen.attempt.saturating_add(1);
                }
                seen.image = ImageSeen::Unknown;
            }
        }
    }

    /// Whatever still seemed to run has ended with the sandbox.
    fn end_runs(&mut self) {
        let now = Timestamp::now();
        self.probes.clear();
        for seen in self.seen.containers.values_mut() {
            if let Run::Running { container_id, .. } = &seen.run {
                seen.run = Run::Exited(lost(container_id.clone(), now));
                seen.stopping = None;
            }
        }
    }

    // ---- images

    pub(super) fn image_looked_up(&mut self, container: &Container, found: jobs::Found, now: Timestamp) {
        let name = &*container.name;
        let image = container.image.as_deref().unwrap_or_default();
        let present = matches!(found, Ok(true));
        let seen = self.seen.containers.entry(name.to_owned()).or_default();
        seen.image = match found {
            Err(message) => ImageSeen::Invalid(message),
            Ok(true) => ImageSeen::Present,
            // A failed pull keeps its back-off: only an image that came some other way ends it early.
            Ok(false) if matches!(seen.image, ImageSeen::Failed { .. }) => seen.image.clone(),
            Ok(false) => ImageSeen::Missing { looked_at: now },
        };
        if present && container.image_pull_policy.as_deref() != Some("Always") {
            let message = format!("Container image \"{image}\" already present on machine");
            self.event(name, false, "Pulled", message);
        }
    }

    pub(super) fn image_pulled(&mut self, container: &Container, pulled: jobs::Pulled, now: Timestamp) {
        let name = &*container.name;
        let image = container.image.as_deref().unwrap_or_default();
        let outcome = match pulled {
            Ok((took, size)) => {
                self.pull_backoff.remove(name);
                let message = format!(
                    "Successfully pulled image \"{image}\" in {}ms. Image size: {size} bytes.",
                    took.as_millis()
                );
                self.event(name, false, "Pulled", message);
                ImageSeen::Ready
            }
            Err(message) => {
                let told = format!("Failed to pull image \"{image}\": {message}");
                self.event(name, true, "Failed", told);
                self.event(name, true, "Failed", "Error: ErrImagePull".into());
                let backoff = self.pull_backoff.entry(name.to_owned()).or_default();
                backoff.attempt(now, now);
                ImageSeen::Failed {
                    message,
                    at: now,
                    looked_at: now,
                    backoff: *backoff,
                }
            }
        };
        self.seen.containers.entry(name.to_owned()).or_default().image = outcome;
    }

    // ---- runs

    pub(super) fn container_started(
        &mut self,
        name: &str,
        attempt: u32,
        before: u32,
        started: jobs::Started,
        now: Timestamp,
    ) {
        let seen = self.seen.containers.entry(name.to_owned()).or_default();
        seen.starting = false;
        seen.image = ImageSeen::Unknown;
        match started {
            Ok(status) => {
                seen.failure = None;
                self.make_failures.remove(name);
                self.begin_run(name, now);
                self.container_changed(status);
                if let Some(end) = self.early.remove(name) {
                    self.container_changed(end);
                }
            }
            Err(why) if why.reason == "RunContainerError" => {
                self.event(name, true, "Failed", format!("Error: {}", why.message));
                self.begin_run(name, now);
                let exit = Exit {
                    container_id: self.container_id(name, attempt),
                    exit_code: 128,
                    reason: "StartError".into(),
                    message: why.message,
                    started_at: None,
                    finished_at: now,
                };
                self.seen.containers.entry(name.to_owned()).or_default().run = Run::Exited(exit);
            }
            Err(why) => {
                // No run was made, so none is counted.
                seen.attempt = before;
                self.event(name, true, "Failed", format!("Error: {}", why.message));
                let retry = self.retry_at(name, now);
                self.seen.containers.entry(name.to_owned()).or_default().failure = Some((why, retry));
            }
        }
    }

    /// The run before becomes the last one, and its back-off counts.
    fn begin_run(&mut self, name: &str, now: Timestamp) {
        let seen = self.seen.containers.entry(name.to_owned()).or_default();
        if let Run::Exited(exit) = std::mem::take(&mut seen.run) {
            seen.backoff.attempt(exit.finished_at, now);
            seen.last = Some(exit);
        }
        seen.probes = Verdicts::default();
        seen.stopping = None;
        seen.renewed = false;
    }

    pub(super) fn container_stopped(&mut self, name: &str, gone: bool) {
        let Some(seen) = self.seen.containers.get_mut(name) else {
            return;
        };
        // The runtime does not know it, so its end will not be told either.
        if let (true, Run::Running { container_id, .. }) = (gone, &seen.run) {
            seen.run = Run::Exited(lost(container_id.clone(), Timestamp::now()));
            seen.stopping = None;
            self.probes.remove(name);
        }
    }

    /// The runtime's word on a run. Said twice, it changes nothing the second time.
    pub(super) fn container_changed(&mut self, status: ContainerStatus) {
        let (Some(name), Some(attempt)) = (status.annotations.get(CONTAINER).cloned(), attempt_of(&status))
        else {
            return;
        };
        let seen = self.seen.containers.entry(name.clone()).or_default();
        if seen.starting {
            if matches!(status.state, ContainerState::Exited { .. }) && attempt == seen.attempt {
                self.early.insert(name, status);
            }
            return;
        }
        if attempt < seen.attempt {
            return;
        }
        if attempt > seen.attempt || matches!(seen.run, Run::None) {
            if let Run::Exited(exit) = std::mem::take(&mut seen.run) {
                seen.last = Some(exit);
            }
            seen.attempt = attempt;
        }
        seen.image_id.clone_from(&status.image_ref);
        seen.image_name.clone_from(&status.image);
        match status.state {
            ContainerState::Running { started_at, .. } if matches!(seen.run, Run::None) => {
                let container_id = self.container_id(&name, attempt);
                let seen = self.seen.containers.entry(name.clone()).or_default();
                seen.run = Run::Running {
                    container_id,
                    started_at,
                };
                self.watch_run(&name, attempt, started_at);
            }
            ContainerState::Running { .. } => {}
            ContainerState::Exited {
                exit_code,
                oom_killed,
                started_at,
                finished_at,
                ..
            } if !matches!(seen.run, Run::Exited(_)) => {
                let exit = Exit {
                    container_id: self.container_id(&name, attempt),
                    exit_code,
                    reason: exit_reason(exit_code, oom_killed).into(),
                    message: self.last_words(&name, attempt, exit_code),
                    started_at: Some(started_at),
                    finished_at,
                };
                let seen = self.seen.containers.entry(name.clone()).or_default();
                seen.run = Run::Exited(exit);
                seen.stopping = None;
                self.probes.remove(&name);
            }
            ContainerState::Exited { .. } => {}
        }
    }

    /// Starts the probes of a run that just began (or was found again).
    fn watch_run(&mut self, name: &str, attempt: u32, started_at: Timestamp) {
        let Some(container) = self.container(name) else {
            return;
        };
        let target = probes::Target {
            shared: std::sync::Arc::clone(&self.shared),
            identity: self.identity.clone(),
            field: jobs::field_path(&self.pod, name),
            container,
            attempt,
            started_at,
            pod_ips: self.seen.pod_ips.clone(),
        };
        let tasks = probes::watch(target, self.own_inbox.clone());
        self.probes.insert(name.to_owned(), tasks);
    }

    fn container_id(&self, name: &str, attempt: u32) -> String {
        let id = runtime::container_id(&self.identity.uid, &run_id(name, attempt));
        format!("{}://{id}", crate::RUNTIME_NAME)
    }

    /// What the container left in its termination message, or at the end of its log when it failed and that is asked for.
    fn last_words(&self, name: &str, attempt: u32, exit_code: i32) -> String {
        let limit = self.message_limit();
        let file = self.files.termination_message(name, attempt);
        let written = match (file.parent(), file.file_name()) {
            (Some(folder), Some(file)) => Root::volume(folder)
                .and_then(|root| root.read_end(Path::new(file), limit))
                .unwrap_or_else(|error| {
                    tracing::warn!(pod = self.identity.name, container = name, %error, "cannot read a termination message");
                    None
                }),
            _ => None,
        };
        let written = written.unwrap_or_default();
        let container = self.container(name).unwrap_or_default();
        let from_log = container.termination_message_policy.as_deref() == Some("FallbackToLogsOnError");
        if written.is_empty() && from_log && exit_code != 0 {
            let log = self.shared.log(&self.identity).run(name, attempt);
            let text = crate::log_files::tail(&log, MESSAGE_FROM_LOG_BYTES.min(limit));
            return last_lines(&text, MESSAGE_FROM_LOG_LINES).to_owned();
        }
        end_of(&String::from_utf8_lossy(&written), limit).to_owned()
    }

    /// Bytes of one container's termination message: a pod's containers share what its status may hold.
    fn message_limit(&self) -> u64 {
        let spec = self.pod.spec.as_ref();
        let containers = spec.map_or(1, |spec| {
            spec.containers.len() + spec.init_containers.as_ref().map_or(0, Vec::len)
        });
        MESSAGE_BYTES.min(POD_MESSAGE_BYTES / (containers.max(1) as u64))
    }
}

/// The last lines of a text.
fn last_lines(text: &str, lines: usize) -> &str {
    let starts = text.split_inclusive('\n').rev().take(lines).map(str::len);
    &text[text.len() - starts.sum::<usize>()..]
}

/// The last bytes of a text, from the start of a character.
fn end_of(text: &str, bytes: u64) -> &str {
    let mut start = text
        .len()
        .saturating_sub(usize::try_from(bytes).unwrap_or(usize::MAX));
    while !text.is_char_boundary(start) {
        start += 1;
    }
    &text[start..]
}

/// The end of the newest run, as a container's status tells it.
fn reported_exit(status: &Value) -> Option<Exit> {
    let mut ends = ["state", "lastState"]
        .map(|state| &status[state]["terminated"])
        .into_iter();
    ends.find_map(exit_of)
}

/// An end as a status tells it; `None` where it tells none.
fn exit_of(end: &Value) -> Option<Exit> {
    end.as_object()?;
    let text = |field: &str| end[field].as_str().unwrap_or_default().to_owned();
    let time = |field: &str| end[field].as_str().and_then(|at| at.parse::<Timestamp>().ok());
    let code = end["exitCode"].as_i64().and_then(|code| i32::try_from(code).ok());
    Some(Exit {
        container_id: text("containerID"),
        exit_code: code.unwrap_or(137),
        reason: text("reason"),
        message: text("message"),
        started_at: time("startedAt"),
        finished_at: time("finishedAt").unwrap_or_else(Timestamp::now),
    })
}

/// The number of the newest run that has left a log.
fn attempt_of(status: &ContainerStatus) -> Option<u32> {
    status.annotations.get(ATTEMPT)?.parse().ok()
}

/// The reason of an exit, as a status has it.
pub(crate) fn exit_reason(exit_code: i32, oom_killed: bool) -> &'static str {
    match (exit_code, oom_killed) {
        (_, true) => "OOMKilled",
        (0, _) => "Completed",
        _ => "Error",
    }
}

#[cfg(test)]
mod tests {
    use super::{end_of, last_lines};

    #[test]
    fn the_end_of_a_text_is_cut_at_lines_and_characters() {
        assert_eq!(last_lines("a\nb\nc\n", 2), "b\nc\n");
        assert_eq!(last_lines("a\nb", 5), "a\nb");
        assert_eq!(last_lines("", 5), "");
        assert_eq!(end_of("aéb", 2), "b");
        assert_eq!(end_of("aéb", 3), "éb");
        assert_eq!(end_of("ab", 9), "ab");
    }
}

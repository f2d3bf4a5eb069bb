//! The pod status that a node reports.

use jiff::{SignedDuration, Timestamp};
use serde_json::{Map, Value, json};

use super::observed::{ContainerSeen, Exit, Failure, ImageSeen, Observed, Run, Sandbox};
use super::pod::{Container, Pod, PullPolicy, RestartPolicy};
use super::{PULL_ERROR_SHOWN, later};

/// Reason of a pod that has reached its active deadline.
const DEADLINE_EXCEEDED: &str = "DeadlineExceeded";

/// Phase of a pod, as in the API.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// Not all of it has started.
    Pending,
    /// At least one container runs or will run again.
    Running,
    /// All containers succeeded, for good.
    Succeeded,
    /// All containers ended for good and one of them failed, or the pod was rejected.
    Failed,
}

impl Phase {
    /// The value in the API.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "Pending",
            Self::Running => "Running",
            Self::Succeeded => "Succeeded",
            Self::Failed => "Failed",
        }
    }

    fn is_terminal(self) -> bool {
        matches!(self, Self::Succeeded | Self::Failed)
    }
}

// ---- questions that the plan also asks

/// Returns whether a container starts again after this exit: by its own policy, the pod's, or a
/// rule of the container.
pub(super) fn restarts(pod: &Pod, container: &Container, init: bool, exit: &Exit) -> bool {
    let policy = match (container.restart_policy, pod.spec.restart_policy) {
        (Some(own), _) => own,
        // An init container that succeeded is not run again.
        (None, RestartPolicy::Always) if init => RestartPolicy::OnFailure,
        (None, policy) => policy,
    };
    let by_policy = match policy {
        RestartPolicy::Always => true,
        RestartPolicy::OnFailure => exit.exit_code != 0,
        RestartPolicy::Never => false,
    };
    by_policy || container.restarts_by_rule(exit.exit_code)
}

/// Returns whether the newest run exited with 0.
pub(super) fn has_succeeded(seen: &ContainerSeen) -> bool {
    matches!(&seen.run, Run::Exited(exit) if exit.exit_code == 0)
}

/// Returns whether the container runs and its startup probe, if any, has succeeded.
pub(super) fn is_started(container: &Container, seen: &ContainerSeen) -> bool {
    matches!(seen.run, Run::Running { .. })
        && (container.startup_probe.is_none() || seen.probes.startup == Some(true))
}

fn is_ready(container: &Container, seen: &ContainerSeen) -> bool {
    is_started(container, seen)
        && (container.readiness_probe.is_none() || seen.probes.readiness == Some(true))
}

/// Returns whether any container (not an init container) was started, so that the pod is
/// initialized.
pub(super) fn has_begun(pod: &Pod, seen: &Observed) -> bool {
    pod.spec.containers.iter().any(|container| {
        let seen = seen.containers.get(&container.name);
        seen.is_some_and(|seen| seen.starting || seen.run != Run::None)
    })
}

/// Returns whether the pod will never start anything again.
pub(super) fn is_terminal(pod: &Pod, seen: &Observed) -> bool {
    phase(pod, seen, None).is_terminal()
}

/// The active deadline of the pod. A pod that ended before has none any more.
pub(super) fn deadline(pod: &Pod, seen: &Observed) -> Option<Timestamp> {
    let seconds = pod.spec.active_deadline_seconds?;
    let reported = |field: &str| seen.reported.get(field).and_then(Value::as_str);
    if matches!(reported("phase"), Some("Succeeded" | "Failed"))
        && reported("reason") != Some(DEADLINE_EXCEEDED)
    {
        return None;
    }
    Some(later(seen.start_time?, SignedDuration::from_secs(seconds)))
}

/// When the reported status changes without an event.
pub(super) fn changes_at(pod: &Pod, seen: &Observed, now: Timestamp) -> Option<Timestamp> {
    let names = pod.spec.init_containers.iter().chain(&pod.spec.containers);
    let shown_until = names
        .filter_map(|container| seen.containers.get(&container.name))
        .filter_map(|seen| match &seen.image {
            ImageSeen::Failed { at, .. } => Some(later(*at, PULL_ERROR_SHOWN)),
            _ => None,
        });
    shown_until.filter(|at| *at > now).min()
}

// ---- phase

/// Why a pod's containers were stopped.
#[derive(Clone, Copy)]
enum End {
    /// It was deleted.
    Deleted,
    /// It has reached its active deadline, or was evicted.
    Forced,
}

fn phase(pod: &Pod, seen: &Observed, end: Option<End>) -> Phase {
    if seen.rejected.is_some() {
        return Phase::Failed;
    }
    match seen.reported.get("phase").and_then(Value::as_str) {
        Some("Succeeded") => return Phase::Succeeded,
        Some("Failed") => return Phase::Failed,
        _ => {}
    }
    match end {
        // Containers that handle SIGTERM exit with 0, but the pod has failed anyway.
        Some(End::Forced) => return Phase::Failed,
        Some(End::Deleted) => return phase_at_end(pod, seen),
        None => {}
    }
    if !has_begun(pod, seen) && initialisation_failed(pod, seen) {
        return Phase::Failed;
    }
    let mut pending = !initialised(pod, seen);
    let (mut alive, mut failed) = (false, false);
    for container in &pod.spec.containers {
        match seen.containers.get(&container.name) {
            None => pending = true,
            Some(seen) => match &seen.run {
                Run::None => pending = true,
                Run::Running { .. } => alive = true,
                Run::Exited(exit) => {
                    alive |= seen.renewed || restarts(pod, container, false, exit);
                    failed |= exit.exit_code != 0;
                }
            },
        }
    }
    match (pending, alive, failed) {
        (true, ..) => Phase::Pending,
        (_, true, _) => Phase::Running,
        (_, _, true) => Phase::Failed,
        _ => Phase::Succeeded,
    }
}

/// The phase of a pod whose containers were all stopped: Succeeded only if each ran and exited with
/// 0.
fn phase_at_end(pod: &Pod, seen: &Observed) -> Phase {
    let well = pod.spec.containers.iter().all(|container| {
        let seen = seen.containers.get(&container.name);
        seen.is_some_and(has_succeeded)
    });
    if well { Phase::Succeeded } else { Phase::Failed }
}

fn initialised(pod: &Pod, seen: &Observed) -> bool {
    has_begun(pod, seen) || incomplete_init(pod, seen).is_empty()
}

fn incomplete_init<'a>(pod: &'a Pod, seen: &Observed) -> Vec<&'a str> {
    let done = |container: &&Container| {
        let Some(seen) = seen.containers.get(&container.name) else {
            return false;
        };
        if container.is_sidecar() {
            is_started(container, seen)
        } else {
            has_succeeded(seen)
        }
    };
    let inits = pod.spec.init_containers.iter();
    inits
        .filter(|container| !done(container))
        .map(|container| container.name.as_str())
        .collect()
}

fn initialisation_failed(pod: &Pod, seen: &Observed) -> bool {
    pod.spec.init_containers.iter().any(|container| {
        let run = seen.containers.get(&container.name).map(|seen| &seen.run);
        let Some(Run::Exited(exit)) = run else {
            return false;
        };
        exit.exit_code != 0 && !restarts(pod, container, true, exit)
    })
}

// ---- the whole

/// The fields of the pod's status that its node sets.
pub(super) fn status(pod: &Pod, seen: &Observed, now: Timestamp) -> Value {
    let overdue = deadline(pod, seen).is_some_and(|deadline| now >= deadline);
    let leaving =
        overdue || seen.evicted.is_some() || seen.unwanted || pod.metadata.deletion_timestamp.is_some();
    let alive = seen
        .containers
        .values()
        .any(|seen| seen.starting || matches!(seen.run, Run::Running { .. }));
    let ended = leaving && !alive && !matches!(seen.sandbox, Sandbox::Creating);
    let forced = overdue || seen.evicted.is_some();
    let end = ended.then_some(if forced { End::Forced } else { End::Deleted });
    let phase = phase(pod, seen, end);
    let view = View {
        pod,
        seen,
        now,
        phase,
        leaving,
    };

    let mut status = Map::new();
    status.insert("phase".into(), phase.as_str().into());
    if let Some(generation) = pod.metadata.generation {
        status.insert("observedGeneration".into(), generation.into());
    }
    let deadline_passed = overdue.then(|| Failure {
        reason: DEADLINE_EXCEEDED.into(),
        message: "Pod was active on the node longer than the specified deadline".into(),
    });
    let refused = seen.rejected.as_ref().or(seen.evicted.as_ref());
    if let Some(failure) = refused.or(deadline_passed.as_ref()) {
        status.insert("reason".into(), failure.reason.clone().into());
        status.insert("message".into(), failure.message.clone().into());
    }
    view.addresses(&mut status);
    if let Some(start) = seen.start_time {
        status.insert("startTime".into(), seconds(start));
    }
    status.insert("conditions".into(), view.conditions());
    if seen.rejected.is_none() {
        let inits = &pod.spec.init_containers;
        if !inits.is_empty() {
            let statuses = inits.iter().map(|container| view.container(container, true));
            status.insert("initContainerStatuses".into(), statuses.collect());
        }
        let containers = pod.spec.containers.iter();
        let statuses = containers.map(|container| view.container(container, false));
        status.insert("containerStatuses".into(), statuses.collect());
    }
    Value::Object(status)
}

struct View<'a> {
    pod: &'a Pod,
    seen: &'a Observed,
    now: Timestamp,
    phase: Phase,
    leaving: bool,
}

impl View<'_> {
    fn addresses(&self, status: &mut Map<String, Value>) {
        let mut list = |one: &str, all: &str, ips: &[String]| {
            if let Some(first) = ips.first() {
                status.insert(one.into(), first.clone().into());
                let ips = ips.iter().map(|ip| json!({ "ip": ip })).collect();
                status.insert(all.into(), ips);
            }
        };
        list("hostIP", "hostIPs", &self.seen.host_ips);
        list("podIP", "podIPs", &self.seen.pod_ips);
    }

    // ---- conditions

    fn conditions(&self) -> Value {
        let sandbox = matches!(self.seen.sandbox, Sandbox::Ready);
        let containers = self.containers_ready();
        let conditions = [
            self.condition("PodReadyToStartContainers", sandbox, None),
            self.initialized_condition(),
            self.ready_condition(&containers),
            self.condition("ContainersReady", containers.is_none(), containers),
            self.condition("PodScheduled", true, None),
        ];
        let disruption = self.seen.evicted.as_ref().map(|why| {
            let why = reason("TerminationByKubelet", &why.message);
            self.condition("DisruptionTarget", true, Some(why))
        });
        conditions.into_iter().chain(disruption).collect()
    }

    fn initialized_condition(&self) -> Value {
        let incomplete = incomplete_init(self.pod, self.seen);
        if has_begun(self.pod, self.seen) || incomplete.is_empty() {
            let done = (self.phase == Phase::Succeeded).then(|| reason("PodCompleted", ""));
            return self.condition("Initialized", true, done);
        }
        let message = format!("containers with incomplete status: [{}]", incomplete.join(" "));
        let failure = reason("ContainersNotInitialized", &message);
        self.condition("Initialized", false, Some(failure))
    }

    /// Why not all containers are ready; `None` if they are.
    fn containers_ready(&self) -> Option<Failure> {
        match self.phase {
            Phase::Succeeded => return Some(reason("PodCompleted", "")),
            Phase::Failed => return Some(reason("PodFailed", "")),
            Phase::Pending | Phase::Running => {}
        }
        let spec = &self.pod.spec;
        let sidecars = spec.init_containers.iter().filter(|init| init.is_sidecar());
        let unready: Vec<&str> = sidecars
            .chain(&spec.containers)
            .filter(|container| {
                let seen = self.seen.containers.get(&container.name);
                !seen.is_some_and(|seen| is_ready(container, seen))
            })
            .map(|container| container.name.as_str())
            .collect();
        if unready.is_empty() {
            return None;
        }
        let message = format!("containers with unready status: [{}]", unready.join(" "));
        Some(reason("ContainersNotReady", &message))
    }

    fn ready_condition(&self, containers: &Option<Failure>) -> Value {
        if let Some(failure) = containers {
            return self.condition("Ready", false, Some(failure.clone()));
        }
        let unmet = self.pod.spec.readiness_gates.iter().filter_map(|gate| {
            let kind = &gate.condition_type;
            match self.reported_condition(kind) {
                Some(condition) if condition["status"] == "True" => None,
                Some(_) => Some(format!(
                    "the status of pod readiness gate \"{kind}\" is not \"True\", but False"
                )),
                None => Some(format!(
                    "corresponding condition of pod readiness gate \"{kind}\" does not exist."
                )),
            }
        });
        let unmet: Vec<String> = unmet.collect();
        let failure = (!unmet.is_empty()).then(|| reason("ReadinessGatesNotReady", &unmet.join(", ")));
        self.condition("Ready", failure.is_none(), failure)
    }

    /// A condition. Its transition time stays while its status is the same.
    fn condition(&self, kind: &str, is: bool, why: Option<Failure>) -> Value {
        let status = if is { "True" } else { "False" };
        let since = self
            .reported_condition(kind)
            .filter(|condition| condition["status"] == status)
            .and_then(|condition| condition.get("lastTransitionTime").cloned())
            .filter(|time| !time.is_null())
            .unwrap_or_else(|| seconds(self.now));
        let mut condition = json!({
            "type": kind,
            "status": status,
            "lastTransitionTime": since,
        });
        if let Some(generation) = self.pod.metadata.generation {
            condition["observedGeneration"] = generation.into();
        }
        if let Some(why) = why {
            condition["reason"] = why.reason.into();
            if !why.message.is_empty() {
                condition["message"] = why.message.into();
            }
        }
        condition
    }

    fn reported_condition(&self, kind: &str) -> Option<&Value> {
        let conditions = self.seen.reported.get("conditions")?.as_array()?;
        conditions.iter().find(|condition| condition["type"] == kind)
    }

    // ---- containers

    fn container(&self, container: &Container, init: bool) -> Value {
        let nothing = ContainerSeen::default();
        let seen = self.seen.containers.get(&container.name);
        let seen = seen.unwrap_or(&nothing);
        let (state, last) = self.state(container, seen, init);
        let started = is_started(container, seen);
        let ready = if init && !container.is_sidecar() {
            has_succeeded(seen)
        } else {
            is_ready(container, seen)
        };
        let container_id = match &seen.run {
            Run::None => "",
            Run::Running { container_id, .. } => container_id,
            Run::Exited(exit) => &exit.container_id,
        };
        let mut status = json!({
            "name": container.name,
            "image": if seen.image_name.is_empty() { &container.image } else { &seen.image_name },
            "imageID": seen.image_id,
            "restartCount": seen.attempt,
            "ready": ready,
            "started": started,
            "state": state,
            "lastState": last,
        });
        if !container_id.is_empty() {
            status["containerID"] = container_id.into();
        }
        status
    }

    /// `state` and `lastState` of a container.
    fn state(&self, container: &Container, seen: &ContainerSeen, init: bool) -> (Value, Value) {
        let before = seen.last.as_ref().map_or_else(|| json!({}), terminated);
        match &seen.run {
            Run::Running { started_at, .. } => {
                let running = json!({ "running": { "startedAt": seconds(*started_at) } });
                (running, before)
            }
            Run::Exited(exit) => match self.waiting_to_restart(container, seen, exit, init) {
                Some(why) => (waiting(&why), terminated(exit)),
                None => (terminated(exit), before),
            },
            Run::None => (waiting(&self.waiting_to_start(container, seen, init)), before),
        }
    }

    /// Why an ended container does not run yet; `None` if it stays ended or starts now.
    fn waiting_to_restart(
        &self,
        container: &Container,
        seen: &ContainerSeen,
        exit: &Exit,
        init: bool,
    ) -> Option<Failure> {
        let stays = !seen.renewed && !restarts(self.pod, container, init, exit);
        let over = self.leaving || self.phase.is_terminal() || stays;
        if over || init && !container.is_sidecar() && has_begun(self.pod, self.seen) {
            return None;
        }
        if let Some(why) = trouble(container, seen, self.now) {
            return Some(why);
        }
        let until = seen.backoff.until(exit.finished_at).filter(|_| !seen.renewed);
        if !seen.starting && until.is_some_and(|until| self.now < until) {
            let message = format!(
                "back-off {} restarting failed container={} pod={}",
                go_duration(seen.backoff.delay()),
                container.name,
                self.pod.full_name()
            );
            return Some(reason("CrashLoopBackOff", &message));
        }
        if seen.renewed {
            // The API server rejects leaving `terminated` if the restart policy would not start the
            // container again.
            return Some(reason("ContainerCreating", ""));
        }
        (exit.reason == "StartError").then(|| reason("RunContainerError", &exit.message))
    }

    fn waiting_to_start(&self, container: &Container, seen: &ContainerSeen, init: bool) -> Failure {
        if let Some(why) = trouble(container, seen, self.now) {
            return why;
        }
        let has_init = !self.pod.spec.init_containers.is_empty();
        if has_init && (init || !initialised(self.pod, self.seen)) {
            reason("PodInitializing", "")
        } else {
            reason("ContainerCreating", "")
        }
    }
}

/// The failure that prevents the creation of a container.
fn trouble(container: &Container, seen: &ContainerSeen, now: Timestamp) -> Option<Failure> {
    if let Some((failure, _)) = &seen.failure {
        return Some(failure.clone());
    }
    let image = &container.image;
    match &seen.image {
        ImageSeen::Failed { message, at, .. } if now < later(*at, PULL_ERROR_SHOWN) => {
            Some(reason("ErrImagePull", message))
        }
        ImageSeen::Failed { message, .. } => Some(reason(
            "ImagePullBackOff",
            &format!("Back-off pulling image \"{image}\": ErrImagePull: {message}"),
        )),
        ImageSeen::Missing { .. } if container.image_pull_policy == PullPolicy::Never => Some(reason(
            "ErrImageNeverPull",
            &format!(
                "Container image \"{image}\" is not present with pull policy of Never; import it with \
                 `everynode image import FILE`"
            ),
        )),
        ImageSeen::Invalid(message) => Some(reason(
            "InvalidImageName",
            &format!("Failed to apply default image tag \"{image}\": {message}"),
        )),
        _ => None,
    }
}

fn waiting(why: &Failure) -> Value {
    let mut waiting = json!({ "reason": why.reason });
    if !why.message.is_empty() {
        waiting["message"] = why.message.clone().into();
    }
    json!({ "waiting": waiting })
}

fn terminated(exit: &Exit) -> Value {
    let mut state = json!({
        "exitCode": exit.exit_code,
        "reason": exit.reason,
        "finishedAt": seconds(exit.finished_at),
    });
    if let Some(started_at) = exit.started_at {
        state["startedAt"] = seconds(started_at);
    }
    if !exit.container_id.is_empty() {
        state["containerID"] = exit.container_id.clone().into();
    }
    if !exit.message.is_empty() {
        state["message"] = exit.message.clone().into();
    }
    json!({ "terminated": state })
}

fn reason(reason: &str, message: &str) -> Failure {
    Failure {
        reason: reason.to_owned(),
        message: message.to_owned(),
    }
}

/// A time in the API's format: whole seconds.
fn seconds(at: Timestamp) -> Value {
    let whole = Timestamp::from_second(at.as_second()).unwrap_or(at);
    whole.to_string().into()
}

/// A duration in Go's format: `10s`, `1m20s`, `5m0s`.
fn go_duration(duration: SignedDuration) -> String {
    let seconds = duration.as_secs();
    match seconds {
        ..60 => format!("{seconds}s"),
        _ => format!("{}m{}s", seconds / 60, seconds % 60),
    }
}

// ---- reporting

/// Fields that only the node sets. They are removed when they no longer apply.
const OWNED: [&str; 8] = [
    "reason",
    "message",
    "hostIP",
    "hostIPs",
    "podIP",
    "podIPs",
    "initContainerStatuses",
    "containerStatuses",
];

/// The strategic merge patch from the `reported` status to `status`; `None` if they are equal.
///
/// Conditions are merged by type, so that other components' conditions stay.
pub fn patch(reported: &Value, status: &Value) -> Option<Value> {
    let mut changes = Map::new();
    for (field, value) in status.as_object()? {
        let before = reported.get(field).unwrap_or(&Value::Null);
        match field.as_str() {
            "conditions" => {
                let changed = changed_conditions(before, value);
                if !changed.is_empty() {
                    changes.insert(field.clone(), changed.into());
                }
            }
            _ if same(before, value) => {}
            "podIPs" | "hostIPs" if !before.is_null() => {
                // The list merges by address. Without the directive, the old address would stay.
                let mut list = vec![json!({ "$patch": "replace" })];
                list.extend(value.as_array().into_iter().flatten().cloned());
                changes.insert(field.clone(), list.into());
            }
            _ => {
                changes.insert(field.clone(), value.clone());
            }
        }
    }
    for field in OWNED {
        let stale = reported.get(field).is_some_and(|value| !value.is_null());
        if stale && status.get(field).is_none() {
            changes.insert(field.to_owned(), Value::Null);
        }
    }
    (!changes.is_empty()).then_some(Value::Object(changes))
}

fn changed_conditions(before: &Value, now: &Value) -> Vec<Value> {
    let nothing = Vec::new();
    let before = before.as_array().unwrap_or(&nothing);
    let now = now.as_array().unwrap_or(&nothing);
    let changed = now.iter().filter_map(|condition| {
        let old = before.iter().find(|old| old["type"] == condition["type"]);
        match old {
            None => Some(condition.clone()),
            Some(old) if same(old, condition) => None,
            Some(old) => {
                let mut condition = condition.clone();
                for field in ["reason", "message"] {
                    if old.get(field).is_some() && condition.get(field).is_none() {
                        condition[field] = Value::Null;
                    }
                }
                Some(condition)
            }
        }
    });
    changed.collect()
}

/// Equality in which an absent field, a null, an empty list and an empty object are the same.
fn same(a: &Value, b: &Value) -> bool {
    fn empty(value: &Value) -> bool {
        match value {
            Value::Null => true,
            Value::Array(items) => items.is_empty(),
            Value::Object(fields) => fields.values().all(empty),
            Value::String(text) => text.is_empty(),
            _ => false,
        }
    }
    match (a, b) {
        (Value::Object(x), Value::Object(y)) => {
            let null = Value::Null;
            let keys = x.keys().chain(y.keys());
            keys.into_iter()
                .all(|key| same(x.get(key).unwrap_or(&null), y.get(key).unwrap_or(&null)))
        }
        (Value::Array(x), Value::Array(y)) => x.len() == y.len() && x.iter().zip(y).all(|(x, y)| same(x, y)),
        _ => a == b || empty(a) && empty(b),
    }
}

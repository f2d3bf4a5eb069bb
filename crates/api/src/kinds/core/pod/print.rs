//! The row of a pod in a table.

use jiff::Timestamp;
use serde_json::{Value, json};

use crate::kinds::{AGE, Column, NAME, column, wide};
use crate::meta;
use crate::print;
use crate::time;
use crate::validate::field::{flag, list, text};

pub(super) const COLUMNS: &[Column] = &[
    NAME,
    column(
        "Ready",
        "The aggregate readiness state of this pod for accepting traffic.",
    ),
    column("Status", "The aggregate status of the containers in this pod."),
    column(
        "Restarts",
        "The number of times the containers in this pod have been restarted and when the last container in this pod has restarted.",
    ),
    AGE,
    wide("IP", "The address allocated to the pod."),
    wide("Node", "The node that the pod is bound to."),
    wide(
        "Nominated Node",
        "The node on which pods were preempted for this pod.",
    ),
    wide(
        "Readiness Gates",
        "The number of readiness gates whose conditions are True.",
    ),
];

/// The summary of the containers' states.
struct Summary {
    status: String,
    ready: usize,
    total: usize,
    restarts: i64,
    last_restart: Option<Timestamp>,
}

pub(super) fn row(object: &Value, now: Timestamp) -> Vec<Value> {
    let (spec, status) = (&object["spec"], &object["status"]);
    let summary = summarize(object);
    let restarts = match summary.last_restart.filter(|_| summary.restarts != 0) {
        Some(last) => {
            let ago = time::human_duration(now.as_second() - last.as_second());
            format!("{} ({ago} ago)", summary.restarts)
        }
        None => summary.restarts.to_string(),
    };
    let ip = list(status, "podIPs")
        .first()
        .map_or_else(|| text(status, "podIP"), |ip| text(ip, "ip"));
    vec![
        meta::name(object).into(),
        format!("{}/{}", summary.ready, summary.total).into(),
        summary.status.into(),
        restarts.into(),
        print::age(object, now),
        print::or_none(ip),
        print::or_none(text(spec, "nodeName")),
        print::or_none(text(status, "nominatedNodeName")),
        readiness_gates(object),
    ]
}

/// Marks ended pods, so that clients can hide them.
pub(super) fn row_conditions(object: &Value) -> Vec<Value> {
    let message = match text(&object["status"], "phase") {
        "Succeeded" => "The pod has completed successfully.",
        "Failed" => "The pod failed.",
        _ => return Vec::new(),
    };
    let reason = text(&object["status"], "phase");
    vec![json!({"type": "Completed", "status": "True", "reason": reason, "message": message})]
}

fn readiness_gates(object: &Value) -> Value {
    let gates = list(&object["spec"], "readinessGates");
    if gates.is_empty() {
        return print::NONE.into();
    }
    let open = gates
        .iter()
        .filter(|gate| condition(object, text(gate, "conditionType")) == "True")
        .count();
    format!("{open}/{}", gates.len()).into()
}

/// Returns the status of a condition; empty when the pod has none of this type.
fn condition<'a>(object: &'a Value, kind: &str) -> &'a str {
    list(&object["status"], "conditions")
        .iter()
        .find(|condition| text(condition, "type") == kind)
        .map(|condition| text(condition, "status"))
        .unwrap_or_default()
}

fn summarize(object: &Value) -> Summary {
    let (spec, status) = (&object["spec"], &object["status"]);
    let phase = text(status, "phase");
    let reason = text(status, "reason");
    let gated = list(status, "conditions")
        .iter()
        .any(|found| text(found, "type") == "PodScheduled" && text(found, "reason") == "SchedulingGated");
    let start = if gated {
        "SchedulingGated"
    } else if reason.is_empty() {
        phase
    } else {
        reason
    };
    let sidecars = list(spec, "initContainers")
        .iter()
        .filter(|container| always_restarts(container))
        .count();
    let mut summary = Summary {
        status: start.to_owned(),
        ready: 0,
        total: list(spec, "containers").len() + sidecars,
        restarts: 0,
        last_restart: None,
    };
    let initializing = read_init_containers(object, &mut summary);
    if !initializing || condition(object, "Initialized") == "True" {
        read_containers(object, &mut summary);
    }
    if meta::deletion_timestamp(object).is_some() {
        if reason == "NodeLost" {
            summary.status = "Unknown".to_owned();
        } else if !matches!(phase, "Succeeded" | "Failed") {
            summary.status = "Terminating".to_owned();
        }
    }
    summary
}

fn always_restarts(container: &Value) -> bool {
    text(container, "restartPolicy") == "Always"
}

fn is_sidecar(object: &Value, name: &str) -> bool {
    list(&object["spec"], "initContainers")
        .iter()
        .any(|container| text(container, "name") == name && always_restarts(container))
}

impl Summary {
    fn count_restarts(&mut self, status: &Value) {
        self.restarts += status["restartCount"].as_i64().unwrap_or_default();
        let finished = status["lastState"]["terminated"]["finishedAt"]
            .as_str()
            .and_then(time::parse);
        self.last_restart = self.last_restart.max(finished);
    }
}

/// Returns the reason why a container has ended.
fn ended(terminated: &Value) -> String {
    let signal = terminated["signal"].as_i64().unwrap_or_default();
    match text(terminated, "reason") {
        "" if signal != 0 => format!("Signal:{signal}"),
        "" => format!("ExitCode:{}", terminated["exitCode"].as_i64().unwrap_or_default()),
        reason => reason.to_owned(),
    }
}

/// Reads the init containers up to the first that is not done. Returns whether there is one, and
/// then sets the status to its state.
fn read_init_containers(object: &Value, summary: &mut Summary) -> bool {
    let count = list(&object["spec"], "initContainers").len();
    for (index, status) in list(&object["status"], "initContainerStatuses")
        .iter()
        .enumerate()
    {
        summary.count_restarts(status);
        let state = &status["state"];
        let (terminated, waiting) = (&state["terminated"], text(&state["waiting"], "reason"));
        if terminated.is_object() && terminated["exitCode"] == 0 {
            continue;
        }
        if is_sidecar(object, text(status, "name")) && flag(status, "started") {
            summary.ready += usize::from(flag(status, "ready"));
            continue;
        }
        summary.status = if terminated.is_object() {
            format!("Init:{}", ended(terminated))
        } else if !matches!(waiting, "" | "PodInitializing") {
            format!("Init:{waiting}")
        } else {
            format!("Init:{index}/{count}")
        };
        return true;
    }
    false
}

fn read_containers(object: &Value, summary: &mut Summary) {
    // From here on, init containers count only if they are sidecars.
    (summary.restarts, summary.last_restart) = (0, None);
    for status in list(&object["status"], "initContainerStatuses") {
        if is_sidecar(object, text(status, "name")) {
            summary.count_restarts(status);
        }
    }
    let mut running = false;
    for status in list(&object["status"], "containerStatuses").iter().rev() {
        summary.count_restarts(status);
        let state = &status["state"];
        let waiting = text(&state["waiting"], "reason");
        if !waiting.is_empty() {
            summary.status = waiting.to_owned();
        } else if state["terminated"].is_object() {
            summary.status = ended(&state["terminated"]);
        } else if flag(status, "ready") && state["running"].is_object() {
            running = true;
            summary.ready += 1;
        }
    }
    if summary.status == "Completed" && running {
        let ready = condition(object, "Ready") == "True";
        summary.status = if ready { "Running" } else { "NotReady" }.to_owned();
    }
}

//! Cause and remedy of a failing pod, from its logs and events.

use http::Method;
use http_body_util::{BodyExt, Limited};
use serde_json::Value;

use crate::client::connection::Connection;
use crate::client::pod_state::{ContainerState, PodState};
use crate::client::resources::{Resources, escape};

/// Lines of a log that are quoted.
const LOG_LINES: usize = 3;
/// Longest response to a request for log lines, in bytes; lines may be long.
const LOG_BYTES_MAX: usize = 64 * 1024;
/// Characters of a line that are quoted.
const LINE_CHARS_MAX: usize = 200;

/// Returns lines about a failing pod. Omits what cannot be read, because the report is complete
/// without it.
pub(super) async fn of(connection: &Connection, resources: &Resources, name: &str) -> Vec<String> {
    let Ok(pods) = resources.of_kind("v1", "Pod") else {
        return Vec::new();
    };
    let path = pods.object(&connection.namespace, name);
    let Ok(pod) = connection.get(&path).await else {
        return Vec::new();
    };
    let state = PodState::of(&pod);
    let mut lines = Vec::new();
    match state.broken() {
        Some(container) if container.lacks_image() => {
            lines.extend(last_warning(connection, resources, &pod).await);
            lines.push(
                "fix the name of the image, or run `everynode image import FILE` on the node".to_owned(),
            );
        }
        Some(container) if container.crashes() => lines.extend(log(connection, &path, container).await),
        Some(_) => {}
        None => lines.extend(port_holders(connection, &pod).await),
    }
    lines
}

/// Returns the last warning about a pod that names a cause. A warning about backoff does not.
async fn last_warning(connection: &Connection, resources: &Resources, pod: &Value) -> Option<String> {
    let events = super::events_of(connection, resources, pod, ",type=Warning")
        .await
        .ok()?;
    let messages = events.iter().rev().filter_map(|event| event["message"].as_str());
    let cause = messages.map(str::trim).find(|message| message.contains(": "))?;
    Some(cause.to_owned())
}

/// Returns the last log lines of the container's last run.
async fn log(connection: &Connection, path: &str, container: &ContainerState) -> Vec<String> {
    for previous in [true, false] {
        let query = format!(
            "{path}/log?container={}&previous={previous}&tailLines={LOG_LINES}",
            escape(&container.name)
        );
        let Ok(answer) = connection.send(Method::GET, &query, "*/*", None).await else {
            continue;
        };
        let Ok(body) = Limited::new(answer.into_body(), LOG_BYTES_MAX).collect().await else {
            continue;
        };
        let text = String::from_utf8_lossy(&body.to_bytes()).into_owned();
        let quoted = text.lines().map(|line| {
            // The container controls its log, so control characters must not reach the terminal.
            let plain: String = line
                .chars()
                .filter(|char| !char.is_control())
                .take(LINE_CHARS_MAX)
                .collect();
            format!("log: {plain}")
        });
        let quoted: Vec<String> = quoted.collect();
        if !quoted.is_empty() {
            return quoted;
        }
    }
    Vec::new()
}

/// Returns the pods that use the host ports for which a pod cannot be scheduled.
async fn port_holders(connection: &Connection, pod: &Value) -> Vec<String> {
    let conditions = pod["status"]["conditions"].as_array().into_iter().flatten();
    let mut messages = conditions.filter_map(|condition| condition["message"].as_str());
    let mut lines = Vec::new();
    if !messages.any(|message| message.contains("free ports")) {
        return lines;
    }
    let Some(node) = node_of(pod) else { return lines };
    let query = format!("fieldSelector={}", escape(&format!("spec.nodeName={node}")));
    let Ok(others) = connection
        .list("/api/v1/pods", &query, |other| Ok(other.clone()))
        .await
    else {
        return lines;
    };
    for port in host_ports(pod) {
        for other in others
            .iter()
            .filter(|other| other["metadata"]["uid"] != pod["metadata"]["uid"])
        {
            if host_ports(other).contains(&port) {
                let text = |field: &str| other["metadata"][field].as_str().unwrap_or_default();
                lines.push(format!(
                    "port {}/{} of {node} is taken by pod {}/{}",
                    port.0,
                    port.1,
                    text("namespace"),
                    text("name")
                ));
            }
        }
    }
    lines
}

/// Returns the node of a pod: the bound one, or the one in its affinity, as for pods of DaemonSets.
fn node_of(pod: &Value) -> Option<&str> {
    let terms = &pod["spec"]["affinity"]["nodeAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"]["nodeSelectorTerms"];
    let pinned = terms[0]["matchFields"][0]["values"][0].as_str();
    pod["spec"]["nodeName"].as_str().or(pinned)
}

/// Returns ports and protocols.
fn host_ports(pod: &Value) -> Vec<(u64, String)> {
    let containers = pod["spec"]["containers"].as_array().into_iter().flatten();
    let ports = containers.flat_map(|container| container["ports"].as_array().into_iter().flatten());
    ports
        .filter_map(|port| {
            let number = port["hostPort"].as_u64().filter(|number| *number > 0)?;
            Some((number, port["protocol"].as_str().unwrap_or("TCP").to_owned()))
        })
        .collect()
}

//! What the logs and events of a broken pod add to its state: the cause, and the remedy.

use http::Method;
use http_body_util::{BodyExt, Limited};
use serde_json::Value;

use crate::client::connection::Connection;
use crate::client::pod_state::{ContainerState, PodState};
use crate::client::resources::{Resources, escape};

/// Lines of a log that are quoted.
const LOG_LINES: usize = 3;
/// Longest answer to a question for a few lines of a log; lines may be long.
const LOG_BYTES_MAX: usize = 64 * 1024;
/// Characters of a line that are quoted.
const LINE_CHARS_MAX: usize = 200;

/// Lines about a pod that needs mending. What cannot be read is left out: the report stands without it.
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

/// The last warning about a pod that names a cause; that the node backs off does not.
async fn last_warning(connection: &Connection, resources: &Resources, pod: &Value) -> Option<String> {
    let events = super::events_of(connection, resources, pod, ",type=Warning")
        .await
        .ok()?;
    let messages = events.iter().rev().filter_map(|event| event["message"].as_str());
    let cause = messages.map(str::trim).find(|message| message.contains(": "))?;
    Some(cause.to_owned())
}

/// The last lines that the container's last run wrote.
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
            // A container decides what it logs: no control character reaches the terminal.
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

/// The pods that have the host ports of a pod which the scheduler does not place for want of them.
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

/// The node of a pod: the one that it has, or the one that its affinity names, as for the pods of DaemonSets.
fn node_of(pod: &Value) -> Option<&str> {
    let terms = &pod["spec"]["affinity"]["nodeAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"]["nodeSelectorTerms"];
    let pinned = terms[0]["matchFields"][0]["values"][0].as_str();
    pod["spec"]["nodeName"].as_str().or(pinned)
}

/// Port and protocol.
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

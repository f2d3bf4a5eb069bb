//! What a node says of itself, under the paths of a kubelet's own port: `/healthz`, `/pods`, `/stats/summary`, `/metrics` and
//! `/metrics/resource`. What is not measured here is left out.

use std::fmt::Write as _;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderValue, Response, StatusCode};
use http_body_util::{BodyExt, Full};
use jiff::Timestamp;
use runtime::{ContainerState, Stats};
use serde_json::{Value, json};

use super::{Body, refuse};
use crate::calls::STREAMS;
use crate::node::{available_memory, machine_memory};
use crate::worker::Shared;

/// How long one pod may take to say what it uses: a scrape has ten seconds.
const MEASURE: Duration = Duration::from_secs(3);
const JSON: &str = "application/json";
const TEXT: &str = "text/plain; charset=utf-8";
/// The text form that Prometheus reads.
const METRICS: &str = "text/plain; version=0.0.4; charset=utf-8";

/// A running container and what it uses.
struct Used {
    namespace: String,
    pod: String,
    uid: String,
    container: String,
    started: Timestamp,
    stats: Stats,
}

/// Answers `/<parts>`; `None` for what is not served.
pub(super) async fn answer(shared: &Shared, parts: &[&str]) -> Option<Response<Body>> {
    Some(match parts {
        ["healthz"] | ["healthz", "ping"] => whole(TEXT, "ok".to_owned()),
        ["pods"] => match shared.cluster.pods_of(&shared.node_name).await {
            Ok(pods) => {
                let list = json!({"kind": "PodList", "apiVersion": "v1", "metadata": {}, "items": pods});
                whole(JSON, list.to_string())
            }
            Err(error) => refuse(
                StatusCode::SERVICE_UNAVAILABLE,
                &format!("read the node's pods: {error}"),
            ),
        },
        ["stats"] | ["stats", "summary"] => whole(
            JSON,
            summary(&shared.node_name, &used(shared).await, Timestamp::now()).to_string(),
        ),
        ["metrics"] => whole(METRICS, node_metrics(shared, &used(shared).await)),
        ["metrics", "resource"] => whole(METRICS, resource_metrics(&used(shared).await)),
        _ => return None,
    })
}

fn whole(content_type: &'static str, text: String) -> Response<Body> {
    let body = Full::new(Bytes::from(text)).map_err(|never| match never {});
    let mut response = Response::new(body.boxed());
    response
        .headers_mut()
        .insert("Content-Type", HeaderValue::from_static(content_type));
    response
}

/// Every running container of the node's pods. A pod that does not answer in time is left out.
async fn used(shared: &Shared) -> Vec<Used> {
    let asked = shared
        .pods()
        .into_iter()
        .map(|(namespace, name, uid)| async move {
            // A pod that ends meanwhile uses nothing.
            let pod = shared.runtime.pod(&uid)?;
            let asked = uid.clone();
            let measured = STREAMS.run(&asked, move || measure(&pod, &namespace, &name, &uid));
            tokio::time::timeout(MEASURE, measured).await.ok()?.ok()
        });
    let all = futures::future::join_all(asked).await;
    all.into_iter().flatten().flatten().collect()
}

fn measure(pod: &runtime::Pod, namespace: &str, name: &str, uid: &str) -> runtime::Result<Vec<Used>> {
    let mut all = Vec::new();
    for status in pod.containers()? {
        let ContainerState::Running { started_at, .. } = status.state else {
            continue;
        };
        let container = status.id.rsplit_once('-').map_or(&*status.id, |(name, _)| name);
        all.push(Used {
            namespace: namespace.to_owned(),
            pod: name.to_owned(),
            uid: uid.to_owned(),
            container: container.to_owned(),
            started: started_at,
            stats: pod.stats_of(&status),
        });
    }
    Ok(all)
}

/// Kubernetes' `Summary`, with what is measured.
fn summary(node: &str, used: &[Used], now: Timestamp) -> Value {
    let now = api::time::rfc3339(now);
    let cpu = |nanoseconds: u64| json!({"time": now, "usageCoreNanoSeconds": nanoseconds});
    let memory_of = |bytes: u64| json!({"time": now, "workingSetBytes": bytes});
    let mut pods: Vec<Value> = Vec::new();
    // The containers of a pod stand side by side.
    for of_pod in used.chunk_by(|a, b| a.uid == b.uid) {
        let Some(first) = of_pod.first() else { continue };
        let containers: Vec<Value> = of_pod
            .iter()
            .map(|used| {
                json!({
                    "name": used.container, "startTime": api::time::rfc3339(used.started),
                    "cpu": cpu(used.stats.cpu_nanoseconds), "memory": memory_of(used.stats.memory_working_set),
                })
            })
            .collect();
        let sum = |of: fn(&Stats) -> u64| of_pod.iter().map(|used| of(&used.stats)).sum();
        pods.push(json!({
            "podRef": {"name": first.pod, "namespace": first.namespace, "uid": first.uid},
            "startTime": of_pod.iter().map(|used| used.started).min().map(api::time::rfc3339),
            "containers": containers,
            "cpu": cpu(sum(|stats| stats.cpu_nanoseconds)),
            "memory": memory_of(sum(|stats| stats.memory_working_set)),
        }));
    }
    let mut node = json!({"nodeName": node});
    if let Some(available) = available_memory() {
        node["memory"] = json!({
            "time": now, "availableBytes": available, "workingSetBytes": machine_memory().saturating_sub(available),
        });
    }
    json!({"node": node, "pods": pods})
}

fn gauge(text: &mut String, name: &str, help: &str, value: impl std::fmt::Display) {
    // Writing into a String cannot fail.
    writeln!(text, "# HELP {name} {help}\n# TYPE {name} gauge\n{name} {value}").unwrap_or_default();
}

fn node_metrics(shared: &Shared, used: &[Used]) -> String {
    let mut text = String::new();
    gauge(
        &mut text,
        "kubelet_running_containers",
        "Number of containers that run.",
        used.len(),
    );
    gauge(
        &mut text,
        "kubelet_running_pods",
        "Number of pods of which a container runs.",
        used.chunk_by(|a, b| a.uid == b.uid).count(),
    );
    let name = "kubelet_node_name";
    let node = &shared.node_name;
    writeln!(
        text,
        "# HELP {name} The node's name. The count is always 1.\n# TYPE {name} gauge"
    )
    .unwrap_or_default();
    writeln!(text, "{name}{{node={node:?}}} 1").unwrap_or_default();
    text.push_str(&resource_metrics(used));
    text
}

/// Name, type, help, and the value of one container.
type Metric = (&'static str, &'static str, &'static str, fn(&Used) -> f64);

fn resource_metrics(used: &[Used]) -> String {
    let mut text = String::new();
    let metrics: [Metric; 3] = [
        (
            "container_cpu_usage_seconds_total",
            "counter",
            "Processor time of a container, in seconds.",
            |used| used.stats.cpu_nanoseconds as f64 / 1e9,
        ),
        (
            "container_memory_working_set_bytes",
            "gauge",
            "Memory of a container that is not easily given back, in bytes.",
            |used| used.stats.memory_working_set as f64,
        ),
        (
            "container_start_time_seconds",
            "gauge",
            "When a container started, in seconds since 1970.",
            |used| used.started.as_second() as f64,
        ),
    ];
    for (name, kind, help, value) in metrics {
        writeln!(text, "# HELP {name} {help}\n# TYPE {name} {kind}").unwrap_or_default();
        for used in used {
            let Used {
                namespace,
                pod,
                container,
                ..
            } = used;
            let value = value(used);
            writeln!(
                text,
                "{name}{{container={container:?},namespace={namespace:?},pod={pod:?}}} {value}"
            )
            .unwrap_or_default();
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn used(pod: &str, container: &str, memory: u64) -> Used {
        Used {
            namespace: "d".to_owned(),
            pod: pod.to_owned(),
            uid: format!("uid-{pod}"),
            container: container.to_owned(),
            started: Timestamp::UNIX_EPOCH,
            stats: Stats {
                cpu_nanoseconds: 1_500_000_000,
                memory_working_set: memory,
            },
        }
    }

    #[test]
    fn a_pods_use_is_the_sum_of_its_containers() {
        let all = [used("a", "x", 10), used("a", "y", 5), used("b", "x", 1)];
        let summary = summary("n", &all, Timestamp::UNIX_EPOCH);
        assert_eq!(summary["node"]["nodeName"], "n");
        let pods = summary["pods"].as_array().unwrap();
        assert_eq!(pods.len(), 2);
        assert_eq!(pods[0]["memory"]["workingSetBytes"], 15);
        assert_eq!(pods[0]["containers"][1]["name"], "y");
        assert_eq!(pods[1]["podRef"]["uid"], "uid-b");
    }

    #[test]
    fn metrics_are_lines_with_labels() {
        let text = resource_metrics(&[used("a", "x", 10)]);
        assert!(
            text.contains(
                "container_memory_working_set_bytes{container=\"x\",namespace=\"d\",pod=\"a\"} 10\n"
            ),
            "{text}"
        );
        assert!(
            text.contains(
                "container_cpu_usage_seconds_total{container=\"x\",namespace=\"d\",pod=\"a\"} 1.5\n"
            )
        );
    }
}

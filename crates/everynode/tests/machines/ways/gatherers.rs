//! Gatherers of metrics find every exporter by the DNS and by the API, and follow nodes.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::path::Path;

use anyhow::Result;
use serde_json::{Value, json};
use testkit::{Fleet, Pod, get, programs, wait_for};

use super::{EXPORTER, daemon, exporter_command, headless, import_exporter, package};
use crate::fleet;

const PROMETHEUS: &str = "quay.io/prometheus/prometheus:v2.42.0";
/// Debian's Prometheus is built without what asks the Kubernetes API; this one reads the same configuration, and asks it.
const VICTORIA: &str = "docker.io/victoriametrics/victoria-metrics:v1.79.5";
/// A Prometheus that does ask it, which `cargo xtask prometheus` builds: the variable names the program.
const ASKING: &str = "EVERYNODE_PROMETHEUS";

/// Where Prometheus looks for exporters, each way by itself.
const BY_DNS: &str = "
global: {scrape_interval: 1s}
scrape_configs:
- job_name: dns-a
  dns_sd_configs: [{names: [exporter.default.svc.cluster.local], type: A, port: 9100, refresh_interval: 1s}]
- job_name: dns-srv
  dns_sd_configs: [{names: [_metrics._tcp.exporter.default.svc.cluster.local], type: SRV, refresh_interval: 1s}]
";
const BY_API: &str = "
global: {scrape_interval: 1s}
scrape_configs:
- job_name: node
  kubernetes_sd_configs: [{role: node}]
  relabel_configs:
  - {source_labels: [__meta_kubernetes_node_address_InternalIP], target_label: __address__, replacement: '$1:9100'}
- job_name: pod
  kubernetes_sd_configs: [{role: pod}]
  relabel_configs:
  - {source_labels: [__meta_kubernetes_pod_label_app], regex: exporter, action: keep}
- job_name: endpoints
  kubernetes_sd_configs: [{role: endpoints}]
  relabel_configs:
  - {source_labels: [__meta_kubernetes_service_name], regex: exporter, action: keep}
- job_name: endpointslice
  kubernetes_sd_configs: [{role: endpointslice}]
  relabel_configs:
  - {source_labels: [__meta_kubernetes_service_name], regex: exporter, action: keep}
";

/// One who gathers metrics: how it is run and what it looks for.
struct Gatherer {
    name: &'static str,
    image: &'static str,
    command: &'static [&'static str],
    health: &'static str,
    port: u16,
    config: &'static str,
    jobs: &'static [&'static str],
}

const BY_NAME: Gatherer = Gatherer {
    name: "prometheus",
    image: PROMETHEUS,
    command: &[
        "/usr/bin/prometheus",
        "--config.file=/config/gather.yml",
        "--storage.tsdb.path=/tmp/data",
    ],
    health: "/-/ready",
    port: 9090,
    config: BY_DNS,
    jobs: &["dns-a", "dns-srv"],
};
const BY_OBJECT: Gatherer = Gatherer {
    name: "victoria",
    image: VICTORIA,
    command: &[
        "/usr/bin/victoria-metrics",
        "-promscrape.config=/config/gather.yml",
        "-storageDataPath=/tmp/data",
        "-promscrape.kubernetesSDCheckInterval=1s",
    ],
    health: "/health",
    port: 8428,
    config: BY_API,
    jobs: &["node", "pod", "endpoints", "endpointslice"],
};

const BY_OBJECT_ITSELF: Gatherer = Gatherer {
    config: BY_API,
    jobs: BY_OBJECT.jobs,
    ..BY_NAME
};

impl Gatherer {
    fn objects(&self) -> [Value; 2] {
        let name = self.name;
        [
            json!({
                "apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name},
                "data": {"gather.yml": self.config},
            }),
            json!({
                "apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "labels": {"app": name}},
                "spec": {
                    "nodeName": "node-1", "serviceAccountName": "gatherer", "terminationGracePeriodSeconds": 1,
                    "containers": [{
                        "name": "main", "image": self.image, "command": self.command,
                        "ports": [{"containerPort": self.port, "hostPort": self.port}],
                        "readinessProbe": {"httpGet": {"path": self.health, "port": self.port}, "periodSeconds": 1},
                        "volumeMounts": [{"name": "config", "mountPath": "/config"}],
                    }],
                    "volumes": [{"name": "config", "configMap": {"name": name}}],
                },
            }),
        ]
    }

    /// The targets that are up, by job.
    fn targets(&self, fleet: &Fleet) -> Result<BTreeMap<String, BTreeSet<String>>, String> {
        let address = SocketAddr::from((fleet.nodes()[0].machine.address(), self.port));
        let answer = get(address, "/api/v1/targets?state=active").map_err(|error| format!("{error:#}"))?;
        let answer: Value = serde_json::from_str(&answer).map_err(|error| format!("{error}: {answer}"))?;
        let mut found = BTreeMap::<String, BTreeSet<String>>::new();
        for target in answer["data"]["activeTargets"].as_array().into_iter().flatten() {
            if target["health"] != "up" {
                return Err(target.to_string());
            }
            let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
            let (job, url) = (text(&target["labels"]["job"]), text(&target["scrapeUrl"]));
            found.entry(job).or_default().insert(url);
        }
        Ok(found)
    }

    /// Waits until every job has exactly the exporters of the nodes that there are.
    fn finds(&self, fleet: &Fleet, pods: &BTreeMap<String, Pod>) -> Result<()> {
        let url = |host: &str| format!("http://{host}:9100/metrics");
        let by_pod: BTreeSet<String> = pods.values().map(|pod| url(&pod.address)).collect();
        let nodes = fleet
            .nodes()
            .iter()
            .filter(|node| pods.contains_key(node.machine.name()));
        let by_node: BTreeSet<String> = nodes
            .map(|node| url(&node.machine.address().to_string()))
            .collect();
        let what = format!("{} to have every exporter, and no other, by each way", self.name);
        wait_for(&what, || {
            let found = match self.targets(fleet) {
                Ok(found) => found,
                Err(seen) => return Ok(Err(seen)),
            };
            let right = self.jobs.iter().all(|job| match (found.get(*job), *job) {
                // Their targets are names.
                (Some(found), "dns-srv") => found.len() == pods.len(),
                (Some(found), "node") => *found == by_node,
                (Some(found), _) => *found == by_pod,
                (None, _) => false,
            });
            let seen = || format!("{found:#?}\nwant {by_pod:#?} {by_node:#?}");
            Ok(if right { Ok(()) } else { Err(seen()) })
        })
    }
}

/// What a gatherer may read, as Prometheus' own manifests say.
fn gatherer_rights() -> [Value; 3] {
    let name = "gatherer";
    let read = json!(["get", "list", "watch"]);
    [
        json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": name, "namespace": "default"}}),
        json!({
            "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRole", "metadata": {"name": name},
            "rules": [
                {"apiGroups": [""], "resources": ["nodes", "services", "endpoints", "pods"], "verbs": read},
                {"apiGroups": ["discovery.k8s.io"], "resources": ["endpointslices"], "verbs": read},
            ],
        }),
        json!({
            "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRoleBinding", "metadata": {"name": name},
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": name},
            "subjects": [{"kind": "ServiceAccount", "name": name, "namespace": "default"}],
        }),
    ]
}

/// The gatherer finds the exporters, also when a node has joined and when it has left.
fn follows_nodes(gatherer: &Gatherer, program: &Path) -> Result<()> {
    let Some(exporter) = package("prometheus-node-exporter") else {
        return Ok(());
    };
    let Some(mut fleet) = fleet(2, &[])? else {
        return Ok(());
    };
    import_exporter(&mut fleet, &exporter)?;
    let image = programs(fleet.topology().folder(), gatherer.image, &[program], &["sh"])?;
    fleet.import_on(1, &image)?;
    fleet.apply(&daemon(
        "exporter",
        EXPORTER,
        &exporter_command("--web.listen-address=:9100"),
        |spec| {
            spec["containers"][0]["ports"] =
                json!([{"name": "metrics", "containerPort": 9100, "hostPort": 9100}]);
            spec["containers"][0]["readinessProbe"] =
                json!({"httpGet": {"path": "/", "port": 9100}, "periodSeconds": 1});
        },
    ));
    fleet.apply(&headless("exporter", json!([{"name": "metrics", "port": 9100}])));
    for object in gatherer_rights().iter().chain(&gatherer.objects()) {
        fleet.apply(object);
    }
    let pods = fleet.running("exporter", 2)?;
    fleet.running(gatherer.name, 1)?;
    gatherer.finds(&fleet, &pods)?;

    fleet.join(&[])?;
    let pods = fleet.running("exporter", 3)?;
    gatherer.finds(&fleet, &pods)?;

    fleet.client().ok(&["delete", "node", "node-3"]);
    fleet.node(3).machine.kill()?;
    let pods = fleet.running("exporter", 2)?;
    gatherer.finds(&fleet, &pods)
}

#[test]
fn prometheus_finds_every_exporter_by_dns_and_follows_nodes() -> Result<()> {
    let Some(package) = package("prometheus") else {
        return Ok(());
    };
    follows_nodes(&BY_NAME, &package.file("/usr/bin/prometheus"))
}

#[test]
fn every_exporter_is_found_by_the_api_in_each_role_and_targets_follow_nodes() -> Result<()> {
    if let Some(prometheus) = std::env::var_os(ASKING) {
        return follows_nodes(&BY_OBJECT_ITSELF, Path::new(&prometheus));
    }
    let Some(package) = package("victoria-metrics") else {
        return Ok(());
    };
    follows_nodes(&BY_OBJECT, &package.file("/usr/bin/victoria-metrics"))
}

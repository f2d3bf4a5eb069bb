//! The ways to reach the daemons of a DaemonSet, with real daemons and real clients, over several machines.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::path::Path;

use anyhow::{Context, Result};
use serde_json::{Value, json};
use testkit::{Client, Fleet, Package, Pod, get, kubectls, programs, report, skip, wait_for};

use crate::{CURL, PAGE, fleet, page};

const EXPORTER: &str = "quay.io/prometheus/node-exporter:v1.5.0";
/// Debian's Prometheus is built without what asks the Kubernetes API; this one reads the same configuration, and asks it.
const VICTORIA: &str = "docker.io/victoriametrics/victoria-metrics:v1.79.5";
const PROMETHEUS: &str = "quay.io/prometheus/prometheus:v2.42.0";
const RSYSLOG: &str = "docker.io/rsyslog/rsyslog:8.2302";
const GLUSTERD: &str = "docker.io/gluster/glusterd:10.3";

/// A Debian package, or nothing, and that is said.
fn package(name: &str) -> Option<Package> {
    let found = Package::find(name);
    if found.is_none() {
        skip(&format!(
            "Debian's {name} is not here: `cargo xtask ci` unpacks it"
        ));
    }
    found
}

/// Imports the exporter of a machine's metrics.
fn import_exporter(fleet: &mut Fleet, package: &Package) -> Result<()> {
    let program = package.file("/usr/bin/prometheus-node-exporter");
    let image = programs(fleet.topology().folder(), EXPORTER, &[&program], &["sh"])?;
    fleet.import(&image)
}

/// A DaemonSet of one container on the network of its pods, with what `change` makes of its pod's specification.
fn daemon(name: &str, image: &str, command: &[&str], change: impl FnOnce(&mut Value)) -> Value {
    let labels = json!({"app": name});
    let mut spec = json!({
        "terminationGracePeriodSeconds": 1,
        "containers": [{"name": "main", "image": image, "command": command}],
    });
    change(&mut spec);
    json!({
        "apiVersion": "apps/v1", "kind": "DaemonSet", "metadata": {"name": name},
        "spec": {
            "selector": {"matchLabels": labels},
            "template": {"metadata": {"labels": labels}, "spec": spec},
        },
    })
}

/// A Service without an address of its own: its name stands for all of its pods.
fn headless(name: &str, ports: Value) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Service", "metadata": {"name": name},
        "spec": {"clusterIP": "None", "selector": {"app": name}, "ports": ports},
    })
}

fn exporter_command(listen: &str) -> [&str; 5] {
    [
        "/usr/bin/prometheus-node-exporter",
        "--collector.disable-defaults",
        "--collector.uname",
        "--collector.loadavg",
        listen,
    ]
}

/// The ready daemons of `app` are asked for `path` at their nodes' addresses; the answers by node.
fn at_nodes(fleet: &Fleet, port: u16, path: &str) -> Result<BTreeMap<String, String>> {
    let answers = fleet.nodes().iter().map(|node| {
        let name = node.machine.name();
        let address = SocketAddr::from((node.machine.address(), port));
        let answer = get(address, path).with_context(|| format!("ask {name}"))?;
        Ok((name.to_owned(), answer))
    });
    answers.collect()
}

#[test]
fn an_exporter_on_every_node_answers_at_the_nodes_address_and_a_known_port() -> Result<()> {
    let Some(package) = package("prometheus-node-exporter") else {
        return Ok(());
    };
    let Some(mut fleet) = fleet(3, &[])? else {
        return Ok(());
    };
    import_exporter(&mut fleet, &package)?;
    fleet.apply(&daemon(
        "exporter",
        EXPORTER,
        &exporter_command("--web.listen-address=:9100"),
        |spec| {
            spec["containers"][0]["ports"] = json!([{"containerPort": 9100, "hostPort": 9100}]);
            spec["containers"][0]["readinessProbe"] =
                json!({"httpGet": {"path": "/", "port": 9100}, "periodSeconds": 1});
        },
    ));
    // The same on the nodes' own network, which is how exporters are mostly run: they see the node as it is.
    fleet.apply(&daemon(
        "host-exporter",
        EXPORTER,
        &exporter_command("--web.listen-address=:9101"),
        |spec| {
            spec["hostNetwork"] = true.into();
            spec["hostPID"] = true.into();
            spec["containers"][0]["readinessProbe"] =
                json!({"httpGet": {"path": "/", "port": 9101}, "periodSeconds": 1});
        },
    ));
    let pods = fleet.running("exporter", 3)?;
    fleet.running("host-exporter", 3)?;
    for (node, metrics) in at_nodes(&fleet, 9100, "/metrics")? {
        let own = format!("nodename=\"{}\"", pods[&node].name);
        assert!(metrics.contains(&own), "{node}: {metrics}");
    }
    for (node, metrics) in at_nodes(&fleet, 9101, "/metrics")? {
        let own = format!("nodename=\"{node}\"");
        assert!(metrics.contains(&own), "{node}: {metrics}");
    }
    // Pods reach the nodes' ports as well.
    let client = fleet.client();
    for node in [&fleet.nodes()[0], &fleet.nodes()[2]] {
        let url = format!("http://{}:9100/metrics", node.machine.address());
        let said = client.ok(&["exec", &pods["node-2"].name, "--", "wget", "-q", "-O", "-", &url]);
        assert!(said.contains(&pods[node.machine.name()].name), "{url}");
    }
    Ok(())
}

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
fn follows_nodes(gatherer: &Gatherer, program: &std::path::Path) -> Result<()> {
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
    let Some(package) = package("victoria-metrics") else {
        return Ok(());
    };
    follows_nodes(&BY_OBJECT, &package.file("/usr/bin/victoria-metrics"))
}

/// Reads a file of the node and sends each line, with the node's name before it.
const COLLECTOR_CONF: &str = r#"
global(workDirectory="/tmp")
module(load="imfile")
template(name="line" type="string" string="%$.node% %msg%")
input(type="imfile" File="/var/log/app.log" Tag="app:" reopenOnTruncate="on")
set $.node = getenv("NODE_NAME");
action(type="omfwd" target="central.default.svc.cluster.local" port="514" protocol="tcp" template="line"
       action.resumeRetryCount="-1" action.resumeInterval="1")
"#;
/// Writes what comes as it comes.
const CENTRAL_CONF: &str = r#"
global(workDirectory="/tmp")
module(load="imtcp")
template(name="raw" type="string" string="%rawmsg%\n")
input(type="imtcp" port="514")
action(type="omfile" file="/out/all.log" template="raw")
"#;

#[test]
fn log_collectors_on_every_node_push_to_a_central_one() -> Result<()> {
    let Some(package) = package("rsyslog") else {
        return Ok(());
    };
    let Some(mut fleet) = fleet(3, &[])? else {
        return Ok(());
    };
    let files = [
        ("/etc/collector.conf", COLLECTOR_CONF),
        ("/etc/central.conf", CENTRAL_CONF),
    ];
    let image = package.image(fleet.topology().folder(), RSYSLOG, &["sh"], &files)?;
    fleet.import(&image)?;
    let command = |conf: &'static str| ["/usr/sbin/rsyslogd", "-n", "-iNONE", "-f", conf];
    fleet.apply(&headless("central", json!([{"name": "syslog", "port": 514}])));
    fleet.apply(&json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": {"name": "central", "labels": {"app": "central"}},
        "spec": {
            "nodeName": "node-1", "terminationGracePeriodSeconds": 1,
            "containers": [{
                "name": "main", "image": RSYSLOG, "command": command("/etc/central.conf"),
                "readinessProbe": {"tcpSocket": {"port": 514}, "periodSeconds": 1},
                "volumeMounts": [{"name": "out", "mountPath": "/out"}],
            }],
            "volumes": [{"name": "out", "hostPath": {"path": "/var/log/central", "type": "DirectoryOrCreate"}}],
        },
    }));
    fleet.running("central", 1)?;
    fleet.apply(&daemon(
        "collector",
        RSYSLOG,
        &command("/etc/collector.conf"),
        |spec| {
            let main = &mut spec["containers"][0];
            main["env"] =
                json!([{"name": "NODE_NAME", "valueFrom": {"fieldRef": {"fieldPath": "spec.nodeName"}}}]);
            main["volumeMounts"] = json!([{"name": "varlog", "mountPath": "/var/log", "readOnly": true}]);
            spec["volumes"] = json!([{"name": "varlog", "hostPath": {"path": "/var/log"}}]);
        },
    ));
    fleet.running("collector", 3)?;
    let mut expected = BTreeSet::new();
    for node in fleet.nodes() {
        let name = node.machine.name();
        std::fs::write(node.machine.file("/var/log/app.log"), format!("said by {name}\n"))?;
        expected.insert(format!("{name} said by {name}"));
    }
    let out = fleet.nodes()[0].machine.file("/var/log/central/all.log");
    wait_for("the central collector to have every node's line", || {
        let text = std::fs::read_to_string(&out).unwrap_or_default();
        let lines: BTreeSet<String> = text.lines().map(str::to_owned).collect();
        Ok(if lines == expected {
            Ok(())
        } else {
            Err(format!("{lines:#?}"))
        })
    })
}

#[test]
fn one_kind_of_daemon_has_its_flags_and_requests_for_each_kind_of_hardware() -> Result<()> {
    let Some(package) = package("prometheus-node-exporter") else {
        return Ok(());
    };
    let Some(mut fleet) = fleet(3, &[])? else {
        return Ok(());
    };
    import_exporter(&mut fleet, &package)?;
    let client = fleet.client();
    for (node, disk) in [("node-1", "hdd"), ("node-2", "ssd"), ("node-3", "ssd")] {
        client.ok(&["label", "node", node, &format!("disk={disk}")]);
    }
    for (disk, collector, memory) in [
        ("hdd", "--collector.loadavg", "32Mi"),
        ("ssd", "--collector.uname", "64Mi"),
    ] {
        let command = [
            "/usr/bin/prometheus-node-exporter",
            "--collector.disable-defaults",
            collector,
            "--web.listen-address=:9100",
        ];
        fleet.apply(&daemon(&format!("exporter-{disk}"), EXPORTER, &command, |spec| {
            spec["nodeSelector"] = json!({"disk": disk});
            let main = &mut spec["containers"][0];
            main["resources"] = json!({"requests": {"memory": memory}, "limits": {"memory": memory}});
            main["ports"] = json!([{"containerPort": 9100, "hostPort": 9100}]);
            main["readinessProbe"] = json!({"httpGet": {"path": "/", "port": 9100}, "periodSeconds": 1});
        }));
    }
    fleet.running("exporter-hdd", 1)?;
    fleet.running("exporter-ssd", 2)?;
    for (node, metrics) in at_nodes(&fleet, 9100, "/metrics")? {
        let (load, uname) = (
            metrics.contains("node_load1 "),
            metrics.contains("node_uname_info"),
        );
        assert_eq!(
            (load, uname),
            (node == "node-1", node != "node-1"),
            "{node}: {metrics}"
        );
    }
    // A disk is replaced: the node's daemon is replaced by the one for it.
    client.ok(&["label", "node", "node-1", "disk=ssd", "--overwrite"]);
    let pods = fleet.running("exporter-ssd", 3)?;
    fleet.running("exporter-hdd", 0)?;
    let limit = client.ok(&[
        "exec",
        &pods["node-1"].name,
        "--",
        "sh",
        "-c",
        "cat /sys/fs/cgroup/memory/memory.limit_in_bytes 2> /dev/null || cat /sys/fs/cgroup/memory.max",
    ]);
    assert_eq!(limit.trim(), (64 << 20).to_string());
    Ok(())
}

#[test]
fn glusterd_on_two_nodes_keeps_a_replicated_volume() -> Result<()> {
    let Some(package) = package("glusterfs-server") else {
        return Ok(());
    };
    let Some(mut fleet) = fleet(3, &[])? else {
        return Ok(());
    };
    let image = package.image(fleet.topology().folder(), GLUSTERD, &["sh"], &[])?;
    fleet.import(&image)?;
    for node in ["node-2", "node-3"] {
        fleet.client().ok(&["label", "node", node, "storage=glusterfs"]);
    }
    // Replication to far places wants Python; without its helper, glusterd does without it.
    let script = "rm -f /usr/lib/*/glusterfs/gsyncd; mkdir -p /var/log/glusterfs /run/gluster; \
                  exec /usr/sbin/glusterd -N -l /var/log/glusterfs/glusterd.log";
    fleet.apply(&daemon("glusterd", GLUSTERD, &["sh", "-c", script], |spec| {
        spec["nodeSelector"] = json!({"storage": "glusterfs"});
        spec["hostNetwork"] = true.into();
        let main = &mut spec["containers"][0];
        main["securityContext"] = json!({"privileged": true});
        main["readinessProbe"] = json!({"tcpSocket": {"port": 24007}, "periodSeconds": 1});
        main["volumeMounts"] = json!([
            {"name": "brick", "mountPath": "/brick"}, {"name": "state", "mountPath": "/var/lib/glusterd"},
        ]);
        spec["volumes"] = json!([
            {"name": "brick", "hostPath": {"path": "/var/lib/brick", "type": "DirectoryOrCreate"}},
            {"name": "state", "hostPath": {"path": "/var/lib/glusterd", "type": "DirectoryOrCreate"}},
        ]);
    }));
    let pods = fleet.running("glusterd", 2)?;
    let client = fleet.client();
    let gluster = |script: &str| client.run(&["exec", &pods["node-2"].name, "--", "sh", "-c", script]);
    let (first, second) = (fleet.node(2).machine.address(), fleet.node(3).machine.address());
    let probed = gluster(&format!("gluster peer probe {second}"));
    assert!(probed.success, "{}{}", probed.stdout, probed.stderr);
    wait_for("the two to be peers", || {
        let peers = gluster("gluster peer status").stdout;
        Ok(if peers.contains("Peer in Cluster (Connected)") {
            Ok(())
        } else {
            Err(peers)
        })
    })?;
    let made = gluster(&format!(
        "gluster --mode=script volume create files replica 2 {first}:/brick/files {second}:/brick/files force \
         && gluster --mode=script volume start files"
    ));
    assert!(made.success, "{}{}", made.stdout, made.stderr);
    let written = wait_for("the volume to be mounted and written", || {
        let done = gluster(&format!(
            "mkdir -p /mnt && (grep -q ' /mnt ' /proc/mounts || glusterfs -s {first} --volfile-id=files /mnt) && echo kept > /mnt/file && cat /mnt/file"
        ));
        Ok(if done.success {
            Ok(done.stdout)
        } else {
            Err(format!("{}{}", done.stdout, done.stderr))
        })
    })?;
    assert_eq!(written, "kept\n");
    // Each node's own disk has it.
    for node in &fleet.nodes()[1..] {
        let copy = node.machine.file("/var/lib/brick/files/file");
        wait_for("the copy of the file", || {
            Ok(std::fs::read_to_string(&copy).map_err(|error| error.to_string()))
        })?;
        assert_eq!(
            std::fs::read_to_string(&copy)?,
            "kept\n",
            "{}",
            node.machine.name()
        );
    }
    Ok(())
}

#[test]
fn a_client_of_the_service_meets_every_nodes_daemon() -> Result<()> {
    let Some(mut fleet) = fleet(3, &[])? else {
        return Ok(());
    };
    fleet.apply(&page(|_| {}));
    let service = json!({
        "apiVersion": "v1", "kind": "Service", "metadata": {"name": "page"},
        "spec": {"selector": {"app": "page"}, "ports": [{"port": 80, "targetPort": 8080}]},
    });
    fleet.apply(&service);
    let pods = fleet.running("page", 3)?;
    fleet.apply(&json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": {"name": "client", "labels": {"app": "client"}},
        "spec": {"nodeName": "node-2", "containers": [{"name": "main", "image": PAGE, "command": ["sleep", "1000"]}]},
    }));
    fleet.running("client", 1)?;
    let client = fleet.client();
    let all: BTreeSet<String> = pods.values().map(|pod| pod.name.clone()).collect();
    let script = "for n in $(seq 60); do timeout 2 wget -q -O - http://$PAGE_SERVICE_HOST/ || exit 1; done";
    let met = wait_for("a connection to each daemon by way of the Service", || {
        let said = client.run(&["exec", "client", "--", "sh", "-c", script]);
        let mut met = BTreeMap::<String, u32>::new();
        for line in said.stdout.lines() {
            *met.entry(line.to_owned()).or_default() += 1;
        }
        let every = said.success && met.keys().cloned().collect::<BTreeSet<_>>() == all;
        Ok(if every {
            Ok(met)
        } else {
            Err(format!("{met:?} {}", said.stderr))
        })
    })?;
    report(&format!("60 connections to the Service met {met:?}"));
    Ok(())
}

#[test]
fn the_daemon_of_a_chosen_node_answers_by_its_name_and_by_its_path_also_after_an_update() -> Result<()> {
    let Some(mut fleet) = fleet(3, &[])? else {
        return Ok(());
    };
    let curl = Path::new("/usr/bin/curl");
    let image = programs(fleet.topology().folder(), CURL, &[curl], &["sh"])?;
    fleet.import_on(1, &image)?;
    fleet.apply(&headless("page", json!([{"name": "http", "port": 8080}])));
    fleet.apply(&json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": {"name": "client", "labels": {"app": "client"}},
        "spec": {"nodeName": "node-1", "terminationGracePeriodSeconds": 0, "containers": [
            {"name": "main", "image": CURL, "command": ["sleep", "1000"]},
        ]},
    }));
    let set = |version: &str| {
        page(|set| {
            set["spec"]["template"]["spec"]["containers"][0]["env"] =
                json!([{"name": "VERSION", "value": version}]);
        })
    };
    fleet.apply(&set("old"));
    fleet.running("client", 1)?;
    let before = fleet.running("page", 3)?;
    each_node_answers(&fleet, &before)?;

    fleet.apply(&set("new"));
    fleet.client().ok(&["rollout", "status", "ds/page"]);
    let after = fleet.running("page", 3)?;
    for (node, pod) in &after {
        assert_ne!(pod.name, before[node].name, "{node}");
    }
    each_node_answers(&fleet, &after)
}

/// Asks each node's daemon by the node's name below the Service's, from a pod on `node-1`, and by its path in the API, with every client.
fn each_node_answers(fleet: &Fleet, pods: &BTreeMap<String, Pod>) -> Result<()> {
    let client = fleet.client();
    let mut clients = vec![fleet.client()];
    let kubectls = kubectls();
    clients.extend(
        kubectls
            .iter()
            .map(|kubectl| Client::new(kubectl, &fleet.kubeconfig())),
    );
    for (node, pod) in pods {
        let url = format!("http://{node}.page.default.svc.cluster.local:8080/");
        wait_for(&format!("{url} to be {}", pod.name), || {
            let said = client.run(&[
                "exec",
                "client",
                "--",
                "curl",
                "-s",
                "-f",
                "--max-time",
                "2",
                &url,
            ]);
            Ok(if said.stdout.trim() == pod.name {
                Ok(())
            } else {
                Err(format!("{}{}", said.stdout, said.stderr))
            })
        })?;
        let path = format!("/apis/apps/v1/namespaces/default/daemonsets/page:8080/nodes/{node}/proxy/");
        for client in &clients {
            assert_eq!(client.ok(&["get", "--raw", &path]).trim(), pod.name, "{path}");
        }
    }
    Ok(())
}

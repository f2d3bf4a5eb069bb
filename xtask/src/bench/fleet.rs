//! `cargo xtask bench fleet --nodes N`: measures what N simulated nodes cost the control plane, in
//! phases.

use std::fs;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use serde_json::Value;

use super::process::Measured;
use crate::command::{built, run as run_program};

/// Nodes that join and leave again while the others stay.
const GUESTS: u32 = 100;
/// Timeout of a phase.
const PATIENCE: Duration = Duration::from_secs(900);
/// Time between two reads of a count that cannot be watched.
const LOOK_EVERY: Duration = Duration::from_millis(20);

const MANIFEST: &str = r#"
apiVersion: apps/v1
kind: DaemonSet
metadata:
  name: fluentd-elasticsearch
  namespace: kube-system
  labels: {k8s-app: fluentd-logging}
spec:
  selector: {matchLabels: {name: fluentd-elasticsearch}}
  updateStrategy: {rollingUpdate: {maxUnavailable: 10%}}
  template:
    metadata: {labels: {name: fluentd-elasticsearch}}
    spec:
      tolerations:
      - {key: node-role.kubernetes.io/master, effect: NoSchedule}
      containers:
      - name: fluentd-elasticsearch
        image: quay.io/fluentd_elasticsearch/fluentd:v2.5.2
        resources: {limits: {memory: 200Mi}, requests: {cpu: 100m, memory: 200Mi}}
        volumeMounts:
        - {name: varlog, mountPath: /var/log}
        - {name: varlibdockercontainers, mountPath: /var/lib/docker/containers, readOnly: true}
      terminationGracePeriodSeconds: 30
      volumes:
      - {name: varlog, hostPath: {path: /var/log}}
      - {name: varlibdockercontainers, hostPath: {path: /var/lib/docker/containers}}
"#;

/// Builds the release binary, runs all phases and prints a table.
pub(super) fn run(nodes: u32) -> Result<()> {
    run_program("cargo", &["build", "--release", "--package", "everynode"])?;
    let folder = std::env::temp_dir().join(format!("everynode-bench-{}", std::process::id()));
    fs::create_dir_all(&folder).with_context(|| format!("create {}", folder.display()))?;
    let result = Bench::start(&folder).and_then(|mut bench| bench.phases(nodes));
    if result.is_err() {
        eprintln!("the logs are in {}", folder.display());
        return result;
    }
    fs::remove_dir_all(&folder).with_context(|| format!("remove {}", folder.display()))
}

struct Bench {
    server: Measured,
    folder: PathBuf,
    kubeconfig: PathBuf,
    simulators: Vec<Simulator>,
}

/// A process that simulates nodes; killed when dropped.
struct Simulator(Child);

impl Drop for Simulator {
    fn drop(&mut self) {
        if let Err(error) = self.0.kill().and_then(|()| self.0.wait()) {
            eprintln!("warning: end the simulator: {error}");
        }
    }
}

impl Bench {
    fn start(folder: &Path) -> Result<Self> {
        let port = TcpListener::bind("127.0.0.1:0")
            .and_then(|socket| socket.local_addr())
            .context("find a port")?
            .port();
        let data = folder.join("data");
        let mut command = Command::new(built("release", "everynode"));
        command
            .arg("server")
            .arg("--data-dir")
            .arg(&data)
            .args(["--listen", &format!("127.0.0.1:{port}")]);
        let started = Instant::now();
        let server = Measured::start(command, &folder.join("server.log"))?;
        let bench = Self {
            server,
            folder: folder.to_owned(),
            kubeconfig: data.join("admin.kubeconfig"),
            simulators: Vec::new(),
        };
        bench.wait("the server to answer", || {
            Ok(bench.kubeconfig.exists() && bench.verb(&["get", "--raw", "/readyz"]).is_ok())
        })?;
        println!(
            "server ready after {:.0} ms (the client's own start included)",
            started.elapsed().as_secs_f64() * 1e3
        );
        println!(
            "idle, no node: {:.0} MiB resident",
            bench.server.memory_mib("VmRSS")?
        );
        Ok(bench)
    }

    fn phases(&mut self, nodes: u32) -> Result<()> {
        println!(
            "\n| phase | seconds | processor s | peak MiB | pods | processor µs a pod |\n|---|---|---|---|---|---|"
        );
        self.phase("nodes register", nodes, |bench| {
            bench.simulate(nodes, "node", "10.0.0.0/8")?;
            bench.wait_for_count("/api/v1/nodes", nodes)
        })?;
        let manifest = self.folder.join("daemonset.yaml");
        fs::write(&manifest, MANIFEST).context("write the manifest")?;
        let manifest = manifest.display().to_string();
        self.phase("created until all Ready", nodes, |bench| {
            bench.verb(&["create", "-f", &manifest])?;
            bench.wait_for_status(nodes)
        })?;
        self.phase("rolling update, 10% at a time", nodes, |bench| {
            bench.verb(&[
                "rollout",
                "restart",
                "-n",
                "kube-system",
                "ds/fluentd-elasticsearch",
            ])?;
            bench.wait_for_status(nodes)
        })?;
        self.phase(&format!("{GUESTS} nodes join, until Ready"), GUESTS, |bench| {
            bench.simulate(GUESTS, "guest", "172.16.0.0/12")?;
            bench.wait_for_status(nodes + GUESTS)
        })?;
        // Stop the simulator of these nodes first. A live node would register again after its
        // deletion.
        self.simulators.pop();
        let guests: Vec<String> = (0..GUESTS).map(|index| format!("guest-{index}")).collect();
        self.phase(
            &format!("{GUESTS} nodes leave, until their pods are gone"),
            GUESTS,
            |bench| {
                let mut words = vec!["delete", "--wait=false", "nodes"];
                words.extend(guests.iter().map(String::as_str));
                bench.verb(&words)?;
                bench.wait_for_count("/api/v1/namespaces/kube-system/pods", nodes)
            },
        )?;
        self.phase("deleted until gone", nodes, |bench| {
            bench.verb(&["delete", "-n", "kube-system", "ds", "fluentd-elasticsearch"])?;
            bench.wait_for_count("/api/v1/namespaces/kube-system/pods", 0)
        })
    }

    fn phase(&mut self, name: &str, pods: u32, work: impl FnOnce(&mut Self) -> Result<()>) -> Result<()> {
        let (started, before) = (Instant::now(), self.server.processor_seconds()?);
        work(self).with_context(|| name.to_owned())?;
        let (wall, processor) = (
            started.elapsed().as_secs_f64(),
            self.server.processor_seconds()? - before,
        );
        let peak = self.server.memory_mib("VmHWM")?;
        println!(
            "| {name} | {wall:.2} | {processor:.2} | {peak:.0} | {pods} | {:.0} |",
            processor * 1e6 / f64::from(pods.max(1))
        );
        Ok(())
    }

    fn simulate(&mut self, nodes: u32, prefix: &str, range: &str) -> Result<()> {
        let log =
            fs::File::create(self.folder.join(format!("simulate-{prefix}.log"))).context("create a log")?;
        let child = Command::new(built("release", "everynode"))
            .args([
                "simulate",
                "--nodes",
                &nodes.to_string(),
                "--prefix",
                prefix,
                // The default ranges of the server are enough for 65,536 nodes.
                "--pod-cidr",
                range,
                "--kubeconfig",
            ])
            .arg(&self.kubeconfig)
            .stdin(Stdio::null())
            .stdout(log.try_clone().context("share the log")?)
            .stderr(log)
            .spawn()
            .context("start the simulator")?;
        self.simulators.push(Simulator(child));
        Ok(())
    }

    /// Runs a client verb and returns its output.
    fn verb(&self, words: &[&str]) -> Result<String> {
        let output = Command::new(built("release", "everynode"))
            .args(words)
            .arg("--kubeconfig")
            .arg(&self.kubeconfig)
            .stdin(Stdio::null())
            .output()
            .context("start the client")?;
        if !output.status.success() {
            bail!(
                "everynode {}: {}",
                words.join(" "),
                String::from_utf8_lossy(&output.stderr).trim()
            );
        }
        String::from_utf8(output.stdout).context("read what the client printed")
    }

    fn wait(&self, what: &str, mut done: impl FnMut() -> Result<bool>) -> Result<()> {
        let started = Instant::now();
        while !done()? {
            if started.elapsed() > PATIENCE {
                bail!("waited {PATIENCE:?} for {what}");
            }
            std::thread::sleep(LOOK_EVERY);
        }
        Ok(())
    }

    /// Waits until the collection at `path` has `wanted` objects.
    fn wait_for_count(&self, path: &str, wanted: u32) -> Result<()> {
        let query = format!("{path}?limit=1");
        self.wait(&format!("{wanted} objects in {path}"), || {
            let list: Value =
                serde_json::from_str(&self.verb(&["get", "--raw", &query])?).context("read a list")?;
            let here = list["items"].as_array().map_or(0, Vec::len) as u64;
            Ok(here + list["metadata"]["remainingItemCount"].as_u64().unwrap_or(0) == u64::from(wanted))
        })
    }

    /// Watches the DaemonSet until its status has `wanted` nodes with the newest template.
    fn wait_for_status(&self, wanted: u32) -> Result<()> {
        let mut watch = Command::new(built("release", "everynode"))
            .args([
                "get",
                "ds",
                "fluentd-elasticsearch",
                "-n",
                "kube-system",
                "-w",
                "-o",
                "json",
                "--kubeconfig",
            ])
            .arg(&self.kubeconfig)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .context("start a watch")?;
        let stream = watch.stdout.take().context("read the watch")?;
        let objects =
            serde_json::Deserializer::from_reader(std::io::BufReader::new(stream)).into_iter::<Value>();
        let mut reached = false;
        for object in objects {
            if settled(&object.context("read the watch")?, wanted) {
                reached = true;
                break;
            }
        }
        watch
            .kill()
            .and_then(|()| watch.wait())
            .context("end the watch")?;
        if !reached {
            bail!("the watch ended before {wanted} pods were available");
        }
        Ok(())
    }
}

fn settled(daemon_set: &Value, wanted: u32) -> bool {
    let status = &daemon_set["status"];
    let all = |field: &str| status[field].as_u64() == Some(u64::from(wanted));
    status["observedGeneration"] == daemon_set["metadata"]["generation"]
        && [
            "desiredNumberScheduled",
            "updatedNumberScheduled",
            "numberReady",
            "numberAvailable",
        ]
        .into_iter()
        .all(all)
}

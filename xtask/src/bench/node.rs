//! `cargo xtask bench node`: measures start-up, memory and time to Ready of one machine with real
//! containers.

use std::fs;
use std::net::TcpListener;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use serde_json::{Value, json};

use super::process::{Measured, memory_mib};
use crate::command::{built, output, run as run_program};

const ROUNDS: usize = 10;
const PATIENCE: Duration = Duration::from_secs(60);
/// DaemonSet of the demo. Its image contains the binary itself.
const DAEMON: &str = "everynode-demo";

/// Builds the release binary and prints minimum, median and maximum of each number.
pub(super) fn run() -> Result<()> {
    run_program("cargo", &["build", "--release", "--package", "everynode"])?;
    let binary = built("release", "everynode");
    let size = fs::metadata(&binary).context("look at the binary")?.len();
    println!("binary: {:.1} MB", size as f64 / 1e6);
    let folder = std::env::temp_dir().join(format!("everynode-bench-{}", std::process::id()));
    fs::create_dir_all(&folder).with_context(|| format!("create {}", folder.display()))?;
    let measured = measure(&folder);
    let cleaned = fs::remove_dir_all(&folder).with_context(|| format!("remove {}", folder.display()));
    measured.and(cleaned)
}

fn measure(folder: &Path) -> Result<()> {
    let mut answering = Vec::new();
    for round in 0..ROUNDS {
        let (mut server, started, port) = start(folder, "server", &format!("server-{round}"), &[])?;
        wait("an answer", || Ok(answers(port)))?;
        answering.push(started.elapsed().as_secs_f64() * 1e3);
        if round + 1 == ROUNDS {
            println!(
                "server idle, no node: {:.1} MiB resident",
                server.memory_mib("VmRSS")?
            );
        }
        server.stop()?;
    }
    report("start of the process until /readyz answers", "ms", &mut answering);

    let (mut up, _, _) = start(folder, "up", "up", &["--demo"])?;
    let kubeconfig = folder.join("up").join("admin.kubeconfig").display().to_string();
    let binary = built("release", "everynode").display().to_string();
    let verb = |words: &[&str]| {
        let mut args = words.to_vec();
        args.extend(["--kubeconfig", &kubeconfig]);
        output(&binary, &args)
    };
    let ready = || Ok(verb(&["get", "pods", "-A", "--no-headers"]).is_ok_and(|pods| pods.contains("1/1")));
    wait("the demo's pod", ready)?;
    let shims = output(
        "pgrep",
        &["--full", &format!("shim {}", folder.join("up").display())],
    )
    .unwrap_or_default();
    let shim_memory: f64 = shims
        .lines()
        .filter_map(|pid| memory_mib(pid.parse().ok()?, "VmRSS").ok())
        .sum();
    println!(
        "up with one daemon: {:.1} MiB resident, its shims {shim_memory:.1} MiB",
        up.memory_mib("VmRSS")?
    );

    let manifest = folder.join("daemon.json");
    let mut running: Value = serde_json::from_str(&verb(&["get", "ds", DAEMON, "-o", "json"])?)
        .context("read the demo's DaemonSet")?;
    // Without the readiness probe, which runs once a second and would dominate the result.
    if let Some(container) = running["spec"]["template"]["spec"]["containers"][0].as_object_mut() {
        container.remove("readinessProbe");
    }
    let daemon = json!({"apiVersion": "apps/v1", "kind": "DaemonSet", "metadata": {"name": DAEMON}, "spec": running["spec"]});
    fs::write(&manifest, daemon.to_string()).context("keep the manifest")?;
    let manifest = manifest.display().to_string();
    let (mut until_ready, mut until_gone) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        let started = Instant::now();
        verb(&["delete", "ds", DAEMON, "--cascade=foreground"])?;
        until_gone.push(started.elapsed().as_secs_f64() * 1e3);
        let started = Instant::now();
        verb(&["create", "-f", &manifest])?;
        verb(&["rollout", "status", &format!("ds/{DAEMON}")])?;
        until_ready.push(started.elapsed().as_secs_f64() * 1e3);
    }
    report(
        "create until Ready (two client processes included)",
        "ms",
        &mut until_ready,
    );
    report(
        "delete until gone (a client process included)",
        "ms",
        &mut until_gone,
    );
    up.stop()
}

fn start(folder: &Path, role: &str, name: &str, extra: &[&str]) -> Result<(Measured, Instant, u16)> {
    let port = TcpListener::bind("127.0.0.1:0")
        .and_then(|socket| socket.local_addr())
        .context("find a port")?
        .port();
    let mut command = Command::new(built("release", "everynode"));
    command
        .arg(role)
        .arg("--data-dir")
        .arg(folder.join(name))
        .args(["--listen", &format!("127.0.0.1:{port}")])
        .args(extra)
        .env("EVERYNODE_POD_LOGS_DIR", folder.join("var/log/pods"))
        .env("EVERYNODE_ROOT_DIR", folder.join("var/lib/kubelet"));
    let started = Instant::now();
    Ok((
        Measured::start(command, &folder.join(format!("{name}.log")))?,
        started,
        port,
    ))
}

fn answers(port: u16) -> bool {
    let url = format!("https://127.0.0.1:{port}/readyz");
    output(
        "curl",
        &["--silent", "--insecure", "--fail", "--max-time", "1", &url],
    )
    .is_ok()
}

fn wait(what: &str, mut done: impl FnMut() -> Result<bool>) -> Result<()> {
    let started = Instant::now();
    while !done()? {
        if started.elapsed() > PATIENCE {
            bail!("waited {PATIENCE:?} for {what}");
        }
        std::thread::sleep(Duration::from_millis(2));
    }
    Ok(())
}

fn report(what: &str, unit: &str, figures: &mut [f64]) {
    figures.sort_by(f64::total_cmp);
    let (Some(least), Some(most)) = (figures.first(), figures.last()) else {
        return;
    };
    println!(
        "{what}: {least:.0} / {:.0} / {most:.0} {unit} (least, median, most of {})",
        figures[figures.len() / 2],
        figures.len()
    );
}

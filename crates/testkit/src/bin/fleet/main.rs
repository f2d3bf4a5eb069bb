//! `cargo xtask fleet`: a cluster on several simulated machines of this computer, for experiments.

#![allow(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a tool's output is what it prints"
)]

mod picture;
mod scene;

use std::io::{IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::mpsc::{Receiver, RecvTimeoutError, sync_channel};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use serde_json::{Value, json};
use testkit::{Api, Fleet, scratch};

use scene::Scene;

const HELP: &str = "usage: fleet BINARY [--nodes N]";
const NODES: usize = 3;
/// A machine needs about 40 MiB; all are on one link.
const MOST_NODES: usize = 20;
/// Time between two reads of the cluster.
const LOOK_EVERY: Duration = Duration::from_millis(500);
/// Image of the daemons: it contains the binary itself, which can serve a page.
const IMAGE: &str = "everynode.local/page:1";

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let nodes = match words.as_slice() {
        [_] => Some(NODES),
        [_, "--nodes", count] => count
            .parse()
            .ok()
            .filter(|count| (1..=MOST_NODES).contains(count)),
        _ => None,
    };
    let (Some(nodes), Some(binary)) = (nodes, words.first()) else {
        eprintln!("{HELP}, N from 1 to {MOST_NODES}");
        return ExitCode::from(2);
    };
    match run(Path::new(binary), nodes) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(binary: &Path, nodes: usize) -> Result<()> {
    if !testkit::is_root() {
        bail!("machines and containers need root");
    }
    eprintln!("starting {nodes} machines and joining them");
    let mut fleet = Fleet::start(binary, nodes, &[])?;
    let folder = fleet.topology().folder().to_owned();
    let image = scratch(&folder, IMAGE, binary, &["demo-page"])?;
    fleet.import(&image)?;
    apply_daemons(&fleet)?;
    eprintln!("waiting for the daemons");
    fleet.running("page", nodes)?;
    show(&fleet, binary, &interrupts()?)?;
    eprintln!("\nturning the machines off");
    drop(fleet);
    eprintln!("nothing of them is left on this machine");
    Ok(())
}

/// Returns a channel that Ctrl-C and SIGTERM disconnect. Before this call, these signals end the
/// process at once, and with it the machines.
fn interrupts() -> Result<Receiver<()>> {
    use tokio::signal::unix::{SignalKind, signal};
    let (interrupt_seen, interrupted) = sync_channel(1);
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("listen for signals")?;
    let (mut interrupt, mut terminate) = {
        let _inside = runtime.enter();
        let listen = |kind| signal(kind).context("listen for signals");
        (listen(SignalKind::interrupt())?, listen(SignalKind::terminate())?)
    };
    std::thread::spawn(move || {
        runtime.block_on(async {
            tokio::select! {
                _ = interrupt.recv() => {}
                _ = terminate.recv() => {}
            }
        });
        drop(interrupt_seen);
    });
    Ok(interrupted)
}

/// Creates a daemon for every node, and one for nodes with a fast disk.
fn apply_daemons(fleet: &Fleet) -> Result<()> {
    let client = fleet.client();
    for node in fleet.nodes().iter().skip(1) {
        client.ok(&["label", "node", node.machine.name(), "disk=ssd"]);
    }
    fleet.apply(&daemon("page", 8080, &json!({})));
    fleet.apply(&daemon("cache", 8081, &json!({"disk": "ssd"})));
    Ok(())
}

fn daemon(name: &str, port: u16, nodes: &Value) -> Value {
    let labels = json!({"app": name});
    json!({
        "apiVersion": "apps/v1", "kind": "DaemonSet", "metadata": {"name": name, "namespace": "default"},
        "spec": {
            "selector": {"matchLabels": labels},
            "template": {"metadata": {"labels": labels}, "spec": {
                "nodeSelector": nodes,
                "terminationGracePeriodSeconds": 2,
                "containers": [{
                    "name": "page", "image": IMAGE,
                    "env": [{"name": "NODE_NAME", "valueFrom": {"fieldRef": {"fieldPath": "spec.nodeName"}}}],
                    "ports": [{"containerPort": 8080, "hostPort": port}],
                    "readinessProbe": {"httpGet": {"path": "/", "port": 8080}, "periodSeconds": 1},
                }],
            }},
        },
    })
}

/// Prints the cluster after each change, until the user interrupts.
fn show(fleet: &Fleet, binary: &Path, interrupted: &Receiver<()>) -> Result<()> {
    let api = Api::connect(&fleet.kubeconfig())?;
    let hints = hints(fleet, binary);
    let live = std::io::stdout().is_terminal();
    let (mut drawn, mut width) = (None, 0);
    loop {
        let columns = columns();
        match Scene::read(&api) {
            Ok(scene) if drawn.as_ref() == Some(&scene) && width == columns => {}
            Ok(scene) => {
                let text = picture::draw(&scene, columns, live);
                // A terminal is redrawn in place; otherwise each state is appended.
                let (clear, below) = match live {
                    true => ("\x1b[H\x1b[2J", hints.as_str()),
                    false if drawn.is_none() => ("", hints.as_str()),
                    false => ("", ""),
                };
                let mut out = std::io::stdout().lock();
                write!(out, "{clear}{text}\n{below}").context("print the picture")?;
                out.flush().context("print the picture")?;
                (drawn, width) = (Some(scene), columns);
            }
            Err(error) => eprintln!("look at the cluster: {error:#}"),
        }
        match interrupted.recv_timeout(LOOK_EVERY) {
            Err(RecvTimeoutError::Timeout) => {}
            _ => return Ok(()),
        }
    }
}

/// Returns the width of the terminal, or a default.
fn columns() -> usize {
    let window = rustix::termios::tcgetwinsize(std::io::stdout());
    let columns = window.map_or(0, |window| usize::from(window.ws_col));
    if columns == 0 { 100 } else { columns }
}

/// Returns the next commands for the user.
fn hints(fleet: &Fleet, binary: &Path) -> String {
    let kubeconfig = fleet.kubeconfig();
    let binary: PathBuf = binary.canonicalize().unwrap_or_else(|_| binary.to_owned());
    let last = &fleet.nodes()[fleet.len() - 1].machine;
    let name = last.name();
    let ask = format!("curl http://{}:8080/", last.address());
    format!(
        "In another terminal, type:

  export KUBECONFIG={}
  alias everynode={}
  everynode get pods -o wide
  {ask:<40} # the daemon of {name}, at its node's address and a known port
  everynode label node node-1 disk=ssd     # a second daemon comes there
  everynode label node {name} disk-        # and leaves this one
  everynode delete pods -l app=page        # they come back
  everynode why ds/cache

Ctrl-C here turns the machines off and leaves nothing behind.
",
        kubeconfig.display(),
        binary.display()
    )
}

//! Cost of an idle node's agent: `agent-cost BINARY [MINUTES]` runs a server and an agent on two
//! machines of a topology and measures, first without a pod, then with five.
//!
//! The link between them has no other traffic, so its counters show what the node sends and
//! receives. The server counts the requests.

#![allow(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a tool's output is what it prints"
)]

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::process::ExitCode;
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use serde_json::{Value, json};
use testkit::topology::{Machine, Program, Topology};
use testkit::{Client, scratch, wait_for};

const MINUTES: u64 = 3;
const PODS: usize = 5;
/// Image of the pods: it contains the binary itself, which can serve a page.
const IMAGE: &str = "everynode.local/page:1";
/// Three periods of a node's Lease. When only the Lease was written for so long, the node is idle.
const QUIET: Duration = Duration::from_secs(30);
/// Clock ticks a second in /proc/PID/stat.
const TICKS: f64 = 100.0;
/// Prints a line for each process of the machine that runs this binary: pid, processor ticks of its
/// own and of its ended children, context switches (voluntary and not), resident KiB, anonymous
/// KiB, command line.
const LOOK: &str = r#"for p in /proc/[0-9]*; do
  [ "$(readlink $p/exe)" = "$1" ] || continue
  set -- "$1" $(sed 's/.*) //' $p/stat)
  echo "process ${p#/proc/} $((${13} + ${14})) $((${15} + ${16}))" \
    $(cat $p/task/*/status | awk '/ctxt_switches/ {n += $2} END {print n}') \
    $(awk '/^VmRSS/ {all = $2} /^RssAnon/ {own = $2} END {print all, own}' $p/status) \
    $(tr '\0' ' ' < $p/cmdline)
done
awk '/eth0:/ {sub("eth0:", ""); print "link", $1, $2, $9, $10}' /proc/net/dev"#;

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let minutes = words.get(1).map_or(Ok(MINUTES), |word| word.parse());
    let (Some(binary), Ok(minutes @ 1..)) = (words.first(), minutes) else {
        eprintln!("usage: agent-cost BINARY [MINUTES]");
        return ExitCode::from(2);
    };
    match run(Path::new(binary), minutes) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(binary: &Path, minutes: u64) -> Result<()> {
    if !testkit::is_root() {
        bail!("machines and containers need root");
    }
    let binary = binary.canonicalize().context("find the binary")?;
    let cluster = Cluster::start(&binary)?;
    cluster.ready()?;
    let without = cluster.measure(minutes)?;
    cluster.run_pods()?;
    let with = cluster.measure(minutes)?;
    print(&without, &with);
    Ok(())
}

struct Cluster {
    binary: String,
    client: Client,
    node: Machine,
    _agent: Program,
    _control: (Machine, Program),
    topology: Topology,
}

impl Cluster {
    fn start(binary: &Path) -> Result<Cluster> {
        let topology = Topology::new()?;
        let control = topology.machine("control")?;
        let path = binary.display().to_string();
        let listen = format!("{}:6443", control.address());
        let server = control.start("server", &[&path, "server", "--listen", &listen])?;
        let client = Client::new(binary, &control.file("/var/lib/everynode/admin.kubeconfig"));
        wait_for("the server to answer", || {
            let answer = client.run(&["get", "--raw", "/readyz"]);
            Ok(if answer.success {
                Ok(())
            } else {
                Err(answer.stderr)
            })
        })?;
        let said = client.run(&["token", "create"]).stdout;
        let join = said.split_whitespace().filter(|word| *word != "\\");
        let mut words: Vec<&str> = join.skip_while(|word| *word != "agent").collect();
        if words.is_empty() {
            bail!("`token create` names no command to join with: {said}");
        }
        words.insert(0, &path);
        let node = topology.machine("node")?;
        let archive = scratch(topology.folder(), IMAGE, binary, &["demo-page"])?;
        let import = node.run(&[&path, "image", "import", &archive.display().to_string()]);
        if !import.success {
            bail!("import the image: {}", import.stderr);
        }
        let agent = node.start("agent", &words)?;
        Ok(Cluster {
            binary: path,
            client,
            _agent: agent,
            node,
            _control: (control, server),
            topology,
        })
    }

    fn ready(&self) -> Result<()> {
        wait_for("the node to be Ready", || {
            let seen = self.client.run(&["get", "nodes", "--no-headers"]).stdout;
            let ready = seen.split_whitespace().nth(1) == Some("Ready");
            Ok(if ready { Ok(()) } else { Err(seen) })
        })
    }

    /// Creates five DaemonSets, so that a node has one pod of each.
    fn run_pods(&self) -> Result<()> {
        let daemons: Vec<Value> = (0..PODS)
            .map(|number| daemon(&format!("page-{number}")))
            .collect();
        let list = json!({"apiVersion": "v1", "kind": "List", "items": daemons});
        let file = self.topology.folder().join("daemons.json");
        std::fs::write(&file, list.to_string()).context("write the manifest")?;
        let created = self.client.run(&["create", "-f", &file.display().to_string()]);
        if !created.success {
            bail!("create the DaemonSets: {}", created.stderr);
        }
        wait_for("the pods to run", || {
            let seen = self.client.run(&["get", "pods", "--no-headers"]).stdout;
            let ready = seen.matches(" 1/1 ").count() == PODS;
            Ok(if ready { Ok(()) } else { Err(seen) })
        })
    }

    fn measure(&self, minutes: u64) -> Result<Cost> {
        eprintln!("waiting until nothing but the node's Lease is written");
        let mut before = self.requests()?;
        loop {
            sleep(QUIET);
            let now = self.requests()?;
            let busy = difference(&before, &now)
                .into_keys()
                .any(|kind| !reads(&kind) && !kind.contains("leases"));
            if !busy {
                break;
            }
            before = now;
        }
        eprintln!("counting for {minutes} minutes");
        let (began, start, before) = (Instant::now(), self.look()?, self.requests()?);
        sleep(Duration::from_secs(60 * minutes));
        let (end, after) = (self.look()?, self.requests()?);
        Ok(Cost {
            minutes: began.elapsed().as_secs_f64() / 60.0,
            start,
            end,
            requests: difference(&before, &after),
        })
    }

    /// Returns the number of requests so far, by verb and resource. Excludes this request and
    /// discovery.
    fn requests(&self) -> Result<BTreeMap<String, u64>> {
        let answer = self.client.run(&["get", "--raw", "/metrics"]);
        if !answer.success {
            bail!("ask for the counters: {}", answer.stderr);
        }
        let mut requests = BTreeMap::new();
        for line in answer.stdout.lines() {
            let Some(rest) = line.strip_prefix("apiserver_request_total{") else {
                continue;
            };
            let labels: Vec<&str> = rest.split('"').collect();
            let (&[_, verb, _, resource, ..], Some(count)) = (&labels[..], rest.rsplit(' ').next()) else {
                bail!("read {line}");
            };
            if !resource.is_empty() {
                let count: u64 = count.parse().with_context(|| format!("read {line}"))?;
                *requests.entry(format!("{verb} {resource}")).or_default() += count;
            }
        }
        Ok(requests)
    }

    fn look(&self) -> Result<Seen> {
        let said = self.node.run(&["sh", "-c", LOOK, "sh", &self.binary]);
        let mut seen = Seen::default();
        for line in said.stdout.lines() {
            let words: Vec<&str> = line.split_whitespace().collect();
            let number = |at: usize| -> Result<f64> {
                words
                    .get(at)
                    .and_then(|word| word.parse().ok())
                    .with_context(|| format!("read {line}"))
            };
            if words.first() == Some(&"link") {
                seen.link = [number(1)?, number(2)?, number(3)?, number(4)?];
                continue;
            }
            let process = Process {
                own: number(2)?,
                started: number(3)?,
                switches: number(4)?,
                resident: number(5)? / 1024.0,
                private: number(6)? / 1024.0,
            };
            match words.get(8) {
                Some(&"agent") => seen.agent = process,
                Some(&"shim") => seen.shims.push(process),
                _ => {}
            }
        }
        if seen.agent.resident == 0.0 {
            bail!("no agent runs: {}{}", said.stdout, said.stderr);
        }
        Ok(seen)
    }
}

fn daemon(name: &str) -> Value {
    let labels = json!({"app": name});
    json!({
        "apiVersion": "apps/v1", "kind": "DaemonSet", "metadata": {"name": name, "namespace": "default"},
        "spec": {
            "selector": {"matchLabels": labels},
            "template": {"metadata": {"labels": labels}, "spec": {
                "containers": [{"name": "page", "image": IMAGE}],
            }},
        },
    })
}

/// One measurement of the node.
#[derive(Default)]
struct Seen {
    agent: Process,
    shims: Vec<Process>,
    /// Received bytes and packets, sent bytes and packets.
    link: [f64; 4],
}

#[derive(Default)]
struct Process {
    /// Processor ticks: its own, and those of programs that it started and that have ended.
    own: f64,
    started: f64,
    switches: f64,
    /// MiB in total, and MiB that are not pages of a file.
    resident: f64,
    private: f64,
}

struct Cost {
    minutes: f64,
    start: Seen,
    end: Seen,
    requests: BTreeMap<String, u64>,
}

impl Cost {
    fn a_minute(&self, of: impl Fn(&Seen) -> f64) -> f64 {
        (of(&self.end) - of(&self.start)) / self.minutes
    }
}

fn reads(kind: &str) -> bool {
    ["get ", "list ", "watch "]
        .iter()
        .any(|verb| kind.to_lowercase().starts_with(verb))
}

fn difference(before: &BTreeMap<String, u64>, after: &BTreeMap<String, u64>) -> BTreeMap<String, u64> {
    let more = |(kind, count): (&String, &u64)| {
        let more = count - before.get(kind).unwrap_or(&0);
        (more > 0).then(|| (kind.clone(), more))
    };
    after.iter().filter_map(more).collect()
}

fn print(without: &Cost, with: &Cost) {
    println!("\n| an idle node | no pod | {PODS} pods |\n|---|---|---|");
    let row = |what: &str, of: &dyn Fn(&Cost) -> String| {
        println!("| {what} | {} | {} |", of(without), of(with));
    };
    row(
        "agent, MiB resident (of these not pages of the binary)",
        &|cost| format!("{:.1} ({:.1})", cost.end.agent.resident, cost.end.agent.private),
    );
    row(
        "a pod's shim, MiB resident (of these not pages of the binary), the largest",
        &|cost| {
            let largest = |of: fn(&Process) -> f64| cost.end.shims.iter().map(of).fold(0.0, f64::max);
            format!(
                "{:.1} ({:.1})",
                largest(|shim| shim.resident),
                largest(|shim| shim.private)
            )
        },
    );
    let milliseconds = 1e3 / TICKS;
    row("agent, processor ms a minute", &|cost| {
        format!("{:.0}", milliseconds * cost.a_minute(|seen| seen.agent.own))
    });
    row("programs that it started, processor ms a minute", &|cost| {
        format!("{:.0}", milliseconds * cost.a_minute(|seen| seen.agent.started))
    });
    row("all shims, processor ms a minute", &|cost| {
        let all = |seen: &Seen| seen.shims.iter().map(|shim| shim.own).sum();
        format!("{:.0}", milliseconds * cost.a_minute(all))
    });
    row("agent, context switches a minute", &|cost| {
        format!("{:.0}", cost.a_minute(|seen| seen.agent.switches))
    });
    row("sent a minute, bytes (packets)", &|cost| {
        format!(
            "{:.0} ({:.0})",
            cost.a_minute(|seen| seen.link[2]),
            cost.a_minute(|seen| seen.link[3])
        )
    });
    row("received a minute, bytes (packets)", &|cost| {
        format!(
            "{:.0} ({:.0})",
            cost.a_minute(|seen| seen.link[0]),
            cost.a_minute(|seen| seen.link[1])
        )
    });
    let kinds: BTreeSet<&String> = without.requests.keys().chain(with.requests.keys()).collect();
    for kind in kinds {
        row(&format!("requests a minute: {kind}"), &|cost| {
            let count = cost.requests.get(kind).copied().unwrap_or_default();
            format!("{:.1}", count as f64 / cost.minutes)
        });
    }
}

//! A cluster over several machines of a topology: the binary under test runs on each, with containers.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use serde_json::Value;

use crate::client::{Client, Output};
use crate::topology::{Machine, Program, Topology};
use crate::wait::wait_for;

/// Where a role keeps its data when it is not told.
const DATA: &str = "/var/lib/everynode";
/// Where the API server listens on the first machine.
const PORT: u16 = 6443;

/// What an agent ends with whose Node was deleted.
const LEFT: i32 = 3;

/// Machines `node-1` to `node-N` of one cluster: the first runs `everynode up`, the others joined it with `everynode agent`. Dropped, all of it
/// is gone.
pub struct Fleet {
    binary: PathBuf,
    nodes: Vec<Node>,
    images: Vec<PathBuf>,
    topology: Topology,
}

/// A machine of a fleet and the role that runs on it.
pub struct Node {
    /// The machine itself.
    pub machine: Machine,
    /// The binary's process; what it said is its log.
    pub program: Program,
    words: Vec<String>,
}

impl Fleet {
    /// Starts `count` machines, one of them the control plane's too, and waits until all nodes are Ready. `extra` are further words for
    /// `everynode up`.
    ///
    /// # Errors
    /// When a machine cannot be made or a node does not become Ready; the error holds what is known.
    pub fn start(binary: &Path, count: usize, extra: &[&str]) -> Result<Self> {
        let topology = Topology::new()?;
        let machine = topology.machine("node-1")?;
        let listen = format!("{}:{PORT}", machine.address());
        let words = [&["up", "--listen", &listen], extra].concat();
        let node = Node::start(binary, machine, &words)?;
        let mut fleet = Fleet {
            binary: binary.to_owned(),
            nodes: vec![node],
            images: Vec::new(),
            topology,
        };
        fleet.answering()?;
        for _ in 1..count {
            fleet.join(&[])?;
        }
        fleet.ready(count)?;
        Ok(fleet)
    }

    /// Adds the next machine; `extra` are further words for `everynode agent`.
    ///
    /// # Errors
    /// When it cannot be made, or no token can be had.
    pub fn join(&mut self, extra: &[&str]) -> Result<&mut Node> {
        self.join_on(0, extra)
    }

    /// Adds the next machine on another link, which it shares with none of the first.
    ///
    /// # Errors
    /// When it cannot be made, or no token can be had.
    pub fn join_on(&mut self, link: u8, extra: &[&str]) -> Result<&mut Node> {
        let name = format!("node-{}", self.nodes.len() + 1);
        let machine = self.topology.machine_on(&name, link)?;
        let join = self.join_command()?;
        let mut words: Vec<&str> = join.iter().map(String::as_str).collect();
        words.extend(extra);
        for archive in &self.images {
            import(&self.binary, &machine, archive)?;
        }
        self.nodes.push(Node::start(&self.binary, machine, &words)?);
        self.nodes.last_mut().context("the new node")
    }

    /// What the control plane says must be typed on a machine that joins, after the binary's name.
    fn join_command(&self) -> Result<Vec<String>> {
        let said = self.client().run(&["token", "create"]);
        let words: Vec<String> = said.stdout.split_whitespace().map(str::to_owned).collect();
        let verb = words.iter().position(|word| word == "agent");
        let Some(verb) = verb.filter(|_| said.success) else {
            bail!(
                "`token create` names no command to join with: {}{}",
                said.stdout,
                said.stderr
            );
        };
        Ok(words.into_iter().skip(verb).filter(|word| word != "\\").collect())
    }

    /// The number of machines.
    pub fn len(&self) -> usize {
        self.nodes.len()
    }

    /// Never: a fleet has a first machine.
    pub fn is_empty(&self) -> bool {
        self.nodes.is_empty()
    }

    /// The machines; the first is the control plane's.
    pub fn nodes(&self) -> &[Node] {
        &self.nodes
    }

    /// The machine `node-<number>`.
    ///
    /// # Panics
    /// When there is none.
    pub fn node(&mut self, number: usize) -> &mut Node {
        &mut self.nodes[number - 1]
    }

    /// The network that they are on.
    pub fn topology(&self) -> &Topology {
        &self.topology
    }

    /// The administrator's kubeconfig, which names the first machine's address. The host reaches it.
    pub fn kubeconfig(&self) -> PathBuf {
        self.nodes[0].machine.file(&format!("{DATA}/admin.kubeconfig"))
    }

    /// The binary's own client verbs, as the administrator.
    pub fn client(&self) -> Client {
        Client::new(&self.binary, &self.kubeconfig())
    }

    /// Imports an image archive on every machine, and on those that will join.
    ///
    /// # Errors
    /// When it cannot be imported.
    pub fn import(&mut self, archive: &Path) -> Result<()> {
        for node in &self.nodes {
            import(&self.binary, &node.machine, archive)?;
        }
        self.images.push(archive.to_owned());
        Ok(())
    }

    /// Imports an image archive on the machine `node-<number>` alone.
    ///
    /// # Errors
    /// When it cannot be imported.
    pub fn import_on(&mut self, number: usize, archive: &Path) -> Result<()> {
        import(&self.binary, &self.nodes[number - 1].machine, archive)
    }

    /// Creates what a manifest says; what is there is changed to it.
    ///
    /// # Panics
    /// When it is refused.
    #[track_caller]
    pub fn apply(&self, manifest: &Value) {
        let output = self
            .client()
            .run_with_input(&["apply", "-f", "-"], &manifest.to_string());
        assert!(output.success, "{}", output.stderr);
    }

    /// Waits until `count` nodes are Ready.
    ///
    /// # Errors
    /// When they do not become so; the error holds the logs.
    pub fn ready(&mut self, count: usize) -> Result<()> {
        let client = self.client();
        self.waiting("the nodes to be Ready", || {
            let table = client.run(&["get", "nodes", "--no-headers"]);
            let rows = table.stdout.lines();
            let ready = rows.filter(|row| row.split_whitespace().nth(1) == Some("Ready"));
            match ready.count() == count {
                true => Ok(()),
                false => Err(format!("{}{}", table.stdout, table.stderr)),
            }
        })
    }

    /// Waits until the API server answers.
    ///
    /// # Errors
    /// When it does not; the error holds the logs.
    pub fn answering(&mut self) -> Result<()> {
        let client = self.client();
        self.waiting("the server to answer", || {
            let answer = client.run(&["get", "--raw", "/readyz"]);
            if answer.success {
                Ok(())
            } else {
                Err(answer.stderr)
            }
        })
    }

    /// Waits until the pods with the label `app=<app>` in the namespace default are `count`, each ready and none on its way out, and gives
    /// their names by node.
    ///
    /// # Errors
    /// When they do not become so; the error holds what is known of them.
    pub fn running(&mut self, app: &str, count: usize) -> Result<BTreeMap<String, Pod>> {
        let client = self.client();
        let what = format!("{count} pods of {app} to run");
        self.waiting(&what, || {
            let listed = client.run(&["get", "pods", "-l", &format!("app={app}"), "-o", "json"]);
            let list: Value = serde_json::from_str(&listed.stdout).unwrap_or_default();
            let (pods, all) = (Pod::all(&list), list["items"].as_array().map_or(0, Vec::len));
            match pods.len() == count && all == count {
                true => Ok(pods),
                false => Err(format!(
                    "{}{}{}",
                    listed.stderr,
                    client.run(&["get", "pods", "-o", "wide"]).stdout,
                    client.run(&["events"]).stdout
                )),
            }
        })
    }

    /// Waits, and fails at once when a machine's role has given up; one that was killed did not.
    fn waiting<T>(&mut self, what: &str, mut look: impl FnMut() -> Result<T, String>) -> Result<T> {
        let nodes = &mut self.nodes;
        let seen = wait_for(what, || {
            for node in nodes.iter_mut() {
                if let Some(status) = node.program.ended()?
                    && status.code().is_some_and(|code| code != LEFT)
                {
                    bail!("{} ended with {status}", node.words.join(" "));
                }
            }
            Ok(look())
        });
        seen.with_context(|| self.logs())
    }

    /// What every machine's role has said.
    pub fn logs(&self) -> String {
        let logs = self.nodes.iter().map(|node| {
            let name = node.machine.name();
            format!("--- log of {name} ---\n{}\n", node.program.log())
        });
        logs.collect()
    }
}

#[allow(
    clippy::print_stderr,
    reason = "what a failed test leaves behind is read by people"
)]
impl Drop for Fleet {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("{}", self.logs());
        }
    }
}

/// A ready pod, as tests need it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pod {
    /// Its name.
    pub name: String,
    /// Its uid.
    pub uid: String,
    /// Its address.
    pub address: String,
    /// How often its containers were started again.
    pub restarts: i64,
    /// The run of each container, and since when it lasts.
    pub runs: Vec<String>,
}

impl Pod {
    /// The pods of a list that are ready and not on their way out, by their nodes.
    pub fn all(list: &Value) -> BTreeMap<String, Pod> {
        let items = list["items"].as_array().map_or(&[] as &[Value], Vec::as_slice);
        items.iter().filter_map(Pod::running).collect()
    }

    /// The pod by its node, if it is ready and not on its way out.
    pub fn running(object: &Value) -> Option<(String, Pod)> {
        let (meta, status) = (&object["metadata"], &object["status"]);
        let text = |value: &Value| value.as_str().map(str::to_owned);
        let conditions = status["conditions"].as_array()?;
        let ready = conditions
            .iter()
            .any(|condition| condition["type"] == "Ready" && condition["status"] == "True");
        let containers = status["containerStatuses"].as_array()?;
        let pod = Pod {
            name: text(&meta["name"])?,
            uid: text(&meta["uid"])?,
            address: text(&status["podIP"])?,
            restarts: containers
                .iter()
                .filter_map(|container| container["restartCount"].as_i64())
                .sum(),
            runs: containers
                .iter()
                .map(|container| {
                    let (id, since) = (
                        &container["containerID"],
                        &container["state"]["running"]["startedAt"],
                    );
                    format!("{id} since {since}")
                })
                .collect(),
        };
        let stays = meta["deletionTimestamp"].is_null();
        (ready && stays).then_some((text(&object["spec"]["nodeName"])?, pod))
    }
}

impl Node {
    fn start(binary: &Path, machine: Machine, words: &[&str]) -> Result<Self> {
        let mut all = vec![binary.display().to_string()];
        all.extend(words.iter().map(|&word| word.to_owned()));
        let program = launch(&machine, &all)?;
        Ok(Node {
            machine,
            program,
            words: all,
        })
    }

    /// Ends the role with SIGKILL and starts it anew, as a service manager does. The containers run on.
    ///
    /// # Errors
    /// When it does not run or cannot be started.
    pub fn restart(&mut self) -> Result<()> {
        self.program.kill()?;
        self.resume()
    }

    /// Starts the role again after it ended, or after [`Machine::boot`].
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn resume(&mut self) -> Result<()> {
        self.program = launch(&self.machine, &self.words)?;
        Ok(())
    }

    /// Off and on again, and the role with it.
    ///
    /// # Errors
    /// When the machine is off or cannot be started anew.
    pub fn reboot(&mut self) -> Result<()> {
        self.machine.reboot()?;
        self.resume()
    }

    /// Runs a program on the machine to its end.
    pub fn run(&self, words: &[&str]) -> Output {
        self.machine.run(words)
    }
}

fn launch(machine: &Machine, words: &[String]) -> Result<Program> {
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    machine.start("everynode", &words)
}

fn import(binary: &Path, machine: &Machine, archive: &Path) -> Result<()> {
    let (binary, archive) = (binary.display().to_string(), archive.display().to_string());
    let said = machine.run(&[&binary, "image", "import", &archive]);
    if !said.success {
        bail!(
            "import {archive} on {}: {}{}",
            machine.name(),
            said.stdout,
            said.stderr
        );
    }
    Ok(())
}

//! A cluster on several machines of a topology. The binary under test runs on each, with
//! containers.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use serde_json::Value;

use crate::client::{Client, Output};
use crate::topology::{Machine, Program, Topology};
use crate::wait::wait_for;

/// Default data directory of a role.
const DATA: &str = "/var/lib/everynode";
/// Port of the API server on the first machine.
const PORT: u16 = 6443;

/// Exit code of an agent whose Node was deleted.
const LEFT: i32 = 3;

/// Machines `node-1` to `node-N` of one cluster. The first runs `everynode up`; the others joined
/// with `everynode agent`. All of them are removed when this is dropped.
pub struct Fleet {
    binary: PathBuf,
    nodes: Vec<Node>,
    images: Vec<PathBuf>,
    topology: Topology,
}

/// A machine of the cluster and the role that runs on it.
pub struct Node {
    /// The machine itself.
    pub machine: Machine,
    /// Process of the binary, with its log.
    pub program: Program,
    words: Vec<String>,
}

impl Fleet {
    /// Starts `count` machines and waits until all nodes are Ready. The first one runs the control
    /// plane. `extra` are more arguments for `everynode up`.
    ///
    /// # Errors
    /// When a machine cannot be created or a node does not become Ready; the error holds the state
    /// of the cluster.
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

    /// Adds a machine; `extra` are more arguments for `everynode agent`.
    ///
    /// # Errors
    /// When it cannot be created, or no token can be created.
    pub fn join(&mut self, extra: &[&str]) -> Result<&mut Node> {
        self.join_on(0, extra)
    }

    /// Adds a machine on another link, which the first machines do not share.
    ///
    /// # Errors
    /// When it cannot be created, or no token can be created.
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

    /// Returns the arguments that `token create` prints for a machine that joins.
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

    /// Returns the number of machines.
    pub fn len(&self) -> usize {
        self.nodes.len()
    }

    /// Returns false: there is always a first machine.
    pub fn is_empty(&self) -> bool {
        self.nodes.is_empty()
    }

    /// Returns the machines; the control plane is on the first.
    pub fn nodes(&self) -> &[Node] {
        &self.nodes
    }

    /// Returns the machine `node-<number>`.
    ///
    /// # Panics
    /// When it does not exist.
    pub fn node(&mut self, number: usize) -> &mut Node {
        &mut self.nodes[number - 1]
    }

    /// Returns their network.
    pub fn topology(&self) -> &Topology {
        &self.topology
    }

    /// Returns the path of the administrator's kubeconfig. It has the first machine's address,
    /// which the host can reach.
    pub fn kubeconfig(&self) -> PathBuf {
        self.nodes[0].machine.file(&format!("{DATA}/admin.kubeconfig"))
    }

    /// Returns the binary's own client, as the administrator.
    pub fn client(&self) -> Client {
        Client::new(&self.binary, &self.kubeconfig())
    }

    /// Imports an image archive on all machines, and on those that join later.
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

    /// Imports an image archive only on the machine `node-<number>`.
    ///
    /// # Errors
    /// When it cannot be imported.
    pub fn import_on(&mut self, number: usize, archive: &Path) -> Result<()> {
        import(&self.binary, &self.nodes[number - 1].machine, archive)
    }

    /// Applies a manifest.
    ///
    /// # Panics
    /// When the server rejects it.
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
    /// When they do not become Ready; the error holds the logs.
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

    /// Waits until the API server responds.
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

    /// Waits until the namespace default has exactly `count` pods with the label `app=<app>`, all
    /// ready and none terminating. Returns the pods by node.
    ///
    /// # Errors
    /// When that does not happen; the error holds the state of the pods.
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

    /// Waits, and fails at once when the role of a machine has ended by itself.
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

    /// Returns the logs of all machines.
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

/// The fields of a ready pod that tests need.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pod {
    /// Its name.
    pub name: String,
    /// Its uid.
    pub uid: String,
    /// Its address.
    pub address: String,
    /// Number of restarts of its containers.
    pub restarts: i64,
    /// The id and start time of each running container.
    pub runs: Vec<String>,
}

impl Pod {
    /// Returns the pods of a list that are ready and not terminating, by node.
    pub fn all(list: &Value) -> BTreeMap<String, Pod> {
        let items = list["items"].as_array().map_or(&[] as &[Value], Vec::as_slice);
        items.iter().filter_map(Pod::running).collect()
    }

    /// Returns the pod and its node, if it is ready and not terminating.
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

    /// Kills the role with SIGKILL and starts it again, like a service manager. The containers keep
    /// running.
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

    /// Turns the machine off and on, and starts the role again.
    ///
    /// # Errors
    /// When the machine is off or cannot be started.
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

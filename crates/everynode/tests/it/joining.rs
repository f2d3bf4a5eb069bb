//! Machines join, are refused, renew, and leave: a real server, real agents, all on this machine, each agent with a data directory of its own.
//!
//! They need root and the Debian package `nftables`.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};

use anyhow::{Context, Result};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use testkit::{Process, eventually, is_root, node_folders, skip, wait_for};

/// A machine's agent: a data directory, and the process when it runs.
struct Machine {
    name: String,
    server: String,
    folder: tempfile::TempDir,
    child: Option<Child>,
}

impl Machine {
    fn new(server: &Process, name: &str) -> Result<Self> {
        Ok(Self {
            name: name.to_owned(),
            server: format!("https://127.0.0.1:{}", server.port()),
            folder: tempfile::Builder::new().prefix("everynode-join-").tempdir()?,
            child: None,
        })
    }

    fn data_dir(&self) -> PathBuf {
        self.folder.path().join("data")
    }

    fn credential(&self) -> PathBuf {
        self.data_dir().join("agent/client.pem")
    }

    fn log(&self) -> String {
        fs::read_to_string(self.folder.path().join("log")).unwrap_or_default()
    }

    fn start(&mut self, token: Option<&str>, extra: &[&str]) -> Result<()> {
        let log = fs::File::create(self.folder.path().join("log"))?;
        let mut command = Command::new(super::binary());
        command
            .args(["agent", "--server", &self.server, "--node-name", &self.name])
            .arg("--data-dir")
            .arg(self.data_dir())
            .args(extra)
            .envs(node_folders(self.folder.path()))
            .env("EVERYNODE_LOG", "warn")
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log);
        if let Some(token) = token {
            command.env("EVERYNODE_TOKEN", token);
        }
        self.child = Some(command.spawn().context("start the agent")?);
        Ok(())
    }

    /// Waits for the agent to end by itself.
    fn ended(&mut self) -> Result<ExitStatus> {
        let mut child = self.child.take().context("the agent does not run")?;
        let ended = wait_for("the agent to end", || {
            Ok(match child.try_wait()? {
                Some(status) => Ok(status),
                None => Err(self.log()),
            })
        });
        if ended.is_err() {
            child.kill()?;
            child.wait()?;
        }
        ended
    }

    fn end(&mut self, signal: Signal) -> Result<()> {
        let mut child = self.child.take().context("the agent does not run")?;
        kill(Pid::from_raw(i32::try_from(child.id())?), signal)?;
        child.wait()?;
        Ok(())
    }

    /// Refused: the agent ends, and says why.
    fn is_refused(&mut self, token: Option<&str>, said: &[&str]) -> Result<()> {
        self.start(token, &[])?;
        let status = self.ended()?;
        let log = self.log();
        assert!(!status.success(), "{log}");
        for words in said {
            assert!(log.contains(words), "{words:?} is not in: {log}");
        }
        assert!(!self.credential().exists(), "{log}");
        Ok(())
    }

    /// A kubeconfig with the certificate that the machine has now, as a thief would make one.
    fn kubeconfig(&self, server: &Process, file: &str) -> Result<PathBuf> {
        let pem = fs::read_to_string(self.credential())?;
        let key = pem.find("-----BEGIN PRIVATE KEY").context("no key")?;
        let folder = server.folder().join(file);
        fs::create_dir_all(&folder)?;
        for (name, content) in [("crt", &pem[..key]), ("key", &pem[key..])] {
            fs::write(folder.join(name), content)?;
        }
        fs::copy(self.data_dir().join("agent/ca.crt"), folder.join("ca"))?;
        let at = |name: &str| folder.join(name).display().to_string();
        let config = format!(
            "apiVersion: v1\nkind: Config\ncurrent-context: c\n\
             clusters: [{{name: c, cluster: {{server: '{}', certificate-authority: {}}}}}]\n\
             users: [{{name: u, user: {{client-certificate: {}, client-key: {}}}}}]\n\
             contexts: [{{name: c, context: {{cluster: c, user: u}}}}]\n",
            self.server,
            at("ca"),
            at("crt"),
            at("key"),
        );
        let path = folder.join("kubeconfig");
        fs::write(&path, config)?;
        Ok(path)
    }
}

#[allow(
    clippy::print_stderr,
    reason = "what a failed test leaves behind is read by people"
)]
impl Drop for Machine {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("--- agent of {} ---\n{}", self.name, self.log());
        }
        if self.child.is_some()
            && let Err(error) = self.end(Signal::SIGKILL)
        {
            eprintln!("end the agent of {}: {error:#}", self.name);
        }
        if self.data_dir().exists() {
            match clean_up(&self.data_dir()) {
                Ok(cleaned) if cleaned.status.success() => {}
                other => eprintln!("clean up {}: {other:?}", self.name),
            }
        }
    }
}

fn clean_up(data_dir: &Path) -> Result<Output> {
    Command::new(super::binary())
        .args(["agent", "--clean-up", "--data-dir"])
        .arg(data_dir)
        .envs(data_dir.parent().map(node_folders).into_iter().flatten())
        .stdin(Stdio::null())
        .output()
        .context("run the clean-up")
}

fn server(extra: &[&str]) -> Result<Option<Process>> {
    if !is_root() {
        skip("agents need root");
        return Ok(None);
    }
    Process::start(super::binary(), "server", extra).map(Some)
}

fn token(server: &Process) -> String {
    server
        .client()
        .ok(&["token", "create", "--quiet"])
        .trim()
        .to_owned()
}

fn ready(server: &Process, machine: &Machine) -> Result<()> {
    wait_for("the node to be Ready", || {
        let said = server
            .client()
            .run(&["get", "node", &machine.name, "--no-headers"]);
        Ok(match said.stdout.split_whitespace().nth(1) {
            Some("Ready") => Ok(()),
            _ => Err(format!("{}{}{}", said.stdout, said.stderr, machine.log())),
        })
    })
}

#[test]
fn a_machine_joins_by_its_token_with_labels_and_taints_and_needs_the_token_only_once() -> Result<()> {
    let _turn = super::machine();
    let Some(server) = server(&[])? else { return Ok(()) };
    let mut machine = Machine::new(&server, "joiner")?;
    let flags = [
        "--node-label",
        "rack=7",
        "--node-label",
        "gpu=",
        "--register-with-taints",
        "node-role.kubernetes.io/control-plane:NoSchedule",
    ];
    machine.start(Some(&token(&server)), &flags)?;
    ready(&server, &machine)?;
    let node = server.client().json(&["get", "node", "joiner", "-o", "json"]);
    assert_eq!(node["metadata"]["labels"]["rack"], "7");
    assert_eq!(node["metadata"]["labels"]["gpu"], "");
    let taints = node["spec"]["taints"].to_string();
    assert!(
        taints.contains("node-role.kubernetes.io/control-plane"),
        "{taints}"
    );
    let mode = |path: PathBuf| fs::metadata(path).map(|file| file.permissions().mode() & 0o777);
    assert_eq!(mode(machine.credential())?, 0o600);
    assert_eq!(mode(machine.data_dir().join("agent"))?, 0o700);
    assert!(!machine.data_dir().join("agent/next.key").exists());
    let request = server.client().ok(&["get", "csr", "--no-headers"]);
    assert!(request.contains("Approved,Issued"), "{request}");
    machine.end(Signal::SIGKILL)?;
    machine.start(None, &[])?;
    wait_for("the agent to run again", || {
        let log = machine.log();
        Ok(if log.contains("node joiner of the cluster") {
            Ok(())
        } else {
            Err(log)
        })
    })?;
    machine.end(Signal::SIGTERM)?;
    let other = Command::new(super::binary())
        .args([
            "agent",
            "--server",
            &machine.server,
            "--node-name",
            "other",
            "--data-dir",
        ])
        .arg(machine.data_dir())
        .output()?;
    let said = String::from_utf8_lossy(&other.stderr).into_owned();
    assert!(
        !other.status.success() && said.contains("joined as node joiner"),
        "{said}"
    );
    Ok(())
}

#[test]
fn tokens_that_are_not_good_join_nobody_and_each_refusal_names_the_remedy() -> Result<()> {
    let _turn = super::machine();
    let Some(server) = server(&[])? else { return Ok(()) };
    let client = server.client();
    let mut machine = Machine::new(&server, "refused")?;
    machine.is_refused(None, &["has not joined", "everynode token create"])?;
    machine.is_refused(Some("nonsense"), &["not of the form", "everynode token create"])?;
    let good = token(&server);
    let (plain, hash) = good.split_once('@').context("a hash")?;
    machine.is_refused(Some(plain), &["lacks the hash"])?;
    let other = format!("{plain}@sha256:{}", "0".repeat(64));
    machine.is_refused(Some(&other), &["hash", "The token was not sent"])?;
    machine.is_refused(Some(&good[..good.len() - 3]), &["61 characters"])?;
    let unknown = format!("aaaaaa.0123456789abcdef@{hash}");
    machine.is_refused(
        Some(&unknown),
        &["unknown, expired or revoked", "everynode token create"],
    )?;
    let guessed = format!("{}.0123456789abcdef@{hash}", &plain[..6]);
    machine.is_refused(Some(&guessed), &["unknown, expired or revoked"])?;
    // Expired: its end is put into the past.
    let past = "MjAyMC0wMS0wMVQwMDowMDowMFo=";
    let patch = format!("{{\"data\":{{\"expiration\":\"{past}\"}}}}");
    let secret = format!(
        "/api/v1/namespaces/kube-system/secrets/bootstrap-token-{}",
        &plain[..6]
    );
    let api = testkit::Api::connect(&server.kubeconfig())?;
    api.patch(&secret, testkit::MERGE, &serde_json::from_str(&patch)?)?;
    machine.is_refused(Some(&good), &["unknown, expired or revoked"])?;
    eventually("the expired token to be removed", || {
        Ok(!client.ok(&["token", "list"]).contains(&plain[..6]))
    })?;
    let revoked = token(&server);
    client.ok(&["token", "delete", &revoked]);
    machine.is_refused(
        Some(&revoked),
        &["unknown, expired or revoked", "everynode token create"],
    )?;
    assert_eq!(client.ok(&["get", "nodes", "-o", "name"]), "");
    Ok(())
}

#[test]
fn a_name_that_another_machine_has_is_refused_until_its_node_is_deleted() -> Result<()> {
    let _turn = super::machine();
    let Some(server) = server(&[])? else { return Ok(()) };
    let mut first = Machine::new(&server, "wanted")?;
    first.start(Some(&token(&server)), &[])?;
    ready(&server, &first)?;
    let mut second = Machine::new(&server, "wanted")?;
    let said = ["another machine", "everynode delete node wanted", "--node-name"];
    second.is_refused(Some(&token(&server)), &said)?;
    let stolen = first.kubeconfig(&server, "stolen")?;
    let thief = testkit::Client::new(super::binary(), &stolen);
    let node = "/api/v1/nodes/wanted";
    assert!(thief.run(&["get", "--raw", node]).success);
    server.client().ok(&["delete", "node", "wanted"]);
    // The first machine sees the deletion, stops, and deletes its credential.
    let status = first.ended()?;
    assert_eq!(status.code(), Some(3), "{}", first.log());
    assert!(first.log().contains("everynode token create"), "{}", first.log());
    assert!(!first.credential().exists());
    let said = thief.run(&["get", "--raw", node]);
    assert!(
        !said.success && said.stderr.contains("not good any more"),
        "{}",
        said.stderr
    );
    first.is_refused(None, &["has not joined"])?;
    second.start(Some(&token(&server)), &[])?;
    ready(&server, &second)?;
    // The old certificate is no way in as the new machine, and a restart of the server forgets none of it.
    let mut server = server;
    server.kill()?;
    server.restart()?;
    let said = thief.run(&["get", "--raw", node]);
    assert!(
        !said.success && said.stderr.contains("not good any more"),
        "{}",
        said.stderr
    );
    ready(&server, &second)
}

#[test]
fn an_agent_renews_its_certificate_while_it_runs_and_older_ones_end() -> Result<()> {
    let _turn = super::machine();
    let Some(server) = server(&["--node-certificate-ttl", "30s"])? else {
        return Ok(());
    };
    let mut machine = Machine::new(&server, "renewing")?;
    machine.start(Some(&token(&server)), &[])?;
    ready(&server, &machine)?;
    let mut seen = vec![fs::read(machine.credential())?];
    let first = testkit::Client::new(super::binary(), &machine.kubeconfig(&server, "first")?);
    while seen.len() < 3 {
        let next = wait_for("the next certificate", || {
            let now = fs::read(machine.credential())?;
            Ok(if seen.contains(&now) {
                Err(machine.log())
            } else {
                Ok(now)
            })
        })?;
        seen.push(next);
    }
    assert!(!first.run(&["get", "--raw", "/api/v1/nodes/renewing"]).success);
    ready(&server, &machine)
}

#[test]
fn an_agent_that_is_killed_while_it_joins_goes_on_where_it_was() -> Result<()> {
    let _turn = super::machine();
    let Some(server) = server(&[])? else { return Ok(()) };
    let token = token(&server);
    let mut machine = Machine::new(&server, "killed")?;
    let agent = machine.data_dir().join("agent");
    // Each of these is there a moment later than the one before.
    for file in ["next.key", "ca.crt", "client.pem"] {
        machine.start(Some(&token), &[])?;
        eventually("the file that says how far it is", || {
            Ok(agent.join(file).exists() || machine.credential().exists())
        })?;
        machine.end(Signal::SIGKILL)?;
    }
    machine.start(Some(&token), &[])?;
    ready(&server, &machine)?;
    let requests = server.client().ok(&["get", "csr", "-o", "name"]);
    assert_eq!(requests.lines().count(), 1, "{requests}");
    Ok(())
}

#[test]
fn of_several_servers_one_that_answers_is_used_and_others_are_learned() -> Result<()> {
    let _turn = super::machine();
    let Some(server) = server(&[])? else { return Ok(()) };
    let mut machine = Machine::new(&server, "several")?;
    let dead = testkit::free_port()?;
    machine.server = format!("https://127.0.0.1:{dead},{}", machine.server);
    machine.start(Some(&token(&server)), &[])?;
    ready(&server, &machine)?;
    let told = wait_for("the servers that the cluster tells of", || {
        Ok(fs::read_to_string(machine.data_dir().join("agent/servers")).map_err(|error| error.to_string()))
    })?;
    assert!(told.contains(&format!(":{}", server.port())), "{told}");
    Ok(())
}

#[test]
fn token_verbs_speak_as_kubeadm_does_and_name_what_was_mistyped() -> Result<()> {
    let server = Process::start(super::binary(), "server", &[])?;
    let client = server.client();
    let said = client.run(&[
        "token",
        "create",
        "abcdef.0123456789abcdef",
        "--ttl",
        "0",
        "--description",
        "rack 7",
    ]);
    assert!(said.success, "{}", said.stderr);
    assert!(
        said.stdout.starts_with("everynode agent --server https://"),
        "{}",
        said.stdout
    );
    assert!(
        said.stdout.contains("--token abcdef.0123456789abcdef@sha256:"),
        "{}",
        said.stdout
    );
    let list = client.ok(&["token", "list"]);
    let mut lines = list.lines();
    let heading: Vec<&str> = lines.next().unwrap_or_default().split_whitespace().collect();
    assert_eq!(
        heading,
        [
            "TOKEN",
            "TTL",
            "EXPIRES",
            "USAGES",
            "DESCRIPTION",
            "EXTRA",
            "GROUPS"
        ]
    );
    let line = lines.next().unwrap_or_default();
    for part in [
        "abcdef.0123456789abcdef",
        "<forever>",
        "<never>",
        "authentication",
        "rack 7",
    ] {
        assert!(line.contains(part), "{line}");
    }
    let mistakes: [(&[&str], &str); 5] = [
        (&["token", "create", "ABCDEF.0123456789abcdef"], "not of the form"),
        (&["token", "create", "abcdef.0123456789abcdef"], "already exists"),
        (&["token", "create", "--ttl", "soon"], "invalid duration"),
        (&["token", "delete", "abc"], "is no token"),
        (&["token", "delete", "zzzzzz"], "not found"),
    ];
    for (words, expected) in mistakes {
        let said = client.run(words);
        assert!(
            !said.success && said.stderr.contains(expected),
            "{words:?}: {}",
            said.stderr
        );
    }
    assert_eq!(
        client.ok(&["token", "delete", "abcdef"]),
        "bootstrap token \"abcdef\" deleted\n"
    );
    assert_eq!(client.ok(&["token", "list"]), "");
    Ok(())
}

//! A role of the binary as a process.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};

use anyhow::{Context, Result, bail};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tempfile::TempDir;

use crate::client::Client;
use crate::port::free_port;
use crate::wait::wait_for;

/// Environment variables that make a node use `folder` instead of the machine's `/var/log` and
/// `/var/lib`.
pub fn node_folders(folder: &Path) -> [(&'static str, PathBuf); 2] {
    [
        ("EVERYNODE_POD_LOGS_DIR", folder.join("var/log/pods")),
        ("EVERYNODE_ROOT_DIR", folder.join("var/lib/kubelet")),
    ]
}

/// `everynode server` or `everynode up` with its own data directory and port. When dropped, it is
/// stopped with SIGTERM and its files are removed.
pub struct Process {
    binary: PathBuf,
    role: String,
    extra: Vec<String>,
    port: u16,
    folder: TempDir,
    child: Option<Child>,
}

impl Process {
    /// Starts `role` and waits until it responds.
    ///
    /// # Errors
    /// When it cannot be started or ends at once; the error holds its log.
    pub fn start(binary: impl Into<PathBuf>, role: &str, extra: &[&str]) -> Result<Self> {
        let mut process = Self {
            binary: binary.into(),
            role: role.to_owned(),
            extra: extra.iter().map(|&word| word.to_owned()).collect(),
            port: free_port()?,
            folder: tempfile::Builder::new()
                .prefix("everynode-test-")
                .tempdir()
                .context("make a folder")?,
            child: None,
        };
        process.restart()?;
        Ok(process)
    }

    /// Starts the role again with the same data, after [`Process::kill`] or [`Process::stop`], and
    /// waits until it is ready.
    ///
    /// # Errors
    /// When it cannot be started or ends at once.
    pub fn restart(&mut self) -> Result<()> {
        self.launch()?;
        let client = self.client();
        wait_for("the server to answer", || {
            if let Some(status) = self.ended()? {
                bail!("{} ended with {status}:\n{}", self.role, self.log());
            }
            let answer = client.run(&["get", "--raw", "/readyz"]);
            Ok(if answer.success {
                Ok(())
            } else {
                Err(answer.stderr)
            })
        })
    }

    /// Starts the role without waiting for it.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn launch(&mut self) -> Result<()> {
        let log = File::options()
            .create(true)
            .append(true)
            .open(self.log_path())
            .context("open the log")?;
        let child = Command::new(&self.binary)
            .arg(&self.role)
            .arg("--data-dir")
            .arg(self.data_dir())
            .args(["--listen", &format!("127.0.0.1:{}", self.port)])
            .args(&self.extra)
            .envs(node_folders(self.folder.path()))
            .stdin(Stdio::null())
            .stdout(log.try_clone().context("share the log")?)
            .stderr(log)
            .spawn()
            .with_context(|| format!("start {} {}", self.binary.display(), self.role))?;
        self.child = Some(child);
        Ok(())
    }

    /// Waits until the process has ended by itself.
    ///
    /// # Errors
    /// When it is not running, or does not end.
    pub fn wait_for_end(&mut self) -> Result<ExitStatus> {
        let status = wait_for("the process to end", || {
            Ok(self.ended()?.ok_or_else(|| "it goes on".to_owned()))
        })?;
        self.child = None;
        Ok(status)
    }

    /// Sends SIGTERM without waiting.
    ///
    /// # Errors
    /// When it is not running.
    pub fn terminate(&self) -> Result<()> {
        let pid = Pid::from_raw(i32::try_from(self.pid()).context("a process's number")?);
        kill(pid, Signal::SIGTERM).with_context(|| format!("send SIGTERM to {pid}"))
    }

    fn ended(&mut self) -> Result<Option<ExitStatus>> {
        match &mut self.child {
            Some(child) => child.try_wait().context("look at the process"),
            None => Ok(None),
        }
    }

    /// Returns the process id.
    pub fn pid(&self) -> u32 {
        self.child.as_ref().map_or(0, Child::id)
    }

    /// Returns its port on 127.0.0.1.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Returns a folder that is removed with the process.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Returns its data directory.
    pub fn data_dir(&self) -> PathBuf {
        self.folder.path().join("data")
    }

    /// Returns the path of the administrator's kubeconfig.
    pub fn kubeconfig(&self) -> PathBuf {
        self.data_dir().join("admin.kubeconfig")
    }

    /// Returns its log.
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.log_path()).unwrap_or_default()
    }

    fn log_path(&self) -> PathBuf {
        self.folder.path().join("log")
    }

    /// Returns the binary's own client, as the administrator.
    pub fn client(&self) -> Client {
        Client::new(&self.binary, &self.kubeconfig())
    }

    /// Returns another client, such as kubectl, as the administrator.
    pub fn client_at(&self, program: &Path) -> Client {
        Client::new(program, &self.kubeconfig())
    }

    /// Kills the process with SIGKILL.
    ///
    /// # Errors
    /// When it is not running.
    pub fn kill(&mut self) -> Result<()> {
        self.end(Signal::SIGKILL).map(|_| ())
    }

    /// Sends SIGTERM and waits until the process has ended.
    ///
    /// # Errors
    /// When it is not running.
    pub fn stop(&mut self) -> Result<ExitStatus> {
        self.end(Signal::SIGTERM)
    }

    /// Sends SIGHUP, like a terminal that is closed, and waits until the process has ended.
    ///
    /// # Errors
    /// When it is not running.
    pub fn hang_up(&mut self) -> Result<ExitStatus> {
        self.end(Signal::SIGHUP)
    }

    fn end(&mut self, signal: Signal) -> Result<ExitStatus> {
        let mut child = self.child.take().context("the process is not running")?;
        let pid = Pid::from_raw(i32::try_from(child.id()).context("a process's number")?);
        kill(pid, signal).with_context(|| format!("send {signal} to {pid}"))?;
        child.wait().context("wait for the process")
    }
}

#[allow(
    clippy::print_stderr,
    reason = "what a failed test leaves behind is read by people"
)]
impl Drop for Process {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("--- log of {} ---\n{}", self.role, self.log());
        }
        if self.child.is_some()
            && let Err(error) = self.stop()
        {
            eprintln!("stop {}: {error:#}", self.role);
        }
    }
}

/// `everynode simulate`: nodes that run no containers. Killed when dropped.
pub struct Nodes(Child);

impl Process {
    /// Simulates `count` nodes named `<prefix>-0`, `<prefix>-1` and so on, and waits until they are
    /// Ready.
    ///
    /// # Errors
    /// When the simulator cannot be started or a node does not become Ready.
    pub fn simulate(&self, count: usize, prefix: &str) -> Result<Nodes> {
        self.simulate_with(count, prefix, &[])
    }

    /// Like [`Process::simulate`], with more arguments for `everynode simulate`.
    ///
    /// # Errors
    /// When the simulator cannot be started or a node does not become Ready.
    pub fn simulate_with(&self, count: usize, prefix: &str, extra: &[&str]) -> Result<Nodes> {
        let log = File::options()
            .create(true)
            .append(true)
            .open(self.log_path())
            .context("open the log")?;
        let child = Command::new(&self.binary)
            .args([
                "simulate",
                "--nodes",
                &count.to_string(),
                "--prefix",
                prefix,
                "--kubeconfig",
            ])
            .arg(self.kubeconfig())
            .args(extra)
            .stdin(Stdio::null())
            .stdout(log.try_clone().context("share the log")?)
            .stderr(log)
            .spawn()
            .context("start the simulator")?;
        let nodes = Nodes(child);
        let client = self.client();
        wait_for("the simulated nodes to be Ready", || {
            let table = client.run(&["get", "nodes", "--no-headers"]).stdout;
            let mine = format!("{prefix}-");
            let ready = table.lines().filter(|line| {
                let mut words = line.split_whitespace();
                words.next().is_some_and(|name| name.starts_with(&mine)) && words.next() == Some("Ready")
            });
            Ok(if ready.count() == count {
                Ok(())
            } else {
                Err(table.clone())
            })
        })?;
        Ok(nodes)
    }
}

#[allow(
    clippy::print_stderr,
    reason = "what a failed test leaves behind is read by people"
)]
impl Drop for Nodes {
    fn drop(&mut self) {
        if let Err(error) = self.0.kill().and_then(|()| self.0.wait()) {
            eprintln!("end the simulator: {error}");
        }
    }
}

//! Processes that hold namespaces, and calls of the machine's tools.

use std::fs;
use std::io::{BufRead, BufReader};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, ChildStdin, Command, Stdio};

use anyhow::{Context, Result, bail};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::wait::wait_for;

/// Namespaces that exist as long as a process. The process ends when the pipe to it closes, so at
/// the latest when the test ends.
#[derive(Debug)]
pub(super) struct Holder {
    /// Process that created the namespaces and waits.
    outer: Child,
    /// Process 1 of the namespaces, by its pid on the host.
    init: Pid,
    /// When it closes, the machine ends.
    _life: ChildStdin,
}

impl Holder {
    /// Starts `command`, a call of `unshare` with `--fork`, and waits until the program in it has
    /// printed a line. Its standard error goes to the file `log`.
    pub(super) fn start(mut command: Command, log: &Path) -> Result<Self> {
        let complaints = fs::File::create(log).with_context(|| format!("create {}", log.display()))?;
        let mut outer = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(complaints)
            // An interrupt from the terminal must reach only the test, which then ends this process
            // properly.
            .process_group(0)
            .spawn()
            .with_context(|| format!("start {command:?}"))?;
        let life = outer.stdin.take().context("take the pipe to a holder")?;
        let said = outer.stdout.take().context("take the pipe from a holder")?;
        let mut line = String::new();
        BufReader::new(said)
            .read_line(&mut line)
            .context("read what a holder says")?;
        if line != "ready\n" {
            drop(life);
            let status = outer.wait().context("wait for a holder")?;
            let why = fs::read_to_string(log).unwrap_or_default();
            bail!("make namespaces: {status}: {}", why.trim());
        }
        let init = child_of(outer.id())?;
        Ok(Holder {
            outer,
            init,
            _life: life,
        })
    }

    /// Returns process 1 of the namespaces, by its pid on the host.
    pub(super) fn pid(&self) -> Pid {
        self.init
    }

    /// Returns the pid of the process that waits for them.
    pub(super) fn outer_pid(&self) -> u32 {
        self.outer.id()
    }

    /// Kills all processes in the namespaces and waits until they have ended.
    pub(super) fn kill(&mut self) -> Result<()> {
        // The kernel ends all other processes of the namespace before its process 1 is gone.
        if let Err(error) = kill(self.init, Signal::SIGKILL)
            && error != nix::errno::Errno::ESRCH
        {
            return Err(error).context("kill process 1");
        }
        self.outer.wait().context("wait for a holder").map(|_| ())
    }
}

impl Drop for Holder {
    fn drop(&mut self) {
        // It may have ended by itself, or been killed.
        drop(self.kill());
    }
}

/// Returns the only child of a process, which may not exist yet.
pub(super) fn child_of(parent: u32) -> Result<Pid> {
    let file = format!("/proc/{parent}/task/{parent}/children");
    wait_for("a child process", || {
        let children = fs::read_to_string(&file).with_context(|| format!("read {file}"))?;
        let first = children
            .split_whitespace()
            .next()
            .and_then(|pid| pid.parse().ok());
        Ok(first
            .map(Pid::from_raw)
            .ok_or_else(|| format!("{parent} has no child")))
    })
}

/// Runs a program of the machine to its end and returns its output.
pub(super) fn tool(words: &[&str]) -> Result<String> {
    let (program, arguments) = words.split_first().context("a program to run")?;
    let output = Command::new(program)
        .args(arguments)
        .stdin(Stdio::null())
        .output()
        .with_context(|| format!("start {program}"))?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        bail!("{}: {}: {}", words.join(" "), output.status, said.trim());
    }
    String::from_utf8(output.stdout).with_context(|| format!("read what {program} printed"))
}

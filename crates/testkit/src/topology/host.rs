//! Processes that hold namespaces, and calls of the machine's own tools.

use std::fs;
use std::io::{BufRead, BufReader};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, ChildStdin, Command, Stdio};

use anyhow::{Context, Result, bail};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::wait::wait_for;

/// Namespaces that live as long as a process, which lives at most as long as we do: it ends when the pipe to it does.
#[derive(Debug)]
pub(super) struct Holder {
    /// The process that made the namespaces and waits.
    outer: Child,
    /// Process 1 of the namespaces, by its number outside.
    init: Pid,
    /// Its end is the machine's.
    _life: ChildStdin,
}

impl Holder {
    /// Starts `command`, a call of `unshare` that forks, and waits until what it runs has printed a line. What it complains of lands in
    /// the file `log`.
    pub(super) fn start(mut command: Command, log: &Path) -> Result<Self> {
        let complaints = fs::File::create(log).with_context(|| format!("create {}", log.display()))?;
        let mut outer = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(complaints)
            // An interrupt from the terminal is for us: we end it in order.
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

    /// Process 1 of the namespaces, by its number outside.
    pub(super) fn pid(&self) -> Pid {
        self.init
    }

    /// The process that waits for them.
    pub(super) fn outer_pid(&self) -> u32 {
        self.outer.id()
    }

    /// Ends everything in the namespaces at once, and waits until it has ended.
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

/// The only child of a process; it may be yet to come.
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

/// Runs a program of the machine to its end, and gives what it printed.
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

//! Processor time and memory of a process, from /proc.

use std::fs;
use std::process::{Child, Command, Stdio};

use anyhow::{Context, Result};

use crate::command::output;

/// A measured server, which is killed when this is dropped.
pub(super) struct Measured {
    child: Child,
    /// Clock ticks in a second, the unit of /proc/PID/stat.
    ticks: f64,
}

impl Measured {
    /// Starts `command` with its output in `log`.
    pub(super) fn start(mut command: Command, log: &std::path::Path) -> Result<Self> {
        let file = fs::File::create(log).with_context(|| format!("create {}", log.display()))?;
        let err = file.try_clone().context("share the log")?;
        command.stdin(Stdio::null()).stdout(file).stderr(err);
        let ticks = output("getconf", &["CLK_TCK"])?
            .trim()
            .parse()
            .context("read CLK_TCK")?;
        Ok(Self {
            child: command.spawn().context("start the process to measure")?,
            ticks,
        })
    }

    /// Returns the process id.
    pub(super) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Returns the processor seconds so far, of all threads, in user and kernel mode.
    pub(super) fn processor_seconds(&self) -> Result<f64> {
        let path = format!("/proc/{}/stat", self.pid());
        let stat = fs::read_to_string(&path).with_context(|| format!("read {path}"))?;
        // The second field, the name in parentheses, may contain spaces, so count from its end.
        let after = stat.rsplit(')').next().unwrap_or_default();
        let field = |index: usize| {
            after
                .split_whitespace()
                .nth(index)
                .and_then(|text| text.parse::<f64>().ok())
        };
        let (user, system) = (field(11).context("utime")?, field(12).context("stime")?);
        Ok((user + system) / self.ticks)
    }

    /// Returns a line of /proc/PID/status in MiB: `VmHWM` is the peak, `VmRSS` the resident memory
    /// now.
    pub(super) fn memory_mib(&self, field: &str) -> Result<f64> {
        memory_mib(self.pid(), field)
    }

    /// Sends SIGTERM and waits for the end.
    pub(super) fn stop(&mut self) -> Result<()> {
        if self.child.try_wait().context("look at the process")?.is_none() {
            crate::command::run("kill", &[&self.pid().to_string()])?;
            self.child.wait().context("wait for the process")?;
        }
        Ok(())
    }
}

impl Drop for Measured {
    fn drop(&mut self) {
        if let Err(error) = self.stop() {
            eprintln!("warning: {error:#}");
        }
    }
}

/// Returns a line of /proc/PID/status in MiB.
pub(super) fn memory_mib(pid: u32, field: &str) -> Result<f64> {
    let path = format!("/proc/{pid}/status");
    let status = fs::read_to_string(&path).with_context(|| format!("read {path}"))?;
    let line = status
        .lines()
        .find(|line| line.starts_with(field))
        .with_context(|| format!("{field} in {path}"))?;
    let kib: f64 = line
        .split_whitespace()
        .nth(1)
        .and_then(|text| text.parse().ok())
        .with_context(|| format!("read {line}"))?;
    Ok(kib / 1024.0)
}

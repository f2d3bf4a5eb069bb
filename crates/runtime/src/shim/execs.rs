//! Processes that were started in containers in addition to their first ones.
//!
//! Each has its own cgroup, which holds everything that it starts. All of it is killed when the
//! caller requests it, or when the caller disconnects before the process has ended. Background
//! processes of a process that ended by itself keep running until their container ends, as in other
//! runtimes.

use std::time::{Duration, Instant};

use nix::unistd::Pid;

use crate::cgroup::Group;
use crate::{Error, ErrorKind, Result};

/// Largest number of cgroups of a pod's execs at a time. It exceeds the number of processes of a
/// pod under the node's default limit; more would only use kernel memory.
const GROUPS: usize = 1024;
/// Wait until the first check whether a killed exec is gone. It doubles up to the second value.
const AFTER_KILL: (Duration, Duration) = (Duration::from_millis(5), Duration::from_secs(1));
/// Wait until the first check whether the background processes of an exec are gone. It doubles up
/// to the second value.
const BACKGROUND: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(30));

/// The execs of a pod whose cgroups still exist.
#[derive(Default)]
pub(super) struct Execs(Vec<Entry>);

struct Entry {
    group: Group,
    /// The first process, until it has ended.
    pid: Option<Pid>,
    /// Whether all of its processes must end.
    killed: bool,
    look: Option<Instant>,
    wait: Duration,
}

impl Entry {
    fn look_after(&mut self, wait: Duration) {
        self.wait = wait;
        self.look = Some(Instant::now() + wait);
    }
}

impl Execs {
    /// Returns an error if no further exec may start.
    pub(super) fn check(&self) -> Result<()> {
        if self.0.len() < GROUPS {
            return Ok(());
        }
        let message =
            format!("{GROUPS} commands that were run in this pod have left processes that still run");
        Err(Error::new(ErrorKind::StartFailed, message))
    }

    /// Adds an exec with the first process `pid`.
    pub(super) fn add(&mut self, pid: Pid, group: Group) {
        self.0.push(Entry {
            group,
            pid: Some(pid),
            killed: false,
            look: None,
            wait: Duration::ZERO,
        });
    }

    /// Kills an exec and everything that it started. Returns immediately.
    pub(super) fn kill(&mut self, pid: Pid) {
        if let Some(entry) = self.0.iter_mut().find(|entry| entry.pid == Some(pid)) {
            entry.group.kill();
            entry.killed = true;
            entry.look_after(AFTER_KILL.0);
        }
    }

    /// Handles the end of an exec's first process.
    pub(super) fn ended(&mut self, pid: Pid) {
        let Some(index) = self.0.iter().position(|entry| entry.pid == Some(pid)) else {
            return;
        };
        let entry = &mut self.0[index];
        entry.pid = None;
        if entry.group.remove() {
            self.0.swap_remove(index);
        } else if !entry.killed {
            entry.look_after(BACKGROUND.0);
        }
    }

    /// Returns the time of the next call to [`Execs::look`].
    pub(super) fn next_look(&self) -> Option<Instant> {
        self.0.iter().filter_map(|entry| entry.look).min()
    }

    /// Kills what must end and still runs, and removes the execs that are gone.
    pub(super) fn look(&mut self) {
        let now = Instant::now();
        self.0.retain_mut(|entry| {
            if entry.look.is_none_or(|look| now < look) {
                return true;
            }
            if entry.pid.is_none() && entry.group.remove() {
                return false;
            }
            let longest = if entry.killed {
                entry.group.kill();
                AFTER_KILL.1
            } else {
                BACKGROUND.1
            };
            entry.look_after((entry.wait * 2).min(longest));
            true
        });
    }
}

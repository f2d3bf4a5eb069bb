//! The processes that were started in containers beside their first ones.
//!
//! Each has a cgroup of its own, with all that it starts. It is ended as a whole when its caller says so, and when the caller goes away before the
//! process has ended. What a process that ended by itself leaves in the background stays, as with other runtimes: it ends with its container.

use std::time::{Duration, Instant};

use nix::unistd::Pid;

use crate::cgroup::Group;
use crate::{Error, ErrorKind, Result};

/// Cgroups of execs that a pod may hold at one time: more than it can have processes under the node's default limit would only cost the kernel
/// memory.
const GROUPS: usize = 1024;
/// Wait before it is looked again whether a killed exec is gone, doubling up to the second value.
const AFTER_KILL: (Duration, Duration) = (Duration::from_millis(5), Duration::from_secs(1));
/// Wait before it is looked again whether what an exec left in the background is gone, doubling up to the second value.
const BACKGROUND: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(30));

/// The execs of a pod whose cgroups are still there.
#[derive(Default)]
pub(super) struct Execs(Vec<Entry>);

struct Entry {
    group: Group,
    /// The first process, until it has ended.
    pid: Option<Pid>,
    /// All of it is to end.
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
    /// Whether one more may start.
    pub(super) fn check(&self) -> Result<()> {
        if self.0.len() < GROUPS {
            return Ok(());
        }
        let message =
            format!("{GROUPS} commands that were run in this pod have left processes that still run");
        Err(Error::new(ErrorKind::StartFailed, message))
    }

    /// Takes in an exec whose first process is `pid`.
    pub(super) fn add(&mut self, pid: Pid, group: Group) {
        self.0.push(Entry {
            group,
            pid: Some(pid),
            killed: false,
            look: None,
            wait: Duration::ZERO,
        });
    }

    /// Ends an exec and all that it has started. Returns at once.
    pub(super) fn kill(&mut self, pid: Pid) {
        if let Some(entry) = self.0.iter_mut().find(|entry| entry.pid == Some(pid)) {
            entry.group.kill();
            entry.killed = true;
            entry.look_after(AFTER_KILL.0);
        }
    }

    /// The first process of an exec has ended.
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

    /// When [`Execs::look`] has something to do.
    pub(super) fn next_look(&self) -> Option<Instant> {
        self.0.iter().filter_map(|entry| entry.look).min()
    }

    /// Kills again what is to end and has not, and forgets what is gone.
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

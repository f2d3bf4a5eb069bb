//! The shim: one process for each pod, which runs in the pod's namespaces and is the parent of its
//! containers.
//!
//! It has a single thread with one `poll` loop, because libcontainer forks and changes the working
//! directory, which is not safe with a second thread. Its state is in memory, and in files for a
//! later agent.

mod bundle;
mod container;
mod entry;
mod execs;
mod executor;
mod log;
mod nodes;
mod sandbox;
mod server;
mod users;
mod volumes;

use std::ffi::{CStr, OsString};
use std::fs::File;
use std::io::{self, Write as _};
use std::os::fd::AsFd as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use serde::{Deserialize, Serialize};

use crate::files;
use crate::layout::{self, PodLayout};
use crate::{Error, PodNetwork, Result, SandboxSpec};

/// Hidden verb with which [`crate::ShimCommand::default`] starts this executable.
pub const VERB: &str = "shim";

/// Name of a shim's process, instead of its executable's.
const NAME: &CStr = c"everynode-shim";

/// Limit of the shim's own log in bytes. A full log is emptied.
const LOG_LIMIT: u64 = 1 << 20;

/// Limit of one message in that log in bytes, because an error may contain text from a pod.
const MESSAGE_LIMIT: usize = 4 << 10;

/// Record of a pod without its containers, in `pod.json`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct PodRecord {
    pub(crate) spec: SandboxSpec,
    pub(crate) network: Option<PodNetwork>,
    /// Name of the instance, and of the cgroup above all its others.
    pub(crate) instance: String,
    /// Cgroup of all pods, below the instance's. Empty for a pod of an earlier version.
    #[serde(default)]
    pub(crate) pods_cgroup: String,
    /// Set last, when the veth and the host ports are in place. A pod without it was never
    /// complete.
    pub(crate) ready: bool,
}

impl PodRecord {
    /// Returns the pod's cgroup, as an absolute path below the roots of the hierarchies.
    pub(crate) fn cgroup(&self) -> String {
        let parent = self.spec.cgroup_parent.trim_matches('/');
        let above = self.pods_cgroup();
        if parent.is_empty() {
            format!("{above}/pod{}", self.spec.id)
        } else {
            format!("{above}/{parent}")
        }
    }

    /// Returns the cgroup of all pods.
    pub(crate) fn pods_cgroup(&self) -> String {
        if self.pods_cgroup.is_empty() {
            format!("/{}", self.instance)
        } else {
            format!("/{}/{}", self.instance, self.pods_cgroup)
        }
    }
}

/// Message that a shim writes once to its standard output: it accepts connections, or it has
/// failed.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Ready {
    Yes,
    No(Error),
}

/// Runs a shim until its pod is shut down. `arguments` are those after [`VERB`]. The process must
/// not yet have a second thread or a tracing subscriber: records that are logged after a fork would
/// go to a container's log.
pub fn main(arguments: Vec<OsString>) -> ExitCode {
    let Some(folder) = arguments.first().map(PathBuf::from) else {
        return ExitCode::from(2);
    };
    // The executable's name does not show that this is a shim.
    if let Err(error) = nix::sys::prctl::set_name(NAME) {
        complain(&Error::machine(format!("name the process: {error}")));
    }
    match start(&folder) {
        Ok(mut server) => {
            tell(&Ready::Yes);
            match server.run() {
                Ok(()) => ExitCode::SUCCESS,
                Err(error) => {
                    complain(&error);
                    ExitCode::FAILURE
                }
            }
        }
        Err(error) => {
            complain(&error);
            tell(&Ready::No(error));
            ExitCode::FAILURE
        }
    }
}

fn start(folder: &Path) -> Result<server::Server> {
    let layout = PodLayout(folder.to_path_buf());
    let record: PodRecord = layout::read_json(&layout.record())?
        .ok_or_else(|| Error::machine(format!("{} is missing", layout.record().display())))?;
    files::restore_limit()?;
    let namespaces = sandbox::enter(&layout, &record)?;
    server::Server::new(layout, record, namespaces)
}

/// Sends a message to the agent and closes standard output, so that the agent does not wait for
/// more.
fn tell(ready: &Ready) {
    let mut output = std::io::stdout();
    let written = serde_json::to_writer(&mut output, ready)
        .map_err(std::io::Error::from)
        .and_then(|()| output.flush())
        .and_then(|()| sandbox::close_stdout());
    if let Err(error) = written {
        complain(&Error::machine(format!("tell the agent: {error}")));
    }
}

/// Writes an error to the shim's own log, its standard error. If that fails, the error is lost.
fn complain(error: &Error) {
    let log = std::io::stderr().as_fd().try_clone_to_owned().map(File::from);
    log.and_then(|log| complain_to(log, error)).ok();
}

/// Appends an error to a log. Empties a full log first, because a pod can cause any number of
/// errors.
fn complain_to(mut log: File, error: &Error) -> io::Result<()> {
    let status = log.metadata()?;
    if status.is_file() && status.len() >= LOG_LIMIT {
        log.set_len(0)?;
    }
    let message = error.to_string();
    let message = &message[..message.floor_char_boundary(MESSAGE_LIMIT)];
    writeln!(log, "{} {message}", jiff::Timestamp::now())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shims_log_has_its_bound_whatever_a_pod_causes() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("shim.log");
        let open = || File::options().create(true).append(true).open(&path).unwrap();
        let long = Error::machine("long ".repeat(MESSAGE_LIMIT));
        for _ in 0..3 * LOG_LIMIT / MESSAGE_LIMIT as u64 {
            complain_to(open(), &long).unwrap();
        }
        complain_to(open(), &Error::machine("the last one")).unwrap();
        let log = std::fs::read_to_string(&path).unwrap();
        assert!(log.ends_with(" the last one\n"));
        assert!(
            log.len() as u64 <= LOG_LIMIT + 2 * MESSAGE_LIMIT as u64,
            "{}",
            log.len()
        );
    }
}

//! The shim: one process a pod, in the pod's namespaces, that parents its containers.
//!
//! It is one thread around one `poll`: libcontainer forks and changes the working directory, which no second thread would
//! survive. What it knows is in its memory and, for whoever comes after, in files.

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

/// The hidden verb that [`crate::ShimCommand::default`] starts this executable with.
pub const VERB: &str = "shim";

/// The name of a shim's process, in place of its executable's.
const NAME: &CStr = c"everynode-shim";

/// Bytes of the shim's own log after which it starts anew.
const LOG_LIMIT: u64 = 1 << 20;

/// Bytes of one message in it: an error may repeat what a pod has said.
const MESSAGE_LIMIT: usize = 4 << 10;

/// What is kept of a pod beside its containers, in `pod.json`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct PodRecord {
    pub(crate) spec: SandboxSpec,
    pub(crate) network: Option<PodNetwork>,
    /// The instance's name, which is the cgroup above all of its own.
    pub(crate) instance: String,
    /// The cgroup of all pods below the instance's; empty for a pod of an earlier version.
    #[serde(default)]
    pub(crate) pods_cgroup: String,
    /// Written last: the cable lies and the host ports lead here. A pod without it was never made whole.
    pub(crate) ready: bool,
}

impl PodRecord {
    /// The pod's cgroup, absolute below the hierarchies' roots.
    pub(crate) fn cgroup(&self) -> String {
        let parent = self.spec.cgroup_parent.trim_matches('/');
        let above = self.pods_cgroup();
        if parent.is_empty() {
            format!("{above}/pod{}", self.spec.id)
        } else {
            format!("{above}/{parent}")
        }
    }

    /// The cgroup of all pods.
    pub(crate) fn pods_cgroup(&self) -> String {
        if self.pods_cgroup.is_empty() {
            format!("/{}", self.instance)
        } else {
            format!("/{}/{}", self.instance, self.pods_cgroup)
        }
    }
}

/// What a shim says on its standard output once, when it is ready to be connected to, or why it will never be.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Ready {
    Yes,
    No(Error),
}

/// Runs a shim until its pod is shut down. `arguments` are those after [`VERB`]. Must be called before the process has a second
/// thread or a tracing subscriber: what is traced after a fork would end up in a container's log.
pub fn main(arguments: Vec<OsString>) -> ExitCode {
    let Some(folder) = arguments.first().map(PathBuf::from) else {
        return ExitCode::from(2);
    };
    // The executable has no name that would say it.
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

/// Says something to the agent and closes standard output, so that it does not wait for more.
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

/// Writes an error to the shim's own log, which is its standard error; when that cannot be written, nobody is left to tell.
fn complain(error: &Error) {
    let log = std::io::stderr().as_fd().try_clone_to_owned().map(File::from);
    log.and_then(|log| complain_to(log, error)).ok();
}

/// Appends an error to a log. A full one is emptied first: a pod can cause as many errors as it likes.
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

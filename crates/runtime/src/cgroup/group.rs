//! The cgroup of one exec. It holds everything that the exec starts, also after a double fork.

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::{Hierarchies, below};
use crate::error::Context as _;
use crate::{Error, Result};

/// v1 hierarchies that can hold an exec's cgroup: their new cgroups accept processes without
/// further settings.
const V1_HOLDERS: [&str; 3] = ["pids", "name=systemd", "freezer"];

/// Cgroup below a container's, which holds one exec.
#[derive(Debug)]
pub(crate) struct Group {
    folder: PathBuf,
}

impl Hierarchies {
    /// Creates the cgroup `name` below `cgroup`. It sets no limits, so one hierarchy is enough. v2
    /// is preferred if it is mounted, also together with v1, because it can kill all processes of a
    /// cgroup at once.
    pub(crate) fn group(&self, cgroup: &str, name: &str) -> Result<Group> {
        let v1 = V1_HOLDERS.into_iter().find_map(|holder| self.v1_of(holder));
        let root = self.v2.as_deref().or(v1);
        let root = root.ok_or_else(|| Error::machine("no cgroup hierarchy holds processes"))?;
        let folder = below(root, cgroup).join(name);
        fs::create_dir_all(&folder).context(|| format!("create cgroup {}", folder.display()))?;
        Ok(Group { folder })
    }
}

impl Group {
    /// Returns the file to which a process writes `0` to enter the cgroup.
    pub(crate) fn entrance(&self) -> Result<File> {
        let path = self.folder.join("cgroup.procs");
        let file = File::options().write(true).open(&path);
        file.context(|| format!("open {}", path.display()))
    }

    /// Sends SIGKILL to all processes in the cgroup and returns immediately. With v1, and with
    /// kernels before 5.14, processes that fork meanwhile survive: the caller repeats the call
    /// until [`Group::remove`] succeeds.
    pub(crate) fn kill(&self) {
        if fs::write(self.folder.join("cgroup.kill"), "1").is_ok() {
            return;
        }
        let mut pids = Vec::new();
        super::collect_processes(&self.folder, &mut pids);
        for pid in pids {
            if let Err(error) = kill(Pid::from_raw(pid), Signal::SIGKILL) {
                tracing::trace!(pid, %error, "a process of an exec has ended by itself");
            }
        }
    }

    /// Removes the cgroup unless it holds processes. Returns whether it is gone.
    pub(crate) fn remove(&self) -> bool {
        remove_empty(&self.folder)
    }
}

/// Removes a cgroup and those that its processes created below it. Does not wait for processes.
fn remove_empty(folder: &Path) -> bool {
    for name in crate::layout::folders(folder) {
        if !remove_empty(&folder.join(name)) {
            return false;
        }
    }
    match fs::remove_dir(folder) {
        Ok(()) => true,
        Err(error) => error.kind() == std::io::ErrorKind::NotFound,
    }
}

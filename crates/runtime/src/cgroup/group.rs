//! The cgroup of one exec: a handle on everything that it starts, which a second fork does not escape.

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::{Hierarchies, below};
use crate::error::Context as _;
use crate::{Error, Result};

/// The v1 hierarchies that may hold an exec's cgroup: a new cgroup of theirs takes processes without further settings.
const V1_HOLDERS: [&str; 3] = ["pids", "name=systemd", "freezer"];

/// A cgroup below a container's that holds one exec.
#[derive(Debug)]
pub(crate) struct Group {
    folder: PathBuf,
}

impl Hierarchies {
    /// Makes the cgroup `name` below `cgroup`, in one hierarchy, because it limits nothing: v2 where it is mounted, beside v1 too, for it
    /// ends all processes of a cgroup at once.
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
    /// What a process writes `0` to in order to enter.
    pub(crate) fn entrance(&self) -> Result<File> {
        let path = self.folder.join("cgroup.procs");
        let file = File::options().write(true).open(&path);
        file.context(|| format!("open {}", path.display()))
    }

    /// Sends SIGKILL to all that is in it now, and returns at once. Kernels before 5.14, and v1, leave what forks meanwhile: the caller repeats
    /// it until [`Group::remove`] succeeds.
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

    /// Removes it; answers whether it is gone. One that holds processes stays.
    pub(crate) fn remove(&self) -> bool {
        remove_empty(&self.folder)
    }
}

/// Removes a cgroup and those that its processes made below it, without waiting for processes.
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

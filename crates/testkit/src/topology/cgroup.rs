//! Cgroups of a topology: one below the root of each hierarchy, and below it one for each machine,
//! which is the machine's own root.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

/// Controllers that a machine may need under cgroup v2, where a parent enables those of its
/// children.
const CONTROLLERS: [&str; 5] = ["cpu", "cpuset", "io", "memory", "pids"];

/// File that adds a process to a cgroup.
const PROCESSES: &str = "cgroup.procs";

/// A cgroup in every mounted hierarchy.
#[derive(Clone, Debug)]
pub(super) struct Cgroup(Vec<PathBuf>);

impl Cgroup {
    /// Creates a cgroup below the roots of all hierarchies.
    pub(super) fn create(name: &str) -> Result<Self> {
        let mounts = fs::read_to_string("/proc/self/mounts").context("read the mounts")?;
        let roots: Vec<PathBuf> = mounts
            .lines()
            .filter_map(|line| {
                let words: Vec<&str> = line.split(' ').collect();
                matches!(words.get(2), Some(&("cgroup" | "cgroup2"))).then(|| PathBuf::from(words[1]))
            })
            .collect();
        Cgroup(roots).child(name)
    }

    /// Creates a cgroup below this one.
    pub(super) fn child(&self, name: &str) -> Result<Self> {
        let folders: Vec<PathBuf> = self.0.iter().map(|parent| parent.join(name)).collect();
        for (parent, folder) in self.0.iter().zip(&folders) {
            pass_on_controllers(parent);
            fs::create_dir_all(folder).with_context(|| format!("create {}", folder.display()))?;
            // A v1 cpuset accepts processes only when it has processors and memory.
            for file in ["cpuset.cpus", "cpuset.mems"] {
                let (above, own) = (parent.join(file), folder.join(file));
                if own.exists() && !parent.join("cgroup.controllers").exists() {
                    fs::copy(&above, &own).with_context(|| format!("copy {}", above.display()))?;
                }
            }
        }
        Ok(Cgroup(folders))
    }

    /// Returns its folder in each hierarchy.
    pub(super) fn folders(&self) -> &[PathBuf] {
        &self.0
    }

    /// Returns the files that add a process whose cgroup namespace is to begin here.
    pub(super) fn roots(&self) -> impl Iterator<Item = PathBuf> {
        self.0.iter().map(|folder| folder.join(PROCESSES))
    }

    /// Returns the files that add a process of the machine. Under v2 that is a cgroup beside the
    /// pods' cgroups, see `machine.sh`.
    pub(super) fn entries(&self) -> impl Iterator<Item = PathBuf> {
        self.0.iter().map(|folder| {
            let own = folder.join("machine").join(PROCESSES);
            if own.exists() { own } else { folder.join(PROCESSES) }
        })
    }
}

/// Under v2, enables all available controllers for the children. A controller may be missing, or in
/// use elsewhere. Then a limit that needs it fails with an error.
fn pass_on_controllers(folder: &Path) {
    let file = folder.join("cgroup.subtree_control");
    if file.exists() {
        for controller in CONTROLLERS {
            drop(fs::write(&file, format!("+{controller}")));
        }
    }
}

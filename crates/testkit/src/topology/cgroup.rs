//! Cgroups of a topology: one below the hierarchies' roots, and below it one a machine, which is the machine's own root.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

/// What a machine may need under cgroup v2, where a parent says what its children may limit.
const CONTROLLERS: [&str; 5] = ["cpu", "cpuset", "io", "memory", "pids"];

/// Takes a process in.
const PROCESSES: &str = "cgroup.procs";

/// A cgroup in every mounted hierarchy.
#[derive(Clone, Debug)]
pub(super) struct Cgroup(Vec<PathBuf>);

impl Cgroup {
    /// Makes a cgroup below the roots of all hierarchies.
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

    /// Makes a cgroup below this one.
    pub(super) fn child(&self, name: &str) -> Result<Self> {
        let folders: Vec<PathBuf> = self.0.iter().map(|parent| parent.join(name)).collect();
        for (parent, folder) in self.0.iter().zip(&folders) {
            pass_on_controllers(parent);
            fs::create_dir_all(folder).with_context(|| format!("create {}", folder.display()))?;
            // A v1 cpuset takes processes only when it has processors and memory.
            for file in ["cpuset.cpus", "cpuset.mems"] {
                let (above, own) = (parent.join(file), folder.join(file));
                if own.exists() && !parent.join("cgroup.controllers").exists() {
                    fs::copy(&above, &own).with_context(|| format!("copy {}", above.display()))?;
                }
            }
        }
        Ok(Cgroup(folders))
    }

    /// Its folder in every hierarchy.
    pub(super) fn folders(&self) -> &[PathBuf] {
        &self.0
    }

    /// The files that take a process in whose namespace is to begin here.
    pub(super) fn roots(&self) -> impl Iterator<Item = PathBuf> {
        self.0.iter().map(|folder| folder.join(PROCESSES))
    }

    /// The files that take in a process of the machine. Under v2 that is a cgroup beside the pods', see `machine.sh`.
    pub(super) fn entries(&self) -> impl Iterator<Item = PathBuf> {
        self.0.iter().map(|folder| {
            let own = folder.join("machine").join(PROCESSES);
            if own.exists() { own } else { folder.join(PROCESSES) }
        })
    }
}

/// Under v2, lets children limit what can be limited here. A controller may be missing, or in use elsewhere: then a limit that needs it
/// fails and says so.
fn pass_on_controllers(folder: &Path) {
    let file = folder.join("cgroup.subtree_control");
    if file.exists() {
        for controller in CONTROLLERS {
            drop(fs::write(&file, format!("+{controller}")));
        }
    }
}

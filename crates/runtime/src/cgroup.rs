//! Cgroups of this instance: one tree with its name in every hierarchy (v1, v2, or both together).

mod group;

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use crate::bounded;
use crate::devices::{self, Rule};
use crate::error::Context as _;
use crate::{Error, ErrorKind, Resources, Result, Stats, bpf};

pub(crate) use group::Group;

/// Timeout for killed processes to leave a cgroup. The kernel needs milliseconds unless a disk
/// hangs.
const KILL_PATIENCE: Duration = Duration::from_secs(10);

/// Folder to which cgroup names in `nft` are relative.
const NFT_ROOT: &str = "/sys/fs/cgroup";

/// The mounted hierarchies.
#[derive(Clone, Debug)]
pub(crate) struct Hierarchies {
    /// v1: mount points and their controllers, `name=systemd` included.
    v1: Vec<(PathBuf, Vec<String>)>,
    v2: Option<PathBuf>,
}

impl Hierarchies {
    /// Reads the mounts.
    pub(crate) fn find() -> Result<Hierarchies> {
        let mounts = bounded::kernel("/proc/self/mounts").context(|| "read mounts")?;
        let mut found = Hierarchies {
            v1: Vec::new(),
            v2: None,
        };
        for line in mounts.lines() {
            let mut fields = line.split(' ');
            let (_, Some(target), Some(kind), Some(options)) =
                (fields.next(), fields.next(), fields.next(), fields.next())
            else {
                continue;
            };
            match kind {
                "cgroup" => found
                    .v1
                    .push((target.into(), options.split(',').map(str::to_owned).collect())),
                "cgroup2" if found.v2.is_none() => found.v2 = Some(target.into()),
                _ => {}
            }
        }
        Ok(found)
    }

    /// Returns whether the controllers are in the v2 hierarchy.
    pub(crate) fn unified(&self) -> bool {
        self.v1.is_empty()
    }

    /// Where the v1 hierarchies are mounted.
    pub(crate) fn v1_roots(&self) -> impl Iterator<Item = &Path> {
        self.v1.iter().map(|(root, _)| root.as_path())
    }

    fn roots(&self) -> impl Iterator<Item = &Path> {
        self.v1_roots().chain(self.v2.as_deref())
    }

    /// Where the v2 hierarchy is mounted.
    #[cfg(test)]
    pub(crate) fn v2_root(&self) -> Option<&Path> {
        self.v2.as_deref()
    }

    pub(crate) fn v1_of(&self, controller: &str) -> Option<&Path> {
        self.v1
            .iter()
            .find(|(_, options)| options.iter().any(|option| option == controller))
            .map(|(root, _)| root.as_path())
    }

    /// Puts this process where a service manager that stops the agent does not look for it.
    pub(crate) fn move_self(&self, cgroup: &str) -> Result<()> {
        for root in [self.v1_of("name=systemd"), self.v2.as_deref()]
            .into_iter()
            .flatten()
        {
            let folder = below(root, cgroup);
            fs::create_dir_all(&folder).context(|| format!("create cgroup {}", folder.display()))?;
            fs::write(folder.join("cgroup.procs"), "0")
                .context(|| format!("move the shim to cgroup {}", folder.display()))?;
        }
        Ok(())
    }

    /// Creates a cgroup in the v2 hierarchy, and returns its name for nftables rules.
    ///
    /// Returns `None` if that hierarchy is not mounted below the folder that `nft` uses.
    pub(crate) fn for_rules(&self, cgroup: &str) -> Result<Option<String>> {
        let Some(root) = &self.v2 else { return Ok(None) };
        let folder = below(root, cgroup);
        let Ok(name) = folder.strip_prefix(NFT_ROOT) else {
            return Ok(None);
        };
        fs::create_dir_all(&folder).context(|| format!("create cgroup {}", folder.display()))?;
        Ok(Some(name.display().to_string()))
    }

    /// Moves this process into a cgroup in every hierarchy that has the cgroup.
    pub(crate) fn enter(&self, cgroup: &str) -> Result<()> {
        for root in self.roots() {
            let procs = below(root, cgroup).join("cgroup.procs");
            match fs::write(&procs, "0") {
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
                entered => entered.context(|| format!("enter cgroup {}", procs.display()))?,
            }
        }
        Ok(())
    }

    /// Creates a cgroup for child cgroups, and sets its limits.
    pub(crate) fn create(&self, cgroup: &str, limits: &Resources) -> Result<()> {
        if self.unified() {
            let Some(root) = &self.v2 else { return Ok(()) };
            let folder = below(root, cgroup);
            fs::create_dir_all(&folder).context(|| format!("create cgroup {}", folder.display()))?;
            let mut at = root.clone();
            for part in Path::new(cgroup.trim_start_matches('/')) {
                // A controller may be missing or in use elsewhere. Limits that need it then fail
                // below with an error.
                for controller in ["memory", "cpu", "pids", "cpuset", "io", "hugetlb"] {
                    if let Err(error) = fs::write(at.join("cgroup.subtree_control"), format!("+{controller}"))
                    {
                        tracing::debug!(%controller, cgroup = %at.display(), %error, "controller not enabled");
                    }
                }
                at.push(part);
            }
            let values = v2_limits(limits);
            check_controllers(root, &folder, &values)?;
            return write_all(&folder, &values);
        }
        for (controller, values) in v1_limits(limits) {
            if values.is_empty() {
                continue;
            }
            let Some(root) = self.v1_of(controller) else {
                continue;
            };
            let folder = below(root, cgroup);
            fs::create_dir_all(&folder).context(|| format!("create cgroup {}", folder.display()))?;
            write_all(&folder, &values)?;
        }
        Ok(())
    }

    /// Denies the machine's huge pages to a cgroup and those below it. They are reserved for
    /// programs of the machine; pods do not get any.
    pub(crate) fn deny_huge_pages(&self, cgroup: &str) -> Result<()> {
        let root = match self.unified() {
            true => self.v2.as_deref(),
            false => self.v1_of("hugetlb"),
        };
        let Some(root) = root else { return Ok(()) };
        let folder = below(root, cgroup);
        fs::create_dir_all(&folder).context(|| format!("create cgroup {}", folder.display()))?;
        // There is one file for each page size, and one for reservations. A kernel without the
        // controller has none.
        for file in fs::read_dir(&folder).context(|| format!("read cgroup {}", folder.display()))? {
            let file = file.context(|| format!("read cgroup {}", folder.display()))?;
            let name = file.file_name();
            let name = name.to_string_lossy();
            if name.starts_with("hugetlb.") && (name.ends_with(".max") || name.ends_with(".limit_in_bytes")) {
                fs::write(file.path(), "0").context(|| format!("set {} to 0", file.path().display()))?;
            }
        }
        Ok(())
    }

    /// Completes the cgroup of a container whose program does not run yet with settings that
    /// libcontainer does not make. On v2 these are the device rules, and the kill of the whole
    /// container when memory runs out, as in Kubernetes. `None` allows all devices.
    ///
    /// Fails if the kernel cannot enforce the device rules.
    pub(crate) fn confine(&self, cgroup: &str, devices: Option<&[Rule]>) -> Result<()> {
        let Some(root) = self.v2.as_deref().filter(|_| self.unified()) else {
            return match (devices, self.v1_of("devices")) {
                // libcontainer wrote the rules when it created the cgroup.
                (None, _) | (_, Some(_)) => Ok(()),
                (Some(_), None) => Err(unconfined(&"the devices controller of cgroup v1 is not mounted")),
            };
        };
        let folder = below(root, cgroup);
        let as_a_whole = folder.join("memory.oom.group");
        // Without the memory controller the file does not exist, and there is no limit either.
        if as_a_whole.exists() {
            fs::write(&as_a_whole, "1").context(|| format!("set {} to 1", as_a_whole.display()))?;
        }
        let Some(rules) = devices else { return Ok(()) };
        bpf::attach_device_program(&folder, &devices::program(rules)).map_err(|error| unconfined(&error))
    }

    /// Kills the processes in a cgroup and below, and waits until it is empty.
    pub(crate) fn kill(&self, cgroup: &str) -> Result<()> {
        let started = Instant::now();
        loop {
            let pids = self.processes(cgroup);
            if pids.is_empty() {
                return Ok(());
            }
            for pid in &pids {
                // The process may have ended meanwhile.
                if let Err(error) = nix::sys::signal::kill(
                    nix::unistd::Pid::from_raw(*pid),
                    nix::sys::signal::Signal::SIGKILL,
                ) {
                    tracing::debug!(pid, %error, "already gone");
                }
            }
            if started.elapsed() > KILL_PATIENCE {
                return Err(Error::machine(format!(
                    "processes {pids:?} of cgroup {cgroup} do not end"
                )));
            }
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    /// Returns the processes in a cgroup and below, by their PIDs on the machine. Leaves out
    /// zombies.
    pub(crate) fn processes(&self, cgroup: &str) -> Vec<i32> {
        let mut pids = Vec::new();
        for root in self.roots() {
            collect_processes(&below(root, cgroup), &mut pids);
        }
        pids.sort_unstable();
        pids.dedup();
        pids.retain(|pid| !is_zombie(*pid));
        pids
    }

    /// Removes a cgroup and those below it in all hierarchies. They must be empty.
    pub(crate) fn remove(&self, cgroup: &str) -> Result<()> {
        for root in self.roots() {
            remove_folder(&below(root, cgroup))?;
        }
        Ok(())
    }

    /// Removes a cgroup without child cgroups. Keeps one that is in use.
    pub(crate) fn remove_if_empty(&self, cgroup: &str) {
        for root in self.roots() {
            let folder = below(root, cgroup);
            if let Err(error) = fs::remove_dir(&folder) {
                tracing::trace!(cgroup = %folder.display(), %error, "kept");
            }
        }
    }

    /// Returns the number of processes in this cgroup that the OOM killer has killed.
    pub(crate) fn oom_kills(&self, cgroup: &str) -> u64 {
        let file = match (self.v1_of("memory"), &self.v2) {
            (Some(root), _) => below(root, cgroup).join("memory.oom_control"),
            (None, Some(root)) => below(root, cgroup).join("memory.events"),
            (None, None) => return 0,
        };
        keyed(&file, "oom_kill").unwrap_or(0)
    }

    /// Returns the current resource usage of a cgroup.
    pub(crate) fn stats(&self, cgroup: &str) -> Stats {
        if let (true, Some(root)) = (self.unified(), &self.v2) {
            let folder = below(root, cgroup);
            let used = number(&folder.join("memory.current")).unwrap_or(0);
            let idle = keyed(&folder.join("memory.stat"), "inactive_file").unwrap_or(0);
            return Stats {
                cpu_nanoseconds: keyed(&folder.join("cpu.stat"), "usage_usec").unwrap_or(0) * 1000,
                memory_working_set: used.saturating_sub(idle),
            };
        }
        let mut stats = Stats::default();
        if let Some(root) = self.v1_of("memory") {
            let folder = below(root, cgroup);
            let used = number(&folder.join("memory.usage_in_bytes")).unwrap_or(0);
            let idle = keyed(&folder.join("memory.stat"), "total_inactive_file").unwrap_or(0);
            stats.memory_working_set = used.saturating_sub(idle);
        }
        if let Some(root) = self.v1_of("cpuacct") {
            stats.cpu_nanoseconds = number(&below(root, cgroup).join("cpuacct.usage")).unwrap_or(0);
        }
        stats
    }
}

fn unconfined(cause: &dyn std::fmt::Display) -> Error {
    Error::new(
        ErrorKind::StartFailed,
        format!(
            "keep the container from the machine's devices: {cause}; only privileged containers run without this. On cgroup v2 it takes a kernel with \
             CONFIG_CGROUP_BPF, and an agent with CAP_BPF and CAP_NET_ADMIN"
        ),
    )
}

fn below(root: &Path, cgroup: &str) -> PathBuf {
    root.join(cgroup.trim_start_matches('/'))
}

fn collect_processes(folder: &Path, pids: &mut Vec<i32>) {
    let Ok(procs) = bounded::kernel(folder.join("cgroup.procs")) else {
        return;
    };
    // 0 means a process outside of this PID namespace.
    pids.extend(
        procs
            .lines()
            .filter_map(|line| line.parse::<i32>().ok())
            .filter(|pid| *pid > 0),
    );
    for name in crate::layout::folders(folder) {
        collect_processes(&folder.join(name), pids);
    }
}

/// Returns whether a process has ended: it does not exist, or it is a zombie.
pub(crate) fn is_zombie(pid: i32) -> bool {
    bounded::kernel(format!("/proc/{pid}/stat"))
        .ok()
        .and_then(|stat| stat.rsplit_once(") ").map(|(_, rest)| rest.starts_with('Z')))
        .unwrap_or(true)
}

fn remove_folder(folder: &Path) -> Result<()> {
    for name in crate::layout::folders(folder) {
        remove_folder(&folder.join(name))?;
    }
    let started = Instant::now();
    loop {
        match fs::remove_dir(folder) {
            Ok(()) => return Ok(()),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
            // A process that has just ended is still counted for a moment.
            Err(error) if error.raw_os_error() == Some(libc::EBUSY) && started.elapsed() < KILL_PATIENCE => {
                std::thread::sleep(Duration::from_millis(1));
            }
            Err(error) => {
                return Err(Error::machine(format!(
                    "remove cgroup {}: {error}",
                    folder.display()
                )));
            }
        }
    }
}

type Values = Vec<(&'static str, String)>;

fn v1_limits(limits: &Resources) -> [(&'static str, Values); 3] {
    let mut memory = Vec::new();
    if let Some(bytes) = limits.memory_limit {
        memory.push(("memory.limit_in_bytes", bytes.to_string()));
    }
    let mut cpu = Vec::new();
    if let Some(shares) = limits.cpu_shares {
        cpu.push(("cpu.shares", shares.max(2).to_string()));
    }
    if let Some(quota) = limits.cpu_quota {
        cpu.push((
            "cpu.cfs_period_us",
            limits.cpu_period.unwrap_or(100_000).to_string(),
        ));
        cpu.push(("cpu.cfs_quota_us", quota.to_string()));
    }
    let mut pids = Vec::new();
    if let Some(limit) = limits.pids_limit {
        pids.push(("pids.max", limit.to_string()));
    }
    [("memory", memory), ("cpu", cpu), ("pids", pids)]
}

fn v2_limits(limits: &Resources) -> Values {
    let mut values = Vec::new();
    if let Some(bytes) = limits.memory_limit {
        values.push(("memory.max", bytes.to_string()));
    }
    if let Some(shares) = limits.cpu_shares {
        // Maps shares 2..262144 to weights 1..10000, as all runtimes do.
        let shares = shares.clamp(2, 262_144);
        values.push(("cpu.weight", (1 + (shares - 2) * 9999 / 262_142).to_string()));
    }
    if let Some(quota) = limits.cpu_quota {
        values.push((
            "cpu.max",
            format!("{quota} {}", limits.cpu_period.unwrap_or(100_000)),
        ));
    }
    if let Some(limit) = limits.pids_limit {
        values.push(("pids.max", limit.to_string()));
    }
    values
}

/// Returns an error if a limit needs a controller that the cgroup does not have.
fn check_controllers(root: &Path, folder: &Path, values: &Values) -> Result<()> {
    let has = |folder: &Path, wanted: &str| {
        bounded::kernel(folder.join("cgroup.controllers"))
            .is_ok_and(|all| all.split_whitespace().any(|controller| controller == wanted))
    };
    for (file, _) in values {
        let controller = file.split('.').next().unwrap_or(file);
        if has(folder, controller) {
            continue;
        }
        let remedy = if has(root, controller) {
            "a cgroup on the way to it holds processes, or belongs to somebody who does not pass it on: the agent takes the machine's own cgroup tree, \
             not that of a container"
                .to_owned()
        } else {
            format!(
                "the kernel has none, or cgroup v1 holds it: boot with `cgroup_enable={controller}`, or with \
                 `systemd.unified_cgroup_hierarchy=1`"
            )
        };
        return Err(Error::machine(format!(
            "cgroup {} has no controller {controller}, which {file} takes: {remedy}",
            folder.display()
        )));
    }
    Ok(())
}

fn write_all(folder: &Path, values: &Values) -> Result<()> {
    for (file, value) in values {
        fs::write(folder.join(file), value)
            .context(|| format!("set {file} of cgroup {} to {value}", folder.display()))?;
    }
    Ok(())
}

fn number(file: &Path) -> Option<u64> {
    bounded::kernel(file).ok()?.trim().parse().ok()
}

fn keyed(file: &Path, key: &str) -> Option<u64> {
    bounded::kernel(file)
        .ok()?
        .lines()
        .find_map(|line| line.strip_prefix(key)?.strip_prefix(' ')?.trim().parse().ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_container_that_cannot_be_kept_from_devices_is_refused_with_the_remedy() {
        // This is not a cgroup, so the kernel attaches no program to it.
        let folder = tempfile::tempdir().unwrap();
        let only = |v1: &[&str], v2: Option<&Path>| Hierarchies {
            v1: v1
                .iter()
                .map(|name| (folder.path().into(), vec![(*name).to_owned()]))
                .collect(),
            v2: v2.map(Path::to_owned),
        };
        let rules = devices::default_rules();
        for hierarchies in [only(&[], Some(folder.path())), only(&["memory"], None)] {
            let error = hierarchies.confine("/", Some(&rules)).unwrap_err();
            assert_eq!(error.kind, ErrorKind::StartFailed);
            assert!(error.message.contains("CONFIG_CGROUP_BPF"), "{}", error.message);
            hierarchies.confine("/", None).unwrap();
        }
    }

    #[test]
    fn huge_pages_of_every_size_are_denied_on_both_versions() {
        for version in ["max", "limit_in_bytes"] {
            let root = tempfile::tempdir().unwrap();
            let folder = root.path().join("pods");
            fs::create_dir(&folder).unwrap();
            for name in ["2MB", "2MB.rsvd", "1GB"] {
                fs::write(folder.join(format!("hugetlb.{name}.{version}")), "max").unwrap();
            }
            let other = folder.join("hugetlb.2MB.max_usage_in_bytes");
            fs::write(&other, "7").unwrap();
            let v1 = vec![(root.path().to_owned(), vec!["hugetlb".to_owned()])];
            let hierarchies = match version {
                "max" => Hierarchies {
                    v1: Vec::new(),
                    v2: Some(root.path().to_owned()),
                },
                _ => Hierarchies { v1, v2: None },
            };
            hierarchies.deny_huge_pages("/pods").unwrap();
            for name in ["2MB", "2MB.rsvd", "1GB"] {
                let limit = fs::read_to_string(folder.join(format!("hugetlb.{name}.{version}")));
                assert_eq!(limit.unwrap(), "0", "{name}");
            }
            assert_eq!(fs::read_to_string(&other).unwrap(), "7");
        }
    }
}

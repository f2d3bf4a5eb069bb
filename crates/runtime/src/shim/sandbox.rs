//! Creates a pod's namespaces, which the shim holds.

use std::fs;
use std::path::Path;

use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};

use super::PodRecord;
use super::volumes::{self, Namespaces};
use crate::cgroup::Hierarchies;
use crate::error::Context as _;
use crate::layout::PodLayout;
use crate::{Error, Result, sysctl};

/// Mount options of a pod's `/dev/shm`, with the size that other runtimes use.
const SHARED_MEMORY: &str = "size=65536k,mode=1777";

/// The shim's `oom_score_adj`, as in other runtimes, because the end of the shim ends the whole
/// pod.
const OOM_SCORE: &str = "-998";

/// Creates the pod's namespaces and moves this process into them.
pub(super) fn enter(layout: &PodLayout, record: &PodRecord) -> Result<Namespaces> {
    let spec = &record.spec;
    nix::unistd::setsid().context(|| "start a session")?;
    // Containers inherit it. The agent's umask may be stricter.
    nix::sys::stat::umask(nix::sys::stat::Mode::from_bits_truncate(0o022));
    nix::unistd::chdir("/").context(|| "change to /")?;
    nix::sys::prctl::set_child_subreaper(true).context(|| "become a subreaper")?;
    if let Err(error) = fs::write("/proc/self/oom_score_adj", OOM_SCORE) {
        // Without CAP_SYS_RESOURCE it keeps the agent's value.
        if error.kind() != std::io::ErrorKind::PermissionDenied {
            return Err(Error::machine(format!(
                "set the shim's out-of-memory score: {error}"
            )));
        }
    }
    // When a service manager stops the agent, it kills everything in the agent's cgroup.
    Hierarchies::find()?.move_self(&format!("/{}/shims", record.instance))?;
    let mut flags = CloneFlags::CLONE_NEWNS;
    flags.set(CloneFlags::CLONE_NEWNET, !spec.host_network);
    flags.set(CloneFlags::CLONE_NEWIPC, !spec.host_ipc);
    flags.set(CloneFlags::CLONE_NEWUTS, spec.hostname.is_some());
    let machine = volumes::current()?;
    unshare(flags).context(|| "make namespaces")?;
    mount(
        None::<&str>,
        "/",
        None::<&str>,
        MsFlags::MS_SLAVE | MsFlags::MS_REC,
        None::<&str>,
    )
    .context(|| "keep the pod's mounts to itself")?;
    if let Some(hostname) = &spec.hostname {
        nix::unistd::sethostname(hostname).context(|| format!("set the host name {hostname}"))?;
    }
    sysctl::apply(spec)?;
    let shared = shared_memory(layout);
    fs::create_dir_all(&shared).context(|| format!("create {}", shared.display()))?;
    if spec.host_ipc {
        bind("/dev/shm".as_ref(), &shared)?;
    } else {
        mount(
            Some("shm"),
            &shared,
            Some("tmpfs"),
            MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC,
            Some(SHARED_MEMORY),
        )
        .context(|| "mount the pod's /dev/shm")?;
    }
    Namespaces::new(machine)
}

/// Returns the mount point of the pod's `/dev/shm` in the shim's mount namespace.
pub(super) fn shared_memory(layout: &PodLayout) -> std::path::PathBuf {
    layout.0.join("shm")
}

fn bind(source: &Path, target: &Path) -> Result<()> {
    mount(
        Some(source),
        target,
        None::<&str>,
        MsFlags::MS_BIND | MsFlags::MS_REC,
        None::<&str>,
    )
    .context(|| format!("bind {} to {}", source.display(), target.display()))
}

/// Replaces standard output with `/dev/null`.
pub(super) fn close_stdout() -> std::io::Result<()> {
    let null = fs::File::options().write(true).open("/dev/null")?;
    nix::unistd::dup2_stdout(&null)?;
    Ok(())
}

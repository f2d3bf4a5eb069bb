//! Converts a container's spec to the OCI runtime config for libcontainer.

use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use super::executor::DEFAULT_PATH;
use super::nodes::Devices;
use super::users::User;
use crate::bounded;
use crate::cgroup::Hierarchies;
use crate::devices::Rule;
use crate::images::Image;
use crate::{
    ContainerSpec, Error, Mount, Propagation, Resources, Result, SandboxSpec, SecuritySpec, seccomp,
};

/// Default capabilities of a container, as in Docker and containerd.
const DEFAULT_CAPABILITIES: &[&str] = &[
    "CAP_AUDIT_WRITE",
    "CAP_CHOWN",
    "CAP_DAC_OVERRIDE",
    "CAP_FOWNER",
    "CAP_FSETID",
    "CAP_KILL",
    "CAP_MKNOD",
    "CAP_NET_BIND_SERVICE",
    "CAP_NET_RAW",
    "CAP_SETFCAP",
    "CAP_SETGID",
    "CAP_SETPCAP",
    "CAP_SETUID",
    "CAP_SYS_CHROOT",
];

/// Capabilities by number, as in `linux/capability.h`.
const CAPABILITIES: &[&str] = &[
    "CAP_CHOWN",
    "CAP_DAC_OVERRIDE",
    "CAP_DAC_READ_SEARCH",
    "CAP_FOWNER",
    "CAP_FSETID",
    "CAP_KILL",
    "CAP_SETGID",
    "CAP_SETUID",
    "CAP_SETPCAP",
    "CAP_LINUX_IMMUTABLE",
    "CAP_NET_BIND_SERVICE",
    "CAP_NET_BROADCAST",
    "CAP_NET_ADMIN",
    "CAP_NET_RAW",
    "CAP_IPC_LOCK",
    "CAP_IPC_OWNER",
    "CAP_SYS_MODULE",
    "CAP_SYS_RAWIO",
    "CAP_SYS_CHROOT",
    "CAP_SYS_PTRACE",
    "CAP_SYS_PACCT",
    "CAP_SYS_ADMIN",
    "CAP_SYS_BOOT",
    "CAP_SYS_NICE",
    "CAP_SYS_RESOURCE",
    "CAP_SYS_TIME",
    "CAP_SYS_TTY_CONFIG",
    "CAP_MKNOD",
    "CAP_LEASE",
    "CAP_AUDIT_WRITE",
    "CAP_AUDIT_CONTROL",
    "CAP_SETFCAP",
    "CAP_MAC_OVERRIDE",
    "CAP_MAC_ADMIN",
    "CAP_SYSLOG",
    "CAP_WAKE_ALARM",
    "CAP_BLOCK_SUSPEND",
    "CAP_AUDIT_READ",
    "CAP_PERFMON",
    "CAP_BPF",
    "CAP_CHECKPOINT_RESTORE",
];

/// Paths that are hidden from containers, because they show or change the whole machine.
const MASKED: &[&str] = &[
    "/proc/acpi",
    "/proc/asound",
    "/proc/interrupts",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/sched_debug",
    "/proc/scsi",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/sys/devices/virtual/powercap",
    "/sys/firmware",
];

const READ_ONLY: &[&str] = &[
    "/proc/bus",
    "/proc/fs",
    "/proc/irq",
    "/proc/sys",
    "/proc/sysrq-trigger",
];

/// Path of a container's cgroups.
const CGROUPS: &str = "/sys/fs/cgroup";

/// Input of a container's config.
pub(super) struct Parts<'a> {
    pub(super) sandbox: &'a SandboxSpec,
    pub(super) spec: &'a ContainerSpec,
    pub(super) image: &'a Image,
    pub(super) user: &'a User,
    pub(super) rootfs: &'a Path,
    /// The pod's `/dev/shm`.
    pub(super) shared_memory: &'a Path,
    pub(super) cgroup: &'a str,
    pub(super) oom_score_adj: i32,
    pub(super) devices: &'a Devices,
    pub(super) hierarchies: &'a Hierarchies,
}

/// A container's config, and its environment in order.
pub(super) struct Bundle {
    pub(super) config: Value,
    pub(super) environment: Vec<(String, String)>,
}

pub(super) fn bundle(parts: &Parts<'_>) -> Result<Bundle> {
    let Parts {
        sandbox,
        spec,
        image,
        user,
        ..
    } = parts;
    let security = &spec.security;
    let capabilities = capabilities(security)?;
    let environment = environment(parts);
    let mut process = json!({
        "terminal": spec.tty,
        "user": {"uid": user.uid, "gid": user.gid, "additionalGids": user.groups},
        "args": command(spec, image)?,
        "env": environment.iter().map(|(name, value)| format!("{name}={value}")).collect::<Vec<_>>(),
        "cwd": spec.working_dir.as_deref().or(Some(image.working_dir.as_str())).filter(|dir| !dir.is_empty()).unwrap_or("/"),
        "capabilities": capability_sets(&capabilities, user.uid),
        "oomScoreAdj": parts.oom_score_adj,
    });
    if security.no_new_privileges {
        // Left out otherwise, because with `false` libcontainer loads the filter after it has
        // dropped the capability for it.
        process["noNewPrivileges"] = json!(true);
    }
    let mut namespaces = vec![json!({"type": "mount"})];
    if !sandbox.host_pid {
        namespaces.push(json!({"type": "pid"}));
    }
    if parts.hierarchies.unified() && !security.privileged {
        namespaces.push(json!({"type": "cgroup"}));
    }
    let mut linux = json!({
        "cgroupsPath": parts.cgroup,
        "resources": resources(&spec.resources, parts.devices.rules.as_deref()),
        "namespaces": namespaces,
        "rootfsPropagation": root_propagation(&spec.mounts),
        "devices": parts.devices.nodes,
    });
    if !security.privileged {
        let mut read_only = read_only_cgroups(parts);
        linux["maskedPaths"] = json!(MASKED);
        read_only.extend(READ_ONLY.iter().map(PathBuf::from));
        linux["readonlyPaths"] = json!(read_only);
        if let Some(filter) = seccomp::resolve(&security.seccomp, &capabilities)? {
            linux["seccomp"] = filter;
        }
    }
    let config = json!({
        "ociVersion": "1.0.2",
        // Made read-only after the volumes are attached, because folders for them may have to be
        // created.
        "root": {"path": parts.rootfs, "readonly": false},
        "process": process,
        "mounts": mounts(parts),
        "linux": linux,
    });
    Ok(Bundle { config, environment })
}

fn command(spec: &ContainerSpec, image: &Image) -> Result<Vec<String>> {
    let mut words = if spec.command.is_empty() {
        image.entrypoint.clone()
    } else {
        spec.command.clone()
    };
    if !spec.args.is_empty() {
        words.extend(spec.args.iter().cloned());
    } else if spec.command.is_empty() {
        words.extend(image.cmd.iter().cloned());
    }
    if words.is_empty() {
        return Err(Error::new(crate::ErrorKind::StartFailed, "no command specified"));
    }
    Ok(words)
}

fn environment(parts: &Parts<'_>) -> Vec<(String, String)> {
    let mut all: Vec<(String, String)> = vec![("PATH".into(), DEFAULT_PATH.into())];
    if let Some(hostname) = &parts.sandbox.hostname {
        all.push(("HOSTNAME".into(), hostname.clone()));
    }
    if parts.spec.tty {
        all.push(("TERM".into(), "xterm".into()));
    }
    all.push(("HOME".into(), parts.user.home.clone()));
    let image = parts.image.env.iter().map(|entry| {
        let (name, value) = entry.split_once('=').unwrap_or((entry, ""));
        (name.to_owned(), value.to_owned())
    });
    for (name, value) in image.chain(parts.spec.env.iter().cloned()) {
        match all.iter_mut().find(|(other, _)| *other == name) {
            Some(entry) => entry.1 = value,
            None => all.push((name, value)),
        }
    }
    all
}

/// Returns the capabilities of a container, sorted.
fn capabilities(security: &SecuritySpec) -> Result<Vec<String>> {
    if security.privileged {
        return Ok(known_capabilities());
    }
    let mut set: std::collections::BTreeSet<String> = DEFAULT_CAPABILITIES
        .iter()
        .map(|name| (*name).to_owned())
        .collect();
    for name in &security.drop_capabilities {
        if name.eq_ignore_ascii_case("ALL") {
            set.clear();
        } else {
            set.remove(&full_name(name)?);
        }
    }
    for name in &security.add_capabilities {
        if name.eq_ignore_ascii_case("ALL") {
            // All except those that were dropped by name.
            let mut all = known_capabilities();
            for dropped in &security.drop_capabilities {
                if !dropped.eq_ignore_ascii_case("ALL") {
                    let dropped = full_name(dropped)?;
                    all.retain(|other| *other != dropped);
                }
            }
            set.extend(all);
        } else {
            set.insert(full_name(name)?);
        }
    }
    // This process cannot grant capabilities that it does not have.
    let known = known_capabilities();
    Ok(set.into_iter().filter(|name| known.contains(name)).collect())
}

fn full_name(name: &str) -> Result<String> {
    let upper = name.to_ascii_uppercase();
    let full = if upper.starts_with("CAP_") {
        upper
    } else {
        format!("CAP_{upper}")
    };
    if CAPABILITIES.contains(&full.as_str()) {
        Ok(full)
    } else {
        Err(Error::invalid(format!("unknown capability {full:?}")))
    }
}

/// Returns the capabilities that this process can grant: its own bounding set.
fn known_capabilities() -> Vec<String> {
    let own = bounded::kernel("/proc/self/status")
        .ok()
        .and_then(|status| {
            let line = status
                .lines()
                .find(|line| line.starts_with("CapBnd:"))?
                .to_owned();
            u64::from_str_radix(line.split_whitespace().nth(1)?, 16).ok()
        })
        .unwrap_or(u64::MAX);
    CAPABILITIES
        .iter()
        .enumerate()
        .filter(|(number, _)| own & (1 << number) != 0)
        .map(|(_, name)| (*name).to_owned())
        .collect()
}

/// Users other than root have them only in the bounding set, for set-user-id programs, as in other
/// runtimes.
fn capability_sets(capabilities: &[String], uid: u32) -> Value {
    let held: &[String] = if uid == 0 { capabilities } else { &[] };
    json!({"bounding": capabilities, "effective": held, "permitted": held, "inheritable": [], "ambient": []})
}

/// Returns the container's limits. The device rules are for v1, where libcontainer writes them.
fn resources(limits: &Resources, devices: Option<&[Rule]>) -> Value {
    let everything = json!({"allow": devices.is_none(), "access": "rwm"});
    let allowed = devices.unwrap_or_default().iter().map(Rule::oci);
    let devices: Vec<Value> = std::iter::once(everything).chain(allowed).collect();
    let mut resources = json!({ "devices": devices });
    if let Some(bytes) = limits.memory_limit {
        resources["memory"] = json!({"limit": bytes});
    }
    let mut cpu = json!({});
    if let Some(shares) = limits.cpu_shares {
        cpu["shares"] = json!(shares.max(2));
    }
    if let Some(quota) = limits.cpu_quota {
        cpu["quota"] = json!(quota);
        cpu["period"] = json!(limits.cpu_period.unwrap_or(100_000));
    }
    resources["cpu"] = cpu;
    if let Some(limit) = limits.pids_limit {
        resources["pids"] = json!({"limit": limit});
    }
    resources
}

/// Returns the propagation of the container's root: the widest that a mount requests, as in other
/// runtimes. The propagation of each mount is set when it is attached.
fn root_propagation(mounts: &[Mount]) -> &'static str {
    let asks = |wanted| mounts.iter().any(|mount| mount.propagation == wanted);
    if asks(Propagation::Bidirectional) {
        "shared"
    } else if asks(Propagation::HostToContainer) {
        "slave"
    } else {
        "private"
    }
}

/// Returns the paths that must be read-only, so that a container cannot change its own limits.
/// libcontainer mounts v1 hierarchies writable, whatever the mount options are. The folder comes
/// before the mounts in it, because making it read-only binds it again.
///
/// A volume at `/`, or one behind a symbolic link of the image, does not hide them. Only a volume
/// at the folder itself counts, because they are not mounted then ([`mounts`]).
fn read_only_cgroups(parts: &Parts<'_>) -> Vec<PathBuf> {
    let folder = Path::new(CGROUPS);
    let replaced = parts.spec.mounts.iter().any(|mount| mount.target == folder);
    if parts.hierarchies.unified() || replaced {
        return Vec::new();
    }
    let below = parts
        .hierarchies
        .v1_roots()
        .filter(|root| root.starts_with(folder));
    std::iter::once(folder)
        .chain(below)
        .map(Path::to_path_buf)
        .collect()
}

/// Returns the standard mounts. Volumes are attached later ([`super::volumes`]).
fn mounts(parts: &Parts<'_>) -> Vec<Value> {
    let security = &parts.spec.security;
    let system = if security.privileged { "rw" } else { "ro" };
    let standard = [
        (
            "/proc",
            json!({"type": "proc", "source": "proc", "options": ["nosuid", "noexec", "nodev"]}),
        ),
        (
            "/dev",
            json!({"type": "tmpfs", "source": "tmpfs", "options": ["nosuid", "strictatime", "mode=755", "size=65536k"]}),
        ),
        (
            "/dev/pts",
            json!({"type": "devpts", "source": "devpts",
            "options": ["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"]}),
        ),
        (
            "/dev/mqueue",
            json!({"type": "mqueue", "source": "mqueue", "options": ["nosuid", "noexec", "nodev"]}),
        ),
        (
            "/dev/shm",
            json!({"type": "bind", "source": parts.shared_memory, "options": ["rbind", "nosuid", "noexec", "nodev"]}),
        ),
        (
            "/sys",
            json!({"type": "sysfs", "source": "sysfs", "options": ["nosuid", "noexec", "nodev", system]}),
        ),
        (
            CGROUPS,
            json!({"type": "cgroup", "source": "cgroup", "options": ["nosuid", "noexec", "nodev", "relatime", system]}),
        ),
    ];
    // The runtime needs these two mounts; a volume there is mounted over them.
    let needed = |target: &str| matches!(target, "/dev" | "/proc");
    let asked = |target: &str| {
        let mut mounts = parts.spec.mounts.iter();
        mounts.any(|mount| mount.target == Path::new(target))
    };
    let standard = standard
        .into_iter()
        .filter(|(target, _)| needed(target) || !asked(target));
    let standard = standard.map(|(target, mut mount)| {
        mount["destination"] = json!(target);
        mount
    });
    standard.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(command: &[&str], args: &[&str]) -> Vec<String> {
        let own = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>();
        let image = Image {
            entrypoint: own(&["/entry"]),
            cmd: own(&["cmd"]),
            ..Image::default()
        };
        let spec = ContainerSpec {
            command: own(command),
            args: own(args),
            ..ContainerSpec::default()
        };
        super::command(&spec, &image).unwrap()
    }

    #[test]
    fn command_and_args_replace_what_the_image_says_as_in_a_pod() {
        assert_eq!(words(&[], &[]), ["/entry", "cmd"]);
        assert_eq!(words(&[], &["a"]), ["/entry", "a"]);
        assert_eq!(words(&["c"], &[]), ["c"]);
        assert_eq!(words(&["c"], &["a"]), ["c", "a"]);
    }

    #[test]
    fn capabilities_are_dropped_before_they_are_added() {
        let security = SecuritySpec {
            drop_capabilities: vec!["ALL".into()],
            add_capabilities: vec!["NET_BIND_SERVICE".into(), "cap_chown".into()],
            ..SecuritySpec::default()
        };
        assert_eq!(
            capabilities(&security).unwrap(),
            ["CAP_CHOWN", "CAP_NET_BIND_SERVICE"]
        );
        let unknown = SecuritySpec {
            add_capabilities: vec!["FLY".into()],
            ..SecuritySpec::default()
        };
        assert!(capabilities(&unknown).is_err());
    }
}

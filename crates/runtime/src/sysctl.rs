//! Kernel parameters of a pod's namespaces.

use std::fs;
use std::path::{Path, PathBuf};

use crate::error::Context as _;
use crate::{Error, Result, SandboxSpec};

/// A namespace that has its own values of a kernel parameter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Namespace {
    Ipc,
    Network,
}

/// Prefixes of parameters' paths below `/proc/sys`, with their namespaces. All others belong to the
/// whole machine.
const NAMESPACED: &[(&str, Namespace)] = &[
    ("kernel/shm", Namespace::Ipc),
    ("kernel/msg", Namespace::Ipc),
    ("kernel/sem", Namespace::Ipc),
    ("fs/mqueue/", Namespace::Ipc),
    ("net/", Namespace::Network),
];

/// Sets the parameters that a pod requests. The calling process is in the pod's namespaces.
pub(crate) fn apply(spec: &SandboxSpec) -> Result<()> {
    for (name, value) in &spec.sysctls {
        let path = path_of(name, spec.host_network, spec.host_ipc)?;
        fs::write(Path::new("/proc/sys").join(path), value)
            .context(|| format!("set sysctl {name} to {value}"))?;
    }
    Ok(())
}

/// Returns a parameter's path below `/proc/sys`. Refuses parameters that would change the machine,
/// because the caller may not have checked them.
fn path_of(name: &str, host_network: bool, host_ipc: bool) -> Result<PathBuf> {
    let path = with_slashes(name);
    if path.split('/').any(|part| matches!(part, "" | "." | "..")) || path.contains('\0') {
        return Err(Error::invalid(format!("sysctl {name:?} is malformed")));
    }
    let namespace = NAMESPACED.iter().find(|(front, _)| path.starts_with(front));
    let shared = match namespace {
        Some((_, Namespace::Network)) if host_network => Some("network"),
        Some((_, Namespace::Ipc)) if host_ipc => Some("IPC namespace"),
        Some(_) => None,
        None => {
            return Err(Error::invalid(format!(
                "sysctl {name:?} belongs to the whole machine, not to a pod's namespaces"
            )));
        }
    };
    match shared {
        Some(what) => Err(Error::invalid(format!(
            "sysctl {name:?} would change the machine, whose {what} the pod shares"
        ))),
        None => Ok(path.into()),
    }
}

/// Converts a name to slashes. Names are separated by dots or by slashes. The first of the two in
/// the name is the separator, and the other one stands for a dot in a part
/// (`net.ipv4.conf.eth0/1.forwarding`, `net/ipv4/conf/eth0.1/forwarding`).
fn with_slashes(name: &str) -> String {
    if name.chars().find(|letter| matches!(letter, '.' | '/')) == Some('/') {
        return name.to_owned();
    }
    let swapped = |letter| match letter {
        '.' => '/',
        '/' => '.',
        other => other,
    };
    name.chars().map(swapped).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_parameters_of_the_pods_namespaces_have_a_path() {
        let path = |name| path_of(name, false, false).ok();
        for (name, below) in [
            ("net.ipv4.tcp_syncookies", "net/ipv4/tcp_syncookies"),
            ("net/ipv4/tcp_syncookies", "net/ipv4/tcp_syncookies"),
            (
                "net.ipv4.conf.eth0/1.forwarding",
                "net/ipv4/conf/eth0.1/forwarding",
            ),
            (
                "net/ipv4/conf/eth0.1/forwarding",
                "net/ipv4/conf/eth0.1/forwarding",
            ),
            ("kernel.shmmax", "kernel/shmmax"),
            ("kernel.sem", "kernel/sem"),
            ("fs.mqueue.msg_max", "fs/mqueue/msg_max"),
        ] {
            assert_eq!(path(name), Some(below.into()), "{name}");
        }
        for name in [
            "vm.swappiness",
            "vm/swappiness",
            "kernel.core_pattern",
            "kernel.hostname",
            "fs.file-max",
            "network.x",
            "net",
            "net/../vm/swappiness",
            "net/./ipv4/ip_forward",
            "net.//.vm.swappiness",
            "/net/ipv4/ip_forward",
            "net..ipv4",
            "",
        ] {
            assert_eq!(path(name), None, "{name}");
        }
    }

    #[test]
    fn parameters_of_shared_namespaces_are_refused() {
        assert!(path_of("net.ipv4.tcp_syncookies", true, false).is_err());
        assert!(path_of("net/ipv4/tcp_syncookies", true, false).is_err());
        assert!(path_of("kernel.shmmax", true, false).is_ok());
        assert!(path_of("kernel.shmmax", false, true).is_err());
        assert!(path_of("fs.mqueue.msg_max", false, true).is_err());
        assert!(path_of("net.ipv4.tcp_syncookies", false, true).is_ok());
    }
}

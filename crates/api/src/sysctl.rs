//! Kernel parameters: their names, as Kubernetes reads them, and those that any pod may set.

use std::borrow::Cow;
use std::fmt;

/// Characters of a name.
pub const LENGTH: usize = 253;

/// The kernel parameters that a pod may set without the consent of its node: each belongs to a namespace of the pod and affects no other
/// pod. The list is that of the Pod Security Standards and of the kubelet.
pub const SAFE: [&str; 12] = [
    "kernel.shm_rmid_forced",
    "net.ipv4.ip_local_port_range",
    "net.ipv4.ip_local_reserved_ports",
    "net.ipv4.ip_unprivileged_port_start",
    "net.ipv4.ping_group_range",
    "net.ipv4.tcp_fin_timeout",
    "net.ipv4.tcp_keepalive_intvl",
    "net.ipv4.tcp_keepalive_probes",
    "net.ipv4.tcp_keepalive_time",
    "net.ipv4.tcp_rmem",
    "net.ipv4.tcp_syncookies",
    "net.ipv4.tcp_wmem",
];

/// A namespace of Linux that has values of its own for some parameters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Namespace {
    /// IPC.
    Ipc,
    /// The network.
    Net,
}

impl fmt::Display for Namespace {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Namespace::Ipc => "IPC",
            Namespace::Net => "Net",
        })
    }
}

/// Whether a name has the form of one; its parts stand between dots or slashes.
pub fn is_valid(name: &str) -> bool {
    let edge = |byte: &u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    name.len() <= LENGTH
        && name.split(['.', '/']).map(str::as_bytes).all(|part| {
            part.first().is_some_and(edge)
                && part.last().is_some_and(edge)
                && part.iter().all(|byte| edge(byte) || matches!(byte, b'-' | b'_'))
        })
}

/// The name with dots between its parts. Where a slash is the first of the two to appear, slashes separate and dots stand in parts.
pub fn normalize(name: &str) -> Cow<'_, str> {
    if name.chars().find(|letter| matches!(letter, '.' | '/')) != Some('/') {
        return name.into();
    }
    let swapped = |letter| match letter {
        '.' => '/',
        '/' => '.',
        other => other,
    };
    name.chars().map(swapped).collect()
}

/// The namespace of a parameter; none for one of the whole machine.
pub fn namespace(name: &str) -> Option<Namespace> {
    let name = normalize(name);
    let of_ipc = ["kernel.shm", "kernel.msg", "fs.mqueue."];
    if name == "kernel.sem" || of_ipc.iter().any(|front| name.starts_with(front)) {
        Some(Namespace::Ipc)
    } else {
        name.starts_with("net.").then_some(Namespace::Net)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_separator_decides_which_one_separates() {
        for (name, normal) in [
            ("net.ipv4.tcp_syncookies", "net.ipv4.tcp_syncookies"),
            ("net/ipv4/tcp_syncookies", "net.ipv4.tcp_syncookies"),
            (
                "net/ipv4/conf/eth0.1/forwarding",
                "net.ipv4.conf.eth0/1.forwarding",
            ),
            (
                "net.ipv4.conf.eth0/1.forwarding",
                "net.ipv4.conf.eth0/1.forwarding",
            ),
            ("plain", "plain"),
        ] {
            assert_eq!(normalize(name), normal);
        }
    }

    #[test]
    fn parameters_are_namespaced_by_the_front_of_their_names() {
        for name in [
            "kernel.sem",
            "kernel/shmmax",
            "kernel.msgmnb",
            "fs.mqueue.msg_max",
        ] {
            assert_eq!(namespace(name), Some(Namespace::Ipc), "{name}");
        }
        assert_eq!(namespace("net/core/somaxconn"), Some(Namespace::Net));
        for name in ["kernel.semx", "vm.swappiness", "fs.file-max", "net", "network.x"] {
            assert_eq!(namespace(name), None, "{name}");
        }
    }
}

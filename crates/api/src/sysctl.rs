//! Kernel parameters: the form of their names, and the ones that any pod may set.

use std::borrow::Cow;
use std::fmt;

/// Most characters of a name.
pub const LENGTH: usize = 253;

/// The kernel parameters that a pod may set without permission from the node. Each belongs to a
/// namespace of the pod and affects no other pod. The list is that of the Pod Security Standards
/// and of the kubelet.
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

/// A Linux namespace with its own values of some parameters.
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

/// Returns whether a name is valid. Dots or slashes separate its parts.
pub fn is_valid(name: &str) -> bool {
    let edge = |byte: &u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    name.len() <= LENGTH
        && name.split(['.', '/']).map(str::as_bytes).all(|part| {
            part.first().is_some_and(edge)
                && part.last().is_some_and(edge)
                && part.iter().all(|byte| edge(byte) || matches!(byte, b'-' | b'_'))
        })
}

/// Returns the name with dots between its parts. If the first separator is a slash, slashes
/// separate the parts, and dots belong to them.
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

/// Returns the namespace of a parameter; `None` for one of the whole machine.
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
    fn first_separator_in_a_name_decides() {
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
    fn parameter_prefix_decides_the_namespace() {
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

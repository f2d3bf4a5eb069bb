//! What a caller asks for: plain descriptions of a pod's sandbox, of its containers and of an exec.
//!
//! They are written to disk and sent to the pod's shim as JSON, so every type here is `serde` both ways.
//! Nothing is defaulted by cluster rules here: the caller resolves names, volumes and environment first.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::LogPath;

/// A pod's sandbox: the namespaces, the address and the cgroup that its containers share.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct SandboxSpec {
    /// Unique on the machine, `[A-Za-z0-9_.-]{1,63}`; a pod's UID does. Names the pod in every later call.
    pub id: String,
    /// Free facts that the caller wants back after its own restart ([`crate::Pod::annotations`]): namespace, name, …
    pub annotations: BTreeMap<String, String>,
    /// Host name in the pod's own UTS namespace; `None` shares the machine's (pods on the host's network).
    pub hostname: Option<String>,
    /// Use the machine's network instead of a namespace and an address of its own.
    pub host_network: bool,
    /// Use the machine's process ids.
    pub host_pid: bool,
    /// Use the machine's IPC namespace.
    pub host_ipc: bool,
    /// Cgroup below this instance's own, relative, such as `burstable/pod<uid>`; empty stands for `pod<id>`.
    pub cgroup_parent: String,
    /// Limits of the whole pod, set on its cgroup.
    pub resources: Resources,
    /// Kernel parameters of the pod's namespaces, such as `net.ipv4.ip_local_port_range`.
    pub sysctls: BTreeMap<String, String>,
    /// Ports of the machine that lead to the pod. Ignored on the host's network.
    pub host_ports: Vec<HostPort>,
    /// What network plugins are told of the pod, where the network is theirs.
    pub plugin_args: PluginArgs,
}

/// What network plugins are told of a pod.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct PluginArgs {
    /// Names and values of `CNI_ARGS`, such as `K8S_POD_NAME` and the pod's name. Values hold no `;`.
    pub arguments: Vec<(String, String)>,
    /// For plugins that declare a capability: what it is to be used for, in the conventions' form, such as `bandwidth`. Host ports
    /// and ranges are known and not given here.
    pub capabilities: BTreeMap<String, serde_json::Value>,
}

/// A port of the machine that is forwarded to a port of the pod.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HostPort {
    /// Transport protocol.
    pub protocol: Protocol,
    /// The machine's address that is listened on; `None` (and 0.0.0.0 and ::) is every address, 127.0.0.1 included.
    pub host_ip: Option<IpAddr>,
    /// The machine's port.
    pub host_port: u16,
    /// The pod's port.
    pub container_port: u16,
}

/// A transport protocol of a [`HostPort`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Protocol {
    /// TCP.
    #[default]
    Tcp,
    /// UDP.
    Udp,
    /// SCTP.
    Sctp,
}

/// One attempt at running a container. A restart is a new [`ContainerSpec`] with another `id`.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct ContainerSpec {
    /// Unique in the pod, `[A-Za-z0-9_.-]{1,100}`, such as `web-0` (name and attempt).
    pub id: String,
    /// Free facts that come back in [`crate::ContainerStatus::annotations`].
    pub annotations: BTreeMap<String, String>,
    /// Name of an image that is present, as given to [`crate::Images::resolve`].
    pub image: String,
    /// Replaces the image's entrypoint when not empty; the image's `Cmd` is then dropped, as in a Pod.
    pub command: Vec<String>,
    /// Replaces the image's `Cmd` when not empty.
    pub args: Vec<String>,
    /// Working directory; `None` is the image's, else `/`.
    pub working_dir: Option<String>,
    /// Environment, in order; added to the image's, same names replaced.
    pub env: Vec<(String, String)>,
    /// Mounts beside the standard ones (`/proc`, `/sys`, `/dev`, `/dev/shm`, `/dev/pts`, `/dev/mqueue`, `/sys/fs/cgroup`), in any order.
    pub mounts: Vec<Mount>,
    /// Devices of the machine that it may use beside the usual ones; privileged or not.
    pub devices: Vec<Device>,
    /// Limits of the container.
    pub resources: Resources,
    /// Users, capabilities and what else confines it.
    pub security: SecuritySpec,
    /// A terminal as its standard streams. All output is then `stdout` in the log.
    pub tty: bool,
    /// The container's log in CRI format, appended to and rotated; its folder is made. `None` throws the output away.
    pub log_path: Option<LogPath>,
}

/// A device of the machine that a container is given.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Device {
    /// Absolute path on the machine, such as `/dev/fuse`; a link is followed.
    pub path: PathBuf,
    /// Absolute path in the container, in `/dev`.
    pub target: PathBuf,
    /// What the container may do with it.
    pub access: DeviceAccess,
}

/// What a container may do with a device.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct DeviceAccess {
    /// Read from it.
    pub read: bool,
    /// Write to it.
    pub write: bool,
    /// Make further nodes of it.
    pub make: bool,
}

/// A file or folder of the machine that a container sees, with the mounts below it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Mount {
    /// What errors call it, such as the volume's name.
    pub name: String,
    /// Path in the container; made when missing (as a file unless the source is a folder).
    pub target: PathBuf,
    /// Absolute path on the machine. Containers must not be able to change it; what lies below it they may.
    pub source: PathBuf,
    /// A path below the source that is mounted in its place; made as a folder when missing. It cannot lead out of the source.
    pub sub_path: Option<PathBuf>,
    /// What the source must be.
    pub kind: Option<FileKind>,
    /// Read-only in the container, at its top, as Kubernetes does it.
    pub read_only: bool,
    /// Whether targets of other mounts are made in it although it is read-only.
    pub nests: bool,
    /// Whether mounts made later pass between the machine and the container.
    pub propagation: Propagation,
}

/// Kinds of files that a [`Mount`] may insist on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum FileKind {
    /// A folder.
    Folder,
    /// A regular file.
    File,
    /// A socket.
    Socket,
    /// A character device.
    CharDevice,
    /// A block device.
    BlockDevice,
}

impl FileKind {
    /// As Kubernetes' errors name it, such as `a directory`.
    pub fn noun(self) -> &'static str {
        match self {
            FileKind::Folder => "a directory",
            FileKind::File => "a file",
            FileKind::Socket => "a socket file",
            FileKind::CharDevice => "a character device",
            FileKind::BlockDevice => "a block device",
        }
    }
}

/// Kubernetes' mount propagation.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Propagation {
    /// Neither way.
    #[default]
    None,
    /// What the machine mounts later appears in the container.
    HostToContainer,
    /// Both ways.
    Bidirectional,
}

/// Limits. Zero-sized or absent means unlimited.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Resources {
    /// Bytes of memory, page cache included, after which the kernel reclaims and then kills.
    pub memory_limit: Option<u64>,
    /// Relative weight in units of 1/1024 processor (Kubernetes: milli CPU * 1024 / 1000, at least 2).
    pub cpu_shares: Option<u64>,
    /// Microseconds of processor time in each `cpu_period`.
    pub cpu_quota: Option<i64>,
    /// Microseconds; `None` is 100,000.
    pub cpu_period: Option<u64>,
    /// Processes and threads.
    pub pids_limit: Option<i64>,
    /// Kernel's preference to kill it when memory runs out, -1000 to 1000; raised to the shim's own value where the kernel
    /// would refuse a lower one.
    pub oom_score_adj: Option<i32>,
}

/// What confines a container.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct SecuritySpec {
    /// All capabilities, all devices, nothing masked, no seccomp.
    pub privileged: bool,
    /// User: `uid`, `uid:gid`, `name` or `name:group` as in an image's config; `None` is the image's. Names are looked up in the image.
    pub user: Option<String>,
    /// Primary group; wins over the one in `user`.
    pub group: Option<u32>,
    /// Supplementary groups beside those of the image's `/etc/group` (a pod's `fsGroup` belongs here too).
    pub supplementary_groups: Vec<u32>,
    /// Refuse to start when the user turns out to be 0 ([`crate::ErrorKind::RunAsNonRoot`]).
    pub run_as_non_root: bool,
    /// Read-only root file system.
    pub read_only_root: bool,
    /// No gain of privileges by `execve`.
    pub no_new_privileges: bool,
    /// Added to the default set; `CAP_NET_ADMIN` or `NET_ADMIN`, `ALL` for all.
    pub add_capabilities: Vec<String>,
    /// Removed before adding; `ALL` for all.
    pub drop_capabilities: Vec<String>,
    /// System call filter.
    pub seccomp: Seccomp,
}

/// System call filter of a container.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Seccomp {
    /// None.
    #[default]
    Unconfined,
    /// This crate's allow list, [`crate::seccomp_default`].
    RuntimeDefault,
    /// A profile on this machine, in the OCI runtime's JSON (`Localhost`).
    Localhost(PathBuf),
}

/// A process to run in a running container.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct ExecSpec {
    /// Program and arguments.
    pub command: Vec<String>,
    /// Give it a terminal.
    pub tty: bool,
    /// Give it a standard input that [`crate::Exec::stdin`] writes to; else `/dev/null`.
    pub stdin: bool,
    /// Keep its standard output; else `/dev/null`.
    pub stdout: bool,
    /// Keep its standard error; else `/dev/null`. Ignored with `tty`.
    pub stderr: bool,
}

/// A pod's addresses, at most one of each family.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PodNetwork {
    /// The addresses, the main one first.
    pub addresses: Vec<PodAddress>,
    /// Bytes that its link takes; `None` is the kernel's default.
    pub mtu: Option<u32>,
    /// Who gave them.
    #[serde(default)]
    pub given_by: Giver,
}

/// Who gave a pod its addresses, and connected it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Giver {
    /// This runtime, which has it on its bridge.
    #[default]
    Bridge,
    /// The plugins of the machine.
    Plugins {
        /// Whether they lead its host ports, too.
        lead_ports: bool,
    },
}

impl PodNetwork {
    /// The addresses alone.
    pub fn ips(&self) -> impl Iterator<Item = IpAddr> + '_ {
        self.addresses.iter().map(|given| given.address)
    }
}

/// How an address of a pod was given.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PodAddress {
    /// The pod's address.
    pub address: IpAddr,
    /// The bridge's address, which is the pod's default route; plugins may give none.
    pub gateway: Option<IpAddr>,
    /// Prefix length of the network that it is of.
    pub prefix: u8,
}

/// The size of a terminal in characters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TerminalSize {
    /// Columns.
    pub width: u16,
    /// Rows.
    pub height: u16,
}

/// Grace that lets a stopped container end by itself when the caller names none (Kubernetes' default).
pub const DEFAULT_GRACE: Duration = Duration::from_secs(30);

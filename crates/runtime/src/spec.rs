//! Plain descriptions of a pod's sandbox, of its containers and of an exec, which the caller
//! requests.
//!
//! They are saved on disk and sent to the pod's shim as JSON, so every type here implements both
//! `serde` traits. No Kubernetes defaults are applied here: the caller resolves names, volumes and
//! environment first.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::LogPath;

/// A pod's sandbox: the namespaces, the addresses and the cgroup that its containers share.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct SandboxSpec {
    /// Unique on the machine, `[A-Za-z0-9_.-]{1,63}`, such as a pod's UID. Identifies the pod in
    /// every later call.
    pub id: String,
    /// Values that the caller reads back after its own restart ([`crate::Pod::annotations`]), such
    /// as namespace and name.
    pub annotations: BTreeMap<String, String>,
    /// Host name in the pod's own UTS namespace. `None` shares the machine's, for pods on the
    /// host's network.
    pub hostname: Option<String>,
    /// Use the machine's network instead of an own namespace and addresses.
    pub host_network: bool,
    /// Use the machine's PID namespace.
    pub host_pid: bool,
    /// Use the machine's IPC namespace.
    pub host_ipc: bool,
    /// Cgroup relative to the instance's own, such as `burstable/pod<uid>`. Empty means `pod<id>`.
    pub cgroup_parent: String,
    /// Limits of the whole pod, set on its cgroup.
    pub resources: Resources,
    /// Kernel parameters of the pod's namespaces, such as `net.ipv4.ip_local_port_range`.
    pub sysctls: BTreeMap<String, String>,
    /// Ports of the machine that are forwarded to the pod. Ignored on the host's network.
    pub host_ports: Vec<HostPort>,
    /// Arguments for CNI plugins, if plugins connect the pod.
    pub plugin_args: PluginArgs,
}

/// Arguments for CNI plugins about a pod.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct PluginArgs {
    /// Names and values of `CNI_ARGS`, such as `K8S_POD_NAME` and the pod's name. Values contain no
    /// `;`.
    pub arguments: Vec<(String, String)>,
    /// Values for plugins that declare a capability, in the form of the CNI conventions, such as
    /// `bandwidth`. Host ports and ranges are added by the runtime and not given here.
    pub capabilities: BTreeMap<String, serde_json::Value>,
}

/// A port of the machine that is forwarded to a port of the pod.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HostPort {
    /// Transport protocol.
    pub protocol: Protocol,
    /// Address of the machine that accepts connections. `None`, 0.0.0.0 and :: mean every address,
    /// 127.0.0.1 included.
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

/// One run of a container. A restart is a new [`ContainerSpec`] with another `id`.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct ContainerSpec {
    /// Unique in the pod, `[A-Za-z0-9_.-]{1,100}`, such as `web-0` (name and attempt).
    pub id: String,
    /// Values that the caller reads back in [`crate::ContainerStatus::annotations`].
    pub annotations: BTreeMap<String, String>,
    /// Name of an image on this machine, as given to [`crate::Images::resolve`].
    pub image: String,
    /// Replaces the image's entrypoint when not empty. The image's `Cmd` is then ignored, as in
    /// Kubernetes.
    pub command: Vec<String>,
    /// Replaces the image's `Cmd` when not empty.
    pub args: Vec<String>,
    /// Working directory. `None` means the image's, or `/` if the image has none.
    pub working_dir: Option<String>,
    /// Environment, in order. Added to the image's; the same name replaces the image's value.
    pub env: Vec<(String, String)>,
    /// Mounts in addition to the standard ones (`/proc`, `/sys`, `/dev`, `/dev/shm`, `/dev/pts`,
    /// `/dev/mqueue`, `/sys/fs/cgroup`), in any order.
    pub mounts: Vec<Mount>,
    /// Devices of the machine that the container may use in addition to the standard ones,
    /// privileged or not.
    pub devices: Vec<Device>,
    /// Limits of the container.
    pub resources: Resources,
    /// User, capabilities and other security settings.
    pub security: SecuritySpec,
    /// Use a terminal for the standard streams. The log then has all output as `stdout`.
    pub tty: bool,
    /// Path of the container's log in CRI format. The shim creates its folder, appends to it and
    /// rotates it. `None` discards the output.
    pub log_path: Option<LogPath>,
}

/// A device of the machine that a container may use.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Device {
    /// Absolute path on the machine, such as `/dev/fuse`. Symbolic links are followed.
    pub path: PathBuf,
    /// Absolute path in the container, below `/dev`.
    pub target: PathBuf,
    /// Permitted access.
    pub access: DeviceAccess,
}

/// Access of a container to a device.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct DeviceAccess {
    /// May read.
    pub read: bool,
    /// May write.
    pub write: bool,
    /// May create further device nodes of it (`mknod`).
    pub make: bool,
}

/// A file or folder of the machine that is mounted in a container, with the mounts below it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Mount {
    /// Name in error messages, such as the volume's name.
    pub name: String,
    /// Path in the container. Created when missing, as a folder if the source is a folder, else as
    /// a file.
    pub target: PathBuf,
    /// Absolute path on the machine. Containers must not be able to change this path; they may
    /// change files below it.
    pub source: PathBuf,
    /// Path below the source that is mounted instead of the source. Created as a folder when
    /// missing. It cannot leave the source.
    pub sub_path: Option<PathBuf>,
    /// Required kind of the source. `None` accepts any.
    pub kind: Option<FileKind>,
    /// Read-only in the container. Only the topmost mount is, as in Kubernetes.
    pub read_only: bool,
    /// Whether targets of other mounts are created in it although it is read-only.
    pub nests: bool,
    /// Whether later mounts propagate between the machine and the container.
    pub propagation: Propagation,
}

/// Kinds of files that a [`Mount`] can require.
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
    /// Returns the kind as in Kubernetes' errors, such as `a directory`.
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

/// Mount propagation as in Kubernetes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Propagation {
    /// In no direction.
    #[default]
    None,
    /// Later mounts of the machine appear in the container.
    HostToContainer,
    /// In both directions.
    Bidirectional,
}

/// Resource limits. `None` means unlimited, unless a field says otherwise.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Resources {
    /// Bytes of memory, page cache included. Above it the kernel reclaims memory and then kills.
    pub memory_limit: Option<u64>,
    /// Relative weight in units of 1/1024 processor (Kubernetes: milliCPU * 1024 / 1000, at least
    /// 2).
    pub cpu_shares: Option<u64>,
    /// Microseconds of processor time in each `cpu_period`.
    pub cpu_quota: Option<i64>,
    /// Length of a period in microseconds. `None` means 100,000.
    pub cpu_period: Option<u64>,
    /// Number of processes and threads.
    pub pids_limit: Option<i64>,
    /// Adjustment of the OOM killer's score, -1000 to 1000. Raised to the shim's own value if the
    /// kernel would refuse a lower one.
    pub oom_score_adj: Option<i32>,
}

/// Security settings of a container.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct SecuritySpec {
    /// Grants all capabilities and all devices, with no masked paths and no seccomp filter.
    pub privileged: bool,
    /// User: `uid`, `uid:gid`, `name` or `name:group` as in an image's config. `None` means the
    /// image's user. Names are looked up in the image.
    pub user: Option<String>,
    /// Primary group. Overrides the group in `user`.
    pub group: Option<u32>,
    /// Supplementary groups in addition to those of the image's `/etc/group`. A pod's `fsGroup`
    /// belongs here too.
    pub supplementary_groups: Vec<u32>,
    /// Fail to start if the user is 0 ([`crate::ErrorKind::RunAsNonRoot`]).
    pub run_as_non_root: bool,
    /// Read-only root file system.
    pub read_only_root: bool,
    /// Prevent `execve` from gaining privileges.
    pub no_new_privileges: bool,
    /// Capabilities added to the default set, such as `CAP_NET_ADMIN` or `NET_ADMIN`. `ALL` means
    /// all.
    pub add_capabilities: Vec<String>,
    /// Capabilities removed before any is added. `ALL` means all.
    pub drop_capabilities: Vec<String>,
    /// System call filter.
    pub seccomp: Seccomp,
}

/// System call filter of a container.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Seccomp {
    /// No filter.
    #[default]
    Unconfined,
    /// This crate's allow list, [`crate::seccomp_default`].
    RuntimeDefault,
    /// Profile on this machine in the JSON of the OCI runtime specification (`Localhost`).
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
    /// Open a standard input that [`crate::Exec::stdin`] writes to; else `/dev/null`.
    pub stdin: bool,
    /// Capture its standard output; else `/dev/null`.
    pub stdout: bool,
    /// Capture its standard error; else `/dev/null`. Ignored with `tty`.
    pub stderr: bool,
}

/// A pod's addresses, at most one of each family.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PodNetwork {
    /// The addresses, the primary one first.
    pub addresses: Vec<PodAddress>,
    /// MTU of its link in bytes. `None` means the kernel's default.
    pub mtu: Option<u32>,
    /// What connected the pod and gave it the addresses.
    #[serde(default)]
    pub given_by: Giver,
}

/// What connected a pod and gave it its addresses.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Giver {
    /// This runtime, with its bridge.
    #[default]
    Bridge,
    /// The machine's CNI plugins.
    Plugins {
        /// Whether the plugins forward its host ports, too.
        lead_ports: bool,
    },
}

impl PodNetwork {
    /// Returns only the addresses.
    pub fn ips(&self) -> impl Iterator<Item = IpAddr> + '_ {
        self.addresses.iter().map(|given| given.address)
    }
}

/// An address of a pod, with its gateway and network.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PodAddress {
    /// The pod's address.
    pub address: IpAddr,
    /// The bridge's address, which is the pod's default gateway. Plugins may give none.
    pub gateway: Option<IpAddr>,
    /// Prefix length of the address's network.
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

/// Grace period of a stopped container if the caller gives none. The default of Kubernetes.
pub const DEFAULT_GRACE: Duration = Duration::from_secs(30);

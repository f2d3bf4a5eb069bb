//! Containers, images and networks of one machine.
//!
//! A [`Runtime`] owns one data directory. Everything that it creates on the machine (bridge,
//! cgroup, mounts, nftables table) has a name derived from that directory. Several runtimes can
//! therefore run side by side, and [`Runtime::clean_up`] can remove everything of one.
//!
//! Each pod has a *shim*: a process of the same executable, started with [`shim::VERB`], which must
//! call [`shim::main`]. The shim lives in the pod's namespaces and is the parent of its containers.
//! It keeps their logs and exit codes, and outlives the process that started it: a new [`Runtime`]
//! on the same data directory finds its pods again ([`Runtime::pods`]). When the shim ends, the
//! kernel removes its mounts, its network namespace and the pod's end of the veth.
//!
//! Calls block for a few milliseconds, mostly in the kernel, unless they are `async`. An async
//! caller wraps them in `spawn_blocking`. A [`Runtime`], an [`Images`] and a [`Pod`] are cheap to
//! clone, and any thread may use them.
//!
//! This crate has no Kubernetes types: the caller resolves volumes, environment and security
//! contexts into the plain types of this crate.
#![allow(unsafe_code)] // namespaces, descriptor passing and terminals: each use says what it relies on

pub mod beneath;
pub mod bounded;
mod bpf;
mod cgroup;
mod devices;
mod error;
mod exec;
mod files;
mod images;
mod kernel;
mod layout;
mod mounts;
mod network;
mod patience;
mod pod;
mod pod_logs;
mod runtime;
mod seal;
mod seccomp;
pub mod shim;
mod spec;
mod status;
mod sysctl;
mod wire;

pub use error::{Error, ErrorKind, Result};
pub use exec::{Exec, ExecStream, Finished, LAST_OUTPUT};
pub use files::raise_open_files;
pub use images::{Credentials, ImageInfo, ImageLimits, Images, ScratchFile, normalize_name, registry_of};
pub use mounts::unmount_below;
pub use network::{
    Cni, Destination, NetworkConfig, ROUTE_PROTOCOL, Range, Ranges, Redirect, RedirectTo, Route,
    RouteFailures, ServiceChanges, ServiceCost, ServiceRoute, Services, TUNNEL_PORT, TunnelEnd, Via,
};
pub use pod::Pod;
pub use pod_logs::{LOG_FILES, LOG_SIZE_LIMIT, LogPath, PodLog, PodLogs, container_id};
pub use runtime::{Options, Runtime, ShimCommand};
pub use seccomp::default_profile as seccomp_default;
pub use spec::*;
pub use status::{ContainerState, ContainerStatus, Event, Stats};

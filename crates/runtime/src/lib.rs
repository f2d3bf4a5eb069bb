//! Containers, images and networks of one machine.
//!
//! A [`Runtime`] owns one data directory. Whatever it makes on the machine (bridge, cgroup, mount, nftables table) is named
//! after that directory, so several live side by side, and [`Runtime::clean_up`] removes all of it.
//!
//! Each pod has a *shim*: the same executable, started again with [`shim::VERB`], which must call [`shim::main`]. The shim lives in
//! the pod's namespaces, parents its containers, keeps their logs and exit codes, and outlives the process that started it: a
//! new [`Runtime`] on the same data directory finds its pods again ([`Runtime::pods`]). When the shim ends, the kernel takes
//! back its mounts, its network namespace and its end of the cable.
//!
//! Calls block (a few milliseconds, most of them the kernel's) unless they are `async`; an async caller wraps them in
//! `spawn_blocking`. A [`Runtime`], an [`Images`] and a [`Pod`] are cheap to clone and may be used from any thread.
//!
//! No Kubernetes types live here: the caller resolves volumes, environment and security contexts into the plain types of this crate.
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

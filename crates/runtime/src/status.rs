//! Reports of a pod's shim: states of containers, in files that outlive both the agent and the
//! shim.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

/// State of one run of a container.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ContainerStatus {
    /// [`crate::ContainerSpec::id`].
    pub id: String,
    /// [`crate::ContainerSpec::annotations`].
    pub annotations: BTreeMap<String, String>,
    /// Name of the image in the container's spec.
    pub image: String,
    /// Digest of the running image, `sha256:…`.
    pub image_id: String,
    /// The image's id in a pod's status: `repository@sha256:…` of its manifest, or
    /// [`Self::image_id`].
    #[serde(default)]
    pub image_ref: String,
    /// State of its process.
    pub state: ContainerState,
    /// Cgroup of the container, an absolute path below the roots of the hierarchies.
    pub cgroup: String,
}

/// State of a container's process.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "state", rename_all = "camelCase")]
pub enum ContainerState {
    /// Its process runs.
    Running {
        /// Process id on the machine.
        pid: i32,
        /// Start time.
        started_at: Timestamp,
    },
    /// Its process has ended.
    Exited {
        /// Exit code; 128 + n after signal n.
        exit_code: i32,
        /// The signal that ended it.
        signal: Option<i32>,
        /// Whether the OOM killer killed a process in the container's cgroup.
        oom_killed: bool,
        /// Start time.
        started_at: Timestamp,
        /// End time.
        finished_at: Timestamp,
    },
}

impl ContainerState {
    /// Returns whether its process runs.
    pub fn is_running(&self) -> bool {
        matches!(self, ContainerState::Running { .. })
    }
}

/// An event that the caller did not cause, on [`crate::Options::events`].
#[derive(Clone, Debug)]
pub enum Event {
    /// A container started or ended.
    Container {
        /// [`crate::SandboxSpec::id`].
        pod: String,
        /// Its new state.
        status: ContainerStatus,
    },
    /// The pod's shim ended, and with it the containers. [`crate::Runtime::remove_pod`] removes the
    /// rest.
    PodGone {
        /// [`crate::SandboxSpec::id`].
        pod: String,
    },
}

/// Resource usage of a container.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// Processor time in nanoseconds since the start.
    pub cpu_nanoseconds: u64,
    /// Memory in bytes without the part of the page cache that the kernel can easily reclaim.
    pub memory_working_set: u64,
}

//! What a pod's shim reports: the states of containers, kept in files that outlive both the agent and the shim.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

/// State of one container attempt.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ContainerStatus {
    /// [`crate::ContainerSpec::id`].
    pub id: String,
    /// [`crate::ContainerSpec::annotations`].
    pub annotations: BTreeMap<String, String>,
    /// Image name as asked for.
    pub image: String,
    /// Digest of the image that runs, `sha256:…`.
    pub image_id: String,
    /// The image as Kubernetes names it in a pod's status: `repository@sha256:…` of its manifest, else [`Self::image_id`].
    #[serde(default)]
    pub image_ref: String,
    /// Where it is in its life.
    pub state: ContainerState,
    /// Cgroup of the container, absolute below the hierarchies' roots.
    pub cgroup: String,
}

/// Where a container is in its life.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "state", rename_all = "camelCase")]
pub enum ContainerState {
    /// Its process runs.
    Running {
        /// Process id on the machine.
        pid: i32,
        /// When it was started.
        started_at: Timestamp,
    },
    /// Its process has ended.
    Exited {
        /// Exit code; 128 + n after signal n.
        exit_code: i32,
        /// The signal that ended it.
        signal: Option<i32>,
        /// Whether the kernel killed for want of memory in the container's cgroup.
        oom_killed: bool,
        /// When it was started.
        started_at: Timestamp,
        /// When it ended.
        finished_at: Timestamp,
    },
}

impl ContainerState {
    /// Whether its process runs.
    pub fn is_running(&self) -> bool {
        matches!(self, ContainerState::Running { .. })
    }
}

/// Something that happened without the caller's doing, on [`crate::Options::events`].
#[derive(Clone, Debug)]
pub enum Event {
    /// A container started or ended.
    Container {
        /// [`crate::SandboxSpec::id`].
        pod: String,
        /// Its new state.
        status: ContainerStatus,
    },
    /// The pod's shim died; its containers are gone. [`crate::Runtime::remove_pod`] cleans up what is left.
    PodGone {
        /// [`crate::SandboxSpec::id`].
        pod: String,
    },
}

/// What a container uses.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// Processor time, nanoseconds since the start.
    pub cpu_nanoseconds: u64,
    /// Memory in bytes without the page cache that is easily given back.
    pub memory_working_set: u64,
}

//! State of a pod on its node: the second input of the decision.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde_json::Value;

use super::backoff::Backoff;

/// Everything that the node observed of one pod.
#[derive(Clone, Debug, Default)]
pub struct Observed {
    /// The pod's namespaces, network and volumes.
    pub sandbox: Sandbox,
    /// Addresses of the node, the primary one first.
    pub host_ips: Vec<String>,
    /// Addresses of the pod, the primary one first.
    pub pod_ips: Vec<String>,
    /// When this node first saw the pod.
    pub start_time: Option<Timestamp>,
    /// By name, including init containers. A missing name was never tried.
    pub containers: BTreeMap<String, ContainerSeen>,
    /// Set if the node rejected the pod.
    pub rejected: Option<Failure>,
    /// Set if the node evicts the pod because of its disk use.
    pub evicted: Option<Failure>,
    /// The API no longer has the pod, or the node must remove it: stop it, whatever its metadata.
    pub unwanted: bool,
    /// The status that was reported last, with its transition times and other components'
    /// conditions.
    pub reported: Value,
}

/// State of the pod's namespaces, network and volumes as a whole.
#[derive(Clone, Debug, Default, PartialEq)]
pub enum Sandbox {
    /// Does not exist.
    #[default]
    Absent,
    /// Being created.
    Creating,
    /// Could not be created; retried at this time.
    Failed(Failure, Timestamp),
    /// Exists.
    Ready,
    /// Exists, but its shim died: it is removed and created again.
    Broken,
    /// Released after the pod's containers ended for good. Their logs and exits are kept.
    Released,
    /// Being removed.
    Removing,
}

/// A reason and a message.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Failure {
    /// Reason in CamelCase.
    pub reason: String,
    /// Message for users.
    pub message: String,
}

/// State of one container of the pod.
#[derive(Clone, Debug, Default)]
pub struct ContainerSeen {
    /// State of the image.
    pub image: ImageSeen,
    /// Number of the newest run; the first is 0. It is the restart count.
    pub attempt: u32,
    /// The newest run.
    pub run: Run,
    /// Whether the next run is being created, including its postStart hook.
    pub starting: bool,
    /// The exit of the run before the newest.
    pub last: Option<Exit>,
    /// Why the last attempt did not create a container, and when to retry.
    pub failure: Option<(Failure, Timestamp)>,
    /// Backoff of restarts.
    pub backoff: Backoff,
    /// Grace period of the stop in flight, in seconds.
    pub stopping: Option<i64>,
    /// Probe results of the newest run.
    pub probes: Verdicts,
    /// Whether it is or was stopped because its spec changed. The next run begins whatever the
    /// restart policy.
    pub renewed: bool,
    /// The image name in the spec that the newest run was created from.
    pub image_name: String,
    /// Resolved id of the image of the newest run.
    pub image_id: String,
}

/// The newest run of a container.
#[derive(Clone, Debug, Default, PartialEq)]
pub enum Run {
    /// Never started.
    #[default]
    None,
    /// It runs.
    Running {
        /// Id in the runtime.
        container_id: String,
        /// Start of the run.
        started_at: Timestamp,
    },
    /// It has ended.
    Exited(Exit),
}

/// Exit of a run.
#[derive(Clone, Debug, PartialEq)]
pub struct Exit {
    /// Id in the runtime.
    pub container_id: String,
    /// 128 + signal if a signal ended it.
    pub exit_code: i32,
    /// `Completed`, `Error`, `OOMKilled`, `StartError`, …
    pub reason: String,
    /// The termination message.
    pub message: String,
    /// Start of the run.
    pub started_at: Option<Timestamp>,
    /// End of the run.
    pub finished_at: Timestamp,
}

/// Probe results of a run. `None` means no result yet.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Verdicts {
    /// Whether it has started.
    pub startup: Option<bool>,
    /// Whether it is ready.
    pub readiness: Option<bool>,
    /// Whether it is alive.
    pub liveness: Option<bool>,
}

/// State of a container's image.
#[derive(Clone, Debug, Default, PartialEq)]
pub enum ImageSeen {
    /// Not looked up in this attempt.
    #[default]
    Unknown,
    /// Not on this node.
    Missing {
        /// When it was last looked up.
        looked_at: Timestamp,
    },
    /// On this node, but not checked against its registry in this attempt.
    Present,
    /// Being pulled.
    Pulling,
    /// Could not be pulled.
    Failed {
        /// The error.
        message: String,
        /// Time of the failure.
        at: Timestamp,
        /// When it was last looked up, in case a user imported it.
        looked_at: Timestamp,
        /// Backoff of the next pull.
        backoff: Backoff,
    },
    /// The reference cannot be parsed.
    Invalid(String),
    /// Ready for this attempt.
    Ready,
}

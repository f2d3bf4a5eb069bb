//! What the node sees of a pod: the second input of the decision.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde_json::Value;

use super::backoff::Backoff;

/// Everything that is known of one pod on this node.
#[derive(Clone, Debug, Default)]
pub struct Observed {
    /// The pod's namespaces, network and volumes.
    pub sandbox: Sandbox,
    /// Addresses of the node, first one first.
    pub host_ips: Vec<String>,
    /// Addresses of the pod, first one first.
    pub pod_ips: Vec<String>,
    /// When this node first saw the pod.
    pub start_time: Option<Timestamp>,
    /// By name, init containers and containers alike. A name that is missing was never tried.
    pub containers: BTreeMap<String, ContainerSeen>,
    /// The node refused the pod.
    pub rejected: Option<Failure>,
    /// The node ends the pod because it took more of the node's disk than it may.
    pub evicted: Option<Failure>,
    /// The API no longer has the pod, or the node wants it gone: end it, whatever its metadata say.
    pub unwanted: bool,
    /// The status that was reported last: transition times and foreign conditions come from it.
    pub reported: Value,
}

/// The pod's namespaces, network and volumes as a whole.
#[derive(Clone, Debug, Default, PartialEq)]
pub enum Sandbox {
    /// Nothing there.
    #[default]
    Absent,
    /// Being made.
    Creating,
    /// Could not be made; tried again at the time given.
    Failed(Failure, Timestamp),
    /// There.
    Ready,
    /// There, but its keeper died: to be removed and made anew.
    Broken,
    /// Taken down after the pod's containers ended for good; their logs and exits are kept.
    Released,
    /// Being removed.
    Removing,
}

/// A reason in one word and a message for people.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Failure {
    /// CamelCase.
    pub reason: String,
    /// A sentence.
    pub message: String,
}

/// One container of the pod.
#[derive(Clone, Debug, Default)]
pub struct ContainerSeen {
    /// The image.
    pub image: ImageSeen,
    /// Number of the newest run; the first is 0. It is the restart count.
    pub attempt: u32,
    /// The newest run.
    pub run: Run,
    /// The next run is being made (which includes its postStart hook).
    pub starting: bool,
    /// How the run before the newest ended.
    pub last: Option<Exit>,
    /// Why the last attempt to start did not even make a container, and when to try again.
    pub failure: Option<(Failure, Timestamp)>,
    /// Delay between restarts.
    pub backoff: Backoff,
    /// Seconds of grace with which it is being stopped.
    pub stopping: Option<i64>,
    /// What the probes say of the newest run.
    pub probes: Verdicts,
    /// It is or was stopped because its spec changed: the next run begins whatever the restart policy says.
    pub renewed: bool,
    /// The image that the newest run uses, as its spec named it then.
    pub image_name: String,
    /// Resolved identity of the image that the newest run uses.
    pub image_id: String,
}

/// The newest run of a container.
#[derive(Clone, Debug, Default, PartialEq)]
pub enum Run {
    /// Never started.
    #[default]
    None,
    /// Alive.
    Running {
        /// Identity in the runtime.
        container_id: String,
        /// Since when.
        started_at: Timestamp,
    },
    /// Over.
    Exited(Exit),
}

/// How a run ended.
#[derive(Clone, Debug, PartialEq)]
pub struct Exit {
    /// Identity in the runtime.
    pub container_id: String,
    /// 128 + signal when a signal ended it.
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

/// What the probes say of a run. `None`: no verdict yet.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Verdicts {
    /// It has started.
    pub startup: Option<bool>,
    /// It serves.
    pub readiness: Option<bool>,
    /// It lives.
    pub liveness: Option<bool>,
}

/// The image of a container.
#[derive(Clone, Debug, Default, PartialEq)]
pub enum ImageSeen {
    /// Not looked for in this attempt.
    #[default]
    Unknown,
    /// Not on this node.
    Missing {
        /// When the node last looked.
        looked_at: Timestamp,
    },
    /// On this node, but not checked against its registry in this attempt.
    Present,
    /// Being pulled.
    Pulling,
    /// Could not be pulled.
    Failed {
        /// What went wrong.
        message: String,
        /// When.
        at: Timestamp,
        /// When the node last looked whether the image had come some other way.
        looked_at: Timestamp,
        /// Delay before the next pull.
        backoff: Backoff,
    },
    /// The reference cannot be parsed.
    Invalid(String),
    /// Settled for this attempt.
    Ready,
}

//! Fields of a Pod that its node decides on.

use jiff::Timestamp;
use serde::Deserialize;

/// Default grace period of a pod, in seconds.
pub(super) const DEFAULT_GRACE_SECONDS: i64 = 30;

/// The part of a Pod that its node reads. Other fields are ignored.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Pod {
    /// Identity and deletion.
    pub metadata: Metadata,
    /// The pod's spec.
    pub spec: Spec,
}

/// Identity and deletion of a Pod.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Metadata {
    /// Name within the namespace.
    pub name: String,
    /// Namespace.
    pub namespace: String,
    /// Identity: a new pod with the same name has another uid.
    pub uid: String,
    /// Generation of the spec.
    pub generation: Option<i64>,
    /// Set when the pod is deleted.
    pub deletion_timestamp: Option<Timestamp>,
    /// Seconds that the pod has to end, from its deletion on.
    pub deletion_grace_period_seconds: Option<i64>,
}

/// The part of a Pod's spec that its node reads.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Spec {
    /// When an ended container is started again.
    pub restart_policy: RestartPolicy,
    /// Run one by one before the containers.
    pub init_containers: Vec<Container>,
    /// Run together.
    pub containers: Vec<Container>,
    /// Seconds between SIGTERM and SIGKILL.
    pub termination_grace_period_seconds: Option<i64>,
    /// Seconds after which the pod fails, in any state.
    pub active_deadline_seconds: Option<i64>,
    /// Conditions of other controllers that readiness depends on.
    pub readiness_gates: Vec<ReadinessGate>,
}

/// A condition that readiness depends on, besides ready containers.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ReadinessGate {
    /// Type of the condition.
    pub condition_type: String,
}

/// When an ended container is started again.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
pub enum RestartPolicy {
    /// Only when it failed.
    OnFailure,
    /// Not at all.
    Never,
    /// After any exit.
    #[default]
    #[serde(other)]
    Always,
}

/// Restarts a container after some exit codes: the only action that exists.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct RestartRule {
    /// The exit codes.
    pub exit_codes: ExitCodes,
}

/// A set of exit codes.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ExitCodes {
    /// `In` or `NotIn`.
    pub operator: String,
    /// The codes.
    pub values: Vec<i32>,
}

impl ExitCodes {
    fn contains(&self, code: i32) -> bool {
        match self.operator.as_str() {
            "In" => self.values.contains(&code),
            "NotIn" => !self.values.contains(&code),
            _ => false,
        }
    }
}

/// When the image of a container is pulled.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
pub enum PullPolicy {
    /// Before each start.
    Always,
    /// Never: it must be on the node.
    Never,
    /// If it is not on the node.
    #[default]
    #[serde(other)]
    IfNotPresent,
}

/// A container of a Pod.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Container {
    /// Name, unique among all containers of the pod.
    pub name: String,
    /// Reference of the image, as in the spec.
    pub image: String,
    /// When the image is pulled.
    pub image_pull_policy: PullPolicy,
    /// Overrides the pod's restart policy. `Always` makes an init container a sidecar.
    pub restart_policy: Option<RestartPolicy>,
    /// Exit codes after which it starts again, whatever the policy.
    pub restart_policy_rules: Vec<RestartRule>,
    /// Its failure restarts the container.
    pub liveness_probe: Option<Probe>,
    /// The container is ready while it succeeds.
    pub readiness_probe: Option<Probe>,
    /// The other two probes begin after it succeeded.
    pub startup_probe: Option<Probe>,
}

impl Container {
    /// Returns whether this init container runs beside the pod's containers.
    pub fn is_sidecar(&self) -> bool {
        self.restart_policy == Some(RestartPolicy::Always)
    }

    /// Returns whether a rule of the container restarts it after this exit code.
    pub fn restarts_by_rule(&self, code: i32) -> bool {
        let mut rules = self.restart_policy_rules.iter();
        rules.any(|rule| rule.exit_codes.contains(code))
    }
}

/// Timing and thresholds of a probe. All times are in seconds.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Probe {
    /// Delay from the container's start to the first run.
    pub initial_delay_seconds: i64,
    /// Interval between runs.
    pub period_seconds: i64,
    /// Timeout of a run.
    pub timeout_seconds: i64,
    /// Consecutive successes that change the result to success.
    pub success_threshold: i64,
    /// Consecutive failures that change the result to failure.
    pub failure_threshold: i64,
    /// Overrides the pod's grace period when this probe stops the container.
    pub termination_grace_period_seconds: Option<i64>,
}

impl Default for Probe {
    fn default() -> Self {
        Self {
            initial_delay_seconds: 0,
            period_seconds: 10,
            timeout_seconds: 1,
            success_threshold: 1,
            failure_threshold: 3,
            termination_grace_period_seconds: None,
        }
    }
}

impl Pod {
    /// Grace period of the containers between SIGTERM and SIGKILL, in seconds.
    pub fn grace_seconds(&self) -> i64 {
        self.metadata
            .deletion_grace_period_seconds
            .filter(|_| self.metadata.deletion_timestamp.is_some())
            .or(self.spec.termination_grace_period_seconds)
            .unwrap_or(DEFAULT_GRACE_SECONDS)
            .max(0)
    }

    /// The image of a container, as in the spec.
    pub fn image(&self, container: &str) -> Option<&str> {
        let mut all = self.spec.init_containers.iter().chain(&self.spec.containers);
        all.find(|candidate| candidate.name == container)
            .map(|container| &*container.image)
    }

    /// `name_namespace(uid)`, the name of a pod in the kubelet's messages.
    pub fn full_name(&self) -> String {
        let Metadata {
            name, namespace, uid, ..
        } = &self.metadata;
        format!("{name}_{namespace}({uid})")
    }
}

//! The few fields of a Pod that decide what its node does with it.

use jiff::Timestamp;
use serde::Deserialize;

/// How long a pod may take to end when its spec does not say, in seconds.
pub(super) const DEFAULT_GRACE_SECONDS: i64 = 30;

/// A Pod as its node sees it. Parsed from the API's JSON; everything else is ignored.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Pod {
    /// Identity and deletion.
    pub metadata: Metadata,
    /// What is asked of the node.
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
    /// Identity: a pod of the same name made anew has another.
    pub uid: String,
    /// Generation of the spec.
    pub generation: Option<i64>,
    /// Set when the pod is to end.
    pub deletion_timestamp: Option<Timestamp>,
    /// Seconds that the pod has to end, from the moment when it was deleted.
    pub deletion_grace_period_seconds: Option<i64>,
}

/// What a Pod asks of its node.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Spec {
    /// When an ended container starts again.
    pub restart_policy: RestartPolicy,
    /// Run one after the other before the containers.
    pub init_containers: Vec<Container>,
    /// Run together.
    pub containers: Vec<Container>,
    /// Seconds between SIGTERM and SIGKILL.
    pub termination_grace_period_seconds: Option<i64>,
    /// Seconds after which the pod fails, whatever it does.
    pub active_deadline_seconds: Option<i64>,
    /// Conditions that someone else sets and that readiness needs.
    pub readiness_gates: Vec<ReadinessGate>,
}

/// A condition that readiness needs besides ready containers.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ReadinessGate {
    /// Type of the condition.
    pub condition_type: String,
}

/// When an ended container starts again.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
pub enum RestartPolicy {
    /// Only when it failed.
    OnFailure,
    /// Not at all.
    Never,
    /// However it ended.
    #[default]
    #[serde(other)]
    Always,
}

/// Exits after which a container starts again: the one action that there is.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct RestartRule {
    /// Which exits.
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

/// When the image of a container is fetched.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
pub enum PullPolicy {
    /// Before each start.
    Always,
    /// Not at all: it must be here.
    Never,
    /// When it is not here.
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
    /// Reference of the image, as written.
    pub image: String,
    /// When the image is fetched.
    pub image_pull_policy: PullPolicy,
    /// When it starts again, whatever holds for the pod. `Always` on an init container makes it a sidecar.
    pub restart_policy: Option<RestartPolicy>,
    /// Exits after which it starts again, whatever the policy says.
    pub restart_policy_rules: Vec<RestartRule>,
    /// Restarts the container when it fails.
    pub liveness_probe: Option<Probe>,
    /// Makes the container ready while it succeeds.
    pub readiness_probe: Option<Probe>,
    /// Holds the other two back until it succeeds.
    pub startup_probe: Option<Probe>,
}

impl Container {
    /// Whether this init container runs beside the pod's containers.
    pub fn is_sidecar(&self) -> bool {
        self.restart_policy == Some(RestartPolicy::Always)
    }

    /// Whether a rule of the container starts it again after an exit with this code.
    pub fn restarts_by_rule(&self, code: i32) -> bool {
        let mut rules = self.restart_policy_rules.iter();
        rules.any(|rule| rule.exit_codes.contains(code))
    }
}

/// When a probe runs and how many results make a verdict. All times in seconds.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Probe {
    /// From the container's start to the first run.
    pub initial_delay_seconds: i64,
    /// Between runs.
    pub period_seconds: i64,
    /// Until a run counts as failed.
    pub timeout_seconds: i64,
    /// Successes in a row that make success.
    pub success_threshold: i64,
    /// Failures in a row that make failure.
    pub failure_threshold: i64,
    /// Overrides the pod's grace when this probe ends the container.
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
    /// Seconds that the containers have between SIGTERM and SIGKILL.
    pub fn grace_seconds(&self) -> i64 {
        self.metadata
            .deletion_grace_period_seconds
            .filter(|_| self.metadata.deletion_timestamp.is_some())
            .or(self.spec.termination_grace_period_seconds)
            .unwrap_or(DEFAULT_GRACE_SECONDS)
            .max(0)
    }

    /// The image of a container, as written.
    pub fn image(&self, container: &str) -> Option<&str> {
        let mut all = self.spec.init_containers.iter().chain(&self.spec.containers);
        all.find(|candidate| candidate.name == container)
            .map(|container| &*container.image)
    }

    /// `name_namespace(uid)`, as the kubelet's messages name a pod.
    pub fn full_name(&self) -> String {
        let Metadata {
            name, namespace, uid, ..
        } = &self.metadata;
        format!("{name}_{namespace}({uid})")
    }
}

//! Why a pod is not Ready, from its status.

use serde_json::Value;

/// States of a pod's containers.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct PodState {
    /// Containers that are not ready, init containers first.
    pub(crate) containers: Vec<ContainerState>,
    /// Message of the pod's Ready condition beyond the names of containers, such as a readiness
    /// gate.
    pub(crate) condition: Option<String>,
    /// `status.reason` and `status.message` of a failed pod.
    pub(crate) failure: Option<String>,
    /// Whether its phase is Running.
    running: bool,
}

/// A container that is not ready.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ContainerState {
    pub(crate) name: String,
    pub(crate) init: bool,
    /// `CrashLoopBackOff`, `ImagePullBackOff`, `Error`, …; `Running` for a running container that
    /// is not ready.
    pub(crate) reason: String,
    /// Message of the node, which often contains names of the pod.
    pub(crate) message: String,
    /// End of the previous run: `exit code 1`, `OOMKilled`.
    pub(crate) last: Option<String>,
    pub(crate) restarts: i64,
    /// From the pod's spec.
    image: String,
    /// `limits.memory` of the pod's spec.
    memory_limit: Option<String>,
}

/// Reasons why a container does not start or keeps failing until a person acts.
const BROKEN: [&str; 11] = [
    "ErrImagePull",
    "ImagePullBackOff",
    "ErrImageNeverPull",
    "InvalidImageName",
    "CrashLoopBackOff",
    "CreateContainerConfigError",
    "CreateContainerError",
    "RunContainerError",
    "StartError",
    "OOMKilled",
    "Error",
];

impl PodState {
    /// Parses a pod's status.
    pub(crate) fn of(pod: &Value) -> PodState {
        let status = &pod["status"];
        let of = |field: &str, init: bool| {
            let containers = status[field].as_array().cloned().unwrap_or_default();
            containers
                .iter()
                .filter_map(|container| ContainerState::of(container, init, &pod["spec"]))
                .collect::<Vec<_>>()
        };
        let mut containers = of("initContainerStatuses", true);
        // Until the init containers have ended, the other containers only wait for them.
        if containers.is_empty() {
            containers.extend(of("containerStatuses", false));
        }
        let ready = status["conditions"]
            .as_array()
            .into_iter()
            .flatten()
            .find(|condition| condition["type"] == "Ready" && condition["status"] != "True");
        let condition = ready
            .filter(|condition| {
                !matches!(
                    condition["reason"].as_str(),
                    None | Some(
                        "" | "ContainersNotReady" | "ContainersNotInitialized" | "PodFailed" | "PodCompleted"
                    )
                )
            })
            .map(|condition| sentence(&condition["reason"], &condition["message"]));
        let failure = status["reason"]
            .as_str()
            .map(|_| sentence(&status["reason"], &status["message"]));
        PodState {
            containers,
            condition,
            failure,
            running: status["phase"] == "Running",
        }
    }

    /// Returns a short text that is equal for pods with the same trouble.
    pub(crate) fn in_short(&self) -> String {
        if let Some(container) = self.containers.first() {
            let kind = if container.init {
                "init container"
            } else {
                "container"
            };
            let more = match self.containers.len() {
                1 => String::new(),
                count => format!(" (and {} more)", count - 1),
            };
            return match container.reason.as_str() {
                "Running" => format!("{kind} {} runs and is not ready{more}", container.name),
                reason => format!("{kind} {}: {reason}{}{more}", container.name, container.cause()),
            };
        }
        match (&self.failure, &self.condition) {
            (Some(failure), _) => failure.clone(),
            (None, Some(condition)) => condition.clone(),
            (None, None) if self.running => "it runs and is not ready".to_owned(),
            (None, None) => "its node has not started it yet".to_owned(),
        }
    }
}

impl PodState {
    /// Returns the first container that a person must repair.
    pub(crate) fn broken(&self) -> Option<&ContainerState> {
        self.containers
            .iter()
            .find(|container| BROKEN.contains(&container.reason.as_str()))
    }
}

/// Returns `Reason: message`, or whichever of them exists.
fn sentence(reason: &Value, message: &Value) -> String {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    match (text(reason), text(message)) {
        (reason, message) if message.is_empty() => reason,
        (reason, message) if reason.is_empty() => message,
        (reason, message) => format!("{reason}: {message}"),
    }
}

impl ContainerState {
    /// Returns whether the container ended with an error that its last log lines may explain.
    pub(crate) fn crashes(&self) -> bool {
        self.last.is_some() && !self.is_out_of_memory()
    }

    /// Returns whether the image is missing.
    pub(crate) fn lacks_image(&self) -> bool {
        matches!(
            self.reason.as_str(),
            "ErrImagePull" | "ImagePullBackOff" | "ErrImageNeverPull" | "InvalidImageName"
        )
    }

    fn is_out_of_memory(&self) -> bool {
        self.reason == "OOMKilled" || self.last.as_deref() == Some("OOMKilled")
    }

    /// Returns the text after the reason, which is equal for all pods with the same trouble.
    fn cause(&self) -> String {
        if self.lacks_image() {
            return format!(": the image {} cannot be pulled", self.image);
        }
        if self.is_out_of_memory() {
            return match &self.memory_limit {
                Some(limit) => format!(": it used more memory than its limit of {limit}"),
                None => ": the machine ran out of memory".to_owned(),
            };
        }
        match self.reason.as_str() {
            "CreateContainerConfigError" | "CreateContainerError" | "RunContainerError" | "StartError" => {
                format!(": {}", self.message)
            }
            _ => self
                .last
                .as_ref()
                .map_or_else(String::new, |last| format!(": it ended with {last}")),
        }
    }

    /// Returns `None` for a container in its normal state.
    fn of(status: &Value, init: bool, spec: &Value) -> Option<ContainerState> {
        let state = &status["state"];
        let done = init && (status["ready"] == true || state["terminated"]["exitCode"] == 0);
        if status["ready"] == true || done {
            return None;
        }
        let ended = |terminated: &Value| {
            let code = terminated["exitCode"].as_i64()?;
            Some(match terminated["reason"].as_str() {
                Some(reason) if !matches!(reason, "Error" | "Completed" | "") => reason.to_owned(),
                _ => format!("exit code {code}"),
            })
        };
        let (reason, message) = if state["waiting"].is_object() {
            (state["waiting"]["reason"].as_str(), &state["waiting"]["message"])
        } else if state["terminated"].is_object() {
            (
                state["terminated"]["reason"].as_str(),
                &state["terminated"]["message"],
            )
        } else if state["running"].is_object() {
            (Some("Running"), &Value::Null)
        } else {
            (None, &Value::Null)
        };
        let field = if init { "initContainers" } else { "containers" };
        let mut specs = spec[field].as_array().into_iter().flatten();
        let spec = specs
            .find(|spec| spec["name"] == status["name"])
            .unwrap_or(&Value::Null);
        Some(ContainerState {
            image: spec["image"]
                .as_str()
                .or(status["image"].as_str())
                .unwrap_or_default()
                .to_owned(),
            memory_limit: spec["resources"]["limits"]["memory"].as_str().map(str::to_owned),
            name: status["name"].as_str().unwrap_or_default().to_owned(),
            init,
            reason: reason.unwrap_or("Waiting").to_owned(),
            message: message.as_str().unwrap_or_default().to_owned(),
            last: ended(&state["terminated"]).or_else(|| ended(&status["lastState"]["terminated"])),
            restarts: status["restartCount"].as_i64().unwrap_or(0),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn in_short(status: &Value) -> String {
        PodState::of(&json!({"status": status})).in_short()
    }

    #[test]
    fn the_container_that_holds_a_pod_up_is_named_with_its_reason() {
        let waiting = json!({"containerStatuses": [
            {"name": "good", "ready": true, "state": {"running": {}}},
            {"name": "c", "ready": false, "restartCount": 4, "state": {"waiting": {"reason": "CrashLoopBackOff", "message": "back-off 40s restarting c of pod x"}},
             "lastState": {"terminated": {"exitCode": 1, "reason": "Error"}}}]});
        assert_eq!(
            in_short(&waiting),
            "container c: CrashLoopBackOff: it ended with exit code 1"
        );
        let killed = json!({"containerStatuses": [{"name": "c", "ready": false,
            "state": {"terminated": {"exitCode": 137, "reason": "OOMKilled"}}}]});
        assert_eq!(
            in_short(&killed),
            "container c: OOMKilled: the machine ran out of memory"
        );
        let limited = json!({"status": killed, "spec": {"containers": [{"name": "c", "resources": {"limits": {"memory": "64Mi"}}}]}});
        assert_eq!(
            PodState::of(&limited).in_short(),
            "container c: OOMKilled: it used more memory than its limit of 64Mi"
        );
        let config = json!({"containerStatuses": [{"name": "c", "ready": false,
            "state": {"waiting": {"reason": "CreateContainerConfigError", "message": "configmap \"x\" not found"}}}]});
        assert_eq!(
            in_short(&config),
            "container c: CreateContainerConfigError: configmap \"x\" not found"
        );
        let probed = json!({"containerStatuses": [{"name": "c", "ready": false, "state": {"running": {}}}]});
        assert_eq!(in_short(&probed), "container c runs and is not ready");
    }

    #[test]
    fn while_an_init_container_is_not_through_the_others_are_not_blamed() {
        let status = json!({"initContainerStatuses": [{"name": "first", "image": "nope", "ready": false, "state": {"waiting": {"reason": "ImagePullBackOff"}}}],
            "containerStatuses": [{"name": "c", "ready": false, "state": {"waiting": {"reason": "PodInitializing"}}}]});
        assert_eq!(
            in_short(&status),
            "init container first: ImagePullBackOff: the image nope cannot be pulled"
        );
    }

    #[test]
    fn a_pod_that_no_node_has_reported_on_is_told_apart_from_one_with_a_trouble_of_its_own() {
        assert_eq!(in_short(&json!({})), "its node has not started it yet");
        assert_eq!(in_short(&json!({"phase": "Running"})), "it runs and is not ready");
        let gate = json!({"conditions": [{"type": "Ready", "status": "False", "reason": "ReadinessGatesNotReady", "message": "x is not there"}]});
        assert_eq!(in_short(&gate), "ReadinessGatesNotReady: x is not there");
        let failed = json!({"reason": "OutOfcpu", "message": "Node didn't have enough resource: cpu"});
        assert_eq!(
            in_short(&failed),
            "OutOfcpu: Node didn't have enough resource: cpu"
        );
    }
}

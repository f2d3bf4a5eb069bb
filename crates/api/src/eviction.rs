//! Eviction: a deletion that respects disruption budgets (`policy/v1` Eviction, subresource
//! `pods/eviction`).
//!
//! The disruption controller writes into the budget's status how many pods may be disrupted. An
//! eviction decrements this number and records the pod in `disruptedPods`, so that the controller
//! does not count it as healthy before it sees the deletion.

use jiff::Timestamp;
use serde_json::{Value, json};

use crate::kinds::core::pod;
use crate::kinds::policy;
use crate::meta;
use crate::selector::LabelSelector;
use crate::status::Status;

/// Most entries of `disruptedPods`, as in Kubernetes. More means that the controller does not keep
/// up, so evictions are rejected until it does.
pub const DISRUPTED_PODS_MAX: usize = 2000;

/// Seconds after which a client should retry when the controller has not yet processed the budget.
const UNOBSERVED_RETRY_SECONDS: u32 = 10;

/// Returns whether the eviction of this pod needs a budget. A pod that has ended, has not started
/// or is being deleted needs none.
pub fn is_budgeted(pod: &Value) -> bool {
    let phase = pod["status"]["phase"].as_str().unwrap_or_default();
    !matches!(phase, "Succeeded" | "Failed" | "Pending") && meta::deletion_timestamp(pod).is_none()
}

/// Returns whether this budget in the pod's namespace selects the pod. A budget without a selector
/// selects no pod, one with an empty selector all.
pub fn guards(budget: &Value, pod: &Value) -> bool {
    let labels = meta::labels(pod);
    let label = |key: &str| labels.and_then(|labels| labels.get(key)?.as_str());
    LabelSelector::from_value(&budget["spec"]["selector"]).is_some_and(|selector| selector.matches(label))
}

/// Returns the budget after the eviction of this pod, or `None` when the pod does not count in it.
/// Fails with 429 when the budget does not allow the eviction now.
pub fn spend(budget: &Value, pod: &Value, now: Timestamp) -> Result<Option<Value>, Status> {
    let status = &budget["status"];
    let number = |field: &str| status[field].as_i64().unwrap_or(0);
    if !is_ready(pod) {
        let always = budget["spec"]["unhealthyPodEvictionPolicy"] == "AlwaysAllow";
        let desired = number("desiredHealthy");
        if always || (desired > 0 && number("currentHealthy") >= desired) {
            return Ok(None);
        }
    }
    if number("observedGeneration") < meta::generation(budget) {
        return Err(unobserved(budget));
    }
    let disrupted = status["disruptedPods"].as_object().map_or(0, |pods| pods.len());
    if disrupted > DISRUPTED_PODS_MAX {
        return Err(overrun(budget));
    }
    let allowed = number("disruptionsAllowed");
    if allowed <= 0 {
        return Err(exhausted(budget));
    }
    let mut next = budget.clone();
    let status = &mut next["status"];
    status["disruptionsAllowed"] = (allowed - 1).into();
    if allowed == 1 {
        policy::set_disruption_allowed(status, None, now);
    }
    if !status["disruptedPods"].is_object() {
        status["disruptedPods"] = json!({});
    }
    status["disruptedPods"][meta::name(pod)] = crate::time::rfc3339(now).into();
    Ok(Some(next))
}

/// Adds the eviction to the conditions of the pod.
pub fn mark(pod: &mut Value, now: Timestamp) {
    pod::set_disruption_target(pod, "EvictionByEvictionAPI", "Eviction API: evicting", now);
}

fn is_ready(pod: &Value) -> bool {
    let conditions = pod["status"]["conditions"].as_array();
    conditions
        .into_iter()
        .flatten()
        .any(|condition| condition["type"] == "Ready" && condition["status"] == "True")
}

fn refused(retry_after: u32, cause: String) -> Status {
    let message = "Cannot evict pod as it would violate the pod's disruption budget.";
    let mut status = Status::too_many_requests(message, retry_after);
    status.add_cause("DisruptionBudget", cause, "");
    status
}

/// 429: the controller has not yet processed the budget. Clients retry after the given time.
pub fn unobserved(budget: &Value) -> Status {
    let name = meta::name(budget);
    refused(
        UNOBSERVED_RETRY_SECONDS,
        format!("The disruption budget {name} is still being processed by the server."),
    )
}

/// 429: the budget is exhausted. There is no retry time, because clients would then retry silently
/// instead of reporting the error.
fn exhausted(budget: &Value) -> Status {
    let name = meta::name(budget);
    let status = &budget["status"];
    let number = |field: &str| status[field].as_i64().unwrap_or(0);
    let conditions = status["conditions"].as_array();
    let denied = conditions.into_iter().flatten().find(|condition| {
        let says = condition["message"].as_str().is_some_and(|text| !text.is_empty());
        condition["type"] == "DisruptionAllowed" && condition["status"] == "False" && says
    });
    let said = |field: &str| {
        denied
            .and_then(|condition| condition[field].as_str())
            .unwrap_or_default()
    };
    let (current, desired) = (number("currentHealthy"), number("desiredHealthy"));
    let cannot = format!("The disruption budget {name} does not allow evicting pods currently");
    let cause = match denied {
        // The numbers in the status are not valid when the controller could not compute them.
        Some(_) if said("reason") == "SyncFailed" => {
            format!("{cannot} because it failed sync: {}", said("message"))
        }
        _ if current <= desired => {
            format!("The disruption budget {name} needs {desired} healthy pods and has {current} currently")
        }
        Some(_) => format!("{cannot} ({}): {}", said("reason"), said("message")),
        None => cannot,
    };
    refused(0, cause)
}

/// 403: too many evictions that the controller has not confirmed.
fn overrun(budget: &Value) -> Status {
    let name = meta::name(budget);
    let why = "DisruptedPods map too big - too many evictions not confirmed by PDB controller";
    let mut status = Status::forbidden(&policy::POD_DISRUPTION_BUDGET, name, why);
    status.add_cause(
        "DisruptionBudget",
        format!(
            "The disruption budget {name} does not allow evicting pods currently: too many pending evictions not confirmed by PDB controller"
        ),
        "",
    );
    status
}

#[cfg(test)]
mod tests;

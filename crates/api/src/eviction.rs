//! Eviction: a deletion that gives way to disruption budgets (`policy/v1` Eviction, the subresource `pods/eviction`).
//!
//! The budget's controller counts pods and writes into the budget's status how many may be disrupted; an eviction takes
//! one of those, and notes the pod, so that it is not counted as healthy by a controller that has yet to see it go.

use jiff::Timestamp;
use serde_json::{Value, json};

use crate::kinds::core::pod;
use crate::kinds::policy;
use crate::meta;
use crate::selector::LabelSelector;
use crate::status::Status;

/// Evicted pods whose end a budget's controller has not yet confirmed. When there are more, the controller does not keep up,
/// and nothing is evicted until it does; the number is Kubernetes' own.
pub const DISRUPTED_PODS_MAX: usize = 2000;

/// How long a client should wait for a budget that its controller has yet to look at, in seconds.
const UNOBSERVED_RETRY_SECONDS: u32 = 10;

/// Whether evicting this pod must ask a budget: one that has ended, has not begun, or goes already disturbs nobody.
pub fn is_budgeted(pod: &Value) -> bool {
    let phase = pod["status"]["phase"].as_str().unwrap_or_default();
    !matches!(phase, "Succeeded" | "Failed" | "Pending") && meta::deletion_timestamp(pod).is_none()
}

/// Whether this budget, of the pod's namespace, is one of the pod's. Without a selector it is nobody's, with an empty
/// one everybody's.
pub fn guards(budget: &Value, pod: &Value) -> bool {
    let labels = meta::labels(pod);
    let label = |key: &str| labels.and_then(|labels| labels.get(key)?.as_str());
    LabelSelector::from_value(&budget["spec"]["selector"]).is_some_and(|selector| selector.matches(label))
}

/// The budget after this pod's eviction; `None` when it stays as it is, because the pod does not count in it. 429 when it does
/// not allow the eviction now.
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

/// Says in the pod's status that it was evicted.
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

/// 429: what the budget allows is not known yet. Clients are told when to come back, and do so by themselves.
pub fn unobserved(budget: &Value) -> Status {
    let name = meta::name(budget);
    refused(
        UNOBSERVED_RETRY_SECONDS,
        format!("The disruption budget {name} is still being processed by the server."),
    )
}

/// 429: the budget is spent. No time is named: clients would then wait silently instead of telling their user.
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
        // The numbers of a budget that could not be computed are not to be told.
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

/// 403: too many evictions that nobody confirmed.
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

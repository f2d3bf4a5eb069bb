//! The quality of service class of a pod.

use schema::quantity::Quantity;
use serde_json::Value;

use crate::validate::field::list;

/// Returns `Guaranteed` when every container has limits for CPU and memory and equal requests,
/// `BestEffort` when no container has requests or limits for them, else `Burstable`.
pub fn qos_class(spec: &Value) -> &'static str {
    let mut asks = false;
    let mut guaranteed = true;
    for field in ["containers", "initContainers"] {
        for container in list(spec, field) {
            for resource in ["cpu", "memory"] {
                let amount = |kind: &str| {
                    Quantity::from_value(&container["resources"][kind][resource])
                        .ok()
                        .filter(|quantity| !quantity.is_zero())
                };
                let (request, limit) = (amount("requests"), amount("limits"));
                asks |= request.is_some() || limit.is_some();
                guaranteed &= limit.is_some() && request.is_none_or(|request| Some(request) == limit);
            }
        }
    }
    match (asks, guaranteed) {
        (false, _) => "BestEffort",
        (true, true) => "Guaranteed",
        (true, false) => "Burstable",
    }
}

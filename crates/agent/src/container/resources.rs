//! Requests and limits as the kernel takes them.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{Container, PodSpec};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity as ApiQuantity;
use runtime::Resources;
use schema::quantity::Quantity;

/// Microseconds over which a processor limit holds: the kernel's own default.
const CPU_PERIOD: i64 = 100_000;
/// The least processor time in a period that the kernel takes.
const CPU_QUOTA_LEAST: i64 = 1_000;
/// The least weight that the kernel takes.
const CPU_SHARES_LEAST: i64 = 2;

/// How well a pod says what it needs; it decides who is killed first when memory runs out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum QosClass {
    /// Every container has limits for processor and memory, equal to its requests.
    Guaranteed,
    /// Some container has some request or limit.
    Burstable,
    /// None has any.
    BestEffort,
}

impl QosClass {
    /// The pod's cgroup below this instance's own.
    pub(crate) fn cgroup(self, uid: &str) -> String {
        match self {
            Self::Guaranteed => format!("pod{uid}"),
            Self::Burstable => format!("burstable/pod{uid}"),
            Self::BestEffort => format!("besteffort/pod{uid}"),
        }
    }
}

/// The class of a pod.
pub(crate) fn qos_class(spec: &PodSpec) -> QosClass {
    let (mut any, mut all) = (false, true);
    let containers = spec.init_containers.iter().flatten().chain(&spec.containers);
    for container in containers {
        for name in ["cpu", "memory"] {
            let (request, limit) = (request(container, name), limit(container, name));
            any |= request.is_some() || limit.is_some();
            all &= limit.is_some() && request.is_none_or(|request| Some(request) == limit);
        }
    }
    match (any, all) {
        (false, _) => QosClass::BestEffort,
        (_, true) => QosClass::Guaranteed,
        _ => QosClass::Burstable,
    }
}

/// Limits of one container.
pub(crate) fn container_resources(spec: &PodSpec, container: &Container) -> Resources {
    let cpu_limit = limit(container, "cpu");
    Resources {
        memory_limit: limit(container, "memory").and_then(|bytes| u64::try_from(bytes).ok()),
        cpu_shares: shares(request(container, "cpu").or(cpu_limit)),
        cpu_quota: cpu_limit.map(quota),
        cpu_period: cpu_limit.map(|_| CPU_PERIOD.unsigned_abs()),
        pids_limit: None,
        oom_score_adj: Some(oom_score(spec, container)),
    }
}

/// Limits of the pod as a whole: the sum of its containers', where each has one.
pub(crate) fn pod_resources(spec: &PodSpec) -> Resources {
    let sidecars = spec.init_containers.iter().flatten();
    let sidecars = sidecars.filter(|init| init.restart_policy.as_deref() == Some("Always"));
    let containers: Vec<&Container> = spec.containers.iter().chain(sidecars).collect();
    let inits: Vec<&Container> = spec.init_containers.iter().flatten().collect();
    // An init container without a limit would otherwise be held to the limits of others.
    let total = |name: &str| -> Option<i64> {
        let together = containers
            .iter()
            .map(|container| limit(container, name))
            .sum::<Option<i64>>()?;
        let alone = inits
            .iter()
            .map(|container| limit(container, name))
            .collect::<Option<Vec<i64>>>()?;
        Some(alone.into_iter().fold(together, i64::max))
    };
    let requested = containers
        .iter()
        .filter_map(|container| request(container, "cpu").or(limit(container, "cpu")));
    let requested: i64 = requested.sum();
    let cpu_limit = total("cpu");
    Resources {
        memory_limit: total("memory").and_then(|bytes| u64::try_from(bytes).ok()),
        cpu_shares: shares(Some(requested)),
        cpu_quota: cpu_limit.map(quota),
        cpu_period: cpu_limit.map(|_| CPU_PERIOD.unsigned_abs()),
        ..Default::default()
    }
}

fn shares(milli: Option<i64>) -> Option<u64> {
    let shares = milli.unwrap_or(0).saturating_mul(1024) / 1000;
    u64::try_from(shares.max(CPU_SHARES_LEAST)).ok()
}

fn quota(milli: i64) -> i64 {
    (milli.saturating_mul(CPU_PERIOD) / 1000).max(CPU_QUOTA_LEAST)
}

/// The kubelet's preferences: guaranteed pods last, best-effort ones first, others by how much they asked for.
fn oom_score(spec: &PodSpec, container: &Container) -> i32 {
    const NODE_CRITICAL: i32 = 2_000_000_000;
    if spec.priority.unwrap_or(0) >= NODE_CRITICAL {
        return -997;
    }
    match qos_class(spec) {
        QosClass::Guaranteed => -997,
        QosClass::BestEffort => 1000,
        QosClass::Burstable => {
            let memory = i128::from(request(container, "memory").unwrap_or(0));
            let machine = i128::from(crate::node::machine_memory().max(1));
            let score = 1000 - (1000 * memory / machine);
            i32::try_from(score.clamp(3, 999)).unwrap_or(999)
        }
    }
}

fn limit(container: &Container, name: &str) -> Option<i64> {
    amount(container.resources.as_ref()?.limits.as_ref(), name)
}

fn request(container: &Container, name: &str) -> Option<i64> {
    amount(container.resources.as_ref()?.requests.as_ref(), name)
}

/// Milli-processors or bytes; zero is no amount.
fn amount(list: Option<&BTreeMap<String, ApiQuantity>>, name: &str) -> Option<i64> {
    let quantity = Quantity::parse(&list?.get(name)?.0).ok()?;
    let amount = if name == "cpu" {
        quantity.milli()
    } else {
        quantity.value()
    };
    (amount > 0).then_some(amount)
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn spec(resources: &[Value]) -> PodSpec {
        let containers = resources.iter().enumerate();
        let containers: Value = containers
            .map(|(i, resources)| json!({"name": format!("c{i}"), "resources": resources}))
            .collect();
        serde_json::from_value(json!({ "containers": containers })).expect("a spec")
    }

    #[test]
    fn the_class_follows_requests_and_limits() {
        let full =
            json!({"limits": {"cpu": "1", "memory": "1Gi"}, "requests": {"cpu": "1000m", "memory": "1Gi"}});
        let limits = json!({"limits": {"cpu": "1", "memory": "1Gi"}});
        let some = json!({"requests": {"cpu": "100m"}});
        let cases = [
            (vec![json!({})], QosClass::BestEffort),
            (vec![full.clone()], QosClass::Guaranteed),
            (vec![limits], QosClass::Guaranteed),
            (vec![some], QosClass::Burstable),
            (vec![full, json!({})], QosClass::Burstable),
        ];
        for (resources, class) in cases {
            assert_eq!(qos_class(&spec(&resources)), class, "{resources:?}");
        }
    }

    #[test]
    fn amounts_become_what_the_kernel_takes() {
        let spec =
            spec(&[json!({"limits": {"cpu": "500m", "memory": "200Mi"}, "requests": {"cpu": "100m"}})]);
        let resources = container_resources(&spec, &spec.containers[0]);
        assert_eq!(resources.memory_limit, Some(200 << 20));
        assert_eq!(resources.cpu_shares, Some(102));
        assert_eq!(
            (resources.cpu_quota, resources.cpu_period),
            (Some(50_000), Some(100_000))
        );
    }

    #[test]
    fn the_pod_is_limited_only_when_every_container_is() {
        let limited = json!({"limits": {"memory": "100Mi"}});
        let both = spec(&[limited.clone(), limited.clone()]);
        assert_eq!(pod_resources(&both).memory_limit, Some(200 << 20));
        assert_eq!(pod_resources(&spec(&[limited, json!({})])).memory_limit, None);
    }
}

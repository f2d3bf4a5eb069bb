//! Checks whether this node can run a pod, as the kubelet does after the scheduler.
//!
//! A pod may be bound without a check, or the node may have changed since. A refused pod fails with the
//! reason from here, and its controller creates another one.

use std::collections::{BTreeMap, BTreeSet};

use api::affinity::{NodeAffinity, NodeFacts};
use k8s_openapi::api::core::v1::{Container, Pod, PodSpec, ResourceRequirements};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity as ApiQuantity;
use plan::pod_sync::Failure;
use schema::quantity::Quantity;

/// The resources that are counted, in the order in which a shortage is reported; the value is in milli-units for `cpu`, else whole.
const COUNTED: [&str; 3] = ["cpu", "memory", "ephemeral-storage"];

/// How the names of resources begin of which this node has none, and gives none: the machine's huge pages, by size.
const HUGE_PAGES: &str = "hugepages-";

/// The operating system of every node that this agent runs on, as `spec.os.name` has it.
const OS: &str = "linux";
/// The label of a node that names its operating system.
const OS_LABEL: &str = "kubernetes.io/os";

/// What a node offers.
#[derive(Clone, Debug, Default)]
pub(crate) struct Offer {
    /// Name of the node.
    pub(crate) name: String,
    /// Labels of the node.
    pub(crate) labels: BTreeMap<String, String>,
    /// Allocatable amounts by resource.
    pub(crate) allocatable: BTreeMap<String, String>,
}

impl NodeFacts for Offer {
    fn node_name(&self) -> &str {
        &self.name
    }

    fn label(&self, key: &str) -> Option<&str> {
        self.labels.get(key).map(String::as_str)
    }
}

/// What a pod that was let in takes.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Claim {
    requests: BTreeMap<&'static str, i64>,
    /// Protocol, address (0.0.0.0 for all) and port.
    ports: BTreeSet<(String, String, i32)>,
}

impl Claim {
    /// What `pod` takes.
    pub(crate) fn of(pod: &Pod) -> Claim {
        let Some(spec) = &pod.spec else {
            return Claim::default();
        };
        let requests = COUNTED.map(|name| (name, requested(spec, name)));
        let init = spec.init_containers.iter().flatten();
        let sidecars = init.filter(|container| is_sidecar(container));
        let ports = spec
            .containers
            .iter()
            .chain(sidecars)
            .flat_map(|container| container.ports.iter().flatten());
        let ports = ports.filter_map(|port| {
            let number = port.host_port.filter(|port| *port > 0)?;
            let protocol = port.protocol.clone().unwrap_or_else(|| "TCP".into());
            let address = port.host_ip.clone().filter(|ip| !ip.is_empty());
            Some((protocol, address.unwrap_or_else(|| "0.0.0.0".into()), number))
        });
        Claim {
            requests: requests.into(),
            ports: ports.collect(),
        }
    }

    fn clashes(&self, other: &Claim) -> bool {
        self.ports.iter().any(|(protocol, address, port)| {
            other
                .ports
                .iter()
                .any(|(their_protocol, their_address, their_port)| {
                    let everywhere = address == "0.0.0.0" || their_address == "0.0.0.0";
                    protocol == their_protocol
                        && port == their_port
                        && (everywhere || address == their_address)
                })
        })
    }
}

/// Whether `pod` may run on the node beside the pods that hold `others`; the refusal is what its status says.
pub(crate) fn admit(pod: &Pod, offer: &Offer, others: &[&Claim]) -> Result<Claim, Failure> {
    let claim = Claim::of(pod);
    let spec = pod.spec.as_ref();
    let selected = spec.and_then(|spec| spec.node_selector.as_ref()?.get(OS_LABEL));
    if selected.is_some_and(|selected| offer.labels.get(OS_LABEL) != Some(selected)) {
        let message = "Failed to admit pod as the `kubernetes.io/os` label doesn't match node label";
        return Err(refusal("PodOSSelectorNodeLabelDoesNotMatch", message));
    }
    let os = spec.and_then(|spec| spec.os.as_ref());
    if os.is_some_and(|os| os.name != OS) {
        let message = "Failed to admit pod as the OS field doesn't match node OS";
        return Err(refusal("PodOSNotSupported", message));
    }
    if !selects(pod, offer) {
        let message = "Predicate NodeAffinity failed: node(s) didn't match Pod's node affinity/selector";
        return Err(refusal("NodeAffinity", message));
    }
    if others.iter().any(|other| claim.clashes(other)) {
        let message =
            "Predicate NodePorts failed: node(s) didn't have free ports for the requested pod ports";
        return Err(refusal("NodePorts", message));
    }
    let allocatable = |name: &str| offer.allocatable.get(name).map(|amount| parse(name, amount));
    if let Some(pods) = allocatable("pods")
        && others.len() as i64 >= pods
    {
        return Err(shortage("pods", 1, others.len() as i64, pods));
    }
    for name in COUNTED {
        let (requested, Some(capacity)) = (claim.requests[name], allocatable(name)) else {
            continue;
        };
        let used = others
            .iter()
            .map(|other| other.requests.get(name).copied().unwrap_or(0))
            .sum::<i64>();
        if requested > 0 && used.saturating_add(requested) > capacity {
            return Err(shortage(name, requested, used, capacity));
        }
    }
    // No node offers any, so the first is a shortage. The scheduler says the same of a pod that it binds.
    let huge = spec.and_then(|spec| {
        let lists = containers(spec).filter_map(|container| container.resources.as_ref());
        let mut names = lists.flat_map(|list| list.limits.iter().chain(&list.requests).flatten());
        names.find_map(|(name, _)| {
            let amount = requested(spec, name);
            (name.starts_with(HUGE_PAGES) && amount > 0).then_some((name, amount))
        })
    });
    match huge {
        Some((name, amount)) => Err(shortage(name, amount, 0, 0)),
        None => Ok(claim),
    }
}

fn containers(spec: &PodSpec) -> impl Iterator<Item = &Container> {
    spec.init_containers.iter().flatten().chain(&spec.containers)
}

fn is_sidecar(container: &Container) -> bool {
    container.restart_policy.as_deref() == Some("Always")
}

/// How much of a resource a pod takes: what runs together, or the largest container that runs alone before.
fn requested(spec: &PodSpec, name: &str) -> i64 {
    let init = spec.init_containers.iter().flatten();
    let (sidecars, init): (Vec<_>, Vec<_>) = init.partition(|container| is_sidecar(container));
    let together: i64 = spec
        .containers
        .iter()
        .chain(sidecars)
        .map(|container| request(container, name))
        .sum();
    let alone = init.iter().map(|container| request(container, name));
    let overhead = spec.overhead.as_ref().and_then(|overhead| overhead.get(name));
    let overhead = overhead.map_or(0, |amount| parse(name, &amount.0));
    together.max(alone.max().unwrap_or(0)).saturating_add(overhead)
}

fn selects(pod: &Pod, offer: &Offer) -> bool {
    let Some(spec) = &pod.spec else {
        return true;
    };
    let selector = spec.node_selector.iter().flatten();
    if !selector
        .into_iter()
        .all(|(key, value)| offer.labels.get(key) == Some(value))
    {
        return false;
    }
    let affinity = spec
        .affinity
        .as_ref()
        .and_then(|affinity| affinity.node_affinity.as_ref());
    let compiled = affinity.and_then(|affinity| serde_json::to_value(affinity).ok());
    let compiled = compiled.and_then(|affinity| serde_json::from_value::<NodeAffinity>(affinity).ok());
    compiled
        .and_then(|affinity| affinity.required)
        .is_none_or(|required| required.matches(offer))
}

fn shortage(name: &str, requested: i64, used: i64, capacity: i64) -> Failure {
    let message = format!(
        "Node didn't have enough resource: {name}, requested: {requested}, used: {used}, capacity: {capacity}"
    );
    refusal(&format!("OutOf{name}"), &message)
}

fn refusal(reason: &str, message: &str) -> Failure {
    Failure {
        reason: reason.to_owned(),
        message: format!("Pod was rejected: {message}"),
    }
}

fn request(container: &Container, name: &str) -> i64 {
    let amount = |resources: &ResourceRequirements| -> Option<ApiQuantity> {
        let of = |list: &Option<BTreeMap<String, ApiQuantity>>| list.as_ref()?.get(name).cloned();
        of(&resources.requests).or_else(|| of(&resources.limits))
    };
    let amount = container.resources.as_ref().and_then(amount);
    amount.map_or(0, |amount| parse(name, &amount.0))
}

/// Milli-units of `cpu`, whole units of all else; what cannot be read counts as nothing (the API server validates).
fn parse(name: &str, amount: &str) -> i64 {
    let Ok(quantity) = Quantity::parse(amount) else {
        return 0;
    };
    if name == "cpu" {
        quantity.milli()
    } else {
        quantity.value()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn pod(spec: Value) -> Pod {
        serde_json::from_value(json!({"spec": spec})).expect("a pod")
    }

    fn offer() -> Offer {
        let amounts = [("cpu", "2"), ("memory", "1Gi"), ("pods", "3")];
        Offer {
            name: "n".into(),
            labels: [("disk".to_owned(), "ssd".to_owned())].into(),
            allocatable: amounts
                .map(|(name, amount)| (name.to_owned(), amount.to_owned()))
                .into(),
        }
    }

    fn reason(spec: Value, others: &[Value]) -> Option<String> {
        let others: Vec<Claim> = others.iter().map(|spec| Claim::of(&pod(spec.clone()))).collect();
        let others: Vec<&Claim> = others.iter().collect();
        admit(&pod(spec), &offer(), &others)
            .err()
            .map(|failure| failure.reason)
    }

    fn asking(cpu: &str) -> Value {
        json!({"containers": [{"name": "c", "resources": {"requests": {"cpu": cpu}}}]})
    }

    fn port(port: i32, address: &str) -> Value {
        json!({"containers": [{"name": "c", "ports": [{"containerPort": 1, "hostPort": port, "hostIP": address}]}]})
    }

    #[test]
    fn a_pod_that_fits_is_let_in() {
        assert_eq!(reason(asking("500m"), &[asking("1500m")]), None);
        assert_eq!(
            reason(port(80, "10.0.0.1"), &[port(80, "10.0.0.2"), port(81, "")]),
            None
        );
    }

    #[test]
    fn a_shortage_is_named_with_its_resource() {
        assert_eq!(
            reason(asking("501m"), &[asking("1500m")]).as_deref(),
            Some("OutOfcpu")
        );
        let many = [asking("0"), asking("0"), asking("0")];
        assert_eq!(reason(asking("0"), &many).as_deref(), Some("OutOfpods"));
    }

    #[test]
    fn huge_pages_are_short_on_every_node() {
        let limits = json!({"hugepages-2Mi": "4Mi", "memory": "1Mi"});
        let container = json!({"name": "c", "resources": {"limits": limits}});
        let spec = json!({"containers": [container]});
        let refused = admit(&pod(spec), &offer(), &[]).expect_err("no huge pages");
        assert_eq!(refused.reason, "OutOfhugepages-2Mi");
        assert!(
            refused
                .message
                .ends_with("requested: 4194304, used: 0, capacity: 0"),
            "{}",
            refused.message
        );
        let alone = json!({"containers": [{"name": "c"}], "initContainers": [container]});
        assert_eq!(reason(alone, &[]).as_deref(), Some("OutOfhugepages-2Mi"));
    }

    #[test]
    fn the_message_counts_what_is_there() {
        let others = [Claim::of(&pod(asking("1")))];
        let refused = admit(&pod(asking("1500m")), &offer(), &[&others[0]]).expect_err("too much");
        let message = "Pod was rejected: Node didn't have enough resource: cpu, requested: 1500, used: 1000, capacity: 2000";
        assert_eq!(refused.message, message);
    }

    #[test]
    fn a_port_that_is_taken_on_one_of_the_addresses_refuses() {
        assert_eq!(
            reason(port(80, ""), &[port(80, "10.0.0.2")]).as_deref(),
            Some("NodePorts")
        );
    }

    #[test]
    fn a_node_that_is_not_selected_refuses() {
        let mut spec = asking("0");
        spec["nodeSelector"] = json!({"disk": "ssd"});
        assert_eq!(reason(spec.clone(), &[]), None);
        spec["nodeSelector"] = json!({"disk": "hdd"});
        assert_eq!(reason(spec, &[]).as_deref(), Some("NodeAffinity"));
        let mut spec = asking("0");
        let aimed = |name: &str| {
            let term = json!({"matchFields": [{"key": "metadata.name", "operator": "In", "values": [name]}]});
            json!({"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [term]}}})
        };
        spec["affinity"] = aimed("n");
        assert_eq!(reason(spec.clone(), &[]), None);
        spec["affinity"] = aimed("m");
        assert_eq!(reason(spec, &[]).as_deref(), Some("NodeAffinity"));
        let mut spec = asking("0");
        spec["os"] = json!({"name": "linux"});
        assert_eq!(reason(spec.clone(), &[]), None);
        spec["os"] = json!({"name": "windows"});
        assert_eq!(reason(spec, &[]).as_deref(), Some("PodOSNotSupported"));
        let mut spec = asking("0");
        spec["nodeSelector"] = json!({"kubernetes.io/os": "windows"});
        let refused = reason(spec, &[]);
        assert_eq!(refused.as_deref(), Some("PodOSSelectorNodeLabelDoesNotMatch"));
    }
}

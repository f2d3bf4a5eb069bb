//! Likely mistakes that the server accepts.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use api::view::{DaemonSetView, HostPortView, NodeView, PodView, Resources};
use plan::daemonset::Placement;
use schema::quantity::Quantity;
use serde::Deserialize;
use serde_json::Value;

use crate::client::fleet::Sight;
use crate::client::node_affinity::{self, About, Requirement};
use crate::client::suggest::{did_you_mean, nearest};

/// Most values of a label in a message.
const NAMED: usize = 5;

/// The parts of all DaemonSets that may conflict with each other.
pub(super) struct Fleetwide {
    sets: Vec<Neighbour>,
}

/// Another DaemonSet.
struct Neighbour {
    view: Arc<DaemonSetView>,
    ports: Box<[HostPortView]>,
    placement: Placement,
}

impl Fleetwide {
    pub(super) fn new(sets: &[Arc<DaemonSetView>]) -> Fleetwide {
        let neighbour = |view: &Arc<DaemonSetView>| Neighbour {
            ports: pod(&view.template).spec.host_ports.clone(),
            placement: Placement::compile(&view.template),
            view: view.clone(),
        };
        Fleetwide {
            sets: sets.iter().map(neighbour).collect(),
        }
    }
}

/// Returns a pod of the template.
fn pod(template: &Value) -> PodView {
    PodView::deserialize(template).unwrap_or_default()
}

/// Returns the likely mistakes of `set`.
pub(super) fn find(set: &DaemonSetView, sight: &Sight, fleetwide: &Fleetwide) -> Vec<String> {
    let nodes: Vec<&NodeView> = sight.nodes.values().map(|node| &**node).collect();
    let placement = Placement::compile(&set.template);
    let mut found = labels(&set.template, &nodes);
    let at_home: Vec<&NodeView> = nodes
        .iter()
        .copied()
        .filter(|node| placement.fit(node).should_run())
        .collect();
    found.extend(requests(&pod(&set.template).spec.requests, &at_home));
    found.extend(neighbours(set, &at_home, fleetwide));
    found.extend(images(&set.template));
    found
}

/// Returns the labels that the template requires and no node has.
fn labels(template: &Value, nodes: &[&NodeView]) -> Vec<String> {
    if nodes.is_empty() {
        return Vec::new();
    }
    let spec = &template["spec"];
    let mut found = Vec::new();
    if let Some(name) = spec["nodeName"].as_str().filter(|name| !name.is_empty())
        && !nodes.iter().any(|node| *node.meta.name == *name)
    {
        let names = nodes.iter().map(|node| &*node.meta.name);
        let hint = did_you_mean(nearest(name, names));
        found.push(format!("nodeName: there is no node {name}{hint}"));
    }
    for (key, value) in spec["nodeSelector"].as_object().into_iter().flatten() {
        let value = value.as_str().unwrap_or_default();
        found.extend(missing_label(key, &[value], nodes).map(|missing| format!("nodeSelector: {missing}")));
    }
    for requirement in node_affinity::requirements(spec) {
        if !requirement.is_known() || nodes.iter().any(|node| requirement.holds(node)) {
            continue;
        }
        let Requirement {
            term, key, operator, ..
        } = requirement;
        let missing = match (requirement.about, operator) {
            (About::Labels, "In" | "Exists") => missing_label(key, &requirement.values, nodes),
            _ => None,
        };
        let missing = missing.unwrap_or_else(|| format!("no node satisfies {key} {operator}"));
        found.push(format!("node affinity, term {term}: {missing}"));
    }
    found
}

/// Returns why no node has the label with one of the values; `None` if a node has it.
fn missing_label(key: &str, values: &[&str], nodes: &[&NodeView]) -> Option<String> {
    let present: BTreeSet<&str> = nodes
        .iter()
        .filter_map(|node| node.meta.labels.get(key))
        .collect();
    if present.is_empty() {
        let keys: BTreeSet<&str> = nodes
            .iter()
            .flat_map(|node| node.meta.labels.iter().map(|(key, _)| key))
            .collect();
        let hint = did_you_mean(nearest(key, keys));
        return Some(format!("no node has the label {key}{hint}"));
    }
    if values.is_empty() || values.iter().any(|value| present.contains(value)) {
        return None;
    }
    let near = values
        .iter()
        .find_map(|value| nearest(value, present.iter().copied()));
    let hint = match near {
        Some(near) => did_you_mean(Some(near)),
        None => {
            let some: Vec<&str> = present.iter().take(NAMED).copied().collect();
            let more = if present.len() > NAMED { ", …" } else { "" };
            format!("; nodes have {}{more}", some.join(", "))
        }
    };
    Some(format!("no node has {key}={}{hint}", values.join(" or ")))
}

/// Returns requests that exceed every node.
fn requests(requests: &Resources, nodes: &[&NodeView]) -> Vec<String> {
    if nodes.is_empty() {
        return Vec::new();
    }
    let named = ["cpu", "memory", "ephemeral-storage"]
        .into_iter()
        .chain(requests.other.iter().map(|(name, _)| &**name));
    named
        .filter_map(|name| {
            let wanted = requests.get(name);
            let most = nodes.iter().map(|node| node.allocatable.get(name)).max()?;
            (wanted > most).then(|| {
                format!(
                    "it requests {name} {}, more than any node has to give ({}): its pods would stay Pending",
                    quantity(name, wanted),
                    quantity(name, most)
                )
            })
        })
        .collect()
}

fn quantity(name: &str, amount: i64) -> String {
    match name {
        "cpu" => Quantity::from_milli(amount).to_string(),
        "memory" | "ephemeral-storage" => Quantity::from_bytes(amount).to_string(),
        _ => Quantity::from_count(amount).to_string(),
    }
}

/// Returns conflicts with other DaemonSets: the same host port on the same nodes, and pods that
/// another one selects too.
fn neighbours(set: &DaemonSetView, at_home: &[&NodeView], fleetwide: &Fleetwide) -> Vec<String> {
    let own_pod = pod(&set.template);
    let mut found = Vec::new();
    for other in &fleetwide.sets {
        let meta = &other.view.meta;
        if meta.namespace == set.meta.namespace && meta.name == set.meta.name {
            continue;
        }
        let name = format!("{}/{}", meta.namespace, meta.name);
        let shared = || {
            at_home
                .iter()
                .filter(|node| other.placement.fit(node).should_run())
                .count()
        };
        let taken: BTreeMap<(i32, &str), ()> = own_pod
            .spec
            .host_ports
            .iter()
            .filter(|port| other.ports.iter().any(|taken| taken.conflicts(port)))
            .map(|port| ((port.port, &*port.protocol), ()))
            .collect();
        for ((port, protocol), ()) in taken {
            let nodes = super::super::why::nodes(shared());
            if shared() > 0 {
                found.push(format!(
                    "host port {port}/{protocol} is also taken by the DaemonSet {name} on {nodes}: one of the two pods would stay Pending there"
                ));
            }
        }
        if meta.namespace == set.meta.namespace
            && set
                .selector
                .matches_labels(&pod(&other.view.template).meta.labels)
        {
            found.push(format!(
                "its selector also matches the pods of the DaemonSet {name}"
            ));
        }
    }
    found
}

/// Returns images whose tag may change.
fn images(template: &Value) -> Vec<String> {
    let spec = &template["spec"];
    let containers = ["initContainers", "containers"].map(|field| spec[field].as_array());
    containers
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|container| {
            let image = container["image"].as_str()?;
            let name = image.rsplit('/').next()?;
            (!name.contains(':') && !image.contains('@')).then(|| {
                format!(
                    "container {}: the image {image} has no tag, which means :latest; nodes may come to run different versions",
                    container["name"].as_str().unwrap_or_default()
                )
            })
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn node(name: &str, labels: &Value) -> NodeView {
        let node = json!({"metadata": {"name": name, "labels": labels},
            "status": {"allocatable": {"cpu": "4", "memory": "8Gi", "pods": "110"}}});
        NodeView::deserialize(&node).unwrap()
    }

    fn told(template: &Value) -> Vec<String> {
        let nodes = [
            node("a", &json!({"disktype": "ssd", "zone": "east"})),
            node("b", &json!({"disktype": "hdd"})),
        ];
        labels(template, &nodes.iter().collect::<Vec<_>>())
    }

    #[test]
    fn a_label_that_no_node_carries_is_named_with_the_one_that_was_meant() {
        let with = |key: &str, value: &str| told(&json!({"spec": {"nodeSelector": {key: value}}}));
        assert_eq!(
            with("disktyp", "ssd"),
            ["nodeSelector: no node has the label disktyp; did you mean disktype?"]
        );
        assert_eq!(
            with("disktype", "sdd"),
            ["nodeSelector: no node has disktype=sdd; nodes have hdd, ssd"]
        );
        assert_eq!(with("disktype", "ssd"), [""; 0]);
        assert_eq!(
            told(&json!({"spec": {"nodeName": "c"}})),
            ["nodeName: there is no node c"]
        );
    }

    #[test]
    fn a_requirement_that_no_node_satisfies_is_named_and_one_that_asks_for_absence_is_not() {
        let with = |requirement: &Value| {
            told(
                &json!({"spec": {"affinity": {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution":
                {"nodeSelectorTerms": [{"matchExpressions": [requirement]}]}}}}}),
            )
        };
        assert_eq!(
            with(&json!({"key": "zon", "operator": "Exists"})),
            ["node affinity, term 1: no node has the label zon; did you mean zone?"]
        );
        assert_eq!(
            with(&json!({"key": "zone", "operator": "In", "values": ["west", "north"]})),
            ["node affinity, term 1: no node has zone=west or north; nodes have east"]
        );
        assert_eq!(with(&json!({"key": "gpu", "operator": "DoesNotExist"})), [""; 0]);
        assert_eq!(
            with(&json!({"key": "disktype", "operator": "DoesNotExist"})),
            ["node affinity, term 1: no node satisfies disktype DoesNotExist"]
        );
    }

    #[test]
    fn requests_that_no_node_could_grant_are_told_with_what_there_is() {
        let node = node("a", &json!({}));
        let template = json!({"spec": {"containers": [{"name": "c", "resources": {"requests": {"cpu": "5", "memory": "1Gi", "example.com/gpu": "1"}}}]}});
        assert_eq!(
            requests(&pod(&template).spec.requests, &[&node]),
            [
                "it requests cpu 5, more than any node has to give (4): its pods would stay Pending",
                "it requests example.com/gpu 1, more than any node has to give (0): its pods would stay Pending"
            ]
        );
    }

    #[test]
    fn an_image_without_a_tag_is_told_and_a_port_of_the_registry_is_no_tag() {
        let with =
            |image: &str| images(&json!({"spec": {"containers": [{"name": "c", "image": image}]}})).len();
        assert_eq!(with("registry:5000/x"), 1);
        assert_eq!(with("x"), 1);
        assert_eq!(with("registry:5000/x:1"), 0);
        assert_eq!(with("x@sha256:00"), 0);
    }

    #[test]
    fn what_two_daemon_sets_fight_over_is_told() {
        let set = |name: &str, label: &str, port: i64| {
            let set = json!({"metadata": {"name": name, "namespace": "n"}, "spec": {
                "selector": {"matchLabels": {"app": label}},
                "template": {"metadata": {"labels": {"app": label}},
                    "spec": {"containers": [{"name": "c", "ports": [{"hostPort": port, "protocol": "TCP"}]}]}}}});
            Arc::new(DaemonSetView::deserialize(&set).unwrap())
        };
        let node = node("a", &json!({}));
        let told = |new: &DaemonSetView| neighbours(new, &[&node], &Fleetwide::new(&[set("there", "x", 80)]));
        assert_eq!(
            told(&set("new", "y", 80)),
            [
                "host port 80/TCP is also taken by the DaemonSet n/there on 1 node: one of the two pods would stay Pending there"
            ]
        );
        assert_eq!(
            told(&set("new", "x", 81)),
            ["its selector also matches the pods of the DaemonSet n/there"]
        );
        assert_eq!(
            told(&set("there", "x", 80)),
            [""; 0],
            "it is not its own neighbour"
        );
    }
}

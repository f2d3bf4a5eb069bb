//! Attempts with pods.

use serde_json::{Value, json};

use super::*;

pub(super) fn pods(table: &mut Table) {
    table.part = "Pods";
    let status = || json!({"status": {"message": "x"}});
    let label = || json!({"metadata": {"labels": {"app": "victim"}}});
    table.row(
        "the status of its own pod",
        "PATCH",
        format!("{TEAM}/pods/mine/status"),
        status(),
        200,
        "",
    );
    table.row(
        "labels of its own pod, so that a Service selects it",
        "PATCH",
        format!("{TEAM}/pods/mine"),
        label(),
        403,
        CANNOT,
    );
    table.row(
        "the same by its status",
        "PATCH",
        format!("{TEAM}/pods/mine/status"),
        label(),
        403,
        "node \"n\" cannot update labels through pod status",
    );
    table.row(
        "the status of another node's pod",
        "PATCH",
        format!("{TEAM}/pods/theirs/status"),
        status(),
        403,
        STRANGER,
    );
    table.row(
        "the deletion of another node's pod",
        "DELETE",
        format!("{TEAM}/pods/theirs"),
        Value::Null,
        403,
        STRANGER,
    );
    table.row(
        "the deletion of an unscheduled pod",
        "DELETE",
        format!("{TEAM}/pods/unbound"),
        Value::Null,
        403,
        STRANGER,
    );
    table.row("the eviction of another node's pod", "POST", format!("{TEAM}/pods/theirs/eviction"), json!({"kind": "Eviction", "apiVersion": "policy/v1", "metadata": {"name": "theirs", "namespace": "team"}}), 403, STRANGER);
    table.row(
        "the deletion of all pods",
        "DELETE",
        format!("{TEAM}/pods"),
        Value::Null,
        403,
        CANNOT,
    );
    table.row(
        "the deletion of its own pods as a collection",
        "DELETE",
        format!("{TEAM}/pods?fieldSelector=spec.nodeName%3Dn"),
        Value::Null,
        403,
        CANNOT,
    );
    let binding = json!({"kind": "Binding", "apiVersion": "v1", "metadata": {"name": "unbound"}, "target": {"kind": "Node", "apiVersion": "v1", "name": "n"}});
    table.row(
        "a pod bound to itself",
        "POST",
        format!("{TEAM}/pods/unbound/binding"),
        binding,
        403,
        CANNOT,
    );
    let mut strong = bound_pod("strong", "n", "powerful");
    table.row(
        "a new pod on itself with a privileged ServiceAccount",
        "POST",
        format!("{TEAM}/pods"),
        strong.clone(),
        403,
        CANNOT,
    );
    strong["metadata"]["annotations"] = json!({"kubernetes.io/config.mirror": "x"});
    table.row(
        "the same as a mirror pod",
        "POST",
        format!("{TEAM}/pods"),
        strong,
        403,
        CANNOT,
    );
    let mut forged = bound_pod("forged", "n", "daemon");
    forged["metadata"]["ownerReferences"] =
        json!([{"kind": "DaemonSet", "apiVersion": "apps/v1", "name": "d", "uid": "x", "controller": true}]);
    table.row(
        "a new pod that looks like a DaemonSet's",
        "POST",
        format!("{TEAM}/pods"),
        forged,
        403,
        CANNOT,
    );
}

//! Attempts with Nodes and heartbeats.

use serde_json::{Value, json};

use super::*;

pub(super) fn nodes(table: &mut Table) {
    table.part = "Nodes and heartbeats";
    let label = |label: &str| json!({"metadata": {"labels": {label: "x"}}});
    const NOT_OTHER: &str = "node \"n\" is not allowed to modify node \"other\"";
    table.row(
        "a label of its own Node",
        "PATCH",
        "/api/v1/nodes/n",
        label("disk"),
        200,
        "",
    );
    table.row(
        "its own status",
        "PATCH",
        "/api/v1/nodes/n/status",
        json!({"status": {"phase": "Running"}}),
        200,
        "",
    );
    table.row(
        "another Node",
        "PATCH",
        "/api/v1/nodes/other",
        label("disk"),
        403,
        NOT_OTHER,
    );
    table.row(
        "another Node's status",
        "PATCH",
        "/api/v1/nodes/other/status",
        json!({"status": {"addresses": []}}),
        403,
        NOT_OTHER,
    );
    table.row(
        "a new Node of another name",
        "POST",
        "/api/v1/nodes",
        named("Node", "third"),
        403,
        "node \"n\" is not allowed to modify node \"third\"",
    );
    table.row(
        "another Node's deletion",
        "DELETE",
        "/api/v1/nodes/other",
        Value::Null,
        403,
        CANNOT,
    );
    table.row(
        "its own deletion",
        "DELETE",
        "/api/v1/nodes/n",
        Value::Null,
        403,
        CANNOT,
    );
    table.row(
        "the deletion of all Nodes",
        "DELETE",
        "/api/v1/nodes",
        Value::Null,
        403,
        CANNOT,
    );
    table.row(
        "a role label, to attract pods",
        "PATCH",
        "/api/v1/nodes/n",
        label("node-role.kubernetes.io/control-plane"),
        403,
        "is not allowed to modify labels: node-role.kubernetes.io/control-plane",
    );
    table.row(
        "the same by its status",
        "PATCH",
        "/api/v1/nodes/n/status",
        label("node-role.kubernetes.io/control-plane"),
        403,
        "is not allowed to modify labels: node-role.kubernetes.io/control-plane",
    );
    table.row(
        "a label that nodes must not set",
        "PATCH",
        "/api/v1/nodes/n",
        label("node-restriction.kubernetes.io/secure"),
        403,
        "is not allowed to modify labels: node-restriction.kubernetes.io/secure",
    );
    table.row(
        "removal of its taints",
        "PATCH",
        "/api/v1/nodes/n",
        json!({"spec": {"taints": []}}),
        403,
        "node \"n\" is not allowed to modify taints",
    );
    table.row(
        "new taints",
        "PATCH",
        "/api/v1/nodes/n",
        json!({"spec": {"taints": [{"key": "a", "effect": "NoSchedule"}]}}),
        403,
        "node \"n\" is not allowed to modify taints",
    );
    table.row(
        "its field unschedulable",
        "PATCH",
        "/api/v1/nodes/n",
        json!({"spec": {"unschedulable": true}}),
        403,
        "node \"n\" is not allowed to modify its spec",
    );
    life(table);
    table.row(
        "its own heartbeat",
        "PATCH",
        format!("{LEASES}/n"),
        json!({"spec": {"leaseDurationSeconds": 50}}),
        200,
        "",
    );
    const NOT_ITS_LEASE: &str = "can only access node lease with the same name as the requesting node";
    table.row(
        "another node's heartbeat",
        "PATCH",
        format!("{LEASES}/other"),
        json!({"spec": {"leaseDurationSeconds": 1}}),
        403,
        NOT_ITS_LEASE,
    );
    table.row(
        "the deletion of another node's heartbeat",
        "DELETE",
        format!("{LEASES}/other"),
        Value::Null,
        403,
        NOT_ITS_LEASE,
    );
    let lease = |name: &str| json!({"kind": "Lease", "apiVersion": "coordination.k8s.io/v1", "metadata": {"name": name}});
    table.row(
        "a heartbeat of a future node",
        "POST",
        LEASES,
        lease("third"),
        403,
        NOT_ITS_LEASE,
    );
    table.row(
        "a Lease in another namespace",
        "POST",
        "/apis/coordination.k8s.io/v1/namespaces/kube-system/leases",
        lease("n"),
        403,
        "can only access leases in the \"kube-node-lease\" system namespace",
    );
    table.row(
        "a finalizer of its heartbeat",
        "PATCH",
        format!("{LEASES}/n"),
        json!({"metadata": {"finalizers": ["example.com/stay"]}}),
        403,
        "node \"n\" is not allowed to modify finalizers",
    );
    table.row(
        "another owner of its heartbeat",
        "PATCH",
        format!("{LEASES}/n"),
        json!({"metadata": {"ownerReferences": [owner()]}}),
        403,
        "node \"n\" is not allowed to give its lease another owner than its node",
    );
}

/// Returns another Node as an owner.
fn owner() -> Value {
    json!({"apiVersion": "v1", "kind": "Node", "name": "other", "uid": "x", "blockOwnerDeletion": true})
}

/// Attempts to keep a deleted Node or to delete a Node through its owner, with every request that
/// can write the node's own Node.
fn life(table: &mut Table) {
    const FINALIZERS: &str = "node \"n\" is not allowed to modify finalizers";
    const OWNERS: &str = "node \"n\" is not allowed to modify ownerReferences";
    const NODE: &str = "/api/v1/nodes/n";
    const STATUS: &str = "/api/v1/nodes/n/status";
    let held = json!({"metadata": {"finalizers": ["example.com/stay"]}});
    let owned = json!({"metadata": {"ownerReferences": [owner()]}});
    let json_held = json!([{"op": "add", "path": "/metadata/finalizers", "value": ["example.com/stay"]}]);
    let json_owned = json!([{"op": "add", "path": "/metadata/ownerReferences", "value": [owner()]}]);
    let whole = |metadata: Value| {
        let mut node = named("Node", "n");
        node["metadata"] = metadata;
        node["metadata"]["name"] = "n".into();
        node["spec"] = json!({"podCIDR": "10.244.1.0/24",
            "taints": [{"key": "node.kubernetes.io/not-ready", "effect": "NoSchedule"}]});
        node
    };
    for (attempt, method, path, kind, body, says) in [
        (
            "a finalizer of its Node, so that it stays after its deletion",
            "PATCH",
            NODE,
            MERGE,
            &held,
            FINALIZERS,
        ),
        (
            "the same by a strategic merge patch",
            "PATCH",
            NODE,
            STRATEGIC,
            &held,
            FINALIZERS,
        ),
        (
            "the same by a JSON patch",
            "PATCH",
            NODE,
            JSON_PATCH,
            &json_held,
            FINALIZERS,
        ),
        (
            "the same by PUT",
            "PUT",
            NODE,
            JSON,
            &whole(held["metadata"].clone()),
            FINALIZERS,
        ),
        (
            "the same by its status",
            "PATCH",
            STATUS,
            MERGE,
            &held,
            FINALIZERS,
        ),
        (
            "the same by its status, strategically",
            "PATCH",
            STATUS,
            STRATEGIC,
            &held,
            FINALIZERS,
        ),
        (
            "the same by its status, by a JSON patch",
            "PATCH",
            STATUS,
            JSON_PATCH,
            &json_held,
            FINALIZERS,
        ),
        (
            "the same by PUT of its status",
            "PUT",
            STATUS,
            JSON,
            &whole(held["metadata"].clone()),
            FINALIZERS,
        ),
        (
            "the same when it registers",
            "POST",
            "/api/v1/nodes",
            JSON,
            &whole(held["metadata"].clone()),
            FINALIZERS,
        ),
        (
            "an owner of its Node, so that the Node is deleted and created again",
            "PATCH",
            NODE,
            MERGE,
            &owned,
            OWNERS,
        ),
        (
            "the same owner by a strategic merge patch",
            "PATCH",
            NODE,
            STRATEGIC,
            &owned,
            OWNERS,
        ),
        (
            "the same owner by a JSON patch",
            "PATCH",
            NODE,
            JSON_PATCH,
            &json_owned,
            OWNERS,
        ),
        (
            "the same owner by PUT",
            "PUT",
            NODE,
            JSON,
            &whole(owned["metadata"].clone()),
            OWNERS,
        ),
        (
            "the same owner by its status",
            "PATCH",
            STATUS,
            MERGE,
            &owned,
            OWNERS,
        ),
        (
            "the same owner by PUT of its status",
            "PUT",
            STATUS,
            JSON,
            &whole(owned["metadata"].clone()),
            OWNERS,
        ),
        (
            "the same owner when it registers",
            "POST",
            "/api/v1/nodes",
            JSON,
            &whole(owned["metadata"].clone()),
            OWNERS,
        ),
    ] {
        table.row(attempt, method, path, body.clone(), 403, says);
        if kind == STRATEGIC || kind == JSON_PATCH {
            table.rows.last_mut().unwrap().headers = vec![("content-type", kind)];
        }
    }
}

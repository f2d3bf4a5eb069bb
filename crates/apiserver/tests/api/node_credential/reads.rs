//! Attempts to read.

use super::*;

pub(super) fn reads(table: &mut Table) {
    table.part = "Reading";
    table.get("its own Node", "/api/v1/nodes/n", 200, "");
    table.get(
        "its own pods",
        "/api/v1/pods?fieldSelector=spec.nodeName%3Dn",
        200,
        "",
    );
    table.get("one of its pods", format!("{TEAM}/pods/mine"), 200, "");
    table.get(
        "a Secret that its pod refers to",
        format!("{TEAM}/secrets/mine"),
        200,
        "",
    );
    table.get(
        "the same Secret by a selector",
        format!("{TEAM}/secrets?fieldSelector=metadata.name%3Dmine"),
        200,
        "",
    );
    table.get(
        "a ConfigMap that its pod refers to",
        format!("{TEAM}/configmaps/mine"),
        200,
        "",
    );
    table.get(
        "Nodes, Services and EndpointSlices, for routes and rules",
        "/api/v1/services",
        200,
        "",
    );
    table.get(
        "a Secret of another node's pod",
        format!("{TEAM}/secrets/theirs"),
        403,
        STRANGER,
    );
    table.get(
        "the same Secret by a selector",
        format!("{TEAM}/secrets?fieldSelector=metadata.name%3Dtheirs"),
        403,
        STRANGER,
    );
    table.get(
        "the same Secret by a watch",
        format!("{TEAM}/secrets?watch=1&fieldSelector=metadata.name%3Dtheirs"),
        403,
        STRANGER,
    );
    table.get("a missing Secret", format!("{TEAM}/secrets/none"), 403, STRANGER);
    table.get(
        "the Secrets of a namespace",
        format!("{TEAM}/secrets"),
        403,
        "No Object name found",
    );
    table.get(
        "the Secrets of a namespace except one",
        format!("{TEAM}/secrets?fieldSelector=metadata.name%21%3Dmine"),
        403,
        "No Object name found",
    );
    table.get(
        "all Secrets",
        "/api/v1/secrets",
        403,
        "can only read namespaced object of this type",
    );
    table.get(
        "all Secrets by a watch",
        "/api/v1/secrets?watch=1",
        403,
        "can only read namespaced object of this type",
    );
    table.get(
        "the record of another node's certificates",
        "/api/v1/namespaces/kube-node-lease/secrets/other",
        403,
        STRANGER,
    );
    table.get(
        "the record of its own certificates",
        "/api/v1/namespaces/kube-node-lease/secrets/n",
        403,
        STRANGER,
    );
    table.get(
        "a ConfigMap of another node's pod",
        format!("{TEAM}/configmaps/theirs"),
        403,
        STRANGER,
    );
    table.get(
        "all ConfigMaps",
        "/api/v1/configmaps",
        403,
        "can only read namespaced object of this type",
    );
    table.get("another node's pod", format!("{TEAM}/pods/theirs"), 403, STRANGER);
    table.get(
        "all pods",
        "/api/v1/pods",
        403,
        "can only list/watch pods with spec.nodeName field selector",
    );
    table.get(
        "the pods of another node",
        "/api/v1/pods?fieldSelector=spec.nodeName%3Dother",
        403,
        "can only list/watch pods with spec.nodeName field selector",
    );
    table.get(
        "all pods except another node's",
        "/api/v1/pods?watch=1&fieldSelector=spec.nodeName%21%3Dother",
        403,
        "can only list/watch pods with spec.nodeName field selector",
    );
    table.get(
        "another node's Lease",
        format!("{LEASES}/other"),
        403,
        "can only access node lease with the same name as the requesting node",
    );
    table.get(
        "a ServiceAccount",
        format!("{TEAM}/serviceaccounts/powerful"),
        403,
        "can only create tokens for individual service accounts",
    );
    table.get("DaemonSets", "/apis/apps/v1/daemonsets", 403, CANNOT);
    table.get("roles", format!("{RBAC}/clusterroles"), 403, CANNOT);
    table.get("the server's metrics", "/metrics", 403, CANNOT);
}

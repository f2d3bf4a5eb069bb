//! Attempts of a node to become an administrator.

use serde_json::{Value, json};

use super::*;

pub(super) fn administration(table: &mut Table) {
    table.part = "Becoming an administrator";
    table.row(
        "a ClusterRoleBinding of cluster-admin",
        "POST",
        format!("{RBAC}/clusterrolebindings"),
        binding("ClusterRoleBinding", "cluster-admin"),
        403,
        CANNOT,
    );
    table.row(
        "the same by PUT",
        "PUT",
        format!("{RBAC}/clusterrolebindings/mine"),
        binding("ClusterRoleBinding", "cluster-admin"),
        403,
        CANNOT,
    );
    table.row(
        "a RoleBinding in kube-system",
        "POST",
        format!("{RBAC}/namespaces/kube-system/rolebindings"),
        binding("RoleBinding", "admin"),
        403,
        CANNOT,
    );
    table.row(
        "itself as a subject of an existing binding",
        "PATCH",
        format!("{RBAC}/clusterrolebindings/cluster-admin"),
        json!({"subjects": []}),
        403,
        CANNOT,
    );
    let rules = json!({"rules": [{"verbs": ["*"], "apiGroups": ["*"], "resources": ["*"]}]});
    table.row(
        "more rules in the role of nodes",
        "PATCH",
        format!("{RBAC}/clusterroles/everynode:node"),
        rules,
        403,
        CANNOT,
    );
    table.acting(
        "impersonation of the administrator",
        &[
            ("impersonate-user", "kubernetes-admin"),
            ("impersonate-group", "system:masters"),
        ],
        "cannot impersonate resource \"users\"",
    );
    table.acting(
        "impersonation of another node",
        &[
            ("impersonate-user", "system:node:other"),
            ("impersonate-group", "system:nodes"),
        ],
        "cannot impersonate resource \"users\"",
    );
    table.acting(
        "impersonation of a ServiceAccount",
        &[("impersonate-user", "system:serviceaccount:team:powerful")],
        "can only create tokens for individual service accounts",
    );
    table.acting(
        "impersonation of a group without a user",
        &[("impersonate-group", "system:masters")],
        "impersonated without a user",
    );
    table.rows.last_mut().unwrap().code = 400;
    const KUBELET: &str = "kubernetes.io/kube-apiserver-client-kubelet";
    table.row(
        "a new certificate of its own",
        "POST",
        CSRS,
        signing_request(KUBELET, "system:node:n", "system:nodes"),
        201,
        "",
    );
    table.row(
        "a certificate of another node",
        "POST",
        CSRS,
        signing_request(KUBELET, "system:node:other", "system:nodes"),
        403,
        "can only create a node CSR with CN=system:node:n",
    );
    table.row(
        "a certificate of an administrator",
        "POST",
        CSRS,
        signing_request("kubernetes.io/kube-apiserver-client", "me", "system:masters"),
        403,
        "use of kubernetes.io/kube-apiserver-client signer with system:masters group is not allowed",
    );
    let approval = json!({"status": {"conditions": [{"type": "Approved", "status": "True", "reason": "me", "message": "me"}]}});
    table.row(
        "approval of its own request",
        "PATCH",
        format!("{CSRS}/own/approval"),
        approval,
        403,
        CANNOT,
    );
    table.row(
        "signature of its own request",
        "PATCH",
        format!("{CSRS}/own/status"),
        json!({"status": {"certificate": "eA=="}}),
        403,
        CANNOT,
    );
    let daemon_set = daemon_set("mine");
    table.row(
        "a DaemonSet on every node",
        "POST",
        "/apis/apps/v1/namespaces/team/daemonsets",
        daemon_set,
        403,
        CANNOT,
    );
    let secret = named("Secret", "new");
    table.row(
        "a Secret, such as a bootstrap token",
        "POST",
        "/api/v1/namespaces/kube-system/secrets",
        secret,
        403,
        "can only read resources of this type",
    );
    table.row(
        "a change of its pod's ConfigMap",
        "PATCH",
        format!("{TEAM}/configmaps/mine"),
        json!({"data": {"a": "c"}}),
        403,
        "can only read resources of this type",
    );
    table.row(
        "a change of a Service",
        "PATCH",
        "/api/v1/namespaces/default/services/kubernetes",
        json!({"spec": {"ports": []}}),
        403,
        CANNOT,
    );
    table.row(
        "the endpoints of a Service",
        "PATCH",
        "/apis/discovery.k8s.io/v1/namespaces/default/endpointslices/kubernetes",
        json!({"endpoints": []}),
        403,
        CANNOT,
    );
    table.row(
        "the deletion of a namespace",
        "DELETE",
        "/api/v1/namespaces/team",
        Value::Null,
        403,
        CANNOT,
    );
    let review = json!({"kind": "SubjectAccessReview", "apiVersion": "authorization.k8s.io/v1", "spec": {"user": "a", "nonResourceAttributes": {"verb": "get", "path": "/"}}});
    table.row(
        "a review of others' rights",
        "POST",
        format!("{AUTHORIZATION}/subjectaccessreviews"),
        review,
        403,
        CANNOT,
    );
}

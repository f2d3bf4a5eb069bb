//! The credential of a node, tried against everything. The table of docs/node-credentials.md is what is tried here, in this order.

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use bytes::Bytes;
use http::{Method, Request};
use http_body_util::{BodyExt, Full};
use hyper_util::rt::TokioIo;
use rcgen::{CertificateParams, DistinguishedName, DnType, KeyPair};
use serde_json::{Value, json};

use crate::common::*;

const DOC: &str = include_str!("../../../../docs/node-credentials.md");
const TEAM: &str = "/api/v1/namespaces/team";
const LEASES: &str = "/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases";
const CSRS: &str = "/apis/certificates.k8s.io/v1/certificatesigningrequests";
const AUTHORIZATION: &str = "/apis/authorization.k8s.io/v1";

/// One attempt.
struct Row {
    /// The part of the table that it stands in.
    part: &'static str,
    /// What is tried.
    attempt: &'static str,
    method: Method,
    path: String,
    headers: Vec<(&'static str, &'static str)>,
    body: Value,
    /// The answer's code.
    code: u16,
    /// What a refusal says, behind Kubernetes' `User … cannot …` where nothing more is said.
    says: &'static str,
}

/// What the attempts need to know of the cluster.
struct World {
    cluster: Cluster,
    mine: String,
    theirs: String,
}

fn named(kind: &str, name: &str) -> Value {
    json!({"kind": kind, "apiVersion": "v1", "metadata": {"name": name}})
}

/// A pod that refers to the Secret and the ConfigMap of its name.
fn bound_pod(name: &str, node: &str, account: &str) -> Value {
    let mut object = pod(name);
    object["spec"]["nodeName"] = node.into();
    object["spec"]["serviceAccountName"] = account.into();
    object["spec"]["containers"][0]["envFrom"] =
        json!([{"secretRef": {"name": name}}, {"configMapRef": {"name": name}}]);
    object
}

fn signing_request(signer: &str, common_name: &str, organization: &str) -> Value {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params
        .distinguished_name
        .push(DnType::OrganizationName, organization);
    params.distinguished_name.push(DnType::CommonName, common_name);
    let key = KeyPair::generate().unwrap();
    let pem = params.serialize_request(&key).unwrap().pem().unwrap();
    json!({
        "kind": "CertificateSigningRequest",
        "apiVersion": "certificates.k8s.io/v1",
        "metadata": {"generateName": "csr-"},
        "spec": {
            "request": BASE64_STANDARD.encode(pem),
            "signerName": signer,
            "usages": ["client auth", "digital signature"],
        },
    })
}

/// A cluster with two nodes, and on each a pod with what it refers to. The other node's pod is an administrator's.
async fn world() -> World {
    let cluster = Cluster::start().await;
    cluster
        .create("/api/v1/namespaces", &named("Namespace", "team"))
        .await
        .expect(201);
    for account in ["daemon", "powerful", "default"] {
        cluster
            .create(
                &format!("{TEAM}/serviceaccounts"),
                &named("ServiceAccount", account),
            )
            .await
            .expect(201);
    }
    let powerful = json!([{"kind": "ServiceAccount", "namespace": "team", "name": "powerful"}]);
    cluster.bind("", "cluster-admin", powerful).await;
    for node in ["n", "other"] {
        // What makes its certificate good.
        drop(dial(&cluster, node).await);
        let mut object = named("Node", node);
        object["spec"] = json!({"podCIDR": format!("10.244.{}.0/24", node.len())});
        cluster.create("/api/v1/nodes", &object).await.expect(201);
        let lease = json!({
            "kind": "Lease", "apiVersion": "coordination.k8s.io/v1", "metadata": {"name": node},
            "spec": {"holderIdentity": node, "leaseDurationSeconds": 40},
        });
        cluster.create(LEASES, &lease).await.expect(201);
    }
    for name in ["mine", "theirs"] {
        let secret = json!({"kind": "Secret", "apiVersion": "v1", "metadata": {"name": name}, "stringData": {"a": "b"}});
        cluster
            .create(&format!("{TEAM}/secrets"), &secret)
            .await
            .expect(201);
        cluster
            .create(&format!("{TEAM}/configmaps"), &config_map(name))
            .await
            .expect(201);
    }
    let pods = format!("{TEAM}/pods");
    let mine = cluster
        .create(&pods, &bound_pod("mine", "n", "daemon"))
        .await
        .expect(201);
    let theirs = cluster
        .create(&pods, &bound_pod("theirs", "other", "daemon"))
        .await
        .expect(201);
    cluster
        .create(&pods, &bound_pod("admin", "other", "powerful"))
        .await
        .expect(201);
    cluster
        .create(&pods, &bound_pod("unbound", "", "powerful"))
        .await
        .expect(201);
    let mut request = signing_request(
        "kubernetes.io/kube-apiserver-client-kubelet",
        "system:node:n",
        "system:nodes",
    );
    request["metadata"] = json!({"name": "own"});
    cluster.create(CSRS, &request).await.expect(201);
    World {
        mine: text(&mine["metadata"]["uid"]),
        theirs: text(&theirs["metadata"]["uid"]),
        cluster,
    }
}

fn token_request(pod: &str, uid: &str, audience: &str) -> Value {
    let mut request = json!({"kind": "TokenRequest", "apiVersion": "authentication.k8s.io/v1", "spec": {}});
    if !pod.is_empty() {
        request["spec"]["boundObjectRef"] = json!({"kind": "Pod", "apiVersion": "v1", "name": pod});
    }
    if !uid.is_empty() {
        request["spec"]["boundObjectRef"]["uid"] = uid.into();
    }
    if !audience.is_empty() {
        request["spec"]["audiences"] = json!([audience]);
    }
    request
}

fn binding(kind: &str, role: &str) -> Value {
    json!({
        "kind": kind, "apiVersion": "rbac.authorization.k8s.io/v1", "metadata": {"name": "mine"},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": role},
        "subjects": [{"kind": "User", "apiGroup": "rbac.authorization.k8s.io", "name": "system:node:n"}],
    })
}

/// The attempts, gathered.
#[derive(Default)]
struct Table {
    part: &'static str,
    rows: Vec<Row>,
}

impl Table {
    fn row(
        &mut self,
        attempt: &'static str,
        method: &str,
        path: impl Into<String>,
        body: Value,
        code: u16,
        says: &'static str,
    ) {
        self.rows.push(Row {
            part: self.part,
            attempt,
            method: method.parse().unwrap(),
            path: path.into(),
            headers: Vec::new(),
            body,
            code,
            says,
        });
    }

    fn get(&mut self, attempt: &'static str, path: impl Into<String>, code: u16, says: &'static str) {
        self.row(attempt, "GET", path, Value::Null, code, says);
    }

    fn acting(
        &mut self,
        attempt: &'static str,
        headers: &[(&'static str, &'static str)],
        says: &'static str,
    ) {
        self.get(attempt, "/api/v1/secrets", 403, says);
        self.rows.last_mut().unwrap().headers = headers.to_vec();
    }
}

const STRANGER: &str = "no relationship found between node 'n' and this object";
const CANNOT: &str = "cannot";

fn reads(table: &mut Table) {
    table.part = "Reading";
    table.get("its own Node", "/api/v1/nodes/n", 200, "");
    table.get(
        "its own pods",
        "/api/v1/pods?fieldSelector=spec.nodeName%3Dn",
        200,
        "",
    );
    table.get("a pod of its own", format!("{TEAM}/pods/mine"), 200, "");
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
        "Nodes, Services and EndpointSlices, which it routes by",
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
    table.get(
        "a Secret that is not there",
        format!("{TEAM}/secrets/none"),
        403,
        STRANGER,
    );
    table.get(
        "the Secrets of a namespace",
        format!("{TEAM}/secrets"),
        403,
        "No Object name found",
    );
    table.get(
        "the Secrets of a namespace but one",
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
        "all pods but another node's",
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
    table.get("the server's counters", "/metrics", 403, CANNOT);
}

fn streams(table: &mut Table) {
    table.part = "Reaching into others";
    table.get(
        "the log of another node's pod",
        format!("{TEAM}/pods/theirs/log"),
        403,
        CANNOT,
    );
    table.get(
        "a command in another node's pod",
        format!("{TEAM}/pods/theirs/exec?command=sh&stdout=1"),
        403,
        CANNOT,
    );
    table.row(
        "the same by POST",
        "POST",
        format!("{TEAM}/pods/theirs/exec?command=sh&stdout=1"),
        Value::Null,
        403,
        CANNOT,
    );
    table.get(
        "another node's pod through the proxy",
        format!("{TEAM}/pods/theirs/proxy/"),
        403,
        CANNOT,
    );
    table.get(
        "another node's agent through the proxy",
        "/api/v1/nodes/other/proxy/",
        403,
        CANNOT,
    );
    table.get(
        "another node's tunnel",
        "/everynode/v1/nodes/other/tunnel",
        403,
        CANNOT,
    );
    table.get(
        "its own tunnel, without asking for an upgrade",
        "/everynode/v1/nodes/n/tunnel",
        400,
        "Upgrade: everynode-tunnel is required",
    );
}

fn nodes(table: &mut Table) {
    table.part = "Nodes and heartbeats";
    let label = |label: &str| json!({"metadata": {"labels": {label: "x"}}});
    const NOT_OTHER: &str = "node \"n\" is not allowed to modify node \"other\"";
    table.row(
        "a label of its own",
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
        "a role, to draw pods in",
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
        "a label that is kept from nodes",
        "PATCH",
        "/api/v1/nodes/n",
        label("node-restriction.kubernetes.io/secure"),
        403,
        "is not allowed to modify labels: node-restriction.kubernetes.io/secure",
    );
    table.row(
        "its taints, taken away",
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
        "that it is schedulable or not",
        "PATCH",
        "/api/v1/nodes/n",
        json!({"spec": {"unschedulable": true}}),
        403,
        "node \"n\" is not allowed to modify its spec",
    );
    table.row("an owner of its own", "PATCH", "/api/v1/nodes/n", json!({"metadata": {"ownerReferences": [{"kind": "Node", "apiVersion": "v1", "name": "other", "uid": "x"}]}}), 403, "node \"n\" is not allowed to modify ownerReferences");
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
        "a heartbeat for a node to come",
        "POST",
        LEASES,
        lease("third"),
        403,
        NOT_ITS_LEASE,
    );
    table.row(
        "a lock elsewhere",
        "POST",
        "/apis/coordination.k8s.io/v1/namespaces/kube-system/leases",
        lease("n"),
        403,
        "can only access leases in the \"kube-node-lease\" system namespace",
    );
}

fn pods(table: &mut Table) {
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
        "labels of its own pod, to be found by a Service",
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
        "the deletion of a pod that is on no node yet",
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
        "the deletion of its own, all at once",
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
        "a new pod on itself with a strong ServiceAccount",
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

fn tokens(table: &mut Table, world: &World) {
    table.part = "Tokens of service accounts";
    let path = |account: &str| format!("{TEAM}/serviceaccounts/{account}/token");
    let (mine, theirs) = (world.mine.as_str(), world.theirs.as_str());
    table.row(
        "one of its pod, bound to the pod",
        "POST",
        path("daemon"),
        token_request("mine", mine, ""),
        201,
        "",
    );
    table.row(
        "one bound to nothing",
        "POST",
        path("daemon"),
        token_request("", "", ""),
        403,
        "node requested token not bound to a pod",
    );
    table.row(
        "one bound to a pod of any uid",
        "POST",
        path("daemon"),
        token_request("mine", "", ""),
        403,
        "node requested token with a pod binding without a uid",
    );
    table.row(
        "one bound to another node's pod",
        "POST",
        path("daemon"),
        token_request("theirs", theirs, ""),
        403,
        "node requested token bound to a pod scheduled on a different node",
    );
    table.row(
        "one for others than the pod names",
        "POST",
        path("daemon"),
        token_request("mine", mine, "vault"),
        403,
        "audience \"vault\" not found in pod spec volume",
    );
    table.row(
        "one of an administrator's account, bound to its own pod",
        "POST",
        path("powerful"),
        token_request("mine", mine, ""),
        403,
        STRANGER,
    );
    table.row(
        "one of an account in kube-system",
        "POST",
        "/api/v1/namespaces/kube-system/serviceaccounts/default/token",
        token_request("", "", ""),
        403,
        STRANGER,
    );
    table.row(
        "a new ServiceAccount",
        "POST",
        format!("{TEAM}/serviceaccounts"),
        named("ServiceAccount", "new"),
        403,
        CANNOT,
    );
}

fn administration(table: &mut Table) {
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
        "itself as a subject of a binding that is there",
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
        "acting as the administrator",
        &[
            ("impersonate-user", "kubernetes-admin"),
            ("impersonate-group", "system:masters"),
        ],
        "cannot impersonate resource \"users\"",
    );
    table.acting(
        "acting as another node",
        &[
            ("impersonate-user", "system:node:other"),
            ("impersonate-group", "system:nodes"),
        ],
        "cannot impersonate resource \"users\"",
    );
    table.acting(
        "acting as a ServiceAccount",
        &[("impersonate-user", "system:serviceaccount:team:powerful")],
        "can only create tokens for individual service accounts",
    );
    table.acting(
        "a group without a user",
        &[("impersonate-group", "system:masters")],
        "impersonated without a user",
    );
    table.rows.last_mut().unwrap().code = 400;
    const KUBELET: &str = "kubernetes.io/kube-apiserver-client-kubelet";
    table.row(
        "a certificate of its own, anew",
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
        "its own request, approved",
        "PATCH",
        format!("{CSRS}/own/approval"),
        approval,
        403,
        CANNOT,
    );
    table.row(
        "its own request, signed",
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
        "a ConfigMap of its pod, changed",
        "PATCH",
        format!("{TEAM}/configmaps/mine"),
        json!({"data": {"a": "c"}}),
        403,
        "can only read resources of this type",
    );
    table.row(
        "a Service, led elsewhere",
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
        "the end of a namespace",
        "DELETE",
        "/api/v1/namespaces/team",
        Value::Null,
        403,
        CANNOT,
    );
    let review = json!({"kind": "SubjectAccessReview", "apiVersion": "authorization.k8s.io/v1", "spec": {"user": "a", "nonResourceAttributes": {"verb": "get", "path": "/"}}});
    table.row(
        "what others may do",
        "POST",
        format!("{AUTHORIZATION}/subjectaccessreviews"),
        review,
        403,
        CANNOT,
    );
}

fn table(world: &World) -> Vec<Row> {
    let mut table = Table::default();
    reads(&mut table);
    streams(&mut table);
    nodes(&mut table);
    pods(&mut table);
    tokens(&mut table, world);
    administration(&mut table);
    table.rows
}

/// Sends an attempt over a connection of its own, with the certificate of the node.
async fn attempt(cluster: &Cluster, row: &Row) -> (u16, String) {
    let stream = TokioIo::new(dial(cluster, "n").await);
    let (mut sender, connection) = hyper::client::conn::http1::handshake(stream).await.unwrap();
    let connection = tokio::spawn(connection);
    let content_type = if row.method == Method::PATCH { MERGE } else { JSON };
    let mut request = Request::builder()
        .method(row.method.clone())
        .uri(&row.path)
        .header("host", "localhost")
        .header("content-type", content_type);
    for (name, value) in &row.headers {
        request = request.header(*name, *value);
    }
    let body = if row.body.is_null() {
        String::new()
    } else {
        row.body.to_string()
    };
    let request = request.body(Full::new(Bytes::from(body))).unwrap();
    let response = sender.send_request(request).await.unwrap();
    let code = response.status().as_u16();
    let body = response.into_body().collect().await.unwrap().to_bytes();
    connection.abort();
    let text = String::from_utf8_lossy(&body).into_owned();
    let message = serde_json::from_str::<Value>(&text).ok();
    let message = message.and_then(|status| Some(status["message"].as_str()?.to_owned()));
    (code, message.unwrap_or(text))
}

#[tokio::test]
async fn a_nodes_credential_is_good_for_its_own_node_and_pods_alone() {
    let world = world().await;
    let mut wrong = Vec::new();
    for row in table(&world) {
        let (code, message) = attempt(&world.cluster, &row).await;
        if code != row.code || (code >= 400 && !message.contains(row.says)) {
            wrong.push(format!(
                "{} {} ({}): {code} {message}, not {} {}",
                row.method, row.path, row.attempt, row.code, row.says
            ));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    // Nothing of what was refused has happened.
    let cluster = &world.cluster;
    for path in [
        "/api/v1/nodes/other".to_owned(),
        format!("{TEAM}/pods/theirs"),
        format!("{TEAM}/pods/unbound"),
        format!("{TEAM}/pods/mine"),
    ] {
        assert_eq!(cluster.get(&path).await.code, 200, "{path}");
    }
    for path in [
        "/api/v1/nodes/third".to_owned(),
        format!("{TEAM}/pods/strong"),
        format!("{RBAC}/clusterrolebindings/mine"),
    ] {
        assert_eq!(cluster.get(&path).await.code, 404, "{path}");
    }
    let binding = cluster
        .get(&format!("{RBAC}/clusterrolebindings/cluster-admin"))
        .await
        .expect(200);
    assert_eq!(binding["subjects"][0]["name"], "system:masters");
}

#[tokio::test]
async fn the_credential_of_a_deleted_node_is_good_for_nothing() {
    let world = world().await;
    let own = |path: &str| Row {
        part: "",
        attempt: "",
        method: Method::GET,
        path: path.to_owned(),
        headers: Vec::new(),
        body: Value::Null,
        code: 200,
        says: "",
    };
    let stream = dial(&world.cluster, "n").await;
    assert_eq!(attempt(&world.cluster, &own("/api/v1/nodes/n")).await.0, 200);
    world
        .cluster
        .delete("/api/v1/nodes/n", &Value::Null)
        .await
        .expect(200);
    // The connection that it has had since before is no way in either.
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
        .await
        .unwrap();
    tokio::spawn(connection);
    let request = Request::get("/api/v1/nodes/n").header("host", "localhost");
    let request = request.body(Full::new(Bytes::new())).unwrap();
    assert_eq!(sender.send_request(request).await.unwrap().status(), 401);
}

#[tokio::test]
async fn the_page_shows_what_is_tried() {
    let world = world().await;
    let mut expected = String::new();
    let mut part = "";
    for row in table(&world) {
        if row.part != part {
            part = row.part;
            expected.push_str(&format!(
                "\n### {part}\n\n| tried | request | answer |\n|---|---|---|\n"
            ));
        }
        let acting: String = row
            .headers
            .iter()
            .map(|(name, value)| format!(" `{name}: {value}`"))
            .collect();
        let says = match row.says {
            "" | CANNOT => String::new(),
            says => format!(" {}", says.replace('|', "\\|")),
        };
        expected.push_str(&format!(
            "| {} | `{} {}`{acting} | {}{says} |\n",
            row.attempt, row.method, row.path, row.code
        ));
    }
    let (_, rest) = DOC.split_once("<!-- table -->\n").expect("the page has a table");
    let (found, _) = rest
        .split_once("\n<!-- end of the table -->")
        .expect("the table ends");
    assert!(
        found.trim() == expected.trim(),
        "docs/node-credentials.md must show, between its two marks:\n{expected}"
    );
}

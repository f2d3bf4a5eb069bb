//! Tries the credential of a node against everything, in the order of the table in
//! docs/node-credentials.md.

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use bytes::Bytes;
use http::{Method, Request};
use http_body_util::{BodyExt, Full};
use hyper_util::rt::TokioIo;
use rcgen::{CertificateParams, DistinguishedName, DnType, KeyPair};
use serde_json::{Value, json};

use crate::common::*;

mod administration;
mod ended;
mod events;
mod nodes;
mod pods;
mod reads;
mod streams;
mod tokens;

const DOC: &str = include_str!("../../../../docs/node-credentials.md");
const TEAM: &str = "/api/v1/namespaces/team";
const LEASES: &str = "/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases";
const CSRS: &str = "/apis/certificates.k8s.io/v1/certificatesigningrequests";
const AUTHORIZATION: &str = "/apis/authorization.k8s.io/v1";

/// One attempt.
struct Row {
    /// Part of the table.
    part: &'static str,
    /// Description of the attempt.
    attempt: &'static str,
    method: Method,
    path: String,
    headers: Vec<(&'static str, &'static str)>,
    body: Value,
    /// Code of the response.
    code: u16,
    /// Text of a refusal, after Kubernetes' `User … cannot …`. Empty if there is no more text.
    says: &'static str,
}

/// State of the cluster that the attempts use.
struct World {
    cluster: Cluster,
    mine: String,
    theirs: String,
}

fn named(kind: &str, name: &str) -> Value {
    json!({"kind": kind, "apiVersion": "v1", "metadata": {"name": name}})
}

/// Returns a pod that refers to the Secret and the ConfigMap of its name.
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

/// Starts a cluster with two nodes, each with a pod and the objects that it refers to. The other
/// node's pod has the rights of an administrator.
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
        // Creates the record that makes the node's certificate valid.
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

/// The attempts that are collected.
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
fn table(world: &World) -> Vec<Row> {
    let mut table = Table::default();
    reads::reads(&mut table);
    streams::streams(&mut table);
    nodes::nodes(&mut table);
    pods::pods(&mut table);
    tokens::tokens(&mut table, world);
    administration::administration(&mut table);
    events::events(&mut table);
    table.rows
}

/// Sends an attempt on a separate connection, with the certificate of the node.
async fn attempt(cluster: &Cluster, row: &Row) -> (u16, String) {
    let stream = TokioIo::new(dial(cluster, "n").await);
    let (mut sender, connection) = hyper::client::conn::http1::handshake(stream).await.unwrap();
    let connection = tokio::spawn(connection);
    let mut request = Request::builder()
        .method(row.method.clone())
        .uri(&row.path)
        .header("host", "localhost");
    if !row.headers.iter().any(|(name, _)| *name == "content-type") {
        let content_type = if row.method == Method::PATCH { MERGE } else { JSON };
        request = request.header("content-type", content_type);
    }
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
    // The refused requests had no effect.
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

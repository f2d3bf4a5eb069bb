//! Attempts with objects of other kinds that a node may create: Events and certificate signing
//! requests. None may have finalizers, which would keep it forever.

use apiserver::User;
use serde_json::{Value, json};

use super::*;

const EVENTS: &str = "/api/v1/namespaces/team/events";
const FINALIZERS: &str = "node \"n\" is not allowed to modify finalizers";
const OWNERS: &str = "node \"n\" is not allowed to modify ownerReferences";

fn event(name: &str, metadata: Value) -> Value {
    let mut event = json!({
        "kind": "Event", "apiVersion": "v1", "metadata": metadata, "reason": "Tried", "type": "Normal",
        "involvedObject": {"kind": "Pod", "namespace": "team", "name": "mine"},
    });
    event["metadata"]["name"] = name.into();
    event
}

fn held() -> Value {
    json!({"finalizers": ["example.com/stay"]})
}

fn owned() -> Value {
    json!({"ownerReferences": [{"apiVersion": "v1", "kind": "Node", "name": "n", "uid": "x"}]})
}

fn held_request() -> Value {
    let signer = "kubernetes.io/kube-apiserver-client-kubelet";
    let mut request = signing_request(signer, "system:node:n", "system:nodes");
    request["metadata"] = held();
    request["metadata"]["name"] = "held".into();
    request
}

pub(super) fn events(table: &mut Table) {
    table.part = "Objects that stay forever";
    table.row("an Event", "POST", EVENTS, event("a", json!({})), 201, "");
    table.row(
        "an Event with a finalizer",
        "POST",
        EVENTS,
        event("b", held()),
        403,
        FINALIZERS,
    );
    table.row(
        "an Event with an owner",
        "POST",
        EVENTS,
        event("b", owned()),
        403,
        OWNERS,
    );
    let newer = json!({
        "kind": "Event", "apiVersion": "events.k8s.io/v1",
        "metadata": {"name": "b", "finalizers": ["example.com/stay"]},
        "eventTime": "2024-01-01T00:00:00.000000Z", "action": "Try", "reason": "Tried", "type": "Normal",
        "reportingController": "example.com/agent", "reportingInstance": "n",
        "regarding": {"kind": "Pod", "namespace": "team", "name": "mine"},
    });
    table.row(
        "an Event of events.k8s.io with a finalizer",
        "POST",
        "/apis/events.k8s.io/v1/namespaces/team/events",
        newer,
        403,
        FINALIZERS,
    );
    for (attempt, metadata, says) in [
        ("a finalizer of an existing Event", held(), FINALIZERS),
        ("an owner of an existing Event", owned(), OWNERS),
    ] {
        let path = format!("{EVENTS}/a");
        table.row(attempt, "PATCH", path, json!({"metadata": metadata}), 403, says);
    }
    table.row(
        "a certificate request with a finalizer",
        "POST",
        CSRS,
        held_request(),
        403,
        FINALIZERS,
    );
}

#[tokio::test]
async fn a_machine_that_joins_leaves_no_request_that_stays() {
    let cluster = Cluster::start().await;
    let joining = User::new("system:bootstrap:abcdef", &["system:bootstrappers"]);
    let request = Request::post(CSRS)
        .header("content-type", JSON)
        .body(kube::client::Body::from(held_request().to_string().into_bytes()))
        .unwrap();
    let answer = cluster.server.client(joining).send(request).await.unwrap();
    assert_eq!(answer.status(), 403);
    let body = answer.into_body().collect().await.unwrap().to_bytes();
    let status: Value = serde_json::from_slice(&body).unwrap();
    let message = text(&status["message"]);
    let says = "user \"system:bootstrap:abcdef\" is not allowed to modify finalizers";
    assert!(message.contains(says), "{message}");
}

//! binding, tokens, reviews.

use apiserver::User;
use serde_json::json;

use crate::common::*;

fn binding(node: &str) -> serde_json::Value {
    json!({"kind": "Binding", "apiVersion": "v1", "target": {"kind": "Node", "name": node}})
}

#[tokio::test]
async fn pod_is_bound_once() {
    let cluster = Cluster::start().await;
    cluster.create(PODS, &pod("a")).await.expect(201);
    let path = format!("{PODS}/a/binding");
    assert_eq!(
        cluster.create(&path, &binding("n")).await.expect(201)["status"],
        "Success"
    );
    let bound = cluster.get(&format!("{PODS}/a")).await.expect(200);
    assert_eq!(bound["spec"]["nodeName"], "n");
    let conditions = bound["status"]["conditions"].as_array().unwrap();
    assert!(
        conditions
            .iter()
            .any(|c| c["type"] == "PodScheduled" && c["status"] == "True")
    );
    let status = cluster.create(&path, &binding("m")).await.expect(409);
    assert_eq!(
        status["message"],
        "Operation cannot be fulfilled on pods/binding \"a\": pod a is already assigned to node \"n\""
    );
    assert_eq!(cluster.create(&path, &binding("")).await.code, 422);
    assert_eq!(
        cluster
            .create(&format!("{PODS}/none/binding"), &binding("n"))
            .await
            .code,
        404
    );
}

#[tokio::test]
async fn token_is_issued_for_an_account() {
    let cluster = Cluster::start().await;
    let path = "/api/v1/namespaces/default/serviceaccounts/default/token";
    let request = json!({"kind": "TokenRequest", "apiVersion": "authentication.k8s.io/v1", "spec": {"audiences": ["vault"], "expirationSeconds": 1200}});
    let answer = cluster.create(path, &request).await.expect(201);
    assert_eq!(text(&answer["status"]["token"]).split('.').count(), 3);
    assert_eq!(answer["spec"]["audiences"], json!(["vault"]));
    assert!(answer["status"]["expirationTimestamp"].is_string());
    let short = json!({"kind": "TokenRequest", "apiVersion": "authentication.k8s.io/v1", "spec": {"expirationSeconds": 1}});
    assert_eq!(cluster.create(path, &short).await.code, 422);
    assert_eq!(
        cluster
            .create(&path.replace("/default/token", "/nobody/token"), &request)
            .await
            .code,
        404
    );
}

#[tokio::test]
async fn reviews_say_who_and_may() {
    let cluster = Cluster::start().await;
    let who = json!({"kind": "SelfSubjectReview", "apiVersion": "authentication.k8s.io/v1"});
    let answer = cluster
        .create("/apis/authentication.k8s.io/v1/selfsubjectreviews", &who)
        .await
        .expect(201);
    assert_eq!(answer["status"]["userInfo"]["username"], User::admin().name);
    assert_eq!(
        answer["status"]["userInfo"]["groups"],
        json!(["system:masters", "system:authenticated"])
    );
    let may = json!({
        "kind": "SelfSubjectAccessReview", "apiVersion": "authorization.k8s.io/v1",
        "spec": {"resourceAttributes": {"verb": "get", "resource": "pods"}},
    });
    let answer = cluster
        .create("/apis/authorization.k8s.io/v1/selfsubjectaccessreviews", &may)
        .await
        .expect(201);
    assert_eq!(answer["status"]["allowed"], true);
}

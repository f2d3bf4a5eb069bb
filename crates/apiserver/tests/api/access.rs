//! Authentication over TLS: certificates, tokens, and clients without either.

use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt;

use k8s_openapi::api::core::v1::ConfigMap;
use kube::api::{DeleteParams, ListParams, Patch, PatchParams, PostParams};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Api, Client, Config};
use serde_json::{Value, json};

use crate::common::*;

async fn config(cluster: &Cluster) -> Config {
    let kubeconfig = Kubeconfig::read_from(cluster.server.kubeconfig()).unwrap();
    Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default())
        .await
        .unwrap()
}

async fn remote(cluster: &Cluster) -> Client {
    Client::try_from(config(cluster).await).unwrap()
}

/// Returns a client with the token instead of the certificate.
async fn bearer(cluster: &Cluster, token: Option<String>) -> Client {
    let mut config = config(cluster).await;
    config.auth_info = kube::config::AuthInfo {
        token: token.map(Into::into),
        ..Default::default()
    };
    Client::try_from(config).unwrap()
}

async fn code(client: Client, path: &str) -> u16 {
    let request = http::Request::get(path)
        .body(kube::client::Body::empty())
        .unwrap();
    client.send(request).await.unwrap().status().as_u16()
}

#[tokio::test]
async fn admin_kubeconfig_opens_the_door_and_is_private() {
    let cluster = Cluster::start().await;
    let mode = std::fs::metadata(cluster.server.kubeconfig())
        .unwrap()
        .permissions()
        .mode();
    assert_eq!(mode & 0o777, 0o600);
    let api: Api<ConfigMap> = Api::namespaced(remote(&cluster).await, "default");
    let object = ConfigMap {
        data: Some(BTreeMap::from([("a".into(), "b".into())])),
        ..ConfigMap::default()
    };
    let named = ConfigMap {
        metadata: kube::api::ObjectMeta {
            name: Some("a".into()),
            ..Default::default()
        },
        ..object
    };
    api.create(&PostParams::default(), &named).await.unwrap();
    let patch = Patch::Merge(json!({"data": {"a": "c"}}));
    let patched = api.patch("a", &PatchParams::default(), &patch).await.unwrap();
    assert_eq!(patched.data.unwrap()["a"], "c");
    assert_eq!(api.list(&ListParams::default()).await.unwrap().items.len(), 2);
    api.delete("a", &DeleteParams::default()).await.unwrap();
    assert!(api.get_opt("a").await.unwrap().is_none());
}

#[tokio::test]
async fn nobody_sees_health_and_version_alone() {
    let cluster = Cluster::start().await;
    let nobody = bearer(&cluster, None).await;
    for path in ["/healthz", "/livez", "/readyz", "/version"] {
        assert_eq!(code(nobody.clone(), path).await, 200, "{path}");
    }
    for path in [
        "/",
        "/api",
        "/apis",
        "/openapi/v2",
        "/metrics",
        "/none",
        CONFIG_MAPS,
    ] {
        assert_eq!(code(nobody.clone(), path).await, 403, "{path}");
    }
    let stranger = bearer(&cluster, Some("a.b.c".to_owned())).await;
    assert_eq!(code(stranger, CONFIG_MAPS).await, 401);
}

async fn issue(cluster: &Cluster, account: &str, spec: Value) -> String {
    let request = json!({"kind": "TokenRequest", "apiVersion": "authentication.k8s.io/v1", "spec": spec});
    let path = format!("/api/v1/namespaces/default/serviceaccounts/{account}/token");
    text(&cluster.create(&path, &request).await.expect(201)["status"]["token"])
}

#[tokio::test]
async fn token_lives_as_long_as_its_account_and_its_pod() {
    let cluster = Cluster::start().await;
    let accounts = "/api/v1/namespaces/default/serviceaccounts";
    let account = json!({"kind": "ServiceAccount", "apiVersion": "v1", "metadata": {"name": "bob"}});
    cluster.create(accounts, &account).await.expect(201);
    let mut object = pod("p");
    object["spec"]["serviceAccountName"] = "bob".into();
    cluster.create(PODS, &object).await.expect(201);
    let everybody = json!([{"kind": "Group", "name": "system:serviceaccounts:default"}]);
    cluster.bind("default", "view", everybody).await;

    let plain = bearer(&cluster, Some(issue(&cluster, "bob", json!({})).await)).await;
    let reference = json!({"boundObjectRef": {"kind": "Pod", "apiVersion": "v1", "name": "p"}});
    let bound = bearer(&cluster, Some(issue(&cluster, "bob", reference).await)).await;
    let other = bearer(
        &cluster,
        Some(issue(&cluster, "bob", json!({"audiences": ["vault"]})).await),
    )
    .await;
    assert_eq!(code(plain.clone(), CONFIG_MAPS).await, 200);
    assert_eq!(code(bound.clone(), CONFIG_MAPS).await, 200);
    assert_eq!(code(other, CONFIG_MAPS).await, 401);

    cluster
        .delete(&format!("{PODS}/p"), &Value::Null)
        .await
        .expect(200);
    assert_eq!(code(bound, CONFIG_MAPS).await, 401);
    assert_eq!(code(plain.clone(), CONFIG_MAPS).await, 200);
    cluster
        .delete(&format!("{accounts}/bob"), &Value::Null)
        .await
        .expect(200);
    assert_eq!(code(plain.clone(), CONFIG_MAPS).await, 401);
    // A new account with the same name is another account.
    cluster.create(accounts, &account).await.expect(201);
    assert_eq!(code(plain, CONFIG_MAPS).await, 401);
}

#[tokio::test]
async fn wrong_credential_is_not_nobody() {
    let cluster = Cluster::start().await;
    let liar = bearer(&cluster, Some("bad".to_owned())).await;
    for path in ["/healthz", "/version"] {
        assert_eq!(code(liar.clone(), path).await, 401, "{path}");
    }
}

#[tokio::test]
async fn administrators_act_as_others_and_others_do_not() {
    let cluster = Cluster::start().await;
    let review = json!({"kind": "SelfSubjectReview", "apiVersion": "authentication.k8s.io/v1"});
    let path = "/apis/authentication.k8s.io/v1/selfsubjectreviews";
    let headers = [
        ("content-type", JSON),
        ("impersonate-user", "jane"),
        ("impersonate-group", "devs"),
    ];
    let answer = cluster
        .send(http::Method::POST, path, &headers, review.to_string())
        .await
        .expect(201);
    assert_eq!(answer["status"]["userInfo"]["username"], "jane");
    assert_eq!(
        answer["status"]["userInfo"]["groups"],
        json!(["devs", "system:authenticated"])
    );
    let client = cluster.server.client(apiserver::User::node("n"));
    let request = http::Request::get(CONFIG_MAPS)
        .header("impersonate-user", "jane")
        .body(kube::client::Body::empty())
        .unwrap();
    assert_eq!(client.send(request).await.unwrap().status(), 403);
}

#[tokio::test]
async fn service_account_knows_itself() {
    let cluster = Cluster::start().await;
    let client = bearer(&cluster, Some(issue(&cluster, "default", json!({})).await)).await;
    let review: k8s_openapi::api::authentication::v1::SelfSubjectReview = Default::default();
    let answer = Api::all(client)
        .create(&PostParams::default(), &review)
        .await
        .unwrap();
    let info = answer.status.unwrap().user_info.unwrap();
    assert_eq!(
        info.username.as_deref(),
        Some("system:serviceaccount:default:default")
    );
    assert!(
        info.groups
            .unwrap()
            .contains(&"system:serviceaccounts:default".to_owned())
    );
}

//! Watches and commands end when the credential that they began with becomes invalid.

use bytes::Bytes;
use http::Request;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::common::*;
use crate::tunnel::{CHANNELS, connect_agent, exec_request, log_when_connected, running_pod, upgrade};

const ACCOUNTS: &str = "/api/v1/namespaces/default/serviceaccounts";
const CSRS: &str = "/apis/certificates.k8s.io/v1/certificatesigningrequests";

async fn account(cluster: &Cluster, name: &str) {
    let account = json!({"kind": "ServiceAccount", "apiVersion": "v1", "metadata": {"name": name}});
    cluster.create(ACCOUNTS, &account).await.expect(201);
}

/// Returns a token of an account, bound to an object unless `bound_to` is null.
async fn token(cluster: &Cluster, account: &str, bound_to: Value) -> String {
    let mut asked = json!({"kind": "TokenRequest", "apiVersion": "authentication.k8s.io/v1", "spec": {}});
    if !bound_to.is_null() {
        asked["spec"]["boundObjectRef"] = bound_to;
    }
    let answer = cluster
        .create(&format!("{ACCOUNTS}/{account}/token"), &asked)
        .await;
    text(&answer.expect(201)["status"]["token"])
}

/// Starts a watch on a separate connection.
async fn watch(cluster: &Cluster, path: &str, token: &str) -> Incoming {
    let stream = TokioIo::new(dial_as_stranger(cluster).await);
    let (mut sender, connection) = hyper::client::conn::http1::handshake(stream).await.unwrap();
    tokio::spawn(connection);
    let request = Request::get(format!("{path}?watch=1"))
        .header("host", "localhost")
        .header("authorization", format!("Bearer {token}"))
        .body(Full::<Bytes>::default())
        .unwrap();
    let response = sender.send_request(request).await.unwrap();
    assert_eq!(response.status(), 200, "{path}");
    response.into_body()
}

/// Reads the events of a watch until it ends.
async fn ended(mut events: Incoming) {
    while let Some(frame) = events.frame().await {
        frame.unwrap();
    }
}

#[tokio::test]
async fn watches_and_commands_end_with_the_credential_that_began_them() {
    let cluster = Cluster::start().await;
    let everybody = json!([{"kind": "Group", "name": "system:serviceaccounts:default"}]);
    cluster.bind("", "cluster-admin", everybody).await;
    for name in ["deleted", "of-secret", "of-pod", "stays"] {
        account(&cluster, name).await;
    }
    running_pod(&cluster, "a", "n").await;
    connect_agent(&cluster, "n").await;
    log_when_connected(&cluster, &format!("{PODS}/a/log")).await;
    let mut owner = pod("owner");
    owner["spec"]["serviceAccountName"] = "of-pod".into();
    let owner = cluster.create(PODS, &owner).await.expect(201);
    let secret = json!({"kind": "Secret", "apiVersion": "v1", "metadata": {"name": "owner"}});
    let secret = cluster
        .create("/api/v1/namespaces/default/secrets", &secret)
        .await
        .expect(201);
    let bound = |object: &Value| json!({"apiVersion": "v1", "kind": object["kind"], "name": "owner", "uid": object["metadata"]["uid"]});
    let (of_pod, of_secret) = (
        token(&cluster, "of-pod", bound(&owner)).await,
        token(&cluster, "of-secret", bound(&secret)).await,
    );
    let of_account = token(&cluster, "deleted", Value::Null).await;
    let stays = token(&cluster, "stays", Value::Null).await;
    let joining = api::bootstrap_token::BootstrapToken::parse("abcdef.0123456789abcdef").unwrap();
    let secrets = "/api/v1/namespaces/kube-system/secrets";
    cluster
        .create(secrets, &joining.to_secret(None, ""))
        .await
        .expect(201);

    let ending = vec![
        watch(&cluster, CONFIG_MAPS, &of_account).await,
        watch(&cluster, CONFIG_MAPS, &of_pod).await,
        watch(&cluster, CONFIG_MAPS, &of_secret).await,
        watch(&cluster, CSRS, "abcdef.0123456789abcdef").await,
    ];
    let mut exec = exec_request("cat", CHANNELS);
    let bearer = format!("Bearer {of_account}").parse().unwrap();
    exec.headers_mut().insert("authorization", bearer);
    let (code, said, upgraded) = upgrade(dial_as_stranger(&cluster).await, exec).await;
    assert_eq!(code, 101, "{said}");
    let mut command = TokioIo::new(upgraded.unwrap());
    command.write_all(b"hello").await.unwrap();
    let mut echoed = [0; 5];
    command.read_exact(&mut echoed).await.unwrap();
    // A command counts as a stream of its user while it runs.
    let streams = "apiserver_flowcontrol_current_streams{priority_level=\"workload-low\"} 4\n";
    while !cluster.get("/metrics").await.text.contains(streams) {
        tokio::task::yield_now().await;
    }
    let mut goes_on = watch(&cluster, CONFIG_MAPS, &stays).await;
    goes_on.frame().await.unwrap().unwrap();

    for path in [
        format!("{ACCOUNTS}/deleted"),
        format!("{PODS}/owner"),
        "/api/v1/namespaces/default/secrets/owner".to_owned(),
        format!("{secrets}/bootstrap-token-abcdef"),
    ] {
        let now = json!({"gracePeriodSeconds": 0});
        cluster.delete(&path, &now).await.expect(200);
    }
    for events in ending {
        ended(events).await;
    }
    let mut rest = Vec::new();
    // The server drops the connection without a WebSocket close.
    command.read_to_end(&mut rest).await.ok();
    assert!(rest.is_empty(), "{rest:?}");
    cluster.create(CONFIG_MAPS, &config_map("new")).await.expect(201);
    let event = goes_on.frame().await.unwrap().unwrap().into_data().unwrap();
    assert!(event.starts_with(b"{\"type\":\"ADDED\""), "{event:?}");
}

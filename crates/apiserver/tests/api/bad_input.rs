//! Invalid requests: each gets the error of Kubernetes, and none harms the server.

use bytes::Bytes;
use http::{Method, Request};
use http_body_util::{BodyExt, Full};
use hyper_util::rt::{TokioExecutor, TokioIo};
use serde_json::json;

use crate::common::*;

async fn post(cluster: &Cluster, path: &str, content_type: &str, body: impl Into<Vec<u8>>) -> Answer {
    cluster
        .send(Method::POST, path, &[("content-type", content_type)], body)
        .await
}

#[tokio::test]
async fn broken_bodies_are_bad_requests() {
    let cluster = Cluster::start().await;
    let deep = format!(
        "{{\"kind\":\"ConfigMap\",\"apiVersion\":\"v1\",\"data\":{}",
        "{\"a\":".repeat(100_000)
    );
    let bodies: [(&str, Vec<u8>); 9] = [
        (JSON, b"".to_vec()),
        (JSON, b"{".to_vec()),
        (JSON, b"[]".to_vec()),
        (JSON, b"\xff\xfe{}".to_vec()),
        (JSON, deep.into_bytes()),
        (
            JSON,
            br#"{"kind":"ConfigMap","apiVersion":"v1","metadata":{"name":3}}"#.to_vec(),
        ),
        (
            JSON,
            br#"{"kind":"Pod","apiVersion":"v1","metadata":{"name":"a"}}"#.to_vec(),
        ),
        (
            "application/yaml",
            b"apiVersion: v1\nkind: ConfigMap\nmetadata:\nname: [".to_vec(),
        ),
        (
            "application/vnd.kubernetes.protobuf",
            b"k8s\x00\x0a\xff\xff\xff\xff\xff".to_vec(),
        ),
    ];
    for (content_type, body) in bodies {
        let shown = String::from_utf8_lossy(&body[..body.len().min(60)]).into_owned();
        let answer = post(&cluster, CONFIG_MAPS, content_type, body).await;
        assert_eq!(answer.code, 400, "{content_type} {shown}: {}", answer.text);
        assert_eq!(answer.json["reason"], "BadRequest");
    }
}

#[tokio::test]
async fn large_bodies_are_refused() {
    let cluster = Cluster::start().await;
    let status = post(&cluster, CONFIG_MAPS, JSON, vec![b' '; 4 * 1024 * 1024])
        .await
        .expect(413);
    assert_eq!(status["reason"], "RequestEntityTooLarge");
}

#[tokio::test]
async fn media_types_must_be_known() {
    let cluster = Cluster::start().await;
    let status = post(&cluster, CONFIG_MAPS, "text/html", "<p>").await.expect(415);
    assert_eq!(status["reason"], "UnsupportedMediaType");
    assert_eq!(
        post(&cluster, CONFIG_MAPS, "application/cbor", "x").await.code,
        415
    );
    assert_eq!(
        cluster.get_as(CONFIG_MAPS, "image/png").await.expect(406)["reason"],
        "NotAcceptable"
    );
}

#[tokio::test]
async fn unserved_paths_and_methods_are_refused() {
    let cluster = Cluster::start().await;
    for path in [
        "/",
        "/apis/apps/v1/gizmos",
        "/api/v1/namespaces/default/pods/a/b/c",
        "/api/v1/nodes/n/log",
    ] {
        let status = cluster.get(path).await.expect(404);
        assert_eq!(status["kind"], "Status", "{path}");
    }
    assert_eq!(cluster.send(Method::TRACE, CONFIG_MAPS, &[], "").await.code, 405);
    assert_eq!(cluster.send(Method::PUT, CONFIG_MAPS, &[], "").await.code, 405);
}

#[tokio::test]
async fn daemon_sets_that_cannot_be_are_invalid() {
    let cluster = Cluster::start().await;
    let with = |pointer: &str, value: serde_json::Value| {
        let mut object = daemon_set("a");
        let (parent, field) = pointer.rsplit_once('/').unwrap();
        object.pointer_mut(parent).unwrap()[field] = value;
        object
    };
    let cases = [
        (with("/metadata/name", json!("Not_A_Name")), "metadata.name"),
        (with("/spec/minReadySeconds", json!(-1)), "spec.minReadySeconds"),
        (
            with("/spec/template/spec/restartPolicy", json!("Never")),
            "spec.template.spec.restartPolicy",
        ),
        (
            with("/spec/template/metadata/labels", json!({"other": "x"})),
            "spec.template.metadata.labels",
        ),
        (
            with("/spec/template/metadata/labels", json!({"app": "a b"})),
            "spec.template.labels",
        ),
        (
            with(
                "/spec/updateStrategy",
                json!({"rollingUpdate": {"maxUnavailable": 0}}),
            ),
            "spec.updateStrategy.rollingUpdate.maxUnavailable",
        ),
    ];
    for (object, field) in cases {
        let status = cluster.create(DAEMON_SETS, &object).await.expect(422);
        assert_eq!(status["reason"], "Invalid");
        let causes = causes(&status);
        assert!(
            causes.iter().any(|(path, _)| path == field),
            "{field}: {causes:?}"
        );
        assert!(
            text(&status["message"]).starts_with("DaemonSet.apps \""),
            "{}",
            status["message"]
        );
    }
}

#[tokio::test]
async fn numbers_that_are_none_are_bad_requests() {
    let cluster = Cluster::start().await;
    for query in ["limit=x", "watch=1&timeoutSeconds=soon", "resourceVersion=-1"] {
        assert_eq!(
            cluster.get(&format!("{CONFIG_MAPS}?{query}")).await.code,
            400,
            "{query}"
        );
    }
    cluster.create(CONFIG_MAPS, &config_map("a")).await.expect(201);
    let mut stale = config_map("a");
    stale["metadata"]["resourceVersion"] = "xyz".into();
    assert_eq!(cluster.put(&format!("{CONFIG_MAPS}/a"), &stale).await.code, 400);
}

#[tokio::test]
async fn connection_outlives_a_body_that_nobody_wanted() {
    let cluster = Cluster::start().await;
    let stream = TokioIo::new(dial_as_admin(&cluster).await);
    let (mut sender, connection) = hyper::client::conn::http1::handshake(stream).await.unwrap();
    tokio::spawn(connection);
    // Refused before the body is read: unknown path, unknown method, and an oversized body.
    let cases = [
        ("POST", "/apis/none/v1/things", 100_000, 404),
        ("PUT", CONFIG_MAPS, 100_000, 405),
        ("POST", CONFIG_MAPS, 4 * 1024 * 1024, 413),
        ("GET", CONFIG_MAPS, 0, 200),
    ];
    for (method, path, length, code) in cases {
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header("host", "localhost")
            .body(Full::new(Bytes::from(vec![b' '; length])))
            .unwrap();
        sender.ready().await.unwrap();
        let response = sender.send_request(request).await.unwrap();
        assert_eq!(response.status(), code, "{method} {path}");
        response.into_body().collect().await.unwrap();
    }
}

#[tokio::test]
async fn answers_without_a_whole_exchange_arrive_over_http2() {
    let cluster = Cluster::start().await;
    let stream = TokioIo::new(dial_as_admin(&cluster).await);
    let (mut sender, connection) = hyper::client::conn::http2::handshake(TokioExecutor::new(), stream)
        .await
        .unwrap();
    tokio::spawn(connection);
    let cases = [
        ("HEAD", "/healthz", 0, 200, 2),
        ("HEAD", "/api/v1/namespaces/none", 0, 404, 0),
        ("POST", CONFIG_MAPS, 4 * 1024 * 1024, 413, 0),
    ];
    for (method, path, length, code, announced) in cases {
        let request = Request::builder()
            .method(method)
            .uri(format!("https://localhost{path}"))
            .body(Full::new(Bytes::from(vec![b' '; length])))
            .unwrap();
        sender.ready().await.unwrap();
        let response = sender.send_request(request).await.unwrap();
        assert_eq!(response.status(), code, "{method} {path}");
        let length: usize = response.headers()["content-length"]
            .to_str()
            .unwrap()
            .parse()
            .unwrap();
        assert!(
            length == announced || announced == 0 && length > 0,
            "{method} {path}: {length}"
        );
        let body = response.into_body().collect().await.unwrap().to_bytes();
        assert_eq!(body.is_empty(), method == "HEAD", "{method} {path}");
    }
}

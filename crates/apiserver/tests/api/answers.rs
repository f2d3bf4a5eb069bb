//! Form of responses: compressed, indented, or plain text for clients that use HTTP on the HTTPS
//! port.

use bytes::Bytes;
use http::{Method, Request};
use http_body_util::{BodyExt, Full};
use hyper_util::rt::{TokioExecutor, TokioIo};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::common::*;

const TABLE: &str = "application/json;as=Table;v=v1;g=meta.k8s.io,application/json";

#[tokio::test]
async fn large_answers_to_reads_are_compressed_for_who_takes_gzip() {
    let cluster = Cluster::start().await;
    let mut object = config_map("large");
    object["data"]["a"] = "x".repeat(200_000).into();
    let created = cluster
        .send(
            Method::POST,
            CONFIG_MAPS,
            &[("content-type", JSON), ("accept-encoding", "gzip")],
            object.to_string(),
        )
        .await;
    assert_eq!(created.header("content-encoding"), "", "an answer to a write");
    for (path, accept) in [
        (CONFIG_MAPS.to_owned(), JSON),
        (format!("{CONFIG_MAPS}/large"), JSON),
        (format!("{CONFIG_MAPS}?includeObject=Object"), TABLE),
    ] {
        let plain = cluster.get_as(&path, accept).await;
        assert_eq!(plain.header("content-encoding"), "", "{path}");
        let headers = [("accept", accept), ("accept-encoding", "gzip, deflate")];
        let compressed = cluster.send(Method::GET, &path, &headers, "").await;
        assert_eq!(compressed.header("content-encoding"), "gzip", "{path}");
        assert_eq!(compressed.header("vary"), "Accept-Encoding");
        assert_eq!(compressed.header("content-length"), "");
        assert_eq!(ageless(&compressed.text), ageless(&plain.text), "{path}");
    }
    let small = cluster
        .send(
            Method::GET,
            "/api/v1/namespaces/default",
            &[("accept-encoding", "gzip")],
            "",
        )
        .await;
    assert_eq!((small.code, small.header("content-encoding")), (200, ""));
}

/// Parses a Table and removes the ages, which differ between two responses.
fn ageless(text: &str) -> Value {
    let mut answer: Value = serde_json::from_str(text).unwrap();
    for row in answer["rows"].as_array_mut().into_iter().flatten() {
        row["cells"].as_array_mut().unwrap().pop();
    }
    answer
}

#[tokio::test]
async fn people_get_indented_answers() {
    let cluster = Cluster::start().await;
    cluster.create(CONFIG_MAPS, &config_map("a")).await.expect(201);
    let path = format!("{CONFIG_MAPS}/a");
    let plain = cluster.get(&path).await;
    let pretty = cluster.get(&format!("{path}?pretty=true")).await;
    assert!(
        pretty
            .text
            .starts_with("{\n  \"kind\": \"ConfigMap\",\n  \"apiVersion\": \"v1\",\n")
    );
    assert_eq!(pretty.json, plain.json);
    assert_eq!(pretty.header("content-type"), JSON);
    let list = cluster
        .send(Method::GET, CONFIG_MAPS, &[("user-agent", "curl/8.0")], "")
        .await;
    assert!(list.text.starts_with("{\n  \"kind\": \"ConfigMapList\",\n"));
    let failure = cluster.get("/api/v1/namespaces/none?pretty").await;
    assert_eq!(failure.code, 404);
    assert!(failure.text.starts_with("{\n  \"kind\": \"Status\",\n"));
    // The events of a watch stay on one line each.
    let mut watch = cluster.watch(&format!("{CONFIG_MAPS}?watch=1&pretty=true")).await;
    let (kind, _) = watch.next_seen().await;
    assert_eq!(kind, "ADDED");
}

#[tokio::test]
async fn plain_http_is_told_that_this_is_https() {
    let cluster = Cluster::start().await;
    let mut stream = TcpStream::connect(cluster.server.address()).await.unwrap();
    stream
        .write_all(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
        .await
        .unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    assert_eq!(
        answer,
        "HTTP/1.0 400 Bad Request\r\n\r\nClient sent an HTTP request to an HTTPS server.\n"
    );
}

#[tokio::test]
async fn long_selectors_are_taken_over_http2() {
    let cluster = Cluster::start().await;
    let stream = TokioIo::new(dial_as_admin(&cluster).await);
    let (mut sender, connection) = hyper::client::conn::http2::handshake(TokioExecutor::new(), stream)
        .await
        .unwrap();
    let connection = tokio::spawn(connection);
    let labels = vec!["example.com/some-label"; 3_000].join(",");
    // Hyper limits the length of a URI to less than that, but not the length of a header.
    let request = Request::get(format!("https://localhost{CONFIG_MAPS}"))
        .header("x-long", labels)
        .body(Full::new(Bytes::new()))
        .unwrap();
    let response = sender.send_request(request).await.unwrap();
    assert_eq!(response.status(), 200);
    let body = response.into_body().collect().await.unwrap().to_bytes();
    let list: serde_json::Value = serde_json::from_slice(&body).unwrap();
    assert_eq!(list["kind"], json!("ConfigMapList"));
    connection.abort();
}

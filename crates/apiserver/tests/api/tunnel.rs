//! The tunnel to a node with a simulated agent: logs and exec reach a node that connected to the
//! server.

use std::convert::Infallible;

use bytes::Bytes;
use futures::StreamExt;
use http::{Request, Response};
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::client::TlsStream;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::Role;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;

use crate::common::*;

/// Sends one HTTP/1 request on a new connection. Returns the response, and the connection if it was
/// upgraded.
pub(crate) async fn upgrade(
    stream: TlsStream<TcpStream>,
    request: Request<Full<Bytes>>,
) -> (u16, String, Option<hyper::upgrade::Upgraded>) {
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
        .await
        .unwrap();
    tokio::spawn(connection.with_upgrades());
    let response = sender.send_request(request).await.unwrap();
    let code = response.status().as_u16();
    if code == 101 {
        return (
            code,
            String::new(),
            Some(hyper::upgrade::on(response).await.unwrap()),
        );
    }
    let body = response.into_body().collect().await.unwrap().to_bytes();
    (code, String::from_utf8_lossy(&body).into_owned(), None)
}

pub(crate) fn tunnel_request(node: &str) -> Request<Full<Bytes>> {
    Request::post(format!("/everynode/v1/nodes/{node}/tunnel"))
        .header("host", "localhost")
        .header("connection", "upgrade")
        .header("upgrade", "everynode-tunnel")
        .body(Full::default())
        .unwrap()
}

pub(crate) const CHANNELS: &str = "v5.channel.k8s.io";

pub(crate) fn exec_request(command: &str, protocol: &str) -> Request<Full<Bytes>> {
    Request::get(format!("{PODS}/a/exec?command={command}&stdin=true&stdout=true"))
        .header("host", "localhost")
        .header("connection", "Upgrade")
        .header("upgrade", "websocket")
        .header("sec-websocket-version", "13")
        .header("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ==")
        .header("sec-websocket-protocol", protocol)
        .body(Full::default())
        .unwrap()
}

/// Responds to logs with the URI of the request, and to exec with the bytes that it received.
async fn agent(
    request: Request<Incoming>,
) -> Result<Response<http_body_util::combinators::UnsyncBoxBody<Bytes, hyper::Error>>, Infallible> {
    let full = |text: String| {
        Full::new(Bytes::from(text))
            .map_err(|never| match never {})
            .boxed_unsync()
    };
    let path = request.uri().path_and_query().unwrap().to_string();
    if path.starts_with("/containerLogs/") {
        let mut response = Response::new(full(path.clone()));
        if path.contains("previous=true") {
            *response.status_mut() = http::StatusCode::BAD_REQUEST;
            *response.body_mut() = full("previous terminated container \"c\" not found".to_owned());
        }
        return Ok(response);
    }
    if path.contains("command=none") {
        let status = json!({"kind": "Status", "message": "no such command", "code": 400});
        let mut response = Response::new(full(status.to_string()));
        *response.status_mut() = http::StatusCode::BAD_REQUEST;
        return Ok(response);
    }
    let echo = request
        .into_body()
        .into_data_stream()
        .map(|bytes| bytes.map(Frame::data));
    Ok(Response::new(StreamBody::new(echo).boxed_unsync()))
}

/// Connects a simulated agent.
pub(crate) async fn connect_agent(cluster: &Cluster, node: &str) {
    let (code, text, upgraded) = upgrade(dial(cluster, node).await, tunnel_request(node)).await;
    assert_eq!(code, 101, "{text}");
    let serving = hyper::server::conn::http2::Builder::new(TokioExecutor::new())
        .serve_connection(upgraded.unwrap(), service_fn(agent));
    tokio::spawn(serving);
}

pub(crate) async fn running_pod(cluster: &Cluster, name: &str, node: &str) {
    let mut object = pod(name);
    object["spec"]["nodeName"] = node.into();
    cluster.create(PODS, &object).await.expect(201);
    let status = json!({"status": {"containerStatuses": [{
        "name": "c", "image": "busybox:1", "imageID": "", "ready": true, "restartCount": 0,
        "state": {"running": {"startedAt": "2026-01-01T00:00:00Z"}},
    }]}});
    cluster
        .patch(&format!("{PODS}/{name}/status"), MERGE, &status)
        .await
        .expect(200);
}

/// Requests the log of a pod until the server has completed the handshake with the agent.
pub(crate) async fn log_when_connected(cluster: &Cluster, path: &str) -> Answer {
    let look = async || {
        let answer = cluster.get(path).await;
        if answer.text.contains("is not connected") {
            Err(answer.text)
        } else {
            Ok(answer)
        }
    };
    testkit::wait_for_async("the tunnel", look).await.unwrap()
}

#[tokio::test]
async fn logs_come_from_the_agent() {
    let cluster = Cluster::start().await;
    running_pod(&cluster, "a", "n").await;
    let path = format!("{PODS}/a/log");
    let status = cluster.get(&path).await.expect(500);
    assert!(
        text(&status["message"]).starts_with("error dialing backend: node n"),
        "{status}"
    );
    connect_agent(&cluster, "n").await;
    let answer = log_when_connected(&cluster, &format!("{path}?follow=true&tailLines=5&container=c")).await;
    assert_eq!(
        (answer.code, answer.text.as_str()),
        (200, "/containerLogs/default/a/c?tailLines=5&follow=true")
    );
    assert_eq!(answer.header("content-type"), "text/plain; charset=utf-8");
    let refused = cluster.get(&format!("{path}?previous=true")).await.expect(400);
    assert_eq!(
        refused["message"],
        "previous terminated container \"c\" not found"
    );
    assert_eq!(cluster.get(&format!("{path}?container=x")).await.code, 400);
    assert_eq!(cluster.get(&format!("{path}?tailLines=x")).await.code, 400);
}

#[tokio::test]
async fn exec_copies_both_ways() {
    let cluster = Cluster::start().await;
    running_pod(&cluster, "a", "n").await;
    connect_agent(&cluster, "n").await;
    log_when_connected(&cluster, &format!("{PODS}/a/log")).await;
    let (code, text, upgraded) = upgrade(dial_as_admin(&cluster).await, exec_request("cat", CHANNELS)).await;
    assert_eq!(code, 101, "{text}");
    let mut stream = TokioIo::new(upgraded.unwrap());
    for message in [&b"hello"[..], b"again"] {
        stream.write_all(message).await.unwrap();
        let mut echoed = [0; 5];
        stream.read_exact(&mut echoed).await.unwrap();
        assert_eq!(echoed, message);
    }
    let request = exec_request("cat", "v1.channel.k8s.io");
    let (code, text, _) = upgrade(dial_as_admin(&cluster).await, request).await;
    assert_eq!(code, 400, "{text}");
}

#[tokio::test]
async fn agents_refusal_comes_on_the_channel_for_errors() {
    let cluster = Cluster::start().await;
    running_pod(&cluster, "a", "n").await;
    connect_agent(&cluster, "n").await;
    log_when_connected(&cluster, &format!("{PODS}/a/log")).await;
    let (code, refusal, upgraded) =
        upgrade(dial_as_admin(&cluster).await, exec_request("none", CHANNELS)).await;
    assert_eq!(code, 101, "{refusal}");
    let stream = TokioIo::new(upgraded.unwrap());
    let mut socket = WebSocketStream::from_raw_socket(stream, Role::Client, None).await;
    let message = socket.next().await.unwrap().unwrap().into_data();
    assert_eq!(message[0], 3);
    let status: serde_json::Value = serde_json::from_slice(&message[1..]).unwrap();
    assert_eq!(
        (&status["status"], &status["message"]),
        (&json!("Failure"), &json!("no such command"))
    );
    let end = socket.next().await.unwrap().unwrap();
    let Message::Close(Some(end)) = end else {
        panic!("{end:?}")
    };
    assert_eq!(end.code, CloseCode::Normal);
}

#[tokio::test]
async fn agent_hears_that_the_client_left() {
    let cluster = Cluster::start().await;
    running_pod(&cluster, "a", "n").await;
    let (left, mut told) = tokio::sync::mpsc::channel(1);
    // The agent's command writes nothing and ends when its input ends.
    let agent = service_fn(move |request: Request<Incoming>| {
        let left = left.clone();
        async move {
            let rest = async move {
                request.into_body().collect().await.ok();
                left.send(()).await.ok();
                None::<Result<Frame<Bytes>, Infallible>>
            };
            let silence = futures::stream::once(rest).filter_map(std::future::ready);
            Ok::<_, Infallible>(Response::new(StreamBody::new(Box::pin(silence))))
        }
    });
    let (_, _, upgraded) = upgrade(dial(&cluster, "n").await, tunnel_request("n")).await;
    tokio::spawn(
        hyper::server::conn::http2::Builder::new(TokioExecutor::new())
            .serve_connection(upgraded.unwrap(), agent),
    );
    let look = async || {
        let (code, said, upgraded) =
            upgrade(dial_as_admin(&cluster).await, exec_request("cat", CHANNELS)).await;
        if code == 101 {
            Ok(upgraded.unwrap())
        } else {
            Err(said)
        }
    };
    let client = testkit::wait_for_async("the tunnel", look).await.unwrap();
    drop(client);
    told.recv().await.unwrap();
}

#[tokio::test]
async fn spdy_is_told_to_use_a_websocket() {
    let cluster = Cluster::start().await;
    running_pod(&cluster, "a", "n").await;
    let headers = [("connection", "Upgrade"), ("upgrade", "SPDY/3.1")];
    let path = format!("{PODS}/a/exec?command=ls&stdout=true");
    let spdy = async || cluster.send(http::Method::POST, &path, &headers, "").await;
    // Errors that do not depend on the protocol come first.
    let status = spdy().await.expect(500);
    assert!(text(&status["message"]).contains("is not connected"), "{status}");
    connect_agent(&cluster, "n").await;
    log_when_connected(&cluster, &format!("{PODS}/a/log")).await;
    let status = spdy().await.expect(400);
    assert!(text(&status["message"]).contains("WebSocket"), "{status}");
    let waiting = json!({"status": {"containerStatuses": []}});
    cluster
        .patch(&format!("{PODS}/a/status"), MERGE, &waiting)
        .await
        .expect(200);
    let status = spdy().await.expect(404);
    assert_eq!(status["message"], "container not found (\"c\")");
    assert_eq!(
        cluster
            .create(&format!("{PODS}/none/exec?command=ls&stdout=true"), &json!({}))
            .await
            .code,
        404
    );
}

#[tokio::test]
async fn tunnel_of_a_node_is_for_its_agent() {
    let cluster = Cluster::start().await;
    let (code, text, _) = upgrade(dial(&cluster, "other").await, tunnel_request("n")).await;
    assert_eq!(code, 403, "{text}");
}

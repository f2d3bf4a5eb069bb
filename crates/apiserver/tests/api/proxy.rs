//! Requests to the proxy subresources. A simulated agent connects to ports of this machine.

use std::convert::Infallible;

use bytes::Bytes;
use futures::StreamExt;
use http::{Method, Request, Response, StatusCode};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_util::io::ReaderStream;

use crate::common::*;
use crate::tunnel::{tunnel_request, upgrade};

const SERVICES: &str = "/api/v1/namespaces/default/services";
const SLICES: &str = "/apis/discovery.k8s.io/v1/namespaces/default/endpointslices";

type AgentBody = UnsyncBoxBody<Bytes, std::io::Error>;

fn whole(code: StatusCode, text: String) -> Response<AgentBody> {
    let body = Full::new(Bytes::from(text)).map_err(|never| match never {});
    let mut response = Response::new(body.boxed_unsync());
    *response.status_mut() = code;
    response
}

/// Connects to the port at the end of the path. Responds to any other request with the path.
async fn agent(request: Request<Incoming>) -> Result<Response<AgentBody>, Infallible> {
    let path = request.uri().path().to_owned();
    let Some(port) = path
        .starts_with("/dial/")
        .then(|| path.rsplit('/').next())
        .flatten()
    else {
        return Ok(whole(StatusCode::OK, request.uri().to_string()));
    };
    let port: u16 = port.parse().unwrap();
    let Ok(stream) = TcpStream::connect(("127.0.0.1", port)).await else {
        return Ok(whole(
            StatusCode::SERVICE_UNAVAILABLE,
            "connection refused".to_owned(),
        ));
    };
    let (from_port, mut to_port) = stream.into_split();
    tokio::spawn(async move {
        let mut body = request.into_body();
        while let Some(Ok(frame)) = body.frame().await {
            if let Ok(bytes) = frame.into_data() {
                to_port.write_all(&bytes).await.ok();
            }
        }
    });
    let pieces = ReaderStream::new(from_port).map(|piece| piece.map(Frame::data));
    Ok(Response::new(StreamBody::new(pieces).boxed_unsync()))
}

/// The backend: responds with the request, redirects, or echoes the bytes after an upgrade.
async fn answer(mut request: Request<Incoming>) -> Result<Response<AgentBody>, Infallible> {
    if request.uri().path() == "/moved" {
        let mut response = whole(StatusCode::FOUND, String::new());
        response
            .headers_mut()
            .insert("location", "/there?x=1".parse().unwrap());
        return Ok(response);
    }
    if request.headers().contains_key("upgrade") {
        let upgrade = hyper::upgrade::on(&mut request);
        tokio::spawn(async move {
            let mut stream = TokioIo::new(upgrade.await.unwrap());
            let mut word = [0; 5];
            stream.read_exact(&mut word).await.unwrap();
            stream.write_all(&word).await.unwrap();
        });
        let mut response = whole(StatusCode::SWITCHING_PROTOCOLS, String::new());
        response.headers_mut().insert("upgrade", "echo".parse().unwrap());
        response
            .headers_mut()
            .insert("connection", "upgrade".parse().unwrap());
        return Ok(response);
    }
    let headers: Value = request
        .headers()
        .iter()
        .map(|(name, value)| (name.to_string(), value.to_str().unwrap_or_default().into()))
        .collect::<serde_json::Map<String, Value>>()
        .into();
    let (method, uri) = (request.method().to_string(), request.uri().to_string());
    let body = request.into_body().collect().await.unwrap().to_bytes();
    let said = json!({
        "method": method, "uri": uri, "headers": headers, "body": String::from_utf8_lossy(&body),
    });
    Ok(whole(StatusCode::IM_A_TEAPOT, said.to_string()))
}

/// Starts a cluster with node `n`, whose agent is connected. Returns it with the port of a server
/// there.
async fn cluster() -> (Cluster, u16) {
    let cluster = Cluster::start().await;
    let node = json!({"kind": "Node", "apiVersion": "v1", "metadata": {"name": "n"}});
    cluster.create("/api/v1/nodes", &node).await.expect(201);
    let (_, _, upgraded) = upgrade(dial(&cluster, "n").await, tunnel_request("n")).await;
    tokio::spawn(
        hyper::server::conn::http2::Builder::new(TokioExecutor::new())
            .serve_connection(upgraded.unwrap(), service_fn(agent)),
    );
    let look = async || {
        let answer = cluster.get("/api/v1/nodes/n/proxy/healthz").await;
        if answer.code == 200 {
            Ok(())
        } else {
            Err(answer.text)
        }
    };
    testkit::wait_for_async("the tunnel", look).await.unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let served = hyper::server::conn::http1::Builder::new()
                .serve_connection(TokioIo::new(stream), service_fn(answer))
                .with_upgrades();
            tokio::spawn(served);
        }
    });
    (cluster, port)
}

/// Creates a pod on node `n` with this container port.
async fn running(cluster: &Cluster, name: &str, port: u16, change: impl FnOnce(&mut Value)) -> Value {
    let mut object = pod(name);
    object["spec"]["nodeName"] = "n".into();
    object["spec"]["containers"][0]["ports"] = json!([{"name": "web", "containerPort": port}]);
    change(&mut object);
    cluster.create(PODS, &object).await.expect(201);
    let status = json!({"status": {
        "phase": "Running", "podIP": "10.9.9.9", "podIPs": [{"ip": "10.9.9.9"}],
        "conditions": [{"type": "Ready", "status": "True"}],
    }});
    cluster
        .patch(&format!("{PODS}/{name}/status"), MERGE, &status)
        .await
        .expect(200)
}

#[tokio::test]
async fn a_pod_is_asked_through_its_node() {
    let (cluster, port) = cluster().await;
    running(&cluster, "a", port, |_| {}).await;
    let head = format!("{PODS}/a:web/proxy");
    let headers = [("authorization", "Basic x"), ("x-own", "1")];
    let sent = cluster
        .send(
            Method::PUT,
            &format!("{head}/deep//path%2F?q=1&q=2"),
            &headers,
            "body",
        )
        .await;
    // The in-process client needs no header to authenticate, and the backend must not receive one.
    let said = sent.expect(418);
    assert_eq!((&said["method"], &said["body"]), (&json!("PUT"), &json!("body")));
    assert_eq!(said["uri"], "/deep//path%2F?q=1&q=2");
    assert_eq!(said["headers"]["x-own"], "1");
    assert_eq!(said["headers"].get("authorization"), None);
    assert_eq!(said["headers"]["host"], format!("10.9.9.9:{port}"));
    assert_eq!(
        said["headers"]["x-forwarded-uri"],
        format!("{head}/deep//path%2F")
    );
    let moved = cluster.get(&format!("{head}/moved")).await;
    assert_eq!(
        (moved.code, moved.header("location")),
        (302, &*format!("{head}/there?x=1"))
    );
    let below = cluster.get(&format!("{head}?a=b")).await;
    assert_eq!(
        (below.code, below.header("location")),
        (301, &*format!("{head}/?a=b"))
    );
}

#[tokio::test]
async fn what_cannot_be_reached_is_said_in_words() {
    let (cluster, port) = cluster().await;
    running(&cluster, "a", port, |_| {}).await;
    let refused = cluster.get(&format!("{PODS}/a:1/proxy/")).await.expect(503);
    assert_eq!(
        refused["message"],
        "error trying to reach service: connection refused"
    );
    cluster.get(&format!("{PODS}/none/proxy/")).await.expect(404);
    let bad = cluster.get(&format!("{PODS}/ftp:a:1/proxy/")).await.expect(400);
    assert_eq!(bad["message"], "invalid pod request \"ftp:a:1\"");
    cluster.create(PODS, &pod("waiting")).await.expect(201);
    let waiting = cluster.get(&format!("{PODS}/waiting/proxy/")).await.expect(503);
    assert_eq!(
        waiting["message"],
        "pod \"waiting\" cannot be reached: it has no node yet"
    );
}

#[tokio::test]
async fn a_stream_may_change_its_protocol() {
    let (cluster, port) = cluster().await;
    running(&cluster, "a", port, |_| {}).await;
    let request = Request::get(format!("{PODS}/a/proxy/ws"))
        .header("host", "localhost")
        .header("connection", "Upgrade")
        .header("upgrade", "echo")
        .body(Full::<Bytes>::default())
        .unwrap();
    let (code, text, upgraded) = upgrade(dial_as_admin(&cluster).await, request).await;
    assert_eq!(code, 101, "{text}");
    let mut stream = TokioIo::new(upgraded.unwrap());
    stream.write_all(b"hello").await.unwrap();
    let mut word = [0; 5];
    stream.read_exact(&mut word).await.unwrap();
    assert_eq!(&word, b"hello");
}

#[tokio::test]
async fn a_service_is_any_of_its_ready_endpoints() {
    let (cluster, port) = cluster().await;
    let a = running(&cluster, "a", port, |_| {}).await;
    let service = json!({
        "kind": "Service", "apiVersion": "v1", "metadata": {"name": "s"},
        "spec": {"ports": [{"name": "web", "port": 80}]},
    });
    cluster.create(SERVICES, &service).await.expect(201);
    let none = cluster.get(&format!("{SERVICES}/s:web/proxy/")).await.expect(503);
    assert_eq!(none["message"], "no endpoints available for service \"s\"");
    let slice = json!({
        "kind": "EndpointSlice", "apiVersion": "discovery.k8s.io/v1",
        "metadata": {"name": "s-1", "labels": {"kubernetes.io/service-name": "s"}},
        "addressType": "IPv4", "ports": [{"name": "web", "port": port}],
        "endpoints": [
            {"addresses": ["10.9.9.9"], "nodeName": "n",
             "targetRef": {"kind": "Pod", "name": "a", "namespace": "default", "uid": a["metadata"]["uid"]}},
            {"addresses": ["10.9.9.8"], "conditions": {"ready": false}},
        ],
    });
    cluster.create(SLICES, &slice).await.expect(201);
    for path in ["s:web", "s:80", "http:s:web"] {
        let said = cluster
            .get(&format!("{SERVICES}/{path}/proxy/x"))
            .await
            .expect(418);
        assert_eq!(said["uri"], "/x");
    }
    let none = cluster.get(&format!("{SERVICES}/s:81/proxy/")).await.expect(503);
    assert_eq!(none["message"], "no service port 81 found for service \"s\"");
}

#[tokio::test]
async fn the_daemon_of_a_node_is_found_whichever_pod_it_is() {
    let (cluster, port) = cluster().await;
    let set = cluster.create(DAEMON_SETS, &daemon_set("d")).await.expect(201);
    let path = |node: &str| format!("{DAEMON_SETS}/d:web/nodes/{node}/proxy/metrics");
    let none = cluster.get(&path("n")).await.expect(503);
    assert_eq!(
        none["message"],
        "daemonset \"d\" on node \"n\": no pod of it is there"
    );
    running(&cluster, "d-1", port, |pod| {
        pod["metadata"]["ownerReferences"] = json!([{"apiVersion": "apps/v1", "kind": "DaemonSet", "name": "d",
            "uid": set["metadata"]["uid"], "controller": true}]);
    })
    .await;
    assert_eq!(cluster.get(&path("n")).await.expect(418)["uri"], "/metrics");
    cluster.get(&path("elsewhere")).await.expect(503);
    let unready = json!({"status": {"conditions": [{"type": "Ready", "status": "False"}]}});
    let status = format!("{PODS}/d-1/status");
    cluster.patch(&status, MERGE, &unready).await.expect(200);
    let refused = cluster.get(&path("n")).await.expect(503);
    assert_eq!(
        refused["message"],
        "daemonset \"d\" on node \"n\": its pod d-1 is not ready"
    );
}

#[tokio::test]
async fn a_node_says_what_a_kubelet_does_and_runs_nothing() {
    let (cluster, port) = cluster().await;
    for path in ["healthz", "pods", "metrics", "stats/summary"] {
        let answer = cluster
            .get(&format!("/api/v1/nodes/n:10250/proxy/{path}?a=b"))
            .await;
        assert_eq!(
            (answer.code, answer.text.ends_with(&format!("/{path}?a=b"))),
            (200, true)
        );
    }
    for path in ["exec/default/a/c", "dial/node/22", "x"] {
        cluster
            .get(&format!("/api/v1/nodes/n/proxy/{path}"))
            .await
            .expect(404);
    }
    cluster
        .create("/api/v1/nodes/n/proxy/pods", &json!({}))
        .await
        .expect(405);
    let said = cluster
        .get(&format!("/api/v1/nodes/n:{port}/proxy/own"))
        .await
        .expect(418);
    assert_eq!(said["uri"], "/own");
    cluster.get("/api/v1/nodes/none/proxy/healthz").await.expect(404);
}

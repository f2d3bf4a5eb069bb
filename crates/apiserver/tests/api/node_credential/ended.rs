//! End of the rights of a node's certificate.

use futures::{StreamExt, stream};
use http_body::Frame;
use http_body_util::StreamBody;
use hyper::client::conn::http1::SendRequest;

use super::*;

/// Opens a connection with the node's certificate while it is valid.
async fn connection(cluster: &Cluster) -> SendRequest<Full<Bytes>> {
    let stream = TokioIo::new(dial(cluster, "n").await);
    let (sender, connection) = hyper::client::conn::http1::handshake(stream).await.unwrap();
    tokio::spawn(connection);
    sender
}

async fn get(sender: &mut SendRequest<Full<Bytes>>, path: &str) -> http::Response<hyper::body::Incoming> {
    let request = Request::get(path).header("host", "localhost");
    let request = request.body(Full::new(Bytes::new())).unwrap();
    sender.send_request(request).await.unwrap()
}

async fn code(sender: &mut SendRequest<Full<Bytes>>, path: &str) -> u16 {
    let response = get(sender, path).await;
    let code = response.status().as_u16();
    response.into_body().collect().await.unwrap();
    code
}

#[tokio::test]
async fn the_credential_of_a_deleted_node_is_good_for_nothing() {
    let world = world().await;
    let mut sender = connection(&world.cluster).await;
    assert_eq!(code(&mut sender, "/api/v1/nodes/n").await, 200);
    world
        .cluster
        .delete("/api/v1/nodes/n", &Value::Null)
        .await
        .expect(200);
    // An existing connection cannot be used either.
    assert_eq!(code(&mut sender, "/api/v1/nodes/n").await, 401);
}

#[tokio::test]
async fn rights_end_with_the_deletion_of_a_node_that_is_kept() {
    let world = world().await;
    let cluster = &world.cluster;
    // An administrator's finalizer, or one that foreground deletion sets, keeps the Node.
    for (options, finalizers) in [
        (Value::Null, json!(["example.com/stay"])),
        (json!({"propagationPolicy": "Foreground"}), json!([])),
    ] {
        let mut node = named("Node", "kept");
        node["metadata"]["finalizers"] = finalizers;
        cluster.create("/api/v1/nodes", &node).await.expect(201);
        let credential = cluster.server.node_credential("kept").await.unwrap();
        let stream = TokioIo::new(dial_with(cluster, &credential.certificate, &credential.key).await);
        let (mut sender, connection) = hyper::client::conn::http1::handshake(stream).await.unwrap();
        tokio::spawn(connection);
        assert_eq!(code(&mut sender, "/api/v1/nodes/kept").await, 200);
        let going = cluster.delete("/api/v1/nodes/kept", &options).await.expect(200);
        assert!(going["metadata"]["deletionTimestamp"].is_string(), "{going}");
        for path in ["/api/v1/nodes/kept", "/api/v1/nodes", "/version"] {
            assert_eq!(code(&mut sender, path).await, 401, "{path}");
        }
        let released = json!({"metadata": {"finalizers": null}});
        cluster
            .patch("/api/v1/nodes/kept", MERGE, &released)
            .await
            .expect(200);
        assert_eq!(cluster.get("/api/v1/nodes/kept").await.code, 404);
        assert_eq!(
            code(&mut sender, "/api/v1/nodes").await,
            401,
            "the record is gone, too"
        );
    }
}

#[tokio::test]
async fn request_whose_body_ends_after_the_deletion_is_refused() {
    let world = world().await;
    let cluster = &world.cluster;
    let stream = TokioIo::new(dial(cluster, "n").await);
    let (mut sender, connection) = hyper::client::conn::http1::handshake(stream).await.unwrap();
    tokio::spawn(connection);
    // The server asks for the body after it has checked the certificate.
    let node = named("Node", "n").to_string();
    let (first, last) = node.split_at(1);
    let [first, last] = [first, last].map(|part| Frame::data(Bytes::copy_from_slice(part.as_bytes())));
    let (go_on, gone_on) = tokio::sync::oneshot::channel::<()>();
    let rest = stream::once(async move {
        gone_on.await.unwrap();
        Ok(last)
    });
    let body = stream::iter([Ok::<_, std::convert::Infallible>(first)]).chain(rest);
    let create = Request::post("/api/v1/nodes")
        .header("host", "localhost")
        .header("content-type", JSON)
        .header("content-length", node.len())
        .body(StreamBody::new(body).boxed_unsync())
        .unwrap();
    let answer = tokio::spawn(async move { sender.send_request(create).await.unwrap() });
    let present = "apiserver_flowcontrol_current_requests{priority_level=\"system\"} 1\n";
    while !cluster.get("/metrics").await.text.contains(present) {
        tokio::task::yield_now().await;
    }
    cluster.delete("/api/v1/nodes/n", &Value::Null).await.expect(200);
    go_on.send(()).unwrap();
    assert_eq!(answer.await.unwrap().status(), 401);
    assert_eq!(cluster.get("/api/v1/nodes/n").await.code, 404);
}

#[tokio::test]
async fn watches_of_a_node_end_with_its_deletion() {
    let world = world().await;
    let cluster = &world.cluster;
    let held = json!({"metadata": {"finalizers": ["example.com/stay"]}});
    cluster.patch("/api/v1/nodes/n", MERGE, &held).await.expect(200);
    let watch = format!("{TEAM}/secrets?watch=1&fieldSelector=metadata.name%3Dmine");
    let mut sender = connection(cluster).await;
    let mut events = get(&mut sender, &watch).await.into_body();
    let first = events.frame().await.unwrap().unwrap().into_data().unwrap();
    assert!(first.starts_with(b"{\"type\":\"ADDED\""), "{first:?}");
    cluster.delete("/api/v1/nodes/n", &Value::Null).await.expect(200);
    let secret = json!({"stringData": {"a": "new"}});
    cluster
        .patch(&format!("{TEAM}/secrets/mine"), MERGE, &secret)
        .await
        .expect(200);
    assert!(
        events.frame().await.is_none(),
        "the watch has ended without a further event"
    );
}

//! pods/exec: runs a command in a container, over WebSocket. The server does the handshake with the
//! client, and then copies bytes between the client and the node's agent, which implements the
//! channels.

use std::sync::Arc;

use api::status::Status;
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use bytes::Bytes;
use futures::{SinkExt, StreamExt};
use http::header::{
    CONNECTION, HeaderMap, HeaderValue, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_KEY, SEC_WEBSOCKET_PROTOCOL,
    SEC_WEBSOCKET_VERSION, UPGRADE,
};
use http::{Response, StatusCode};
use hyper::body::Incoming;
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::sync::mpsc;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_tungstenite::tungstenite::protocol::{CloseFrame, Role};

use crate::body::{Body, BoxError};
use crate::limits::DISCARD_TIMEOUT;
use crate::query::Query;
use crate::relay;
use crate::rights::Stay;
use crate::routes::Target;
use crate::shared::Shared;
use crate::subresource::container::container;
use crate::subresource::log::{agent_failure, agent_path, node, pod};
use crate::tunnel::wants_upgrade;

/// WebSocket subprotocol of agents.
const CHANNELS: &str = "v5.channel.k8s.io";
/// Channel of the result, a `Status`.
const ERROR_CHANNEL: u8 = 3;
/// Text that RFC 6455 appends to the client's key.
const WEBSOCKET_GUID: &str = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11";

/// Starts a command in a container.
pub(crate) async fn exec(
    shared: &Arc<Shared>,
    target: &Target,
    query: &Query,
    request: &mut http::Request<Body>,
    stay: &mut Stay,
) -> Result<Response<Body>, Status> {
    let pod = pod(shared, target)?;
    let container = container(&pod, query.non_empty("container"))?;
    if query.all("command").next().is_none() {
        return Err(Status::bad_request(
            "you must specify at least one command for the container",
        ));
    }
    if !["stdin", "stdout", "stderr"]
        .into_iter()
        .any(|stream| query.flag(stream))
    {
        return Err(Status::bad_request(
            "you must specify at least one of stdin, stdout, stderr",
        ));
    }
    let phase = pod["status"]["phase"].as_str().unwrap_or_default();
    if matches!(phase, "Succeeded" | "Failed") {
        let why = format!("cannot exec into a container in a completed pod; current phase is {phase}");
        return Err(Status::bad_request(why));
    }
    let Some(node) = node(&pod) else {
        return Err(Status::bad_request(format!(
            "pod {} does not have a host assigned",
            target.name
        )));
    };
    // When the server refuses its WebSocket for any reason, kubectl retries with SPDY and prints
    // the error of that attempt. So the errors that do not depend on the protocol come first.
    shared.tunnels.must_reach(node)?;
    let accept =
        websocket_accept(request.headers()).map_err(|refusal| match is_running(&pod, container) {
            true => refusal,
            false => Status::new(404, "NotFound", format!("container not found (\"{container}\")")),
        })?;
    let (to_agent, from_client) = mpsc::channel::<Bytes>(relay::BUFFERS_IN_FLIGHT);
    let begun = begin(
        shared,
        node,
        agent_request(node, target, container, query, from_client)?,
    )
    .await;
    let upgrade = hyper::upgrade::on(request);
    let stopping = shared.stopping.clone();
    let mut stay = std::mem::take(stay);
    shared.tasks.spawn(async move {
        let conversation = async {
            match begun {
                Ok(from_agent) => match upgrade.await {
                    Ok(client) => relay::relay(TokioIo::new(client), to_agent, from_agent).await,
                    Err(error) => Err(error.into()),
                },
                Err(refusal) => tell(upgrade, &refusal).await,
            }
        };
        tokio::select! {
            result = conversation => {
                if let Err(error) = result {
                    tracing::debug!(error, "an exec stream broke off");
                }
            }
            () = stay.end() => {}
            () = stopping.cancelled() => {}
        }
    });
    let mut answer = Response::new(Body::empty());
    *answer.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    let headers = answer.headers_mut();
    headers.insert(CONNECTION, HeaderValue::from_static("Upgrade"));
    headers.insert(UPGRADE, HeaderValue::from_static("websocket"));
    headers.insert(SEC_WEBSOCKET_ACCEPT, accept);
    headers.insert(SEC_WEBSOCKET_PROTOCOL, HeaderValue::from_static(CHANNELS));
    Ok(answer)
}

/// Sends the request to the agent and returns the body of its response.
async fn begin(shared: &Shared, node: &str, request: http::Request<Body>) -> Result<Incoming, Status> {
    let response = shared.tunnels.send(node, request).await?;
    match response.status().is_success() {
        true => Ok(response.into_body()),
        false => Err(agent_failure(response).await),
    }
}

/// Sends the reason for a failure on the error channel of the client's WebSocket. Without a
/// WebSocket kubectl would retry with SPDY and print the error of that attempt instead.
async fn tell(upgrade: OnUpgrade, refusal: &Status) -> Result<(), BoxError> {
    let stream = TokioIo::new(upgrade.await?);
    let mut socket = WebSocketStream::from_raw_socket(stream, Role::Server, None).await;
    let mut message = vec![ERROR_CHANNEL];
    message.extend_from_slice(refusal.to_value().to_string().as_bytes());
    socket.send(Message::binary(message)).await?;
    // kubectl reports any other close code as a broken connection.
    let end = CloseFrame {
        code: CloseCode::Normal,
        reason: "".into(),
    };
    socket.close(Some(end)).await?;
    // Reads what the client still sends, so that the connection ends with a close and not with a
    // reset.
    let rest = async { while let Some(Ok(_)) = socket.next().await {} };
    if tokio::time::timeout(DISCARD_TIMEOUT, rest).await.is_err() {
        tracing::debug!("a client did not close its WebSocket in time");
    }
    Ok(())
}

/// Returns whether the pod's status shows the container as running.
fn is_running(pod: &Value, container: &str) -> bool {
    [
        "containerStatuses",
        "initContainerStatuses",
        "ephemeralContainerStatuses",
    ]
    .into_iter()
    .filter_map(|field| pod["status"][field].as_array())
    .flatten()
    .any(|status| status["name"] == container && status["state"]["running"].is_object())
}

/// Returns the response to the client's key; 400 if the client does not offer WebSocket with
/// channels.
fn websocket_accept(headers: &HeaderMap) -> Result<HeaderValue, Status> {
    if !wants_upgrade(headers, "websocket") {
        let spdy = headers
            .get(UPGRADE)
            .and_then(|value| value.to_str().ok())
            .is_some_and(|u| u.contains("SPDY"));
        return Err(Status::bad_request(match spdy {
            true => "SPDY is not served: exec needs a WebSocket (kubectl 1.31 or later)",
            false => "Upgrade request required: exec needs a WebSocket",
        }));
    }
    let offered = headers
        .get_all(SEC_WEBSOCKET_PROTOCOL)
        .into_iter()
        .filter_map(|value| value.to_str().ok());
    if !offered
        .flat_map(|text| text.split(','))
        .any(|protocol| protocol.trim() == CHANNELS)
    {
        return Err(Status::bad_request(format!(
            "exec needs the WebSocket protocol {CHANNELS}"
        )));
    }
    if headers
        .get(SEC_WEBSOCKET_VERSION)
        .is_none_or(|version| version != "13")
    {
        return Err(Status::bad_request(
            "exec needs version 13 of the WebSocket protocol",
        ));
    }
    let key = headers
        .get(SEC_WEBSOCKET_KEY)
        .and_then(|value| value.to_str().ok());
    let key = key.ok_or_else(|| Status::bad_request("Sec-WebSocket-Key is missing"))?;
    let digest = ring::digest::digest(
        &ring::digest::SHA1_FOR_LEGACY_USE_ONLY,
        format!("{key}{WEBSOCKET_GUID}").as_bytes(),
    );
    HeaderValue::from_str(&BASE64_STANDARD.encode(digest)).map_err(Status::internal)
}

fn agent_request(
    node: &str,
    target: &Target,
    container: &str,
    query: &Query,
    from_client: mpsc::Receiver<Bytes>,
) -> Result<http::Request<Body>, Status> {
    let mut parameters = form_urlencoded::Serializer::new(String::new());
    for command in query.all("command") {
        parameters.append_pair("command", command);
    }
    for stream in ["stdin", "stdout", "stderr", "tty"] {
        if query.flag(stream) {
            parameters.append_pair(stream, "true");
        }
    }
    let path = agent_path("exec", target, container);
    http::Request::post(format!("http://{node}{path}?{}", parameters.finish()))
        .header(SEC_WEBSOCKET_PROTOCOL, CHANNELS)
        .body(relay::body(from_client))
        .map_err(Status::internal)
}

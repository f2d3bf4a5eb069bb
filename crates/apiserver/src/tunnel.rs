//! Tunnel to a node's agent. The agent connects to the server and upgrades the connection. Then the
//! roles change: the agent serves HTTP/2 on it. So the server can reach a node behind NAT.

use std::sync::Arc;
use std::time::Duration;

use api::status::Status;
use http::header::{CONNECTION, HeaderMap, UPGRADE};
use http::{HeaderValue, Response, StatusCode};
use hyper::client::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioTimer};

use crate::body::Body;
use crate::rights::Stay;
use crate::shared::Shared;

/// Protocol name in the agent's `Upgrade` header.
const PROTOCOL: &str = "everynode-tunnel";
/// Interval and timeout of the pings that detect a dead connection, for example after a network
/// failure or when a NAT dropped its entry.
const KEEP_ALIVE_INTERVAL: Duration = Duration::from_secs(20);
const KEEP_ALIVE_TIMEOUT: Duration = Duration::from_secs(10);

/// Returns whether the request upgrades its connection to `protocol`.
pub(crate) fn wants_upgrade(headers: &HeaderMap, protocol: &str) -> bool {
    let lists = |name: http::header::HeaderName, wanted: &str| {
        let values = headers
            .get_all(name)
            .into_iter()
            .filter_map(|value| value.to_str().ok());
        values
            .flat_map(|text| text.split(','))
            .any(|item| item.trim().eq_ignore_ascii_case(wanted))
    };
    lists(CONNECTION, "upgrade") && lists(UPGRADE, protocol)
}

/// Accepts the tunnel of a node's agent. The Node authorizer has checked that the user is this
/// node.
pub(crate) fn accept(
    shared: &Arc<Shared>,
    node: String,
    stay: Stay,
    request: &mut http::Request<Body>,
) -> Result<Response<Body>, Status> {
    if !wants_upgrade(request.headers(), PROTOCOL) {
        return Err(Status::bad_request(format!("Upgrade: {PROTOCOL} is required")));
    }
    let upgrade = hyper::upgrade::on(request);
    let task = {
        let shared = shared.clone();
        async move {
            if let Err(error) = serve_tunnel(&shared, &node, upgrade, stay).await {
                tracing::debug!(node, error, "the connection of a node's agent ended");
            }
        }
    };
    shared.tasks.spawn(task);
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    response
        .headers_mut()
        .insert(CONNECTION, HeaderValue::from_static("upgrade"));
    response
        .headers_mut()
        .insert(UPGRADE, HeaderValue::from_static(PROTOCOL));
    Ok(response)
}

async fn serve_tunnel(
    shared: &Shared,
    node: &str,
    upgrade: hyper::upgrade::OnUpgrade,
    mut stay: Stay,
) -> Result<(), crate::body::BoxError> {
    let upgraded = tokio::select! {
        upgraded = upgrade => upgraded?,
        () = shared.stopping.cancelled() => return Ok(()),
    };
    let (agent, connection) = http2::Builder::new(TokioExecutor::new())
        .timer(TokioTimer::new())
        .keep_alive_interval(KEEP_ALIVE_INTERVAL)
        .keep_alive_timeout(KEEP_ALIVE_TIMEOUT)
        .keep_alive_while_idle(true)
        .handshake(upgraded)
        .await?;
    let id = shared.tunnels.add(node, agent);
    tracing::debug!(node, "a node's agent is connected");
    let ended = tokio::select! {
        ended = connection => ended,
        () = stay.end() => Ok(()),
        () = shared.stopping.cancelled() => Ok(()),
    };
    shared.tunnels.remove(node, id);
    Ok(ended?)
}

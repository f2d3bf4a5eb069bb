//! The way to a node's agent: the connection that the agent opened. The agent dials out, asks to turn the
//! connection around, and from then on serves HTTP/2 on it; so a node behind NAT can be reached.

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

/// What the agent asks to upgrade to.
const PROTOCOL: &str = "everynode-tunnel";
/// A connection that has died without a word (a pulled cable, a NAT that forgot) is noticed after these two.
const KEEP_ALIVE_INTERVAL: Duration = Duration::from_secs(20);
const KEEP_ALIVE_TIMEOUT: Duration = Duration::from_secs(10);

/// Whether the request asks to upgrade its connection to `protocol`.
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

/// Takes the connection of a node's agent. The Node authorizer has seen that it is that node's.
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

//! The way to a node's agent: the connection that the agent opened. The agent dials out, asks to turn the
//! connection around, and from then on serves HTTP/2 on it; so a node behind NAT can be reached.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use api::status::Status;
use http::header::{CONNECTION, HeaderMap, UPGRADE};
use http::{HeaderValue, Response, StatusCode};
use hyper::body::Incoming;
use hyper::client::conn::http2::{self, SendRequest};
use hyper_util::rt::{TokioExecutor, TokioTimer};

use crate::body::Body;
use crate::shared::Shared;
use crate::user::{GROUP_MASTERS, User};

/// What the agent asks to upgrade to.
const PROTOCOL: &str = "everynode-tunnel";
/// A connection that has died without a word (a pulled cable, a NAT that forgot) is noticed after these two.
const KEEP_ALIVE_INTERVAL: Duration = Duration::from_secs(20);
const KEEP_ALIVE_TIMEOUT: Duration = Duration::from_secs(10);

/// The agents that can be reached, by node. Bounded by the connections that the server takes.
#[derive(Default)]
pub(crate) struct Tunnels {
    nodes: RwLock<HashMap<String, Tunnel>>,
    count: AtomicU64,
}

struct Tunnel {
    /// Tells a new connection of a node from the one that it replaced.
    id: u64,
    agent: SendRequest<Body>,
}

impl Tunnels {
    fn add(&self, node: &str, agent: SendRequest<Body>) -> u64 {
        let id = self.count.fetch_add(1, Ordering::Relaxed);
        let mut nodes = self.nodes.write().unwrap_or_else(PoisonError::into_inner);
        nodes.insert(node.to_owned(), Tunnel { id, agent });
        id
    }

    fn remove(&self, node: &str, id: u64) {
        let mut nodes = self.nodes.write().unwrap_or_else(PoisonError::into_inner);
        if nodes.get(node).is_some_and(|tunnel| tunnel.id == id) {
            nodes.remove(node);
        }
    }

    fn agent(&self, node: &str) -> Option<SendRequest<Body>> {
        let nodes = self.nodes.read().unwrap_or_else(PoisonError::into_inner);
        nodes.get(node).map(|tunnel| tunnel.agent.clone())
    }

    /// 500 when the agent of `node` is not connected.
    pub(crate) fn must_reach(&self, node: &str) -> Result<(), Status> {
        self.agent(node)
            .map(drop)
            .ok_or_else(|| unreachable(node, &NOT_CONNECTED))
    }

    /// Sends a request to the agent of `node`.
    pub(crate) async fn send(
        &self,
        node: &str,
        request: http::Request<Body>,
    ) -> Result<Response<Incoming>, Status> {
        let mut agent = self
            .agent(node)
            .ok_or_else(|| unreachable(node, &NOT_CONNECTED))?;
        agent.ready().await.map_err(|error| unreachable(node, &error))?;
        agent
            .send_request(request)
            .await
            .map_err(|error| unreachable(node, &error))
    }
}

const NOT_CONNECTED: &str = "its agent is not connected";

fn unreachable(node: &str, why: &dyn std::fmt::Display) -> Status {
    let message = format!("error dialing backend: node {node}: {why}");
    Status::new(500, "InternalError", message)
}

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

/// Takes the connection of a node's agent, which must be that node's.
pub(crate) fn accept(
    shared: &Arc<Shared>,
    user: &User,
    node: String,
    request: &mut http::Request<Body>,
) -> Result<Response<Body>, Status> {
    let is_admin = user.groups.iter().any(|group| group == GROUP_MASTERS);
    if user.node_name() != Some(node.as_str()) && !is_admin {
        let why = format!(
            "tunnel of node \"{node}\" is forbidden: User \"{}\" is not that node",
            user.name
        );
        return Err(Status::new(403, "Forbidden", why));
    }
    if !wants_upgrade(request.headers(), PROTOCOL) {
        return Err(Status::bad_request(format!("Upgrade: {PROTOCOL} is required")));
    }
    let upgrade = hyper::upgrade::on(request);
    let task = {
        let shared = shared.clone();
        async move {
            if let Err(error) = serve_tunnel(&shared, &node, upgrade).await {
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
        () = shared.stopping.cancelled() => Ok(()),
    };
    shared.tunnels.remove(node, id);
    Ok(ended?)
}

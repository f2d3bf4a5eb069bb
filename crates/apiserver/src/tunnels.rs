//! The open tunnels to the agents of nodes.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{PoisonError, RwLock};

use api::status::Status;
use http::Response;
use hyper::body::Incoming;
use hyper::client::conn::http2::SendRequest;

use crate::body::Body;

/// The open tunnels by node. The limit on connections bounds them.
#[derive(Default)]
pub(crate) struct Tunnels {
    nodes: RwLock<HashMap<String, Tunnel>>,
    count: AtomicU64,
}

struct Tunnel {
    /// Distinguishes a tunnel from the one that replaced it.
    id: u64,
    agent: SendRequest<Body>,
}

impl Tunnels {
    /// Adds a tunnel, and replaces an older one to the same node. Returns the ID of the tunnel.
    pub(crate) fn add(&self, node: &str, agent: SendRequest<Body>) -> u64 {
        let id = self.count.fetch_add(1, Ordering::Relaxed);
        let mut nodes = self.nodes.write().unwrap_or_else(PoisonError::into_inner);
        nodes.insert(node.to_owned(), Tunnel { id, agent });
        id
    }

    /// Removes a tunnel that has ended, unless it was replaced.
    pub(crate) fn remove(&self, node: &str, id: u64) {
        let mut nodes = self.nodes.write().unwrap_or_else(PoisonError::into_inner);
        if nodes.get(node).is_some_and(|tunnel| tunnel.id == id) {
            nodes.remove(node);
        }
    }

    /// Closes the tunnel to a node that was deleted.
    pub(crate) fn close(&self, node: &str) {
        let mut nodes = self.nodes.write().unwrap_or_else(PoisonError::into_inner);
        nodes.remove(node);
    }

    fn agent(&self, node: &str) -> Option<SendRequest<Body>> {
        let nodes = self.nodes.read().unwrap_or_else(PoisonError::into_inner);
        nodes.get(node).map(|tunnel| tunnel.agent.clone())
    }

    /// Returns status 500 when the agent of `node` is not connected.
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

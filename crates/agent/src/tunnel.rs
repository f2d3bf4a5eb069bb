//! The connection over which the API server reaches the node.
//!
//! The agent dials (so a node behind an address translator works), asks for an upgrade, and then serves HTTP/2 on the connection
//! that it opened. When it breaks, it is dialled again, with a jittered back-off.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{Request, StatusCode};
use http_body_util::Empty;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio_util::sync::CancellationToken;

use crate::jitter;
use crate::servers::{Dialer, Protocol};
use crate::streams;
use crate::worker::Shared;

/// Wait before the next dial, doubling up to the second value.
const REDIAL: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(15));
/// How long a connection may take until it is a tunnel.
const DIAL: Duration = Duration::from_secs(15);
/// A tunnel on which nothing moved is asked for a sign of life this often, and dropped when none comes.
const KEEP_ALIVE: Duration = Duration::from_secs(20);
/// Bytes of the headers of one request: a command line is in its path, so it is as much as the API server takes, and some for what that adds.
const HEADERS: u32 = 320 << 10;
/// Logs and commands at a time.
const STREAMS: u32 = 1024;

/// Dials the API server as the node.
pub(crate) struct Connector {
    dialer: Dialer,
    path: String,
}

impl Connector {
    pub(crate) fn new(dialer: Dialer, node_name: &str) -> Self {
        Self {
            dialer,
            path: format!("/everynode/v1/nodes/{node_name}/tunnel"),
        }
    }

    async fn dial(&self) -> Result<hyper::upgrade::Upgraded, String> {
        // Upgrades exist in HTTP/1.1 only.
        let stream = self.dialer.connect(Protocol::Http1).await?;
        let handshake = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await;
        let (mut sender, connection) = handshake.map_err(|error| error.to_string())?;
        let request = Request::post(&self.path)
            .header("Host", "kubernetes.default.svc")
            .header("Connection", "upgrade")
            .header("Upgrade", "everynode-tunnel")
            .header("Content-Length", "0")
            .body(Empty::<Bytes>::new())
            .map_err(|error| error.to_string())?;
        // It ends when the upgrade has taken the stream out of it, or with the connection.
        let driven = tokio::spawn(connection.with_upgrades());
        let answer = sender
            .send_request(request)
            .await
            .map_err(|error| error.to_string())?;
        if answer.status() != StatusCode::SWITCHING_PROTOCOLS {
            driven.abort();
            return Err(format!(
                "the API server answered {} instead of turning the connection",
                answer.status()
            ));
        }
        hyper::upgrade::on(answer)
            .await
            .map_err(|error| error.to_string())
    }
}

/// Keeps a tunnel open and serves on it until `shutdown`.
pub(crate) async fn serve(connector: Connector, shared: Arc<Shared>, shutdown: CancellationToken) {
    let mut wait = REDIAL.0;
    loop {
        let dialled = tokio::select! {
            () = shutdown.cancelled() => return,
            dialled = tokio::time::timeout(DIAL, connector.dial()) => dialled,
        };
        match dialled {
            Ok(Ok(connection)) => {
                wait = REDIAL.0;
                tokio::select! {
                    () = shutdown.cancelled() => return,
                    () = attend(connection, &shared) => {}
                }
            }
            Ok(Err(why)) => tracing::debug!(why, "dial the API server"),
            Err(_) => tracing::debug!("dial the API server: no answer"),
        }
        tokio::select! {
            () = shutdown.cancelled() => return,
            () = tokio::time::sleep(jitter(wait)) => {}
        }
        wait = (wait * 2).min(REDIAL.1);
    }
}

/// Serves one connection to its end.
async fn attend(connection: hyper::upgrade::Upgraded, shared: &Arc<Shared>) {
    let service = service_fn(|request| streams::answer(Arc::clone(shared), request));
    let served = hyper::server::conn::http2::Builder::new(TokioExecutor::new())
        .timer(TokioTimer::new())
        .keep_alive_interval(KEEP_ALIVE)
        .keep_alive_timeout(KEEP_ALIVE)
        .max_concurrent_streams(STREAMS)
        .max_header_list_size(HEADERS)
        .serve_connection(connection, service);
    if let Err(error) = served.await {
        tracing::debug!(%error, "the tunnel to the API server broke");
    }
}

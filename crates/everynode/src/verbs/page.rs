//! `everynode demo-page`: serves the demo's HTTP page with the node's name.
//!
//! The demo's container image contains only this binary, so the binary must also be the daemon.

use std::convert::Infallible;
use std::net::SocketAddr;

use anyhow::{Context, Result};
use bytes::Bytes;
use clap::Args;
use http::{Response, header};
use http_body_util::Full;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio::task::JoinSet;

/// Most connections; more wait in the kernel's queue.
const CONNECTIONS: usize = 64;

/// Serve a page that names this node
#[derive(Args, Debug)]
pub(crate) struct Page {
    /// Address to listen on
    #[arg(long, default_value = "0.0.0.0:8080")]
    listen: SocketAddr,

    /// The node's name
    #[arg(long, env = "NODE_NAME", default_value = "this node")]
    node: String,
}

impl Page {
    pub(crate) async fn run(self) -> Result<()> {
        let listener = TcpListener::bind(self.listen)
            .await
            .with_context(|| format!("listen on {}", self.listen))?;
        let mut terminate = signal(SignalKind::terminate()).context("listen for SIGTERM")?;
        let body = Bytes::from(format!(
            "Hello from node {}. Everynode runs me here.\n",
            self.node
        ));
        let mut connections = JoinSet::new();
        eprintln!("serving on {}", self.listen);
        loop {
            tokio::select! {
                // Dropping the listener and the tasks closes every connection.
                _ = terminate.recv() => return Ok(()),
                Some(_) = connections.join_next(), if !connections.is_empty() => {}
                accepted = listener.accept(), if connections.len() < CONNECTIONS => {
                    let (stream, _) = accepted.context("accept a connection")?;
                    let body = body.clone();
                    connections.spawn(async move {
                        let answer = service_fn(move |_| {
                            let page = Response::builder().header(header::CONTENT_TYPE, "text/plain; charset=utf-8");
                            let page = page.body(Full::new(body.clone())).unwrap_or_default();
                            async { Ok::<_, Infallible>(page) }
                        });
                        if let Err(error) = http1::Builder::new().serve_connection(TokioIo::new(stream), answer).await {
                            tracing::debug!(%error, "a connection failed");
                        }
                    });
                }
            }
        }
    }
}

//! A client over a few HTTP/2 connections.
//!
//! kube's own client uses HTTP/1, with one connection for each request in flight. Here all requests
//! share [`CONNECTIONS`] connections. A connection is opened when it is first needed, and again
//! after it breaks. A request on a broken connection fails; its caller retries.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};

use http::{Request, Response};
use hyper::body::Incoming;
use hyper::client::conn::http2::{self, SendRequest};
use hyper_util::rt::{TokioExecutor, TokioIo};
use kube::client::{Body, ConfigExt};
use rustls::pki_types::ServerName;
use tokio::net::TcpStream;
use tokio::sync::Mutex;
use tokio_rustls::TlsConnector;
use tower::{BoxError, Layer, Service};

use crate::request::Error;

/// Number of connections. A server accepts 250 concurrent requests on each, so this is enough for
/// all renewals in flight.
const CONNECTIONS: usize = 16;

/// Flow-control window of one stream, in bytes. Only the watch of pods returns much data.
const STREAM_WINDOW: u32 = 4 << 20;

/// Returns a client for the cluster of `config`.
pub fn connect(config: &kube::Config) -> Result<kube::Client, Error> {
    let url = config.cluster_url.to_string();
    let failed = |source: BoxError| Error::Connect {
        url: url.clone(),
        source,
    };
    let mut tls = config.rustls_client_config().map_err(|e| failed(e.into()))?;
    tls.alpn_protocols = vec![b"h2".to_vec()];
    let host = config
        .cluster_url
        .host()
        .unwrap_or_default()
        .trim_matches(['[', ']'])
        .to_owned();
    let port = config.cluster_url.port_u16().unwrap_or(443);
    let name = config.tls_server_name.clone().unwrap_or_else(|| host.clone());
    let name = ServerName::try_from(name).map_err(|e| failed(e.into()))?;
    let pool = Pool {
        target: Arc::new(Target {
            connector: TlsConnector::from(Arc::new(tls)),
            host,
            port,
            name,
        }),
        slots: Arc::new(std::array::from_fn(|_| Mutex::new(None))),
        next: Arc::new(AtomicUsize::new(0)),
    };
    let auth = config.auth_layer().map_err(|e| failed(e.into()))?;
    let service = config
        .base_uri_layer()
        .layer(tower::util::option_layer(auth).layer(pool));
    Ok(kube::Client::new(service, config.default_namespace.clone()))
}

struct Target {
    connector: TlsConnector,
    host: String,
    port: u16,
    name: ServerName<'static>,
}

type Slot = Mutex<Option<SendRequest<Body>>>;

#[derive(Clone)]
struct Pool {
    target: Arc<Target>,
    slots: Arc<[Slot; CONNECTIONS]>,
    next: Arc<AtomicUsize>,
}

impl Service<Request<Body>> for Pool {
    type Response = Response<Incoming>;
    type Error = BoxError;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, BoxError>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let pool = self.clone();
        let turn = self.next.fetch_add(1, Ordering::Relaxed) % CONNECTIONS;
        Box::pin(async move {
            let mut sender = {
                let mut slot = pool.slots[turn].lock().await;
                match slot.as_ref().filter(|sender| !sender.is_closed()) {
                    Some(sender) => sender.clone(),
                    None => slot.insert(open(&pool.target).await?).clone(),
                }
            };
            sender.ready().await?;
            Ok(sender.send_request(request).await?)
        })
    }
}

async fn open(target: &Target) -> Result<SendRequest<Body>, BoxError> {
    let socket = TcpStream::connect((target.host.as_str(), target.port)).await?;
    socket.set_nodelay(true)?;
    let stream = target.connector.connect(target.name.clone(), socket).await?;
    let (sender, connection) = http2::Builder::new(TokioExecutor::new())
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(4 * STREAM_WINDOW)
        .handshake(TokioIo::new(stream))
        .await?;
    // The task ends when the pool drops the connection's last sender.
    tokio::spawn(async move {
        if let Err(error) = connection.await {
            tracing::debug!(%error, "a connection ended");
        }
    });
    Ok(sender)
}

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
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_util::sync::CancellationToken;

use crate::options::{Error, Tunnel};
use crate::streams;
use crate::worker::Shared;

/// Wait before the next dial, doubling up to the second value.
const REDIAL: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(15));
/// How long a connection may take until it is a tunnel.
const DIAL: Duration = Duration::from_secs(15);
/// A tunnel on which nothing moved is asked for a sign of life this often, and dropped when none comes.
const KEEP_ALIVE: Duration = Duration::from_secs(20);
/// Logs and commands at a time.
const STREAMS: u32 = 1024;

/// Dials the API server as the node.
pub(crate) struct Connector {
    address: String,
    server_name: ServerName<'static>,
    path: String,
    tls: TlsConnector,
}

impl Connector {
    pub(crate) fn new(tunnel: &Tunnel, node_name: &str) -> Result<Self, Error> {
        let unusable = |why: &dyn std::fmt::Display| Error::Identity(why.to_string());
        let certificates = |pem: &[u8]| -> Result<Vec<CertificateDer<'static>>, Error> {
            CertificateDer::pem_slice_iter(pem)
                .collect::<Result<_, _>>()
                .map_err(|error| unusable(&error))
        };
        let mut roots = rustls::RootCertStore::empty();
        for certificate in certificates(&tunnel.ca_pem)? {
            roots.add(certificate).map_err(|error| unusable(&error))?;
        }
        let chain = certificates(&tunnel.certificate_pem)?;
        let key = PrivateKeyDer::from_pem_slice(&tunnel.key_pem).map_err(|error| unusable(&error))?;
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let mut config = rustls::ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|error| unusable(&error))?
            .with_root_certificates(roots)
            .with_client_auth_cert(chain, key)
            .map_err(|error| unusable(&error))?;
        // Upgrades exist in HTTP/1.1 only.
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        let server_name =
            ServerName::try_from(tunnel.server_name.clone()).map_err(|error| unusable(&error))?;
        Ok(Self {
            address: tunnel.address.clone(),
            server_name,
            path: format!("/everynode/v1/nodes/{node_name}/tunnel"),
            tls: TlsConnector::from(Arc::new(config)),
        })
    }

    async fn dial(&self) -> Result<hyper::upgrade::Upgraded, String> {
        let stream = TcpStream::connect(&self.address)
            .await
            .map_err(|error| error.to_string())?;
        stream.set_nodelay(true).map_err(|error| error.to_string())?;
        let stream = self
            .tls
            .connect(self.server_name.clone(), stream)
            .await
            .map_err(|error| error.to_string())?;
        let handshake = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await;
        let (mut sender, connection) = handshake.map_err(|error| error.to_string())?;
        let request = Request::post(&self.path)
            .header("Host", &self.address)
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
            Ok(Err(why)) => tracing::debug!(address = connector.address, why, "dial the API server"),
            Err(_) => tracing::debug!(address = connector.address, "dial the API server: no answer"),
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
        .serve_connection(connection, service);
    if let Err(error) = served.await {
        tracing::debug!(%error, "the tunnel to the API server broke");
    }
}

/// Between half and all of a wait, so that the nodes of a restarted server do not come all at once.
fn jitter(wait: Duration) -> Duration {
    let noise = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .map_or(0, |now| now.subsec_nanos());
    let share = f64::from(noise % 1000) / 2000.0;
    wait.mul_f64(0.5 + share)
}

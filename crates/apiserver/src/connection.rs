//! Connections: taking them, TLS, and HTTP on them until they end.

use std::sync::Arc;
use std::time::Duration;

use http::Response;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tokio_util::sync::CancellationToken;

use crate::authenticate::{Holder, Peer};
use crate::body::Body;
use crate::limits::{
    CONNECTIONS_MAX, HANDSHAKE_TIMEOUT, HEADER_LIST_BYTES_MAX, HTTP1_BUFFER_BYTES_MAX,
    STREAMS_PER_CONNECTION_MAX,
};
use crate::service;
use crate::shared::Shared;

/// After a failure to accept (no file descriptor is left, as a rule) the listener rests this long.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Takes connections until the server stops.
pub(crate) async fn accept(
    shared: Arc<Shared>,
    listener: TcpListener,
    acceptor: TlsAcceptor,
    abort: CancellationToken,
) {
    let connections = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    loop {
        let accepted = async {
            let permit = connections.clone().acquire_owned().await;
            (permit, listener.accept().await)
        };
        let (permit, accepted) = tokio::select! {
            accepted = accepted => accepted,
            () = shared.stopping.cancelled() => return,
        };
        match (permit, accepted) {
            (Ok(permit), Ok((stream, _peer))) => {
                let connection = connection(shared.clone(), stream, acceptor.clone(), permit);
                let abort = abort.clone();
                shared.tasks.spawn(async move {
                    tokio::select! {
                        () = connection => {}
                        () = abort.cancelled() => {}
                    }
                });
            }
            (_, Err(error)) => {
                tracing::warn!(%error, "cannot accept a connection");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
            (Err(_closed), Ok(_)) => return,
        }
    }
}

/// Serves one connection to its end.
async fn connection(
    shared: Arc<Shared>,
    stream: TcpStream,
    acceptor: TlsAcceptor,
    _permit: OwnedSemaphorePermit,
) {
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(%error, "cannot switch off Nagle's algorithm");
    }
    let stream = match tokio::time::timeout(HANDSHAKE_TIMEOUT, handshake(stream, acceptor)).await {
        Ok(Ok(stream)) => stream,
        Ok(Err(error)) => return tracing::debug!(%error, "a TLS handshake failed"),
        Err(_) => return tracing::debug!("a TLS handshake took too long"),
    };
    let certificate = stream.get_ref().1.peer_certificates().and_then(<[_]>::first);
    let holder = certificate.and_then(|certificate| Holder::of_certificate(certificate));
    let peer = Peer::Connection(holder.map(Arc::new));
    let stopping = shared.stopping.clone();
    let answer = service_fn(move |request: http::Request<hyper::body::Incoming>| {
        let (shared, peer) = (shared.clone(), peer.clone());
        async move {
            Ok::<Response<Body>, std::convert::Infallible>(
                service::serve(shared, peer, request.map(Body::stream)).await,
            )
        }
    });
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(HANDSHAKE_TIMEOUT)
        .max_buf_size(HTTP1_BUFFER_BYTES_MAX);
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(STREAMS_PER_CONNECTION_MAX)
        .max_header_list_size(HEADER_LIST_BYTES_MAX);
    let serving = builder.serve_connection_with_upgrades(TokioIo::new(stream), answer);
    tokio::pin!(serving);
    let ended = tokio::select! {
        ended = serving.as_mut() => ended,
        () = stopping.cancelled() => {
            serving.as_mut().graceful_shutdown();
            serving.await
        }
    };
    if let Err(error) = ended {
        tracing::debug!(error, "a connection ended");
    }
}

/// Does the TLS handshake. Who speaks plain HTTP is told so in plain HTTP, as Go's server does.
async fn handshake(mut stream: TcpStream, acceptor: TlsAcceptor) -> std::io::Result<TlsStream<TcpStream>> {
    const HINT: &[u8] = b"HTTP/1.0 400 Bad Request\r\n\r\nClient sent an HTTP request to an HTTPS server.\n";
    let mut first = [0];
    // A method begins with a letter, a TLS record does not.
    if stream.peek(&mut first).await? == 1 && first[0].is_ascii_uppercase() {
        // A connection that is closed over unread bytes is reset, and the hint might be lost.
        let mut request = [0; 4096];
        let _bytes = stream.read(&mut request).await?;
        stream.write_all(HINT).await?;
        stream.shutdown().await?;
        return Err(std::io::Error::other("plain HTTP on the port for HTTPS"));
    }
    acceptor.accept(stream).await
}

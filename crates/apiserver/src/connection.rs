//! Accepts connections, does the TLS handshake, and serves HTTP on them until they end.

mod ruled;

use std::sync::Arc;
use std::time::Duration;

use http::Response;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tokio_util::sync::CancellationToken;

use self::ruled::{GuestPieces, HandshakeBytes, Ruled};
use crate::authenticate::Holder;
use crate::body::Body;
use crate::connections::{Address, Connection};
use crate::limits::{
    CONNECTION_WINDOW_WITHOUT_CERTIFICATE, HANDSHAKE_TIMEOUT, HEAD_BYTES_MAX,
    HEAD_BYTES_MAX_WITHOUT_CERTIFICATE, IDLE_TIMEOUT, LOCAL_RESETS_MAX, PENDING_RESETS_MAX, PING_INTERVAL,
    PING_TIMEOUT, STREAM_WINDOW_WITHOUT_CERTIFICATE, STREAMS_PER_CONNECTION_MAX,
};
use crate::service::{self, Origin};
use crate::shared::Shared;

/// Wait after a failed `accept`. Usually no file descriptor was left.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Timeout of the graceful end of a connection that the server closes.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(1);

/// Accepts connections until the server stops.
pub(crate) async fn accept(
    shared: Arc<Shared>,
    listener: TcpListener,
    acceptor: TlsAcceptor,
    abort: CancellationToken,
) {
    let mut is_failing = false;
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = shared.stopping.cancelled() => return,
        };
        let (stream, peer) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                // Logged once, because it fails again until files are closed.
                if !std::mem::replace(&mut is_failing, true) {
                    tracing::warn!(%error, "cannot accept a connection");
                }
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        is_failing = false;
        let Some(place) = shared.connections.open(Address::of(peer.ip())) else {
            tracing::debug!(%peer, "a connection was refused: all are in use");
            continue;
        };
        let connection = connection(shared.clone(), stream, acceptor.clone(), place);
        let abort = abort.clone();
        shared.tasks.spawn(async move {
            tokio::select! {
                () = connection => {}
                () = abort.cancelled() => {}
            }
        });
    }
}

/// Serves one connection until it ends or is closed in favor of newer ones.
async fn connection(shared: Arc<Shared>, stream: TcpStream, acceptor: TlsAcceptor, place: Arc<Connection>) {
    tokio::select! {
        () = place.closed() => tracing::debug!(address = %place.address(), "a connection gave way to newer ones"),
        () = serve(shared, stream, acceptor, &place) => {}
    }
}

/// Serves one connection until it ends, or until the server closes it (see
/// [`Connection::given_up`]).
async fn serve(shared: Arc<Shared>, stream: TcpStream, acceptor: TlsAcceptor, place: &Arc<Connection>) {
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(%error, "cannot switch off Nagle's algorithm");
    }
    let handshake = handshake(stream, acceptor, place);
    let mut stream = match tokio::time::timeout(HANDSHAKE_TIMEOUT, handshake).await {
        Ok(Ok(stream)) => stream,
        Ok(Err(error)) => return tracing::debug!(%error, "a TLS handshake failed"),
        Err(_) => return tracing::debug!("a TLS handshake took too long"),
    };
    stream.get_mut().0.rule.complete();
    let certificate = stream.get_ref().1.peer_certificates().and_then(<[_]>::first);
    let holder = certificate.and_then(|certificate| Holder::of_certificate(certificate));
    if let Some(holder) = &holder
        && let Ok(user) = holder.user(&shared, shared.clock.now())
    {
        // The result is ignored: a user with too many connections gets an error for the first
        // request.
        place.prove(&user);
    }
    place.shook_hands();
    let builder = builder(holder.is_some());
    let origin = Origin::connection(holder, place.clone());
    let stopping = shared.stopping.clone();
    let answer = service_fn(move |request: http::Request<hyper::body::Incoming>| {
        let (shared, origin) = (shared.clone(), origin.clone());
        async move {
            Ok::<Response<Body>, std::convert::Infallible>(
                service::serve(shared, origin, request.map(Body::stream)).await,
            )
        }
    });
    // An upgraded connection outlives this function, so its stream holds the place.
    let rule = GuestPieces::new(place.clone());
    let stream = Ruled { stream, rule };
    let serving = builder.serve_connection_with_upgrades(TokioIo::new(stream), answer);
    tokio::pin!(serving);
    let ended = tokio::select! {
        ended = serving.as_mut() => ended,
        () = stopping.cancelled() => {
            serving.as_mut().graceful_shutdown();
            serving.await
        }
        why = place.given_up() => {
            tracing::debug!(address = %place.address(), why, "a connection is given up");
            serving.as_mut().graceful_shutdown();
            tokio::time::timeout(CLOSE_TIMEOUT, serving).await.unwrap_or(Ok(()))
        }
    };
    if let Err(error) = ended {
        tracing::debug!(error, "a connection ended");
    }
}

fn builder(has_certificate: bool) -> auto::Builder<TokioExecutor> {
    let mut builder = auto::Builder::new(TokioExecutor::new());
    let head_bytes = match has_certificate {
        true => HEAD_BYTES_MAX,
        false => HEAD_BYTES_MAX_WITHOUT_CERTIFICATE,
    };
    builder
        .http1()
        .timer(TokioTimer::new())
        // This timeout starts at the end of the last request. The first request has a shorter one
        // (`Connection::given_up`).
        .header_read_timeout(IDLE_TIMEOUT)
        .max_buf_size(head_bytes);
    builder
        .http2()
        .timer(TokioTimer::new())
        .keep_alive_interval(PING_INTERVAL)
        .keep_alive_timeout(PING_TIMEOUT)
        .max_pending_accept_reset_streams(PENDING_RESETS_MAX)
        .max_local_error_reset_streams(LOCAL_RESETS_MAX)
        .max_concurrent_streams(STREAMS_PER_CONNECTION_MAX)
        .max_header_list_size(u32::try_from(head_bytes).unwrap_or(u32::MAX));
    if !has_certificate {
        builder
            .http2()
            .initial_stream_window_size(STREAM_WINDOW_WITHOUT_CERTIFICATE)
            .initial_connection_window_size(CONNECTION_WINDOW_WITHOUT_CERTIFICATE);
    }
    builder
}

/// Does the TLS handshake. A client that sends plain HTTP gets an error in plain HTTP, as with Go's
/// server.
async fn handshake(
    mut stream: TcpStream,
    acceptor: TlsAcceptor,
    place: &Connection,
) -> std::io::Result<TlsStream<Ruled<TcpStream, HandshakeBytes>>> {
    const HINT: &[u8] = b"HTTP/1.0 400 Bad Request\r\n\r\nClient sent an HTTP request to an HTTPS server.\n";
    let mut first = [0];
    let peeked = stream.peek(&mut first).await?;
    if !place.speaks() {
        return Err(std::io::Error::other("its address begins too many handshakes"));
    }
    // An HTTP method begins with a letter, a TLS record does not.
    if peeked == 1 && first[0].is_ascii_uppercase() {
        // Reads the request first: the kernel resets a connection that is closed with unread bytes,
        // and the hint might be lost.
        let mut request = [0; 4096];
        let _bytes = stream.read(&mut request).await?;
        stream.write_all(HINT).await?;
        stream.shutdown().await?;
        return Err(std::io::Error::other("plain HTTP on the port for HTTPS"));
    }
    let rule = HandshakeBytes::new();
    acceptor.accept(Ruled { stream, rule }).await
}

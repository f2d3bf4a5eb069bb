//! `POST /dial/pod/<namespace>/<pod>/<uid>/<port>` and `POST /dial/node/<port>`: a stream to a port, as the request's body and the
//! answer's.
//!
//! The agent dials its own pods, by the addresses that it gave them, and its own node, and nothing else: no request can name
//! an address.

use std::io;
use std::net::IpAddr;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use futures::StreamExt;
use http::{Method, Request, Response, StatusCode};
use http_body_util::{BodyExt, StreamBody};
use hyper::body::{Frame, Incoming};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio_util::task::AbortOnDropHandle;

use super::{Body, refuse};
use crate::worker::Shared;

/// How long a port may take to accept.
const DIAL: Duration = Duration::from_secs(10);
/// What is read at a time.
const PIECE: usize = 16 * 1024;

/// A stream to a port of a pod, which must be the one with this uid: its name may be another's by now.
pub(super) async fn pod(
    shared: &Shared,
    [namespace, name, uid]: [&str; 3],
    port: &str,
    request: Request<Incoming>,
) -> Response<Body> {
    if shared.uid(namespace, name).as_deref() != Some(uid) {
        return refuse(
            StatusCode::NOT_FOUND,
            &format!("pod {name:?} is not on this node"),
        );
    }
    let Some(pod) = shared.runtime.pod(uid) else {
        return refuse(
            StatusCode::SERVICE_UNAVAILABLE,
            &format!("pod {name:?} does not run"),
        );
    };
    let address = pod.network().and_then(|network| network.ips().next());
    dial(address.or_else(|| host(shared)), port, request).await
}

/// A stream to a port of the node itself.
pub(super) async fn node(shared: &Shared, port: &str, request: Request<Incoming>) -> Response<Body> {
    dial(host(shared), port, request).await
}

fn host(shared: &Shared) -> Option<IpAddr> {
    shared.addresses.borrow().first().copied()
}

async fn dial(address: Option<IpAddr>, port: &str, request: Request<Incoming>) -> Response<Body> {
    let port = port.parse::<u16>().ok().filter(|port| *port != 0);
    let (Some(address), Some(port)) = (address, port) else {
        return refuse(StatusCode::BAD_REQUEST, "there is no such port");
    };
    if request.method() != Method::POST {
        return refuse(StatusCode::BAD_REQUEST, "a stream is opened with POST");
    }
    let refused = |why: &dyn std::fmt::Display| {
        let target = std::net::SocketAddr::new(address, port);
        refuse(
            StatusCode::SERVICE_UNAVAILABLE,
            &format!("dial tcp {target}: {why}"),
        )
    };
    match tokio::time::timeout(DIAL, TcpStream::connect((address, port))).await {
        Ok(Ok(stream)) => {
            if let Err(error) = stream.set_nodelay(true) {
                tracing::debug!(%error, "a stream to a port is not sent at once");
            }
            joined(stream, request.into_body())
        }
        Ok(Err(error)) => refused(&why(&error)),
        Err(_) => refused(&"i/o timeout"),
    }
}

/// Why a port did not accept, in the words that Kubernetes' clients know.
fn why(error: &io::Error) -> String {
    let known = match error.kind() {
        io::ErrorKind::ConnectionRefused => "connection refused",
        io::ErrorKind::HostUnreachable => "no route to host",
        io::ErrorKind::NetworkUnreachable => "network is unreachable",
        io::ErrorKind::TimedOut => "connection timed out",
        _ => return error.to_string(),
    };
    format!("connect: {known}")
}

/// What the port sends is the answer's body; the request's body goes to the port for as long as that lasts.
fn joined(stream: TcpStream, body: Incoming) -> Response<Body> {
    let (from_port, to_port) = stream.into_split();
    let upward = AbortOnDropHandle::new(tokio::spawn(send(body, to_port)));
    let pieces = futures::stream::unfold((from_port, upward), |(mut from_port, upward)| async move {
        let piece = receive(&mut from_port).await.transpose()?;
        Some((piece, (from_port, upward)))
    });
    let frames = pieces.map(|piece| piece.map(Frame::data));
    Response::new(BodyExt::boxed(StreamBody::new(frames)))
}

async fn receive(from_port: &mut OwnedReadHalf) -> io::Result<Option<Bytes>> {
    let mut piece = BytesMut::with_capacity(PIECE);
    let read = from_port.read_buf(&mut piece).await?;
    Ok((read > 0).then(|| piece.freeze()))
}

async fn send(mut body: Incoming, mut to_port: OwnedWriteHalf) {
    while let Some(Ok(frame)) = body.frame().await {
        let Ok(bytes) = frame.into_data() else { continue };
        if to_port.write_all(&bytes).await.is_err() {
            return;
        }
    }
    // The end of what the client sends; the port may still answer.
    to_port.shutdown().await.unwrap_or_default();
}

//! Copies bytes between a client's stream and a node's agent: the request's body to the agent, and
//! the body of its response to the client.

use std::pin::pin;

use bytes::{Bytes, BytesMut};
use futures::future::{self, Either};
use futures::stream;
use http_body::Frame;
use http_body_util::{BodyExt, StreamBody};
use hyper::body::Incoming;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadHalf, WriteHalf};
use tokio::sync::mpsc;

use crate::body::{Body, BoxError};
use crate::limits::{DISCARD_TIMEOUT, UPGRADE_BUFFER_BYTES};

/// Buffers in the queue to the agent. With a few, a slow agent slows the client and does not fill
/// the memory.
pub(crate) const BUFFERS_IN_FLIGHT: usize = 4;

/// Returns the body of the request to the agent.
pub(crate) fn body(from_client: mpsc::Receiver<Bytes>) -> Body {
    let frames = stream::unfold(from_client, |mut from_client| async move {
        let bytes = from_client.recv().await?;
        Some((Ok::<_, BoxError>(Frame::data(bytes)), from_client))
    });
    Body::stream(StreamBody::new(frames))
}

/// Copies in both directions until the agent's response ends.
pub(crate) async fn relay<S: AsyncRead + AsyncWrite>(
    client: S,
    to_agent: mpsc::Sender<Bytes>,
    from_agent: Incoming,
) -> Result<(), BoxError> {
    let (from_client, to_client) = tokio::io::split(client);
    let upward = pin!(client_to_agent(from_client, to_agent));
    let downward = pin!(agent_to_client(from_agent, to_client));
    // When the client disconnects, the request's body ends. Then the agent ends its work and its
    // response. If it does not, its stream is reset when this returns.
    match future::select(downward, upward).await {
        Either::Left((ended, _)) => ended,
        Either::Right(((), downward)) => tokio::time::timeout(DISCARD_TIMEOUT, downward).await?,
    }
}

async fn client_to_agent<S: AsyncRead>(mut client: ReadHalf<S>, agent: mpsc::Sender<Bytes>) {
    let mut buffer = BytesMut::with_capacity(UPGRADE_BUFFER_BYTES);
    loop {
        buffer.reserve(UPGRADE_BUFFER_BYTES);
        let read = tokio::select! {
            read = client.read_buf(&mut buffer) => read,
            () = agent.closed() => return,
        };
        match read {
            Ok(1..) => {
                if agent.send(buffer.split().freeze()).await.is_err() {
                    return;
                }
            }
            Ok(0) | Err(_) => return,
        }
    }
}

async fn agent_to_client<S: AsyncWrite>(
    mut agent: Incoming,
    mut client: WriteHalf<S>,
) -> Result<(), BoxError> {
    while let Some(frame) = agent.frame().await {
        if let Ok(bytes) = frame?.into_data() {
            client.write_all(&bytes).await?;
            client.flush().await?;
        }
    }
    client.shutdown().await?;
    Ok(())
}

//! Opens a stream to a port, through the agent of the port's node.

use std::sync::Arc;

use api::status::Status;
use bytes::Bytes;
use percent_encoding::utf8_percent_encode;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite, DuplexStream};
use tokio::sync::mpsc;
use tokio_rustls::TlsConnector;

use super::place::{Of, Port};
use crate::limits::UPGRADE_BUFFER_BYTES;
use crate::relay;
use crate::shared::Shared;
use crate::subresource::log::{SEGMENT, agent_failure};

/// A stream, encrypted or not.
pub(super) trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<S: AsyncRead + AsyncWrite + Send + Unpin> Stream for S {}

/// Returns 503 with Kubernetes' message.
pub(super) fn unreachable(why: impl std::fmt::Display) -> Status {
    Status::unavailable(format!("error trying to reach service: {why}"))
}

/// Opens a stream to a port.
pub(super) async fn open(shared: &Arc<Shared>, place: &Port) -> Result<Box<dyn Stream>, Status> {
    let plain = dial(shared, place).await?;
    if !place.tls {
        return Ok(Box::new(plain));
    }
    let name = place.host.rsplit_once(':').map_or(&*place.host, |(name, _)| name);
    let name = ServerName::try_from(name.trim_matches(['[', ']']).to_owned()).map_err(unreachable)?;
    let connector = TlsConnector::from(Arc::new(tls::believing_any_server()));
    let encrypted = connector.connect(name, plain).await.map_err(unreachable)?;
    Ok(Box::new(encrypted))
}

async fn dial(shared: &Arc<Shared>, place: &Port) -> Result<DuplexStream, Status> {
    let port = place.port;
    let path = match &place.of {
        Of::Node => format!("/dial/node/{port}"),
        Of::Pod { namespace, name, uid } => {
            let [namespace, name, uid] =
                [namespace, name, uid].map(|text| utf8_percent_encode(text, SEGMENT));
            format!("/dial/pod/{namespace}/{name}/{uid}/{port}")
        }
    };
    let (to_agent, from_client) = mpsc::channel::<Bytes>(relay::BUFFERS_IN_FLIGHT);
    let request = http::Request::post(format!("http://{}{path}", place.node))
        .body(relay::body(from_client))
        .map_err(Status::internal)?;
    let response = shared.tunnels.send(&place.node, request).await?;
    if !response.status().is_success() {
        return Err(unreachable(agent_failure(response).await.message));
    }
    let (near, far) = tokio::io::duplex(UPGRADE_BUFFER_BYTES);
    let stopping = shared.stopping.clone();
    shared.tasks.spawn(async move {
        tokio::select! {
            ended = relay::relay(far, to_agent, response.into_body()) => {
                if let Err(error) = ended {
                    tracing::debug!(error, "a proxied stream broke off");
                }
            }
            () = stopping.cancelled() => {}
        }
    });
    Ok(near)
}

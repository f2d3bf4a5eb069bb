//! HTTP and gRPC requests of probes and hooks: one connection each, certificates not checked, as the kubelet does it.

use std::sync::Arc;

use bytes::Bytes;
use http_body_util::{BodyExt, Full, Limited};
use hyper::Request;
use hyper_util::rt::{TokioExecutor, TokioIo};
use k8s_openapi::api::core::v1::HTTPGetAction;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

/// What is read of an answer: enough for any health page, in bytes.
const BODY: usize = 10 << 10;

/// Sends the request of a probe or hook; answers the status code. A redirect is an answer.
pub(crate) async fn get(
    action: &HTTPGetAction,
    pod_host: &str,
    port: u16,
    agent: &str,
) -> Result<u16, String> {
    let named = action.host.as_deref().filter(|host| !host.is_empty());
    let host = named.unwrap_or(pod_host);
    let scheme = action.scheme.as_deref().unwrap_or("HTTP").to_ascii_lowercase();
    let path = action
        .path
        .as_deref()
        .filter(|path| !path.is_empty())
        .unwrap_or("/");
    let path = if path.starts_with('/') {
        path.to_owned()
    } else {
        format!("/{path}")
    };
    let url = format!("{scheme}://{host}:{port}{path}");
    let failed = |why: String| format!("Get \"{url}\": {why}");

    let mut request = Request::get(&path)
        .header("User-Agent", agent)
        .header("Accept", "*/*");
    let mut host_header = format!("{host}:{port}");
    for header in action.http_headers.iter().flatten() {
        if header.name.eq_ignore_ascii_case("host") {
            host_header.clone_from(&header.value);
        } else {
            request = request.header(&header.name, &header.value);
        }
    }
    let request = request.header("Host", host_header).header("Connection", "close");
    let request = request
        .body(Full::<Bytes>::default())
        .map_err(|error| failed(error.to_string()))?;
    let stream = TcpStream::connect((host.trim_matches(['[', ']']), port)).await;
    let stream = stream.map_err(|error| failed(format!("dial tcp {host}:{port}: {error}")))?;
    let answered = if scheme == "https" {
        let name = ServerName::try_from(host.trim_matches(['[', ']']).to_owned());
        let name = name.map_err(|error| failed(error.to_string()))?;
        // A probe asks whether the server answers, not who it is.
        let stream = TlsConnector::from(Arc::new(tls::believing_any_server()))
            .connect(name, stream)
            .await
            .map_err(|error| failed(error.to_string()))?;
        send(stream, request).await
    } else {
        send(stream, request).await
    };
    answered.map_err(failed)
}

async fn send<S>(stream: S, request: Request<Full<Bytes>>) -> Result<u16, String>
where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let text = |error: hyper::Error| error.to_string();
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
        .await
        .map_err(text)?;
    let exchange = async {
        let response = sender.send_request(request).await.map_err(text)?;
        let status = response.status().as_u16();
        // The rest of a long page tells nothing more.
        drop(Limited::new(response.into_body(), BODY).collect().await);
        Ok(status)
    };
    tokio::pin!(connection);
    tokio::pin!(exchange);
    let mut open = true;
    loop {
        tokio::select! {
            status = &mut exchange => return status,
            _ = &mut connection, if open => open = false,
        }
    }
}

/// Asks a gRPC server's health service; an error unless it is SERVING.
pub(crate) async fn grpc_health(address: &str, service: &str) -> Result<(), String> {
    let failed = |why: String| format!("grpc health check of {address}: {why}");
    let stream = TcpStream::connect(address)
        .await
        .map_err(|error| failed(error.to_string()))?;
    let handshake = hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await;
    let (mut sender, connection) = handshake.map_err(|error| failed(error.to_string()))?;
    let name = service.as_bytes();
    let length = u8::try_from(name.len()).ok().filter(|length| *length < 128);
    let length = length.ok_or_else(|| failed("the service's name is too long".into()))?;
    // HealthCheckRequest{service}: field 1, a string; before it a gRPC frame: not compressed, four bytes of length.
    let mut message = Vec::new();
    if length > 0 {
        message.extend([0x0a, length]);
        message.extend(name);
    }
    let mut frame = vec![0, 0, 0, 0, u8::try_from(message.len()).unwrap_or(u8::MAX)];
    frame.extend(message);
    let request = Request::post(format!("http://{address}/grpc.health.v1.Health/Check"))
        .header("content-type", "application/grpc")
        .header("te", "trailers")
        .body(Full::new(Bytes::from(frame)))
        .map_err(|error| failed(error.to_string()))?;
    let exchange = async {
        let response = sender
            .send_request(request)
            .await
            .map_err(|error| failed(error.to_string()))?;
        let body = Limited::new(response.into_body(), BODY).collect().await;
        let body = body.map_err(|error| failed(error.to_string()))?.to_bytes();
        // HealthCheckResponse{status: SERVING}: field 1, the number 1.
        match body.get(5..) {
            Some([0x08, 0x01, ..]) => Ok(()),
            _ => Err(failed("the service is not SERVING".into())),
        }
    };
    tokio::pin!(connection);
    tokio::pin!(exchange);
    let mut open = true;
    loop {
        tokio::select! {
            result = &mut exchange => return result,
            _ = &mut connection, if open => open = false,
        }
    }
}

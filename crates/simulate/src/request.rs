//! Requests and their errors.

use http::{Method, Request, header};
use http_body_util::BodyExt;
use kube::client::Body;
use serde_json::Value;

/// Why nodes cannot be simulated.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The server rejected the request.
    #[error("{method} {path}: {code}: {message}")]
    Refused {
        /// The request's method.
        method: Method,
        /// Its path.
        path: String,
        /// The HTTP status.
        code: u16,
        /// The server's message.
        message: String,
    },
    /// No response came.
    #[error("{method} {path}")]
    Unanswered {
        /// The request's method.
        method: Method,
        /// Its path.
        path: String,
        /// The cause.
        #[source]
        source: kube::Error,
    },
    /// The range is too small for the parts of all nodes.
    #[error(
        "{range} has room for the pods of {room} nodes, a /25 each, and {wanted} are played: name a larger range"
    )]
    SmallRange {
        /// The range.
        range: ipnet::Ipv4Net,
        /// Number of nodes for which it has room.
        room: u64,
        /// Number of nodes.
        wanted: u64,
    },
    /// The kubeconfig cannot be used.
    #[error("connect to {url}")]
    Connect {
        /// The server's URL.
        url: String,
        /// The cause.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}

impl Error {
    /// Returns the HTTP status, or 0 without a response.
    pub(crate) fn code(&self) -> u16 {
        match self {
            Error::Refused { code, .. } => *code,
            _ => 0,
        }
    }
}

/// Longest part of an error's body that is kept, in bytes.
const MESSAGE_LIMIT: usize = 300;

#[derive(Clone)]
pub(crate) struct Api {
    pub(crate) client: kube::Client,
}

impl Api {
    pub(crate) fn new(client: kube::Client) -> Self {
        Self { client }
    }

    /// Sends a request and returns the body of the response.
    pub(crate) async fn send(
        &self,
        method: Method,
        path: &str,
        media_type: &'static str,
        body: &Value,
    ) -> Result<Vec<u8>, Error> {
        let request = Request::builder()
            .method(method.clone())
            .uri(path)
            .header(header::CONTENT_TYPE, media_type)
            .body(Body::from(body.to_string().into_bytes()));
        let unanswered = |source| Error::Unanswered {
            method: method.clone(),
            path: path.to_owned(),
            source,
        };
        let request = request.map_err(|e| unanswered(kube::Error::HttpError(e)))?;
        let response = self.client.send(request).await.map_err(unanswered)?;
        let code = response.status();
        let body = response
            .into_body()
            .collect()
            .await
            .map_err(unanswered)?
            .to_bytes();
        if code.is_success() {
            return Ok(body.into());
        }
        let text = String::from_utf8_lossy(&body[..body.len().min(MESSAGE_LIMIT)]).into_owned();
        let message = serde_json::from_slice::<Value>(&body)
            .ok()
            .and_then(|status| Some(status.get("message")?.as_str()?.to_owned()))
            .unwrap_or(text);
        Err(Error::Refused {
            method,
            path: path.to_owned(),
            code: code.as_u16(),
            message,
        })
    }
}

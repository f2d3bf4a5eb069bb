//! Requests, and what can go wrong with them.

use http::{Method, Request, header};
use http_body_util::BodyExt;
use kube::client::Body;
use serde_json::Value;

/// Why the nodes cannot be played.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The server refused.
    #[error("{method} {path}: {code}: {message}")]
    Refused {
        /// The request's method.
        method: Method,
        /// Its path.
        path: String,
        /// The HTTP status.
        code: u16,
        /// The server's words.
        message: String,
    },
    /// No answer came.
    #[error("{method} {path}")]
    Unanswered {
        /// The request's method.
        method: Method,
        /// Its path.
        path: String,
        /// Why.
        #[source]
        source: kube::Error,
    },
    /// The range that the nodes bring has no part for each.
    #[error(
        "{range} has room for the pods of {room} nodes, a /25 each, and {wanted} are played: name a larger range"
    )]
    SmallRange {
        /// The range.
        range: ipnet::Ipv4Net,
        /// For how many nodes it has room.
        room: u64,
        /// How many there are.
        wanted: u64,
    },
    /// The kubeconfig cannot be used.
    #[error("connect to {url}")]
    Connect {
        /// The server's URL.
        url: String,
        /// Why.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}

impl Error {
    /// The HTTP status, 0 without an answer.
    pub(crate) fn code(&self) -> u16 {
        match self {
            Error::Refused { code, .. } => *code,
            _ => 0,
        }
    }
}

/// The longest part of an error's body that is told.
const MESSAGE_LIMIT: usize = 300;

#[derive(Clone)]
pub(crate) struct Api {
    pub(crate) client: kube::Client,
}

impl Api {
    pub(crate) fn new(client: kube::Client) -> Self {
        Self { client }
    }

    /// Sends, and returns the answer's body.
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

//! Requests to the API server, and their errors.
//!
//! A controller does not parse the response to its own write. It receives the change from its
//! watch, like all other changes. So a write costs only its encoding, and its response is dropped
//! unparsed.

use std::time::Duration;

use bytes::Bytes;
use http::{Method, Request, StatusCode, header};
use http_body_util::BodyExt;
use kube::client::Body;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

/// Longest error body that is read. A Status has a few hundred bytes; a longer body is not a
/// Status.
const ERROR_BODY_LIMIT: usize = 64 << 10;

/// Longest response to a write that is read: an object has at most 3 MiB.
const ANSWER_LIMIT: usize = 4 << 20;

/// `application/strategic-merge-patch+json`
pub const STRATEGIC: &str = "application/strategic-merge-patch+json";
/// `application/merge-patch+json`
pub const MERGE: &str = "application/merge-patch+json";

/// A request that did not succeed.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// The server answered with an error.
    #[error("{method} {path}: {code} {reason}: {message}")]
    Refused {
        /// The request's method.
        method: Method,
        /// The request's path, without its query.
        path: String,
        /// The HTTP status.
        code: u16,
        /// `NotFound`, `Conflict`, …; empty when the answer was no Status.
        reason: String,
        /// The server's message.
        message: String,
        /// `details.causes[].reason`.
        causes: Vec<String>,
        /// `details.retryAfterSeconds`, or the header's.
        retry_after: Option<Duration>,
    },
    /// No response came.
    #[error("{method} {path}")]
    Unanswered {
        /// The request's method.
        method: Method,
        /// The request's path, without its query.
        path: String,
        /// The cause.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The response could not be parsed.
    #[error("answer of {method} {path}")]
    Unreadable {
        /// The request's method.
        method: Method,
        /// The request's path, without its query.
        path: String,
        /// The cause.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}

impl Failure {
    /// Returns the HTTP status, or 0 without a response.
    pub fn code(&self) -> u16 {
        match self {
            Failure::Refused { code, .. } => *code,
            _ => 0,
        }
    }

    /// Returns whether the object does not exist (404).
    pub fn is_not_found(&self) -> bool {
        self.code() == 404
    }

    /// Returns whether a precondition failed, the object changed meanwhile, or it exists already
    /// (409).
    pub fn is_conflict(&self) -> bool {
        self.code() == 409
    }

    /// Returns whether an object of that name exists already.
    pub fn already_exists(&self) -> bool {
        matches!(self, Failure::Refused { code: 409, reason, .. } if reason == "AlreadyExists")
    }

    /// Returns whether the namespace is being deleted, so that nothing can be created in it.
    pub fn namespace_terminating(&self) -> bool {
        matches!(self, Failure::Refused { causes, .. } if causes.iter().any(|c| c == "NamespaceTerminating"))
    }

    /// Returns the message for an Event or a condition: the server's own message if there is one.
    pub fn message(&self) -> String {
        match self {
            Failure::Refused { message, .. } => message.clone(),
            other => match std::error::Error::source(other) {
                Some(source) => format!("{other}: {source}"),
                None => other.to_string(),
            },
        }
    }
}

/// Preconditions and propagation of a deletion.
#[derive(Clone, Copy, Debug, Default)]
pub struct DeleteOptions<'a> {
    /// `preconditions.uid`
    pub uid: Option<&'a str>,
    /// `preconditions.resourceVersion`
    pub resource_version: Option<&'a str>,
    /// `gracePeriodSeconds`
    pub grace_seconds: Option<u32>,
    /// `propagationPolicy`
    pub propagation: Option<&'a str>,
}

impl DeleteOptions<'_> {
    fn body(&self) -> Vec<u8> {
        let mut options = json!({"apiVersion": "v1", "kind": "DeleteOptions"});
        if let Some(uid) = self.uid {
            options["preconditions"]["uid"] = uid.into();
        }
        if let Some(version) = self.resource_version {
            options["preconditions"]["resourceVersion"] = version.into();
        }
        if let Some(seconds) = self.grace_seconds {
            options["gracePeriodSeconds"] = seconds.into();
        }
        if let Some(propagation) = self.propagation {
            options["propagationPolicy"] = propagation.into();
        }
        encode(&options)
    }
}

/// Client of the API server, as controllers use it.
#[derive(Clone)]
pub struct Api {
    client: kube::Client,
}

impl Api {
    /// Returns an API over `client`, in process or remote.
    pub fn new(client: kube::Client) -> Self {
        Self { client }
    }

    /// Sends a GET and parses the response.
    pub async fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, Failure> {
        let bytes = self.call(Method::GET, path, None, Vec::new()).await?;
        serde_json::from_slice(&bytes).map_err(|e| unreadable(Method::GET, path, e))
    }

    /// Creates an object with POST; drops the response.
    pub async fn create(&self, collection: &str, object: &Value) -> Result<(), Failure> {
        self.write(Method::POST, collection, "application/json", encode(object))
            .await
    }

    /// Creates an object that is encoded already, with POST; drops the response.
    pub async fn create_raw(&self, collection: &str, object: Vec<u8>) -> Result<(), Failure> {
        self.write(Method::POST, collection, "application/json", object)
            .await
    }

    /// Replaces an object with PUT; drops the response.
    pub async fn replace(&self, path: &str, object: &Value) -> Result<(), Failure> {
        self.write(Method::PUT, path, "application/json", encode(object))
            .await
    }

    /// Patches with [`STRATEGIC`] or [`MERGE`]; drops the response.
    pub async fn patch(&self, path: &str, media_type: &'static str, patch: &Value) -> Result<(), Failure> {
        self.write(Method::PATCH, path, media_type, encode(patch)).await
    }

    /// Writes, and parses the fields of `T` from the response.
    pub async fn write_and_read<T: DeserializeOwned>(
        &self,
        method: Method,
        path: &str,
        media_type: &'static str,
        body: &Value,
    ) -> Result<T, Failure> {
        let header = Some((header::CONTENT_TYPE, media_type));
        let bytes = self.call(method.clone(), path, header, encode(body)).await?;
        serde_json::from_slice(&bytes).map_err(|e| unreadable(method, path, e))
    }

    /// Deletes the object, or all objects when the path is a collection's; drops the response.
    pub async fn delete(&self, path: &str, options: DeleteOptions<'_>) -> Result<(), Failure> {
        self.write(Method::DELETE, path, "application/json", options.body())
            .await
    }

    /// Sends an encoded request. Returns the response with any status, and at most [`ANSWER_LIMIT`]
    /// bytes of its body.
    pub async fn answer(
        &self,
        method: Method,
        path: &str,
        content_type: Option<&'static str>,
        body: Vec<u8>,
    ) -> Result<(u16, Vec<u8>), Failure> {
        let header = content_type.map(|t| (header::CONTENT_TYPE, t));
        let response = self.exchange(&method, path, header, body).await?;
        let code = response.status().as_u16();
        let mut answer = response.into_body();
        let mut bytes = Vec::new();
        while let Some(frame) = answer.frame().await {
            let frame = frame.map_err(|e| unreadable(method.clone(), path, e))?;
            if let Some(data) = frame.data_ref() {
                bytes.extend_from_slice(&data[..data.len().min(ANSWER_LIMIT.saturating_sub(bytes.len()))]);
            }
        }
        Ok((code, bytes))
    }

    /// Opens a request whose response is read as a stream.
    pub(crate) async fn open(&self, path: &str, accept: Option<&'static str>) -> Result<Body, Failure> {
        self.send(Method::GET, path, accept.map(|a| (header::ACCEPT, a)), Vec::new())
            .await
    }

    /// Sends a GET for another representation and parses the response.
    pub async fn get_as<T: DeserializeOwned>(&self, path: &str, accept: &'static str) -> Result<T, Failure> {
        let bytes = self
            .call(Method::GET, path, Some((header::ACCEPT, accept)), Vec::new())
            .await?;
        serde_json::from_slice(&bytes).map_err(|e| unreadable(Method::GET, path, e))
    }

    async fn write(
        &self,
        method: Method,
        path: &str,
        media_type: &'static str,
        body: Vec<u8>,
    ) -> Result<(), Failure> {
        let mut answer = self
            .send(method, path, Some((header::CONTENT_TYPE, media_type)), body)
            .await?;
        // Read to the end, so that an HTTP/1 connection can be reused. An error here is no failure,
        // because the write is done.
        while let Some(Ok(_)) = answer.frame().await {}
        Ok(())
    }

    async fn call(
        &self,
        method: Method,
        path: &str,
        header: Option<(header::HeaderName, &'static str)>,
        body: Vec<u8>,
    ) -> Result<Bytes, Failure> {
        let answer = self.send(method.clone(), path, header, body).await?;
        let collected = answer.collect().await.map_err(|e| unreadable(method, path, e))?;
        Ok(collected.to_bytes())
    }

    async fn send(
        &self,
        method: Method,
        path: &str,
        header: Option<(header::HeaderName, &'static str)>,
        body: Vec<u8>,
    ) -> Result<Body, Failure> {
        let response = self.exchange(&method, path, header, body).await?;
        if response.status().is_success() {
            return Ok(response.into_body());
        }
        Err(refusal(method, path, response).await)
    }

    async fn exchange(
        &self,
        method: &Method,
        path: &str,
        header: Option<(header::HeaderName, &'static str)>,
        body: Vec<u8>,
    ) -> Result<http::Response<Body>, Failure> {
        let mut request = Request::builder().method(method.clone()).uri(path);
        if let Some((name, value)) = header {
            request = request.header(name, value);
        }
        let unanswered = |source| Failure::Unanswered {
            method: method.clone(),
            path: bare(path),
            source,
        };
        let request = request.body(Body::from(body)).map_err(|e| unanswered(e.into()))?;
        self.client.send(request).await.map_err(|e| unanswered(e.into()))
    }
}

fn encode(value: &Value) -> Vec<u8> {
    // A Value has string keys and no numbers that JSON lacks, so its encoding cannot fail.
    serde_json::to_vec(value).unwrap_or_default()
}

fn bare(path: &str) -> String {
    path.split('?').next().unwrap_or(path).to_owned()
}

fn unreadable(
    method: Method,
    path: &str,
    source: impl Into<Box<dyn std::error::Error + Send + Sync>>,
) -> Failure {
    Failure::Unreadable {
        method,
        path: bare(path),
        source: source.into(),
    }
}

#[derive(Deserialize, Default)]
#[serde(default, rename_all = "camelCase")]
struct Status {
    reason: String,
    message: String,
    code: u16,
    details: Details,
}

#[derive(Deserialize, Default)]
#[serde(default, rename_all = "camelCase")]
struct Details {
    causes: Vec<Cause>,
    retry_after_seconds: u32,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Cause {
    reason: String,
}

async fn refusal(method: Method, path: &str, response: http::Response<Body>) -> Failure {
    let code = response.status();
    let header = response
        .headers()
        .get(header::RETRY_AFTER)
        .and_then(|v| v.to_str().ok()?.parse::<u32>().ok());
    let mut body = response.into_body();
    let mut bytes = Vec::new();
    while let Some(Ok(frame)) = body.frame().await {
        if let Some(data) = frame.data_ref() {
            bytes.extend_from_slice(&data[..data.len().min(ERROR_BODY_LIMIT.saturating_sub(bytes.len()))]);
        }
    }
    let mut refused = status_failure(&method, path, &bytes, code);
    if let (Failure::Refused { retry_after, .. }, Some(seconds)) = (&mut refused, header) {
        retry_after.get_or_insert(Duration::from_secs(seconds.into()));
    }
    refused
}

/// Parses a Status from the body of an error or from an ERROR event of a watch.
pub(crate) fn status_failure(method: &Method, path: &str, body: &[u8], code: StatusCode) -> Failure {
    let status: Status = serde_json::from_slice(body).unwrap_or_default();
    let message = if status.message.is_empty() {
        code.to_string()
    } else {
        status.message
    };
    Failure::Refused {
        method: method.clone(),
        path: bare(path),
        code: if status.code == 0 {
            code.as_u16()
        } else {
            status.code
        },
        reason: status.reason,
        message,
        causes: status.details.causes.into_iter().map(|c| c.reason).collect(),
        retry_after: match status.details.retry_after_seconds {
            0 => None,
            seconds => Some(Duration::from_secs(seconds.into())),
        },
    }
}

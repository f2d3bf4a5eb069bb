//! Connection to an API server, from a kubeconfig.

use std::path::PathBuf;

use anyhow::{Context, Result};
use clap::Args;
use futures::{AsyncBufReadExt, TryStreamExt};
use http::{Method, Request, header};
use http_body_util::BodyExt;
use kube::client::Body;
use serde_json::Value;

use super::error::{ServerError, is_expired};
use super::kubeconfig::{self, Source};
use super::resources::escape;
use super::unreachable::Peer;

/// Flags that every client verb takes.
#[derive(Args, Debug, Clone)]
pub(crate) struct ConnectArgs {
    /// Kubeconfig file (default: $KUBECONFIG, then ~/.kube/config, then the one of the server on
    /// this machine)
    #[arg(long, global = true, value_name = "FILE", help_heading = "Connection")]
    kubeconfig: Option<PathBuf>,

    /// Context in the kubeconfig
    #[arg(long, global = true, value_name = "NAME", help_heading = "Connection")]
    context: Option<String>,

    /// Namespace of the request
    #[arg(short, long, global = true, value_name = "NAME", help_heading = "Connection")]
    namespace: Option<String>,
}

/// A client and the namespace that it uses.
pub(crate) struct Connection {
    pub(crate) client: kube::Client,
    /// The server, for error messages.
    peer: Peer,
    /// From `-n`, else from the context, else `default`.
    pub(crate) namespace: String,
    /// Whether `-n` was given. If so, a manifest must not have another namespace.
    pub(crate) namespace_given: bool,
}

impl ConnectArgs {
    /// Reads the kubeconfig and prepares a client. Sends nothing yet.
    pub(crate) async fn connect(&self) -> Result<Connection> {
        let Source { mut config, from } = self.source().await?;
        let url = config.cluster_url.to_string().trim_end_matches('/').to_owned();
        // The library would retry a rejected request for five minutes and print nothing. kubectl
        // reports it at once.
        config.default_retry = false;
        let namespace = self
            .namespace
            .clone()
            .unwrap_or_else(|| config.default_namespace.clone());
        let client = kube::Client::try_from(config).context("prepare the connection")?;
        Ok(Connection {
            client,
            peer: Peer { url, from },
            namespace,
            namespace_given: self.namespace.is_some(),
        })
    }

    /// Returns the configuration of a client, and its source.
    pub(crate) async fn source(&self) -> Result<Source> {
        kubeconfig::read(self.kubeconfig.as_deref(), self.context.as_deref()).await
    }
}

/// Body of a request.
pub(crate) struct Payload {
    pub(crate) content_type: &'static str,
    pub(crate) body: Vec<u8>,
}

impl Payload {
    /// Returns an object as a JSON body.
    pub(crate) fn json(object: &Value) -> Self {
        Self {
            content_type: "application/json",
            body: object.to_string().into_bytes(),
        }
    }

    /// Returns a patch of the given media type.
    pub(crate) fn patch(content_type: &'static str, patch: &Value) -> Self {
        Self {
            content_type,
            body: patch.to_string().into_bytes(),
        }
    }
}

/// Media type of plain JSON.
pub(crate) const JSON: &str = "application/json";
/// Media type of a Table with the server's columns, or plain JSON if there is none.
pub(crate) const TABLE: &str = "application/json;as=Table;v=v1;g=meta.k8s.io,application/json;as=Table;v=v1beta1;g=meta.k8s.io,application/json";

/// Items on a page of a list, as in kubectl.
const PAGE: usize = 500;

impl Connection {
    /// Sends a request and parses the response as JSON. Warnings of the server go to standard
    /// error.
    ///
    /// # Errors
    /// [`ServerError`] when the server rejects the request.
    pub(crate) async fn request(
        &self,
        method: Method,
        path: &str,
        accept: &str,
        payload: Option<Payload>,
    ) -> Result<Value> {
        let response = self.send(method, path, accept, payload).await?;
        let body = response
            .into_body()
            .collect()
            .await
            .context("read the answer")?
            .to_bytes();
        serde_json::from_slice(&body).with_context(|| format!("read the answer of {path} as JSON"))
    }

    /// Sends a GET and parses the response as JSON.
    pub(crate) async fn get(&self, path: &str) -> Result<Value> {
        self.request(Method::GET, path, JSON, None).await
    }

    /// Returns all items of a collection. Reads pages, so that the size of a response does not grow
    /// with the cluster. `query` is further query parameters, without `?`.
    pub(crate) async fn list<T>(
        &self,
        path: &str,
        query: &str,
        mut take: impl FnMut(&Value) -> Result<T>,
    ) -> Result<Vec<T>> {
        let mut items = Vec::new();
        let mut limit = format!("limit={PAGE}");
        let mut next = String::new();
        loop {
            let parameters = [query, &limit, &next].map(str::to_owned);
            let parameters: Vec<String> = parameters.into_iter().filter(|one| !one.is_empty()).collect();
            match self.get(&format!("{path}?{}", parameters.join("&"))).await {
                Ok(page) => {
                    for item in page["items"].as_array().into_iter().flatten() {
                        items.push(take(item)?);
                    }
                    match page["metadata"]["continue"].as_str() {
                        Some(token) if !token.is_empty() => next = format!("continue={}", escape(token)),
                        _ => return Ok(items),
                    }
                }
                // The revision of the next page was compacted, so list again without pages.
                Err(error) if is_expired(&error) && !next.is_empty() => {
                    items.clear();
                    limit.clear();
                    next.clear();
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// Follows a watch until `event` returns a value for an event, or the watch ends. Bookmarks are
    /// skipped.
    pub(crate) async fn watch<T>(
        &self,
        path: &str,
        accept: &str,
        mut each: impl FnMut(&str, &Value) -> Result<Option<T>>,
    ) -> Result<WatchEnd<T>> {
        let response = self.send(Method::GET, path, accept, None).await?;
        let body = response
            .into_body()
            .into_data_stream()
            .map_err(std::io::Error::other);
        let mut lines = body.into_async_read().lines();
        while let Some(line) = lines.try_next().await.context("read the watch")? {
            let event: Value = serde_json::from_str(&line).context("read an event of the watch")?;
            match event["type"].as_str().unwrap_or_default() {
                "ERROR" => {
                    let message = event["object"]["message"].as_str().unwrap_or_default();
                    return Ok(WatchEnd::Ended(Some(message.to_owned())));
                }
                "BOOKMARK" => {}
                kind => {
                    if let Some(answer) = each(kind, &event["object"])? {
                        return Ok(WatchEnd::Answer(answer));
                    }
                }
            }
        }
        Ok(WatchEnd::Ended(None))
    }

    /// Sends a request and returns the response's body as a stream.
    pub(crate) async fn send(
        &self,
        method: Method,
        path: &str,
        accept: &str,
        payload: Option<Payload>,
    ) -> Result<http::Response<Body>> {
        let mut request = Request::builder()
            .method(method)
            .uri(path)
            .header(header::ACCEPT, accept);
        let body = match payload {
            Some(payload) => {
                request = request.header(header::CONTENT_TYPE, payload.content_type);
                Body::from(payload.body)
            }
            None => Body::empty(),
        };
        let request = request
            .body(body)
            .with_context(|| format!("build the request {path}"))?;
        let response = self.client.send(request).await;
        let response = response.map_err(|error| self.peer.unreachable(error))?;
        print_warnings(response.headers());
        if response.status().is_success() {
            return Ok(response);
        }
        let code = response.status().as_u16();
        let body = response
            .into_body()
            .collect()
            .await
            .context("read the answer")?
            .to_bytes();
        Err(ServerError::from_body(code, &body).into())
    }
}

/// How a watch ended.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum WatchEnd<T> {
    /// An event had the requested value.
    Answer(T),
    /// The server ended the watch, with its message if there was an error (usually an expired
    /// revision). Read the object again.
    Ended(Option<String>),
}

/// Prints `Warning: 299 - "text"` headers like kubectl.
fn print_warnings(headers: &http::HeaderMap) {
    for warning in headers.get_all(header::WARNING) {
        let Ok(text) = warning.to_str() else { continue };
        let quoted = text.splitn(3, ' ').nth(2).unwrap_or(text);
        eprintln!("Warning: {}", quoted.trim_matches('"').replace("\\\"", "\""));
    }
}

//! Plain requests to the API server, for tests that control the exact bytes.

use std::path::Path;
use std::pin::Pin;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use futures::{AsyncBufRead, AsyncBufReadExt};
use http::{HeaderMap, Method, Request};
use http_body_util::BodyExt;
use kube::config::{KubeConfigOptions, Kubeconfig};
use serde_json::Value;
use tokio::runtime::Runtime;

/// `application/json`
pub const JSON: &str = "application/json";
/// `application/merge-patch+json`
pub const MERGE: &str = "application/merge-patch+json";
/// `application/strategic-merge-patch+json`
pub const STRATEGIC: &str = "application/strategic-merge-patch+json";
/// `application/vnd.kubernetes.protobuf`
pub const PROTOBUF: &str = "application/vnd.kubernetes.protobuf";

/// Timeout of a response or an event. It only ends tests that have failed.
const PATIENCE: Duration = Duration::from_secs(120);

/// Blocking connection to the API server as the administrator.
pub struct Api {
    client: kube::Client,
    runtime: Runtime,
}

/// Response of the server.
#[derive(Debug)]
pub struct Answer {
    /// The HTTP status.
    pub code: u16,
    /// The headers.
    pub headers: HeaderMap,
    /// The body; `null` when it is empty or not JSON.
    pub body: Value,
}

impl Answer {
    /// Returns the body of a successful request.
    ///
    /// # Errors
    /// When the request was rejected; the error holds the Status.
    pub fn ok(self) -> Result<Value> {
        if !(200..300).contains(&self.code) {
            bail!("refused with {}: {}", self.code, self.body);
        }
        Ok(self.body)
    }
}

impl Api {
    /// Connects with `kubeconfig`.
    ///
    /// # Errors
    /// When the kubeconfig cannot be read.
    pub fn connect(kubeconfig: &Path) -> Result<Self> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .context("start a runtime")?;
        let kubeconfig = Kubeconfig::read_from(kubeconfig).context("read the kubeconfig")?;
        let client = runtime.block_on(async {
            let mut config =
                kube::Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await?;
            // A test must see every response, also "too many requests".
            config.default_retry = false;
            anyhow::Ok(kube::Client::try_from(config)?)
        })?;
        Ok(Self { client, runtime })
    }

    /// Sends a body of the type `content` and returns the response, with any status.
    ///
    /// # Errors
    /// When no response comes.
    pub fn send(&self, method: Method, path: &str, content: &str, body: Vec<u8>) -> Result<Answer> {
        let what = format!("{method} {path}");
        let mut request = Request::builder()
            .method(method)
            .uri(path)
            .header(http::header::ACCEPT, JSON);
        if !body.is_empty() {
            request = request.header(http::header::CONTENT_TYPE, content);
        }
        let request = request
            .body(kube::client::Body::from(body))
            .context("build a request")?;
        let answer = self.runtime.block_on(async {
            let exchange = async {
                let (head, body) = self.client.send(request).await?.into_parts();
                let bytes = body.collect().await?.to_bytes();
                anyhow::Ok((head, bytes))
            };
            tokio::time::timeout(PATIENCE, exchange).await
        });
        let (head, bytes) = answer
            .with_context(|| format!("{what}: no answer"))?
            .with_context(|| what.clone())?;
        Ok(Answer {
            code: head.status.as_u16(),
            headers: head.headers,
            body: serde_json::from_slice(&bytes).unwrap_or_default(),
        })
    }

    fn json(&self, method: Method, path: &str, content: &str, body: &Value) -> Result<Value> {
        let what = format!("{method} {path}");
        self.send(method, path, content, serde_json::to_vec(body)?)?
            .ok()
            .context(what)
    }

    /// Returns the object or list at `path`.
    ///
    /// # Errors
    /// When it does not exist or there is no response.
    pub fn get(&self, path: &str) -> Result<Value> {
        let answer = self.send(Method::GET, path, JSON, Vec::new())?;
        answer.ok().with_context(|| format!("GET {path}"))
    }

    /// Returns the object at `path`, or `None` if it does not exist.
    ///
    /// # Errors
    /// When there is no response, or another error.
    pub fn find(&self, path: &str) -> Result<Option<Value>> {
        let answer = self.send(Method::GET, path, JSON, Vec::new())?;
        match answer.code {
            404 => Ok(None),
            _ => answer.ok().map(Some).with_context(|| format!("GET {path}")),
        }
    }

    /// Returns the items of the list at `path`.
    ///
    /// # Errors
    /// When there is no list.
    pub fn items(&self, path: &str) -> Result<Vec<Value>> {
        let mut list = self.get(path)?;
        match list["items"].take() {
            Value::Array(items) => Ok(items),
            other => bail!("GET {path}: no items but {other}"),
        }
    }

    /// Creates `object` in the collection with POST.
    ///
    /// # Errors
    /// When it is rejected.
    pub fn create(&self, collection: &str, object: &Value) -> Result<Value> {
        self.json(Method::POST, collection, JSON, object)
    }

    /// Replaces `object` with PUT.
    ///
    /// # Errors
    /// When it is rejected.
    pub fn replace(&self, path: &str, object: &Value) -> Result<Value> {
        self.json(Method::PUT, path, JSON, object)
    }

    /// Sends a patch of the type `content`.
    ///
    /// # Errors
    /// When it is rejected.
    pub fn patch(&self, path: &str, content: &str, patch: &Value) -> Result<Value> {
        self.json(Method::PATCH, path, content, patch)
    }

    /// Deletes the object or, with a query in `path`, the objects of a collection.
    ///
    /// # Errors
    /// When it is rejected.
    pub fn delete(&self, path: &str, options: &Value) -> Result<Value> {
        self.json(Method::DELETE, path, JSON, options)
    }

    /// Opens a watch. `path` holds the whole query.
    ///
    /// # Errors
    /// When it is rejected.
    pub fn watch(&self, path: &str) -> Result<Watch<'_>> {
        let request = Request::get(path).body(Vec::new()).context("build a request")?;
        let stream = self
            .runtime
            .block_on(async { tokio::time::timeout(PATIENCE, self.client.request_stream(request)).await })
            .with_context(|| format!("watch {path}: no answer"))?
            .with_context(|| format!("watch {path}"))?;
        Ok(Watch {
            api: self,
            lines: Box::pin(stream),
        })
    }
}

/// An open watch.
pub struct Watch<'a> {
    api: &'a Api,
    lines: Pin<Box<dyn AsyncBufRead>>,
}

impl Watch<'_> {
    /// Returns the next event, `{"type": …, "object": …}`.
    ///
    /// # Errors
    /// When the watch ends or no event comes for two minutes.
    pub fn event(&mut self) -> Result<Value> {
        let mut line = Vec::new();
        let read = async { self.lines.read_until(b'\n', &mut line).await };
        self.api
            .runtime
            .block_on(async { tokio::time::timeout(PATIENCE, read).await })
            .context("no event came")?
            .context("read the watch")?;
        if line.is_empty() {
            bail!("the watch ended");
        }
        serde_json::from_slice(&line).context("read an event")
    }

    /// Returns the next event for which `wanted` returns true.
    ///
    /// # Errors
    /// When none comes.
    pub fn find(&mut self, wanted: impl Fn(&Value) -> bool) -> Result<Value> {
        loop {
            let event = self.event()?;
            if wanted(&event) {
                return Ok(event);
            }
        }
    }
}

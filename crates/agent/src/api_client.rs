//! The Kubernetes API as a machine of its own reaches it: requests on one HTTP/2 connection, to whichever server answers.
//!
//! The connection is made anew when it has ended or the agent's certificate was renewed; what still runs on the old one may finish. A
//! server that is cut off without a word is noticed by pings.

use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use futures::FutureExt;
use futures::future::{BoxFuture, Shared};
use http::header::{AUTHORIZATION, HOST, HeaderValue};
use http::uri::{Authority, Scheme};
use http::{Request, Response, Uri};
use hyper::body::Incoming;
use hyper::client::conn::http2::{Builder, SendRequest};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use kube::client::Body;

use crate::servers::{Dialer, Protocol};

/// A connection on which nothing moved is asked for a sign of life this often, and dropped when none comes as long again.
const KEEP_ALIVE: Duration = Duration::from_secs(10);
/// What requests name as their host: any server of the cluster.
const AUTHORITY: &str = "kubernetes.default.svc";

type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// A client of the API over `dialer`. `bearer` is a token that goes with each request.
pub fn api_client(
    dialer: &Dialer,
    bearer: Option<&str>,
) -> Result<kube::Client, http::header::InvalidHeaderValue> {
    let bearer = bearer.map(|token| {
        let mut value = HeaderValue::try_from(format!("Bearer {token}"))?;
        value.set_sensitive(true);
        Ok(value)
    });
    let service = ApiService {
        dialer: dialer.clone(),
        bearer: bearer.transpose()?,
        link: Arc::default(),
    };
    Ok(kube::Client::new(service, "default"))
}

#[derive(Clone)]
struct ApiService {
    dialer: Dialer,
    bearer: Option<HeaderValue>,
    link: Arc<Mutex<Link>>,
}

#[derive(Default)]
struct Link {
    current: Option<Connection>,
    /// The dial that is under way, for all who wait.
    dial: Option<Dial>,
}

/// Ends with the connection, or with why there is none. It runs by itself: of those who wait for it some may not look for long.
type Dial = Shared<BoxFuture<'static, Result<Connection, String>>>;

#[derive(Clone)]
struct Connection {
    /// Of which identity it is.
    generation: u64,
    sender: SendRequest<Body>,
}

impl ApiService {
    async fn send(self, mut request: Request<Body>) -> Result<Response<Incoming>, BoxError> {
        let mut parts = std::mem::take(request.uri_mut()).into_parts();
        parts.scheme = Some(Scheme::HTTPS);
        parts.authority = Some(Authority::from_static(AUTHORITY));
        *request.uri_mut() = Uri::from_parts(parts)?;
        request.headers_mut().remove(HOST);
        if let Some(bearer) = &self.bearer {
            request.headers_mut().insert(AUTHORIZATION, bearer.clone());
        }
        let mut sender = self.sender().await?;
        Ok(sender.send_request(request).await?)
    }

    /// The connection that there is, or a new one: one dial at a time, for all who wait. When it fails, it has failed for them all.
    async fn sender(&self) -> Result<SendRequest<Body>, BoxError> {
        let present = self.lock().current.clone();
        if let Some(mut connection) = present
            && connection.generation == self.dialer.generation()
            && connection.sender.ready().await.is_ok()
        {
            return Ok(connection.sender);
        }
        Ok(self.dial().await?.sender)
    }

    /// The dial that is under way, or a new one.
    fn dial(&self) -> Dial {
        let mut link = self.lock();
        if let Some(dial) = link.dial.as_ref().filter(|dial| dial.peek().is_none()) {
            return dial.clone();
        }
        let service = self.clone();
        let dialing = tokio::spawn(async move {
            let connection = connect(&service.dialer)
                .await
                .map_err(|error| error.to_string())?;
            service.lock().current = Some(connection.clone());
            Ok(connection)
        });
        let dial = dialing.map(|done| done.unwrap_or_else(|broken| Err(broken.to_string())));
        let dial = dial.boxed().shared();
        link.dial = Some(dial.clone());
        dial
    }

    fn lock(&self) -> MutexGuard<'_, Link> {
        // Nothing panics while it is held.
        self.link.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

async fn connect(dialer: &Dialer) -> Result<Connection, BoxError> {
    let generation = dialer.generation();
    let stream = dialer.connect(Protocol::Http2).await?;
    let (sender, connection) = Builder::new(TokioExecutor::new())
        .timer(TokioTimer::new())
        .keep_alive_interval(KEEP_ALIVE)
        .keep_alive_timeout(KEEP_ALIVE)
        .keep_alive_while_idle(true)
        .handshake(TokioIo::new(stream))
        .await?;
    // It ends with the last sender and the last answer.
    tokio::spawn(async move {
        if let Err(error) = connection.await {
            tracing::debug!(%error, "a connection to the API server broke");
        }
    });
    Ok(Connection { generation, sender })
}

impl tower::Service<Request<Body>> for ApiService {
    type Response = Response<Incoming>;
    type Error = BoxError;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Incoming>, BoxError>> + Send>>;

    fn poll_ready(&mut self, _cx: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        Box::pin(self.clone().send(request))
    }
}

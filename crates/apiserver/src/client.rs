//! In-process client of the API server: the same service without socket and TLS.

use std::convert::Infallible;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use http::{Request, Response};
use tower::Service;

use crate::body::Body;
use crate::service::{self, Origin};
use crate::shared::Shared;
use crate::user::User;

/// A client for one component of this process that acts as its user.
#[derive(Clone)]
pub(crate) struct InProcess {
    shared: Arc<Shared>,
    origin: Origin,
}

impl InProcess {
    pub(crate) fn new(shared: Arc<Shared>, user: User) -> InProcess {
        InProcess {
            shared,
            origin: Origin::in_process(user),
        }
    }

    /// Sends one request and returns its response.
    pub(crate) async fn request(&self, request: Request<Body>) -> Response<Body> {
        service::serve(self.shared.clone(), self.origin.clone(), request).await
    }
}

impl Service<Request<kube::client::Body>> for InProcess {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Body>, Infallible>> + Send>>;

    fn poll_ready(&mut self, _cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<kube::client::Body>) -> Self::Future {
        let (shared, origin) = (self.shared.clone(), self.origin.clone());
        Box::pin(async move { Ok(service::serve(shared, origin, request.map(Body::stream)).await) })
    }
}

//! `nodes/proxy`, `pods/proxy`, `services/proxy`, and `daemonsets/proxy` of one node: requests that
//! the server forwards to the HTTP server of an object.
//!
//! The server needs no route to pods or nodes. It requests a stream from the node's agent over the
//! agent's own connection, and sends HTTP through that stream ([`forward`]). The agent connects
//! only to pods of its node and to the node itself. [`place`] resolves the path.

mod forward;
mod place;
mod stream;

use std::sync::Arc;

use api::status::Status;
use http::header::LOCATION;
use http::{HeaderValue, Method, Response, StatusCode};

use self::place::Place;
use crate::body::Body;
use crate::rights::Stay;
use crate::routes::{self, Target};
use crate::shared::Shared;
use crate::subresource::log::agent_failure;

/// Paths that an agent serves about its node, as a kubelet does on its own port. They exclude
/// commands and connections to ports.
const KUBELET_PATHS: [&str; 5] = ["healthz", "pods", "metrics", "stats", "containerLogs"];

/// Forwards a request.
pub(crate) async fn proxy(
    shared: &Arc<Shared>,
    target: &Target,
    request: &mut http::Request<Body>,
    stay: &mut Stay,
) -> Result<Response<Body>, Status> {
    let path = request.uri().path().to_owned();
    let proxied = routes::proxied(&path).ok_or_else(Status::path_not_found)?;
    let reads = matches!(*request.method(), Method::GET | Method::HEAD);
    if proxied.rest.is_empty() && reads {
        // Relative links of a page must stay below the proxy's path.
        return redirect_below(&path, request.uri().query());
    }
    match place::find(shared, target, proxied.node)? {
        Place::Agent { node } => ask_agent(shared, &node, proxied.rest, request).await,
        Place::Port(place) => {
            forward::forward(shared, &place, (proxied.head, proxied.rest), request, stay).await
        }
    }
}

fn redirect_below(path: &str, query: Option<&str>) -> Result<Response<Body>, Status> {
    let query = query.map(|query| format!("?{query}")).unwrap_or_default();
    let location = HeaderValue::from_str(&format!("{path}/{query}")).map_err(Status::internal)?;
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::MOVED_PERMANENTLY;
    response.headers_mut().insert(LOCATION, location);
    Ok(response)
}

/// Sends the request to the agent itself.
async fn ask_agent(
    shared: &Shared,
    node: &str,
    rest: &str,
    request: &mut http::Request<Body>,
) -> Result<Response<Body>, Status> {
    let first = rest.trim_start_matches('/').split('/').next().unwrap_or_default();
    if !KUBELET_PATHS.contains(&first) {
        let why = format!(
            "node {node} serves no {rest}: it has {}",
            KUBELET_PATHS.join(", ")
        );
        return Err(Status::new(404, "NotFound", why));
    }
    if !matches!(*request.method(), Method::GET | Method::HEAD) {
        return Err(Status::new(
            405,
            "MethodNotAllowed",
            "what a node says can only be read",
        ));
    }
    let query = request.uri().query().map(|query| format!("?{query}"));
    let asked = http::Request::get(format!("http://{node}{rest}{}", query.unwrap_or_default()))
        .body(Body::empty())
        .map_err(|error| Status::bad_request(error.to_string()))?;
    let response = shared.tunnels.send(node, asked).await?;
    if !response.status().is_success() {
        return Err(agent_failure(response).await);
    }
    Ok(response.map(Body::stream))
}

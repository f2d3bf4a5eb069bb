//! What everybody may ask: is it alive, and which version is it. And the counters.

use api::status::Status;
use http::{Method, Response, StatusCode, Uri};
use serde_json::json;

use crate::body::Body;
use crate::query::Query;
use crate::respond;
use crate::shared::Shared;

/// The Kubernetes version whose API this is.
const KUBERNETES_MAJOR: &str = "1";
const KUBERNETES_MINOR: &str = "36";

/// `/healthz`, `/livez`, `/readyz`: `ok`, until the server stops. With `verbose` what was looked at is told.
pub(crate) fn health(shared: &Shared, uri: &Uri) -> Response<Body> {
    let (code, short, check, outcome) = match shared.stopping.is_cancelled() {
        false => (StatusCode::OK, "ok", "[+]ping ok", "passed"),
        true => (
            StatusCode::INTERNAL_SERVER_ERROR,
            "the server is shutting down",
            "[-]shutdown failed: the server is shutting down",
            "failed",
        ),
    };
    if Query::parse(uri.query()).get("verbose").is_none() {
        return respond::text(code, short);
    }
    let endpoint = uri.path().trim_start_matches('/');
    let endpoint = endpoint.split('/').next().unwrap_or(endpoint);
    respond::text(code, format!("{check}\n{endpoint} check {outcome}\n"))
}

/// `/version`: what clients compare their own version with.
pub(crate) fn version(method: &Method) -> Result<Response<Body>, Status> {
    if !matches!(*method, Method::GET | Method::HEAD) {
        return Err(Status::new(
            405,
            "MethodNotAllowed",
            "the server does not allow this method on the requested resource",
        ));
    }
    let own = env!("CARGO_PKG_VERSION");
    let arch = match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    };
    let version = json!({
        "major": KUBERNETES_MAJOR,
        "minor": KUBERNETES_MINOR,
        "gitVersion": format!("v{KUBERNETES_MAJOR}.{KUBERNETES_MINOR}.0+everynode-{own}"),
        "gitCommit": "",
        "gitTreeState": "clean",
        "buildDate": "1970-01-01T00:00:00Z",
        "goVersion": "",
        "compiler": "rustc",
        "platform": format!("{}/{arch}", std::env::consts::OS),
    });
    Ok(respond::json(StatusCode::OK, &version))
}

/// `/everynode/v1/authority`: the certificate authority, PEM. A machine that joins asks for it before it can trust the server, and holds
/// it against the hash in its token.
pub(crate) fn authority(shared: &Shared) -> Response<Body> {
    respond::text(StatusCode::OK, shared.authority.to_string())
}

/// `/metrics`, in Prometheus' text format.
pub(crate) fn metrics(shared: &Shared) -> Response<Body> {
    let text = shared
        .metrics
        .text(shared.objects.revision().0, &shared.flow, &shared.connections);
    respond::bytes_response(
        StatusCode::OK,
        "text/plain; version=0.0.4; charset=utf-8",
        text.into(),
    )
}

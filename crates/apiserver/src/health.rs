//! What everybody may ask: is it alive, and which version is it. And the counters.

use http::{Response, StatusCode};
use serde_json::json;

use crate::body::Body;
use crate::respond;
use crate::shared::Shared;

/// The Kubernetes version whose API this is.
const KUBERNETES_MAJOR: &str = "1";
const KUBERNETES_MINOR: &str = "36";

/// `/healthz`, `/livez`, `/readyz`: `ok`, until the server stops.
pub(crate) fn health(shared: &Shared) -> Response<Body> {
    match shared.stopping.is_cancelled() {
        false => respond::text(StatusCode::OK, "ok"),
        true => respond::text(StatusCode::INTERNAL_SERVER_ERROR, "the server is shutting down"),
    }
}

/// `/version`: what clients compare their own version with.
pub(crate) fn version() -> Response<Body> {
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
    respond::json(StatusCode::OK, &version)
}

/// `/metrics`, in Prometheus' text format.
pub(crate) fn metrics(shared: &Shared) -> Response<Body> {
    let text = shared.metrics.text(shared.objects.revision().0);
    respond::bytes_response(
        StatusCode::OK,
        "text/plain; version=0.0.4; charset=utf-8",
        text.into(),
    )
}

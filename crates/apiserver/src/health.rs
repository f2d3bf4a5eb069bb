//! Endpoints for health, version, certificate authority and metrics.

use api::status::Status;
use http::{Method, Response, StatusCode, Uri};
use serde_json::json;

use crate::body::Body;
use crate::query::Query;
use crate::respond;
use crate::shared::{Part, Shared};

/// Version of Kubernetes whose API the server implements.
const KUBERNETES_MAJOR: &str = "1";
const KUBERNETES_MINOR: &str = "36";

/// A health check. `failed` returns the reason of a failure.
struct Check {
    name: &'static str,
    failed: fn(&Shared) -> Option<String>,
}

/// Passes whenever the server responds.
const PING: Check = Check {
    name: "ping",
    failed: |_| None,
};
/// Passes when the store accepts writes. Kubernetes' monitoring expects this name.
const ETCD: Check = Check {
    name: "etcd",
    failed: |shared| shared.objects.trouble().map(|trouble| trouble.to_string()),
};
/// Passes once the objects that every cluster has are created.
const BOOTSTRAP: Check = Check {
    name: "poststarthook/rbac/bootstrap-roles",
    failed: |shared| shared.started.lacks(Part::Objects),
};
/// Passes once the administrator's kubeconfig is written.
const KUBECONFIG: Check = Check {
    name: "poststarthook/admin-kubeconfig",
    failed: |shared| shared.started.lacks(Part::Kubeconfig),
};
/// Passes until the server shuts down.
const SHUTDOWN: Check = Check {
    name: "shutdown",
    failed: |shared| {
        shared
            .stopping
            .is_cancelled()
            .then(|| "the server is shutting down".to_owned())
    },
};

/// The checks of each endpoint. A server with a full disk is live, because a restart would not
/// help.
const LIVEZ: &[Check] = &[PING];
const HEALTHZ: &[Check] = &[PING, ETCD, BOOTSTRAP, SHUTDOWN];
const READYZ: &[Check] = &[PING, ETCD, BOOTSTRAP, KUBECONFIG, SHUTDOWN];

/// Serves `/healthz`, `/livez`, `/readyz`, and `/readyz/<check>` for one check, as kube-apiserver
/// does: `ok`, or status 500 with the names of the failed checks. `verbose` lists the checks,
/// `exclude` skips some. The reason of a failure is only under the check's own path, because not
/// all users may read it.
pub(crate) fn health(shared: &Shared, uri: &Uri) -> Response<Body> {
    let path = uri.path().trim_matches('/');
    let (endpoint, one) = path.split_once('/').unwrap_or((path, ""));
    let checks = match endpoint {
        "livez" => LIVEZ,
        "healthz" => HEALTHZ,
        _ => READYZ,
    };
    if !one.is_empty() {
        return match checks.iter().find(|check| check.name == one) {
            None => respond::text(StatusCode::NOT_FOUND, "404 page not found\n"),
            Some(check) => match (check.failed)(shared) {
                None => respond::text(StatusCode::OK, "ok"),
                Some(why) => respond::text(
                    StatusCode::INTERNAL_SERVER_ERROR,
                    format!("internal server error: {why}\n"),
                ),
            },
        };
    }
    let query = Query::parse(uri.query());
    let mut excluded: Vec<&str> = query.all("exclude").collect();
    let mut report = String::new();
    let mut failed = false;
    for check in checks {
        let name = check.name;
        let line = if excluded.contains(&name) {
            excluded.retain(|excluded| *excluded != name);
            format!("[+]{name} excluded: ok\n")
        } else if (check.failed)(shared).is_some() {
            failed = true;
            format!("[-]{name} failed: reason withheld\n")
        } else {
            format!("[+]{name} ok\n")
        };
        report.push_str(&line);
    }
    if !excluded.is_empty() {
        let names: Vec<String> = excluded.iter().map(|name| format!("{name:?}")).collect();
        report.push_str(&format!(
            "warn: some health checks cannot be excluded: no matches for {}\n",
            names.join(",")
        ));
    }
    if failed {
        report.push_str(&format!("{endpoint} check failed\n"));
        return respond::text(StatusCode::INTERNAL_SERVER_ERROR, report);
    }
    if query.get("verbose").is_none() {
        return respond::text(StatusCode::OK, "ok");
    }
    report.push_str(&format!("{endpoint} check passed\n"));
    respond::text(StatusCode::OK, report)
}

/// Returns the checks of `/readyz` as Kubernetes' metric `kubernetes_healthcheck`, and the counters
/// of the store.
fn store_metrics(shared: &Shared) -> String {
    let mut out = String::from(
        "# HELP kubernetes_healthcheck The result of a health check: 1 is passed, 0 failed.\n\
         # TYPE kubernetes_healthcheck gauge\n",
    );
    for Check { name, failed } in READYZ {
        let passed = u8::from(failed(shared).is_none());
        out.push_str(&format!(
            "kubernetes_healthcheck{{name=\"{name}\",type=\"readyz\"}} {passed}\n"
        ));
    }
    let stats = shared.objects.stats();
    for (name, help, value) in [
        (
            "apiserver_storage_write_failures_total",
            "Writes that the disk refused, retries included.",
            stats.failures,
        ),
        (
            "apiserver_storage_flushes_total",
            "Batches of transactions that were written to the disk.",
            stats.flushes,
        ),
    ] {
        out.push_str(&format!(
            "# HELP {name} {help}\n# TYPE {name} counter\n{name} {value}\n"
        ));
    }
    out
}

/// Serves `/version`. Clients compare it with their own version.
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

/// Serves `/everynode/v1/authority`: the certificate authority, PEM. A joining machine reads it
/// before it can trust the server, and compares it with the hash in its token.
pub(crate) fn authority(shared: &Shared) -> Response<Body> {
    respond::text(StatusCode::OK, shared.authority.to_string())
}

/// Serves `/metrics`, in Prometheus' text format.
pub(crate) fn metrics(shared: &Shared) -> Response<Body> {
    let mut text = shared
        .metrics
        .text(shared.objects.revision().0, &shared.flow, &shared.connections);
    text.push_str(&store_metrics(shared));
    respond::bytes_response(
        StatusCode::OK,
        "text/plain; version=0.0.4; charset=utf-8",
        text.into(),
    )
}

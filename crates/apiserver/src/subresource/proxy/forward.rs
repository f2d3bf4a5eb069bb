//! Forwards one HTTP request through a stream, and returns the response.

use std::sync::Arc;

use api::status::Status;
use http::header::{
    ACCESS_CONTROL_ALLOW_CREDENTIALS, ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS,
    ACCESS_CONTROL_ALLOW_ORIGIN, AUTHORIZATION, CONNECTION, HOST, HeaderMap, HeaderName, LOCATION, TE,
    TRAILER, TRANSFER_ENCODING, UPGRADE,
};
use http::{HeaderValue, Response, StatusCode, Uri};
use hyper::client::conn::http1;
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;

use super::place::Port;
use super::stream::{self, unreachable};
use crate::body::Body;
use crate::rights::Stay;
use crate::shared::Shared;
use crate::tunnel::wants_upgrade;

/// Headers that apply to one connection only and are not forwarded.
const HOP_BY_HOP: [HeaderName; 8] = [
    CONNECTION,
    HeaderName::from_static("keep-alive"),
    HeaderName::from_static("proxy-connection"),
    HeaderName::from_static("proxy-authenticate"),
    TE,
    TRAILER,
    TRANSFER_ENCODING,
    UPGRADE,
];

/// Headers of CORS. From a backend they are removed, because a browser would apply them to the API
/// server.
const CROSS_ORIGIN: [HeaderName; 4] = [
    ACCESS_CONTROL_ALLOW_CREDENTIALS,
    ACCESS_CONTROL_ALLOW_HEADERS,
    ACCESS_CONTROL_ALLOW_METHODS,
    ACCESS_CONTROL_ALLOW_ORIGIN,
];

/// Sends a request to `place` and returns the response. `head` is the path of the proxy, `rest` the
/// path for the backend.
pub(super) async fn forward(
    shared: &Arc<Shared>,
    place: &Port,
    (head, rest): (&str, &str),
    request: &mut http::Request<Body>,
    stay: &mut Stay,
) -> Result<Response<Body>, Status> {
    let upgrade = asked_upgrade(request.headers());
    let outward = outward(place, head, rest, request, upgrade.as_ref())?;
    let from_client = upgrade.is_some().then(|| hyper::upgrade::on(&mut *request));
    let io = TokioIo::new(stream::open(shared, place).await?);
    let (mut sender, connection) = http1::handshake(io).await.map_err(unreachable)?;
    let stopping = shared.stopping.clone();
    // The task ends with the response, because the connection serves only one request.
    shared.tasks.spawn(async move {
        tokio::select! {
            ended = connection.with_upgrades() => {
                if let Err(error) = ended {
                    tracing::debug!(%error, "a proxied connection broke off");
                }
            }
            () = stopping.cancelled() => {}
        }
    });
    let mut answer = sender.send_request(outward).await.map_err(unreachable)?;
    if answer.status() == StatusCode::SWITCHING_PROTOCOLS {
        let Some(from_client) = from_client else {
            return Err(unreachable("it changed the protocol, which nobody had asked for"));
        };
        join(
            shared,
            from_client,
            hyper::upgrade::on(&mut answer),
            std::mem::take(stay),
        );
        let (mut parts, _) = answer.into_parts();
        without_cross_origin(&mut parts.headers);
        return Ok(Response::from_parts(parts, Body::empty()));
    }
    let (mut parts, body) = answer.into_parts();
    strip_hops(&mut parts.headers);
    without_cross_origin(&mut parts.headers);
    if let Some(location) = parts.headers.get(LOCATION).and_then(|at| at.to_str().ok())
        && let Some(moved) = moved(location, place, head)
    {
        parts.headers.insert(LOCATION, moved);
    }
    Ok(Response::from_parts(parts, Body::stream(body)))
}

/// Returns the protocol to which the client requests an upgrade.
fn asked_upgrade(headers: &HeaderMap) -> Option<HeaderValue> {
    let wanted = headers.get(UPGRADE)?;
    let text = wanted.to_str().ok()?;
    let first = text.split(',').next()?.trim();
    wants_upgrade(headers, first).then(|| wanted.clone())
}

/// Builds the request for the backend.
fn outward(
    place: &Port,
    head: &str,
    rest: &str,
    request: &mut http::Request<Body>,
    upgrade: Option<&HeaderValue>,
) -> Result<http::Request<Body>, Status> {
    let bad = |error: &dyn std::fmt::Display| Status::bad_request(format!("the proxied request: {error}"));
    let path = if rest.is_empty() { "/" } else { rest };
    let query = request.uri().query().map(|query| format!("?{query}"));
    let uri: Uri = format!("{path}{}", query.unwrap_or_default())
        .parse()
        .map_err(|error| bad(&error))?;
    let mut headers = request.headers().clone();
    let asked_host = headers.get(HOST).cloned().or_else(|| {
        let authority = request.uri().authority()?;
        HeaderValue::from_str(authority.as_str()).ok()
    });
    strip_hops(&mut headers);
    // The backend must not receive the client's credential for this server.
    headers.remove(AUTHORIZATION);
    let impersonation: Vec<HeaderName> = headers
        .keys()
        .filter(|name| name.as_str().starts_with("impersonate-"))
        .cloned()
        .collect();
    for name in impersonation {
        headers.remove(name);
    }
    if let Some(upgrade) = upgrade {
        headers.insert(CONNECTION, HeaderValue::from_static("Upgrade"));
        headers.insert(UPGRADE, upgrade.clone());
    }
    let host = HeaderValue::from_str(&place.host).map_err(|error| bad(&error))?;
    headers.insert(HOST, host);
    let asked_path = HeaderValue::from_str(&format!("{head}{rest}")).map_err(|error| bad(&error))?;
    headers.insert("x-forwarded-uri", asked_path);
    headers.insert("x-forwarded-proto", HeaderValue::from_static("https"));
    if let Some(asked_host) = asked_host {
        headers.insert("x-forwarded-host", asked_host);
    }
    let body = match upgrade {
        Some(_) => Body::empty(),
        None => std::mem::replace(request.body_mut(), Body::empty()),
    };
    let mut outward = http::Request::new(body);
    *outward.method_mut() = request.method().clone();
    *outward.uri_mut() = uri;
    *outward.headers_mut() = headers;
    Ok(outward)
}

fn strip_hops(headers: &mut HeaderMap) {
    let listed: Vec<HeaderName> = headers
        .get_all(CONNECTION)
        .into_iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|text| text.split(','))
        .filter_map(|name| name.trim().parse().ok())
        .collect();
    for name in listed.iter().chain(&HOP_BY_HOP) {
        headers.remove(name);
    }
}

fn without_cross_origin(headers: &mut HeaderMap) {
    for name in &CROSS_ORIGIN {
        headers.remove(name);
    }
}

/// Rewrites a redirect to a path below `head` if it stays on this host. Returns `None` for other
/// redirects, which stay unchanged.
fn moved(location: &str, place: &Port, head: &str) -> Option<HeaderValue> {
    let path = match location.strip_prefix('/') {
        Some(rest) if !rest.starts_with('/') => location,
        _ => {
            let uri: Uri = location.parse().ok()?;
            let same = uri
                .authority()
                .is_some_and(|authority| authority.as_str() == place.host);
            if !same {
                return None;
            }
            return HeaderValue::from_str(&format!("{head}{}", uri.path_and_query()?)).ok();
        }
    };
    HeaderValue::from_str(&format!("{head}{path}")).ok()
}

/// Copies bytes between the client and the backend after an upgrade, until one side or the client's
/// credential ends.
fn join(shared: &Shared, client: OnUpgrade, reached: OnUpgrade, mut stay: Stay) {
    let stopping = shared.stopping.clone();
    shared.tasks.spawn(async move {
        let talk = async {
            let (client, reached) = futures::future::try_join(client, reached).await?;
            let (mut client, mut reached) = (TokioIo::new(client), TokioIo::new(reached));
            tokio::io::copy_bidirectional(&mut client, &mut reached).await?;
            Ok::<(), crate::body::BoxError>(())
        };
        tokio::select! {
            ended = talk => {
                if let Err(error) = ended {
                    tracing::debug!(error, "a proxied conversation broke off");
                }
            }
            () = stay.end() => {}
            () = stopping.cancelled() => {}
        }
    });
}

#[cfg(test)]
mod tests {
    use super::super::place::Of;
    use super::*;

    fn place() -> Port {
        Port {
            node: "n".to_owned(),
            of: Of::Node,
            port: 80,
            tls: false,
            host: "10.1.1.1:80".to_owned(),
        }
    }

    #[test]
    fn a_redirect_stays_below_the_proxy() {
        let head = "/api/v1/namespaces/d/pods/p/proxy";
        let moved =
            |location| moved(location, &place(), head).map(|value| value.to_str().unwrap().to_owned());
        assert_eq!(moved("/login?a=b"), Some(format!("{head}/login?a=b")));
        assert_eq!(moved("http://10.1.1.1:80/x"), Some(format!("{head}/x")));
        assert_eq!(moved("http://elsewhere/x"), None);
        assert_eq!(moved("//elsewhere/x"), None);
        assert_eq!(moved("relative"), None);
    }

    #[test]
    fn credentials_and_hops_stay_here() {
        let mut request = http::Request::post("https://server:6443/head/rest?q=1")
            .header("authorization", "Bearer x")
            .header("impersonate-user", "root")
            .header("connection", "keep-alive, x-hop")
            .header("x-hop", "1")
            .header("cookie", "c=1")
            .body(Body::whole("body"))
            .unwrap();
        let out = outward(&place(), "/head", "/rest", &mut request, None).unwrap();
        assert_eq!(
            (out.method().as_str(), out.uri().to_string().as_str()),
            ("POST", "/rest?q=1")
        );
        for gone in ["authorization", "impersonate-user", "connection", "x-hop"] {
            assert!(!out.headers().contains_key(gone), "{gone}");
        }
        assert_eq!(out.headers()["cookie"], "c=1");
        assert_eq!(out.headers()["host"], "10.1.1.1:80");
        assert_eq!(out.headers()["x-forwarded-host"], "server:6443");
        assert_eq!(out.headers()["x-forwarded-uri"], "/head/rest");
    }
}

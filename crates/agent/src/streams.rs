//! What the node serves to the API server over the tunnel: logs and commands in containers, streams to ports, and what it
//! knows of itself.

mod dial;
mod exec;
mod kubelet;
mod logs;

use std::convert::Infallible;
use std::sync::Arc;

use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use serde_json::json;

use crate::worker::Shared;

pub(crate) type Body = BoxBody<Bytes, std::io::Error>;

/// A container that is asked for.
#[derive(Clone, Debug)]
struct Wanted {
    namespace: String,
    pod: String,
    container: String,
    uid: String,
}

/// Answers one request of the API server.
pub(crate) async fn answer(
    shared: Arc<Shared>,
    request: Request<Incoming>,
) -> Result<Response<Body>, Infallible> {
    let path = request.uri().path().to_owned();
    let parts: Vec<String> = path.trim_matches('/').split('/').map(decode).collect();
    let parts: Vec<&str> = parts.iter().map(String::as_str).collect();
    let query = Query::parse(request.uri().query().unwrap_or_default());
    let no_such = || refuse(StatusCode::NOT_FOUND, &format!("this node serves no {path}"));
    let [verb, namespace, pod, container] = parts[..] else {
        return Ok(match parts[..] {
            ["dial", "node", port] => dial::node(&shared, port, request).await,
            ["dial", "pod", namespace, pod, uid, port] => {
                dial::pod(&shared, [namespace, pod, uid], port, request).await
            }
            _ => kubelet::answer(&shared, &parts).await.unwrap_or_else(no_such),
        });
    };
    let Some(uid) = shared.uid(namespace, pod) else {
        return Ok(refuse(
            StatusCode::NOT_FOUND,
            &format!("pod {pod:?} is not on this node"),
        ));
    };
    let wanted = Wanted {
        namespace: namespace.to_owned(),
        pod: pod.to_owned(),
        container: container.to_owned(),
        uid,
    };
    Ok(match verb {
        "containerLogs" => logs::answer(shared, wanted, &query).await,
        "exec" => exec::answer(shared, wanted, &query, request).await,
        _ => no_such(),
    })
}

/// A Kubernetes Status as the answer.
fn refuse(code: StatusCode, message: &str) -> Response<Body> {
    let reason = match code {
        StatusCode::NOT_FOUND => "NotFound",
        StatusCode::BAD_REQUEST => "BadRequest",
        StatusCode::SERVICE_UNAVAILABLE => "ServiceUnavailable",
        _ => "InternalError",
    };
    let status = json!({
        "kind": "Status",
        "apiVersion": "v1",
        "metadata": {},
        "status": "Failure",
        "message": message,
        "reason": reason,
        "code": code.as_u16(),
    });
    let body = Full::new(Bytes::from(status.to_string()))
        .map_err(|never| match never {})
        .boxed();
    let mut response = Response::new(body);
    *response.status_mut() = code;
    response
        .headers_mut()
        .insert("Content-Type", http::HeaderValue::from_static("application/json"));
    response
}

/// Names and values of a query string, in order.
#[derive(Clone, Debug, Default, PartialEq)]
struct Query(Vec<(String, String)>);

impl Query {
    fn parse(text: &str) -> Self {
        let pairs = text.split('&').filter(|pair| !pair.is_empty());
        let pairs = pairs.map(|pair| {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            (decode(&name.replace('+', " ")), decode(&value.replace('+', " ")))
        });
        Self(pairs.collect())
    }

    fn get(&self, name: &str) -> Option<&str> {
        let found = self.0.iter().find(|(candidate, _)| candidate == name);
        found
            .map(|(_, value)| value.as_str())
            .filter(|value| !value.is_empty())
    }

    fn all(&self, name: &str) -> Vec<String> {
        let found = self.0.iter().filter(|(candidate, _)| candidate == name);
        found.map(|(_, value)| value.clone()).collect()
    }

    fn is(&self, name: &str) -> bool {
        matches!(self.get(name), Some("true" | "1"))
    }
}

/// Undoes `%41`.
fn decode(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        let hex = bytes.get(at + 1..at + 3).filter(|_| bytes[at] == b'%');
        let hex = hex.and_then(|digits| std::str::from_utf8(digits).ok());
        if let Some(byte) = hex.and_then(|digits| u8::from_str_radix(digits, 16).ok()) {
            out.push(byte);
            at += 3;
        } else {
            out.push(bytes[at]);
            at += 1;
        }
    }
    String::from_utf8_lossy(&out).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_query_keeps_order_and_repetition() {
        let query = Query::parse("command=sh&command=-c&command=echo+%22a%2Bb%22&tty=true&stdin=1&x=");
        assert_eq!(query.all("command"), ["sh", "-c", "echo \"a+b\""]);
        assert!(query.is("tty") && query.is("stdin") && !query.is("stdout"));
        assert_eq!(query.get("x"), None);
        assert_eq!(decode("100%"), "100%");
        assert_eq!(decode("web%2Dq2cbt+"), "web-q2cbt+");
    }
}

//! pods/log: the log of a container, from its node.

use api::kinds::Kind;
use api::status::Status;
use http::{Response, StatusCode};
use http_body_util::{BodyExt, Limited};
use hyper::body::Incoming;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::Value;

use crate::body::Body;
use crate::objects;
use crate::query::Query;
use crate::respond;
use crate::routes::Target;
use crate::shared::Shared;
use crate::subresource::container::container;

/// Longest error text of an agent that the server passes on, in bytes.
const AGENT_ERROR_BYTES_MAX: usize = 16 * 1024;

/// Characters that are escaped in a path segment: all but the unreserved characters of RFC 3986.
pub(crate) const SEGMENT: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'.')
    .remove(b'_')
    .remove(b'~');

/// Parameters that are passed to the agent. The numbers are validated here.
const NUMBERS: [&str; 3] = ["tailLines", "sinceSeconds", "limitBytes"];
const OTHERS: [&str; 4] = ["follow", "previous", "timestamps", "sinceTime"];

/// Streams the log of one container.
pub(crate) async fn log(shared: &Shared, target: &Target, query: &Query) -> Result<Response<Body>, Status> {
    let pod = pod(shared, target)?;
    let container = container(&pod, query.non_empty("container"))?;
    for name in NUMBERS {
        if query.integer(name)?.is_some_and(|number| number < 0) {
            return Err(Status::bad_request(format!(
                "{name} must be greater than or equal to 0"
            )));
        }
    }
    let Some(node) = node(&pod) else {
        // No container has run, so there is no log.
        return Ok(respond::text(StatusCode::NO_CONTENT, ""));
    };
    let path = agent_path("containerLogs", target, container);
    let request = http::Request::get(format!("http://{node}{path}?{}", parameters(query)))
        .body(Body::empty())
        .map_err(Status::internal)?;
    let response = shared.tunnels.send(node, request).await?;
    if !response.status().is_success() {
        return Err(agent_failure(response).await);
    }
    let mut answer = respond::text(StatusCode::OK, "");
    *answer.body_mut() = Body::stream(response.into_body());
    Ok(answer)
}

fn parameters(query: &Query) -> String {
    let mut parameters = form_urlencoded::Serializer::new(String::new());
    for name in NUMBERS.into_iter().chain(OTHERS) {
        if let Some(value) = query.non_empty(name) {
            parameters.append_pair(name, value);
        }
    }
    parameters.finish()
}

/// Returns the pod in the path.
pub(crate) fn pod(shared: &Shared, target: &Target) -> Result<Value, Status> {
    let kind: &'static Kind = target.kind;
    let pod = objects::get(&shared.objects, kind, &target.namespace, &target.name)?;
    objects::value(kind, &pod.body)
}

/// Returns the node that a pod is bound to.
pub(crate) fn node(pod: &Value) -> Option<&str> {
    pod["spec"]["nodeName"].as_str().filter(|node| !node.is_empty())
}

/// Returns `/<what>/<namespace>/<pod>/<container>`.
pub(crate) fn agent_path(what: &str, target: &Target, container: &str) -> String {
    let encode = |text| utf8_percent_encode(text, SEGMENT);
    format!(
        "/{what}/{}/{}/{}",
        encode(&target.namespace),
        encode(&target.name),
        encode(container)
    )
}

/// Returns the agent's error: the message of its `Status`, or the text of the response.
pub(crate) async fn agent_failure(response: Response<Incoming>) -> Status {
    let code = response.status().as_u16();
    let body = Limited::new(response.into_body(), AGENT_ERROR_BYTES_MAX)
        .collect()
        .await;
    let text = body
        .map(|body| String::from_utf8_lossy(&body.to_bytes()).into_owned())
        .unwrap_or_default();
    failure(code, &text)
}

fn failure(code: u16, text: &str) -> Status {
    let reason = match code {
        400 => "BadRequest",
        404 => "NotFound",
        _ => "InternalError",
    };
    let status = serde_json::from_str::<Value>(text).unwrap_or_default();
    let message = match status["kind"].as_str() {
        Some("Status") => status["message"].as_str().unwrap_or_default(),
        _ => text.trim(),
    };
    Status::new(code, reason, message)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_go_to_the_agent_as_they_are() {
        let target = Target {
            kind: api::kinds::by_kind("", "v1", "Pod").unwrap(),
            namespace: "kube-system".to_owned(),
            name: "web-1.a".to_owned(),
            subresource: "log".to_owned(),
        };
        assert_eq!(
            agent_path("containerLogs", &target, "a b/c"),
            "/containerLogs/kube-system/web-1.a/a%20b%2Fc"
        );
    }

    #[test]
    fn message_of_the_agents_status_is_passed_on() {
        let status = failure(
            404,
            r#"{"kind":"Status","message":"pod \"a\" is not on this node","code":404}"#,
        );
        assert_eq!(
            (status.code, status.reason, status.message.as_str()),
            (404, "NotFound", "pod \"a\" is not on this node")
        );
        assert_eq!(failure(502, " gone \n").message, "gone");
    }
}

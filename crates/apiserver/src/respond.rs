//! Responses. Objects are sent as their stored bytes when the client accepts them, or converted to
//! Tables or metadata.

use std::sync::Arc;

use api::kinds::Kind;
use api::status::Status;
use api::table::{self, IncludeObject, TableOptions};
use bytes::Bytes;
use http::header::{CONTENT_TYPE, HeaderValue, RETRY_AFTER, WARNING};
use http::{Response, StatusCode};
use jiff::Timestamp;
use serde_json::{Value, json};

use crate::body::Body;
use crate::negotiate::{Answer, Encoding, Shape};
use crate::objects::{self, Object};
use crate::query::Query;
use crate::request::Request;

/// Length in bytes to which each `Warning` text is cut when all texts together are too long, as in
/// Kubernetes.
const WARNING_BYTES_MAX: usize = 256;
/// Limit in bytes on the texts of all `Warning` headers of a response.
const WARNINGS_BYTES_MAX: usize = 4 * 1024;

/// Content of a verb's response.
pub(crate) enum Payload {
    /// A stored object.
    Stored(Arc<Object>),
    /// An object in its stored form with its revision: the result of a dry run.
    Bytes(Bytes),
    /// A value that is not an object of the kind, such as a Status or a review.
    Value(Value),
}

/// Converts objects of one kind to the form that a client requested.
#[derive(Clone, Copy)]
pub(crate) struct Presenter {
    pub(crate) kind: &'static Kind,
    pub(crate) answer: Answer,
    pub(crate) include: IncludeObject,
    pub(crate) now: Timestamp,
}

impl Presenter {
    /// Creates a presenter. Fails on an unknown `includeObject`.
    pub(crate) fn of(
        kind: &'static Kind,
        answer: Answer,
        query: &Query,
        now: Timestamp,
    ) -> Result<Presenter, Status> {
        let text = query.get("includeObject").unwrap_or_default();
        let include = IncludeObject::parse(text).ok_or_else(|| {
            Status::bad_request(format!(
                "unrecognized includeObject value: {}",
                api::field_error::quote(text)
            ))
        })?;
        Ok(Presenter {
            kind,
            answer,
            include,
            now,
        })
    }

    /// Returns whether the stored bytes are sent without conversion.
    pub(crate) fn is_plain(&self) -> bool {
        self.answer == Answer::JSON && self.kind.conversion.is_none()
    }

    /// Converts one object from its stored bytes. `headers` adds the columns to a Table.
    pub(crate) fn object(&self, body: &Bytes, headers: bool) -> Result<Bytes, Status> {
        if self.is_plain() {
            return Ok(body.clone());
        }
        let value = objects::value(self.kind, body)?;
        let shaped = match self.answer.shape {
            Shape::Object => value,
            Shape::Metadata(version) => table::partial_metadata(&value, version),
            Shape::Table(version) => {
                let list_meta = json!({"resourceVersion": api::meta::resource_version(&value)});
                table::table(
                    self.kind,
                    [&value],
                    list_meta,
                    self.table_options(version, headers),
                    self.now,
                )
            }
        };
        write(&shaped, self.answer.encoding)
    }

    /// Returns a list without items, and the name of the field for the items.
    pub(crate) fn empty_list(&self, list_meta: Value) -> (Value, &'static str) {
        match self.answer.shape {
            Shape::Object => {
                let list = json!({
                    "kind": format!("{}List", self.kind.kind),
                    "apiVersion": self.kind.api_version(),
                    "metadata": list_meta,
                    "items": [],
                });
                (list, "items")
            }
            Shape::Metadata(version) => (table::partial_metadata_list([], list_meta, version), "items"),
            Shape::Table(version) => {
                let options = self.table_options(version, true);
                (table::table(self.kind, [], list_meta, options, self.now), "rows")
            }
        }
    }

    /// Converts one item of a list.
    pub(crate) fn list_item(&self, body: &Bytes) -> Result<Value, Status> {
        let value = objects::value(self.kind, body)?;
        Ok(match self.answer.shape {
            Shape::Object => value,
            Shape::Metadata(version) => table::partial_metadata(&value, version),
            Shape::Table(version) => {
                table::row(self.kind, &value, self.table_options(version, false), self.now)
            }
        })
    }

    fn table_options<'a>(&self, version: &'a str, headers: bool) -> TableOptions<'a> {
        TableOptions {
            version,
            include: self.include,
            headers,
        }
    }
}

/// Writes a value in an encoding.
pub(crate) fn write(value: &Value, encoding: Encoding) -> Result<Bytes, Status> {
    match encoding {
        // `kind` and `apiVersion` come first, as in Go's output, because people read it with curl.
        Encoding::Json => Ok(head_first(value, None)),
        Encoding::PrettyJson => Ok(head_first(value, Some("  "))),
        Encoding::Yaml => serde_saphyr::to_string(value)
            .map(|text| Bytes::from(text.into_bytes()))
            .map_err(|error| Status::internal(format!("cannot write YAML: {error}"))),
    }
}

/// Writes an object as JSON, with an optional `indent`.
fn head_first(value: &Value, indent: Option<&str>) -> Bytes {
    let Some(fields) = value.as_object() else {
        return Bytes::from(value.to_string());
    };
    let is_head = |key: &str| matches!(key, "kind" | "apiVersion" | "metadata");
    let head = ["kind", "apiVersion", "metadata"]
        .into_iter()
        .filter_map(|key| Some((key, fields.get(key)?)));
    let rest = fields
        .iter()
        .map(|(key, value)| (key.as_str(), value))
        .filter(|(key, _)| !is_head(key));
    let mut out = String::from("{");
    for (key, value) in head.chain(rest) {
        if out.len() > 1 {
            out.push(',');
        }
        let key = Value::from(key);
        match indent {
            None => out.push_str(&format!("{key}:{value}")),
            Some(indent) => {
                // Line breaks inside strings are escaped, so each of these begins a line.
                let lines = format!("{value:#}").replace('\n', &format!("\n{indent}"));
                out.push_str(&format!("\n{indent}{key}: {lines}"));
            }
        }
    }
    out.push_str(if indent.is_some() { "\n}" } else { "}" });
    Bytes::from(out)
}

/// Returns the response of a verb.
pub(crate) fn payload(
    request: &Request,
    code: StatusCode,
    payload: &Payload,
) -> Result<Response<Body>, Status> {
    let presenter = Presenter::of(request.target.kind, request.answer, &request.query, request.now)?;
    let bytes = match payload {
        Payload::Stored(object) => presenter.object(&object.body, true)?,
        Payload::Bytes(body) => presenter.object(body, true)?,
        Payload::Value(value) => write(value, request.answer.encoding)?,
    };
    let mut response = bytes_response(code, request.answer.content_type(), bytes);
    add_warnings(&mut response, &request.warnings);
    Ok(response)
}

/// Returns a JSON response with a value that is not an object of a kind.
pub(crate) fn json(code: StatusCode, value: &Value) -> Response<Body> {
    bytes_response(code, crate::negotiate::JSON, head_first(value, None))
}

/// Returns a plain text response.
pub(crate) fn text(code: StatusCode, text: impl Into<String>) -> Response<Body> {
    bytes_response(code, "text/plain; charset=utf-8", Bytes::from(text.into()))
}

/// Returns a response with these bytes.
pub(crate) fn bytes_response(code: StatusCode, content_type: &'static str, bytes: Bytes) -> Response<Body> {
    let mut response = Response::new(Body::whole(bytes));
    *response.status_mut() = code;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    // Objects change, so no proxy may cache a response.
    headers.insert(
        http::header::CACHE_CONTROL,
        HeaderValue::from_static("no-cache, private"),
    );
    response
}

/// Returns a failure as a response.
pub(crate) fn status(status: &Status, encoding: Encoding) -> Response<Body> {
    let code = StatusCode::from_u16(status.code).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let value = status.to_value();
    let answer = Answer {
        encoding,
        ..Answer::JSON
    };
    let mut response = match write(&value, encoding) {
        Ok(bytes) => bytes_response(code, answer.content_type(), bytes),
        Err(_) => json(code, &value),
    };
    let retry_after = status
        .details
        .as_ref()
        .map_or(0, |details| details.retry_after_seconds);
    if retry_after > 0 {
        response
            .headers_mut()
            .insert(RETRY_AFTER, HeaderValue::from(retry_after));
    }
    response
}

/// Adds `Warning: 299 - "text"` headers. Texts are cut only if all of them together are too long,
/// as in Kubernetes.
pub(crate) fn add_warnings(response: &mut Response<Body>, warnings: &[String]) {
    let mut seen: Vec<&str> = Vec::new();
    for warning in warnings {
        if !seen.contains(&warning.as_str()) {
            seen.push(warning);
        }
    }
    let too_long = seen.iter().map(|text| text.len()).sum::<usize>() > WARNINGS_BYTES_MAX;
    let mut budget = WARNINGS_BYTES_MAX;
    for warning in seen {
        let mut text: String = warning
            .chars()
            .map(|c| if c.is_control() || !c.is_ascii() { ' ' } else { c })
            .collect();
        if too_long {
            text.truncate(WARNING_BYTES_MAX);
        }
        let Some(left) = budget.checked_sub(text.len()) else {
            return;
        };
        budget = left;
        let text = text.replace('\\', "\\\\").replace('"', "\\\"");
        if let Ok(value) = HeaderValue::from_str(&format!("299 - \"{text}\"")) {
            response.headers_mut().append(WARNING, value);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn warnings_are_quoted_once_and_bounded() {
        let mut response = text(StatusCode::OK, "");
        let mut warnings = vec![
            "unknown field \"spec.x\"".to_owned(),
            "unknown field \"spec.x\"".to_owned(),
        ];
        warnings.extend((0..100).map(|n| format!("{n}{}", "é".repeat(300))));
        add_warnings(&mut response, &warnings);
        let values: Vec<_> = response.headers().get_all(WARNING).iter().collect();
        assert_eq!(values[0], "299 - \"unknown field \\\"spec.x\\\"\"");
        assert!(values.len() < 20);
    }

    #[test]
    fn indented_json_is_the_same_json() {
        let value = json!({"a": ["x\ny", {"b": {}}], "kind": "K", "metadata": {"name": "n"}});
        let text = String::from_utf8(head_first(&value, Some("  ")).to_vec()).unwrap();
        assert_eq!(
            text,
            "{\n  \"kind\": \"K\",\n  \"metadata\": {\n    \"name\": \"n\"\n  },\n  \"a\": [\n    \"x\\ny\",\n    {\n      \"b\": {}\n    }\n  ]\n}"
        );
    }

    #[test]
    fn failures_say_when_to_come_back() {
        let response = status(&Status::too_many_requests("busy", 1), Encoding::Json);
        assert_eq!(response.status(), 429);
        assert_eq!(response.headers()[RETRY_AFTER], "1");
    }
}

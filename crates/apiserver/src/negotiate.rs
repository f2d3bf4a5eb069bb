//! Content negotiation: media types of requests and responses, and the shapes of responses.

use api::status::Status;
use http::HeaderMap;
use http::header::{ACCEPT, CONTENT_TYPE, USER_AGENT};
use schema::decode::Format;

/// Media type of JSON.
pub(crate) const JSON: &str = "application/json";
/// Media type of YAML.
pub(crate) const YAML: &str = "application/yaml";
/// Media type of Kubernetes' protobuf envelope. Only requests may have it.
pub(crate) const PROTOBUF: &str = "application/vnd.kubernetes.protobuf";

const BODIES: [&str; 3] = [JSON, YAML, PROTOBUF];
const ANSWERS: [&str; 2] = [JSON, YAML];

/// Encoding of a response.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Encoding {
    Json,
    /// JSON with line breaks and indentation.
    PrettyJson,
    Yaml,
}

/// Shape of the objects in a response.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Shape {
    /// The complete objects.
    Object,
    /// A `Table` in this version of `meta.k8s.io`.
    Table(&'static str),
    /// `PartialObjectMetadata`, or a `PartialObjectMetadataList`.
    Metadata(&'static str),
}

/// Form of the response that a client requested.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Answer {
    pub(crate) encoding: Encoding,
    pub(crate) shape: Shape,
}

impl Answer {
    /// Plain JSON objects.
    pub(crate) const JSON: Answer = Answer {
        encoding: Encoding::Json,
        shape: Shape::Object,
    };

    /// Returns the `Content-Type` of the response.
    pub(crate) fn content_type(&self) -> &'static str {
        match self.encoding {
            Encoding::Json | Encoding::PrettyJson => JSON,
            Encoding::Yaml => YAML,
        }
    }

    /// Returns the form that a request accepts. JSON is indented if people read it.
    pub(crate) fn wanted<B>(request: &http::Request<B>) -> Result<Answer, Status> {
        Answer::first(request, |_| true)
    }

    /// Returns the form that a request accepts, other than a Table. For objects without a Table,
    /// clients expect the next type that they accept.
    pub(crate) fn wanted_but_no_table<B>(request: &http::Request<B>) -> Result<Answer, Status> {
        Answer::first(request, |answer| !answer.is_table())
    }

    /// Returns whether the response is a Table.
    pub(crate) fn is_table(&self) -> bool {
        matches!(self.shape, Shape::Table(_))
    }

    fn first<B>(request: &http::Request<B>, can_be: fn(&Answer) -> bool) -> Result<Answer, Status> {
        let mut answer = Answer::of(request.headers(), can_be)?;
        if answer.encoding == Encoding::Json && is_for_people(request.uri().query(), request.headers()) {
            answer.encoding = Encoding::PrettyJson;
        }
        Ok(answer)
    }

    /// Returns the supported type with the highest quality, or status 406 when there is none.
    fn of(headers: &HeaderMap, can_be: fn(&Answer) -> bool) -> Result<Answer, Status> {
        let mut clauses = accept_clauses(headers).peekable();
        if clauses.peek().is_none() {
            return Ok(Answer::JSON);
        }
        let mut answers: Vec<(f32, Answer)> = clauses
            .filter_map(|clause| Some((clause.quality, answer(&clause)?)))
            .filter(|(_, answer)| can_be(answer))
            .collect();
        // The sort is stable, so the client's order decides among equal qualities.
        answers.sort_by(|(a, _), (b, _)| b.total_cmp(a));
        answers
            .first()
            .map(|(_, answer)| *answer)
            .ok_or_else(|| Status::not_acceptable(&ANSWERS))
    }
}

/// Returns whether JSON is indented: `pretty` decides, or else whether people read the client's
/// output.
fn is_for_people(query: Option<&str>, headers: &HeaderMap) -> bool {
    const SHOWN_AS_THEY_COME: [&str; 3] = ["curl", "Wget", "Mozilla/5.0"];
    let mut pairs = form_urlencoded::parse(query.unwrap_or_default().as_bytes());
    if let Some((_, value)) = pairs.find(|(key, _)| key == "pretty") {
        return !matches!(&*value, "false" | "0");
    }
    let agent = headers.get(USER_AGENT).and_then(|value| value.to_str().ok());
    agent.is_some_and(|agent| SHOWN_AS_THEY_COME.iter().any(|name| agent.starts_with(name)))
}

/// One media range of an `Accept` header.
pub(crate) struct Clause<'a> {
    pub(crate) media_type: &'a str,
    parameters: &'a str,
    quality: f32,
}

impl<'a> Clause<'a> {
    /// Returns the value of a parameter.
    pub(crate) fn parameter(&self, name: &str) -> Option<&'a str> {
        let pairs = self.parameters.split(';').filter_map(|pair| pair.split_once('='));
        pairs
            .map(|(key, value)| (key.trim(), value.trim()))
            .find(|(key, _)| *key == name)
            .map(|(_, value)| value)
    }
}

/// Returns the media ranges of all `Accept` headers, in order.
pub(crate) fn accept_clauses(headers: &HeaderMap) -> impl Iterator<Item = Clause<'_>> {
    let texts = headers
        .get_all(ACCEPT)
        .into_iter()
        .filter_map(|value| value.to_str().ok());
    texts
        .flat_map(|text| text.split(','))
        .map(str::trim)
        .filter(|text| !text.is_empty())
        .map(|text| {
            let (media_type, parameters) = text.split_once(';').unwrap_or((text, ""));
            let mut clause = Clause {
                media_type: media_type.trim(),
                parameters,
                quality: 1.0,
            };
            clause.quality = clause.parameter("q").and_then(|q| q.parse().ok()).unwrap_or(1.0);
            clause
        })
}

fn answer(clause: &Clause<'_>) -> Option<Answer> {
    let encoding = match clause.media_type {
        JSON | "*/*" | "application/*" | "text/json" => Encoding::Json,
        YAML | "text/yaml" | "application/x-yaml" => Encoding::Yaml,
        _ => return None,
    };
    let version = match clause.parameter("v") {
        Some("v1beta1") => Some("v1beta1"),
        None | Some("v1") => Some("v1"),
        Some(_) => None,
    };
    let shape = match clause.parameter("as") {
        None => Shape::Object,
        Some("Table") => Shape::Table(version?),
        Some("PartialObjectMetadata" | "PartialObjectMetadataList") => Shape::Metadata(version?),
        Some(_) => return None,
    };
    Some(Answer { encoding, shape })
}

/// Returns the format of a request's body. Without a `Content-Type`, it is JSON.
pub(crate) fn body_format(headers: &HeaderMap) -> Result<Format, Status> {
    match media_type(headers) {
        "" | JSON | "text/json" => Ok(Format::Json),
        YAML | "text/yaml" | "application/x-yaml" => Ok(Format::Yaml),
        PROTOBUF => Ok(Format::Protobuf),
        _ => Err(Status::unsupported_media_type(&BODIES)),
    }
}

/// Type of a patch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum PatchType {
    Json,
    Merge,
    Strategic,
}

const PATCHES: [&str; 3] = [
    "application/json-patch+json",
    "application/merge-patch+json",
    "application/strategic-merge-patch+json",
];

/// Returns the type of a request's patch.
pub(crate) fn patch_type(headers: &HeaderMap) -> Result<PatchType, Status> {
    match media_type(headers) {
        "application/json-patch+json" => Ok(PatchType::Json),
        "application/merge-patch+json" => Ok(PatchType::Merge),
        "application/strategic-merge-patch+json" => Ok(PatchType::Strategic),
        "application/apply-patch+yaml" | "application/apply-patch+cbor" => {
            let mut status = Status::unsupported_media_type(&PATCHES);
            status.message = format!(
                "server-side apply is not served; use client-side apply or another patch - accepted media types \
                 include: {}",
                PATCHES.join(", ")
            );
            Err(status)
        }
        _ => Err(Status::unsupported_media_type(&PATCHES)),
    }
}

fn media_type(headers: &HeaderMap) -> &str {
    let text = headers
        .get(CONTENT_TYPE)
        .and_then(|value| value.to_str().ok())
        .unwrap_or_default();
    text.split(';').next().unwrap_or_default().trim()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn accept(text: &str) -> Result<Answer, Status> {
        let mut headers = HeaderMap::new();
        headers.insert(ACCEPT, text.parse().unwrap());
        Answer::of(&headers, |_| true)
    }

    fn shape(shape: Shape) -> Answer {
        Answer {
            shape,
            ..Answer::JSON
        }
    }

    #[test]
    fn client_that_says_nothing_gets_json() {
        assert_eq!(Answer::of(&HeaderMap::new(), |_| true).unwrap(), Answer::JSON);
        assert_eq!(accept("*/*").unwrap(), Answer::JSON);
    }

    #[test]
    fn protobuf_is_passed_over_for_json() {
        assert_eq!(
            accept("application/vnd.kubernetes.protobuf,application/json").unwrap(),
            Answer::JSON
        );
        assert_eq!(
            accept("application/vnd.kubernetes.protobuf").unwrap_err().code,
            406
        );
    }

    #[test]
    fn kubectl_get_asks_for_a_table() {
        let text = "application/json;as=Table;v=v1;g=meta.k8s.io,application/json;as=Table;v=v1beta1;g=meta.k8s.io,application/json";
        assert_eq!(accept(text).unwrap(), shape(Shape::Table("v1")));
    }

    #[test]
    fn tables_of_an_unknown_version_are_passed_over() {
        let text = "application/json;as=Table;v=v9;g=meta.k8s.io";
        assert_eq!(accept(text).unwrap_err().code, 406);
        assert_eq!(accept(&format!("{text},application/json")).unwrap(), Answer::JSON);
    }

    #[test]
    fn quality_orders_what_is_accepted() {
        assert_eq!(
            accept("application/yaml;q=0.5,application/json").unwrap(),
            Answer::JSON
        );
        assert_eq!(
            accept("application/json;q=0.5,application/yaml")
                .unwrap()
                .encoding,
            Encoding::Yaml
        );
    }

    #[test]
    fn people_get_indented_json_when_they_ask_or_use_curl() {
        let encoding = |uri: &str, agent: &str| {
            let request = http::Request::get(uri).header("user-agent", agent);
            Answer::wanted(&request.body(()).unwrap()).unwrap().encoding
        };
        for (uri, agent) in [
            ("/x?pretty=true", ""),
            ("/x?pretty", "kubectl/v1"),
            ("/x", "curl/8"),
        ] {
            assert_eq!(encoding(uri, agent), Encoding::PrettyJson, "{uri} {agent}");
        }
        for (uri, agent) in [
            ("/x", "kubectl/v1"),
            ("/x?pretty=false", "curl/8"),
            ("/x?pretty=0", ""),
        ] {
            assert_eq!(encoding(uri, agent), Encoding::Json, "{uri} {agent}");
        }
    }

    #[test]
    fn metadata_clients_get_metadata() {
        let text = "application/vnd.kubernetes.protobuf;as=PartialObjectMetadata;g=meta.k8s.io;v=v1,application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1,application/json";
        assert_eq!(accept(text).unwrap(), shape(Shape::Metadata("v1")));
    }

    #[test]
    fn unknown_bodies_are_refused() {
        let mut headers = HeaderMap::new();
        headers.insert(CONTENT_TYPE, "text/plain".parse().unwrap());
        assert_eq!(body_format(&headers).unwrap_err().code, 415);
        headers.insert(CONTENT_TYPE, "application/json; charset=utf-8".parse().unwrap());
        assert!(matches!(body_format(&headers), Ok(Format::Json)));
        headers.insert(CONTENT_TYPE, "application/apply-patch+yaml".parse().unwrap());
        assert_eq!(patch_type(&headers).unwrap_err().code, 415);
    }
}

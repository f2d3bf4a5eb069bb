//! Client of one repository of an OCI registry. The registry is not trusted: each response has
//! limits for bytes, redirects and time without progress, and content with a digest is compared
//! with it.

use std::net::IpAddr;
use std::time::{Duration, Instant};

use reqwest::header::{ACCEPT, HeaderMap, WWW_AUTHENTICATE};
use reqwest::redirect::{Attempt, Policy};
use reqwest::{Client, Response, StatusCode, Url};
use serde::Deserialize;

use super::manifest::{Check, DOCUMENT_LIMIT, Descriptor, check_digest, parse_digest};
use super::name::Reference;
use crate::{Error, ErrorKind, Result};

/// Timeout for name resolution and connection together.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// Timeout for a registry that sends nothing.
const SILENCE: Duration = Duration::from_secs(60);

/// A transfer that receives fewer than [`LEAST_PROGRESS`] bytes in this time is canceled, because
/// it would hold one of the node's few permits for transfers.
const PROGRESS_TIME: Duration = Duration::from_secs(60);

/// Bytes in [`PROGRESS_TIME`]. 1 KiB/s is less than the slowest links of machines.
const LEAST_PROGRESS: u64 = 60 << 10;

/// Limit of redirects of one request. From a registry to its storage there are one or two. Go's
/// HTTP client, which Kubernetes' runtimes use, has the limit 10.
const REDIRECTS: usize = 10;

/// Limit of a token server's response in bytes. Tokens of cloud providers have a few kilobytes.
const TOKEN_LIMIT: u64 = 256 << 10;

/// Limit of an error's body in bytes.
const ERROR_LIMIT: u64 = 64 << 10;

/// Limit of an error's text in characters, because it is copied to a pod's status.
const ERROR_TEXT: usize = 300;

/// Media types of documents that a name may refer to.
const MANIFEST_TYPES: &str = "application/vnd.oci.image.index.v1+json, application/vnd.oci.image.manifest.v1+json, \
    application/vnd.docker.distribution.manifest.list.v2+json, application/vnd.docker.distribution.manifest.v2+json";

/// Credentials for a registry.
#[derive(Clone, Debug, Default)]
pub enum Credentials {
    /// Anonymous.
    #[default]
    Anonymous,
    /// User name and password.
    Basic {
        /// User name.
        username: String,
        /// Password or access token.
        password: String,
    },
    /// A registry token.
    Bearer(String),
}

/// Authorization that requests carry.
#[derive(Clone)]
enum Authorization {
    None,
    Basic,
    Bearer(String),
}

/// One repository of a registry.
pub(super) struct Registry {
    client: Client,
    host: String,
    repository: String,
    /// Whether plain HTTP is used, as for registries on loopback addresses.
    is_plain: bool,
    credentials: Credentials,
    authorization: Authorization,
}

impl Registry {
    pub(super) fn new(reference: &Reference, credentials: &Credentials) -> Result<Registry> {
        if rustls::crypto::CryptoProvider::get_default().is_none() {
            // Another thread may install one at the same time; either can be used.
            drop(rustls::crypto::ring::default_provider().install_default());
        }
        let host = reference.host().to_owned();
        let is_plain = is_this_machine(&host);
        let client = Client::builder()
            .connect_timeout(CONNECT_TIMEOUT)
            .redirect(Policy::custom(follow))
            .user_agent(concat!("everynode/", env!("CARGO_PKG_VERSION")))
            .build()
            .map_err(|cause| {
                let cause = chain(&cause);
                Error::machine(format!(
                    "make an HTTP client: {cause}. Where the machine has no certificate authorities, install the package ca-certificates"
                ))
            })?;
        Ok(Registry {
            client,
            repository: reference.repository().to_owned(),
            is_plain,
            authorization: match credentials {
                Credentials::Bearer(token) => Authorization::Bearer(token.clone()),
                _ => Authorization::None,
            },
            credentials: credentials.clone(),
            host,
        })
    }

    /// Returns the bytes of an index or a manifest, which must have `digest` if it is given.
    /// Requests `version`, a digest or a tag.
    pub(super) async fn manifest(&mut self, version: &str, digest: Option<&str>) -> Result<Vec<u8>> {
        if let Some(digest) = digest {
            parse_digest(digest)?;
        }
        let response = self.get(&format!("manifests/{version}"), MANIFEST_TYPES).await?;
        let bytes = self.body(response, DOCUMENT_LIMIT, "the manifest").all().await?;
        if let Some(digest) = digest {
            check_digest(digest, &bytes)?;
        }
        Ok(bytes)
    }

    /// Returns the bytes of a small blob.
    pub(super) async fn document(&mut self, descriptor: &Descriptor, limit: u64) -> Result<Vec<u8>> {
        if descriptor.size > limit {
            return Err(Error::invalid(format!(
                "image config: the manifest announces {} bytes, and at most {limit} are read",
                descriptor.size
            )));
        }
        let mut body = self.blob(descriptor).await?;
        let bytes = body.all().await?;
        body.check()?;
        Ok(bytes)
    }

    /// Returns the content of a blob, which must have the announced size and digest.
    pub(super) async fn blob(&mut self, descriptor: &Descriptor) -> Result<Body> {
        let check = Check::new(&descriptor.digest)?;
        let response = self.get(&format!("blobs/{}", descriptor.digest), "*/*").await?;
        let mut body = self.body(response, descriptor.size, &descriptor.digest);
        body.expected = Some((check, descriptor.size));
        Ok(body)
    }

    fn body(&self, response: Response, limit: u64, what: &str) -> Body {
        Body {
            registry: self.host.clone(),
            what: what.to_owned(),
            response,
            limit,
            received: 0,
            progress: Progress::new(Instant::now()),
            expected: None,
        }
    }

    /// Sends a request for a path of the repository. Authenticates if the registry requires it.
    async fn get(&mut self, path: &str, accept: &'static str) -> Result<Response> {
        let scheme = if self.is_plain { "http" } else { "https" };
        let url = format!("{scheme}://{}/v2/{}/{path}", self.host, self.repository);
        let url: Url = url
            .parse()
            .map_err(|cause| Error::invalid(format!("registry {}: {cause}", self.host)))?;
        let mut response = self.send(&url, accept).await?;
        if response.status() == StatusCode::UNAUTHORIZED
            && let Some(authorization) = self.answer(response.headers()).await?
        {
            self.authorization = authorization;
            response = self.send(&url, accept).await?;
        }
        match response.status().is_success() {
            true => Ok(response),
            false => Err(self.refusal(response).await),
        }
    }

    async fn send(&self, url: &Url, accept: &'static str) -> Result<Response> {
        let request = self.client.get(url.clone()).header(ACCEPT, accept);
        let request = match (&self.authorization, &self.credentials) {
            (Authorization::Bearer(token), _) => request.bearer_auth(token),
            (Authorization::Basic, Credentials::Basic { username, password }) => {
                request.basic_auth(username, Some(password))
            }
            _ => request,
        };
        self.response(request).await
    }

    /// Sends a request and returns the response without its body.
    async fn response(&self, request: reqwest::RequestBuilder) -> Result<Response> {
        match tokio::time::timeout(SILENCE, request.send()).await {
            Ok(Ok(response)) => Ok(response),
            Ok(Err(error)) if error.is_redirect() => {
                Err(self.unavailable("does not answer as it should", &error))
            }
            Ok(Err(error)) => Err(self.unavailable("is not reachable", &error)),
            Err(_) => Err(silent(&self.host)),
        }
    }

    fn unavailable(&self, what: &str, error: &reqwest::Error) -> Error {
        Error::new(
            ErrorKind::RegistryUnavailable,
            format!("registry {} {what}: {}", self.host, chain(error)),
        )
    }

    /// Returns the authorization for a registry's challenge; `None` if it cannot be answered.
    async fn answer(&self, headers: &HeaderMap) -> Result<Option<Authorization>> {
        let challenges = headers.get_all(WWW_AUTHENTICATE).iter();
        for challenge in challenges.filter_map(|value| Challenge::parse(value.to_str().ok()?)) {
            match (challenge, &self.credentials) {
                (Challenge::Basic, Credentials::Basic { .. }) => return Ok(Some(Authorization::Basic)),
                (
                    Challenge::Bearer { realm, service },
                    Credentials::Anonymous | Credentials::Basic { .. },
                ) => {
                    let token = self.token(&realm, service.as_deref()).await?;
                    return Ok(Some(Authorization::Bearer(token)));
                }
                _ => {}
            }
        }
        Ok(None)
    }

    /// Returns a token for reading the repository, from the token server that the registry names.
    async fn token(&self, realm: &str, service: Option<&str>) -> Result<String> {
        #[derive(Deserialize)]
        struct Answer {
            token: Option<String>,
            access_token: Option<String>,
        }
        let url = realm.parse::<Url>().ok();
        let Some(mut url) = url.filter(|url| self.trusts(url)) else {
            return Err(Error::new(
                ErrorKind::Unauthorized,
                format!(
                    "registry {} names the token server {}, which must be an https URL, because it gets the password",
                    self.host,
                    plain(realm)
                ),
            ));
        };
        url.query_pairs_mut()
            .extend_pairs(service.map(|service| ("service", service)))
            .append_pair("scope", &format!("repository:{}:pull", self.repository));
        let mut request = self.client.get(url);
        if let Credentials::Basic { username, password } = &self.credentials {
            request = request.basic_auth(username, Some(password));
        }
        let response = self.response(request).await?;
        if !response.status().is_success() {
            return Err(self.refusal(response).await);
        }
        let bytes = self.body(response, TOKEN_LIMIT, "the token").all().await?;
        let answer: Option<Answer> = serde_json::from_slice(&bytes).ok();
        answer
            .and_then(|answer| answer.token.or(answer.access_token))
            .ok_or_else(|| {
                Error::new(
                    ErrorKind::Unauthorized,
                    format!(
                        "registry {} refuses access: its token server gives no token",
                        self.host
                    ),
                )
            })
    }

    /// Returns whether the password may be sent to a token server. Any host that the registry names
    /// may receive it, as in other runtimes, because large registries keep users there. Without TLS
    /// only the registry itself may receive it, because it receives it anyway.
    fn trusts(&self, url: &Url) -> bool {
        let registry = format!("http://{}", self.host).parse::<Url>();
        url.scheme() == "https" || (self.is_plain && registry.is_ok_and(|own| own.origin() == url.origin()))
    }

    /// Returns the error of an unsuccessful response.
    async fn refusal(&self, response: Response) -> Error {
        let status = response.status();
        let (kind, what) = match status {
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => (ErrorKind::Unauthorized, "refuses access"),
            StatusCode::NOT_FOUND => (ErrorKind::ImageNotFound, "does not have it"),
            _ => (ErrorKind::RegistryUnavailable, "does not answer as it should"),
        };
        let body = self.body(response, ERROR_LIMIT, "an error").all().await;
        let text = body.ok().and_then(|bytes| error_text(&bytes));
        let text = text.map(|text| format!(": {text}")).unwrap_or_default();
        Error::new(kind, format!("registry {} {what}: {status}{text}", self.host))
    }
}

/// Returns whether a registry is on this machine. It is used without TLS, so a name that only
/// starts like a loopback address is not accepted.
fn is_this_machine(host: &str) -> bool {
    let (name, port) = host.rsplit_once(':').unwrap_or((host, ""));
    let name = if port.ends_with(']') { host } else { name };
    let address = name
        .trim_start_matches('[')
        .trim_end_matches(']')
        .parse::<IpAddr>();
    name == "localhost" || address.is_ok_and(|address| address.is_loopback())
}

/// Follows a redirect unless there were too many, or it would leave TLS.
fn follow(attempt: Attempt<'_>) -> reqwest::redirect::Action {
    let is_secure = |url: &Url| url.scheme() == "https";
    if attempt.previous().len() > REDIRECTS {
        return attempt.error(format!("more than {REDIRECTS} redirects"));
    }
    if attempt.previous().last().is_some_and(is_secure) && !is_secure(attempt.url()) {
        return attempt.error("a redirect from https to http");
    }
    attempt.follow()
}

/// Body of a response, in pieces.
pub(super) struct Body {
    registry: String,
    what: String,
    response: Response,
    limit: u64,
    received: u64,
    progress: Progress,
    expected: Option<(Check, u64)>,
}

impl Body {
    /// Returns the next piece; `None` at the end. Fails as soon as the body exceeds its limit.
    pub(super) async fn next(&mut self) -> Result<Option<bytes::Bytes>> {
        let piece = match tokio::time::timeout(SILENCE, self.response.chunk()).await {
            Ok(Ok(piece)) => piece,
            Ok(Err(error)) => {
                return Err(Error::new(
                    ErrorKind::RegistryUnavailable,
                    format!(
                        "registry {} breaks {} off: {}",
                        self.registry,
                        self.what,
                        chain(&error)
                    ),
                ));
            }
            Err(_) => return Err(silent(&self.registry)),
        };
        let Some(piece) = piece else { return Ok(None) };
        self.received += piece.len() as u64;
        if self.received > self.limit {
            return Err(Error::invalid(format!(
                "registry {} sends more than {} bytes as {}",
                self.registry, self.limit, self.what
            )));
        }
        if !self.progress.suffices(Instant::now(), piece.len() as u64) {
            return Err(Error::new(
                ErrorKind::RegistryUnavailable,
                format!(
                    "registry {} sends less than {LEAST_PROGRESS} bytes of {} in {} seconds",
                    self.registry,
                    self.what,
                    PROGRESS_TIME.as_secs()
                ),
            ));
        }
        if let Some((check, _)) = &mut self.expected {
            check.update(&piece);
        }
        Ok(Some(piece))
    }

    async fn all(&mut self) -> Result<Vec<u8>> {
        let mut bytes = Vec::new();
        while let Some(piece) = self.next().await? {
            bytes.extend_from_slice(&piece);
        }
        Ok(bytes)
    }

    /// After the last piece, returns an error if size or digest are not the announced ones.
    pub(super) fn check(self) -> Result<()> {
        let Some((check, size)) = self.expected else {
            return Ok(());
        };
        if self.received != size {
            return Err(Error::invalid(format!(
                "registry {} sends {} bytes as {}, and {size} were announced",
                self.registry, self.received, self.what
            )));
        }
        match check.holds() {
            true => Ok(()),
            false => Err(Error::invalid(format!(
                "registry {} sends something else as {}",
                self.registry, self.what
            ))),
        }
    }
}

/// Measures whether a transfer is fast enough.
struct Progress {
    /// Start of the current interval.
    since: Instant,
    received: u64,
}

impl Progress {
    fn new(now: Instant) -> Progress {
        Progress {
            since: now,
            received: 0,
        }
    }

    /// Counts a piece. If it ends an interval, returns whether the interval had enough bytes.
    fn suffices(&mut self, now: Instant, bytes: u64) -> bool {
        self.received += bytes;
        if now.duration_since(self.since) < PROGRESS_TIME {
            return true;
        }
        let enough = self.received >= LEAST_PROGRESS;
        *self = Progress::new(now);
        enough
    }
}

/// Authentication that a registry requests.
#[derive(Debug, PartialEq)]
enum Challenge {
    Basic,
    Bearer { realm: String, service: Option<String> },
}

impl Challenge {
    /// Parses one header of RFC 9110, section 11.6.1, with one challenge. The parameters are a list
    /// of `name="value"`.
    fn parse(header: &str) -> Option<Challenge> {
        let (scheme, mut rest) = header.trim().split_once(' ').unwrap_or((header.trim(), ""));
        if scheme.eq_ignore_ascii_case("basic") {
            return Some(Challenge::Basic);
        }
        if !scheme.eq_ignore_ascii_case("bearer") {
            return None;
        }
        let (mut realm, mut service) = (None, None);
        while let Some((name, after)) = rest.split_once('=') {
            let name = name.trim_matches([' ', ',']);
            let (value, after) = match after.strip_prefix('"') {
                Some(quoted) => quoted.split_once('"')?,
                None => after.split_once(',').unwrap_or((after, "")),
            };
            match name.to_ascii_lowercase().as_str() {
                "realm" => realm = Some(value.to_owned()),
                "service" => service = Some(value.to_owned()),
                _ => {}
            }
            rest = after;
        }
        realm.map(|realm| Challenge::Bearer { realm, service })
    }
}

fn silent(registry: &str) -> Error {
    Error::new(
        ErrorKind::RegistryUnavailable,
        format!(
            "registry {registry} sends nothing for {} seconds",
            SILENCE.as_secs()
        ),
    )
}

/// Returns the codes and messages of an error's body, in the form of the distribution
/// specification.
fn error_text(bytes: &[u8]) -> Option<String> {
    #[derive(Deserialize)]
    struct Envelope {
        errors: Vec<One>,
    }
    #[derive(Deserialize)]
    struct One {
        #[serde(default)]
        code: String,
        #[serde(default)]
        message: String,
    }
    let envelope: Envelope = serde_json::from_slice(bytes).ok()?;
    let texts: Vec<String> = envelope
        .errors
        .into_iter()
        .take(3)
        .map(|one| format!("{} {}", one.code, one.message).trim().to_owned())
        .filter(|text| !text.is_empty())
        .collect();
    (!texts.is_empty()).then(|| plain(&texts.join("; ")))
}

/// Returns untrusted text, shortened and without control characters.
fn plain(text: &str) -> String {
    let letters = text.chars().filter(|letter| !letter.is_control());
    letters.take(ERROR_TEXT).collect()
}

/// Returns an error with its causes.
fn chain(error: &dyn std::error::Error) -> String {
    let mut words = error.to_string();
    let mut cause = error.source();
    while let Some(inner) = cause {
        let text = inner.to_string();
        if !words.contains(&text) {
            words.push_str(": ");
            words.push_str(&text);
        }
        cause = inner.source();
    }
    plain(&words)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_challenge_names_the_token_server() {
        let bearer = |realm: &str, service: Option<&str>| {
            Some(Challenge::Bearer {
                realm: realm.to_owned(),
                service: service.map(str::to_owned),
            })
        };
        let cases = [
            ("Basic realm=\"here\"", Some(Challenge::Basic)),
            ("basic", Some(Challenge::Basic)),
            (
                "Bearer realm=\"https://a/token\",service=\"b c\",scope=\"repository:x:pull\"",
                bearer("https://a/token", Some("b c")),
            ),
            (
                "bearer service=b, realm=https://a/t",
                bearer("https://a/t", Some("b")),
            ),
            ("Bearer service=\"b\"", None),
            ("Bearer realm=\"open", None),
            ("Negotiate", None),
            ("", None),
        ];
        for (header, expected) in cases {
            assert_eq!(Challenge::parse(header), expected, "{header}");
        }
    }

    #[test]
    fn a_password_goes_without_tls_to_a_registry_on_this_machine_alone() {
        for host in [
            "localhost",
            "localhost:5000",
            "127.0.0.1:5000",
            "127.8.9.1",
            "[::1]:5000",
            "[::1]",
        ] {
            assert!(is_this_machine(host), "{host}");
        }
        for host in [
            "127.evil.example",
            "127.0.0.1.evil.example:80",
            "localhost.evil.example",
            "10.0.0.1:5000",
            "[::2]",
        ] {
            assert!(!is_this_machine(host), "{host}");
        }
        let trusts = |registry: &str, realm: &str| {
            let reference = super::super::name::parse_name(&format!("{registry}/app")).expect("a name");
            let registry = Registry::new(&reference, &Credentials::Anonymous).expect("a client");
            registry.trusts(&realm.parse().expect("a URL"))
        };
        assert!(trusts("docker.io", "https://auth.docker.io/token"));
        assert!(trusts("localhost:5000", "https://auth.example/token"));
        assert!(trusts("localhost:5000", "http://localhost:5000/token"));
        assert!(!trusts("docker.io", "http://auth.docker.io/token"));
        assert!(!trusts("a.example", "http://a.example/token"));
        assert!(!trusts("localhost:5000", "http://evil.example/token"));
        assert!(!trusts("localhost:5000", "http://localhost:5001/token"));
        assert!(!trusts("localhost:5000", "ftp://localhost:5000/token"));
    }

    #[test]
    fn a_transfer_that_drips_is_given_up() {
        let start = Instant::now();
        let mut drips = Progress::new(start);
        let second = |number: u64| start + Duration::from_secs(number);
        assert!((1..60).all(|number| drips.suffices(second(number), 1)));
        assert!(!drips.suffices(second(60), 1));
        let mut flows = Progress::new(start);
        assert!((1..300).all(|number| flows.suffices(second(number), 1 << 10)));
    }

    #[test]
    fn error_text_is_cut_and_has_no_control_characters() {
        let long = "x".repeat(10_000);
        let body = format!(r#"{{"errors":[{{"code":"DENIED","message":"a\u001b[2Jb {long}"}}]}}"#);
        let text = error_text(body.as_bytes()).expect("a text");
        assert!(text.starts_with("DENIED a[2Jb x"), "{text}");
        assert_eq!(text.chars().count(), ERROR_TEXT);
        assert_eq!(error_text(b"<html>"), None);
    }
}

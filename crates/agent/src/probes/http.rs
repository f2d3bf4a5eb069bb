//! HTTP and gRPC requests of probes and hooks: one connection each, certificates not checked, as the kubelet does it.

use std::sync::Arc;

use bytes::Bytes;
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use hyper::{Request, Uri};
use hyper_util::rt::TokioIo;
use k8s_openapi::api::core::v1::HTTPGetAction;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use super::tasks::Tasks;

/// What is read of an answer: enough for any health page, in bytes.
const BODY: usize = 10 << 10;
/// What is read of an answer's head, in bytes.
const HEAD: usize = 64 << 10;

/// How many requests one probe may take: Go's client, and so the kubelet, follows that many redirects.
const REQUESTS: usize = 10;

/// What a server answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Page {
    pub(crate) status: u16,
    /// Its beginning.
    pub(crate) body: String,
}

/// Where a request goes.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Place {
    https: bool,
    /// IPv6 addresses in brackets.
    host: String,
    port: u16,
    /// Path and query.
    path: String,
}

impl Place {
    fn url(&self) -> String {
        let scheme = if self.https { "https" } else { "http" };
        format!("{scheme}://{}:{}{}", self.host, self.port, self.path)
    }

    /// Where a redirect leads that was found here.
    fn follow(&self, location: &str) -> Option<Place> {
        let location = location.split('#').next().unwrap_or_default();
        let absolute = match location.strip_prefix("//") {
            Some(_) if self.https => format!("https:{location}"),
            Some(_) => format!("http:{location}"),
            None => location.to_owned(),
        };
        if let Ok(uri) = absolute.parse::<Uri>()
            && let Some(scheme) = uri.scheme_str()
        {
            let https = scheme.eq_ignore_ascii_case("https");
            if !https && !scheme.eq_ignore_ascii_case("http") {
                return None;
            }
            return Some(Place {
                https,
                host: uri.host()?.to_ascii_lowercase(),
                port: uri.port_u16().unwrap_or(if https { 443 } else { 80 }),
                path: uri.path_and_query().map_or("/", |path| path.as_str()).to_owned(),
            });
        }
        let here = self.path.split('?').next().unwrap_or_default();
        let path = match location {
            absolute if absolute.starts_with('/') => absolute.to_owned(),
            query if query.starts_with('?') => format!("{here}{query}"),
            beside => {
                let folder = here.rsplit_once('/').map_or("", |(folder, _)| folder);
                format!("{folder}/{beside}")
            }
        };
        Some(Place { path, ..self.clone() })
    }
}

/// Sends the request of a probe or hook, and follows redirects on the same host. One that leads to another host is the answer.
pub(crate) async fn get(
    action: &HTTPGetAction,
    pod_host: &str,
    port: u16,
    agent: &str,
) -> Result<Page, String> {
    let named = action.host.as_deref().filter(|host| !host.is_empty());
    let scheme = action.scheme.as_deref().unwrap_or("HTTP");
    let path = action.path.as_deref().unwrap_or_default();
    let first = Place {
        https: scheme.eq_ignore_ascii_case("https"),
        host: named.unwrap_or(pod_host).to_owned(),
        port,
        path: format!("/{}", path.strip_prefix('/').unwrap_or(path)),
    };
    let mut headers: Vec<(String, String)> = action
        .http_headers
        .iter()
        .flatten()
        .map(|header| (header.name.clone(), header.value.clone()))
        .collect();
    let has = |headers: &[(String, String)], wanted: &str| {
        headers.iter().any(|(name, _)| name.eq_ignore_ascii_case(wanted))
    };
    for (name, value) in [("User-Agent", agent), ("Accept", "*/*")] {
        if !has(&headers, name) {
            headers.push((name.to_owned(), value.to_owned()));
        }
    }
    // An empty one takes the default away.
    headers.retain(|(name, value)| !name.eq_ignore_ascii_case("accept") || !value.is_empty());

    let mut place = first.clone();
    for _ in 0..REQUESTS {
        let (page, location) = ask(&place, &headers)
            .await
            .map_err(|why| format!("Get \"{}\": {why}", place.url()))?;
        let redirects = matches!(page.status, 301 | 302 | 303 | 307 | 308);
        let next = location
            .filter(|_| redirects)
            .and_then(|location| place.follow(&location));
        match next {
            Some(next) if next.host == first.host.to_ascii_lowercase() => place = next,
            _ => return Ok(page),
        }
    }
    Err(format!(
        "Get \"{}\": stopped after {REQUESTS} redirects",
        place.url()
    ))
}

/// One request: the answer, and where it leads.
async fn ask(place: &Place, headers: &[(String, String)]) -> Result<(Page, Option<String>), String> {
    let Place { host, port, .. } = place;
    let mut request = Request::get(&place.path).header("Connection", "close");
    let mut host_header = format!("{host}:{port}");
    for (name, value) in headers {
        if name.eq_ignore_ascii_case("host") {
            host_header.clone_from(value);
        } else {
            request = request.header(name, value);
        }
    }
    let request = request.header("Host", host_header);
    let request = request
        .body(Full::<Bytes>::default())
        .map_err(|error| error.to_string())?;
    let bare = host.trim_matches(['[', ']']);
    let stream = TcpStream::connect((bare, *port)).await;
    let stream = stream.map_err(|error| format!("dial tcp {host}:{port}: {error}"))?;
    if !place.https {
        return send(stream, request).await;
    }
    let name = ServerName::try_from(bare.to_owned()).map_err(|error| error.to_string())?;
    // A probe asks whether the server answers, not who it is.
    let stream = TlsConnector::from(Arc::new(tls::believing_any_server()))
        .connect(name, stream)
        .await
        .map_err(|error| error.to_string())?;
    send(stream, request).await
}

async fn send<S>(stream: S, request: Request<Full<Bytes>>) -> Result<(Page, Option<String>), String>
where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let text = |error: hyper::Error| error.to_string();
    let (mut sender, connection) = hyper::client::conn::http1::Builder::new()
        .max_buf_size(HEAD)
        .handshake(TokioIo::new(stream))
        .await
        .map_err(text)?;
    let exchange = async {
        let response = sender.send_request(request).await.map_err(text)?;
        let status = response.status().as_u16();
        let location = response.headers().get("location");
        let location = location.and_then(|location| Some(location.to_str().ok()?.to_owned()));
        let body = beginning(response.into_body()).await;
        Ok((Page { status, body }, location))
    };
    tokio::pin!(connection);
    tokio::pin!(exchange);
    let mut open = true;
    loop {
        tokio::select! {
            answer = &mut exchange => return answer,
            _ = &mut connection, if open => open = false,
        }
    }
}

/// The first bytes of a body; the rest of a long page tells nothing more.
async fn beginning(mut body: Incoming) -> String {
    let mut kept = Vec::new();
    while kept.len() < BODY
        && let Some(Ok(frame)) = body.frame().await
    {
        if let Ok(data) = frame.into_data() {
            kept.extend_from_slice(&data[..data.len().min(BODY - kept.len())]);
        }
    }
    String::from_utf8_lossy(&kept).into_owned()
}

/// Asks a gRPC server's health service; an error unless it is SERVING.
pub(crate) async fn grpc_health(address: &str, service: &str) -> Result<(), String> {
    let failed = |why: String| format!("grpc health check of {address}: {why}");
    let stream = TcpStream::connect(address)
        .await
        .map_err(|error| failed(error.to_string()))?;
    let tasks = Tasks::default();
    let handshake = hyper::client::conn::http2::handshake(tasks.spawner(), TokioIo::new(stream)).await;
    let (mut sender, connection) = handshake.map_err(|error| failed(error.to_string()))?;
    let name = service.as_bytes();
    let length = u8::try_from(name.len()).ok().filter(|length| *length < 128);
    let length = length.ok_or_else(|| failed("the service's name is too long".into()))?;
    // HealthCheckRequest{service}: field 1, a string; before it a gRPC frame: not compressed, four bytes of length.
    let mut message = Vec::new();
    if length > 0 {
        message.extend([0x0a, length]);
        message.extend(name);
    }
    let mut frame = vec![0, 0, 0, 0, u8::try_from(message.len()).unwrap_or(u8::MAX)];
    frame.extend(message);
    let request = Request::post(format!("http://{address}/grpc.health.v1.Health/Check"))
        .header("content-type", "application/grpc")
        .header("te", "trailers")
        .body(Full::new(Bytes::from(frame)))
        .map_err(|error| failed(error.to_string()))?;
    let exchange = async {
        let response = sender
            .send_request(request)
            .await
            .map_err(|error| failed(error.to_string()))?;
        let body = Limited::new(response.into_body(), BODY).collect().await;
        let body = body.map_err(|error| failed(error.to_string()))?.to_bytes();
        // HealthCheckResponse{status: SERVING}: field 1, the number 1.
        match body.get(5..) {
            Some([0x08, 0x01, ..]) => Ok(()),
            _ => Err(failed("the service is not SERVING".into())),
        }
    };
    tokio::pin!(connection);
    tokio::pin!(exchange);
    let mut open = true;
    loop {
        tokio::select! {
            result = &mut exchange => return result,
            _ = &mut connection, if open => open = false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn connection_of_a_grpc_probe_ends_with_the_probe() {
        use tokio::io::AsyncWriteExt as _;
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0")
            .await
            .expect("a port");
        let address = listener.local_addr().expect("an address").to_string();
        let probe = tokio::spawn(async move { grpc_health(&address, "").await });
        let (mut server, _) = listener.accept().await.expect("the probe connects");
        // An empty SETTINGS frame, then PING frames until the probe's answers fill the connection.
        server
            .write_all(&[0, 0, 0, 4, 0, 0, 0, 0, 0])
            .await
            .expect("settings");
        let pings = [0, 0, 8, 6, 0, 0, 0, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8].repeat(1024);
        let full = std::time::Duration::from_millis(500);
        while let Ok(sent) = tokio::time::timeout(full, server.write_all(&pings)).await {
            sent.expect("the probe keeps the connection");
        }
        probe.abort();
        assert!(probe.await.expect_err("the probe was aborted").is_cancelled());
        // Nothing is read meanwhile, so only the end of the connection lets a write fail.
        let end = async { while server.write_all(&pings).await.is_ok() {} };
        let ended = tokio::time::timeout(std::time::Duration::from_secs(30), end).await;
        assert!(ended.is_ok(), "the connection is still open");
    }

    fn place(path: &str) -> Place {
        Place {
            https: false,
            host: "10.0.0.7".into(),
            port: 8080,
            path: path.into(),
        }
    }

    #[test]
    fn a_redirect_leads_where_browsers_go() {
        let leads = |location: &str| place("/a/b?x=1").follow(location).map(|place| place.url());
        let here = |path: &str| Some(format!("http://10.0.0.7:8080{path}"));
        assert_eq!(leads("/c"), here("/c"));
        assert_eq!(leads("c?d#e"), here("/a/c?d"));
        assert_eq!(leads("?y=2"), here("/a/b?y=2"));
        assert_eq!(leads("https://10.0.0.7/z"), Some("https://10.0.0.7:443/z".into()));
        assert_eq!(
            leads("//Other.example:81"),
            Some("http://other.example:81/".into())
        );
        assert_eq!(leads("ftp://10.0.0.7/z"), None);
    }

    /// Serves one connection after the other with `answers`; what was asked comes back.
    async fn served(answers: &[&str], headers: serde_json::Value) -> (Result<Page, String>, Vec<String>) {
        use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0")
            .await
            .expect("listen");
        let port = listener.local_addr().expect("an address").port();
        let action = serde_json::json!({"port": port, "path": "ready?deep=1", "httpHeaders": headers});
        let action: HTTPGetAction = serde_json::from_value(action).expect("an action");
        let answers: Vec<String> = answers.iter().map(|&answer| answer.to_owned()).collect();
        let server = tokio::spawn(async move {
            let mut asked = Vec::new();
            for answer in answers {
                let (mut stream, _) = listener.accept().await.expect("a connection");
                let mut head = Vec::new();
                while !head.ends_with(b"\r\n\r\n") {
                    head.push(stream.read_u8().await.expect("a head"));
                }
                asked.push(String::from_utf8(head).expect("text").to_ascii_lowercase());
                let answer = format!("HTTP/1.1 {answer}");
                // The client may leave a long page.
                stream.write_all(answer.as_bytes()).await.ok();
            }
            asked
        });
        let page = get(&action, "127.0.0.1", port, "kube-probe/1.36").await;
        (page, server.await.expect("the server ends"))
    }

    #[tokio::test]
    async fn redirects_are_followed_on_the_same_host_only() {
        let broken = "500 X\r\nContent-Length: 6\r\n\r\nbroken";
        let (page, asked) = served(
            &["302 X\r\nLocation: /real\r\n\r\n", broken],
            serde_json::json!([]),
        )
        .await;
        let page = page.expect("an answer");
        assert_eq!((page.status, &*page.body), (500, "broken"));
        assert!(asked[1].starts_with("get /real http/1.1\r\n"), "{asked:?}");
        let elsewhere = "302 X\r\nLocation: http://other.example/\r\nContent-Length: 2\r\n\r\nto";
        let (page, _) = served(&[elsewhere], serde_json::json!([])).await;
        let page = page.expect("an answer");
        assert_eq!((page.status, &*page.body), (302, "to"));
        let circle = ["302 X\r\nLocation: /\r\n\r\n"; REQUESTS];
        let (page, _) = served(&circle, serde_json::json!([])).await;
        assert!(page.is_err_and(|why| why.contains("stopped after 10 redirects")));
    }

    #[tokio::test]
    async fn headers_of_a_probe_replace_the_defaults() {
        let headers = serde_json::json!([
            {"name": "User-Agent", "value": "mine"}, {"name": "accept", "value": "application/json"},
            {"name": "X-A", "value": "1"}, {"name": "X-A", "value": "2"}, {"name": "Host", "value": "example.org"},
        ]);
        let (page, asked) = served(&["200 OK\r\n\r\nok"], headers).await;
        assert_eq!(page.expect("an answer").status, 200);
        let head = &asked[0];
        assert!(head.starts_with("get /ready?deep=1 http/1.1\r\n"), "{head}");
        for (line, times) in [
            ("user-agent:", 1),
            ("accept:", 1),
            ("host: example.org\r\n", 1),
            ("host:", 1),
            ("x-a:", 2),
        ] {
            assert_eq!(
                head.matches(&format!("\r\n{line}")).count(),
                times,
                "{line} in {head}"
            );
        }
        assert!(head.contains("user-agent: mine") && head.contains("accept: application/json"));
        let (_, asked) = served(
            &["200 OK\r\n\r\n"],
            serde_json::json!([{"name": "Accept", "value": ""}]),
        )
        .await;
        assert!(!asked[0].contains("accept") && asked[0].contains("user-agent: kube-probe/1.36"));
    }

    #[tokio::test]
    async fn a_page_without_end_is_read_to_a_bound() {
        let long = format!(
            "200 OK\r\nContent-Length: 99999999\r\n\r\n{}",
            "x".repeat(BODY + 1)
        );
        let (page, _) = served(&[&long], serde_json::json!([])).await;
        assert_eq!(page.expect("an answer").body.len(), BODY);
    }
}

//! Clients that use more than their share do not delay others.

use bytes::Bytes;
use futures::StreamExt;
use futures::stream::FuturesUnordered;
use http::{Method, Request, StatusCode};
use http_body::Frame;
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::Incoming;
use hyper::client::conn::http2::{self, SendRequest};
use hyper_util::rt::{TokioExecutor, TokioIo};
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio_rustls::client::TlsStream;

use crate::common::*;

type RequestBody = UnsyncBoxBody<Bytes, std::convert::Infallible>;

const TABLE: &str = "application/json;as=Table;v=v1;g=meta.k8s.io";
const REVIEWS: &str = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews";
/// Concurrent requests of one user (`flow::SHARED`).
const OF_ONE_USER: usize = 512;

/// Starts HTTP/2 on a connection. Dropping the second value closes it.
async fn http2(
    stream: TlsStream<TcpStream>,
) -> (SendRequest<RequestBody>, tokio_util::task::AbortOnDropHandle<()>) {
    let (sender, connection) = http2::handshake(TokioExecutor::new(), TokioIo::new(stream))
        .await
        .unwrap();
    let driver = tokio::spawn(async move {
        let _ended = connection.await;
    });
    (sender, tokio_util::task::AbortOnDropHandle::new(driver))
}

fn whole(text: impl Into<Bytes>) -> RequestBody {
    Full::new(text.into()).boxed_unsync()
}

/// A body that begins and never continues.
fn half() -> RequestBody {
    let first = futures::stream::iter([Ok(Frame::data(Bytes::from_static(b"{")))]);
    StreamBody::new(first.chain(futures::stream::pending())).boxed_unsync()
}

fn request(method: Method, path: &str, token: Option<&str>, body: RequestBody) -> Request<RequestBody> {
    let mut request = Request::builder()
        .method(method)
        .uri(format!("https://localhost{path}"))
        .header("content-type", JSON);
    if let Some(token) = token {
        request = request.header("authorization", format!("Bearer {token}"));
    }
    request.body(body).unwrap()
}

async fn code_of(sender: &mut SendRequest<RequestBody>, request: Request<RequestBody>) -> StatusCode {
    sender.ready().await.unwrap();
    sender.send_request(request).await.unwrap().status()
}

/// Returns the token of a new ServiceAccount.
async fn account(cluster: &Cluster, name: &str) -> String {
    let accounts = "/api/v1/namespaces/default/serviceaccounts";
    let account = json!({"kind": "ServiceAccount", "apiVersion": "v1", "metadata": {"name": name}});
    cluster.create(accounts, &account).await.expect(201);
    let asked = json!({"kind": "TokenRequest", "apiVersion": "authentication.k8s.io/v1", "spec": {}});
    let answer = cluster.create(&format!("{accounts}/{name}/token"), &asked).await;
    text(&answer.expect(201)["status"]["token"])
}

/// Returns the value of a metric.
async fn metric(cluster: &Cluster, name: &str) -> u64 {
    let metrics = cluster.get("/metrics").await.text;
    let value = metrics
        .lines()
        .find_map(|line| line.strip_prefix(name)?.trim().parse().ok());
    value.unwrap_or_else(|| panic!("{name} is not in {metrics}"))
}

#[tokio::test]
async fn flood_of_half_bodies_stops_nobody_else() {
    let cluster = Cluster::start().await;
    let token = account(&cluster, "nobody").await;
    let other = account(&cluster, "other").await;
    let (mut admin, _admin) = http2(dial_as_admin(&cluster).await).await;
    let (mut node, _node) = http2(dial(&cluster, "n").await).await;

    const CONNECTIONS: usize = 11;
    const STREAMS: usize = 190;
    let mut flood = Vec::new();
    let mut answers = FuturesUnordered::new();
    for _ in 0..CONNECTIONS {
        let (sender, driver) = http2(dial_as_stranger(&cluster).await).await;
        for _ in 0..STREAMS {
            let mut sender = sender.clone();
            let request = request(Method::POST, REVIEWS, Some(&token), half());
            answers.push(async move {
                sender.ready().await.unwrap();
                sender
                    .send_request(request)
                    .await
                    .map(|response| response.status())
            });
        }
        flood.push((sender, driver));
    }
    // Requests beyond one user's share are refused at once.
    for _ in 0..CONNECTIONS * STREAMS - OF_ONE_USER {
        let code = answers.next().await.unwrap().unwrap();
        assert!(
            code == StatusCode::TOO_MANY_REQUESTS || code == StatusCode::REQUEST_TIMEOUT,
            "{code}"
        );
    }

    let path = "/api/v1/namespaces/default";
    assert_eq!(
        code_of(&mut admin, request(Method::GET, path, None, whole(""))).await,
        200
    );
    let lease =
        json!({"metadata": {"name": "n", "namespace": "kube-node-lease"}, "spec": {"holderIdentity": "n"}});
    let leases = "/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases";
    let renewal = request(Method::POST, leases, None, whole(lease.to_string()));
    assert_eq!(code_of(&mut node, renewal).await, 201);
    // Another account in the same level has its own share.
    let (mut sender, _driver) = http2(dial_as_stranger(&cluster).await).await;
    let review = json!({"spec": {"nonResourceAttributes": {"verb": "get", "path": "/"}}}).to_string();
    let asked = request(Method::POST, REVIEWS, Some(&other), whole(review));
    assert_eq!(code_of(&mut sender, asked).await, 201);
    assert_eq!(
        metric(
            &cluster,
            "apiserver_flowcontrol_current_executing_seats{priority_level=\"workload-low\"}"
        )
        .await,
        0,
        "a body that does not come takes no seat"
    );

    // The server ends the rest, without a reaction of the client.
    while let Some(code) = answers.next().await {
        assert_eq!(code.unwrap(), StatusCode::REQUEST_TIMEOUT);
    }
}

#[tokio::test]
async fn address_that_guesses_tokens_is_slowed_down() {
    let cluster = Cluster::start().await;
    let fresh = account(&cluster, "fresh").await;
    let path = "/version";
    // Alternates wrong tokens with one that has only a wrong signature.
    let (message, signature) = fresh.rsplit_once('.').unwrap();
    let first = if signature.starts_with('A') { 'B' } else { 'A' };
    let forged = format!("{message}.{first}{}", &signature[1..]);
    let guess = |number: usize| match number % 2 {
        0 => format!("abcdef.{number:016}"),
        _ => forged.clone(),
    };
    let mut looked_at = 0;
    let (mut sender, _driver) = http2(dial_as_stranger(&cluster).await).await;
    loop {
        let guessed = request(Method::GET, path, Some(&guess(looked_at)), whole(""));
        match code_of(&mut sender, guessed).await {
            StatusCode::UNAUTHORIZED => looked_at += 1,
            StatusCode::TOO_MANY_REQUESTS => break,
            code => panic!("{code}"),
        }
        assert!(looked_at < 5_000, "nothing slows the guesses down");
    }
    // The refusal closes the connection, so the next guess costs a handshake.
    while sender.ready().await.is_ok() && !sender.is_closed() {
        tokio::task::yield_now().await;
    }
    // A valid token is accepted, although it is new and its address still sends guesses.
    let (mut sender, _driver) = http2(dial_as_stranger(&cluster).await).await;
    assert_eq!(
        code_of(&mut sender, request(Method::GET, path, Some(&fresh), whole(""))).await,
        200
    );
    // A certificate does not count as a guess.
    let (mut node, _node) = http2(dial(&cluster, "n").await).await;
    assert_eq!(
        code_of(&mut node, request(Method::GET, path, None, whole(""))).await,
        200
    );
    let (mut admin, _admin) = http2(dial_as_admin(&cluster).await).await;
    assert_eq!(
        code_of(&mut admin, request(Method::GET, path, None, whole(""))).await,
        200
    );
}

#[tokio::test]
async fn strangers_requests_that_do_not_end_end_their_connection() {
    /// More than a guest may have, and fewer than a connection may have.
    const REQUESTS: usize = 20;
    let cluster = Cluster::start().await;
    let (sender, driver) = http2(dial_as_stranger(&cluster).await).await;
    let mut answers = FuturesUnordered::new();
    for _ in 0..REQUESTS {
        let mut sender = sender.clone();
        answers.push(async move {
            sender.ready().await?;
            sender
                .send_request(request(Method::POST, "/healthz", None, half()))
                .await
        });
    }
    let mut refused = 0;
    while let Some(answer) = answers.next().await {
        refused += usize::from(answer.is_ok_and(|answer| answer.status() == StatusCode::TOO_MANY_REQUESTS));
    }
    assert!(refused > 0);
    let mut sender = sender;
    while sender.ready().await.is_ok() && !sender.is_closed() {
        tokio::task::yield_now().await;
    }
    drop(driver);
    let (mut sender, _driver) = http2(dial_as_stranger(&cluster).await).await;
    let asked = request(Method::GET, "/healthz", None, whole(""));
    assert_eq!(code_of(&mut sender, asked).await, 200);
}

#[tokio::test]
async fn selectors_of_a_users_watches_are_bounded() {
    /// Length of a selector that takes about 36 times its length in memory.
    const SELECTOR: usize = 30 * 1024;
    const WATCHES: usize = 200;
    let cluster = Cluster::start().await;
    let everybody = json!([{"kind": "Group", "name": "system:serviceaccounts:default"}]);
    cluster.bind("default", "view", everybody).await;
    let token = account(&cluster, "greedy").await;
    let other = account(&cluster, "other").await;
    let held = "apiserver_flowcontrol_current_head_bytes{priority_level=\"workload-low\"}";
    let selector = vec!["a"; SELECTOR / 2].join(",");
    let path = format!("{CONFIG_MAPS}?watch=1&labelSelector={selector}");
    let (mut sender, driver) = http2(dial_as_stranger(&cluster).await).await;
    let mut watches = Vec::new();
    for _ in 0..WATCHES {
        sender.ready().await.unwrap();
        let answer = sender
            .send_request(request(Method::GET, &path, Some(&token), whole("")))
            .await
            .unwrap();
        match answer.status() {
            StatusCode::OK => watches.push(answer),
            code => assert_eq!(code, StatusCode::TOO_MANY_REQUESTS),
        }
    }
    assert!(!watches.is_empty() && watches.len() < 10, "{}", watches.len());
    let bytes = metric(&cluster, held).await;
    assert!(bytes > SELECTOR as u64 * 10 && bytes <= 8 << 20, "{bytes}");
    // Watches with short selectors are accepted, from this user and from others.
    let short = format!("{CONFIG_MAPS}?watch=1&labelSelector=app%3Dweb");
    for token in [&token, &other] {
        assert_eq!(
            code_of(&mut sender, request(Method::GET, &short, Some(token), whole(""))).await,
            200
        );
    }
    drop((watches, sender, driver));
    while metric(&cluster, held).await > 0 {
        tokio::task::yield_now().await;
    }
    let long = format!("{CONFIG_MAPS}?labelSelector={}", "a".repeat(40_000));
    let refused = cluster.get(&long).await.expect(400);
    assert_eq!(
        refused["message"],
        "labelSelector: Too long: may not be more than 32768 bytes"
    );
}

/// Creates many ConfigMaps of `bytes` each.
async fn fill(cluster: &Cluster, count: usize, bytes: usize) {
    let mut object = config_map("");
    object["data"] = json!({"a": "x".repeat(bytes), "text": "two\nlines: \"quoted\"\n\n  # no comment"});
    for number in 0..count {
        object["metadata"]["name"] = format!("map-{number:04}").into();
        cluster.create(CONFIG_MAPS, &object).await.expect(201);
    }
}

#[tokio::test]
async fn converted_list_is_made_as_its_client_reads() {
    let cluster = Cluster::start().await;
    fill(&cluster, 100, 10_000).await;
    for (path, accept) in [
        (format!("{CONFIG_MAPS}?includeObject=Object"), TABLE),
        (CONFIG_MAPS.to_owned(), "application/yaml"),
        (format!("{CONFIG_MAPS}?pretty=1"), JSON),
    ] {
        let request = Request::get(&path)
            .header("accept", accept)
            .body(kube::client::Body::empty())
            .unwrap();
        let client = cluster.server.client(apiserver::User::admin());
        let mut body = client.send(request).await.unwrap().into_body();
        let mut frames = 0;
        while let Some(frame) = body.frame().await {
            let bytes = frame.unwrap().into_data().unwrap();
            assert!(bytes.len() < 64 * 1024 + 2 * 10_000, "{path}: {}", bytes.len());
            frames += 1;
        }
        assert!(frames >= 10, "{path}: {frames}");
    }
}

#[tokio::test]
async fn long_converted_lists_say_what_short_ones_say() {
    let cluster = Cluster::start().await;
    fill(&cluster, 60, 5_000).await;
    let plain = cluster.get(CONFIG_MAPS).await.expect(200);
    assert_eq!(plain["items"].as_array().unwrap().len(), 61);
    let pretty = cluster.get(&format!("{CONFIG_MAPS}?pretty=1")).await;
    assert!(pretty.text.starts_with("{\n  \"kind\": \"ConfigMapList\",\n"));
    assert!(pretty.text.contains("\n    {\n      \""), "items are indented");
    assert_eq!(pretty.json, plain);
    let yaml = cluster.get_as(CONFIG_MAPS, "application/yaml").await;
    let parsed: Value = serde_saphyr::from_str(&yaml.text).unwrap();
    assert_eq!(parsed, plain);
    for accept in [
        TABLE,
        "application/json;as=PartialObjectMetadataList;v=v1;g=meta.k8s.io",
    ] {
        let mut long = cluster.get_as(CONFIG_MAPS, accept).await.expect(200);
        let field = if accept == TABLE { "rows" } else { "items" };
        let last = long[field].as_array_mut().unwrap().pop().unwrap();
        let one = format!("{CONFIG_MAPS}?fieldSelector=metadata.name%3Dmap-0059");
        let mut short = cluster.get_as(&one, accept).await.expect(200);
        assert_eq!(short[field].as_array_mut().unwrap().pop(), Some(last));
        assert_eq!(short["columnDefinitions"], long["columnDefinitions"]);
        assert_eq!(long[field].as_array().unwrap().len(), 60);
    }
    // Lists with few or no items go through the same code.
    for selector in ["metadata.name%3Dnone", "metadata.name%3Dmap-0001"] {
        let path = format!("{CONFIG_MAPS}?fieldSelector={selector}");
        let plain = cluster.get(&path).await.expect(200);
        assert_eq!(cluster.get(&format!("{path}&pretty=1")).await.json, plain);
        let yaml = cluster.get_as(&path, "application/yaml").await.text;
        assert_eq!(serde_saphyr::from_str::<Value>(&yaml).unwrap(), plain);
    }
}

#[tokio::test]
async fn client_that_reads_no_tables_holds_its_own_seats_alone() {
    let cluster = Cluster::start().await;
    fill(&cluster, 100, 10_000).await;
    let token = account(&cluster, "lazy").await;
    let everybody = json!([{"kind": "Group", "name": "system:serviceaccounts:default"}]);
    cluster.bind("default", "view", everybody).await;
    let other = account(&cluster, "other").await;
    let seats = "apiserver_flowcontrol_current_executing_seats{priority_level=\"workload-low\"}";

    // The heads of the responses arrive, but the bodies are not read: more than one user's seats
    // (64).
    let mut held: Vec<(SendRequest<RequestBody>, tokio_util::task::AbortOnDropHandle<()>)> = Vec::new();
    let mut unread: Vec<http::Response<Incoming>> = Vec::new();
    for _ in 0..4 {
        let (mut sender, driver) = http2(dial_as_stranger(&cluster).await).await;
        for _ in 0..16 {
            let mut asked = request(Method::GET, CONFIG_MAPS, Some(&token), whole(""));
            asked.headers_mut().insert("accept", TABLE.parse().unwrap());
            *asked.uri_mut() = format!("https://localhost{CONFIG_MAPS}?includeObject=Object")
                .parse()
                .unwrap();
            sender.ready().await.unwrap();
            let response = sender.send_request(asked).await.unwrap();
            assert_eq!(response.status(), 200);
            unread.push(response);
        }
        held.push((sender, driver));
    }
    let seated = metric(&cluster, seats).await;
    assert!(seated > 0 && seated <= 64, "{seated}");
    let (mut sender, _driver) = http2(dial_as_stranger(&cluster).await).await;
    let asked = request(Method::GET, CONFIG_MAPS, Some(&other), whole(""));
    assert_eq!(code_of(&mut sender, asked).await, 200);
    // A client that disconnects returns its seats.
    drop(unread);
    drop(held);
    while metric(&cluster, seats).await > 0 {
        tokio::task::yield_now().await;
    }
}

/// Starts HTTP/2 with a client that reads `window` bytes of each response.
async fn http2_with_window(
    stream: TlsStream<TcpStream>,
    window: u32,
) -> (SendRequest<RequestBody>, tokio_util::task::AbortOnDropHandle<()>) {
    let mut builder = http2::Builder::new(TokioExecutor::new());
    builder.initial_stream_window_size(window);
    let (sender, connection) = builder.handshake(TokioIo::new(stream)).await.unwrap();
    let driver = tokio::spawn(async move {
        let _ended = connection.await;
    });
    (sender, tokio_util::task::AbortOnDropHandle::new(driver))
}

/// Requests `count` short responses and waits for their heads.
async fn unread_answers(
    sender: &mut SendRequest<RequestBody>,
    token: &str,
    count: usize,
) -> Vec<http::Response<Incoming>> {
    let review = json!({"spec": {"nonResourceAttributes": {"verb": "get", "path": "/"}}}).to_string();
    let mut unread = Vec::new();
    for _ in 0..count {
        let asked = request(Method::POST, REVIEWS, Some(token), whole(review.clone()));
        sender.ready().await.unwrap();
        let response = sender.send_request(asked).await.unwrap();
        assert_eq!(response.status(), 201);
        unread.push(response);
    }
    unread
}

#[tokio::test]
async fn accounts_that_take_no_answer_lock_nobody_out() {
    const SEATS_OF_ALL: usize = 256;
    const SEATS_OF_ONE: usize = 64;
    let cluster = Cluster::start().await;
    let mut kept = Vec::new();
    for number in 0..SEATS_OF_ALL / SEATS_OF_ONE {
        let token = account(&cluster, &format!("lazy-{number}")).await;
        let (mut sender, driver) = http2_with_window(dial_as_stranger(&cluster).await, 0).await;
        let unread = unread_answers(&mut sender, &token, SEATS_OF_ONE).await;
        kept.push((sender, driver, unread));
    }
    let other = account(&cluster, "other").await;
    let (mut sender, _driver) = http2(dial_as_stranger(&cluster).await).await;
    assert_eq!(unread_answers(&mut sender, &other, 1).await.len(), 1);
}

#[tokio::test]
async fn answer_counts_until_its_last_byte_is_taken() {
    const ANSWERS: usize = 20;
    let cluster = Cluster::start().await;
    let token = account(&cluster, "lazy").await;
    // With a window of one byte, the server hands the whole response to HTTP/2, which buffers it.
    let (mut sender, driver) = http2_with_window(dial_as_stranger(&cluster).await, 1).await;
    let unread = unread_answers(&mut sender, &token, ANSWERS).await;
    let present = "apiserver_flowcontrol_current_requests{priority_level=\"workload-low\"}";
    for _ in 0..ANSWERS {
        assert_eq!(metric(&cluster, present).await, ANSWERS as u64);
    }
    drop((unread, sender, driver));
    while metric(&cluster, present).await > 0 {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn timeouts_and_tables_that_make_no_sense_are_refused() {
    let cluster = Cluster::start().await;
    for path in ["/version", CONFIG_MAPS, "/api/v1/namespaces/default"] {
        let refused = cluster.get(&format!("{path}?timeout=invalid")).await.expect(400);
        assert_eq!(
            text(&refused["message"]),
            "invalid timeout specified in the request URL - time: invalid duration \"invalid\""
        );
        cluster.get(&format!("{path}?timeout=30s")).await.expect(200);
    }
    let review = json!({"spec": {"nonResourceAttributes": {"verb": "get", "path": "/"}}}).to_string();
    let ask = async |path: &str, accept: &str, body: &str| {
        let headers = [("content-type", JSON), ("accept", accept)];
        cluster.send(Method::POST, path, &headers, body.to_owned()).await
    };
    assert_eq!(ask(REVIEWS, TABLE, &review).await.code, 406);
    let fallback = format!("{TABLE},application/json");
    let answered = ask(REVIEWS, &fallback, &review).await.expect(201);
    assert_eq!(answered["kind"], "SelfSubjectAccessReview");
    let token = "/api/v1/namespaces/default/serviceaccounts/default/token";
    assert_eq!(ask(token, TABLE, "{\"spec\":{}}").await.code, 406);
}

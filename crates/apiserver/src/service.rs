//! One request from its path to its answer.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Instant;

use api::status::Status;
use bytes::Bytes;
use futures::FutureExt;
use http::header::{CONTENT_LENGTH, HeaderMap, HeaderValue};
use http::{Method, Response, StatusCode};
use http_body::Body as _;
use http_body_util::{BodyExt, LengthLimitError, Limited};
use jiff::Timestamp;
use tracing::Instrument;

use crate::authenticate::{self, Peer};
use crate::authorization::{self, Authorized};
use crate::body::Body;
use crate::limits::{
    BODY_BYTES_MAX, DISCARD_BYTES_MAX, DISCARD_TIMEOUT, QUEUE_TIMEOUT, REQUEST_TIMEOUT, RETRY_AFTER_SECONDS,
};
use crate::negotiate::{Answer, Encoding};
use crate::query::Query;
use crate::request::Request;
use crate::routes::{self, Route, Target};
use crate::shared::Shared;
use crate::subresource::{binding, eviction, exec, finalize, log, proxy, token};
use crate::user::User;
use crate::verbs::list_options::ListOptions;
use crate::verbs::update::Part;
use crate::verbs::{Verb, create, delete, delete_collection, get, list, patch, update, watch};
use crate::{compress, discovery, health, review, tunnel};

/// What a request was about, for the counters.
#[derive(Default)]
struct Summary {
    verb: &'static str,
    resource: &'static str,
}

/// Answers one request. Whatever goes wrong, there is an answer.
pub(crate) async fn serve(
    shared: Arc<Shared>,
    peer: Peer,
    mut request: http::Request<Body>,
) -> Response<Body> {
    let began = Instant::now();
    let span = tracing::debug_span!("request", method = %request.method(), uri = %request.uri());
    let mut summary = Summary {
        verb: "other",
        resource: "",
    };
    let wanted = Answer::wanted(&request);
    let encoding = wanted.as_ref().map_or(Encoding::Json, |answer| answer.encoding);
    let handled = handle(&shared, &peer, &mut request, wanted, &mut summary)
        .boxed()
        .instrument(span.clone());
    let result = AssertUnwindSafe(handled)
        .catch_unwind()
        .await
        .unwrap_or_else(|panic| {
            let _in_span = span.enter();
            tracing::error!(message = panic_message(&*panic), "a request handler panicked");
            Err(Status::internal(
                "the request handler panicked; the server's log says where",
            ))
        });
    let mut response = result.unwrap_or_else(|status| {
        tracing::debug!(parent: &span, code = status.code, message = %status.message, "refused");
        crate::respond::status(&status, encoding)
    });
    if request.method() == Method::HEAD {
        response = head_of(response);
    }
    if response.status() != StatusCode::SWITCHING_PROTOCOLS {
        discard(request.body_mut()).await;
    }
    shared.metrics.request(
        summary.verb,
        summary.resource,
        response.status().as_u16(),
        began.elapsed(),
    );
    response
}

/// The answer without its body, whose length is told if it is known. HTTP/2 would send the body of an answer to HEAD
/// if there were one, which clients take for a broken stream.
fn head_of(response: Response<Body>) -> Response<Body> {
    let (mut parts, body) = response.into_parts();
    if let Some(length) = body.size_hint().exact() {
        // What another server said of its answer stands.
        parts
            .headers
            .entry(CONTENT_LENGTH)
            .or_insert_with(|| HeaderValue::from(length));
    }
    Response::from_parts(parts, Body::empty())
}

fn panic_message(panic: &(dyn std::any::Any + Send)) -> &str {
    let text = panic.downcast_ref::<&str>().copied();
    text.or_else(|| panic.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("(no message)")
}

async fn handle(
    shared: &Arc<Shared>,
    peer: &Peer,
    request: &mut http::Request<Body>,
    wanted: Result<Answer, Status>,
    summary: &mut Summary,
) -> Result<Response<Body>, Status> {
    let route = routes::route(request.uri().path());
    let now = shared.clock.now();
    let user = authenticate::authenticate(shared, peer, request.headers(), now)?;
    let authorized = authorization::authorize(shared, user, request.method(), request.uri(), route)?;
    serve_authorized(shared, authorized, request, wanted, now, summary).await
}

/// Serves what has been allowed.
async fn serve_authorized(
    shared: &Arc<Shared>,
    authorized: Authorized,
    request: &mut http::Request<Body>,
    wanted: Result<Answer, Status>,
    now: Timestamp,
    summary: &mut Summary,
) -> Result<Response<Body>, Status> {
    let (user, route, query) = authorized.into_parts();
    let headers = request.headers();
    match route {
        Route::Health => Ok(health::health(shared, request.uri())),
        Route::Version => health::version(request.method()),
        Route::Authority => Ok(health::authority(shared)),
        Route::Metrics => Ok(health::metrics(shared)),
        Route::CoreVersions => Ok(shared.discovery.core(headers)),
        Route::Groups => Ok(shared.discovery.groups(headers)),
        Route::Group(group) => shared.discovery.group(&group),
        Route::Resources { group, version } => shared.discovery.resources(&group, &version),
        Route::CustomKinds => discovery::no_custom_kinds(shared.objects.revision(), request.method(), &query),
        Route::OpenapiV2 => shared.openapi.v2(headers),
        Route::OpenapiIndex => Ok(shared.openapi.index(headers)),
        Route::Openapi { group, version } => shared.openapi.v3(&group, &version, headers),
        Route::Tunnel { node } => tunnel::accept(shared, node, &user, request),
        Route::Objects(target) => {
            summary.resource = target.kind.plural;
            let called = Called {
                user,
                target,
                query,
                now,
            };
            objects(shared, called, request, wanted, summary).await
        }
    }
}

/// Who asks for which objects, and how.
struct Called {
    user: Arc<User>,
    target: Target,
    query: Query,
    now: Timestamp,
}

/// Requests for objects: the verb from method and path, a turn, the body, the work.
async fn objects(
    shared: &Arc<Shared>,
    called: Called,
    request: &mut http::Request<Body>,
    wanted: Result<Answer, Status>,
    summary: &mut Summary,
) -> Result<Response<Body>, Status> {
    let Called {
        user,
        target,
        query,
        now,
    } = called;
    let verb =
        Verb::of(request.method(), &target, &query).ok_or_else(|| not_allowed(&target, request.method()))?;
    summary.verb = verb.name();
    if target.subresource.is_empty() {
        if !target.kind.has_verb(verb.name()) {
            return Err(Status::method_not_supported(target.kind, verb.name()));
        }
    } else if target.kind.subresource(&target.subresource).is_none() {
        return Err(Status::path_not_found());
    }
    match target.subresource.as_str() {
        "log" => return log::log(shared, &target, &query).await,
        "exec" => return exec::exec(shared, &target, &query, request).await,
        "proxy" => return proxy::proxy(shared, &target, request).await,
        _ => {}
    }
    let answer = wanted?;
    let takes_gzip = matches!(verb, Verb::Get | Verb::List) && compress::is_accepted(request.headers());
    let headers = std::mem::take(request.headers_mut());
    if verb == Verb::Watch {
        let options = ListOptions::of(target.kind, &query)?;
        let request = Request {
            user,
            target,
            query,
            headers,
            body: Bytes::new(),
            answer,
            now,
            warnings: Vec::new(),
        };
        return watch::watch(shared, request, options).await;
    }
    let work = async {
        let body = read_body(&headers, request.body_mut()).await?;
        let request = Request {
            user,
            target,
            query,
            headers,
            body,
            answer,
            now,
            warnings: Vec::new(),
        };
        let response = run(shared, verb, request).await?;
        Ok(match takes_gzip {
            true => compress::compress(response),
            false => response,
        })
    };
    let _turn = turn(shared).await?;
    let late = |_| {
        Status::timeout(
            "request did not complete within the allotted timeout",
            RETRY_AFTER_SECONDS,
        )
    };
    tokio::time::timeout(REQUEST_TIMEOUT, work).await.map_err(late)?
}

/// Waits for a turn; 429 when there is none for too long.
async fn turn(shared: &Shared) -> Result<tokio::sync::SemaphorePermit<'_>, Status> {
    let busy = || {
        Status::too_many_requests(
            "the server has received too many requests, please try again later",
            RETRY_AFTER_SECONDS,
        )
    };
    match shared.turns.try_acquire() {
        Ok(turn) => Ok(turn),
        Err(_) => match tokio::time::timeout(QUEUE_TIMEOUT, shared.turns.acquire()).await {
            Ok(Ok(turn)) => Ok(turn),
            _ => Err(busy()),
        },
    }
}

async fn run(shared: &Arc<Shared>, verb: Verb, request: Request) -> Result<Response<Body>, Status> {
    let part = match request.target.subresource.as_str() {
        "status" => Part::Status,
        "approval" => Part::Approval,
        _ => Part::Main,
    };
    match (request.target.subresource.as_str(), verb) {
        ("", Verb::Create) if !request.target.kind.stored => review::review(shared, request),
        ("", Verb::Create) => create::create(shared, request).await,
        ("", Verb::Delete) => delete::delete(shared, request).await,
        ("", Verb::DeleteCollection) => delete_collection::delete_collection(shared, request).await,
        ("", Verb::List) => {
            let options = ListOptions::of(request.target.kind, &request.query)?;
            list::list(shared, request, options).await
        }
        ("" | "status" | "approval", Verb::Get) => get::get(shared, &request).await,
        ("" | "status" | "approval", Verb::Update) => update::update(shared, request, part).await,
        ("" | "status" | "approval", Verb::Patch) => patch::patch(shared, request, part).await,
        ("binding", Verb::Create) => binding::bind(shared, request).await,
        ("eviction", Verb::Create) => eviction::evict(shared, request).await,
        ("finalize", Verb::Update) => finalize::finalize(shared, request).await,
        ("token", Verb::Create) => token::token(shared, request).await,
        (_, verb) => Err(Status::method_not_supported(request.target.kind, verb.name())),
    }
}

async fn read_body(headers: &HeaderMap, body: &mut Body) -> Result<Bytes, Status> {
    let too_large = || Status::too_large(BODY_BYTES_MAX);
    let announced = headers
        .get(CONTENT_LENGTH)
        .and_then(|value| value.to_str().ok()?.parse::<usize>().ok());
    if announced.is_some_and(|length| length > BODY_BYTES_MAX) {
        return Err(too_large());
    }
    match Limited::new(body, BODY_BYTES_MAX).collect().await {
        Ok(collected) => Ok(collected.to_bytes()),
        Err(error) if error.is::<LengthLimitError>() => Err(too_large()),
        Err(error) => Err(Status::bad_request(format!(
            "the body of the request could not be read: {error}"
        ))),
    }
}

/// Reads what the handler left of the body, within bounds. An HTTP/1 connection whose request was not read to its end
/// is closed, and a client that is still sending, or that sends its next request meanwhile, would not see the answer.
async fn discard(body: &mut Body) {
    if body.is_end_stream() {
        return;
    }
    let discarded = async {
        let mut bytes = 0;
        while let Some(Ok(frame)) = body.frame().await {
            bytes += frame.data_ref().map_or(0, Bytes::len);
            if bytes > DISCARD_BYTES_MAX {
                return;
            }
        }
    };
    if tokio::time::timeout(DISCARD_TIMEOUT, discarded).await.is_err() {
        tracing::debug!("the rest of a request's body did not come in time");
    }
}

fn not_allowed(target: &Target, method: &Method) -> Status {
    let mut status = Status::method_not_supported(target.kind, method.as_str());
    status.message = "the server does not allow this method on the requested resource".to_owned();
    status
}

//! Serves one request: authentication, flow control, authorization, the verb, and the response.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::{Duration, Instant};

use api::kinds::Kind;
use api::status::Status;
use bytes::{Bytes, BytesMut};
use futures::FutureExt;
use http::header::{AUTHORIZATION, CONTENT_LENGTH, HeaderMap, HeaderValue};
use http::{Method, Response, StatusCode};
use http_body::Body as _;
use http_body_util::BodyExt;
use jiff::Timestamp;
use tracing::Instrument;

use crate::authenticate::{self, Holder, Peer};
use crate::authorization::{self, Authorized};
use crate::body::{Body, Hold};
use crate::connections::{Active, Connection};
use crate::flow::{self, Thing, Ticket};
use crate::limits::{
    ATTEMPT_RETRY_AFTER_SECONDS, BODY_BYTES_MAX, BODY_GRACE, BODY_RATE_MIN, BODY_UNCOUNTED_BYTES,
    DISCARD_BYTES_MAX, DISCARD_TIMEOUT, HEAD_UNCOUNTED_BYTES, QUEUE_TIMEOUT, REQUEST_TIMEOUT,
    RETRY_AFTER_SECONDS,
};
use crate::negotiate::{Answer, Encoding};
use crate::query::Query;
use crate::request::Request;
use crate::rights::{Credential, Rights, Stay};
use crate::routes::{self, Route, Target};
use crate::shared::Shared;
use crate::subresource::{binding, eviction, exec, finalize, log, proxy, token};
use crate::user::User;
use crate::verbs::list_options::ListOptions;
use crate::verbs::update::Part;
use crate::verbs::{Verb, create, delete, delete_collection, get, list, patch, update, watch};
use crate::{backup, compress, discovery, health, review, tunnel};

/// Source of a request.
#[derive(Clone)]
pub(crate) struct Origin {
    peer: Peer,
    /// None for a component of this process.
    connection: Option<Arc<Connection>>,
}

impl Origin {
    /// A component of this process. Flow control does not apply to it, because it limits its
    /// requests itself.
    pub(crate) fn in_process(user: User) -> Origin {
        Origin {
            peer: Peer::InProcess(Arc::new(user)),
            connection: None,
        }
    }

    /// A connection, with the holder of the client certificate, if any.
    pub(crate) fn connection(holder: Option<Holder>, connection: Arc<Connection>) -> Origin {
        Origin {
            peer: Peer::Connection(holder.map(Arc::new)),
            connection: Some(connection),
        }
    }
}

/// State of a request that is being served.
struct Course {
    verb: &'static str,
    resource: &'static str,
    /// Whether the response is endless.
    is_stream: bool,
    /// Credential of the user.
    credential: Credential,
    /// The request's ticket in its queue, and the rights with which its stream ends.
    stay: Stay,
    /// None for a component of this process.
    connection: Option<Arc<Connection>>,
}

impl Course {
    /// Waits for a seat. Returns status 429 after [`QUEUE_TIMEOUT`].
    async fn seat(&mut self) -> Result<(), Status> {
        match &mut self.stay.ticket {
            Some(ticket) => ticket.seat(QUEUE_TIMEOUT).await.map_err(flow::busy),
            None => Ok(()),
        }
    }

    /// Turns the request into a stream, which ends with the credential. Returns status 429 when
    /// there are too many streams.
    fn become_stream(&mut self, shared: &Arc<Shared>) -> Result<(), Status> {
        self.is_stream = true;
        if let Some(ticket) = &mut self.stay.ticket {
            ticket.become_stream().map_err(flow::busy)?;
        }
        self.stay.rights = Rights::of(shared, &self.credential)?;
        Ok(())
    }

    /// Counts `bytes` of memory until the request ends. Returns status 429 when the flow or the
    /// level holds too much.
    fn hold(&mut self, thing: Thing, bytes: usize) -> Result<(), Status> {
        match &mut self.stay.ticket {
            Some(ticket) => ticket.hold(thing, bytes).map_err(flow::busy),
            None => Ok(()),
        }
    }

    /// Parses the list options, and counts the memory of their selectors until the request ends.
    fn list_options(&mut self, kind: &'static Kind, query: &Query) -> Result<ListOptions, Status> {
        let options = ListOptions::of(kind, query)?;
        self.hold(Thing::HeadBytes, options.selection.size())?;
        Ok(options)
    }

    /// Moves the ticket into the seat of a watch.
    fn seat_of_watch(&mut self) -> Option<watch::Seat> {
        let ticket = self.stay.ticket.take()?;
        Some(watch::Seat::new(ticket, self.connection.clone()?))
    }
}

/// Serves one request. Errors and panics become responses with a `Status`.
pub(crate) async fn serve(
    shared: Arc<Shared>,
    origin: Origin,
    mut request: http::Request<Body>,
) -> Response<Body> {
    let began = Instant::now();
    let active = origin.connection.as_ref().map(Connection::begin);
    let span = tracing::debug_span!("request", method = %request.method(), uri = %request.uri());
    let mut course = Course {
        verb: "other",
        resource: "",
        is_stream: false,
        credential: Credential::None,
        stay: Stay::default(),
        connection: origin.connection.clone(),
    };
    let wanted = Answer::wanted(&request);
    let encoding = wanted.as_ref().map_or(Encoding::Json, |answer| answer.encoding);
    let handled = handle(&shared, &origin, &mut request, wanted, &mut course)
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
    match response.status() {
        // These responses must not wait for a body that may never arrive.
        StatusCode::SWITCHING_PROTOCOLS | StatusCode::REQUEST_TIMEOUT | StatusCode::TOO_MANY_REQUESTS => {}
        _ => discard(request.body_mut()).await,
    }
    let code = response.status().as_u16();
    let took = began.elapsed();
    shared.metrics.request(course.verb, course.resource, code, took);
    match active {
        Some(active) => response.map(|body| held(body, active, course)),
        None => response,
    }
}

/// Attaches the ticket to the body of a response, so that the request keeps its seat until the
/// response is sent. Conversion and compression need memory until then. A client that does not read
/// loses its connection.
fn held(body: Body, active: Active, course: Course) -> Body {
    let progress = (!course.is_stream).then(|| active.connection().watch_over());
    body.holding(Hold {
        _ticket: course.stay.ticket,
        active,
        progress,
    })
}

/// Removes the body from the response to HEAD, and sets `Content-Length` if the length is known.
/// HTTP/2 would send a body, and clients would report a broken stream.
fn head_of(response: Response<Body>) -> Response<Body> {
    let (mut parts, body) = response.into_parts();
    if let Some(length) = body.size_hint().exact() {
        // A proxied response keeps the length that its server set.
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
    origin: &Origin,
    request: &mut http::Request<Body>,
    wanted: Result<Answer, Status>,
    course: &mut Course,
) -> Result<Response<Body>, Status> {
    let route = routes::route(request.uri().path());
    let now = shared.clock.now();
    let (user, credential) = authenticate(shared, origin, request.headers(), now)?;
    course.credential = credential;
    if let Some(connection) = &origin.connection {
        if !connection.prove(&user) {
            return Err(Status::too_many_requests(
                "the user has too many connections, close some and try again",
                RETRY_AFTER_SECONDS,
            ));
        }
        if connection.is_flooded() {
            connection.dismiss();
            return Err(Status::too_many_requests(
                "too many requests without a credential are under way on this connection",
                RETRY_AFTER_SECONDS,
            ));
        }
        // Health checks must always get a response, and they cost little.
        if !matches!(route, Ok(Route::Health)) {
            let ticket = shared
                .flow
                .enter(&user, route.as_ref().ok(), connection.address())?;
            course.stay.ticket = Some(ticket);
            let bytes = head_bytes(request);
            if bytes > HEAD_UNCOUNTED_BYTES {
                course.hold(Thing::HeadBytes, bytes)?;
            }
        }
    }
    let authorized = authorization::authorize(shared, user, request.method(), request.uri(), route)?;
    let response = serve_authorized(shared, authorized, request, wanted, now, course).await?;
    Ok(response.map(|body| body.until(course.stay.rights.take())))
}

/// Estimates the memory of a request's head in bytes, with its parameters as [`Query`] stores them.
fn head_bytes(request: &http::Request<Body>) -> usize {
    const HEADER: usize = 104;
    const PARAMETER: usize = 80;
    let headers = request.headers().iter();
    let headers: usize = headers
        .map(|(name, value)| HEADER + name.as_str().len() + value.len())
        .sum();
    let (path, query) = (request.uri().path(), request.uri().query().unwrap_or_default());
    let parameters = query.bytes().filter(|byte| *byte == b'&').count();
    headers + path.len() + 2 * query.len() + PARAMETER * parameters
}

/// Returns the user of a request and the credential. A valid credential is accepted regardless of
/// earlier failures from its address. Invalid credentials are counted by address. Above the limit,
/// each one closes its connection with status 429.
fn authenticate(
    shared: &Shared,
    origin: &Origin,
    headers: &HeaderMap,
    now: Timestamp,
) -> Result<(Arc<User>, Credential), Status> {
    let authenticated = || authenticate::authenticate(shared, &origin.peer, headers, now);
    let Some(connection) = &origin.connection else {
        return authenticated();
    };
    // A certificate has precedence over a token.
    let has_certificate = matches!(origin.peer, Peer::Connection(Some(_)));
    let Some(credential) = headers.get(AUTHORIZATION).filter(|_| !has_certificate) else {
        return authenticated();
    };
    let token = credential.to_str().ok().and_then(|text| text.split_once(' '));
    let is_known = || token.is_some_and(|(_, token)| shared.tokens.knows(token.trim()));
    let too_many = || {
        Err(Status::too_many_requests(
            "too many wrong credentials came from this address, please try again later",
            ATTEMPT_RETRY_AFTER_SECONDS,
        ))
    };
    if connection.is_dismissed() && !is_known() {
        return too_many();
    }
    let shown = authenticated();
    let is_wrong = |status: &Status| status.code == StatusCode::UNAUTHORIZED.as_u16() && !is_known();
    if shown.as_ref().is_err_and(is_wrong)
        && !shared
            .attempts
            .may_fail(connection.address(), tokio::time::Instant::now())
    {
        connection.dismiss();
        return too_many();
    }
    shown
}

/// Serves an authorized request.
async fn serve_authorized(
    shared: &Arc<Shared>,
    authorized: Authorized,
    request: &mut http::Request<Body>,
    wanted: Result<Answer, Status>,
    now: Timestamp,
    course: &mut Course,
) -> Result<Response<Body>, Status> {
    let (user, route, query) = authorized.into_parts();
    let headers = request.headers();
    if !matches!(route, Route::Objects(_) | Route::Tunnel { .. }) {
        query.timeout()?;
    }
    match route {
        Route::Health => Ok(health::health(shared, request.uri())),
        Route::Version => health::version(request.method()),
        Route::Authority => Ok(health::authority(shared)),
        Route::Backup => Ok(backup::stream(shared)),
        Route::Metrics => Ok(health::metrics(shared)),
        Route::CoreVersions => Ok(shared.discovery.core(headers)),
        Route::Groups => Ok(shared.discovery.groups(headers)),
        Route::Group(group) => shared.discovery.group(&group),
        Route::Resources { group, version } => shared.discovery.resources(&group, &version),
        Route::CustomKinds => discovery::no_custom_kinds(shared.objects.revision(), request.method(), &query),
        Route::OpenapiV2 => shared.openapi.v2(headers),
        Route::OpenapiIndex => Ok(shared.openapi.index(headers)),
        Route::Openapi { group, version } => shared.openapi.v3(&group, &version, headers),
        Route::Tunnel { node } => {
            course.become_stream(shared)?;
            tunnel::accept(shared, node, std::mem::take(&mut course.stay), request)
        }
        Route::Objects(target) => {
            course.resource = target.kind.plural;
            let called = Called {
                user,
                target,
                query,
                now,
            };
            objects(shared, called, request, wanted, course).await
        }
    }
}

/// User, target and parameters of a request for objects.
struct Called {
    user: Arc<User>,
    target: Target,
    query: Query,
    now: Timestamp,
}

/// Serves a request for objects: finds the verb, reads the body, waits for a seat, and runs the
/// verb.
async fn objects(
    shared: &Arc<Shared>,
    called: Called,
    request: &mut http::Request<Body>,
    wanted: Result<Answer, Status>,
    course: &mut Course,
) -> Result<Response<Body>, Status> {
    let Called {
        user,
        target,
        query,
        now,
    } = called;
    let verb =
        Verb::of(request.method(), &target, &query).ok_or_else(|| not_allowed(&target, request.method()))?;
    course.verb = verb.name();
    if target.subresource.is_empty() {
        if !target.kind.has_verb(verb.name()) {
            return Err(Status::method_not_supported(target.kind, verb.name()));
        }
    } else if target.kind.subresource(&target.subresource).is_none() {
        return Err(Status::path_not_found());
    }
    if matches!(target.subresource.as_str(), "log" | "exec" | "proxy") {
        course.become_stream(shared)?;
    }
    match target.subresource.as_str() {
        "log" => return log::log(shared, &target, &query).await,
        "exec" => return exec::exec(shared, &target, &query, request, &mut course.stay).await,
        "proxy" => return proxy::proxy(shared, &target, request, &mut course.stay).await,
        _ => {}
    }
    let answer = match wanted? {
        answer if answer.is_table() && !has_table(&target) => Answer::wanted_but_no_table(request)?,
        answer => answer,
    };
    let takes_gzip = matches!(verb, Verb::Get | Verb::List) && compress::is_accepted(request.headers());
    let headers = std::mem::take(request.headers_mut());
    if verb == Verb::Watch {
        let options = course.list_options(target.kind, &query)?;
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
        course.seat().await?;
        course.become_stream(shared)?;
        return watch::watch(shared, request, options, course.seat_of_watch()).await;
    }
    let timeout = query
        .timeout()?
        .map_or(REQUEST_TIMEOUT, |asked| asked.min(REQUEST_TIMEOUT));
    // The body is read before the request takes a seat, so that slow bodies hold no seats.
    let body = read_body(&headers, request.body_mut(), course.stay.ticket.as_mut()).await?;
    course.seat().await?;
    if !body.is_empty() {
        // The node or the ServiceAccount may have been deleted while the body arrived.
        course.credential.must_be_good(shared, shared.clock.now())?;
    }
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
    let late = |_| {
        Status::timeout(
            "request did not complete within the allotted timeout",
            RETRY_AFTER_SECONDS,
        )
    };
    let response = tokio::time::timeout(timeout, run(shared, verb, request, course))
        .await
        .map_err(late)??;
    Ok(match takes_gzip {
        true => compress::compress(response),
        false => response,
    })
}

/// Returns whether the target has a Table. Only stored objects have columns.
fn has_table(target: &Target) -> bool {
    target.kind.stored && matches!(target.subresource.as_str(), "" | "status" | "approval")
}

async fn run(
    shared: &Arc<Shared>,
    verb: Verb,
    request: Request,
    course: &mut Course,
) -> Result<Response<Body>, Status> {
    let part = match request.target.subresource.as_str() {
        "status" => Part::Status,
        "approval" => Part::Approval,
        _ => Part::Main,
    };
    match (request.target.subresource.as_str(), verb) {
        ("", Verb::Create) if !request.target.kind.stored => review::review(shared, request).await,
        ("", Verb::Create) => create::create(shared, request).await,
        ("", Verb::Delete) => delete::delete(shared, request).await,
        ("", Verb::DeleteCollection) => {
            let options = course.list_options(request.target.kind, &request.query)?;
            delete_collection::delete_collection(shared, request, options.selection).await
        }
        ("", Verb::List) => {
            let options = course.list_options(request.target.kind, &request.query)?;
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

/// Reads the body of a request. It must arrive at [`BODY_RATE_MIN`] or faster.
async fn read_body(
    headers: &HeaderMap,
    body: &mut Body,
    mut ticket: Option<&mut Ticket>,
) -> Result<Bytes, Status> {
    let too_large = || Status::too_large(BODY_BYTES_MAX);
    let announced = headers
        .get(CONTENT_LENGTH)
        .and_then(|value| value.to_str().ok()?.parse::<usize>().ok());
    if announced.is_some_and(|length| length > BODY_BYTES_MAX) {
        return Err(too_large());
    }
    let began = tokio::time::Instant::now();
    let (mut read, mut counted) = (BytesMut::new(), 0);
    loop {
        let deadline = began + BODY_GRACE + Duration::from_secs(read.len() as u64 / BODY_RATE_MIN);
        let data = match tokio::time::timeout_at(deadline, body.frame()).await {
            Ok(Some(Ok(frame))) => frame.into_data().unwrap_or_default(),
            Ok(Some(Err(error))) => {
                let why = format!("the body of the request could not be read: {error}");
                return Err(Status::bad_request(why));
            }
            Ok(None) => return Ok(read.freeze()),
            Err(_) => return Err(late_body()),
        };
        let length = read.len() + data.len();
        if length > BODY_BYTES_MAX {
            return Err(too_large());
        }
        if length > BODY_UNCOUNTED_BYTES
            && let Some(ticket) = &mut ticket
        {
            ticket
                .hold(Thing::BodyBytes, length - counted)
                .map_err(flow::busy)?;
            counted = length;
        }
        if read.is_empty() && body.is_end_stream() {
            return Ok(data);
        }
        read.extend_from_slice(&data);
    }
}

fn late_body() -> Status {
    let why =
        format!("the body of the request did not come in time: send at least {BODY_RATE_MIN} bytes a second");
    Status::new(StatusCode::REQUEST_TIMEOUT.as_u16(), "Timeout", why)
}

/// Reads and discards the rest of a request's body, up to [`DISCARD_BYTES_MAX`]. An HTTP/1
/// connection whose request was not read completely is closed. A client that is still sending would
/// not receive the response.
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

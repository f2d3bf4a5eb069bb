//! The network between the components and the API server. It loses, delays, repeats and interrupts
//! requests.
//!
//! A request may be lost before it reaches the server, or its response may be lost afterwards.
//! Either may be delayed. A request may arrive again soon after, and the server may reject it like
//! a busy server. A watch may begin late, stall, end at any byte, or be split in two pieces. It
//! never omits an event in its middle, because a real network does not either. While the server is
//! down, every request fails, and those in flight end.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use apiserver::{AnswerBody, InMemory, User};
use bytes::Bytes;
use futures::{FutureExt, stream};
use http::{Method, Request, Response, header};
use http_body::Frame;
use http_body_util::{BodyExt, Full, StreamBody};
use kube::client::Body;
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;

use crate::history::{CONTROLLERS, ECHO, History};
use crate::picture::Key;
use crate::rng::Rng;

type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// Kind of fault. Each can be disabled by its name, to find the ones that a failure needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Fault {
    /// A request does not arrive.
    LostRequest,
    /// A request arrives, but its response does not.
    LostAnswer,
    /// A request or its response is delayed.
    Delay,
    /// A request arrives twice.
    Repeat,
    /// The server responds with 429 or 500.
    Busy,
    /// The server responds with 409 to a change of an existing object.
    Conflict,
    /// The server responds with 410 to a watch or a list.
    Gone,
    /// A watch ends early.
    Cut,
    /// A watch stalls.
    Stall,
    /// The API server restarts.
    ServerRestart,
    /// The controllers restart.
    ControllersRestart,
    /// The scheduler restarts.
    SchedulerRestart,
    /// A node does not respond for a while.
    NodeFlap,
    /// The clocks of the components differ.
    Skew,
}

impl Fault {
    pub(crate) const ALL: [Fault; 14] = [
        Fault::LostRequest,
        Fault::LostAnswer,
        Fault::Delay,
        Fault::Repeat,
        Fault::Busy,
        Fault::Conflict,
        Fault::Gone,
        Fault::Cut,
        Fault::Stall,
        Fault::ServerRestart,
        Fault::ControllersRestart,
        Fault::SchedulerRestart,
        Fault::NodeFlap,
        Fault::Skew,
    ];
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self:?}")
    }
}

/// Longest delay of a request, a response or a piece of a watch.
pub(crate) const HELD_MAX: Duration = Duration::from_secs(20);

/// Limit of requests at one moment: more than the machines and components of a run send.
const AT_ONCE: u32 = 2_000;

/// Delay of a request above that limit, so that the simulated time advances.
const PASSES: Duration = Duration::from_secs(1);

/// Longest time between a request and its repetition, in milliseconds.
const REPEATED_WITHIN_MS: u64 = 500;

/// The network. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Network(Arc<Mutex<State>>);

pub(crate) struct State {
    rng: Rng,
    /// Share of requests and pieces of watches, in a thousand, that get an enabled fault.
    pub(crate) share: u64,
    pub(crate) on: BTreeSet<Fault>,
    server: Option<InMemory>,
    /// Cancelled when the current server goes down.
    down: CancellationToken,
    /// A moment and the number of requests in it.
    at_once: (Instant, u32),
    /// State of the controllers' watches, by path.
    views: BTreeMap<&'static str, View>,
    pub(crate) history: History,
}

/// State of a watch.
#[derive(Clone, Copy, Debug)]
enum View {
    /// All events have arrived, at the moment `since`. In that moment, events after `before` may
    /// not have been processed yet.
    Current { since: Instant, before: Instant },
    /// Events after this moment have not arrived.
    Behind(Instant),
}

impl View {
    /// Returns the moment from which the component's view of the cluster dates, at the earliest.
    fn floor(self, now: Instant) -> Instant {
        match self {
            View::Current { since, before } if since == now => before,
            View::Current { .. } => now,
            View::Behind(since) => since,
        }
    }
}

/// Watches that the DaemonSet controller uses for its decisions.
const PLANNED_BY: [&str; 4] = [
    "/api/v1/nodes",
    "/api/v1/pods",
    "/apis/apps/v1/daemonsets",
    "/apis/apps/v1/controllerrevisions",
];

/// Faults of a request.
#[derive(Debug, Default)]
struct Fate {
    before: Duration,
    after: Duration,
    mishap: Option<Fault>,
}

impl Network {
    pub(crate) fn new(rng: Rng, server: InMemory, history: History) -> Network {
        Network(Arc::new(Mutex::new(State {
            rng,
            share: 0,
            on: BTreeSet::new(),
            server: Some(server),
            down: CancellationToken::new(),
            at_once: (Instant::now(), 0),
            views: BTreeMap::new(),
            history,
        })))
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns a client of `component`, which acts as `user`.
    pub(crate) fn client(&self, component: &str, user: User) -> kube::Client {
        let wire = Wire {
            network: self.clone(),
            component: component.into(),
            user,
            sound: false,
        };
        kube::Client::new(wire, "default")
    }

    /// Returns a client that has no faults except when the server is down.
    pub(crate) fn sound_client(&self, component: &str) -> kube::Client {
        let wire = Wire {
            network: self.clone(),
            component: component.into(),
            user: User::admin(),
            sound: true,
        };
        kube::Client::new(wire, "default")
    }

    /// Crashes the server and ends the requests in flight. It is down until [`Network::server_up`].
    pub(crate) fn server_down(&self) -> Option<InMemory> {
        let mut state = self.lock();
        state.observe("server", "down");
        state.history.say("server", "goes down");
        state.down.cancel();
        state.server.take()
    }

    pub(crate) fn server_up(&self, server: InMemory) {
        let mut state = self.lock();
        state.observe("server", "up");
        state.history.say("server", "is up");
        state.down = CancellationToken::new();
        state.server = Some(server);
    }

    pub(crate) fn say(&self, who: &str, what: &str) {
        self.lock().history.say(who, what);
    }

    /// Notes that the controllers start: they have not received events from now on.
    pub(crate) fn controllers_start(&self) {
        let begin = |path| (path, View::Behind(Instant::now()));
        self.lock().views = PLANNED_BY.into_iter().map(begin).collect();
    }

    /// Returns the moment from which a component's view of the cluster dates, at the earliest.
    fn floor(&self, component: &str) -> Instant {
        let now = Instant::now();
        if component != CONTROLLERS {
            return now;
        }
        let state = self.lock();
        let floors = state.views.values().map(|view| view.floor(now));
        floors.min().unwrap_or(now)
    }

    /// Sends a request to the server and records its writes. The sender's view dates from `floor`
    /// or later.
    async fn deliver(
        &self,
        wire: &Wire,
        request: Request<Body>,
        floor: Instant,
    ) -> Result<Response<AnswerBody>, BoxError> {
        let (line, down) = {
            let state = self.lock();
            let server = state.server.as_ref().ok_or("connection refused")?;
            (server.line(wire.user.clone()), state.down.clone())
        };
        let what = format!("{} {}", request.method(), request.uri());
        let call = Observed {
            call: Box::pin(async move { line.call(request).await }),
            network: self.clone(),
            who: wire.component.clone(),
            what,
            floor,
        };
        tokio::select! {
            biased;
            () = down.cancelled() => Err("connection reset".into()),
            answer = call => Ok(answer),
        }
    }

    fn fate(&self, request: &Request<Body>) -> Fate {
        let mut state = self.lock();
        let state = &mut *state;
        let mut fate = Fate::default();
        if state.on.contains(&Fault::Delay) {
            (fate.before, fate.after) = (state.delay(), state.delay());
        }
        if !state.rng.per_mille(state.share) {
            return fate;
        }
        let watch = is_watch(request);
        let read = *request.method() == Method::GET;
        let may = |fault: &Fault| match fault {
            Fault::LostRequest | Fault::LostAnswer | Fault::Busy => true,
            Fault::Repeat => !read,
            Fault::Conflict => matches!(*request.method(), Method::PATCH | Method::PUT),
            Fault::Gone => {
                watch
                    && !request
                        .uri()
                        .query()
                        .unwrap_or_default()
                        .contains("sendInitialEvents")
            }
            _ => false,
        };
        let open: Vec<Fault> = state.on.iter().copied().filter(may).collect();
        if !open.is_empty() {
            fate.mishap = Some(*state.rng.pick(&open));
        }
        fate
    }
}

impl State {
    /// Records the writes since the last call. `who` made them with the request `what`.
    pub(crate) fn observe(&mut self, who: &str, what: &str) {
        self.history.observe(who, what);
    }

    /// Returns whether too many requests are sent at one moment, so that the simulated time would
    /// not advance.
    fn is_without_end(&mut self, who: &str, request: &Request<Body>) -> bool {
        let now = Instant::now();
        if self.at_once.0 != now {
            self.at_once = (now, 0);
        }
        self.at_once.1 += 1;
        if self.at_once.1 == AT_ONCE {
            let what = format!("{who}: {} {}", request.method(), request.uri());
            self.history.broken("nothing is asked for again and again", what);
        }
        self.at_once.1 >= AT_ONCE
    }

    /// Returns a delay: usually zero, sometimes milliseconds, rarely many seconds.
    fn delay(&mut self) -> Duration {
        if self.rng.per_mille(self.share) {
            let longest = u64::try_from(HELD_MAX.as_millis()).unwrap_or(0);
            Duration::from_millis(self.rng.between(1, longest))
        } else if self.rng.per_mille(200) {
            Duration::from_millis(self.rng.between(1, 50))
        } else {
            Duration::ZERO
        }
    }

    fn happens(&mut self, fault: Fault) -> bool {
        self.on.contains(&fault) && self.rng.per_mille(self.share)
    }
}

/// Returns the pod that a request deletes.
fn deleted_pod(request: &Request<Body>) -> Option<Key> {
    let path = request.uri().path().strip_prefix("/api/v1/namespaces/")?;
    let (namespace, name) = path.split_once("/pods/")?;
    let deletes = *request.method() == Method::DELETE && !name.contains('/');
    deletes.then(|| (namespace.to_owned(), name.to_owned()))
}

fn is_watch(request: &Request<Body>) -> bool {
    let query = request.uri().query().unwrap_or_default();
    query
        .split('&')
        .any(|part| part == "watch=1" || part == "watch=true")
}

/// A call whose writes are recorded.
struct Observed {
    call: Pin<Box<dyn Future<Output = Response<AnswerBody>> + Send>>,
    network: Network,
    who: Arc<str>,
    what: String,
    floor: Instant,
}

impl Future for Observed {
    type Output = Response<AnswerBody>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let polled = self.call.as_mut().poll(context);
        // The in-memory store writes within the poll that requested it, so these writes belong to
        // this call.
        let mut state = self.network.lock();
        state.history.floor = self.floor;
        state.observe(&self.who, &self.what);
        drop(state);
        polled
    }
}

/// Connection of one component to the server.
#[derive(Clone)]
struct Wire {
    network: Network,
    component: Arc<str>,
    user: User,
    sound: bool,
}

impl tower::Service<Request<Body>> for Wire {
    type Response = Response<AnswerBody>;
    type Error = BoxError;
    type Future = Pin<Box<dyn Future<Output = Result<Response<AnswerBody>, BoxError>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let wire = self.clone();
        let deleted = deleted_pod(&request).filter(|_| *self.component == *CONTROLLERS);
        Box::pin(async move {
            let network = wire.network.clone();
            if let Some(pod) = &deleted {
                network.lock().history.leaving.insert(pod.clone());
            }
            let answer = wire.carry(request).await;
            if let (Some(pod), Ok(answer)) = (&deleted, &answer)
                && !answer.status().is_success()
            {
                network.lock().history.leaving.remove(pod);
            }
            answer
        })
    }
}

impl Wire {
    async fn carry(self, request: Request<Body>) -> Result<Response<AnswerBody>, BoxError> {
        let floor = self.network.floor(&self.component);
        let without_end = self.network.lock().is_without_end(&self.component, &request);
        if without_end {
            sleep(PASSES).await;
        }
        if self.sound {
            return self.network.deliver(&self, request, floor).await;
        }
        let fate = self.network.fate(&request);
        let watch = is_watch(&request);
        let planned_by = PLANNED_BY.into_iter().find(|path| {
            watch
                && *self.component == *CONTROLLERS
                && request.uri().path() == *path
                && !request.headers().contains_key(header::ACCEPT)
        });
        if let Some(mishap) = fate.mishap {
            let what = format!("{mishap}: {} {}", request.method(), request.uri());
            self.network.say(&self.component, &what);
        }
        wait(fate.before).await;
        let answer = match fate.mishap {
            Some(Fault::LostRequest) => {
                wait(fate.after).await;
                return Err("connection reset by peer".into());
            }
            Some(Fault::Busy) => Ok(refusal(429, "TooManyRequests", "too many requests")),
            Some(Fault::Conflict) => Ok(refusal(409, "Conflict", "the object has been modified")),
            Some(Fault::Gone) => Ok(refusal(410, "Expired", "too old resource version")),
            Some(Fault::Repeat) => {
                let (first, second) = copies(request).await?;
                let answer = self.network.deliver(&self, first, floor).await;
                let within = self.network.lock().rng.between(0, REPEATED_WITHIN_MS);
                let again = Wire {
                    component: ECHO.into(),
                    ..self.clone()
                };
                tokio::spawn(async move {
                    wait(Duration::from_millis(within)).await;
                    // The response of the repetition is dropped.
                    again.network.deliver(&again, second, floor).await.ok();
                });
                answer
            }
            _ => self.network.deliver(&self, request, floor).await,
        };
        wait(fate.after).await;
        if fate.mishap == Some(Fault::LostAnswer) {
            return Err("connection reset by peer".into());
        }
        let answer = answer?;
        if !watch || !answer.status().is_success() {
            return Ok(answer);
        }
        let down = self.network.lock().down.clone();
        Ok(answer.map(|body| self.carry_watch(body, down, planned_by)))
    }

    /// Returns the response of a watch as it arrives.
    fn carry_watch(
        self,
        body: AnswerBody,
        down: CancellationToken,
        planned_by: Option<&'static str>,
    ) -> AnswerBody {
        let watch = Watch {
            wire: self,
            body,
            down,
            rest: None,
            planned_by,
        };
        let frames = stream::unfold(Some(watch), |watch| async move {
            let mut watch = watch?;
            match watch.next().await {
                Ok(Some(bytes)) => Some((Ok(Frame::data(bytes)), Some(watch))),
                Ok(None) => None,
                Err(error) => Some((Err(error), None)),
            }
        });
        StreamBody::new(frames).boxed_unsync()
    }
}

struct Watch {
    wire: Wire,
    body: AnswerBody,
    down: CancellationToken,
    /// Second piece of a frame that was split in two.
    rest: Option<Bytes>,
    planned_by: Option<&'static str>,
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.behind();
    }
}

impl Watch {
    fn view(&self, change: impl FnOnce(&mut View)) {
        let Some(path) = self.planned_by else { return };
        self.wire.network.lock().views.entry(path).and_modify(change);
    }

    /// Notes that events from now on have not arrived.
    fn behind(&self) {
        self.view(|view| *view = View::Behind(view.floor(Instant::now())));
    }

    async fn next(&mut self) -> Result<Option<Bytes>, BoxError> {
        if let Some(rest) = self.rest.take() {
            return Ok(Some(rest));
        }
        let frame = match self.body.frame().now_or_never() {
            Some(frame) => frame,
            None => {
                // All events have arrived and were processed.
                self.view(|view| {
                    if let View::Behind(before) = *view {
                        let since = Instant::now();
                        *view = View::Current { since, before };
                    }
                });
                tokio::select! {
                    biased;
                    () = self.down.cancelled() => return Err("connection reset".into()),
                    frame = self.body.frame() => frame,
                }
            }
        };
        self.behind();
        let Some(frame) = frame else { return Ok(None) };
        let Ok(mut bytes) = frame?.into_data() else {
            return Ok(None);
        };
        let (held, cut, pieces) = {
            let mut state = self.wire.network.lock();
            let held = if state.on.contains(&Fault::Delay) {
                state.delay()
            } else {
                Duration::ZERO
            };
            let longest = u64::try_from(HELD_MAX.as_millis()).unwrap_or(0);
            let stalled = match state.happens(Fault::Stall) {
                true => Duration::from_millis(state.rng.between(1, longest)),
                false => Duration::ZERO,
            };
            let at = usize::try_from(state.rng.below(bytes.len().max(1) as u64)).unwrap_or(0);
            let cut = state.happens(Fault::Cut).then_some(at);
            let pieces = state.on.contains(&Fault::Cut) && state.rng.per_mille(100);
            (held + stalled, cut, pieces.then_some(at))
        };
        wait(held).await;
        if self.down.is_cancelled() {
            return Err("connection reset".into());
        }
        if let Some(at) = cut {
            self.wire
                .network
                .say(&self.wire.component, "Cut: a watch breaks off");
            self.down = CancellationToken::new();
            self.down.cancel();
            bytes.truncate(at);
            return Ok(Some(bytes));
        }
        if let Some(at) = pieces {
            self.rest = Some(bytes.split_off(at));
        }
        Ok(Some(bytes))
    }
}

async fn wait(time: Duration) {
    if !time.is_zero() {
        sleep(time).await;
    }
}

/// Returns a request and a copy of it.
async fn copies(request: Request<Body>) -> Result<(Request<Body>, Request<Body>), BoxError> {
    let (parts, body) = request.into_parts();
    let bytes = body.collect().await?.to_bytes();
    let mut second = Request::builder()
        .method(parts.method.clone())
        .uri(parts.uri.clone());
    if let Some(headers) = second.headers_mut() {
        headers.clone_from(&parts.headers);
    }
    let second = second.body(Body::from(bytes.to_vec()))?;
    Ok((Request::from_parts(parts, Body::from(bytes.to_vec())), second))
}

fn refusal(code: u16, reason: &str, message: &str) -> Response<AnswerBody> {
    let status = serde_json::json!({
        "kind": "Status", "apiVersion": "v1", "status": "Failure", "code": code, "reason": reason, "message": message,
    });
    let body = Full::new(Bytes::from(status.to_string()))
        .map_err(|never| match never {})
        .boxed_unsync();
    let mut response = Response::new(body);
    *response.status_mut() = http::StatusCode::from_u16(code).expect("a code");
    response
}

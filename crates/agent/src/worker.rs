//! One pod's worker: asks for a plan, begins its actions, listens, and asks again.
//!
//! The worker never waits for an action: each is a job of its own, which shows in [`Observed`] while it is under way, so that
//! a deletion, an exit or a probe's verdict is seen at once. It holds the pod's whole state; when it is dropped, the pod runs on.

mod jobs;
mod runs;

use std::collections::{HashMap, HashSet};
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Container, Pod};
use plan::pod_sync::{
    self, Action, Backoff, ContainerSeen, Exit, Failure, ImageSeen, Observed, Sandbox, StopReason,
};
use runtime::{ContainerStatus, PodLog, PodLogs, Runtime};
use serde_json::Value;
use tokio::sync::{Mutex, mpsc, watch};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::admission::Offer;
use crate::cluster::{Cluster, PodRef};
use crate::container::{ClusterNames, PodFiles, Surroundings};
use crate::disk;
use crate::events::Recorder;
use crate::hold;
use crate::policy::PodPolicy;
use crate::probes::{self, Verdict};
use crate::sources::Sources;
use crate::volumes::{self, Origins, Tokens};
use jobs::Done;
pub(crate) use runs::exit_reason;

/// Messages that wait for one worker. It never blocks on anything else than its messages, so they only queue for the time
/// of one step.
pub(crate) const INBOX: usize = 64;
/// Wait after a status patch that failed, doubling up to the second value.
const REPORT_RETRY: (Duration, Duration) = (Duration::from_millis(250), Duration::from_secs(10));
/// Wait after a sandbox or a container that could not be made, doubling up to the second value.
const MAKE_RETRY: (Duration, Duration) = (Duration::from_millis(500), Duration::from_secs(120));

/// What all workers of a node share.
pub(crate) struct Shared {
    pub(crate) cluster: Cluster,
    pub(crate) sources: Sources,
    pub(crate) recorder: Recorder,
    pub(crate) runtime: Runtime,
    /// Pods' files, by uid.
    pub(crate) pods_dir: PathBuf,
    pub(crate) logs: PodLogs,
    pub(crate) offer: watch::Receiver<Offer>,
    /// What pods are granted of the machine's kernel.
    pub(crate) policy: PodPolicy,
    pub(crate) node_name: String,
    /// The cluster's domain, and who knows its names.
    pub(crate) names: ClusterNames,
    /// The node's own addresses, the main one first.
    pub(crate) addresses: watch::Receiver<Vec<IpAddr>>,
    pub(crate) api_address: SocketAddr,
    /// Where pods with a network of their own reach the API server instead.
    pub(crate) api_service: Option<SocketAddr>,
    /// To which pods clients are led: those are not stopped yet.
    pub(crate) hold: hold::Listener,
    /// Uids of the pods that have workers, by namespace and name: who asks for logs knows only those.
    pub(crate) uids: std::sync::Mutex<HashMap<(String, String), String>>,
}

impl Shared {
    /// The node's addresses, as they are in the status of pods.
    pub(crate) fn host_ips(&self) -> Vec<String> {
        self.addresses.borrow().iter().map(ToString::to_string).collect()
    }

    pub(crate) fn uid(&self, namespace: &str, name: &str) -> Option<String> {
        let uids = self
            .uids
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        uids.get(&(namespace.to_owned(), name.to_owned())).cloned()
    }

    /// The pods that have workers: namespace, name and uid, in order.
    pub(crate) fn pods(&self) -> Vec<(String, String, String)> {
        let uids = self
            .uids
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        let held = uids.iter();
        let mut pods: Vec<_> = held
            .map(|((namespace, name), uid)| (namespace.clone(), name.clone(), uid.clone()))
            .collect();
        pods.sort_unstable();
        pods
    }

    pub(crate) fn learn_uid(&self, pod: &PodRef) {
        let mut uids = self
            .uids
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        uids.insert((pod.namespace.clone(), pod.name.clone()), pod.uid.clone());
    }

    pub(crate) fn forget_uid(&self, uid: &str) {
        let mut uids = self
            .uids
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        uids.retain(|_, held| held != uid);
    }

    pub(crate) fn files(&self, uid: &str) -> PodFiles {
        PodFiles(self.pods_dir.join(uid))
    }

    pub(crate) fn log(&self, pod: &PodRef) -> PodLog {
        self.logs.pod(&pod.namespace, &pod.name, &pod.uid)
    }

    fn origins(&self) -> Origins<'_> {
        Origins {
            cluster: &self.cluster,
            sources: &self.sources,
        }
    }
}

/// A message for a worker.
pub(crate) enum Message {
    /// The pod as the API has it now.
    Pod(Box<Pod>),
    /// Something that the pod takes values from is not what it was.
    SourceChanged,
    /// The API does not have it any more.
    Gone,
    /// The runtime tells of a container.
    Container(ContainerStatus),
    /// The pod's shim died.
    ShimGone,
    /// A probe reached a verdict.
    Verdict(Verdict),
}

/// Whose word a pod is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Word {
    /// A server said it to this process.
    Server,
    /// A server said it to an earlier one, which kept it.
    Kept,
}

/// How a worker finds its pod.
pub(crate) enum Origin {
    /// Not on this node yet (or no longer).
    New,
    /// Its shim lives.
    Adopted(runtime::Pod),
    /// The node refuses it.
    Rejected(Failure),
}

pub(crate) struct Worker {
    shared: Arc<Shared>,
    identity: PodRef,
    pod: Arc<Pod>,
    view: pod_sync::Pod,
    version: u64,
    /// Its sandbox, when it lives: the runs in it are not looked at yet.
    adopted: Option<runtime::Pod>,
    /// Whether a server has told this process of the pod. Before, nothing is reported: what was reported last is not known.
    heard: bool,
    seen: Observed,
    files: PodFiles,
    tokens: Arc<Mutex<Tokens>>,
    /// Cancelled when the pod is to end: a postStart hook is not waited for any more.
    ending: CancellationToken,
    jobs: JoinSet<Done>,
    own_inbox: mpsc::Sender<Message>,
    probes: HashMap<String, JoinSet<()>>,
    /// Names of containers whose image is being looked up.
    looking: HashSet<String>,
    /// Exits that were told before the start that they end.
    early: HashMap<String, ContainerStatus>,
    pull_backoff: HashMap<String, Backoff>,
    make_failures: HashMap<String, u32>,
    reporting: bool,
    report_failures: u32,
    report_after: Option<Timestamp>,
    refresh_at: Option<tokio::time::Instant>,
    /// What the volumes show changed while they were written.
    refresh_again: bool,
    /// When the pod's disk use is measured next; `None` while that is under way, and when it has no limits.
    measure_at: Option<tokio::time::Instant>,
    leaving: bool,
    /// It had ended before this process came, and nothing of it is left here: what was said of it stands.
    settled: bool,
    waiting_reasons: HashMap<String, String>,
}

impl Worker {
    /// A worker for `pod`, which it also hands its own verdicts through `own_inbox`.
    pub(crate) fn new(
        shared: Arc<Shared>,
        pod: Pod,
        word: Word,
        origin: Origin,
        own_inbox: mpsc::Sender<Message>,
    ) -> Self {
        let identity = PodRef::of(&pod);
        let files = shared.files(&identity.uid);
        let mut worker = Self {
            view: pod_sync::Pod::default(),
            version: 0,
            adopted: None,
            heard: word == Word::Server,
            seen: Observed {
                host_ips: shared.host_ips(),
                ..Default::default()
            },
            pod: Arc::new(Pod::default()),
            shared,
            identity,
            files,
            tokens: Arc::default(),
            ending: CancellationToken::new(),
            jobs: JoinSet::new(),
            own_inbox,
            probes: HashMap::new(),
            looking: HashSet::new(),
            early: HashMap::new(),
            pull_backoff: HashMap::new(),
            make_failures: HashMap::new(),
            reporting: false,
            report_failures: 0,
            report_after: None,
            refresh_at: None,
            refresh_again: false,
            measure_at: None,
            leaving: false,
            settled: false,
            waiting_reasons: HashMap::new(),
        };
        worker.take_pod(pod);
        worker.schedule_measurement();
        let started = worker.seen.reported["startTime"]
            .as_str()
            .and_then(|at| at.parse().ok());
        worker.seen.start_time = Some(started.unwrap_or_else(Timestamp::now));
        match origin {
            Origin::New
                if matches!(
                    worker.seen.reported["phase"].as_str(),
                    Some("Succeeded" | "Failed")
                ) =>
            {
                worker.settled = true;
            }
            Origin::New => worker.recall(),
            Origin::Adopted(sandbox) => worker.adopted = Some(sandbox),
            Origin::Rejected(why) => {
                worker.event("", true, &why.reason, why.message.clone());
                worker.seen.rejected = Some(why);
            }
        }
        worker
    }

    /// Works until the pod is gone from this node and from the API.
    pub(crate) async fn run(mut self, mut inbox: mpsc::Receiver<Message>) {
        let mut addresses = self.shared.addresses.clone();
        if let Some(sandbox) = self.adopted.take() {
            self.adopt(&sandbox).await;
        }
        while !self.leaving {
            let wake = self.step();
            let until_wake = wake.map(|at| {
                let span = at.duration_since(Timestamp::now());
                Duration::try_from(span).unwrap_or_default()
            });
            let (refresh, measure) = (self.refresh_at, self.measure_at);
            tokio::select! {
                message = inbox.recv() => match message {
                    Some(message) => self.receive(message),
                    None => return,
                },
                Some(done) = self.jobs.join_next() => match done {
                    Ok(done) => self.finished(done),
                    Err(error) => tracing::error!(pod = self.identity.name, %error, "a job of a pod panicked"),
                },
                // The next status of the pod has the host's new address.
                Ok(()) = addresses.changed() => {}
                () = sleep(until_wake) => {}
                () = sleep_until(refresh) => self.refresh_volumes(),
                () = sleep_until(measure) => self.measure(),
            }
        }
    }

    /// One round: plan, begin what is planned, report. Answers when time alone makes another round necessary.
    fn step(&mut self) -> Option<Timestamp> {
        let now = Timestamp::now();
        self.seen.host_ips = self.shared.host_ips();
        let plan = pod_sync::sync(&self.view, &self.seen, now);
        for action in plan.actions {
            self.begin(action, &plan.status);
        }
        self.tell_backoffs(&plan.status);
        self.report(&plan.status, now);
        let report = self.report_after.filter(|_| !self.reporting);
        [plan.wake, report].into_iter().flatten().min()
    }

    // ---- what comes in

    fn receive(&mut self, message: Message) {
        match message {
            Message::Pod(pod) => {
                self.take_pod(*pod);
                if !std::mem::replace(&mut self.heard, true) {
                    self.catch_up();
                }
                self.refresh_soon();
            }
            Message::SourceChanged => self.refresh_soon(),
            Message::Gone => {
                self.seen.unwanted = true;
                self.ending.cancel();
            }
            Message::Container(status) => self.container_changed(status),
            Message::ShimGone => self.shim_gone(),
            Message::Verdict(verdict) => self.verdict(verdict),
        }
    }

    /// Takes the API's newest word, unless an answer to an own patch was newer.
    fn take_pod(&mut self, pod: Pod) {
        let version = version(pod.metadata.resource_version.as_deref());
        let mut value = serde_json::to_value(&pod).unwrap_or_default();
        match serde_json::from_value(value.clone()) {
            Ok(view) => {
                let before = std::mem::replace(&mut self.view, view);
                self.forget_images(&before);
            }
            Err(error) => tracing::error!(pod = self.identity.name, %error, "cannot decode a pod"),
        }
        if version >= self.version {
            self.version = version;
            self.seen.reported = value["status"].take();
        }
        if pod.metadata.deletion_timestamp.is_some() {
            self.ending.cancel();
        }
        self.pod = Arc::new(pod);
    }

    /// What is known of an image is of no use for a container that has another one now.
    fn forget_images(&mut self, before: &pod_sync::Pod) {
        let inits = self.view.spec.init_containers.iter();
        for container in inits.chain(&self.view.spec.containers) {
            if before
                .image(&container.name)
                .is_some_and(|image| image != container.image)
            {
                self.pull_backoff.remove(&container.name);
                self.make_failures.remove(&container.name);
                if let Some(seen) = self.seen.containers.get_mut(&container.name) {
                    seen.image = ImageSeen::Unknown;
                    seen.failure = None;
                }
            }
        }
    }

    fn verdict(&mut self, verdict: Verdict) {
        let Some(seen) = self.seen.containers.get_mut(&verdict.container) else {
            return;
        };
        if seen.attempt == verdict.attempt {
            match verdict.kind {
                probes::Kind::Startup => seen.probes.startup = Some(verdict.success),
                probes::Kind::Readiness => seen.probes.readiness = Some(verdict.success),
                probes::Kind::Liveness => seen.probes.liveness = Some(verdict.success),
            }
        }
    }

    fn finished(&mut self, done: Done) {
        let now = Timestamp::now();
        match done {
            Done::Sandbox(made) => self.sandbox_made(made, now),
            Done::LookedUp { container, found } => {
                self.looking.remove(&container.name);
                if self.has_image(&container) {
                    self.image_looked_up(&container, found, now);
                }
            }
            Done::Pulled { container, pulled } => {
                if self.has_image(&container) {
                    self.image_pulled(&container, pulled, now);
                }
            }
            Done::Started {
                container,
                attempt,
                before,
                started,
            } => self.container_started(&container, attempt, before, started, now),
            Done::Stopped { container, gone } => self.container_stopped(&container, gone),
            Done::Released(Ok(())) => self.seen.sandbox = Sandbox::Released,
            Done::Removed(Ok(())) => self.sandbox_removed(),
            Done::Released(Err(message)) | Done::Removed(Err(message)) => {
                tracing::warn!(
                    pod = self.identity.name,
                    message,
                    "cannot remove the pod's sandbox"
                );
                self.event("", true, "FailedKillPod", format!("error killing pod: {message}"));
                let failure = failure("FailedKillPod", message);
                self.seen.sandbox = Sandbox::Failed(failure, self.retry_at("sandbox", now));
            }
            Done::Refreshed(result) => {
                if let Err(message) = result {
                    self.event("", true, "FailedMount", message);
                }
                self.schedule_refresh();
            }
            Done::Measured(found) => self.measured(found),
            Done::Reported(answer) => self.reported(answer, now),
            Done::Deleted(Ok(())) => self.leaving = true,
            Done::Deleted(Err(message)) => {
                tracing::warn!(
                    pod = self.identity.name,
                    error = message,
                    "cannot delete the pod's object"
                );
                self.reporting = false;
                self.report_failures = self.report_failures.saturating_add(1);
                self.report_after = Some(after(now, backoff(REPORT_RETRY, self.report_failures)));
            }
        }
    }

    // ---- what goes out

    fn begin(&mut self, action: Action, status: &Value) {
        match action {
            Action::CreateSandbox => {
                self.seen.sandbox = Sandbox::Creating;
                let job = jobs::create_sandbox(self.context());
                self.jobs.spawn(job);
            }
            Action::LookUpImage { container } => self.look_up_image(container),
            Action::PullImage { container } => self.pull_image(container),
            Action::StartContainer { container, attempt } => self.start_container(&container, attempt),
            Action::StopContainer {
                container,
                grace_seconds,
                why,
            } => self.stop_container(&container, grace_seconds, why),
            Action::ReleaseSandbox => {
                self.seen.sandbox = Sandbox::Removing;
                self.jobs.spawn(jobs::release_sandbox(self.context()));
            }
            Action::RemoveSandbox => {
                self.seen.sandbox = Sandbox::Removing;
                let all = self.seen.unwanted || self.view.metadata.deletion_timestamp.is_some();
                self.jobs.spawn(jobs::remove_sandbox(self.context(), all));
            }
            Action::DeletePod
                if self.reporting || self.report_after.is_some_and(|at| Timestamp::now() < at) => {}
            Action::DeletePod => {
                self.reporting = true;
                let patch =
                    pod_sync::patch(&self.seen.reported, status).filter(|_| self.heard && !self.settled);
                self.jobs.spawn(jobs::delete_pod(self.context(), patch));
            }
            Action::Forget => self.leaving = true,
        }
    }

    fn look_up_image(&mut self, name: String) {
        let Some(container) = self.container(&name) else {
            return;
        };
        if let Some(ContainerSeen {
            image: ImageSeen::Failed { looked_at, .. },
            ..
        }) = self.seen.containers.get_mut(&name)
        {
            *looked_at = Timestamp::now();
        }
        if self.looking.insert(name) {
            self.jobs.spawn(jobs::look_up_image(self.context(), container));
        }
    }

    fn pull_image(&mut self, name: String) {
        let Some(container) = self.container(&name) else {
            return;
        };
        let image = container.image.as_deref().unwrap_or_default();
        self.event(&name, false, "Pulling", format!("Pulling image \"{image}\""));
        self.seen.containers.entry(name).or_default().image = ImageSeen::Pulling;
        self.jobs.spawn(jobs::pull_image(self.context(), container));
    }

    fn start_container(&mut self, name: &str, attempt: u32) {
        let Some(container) = self.container(name) else {
            return;
        };
        let seen = self.seen.containers.entry(name.to_owned()).or_default();
        seen.starting = true;
        let before = seen.attempt;
        seen.attempt = attempt;
        let job = jobs::start_container(self.context(), container, attempt, before);
        self.jobs.spawn(job);
    }

    fn stop_container(&mut self, name: &str, grace: i64, why: StopReason) {
        let Some(container) = self.container(name) else {
            return;
        };
        let Some(seen) = self.seen.containers.get_mut(name) else {
            return;
        };
        seen.renewed |= why == StopReason::Changed;
        let again = seen.stopping.replace(grace).is_some();
        let attempt = seen.attempt;
        if !again {
            let message = match why {
                StopReason::Liveness => format!("Container {name} failed liveness probe, will be restarted"),
                StopReason::Startup => format!("Container {name} failed startup probe, will be restarted"),
                StopReason::Changed => format!("Container {name} definition changed, will be restarted"),
                _ => format!("Stopping container {name}"),
            };
            self.event(name, false, "Killing", message);
        }
        let order = jobs::Stop {
            grace: Duration::from_secs(grace.unsigned_abs()),
            again,
            // Of a pod that the API does not have any more nobody tells where clients are led.
            hold: why == StopReason::PodDeleted && !again && !self.seen.unwanted,
        };
        let job = jobs::stop_container(self.context(), container, attempt, order);
        self.jobs.spawn(job);
    }

    fn refresh_volumes(&mut self) {
        self.refresh_at = None;
        if self.seen.sandbox == Sandbox::Ready {
            self.jobs.spawn(jobs::refresh_volumes(self.context()));
        }
    }

    fn refresh_soon(&mut self) {
        match self.refresh_at.is_some() && self.seen.sandbox == Sandbox::Ready {
            true => self.refresh_at = Some(tokio::time::Instant::now()),
            false => self.refresh_again = true,
        }
    }

    fn schedule_refresh(&mut self) {
        let now = tokio::time::Instant::now();
        let wait = match std::mem::take(&mut self.refresh_again) {
            true => Duration::ZERO,
            false => volumes::REFRESH,
        };
        self.refresh_at = volumes::may_change(&self.pod).then(|| now + wait);
    }

    // ---- the disk

    fn schedule_measurement(&mut self) {
        let limited = self.seen.evicted.is_none() && disk::Limits::of(&self.pod).is_some();
        self.measure_at = limited.then(|| tokio::time::Instant::now() + disk::PERIOD);
    }

    fn measure(&mut self) {
        self.measure_at = None;
        if self.seen.sandbox != Sandbox::Ready {
            return self.schedule_measurement();
        }
        let runs = self.seen.containers.iter();
        let runs = runs.map(|(name, seen)| (name.clone(), seen.attempt)).collect();
        self.jobs.spawn(jobs::measure(self.context(), runs));
    }

    fn measured(&mut self, found: Option<Failure>) {
        if let Some(why) = found {
            self.event("", true, &why.reason, why.message.clone());
            self.seen.evicted = Some(why);
            self.ending.cancel();
        }
        self.schedule_measurement();
    }

    // ---- the status

    /// Sends what differs from the last report; one patch at a time, so that changes coalesce.
    fn report(&mut self, status: &Value, now: Timestamp) {
        let held = self.report_after.is_some_and(|at| now < at);
        if self.reporting || held || self.seen.unwanted || self.settled || !self.heard {
            return;
        }
        self.report_after = None;
        if let Some(patch) = pod_sync::patch(&self.seen.reported, status) {
            self.reporting = true;
            self.jobs.spawn(jobs::report(self.context(), patch));
        }
    }

    fn reported(&mut self, answer: jobs::Answer, now: Timestamp) {
        self.reporting = false;
        match answer {
            Ok(Some((version, status))) => {
                self.report_failures = 0;
                if version >= self.version {
                    self.version = version;
                    self.seen.reported = status;
                }
            }
            // The watch tells soon that it is gone; until then there is nobody to report to.
            Ok(None) => self.report_after = Some(after(now, REPORT_RETRY.1)),
            Err(message) => {
                tracing::warn!(
                    pod = self.identity.name,
                    error = message,
                    "cannot update the pod's status"
                );
                self.report_failures = self.report_failures.saturating_add(1);
                self.report_after = Some(after(now, backoff(REPORT_RETRY, self.report_failures)));
            }
        }
    }

    /// Events for containers that begin to wait out a back-off.
    fn tell_backoffs(&mut self, status: &Value) {
        let lists = ["initContainerStatuses", "containerStatuses"];
        let statuses = lists
            .into_iter()
            .filter_map(|list| status[list].as_array())
            .flatten();
        let mut told = Vec::new();
        for status in statuses {
            let name = status["name"].as_str().unwrap_or_default();
            let reason = status["state"]["waiting"]["reason"].as_str().unwrap_or_default();
            let before = self.waiting_reasons.insert(name.to_owned(), reason.to_owned());
            if before.as_deref() != Some(reason) {
                told.push((
                    name.to_owned(),
                    reason.to_owned(),
                    status["image"].as_str().unwrap_or_default(),
                ));
            }
        }
        for (name, reason, image) in told {
            match reason.as_str() {
                "CrashLoopBackOff" => {
                    let pod = self.view.full_name();
                    let message = format!("Back-off restarting failed container {name} in pod {pod}");
                    self.event(&name, true, "BackOff", message);
                }
                "ImagePullBackOff" => {
                    self.event(
                        &name,
                        false,
                        "BackOff",
                        format!("Back-off pulling image \"{image}\""),
                    );
                    self.event(&name, true, "Failed", "Error: ImagePullBackOff".into());
                }
                "ErrImageNeverPull" | "InvalidImageName" => {
                    self.event(&name, true, "Failed", format!("Error: {reason}"));
                }
                _ => {}
            }
        }
    }

    // ---- small things

    /// An event about the pod, or about one of its containers when `container` is not empty.
    fn event(&self, container: &str, warning: bool, reason: &str, message: String) {
        let field = jobs::field_path(&self.pod, container);
        self.shared
            .recorder
            .pod(&self.identity, field, warning, reason, message);
    }

    fn context(&self) -> jobs::Context {
        let offer = self.shared.offer.borrow();
        jobs::Context {
            shared: Arc::clone(&self.shared),
            identity: self.identity.clone(),
            pod: Arc::clone(&self.pod),
            files: self.files.clone(),
            tokens: Arc::clone(&self.tokens),
            ending: self.ending.clone(),
            surroundings: Surroundings {
                node_name: self.shared.node_name.clone(),
                host_ips: self.shared.host_ips(),
                pod_ips: self.seen.pod_ips.clone(),
                allocatable: offer.allocatable.clone(),
                api_address: self.api_address(),
                alone: !self.heard,
            },
        }
    }

    /// The API server's address in the environment of the pod's containers. On the host network it is where the server listens: the rule that
    /// leads from the Service's address to the server needs a newer kernel there.
    fn api_address(&self) -> SocketAddr {
        let spec = self.pod.spec.as_ref();
        let host_network = spec.is_some_and(|spec| spec.host_network == Some(true));
        match self.shared.api_service {
            Some(service) if !host_network => service,
            _ => self.shared.api_address,
        }
    }

    fn container(&self, name: &str) -> Option<Container> {
        let spec = self.pod.spec.as_ref()?;
        crate::container::find(spec, name).cloned()
    }

    /// Whether the pod's container still has the image that a job worked for.
    fn has_image(&self, worked_for: &Container) -> bool {
        let container = self.container(&worked_for.name);
        container.is_some_and(|container| container.image == worked_for.image)
    }

    /// When to try again to make something that failed now.
    fn retry_at(&mut self, what: &str, now: Timestamp) -> Timestamp {
        let failures = self.make_failures.entry(what.to_owned()).or_default();
        *failures = failures.saturating_add(1);
        after(now, backoff(MAKE_RETRY, *failures))
    }
}

/// The n-th wait of a doubling series.
fn backoff((first, longest): (Duration, Duration), failures: u32) -> Duration {
    let doublings = failures.saturating_sub(1).min(16);
    first.saturating_mul(1 << doublings).min(longest)
}

fn after(now: Timestamp, wait: Duration) -> Timestamp {
    now.saturating_add(wait).unwrap_or(Timestamp::MAX)
}

fn failure(reason: &str, message: String) -> Failure {
    Failure {
        reason: reason.to_owned(),
        message,
    }
}

fn version(text: Option<&str>) -> u64 {
    text.and_then(|text| text.parse().ok()).unwrap_or(0)
}

async fn sleep(wait: Option<Duration>) {
    match wait {
        Some(wait) => tokio::time::sleep(wait).await,
        None => std::future::pending().await,
    }
}

async fn sleep_until(at: Option<tokio::time::Instant>) {
    match at {
        Some(at) => tokio::time::sleep_until(at).await,
        None => std::future::pending().await,
    }
}

/// An end of which nothing is known but that it came.
fn lost(container_id: String, now: Timestamp) -> Exit {
    Exit {
        container_id,
        exit_code: 137,
        reason: "ContainerStatusUnknown".into(),
        message: "The container could not be located when the pod was started again".into(),
        started_at: None,
        finished_at: now,
    }
}

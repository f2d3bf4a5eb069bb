//! The pods of the node: the watch that tells of them, and a worker for each.
//!
//! What the watch says is kept ([`Kept`]). When the first list fails, the pods that were kept get workers; the first list that succeeds later
//! is compared with them as after any gap.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use k8s_openapi::api::core::v1::{Pod, PodStatus};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::runtime::watcher::{self, Event, watcher};
use runtime::{PodLogs, Runtime, beneath};
use tokio::sync::mpsc;
use tokio::task::{Id, JoinSet};
use tokio_util::sync::CancellationToken;

use crate::addresses;
use crate::admission::{self, Claim};
use crate::calls::{PODS, blocking};
use crate::cluster::{Cluster, PodRef};
use crate::events::Recorder;
use crate::hold;
use crate::kept::{Kept, SECRETS, Values, parsed};
use crate::kubelet_dir;
use crate::mirror::{self, Mirror};
use crate::names::{self, Names};
use crate::network::Network;
use crate::node::{self, Health, Keeper};
use crate::options::{Error, Options};
use crate::progress::{self, Beat};
use crate::services;
use crate::sources::{Places, Sources};
use crate::tunnel;
use crate::worker::{INBOX, Message, Origin, Shared, Word, Worker};

/// Events of the runtime that wait to be handed on: some hundred containers may end at once when the machine is stopped.
const RUNTIME_EVENTS: usize = 256;
/// Grace of a pod that runs here and that the API does not know: nobody can say what it was promised.
const STRANGER_GRACE: Duration = Duration::from_secs(30);
/// Wait before the watch is tried again, doubling up to the second value.
const WATCH_RETRY: (Duration, Duration) = (Duration::from_millis(200), Duration::from_secs(10));

/// Keys of pods, as they are kept; their uids follow.
const POD_KEYS: &str = "pods/";

/// Where an agent keeps what it was told.
pub(crate) struct Keeps {
    /// Below its data directory.
    pub(crate) disk: PathBuf,
    /// In memory: it is empty after a boot.
    pub(crate) memory: PathBuf,
}

impl Keeps {
    pub(crate) fn of(data_dir: &Path, runtime: &Runtime) -> Self {
        Self {
            disk: Self::on_disk(data_dir),
            memory: Path::new("/run").join(runtime.name()),
        }
    }

    pub(crate) fn on_disk(data_dir: &Path) -> PathBuf {
        data_dir.join("kept")
    }

    /// Removes what is kept: the node is none any more.
    pub(crate) fn forget(&self) {
        for folder in [&self.disk, &self.memory] {
            if let Err(error) = Kept::forget(folder) {
                let folder = folder.display();
                tracing::warn!(%folder, %error, "cannot remove the saved state");
            }
        }
    }
}

/// Where an agent keeps the files of its pods, below its data directory.
pub(crate) fn pods_dir(data_dir: &Path) -> PathBuf {
    data_dir.join("kubelet")
}

/// Why an agent ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// The shutdown was requested.
    Shutdown,
    /// Its node was deleted. The caller stops the pods, and does not restart the agent by itself.
    NodeDeleted,
}

/// Runs the agent of one node until `shutdown`, or until the node is deleted. Its pods run on afterwards.
pub async fn run(options: Options, shutdown: CancellationToken) -> Result<Ended, Error> {
    let pods_dir = pods_dir(&options.data_dir);
    beneath::make_private(&pods_dir).map_err(|source| Error::DataDir {
        path: pods_dir.clone(),
        source,
    })?;
    let logs = PodLogs::open(&options.pod_logs_dir).map_err(Error::PodLogs)?;
    kubelet_dir::make(&options.kubelet_dir)?;
    let (told, events) = mpsc::channel(RUNTIME_EVENTS);
    let names = Names::open(&options).await?;
    let redirects = names.iter().flat_map(Names::redirects).collect();
    let runtime = open(&options, redirects, Some(told)).await?;
    let cluster = Cluster::new(options.client.clone());
    let stop = shutdown.child_token();
    let deleted = CancellationToken::new();
    let mut tasks = JoinSet::new();
    let keeps = Keeps::of(&options.data_dir, &runtime);
    let on_disk = |key: &str| options.keep_secrets || !key.starts_with(SECRETS);
    let (kept, known) = Kept::open(&keeps.disk, &options.node_name, on_disk);
    let (secrets, known_secrets) = Kept::open(&keeps.memory, &options.node_name, |_| !options.keep_secrets);
    tasks.spawn(kept.clone().run(stop.clone()));
    tasks.spawn(secrets.clone().run(stop.clone()));
    let mirror = Mirror::new(options.client.clone());
    mirror.fall_back_to(&known);
    tasks.spawn(mirror.clone().run(stop.clone()));
    tasks.spawn(mirror.clone().keep(kept.clone(), stop.clone()));
    let places = Places {
        config_maps: (kept.clone(), &known),
        secrets: match options.keep_secrets {
            true => (kept.clone(), &known),
            false => (secrets.clone(), &known_secrets),
        },
    };
    let sources = Sources::new(options.client.clone(), places, mirror.services.clone());

    let (recorder, sender) = Recorder::new(cluster.clone(), options.node_name.clone(), stop.clone());
    tasks.spawn(sender);
    let (sender, addresses) = addresses::open(&options.node_ips);
    if options.node_ips.is_empty() {
        tasks.spawn(addresses::follow(sender, stop.clone()));
    }
    let (mut network, network_state) = Network::new(
        runtime.clone(),
        recorder.clone(),
        &options.node_name,
        addresses.clone(),
        &options.network,
    );
    let chosen = network.choose(&cluster, &stop).await;
    chosen.map_err(|source| Error::Runtime {
        data_dir: options.data_dir.clone(),
        source,
    })?;
    tasks.spawn(network.run(mirror.clone(), stop.clone()));
    let ranges = network_state.clone();
    let (beat, progress) = progress::channel(options.stalled_after);
    let (keeper, offer) = Keeper::new(
        cluster.clone(),
        recorder.clone(),
        &options,
        runtime.images().clone(),
        addresses.clone(),
        Health {
            network: network_state,
            progress,
        },
        deleted.clone(),
    );
    if let Some(labels) = mirror::labels_of(&known, &options.node_name) {
        keeper.recall_labels(labels);
    }
    tasks.spawn(keeper.run(stop.clone()));
    tasks.spawn(node::renew(
        cluster.clone(),
        options.node_name.clone(),
        stop.clone(),
    ));

    let rules = runtime.services();
    let (led_to, hold) = hold::channel();
    tasks.spawn(services::run(
        mirror.clone(),
        options.node_name.clone(),
        rules,
        led_to,
        stop.clone(),
    ));
    let cluster_names = names::told(&options, names.as_ref());
    if let Some(names) = names {
        tasks.spawn(names.run(mirror.clone(), ranges, stop.clone()));
    }
    let shared = Arc::new(Shared {
        cluster,
        sources,
        recorder,
        runtime,
        pods_dir,
        logs,
        offer,
        policy: options.policy.clone(),
        node_name: options.node_name.clone(),
        names: cluster_names,
        addresses,
        api_address: options.api_address,
        api_service: options.api_redirect().map(|redirect| redirect.from),
        hold,
        uids: std::sync::Mutex::default(),
    });
    if let Some(membership) = options.membership.clone() {
        tasks.spawn(membership.clone().learn_servers(stop.clone()));
        tasks.spawn(membership.renew(stop.clone()));
    }
    if let Some(dialer) = options.tunnel.clone() {
        let connector = tunnel::Connector::new(dialer, &options.node_name);
        tasks.spawn(tunnel::serve(connector, Arc::clone(&shared), stop.clone()));
    }
    let pods = Pods::new(shared, kept.clone(), &known, beat);
    drop((known, known_secrets));
    tokio::select! {
        biased;
        () = deleted.cancelled() => {}
        () = pods.run(events, stop.clone()) => {}
    }
    tasks.abort_all();
    while tasks.join_next().await.is_some() {}
    kept.flush().await;
    secrets.flush().await;
    if deleted.is_cancelled() {
        // Should this process be killed before the machine is cleaned up, the next one runs nothing.
        keeps.forget();
    }
    Ok(match deleted.is_cancelled() {
        true => Ended::NodeDeleted,
        false => Ended::Shutdown,
    })
}

/// Opens the runtime of an agent; `redirects` are those besides the API server's.
pub(crate) async fn open(
    options: &Options,
    redirects: Vec<runtime::Redirect>,
    events: Option<mpsc::Sender<runtime::Event>>,
) -> Result<Runtime, Error> {
    let data_dir = options.data_dir.clone();
    let pods = runtime::Resources {
        pids_limit: Some(options.policy.all_pids().map_err(Error::Policy)?),
        ..runtime::Resources::default()
    };
    let runtime_options = runtime::Options {
        network: None,
        cni: options.network.cni.clone(),
        shim: options.shim.clone(),
        image_limits: options.image_limits,
        redirects: options.api_redirect().into_iter().chain(redirects).collect(),
        pods,
        events,
    };
    let opened = blocking(move || Runtime::open(&data_dir, runtime_options)).await;
    opened.map_err(|source| Error::Runtime {
        data_dir: options.data_dir.clone(),
        source,
    })
}

/// One pod that has a worker.
struct Held {
    inbox: mpsc::Sender<Message>,
    task: Id,
    /// What it takes of the node; nothing once it is refused or has ended.
    claim: Option<Claim>,
}

struct Pods {
    shared: Arc<Shared>,
    kept: Kept,
    /// Pods that were kept, until a list succeeds or fails.
    before: Vec<Pod>,
    held: HashMap<String, Held>,
    workers: JoinSet<String>,
    /// Uids of the list that is being read.
    listed: HashSet<String>,
    /// Pods of that list, the oldest first when it is whole: the older ones were here before.
    pending: Vec<Pod>,
    strangers: JoinSet<()>,
    beat: Beat,
    /// The runtime is being asked whether it answers.
    asking: JoinSet<bool>,
}

impl Pods {
    fn new(shared: Arc<Shared>, kept: Kept, known: &Values, beat: Beat) -> Self {
        Self {
            shared,
            kept,
            before: parsed(known, POD_KEYS),
            held: HashMap::new(),
            workers: JoinSet::new(),
            listed: HashSet::new(),
            pending: Vec::new(),
            strangers: JoinSet::new(),
            beat,
            asking: JoinSet::new(),
        }
    }

    async fn run(mut self, mut events: mpsc::Receiver<runtime::Event>, stop: CancellationToken) {
        let fields = format!("spec.nodeName={}", self.shared.node_name);
        let config = watcher::Config::default().fields(&fields);
        let mut changes = std::pin::pin!(watcher(self.shared.cluster.pods(), config));
        let mut wait = WATCH_RETRY.0;
        let shared = Arc::clone(&self.shared);
        let mut ask = tokio::time::interval(self.beat.interval());
        ask.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                change = changes.next() => match change {
                    Some(Ok(change)) => {
                        wait = WATCH_RETRY.0;
                        self.changed(change).await;
                    }
                    Some(Err(error)) => {
                        tracing::warn!(%error, "cannot watch the node's pods");
                        self.go_on_alone().await;
                        tokio::select! {
                            () = stop.cancelled() => return,
                            () = tokio::time::sleep(wait) => {}
                        }
                        wait = (wait * 2).min(WATCH_RETRY.1);
                    }
                    None => return,
                },
                Some(event) = events.recv() => self.runtime_event(event).await,
                uids = shared.sources.changed() => for uid in uids {
                    self.tell(&uid, Message::SourceChanged).await;
                },
                Some(ended) = self.workers.join_next_with_id() => self.worker_ended(ended),
                _ = ask.tick(), if self.asking.is_empty() => {
                    self.asking.spawn(progress::ask(shared.runtime.clone()));
                }
                Some(answered) = self.asking.join_next() => if matches!(answered, Ok(true)) {
                    self.beat.beat();
                },
            }
        }
    }

    /// No server answers: the pods that were kept are what there is, until one does.
    async fn go_on_alone(&mut self) {
        let pods = std::mem::take(&mut self.before);
        if pods.is_empty() {
            return;
        }
        tracing::warn!(
            pods = pods.len(),
            "no server answers; running the pods of the saved state"
        );
        for pod in self.in_order(pods) {
            self.take(pod, Word::Kept).await;
        }
    }

    async fn changed(&mut self, change: Event<Pod>) {
        match change {
            Event::Init => {
                self.listed.clear();
                self.pending.clear();
            }
            Event::InitApply(pod) => {
                self.listed.insert(uid(&pod));
                self.pending.push(pod);
            }
            Event::InitDone => {
                self.before.clear();
                let pods = std::mem::take(&mut self.pending);
                self.keep_only(&pods);
                // What is gone makes room.
                for (uid, held) in &mut self.held {
                    if !self.listed.contains(uid) {
                        held.claim = None;
                    }
                }
                for pod in self.in_order(pods) {
                    self.take(pod, Word::Server).await;
                }
                self.part_with_the_unlisted().await;
            }
            Event::Apply(pod) => {
                self.kept.put(&kept_key(&uid(&pod)), bare(&pod));
                self.take(pod, Word::Server).await;
            }
            Event::Delete(pod) => {
                // Its last state says with what grace it was to end.
                let uid = uid(&pod);
                self.kept.remove(&kept_key(&uid));
                self.tell(&uid, Message::Pod(Box::new(pod))).await;
                self.tell(&uid, Message::Gone).await;
            }
        }
    }

    /// The oldest first, but pods that run here already keep their place before any new one is weighed.
    fn in_order(&self, mut pods: Vec<Pod>) -> Vec<Pod> {
        pods.sort_by_key(|pod| pod.metadata.creation_timestamp.clone());
        let running = self.shared.runtime.pods();
        let running: HashSet<&str> = running.iter().map(runtime::Pod::id).collect();
        pods.sort_by_key(|pod| !running.contains(uid(pod).as_str()));
        pods
    }

    /// Keeps the pods of a whole list, and what they take values from.
    fn keep_only(&self, pods: &[Pod]) {
        for pod in pods {
            self.kept.put(&kept_key(&uid(pod)), bare(pod));
        }
        for key in self.kept.keys(POD_KEYS) {
            if !self.listed.contains(&key[POD_KEYS.len()..]) {
                self.kept.remove(&key);
            }
        }
        let values = pods.iter().filter_map(|pod| serde_json::to_value(pod).ok());
        self.shared.sources.forget_all_but(&values.collect::<Vec<_>>());
    }

    /// Hands a pod to its worker, or hires one.
    async fn take(&mut self, pod: Pod, word: Word) {
        let uid = uid(&pod);
        if let Some(held) = self.held.get_mut(&uid) {
            if is_terminal(&pod) {
                held.claim = None;
            }
            self.tell(&uid, Message::Pod(Box::new(pod))).await;
            return;
        }
        self.shared.learn_uid(&PodRef::of(&pod));
        let (origin, claim) = self.place(&pod, &uid);
        let (inbox, messages) = mpsc::channel(INBOX);
        let worker = Worker::new(Arc::clone(&self.shared), pod, word, origin, inbox.clone());
        let id = uid.clone();
        let task = self.workers.spawn(async move {
            worker.run(messages).await;
            id
        });
        let held = Held {
            inbox,
            task: task.id(),
            claim,
        };
        self.held.insert(uid, held);
    }

    /// How a pod that is new to this process comes in, and what it takes.
    fn place(&self, pod: &Pod, uid: &str) -> (Origin, Option<Claim>) {
        if let Some(sandbox) = self.shared.runtime.pod(uid) {
            return (Origin::Adopted(sandbox), Some(Claim::of(pod)));
        }
        if is_terminal(pod) || pod.metadata.deletion_timestamp.is_some() {
            return (Origin::New, None);
        }
        let started = pod
            .status
            .as_ref()
            .is_some_and(|status| status.start_time.is_some());
        if started {
            // It was let in before (and lost its sandbox, say by a restart of the machine).
            return (Origin::New, Some(Claim::of(pod)));
        }
        if let Some(why) = self.shared.policy.refuse(pod) {
            return (Origin::Rejected(why), None);
        }
        let others: Vec<&Claim> = self
            .held
            .values()
            .filter_map(|held| held.claim.as_ref())
            .collect();
        match admission::admit(pod, &self.shared.offer.borrow(), &others) {
            Ok(claim) => (Origin::New, Some(claim)),
            Err(why) => (Origin::Rejected(why), None),
        }
    }

    async fn tell(&mut self, uid: &str, message: Message) {
        if let Some(held) = self.held.get(uid)
            && held.inbox.send(message).await.is_err()
        {
            tracing::debug!(uid, "a pod's worker has ended");
        }
    }

    async fn runtime_event(&mut self, event: runtime::Event) {
        match event {
            runtime::Event::Container { pod, status } => self.tell(&pod, Message::Container(status)).await,
            runtime::Event::PodGone { pod } => self.tell(&pod, Message::ShimGone).await,
        }
    }

    fn worker_ended(&mut self, ended: Result<(Id, String), tokio::task::JoinError>) {
        let task = match ended {
            Ok((task, _)) => task,
            Err(error) => {
                tracing::error!(%error, "a pod's worker panicked");
                error.id()
            }
        };
        self.held.retain(|uid, held| {
            let ended = held.task == task;
            if ended {
                self.shared.forget_uid(uid);
                self.shared.sources.release(uid);
            }
            !ended
        });
    }

    /// After one whole list: pods that it lacks have gone; what runs without a pod is stopped; files without a pod go.
    async fn part_with_the_unlisted(&mut self) {
        let listed = std::mem::take(&mut self.listed);
        let gone: Vec<String> = self
            .held
            .keys()
            .filter(|uid| !listed.contains(*uid))
            .cloned()
            .collect();
        for uid in gone {
            self.tell(&uid, Message::Gone).await;
        }
        let known: HashSet<String> = self.held.keys().cloned().collect();
        let pods_dir = self.shared.pods_dir.clone();
        let runtime = self.shared.runtime.clone();
        let strangers: BTreeMap<String, runtime::Pod> = runtime
            .pods()
            .into_iter()
            .filter(|pod| !known.contains(pod.id()))
            .map(|pod| (pod.id().to_owned(), pod))
            .collect();
        let folders = std::fs::read_dir(&pods_dir).into_iter().flatten().flatten();
        for folder in folders {
            let name = folder.file_name().to_string_lossy().into_owned();
            if !known.contains(&name)
                && !strangers.contains_key(&name)
                && let Err(error) = crate::stop::remove_files(&self.shared.logs, &folder.path())
            {
                tracing::warn!(uid = name, %error, "cannot remove the files of a deleted pod");
            }
        }
        for (uid, pod) in strangers {
            tracing::info!(uid, "stopping a pod that the API does not have");
            let (runtime, folder) = (runtime.clone(), pods_dir.join(&uid));
            let logs = self.shared.logs.clone();
            self.strangers.spawn(async move {
                let stop = move || crate::stop::stop_pod(&runtime, &pod, &logs, &folder, STRANGER_GRACE);
                let stopped = PODS.run(&uid, stop).await;
                if let Err(error) = stopped {
                    tracing::warn!(uid, %error, "cannot stop a pod that the API does not have");
                }
            });
        }
    }
}

fn uid(pod: &Pod) -> String {
    pod.metadata.uid.clone().unwrap_or_default()
}

fn is_terminal(pod: &Pod) -> bool {
    let phase = pod.status.as_ref().and_then(|status| status.phase.as_deref());
    matches!(phase, Some("Succeeded" | "Failed"))
}

fn kept_key(uid: &str) -> String {
    format!("{POD_KEYS}{uid}")
}

/// What is kept of a pod: what the node was told. Of its status, which is the node's own word, only that it was let in and that it has ended, so
/// that what happens to its containers writes nothing. The runtime knows the runs of pods that live, and their logs those of others.
fn bare(pod: &Pod) -> String {
    let status = pod.status.as_ref();
    let kept = Pod {
        metadata: ObjectMeta {
            managed_fields: None,
            resource_version: None,
            ..pod.metadata.clone()
        },
        spec: pod.spec.clone(),
        status: Some(PodStatus {
            phase: status
                .and_then(|status| status.phase.clone())
                .filter(|_| is_terminal(pod)),
            start_time: status.and_then(|status| status.start_time.clone()),
            ..PodStatus::default()
        }),
    };
    serde_json::to_string(&kept).unwrap_or_default()
}

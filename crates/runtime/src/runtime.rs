//! The machine's pods: opens a data directory, finds its shims again, creates and removes pods.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::fs::{self, File};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::thread;
use std::time::{Duration, Instant};

use nix::fcntl::{Flock, FlockArg};
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sys::socket::{getsockopt, sockopt};
use nix::unistd::Pid;

use crate::beneath;
use crate::cgroup::{self, Hierarchies};
use crate::error::Context as _;
use crate::files;
use crate::layout::{self, Layout};
use crate::mounts;
use crate::network::Network;
use crate::patience::read_within;
use crate::seal::SealedExecutable;
use crate::shim::{PodRecord, Ready};
use crate::wire::{self, Reply};
use crate::{
    Cni, Error, ErrorKind, Event, ImageLimits, Images, NetworkConfig, Pod, Range, Redirect, Resources,
    Result, Route, RouteFailures, SandboxSpec, kernel, pod,
};
use ipnet::IpNet;

/// Timeout for a shim to end after the request. It normally needs milliseconds.
const END_PATIENCE: Duration = Duration::from_secs(10);

/// Timeout for a new shim to become ready. It needs milliseconds unless the machine is overloaded.
const SHIM_PATIENCE: Duration = Duration::from_secs(30);

/// Timeout for another agent to end and release the lock of the data directory.
const LOCK_PATIENCE: Duration = Duration::from_secs(3);

/// Cgroup of all pods, below the instance's own. Monitoring programs find pods by this name.
const PODS_CGROUP: &str = "kubepods";

/// Name of a shim in lists of processes, before its arguments.
const SHIM_NAME: &str = "everynode";

/// Options to open a [`Runtime`] with.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// The pods' network. `None` is the network of the previous run, if there was one. It can also
    /// be opened later ([`Runtime::open_network`]).
    pub network: Option<NetworkConfig>,
    /// CNI plugins that connect new pods. Pods that were connected otherwise keep their network.
    pub cni: Option<Cni>,
    /// Addresses that are forwarded elsewhere for pods.
    pub redirects: Vec<Redirect>,
    /// Command that starts a shim.
    pub shim: ShimCommand,
    /// Limits of the disk space that an image may use.
    pub image_limits: ImageLimits,
    /// Limits of all pods together.
    pub pods: Resources,
    /// Channel for events of pods. It is bounded: senders wait while it is full, and stop when it
    /// is closed.
    pub events: Option<tokio::sync::mpsc::Sender<Event>>,
}

/// Command that runs [`crate::shim::main`], which gets the arguments after the command's own.
#[derive(Clone, Debug)]
pub struct ShimCommand {
    /// The executable. A sealed view of it, taken when the runtime is opened, is what runs.
    pub program: PathBuf,
    /// Its arguments before the shim's.
    pub arguments: Vec<OsString>,
}

impl Default for ShimCommand {
    /// Uses the current executable with the verb [`crate::shim::VERB`].
    fn default() -> Self {
        ShimCommand {
            program: "/proc/self/exe".into(),
            arguments: vec![crate::shim::VERB.into()],
        }
    }
}

/// Pods, images and network of one data directory.
#[derive(Clone)]
pub struct Runtime {
    inner: Arc<Inner>,
}

struct Inner {
    layout: Arc<Layout>,
    options: Options,
    /// The shim's executable, which also runs inside containers.
    shim: SealedExecutable,
    images: Images,
    hierarchies: Hierarchies,
    network: Network,
    /// Allows only one agent for each data directory.
    _lock: Flock<File>,
    pods: Mutex<BTreeMap<String, Entry>>,
    /// Pods that had no living shim when the directory was opened, and of which something remains.
    /// Locked during the removal.
    left: Mutex<BTreeSet<String>>,
}

struct Entry {
    pod: Pod,
    /// Connection of the watcher. Shutting it down ends the watcher.
    subscription: UnixStream,
    shim: Pid,
}

impl Drop for Inner {
    fn drop(&mut self) {
        for entry in self.lock().values() {
            end_watcher(entry);
        }
    }
}

impl Inner {
    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, Entry>> {
        self.pods.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn left(&self) -> MutexGuard<'_, BTreeSet<String>> {
        self.left.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn end_watcher(entry: &Entry) {
    if let Err(error) = entry.subscription.shutdown(Shutdown::Both) {
        tracing::debug!(pod = entry.pod.id(), %error, "the subscription was closed already");
    }
}

impl Runtime {
    /// Opens a data directory, and creates it if it is missing. Makes the bridge, the nftables
    /// table and the cgroup ready, adopts living pods, and removes the remains of dead shims.
    pub fn open(data_dir: &Path, options: Options) -> Result<Runtime> {
        let layout = Arc::new(Layout::new(data_dir)?);
        let lock = lock(&layout)?;
        let network = Network::new(
            Arc::clone(&layout),
            options.redirects.clone(),
            options.cni.clone(),
        );
        kernel::ensure_file_system("overlay")?;
        share_mounts()?;
        let fresh = private_run_folder(&layout)?;
        let run = layout.run();
        let runtime = Runtime {
            inner: Arc::new(Inner {
                images: Images::with_layout(Arc::clone(&layout))?.with_limits(options.image_limits),
                shim: SealedExecutable::new(&options.shim.program, &run.join("empty"))?,
                hierarchies: Hierarchies::find()?,
                network,
                pods: Mutex::default(),
                left: Mutex::default(),
                _lock: lock,
                layout,
                options,
            }),
        };
        match runtime.adopt() {
            Ok(()) => Ok(runtime),
            Err(error) => {
                if fresh && let Err(left) = umount2(&run, MntFlags::MNT_DETACH) {
                    tracing::warn!(error = %left, path = %run.display(), "cannot unmount the run folder");
                }
                Err(error)
            }
        }
    }

    fn adopt(&self) -> Result<()> {
        let inner = &self.inner;
        let mut records = Vec::new();
        for id in layout::folders(&inner.layout.pods()) {
            let record: Option<PodRecord> = layout::read_json(&inner.layout.pod(&id).record())?;
            match record {
                Some(record) if record.ready && wire::connect(&inner.layout.pod(&id).socket()).is_ok() => {
                    records.push(record)
                }
                dead => {
                    tracing::info!(pod = id, "removing the rest of a dead shim's pod");
                    if let Some(network) = dead.as_ref().and_then(|record| record.network.as_ref()) {
                        inner.network.remember(&id, network);
                    }
                    // The rules are written again below.
                    self.remove_or_keep(&id);
                }
            }
        }
        for record in &records {
            if let Some(network) = &record.network {
                inner
                    .network
                    .adopt(&record.spec.id, network, &record.spec.host_ports);
            }
        }
        match &inner.options.network {
            Some(config) => drop(inner.network.open(config.clone())?),
            // Living pods have their network. It is opened again when the node's pod range is
            // known.
            None => {
                if let Err(error) = inner.network.reopen() {
                    tracing::warn!(%error, "cannot restore the network");
                }
            }
        }
        let pods = format!("/{}/{PODS_CGROUP}", inner.layout.name());
        inner.hierarchies.create(&pods, &inner.options.pods)?;
        inner.hierarchies.deny_huge_pages(&pods)?;
        for record in records {
            let id = record.spec.id.clone();
            match self.watch(record) {
                // The shim was already ending, or hangs and is killed now. The other pods do not
                // wait for it.
                Err(error) if matches!(error.kind, ErrorKind::ShimGone | ErrorKind::ShimStuck) => {
                    tracing::warn!(pod = id, %error, "removing a pod whose shim does not answer");
                    self.remove_or_keep(&id);
                }
                watched => drop(watched?),
            }
        }
        Ok(())
    }

    /// Returns the writer of this machine's rules for Services. Only one task may use it. The rules
    /// stay until [`Runtime::clean_up`].
    pub fn services(&self) -> crate::Services {
        self.inner.network.services()
    }

    /// Returns the images of this data directory.
    pub fn images(&self) -> &Images {
        &self.inner.images
    }

    /// Returns the name of the instance's resources on the machine, such as `everynode-1a2b3c4d`.
    pub fn name(&self) -> String {
        self.inner.layout.name()
    }

    /// Opens the pods' network, or changes its ranges. Returns the ranges that new pods get
    /// addresses from. Living pods keep their addresses.
    pub fn open_network(&self, config: NetworkConfig) -> Result<Vec<Range>> {
        self.inner.network.open(config)
    }

    /// Returns an error if pods cannot be connected now. With CNI, plugins may have to be installed
    /// first: [`ErrorKind::NetworkNotReady`] names the missing part.
    pub fn check_network(&self) -> Result<()> {
        self.inner.network.check()
    }

    /// Adds iptables rules that accept the pods' packets, if the machine drops forwarded packets.
    /// Returns a description and a remedy for everything that still drops them.
    pub fn let_through(&self) -> Result<Vec<String>> {
        self.inner.network.let_through()
    }

    /// Returns the ranges that pods get addresses from. Empty until the network is open.
    pub fn ranges(&self) -> Vec<Range> {
        self.inner.network.ranges()
    }

    /// Returns the machine's addresses in those ranges. Empty until the network is open.
    pub fn gateways(&self) -> Vec<std::net::IpAddr> {
        self.inner.network.gateways()
    }

    /// Returns the machine's own addresses, each with its network. Nodes in the same network share
    /// a link.
    pub fn links(&self) -> Result<Vec<IpNet>> {
        self.inner.network.links()
    }

    /// Sets the routes to the pods of other nodes to exactly `routes`. This node's pods reach them,
    /// and `untranslated`, without masquerade. Returns the routes that failed; the others are in
    /// place.
    pub fn route(&self, routes: &[Route], untranslated: &[IpNet]) -> Result<RouteFailures> {
        self.inner.network.route(routes, untranslated)
    }

    /// Creates a pod's sandbox and starts its shim. Fails with [`ErrorKind::AlreadyExists`] if a
    /// pod with this id lives. Calls for different pods may overlap; creating and removing the same
    /// pod must not.
    pub fn create_pod(&self, spec: &SandboxSpec) -> Result<Pod> {
        layout::check_id("pod", &spec.id, 63)?;
        if spec.cgroup_parent.split('/').any(|part| part == "..") {
            return Err(Error::invalid(format!(
                "cgroup parent {:?} leaves the instance's cgroup",
                spec.cgroup_parent
            )));
        }
        let inner = &self.inner;
        if inner.lock().contains_key(&spec.id) {
            return Err(Error::new(
                ErrorKind::AlreadyExists,
                format!("pod {} is here already", spec.id),
            ));
        }
        if inner.layout.pod(&spec.id).0.exists() {
            let mut left = inner.left();
            self.remove_rest(&spec.id, None)?;
            left.remove(&spec.id);
        }
        let created = self.try_create(spec);
        if created.is_err()
            && let Err(error) = self.remove_pod(&spec.id)
        {
            tracing::warn!(pod = spec.id, %error, "cannot remove the rest of a failed pod");
        }
        created
    }

    fn try_create(&self, spec: &SandboxSpec) -> Result<Pod> {
        let inner = &self.inner;
        let place = inner.layout.pod(&spec.id);
        fs::create_dir_all(place.containers()).context(|| format!("create {}", place.0.display()))?;
        let network = match spec.host_network {
            true => None,
            false => inner.network.prepare(&spec.id)?,
        };
        let mut record = PodRecord {
            spec: spec.clone(),
            network,
            instance: inner.layout.name(),
            pods_cgroup: PODS_CGROUP.to_owned(),
            ready: false,
        };
        layout::write_json(&place.record(), &record)?;
        let pid = self.start_shim(&spec.id)?;
        if !spec.host_network {
            record.network = Some(inner.network.connect(spec, record.network, pid)?);
        }
        record.ready = true;
        layout::write_json(&place.record(), &record)?;
        self.watch(record)
    }

    /// Starts a shim and waits until it listens. Returns its process id.
    fn start_shim(&self, id: &str) -> Result<u32> {
        let place = self.inner.layout.pod(id);
        let log = File::options()
            .create(true)
            .append(true)
            .open(place.log())
            .context(|| format!("open {}", place.log().display()))?;
        let command = &self.inner.options.shim;
        let mut child = Command::new(self.inner.shim.path())
            .arg0(SHIM_NAME)
            .args(&command.arguments)
            .arg(&place.0)
            // The shim must not see the agent's environment.
            .env_clear()
            .envs(files::variable())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(log)
            .spawn()
            .context(|| format!("start the shim {}", command.program.display()))?;
        let words = match child.stdout.take() {
            Some(output) => read_within(output, SHIM_PATIENCE).context(|| "wait for the shim")?,
            None => Some(Vec::new()),
        };
        let Some(words) = words else {
            child.kill().context(|| "end a shim that does not get ready")?;
            child.wait().context(|| "wait for the shim")?;
            return Err(Error::machine(format!(
                "the shim of pod {id} was not ready after {} s: see {}",
                SHIM_PATIENCE.as_secs(),
                place.log().display()
            )));
        };
        match serde_json::from_slice(&words) {
            Ok(Ready::Yes) => Ok(child.id()),
            Ok(Ready::No(error)) => {
                child.wait().context(|| "wait for the shim")?;
                Err(Error::new(
                    error.kind,
                    format!("sandbox of pod {id}: {}", error.message),
                ))
            }
            Err(_) => {
                let status = child.wait().context(|| "wait for the shim")?;
                Err(Error::machine(format!(
                    "the shim of pod {id} ended with {status}: see {}",
                    place.log().display()
                )))
            }
        }
    }

    /// Adopts a living pod and starts a thread that sends its events.
    fn watch(&self, record: PodRecord) -> Result<Pod> {
        let inner = &self.inner;
        let id = record.spec.id.clone();
        let pod = Pod {
            inner: Arc::new(pod::Inner {
                layout: inner.layout.pod(&id),
                images: inner.images.clone(),
                hierarchies: inner.hierarchies.clone(),
                record,
            }),
        };
        let (statuses, stream) = pod.subscribe()?;
        let credentials =
            getsockopt(&stream, sockopt::PeerCredentials).context(|| format!("find the shim of pod {id}"))?;
        let entry = Entry {
            pod: pod.clone(),
            subscription: stream.try_clone().context(|| format!("watch pod {id}"))?,
            shim: Pid::from_raw(credentials.pid()),
        };
        let watcher = Watcher {
            runtime: Arc::downgrade(inner),
            events: inner.options.events.clone(),
            pod: pod.clone(),
            shim: entry.shim,
        };
        inner.lock().insert(id.clone(), entry);
        thread::Builder::new()
            .name("pod-watcher".into())
            .spawn(move || watcher.run(statuses, stream))
            .context(|| format!("watch pod {id}"))?;
        Ok(pod)
    }

    /// Returns the pods with living shims, ordered by id.
    pub fn pods(&self) -> Vec<Pod> {
        self.inner
            .lock()
            .values()
            .map(|entry| entry.pod.clone())
            .collect()
    }

    /// Returns the living pod with this id.
    pub fn pod(&self, id: &str) -> Option<Pod> {
        self.inner.lock().get(id).map(|entry| entry.pod.clone())
    }

    /// Kills all processes of a pod and removes its shim, mounts, cgroup, address, ports and files.
    /// Returns when the removal is complete. Succeeds if the pod does not exist. Keeps the logs.
    pub fn remove_pod(&self, id: &str) -> Result<()> {
        layout::check_id("pod", id, 63)?;
        let entry = self.inner.lock().remove(id);
        // CNI plugins need the namespace for their cleanup, so it must outlive the pod's processes.
        let mut namespace = None;
        if let Some(entry) = entry {
            namespace = network_namespace(entry.shim);
            if let Err(error) = entry.pod.shut_down() {
                // The shim may be ending already. The remains are removed in both cases.
                tracing::info!(pod = id, %error, "cannot shut the shim down");
                kill(entry.shim);
            }
            end_watcher(&entry);
            wait_for_end(entry.shim)?;
        }
        let mut left = Some(self.inner.left()).filter(|left| left.contains(id));
        self.remove_rest(id, namespace)?;
        if let Some(left) = &mut left {
            left.remove(id);
        }
        Ok(())
    }

    /// Kills the shim of a pod, for a shim that does not answer. [`Event::PodGone`] follows. The
    /// caller removes the rest with [`Runtime::remove_pod`].
    pub fn kill_shim(&self, id: &str) {
        if let Some(entry) = self.inner.lock().get(id) {
            kill(entry.shim);
        }
    }

    /// Removes the remains of a pod without a living shim. [`Runtime::remove_left_overs`] retries
    /// what fails.
    fn remove_or_keep(&self, id: &str) {
        if let Err(error) = self.remove_rest(id, None) {
            tracing::warn!(pod = id, %error, "cannot remove the rest of a dead shim's pod");
            self.inner.left().insert(id.to_owned());
        }
    }

    /// Retries the removal of pods that were dead when the data directory was opened, for example
    /// after plugins failed. Returns the first error.
    pub fn remove_left_overs(&self) -> Result<()> {
        let mut left = self.inner.left();
        let mut result = Ok(());
        left.retain(|id| {
            let removed = self.remove_rest(id, None);
            let stays = removed.is_err();
            result = std::mem::replace(&mut result, Ok(())).and(removed);
            stays
        });
        result
    }

    fn remove_rest(&self, id: &str, mut namespace: Option<File>) -> Result<()> {
        let inner = &self.inner;
        let place = inner.layout.pod(id);
        if let Ok(stream) = wire::connect(&place.socket()) {
            // A shim without a pod: its sandbox could not be created completely.
            let credentials = getsockopt(&stream, sockopt::PeerCredentials)
                .context(|| format!("find the shim of pod {id}"))?;
            let shim = Pid::from_raw(credentials.pid());
            namespace = network_namespace(shim);
            kill(shim);
            wait_for_end(shim)?;
        }
        if let Some(record) = layout::read_json::<PodRecord>(&place.record())? {
            let cgroup = record.cgroup();
            inner.hierarchies.kill(&cgroup)?;
            inner.hierarchies.remove(&cgroup)?;
            // The cgroups of quality-of-service classes, if this was their last pod.
            let pods = record.pods_cgroup();
            let mut above = Path::new(&cgroup).parent();
            while let Some(folder) = above.filter(|folder| *folder != Path::new(&pods)) {
                inner.hierarchies.remove_if_empty(&folder.to_string_lossy());
                above = folder.parent();
            }
        }
        inner.network.release(id, namespace.as_ref())?;
        layout::remove_tree(&place.0)
    }

    /// Removes everything of this data directory from the machine, pods included. Keeps images. The
    /// runtime must be opened again to create pods. Idempotent.
    pub fn clean_up(&self) -> Result<()> {
        let inner = &self.inner;
        for id in layout::folders(&inner.layout.pods()) {
            self.remove_pod(&id)?;
        }
        inner.network.tear_down()?;
        let cgroup = format!("/{}", inner.layout.name());
        inner.hierarchies.kill(&cgroup)?;
        inner.hierarchies.remove(&cgroup)?;
        let run = inner.layout.run();
        while umount2(&run, MntFlags::MNT_DETACH).is_ok() {}
        layout::remove_tree(&run)
    }
}

/// Sends the events of one pod until the pod or the runtime ends.
struct Watcher {
    runtime: Weak<Inner>,
    events: Option<tokio::sync::mpsc::Sender<Event>>,
    pod: Pod,
    shim: Pid,
}

impl Watcher {
    fn run(self, mut statuses: Vec<crate::ContainerStatus>, mut stream: UnixStream) {
        loop {
            for status in statuses {
                self.tell(Event::Container {
                    pod: self.pod.id().to_owned(),
                    status,
                });
            }
            while let Ok(Some((Reply::Container(status), _))) = wire::receive::<Reply>(&mut stream) {
                self.tell(Event::Container {
                    pod: self.pod.id().to_owned(),
                    status: *status,
                });
            }
            // The shim closed the connection: it ended, or we read too slowly.
            if !self.wanted() {
                return;
            }
            match self.pod.subscribe() {
                Ok((all, fresh)) => (statuses, stream) = (all, fresh),
                Err(_) => break,
            }
            if !self.replace_subscription(&stream) {
                return;
            }
        }
        if let Some(runtime) = self.runtime.upgrade() {
            runtime.lock().remove(self.pod.id());
        }
        if let Err(error) = wait_for_end(self.shim) {
            tracing::warn!(pod = self.pod.id(), %error, "the shim runs and does not answer");
        }
        self.tell(Event::PodGone {
            pod: self.pod.id().to_owned(),
        });
    }

    /// Returns whether the pod still belongs to this runtime: it was neither removed nor left to
    /// another runtime.
    fn wanted(&self) -> bool {
        self.runtime.upgrade().is_some_and(|runtime| {
            runtime
                .lock()
                .get(self.pod.id())
                .is_some_and(|entry| Arc::ptr_eq(&entry.pod.inner, &self.pod.inner))
        })
    }

    fn replace_subscription(&self, stream: &UnixStream) -> bool {
        let (Some(runtime), Ok(copy)) = (self.runtime.upgrade(), stream.try_clone()) else {
            return false;
        };
        match runtime.lock().get_mut(self.pod.id()) {
            Some(entry) => {
                entry.subscription = copy;
                true
            }
            None => false,
        }
    }

    fn tell(&self, event: Event) {
        if let Some(events) = &self.events
            && events.blocking_send(event).is_err()
        {
            tracing::debug!(pod = self.pod.id(), "nobody listens to events any more");
        }
    }
}

/// Locks the data directory against other agents. Waits a moment for one that is ending.
fn lock(layout: &Layout) -> Result<Flock<File>> {
    let path = layout.agent_lock();
    let started = Instant::now();
    loop {
        let file = File::create(&path).context(|| format!("open {}", path.display()))?;
        match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
            Ok(lock) => return Ok(lock),
            Err((_, nix::errno::Errno::EWOULDBLOCK)) if started.elapsed() < LOCK_PATIENCE => {
                thread::sleep(Duration::from_millis(10));
            }
            Err((_, nix::errno::Errno::EWOULDBLOCK)) => {
                return Err(Error::new(
                    ErrorKind::InUse,
                    format!(
                        "another process runs pods in the data directory: it holds {}",
                        path.display()
                    ),
                ));
            }
            Err((_, error)) => return Err(Error::machine(format!("lock {}: {error}", path.display()))),
        }
    }
}

/// Returns the network namespace of a process, if the process lives.
fn network_namespace(pid: Pid) -> Option<File> {
    File::open(format!("/proc/{pid}/ns/net")).ok()
}

fn kill(pid: Pid) {
    if let Err(error) = nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGKILL) {
        tracing::debug!(%pid, %error, "already gone");
    }
}

/// Waits until a shim has ended. Reaps it if it is a child of this process, not of an earlier
/// agent.
fn wait_for_end(shim: Pid) -> Result<()> {
    let started = Instant::now();
    while !cgroup::is_zombie(shim.as_raw()) {
        if started.elapsed() > END_PATIENCE {
            return Err(Error::machine(format!("shim {shim} does not end")));
        }
        thread::sleep(Duration::from_millis(1));
    }
    match nix::sys::wait::waitpid(shim, Some(nix::sys::wait::WaitPidFlag::WNOHANG)) {
        Ok(_) | Err(nix::errno::Errno::ECHILD) => Ok(()),
        Err(error) => Err(Error::machine(format!("wait for shim {shim}: {error}"))),
    }
}

/// Mounts the run folder on itself as a private mount, so that the mounts of shims below it are not
/// visible outside. Returns whether it was not mounted before.
fn private_run_folder(layout: &Layout) -> Result<bool> {
    let run = layout.run();
    beneath::make_private(&run).context(|| format!("create {}", run.display()))?;
    let mut fresh = true;
    for mount in mounts::all().context(|| "read mounts")? {
        fresh &= mount.context(|| "read mounts")?.point != run;
    }
    if fresh {
        mount(Some(&run), &run, None::<&str>, MsFlags::MS_BIND, None::<&str>)
            .context(|| format!("mount {} on itself", run.display()))?;
    }
    mount(
        None::<&str>,
        &run,
        None::<&str>,
        MsFlags::MS_PRIVATE,
        None::<&str>,
    )
    .context(|| format!("make {} private", run.display()))?;
    fs::create_dir_all(layout.pods()).context(|| format!("create {}", layout.pods().display()))?;
    Ok(fresh)
}

/// Makes the machine's mounts shared if no service manager did so at boot. Otherwise later mounts
/// and unmounts would not propagate to pods, nor to containers that request propagation.
fn share_mounts() -> Result<()> {
    for mount in mounts::all().context(|| "read mounts")? {
        let mount = mount.context(|| "read mounts")?;
        if mount.is_shared && mount.point == Path::new("/") {
            return Ok(());
        }
    }
    tracing::info!("changing the machine's mounts to shared propagation");
    if let Err(error) = mount(
        None::<&str>,
        "/",
        None::<&str>,
        MsFlags::MS_SHARED | MsFlags::MS_REC,
        None::<&str>,
    ) {
        // In a chroot `/` is not a mount. Everything but propagation works.
        tracing::warn!(%error, "cannot make the machine's mounts shared; later mounts do not reach pods");
    }
    Ok(())
}

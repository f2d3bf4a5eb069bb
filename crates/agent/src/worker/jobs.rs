//! A worker's jobs: what takes time, run beside it. Each ends with a [`Done`] that the worker enters.

use std::sync::Arc;
use std::time::{Duration, Instant};

use k8s_openapi::api::core::v1::{Container, Pod};
use plan::pod_sync::Failure;
use runtime::{ContainerStatus, Credentials, ErrorKind};
use serde_json::Value;
use tokio::sync::Mutex;
use tokio_util::sync::CancellationToken;

use super::{Shared, failure};
use crate::calls::{IMAGES, PODS, PULLS, REGISTRIES, WALKS};
use crate::cluster::{PodRef, is_gone, message};
use crate::container::{self, Note, PodFiles, Surroundings, run_id};
use crate::disk::Limits;
use crate::hooks::{self, LEAST_GRACE};
use crate::network;
use crate::volumes::{self, Tokens};

/// What a job works with: the pod as it was when the job began.
#[derive(Clone)]
pub(super) struct Context {
    pub(super) shared: Arc<Shared>,
    pub(super) identity: PodRef,
    pub(super) pod: Arc<Pod>,
    pub(super) files: PodFiles,
    pub(super) tokens: Arc<Mutex<Tokens>>,
    pub(super) ending: CancellationToken,
    pub(super) surroundings: Surroundings,
}

/// Whether the image is here, or why its name makes no sense.
pub(super) type Found = Result<bool, String>;
/// How long a pull took and how many bytes the image has.
pub(super) type Pulled = Result<(Duration, u64), String>;
/// The run, or why there is none.
pub(super) type Started = Result<ContainerStatus, Failure>;
/// Version and status of the pod after a patch; `None` when the pod is gone.
pub(super) type Answer = Result<Option<(u64, Value)>, String>;

/// How a job ended.
pub(super) enum Done {
    Sandbox(Result<runtime::Pod, Failure>),
    LookedUp {
        container: Container,
        found: Found,
    },
    Pulled {
        container: Container,
        pulled: Pulled,
    },
    Started {
        container: String,
        attempt: u32,
        /// The restart count to go back to when no run was made.
        before: u32,
        started: Started,
    },
    Stopped {
        container: String,
        /// The runtime does not know the container.
        gone: bool,
    },
    Released(Result<(), String>),
    Removed(Result<(), String>),
    Refreshed(Result<(), String>),
    /// Why the pod is to be evicted, if it is.
    Measured(Option<Failure>),
    Reported(Answer),
    Deleted(Result<(), String>),
}

/// `spec.containers{name}`, as events name a container.
pub(super) fn field_path(pod: &Pod, container: &str) -> String {
    if container.is_empty() {
        return String::new();
    }
    let inits = pod.spec.as_ref().and_then(|spec| spec.init_containers.as_ref());
    let is_init = inits.into_iter().flatten().any(|init| init.name == container);
    let list = if is_init { "initContainers" } else { "containers" };
    format!("spec.{list}{{{container}}}")
}

impl Context {
    fn event(&self, container: &str, warning: bool, reason: &str, message: String) {
        let field = field_path(&self.pod, container);
        self.shared
            .recorder
            .pod(&self.identity, field, warning, reason, message);
    }

    /// Says what the pod should hear of its names; that the node has no DNS concerns the node, too.
    fn note(&self, note: &Note) {
        let PodRef { namespace, name, uid } = &self.identity;
        let reason = note.reason();
        let message = note.message();
        let message = match note {
            Note::NoClusterDns => {
                let recorder = &self.shared.recorder;
                recorder.node(&self.shared.node_name, true, reason, message.clone());
                format!("pod: \"{name}_{namespace}({uid})\". {message}")
            }
            Note::TooMuch(_) => message,
        };
        self.event("", true, reason, message);
    }
}

// ---- the sandbox

pub(super) async fn create_sandbox(context: Context) -> Done {
    let made = async {
        let volumes = prepare_volumes(&context).await;
        volumes.map_err(|message| failure("FailedMount", message))?;
        let mut spec = container::sandbox(&context.pod, &context.shared.node_name, &context.shared.names);
        spec.resources.pids_limit = context.shared.policy.pod_pids();
        let runtime = context.shared.runtime.clone();
        let identity = context.identity.clone();
        let sandbox = PODS.run(&context.identity.uid, move || {
            let id = spec.id.clone();
            match runtime.create_pod(&spec) {
                Err(error) if error.kind == ErrorKind::AlreadyExists => runtime.pod(&id).ok_or(error),
                made => made,
            }
        });
        let failed = |why: String| {
            let message = format!(
                "Failed to create pod sandbox for pod \"{}\": {why}",
                identity.name
            );
            failure("FailedCreatePodSandBox", message)
        };
        let sandbox = sandbox.await.map_err(|error| match error.kind {
            ErrorKind::NetworkNotReady => {
                let why = network::not_ready(&error.message);
                failure("NetworkNotReady", format!("network is not ready: {why}"))
            }
            _ => failed(error.message),
        })?;
        let ips = match sandbox.network() {
            Some(network) => network.ips().map(|ip| ip.to_string()).collect(),
            None => context.surroundings.host_ips.clone(),
        };
        let Shared { node_name, names, .. } = &*context.shared;
        let notes = container::write_network_files(&context.pod, &context.files, &ips, node_name, names)
            .map_err(|error| failed(format!("write the files in /etc: {error}")))?;
        for note in &notes {
            context.note(note);
        }
        Ok(sandbox)
    };
    Done::Sandbox(made.await)
}

/// What of a pod's files goes with its sandbox.
enum Leave {
    /// The sandbox is made anew: volumes live as long as their pod.
    Files,
    /// The pod has ended, and its logs can still be read.
    Logs,
    /// The pod does not come back.
    Nothing,
}

pub(super) async fn release_sandbox(context: Context) -> Done {
    Done::Released(take_down(&context, Leave::Logs).await)
}

/// Removes the sandbox; with `all`, also the pod's files, because it does not come back.
pub(super) async fn remove_sandbox(context: Context, all: bool) -> Done {
    let leave = if all { Leave::Nothing } else { Leave::Files };
    Done::Removed(take_down(&context, leave).await)
}

/// Removes what the pod has on the machine.
async fn take_down(context: &Context, leave: Leave) -> Result<(), String> {
    let runtime = context.shared.runtime.clone();
    let files = context.files.clone();
    let logs = context.shared.logs.clone();
    let uid = context.identity.uid.clone();
    let work = move || {
        runtime.remove_pod(&uid)?;
        let removed = match leave {
            Leave::Files => Ok(()),
            Leave::Logs => volumes::remove(&files),
            Leave::Nothing => crate::stop::remove_files(&logs, &files.0),
        };
        removed.map_err(|error| runtime::Error {
            kind: ErrorKind::Machine,
            message: format!("remove {} and the pod's logs: {error}", files.0.display()),
        })
    };
    let removed = PODS.run(&context.identity.uid, work).await;
    removed.map_err(|error| error.message)
}

pub(super) async fn refresh_volumes(context: Context) -> Done {
    Done::Refreshed(prepare_volumes(&context).await)
}

/// Makes the pod's volumes, or brings them up to date. It works on files, those of `hostPath` among them, whose file system may hang.
async fn prepare_volumes(context: &Context) -> Result<(), String> {
    let work = {
        let context = context.clone();
        move || {
            tokio::runtime::Handle::current().block_on(async {
                let mut tokens = context.tokens.lock().await;
                let volumes = volumes::prepare(
                    context.shared.origins(),
                    &context.pod,
                    &context.files,
                    &context.surroundings,
                    &mut tokens,
                );
                Ok(volumes.await)
            })
        }
    };
    match PODS.run(&context.identity.uid, work).await {
        Ok(prepared) => prepared,
        Err(error) => Err(error.message),
    }
}

/// Measures what the pod's runs, given by name and number, take of the disk.
pub(super) async fn measure(context: Context, runs: Vec<(String, u32)>) -> Done {
    let (Some(limits), Some(sandbox)) = (Limits::of(&context.pod), sandbox(&context)) else {
        return Done::Measured(None);
    };
    let files = context.files.clone();
    let logs = context.shared.log(&context.identity);
    let walk = move || limits.exceeded(&files, &logs, &sandbox, &runs);
    let found = WALKS.run(&context.identity.uid, walk).await;
    Done::Measured(found.unwrap_or_else(|error| {
        tracing::warn!(pod = context.identity.name, %error, "cannot measure the pod's disk usage");
        None
    }))
}

// ---- images

pub(super) async fn look_up_image(context: Context, container: Container) -> Done {
    let image = container.image.clone().unwrap_or_default();
    let images = context.shared.runtime.images().clone();
    let found = IMAGES
        .run(&context.identity.uid, move || images.resolve(&image))
        .await;
    let found = match found {
        Ok(found) => Ok(found.is_some()),
        Err(error) if error.kind == ErrorKind::Invalid => Err(error.message),
        Err(error) => {
            tracing::warn!(container = container.name, %error, "cannot look up an image");
            Ok(false)
        }
    };
    Done::LookedUp { container, found }
}

pub(super) async fn pull_image(context: Context, container: Container) -> Done {
    let image = container.image.clone().unwrap_or_default();
    let started = Instant::now();
    let pulled = async {
        let credentials = credentials(&context, &image).await;
        let _of_pod = PULLS.enter(&context.identity.uid).await?;
        let _of_registry = REGISTRIES.enter(&runtime::registry_of(&image)?).await?;
        context.shared.runtime.images().pull(&image, &credentials).await
    };
    let pulled = match pulled.await {
        Ok(info) => Ok((started.elapsed(), info.size)),
        Err(error) => Err(advice(&error, &image)),
    };
    Done::Pulled { container, pulled }
}

/// The error of a pull, and what a person can do about it.
fn advice(error: &runtime::Error, image: &str) -> String {
    let import = "import the image with `everynode image import FILE`";
    match error.kind {
        ErrorKind::RegistryUnavailable => {
            format!("{error}; check this node's network and name resolution, or {import}")
        }
        ErrorKind::Unauthorized => {
            format!("{error}; name a Secret with the registry's credentials in imagePullSecrets, or {import}")
        }
        ErrorKind::ImageNotFound => format!("{error}; check the name {image:?}, or {import}"),
        // The image itself is wrong, and says how.
        ErrorKind::Invalid => error.to_string(),
        _ => format!("{error}; check the network, or {import}"),
    }
}

/// The registry credentials that the pod's pull secrets hold for an image.
async fn credentials(context: &Context, image: &str) -> Credentials {
    let secrets = context
        .pod
        .spec
        .as_ref()
        .and_then(|spec| spec.image_pull_secrets.clone());
    for reference in secrets.unwrap_or_default() {
        let sources = &context.shared.sources;
        let found = sources.secret(&context.identity, &reference.name).await;
        let secret = found.unwrap_or_else(|why| {
            tracing::warn!(secret = reference.name, why, "cannot read a pull secret");
            None
        });
        let data = secret.as_ref().and_then(|secret| secret.data.as_ref());
        let config = data
            .and_then(|data| data.get(".dockerconfigjson"))
            .and_then(|bytes| serde_json::from_slice(&bytes.0).ok());
        if let Some((user, password)) = config.and_then(|config: Value| docker_login(&config, image)) {
            return Credentials::Basic {
                username: user,
                password,
            };
        }
    }
    Credentials::Anonymous
}

/// User and password for the registry of `image` in a `.dockerconfigjson`.
fn docker_login(config: &Value, image: &str) -> Option<(String, String)> {
    use base64::Engine as _;
    let first = image.split('/').next().unwrap_or_default();
    let named = image.contains('/') && (first.contains(['.', ':']) || first == "localhost");
    let registry = if named { first } else { "docker.io" };
    let host = |server: &str| {
        let bare = server
            .trim_start_matches("https://")
            .trim_start_matches("http://");
        let host = bare.split('/').next().unwrap_or_default().to_owned();
        if host == "index.docker.io" {
            "docker.io".to_owned()
        } else {
            host
        }
    };
    let auths = config["auths"].as_object()?;
    let (_, login) = auths.iter().find(|(server, _)| host(server) == registry)?;
    if let (Some(user), Some(password)) = (login["username"].as_str(), login["password"].as_str()) {
        return Some((user.to_owned(), password.to_owned()));
    }
    let decoded = base64::engine::general_purpose::STANDARD
        .decode(login["auth"].as_str()?)
        .ok()?;
    let decoded = String::from_utf8(decoded).ok()?;
    let (user, password) = decoded.split_once(':')?;
    Some((user.to_owned(), password.to_owned()))
}

// ---- containers

pub(super) async fn start_container(
    context: Context,
    container: Container,
    attempt: u32,
    before: u32,
) -> Done {
    let started = start(&context, &container, attempt).await;
    Done::Started {
        container: container.name,
        attempt,
        before,
        started,
    }
}

async fn start(context: &Context, container: &Container, attempt: u32) -> Started {
    let name = &container.name;
    let log = context.shared.log(&context.identity).run(name, attempt);
    let spec = container::run(
        &context.shared.sources,
        &context.pod,
        container,
        attempt,
        &context.files,
        log.clone(),
        &context.surroundings,
    );
    let spec = spec.await?;
    let sandbox = sandbox(context)
        .ok_or_else(|| failure("CreateContainerError", "the pod's sandbox is gone".into()))?;
    let full_name = format!(
        "{}_{}({})",
        context.identity.name, context.identity.namespace, context.identity.uid
    );
    let started = {
        let sandbox = sandbox.clone();
        let start = move || sandbox.start_container(&spec);
        PODS.run(&context.identity.uid, start).await
    };
    let status = started.map_err(|error| match error.kind {
        ErrorKind::RunAsNonRoot => {
            let message = format!("{error} (pod: \"{full_name}\", container: {name})");
            failure("CreateContainerConfigError", message)
        }
        ErrorKind::SubPath => failure("CreateContainerConfigError", error.message),
        ErrorKind::StartFailed => failure("RunContainerError", error.message),
        _ => failure("CreateContainerError", error.message),
    })?;
    link_log(context, name, attempt, log).await;
    context.event(name, false, "Created", format!("Created container: {name}"));
    context.event(name, false, "Started", format!("Started container {name}"));
    forget_old_runs(context, &sandbox, name, attempt).await;
    let hook = container
        .lifecycle
        .as_ref()
        .and_then(|lifecycle| lifecycle.post_start.as_ref());
    if let Some(hook) = hook {
        let ran = tokio::select! {
            ran = hooks::run(&sandbox, container, attempt, hook, &context.surroundings.pod_ips) => ran,
            // What it runs in the container ends with the container, which is stopped now.
            () = context.ending.cancelled() => Ok(()),
        };
        if let Err(why) = ran {
            context.event(
                name,
                true,
                "FailedPostStartHook",
                format!("PostStartHook failed: {why}"),
            );
            let grace = context
                .pod
                .spec
                .as_ref()
                .and_then(|spec| spec.termination_grace_period_seconds);
            let grace = Duration::from_secs(grace.unwrap_or(30).unsigned_abs());
            let id = run_id(name, attempt);
            let stop = move || sandbox.stop_container(&id, grace);
            if let Err(error) = PODS.run(&context.identity.uid, stop).await {
                tracing::warn!(container = name, %error, "cannot stop a container whose postStart hook failed");
            }
        }
    }
    Ok(status)
}

/// Makes the link by which collectors find the log. A run without it is a run all the same.
async fn link_log(context: &Context, name: &str, attempt: u32, log: runtime::LogPath) {
    let PodRef {
        namespace,
        name: pod,
        uid,
    } = &context.identity;
    let id = runtime::container_id(uid, &run_id(name, attempt));
    let link = format!("{pod}_{namespace}_{name}-{id}");
    let folder = context.shared.log(&context.identity);
    let linked = PODS.run(&context.identity.uid, move || {
        folder.link(&log, &link).map_err(|error| runtime::Error {
            kind: ErrorKind::Machine,
            message: error.to_string(),
        })
    });
    if let Err(error) = linked.await {
        tracing::warn!(pod, container = name, %error, "cannot link a container's log");
    }
}

/// Keeps the run before this one (its log and its exit can still be asked for) and removes the one before that.
async fn forget_old_runs(context: &Context, sandbox: &runtime::Pod, name: &str, attempt: u32) {
    let Some(old) = attempt.checked_sub(2) else {
        return;
    };
    let sandbox = sandbox.clone();
    let id = run_id(name, old);
    let folder = context.shared.log(&context.identity);
    let log = folder.run(name, old);
    let words = context.files.termination_message(name, old);
    let removed = PODS.run(&context.identity.uid, move || {
        if let Err(error) = folder.remove_run(&log) {
            tracing::debug!(%error, "remove an old log");
        }
        match std::fs::remove_file(&words) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                tracing::debug!(%error, "remove an old termination message");
            }
            _ => {}
        }
        match sandbox.remove_container(&id) {
            Err(error) if error.kind != ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    });
    if let Err(error) = removed.await {
        tracing::warn!(container = name, %error, "cannot remove an old run of a container");
    }
}

/// How a container is to be stopped.
#[derive(Clone, Copy)]
pub(super) struct Stop {
    /// From now to SIGKILL.
    pub(super) grace: Duration,
    /// It is being stopped already, with a longer grace.
    pub(super) again: bool,
    /// Whether it goes on while clients are led to the pod.
    pub(super) hold: bool,
}

pub(super) async fn stop_container(
    context: Context,
    container: Container,
    attempt: u32,
    Stop { grace, again, hold }: Stop,
) -> Done {
    let began = Instant::now();
    if hold {
        let listener = context.shared.hold.clone();
        listener.released(&context.identity.uid, grace).await;
    }
    let name = container.name.clone();
    let Some(sandbox) = sandbox(&context) else {
        return Done::Stopped {
            container: name,
            gone: true,
        };
    };
    let hook = container
        .lifecycle
        .as_ref()
        .and_then(|lifecycle| lifecycle.pre_stop.as_ref());
    let id = run_id(&name, attempt);
    if let Some(hook) = hook
        && !again
        && !grace.is_zero()
        && is_running(&sandbox, &id).await
    {
        let ran = hooks::run(&sandbox, &container, attempt, hook, &context.surroundings.pod_ips);
        match tokio::time::timeout(grace.saturating_sub(began.elapsed()), ran).await {
            Ok(Ok(())) => {}
            Ok(Err(why)) => context.event(
                &name,
                true,
                "FailedPreStopHook",
                format!("PreStopHook failed: {why}"),
            ),
            Err(_) => context.event(
                &name,
                true,
                "FailedPreStopHook",
                "PreStopHook failed: it took all the grace".into(),
            ),
        }
    }
    let left = if grace.is_zero() {
        grace
    } else {
        grace.saturating_sub(began.elapsed()).max(LEAST_GRACE.min(grace))
    };
    let stop = move || sandbox.stop_container(&id, left);
    let gone = match PODS.run(&context.identity.uid, stop).await {
        Err(error) if matches!(error.kind, ErrorKind::NotFound | ErrorKind::ShimGone) => true,
        // It has just ended by itself: its end is on the way.
        Err(error) if error.kind == ErrorKind::NotRunning => false,
        // Nothing in it can be stopped in order any more. The pod is removed, and made anew if it is still wanted.
        Err(error) if error.kind == ErrorKind::ShimStuck => {
            tracing::warn!(container = name, %error, "cannot kill the pod's shim");
            context.shared.runtime.kill_shim(&context.identity.uid);
            false
        }
        Err(error) => {
            tracing::warn!(container = name, %error, "cannot stop a container");
            false
        }
        Ok(()) => false,
    };
    Done::Stopped {
        container: name,
        gone,
    }
}

/// Whether a hook would still find a container: while it was held back it may have ended by itself.
async fn is_running(sandbox: &runtime::Pod, id: &str) -> bool {
    let (sandbox, id) = (sandbox.clone(), id.to_owned());
    let pod = sandbox.id().to_owned();
    let found = PODS.run(&pod, move || sandbox.container(&id)).await;
    found.is_ok_and(|found| found.is_some_and(|container| container.state.is_running()))
}

fn sandbox(context: &Context) -> Option<runtime::Pod> {
    context.shared.runtime.pod(&context.identity.uid)
}

// ---- the API

pub(super) async fn report(context: Context, patch: Value) -> Done {
    Done::Reported(patch_status(&context, &patch).await)
}

async fn patch_status(context: &Context, patch: &Value) -> Answer {
    match context
        .shared
        .cluster
        .patch_pod_status(&context.identity, patch)
        .await
    {
        Ok(answer) => Ok(Some(answer)),
        Err(error) if is_gone(&error) => Ok(None),
        Err(error) => Err(message(&error)),
    }
}

/// Reports the last status, then deletes the object.
pub(super) async fn delete_pod(context: Context, patch: Option<Value>) -> Done {
    if let Some(patch) = patch
        && let Err(message) = patch_status(&context, &patch).await
    {
        return Done::Deleted(Err(message));
    }
    let deleted = context.shared.cluster.delete_pod(&context.identity).await;
    Done::Deleted(match deleted {
        Err(error) if !is_gone(&error) => Err(message(&error)),
        _ => Ok(()),
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::docker_login;

    #[test]
    fn a_login_is_found_by_the_images_registry() {
        let config = json!({"auths": {
            "https://index.docker.io/v1/": {"auth": "dTpw"},
            "registry.example.com": {"username": "a", "password": "b"},
        }});
        let login = |user: &str, password: &str| Some((user.to_owned(), password.to_owned()));
        assert_eq!(docker_login(&config, "busybox:1"), login("u", "p"));
        assert_eq!(docker_login(&config, "library/busybox"), login("u", "p"));
        assert_eq!(docker_login(&config, "registry.example.com/x:1"), login("a", "b"));
        assert_eq!(docker_login(&config, "other.example.com/x:1"), None);
    }
}

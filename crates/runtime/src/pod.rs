//! A living pod as its caller sees it: sends requests to the pod's shim.

use std::collections::BTreeMap;
use std::io;
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use crate::beneath::Usage;
use crate::cgroup::Hierarchies;
use crate::error::Context as _;
use crate::layout::{self, PodLayout};
use crate::shim::PodRecord;
use crate::wire::{self, Reply, Request, Start};
use crate::{
    ContainerSpec, ContainerStatus, Error, ErrorKind, Exec, ExecSpec, Images, PodNetwork, Result,
    SandboxSpec, Stats,
};

/// Timeout for a shim to create and start a container. The same as the kubelet's limit for calls to
/// a container runtime.
const START_LIMIT: Duration = Duration::from_secs(120);
/// Timeout for a shim's other answers. It answers within milliseconds, unless it is starting a
/// container.
const ANSWER_LIMIT: Duration = Duration::from_secs(30);
/// Timeout for a shim to kill everything in its pod. After it, the shim is killed, and the pod's
/// processes are found by their cgroup.
const SHUTDOWN_LIMIT: Duration = Duration::from_secs(15);

/// A pod with a living shim.
#[derive(Clone, Debug)]
pub struct Pod {
    pub(crate) inner: Arc<Inner>,
}

#[derive(Debug)]
pub(crate) struct Inner {
    pub(crate) record: PodRecord,
    pub(crate) layout: PodLayout,
    pub(crate) images: Images,
    pub(crate) hierarchies: Hierarchies,
}

impl Pod {
    /// Returns [`SandboxSpec::id`].
    pub fn id(&self) -> &str {
        &self.inner.record.spec.id
    }

    /// Returns the spec that the pod was created from.
    pub fn spec(&self) -> &SandboxSpec {
        &self.inner.record.spec
    }

    /// Returns [`SandboxSpec::annotations`].
    pub fn annotations(&self) -> &BTreeMap<String, String> {
        &self.inner.record.spec.annotations
    }

    /// Returns the pod's addresses; `None` on the host's network.
    pub fn network(&self) -> Option<&PodNetwork> {
        self.inner.record.network.as_ref()
    }

    /// Measures the files that a running or ended container has written to its root. Examines at
    /// most `limit` files ([`crate::beneath::usage`]).
    pub fn written(&self, container: &str, limit: u64) -> Result<Usage> {
        layout::check_id("container", container, 100)?;
        let upper = self.inner.layout.container(container).upper();
        crate::beneath::usage(&upper, limit).context(|| format!("measure {}", upper.display()))
    }

    /// Sends one request on its own connection and returns the reply.
    fn ask(&self, request: &Request) -> Result<(Reply, Vec<std::os::fd::OwnedFd>, UnixStream)> {
        let limit = match request {
            Request::Start(_) => START_LIMIT,
            Request::Shutdown => SHUTDOWN_LIMIT,
            _ => ANSWER_LIMIT,
        };
        let failed = |cause: io::Error| {
            let kind = match cause.kind() {
                io::ErrorKind::WouldBlock => ErrorKind::ShimStuck,
                _ => ErrorKind::ShimGone,
            };
            let message = match kind {
                ErrorKind::ShimStuck => format!(
                    "the shim of pod {} did not answer within {} s",
                    self.id(),
                    limit.as_secs()
                ),
                _ => format!("the shim of pod {} does not answer: {cause}", self.id()),
            };
            Error::new(kind, message)
        };
        let mut stream = wire::connect(&self.inner.layout.socket()).map_err(failed)?;
        stream.set_read_timeout(Some(limit)).map_err(failed)?;
        stream.set_write_timeout(Some(limit)).map_err(failed)?;
        wire::send(&mut stream, request).map_err(failed)?;
        let answer = wire::receive::<Reply>(&mut stream).map_err(failed)?;
        // The readers of what follows set their own timeouts.
        stream.set_read_timeout(None).map_err(failed)?;
        match answer {
            Some((Reply::Failed(error), _)) => Err(error),
            Some((reply, descriptors)) => Ok((reply, descriptors, stream)),
            None => Err(failed(io::ErrorKind::UnexpectedEof.into())),
        }
    }

    /// Creates and starts a container. On return its program runs or has ended. If the program
    /// cannot be started, fails with [`ErrorKind::StartFailed`] and the runtime's message, and
    /// leaves nothing behind.
    pub fn start_container(&self, spec: &ContainerSpec) -> Result<ContainerStatus> {
        layout::check_id("container", &spec.id, 100)?;
        let (image, layers) = self.inner.images.for_container(&spec.image)?;
        let start = Start {
            spec: spec.clone(),
            image,
            layers,
        };
        match self.ask(&Request::Start(Box::new(start)))?.0 {
            Reply::Container(status) => Ok(*status),
            other => Err(unexpected(&other)),
        }
    }

    /// Returns all containers of the pod by id, ended ones included.
    pub fn containers(&self) -> Result<Vec<ContainerStatus>> {
        match self.ask(&Request::Status)?.0 {
            Reply::Containers(statuses) => Ok(statuses),
            other => Err(unexpected(&other)),
        }
    }

    /// Returns the status of one container.
    pub fn container(&self, id: &str) -> Result<Option<ContainerStatus>> {
        Ok(self.containers()?.into_iter().find(|status| status.id == id))
    }

    /// Stops a container: sends the image's stop signal (default SIGTERM) now, and SIGKILL after
    /// the grace period. Returns immediately. A second call may shorten the grace period. Zero
    /// sends SIGKILL now.
    pub fn stop_container(&self, id: &str, grace: Duration) -> Result<()> {
        let grace_ms = u64::try_from(grace.as_millis()).unwrap_or(u64::MAX);
        self.ask(&Request::Stop {
            container: id.to_owned(),
            grace_ms,
        })
        .map(drop)
    }

    /// Sends a signal to a container's first process.
    pub fn signal_container(&self, id: &str, signal: i32) -> Result<()> {
        self.ask(&Request::Signal {
            container: Some(id.to_owned()),
            signal,
        })
        .map(drop)
    }

    /// Waits until a container has ended. Returns `None` after the timeout.
    pub fn wait_container(&self, id: &str, timeout: Duration) -> Result<Option<ContainerStatus>> {
        let deadline = Instant::now() + timeout;
        let (first, _, mut stream) = self.ask(&Request::Subscribe)?;
        let Reply::Containers(statuses) = first else {
            return Err(unexpected(&first));
        };
        let Some(mut status) = statuses.into_iter().find(|status| status.id == id) else {
            return Err(Error::new(
                ErrorKind::NotFound,
                format!("container {id} is not in pod {}", self.id()),
            ));
        };
        while status.state.is_running() {
            let left = deadline.saturating_duration_since(Instant::now());
            let broken = |cause: io::Error| {
                Error::new(ErrorKind::ShimGone, format!("wait for container {id}: {cause}"))
            };
            if !readable(&stream, left).map_err(broken)? {
                return Ok(None);
            }
            match wire::receive::<Reply>(&mut stream).map_err(broken)? {
                Some((Reply::Container(changed), _)) if changed.id == id => status = *changed,
                Some(_) => {}
                None => return Err(broken(io::ErrorKind::UnexpectedEof.into())),
            }
        }
        Ok(Some(status))
    }

    /// Removes a container: kills it if it runs, and removes its writable layer. Keeps its log.
    pub fn remove_container(&self, id: &str) -> Result<()> {
        self.ask(&Request::Remove {
            container: id.to_owned(),
        })
        .map(drop)
    }

    /// Runs a process in a running container, with the container's environment, user and security
    /// settings.
    pub fn exec(&self, id: &str, spec: &ExecSpec) -> Result<Exec> {
        let request = Request::Exec {
            container: id.to_owned(),
            exec: spec.clone(),
        };
        match self.ask(&request)? {
            (Reply::Started, descriptors, stream) => Exec::new(stream, spec, descriptors),
            (other, ..) => Err(unexpected(&other)),
        }
    }

    /// Returns the resource usage of a running container.
    pub fn stats(&self, id: &str) -> Result<Stats> {
        let status = self
            .container(id)?
            .filter(|status| status.state.is_running())
            .ok_or_else(|| Error::new(ErrorKind::NotRunning, format!("container {id} is not running")))?;
        Ok(self.stats_of(&status))
    }

    /// Returns the resource usage of a container with a known status.
    pub fn stats_of(&self, status: &ContainerStatus) -> Stats {
        self.inner.hierarchies.stats(&status.cgroup)
    }

    /// Opens a connection that sends all states first and then every change.
    pub(crate) fn subscribe(&self) -> Result<(Vec<ContainerStatus>, UnixStream)> {
        match self.ask(&Request::Subscribe)? {
            (Reply::Containers(statuses), _, stream) => Ok((statuses, stream)),
            (other, ..) => Err(unexpected(&other)),
        }
    }

    /// Requests the shim to kill everything in the pod and to end. Returns when the shim has
    /// replied.
    pub(crate) fn shut_down(&self) -> Result<()> {
        self.ask(&Request::Shutdown).map(drop)
    }
}

fn unexpected(reply: &Reply) -> Error {
    Error::machine(format!("the shim answers {reply:?}"))
}

/// Waits until a connection has something to read. Returns false after the timeout.
pub(crate) fn readable(stream: &UnixStream, timeout: Duration) -> io::Result<bool> {
    let deadline = Instant::now() + timeout;
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        // Rounded up, because a wait of less than a millisecond would spin.
        let left = PollTimeout::try_from(left + Duration::from_micros(999)).unwrap_or(PollTimeout::MAX);
        let mut fds = [PollFd::new(stream.as_fd(), PollFlags::POLLIN)];
        match poll(&mut fds, left) {
            Ok(0) if Instant::now() >= deadline => return Ok(false),
            Ok(0) | Err(nix::errno::Errno::EINTR) => {}
            Ok(_) => return Ok(true),
            Err(error) => return Err(error.into()),
        }
    }
}

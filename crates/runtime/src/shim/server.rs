//! The shim's loop: requests, output of containers, ended children and grace periods.

use std::collections::BTreeMap;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;

use super::PodRecord;
use super::container::{Container, Exit, Started};
use super::execs::Execs;
use super::volumes::Namespaces;
use crate::cgroup::Hierarchies;
use crate::error::Context as _;
use crate::layout::PodLayout;
use crate::wire::{self, Reply, Request};
use crate::{ContainerStatus, Error, ErrorKind, ExecSpec, Result};

/// Timeout for a client to accept an answer. A slower client is dropped, because it would delay the
/// containers' output.
const SEND_PATIENCE: Duration = Duration::from_secs(2);

/// Largest number of connections at a time: the agent's subscription, its calls, and the execs of a
/// pod.
const CONNECTIONS: usize = 256;

/// Bytes of one read from a client or a container.
const CHUNK: usize = 64 << 10;

/// State of the pod in its shim.
pub(super) struct Server {
    layout: PodLayout,
    record: PodRecord,
    namespaces: Namespaces,
    hierarchies: Hierarchies,
    listener: UnixListener,
    children: SignalFd,
    clients: Vec<Client>,
    containers: BTreeMap<String, Container>,
    execs: Execs,
    ended: bool,
}

struct Client {
    stream: UnixStream,
    pending: Vec<u8>,
    subscribed: bool,
    /// First process of the exec of this connection, while it runs.
    exec: Option<Pid>,
    gone: bool,
}

/// Owner of a descriptor in the poll.
enum Source {
    Listener,
    Children,
    Client(usize),
    Output(String, RawFd),
}

impl Server {
    pub(super) fn new(layout: PodLayout, record: PodRecord, namespaces: Namespaces) -> Result<Server> {
        let mut signals = SigSet::empty();
        signals.add(Signal::SIGCHLD);
        signals.thread_block().context(|| "block SIGCHLD")?;
        let children = SignalFd::with_flags(&signals, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK)
            .context(|| "watch for children")?;
        let hierarchies = Hierarchies::find()?;
        hierarchies.create(&record.cgroup(), &record.spec.resources)?;
        let socket = layout.socket();
        let listener = wire::with_short_path(&socket, |path| UnixListener::bind(path))
            .context(|| format!("listen on {}", socket.display()))?;
        listener
            .set_nonblocking(true)
            .context(|| format!("listen on {}", socket.display()))?;
        Ok(Server {
            layout,
            record,
            namespaces,
            hierarchies,
            listener,
            children,
            clients: Vec::new(),
            containers: BTreeMap::new(),
            execs: Execs::default(),
            ended: false,
        })
    }

    /// Serves requests until the pod is shut down.
    pub(super) fn run(&mut self) -> Result<()> {
        while !self.ended {
            let ready = self.wait()?;
            for source in ready {
                match source {
                    Source::Listener => self.accept(),
                    Source::Children => self.reap(),
                    Source::Client(index) => self.hear(index),
                    Source::Output(container, fd) => self.drain(&container, fd),
                }
            }
            self.enforce_graces();
            self.drop_gone();
            self.execs.look();
        }
        Ok(())
    }

    fn wait(&self) -> Result<Vec<Source>> {
        let mut sources = vec![Source::Listener, Source::Children];
        let mut fds = vec![readable(self.listener.as_fd()), readable(self.children.as_fd())];
        for (index, client) in self.clients.iter().enumerate() {
            sources.push(Source::Client(index));
            fds.push(readable(client.stream.as_fd()));
        }
        for (id, container) in &self.containers {
            for output in container.outputs() {
                sources.push(Source::Output(id.clone(), output.as_raw_fd()));
                fds.push(readable(output));
            }
        }
        let graces = self.containers.values().filter_map(Container::deadline);
        let timeout = graces
            .chain(self.execs.next_look())
            .min()
            .map_or(PollTimeout::NONE, |deadline| {
                let left = deadline.saturating_duration_since(Instant::now()) + Duration::from_millis(1);
                PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX)
            });
        match poll(&mut fds, timeout) {
            Ok(_) | Err(nix::errno::Errno::EINTR) => {}
            Err(error) => return Err(Error::machine(format!("poll: {error}"))),
        }
        let ready: Vec<bool> = fds.iter().map(|fd| fd.any().unwrap_or(false)).collect();
        Ok(sources
            .into_iter()
            .zip(ready)
            .filter_map(|(source, ready)| ready.then_some(source))
            .collect())
    }

    fn accept(&mut self) {
        // The client may have gone.
        let Ok((stream, _)) = self.listener.accept() else {
            return;
        };
        if self.clients.len() >= CONNECTIONS || stream.set_write_timeout(Some(SEND_PATIENCE)).is_err() {
            return;
        }
        self.clients.push(Client {
            stream,
            pending: Vec::new(),
            subscribed: false,
            exec: None,
            gone: false,
        });
    }

    /// Reads from a client and answers complete requests.
    fn hear(&mut self, index: usize) {
        let client = &mut self.clients[index];
        let mut chunk = vec![0; CHUNK];
        match client.stream.read(&mut chunk) {
            Ok(0) => client.gone = true,
            Ok(count) => client.pending.extend_from_slice(&chunk[..count]),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(_) => client.gone = true,
        }
        loop {
            match wire::take::<Request>(&mut self.clients[index].pending) {
                Ok(Some(request)) => self.answer(index, request),
                Ok(None) => return,
                Err(error) => {
                    self.reply(index, &Reply::Failed(Error::invalid(format!("request: {error}"))));
                    self.clients[index].gone = true;
                    return;
                }
            }
        }
    }

    fn answer(&mut self, index: usize, request: Request) {
        let result = match request {
            Request::Start(start) => self
                .start(*start)
                .map(|status| Reply::Container(Box::new(status))),
            Request::Stop { container, grace_ms } => self
                .container(&container)
                .and_then(|container| container.stop(Duration::from_millis(grace_ms)))
                .map(|()| Reply::Done),
            Request::Signal { container, signal } => self
                .signal(index, container.as_deref(), signal)
                .map(|()| Reply::Done),
            Request::Remove { container } => self.remove(&container).map(|()| Reply::Done),
            Request::Status => Ok(Reply::Containers(self.statuses())),
            Request::Subscribe => {
                self.clients[index].subscribed = true;
                Ok(Reply::Containers(self.statuses()))
            }
            Request::Shutdown => self.shut_down().map(|()| {
                self.ended = true;
                Reply::Done
            }),
            Request::Exec { container, exec } => match self.exec(&container, &exec) {
                Ok(Started { pid, group, streams }) => {
                    self.execs.add(pid, group);
                    let client = &mut self.clients[index];
                    client.exec = Some(pid);
                    let streams: Vec<RawFd> = streams.iter().map(AsRawFd::as_raw_fd).collect();
                    let sent = wire::send_with_descriptors(&mut client.stream, &Reply::Started, &streams);
                    client.gone |= sent.is_err();
                    return;
                }
                Err(error) => Err(error),
            },
        };
        // libcontainer changes the working directory and does not restore it.
        if let Err(error) = nix::unistd::chdir("/") {
            super::complain(&Error::machine(format!("change to /: {error}")));
        }
        self.reply(index, &result.unwrap_or_else(Reply::Failed));
    }

    fn reply(&mut self, index: usize, reply: &Reply) {
        let client = &mut self.clients[index];
        client.gone |= wire::send(&mut client.stream, reply).is_err();
    }

    fn statuses(&self) -> Vec<ContainerStatus> {
        self.containers
            .values()
            .map(|container| container.status().clone())
            .collect()
    }

    fn container(&mut self, id: &str) -> Result<&mut Container> {
        self.containers.get_mut(id).ok_or_else(|| unknown(id))
    }

    fn exec(&mut self, id: &str, exec: &ExecSpec) -> Result<Started> {
        self.execs.check()?;
        let container = self.containers.get_mut(id);
        container.ok_or_else(|| unknown(id))?.exec(&self.namespaces, exec)
    }

    /// Removes disconnected clients, and kills the commands that they started.
    fn drop_gone(&mut self) {
        let (gone, stay) = std::mem::take(&mut self.clients)
            .into_iter()
            .partition(|client| client.gone);
        self.clients = stay;
        let gone: Vec<Client> = gone;
        for pid in gone.iter().filter_map(|client| client.exec) {
            self.execs.kill(pid);
        }
    }

    fn start(&mut self, start: wire::Start) -> Result<ContainerStatus> {
        let id = start.spec.id.clone();
        if self.containers.contains_key(&id) {
            return Err(Error::new(
                ErrorKind::AlreadyExists,
                format!("container {id} is in this pod already"),
            ));
        }
        let container = Container::start(
            &self.layout,
            &self.record,
            &self.namespaces,
            &self.hierarchies,
            start,
        )?;
        let status = container.status().clone();
        self.containers.insert(id, container);
        self.publish(&status);
        Ok(status)
    }

    fn signal(&mut self, index: usize, container: Option<&str>, signal: i32) -> Result<()> {
        match (container, self.clients[index].exec) {
            (Some(id), _) => self.container(id)?.signal(signal),
            (None, Some(pid)) if signal == libc::SIGKILL => {
                self.execs.kill(pid);
                Ok(())
            }
            (None, Some(pid)) => super::container::send_signal(pid, signal),
            (None, None) => Err(Error::new(ErrorKind::NotRunning, "no exec runs here")),
        }
    }

    fn remove(&mut self, id: &str) -> Result<()> {
        let Some(container) = self.containers.get_mut(id) else {
            return Ok(());
        };
        if let Some(pid) = container.kill()? {
            // Its end is awaited here, so that it is gone when the caller gets the answer.
            self.wait_for(pid);
        }
        if let Some(container) = self.containers.remove(id) {
            container.remove()?;
        }
        Ok(())
    }

    fn shut_down(&mut self) -> Result<()> {
        self.hierarchies.kill(&self.record.cgroup())?;
        let ids: Vec<String> = self.containers.keys().cloned().collect();
        for id in ids {
            self.remove(&id)?;
        }
        Ok(())
    }

    /// Waits for a killed child.
    fn wait_for(&mut self, pid: Pid) {
        match waitpid(pid, None) {
            Ok(status) => self.ended(status),
            Err(error) => super::complain(&Error::machine(format!("wait for {pid}: {error}"))),
        }
    }

    fn reap(&mut self) {
        // One signal may stand for several children, so its content is ignored.
        while let Ok(Some(_)) = self.children.read_signal() {}
        while let Ok(status) = waitpid(None, Some(WaitPidFlag::WNOHANG)) {
            if status == WaitStatus::StillAlive {
                return;
            }
            self.ended(status);
        }
    }

    fn ended(&mut self, status: WaitStatus) {
        let (pid, exit) = match status {
            WaitStatus::Exited(pid, code) => (pid, Exit { code, signal: None }),
            WaitStatus::Signaled(pid, signal, _) => {
                let signal = signal as i32;
                (
                    pid,
                    Exit {
                        code: 128 + signal,
                        signal: Some(signal),
                    },
                )
            }
            _ => return,
        };
        if let Some(container) = self
            .containers
            .values_mut()
            .find(|container| container.pid() == Some(pid))
        {
            if let Err(error) = container.finish(&exit) {
                super::complain(&error);
            }
            let status = container.status().clone();
            self.publish(&status);
        }
        self.execs.ended(pid);
        for client in self.clients.iter_mut().filter(|client| client.exec == Some(pid)) {
            client.exec = None;
            client.gone |= wire::send(&mut client.stream, &Reply::Exited { code: exit.code }).is_err();
        }
    }

    fn publish(&mut self, status: &ContainerStatus) {
        let Ok(frame) = wire::frame(&Reply::Container(Box::new(status.clone()))) else {
            return;
        };
        for client in self.clients.iter_mut().filter(|client| client.subscribed) {
            client.gone |= client.stream.write_all(&frame).is_err();
        }
    }

    fn drain(&mut self, container: &str, fd: RawFd) {
        if let Some(container) = self.containers.get_mut(container)
            && let Err(error) = container.drain(fd)
        {
            super::complain(&error);
        }
    }

    fn enforce_graces(&mut self) {
        let now = Instant::now();
        for container in self.containers.values_mut() {
            if container.deadline().is_some_and(|deadline| deadline <= now)
                && let Err(error) = container.kill()
            {
                super::complain(&error);
            }
        }
    }
}

fn unknown(container: &str) -> Error {
    Error::new(
        ErrorKind::NotFound,
        format!("container {container} is not in this pod"),
    )
}

fn readable(fd: BorrowedFd<'_>) -> PollFd<'_> {
    PollFd::new(fd, PollFlags::POLLIN)
}

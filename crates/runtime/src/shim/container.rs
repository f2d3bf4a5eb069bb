//! One container of the pod: its root file system, process, output and end.

use std::fs::{self, File};
use std::io::{self, Read};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use jiff::Timestamp;
use libcontainer::container::Container as OciContainer;
use libcontainer::container::builder::ContainerBuilder;
use libcontainer::oci_spec::runtime::{LinuxSeccomp, Process};
use libcontainer::syscall::syscall::SyscallType;
use nix::fcntl::OFlag;
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sys::signal::Signal;
use nix::unistd::{Pid, pipe2};
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::PodRecord;
use super::bundle::{self, Bundle, Parts};
use super::entry::{self, Entry};
use super::executor::Payload;
use super::log::{Lines, LogFile, Stream};
use super::volumes::{self, Namespaces};
use super::{nodes, sandbox, users};
use crate::beneath::Root;
use crate::bounded;
use crate::cgroup::{Group, Hierarchies};
use crate::error::Context as _;
use crate::layout::{self, ContainerLayout, PodLayout};
use crate::patience::read_within;
use crate::wire;
use crate::{ContainerSpec, ContainerState, ContainerStatus, Error, ErrorKind, ExecSpec, Result};

/// Bytes of one read from a container's stream.
const CHUNK: usize = 64 << 10;

/// Bytes that are read from a stream after its container has ended. A pipe holds at most this much
/// unless root enlarges it.
const LAST_OUTPUT: usize = 1 << 20;

/// Timeout of `execve`. It needs milliseconds unless a disk hangs.
const EXEC_LIMIT: Duration = Duration::from_secs(10);

/// A container of the pod.
pub(super) struct Container {
    layout: ContainerLayout,
    oci_root: PathBuf,
    hierarchies: Hierarchies,
    status: ContainerStatus,
    process: Process,
    filter: Option<LinuxSeccomp>,
    environment: Vec<(String, String)>,
    stop_signal: Signal,
    outputs: Vec<Output>,
    log: Option<LogFile>,
    deadline: Option<Instant>,
    execs: u64,
}

struct Output {
    file: File,
    lines: Lines,
}

/// Result of a process that ended.
pub(super) struct Exit {
    pub(super) code: i32,
    pub(super) signal: Option<i32>,
}

/// A process that runs in a container, and our ends of the requested streams (input, output, error)
/// or of its terminal.
pub(super) struct Started {
    pub(super) pid: Pid,
    /// Cgroup of the process and of everything that it starts.
    pub(super) group: Group,
    pub(super) streams: Vec<OwnedFd>,
}

impl Container {
    pub(super) fn start(
        pod: &PodLayout,
        record: &PodRecord,
        namespaces: &Namespaces,
        hierarchies: &Hierarchies,
        start: wire::Start,
    ) -> Result<Container> {
        layout::check_id("container", &start.spec.id, 100)?;
        let place = pod.container(&start.spec.id);
        let cgroup = format!("{}/{}", record.cgroup(), start.spec.id);
        let id = start.spec.id.clone();
        let started = Container::try_start(pod, record, namespaces, hierarchies, start, &place, &cgroup);
        if started.is_err() {
            // A failed start must leave nothing behind. The first error is returned.
            let cleared = hierarchies
                .kill(&cgroup)
                .and_then(|()| hierarchies.remove(&cgroup))
                .and_then(|()| layout::remove_tree(&pod.oci().join(id)))
                .and_then(|()| unmount(&place.rootfs()))
                .and_then(|()| layout::remove_tree(&place.0));
            if let Err(error) = cleared {
                super::complain(&error);
            }
        }
        started
    }

    fn try_start(
        pod: &PodLayout,
        record: &PodRecord,
        namespaces: &Namespaces,
        hierarchies: &Hierarchies,
        start: wire::Start,
        place: &ContainerLayout,
        cgroup: &str,
    ) -> Result<Container> {
        let wire::Start { spec, image, layers } = start;
        mount_rootfs(place, &layers)?;
        layout::write_json(&place.layers(), &image.layers)?;
        let rootfs = place.rootfs();
        let user = users::resolve(&rootfs, &spec.security, &image.user)?;
        let oom_score_adj = OomScore::reachable(spec.resources.oom_score_adj.unwrap_or(0))?;
        let devices = nodes::devices(&spec)?;
        let Bundle { config, environment } = bundle::bundle(&Parts {
            sandbox: &record.spec,
            spec: &spec,
            image: &image,
            user: &user,
            rootfs: &rootfs,
            shared_memory: &sandbox::shared_memory(pod),
            cgroup,
            oom_score_adj,
            devices: &devices,
            hierarchies,
        })?;
        let working_dir = Path::new(config["process"]["cwd"].as_str().unwrap_or("/"));
        Root::container(&rootfs)
            .and_then(|root| root.make_folders(working_dir, 0o755))
            .context(|| format!("create the folder {} of the container", working_dir.display()))?;
        layout::write_json(&place.bundle_config(), &config)?;
        let log = match &spec.log_path {
            Some(path) => {
                Some(LogFile::open(path).context(|| format!("open log {}", path.path().display()))?)
            }
            None => None,
        };
        let oci_root = pod.oci();
        fs::create_dir_all(&oci_root).context(|| format!("create {}", oci_root.display()))?;
        let payload = |failure| {
            let payload = Payload::new(failure, environment.clone());
            match spec
                .mounts
                .iter()
                .any(|mount| working_dir.starts_with(&mount.target))
            {
                true => payload.with_folder(working_dir.to_owned()),
                false => payload,
            }
        };
        let attach = |pid| {
            hierarchies.confine(cgroup, devices.rules.as_deref())?;
            let read_only = spec.security.read_only_root;
            volumes::attach(namespaces, pid, &spec.mounts, working_dir, read_only)
        };
        let (pid, outputs) = launch(&spec, place, &oci_root, payload, attach)?;
        let status = ContainerStatus {
            id: spec.id.clone(),
            annotations: spec.annotations.clone(),
            image: spec.image.clone(),
            image_id: image.id.clone(),
            image_ref: image.reference.clone(),
            state: ContainerState::Running {
                pid: pid.as_raw(),
                started_at: Timestamp::now(),
            },
            cgroup: cgroup.to_owned(),
        };
        let container = Container {
            layout: place.clone(),
            oci_root,
            hierarchies: hierarchies.clone(),
            status,
            process: part_of(&config["process"], "process")?,
            filter: part_of(&config["linux"]["seccomp"], "seccomp profile")?,
            environment,
            stop_signal: stop_signal(image.stop_signal.as_deref()),
            outputs,
            log,
            deadline: None,
            execs: 0,
        };
        container.save()?;
        Ok(container)
    }

    pub(super) fn status(&self) -> &ContainerStatus {
        &self.status
    }

    pub(super) fn pid(&self) -> Option<Pid> {
        match self.status.state {
            ContainerState::Running { pid, .. } => Some(Pid::from_raw(pid)),
            ContainerState::Exited { .. } => None,
        }
    }

    /// Returns the end of the grace period.
    pub(super) fn deadline(&self) -> Option<Instant> {
        self.deadline
    }

    pub(super) fn outputs(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        self.outputs.iter().map(|output| output.file.as_fd())
    }

    fn save(&self) -> Result<()> {
        layout::write_json(&self.layout.status(), &self.status)
    }

    /// Sends the stop signal. A later call may shorten the grace period, but not extend it.
    pub(super) fn stop(&mut self, grace: Duration) -> Result<()> {
        let Some(pid) = self.pid() else { return Ok(()) };
        if grace.is_zero() {
            return self.kill().map(drop);
        }
        let deadline = Instant::now() + grace;
        if self.deadline.is_none() {
            send_signal(pid, self.stop_signal as i32)?;
        }
        self.deadline = Some(self.deadline.map_or(deadline, |earlier| earlier.min(deadline)));
        Ok(())
    }

    /// Kills the container. Its end is handled like any other. Returns the process to wait for.
    pub(super) fn kill(&mut self) -> Result<Option<Pid>> {
        self.deadline = None;
        match self.pid() {
            Some(pid) => send_signal(pid, libc::SIGKILL).map(|()| Some(pid)),
            None => Ok(None),
        }
    }

    pub(super) fn signal(&self, signal: i32) -> Result<()> {
        match self.pid() {
            Some(pid) => send_signal(pid, signal),
            None => Err(self.not_running()),
        }
    }

    fn not_running(&self) -> Error {
        Error::new(
            ErrorKind::NotRunning,
            format!("container {} is not running", self.status.id),
        )
    }

    /// Copies the available output of a stream to the log. Removes the stream at its end.
    pub(super) fn drain(&mut self, fd: RawFd) -> Result<()> {
        let Some(index) = self
            .outputs
            .iter()
            .position(|output| output.file.as_raw_fd() == fd)
        else {
            return Ok(());
        };
        let output = &mut self.outputs[index];
        let mut chunk = vec![0; CHUNK];
        let mut lines = Vec::new();
        let now = Timestamp::now();
        match output.file.read(&mut chunk) {
            Ok(count) if count > 0 => output.lines.push(&chunk[..count], now, &mut lines),
            Err(error)
                if matches!(
                    error.kind(),
                    io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted
                ) => {}
            // Reading a terminal fails after its other end is closed.
            Ok(_) | Err(_) => {
                output.lines.finish(now, &mut lines);
                self.outputs.remove(index);
            }
        }
        self.write_log(&lines)
    }

    fn write_log(&mut self, lines: &[u8]) -> Result<()> {
        match &mut self.log {
            Some(log) => log
                .write(lines)
                .context(|| format!("write the log of container {}", self.status.id)),
            None => Ok(()),
        }
    }

    /// Reads the rest of the streams. Processes of other containers may hold them and keep writing,
    /// so at most [`LAST_OUTPUT`] bytes are read.
    fn drain_all(&mut self) -> Result<()> {
        let mut chunk = vec![0; CHUNK];
        for mut output in std::mem::take(&mut self.outputs) {
            let (now, mut left) = (Timestamp::now(), LAST_OUTPUT);
            let mut lines = Vec::new();
            while let Ok(count) = output.file.read(&mut chunk)
                && count > 0
                && left > 0
            {
                left = left.saturating_sub(count);
                output.lines.push(&chunk[..count], now, &mut lines);
                self.write_log(&std::mem::take(&mut lines))?;
            }
            output.lines.finish(now, &mut lines);
            self.write_log(&lines)?;
        }
        Ok(())
    }

    /// Handles the end of the first process: kills the other processes, saves the output and frees
    /// the resources.
    pub(super) fn finish(&mut self, exit: &Exit) -> Result<()> {
        let ContainerState::Running { started_at, .. } = self.status.state else {
            return Ok(());
        };
        let cgroup = self.status.cgroup.clone();
        let killed = self.hierarchies.kill(&cgroup);
        let drained = self.drain_all();
        self.deadline = None;
        self.status.state = ContainerState::Exited {
            exit_code: exit.code,
            signal: exit.signal,
            // If a child was killed but the container succeeded, it did not end because of the
            // kill.
            oom_killed: exit.code != 0 && self.hierarchies.oom_kills(&cgroup) > 0,
            started_at,
            finished_at: Timestamp::now(),
        };
        self.log = None;
        self.save()?;
        killed?;
        drained?;
        self.hierarchies.remove(&cgroup)?;
        layout::remove_tree(&self.oci_root.join(&self.status.id))?;
        unmount(&self.layout.rootfs())
    }

    /// Removes an ended container.
    pub(super) fn remove(self) -> Result<()> {
        unmount(&self.layout.rootfs())?;
        layout::remove_tree(&self.layout.0)
    }

    /// Runs a process in the container.
    pub(super) fn exec(&mut self, namespaces: &Namespaces, exec: &ExecSpec) -> Result<Started> {
        let first = self.pid().ok_or_else(|| self.not_running())?;
        if exec.command.is_empty() {
            return Err(Error::invalid("no command specified"));
        }
        let mut process = self.process.clone();
        process.set_args(Some(exec.command.clone()));
        let mut environment = self.environment.clone();
        if exec.tty && !environment.iter().any(|(name, _)| name == "TERM") {
            environment.push(("TERM".into(), "xterm".into()));
        }
        self.execs += 1;
        let name = format!("exec{}", self.execs);
        let group = self.hierarchies.group(&self.status.cgroup, &name)?;
        let entry = Entry {
            first,
            hierarchies: &self.hierarchies,
            cgroup: &self.status.cgroup,
            group: &group,
            process: &process,
            filter: self.filter.as_ref(),
            terminal: exec.tty,
        };
        let started = exec_streams(namespaces, first, exec)
            .and_then(|(theirs, ours)| Ok((entry.start(theirs, environment)?, ours)));
        match started {
            Ok((pid, streams)) => Ok(Started { pid, group, streams }),
            Err(error) => {
                group.kill();
                // If this fails, the cgroup is removed with the container's.
                group.remove();
                // The namespaces of an ending container are removed one after the other, and each
                // missing one causes another error.
                Err(match entry::is_ending(first) {
                    true => self.not_running(),
                    false => error,
                })
            }
        }
    }
}

/// Returns a part of a container's config.
fn part_of<T: DeserializeOwned>(config: &Value, what: &str) -> Result<T> {
    serde_json::from_value(config.clone())
        .map_err(|cause| Error::new(ErrorKind::StartFailed, format!("{what}: {cause}")))
}

/// Sends a signal to a process. Succeeds if the process has ended.
pub(super) fn send_signal(pid: Pid, signal: i32) -> Result<()> {
    let signal =
        Signal::try_from(signal).map_err(|_| Error::invalid(format!("signal {signal} is unknown")))?;
    match nix::sys::signal::kill(pid, signal) {
        Ok(()) | Err(nix::errno::Errno::ESRCH) => Ok(()),
        Err(error) => Err(Error::machine(format!("send {signal} to {pid}: {error}"))),
    }
}

/// Parses a signal as images write it: `SIGQUIT`, `QUIT` or `3`. Returns SIGTERM if it is missing
/// or not valid.
fn stop_signal(text: Option<&str>) -> Signal {
    let Some(text) = text else { return Signal::SIGTERM };
    let by_number = text
        .parse::<i32>()
        .ok()
        .and_then(|number| Signal::try_from(number).ok());
    let name = text.to_ascii_uppercase();
    let name = if name.starts_with("SIG") {
        name
    } else {
        format!("SIG{name}")
    };
    by_number.or_else(|| name.parse().ok()).unwrap_or(Signal::SIGTERM)
}

fn mount_rootfs(place: &ContainerLayout, layers: &[PathBuf]) -> Result<()> {
    for folder in [place.upper(), place.work(), place.rootfs()] {
        fs::create_dir_all(&folder).context(|| format!("create {}", folder.display()))?;
    }
    let rootfs = place.rootfs();
    // An overlay needs a lower folder; an image without layers gets an empty one.
    let Some(store) = layers.first().and_then(|layer| layer.parent()) else {
        return Err(Error::invalid("the image has no layers"));
    };
    let names: Option<Vec<&str>> = layers
        .iter()
        .rev()
        .map(|layer| layer.file_name()?.to_str())
        .collect();
    let names = names.ok_or_else(|| Error::invalid("a layer's name is not text"))?;
    // Relative names, because all options must fit in one page.
    nix::unistd::chdir(store).context(|| format!("change to {}", store.display()))?;
    let options = format!(
        "lowerdir={},upperdir={},workdir={}",
        names.join(":"),
        escaped(&place.upper()),
        escaped(&place.work())
    );
    let overlay = |options: &str| {
        mount(
            Some("overlay"),
            &rootfs,
            Some("overlay"),
            MsFlags::empty(),
            Some(options),
        )
    };
    // A container's own files need not survive a power failure. Syncing them would delay the
    // container's end until the whole disk is written.
    match overlay(&format!("{options},volatile")) {
        // Kernels before 5.10.
        Err(nix::errno::Errno::EINVAL) => overlay(&options),
        other => other,
    }
    .context(|| format!("mount the image at {}", rootfs.display()))
}

/// Escapes commas and colons, which separate the options of an overlay.
fn escaped(path: &Path) -> String {
    path.display()
        .to_string()
        .replace('\\', "\\\\")
        .replace(',', "\\,")
        .replace(':', "\\:")
}

fn unmount(rootfs: &Path) -> Result<()> {
    match umount2(rootfs, MntFlags::MNT_DETACH) {
        // Not mounted, or it does not exist.
        Ok(()) | Err(nix::errno::Errno::EINVAL | nix::errno::Errno::ENOENT) => Ok(()),
        Err(error) => Err(Error::machine(format!("unmount {}: {error}", rootfs.display()))),
    }
}

/// Creates the container's first process, calls `attach` with it, and starts it. Returns the
/// process and our ends of its streams. While `attach` runs, the process is in its cgroup, and no
/// program of the image runs.
fn launch(
    spec: &ContainerSpec,
    place: &ContainerLayout,
    oci_root: &Path,
    payload: impl FnOnce(OwnedFd) -> Payload,
    attach: impl FnOnce(Pid) -> Result<()>,
) -> Result<(Pid, Vec<Output>)> {
    let (failure_reader, failure) = pipe()?;
    let mut builder = builder(&spec.id, oci_root)?.with_executor(payload(failure));
    let console = if spec.tty {
        Some(Console::new(&place.0)?)
    } else {
        None
    };
    let mut outputs = Vec::new();
    if let Some(console) = &console {
        builder = builder.with_console_socket(Some(&console.path));
    } else {
        builder = builder.with_stdin(null()?);
        let (output, stdout) = pipe()?;
        let (errors, stderr) = pipe()?;
        builder = builder.with_stdout(stdout).with_stderr(stderr);
        for (reader, stream) in [(output, Stream::Stdout), (errors, Stream::Stderr)] {
            outputs.push(Output {
                file: nonblocking(reader)?,
                lines: Lines::new(stream),
            });
        }
    }
    let oom_score = OomScore::keep()?;
    let created = builder
        .as_init(&place.0)
        .with_systemd(false)
        .with_detach(true)
        .build();
    oom_score.restore()?;
    let mut container: OciContainer = created.map_err(|error| start_failed(&error))?;
    if let Some(console) = console {
        outputs.push(Output {
            file: nonblocking(console.master()?)?,
            lines: Lines::new(Stream::Stdout),
        });
    }
    let pid = container
        .pid()
        .ok_or_else(|| Error::new(ErrorKind::StartFailed, "the container has no process"))?;
    let pid = Pid::from_raw(pid.as_raw());
    attach(pid)?;
    container.start().map_err(|error| start_failed(&error))?;
    exec_succeeded(failure_reader)?;
    Ok((pid, outputs))
}

/// Returns the standard streams of a command, and our ends of the requested ones.
fn exec_streams(
    namespaces: &Namespaces,
    first: Pid,
    exec: &ExecSpec,
) -> Result<([OwnedFd; 3], Vec<OwnedFd>)> {
    if exec.tty {
        let (ours, theirs) = entry::terminal(namespaces, first)?;
        let copy = || theirs.try_clone().context(|| "copy the terminal");
        return Ok(([copy()?, copy()?, copy()?], vec![ours]));
    }
    let mut streams = Vec::new();
    let stdin = if exec.stdin {
        let (reader, ours) = pipe()?;
        streams.push(ours);
        reader
    } else {
        null()?.into()
    };
    let stdout = output_end(exec.stdout, &mut streams)?;
    let stderr = output_end(exec.stderr, &mut streams)?;
    Ok(([stdin, stdout, stderr], streams))
}

fn builder(id: &str, oci_root: &Path) -> Result<ContainerBuilder> {
    ContainerBuilder::new(id.to_owned(), SyscallType::default())
        .with_root_path(oci_root)
        .map_err(|error| start_failed(&error))
}

pub(super) fn pipe() -> Result<(OwnedFd, OwnedFd)> {
    pipe2(OFlag::O_CLOEXEC).context(|| "make a pipe")
}

fn null() -> Result<File> {
    File::options()
        .read(true)
        .write(true)
        .open("/dev/null")
        .context(|| "open /dev/null")
}

fn output_end(wanted: bool, streams: &mut Vec<OwnedFd>) -> Result<OwnedFd> {
    if !wanted {
        return Ok(null()?.into());
    }
    let (ours, theirs) = pipe()?;
    streams.push(ours);
    Ok(theirs)
}

fn nonblocking(fd: OwnedFd) -> Result<File> {
    nix::fcntl::fcntl(&fd, nix::fcntl::FcntlArg::F_SETFL(OFlag::O_NONBLOCK))
        .context(|| "prepare a stream")?;
    Ok(File::from(fd))
}

/// Waits for `execve`: on success the pipe is closed, on failure it contains a message. Another
/// process of the container can stop this one first, or the program can be on a file system that
/// does not answer. The shim serves the whole pod, so the wait has a timeout.
pub(super) fn exec_succeeded(failure: OwnedFd) -> Result<()> {
    let said = read_within(File::from(failure), EXEC_LIMIT).context(|| "wait for the program to start")?;
    let message = match said {
        Some(message) if message.is_empty() => return Ok(()),
        Some(message) => String::from_utf8_lossy(&message).into_owned(),
        None => format!("the program did not start within {} s", EXEC_LIMIT.as_secs()),
    };
    Err(Error::new(ErrorKind::StartFailed, message))
}

/// Returns libcontainer's message with all causes.
fn start_failed(error: &dyn std::error::Error) -> Error {
    let mut words = error.to_string();
    let mut cause = error.source();
    while let Some(inner) = cause {
        let text = inner.to_string();
        if !words.contains(&text) {
            words = format!("{words}: {text}");
        }
        cause = inner.source();
    }
    Error::new(ErrorKind::StartFailed, words)
}

/// Socket through which libcontainer sends the terminal that it created.
struct Console {
    path: PathBuf,
    listener: UnixListener,
}

impl Console {
    fn new(folder: &Path) -> Result<Console> {
        let path = folder.join("console.sock");
        // May remain from an exec that could not start.
        fs::remove_file(&path).ok();
        let listener = wire::with_short_path(&path, |path| UnixListener::bind(path))
            .context(|| format!("listen on {}", path.display()))?;
        Ok(Console { path, listener })
    }

    fn master(self) -> Result<OwnedFd> {
        use nix::sys::socket::{ControlMessageOwned, MsgFlags, recvmsg};
        use std::os::fd::FromRawFd as _;
        let (stream, _) = self.listener.accept().context(|| "take over the terminal")?;
        let mut text = [0u8; 4096];
        let mut parts = [io::IoSliceMut::new(&mut text)];
        let mut space = nix::cmsg_space!([RawFd; 1]);
        let message = recvmsg::<()>(
            stream.as_raw_fd(),
            &mut parts,
            Some(&mut space),
            MsgFlags::MSG_CMSG_CLOEXEC,
        )
        .context(|| "take over the terminal")?;
        for control in message.cmsgs().context(|| "take over the terminal")? {
            if let ControlMessageOwned::ScmRights(rights) = control
                && let Some(fd) = rights.first()
            {
                // SAFETY: the kernel made this descriptor for us in this very call; nobody else owns it.
                return Ok(unsafe { OwnedFd::from_raw_fd(*fd) });
            }
        }
        Err(Error::machine("no terminal came from the container"))
    }
}

impl Drop for Console {
    fn drop(&mut self) {
        // If this fails, it is removed with the container's folder.
        fs::remove_file(&self.path).ok();
    }
}

/// The shim's own `oom_score_adj`. libcontainer overwrites it with the container's.
struct OomScore(String);

impl OomScore {
    const FILE: &str = "/proc/self/oom_score_adj";

    fn keep() -> Result<OomScore> {
        bounded::kernel(Self::FILE)
            .map(OomScore)
            .context(|| format!("read {}", Self::FILE))
    }

    fn restore(self) -> Result<()> {
        fs::write(Self::FILE, self.0.trim()).context(|| format!("write {}", Self::FILE))
    }

    /// Returns the closest value that the kernel permits. Without CAP_SYS_RESOURCE it permits none
    /// below the process's own.
    fn reachable(wanted: i32) -> Result<i32> {
        let own = OomScore::keep()?;
        if fs::write(Self::FILE, wanted.to_string()).is_ok() {
            own.restore()?;
            return Ok(wanted);
        }
        Ok(own.0.trim().parse().unwrap_or(0).max(wanted))
    }
}

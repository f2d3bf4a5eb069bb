//! Enters a running container to run a command in it.
//!
//! A process in the container with CAP_SYS_PTRACE can access the root, descriptors and privileges
//! of every process in its PID namespace. Therefore the entering process stays outside that PID
//! namespace while it takes the container's root and privileges and closes the shim's descriptors.
//! Only its child, which becomes the command, is created inside. libcontainer does this in the
//! opposite order.

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::os::fd::{AsFd as _, AsRawFd as _, FromRawFd as _, OwnedFd, RawFd};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicI32, Ordering};
use std::time::Duration;

use libcontainer::capabilities;
use libcontainer::oci_spec::runtime::{LinuxSeccomp, Process};
use libcontainer::syscall::syscall::create_syscall;
use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sched::{CloneFlags, setns};
use nix::sys::prctl;
use nix::sys::signal::{Signal, kill};
use nix::sys::stat::{Mode, fstat, major, minor};
use nix::sys::statfs::{FsType, fstatfs};
use nix::sys::wait::waitpid;
use nix::unistd::{ForkResult, Gid, Pid, Uid, fork, setgroups, setresgid, setresuid};

use super::container::{exec_succeeded, pipe};
use super::executor::{Payload, change_folder, close_others, io_words};
use super::volumes::{self, Namespaces};
use crate::beneath::{Root, magic_path};
use crate::cgroup::{Group, Hierarchies};
use crate::error::Context as _;
use crate::{Error, ErrorKind, Result};

/// Timeout for entering. It needs milliseconds, unless the working directory is on a file system
/// that does not answer.
const LIMIT: Duration = Duration::from_secs(10);

/// Path at which a container opens its terminals.
const TERMINALS: &str = "/dev/pts/ptmx";
/// `DEVPTS_SUPER_MAGIC` of `linux/magic.h`.
const DEVPTS: FsType = FsType(0x1cd1);
/// The device number of [`TERMINALS`].
const PTMX: (u64, u64) = (5, 2);

/// Input of a command apart from its arguments.
pub(super) struct Entry<'a> {
    /// The container's first process.
    pub(super) first: Pid,
    pub(super) hierarchies: &'a Hierarchies,
    /// Cgroup of the container.
    pub(super) cgroup: &'a str,
    /// Cgroup of the command, below the container's.
    pub(super) group: &'a Group,
    pub(super) process: &'a Process,
    pub(super) filter: Option<&'a LinuxSeccomp>,
    /// Whether its standard input is a terminal.
    pub(super) terminal: bool,
}

/// Returns whether a container with this first process has ended or is ending.
pub(super) fn is_ending(first: Pid) -> bool {
    fs::read_link(format!("/proc/{first}/ns/mnt")).is_err()
}

impl Entry<'_> {
    /// Starts the command with these standard streams. Its process is a child of the shim.
    pub(super) fn start(&self, streams: [OwnedFd; 3], environment: Vec<(String, String)>) -> Result<Pid> {
        let (failure_reader, failure) = pipe()?;
        let payload = Payload::new(failure, environment);
        let namespaces = ["cgroup", "mnt", "pid"].map(|kind| {
            let path = format!("/proc/{}/ns/{kind}", self.first);
            File::open(&path).context(|| format!("open {path}"))
        });
        let [cgroup, mount, pid] = namespaces;
        let namespaces = [cgroup?, mount?, pid?];
        let entrance = self.group.entrance()?;
        let born = Shared::new().context(|| "share a page of memory")?;
        // SAFETY: this process has one thread, so no other thread can hold a lock in the child.
        let child = match unsafe { fork() }.context(|| "start a process")? {
            ForkResult::Child => {
                let entered = catch_unwind(AssertUnwindSafe(|| {
                    self.enter(&streams, &namespaces, entrance, &payload, &born)
                }));
                match entered {
                    Ok(Ok(())) => {}
                    Ok(Err(error)) => payload.fail(&error.to_string()),
                    Err(_) => payload.fail("enter the container: the process panicked"),
                }
                // SAFETY: it ends this process, which owns nothing but copies.
                unsafe { libc::_exit(0) };
            }
            ForkResult::Parent { child } => child,
        };
        drop((streams, payload));
        if !ends_within(child, LIMIT).context(|| "wait for the process that enters the container")? {
            kill(child, Signal::SIGKILL).context(|| format!("end process {child}"))?;
            let message = format!("the container could not be entered within {} s", LIMIT.as_secs());
            return Err(Error::new(ErrorKind::StartFailed, message));
        }
        waitpid(child, None).context(|| format!("wait for process {child}"))?;
        exec_succeeded(failure_reader)?;
        match born.get() {
            0 => Err(Error::new(
                ErrorKind::StartFailed,
                "the process that enters the container was ended",
            )),
            child => Ok(Pid::from_raw(child)),
        }
    }

    /// Runs in the process that enters. On success its child becomes the command.
    fn enter(
        &self,
        streams: &[OwnedFd; 3],
        namespaces: &[File; 3],
        mut entrance: File,
        payload: &Payload,
        born: &Shared,
    ) -> Result<()> {
        let process = self.process;
        // Prevents processes without CAP_SYS_PTRACE from inspecting this process, and its child
        // until it becomes the command.
        prctl::set_dumpable(false).context(|| "hide the process")?;
        if let Some(score) = process.oom_score_adj() {
            fs::write("/proc/self/oom_score_adj", score.to_string())
                .context(|| "set the out-of-memory score")?;
        }
        self.hierarchies.enter(self.cgroup)?;
        entrance
            .write_all(b"0")
            .context(|| "enter the command's cgroup")?;
        drop(entrance);
        nix::unistd::dup2_stdin(&streams[0])
            .and_then(|()| nix::unistd::dup2_stdout(&streams[1]))
            .and_then(|()| nix::unistd::dup2_stderr(&streams[2]))
            .context(|| "set the standard streams")?;
        let kinds = [
            CloneFlags::CLONE_NEWCGROUP,
            CloneFlags::CLONE_NEWNS,
            CloneFlags::CLONE_NEWPID,
        ];
        for (namespace, kind) in namespaces.iter().zip(kinds) {
            setns(namespace, kind).context(|| "enter the container's namespaces")?;
        }
        close_others(payload.failure());
        let folder = process.cwd();
        // Only root or only the command's user may be able to enter the folder.
        let changed = change_folder(folder);
        self.take_rights()?;
        changed.or_else(|_| change_folder(folder)).map_err(|error| {
            let words = io_words(&error);
            let message = format!("chdir to cwd ({folder:?}) set in config failed: {words}");
            Error::new(ErrorKind::StartFailed, message)
        })?;
        born.keep_from_children().context(|| "keep a page of memory")?;
        match clone_sibling().context(|| "start the command's process")? {
            Some(child) => born.set(child),
            None => self.run(payload),
        }
        Ok(())
    }

    /// Sets the user, groups, seccomp filter and capabilities of the command. Its process never has
    /// others in the container.
    fn take_rights(&self) -> Result<()> {
        let syscall = create_syscall();
        let user = self.process.user();
        let (uid, gid) = (Uid::from_raw(user.uid()), Gid::from_raw(user.gid()));
        if let Some(groups) = user.additional_gids() {
            let groups: Vec<Gid> = groups.iter().copied().map(Gid::from_raw).collect();
            setgroups(&groups).context(|| "set the groups")?;
        }
        prctl::set_keepcaps(true)
            .and_then(|()| setresgid(gid, gid, gid))
            .and_then(|()| setresuid(uid, uid, uid))
            .and_then(|()| prctl::set_keepcaps(false))
            .context(|| format!("become user {uid} of group {gid}"))?;
        capabilities::reset_effective(&*syscall).context(|| "set the capabilities")?;
        if self.gives_up_privileges() {
            prctl::set_no_new_privs().context(|| "give up new privileges")?;
        } else if let Some(filter) = self.filter {
            // Loading the filter requires a capability that may be dropped next.
            libcontainer::seccomp::initialize_seccomp(filter).context(|| "load the system call filter")?;
        }
        match self.process.capabilities() {
            Some(held) => capabilities::drop_privileges(held, &*syscall).context(|| "drop capabilities"),
            None => Ok(()),
        }
    }

    fn gives_up_privileges(&self) -> bool {
        self.process.no_new_privileges() == Some(true)
    }

    /// Runs in the process inside the container.
    fn run(&self, payload: &Payload) {
        // Neither call fails in a new process. Without its controlling terminal the command has no
        // job control.
        nix::unistd::setsid().ok();
        if self.terminal {
            // SAFETY: the call takes numbers only.
            unsafe { libc::ioctl(0, libc::TIOCSCTTY, 0) };
        }
        let filter = self.filter.filter(|_| self.gives_up_privileges());
        let words = self.process.args().clone().unwrap_or_default();
        payload.fail(&payload.run(&words, filter));
    }
}

/// Creates a terminal of the container. Returns the master and the slave.
pub(super) fn terminal(namespaces: &Namespaces, first: Pid) -> Result<(OwnedFd, OwnedFd)> {
    let opened = || format!("open {TERMINALS} of the container");
    let found = namespaces.inside(&volumes::namespace(&first.to_string())?, || {
        let root = Root::container(Path::new("/")).context(opened)?;
        root.open(Path::new(TERMINALS)).context(opened)
    })?;
    let status = fstat(&found).context(opened)?;
    let number = (major(status.st_rdev), minor(status.st_rdev));
    if fstatfs(&found).context(opened)?.filesystem_type() != DEVPTS || number != PTMX {
        return Err(Error::new(
            ErrorKind::StartFailed,
            format!("{TERMINALS} of the container does not make terminals"),
        ));
    }
    let flags = OFlag::O_RDWR | OFlag::O_NOCTTY | OFlag::O_CLOEXEC;
    let master = nix::fcntl::open(&magic_path(&found, "".as_ref()), flags, Mode::empty()).context(opened)?;
    let unlock: libc::c_int = 0;
    // SAFETY: the descriptor is a terminal. The kernel reads a number in the first call, and the
    // second creates a new descriptor.
    let slave = unsafe {
        let unlocked = libc::ioctl(master.as_raw_fd(), libc::TIOCSPTLCK, &raw const unlock);
        Errno::result(unlocked).context(|| "unlock a terminal")?;
        let slave = libc::ioctl(master.as_raw_fd(), libc::TIOCGPTPEER, flags.bits());
        OwnedFd::from_raw_fd(Errno::result(slave).context(|| "open a terminal")?)
    };
    Ok((master, slave))
}

/// Forks a sibling of this process, so that both have the same parent. Returns `None` in the child.
fn clone_sibling() -> nix::Result<Option<i32>> {
    let flags = libc::c_long::from(libc::CLONE_PARENT | libc::SIGCHLD);
    let none: libc::c_long = 0;
    // SAFETY: this process has one thread, and without its own stack the child continues with a
    // copy of this one's, as after `fork`.
    let child = Errno::result(unsafe { libc::syscall(libc::SYS_clone, flags, none, none, none, none) })?;
    // A process id fits.
    Ok((child != 0).then_some(child as i32))
}

/// Waits for the end of a child. Returns false after the timeout.
fn ends_within(child: Pid, limit: Duration) -> io::Result<bool> {
    // SAFETY: the call takes numbers, and the descriptor is new.
    let watched = unsafe {
        let fd = libc::syscall(libc::SYS_pidfd_open, child.as_raw(), 0);
        OwnedFd::from_raw_fd(Errno::result(fd)? as RawFd)
    };
    let until = std::time::Instant::now() + limit;
    loop {
        let left = until.saturating_duration_since(std::time::Instant::now());
        let timeout = PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX);
        match poll(&mut [PollFd::new(watched.as_fd(), PollFlags::POLLIN)], timeout) {
            Err(Errno::EINTR) => {}
            ready => return Ok(ready? > 0),
        }
    }
}

/// A number that a child writes for this process. A pipe would be accessible to a process that
/// inspects the grandchild, which could then choose the process id that is signaled.
struct Shared(NonNull<AtomicI32>);

impl Shared {
    fn new() -> nix::Result<Shared> {
        let (protection, flags) = (
            libc::PROT_READ | libc::PROT_WRITE,
            libc::MAP_SHARED | libc::MAP_ANONYMOUS,
        );
        // SAFETY: the kernel chooses a place where nothing is.
        let page = unsafe {
            libc::mmap(
                std::ptr::null_mut(),
                size_of::<AtomicI32>(),
                protection,
                flags,
                -1,
                0,
            )
        };
        match page {
            libc::MAP_FAILED => Err(Errno::last()),
            page => NonNull::new(page.cast()).map(Shared).ok_or(Errno::ENOMEM),
        }
    }

    fn get(&self) -> i32 {
        // SAFETY: the page is there until this is dropped, zeroed, and large enough.
        unsafe { self.0.as_ref() }.load(Ordering::Acquire)
    }

    fn set(&self, value: i32) {
        // SAFETY: as above.
        unsafe { self.0.as_ref() }.store(value, Ordering::Release);
    }

    /// Excludes the page from children that are created from now on.
    fn keep_from_children(&self) -> nix::Result<()> {
        // SAFETY: the page is this one's; children do not use it.
        let kept = unsafe {
            libc::madvise(
                self.0.as_ptr().cast(),
                size_of::<AtomicI32>(),
                libc::MADV_DONTFORK,
            )
        };
        Errno::result(kept).map(drop)
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        // SAFETY: no reference to it exists any more.
        unsafe { libc::munmap(self.0.as_ptr().cast(), size_of::<AtomicI32>()) };
    }
}

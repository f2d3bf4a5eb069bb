//! The last step of a container's process: checks with the usual error messages, then `execve`.

use std::collections::HashMap;
use std::ffi::CString;
use std::fs::File;
use std::io::Write;
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use libcontainer::oci_spec::runtime::{LinuxSeccomp, Spec};
use libcontainer::workload::{Executor, ExecutorError, ExecutorSetEnvsError, ExecutorValidationError};
use nix::sys::signal::{SigSet, SigmaskHow, Signal, sigprocmask};

use crate::beneath::Root;

/// `PATH` if neither the image nor the pod sets one.
pub(super) const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Starts the program. A failure is written to a pipe; a successful `execve` closes the pipe.
#[derive(Clone)]
pub(super) struct Payload {
    failure: Arc<OwnedFd>,
    environment: Vec<(String, String)>,
    folder: Option<PathBuf>,
}

impl Payload {
    pub(super) fn new(failure: OwnedFd, environment: Vec<(String, String)>) -> Payload {
        Payload {
            failure: Arc::new(failure),
            environment,
            folder: None,
        }
    }

    /// Changes to the working directory first. It is in a volume that is mounted after libcontainer
    /// changed to the folder below the mount.
    pub(super) fn with_folder(mut self, folder: PathBuf) -> Payload {
        self.folder = Some(folder);
        self
    }

    /// Returns the pipe for failures.
    pub(super) fn failure(&self) -> &OwnedFd {
        &self.failure
    }

    /// Writes the reason why the program does not start.
    pub(super) fn fail(&self, message: &str) {
        if let Ok(copy) = self.failure.try_clone() {
            // The reader may have gone. The exit code shows the failure too.
            File::from(copy).write_all(message.as_bytes()).ok();
        }
    }

    /// Executes the program, with a seccomp filter if there is one. Returns only on failure, with
    /// the reason.
    pub(super) fn run(&self, arguments: &[String], filter: Option<&LinuxSeccomp>) -> String {
        let Some(name) = arguments.first() else {
            return "no command specified".into();
        };
        if let Some(folder) = &self.folder
            && let Err(error) = change_folder(folder)
        {
            return format!(
                "chdir to cwd ({folder:?}) set in config failed: {}",
                io_words(&error)
            );
        }
        let path = match find(name, &self.search_path()) {
            Ok(path) => path,
            Err(message) => return message,
        };
        let words: Result<Vec<CString>, _> = arguments
            .iter()
            .map(|word| CString::new(word.as_bytes()))
            .collect();
        let environment: Result<Vec<CString>, _> = self
            .environment
            .iter()
            .map(|(name, value)| CString::new(format!("{name}={value}")))
            .collect();
        let (Ok(words), Ok(environment), Ok(program)) = (
            words,
            environment,
            CString::new(path.as_os_str().as_encoded_bytes()),
        ) else {
            return format!("exec: {name:?}: a NUL byte in the command or the environment");
        };
        reset_signals();
        if let Some(filter) = filter
            && let Err(error) = libcontainer::seccomp::initialize_seccomp(filter)
        {
            return format!("load the system call filter: {error}");
        }
        match nix::unistd::execve(&program, &words, &environment) {
            Ok(never) => match never {},
            Err(error) => format!("exec {}: {}", path.display(), words_of(error)),
        }
    }

    fn search_path(&self) -> String {
        self.environment
            .iter()
            .find(|(name, _)| name == "PATH")
            .map_or_else(|| DEFAULT_PATH.to_owned(), |(_, value)| value.clone())
    }
}

impl Executor for Payload {
    fn exec(&self, spec: &Spec) -> Result<(), ExecutorError> {
        close_others(&self.failure);
        let arguments = spec.process().as_ref().and_then(|process| process.args().clone());
        // libcontainer has already loaded the container's filter.
        let message = self.run(&arguments.unwrap_or_default(), None);
        self.fail(&message);
        Err(ExecutorError::Other(message))
    }

    fn validate(&self, _: &Spec) -> Result<(), ExecutorValidationError> {
        // The program may be in a volume, which is mounted later. It is checked when it is run.
        Ok(())
    }

    fn setup_envs(&self, _: HashMap<String, String>) -> Result<(), ExecutorSetEnvsError> {
        // `execve` gets the environment in the given order.
        Ok(())
    }
}

/// Closes the shim's descriptors, except the standard streams and `kept`. Closing them in `execve`
/// would be too late: a program, an interpreter or a folder may be a path below `/proc/self/fd`.
pub(super) fn close_others(kept: &OwnedFd) {
    let kept = kept.as_raw_fd().unsigned_abs();
    let close = |first: u32, last: u32| {
        // SAFETY: this process has one thread and is about to become another program. Nothing here
        // uses those descriptors again.
        let closed = first > last || unsafe { libc::syscall(libc::SYS_close_range, first, last, 0) } == 0;
        debug_assert!(closed);
    };
    close(3, kept.saturating_sub(1));
    close(kept + 1, u32::MAX);
}

/// Changes to a folder of the container, but not through links of `/proc` such as `/proc/self/fd`.
pub(super) fn change_folder(path: &Path) -> std::io::Result<()> {
    let folder = Root::container(Path::new("/"))?.open_folder(path)?;
    Ok(nix::unistd::fchdir(&folder)?)
}

/// Resets the signals that the shim blocks or ignores, because children inherit these settings.
fn reset_signals() {
    // SAFETY: no handler of ours runs between here and `execve`; the default action needs none.
    let restored = unsafe { nix::sys::signal::signal(Signal::SIGPIPE, nix::sys::signal::SigHandler::SigDfl) }
        .and_then(|_| sigprocmask(SigmaskHow::SIG_SETMASK, Some(&SigSet::empty()), None));
    // Both fail only with invalid arguments.
    debug_assert!(restored.is_ok());
}

/// Finds a program in the container as `execvp` does.
fn find(name: &str, search_path: &str) -> Result<PathBuf, String> {
    if name.contains('/') {
        let path = Path::new(name);
        return match runnable(path) {
            Ok(()) => Ok(path.into()),
            Err(error) => Err(format!("exec: {name:?}: stat {name}: {}", io_words(&error))).map_err(|text| {
                if error.kind() == std::io::ErrorKind::PermissionDenied {
                    format!("exec: {name:?}: permission denied")
                } else {
                    text
                }
            }),
        };
    }
    let mut denied = false;
    for folder in search_path.split(':') {
        let path = Path::new(if folder.is_empty() { "." } else { folder }).join(name);
        match runnable(&path) {
            Ok(()) => return Ok(path),
            Err(error) => denied |= error.kind() == std::io::ErrorKind::PermissionDenied,
        }
    }
    Err(if denied {
        format!("exec: {name:?}: permission denied")
    } else {
        format!("exec: {name:?}: executable file not found in $PATH")
    })
}

fn runnable(path: &Path) -> std::io::Result<()> {
    let found = path.metadata()?;
    if found.is_file() && found.permissions().mode() & 0o111 != 0 {
        Ok(())
    } else {
        Err(std::io::ErrorKind::PermissionDenied.into())
    }
}

pub(super) fn io_words(error: &std::io::Error) -> String {
    match error.raw_os_error() {
        Some(number) => words_of(nix::errno::Errno::from_raw(number)),
        None => error.to_string(),
    }
}

/// Returns an error as other runtimes print it, such as `no such file or directory`.
fn words_of(error: nix::errno::Errno) -> String {
    error.desc().to_lowercase()
}

//! A process run in a container, from the caller's side.

use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::sync::Mutex;
use std::time::Duration;

use crate::error::Context as _;
use crate::wire::{self, Reply, Request};
use crate::{Error, ErrorKind, ExecSpec, Result, TerminalSize};

/// A process that was started in a container by [`crate::Pod::exec`]. Dropping it lets the process be.
#[derive(Debug)]
pub struct Exec {
    connection: Mutex<UnixStream>,
    /// The same connection, to send on while another thread waits on it.
    signals: Mutex<UnixStream>,
    streams: Mutex<Streams>,
    terminal: Option<OwnedFd>,
}

#[derive(Debug, Default)]
struct Streams {
    stdin: Option<File>,
    stdout: Option<File>,
    stderr: Option<File>,
}

impl Exec {
    pub(crate) fn new(connection: UnixStream, spec: &ExecSpec, descriptors: Vec<OwnedFd>) -> Result<Exec> {
        let mut descriptors = descriptors.into_iter();
        let mut next = |wanted: bool| -> Result<Option<File>> {
            if !wanted {
                return Ok(None);
            }
            let fd = descriptors
                .next()
                .ok_or_else(|| Error::machine("a stream of the exec is missing"))?;
            Ok(Some(File::from(fd)))
        };
        let signals = connection.try_clone().context(|| "copy the exec's connection")?;
        let mut exec = Exec {
            signals: Mutex::new(signals),
            connection: Mutex::new(connection),
            streams: Mutex::default(),
            terminal: None,
        };
        let streams = if spec.tty {
            let terminal =
                next(true)?.ok_or_else(|| Error::machine("the terminal of the exec is missing"))?;
            let copy = |file: &File| file.try_clone().context(|| "copy the terminal");
            let streams = Streams {
                stdin: if spec.stdin { Some(copy(&terminal)?) } else { None },
                stdout: Some(copy(&terminal)?),
                stderr: None,
            };
            exec.terminal = Some(terminal.into());
            streams
        } else {
            Streams {
                stdin: next(spec.stdin)?,
                stdout: next(spec.stdout)?,
                stderr: next(spec.stderr)?,
            }
        };
        exec.streams = Mutex::new(streams);
        Ok(exec)
    }

    /// The process's standard input, once: writing blocks; dropping it is the end of input, but with a terminal send the
    /// end-of-transmission character (4) instead.
    pub fn stdin(&self) -> Option<File> {
        self.streams().stdin.take()
    }

    /// The process's standard output, once. A terminal's end reads as an error (`EIO`).
    pub fn stdout(&self) -> Option<File> {
        self.streams().stdout.take()
    }

    /// The process's standard error, once.
    pub fn stderr(&self) -> Option<File> {
        self.streams().stderr.take()
    }

    fn streams(&self) -> std::sync::MutexGuard<'_, Streams> {
        self.streams
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    /// Tells the process that its terminal has another size. Nothing happens without one.
    pub fn resize(&self, size: TerminalSize) -> Result<()> {
        let Some(terminal) = &self.terminal else {
            return Ok(());
        };
        let size = libc::winsize {
            ws_row: size.height,
            ws_col: size.width,
            ws_xpixel: 0,
            ws_ypixel: 0,
        };
        // SAFETY: the descriptor is open and the kernel reads one winsize.
        let result = unsafe { libc::ioctl(terminal.as_raw_fd(), libc::TIOCSWINSZ, &size) };
        if result == 0 {
            Ok(())
        } else {
            Err(Error::machine(format!(
                "resize the terminal: {}",
                io::Error::last_os_error()
            )))
        }
    }

    /// Sends the process a signal; others may wait for its end meanwhile.
    pub fn signal(&self, signal: i32) -> Result<()> {
        let mut connection = self
            .signals
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        wire::send(
            &mut connection,
            &Request::Signal {
                container: None,
                signal,
            },
        )
        .context(|| format!("send signal {signal} to the exec"))
    }

    /// Waits for the end of the process; its exit code, 128 + n after signal n, or `None` when the time is over.
    pub fn wait(&self, timeout: Duration) -> Result<Option<i32>> {
        let mut connection = self
            .connection
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        let deadline = std::time::Instant::now() + timeout;
        loop {
            let left = deadline.saturating_duration_since(std::time::Instant::now());
            if !crate::pod::readable(&connection, left).context(|| "wait for the exec")? {
                return Ok(None);
            }
            match wire::receive::<Reply>(&mut connection).context(|| "wait for the exec")? {
                Some((Reply::Exited { code }, _)) => return Ok(Some(code)),
                Some((Reply::Failed(error), _)) => return Err(error),
                Some(_) => {}
                None => {
                    return Err(Error::new(
                        ErrorKind::ShimGone,
                        "the pod ended while the exec ran",
                    ));
                }
            }
        }
    }
}

//! A process in a container, as its caller sees it. Its streams and its end are awaited on tokio's
//! reactor, so that no thread blocks on a container.

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use nix::fcntl::{FcntlArg, OFlag, fcntl};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::time::Instant;

use crate::error::Context as _;
use crate::wire::{self, Reply, Request};
use crate::{Error, ErrorKind, ExecSpec, Result, TerminalSize};

/// Bytes of one read from a stream or from the shim.
const PIECE: usize = 16 << 10;
/// Timeout for the output of a command after its first process has ended. Background processes may
/// hold the streams open forever.
pub const LAST_OUTPUT: Duration = Duration::from_secs(1);

/// A process that [`crate::Pod::exec`] started in a container. Dropping it before the process has
/// ended kills the process and everything that it started. Background processes of a process that
/// ended by itself keep running until the container ends.
#[derive(Debug)]
pub struct Exec {
    /// Used for sending. [`Exec::wait`] reads from a copy.
    connection: Mutex<UnixStream>,
    replies: tokio::sync::Mutex<Replies>,
    streams: Mutex<Streams>,
    terminal: Option<OwnedFd>,
}

#[derive(Debug, Default)]
struct Streams {
    stdin: Option<File>,
    stdout: Option<File>,
    stderr: Option<File>,
}

#[derive(Debug)]
struct Replies {
    stream: UnixStream,
    pending: Vec<u8>,
}

/// Result of a command that [`Exec::finish`] ran.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finished {
    /// The exit code, 128 + n after signal n; `None` if it was killed after the timeout.
    pub code: Option<i32>,
    /// The first bytes of its output, with standard output and error in the order in which they
    /// arrived.
    pub output: Vec<u8>,
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
        connection
            .set_nonblocking(true)
            .context(|| "prepare the exec's connection")?;
        let stream = connection.try_clone().context(|| "copy the exec's connection")?;
        let mut exec = Exec {
            connection: Mutex::new(connection),
            replies: tokio::sync::Mutex::new(Replies {
                stream,
                pending: Vec::new(),
            }),
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

    /// Returns the process's standard input; `None` after the first call. Dropping it ends the
    /// input. With a terminal, send the end-of-transmission character (4) instead.
    pub fn stdin(&self) -> Result<Option<ExecStream>> {
        self.streams().stdin.take().map(ExecStream::new).transpose()
    }

    /// Returns the process's standard output; `None` after the first call. The end of a terminal is
    /// the error `EIO`.
    pub fn stdout(&self) -> Result<Option<ExecStream>> {
        self.streams().stdout.take().map(ExecStream::new).transpose()
    }

    /// Returns the process's standard error; `None` after the first call.
    pub fn stderr(&self) -> Result<Option<ExecStream>> {
        self.streams().stderr.take().map(ExecStream::new).transpose()
    }

    fn streams(&self) -> MutexGuard<'_, Streams> {
        self.streams.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes the size of the process's terminal. Does nothing without a terminal.
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

    /// Sends a signal to the process. Another task may wait for its end meanwhile. SIGKILL also
    /// kills everything that it started.
    pub fn signal(&self, signal: i32) -> Result<()> {
        let mut connection = self.connection.lock().unwrap_or_else(PoisonError::into_inner);
        let request = Request::Signal {
            container: None,
            signal,
        };
        wire::send(&mut connection, &request).context(|| format!("send signal {signal} to the exec"))
    }

    /// Waits for the end of the process. Returns its exit code, 128 + n after signal n. The future
    /// can be dropped without loss.
    pub async fn wait(&self) -> Result<i32> {
        let mut replies = self.replies.lock().await;
        let Replies { stream, pending } = &mut *replies;
        let stream = stream.try_clone().context(|| "wait for the exec")?;
        // SAFETY: the descriptor is the stream's own, so it is open until the stream is dropped.
        let stream = unsafe { AsyncFd::register(stream) }.context(|| "wait for the exec")?;
        loop {
            match wire::take::<Reply>(pending).context(|| "wait for the exec")? {
                Some(Reply::Exited { code }) => return Ok(code),
                Some(Reply::Failed(error)) => return Err(error),
                Some(_) => continue,
                None => {}
            }
            let mut piece = [0; PIECE];
            let read = stream.async_io(Interest::READABLE, |mut stream| stream.read(&mut piece));
            match read.await.context(|| "wait for the exec")? {
                0 => {
                    return Err(Error::new(
                        ErrorKind::ShimGone,
                        "the pod ended while the exec ran",
                    ));
                }
                count => pending.extend_from_slice(&piece[..count]),
            }
        }
    }

    /// Runs the process to its end. After `limit`, kills it with everything that it started.
    /// Returns the first `keep` bytes of its output and discards the rest, so that a full pipe does
    /// not block it. Takes at most [`LAST_OUTPUT`] longer than the process.
    pub async fn finish(self, limit: Duration, keep: usize) -> Result<Finished> {
        let mut until = Instant::now() + limit;
        let (mut stdout, mut stderr) = (self.stdout()?, self.stderr()?);
        let (mut from_stdout, mut from_stderr) = ([0; PIECE], [0; PIECE]);
        let mut output = Vec::new();
        let mut code = None;
        let mut take = |stream: &mut Option<ExecStream>, piece: &[u8], read: io::Result<usize>| match read {
            Ok(count) if count > 0 => {
                let room = keep.saturating_sub(output.len());
                output.extend_from_slice(&piece[..count.min(room)]);
            }
            // The end of a terminal is an error.
            Ok(_) | Err(_) => *stream = None,
        };
        let mut ended = std::pin::pin!(self.wait());
        while code.is_none() || stdout.is_some() || stderr.is_some() {
            tokio::select! {
                exit = &mut ended, if code.is_none() => {
                    code = Some(exit?);
                    until = Instant::now() + LAST_OUTPUT;
                }
                read = read_some(&stdout, &mut from_stdout), if stdout.is_some() => {
                    take(&mut stdout, &from_stdout, read);
                }
                read = read_some(&stderr, &mut from_stderr), if stderr.is_some() => {
                    take(&mut stderr, &from_stderr, read);
                }
                () = tokio::time::sleep_until(until) => break,
            }
        }
        if code.is_none() {
            self.signal(libc::SIGKILL)?;
        }
        Ok(Finished { code, output })
    }
}

async fn read_some(stream: &Option<ExecStream>, piece: &mut [u8]) -> io::Result<usize> {
    match stream {
        Some(stream) => stream.read(piece).await,
        None => std::future::pending().await,
    }
}

/// The caller's end of a stream of an exec. Futures of reads and writes can be dropped without
/// loss.
#[derive(Debug)]
pub struct ExecStream(AsyncFd<File>);

impl ExecStream {
    fn new(file: File) -> Result<ExecStream> {
        fcntl(&file, FcntlArg::F_SETFL(OFlag::O_NONBLOCK)).context(|| "prepare a stream of the exec")?;
        // SAFETY: the descriptor is the file's own, so it is open until the file is dropped.
        let watched = unsafe { AsyncFd::register(file) };
        watched.map(ExecStream).context(|| "watch a stream of the exec")
    }

    /// Reads available bytes. Returns 0 at the end.
    pub async fn read(&self, piece: &mut [u8]) -> io::Result<usize> {
        let read = self.0.async_io(Interest::READABLE, |mut file| file.read(piece));
        read.await
    }

    /// Writes as many bytes as there is room for.
    pub async fn write(&self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.0.async_io(Interest::WRITABLE, |mut file| file.write(bytes));
        written.await
    }
}

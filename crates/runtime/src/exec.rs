//! A process run in a container, from the caller's side. Its streams and its end are awaited on tokio's reactor, so that no thread hangs on what a
//! container does.

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

/// Bytes read from a stream or from the shim at one time.
const PIECE: usize = 16 << 10;
/// How long the output of a command is read after its first process has ended: what runs on in the background may hold it open for ever.
pub const LAST_OUTPUT: Duration = Duration::from_secs(1);

/// A process that was started in a container by [`crate::Pod::exec`]. Dropping it before the process has ended ends the process and all that it has
/// started. What is still there after the process has ended by itself stays, until the container ends.
#[derive(Debug)]
pub struct Exec {
    /// Sends; [`Exec::wait`] reads from a copy.
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

/// How a command ended that was run by [`Exec::finish`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finished {
    /// The exit code, 128 + n after signal n; `None` when its time was over and it was ended.
    pub code: Option<i32>,
    /// The beginning of what it wrote, standard output and error in the order in which they came.
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

    /// The process's standard input, once: dropping it is the end of input, but with a terminal send the end-of-transmission character (4)
    /// instead.
    pub fn stdin(&self) -> Result<Option<ExecStream>> {
        self.streams().stdin.take().map(ExecStream::new).transpose()
    }

    /// The process's standard output, once. A terminal's end reads as an error (`EIO`).
    pub fn stdout(&self) -> Result<Option<ExecStream>> {
        self.streams().stdout.take().map(ExecStream::new).transpose()
    }

    /// The process's standard error, once.
    pub fn stderr(&self) -> Result<Option<ExecStream>> {
        self.streams().stderr.take().map(ExecStream::new).transpose()
    }

    fn streams(&self) -> MutexGuard<'_, Streams> {
        self.streams.lock().unwrap_or_else(PoisonError::into_inner)
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

    /// Sends the process a signal; others may wait for its end meanwhile. SIGKILL ends all that it has started, too.
    pub fn signal(&self, signal: i32) -> Result<()> {
        let mut connection = self.connection.lock().unwrap_or_else(PoisonError::into_inner);
        let request = Request::Signal {
            container: None,
            signal,
        };
        wire::send(&mut connection, &request).context(|| format!("send signal {signal} to the exec"))
    }

    /// Waits for the end of the process; its exit code, 128 + n after signal n. Dropping the future loses nothing.
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

    /// Runs the process to its end, and ends it with all that it has started when `limit` is over. Of what it writes the first `keep` bytes are
    /// kept, and the rest is thrown away, so that a full pipe does not stop it. Takes at most [`LAST_OUTPUT`] longer than the process.
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
            // A terminal whose last process has ended reads as an error.
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

/// The caller's end of a stream of an exec. Reads and writes may be dropped at any time and lose nothing.
#[derive(Debug)]
pub struct ExecStream(AsyncFd<File>);

impl ExecStream {
    fn new(file: File) -> Result<ExecStream> {
        fcntl(&file, FcntlArg::F_SETFL(OFlag::O_NONBLOCK)).context(|| "prepare a stream of the exec")?;
        // SAFETY: the descriptor is the file's own, so it is open until the file is dropped.
        let watched = unsafe { AsyncFd::register(file) };
        watched.map(ExecStream).context(|| "watch a stream of the exec")
    }

    /// Reads some bytes; 0 at the end.
    pub async fn read(&self, piece: &mut [u8]) -> io::Result<usize> {
        let read = self.0.async_io(Interest::READABLE, |mut file| file.read(piece));
        read.await
    }

    /// Writes some bytes, as many as there is room for.
    pub async fn write(&self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.0.async_io(Interest::WRITABLE, |mut file| file.write(bytes));
        written.await
    }
}

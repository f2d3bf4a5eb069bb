//! What the agent's side and a shim say to each other: JSON messages, each after its length, on a Unix stream; descriptors
//! ride along with a reply.

use std::io::{self, IoSlice, IoSliceMut, Read, Write};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::net::UnixStream;
use std::path::Path;

use nix::sys::socket::{
    AddressFamily, ControlMessage, ControlMessageOwned, MsgFlags, SockFlag, SockType, UnixAddr, recvmsg,
    sendmsg, setsockopt, sockopt,
};
use nix::sys::time::{TimeVal, TimeValLike as _};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::{ContainerSpec, ContainerStatus, Error, ExecSpec};

/// Longest message in bytes: a container's environment and mounts are the longest, bounded by the API server's 3 MiB objects.
pub(crate) const MESSAGE_LIMIT: usize = 8 << 20;

/// How long a shim's queue of connections may stay full.
const CONNECT_SECONDS: i64 = 10;

/// Descriptors that one message may carry: an exec's three streams.
const DESCRIPTORS: usize = 3;

/// What a shim is asked.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Request {
    /// Create and start a container whose image lies in these layers, lowest first.
    Start(Box<Start>),
    /// End a container: its stop signal now, SIGKILL after the grace.
    Stop { container: String, grace_ms: u64 },
    /// Send a signal to a container's first process, or with no container to the exec of this connection. SIGKILL ends all that the exec started.
    Signal { container: Option<String>, signal: i32 },
    /// Forget an ended container, kill a running one first.
    Remove { container: String },
    /// Run a process in a container; the streams come with the reply, its exit as a second reply. A connection that closes before ends it and all
    /// that it started.
    Exec { container: String, exec: ExecSpec },
    /// All containers' states, once.
    Status,
    /// All containers' states, and each later change.
    Subscribe,
    /// Kill everything and end.
    Shutdown,
}

/// A container to start, and what its image says.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Start {
    pub(crate) spec: ContainerSpec,
    pub(crate) image: crate::images::Image,
    /// Folders of the image's layers, lowest first.
    pub(crate) layers: Vec<std::path::PathBuf>,
}

/// What a shim answers.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Reply {
    /// Done; nothing to tell.
    Done,
    /// A container's state: the answer to a start, or a change.
    Container(Box<ContainerStatus>),
    /// All containers' states.
    Containers(Vec<ContainerStatus>),
    /// The process of an exec runs; its streams come along.
    Started,
    /// The process of an exec has ended.
    Exited { code: i32 },
    /// It did not work.
    Failed(Error),
}

/// Connects to a shim. The path goes through a descriptor of its folder, because a socket's path holds 107 bytes only.
pub(crate) fn connect(socket: &Path) -> io::Result<UnixStream> {
    with_short_path(socket, |path| {
        let stream = nix::sys::socket::socket(
            AddressFamily::Unix,
            SockType::Stream,
            SockFlag::SOCK_CLOEXEC,
            None,
        )?;
        // A shim that does not accept any more has a queue that fills, and then connecting blocks.
        setsockopt(&stream, sockopt::SendTimeout, &TimeVal::seconds(CONNECT_SECONDS))?;
        nix::sys::socket::connect(stream.as_raw_fd(), &UnixAddr::new(path)?)?;
        Ok(UnixStream::from(stream))
    })
}

/// Calls `act` with a path to `socket` that fits into a socket address.
pub(crate) fn with_short_path<T>(socket: &Path, act: impl FnOnce(&Path) -> io::Result<T>) -> io::Result<T> {
    let (Some(folder), Some(name)) = (socket.parent(), socket.file_name()) else {
        return Err(io::Error::from(io::ErrorKind::InvalidInput));
    };
    let folder = std::fs::File::open(folder)?;
    act(&Path::new(&format!("/proc/self/fd/{}", folder.as_raw_fd())).join(name))
}

/// The bytes of a message, its length first.
pub(crate) fn frame(message: &impl Serialize) -> io::Result<Vec<u8>> {
    let mut bytes = vec![0; 4];
    serde_json::to_writer(&mut bytes, message)?;
    let length = bytes.len() - 4;
    if length > MESSAGE_LIMIT {
        return Err(io::Error::other(format!(
            "a message of {length} bytes is longer than {MESSAGE_LIMIT}"
        )));
    }
    bytes[..4].copy_from_slice(&(length as u32).to_be_bytes());
    Ok(bytes)
}

/// Takes one whole message off the front of `buffer`, if it holds one.
pub(crate) fn take<T: DeserializeOwned>(buffer: &mut Vec<u8>) -> io::Result<Option<T>> {
    let Some(head) = buffer.first_chunk::<4>() else {
        return Ok(None);
    };
    let length = u32::from_be_bytes(*head) as usize;
    if length > MESSAGE_LIMIT {
        return Err(io::Error::other("message too long"));
    }
    if buffer.len() < 4 + length {
        return Ok(None);
    }
    let message = serde_json::from_slice(&buffer[4..4 + length])?;
    buffer.drain(..4 + length);
    Ok(Some(message))
}

/// Writes a message.
pub(crate) fn send(stream: &mut UnixStream, message: &impl Serialize) -> io::Result<()> {
    stream.write_all(&frame(message)?)
}

/// Writes a message whole with descriptors beside its first byte.
pub(crate) fn send_with_descriptors(
    stream: &mut UnixStream,
    message: &impl Serialize,
    descriptors: &[RawFd],
) -> io::Result<()> {
    let bytes = frame(message)?;
    let rights = [ControlMessage::ScmRights(descriptors)];
    let sent = sendmsg::<()>(
        stream.as_raw_fd(),
        &[IoSlice::new(&bytes)],
        if descriptors.is_empty() { &[] } else { &rights },
        MsgFlags::MSG_NOSIGNAL,
        None,
    )?;
    stream.write_all(&bytes[sent..])
}

/// Reads one message and the descriptors that came with it; `None` when the other side has closed.
pub(crate) fn receive<T: DeserializeOwned>(stream: &mut UnixStream) -> io::Result<Option<(T, Vec<OwnedFd>)>> {
    let mut head = [0u8; 4];
    let mut descriptors = Vec::new();
    let mut space = nix::cmsg_space!([RawFd; DESCRIPTORS]);
    let got = loop {
        let mut parts = [IoSliceMut::new(&mut head)];
        let message = match recvmsg::<()>(
            stream.as_raw_fd(),
            &mut parts,
            Some(&mut space),
            MsgFlags::MSG_CMSG_CLOEXEC,
        ) {
            Err(nix::errno::Errno::EINTR) => continue,
            other => other?,
        };
        for control in message.cmsgs()? {
            if let ControlMessageOwned::ScmRights(rights) = control {
                // SAFETY: the kernel made these descriptors for us in this very call; nobody else owns them.
                descriptors.extend(rights.into_iter().map(|fd| unsafe { OwnedFd::from_raw_fd(fd) }));
            }
        }
        break message.bytes;
    };
    if got == 0 {
        return Ok(None);
    }
    stream.read_exact(&mut head[got..])?;
    let length = u32::from_be_bytes(head) as usize;
    if length > MESSAGE_LIMIT {
        return Err(io::Error::other("message too long"));
    }
    let mut body = vec![0; length];
    stream.read_exact(&mut body)?;
    Ok(Some((serde_json::from_slice(&body)?, descriptors)))
}

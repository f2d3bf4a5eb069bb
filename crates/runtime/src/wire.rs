//! Protocol between the agent and a shim: JSON messages, each after its length, on a Unix stream
//! socket. Replies can carry descriptors.

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

/// Limit of a message in bytes. A container's environment and mounts are the longest messages; the
/// API server limits objects to 3 MiB.
pub(crate) const MESSAGE_LIMIT: usize = 8 << 20;

/// Timeout for a connection in seconds, if the shim's queue of connections is full.
const CONNECT_SECONDS: i64 = 10;

/// Limit of descriptors in a message: the three streams of an exec.
const DESCRIPTORS: usize = 3;

/// Request to a shim.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Request {
    /// Create and start a container. The image's layers are in these folders, lowest first.
    Start(Box<Start>),
    /// Stop a container: send its stop signal now, and SIGKILL after the grace period.
    Stop { container: String, grace_ms: u64 },
    /// Send a signal to a container's first process, or without a container to the exec of this
    /// connection. SIGKILL also kills everything that the exec started.
    Signal { container: Option<String>, signal: i32 },
    /// Remove a container. Kill it first if it runs.
    Remove { container: String },
    /// Run a process in a container. The reply carries the streams; a second reply has the exit
    /// code. Closing the connection earlier kills the process and everything that it started.
    Exec { container: String, exec: ExecSpec },
    /// Send the states of all containers once.
    Status,
    /// Send the states of all containers, and each later change.
    Subscribe,
    /// Kill all containers and end.
    Shutdown,
}

/// A container to start, with the properties of its image.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Start {
    pub(crate) spec: ContainerSpec,
    pub(crate) image: crate::images::Image,
    /// Folders of the image's layers, lowest first.
    pub(crate) layers: Vec<std::path::PathBuf>,
}

/// Reply of a shim.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Reply {
    /// Success without a value.
    Done,
    /// State of a container, after a start or a change.
    Container(Box<ContainerStatus>),
    /// States of all containers.
    Containers(Vec<ContainerStatus>),
    /// The process of an exec runs. The message carries its streams.
    Started,
    /// The process of an exec has ended.
    Exited { code: i32 },
    /// The request failed.
    Failed(Error),
}

/// Connects to a shim. The path uses a descriptor of its folder, because a socket address holds
/// only 107 bytes.
pub(crate) fn connect(socket: &Path) -> io::Result<UnixStream> {
    with_short_path(socket, |path| {
        let stream = nix::sys::socket::socket(
            AddressFamily::Unix,
            SockType::Stream,
            SockFlag::SOCK_CLOEXEC,
            None,
        )?;
        // If a shim no longer accepts connections, its queue fills, and connecting blocks.
        setsockopt(&stream, sockopt::SendTimeout, &TimeVal::seconds(CONNECT_SECONDS))?;
        nix::sys::socket::connect(stream.as_raw_fd(), &UnixAddr::new(path)?)?;
        Ok(UnixStream::from(stream))
    })
}

/// Calls `act` with a path to `socket` that fits in a socket address.
pub(crate) fn with_short_path<T>(socket: &Path, act: impl FnOnce(&Path) -> io::Result<T>) -> io::Result<T> {
    let (Some(folder), Some(name)) = (socket.parent(), socket.file_name()) else {
        return Err(io::Error::from(io::ErrorKind::InvalidInput));
    };
    let folder = std::fs::File::open(folder)?;
    act(&Path::new(&format!("/proc/self/fd/{}", folder.as_raw_fd())).join(name))
}

/// Returns the bytes of a message after its length.
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

/// Removes the first message from `buffer` and returns it, if it is complete.
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

/// Writes a complete message, with descriptors on its first byte.
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

/// Reads one message and its descriptors. Returns `None` if the other side closed the connection.
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

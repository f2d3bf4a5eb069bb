//! The kernel's table of connections. UDP connections have no end, so a client that keeps sending
//! would stay with a removed endpoint.
//!
//! Uses netlink to list and delete entries. No library with a suitable license deletes entries, and
//! the program `conntrack` would be another package for two messages.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::{AsRawFd as _, OwnedFd};

use nix::sys::socket::{
    AddressFamily, MsgFlags, NetlinkAddr, SockFlag, SockProtocol, SockType, recv, sendto, socket,
};

use crate::error::Context as _;
use crate::{Error, Result};

/// `NFNL_SUBSYS_CTNETLINK` in the high byte of a message's type.
const SUBSYSTEM: u16 = 1 << 8;
const CT_NEW: u16 = SUBSYSTEM;
const CT_GET: u16 = SUBSYSTEM | 1;
const CT_DELETE: u16 = SUBSYSTEM | 2;
const NLMSG_ERROR: u16 = 2;
const NLMSG_DONE: u16 = 3;
const NLM_F_REQUEST: u16 = 1;
const NLM_F_ACK: u16 = 4;
const NLM_F_DUMP: u16 = 0x300;
const CTA_TUPLE_ORIG: u16 = 1;
const CTA_TUPLE_REPLY: u16 = 2;
const CTA_ID: u16 = 12;
const CTA_ZONE: u16 = 18;
const IPPROTO_UDP: u8 = 17;
/// Bytes of the netlink header and of the netfilter header.
const HEADERS: usize = 16 + 4;
/// Largest size of one response of the kernel in bytes.
const BUFFER: usize = 64 << 10;
/// Largest size of one of our messages in bytes: two headers, a tuple, an id and a zone.
const OWN: usize = 256;

/// Deletes the UDP entries for which `gone` returns true, and returns their number. `gone` gets the
/// destination that the client used and the endpoint's address.
pub(super) fn forget_udp(gone: impl Fn(SocketAddr, SocketAddr) -> bool) -> Result<usize> {
    let connection = Connection::open()?;
    let mut forgotten = 0;
    for family in [libc::AF_INET as u8, libc::AF_INET6 as u8] {
        for entry in connection.dump(family)? {
            if gone(entry.client_saw, entry.endpoint) {
                forgotten += usize::from(connection.delete(family, &entry)?);
            }
        }
    }
    Ok(forgotten)
}

/// A UDP entry and its identification.
struct Entry {
    client_saw: SocketAddr,
    endpoint: SocketAddr,
    /// The attributes that identify it to the kernel.
    name: Vec<u8>,
}

struct Connection(OwnedFd);

impl Connection {
    fn open() -> Result<Connection> {
        let socket = socket(
            AddressFamily::Netlink,
            SockType::Raw,
            SockFlag::SOCK_CLOEXEC,
            SockProtocol::NetlinkNetFilter,
        );
        socket.map(Connection).context(|| "open the table of connections")
    }

    fn dump(&self, family: u8) -> Result<Vec<Entry>> {
        self.send(CT_GET, NLM_F_REQUEST | NLM_F_DUMP, family, &[])?;
        let mut entries = Vec::new();
        let mut buffer = vec![0; BUFFER];
        loop {
            for (kind, body) in self.receive(&mut buffer)? {
                match kind {
                    NLMSG_DONE => return Ok(entries),
                    NLMSG_ERROR => return Err(refused(body)),
                    CT_NEW => entries.extend(body.get(4..).and_then(entry)),
                    _ => {}
                }
            }
        }
    }

    /// Deletes an entry. Returns whether it still existed.
    fn delete(&self, family: u8, entry: &Entry) -> Result<bool> {
        self.send(CT_DELETE, NLM_F_REQUEST | NLM_F_ACK, family, &entry.name)?;
        let mut buffer = vec![0; OWN * 2];
        let answers = self.receive(&mut buffer)?;
        let Some((NLMSG_ERROR, body)) = answers.first().copied() else {
            return Err(Error::machine("forget a connection: no answer"));
        };
        match code(body) {
            0 => Ok(true),
            libc::ENOENT => Ok(false),
            _ => Err(refused(body)),
        }
    }

    fn send(&self, kind: u16, flags: u16, family: u8, attributes: &[u8]) -> Result<()> {
        let length = u32::try_from(HEADERS + attributes.len()).unwrap_or(u32::MAX);
        let mut message = Vec::with_capacity(OWN);
        message.extend(length.to_ne_bytes());
        message.extend(kind.to_ne_bytes());
        message.extend(flags.to_ne_bytes());
        message.extend([0; 8]);
        message.extend([family, 0, 0, 0]);
        message.extend(attributes);
        let kernel = NetlinkAddr::new(0, 0);
        sendto(self.0.as_raw_fd(), &message, &kernel, MsgFlags::empty())
            .context(|| "ask for the table of connections")?;
        Ok(())
    }

    /// Returns the messages of one response: type and body.
    fn receive<'b>(&self, buffer: &'b mut [u8]) -> Result<Vec<(u16, &'b [u8])>> {
        let length = recv(self.0.as_raw_fd(), buffer, MsgFlags::empty())
            .context(|| "read the table of connections")?;
        let mut rest = &buffer[..length];
        let mut messages = Vec::new();
        while let Some(length) = number(rest, 0).and_then(|length| usize::try_from(length).ok()) {
            let (Some(kind), Some(body)) = (rest.get(4..6), rest.get(16..length)) else {
                break;
            };
            messages.push((u16::from_ne_bytes([kind[0], kind[1]]), body));
            rest = rest.get(length.next_multiple_of(4)..).unwrap_or_default();
        }
        Ok(messages)
    }
}

fn number(bytes: &[u8], at: usize) -> Option<u32> {
    let four = bytes.get(at..at + 4)?;
    Some(u32::from_ne_bytes(four.try_into().ok()?))
}

/// Returns the number of an error, positive; 0 means success.
fn code(body: &[u8]) -> i32 {
    number(body, 0).map_or(libc::EIO, |code| code.cast_signed().wrapping_neg())
}

fn refused(body: &[u8]) -> Error {
    let errno = nix::errno::Errno::from_raw(code(body));
    Error::machine(format!("the table of connections: {errno}"))
}

/// Returns attributes: type and value.
fn attributes(mut bytes: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    std::iter::from_fn(move || {
        let head = bytes.get(..4)?;
        let length = usize::from(u16::from_ne_bytes([head[0], head[1]]));
        // The two highest bits are flags: nested, and network byte order.
        let kind = u16::from_ne_bytes([head[2], head[3]]) & 0x3fff;
        let value = bytes.get(4..length)?;
        bytes = bytes.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some((kind, value))
    })
}

fn find(bytes: &[u8], wanted: u16) -> Option<&[u8]> {
    attributes(bytes)
        .find(|(kind, _)| *kind == wanted)
        .map(|(_, value)| value)
}

fn entry(bytes: &[u8]) -> Option<Entry> {
    let (original, reply) = (find(bytes, CTA_TUPLE_ORIG)?, find(bytes, CTA_TUPLE_REPLY)?);
    let (_, client_saw) = tuple(original)?;
    let (endpoint, _) = tuple(reply)?;
    let mut name = Vec::with_capacity(OWN - HEADERS);
    put(&mut name, CTA_TUPLE_ORIG | libc::NLA_F_NESTED as u16, original);
    for kind in [CTA_ID, CTA_ZONE] {
        if let Some(value) = find(bytes, kind) {
            put(&mut name, kind, value);
        }
    }
    Some(Entry {
        client_saw,
        endpoint,
        name,
    })
}

/// Returns source and destination of a UDP tuple.
fn tuple(bytes: &[u8]) -> Option<(SocketAddr, SocketAddr)> {
    let (addresses, ports) = (find(bytes, 1)?, find(bytes, 2)?);
    if find(ports, 1)?.first() != Some(&IPPROTO_UDP) {
        return None;
    }
    let port = |kind| Some(u16::from_be_bytes(find(ports, kind)?.try_into().ok()?));
    let address = |four, six| match find(addresses, four) {
        Some(value) => Some(IpAddr::V4(Ipv4Addr::from(<[u8; 4]>::try_from(value).ok()?))),
        None => Some(IpAddr::V6(Ipv6Addr::from(
            <[u8; 16]>::try_from(find(addresses, six)?).ok()?,
        ))),
    };
    Some((
        SocketAddr::new(address(1, 3)?, port(2)?),
        SocketAddr::new(address(2, 4)?, port(3)?),
    ))
}

fn put(message: &mut Vec<u8>, kind: u16, value: &[u8]) {
    let length = u16::try_from(4 + value.len()).unwrap_or(u16::MAX);
    message.extend(length.to_ne_bytes());
    message.extend(kind.to_ne_bytes());
    message.extend(value);
    message.resize(message.len().next_multiple_of(4), 0);
}

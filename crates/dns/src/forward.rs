//! Forwards queries to upstreams: the machine's resolvers.
//!
//! Each query has a random id and its own port, so that a forged response does not match. A server
//! that does not respond in time is asked last for some time. Responses are cached. When no server
//! responds, an expired response is used.

use std::io::{self, Read as _};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use hickory_proto::op::{Edns, Header, HeaderCounts, MessageType, Metadata, OpCode};
use hickory_proto::rr::{DNSClass, RecordType};
use hickory_proto::serialize::binary::{BinDecodable, BinDecoder, BinEncodable, BinEncoder};
use ring::rand::{SecureRandom, SystemRandom};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UdpSocket};
use tokio::sync::Semaphore;
use tokio::time::{Instant, timeout};

use crate::cache::{Cache, Key, Message};
use crate::resolv_conf::ResolvConf;

/// Most bytes that are read of the file with the name servers; such files have a few hundred.
const FILE_BYTES: u64 = 4 << 20;

/// Queries in flight, as CoreDNS recommends for `forward`. Further queries are refused.
const WAITING: usize = 1000;
/// Timeout of one server, and attempts with all servers. Together less than the 5 s after which
/// clients give up.
const PATIENCE: Duration = Duration::from_millis(1500);
const ROUNDS: usize = 2;
/// Timeout of all servers together.
const WHOLE_PATIENCE: Duration = Duration::from_millis(4500);
/// How long a server that did not respond is asked last.
const REST: Duration = Duration::from_secs(10);
/// Shortest time between two checks of the configuration file; it is checked when queries come.
const LOOK: Duration = Duration::from_secs(1);
/// UDP payload that we accept, in bytes.
const PAYLOAD: u16 = 1232;

/// Servers for names outside the cluster.
#[derive(Clone, Debug)]
pub enum Upstreams {
    /// Name servers of a file, which is read again when it changes.
    File(PathBuf),
    /// Fixed servers.
    Fixed(Vec<SocketAddr>),
}

/// Why there is no response.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum NoAnswer {
    /// No server is configured.
    Nobody,
    /// No server responded.
    Silence,
    /// Too many queries are in flight.
    Overrun,
}

/// Forwards queries.
pub(crate) struct Forwarder {
    upstreams: Upstreams,
    /// Our own addresses. Asking them would cause a loop.
    own: Vec<SocketAddr>,
    known: Mutex<Known>,
    cache: Mutex<Cache>,
    waiting: Semaphore,
    random: SystemRandom,
}

/// Servers as last read.
#[derive(Default)]
struct Known {
    looked: Option<Instant>,
    stamp: Option<(SystemTime, u64)>,
    servers: Vec<Server>,
}

#[derive(Clone, Copy)]
struct Server {
    address: SocketAddr,
    /// When it last failed to respond.
    failed: Option<Instant>,
}

/// Query for an upstream.
#[derive(Clone, Debug)]
pub(crate) struct Asked {
    /// Uncompressed.
    pub(crate) name: Vec<u8>,
    pub(crate) record_type: RecordType,
    pub(crate) dnssec_ok: bool,
    pub(crate) checking_disabled: bool,
}

impl Asked {
    fn key(&self) -> Key {
        Key {
            name: self.name.to_ascii_lowercase(),
            record_type: self.record_type.into(),
            dnssec_ok: self.dnssec_ok,
            checking_disabled: self.checking_disabled,
        }
    }
}

impl Forwarder {
    pub(crate) fn new(upstreams: Upstreams, own: Vec<SocketAddr>) -> Forwarder {
        Forwarder {
            upstreams,
            own,
            known: Mutex::default(),
            cache: Mutex::default(),
            waiting: Semaphore::new(WAITING),
            random: SystemRandom::new(),
        }
    }

    /// Returns a cached response.
    pub(crate) fn kept(&self, asked: &Asked) -> Option<Message> {
        self.cache().get(&asked.key(), Instant::now())
    }

    /// Asks the servers one after the other, unless the response is cached.
    pub(crate) async fn ask(&self, asked: &Asked) -> Result<Message, NoAnswer> {
        let key = asked.key();
        if let Some(message) = self.cache().get(&key, Instant::now()) {
            return Ok(message);
        }
        let Ok(_place) = self.waiting.try_acquire() else {
            return Err(NoAnswer::Overrun);
        };
        let servers = self.servers();
        if servers.is_empty() {
            return Err(NoAnswer::Nobody);
        }
        let mut failure = None;
        let asking = async {
            for _ in 0..ROUNDS {
                for server in &servers {
                    match timeout(PATIENCE, self.exchange(asked, *server)).await {
                        Ok(Ok(message)) => {
                            self.seen(*server, true);
                            if !message.is_failure() {
                                return Some(message);
                            }
                            // Another server may have a better response.
                            failure = Some(message);
                            continue;
                        }
                        Ok(Err(error)) => tracing::debug!(%server, %error, "ask a name server"),
                        Err(_) => tracing::debug!(%server, "a name server does not answer"),
                    }
                    self.seen(*server, false);
                }
                if failure.is_some() {
                    break;
                }
            }
            None
        };
        let answer = timeout(WHOLE_PATIENCE, asking).await.ok().flatten();
        let now = Instant::now();
        let mut cache = self.cache();
        match answer {
            Some(message) => {
                cache.put(key, &message, now);
                Ok(message)
            }
            None => cache.stale(&key, now).or(failure).ok_or(NoAnswer::Silence),
        }
    }

    fn cache(&self) -> std::sync::MutexGuard<'_, Cache> {
        self.cache.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns the servers, with those that failed recently at the end.
    fn servers(&self) -> Vec<SocketAddr> {
        let now = Instant::now();
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let due = known
            .looked
            .is_none_or(|looked| now.duration_since(looked) >= LOOK);
        if due {
            known.looked = Some(now);
            self.look(&mut known);
        }
        let mut servers = known.servers.clone();
        let rests = |server: &Server| {
            server
                .failed
                .is_some_and(|failed| now.duration_since(failed) < REST)
        };
        servers.sort_by_key(rests);
        servers.iter().map(|server| server.address).collect()
    }

    fn look(&self, known: &mut Known) {
        let addresses = match &self.upstreams {
            Upstreams::Fixed(addresses) => addresses.clone(),
            Upstreams::File(path) => {
                let stamp = std::fs::metadata(path)
                    .and_then(|data| Ok((data.modified()?, data.len())))
                    .ok();
                if stamp.is_some() && stamp == known.stamp {
                    return;
                }
                known.stamp = stamp;
                // A file that is missing or being replaced has no servers.
                let mut text = String::new();
                let read = std::fs::File::open(path)
                    .and_then(|file| file.take(FILE_BYTES).read_to_string(&mut text));
                if read.is_err() {
                    text.clear();
                }
                let addresses = ResolvConf::parse(&text).addresses();
                addresses
                    .into_iter()
                    .map(|address| (address, 53).into())
                    .collect()
            }
        };
        let mut servers: Vec<Server> = Vec::new();
        for address in addresses {
            if self.own.contains(&address) {
                tracing::warn!(%address, "ignoring a name server that is this server itself");
                continue;
            }
            let before = known.servers.iter().find(|server| server.address == address);
            servers.push(before.copied().unwrap_or(Server {
                address,
                failed: None,
            }));
        }
        known.servers = servers;
    }

    fn seen(&self, address: SocketAddr, answered: bool) {
        let failed = (!answered).then(Instant::now);
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let server = known.servers.iter_mut().find(|server| server.address == address);
        if let Some(server) = server {
            server.failed = failed;
        }
    }

    /// Sends one query to one server. Repeats it by TCP if the response does not fit in UDP.
    async fn exchange(&self, asked: &Asked, server: SocketAddr) -> io::Result<Message> {
        let mut number = [0; 2];
        self.random
            .fill(&mut number)
            .map_err(|_| io::Error::other("no random number"))?;
        let id = u16::from_be_bytes(number);
        let packet = packet(asked, id).map_err(io::Error::other)?;
        let fits = |bytes: &[u8]| {
            let mut decoder = BinDecoder::new(bytes);
            let header = Header::read(&mut decoder).ok();
            header.is_some_and(|header| header.id == id && header.message_type == MessageType::Response)
                && same_question(asked, bytes, &packet)
        };
        let any: IpAddr = match server {
            SocketAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
            SocketAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
        };
        let socket = UdpSocket::bind((any, 0)).await?;
        socket.connect(server).await?;
        socket.send(&packet).await?;
        let mut buffer = vec![0; usize::from(PAYLOAD).max(4096)];
        let unreadable = || io::Error::other("an answer that cannot be read");
        loop {
            let length = socket.recv(&mut buffer).await?;
            let bytes = &buffer[..length];
            if !fits(bytes) {
                continue;
            }
            let message = Message::read(bytes.to_vec());
            match message.filter(|message| !message.is_cut()) {
                Some(message) => return Ok(message),
                None => break,
            }
        }
        let mut stream = TcpStream::connect(server).await?;
        let length = u16::try_from(packet.len()).map_err(io::Error::other)?;
        let mut framed = length.to_be_bytes().to_vec();
        framed.extend_from_slice(&packet);
        stream.write_all(&framed).await?;
        let length = stream.read_u16().await?;
        let mut bytes = vec![0; length.into()];
        stream.read_exact(&mut bytes).await?;
        if !fits(&bytes) {
            return Err(unreadable());
        }
        Message::read(bytes).ok_or_else(unreadable)
    }
}

/// Returns the packet of a query, with our own EDNS record instead of the client's.
fn packet(asked: &Asked, id: u16) -> Result<Vec<u8>, hickory_proto::ProtoError> {
    let mut bytes = Vec::with_capacity(512);
    let mut encoder = BinEncoder::new(&mut bytes);
    let mut metadata = Metadata::new(id, MessageType::Query, OpCode::Query);
    metadata.recursion_desired = true;
    metadata.checking_disabled = asked.checking_disabled;
    let counts = HeaderCounts {
        queries: 1,
        additionals: 1,
        ..HeaderCounts::default()
    };
    Header { metadata, counts }.emit(&mut encoder)?;
    encoder.emit_vec(&asked.name)?;
    asked.record_type.emit(&mut encoder)?;
    DNSClass::IN.emit(&mut encoder)?;
    let mut edns = Edns::new();
    edns.set_max_payload(PAYLOAD);
    edns.set_dnssec_ok(asked.dnssec_ok);
    edns.emit(&mut encoder)?;
    Ok(bytes)
}

/// Returns whether a response has our question. Servers that could not parse the query may omit it.
fn same_question(asked: &Asked, bytes: &[u8], packet: &[u8]) -> bool {
    let queries = u16::from_be_bytes([bytes[4], bytes[5]]);
    let end = 12 + asked.name.len() + 4;
    match queries {
        0 => true,
        1 => bytes
            .get(12..end)
            .is_some_and(|question| question.eq_ignore_ascii_case(&packet[12..end])),
        _ => false,
    }
}

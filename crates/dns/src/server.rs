//! Sockets of the DNS server.
//!
//! The task that reads a socket also responds from the cluster's records and the cache. Only a
//! query for an upstream gets its own task. The forwarder limits the number of these tasks.

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use hickory_proto::ProtoError;
use hickory_proto::op::ResponseCode;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use crate::forward::{Asked, Forwarder, NoAnswer, Upstreams};
use crate::question::Question;
use crate::reply;
use crate::zone::{Outcome, Zone};

/// Longest query that is read by UDP, in bytes. Queries are short, even with options.
const LONGEST_QUESTION: usize = 4096;
/// Most TCP connections.
const CONNECTIONS: usize = 256;
/// Most TCP connections of one client, so that one client cannot use up all of them. A resolver has
/// one or two.
const CLIENT_CONNECTIONS: usize = 32;
/// Longest time without data on a connection (RFC 7766: a few seconds).
const IDLE: Duration = Duration::from_secs(10);
/// UDP queries that wait for upstreams. The forwarder refuses queries before this limit is reached.
const TASKS: usize = 1100;
/// Wait before a failed read of a socket is repeated. The cause is usually a lack of memory that
/// passes.
const RETRY: Duration = Duration::from_millis(100);

/// UDP and TCP socket of one address.
#[derive(Debug)]
pub struct Sockets {
    udp: Arc<UdpSocket>,
    tcp: TcpListener,
}

impl Sockets {
    /// Binds UDP and TCP. With port 0, both get the same free port.
    ///
    /// # Errors
    ///
    /// The address is not the machine's, or another process uses it.
    pub async fn bind(address: SocketAddr) -> io::Result<Sockets> {
        // A port that is free for one protocol may be in use for the other.
        const TRIES: usize = 16;
        let mut last = io::Error::other("no port was tried");
        for _ in 0..TRIES {
            let tcp = TcpListener::bind(address).await?;
            match UdpSocket::bind(tcp.local_addr()?).await {
                Ok(udp) => {
                    return Ok(Sockets {
                        udp: Arc::new(udp),
                        tcp,
                    });
                }
                Err(error) if address.port() != 0 => return Err(error),
                Err(error) => last = error,
            }
        }
        Err(last)
    }

    /// Returns the address of both sockets.
    ///
    /// # Errors
    ///
    /// The kernel's error.
    pub fn address(&self) -> io::Result<SocketAddr> {
        self.tcp.local_addr()
    }
}

/// DNS server. Cheap to clone.
#[derive(Clone)]
pub struct Server {
    shared: Arc<Shared>,
}

struct Shared {
    zone: Arc<Zone>,
    forwarder: Forwarder,
    connections: Arc<Semaphore>,
    clients: Arc<Clients>,
    turn: AtomicU64,
}

/// Number of connections of each client.
#[derive(Default)]
struct Clients(Mutex<HashMap<IpAddr, usize>>);

/// One connection of a client's share; returned when this is dropped.
struct Share {
    clients: Arc<Clients>,
    client: IpAddr,
}

impl Clients {
    /// Reserves a connection for this client; `None` when its share is used up.
    fn share(self: &Arc<Self>, client: IpAddr) -> Option<Share> {
        let mut counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let count = counts.entry(client).or_default();
        if *count >= CLIENT_CONNECTIONS {
            return None;
        }
        *count += 1;
        Some(Share {
            clients: Arc::clone(self),
            client,
        })
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        let mut counts = self.clients.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = counts.get_mut(&self.client) {
            *count -= 1;
            if *count == 0 {
                counts.remove(&self.client);
            }
        }
    }
}

impl Server {
    /// Returns a server of a zone. It forwards other names to `upstreams`, but never to `own`, the
    /// addresses of this server.
    pub fn new(zone: Arc<Zone>, upstreams: Upstreams, own: Vec<SocketAddr>) -> Server {
        Server {
            shared: Arc::new(Shared {
                zone,
                forwarder: Forwarder::new(upstreams, own),
                connections: Arc::new(Semaphore::new(CONNECTIONS)),
                clients: Arc::default(),
                turn: AtomicU64::new(0),
            }),
        }
    }

    /// Serves until `shutdown`.
    pub async fn serve(self, sockets: Sockets, shutdown: CancellationToken) {
        let udp = self.clone().serve_udp(sockets.udp);
        let tcp = self.serve_tcp(sockets.tcp);
        tokio::select! {
            biased;
            () = shutdown.cancelled() => {}
            () = udp => {}
            () = tcp => {}
        }
    }

    async fn serve_udp(self, socket: Arc<UdpSocket>) {
        let mut packet = vec![0; LONGEST_QUESTION];
        let mut answer = Vec::with_capacity(LONGEST_QUESTION);
        let mut tasks = JoinSet::new();
        loop {
            while tasks.try_join_next().is_some() {}
            let (length, client) = match socket.recv_from(&mut packet).await {
                Ok(read) => read,
                Err(error) => {
                    tracing::debug!(%error, "read a question");
                    tokio::time::sleep(RETRY).await;
                    continue;
                }
            };
            match self.shared.at_once(&packet[..length], None, &mut answer) {
                Ok(Step::Silence) => {}
                Ok(Step::Answered) => send(&socket, &answer, client).await,
                Ok(Step::Ask(question, names)) if tasks.len() < TASKS => {
                    let (server, socket) = (self.clone(), Arc::clone(&socket));
                    tasks.spawn(async move {
                        let mut answer = Vec::new();
                        let limit = question.udp_limit();
                        match server.shared.ask(&question, names, limit, &mut answer).await {
                            Ok(()) => send(&socket, &answer, client).await,
                            Err(error) => tracing::debug!(%error, "write an answer"),
                        }
                    });
                }
                Ok(Step::Ask(..)) => tracing::debug!("too many questions wait"),
                Err(error) => tracing::debug!(%error, "write an answer"),
            }
        }
    }

    async fn serve_tcp(self, listener: TcpListener) {
        let mut connections = JoinSet::new();
        loop {
            while connections.try_join_next().is_some() {}
            let Ok(place) = Arc::clone(&self.shared.connections).acquire_owned().await else {
                return;
            };
            match listener.accept().await {
                Ok((stream, client)) => {
                    // The connection is closed at once; the client has used up its share.
                    let Some(share) = self.shared.clients.share(client.ip().to_canonical()) else {
                        tracing::debug!(%client, "a client has all the connections of its share");
                        continue;
                    };
                    let server = self.clone();
                    connections.spawn(async move {
                        // A client that disconnects or sends invalid data only ends its own
                        // connection.
                        if let Err(error) = server.connection(stream).await {
                            tracing::debug!(%error, "serve a connection");
                        }
                        drop((share, place));
                    });
                }
                Err(error) => {
                    tracing::debug!(%error, "accept a connection");
                    tokio::time::sleep(RETRY).await;
                }
            }
        }
    }

    async fn connection(&self, mut stream: TcpStream) -> io::Result<()> {
        let mut packet = Vec::new();
        let mut answer = Vec::new();
        let mut framed = Vec::new();
        stream.set_nodelay(true)?;
        loop {
            let read = async {
                let length = stream.read_u16().await?;
                packet.resize(length.into(), 0);
                stream.read_exact(&mut packet).await
            };
            timeout(IDLE, read).await??;
            let step = self.shared.at_once(&packet, Some(u16::MAX), &mut answer);
            match step.map_err(io::Error::other)? {
                Step::Silence => return Ok(()),
                Step::Answered => {}
                Step::Ask(question, names) => {
                    let asked = self.shared.ask(&question, names, u16::MAX, &mut answer).await;
                    asked.map_err(io::Error::other)?;
                }
            }
            let length = u16::try_from(answer.len()).map_err(io::Error::other)?;
            framed.clear();
            framed.extend_from_slice(&length.to_be_bytes());
            framed.extend_from_slice(&answer);
            timeout(IDLE, stream.write_all(&framed)).await??;
        }
    }
}

async fn send(socket: &UdpSocket, answer: &[u8], client: SocketAddr) {
    // Like a packet that the network loses: the client sends the query again.
    if let Err(error) = socket.send_to(answer, client).await {
        tracing::debug!(%client, %error, "send an answer");
    }
}

/// Next step for a packet.
enum Step {
    /// No response.
    Silence,
    /// The response is written.
    Answered,
    /// Ask upstreams for the name of the query, or for the last of these aliases.
    Ask(Box<Question>, Vec<Vec<u8>>),
}

impl Shared {
    /// Writes a response from the zone or the cache. Without a limit, the limit of UDP applies.
    fn at_once(&self, packet: &[u8], limit: Option<u16>, buffer: &mut Vec<u8>) -> Result<Step, ProtoError> {
        let question = match Question::read(packet) {
            Ok(question) => question,
            Err(refusal) => {
                return Ok(match reply::refuse(&refusal, buffer)? {
                    true => Step::Answered,
                    false => Step::Silence,
                });
            }
        };
        let limit = limit.unwrap_or_else(|| question.udp_limit());
        match self.zone.answer(&question, limit, self.turn(), buffer)? {
            Outcome::Answered => Ok(Step::Answered),
            Outcome::AliasElsewhere(names) => Ok(Step::Ask(Box::new(question), names)),
            Outcome::Elsewhere => match self.forwarder.kept(&asked(&question, None)) {
                Some(message) => {
                    reply::hand_on(&question, &message, limit, buffer)?;
                    Ok(Step::Answered)
                }
                None => Ok(Step::Ask(Box::new(question), Vec::new())),
            },
        }
    }

    /// Asks upstreams and writes their response.
    async fn ask(
        &self,
        question: &Question,
        names: Vec<Vec<u8>>,
        limit: u16,
        buffer: &mut Vec<u8>,
    ) -> Result<(), ProtoError> {
        let answer = self.forwarder.ask(&asked(question, names.last())).await;
        match answer {
            Ok(message) if names.is_empty() => reply::hand_on(question, &message, limit, buffer),
            answer => self
                .zone
                .answer_from_elsewhere(question, &names, answer, limit, buffer),
        }
    }

    /// Returns a number that spreads the queries over addresses. A client that alternates queries
    /// for IPv4 and IPv6 must not always get the same address, so the numbers are not consecutive.
    fn turn(&self) -> u64 {
        let count = self.turn.fetch_add(1, Ordering::Relaxed);
        // Fibonacci hashing spreads consecutive numbers.
        count.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 16
    }
}

fn asked(question: &Question, name: Option<&Vec<u8>>) -> Asked {
    Asked {
        name: name.unwrap_or(&question.name).clone(),
        record_type: question.record_type,
        dnssec_ok: question.edns.is_some_and(|edns| edns.dnssec_ok),
        checking_disabled: question.checking_disabled,
    }
}

impl NoAnswer {
    /// Returns the response code for the client.
    pub(crate) fn code(self) -> ResponseCode {
        match self {
            NoAnswer::Nobody => ResponseCode::Refused,
            NoAnswer::Silence | NoAnswer::Overrun => ResponseCode::ServFail,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_client_has_its_share_of_connections_and_no_more() {
        let clients = Arc::new(Clients::default());
        let [greedy, other]: [IpAddr; 2] = [[10, 0, 0, 1].into(), [10, 0, 0, 2].into()];
        let mut shares: Vec<Share> = (0..CLIENT_CONNECTIONS)
            .map(|_| clients.share(greedy).expect("within the share"))
            .collect();
        assert!(clients.share(greedy).is_none());
        let others = clients.share(other).expect("another client's share");
        shares.pop();
        let again = clients.share(greedy).expect("one was given back");
        drop((shares, others, again));
        assert!(clients.0.lock().expect("not poisoned").is_empty());
    }
}

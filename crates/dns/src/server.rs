//! Sockets: questions come in, answers go out.
//!
//! What the cluster or the cache knows is answered in the task that reads the socket; only what others must be asked for gets a task
//! of its own, of which there are as many as the forwarder lets wait.

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

/// The longest question that is read by UDP: questions are short, even with options.
const LONGEST_QUESTION: usize = 4096;
/// Connections at a time.
const CONNECTIONS: usize = 256;
/// Connections of one client at a time: one that keeps all that it may have leaves most of them to others. A resolver has one or two.
const CLIENT_CONNECTIONS: usize = 32;
/// How long a connection may be silent (RFC 7766: a few seconds).
const IDLE: Duration = Duration::from_secs(10);
/// Questions of UDP that wait for others' answers; the forwarder refuses before this is reached.
const TASKS: usize = 1100;
/// How often a socket is tried that cannot be read: it comes back by itself when memory does.
const RETRY: Duration = Duration::from_millis(100);

/// Both sockets of one address.
#[derive(Debug)]
pub struct Sockets {
    udp: Arc<UdpSocket>,
    tcp: TcpListener,
}

impl Sockets {
    /// Binds UDP and TCP. With port 0, both get one port that is free.
    ///
    /// # Errors
    ///
    /// The machine's: the address is not this machine's, or somebody else has it.
    pub async fn bind(address: SocketAddr) -> io::Result<Sockets> {
        // A port that is free for one may be taken for the other.
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

    /// The address of both.
    ///
    /// # Errors
    ///
    /// The machine's.
    pub fn address(&self) -> io::Result<SocketAddr> {
        self.tcp.local_addr()
    }
}

/// A DNS server. Cheap to clone.
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

/// How many connections each client has.
#[derive(Default)]
struct Clients(Mutex<HashMap<IpAddr, usize>>);

/// One connection of a client's share, given back when it is dropped.
struct Share {
    clients: Arc<Clients>,
    client: IpAddr,
}

impl Clients {
    /// A connection for this client; `None` when it has its share.
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
    /// A server of a zone. Other names are asked of `upstreams`, but never of `own`, the addresses that lead here.
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
                    // Closed at once: who has its share knows why.
                    let Some(share) = self.shared.clients.share(client.ip().to_canonical()) else {
                        tracing::debug!(%client, "a client has all the connections of its share");
                        continue;
                    };
                    let server = self.clone();
                    connections.spawn(async move {
                        // A client that goes away, or sends nonsense, has ended its connection.
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
    // Lost like any packet that the network loses: the client asks again.
    if let Err(error) = socket.send_to(answer, client).await {
        tracing::debug!(%client, %error, "send an answer");
    }
}

/// What is to be done about a packet.
enum Step {
    /// Nothing.
    Silence,
    /// The answer is written.
    Answered,
    /// Others must be asked: for the question, or for the last of these names that it leads to.
    Ask(Box<Question>, Vec<Vec<u8>>),
}

impl Shared {
    /// Answers what can be answered without anybody else. Without a limit, that of UDP holds.
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

    /// Asks others and writes their answer.
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

    /// A number that no client foresees from its own answers: its questions for IPv4 and IPv6 take turns.
    fn turn(&self) -> u64 {
        let count = self.turn.fetch_add(1, Ordering::Relaxed);
        // Fibonacci hashing: neighbours come far apart.
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
    /// What the client is told.
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

//! Measures the most memory that clients without a credential can take from a server. It is a
//! separate binary, because it measures the whole process.

#[path = "api/common.rs"]
#[expect(dead_code, reason = "the other tests of the API need the rest")]
mod common;

use std::net::SocketAddr;
use std::sync::Arc;

use rustls::pki_types::ServerName;
use rustls::pki_types::pem::PemObject;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use common::Cluster;

/// Limits of a server on each class of connection (`limits.rs`), and on the memory of all these
/// clients.
const CALLERS: usize = 2_048;
const GUESTS: usize = 256;
const ALL_BYTES: usize = 256 << 20;

/// Addresses that connect, and the number of connections: as many as one address may have.
const ADDRESSES: u8 = 4;
const OPENED_GUESTS: usize = 4 * 60;
const OPENED_CALLERS: usize = 4 * 100;

/// Open files, for both ends of these connections.
const FILES: u64 = 8_192;

fn raise_the_limit_of_files() {
    use rustix::process::{Resource, getrlimit, setrlimit};
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = Some(limit.maximum.map_or(FILES, |maximum| maximum.min(FILES)));
    setrlimit(Resource::Nofile, limit).unwrap();
}

async fn dial(server: SocketAddr, number: usize) -> TcpStream {
    let socket = TcpSocket::new_v4().unwrap();
    let last = 1 + u8::try_from(number % usize::from(ADDRESSES)).unwrap();
    socket.bind(SocketAddr::from(([127, 0, 0, last], 0))).unwrap();
    socket.connect(server).await.unwrap()
}

/// Starts a handshake, announces a long message and does not complete it.
async fn caller(server: SocketAddr, number: usize) -> TcpStream {
    const MESSAGE: u16 = 16_000;
    let mut stream = dial(server, number).await;
    let mut record = vec![22, 3, 3];
    record.extend_from_slice(&MESSAGE.to_be_bytes());
    // ClientHello, of 60,000 bytes.
    record.extend_from_slice(&[1, 0, 0xea, 0x60]);
    record.resize(usize::from(MESSAGE) + 5, 0);
    stream.write_all(&record).await.unwrap();
    stream
}

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    let mut frame = length[1..].to_vec();
    frame.extend_from_slice(&[kind, flags]);
    frame.extend_from_slice(&stream.to_be_bytes());
    frame.extend_from_slice(payload);
    frame
}

/// Reads no responses, leaves its requests open, and then sends a head that does not end.
async fn guest(server: SocketAddr, number: usize, tls: &Arc<rustls::ClientConfig>) -> TlsStream<TcpStream> {
    const DATA: u8 = 0;
    const HEADERS: u8 = 1;
    const SETTINGS: u8 = 4;
    const PING: u8 = 6;
    const WINDOW_UPDATE: u8 = 8;
    const END_HEADERS: u8 = 4;
    const REQUESTS: u32 = 8;
    /// The bodies together fill the flow-control window.
    const BODY: usize = 16_000;
    let name = ServerName::try_from("localhost").unwrap();
    let stream = dial(server, number).await;
    let mut stream = TlsConnector::from(tls.clone())
        .connect(name, stream)
        .await
        .unwrap();
    let hello = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
    stream.write_all(hello).await.unwrap();
    // Sets a window of 0 bytes for each response.
    let settings = frame(SETTINGS, 0, 0, &[0, 4, 0, 0, 0, 0]);
    stream.write_all(&settings).await.unwrap();
    answered(&mut stream, WINDOW_UPDATE).await;
    // :method POST, :scheme https, :path of /healthz, :authority of x.
    let head = [&[0x83, 0x87, 0x04, 0x08][..], b"/healthz", &[0x01, 0x01, b'x']].concat();
    let mut sent = Vec::new();
    for request in 0..REQUESTS {
        sent.extend(frame(HEADERS, END_HEADERS, 2 * request + 1, &head));
        sent.extend(frame(DATA, 0, 2 * request + 1, &[b'x'; BODY]));
    }
    sent.extend(frame(PING, 0, 0, &[0; 8]));
    stream.write_all(&sent).await.unwrap();
    answered(&mut stream, PING).await;
    // Repeats a header as a one-byte index, as often as the header list may contain it.
    let mut long = head;
    long.extend_from_slice(&[0x40, 0x01, b'a', 0x00]);
    long.resize(long.len() + 1_480, 0xbe);
    let endless = frame(HEADERS, 0, 2 * REQUESTS + 1, &long);
    stream.write_all(&endless).await.unwrap();
    stream.flush().await.unwrap();
    stream
}

/// Reads frames until one of this kind.
async fn answered(stream: &mut TlsStream<TcpStream>, kind: u8) {
    loop {
        let mut head = [0; 9];
        stream.read_exact(&mut head).await.unwrap();
        let length = u32::from_be_bytes([0, head[0], head[1], head[2]]);
        let mut payload = vec![0; usize::try_from(length).unwrap()];
        stream.read_exact(&mut payload).await.unwrap();
        if head[3] == kind {
            return;
        }
    }
}

/// Returns the resident memory of the process in bytes.
fn resident() -> usize {
    let text = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = text.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    let kibibytes: usize = line.trim().trim_end_matches(" kB").parse().unwrap();
    kibibytes * 1024
}

/// Waits until the server has read all bytes that were sent to it.
async fn all_is_read(server: SocketAddr) {
    let port = format!(":{:04X}", server.port());
    let unread = || {
        let table = std::fs::read_to_string("/proc/self/net/tcp").unwrap();
        let sockets = table.lines().skip(1).filter_map(|line| {
            let fields: Vec<&str> = line.split_whitespace().collect();
            fields[1]
                .ends_with(&port)
                .then(|| !fields[4].ends_with(":00000000"))
        });
        sockets.filter(|has_unread| *has_unread).count()
    };
    while unread() > 0 {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn strangers_take_a_bounded_part_of_the_memory() {
    raise_the_limit_of_files();
    let cluster = Cluster::start().await;
    let server = cluster.server.address();
    let mut roots = rustls::RootCertStore::empty();
    let authority = rustls::pki_types::CertificateDer::from_pem_slice(cluster.server.authority().as_bytes());
    roots.add(authority.unwrap()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut tls = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    tls.alpn_protocols = vec![b"h2".to_vec()];
    let tls = Arc::new(tls);
    drop(guest(server, 0, &tls).await);

    let before = resident();
    let mut guests = Vec::new();
    for number in 0..OPENED_GUESTS {
        guests.push(guest(server, number, &tls).await);
    }
    all_is_read(server).await;
    let each_guest = (resident().saturating_sub(before)) / OPENED_GUESTS;

    let before = resident();
    let mut callers = Vec::new();
    for number in 0..OPENED_CALLERS {
        callers.push(caller(server, number).await);
    }
    all_is_read(server).await;
    let each_caller = (resident().saturating_sub(before)) / OPENED_CALLERS;

    let metrics = cluster.get("/metrics").await.text;
    let unproven = metrics.lines().find_map(|line| {
        line.strip_prefix("everynode_apiserver_connections_unproven ")?
            .parse()
            .ok()
    });
    let unproven: usize = unproven.unwrap_or_else(|| panic!("{metrics}"));
    assert!(unproven >= OPENED_CALLERS, "{unproven}");
    let all = CALLERS * each_caller + GUESTS * each_guest;
    assert!(all < ALL_BYTES, "guest {each_guest}, caller {each_caller}: {all}");
}

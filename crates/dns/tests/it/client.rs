//! A client, and a server with the records of a small cluster.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use dns::{Server, Sockets, Upstreams, Zone};
use hickory_proto::op::{Edns, Message, MessageType, OpCode, Query};
use hickory_proto::rr::{Name, RecordType};
use plan::dns_records::{Endpoint, Port, Records, Service, Slice};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UdpSocket};
use tokio_util::sync::{CancellationToken, DropGuard};

/// Timeout of a response on a slow machine.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// A running server.
pub(crate) struct Running {
    pub(crate) zone: Arc<Zone>,
    pub(crate) address: SocketAddr,
    _end: DropGuard,
}

impl Running {
    /// Starts a server with the records of the tests' cluster.
    pub(crate) async fn start(upstreams: Upstreams) -> Running {
        let zone =
            Zone::new(Records::new("cluster.local", &["10.96.0.10".parse().unwrap()])).expect("a zone");
        let running = Running::of(zone, upstreams).await;
        running.zone.update(fill);
        running.zone.whole();
        running
    }

    pub(crate) async fn of(zone: Zone, upstreams: Upstreams) -> Running {
        let zone = Arc::new(zone);
        let sockets = Sockets::bind((Ipv4Addr::LOCALHOST, 0).into())
            .await
            .expect("sockets");
        let address = sockets.address().expect("an address");
        let end = CancellationToken::new();
        let server = Server::new(Arc::clone(&zone), upstreams, vec![address]);
        tokio::spawn(server.serve(sockets, end.clone()));
        Running {
            zone,
            address,
            _end: end.drop_guard(),
        }
    }

    /// Sends a query by UDP.
    pub(crate) async fn ask(&self, name: &str, record_type: RecordType) -> Message {
        udp(self.address, &question(name, record_type)).await
    }
}

pub(crate) fn question(name: &str, record_type: RecordType) -> Message {
    let mut message = Message::new(4711, MessageType::Query, OpCode::Query);
    message.metadata.recursion_desired = true;
    message.add_query(Query::query(Name::from_ascii(name).expect("a name"), record_type));
    message
}

/// Adds EDNS to a query.
pub(crate) fn with_payload(mut message: Message, payload: u16) -> Message {
    let mut edns = Edns::new();
    edns.set_max_payload(payload);
    message.set_edns(edns);
    message
}

/// Sends one query by UDP.
pub(crate) async fn udp(server: SocketAddr, message: &Message) -> Message {
    let bytes = udp_bytes(server, &message.to_vec().expect("bytes")).await;
    Message::from_vec(&bytes).expect("an answer that can be read")
}

pub(crate) async fn udp_bytes(server: SocketAddr, packet: &[u8]) -> Vec<u8> {
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("a socket");
    socket.connect(server).await.expect("connect");
    socket.send(packet).await.expect("send");
    let mut buffer = vec![0; 65_535];
    let read = tokio::time::timeout(PATIENCE, socket.recv(&mut buffer)).await;
    let length = read.expect("an answer in time").expect("an answer");
    buffer.truncate(length);
    buffer
}

/// Sends queries on one TCP connection.
pub(crate) async fn tcp(server: SocketAddr, messages: &[Message]) -> Vec<Message> {
    let exchange = async {
        let mut stream = TcpStream::connect(server).await?;
        for message in messages {
            let bytes = message.to_vec().expect("bytes");
            stream
                .write_u16(u16::try_from(bytes.len()).expect("short"))
                .await?;
            stream.write_all(&bytes).await?;
        }
        let mut answers = Vec::new();
        for _ in messages {
            let mut bytes = vec![0; stream.read_u16().await?.into()];
            stream.read_exact(&mut bytes).await?;
            answers.push(Message::from_vec(&bytes).expect("an answer that can be read"));
        }
        Ok::<_, std::io::Error>(answers)
    };
    let answers = tokio::time::timeout(PATIENCE, exchange).await;
    answers.expect("answers in time").expect("answers")
}

/// Returns the records of a response as sorted text.
pub(crate) fn answers(message: &Message) -> Vec<String> {
    let mut texts: Vec<String> = message
        .answers
        .iter()
        .map(|record| record.data.to_string())
        .collect();
    texts.sort();
    texts
}

/// Returns `count` ready endpoints, each on its own node, with the port `http`.
pub(crate) fn endpoints(service: &str, count: u16) -> Slice {
    let endpoint = |number: u16| {
        let [high, low] = number.to_be_bytes();
        Endpoint {
            addresses: vec![IpAddr::V4(Ipv4Addr::new(10, 244, high, low))],
            ready: true,
            hostname: None,
            node: Some(format!("node-{number}")),
        }
    };
    Slice {
        service: service.to_owned(),
        ports: Arc::from([port(9100)]),
        endpoints: (0..count).map(endpoint).collect(),
    }
}

pub(crate) fn port(number: u16) -> Port {
    Port {
        name: "http".to_owned(),
        protocol: "tcp".to_owned(),
        number,
    }
}

pub(crate) fn headless() -> Service {
    Service {
        headless: true,
        ..Service::default()
    }
}

fn fill(records: &mut Records) {
    let web = Service {
        cluster_ips: vec!["10.96.0.7".parse().unwrap()],
        ports: vec![port(80)],
        ..Service::default()
    };
    records.set_service("shop", "web", Some(web));
    records.set_service("shop", "few", Some(headless()));
    records.set_slice("shop", "few-1", Some(endpoints("few", 4)));
    let alias = |name: &str| Service {
        external_name: Some(name.to_owned()),
        ..Service::default()
    };
    records.set_service("shop", "near", Some(alias("Web.shop.svc.cluster.local.")));
    records.set_service("shop", "far", Some(alias("www.example.org")));
    records.set_service("shop", "round", Some(alias("round.shop.svc.cluster.local")));
}

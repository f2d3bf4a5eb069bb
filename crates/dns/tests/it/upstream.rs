//! An upstream name server for tests.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use hickory_proto::op::{Edns, Message, MessageType, OpCode};
use hickory_proto::rr::rdata::{A, CNAME, SOA};
use hickory_proto::rr::{Name, RData, Record, RecordType};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, UdpSocket};
use tokio_util::task::AbortOnDropHandle;

/// Name server that responds to every name by [`reply`] and counts the queries.
pub(crate) struct Upstream {
    pub(crate) address: SocketAddr,
    asked: Arc<AtomicUsize>,
    _tasks: [AbortOnDropHandle<()>; 2],
}

impl Upstream {
    pub(crate) async fn start() -> Upstream {
        loop {
            let tcp = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))
                .await
                .expect("a listener");
            let address = tcp.local_addr().expect("an address");
            // Another process may use the port for UDP.
            let Ok(udp) = UdpSocket::bind(address).await else {
                continue;
            };
            let asked = Arc::new(AtomicUsize::new(0));
            let tasks = [
                tokio::spawn(serve_udp(udp, Arc::clone(&asked))),
                tokio::spawn(serve_tcp(tcp, Arc::clone(&asked))),
            ];
            return Upstream {
                address,
                asked,
                _tasks: tasks.map(AbortOnDropHandle::new),
            };
        }
    }

    /// Returns the number of queries so far.
    pub(crate) fn asked(&self) -> usize {
        self.asked.load(Ordering::SeqCst)
    }
}

async fn serve_udp(socket: UdpSocket, asked: Arc<AtomicUsize>) {
    let mut buffer = vec![0; 4096];
    while let Ok((length, client)) = socket.recv_from(&mut buffer).await {
        asked.fetch_add(1, Ordering::SeqCst);
        let question = Message::from_vec(&buffer[..length]).expect("a question");
        let mut answer = reply(&question);
        let bytes = answer.to_vec().expect("bytes");
        if bytes.len() > 1232 {
            answer.answers.clear();
            answer.metadata.truncation = true;
        }
        let mut strange = answer.clone();
        strange.metadata.id = !answer.id;
        // A forged response comes first.
        strange.answers.clear();
        for message in [strange, answer] {
            socket
                .send_to(&message.to_vec().expect("bytes"), client)
                .await
                .expect("send");
        }
    }
}

async fn serve_tcp(listener: TcpListener, asked: Arc<AtomicUsize>) {
    while let Ok((mut stream, _)) = listener.accept().await {
        asked.fetch_add(1, Ordering::SeqCst);
        let mut bytes = vec![0; stream.read_u16().await.expect("a length").into()];
        stream.read_exact(&mut bytes).await.expect("a question");
        let answer = reply(&Message::from_vec(&bytes).expect("a question"));
        let bytes = answer.to_vec().expect("bytes");
        stream
            .write_u16(u16::try_from(bytes.len()).expect("short"))
            .await
            .expect("write");
        stream.write_all(&bytes).await.expect("write");
    }
}

/// Returns the response for a name: `none.…` does not exist, `broken.…` fails, `long.…` has a
/// hundred addresses, `alias.…` is an alias; all others have 192.0.2.1.
fn reply(question: &Message) -> Message {
    let query = question.queries[0].clone();
    let name = query.name.clone();
    let mut answer = Message::new(question.id, MessageType::Response, OpCode::Query);
    answer.add_query(query.clone());
    answer.metadata.recursion_available = true;
    let address = |name: &Name, last: u8| {
        Record::from_rdata(name.clone(), 300, RData::A(A(Ipv4Addr::new(192, 0, 2, last))))
    };
    let text = name.to_string().to_lowercase();
    match text.split('.').next().unwrap_or_default() {
        "none" => {
            answer.metadata.response_code = hickory_proto::op::ResponseCode::NXDomain;
            let zone = Name::from_ascii("example.org.").expect("a name");
            let soa = SOA::new(zone.clone(), zone.clone(), 1, 2, 3, 4, 60);
            answer.add_authority(Record::from_rdata(zone, 600, RData::SOA(soa)));
        }
        "broken" => answer.metadata.response_code = hickory_proto::op::ResponseCode::ServFail,
        "long" => {
            answer.add_answers((0..100).map(|last| address(&name, last)));
        }
        "alias" => {
            let target = Name::from_ascii("target.example.org.").expect("a name");
            answer.add_answer(Record::from_rdata(name, 300, RData::CNAME(CNAME(target.clone()))));
            answer.add_answer(address(&target, 1));
        }
        _ if query.query_type == RecordType::A => {
            answer.add_answer(address(&name, 1));
        }
        _ => {}
    }
    answer.set_edns(Edns::new());
    answer
}

//! Tests of names outside the cluster.

use std::net::{Ipv4Addr, SocketAddr};

use dns::Upstreams;
use hickory_proto::op::ResponseCode;
use hickory_proto::rr::RecordType;
use tokio::net::UdpSocket;

use crate::client::{PATIENCE, Running, answers, question, tcp, udp, with_payload};
use crate::upstream::Upstream;

/// Returns a server that accepts queries and never responds.
async fn silent() -> (UdpSocket, SocketAddr) {
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("a socket");
    let address = socket.local_addr().expect("an address");
    (socket, address)
}

#[tokio::test]
async fn other_names_are_asked_of_the_upstream_once() {
    let upstream = Upstream::start().await;
    let server = Running::start(Upstreams::Fixed(vec![upstream.address])).await;
    for name in ["www.example.org.", "WWW.example.org.", "www.example.org."] {
        let answer = server.ask(name, RecordType::A).await;
        assert_eq!(answers(&answer), ["192.0.2.1"]);
        assert_eq!(answer.queries[0].name.to_string(), name);
        assert!(answer.edns.is_none() && !answer.authoritative && answer.recursion_available);
        assert!(answer.answers[0].ttl <= 300);
    }
    assert_eq!(upstream.asked(), 1);
    let wide = with_payload(question("www.example.org.", RecordType::A), 1232);
    assert!(udp(server.address, &wide).await.edns.is_some());
}

#[tokio::test]
async fn what_is_not_there_is_kept_too() {
    let upstream = Upstream::start().await;
    let server = Running::start(Upstreams::Fixed(vec![upstream.address])).await;
    for _ in 0..2 {
        let answer = server.ask("none.example.org.", RecordType::A).await;
        assert_eq!(answer.response_code, ResponseCode::NXDomain);
        assert_eq!(answer.authorities.len(), 1);
    }
    assert_eq!(upstream.asked(), 1);
    // A failure is not cached.
    for _ in 0..2 {
        let answer = server.ask("broken.example.org.", RecordType::A).await;
        assert_eq!(answer.response_code, ResponseCode::ServFail);
    }
    assert_eq!(upstream.asked(), 3);
}

#[tokio::test]
async fn a_long_answer_is_fetched_by_tcp_and_cut_for_udp() {
    let upstream = Upstream::start().await;
    let server = Running::start(Upstreams::Fixed(vec![upstream.address])).await;
    let asked = question("long.example.org.", RecordType::A);
    let short = udp(server.address, &asked).await;
    assert!(short.truncation && short.answers.is_empty());
    let whole = &tcp(server.address, &[asked]).await[0];
    assert_eq!((whole.truncation, whole.answers.len()), (false, 100));
    assert_eq!(upstream.asked(), 2, "once by UDP, once by TCP");
}

#[tokio::test]
async fn an_external_name_leads_elsewhere() {
    let upstream = Upstream::start().await;
    let server = Running::start(Upstreams::Fixed(vec![upstream.address])).await;
    let answer = server.ask("far.shop.svc.cluster.local.", RecordType::A).await;
    assert_eq!(answers(&answer), ["192.0.2.1", "www.example.org."]);
    let answer = server.ask("far.shop.svc.cluster.local.", RecordType::CNAME).await;
    assert_eq!(answers(&answer), ["www.example.org."]);
}

#[tokio::test]
async fn a_server_that_does_not_answer_is_passed_over() {
    let upstream = Upstream::start().await;
    let (_socket, dead) = silent().await;
    let server = Running::start(Upstreams::Fixed(vec![dead, upstream.address])).await;
    for name in ["a.example.org.", "b.example.org."] {
        assert_eq!(answers(&server.ask(name, RecordType::A).await), ["192.0.2.1"]);
    }
}

#[tokio::test]
async fn one_server_s_failure_is_not_the_last_word() {
    let upstream = Upstream::start().await;
    let other = Upstream::start().await;
    let server = Running::start(Upstreams::Fixed(vec![upstream.address, other.address])).await;
    let answer = server.ask("broken.example.org.", RecordType::A).await;
    assert_eq!(answer.response_code, ResponseCode::ServFail);
    assert_eq!((upstream.asked(), other.asked()), (1, 1));
}

#[tokio::test]
async fn client_gets_servfail_when_upstream_is_silent() {
    let (_socket, dead) = silent().await;
    let server = Running::start(Upstreams::Fixed(vec![dead])).await;
    let waiting = server.ask("www.example.org.", RecordType::A);
    let ours = async {
        let answer = server.ask("web.shop.svc.cluster.local.", RecordType::A).await;
        assert_eq!(answers(&answer), ["10.96.0.7"]);
    };
    let (answer, ()) = tokio::join!(waiting, ours);
    assert_eq!(answer.response_code, ResponseCode::ServFail);
    let nobody = Running::start(Upstreams::Fixed(Vec::new())).await;
    let answer = nobody.ask("www.example.org.", RecordType::A).await;
    assert_eq!(answer.response_code, ResponseCode::Refused);
}

#[tokio::test]
async fn the_resolver_file_is_read_again_when_it_changes() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("resolv.conf");
    let server = Running::start(Upstreams::File(path.clone())).await;
    let ask = || server.ask("www.example.org.", RecordType::A);
    assert_eq!(ask().await.response_code, ResponseCode::Refused);
    // No server listens there. The change shows as another response code.
    std::fs::write(&path, "nameserver 127.1.2.3\n").expect("write");
    let changed = async {
        while ask().await.response_code != ResponseCode::ServFail {
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(PATIENCE, changed)
        .await
        .expect("the change is seen");
}

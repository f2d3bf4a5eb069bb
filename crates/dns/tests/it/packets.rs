//! Tests of invalid packets.

use dns::Upstreams;
use hickory_proto::op::{Message, ResponseCode};
use hickory_proto::rr::RecordType;
use proptest::prelude::*;
use tokio::net::UdpSocket;

use crate::client::{Running, answers, question, udp, udp_bytes, with_payload};

#[tokio::test]
async fn what_is_no_question_is_refused_by_its_kind() {
    let server = Running::start(Upstreams::Fixed(Vec::new())).await;
    let code = async |change: &dyn Fn(&mut Vec<u8>)| {
        let mut packet = question("web.shop.svc.cluster.local.", RecordType::A)
            .to_vec()
            .unwrap();
        change(&mut packet);
        let answer = udp_bytes(server.address, &packet).await;
        Message::from_vec(&answer).expect("an answer").response_code
    };
    assert_eq!(code(&|_| {}).await, ResponseCode::NoError);
    assert_eq!(code(&|packet| packet.truncate(20)).await, ResponseCode::FormErr);
    assert_eq!(code(&|packet| packet[5] = 2).await, ResponseCode::FormErr);
    assert_eq!(code(&|packet| packet[2] |= 4 << 3).await, ResponseCode::NotImp);
    let class = |packet: &mut Vec<u8>| *packet.last_mut().unwrap() = 3;
    assert_eq!(code(&class).await, ResponseCode::Refused);
    let transfer = server.ask("cluster.local.", RecordType::AXFR).await;
    assert_eq!(transfer.response_code, ResponseCode::Refused);
    let mut versioned = with_payload(question("cluster.local.", RecordType::A), 1232);
    versioned.edns.as_mut().unwrap().set_version(1);
    let answer = udp(server.address, &versioned).await;
    assert_eq!(answer.edns.map(|edns| edns.rcode_high()), Some(1), "BADVERS");
}

/// Valid queries with some bytes changed, cut or added.
fn mutilated() -> impl Strategy<Value = Vec<u8>> {
    let names = [
        "web.shop.svc.cluster.local.",
        "_http._tcp.few.shop.svc.cluster.local.",
        "7.0.96.10.in-addr.arpa.",
    ];
    let good = proptest::sample::select(names.to_vec()).prop_map(|name| {
        with_payload(question(name, RecordType::SRV), 1232)
            .to_vec()
            .unwrap()
    });
    let changes = proptest::collection::vec((any::<proptest::sample::Index>(), any::<u8>()), 0..8);
    let end = (
        any::<proptest::sample::Index>(),
        any::<bool>(),
        proptest::collection::vec(any::<u8>(), 0..40),
    );
    (good, changes, end).prop_map(|(mut packet, changes, (at, cut, more))| {
        for (at, byte) in changes {
            let at = at.index(packet.len());
            packet[at] = byte;
        }
        if cut {
            packet.truncate(at.index(packet.len()));
        }
        packet.extend(more);
        packet
    })
}

#[test]
fn no_packet_stops_the_server() {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let server = runtime.block_on(Running::start(Upstreams::Fixed(Vec::new())));
    let packets = prop_oneof![mutilated(), proptest::collection::vec(any::<u8>(), 0..600)];
    proptest!(|(packet in packets)| {
        runtime.block_on(async {
            let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
            socket.send_to(&packet, server.address).await.unwrap();
            // The server responds to the next query, so it has handled this packet.
            let answer = server.ask("web.shop.svc.cluster.local.", RecordType::A).await;
            prop_assert_eq!(answers(&answer), ["10.96.0.7"]);
            Ok(())
        })?;
    });
}

//! Tests of the cluster's names.

use std::collections::HashSet;

use dns::{Upstreams, Zone};
use hickory_proto::op::ResponseCode;
use hickory_proto::rr::RecordType;
use plan::dns_records::Records;

use crate::client::{Running, answers, endpoints, headless, question, tcp, udp, with_payload};

fn nobody() -> Upstreams {
    Upstreams::Fixed(Vec::new())
}

#[tokio::test]
async fn the_cluster_s_names_are_answered_with_authority() {
    let server = Running::start(nobody()).await;
    let answer = server.ask("web.shop.svc.cluster.local.", RecordType::A).await;
    assert_eq!(answers(&answer), ["10.96.0.7"]);
    assert!(answer.authoritative && answer.recursion_available && answer.recursion_desired);
    assert_eq!(answer.answers[0].ttl, 5);
    assert_eq!(answer.answers[0].name.to_string(), "web.shop.svc.cluster.local.");
    let answer = server.ask("7.0.96.10.in-addr.arpa.", RecordType::PTR).await;
    assert_eq!(answers(&answer), ["web.shop.svc.cluster.local."]);
    let answer = server.ask("dns-version.cluster.local.", RecordType::TXT).await;
    assert_eq!(answers(&answer), ["1.1.0"]);
    let answer = server.ask("cluster.local.", RecordType::NS).await;
    assert_eq!(answers(&answer), ["ns.dns.cluster.local."]);
}

#[tokio::test]
async fn the_case_of_a_question_does_not_matter_and_comes_back() {
    let server = Running::start(nobody()).await;
    let answer = server.ask("Web.SHOP.svc.Cluster.local.", RecordType::A).await;
    assert_eq!(answers(&answer), ["10.96.0.7"]);
    assert_eq!(answer.queries[0].name.to_string(), "Web.SHOP.svc.Cluster.local.");
}

#[tokio::test]
async fn services_have_ports_and_targets_with_addresses() {
    let server = Running::start(nobody()).await;
    let asked = question("_http._tcp.few.shop.svc.cluster.local.", RecordType::SRV);
    let answer = udp(server.address, &with_payload(asked, 4096)).await;
    let first = "0 100 9100 10-244-0-0.few.shop.svc.cluster.local.";
    assert_eq!(answers(&answer)[0], first);
    assert_eq!(answer.answers.len(), 4);
    let mut addresses: Vec<String> = answer
        .additionals
        .iter()
        .map(|record| record.data.to_string())
        .collect();
    addresses.sort();
    assert_eq!(
        addresses,
        ["10.244.0.0", "10.244.0.1", "10.244.0.2", "10.244.0.3"]
    );
    let names: HashSet<String> = answer
        .additionals
        .iter()
        .map(|record| record.name.to_string())
        .collect();
    assert!(
        names.contains("10-244-0-3.few.shop.svc.cluster.local."),
        "{names:?}"
    );
}

#[tokio::test]
async fn the_daemon_of_one_node_has_a_name_and_a_port() {
    let server = Running::start(nobody()).await;
    let answer = server
        .ask("node-2.few.shop.svc.cluster.local.", RecordType::A)
        .await;
    assert_eq!(answers(&answer), ["10.244.0.2"]);
    let answer = server
        .ask("_http._tcp.node-2.few.shop.svc.cluster.local.", RecordType::SRV)
        .await;
    assert_eq!(
        answers(&answer),
        ["0 100 9100 node-2.few.shop.svc.cluster.local."]
    );
}

#[tokio::test]
async fn what_is_not_there_is_denied_with_the_zone_s_record() {
    let server = Running::start(nobody()).await;
    for (name, code) in [
        ("none.shop.svc.cluster.local.", ResponseCode::NXDomain),
        ("shop.svc.cluster.local.", ResponseCode::NoError),
        ("web.shop.svc.cluster.local.", ResponseCode::NoError),
    ] {
        let answer = server.ask(name, RecordType::MX).await;
        assert_eq!((answer.response_code, answer.answers.len()), (code, 0), "{name}");
        assert_eq!(answer.authorities.len(), 1, "{name}");
        let authority = &answer.authorities[0];
        assert_eq!(
            (authority.name.to_string().as_str(), authority.ttl),
            ("cluster.local.", 5)
        );
        let data = authority.data.to_string();
        assert!(
            data.starts_with("ns.dns.cluster.local. hostmaster.cluster.local."),
            "{data}"
        );
        assert!(data.ends_with(" 5"), "{data}");
    }
}

#[tokio::test]
async fn what_is_not_known_yet_is_not_denied() {
    let zone = Zone::new(Records::new("cluster.local", &[])).expect("a zone");
    let server = Running::of(zone, nobody()).await;
    let ask = || server.ask("web.shop.svc.cluster.local.", RecordType::A);
    assert_eq!(ask().await.response_code, ResponseCode::ServFail);
    server.zone.whole();
    assert_eq!(ask().await.response_code, ResponseCode::NXDomain);
}

#[tokio::test]
async fn an_alias_is_followed_within_the_cluster_and_not_in_circles() {
    let server = Running::start(nobody()).await;
    let answer = server.ask("near.shop.svc.cluster.local.", RecordType::A).await;
    assert_eq!(answers(&answer), ["10.96.0.7", "web.shop.svc.cluster.local."]);
    let answer = server
        .ask("near.shop.svc.cluster.local.", RecordType::CNAME)
        .await;
    assert_eq!(answers(&answer), ["web.shop.svc.cluster.local."]);
    let answer = server.ask("round.shop.svc.cluster.local.", RecordType::A).await;
    assert_eq!(answer.response_code, ResponseCode::ServFail);
}

#[tokio::test]
async fn many_addresses_are_cut_by_udp_and_whole_by_tcp() {
    let server = Running::start(nobody()).await;
    server.zone.update(|records| {
        records.set_service("shop", "many", Some(headless()));
        records.set_slice("shop", "many-1", Some(endpoints("many", 1000)));
    });
    let asked = question("many.shop.svc.cluster.local.", RecordType::A);
    let plain = udp(server.address, &asked).await;
    assert!(plain.truncation && plain.edns.is_none());
    // As many as fit in 512 bytes: 16 bytes each, after the header and the question.
    assert_eq!(plain.answers.len(), (512 - 12 - 33) / 16);
    let wide = with_payload(asked.clone(), 4096);
    let wide = udp(server.address, &wide).await;
    assert!(wide.truncation && wide.edns.is_some());
    assert_eq!(wide.answers.len(), (1232 - 12 - 33 - 11) / 16);
    let whole = &tcp(server.address, &[asked]).await[0];
    assert!(!whole.truncation);
    assert_eq!(answers(whole).into_iter().collect::<HashSet<_>>().len(), 1000);
}

#[tokio::test]
async fn more_addresses_than_a_message_holds_come_in_turns() {
    let server = Running::start(nobody()).await;
    server.zone.update(|records| {
        records.set_service("shop", "most", Some(headless()));
        records.set_slice("shop", "most-1", Some(endpoints("most", 10_000)));
    });
    let asked = question("most.shop.svc.cluster.local.", RecordType::A);
    let answers = tcp(server.address, &[asked.clone(), asked]).await;
    let first = |answer: &hickory_proto::op::Message| answer.answers[0].data.to_string();
    for answer in &answers {
        assert!(answer.truncation);
        assert_eq!(answer.answers.len(), (65_535 - 12 - 33) / 16);
    }
    assert_ne!(first(&answers[0]), first(&answers[1]));
}

#[tokio::test]
async fn addresses_take_turns() {
    let server = Running::start(nobody()).await;
    let mut firsts = HashSet::new();
    for _ in 0..64 {
        let answer = server.ask("few.shop.svc.cluster.local.", RecordType::A).await;
        assert_eq!(answer.answers.len(), 4);
        firsts.insert(answer.answers[0].data.to_string());
        // Clients also query IPv6. These queries must not change which address the next IPv4 query
        // gets.
        server.ask("few.shop.svc.cluster.local.", RecordType::AAAA).await;
    }
    assert_eq!(firsts.len(), 4);
}

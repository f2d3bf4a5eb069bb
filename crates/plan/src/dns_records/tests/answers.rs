use super::*;

/// Checks a table of names, kinds and answers.
fn check(records: &Records, table: &[(&str, Kind, &str)]) {
    for (name, kind, expected) in table {
        let answer = show(&ask(records, name, *kind));
        assert_eq!(answer, *expected, "{name} {kind:?}");
    }
}

#[test]
fn a_service_has_its_addresses_and_its_named_ports() {
    let mut records = empty();
    let service = cluster_ip(&["10.96.0.7", "fd00:10:96::7"], &["http/tcp/80", "/udp/53"]);
    records.set_service("shop", "web", Some(service));
    check(
        &records,
        &[
            ("web.shop.svc", Kind::V4, "10.96.0.7"),
            ("web.shop.svc", Kind::V6, "fd00:10:96::7"),
            ("web.shop.svc", Kind::Other, "NoData"),
            (
                "_http._tcp.web.shop.svc",
                Kind::Service,
                "-:80 (10.96.0.7 fd00:10:96::7)",
            ),
            ("_http._tcp.web.shop.svc", Kind::V4, "NoData"),
            ("_http._udp.web.shop.svc", Kind::Service, "NoName"),
            ("_tcp.web.shop.svc", Kind::Service, "NoData"),
            // Only unnamed ports use it.
            ("_udp.web.shop.svc", Kind::Service, "NoName"),
            ("_._udp.web.shop.svc", Kind::Service, "NoName"),
            ("7.0.96.10.in-addr.arpa.", Kind::Pointer, "web.shop.svc"),
            (
                "7.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.6.9.0.0.0.1.0.0.0.0.d.f.ip6.arpa.",
                Kind::Pointer,
                "web.shop.svc",
            ),
        ],
    );
}

#[test]
fn a_headless_service_has_the_addresses_of_its_ready_endpoints() {
    let mut records = empty();
    records.set_service("shop", "db", Some(headless()));
    check(&records, &[("db.shop.svc", Kind::V4, "NoName")]);
    let endpoints = [
        called("10.244.0.9", "db-0"),
        on("10.244.0.5", "node-1"),
        unready(on("10.244.0.6", "node-2")),
    ];
    records.set_slice("shop", "db-x", Some(slice("db", &["sql/tcp/5432"], &endpoints)));
    let six = [called("fd00::5", "db-0")];
    records.set_slice("shop", "db-y", Some(slice("db", &["sql/tcp/5432"], &six)));
    check(
        &records,
        &[
            ("db.shop.svc", Kind::V4, "10.244.0.5 10.244.0.9"),
            ("db.shop.svc", Kind::V6, "fd00::5"),
            ("db-0.db.shop.svc", Kind::V4, "10.244.0.9"),
            ("db-0.db.shop.svc", Kind::V6, "fd00::5"),
            ("10-244-0-5.db.shop.svc", Kind::V4, "10.244.0.5"),
            ("10-244-0-5.db.shop.svc", Kind::V6, "NoData"),
            ("10-244-0-6.db.shop.svc", Kind::V4, "NoName"),
            (
                "_sql._tcp.db.shop.svc",
                Kind::Service,
                "10-244-0-5:5432 (10.244.0.5), db-0:5432 (10.244.0.9 fd00::5)",
            ),
            (
                "5.0.244.10.in-addr.arpa.",
                Kind::Pointer,
                "10-244-0-5.db.shop.svc",
            ),
            ("9.0.244.10.in-addr.arpa.", Kind::Pointer, "db-0.db.shop.svc"),
            ("6.0.244.10.in-addr.arpa.", Kind::Pointer, "Elsewhere"),
        ],
    );
}

#[test]
fn endpoints_that_are_not_ready_count_when_the_service_says_so() {
    let mut records = empty();
    let endpoint = unready(on("10.244.0.6", "n"));
    records.set_slice("shop", "db-x", Some(slice("db", &[], &[endpoint])));
    let publish = |publish| Service {
        publish_not_ready_addresses: publish,
        ..headless()
    };
    for (service, expected) in [
        (publish(true), "10.244.0.6"),
        (publish(false), "NoName"),
        (publish(true), "10.244.0.6"),
    ] {
        records.set_service("shop", "db", Some(service));
        check(&records, &[("db.shop.svc", Kind::V4, expected)]);
    }
}

#[test]
fn each_node_s_daemon_has_a_name() {
    let mut records = empty();
    records.set_service("kube-system", "exporter", Some(headless()));
    let endpoints = [
        on("10.244.1.5", "node-1"),
        on("192.0.2.2", "rack1.example.org"),
        // A surge: both pods of the node are ready.
        on("10.244.3.5", "node-3"),
        on("10.244.3.6", "node-3"),
    ];
    let ports = ["metrics/tcp/9100"];
    records.set_slice("kube-system", "e", Some(slice("exporter", &ports, &endpoints)));
    check(
        &records,
        &[
            ("node-1.exporter.kube-system.svc", Kind::V4, "10.244.1.5"),
            (
                "node-3.exporter.kube-system.svc",
                Kind::V4,
                "10.244.3.5 10.244.3.6",
            ),
            (
                "rack1.example.org.exporter.kube-system.svc",
                Kind::V4,
                "192.0.2.2",
            ),
            ("example.org.exporter.kube-system.svc", Kind::V4, "NoData"),
            ("org.exporter.kube-system.svc", Kind::V4, "NoData"),
            ("rack1.exporter.kube-system.svc", Kind::V4, "NoName"),
            ("node-2.exporter.kube-system.svc", Kind::V4, "NoName"),
            (
                "_metrics._tcp.node-1.exporter.kube-system.svc",
                Kind::Service,
                "node-1:9100 (10.244.1.5)",
            ),
            (
                "_metrics._tcp.rack1.example.org.exporter.kube-system.svc",
                Kind::Service,
                "rack1.example.org:9100 (192.0.2.2)",
            ),
            (
                "_metrics._tcp.node-3.exporter.kube-system.svc",
                Kind::Service,
                "node-3:9100 (10.244.3.5 10.244.3.6)",
            ),
            ("_tcp.node-1.exporter.kube-system.svc", Kind::V4, "NoData"),
            (
                "_metrics._tcp.node-2.exporter.kube-system.svc",
                Kind::Service,
                "NoName",
            ),
        ],
    );
}

#[test]
fn a_node_keeps_its_daemon_s_name_when_the_pod_is_replaced() {
    let mut records = empty();
    records.set_service("a", "d", Some(headless()));
    for address in ["10.244.1.5", "10.244.1.6"] {
        records.set_slice("a", "s", Some(slice("d", &[], &[on(address, "n1")])));
        check(&records, &[("n1.d.a.svc", Kind::V4, address)]);
    }
    records.set_slice("a", "s", None);
    check(&records, &[("n1.d.a.svc", Kind::V4, "NoName")]);
}

#[test]
fn a_hostname_wins_over_a_node_s_name() {
    let mut records = empty();
    records.set_service("a", "d", Some(headless()));
    let endpoints = [on("10.0.0.1", "x"), called("10.0.0.2", "x")];
    records.set_slice("a", "s", Some(slice("d", &[], &endpoints)));
    check(&records, &[("x.d.a.svc", Kind::V4, "10.0.0.2")]);
}

#[test]
fn endpoints_of_service_with_address_have_no_reverse_names() {
    let mut records = empty();
    records.set_service("a", "web", Some(cluster_ip(&["10.96.0.7"], &[])));
    let endpoints = [on("10.0.0.1", "n1"), called("10.0.0.2", "w")];
    records.set_slice("a", "s", Some(slice("web", &[], &endpoints)));
    check(
        &records,
        &[
            ("web.a.svc", Kind::V4, "10.96.0.7"),
            ("10-0-0-1.web.a.svc", Kind::V4, "10.0.0.1"),
            ("n1.web.a.svc", Kind::V4, "10.0.0.1"),
            ("1.0.0.10.in-addr.arpa.", Kind::Pointer, "Elsewhere"),
            ("2.0.0.10.in-addr.arpa.", Kind::Pointer, "w.web.a.svc"),
        ],
    );
}

#[test]
fn an_external_name_stands_for_another_one() {
    let mut records = empty();
    let service = |name: &str| Service {
        external_name: Some(name.to_owned()),
        ..Service::default()
    };
    records.set_service("a", "db", Some(service("db.example.org")));
    records.set_service("a", "ip", Some(service("192.0.2.1")));
    check(
        &records,
        &[
            ("db.a.svc", Kind::V4, "= db.example.org"),
            ("db.a.svc", Kind::Other, "= db.example.org"),
            ("x.db.a.svc", Kind::V4, "NoName"),
            ("ip.a.svc", Kind::V4, "NoData"),
        ],
    );
}

#[test]
fn names_without_records_that_have_names_below_are_there() {
    let mut records = empty();
    records.set_service("shop", "web", Some(cluster_ip(&["10.96.0.7"], &[])));
    records.set_service("idle", "none", Some(headless()));
    check(
        &records,
        &[
            ("cluster.local.", Kind::V4, "NoData"),
            ("cluster.local.", Kind::Authority, "Authority"),
            ("cluster.local.", Kind::NameServer, "NameServer"),
            ("svc", Kind::V4, "NoData"),
            ("pod", Kind::V4, "NoData"),
            ("shop.svc", Kind::V4, "NoData"),
            ("idle.svc", Kind::V4, "NoName"),
            ("other.svc", Kind::V4, "NoName"),
            ("any.pod", Kind::V4, "NoData"),
            ("x", Kind::V4, "NoName"),
            ("web.shop", Kind::V4, "NoName"),
            ("local.", Kind::V4, "Elsewhere"),
            ("example.org.", Kind::V4, "Elsewhere"),
        ],
    );
}

#[test]
fn there_are_no_wildcards() {
    let mut records = empty();
    records.set_service("shop", "web", Some(cluster_ip(&["10.96.0.7"], &["http/tcp/80"])));
    check(
        &records,
        &[
            ("*.shop.svc", Kind::V4, "NoName"),
            ("web.*.svc", Kind::V4, "NoName"),
            ("*.*.web.shop.svc", Kind::Service, "NoName"),
            ("any.shop.svc", Kind::V4, "NoName"),
        ],
    );
}

#[test]
fn a_pod_s_name_spells_its_address() {
    check(
        &empty(),
        &[
            ("10-244-0-5.shop.pod", Kind::V4, "10.244.0.5"),
            ("10-244-0-5.shop.pod", Kind::V6, "NoData"),
            ("fd00-10--5.shop.pod", Kind::V6, "fd00:10::5"),
            ("10-244-0-256.shop.pod", Kind::V4, "NoName"),
            ("web.shop.pod", Kind::V4, "NoName"),
            ("x.10-244-0-5.shop.pod", Kind::V4, "NoName"),
        ],
    );
}

#[test]
fn the_schema_has_a_version_and_the_domain_a_server() {
    check(
        &empty(),
        &[
            ("dns-version", Kind::Text, "Version"),
            ("dns-version", Kind::V4, "NoData"),
            ("ns.dns", Kind::V4, "10.96.0.10"),
            ("dns", Kind::V4, "NoData"),
        ],
    );
}

#[test]
fn odd_reverse_names_are_somebody_else_s() {
    let records = empty();
    for name in [
        "0.96.10.in-addr.arpa.",
        "x.0.96.10.in-addr.arpa.",
        "300.0.96.10.in-addr.arpa.",
        "1.ip6.arpa.",
    ] {
        check(&records, &[(name, Kind::Pointer, "Elsewhere")]);
    }
}

#[test]
fn a_slice_that_changes_its_service_leaves_the_first_one() {
    let mut records = empty();
    records.set_service("a", "one", Some(headless()));
    records.set_service("a", "two", Some(headless()));
    records.set_slice("a", "s", Some(slice("one", &[], &[on("10.0.0.1", "n")])));
    records.set_slice("a", "s", Some(slice("two", &[], &[on("10.0.0.1", "n")])));
    check(
        &records,
        &[
            ("one.a.svc", Kind::V4, "NoName"),
            ("two.a.svc", Kind::V4, "10.0.0.1"),
        ],
    );
}

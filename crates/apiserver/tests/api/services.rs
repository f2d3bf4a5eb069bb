//! Services: addresses of each family, node ports, and the effect of changed ranges.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use crate::common::{Cluster, MERGE, text};

const SERVICES: &str = "/api/v1/namespaces/default/services";
const BOTH: &str = "10.96.0.0/12,fd00:10:96::/112";

fn service(name: &str, spec: Value) -> Value {
    let mut service = json!({
        "kind": "Service", "apiVersion": "v1", "metadata": {"name": name}, "spec": {"ports": [{"port": 80}]},
    });
    for (field, value) in spec.as_object().unwrap() {
        service["spec"][field] = value.clone();
    }
    service
}

fn ips(service: &Value) -> Vec<String> {
    let ips = service["spec"]["clusterIPs"].as_array().into_iter().flatten();
    ips.map(|ip| text(ip).to_owned()).collect()
}

#[tokio::test]
async fn well_known_services_are_in_the_configured_ranges() {
    for (ranges, kubernetes, dns) in [
        ("10.96.0.0/12", "10.96.0.1", &["10.96.0.10"][..]),
        (BOTH, "10.96.0.1", &["10.96.0.10", "fd00:10:96::a"]),
        (
            "fd00:7::/112,10.7.0.0/16",
            "fd00:7::1",
            &["fd00:7::a", "10.7.0.10"],
        ),
        ("fd00:7::/112", "fd00:7::1", &["fd00:7::a"]),
    ] {
        let cluster = Cluster::with_services(ranges).await;
        let api = cluster.get(&format!("{SERVICES}/kubernetes")).await.expect(200);
        assert_eq!(ips(&api), [kubernetes], "{ranges}");
        assert_eq!(api["spec"]["ipFamilyPolicy"], "SingleStack");
        let names = cluster
            .get("/api/v1/namespaces/kube-system/services/kube-dns")
            .await;
        assert_eq!(ips(&names.expect(200)), dns, "{ranges}");
    }
}

#[tokio::test]
async fn dual_stack_service_releases_second_address_when_single_stack() {
    let cluster = Cluster::with_services(BOTH).await;
    let both = service("both", json!({"ipFamilyPolicy": "PreferDualStack"}));
    let both = cluster.create(SERVICES, &both).await.expect(201);
    assert_eq!(both["spec"]["ipFamilies"], json!(["IPv4", "IPv6"]));
    let [first, second] = &ips(&both)[..] else {
        panic!("{both}");
    };
    assert_eq!(both["spec"]["clusterIP"], first.as_str());

    let same = service("same", json!({"clusterIP": second}));
    let refused = cluster.create(SERVICES, &same).await.expect(422);
    assert!(
        text(&refused["message"]).ends_with("provided IP is already allocated"),
        "{refused}"
    );
    let outside = service("same", json!({"clusterIP": "fd00:99::7"}));
    let refused = cluster.create(SERVICES, &outside).await.expect(422);
    assert!(
        text(&refused["message"]).ends_with("The range of valid IPs is fd00:10:96::/112"),
        "{refused}"
    );

    let path = format!("{SERVICES}/both");
    let single = json!({"spec": {"ipFamilyPolicy": "SingleStack"}});
    let single = cluster.patch(&path, MERGE, &single).await.expect(200);
    assert_eq!(ips(&single), [first.as_str()]);
    assert_eq!(single["spec"]["ipFamilies"], json!(["IPv4"]));
    let taken = cluster.create(SERVICES, &same).await.expect(201);
    assert_eq!(ips(&taken), [second.as_str()]);
    let again = json!({"spec": {"ipFamilyPolicy": "RequireDualStack"}});
    let again = cluster.patch(&path, MERGE, &again).await.expect(200);
    assert_eq!(ips(&again)[0], *first);
    assert_ne!(ips(&again)[1], *second);

    let name = json!({"spec": {"type": "ExternalName", "externalName": "a.example"}});
    let name = cluster.patch(&path, MERGE, &name).await.expect(200);
    assert_eq!(name["spec"].get("clusterIPs"), None, "{name}");
    let first_again = service("first", json!({"clusterIP": first}));
    cluster.create(SERVICES, &first_again).await.expect(201);
}

#[tokio::test]
async fn nothing_is_given_twice_however_many_ask_at_once() {
    const SERVERS: usize = 3;
    const ASK: usize = 20;
    let mut cluster = Cluster::with_services("10.7.0.0/24,fd00:7::/120").await;
    let mut seen = BTreeSet::new();
    for round in 0..SERVERS {
        let create = |number: usize| {
            let spec = json!({"type": "NodePort", "ipFamilyPolicy": "RequireDualStack"});
            let service = service(&format!("s-{round}-{number}"), spec);
            let cluster = &cluster;
            async move { cluster.create(SERVICES, &service).await.expect(201) }
        };
        for made in futures::future::join_all((0..ASK).map(create)).await {
            let port = made["spec"]["ports"][0]["nodePort"].to_string();
            for own in ips(&made).into_iter().chain([port]) {
                assert!(seen.insert(own.clone()), "{own} is given twice");
            }
        }
        // A restarted server holds the allocations of earlier ones.
        cluster = cluster.restart_with_services("10.7.0.0/24,fd00:7::/120").await;
    }
    assert_eq!(seen.len(), 3 * SERVERS * ASK);
    // The address and the port of a deleted Service are free again.
    let gone = cluster.get(&format!("{SERVICES}/s-0-0")).await.expect(200);
    let path = format!("{SERVICES}/s-0-0");
    cluster.delete(&path, &Value::Null).await.expect(200);
    let port = gone["spec"]["ports"][0]["nodePort"].clone();
    let spec =
        json!({"type": "NodePort", "clusterIP": ips(&gone)[0], "ports": [{"port": 1, "nodePort": port}]});
    cluster
        .create(SERVICES, &service("again", spec))
        .await
        .expect(201);
}

#[tokio::test]
async fn a_full_range_is_said_and_what_fails_holds_nothing() {
    let cluster = Cluster::with_services("10.7.0.0/28,fd00:7::/112").await;
    // Two of the 14 addresses belong to Services of the cluster itself.
    for number in 0..12 {
        cluster
            .create(SERVICES, &service(&format!("s-{number}"), json!({})))
            .await
            .expect(201);
    }
    let refused = cluster
        .create(SERVICES, &service("more", json!({})))
        .await
        .expect(500);
    assert!(
        text(&refused["message"]).contains("failed to allocate a serviceIP: range is full"),
        "{refused}"
    );
    let six = service("six", json!({"ipFamilies": ["IPv6"]}));
    cluster.create(SERVICES, &six).await.expect(201);
    cluster
        .delete(&format!("{SERVICES}/s-3"), &Value::Null)
        .await
        .expect(200);
    let dry = format!("{SERVICES}?dryRun=All");
    cluster.create(&dry, &service("dry", json!({}))).await.expect(201);
    cluster
        .create(SERVICES, &service("more", json!({})))
        .await
        .expect(201);
}

#[tokio::test]
async fn services_keep_addresses_and_get_events_when_range_changes() {
    let cluster = Cluster::start().await;
    let before = cluster
        .create(SERVICES, &service("old", json!({})))
        .await
        .expect(201);
    let cluster = cluster.restart_with_services("10.7.0.0/16,fd00:7::/112").await;
    for (path, kept) in [
        (format!("{SERVICES}/old"), ips(&before)),
        (format!("{SERVICES}/kubernetes"), vec!["10.96.0.1".to_owned()]),
        (
            "/api/v1/namespaces/kube-system/services/kube-dns".to_owned(),
            vec!["10.96.0.10".to_owned()],
        ),
    ] {
        assert_eq!(ips(&cluster.get(&path).await.expect(200)), kept);
    }
    let events = cluster.get("/api/v1/namespaces/default/events").await.expect(200);
    let told: BTreeSet<String> = events["items"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|event| event["reason"] == "ClusterIPOutOfRange" && event["type"] == "Warning")
        .map(|event| {
            format!(
                "{}: {}",
                text(&event["involvedObject"]["name"]),
                text(&event["message"])
            )
        })
        .collect();
    let told_of = |name: &str, ip: &str| {
        let range = "10.7.0.0/16,fd00:7::/112";
        told.contains(&format!(
            "{name}: Cluster IP {ip} is not within the service CIDR {range}; please recreate service"
        ))
    };
    assert!(
        told_of("old", &ips(&before)[0]) && told_of("kubernetes", "10.96.0.1"),
        "{told:?}"
    );
    // The old Service can be changed like any other. It gets its second address from the new range.
    let both = json!({"spec": {"ipFamilyPolicy": "RequireDualStack", "ports": [{"port": 81}]}});
    let both = cluster
        .patch(&format!("{SERVICES}/old"), MERGE, &both)
        .await
        .expect(200);
    assert_eq!(ips(&both)[0], ips(&before)[0]);
    assert!(ips(&both)[1].starts_with("fd00:7::"), "{both}");
    let new = cluster
        .create(SERVICES, &service("new", json!({})))
        .await
        .expect(201);
    assert!(ips(&new)[0].starts_with("10.7."), "{new}");
    // When the well-known Services are recreated, they get the new addresses.
    cluster
        .delete(&format!("{SERVICES}/kubernetes"), &Value::Null)
        .await
        .expect(200);
    let cluster = cluster.restart_with_services("10.7.0.0/16,fd00:7::/112").await;
    let moved = cluster.get(&format!("{SERVICES}/kubernetes")).await.expect(200);
    assert_eq!(ips(&moved), ["10.7.0.1"]);
}

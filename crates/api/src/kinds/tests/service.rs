use super::*;
use crate::kinds::core::service::KIND;
use crate::kinds::core::service::families::{set_addresses, settle};
use crate::view::IpFamily;

fn body(spec: &str) -> String {
    format!("{{apiVersion: v1, kind: Service, metadata: {{name: web, namespace: d}}, spec: {spec}}}")
}

fn check(spec: &str) -> Vec<String> {
    create(&KIND, &body(spec)).1
}

const NONE: [&str; 0] = [];
const BOTH: &[IpFamily] = &[IpFamily::V4, IpFamily::V6];

/// Prepares a Service as the server does, in a cluster of these families.
fn give(service: &mut Value, old: &Value, cluster: &[IpFamily], ips: &[&str]) {
    settle(service, old, cluster).unwrap();
    let ips: Vec<String> = ips.iter().map(|ip| (*ip).to_owned()).collect();
    set_addresses(service, &ips);
}

#[test]
fn plain_service_gets_its_defaults() {
    let (object, errors) = create(&KIND, &body("{selector: {app: web}, ports: [{port: 80}]}"));
    assert_eq!(errors, NONE);
    assert_eq!(
        object["spec"],
        json!({"selector": {"app": "web"}, "ports": [{"port": 80, "protocol": "TCP", "targetPort": 80}], "type": "ClusterIP",
            "sessionAffinity": "None", "internalTrafficPolicy": "Cluster"})
    );
    assert_eq!(object["status"], json!({"loadBalancer": {}}));
}

#[test]
fn address_determines_its_family() {
    let (mut object, _) = create(&KIND, &body("{ports: [{port: 80}]}"));
    give(&mut object, &Value::Null, BOTH, &["10.96.0.10"]);
    assert_eq!(object["spec"]["clusterIPs"], json!(["10.96.0.10"]));
    assert_eq!(object["spec"]["ipFamilies"], json!(["IPv4"]));
    assert_eq!(object["spec"]["ipFamilyPolicy"], "SingleStack");
    assert!(KIND.validate(&object).is_empty());
}

#[test]
fn ports_are_required_unless_headless_or_external_name() {
    assert_eq!(check("{}"), ["spec.ports: Required value"]);
    assert_eq!(check("{clusterIP: None}"), NONE);
    assert_eq!(check("{type: ExternalName, externalName: example.com.}"), NONE);
    assert_eq!(
        check("{type: ExternalName}"),
        ["spec.externalName: Required value"]
    );
    assert_eq!(
        check("{type: NodePort, clusterIP: None, ports: [{port: 1}]}"),
        ["spec.clusterIPs[0]: Invalid value: \"None\": may not be set to 'None' for NodePort services"]
    );
}

#[test]
fn several_ports_need_unique_names() {
    assert_eq!(
        check("{ports: [{port: 80}, {port: 80, name: A}]}"),
        [
            "spec.ports[0].name: Required value".to_owned(),
            check("{ports: [{port: 1, name: A}]}")[0].replace("[0]", "[1]"),
            "spec.ports[1]: Duplicate value: {\"port\":80,\"protocol\":\"TCP\"}".to_owned(),
        ]
    );
    assert_eq!(
        check("{ports: [{port: 70000, targetPort: 80}]}"),
        ["spec.ports[0].port: Invalid value: 70000: must be between 1 and 65535, inclusive"]
    );
}

#[test]
fn types_and_affinities_have_fixed_sets_of_values() {
    assert_eq!(
        check("{type: Odd, ports: [{port: 1}]}"),
        [
            "spec.type: Unsupported value: \"Odd\": supported values: \"ClusterIP\", \"ExternalName\", \"LoadBalancer\", \"NodePort\""
        ]
    );
    assert_eq!(
        check("{ports: [{port: 1, nodePort: 30000}]}"),
        ["spec.ports[0].nodePort: Forbidden: may not be used when `type` is 'ClusterIP'"]
    );
    let (object, errors) = create(&KIND, &body("{sessionAffinity: ClientIP, ports: [{port: 1}]}"));
    assert_eq!(errors, NONE);
    assert_eq!(
        object["spec"]["sessionAffinityConfig"],
        json!({"clientIP": {"timeoutSeconds": 10800}})
    );
}

#[test]
fn source_ranges_are_networks_of_load_balancers() {
    let with = |kind: &str, ranges: &str| {
        check(&format!(
            "{{type: {kind}, ports: [{{port: 1}}], loadBalancerSourceRanges: [{ranges}]}}"
        ))
    };
    assert_eq!(with("LoadBalancer", "10.0.0.0/8, ' fd00::/8 '"), NONE);
    assert_eq!(
        with("LoadBalancer", "10.0.0.0/33"),
        [
            "spec.LoadBalancerSourceRanges[0]: Invalid value: \"10.0.0.0/33\": must be a valid CIDR value, (e.g. 10.9.8.0/24 or 2001:db8::/64)"
        ]
    );
    assert_eq!(
        with("ClusterIP", "10.0.0.0/8"),
        ["spec.LoadBalancerSourceRanges: Forbidden: may only be used when `type` is 'LoadBalancer'"]
    );
}

#[test]
fn service_name_is_a_dns_label() {
    let named = |name: &str| {
        let service = format!(
            "{{apiVersion: v1, kind: Service, metadata: {{name: {name}, namespace: d}}, spec: {{ports: [{{port: 1}}]}}}}"
        );
        create(&KIND, &service).1
    };
    assert_eq!(named("1a"), NONE);
    assert_eq!(
        named("a.b"),
        ["metadata.name: Invalid value: \"a.b\": must not contain dots"]
    );
}

#[test]
fn assigned_address_is_immutable() {
    let (mut old, _) = create(&KIND, &body("{ports: [{port: 80}]}"));
    give(&mut old, &Value::Null, BOTH, &["10.96.0.10"]);
    let (new, errors) = update(&KIND, &old, |o| o["spec"] = json!({"ports": [{"port": 81}]}));
    assert_eq!(errors, NONE);
    assert_eq!(new["spec"]["clusterIP"], "10.96.0.10");
    let (_, errors) = update(&KIND, &old, |o| {
        o["spec"]["clusterIP"] = json!("10.96.0.11");
        o["spec"]["clusterIPs"] = json!(["10.96.0.11"]);
    });
    assert_eq!(
        errors,
        ["spec.clusterIPs[0]: Invalid value: [\"10.96.0.11\"]: may not change once set"]
    );
}

#[test]
fn service_prints_its_addresses_and_ports() {
    let object = json!({"metadata": {"name": "web"}, "spec": {"type": "NodePort", "clusterIP": "10.0.0.1", "selector": {"app": "web"},
        "ports": [{"port": 80, "protocol": "TCP"}, {"port": 81, "nodePort": 30000, "protocol": "UDP"}]}});
    assert_eq!(
        cells(&KIND, object),
        [
            "web",
            "NodePort",
            "10.0.0.1",
            "<none>",
            "80/TCP,81:30000/UDP",
            "<unknown>",
            "app=web"
        ]
    );
    let balanced = json!({"spec": {"type": "LoadBalancer"}});
    assert_eq!(cells(&KIND, balanced)[3], "<pending>");
    let elsewhere = json!({"spec": {"type": "ExternalName", "externalName": "example.com"}});
    assert_eq!(cells(&KIND, elsewhere)[2..5], ["<none>", "example.com", "<none>"]);
}

#[test]
fn fields_of_load_balancers_and_ports_are_validated() {
    let check = |spec: &str| create(&KIND, &body(spec)).1;
    for (spec, complaints) in [
        (
            "{type: LoadBalancer, ports: [{port: 10250}]}",
            &[
                "spec.ports[0]: Invalid value: 10250: may not expose port 10250 externally since it is used by kubelet",
            ][..],
        ),
        (
            "{ports: [{port: 1}], loadBalancerClass: a.b/c, allocateLoadBalancerNodePorts: false}",
            &[
                "spec.allocateLoadBalancerNodePorts: Forbidden: may only be used when `type` is 'LoadBalancer'",
                "spec.loadBalancerClass: Forbidden: may only be used when `type` is 'LoadBalancer'",
            ],
        ),
        (
            "{type: LoadBalancer, ports: [{port: 1}], loadBalancerClass: a.b/c}",
            &[],
        ),
        (
            "{type: NodePort, ports: [{port: 1}], healthCheckNodePort: 30000}",
            &[
                "spec.healthCheckNodePort: Invalid value: 30000: may only be set when `type` is 'LoadBalancer' and `externalTrafficPolicy` is 'Local'",
            ],
        ),
        (
            "{type: NodePort, ports: [{name: a, port: 1, nodePort: 30000}, {name: b, port: 2, nodePort: 30000}]}",
            &["spec.ports[1].nodePort: Duplicate value: 30000"],
        ),
        (
            "{type: NodePort, ports: [{name: a, port: 1, nodePort: 30000}, {name: b, port: 1, nodePort: 30000, protocol: UDP}]}",
            &[],
        ),
        (
            "{ports: [{port: 1}], externalIPs: [127.0.0.1]}",
            &[
                "spec.externalIPs[0]: Invalid value: \"127.0.0.1\": may not be in the loopback range (127.0.0.0/8, ::1/128)",
            ],
        ),
        (
            "{ports: [{port: 1}], externalIPs: [203.0.113.1], externalTrafficPolicy: Local}",
            &[],
        ),
        (
            "{ports: [{port: 1}], externalTrafficPolicy: Local}",
            &[
                "spec.externalTrafficPolicy: Invalid value: \"Local\": may only be set for externally-accessible services",
            ],
        ),
        (
            "{ports: [{port: 1}], trafficDistribution: Far}",
            &[
                "spec.trafficDistribution: Unsupported value: \"Far\": supported values: \"PreferClose\", \"PreferSameNode\", \"PreferSameZone\"",
            ],
        ),
        (
            "{ports: [{port: 1, appProtocol: kubernetes.io/h2c}], trafficDistribution: PreferClose}",
            &[],
        ),
    ] {
        assert_eq!(check(spec), complaints, "{spec}");
    }
    let errors = check("{ports: [{port: 1, appProtocol: a b}]}");
    assert!(
        errors[0].starts_with("spec.ports[0].appProtocol: Invalid value: \"a b\""),
        "{errors:?}"
    );
}

#[test]
fn load_balancer_has_an_immutable_class_and_addresses() {
    let (old, errors) = create(
        &KIND,
        &body("{type: LoadBalancer, ports: [{port: 1}], loadBalancerClass: a.b/c}"),
    );
    assert_eq!(errors, NONE);
    let (_, errors) = update(&KIND, &old, |new| {
        new["spec"]["loadBalancerClass"] = "a.b/d".into()
    });
    assert_eq!(
        errors,
        ["spec.loadBalancerClass: Invalid value: \"a.b/d\": may not change once set"]
    );
    let ingress = |place: Value| {
        let given = json!({"loadBalancer": {"ingress": [place]}});
        update_status(&KIND, &old, |new| new["status"] = given).1
    };
    for (place, wrong) in [
        (json!({"ip": "192.0.2.1"}), None),
        (json!({"ip": "192.0.2.1", "ipMode": "Proxy"}), None),
        (json!({"hostname": "lb.example.com"}), None),
        (json!({"ip": "nowhere"}), Some("ingress[0].ip: Invalid value")),
        (
            json!({"hostname": "a b"}),
            Some("ingress[0].hostname: Invalid value"),
        ),
        (
            json!({"hostname": "192.0.2.1"}),
            Some("must be a DNS name, not an IP address"),
        ),
        (
            json!({"ip": "192.0.2.1", "ipMode": "x"}),
            Some("ingress[0].ipMode: Unsupported value"),
        ),
        (
            json!({"hostname": "a.b", "ipMode": "VIP"}),
            Some("ingress[0].ipMode: Forbidden"),
        ),
    ] {
        let errors = ingress(place.clone());
        match wrong {
            None => assert_eq!(errors, NONE, "{place}"),
            Some(wrong) => assert!(
                errors.iter().any(|error| error.contains(wrong)),
                "{place}: {errors:?}"
            ),
        }
    }
    let (inside, _) = create(&KIND, &body("{ports: [{port: 1}]}"));
    let (_, errors) = update_status(&KIND, &inside, |new| {
        new["status"] = json!({"loadBalancer": {"ingress": [{"ip": "192.0.2.1"}]}});
    });
    assert_eq!(
        errors,
        ["status.loadBalancer.ingress: Forbidden: may only be used when `spec.type` is \"LoadBalancer\""]
    );
}

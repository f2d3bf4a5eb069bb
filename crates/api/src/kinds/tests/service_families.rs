//! The families of Services in clusters with one family and with two.

use super::*;
use crate::kinds::core::service::KIND;
use crate::kinds::core::service::families::{addresses, families, set_addresses, settle};
use crate::view::IpFamily;

const V4: &[IpFamily] = &[IpFamily::V4];
const BOTH: &[IpFamily] = &[IpFamily::V4, IpFamily::V6];
const SIX_FIRST: &[IpFamily] = &[IpFamily::V6, IpFamily::V4];

/// Sets the families and addresses of a Service and validates it, as the server does. Returns
/// `IPv4,IPv6 PreferDualStack 10.96.1.0,fd00::100`, or the errors.
fn outcome(mut service: Value, old: &Value, cluster: &[IpFamily]) -> (Value, String) {
    if text_of(&service, "type") != "ExternalName" {
        if let Err(wrong) = settle(&mut service, old, cluster) {
            return (Value::Null, texts(&wrong).join("; "));
        }
        if text_of(&service, "clusterIP") != "None" {
            let given = addresses(&service["spec"]);
            let mut ips: Vec<String> = given.iter().map(ToString::to_string).collect();
            for family in families(&service["spec"]).iter().skip(ips.len()) {
                let free = if *family == IpFamily::V4 {
                    "10.96.1.0"
                } else {
                    "fd00::100"
                };
                ips.push(free.to_owned());
            }
            set_addresses(&mut service, &ips);
        }
    }
    let wrong = match old {
        Value::Null => KIND.validate(&service),
        old => KIND.validate_update(&service, old),
    };
    if !wrong.is_empty() {
        return (Value::Null, texts(&wrong).join("; "));
    }
    let list = |field: &str| {
        let items = service["spec"][field].as_array().into_iter().flatten();
        items.filter_map(Value::as_str).collect::<Vec<_>>().join(",")
    };
    let text = [
        list("ipFamilies"),
        text_of(&service, "ipFamilyPolicy").to_owned(),
        list("clusterIPs"),
    ]
    .join(" ");
    (service, text.trim().to_owned())
}

fn text_of<'a>(service: &'a Value, field: &str) -> &'a str {
    service["spec"][field].as_str().unwrap_or_default()
}

fn new(spec: &str, cluster: &[IpFamily]) -> (Value, String) {
    let yaml =
        format!("{{apiVersion: v1, kind: Service, metadata: {{name: web, namespace: d}}, spec: {spec}}}");
    let mut object = read(&KIND, &yaml);
    KIND.prepare_create(&mut object);
    meta::stamp_create(&mut object, "uid-1", Timestamp::UNIX_EPOCH);
    outcome(object, &Value::Null, cluster)
}

fn updated(old: &Value, change: Value, cluster: &[IpFamily]) -> String {
    let mut object = old.clone();
    for (field, value) in change.as_object().expect("fields") {
        match value {
            Value::Null => drop(object["spec"].as_object_mut().expect("a spec").remove(field)),
            value => object["spec"][field] = value.clone(),
        }
    }
    KIND.default(&mut object);
    KIND.prepare_update(&mut object, old);
    outcome(object, old, cluster).1
}

#[test]
fn new_service_gets_the_families_that_it_requests() {
    let not_dual = "spec.ipFamilyPolicy: Invalid value: \"RequireDualStack\": this cluster is not configured for dual-stack services";
    for (spec, cluster, expected) in [
        ("", BOTH, "IPv4 SingleStack 10.96.1.0"),
        ("", SIX_FIRST, "IPv6 SingleStack fd00::100"),
        ("ipFamilies: [IPv6]", BOTH, "IPv6 SingleStack fd00::100"),
        (
            "ipFamilyPolicy: PreferDualStack",
            V4,
            "IPv4 PreferDualStack 10.96.1.0",
        ),
        (
            "ipFamilyPolicy: PreferDualStack",
            BOTH,
            "IPv4,IPv6 PreferDualStack 10.96.1.0,fd00::100",
        ),
        (
            "ipFamilyPolicy: PreferDualStack, ipFamilies: [IPv6]",
            BOTH,
            "IPv6,IPv4 PreferDualStack fd00::100,10.96.1.0",
        ),
        (
            "ipFamilyPolicy: RequireDualStack",
            SIX_FIRST,
            "IPv6,IPv4 RequireDualStack fd00::100,10.96.1.0",
        ),
        ("ipFamilyPolicy: RequireDualStack", V4, not_dual),
        (
            "ipFamilies: [IPv6]",
            V4,
            "spec.ipFamilies[0]: Invalid value: \"IPv6\": not configured on this cluster",
        ),
        (
            "ipFamilies: [IPv4, IPv6]",
            BOTH,
            "spec.ipFamilyPolicy: Invalid value: \"SingleStack\": must be 'RequireDualStack' or 'PreferDualStack' when multiple IP families are specified",
        ),
        ("clusterIP: 'fd00::7'", BOTH, "IPv6 SingleStack fd00::7"),
        (
            "clusterIP: 'fd00::7'",
            V4,
            "spec.clusterIPs[0]: Invalid value: [\"fd00::7\"]: IPv6 is not configured on this cluster",
        ),
        (
            "clusterIP: 'fd00::7', ipFamilyPolicy: PreferDualStack",
            BOTH,
            "IPv6,IPv4 PreferDualStack fd00::7,10.96.1.0",
        ),
        (
            "clusterIP: 10.96.0.7, clusterIPs: [10.96.0.7, 'fd00::7'], ipFamilyPolicy: RequireDualStack",
            BOTH,
            "IPv4,IPv6 RequireDualStack 10.96.0.7,fd00::7",
        ),
        (
            "clusterIP: 10.96.0.7, clusterIPs: [10.96.0.7, 'fd00::7']",
            BOTH,
            "spec.ipFamilyPolicy: Invalid value: \"SingleStack\": must be 'RequireDualStack' or 'PreferDualStack' when multiple cluster IPs are specified",
        ),
        ("clusterIP: None, selector: {a: b}", BOTH, "IPv4 SingleStack None"),
        (
            "clusterIP: None, selector: {a: b}, ipFamilyPolicy: PreferDualStack",
            V4,
            "IPv4 PreferDualStack None",
        ),
        (
            "clusterIP: None, selector: {a: b}, ipFamilyPolicy: RequireDualStack",
            V4,
            not_dual,
        ),
        // Manual endpoints decide.
        (
            "clusterIP: None, ipFamilyPolicy: RequireDualStack",
            V4,
            "IPv4,IPv6 RequireDualStack None",
        ),
        ("clusterIP: None, ipFamilies: [IPv6]", V4, "IPv6 SingleStack None"),
        ("type: ExternalName, externalName: a.example", BOTH, ""),
        (
            "type: ExternalName, externalName: a.example, ipFamilies: [IPv4]",
            BOTH,
            "spec.ipFamilies: Forbidden: may not be set for ExternalName services",
        ),
    ] {
        let joint = if spec.is_empty() { "" } else { ", " };
        let (_, found) = new(&format!("{{ports: [{{port: 80}}]{joint}{spec}}}"), cluster);
        assert_eq!(found, expected, "{spec}");
    }
}

#[test]
fn contradictions_are_rejected_in_kubernetes_words() {
    for (spec, expected) in [
        (
            "clusterIPs: [10.96.0.7]",
            "spec.clusterIPs: Invalid value: [\"10.96.0.7\"]: must be empty when `clusterIP` is not specified",
        ),
        (
            "clusterIP: 10.96.0.8, clusterIPs: [10.96.0.7]",
            "spec.clusterIPs: Invalid value: [\"10.96.0.7\"]: first value must match `clusterIP`",
        ),
        (
            "clusterIP: None, clusterIPs: [None, 10.96.0.7]",
            "spec.clusterIPs: Invalid value: [\"None\",\"10.96.0.7\"]: 'None' must be the first and only value",
        ),
        (
            "clusterIP: 10.96.0.7, clusterIPs: [10.96.0.7, 10.96.0.8], ipFamilyPolicy: PreferDualStack",
            "spec.clusterIPs: Invalid value: [\"10.96.0.7\",\"10.96.0.8\"]: may specify no more than one IP for each IP family",
        ),
        (
            "clusterIP: 10.96.0.7, ipFamilies: [IPv6]",
            "spec.clusterIPs[0]: Invalid value: \"10.96.0.7\": expected an IPv6 value as indicated by `ipFamilies[0]`",
        ),
        (
            "ipFamilies: [IPv4, IPv4]",
            "spec.ipFamilies[1]: Duplicate value: \"IPv4\"",
        ),
        (
            "ipFamilies: [IPX]",
            "spec.ipFamilies[0]: Unsupported value: \"IPX\": supported values: \"IPv4\", \"IPv6\"",
        ),
        (
            "ipFamilyPolicy: Both",
            "spec.ipFamilyPolicy: Unsupported value: \"Both\": supported values: \"PreferDualStack\", \"RequireDualStack\", \"SingleStack\"",
        ),
    ] {
        let (_, found) = new(&format!("{{ports: [{{port: 80}}], {spec}}}"), BOTH);
        assert_eq!(found, expected, "{spec}");
    }
    let three = "clusterIP: 10.96.0.7, clusterIPs: [10.96.0.7, 'fd00::7', 10.96.0.8], ipFamilyPolicy: PreferDualStack";
    let (_, found) = new(&format!("{{ports: [{{port: 80}}], {three}}}"), BOTH);
    assert!(found.contains("may only hold up to 2 values"), "{found}");
}

#[test]
fn only_the_second_family_follows_the_policy() {
    let single = new("{ports: [{port: 80}], clusterIP: 10.96.0.7}", BOTH).0;
    let double = new(
        "{ports: [{port: 80}], clusterIP: 10.96.0.7, clusterIPs: [10.96.0.7, 'fd00::7'], ipFamilyPolicy: PreferDualStack}",
        BOTH,
    )
    .0;
    let lone = new(
        "{ports: [{port: 80}], clusterIP: 10.96.0.7, ipFamilyPolicy: PreferDualStack}",
        V4,
    )
    .0;
    let keeps = "IPv4,IPv6 PreferDualStack 10.96.0.7,fd00::7";
    for (old, change, cluster, expected) in [
        (
            &single,
            json!({"ipFamilyPolicy": "RequireDualStack"}),
            BOTH,
            "IPv4,IPv6 RequireDualStack 10.96.0.7,fd00::100",
        ),
        (
            &single,
            json!({"ipFamilyPolicy": "PreferDualStack", "clusterIPs": ["10.96.0.7", "fd00::9"]}),
            BOTH,
            "IPv4,IPv6 PreferDualStack 10.96.0.7,fd00::9",
        ),
        (
            &single,
            json!({"clusterIPs": ["10.96.0.7", "fd00::9"]}),
            BOTH,
            "spec.ipFamilyPolicy: Invalid value: \"SingleStack\": must be 'RequireDualStack' or 'PreferDualStack' when multiple cluster IPs are specified",
        ),
        (
            &double,
            json!({"ipFamilyPolicy": "SingleStack"}),
            BOTH,
            "IPv4 SingleStack 10.96.0.7",
        ),
        (
            &double,
            json!({"ipFamilyPolicy": "SingleStack", "clusterIPs": ["10.96.0.7"], "ipFamilies": ["IPv4"]}),
            BOTH,
            "IPv4 SingleStack 10.96.0.7",
        ),
        (
            &double,
            json!({"clusterIPs": ["10.96.0.7"]}),
            BOTH,
            "spec.ipFamilyPolicy: Invalid value: \"PreferDualStack\": must be 'SingleStack' to release the secondary cluster IP",
        ),
        (
            &double,
            json!({"ipFamilies": ["IPv4"]}),
            BOTH,
            "spec.ipFamilyPolicy: Invalid value: \"PreferDualStack\": must be 'SingleStack' to release the secondary IP family",
        ),
        (
            &double,
            json!({"clusterIP": "10.96.0.9", "clusterIPs": ["10.96.0.9", "fd00::7"]}),
            BOTH,
            "spec.clusterIPs[0]: Invalid value: [\"10.96.0.9\",\"fd00::7\"]: may not change once set",
        ),
        (
            &double,
            json!({"clusterIPs": ["10.96.0.7", "fd00::8"]}),
            BOTH,
            "spec.clusterIPs[1]: Invalid value: [\"10.96.0.7\",\"fd00::8\"]: may not change once set",
        ),
        // The update of an older client leaves out fields that it does not know.
        (
            &double,
            json!({"clusterIPs": null, "ipFamilies": null, "ipFamilyPolicy": null}),
            BOTH,
            keeps,
        ),
        (
            &double,
            json!({"clusterIP": null, "clusterIPs": null}),
            BOTH,
            keeps,
        ),
        // The families of the cluster change; a Service that prefers both stays as it is.
        (&double, json!({"sessionAffinity": "None"}), V4, keeps),
        (
            &lone,
            json!({"sessionAffinity": "None"}),
            BOTH,
            "IPv4 PreferDualStack 10.96.0.7",
        ),
        (
            &lone,
            json!({"ipFamilyPolicy": "RequireDualStack"}),
            BOTH,
            "IPv4,IPv6 RequireDualStack 10.96.0.7,fd00::100",
        ),
        // It becomes an ExternalName, and its addresses are removed.
        (
            &double,
            json!({"type": "ExternalName", "externalName": "a.example"}),
            BOTH,
            "",
        ),
    ] {
        assert_eq!(updated(old, change.clone(), cluster), expected, "{change}");
    }
}

#[test]
fn headless_service_may_change_its_families() {
    let old = new("{ports: [{port: 80}], clusterIP: None, selector: {a: b}}", BOTH).0;
    assert_eq!(
        updated(&old, json!({"ipFamilyPolicy": "PreferDualStack"}), BOTH),
        "IPv4,IPv6 PreferDualStack None"
    );
    assert_eq!(
        updated(&old, json!({"ipFamilies": ["IPv6"]}), BOTH),
        "IPv6 SingleStack None"
    );
}

#[test]
fn node_ports_are_removed_with_their_type() {
    let mut old = new(
        "{type: NodePort, ports: [{port: 80, nodePort: 30080}], clusterIP: 10.96.0.7}",
        BOTH,
    )
    .0;
    old["spec"]["externalTrafficPolicy"] = "Cluster".into();
    assert_eq!(
        updated(&old, json!({"type": "ClusterIP"}), BOTH),
        "IPv4 SingleStack 10.96.0.7"
    );
    let found = updated(
        &old,
        json!({"type": "ClusterIP", "ports": [{"port": 80, "nodePort": 30081}]}),
        BOTH,
    );
    assert!(
        found.contains("may not be used when `type` is 'ClusterIP'"),
        "{found}"
    );
}

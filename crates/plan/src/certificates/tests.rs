use api::bootstrap_token::NODE_GROUP;
use rcgen::{CertificateParams, DistinguishedName, DnType, KeyPair, SanType};
use serde_json::json;

use super::*;

const YEAR: Duration = Duration::from_secs(365 * 24 * 3600);
const USAGES: [&str; 2] = ["digital signature", "client auth"];

fn key() -> KeyPair {
    KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).expect("a key")
}

fn hash(key: &KeyPair) -> String {
    api::certificates::sha256(&rcgen::PublicKeyData::subject_public_key_info(key))
}

/// A signing request with this subject, PEM.
fn pem(key: &KeyPair, name: &str, organizations: &[&str], address: Option<&str>) -> String {
    let mut params = CertificateParams::default();
    let mut subject = DistinguishedName::new();
    for organization in organizations {
        subject.push(DnType::OrganizationName, *organization);
    }
    subject.push(DnType::CommonName, name);
    params.distinguished_name = subject;
    let address = address.map(|address| SanType::IpAddress(address.parse().expect("an address")));
    params.subject_alt_names = address.into_iter().collect();
    let request = params.serialize_request(key).expect("a request");
    request.pem().expect("PEM")
}

/// A request with a bootstrap token for the certificate of node `n1`.
fn joining(key: &KeyPair) -> Value {
    asked(&pem(key, "system:node:n1", &["system:nodes"], None))
}

fn asked(pem: &str) -> Value {
    json!({
        "metadata": {"name": "r", "creationTimestamp": "2026-01-01T00:00:00Z"},
        "spec": {
            "signerName": NODE_CLIENT_SIGNER,
            "request": STANDARD.encode(pem),
            "usages": USAGES,
            "username": "system:bootstrap:abcdef",
            "groups": ["system:bootstrappers", NODE_GROUP],
        },
    })
}

/// The same request from the node itself, with this certificate.
fn renewing(key: &KeyPair, fingerprint: &str) -> Value {
    let mut csr = joining(key);
    csr["spec"]["username"] = "system:node:n1".into();
    csr["spec"]["groups"] = json!(["system:nodes", "system:authenticated"]);
    csr["spec"]["extra"] = json!({CREDENTIAL_ID: [format!("{CREDENTIAL_ID_PREFIX}{fingerprint}")]});
    csr
}

fn approved(mut csr: Value) -> Value {
    csr["status"]["conditions"] =
        json!([{"type": "Approved", "status": "True", "lastUpdateTime": "2026-01-01T00:00:00Z"}]);
    csr
}

fn record(fingerprint: &str, key: &KeyPair) -> NodeCredential {
    let issued = Issued {
        fingerprint: fingerprint.to_owned(),
        key: hash(key),
    };
    NodeCredential::default().with(issued, None)
}

fn step(csr: &Value, exists: bool, record: Option<&NodeCredential>) -> Step {
    let node = KnownNode {
        exists,
        is_being_deleted: false,
        record,
    };
    next_step(csr, node, YEAR)
}

fn is_approved(step: &Step) -> bool {
    matches!(step, Step::Approve(_))
}

#[test]
fn a_machine_with_a_token_joins_under_a_name_that_nobody_has() {
    let key = key();
    let csr = joining(&key);
    assert_eq!(node_of(&csr).as_deref(), Some("n1"));
    assert!(is_approved(&step(&csr, false, None)));
    // A Node that an administrator created in advance has no certificates yet.
    assert!(is_approved(&step(&csr, true, None)));
    let Step::Sign(grant) = step(&approved(csr), false, None) else {
        panic!("it is not signed");
    };
    assert_eq!((grant.user.as_str(), grant.life), ("system:node:n1", YEAR));
    assert_eq!(grant.groups, ["system:nodes"]);
    let node = grant.node.expect("a node");
    let recorded = node.recorded(None, "print".to_owned());
    assert!(recorded.accepts("print") && recorded.has_key(&hash(&key)));
}

#[test]
fn a_token_does_not_take_the_name_of_another_machine() {
    let (own, other) = (key(), key());
    let known = record("old", &other);
    let denied = step(&joining(&own), true, Some(&known));
    let Step::Deny { reason, message } = denied else {
        panic!("{denied:?}");
    };
    assert_eq!(reason, "NodeNameTaken");
    assert!(
        message.contains("everynode delete node n1") && message.contains("--node-name"),
        "{message}"
    );
    // The same after an approval, or if the other machine joined in between.
    let failed = step(&approved(joining(&own)), true, Some(&known));
    assert!(
        matches!(
            failed,
            Step::Fail {
                reason: "NodeNameTaken",
                ..
            }
        ),
        "{failed:?}"
    );
    // The record of a node that never registered blocks no other machine.
    assert!(is_approved(&step(&joining(&own), false, Some(&known))));
}

#[test]
fn the_same_machine_joins_again_by_its_key() {
    let key = key();
    assert!(is_approved(&step(
        &joining(&key),
        true,
        Some(&record("old", &key))
    )));
}

#[test]
fn node_renews_only_with_its_valid_certificate() {
    let (old, next) = (key(), key());
    let known = record("good", &old);
    assert!(is_approved(&step(&renewing(&next, "good"), true, Some(&known))));
    let Step::Sign(grant) = step(&approved(renewing(&next, "good")), true, Some(&known)) else {
        panic!("it is not signed");
    };
    let recorded = grant
        .node
        .expect("a node")
        .recorded(Some(&known), "new".to_owned());
    assert!(recorded.accepts("good") && recorded.accepts("new"));
    for record in [None, Some(&known)] {
        let denied = step(&renewing(&next, "stolen"), true, record);
        assert!(matches!(denied, Step::Deny { .. }), "{denied:?}");
    }
    // Deleted between request and signature.
    let failed = step(&approved(renewing(&next, "good")), false, None);
    assert!(matches!(failed, Step::Fail { .. }), "{failed:?}");
}

#[test]
fn nobody_else_is_approved_unasked() {
    let key = key();
    let mut other_node = renewing(&key, "good");
    other_node["spec"]["username"] = "system:node:n2".into();
    let mut person = joining(&key);
    person["spec"]["username"] = "jane".into();
    person["spec"]["groups"] = json!(["system:authenticated"]);
    let mut other_token = joining(&key);
    other_token["spec"]["groups"] = json!(["system:bootstrappers", "system:bootstrappers:others"]);
    for csr in [&other_node, &person, &other_token] {
        assert_eq!(step(csr, false, None), Step::Leave);
    }
    // An administrator may approve it manually.
    assert!(matches!(step(&approved(person), false, None), Step::Sign(_)));
}

#[test]
fn what_is_no_request_of_a_node_is_neither_approved_nor_signed() {
    let key = key();
    let nodes = ["system:nodes"];
    let mut usages = joining(&key);
    usages["spec"]["usages"] = json!(["digital signature", "client auth", "server auth"]);
    let mut too_few = joining(&key);
    too_few["spec"]["usages"] = json!(["digital signature"]);
    let wrong = [
        asked(&pem(&key, "system:node:n1", &["system:masters"], None)),
        asked(&pem(
            &key,
            "system:node:n1",
            &["system:nodes", "system:masters"],
            None,
        )),
        asked(&pem(&key, "system:node:n1", &[], None)),
        asked(&pem(&key, "kubernetes-admin", &nodes, None)),
        asked(&pem(&key, "system:node:", &nodes, None)),
        asked(&pem(&key, "system:node:Not_A_Name", &nodes, None)),
        asked(&pem(&key, "system:node:n1", &nodes, Some("10.0.0.1"))),
        usages,
        too_few,
    ];
    for csr in wrong {
        assert_eq!(step(&csr, false, None), Step::Leave, "{csr}");
        let failed = step(&approved(csr), false, None);
        assert!(
            matches!(
                failed,
                Step::Fail {
                    reason: "SignerValidationFailure",
                    ..
                }
            ),
            "{failed:?}"
        );
    }
}

#[test]
fn a_shorter_life_is_given_as_asked_and_a_longer_one_is_not() {
    let key = key();
    for (asked, given) in [(600, Duration::from_secs(600)), (u64::MAX / 2, YEAR)] {
        let mut csr = approved(joining(&key));
        csr["spec"]["expirationSeconds"] = asked.into();
        let Step::Sign(grant) = step(&csr, false, None) else {
            panic!("it is not signed");
        };
        assert_eq!(grant.life, given);
    }
}

#[test]
fn approved_client_gets_certificate_without_power() {
    let key = key();
    let client = |name: &str, groups: &[&str]| {
        let mut csr = asked(&pem(&key, name, groups, None));
        csr["spec"]["signerName"] = CLIENT_SIGNER.into();
        csr
    };
    assert_eq!(step(&client("jane", &["ops"]), false, None), Step::Leave);
    let Step::Sign(grant) = step(&approved(client("jane", &["ops"])), false, None) else {
        panic!("it is not signed");
    };
    assert_eq!(
        (grant.user.as_str(), grant.groups.as_slice()),
        ("jane", ["ops".to_owned()].as_slice())
    );
    assert_eq!(grant.node, None);
    for group in ["system:masters", "system:nodes"] {
        let failed = step(&approved(client("jane", &[group])), false, None);
        assert!(matches!(failed, Step::Fail { .. }), "{failed:?}");
    }
}

#[test]
fn usages_of_a_clients_certificate_are_those_of_its_signer() {
    let key = key();
    for (usages, signed) in [
        (&["client auth"][..], true),
        (&["client auth", "digital signature"], true),
        (&["client auth", "digital signature", "key encipherment"], true),
        (&["digital signature"], false),
        (&["client auth", "server auth"], false),
        (&["any"], false),
        (&[], false),
    ] {
        let mut csr = asked(&pem(&key, "jane", &[], None));
        csr["spec"]["signerName"] = CLIENT_SIGNER.into();
        csr["spec"]["usages"] = json!(usages);
        let found = step(&approved(csr), false, None);
        assert_eq!(matches!(found, Step::Sign(_)), signed, "{usages:?}: {found:?}");
    }
    let mut node = joining(&key);
    node["spec"]["usages"] = json!(["client auth"]);
    let found = step(&approved(node), false, None);
    assert!(
        matches!(found, Step::Fail { .. }),
        "a node's needs both: {found:?}"
    );
}

#[test]
fn nothing_is_issued_for_a_node_that_is_being_deleted() {
    let key = key();
    let record = record("print", &key);
    let node = KnownNode {
        exists: true,
        is_being_deleted: true,
        record: Some(&record),
    };
    for csr in [joining(&key), renewing(&key, "print")] {
        let asked = next_step(&csr, node, YEAR);
        assert!(matches!(asked, Step::Deny { .. }), "{asked:?}");
        let granted = next_step(&approved(csr), node, YEAR);
        assert!(matches!(granted, Step::Fail { .. }), "{granted:?}");
    }
}

#[test]
fn what_is_answered_is_left_and_later_cleared_away() {
    let key = key();
    let mut issued = approved(joining(&key));
    issued["status"]["certificate"] = "eA==".into();
    let mut denied = joining(&key);
    denied["status"]["conditions"] = json!([{"type": "Denied", "status": "True"}]);
    for csr in [&issued, &denied] {
        assert_eq!(step(csr, false, None), Step::Leave);
    }
    let at = |text: &str| -> Timestamp { text.parse().expect("a time") };
    assert!(!is_over(&issued, at("2026-01-01T00:59:00Z")));
    assert!(is_over(&issued, at("2026-01-01T01:01:00Z")));
    assert!(!is_over(&joining(&key), at("2026-01-01T23:59:00Z")));
    assert!(is_over(&joining(&key), at("2026-01-02T00:01:00Z")));
}

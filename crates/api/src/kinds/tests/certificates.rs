//! Validation and life cycle of certificate signing requests.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::*;
use crate::kinds::certificates::{
    CERTIFICATE_SIGNING_REQUEST as KIND, Requestor, prepare_approval, set_requestor, stamp_conditions,
    validate_approval,
};

/// A request with a valid signature.
const REQUEST: &str = "\
-----BEGIN CERTIFICATE REQUEST-----\n\
MIHpMIGRAgEAMC8xFTATBgNVBAoMDHN5c3RlbTpub2RlczEWMBQGA1UEAwwNc3lz\n\
dGVtOm5vZGU6bjBZMBMGByqGSM49AgEGCCqGSM49AwEHA0IABP0w5Wj41zQCP3OG\n\
DmGDuSy1kwVUQD4Wu3U9X3/W5uyCOyONw+Nq8bTOlm6b+mcezc6FJbS4qd911WAc\n\
7hiyHzCgADAKBggqhkjOPQQDAgNHADBEAiBlfGuQD2/723LMZ8oEp/CsY7Gomtgs\n\
xKbAreQMmboVrQIgQHvIhkh7JFEVcl+PzXD2edQIn1kRMG7L11RP27Pm4Ro=\n\
-----END CERTIFICATE REQUEST-----\n\
";
/// A certificate for the same key.
const CERTIFICATE: &str = "\
-----BEGIN CERTIFICATE-----\n\
MIIBbjCCARWgAwIBAgIUSZuGXFM6C6LNvyAnxxrz9ND4trswCgYIKoZIzj0EAwIw\n\
DDEKMAgGA1UEAwwBeDAgFw0yNjExMjIxMjUxMjlaGA8yMTI2MTAyOTEyNTEyOVow\n\
DDEKMAgGA1UEAwwBeDBZMBMGByqGSM49AgEGCCqGSM49AwEHA0IABP0w5Wj41zQC\n\
P3OGDmGDuSy1kwVUQD4Wu3U9X3/W5uyCOyONw+Nq8bTOlm6b+mcezc6FJbS4qd91\n\
1WAc7hiyHzCjUzBRMB0GA1UdDgQWBBQ4ttUYF9HjoKCv+2Ax8n7HJjwfyjAfBgNV\n\
HSMEGDAWgBQ4ttUYF9HjoKCv+2Ax8n7HJjwfyjAPBgNVHRMBAf8EBTADAQH/MAoG\n\
CCqGSM49BAMCA0cAMEQCIFWFm3nuHLPDJpVvtN1BvThg49BdZUvbvg0Mmb4qSAtv\n\
AiAnZLCrQNI+J64rs4V9HL4XAIwQsXKBUXgu7sPExdKA2A==\n\
-----END CERTIFICATE-----\n\
";

const NONE: [&str; 0] = [];
const LABEL: &str = "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start \
                     and end with an alphanumeric character";
const SUBDOMAIN: &str = "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and \
                         must start and end with an alphanumeric character";

/// A request of a client, with its spec changed by `change`.
fn made(change: impl FnOnce(&mut Value)) -> (Value, Vec<String>) {
    let mut spec = json!({
        "request": STANDARD.encode(REQUEST), "signerName": "example.com/serving", "usages": ["client auth"],
    });
    change(&mut spec);
    let object = json!({
        "apiVersion": "certificates.k8s.io/v1", "kind": "CertificateSigningRequest", "metadata": {"name": "x"}, "spec": spec,
    });
    create(&KIND, &object.to_string())
}

fn check(change: impl FnOnce(&mut Value)) -> Vec<String> {
    made(change).1
}

fn request() -> Value {
    let (object, errors) = made(|_| {});
    assert_eq!(errors, NONE);
    object
}

fn condition(kind: &str, status: &str) -> Value {
    json!({"type": kind, "status": status})
}

/// A stored request with these conditions.
fn with(conditions: &[Value]) -> Value {
    let mut object = request();
    object["status"] = json!({"conditions": conditions});
    object
}

/// Writes an approval. Returns the object and its errors.
fn approve(old: &Value, change: impl FnOnce(&mut Value)) -> (Value, Vec<String>) {
    let mut new = old.clone();
    change(&mut new);
    prepare_approval(&mut new, old);
    let errors = texts(&validate_approval(&new, old));
    (new, errors)
}

#[test]
fn request_is_one_pem_block_signed_by_its_own_key() {
    let of = |pem: &str| check(|spec| spec["request"] = STANDARD.encode(pem).into());
    assert_eq!(of(REQUEST), NONE);
    let wrong = of(CERTIFICATE);
    assert_eq!(wrong.len(), 1);
    assert!(wrong[0].starts_with("spec.request: Invalid value: "), "{wrong:?}");
    assert!(
        wrong[0].ends_with("PEM block type must be CERTIFICATE REQUEST"),
        "{wrong:?}"
    );
    assert!(of("no PEM at all")[0].ends_with("PEM block type must be CERTIFICATE REQUEST"));
    // Another name under the same signature.
    let der = pem_body(REQUEST);
    let at = der.windows(13).position(|part| part == b"system:node:n").unwrap();
    let mut forged = der.clone();
    forged[at + 12] = b'm';
    let forged = format!(
        "-----BEGIN CERTIFICATE REQUEST-----\n{}\n-----END CERTIFICATE REQUEST-----\n",
        STANDARD.encode(forged)
    );
    assert!(of(&forged)[0].ends_with("its signature does not match its public key"));
}

fn pem_body(pem: &str) -> Vec<u8> {
    let lines: String = pem.lines().filter(|line| !line.starts_with('-')).collect();
    STANDARD.decode(lines).unwrap()
}

#[test]
fn signer_is_a_domain_and_a_path() {
    let of = |signer: &str| check(|spec| spec["signerName"] = signer.into());
    let invalid = |bad: &str, why: &str| format!("spec.signerName: Invalid value: \"{bad}\": {why}");
    for good in ["example.com/a", "kubernetes.io/kube-apiserver-client", "a.b/c.d"] {
        assert_eq!(of(good), NONE, "{good}");
    }
    assert_eq!(of(""), ["spec.signerName: Required value"]);
    let form = "must be a fully qualified domain and path of the form 'example.com/signer-name'";
    for bad in ["example.com", "example.com/a/b"] {
        assert_eq!(of(bad), [invalid(bad, form)]);
    }
    assert_eq!(
        of("example/a"),
        [invalid(
            "example",
            "should be a domain with at least two segments separated by dots"
        )]
    );
    assert_eq!(
        of("kubernetes.io/legacy-unknown"),
        [invalid(
            "kubernetes.io/legacy-unknown",
            "the legacy signerName is not allowed via this API version"
        )]
    );
    let wrong = of("Example.com/_a");
    let start =
        |part: &str, label: &str, why: &str| invalid(part, &format!("validating label \"{label}\": {why}"));
    assert_eq!(wrong.len(), 2, "{wrong:?}");
    assert!(
        wrong[0].starts_with(&start("Example.com", "Example", LABEL)),
        "{wrong:?}"
    );
    assert!(wrong[1].starts_with(&start("_a", "_a", SUBDOMAIN)), "{wrong:?}");
    assert!(of("example.com/")[0].starts_with(&start("", "", SUBDOMAIN)));
    let label = "a".repeat(63);
    let domain = [&*label; 4].join(".");
    assert_eq!(
        of(&format!("{domain}/a")),
        ["spec.signerName: Too long: may not be more than 253 bytes"]
    );
    let long = format!("a.b/{}", [&*label; 10].join("."));
    assert_eq!(
        of(&long),
        ["spec.signerName: Too long: may not be more than 571 bytes"]
    );
}

#[test]
fn usages_are_known_and_named_once() {
    let of = |usages: Value| check(|spec| spec["usages"] = usages);
    assert_eq!(
        of(json!(["digital signature", "key encipherment", "server auth"])),
        NONE
    );
    assert_eq!(of(json!([])), ["spec.usages: Required value"]);
    assert_eq!(
        of(json!(["any", "any"])),
        ["spec.usages[1]: Duplicate value: \"any\""]
    );
    let wrong = of(json!(["client auth", "Client Auth"]));
    assert_eq!(wrong.len(), 1);
    assert!(
        wrong[0].starts_with(
            "spec.usages[1]: Unsupported value: \"Client Auth\": supported values: \"any\", \"cert sign\", "
        ),
        "{wrong:?}"
    );
}

#[test]
fn lifetime_is_at_least_ten_minutes() {
    let of = |seconds: i64| check(|spec| spec["expirationSeconds"] = seconds.into());
    assert_eq!(of(600), NONE);
    assert_eq!(
        of(599),
        [
            "spec.expirationSeconds: Invalid value: 599: may not specify a duration less than 600 seconds (10 minutes)"
        ]
    );
}

#[test]
fn spec_and_requester_are_immutable() {
    let mut object = request();
    object["spec"]["username"] = "somebody else".into();
    object["spec"]["uid"] = "1".into();
    let groups = ["system:authenticated".to_owned()];
    set_requestor(
        &mut object,
        Requestor {
            name: "alice",
            uid: "",
            groups: &groups,
            extra: &std::collections::BTreeMap::new(),
        },
    );
    assert_eq!(
        (&object["spec"]["username"], &object["spec"]["groups"]),
        (&json!("alice"), &json!(["system:authenticated"]))
    );
    assert!(object["spec"].get("uid").is_none());
    let (new, errors) = update(&KIND, &object, |new| {
        new["spec"]["username"] = "root".into();
        new["spec"]["usages"] = json!(["any"]);
        new["metadata"]["labels"] = json!({"a": "b"});
    });
    assert_eq!(errors, NONE);
    assert_eq!(new["spec"], object["spec"]);
    assert_eq!(new["metadata"]["labels"], json!({"a": "b"}));
}

#[test]
fn approval_sets_only_approved_or_denied() {
    let old = request();
    let (new, errors) = approve(&old, |new| {
        new["spec"]["usages"] = json!(["any"]);
        new["status"] = json!({
            "certificate": STANDARD.encode(CERTIFICATE),
            "conditions": [condition("Approved", "True"), condition("Failed", "True")],
        });
    });
    assert_eq!(errors, NONE);
    assert_eq!(new["spec"], old["spec"]);
    assert_eq!(
        new["status"],
        json!({"conditions": [condition("Approved", "True")]})
    );
}

#[test]
fn status_of_the_signer_sets_no_approval() {
    let old = with(&[condition("Approved", "True")]);
    let (new, errors) = update_status(&KIND, &old, |new| {
        new["status"] = json!({
            "certificate": STANDARD.encode(CERTIFICATE), "conditions": [condition("Denied", "True")],
        });
    });
    assert_eq!(errors, NONE);
    assert_eq!(
        new["status"]["conditions"],
        json!([condition("Approved", "True")])
    );
    assert_eq!(new["status"]["certificate"], STANDARD.encode(CERTIFICATE));
}

#[test]
fn conditions_are_validated() {
    let at = |field: &str| format!("status.conditions[0].{field}");
    for (conditions, wanted) in [
        (vec![condition("Ready", "Unknown")], vec![]),
        (
            vec![condition("Approved", "False")],
            vec![format!("{}: Unsupported value: \"False\": supported values: \"True\"", at("status"))],
        ),
        (
            vec![condition("Ready", "Yes")],
            vec![format!(
                "{}: Unsupported value: \"Yes\": supported values: \"False\", \"True\", \"Unknown\"",
                at("status")
            )],
        ),
        (
            vec![condition("", "")],
            vec![format!("{}: Required value", at("type")), format!("{}: Required value", at("status"))],
        ),
        (
            vec![condition("Approved", "True"), condition("Denied", "True")],
            vec![
                "status.conditions[1].type: Invalid value: \"Denied\": Approved and Denied conditions are mutually exclusive"
                    .to_owned(),
            ],
        ),
        (
            vec![condition("Approved", "True"), condition("Approved", "True")],
            vec!["status.conditions[1].type: Duplicate value: \"Approved\"".to_owned()],
        ),
    ] {
        let (_, errors) = approve(&request(), |new| new["status"] = json!({"conditions": conditions}));
        assert_eq!(errors, wanted, "{conditions:?}");
    }
}

#[test]
fn decision_and_certificate_are_immutable() {
    let approved = with(&[condition("Approved", "True")]);
    let (_, errors) = approve(&approved, |new| new["status"] = json!({}));
    assert_eq!(
        errors,
        ["status.conditions: Forbidden: updates may not remove a condition of type \"Approved\""]
    );
    let failed = with(&[condition("Failed", "True")]);
    let (_, errors) = update_status(&KIND, &failed, |new| new["status"] = json!({}));
    assert_eq!(
        errors,
        ["status.conditions: Forbidden: updates may not remove a condition of type \"Failed\""]
    );
    let mut issued = approved;
    issued["status"]["certificate"] = STANDARD.encode(CERTIFICATE).into();
    let (_, errors) = update_status(&KIND, &issued, |new| {
        new["status"]["certificate"] = STANDARD.encode(format!("{CERTIFICATE}{CERTIFICATE}")).into();
    });
    assert_eq!(
        errors,
        ["status.certificate: Forbidden: updates may not modify existing certificate content"]
    );
    let (_, errors) = update_status(&KIND, &request(), |new| {
        new["status"] = json!({"certificate": STANDARD.encode(REQUEST)});
    });
    assert_eq!(
        errors,
        [
            "status.certificate: Invalid value: \"<certificate data>\": must contain at least one CERTIFICATE PEM block"
        ]
    );
}

#[test]
fn new_condition_gets_its_times() {
    let known = json!({"type": "Ready", "status": "True", "lastUpdateTime": "2025-01-01T00:00:00Z"});
    let old = with(std::slice::from_ref(&known));
    let mut new = with(&[known.clone(), condition("Approved", "True")]);
    stamp_conditions(&mut new, &old, now());
    assert_eq!(
        new["status"]["conditions"],
        json!([known, {
            "type": "Approved", "status": "True",
            "lastUpdateTime": "2026-01-02T00:00:00Z", "lastTransitionTime": "2026-01-02T00:00:00Z",
        }])
    );
}

#[test]
fn table_shows_the_state_of_a_request() {
    let mut object = request();
    object["spec"]["username"] = "alice".into();
    object["spec"]["expirationSeconds"] = 3600.into();
    let said = |object: &Value| cells(&KIND, object.clone());
    assert_eq!(
        said(&object)[2..],
        ["example.com/serving", "alice", "60m", "Pending"]
    );
    object["status"] = json!({
        "conditions": [condition("Approved", "True")], "certificate": STANDARD.encode(CERTIFICATE),
    });
    assert_eq!(said(&object)[5], "Approved,Issued");
    object["status"] = json!({"conditions": [condition("Denied", "True"), condition("Failed", "True")]});
    assert_eq!(said(&object)[5], "Denied,Failed");
}

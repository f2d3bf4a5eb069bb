use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::lookup;

fn daemon_set() -> &'static Type {
    lookup("apps", "v1", "DaemonSet").expect("served")
}

fn refusal(body: &str, format: Format, validation: FieldValidation) -> String {
    object(body.as_bytes(), format, Some(daemon_set()), validation)
        .expect_err("a refusal")
        .to_string()
}

const BODY: &str = r#"{"apiVersion":"apps/v1","kind":"DaemonSet","metadata":{"name":"d"},"spec":{"foo":1,"minReadySeconds":1,"minReadySeconds":2,"template":{"spec":{"containers":[{"name":"a","bar":{"deep":[1]}}]}}}}"#;

#[test]
fn unknown_and_duplicate_fields_fail_warn_or_are_dropped() {
    assert_eq!(
        refusal(BODY, Format::Json, FieldValidation::Strict),
        "DaemonSet in version \"v1\" cannot be handled as a DaemonSet: strict decoding error: unknown field \"spec.foo\", \
         duplicate field \"spec.minReadySeconds\", unknown field \"spec.template.spec.containers[0].bar\""
    );
    let warned = object(BODY.as_bytes(), Format::Json, None, FieldValidation::Warn).expect("a DaemonSet");
    assert_eq!(warned.warnings.len(), 3);
    assert_eq!(warned.value["spec"]["minReadySeconds"], 2);
    assert_eq!(warned.value["spec"].get("foo"), None);
    let ignored = object(BODY.as_bytes(), Format::Json, None, FieldValidation::Ignore).expect("a DaemonSet");
    assert_eq!((ignored.value, ignored.warnings), (warned.value, Vec::new()));
}

#[test]
fn errors_have_the_words_of_kubernetes() {
    let unrecognized = "the object provided is unrecognized (must be of type DaemonSet): couldn't get version/kind; json parse error: ";
    let unfit = "DaemonSet in version \"v1\" cannot be handled as a DaemonSet: ";
    for (body, expected) in [
        (r#"{"spec":{"minReadySeconds":"5"}}"#, format!("{unfit}json: cannot unmarshal string into Go struct field DaemonSetSpec.spec.minReadySeconds of type int32")),
        ("", format!("{unrecognized}unexpected end of JSON input (<empty>)")),
        (r#"{"kind":"DaemonSet""#, format!("{unrecognized}unexpected end of JSON input ({{\"kind\":\"DaemonSet\")")),
        ("apiVersion: apps/v1", format!("{unrecognized}invalid character 'a' looking for beginning of value (61706956657273696f6e3a20617070732f7631)")),
        (r#"{"a" 1}"#, format!("{unrecognized}invalid character '1' after object key ({{\"a\" 1}})")),
        (r#"{"a":1} x"#, format!("{unrecognized}invalid character 'x' after top-level value ({{\"a\":1}} x)")),
        (r#"{"apiVersion":"apps/v2","kind":"DaemonSet"}"#, "the API version in the data (apps/v2) does not match the expected API version (apps/v1)".to_owned()),
        (r#"{"apiVersion":"v1","kind":"Pod"}"#, "Pod in version \"v1\" cannot be handled as a DaemonSet: converting (v1.Pod) to (v1.DaemonSet): unknown conversion".to_owned()),
        (
            r#"{"apiVersion":"x/v1","kind":"Foo"}"#,
            "Foo in version \"v1\" cannot be handled as a DaemonSet: no kind \"Foo\" is registered for version \"x/v1\" in scheme \"k8s.io/kubernetes/pkg/api/legacyscheme/scheme.go:30\"".to_owned(),
        ),
    ] {
        assert_eq!(refusal(body, Format::Json, FieldValidation::Strict), expected);
    }
    assert_eq!(
        refusal("garbage", Format::Protobuf, FieldValidation::Strict),
        "the object provided is unrecognized (must be of type DaemonSet): provided data does not appear to be a protobuf message, expected prefix [107 56 115 0] (67617262616765)"
    );
    assert!(
        refusal("a: [", Format::Yaml, FieldValidation::Strict)
            .contains("error converting YAML to JSON: yaml: ")
    );
}

#[test]
fn body_without_an_expected_type_must_have_a_kind() {
    let cause = |body: &str| {
        object(body.as_bytes(), Format::Json, None, FieldValidation::Strict).expect_err("a refusal")
    };
    assert_eq!(
        cause(r#"{"a":1}"#).to_string(),
        r#"Object 'Kind' is missing in '{"a":1}'"#
    );
    assert_eq!(
        cause(r#"{"kind":"Pod"}"#).to_string(),
        r#"Object 'apiVersion' is missing in '{"kind":"Pod"}'"#
    );
    assert!(matches!(
        cause(r#"{"kind":"Foo","apiVersion":"v1"}"#),
        DecodeError::NotRegistered { .. }
    ));
    for body in ["[]", "1", "null", "\"x\"", "{", "[\"v1\", \"Pod\"]"] {
        cause(body);
    }
}

#[test]
fn kind_and_version_are_set_from_the_expected_type() {
    let decoded = object(
        br#"{"metadata":{"name":"d"}}"#,
        Format::Json,
        Some(daemon_set()),
        FieldValidation::Strict,
    )
    .expect("a DaemonSet");
    assert_eq!(
        (&decoded.value["apiVersion"], &decoded.value["kind"]),
        (&json!("apps/v1"), &json!("DaemonSet"))
    );
    let options = lookup("", "v1", "DeleteOptions").expect("served");
    let decoded = object(
        br#"{"kind":"DeleteOptions","apiVersion":"example.com/v7","gracePeriodSeconds":0}"#,
        Format::Json,
        Some(options),
        FieldValidation::Strict,
    );
    assert_eq!(decoded.expect("options").value["gracePeriodSeconds"], 0);
}

#[test]
fn invalid_utf8_is_refused() {
    let error = object(
        b"{\"kind\":\"\xff\"}",
        Format::Json,
        Some(daemon_set()),
        FieldValidation::Warn,
    )
    .expect_err("no UTF-8");
    assert!(error.to_string().contains("invalid UTF-8"), "{error}");
    let error = object(
        b"kind: \xff",
        Format::Yaml,
        Some(daemon_set()),
        FieldValidation::Warn,
    )
    .expect_err("no UTF-8");
    assert!(error.to_string().contains("invalid UTF-8"), "{error}");
}

#[test]
fn nesting_is_bounded_on_a_small_stack() {
    let body = |depth: usize| {
        [
            r#"{"apiVersion":"apps/v1","kind":"ControllerRevision","data":"#,
            &"[".repeat(depth),
            &"]".repeat(depth),
            "}",
        ]
        .concat()
    };
    let small = std::thread::Builder::new().stack_size(1 << 20).spawn(move || {
        let decode = |body: &str, format| object(body.as_bytes(), format, None, FieldValidation::Warn);
        assert!(decode(&body(MAX_DEPTH - 1), Format::Json).is_ok());
        let error = decode(&body(100_000), Format::Json).expect_err("too deep").to_string();
        assert_eq!(error, "ControllerRevision in version \"v1\" cannot be handled as a ControllerRevision: exceeded max depth");
        assert!(decode(&body(90), Format::Yaml).is_ok());
        assert!(decode(&body(10_000), Format::Yaml).is_err());
        assert_eq!(untyped("[".repeat(100_000).as_bytes(), Format::Json), Err(DecodeError::TooDeep));
    });
    small.expect("a thread").join().expect("no overflow");
}

#[test]
fn yaml_is_read_as_version_1_1() {
    let value = untyped(b"a: yes\nb: off\nc: 0644\nd: \"yes\"\ne: 1.5\nf: ~\ng: 0o644\n1: x\ntrue: y\nh: 2026-01-02\ni: 1e3\n", Format::Yaml).expect("YAML");
    assert_eq!(
        value,
        json!({"a": true, "b": false, "c": 420, "d": "yes", "e": 1.5, "f": null, "g": 420, "1": "x", "true": true, "h": "2026-01-02", "i": 1000.0})
    );
}

#[test]
fn alias_bomb_is_rejected() {
    let mut bomb = String::from("a0: &a0 [x, x, x, x, x, x, x, x, x]\n");
    for level in 1..12 {
        let previous = format!("*a{}", level - 1);
        bomb.push_str(&format!(
            "a{level}: &a{level} [{}]\n",
            [previous.as_str(); 9].join(", ")
        ));
    }
    assert!(untyped(bomb.as_bytes(), Format::Yaml).is_err());
}

#[test]
fn aliases_are_rejected_when_they_add_too_many_nodes() {
    let document = |aliases: usize| {
        let shared: Vec<String> = (0..100).map(|key| format!("k{key}: v")).collect();
        let uses: Vec<&str> = vec!["*shared"; aliases];
        let (shared, uses) = (shared.join(", "), uses.join(", "));
        format!("shared: &shared {{{shared}}}\nuses: [{uses}]\n")
    };
    // An alias of a map of 100 entries adds about 200 nodes.
    assert!(untyped(document(50).as_bytes(), Format::Yaml).is_ok());
    assert!(untyped(document(200).as_bytes(), Format::Yaml).is_err());
}

#[test]
fn yaml_without_indentation_gets_a_clear_error() {
    let manifest =
        "apiVersion: apps/v1\nkind: DaemonSet\nmetadata:\nname: d\nspec:\nselector:\nmatchLabels:\nname: d\n";
    let error = refusal(manifest, Format::Yaml, FieldValidation::Strict);
    assert!(
        error.contains("duplicate field \"name\"") && error.contains("unknown field \"matchLabels\""),
        "{error}"
    );
}

#[test]
fn duplicate_fields_of_patches_cause_warnings() {
    let (value, warnings) =
        untyped_with_duplicates(br#"{"a":1,"a":{"b":1,"b":2}}"#, Format::Json).expect("JSON");
    assert_eq!(
        (value, warnings),
        (
            json!({"a": {"b": 2}}),
            vec![
                "duplicate field \"a\"".to_owned(),
                "duplicate field \"a.b\"".to_owned()
            ]
        )
    );
}

/// An envelope of a DaemonSet around any bytes.
fn envelope(raw: &[u8]) -> Vec<u8> {
    let mut out = b"k8s\0\x0a\x14\x0a\x07apps/v1\x12\x09DaemonSet\x12".to_vec();
    let mut length = raw.len();
    while length >= 0x80 {
        out.push(length as u8 | 0x80);
        length >>= 7;
    }
    out.push(length as u8);
    out.extend_from_slice(raw);
    out
}

#[test]
fn broken_protobuf_is_rejected_with_a_reason() {
    for (raw, reason) in [
        (&b"\x0a\x05ab"[..], "unexpected EOF"),
        (b"\x08\x01", "proto: wrong wireType = 0 for field Metadata"),
        (b"\x0f", "proto: illegal wireType 7"),
        (b"\x02\x00", "proto: illegal tag 0 (wire type 2)"),
        (
            b"\x0a\x04\x0a\x02\xff\xfe",
            "proto: string field contains invalid UTF-8",
        ),
        (
            b"\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01",
            "proto: integer overflow",
        ),
    ] {
        let error =
            object(&envelope(raw), Format::Protobuf, None, FieldValidation::Strict).expect_err("broken");
        assert_eq!(
            error.to_string(),
            format!("DaemonSet in version \"v1\" cannot be handled as a DaemonSet: {reason}")
        );
    }
}

proptest! {
    #[test]
    fn random_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        for format in [Format::Json, Format::Yaml, Format::Protobuf] {
            let first = object(&bytes, format, Some(daemon_set()), FieldValidation::Strict).is_ok();
            prop_assert_eq!(object(&bytes, format, Some(daemon_set()), FieldValidation::Strict).is_ok(), first);
        }
    }

    #[test]
    fn random_messages_never_panic(raw in prop::collection::vec(any::<u8>(), 0..300)) {
        if let Ok(decoded) = object(&envelope(&raw), Format::Protobuf, None, FieldValidation::Strict) {
            prop_assert_eq!(&decoded.value["kind"], "DaemonSet");
        }
    }

    #[test]
    fn plausible_messages_never_panic(fields in prop::collection::vec((0u8..6, 0u8..8, prop::collection::vec(0u8..40, 0..30)), 0..6)) {
        let mut raw = Vec::new();
        for (number, wire, content) in fields {
            raw.push(number << 3 | wire);
            raw.push(content.len() as u8);
            raw.extend(content);
        }
        if let Ok(decoded) = object(&envelope(&raw), Format::Protobuf, None, FieldValidation::Strict) {
            prop_assert_eq!(crate::check(daemon_set(), &decoded.value), Ok(()));
        }
    }
}

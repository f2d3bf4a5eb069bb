//! Comparison with Go. Kubernetes' API types in Go decoded every fixture and encoded it again, as
//! JSON and as protobuf. Our output for the same input must have the same bytes.

use std::{fs, path::PathBuf};

use schema::{
    canonicalize,
    decode::{self, FieldValidation, Format},
    gojson, lookup, split_api_version,
};
use serde_json::Value;

fn fixtures() -> Vec<PathBuf> {
    let dir = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures");
    let mut found: Vec<PathBuf> = fs::read_dir(dir)
        .expect("fixtures")
        .map(|entry| entry.expect("an entry").path())
        .filter(|path| path.to_string_lossy().ends_with(".in.json"))
        .collect();
    found.sort();
    assert!(found.len() > 20, "the fixtures are there");
    found
}

fn sibling(input: &std::path::Path, extension: &str) -> Vec<u8> {
    let path = input.to_string_lossy().replace(".in.json", extension);
    fs::read(&path).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// Returns Go's output with sorted keys.
fn expected(input: &std::path::Path) -> String {
    let value: Value = serde_json::from_slice(&sibling(input, ".go.json")).expect("JSON");
    gojson::to_string(&value)
}

#[test]
fn canonical_form_is_the_output_of_go() {
    for input in fixtures() {
        let body = fs::read(&input).expect("a fixture");
        let decoded = decode::object(&body, Format::Json, None, FieldValidation::Strict)
            .unwrap_or_else(|error| panic!("{}: {error}", input.display()));
        assert_eq!(
            gojson::to_string(&decoded.value),
            expected(&input),
            "{}",
            input.display()
        );
    }
}

#[test]
fn yaml_decodes_like_json() {
    for input in fixtures() {
        let body = fs::read(&input).expect("a fixture");
        let decoded = decode::object(&body, Format::Yaml, None, FieldValidation::Strict)
            .unwrap_or_else(|error| panic!("{}: {error}", input.display()));
        assert_eq!(
            gojson::to_string(&decoded.value),
            expected(&input),
            "{}",
            input.display()
        );
    }
}

#[test]
fn protobuf_decodes_like_json() {
    for input in fixtures() {
        let body = sibling(&input, ".pb");
        let decoded = decode::object(&body, Format::Protobuf, None, FieldValidation::Strict)
            .unwrap_or_else(|error| panic!("{}: {error}", input.display()));
        assert_eq!(
            gojson::to_string(&decoded.value),
            expected(&input),
            "{}",
            input.display()
        );
    }
}

#[test]
fn truncated_protobuf_never_panics() {
    for input in fixtures() {
        let body = sibling(&input, ".pb");
        for end in 0..body.len() {
            // A cut between two fields of the envelope leaves a valid, shorter message; any other
            // cut is an error. Neither may panic.
            let _may_fail =
                decode::object(&body[..end], Format::Protobuf, None, FieldValidation::Warn).is_ok();
        }
    }
}

#[test]
fn canonical_form_is_idempotent() {
    for input in fixtures() {
        let value: Value = serde_json::from_slice(&sibling(&input, ".go.json")).expect("JSON");
        let (group, version) = split_api_version(value["apiVersion"].as_str().expect("apiVersion"));
        let ty = lookup(group, version, value["kind"].as_str().expect("kind")).expect("a served kind");
        let mut again = value.clone();
        canonicalize(ty, &mut again);
        assert_eq!(again, value, "{}", input.display());
    }
}

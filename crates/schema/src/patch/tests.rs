use serde_json::json;

use super::*;

fn json_refusal(document: Value, patch: Value) -> String {
    json(&document, patch.to_string().as_bytes())
        .expect_err("a refusal")
        .to_string()
}

#[test]
fn json_patch_is_applied_in_order() {
    let document = json!({"metadata": {"labels": {"a/b": "1"}}, "list": [1, 2]});
    let patch = json!([
        {"op": "test", "path": "/metadata/labels/a~1b", "value": "1"},
        {"op": "replace", "path": "/metadata/labels/a~1b", "value": "2"},
        {"op": "add", "path": "/list/-", "value": 3},
        {"op": "remove", "path": "/list/0"},
        {"op": "copy", "from": "/list", "path": "/copy"},
        {"op": "move", "from": "/list", "path": "/moved"},
    ]);
    let patched = json(&document, patch.to_string().as_bytes()).expect("a patch that fits");
    assert_eq!(
        patched,
        json!({"metadata": {"labels": {"a/b": "2"}}, "copy": [2, 3], "moved": [2, 3]})
    );
}

#[test]
fn inapplicable_json_patch_names_the_path() {
    for (patch, expected) in [
        (
            json!([{"op": "test", "path": "/a", "value": 2}]),
            "testing value /a failed: test failed",
        ),
        (
            json!([{"op": "remove", "path": "/b"}]),
            "remove operation does not apply: doc is missing key: /b: missing value",
        ),
        (
            json!([{"op": "replace", "path": "/b/c", "value": 1}]),
            "replace operation does not apply: doc is missing path: \"/b/c\": missing value",
        ),
    ] {
        assert_eq!(json_refusal(json!({"a": 1}), patch), expected);
    }
}

#[test]
fn malformed_json_patch_is_a_bad_request() {
    for patch in [
        "",
        "{}",
        "[1]",
        "[{\"op\":\"explode\",\"path\":\"/a\"}]",
        "[{\"op\":\"add\",\"path\":\"a\"}]",
        "\u{feff}[]",
    ] {
        let refusal = json(&json!({}), patch.as_bytes()).expect_err("malformed");
        assert!(matches!(refusal, PatchError::Malformed(_)), "{patch}: {refusal}");
    }
}

#[test]
fn json_patch_is_bounded() {
    let many: Vec<Value> = (0..=MAX_JSON_PATCH_OPERATIONS)
        .map(|_| json!({"op": "add", "path": "/a", "value": 1}))
        .collect();
    assert_eq!(
        json_refusal(json!({}), json!(many)),
        "The allowed maximum operations in a JSON patch is 10000, got 10001"
    );

    let doubling: Vec<Value> = (0..60)
        .map(|n| json!({"op": "copy", "from": "", "path": format!("/x{n}")}))
        .collect();
    assert!(
        json_refusal(json!({"a": "b"}), json!(doubling))
            .starts_with("Unable to copy, the accumulated size increase of copy is ")
    );

    let deepening: Vec<Value> = (0..3000)
        .flat_map(|_| {
            [
                json!({"op": "add", "path": "/b", "value": {}}),
                json!({"op": "move", "from": "/a", "path": "/b/a"}),
                json!({"op": "move", "from": "/b", "path": "/a"}),
            ]
        })
        .collect();
    assert!(json_refusal(json!({"a": {}}), json!(deepening)).contains("nested deeper"));
}

#[test]
fn merge_patch_merges_objects_and_replaces_lists() {
    let document = json!({"a": {"b": 1, "c": 2}, "l": [1, 2]});
    assert_eq!(
        merge(&document, &json!({"a": {"b": null, "d": {"e": null}}, "l": [3]})),
        json!({"a": {"c": 2, "d": {}}, "l": [3]})
    );
    assert_eq!(merge(&document, &json!("text")), json!("text"));
}

use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::lookup;

fn daemon_set() -> &'static Type {
    lookup("apps", "v1", "DaemonSet").expect("served")
}

fn pod() -> &'static Type {
    lookup("", "v1", "Pod").expect("served")
}

fn patched(ty: &'static Type, document: Value, patch: Value) -> Value {
    apply(ty, &document, &patch).unwrap_or_else(|error| panic!("{patch}: {error}"))
}

fn refusal(ty: &'static Type, document: Value, patch: Value) -> String {
    apply(ty, &document, &patch).expect_err("a refusal").to_string()
}

fn pod_with(containers: Value) -> Value {
    json!({"spec": {"containers": containers}})
}

#[test]
fn containers_merge_by_name_and_new_ones_come_first() {
    let document = pod_with(json!([{"name": "a", "image": "1"}, {"name": "b", "image": "1"}]));
    let patch = pod_with(json!([{"name": "b", "image": "2"}, {"name": "c", "image": "1"}]));
    assert_eq!(
        patched(pod(), document, patch),
        pod_with(
            json!([{"name": "a", "image": "1"}, {"name": "b", "image": "2"}, {"name": "c", "image": "1"}])
        )
    );
    let document = pod_with(json!([{"name": "a"}, {"name": "b"}]));
    assert_eq!(
        patched(pod(), document, pod_with(json!([{"name": "z"}]))),
        pod_with(json!([{"name": "z"}, {"name": "a"}, {"name": "b"}]))
    );
}

#[test]
fn set_element_order_sorts_and_keeps_server_elements() {
    let document = pod_with(json!([{"name": "sidecar"}, {"name": "a"}, {"name": "b"}]));
    let patch = json!({"spec": {
        "$setElementOrder/containers": [{"name": "b"}, {"name": "a"}],
        "containers": [{"name": "a", "image": "2"}],
    }});
    assert_eq!(
        patched(pod(), document, patch),
        pod_with(json!([{"name": "sidecar"}, {"name": "b"}, {"name": "a", "image": "2"}]))
    );
}

#[test]
fn set_element_order_must_match_the_list() {
    let patch = json!({"spec": {
        "$setElementOrder/containers": [{"name": "a"}],
        "containers": [{"name": "x"}],
    }});
    assert!(
        refusal(pod(), pod_with(json!([{"name": "a"}])), patch).contains("doesn't match $setElementOrder/")
    );
}

#[test]
fn element_is_deleted_by_its_key() {
    let document = pod_with(json!([{"name": "a"}, {"name": "b"}]));
    assert_eq!(
        patched(
            pod(),
            document.clone(),
            pod_with(json!([{"name": "a", "$patch": "delete"}]))
        ),
        pod_with(json!([{"name": "b"}]))
    );
    assert_eq!(
        patched(
            pod(),
            document,
            pod_with(json!([{"name": "z", "$patch": "delete"}]))
        ),
        pod_with(json!([{"name": "a"}, {"name": "b"}]))
    );
}

#[test]
fn list_is_replaced_on_request() {
    let document = pod_with(json!([{"name": "a"}, {"name": "b"}]));
    let patch = pod_with(json!([{"name": "c"}, {"$patch": "replace"}]));
    assert_eq!(patched(pod(), document, patch), pod_with(json!([{"name": "c"}])));
}

#[test]
fn rollback_replaces_the_template() {
    let document = json!({"spec": {"minReadySeconds": 1, "template": {"metadata": {"labels": {"a": "new"}}, "spec": {"hostNetwork": true}}}});
    let patch = json!({"spec": {"template": {"$patch": "replace", "metadata": {"labels": {"a": "old"}}, "spec": {"hostPID": true}}}});
    assert_eq!(
        patched(daemon_set(), document, patch),
        json!({"spec": {"minReadySeconds": 1, "template": {"metadata": {"labels": {"a": "old"}}, "spec": {"hostPID": true}}}})
    );
}

#[test]
fn object_is_emptied_by_delete_and_a_field_removed_by_null() {
    let document = json!({"metadata": {"labels": {"a": "1", "b": "2"}, "annotations": {"x": "y"}}});
    let patch = json!({"metadata": {"labels": {"$patch": "delete"}, "annotations": null}});
    assert_eq!(
        patched(pod(), document, patch),
        json!({"metadata": {"labels": {}}})
    );
}

#[test]
fn owner_references_are_adopted_and_released_by_uid() {
    let owned = json!({"metadata": {"uid": "p", "ownerReferences": [{"uid": "ds", "kind": "DaemonSet", "name": "d", "controller": true}]}});
    let adopt = json!({"metadata": {"uid": "p", "ownerReferences": [{"uid": "ds", "kind": "DaemonSet", "name": "d", "controller": true}]}});
    assert_eq!(patched(pod(), json!({"metadata": {"uid": "p"}}), adopt), owned);
    let release = json!({"metadata": {"uid": "p", "ownerReferences": [{"$patch": "delete", "uid": "ds"}]}});
    assert_eq!(
        patched(pod(), owned, release),
        json!({"metadata": {"uid": "p", "ownerReferences": []}})
    );
}

#[test]
fn finalizers_are_a_set_that_can_lose_members() {
    let document = json!({"metadata": {"finalizers": ["a", "b"]}});
    assert_eq!(
        patched(
            pod(),
            document.clone(),
            json!({"metadata": {"finalizers": ["b", "c"]}})
        ),
        json!({"metadata": {"finalizers": ["a", "b", "c"]}})
    );
    let patch = json!({"metadata": {"$deleteFromPrimitiveList/finalizers": ["a"], "$setElementOrder/finalizers": ["c", "b"], "finalizers": ["c"]}});
    assert_eq!(
        patched(pod(), document, patch),
        json!({"metadata": {"finalizers": ["c", "b"]}})
    );
    assert_eq!(
        patched(
            pod(),
            json!({"metadata": {}}),
            json!({"metadata": {"$deleteFromPrimitiveList/finalizers": ["a"]}})
        ),
        json!({"metadata": {}})
    );
}

#[test]
fn retain_keys_clears_the_others() {
    let document = json!({"spec": {"volumes": [{"name": "v", "emptyDir": {}}]}});
    let patch = json!({"spec": {"volumes": [{"$retainKeys": ["name", "hostPath"], "name": "v", "hostPath": {"path": "/x"}}]}});
    assert_eq!(
        patched(pod(), document.clone(), patch),
        json!({"spec": {"volumes": [{"name": "v", "hostPath": {"path": "/x"}}]}})
    );
    let invalid =
        json!({"spec": {"volumes": [{"$retainKeys": ["name"], "name": "v", "hostPath": {"path": "/x"}}]}});
    assert_eq!(
        refusal(pod(), document, invalid),
        "invalid patch format of retainKeys"
    );
}

#[test]
fn lists_without_a_strategy_are_replaced() {
    let document = json!({"spec": {"tolerations": [{"key": "a"}, {"key": "b"}]}});
    let patch = json!({"spec": {"tolerations": [{"key": "c"}]}});
    assert_eq!(patched(pod(), document, patch.clone()), patch);
}

#[test]
fn conditions_of_a_status_merge_by_type() {
    let document = json!({"status": {"conditions": [{"type": "Ready", "status": "False"}, {"type": "Initialized", "status": "True"}]}});
    let patch = json!({"status": {"conditions": [{"type": "Ready", "status": "True"}]}});
    assert_eq!(
        patched(pod(), document, patch),
        json!({"status": {"conditions": [{"type": "Ready", "status": "True"}, {"type": "Initialized", "status": "True"}]}})
    );
}

#[test]
fn new_values_carry_no_directives_and_no_nulls() {
    let patch = json!({"spec": {"affinity": {"nodeAffinity": null, "podAffinity": {"$patch": "delete"}}, "securityContext": {"$retainKeys": ["runAsUser"], "runAsUser": 1}}});
    assert_eq!(
        patched(pod(), json!({"spec": {}}), patch),
        json!({"spec": {"affinity": {}, "securityContext": {"runAsUser": 1}}})
    );
}

#[test]
fn invalid_patches_are_rejected_in_kubernetes_words() {
    for (document, patch, expected) in [
        (
            pod_with(json!([{"name": "a"}])),
            pod_with(json!([{"image": "x"}])),
            r#"map: {"image":"x"} does not contain declared merge key: name"#,
        ),
        (
            json!({"spec": {}}),
            json!({"spec": {"$patch": "explode"}}),
            r#"unknown patch type: "explode" in map: {}"#,
        ),
        (
            pod_with(json!([{"name": "a"}])),
            pod_with(json!([{"name": "a", "$patch": "merge"}])),
            "merging lists cannot yet be specified in the patch",
        ),
        (
            json!({"what": {"a": 1}}),
            json!({"what": {"a": 2}}),
            r#"unable to find api field in struct Pod for the json field "what""#,
        ),
        (
            json!({}),
            json!([1]),
            "json: cannot unmarshal array into Go value of type map[string]interface {}",
        ),
        (
            pod_with(json!([{"name": "a"}])),
            pod_with(json!([3])),
            r#"list element types are not identical: [[{"name":"a"}] [3]]"#,
        ),
        (
            json!({"metadata": {"finalizers": ["a"]}}),
            json!({"metadata": {"finalizers": [["b"]]}}),
            r#"list element types are not identical: [["a"] [["b"]]]"#,
        ),
    ] {
        assert_eq!(refusal(pod(), document, patch), expected);
    }
}

fn small_pod() -> impl Strategy<Value = Value> {
    let container = ("[a-d]", "[xy]", prop::option::of("[pq]")).prop_map(|(name, image, port)| {
        let ports: Vec<Value> = port
            .into_iter()
            .map(|name| json!({"containerPort": 80, "name": name}))
            .collect();
        json!({"name": name, "image": image, "ports": ports})
    });
    let labels = prop::collection::btree_map("[a-c]", "[xy]", 0..3);
    (prop::collection::vec(container, 0..4), labels, prop::collection::btree_set("[a-c]", 0..3)).prop_map(|(mut containers, labels, finalizers)| {
        let mut seen = HashSet::new();
        containers.retain(|container| seen.insert(container["name"].to_string()));
        json!({"metadata": {"labels": labels, "finalizers": finalizers}, "spec": {"containers": containers}})
    })
}

fn any_patch() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        "[a-c]".prop_map(Value::from),
        any::<i8>().prop_map(Value::from),
        Just(json!("delete")),
        Just(json!("replace"))
    ];
    let key = prop::sample::select(vec![
        "metadata",
        "spec",
        "containers",
        "name",
        "ports",
        "labels",
        "finalizers",
        "volumes",
        "$patch",
        "$retainKeys",
        "$setElementOrder/containers",
        "$setElementOrder/finalizers",
        "$deleteFromPrimitiveList/finalizers",
        "ownerReferences",
        "uid",
        "x",
    ]);
    leaf.prop_recursive(5, 40, 5, move |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::btree_map(key.clone(), inner, 0..5).prop_map(|map| map
                .into_iter()
                .map(|(key, value)| (key.to_owned(), value))
                .collect()),
        ]
    })
}

proptest! {
    #[test]
    fn empty_patch_changes_nothing(document in small_pod()) {
        prop_assert_eq!(patched(pod(), document.clone(), json!({})), document);
    }

    #[test]
    fn patch_without_deletions_is_idempotent(document in small_pod(), patch in small_pod()) {
        let once = patched(pod(), document, patch.clone());
        prop_assert_eq!(patched(pod(), once.clone(), patch), once);
    }

    #[test]
    fn document_is_a_patch_that_brings_itself_about(document in small_pod()) {
        prop_assert_eq!(patched(pod(), document.clone(), document.clone()), document.clone());
        prop_assert_eq!(patched(pod(), json!({}), document.clone()), document);
    }

    #[test]
    fn whatever_the_patch_is_the_answer_is_a_value_or_an_error(document in small_pod(), patch in any_patch()) {
        let first = apply(pod(), &document, &patch);
        prop_assert_eq!(apply(pod(), &document, &patch), first);
    }
}

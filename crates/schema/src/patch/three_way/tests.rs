use proptest::prelude::*;

use super::{super::strategic, Value, json, make};
use crate::{lookup, types::Type};

fn daemon_set() -> &'static Type {
    lookup("apps", "v1", "DaemonSet").expect("served")
}

fn with(containers: Value) -> Value {
    json!({"spec": {"template": {"spec": {"containers": containers}}}})
}

#[test]
fn only_the_changed_image_is_sent() {
    let original = with(json!([{"name": "a", "image": "1", "resources": {"limits": {"cpu": "0.5"}}}]));
    let modified = with(json!([{"name": "a", "image": "2", "resources": {"limits": {"cpu": "0.5"}}}]));
    let current = with(
        json!([{"name": "a", "image": "1", "imagePullPolicy": "Always", "resources": {"limits": {"cpu": "500m"}}}]),
    );
    let patch = make(Some(daemon_set()), Some(&original), &modified, &current);
    let expected = json!({"spec": {"template": {"spec": {"$setElementOrder/containers": [{"name": "a"}], "containers": [{"name": "a", "image": "2"}]}}}});
    assert_eq!(patch, expected);
}

#[test]
fn removed_fields_are_deleted_and_fields_of_others_stay() {
    let original = json!({"metadata": {"labels": {"a": "1", "b": "2"}}, "spec": {"template": {"spec": {"containers": [{"name": "x"}, {"name": "y"}]}}}});
    let modified = json!({"metadata": {"labels": {"a": "1"}}, "spec": {"template": {"spec": {"hostNetwork": false, "containers": [{"name": "x"}]}}}});
    let current = json!({"metadata": {"labels": {"a": "1", "b": "2", "other": "3"}}, "spec": {"template": {"spec": {"containers": [{"name": "x"}, {"name": "y"}, {"name": "injected"}]}}}});
    let patch = make(Some(daemon_set()), Some(&original), &modified, &current);
    let patched = strategic(daemon_set(), &current, &patch).expect("its own patch");
    let expected = json!({"metadata": {"labels": {"a": "1", "other": "3"}}, "spec": {"template": {"spec": {"containers": [{"name": "x"}, {"name": "injected"}]}}}});
    assert_eq!(patched, expected);
}

#[test]
fn volume_with_a_new_type_loses_the_old_source() {
    let volumes = |volume: Value| json!({"spec": {"template": {"spec": {"volumes": [volume]}}}});
    let original = volumes(json!({"name": "v", "emptyDir": {}}));
    let modified = volumes(json!({"name": "v", "hostPath": {"path": "/x"}}));
    let patch = make(Some(daemon_set()), Some(&original), &modified, &original);
    assert_eq!(strategic(daemon_set(), &original, &patch), Ok(modified));
}

#[test]
fn without_a_type_lists_are_replaced() {
    let patch = make(
        None,
        Some(&json!({"a": [1], "b": 1})),
        &json!({"a": [2], "c": {"d": 1}}),
        &json!({"a": [1], "b": 1, "x": 1}),
    );
    assert_eq!(patch, json!({"a": [2], "b": null, "c": {"d": 1}}));
}

fn manifest() -> impl Strategy<Value = Value> {
    let env = prop::collection::btree_map("[A-C]", "[xy]", 0..3).prop_map(|env| {
        env.into_iter()
            .map(|(name, value)| json!({"name": name, "value": value}))
            .collect::<Vec<_>>()
    });
    let container = (
        env,
        "[12]",
        prop::option::of(prop::collection::vec("[ab]", 1..3)),
        prop::option::of(prop::sample::select(vec!["0.5", "500m", "1"])),
    );
    let containers = prop::collection::btree_map("[a-d]", container, 1..4).prop_shuffle_names();
    (
        containers,
        prop::collection::btree_map("[a-c]", "[xy]", 0..3),
        prop::collection::btree_set("[f-h]", 0..3),
        any::<bool>(),
    )
        .prop_map(|(containers, labels, finalizers, host_network)| {
            let mut value = with(containers);
            value["metadata"] = json!({"labels": labels, "finalizers": finalizers});
            value["spec"]["template"]["spec"]["hostNetwork"] = host_network.into();
            value
        })
}

/// The name, image, arguments and policy of a container.
type Container = (Vec<Value>, String, Option<Vec<String>>, Option<&'static str>);

trait Shuffled {
    /// Containers as a list in random order.
    fn prop_shuffle_names(self) -> BoxedStrategy<Value>;
}

impl<S: Strategy<Value = std::collections::BTreeMap<String, Container>> + 'static> Shuffled for S {
    fn prop_shuffle_names(self) -> BoxedStrategy<Value> {
        self.prop_map(|map| map.into_iter().collect::<Vec<_>>())
            .prop_shuffle()
            .prop_map(|containers| {
                let list = containers.into_iter().map(|(name, (env, image, args, cpu))| {
                    let mut container = json!({"name": name, "image": image, "env": env});
                    if let Some(args) = args {
                        container["args"] = json!(args);
                    }
                    if let Some(cpu) = cpu {
                        container["resources"] = json!({"limits": {"cpu": cpu}});
                    }
                    container
                });
                list.collect()
            })
            .boxed()
    }
}

proptest! {
    #[test]
    fn applying_gives_the_manifest_and_twice_changes_nothing(original in manifest(), modified in manifest(), other in manifest()) {
        for current in [&original, &other] {
            let patch = make(Some(daemon_set()), Some(&original), &modified, current);
            let patched = strategic(daemon_set(), current, &patch).map_err(|error| TestCaseError::fail(format!("{patch}: {error}")))?;
            prop_assert_eq!(make(Some(daemon_set()), Some(&modified), &modified, &patched), json!({}), "{} made {}", patch, patched);
        }
    }

    #[test]
    fn manifest_that_is_the_object_needs_no_patch(manifest in manifest()) {
        prop_assert_eq!(make(Some(daemon_set()), Some(&manifest), &manifest, &manifest), json!({}));
        prop_assert_eq!(make(None, None, &manifest, &manifest), json!({}));
    }
}

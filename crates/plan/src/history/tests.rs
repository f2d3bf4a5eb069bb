use super::*;

fn set(spec: Value) -> DaemonSetView {
    let mut full = json!({
        "metadata": {"name": "daemon", "namespace": "default", "uid": "set"},
        "spec": {"selector": {"matchLabels": {"app": "x"}}, "template": {"spec": {"image": "v1"}}},
    });
    for (key, value) in spec.as_object().unwrap() {
        full["spec"][key] = value.clone();
    }
    serde_json::from_value(full).unwrap()
}

/// A revision in a few words: its name, its number, its image, its owner (`-` for none) and its
/// hash label.
fn revision(
    name: &str,
    number: i64,
    image: &str,
    owner: &str,
    hash: Option<&str>,
) -> Arc<ControllerRevisionView> {
    let owners = match owner {
        "-" => json!([]),
        uid => json!([{"kind": "DaemonSet", "name": "daemon", "uid": uid, "controller": true}]),
    };
    let mut labels = json!({"app": "x"});
    if let Some(hash) = hash {
        labels[HASH_LABEL] = hash.into();
    }
    Arc::new(
        serde_json::from_value(json!({
            "metadata": {"name": name, "namespace": "default", "labels": labels, "ownerReferences": owners},
            "data": {"spec": {"template": {"$patch": "replace", "spec": {"image": image}}}},
            "revision": number,
        }))
        .unwrap(),
    )
}

/// The steps in words.
fn steps(set: &DaemonSetView, revisions: &[Arc<ControllerRevisionView>], in_use: &[&str]) -> Vec<String> {
    let history = judge(set, &data(&set.template), revisions, |hash| {
        in_use.contains(&hash)
    });
    let words = |step: &Step| match step {
        Step::Write { revision, .. } => format!("write {revision}"),
        Step::Adopt(revision) => format!("adopt {}", revision.meta.name),
        Step::Release(revision) => format!("release {}", revision.meta.name),
        Step::Label(revision) => format!("label {}", revision.meta.name),
        Step::Renumber(revision, number) => format!("renumber {} to {number}", revision.meta.name),
        Step::Relabel { from, to } => format!("relabel {from} to {to}"),
        Step::Drop(revision) => format!("drop {}", revision.meta.name),
    };
    history.steps.iter().map(words).collect()
}

#[test]
fn data_is_written_as_go_writes_it() {
    let template = json!({"spec": {"b": "<&>", "a": 1}, "metadata": {"labels": {"x": "y"}}});
    let expected = "{\"spec\":{\"template\":{\"$patch\":\"replace\",\"metadata\":{\"labels\":{\"x\":\"y\"}},\
        \"spec\":{\"a\":1,\"b\":\"\\u003c\\u0026\\u003e\"}}}}";
    assert_eq!(String::from_utf8(data(&template)).unwrap(), expected);
}

#[test]
fn hashes_are_stable_and_depend_on_collisions() {
    let first = hash(b"data", None);
    assert_eq!(first, hash(b"data", None));
    assert!(first.bytes().all(|byte| b"456789bcdf".contains(&byte)), "{first}");
    assert_ne!(first, hash(b"data", Some(0)));
    assert_ne!(hash(b"data", Some(0)), hash(b"data", Some(1)));
}

#[test]
fn a_template_without_a_revision_gets_the_next_one() {
    assert_eq!(steps(&set(json!({})), &[], &[]), ["write 1"]);
    let old = revision("old", 4, "v0", "set", Some("o"));
    assert_eq!(steps(&set(json!({})), &[old], &[]), ["write 5"]);
}

#[test]
fn equal_data_makes_a_revision_current_whatever_its_name() {
    let current = revision("anything", 1, "v1", "set", Some("h"));
    let history = judge(
        &set(json!({})),
        &data(&set(json!({})).template),
        &[current],
        |_| false,
    );
    assert_eq!(
        (&*history.hash, history.settled, history.steps),
        ("h", true, vec![])
    );
}

#[test]
fn an_old_template_that_returns_is_renumbered() {
    let back = revision("back", 1, "v1", "set", Some("b"));
    let newer = revision("newer", 3, "v2", "set", Some("n"));
    assert_eq!(
        steps(&set(json!({})), &[newer, back], &[]),
        ["renumber back to 4"]
    );
}

#[test]
fn orphans_that_match_are_adopted_labelled_and_count_at_once() {
    let orphan = revision("orphan", 1, "v1", "-", None);
    assert_eq!(
        steps(&set(json!({})), &[orphan], &[]),
        ["adopt orphan", "label orphan"]
    );
    let of_another = revision("other", 1, "v1", "somebody", None);
    assert_eq!(steps(&set(json!({})), &[of_another], &[]), ["write 1"]);
    let mismatched = set(json!({"selector": {"matchLabels": {"app": "y"}}}));
    let ours = revision("ours", 1, "v1", "set", Some("h"));
    assert_eq!(steps(&mismatched, &[ours], &[]), ["release ours", "write 1"]);
}

#[test]
fn highest_duplicate_is_kept_and_pods_are_relabelled_first() {
    let low = revision("low", 1, "v1", "set", Some("l"));
    let high = revision("high", 2, "v1", "set", Some("h"));
    let both = [high, low];
    assert_eq!(steps(&set(json!({})), &both, &["l"]), ["relabel l to h"]);
    assert_eq!(steps(&set(json!({})), &both, &["h"]), ["drop low"]);
}

#[test]
fn the_oldest_beyond_the_limit_go_but_none_in_use() {
    let history = [
        revision("a", 1, "v-a", "set", Some("a")),
        revision("b", 2, "v-b", "set", Some("b")),
        revision("c", 3, "v-c", "set", Some("c")),
        revision("now", 4, "v1", "set", Some("now")),
    ];
    let limit = |limit: i32| set(json!({"revisionHistoryLimit": limit}));
    assert_eq!(steps(&limit(3), &history, &[]), Vec::<String>::new());
    assert_eq!(steps(&limit(1), &history, &[]), ["drop a", "drop b"]);
    assert_eq!(steps(&limit(1), &history, &["a"]), ["drop b", "drop c"]);
    assert_eq!(steps(&limit(0), &history, &["a", "b"]), ["drop c"]);
}

#[test]
fn a_long_name_leaves_room_for_the_hash() {
    let mut set = set(json!({}));
    set.meta.name = "x".repeat(253).into();
    assert_eq!(revision_name(&set, "abc"), format!("{}-abc", "x".repeat(223)));
    set.meta.name = "short".into();
    assert_eq!(revision_name(&set, "abc"), "short-abc");
}

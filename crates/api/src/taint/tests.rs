use serde_json::json;

use super::*;

/// Checks a toleration in JSON against a taint in the form of kubectl.
#[track_caller]
fn check(toleration: serde_json::Value, taint: &str, expected: bool) {
    let (pair, effect) = taint.split_once(':').unwrap();
    let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
    let parsed = Taint::new(key, value, Effect::parse(effect).unwrap());
    assert_eq!(parsed.to_string(), taint);
    let toleration: Toleration = serde_json::from_value(toleration).unwrap();
    assert_eq!(toleration.tolerates(&parsed), expected, "{toleration:?} {taint}");
}

#[test]
fn empty_key_or_effect_matches_all_and_exists_any_value() {
    check(json!({"operator": "Exists"}), "a=b:NoExecute", true);
    check(json!({"key": "a", "operator": "Exists"}), "a=b:NoSchedule", true);
    check(json!({"key": "a", "operator": "Exists"}), "b:NoSchedule", false);
    check(json!({"key": "a", "value": "b"}), "a=b:NoSchedule", true);
    check(
        json!({"key": "a", "operator": "Equal", "value": "c"}),
        "a=b:NoSchedule",
        false,
    );
    check(
        json!({"key": "a", "operator": "Exists", "effect": "NoExecute"}),
        "a:NoSchedule",
        false,
    );
    check(
        json!({"key": "a", "operator": "Exists", "effect": "NoExecute"}),
        "a:NoExecute",
        true,
    );
}

#[test]
fn unknown_operators_and_effects_tolerate_nothing() {
    check(
        json!({"key": "a", "operator": "Gt", "value": "1"}),
        "a=2:NoSchedule",
        false,
    );
    check(
        json!({"key": "a", "operator": "Exists", "effect": "Sometimes"}),
        "a:NoSchedule",
        false,
    );
}

#[test]
fn merging_replaces_the_same_identity_and_appends_others() {
    let seconds = |key: &str, seconds| Toleration {
        toleration_seconds: seconds,
        ..Toleration::exists(key, Effect::NoExecute)
    };
    let mut tolerations = vec![seconds("a", Some(5)), seconds("b", None)];
    merge_tolerations(&mut tolerations, [seconds("a", None), seconds("c", None)]);
    assert_eq!(
        tolerations,
        [seconds("a", None), seconds("b", None), seconds("c", None)]
    );
}

#[test]
fn untolerated_returns_the_first_selected_taint() {
    let taints = [
        Taint::new("a", "", Effect::PreferNoSchedule),
        Taint::new("b", "", Effect::NoSchedule),
    ];
    let found = untolerated(&taints, &[], Taint::repels).map(|taint| &*taint.key);
    assert_eq!(found, Some("b"));
    let tolerations = [Toleration::exists("b", Effect::NoSchedule)];
    assert_eq!(untolerated(&taints, &tolerations, Taint::repels), None);
}

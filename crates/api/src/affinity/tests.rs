use serde_json::{Value, json};

use super::*;

struct Node;

impl NodeFacts for Node {
    fn node_name(&self) -> &str {
        "n"
    }

    fn label(&self, key: &str) -> Option<&str> {
        match key {
            "zone" => Some("eu"),
            "cores" => Some("8"),
            _ => None,
        }
    }
}

fn selector(terms: Value) -> NodeSelector {
    serde_json::from_value(json!({"nodeSelectorTerms": terms})).unwrap()
}

#[track_caller]
fn check(key: &str, operator: &str, values: Value, expected: bool) {
    let terms = json!([{"matchExpressions": [{"key": key, "operator": operator, "values": values}]}]);
    assert_eq!(
        selector(terms).matches(&Node),
        expected,
        "{key} {operator} {values}"
    );
}

#[test]
fn expressions_compare_labels() {
    check("zone", "In", json!(["us", "eu"]), true);
    check("zone", "In", json!(["us"]), false);
    check("zone", "NotIn", json!(["us"]), true);
    check("absent", "NotIn", json!(["us"]), true);
    check("zone", "Exists", json!([]), true);
    check("absent", "DoesNotExist", json!(null), true);
    check("cores", "Gt", json!(["7"]), true);
    check("cores", "Gt", json!(["8"]), false);
    check("cores", "Lt", json!(["9"]), true);
    check("zone", "Gt", json!(["1"]), false);
    check("absent", "Lt", json!(["1"]), false);
}

#[test]
fn invalid_term_matches_nothing_and_affects_no_other() {
    check("zone", "Near", json!(["eu"]), false);
    check("zone", "In", json!([]), false);
    check("cores", "Gt", json!(["many"]), false);
    check("cores", "Gt", json!(["1", "2"]), false);
    let good = json!({"matchExpressions": [{"key": "zone", "operator": "Exists"}]});
    let broken = json!({"matchExpressions": [{"key": "zone", "operator": "Near"}]});
    assert!(selector(json!([broken, good])).matches(&Node));
}

#[test]
fn terms_are_ored_and_requirements_anded() {
    let zone = |value: &str| json!({"key": "zone", "operator": "In", "values": [value]});
    let named = |name: &str| json!({"key": "metadata.name", "operator": "In", "values": [name]});
    assert!(!selector(json!([])).matches(&Node), "no term matches nothing");
    assert!(
        !selector(json!([{}])).matches(&Node),
        "an empty term matches nothing"
    );
    assert!(
        selector(json!([{"matchExpressions": [zone("us")]}, {"matchFields": [named("n")]}])).matches(&Node)
    );
    assert!(
        !selector(json!([{"matchExpressions": [zone("eu")], "matchFields": [named("m")]}])).matches(&Node)
    );
    let not = json!({"key": "metadata.name", "operator": "NotIn", "values": ["m"]});
    assert!(selector(json!([{"matchFields": [not]}])).matches(&Node));
    let two = json!({"key": "metadata.name", "operator": "In", "values": ["n", "m"]});
    assert!(
        !selector(json!([{"matchFields": [two]}])).matches(&Node),
        "a field has one value"
    );
}

#[test]
fn selector_with_only_a_node_name_is_recognized() {
    let named = json!({"key": "metadata.name", "operator": "In", "values": ["x"]});
    let only = selector(json!([{"matchFields": [named]}]));
    assert_eq!(only.named_node().map(|name| &**name), Some("x"));
    assert!(only.only_names_a_node());
    let zone = json!({"key": "zone", "operator": "Exists"});
    let more = selector(json!([{"matchFields": [named], "matchExpressions": [zone]}]));
    assert!(more.named_node().is_some() && !more.only_names_a_node());
}

use serde_json::json;

use super::*;

const LABELS: [(&str, &str); 3] = [("app", "daemon"), ("tier", "edge"), ("cores", "8")];

fn selects(selector: &LabelSelector) -> bool {
    selector.matches(|key| {
        LABELS
            .iter()
            .find(|(present, _)| *present == key)
            .map(|(_, value)| *value)
    })
}

#[track_caller]
fn check(query: &str, expected: bool) {
    assert_eq!(
        selects(&LabelSelector::parse(query).unwrap()),
        expected,
        "{query}"
    );
}

#[track_caller]
fn check_error(query: &str, expected: &str) {
    assert_eq!(
        LabelSelector::parse(query).unwrap_err().to_string(),
        expected,
        "{query}"
    );
}

#[test]
fn queries_select_by_equality_sets_presence_and_size() {
    check("", true);
    check("app=daemon", true);
    check("app==daemon,tier=edge", true);
    check("app=daemon,tier=core", false);
    check("app!=daemon", false);
    check("missing!=x", true);
    check("tier in (core, edge)", true);
    check("tier in (core)", false);
    check("tier notin (core),missing notin (x)", true);
    check("app", true);
    check("!app", false);
    check("!missing, app", true);
    check("cores>4", true);
    check("cores gt 8", false);
    check("cores < 9", true);
    check("missing>1", false);
    check("app=", false);
    check("app in ()", false);
    check("tier in (,edge)", true);
}

#[test]
fn operator_words_may_be_keys() {
    check("in in (a)", false);
    check("!notin", true);
}

#[test]
fn errors_name_the_found_and_the_expected_token() {
    check_error(
        "a b",
        "unable to parse requirement: found 'b', expected: in, notin, =, ==, !=, gt, lt",
    );
    check_error("a,", "found '', expected: identifier after ','");
    check_error(",a", "found ',', expected: !, identifier, or 'end of string'");
    check_error("a=b c", "found 'c', expected: ',' or 'end of string'");
    check_error("a in b", "unable to parse requirement: found 'b' expected: '('");
    check_error(
        "a in (b",
        "unable to parse requirement: found '', expected: ',' or ')'",
    );
    assert!(LabelSelector::parse("-a=b").unwrap_err().to_string().starts_with(
        "unable to parse requirement: <nil>: Invalid value: \"-a\": name part must consist of alphanumeric characters"
    ));
    assert!(LabelSelector::parse("a=-b").is_err());
    assert!(LabelSelector::parse("a>b").is_err());
}

#[test]
fn selector_objects_match_labels_and_expressions() {
    let of = |value| LabelSelector::from_value(&value).unwrap();
    assert!(selects(&of(json!({"matchLabels": {"app": "daemon"}}))));
    assert!(!selects(&of(
        json!({"matchLabels": {"app": "daemon", "tier": "core"}})
    )));
    let expression = |operator: &str, values| json!({"matchExpressions": [{"key": "tier", "operator": operator, "values": values}]});
    assert!(selects(&of(expression("In", json!(["edge"])))));
    assert!(!selects(&of(expression("NotIn", json!(["edge"])))));
    assert!(selects(&of(expression("Exists", json!([])))));
    assert!(!selects(&of(expression("DoesNotExist", json!(null)))));
    let both = |operator: &str| {
        let mut selector = expression(operator, json!(["edge"]));
        selector["matchLabels"] = json!({"app": "daemon"});
        selects(&of(selector))
    };
    assert!(
        both("In") && !both("NotIn"),
        "labels and expressions must both hold"
    );
    assert!(of(json!({})).is_everything());
    assert!(!selects(&of(json!(null))), "no selector selects nothing");
    assert_eq!(LabelSelector::from_value(&expression("Near", json!([]))), None);
    assert_eq!(LabelSelector::from_value(&expression("In", json!([]))), None);
}

#[test]
fn exact_returns_the_only_allowed_value() {
    let selector = LabelSelector::parse("app=daemon,tier in (a,b)").unwrap();
    assert_eq!(selector.exact("app"), Some("daemon"));
    assert_eq!(selector.exact("tier"), None);
}

#[test]
fn field_selector_treats_absent_fields_as_empty() {
    let fields = |field: &str| match field {
        "spec.nodeName" => Some("a"),
        "metadata.name" => Some("x=y,z"),
        _ => None,
    };
    let matches = |query: &str| FieldSelector::parse(query).unwrap().matches(fields);
    assert!(matches(""));
    assert!(matches("spec.nodeName=a"));
    assert!(matches("spec.nodeName==a,status.phase!=Failed"));
    assert!(!matches("spec.nodeName!=a"));
    assert!(matches("status.phase="));
    assert!(matches(r"metadata.name=x\=y\,z"));
    assert_eq!(
        FieldSelector::parse("spec.nodeName=a")
            .unwrap()
            .exact("spec.nodeName"),
        Some("a")
    );
    assert_eq!(
        FieldSelector::parse("spec.nodeName!=a")
            .unwrap()
            .exact("spec.nodeName"),
        None
    );
}

#[test]
fn field_selector_errors_have_the_words_of_kubernetes() {
    let error = |query: &str| FieldSelector::parse(query).unwrap_err().to_string();
    assert_eq!(error("a"), "invalid selector: 'a'; can't understand 'a'");
    assert_eq!(
        error("b=c,a=b=c"),
        "invalid selector: 'b=c,a=b=c'; can't understand 'a=b=c'"
    );
    assert_eq!(
        error("a=b\\"),
        "invalid selector: 'a=b\\'; can't understand 'a=b\\'"
    );
    let selector = FieldSelector::parse("metadata.name=x,spec.color=red").unwrap();
    assert_eq!(selector.unsupported(&["spec.nodeName"]), Some("spec.color"));
    assert_eq!(selector.unsupported(&["spec.color"]), None);
    assert_eq!(
        FieldSelector::unsupported_error("spec.color", &["spec.nodeName"]).to_string(),
        "field label not supported: spec.color"
    );
    assert_eq!(
        FieldSelector::unsupported_error("spec.color", &[]).to_string(),
        "\"spec.color\" is not a known field selector: only \"metadata.name\", \"metadata.namespace\""
    );
}

mod properties {
    use proptest::prelude::*;

    use super::super::*;

    proptest! {
        #[test]
        fn nothing_that_is_sent_panics(query in "[a-z=!<>(), \\\\\u{e9}.-]{0,24}") {
            let labels = LabelSelector::parse(&query).map(|selector| selector.matches(|_| None));
            let fields = FieldSelector::parse(&query).map(|selector| selector.matches(|_| None));
            // An error must have a message.
            for error in [labels.err(), fields.err()].into_iter().flatten() {
                prop_assert!(!error.to_string().is_empty());
            }
        }

        #[test]
        fn value_and_its_negation_split_the_world(value in "[a-z]{0,3}", wanted in "[a-z]{0,3}") {
            let one = LabelSelector::parse(&format!("k={wanted}")).unwrap();
            let other = LabelSelector::parse(&format!("k!={wanted}")).unwrap();
            prop_assert_ne!(one.matches(|_| Some(&value)), other.matches(|_| Some(&value)));
        }
    }
}

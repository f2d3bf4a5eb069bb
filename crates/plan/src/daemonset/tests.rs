use std::sync::Arc;

use api::view::{DaemonSetView, NodeView, PodView};
use jiff::Timestamp;
use serde::Deserialize;
use serde_json::{Value, json};

use super::*;
use crate::rollout::{Lane, Mode};

fn view<V: for<'de> Deserialize<'de>>(value: Value) -> V {
    V::deserialize(&value).unwrap()
}

/// The time of all judgements. Ages are relative to it.
fn now() -> Timestamp {
    "2026-01-01T01:00:00Z".parse().unwrap()
}

fn seconds_ago(seconds: i64) -> String {
    now()
        .checked_sub(SignedDuration::from_secs(seconds))
        .unwrap()
        .to_string()
}

/// A pod from words: `new` or `old` (template), and any of `ready`, `ready-20s`, `unbound`,
/// `failed`, `succeeded`, `terminating`, `going` (deletion requested), `orphan`, and an age such as
/// `60s`.
fn pod(index: usize, words: &str) -> (Arc<PodView>, Held) {
    let (mut age, mut held) = (100 - i64::try_from(index).unwrap(), Held::Ours);
    let mut pod = json!({
        "metadata": {"name": format!("pod-{index}"), "uid": format!("uid-{index}"), "labels": {}},
        "spec": {"nodeName": "n"},
        "status": {"phase": "Running"},
    });
    let ready =
        |since: i64| json!([{"type": "Ready", "status": "True", "lastTransitionTime": seconds_ago(since)}]);
    for word in words.split_whitespace() {
        match word {
            "new" => pod["metadata"]["labels"][HASH_LABEL] = "current".into(),
            "old" => pod["metadata"]["labels"][HASH_LABEL] = "past".into(),
            "ready" => pod["status"]["conditions"] = ready(3600),
            "unbound" => pod["spec"] = json!({}),
            "failed" => pod["status"]["phase"] = "Failed".into(),
            "succeeded" => pod["status"]["phase"] = "Succeeded".into(),
            "terminating" => pod["metadata"]["deletionTimestamp"] = seconds_ago(1).into(),
            "going" => held = Held::Going,
            "orphan" => held = Held::NotYetOurs,
            other => match other
                .strip_prefix("ready-")
                .unwrap_or(other)
                .strip_suffix('s')
                .map(str::parse)
            {
                Some(Ok(since)) if other.starts_with("ready-") => pod["status"]["conditions"] = ready(since),
                Some(Ok(seconds)) => age = seconds,
                _ => panic!("what is {other:?}?"),
            },
        }
    }
    pod["metadata"]["creationTimestamp"] = seconds_ago(age).into();
    (Arc::new(view(pod)), held)
}

/// The current template, with the hash `current`.
fn template(generation: Option<i64>) -> CurrentTemplate<'static> {
    CurrentTemplate {
        hash: "current",
        generation,
        since: Some(now()),
    }
}

/// The judgement in words, such as `create`, `delete pod-1 (duplicate)`, and the lane unless it is
/// quiet.
fn judged(mode: Mode, fit: Option<Fit>, pods: &[&str], more: impl FnOnce(&mut Facts<'_>)) -> String {
    let rules = Rules {
        template: template(None),
        min_ready_seconds: 15,
        mode,
        aim: Aim::Affinity,
    };
    let pods: Vec<_> = pods
        .iter()
        .enumerate()
        .map(|(index, words)| pod(index, words))
        .collect();
    let mut facts = Facts {
        fit,
        unreachable: false,
        pods: &pods,
        creating: false,
        back_off: None,
    };
    more(&mut facts);
    let judgement = judge(&rules, &facts, now());
    let mut said = Vec::new();
    if judgement.create {
        said.push("create".to_owned());
    }
    for (pod, reason) in &judgement.delete {
        said.push(format!("delete {} ({reason:?})", pod.meta.name));
    }
    if judgement.lane != Lane::Quiet {
        said.push(format!("{:?}", judgement.lane));
    }
    if said.is_empty() {
        "nothing".to_owned()
    } else {
        said.join(", ")
    }
}

#[track_caller]
fn check(mode: Mode, fit: Fit, pods: &[&str], expected: &str) {
    assert_eq!(
        judged(mode, Some(fit), pods, |_| {}),
        expected,
        "{mode:?} {fit:?} {pods:?}"
    );
}

use Fit::{Not, Runs, Stays};
use Mode::{InPlace, OnDelete, Surge};

#[test]
fn a_node_without_a_pod_gets_one_where_it_should_run() {
    check(OnDelete, Runs, &[], "create");
    check(InPlace, Runs, &[], "create, Unavailable");
    check(Surge, Runs, &[], "create");
    check(InPlace, Stays, &[], "nothing");
    check(InPlace, Not, &[], "nothing");
}

#[test]
fn a_pod_that_was_asked_for_is_not_asked_for_again() {
    for mode in [OnDelete, InPlace, Surge] {
        assert!(!judged(mode, Some(Runs), &[], |facts| facts.creating = true).contains("create"));
        assert!(!judged(mode, Some(Runs), &["old"], |facts| facts.creating = true).contains("create"));
    }
}

#[test]
fn one_pod_that_is_well_is_left_alone() {
    check(InPlace, Runs, &["new ready"], "nothing");
    check(InPlace, Runs, &["new"], "Unavailable");
    check(InPlace, Stays, &["new"], "nothing");
}

#[test]
fn without_surge_the_senior_of_several_pods_stays() {
    check(
        InPlace,
        Runs,
        &["new ready 50s", "new ready 90s"],
        "delete pod-0 (Duplicate), Unavailable",
    );
    check(
        InPlace,
        Runs,
        &["new unbound 90s", "new ready 50s"],
        "delete pod-0 (Duplicate), Unavailable",
    );
    check(
        InPlace,
        Runs,
        &["new ready 50s", "new ready 50s"],
        "delete pod-1 (Duplicate), Unavailable",
    );
}

#[test]
fn ending_pod_blocks_its_successor_until_it_has_ended() {
    check(InPlace, Runs, &["new terminating"], "Unavailable");
    check(InPlace, Runs, &["new going"], "Unavailable");
    check(InPlace, Runs, &["new failed terminating"], "create, Unavailable");
    check(Surge, Runs, &["new terminating"], "create");
}

#[test]
fn what_ended_is_deleted_and_not_replaced_in_the_same_breath() {
    check(OnDelete, Runs, &["new failed"], "delete pod-0 (Failed)");
    check(OnDelete, Stays, &["new succeeded"], "delete pod-0 (Succeeded)");
    let until = now().checked_add(SignedDuration::from_secs(5)).ok();
    let backing_off = |mode| judged(mode, Some(Runs), &["new failed"], |facts| facts.back_off = until);
    assert_eq!(backing_off(OnDelete), "nothing");
    assert_eq!(
        backing_off(Surge),
        "nothing",
        "a surging set does not pile up failures"
    );
}

#[test]
fn where_it_must_not_be_all_pods_go_but_those_that_go_already() {
    check(
        InPlace,
        Not,
        &["new ready", "old", "new terminating"],
        "delete pod-0 (Misplaced), delete pod-1 (Misplaced)",
    );
}

#[test]
fn on_a_vanished_node_only_pods_that_wait_for_it_are_deleted() {
    assert_eq!(
        judged(InPlace, None, &["new ready", "new unbound"], |_| {}),
        "delete pod-1 (NodeGone)"
    );
}

#[test]
fn nothing_is_done_on_a_node_until_its_orphan_is_adopted() {
    check(InPlace, Runs, &["old ready orphan"], "Unavailable");
    check(InPlace, Runs, &["old ready orphan", "new failed"], "Unavailable");
    check(Surge, Not, &["old ready orphan"], "nothing");
}

#[test]
fn in_place_available_old_pod_waits_and_broken_one_is_deleted() {
    check(InPlace, Runs, &["old ready"], "Candidate");
    check(InPlace, Runs, &["old"], "delete pod-0 (Outdated), Unavailable");
    check(
        InPlace,
        Runs,
        &["old ready-10s"],
        "delete pod-0 (Outdated), Unavailable",
    );
    check(InPlace, Runs, &["old ready-20s"], "Candidate");
    check(InPlace, Stays, &["old"], "nothing");
    check(OnDelete, Runs, &["old"], "nothing");
}

#[test]
fn a_surge_gives_up_what_waits_for_a_node_where_none_may_start() {
    check(Surge, Stays, &["old ready", "new"], "Surging");
    check(
        Surge,
        Stays,
        &["old ready", "new unbound"],
        "delete pod-1 (Misplaced), Surging",
    );
}

#[test]
fn a_surge_keeps_a_pair_until_the_new_one_is_available() {
    check(Surge, Runs, &["old ready"], "Candidate");
    check(Surge, Runs, &["old"], "create");
    check(Surge, Runs, &["old ready", "new"], "Surging");
    check(Surge, Runs, &["old ready", "new ready-10s"], "Surging");
    check(
        Surge,
        Runs,
        &["old ready", "new ready-20s"],
        "delete pod-0 (Replaced)",
    );
    check(Surge, Runs, &["old", "new"], "delete pod-0 (Replaced), Surging");
    check(
        Surge,
        Runs,
        &["old ready", "old ready", "new", "new"],
        "delete pod-1 (Duplicate), delete pod-3 (Duplicate), Surging",
    );
}

#[test]
fn surge_deletes_misplaced_pod_when_others_serve() {
    check(Surge, Stays, &["old ready"], "Sunset");
    check(Surge, Stays, &["old"], "delete pod-0 (Misplaced)");
    check(Surge, Stays, &["new ready"], "nothing");
}

#[test]
fn the_senior_pod_speaks_for_the_node_in_the_status() {
    let rules = Rules {
        template: template(None),
        min_ready_seconds: 0,
        mode: Mode::InPlace,
        aim: Aim::Affinity,
    };
    let count = |fit, pods: &[&str]| {
        let pods: Vec<_> = pods
            .iter()
            .enumerate()
            .map(|(index, words)| pod(index, words))
            .collect();
        judge(
            &rules,
            &Facts {
                fit,
                unreachable: false,
                pods: &pods,
                creating: false,
                back_off: None,
            },
            now(),
        )
        .count
    };
    let of_senior = count(Some(Runs), &["old terminating 90s", "new ready 50s"]);
    assert_eq!(
        (of_senior.current, of_senior.ready, of_senior.updated),
        (true, false, false)
    );
    let misplaced = count(Some(Stays), &["new ready"]);
    assert_eq!(
        (misplaced.desired, misplaced.misscheduled, misplaced.ready),
        (false, true, false)
    );
    assert_eq!(
        count(None, &["new ready"]),
        Count::default(),
        "a vanished node counts for nothing"
    );
    assert!(
        !count(Some(Runs), &["new failed terminating"]).current,
        "what is over is not there"
    );
}

#[test]
fn the_template_generation_alone_makes_a_pod_current() {
    let created = seconds_ago(0);
    let mut pod: PodView =
        view(json!({"metadata": {"creationTimestamp": created, "labels": {GENERATION_LABEL: "3"}}}));
    assert!(is_updated(&pod, &template(Some(3))));
    assert!(!is_updated(&pod, &template(Some(4))));
    assert!(!is_updated(&pod, &template(None)));
    pod.meta.labels = Default::default();
    assert!(!is_updated(&pod, &template(None)));
}

#[test]
fn template_generation_is_ignored_for_pod_older_than_set() {
    let pod = |age: i64, hash: &str| -> PodView {
        view(json!({"metadata": {"creationTimestamp": seconds_ago(age),
            "labels": {GENERATION_LABEL: "1", HASH_LABEL: hash}}}))
    };
    assert!(!is_updated(&pod(1, "another"), &template(Some(1))));
    assert!(is_updated(&pod(0, "another"), &template(Some(1))));
    assert!(is_updated(&pod(1, "current"), &template(Some(1))));
}

// ---- placement ----

#[track_caller]
fn check_fit(spec: Value, node: Value, expected: Fit, why: &str) {
    let mut full = json!({"metadata": {"name": "n", "labels": {"zone": "eu", "cores": "8"}}});
    full["spec"] = node;
    let (placement, node) = (Placement::compile(&json!({"spec": spec})), view::<NodeView>(full));
    assert_eq!(placement.fit(&node), expected);
    assert_eq!(
        placement
            .misfit(&node)
            .map(|misfit| misfit.to_string())
            .unwrap_or_default(),
        why
    );
}

fn required(terms: Value) -> Value {
    json!({"affinity": {"nodeAffinity": {
        "requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": terms}}}})
}

#[test]
fn names_labels_and_affinity_decide_where_it_belongs() {
    check_fit(json!({}), json!({}), Runs, "");
    check_fit(json!({"nodeName": "n"}), json!({}), Runs, "");
    check_fit(
        json!({"nodeName": "m"}),
        json!({}),
        Not,
        "the template names the node m",
    );
    check_fit(json!({"nodeSelector": {"zone": "eu"}}), json!({}), Runs, "");
    check_fit(
        json!({"nodeSelector": {"zone": "us"}}),
        json!({}),
        Not,
        "nodeSelector zone=us does not match",
    );
    let affinity = "the required node affinity does not match";
    let cores = |operator: &str, value: &str| json!({"matchExpressions": [{"key": "cores", "operator": operator, "values": [value]}]});
    check_fit(required(json!([cores("Gt", "4")])), json!({}), Runs, "");
    check_fit(required(json!([cores("Gt", "8")])), json!({}), Not, affinity);
    check_fit(
        required(json!([cores("Gt", "many"), cores("Lt", "9")])),
        json!({}),
        Runs,
        "",
    );
    check_fit(required(json!([])), json!({}), Not, affinity);
    check_fit(required(json!([{}])), json!({}), Not, affinity);
    let named =
        |name: &str| json!([{"matchFields": [{"key": "metadata.name", "operator": "In", "values": [name]}]}]);
    check_fit(required(named("n")), json!({}), Runs, "");
    check_fit(required(named("m")), json!({}), Not, affinity);
}

#[test]
fn resources_ports_and_cordons_are_not_its_business() {
    check_fit(
        json!({"containers": [{"resources": {"requests": {"cpu": "999"}}, "ports": [{"hostPort": 80}]}]}),
        json!({"unschedulable": true}),
        Runs,
        "",
    );
}

#[test]
fn only_no_schedule_and_no_execute_taints_count() {
    let tainted = |effect: &str| json!({"taints": [{"key": "gpu", "value": "true", "effect": effect}]});
    check_fit(json!({}), tainted("PreferNoSchedule"), Runs, "");
    check_fit(
        json!({}),
        tainted("NoSchedule"),
        Stays,
        "taint gpu=true:NoSchedule is not tolerated",
    );
    check_fit(
        json!({}),
        tainted("NoExecute"),
        Not,
        "taint gpu=true:NoExecute is not tolerated",
    );
    let tolerating = |value: &str| json!({"tolerations": [{"key": "gpu", "value": value}]});
    check_fit(tolerating("true"), tainted("NoExecute"), Runs, "");
    check_fit(
        tolerating("false"),
        tainted("NoSchedule"),
        Stays,
        "taint gpu=true:NoSchedule is not tolerated",
    );
    let both = json!({"taints": [{"key": "a", "effect": "NoSchedule"}, {"key": "b", "effect": "NoExecute"}]});
    check_fit(json!({}), both, Not, "taint b:NoExecute is not tolerated");
}

// ---- pods ----

fn set(template: Value) -> DaemonSetView {
    view(json!({
        "metadata": {"name": "daemon", "namespace": "kube-system", "uid": "set-uid",
            "annotations": {"deprecated.daemonset.template.generation": "7"}},
        "spec": {"selector": {"matchLabels": {"app": "daemon"}}, "template": template},
    }))
}

fn rendered(template: Value) -> Value {
    let body = PodTemplate::render(&set(template), "abc", Aim::Affinity).body("daemon-x7", "node-1");
    serde_json::from_slice(&body).unwrap()
}

#[test]
fn a_pod_is_its_template_named_labelled_owned_and_aimed() {
    let pod = rendered(json!({
        "metadata": {"labels": {"app": "daemon"}, "annotations": {"note": "kept"}},
        "spec": {
            "nodeSelector": {"zone": "eu"},
            "affinity": {
                "nodeAffinity": {
                    "requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [{"matchExpressions": []}]},
                    "preferredDuringSchedulingIgnoredDuringExecution": [{"weight": 1, "preference": {}}],
                },
                "podAntiAffinity": {"kept": true},
            },
            "containers": [{"name": "main", "image": "v1"}],
        },
    }));
    assert_eq!(pod["metadata"]["name"], "daemon-x7");
    assert_eq!(pod["metadata"]["generateName"], "daemon-");
    assert_eq!(pod["metadata"]["namespace"], "kube-system");
    assert_eq!(
        pod["metadata"]["labels"],
        json!({"app": "daemon", "controller-revision-hash": "abc", "pod-template-generation": "7"})
    );
    assert_eq!(pod["metadata"]["annotations"], json!({"note": "kept"}));
    assert_eq!(
        pod["metadata"]["ownerReferences"],
        json!([{"apiVersion": "apps/v1", "kind": "DaemonSet", "name": "daemon", "uid": "set-uid",
            "controller": true, "blockOwnerDeletion": true}])
    );
    let affinity = &pod["spec"]["affinity"];
    assert_eq!(
        affinity["nodeAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"],
        json!({"nodeSelectorTerms": [
            {"matchFields": [{"key": "metadata.name", "operator": "In", "values": ["node-1"]}]}]})
    );
    assert_eq!(
        affinity["nodeAffinity"]["preferredDuringSchedulingIgnoredDuringExecution"][0]["weight"],
        1
    );
    assert_eq!(affinity["podAntiAffinity"], json!({"kept": true}));
    assert_eq!(pod["spec"]["nodeSelector"], json!({"zone": "eu"}));
    assert_eq!(pod["spec"].get("nodeName"), None, "the scheduler binds");
}

#[test]
fn pod_with_node_name_keeps_its_affinity() {
    let affinity = json!({"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution":
        {"nodeSelectorTerms": [{"matchExpressions": [{"key": "zone", "operator": "Exists"}]}]}}});
    let template = json!({"spec": {"affinity": affinity, "containers": [{"name": "main", "image": "v1"}]}});
    let body = PodTemplate::render(&set(template), "abc", Aim::NodeName).body("daemon-x7", "node-1");
    let pod: Value = serde_json::from_slice(&body).unwrap();
    assert_eq!(pod["spec"]["nodeName"], "node-1");
    assert_eq!(pod["spec"]["affinity"], affinity);
    assert_eq!(
        pod["spec"]["tolerations"].as_array().unwrap().len(),
        6,
        "it tolerates all the same"
    );
}

#[test]
fn tolerations_are_added_in_order_without_seconds() {
    let own = json!([
        {"key": "mine", "operator": "Exists"},
        {"key": "node.kubernetes.io/unreachable", "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 5},
    ]);
    let keys = |pod: &Value| -> Vec<String> {
        let tolerations = pod["spec"]["tolerations"].as_array().unwrap();
        tolerations
            .iter()
            .map(|toleration| toleration["key"].as_str().unwrap().to_owned())
            .collect()
    };
    let pod = rendered(json!({"spec": {"tolerations": own}}));
    let expected = [
        "mine",
        "node.kubernetes.io/unreachable",
        "node.kubernetes.io/not-ready",
        "node.kubernetes.io/disk-pressure",
        "node.kubernetes.io/memory-pressure",
        "node.kubernetes.io/pid-pressure",
        "node.kubernetes.io/unschedulable",
    ];
    assert_eq!(keys(&pod), expected);
    assert_eq!(pod["spec"]["tolerations"][1].get("tolerationSeconds"), None);
    let on_host = rendered(json!({"spec": {"hostNetwork": true}}));
    assert_eq!(
        keys(&on_host).last().unwrap(),
        "node.kubernetes.io/network-unavailable"
    );
}

#[test]
fn no_text_of_a_template_is_mistaken_for_a_name() {
    let odd = json!({"metadata": {"annotations": {"a": "everynode/name", "b": "everynode./node \"quoted\""}}, "spec": {}});
    let pod = rendered(odd.clone());
    assert_eq!(pod["metadata"]["annotations"], odd["metadata"]["annotations"]);
    assert_eq!(pod["metadata"]["name"], "daemon-x7");
    let quoted = PodTemplate::render(&set(odd), "abc", Aim::Affinity).body("x", "no\"de");
    assert!(
        serde_json::from_slice::<Value>(&quoted).is_ok(),
        "whatever a node is called, it is JSON"
    );
}

#[test]
fn every_pod_changes_the_next_name_within_a_second_too() {
    let at = |second: &str| Some(format!("2026-01-01T00:00:{second}Z").parse().unwrap());
    let mut lineage = Lineage::default();
    let mut names = std::collections::BTreeSet::new();
    let pods = [("07", "m"), ("07", "a"), ("07", "z"), ("08", "b"), ("08", "a")];
    for (count, (second, uid)) in pods.into_iter().enumerate() {
        names.insert(pod_name("daemon", "uid", "a", "h", &lineage, 0));
        assert_eq!(names.len(), count + 1, "before {uid}");
        assert!(lineage.extend(at(second), &uid.into()));
        assert!(!lineage.extend(at(second), &uid.into()), "{uid} is known");
        assert!(!lineage.extend(at("01"), &"older".into()));
    }
    let mut reversed = Lineage::default();
    for (second, uid) in pods.into_iter().rev() {
        reversed.extend(at(second), &uid.into());
    }
    assert_eq!(
        reversed, lineage,
        "the order in which they are seen makes no difference"
    );
}

#[test]
fn names_look_like_kubernetes_and_depend_on_all_parts() {
    let name = |node: &str, hash: &str, predecessor: &str, salt| {
        let mut lineage = Lineage::default();
        if !predecessor.is_empty() {
            lineage.extend(None, &predecessor.into());
        }
        pod_name("daemon", "uid", node, hash, &lineage, salt)
    };
    let first = name("a", "h", "", 0);
    assert_eq!(first, name("a", "h", "", 0), "asked twice, the same");
    let (prefix, suffix) = first.rsplit_once('-').unwrap();
    assert_eq!((prefix, suffix.len()), ("daemon", 5));
    assert!(
        suffix
            .bytes()
            .all(|byte| b"bcdfghjklmnpqrstvwxz2456789".contains(&byte))
    );
    for other in [
        name("b", "h", "", 0),
        name("a", "i", "", 0),
        name("a", "h", "p", 0),
        name("a", "h", "", 1),
    ] {
        assert_ne!(first, other);
    }
    let named = |set: &str| pod_name(set, "uid", "a", "h", &Lineage::default(), 0);
    let prefix = |set: &str| {
        let name = named(set);
        name[..name.len() - 5].to_owned()
    };
    assert_eq!(prefix("daemon"), "daemon-");
    assert_eq!(prefix(&"x".repeat(57)), format!("{}-", "x".repeat(57)));
    assert_eq!(prefix(&"x".repeat(200)), "x".repeat(58));
    let dotted = format!("{}.{}", "x".repeat(56), "y".repeat(9));
    assert_eq!(
        prefix(&dotted),
        dotted[..58],
        "no part of a dotted name begins with a dash"
    );
    let names: std::collections::HashSet<_> = (0..2000)
        .map(|node| name(&node.to_string(), "h", "", 0))
        .collect();
    assert!(names.len() > 1990, "they spread: {}", names.len());
}

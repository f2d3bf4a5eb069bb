use api::kinds::by_kind;

use super::*;

fn now() -> Timestamp {
    "2026-01-01T00:00:00Z".parse().unwrap()
}

fn pod(node: &str, phase: &str) -> Value {
    json!({
        "kind": "Pod", "apiVersion": "v1", "metadata": {"name": "a", "namespace": "b"},
        "spec": {"nodeName": node, "terminationGracePeriodSeconds": 30}, "status": {"phase": phase},
    })
}

fn step(kind: &str, object: &Value, options: &DeleteOptions) -> Step {
    let group = if kind == "DaemonSet" { "apps" } else { "" };
    next_step(by_kind(group, "v1", kind).unwrap(), object, options, now())
}

fn grace(seconds: i64) -> DeleteOptions {
    DeleteOptions {
        grace_seconds: Some(seconds),
        ..DeleteOptions::default()
    }
}

fn marked(step: Step) -> Value {
    match step {
        Step::Mark(value) => value,
        Step::Wait => panic!("waits"),
        Step::Remove(_) => panic!("removed"),
    }
}

#[test]
fn pod_that_no_kubelet_has_to_stop_goes_at_once() {
    for object in [pod("", "Pending"), pod("n", "Succeeded"), pod("n", "Failed")] {
        assert!(matches!(
            step("Pod", &object, &DeleteOptions::default()),
            Step::Remove(_)
        ));
        assert!(matches!(step("Pod", &object, &grace(60)), Step::Remove(_)));
    }
}

#[test]
fn running_pod_gets_its_grace_period() {
    let going = marked(step("Pod", &pod("n", "Running"), &DeleteOptions::default()));
    assert_eq!(going["metadata"]["deletionTimestamp"], "2026-01-01T00:00:30Z");
    assert_eq!(going["metadata"]["deletionGracePeriodSeconds"], 30);
    assert!(matches!(
        step("Pod", &going, &DeleteOptions::default()),
        Step::Wait
    ));
    assert!(matches!(step("Pod", &going, &grace(60)), Step::Wait));
    let sooner = marked(step("Pod", &going, &grace(10)));
    assert_eq!(sooner["metadata"]["deletionTimestamp"], "2026-01-01T00:00:10Z");
    assert!(matches!(step("Pod", &going, &grace(0)), Step::Remove(_)));
}

#[test]
fn pod_with_a_finalizer_stays_after_its_grace_period() {
    let mut object = pod("n", "Running");
    object["metadata"]["finalizers"] = json!(["example.com/wait"]);
    let going = marked(step("Pod", &object, &grace(0)));
    assert_eq!(going["metadata"]["deletionGracePeriodSeconds"], 0);
    assert!(matches!(step("Pod", &going, &grace(0)), Step::Wait));
}

#[test]
fn propagation_sets_the_collectors_finalizer() {
    let object = json!({"metadata": {"name": "a", "generation": 1}});
    let with = |propagation| DeleteOptions {
        propagation: Some(propagation),
        ..DeleteOptions::default()
    };
    assert!(matches!(
        step("DaemonSet", &object, &DeleteOptions::default()),
        Step::Remove(_)
    ));
    assert!(matches!(
        step("DaemonSet", &object, &with(Propagation::Background)),
        Step::Remove(_)
    ));
    let foreground = marked(step("DaemonSet", &object, &with(Propagation::Foreground)));
    assert_eq!(
        foreground["metadata"]["finalizers"],
        json!(["foregroundDeletion"])
    );
    assert_eq!(foreground["metadata"]["generation"], 2);
    let orphan = marked(step("DaemonSet", &foreground, &with(Propagation::Orphan)));
    assert_eq!(orphan["metadata"]["finalizers"], json!(["orphan"]));
    assert_eq!(orphan["metadata"]["generation"], 2);
    assert!(matches!(
        step("DaemonSet", &orphan, &DeleteOptions::default()),
        Step::Wait
    ));
}

#[test]
fn namespace_waits_for_its_content() {
    let object = json!({"metadata": {"name": "a"}, "spec": {"finalizers": ["kubernetes"]}, "status": {"phase": "Active"}});
    let going = marked(step("Namespace", &object, &DeleteOptions::default()));
    assert_eq!(going["status"]["phase"], "Terminating");
    let mut empty = going.clone();
    empty["spec"]["finalizers"] = json!([]);
    assert!(matches!(
        step("Namespace", &empty, &DeleteOptions::default()),
        Step::Remove(_)
    ));
}

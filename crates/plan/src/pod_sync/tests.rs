//! Tables of single decisions, and a small model of a node for property tests.

use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(1_800_000_000 + second).expect("a time in range")
}

fn pod(spec: Value) -> Pod {
    let metadata = json!({"name": "web", "namespace": "shop", "uid": "u1"});
    serde_json::from_value(json!({"metadata": metadata, "spec": spec})).expect("a pod")
}

fn one_container() -> Pod {
    pod(json!({"containers": [{"name": "c", "image": "i:1", "imagePullPolicy": "IfNotPresent"}]}))
}

fn deleted(mut pod: Pod, grace: i64) -> Pod {
    pod.metadata.deletion_timestamp = Some(at(grace));
    pod.metadata.deletion_grace_period_seconds = Some(grace);
    pod
}

fn running() -> ContainerSeen {
    let run = Run::Running {
        container_id: "everynode://a".into(),
        started_at: at(0),
    };
    ContainerSeen {
        run,
        ..Default::default()
    }
}

fn exited(code: i32, finished: i64) -> ContainerSeen {
    let exit = Exit {
        container_id: "everynode://a".into(),
        exit_code: code,
        reason: if code == 0 { "Completed" } else { "Error" }.into(),
        message: String::new(),
        started_at: Some(at(0)),
        finished_at: at(finished),
    };
    ContainerSeen {
        run: Run::Exited(exit),
        image: ImageSeen::Present,
        ..Default::default()
    }
}

fn seen(containers: &[(&str, ContainerSeen)]) -> Observed {
    let containers = containers.iter().cloned();
    Observed {
        sandbox: Sandbox::Ready,
        containers: containers.map(|(name, seen)| (name.into(), seen)).collect(),
        ..Default::default()
    }
}

fn start(container: &str, attempt: u32) -> Action {
    Action::StartContainer {
        container: container.into(),
        attempt,
    }
}

fn look_up(container: &str) -> Action {
    let container = container.into();
    Action::LookUpImage { container }
}

fn condition<'a>(status: &'a Value, kind: &str) -> &'a Value {
    let conditions = status["conditions"].as_array().expect("conditions");
    let found = conditions.iter().find(|condition| condition["type"] == kind);
    found.expect("the condition")
}

#[test]
fn a_new_pod_gets_its_sandbox_then_its_image_then_its_container() {
    let pod = one_container();
    let mut node = Observed::default();
    assert_eq!(sync(&pod, &node, at(0)).actions, [Action::CreateSandbox]);
    node.sandbox = Sandbox::Creating;
    assert_eq!(sync(&pod, &node, at(0)).actions, []);
    node.sandbox = Sandbox::Ready;
    assert_eq!(sync(&pod, &node, at(0)).actions, [look_up("c")]);
    let mut container = ContainerSeen {
        image: ImageSeen::Missing { looked_at: at(0) },
        ..Default::default()
    };
    node.containers.insert("c".into(), container.clone());
    let pull = Action::PullImage {
        container: "c".into(),
    };
    assert_eq!(sync(&pod, &node, at(0)).actions, [pull]);
    container.image = ImageSeen::Ready;
    node.containers.insert("c".into(), container);
    assert_eq!(sync(&pod, &node, at(0)).actions, [start("c", 0)]);
}

#[test]
fn a_running_container_makes_the_pod_running_and_ready() {
    let plan = sync(&one_container(), &seen(&[("c", running())]), at(5));
    assert_eq!(plan.actions, []);
    assert_eq!(plan.status["phase"], "Running");
    for kind in [
        "PodReadyToStartContainers",
        "Initialized",
        "Ready",
        "ContainersReady",
        "PodScheduled",
    ] {
        assert_eq!(condition(&plan.status, kind)["status"], "True", "{kind}");
    }
    let container = &plan.status["containerStatuses"][0];
    assert_eq!(container["ready"], true);
    assert_eq!(container["started"], true);
    let started = json!({"running": {"startedAt": "2027-01-15T08:00:00Z"}});
    assert_eq!(container["state"], started);
}

#[test]
fn a_pod_that_waits_says_why() {
    struct Case {
        seen: ContainerSeen,
        now: i64,
        reason: &'static str,
        message: &'static str,
    }
    let failed = |now| {
        let mut backoff = Backoff::default();
        backoff.attempt(at(now), at(now));
        ImageSeen::Failed {
            message: "no such host".into(),
            at: at(now),
            looked_at: at(now),
            backoff,
        }
    };
    let crashed = {
        let mut crashed = exited(1, 20);
        crashed.backoff.attempt(at(10), at(10));
        crashed
    };
    let unmade = ContainerSeen {
        failure: Some((
            Failure {
                reason: "CreateContainerConfigError".into(),
                message: "configmap \"x\" not found".into(),
            },
            at(10),
        )),
        ..Default::default()
    };
    let with_image = |image| ContainerSeen {
        image,
        ..Default::default()
    };
    let cases = [
        Case {
            seen: ContainerSeen::default(),
            now: 0,
            reason: "ContainerCreating",
            message: "",
        },
        Case {
            seen: with_image(failed(0)),
            now: 0,
            reason: "ErrImagePull",
            message: "no such host",
        },
        Case {
            seen: with_image(failed(0)),
            now: 5,
            reason: "ImagePullBackOff",
            message: "Back-off pulling image \"i:1\": ErrImagePull: no such host",
        },
        Case {
            seen: crashed,
            now: 21,
            reason: "CrashLoopBackOff",
            message: "back-off 10s restarting failed container=c pod=web_shop(u1)",
        },
        Case {
            seen: unmade,
            now: 0,
            reason: "CreateContainerConfigError",
            message: "configmap \"x\" not found",
        },
    ];
    for case in cases {
        let plan = sync(&one_container(), &seen(&[("c", case.seen)]), at(case.now));
        let waiting = &plan.status["containerStatuses"][0]["state"]["waiting"];
        assert_eq!(waiting["reason"], case.reason);
        let message = waiting["message"].as_str().unwrap_or_default();
        assert_eq!(message, case.message, "{}", case.reason);
    }
}

#[test]
fn containers_start_again_by_their_own_policy_and_rules() {
    let rules =
        |operator: &str| json!([{"action": "Restart", "exitCodes": {"operator": operator, "values": [42]}}]);
    for (of_pod, container, code, again) in [
        ("Always", json!({"restartPolicy": "Never"}), 1, false),
        ("Never", json!({"restartPolicy": "Always"}), 0, true),
        ("Never", json!({"restartPolicy": "OnFailure"}), 0, false),
        ("Never", json!({"restartPolicy": "OnFailure"}), 1, true),
        (
            "Never",
            json!({"restartPolicy": "Never", "restartPolicyRules": rules("In")}),
            42,
            true,
        ),
        (
            "Never",
            json!({"restartPolicy": "Never", "restartPolicyRules": rules("In")}),
            1,
            false,
        ),
        (
            "Always",
            json!({"restartPolicy": "Never", "restartPolicyRules": rules("NotIn")}),
            42,
            false,
        ),
        (
            "Always",
            json!({"restartPolicy": "Never", "restartPolicyRules": rules("NotIn")}),
            1,
            true,
        ),
        ("Always", json!({}), 0, true),
        ("Never", json!({}), 1, false),
    ] {
        let mut spec = container.clone();
        spec["name"] = "c".into();
        spec["image"] = "i:1".into();
        let pod = pod(json!({"restartPolicy": of_pod, "containers": [spec]}));
        let mut ended = exited(code, 1);
        ended.image = ImageSeen::Ready;
        let plan = sync(&pod, &seen(&[("c", ended)]), at(1_000));
        let starts = plan.actions.contains(&start("c", 1));
        assert_eq!(starts, again, "{of_pod} {container} {code}: {:?}", plan.actions);
        let phase = match (again, code) {
            (true, _) => "Running",
            (false, 0) => "Succeeded",
            (false, _) => "Failed",
        };
        assert_eq!(plan.status["phase"], phase, "{of_pod} {container} {code}");
    }
}

#[test]
fn an_init_container_that_runs_once_fails_its_pod() {
    for (policy, fails) in [("Never", true), ("OnFailure", false)] {
        let pod = pod(json!({
            "initContainers": [{"name": "i", "image": "i:1", "restartPolicy": policy}],
            "containers": [{"name": "c", "image": "i:1"}],
        }));
        let plan = sync(&pod, &seen(&[("i", exited(1, 1))]), at(1_000));
        let phase = if fails { "Failed" } else { "Pending" };
        assert_eq!(plan.status["phase"], phase, "{policy}");
    }
}

#[test]
fn missing_image_with_policy_never_is_looked_up_again() {
    let pod = pod(json!({"containers": [{"name": "c", "image": "i:1", "imagePullPolicy": "Never"}]}));
    let missing = ContainerSeen {
        image: ImageSeen::Missing { looked_at: at(0) },
        ..Default::default()
    };
    let plan = sync(&pod, &seen(&[("c", missing)]), at(0));
    let waiting = &plan.status["containerStatuses"][0]["state"]["waiting"];
    assert_eq!(waiting["reason"], "ErrImageNeverPull");
    assert_eq!(plan.wake, Some(at(3)));
    let missing = ContainerSeen {
        image: ImageSeen::Missing { looked_at: at(0) },
        ..Default::default()
    };
    let actions = sync(&pod, &seen(&[("c", missing)]), at(3)).actions;
    assert_eq!(actions, [look_up("c")]);
}

#[test]
fn imported_image_is_noticed_before_pull_backoff_ends() {
    let mut backoff = Backoff::default();
    backoff.attempt(at(0), at(0));
    let failed = ContainerSeen {
        image: ImageSeen::Failed {
            message: String::new(),
            at: at(0),
            looked_at: at(0),
            backoff,
        },
        ..Default::default()
    };
    let node = seen(&[("c", failed)]);
    let plan = sync(&one_container(), &node, at(1));
    assert_eq!((plan.actions, plan.wake), (vec![], Some(at(3))));
    assert_eq!(sync(&one_container(), &node, at(4)).actions, [look_up("c")]);
    let pull = Action::PullImage {
        container: "c".into(),
    };
    assert_eq!(sync(&one_container(), &node, at(10)).actions, [pull]);
}

#[test]
fn restart_policy_decides_restarts_and_phase() {
    let cases = [
        ("Always", 0, true, "Running"),
        ("Always", 1, true, "Running"),
        ("OnFailure", 0, false, "Succeeded"),
        ("OnFailure", 1, true, "Running"),
        ("Never", 0, false, "Succeeded"),
        ("Never", 1, false, "Failed"),
    ];
    for (policy, code, restarts, phase) in cases {
        let pod = pod(json!({"restartPolicy": policy, "containers": [{"name": "c"}]}));
        let plan = sync(&pod, &seen(&[("c", exited(code, 5))]), at(5));
        let expected = match restarts {
            true => vec![start("c", 1)],
            false => vec![Action::ReleaseSandbox],
        };
        assert_eq!(plan.actions, expected, "{policy} {code}");
        assert_eq!(plan.status["phase"], phase, "{policy} {code}");
    }
}

#[test]
fn finished_pod_stays_finished_without_its_containers() {
    let node = Observed {
        reported: json!({"phase": "Succeeded"}),
        ..Default::default()
    };
    let plan = sync(&one_container(), &node, at(0));
    assert_eq!(plan.actions, []);
    assert_eq!(plan.status["phase"], "Succeeded");
}

#[test]
fn init_containers_run_one_after_the_other_and_before_the_rest() {
    let pod = pod(json!({
        "initContainers": [{"name": "a"}, {"name": "b"}],
        "containers": [{"name": "c"}],
    }));
    let plan = sync(&pod, &seen(&[]), at(0));
    assert_eq!(plan.actions, [look_up("a")]);
    let message = "containers with incomplete status: [a b]";
    assert_eq!(condition(&plan.status, "Initialized")["message"], message);
    let waiting = &plan.status["containerStatuses"][0]["state"]["waiting"];
    assert_eq!(waiting["reason"], "PodInitializing");
    let plan = sync(&pod, &seen(&[("a", exited(0, 1))]), at(1));
    assert_eq!(plan.actions, [look_up("b")]);
    let plan = sync(&pod, &seen(&[("a", exited(1, 1))]), at(1));
    assert_eq!(plan.actions, [start("a", 1)]);
    let done = [("a", exited(0, 1)), ("b", exited(0, 2))];
    assert_eq!(sync(&pod, &seen(&done), at(2)).actions, [look_up("c")]);
}

#[test]
fn a_failed_init_container_fails_a_pod_that_never_restarts() {
    let pod = pod(json!({
        "restartPolicy": "Never",
        "initContainers": [{"name": "a"}],
        "containers": [{"name": "c"}],
    }));
    let plan = sync(&pod, &seen(&[("a", exited(1, 1))]), at(1));
    assert_eq!(plan.status["phase"], "Failed");
    assert_eq!(plan.actions, [Action::ReleaseSandbox]);
}

#[test]
fn a_sidecar_starts_before_and_stops_after_the_containers() {
    let pod = pod(json!({
        "initContainers": [{"name": "s", "restartPolicy": "Always"}],
        "containers": [{"name": "c"}],
    }));
    assert_eq!(sync(&pod, &seen(&[]), at(0)).actions, [look_up("s")]);
    let node = seen(&[("s", running())]);
    assert_eq!(sync(&pod, &node, at(0)).actions, [look_up("c")]);

    let stop = |container: &str, grace_seconds| Action::StopContainer {
        container: container.into(),
        grace_seconds,
        why: StopReason::PodDeleted,
    };
    let pod = deleted(pod, 30);
    let node = seen(&[("s", running()), ("c", running())]);
    assert_eq!(sync(&pod, &node, at(0)).actions, [stop("c", 30)]);
    let node = seen(&[("s", running()), ("c", exited(0, 10))]);
    assert_eq!(sync(&pod, &node, at(10)).actions, [stop("s", 20)]);
    let node = seen(&[("s", exited(0, 11)), ("c", exited(0, 10))]);
    assert_eq!(sync(&pod, &node, at(11)).actions, [Action::RemoveSandbox]);
}

#[test]
fn probes_gate_readiness_and_liveness_restarts_container() {
    let pod = pod(json!({"terminationGracePeriodSeconds": 7, "containers": [{
        "name": "c",
        "startupProbe": {}, "readinessProbe": {},
        "livenessProbe": {"terminationGracePeriodSeconds": 3},
    }]}));
    let mut container = running();
    let plan = sync(&pod, &seen(&[("c", container.clone())]), at(0));
    assert_eq!(plan.status["containerStatuses"][0]["started"], false);
    container.probes.startup = Some(true);
    let plan = sync(&pod, &seen(&[("c", container.clone())]), at(0));
    assert_eq!(plan.status["containerStatuses"][0]["started"], true);
    assert_eq!(plan.status["containerStatuses"][0]["ready"], false);
    let message = "containers with unready status: [c]";
    assert_eq!(condition(&plan.status, "Ready")["message"], message);
    container.probes.readiness = Some(true);
    let plan = sync(&pod, &seen(&[("c", container.clone())]), at(0));
    assert_eq!(condition(&plan.status, "Ready")["status"], "True");

    container.probes.liveness = Some(false);
    let stop = Action::StopContainer {
        container: "c".into(),
        grace_seconds: 3,
        why: StopReason::Liveness,
    };
    let plan = sync(&pod, &seen(&[("c", container.clone())]), at(0));
    assert_eq!(plan.actions, [stop]);
    container.stopping = Some(3);
    assert_eq!(sync(&pod, &seen(&[("c", container)]), at(0)).actions, []);
}

#[test]
fn a_shorter_grace_overtakes_a_longer_one() {
    let mut container = running();
    container.stopping = Some(30);
    let node = seen(&[("c", container)]);
    assert_eq!(sync(&deleted(one_container(), 30), &node, at(0)).actions, []);
    let actions = sync(&deleted(one_container(), 0), &node, at(0)).actions;
    assert!(matches!(
        actions[..],
        [Action::StopContainer { grace_seconds: 0, .. }]
    ));
}

#[test]
fn a_pod_past_its_deadline_fails_and_stays() {
    let mut pod = one_container();
    pod.spec.active_deadline_seconds = Some(60);
    let mut node = seen(&[("c", running())]);
    node.start_time = Some(at(0));
    assert_eq!(sync(&pod, &node, at(10)).wake, Some(at(60)));
    let plan = sync(&pod, &node, at(60));
    assert!(matches!(plan.actions[..], [Action::StopContainer { .. }]));
    node.containers.insert("c".into(), exited(137, 61));
    let plan = sync(&pod, &node, at(61));
    assert_eq!(plan.status["phase"], "Failed");
    assert_eq!(plan.status["reason"], "DeadlineExceeded");
    assert_eq!(plan.actions, [Action::ReleaseSandbox]);
}

#[test]
fn an_evicted_pod_ends_within_a_second_and_fails() {
    let mut pod = one_container();
    pod.spec.termination_grace_period_seconds = Some(300);
    let mut node = seen(&[("c", running())]);
    node.evicted = Some(Failure {
        reason: "Evicted".into(),
        message: "too much".into(),
    });
    let plan = sync(&pod, &node, at(10));
    assert!(matches!(
        plan.actions[..],
        [Action::StopContainer {
            grace_seconds: 1,
            why: StopReason::Evicted,
            ..
        }]
    ));
    node.containers.insert("c".into(), exited(0, 11));
    let plan = sync(&pod, &node, at(11));
    assert_eq!(plan.actions, [Action::ReleaseSandbox]);
    let status = &plan.status;
    assert_eq!(
        (&status["phase"], &status["reason"]),
        (&"Failed".into(), &"Evicted".into())
    );
    assert_eq!(status["message"], "too much");
    let conditions = status["conditions"].as_array().unwrap();
    let disruption = conditions
        .iter()
        .find(|condition| condition["type"] == "DisruptionTarget");
    assert_eq!(disruption.unwrap()["reason"], "TerminationByKubelet");
}

#[test]
fn pod_past_deadline_fails_even_if_containers_succeed() {
    let mut pod = one_container();
    pod.spec.active_deadline_seconds = Some(10);
    pod.spec.restart_policy = RestartPolicy::Never;
    let mut node = seen(&[("c", exited(0, 11))]);
    node.start_time = Some(at(0));
    let status = sync(&pod, &node, at(12)).status;
    assert_eq!(
        (&status["phase"], &status["reason"]),
        (&json!("Failed"), &json!("DeadlineExceeded"))
    );
    // A pod that had succeeded before has no deadline any more.
    node.reported = json!({"phase": "Succeeded"});
    let status = sync(&pod, &node, at(12)).status;
    assert_eq!(
        (&status["phase"], &status["reason"]),
        (&json!("Succeeded"), &Value::Null)
    );
}

#[test]
fn a_changed_image_restarts_a_container_whatever_its_policy() {
    let mut pod = one_container();
    pod.spec.restart_policy = RestartPolicy::Never;
    let mut container = running();
    container.image_name = "i:0".into();
    let plan = sync(&pod, &seen(&[("c", container.clone())]), at(1));
    let stop = Action::StopContainer {
        container: "c".into(),
        grace_seconds: 30,
        why: StopReason::Changed,
    };
    assert_eq!(plan.actions, [stop]);
    assert_eq!(plan.status["containerStatuses"][0]["image"], "i:0");
    container.renewed = true;
    container.run = exited(137, 2).run;
    container.image = ImageSeen::Present;
    let plan = sync(&pod, &seen(&[("c", container.clone())]), at(3));
    assert_eq!(plan.actions, [start("c", 1)]);
    assert_eq!(plan.status["phase"], "Running");
    container.image_name = "i:1".into();
    container.run = running().run;
    container.renewed = false;
    assert_eq!(sync(&pod, &seen(&[("c", container)]), at(4)).actions, []);
}

#[test]
fn a_refused_pod_fails_and_starts_nothing() {
    let rejected = Failure {
        reason: "NodePorts".into(),
        message: "Pod was rejected".into(),
    };
    let node = Observed {
        rejected: Some(rejected),
        ..Default::default()
    };
    let plan = sync(&one_container(), &node, at(0));
    assert_eq!(plan.actions, []);
    assert_eq!(plan.status["phase"], "Failed");
    assert_eq!(plan.status["reason"], "NodePorts");
    let plan = sync(&deleted(one_container(), 30), &node, at(0));
    assert_eq!(plan.actions, [Action::DeletePod]);
}

#[test]
fn transition_time_stays_while_condition_status_does() {
    let mut node = seen(&[("c", running())]);
    let first = sync(&one_container(), &node, at(1)).status;
    node.reported = first.clone();
    let second = sync(&one_container(), &node, at(100)).status;
    assert_eq!(patch(&first, &second), None);
    node.containers.insert("c".into(), exited(1, 200));
    let third = sync(&one_container(), &node, at(200)).status;
    let changed = patch(&first, &third).expect("a change");
    let kinds = changed["conditions"].as_array().expect("conditions");
    let kinds: Vec<_> = kinds.iter().map(|condition| &condition["type"]).collect();
    assert_eq!(kinds, ["Ready", "ContainersReady"]);
}

#[test]
fn patch_replaces_addresses_and_removes_stale_fields() {
    let before =
        json!({"podIP": "10.0.0.1", "podIPs": [{"ip": "10.0.0.1"}], "message": "x", "qosClass": "Burstable"});
    let after = json!({"podIP": "10.0.0.2", "podIPs": [{"ip": "10.0.0.2"}]});
    let expected = json!({
        "podIP": "10.0.0.2",
        "podIPs": [{"$patch": "replace"}, {"ip": "10.0.0.2"}],
        "message": null,
    });
    assert_eq!(patch(&before, &after), Some(expected));
}

#[test]
fn backoff_doubles_to_five_minutes_and_resets_after_ten() {
    let mut backoff = Backoff::default();
    let mut now = 0;
    assert_eq!(backoff.until(at(0)), None);
    for delay in [10, 20, 40, 80, 160, 300, 300] {
        backoff.attempt(at(now), at(now));
        assert_eq!(backoff.until(at(now)), Some(at(now + delay)));
        now += delay;
    }
    assert_eq!(backoff.until(at(now + 601)), None);
    backoff.attempt(at(now + 601), at(now + 601));
    assert_eq!(backoff.delay(), BACKOFF_INITIAL);
}

#[test]
fn verdicts_need_their_thresholds_in_a_row() {
    let probe = Probe {
        success_threshold: 2,
        failure_threshold: 3,
        ..Default::default()
    };
    let mut tally = Tally::default();
    let verdicts: Vec<_> = [true, true, false, false, true, false, false, false]
        .map(|result| tally.record(&probe, result))
        .into();
    let (yes, no) = (Some(true), Some(false));
    assert_eq!(verdicts, [None, yes, None, None, None, None, None, no]);
}

// ---- a node in miniature

/// Carries out plans like a node, with results that the test chooses.
struct Node {
    pod: Pod,
    seen: Observed,
    now: i64,
    gone: bool,
    starts: Vec<(String, u32, i64)>,
}

impl Node {
    fn new(pod: Pod) -> Self {
        Self {
            pod,
            seen: Observed::default(),
            now: 0,
            gone: false,
            starts: Vec::new(),
        }
    }

    fn step(&mut self, fails: bool) {
        let plan = sync(&self.pod, &self.seen, at(self.now));
        for action in &plan.actions {
            self.execute(action, fails);
        }
        self.seen.reported = plan.status;
    }

    fn execute(&mut self, action: &Action, fails: bool) {
        let now = at(self.now);
        match action {
            Action::CreateSandbox if fails => {
                self.seen.sandbox = Sandbox::Failed(Failure::default(), at(self.now + 1));
            }
            Action::CreateSandbox => self.seen.sandbox = Sandbox::Ready,
            Action::ReleaseSandbox => self.seen.sandbox = Sandbox::Released,
            Action::RemoveSandbox => self.seen.sandbox = Sandbox::Absent,
            Action::LookUpImage { container } => {
                let missing = if fails {
                    ImageSeen::Missing { looked_at: now }
                } else {
                    ImageSeen::Present
                };
                self.container(container).image = missing;
            }
            Action::PullImage { container } => {
                let image = &mut self.container(container).image;
                let mut backoff = match image {
                    ImageSeen::Failed { backoff, .. } => *backoff,
                    _ => Backoff::default(),
                };
                backoff.attempt(now, now);
                *image = if fails {
                    ImageSeen::Failed {
                        message: String::new(),
                        at: now,
                        looked_at: now,
                        backoff,
                    }
                } else {
                    ImageSeen::Ready
                };
            }
            Action::StartContainer { container, attempt } => {
                assert!(self.pod.metadata.deletion_timestamp.is_none());
                self.check_order(container);
                self.starts.push((container.clone(), *attempt, self.now));
                let seen = self.container(container);
                assert!(!matches!(seen.run, Run::Running { .. }), "runs twice");
                if let Run::Exited(exit) = &seen.run {
                    let exit = exit.clone();
                    seen.backoff.attempt(exit.finished_at, now);
                    seen.last = Some(exit);
                }
                *seen = ContainerSeen {
                    attempt: *attempt,
                    last: seen.last.take(),
                    backoff: seen.backoff,
                    ..running()
                };
            }
            Action::StopContainer { container, .. } => self.exit(container, 143),
            Action::DeletePod => {
                assert_eq!(self.seen.sandbox, Sandbox::Absent);
                self.gone = true;
            }
            Action::Forget => unreachable!("the API knows this pod"),
        }
    }

    fn check_order(&self, container: &str) {
        let done = |name: &str| {
            let run = self.seen.containers.get(name).map(|seen| &seen.run);
            matches!(run, Some(Run::Exited(exit)) if exit.exit_code == 0)
        };
        for init in &self.pod.spec.init_containers {
            if init.name == container {
                return;
            }
            assert!(done(&init.name), "{container} before {}", init.name);
        }
    }

    fn container(&mut self, name: &str) -> &mut ContainerSeen {
        self.seen.containers.entry(name.to_owned()).or_default()
    }

    fn exit(&mut self, name: &str, code: i32) {
        let now = self.now;
        let seen = self.container(name);
        if matches!(seen.run, Run::Running { .. }) {
            seen.run = exited(code, now).run;
            seen.image = ImageSeen::Unknown;
            seen.stopping = None;
        }
    }
}

#[derive(Clone, Debug)]
enum Happening {
    Step { fails: bool },
    Exit { container: usize, code: i32 },
    Pass { seconds: i64 },
}

fn happenings() -> impl Strategy<Value = Vec<Happening>> {
    let happening = prop_oneof![
        6 => prop::bool::weighted(0.2).prop_map(|fails| Happening::Step { fails }),
        2 => (0..4_usize, 0..2_i32).prop_map(|(container, code)| Happening::Exit { container, code }),
        2 => (1..400_i64).prop_map(|seconds| Happening::Pass { seconds }),
    ];
    prop::collection::vec(happening, 0..80)
}

proptest! {
    #[test]
    fn order_policy_and_backoff_hold_and_deleted_pod_ends(
        policy in prop::sample::select(vec!["Always", "OnFailure", "Never"]),
        inits in 0..3_usize,
        containers in 1..3_usize,
        happenings in happenings(),
    ) {
        let named = |prefix: &str, count: usize| -> Value {
            (0..count).map(|i| json!({"name": format!("{prefix}{i}")})).collect()
        };
        let pod = pod(json!({
            "restartPolicy": policy,
            "initContainers": named("i", inits),
            "containers": named("c", containers),
        }));
        let names: Vec<String> = pod.spec.init_containers.iter().chain(&pod.spec.containers)
            .map(|container| container.name.clone()).collect();
        let mut node = Node::new(pod);
        for happening in happenings {
            match happening {
                Happening::Step { fails } => node.step(fails),
                Happening::Exit { container, code } => {
                    let name = names[container % names.len()].clone();
                    node.exit(&name, code);
                }
                Happening::Pass { seconds } => node.now += seconds,
            }
        }

        for name in &names {
            let starts: Vec<_> = node.starts.iter().filter(|start| start.0 == *name).collect();
            let attempts: Vec<_> = starts.iter().map(|start| start.1 as usize).collect();
            prop_assert_eq!(&attempts, &(0..starts.len()).collect::<Vec<_>>());
            if policy == "Never" {
                prop_assert!(starts.len() <= 1);
            }
            // The first restart is immediate. Each later one comes after the shortest backoff at
            // the earliest.
            for pair in starts.windows(2).skip(1) {
                prop_assert!(pair[1].2 - pair[0].2 >= 10);
            }
        }

        let grace = node.now;
        node.pod = deleted(node.pod.clone(), grace);
        for _ in 0..10 {
            node.step(false);
        }
        prop_assert!(node.gone);
        let phase = &node.seen.reported["phase"];
        prop_assert!(phase == "Succeeded" || phase == "Failed");
    }

    #[test]
    fn without_trouble_every_pod_comes_up(
        inits in 0..3_usize,
        containers in 1..4_usize,
    ) {
        let named = |prefix: &str, count: usize| -> Value {
            (0..count).map(|i| json!({"name": format!("{prefix}{i}")})).collect()
        };
        let mut node = Node::new(pod(json!({
            "initContainers": named("i", inits),
            "containers": named("c", containers),
        })));
        for _ in 0..4 + 3 * inits {
            node.step(false);
            for init in 0..inits {
                node.exit(&format!("i{init}"), 0);
            }
        }
        prop_assert_eq!(&node.seen.reported["phase"], "Running");
        let again = sync(&node.pod, &node.seen, at(node.now));
        prop_assert_eq!(again.actions, vec![]);
        prop_assert_eq!(patch(&node.seen.reported, &again.status), None);
    }
}

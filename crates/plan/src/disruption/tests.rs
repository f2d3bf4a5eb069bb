//! A case for each rule, then a cluster with late watches and evictions at any time.

use std::collections::VecDeque;

use proptest::prelude::*;

use super::*;

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_second(1_000_000 + seconds).expect("a time")
}

fn pod(name: &str, change: impl FnOnce(&mut Value)) -> Value {
    let mut pod = json!({
        "metadata": {
            "name": name, "namespace": "default", "uid": format!("uid-{name}"), "labels": {"app": "a"},
            "ownerReferences": [{"apiVersion": "apps/v1", "kind": "DaemonSet", "name": "set", "uid": "set", "controller": true}],
        },
        "status": {"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}]},
    });
    change(&mut pod);
    pod
}

fn pod_view(pod: &Value) -> Arc<PodView> {
    Arc::new(serde_json::from_value(pod.clone()).expect("a pod"))
}

fn budget(spec: Value) -> Value {
    let mut budget = json!({
        "metadata": {"name": "b", "namespace": "default", "uid": "uid-b", "resourceVersion": "1", "generation": 1},
        "spec": {"selector": {"matchLabels": {"app": "a"}}},
        "status": {"disruptionsAllowed": 0, "currentHealthy": 0, "desiredHealthy": 0, "expectedPods": 0},
    });
    for (field, value) in spec.as_object().into_iter().flatten() {
        budget["spec"][field] = value.clone();
    }
    budget
}

fn budget_view(budget: &Value) -> Arc<PodDisruptionBudgetView> {
    Arc::new(serde_json::from_value(budget.clone()).expect("a budget"))
}

fn set(desired: i32) -> DaemonSetView {
    serde_json::from_value(json!({
        "metadata": {"name": "set", "namespace": "default", "uid": "set"},
        "spec": {"selector": {"matchLabels": {"app": "a"}}, "template": {}},
        "status": {"desiredNumberScheduled": desired},
    }))
    .expect("a set")
}

/// Three healthy pods of a set that wants five.
fn three_of_five(spec: Value) -> (Budgets, Value) {
    let mut budgets = Budgets::new();
    budgets.put_set(&set(5));
    for name in ["p0", "p1", "p2"] {
        budgets.put_pod(&pod_view(&pod(name, |_| {})));
    }
    let budget = budget(spec);
    budgets.put_budget(&budget_view(&budget));
    (budgets, budget)
}

/// Applies a status patch like the server.
fn merge(budget: &mut Value, patch: &Value) {
    let version: u64 = budget["metadata"]["resourceVersion"]
        .as_str()
        .and_then(|v| v.parse().ok())
        .expect("a version");
    for (field, value) in patch["status"].as_object().into_iter().flatten() {
        match (field.as_str(), value.as_object()) {
            ("disruptedPods", Some(pods)) => {
                for (name, at) in pods {
                    match at {
                        Value::Null => {
                            budget["status"]["disruptedPods"]
                                .as_object_mut()
                                .map(|known| known.remove(name));
                        }
                        at => budget["status"]["disruptedPods"][name] = at.clone(),
                    }
                }
            }
            _ => budget["status"][field] = value.clone(),
        }
    }
    budget["metadata"]["resourceVersion"] = (version + 1).to_string().into();
}

fn patch_of(actions: &[Action]) -> Option<&Value> {
    actions.iter().find_map(|action| match action {
        Action::SetStatus { patch, .. } => Some(patch),
        _ => None,
    })
}

fn reasons(actions: &[Action]) -> Vec<&'static str> {
    actions
        .iter()
        .filter_map(|action| match action {
            Action::RecordBudgetEvent { reason, .. } | Action::RecordPodWarning { reason, .. } => {
                Some(*reason)
            }
            _ => None,
        })
        .collect()
}

/// The status after one plan: expected, current, desired, allowed.
fn numbers_of(spec: Value) -> [i64; 4] {
    let (mut budgets, _) = three_of_five(spec);
    let actions = budgets.plan(at(0), 10);
    let status = &patch_of(&actions).expect("a status")["status"];
    [
        "expectedPods",
        "currentHealthy",
        "desiredHealthy",
        "disruptionsAllowed",
    ]
    .map(|field| status[field].as_i64().expect("a number"))
}

#[test]
fn the_numbers_follow_from_the_budget() {
    let cases = [
        (
            "a number of pods that must stay",
            json!({"minAvailable": 2}),
            [3, 3, 2, 1],
        ),
        ("more than there are", json!({"minAvailable": 7}), [3, 3, 7, 0]),
        ("all may go", json!({"minAvailable": 0}), [3, 3, 0, 3]),
        (
            "a share of what the set wants, rounded up",
            json!({"minAvailable": "50%"}),
            [5, 3, 3, 0],
        ),
        (
            "a number that may be away",
            json!({"maxUnavailable": 3}),
            [5, 3, 2, 1],
        ),
        ("two are away already", json!({"maxUnavailable": 1}), [5, 3, 4, 0]),
        (
            "a share that may be away, rounded up",
            json!({"maxUnavailable": "50%"}),
            [5, 3, 2, 1],
        ),
        (
            "more may be away than are wanted",
            json!({"maxUnavailable": 9}),
            [5, 3, 0, 3],
        ),
        ("nothing is said", json!({}), [0, 3, 0, 0]),
    ];
    for (what, spec, expected) in cases {
        assert_eq!(numbers_of(spec), expected, "{what}");
    }
}

#[test]
fn the_condition_says_whether_a_pod_may_go() {
    let (mut budgets, mut budget) = three_of_five(json!({"minAvailable": 2}));
    let actions = budgets.plan(at(0), 10);
    let patch = patch_of(&actions).expect("a status");
    assert_eq!(patch["metadata"]["resourceVersion"], "1");
    assert_eq!(patch["status"]["observedGeneration"], 1);
    let condition = &patch["status"]["conditions"][0];
    assert_eq!(
        (&condition["type"], &condition["status"], &condition["reason"]),
        (
            &json!("DisruptionAllowed"),
            &json!("True"),
            &json!("SufficientPods")
        )
    );
    merge(&mut budget, patch);
    budgets.put_budget(&budget_view(&budget));
    assert_eq!(budgets.plan(at(1), 10), vec![], "it is up to date");
    budgets.put_pod(&pod_view(&pod("p0", |p| {
        p["status"]["conditions"][0]["status"] = "False".into()
    })));
    let actions = budgets.plan(at(2), 10);
    let condition = &patch_of(&actions).expect("a status")["status"]["conditions"][0];
    assert_eq!(
        (
            &condition["status"],
            &condition["reason"],
            &condition["lastTransitionTime"]
        ),
        (
            &json!("False"),
            &json!("InsufficientPods"),
            &json!(rfc3339(at(2)))
        )
    );
}

#[test]
fn terminating_and_unready_pods_are_not_healthy() {
    let (mut budgets, _) = three_of_five(json!({"minAvailable": 1}));
    budgets.put_pod(&pod_view(&pod("p0", |p| {
        p["metadata"]["deletionTimestamp"] = rfc3339(at(9)).into()
    })));
    budgets.put_pod(&pod_view(&pod("p1", |p| p["status"]["conditions"] = json!([]))));
    let actions = budgets.plan(at(0), 10);
    let status = &patch_of(&actions).expect("a status")["status"];
    assert_eq!(
        (&status["currentHealthy"], &status["expectedPods"]),
        (&json!(1), &json!(3))
    );
}

#[test]
fn recorded_pod_does_not_count_until_seen_or_timed_out() {
    let (mut budgets, mut budget) = three_of_five(json!({"minAvailable": 1}));
    budgets.put_pod(&pod_view(&pod("other", |p| p["metadata"]["labels"] = json!({}))));
    budget["status"]["disruptedPods"] = json!({"p0": rfc3339(at(0)), "other": rfc3339(at(0))});
    budgets.put_budget(&budget_view(&budget));
    let actions = budgets.plan(at(0), 10);
    let status = &patch_of(&actions).expect("a status")["status"];
    assert_eq!(
        (&status["currentHealthy"], &status["disruptionsAllowed"]),
        (&json!(2), &json!(1))
    );
    assert_eq!(
        status["disruptedPods"],
        json!({"p0": rfc3339(at(0)), "other": null})
    );
    let mut seen = budget.clone();
    merge(&mut seen, patch_of(&actions).expect("a status"));
    budgets.put_budget(&budget_view(&seen));
    assert_eq!(budgets.plan(at(120), 10), vec![]);
    assert_eq!(budgets.next_look(), Some(at(121)));
    let late = budgets.plan(at(121), 10);
    assert_eq!(reasons(&late), ["NotDeleted"]);
    let status = &patch_of(&late).expect("a status")["status"];
    assert_eq!(
        (&status["currentHealthy"], &status["disruptedPods"]),
        (&json!(3), &json!({"p0": null}))
    );
    // If it had been seen terminating instead, it would be removed without an event.
    budgets.put_budget(&budget_view(&seen));
    budgets.retry_budget(&BudgetKey::of(&budget_view(&seen)));
    budgets.put_pod(&pod_view(&pod("p0", |p| {
        p["metadata"]["deletionTimestamp"] = rfc3339(at(9)).into()
    })));
    let actions = budgets.plan(at(60), 10);
    assert_eq!(reasons(&actions), Vec::<&str>::new());
    assert_eq!(
        patch_of(&actions).expect("a status")["status"]["disruptedPods"],
        json!({"p0": null})
    );
}

#[test]
fn a_budget_without_pods_allows_nothing_and_says_so_once() {
    let mut budgets = Budgets::new();
    let mut budget = budget(json!({"minAvailable": 0}));
    budgets.put_budget(&budget_view(&budget));
    let actions = budgets.plan(at(0), 10);
    assert_eq!(reasons(&actions), ["NoPods"]);
    merge(&mut budget, patch_of(&actions).expect("a status"));
    assert_eq!(budget["status"]["disruptionsAllowed"], 0);
    budgets.put_budget(&budget_view(&budget));
    assert_eq!(budgets.plan(at(1), 10), vec![]);
}

#[test]
fn missing_set_makes_budget_allow_nothing_and_report_why() {
    let (mut budgets, mut budget) = three_of_five(json!({"maxUnavailable": 3}));
    let actions = budgets.plan(at(0), 10);
    merge(&mut budget, patch_of(&actions).expect("a status"));
    budgets.put_budget(&budget_view(&budget));
    budgets.delete_set(&set(5));
    let actions = budgets.plan(at(1), 10);
    assert_eq!(reasons(&actions), ["CalculateExpectedPodCountFailed"]);
    let status = &patch_of(&actions).expect("a status")["status"];
    let condition = &status["conditions"][0];
    assert_eq!(
        (
            &status["disruptionsAllowed"],
            &condition["reason"],
            &condition["message"]
        ),
        (
            &json!(0),
            &json!("SyncFailed"),
            &json!("found no controllers for pod \"p0\"")
        )
    );
    budgets.put_set(&set(5));
    budgets.retry_budget(&BudgetKey::of(&budget_view(&budget)));
    assert!(patch_of(&budgets.plan(at(2), 10)).is_none(), "it is as it was");
}

#[test]
fn a_set_that_grows_is_counted_anew() {
    let (mut budgets, mut budget) = three_of_five(json!({"maxUnavailable": 3}));
    merge(&mut budget, patch_of(&budgets.plan(at(0), 10)).expect("a status"));
    budgets.put_budget(&budget_view(&budget));
    assert_eq!(budgets.plan(at(1), 10), vec![]);
    budgets.put_set(&set(5));
    assert!(!budgets.has_work(), "nothing changed");
    budgets.put_set(&set(4));
    let actions = budgets.plan(at(2), 10);
    let status = &patch_of(&actions).expect("a status")["status"];
    assert_eq!(
        (&status["expectedPods"], &status["disruptionsAllowed"]),
        (&json!(4), &json!(2))
    );
}

#[test]
fn pods_without_controller_are_reported_if_uncountable() {
    let lonely = pod_view(&pod("lonely", |p| p["metadata"]["ownerReferences"] = Value::Null));
    let (mut budgets, _) = three_of_five(json!({"maxUnavailable": 1}));
    budgets.put_pod(&lonely);
    assert_eq!(reasons(&budgets.plan(at(0), 10)), ["UnmanagedPods"]);
    let (mut budgets, _) = three_of_five(json!({"minAvailable": 1}));
    budgets.put_pod(&lonely);
    assert_eq!(reasons(&budgets.plan(at(0), 10)), Vec::<&str>::new());
}

#[test]
fn a_pod_of_two_budgets_is_warned_about_once() {
    let (mut budgets, mut second) = three_of_five(json!({"minAvailable": 1}));
    second["metadata"]["name"] = "c".into();
    budgets.put_budget(&budget_view(&second));
    budgets.plan(at(0), 10);
    let p3 = pod_view(&pod("p3", |_| {}));
    budgets.put_pod(&p3);
    budgets.put_pod(&p3);
    assert_eq!(
        reasons(&budgets.plan(at(1), 10)),
        ["MultiplePodDisruptionBudgets"]
    );
    budgets.put_pod(&p3);
    assert_eq!(reasons(&budgets.plan(at(2), 10)), Vec::<&str>::new());
}

#[test]
fn a_pod_that_leaves_the_selector_leaves_the_count() {
    let (mut budgets, _) = three_of_five(json!({"minAvailable": 1}));
    budgets.put_pod(&pod_view(&pod("p0", |p| {
        p["metadata"]["labels"] = json!({"app": "b"})
    })));
    budgets.delete_pod(&PodKey {
        namespace: "default".into(),
        name: "p1".into(),
    });
    let actions = budgets.plan(at(0), 10);
    let status = &patch_of(&actions).expect("a status")["status"];
    assert_eq!(
        (&status["currentHealthy"], &status["expectedPods"]),
        (&json!(1), &json!(1))
    );
}

#[test]
fn stale_disruption_is_cleared_after_two_minutes() {
    let disrupted = |reason: &str, change: &dyn Fn(&mut Value)| {
        let mut budgets = Budgets::new();
        budgets.put_pod(&pod_view(&pod("p", |p| {
            p["status"]["conditions"] = json!([
                {"type": "DisruptionTarget", "status": "True", "reason": reason, "lastTransitionTime": rfc3339(at(0))},
            ]);
            change(p);
        })));
        assert_eq!(budgets.plan(at(119), 10), vec![]);
        budgets.plan(at(120), 10).len()
    };
    assert_eq!(disrupted("EvictionByEvictionAPI", &|_| {}), 1);
    assert_eq!(disrupted("TerminationByKubelet", &|_| {}), 0);
    assert_eq!(
        disrupted("EvictionByEvictionAPI", &|p| p["status"]["phase"] =
            "Failed".into()),
        0
    );
    let going = |p: &mut Value| p["metadata"]["deletionTimestamp"] = rfc3339(at(0)).into();
    assert_eq!(disrupted("EvictionByEvictionAPI", &going), 0);
}

/// An API server with one budget and some pods, and a controller with late watches of both.
struct Model {
    pods: BTreeMap<String, Value>,
    budget: Value,
    heard: Budgets,
    pod_events: VecDeque<(String, Option<Value>)>,
    budget_events: VecDeque<Value>,
    writes: VecDeque<Value>,
    now: i64,
}

impl Model {
    fn new(pods: usize, spec: Value) -> Model {
        let pods: BTreeMap<String, Value> = (0..pods)
            .map(|i| (format!("p{i}"), pod(&format!("p{i}"), |_| {})))
            .collect();
        let mut heard = Budgets::new();
        heard.put_set(&set(pods.len() as i32));
        let budget = budget(spec);
        pods.values().for_each(|pod| heard.put_pod(&pod_view(pod)));
        heard.put_budget(&budget_view(&budget));
        Model {
            pods,
            budget,
            heard,
            pod_events: VecDeque::new(),
            budget_events: VecDeque::new(),
            writes: VecDeque::new(),
            now: 0,
        }
    }

    fn healthy(&self) -> i64 {
        let healthy = |pod: &&Value| is_healthy(&pod_view(pod));
        self.pods.values().filter(healthy).count() as i64
    }

    /// The subresource `eviction`: deletes the pod and reduces the budget in one transaction.
    fn evict(&mut self, name: &str) {
        let mut pod = self.pods[name].clone();
        if !api::eviction::is_budgeted(&pod) {
            return;
        }
        match api::eviction::spend(&self.budget, &pod, at(self.now)) {
            Err(_) => return,
            Ok(None) => {}
            Ok(Some(next)) => {
                self.budget = next;
                self.bump();
            }
        }
        pod["metadata"]["deletionTimestamp"] = rfc3339(at(self.now)).into();
        self.pods.insert(name.to_owned(), pod.clone());
        self.pod_events.push_back((name.to_owned(), Some(pod)));
    }

    fn bump(&mut self) {
        let version: u64 = self.budget["metadata"]["resourceVersion"]
            .as_str()
            .and_then(|v| v.parse().ok())
            .expect("a version");
        self.budget["metadata"]["resourceVersion"] = (version + 1).to_string().into();
        self.budget_events.push_back(self.budget.clone());
    }

    /// The kubelet ends a pod, and its set creates another one with the same name, which becomes
    /// ready.
    fn replace(&mut self, name: &str) {
        let Some(known) = self.pods.get_mut(name) else {
            return;
        };
        if known["metadata"]["deletionTimestamp"].is_null() {
            return;
        }
        self.now += 1;
        let made = rfc3339(at(self.now));
        *known = pod(name, |p| p["metadata"]["creationTimestamp"] = made.into());
        self.pod_events.push_back((name.to_owned(), None));
        self.pod_events.push_back((name.to_owned(), Some(known.clone())));
    }

    fn hear_pod(&mut self) {
        if let Some((name, pod)) = self.pod_events.pop_front() {
            match pod {
                Some(pod) => self.heard.put_pod(&pod_view(&pod)),
                None => self.heard.delete_pod(&PodKey {
                    namespace: "default".into(),
                    name: name.as_str().into(),
                }),
            }
        }
    }

    fn hear_budget(&mut self) {
        if let Some(budget) = self.budget_events.pop_front() {
            self.heard.put_budget(&budget_view(&budget));
        }
    }

    fn plan(&mut self) {
        let actions = self.heard.plan(at(self.now), 10);
        self.writes.extend(patch_of(&actions).cloned());
    }

    fn write(&mut self) {
        let Some(patch) = self.writes.pop_front() else {
            return;
        };
        if patch["metadata"]["resourceVersion"] == self.budget["metadata"]["resourceVersion"] {
            let mut next = self.budget.clone();
            merge(&mut next, &patch);
            self.budget = next;
            self.budget_events.push_back(self.budget.clone());
        } else {
            self.heard
                .retry_budget(&BudgetKey::of(&budget_view(&self.budget)));
        }
    }

    fn settle(&mut self) {
        while !self.writes.is_empty()
            || !self.pod_events.is_empty()
            || !self.budget_events.is_empty()
            || self.heard.has_work()
        {
            self.write();
            self.hear_pod();
            self.hear_budget();
            self.plan();
        }
    }
}

proptest! {
    /// Pods are evicted and replaced at any time, while the controller's two watches and its writes
    /// are late. There are never fewer healthy pods than the budget requires. At rest, the status
    /// is correct.
    #[test]
    fn evictions_never_exceed_budget_however_late_watches_are(
        spec in prop_oneof![
            (0i32..7).prop_map(|n| json!({"minAvailable": n})),
            (0i32..=100).prop_map(|n| json!({"minAvailable": format!("{n}%")})),
            (0i32..7).prop_map(|n| json!({"maxUnavailable": n})),
        ],
        steps in proptest::collection::vec((0u8..7, 0usize..6), 0..120),
    ) {
        const PODS: usize = 6;
        let mut model = Model::new(PODS, spec.clone());
        let desired = {
            let mut settled = Model::new(PODS, spec);
            settled.settle();
            settled.budget["status"]["desiredHealthy"].as_i64().expect("a number")
        };
        for (step, index) in steps {
            let name = format!("p{index}");
            match step {
                0 | 1 => model.evict(&name),
                2 => model.replace(&name),
                3 => model.hear_pod(),
                4 => model.hear_budget(),
                5 => model.plan(),
                _ => model.write(),
            }
            // If the budget requires more pods than exist, none is ever evicted.
            prop_assert!(model.healthy() >= desired.min(PODS as i64), "{} of {desired}", model.healthy());
        }
        model.settle();
        let status = &model.budget["status"];
        prop_assert_eq!(status["currentHealthy"].as_i64(), Some(model.healthy()));
        prop_assert_eq!(status["disruptionsAllowed"].as_i64(), Some((model.healthy() - desired).max(0)));
        prop_assert!(status["disruptedPods"].as_object().is_none_or(Map::is_empty));
    }
}

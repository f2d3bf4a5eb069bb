use proptest::prelude::*;

use super::*;

fn now() -> Timestamp {
    Timestamp::UNIX_EPOCH
}

fn pod(name: &str, ready: bool) -> Value {
    let ready = if ready { "True" } else { "False" };
    json!({
        "metadata": {"name": name, "labels": {"app": "a"}},
        "status": {"phase": "Running", "conditions": [{"type": "Ready", "status": ready}]},
    })
}

fn budget(status: Value) -> Value {
    let mut budget = json!({
        "metadata": {"name": "b", "generation": 3},
        "spec": {"selector": {"matchLabels": {"app": "a"}}},
        "status": {
            "observedGeneration": 3, "disruptionsAllowed": 0, "currentHealthy": 2, "desiredHealthy": 2, "expectedPods": 3,
        },
    });
    for (field, value) in status.as_object().into_iter().flatten() {
        budget["status"][field] = value.clone();
    }
    budget
}

fn refusal(budget: &Value, pod: &Value) -> (u16, u32, String) {
    let status = spend(budget, pod, now()).expect_err("it is refused");
    let details = status.details.expect("details");
    let [cause] = details.causes.as_slice() else {
        panic!("{details:?}")
    };
    assert_eq!(cause.reason, "DisruptionBudget");
    (status.code, details.retry_after_seconds, cause.message.clone())
}

#[test]
fn pod_that_does_not_run_needs_no_budget() {
    let mut going = pod("p", true);
    assert!(is_budgeted(&going));
    going["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z".into();
    assert!(!is_budgeted(&going));
    for phase in ["Succeeded", "Failed", "Pending"] {
        let mut pod = pod("p", true);
        pod["status"]["phase"] = phase.into();
        assert!(!is_budgeted(&pod), "{phase}");
    }
}

#[test]
fn empty_selector_guards_all_pods_and_a_missing_one_none() {
    let mut budget = budget(json!({}));
    assert!(guards(&budget, &pod("p", true)));
    budget["spec"]["selector"] = json!({"matchLabels": {"app": "other"}});
    assert!(!guards(&budget, &pod("p", true)));
    budget["spec"]["selector"] = json!({});
    assert!(guards(&budget, &pod("p", true)));
    budget["spec"]["selector"] = Value::Null;
    assert!(!guards(&budget, &pod("p", true)));
}

#[test]
fn eviction_decrements_the_budget_and_records_the_pod() {
    let budget = budget(json!({"disruptionsAllowed": 2, "currentHealthy": 4}));
    let once = spend(&budget, &pod("p", true), now())
        .expect("allowed")
        .expect("counted");
    assert_eq!(once["status"]["disruptionsAllowed"], 1);
    assert_eq!(
        once["status"]["disruptedPods"],
        json!({"p": "1970-01-01T00:00:00Z"})
    );
    assert!(once["status"]["conditions"].is_null(), "it still allows one");
    let twice = spend(&once, &pod("q", true), now())
        .expect("allowed")
        .expect("counted");
    assert_eq!(twice["status"]["disruptionsAllowed"], 0);
    let condition = &twice["status"]["conditions"][0];
    assert_eq!(
        (
            &condition["type"],
            &condition["status"],
            &condition["reason"],
            &condition["observedGeneration"]
        ),
        (
            &json!("DisruptionAllowed"),
            &json!("False"),
            &json!("InsufficientPods"),
            &json!(3)
        )
    );
    assert!(spend(&twice, &pod("r", true), now()).is_err());
}

#[test]
fn exhausted_budget_rejects_with_429_and_its_numbers() {
    assert_eq!(
        refusal(&budget(json!({})), &pod("p", true)),
        (
            429,
            0,
            "The disruption budget b needs 2 healthy pods and has 2 currently".into()
        )
    );
}

#[test]
fn unobserved_budget_rejects_with_a_retry_time() {
    let unseen = budget(json!({"observedGeneration": 2, "disruptionsAllowed": 1}));
    assert_eq!(
        refusal(&unseen, &pod("p", true)),
        (
            429,
            10,
            "The disruption budget b is still being processed by the server.".into()
        )
    );
}

#[test]
fn failed_budget_names_its_reason() {
    let failed = budget(json!({"conditions": [
        {"type": "DisruptionAllowed", "status": "False", "reason": "SyncFailed", "message": "no scale"},
    ]}));
    let text =
        "The disruption budget b does not allow evicting pods currently because it failed sync: no scale";
    assert_eq!(refusal(&failed, &pod("p", true)), (429, 0, text.into()));
}

#[test]
fn too_many_unconfirmed_evictions_are_forbidden() {
    let many: serde_json::Map<_, _> = (0..=DISRUPTED_PODS_MAX)
        .map(|i| (format!("p{i}"), "1970-01-01T00:00:00Z".into()))
        .collect();
    let overrun = budget(json!({"disruptionsAllowed": 1, "disruptedPods": many}));
    assert_eq!(refusal(&overrun, &pod("p", true)).0, 403);
}

#[test]
fn unready_pod_is_evicted_if_budget_or_policy_allows() {
    let healthy = budget(json!({}));
    assert_eq!(spend(&healthy, &pod("p", false), now()), Ok(None));
    let mut sick = budget(json!({"currentHealthy": 1}));
    assert_eq!(refusal(&sick, &pod("p", false)).0, 429);
    sick["spec"]["unhealthyPodEvictionPolicy"] = "IfHealthyBudget".into();
    assert_eq!(refusal(&sick, &pod("p", false)).0, 429);
    sick["spec"]["unhealthyPodEvictionPolicy"] = "AlwaysAllow".into();
    assert_eq!(spend(&sick, &pod("p", false), now()), Ok(None));
    assert_eq!(
        refusal(&sick, &pod("p", true)).0,
        429,
        "a ready pod is guarded all the same"
    );
    let wants_none = budget(json!({"currentHealthy": 0, "desiredHealthy": 0}));
    assert_eq!(refusal(&wants_none, &pod("p", false)).0, 429);
}

#[test]
fn mark_names_the_eviction_api() {
    let mut evicted = pod("p", true);
    mark(&mut evicted, now());
    let condition = &evicted["status"]["conditions"][1];
    assert_eq!(
        (&condition["type"], &condition["reason"], &condition["message"]),
        (
            &json!("DisruptionTarget"),
            &json!("EvictionByEvictionAPI"),
            &json!("Eviction API: evicting")
        )
    );
    let first = condition["lastTransitionTime"].clone();
    mark(&mut evicted, now() + std::time::Duration::from_secs(60));
    assert_eq!(evicted["status"]["conditions"][1]["lastTransitionTime"], first);
    assert_eq!(evicted["status"]["conditions"].as_array().map(Vec::len), Some(2));
}

proptest! {
    /// However many evictions of ready and unready pods are requested, and in any order: the
    /// evicted ready pods are never more than the budget allows, so its minimum of healthy pods
    /// holds.
    #[test]
    fn evictions_never_take_more_than_the_budget_allows(
        healthy in 0i64..12,
        desired in 0i64..12,
        asked in proptest::collection::vec((0u8..20, any::<bool>()), 0..40),
        policy in proptest::option::of(prop_oneof![Just("AlwaysAllow"), Just("IfHealthyBudget")]),
    ) {
        let allowed = (healthy - desired).max(0);
        let mut budget = budget(json!({"disruptionsAllowed": allowed, "currentHealthy": healthy, "desiredHealthy": desired}));
        if let Some(policy) = policy {
            budget["spec"]["unhealthyPodEvictionPolicy"] = policy.into();
        }
        let mut gone = 0;
        for (index, ready) in asked {
            match spend(&budget, &pod(&format!("p{index}"), ready), now()) {
                Ok(Some(next)) => {
                    budget = next;
                    gone += i64::from(ready);
                }
                Ok(None) => prop_assert!(!ready),
                Err(status) => prop_assert_eq!(status.code, 429),
            }
        }
        prop_assert!(gone <= allowed);
        prop_assert!(budget["status"]["disruptionsAllowed"].as_i64() >= Some(0));
    }
}

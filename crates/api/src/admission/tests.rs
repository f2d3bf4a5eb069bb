use super::*;

#[test]
fn pod_gets_the_priority_of_its_class() {
    let class = json!({"metadata": {"name": "high"}, "value": 1000, "preemptionPolicy": "Never"});
    let mut pod = json!({"spec": {"priorityClassName": "high"}});
    assert_eq!(priority(&mut pod, Some(&class)), Ok(()));
    assert_eq!(
        pod["spec"],
        json!({"priorityClassName": "high", "priority": 1000, "preemptionPolicy": "Never"})
    );
}

#[test]
fn pod_without_a_class_gets_the_default_or_none() {
    let mut pod = json!({"spec": {}});
    assert_eq!(priority(&mut pod, None), Ok(()));
    assert_eq!(
        pod["spec"],
        json!({"priority": 0, "preemptionPolicy": "PreemptLowerPriority"})
    );
    let classes = [
        json!({"metadata": {"name": "b"}, "value": 9, "globalDefault": true}),
        json!({"metadata": {"name": "a"}, "value": 5, "globalDefault": true}),
        json!({"metadata": {"name": "c"}, "value": 1}),
    ];
    let mut pod = json!({"spec": {}});
    assert_eq!(priority(&mut pod, default_priority_class(&classes)), Ok(()));
    assert_eq!(pod["spec"]["priorityClassName"], "a");
}

#[test]
fn pod_with_missing_or_different_class_is_rejected() {
    let mut pod = json!({"spec": {"priorityClassName": "x"}});
    assert_eq!(
        priority(&mut pod, None).map_err(|refusal| refusal.to_string()),
        Err("no PriorityClass with name x was found".to_owned())
    );
    let mut pod = json!({"spec": {"priority": 7}});
    assert_eq!(
        priority(&mut pod, None).map_err(|refusal| refusal.to_string()),
        Err("the integer value of priority (7) must not be provided in pod spec; priority admission controller computed 0 from the given PriorityClass name".to_owned())
    );
}

#[test]
fn pod_tolerates_node_failures_for_five_minutes_by_default() {
    let mut pod =
        json!({"spec": {"tolerations": [{"key": NOT_READY, "operator": "Exists", "effect": "NoExecute"}]}});
    default_toleration_seconds(&mut pod);
    assert_eq!(
        pod["spec"]["tolerations"],
        json!([{"key": NOT_READY, "operator": "Exists", "effect": "NoExecute"},
            {"key": UNREACHABLE, "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 300}])
    );
    let mut all = json!({"spec": {"tolerations": [{"operator": "Exists"}]}});
    default_toleration_seconds(&mut all);
    assert_eq!(all["spec"]["tolerations"].as_array().map(Vec::len), Some(1));
    let mut none = json!({"spec": {}});
    default_toleration_seconds(&mut none);
    assert_eq!(none["spec"]["tolerations"].as_array().map(Vec::len), Some(2));
}

#[test]
fn token_is_mounted_in_every_container() {
    let mut pod = json!({"spec": {"containers": [{"name": "a"}, {"name": "b", "volumeMounts": [{"name": "own", "mountPath": TOKEN_PATH}]}]}});
    service_account(
        &mut pod,
        &json!({"imagePullSecrets": [{"name": "pull"}]}),
        "abcde",
    );
    let spec = &pod["spec"];
    assert_eq!(
        (&spec["serviceAccountName"], &spec["serviceAccount"]),
        (&json!("default"), &json!("default"))
    );
    assert_eq!(spec["imagePullSecrets"], json!([{"name": "pull"}]));
    assert_eq!(
        spec["containers"][0]["volumeMounts"],
        json!([{"name": "kube-api-access-abcde", "mountPath": TOKEN_PATH, "readOnly": true}])
    );
    assert_eq!(spec["containers"][1]["volumeMounts"][0]["name"], "own");
    assert_eq!(spec["volumes"][0]["name"], "kube-api-access-abcde");
    let mut defaulted = pod.clone();
    crate::kinds::core::pod::KIND.default(&mut defaulted);
    assert_eq!(
        defaulted["spec"]["volumes"], pod["spec"]["volumes"],
        "the volume needs no further defaults"
    );
}

#[test]
fn pod_or_service_account_can_decline_the_token() {
    for (pod, account) in [
        (
            json!({"spec": {"automountServiceAccountToken": false, "containers": [{}]}}),
            json!({}),
        ),
        (
            json!({"spec": {"containers": [{}]}}),
            json!({"automountServiceAccountToken": false}),
        ),
    ] {
        let mut pod = pod;
        service_account(&mut pod, &account, "abcde");
        assert!(pod["spec"].get("volumes").is_none());
    }
    let mut pod = json!({"spec": {"automountServiceAccountToken": true, "containers": [{}]}});
    service_account(&mut pod, &json!({"automountServiceAccountToken": false}), "abcde");
    assert_eq!(pod["spec"]["volumes"].as_array().map(Vec::len), Some(1));
}

#[test]
fn new_node_is_tainted_once() {
    let mut node = json!({"metadata": {"name": "n"}});
    taint_new_node(&mut node);
    taint_new_node(&mut node);
    assert_eq!(
        node["spec"]["taints"],
        json!([{"key": NOT_READY, "effect": "NoSchedule"}])
    );
}

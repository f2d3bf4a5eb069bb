use super::*;
use crate::kinds::core::pod::{self, KIND, bind, deletion_grace_seconds, qos_class, validate_binding};

const GOOD: &str = "
apiVersion: v1
kind: Pod
metadata: {name: web, namespace: d}
spec:
  containers: [{name: web, image: 'web:1', resources: {limits: {cpu: 1, memory: 1Gi}}}]
";

fn good() -> Value {
    let (object, errors) = create(&KIND, GOOD);
    assert_eq!(errors, Vec::<String>::new());
    object
}

#[test]
fn new_pod_is_pending_and_has_a_qos_class() {
    let object = good();
    assert_eq!(
        object["status"],
        json!({"phase": "Pending", "qosClass": "Guaranteed"})
    );
    assert_eq!(
        object["spec"]["containers"][0]["resources"]["requests"],
        json!({"cpu": "1", "memory": "1Gi"})
    );
    assert_eq!(object["spec"]["enableServiceLinks"], true);
    assert_eq!(object["metadata"]["generation"], 1);
}

#[test]
fn new_pod_with_gates_has_the_condition_scheduling_gated() {
    let gated = GOOD.replace("spec:", "spec:\n  schedulingGates: [{name: a/b}]");
    let (object, errors) = create(&KIND, &gated);
    assert_eq!(errors, Vec::<String>::new());
    let condition = &object["status"]["conditions"][0];
    assert_eq!(
        (&condition["type"], &condition["status"], &condition["reason"]),
        (&json!("PodScheduled"), &json!("False"), &json!("SchedulingGated"))
    );
    assert_eq!(
        condition["message"],
        "Scheduling is blocked due to non-empty scheduling gates"
    );
}

#[test]
fn binding_removes_the_nomination() {
    let mut object = good();
    object["status"]["nominatedNodeName"] = "n1".into();
    assert_eq!(
        bind(
            &mut object,
            &json!({"target": {"name": "n1"}}),
            Timestamp::UNIX_EPOCH
        ),
        Ok(())
    );
    assert_eq!(object["status"].get("nominatedNodeName"), None);
}

#[test]
fn quality_of_service_follows_requests_and_limits() {
    let check = |resources: &[Value]| {
        let containers: Vec<Value> = resources
            .iter()
            .map(|resources| json!({"resources": resources}))
            .collect();
        qos_class(&json!({"containers": containers}))
    };
    let both = json!({"cpu": "1", "memory": "1Gi"});
    assert_eq!(check(&[json!({})]), "BestEffort");
    assert_eq!(check(&[json!({"limits": both, "requests": both})]), "Guaranteed");
    assert_eq!(
        check(&[json!({"limits": both, "requests": both}), json!({})]),
        "Burstable"
    );
    assert_eq!(check(&[json!({"limits": {"cpu": "1"}})]), "Burstable");
    assert_eq!(
        check(&[json!({"limits": both, "requests": {"cpu": "500m", "memory": "1Gi"}})]),
        "Burstable"
    );
    assert_eq!(check(&[json!({"requests": {"cpu": "0"}})]), "BestEffort");
    assert_eq!(check(&[json!({"limits": {"nvidia.com/gpu": "1"}})]), "BestEffort");
}

#[test]
fn images_and_new_tolerations_may_change() {
    let (new, errors) = update(&KIND, &good(), |o| {
        o["spec"]["containers"][0]["image"] = json!("web:2");
        o["spec"]["tolerations"] = json!([{"operator": "Exists"}]);
        o["spec"]["activeDeadlineSeconds"] = json!(10);
    });
    assert_eq!(errors, Vec::<String>::new());
    assert_eq!(new["metadata"]["generation"], 2);
}

#[test]
fn other_fields_of_a_pod_are_immutable() {
    let (_, errors) = update(&KIND, &good(), |o| {
        o["spec"]["nodeName"] = json!("n1");
        o["spec"]["containers"][0]["command"] = json!(["x"]);
        o["spec"]["containers"][0]["image"] = json!("web:2");
        o["spec"]["tolerations"] = json!([{"operator": "Exists"}]);
    });
    let diff = [
        "  core.PodSpec{",
        "  \t... // 1 identical field",
        "  \tContainers: []core.Container{",
        "  \t\t{",
        "  \t\t\t... // 2 identical fields",
        "- \t\t\tCommand: nil,",
        "+ \t\t\tCommand: {\"x\"},",
        "  \t\t\t... // 22 identical fields",
        "  \t\t},",
        "  \t},",
        "  \t... // 7 identical fields",
        "- \tNodeName: nil,",
        "+ \tNodeName: \"n1\",",
        "  \t... // 32 identical fields",
        "  }\n",
    ];
    assert_eq!(
        errors,
        [format!(
            "spec: Forbidden: pod updates may not change fields other than `spec.containers[*].image`,`spec.initContainers[*].image`,\
`spec.activeDeadlineSeconds`,`spec.tolerations` (only additions to existing tolerations),\
`spec.terminationGracePeriodSeconds` (allow it to be set to 1 if it was previously negative)\n{}",
            diff.join("\n")
        )]
    );
    let (_, errors) = update(&KIND, &good(), |o| {
        let containers = o["spec"]["containers"].as_array_mut().expect("a list");
        containers.push(json!({"name": "b", "image": "b"}));
    });
    assert_eq!(
        errors,
        ["spec.containers: Forbidden: pod updates may not add or remove containers"]
    );
}

#[test]
fn tolerations_gates_and_deadlines_change_in_one_direction() {
    let mut old = good();
    old["spec"]["tolerations"] =
        json!([{"key": "a", "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 5}]);
    old["spec"]["activeDeadlineSeconds"] = json!(5);
    let (_, errors) = update(&KIND, &old, |o| {
        o["spec"]["tolerations"][0]["tolerationSeconds"] = json!(9)
    });
    assert_eq!(errors, Vec::<String>::new());
    let (_, errors) = update(&KIND, &old, |o| o["spec"]["tolerations"] = json!([]));
    assert_eq!(
        errors,
        ["spec.tolerations: Forbidden: existing toleration can not be modified except its tolerationSeconds"]
    );
    let (_, errors) = update(&KIND, &old, |o| o["spec"]["activeDeadlineSeconds"] = json!(9));
    assert_eq!(
        errors,
        ["spec.activeDeadlineSeconds: Invalid value: 9: must be less than or equal to previous value"]
    );
    let (_, errors) = update(&KIND, &old, |o| {
        o["spec"]["schedulingGates"] = json!([{"name": "wait"}])
    });
    assert_eq!(
        errors,
        [
            "spec.schedulingGates[0].name: Forbidden: only deletion is allowed, but found new scheduling gate 'wait'"
        ]
    );
}

#[test]
fn negative_grace_period_can_be_corrected() {
    let mut old = good();
    old["spec"]["terminationGracePeriodSeconds"] = json!(-5);
    let set = |seconds: i64| {
        update(&KIND, &old, |o| {
            o["spec"]["terminationGracePeriodSeconds"] = json!(seconds)
        })
        .1
        .len()
    };
    assert_eq!((set(1), set(2)), (0, 1));
}

/// Returns the errors of an update of a pod that has a scheduling gate, a node selector and a node
/// affinity.
fn change_gated(change: impl FnOnce(&mut Value)) -> Vec<String> {
    let mut old = good();
    old["spec"]["schedulingGates"] = json!([{"name": "wait"}]);
    old["spec"]["nodeSelector"] = json!({"a": "b"});
    old["spec"]["affinity"] = json!({"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution":
        {"nodeSelectorTerms": [{"matchExpressions": [{"key": "a", "operator": "Exists"}]}]}}});
    update(&KIND, &old, |o| change(&mut o["spec"])).1
}

#[test]
fn gated_pod_may_be_narrowed_to_fewer_nodes() {
    let terms = "/affinity/nodeAffinity/requiredDuringSchedulingIgnoredDuringExecution/nodeSelectorTerms";
    let narrowed = change_gated(|spec| {
        spec["nodeSelector"]["c"] = json!("d");
        let term = json!({"matchExpressions": [{"key": "a", "operator": "Exists"}, {"key": "c", "operator": "Exists"}]});
        *spec.pointer_mut(terms).expect("the terms") = json!([term]);
    });
    assert_eq!(narrowed, Vec::<String>::new());
    assert_eq!(
        change_gated(|spec| spec["nodeSelector"] = json!({"c": "d"})),
        [
            "spec.nodeSelector: Invalid value: {\"c\":\"d\"}: only additions to spec.nodeSelector are allowed (no mutations or deletions)"
        ]
    );
    let path = "spec.affinity.nodeAffinity.requiredDuringSchedulingIgnoredDuringExecution.nodeSelectorTerms";
    assert_eq!(
        change_gated(|spec| {
            let term = json!({"matchExpressions": [{"key": "c", "operator": "Exists"}]});
            *spec.pointer_mut(terms).expect("the terms") = json!([term]);
        }),
        [format!(
            "{path}[0]: Invalid value: {{\"matchExpressions\":[{{\"key\":\"c\",\"operator\":\"Exists\"}}]}}: only additions are allowed (no mutations or deletions)"
        )]
    );
    let more = change_gated(|spec| {
        let term = json!({"matchExpressions": [{"key": "a", "operator": "Exists"}]});
        *spec.pointer_mut(terms).expect("the terms") = json!([term, term]);
    });
    assert_eq!(more.len(), 1);
    assert!(
        more[0].ends_with(": no additions/deletions to non-empty NodeSelectorTerms list are allowed"),
        "{more:?}"
    );
    let spread = change_gated(|spec| spec["affinity"]["podAffinity"] = json!({}));
    assert!(
        spread[0].starts_with("spec: Forbidden: pod updates may not change fields"),
        "{spread:?}"
    );
}

#[test]
fn status_update_keeps_owners_and_qos_class() {
    let mut old = good();
    old["metadata"]["ownerReferences"] =
        json!([meta::controller_reference("apps/v1", "DaemonSet", "x", "u")]);
    let (new, errors) = update_status(&KIND, &old, |o| {
        o["metadata"]["ownerReferences"] = json!([]);
        o["status"] = json!({"phase": "Running"});
    });
    assert!(errors.is_empty());
    assert_eq!(
        new["metadata"]["ownerReferences"],
        old["metadata"]["ownerReferences"]
    );
    assert_eq!(
        new["status"],
        json!({"phase": "Running", "qosClass": "Guaranteed"})
    );
    let (_, errors) = update_status(&KIND, &old, |o| o["status"]["qosClass"] = json!("BestEffort"));
    assert_eq!(
        errors,
        ["status.qosClass: Invalid value: \"BestEffort\": field is immutable"]
    );
}

#[test]
fn terminated_container_stays_terminated() {
    let mut old = good();
    old["spec"]["restartPolicy"] = json!("Never");
    old["status"]["containerStatuses"] = json!([{"name": "web", "state": {"terminated": {"exitCode": 0}}}]);
    let (_, errors) = update_status(&KIND, &old, |o| {
        o["status"]["containerStatuses"][0]["state"] = json!({"running": {}});
    });
    assert_eq!(
        errors,
        ["status.containerStatuses[0].state: Forbidden: may not be transitioned to non-terminated state"]
    );
}

#[test]
fn binding_names_a_node() {
    assert!(validate_binding(&json!({"target": {"kind": "Node", "name": "n1"}})).is_empty());
    assert_eq!(
        texts(&validate_binding(&json!({"target": {"kind": "Pod"}}))),
        [
            "target.kind: Unsupported value: \"Pod\": supported values: \"Node\", \"<empty>\"",
            "target.name: Required value",
        ]
    );
}

#[test]
fn bound_pod_has_its_node_and_is_scheduled() {
    let mut object = good();
    meta::set_generation(&mut object, 1);
    let binding = json!({"metadata": {"annotations": {"a": "b"}}, "target": {"name": "n1"}});
    assert_eq!(bind(&mut object, &binding, Timestamp::UNIX_EPOCH), Ok(()));
    assert_eq!(object["spec"]["nodeName"], "n1");
    assert_eq!(object["metadata"]["annotations"], json!({"a": "b"}));
    assert_eq!(
        object["metadata"]["generation"], 1,
        "a binding is no change of the spec"
    );
    assert_eq!(object["status"]["conditions"][0]["type"], "PodScheduled");
    assert_eq!(object["status"]["conditions"][0]["observedGeneration"], 1);
    assert_eq!(
        object["status"]["conditions"][0]["lastTransitionTime"],
        "1970-01-01T00:00:00Z"
    );
    assert_eq!(
        bind(&mut object, &binding, Timestamp::UNIX_EPOCH),
        Err("pod web is already assigned to node \"n1\"".to_owned())
    );
}

#[test]
fn pod_that_is_deleted_or_gated_is_not_bound() {
    let binding = json!({"target": {"name": "n1"}});
    let mut going = good();
    going["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:00:00Z");
    assert!(bind(&mut going, &binding, now()).is_err());
    let mut gated = good();
    gated["spec"]["schedulingGates"] = json!([{"name": "wait"}]);
    assert_eq!(
        bind(&mut gated, &binding, now()),
        Err("pod web has non-empty .spec.schedulingGates".to_owned())
    );
}

#[test]
fn only_a_running_pod_has_a_grace_period() {
    let running = json!({"spec": {"nodeName": "n", "terminationGracePeriodSeconds": 30}, "status": {"phase": "Running"}});
    assert_eq!(deletion_grace_seconds(&running, None), 30);
    assert_eq!(deletion_grace_seconds(&running, Some(5)), 5);
    assert_eq!(deletion_grace_seconds(&running, Some(0)), 0);
    assert_eq!(deletion_grace_seconds(&running, Some(-3)), 1);
    let unbound = json!({"spec": {"terminationGracePeriodSeconds": 30}});
    assert_eq!(deletion_grace_seconds(&unbound, None), 0);
    let ended = json!({"spec": {"nodeName": "n"}, "status": {"phase": "Failed"}});
    assert_eq!(deletion_grace_seconds(&ended, Some(5)), 0);
}

#[test]
fn containers_are_named_init_containers_first() {
    let object = json!({"spec": {"containers": [{"name": "b"}], "initContainers": [{"name": "a"}]}});
    assert_eq!(pod::container_names(&object).collect::<Vec<_>>(), ["a", "b"]);
}

/// Returns READY, STATUS and RESTARTS of a pod with two containers.
fn printed(change: impl FnOnce(&mut Value)) -> [String; 3] {
    let mut object = json!({"metadata": {"name": "x"}, "spec": {"containers": [{"name": "a"}, {"name": "b"}]}, "status": {"phase": "Pending"}});
    change(&mut object);
    let [_, ready, status, restarts, ..] = &cells(&KIND, object)[..] else {
        panic!("a pod has nine cells")
    };
    [ready.clone(), status.clone(), restarts.clone()]
}

#[test]
fn pod_prints_its_phase_or_the_reason_for_waiting() {
    let running = json!({"name": "a", "ready": true, "state": {"running": {}}, "restartCount": 0});
    assert_eq!(printed(|_| {}), ["0/2", "Pending", "0"]);
    assert_eq!(
        printed(|o| o["status"] = json!({"phase": "Running", "containerStatuses": [running, running]})),
        ["2/2", "Running", "0"]
    );
    let waiting = json!({"name": "b", "restartCount": 2, "state": {"waiting": {"reason": "CrashLoopBackOff"}},
        "lastState": {"terminated": {"finishedAt": "2026-01-01T23:59:00Z"}}});
    assert_eq!(
        printed(|o| o["status"] = json!({"phase": "Running", "containerStatuses": [running, waiting]})),
        ["1/2", "CrashLoopBackOff", "2 (60s ago)"]
    );
    assert_eq!(
        printed(|o| o["status"] = json!({"phase": "Failed", "reason": "Evicted"})),
        ["0/2", "Evicted", "0"]
    );
}

#[test]
fn pod_prints_how_its_containers_ended() {
    let ended = |terminated: Value| json!({"name": "a", "state": {"terminated": terminated}});
    let status = |one: Value| {
        printed(|o| o["status"] = json!({"phase": "Running", "containerStatuses": [one]}))[1].clone()
    };
    assert_eq!(
        status(ended(json!({"reason": "OOMKilled", "exitCode": 137}))),
        "OOMKilled"
    );
    assert_eq!(status(ended(json!({"exitCode": 3}))), "ExitCode:3");
    assert_eq!(status(ended(json!({"exitCode": 137, "signal": 9}))), "Signal:9");
    let completed = ended(json!({"reason": "Completed", "exitCode": 0}));
    let running = json!({"name": "b", "ready": true, "state": {"running": {}}});
    let beside =
        printed(|o| o["status"] = json!({"phase": "Running", "containerStatuses": [completed, running]}));
    assert_eq!(beside, ["1/2", "NotReady", "0"]);
}

#[test]
fn pod_prints_the_progress_of_its_init_containers() {
    let init = |state: Value| {
        printed(|o| {
            o["spec"]["initContainers"] = json!([{"name": "i"}, {"name": "j"}]);
            o["status"]["initContainerStatuses"] = json!([
                {"name": "i", "state": {"terminated": {"exitCode": 0}}}, {"name": "j", "state": state}]);
        })[1]
            .clone()
    };
    assert_eq!(init(json!({"running": {}})), "Init:1/2");
    assert_eq!(
        init(json!({"waiting": {"reason": "PodInitializing"}})),
        "Init:1/2"
    );
    assert_eq!(
        init(json!({"waiting": {"reason": "ImagePullBackOff"}})),
        "Init:ImagePullBackOff"
    );
    assert_eq!(
        init(json!({"terminated": {"exitCode": 1, "reason": "Error"}})),
        "Init:Error"
    );
    assert_eq!(init(json!({"terminated": {"exitCode": 2}})), "Init:ExitCode:2");
}

#[test]
fn sidecar_counts_among_the_ready_containers() {
    let row = printed(|o| {
        o["spec"]["initContainers"] = json!([{"name": "s", "restartPolicy": "Always"}]);
        o["status"] = json!({"phase": "Running",
            "initContainerStatuses": [{"name": "s", "started": true, "ready": true, "restartCount": 1, "state": {"running": {}}}],
            "containerStatuses": [{"name": "a", "ready": true, "restartCount": 2, "state": {"running": {}}}]});
    });
    assert_eq!(row, ["2/3", "Running", "3"]);
}

#[test]
fn deleted_pod_prints_terminating_or_unknown() {
    let going = |status: Value| {
        printed(|o| {
            o["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:00:00Z");
            o["status"] = status;
        })[1]
            .clone()
    };
    assert_eq!(going(json!({"phase": "Running"})), "Terminating");
    assert_eq!(
        going(json!({"phase": "Running", "reason": "NodeLost"})),
        "Unknown"
    );
    assert_eq!(going(json!({"phase": "Succeeded"})), "Succeeded");
}

#[test]
fn gated_pod_prints_scheduling_gated() {
    let row = printed(|o| {
        o["status"]["conditions"] =
            json!([{"type": "PodScheduled", "status": "False", "reason": "SchedulingGated"}]);
    });
    assert_eq!(row[1], "SchedulingGated");
}

#[test]
fn wide_cells_show_address_node_and_readiness_gates() {
    let object = json!({"spec": {"nodeName": "n1", "readinessGates": [{"conditionType": "a/b"}, {"conditionType": "c/d"}]},
        "status": {"podIP": "10.0.0.1", "podIPs": [{"ip": "10.0.0.1"}], "conditions": [{"type": "a/b", "status": "True"}]}});
    assert_eq!(cells(&KIND, object)[5..], ["10.0.0.1", "n1", "<none>", "1/2"]);
    assert_eq!(
        cells(&KIND, json!({}))[5..],
        ["<none>", "<none>", "<none>", "<none>"]
    );
}

#[test]
fn ended_pod_is_marked_completed() {
    assert_eq!(
        KIND.row_conditions(&json!({"status": {"phase": "Succeeded"}})),
        [
            json!({"type": "Completed", "status": "True", "reason": "Succeeded", "message": "The pod has completed successfully."})
        ]
    );
    assert!(
        KIND.row_conditions(&json!({"status": {"phase": "Running"}}))
            .is_empty()
    );
}

#[test]
fn pod_has_one_address_of_each_family() {
    let (old, errors) = create(
        &KIND,
        "{apiVersion: v1, kind: Pod, metadata: {name: x, namespace: d}, spec: {containers: [{name: a, image: a}]}}",
    );
    assert!(errors.is_empty(), "{errors:?}");
    for field in ["podIPs", "hostIPs"] {
        let says = |ips: Value| update_status(&KIND, &old, |new| new["status"][field] = ips).1;
        assert!(says(json!([{"ip": "192.0.2.1"}, {"ip": "2001:db8::1"}])).is_empty());
        let path = format!("status.{field}: Invalid value");
        for ips in [
            json!([{"ip": "192.0.2.1"}, {"ip": "192.0.2.2"}]),
            json!([{"ip": "192.0.2.1"}, {"ip": "2001:db8::1"}, {"ip": "2001:db8::2"}]),
        ] {
            let errors = says(ips);
            let is_family = |error: &String| error.starts_with(&path) && error.ends_with("each IP family");
            assert!(errors.iter().any(is_family), "{errors:?}");
        }
        let errors = says(json!([{"ip": "192.0.2.1"}, {"ip": "192.0.2.1"}]));
        let twice = format!("status.{field}[1]: Duplicate value");
        assert!(errors.iter().any(|error| error.starts_with(&twice)), "{errors:?}");
    }
}

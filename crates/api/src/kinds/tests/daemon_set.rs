use super::*;
use crate::kinds::apps::{controller_revision, daemon_set};

const GOOD: &str = "
apiVersion: apps/v1
kind: DaemonSet
metadata: {name: web, namespace: d}
spec:
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec:
      containers: [{name: web, image: 'web:1'}]
";

/// Validates the valid DaemonSet after a change.
fn check(change: impl FnOnce(&mut Value)) -> Vec<String> {
    let mut object = read(&daemon_set::KIND, GOOD);
    change(&mut object);
    daemon_set::KIND.default(&mut object);
    daemon_set::KIND.prepare_create(&mut object);
    texts(&daemon_set::KIND.validate(&object))
}

fn good() -> Value {
    let (object, errors) = create(&daemon_set::KIND, GOOD);
    assert_eq!(errors, Vec::<String>::new());
    object
}

#[test]
fn plain_daemon_set_gets_its_defaults() {
    let object = good();
    assert_eq!(
        object["spec"]["updateStrategy"],
        json!({"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": 1, "maxSurge": 0}})
    );
    assert_eq!(object["spec"]["revisionHistoryLimit"], 10);
    assert_eq!(object["metadata"]["generation"], 1);
    assert_eq!(
        object["metadata"]["annotations"],
        json!({"deprecated.daemonset.template.generation": "1"})
    );
    assert_eq!(
        object["status"],
        json!({"currentNumberScheduled": 0, "desiredNumberScheduled": 0, "numberMisscheduled": 0, "numberReady": 0})
    );
    let pod = &object["spec"]["template"]["spec"];
    assert_eq!(pod["containers"][0]["imagePullPolicy"], "IfNotPresent");
    assert_eq!(pod["restartPolicy"], "Always");
    assert!(
        pod.get("enableServiceLinks").is_none(),
        "that default waits for the real pod"
    );
}

#[test]
fn on_delete_gets_no_rolling_update_block() {
    let mut object = json!({"spec": {"updateStrategy": {"type": "OnDelete"}}});
    daemon_set::KIND.default(&mut object);
    assert_eq!(object["spec"]["updateStrategy"], json!({"type": "OnDelete"}));
}

#[test]
fn selector_must_match_the_template() {
    let mismatch = "spec.template.metadata.labels: Invalid value: {\"app\":\"other\"}: `selector` does not match template `labels`";
    assert_eq!(
        check(|o| o["spec"]["template"]["metadata"]["labels"] = json!({"app": "other"})),
        [mismatch]
    );
    let unlabelled = check(|o| o["spec"]["template"]["metadata"] = json!({}));
    assert_eq!(
        unlabelled,
        ["spec.template.metadata.labels: Invalid value: null: `selector` does not match template `labels`"]
    );
    let missing = check(|o| {
        o["spec"].as_object_mut().expect("an object").remove("selector");
    });
    assert_eq!(
        missing,
        [
            "spec.template.metadata.labels: Invalid value: {\"app\":\"web\"}: `selector` does not match template `labels`"
        ]
    );
}

#[test]
fn empty_selector_is_refused() {
    assert_eq!(
        check(|o| o["spec"]["selector"] = json!({})),
        ["spec.selector: Invalid value: {}: empty selector is invalid for daemonset"]
    );
}

#[test]
fn daemon_pod_always_restarts_and_has_no_deadline() {
    assert_eq!(
        check(|o| o["spec"]["template"]["spec"]["restartPolicy"] = json!("Never")),
        ["spec.template.spec.restartPolicy: Unsupported value: \"Never\": supported values: \"Always\""]
    );
    assert_eq!(
        check(|o| o["spec"]["template"]["spec"]["activeDeadlineSeconds"] = json!(5)),
        [
            "spec.template.spec.activeDeadlineSeconds: Forbidden: activeDeadlineSeconds in DaemonSet is not Supported"
        ]
    );
}

#[test]
fn template_has_no_ephemeral_containers() {
    let errors = check(|o| {
        o["spec"]["template"]["spec"]["ephemeralContainers"] = json!([{"name": "e", "image": "e"}])
    });
    assert_eq!(
        errors,
        [
            "spec.template.spec.ephemeralContainers: Forbidden: ephemeral containers not allowed in pod template"
        ]
    );
}

#[test]
fn counts_are_not_negative_and_history_may_be_zero() {
    assert_eq!(
        check(|o| {
            o["spec"]["minReadySeconds"] = json!(-1);
            o["spec"]["revisionHistoryLimit"] = json!(-2);
        }),
        [
            "spec.minReadySeconds: Invalid value: -1: must be greater than or equal to 0",
            "spec.revisionHistoryLimit: Invalid value: -2: must be greater than or equal to 0",
        ]
    );
    assert!(check(|o| o["spec"]["revisionHistoryLimit"] = json!(0)).is_empty());
}

#[test]
fn update_strategy_is_one_of_two() {
    assert_eq!(
        check(|o| o["spec"]["updateStrategy"] = json!({"type": "Sideways"})),
        [
            "spec.updateStrategy: Unsupported value: \"Sideways\": supported values: \"RollingUpdate\", \"OnDelete\""
        ]
    );
}

fn check_rolling(unavailable: Value, surge: Value) -> Vec<String> {
    check(|o| {
        o["spec"]["updateStrategy"]["rollingUpdate"] =
            json!({"maxUnavailable": unavailable, "maxSurge": surge})
    })
}

#[test]
fn exactly_one_of_surge_and_unavailable_is_zero() {
    for (unavailable, surge) in [
        (json!(1), json!(0)),
        (json!(0), json!("10%")),
        (json!("0%"), json!(1)),
        (json!("100%"), json!("0%")),
    ] {
        assert_eq!(check_rolling(unavailable, surge), Vec::<String>::new());
    }
    assert_eq!(
        check_rolling(json!(1), json!("10%")),
        [
            "spec.updateStrategy.rollingUpdate.maxSurge: Invalid value: \"10%\": may not be set when maxUnavailable is non-zero"
        ]
    );
    for (unavailable, surge) in [(json!(0), json!(0)), (json!("0%"), json!(0))] {
        assert_eq!(
            check_rolling(unavailable, surge),
            [
                "spec.updateStrategy.rollingUpdate.maxUnavailable: Required value: cannot be 0 when maxSurge is 0"
            ]
        );
    }
}

#[test]
fn max_unavailable_is_a_count_or_at_most_100_percent() {
    assert_eq!(
        check_rolling(json!(-1), json!(0)),
        [
            "spec.updateStrategy.rollingUpdate.maxUnavailable: Invalid value: -1: must be greater than or equal to 0"
        ]
    );
    assert_eq!(
        check_rolling(json!("101%"), json!(0)),
        [
            "spec.updateStrategy.rollingUpdate.maxUnavailable: Invalid value: \"101%\": must not be greater than 100%"
        ]
    );
    assert_eq!(check_rolling(json!("99999999999%"), json!(0)).len(), 1);
    assert_eq!(check_rolling(json!("5"), json!(0)).len(), 1);
    let both = check_rolling(json!("200%"), json!(1));
    assert!(both[0].ends_with("must not be greater than 100%"), "{both:?}");
    assert!(
        both[1].ends_with("may not be set when maxUnavailable is non-zero"),
        "{both:?}"
    );
    let errors = check_rolling(json!("many"), json!(1));
    assert_eq!(
        errors,
        [
            "spec.updateStrategy.rollingUpdate.maxUnavailable: Invalid value: \"many\": a valid percent string must be a numeric string followed by an ending '%' (e.g. '1%',  or '93%', regex used for validation is '[0-9]+%')"
        ]
    );
}

#[test]
fn host_network_template_may_leave_out_host_ports() {
    let with = |host: Value| {
        check(|o| {
            o["spec"]["template"]["spec"]["hostNetwork"] = json!(true);
            o["spec"]["template"]["spec"]["containers"][0]["ports"] =
                json!([{"containerPort": 80, "hostPort": host}]);
        })
    };
    assert!(with(json!(0)).is_empty());
    assert!(with(json!(80)).is_empty());
    assert_eq!(
        with(json!(81)),
        [
            "spec.template.spec.containers[0].ports[0].hostPort: Invalid value: 81: must match `containerPort` when `hostNetwork` is true"
        ]
    );
}

#[test]
fn changed_template_increments_both_generations() {
    let old = good();
    let (new, errors) = update(&daemon_set::KIND, &old, |o| {
        o["spec"]["template"]["spec"]["containers"][0]["image"] = json!("web:2");
        o["metadata"]["annotations"] = json!({"deprecated.daemonset.template.generation": "77", "mine": "1"});
        o["status"] = json!({"numberReady": 9});
    });
    assert!(errors.is_empty());
    assert_eq!(new["metadata"]["generation"], 2);
    assert_eq!(daemon_set::template_generation(&new), 2);
    assert_eq!(new["metadata"]["annotations"]["mine"], "1");
    assert_eq!(
        new["status"], old["status"],
        "the main resource does not touch the status"
    );
}

#[test]
fn spec_changes_increment_the_generation_and_labels_do_not() {
    let old = good();
    let (new, _) = update(&daemon_set::KIND, &old, |o| {
        o["spec"]["minReadySeconds"] = json!(5)
    });
    assert_eq!(
        (
            &new["metadata"]["generation"],
            daemon_set::template_generation(&new)
        ),
        (&json!(2), 1)
    );
    let (new, _) = update(&daemon_set::KIND, &old, |o| {
        o["metadata"]["labels"] = json!({"a": "b"})
    });
    assert_eq!(
        (
            &new["metadata"]["generation"],
            daemon_set::template_generation(&new)
        ),
        (&json!(1), 1)
    );
}

#[test]
fn daemon_set_may_start_with_a_template_generation() {
    let mut object = read(&daemon_set::KIND, GOOD);
    object["metadata"]["annotations"] = json!({"deprecated.daemonset.template.generation": "7"});
    daemon_set::KIND.prepare_create(&mut object);
    assert_eq!(daemon_set::template_generation(&object), 7);
}

#[test]
fn template_generation_must_be_a_number() {
    let check = |text: &str| {
        let annotations = json!({"deprecated.daemonset.template.generation": text});
        daemon_set::KIND.check_decoded(&json!({"metadata": {"annotations": annotations}}))
    };
    for text in ["1", "-1", "+7"] {
        assert_eq!(check(text), Ok(()));
    }
    for (text, why) in [
        ("abc", "invalid syntax"),
        ("", "invalid syntax"),
        ("1.0", "invalid syntax"),
        ("99999999999999999999", "value out of range"),
    ] {
        assert_eq!(
            check(text),
            Err(format!("strconv.ParseInt: parsing {text:?}: {why}"))
        );
    }
    assert_eq!(daemon_set::KIND.check_decoded(&json!({})), Ok(()));
}

#[test]
fn selector_is_immutable() {
    let (_, errors) = update(&daemon_set::KIND, &good(), |o| {
        o["spec"]["selector"] = json!({"matchExpressions": [{"key": "app", "operator": "Exists"}]});
    });
    assert_eq!(
        errors,
        [
            "spec.selector: Invalid value: {\"matchExpressions\":[{\"key\":\"app\",\"operator\":\"Exists\"}]}: field is immutable"
        ]
    );
}

#[test]
fn status_update_keeps_the_spec_and_accepts_labels() {
    let old = good();
    let (new, errors) = update_status(&daemon_set::KIND, &old, |o| {
        o["status"]["numberReady"] = json!(3);
        o["spec"]["minReadySeconds"] = json!(9);
        o["metadata"]["labels"] = json!({"a": "b"});
        o["metadata"]["generation"] = json!(40);
    });
    assert!(errors.is_empty());
    assert_eq!(new["spec"], old["spec"]);
    assert_eq!(new["status"]["numberReady"], 3);
    assert_eq!(new["metadata"]["labels"], json!({"a": "b"}));
    assert_eq!(new["metadata"]["generation"], 1);
}

#[test]
fn status_counters_are_not_negative_and_collisions_only_grow() {
    let mut old = good();
    old["status"]["collisionCount"] = json!(3);
    let (_, errors) = update_status(&daemon_set::KIND, &old, |o| {
        o["status"]["numberReady"] = json!(-1);
        o["status"]["collisionCount"] = json!(2);
    });
    assert_eq!(
        errors,
        [
            "status.numberReady: Invalid value: -1: must be greater than or equal to 0",
            "status.collisionCount: Invalid value: 2: cannot be decremented",
        ]
    );
}

#[test]
fn collision_count_cannot_be_removed() {
    let mut old = good();
    old["status"]["collisionCount"] = json!(3);
    let (_, errors) = update_status(&daemon_set::KIND, &old, |o| o["status"] = json!({}));
    assert_eq!(
        errors,
        ["status.collisionCount: Invalid value: 0: cannot be decremented"]
    );
    let (_, errors) = update_status(&daemon_set::KIND, &good(), |o| {
        o["status"]["collisionCount"] = json!(1)
    });
    assert_eq!(errors, Vec::<String>::new());
}

#[test]
fn invalid_selector_is_not_compared_with_the_template() {
    let errors =
        check(|o| o["spec"]["selector"] = json!({"matchExpressions": [{"key": "app", "operator": "Like"}]}));
    assert_eq!(
        errors,
        [
            "spec.selector.matchExpressions[0].operator: Invalid value: \"Like\": not a valid selector operator"
        ]
    );
}

#[test]
fn daemon_set_prints_its_counts() {
    let mut object = good();
    object["metadata"]["creationTimestamp"] = json!("2026-01-01T23:58:55Z");
    object["status"] = json!({"desiredNumberScheduled": 3, "currentNumberScheduled": 2, "numberReady": 1, "updatedNumberScheduled": 2});
    assert_eq!(
        cells(&daemon_set::KIND, object),
        [
            "web", "3", "2", "1", "2", "0", "<none>", "65s", "web", "web:1", "app=web"
        ]
    );
}

#[test]
fn controller_revision_data_is_immutable() {
    let kind = &controller_revision::KIND;
    let yaml = |data: &str| {
        format!(
            "{{apiVersion: apps/v1, kind: ControllerRevision, metadata: {{name: a, namespace: d}}, revision: 1, {data}}}"
        )
    };
    assert_eq!(
        create(kind, &yaml("")).1,
        ["data: Required value: data is mandatory"]
    );
    assert_eq!(
        create(kind, &yaml("data: [1]")).1,
        ["data: Invalid value: [1]: data must be a valid JSON object"]
    );
    let (old, errors) = create(kind, &yaml("data: {spec: {}}"));
    assert!(errors.is_empty());
    let (_, errors) = update(kind, &old, |o| {
        o["revision"] = json!(-1);
        o["data"] = json!({});
    });
    assert_eq!(
        errors,
        [
            "revision: Invalid value: -1: must be greater than or equal to 0",
            "data: Invalid value: {}: field is immutable"
        ]
    );
}

#[test]
fn controller_revision_prints_its_controller() {
    let owner = meta::controller_reference("apps/v1", "DaemonSet", "web", "u");
    let object = json!({"metadata": {"name": "web-1", "ownerReferences": [owner]}, "revision": 4});
    assert_eq!(
        cells(&controller_revision::KIND, object),
        ["web-1", "daemonset.apps/web", "4", "<unknown>"]
    );
    assert_eq!(cells(&controller_revision::KIND, json!({}))[1], "<none>");
}

/// The first DaemonSet of the Kubernetes documentation.
const FLUENTD: &str = "
apiVersion: apps/v1
kind: DaemonSet
metadata:
  name: fluentd-elasticsearch
  namespace: kube-system
  labels:
    k8s-app: fluentd-logging
spec:
  selector:
    matchLabels:
      name: fluentd-elasticsearch
  template:
    metadata:
      labels:
        name: fluentd-elasticsearch
    spec:
      tolerations:
      # this toleration is to have the daemonset runnable on master nodes
      # remove it if your masters can't run pods
      - key: node-role.kubernetes.io/master
        effect: NoSchedule
      containers:
      - name: fluentd-elasticsearch
        image: quay.io/fluentd_elasticsearch/fluentd:v2.5.2
        resources:
          limits:
            memory: 200Mi
          requests:
            cpu: 100m
            memory: 200Mi
        volumeMounts:
        - name: varlog
          mountPath: /var/log
        - name: varlibdockercontainers
          mountPath: /var/lib/docker/containers
          readOnly: true
      terminationGracePeriodSeconds: 30
      volumes:
      - name: varlog
        hostPath:
          path: /var/log
      - name: varlibdockercontainers
        hostPath:
          path: /var/lib/docker/containers
";

#[test]
fn daemon_set_of_the_documentation_is_valid() {
    let (object, errors) = create(&daemon_set::KIND, FLUENTD);
    assert_eq!(errors, Vec::<String>::new());
    assert!(daemon_set::KIND.warnings(&object).is_empty());
    let pod = &object["spec"]["template"]["spec"];
    assert_eq!(
        pod["volumes"][0],
        json!({"name": "varlog", "hostPath": {"path": "/var/log", "type": ""}})
    );
}

#[test]
fn surge_requires_an_explicit_max_unavailable_of_zero() {
    let mut object = json!({"spec": {"updateStrategy": {"rollingUpdate": {"maxSurge": "10%"}}}});
    daemon_set::KIND.default(&mut object);
    let rolling = &object["spec"]["updateStrategy"]["rollingUpdate"];
    assert_eq!(*rolling, json!({"maxUnavailable": 1, "maxSurge": "10%"}));
    let errors = check(|o| o["spec"]["updateStrategy"] = json!({"rollingUpdate": {"maxSurge": "10%"}}));
    assert_eq!(
        errors,
        [
            "spec.updateStrategy.rollingUpdate.maxSurge: Invalid value: \"10%\": may not be set when maxUnavailable is non-zero"
        ]
    );
}

#[test]
fn template_gets_no_defaults_that_only_pods_have() {
    let mut object = read(&daemon_set::KIND, GOOD);
    let pod = &mut object["spec"]["template"]["spec"];
    pod["hostNetwork"] = json!(true);
    pod["containers"][0]["ports"] = json!([{"containerPort": 80}]);
    pod["containers"][0]["resources"] = json!({"limits": {"cpu": "1"}});
    daemon_set::KIND.default(&mut object);
    let pod = &object["spec"]["template"]["spec"];
    assert_eq!(
        pod["containers"][0]["ports"],
        json!([{"containerPort": 80, "protocol": "TCP"}])
    );
    assert_eq!(pod["containers"][0]["resources"], json!({"limits": {"cpu": "1"}}));
    assert_eq!(pod.get("enableServiceLinks"), None);
}

#[test]
fn revisions_and_daemon_sets_are_named_by_subdomains() {
    let subdomain = "a.b-1.".repeat(42) + "c";
    assert_eq!(subdomain.len(), 253);
    let named = |name: &str| check(|o| o["metadata"]["name"] = json!(name));
    assert_eq!(named(&subdomain), Vec::<String>::new());
    assert!(
        named("Web")[0]
            .starts_with("metadata.name: Invalid value: \"Web\": a lowercase RFC 1123 subdomain must"),
    );
    assert!(named(&format!("{subdomain}d"))[0].ends_with("must be no more than 253 characters"));
    let revision = |name: &str| {
        let object = json!({"metadata": {"name": name, "namespace": "d"}, "data": {}, "revision": 0});
        controller_revision::KIND.validate(&object).len()
    };
    assert_eq!((revision("a.b"), revision("A")), (0, 1));
}

#[test]
fn each_count_of_the_status_is_not_negative() {
    let old = good();
    for count in [
        "currentNumberScheduled",
        "numberMisscheduled",
        "desiredNumberScheduled",
        "numberReady",
        "observedGeneration",
        "updatedNumberScheduled",
        "numberAvailable",
        "numberUnavailable",
        "collisionCount",
    ] {
        let (_, errors) = update_status(&daemon_set::KIND, &old, |o| o["status"][count] = json!(-1));
        assert_eq!(
            errors,
            [format!(
                "status.{count}: Invalid value: -1: must be greater than or equal to 0"
            )]
        );
    }
}

#[test]
fn strategy_may_change_without_a_new_template_generation() {
    let (new, errors) = update(&daemon_set::KIND, &good(), |o| {
        o["spec"]["updateStrategy"] = json!({"type": "OnDelete"})
    });
    assert_eq!(errors, Vec::<String>::new());
    assert_eq!(new["spec"]["updateStrategy"], json!({"type": "OnDelete"}));
    assert_eq!(
        (
            &new["metadata"]["generation"],
            daemon_set::template_generation(&new)
        ),
        (&json!(2), 1)
    );
}

//! What the Pod Security Standards allow and forbid for each field, with Kubernetes' messages.

use serde_json::json;

use super::*;

fn at(level: Level) -> Standard {
    Standard {
        level,
        version: Version::default(),
    }
}

/// Returns a pod that every level accepts.
fn hardened() -> Value {
    json!({
        "metadata": {"name": "x"},
        "spec": {
            "securityContext": {"runAsNonRoot": true, "seccompProfile": {"type": "RuntimeDefault"}},
            "containers": [{"name": "c", "image": "a:1", "securityContext": {
                "allowPrivilegeEscalation": false, "capabilities": {"drop": ["ALL"]},
            }}],
        },
    })
}

/// Returns the hardened pod with a value at a JSON pointer. Missing parents are created.
fn with(pointer: &str, value: Value) -> Value {
    let mut pod = hardened();
    let mut place = &mut pod;
    for step in pointer.split('/').skip(1) {
        place = match step.parse::<usize>() {
            Ok(index) => {
                if !place.is_array() {
                    *place = json!([]);
                }
                let list = place.as_array_mut().unwrap();
                while list.len() <= index {
                    let mut container = hardened()["spec"]["containers"][0].clone();
                    container["name"] = format!("c{}", list.len()).into();
                    list.push(container);
                }
                &mut list[index]
            }
            Err(_) => &mut place[step.replace("~1", "/")],
        };
    }
    *place = value;
    pod
}

fn found(pod: &Value, level: Level) -> Vec<String> {
    violations(pod, at(level))
        .iter()
        .map(Violation::to_string)
        .collect()
}

const CONTEXT: &str = "/spec/containers/0/securityContext";

/// Checks cases of a level: the pointer, a value, and the message (empty for an allowed value).
fn check(level: Level, cases: &[(&str, Value, &str)]) {
    for (pointer, value, message) in cases {
        let pod = with(pointer, value.clone());
        let expected: Vec<&str> = [*message]
            .into_iter()
            .filter(|message| !message.is_empty())
            .collect();
        assert_eq!(found(&pod, level), expected, "{pointer} {value}");
        let below = if level == Level::Restricted {
            Level::Baseline
        } else {
            Level::Privileged
        };
        assert!(found(&pod, below).is_empty(), "{below:?}: {pointer} {value}");
    }
}

#[test]
fn baseline_forbids_access_to_the_node() {
    let c = |field: &str| format!("{CONTEXT}/{field}");
    check(
        Level::Baseline,
        &[
            ("/spec/hostNetwork", json!(true), "host namespaces (hostNetwork)"),
            ("/spec/hostPID", json!(true), "host namespaces (hostPID)"),
            ("/spec/hostIPC", json!(true), "host namespaces (hostIPC)"),
            ("/spec/hostIPC", json!(false), ""),
            (
                &c("privileged"),
                json!(true),
                "privileged (container \"c\" must not set securityContext.privileged=true)",
            ),
            (&c("privileged"), json!(false), ""),
            (
                "/spec/containers/0/ports",
                json!([{"hostPort": 90}, {"hostPort": 1000}, {"containerPort": 7}]),
                "hostPort (container \"c\" uses hostPorts 1000, 90)",
            ),
            (
                "/spec/containers/0/ports",
                json!([{"hostPort": 0, "containerPort": 7}]),
                "",
            ),
            (
                &c("procMount"),
                json!("Unmasked"),
                "procMount (container \"c\" must not set securityContext.procMount to \"Unmasked\")",
            ),
            (&c("procMount"), json!("Default"), ""),
            (
                "/spec/containers/0/livenessProbe",
                json!({"httpGet": {"host": "1.2.3.4"}}),
                "probe or lifecycle host (container \"c\" uses probe or lifecycle host \"1.2.3.4\")",
            ),
            (
                "/spec/containers/0/lifecycle",
                json!({"preStop": {"tcpSocket": {"host": "b"}}, "postStart": {"httpGet": {"host": "a"}}}),
                "probe or lifecycle host (container \"c\" uses probe or lifecycle hosts \"a\", \"b\")",
            ),
            (
                "/spec/containers/0/readinessProbe",
                json!({"httpGet": {"port": 1, "host": ""}}),
                "",
            ),
            (
                "/spec/securityContext/sysctls",
                json!([{"name": "a", "value": "1"}, {"name": "kernel.shm_rmid_forced"}, {"name": "b"}]),
                "forbidden sysctls (a, b)",
            ),
            (
                "/spec/securityContext/sysctls",
                json!([{"name": "net.ipv4.tcp_rmem", "value": "1"}]),
                "",
            ),
            (
                "/spec/securityContext/windowsOptions",
                json!({"hostProcess": true}),
                "hostProcess (pod must not set securityContext.windowsOptions.hostProcess=true)",
            ),
            (
                &c("windowsOptions"),
                json!({"hostProcess": true}),
                "hostProcess (container \"c\" must not set securityContext.windowsOptions.hostProcess=true)",
            ),
        ],
    );
}

#[test]
fn baseline_requires_the_confinement_by_the_kernel() {
    let c = |field: &str| format!("{CONTEXT}/{field}");
    let annotation =
        |name: &str| format!("/metadata/annotations/container.apparmor.security.beta.kubernetes.io~1{name}");
    check(
        Level::Baseline,
        &[
            (
                "/spec/securityContext/appArmorProfile",
                json!({"type": "Unconfined"}),
                "forbidden AppArmor profile (pod must not set AppArmor profile type to \"Unconfined\")",
            ),
            (
                &c("appArmorProfile"),
                json!({"type": "Unconfined"}),
                "forbidden AppArmor profile (container \"c\" must not set AppArmor profile type to \"Unconfined\")",
            ),
            (
                &c("appArmorProfile"),
                json!({"type": "Localhost", "localhostProfile": "x"}),
                "",
            ),
            (
                &annotation("c"),
                json!("unconfined"),
                "forbidden AppArmor profile (annotation must not set AppArmor profile type to \"container.apparmor.security.beta.kubernetes.io/c=\"unconfined\"\")",
            ),
            (&annotation("c"), json!("runtime/default"), ""),
            (&annotation("c"), json!("localhost/x"), ""),
            (
                "/spec/securityContext/seLinuxOptions",
                json!({"type": "spc_t", "user": "u"}),
                "seLinuxOptions (pod set forbidden securityContext.seLinuxOptions: type \"spc_t\"; user may not be set)",
            ),
            (
                &c("seLinuxOptions"),
                json!({"role": "r"}),
                "seLinuxOptions (container \"c\" set forbidden securityContext.seLinuxOptions: role may not be set)",
            ),
            (
                &c("seLinuxOptions"),
                json!({"type": "container_engine_t", "level": "s0"}),
                "",
            ),
        ],
    );
    // In `restricted`, stricter checks replace these two.
    let unconfined = with(&c("seccompProfile"), json!({"type": "Unconfined"}));
    let expected = [
        "seccompProfile (container \"c\" must not set securityContext.seccompProfile.type to \"Unconfined\")",
    ];
    assert_eq!(found(&unconfined, Level::Baseline), expected);
    assert_eq!(found(&unconfined, Level::Restricted), expected);
    let admin = with(&c("capabilities/add"), json!(["SYS_ADMIN", "NET_RAW", "CHOWN"]));
    assert_eq!(
        found(&admin, Level::Baseline),
        [
            "non-default capabilities (container \"c\" must not include \"NET_RAW\", \"SYS_ADMIN\" in securityContext.capabilities.add)"
        ]
    );
    assert_eq!(
        found(&admin, Level::Restricted),
        [
            "unrestricted capabilities (container \"c\" must not include \"CHOWN\", \"NET_RAW\", \"SYS_ADMIN\" in securityContext.capabilities.add)"
        ]
    );
    let root = with("/spec/volumes", json!([{"name": "v", "hostPath": {"path": "/"}}]));
    assert_eq!(found(&root, Level::Baseline), ["hostPath volumes (volume \"v\")"]);
    assert_eq!(
        found(&root, Level::Restricted),
        ["restricted volume types (volume \"v\" uses restricted volume type \"hostPath\")"]
    );
}

#[test]
fn restricted_requires_a_hardened_pod() {
    let c = |field: &str| format!("{CONTEXT}/{field}");
    check(
        Level::Restricted,
        &[
            (
                &c("allowPrivilegeEscalation"),
                json!(null),
                "allowPrivilegeEscalation != false (container \"c\" must set securityContext.allowPrivilegeEscalation=false)",
            ),
            (
                &c("allowPrivilegeEscalation"),
                json!(true),
                "allowPrivilegeEscalation != false (container \"c\" must set securityContext.allowPrivilegeEscalation=false)",
            ),
            (
                &c("capabilities"),
                json!({"drop": ["CHOWN"]}),
                "unrestricted capabilities (container \"c\" must set securityContext.capabilities.drop=[\"ALL\"])",
            ),
            (
                &c("capabilities"),
                json!({"drop": ["ALL"], "add": ["NET_BIND_SERVICE"]}),
                "",
            ),
            (
                &c("capabilities"),
                json!({"add": ["CHOWN"]}),
                "unrestricted capabilities (container \"c\" must set securityContext.capabilities.drop=[\"ALL\"]; container \"c\" must not include \"CHOWN\" in securityContext.capabilities.add)",
            ),
            (
                "/spec/volumes",
                json!([{"name": "n", "nfs": {}}, {"name": "i", "image": {}}, {"name": "s", "secret": {}}]),
                "restricted volume types (volumes \"n\", \"i\" use restricted volume types \"nfs\", \"unknown\")",
            ),
            (
                "/spec/volumes",
                json!([{"name": "p", "projected": {}}, {"name": "d", "emptyDir": {}}, {"name": "v", "csi": {}}, {"name": "e", "ephemeral": {}}]),
                "",
            ),
            (
                "/spec/securityContext/runAsNonRoot",
                json!(null),
                "runAsNonRoot != true (pod or container \"c\" must set securityContext.runAsNonRoot=true)",
            ),
            (
                "/spec/securityContext/runAsNonRoot",
                json!(false),
                "runAsNonRoot != true (pod must not set securityContext.runAsNonRoot=false)",
            ),
            (
                &c("runAsNonRoot"),
                json!(false),
                "runAsNonRoot != true (container \"c\" must not set securityContext.runAsNonRoot=false)",
            ),
            (
                &c("runAsUser"),
                json!(0),
                "runAsUser=0 (container \"c\" must not set runAsUser=0)",
            ),
            (
                "/spec/securityContext/runAsUser",
                json!(0),
                "runAsUser=0 (pod must not set runAsUser=0)",
            ),
            (&c("runAsUser"), json!(7), ""),
            (
                "/spec/securityContext/seccompProfile",
                json!(null),
                "seccompProfile (pod or container \"c\" must set securityContext.seccompProfile.type to \"RuntimeDefault\" or \"Localhost\")",
            ),
            (
                &c("seccompProfile"),
                json!({"type": "Localhost", "localhostProfile": "x"}),
                "",
            ),
        ],
    );
}

#[test]
fn init_and_ephemeral_containers_are_checked_in_order() {
    let mut pod = hardened();
    let bad = json!({"name": "b", "image": "a:1"});
    for (field, name) in [("initContainers", "i"), ("ephemeralContainers", "e")] {
        pod["spec"][field] = json!([bad]);
        pod["spec"][field][0]["name"] = name.into();
    }
    pod["spec"]["containers"][0]["securityContext"] = json!(null);
    assert_eq!(
        describe(at(Level::Restricted), &violations(&pod, at(Level::Restricted))),
        "PodSecurity \"restricted:latest\": allowPrivilegeEscalation != false (containers \"i\", \"c\", \"e\" must set \
         securityContext.allowPrivilegeEscalation=false), unrestricted capabilities (containers \"i\", \"c\", \"e\" must set \
         securityContext.capabilities.drop=[\"ALL\"])"
    );
}

#[test]
fn container_can_set_what_the_pod_does_not() {
    let mut pod = hardened();
    pod["spec"]["securityContext"] = json!({});
    pod["spec"]["containers"][0]["securityContext"]["runAsNonRoot"] = true.into();
    pod["spec"]["containers"][0]["securityContext"]["seccompProfile"] = json!({"type": "RuntimeDefault"});
    assert!(found(&pod, Level::Restricted).is_empty());
}

#[test]
fn windows_pod_is_exempt_from_linux_checks() {
    let mut pod = hardened();
    pod["spec"]["os"] = json!({"name": "windows"});
    pod["spec"]["securityContext"] = json!({"runAsNonRoot": true});
    pod["spec"]["containers"][0]["securityContext"] = json!({});
    assert!(found(&pod, Level::Restricted).is_empty());
    let old = Standard {
        level: Level::Restricted,
        version: Version(Some(24)),
    };
    assert_eq!(violations(&pod, old).len(), 3);
}

#[test]
fn older_version_has_fewer_checks() {
    let mut pod = hardened();
    pod["spec"]["containers"][0]["securityContext"] =
        json!({"allowPrivilegeEscalation": false, "runAsUser": 0});
    for (minor, reasons) in [
        (21, &[][..]),
        (22, &["unrestricted capabilities"]),
        (23, &["unrestricted capabilities", "runAsUser=0"]),
    ] {
        let standard = Standard {
            level: Level::Restricted,
            version: Version(Some(minor)),
        };
        let found = violations(&pod, standard);
        let found: Vec<&str> = found.iter().map(|violation| violation.reason.as_str()).collect();
        assert_eq!(found, reasons, "{standard}");
    }
}

#[test]
fn checks_are_sorted_by_name() {
    for level in [Level::Baseline, Level::Restricted] {
        let ids: Vec<&str> = CHECKS
            .iter()
            .filter(|check| check.level == level)
            .map(|check| check.id)
            .collect();
        assert!(ids.is_sorted(), "{ids:?}");
    }
}

fn policy(labels: &Value) -> (Policy, Vec<String>) {
    let (policy, errors) = Policy::of(|label| labels[label].as_str());
    (policy, errors.iter().map(FieldError::to_string).collect())
}

#[test]
fn labels_give_levels_and_versions() {
    let (none, errors) = policy(&json!({}));
    assert_eq!(
        none,
        Policy {
            enforce: PRIVILEGED,
            warn: PRIVILEGED
        }
    );
    assert!(errors.is_empty());
    let (found, errors) = policy(&json!({
        "pod-security.kubernetes.io/enforce": "baseline", "pod-security.kubernetes.io/enforce-version": "v1.30",
        "pod-security.kubernetes.io/audit": "restricted", "pod-security.kubernetes.io/warn": "restricted",
    }));
    assert!(errors.is_empty(), "{errors:?}");
    assert_eq!(found.enforce.to_string(), "baseline:v1.30");
    assert_eq!(found.warn.to_string(), "restricted:latest");
}

#[test]
fn invalid_labels_are_rejected_and_enforced_strictly() {
    let (found, errors) = policy(&json!({
        "pod-security.kubernetes.io/enforce": "strict", "pod-security.kubernetes.io/enforce-version": "1.30",
        "pod-security.kubernetes.io/audit": "", "pod-security.kubernetes.io/audit-version": "v1.030",
        "pod-security.kubernetes.io/warn": "Baseline", "pod-security.kubernetes.io/warn-version": "v2.0",
    }));
    assert_eq!(
        errors,
        [
            "metadata.labels[pod-security.kubernetes.io/enforce]: Invalid value: \"strict\": must be one of privileged, baseline, restricted",
            "metadata.labels[pod-security.kubernetes.io/enforce-version]: Invalid value: \"1.30\": must be \"latest\" or \"v1.x\"",
            "metadata.labels[pod-security.kubernetes.io/audit]: Invalid value: \"\": must be one of privileged, baseline, restricted",
            "metadata.labels[pod-security.kubernetes.io/audit-version]: Invalid value: \"v1.030\": must be \"latest\" or \"v1.x\"",
            "metadata.labels[pod-security.kubernetes.io/warn]: Invalid value: \"Baseline\": must be one of privileged, baseline, restricted",
            "metadata.labels[pod-security.kubernetes.io/warn-version]: Invalid value: \"v2.0\": must be \"latest\" or \"v1.x\"",
        ]
    );
    assert_eq!(found.enforce, at(Level::Restricted));
    assert_eq!(found.warn.level, Level::Privileged);
}

#[test]
fn updates_of_images_or_containers_are_significant() {
    let old = hardened();
    for (pointer, value, counts) in [
        ("/metadata/labels/a", json!("b"), false),
        ("/spec/activeDeadlineSeconds", json!(5), false),
        ("/spec/containers/0/image", json!("b:1"), true),
        (
            "/spec/ephemeralContainers",
            json!([{"name": "e", "image": "a:1"}]),
            true,
        ),
        (
            "/metadata/annotations/seccomp.security.alpha.kubernetes.io~1pod",
            json!("unconfined"),
            true,
        ),
    ] {
        let new = with(pointer, value);
        assert_eq!(is_significant_update(&new, &old), counts, "{pointer}");
    }
}

#[test]
fn existing_pods_are_grouped_by_violations() {
    let violation = |reason: &str| Violation {
        reason: reason.to_owned(),
        detail: String::new(),
    };
    let found = [
        ("b".to_owned(), vec![violation("privileged")]),
        ("a".to_owned(), vec![violation("privileged")]),
        (
            "c".to_owned(),
            vec![violation("hostPort"), violation("privileged")],
        ),
        ("d".to_owned(), vec![violation("privileged")]),
    ];
    assert_eq!(
        describe_existing("team", at(Level::Baseline), (4, 9), &found),
        [
            "new PodSecurity enforce level only checked against the first 4 of 9 existing pods",
            "existing pods in namespace \"team\" violate the new PodSecurity enforce level \"baseline:latest\"",
            "a (and 2 other pods): privileged",
            "c: hostPort, privileged",
        ]
    );
    assert!(describe_existing("team", at(Level::Baseline), (4, 4), &[]).is_empty());
}

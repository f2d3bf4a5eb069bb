//! Validation of a pod's operating system, confinement, hostname and restart rules.

use super::pod_spec::{check, check_container};
use super::*;
use crate::kinds::core::pod::KIND;

const NONE: [&str; 0] = [];

/// Validates a pod with these annotations.
fn annotated(annotations: Value) -> Vec<String> {
    let pod = json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {"name": "x", "namespace": "d", "annotations": annotations},
        "spec": {"containers": [{"name": "a", "image": "a"}]},
    });
    create(&KIND, &pod.to_string()).1
}

#[test]
fn unmasked_proc_needs_a_user_namespace() {
    assert_eq!(
        check_container("securityContext: {procMount: Unmasked}"),
        [
            "spec.containers[0].securityContext.procMount: Invalid value: \"Unmasked\": `hostUsers` must be false to use `Unmasked`"
        ]
    );
    assert_eq!(
        check("hostUsers: false\ncontainers: [{name: a, image: a, securityContext: {procMount: Unmasked}}]"),
        NONE
    );
}

#[test]
fn pod_has_no_fields_of_another_operating_system() {
    assert_eq!(
        check(
            "os: {name: windows}\nhostPID: true\nhostIPC: false\nsecurityContext: {runAsUser: 1, sysctls: []}\n\
             containers: [{name: a, image: a, securityContext: {runAsUser: 1, privileged: false}}]"
        ),
        [
            "spec.securityContext.runAsUser: Forbidden: cannot be set for a windows pod",
            "spec.hostPID: Forbidden: cannot be set for a windows pod",
            "spec.containers[0].securityContext.privileged: Forbidden: cannot be set for a windows pod",
            "spec.containers[0].securityContext.runAsUser: Forbidden: cannot be set for a windows pod",
        ]
    );
    assert_eq!(
        check("os: {name: linux}\nsecurityContext: {runAsUser: 1, windowsOptions: {hostProcess: true}}"),
        ["spec.securityContext.windowsOptions: Forbidden: windows options cannot be set for a linux pod"]
    );
    assert_eq!(check("os: {name: linux}\nsecurityContext: {runAsUser: 1}"), NONE);
}

#[test]
fn annotations_name_existing_containers_and_profiles() {
    const PREFIX: &str = "container.apparmor.security.beta.kubernetes.io/";
    let profile =
        |container: &str, profile: &str| annotated(json!({format!("{PREFIX}{container}"): profile}));
    for good in ["", "runtime/default", "unconfined", "localhost/x"] {
        assert_eq!(profile("a", good), NONE, "{good}");
    }
    assert_eq!(
        profile("b", "unconfined"),
        [format!(
            "metadata.annotations[{PREFIX}b]: Invalid value: \"b\": container not found"
        )]
    );
    assert_eq!(
        profile("a", "odd"),
        [format!(
            "metadata.annotations[{PREFIX}a]: Invalid value: \"odd\": invalid AppArmor profile name: \"odd\""
        )]
    );
    assert_eq!(
        annotated(json!({"kubernetes.io/config.mirror": "x"})),
        [
            "metadata.annotations[kubernetes.io/config.mirror]: Invalid value: \"x\": must set spec.nodeName if mirror pod annotation is set"
        ]
    );
    let cost = |cost: &str| annotated(json!({"controller.kubernetes.io/pod-deletion-cost": cost}));
    for good in ["0", "-1", "2147483647"] {
        assert_eq!(cost(good), NONE, "{good}");
    }
    for bad in ["", "+1", "01", "2147483648", "a"] {
        assert_eq!(
            cost(bad),
            [format!(
                "metadata.annotations[controller.kubernetes.io/pod-deletion-cost]: Invalid value: \"{bad}\": must be a 32bit integer"
            )]
        );
    }
}

#[test]
fn hostname_override_excludes_other_hostname_fields() {
    assert_eq!(check("hostnameOverride: a.b"), NONE);
    assert_eq!(
        check("hostnameOverride: a.b\nsetHostnameAsFQDN: true\nhostNetwork: true"),
        [
            "spec.hostnameOverride: Forbidden: may not be set when `hostNetwork` is true",
            "spec.hostnameOverride: Forbidden: may not be set when `setHostnameAsFQDN` is true",
        ]
    );
    let long = format!("hostnameOverride: {}", ["a"; 33].join("."));
    assert_eq!(
        check(&long),
        ["spec.hostnameOverride: Too long: may not be more than 64 bytes"]
    );
}

#[test]
fn containers_can_have_restart_policies_and_rules() {
    for policy in ["Always", "OnFailure", "Never"] {
        assert_eq!(
            check_container(&format!("restartPolicy: {policy}")),
            NONE,
            "{policy}"
        );
    }
    let rule = "{action: Restart, exitCodes: {operator: In, values: [42]}}";
    assert_eq!(
        check_container(&format!("restartPolicy: Never, restartPolicyRules: [{rule}]")),
        NONE
    );
    for (fields, complaints) in [
        (
            "restartPolicy: Sometimes".to_owned(),
            &["restartPolicy: Unsupported value: \"Sometimes\": supported values: \"Always\", \"Never\", \"OnFailure\""][..],
        ),
        (
            format!("restartPolicyRules: [{rule}]"),
            &["restartPolicy: Required value: must specify restartPolicy when restart rules are used"],
        ),
        (
            "restartPolicy: Never, restartPolicyRules: [{action: Stop}, {action: Restart, exitCodes: {operator: Is}}]".to_owned(),
            &[
                "restartPolicyRules[0].action: Unsupported value: \"Stop\": supported values: \"Restart\"",
                "restartPolicyRules[0].exitCodes: Required value: must be specified",
                "restartPolicyRules[1].exitCodes.operator: Unsupported value: \"Is\": supported values: \"In\", \"NotIn\"",
            ],
        ),
        (
            format!("restartPolicy: Never, restartPolicyRules: [{}]", [rule; 21].join(", ")),
            &["restartPolicyRules: Too many: 21: must have at most 20 items"],
        ),
        (
            format!(
                "restartPolicy: Never, restartPolicyRules: [{{action: Restart, exitCodes: {{operator: In, values: {:?}}}}}]",
                [1; 256]
            ),
            &["restartPolicyRules[0].exitCodes.values: Too many: 256: must have at most 255 items"],
        ),
    ] {
        let expected: Vec<String> = complaints
            .iter()
            .map(|complaint| format!("spec.containers[0].{complaint}"))
            .collect();
        assert_eq!(check_container(&fields), expected, "{fields}");
    }
}

use super::*;
use crate::kinds::core::pod::KIND;

/// Validates a pod with this spec in YAML, and with a valid container unless the spec has
/// containers.
pub(super) fn check(spec: &str) -> Vec<String> {
    let containers = if spec.contains("\ncontainers:") || spec.starts_with("containers:") {
        ""
    } else {
        "containers: [{name: a, image: a}]\n"
    };
    let body: String = format!("{containers}{spec}")
        .lines()
        .map(|line| format!("  {line}\n"))
        .collect();
    create(
        &KIND,
        &format!("apiVersion: v1\nkind: Pod\nmetadata: {{name: x, namespace: d}}\nspec:\n{body}"),
    )
    .1
}

/// Validates a pod with one container, which has these further fields (YAML flow style).
pub(super) fn check_container(fields: &str) -> Vec<String> {
    check(&format!(
        "volumes: [{{name: v, emptyDir: {{}}}}]\ncontainers:\n- {{name: a, image: a, {fields}}}"
    ))
}

const NONE: [&str; 0] = [];

#[test]
fn pod_needs_containers_with_names_and_images() {
    assert_eq!(check("containers: []"), ["spec.containers: Required value"]);
    assert_eq!(
        check("containers: [{}]"),
        [
            "spec.containers[0].name: Required value",
            "spec.containers[0].image: Required value"
        ]
    );
    let errors = check("containers: [{name: A, image: a}]");
    assert!(
        errors[0].starts_with("spec.containers[0].name: Invalid value: \"A\": a lowercase RFC 1123 label"),
        "{errors:?}"
    );
    assert_eq!(
        check("containers: [{name: a, image: a}, {name: a, image: a}]"),
        ["spec.containers[1].name: Duplicate value: \"a\""]
    );
    assert_eq!(
        check("containers: [{name: a, image: ' a'}]"),
        ["spec.containers[0].image: Invalid value: \" a\": must not have leading or trailing whitespace"]
    );
}

#[test]
fn ports_have_numbers_names_and_protocols() {
    assert_eq!(check_container("ports: [{containerPort: 80, name: http}]"), NONE);
    assert_eq!(
        check_container("ports: [{containerPort: 0}, {containerPort: 70000, hostPort: -1, protocol: ICMP}]"),
        [
            "spec.containers[0].ports[0].containerPort: Required value",
            "spec.containers[0].ports[1].containerPort: Invalid value: 70000: must be between 1 and 65535, inclusive",
            "spec.containers[0].ports[1].hostPort: Invalid value: -1: must be between 1 and 65535, inclusive",
            "spec.containers[0].ports[1].protocol: Unsupported value: \"ICMP\": supported values: \"SCTP\", \"TCP\", \"UDP\"",
        ]
    );
    assert_eq!(
        check_container("ports: [{containerPort: 1, name: a}, {containerPort: 2, name: a}]"),
        ["spec.containers[0].ports[1].name: Duplicate value: \"a\""]
    );
}

#[test]
fn host_port_is_unique_in_a_pod() {
    let two = |first: &str, second: &str| {
        check(&format!(
            "containers:\n- {{name: a, image: a, ports: [{{containerPort: 1, {first}}}]}}\n- {{name: b, image: b, ports: [{{containerPort: 2, {second}}}]}}"
        ))
    };
    assert_eq!(
        two("hostPort: 80", "hostPort: 80"),
        ["spec.containers[1].ports[0].hostPort: Duplicate value: \"TCP//80\""]
    );
    assert_eq!(two("hostPort: 80", "hostPort: 80, protocol: UDP"), NONE);
    assert_eq!(two("hostPort: 80", "hostPort: 80, hostIP: 10.0.0.1"), NONE);
}

#[test]
fn variables_have_names_and_one_source() {
    assert_eq!(
        check_container(
            "env: [{name: A, value: b}, {name: B, valueFrom: {fieldRef: {fieldPath: spec.nodeName}}}]"
        ),
        NONE
    );
    assert_eq!(
        check_container("env: [{name: ''}]"),
        ["spec.containers[0].env[0].name: Required value"]
    );
    let errors = check_container("env: [{name: A=B}]");
    assert!(
        errors[0].starts_with("spec.containers[0].env[0].name: Invalid value: \"A=B\": a valid environment"),
        "{errors:?}"
    );
    assert_eq!(
        check_container("env: [{name: A, valueFrom: {}}]"),
        [
            "spec.containers[0].env[0].valueFrom: Invalid value: \"\": must specify one of: `fieldRef`, `resourceFieldRef`, `configMapKeyRef` or `secretKeyRef`"
        ]
    );
    assert_eq!(
        check_container("env: [{name: A, value: x, valueFrom: {fieldRef: {fieldPath: metadata.name}}}]"),
        [
            "spec.containers[0].env[0].valueFrom: Invalid value: \"\": may not be specified when `value` is not empty"
        ]
    );
    assert_eq!(
        check_container("env: [{name: A, valueFrom: {configMapKeyRef: {name: c, key: a/b}}}]")[0],
        "spec.containers[0].env[0].valueFrom.configMapKeyRef.key: Invalid value: \"a/b\": a valid config key must consist of alphanumeric characters, '-', '_' or '.' (e.g. 'key.name',  or 'KEY_NAME',  or 'key-name', regex used for validation is '[-._a-zA-Z0-9]+')"
    );
    assert_eq!(
        check_container("envFrom: [{}]"),
        [
            "spec.containers[0].envFrom: Invalid value: \"\": must specify one of: `configMapRef` or `secretRef`"
        ]
    );
}

#[test]
fn downward_api_accepts_known_fields() {
    let field = |path: &str| {
        check_container(&format!(
            "env: [{{name: A, valueFrom: {{fieldRef: {{fieldPath: \"{path}\"}}}}}}]"
        ))
    };
    for path in [
        "metadata.name",
        "status.podIP",
        "metadata.labels['a/b']",
        "metadata.annotations['B']",
    ] {
        assert_eq!(field(path), NONE, "{path}");
    }
    assert_eq!(
        field("spec.nothing"),
        [
            "spec.containers[0].env[0].valueFrom.fieldRef.fieldPath: Invalid value: \"spec.nothing\": error converting fieldPath: field label not supported: spec.nothing"
        ]
    );
    assert!(field("status.phase")[0].starts_with(
        "spec.containers[0].env[0].valueFrom.fieldRef.fieldPath: Unsupported value: \"status.phase\""
    ));
    assert_eq!(
        check_container(
            "env: [{name: A, valueFrom: {resourceFieldRef: {resource: limits.cpu, divisor: 2}}}]"
        ),
        [
            "spec.containers[0].env[0].valueFrom.resourceFieldRef.divisor: Invalid value: \"limits.cpu\": only divisor's values 1m and 1 are supported with the cpu resource"
        ]
    );
}

#[test]
fn mounts_need_a_volume_and_a_unique_path() {
    assert_eq!(
        check_container("volumeMounts: [{name: v, mountPath: /a, subPath: b/c}]"),
        NONE
    );
    assert_eq!(
        check_container("volumeMounts: [{name: w, mountPath: ''}, {name: v, mountPath: ''}]"),
        [
            "spec.containers[0].volumeMounts[0].name: Not found: \"w\"",
            "spec.containers[0].volumeMounts[0].mountPath: Required value",
            "spec.containers[0].volumeMounts[1].mountPath: Required value",
            "spec.containers[0].volumeMounts[1].mountPath: Invalid value: \"\": must be unique",
        ]
    );
    assert_eq!(
        check_container("volumeMounts: [{name: v, mountPath: /a, subPath: ../b}]"),
        ["spec.containers[0].volumeMounts.subPath: Invalid value: \"../b\": must not contain '..'"]
    );
    assert_eq!(
        check_container("volumeMounts: [{name: v, mountPath: /a, mountPropagation: Bidirectional}]"),
        [
            "spec.containers[0].volumeMounts.mountPropagation: Forbidden: Bidirectional mount propagation is available only to privileged containers"
        ]
    );
}

#[test]
fn volume_has_one_source_and_a_unique_name() {
    assert_eq!(
        check("volumes: [{name: v, emptyDir: {}, hostPath: {path: /}}, {name: v}]"),
        [
            "spec.volumes[0].hostPath: Forbidden: may not specify more than 1 volume type",
            "spec.volumes[1].name: Duplicate value: \"v\"",
        ]
    );
    assert_eq!(
        check("volumes: [{emptyDir: {}}]"),
        ["spec.volumes[0].name: Required value"]
    );
}

#[test]
fn volume_sources_have_required_fields() {
    let cases = [
        (
            "hostPath: {path: ''}",
            "spec.volumes[0].hostPath.path: Required value",
        ),
        (
            "hostPath: {path: /a/../b}",
            "spec.volumes[0].hostPath.path: Invalid value: \"/a/../b\": must not contain '..'",
        ),
        (
            "hostPath: {path: /, type: Dir}",
            "spec.volumes[0].hostPath.type: Unsupported value: \"Dir\": supported values: \"\", \"BlockDevice\", \"CharDevice\", \"Directory\", \"DirectoryOrCreate\", \"File\", \"FileOrCreate\", \"Socket\"",
        ),
        ("secret: {}", "spec.volumes[0].secret.secretName: Required value"),
        ("configMap: {}", "spec.volumes[0].configMap.name: Required value"),
        (
            "configMap: {name: c, defaultMode: 4095}",
            "spec.volumes[0].configMap.defaultMode: Invalid value: 4095: must be a number between 0 and 0777 (octal), both inclusive",
        ),
        (
            "secret: {secretName: s, items: [{key: k, path: /k}]}",
            "spec.volumes[0].secret.items[0].path: Invalid value: \"/k\": must be a relative path",
        ),
        (
            "downwardAPI: {items: [{path: a}]}",
            "spec.volumes[0].downwardAPI.items[0]: Required value: one of fieldRef and resourceFieldRef is required",
        ),
        (
            "projected: {sources: [{}]}",
            "spec.volumes[0].projected.sources[0]: Required value: must specify a volume type",
        ),
        (
            "persistentVolumeClaim: {claimName: ''}",
            "spec.volumes[0].persistentVolumeClaim.claimName: Required value",
        ),
    ];
    for (source, expected) in cases {
        assert_eq!(
            check(&format!("volumes: [{{name: v, {source}}}]")),
            [expected],
            "{source}"
        );
    }
}

#[test]
fn projected_token_needs_ten_minutes_and_an_account() {
    let token = |seconds: i64| {
        check(&format!(
            "serviceAccountName: s\nvolumes: [{{name: v, projected: {{sources: [{{serviceAccountToken: {{path: t, expirationSeconds: {seconds}}}}}]}}}}]"
        ))
    };
    assert_eq!(token(600), NONE);
    assert_eq!(
        token(599),
        [
            "spec.volumes[0].projected.sources[0].serviceAccountToken.expirationSeconds: Invalid value: 599: may not specify a duration less than 10 minutes"
        ]
    );
    assert_eq!(
        check("volumes: [{name: v, projected: {sources: [{serviceAccountToken: {path: t}}]}}]"),
        [
            "spec.volumes[0].projected.sources[0].serviceAccountToken: Forbidden: must not be specified when serviceAccountName is not set"
        ]
    );
}

#[test]
fn requests_stay_within_limits() {
    assert_eq!(
        check_container("resources: {limits: {cpu: 1}, requests: {cpu: 500m}}"),
        NONE
    );
    assert_eq!(
        check_container("resources: {limits: {cpu: 500m}, requests: {cpu: 1}}"),
        [
            "spec.containers[0].resources.requests: Invalid value: \"1\": must be less than or equal to cpu limit of 500m"
        ]
    );
    assert_eq!(
        check_container("resources: {requests: {memory: -1}}"),
        [
            "spec.containers[0].resources.requests[memory]: Invalid value: \"-1\": must be greater than or equal to 0"
        ]
    );
    assert_eq!(
        check_container("resources: {requests: {disk: 1}}"),
        [
            "spec.containers[0].resources.requests: Invalid value: \"disk\": must be a standard resource for containers",
            "spec.containers[0].resources.limits: Required value: Limit must be set for non overcommitable resources",
        ]
    );
    assert_eq!(
        check_container("resources: {requests: {example.com/x: 1}}"),
        [
            "spec.containers[0].resources.limits: Required value: Limit must be set for non overcommitable resources"
        ]
    );
}

#[test]
fn probes_have_one_handler_and_valid_numbers() {
    assert_eq!(check_container("livenessProbe: {httpGet: {port: 80}}"), NONE);
    assert_eq!(
        check_container("livenessProbe: {}"),
        ["spec.containers[0].livenessProbe: Required value: must specify a handler type"]
    );
    assert_eq!(
        check_container("livenessProbe: {exec: {command: [a]}, tcpSocket: {port: 1}}"),
        ["spec.containers[0].livenessProbe.tcpSocket: Forbidden: may not specify more than 1 handler type"]
    );
    assert_eq!(
        check_container("livenessProbe: {exec: {}, periodSeconds: -1, successThreshold: 2}"),
        [
            "spec.containers[0].livenessProbe.exec.command: Required value",
            "spec.containers[0].livenessProbe.periodSeconds: Invalid value: -1: must be greater than or equal to 0",
            "spec.containers[0].livenessProbe.successThreshold: Invalid value: 2: must be 1",
        ]
    );
    assert_eq!(
        check_container("readinessProbe: {tcpSocket: {port: 0}, terminationGracePeriodSeconds: 5}"),
        [
            "spec.containers[0].readinessProbe.tcpSocket.port: Invalid value: 0: must be between 1 and 65535, inclusive",
            "spec.containers[0].readinessProbe.terminationGracePeriodSeconds: Invalid value: 5: must not be set for readinessProbes",
        ]
    );
    assert_eq!(
        check_container("lifecycle: {preStop: {sleep: {seconds: 31}}}"),
        [
            "spec.containers[0].lifecycle.preStop.sleep: Invalid value: 31: must be non-negative and less than terminationGracePeriodSeconds (30)"
        ]
    );
}

#[test]
fn init_containers_have_no_probes_unless_sidecars() {
    assert_eq!(
        check(
            "initContainers: [{name: i, image: i, restartPolicy: Always, livenessProbe: {exec: {command: [a]}}}]"
        ),
        NONE
    );
    assert_eq!(
        check("initContainers: [{name: a, image: i, livenessProbe: {exec: {command: [a]}}}]"),
        [
            "spec.initContainers[0].name: Duplicate value: \"a\"",
            "spec.initContainers[0].livenessProbe: Forbidden: may not be set for init containers without restartPolicy=Always",
        ]
    );
    assert_eq!(
        check("initContainers: [{name: i, image: i, restartPolicy: Never}]"),
        NONE
    );
}

#[test]
fn policies_have_fixed_sets_of_values() {
    assert_eq!(
        check("restartPolicy: Sometimes\ndnsPolicy: Odd"),
        [
            "spec.restartPolicy: Unsupported value: \"Sometimes\": supported values: \"Always\", \"OnFailure\", \"Never\"",
            "spec.dnsPolicy: Unsupported value: \"Odd\": supported values: \"ClusterFirstWithHostNet\", \"ClusterFirst\", \"Default\", \"None\"",
        ]
    );
    assert_eq!(
        check_container("imagePullPolicy: Maybe"),
        [
            "spec.containers[0].imagePullPolicy: Unsupported value: \"Maybe\": supported values: \"Always\", \"IfNotPresent\", \"Never\""
        ]
    );
    assert_eq!(
        check("dnsPolicy: None"),
        ["spec.dnsConfig: Required value: must provide `dnsConfig` when `dnsPolicy` is None"]
    );
}

#[test]
fn security_contexts_have_no_contradictions() {
    assert_eq!(
        check_container(
            "securityContext: {privileged: true, runAsUser: 0, capabilities: {add: [NET_ADMIN]}}"
        ),
        NONE
    );
    assert_eq!(
        check_container("securityContext: {privileged: true, allowPrivilegeEscalation: false}"),
        [
            "spec.containers[0].securityContext: Invalid value: {\"allowPrivilegeEscalation\":false,\"privileged\":true}: cannot set `allowPrivilegeEscalation` to false and `privileged` to true"
        ]
    );
    assert_eq!(
        check_container("securityContext: {runAsUser: -1, seccompProfile: {type: Localhost}}"),
        [
            "spec.containers[0].securityContext.runAsUser: Invalid value: -1: must be between 0 and 4294967295, inclusive",
            "spec.containers[0].securityContext.seccompProfile.localhostProfile: Required value: must be set when seccomp type is Localhost",
        ]
    );
    assert_eq!(
        check("hostPID: true\nshareProcessNamespace: true"),
        [
            "spec.securityContext.shareProcessNamespace: Invalid value: true: ShareProcessNamespace and HostPID cannot both be enabled"
        ]
    );
    assert_eq!(
        check("hostNetwork: true\nsecurityContext: {sysctls: [{name: net.ipv4.tcp_syncookies, value: '1'}]}"),
        [
            "spec.securityContext.sysctls[0].name: Invalid value: \"net.ipv4.tcp_syncookies\": may not be specified when 'hostNetwork' is true"
        ]
    );
    assert_eq!(
        check("hostNetwork: true\nsecurityContext: {sysctls: [{name: net/ipv4/tcp_syncookies, value: '1'}]}"),
        [
            "spec.securityContext.sysctls[0].name: Invalid value: \"net/ipv4/tcp_syncookies\": may not be specified when 'hostNetwork' is true"
        ]
    );
    assert_eq!(
        check(
            "hostIPC: true\nsecurityContext: {sysctls: [{name: kernel/shmmax, value: '1'}, {name: vm.swappiness, value: '1'}]}"
        ),
        [
            "spec.securityContext.sysctls[0].name: Invalid value: \"kernel/shmmax\": may not be specified when 'hostIPC' is true"
        ]
    );
}

#[test]
fn tolerations_are_well_formed() {
    let good = "tolerations: [{operator: Exists}, {key: a, value: b, effect: NoSchedule}, {key: a, operator: Exists, effect: NoExecute, tolerationSeconds: 5}]";
    assert_eq!(check(good), NONE);
    let cases = [
        (
            "{key: a b, operator: Exists}",
            "spec.tolerations[0].key: Invalid value: \"a b\": name part must consist",
        ),
        (
            "{value: b}",
            "spec.tolerations[0].operator: Invalid value: \"\": operator must be Exists when `key` is empty, which means \"match all values and all keys\"",
        ),
        (
            "{key: a, operator: Exists, effect: NoSchedule, tolerationSeconds: 5}",
            "spec.tolerations[0].effect: Invalid value: \"NoSchedule\": effect must be 'NoExecute' when `tolerationSeconds` is set",
        ),
        (
            "{key: a, operator: Exists, value: b}",
            "spec.tolerations[0].operator: Invalid value: \"b\": value must be empty when `operator` is 'Exists'",
        ),
        (
            "{key: a, operator: Gt}",
            "spec.tolerations[0].operator: Unsupported value: \"Gt\": supported values: \"Equal\", \"Exists\"",
        ),
        (
            "{key: a, operator: Exists, effect: Never}",
            "spec.tolerations[0].effect: Unsupported value: \"Never\": supported values: \"NoSchedule\", \"PreferNoSchedule\", \"NoExecute\"",
        ),
    ];
    for (toleration, expected) in cases {
        let errors = check(&format!("tolerations: [{toleration}]"));
        assert_eq!(errors.len(), 1, "{errors:?}");
        assert!(errors[0].starts_with(expected), "{errors:?}");
    }
}

fn check_node_affinity(required: &str) -> Vec<String> {
    check(&format!(
        "affinity: {{nodeAffinity: {{requiredDuringSchedulingIgnoredDuringExecution: {required}}}}}"
    ))
}

#[test]
fn node_affinity_has_terms_with_valid_values() {
    let path = "spec.affinity.nodeAffinity.requiredDuringSchedulingIgnoredDuringExecution.nodeSelectorTerms";
    let term = |term: &str| check_node_affinity(&format!("{{nodeSelectorTerms: [{term}]}}"));
    assert_eq!(
        term("{matchFields: [{key: metadata.name, operator: In, values: [n1]}]}"),
        NONE
    );
    assert_eq!(
        term("{matchExpressions: [{key: a, operator: Gt, values: ['1']}]}"),
        NONE
    );
    assert_eq!(
        check_node_affinity("{nodeSelectorTerms: []}"),
        [format!(
            "{path}: Required value: must have at least one node selector term"
        )]
    );
    assert_eq!(
        term("{matchFields: [{key: metadata.name, operator: In, values: [n1, n2]}]}"),
        [format!(
            "{path}[0].matchFields[0].values: Required value: must be only one value when `operator` is 'In' or 'NotIn' for node field selector"
        )]
    );
    assert_eq!(
        term("{matchFields: [{key: spec.x, operator: Exists}]}"),
        [
            format!(
                "{path}[0].matchFields[0].operator: Invalid value: \"Exists\": not a valid selector operator"
            ),
            format!(
                "{path}[0].matchFields[0].key: Invalid value: \"spec.x\": not a valid field selector key"
            ),
        ]
    );
    assert_eq!(
        term(
            "{matchExpressions: [{key: a, operator: In}, {key: a, operator: Lt, values: ['1', '2']}, {key: a, operator: Exists, values: [b]}]}"
        ),
        [
            format!(
                "{path}[0].matchExpressions[0].values: Required value: must be specified when `operator` is 'In' or 'NotIn'"
            ),
            format!(
                "{path}[0].matchExpressions[1].values: Required value: must be specified single value when `operator` is 'Lt' or 'Gt'"
            ),
            format!(
                "{path}[0].matchExpressions[2].values: Forbidden: may not be specified when `operator` is 'Exists' or 'DoesNotExist'"
            ),
        ]
    );
}

#[test]
fn pod_affinity_needs_a_topology() {
    assert_eq!(
        check(
            "affinity: {podAntiAffinity: {preferredDuringSchedulingIgnoredDuringExecution: [{weight: 101, podAffinityTerm: {topologyKey: a}}]}}"
        ),
        [
            "spec.affinity.podAntiAffinity.preferredDuringSchedulingIgnoredDuringExecution[0].weight: Invalid value: 101: must be in the range 1-100"
        ]
    );
    let errors = check(
        "affinity: {podAffinity: {requiredDuringSchedulingIgnoredDuringExecution: [{topologyKey: ''}]}}",
    );
    assert_eq!(
        errors[0],
        "spec.affinity.podAffinity.requiredDuringSchedulingIgnoredDuringExecution[0].topologyKey: Required value: can not be empty"
    );
}

#[test]
fn other_fields_are_validated() {
    assert_eq!(
        check("activeDeadlineSeconds: 0"),
        ["spec.activeDeadlineSeconds: Invalid value: 0: must be between 1 and 2147483647, inclusive"]
    );
    assert_eq!(
        check("hostname: a.b"),
        ["spec.hostname: Invalid value: \"a.b\": must not contain dots"]
    );
    assert!(
        check("nodeName: A")[0]
            .starts_with("spec.nodeName: Invalid value: \"A\": a lowercase RFC 1123 subdomain")
    );
    assert!(
        check("hostAliases: [{ip: x, hostnames: [a]}]")[0]
            .starts_with("spec.hostAliases[0].ip: Invalid value: \"x\": must be a valid IP address")
    );
    assert_eq!(
        check("schedulingGates: [{name: a}, {name: a}]"),
        ["spec.schedulingGates[1]: Duplicate value: \"a\""]
    );
    assert_eq!(
        check("nodeName: n1\nschedulingGates: [{name: a}]"),
        ["spec.nodeName: Forbidden: cannot be set until all schedulingGates have been cleared"]
    );
    assert_eq!(
        check("hostUsers: false\nhostNetwork: true"),
        ["spec.hostNetwork: Forbidden: when `pod.Spec.HostUsers` is false"]
    );
}

#[test]
fn host_network_ports_are_ports_of_the_host() {
    let (object, errors) = create(
        &KIND,
        "{apiVersion: v1, kind: Pod, metadata: {name: x, namespace: d}, spec: {hostNetwork: true, containers: [{name: a, image: a, ports: [{containerPort: 80}]}]}}",
    );
    assert_eq!(errors, NONE);
    assert_eq!(object["spec"]["containers"][0]["ports"][0]["hostPort"], 80);
    assert_eq!(
        check(
            "hostNetwork: true\ncontainers: [{name: a, image: a, ports: [{containerPort: 80, hostPort: 81}]}]"
        ),
        [
            "spec.containers[0].ports[0].hostPort: Invalid value: 81: must match `containerPort` when `hostNetwork` is true"
        ]
    );
}

#[test]
fn repeated_or_unknown_values_of_a_pod_are_rejected() {
    let block = "volumes: [{name: v, persistentVolumeClaim: {claimName: c}}, {name: w, persistentVolumeClaim: {claimName: c}}]\ncontainers:\n- {name: a, image: a, ";
    for (spec, wrong) in [
        (
            "dnsConfig: {searches: [\"a\\nnameserver 192.0.2.1\"]}".to_owned(),
            "spec.dnsConfig.searches[0]: Invalid value",
        ),
        ("dnsConfig: {searches: [A.example]}".to_owned(), "spec.dnsConfig.searches[0]: Invalid value"),
        (
            "securityContext: {seLinuxChangePolicy: x}".to_owned(),
            "spec.securityContext.seLinuxChangePolicy: Unsupported value: \"x\"",
        ),
        (
            "containers: [{name: a, image: a, resizePolicy: [{resourceName: cpu, restartPolicy: NotRequired}, {resourceName: cpu, restartPolicy: NotRequired}]}]".to_owned(),
            "spec.containers[0].resizePolicy: Duplicate value: \"cpu\"",
        ),
        (
            format!("{block}volumeDevices: [{{name: v, devicePath: /d}}, {{name: v, devicePath: /e}}]}}"),
            "spec.containers[0].volumeDevices[1].name: Invalid value: \"v\": must be unique",
        ),
        (
            format!("{block}volumeDevices: [{{name: v, devicePath: /d}}, {{name: w, devicePath: /d}}]}}"),
            "spec.containers[0].volumeDevices[1].devicePath: Invalid value: \"/d\": must be unique",
        ),
        (
            format!("{block}volumeDevices: [{{name: v, devicePath: /dev/../d}}]}}"),
            "can not contain backsteps",
        ),
        (
            format!("{block}volumeDevices: [{{name: v, devicePath: /d}}], volumeMounts: [{{name: w, mountPath: /d}}]}}"),
            "must not already exist as a path in volumeDevices",
        ),
    ] {
        let errors = check(&spec);
        assert!(errors.iter().any(|error| error.contains(wrong)), "{spec}: {errors:?}");
    }
    for spec in [
        "dnsConfig: {searches: [example.com., _tcp.a_b.example, .]}",
        "securityContext: {seLinuxChangePolicy: Recursive}",
    ] {
        assert_eq!(check(spec), NONE, "{spec}");
    }
}

#[test]
fn resources_of_containers_fit_into_those_of_the_pod() {
    let pod = |resources: &str, containers: &str| {
        check(&format!("resources: {resources}\ncontainers: {containers}"))
    };
    let two = |which: &str| {
        format!(
            "[{{name: a, image: a, resources: {{{which}: {{cpu: 1}}}}}}, {{name: b, image: b, resources: {{{which}: {{cpu: 1}}}}}}]"
        )
    };
    assert_eq!(pod("{requests: {cpu: 2}}", &two("requests")), NONE);
    assert_eq!(
        pod("{requests: {cpu: 1500m}}", &two("requests")),
        [
            "spec.resources.requests[cpu]: Invalid value: \"1500m\": must be greater than or equal to aggregate container requests of 2"
        ]
    );
    assert_eq!(
        pod(
            "{limits: {cpu: 500m}, requests: {cpu: 500m}}",
            "[{name: a, image: a, resources: {limits: {cpu: 1}, requests: {cpu: 100m}}}]"
        ),
        [
            "spec.resources.containers[0][cpu].limits: Invalid value: \"1\": must be less than or equal to pod limits of 500m"
        ]
    );
}

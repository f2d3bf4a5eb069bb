use super::*;
use crate::kinds::core::{config_map, endpoints, event, namespace, secret};
use crate::kinds::{coordination, discovery, events, policy, rbac, reviews, scheduling};

/// Validates an object of `kind` named `x` in `d` with further fields (YAML flow style).
fn check(kind: &Kind, fields: &str) -> Vec<String> {
    made(kind, fields).1
}

fn made(kind: &Kind, fields: &str) -> (Value, Vec<String>) {
    let namespace = if kind.namespaced { ", namespace: d" } else { "" };
    let comma = if fields.is_empty() { "" } else { ", " };
    create(
        kind,
        &format!(
            "{{apiVersion: {}, kind: {}, metadata: {{name: x{namespace}}}{comma}{fields}}}",
            kind.api_version(),
            kind.kind
        ),
    )
}

const NONE: [&str; 0] = [];

#[test]
fn config_map_has_valid_keys_and_a_limited_size() {
    assert_eq!(check(&config_map::KIND, "data: {a.txt: x}"), NONE);
    assert!(
        check(&config_map::KIND, "data: {a/b: x}")[0]
            .starts_with("data[a/b]: Invalid value: \"a/b\": a valid config key")
    );
    assert_eq!(
        check(&config_map::KIND, "data: {a: x}, binaryData: {a: eA==}"),
        ["data[a]: Invalid value: \"a\": duplicate of key present in binaryData"]
    );
    let large = "x".repeat(1024 * 1024 + 1);
    assert_eq!(
        check(&config_map::KIND, &format!("data: {{a: {large}}}")),
        ["[]: Too long: may not be more than 1048576 bytes"]
    );
}

#[test]
fn immutable_data_cannot_change() {
    let (old, _) = made(&config_map::KIND, "immutable: true, data: {a: x}");
    let (_, errors) = update(&config_map::KIND, &old, |o| {
        o["immutable"] = json!(false);
        o["data"] = json!({});
    });
    assert_eq!(
        errors,
        [
            "immutable: Forbidden: field is immutable when `immutable` is set",
            "data: Forbidden: field is immutable when `immutable` is set",
        ]
    );
}

#[test]
fn secret_encodes_its_string_data() {
    let (object, errors) = made(&secret::KIND, "data: {a: eA==}, stringData: {b: hello}");
    assert_eq!(errors, NONE);
    assert_eq!(object["data"], json!({"a": "eA==", "b": "aGVsbG8="}));
    assert_eq!(object["type"], "Opaque");
    assert!(object.get("stringData").is_none());
}

#[test]
fn secret_type_requires_keys_and_is_immutable() {
    assert_eq!(
        check(&secret::KIND, "type: kubernetes.io/tls"),
        ["data[tls.crt]: Required value", "data[tls.key]: Required value"]
    );
    assert_eq!(
        check(&secret::KIND, "type: kubernetes.io/dockerconfigjson"),
        ["data[.dockerconfigjson]: Required value"]
    );
    assert_eq!(
        check(
            &secret::KIND,
            "type: kubernetes.io/dockerconfigjson, stringData: {.dockerconfigjson: x}"
        ),
        ["data[.dockerconfigjson]: Invalid value: \"<secret contents redacted>\": not a JSON object"]
    );
    assert_eq!(
        check(&secret::KIND, "type: kubernetes.io/service-account-token"),
        ["metadata.annotations[kubernetes.io/service-account.name]: Required value"]
    );
    let (old, _) = made(&secret::KIND, "");
    let (_, errors) = update(&secret::KIND, &old, |o| o["type"] = json!("other"));
    assert_eq!(errors, ["type: Invalid value: \"other\": field is immutable"]);
}

#[test]
fn namespace_starts_active_with_its_finalizer_and_label() {
    let (object, errors) = made(&namespace::KIND, "");
    assert_eq!(errors, NONE);
    assert_eq!(object["status"], json!({"phase": "Active"}));
    assert_eq!(object["spec"]["finalizers"], json!(["kubernetes"]));
    assert_eq!(
        object["metadata"]["labels"],
        json!({"kubernetes.io/metadata.name": "x"})
    );
    let dotted = create(
        &namespace::KIND,
        "{apiVersion: v1, kind: Namespace, metadata: {name: a.b}}",
    )
    .1;
    assert_eq!(
        dotted,
        ["metadata.name: Invalid value: \"a.b\": must not contain dots"]
    );
}

#[test]
fn namespace_finalizers_change_only_by_finalize() {
    let (old, _) = made(&namespace::KIND, "");
    let (new, _) = update(&namespace::KIND, &old, |o| o["spec"]["finalizers"] = json!([]));
    assert_eq!(new["spec"]["finalizers"], json!(["kubernetes"]));
    let mut finalized = old.clone();
    finalized["spec"]["finalizers"] = json!([]);
    finalized["status"] = json!({});
    namespace::prepare_finalize(&mut finalized, &old);
    assert_eq!(finalized["spec"]["finalizers"], json!([]));
    assert_eq!(finalized["status"], old["status"]);
    assert!(namespace::validate_finalize(&finalized, &old).is_empty());
}

#[test]
fn namespaces_phase_follows_its_deletion() {
    let (old, _) = made(&namespace::KIND, "");
    let (_, errors) = update_status(&namespace::KIND, &old, namespace::set_terminating);
    assert_eq!(
        errors,
        [
            "status.Phase: Invalid value: \"Terminating\": may only be 'Active' if `deletionTimestamp` is empty"
        ]
    );
}

#[test]
fn lease_has_a_duration_and_transitions_only_grow() {
    let lease = &coordination::LEASE;
    assert_eq!(
        check(lease, "spec: {holderIdentity: a, leaseDurationSeconds: 40}"),
        NONE
    );
    assert_eq!(
        check(lease, "spec: {leaseDurationSeconds: 0, leaseTransitions: -1}"),
        [
            "spec.leaseDurationSeconds: Invalid value: 0: must be greater than 0",
            "spec.leaseTransitions: Invalid value: -1: must be greater than or equal to 0",
        ]
    );
}

#[test]
fn users_cannot_create_system_priorities() {
    let class = &scheduling::PRIORITY_CLASS;
    let (old, errors) = made(class, "value: 1000000000");
    assert_eq!(errors, NONE);
    assert_eq!(old["preemptionPolicy"], "PreemptLowerPriority");
    assert_eq!(
        check(class, "value: 1000000001"),
        ["value: Forbidden: maximum allowed value of a user defined priority is 1000000000"]
    );
    let named = |name: &str, value: i64| {
        create(class, &format!("{{apiVersion: scheduling.k8s.io/v1, kind: PriorityClass, metadata: {{name: {name}}}, value: {value}}}")).1
    };
    assert_eq!(named("system-node-critical", 2_000_001_000), NONE);
    assert_eq!(
        named("system-mine", 5),
        [
            "metadata.name: Forbidden: priority class names with 'system-' prefix are reserved for system use only. error: system-mine is not a known system priority class"
        ]
    );
    let (_, errors) = update(class, &old, |o| o["value"] = json!(5));
    assert_eq!(errors, ["value: Forbidden: may not be changed in an update."]);
}

#[test]
fn budget_has_either_min_available_or_max_unavailable() {
    let budget = &policy::POD_DISRUPTION_BUDGET;
    let (object, errors) = made(
        budget,
        "spec: {minAvailable: 50%, selector: {matchLabels: {a: b}}}",
    );
    assert_eq!(errors, NONE);
    assert_eq!(
        object["status"],
        json!({"currentHealthy": 0, "desiredHealthy": 0, "disruptionsAllowed": 0, "expectedPods": 0})
    );
    assert_eq!(
        check(budget, "spec: {minAvailable: 1, maxUnavailable: 1}"),
        [
            "spec: Invalid value: {\"maxUnavailable\":1,\"minAvailable\":1}: minAvailable and maxUnavailable cannot be both set"
        ]
    );
    assert_eq!(
        check(budget, "spec: {maxUnavailable: 101%}"),
        ["spec.maxUnavailable: Invalid value: \"101%\": must not be greater than 100%"]
    );
}

#[test]
fn roles_need_verbs_groups_and_resources() {
    assert_eq!(
        check(&rbac::ROLE, "rules: [{}]"),
        [
            "rules[0].verbs: Required value: verbs must contain at least one value",
            "rules[0].apiGroups: Required value: resource rules must supply at least one api group",
            "rules[0].resources: Required value: resource rules must supply at least one resource",
        ]
    );
    assert_eq!(
        check(&rbac::ROLE, "rules: [{verbs: [get], nonResourceURLs: [/x]}]"),
        [
            "rules[0].nonResourceURLs: Invalid value: [\"/x\"]: namespaced rules cannot apply to non-resource URLs"
        ]
    );
    assert_eq!(
        check(
            &rbac::CLUSTER_ROLE,
            "rules: [{verbs: [get], nonResourceURLs: [/x]}]"
        ),
        NONE
    );
}

#[test]
fn aggregated_role_needs_selectors() {
    let role = &rbac::CLUSTER_ROLE;
    assert_eq!(
        check(role, "aggregationRule: {}"),
        [
            "aggregationRule.clusterRoleSelectors: Required value: at least one clusterRoleSelector required if aggregationRule is non-nil"
        ]
    );
    assert_eq!(
        check(
            role,
            "aggregationRule: {clusterRoleSelectors: [{matchLabels: {a: b}}]}"
        ),
        NONE
    );
    let errors = check(
        role,
        "aggregationRule: {clusterRoleSelectors: [{matchLabels: {a: 'b c'}}]}",
    );
    assert!(
        errors[0].starts_with("aggregationRule.clusterRoleSelectors[0].matchLabels"),
        "{errors:?}"
    );
}

#[test]
fn bindings_have_an_immutable_role_and_complete_subjects() {
    let binding = &rbac::ROLE_BINDING;
    let role = "roleRef: {kind: ClusterRole, name: 'system:node', apiGroup: ''}";
    let (old, errors) = made(
        binding,
        &format!(
            "{role}, subjects: [{{kind: User, name: u}}, {{kind: ServiceAccount, name: s, namespace: d}}]"
        ),
    );
    assert_eq!(errors, NONE);
    assert_eq!(old["roleRef"]["apiGroup"], "rbac.authorization.k8s.io");
    assert_eq!(old["subjects"][0]["apiGroup"], "rbac.authorization.k8s.io");
    assert_eq!(
        check(
            binding,
            &format!(
                "{role}, subjects: [{{kind: ServiceAccount, name: s}}, {{kind: User, name: u, namespace: d}}, {{kind: Robot, name: r}}]"
            )
        ),
        [
            "subjects[2].kind: Unsupported value: \"Robot\": supported values: \"ServiceAccount\", \"User\", \"Group\"",
        ]
    );
    let (_, errors) = update(binding, &old, |o| o["roleRef"]["name"] = json!("other"));
    assert!(errors[0].ends_with("cannot change roleRef"), "{errors:?}");
    assert_eq!(
        check(
            &rbac::CLUSTER_ROLE_BINDING,
            "roleRef: {kind: Role, name: r, apiGroup: rbac.authorization.k8s.io}"
        ),
        ["roleRef.kind: Unsupported value: \"Role\": supported values: \"ClusterRole\""]
    );
    assert_eq!(
        check(
            &rbac::CLUSTER_ROLE_BINDING,
            "roleRef: {kind: ClusterRole, name: r}, subjects: [{kind: ServiceAccount, name: s}, {kind: Group, name: g, namespace: d}]"
        ),
        ["subjects[0].namespace: Required value"]
    );
}

#[test]
fn event_is_in_the_namespace_of_its_object() {
    assert_eq!(
        check(&event::KIND, "involvedObject: {kind: Pod, name: p, namespace: d}"),
        NONE
    );
    assert_eq!(
        check(
            &event::KIND,
            "involvedObject: {kind: Pod, name: p, namespace: other}"
        ),
        ["involvedObject.namespace: Invalid value: \"other\": does not match event.namespace"]
    );
}

#[test]
fn new_event_needs_time_reporter_and_reason() {
    let good = "eventTime: \"2026-01-01T00:00:00.000000Z\", reportingController: x.io/c, reportingInstance: c-1, \
        action: Binding, reason: Bound, type: Normal, regarding: {kind: Pod, name: p, namespace: d}";
    assert_eq!(check(&events::KIND, good), NONE);
    let fields = |errors: Vec<String>| -> Vec<String> {
        let names = errors.iter().filter_map(|error| error.split(':').next());
        names.map(str::to_owned).collect()
    };
    assert_eq!(
        fields(check(&events::KIND, "regarding: {namespace: d}")),
        [
            "eventTime",
            "reportingController",
            "reportingInstance",
            "action",
            "reason",
            "type"
        ]
    );
    let older = format!("{good}, deprecatedCount: 1, deprecatedSource: {{component: c}}");
    assert_eq!(fields(check(&events::KIND, &older)), ["count", "source"]);
}

#[test]
fn both_forms_of_an_event_have_the_same_content() {
    let core = json!({"apiVersion": "v1", "kind": "Event", "metadata": {"name": "e"}, "message": "m", "reason": "R", "count": 2,
        "involvedObject": {"kind": "Pod", "name": "p", "namespace": "d"}, "source": {"component": "c"},
        "firstTimestamp": "2026-01-01T23:58:00Z", "lastTimestamp": "2026-01-01T23:59:00Z", "type": "Normal", "reportingComponent": "c"});
    let mut core = core;
    schema::canonicalize(event::KIND.ty(), &mut core);
    let mut newer = core.clone();
    events::from_stored(&mut newer);
    assert_eq!(newer["apiVersion"], "events.k8s.io/v1");
    assert_eq!(newer["regarding"]["name"], "p");
    assert_eq!(newer["note"], "m");
    assert_eq!(newer["deprecatedCount"], 2);
    let row = ["60s", "Normal", "R", "pod/p", "", "c", "m", "2m", "2", "e"];
    assert_eq!(cells(&event::KIND, core.clone()), row);
    assert_eq!(cells(&events::KIND, newer.clone()), row);
    let field = |kind: &Kind, object: &Value, path: &str| kind.field(object, path);
    for (old, new) in event::KIND.selectable.iter().zip(events::KIND.selectable) {
        assert_eq!(
            field(&event::KIND, &core, old),
            field(&events::KIND, &newer, new),
            "{old} and {new}"
        );
    }
    events::to_stored(&mut newer);
    assert_eq!(newer, core);
    assert_eq!(events::KIND.stored_as(), &event::KIND);
}

#[test]
fn event_series_prints_its_last_time_and_count() {
    let object = json!({"metadata": {"name": "e"}, "eventTime": "2026-01-01T23:58:00.000000Z", "involvedObject": {"kind": "Node"},
        "series": {"count": 7, "lastObservedTime": "2026-01-01T23:59:50.000000Z"}, "reportingComponent": "c", "reportingInstance": "i"});
    assert_eq!(
        cells(&event::KIND, object),
        ["10s", "", "", "node", "", "c, i", "", "2m", "7", "e"]
    );
}

#[test]
fn endpoint_slice_has_addresses_of_its_family() {
    let slice = &discovery::ENDPOINT_SLICE;
    let (object, errors) = made(
        slice,
        "addressType: IPv4, endpoints: [{addresses: [10.0.0.1]}], ports: [{port: 80}]",
    );
    assert_eq!(errors, NONE);
    assert_eq!(
        object["ports"],
        json!([{"name": "", "port": 80, "protocol": "TCP"}])
    );
    assert_eq!(
        check(
            slice,
            "addressType: IPv4, endpoints: [{addresses: [x]}, {addresses: []}]"
        ),
        [
            "endpoints[0].addresses[0]: Invalid value: \"x\": must be a valid IPv4 address",
            "endpoints[1].addresses: Required value: must contain at least 1 address",
        ]
    );
    assert_eq!(
        check(slice, "addressType: Odd, endpoints: []")[0],
        "addressType: Unsupported value: \"Odd\": supported values: \"FQDN\", \"IPv4\", \"IPv6\""
    );
    let (new, _) = update(slice, &object, |o| o["endpoints"] = json!([]));
    assert_eq!(meta::generation(&new), 2);
    assert_eq!(cells(slice, object), ["x", "IPv4", "80", "10.0.0.1", "56y"]);
    assert_eq!(cells(slice, json!({}))[2..4], ["<unset>", "<unset>"]);
}

#[test]
fn endpoints_print_three_addresses_and_a_count() {
    let subset = |count: usize| {
        let addresses: Vec<Value> = (1..=count)
            .map(|n| json!({"ip": format!("10.0.0.{n}")}))
            .collect();
        json!({"subsets": [{"addresses": addresses, "ports": [{"port": 80}]}]})
    };
    assert_eq!(cells(&endpoints::KIND, subset(2))[1], "10.0.0.1:80,10.0.0.2:80");
    assert_eq!(
        cells(&endpoints::KIND, subset(5))[1],
        "10.0.0.1:80,10.0.0.2:80,10.0.0.3:80 + 2 more..."
    );
    assert_eq!(cells(&endpoints::KIND, json!({}))[1], "<none>");
    assert_eq!(
        check(&endpoints::KIND, "subsets: [{}]"),
        ["subsets[0]: Required value: must specify `addresses` or `notReadyAddresses`"]
    );
}

#[test]
fn endpoint_address_must_be_reachable_from_others() {
    let errors = |ip: &str| {
        check(
            &endpoints::KIND,
            &format!("subsets: [{{addresses: [{{ip: \"{ip}\"}}]}}]"),
        )
    };
    for good in ["10.0.0.1", "2001:db8::1", "224.0.1.1"] {
        assert_eq!(errors(good), NONE, "{good}");
    }
    let bad = [
        (
            "127.0.0.1",
            "may not be in the loopback range (127.0.0.0/8, ::1/128)",
        ),
        ("::1", "may not be in the loopback range (127.0.0.0/8, ::1/128)"),
        ("0.0.0.0", "may not be unspecified (0.0.0.0 or ::)"),
        (
            "169.254.1.1",
            "may not be in the link-local range (169.254.0.0/16, fe80::/10)",
        ),
        (
            "ff02::1",
            "may not be in the link-local multicast range (224.0.0.0/24, ff02::/10)",
        ),
    ];
    for (ip, why) in bad {
        assert_eq!(
            errors(ip),
            [format!(
                "subsets[0].addresses[0].ip: Invalid value: \"{ip}\": {why}"
            )]
        );
    }
    assert_eq!(
        check(
            &discovery::ENDPOINT_SLICE,
            "addressType: IPv4, endpoints: [{addresses: [127.0.0.1]}]"
        )
        .len(),
        1
    );
}

#[test]
fn other_kinds_print_their_columns() {
    let row = |kind: &str, group: &str, object: Value| {
        cells(by_kind(group, "v1", kind).expect("a served kind"), object)
    };
    assert_eq!(
        row(
            "ConfigMap",
            "",
            json!({"data": {"a": "", "b": ""}, "binaryData": {"c": ""}})
        )[1],
        "3"
    );
    assert_eq!(
        row("Secret", "", json!({"type": "Opaque", "data": {"a": ""}}))[1..3],
        ["Opaque", "1"]
    );
    assert_eq!(row("ServiceAccount", "", json!({}))[1], "0");
    assert_eq!(
        row("Namespace", "", json!({"status": {"phase": "Active"}}))[1],
        "Active"
    );
    assert_eq!(
        row(
            "Lease",
            "coordination.k8s.io",
            json!({"spec": {"holderIdentity": "h"}})
        )[1],
        "h"
    );
    assert_eq!(
        row(
            "PriorityClass",
            "scheduling.k8s.io",
            json!({"value": 5, "preemptionPolicy": "Never"})
        )[1..],
        ["5", "false", "<unknown>", "Never"]
    );
    assert_eq!(
        row(
            "PodDisruptionBudget",
            "policy",
            json!({"spec": {"minAvailable": "50%"}, "status": {"disruptionsAllowed": 2}})
        )[1..4],
        ["50%", "N/A", "2"]
    );
    let binding = json!({"roleRef": {"kind": "Role", "name": "r"}, "subjects": [{"kind": "User", "name": "u"},
        {"kind": "ServiceAccount", "namespace": "d", "name": "s"}]});
    assert_eq!(
        row("RoleBinding", "rbac.authorization.k8s.io", binding)[1..],
        ["Role/r", "<unknown>", "u", "", "d/s"]
    );
}

#[test]
fn reviews_need_no_name_and_exactly_one_question() {
    let review = &reviews::SELF_SUBJECT_ACCESS_REVIEW;
    assert!(
        review
            .validate(&json!({"spec": {"resourceAttributes": {"verb": "get"}}}))
            .is_empty()
    );
    assert_eq!(
        texts(&review.validate(&json!({"spec": {}}))),
        [
            "spec.resourceAttributes: Invalid value: null: exactly one of nonResourceAttributes or resourceAttributes must be specified"
        ]
    );
    assert!(reviews::validate_token_request(&json!({"spec": {"expirationSeconds": 600}})).is_empty());
    assert_eq!(
        texts(&reviews::validate_token_request(
            &json!({"spec": {"expirationSeconds": 5}})
        )),
        ["spec.expirationSeconds: Invalid value: 5: may not specify a duration less than 10 minutes"]
    );
}

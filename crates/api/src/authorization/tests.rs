use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;

fn rule(value: Value) -> Rule {
    Rule::of(&value)
}

fn on_objects(
    verb: &'static str,
    group: &'static str,
    resource: &'static str,
    name: &'static str,
) -> Action<'static> {
    let (resource, subresource) = resource.split_once('/').unwrap_or((resource, ""));
    Action::Resource(Resource {
        verb,
        group,
        resource,
        subresource,
        namespace: "ns",
        name,
    })
}

#[test]
fn denials_have_the_words_of_kubernetes() {
    let list = on_objects("list", "", "pods", "");
    let status = list.forbidden("x", "");
    assert_eq!(
        status.message,
        r#"pods is forbidden: User "x" cannot list resource "pods" in API group "" in the namespace "ns""#
    );
    assert_eq!((status.code, status.reason), (403, "Forbidden"));
    let scale = Action::Resource(Resource {
        verb: "get",
        group: "apps",
        resource: "daemonsets",
        subresource: "status",
        namespace: "",
        name: "d",
    });
    assert_eq!(
        scale.forbidden("x", "why").message,
        r#"daemonsets.apps "d" is forbidden: User "x" cannot get resource "daemonsets/status" in API group "apps" at the cluster scope: why"#
    );
    let path = Action::Path {
        verb: "get",
        path: "/y",
    };
    assert_eq!(
        path.forbidden("x", "").message,
        r#"forbidden: User "x" cannot get path "/y""#
    );
}

#[test]
fn rule_allows_what_it_lists_and_stars_allow_all() {
    let read = rule(
        json!({"verbs": ["get", "list"], "apiGroups": [""], "resources": ["pods", "pods/log", "*/scale"]}),
    );
    for (action, allowed) in [
        (on_objects("get", "", "pods", "a"), true),
        (on_objects("get", "", "pods/log", "a"), true),
        (on_objects("get", "", "pods/exec", "a"), false),
        (on_objects("get", "", "things/scale", "a"), true),
        (on_objects("delete", "", "pods", "a"), false),
        (on_objects("get", "apps", "pods", "a"), false),
        (on_objects("get", "", "secrets", "a"), false),
    ] {
        assert_eq!(read.allows(&action), allowed, "{action:?}");
    }
    let all = rule(json!({"verbs": ["*"], "apiGroups": ["*"], "resources": ["*"]}));
    assert!(all.allows(&on_objects("get", "apps", "pods/exec", "a")));
    assert!(!all.allows(&Action::Path {
        verb: "get",
        path: "/x"
    }));
    let named =
        rule(json!({"verbs": ["get"], "apiGroups": [""], "resources": ["pods"], "resourceNames": ["a"]}));
    assert!(named.allows(&on_objects("get", "", "pods", "a")));
    assert!(
        !named.allows(&on_objects("get", "", "pods", "")),
        "a list names nobody"
    );
}

#[test]
fn star_at_the_end_of_a_path_matches_any_rest() {
    let paths = rule(json!({"verbs": ["get"], "nonResourceURLs": ["/metrics", "/healthz/*"]}));
    for (path, allowed) in [
        ("/metrics", true),
        ("/metrics/x", false),
        ("/healthz/ping", true),
        ("/healthz", false),
    ] {
        assert_eq!(
            paths.allows(&Action::Path { verb: "get", path }),
            allowed,
            "{path}"
        );
    }
}

fn role(kind: &str, namespace: &str, name: &str, rules: Value) -> Value {
    json!({"kind": kind, "metadata": {"namespace": namespace, "name": name}, "rules": rules})
}

fn binding(
    kind: &str,
    namespace: &str,
    name: &str,
    (role_kind, role): (&str, &str),
    subjects: Value,
) -> Value {
    json!({
        "kind": kind,
        "metadata": {"namespace": namespace, "name": name},
        "roleRef": {"kind": role_kind, "name": role},
        "subjects": subjects,
    })
}

fn allows<'a>(
    policy: &'a Policy,
    user: &'a str,
    groups: &[&'a str],
    verb: &'a str,
    namespace: &'a str,
) -> Option<String> {
    let action = Action::Resource(Resource {
        verb,
        resource: "pods",
        namespace,
        ..Resource::default()
    });
    policy
        .allows(user, groups.iter().copied(), &action)
        .map(|grant| grant.to_string())
}

#[test]
fn bindings_apply_in_their_namespace_while_the_role_exists() {
    let get = json!([{"verbs": ["get"], "apiGroups": [""], "resources": ["pods"]}]);
    let mut policy = Policy::default();
    policy.insert(&role("ClusterRole", "", "reader", get.clone()));
    policy.insert(&role("Role", "a", "reader", get));
    let bob = json!([{"kind": "User", "name": "bob"}]);
    // A ServiceAccount without a namespace is in the binding's namespace.
    policy.insert(&binding(
        "RoleBinding",
        "b",
        "accounts",
        ("ClusterRole", "reader"),
        json!([{"kind": "ServiceAccount", "name": "y"}]),
    ));
    let account = |namespace: &str| format!("system:serviceaccount:{namespace}:y");
    assert!(allows(&policy, &account("b"), &[], "get", "b").is_some());
    assert!(allows(&policy, &account("a"), &[], "get", "b").is_none());
    assert!(allows(&policy, &account(""), &[], "get", "b").is_none());
    policy.insert(&binding(
        "RoleBinding",
        "a",
        "b",
        ("ClusterRole", "reader"),
        bob.clone(),
    ));
    assert_eq!(
        allows(&policy, "bob", &[], "get", "a").as_deref(),
        Some(r#"RoleBinding "b/a" of ClusterRole "reader" to User "bob""#)
    );
    assert_eq!(allows(&policy, "bob", &[], "get", "c"), None);
    assert_eq!(allows(&policy, "bob", &[], "get", ""), None);
    assert_eq!(allows(&policy, "eve", &[], "get", "a"), None);

    let account =
        json!([{"kind": "ServiceAccount", "namespace": "a", "name": "x"}, {"kind": "Group", "name": "devs"}]);
    policy.insert(&binding(
        "ClusterRoleBinding",
        "",
        "all",
        ("ClusterRole", "reader"),
        account,
    ));
    let user = "system:serviceaccount:a:x";
    assert_eq!(
        allows(&policy, user, &[], "get", "").as_deref(),
        Some(r#"ClusterRoleBinding "all" of ClusterRole "reader" to ServiceAccount "x/a""#)
    );
    assert!(allows(&policy, "eve", &["devs"], "get", "c").is_some());
    assert_eq!(allows(&policy, "eve", &["devs"], "delete", "c"), None);

    // A changed binding replaces the earlier one completely.
    policy.insert(&binding(
        "ClusterRoleBinding",
        "",
        "all",
        ("ClusterRole", "reader"),
        json!([]),
    ));
    assert_eq!(allows(&policy, user, &[], "get", ""), None);
    policy.remove("ClusterRole", "", "reader");
    assert_eq!(allows(&policy, "bob", &[], "get", "a"), None);
    policy.insert(&binding("RoleBinding", "a", "b", ("Role", "reader"), bob));
    assert!(allows(&policy, "bob", &[], "get", "a").is_some());
    policy.remove("RoleBinding", "a", "b");
    assert_eq!(allows(&policy, "bob", &[], "get", "a"), None);
}

#[test]
fn missing_permissions_are_grouped_by_resource() {
    let held = [rule(
        json!({"verbs": ["get", "list"], "apiGroups": [""], "resources": ["pods"]}),
    )];
    let wanted = [rule(
        json!({"verbs": ["get", "watch", "delete"], "apiGroups": [""], "resources": ["pods", "secrets"]}),
    )];
    let missing = missing(&held, &wanted).expect("secrets are not held");
    assert_eq!(
        missing.to_string(),
        "{APIGroups:[\"\"], Resources:[\"pods\"], Verbs:[\"watch\" \"delete\"]}\n\
         {APIGroups:[\"\"], Resources:[\"secrets\"], Verbs:[\"get\" \"watch\" \"delete\"]}"
    );
    assert!(super::missing(&held, &held).is_none());
}

#[test]
fn rule_with_too_many_permissions_must_be_held_whole() {
    let many: Vec<String> = (0..1000).map(|n| format!("r{n}")).collect();
    let huge = rule(json!({"verbs": many, "apiGroups": many, "resources": many}));
    let most = rule(json!({"verbs": ["*"], "apiGroups": ["*"], "resources": many}));
    assert!(missing(&[], std::slice::from_ref(&huge)).is_some());
    assert!(missing(&[most], &[huge]).is_none());
}

const VERBS: [&str; 3] = ["get", "list", "*"];
const GROUPS: [&str; 3] = ["", "apps", "*"];
const RESOURCES: [&str; 6] = ["pods", "pods/log", "nodes", "nodes/log", "*/log", "*"];
const NAMES: [&str; 2] = ["a", "b"];

fn some(of: &'static [&'static str]) -> impl Strategy<Value = Vec<&'static str>> {
    proptest::sample::subsequence(of, 1..=of.len())
}

fn any_rule() -> impl Strategy<Value = Rule> {
    let names = proptest::sample::subsequence(&NAMES[..], 0..=NAMES.len());
    (some(&VERBS), some(&GROUPS), some(&RESOURCES), names).prop_map(|(verbs, groups, resources, names)| {
        rule(json!({"verbs": verbs, "apiGroups": groups, "resources": resources, "resourceNames": names}))
    })
}

/// Returns all actions with the words of the rules, and with words that no rule has.
fn actions() -> Vec<Action<'static>> {
    let mut actions = Vec::new();
    for verb in ["get", "list", "other"] {
        for group in ["", "apps", "other"] {
            for resource in [
                "pods",
                "pods/log",
                "nodes",
                "nodes/log",
                "other",
                "other/log",
                "other/other",
            ] {
                for name in ["", "a", "b", "other"] {
                    actions.push(on_objects(verb, group, resource, name));
                }
            }
        }
    }
    actions
}

proptest! {
    /// A user may grant a rule if and only if he may do all that it allows. A word that no rule has
    /// represents all other words.
    #[test]
    fn nothing_is_missing_exactly_when_no_action_is_added(
        held in proptest::collection::vec(any_rule(), 0..4),
        wanted in proptest::collection::vec(any_rule(), 0..3),
    ) {
        let allowed = |rules: &[Rule], action: &Action<'_>| rules.iter().any(|rule| rule.allows(action));
        let more = actions().into_iter().find(|action| allowed(&wanted, action) && !allowed(&held, action));
        prop_assert_eq!(missing(&held, &wanted).is_none(), more.is_none(), "{:?}", more);
    }

    /// The index gives the same result as a search of all bindings.
    #[test]
    fn index_gives_the_result_of_a_full_search(
        bound in proptest::collection::vec((0..3_usize, 0..3_usize, 0..3_usize, 0..2_usize), 0..12),
        removed in proptest::collection::vec(0..12_usize, 0..6),
        user in 0..3_usize, group in 0..3_usize, namespace in 0..3_usize, verb in 0..3_usize,
    ) {
        const NAMESPACES: [&str; 3] = ["", "a", "b"];
        const VERBS: [&str; 3] = ["get", "list", "watch"];
        let mut policy = Policy::default();
        for verb in VERBS {
            let rules = json!([{"verbs": [verb], "apiGroups": [""], "resources": ["pods"]}]);
            policy.insert(&role("ClusterRole", "", verb, rules));
        }
        let kind = |namespace: &str| if namespace.is_empty() { "ClusterRoleBinding" } else { "RoleBinding" };
        for (index, (verb, who, namespace, is_group)) in bound.iter().enumerate() {
            let subject = if *is_group == 1 { "Group" } else { "User" };
            let subjects = json!([{"kind": subject, "name": format!("n{who}")}]);
            let namespace = NAMESPACES[*namespace];
            policy.insert(&binding(kind(namespace), namespace, &index.to_string(), ("ClusterRole", VERBS[*verb]), subjects));
        }
        for index in &removed {
            for namespace in NAMESPACES {
                policy.remove(kind(namespace), namespace, &index.to_string());
            }
        }
        let expected = bound.iter().enumerate().any(|(index, (given, who, place, is_group))| {
            let subject = if *is_group == 1 { group } else { user };
            !removed.contains(&index) && *given == verb && *who == subject && (*place == 0 || *place == namespace)
        });
        let found = allows(&policy, &format!("n{user}"), &[&format!("n{group}")], VERBS[verb], NAMESPACES[namespace]);
        prop_assert_eq!(found.is_some(), expected);
    }
}

#[test]
fn pod_refers_to_the_objects_that_its_node_must_read() {
    let pod = json!({"spec": {
        "serviceAccountName": "account",
        "imagePullSecrets": [{"name": "pull"}],
        "volumes": [
            {"name": "v", "secret": {"secretName": "mounted"}},
            {"name": "w", "configMap": {"name": "config"}},
            {"name": "x", "projected": {"sources": [{"secret": {"name": "part"}}, {"configMap": {"name": "ca"}}]}},
            {"name": "y", "csi": {"driver": "d", "nodePublishSecretRef": {"name": "csi"}}},
        ],
        "initContainers": [{"name": "i", "envFrom": [{"secretRef": {"name": "whole"}}]}],
        "containers": [{"name": "c", "env": [
            {"name": "A", "valueFrom": {"secretKeyRef": {"name": "key", "key": "k"}}},
            {"name": "B", "valueFrom": {"configMapKeyRef": {"name": "setting", "key": "k"}}},
            {"name": "C", "value": "plain"},
        ]}],
    }});
    let refers = |what, name: &str| pod_refers_to(&pod, what, name);
    for secret in ["pull", "mounted", "part", "csi", "whole", "key"] {
        assert!(refers(PodReference::Secret, secret), "{secret}");
    }
    for config_map in ["config", "ca", "setting"] {
        assert!(refers(PodReference::ConfigMap, config_map), "{config_map}");
        assert!(!refers(PodReference::Secret, config_map), "{config_map}");
    }
    assert!(refers(PodReference::ServiceAccount, "account"));
    for other in ["plain", "v", "c", "", "A"] {
        assert!(
            !refers(PodReference::Secret, other) && !refers(PodReference::ConfigMap, other),
            "{other}"
        );
    }
}

#[test]
fn node_may_set_its_hostname_label_but_not_its_role() {
    for label in [
        "node-role.kubernetes.io/control-plane",
        "node-restriction.kubernetes.io/x",
        "a.node-restriction.kubernetes.io/x",
        "kubernetes.io/role",
        "x.k8s.io/y",
    ] {
        assert!(node_label_is_forbidden(label), "{label}");
    }
    for label in [
        "disk",
        "example.com/disk",
        "mykubernetes.io/x",
        "kubernetes.io/hostname",
        "topology.kubernetes.io/zone",
        "node.kubernetes.io/instance-type",
        "x.kubelet.kubernetes.io/y",
    ] {
        assert!(!node_label_is_forbidden(label), "{label}");
    }
}

#[test]
fn default_roles_are_valid_and_default_bindings_have_roles() {
    let (roles, bindings) = (defaults::cluster_roles(), defaults::cluster_role_bindings());
    let check = |mut object: Value| {
        let kind = crate::kinds::by_kind(
            "rbac.authorization.k8s.io",
            "v1",
            object["kind"].as_str().expect("a kind"),
        )
        .expect("a served kind");
        kind.default(&mut object);
        kind.prepare_create(&mut object);
        assert_eq!(kind.validate(&object), [], "{object}");
    };
    let names: Vec<&str> = roles.iter().map(crate::meta::name).collect();
    assert!(names.is_sorted(), "{names:?}");
    for binding in &bindings {
        assert!(
            names.contains(&binding["roleRef"]["name"].as_str().expect("a role")),
            "{binding}"
        );
    }
    roles.iter().chain(&bindings).cloned().for_each(check);
}

#[test]
fn aggregated_roles_contain_their_parts() {
    let roles = defaults::cluster_roles();
    let rules = |name: &str| {
        let role = roles
            .iter()
            .find(|role| crate::meta::name(role) == name)
            .expect("a default role");
        Rule::all_of(role)
    };
    assert!(missing(&rules("admin"), &rules("edit")).is_none());
    assert!(missing(&rules("edit"), &rules("view")).is_none());
    assert!(missing(&rules("view"), &rules("edit")).is_some());
    let secrets = on_objects("get", "", "secrets", "s");
    assert!(
        !rules("view").iter().any(|rule| rule.allows(&secrets)),
        "who views sees no secrets"
    );
}

#[test]
fn reconciling_adds_missing_parts_and_keeps_others() {
    let wanted = &defaults::cluster_roles()[1];
    assert_eq!(crate::meta::name(wanted), "cluster-admin");
    assert_eq!(defaults::reconciled(wanted, wanted), None);
    let mut less = wanted.clone();
    less["rules"] = json!([{"verbs": ["get"], "apiGroups": ["example.com"], "resources": ["things"]}]);
    less["metadata"]["labels"] = json!({"mine": "x"});
    let next = defaults::reconciled(&less, wanted).expect("rules are lacking");
    assert_eq!(next["rules"].as_array().map(Vec::len), Some(3));
    assert_eq!(
        next["metadata"]["labels"],
        json!({"mine": "x", "kubernetes.io/bootstrapping": "rbac-defaults"})
    );
    assert_eq!(defaults::reconciled(&next, wanted), None);
    less["metadata"]["annotations"] = json!({defaults::AUTO_UPDATE: "false"});
    assert_eq!(defaults::reconciled(&less, wanted), None);
}

#[test]
fn default_aggregated_roles_match_aggregation() {
    assert_eq!(aggregated(&defaults::cluster_roles()), []);
}

#[test]
fn aggregated_role_follows_changes_of_its_parts() {
    let pods = json!([{"verbs": ["get"], "apiGroups": [""], "resources": ["pods"]}]);
    let things = json!([{"verbs": ["get"], "apiGroups": ["example.com"], "resources": ["things"]}]);
    let part = |name: &str, labels: Value, rules: &Value| json!({"metadata": {"name": name, "labels": labels}, "rules": rules});
    let mut sum = part("sum", json!({"in": "yes"}), &json!([]));
    sum["aggregationRule"] = json!({"clusterRoleSelectors": [{"matchLabels": {"in": "yes"}}]});
    let roles = [
        part("z", json!({"in": "yes"}), &pods),
        sum,
        part("a", json!({"in": "yes"}), &things),
        part(
            "b",
            json!({"in": "no"}),
            &json!([{"verbs": ["*"], "apiGroups": ["*"], "resources": ["*"]}]),
        ),
        part("c", json!({"in": "yes"}), &pods),
    ];
    let both = json!([things[0], pods[0]]);
    assert_eq!(aggregated(&roles), [("sum", both.clone())]);
    let mut settled = roles.clone();
    settled[1]["rules"] = both;
    assert_eq!(aggregated(&settled), []);
}

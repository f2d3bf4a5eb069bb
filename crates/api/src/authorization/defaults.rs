//! The default roles and bindings: those of Kubernetes that concern served resources, and a few of
//! Everynode.

use serde_json::{Value, json};

use super::{Rule, missing};
use crate::meta;

/// The annotation of roles and bindings that the server updates when it starts.
pub const AUTO_UPDATE: &str = "rbac.authorization.kubernetes.io/autoupdate";

const READ: &str = "get list watch";
const WRITE: &str = "create delete deletecollection patch update";
const ALL: &str = "create delete deletecollection get list patch update watch";

/// The API group of RBAC objects.
const GROUP: &str = "rbac.authorization.k8s.io";
/// Prefix of the labels that aggregated roles select.
const AGGREGATE_TO: &str = "rbac.authorization.k8s.io/aggregate-to-";

/// A rule, with lists as words. `core` is the core group.
struct Grant {
    verbs: &'static str,
    groups: &'static str,
    resources: &'static str,
    names: &'static str,
    urls: &'static str,
}

const fn on(verbs: &'static str, groups: &'static str, resources: &'static str) -> Grant {
    named(verbs, groups, resources, "")
}

const fn named(
    verbs: &'static str,
    groups: &'static str,
    resources: &'static str,
    names: &'static str,
) -> Grant {
    Grant {
        verbs,
        groups,
        resources,
        names,
        urls: "",
    }
}

const fn at(verbs: &'static str, urls: &'static str) -> Grant {
    Grant {
        verbs,
        groups: "",
        resources: "",
        names: "",
        urls,
    }
}

impl Grant {
    fn rule(&self) -> Rule {
        let words = |text: &str| -> Box<[Box<str>]> {
            let words = text.split_whitespace();
            words
                .map(|word| if word == "core" { "" } else { word }.into())
                .collect()
        };
        Rule {
            verbs: words(self.verbs),
            api_groups: words(self.groups),
            resources: words(self.resources),
            resource_names: words(self.names),
            non_resource_urls: words(self.urls),
        }
    }
}

/// A ClusterRole.
struct Role {
    name: &'static str,
    /// The role that aggregates this one: `admin`, `edit` or `view`.
    part_of: &'static str,
    /// Whether it is an aggregated role without rules of its own.
    is_aggregated: bool,
    grants: &'static [Grant],
}

const fn role(name: &'static str, grants: &'static [Grant]) -> Role {
    Role {
        name,
        part_of: "",
        is_aggregated: false,
        grants,
    }
}

const fn part(name: &'static str, part_of: &'static str, grants: &'static [Grant]) -> Role {
    Role {
        part_of,
        ..role(name, grants)
    }
}

const fn aggregated(name: &'static str, part_of: &'static str) -> Role {
    Role {
        part_of,
        is_aggregated: true,
        ..role(name, &[])
    }
}

const EVENTS: Grant = on("create patch update", "core events.k8s.io", "events");

/// The permissions of nodes. The Node authorizer limits the objects, and the admission
/// NodeRestriction limits the content.
const NODE: &[Grant] = &[
    on(READ, "core", "services"),
    on("create get list watch", "core", "nodes"),
    on("patch update", "core", "nodes nodes/status"),
    EVENTS,
    on("delete get list watch", "core", "pods"),
    on("get patch update", "core", "pods/status"),
    on("create", "core", "pods/eviction"),
    on(READ, "core", "configmaps secrets"),
    on("create", "core", "serviceaccounts/token"),
    on(
        "create get list watch",
        "certificates.k8s.io",
        "certificatesigningrequests",
    ),
    on("create delete get patch update", "coordination.k8s.io", "leases"),
];

const KUBELET_CLIENT: &str = "kubernetes.io/kube-apiserver-client-kubelet";

/// Sorted by name.
const ROLES: &[Role] = &[
    aggregated("admin", ""),
    role("cluster-admin", &[on("*", "*", "*"), at("*", "*")]),
    aggregated("edit", "admin"),
    // `why` and `plan` also read these, beside the objects of a namespace.
    part(
        "everynode:aggregate-to-view",
        "view",
        &[
            on(READ, "core", "nodes"),
            on(READ, "scheduling.k8s.io", "priorityclasses"),
        ],
    ),
    // An agent also reads these, because it is the Service proxy and the DNS server of its node.
    role(
        "everynode:node",
        &[
            on(READ, "core", "endpoints namespaces nodes services"),
            on(READ, "discovery.k8s.io", "endpointslices"),
        ],
    ),
    // A joining machine reads the authority's certificate to verify the server.
    role(
        "everynode:public-info-viewer",
        &[at("get", "/everynode/v1/authority")],
    ),
    part(
        "system:aggregate-to-admin",
        "admin",
        &[
            on("create", "authorization.k8s.io", "localsubjectaccessreviews"),
            on(ALL, GROUP, "rolebindings roles"),
        ],
    ),
    part(
        "system:aggregate-to-edit",
        "edit",
        &[
            on(
                READ,
                "core",
                "pods/attach pods/exec pods/portforward pods/proxy secrets services/proxy",
            ),
            on("impersonate", "core", "serviceaccounts"),
            on(
                WRITE,
                "core",
                "pods pods/attach pods/exec pods/portforward pods/proxy",
            ),
            on("create", "core", "pods/eviction"),
            on(
                WRITE,
                "core",
                "configmaps events persistentvolumeclaims replicationcontrollers replicationcontrollers/scale secrets \
             serviceaccounts services services/proxy",
            ),
            on("create", "core", "serviceaccounts/token"),
            on(
                WRITE,
                "apps",
                "daemonsets deployments deployments/rollback deployments/scale replicasets replicasets/scale statefulsets \
             statefulsets/scale",
            ),
            on("create get patch update delete", "apps", "daemonsets/proxy"),
            on(WRITE, "autoscaling", "horizontalpodautoscalers"),
            on(WRITE, "batch", "cronjobs jobs"),
            on(WRITE, "policy", "poddisruptionbudgets"),
            on(WRITE, "networking.k8s.io", "ingresses networkpolicies"),
            on(ALL, "coordination.k8s.io", "leases"),
        ],
    ),
    part(
        "system:aggregate-to-view",
        "view",
        &[
            on(
                READ,
                "core",
                "configmaps endpoints persistentvolumeclaims persistentvolumeclaims/status pods replicationcontrollers \
             replicationcontrollers/scale serviceaccounts services services/status",
            ),
            on(
                READ,
                "core",
                "bindings events limitranges namespaces/status pods/log pods/status replicationcontrollers/status \
             resourcequotas resourcequotas/status",
            ),
            // Inside a namespace this permits reading the namespace itself, so that users see which
            // ones they may use.
            on(READ, "core", "namespaces"),
            on(READ, "discovery.k8s.io", "endpointslices"),
            on(
                READ,
                "apps",
                "controllerrevisions daemonsets daemonsets/status deployments deployments/scale deployments/status replicasets \
             replicasets/scale replicasets/status statefulsets statefulsets/scale statefulsets/status",
            ),
            on(
                READ,
                "autoscaling",
                "horizontalpodautoscalers horizontalpodautoscalers/status",
            ),
            on(READ, "batch", "cronjobs cronjobs/status jobs jobs/status"),
            on(READ, "policy", "poddisruptionbudgets poddisruptionbudgets/status"),
            on(
                READ,
                "networking.k8s.io",
                "ingresses ingresses/status networkpolicies",
            ),
        ],
    ),
    role(
        "system:auth-delegator",
        &[
            on("create", "authentication.k8s.io", "tokenreviews"),
            on("create", "authorization.k8s.io", "subjectaccessreviews"),
        ],
    ),
    role(
        "system:basic-user",
        &[
            on(
                "create",
                "authorization.k8s.io",
                "selfsubjectaccessreviews selfsubjectrulesreviews",
            ),
            on("create", "authentication.k8s.io", "selfsubjectreviews"),
        ],
    ),
    role(
        "system:certificates.k8s.io:certificatesigningrequests:nodeclient",
        &[on(
            "create",
            "certificates.k8s.io",
            "certificatesigningrequests/nodeclient",
        )],
    ),
    role(
        "system:certificates.k8s.io:certificatesigningrequests:selfnodeclient",
        &[on(
            "create",
            "certificates.k8s.io",
            "certificatesigningrequests/selfnodeclient",
        )],
    ),
    role(
        "system:certificates.k8s.io:kube-apiserver-client-approver",
        &[named(
            "approve",
            "certificates.k8s.io",
            "signers",
            "kubernetes.io/kube-apiserver-client",
        )],
    ),
    role(
        "system:certificates.k8s.io:kube-apiserver-client-kubelet-approver",
        &[named("approve", "certificates.k8s.io", "signers", KUBELET_CLIENT)],
    ),
    role(
        "system:certificates.k8s.io:kubelet-serving-approver",
        &[named(
            "approve",
            "certificates.k8s.io",
            "signers",
            "kubernetes.io/kubelet-serving",
        )],
    ),
    role(
        "system:certificates.k8s.io:legacy-unknown-approver",
        &[named(
            "approve",
            "certificates.k8s.io",
            "signers",
            "kubernetes.io/legacy-unknown",
        )],
    ),
    role(
        "system:controller:certificate-controller",
        &[
            on(
                "delete get list watch",
                "certificates.k8s.io",
                "certificatesigningrequests",
            ),
            on(
                "patch update",
                "certificates.k8s.io",
                "certificatesigningrequests/approval certificatesigningrequests/status",
            ),
            named("approve", "certificates.k8s.io", "signers", KUBELET_CLIENT),
            named(
                "sign",
                "certificates.k8s.io",
                "signers",
                "kubernetes.io/kube-apiserver-client kubernetes.io/kube-apiserver-client-kubelet \
             kubernetes.io/kubelet-serving kubernetes.io/legacy-unknown",
            ),
            on("create", "authorization.k8s.io", "subjectaccessreviews"),
            EVENTS,
        ],
    ),
    role(
        "system:controller:clusterrole-aggregation-controller",
        &[on("escalate get list patch update watch", GROUP, "clusterroles")],
    ),
    role(
        "system:controller:daemon-set-controller",
        &[
            on(READ, "apps", "daemonsets"),
            on("patch update", "apps", "daemonsets/finalizers daemonsets/status"),
            on("list watch", "core", "nodes"),
            on("create delete list patch watch", "core", "pods"),
            on("patch", "core", "pods/status"),
            on("create", "core", "pods/binding"),
            on(
                "create delete get list patch update watch",
                "apps",
                "controllerrevisions",
            ),
            EVENTS,
        ],
    ),
    role(
        "system:controller:disruption-controller",
        &[
            on(READ, "apps", "daemonsets deployments replicasets statefulsets"),
            on(READ, "policy", "poddisruptionbudgets"),
            on("patch update", "policy", "poddisruptionbudgets/status"),
            on("patch update", "core", "pods/status"),
            on("get", "*", "*/scale"),
            EVENTS,
        ],
    ),
    role(
        "system:controller:endpoint-controller",
        &[
            on(READ, "core", "pods services"),
            on("create delete get list patch update watch", "core", "endpoints"),
            on("create", "core", "endpoints/restricted"),
            EVENTS,
        ],
    ),
    role(
        "system:controller:endpointslice-controller",
        &[
            on(READ, "core", "nodes pods services"),
            on("update", "core", "services/finalizers"),
            on(
                "create delete get list patch update watch",
                "discovery.k8s.io",
                "endpointslices",
            ),
            EVENTS,
        ],
    ),
    role(
        "system:controller:endpointslicemirroring-controller",
        &[
            on(READ, "core", "endpoints services"),
            on("update", "core", "endpoints/finalizers services/finalizers"),
            on(
                "create delete get list patch update watch",
                "discovery.k8s.io",
                "endpointslices",
            ),
            EVENTS,
        ],
    ),
    role(
        "system:controller:event-ttl-controller",
        &[on("delete get list watch", "core events.k8s.io", "events")],
    ),
    role(
        "system:controller:generic-garbage-collector",
        &[on("delete get list patch update watch", "*", "*"), EVENTS],
    ),
    role(
        "system:controller:namespace-controller",
        &[
            on("delete get list watch", "core", "namespaces"),
            on("patch update", "core", "namespaces/finalize namespaces/status"),
            on("delete deletecollection get list watch", "*", "*"),
        ],
    ),
    role(
        "system:controller:node-controller",
        &[
            on("delete get list patch update watch", "core", "nodes"),
            on("patch update", "core", "nodes/status pods/status"),
            on("delete get list watch", "core", "pods"),
            on(READ, "coordination.k8s.io", "leases"),
            EVENTS,
        ],
    ),
    role(
        "system:controller:pod-garbage-collector",
        &[
            on("delete list watch", "core", "pods"),
            on(READ, "core", "nodes"),
            on("patch", "core", "pods/status"),
        ],
    ),
    role(
        "system:controller:root-ca-cert-publisher",
        &[on("create patch update", "core", "configmaps"), EVENTS],
    ),
    role(
        "system:controller:service-account-controller",
        &[on("create", "core", "serviceaccounts"), EVENTS],
    ),
    role(
        "system:discovery",
        &[at(
            "get",
            "/api /api/* /apis /apis/* /healthz /livez /openapi /openapi/* /readyz /version /version/",
        )],
    ),
    role(
        "system:kube-controller-manager",
        &[
            EVENTS,
            on("create", "coordination.k8s.io", "leases"),
            named(
                "get update",
                "coordination.k8s.io",
                "leases",
                "kube-controller-manager",
            ),
            on("create", "core", "secrets serviceaccounts"),
            on("delete", "core", "secrets"),
            on("get", "core", "configmaps namespaces secrets serviceaccounts"),
            on("update", "core", "secrets serviceaccounts"),
            on("create", "authentication.k8s.io", "tokenreviews"),
            on("create", "authorization.k8s.io", "subjectaccessreviews"),
            on("list watch", "*", "*"),
            on("create", "core", "serviceaccounts/token"),
        ],
    ),
    role(
        "system:kube-dns",
        &[on("list watch", "core", "endpoints services")],
    ),
    role(
        "system:kube-scheduler",
        &[
            EVENTS,
            on("create", "coordination.k8s.io", "leases"),
            named(
                "get list update watch",
                "coordination.k8s.io",
                "leases",
                "kube-scheduler",
            ),
            on(READ, "core", "namespaces nodes"),
            on("delete get list watch", "core", "pods"),
            on("create", "core", "bindings pods/binding"),
            on("patch update", "core", "pods/status"),
            on(READ, "core", "replicationcontrollers services"),
            on(READ, "apps", "replicasets statefulsets"),
            on(READ, "policy", "poddisruptionbudgets"),
            on(READ, "scheduling.k8s.io", "priorityclasses"),
            on(READ, "core", "persistentvolumeclaims persistentvolumes"),
            on("create", "authentication.k8s.io", "tokenreviews"),
            on("create", "authorization.k8s.io", "subjectaccessreviews"),
        ],
    ),
    role(
        "system:kubelet-api-admin",
        &[
            on(READ, "core", "nodes"),
            on("proxy", "core", "nodes"),
            on(
                "*",
                "core",
                "nodes/checkpoint nodes/configz nodes/healthz nodes/log nodes/metrics nodes/pods nodes/proxy nodes/stats",
            ),
        ],
    ),
    role(
        "system:monitoring",
        &[at(
            "get",
            "/healthz /healthz/* /livez /livez/* /metrics /metrics/slis /readyz /readyz/*",
        )],
    ),
    role("system:node", NODE),
    role(
        "system:node-bootstrapper",
        &[on(
            "create get list watch",
            "certificates.k8s.io",
            "certificatesigningrequests",
        )],
    ),
    role(
        "system:node-problem-detector",
        &[
            on("get", "core", "nodes"),
            on("patch", "core", "nodes/status"),
            EVENTS,
        ],
    ),
    role(
        "system:node-proxier",
        &[
            on("list watch", "core", "endpoints services"),
            on(READ, "core", "nodes"),
            EVENTS,
            on("list watch", "discovery.k8s.io", "endpointslices"),
        ],
    ),
    role(
        "system:public-info-viewer",
        &[at("get", "/healthz /livez /readyz /version /version/")],
    ),
    role(
        "system:service-account-issuer-discovery",
        &[at(
            "get",
            "/.well-known/openid-configuration /.well-known/openid-configuration/ /openid/v1/jwks /openid/v1/jwks/",
        )],
    ),
    aggregated("view", "edit"),
];

/// The user of the controllers.
const CONTROLLERS: &str = "system:kube-controller-manager";

/// Name of a ClusterRoleBinding, its ClusterRole, its users and its groups.
type Binding = (
    &'static str,
    &'static str,
    &'static [&'static str],
    &'static [&'static str],
);

const BINDINGS: &[Binding] = &[
    ("cluster-admin", "cluster-admin", &[], &["system:masters"]),
    ("everynode:node", "everynode:node", &[], &["system:nodes"]),
    (
        "everynode:node-autoapprove-bootstrap",
        "system:certificates.k8s.io:certificatesigningrequests:nodeclient",
        &[],
        &["system:bootstrappers"],
    ),
    (
        "everynode:node-autoapprove-certificate-rotation",
        "system:certificates.k8s.io:certificatesigningrequests:selfnodeclient",
        &[],
        &["system:nodes"],
    ),
    (
        "everynode:node-bootstrapper",
        "system:node-bootstrapper",
        &[],
        &["system:bootstrappers"],
    ),
    (
        "everynode:public-info-viewer",
        "everynode:public-info-viewer",
        &[],
        &["system:authenticated", "system:unauthenticated"],
    ),
    (
        "system:basic-user",
        "system:basic-user",
        &[],
        &["system:authenticated"],
    ),
    (
        "system:discovery",
        "system:discovery",
        &[],
        &["system:authenticated"],
    ),
    (
        "system:kube-controller-manager",
        "system:kube-controller-manager",
        &[CONTROLLERS],
        &[],
    ),
    (
        "system:kube-dns",
        "system:kube-dns",
        &["system:serviceaccount:kube-system:kube-dns"],
        &[],
    ),
    // The process of the controllers also runs the scheduler.
    (
        "system:kube-scheduler",
        "system:kube-scheduler",
        &["system:kube-scheduler", CONTROLLERS],
        &[],
    ),
    (
        "system:monitoring",
        "system:monitoring",
        &[],
        &["system:monitoring"],
    ),
    // The role is bound to nobody, because a node's permissions depend on its pods.
    ("system:node", "system:node", &[], &[]),
    (
        "system:node-proxier",
        "system:node-proxier",
        &["system:kube-proxy"],
        &[],
    ),
    (
        "system:public-info-viewer",
        "system:public-info-viewer",
        &[],
        &["system:authenticated", "system:unauthenticated"],
    ),
    (
        "system:service-account-issuer-discovery",
        "system:service-account-issuer-discovery",
        &[],
        &["system:serviceaccounts"],
    ),
];

/// Prefix of the roles of single controllers. Each is bound to the ServiceAccount that Kubernetes
/// uses for the controller, and to the user of all controllers here.
const CONTROLLER_ROLE: &str = "system:controller:";

/// Returns the rules that apply to every node.
pub fn node_rules() -> Vec<Rule> {
    NODE.iter().map(Grant::rule).collect()
}

/// Returns the ClusterRoles, sorted by name. Aggregated roles have the rules of their parts.
pub fn cluster_roles() -> Vec<Value> {
    ROLES.iter().map(cluster_role).collect()
}

fn cluster_role(role: &Role) -> Value {
    let mut labels = json!({"kubernetes.io/bootstrapping": "rbac-defaults"});
    if !role.part_of.is_empty() {
        labels[format!("{AGGREGATE_TO}{}", role.part_of)] = "true".into();
    }
    let rules: Vec<Value> = rules_of(role).iter().map(Rule::to_value).collect();
    let mut object = json!({
        "kind": "ClusterRole",
        "apiVersion": format!("{GROUP}/v1"),
        "metadata": {"name": role.name, "labels": labels, "annotations": {AUTO_UPDATE: "true"}},
        "rules": rules,
    });
    if role.is_aggregated {
        let label = format!("{AGGREGATE_TO}{}", role.name);
        object["aggregationRule"] = json!({"clusterRoleSelectors": [{"matchLabels": {label: "true"}}]});
    }
    object
}

/// Returns the role's own rules, or those of its parts sorted by name.
fn rules_of(role: &Role) -> Vec<Rule> {
    if !role.is_aggregated {
        return role.grants.iter().map(Grant::rule).collect();
    }
    let mut rules = Vec::new();
    for rule in ROLES
        .iter()
        .filter(|part| part.part_of == role.name)
        .flat_map(rules_of)
    {
        if !rules.contains(&rule) {
            rules.push(rule);
        }
    }
    rules
}

/// Returns the ClusterRoleBindings.
pub fn cluster_role_bindings() -> Vec<Value> {
    let subject = |kind: &str, name: &str| json!({"kind": kind, "apiGroup": GROUP, "name": name});
    let account =
        |namespace: &str, name: &str| json!({"kind": "ServiceAccount", "namespace": namespace, "name": name});
    let user = |name: &str| match name
        .strip_prefix("system:serviceaccount:")
        .and_then(|rest| rest.split_once(':'))
    {
        Some((namespace, name)) => account(namespace, name),
        None => subject("User", name),
    };
    let named = BINDINGS.iter().map(|(name, role, users, groups)| {
        let users = users.iter().map(|name| user(name));
        let groups = groups.iter().map(|name| subject("Group", name));
        binding(name, role, users.chain(groups).collect())
    });
    let controllers = ROLES.iter().filter_map(|role| {
        let controller = role.name.strip_prefix(CONTROLLER_ROLE)?;
        let subjects = vec![account("kube-system", controller), subject("User", CONTROLLERS)];
        Some(binding(role.name, role.name, subjects))
    });
    named.chain(controllers).collect()
}

fn binding(name: &str, role: &str, subjects: Vec<Value>) -> Value {
    let mut object = json!({
        "kind": "ClusterRoleBinding",
        "apiVersion": format!("{GROUP}/v1"),
        "metadata": {
            "name": name,
            "labels": {"kubernetes.io/bootstrapping": "rbac-defaults"},
            "annotations": {AUTO_UPDATE: "true"},
        },
        "roleRef": {"apiGroup": GROUP, "kind": "ClusterRole", "name": role},
    });
    if !subjects.is_empty() {
        object["subjects"] = subjects.into();
    }
    object
}

/// Returns whether an existing default binding has a wrong role and may be replaced.
pub fn has_wrong_role(found: &Value, wanted: &Value) -> bool {
    found["roleRef"] != wanted["roleRef"] && meta::annotation(found, AUTO_UPDATE) != Some("false")
}

/// Returns an existing default role or binding with the missing parts added; other additions stay.
/// `None` when nothing is missing, or when its annotation forbids updates.
pub fn reconciled(found: &Value, wanted: &Value) -> Option<Value> {
    if meta::annotation(found, AUTO_UPDATE) == Some("false") {
        return None;
    }
    let mut next = found.clone();
    for field in ["labels", "annotations"] {
        let wanted = wanted["metadata"][field].as_object().into_iter().flatten();
        for (key, value) in wanted {
            if found["metadata"][field].get(key).is_none() {
                next["metadata"][field][key] = value.clone();
            }
        }
    }
    if wanted["aggregationRule"].is_null() {
        let held = Rule::all_of(found);
        let rules = wanted["rules"].as_array().into_iter().flatten();
        let lacking = rules.filter(|rule| missing(&held, &[Rule::of(rule)]).is_some());
        append(&mut next, "rules", lacking);
    } else if found["aggregationRule"].is_null() {
        next["aggregationRule"] = wanted["aggregationRule"].clone();
    }
    let subjects = wanted["subjects"].as_array().into_iter().flatten();
    let is_lacking = |subject: &&Value| {
        !found["subjects"]
            .as_array()
            .is_some_and(|found| found.contains(subject))
    };
    append(&mut next, "subjects", subjects.filter(is_lacking));
    (next != *found).then_some(next)
}

fn append<'a>(object: &mut Value, field: &str, items: impl Iterator<Item = &'a Value>) {
    let items: Vec<Value> = items.cloned().collect();
    if items.is_empty() {
        return;
    }
    match object[field].as_array_mut() {
        Some(list) => list.extend(items),
        None => object[field] = items.into(),
    }
}

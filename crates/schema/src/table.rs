//! The facts of every type. Written by `cargo xtask schema` from k8s.io/api and k8s.io/apimachinery v0.36.6; do not edit.

use crate::types::{Field, FieldType::*, Gvk, ListType, Omit::*, PatchStrategy, Type, kind, plain};

/// The types of bodies, sorted by group, version and kind.
pub(crate) static KINDS: &[(Gvk, &Type)] = &[
    (kind("", "v1", "Binding"), &CORE_V1_BINDING),
    (kind("", "v1", "ConfigMap"), &CORE_V1_CONFIG_MAP),
    (kind("", "v1", "ConfigMapList"), &CORE_V1_CONFIG_MAP_LIST),
    (kind("", "v1", "DeleteOptions"), &META_V1_DELETE_OPTIONS),
    (kind("", "v1", "Endpoints"), &CORE_V1_ENDPOINTS),
    (kind("", "v1", "EndpointsList"), &CORE_V1_ENDPOINTS_LIST),
    (kind("", "v1", "Event"), &CORE_V1_EVENT),
    (kind("", "v1", "EventList"), &CORE_V1_EVENT_LIST),
    (kind("", "v1", "Namespace"), &CORE_V1_NAMESPACE),
    (kind("", "v1", "NamespaceList"), &CORE_V1_NAMESPACE_LIST),
    (kind("", "v1", "Node"), &CORE_V1_NODE),
    (kind("", "v1", "NodeList"), &CORE_V1_NODE_LIST),
    (kind("", "v1", "Pod"), &CORE_V1_POD),
    (kind("", "v1", "PodList"), &CORE_V1_POD_LIST),
    (kind("", "v1", "Secret"), &CORE_V1_SECRET),
    (kind("", "v1", "SecretList"), &CORE_V1_SECRET_LIST),
    (kind("", "v1", "Service"), &CORE_V1_SERVICE),
    (kind("", "v1", "ServiceAccount"), &CORE_V1_SERVICE_ACCOUNT),
    (kind("", "v1", "ServiceAccountList"), &CORE_V1_SERVICE_ACCOUNT_LIST),
    (kind("", "v1", "ServiceList"), &CORE_V1_SERVICE_LIST),
    (kind("", "v1", "Status"), &META_V1_STATUS),
    (kind("apps", "v1", "ControllerRevision"), &APPS_V1_CONTROLLER_REVISION),
    (kind("apps", "v1", "ControllerRevisionList"), &APPS_V1_CONTROLLER_REVISION_LIST),
    (kind("apps", "v1", "DaemonSet"), &APPS_V1_DAEMON_SET),
    (kind("apps", "v1", "DaemonSetList"), &APPS_V1_DAEMON_SET_LIST),
    (kind("apps", "v1", "DeleteOptions"), &META_V1_DELETE_OPTIONS),
    (kind("authentication.k8s.io", "v1", "DeleteOptions"), &META_V1_DELETE_OPTIONS),
    (kind("authentication.k8s.io", "v1", "SelfSubjectReview"), &AUTHENTICATION_V1_SELF_SUBJECT_REVIEW),
    (kind("authentication.k8s.io", "v1", "TokenRequest"), &AUTHENTICATION_V1_TOKEN_REQUEST),
    (kind("authentication.k8s.io", "v1", "TokenReview"), &AUTHENTICATION_V1_TOKEN_REVIEW),
    (kind("authorization.k8s.io", "v1", "DeleteOptions"), &META_V1_DELETE_OPTIONS),
    (kind("authorization.k8s.io", "v1", "LocalSubjectAccessReview"), &AUTHORIZATION_V1_LOCAL_SUBJECT_ACCESS_REVIEW),
    (kind("authorization.k8s.io", "v1", "SelfSubjectAccessReview"), &AUTHORIZATION_V1_SELF_SUBJECT_ACCESS_REVIEW),
    (kind("authorization.k8s.io", "v1", "SelfSubjectRulesReview"), &AUTHORIZATION_V1_SELF_SUBJECT_RULES_REVIEW),
    (kind("authorization.k8s.io", "v1", "SubjectAccessReview"), &AUTHORIZATION_V1_SUBJECT_ACCESS_REVIEW),
    (kind("certificates.k8s.io", "v1", "CertificateSigningRequest"), &CERTIFICATES_V1_CERTIFICATE_SIGNING_REQUEST),
    (kind("certificates.k8s.io", "v1", "CertificateSigningRequestList"), &CERTIFICATES_V1_CERTIFICATE_SIGNING_REQUEST_LIST),
    (kind("certificates.k8s.io", "v1", "DeleteOptions"), &META_V1_DELETE_OPTIONS),
    (kind("coordination.k8s.io", "v1", "DeleteOptions"), &META_V1_DELETE_OPTIONS),
    (kind("coordination.k8s.io", "v1", "Lease"), &COORDINATION_V1_LEASE),
    (kind("coordination.k8s.io", "v1", "LeaseList"), &COORDINATION_V1_LEASE_LIST),
    (kind("discovery.k8s.io", "v1", "DeleteOptions"), &META_V1_DELETE_OPTIONS),
    (kind("discovery.k8s.io", "v1", "EndpointSlice"), &DISCOVERY_V1_ENDPOINT_SLICE),
    (kind("discovery.k8s.io", "v1", "EndpointSliceList"), &DISCOVERY_V1_ENDPOINT_SLICE_LIST),
    (kind("events.k8s.io", "v1", "DeleteOptions"), &META_V1_DELETE_OPTIONS),
    (kind("events.k8s.io", "v1", "Event"), &EVENTS_V1_EVENT),
    (kind("events.k8s.io", "v1", "EventList"), &EVENTS_V1_EVENT_LIST),
    (kind("meta.k8s.io", "v1", "DeleteOptions"), &META_V1_DELETE_OPTIONS),
    (kind("policy", "v1", "DeleteOptions"), &META_V1_DELETE_OPTIONS),
    (kind("policy", "v1", "Eviction"), &POLICY_V1_EVICTION),
    (kind("policy", "v1", "PodDisruptionBudget"), &POLICY_V1_POD_DISRUPTION_BUDGET),
    (kind("policy", "v1", "PodDisruptionBudgetList"), &POLICY_V1_POD_DISRUPTION_BUDGET_LIST),
    (kind("rbac.authorization.k8s.io", "v1", "ClusterRole"), &RBAC_V1_CLUSTER_ROLE),
    (kind("rbac.authorization.k8s.io", "v1", "ClusterRoleBinding"), &RBAC_V1_CLUSTER_ROLE_BINDING),
    (kind("rbac.authorization.k8s.io", "v1", "ClusterRoleBindingList"), &RBAC_V1_CLUSTER_ROLE_BINDING_LIST),
    (kind("rbac.authorization.k8s.io", "v1", "ClusterRoleList"), &RBAC_V1_CLUSTER_ROLE_LIST),
    (kind("rbac.authorization.k8s.io", "v1", "DeleteOptions"), &META_V1_DELETE_OPTIONS),
    (kind("rbac.authorization.k8s.io", "v1", "Role"), &RBAC_V1_ROLE),
    (kind("rbac.authorization.k8s.io", "v1", "RoleBinding"), &RBAC_V1_ROLE_BINDING),
    (kind("rbac.authorization.k8s.io", "v1", "RoleBindingList"), &RBAC_V1_ROLE_BINDING_LIST),
    (kind("rbac.authorization.k8s.io", "v1", "RoleList"), &RBAC_V1_ROLE_LIST),
    (kind("scheduling.k8s.io", "v1", "DeleteOptions"), &META_V1_DELETE_OPTIONS),
    (kind("scheduling.k8s.io", "v1", "PriorityClass"), &SCHEDULING_V1_PRIORITY_CLASS),
    (kind("scheduling.k8s.io", "v1", "PriorityClassList"), &SCHEDULING_V1_PRIORITY_CLASS_LIST),
];

static APPS_V1_CONTROLLER_REVISION: Type = Type {
    name: "io.k8s.api.apps.v1.ControllerRevision",
    go: "v1.ControllerRevision",
    gvks: &[kind("apps", "v1", "ControllerRevision")],
    atomic: false,
    fields: &[
        plain("apiVersion", 0, String, Empty),
        plain("data", 2, Raw, Null),
        plain("kind", 0, String, Empty),
        plain("metadata", 1, Object(&META_V1_OBJECT_META), Never),
        Field { required: true, ..plain("revision", 3, Int64, Never) },
    ],
};

static APPS_V1_CONTROLLER_REVISION_LIST: Type = Type {
    name: "io.k8s.api.apps.v1.ControllerRevisionList",
    go: "v1.ControllerRevisionList",
    gvks: &[kind("apps", "v1", "ControllerRevisionList")],
    atomic: false,
    fields: &[
        plain("apiVersion", 0, String, Empty),
        Field { required: true, ..plain("items", 2, List(&Object(&APPS_V1_CONTROLLER_REVISION)), Null) },
        plain("kind", 0, String, Empty),
        plain("metadata", 1, Object(&META_V1_LIST_META), Never),
    ],
};

static APPS_V1_DAEMON_SET: Type = Type {
    name: "io.k8s.api.apps.v1.DaemonSet",
    go: "v1.DaemonSet",
    gvks: &[kind("apps", "v1", "DaemonSet")],
    atomic: false,
    fields: &[
        plain("apiVersion", 0, String, Empty),
        plain("kind", 0, String, Empty),
        plain("metadata", 1, Object(&META_V1_OBJECT_META), Never),
        plain("spec", 2, Object(&APPS_V1_DAEMON_SET_SPEC), Never),
        plain("status", 3, Object(&APPS_V1_DAEMON_SET_STATUS), Never),
    ],
};

static APPS_V1_DAEMON_SET_CONDITION: Type = Type {
    name: "io.k8s.api.apps.v1.DaemonSetCondition",
    go: "v1.DaemonSetCondition",
    gvks: &[],
    atomic: false,
    fields: &[
        plain("lastTransitionTime", 3, Time, Null),
        plain("message", 5, String, Empty),
        plain("reason", 4, String, Empty),
        Field { go: "v1.ConditionStatus", required: true, ..plain("status", 2, String, Never) },
        Field { go: "v1.DaemonSetConditionType", required: true, ..plain("type", 1, String, Never) },
    ],
};

static APPS_V1_DAEMON_SET_LIST: Type = Type {
    name: "io.k8s.api.apps.v1.DaemonSetList",
    go: "v1.DaemonSetList",
    gvks: &[kind("apps", "v1", "DaemonSetList")],
    atomic: false,
    fields: &[
        plain("apiVersion", 0, String, Empty),
        Field { required: true, ..plain("items", 2, List(&Object(&APPS_V1_DAEMON_SET)), Null) },
        plain("kind", 0, String, Empty),
        plain("metadata", 1, Object(&META_V1_LIST_META), Never),
    ],
};

static APPS_V1_DAEMON_SET_SPEC: Type = Type {
    name: "io.k8s.api.apps.v1.DaemonSetSpec",
    go: "v1.DaemonSetSpec",
    gvks: &[],
    atomic: false,
    fields: &[
        plain("minReadySeconds", 4, Int32, Empty),
        plain("revisionHistoryLimit", 6, Int32, Unset),
        Field { required: true, ..plain("selector", 1, Object(&META_V1_LABEL_SELECTOR), Null) },
        Field { required: true, ..plain("template", 2, Object(&CORE_V1_POD_TEMPLATE_SPEC), Never) },
        plain("updateStrategy", 3, Object(&APPS_V1_DAEMON_SET_UPDATE_STRATEGY), Never),
    ],
};

static APPS_V1_DAEMON_SET_STATUS: Type = Type {
    name: "io.k8s.api.apps.v1.DaemonSetStatus",
    go: "v1.DaemonSetStatus",
    gvks: &[],
    atomic: false,
    fields: &[
        plain("collisionCount", 9, Int32, Unset),
        Field { list: ListType::Map, keys: &["type"], patch: PatchStrategy::Merge, merge_key: Some("type"), ..plain("conditions", 10, List(&Object(&APPS_V1_DAEMON_SET_CONDITION)), Empty) },
        Field { required: true, ..plain("currentNumberScheduled", 1, Int32, Never) },
        Field { required: true, ..plain("desiredNumberScheduled", 3, Int32, Never) },
        plain("numberAvailable", 7, Int32, Empty),
        Field { required: true, ..plain("numberMisscheduled", 2, Int32, Never) },
        Field { required: true, ..plain("numberReady", 4, Int32, Never) },
        plain("numberUnavailable", 8, Int32, Empty),
        plain("observedGeneration", 5, Int64, Empty),
        plain("updatedNumberScheduled", 6, Int32, Empty),
    ],
};

static APPS_V1_DAEMON_SET_UPDATE_STRATEGY: Type = Type {
    name: "io.k8s.api.apps.v1.DaemonSetUpdateStrategy",
    go: "v1.DaemonSetUpdateStrategy",
    gvks: &[],
    atomic: false,
    fields: &[
        plain("rollingUpdate", 2, Object(&APPS_V1_ROLLING_UPDATE_DAEMON_SET), Unset),
        Field { go: "v1.DaemonSetUpdateStrategyType", ..plain("type", 1, String, Empty) },
    ],
};

static APPS_V1_ROLLING_UPDATE_DAEMON_SET: Type = Type {
    name: "io.k8s.api.apps.v1.RollingUpdateDaemonSet",
    go: "v1.RollingUpdateDaemonSet",
    gvks: &[],
    atomic: false,
    fields: &[
        plain("maxSurge", 2, IntOrString, Unset),
        plain("maxUnavailable", 1, IntOrString, Unset),
    ],
};

static AUTHENTICATION_V1_BOUND_OBJECT_REFERENCE: Type = Type {
    name: "io.k8s.api.authentication.v1.BoundObjectReference",
    go: "v1.BoundObjectReference",
    gvks: &[],
    atomic: false,
    fields: &[
        plain("apiVersion", 2, String, Empty),
        plain("kind", 1, String, Empty),
        plain("name", 3, String, Empty),
        Field { go: "types.UID", ..plain("uid", 4, String, Empty) },
    ],
};

static AUTHENTICATION_V1_SELF_SUBJECT_REVIEW: Type = Type {
    name: "io.k8s.api.authentication.v1.SelfSubjectReview",
    go: "v1.SelfSubjectReview",
    gvks: &[kind("authentication.k8s.io", "v1", "SelfSubjectReview")],
    atomic: false,
    fields: &[
        plain("apiVersion", 0, String, Empty),
        plain("kind", 0, String, Empty),
        plain("metadata", 1, Object(&META_V1_OBJECT_META), Never),
        plain("status", 2, Object(&AUTHENTICATION_V1_SELF_SUBJECT_REVIEW_STATUS), Never),
    ],
};

static AUTHENTICATION_V1_SELF_SUBJECT_REVIEW_STATUS: Type = Type {
    name: "io.k8s.api.authentication.v1.SelfSubjectReviewStatus",
    go: "v1.SelfSubjectReviewStatus",
    gvks: &[],
    atomic: false,
    fields: &[
        plain("userInfo", 1, Object(&AUTHENTICATION_V1_USER_INFO), Never),
    ],
};

static AUTHENTICATION_V1_TOKEN_REQUEST: Type = Type {
    name: "io.k8s.api.authentication.v1.TokenRequest",
    go: "v1.TokenRequest",
    gvks: &[kind("authentication.k8s.io", "v1", "TokenRequest")],
    atomic: false,
    fields: &[
        plain("apiVersion", 0, String, Empty),
        plain("kind", 0, String, Empty),
        plain("metadata", 1, Object(&META_V1_OBJECT_META), Never),
        plain("spec", 2, Object(&AUTHENTICATION_V1_TOKEN_REQUEST_SPEC), Never),
        plain("status", 3, Object(&AUTHENTICATION_V1_TOKEN_REQUEST_STATUS), Never),
    ],
};

static AUTHENTICATION_V1_TOKEN_REQUEST_SPEC: Type = Type {
    name: "io.k8s.api.authentication.v1.TokenRequestSpec",
    go: "v1.TokenRequestSpec",
    gvks: &[],
    atomic: false,
    fields: &[
        Field { list: ListType::Atomic, ..plain("audiences", 1, List(&String), Null) },
        plain("boundObjectRef", 3, Object(&AUTHENTICATION_V1_BOUND_OBJECT_REFERENCE), Null),
        plain("expirationSeconds", 4, Int64, Null),
    ],
};

static AUTHENTICATION_V1_TOKEN_REQUEST_STATUS: Type = Type {
    name: "io.k8s.api.authentication.v1.TokenRequestStatus",
    go: "v1.TokenRequestStatus",
    gvks: &[],
    atomic: false,
    fields: &[
        plain("expirationTimestamp", 2, Time, Null),
        plain("token", 1, String, Never),
    ],
};

static AUTHENTICATION_V1_TOKEN_REVIEW: Type = Type {
    name: "io.k8s.api.authentication.v1.TokenReview",
    go: "v1.TokenReview",
    gvks: &[kind("authentication.k8s.io", "v1", "TokenReview")],
    atomic: false,
    fields: &[
        plain("apiVersion", 0, String, Empty),
        plain("kind", 0, String, Empty),
        plain("metadata", 1, Object(&META_V1_OBJECT_META), Never),
        Field { required: true, ..plain("spec", 2, Object(&AUTHENTICATION_V1_TOKEN_REVIEW_SPEC), Never) },
        plain("status", 3, Object(&AUTHENTICATION_V1_TOKEN_REVIEW_STATUS), Never),
    ],
};

static AUTHENTICATION_V1_TOKEN_REVIEW_SPEC: Type = Type {
    name: "io.k8s.api.authentication.v1.TokenReviewSpec",
    go: "v1.TokenReviewSpec",
    gvks: &[],
    atomic: false,
    fields: &[
        Field { list: ListType::Atomic, ..plain("audiences", 2, List(&String), Empty) },
        plain("token", 1, String, Empty),
    ],
};

static AUTHENTICATION_V1_TOKEN_REVIEW_STATUS: Type = Type {
    name: "io.k8s.api.authentication.v1.TokenReviewStatus",
    go: "v1.TokenReviewStatus",
    gvks: &[],
    atomic: false,
    fields: &[
        Field { list: ListType::Atomic, ..plain("audiences", 4, List(&String), Empty) },
        plain("authenticated", 1, Bool, Empty),
        plain("error", 3, String, Empty),
        plain("user", 2, Object(&AUTHENTICATION_V1_USER_INFO), Never),
    ],
};

static AUTHENTICATION_V1_USER_INFO: Type = Type {
    name: "io.k8s.api.authentication.v1.UserInfo",
    go: "v1.UserInfo",
    gvks: &[],
    atomic: false,
    fields: &[
        plain("extra", 4, Map(&StringList), Empty),
        Field { list: ListType::Atomic, ..plain("groups", 3, List(&String), Empty) },
        plain("uid", 2, String, Empty),
        plain("username", 1, String, Empty),
    ],
};

static AUTHORIZATION_V1_FIELD_SELECTOR_ATTRIBUTES: Type = Type {
    name: "io.k8s.api.authorization.v1.FieldSelectorAttributes",
    go: "v1.FieldSelectorAttributes",
    gvks: &[],
    atomic: false,
    fields: &[
        plain("rawSelector", 1, String, Empty),
        Field { list: ListType::Atomic, ..plain("requirements", 2, List(&Object(&META_V1_FIELD_SELECTOR_REQUIREMENT)), Empty) },
    ],
};

static AUTHORIZATION_V1_LABEL_SELECTOR_ATTRIBUTES: Type = Type {
    name: "io.k8s.api.authorization.v1.LabelSelectorAttributes",
    go: "v1.LabelSelectorAttributes",
    gvks: &[],
    atomic: false,
    fields: &[
        plain("rawSelector", 1, String, Empty),
        Field { list: ListType::Atomic, ..plain("requirements", 2, List(&Object(&META_V1_LABEL_SELECTOR_REQUIREMENT)), Empty) },
    ],
};

static AUTHORIZATION_V1_LOCAL_SUBJECT_ACCESS_REVIEW: Type = Type {
    name: "io.k8s.api.authorization.v1.LocalSubjectAccessReview",
    go: "v1.LocalSubjectAccessReview",
    gvks: &[kind("authorization.k8s.io", "v1", "LocalSubjectAccessReview")],
    atomic: false,
    fields: &[
        plain("apiVersion", 0, String, Empty),
        plain("kind", 0, String, Empty),
        plain("metadata", 1, Object(&META_V1_OBJECT_META), Never),
        Field { required: true, ..plain("spec", 2, Object(&AUTHORIZATION_V1_SUBJECT_ACCESS_REVIEW_SPEC), Never) },
        plain("status", 3, Object(&AUTHORIZATION_V1_SUBJECT_ACCESS_REVIEW_STATUS), Never),
    ],
};

static AUTHORIZATION_V1_NON_RESOURCE_ATTRIBUTES: Type = Type {
    name: "io.k8s.api.authorization.v1.NonResourceAttributes",
    go: "v1.NonResourceAttributes",
    gvks: &[],
    atomic: false,
    fields: &[
        plain("path", 1, String, Empty),
        plain("verb", 2, String, Empty),
    ],
};

static AUTHORIZATION_V1_NON_RESOURCE_RULE: Type = Type {
    name: "io.k8s.api.authorization.v1.NonResourceRule",
    go: "v1.NonResourceRule",
    gvks: &[],
    atomic: false,
    fields: &[
        Field { list: ListType::Atomic, ..plain("nonResourceURLs", 2, List(&String), Empty) },
        Field { required: true, list: ListType::Atomic, ..plain("verbs", 1, List(&String), Null) },
    ],
};

static AUTHORIZATION_V1_RESOURCE_ATTRIBUTES: Type = Type {
    name: "io.k8s.api.authorization.v1.ResourceAttributes",
    go: "v1.ResourceAttributes",
    gvks: &[],
    atomic: false,
    fields: &[
        plain("fieldSelector", 8, Object(&AUTHORIZATION_V1_FIELD_SELECTOR_ATTRIBUTES), Unset),
        plain("group", 3, String, Empty),
        plain("labelSelector", 9, Object(&AUTHORIZATION_V1_LABEL_SELECTOR_ATTRIBUTES), Unset),
        plain("name", 7, String, Empty),
        plain("namespace", 1, String, Empty),
        plain("resource", 5, String, Empty),
        plain("subresource", 6, String, Empty),
        plain("verb", 2, String, Empty),
        plain("version", 4, String, Empty),
    ],
};

static AUTHORIZATION_V1_RESOURCE_RULE: Type = Type {
    name: "io.k8s.api.authorization.v1.ResourceRule",
    go: "v1.ResourceRule",
    gvks: &[],
    atomic: false,
    fields: &[
        Field { list: ListType::Atomic, ..plain("apiGroups", 2, List(&String), Empty) },
        Field { list: ListType::Atomic, ..plain("resourceNames", 4, List(&String), Empty) },
        Field { list: ListType::Atomic, ..plain("resources", 3, List(&String), Empty) },
        Field { required: true, list: ListType::Atomic, ..plain("verbs", 1, List(&String), Null) },
    ],
};

static AUTHORIZATION_V1_SELF_SUBJECT_ACCESS_REVIEW: Type = Type {
    name: "io.k8s.api.authorization.v1.SelfSubjectAccessReview",
    go: "v1.SelfSubjectAccessReview",
    gvks: &[kind("authorization.k8s.io", "v1", "SelfSubjectAccessReview")],
    atomic: false,
    fields: &[
        plain("apiVersion", 0, String, Empty),
        plain("kind", 0, String, Empty),
        plain("metadata", 1, Object(&META_V1_OBJECT_META), Never),
        Field { required: true, ..plain("spec", 2, Object(&AUTHORIZATION_V1_SELF_SUBJECT_ACCESS_REVIEW_SPEC), Never) },
        plain("status", 3, Object(&AUTHORIZATION_V1_SUBJECT_ACCESS_REVIEW_STATUS), Never),
    ],
};

static AUTHORIZATION_V1_SELF_SUBJECT_ACCESS_REVIEW_SPEC: Type = Type {
    name: "io.k8s.api.authorization.v1.SelfSubjectAccessReviewSpec",
    go: "v1.SelfSubjectAccessReviewSpec",
    gvks: &[],
    atomic: false,
    fields: &[
        plain("nonResourceAttributes", 2, Object(&AUTHORIZATION_V1_NON_RESOURCE_ATTRIBUTES), Unset),
        plain("resourceAttributes", 1, Object(&AUTHORIZATION_V1_RESOURCE_ATTRIBUTES), Unset),
    ],
};

static AUTHORIZATION_V1_SELF_SUBJECT_RULES_REVIEW: Type = Type {
    name: "io.k8s.api.authorization.v1.SelfSubjectRulesReview",
    go: "v1.SelfSubjectRulesReview",
    gvks: &[kind("authorization.k8s.io", "v1", "SelfSubjectRulesReview")],
    atomic: false,
    fields: &[
        plain("apiVersion", 0, String, Empty),
        plain("kind", 0, String, Empty),
        plain("metadata", 1, Object(&META_V1_OBJECT_META), Never),
        Field { required: true, ..plain("spec", 2, Object(&AUTHORIZATION_V1_SELF_SUBJECT_RULES_REVIEW_SPEC), Never) },
        plain("status", 3, Object(&AUTHORIZATION_V1_SUBJECT_RULES_REVIEW_STATUS), Never),
    ],
};

static AUTHORIZATION_V1_SELF_SUBJECT_RULES_REVIEW_SPEC: Type = Type {
    name: "io.k8s.api.authorization.v1.SelfSubjectRulesReviewSpec",
    go: "v1.SelfSubjectRulesReviewSpec",
    gvks: &[],
    atomic: false,
    fields: &[
        plain("namespace", 1, String, Empty),
    ],
};

static AUTHORIZATION_V1_SUBJECT_ACCESS_REVIEW: Type = Type {
    name: "io.k8s.api.authorization.v1.SubjectAccessReview",
    go: "v1.SubjectAccessReview",
    gvks: &[kind("authorization.k8s.io", "v1", "SubjectAccessReview")],
    atomic: false,
    fields: &[
        plain("apiVersion", 0, String, Empty),
        plain("kind", 0, String, Empty),
        plain("metadata", 1, Object(&META_V1_OBJECT_META), Never),
        Field { required: true, ..plain("spec", 2, Object(&AUTHORIZATION_V1_SUBJECT_ACCESS_REVIEW_SPEC), Never) },
        plain("status", 3, Object(&AUTHORIZATION_V1_SUBJECT_ACCESS_REVIEW_STATUS), Never),
    ],
};

static AUTHORIZATION_V1_SUBJECT_ACCESS_REVIEW_SPEC: Type = Type {
    name: "io.k8s.api.authorization.v1.SubjectAccessReviewSpec",
    go: "v1.SubjectAccessReviewSpec",
    gvks: &[],
    atomic: false,
    fields: &[
        plain("extra", 5, Map(&StringList), Empty),
        Field { list: ListType::Atomic, ..plain("groups", 4, List(&String), Empty) },
        plain("nonResourceAttributes", 2, Object(&AUTHORIZATION_V1_NON_RESOURCE_ATTRIBUTES), Unset),
        plain("resourceAttributes", 1, Object(&AUTHORIZATION_V1_RESOURCE_ATTRIBUTES), Unset),
        plain("uid", 6, String, Empty),
        plain("user", 3, String, Empty),
    ],
};

static AUTHORIZATION_V1_SUBJECT_ACCESS_REVIEW_STATUS: Type = Type {
    name: "io.k8s.api.authorization.v1.SubjectAccessReviewStatus",
    go: "v1.SubjectAccessReviewStatus",
    gvks: &[],
    atomic: false,
    fields: &[
        Field { required: true, ..plain("allowed", 1, Bool, Never) },
        plain("denied", 4, Bool, Empty),
        plain("evaluationError", 3, String, Empty),
        plain("reason", 2, String, Empty),
    ],
};

static AUTHORIZATION_V1_SUBJECT_RULES_REVIEW_STATUS: Type = Type {
    name: "io.k8s.api.authorization.v1.SubjectRulesReviewStatus",
    go: "v1.SubjectRulesReviewStatus",
    gvks: &[],
    atomic: false,
    fields: &[
        plain("evaluationError", 4, String, Empty),
        Field { required: true, ..plain("incomplete", 3, Bool, Never) },
        Field { required: true, list: ListType::Atomic, ..plain("nonResourceRules", 2, List(&Object(&AUTHORIZATION_V1_NON_RESOURCE_RULE)), Null) },
        Field { required: true, list: ListType::Atomic, ..plain("resourceRules", 1, List(&Object(&AUTHORIZATION_V1_RESOURCE_RULE)), Null) },
    ],
};

static CERTIFICATES_V1_CERTIFICATE_SIGNING_REQUEST: Type = Type {
    name: "io.k8s.api.certificates.v1.CertificateSigningRequest",
    go: "v1.CertificateSigningRequest",
    gvks: &[kind("certificates.k8s.io", "v1", "CertificateSigningRequest")],
    atomic: false,
    fields: &[
        plain("apiVersion", 0, String, Empty),
        plain("kind", 0, String, Empty),
        plain("metadata", 1, Object(&META_V1_OBJECT_META), Never),
        Field { required: true, ..plain("spec", 2, Object(&CERTIFICATES_V1_CERTIFICATE_SIGNING_REQUEST_SPEC), Never) },
        plain("status", 3, Object(&CERTIFICATES_V1_CERTIFICATE_SIGNING_REQUEST_STATUS), Never),
    ],
};

static CERTIFICATES_V1_CERTIFICATE_SIGNING_REQUEST_CONDITION: Type = Type {
    name: "io.k8s.api.certificates.v1.CertificateSigningRequestCondition",
    go: "v1.CertificateSigningRequestCondition",
    gvks: &[],
    atomic: false,
    fields: &[
        plain("lastTransitionTime", 5, Time, Null),
        plain("lastUpdateTime", 4, Time, Null),
        plain("message", 3, String, Empty),
        plain("reason", 2, String, Empty),
        Field { go: "v1.ConditionStatus", required: true, ..plain("status", 6, String, Never) },
        Field { go: "v1.RequestConditionType", required: true, ..plain("type", 1, String, Never) },
    ],
};

static CERTIFICATES_V1_CERTIFICATE_SIGNING_REQUEST_LIST: Type = Type {
    name: "io.k8s.api.certificates.v1.CertificateSigningRequestList",
    go: "v1.CertificateSigningRequestList",
    gvks: &[kind("certificates.k8s.io", "v1", "CertificateSigningRequestList")],
    atomic: false,
    fields: &[
        plain("apiVersion", 0, String, Empty),
        Field { required: true, ..plain("items", 2, List(&Object(&CERTIFICATES_V1_CERTIFICATE_SIGNING_REQUEST)), Null) },
        plain("kind", 0, String, Empty),
        plain("metadata", 1, Object(&META_V1_LIST_META), Never),
    ],
};

static CERTIFICATES_V1_CERTIFICATE_SIGNING_REQUEST_SPEC: Type = Type {
    name: "io.k8s.api.certificates.v1.CertificateSigningRequestSpec",
    go: "v1.CertificateSigningRequestSpec",
    gvks: &[],
    atomic: false,
    fields: &[
        plain("expirationSeconds", 8, Int32, Unset),
        plain("extra", 6, Map(&StringList), Empty),
        Field { list: ListType::Atomic, ..plain("groups", 4, List(&String), Empty) },
        Field { required: true, ..plain("request", 1, Bytes, Null) },
        Field { required: true, ..plain("signerName", 7, String, Never) },
        plain("uid", 3, String, Empty),
        Field { go: "[]v1.KeyUsage", list: ListType::Atomic, ..plain("usages", 5, List(&String), Empty) },
        plain("username", 2, String, Empty),
    ],
};

static CERTIFICATES_V1_CERTIFICATE_SIGNING_REQUEST_STATUS: Type = Type {
    name: "io.k8s.api.certificates.v1.CertificateSigningRequestStatus",
    go: "v1.CertificateSigningRequestStatus",
    gvks: &[],
    atomic: false,
    fields: &[
        plain("certificate", 2, Bytes, Empty),
        Field { list: ListType::Map, keys: &["type"], ..plain("conditions", 1, List(&Object(&CERTIFICATES_V1_CERTIFICATE_SIGNING_REQUEST_CONDITION)), Empty) },
    ],
};

static COORDINATION_V1_LEASE: Type = Type {
    name: "io.k8s.api.coordination.v1.Lease",
    go: "v1.Lease",
    gvks: &[kind("coordination.k8s.io", "v1", "Lease")],
    atomic: false,
    fields: &[
        plain("apiVersion", 0, String, Empty),
        plain("kind", 0, String, Empty),
        plain("metadata", 1, Object(&META_V1_OBJECT_META), Never),
        plain("spec", 2, Object(&COORDINATION_V1_LEASE_SPEC), Never),
    ],
};

static COORDINATION_V1_LEASE_LIST: Type = Type {
    name: "io.k8s.api.coordination.v1.LeaseList",
    go: "v1.LeaseList",
    gvks: &[kind("coordination.k8s.io", "v1", "LeaseList")],
    atomic: false,
    fields: &[
        plain("apiVersion", 0, String, Empty),
        Field { required: true, ..plain("items", 2, List(&Object(&COORDINATION_V1_LEASE)), Null) },
        plain("kind", 0, String, Empty),
        plain("metadata", 1, Object(&META_V1_LIST_META), Never),
    ],
};

static COORDINATION_V1_LEASE_SPEC: Type = Type {
    name: "io.k8s.api.coordination.v1.LeaseSpec",
    go: "v1.LeaseSpec",
    gvks: &[],
    atomic: false,
    fields: &[
        plain("acquireTime", 3, MicroTime, Unset),
        plain("holderIdentity", 1, String, Unset),
        plain("leaseDurationSeconds", 2, Int32, Unset),
        plain("leaseTransitions", 5, Int32, Unset),
        plain("preferredHolder", 7, String, Unset),
        plain("renewTime", 4, MicroTime, Unset),
        Field { go: "v1.CoordinatedLeaseStrategy", ..plain("strategy", 6, String, Unset) },
    ],
};

static CORE_V1_AWS_ELASTIC_BLOCK_STORE_VOLUME_SOURCE: Type = Type {
    name: "io.k8s.api.core.v1.AWSElasticBlockStoreVolumeSource",
    go: "v1.AWSElasticBlockStoreVolumeSource",
    gvks: &[],
    atomic: false,
    fields: &[
        plain("fsType", 2, String, Empty),
        plain("partition", 3, Int32, Empty),
        plain("readOnly", 4, Bool, Empty),
        Field { required: true, ..plain("volumeID", 1, String, Never) },
    ],
};

static CORE_V1_AFFINITY: Type = Type {
    name: "io.k8s.api.core.v1.Affinity",
    go: "v1.Affinity",
    gvks: &[],
    atomic: false,
    fields: &[
        plain("nodeAffinity", 1, Object(&CORE_V1_NODE_AFFINITY), Unset),
        plain("podAffinity", 2, Object(&CORE_V1_POD_AFFINITY), Unset),
        plain("podAntiAffinity", 3, Object(&CORE_V1_POD_ANTI_AFFINITY), Unset),
    ],
};

static CORE_V1_APP_ARMOR_PROFILE: Type = Type {
    name: "io.k8s.api.core.v1.AppArmorProfile",
    go: "v1.AppArmorProfile",
    gvks: &[],
    atomic: false,
    fields: &[
        plain("localhostProfile", 2, String, Unset),
        Field { go: "v1.AppArmorProfileType", required: true, ..plain("type", 1, String, Never) },
    ],
};

static CORE_V1_ATTACHED_VOLUME: Type = Type {
    name: "io.k8s.api.core.v1.AttachedVolume",
    go: "v1.AttachedVolume",
    gvks: &[],
    atomic: false,
    fields: &[
        Field { required: true, ..plain("devicePath", 2, String, Never) },
        Field { go: "v1.UniqueVolumeName", required: true, ..plain("name", 1, String, Never) },
    ],
};

static CORE_V1_AZURE_DISK_VOLUME_SOURCE: Type = Type {
    name: "io.k8s.api.core.v1.AzureDiskVolumeSource",
    go: "v1.AzureDiskVolumeSource",
    gvks: &[],
    atomic: false,
    fields: &[
        Field { go: "v1.AzureDataDiskCachingMode", ..plain("cachingMode", 3, String, Unset) },
        Field { required: true, ..plain("diskName", 1, String, Never) },
        Field { required: true, ..plain("diskURI", 2, String, Never) },
        plain("fsType", 4, String, Unset),
        Field { go: "v1.AzureDataDiskKind", ..plain("kind", 6, String, Unset) },
        plain("readOnly", 5, Bool, Unset),
    ],
};

static CORE_V1_AZURE_FILE_VOLUME_SOURCE: Type = Type {
    name: "io.k8s.api.core.v1.AzureFileVolumeSource",
    go: "v1.AzureFileVolumeSource",
    gvks: &[],
    atomic: false,
    fields: &[
        plain("readOnly", 3, Bool, Empty),
        Field { required: true, ..plain("secretName", 1, String, Never) },
        Field { required: true, ..plain("shareName", 2, String, Never) },
    ],
};

static CORE_V1_BINDING: Type = Type {
    name: "io.k8s.api.core.v1.Binding",
    go: "v1.Binding",
    gvks: &[kind("", "v1", "Binding")],
    atomic: false,
    fields: &[
        plain("apiVersion", 0, String, Empty),
        plain("kind", 0, String, Empty),
        plain("metadata", 1, Object(&META_V1_OBJECT_META), Never),
        Field { required: true, ..plain("target", 2, Object(&CORE_V1_OBJECT_REFERENCE), Never) },
    ],
};

static CORE_V1_CSI_VOLUME_SOURCE: Type = Type {
    name: "io.k8s.api.core.v1.CSIVolumeSource",
    go: "v1.CSIVolumeSource",
    gvks: &[],
    atomic: false,
    fields: &[
        Field { required: true, ..plain("driver", 1, String, Never) },
        plain("fsType", 3, String, Unset),
        plain("nodePublishSecretRef", 5, Object(&CORE_V1_LOCAL_OBJECT_REFERENCE), Unset),
        plain("readOnly", 2, Bool, Unset),
        plain("volumeAttributes", 4, Map(&String), Empty),
    ],
};

static CORE_V1_CAPABILITIES: Type = Type {
    name: "io.k8s.api.core.v1.Capabilities",
    go: "v1.Capabilities",
    gvks: &[],
    atomic: false,
    fields: &[
        Field { go: "[]v1.Capability", list: ListType::Atomic, ..plain("add", 1, List(&String), Empty) },
        Field { go: "[]v1.Capability", list: ListType::Atomic, ..plain("drop", 2, List(&String), Empty) },
    ],
};

static CORE_V1_CEPH_FS_VOLUME_SOURCE: Type = Type {
    name: "io.k8s.api.core.v1.CephFSVolumeSource",
    go: "v1.CephFSVolumeSource",
    gvks: &[],
    atomic: false,
    fields: &[
        Field { required: true, list: ListType::Atomic, ..plain("monitors", 1, List(&String), Null) },
        plain("path", 2, String, Empty),
        plain("readOnly", 6, Bool, Empty),
        plain("secretFile", 4, String, Empty),
        plain("secretRef", 5, Object(&CORE_V1_LOCAL_OBJECT_REFERENCE), Unset),
        plain("user", 3, String, Empty),
    ],
};

static CORE_V1_CINDER_VOLUME_SOURCE: Type = Type {
    name: "io.k8s.api.core.v1.CinderVolumeSource",
    go: "v1.CinderVolumeSource",
    gvks: &[],
    atomic: false,
    fields: &[
        plain("fsType", 2, String, Empty),
        plain("readOnly", 3, Bool, Empty),
        plain("secretRef", 4, Object(&CORE_V1_LOCAL_OBJECT_REFERENCE), Unset),
        Field { required: true, ..plain("volumeID", 1, String, Never) },
    ],
};

static CORE_V1_CLIENT_IP_CONFIG: Type = Type {
    name: "io.k8s.api.core.v1.ClientIPConfig",
    go: "v1.ClientIPConfig",
    gvks: &[],
    atomic: false,
    fields: &[
        plain("timeoutSeconds", 1, Int32, Unset),
    ],
};

static CORE_V1_CLUSTER_TRUST_BUNDLE_PROJECTION: Type = Type {
    name: "io.k8s.api.core.v1.ClusterTrustBundleProjection",
    go: "v1.ClusterTrustBundleProjection",
    gvks: &[],
    atomic: false,
    fields: &[
        plain("labelSelector", 3, Object(&META_V1_LABEL_SELECTOR), Unset),
        plain("name", 1, String, Unset),
        plain("optional", 5, Bool, Unset),
        Field { required: true, ..plain("path", 4, String, Never) },
        plain("signerName", 2, String, Unset),
    ],
};

static CORE_V1_CONFIG_MAP: Type = Type {
    name: "io.k8s.api.core.v1.ConfigMap",
    go: "v1.ConfigMap",
    gvks: &[kind("", "v1", "ConfigMap")],
    atomic: false,
    fields: &[
        plain("apiVersion", 0, String, Empty),
        plain("binaryData", 3, Map(&Bytes), Empty),
        plain("data", 2, Map(&String), Empty),
        plain("immutable", 4, Bool, Unset),
        plain("kind", 0, String, Empty),
        plain("metadata", 1, Object(&META_V1_OBJECT_META), Never),
    ],
};

static CORE_V1_CONFIG_MAP_ENV_SOURCE: Type = Type {
    name: "io.k8s.api.core.v1.ConfigMapEnvSource",
    go: "v1.ConfigMapEnvSource",
    gvks: &[],
    atomic: false,
    fields: &[
        Field { within: 1, ..plain("name", 1, String, Empty) },
        plain("optional", 2, Bool, Unset),
    ],
};

static CORE_V1_CONFIG_MAP_KEY_SELECTOR: Type = Type {
    name: "io.k8s.api.core.v1.ConfigMapKeySelector",
    go: "v1.ConfigMapKeySelector",
    gvks: &[],
    atomic: true,
    fields: &[
        Field { required: true, ..plain("key", 2, String, Never) },
        Field { within: 1, ..plain("name", 1, String, Empty) },
        plain("optional", 3, Bool, Unset),
    ],
};

static CORE_V1_CONFIG_MAP_LIST: Type = Type {
    name: "io.k8s.api.core.v1.ConfigMapList",
    go: "v1.ConfigMapList",
    gvks: &[kind("", "v1", "ConfigMapList")],
    atomic: false,
    fields: &[
        plain("apiVersion", 0, String, Empty),
        Field { required: true, ..plain("items", 2, List(&Object(&CORE_V1_CONFIG_MAP)), Null) },
        plain("kind", 0, String, Empty),
        plain("metadata", 1, Object(&META_V1_LIST_META), Never),
    ],
};

static CORE_V1_CONFIG_MAP_NODE_CONFIG_SOURCE: Type = Type {
    name: "io.k8s.api.core.v1.ConfigMapNodeConfigSource",
    go: "v1.ConfigMapNodeConfigSource",
    gvks: &[],
    atomic: false,
    fields: &[
        Field { required: true, ..plain("kubeletConfigKey", 5, String, Never) },
        Field { required: true, ..plain("name", 2, String, Never) },
        Field { required: true, ..plain("namespace", 1, String, Never) },
        plain("resourceVersion", 4, String, Empty),
        Field { go: "types.UID", ..plain("uid", 3, String, Empty) },
    ],
};

static CORE_V1_CONFIG_MAP_PROJECTION: Type = Type {
    name: "io.k8s.api.core.v1.ConfigMapProjection",
    go: "v1.ConfigMapProjection",
    gvks: &[],
    atomic: false,
    fields: &[
        Field { list: ListType::Atomic, ..plain("items", 2, List(&Object(&CORE_V1_KEY_TO_PATH)), Empty) },
        Field { within: 1, ..plain("name", 1, String, Empty) },
        plain("optional", 4, Bool, Unset),
    ],
};

static CORE_V1_CONFIG_MAP_VOLUME_SOURCE: Type = Type {
    name: "io.k8s.api.core.v1.ConfigMapVolumeSource",
    go: "v1.ConfigMapVolumeSource",
    gvks: &[],
    atomic: false,
    fields: &[
        plain("defaultMode", 3, Int32, Unset),
        Field { list: ListType::Atomic, ..plain("items", 2, List(&Object(&CORE_V1_KEY_TO_PATH)), Empty) },
        Field { within: 1, ..plain("name", 1, String, Empty) },
        plain("optional", 4, Bool, Unset),
    ],
};

static CORE_V1_CONTAINER: Type = Type {
    name: "io.k8s.api.core.v1.Container",
    go: "v1.Container",
    gvks: &[],
    atomic: false,
    fields: &[
        Field { list: ListType::Atomic, ..plain("args", 4, List(&String), Empty) },
        Field { list: ListType::Atomic, ..plain("command", 3, List(&String), Empty) },
        Field { list: ListType::Map, keys: &["name"], patch: PatchStrategy::Merge, merge_key: Some("name"), ..plain("env", 7, List(&Object(&CORE_V1_ENV_VAR)), Empty) },
        Field { list: ListType::Atomic, ..plain("envFrom", 19, List(&Object(&CORE_V1_ENV_FROM_SOURCE)), Empty) },
        plain("image", 2, String, Empty),
        Field { go: "v1.PullPolicy", ..plain("imagePullPolicy", 14, String, Empty) },
        plain("lifecycle", 12, Object(&CORE_V1_LIFECYCLE), Unset),
        plain("livenessProbe", 10, Object(&CORE_V1_PROBE), Unset),
        Field { required: true, ..plain("name", 1, String, Never) },
        Field { list: ListType::Map, keys: &["containerPort", "protocol"], patch: PatchStrategy::Merge, merge_key: Some("containerPort"), ..plain("ports", 6, List(&Object(&CORE_V1_CONTAINER_PORT)), Empty) },
        plain("readinessProbe", 11, Object(&CORE_V1_PROBE), Unset),
        Field { list: ListType::Atomic, ..plain("resizePolicy", 23, List(&Object(&CORE_V1_CONTAINER_RESIZE_POLICY)), Empty) },
        plain("resources", 8, Object(&CORE_V1_RESOURCE_REQUIREMENTS), Never),
        Field { go: "v1.ContainerRestartPolicy", ..plain("restartPolicy", 24, String, Unset) },
        Field { list: ListType::Atomic, ..plain("restartPolicyRules", 25, List(&Object(&CORE_V1_CONTAINER_RESTART_RULE)), Empty) },
        plain("securityContext", 15, Object(&CORE_V1_SECURITY_CONTEXT), Unset),
        plain("startupProbe", 22, Object(&CORE_V1_PROBE), Unset),
        plain("stdin", 16, Bool, Empty),
        plain("stdinOnce", 17, Bool, Empty),
        plain("terminationMessagePath", 13, String, Empty),
        Field { go: "v1.TerminationMessagePolicy", ..plain("terminationMessagePolicy", 20, String, Empty) },
        plain("tty", 18, Bool, Empty),
        Field { list: ListType::Map, keys: &["devicePath"], patch: PatchStrategy::Merge, merge_key: Some("devicePath"), ..plain("volumeDevices", 21, List(&Object(&CORE_V1_VOLUME_DEVICE)), Empty) },
        Field { list: ListType::Map, keys: &["mountPath"], patch: PatchStrategy::Merge, merge_key: Some("mountPath"), ..plain("volumeMounts", 9, List(&Object(&CORE_V1_VOLUME_MOUNT)), Empty) },
        plain("workingDir", 5, String, Empty),
    ],
};

static CORE_V1_CONTAINER_EXTENDED_RESOURCE_REQUEST: Type = Type {
    name: "io.k8s.api.core.v1.ContainerExtendedResourceRequest",
    go: "v1.ContainerExtendedResourceRequest",
    gvks: &[],
    atomic: false,
    fields: &[
        Field { required: true, ..plain("containerName", 1, String, Never) },
        Field { required: true, ..plain("requestName", 3, String, Never) },
        Field { required: true, ..plain("resourceName", 2, String, Never) },
    ],
};

static CORE_V1_CONTAINER_IMAGE: Type = Type {
    name: "io.k8s.api.core.v1.ContainerImage",
    go: "v1.ContainerImage",
    gvks: &[],
    atomic: false,
    fields: &[
        Field { list: ListType::Atomic, ..plain("names", 1, List(&String), Null) },
        plain("sizeBytes", 2, Int64, Empty),
    ],
};

static CORE_V1_CONTAINER_PORT: Type = Type {
    name: "io.k8s.api.core.v1.ContainerPort",
    go: "v1.ContainerPort",
    gvks: &[],
    atomic: false,
    fields: &[
        Field { required: true, ..plain("containerPort", 3, Int32, Never) },
        plain("hostIP", 5, String, Empty),
        plain("hostPort", 2, Int32, Empty),
        plain("name", 1, String, Empty),
        Field { go: "v1.Protocol", ..plain("protocol", 4, String, Empty) },
    ],
};

static CORE_V1_CONTAINER_RESIZE_POLICY: Type = Type {
    name: "io.k8s.api.core.v1.ContainerResizePolicy",
    go: "v1.ContainerResizePolicy",
    gvks: &[],
    atomic: false,
    fields: &[
        Field { go: "v1.ResourceName", required: true, ..plain("resourceName", 1, String, Never) },
        Field { go: "v1.ResourceResizeRestartPolicy", required: true, ..plain("restartPolicy", 2, String, Never) },
    ],
};

static CORE_V1_CONTAINER_RESTART_RULE: Type = Type {
    name: "io.k8s.api.core.v1.ContainerRestartRule",
    go: "v1.ContainerRestartRule",
    gvks: &[],
    atomic: false,
    fields: &[
        Field { go: "v1.ContainerRestartRuleAction", ..plain("action", 1, String, Empty) },
        plain("exitCodes", 2, Object(&CORE_V1_CONTAINER_RESTART_RULE_ON_EXIT_CODES), Unset),
    ],
};

static CORE_V1_CONTAINER_RESTART_RULE_ON_EXIT_CODES: Type = Type {
    name: "io.k8s.api.core.v1.ContainerRestartRuleOnExitCodes",
    go: "v1.ContainerRestartRuleOnExitCodes",
    gvks: &[],
    atomic: false,
    fields: &[
        Field { go: "v1.ContainerRestartRuleOnExitCodesOperator", ..plain("operator", 1, String, Empty) },
        Field { list: ListType::Set, ..plain("values", 2, List(&Int32), Empty) },
    ],
};

static CORE_V1_CONTAINER_STATE: Type = Type {
    name: "io.k8s.api.core.v1.ContainerState",
    go: "v1.ContainerState",
    gvks: &[],
    atomic: false,
    fields: &[
        plain("running", 2, Object(&CORE_V1_CONTAINER_STATE_RUNNING), Unset),
        plain("terminated", 3, Object(&CORE_V1_CONTAINER_STATE_TERMINATED), Unset),
        plain("waiting", 1, Object(&CORE_V1_CONTAINER_STATE_WAITING), Unset),
    ],
};

static CORE_V1_CONTAINER_STATE_RUNNING: Type = Type {
    name: "io.k8s.api.core.v1.ContainerStateRunning",
    go: "v1.ContainerStateRunning",
    gvks: &[],
    atomic: false,
    fields: &[
        plain("startedAt", 1, Time, Null),
    ],
};

static CORE_V1_CONTAINER_STATE_TERMINATED: Type = Type {
    name: "io.k8s.api.core.v1.ContainerStateTerminated",
    go: "v1.ContainerStateTerminated",
    gvks: &[],
    atomic: false,
    fields: &[
        plain("containerID", 7, String, Empty),
        Field { required: true, ..plain("exitCode", 1, Int32, Never) },
        plain("finishedAt", 6, Time, Null),
        plain("message", 4, String, Empty),
        plain("reason", 3, String, Empty),
        plain("signal", 2, Int32, Empty),
        plain("startedAt", 5, Time, Null),
    ],
};

static CORE_V1_CONTAINER_STATE_WAITING: Type = Type {
    name: "io.k8s.api.core.v1.ContainerStateWaiting",
    go: "v1.ContainerStateWaiting",
    gvks: &[],
    atomic: false,
    fields: &[
        plain("message", 2, String, Empty),
        plain("reason", 1, String, Empty),
    ],
};

static CORE_V1_CONTAINER_STATUS: Type = Type {
    name: "io.k8s.api.core.v1.ContainerStatus",
    go: "v1.ContainerStatus",
    gvks: &[],
    atomic: false,
    fields: &[
        Field { go: "v1.ResourceList", ..plain("allocatedResources", 10, Map(&Quantity), Empty) },
        Field { list: ListType::Map, keys: &["name"], patch: PatchStrategy::Merge, merge_key: Some("name"), ..plain("allocatedResourcesStatus", 14, List(&Object(&CORE_V1_RESOURCE_STATUS)), Empty) },
        plain("containerID", 8, String, Empty),
        Field { required: true, ..plain("image", 6, String, Never) },
        Field { required: true, ..plain("imageID", 7, String, Never) },
        plain("lastState", 3, Object(&CORE_V1_CONTAINER_STATE), Never),
        Field { required: true, ..plain("name", 1, String, Never) },
        Field { required: true, ..plain("ready", 4, Bool, Never) },
        plain("resources", 11, Object(&CORE_V1_RESOURCE_REQUIREMENTS), Unset),
        Field { required: true, ..plain("restartCount", 5, Int32, Never) },
        plain("started", 9, Bool, Unset),
        plain("state", 2, Object(&CORE_V1_CONTAINER_STATE), Never),
        Field { go: "v1.Signal", ..plain("stopSignal", 15, String, Unset) },
        plain("user", 13, Object(&CORE_V1_CONTAINER_USER), Unset),
        Field { list: ListType::Map, keys: &["mountPath"], patch: PatchStrategy::Merge, merge_key: Some("mountPath"), ..plain("volumeMounts", 12, List(&Object(&CORE_V1_VOLUME_MOUNT_STATUS)), Empty) },
    ],
};

static CORE_V1_CONTAINER_USER: Type = Type {
    name: "io.k8s.api.core.v1.ContainerUser",
    go: "v1.ContainerUser",
    gvks: &[],
    atomic: false,
    fields: &[
        plain("linux", 1, Object(&CORE_V1_LINUX_CONTAINER_USER), Unset),
    ],
};

static CORE_V1_DAEMON_ENDPOINT: Type = Type {
    name: "io.k8s.api.core.v1.DaemonEndpoint",
    go: "v1.DaemonEndpoint",
    gvks: &[],
    atomic: false,
    fields: &[
        Field { required: true, ..plain("Port", 1, Int32, Never) },
    ],
};

static CORE_V1_DOWNWARD_API_PROJECTION: Type = Type {
    name: "io.k8s.api.core.v1.DownwardAPIProjection",
    go: "v1.DownwardAPIProjection",
    gvks: &[],
    atomic: false,
    fields: &[
        Field { list: ListType::Atomic, ..plain("items", 1, List(&Object(&CORE_V1_DOWNWARD_API_VOLUME_FILE)), Empty) },
    ],
};

static CORE_V1_DOWNWARD_API_VOLUME_FILE: Type = Type {
    name: "io.k8s.api.core.v1.DownwardAPIVolumeFile",
    go: "v1.DownwardAPIVolumeFile",
    gvks: &[],
    atomic: false,
    fields: &[
        plain("fieldRef", 2, Object(&CORE_V1_OBJECT_FIELD_SELECTOR), Unset),
        plain("mode", 4, Int32, Unset),
        Field { required: true, ..plain("path", 1, String, Never) },
        plain("resourceFieldRef", 3, Object(&CORE_V1_RESOURCE_FIELD_SELECTOR), Unset),
    ],
};

static CORE_V1_DOWNWARD_API_VOLUME_SOURCE: Type = Type {
    name: "io.k8s.api.core.v1.DownwardAPIVolumeSource",
    go: "v1.DownwardAPIVolumeSource",
    gvks: &[],
    atomic: false,
    fields: &[
        plain("defaultMode", 2, Int32, Unset),
        Field { list: ListType::Atomic, ..plain("items", 1, List(&Object(&CORE_V1_DOWNWARD_API_VOLUME_FILE)), Empty) },
    ],
};

static CORE_V1_EMPTY_DIR_VOLUME_SOURCE: Type = Type {
    name: "io.k8s.api.core.v1.EmptyDirVolumeSource",
    go: "v1.EmptyDirVolumeSource",
    gvks: &[],
    atomic: false,
    fields: &[
        Field { go: "v1.StorageMedium", ..plain("medium", 1, String, Empty) },
        plain("sizeLimit", 2, Quantity, Unset),
    ],
};

static CORE_V1_ENDPOINT_ADDRESS: Type = Type {
    name: "io.k8s.api.core.v1.EndpointAddress",
    go: "v1.EndpointAddress",
    gvks: &[],
    atomic: true,
    fields: &[
        plain("hostname", 3, String, Empty),
        Field { required: true, ..plain("ip", 1, String, Never) },
        plain("nodeName", 4, String, Unset),
        plain("targetRef", 2, Object(&CORE_V1_OBJECT_REFERENCE), Unset),
    ],
};

static CORE_V1_ENDPOINT_PORT: Type = Type {
    name: "io.k8s.api.core.v1.EndpointPort",
    go: "v1.EndpointPort",
    gvks: &[],
    atomic: true,
    fields: &[
        plain("appProtocol", 4, String, Unset),
        plain("name", 1, String, Empty),
        Field { required: true, ..plain("port", 2, Int32, Never) },
        Field { go: "v1.Protocol", ..plain("protocol", 3, String, Empty) },
    ],
};

static CORE_V1_ENDPOINT_SUBSET: Type = Type {
    name: "io.k8s.api.core.v1.EndpointSubset",
    go: "v1.EndpointSubset",
    gvks: &[],
    atomic: false,
    fields: &[
        Field { list: ListType::Atomic, ..plain("addresses", 1, List(&Object(&CORE_V1_ENDPOINT_ADDRESS)), Empty) },
        Field { list: ListType::Atomic, ..plain("notReadyAddresses", 2, List(&Object(&CORE_V1_ENDPOINT_ADDRESS)), Empty) },
        Field { list: ListType::Atomic, ..plain("ports", 3, List(&Object(&CORE_V1_ENDPOINT_PORT)), Empty) },
    ],
};

static CORE_V1_ENDPOINTS: Type = Type {
    name: "io.k8s.api.core.v1.Endpoints",
    go: "v1.Endpoints",
    gvks: &[kind("", "v1", "Endpoints")],
    atomic: false,
    fields: &[
        plain("apiVersion", 0, String, Empty),
        plain("kind", 0, String, Empty),
        plain("metadata", 1, Object(&META_V1_OBJECT_META), Never),
        Field { list: ListType::Atomic, ..plain("subsets", 2, List(&Object(&CORE_V1_ENDPOINT_SUBSET)), Empty) },
    ],
};

static CORE_V1_ENDPOINTS_LIST: Type = Type {
    name: "io.k8s.api.core.v1.EndpointsList",
    go: "v1.EndpointsList",
    gvks: &[kind("", "v1", "EndpointsList")],
    atomic: false,
    fields: &[
        plain("apiVersion", 0, String, Empty),
        Field { required: true, ..plain("items", 2, List(&Object(&CORE_V1_ENDPOINTS)), Null) },
        plain("kind", 0, String, Empty),
        plain("metadata", 1, Object(&META_V1_LIST_META), Never),
    ],
};

static CORE_V1_ENV_FROM_SOURCE: Type = Type {
    name: "io.k8s.api.core.v1.EnvFromSource",
    go: "v1.EnvFromSource",
    gvks: &[],
    atomic: false,
    fields: &[
        plain("configMapRef", 2, Object(&CORE_V1_CONFIG_MAP_ENV_SOURCE), Unset),
        plain("prefix", 1, String, Empty),
        plain("secretRef", 3, Object(&CORE_V1_SECRET_ENV_SOURCE), Unset),
    ],
};

static CORE_V1_ENV_VAR: Type = Type {
    name: "io.k8s.api.core.v1.EnvVar",
    go: "v1.EnvVar",
    gvks: &[],
    atomic: false,
    fields: &[
        Field { required: true, ..plain("name", 1, String, Never) },
        plain("value", 2, String, Empty),
        plain("valueFrom", 3, Object(&CORE_V1_ENV_VAR_SOURCE), Unset),
    ],
};

static CORE_V1_ENV_VAR_SOURCE: Type = Type {
    name: "io.k8s.api.core.v1.EnvVarSource",
    go: "v1.EnvVarSource",
    gvks: &[],
    atomic: false,
    fields: &[
        plain("configMapKeyRef", 3, Object(&CORE_V1_CONFIG_MAP_KEY_SELECTOR), Unset),
        plain("fieldRef", 1, Object(&CORE_V1_OBJECT_FIELD_SELECTOR), Unset),
        plain("fileKeyRef", 5, Object(&CORE_V1_FILE_KEY_SELECTOR), Unset),
        plain("resourceFieldRef", 2, Object(&CORE_V1_RESOURCE_FIELD_SELECTOR), Unset),
        plain("secretKeyRef", 4, Object(&CORE_V1_SECRET_KEY_SELECTOR), Unset),
    ],
};

static CORE_V1_EPHEMERAL_CONTAINER: Type = Type {
    name: "io.k8s.api.core.v1.EphemeralContainer",
    go: "v1.EphemeralContainer",
    gvks: &[],
    atomic: false,
    fields: &[
        Field { within: 1, list: ListType::Atomic, ..plain("args", 4, List(&String), Empty) },
        Field { within: 1, list: ListType::Atomic, ..plain("command", 3, List(&String), Empty) },
        Field { within: 1, list: ListType::Map, keys: &["name"], patch: PatchStrategy::Merge, merge_key: Some("name"), ..plain("env", 7, List(&Object(&CORE_V1_ENV_VAR)), Empty) },
        Field { within: 1, list: ListType::Atomic, ..plain("envFrom", 19, List(&Object(&CORE_V1_ENV_FROM_SOURCE)), Empty) },
        Field { within: 1, ..plain("image", 2, String, Empty) },
        Field { within: 1, go: "v1.PullPolicy", ..plain("imagePullPolicy", 14, String, Empty) },
        Field { within: 1, ..plain("lifecycle", 12, Object(&CORE_V1_LIFECYCLE), Unset) },
        Field { within: 1, ..plain("livenessProbe", 10, Object(&CORE_V1_PROBE), Unset) },
        Field { within: 1, required: true, ..plain("name", 1, String, Never) },
        Field { within: 1, list: ListType::Map, keys: &["containerPort", "protocol"], patch: PatchStrategy::Merge, merge_key: Some("containerPort"), ..plain("ports", 6, List(&Object(&CORE_V1_CONTAINER_PORT)), Empty) },
        Field { within: 1, ..plain("readinessProbe", 11, Object(&CORE_V1_PROBE), Unset) },
        Field { within: 1, list: ListType::Atomic, ..plain("resizePolicy", 23, List(&Object(&CORE_V1_CONTAINER_RESIZE_POLICY)), Empty) },
        Field { within: 1, ..plain("resources", 8, Object(&CORE_V1_RESOURCE_REQUIREMENTS), Never) },
        Field { within: 1, go: "v1.ContainerRestartPolicy", ..plain("restartPolicy", 24, String, Unset) },
        Field { within: 1, list: ListType::Atomic, ..plain("restartPolicyRules", 25, List(&Object(&CORE_V1_CONTAINER_RESTART_RULE)), Empty) },
        Field { within: 1, ..plain("securityContext", 15, Object(&CORE_V1_SECURITY_CONTEXT), Unset) },
        Field { within: 1, ..plain("startupProbe", 22, Object(&CORE_V1_PROBE), Unset) },
        Field { within: 1, ..plain("stdin", 16, Bool, Empty) },
        Field { within: 1, ..plain("stdinOnce", 17, Bool, Empty) },
        plain("targetContainerName", 2, String, Empty),
        Field { within: 1, ..plain("terminationMessagePath", 13, String, Empty) },
        Field { within: 1, go: "v1.TerminationMessagePolicy", ..plain("terminationMessagePolicy", 20, String, Empty) },
        Field { within: 1, ..plain("tty", 18, Bool, Empty) },
        Field { within: 1, list: ListType::Map, keys: &["devicePath"], patch: PatchStrategy::Merge, merge_key: Some("devicePath"), ..plain("volumeDevices", 21, List(&Object(&CORE_V1_VOLUME_DEVICE)), Empty) },
        Field { within: 1, list: ListType::Map, keys: &["mountPath"], patch: PatchStrategy::Merge, merge_key: Some("mountPath"), ..plain("volumeMounts", 9, List(&Object(&CORE_V1_VOLUME_MOUNT)), Empty) },
        Field { within: 1, ..plain("workingDir", 5, String, Empty) },
    ],
};

static CORE_V1_EPHEMERAL_VOLUME_SOURCE: Type = Type {
    name: "io.k8s.api.core.v1.EphemeralVolumeSource",
    go: "v1.EphemeralVolumeSource",
    gvks: &[],
    atomic: false,
    fields: &[
        plain("volumeClaimTemplate", 1, Object(&CORE_V1_PERSISTENT_VOLUME_CLAIM_TEMPLATE), Unset),
    ],
};

static CORE_V1_EVENT: Type = Type {
    name: "io.k8s.api.core.v1.Event",
    go: "v1.Event",
    gvks: &[kind("", "v1", "Event")],
    atomic: false,
    fields: &[
        plain("action", 12, String, Empty),
        plain("apiVersion", 0, String, Empty),
        plain("count", 8, Int32, Empty),
        plain("eventTime", 10, MicroTime, Null),
        plain("firstTimestamp", 6, Time, Null),
        Field { required: true, ..plain("involvedObject", 2, Object(&CORE_V1_OBJECT_REFERENCE), Never) },
        plain("kind", 0, String, Empty),
        plain("lastTimestamp", 7, Time, Null),
        plain("message", 4, String, Empty),
        Field { required: true, ..plain("metadata", 1, Object(&META_V1_OBJECT_META), Never) },
        plain("reason", 3, String, Empty),
        plain("related", 13, Object(&CORE_V1_OBJECT_REFERENCE), Unset),
        plain("reportingComponent", 14, String, Never),
        plain("reportingInstance", 15, String, Never),
        plain("series", 11, Object(&CORE_V1_EVENT_SERIES), Unset),
        plain("source", 5, Object(&CORE_V1_EVENT_SOURCE), Never),
        plain("type", 9, String, Empty),
    ],
};

static CORE_V1_EVENT_LIST: Type = Type {
    name: "io.k8s.api.core.v1.EventList",
    go: "v1.EventList",
    gvks: &[kind("", "v1", "EventList")],
    atomic: false,
    fields: &[
        plain("apiVersion", 0, String, Empty),
        Field { required: true, ..plain("items", 2, List(&Object(&CORE_V1_EVENT)), Null) },
        plain("kind", 0, String, Empty),
        plain("metadata", 1, Object(&META_V1_LIST_META), Never),
    ],
};

static CORE_V1_EVENT_SERIES: Type = Type {
    name: "io.k8s.api.core.v1.EventSeries",
    go: "v1.EventSeries",
    gvks: &[],
    atomic: false,
    fields: &[
        plain("count", 1, Int32, Empty),
        plain("lastObservedTime", 2, MicroTime, Null),
    ],
};

static CORE_V1_EVENT_SOURCE: Type = Type {
    name: "io.k8s.api.core.v1.EventSource",
    go: "v1.EventSource",
    gvks: &[],
    atomic: false,
    fields: &[
        plain("component", 1, String, Empty),
        plain("host", 2, String, Empty),
    ],
};

static CORE_V1_EXEC_ACTION: Type = Type {
    name: "io.k8s.api.core.v1.ExecAction",
    go: "v1.ExecAction",
    gvks: &[],
    atomic: false,
    fields: &[
        Field { list: ListType::Atomic, ..plain("command", 1, List(&String), Empty) },
    ],
};

static CORE_V1_FC_VOLUME_SOURCE: Type = Type {
    name: "io.k8s.api.core.v1.FCVolumeSource",
    go: "v1.FCVolumeSource",
    gvks: &[],
    atomic: false,
    fields: &[
        plain("fsType", 3, String, Empty),
        plain("lun", 2, Int32, Unset),
        plain("readOnly", 4, Bool, Empty),
        Field { list: ListType::Atomic, ..plain("targetWWNs", 1, List(&String), Empty) },
        Field { list: ListType::Atomic, ..plain("wwids", 5, List(&String), Empty) },
    ],
};

static CORE_V1_FILE_KEY_SELECTOR: Type = Type {
    name: "io.k8s.api.core.v1.FileKeySelector",
    go: "v1.FileKeySelector",
    gvks: &[],
    atomic: true,
    fields: &[
        Field { required: true, ..plain("key", 3, String, Never) },
        plain("optional", 4, Bool, Unset),
        Field { required: true, ..plain("path", 2, String, Never) },
        Field { required: true, ..plain("volumeName", 1, String, Never) },
    ],
};

static CORE_V1_FLEX_VOLUME_SOURCE: Type = Type {
    name: "io.k8s.api.core.v1.FlexVolumeSource",
    go: "v1.FlexVolumeSource",
    gvks: &[],
    atomic: false,
    fields: &[
        Field { required: true, ..plain("driver", 1, String, Never) },
        plain("fsType", 2, String, Empty),
        plain("options", 5, Map(&String), Empty),
        plain("readOnly", 4, Bool, Empty),
        plain("secretRef", 3, Object(&CORE_V1_LOCAL_OBJECT_REFERENCE), Unset),
    ],
};

static CORE_V1_FLOCKER_VOLUME_SOURCE: Type = Type {
    name: "io.k8s.api.core.v1.FlockerVolumeSource",
    go: "v1.FlockerVolumeSource",
    gvks: &[],
    atomic: false,
    fields: &[
        plain("datasetName", 1, String, Empty),
        plain("datasetUUID", 2, String, Empty),
    ],
};

static CORE_V1_GCE_PERSISTENT_DISK_VOLUME_SOURCE: Type = Type {
    name: "io.k8s.api.core.v1.GCEPersistentDiskVolumeSource",
    go: "v1.GCEPersistentDiskVolumeSource",
    gvks: &[],
    atomic: false,
    fields: &[
        plain("fsType", 2, String, Empty),
        plain("partition", 3, Int32, Empty),
        Field { required: true, ..plain("pdName", 1, String, Never) },
        plain("readOnly", 4, Bool, Empty),
    ],
};

static CORE_V1_GRPC_ACTION: Type = Type {
    name: "io.k8s.api.core.v1.GRPCAction",
    go: "v1.GRPCAction",
    gvks: &[],
    atomic: false,
    fields: &[
        Field { required: true, ..plain("port", 1, Int32, Never) },
        plain("service", 2, String, Null),
    ],
};

static CORE_V1_GIT_REPO_VOLUME_SOURCE: Type = Type {
    name: "io.k8s.api.core.v1.GitRepoVolumeSource",
    go: "v1.GitRepoVolumeSource",
    gvks: &[],
    atomic: false,
    fields: &[
        plain("directory", 3, String, Empty),
        Field { required: true, ..plain("repository", 1, String, Never) },
        plain("revision", 2, String, Empty),
    ],
};

static CORE_V1_GLUSTERFS_VOLUME_SOURCE: Type = Type {
    name: "io.k8s.api.core.v1.GlusterfsVolumeSource",
    go: "v1.GlusterfsVolumeSource",
    gvks: &[],
    atomic: false,
    fields: &[
        Field { required: true, ..plain("endpoints", 1, String, Never) },
        Field { required: true, ..plain("path", 2, String, Never) },
        plain("readOnly", 3, Bool, Empty),
    ],
};

static CORE_V1_HTTP_GET_ACTION: Type = Type {
    name: "io.k8s.api.core.v1.HTTPGetAction",
    go: "v1.HTTPGetAction",
    gvks: &[],
    atomic: false,
    fields: &[
        plain("host", 3, String, Empty),
        Field { list: ListType::Atomic, ..plain("httpHeaders", 5, List(&Object(&CORE_V1_HTTP_HEADER)), Empty) },
        plain("path", 1, String, Empty),
        Field { required: true, ..plain("port", 2, IntOrString, Never) },
        Field { go: "v1.URIScheme", ..plain("scheme", 4, String, Empty) },
    ],
};

static CORE_V1_HTTP_HEADER: Type = Type {
    name: "io.k8s.api.core.v1.HTTPHeader",
    go: "v1.HTTPHeader",
    gvks: &[],
    atomic: false,
    fields: &[
        Field { required: true, ..plain("name", 1, String, Never) },
        Field { required: true, ..plain("value", 2, String, Never) },
    ],
};

static CORE_V1_HOST_ALIAS: Type = Type {
    name: "io.k8s.api.core.v1.HostAlias",
    go: "v1.HostAlias",
    gvks: &[],
    atomic: false,
    fields: &[
        Field { list: ListType::Atomic, ..plain("hostnames", 2, List(&String), Empty) },
        Field { required: true, ..plain("ip", 1, String, Never) },
    ],
};

static CORE_V1_HOST_IP: Type = Type {
    name: "io.k8s.api.core.v1.HostIP",
    go: "v1.HostIP",
    gvks: &[],
    atomic: false,
    fields: &[
        Field { required: true, ..plain("ip", 1, String, Never) },
    ],
};

static CORE_V1_HOST_PATH_VOLUME_SOURCE: Type = Type {
    name: "io.k8s.api.core.v1.HostPathVolumeSource",
    go: "v1.HostPathVolumeSource",
    gvks: &[],
    atomic: false,
    fields: &[
        Field { required: true, ..plain("path", 1, String, Never) },
        Field { go: "v1.HostPathType", ..plain("type", 2, String, Unset) },
    ],
};

static CORE_V1_ISCSI_VOLUME_SOURCE: Type = Type {
    name: "io.k8s.api.core.v1.ISCSIVolumeSource",
    go: "v1.ISCSIVolumeSource",
    gvks: &[],
    atomic: false,
    fields: &[
        plain("chapAuthDiscovery", 8, Bool, Empty),
        plain("chapAuthSession", 11, Bool, Empty),
        plain("fsType", 5, String, Empty),
        plain("initiatorName", 12, String, Unset),
        Field { required: true, ..plain("iqn", 2, String, Never) },
        plain("iscsiInterface", 4, String, Empty),
        Field { required: true, ..plain("lun", 3, Int32, Never) },
        Field { list: ListType::Atomic, ..plain("portals", 7, List(&String), Empty) },
        plain("readOnly", 6, Bool, Empty),
        plain("secretRef", 10, Object(&CORE_V1_LOCAL_OBJECT_REFERENCE), Unset),
        Field { required: true, ..plain("targetPortal", 1, String, Never) },
    ],
};

static CORE_V1_IMAGE_VOLUME_SOURCE: Type = Type {
    name: "io.k8s.api.core.v1.ImageVolumeSource",
    go: "v1.ImageVolumeSource",
    gvks: &[],
    atomic: false,
    fields: &[
        Field { go: "v1.PullPolicy", ..plain("pullPolicy", 2, String, Empty) },
        plain("reference", 1, String, Empty),
    ],
};

static CORE_V1_IMAGE_VOLUME_STATUS: Type = Type {
    name: "io.k8s.api.core.v1.ImageVolumeStatus",
    go: "v1.ImageVolumeStatus",
    gvks: &[],
    atomic: false,
    fields: &[
        plain("imageRef", 1, String, Empty),
    ],
};

static CORE_V1_KEY_TO_PATH: Type = Type {
    name: "io.k8s.api.core.v1.KeyToPath",
    go: "v1.KeyToPath",
    gvks: &[],
    atomic: false,
    fields: &[
        Field { required: true, ..plain("key", 1, String, Never) },
        plain("mode", 3, Int32, Unset),
        Field { required: true, ..plain("path", 2, String, Never) },
    ],
};

static CORE_V1_LIFECYCLE: Type = Type {
    name: "io.k8s.api.core.v1.Lifecycle",
    go: "v1.Lifecycle",
    gvks: &[],
    atomic: false,
    fields: &[
        plain("postStart", 1, Object(&CORE_V1_LIFECYCLE_HANDLER), Unset),
        plain("preStop", 2, Object(&CORE_V1_LIFECYCLE_HANDLER), Unset),
        Field { go: "v1.Signal", ..plain("stopSignal", 3, String, Unset) },
    ],
};

static CORE_V1_LIFECYCLE_HANDLER: Type = Type {
    name: "io.k8s.api.core.v1.LifecycleHandler",
    go: "v1.LifecycleHandler",
    gvks: &[],
    atomic: false,
    fields: &[
        plain("exec", 1, Object(&CORE_V1_EXEC_ACTION), Unset),
        plain("httpGet", 2, Object(&CORE_V1_HTTP_GET_ACTION), Unset),
        plain("sleep", 4, Object(&CORE_V1_SLEEP_ACTION), Unset),
        plain("tcpSocket", 3, Object(&CORE_V1_TCP_SOCKET_ACTION), Unset),
    ],
};

static CORE_V1_LINUX_CONTAINER_USER: Type = Type {
    name: "io.k8s.api.core.v1.LinuxContainerUser",
    go: "v1.LinuxContainerUser",
    gvks: &[],
    atomic: false,
    fields: &[
        Field { required: true, ..plain("gid", 2, Int64, Never) },
        Field { list: ListType::Atomic, ..plain("supplementalGroups", 3, List(&Int64), Empty) },
        Field { required: true, ..plain("uid", 1, Int64, Never) },
    ],
};

static CORE_V1_LOAD_BALANCER_INGRESS: Type = Type {
    name: "io.k8s.api.core.v1.LoadBalancerIngress",
    go: "v1.LoadBalancerIngress",
    gvks: &[],
    atomic: false,
    fields: &[
        plain("hostname", 2, String, Empty),
        plain("ip", 1, String, Empty),
        Field { go: "v1.LoadBalancerIPMode", ..plain("ipMode", 3, String, Unset) },
        Field { list: ListType::Atomic, ..plain("ports", 4, List(&Object(&CORE_V1_PORT_STATUS)), Empty) },
    ],
};

static CORE_V1_LOAD_BALANCER_STATUS: Type = Type {
    name: "io.k8s.api.core.v1.LoadBalancerStatus",
    go: "v1.LoadBalancerStatus",
    gvks: &[],
    atomic: false,
    fields: &[
        Field { list: ListType::Atomic, ..plain("ingress", 1, List(&Object(&CORE_V1_LOAD_BALANCER_INGRESS)), Empty) },
    ],
};

static CORE_V1_LOCAL_OBJECT_REFERENCE: Type = Type {
    name: "io.k8s.api.core.v1.LocalObjectReference",
    go: "v1.LocalObjectReference",
    gvks: &[],
    atomic: true,
    fields: &[
        plain("name", 1, String, Empty),
    ],
};

static CORE_V1_NFS_VOLUME_SOURCE: Type = Type {
    name: "io.k8s.api.core.v1.NFSVolumeSource",
    go: "v1.NFSVolumeSource",
    gvks: &[],
    atomic: false,
    fields: &[
        Field { required: true, ..plain("path", 2, String, Never) },
        plain("readOnly", 3, Bool, Empty),
        Field { required: true, ..plain("server", 1, String, Never) },
    ],
};

static CORE_V1_NAMESPACE: Type = Type {
    name: "io.k8s.api.core.v1.Namespace",
    go: "v1.Namespace",
    gvks: &[kind("", "v1", "Namespace")],
    atomic: false,
    fields: &[
        plain("apiVersion", 0, String, Empty),
        plain("kind", 0, String, Empty),
        plain("metadata", 1, Object(&META_V1_OBJECT_META), Never),
        plain("spec", 2, Object(&CORE_V1_NAMESPACE_SPEC), Never),
        plain("status", 3, Object(&CORE_V1_NAMESPACE_STATUS), Never),
    ],
};

static CORE_V1_NAMESPACE_CONDITION: Type = Type {
    name: "io.k8s.api.core.v1.NamespaceCondition",
    go: "v1.NamespaceCondition",
    gvks: &[],
    atomic: false,
    fields: &[
        plain("lastTransitionTime", 4, Time, Null),
        plain("message", 6, String, Empty),
        plain("reason", 5, String, Empty),
        Field { go: "v1.ConditionStatus", required: true, ..plain("status", 2, String, Never) },
        Field { go: "v1.NamespaceConditionType", required: true, ..plain("type", 1, String, Never) },
    ],
};

static CORE_V1_NAMESPACE_LIST: Type = Type {
    name: "io.k8s.api.core.v1.NamespaceList",
    go: "v1.NamespaceList",
    gvks: &[kind("", "v1", "NamespaceList")],
    atomic: false,
    fields: &[
        plain("apiVersion", 0, String, Empty),
        Field { required: true, ..plain("items", 2, List(&Object(&CORE_V1_NAMESPACE)), Null) },
        plain("kind", 0, String, Empty),
        plain("metadata", 1, Object(&META_V1_LIST_META), Never),
    ],
};

static CORE_V1_NAMESPACE_SPEC: Type = Type {
    name: "io.k8s.api.core.v1.NamespaceSpec",
    go: "v1.NamespaceSpec",
    gvks: &[],
    atomic: false,
    fields: &[
        Field { go: "[]v1.FinalizerName", list: ListType::Atomic, ..plain("finalizers", 1, List(&String), Empty) },
    ],
};

static CORE_V1_NAMESPACE_STATUS: Type = Type {
    name: "io.k8s.api.core.v1.NamespaceStatus",
    go: "v1.NamespaceStatus",
    gvks: &[],
    atomic: false,
    fields: &[
        Field { list: ListType::Map, keys: &["type"], patch: PatchStrategy::Merge, merge_key: Some("type"), ..plain("conditions", 2, List(&Object(&CORE_V1_NAMESPACE_CONDITION)), Empty) },
        Field { go: "v1.NamespacePhase", ..plain("phase", 1, String, Empty) },
    ],
};

static CORE_V1_NODE: Type = Type {
    name: "io.k8s.api.core.v1.Node",
    go: "v1.Node",
    gvks: &[kind("", "v1", "Node")],
    atomic: false,
    fields: &[
        plain("apiVersion", 0, String, Empty),
        plain("kind", 0, String, Empty),
        plain("metadata", 1, Object(&META_V1_OBJECT_META), Never),
        plain("spec", 2, Object(&CORE_V1_NODE_SPEC), Never),
        plain("status", 3, Object(&CORE_V1_NODE_STATUS), Never),
    ],
};

static CORE_V1_NODE_ADDRESS: Type = Type {
    name: "io.k8s.api.core.v1.NodeAddress",
    go: "v1.NodeAddress",
    gvks: &[],
    atomic: false,
    fields: &[
        Field { required: true, ..plain("address", 2, String, Never) },
        Field { go: "v1.NodeAddressType", required: true, ..plain("type", 1, String, Never) },
    ],
};

static CORE_V1_NODE_AFFINITY: Type = Type {
    name: "io.k8s.api.core.v1.NodeAffinity",
    go: "v1.NodeAffinity",
    gvks: &[],
    atomic: false,
    fields: &[
        Field { list: ListType::Atomic, ..plain("preferredDuringSchedulingIgnoredDuringExecution", 2, List(&Object(&CORE_V1_PREFERRED_SCHEDULING_TERM)), Empty) },
        plain("requiredDuringSchedulingIgnoredDuringExecution", 1, Object(&CORE_V1_NODE_SELECTOR), Unset),
    ],
};

static CORE_V1_NODE_ALLOCATABLE_RESOURCE_CLAIM_STATUS: Type = Type {
    name: "io.k8s.api.core.v1.NodeAllocatableResourceClaimStatus",
    go: "v1.NodeAllocatableResourceClaimStatus",
    gvks: &[],
    atomic: false,
    fields: &[
        Field { list: ListType::Set, ..plain("containers", 2, List(&String), Empty) },
        Field { required: true, ..plain("resourceClaimName", 1, String, Never) },
        Field { go: "map[v1.ResourceName]resource.Quantity", required: true, ..plain("resources", 3, Map(&Quantity), Null) },
    ],
};

static CORE_V1_NODE_CONDITION: Type = Type {
    name: "io.k8s.api.core.v1.NodeCondition",
    go: "v1.NodeCondition",
    gvks: &[],
    atomic: false,
    fields: &[
        plain("lastHeartbeatTime", 3, Time, Null),
        plain("lastTransitionTime", 4, Time, Null),
        plain("message", 6, String, Empty),
        plain("reason", 5, String, Empty),
        Field { go: "v1.ConditionStatus", required: true, ..plain("status", 2, String, Never) },
        Field { go: "v1.NodeConditionType", required: true, ..plain("type", 1, String, Never) },
    ],
};

static CORE_V1_NODE_CONFIG_SOURCE: Type = Type {
    name: "io.k8s.api.core.v1.NodeConfigSource",
    go: "v1.NodeConfigSource",
    gvks: &[],
    atomic: false,
    fields: &[
        plain("configMap", 2, Object(&CORE_V1_CONFIG_MAP_NODE_CONFIG_SOURCE), Unset),
    ],
};

static CORE_V1_NODE_CONFIG_STATUS: Type = Type {
    name: "io.k8s.api.core.v1.NodeConfigStatus",
    go: "v1.NodeConfigStatus",
    gvks: &[],
    atomic: false,
    fields: &[
        plain("active", 2, Object(&CORE_V1_NODE_CONFIG_SOURCE), Unset),
        plain("assigned", 1, Object(&CORE_V1_NODE_CONFIG_SOURCE), Unset),
        plain("error", 4, String, Empty),
        plain("lastKnownGood", 3, Object(&CORE_V1_NODE_CONFIG_SOURCE), Unset),
    ],
};

static CORE_V1_NODE_DAEMON_ENDPOINTS: Type = Type {
    name: "io.k8s.api.core.v1.NodeDaemonEndpoints",
    go: "v1.NodeDaemonEndpoints",
    gvks: &[],
    atomic: false,
    fields: &[
        plain("kubeletEndpoint", 1, Object(&CORE_V1_DAEMON_ENDPOINT), Never),
    ],
};

static CORE_V1_NODE_FEATURES: Type = Type {
    name: "io.k8s.api.core.v1.NodeFeatures",
    go: "v1.NodeFeatures",
    gvks: &[],
    atomic: false,
    fields: &[
        plain("supplementalGroupsPolicy", 1, Bool, Unset),
    ],
};

static CORE_V1_NODE_LIST: Type = Type {
    name: "io.k8s.api.core.v1.NodeList",
    go: "v1.NodeList",
    gvks: &[kind("", "v1", "NodeList")],
    atomic: false,
    fields: &[
        plain("apiVersion", 0, String, Empty),
        Field { required: true, ..plain("items", 2, List(&Object(&CORE_V1_NODE)), Null) },
        plain("kind", 0, String, Empty),
        plain("metadata", 1, Object(&META_V1_LIST_META), Never),
    ],
};

static CORE_V1_NODE_RUNTIME_HANDLER: Type = Type {
    name: "io.k8s.api.core.v1.NodeRuntimeHandler",
    go: "v1.NodeRuntimeHandler",
    gvks: &[],
    atomic: false,
    fields: &[
        plain("features", 2, Object(&CORE_V1_NODE_RUNTIME_HANDLER_FEATURES), Unset),
        plain("name", 1, String, Never),
    ],
};

static CORE_V1_NODE_RUNTIME_HANDLER_FEATURES: Type = Type {
    name: "io.k8s.api.core.v1.NodeRuntimeHandlerFeatures",
    go: "v1.NodeRuntimeHandlerFeatures",
    gvks: &[],
    atomic: false,
    fields: &[
        plain("recursiveReadOnlyMounts", 1, Bool, Unset),
        plain("userNamespaces", 2, Bool, Unset),
    ],
};

static CORE_V1_NODE_SELECTOR: Type = Type {
    name: "io.k8s.api.core.v1.NodeSelector",
    go: "v1.NodeSelector",
    gvks: &[],
    atomic: true,
    fields: &[
        Field { required: true, list: ListType::Atomic, ..plain("nodeSelectorTerms", 1, List(&Object(&CORE_V1_NODE_SELECTOR_TERM)), Null) },
    ],
};

static CORE_V1_NODE_SELECTOR_REQUIREMENT: Type = Type {
    name: "io.k8s.api.core.v1.NodeSelectorRequirement",
    go: "v1.NodeSelectorRequirement",
    gvks: &[],
    atomic: false,
    fields: &[
        Field { required: true, ..plain("key", 1, String, Never) },
        Field { go: "v1.NodeSelectorOperator", required: true, ..plain("operator", 2, String, Never) },
        Field { list: ListType::Atomic, ..plain("values", 3, List(&String), Empty) },
    ],
};

static CORE_V1_NODE_SELECTOR_TERM: Type = Type {
    name: "io.k8s.api.core.v1.NodeSelectorTerm",
    go: "v1.NodeSelectorTerm",
    gvks: &[],
    atomic: true,
    fields: &[
        Field { list: ListType::Atomic, ..plain("matchExpressions", 1, List(&Object(&CORE_V1_NODE_SELECTOR_REQUIREMENT)), Empty) },
        Field { list: ListType::Atomic, ..plain("matchFields", 2, List(&Object(&CORE_V1_NODE_SELECTOR_REQUIREMENT)), Empty) },
    ],
};

static CORE_V1_NODE_SPEC: Type = Type {
    name: "io.k8s.api.core.v1.NodeSpec",
    go: "v1.NodeSpec",
    gvks: &[],
    atomic: false,
    fields: &[
        plain("configSource", 6, Object(&CORE_V1_NODE_CONFIG_SOURCE), Unset),
        plain("externalID", 2, String, Empty),
        plain("podCIDR", 1, String, Empty),
        Field { list: ListType::Set, patch: PatchStrategy::Merge, ..plain("podCIDRs", 7, List(&String), Empty) },
        plain("providerID", 3, String, Empty),
        Field { list: ListType::Atomic, ..plain("taints", 5, List(&Object(&CORE_V1_TAINT)), Empty) },
        plain("unschedulable", 4, Bool, Empty),
    ],
};

static CORE_V1_NODE_STATUS: Type = Type {
    name: "io.k8s.api.core.v1.NodeStatus",
    go: "v1.NodeStatus",
    gvks: &[],
    atomic: false,
    fields: &[
        Field { list: ListType::Map, keys: &["type"], patch: PatchStrategy::Merge, merge_key: Some("type"), ..plain("addresses", 5, List(&Object(&CORE_V1_NODE_ADDRESS)), Empty) },
        Field { go: "v1.ResourceList", ..plain("allocatable", 2, Map(&Quantity), Empty) },
        Field { go: "v1.ResourceList", ..plain("capacity", 1, Map(&Quantity), Empty) },
        Field { list: ListType::Map, keys: &["type"], patch: PatchStrategy::Merge, merge_key: Some("type"), ..plain("conditions", 4, List(&Object(&CORE_V1_NODE_CONDITION)), Empty) },
        plain("config", 11, Object(&CORE_V1_NODE_CONFIG_STATUS), Unset),
        plain("daemonEndpoints", 6, Object(&CORE_V1_NODE_DAEMON_ENDPOINTS), Never),
        Field { list: ListType::Atomic, ..plain("declaredFeatures", 14, List(&String), Empty) },
        plain("features", 13, Object(&CORE_V1_NODE_FEATURES), Unset),
        Field { list: ListType::Atomic, ..plain("images", 8, List(&Object(&CORE_V1_CONTAINER_IMAGE)), Empty) },
        plain("nodeInfo", 7, Object(&CORE_V1_NODE_SYSTEM_INFO), Never),
        Field { go: "v1.NodePhase", ..plain("phase", 3, String, Empty) },
        Field { list: ListType::Atomic, ..plain("runtimeHandlers", 12, List(&Object(&CORE_V1_NODE_RUNTIME_HANDLER)), Empty) },
        Field { list: ListType::Atomic, ..plain("volumesAttached", 10, List(&Object(&CORE_V1_ATTACHED_VOLUME)), Empty) },
        Field { go: "[]v1.UniqueVolumeName", list: ListType::Atomic, ..plain("volumesInUse", 9, List(&String), Empty) },
    ],
};

static CORE_V1_NODE_SWAP_STATUS: Type = Type {
    name: "io.k8s.api.core.v1.NodeSwapStatus",
    go: "v1.NodeSwapStatus",
    gvks: &[],
    atomic: false,
    fields: &[
        plain("capacity", 1, Int64, Unset),
    ],
};

static CORE_V1_NODE_SYSTEM_INFO: Type = Type {
    name: "io.k8s.api.core.v1.NodeSystemInfo",
    go: "v1.NodeSystemInfo",
    gvks: &[],
    atomic: false,
    fields: &[
        Field { required: true, ..plain("architecture", 10, String, Never) },
        Field { required: true, ..plain("bootID", 3, String, Never) },
        Field { required: true, ..plain("containerRuntimeVersion", 6, String, Never) },
        Field { required: true, ..plain("kernelVersion", 4, String, Never) },
        Field { required: true, ..plain("kubeProxyVersion", 8, String, Never) },
        Field { required: true, ..plain("kubeletVersion", 7, String, Never) },
        Field { required: true, ..plain("machineID", 1, String, Never) },
        Field { required: true, ..plain("operatingSystem", 9, String, Never) },
        Field { required: true, ..plain("osImage", 5, String, Never) },
        plain("swap", 11, Object(&CORE_V1_NODE_SWAP_STATUS), Unset),
        Field { required: true, ..plain("systemUUID", 2, String, Never) },
    ],
};

static CORE_V1_OBJECT_FIELD_SELECTOR: Type = Type {
    name: "io.k8s.api.core.v1.ObjectFieldSelector",
    go: "v1.ObjectFieldSelector",
    gvks: &[],
    atomic: true,
    fields: &[
        plain("apiVersion", 1, String, Empty),
        Field { required: true, ..plain("fieldPath", 2, String, Never) },
    ],
};

static CORE_V1_OBJECT_REFERENCE: Type = Type {
    name: "io.k8s.api.core.v1.ObjectReference",
    go: "v1.ObjectReference",
    gvks: &[],
    atomic: true,
    fields: &[
        plain("apiVersion", 5, String, Empty),
        plain("fieldPath", 7, String, Empty),
        plain("kind", 1, String, Empty),
        plain("name", 3, String, Empty),
        plain("namespace", 2, String, Empty),
        plain("resourceVersion", 6, String, Empty),
        Field { go: "types.UID", ..plain("uid", 4, String, Empty) },
    ],
};

static CORE_V1_PERSISTENT_VOLUME_CLAIM_SPEC: Type = Type {
    name: "io.k8s.api.core.v1.PersistentVolumeClaimSpec",
    go: "v1.PersistentVolumeClaimSpec",
    gvks: &[],
    atomic: false,
    fields: &[
        Field { go: "[]v1.PersistentVolumeAccessMode", list: ListType::Atomic, ..plain("accessModes", 1, List(&String), Empty) },
        plain("dataSource", 7, Object(&CORE_V1_TYPED_LOCAL_OBJECT_REFERENCE), Unset),
        plain("dataSourceRef", 8, Object(&CORE_V1_TYPED_OBJECT_REFERENCE), Unset),
        plain("resources", 2, Object(&CORE_V1_VOLUME_RESOURCE_REQUIREMENTS), Never),
        plain("selector", 4, Object(&META_V1_LABEL_SELECTOR), Unset),
        plain("storageClassName", 5, String, Unset),
        plain("volumeAttributesClassName", 9, String, Unset),
        Field { go: "v1.PersistentVolumeMode", ..plain("volumeMode", 6, String, Unset) },
        plain("volumeName", 3, String, Empty),
    ],
};

static CORE_V1_PERSISTENT_VOLUME_CLAIM_TEMPLATE: Type = Type {
    name: "io.k8s.api.core.v1.PersistentVolumeClaimTemplate",
    go: "v1.PersistentVolumeClaimTemplate",
    gvks: &[],
    atomic: false,
    fields: &[
        plain("metadata", 1, Object(&META_V1_OBJECT_META), Never),
        Field { required: true, ..plain("spec", 2, Object(&CORE_V1_PERSISTENT_VOLUME_CLAIM_SPEC), Never) },
    ],
};

static CORE_V1_PERSISTENT_VOLUME_CLAIM_VOLUME_SOURCE: Type = Type {
    name: "io.k8s.api.core.v1.PersistentVolumeClaimVolumeSource",
    go: "v1.PersistentVolumeClaimVolumeSource",
    gvks: &[],
    atomic: false,
    fields: &[
        Field { required: true, ..plain("claimName", 1, String, Never) },
        plain("readOnly", 2, Bool, Empty),
    ],
};

static CORE_V1_PHOTON_PERSISTENT_DISK_VOLUME_SOURCE: Type = Type {
    name: "io.k8s.api.core.v1.PhotonPersistentDiskVolumeSource",
    go: "v1.PhotonPersistentDiskVolumeSource",
    gvks: &[],
    atomic: false,
    fields: &[
        plain("fsType", 2, String, Empty),
        Field { required: true, ..plain("pdID", 1, String, Never) },
    ],
};

static CORE_V1_POD: Type = Type {
    name: "io.k8s.api.core.v1.Pod",
    go: "v1.Pod",
    gvks: &[kind("", "v1", "Pod")],
    atomic: false,
    fields: &[
        plain("apiVersion", 0, String, Empty),
        plain("kind", 0, String, Empty),
        plain("metadata", 1, Object(&META_V1_OBJECT_META), Never),
        plain("spec", 2, Object(&CORE_V1_POD_SPEC), Never),
        plain("status", 3, Object(&CORE_V1_POD_STATUS), Never),
    ],
};

static CORE_V1_POD_AFFINITY: Type = Type {
    name: "io.k8s.api.core.v1.PodAffinity",
    go: "v1.PodAffinity",
    gvks: &[],
    atomic: false,
    fields: &[
        Field { list: ListType::Atomic, ..plain("preferredDuringSchedulingIgnoredDuringExecution", 2, List(&Object(&CORE_V1_WEIGHTED_POD_AFFINITY_TERM)), Empty) },
        Field { list: ListType::Atomic, ..plain("requiredDuringSchedulingIgnoredDuringExecution", 1, List(&Object(&CORE_V1_POD_AFFINITY_TERM)), Empty) },
    ],
};

static CORE_V1_POD_AFFINITY_TERM: Type = Type {
    name: "io.k8s.api.core.v1.PodAffinityTerm",
    go: "v1.PodAffinityTerm",
    gvks: &[],
    atomic: false,
    fields: &[
        plain("labelSelector", 1, Object(&META_V1_LABEL_SELECTOR), Unset),
        Field { list: ListType::Atomic, ..plain("matchLabelKeys", 5, List(&String), Empty) },
        Field { list: ListType::Atomic, ..plain("mismatchLabelKeys", 6, List(&String), Empty) },
        plain("namespaceSelector", 4, Object(&META_V1_LABEL_SELECTOR), Unset),
        Field { list: ListType::Atomic, ..plain("namespaces", 2, List(&String), Empty) },
        Field { required: true, ..plain("topologyKey", 3, String, Never) },
    ],
};

static CORE_V1_POD_ANTI_AFFINITY: Type = Type {
    name: "io.k8s.api.core.v1.PodAntiAffinity",
    go: "v1.PodAntiAffinity",
    gvks: &[],
    atomic: false,
    fields: &[
        Field { list: ListType::Atomic, ..plain("preferredDuringSchedulingIgnoredDuringExecution", 2, List(&Object(&CORE_V1_WEIGHTED_POD_AFFINITY_TERM)), Empty) },
        Field { list: ListType::Atomic, ..plain("requiredDuringSchedulingIgnoredDuringExecution", 1, List(&Object(&CORE_V1_POD_AFFINITY_TERM)), Empty) },
    ],
};

static CORE_V1_POD_CERTIFICATE_PROJECTION: Type = Type {
    name: "io.k8s.api.core.v1.PodCertificateProjection",
    go: "v1.PodCertificateProjection",
    gvks: &[],
    atomic: false,
    fields: &[
        plain("certificateChainPath", 6, String, Empty),
        plain("credentialBundlePath", 4, String, Empty),
        plain("keyPath", 5, String, Empty),
        plain("keyType", 2, String, Empty),
        plain("maxExpirationSeconds", 3, Int32, Unset),
        plain("signerName", 1, String, Empty),
        plain("userAnnotations", 7, Map(&String), Empty),
    ],
};

static CORE_V1_POD_CONDITION: Type = Type {
    name: "io.k8s.api.core.v1.PodCondition",
    go: "v1.PodCondition",
    gvks: &[],
    atomic: false,
    fields: &[
        plain("lastProbeTime", 3, Time, Null),
        plain("lastTransitionTime", 4, Time, Null),
        plain("message", 6, String, Empty),
        plain("observedGeneration", 7, Int64, Empty),
        plain("reason", 5, String, Empty),
        Field { go: "v1.ConditionStatus", required: true, ..plain("status", 2, String, Never) },
        Field { go: "v1.PodConditionType", required: true, ..plain("type", 1, String, Never) },
    ],
};

static CORE_V1_POD_DNS_CONFIG: Type = Type {
    name: "io.k8s.api.core.v1.PodDNSConfig",
    go: "v1.PodDNSConfig",
    gvks: &[],
    atomic: false,
    fields: &[
        Field { list: ListType::Atomic, ..plain("nameservers", 1, List(&String), Empty) },
        Field { list: ListType::Atomic, ..plain("options", 3, List(&Object(&CORE_V1_POD_DNS_CONFIG_OPTION)), Empty) },
        Field { list: ListType::Atomic, ..plain("searches", 2, List(&String), Empty) },
    ],
};

static CORE_V1_POD_DNS_CONFIG_OPTION: Type = Type {
    name: "io.k8s.api.core.v1.PodDNSConfigOption",
    go: "v1.PodDNSConfigOption",
    gvks: &[],
    atomic: false,
    fields: &[
        plain("name", 1, String, Empty),
        plain("value", 2, String, Unset),
    ],
};

static CORE_V1_POD_EXTENDED_RESOURCE_CLAIM_STATUS: Type = Type {
    name: "io.k8s.api.core.v1.PodExtendedResourceClaimStatus",
    go: "v1.PodExtendedResourceClaimStatus",
    gvks: &[],
    atomic: false,
    fields: &[
        Field { required: true, list: ListType::Atomic, ..plain("requestMappings", 1, List(&Object(&CORE_V1_CONTAINER_EXTENDED_RESOURCE_REQUEST)), Null) },
        Field { required: true, ..plain("resourceClaimName", 2, String, Never) },
    ],
};

static CORE_V1_POD_IP: Type = Type {
    name: "io.k8s.api.core.v1.PodIP",
    go: "v1.PodIP",
    gvks: &[],
    atomic: false,
    fields: &[
        Field { required: true, ..plain("ip", 1, String, Never) },
    ],
};

static CORE_V1_POD_LIST: Type = Type {
    name: "io.k8s.api.core.v1.PodList",
    go: "v1.PodList",
    gvks: &[kind("", "v1", "PodList")],
    atomic: false,
    fields: &[
        plain("apiVersion", 0, String, Empty),
        Field { required: true, ..plain("items", 2, List(&Object(&CORE_V1_POD)), Null) },
        plain("kind", 0, String, Empty),
        plain("metadata", 1, Object(&META_V1_LIST_META), Never),
    ],
};

static CORE_V1_POD_OS: Type = Type {
    name: "io.k8s.api.core.v1.PodOS",
    go: "v1.PodOS",
    gvks: &[],
    atomic: false,
    fields: &[
        Field { go: "v1.OSName", required: true, ..plain("name", 1, String, Never) },
    ],
};

static CORE_V1_POD_READINESS_GATE: Type = Type {
    name: "io.k8s.api.core.v1.PodReadinessGate",
    go: "v1.PodReadinessGate",
    gvks: &[],
    atomic: false,
    fields: &[
        Field { go: "v1.PodConditionType", required: true, ..plain("conditionType", 1, String, Never) },
    ],
};

static CORE_V1_POD_RESOURCE_CLAIM: Type = Type {
    name: "io.k8s.api.core.v1.PodResourceClaim",
    go: "v1.PodResourceClaim",
    gvks: &[],
    atomic: false,
    fields: &[
        Field { required: true, ..plain("name", 1, String, Never) },
        plain("resourceClaimName", 3, String, Unset),
        plain("resourceClaimTemplateName", 4, String, Unset),
    ],
};

static CORE_V1_POD_RESOURCE_CLAIM_STATUS: Type = Type {
    name: "io.k8s.api.core.v1.PodResourceClaimStatus",
    go: "v1.PodResourceClaimStatus",
    gvks: &[],
    atomic: false,
    fields: &[
        Field { required: true, ..plain("name", 1, String, Never) },
        plain("resourceClaimName", 2, String, Unset),
    ],
};

static CORE_V1_POD_SCHEDULING_GATE: Type = Type {
    name: "io.k8s.api.core.v1.PodSchedulingGate",
    go: "v1.PodSchedulingGate",
    gvks: &[],
    atomic: false,
    fields: &[
        Field { required: true, ..plain("name", 1, String, Never) },
    ],
};

static CORE_V1_POD_SCHEDULING_GROUP: Type = Type {
    name: "io.k8s.api.core.v1.PodSchedulingGroup",
    go: "v1.PodSchedulingGroup",
    gvks: &[],
    atomic: false,
    fields: &[
        plain("podGroupName", 1, String, Unset),
    ],
};

static CORE_V1_POD_SECURITY_CONTEXT: Type = Type {
    name: "io.k8s.api.core.v1.PodSecurityContext",
    go: "v1.PodSecurityContext",
    gvks: &[],
    atomic: false,
    fields: &[
        plain("appArmorProfile", 11, Object(&CORE_V1_APP_ARMOR_PROFILE), Unset),
        plain("fsGroup", 5, Int64, Unset),
        Field { go: "v1.PodFSGroupChangePolicy", ..plain("fsGroupChangePolicy", 9, String, Unset) },
        plain("runAsGroup", 6, Int64, Unset),
        plain("runAsNonRoot", 3, Bool, Unset),
        plain("runAsUser", 2, Int64, Unset),
        Field { go: "v1.PodSELinuxChangePolicy", ..plain("seLinuxChangePolicy", 13, String, Unset) },
        plain("seLinuxOptions", 1, Object(&CORE_V1_SE_LINUX_OPTIONS), Unset),
        plain("seccompProfile", 10, Object(&CORE_V1_SECCOMP_PROFILE), Unset),
        Field { list: ListType::Atomic, ..plain("supplementalGroups", 4, List(&Int64), Empty) },
        Field { go: "v1.SupplementalGroupsPolicy", ..plain("supplementalGroupsPolicy", 12, String, Unset) },
        Field { list: ListType::Atomic, ..plain("sysctls", 7, List(&Object(&CORE_V1_SYSCTL)), Empty) },
        plain("windowsOptions", 8, Object(&CORE_V1_WINDOWS_SECURITY_CONTEXT_OPTIONS), Unset),
    ],
};

static CORE_V1_POD_SPEC: Type = Type {
    name: "io.k8s.api.core.v1.PodSpec",
    go: "v1.PodSpec",
    gvks: &[],
    atomic: false,
    fields: &[
        plain("activeDeadlineSeconds", 5, Int64, Unset),
        plain("affinity", 18, Object(&CORE_V1_AFFINITY), Unset),
        plain("automountServiceAccountToken", 21, Bool, Unset),
        Field { required: true, list: ListType::Map, keys: &["name"], patch: PatchStrategy::Merge, merge_key: Some("name"), ..plain("containers", 2, List(&Object(&CORE_V1_CONTAINER)), Null) },
        plain("dnsConfig", 26, Object(&CORE_V1_POD_DNS_CONFIG), Unset),
        Field { go: "v1.DNSPolicy", ..plain("dnsPolicy", 6, String, Empty) },
        plain("enableServiceLinks", 30, Bool, Unset),
        Field { list: ListType::Map, keys: &["name"], patch: PatchStrategy::Merge, merge_key: Some("name"), ..plain("ephemeralContainers", 34, List(&Object(&CORE_V1_EPHEMERAL_CONTAINER)), Empty) },
        Field { list: ListType::Map, keys: &["ip"], patch: PatchStrategy::Merge, merge_key: Some("ip"), ..plain("hostAliases", 23, List(&Object(&CORE_V1_HOST_ALIAS)), Empty) },
        plain("hostIPC", 13, Bool, Empty),
        plain("hostNetwork", 11, Bool, Empty),
        plain("hostPID", 12, Bool, Empty),
        plain("hostUsers", 37, Bool, Unset),
        plain("hostname", 16, String, Empty),
        plain("hostnameOverride", 41, String, Unset),
        Field { list: ListType::Map, keys: &["name"], patch: PatchStrategy::Merge, merge_key: Some("name"), ..plain("imagePullSecrets", 15, List(&Object(&CORE_V1_LOCAL_OBJECT_REFERENCE)), Empty) },
        Field { list: ListType::Map, keys: &["name"], patch: PatchStrategy::Merge, merge_key: Some("name"), ..plain("initContainers", 20, List(&Object(&CORE_V1_CONTAINER)), Empty) },
        plain("nodeName", 10, String, Empty),
        Field { atomic: true, ..plain("nodeSelector", 7, Map(&String), Empty) },
        plain("os", 36, Object(&CORE_V1_POD_OS), Unset),
        Field { go: "v1.ResourceList", ..plain("overhead", 32, Map(&Quantity), Empty) },
        Field { go: "v1.PreemptionPolicy", ..plain("preemptionPolicy", 31, String, Unset) },
        plain("priority", 25, Int32, Unset),
        plain("priorityClassName", 24, String, Empty),
        Field { list: ListType::Atomic, ..plain("readinessGates", 28, List(&Object(&CORE_V1_POD_READINESS_GATE)), Empty) },
        Field { list: ListType::Map, keys: &["name"], patch: PatchStrategy::MergeRetainKeys, merge_key: Some("name"), ..plain("resourceClaims", 39, List(&Object(&CORE_V1_POD_RESOURCE_CLAIM)), Empty) },
        plain("resources", 40, Object(&CORE_V1_RESOURCE_REQUIREMENTS), Unset),
        Field { go: "v1.RestartPolicy", ..plain("restartPolicy", 3, String, Empty) },
        plain("runtimeClassName", 29, String, Unset),
        plain("schedulerName", 19, String, Empty),
        Field { list: ListType::Map, keys: &["name"], patch: PatchStrategy::Merge, merge_key: Some("name"), ..plain("schedulingGates", 38, List(&Object(&CORE_V1_POD_SCHEDULING_GATE)), Empty) },
        plain("schedulingGroup", 43, Object(&CORE_V1_POD_SCHEDULING_GROUP), Unset),
        plain("securityContext", 14, Object(&CORE_V1_POD_SECURITY_CONTEXT), Unset),
        plain("serviceAccount", 9, String, Empty),
        plain("serviceAccountName", 8, String, Empty),
        plain("setHostnameAsFQDN", 35, Bool, Unset),
        plain("shareProcessNamespace", 27, Bool, Unset),
        plain("subdomain", 17, String, Empty),
        plain("terminationGracePeriodSeconds", 4, Int64, Unset),
        Field { list: ListType::Atomic, ..plain("tolerations", 22, List(&Object(&CORE_V1_TOLERATION)), Empty) },
        Field { list: ListType::Map, keys: &["topologyKey", "whenUnsatisfiable"], patch: PatchStrategy::Merge, merge_key: Some("topologyKey"), ..plain("topologySpreadConstraints", 33, List(&Object(&CORE_V1_TOPOLOGY_SPREAD_CONSTRAINT)), Empty) },
        Field { list: ListType::Map, keys: &["name"], patch: PatchStrategy::MergeRetainKeys, merge_key: Some("name"), ..plain("volumes", 1, List(&Object(&CORE_V1_VOLUME)), Empty) },
    ],
};

static CORE_V1_POD_STATUS: Type = Type {
    name: "io.k8s.api.core.v1.PodStatus",
    go: "v1.PodStatus",
    gvks: &[],
    atomic: false,
    fields: &[
        Field { go: "v1.ResourceList", ..plain("allocatedResources", 19, Map(&Quantity), Empty) },
        Field { list: ListType::Map, keys: &["type"], patch: PatchStrategy::Merge, merge_key: Some("type"), ..plain("conditions", 2, List(&Object(&CORE_V1_POD_CONDITION)), Empty) },
        Field { list: ListType::Atomic, ..plain("containerStatuses", 8, List(&Object(&CORE_V1_CONTAINER_STATUS)), Empty) },
        Field { list: ListType::Atomic, ..plain("ephemeralContainerStatuses", 13, List(&Object(&CORE_V1_CONTAINER_STATUS)), Empty) },
        plain("extendedResourceClaimStatus", 18, Object(&CORE_V1_POD_EXTENDED_RESOURCE_CLAIM_STATUS), Unset),
        plain("hostIP", 5, String, Empty),
        Field { list: ListType::Atomic, patch: PatchStrategy::Merge, merge_key: Some("ip"), ..plain("hostIPs", 16, List(&Object(&CORE_V1_HOST_IP)), Empty) },
        Field { list: ListType::Atomic, ..plain("initContainerStatuses", 10, List(&Object(&CORE_V1_CONTAINER_STATUS)), Empty) },
        plain("message", 3, String, Empty),
        Field { list: ListType::Atomic, ..plain("nodeAllocatableResourceClaimStatuses", 21, List(&Object(&CORE_V1_NODE_ALLOCATABLE_RESOURCE_CLAIM_STATUS)), Empty) },
        plain("nominatedNodeName", 11, String, Empty),
        plain("observedGeneration", 17, Int64, Empty),
        Field { go: "v1.PodPhase", ..plain("phase", 1, String, Empty) },
        plain("podIP", 6, String, Empty),
        Field { list: ListType::Map, keys: &["ip"], patch: PatchStrategy::Merge, merge_key: Some("ip"), ..plain("podIPs", 12, List(&Object(&CORE_V1_POD_IP)), Empty) },
        Field { go: "v1.PodQOSClass", ..plain("qosClass", 9, String, Empty) },
        plain("reason", 4, String, Empty),
        Field { go: "v1.PodResizeStatus", ..plain("resize", 14, String, Empty) },
        Field { list: ListType::Map, keys: &["name"], patch: PatchStrategy::MergeRetainKeys, merge_key: Some("name"), ..plain("resourceClaimStatuses", 15, List(&Object(&CORE_V1_POD_RESOURCE_CLAIM_STATUS)), Empty) },
        plain("resources", 20, Object(&CORE_V1_RESOURCE_REQUIREMENTS), Unset),
        plain("startTime", 7, Time, Unset),
    ],
};

static CORE_V1_POD_TEMPLATE_SPEC: Type = Type {
    name: "io.k8s.api.core.v1.PodTemplateSpec",
    go: "v1.PodTemplateSpec",
    gvks: &[],
    atomic: false,
    fields: &[
        plain("metadata", 1, Object(&META_V1_OBJECT_META), Never),
        plain("spec", 2, Object(&CORE_V1_POD_SPEC), Never),
    ],
};

static CORE_V1_PORT_STATUS: Type = Type {
    name: "io.k8s.api.core.v1.PortStatus",
    go: "v1.PortStatus",
    gvks: &[],
    atomic: false,
    fields: &[
        plain("error", 3, String, Unset),
        Field { required: true, ..plain("port", 1, Int32, Never) },
        Field { go: "v1.Protocol", required: true, ..plain("protocol", 2, String, Never) },
    ],
};

static CORE_V1_PORTWORX_VOLUME_SOURCE: Type = Type {
    name: "io.k8s.api.core.v1.PortworxVolumeSource",
    go: "v1.PortworxVolumeSource",
    gvks: &[],
    atomic: false,
    fields: &[
        plain("fsType", 2, String, Empty),
        plain("readOnly", 3, Bool, Empty),
        Field { required: true, ..plain("volumeID", 1, String, Never) },
    ],
};

static CORE_V1_PREFERRED_SCHEDULING_TERM: Type = Type {
    name: "io.k8s.api.core.v1.PreferredSchedulingTerm",
    go: "v1.PreferredSchedulingTerm",
    gvks: &[],
    atomic: false,
    fields: &[
        Field { required: true, ..plain("preference", 2, Object(&CORE_V1_NODE_SELECTOR_TERM), Never) },
        Field { required: true, ..plain("weight", 1, Int32, Never) },
    ],
};

static CORE_V1_PROBE: Type = Type {
    name: "io.k8s.api.core.v1.Probe",
    go: "v1.Probe",
    gvks: &[],
    atomic: false,
    fields: &[
        Field { within: 1, ..plain("exec", 1, Object(&CORE_V1_EXEC_ACTION), Unset) },
        plain("failureThreshold", 6, Int32, Empty),
        Field { within: 1, ..plain("grpc", 4, Object(&CORE_V1_GRPC_ACTION), Unset) },
        Field { within: 1, ..plain("httpGet", 2, Object(&CORE_V1_HTTP_GET_ACTION), Unset) },
        plain("initialDelaySeconds", 2, Int32, Empty),
        plain("periodSeconds", 4, Int32, Empty),
        plain("successThreshold", 5, Int32, Empty),
        Field { within: 1, ..plain("tcpSocket", 3, Object(&CORE_V1_TCP_SOCKET_ACTION), Unset) },
        plain("terminationGracePeriodSeconds", 7, Int64, Unset),
        plain("timeoutSeconds", 3, Int32, Empty),
    ],
};

static CORE_V1_PROJECTED_VOLUME_SOURCE: Type = Type {
    name: "io.k8s.api.core.v1.ProjectedVolumeSource",
    go: "v1.ProjectedVolumeSource",
    gvks: &[],
    atomic: false,
    fields: &[
        plain("defaultMode", 2, Int32, Unset),
        Field { list: ListType::Atomic, ..plain("sources", 1, List(&Object(&CORE_V1_VOLUME_PROJECTION)), Null) },
    ],
};

static CORE_V1_QUOBYTE_VOLUME_SOURCE: Type = Type {
    name: "io.k8s.api.core.v1.QuobyteVolumeSource",
    go: "v1.QuobyteVolumeSource",
    gvks: &[],
    atomic: false,
    fields: &[
        plain("group", 5, String, Empty),
        plain("readOnly", 3, Bool, Empty),
        Field { required: true, ..plain("registry", 1, String, Never) },
        plain("tenant", 6, String, Empty),
        plain("user", 4, String, Empty),
        Field { required: true, ..plain("volume", 2, String, Never) },
    ],
};

static CORE_V1_RBD_VOLUME_SOURCE: Type = Type {
    name: "io.k8s.api.core.v1.RBDVolumeSource",
    go: "v1.RBDVolumeSource",
    gvks: &[],
    atomic: false,
    fields: &[
        plain("fsType", 3, String, Empty),
        Field { required: true, ..plain("image", 2, String, Never) },
        plain("keyring", 6, String, Empty),
        Field { required: true, list: ListType::Atomic, ..plain("monitors", 1, List(&String), Null) },
        plain("pool", 4, String, Empty),
        plain("readOnly", 8, Bool, Empty),
        plain("secretRef", 7, Object(&CORE_V1_LOCAL_OBJECT_REFERENCE), Unset),
        plain("user", 5, String, Empty),
    ],
};

static CORE_V1_RESOURCE_CLAIM: Type = Type {
    name: "io.k8s.api.core.v1.ResourceClaim",
    go: "v1.ResourceClaim",
    gvks: &[],
    atomic: false,
    fields: &[
        Field { required: true, ..plain("name", 1, String, Never) },
        plain("request", 2, String, Empty),
    ],
};

static CORE_V1_RESOURCE_FIELD_SELECTOR: Type = Type {
    name: "io.k8s.api.core.v1.ResourceFieldSelector",
    go: "v1.ResourceFieldSelector",
    gvks: &[],
    atomic: true,
    fields: &[
        plain("containerName", 1, String, Empty),
        plain("divisor", 3, Quantity, Never),
        Field { required: true, ..plain("resource", 2, String, Never) },
    ],
};

static CORE_V1_RESOURCE_HEALTH: Type = Type {
    name: "io.k8s.api.core.v1.ResourceHealth",
    go: "v1.ResourceHealth",
    gvks: &[],
    atomic: false,
    fields: &[
        Field { go: "v1.ResourceHealthStatus", ..plain("health", 2, String, Empty) },
        plain("message", 6, String, Unset),
        Field { go: "v1.ResourceID", required: true, ..plain("resourceID", 1, String, Never) },
    ],
};

static CORE_V1_RESOURCE_REQUIREMENTS: Type = Type {
    name: "io.k8s.api.core.v1.ResourceRequirements",
    go: "v1.ResourceRequirements",
    gvks: &[],
    atomic: false,
    fields: &[
        Field { list: ListType::Map, keys: &["name"], ..plain("claims", 3, List(&Object(&CORE_V1_RESOURCE_CLAIM)), Empty) },
        Field { go: "v1.ResourceList", ..plain("limits", 1, Map(&Quantity), Empty) },
        Field { go: "v1.ResourceList", ..plain("requests", 2, Map(&Quantity), Empty) },
    ],
};

static CORE_V1_RESOURCE_STATUS: Type = Type {
    name: "io.k8s.api.core.v1.ResourceStatus",
    go: "v1.ResourceStatus",
    gvks: &[],
    atomic: false,
    fields: &[
        Field { go: "v1.ResourceName", required: true, ..plain("name", 1, String, Never) },
        Field { list: ListType::Map, keys: &["resourceID"], ..plain("resources", 2, List(&Object(&CORE_V1_RESOURCE_HEALTH)), Empty) },
    ],
};

static CORE_V1_SE_LINUX_OPTIONS: Type = Type {
    name: "io.k8s.api.core.v1.SELinuxOptions",
    go: "v1.SELinuxOptions",
    gvks: &[],
    atomic: false,
    fields: &[
        plain("level", 4, String, Empty),
        plain("role", 2, String, Empty),
        plain("type", 3, String, Empty),
        plain("user", 1, String, Empty),
    ],
};

static CORE_V1_SCALE_IO_VOLUME_SOURCE: Type = Type {
    name: "io.k8s.api.core.v1.ScaleIOVolumeSource",
    go: "v1.ScaleIOVolumeSource",
    gvks: &[],
    atomic: false,
    fields: &[
        plain("fsType", 9, String, Empty),
        Field { required: true, ..plain("gateway", 1, String, Never) },
        plain("protectionDomain", 5, String, Empty),
        plain("readOnly", 10, Bool, Empty),
        Field { required: true, ..plain("secretRef", 3, Object(&CORE_V1_LOCAL_OBJECT_REFERENCE), Null) },
        plain("sslEnabled", 4, Bool, Empty),
        plain("storageMode", 7, String, Empty),
        plain("storagePool", 6, String, Empty),
        Field { required: true, ..plain("system", 2, String, Never) },
        plain("volumeName", 8, String, Empty),
    ],
};

static CORE_V1_SECCOMP_PROFILE: Type = Type {
    name: "io.k8s.api.core.v1.SeccompProfile",
    go: "v1.SeccompProfile",
    gvks: &[],
    atomic: false,
    fields: &[
        plain("localhostProfile", 2, String, Unset),
        Field { go: "v1.SeccompProfileType", required: true, ..plain("type", 1, String, Never) },
    ],
};

static CORE_V1_SECRET: Type = Type {
    name: "io.k8s.api.core.v1.Secret",
    go: "v1.Secret",
    gvks: &[kind("", "v1", "Secret")],
    atomic: false,
    fields: &[
        plain("apiVersion", 0, String, Empty),
        plain("data", 2, Map(&Bytes), Empty),
        plain("immutable", 5, Bool, Unset),
        plain("kind", 0, String, Empty),
        plain("metadata", 1, Object(&META_V1_OBJECT_META), Never),
        plain("stringData", 4, Map(&String), Empty),
        Field { go: "v1.SecretType", ..plain("type", 3, String, Empty) },
    ],
};

static CORE_V1_SECRET_ENV_SOURCE: Type = Type {
    name: "io.k8s.api.core.v1.SecretEnvSource",
    go: "v1.SecretEnvSource",
    gvks: &[],
    atomic: false,
    fields: &[
        Field { within: 1, ..plain("name", 1, String, Empty) },
        plain("optional", 2, Bool, Unset),
    ],
};

static CORE_V1_SECRET_KEY_SELECTOR: Type = Type {
    name: "io.k8s.api.core.v1.SecretKeySelector",
    go: "v1.SecretKeySelector",
    gvks: &[],
    atomic: true,
    fields: &[
        Field { required: true, ..plain("key", 2, String, Never) },
        Field { within: 1, ..plain("name", 1, String, Empty) },
        plain("optional", 3, Bool, Unset),
    ],
};

static CORE_V1_SECRET_LIST: Type = Type {
    name: "io.k8s.api.core.v1.SecretList",
    go: "v1.SecretList",
    gvks: &[kind("", "v1", "SecretList")],
    atomic: false,
    fields: &[
        plain("apiVersion", 0, String, Empty),
        Field { required: true, ..plain("items", 2, List(&Object(&CORE_V1_SECRET)), Null) },
        plain("kind", 0, String, Empty),
        plain("metadata", 1, Object(&META_V1_LIST_META), Never),
    ],
};

static CORE_V1_SECRET_PROJECTION: Type = Type {
    name: "io.k8s.api.core.v1.SecretProjection",
    go: "v1.SecretProjection",
    gvks: &[],
    atomic: false,
    fields: &[
        Field { list: ListType::Atomic, ..plain("items", 2, List(&Object(&CORE_V1_KEY_TO_PATH)), Empty) },
        Field { within: 1, ..plain("name", 1, String, Empty) },
        plain("optional", 4, Bool, Unset),
    ],
};

static CORE_V1_SECRET_VOLUME_SOURCE: Type = Type {
    name: "io.k8s.api.core.v1.SecretVolumeSource",
    go: "v1.SecretVolumeSource",
    gvks: &[],
    atomic: false,
    fields: &[
        plain("defaultMode", 3, Int32, Unset),
        Field { list: ListType::Atomic, ..plain("items", 2, List(&Object(&CORE_V1_KEY_TO_PATH)), Empty) },
        plain("optional", 4, Bool, Unset),
        plain("secretName", 1, String, Empty),
    ],
};

static CORE_V1_SECURITY_CONTEXT: Type = Type {
    name: "io.k8s.api.core.v1.SecurityContext",
    go: "v1.SecurityContext",
    gvks: &[],
    atomic: false,
    fields: &[
        plain("allowPrivilegeEscalation", 7, Bool, Unset),
        plain("appArmorProfile", 12, Object(&CORE_V1_APP_ARMOR_PROFILE), Unset),
        plain("capabilities", 1, Object(&CORE_V1_CAPABILITIES), Unset),
        plain("privileged", 2, Bool, Unset),
        Field { go: "v1.ProcMountType", ..plain("procMount", 9, String, Unset) },
        plain("readOnlyRootFilesystem", 6, Bool, Unset),
        plain("runAsGroup", 8, Int64, Unset),
        plain("runAsNonRoot", 5, Bool, Unset),
        plain("runAsUser", 4, Int64, Unset),
        plain("seLinuxOptions", 3, Object(&CORE_V1_SE_LINUX_OPTIONS), Unset),
        plain("seccompProfile", 11, Object(&CORE_V1_SECCOMP_PROFILE), Unset),
        plain("windowsOptions", 10, Object(&CORE_V1_WINDOWS_SECURITY_CONTEXT_OPTIONS), Unset),
    ],
};

static CORE_V1_SERVICE: Type = Type {
    name: "io.k8s.api.core.v1.Service",
    go: "v1.Service",
    gvks: &[kind("", "v1", "Service")],
    atomic: false,
    fields: &[
        plain("apiVersion", 0, String, Empty),
        plain("kind", 0, String, Empty),
        plain("metadata", 1, Object(&META_V1_OBJECT_META), Never),
        plain("spec", 2, Object(&CORE_V1_SERVICE_SPEC), Never),
        plain("status", 3, Object(&CORE_V1_SERVICE_STATUS), Never),
    ],
};

static CORE_V1_SERVICE_ACCOUNT: Type = Type {
    name: "io.k8s.api.core.v1.ServiceAccount",
    go: "v1.ServiceAccount",
    gvks: &[kind("", "v1", "ServiceAccount")],
    atomic: false,
    fields: &[
        plain("apiVersion", 0, String, Empty),
        plain("automountServiceAccountToken", 4, Bool, Unset),
        Field { list: ListType::Atomic, ..plain("imagePullSecrets", 3, List(&Object(&CORE_V1_LOCAL_OBJECT_REFERENCE)), Empty) },
        plain("kind", 0, String, Empty),
        plain("metadata", 1, Object(&META_V1_OBJECT_META), Never),
        Field { list: ListType::Map, keys: &["name"], patch: PatchStrategy::Merge, merge_key: Some("name"), ..plain("secrets", 2, List(&Object(&CORE_V1_OBJECT_REFERENCE)), Empty) },
    ],
};

static CORE_V1_SERVICE_ACCOUNT_LIST: Type = Type {
    name: "io.k8s.api.core.v1.ServiceAccountList",
    go: "v1.ServiceAccountList",
    gvks: &[kind("", "v1", "ServiceAccountList")],
    atomic: false,
    fields: &[
        plain("apiVersion", 0, String, Empty),
        Field { required: true, ..plain("items", 2, List(&Object(&CORE_V1_SERVICE_ACCOUNT)), Null) },
        plain("kind", 0, String, Empty),
        plain("metadata", 1, Object(&META_V1_LIST_META), Never),
    ],
};

static CORE_V1_SERVICE_ACCOUNT_TOKEN_PROJECTION: Type = Type {
    name: "io.k8s.api.core.v1.ServiceAccountTokenProjection",
    go: "v1.ServiceAccountTokenProjection",
    gvks: &[],
    atomic: false,
    fields: &[
        plain("audience", 1, String, Empty),
        plain("expirationSeconds", 2, Int64, Unset),
        Field { required: true, ..plain("path", 3, String, Never) },
    ],
};

static CORE_V1_SERVICE_LIST: Type = Type {
    name: "io.k8s.api.core.v1.ServiceList",
    go: "v1.ServiceList",
    gvks: &[kind("", "v1", "ServiceList")],
    atomic: false,
    fields: &[
        plain("apiVersion", 0, String, Empty),
        Field { required: true, ..plain("items", 2, List(&Object(&CORE_V1_SERVICE)), Null) },
        plain("kind", 0, String, Empty),
        plain("metadata", 1, Object(&META_V1_LIST_META), Never),
    ],
};

static CORE_V1_SERVICE_PORT: Type = Type {
    name: "io.k8s.api.core.v1.ServicePort",
    go: "v1.ServicePort",
    gvks: &[],
    atomic: false,
    fields: &[
        plain("appProtocol", 6, String, Unset),
        plain("name", 1, String, Empty),
        plain("nodePort", 5, Int32, Empty),
        Field { required: true, ..plain("port", 3, Int32, Never) },
        Field { go: "v1.Protocol", ..plain("protocol", 2, String, Empty) },
        plain("targetPort", 4, IntOrString, Never),
    ],
};

static CORE_V1_SERVICE_SPEC: Type = Type {
    name: "io.k8s.api.core.v1.ServiceSpec",
    go: "v1.ServiceSpec",
    gvks: &[],
    atomic: false,
    fields: &[
        plain("allocateLoadBalancerNodePorts", 20, Bool, Unset),
        plain("clusterIP", 3, String, Empty),
        Field { list: ListType::Atomic, ..plain("clusterIPs", 18, List(&String), Empty) },
        Field { list: ListType::Atomic, ..plain("externalIPs", 5, List(&String), Empty) },
        plain("externalName", 10, String, Empty),
        Field { go: "v1.ServiceExternalTrafficPolicy", ..plain("externalTrafficPolicy", 11, String, Empty) },
        plain("healthCheckNodePort", 12, Int32, Empty),
        Field { go: "v1.ServiceInternalTrafficPolicy", ..plain("internalTrafficPolicy", 22, String, Unset) },
        Field { go: "[]v1.IPFamily", list: ListType::Atomic, ..plain("ipFamilies", 19, List(&String), Empty) },
        Field { go: "v1.IPFamilyPolicy", ..plain("ipFamilyPolicy", 17, String, Unset) },
        plain("loadBalancerClass", 21, String, Unset),
        plain("loadBalancerIP", 8, String, Empty),
        Field { list: ListType::Atomic, ..plain("loadBalancerSourceRanges", 9, List(&String), Empty) },
        Field { list: ListType::Map, keys: &["port", "protocol"], patch: PatchStrategy::Merge, merge_key: Some("port"), ..plain("ports", 1, List(&Object(&CORE_V1_SERVICE_PORT)), Empty) },
        plain("publishNotReadyAddresses", 13, Bool, Empty),
        Field { atomic: true, ..plain("selector", 2, Map(&String), Empty) },
        Field { go: "v1.ServiceAffinity", ..plain("sessionAffinity", 7, String, Empty) },
        plain("sessionAffinityConfig", 14, Object(&CORE_V1_SESSION_AFFINITY_CONFIG), Unset),
        plain("trafficDistribution", 23, String, Unset),
        Field { go: "v1.ServiceType", ..plain("type", 4, String, Empty) },
    ],
};

static CORE_V1_SERVICE_STATUS: Type = Type {
    name: "io.k8s.api.core.v1.ServiceStatus",
    go: "v1.ServiceStatus",
    gvks: &[],
    atomic: false,
    fields: &[
        Field { list: ListType::Map, keys: &["type"], patch: PatchStrategy::Merge, merge_key: Some("type"), ..plain("conditions", 2, List(&Object(&META_V1_CONDITION)), Empty) },
        plain("loadBalancer", 1, Object(&CORE_V1_LOAD_BALANCER_STATUS), Never),
    ],
};

static CORE_V1_SESSION_AFFINITY_CONFIG: Type = Type {
    name: "io.k8s.api.core.v1.SessionAffinityConfig",
    go: "v1.SessionAffinityConfig",
    gvks: &[],
    atomic: false,
    fields: &[
        plain("clientIP", 1, Object(&CORE_V1_CLIENT_IP_CONFIG), Unset),
    ],
};

static CORE_V1_SLEEP_ACTION: Type = Type {
    name: "io.k8s.api.core.v1.SleepAction",
    go: "v1.SleepAction",
    gvks: &[],
    atomic: false,
    fields: &[
        Field { required: true, ..plain("seconds", 1, Int64, Never) },
    ],
};

static CORE_V1_STORAGE_OS_VOLUME_SOURCE: Type = Type {
    name: "io.k8s.api.core.v1.StorageOSVolumeSource",
    go: "v1.StorageOSVolumeSource",
    gvks: &[],
    atomic: false,
    fields: &[
        plain("fsType", 3, String, Empty),
        plain("readOnly", 4, Bool, Empty),
        plain("secretRef", 5, Object(&CORE_V1_LOCAL_OBJECT_REFERENCE), Unset),
        plain("volumeName", 1, String, Empty),
        plain("volumeNamespace", 2, String, Empty),
    ],
};

static CORE_V1_SYSCTL: Type = Type {
    name: "io.k8s.api.core.v1.Sysctl",
    go: "v1.Sysctl",
    gvks: &[],
    atomic: false,
    fields: &[
        Field { required: true, ..plain("name", 1, String, Never) },
        Field { required: true, ..plain("value", 2, String, Never) },
    ],
};

static CORE_V1_TCP_SOCKET_ACTION: Type = Type {
    name: "io.k8s.api.core.v1.TCPSocketAction",
    go: "v1.TCPSocketAction",
    gvks: &[],
    atomic: false,
    fields: &[
        plain("host", 2, String, Empty),
        Field { required: true, ..plain("port", 1, IntOrString, Never) },
    ],
};

static CORE_V1_TAINT: Type = Type {
    name: "io.k8s.api.core.v1.Taint",
    go: "v1.Taint",
    gvks: &[],
    atomic: false,
    fields: &[
        Field { go: "v1.TaintEffect", required: true, ..plain("effect", 3, String, Never) },
        Field { required: true, ..plain("key", 1, String, Never) },
        plain("timeAdded", 4, Time, Unset),
        plain("value", 2, String, Empty),
    ],
};

static CORE_V1_TOLERATION: Type = Type {
    name: "io.k8s.api.core.v1.Toleration",
    go: "v1.Toleration",
    gvks: &[],
    atomic: false,
    fields: &[
        Field { go: "v1.TaintEffect", ..plain("effect", 4, String, Empty) },
        plain("key", 1, String, Empty),
        Field { go: "v1.TolerationOperator", ..plain("operator", 2, String, Empty) },
        plain("tolerationSeconds", 5, Int64, Unset),
        plain("value", 3, String, Empty),
    ],
};

static CORE_V1_TOPOLOGY_SPREAD_CONSTRAINT: Type = Type {
    name: "io.k8s.api.core.v1.TopologySpreadConstraint",
    go: "v1.TopologySpreadConstraint",
    gvks: &[],
    atomic: false,
    fields: &[
        plain("labelSelector", 4, Object(&META_V1_LABEL_SELECTOR), Unset),
        Field { list: ListType::Atomic, ..plain("matchLabelKeys", 8, List(&String), Empty) },
        Field { required: true, ..plain("maxSkew", 1, Int32, Never) },
        plain("minDomains", 5, Int32, Unset),
        Field { go: "v1.NodeInclusionPolicy", ..plain("nodeAffinityPolicy", 6, String, Unset) },
        Field { go: "v1.NodeInclusionPolicy", ..plain("nodeTaintsPolicy", 7, String, Unset) },
        Field { required: true, ..plain("topologyKey", 2, String, Never) },
        Field { go: "v1.UnsatisfiableConstraintAction", required: true, ..plain("whenUnsatisfiable", 3, String, Never) },
    ],
};

static CORE_V1_TYPED_LOCAL_OBJECT_REFERENCE: Type = Type {
    name: "io.k8s.api.core.v1.TypedLocalObjectReference",
    go: "v1.TypedLocalObjectReference",
    gvks: &[],
    atomic: true,
    fields: &[
        plain("apiGroup", 1, String, Null),
        Field { required: true, ..plain("kind", 2, String, Never) },
        Field { required: true, ..plain("name", 3, String, Never) },
    ],
};

static CORE_V1_TYPED_OBJECT_REFERENCE: Type = Type {
    name: "io.k8s.api.core.v1.TypedObjectReference",
    go: "v1.TypedObjectReference",
    gvks: &[],
    atomic: false,
    fields: &[
        plain("apiGroup", 1, String, Null),
        Field { required: true, ..plain("kind", 2, String, Never) },
        Field { required: true, ..plain("name", 3, String, Never) },
        plain("namespace", 4, String, Unset),
    ],
};

static CORE_V1_VOLUME: Type = Type {
    name: "io.k8s.api.core.v1.Volume",
    go: "v1.Volume",
    gvks: &[],
    atomic: false,
    fields: &[
        Field { within: 2, ..plain("awsElasticBlockStore", 4, Object(&CORE_V1_AWS_ELASTIC_BLOCK_STORE_VOLUME_SOURCE), Unset) },
        Field { within: 2, ..plain("azureDisk", 22, Object(&CORE_V1_AZURE_DISK_VOLUME_SOURCE), Unset) },
        Field { within: 2, ..plain("azureFile", 18, Object(&CORE_V1_AZURE_FILE_VOLUME_SOURCE), Unset) },
        Field { within: 2, ..plain("cephfs", 14, Object(&CORE_V1_CEPH_FS_VOLUME_SOURCE), Unset) },
        Field { within: 2, ..plain("cinder", 13, Object(&CORE_V1_CINDER_VOLUME_SOURCE), Unset) },
        Field { within: 2, ..plain("configMap", 19, Object(&CORE_V1_CONFIG_MAP_VOLUME_SOURCE), Unset) },
        Field { within: 2, ..plain("csi", 28, Object(&CORE_V1_CSI_VOLUME_SOURCE), Unset) },
        Field { within: 2, ..plain("downwardAPI", 16, Object(&CORE_V1_DOWNWARD_API_VOLUME_SOURCE), Unset) },
        Field { within: 2, ..plain("emptyDir", 2, Object(&CORE_V1_EMPTY_DIR_VOLUME_SOURCE), Unset) },
        Field { within: 2, ..plain("ephemeral", 29, Object(&CORE_V1_EPHEMERAL_VOLUME_SOURCE), Unset) },
        Field { within: 2, ..plain("fc", 17, Object(&CORE_V1_FC_VOLUME_SOURCE), Unset) },
        Field { within: 2, ..plain("flexVolume", 12, Object(&CORE_V1_FLEX_VOLUME_SOURCE), Unset) },
        Field { within: 2, ..plain("flocker", 15, Object(&CORE_V1_FLOCKER_VOLUME_SOURCE), Unset) },
        Field { within: 2, ..plain("gcePersistentDisk", 3, Object(&CORE_V1_GCE_PERSISTENT_DISK_VOLUME_SOURCE), Unset) },
        Field { within: 2, ..plain("gitRepo", 5, Object(&CORE_V1_GIT_REPO_VOLUME_SOURCE), Unset) },
        Field { within: 2, ..plain("glusterfs", 9, Object(&CORE_V1_GLUSTERFS_VOLUME_SOURCE), Unset) },
        Field { within: 2, ..plain("hostPath", 1, Object(&CORE_V1_HOST_PATH_VOLUME_SOURCE), Unset) },
        Field { within: 2, ..plain("image", 30, Object(&CORE_V1_IMAGE_VOLUME_SOURCE), Unset) },
        Field { within: 2, ..plain("iscsi", 8, Object(&CORE_V1_ISCSI_VOLUME_SOURCE), Unset) },
        Field { required: true, ..plain("name", 1, String, Never) },
        Field { within: 2, ..plain("nfs", 7, Object(&CORE_V1_NFS_VOLUME_SOURCE), Unset) },
        Field { within: 2, ..plain("persistentVolumeClaim", 10, Object(&CORE_V1_PERSISTENT_VOLUME_CLAIM_VOLUME_SOURCE), Unset) },
        Field { within: 2, ..plain("photonPersistentDisk", 23, Object(&CORE_V1_PHOTON_PERSISTENT_DISK_VOLUME_SOURCE), Unset) },
        Field { within: 2, ..plain("portworxVolume", 24, Object(&CORE_V1_PORTWORX_VOLUME_SOURCE), Unset) },
        Field { within: 2, ..plain("projected", 26, Object(&CORE_V1_PROJECTED_VOLUME_SOURCE), Unset) },
        Field { within: 2, ..plain("quobyte", 21, Object(&CORE_V1_QUOBYTE_VOLUME_SOURCE), Unset) },
        Field { within: 2, ..plain("rbd", 11, Object(&CORE_V1_RBD_VOLUME_SOURCE), Unset) },
        Field { within: 2, ..plain("scaleIO", 25, Object(&CORE_V1_SCALE_IO_VOLUME_SOURCE), Unset) },
        Field { within: 2, ..plain("secret", 6, Object(&CORE_V1_SECRET_VOLUME_SOURCE), Unset) },
        Field { within: 2, ..plain("storageos", 27, Object(&CORE_V1_STORAGE_OS_VOLUME_SOURCE), Unset) },
        Field { within: 2, ..plain("vsphereVolume", 20, Object(&CORE_V1_VSPHERE_VIRTUAL_DISK_VOLUME_SOURCE), Unset) },
    ],
};

static CORE_V1_VOLUME_DEVICE: Type = Type {
    name: "io.k8s.api.core.v1.VolumeDevice",
    go: "v1.VolumeDevice",
    gvks: &[],
    atomic: false,
    fields: &[
        Field { required: true, ..plain("devicePath", 2, String, Never) },
        Field { required: true, ..plain("name", 1, String, Never) },
    ],
};

static CORE_V1_VOLUME_MOUNT: Type = Type {
    name: "io.k8s.api.core.v1.VolumeMount",
    go: "v1.VolumeMount",
    gvks: &[],
    atomic: false,
    fields: &[
        Field { required: true, ..plain("mountPath", 3, String, Never) },
        Field { go: "v1.MountPropagationMode", ..plain("mountPropagation", 5, String, Unset) },
        Field { required: true, ..plain("name", 1, String, Never) },
        plain("readOnly", 2, Bool, Empty),
        Field { go: "v1.RecursiveReadOnlyMode", ..plain("recursiveReadOnly", 7, String, Unset) },
        plain("subPath", 4, String, Empty),
        plain("subPathExpr", 6, String, Empty),
    ],
};

static CORE_V1_VOLUME_MOUNT_STATUS: Type = Type {
    name: "io.k8s.api.core.v1.VolumeMountStatus",
    go: "v1.VolumeMountStatus",
    gvks: &[],
    atomic: false,
    fields: &[
        Field { required: true, ..plain("mountPath", 2, String, Never) },
        Field { required: true, ..plain("name", 1, String, Never) },
        plain("readOnly", 3, Bool, Empty),
        Field { go: "v1.RecursiveReadOnlyMode", ..plain("recursiveReadOnly", 4, String, Unset) },
        plain("volumeStatus", 5, Object(&CORE_V1_VOLUME_STATUS), Unset),
    ],
};

static CORE_V1_VOLUME_PROJECTION: Type = Type {
    name: "io.k8s.api.core.v1.VolumeProjection",
    go: "v1.VolumeProjection",
    gvks: &[],
    atomic: false,
    fields: &[
        plain("clusterTrustBundle", 5, Object(&CORE_V1_CLUSTER_TRUST_BUNDLE_PROJECTION), Unset),
        plain("configMap", 3, Object(&CORE_V1_CONFIG_MAP_PROJECTION), Unset),
        plain("downwardAPI", 2, Object(&CORE_V1_DOWNWARD_API_PROJECTION), Unset),
        plain("podCertificate", 6, Object(&CORE_V1_POD_CERTIFICATE_PROJECTION), Unset),
        plain("secret", 1, Object(&CORE_V1_SECRET_PROJECTION), Unset),
        plain("serviceAccountToken", 4, Object(&CORE_V1_SERVICE_ACCOUNT_TOKEN_PROJECTION), Unset),
    ],
};

static CORE_V1_VOLUME_RESOURCE_REQUIREMENTS: Type = Type {
    name: "io.k8s.api.core.v1.VolumeResourceRequirements",
    go: "v1.VolumeResourceRequirements",
    gvks: &[],
    atomic: false,
    fields: &[
        Field { go: "v1.ResourceList", ..plain("limits", 1, Map(&Quantity), Empty) },
        Field { go: "v1.ResourceList", ..plain("requests", 2, Map(&Quantity), Empty) },
    ],
};

static CORE_V1_VOLUME_STATUS: Type = Type {
    name: "io.k8s.api.core.v1.VolumeStatus",
    go: "v1.VolumeStatus",
    gvks: &[],
    atomic: false,
    fields: &[
        plain("image", 1, Object(&CORE_V1_IMAGE_VOLUME_STATUS), Unset),
    ],
};

static CORE_V1_VSPHERE_VIRTUAL_DISK_VOLUME_SOURCE: Type = Type {
    name: "io.k8s.api.core.v1.VsphereVirtualDiskVolumeSource",
    go: "v1.VsphereVirtualDiskVolumeSource",
    gvks: &[],
    atomic: false,
    fields: &[
        plain("fsType", 2, String, Empty),
        plain("storagePolicyID", 4, String, Empty),
        plain("storagePolicyName", 3, String, Empty),
        Field { required: true, ..plain("volumePath", 1, String, Never) },
    ],
};

static CORE_V1_WEIGHTED_POD_AFFINITY_TERM: Type = Type {
    name: "io.k8s.api.core.v1.WeightedPodAffinityTerm",
    go: "v1.WeightedPodAffinityTerm",
    gvks: &[],
    atomic: false,
    fields: &[
        Field { required: true, ..plain("podAffinityTerm", 2, Object(&CORE_V1_POD_AFFINITY_TERM), Never) },
        Field { required: true, ..plain("weight", 1, Int32, Never) },
    ],
};

static CORE_V1_WINDOWS_SECURITY_CONTEXT_OPTIONS: Type = Type {
    name: "io.k8s.api.core.v1.WindowsSecurityContextOptions",
    go: "v1.WindowsSecurityContextOptions",
    gvks: &[],
    atomic: false,
    fields: &[
        plain("gmsaCredentialSpec", 2, String, Unset),
        plain("gmsaCredentialSpecName", 1, String, Unset),
        plain("hostProcess", 4, Bool, Unset),
        plain("runAsUserName", 3, String, Unset),
    ],
};

static DISCOVERY_V1_ENDPOINT: Type = Type {
    name: "io.k8s.api.discovery.v1.Endpoint",
    go: "v1.Endpoint",
    gvks: &[],
    atomic: false,
    fields: &[
        Field { required: true, list: ListType::Set, ..plain("addresses", 1, List(&String), Null) },
        plain("conditions", 2, Object(&DISCOVERY_V1_ENDPOINT_CONDITIONS), Never),
        plain("deprecatedTopology", 5, Map(&String), Empty),
        plain("hints", 8, Object(&DISCOVERY_V1_ENDPOINT_HINTS), Unset),
        plain("hostname", 3, String, Unset),
        plain("nodeName", 6, String, Unset),
        plain("targetRef", 4, Object(&CORE_V1_OBJECT_REFERENCE), Unset),
        plain("zone", 7, String, Unset),
    ],
};

static DISCOVERY_V1_ENDPOINT_CONDITIONS: Type = Type {
    name: "io.k8s.api.discovery.v1.EndpointConditions",
    go: "v1.EndpointConditions",
    gvks: &[],
    atomic: false,
    fields: &[
        plain("ready", 1, Bool, Unset),
        plain("serving", 2, Bool, Unset),
        plain("terminating", 3, Bool, Unset),
    ],
};

static DISCOVERY_V1_ENDPOINT_HINTS: Type = Type {
    name: "io.k8s.api.discovery.v1.EndpointHints",
    go: "v1.EndpointHints",
    gvks: &[],
    atomic: false,
    fields: &[
        Field { list: ListType::Atomic, ..plain("forNodes", 2, List(&Object(&DISCOVERY_V1_FOR_NODE)), Empty) },
        Field { list: ListType::Atomic, ..plain("forZones", 1, List(&Object(&DISCOVERY_V1_FOR_ZONE)), Empty) },
    ],
};

static DISCOVERY_V1_ENDPOINT_PORT: Type = Type {
    name: "io.k8s.api.discovery.v1.EndpointPort",
    go: "v1.EndpointPort",
    gvks: &[],
    atomic: true,
    fields: &[
        plain("appProtocol", 4, String, Unset),
        plain("name", 1, String, Unset),
        plain("port", 3, Int32, Unset),
        Field { go: "v1.Protocol", ..plain("protocol", 2, String, Unset) },
    ],
};

static DISCOVERY_V1_ENDPOINT_SLICE: Type = Type {
    name: "io.k8s.api.discovery.v1.EndpointSlice",
    go: "v1.EndpointSlice",
    gvks: &[kind("discovery.k8s.io", "v1", "EndpointSlice")],
    atomic: false,
    fields: &[
        Field { go: "v1.AddressType", required: true, ..plain("addressType", 4, String, Never) },
        plain("apiVersion", 0, String, Empty),
        Field { list: ListType::Atomic, ..plain("endpoints", 2, List(&Object(&DISCOVERY_V1_ENDPOINT)), Null) },
        plain("kind", 0, String, Empty),
        plain("metadata", 1, Object(&META_V1_OBJECT_META), Never),
        Field { list: ListType::Atomic, ..plain("ports", 3, List(&Object(&DISCOVERY_V1_ENDPOINT_PORT)), Null) },
    ],
};

static DISCOVERY_V1_ENDPOINT_SLICE_LIST: Type = Type {
    name: "io.k8s.api.discovery.v1.EndpointSliceList",
    go: "v1.EndpointSliceList",
    gvks: &[kind("discovery.k8s.io", "v1", "EndpointSliceList")],
    atomic: false,
    fields: &[
        plain("apiVersion", 0, String, Empty),
        Field { required: true, ..plain("items", 2, List(&Object(&DISCOVERY_V1_ENDPOINT_SLICE)), Null) },
        plain("kind", 0, String, Empty),
        plain("metadata", 1, Object(&META_V1_LIST_META), Never),
    ],
};

static DISCOVERY_V1_FOR_NODE: Type = Type {
    name: "io.k8s.api.discovery.v1.ForNode",
    go: "v1.ForNode",
    gvks: &[],
    atomic: false,
    fields: &[
        Field { required: true, ..plain("name", 1, String, Never) },
    ],
};

static DISCOVERY_V1_FOR_ZONE: Type = Type {
    name: "io.k8s.api.discovery.v1.ForZone",
    go: "v1.ForZone",
    gvks: &[],
    atomic: false,
    fields: &[
        Field { required: true, ..plain("name", 1, String, Never) },
    ],
};

static EVENTS_V1_EVENT: Type = Type {
    name: "io.k8s.api.events.v1.Event",
    go: "v1.Event",
    gvks: &[kind("events.k8s.io", "v1", "Event")],
    atomic: false,
    fields: &[
        plain("action", 6, String, Empty),
        plain("apiVersion", 0, String, Empty),
        plain("deprecatedCount", 15, Int32, Empty),
        plain("deprecatedFirstTimestamp", 13, Time, Null),
        plain("deprecatedLastTimestamp", 14, Time, Null),
        plain("deprecatedSource", 12, Object(&CORE_V1_EVENT_SOURCE), Never),
        Field { required: true, ..plain("eventTime", 2, MicroTime, Null) },
        plain("kind", 0, String, Empty),
        plain("metadata", 1, Object(&META_V1_OBJECT_META), Never),
        plain("note", 10, String, Empty),
        plain("reason", 7, String, Empty),
        plain("regarding", 8, Object(&CORE_V1_OBJECT_REFERENCE), Never),
        plain("related", 9, Object(&CORE_V1_OBJECT_REFERENCE), Unset),
        plain("reportingController", 4, String, Empty),
        plain("reportingInstance", 5, String, Empty),
        plain("series", 3, Object(&EVENTS_V1_EVENT_SERIES), Unset),
        plain("type", 11, String, Empty),
    ],
};

static EVENTS_V1_EVENT_LIST: Type = Type {
    name: "io.k8s.api.events.v1.EventList",
    go: "v1.EventList",
    gvks: &[kind("events.k8s.io", "v1", "EventList")],
    atomic: false,
    fields: &[
        plain("apiVersion", 0, String, Empty),
        Field { required: true, ..plain("items", 2, List(&Object(&EVENTS_V1_EVENT)), Null) },
        plain("kind", 0, String, Empty),
        plain("metadata", 1, Object(&META_V1_LIST_META), Never),
    ],
};

static EVENTS_V1_EVENT_SERIES: Type = Type {
    name: "io.k8s.api.events.v1.EventSeries",
    go: "v1.EventSeries",
    gvks: &[],
    atomic: false,
    fields: &[
        Field { required: true, ..plain("count", 1, Int32, Never) },
        Field { required: true, ..plain("lastObservedTime", 2, MicroTime, Null) },
    ],
};

static POLICY_V1_EVICTION: Type = Type {
    name: "io.k8s.api.policy.v1.Eviction",
    go: "v1.Eviction",
    gvks: &[kind("policy", "v1", "Eviction")],
    atomic: false,
    fields: &[
        plain("apiVersion", 0, String, Empty),
        plain("deleteOptions", 2, Object(&META_V1_DELETE_OPTIONS), Unset),
        plain("kind", 0, String, Empty),
        plain("metadata", 1, Object(&META_V1_OBJECT_META), Never),
    ],
};

static POLICY_V1_POD_DISRUPTION_BUDGET: Type = Type {
    name: "io.k8s.api.policy.v1.PodDisruptionBudget",
    go: "v1.PodDisruptionBudget",
    gvks: &[kind("policy", "v1", "PodDisruptionBudget")],
    atomic: false,
    fields: &[
        plain("apiVersion", 0, String, Empty),
        plain("kind", 0, String, Empty),
        plain("metadata", 1, Object(&META_V1_OBJECT_META), Never),
        plain("spec", 2, Object(&POLICY_V1_POD_DISRUPTION_BUDGET_SPEC), Never),
        plain("status", 3, Object(&POLICY_V1_POD_DISRUPTION_BUDGET_STATUS), Never),
    ],
};

static POLICY_V1_POD_DISRUPTION_BUDGET_LIST: Type = Type {
    name: "io.k8s.api.policy.v1.PodDisruptionBudgetList",
    go: "v1.PodDisruptionBudgetList",
    gvks: &[kind("policy", "v1", "PodDisruptionBudgetList")],
    atomic: false,
    fields: &[
        plain("apiVersion", 0, String, Empty),
        Field { required: true, ..plain("items", 2, List(&Object(&POLICY_V1_POD_DISRUPTION_BUDGET)), Null) },
        plain("kind", 0, String, Empty),
        plain("metadata", 1, Object(&META_V1_LIST_META), Never),
    ],
};

static POLICY_V1_POD_DISRUPTION_BUDGET_SPEC: Type = Type {
    name: "io.k8s.api.policy.v1.PodDisruptionBudgetSpec",
    go: "v1.PodDisruptionBudgetSpec",
    gvks: &[],
    atomic: false,
    fields: &[
        plain("maxUnavailable", 3, IntOrString, Unset),
        plain("minAvailable", 1, IntOrString, Unset),
        Field { patch: PatchStrategy::Replace, ..plain("selector", 2, Object(&META_V1_LABEL_SELECTOR), Unset) },
        Field { go: "v1.UnhealthyPodEvictionPolicyType", ..plain("unhealthyPodEvictionPolicy", 4, String, Unset) },
    ],
};

static POLICY_V1_POD_DISRUPTION_BUDGET_STATUS: Type = Type {
    name: "io.k8s.api.policy.v1.PodDisruptionBudgetStatus",
    go: "v1.PodDisruptionBudgetStatus",
    gvks: &[],
    atomic: false,
    fields: &[
        Field { list: ListType::Map, keys: &["type"], patch: PatchStrategy::Merge, merge_key: Some("type"), ..plain("conditions", 7, List(&Object(&META_V1_CONDITION)), Empty) },
        plain("currentHealthy", 4, Int32, Never),
        plain("desiredHealthy", 5, Int32, Never),
        plain("disruptedPods", 2, Map(&Time), Empty),
        plain("disruptionsAllowed", 3, Int32, Never),
        plain("expectedPods", 6, Int32, Never),
        plain("observedGeneration", 1, Int64, Empty),
    ],
};

static RBAC_V1_AGGREGATION_RULE: Type = Type {
    name: "io.k8s.api.rbac.v1.AggregationRule",
    go: "v1.AggregationRule",
    gvks: &[],
    atomic: false,
    fields: &[
        Field { list: ListType::Atomic, ..plain("clusterRoleSelectors", 1, List(&Object(&META_V1_LABEL_SELECTOR)), Empty) },
    ],
};

static RBAC_V1_CLUSTER_ROLE: Type = Type {
    name: "io.k8s.api.rbac.v1.ClusterRole",
    go: "v1.ClusterRole",
    gvks: &[kind("rbac.authorization.k8s.io", "v1", "ClusterRole")],
    atomic: false,
    fields: &[
        plain("aggregationRule", 3, Object(&RBAC_V1_AGGREGATION_RULE), Unset),
        plain("apiVersion", 0, String, Empty),
        plain("kind", 0, String, Empty),
        plain("metadata", 1, Object(&META_V1_OBJECT_META), Never),
        Field { list: ListType::Atomic, ..plain("rules", 2, List(&Object(&RBAC_V1_POLICY_RULE)), Null) },
    ],
};

static RBAC_V1_CLUSTER_ROLE_BINDING: Type = Type {
    name: "io.k8s.api.rbac.v1.ClusterRoleBinding",
    go: "v1.ClusterRoleBinding",
    gvks: &[kind("rbac.authorization.k8s.io", "v1", "ClusterRoleBinding")],
    atomic: false,
    fields: &[
        plain("apiVersion", 0, String, Empty),
        plain("kind", 0, String, Empty),
        plain("metadata", 1, Object(&META_V1_OBJECT_META), Never),
        Field { required: true, ..plain("roleRef", 3, Object(&RBAC_V1_ROLE_REF), Never) },
        Field { list: ListType::Atomic, ..plain("subjects", 2, List(&Object(&RBAC_V1_SUBJECT)), Empty) },
    ],
};

static RBAC_V1_CLUSTER_ROLE_BINDING_LIST: Type = Type {
    name: "io.k8s.api.rbac.v1.ClusterRoleBindingList",
    go: "v1.ClusterRoleBindingList",
    gvks: &[kind("rbac.authorization.k8s.io", "v1", "ClusterRoleBindingList")],
    atomic: false,
    fields: &[
        plain("apiVersion", 0, String, Empty),
        Field { required: true, ..plain("items", 2, List(&Object(&RBAC_V1_CLUSTER_ROLE_BINDING)), Null) },
        plain("kind", 0, String, Empty),
        plain("metadata", 1, Object(&META_V1_LIST_META), Never),
    ],
};

static RBAC_V1_CLUSTER_ROLE_LIST: Type = Type {
    name: "io.k8s.api.rbac.v1.ClusterRoleList",
    go: "v1.ClusterRoleList",
    gvks: &[kind("rbac.authorization.k8s.io", "v1", "ClusterRoleList")],
    atomic: false,
    fields: &[
        plain("apiVersion", 0, String, Empty),
        Field { required: true, ..plain("items", 2, List(&Object(&RBAC_V1_CLUSTER_ROLE)), Null) },
        plain("kind", 0, String, Empty),
        plain("metadata", 1, Object(&META_V1_LIST_META), Never),
    ],
};

static RBAC_V1_POLICY_RULE: Type = Type {
    name: "io.k8s.api.rbac.v1.PolicyRule",
    go: "v1.PolicyRule",
    gvks: &[],
    atomic: false,
    fields: &[
        Field { list: ListType::Atomic, ..plain("apiGroups", 2, List(&String), Empty) },
        Field { list: ListType::Atomic, ..plain("nonResourceURLs", 5, List(&String), Empty) },
        Field { list: ListType::Atomic, ..plain("resourceNames", 4, List(&String), Empty) },
        Field { list: ListType::Atomic, ..plain("resources", 3, List(&String), Empty) },
        Field { required: true, list: ListType::Atomic, ..plain("verbs", 1, List(&String), Null) },
    ],
};

static RBAC_V1_ROLE: Type = Type {
    name: "io.k8s.api.rbac.v1.Role",
    go: "v1.Role",
    gvks: &[kind("rbac.authorization.k8s.io", "v1", "Role")],
    atomic: false,
    fields: &[
        plain("apiVersion", 0, String, Empty),
        plain("kind", 0, String, Empty),
        plain("metadata", 1, Object(&META_V1_OBJECT_META), Never),
        Field { list: ListType::Atomic, ..plain("rules", 2, List(&Object(&RBAC_V1_POLICY_RULE)), Null) },
    ],
};

static RBAC_V1_ROLE_BINDING: Type = Type {
    name: "io.k8s.api.rbac.v1.RoleBinding",
    go: "v1.RoleBinding",
    gvks: &[kind("rbac.authorization.k8s.io", "v1", "RoleBinding")],
    atomic: false,
    fields: &[
        plain("apiVersion", 0, String, Empty),
        plain("kind", 0, String, Empty),
        plain("metadata", 1, Object(&META_V1_OBJECT_META), Never),
        Field { required: true, ..plain("roleRef", 3, Object(&RBAC_V1_ROLE_REF), Never) },
        Field { list: ListType::Atomic, ..plain("subjects", 2, List(&Object(&RBAC_V1_SUBJECT)), Empty) },
    ],
};

static RBAC_V1_ROLE_BINDING_LIST: Type = Type {
    name: "io.k8s.api.rbac.v1.RoleBindingList",
    go: "v1.RoleBindingList",
    gvks: &[kind("rbac.authorization.k8s.io", "v1", "RoleBindingList")],
    atomic: false,
    fields: &[
        plain("apiVersion", 0, String, Empty),
        Field { required: true, ..plain("items", 2, List(&Object(&RBAC_V1_ROLE_BINDING)), Null) },
        plain("kind", 0, String, Empty),
        plain("metadata", 1, Object(&META_V1_LIST_META), Never),
    ],
};

static RBAC_V1_ROLE_LIST: Type = Type {
    name: "io.k8s.api.rbac.v1.RoleList",
    go: "v1.RoleList",
    gvks: &[kind("rbac.authorization.k8s.io", "v1", "RoleList")],
    atomic: false,
    fields: &[
        plain("apiVersion", 0, String, Empty),
        Field { required: true, ..plain("items", 2, List(&Object(&RBAC_V1_ROLE)), Null) },
        plain("kind", 0, String, Empty),
        plain("metadata", 1, Object(&META_V1_LIST_META), Never),
    ],
};

static RBAC_V1_ROLE_REF: Type = Type {
    name: "io.k8s.api.rbac.v1.RoleRef",
    go: "v1.RoleRef",
    gvks: &[],
    atomic: true,
    fields: &[
        plain("apiGroup", 1, String, Never),
        Field { required: true, ..plain("kind", 2, String, Never) },
        Field { required: true, ..plain("name", 3, String, Never) },
    ],
};

static RBAC_V1_SUBJECT: Type = Type {
    name: "io.k8s.api.rbac.v1.Subject",
    go: "v1.Subject",
    gvks: &[],
    atomic: true,
    fields: &[
        plain("apiGroup", 2, String, Empty),
        Field { required: true, ..plain("kind", 1, String, Never) },
        Field { required: true, ..plain("name", 3, String, Never) },
        plain("namespace", 4, String, Empty),
    ],
};

static SCHEDULING_V1_PRIORITY_CLASS: Type = Type {
    name: "io.k8s.api.scheduling.v1.PriorityClass",
    go: "v1.PriorityClass",
    gvks: &[kind("scheduling.k8s.io", "v1", "PriorityClass")],
    atomic: false,
    fields: &[
        plain("apiVersion", 0, String, Empty),
        plain("description", 4, String, Empty),
        plain("globalDefault", 3, Bool, Empty),
        plain("kind", 0, String, Empty),
        plain("metadata", 1, Object(&META_V1_OBJECT_META), Never),
        Field { go: "v1.PreemptionPolicy", ..plain("preemptionPolicy", 5, String, Unset) },
        plain("value", 2, Int32, Never),
    ],
};

static SCHEDULING_V1_PRIORITY_CLASS_LIST: Type = Type {
    name: "io.k8s.api.scheduling.v1.PriorityClassList",
    go: "v1.PriorityClassList",
    gvks: &[kind("scheduling.k8s.io", "v1", "PriorityClassList")],
    atomic: false,
    fields: &[
        plain("apiVersion", 0, String, Empty),
        Field { required: true, ..plain("items", 2, List(&Object(&SCHEDULING_V1_PRIORITY_CLASS)), Null) },
        plain("kind", 0, String, Empty),
        plain("metadata", 1, Object(&META_V1_LIST_META), Never),
    ],
};

static META_V1_CONDITION: Type = Type {
    name: "io.k8s.apimachinery.pkg.apis.meta.v1.Condition",
    go: "v1.Condition",
    gvks: &[],
    atomic: false,
    fields: &[
        Field { required: true, ..plain("lastTransitionTime", 4, Time, Null) },
        Field { required: true, ..plain("message", 6, String, Never) },
        plain("observedGeneration", 3, Int64, Empty),
        Field { required: true, ..plain("reason", 5, String, Never) },
        Field { go: "v1.ConditionStatus", required: true, ..plain("status", 2, String, Never) },
        Field { required: true, ..plain("type", 1, String, Never) },
    ],
};

static META_V1_DELETE_OPTIONS: Type = Type {
    name: "io.k8s.apimachinery.pkg.apis.meta.v1.DeleteOptions",
    go: "v1.DeleteOptions",
    gvks: &[kind("", "v1", "DeleteOptions"), kind("apps", "v1", "DeleteOptions"), kind("authentication.k8s.io", "v1", "DeleteOptions"), kind("authorization.k8s.io", "v1", "DeleteOptions"), kind("certificates.k8s.io", "v1", "DeleteOptions"), kind("coordination.k8s.io", "v1", "DeleteOptions"), kind("discovery.k8s.io", "v1", "DeleteOptions"), kind("events.k8s.io", "v1", "DeleteOptions"), kind("meta.k8s.io", "v1", "DeleteOptions"), kind("policy", "v1", "DeleteOptions"), kind("rbac.authorization.k8s.io", "v1", "DeleteOptions"), kind("scheduling.k8s.io", "v1", "DeleteOptions")],
    atomic: false,
    fields: &[
        plain("apiVersion", 0, String, Empty),
        Field { list: ListType::Atomic, ..plain("dryRun", 5, List(&String), Empty) },
        plain("gracePeriodSeconds", 1, Int64, Unset),
        plain("ignoreStoreReadErrorWithClusterBreakingPotential", 6, Bool, Unset),
        plain("kind", 0, String, Empty),
        plain("orphanDependents", 3, Bool, Unset),
        plain("preconditions", 2, Object(&META_V1_PRECONDITIONS), Unset),
        Field { go: "v1.DeletionPropagation", ..plain("propagationPolicy", 4, String, Unset) },
    ],
};

static META_V1_FIELD_SELECTOR_REQUIREMENT: Type = Type {
    name: "io.k8s.apimachinery.pkg.apis.meta.v1.FieldSelectorRequirement",
    go: "v1.FieldSelectorRequirement",
    gvks: &[],
    atomic: false,
    fields: &[
        Field { required: true, ..plain("key", 1, String, Never) },
        Field { go: "v1.FieldSelectorOperator", required: true, ..plain("operator", 2, String, Never) },
        Field { list: ListType::Atomic, ..plain("values", 3, List(&String), Empty) },
    ],
};

static META_V1_LABEL_SELECTOR: Type = Type {
    name: "io.k8s.apimachinery.pkg.apis.meta.v1.LabelSelector",
    go: "v1.LabelSelector",
    gvks: &[],
    atomic: true,
    fields: &[
        Field { list: ListType::Atomic, ..plain("matchExpressions", 2, List(&Object(&META_V1_LABEL_SELECTOR_REQUIREMENT)), Empty) },
        plain("matchLabels", 1, Map(&String), Empty),
    ],
};

static META_V1_LABEL_SELECTOR_REQUIREMENT: Type = Type {
    name: "io.k8s.apimachinery.pkg.apis.meta.v1.LabelSelectorRequirement",
    go: "v1.LabelSelectorRequirement",
    gvks: &[],
    atomic: false,
    fields: &[
        Field { required: true, ..plain("key", 1, String, Never) },
        Field { go: "v1.LabelSelectorOperator", required: true, ..plain("operator", 2, String, Never) },
        Field { list: ListType::Atomic, ..plain("values", 3, List(&String), Empty) },
    ],
};

static META_V1_LIST_META: Type = Type {
    name: "io.k8s.apimachinery.pkg.apis.meta.v1.ListMeta",
    go: "v1.ListMeta",
    gvks: &[],
    atomic: false,
    fields: &[
        plain("continue", 3, String, Empty),
        plain("remainingItemCount", 4, Int64, Unset),
        plain("resourceVersion", 2, String, Empty),
        plain("selfLink", 1, String, Empty),
        plain("shardInfo", 5, Object(&META_V1_SHARD_INFO), Unset),
    ],
};

static META_V1_MANAGED_FIELDS_ENTRY: Type = Type {
    name: "io.k8s.apimachinery.pkg.apis.meta.v1.ManagedFieldsEntry",
    go: "v1.ManagedFieldsEntry",
    gvks: &[],
    atomic: false,
    fields: &[
        plain("apiVersion", 3, String, Empty),
        plain("fieldsType", 6, String, Empty),
        plain("fieldsV1", 7, FieldsV1, Unset),
        plain("manager", 1, String, Empty),
        Field { go: "v1.ManagedFieldsOperationType", ..plain("operation", 2, String, Empty) },
        plain("subresource", 8, String, Empty),
        plain("time", 4, Time, Unset),
    ],
};

static META_V1_OBJECT_META: Type = Type {
    name: "io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta",
    go: "v1.ObjectMeta",
    gvks: &[],
    atomic: false,
    fields: &[
        plain("annotations", 12, Map(&String), Empty),
        plain("creationTimestamp", 8, Time, Empty),
        plain("deletionGracePeriodSeconds", 10, Int64, Unset),
        plain("deletionTimestamp", 9, Time, Unset),
        Field { list: ListType::Set, patch: PatchStrategy::Merge, ..plain("finalizers", 14, List(&String), Empty) },
        plain("generateName", 2, String, Empty),
        plain("generation", 7, Int64, Empty),
        plain("labels", 11, Map(&String), Empty),
        Field { list: ListType::Atomic, ..plain("managedFields", 17, List(&Object(&META_V1_MANAGED_FIELDS_ENTRY)), Empty) },
        plain("name", 1, String, Empty),
        plain("namespace", 3, String, Empty),
        Field { list: ListType::Map, keys: &["uid"], patch: PatchStrategy::Merge, merge_key: Some("uid"), ..plain("ownerReferences", 13, List(&Object(&META_V1_OWNER_REFERENCE)), Empty) },
        plain("resourceVersion", 6, String, Empty),
        plain("selfLink", 4, String, Empty),
        Field { go: "types.UID", ..plain("uid", 5, String, Empty) },
    ],
};

static META_V1_OWNER_REFERENCE: Type = Type {
    name: "io.k8s.apimachinery.pkg.apis.meta.v1.OwnerReference",
    go: "v1.OwnerReference",
    gvks: &[],
    atomic: true,
    fields: &[
        Field { required: true, ..plain("apiVersion", 5, String, Never) },
        plain("blockOwnerDeletion", 7, Bool, Unset),
        plain("controller", 6, Bool, Unset),
        Field { required: true, ..plain("kind", 1, String, Never) },
        Field { required: true, ..plain("name", 3, String, Never) },
        Field { go: "types.UID", required: true, ..plain("uid", 4, String, Never) },
    ],
};

static META_V1_PRECONDITIONS: Type = Type {
    name: "io.k8s.apimachinery.pkg.apis.meta.v1.Preconditions",
    go: "v1.Preconditions",
    gvks: &[],
    atomic: false,
    fields: &[
        plain("resourceVersion", 2, String, Unset),
        Field { go: "types.UID", ..plain("uid", 1, String, Unset) },
    ],
};

static META_V1_SHARD_INFO: Type = Type {
    name: "io.k8s.apimachinery.pkg.apis.meta.v1.ShardInfo",
    go: "v1.ShardInfo",
    gvks: &[],
    atomic: false,
    fields: &[
        Field { required: true, ..plain("selector", 1, String, Never) },
    ],
};

static META_V1_STATUS: Type = Type {
    name: "io.k8s.apimachinery.pkg.apis.meta.v1.Status",
    go: "v1.Status",
    gvks: &[kind("", "v1", "Status")],
    atomic: false,
    fields: &[
        plain("apiVersion", 0, String, Empty),
        plain("code", 6, Int32, Empty),
        plain("details", 5, Object(&META_V1_STATUS_DETAILS), Unset),
        plain("kind", 0, String, Empty),
        plain("message", 3, String, Empty),
        plain("metadata", 1, Object(&META_V1_LIST_META), Never),
        Field { go: "v1.StatusReason", ..plain("reason", 4, String, Empty) },
        plain("status", 2, String, Empty),
    ],
};

static META_V1_STATUS_CAUSE: Type = Type {
    name: "io.k8s.apimachinery.pkg.apis.meta.v1.StatusCause",
    go: "v1.StatusCause",
    gvks: &[],
    atomic: false,
    fields: &[
        plain("field", 3, String, Empty),
        plain("message", 2, String, Empty),
        Field { go: "v1.CauseType", ..plain("reason", 1, String, Empty) },
    ],
};

static META_V1_STATUS_DETAILS: Type = Type {
    name: "io.k8s.apimachinery.pkg.apis.meta.v1.StatusDetails",
    go: "v1.StatusDetails",
    gvks: &[],
    atomic: false,
    fields: &[
        Field { list: ListType::Atomic, ..plain("causes", 4, List(&Object(&META_V1_STATUS_CAUSE)), Empty) },
        plain("group", 2, String, Empty),
        plain("kind", 3, String, Empty),
        plain("name", 1, String, Empty),
        plain("retryAfterSeconds", 5, Int32, Empty),
        Field { go: "types.UID", ..plain("uid", 6, String, Empty) },
    ],
};

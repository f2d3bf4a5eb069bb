//! API paths of kinds.

use std::borrow::Cow;
use std::fmt::Write as _;

/// A kind in the API, with everything that its URLs need.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Resource {
    /// Empty for the core group.
    pub group: Cow<'static, str>,
    /// `v1`.
    pub version: Cow<'static, str>,
    /// `Pod`.
    pub kind: Cow<'static, str>,
    /// `pods`.
    pub plural: Cow<'static, str>,
    /// Whether its objects are namespaced.
    pub namespaced: bool,
}

impl Resource {
    fn new(group: &'static str, kind: &'static str, plural: &'static str, namespaced: bool) -> Self {
        Self {
            group: group.into(),
            version: "v1".into(),
            kind: kind.into(),
            plural: plural.into(),
            namespaced,
        }
    }

    /// `v1/Pod`
    pub fn pods() -> Self {
        Self::new("", "Pod", "pods", true)
    }

    /// `v1/Node`
    pub fn nodes() -> Self {
        Self::new("", "Node", "nodes", false)
    }

    /// `v1/Namespace`
    pub fn namespaces() -> Self {
        Self::new("", "Namespace", "namespaces", false)
    }

    /// `v1/Event`
    pub fn events() -> Self {
        Self::new("", "Event", "events", true)
    }

    /// `v1/ServiceAccount`
    pub fn service_accounts() -> Self {
        Self::new("", "ServiceAccount", "serviceaccounts", true)
    }

    /// `v1/ConfigMap`
    pub fn config_maps() -> Self {
        Self::new("", "ConfigMap", "configmaps", true)
    }

    /// `v1/Service`
    pub fn services() -> Self {
        Self::new("", "Service", "services", true)
    }

    /// `v1/Endpoints`
    pub fn endpoints() -> Self {
        Self::new("", "Endpoints", "endpoints", true)
    }

    /// `discovery.k8s.io/v1/EndpointSlice`
    pub fn endpoint_slices() -> Self {
        Self::new("discovery.k8s.io", "EndpointSlice", "endpointslices", true)
    }

    /// `apps/v1/DaemonSet`
    pub fn daemon_sets() -> Self {
        Self::new("apps", "DaemonSet", "daemonsets", true)
    }

    /// `apps/v1/ControllerRevision`
    pub fn controller_revisions() -> Self {
        Self::new("apps", "ControllerRevision", "controllerrevisions", true)
    }

    /// `coordination.k8s.io/v1/Lease`
    pub fn leases() -> Self {
        Self::new("coordination.k8s.io", "Lease", "leases", true)
    }

    /// `v1/Secret`
    pub fn secrets() -> Self {
        Self::new("", "Secret", "secrets", true)
    }

    /// `certificates.k8s.io/v1/CertificateSigningRequest`
    pub fn certificate_signing_requests() -> Self {
        let kind = "CertificateSigningRequest";
        Self::new("certificates.k8s.io", kind, "certificatesigningrequests", false)
    }

    /// `rbac.authorization.k8s.io/v1/ClusterRole`
    pub fn cluster_roles() -> Self {
        Self::new("rbac.authorization.k8s.io", "ClusterRole", "clusterroles", false)
    }

    /// `policy/v1/PodDisruptionBudget`
    pub fn pod_disruption_budgets() -> Self {
        Self::new("policy", "PodDisruptionBudget", "poddisruptionbudgets", true)
    }

    /// `apps/v1`, or `v1` in the core group.
    pub fn api_version(&self) -> String {
        if self.group.is_empty() {
            self.version.to_string()
        } else {
            format!("{}/{}", self.group, self.version)
        }
    }

    /// The path of all its objects, in all namespaces.
    pub fn path(&self) -> String {
        self.collection("")
    }

    /// The path of its objects in `namespace`, or of all objects if that is empty or the kind is
    /// cluster-scoped.
    pub fn collection(&self, namespace: &str) -> String {
        let mut path = String::with_capacity(64);
        if self.group.is_empty() {
            path.push_str("/api/");
        } else {
            // Writing into a String cannot fail.
            write!(path, "/apis/{}/", self.group).unwrap_or_default();
        }
        path.push_str(&self.version);
        if self.namespaced && !namespace.is_empty() {
            write!(path, "/namespaces/{namespace}").unwrap_or_default();
        }
        path.push('/');
        path.push_str(&self.plural);
        path
    }

    /// The path of one object.
    pub fn object(&self, namespace: &str, name: &str) -> String {
        let mut path = self.collection(namespace);
        path.push('/');
        path.push_str(name);
        path
    }

    /// The path of a subresource of one object.
    pub fn subresource(&self, namespace: &str, name: &str, subresource: &str) -> String {
        let mut path = self.object(namespace, name);
        path.push('/');
        path.push_str(subresource);
        path
    }
}

#[cfg(test)]
mod tests {
    use super::Resource;

    #[test]
    fn paths_are_kubernetes_paths() {
        let pods = Resource::pods();
        assert_eq!(pods.path(), "/api/v1/pods");
        assert_eq!(
            pods.subresource("ns", "p", "status"),
            "/api/v1/namespaces/ns/pods/p/status"
        );
        assert_eq!(Resource::nodes().object("ignored", "n"), "/api/v1/nodes/n");
        assert_eq!(
            Resource::daemon_sets().collection("ns"),
            "/apis/apps/v1/namespaces/ns/daemonsets"
        );
    }
}

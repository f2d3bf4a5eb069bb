//! The user of a request: a name and groups, as in Kubernetes.

use std::collections::BTreeMap;

use crate::authorization::Who;

/// Group whose members may do everything.
pub const GROUP_MASTERS: &str = "system:masters";
/// The group of node agents.
pub const GROUP_NODES: &str = "system:nodes";
/// Group of all authenticated users.
pub const GROUP_AUTHENTICATED: &str = "system:authenticated";
/// Group of anonymous users.
pub(crate) const GROUP_UNAUTHENTICATED: &str = "system:unauthenticated";
/// Prefix of the user names of node agents.
pub(crate) const NODE_PREFIX: &str = "system:node:";
/// Name of the anonymous user.
const ANONYMOUS: &str = "system:anonymous";
/// The group of every service account.
pub const GROUP_SERVICE_ACCOUNTS: &str = "system:serviceaccounts";

/// An authenticated user.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct User {
    /// User name, such as `system:node:worker-1`.
    pub name: String,
    /// Identifier that is unique over time. Empty if the credential has none.
    pub uid: String,
    /// Groups, without `system:authenticated` (see [`User::all_groups`]).
    pub groups: Vec<String>,
    /// Further facts about the credential, as SelfSubjectReview prints them.
    pub extra: BTreeMap<String, Vec<String>>,
}

impl User {
    /// Returns a user with this name and these groups.
    pub fn new(name: impl Into<String>, groups: &[&str]) -> User {
        User {
            name: name.into(),
            uid: String::new(),
            groups: groups.iter().map(|g| (*g).to_owned()).collect(),
            extra: BTreeMap::new(),
        }
    }

    /// The administrator whose client certificate is in `admin.kubeconfig`.
    pub fn admin() -> User {
        User::new("kubernetes-admin", &[GROUP_MASTERS])
    }

    /// A node's agent: `system:node:<name>` in `system:nodes`.
    pub fn node(name: &str) -> User {
        User::new(format!("{NODE_PREFIX}{name}"), &[GROUP_NODES])
    }

    /// A component of the control plane, such as `system:kube-scheduler`.
    pub fn component(name: &str) -> User {
        User::new(name, &[])
    }

    /// A service account.
    pub fn service_account(namespace: &str, name: &str, uid: &str) -> User {
        User {
            name: format!("system:serviceaccount:{namespace}:{name}"),
            uid: uid.to_owned(),
            groups: vec![
                GROUP_SERVICE_ACCOUNTS.to_owned(),
                format!("{GROUP_SERVICE_ACCOUNTS}:{namespace}"),
            ],
            extra: BTreeMap::new(),
        }
    }

    /// Returns the user of a request without credentials.
    pub(crate) fn anonymous() -> User {
        User::new(ANONYMOUS, &[GROUP_UNAUTHENTICATED])
    }

    pub(crate) fn is_anonymous(&self) -> bool {
        self.name == ANONYMOUS
    }

    /// Returns whether the user may do everything.
    pub(crate) fn is_master(&self) -> bool {
        self.groups.iter().any(|group| group == GROUP_MASTERS)
    }

    /// Returns the groups with `system:authenticated`, as reviews print them.
    pub fn all_groups(&self) -> Vec<String> {
        let mut groups = self.groups.clone();
        if !self.is_anonymous() && !groups.iter().any(|g| g == GROUP_AUTHENTICATED) {
            groups.push(GROUP_AUTHENTICATED.to_owned());
        }
        groups
    }

    /// Returns the name of the node when the user is a node's agent.
    pub fn node_name(&self) -> Option<&str> {
        Who::of(self).node()
    }
}

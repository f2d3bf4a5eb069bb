//! All roles and bindings, indexed by subject: a check reads only the bindings of the user and of
//! the groups.

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::sync::Arc;

use serde_json::Value;

use super::{Action, Rule};
use crate::field_error::quote;
use crate::meta;

/// The role of a binding.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RoleRef {
    /// Whether it is a ClusterRole; otherwise a Role in the binding's namespace.
    pub is_cluster_role: bool,
    /// Its name.
    pub name: Box<str>,
}

impl RoleRef {
    /// Returns the `roleRef` of a binding.
    pub fn of(binding: &Value) -> RoleRef {
        let role = &binding["roleRef"];
        RoleRef {
            is_cluster_role: role["kind"] == "ClusterRole",
            name: role["name"].as_str().unwrap_or_default().into(),
        }
    }

    fn kind(&self) -> &'static str {
        if self.is_cluster_role {
            "ClusterRole"
        } else {
            "Role"
        }
    }
}

/// One subject of a binding.
#[derive(Clone, Debug)]
struct Bound {
    role: RoleRef,
    /// The subject as a reason names it: `Group "x"`.
    subject: Box<str>,
}

/// The bindings of one namespace, or of the cluster, for each user and group, sorted by name.
#[derive(Debug, Default)]
struct Bindings {
    users: HashMap<Box<str>, BTreeMap<Box<str>, Bound>>,
    groups: HashMap<Box<str>, BTreeMap<Box<str>, Bound>>,
    /// Users and groups of each binding, with which it is removed.
    subjects: HashMap<Box<str>, Vec<Subject>>,
}

#[derive(Debug, PartialEq, Eq)]
enum Subject {
    User(Box<str>),
    Group(Box<str>),
}

impl Bindings {
    fn remove(&mut self, name: &str) {
        for subject in self.subjects.remove(name).unwrap_or_default() {
            let (map, key) = match &subject {
                Subject::User(key) => (&mut self.users, key),
                Subject::Group(key) => (&mut self.groups, key),
            };
            if let Some(bindings) = map.get_mut(key) {
                bindings.remove(name);
                if bindings.is_empty() {
                    map.remove(key);
                }
            }
        }
    }

    fn insert(&mut self, name: &str, binding: &Value) {
        self.remove(name);
        let role = RoleRef::of(binding);
        let subjects = binding["subjects"]
            .as_array()
            .map(Vec::as_slice)
            .unwrap_or_default();
        for subject in subjects {
            let text = |field: &str| subject[field].as_str().unwrap_or_default();
            let (kind, name_of) = (text("kind"), text("name"));
            let (key, called) = match kind {
                "User" => (Subject::User(name_of.into()), name_of.to_owned()),
                "Group" => (Subject::Group(name_of.into()), name_of.to_owned()),
                "ServiceAccount" => {
                    // Without a namespace, a RoleBinding refers to a ServiceAccount in its own
                    // namespace.
                    let namespace = match text("namespace") {
                        "" => meta::namespace(binding),
                        named => named,
                    };
                    let user = format!("system:serviceaccount:{namespace}:{name_of}");
                    (Subject::User(user.into()), format!("{name_of}/{namespace}"))
                }
                _ => continue,
            };
            let bound = Bound {
                role: role.clone(),
                subject: format!("{kind} {}", quote(&called)).into(),
            };
            let map = match &key {
                Subject::User(key) => self.users.entry(key.clone()),
                Subject::Group(key) => self.groups.entry(key.clone()),
            };
            map.or_default().entry(name.into()).or_insert(bound);
            self.subjects.entry(name.into()).or_default().push(key);
        }
    }
}

/// The permissions of a user by one binding.
#[derive(Clone, Debug)]
pub struct Grant<'p> {
    namespace: &'p str,
    binding: &'p str,
    bound: &'p Bound,
    rules: &'p Arc<[Rule]>,
}

impl<'p> Grant<'p> {
    /// Returns the rules of the role.
    pub fn rules(&self) -> &'p [Rule] {
        self.rules
    }
}

/// The reason of a decision: `ClusterRoleBinding "a" of ClusterRole "b" to Group "c"`.
impl fmt::Display for Grant<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (kind, binding) = match self.namespace {
            "" => ("ClusterRoleBinding", self.binding.to_owned()),
            namespace => ("RoleBinding", format!("{}/{namespace}", self.binding)),
        };
        let role = &self.bound.role;
        let (role_kind, role_name) = (role.kind(), quote(&role.name));
        write!(
            f,
            "{kind} {} of {role_kind} {role_name} to {}",
            quote(&binding),
            self.bound.subject
        )
    }
}

/// The rules of roles by name.
type Roles = HashMap<Box<str>, Arc<[Rule]>>;

/// All roles and bindings.
#[derive(Debug, Default)]
pub struct Policy {
    cluster_roles: Roles,
    /// By namespace.
    roles: HashMap<Box<str>, Roles>,
    cluster_bindings: Bindings,
    bindings: HashMap<Box<str>, Bindings>,
}

impl Policy {
    /// Adds or replaces a Role, ClusterRole, RoleBinding or ClusterRoleBinding. The object must
    /// have its `kind`.
    pub fn insert(&mut self, object: &Value) {
        let (namespace, name) = (meta::namespace(object), meta::name(object));
        match object["kind"].as_str().unwrap_or_default() {
            "ClusterRole" => {
                self.cluster_roles
                    .insert(name.into(), Rule::all_of(object).into());
            }
            "Role" => {
                let roles = self.roles.entry(namespace.into()).or_default();
                roles.insert(name.into(), Rule::all_of(object).into());
            }
            "ClusterRoleBinding" => self.cluster_bindings.insert(name, object),
            "RoleBinding" => self
                .bindings
                .entry(namespace.into())
                .or_default()
                .insert(name, object),
            _ => {}
        }
    }

    /// Removes an object of this kind.
    pub fn remove(&mut self, kind: &str, namespace: &str, name: &str) {
        match kind {
            "ClusterRole" => {
                self.cluster_roles.remove(name);
            }
            "Role" => {
                if let Some(roles) = self.roles.get_mut(namespace) {
                    roles.remove(name);
                    if roles.is_empty() {
                        self.roles.remove(namespace);
                    }
                }
            }
            "ClusterRoleBinding" => self.cluster_bindings.remove(name),
            "RoleBinding" => {
                if let Some(bindings) = self.bindings.get_mut(namespace) {
                    bindings.remove(name);
                    if bindings.subjects.is_empty() {
                        self.bindings.remove(namespace);
                    }
                }
            }
            _ => {}
        }
    }

    /// Returns the rules of a role; `None` when the role does not exist.
    pub fn rules(&self, role: &RoleRef, namespace: &str) -> Option<&Arc<[Rule]>> {
        match role.is_cluster_role {
            true => self.cluster_roles.get(&role.name),
            false => self.roles.get(namespace)?.get(&role.name),
        }
    }

    /// Returns the grants of a user with these groups in a namespace, including those for the whole
    /// cluster. With an empty namespace, only the latter.
    pub fn grants<'p>(
        &'p self,
        user: &'p str,
        groups: impl Iterator<Item = &'p str> + Clone,
        namespace: &'p str,
    ) -> impl Iterator<Item = Grant<'p>> {
        let own = match namespace {
            "" => None,
            namespace => self.bindings.get(namespace),
        };
        let places = [
            Some(("", &self.cluster_bindings)),
            own.map(|own| (namespace, own)),
        ];
        places
            .into_iter()
            .flatten()
            .flat_map(move |(namespace, bindings)| {
                let of_user = bindings.users.get(user).into_iter();
                let of_groups = groups.clone().filter_map(|group| bindings.groups.get(group));
                let bound = of_user.chain(of_groups).flatten();
                bound.filter_map(move |(binding, bound)| {
                    Some(Grant {
                        namespace,
                        binding,
                        bound,
                        rules: self.rules(&bound.role, namespace)?,
                    })
                })
            })
    }

    /// Returns the binding that allows this, if there is one.
    pub fn allows<'p>(
        &'p self,
        user: &'p str,
        groups: impl Iterator<Item = &'p str> + Clone,
        action: &Action<'p>,
    ) -> Option<Grant<'p>> {
        self.grants(user, groups, action.namespace())
            .find(|grant| grant.rules.iter().any(|rule| rule.allows(action)))
    }
}

//! Authorization: the rules of RBAC, and which objects a node may read.
//!
//! All functions are pure. The API server keeps a [`Policy`] beside its store, checks every request
//! with it, and returns a denial as a [`Status`] in Kubernetes' words.

use std::fmt;

use crate::field_error::quote;
use crate::status::{Details, Status};

mod aggregate;
mod covers;
pub mod defaults;
mod node;
mod policy;
mod rule;

pub use aggregate::aggregated;
pub use covers::{Missing, missing};
pub use node::{PodReference, node_label_is_forbidden, pod_refers_to};
pub use policy::{Grant, Policy, RoleRef};
pub use rule::Rule;

#[cfg(test)]
mod tests;

/// An action that a request performs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action<'a> {
    /// A verb on objects.
    Resource(Resource<'a>),
    /// A verb on a path that is not an object's.
    Path {
        /// The HTTP method in lower case.
        verb: &'a str,
        /// The path.
        path: &'a str,
    },
}

/// A verb and the objects that it applies to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Resource<'a> {
    /// `get`, `list`, `impersonate`, …
    pub verb: &'a str,
    /// The API group; empty for the core group.
    pub group: &'a str,
    /// `pods`
    pub resource: &'a str,
    /// `log`; empty for the object itself.
    pub subresource: &'a str,
    /// Empty for all namespaces, and for cluster-scoped objects.
    pub namespace: &'a str,
    /// Empty for all objects.
    pub name: &'a str,
}

impl<'a> Action<'a> {
    /// Returns the namespace of the action; empty for the whole cluster.
    pub fn namespace(&self) -> &'a str {
        match self {
            Action::Resource(resource) => resource.namespace,
            Action::Path { .. } => "",
        }
    }

    /// Returns a 403 in Kubernetes' words. `reason` may be empty.
    pub fn forbidden(&self, user: &str, reason: &str) -> Status {
        let colon = if reason.is_empty() { "" } else { ": " };
        let why = format!("{}{colon}{reason}", Denial { user, action: self });
        let Action::Resource(resource) = self else {
            let mut status = Status::new(403, "Forbidden", format!("forbidden: {why}"));
            status.details = Some(Box::default());
            return status;
        };
        let qualified = match resource.group {
            "" => resource.resource.to_owned(),
            group => format!("{}.{group}", resource.resource),
        };
        let message = match resource.name {
            "" => format!("{qualified} is forbidden: {why}"),
            name => format!("{qualified} {} is forbidden: {why}", quote(name)),
        };
        let mut status = Status::new(403, "Forbidden", message);
        status.details = Some(Box::new(Details {
            name: resource.name.to_owned(),
            group: resource.group.to_owned(),
            kind: resource.resource.to_owned(),
            ..Details::default()
        }));
        status
    }
}

/// Displays as `User "x" cannot list resource "pods" in API group "" in the namespace "y"`.
struct Denial<'a> {
    user: &'a str,
    action: &'a Action<'a>,
}

impl fmt::Display for Denial<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "User {} cannot ", quote(self.user))?;
        let resource = match self.action {
            Action::Path { verb, path } => return write!(f, "{verb} path {}", quote(path)),
            Action::Resource(resource) => resource,
        };
        let slash = if resource.subresource.is_empty() { "" } else { "/" };
        let named = format!("{}{slash}{}", resource.resource, resource.subresource);
        let (verb, group) = (resource.verb, quote(resource.group));
        write!(f, "{verb} resource {} in API group {group} ", quote(&named))?;
        match resource.namespace {
            "" => write!(f, "at the cluster scope"),
            namespace => write!(f, "in the namespace {}", quote(namespace)),
        }
    }
}

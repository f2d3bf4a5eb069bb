//! The verb of a request for objects.

use http::Method;

use crate::query::Query;
use crate::routes::Target;

/// Verb of a request, as Kubernetes names it in RBAC rules.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verb {
    Get,
    List,
    Watch,
    Create,
    Update,
    Patch,
    Delete,
    DeleteCollection,
}

impl Verb {
    pub(crate) fn of(method: &Method, target: &Target, query: &Query) -> Option<Verb> {
        let named = !target.name.is_empty();
        // A create or a deletion needs a namespace. A list may cover all namespaces.
        let placed = !target.kind.namespaced || !target.namespace.is_empty();
        let inside = !target.subresource.is_empty();
        match *method {
            Method::GET | Method::HEAD if named => Some(Verb::Get),
            Method::GET | Method::HEAD if query.flag("watch") => Some(Verb::Watch),
            Method::GET | Method::HEAD => Some(Verb::List),
            Method::POST if named == inside && placed => Some(Verb::Create),
            Method::PUT if named => Some(Verb::Update),
            Method::PATCH if named => Some(Verb::Patch),
            Method::DELETE if named => Some(Verb::Delete),
            Method::DELETE if placed => Some(Verb::DeleteCollection),
            // The proxied server decides how to answer OPTIONS.
            Method::OPTIONS if target.subresource == "proxy" => Some(Verb::Get),
            _ => None,
        }
    }

    pub(crate) const fn name(self) -> &'static str {
        match self {
            Verb::Get => "get",
            Verb::List => "list",
            Verb::Watch => "watch",
            Verb::Create => "create",
            Verb::Update => "update",
            Verb::Patch => "patch",
            Verb::Delete => "delete",
            Verb::DeleteCollection => "deletecollection",
        }
    }
}

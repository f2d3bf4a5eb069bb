//! Authorization: system:masters, then the Node authorizer, then RBAC.
//!
//! The server answers only with an [`Authorized`] value, and only [`authorize`] creates one, so no
//! route can skip authorization. Admission decides what depends on more than the request, such as
//! an object that a node creates or a role that a user grants.

mod attributes;
mod escalation;
mod node;
mod rbac;

use std::sync::Arc;

use api::authorization::{Action, Resource, Rule};
use api::selector::FieldSelector;
use api::status::Status;
use http::{Method, Uri};

pub(crate) use attributes::review_selector;
pub(crate) use escalation::{everything, may_give};
pub(crate) use node::NODE_LEASES;
pub(crate) use rbac::Rbac;

use crate::query::Query;
use crate::routes::{Route, Target};
use crate::shared::Shared;
use crate::user::{GROUP_AUTHENTICATED, GROUP_MASTERS, GROUP_NODES, NODE_PREFIX, User};
use crate::verbs::Verb;
use node::Opinion;

/// Authorized request.
pub(crate) struct Authorized {
    user: Arc<User>,
    route: Route,
    query: Query,
}

impl Authorized {
    pub(crate) fn into_parts(self) -> (Arc<User>, Route, Query) {
        (self.user, self.route, self.query)
    }
}

/// Authorizes a request. Returns 403 if the user lacks the right; only users with the right get
/// 404.
pub(crate) fn authorize(
    shared: &Shared,
    user: Arc<User>,
    method: &Method,
    uri: &Uri,
    route: Result<Route, Status>,
) -> Result<Authorized, Status> {
    let query = Query::parse(uri.query());
    if !user.is_master() {
        match &route {
            Ok(route) => {
                let selector = attributes::selector(method, route, &query);
                for action in attributes::actions(method, uri, route, &query, selector.as_ref()) {
                    must_allow(shared, &Who::of(&user), &action, selector.as_ref())?;
                }
            }
            Err(_) => {
                let unserved = attributes::Unserved::of(method, uri);
                must_allow(shared, &Who::of(&user), &unserved.action(), None)?;
            }
        }
    }
    let route = route?;
    Ok(Authorized { user, route, query })
}

/// Returns 403 unless the user may also use this verb on the objects of the request.
pub(crate) fn must_allow_verb(
    shared: &Shared,
    user: &User,
    verb: Verb,
    target: &Target,
) -> Result<(), Status> {
    let action = attributes::on_target(target, verb.name(), None);
    must_allow(shared, &Who::of(user), &action, None)
}

/// Returns 403 unless `who` may do this.
pub(crate) fn must_allow(
    shared: &Shared,
    who: &Who<'_>,
    action: &Action<'_>,
    selector: Option<&FieldSelector>,
) -> Result<(), Status> {
    match decide(shared, who, action, selector, false)? {
        Decision { allowed: true, .. } => Ok(()),
        Decision { reason, .. } => Err(action.forbidden(who.name, &reason)),
    }
}

/// Returns whether `who` may do this.
pub(crate) fn is_allowed(shared: &Shared, who: &Who<'_>, action: &Action<'_>) -> bool {
    decide(shared, who, action, None, false).is_ok_and(|decision| decision.allowed)
}

/// Result of an authorization, with its reason.
pub(crate) struct Decision {
    pub(crate) allowed: bool,
    /// May be empty. If allowed, the reason is set only with `explain`.
    pub(crate) reason: String,
}

/// Identity whose rights are checked.
#[derive(Clone, Copy)]
pub(crate) struct Who<'a> {
    pub(crate) name: &'a str,
    groups: &'a [String],
    /// Adds the group of authenticated users to `groups`.
    is_authenticated: bool,
}

impl<'a> Who<'a> {
    /// Returns the identity of a request's user.
    pub(crate) fn of(user: &'a User) -> Who<'a> {
        Who {
            name: &user.name,
            groups: &user.groups,
            is_authenticated: !user.is_anonymous(),
        }
    }

    /// Returns an identity that has only this name and these groups.
    pub(crate) fn named(name: &'a str, groups: &'a [String]) -> Who<'a> {
        Who {
            name,
            groups,
            is_authenticated: false,
        }
    }

    fn groups(&self) -> impl Iterator<Item = &'a str> + Clone + use<'a> {
        let authenticated = self.is_authenticated && !self.is_in(GROUP_AUTHENTICATED);
        let own = self.groups.iter().map(String::as_str);
        own.chain(authenticated.then_some(GROUP_AUTHENTICATED))
    }

    fn is_in(&self, group: &str) -> bool {
        self.groups.iter().any(|own| own == group)
    }

    /// Returns the node's name if this is a node; it may be empty.
    pub(crate) fn node(&self) -> Option<&'a str> {
        self.name
            .strip_prefix(NODE_PREFIX)
            .filter(|_| self.is_in(GROUP_NODES))
    }

    /// Returns whether authorization always allows this identity.
    pub(crate) fn is_master(&self) -> bool {
        self.is_in(GROUP_MASTERS)
    }
}

/// Decides whether `who` may do this. `explain` requests the reason even if it is allowed. Fails if
/// a node asks for a pod that does not exist.
pub(crate) fn decide(
    shared: &Shared,
    who: &Who<'_>,
    action: &Action<'_>,
    selector: Option<&FieldSelector>,
    explain: bool,
) -> Result<Decision, Status> {
    let yes = |reason: String| Decision {
        allowed: true,
        reason,
    };
    if who.is_master() {
        return Ok(yes(String::new()));
    }
    let reason = match who.node() {
        Some(node) => match node::opinion(shared, node, action, selector)? {
            Opinion::Allow => return Ok(yes(String::new())),
            Opinion::None(reason) => reason,
        },
        None => String::new(),
    };
    shared.rbac.with(&shared.objects, |policy| {
        Ok(match policy.allows(who.name, who.groups(), action) {
            Some(grant) if explain => yes(format!("RBAC: allowed by {grant}")),
            Some(_) => yes(String::new()),
            None => Decision {
                allowed: false,
                reason,
            },
        })
    })
}

/// Returns the rules that bindings give `who` in a namespace.
pub(crate) fn rules(shared: &Shared, who: &Who<'_>, namespace: &str) -> Vec<Rule> {
    shared.rbac.with(&shared.objects, |policy| {
        let grants = policy.grants(who.name, who.groups(), namespace);
        grants.flat_map(|grant| grant.rules().to_vec()).collect()
    })
}

/// Returns the action for a right on one named object, such as impersonation or binding a role.
pub(crate) fn right<'a>(
    verb: &'a str,
    group: &'a str,
    (resource, subresource): (&'a str, &'a str),
    namespace: &'a str,
    name: &'a str,
) -> Action<'a> {
    Action::Resource(Resource {
        verb,
        group,
        resource,
        subresource,
        namespace,
        name,
    })
}

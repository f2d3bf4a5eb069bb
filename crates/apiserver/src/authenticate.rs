//! Who makes a request: the in-process caller, the bearer of a token, or the holder of the connection's certificate.

use std::sync::Arc;

use api::status::Status;
use http::HeaderMap;
use http::header::AUTHORIZATION;
use jiff::Timestamp;

use crate::objects::{self, core};
use crate::shared::Shared;
use crate::token::{Bound, Claims, ISSUER};
use crate::user::{GROUP_MASTERS, User};

/// Where a request comes from. Not part of the request, so that nothing a listener passes on can say it.
#[derive(Debug, Clone)]
pub(crate) enum Peer {
    /// A component of this process, acting as this user.
    InProcess(Arc<User>),
    /// A connection, with the user of its verified client certificate if it showed one.
    Connection(Option<Arc<User>>),
}

/// The user of a request; 401 when there is none.
pub(crate) fn authenticate(
    shared: &Shared,
    peer: &Peer,
    headers: &HeaderMap,
    now: Timestamp,
) -> Result<Arc<User>, Status> {
    let user = match peer {
        Peer::InProcess(user) => user.clone(),
        Peer::Connection(Some(user)) => user.clone(),
        Peer::Connection(None) => Arc::new(token_user(shared, headers, now)?),
    };
    impersonated(user, headers)
}

/// The service account whose token the request bears. Why a token is refused is for the log alone.
fn token_user(shared: &Shared, headers: &HeaderMap, now: Timestamp) -> Result<User, Status> {
    let header = headers
        .get(AUTHORIZATION)
        .and_then(|value| value.to_str().ok())
        .unwrap_or_default();
    let (scheme, token) = header.split_once(' ').unwrap_or_default();
    if !scheme.eq_ignore_ascii_case("bearer") {
        return Err(Status::unauthorized());
    }
    let claims = shared
        .tokens
        .verify(token.trim(), &[ISSUER], now)
        .map_err(|error| {
            tracing::debug!(%error, "a token was refused");
            Status::unauthorized()
        })?;
    if let Err(what) = still_bound(shared, &claims) {
        tracing::debug!(subject = %claims.sub, what, "a token outlived what it was bound to");
        return Err(Status::unauthorized());
    }
    let account = &claims.kubernetes.serviceaccount;
    let mut user = User::service_account(&claims.kubernetes.namespace, &account.name, &account.uid);
    user.extra = claims.extra();
    Ok(user)
}

/// Whether the objects that a token is bound to are still the same; else which one is not.
fn still_bound(shared: &Shared, claims: &Claims) -> Result<(), &'static str> {
    let bounds = &claims.kubernetes;
    let lives = |kind: &'static str, namespace: &str, bound: &Bound| {
        let object =
            core(kind).and_then(|kind| objects::get(&shared.objects, kind, namespace, &bound.name).ok());
        object.is_some_and(|object| *object.attributes.attributes.uid == *bound.uid)
    };
    if !lives("ServiceAccount", &bounds.namespace, &bounds.serviceaccount) {
        return Err("ServiceAccount");
    }
    for (kind, bound) in [("Pod", &bounds.pod), ("Secret", &bounds.secret)] {
        if bound
            .as_ref()
            .is_some_and(|bound| !lives(kind, &bounds.namespace, bound))
        {
            return Err(kind);
        }
    }
    Ok(())
}

/// The user that an administrator acts as (`kubectl --as`), or `user` itself.
fn impersonated(user: Arc<User>, headers: &HeaderMap) -> Result<Arc<User>, Status> {
    let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
    let Some(name) = text("impersonate-user") else {
        let orphan = headers
            .keys()
            .any(|name| name.as_str().starts_with("impersonate-"));
        return match orphan {
            true => Err(Status::bad_request(
                "groups, uid or extra are impersonated without a user",
            )),
            false => Ok(user),
        };
    };
    if !user.groups.iter().any(|group| group == GROUP_MASTERS) {
        let why = format!(
            "users \"{name}\" is forbidden: User \"{}\" cannot impersonate users",
            user.name
        );
        return Err(Status::new(403, "Forbidden", why));
    }
    let groups: Vec<&str> = headers
        .get_all("impersonate-group")
        .iter()
        .filter_map(|value| value.to_str().ok())
        .collect();
    let mut acting = User::new(name, &groups);
    acting.uid = text("impersonate-uid").unwrap_or_default().to_owned();
    if groups.is_empty()
        && let Some((namespace, account)) = name
            .strip_prefix("system:serviceaccount:")
            .and_then(|rest| rest.split_once(':'))
    {
        acting = User::service_account(namespace, account, &acting.uid);
    }
    Ok(Arc::new(acting))
}

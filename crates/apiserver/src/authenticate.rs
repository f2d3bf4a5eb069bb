//! Who makes a request: the in-process caller, the bearer of a token, or the holder of the connection's certificate.

use std::sync::Arc;

use api::bootstrap_token::BootstrapToken;
use api::certificates;
use api::status::Status;
use http::HeaderMap;
use http::header::AUTHORIZATION;
use jiff::Timestamp;

use crate::objects::{self, core};
use crate::shared::Shared;
use crate::token::{Bound, Claims, ISSUER};
use crate::user::{GROUP_MASTERS, GROUP_NODES, User};
use crate::{bootstrap_token, node_credential, pki};

/// Where a request comes from. Not part of the request, so that nothing a listener passes on can say it.
#[derive(Debug, Clone)]
pub(crate) enum Peer {
    /// A component of this process, acting as this user.
    InProcess(Arc<User>),
    /// A connection, with the holder of its verified client certificate if it showed one.
    Connection(Option<Arc<Holder>>),
}

/// Who showed a client certificate that our authority signed.
#[derive(Debug)]
pub(crate) struct Holder {
    user: Arc<User>,
    /// SHA-256 of the certificate, in hexadecimal digits.
    fingerprint: String,
    /// The second since the epoch at which the certificate ends.
    ends: i64,
}

impl Holder {
    /// The holder of a certificate (DER) whose signature has been found good; none if it names nobody.
    pub(crate) fn of_certificate(der: &[u8]) -> Option<Holder> {
        let (mut user, ends) = pki::certificate_holder(der)?;
        let fingerprint = certificates::sha256(der);
        let id = format!("{}{fingerprint}", certificates::CREDENTIAL_ID_PREFIX);
        user.extra
            .insert(certificates::CREDENTIAL_ID.to_owned(), vec![id]);
        Some(Holder {
            user: Arc::new(user),
            fingerprint,
            ends,
        })
    }

    /// The user, while the certificate is good. A connection outlives what was looked at when it began, so this is asked for each request.
    fn user(&self, shared: &Shared, now: Timestamp) -> Result<Arc<User>, Status> {
        if now.as_second() >= self.ends {
            tracing::debug!(user = self.user.name, "a connection outlived its certificate");
            return Err(Status::unauthorized());
        }
        match self.user.node_name() {
            Some(node) => node_credential::must_accept(shared, node, &self.fingerprint)?,
            None if self.user.groups.iter().any(|group| group == GROUP_NODES) => {
                return Err(Status::unauthorized());
            }
            None => {}
        }
        Ok(self.user.clone())
    }
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
        Peer::Connection(Some(holder)) => holder.user(shared, now)?,
        Peer::Connection(None) => Arc::new(token_user(shared, headers, now)?),
    };
    impersonated(user, headers)
}

/// Whose token the request bears: a machine's that joins, or a service account's. Why a token is refused is for the log alone.
fn token_user(shared: &Shared, headers: &HeaderMap, now: Timestamp) -> Result<User, Status> {
    let header = headers
        .get(AUTHORIZATION)
        .and_then(|value| value.to_str().ok())
        .unwrap_or_default();
    let (scheme, token) = header.split_once(' ').unwrap_or_default();
    if !scheme.eq_ignore_ascii_case("bearer") {
        return Err(Status::unauthorized());
    }
    let token = token.trim();
    if let Some(token) = BootstrapToken::parse(token) {
        return bootstrap_token::user(shared, &token, now);
    }
    let claims = shared.tokens.verify(token, &[ISSUER], now).map_err(|error| {
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

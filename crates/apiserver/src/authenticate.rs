//! Who makes a request: the in-process caller, the bearer of a token, or the holder of the connection's certificate.

use std::sync::Arc;

use api::bootstrap_token::BootstrapToken;
use api::certificates;
use api::status::Status;
use http::HeaderMap;
use http::header::AUTHORIZATION;
use jiff::Timestamp;
use percent_encoding::percent_decode_str;

use crate::authorization::{self, Who, right};
use crate::objects::{self, core};
use crate::shared::Shared;
use crate::token::{Bound, Claims, ISSUER};
use crate::user::{GROUP_NODES, GROUP_UNAUTHENTICATED, User};
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

/// The user of a request: nobody when it says nothing, 401 when it says it wrongly.
pub(crate) fn authenticate(
    shared: &Shared,
    peer: &Peer,
    headers: &HeaderMap,
    now: Timestamp,
) -> Result<Arc<User>, Status> {
    let user = match peer {
        Peer::InProcess(user) => user.clone(),
        Peer::Connection(Some(holder)) => holder.user(shared, now)?,
        Peer::Connection(None) if headers.contains_key(AUTHORIZATION) => {
            Arc::new(token_user(shared, headers, now)?)
        }
        Peer::Connection(None) => Arc::new(User::anonymous()),
    };
    impersonated(shared, user, headers)
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

/// The prefix of the headers by which one acts as somebody else (`kubectl --as`).
const IMPERSONATE: &str = "impersonate-";
const AUTHENTICATION: &str = "authentication.k8s.io";

/// The user that `user` acts as, or himself. Every part of another identity is a right of its own.
fn impersonated(shared: &Shared, user: Arc<User>, headers: &HeaderMap) -> Result<Arc<User>, Status> {
    let mut asked = headers
        .keys()
        .filter_map(|name| name.as_str().strip_prefix(IMPERSONATE))
        .peekable();
    if asked.peek().is_none() {
        return Ok(user);
    }
    let texts = |name: &str| -> Vec<&str> {
        let values = headers.get_all(format!("{IMPERSONATE}{name}")).into_iter();
        values.filter_map(|value| value.to_str().ok()).collect()
    };
    let text = |name: &str| texts(name).first().copied().unwrap_or_default();
    let name = text("user");
    if name.is_empty() {
        let why = "groups, uid or extra are impersonated without a user";
        return Err(Status::bad_request(why));
    }
    let who = Who::of(&user);
    let may = |group: &str, resource: (&str, &str), namespace: &str, name: &str| {
        let action = right("impersonate", group, resource, namespace, name);
        authorization::must_allow(shared, &who, &action, None)
    };
    let groups = texts("group");
    let account = name
        .strip_prefix("system:serviceaccount:")
        .and_then(|rest| rest.split_once(':'));
    let mut acting = match account {
        Some((namespace, account)) => {
            may("", ("serviceaccounts", ""), namespace, account)?;
            match groups.is_empty() {
                true => User::service_account(namespace, account, ""),
                false => User::new(name, &groups),
            }
        }
        None => {
            may("", ("users", ""), "", name)?;
            User::new(name, &groups)
        }
    };
    for group in groups {
        may("", ("groups", ""), "", group)?;
    }
    let uid = text("uid");
    if !uid.is_empty() {
        may(AUTHENTICATION, ("uids", ""), "", uid)?;
        uid.clone_into(&mut acting.uid);
    }
    for header in asked {
        let Some(key) = header.strip_prefix("extra-") else {
            continue;
        };
        let values = texts(header);
        let key = percent_decode_str(key).decode_utf8_lossy().into_owned();
        for value in &values {
            may(AUTHENTICATION, ("userextras", &key), "", value)?;
        }
        acting
            .extra
            .insert(key, values.into_iter().map(str::to_owned).collect());
    }
    if acting.is_anonymous() && !acting.groups.iter().any(|group| group == GROUP_UNAUTHENTICATED) {
        acting.groups.push(GROUP_UNAUTHENTICATED.to_owned());
    }
    Ok(Arc::new(acting))
}

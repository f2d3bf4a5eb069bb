//! Authentication: the user of a request is the in-process component, the bearer of a token, or the
//! holder of the connection's certificate.

use std::sync::Arc;

use api::bootstrap_token::BootstrapToken;
use api::certificates;
use api::status::Status;
use http::HeaderMap;
use http::header::AUTHORIZATION;
use jiff::Timestamp;
use percent_encoding::percent_decode_str;

use crate::authorization::{self, Who, right};
use crate::objects::{self, Objects, core};
use crate::rights::Credential;
use crate::shared::Shared;
use crate::token::{Bound, Claims, ISSUER};
use crate::user::{GROUP_NODES, GROUP_UNAUTHENTICATED, User};
use crate::{bootstrap_token, node_credential, pki};

/// Source of a request. It is not part of the request, so that no client can set it.
#[derive(Debug, Clone)]
pub(crate) enum Peer {
    /// A component of this process that acts as this user.
    InProcess(Arc<User>),
    /// A connection, with the holder of its verified client certificate, if any.
    Connection(Option<Arc<Holder>>),
}

/// Holder of a client certificate that the cluster's authority signed.
#[derive(Debug)]
pub(crate) struct Holder {
    user: Arc<User>,
    /// SHA-256 of the certificate, in hexadecimal digits.
    fingerprint: String,
    /// The second since the epoch at which the certificate ends.
    ends: i64,
}

impl Holder {
    /// Returns the holder of a certificate (DER) whose signature was verified. `None` if the
    /// certificate names no user.
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

    /// Returns the user, or status 401 when the certificate is no longer valid. This is called for
    /// each request, because a connection may outlive its certificate.
    pub(crate) fn user(&self, shared: &Shared, now: Timestamp) -> Result<Arc<User>, Status> {
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

    /// Returns the name of the node if the holder is a node.
    pub(crate) fn node(&self) -> Option<&str> {
        self.user.node_name()
    }

    /// The second since the epoch at which the certificate ends.
    pub(crate) fn ends(&self) -> i64 {
        self.ends
    }
}

/// Returns the user of a request and the credential: the anonymous user without a credential,
/// status 401 with an invalid one. Applies impersonation.
pub(crate) fn authenticate(
    shared: &Shared,
    peer: &Peer,
    headers: &HeaderMap,
    now: Timestamp,
) -> Result<(Arc<User>, Credential), Status> {
    let (user, credential) = match peer {
        Peer::InProcess(user) => (user.clone(), Credential::None),
        Peer::Connection(Some(holder)) => {
            (holder.user(shared, now)?, Credential::Certificate(holder.clone()))
        }
        Peer::Connection(None) if headers.contains_key(AUTHORIZATION) => {
            let (user, credential) = bearer(shared, headers, now)?;
            (Arc::new(user), credential)
        }
        Peer::Connection(None) => (Arc::new(User::anonymous()), Credential::None),
    };
    Ok((impersonated(shared, user, headers)?, credential))
}

/// Returns the user of the request's token: a bootstrap token or a service account token. The
/// reason why a service account token is refused is only logged.
fn bearer(shared: &Shared, headers: &HeaderMap, now: Timestamp) -> Result<(User, Credential), Status> {
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
        let user = bootstrap_token::user(shared, &token, now)?;
        return Ok((user, Credential::Bootstrap(Arc::new(token))));
    }
    let claims = shared.tokens.verify(token, &[ISSUER], now).map_err(|error| {
        tracing::debug!(%error, "a token was refused");
        Status::unauthorized()
    })?;
    must_be_good(&shared.objects, &claims, now)?;
    let account = &claims.kubernetes.serviceaccount;
    let mut user = User::service_account(&claims.kubernetes.namespace, &account.name, &account.uid);
    user.extra = claims.extra();
    Ok((user, Credential::ServiceAccount(claims)))
}

/// Returns status 401 when a verified token has expired, or an object that it is bound to was
/// deleted.
pub(crate) fn must_be_good(objects: &Objects, claims: &Claims, now: Timestamp) -> Result<(), Status> {
    let ended = match now.as_second() < claims.exp {
        true => still_bound(objects, claims, now).err(),
        false => Some("time"),
    };
    match ended {
        None => Ok(()),
        Some(what) => {
            tracing::debug!(subject = %claims.sub, what, "a token outlived its time or what it was bound to");
            Err(Status::unauthorized())
        }
    }
}

/// Time in seconds for which a token stays valid after the deletion timestamp of an object that it
/// is bound to, while a finalizer keeps the object. Kubernetes has the same leeway, for clocks that
/// differ.
const DELETION_LEEWAY_SECONDS: i64 = 60;

/// Checks that the objects that a token is bound to exist with the same UID and are not deleted.
/// Fails with the kind of the first other object.
fn still_bound(objects: &Objects, claims: &Claims, now: Timestamp) -> Result<(), &'static str> {
    let bounds = &claims.kubernetes;
    let lives = |kind: &'static str, namespace: &str, bound: &Bound| {
        let object = core(kind).and_then(|kind| objects::get(objects, kind, namespace, &bound.name).ok());
        object.is_some_and(|object| {
            let found = &object.attributes.attributes;
            let in_time = |deleted| now.as_second() - deleted <= DELETION_LEEWAY_SECONDS;
            *found.uid == *bound.uid && found.deletion.is_none_or(in_time)
        })
    };
    // The node in a pod's token only names the place of the pod. Only a token without a pod is
    // bound to its node.
    let node = bounds.node.as_ref().filter(|_| bounds.pod.is_none());
    let namespace = bounds.namespace.as_str();
    for (kind, namespace, bound) in [
        ("ServiceAccount", namespace, Some(&bounds.serviceaccount)),
        ("Pod", namespace, bounds.pod.as_ref()),
        ("Secret", namespace, bounds.secret.as_ref()),
        ("Node", "", node),
    ] {
        if bound.is_some_and(|bound| !lives(kind, namespace, bound)) {
            return Err(kind);
        }
    }
    Ok(())
}

/// Prefix of the headers of impersonation (`kubectl --as`).
const IMPERSONATE: &str = "impersonate-";
const AUTHENTICATION: &str = "authentication.k8s.io";

/// Returns the user that `user` impersonates, or `user` itself. Each part of the other identity
/// needs its own right.
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

#[cfg(test)]
mod tests {
    use serde_json::json;
    use store::{Change, Durability, Expect};

    use super::*;
    use crate::objects::Write;
    use crate::token::KubernetesClaims;

    const NOW: i64 = 1_000_000;

    /// Stores an object of this kind, optionally with a deletion timestamp this many seconds ago.
    async fn store(objects: &Objects, kind: &str, deleted_ago: Option<i64>) {
        let kind = core(kind).unwrap();
        let namespace = if kind.namespaced { "ns" } else { "" };
        let mut object = json!({
            "kind": kind.kind, "apiVersion": "v1",
            "metadata": {"name": "x", "namespace": namespace, "uid": format!("uid-of-{}", kind.kind)},
        });
        if let Some(ago) = deleted_ago {
            let at = Timestamp::from_second(NOW - ago).unwrap();
            object["metadata"]["deletionTimestamp"] = api::time::rfc3339(at).into();
            object["metadata"]["finalizers"] = json!(["example.com/stay"]);
        }
        let (body, attributes) = objects::stored_form(kind, &object);
        let write = Write {
            key: objects::key(kind, namespace, "x"),
            expect: Expect::Absent,
            change: Change::Put { body, attributes },
        };
        objects.commit(vec![write], Durability::Durable).await.unwrap();
    }

    fn claims(bound_to: &str, uid: &str) -> Claims {
        let bound = |kind: &str| Bound {
            name: "x".to_owned(),
            uid: if kind == bound_to {
                uid.to_owned()
            } else {
                format!("uid-of-{kind}")
            },
        };
        let if_bound = |kind: &str| (bound_to == kind).then(|| bound(kind));
        Claims {
            aud: Vec::new(),
            exp: 0,
            iat: 0,
            iss: String::new(),
            jti: String::new(),
            kubernetes: KubernetesClaims {
                namespace: "ns".to_owned(),
                node: if_bound("Node"),
                pod: if_bound("Pod"),
                secret: if_bound("Secret"),
                serviceaccount: bound("ServiceAccount"),
            },
            nbf: 0,
            sub: String::new(),
        }
    }

    #[tokio::test]
    async fn a_token_ends_sixty_seconds_after_what_it_is_bound_to() {
        for bound_to in ["ServiceAccount", "Pod", "Secret", "Node"] {
            let uid = format!("uid-of-{bound_to}");
            for (deleted_ago, uid, good) in [
                (None, uid.as_str(), true),
                (Some(-30), &uid, true),
                (Some(60), &uid, true),
                (Some(61), &uid, false),
                (None, "of-another", false),
            ] {
                let objects = objects::in_memory();
                if bound_to != "ServiceAccount" {
                    store(&objects, "ServiceAccount", None).await;
                }
                store(&objects, bound_to, deleted_ago).await;
                let now = Timestamp::from_second(NOW).unwrap();
                let found = still_bound(&objects, &claims(bound_to, uid), now);
                let expected = if good { Ok(()) } else { Err(bound_to) };
                assert_eq!(found, expected, "{bound_to} {deleted_ago:?} {uid}");
            }
        }
    }

    #[tokio::test]
    async fn a_token_of_a_pod_does_not_need_the_pods_node() {
        let objects = objects::in_memory();
        store(&objects, "ServiceAccount", None).await;
        store(&objects, "Pod", None).await;
        let mut claims = claims("Pod", "uid-of-Pod");
        claims.kubernetes.node = Some(Bound {
            name: "gone".to_owned(),
            uid: String::new(),
        });
        let now = Timestamp::from_second(NOW).unwrap();
        assert_eq!(still_bound(&objects, &claims, now), Ok(()));
    }
}

//! Decides what happens to a CertificateSigningRequest, like Kubernetes' approver, signer and
//! cleaner.
//!
//! A node's agent requests a client certificate with a bootstrap token when its machine joins.
//! Before that certificate expires, the agent renews it with the certificate itself. Both requests
//! are approved automatically. A token can only claim a name that no other machine has.

use std::time::Duration;

use api::bootstrap_token;
use api::certificates::{CREDENTIAL_ID, CREDENTIAL_ID_PREFIX, NODE_CLIENT_SIGNER, SigningRequest};
use api::kinds::certificates::{APPROVED, DENIED, FAILED, has_condition};
use api::meta;
use api::node_credential::{Issued, NodeCredential};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use jiff::{SignedDuration, Timestamp};
use serde_json::Value;

/// The signer of other clients' certificates, which a person approves.
pub const CLIENT_SIGNER: &str = "kubernetes.io/kube-apiserver-client";

const NODES: &str = "system:nodes";
const MASTERS: &str = "system:masters";
const NODE_USER: &str = "system:node:";

/// How long a request with an answer is kept.
const ANSWERED: SignedDuration = SignedDuration::from_hours(1);
/// How long a request without an answer is kept.
const UNANSWERED: SignedDuration = SignedDuration::from_hours(24);

/// The next step for a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// Nothing: it is finished, or another controller handles it.
    Leave,
    /// Approve it, with this message of the condition.
    Approve(&'static str),
    /// Deny it.
    Deny {
        /// The condition's reason.
        reason: &'static str,
        /// The condition's message, for the requester.
        message: String,
    },
    /// Issue the certificate.
    Sign(Grant),
    /// Set the condition Failed.
    Fail {
        /// The condition's reason.
        reason: &'static str,
        /// The condition's message, for the requester.
        message: String,
    },
}

/// A certificate to issue.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Grant {
    /// The signing request, PEM.
    pub request: String,
    /// The user that the certificate names.
    pub user: String,
    /// The user's groups.
    pub groups: Vec<String>,
    /// How long it is valid.
    pub life: Duration,
    /// The node, if it is a node's certificate.
    pub node: Option<NodeGrant>,
}

/// What the node's record needs about the certificate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeGrant {
    /// The node's name.
    pub name: String,
    key: String,
    in_use: Option<String>,
}

impl NodeGrant {
    /// The node's record with the issued certificate added.
    pub fn recorded(&self, record: Option<&NodeCredential>, fingerprint: String) -> NodeCredential {
        let issued = Issued {
            fingerprint,
            key: self.key.clone(),
        };
        let known = record.cloned().unwrap_or_default();
        known.with(issued, self.in_use.as_deref())
    }
}

/// State of the node that a request names.
#[derive(Clone, Copy, Debug, Default)]
pub struct KnownNode<'a> {
    /// Whether the Node object exists.
    pub exists: bool,
    /// Whether the Node object is terminating: finalizers keep it.
    pub is_being_deleted: bool,
    /// The record of its certificates.
    pub record: Option<&'a NodeCredential>,
}

/// The node that a request names, if it is for a node's certificate.
pub fn node_of(csr: &Value) -> Option<String> {
    if csr["spec"]["signerName"] != NODE_CLIENT_SIGNER {
        return None;
    }
    let request = SigningRequest::parse(&pem(csr)).ok()?;
    node_name(&request).map(str::to_owned)
}

/// Decides the next step for a request. `longest` is the longest validity of a certificate.
pub fn next_step(csr: &Value, node: KnownNode<'_>, longest: Duration) -> Step {
    let issued = csr["status"]["certificate"]
        .as_str()
        .is_some_and(|text| !text.is_empty());
    if issued || has_condition(csr, DENIED) || has_condition(csr, FAILED) {
        return Step::Leave;
    }
    let approved = has_condition(csr, APPROVED);
    let fails = |message: String| match approved {
        true => Step::Fail {
            reason: "SignerValidationFailure",
            message,
        },
        false => Step::Leave,
    };
    let request = match SigningRequest::parse(&pem(csr)) {
        Ok(request) => request,
        Err(why) => return fails(why),
    };
    match csr["spec"]["signerName"].as_str() {
        Some(NODE_CLIENT_SIGNER) => match check_node_request(csr, &request) {
            Ok(name) => node_step(csr, &request, name, node, approved, longest),
            Err(why) => fails(why),
        },
        Some(CLIENT_SIGNER) if approved => match check_client_request(csr, &request) {
            Ok(user) => Step::Sign(Grant {
                request: String::from_utf8_lossy(&pem(csr)).into_owned(),
                user,
                groups: request.organizations,
                life: life(csr, longest),
                node: None,
            }),
            Err(why) => fails(why),
        },
        _ => Step::Leave,
    }
}

/// Returns whether a request was kept long enough and must be deleted.
pub fn is_over(csr: &Value, now: Timestamp) -> bool {
    let answered = [APPROVED, DENIED, FAILED]
        .iter()
        .any(|kind| has_condition(csr, kind));
    let conditions = csr["status"]["conditions"].as_array().into_iter().flatten();
    let times = conditions.filter_map(|condition| condition["lastUpdateTime"].as_str());
    let last = times
        .chain(meta::creation_timestamp(csr))
        .filter_map(api::time::parse)
        .max();
    let kept = if answered { ANSWERED } else { UNANSWERED };
    last.is_some_and(|last| now.duration_since(last) > kept)
}

fn node_step(
    csr: &Value,
    request: &SigningRequest,
    name: &str,
    node: KnownNode<'_>,
    approved: bool,
    longest: Duration,
) -> Step {
    let in_use = own_certificate(csr, name);
    let renews = in_use.is_some_and(|mine| node.record.is_some_and(|record| record.accepts(mine)));
    let taken = node.exists && node.record.is_some_and(|record| !record.has_key(&request.key));
    let refused = if node.is_being_deleted {
        Some(format!(
            "node {name:?} is being deleted, and its finalizers keep it. Join again when it is gone"
        ))
    } else if in_use.is_some() && !renews {
        Some(format!(
            "the client certificate of node {name:?} is no longer valid: the node was deleted, or another \
             machine joined under its name"
        ))
    } else if taken && !renews {
        Some(format!(
            "node {name:?} is in the cluster already, and it is another machine. If this machine replaces it, delete it first \
             (`everynode delete node {name}`) and join again; if not, choose another name with --node-name"
        ))
    } else {
        None
    };
    let may_ask = renews || in_group(csr, bootstrap_token::NODE_GROUP);
    match (refused, approved) {
        (Some(message), true) => Step::Fail {
            reason: "NodeNameTaken",
            message,
        },
        (Some(message), false) if in_use.is_some() || may_ask => Step::Deny {
            reason: "NodeNameTaken",
            message,
        },
        (Some(_), false) => Step::Leave,
        (None, true) => Step::Sign(Grant {
            request: String::from_utf8_lossy(&pem(csr)).into_owned(),
            user: format!("{NODE_USER}{name}"),
            groups: vec![NODES.to_owned()],
            life: life(csr, longest),
            node: Some(NodeGrant {
                name: name.to_owned(),
                key: request.key.clone(),
                in_use: in_use.filter(|_| renews).map(str::to_owned),
            }),
        }),
        (None, false) if renews => Step::Approve("The node renews its own certificate."),
        (None, false) if may_ask => Step::Approve("The node joins with a bootstrap token."),
        (None, false) => Step::Leave,
    }
}

/// Returns the node that a request for a node's certificate names, or why the request is invalid.
fn check_node_request<'a>(csr: &Value, request: &'a SigningRequest) -> Result<&'a str, String> {
    if request.organizations != [NODES] {
        return Err(format!("the only organization must be {NODES}"));
    }
    if request.has_alternative_names {
        return Err("subject alternative names are not allowed".to_owned());
    }
    check_usages(csr, &["client auth", "digital signature"])?;
    node_name(request).ok_or_else(|| format!("the common name must be {NODE_USER}NODE with the node's name"))
}

/// Returns the user that a request for a client's certificate names, or why the request is invalid.
fn check_client_request(csr: &Value, request: &SigningRequest) -> Result<String, String> {
    check_usages(csr, &["client auth"])?;
    let [user] = request.common_names.as_slice() else {
        return Err("there must be exactly one common name".to_owned());
    };
    if let Some(group) = request
        .organizations
        .iter()
        .find(|group| *group == MASTERS || *group == NODES)
    {
        return Err(format!(
            "the signer {CLIENT_SIGNER} does not issue certificates for the group {group}"
        ));
    }
    if request.has_alternative_names {
        return Err("subject alternative names are not allowed".to_owned());
    }
    Ok(user.clone())
}

/// Requires the usages `needed`, and refuses usages that client certificates must not have.
fn check_usages(csr: &Value, needed: &[&str]) -> Result<(), String> {
    const ALLOWED: [&str; 3] = ["client auth", "digital signature", "key encipherment"];
    let usages: Vec<&str> = csr["spec"]["usages"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(Value::as_str)
        .collect();
    let fits = needed.iter().all(|usage| usages.contains(usage))
        && usages.iter().all(|usage| ALLOWED.contains(usage));
    match fits {
        true => Ok(()),
        false => Err(format!(
            "spec.usages must include {}; only {} are allowed",
            needed.join(" and "),
            ALLOWED.join(", ")
        )),
    }
}

fn node_name(request: &SigningRequest) -> Option<&str> {
    let [name] = request.common_names.as_slice() else {
        return None;
    };
    let name = name.strip_prefix(NODE_USER)?;
    let mut wrong = Vec::new();
    api::validate::name::dns_subdomain(name, &mut wrong);
    wrong.is_empty().then_some(name)
}

/// The fingerprint of the certificate with which the node's own agent sent the request.
fn own_certificate<'a>(csr: &'a Value, node: &str) -> Option<&'a str> {
    let spec = &csr["spec"];
    let is_itself = spec["username"].as_str()?.strip_prefix(NODE_USER) == Some(node) && in_group(csr, NODES);
    let ids = spec["extra"][CREDENTIAL_ID].as_array().into_iter().flatten();
    let mut prints = ids.filter_map(|id| id.as_str()?.strip_prefix(CREDENTIAL_ID_PREFIX));
    is_itself.then(|| prints.next()).flatten()
}

fn in_group(csr: &Value, group: &str) -> bool {
    let groups = csr["spec"]["groups"].as_array().into_iter().flatten();
    groups.into_iter().any(|known| known == group)
}

fn life(csr: &Value, longest: Duration) -> Duration {
    let asked = csr["spec"]["expirationSeconds"].as_u64().map(Duration::from_secs);
    asked.map_or(longest, |asked| asked.min(longest))
}

fn pem(csr: &Value) -> Vec<u8> {
    let request = csr["spec"]["request"].as_str().unwrap_or_default();
    STANDARD.decode(request).unwrap_or_default()
}

#[cfg(test)]
mod tests;

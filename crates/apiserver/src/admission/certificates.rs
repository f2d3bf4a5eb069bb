//! CertificateApproval, CertificateSigning and CertificateSubjectRestriction: who may approve a
//! certificate, who may sign it, and which groups it must not contain.

use api::authorization::Action;
use api::certificates::SigningRequest;
use api::kinds::Kind;
use api::kinds::certificates::CERTIFICATE_SIGNING_REQUEST;
use api::meta;
use api::status::Status;
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use serde_json::Value;

use crate::authorization::{Who, is_allowed, right};
use crate::shared::Shared;
use crate::user::{GROUP_MASTERS, User};

/// The signer of client certificates for the API server.
const CLIENT_SIGNER: &str = "kubernetes.io/kube-apiserver-client";

fn is_request(kind: &Kind) -> bool {
    (kind.group, kind.kind)
        == (
            CERTIFICATE_SIGNING_REQUEST.group,
            CERTIFICATE_SIGNING_REQUEST.kind,
        )
}

fn signer(request: &Value) -> &str {
    request["spec"]["signerName"].as_str().unwrap_or_default()
}

/// Parses the certificate request in a CertificateSigningRequest; `None` if it is malformed.
pub(super) fn asked(request: &Value) -> Option<SigningRequest> {
    let text = request["spec"]["request"].as_str()?;
    SigningRequest::parse(&BASE64_STANDARD.decode(text).ok()?).ok()
}

/// Refuses client certificates of administrators, so that a routine approval cannot create one.
pub(super) fn on_create(kind: &Kind, request: &Value) -> Result<(), Status> {
    if !is_request(kind) || signer(request) != CLIENT_SIGNER {
        return Ok(());
    }
    let wants = |wanted: SigningRequest| wanted.organizations.iter().any(|group| group == GROUP_MASTERS);
    if asked(request).is_some_and(wants) {
        let why = format!("use of {CLIENT_SIGNER} signer with {GROUP_MASTERS} group is not allowed");
        return Err(Status::forbidden(kind, meta::name(request), &why));
    }
    Ok(())
}

/// Returns 403 unless the user may `approve` requests for this signer.
pub(super) fn on_approval(shared: &Shared, user: &User, kind: &Kind, old: &Value) -> Result<(), Status> {
    must_be_allowed(shared, user, kind, old, "approve")
}

/// Returns 403 for a change of the status (a certificate, or a failure) unless the user may `sign`
/// for this signer.
pub(super) fn on_status_update(
    shared: &Shared,
    user: &User,
    kind: &Kind,
    new: &Value,
    old: &Value,
) -> Result<(), Status> {
    if !is_request(kind) || new["status"] == old["status"] {
        return Ok(());
    }
    must_be_allowed(shared, user, kind, old, "sign")
}

fn must_be_allowed(
    shared: &Shared,
    user: &User,
    kind: &Kind,
    request: &Value,
    verb: &str,
) -> Result<(), Status> {
    let signer = signer(request);
    let (domain, _) = signer.split_once('/').unwrap_or((signer, ""));
    let all = format!("{domain}/*");
    let may = |name: &str| {
        let action: Action<'_> = right(verb, CERTIFICATE_SIGNING_REQUEST.group, ("signers", ""), "", name);
        is_allowed(shared, &Who::of(user), &action)
    };
    if may(signer) || may(&all) {
        return Ok(());
    }
    let signer = api::field_error::quote(signer);
    let why = format!("user not permitted to {verb} requests with signerName {signer}");
    Err(Status::forbidden(kind, meta::name(request), &why))
}

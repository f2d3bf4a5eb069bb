//! Authentication of machines that join: a bootstrap token is valid if a Secret in `kube-system`
//! holds it.

use api::bootstrap_token::{BootstrapToken, NAMESPACE, USER_PREFIX};
use api::status::Status;
use jiff::Timestamp;

use crate::objects::{self, core};
use crate::shared::Shared;
use crate::user::User;

/// Error for an invalid bootstrap token. It names the remedy, because a mistake is likelier than an
/// attack. The existence of an ID is no secret without the second half of the token.
const REFUSED: &str =
    "the bootstrap token is unknown, expired or revoked: make another with `everynode token create`";

/// Returns the user of the token, or status 401.
pub(crate) fn user(shared: &Shared, token: &BootstrapToken, now: Timestamp) -> Result<User, Status> {
    let refused = |why: &str| {
        tracing::debug!(id = token.id, why, "a bootstrap token was refused");
        Status::new(401, "Unauthorized", REFUSED)
    };
    let kind = core("Secret").ok_or_else(|| Status::internal("Secrets are not served"))?;
    let secret = objects::get(&shared.objects, kind, NAMESPACE, &token.secret_name())
        .map_err(|_| refused("there is no such Secret"))?;
    let secret = objects::value(kind, &secret.body)?;
    let groups = token.groups(&secret, now).map_err(refused)?;
    let groups: Vec<&str> = groups.iter().map(String::as_str).collect();
    Ok(User::new(format!("{USER_PREFIX}{}", token.id), &groups))
}

//! Bootstrap authentication: a machine that joins shows a token, which a Secret in `kube-system` makes good.

use api::bootstrap_token::{BootstrapToken, NAMESPACE, USER_PREFIX};
use api::status::Status;
use jiff::Timestamp;

use crate::objects::{self, core};
use crate::shared::Shared;
use crate::user::User;

/// Who shows a token that is not good is told so, and what to do: a mistake is likelier here than an attack, and whether an id exists is
/// no secret without its second half.
const REFUSED: &str =
    "the bootstrap token is unknown, expired or revoked: make another with `everynode token create`";

/// The user that the token stands for.
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

//! Questions that are answered and forgotten: who am I, may I.

use api::status::Status;
use http::{Response, StatusCode};
use schema::decode::FieldValidation;
use serde_json::json;

use crate::body::Body;
use crate::request::Request;
use crate::respond::{self, Payload};

/// Why every answer to "may I" is yes.
const ALLOWED_BECAUSE: &str =
    "every authenticated user may do everything: RBAC objects are stored, and not enforced by this server";

/// Answers a SelfSubjectReview or a SelfSubjectAccessReview.
pub(crate) fn review(mut request: Request) -> Result<Response<Body>, Status> {
    let mut object = request.decode_object(FieldValidation::Warn)?;
    object["metadata"] = json!({"creationTimestamp": api::time::rfc3339(request.now)});
    object["status"] = match request.target.kind.kind {
        "SelfSubjectReview" => {
            let user = &request.user;
            let mut info = json!({"username": user.name, "groups": user.all_groups()});
            if !user.uid.is_empty() {
                info["uid"] = user.uid.as_str().into();
            }
            if !user.extra.is_empty() {
                info["extra"] = json!(user.extra);
            }
            json!({"userInfo": info})
        }
        "SelfSubjectAccessReview" => json!({"allowed": true, "reason": ALLOWED_BECAUSE}),
        kind => return Err(Status::internal(format!("nobody answers a {kind}"))),
    };
    respond::payload(&request, StatusCode::CREATED, &Payload::Value(object))
}

//! serviceaccounts/token: TokenRequest.

use api::field_error::{FieldError, Path};
use api::status::Status;
use http::{Response, StatusCode};
use jiff::SignedDuration;
use serde_json::{Value, json};

use crate::authenticate::core;
use crate::body::Body;
use crate::objects;
use crate::request::{Request, WriteOptions};
use crate::respond::{self, Payload};
use crate::shared::Shared;
use crate::token::{Bound, Claims, ISSUER, KubernetesClaims};

/// Life of a token when none is asked for, and the shortest and longest that may be asked for, in seconds.
const LIFE_DEFAULT: i64 = 3600;
const LIFE_MIN: i64 = 600;
const LIFE_MAX: i64 = 1 << 32;

/// Issues a token for the ServiceAccount that the path names.
pub(crate) async fn token(shared: &Shared, mut request: Request) -> Result<Response<Body>, Status> {
    let options = WriteOptions::of(&request.query, "CreateOptions")?;
    let ty = schema::lookup("authentication.k8s.io", "v1", "TokenRequest").ok_or_else(Status::path_not_found)?;
    let mut review = request.decode_as(ty, options.field_validation)?;
    let target = &request.target;
    let account = objects::get(&shared.objects, target.kind, &target.namespace, &target.name)?;
    let life = life(&review)?;
    let audiences: Vec<String> = review["spec"]["audiences"]
        .as_array()
        .filter(|audiences| !audiences.is_empty())
        .map(|audiences| audiences.iter().filter_map(Value::as_str).map(str::to_owned).collect())
        .unwrap_or_else(|| vec![ISSUER.to_owned()]);
    let bound = bound_objects(shared, &request, &review)?;
    let expires = request.now.saturating_add(SignedDuration::from_secs(life)).unwrap_or(request.now);
    let claims = Claims {
        aud: audiences.clone(),
        exp: expires.as_second(),
        iat: request.now.as_second(),
        iss: ISSUER.to_owned(),
        jti: shared.uid()?,
        kubernetes: KubernetesClaims {
            namespace: target.namespace.clone(),
            serviceaccount: Bound {
                name: target.name.clone(),
                uid: account.attributes.attributes.uid.to_string(),
            },
            ..bound
        },
        nbf: request.now.as_second(),
        sub: format!("system:serviceaccount:{}:{}", target.namespace, target.name),
    };
    let token = shared.tokens.sign(&claims).map_err(Status::internal)?;
    review["metadata"] = json!({
        "name": target.name,
        "namespace": target.namespace,
        "creationTimestamp": api::time::rfc3339(request.now),
    });
    review["spec"]["audiences"] = audiences.into();
    review["spec"]["expirationSeconds"] = life.into();
    review["status"] = json!({"token": token, "expirationTimestamp": api::time::rfc3339(expires)});
    respond::payload(&request, StatusCode::CREATED, &Payload::Value(review))
}

fn life(review: &Value) -> Result<i64, Status> {
    let life = review["spec"]["expirationSeconds"].as_i64().unwrap_or(LIFE_DEFAULT);
    let spec = Path::Root("spec");
    let path = spec.child("expirationSeconds");
    let why = match life {
        life if life < LIFE_MIN => "may not specify a duration less than 10 minutes",
        life if life > LIFE_MAX => "may not specify a duration larger than 2^32 seconds",
        life => return Ok(life),
    };
    let error = FieldError::invalid(&path, life, why);
    Err(Status::invalid_kind("authentication.k8s.io", "TokenRequest", "", &[error]))
}

/// The object that the token is to die with.
fn bound_objects(shared: &Shared, request: &Request, review: &Value) -> Result<KubernetesClaims, Status> {
    let none = Bound { name: String::new(), uid: String::new() };
    let mut claims =
        KubernetesClaims { namespace: String::new(), node: None, pod: None, secret: None, serviceaccount: none };
    let reference = &review["spec"]["boundObjectRef"];
    if reference.is_null() {
        return Ok(claims);
    }
    let text = |field: &str| reference[field].as_str().unwrap_or_default();
    let (kind_name, name, uid) = (text("kind"), text("name"), text("uid"));
    let kind = match kind_name {
        "Pod" | "Secret" | "Node" => core(kind_name),
        _ => None,
    };
    let Some(kind) = kind.filter(|_| matches!(text("apiVersion"), "" | "v1")) else {
        return Err(Status::bad_request(format!(
            "cannot bind token to object of type {}, Kind={kind_name}",
            text("apiVersion")
        )));
    };
    let object = objects::get(&shared.objects, kind, &request.target.namespace, name)?;
    let found = object.attributes.attributes.uid.as_ref();
    if !uid.is_empty() && uid != found {
        let why = format!(
            "the UID in the bound object reference ({uid}) does not match the UID in record. \
             The object might have been deleted and then recreated"
        );
        return Err(Status::conflict(kind, name, &why));
    }
    let bound = Bound { name: name.to_owned(), uid: found.to_owned() };
    match kind_name {
        "Pod" => {
            let pod = objects::value(kind, &object.body)?;
            if pod["spec"]["serviceAccountName"] != request.target.name {
                return Err(Status::bad_request(format!(
                    "cannot bind token for serviceaccount \"{}\" to pod running with different serviceaccount name.",
                    request.target.name
                )));
            }
            claims.node = pod_node(shared, &pod);
            claims.pod = Some(bound);
        }
        "Node" => claims.node = Some(bound),
        _ => claims.secret = Some(bound),
    }
    Ok(claims)
}

fn pod_node(shared: &Shared, pod: &Value) -> Option<Bound> {
    let name = pod["spec"]["nodeName"].as_str().filter(|name| !name.is_empty())?;
    let uid = core("Node")
        .and_then(|kind| objects::get(&shared.objects, kind, "", name).ok())
        .map(|node| node.attributes.attributes.uid.to_string())
        .unwrap_or_default();
    Some(Bound { name: name.to_owned(), uid })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn life_of_a_token_is_bounded() {
        let asked = |seconds: i64| json!({"spec": {"expirationSeconds": seconds}});
        assert_eq!(life(&json!({})).unwrap(), LIFE_DEFAULT);
        assert_eq!(life(&asked(600)).unwrap(), 600);
        assert_eq!(life(&asked(599)).unwrap_err().code, 422);
        assert_eq!(life(&asked(i64::MAX)).unwrap_err().code, 422);
    }
}

//! serviceaccounts/token: TokenRequest.

use api::kinds::reviews;
use api::status::Status;
use http::{Response, StatusCode};
use jiff::SignedDuration;
use serde_json::{Value, json};

use crate::admission::node_restriction;
use crate::body::Body;
use crate::objects::{self, core};
use crate::request::{Request, WriteOptions};
use crate::respond::{self, Payload};
use crate::shared::Shared;
use crate::token::{Bound, Claims, ISSUER, KubernetesClaims};

/// Issues a token for the ServiceAccount in the path.
pub(crate) async fn token(shared: &Shared, mut request: Request) -> Result<Response<Body>, Status> {
    let options = WriteOptions::of(&request.query, "CreateOptions")?;
    let ty =
        schema::lookup("authentication.k8s.io", "v1", "TokenRequest").ok_or_else(Status::path_not_found)?;
    let mut review = request.decode_as(ty, options.field_validation).await?;
    let target = &request.target;
    let account = objects::get(&shared.objects, target.kind, &target.namespace, &target.name)?;
    reviews::default_token_request(&mut review);
    let errors = reviews::validate_token_request(&review);
    if !errors.is_empty() {
        return Err(Status::invalid_kind(
            "authentication.k8s.io",
            "TokenRequest",
            "",
            &errors,
        ));
    }
    node_restriction::on_token(&request.user, target.kind, &target.name, &review, |name| {
        let pods = core("Pod").ok_or_else(Status::path_not_found)?;
        let pod = objects::get(&shared.objects, pods, &target.namespace, name)?;
        objects::value(pods, &pod.body)
    })?;
    let life = review["spec"]["expirationSeconds"].as_i64().unwrap_or_default();
    let audiences: Vec<String> = review["spec"]["audiences"]
        .as_array()
        .filter(|audiences| !audiences.is_empty())
        .map(|audiences| {
            audiences
                .iter()
                .filter_map(Value::as_str)
                .map(str::to_owned)
                .collect()
        })
        .unwrap_or_else(|| vec![ISSUER.to_owned()]);
    let bound = bound_objects(shared, &request, &review)?;
    let expires = request
        .now
        .saturating_add(SignedDuration::from_secs(life))
        .unwrap_or(request.now);
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
    review["status"] = json!({"token": token, "expirationTimestamp": api::time::rfc3339(expires)});
    respond::payload(&request, StatusCode::CREATED, &Payload::Value(review))
}

/// Returns claims with the object that the token is bound to: the token is invalid once the object
/// is deleted.
fn bound_objects(shared: &Shared, request: &Request, review: &Value) -> Result<KubernetesClaims, Status> {
    let none = Bound {
        name: String::new(),
        uid: String::new(),
    };
    let mut claims = KubernetesClaims {
        namespace: String::new(),
        node: None,
        pod: None,
        secret: None,
        serviceaccount: none,
    };
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
    let bound = Bound {
        name: name.to_owned(),
        uid: found.to_owned(),
    };
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
    Some(Bound {
        name: name.to_owned(),
        uid,
    })
}

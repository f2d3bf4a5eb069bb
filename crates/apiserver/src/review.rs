//! Reviews, which are answered but not stored: who am I, may I, may another user.

use api::authorization::{Action, Resource, Rule};
use api::status::Status;
use http::{Response, StatusCode};
use schema::decode::FieldValidation;
use serde_json::{Value, json};

use crate::authorization::{self, Who};
use crate::body::Body;
use crate::request::Request;
use crate::respond::{self, Payload};
use crate::shared::Shared;

/// Answers a review.
pub(crate) async fn review(shared: &Shared, mut request: Request) -> Result<Response<Body>, Status> {
    let kind = request.target.kind;
    let mut object = request.decode_object(FieldValidation::Warn).await?;
    if kind.namespaced {
        request.settle_namespace(&mut object)?;
    }
    let errors = kind.validate(&object);
    if !errors.is_empty() {
        return Err(Status::invalid(kind, "", &errors));
    }
    let namespace = request.target.namespace.clone();
    object["metadata"] = json!({"creationTimestamp": api::time::rfc3339(request.now)});
    if !namespace.is_empty() {
        object["metadata"]["namespace"] = namespace.into();
    }
    let user = &request.user;
    object["status"] = match kind.kind {
        "SelfSubjectReview" => json!({"userInfo": user_info(&request)}),
        "SelfSubjectAccessReview" => access(shared, &Who::of(user), &object["spec"])?,
        "SubjectAccessReview" | "LocalSubjectAccessReview" => {
            let spec = &object["spec"];
            let groups: Vec<String> = texts(&spec["groups"]);
            let name = spec["user"].as_str().unwrap_or_default();
            access(shared, &Who::named(name, &groups), spec)?
        }
        "SelfSubjectRulesReview" => {
            let namespace = object["spec"]["namespace"].as_str().unwrap_or_default();
            rules(shared, &Who::of(user), namespace)
        }
        kind => return Err(Status::internal(format!("nobody answers a {kind}"))),
    };
    respond::payload(&request, StatusCode::CREATED, &Payload::Value(object))
}

fn texts(list: &Value) -> Vec<String> {
    let items = list.as_array().into_iter().flatten();
    items.filter_map(Value::as_str).map(str::to_owned).collect()
}

fn user_info(request: &Request) -> Value {
    let user = &request.user;
    let mut info = json!({"username": user.name, "groups": user.all_groups()});
    if !user.uid.is_empty() {
        info["uid"] = user.uid.as_str().into();
    }
    if !user.extra.is_empty() {
        info["extra"] = json!(user.extra);
    }
    info
}

/// Returns the status of an access review: whether `who` may do what the spec asks for.
fn access(shared: &Shared, who: &Who<'_>, spec: &Value) -> Result<Value, Status> {
    let (of_objects, of_path) = (&spec["resourceAttributes"], &spec["nonResourceAttributes"]);
    let in_objects = |field: &str| of_objects[field].as_str().unwrap_or_default();
    let in_path = |field: &str| of_path[field].as_str().unwrap_or_default();
    let action = match of_objects.is_object() {
        true => Action::Resource(Resource {
            verb: in_objects("verb"),
            group: in_objects("group"),
            resource: in_objects("resource"),
            subresource: in_objects("subresource"),
            namespace: in_objects("namespace"),
            name: in_objects("name"),
        }),
        false => Action::Path {
            verb: in_path("verb"),
            path: in_path("path"),
        },
    };
    let selector = authorization::review_selector(&of_objects["fieldSelector"]);
    let decision = authorization::decide(shared, who, &action, selector.as_ref(), true);
    // An object that does not exist gives no rights.
    let (allowed, reason) = match decision {
        Ok(decision) => (decision.allowed, decision.reason),
        Err(status) => (false, status.message),
    };
    let mut status = json!({"allowed": allowed});
    if !reason.is_empty() {
        status["reason"] = reason.into();
    }
    Ok(status)
}

/// Returns the rules for `who` in a namespace. They are incomplete for a node, whose rights depend
/// on its pods.
fn rules(shared: &Shared, who: &Who<'_>, namespace: &str) -> Value {
    let mut rules = authorization::rules(shared, who, namespace);
    if who.is_master() {
        rules.extend(authorization::everything());
    }
    let (paths, objects): (Vec<Rule>, Vec<Rule>) = rules.into_iter().partition(Rule::is_for_paths);
    let values = |rules: Vec<Rule>| rules.iter().map(Rule::to_value).collect::<Vec<_>>();
    let mut status = json!({
        "resourceRules": values(objects),
        "nonResourceRules": values(paths),
        "incomplete": who.node().is_some(),
    });
    if who.node().is_some() {
        status["evaluationError"] = "node authorizer does not support user rule resolution".into();
    }
    status
}

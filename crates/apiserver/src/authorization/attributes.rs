//! Attributes of a request for authorization: verb, resource and name as in RBAC rules.

use api::authorization::{Action, Resource};
use api::selector::FieldSelector;
use http::{Method, Uri};
use serde_json::Value;

use crate::objects;
use crate::query::Query;
use crate::routes::{Route, Target};
use crate::verbs::Verb;

const NAME: &str = "metadata.name";

/// Returns the field selector of a request for several objects. `None` if it is malformed: the verb
/// then refuses the request.
pub(super) fn selector(method: &Method, route: &Route, query: &Query) -> Option<FieldSelector> {
    let Route::Objects(target) = route else {
        return None;
    };
    let verb = Verb::of(method, target, query)?;
    if !matches!(verb, Verb::List | Verb::Watch | Verb::DeleteCollection) {
        return None;
    }
    FieldSelector::parse(query.get("fieldSelector")?).ok()
}

/// Returns the field selector of an access review: its text, or the requirements that are
/// equalities.
pub(crate) fn review_selector(asked: &Value) -> Option<FieldSelector> {
    if let Some(text) = asked["rawSelector"].as_str() {
        return FieldSelector::parse(text).ok();
    }
    let equality = |wanted: &Value| match (
        wanted["key"].as_str()?,
        wanted["operator"].as_str()?,
        wanted["values"].as_array()?.as_slice(),
    ) {
        (key, "In", [value]) => Some(format!("{key}={}", value.as_str()?)),
        _ => None,
    };
    let wanted = asked["requirements"].as_array()?;
    let terms: Vec<String> = wanted.iter().filter_map(equality).collect();
    FieldSelector::parse(&terms.join(",")).ok()
}

/// Returns every action that the request needs; all of them must be allowed.
pub(super) fn actions<'a>(
    method: &'a Method,
    uri: &'a Uri,
    route: &'a Route,
    query: &Query,
    selector: Option<&'a FieldSelector>,
) -> impl Iterator<Item = Action<'a>> {
    let path = || Action::Path {
        verb: method_name(method),
        path: uri.path(),
    };
    let (first, second) = match route {
        Route::Health
        | Route::Version
        | Route::Authority
        | Route::Backup
        | Route::Metrics
        | Route::CoreVersions
        | Route::Groups
        | Route::Group(_)
        | Route::Resources { .. }
        | Route::OpenapiV2
        | Route::OpenapiIndex
        | Route::Openapi { .. }
        | Route::Tunnel { .. } => (path(), None),
        Route::CustomKinds => {
            let list = Resource {
                verb: "list",
                group: "apiextensions.k8s.io",
                resource: "customresourcedefinitions",
                ..Resource::default()
            };
            (Action::Resource(list), None)
        }
        Route::Objects(target) => {
            let verb = match Verb::of(method, target, query) {
                Some(verb) => verb.name(),
                None => method_verb(method),
            };
            let name = selector.and_then(|selector| selector.exact(NAME));
            let first = on_target(target, verb, name);
            // A WebSocket starts with a GET, but `exec` needs the right to create.
            let begins = target.subresource == "exec" && verb == Verb::Get.name();
            (
                first,
                begins.then(|| on_target(target, Verb::Create.name(), None)),
            )
        }
    };
    [Some(first), second].into_iter().flatten()
}

/// Returns the action on the objects that a path names. `selected` is the name in the field
/// selector.
pub(super) fn on_target<'a>(target: &'a Target, verb: &'a str, selected: Option<&'a str>) -> Action<'a> {
    // A namespace counts as inside itself: a RoleBinding in a namespace can allow reading that
    // namespace.
    let namespace = match objects::is_namespace(target.kind) {
        true => &target.name,
        false => &target.namespace,
    };
    Action::Resource(Resource {
        verb,
        group: target.kind.group,
        resource: target.kind.plural,
        subresource: &target.subresource,
        namespace,
        name: match target.name.as_str() {
            "" => selected.unwrap_or_default(),
            name => name,
        },
    })
}

/// Returns the verb of RBAC for a method on a path that is not an object's.
fn method_name(method: &Method) -> &str {
    match *method {
        // The right to `get` includes HEAD, which returns only the headers.
        Method::GET | Method::HEAD => "get",
        Method::POST => "post",
        Method::PUT => "put",
        Method::PATCH => "patch",
        Method::DELETE => "delete",
        Method::OPTIONS => "options",
        ref other => other.as_str(),
    }
}

/// Returns the verb for a request for objects that will be refused because of its method.
fn method_verb(method: &Method) -> &str {
    match *method {
        Method::GET | Method::HEAD => "get",
        Method::POST => "create",
        Method::PUT => "update",
        _ => method_name(method),
    }
}

/// Path under which nothing is served. As in Kubernetes, its form decides which rights are needed.
/// So only a user with rights on the resource learns that it does not exist.
pub(super) enum Unserved<'a> {
    Objects(Resource<'a>),
    Path { verb: &'a str, path: &'a str },
}

impl<'a> Unserved<'a> {
    pub(super) fn of(method: &'a Method, uri: &'a Uri) -> Unserved<'a> {
        let path = uri.path();
        let mut segments = path.split('/').filter(|segment| !segment.is_empty());
        let group = match segments.next() {
            Some("api") => Some(""),
            Some("apis") => segments.next(),
            _ => None,
        };
        let (Some(group), Some(_version)) = (group, segments.next()) else {
            let verb = method_name(method);
            return Unserved::Path { verb, path };
        };
        let mut segments = segments.peekable();
        let mut namespace = "";
        if segments.peek() == Some(&"namespaces") {
            segments.next();
            namespace = segments.next().unwrap_or_default();
        }
        let mut next = || segments.next().unwrap_or_default();
        let (resource, name, subresource) = match next() {
            "" if namespace.is_empty() => {
                let verb = method_name(method);
                return Unserved::Path { verb, path };
            }
            "" => ("namespaces", namespace, ""),
            resource => (resource, next(), next()),
        };
        let verb = match *method {
            Method::GET | Method::HEAD if name.is_empty() => "list",
            Method::DELETE if name.is_empty() => "deletecollection",
            _ => method_verb(method),
        };
        Unserved::Objects(Resource {
            verb,
            group,
            resource,
            subresource,
            namespace,
            name,
        })
    }

    pub(super) fn action(&self) -> Action<'a> {
        match *self {
            Unserved::Objects(resource) => Action::Resource(resource),
            Unserved::Path { verb, path } => Action::Path { verb, path },
        }
    }
}

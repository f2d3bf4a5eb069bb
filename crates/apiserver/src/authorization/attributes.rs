//! What a request wants, in the words that rules are written in.

use api::authorization::{Action, Resource};
use api::selector::FieldSelector;
use http::{Method, Uri};
use serde_json::Value;

use crate::objects;
use crate::query::Query;
use crate::routes::{Route, Target};
use crate::verbs::Verb;

const NAME: &str = "metadata.name";

/// The field selector of a request for several objects, when it can be read. The verb itself refuses one that cannot.
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

/// The field selector that an access review asks about: its text, or requirements that are equalities.
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

/// Everything that has to be allowed.
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
            // A WebSocket begins with a GET, whatever is done by it.
            let begins = target.subresource == "exec" && verb == Verb::Get.name();
            (
                first,
                begins.then(|| on_target(target, Verb::Create.name(), None)),
            )
        }
    };
    [Some(first), second].into_iter().flatten()
}

/// Something with the objects that a path names. `selected` is the name that a selector asks for.
pub(super) fn on_target<'a>(target: &'a Target, verb: &'a str, selected: Option<&'a str>) -> Action<'a> {
    // A namespace is inside itself: who may read one by a RoleBinding in it may.
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

/// The method of a path that is no object's, as rules call it.
fn method_name(method: &Method) -> &str {
    match *method {
        // Who may hear what is there may hear how long it is.
        Method::GET | Method::HEAD => "get",
        Method::POST => "post",
        Method::PUT => "put",
        Method::PATCH => "patch",
        Method::DELETE => "delete",
        Method::OPTIONS => "options",
        ref other => other.as_str(),
    }
}

/// The verb of a request for objects that will be refused for its method.
fn method_verb(method: &Method) -> &str {
    match *method {
        Method::GET | Method::HEAD => "get",
        Method::POST => "create",
        Method::PUT => "update",
        _ => method_name(method),
    }
}

/// A path that nothing is served under. It is judged as Kubernetes does, by its looks, so that who has rights on a resource hears that
/// there is no such resource, and nobody else does.
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

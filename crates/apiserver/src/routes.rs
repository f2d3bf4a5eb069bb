//! Router: maps the path of a request to its target.

use api::kinds::{self, Kind};
use api::status::Status;
use percent_encoding::percent_decode_str;

use crate::limits::PATH_SEGMENTS_MAX;

/// Target of a path.
#[derive(Debug, PartialEq)]
pub(crate) enum Route {
    /// `/healthz`, `/livez`, `/readyz` and the paths below them.
    Health,
    /// `/version`
    Version,
    /// `/metrics`
    Metrics,
    /// `/api`
    CoreVersions,
    /// `/apis`
    Groups,
    /// `/apis/<group>`
    Group(String),
    /// `/api/v1`, `/apis/<group>/<version>`
    Resources { group: String, version: String },
    /// The list of CustomResourceDefinitions.
    CustomKinds,
    /// `/openapi/v2`
    OpenapiV2,
    /// `/openapi/v3`
    OpenapiIndex,
    /// `/openapi/v3/api/v1`, `/openapi/v3/apis/<group>/<version>`
    Openapi { group: String, version: String },
    /// `/everynode/v1/authority`
    Authority,
    /// `/everynode/v1/backup`
    Backup,
    /// `/everynode/v1/nodes/<name>/tunnel`
    Tunnel { node: String },
    /// Objects.
    Objects(Target),
}

/// The objects that a path names: a kind, and optionally a namespace, a name and a subresource.
#[derive(Debug)]
pub(crate) struct Target {
    pub(crate) kind: &'static Kind,
    /// Empty for all namespaces, and for kinds that have none.
    pub(crate) namespace: String,
    /// Empty for all objects.
    pub(crate) name: String,
    /// Empty for the object itself.
    pub(crate) subresource: String,
}

impl PartialEq for Target {
    fn eq(&self, other: &Self) -> bool {
        std::ptr::eq(self.kind, other.kind)
            && (&self.namespace, &self.name, &self.subresource)
                == (&other.namespace, &other.name, &other.subresource)
    }
}

/// A path of a request to the proxy of a node, pod, Service or daemon.
#[derive(Debug, PartialEq)]
pub(crate) struct Proxied<'p> {
    /// The path up to and including `proxy`.
    pub(crate) head: &'p str,
    /// The node of a daemon, not decoded.
    pub(crate) node: Option<&'p str>,
    /// The path behind `proxy`, unchanged: empty, or with a leading slash.
    pub(crate) rest: &'p str,
}

/// Splits the path of a proxied request. `None` for other paths. The rest belongs to the backend,
/// so it is neither decoded nor bounded here.
pub(crate) fn proxied(path: &str) -> Option<Proxied<'_>> {
    const LONGEST_HEAD: usize = 10;
    let inside = path.strip_prefix('/')?;
    let segments: Vec<&str> = inside.splitn(LONGEST_HEAD + 1, '/').collect();
    let (count, node) = match segments.as_slice() {
        ["api", "v1", "nodes", _, "proxy", ..] => (5, None),
        ["api", "v1", "namespaces", _, "pods" | "services", _, "proxy", ..] => (7, None),
        [
            "apis",
            "apps",
            "v1",
            "namespaces",
            _,
            "daemonsets",
            _,
            "nodes",
            node,
            "proxy",
            ..,
        ] => (10, Some(*node)),
        _ => return None,
    };
    let length: usize = segments[..count].iter().map(|segment| segment.len() + 1).sum();
    let (head, rest) = path.split_at(length);
    Some(Proxied { head, node, rest })
}

/// Returns the target of `path`, or status 404.
pub(crate) fn route(path: &str) -> Result<Route, Status> {
    let path = proxied(path).map_or(path, |proxied| proxied.head);
    let mut segments = Vec::with_capacity(8);
    for segment in path.split('/').filter(|segment| !segment.is_empty()) {
        let decoded = percent_decode_str(segment)
            .decode_utf8()
            .map_err(|_| Status::path_not_found())?;
        // With a slash inside a segment, two different paths could have the same key in the store.
        if segments.len() == PATH_SEGMENTS_MAX || decoded.contains(['/', '\0']) {
            return Err(Status::path_not_found());
        }
        segments.push(decoded);
    }
    let segments: Vec<&str> = segments.iter().map(|segment| segment.as_ref()).collect();
    match segments.as_slice() {
        ["healthz" | "livez" | "readyz", ..] => Ok(Route::Health),
        ["version"] => Ok(Route::Version),
        ["metrics"] => Ok(Route::Metrics),
        ["api"] => Ok(Route::CoreVersions),
        ["apis"] => Ok(Route::Groups),
        ["apis", group] => Ok(Route::Group((*group).to_owned())),
        ["api", version] => Ok(Route::Resources {
            group: String::new(),
            version: (*version).to_owned(),
        }),
        ["apis", group, version] => Ok(Route::Resources {
            group: (*group).to_owned(),
            version: (*version).to_owned(),
        }),
        ["apis", "apiextensions.k8s.io", "v1", "customresourcedefinitions"] => Ok(Route::CustomKinds),
        ["openapi", "v2"] => Ok(Route::OpenapiV2),
        ["openapi", "v3"] => Ok(Route::OpenapiIndex),
        ["openapi", "v3", "api", version] => Ok(Route::Openapi {
            group: String::new(),
            version: (*version).to_owned(),
        }),
        ["openapi", "v3", "apis", group, version] => Ok(Route::Openapi {
            group: (*group).to_owned(),
            version: (*version).to_owned(),
        }),
        ["everynode", "v1", "authority"] => Ok(Route::Authority),
        ["everynode", "v1", "backup"] => Ok(Route::Backup),
        ["everynode", "v1", "nodes", node, "tunnel"] => Ok(Route::Tunnel {
            node: (*node).to_owned(),
        }),
        ["api", version, rest @ ..] => objects("", version, rest).map(Route::Objects),
        ["apis", group, version, rest @ ..] => objects(group, version, rest).map(Route::Objects),
        _ => Err(Status::path_not_found()),
    }
}

fn objects(group: &str, version: &str, rest: &[&str]) -> Result<Target, Status> {
    let (namespace, rest) = match rest {
        // The subresources of a namespace have the same form as resources inside it.
        ["namespaces", _, "status" | "finalize"] => ("", rest),
        ["namespaces", namespace, inside @ ..] if !inside.is_empty() => (*namespace, inside),
        _ => ("", rest),
    };
    let (resource, name, subresource) = match rest {
        [resource] => (resource, "", ""),
        [resource, name] => (resource, *name, ""),
        [resource, name, subresource] => (resource, *name, *subresource),
        // The target is the DaemonSet, which authorization checks. The node is only used by the
        // proxy.
        [resource, name, "nodes", _, "proxy"] if *resource == "daemonsets" => (resource, *name, "proxy"),
        _ => return Err(Status::path_not_found()),
    };
    let kind = kinds::by_resource(group, version, resource).ok_or_else(Status::path_not_found)?;
    let scope_fits = match kind.namespaced {
        true => !namespace.is_empty() || name.is_empty(),
        false => namespace.is_empty(),
    };
    if !scope_fits {
        return Err(Status::path_not_found());
    }
    Ok(Target {
        kind,
        namespace: namespace.to_owned(),
        name: name.to_owned(),
        subresource: subresource.to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn target(group: &str, plural: &str, namespace: &str, name: &str, subresource: &str) -> Route {
        Route::Objects(Target {
            kind: kinds::by_resource(group, "v1", plural).unwrap(),
            namespace: namespace.to_owned(),
            name: name.to_owned(),
            subresource: subresource.to_owned(),
        })
    }

    fn refused(path: &str) -> u16 {
        route(path).unwrap_err().code
    }

    #[test]
    fn objects_are_found_by_path() {
        let cases = [
            ("/api/v1/pods", target("", "pods", "", "", "")),
            ("/api/v1/namespaces/a/pods/", target("", "pods", "a", "", "")),
            (
                "/api/v1/namespaces/a/pods/b/log",
                target("", "pods", "a", "b", "log"),
            ),
            (
                "/apis/apps/v1/namespaces/a/daemonsets/b",
                target("apps", "daemonsets", "a", "b", ""),
            ),
            ("/api/v1/nodes/n/status", target("", "nodes", "", "n", "status")),
        ];
        for (path, expected) in cases {
            assert_eq!(route(path).unwrap(), expected, "{path}");
        }
    }

    #[test]
    fn namespaces_are_objects_and_places() {
        assert_eq!(
            route("/api/v1/namespaces/a").unwrap(),
            target("", "namespaces", "", "a", "")
        );
        assert_eq!(
            route("/api/v1/namespaces/a/finalize").unwrap(),
            target("", "namespaces", "", "a", "finalize")
        );
        assert_eq!(
            route("/api/v1/namespaces/a/status").unwrap(),
            target("", "namespaces", "", "a", "status")
        );
    }

    #[test]
    fn what_lies_behind_an_object_is_not_looked_into() {
        let deep = format!(
            "/api/v1/namespaces/a/pods/https:b:80/proxy{}//%2F?",
            "/x".repeat(40)
        );
        assert_eq!(
            route(&deep).unwrap(),
            target("", "pods", "a", "https:b:80", "proxy")
        );
        assert!(proxied(&deep).unwrap().rest.ends_with("/x//%2F?"));
        let daemon = "/apis/apps/v1/namespaces/a/daemonsets/b:http/nodes/n-1/proxy/metrics";
        assert_eq!(
            route(daemon).unwrap(),
            target("apps", "daemonsets", "a", "b:http", "proxy")
        );
        let parts = proxied(daemon).unwrap();
        assert_eq!((parts.node, parts.rest), (Some("n-1"), "/metrics"));
        assert_eq!(
            route("/api/v1/nodes/n/proxy").unwrap(),
            target("", "nodes", "", "n", "proxy")
        );
        assert_eq!(proxied("/api/v1/nodes/n/proxy").unwrap().rest, "");
        assert_eq!(proxied("/api/v1/namespaces/a/configmaps/b/proxy/x"), None);
    }

    #[test]
    fn names_are_percent_decoded_and_hold_no_slash() {
        let roles = "/apis/rbac.authorization.k8s.io/v1/clusterroles/";
        let expected = target("rbac.authorization.k8s.io", "clusterroles", "", "system:x", "");
        assert_eq!(route(&format!("{roles}system%3Ax")).unwrap(), expected);
        assert_eq!(refused(&format!("{roles}a%2Fb")), 404);
        assert_eq!(refused(&format!("{roles}%ff")), 404);
    }

    #[test]
    fn what_is_not_served_is_not_found() {
        let deep = "/a".repeat(PATH_SEGMENTS_MAX + 1);
        for path in [
            "/",
            "/api/v1/gizmos",
            "/api/v1/namespaces/a/nodes",
            "/api/v1/pods/x",
            "/apis/apps/v2/x",
            &deep,
        ] {
            assert_eq!(refused(path), 404, "{path}");
        }
    }
}

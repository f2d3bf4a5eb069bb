//! One request against a real API server in this process, made of bytes: the first five choose it, the rest is its
//! body.

use std::sync::OnceLock;

use apiserver::{Config, Server, User};
use http::{Method, Request};
use http_body_util::BodyExt;
use kube::Client;
use kube::client::Body;
use tokio::runtime::Runtime;

const TYPES: &[&str] = &[
    "application/json",
    "application/yaml",
    "application/vnd.kubernetes.protobuf",
    "application/json-patch+json",
    "application/merge-patch+json",
    "application/strategic-merge-patch+json",
];
const COLLECTIONS: &[&str] = &[
    "/apis/apps/v1/namespaces/default/daemonsets",
    "/apis/apps/v1/namespaces/default/controllerrevisions",
    "/api/v1/namespaces/default/pods",
    "/api/v1/namespaces/default/services",
    "/api/v1/namespaces/default/configmaps",
    "/api/v1/namespaces/default/events",
    "/api/v1/namespaces",
    "/api/v1/nodes",
    "/apis/coordination.k8s.io/v1/namespaces/default/leases",
    "/apis/policy/v1/namespaces/default/poddisruptionbudgets",
    "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews",
    "/apis/certificates.k8s.io/v1/certificatesigningrequests",
    "/apis/discovery.k8s.io/v1/namespaces/default/endpointslices",
    "/api/v1/namespaces/default/endpoints",
    "/api/v1/namespaces/default/secrets",
    "/apis/rbac.authorization.k8s.io/v1/namespaces/default/rolebindings",
    "/apis/rbac.authorization.k8s.io/v1/clusterroles",
];
const METHODS: &[Method] = &[Method::POST, Method::PUT, Method::PATCH, Method::DELETE];
const QUERIES: &[&str] = &[
    "",
    "?dryRun=All",
    "?fieldValidation=Strict",
    "?fieldValidation=Warn",
];
const OBJECTS: &[&str] = &["/a", "/b", "/a/status", "/a/binding", "/a/finalize"];

/// An object of each kind, so that patches and updates have something to work on.
const SEEDS: &[(&str, &str)] = &[
    (
        COLLECTIONS[0],
        r#"{"apiVersion":"apps/v1","kind":"DaemonSet","metadata":{"name":"a"},"spec":{"selector":{"matchLabels":{"x":"y"}},"template":{"metadata":{"labels":{"x":"y"}},"spec":{"containers":[{"name":"c","image":"i"}]}}}}"#,
    ),
    (
        COLLECTIONS[2],
        r#"{"apiVersion":"v1","kind":"Pod","metadata":{"name":"a"},"spec":{"containers":[{"name":"c","image":"i"}]}}"#,
    ),
    (
        COLLECTIONS[3],
        r#"{"apiVersion":"v1","kind":"Service","metadata":{"name":"a"},"spec":{"ports":[{"port":80}]}}"#,
    ),
    (
        COLLECTIONS[4],
        r#"{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"a"},"data":{"k":"v"}}"#,
    ),
    (
        COLLECTIONS[7],
        r#"{"apiVersion":"v1","kind":"Node","metadata":{"name":"a"}}"#,
    ),
    (
        COLLECTIONS[8],
        r#"{"apiVersion":"coordination.k8s.io/v1","kind":"Lease","metadata":{"name":"a"},"spec":{}}"#,
    ),
    (
        COLLECTIONS[12],
        r#"{"apiVersion":"discovery.k8s.io/v1","kind":"EndpointSlice","metadata":{"name":"a"},"addressType":"IPv4","endpoints":[{"addresses":["10.0.0.1"]}],"ports":[{"port":80}]}"#,
    ),
    (
        COLLECTIONS[14],
        r#"{"apiVersion":"v1","kind":"Secret","metadata":{"name":"a"},"stringData":{"k":"v"}}"#,
    ),
    (
        COLLECTIONS[15],
        r#"{"apiVersion":"rbac.authorization.k8s.io/v1","kind":"RoleBinding","metadata":{"name":"a"},"roleRef":{"apiGroup":"rbac.authorization.k8s.io","kind":"ClusterRole","name":"view"},"subjects":[{"kind":"Group","apiGroup":"rbac.authorization.k8s.io","name":"g"}]}"#,
    ),
];

/// The server lives as long as the process, and its folder is removed with it by the system's cleaner.
struct Target {
    runtime: Runtime,
    _server: Server,
    client: Client,
}

fn target() -> &'static Target {
    static TARGET: OnceLock<Target> = OnceLock::new();
    TARGET.get_or_init(|| {
        // Tests beside this one may have chosen it already.
        drop(rustls::crypto::ring::default_provider().install_default());
        let runtime = Runtime::new().expect("a runtime");
        let folder = tempfile::tempdir().expect("a folder").keep();
        let listen = "127.0.0.1:0".parse().expect("an address");
        let config = Config {
            data_dir: folder,
            listen,
            advertise: None,
            names: Vec::new(),
            service_ranges: apiserver::ServiceRanges::default(),
        };
        let server = runtime.block_on(Server::start(config)).expect("a server");
        let client = {
            let _inside = runtime.enter();
            server.client(User::admin())
        };
        let target = Target {
            runtime,
            _server: server,
            client,
        };
        for (path, body) in SEEDS {
            let code = target.send(Method::POST, path, TYPES[0], body.as_bytes());
            assert_eq!(code, 201, "create the seed in {path}");
        }
        target
    })
}

impl Target {
    fn send(&self, method: Method, path: &str, content_type: &str, body: &[u8]) -> u16 {
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header("content-type", content_type);
        let request = request.body(Body::from(body.to_vec())).expect("a request");
        self.runtime.block_on(async {
            let response = self.client.send(request).await.expect("an answer");
            let code = response.status().as_u16();
            response.into_body().collect().await.expect("a whole answer");
            code
        })
    }
}

fn pick<T: Clone>(from: &[T], byte: u8) -> T {
    from[usize::from(byte) % from.len()].clone()
}

/// Sends the request that the bytes stand for.
///
/// # Panics
/// When the server answers with a 5xx.
pub(crate) fn send(data: &[u8]) {
    let [content_type, collection, method, query, object, body @ ..] = data else {
        return;
    };
    let method = pick(METHODS, *method);
    let object = if method == Method::POST && object % 2 == 0 {
        ""
    } else {
        pick(OBJECTS, *object)
    };
    let path = format!(
        "{}{object}{}",
        pick(COLLECTIONS, *collection),
        pick(QUERIES, *query)
    );
    // A DELETE of the seeds would leave nothing to patch.
    let path = if method == Method::DELETE {
        format!("{}/b", pick(COLLECTIONS, *collection))
    } else {
        path
    };
    let code = target().send(method.clone(), &path, pick(TYPES, *content_type), body);
    assert!(code < 500, "{method} {path} was answered with {code}");
}

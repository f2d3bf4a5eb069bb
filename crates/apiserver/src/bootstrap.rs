//! Creates the objects that every cluster has. Requests go through the API, as if an administrator
//! had sent them.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};

use api::authorization::defaults;
use futures::future::join_all;
use http::{Method, Request, Response, StatusCode};
use http_body_util::BodyExt;
use serde_json::{Value, json};

use crate::body::Body;
use crate::client::InProcess;
use crate::names::outward_address;
use crate::negotiate::JSON;
use crate::service_ranges::ServiceRanges;

/// The namespaces that every cluster has.
const NAMESPACES: [&str; 4] = ["default", "kube-system", "kube-public", "kube-node-lease"];

/// An object that every cluster has could not be created.
#[derive(Debug, thiserror::Error)]
#[error("cannot create {object}: {message}")]
pub struct BootstrapError {
    /// Path of the object.
    pub object: String,
    /// Error message of the API.
    pub message: String,
}

/// Creates the missing ones of the objects that every cluster has.
pub(crate) async fn bootstrap(
    client: &InProcess,
    authority: &str,
    advertised: SocketAddr,
    ranges: &ServiceRanges,
) -> Result<(), BootstrapError> {
    // Concurrently, so that the writes share flushes to the disk.
    let namespaces = join_all(NAMESPACES.map(|name| namespace(client, name, authority)));
    let classes = join_all(priority_classes().map(|class| priority_class(client, class)));
    let cluster_roles = rbac_objects(client, "clusterroles", defaults::cluster_roles());
    let bindings = rbac_objects(client, "clusterrolebindings", defaults::cluster_role_bindings());
    let (namespaces, classes, roles, bindings) = tokio::join!(namespaces, classes, cluster_roles, bindings);
    namespaces
        .into_iter()
        .chain(classes)
        .chain([roles, bindings])
        .collect::<Result<(), BootstrapError>>()?;
    let (kubernetes, names) = tokio::join!(
        kubernetes_service(client, advertised, ranges),
        dns_service(client, ranges)
    );
    if let Err(error) = names {
        // A cluster that has its own DNS, or uses the address for another Service, continues
        // without this Service.
        tracing::warn!(%error, "cannot create the Service of the cluster DNS");
    }
    kubernetes
}

/// Creates a namespace with the objects that every namespace has.
async fn namespace(client: &InProcess, name: &str, authority: &str) -> Result<(), BootstrapError> {
    let object = json!({"kind": "Namespace", "apiVersion": "v1", "metadata": {"name": name}});
    create(client, "/api/v1/namespaces", &object).await?;
    let account = json!({"kind": "ServiceAccount", "apiVersion": "v1", "metadata": {"name": "default"}});
    let accounts = format!("/api/v1/namespaces/{name}/serviceaccounts");
    let config_maps = format!("/api/v1/namespaces/{name}/configmaps");
    let authority = root_authority(authority);
    let (account, authority) = tokio::join!(
        create(client, &accounts, &account),
        create_or_replace(client, &config_maps, &authority),
    );
    account?;
    authority
}

async fn priority_class(client: &InProcess, class: Value) -> Result<(), BootstrapError> {
    create(client, "/apis/scheduling.k8s.io/v1/priorityclasses", &class).await?;
    Ok(())
}

/// Creates the missing default roles or bindings, and adds missing rights to the existing ones. So
/// a cluster of an older server gets the rights that a newer server needs.
async fn rbac_objects(client: &InProcess, plural: &str, wanted: Vec<Value>) -> Result<(), BootstrapError> {
    let collection = format!("/apis/rbac.authorization.k8s.io/v1/{plural}");
    let (code, text) = send(client, Method::GET, &collection, &Value::Null).await;
    let list: Value = serde_json::from_str(&text).unwrap_or_default();
    let Some(items) = list["items"].as_array().filter(|_| code == StatusCode::OK) else {
        return Err(BootstrapError {
            object: collection,
            message: text,
        });
    };
    let found: HashMap<&str, &Value> = items.iter().map(|item| (api::meta::name(item), item)).collect();
    let settled = wanted.iter().map(|wanted| {
        let found = found.get(api::meta::name(wanted)).copied();
        rbac_object(client, &collection, wanted, found)
    });
    join_all(settled).await.into_iter().collect()
}

async fn rbac_object(
    client: &InProcess,
    collection: &str,
    wanted: &Value,
    found: Option<&Value>,
) -> Result<(), BootstrapError> {
    let path = format!("{collection}/{}", api::meta::name(wanted));
    let Some(found) = found else {
        return create(client, collection, wanted).await.map(drop);
    };
    if defaults::has_wrong_role(found, wanted) {
        // The role of a binding is immutable.
        let (code, message) = send(client, Method::DELETE, &path, &Value::Null).await;
        if !matches!(code, StatusCode::OK | StatusCode::NOT_FOUND) {
            return Err(failed(collection, wanted, message));
        }
        return create(client, collection, wanted).await.map(drop);
    }
    let Some(next) = defaults::reconciled(found, wanted) else {
        return Ok(());
    };
    match send(client, Method::PUT, &path, &next).await {
        (StatusCode::OK, _) => Ok(()),
        (_, message) => Err(failed(collection, wanted, message)),
    }
}

fn root_authority(authority: &str) -> Value {
    json!({
        "kind": "ConfigMap",
        "apiVersion": "v1",
        "metadata": {
            "name": "kube-root-ca.crt",
            "annotations": {
                "kubernetes.io/description": "Contains a CA bundle that can be used to verify the API server.",
            },
        },
        "data": {"ca.crt": authority},
    })
}

fn priority_classes() -> [Value; 2] {
    let class = |name: &str, value: i64, description: &str| {
        json!({
            "kind": "PriorityClass",
            "apiVersion": "scheduling.k8s.io/v1",
            "metadata": {"name": name},
            "value": value,
            "preemptionPolicy": "PreemptLowerPriority",
            "description": description,
        })
    };
    [
        class(
            "system-cluster-critical",
            2_000_000_000,
            "Used for system critical pods that must run in the cluster, but can be moved to another node if necessary.",
        ),
        class(
            "system-node-critical",
            2_000_001_000,
            "Used for system critical pods that must not be moved from their current node.",
        ),
    ]
}

/// Creates the Service of the cluster DNS, with the name that installers and programs use. It has
/// no selector and no endpoints: each node serves DNS at its address.
async fn dns_service(client: &InProcess, ranges: &ServiceRanges) -> Result<(), BootstrapError> {
    let addresses = ranges.dns();
    let port = |name: &str, protocol: &str| json!({"name": name, "port": 53, "protocol": protocol, "targetPort": 53});
    let service = json!({
        "kind": "Service",
        "apiVersion": "v1",
        "metadata": {
            "name": "kube-dns",
            "labels": {
                "k8s-app": "kube-dns",
                "kubernetes.io/cluster-service": "true",
                "kubernetes.io/name": "Everynode",
            },
        },
        "spec": {
            "type": "ClusterIP",
            "clusterIP": addresses[0],
            "clusterIPs": addresses,
            "ipFamilyPolicy": "PreferDualStack",
            "ports": [port("dns", "UDP"), port("dns-tcp", "TCP")],
            "sessionAffinity": "None",
        },
    });
    create(client, "/api/v1/namespaces/kube-system/services", &service).await?;
    Ok(())
}

/// Creates the Service `kubernetes`, under which pods reach the API, and its endpoints.
async fn kubernetes_service(
    client: &InProcess,
    advertised: SocketAddr,
    ranges: &ServiceRanges,
) -> Result<(), BootstrapError> {
    let service = json!({
        "kind": "Service",
        "apiVersion": "v1",
        "metadata": {"name": "kubernetes", "labels": {"component": "apiserver", "provider": "kubernetes"}},
        "spec": {
            "type": "ClusterIP",
            "clusterIP": ranges.kubernetes(),
            "ports": [{"name": "https", "port": 443, "protocol": "TCP", "targetPort": advertised.port()}],
            "sessionAffinity": "None",
        },
    });
    create(client, "/api/v1/namespaces/default/services", &service).await?;
    // Without a network the machine has no valid address for an endpoint.
    let Some(address) = endpoint_address(advertised.ip()) else {
        return Ok(());
    };
    let endpoints = json!({
        "kind": "Endpoints",
        "apiVersion": "v1",
        "metadata": {"name": "kubernetes", "labels": {"endpointslice.kubernetes.io/skip-mirror": "true"}},
        "subsets": [{
            "addresses": [{"ip": address}],
            "ports": [{"name": "https", "port": advertised.port(), "protocol": "TCP"}],
        }],
    });
    create_or_replace(client, "/api/v1/namespaces/default/endpoints", &endpoints).await?;
    let slice = json!({
        "kind": "EndpointSlice",
        "apiVersion": "discovery.k8s.io/v1",
        "metadata": {"name": "kubernetes", "labels": {"kubernetes.io/service-name": "kubernetes"}},
        "addressType": if address.is_ipv4() { "IPv4" } else { "IPv6" },
        "endpoints": [{"addresses": [address], "conditions": {"ready": true}}],
        "ports": [{"name": "https", "port": advertised.port(), "protocol": "TCP"}],
    });
    create_or_replace(
        client,
        "/apis/discovery.k8s.io/v1/namespaces/default/endpointslices",
        &slice,
    )
    .await
}

/// Returns the address of the Service's endpoint. A loopback address is invalid in Endpoints and
/// would mean the pod itself, so the machine's address replaces it. Agents redirect the Service's
/// traffic to the address at which they reach the server.
fn endpoint_address(advertised: IpAddr) -> Option<IpAddr> {
    match advertised.is_unspecified() || advertised.is_loopback() {
        true => outward_address(),
        false => Some(advertised),
    }
}

/// Creates an object unless it exists. Returns whether it was created.
async fn create(client: &InProcess, collection: &str, object: &Value) -> Result<bool, BootstrapError> {
    match send(client, Method::POST, collection, object).await {
        (StatusCode::CREATED, _) => Ok(true),
        (StatusCode::CONFLICT, _) => Ok(false),
        (_, message) => Err(failed(collection, object, message)),
    }
}

/// Creates an object, or replaces the existing one.
pub(crate) async fn create_or_replace(
    client: &InProcess,
    collection: &str,
    object: &Value,
) -> Result<(), BootstrapError> {
    if create(client, collection, object).await? {
        return Ok(());
    }
    let path = format!("{collection}/{}", api::meta::name(object));
    match send(client, Method::PUT, &path, object).await {
        (StatusCode::OK, _) => Ok(()),
        (_, message) => Err(failed(collection, object, message)),
    }
}

fn failed(collection: &str, object: &Value, message: String) -> BootstrapError {
    BootstrapError {
        object: format!("{collection}/{}", api::meta::name(object)),
        message,
    }
}

/// Sends a request, and returns the status code and the text of the response.
pub(crate) async fn send(
    client: &InProcess,
    method: Method,
    path: &str,
    object: &Value,
) -> (StatusCode, String) {
    let body = match object {
        Value::Null => Body::empty(),
        object => Body::whole(object.to_string()),
    };
    let mut request = Request::new(body);
    *request.method_mut() = method;
    match path.parse() {
        Ok(uri) => *request.uri_mut() = uri,
        Err(error) => return (StatusCode::BAD_REQUEST, format!("{path}: {error}")),
    }
    request
        .headers_mut()
        .insert(http::header::CONTENT_TYPE, http::HeaderValue::from_static(JSON));
    let response: Response<Body> = client.request(request).await;
    let code = response.status();
    let text = match response.into_body().collect().await {
        Ok(body) => String::from_utf8_lossy(&body.to_bytes()).into_owned(),
        Err(error) => error.to_string(),
    };
    (code, text)
}

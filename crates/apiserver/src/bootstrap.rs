//! What a cluster has at its start. Everything goes through the API, as if an administrator had created it, and is
//! left alone when it is there.

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

/// An object that every cluster has could not be made.
#[derive(Debug, thiserror::Error)]
#[error("cannot create {object}: {message}")]
pub struct BootstrapError {
    /// Its path.
    pub object: String,
    /// What the API said.
    pub message: String,
}

/// Creates what is missing of the objects that every cluster has.
pub(crate) async fn bootstrap(
    client: &InProcess,
    authority: &str,
    advertised: SocketAddr,
    ranges: &ServiceRanges,
) -> Result<(), BootstrapError> {
    // Side by side, so that they share flushes to the disk.
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
        // A cluster that has given the address away, or has a DNS of its own, goes on with what it has.
        tracing::warn!(%error, "cannot create the Service of the cluster DNS");
    }
    kubernetes
}

/// A namespace with what every namespace has.
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

/// Creates the default roles or bindings that are missing, and gives the others what they lack: a cluster that was made by an older
/// server gets the rights that a newer one needs.
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
        // A binding cannot be changed to another role.
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

/// The Service by which pods find names, as installers call it and programs expect it. It has no selector and no endpoints: each
/// node answers at its address.
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

/// The Service `kubernetes`, by which pods find the API, and the address behind it.
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
    // Without a network there is no address that an endpoint may have.
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

/// The address behind the Service. A loopback address may not stand there and would mean each pod's own, so the
/// machine's address stands for it: nodes lead the Service's traffic to their own way to the server.
fn endpoint_address(advertised: IpAddr) -> Option<IpAddr> {
    match advertised.is_unspecified() || advertised.is_loopback() {
        true => outward_address(),
        false => Some(advertised),
    }
}

/// Creates an object unless it is there. Gives whether it was created.
async fn create(client: &InProcess, collection: &str, object: &Value) -> Result<bool, BootstrapError> {
    match send(client, Method::POST, collection, object).await {
        (StatusCode::CREATED, _) => Ok(true),
        (StatusCode::CONFLICT, _) => Ok(false),
        (_, message) => Err(failed(collection, object, message)),
    }
}

/// Creates an object, or gives the one that is there this content.
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

/// The answer's code, and its text.
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

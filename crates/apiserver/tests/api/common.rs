//! A server for each test, and functions to send requests to it.

use std::sync::Arc;

use apiserver::{Config, Server, User};
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use http::header::CONTENT_TYPE;
use http::{HeaderMap, Method, Request};
use http_body_util::BodyExt;
use rustls::client::WantsClientCert;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

pub(crate) const JSON: &str = "application/json";
pub(crate) const MERGE: &str = "application/merge-patch+json";
pub(crate) const STRATEGIC: &str = "application/strategic-merge-patch+json";
pub(crate) const JSON_PATCH: &str = "application/json-patch+json";
pub(crate) const CONFIG_MAPS: &str = "/api/v1/namespaces/default/configmaps";
pub(crate) const RBAC: &str = "/apis/rbac.authorization.k8s.io/v1";
pub(crate) const PODS: &str = "/api/v1/namespaces/default/pods";
pub(crate) const DAEMON_SETS: &str = "/apis/apps/v1/namespaces/default/daemonsets";

/// A server and its data directory, which is removed with it.
pub(crate) struct Cluster {
    pub(crate) server: Server,
    pub(crate) dir: TempDir,
}

/// A response.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) code: u16,
    pub(crate) headers: HeaderMap,
    pub(crate) text: String,
    pub(crate) json: Value,
}

impl Answer {
    /// Returns the object. Panics if the code differs.
    #[track_caller]
    pub(crate) fn expect(self, code: u16) -> Value {
        assert_eq!(self.code, code, "{}", self.text);
        self.json
    }

    /// Returns the text of a header.
    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers
            .get(name)
            .and_then(|value| value.to_str().ok())
            .unwrap_or_default()
    }
}

impl Cluster {
    pub(crate) async fn start() -> Cluster {
        Cluster::with_services("10.96.0.0/12").await
    }

    /// Starts a server with these Service ranges.
    pub(crate) async fn with_services(ranges: &str) -> Cluster {
        let dir = tempfile::tempdir().unwrap();
        Cluster {
            server: start(&dir, ranges).await,
            dir,
        }
    }

    /// Stops the server and starts it again with the same directory.
    pub(crate) async fn restart(self) -> Cluster {
        self.restart_with_services("10.96.0.0/12").await
    }

    /// Does what [`Cluster::restart`] does, with other Service ranges.
    pub(crate) async fn restart_with_services(self, ranges: &str) -> Cluster {
        let Cluster { server, dir } = self;
        server.shutdown().await.expect("stop the server");
        Cluster {
            server: start(&dir, ranges).await,
            dir,
        }
    }

    pub(crate) async fn send(
        &self,
        method: Method,
        path: &str,
        headers: &[(&str, &str)],
        body: impl Into<Vec<u8>>,
    ) -> Answer {
        let mut request = Request::builder().method(method).uri(path);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let request = request.body(kube::client::Body::from(body.into())).unwrap();
        let response = self.server.client(User::admin()).send(request).await.unwrap();
        let (parts, body) = response.into_parts();
        let bytes = body.collect().await.unwrap().to_bytes();
        let bytes = match parts.headers.get("content-encoding") {
            Some(_) => gunzip(&bytes),
            None => bytes.to_vec(),
        };
        let text = String::from_utf8_lossy(&bytes).into_owned();
        let json = serde_json::from_slice(&bytes).unwrap_or(Value::Null);
        Answer {
            code: parts.status.as_u16(),
            headers: parts.headers,
            text,
            json,
        }
    }

    pub(crate) async fn get(&self, path: &str) -> Answer {
        self.send(Method::GET, path, &[], "").await
    }

    pub(crate) async fn get_as(&self, path: &str, accept: &str) -> Answer {
        self.send(Method::GET, path, &[("accept", accept)], "").await
    }

    pub(crate) async fn create(&self, path: &str, object: &Value) -> Answer {
        self.send(
            Method::POST,
            path,
            &[(CONTENT_TYPE.as_str(), JSON)],
            object.to_string(),
        )
        .await
    }

    pub(crate) async fn put(&self, path: &str, object: &Value) -> Answer {
        self.send(
            Method::PUT,
            path,
            &[(CONTENT_TYPE.as_str(), JSON)],
            object.to_string(),
        )
        .await
    }

    pub(crate) async fn patch(&self, path: &str, content_type: &str, patch: &Value) -> Answer {
        self.send(
            Method::PATCH,
            path,
            &[(CONTENT_TYPE.as_str(), content_type)],
            patch.to_string(),
        )
        .await
    }

    pub(crate) async fn delete(&self, path: &str, options: &Value) -> Answer {
        let body = if options.is_null() {
            String::new()
        } else {
            options.to_string()
        };
        self.send(Method::DELETE, path, &[(CONTENT_TYPE.as_str(), JSON)], body)
            .await
    }

    /// Binds a ClusterRole to the subjects in a namespace, or in all namespaces if `namespace` is
    /// empty.
    pub(crate) async fn bind(&self, namespace: &str, role: &str, subjects: Value) {
        let (kind, path) = match namespace {
            "" => ("ClusterRoleBinding", format!("{RBAC}/clusterrolebindings")),
            namespace => (
                "RoleBinding",
                format!("{RBAC}/namespaces/{namespace}/rolebindings"),
            ),
        };
        let binding = json!({
            "kind": kind,
            "apiVersion": "rbac.authorization.k8s.io/v1",
            "metadata": {"generateName": "test-"},
            "roleRef": {"kind": "ClusterRole", "name": role},
            "subjects": subjects,
        });
        self.create(&path, &binding).await.expect(201);
    }

    /// Starts a watch, in which each line is an event.
    pub(crate) async fn watch(&self, path: &str) -> Watch {
        self.watch_as(path, JSON).await
    }

    pub(crate) async fn watch_as(&self, path: &str, accept: &str) -> Watch {
        let request = Request::get(path)
            .header("accept", accept)
            .body(kube::client::Body::empty())
            .unwrap();
        let response = self.server.client(User::admin()).send(request).await.unwrap();
        assert_eq!(response.status(), 200, "{path}");
        Watch {
            body: response.into_body(),
            buffer: Vec::new(),
        }
    }
}

fn gunzip(bytes: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    std::io::Read::read_to_end(&mut flate2::read::GzDecoder::new(bytes), &mut out).unwrap();
    out
}

async fn start(dir: &TempDir, services: &str) -> Server {
    let config = Config {
        data_dir: dir.path().to_owned(),
        listen: "127.0.0.1:0".parse().unwrap(),
        advertise: None,
        names: Vec::new(),
        service_ranges: services.parse().unwrap(),
    };
    Server::start(config).await.unwrap()
}

/// The events of a watch.
pub(crate) struct Watch {
    body: kube::client::Body,
    buffer: Vec<u8>,
}

impl Watch {
    /// Returns the next event; `None` at the end.
    pub(crate) async fn next(&mut self) -> Option<Value> {
        loop {
            if let Some(end) = self.buffer.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = self.buffer.drain(..=end).collect();
                return Some(serde_json::from_slice(&line).unwrap());
            }
            let frame = self.body.frame().await?.unwrap();
            self.buffer.extend_from_slice(&frame.into_data().unwrap());
        }
    }

    /// Returns the type of the next event and the name of its object.
    pub(crate) async fn next_seen(&mut self) -> (String, String) {
        let event = self.next().await.expect("the watch has ended");
        (text(&event["type"]), text(&event["object"]["metadata"]["name"]))
    }
}

pub(crate) fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

pub(crate) fn seen(kind: &str, name: &str) -> (String, String) {
    (kind.to_owned(), name.to_owned())
}

pub(crate) fn config_map(name: &str) -> Value {
    json!({"kind": "ConfigMap", "apiVersion": "v1", "metadata": {"name": name}, "data": {"a": "b"}})
}

pub(crate) fn pod(name: &str) -> Value {
    json!({
        "kind": "Pod",
        "apiVersion": "v1",
        "metadata": {"name": name, "labels": {"app": name}},
        "spec": {"containers": [{"name": "c", "image": "busybox:1"}]},
    })
}

pub(crate) fn daemon_set(name: &str) -> Value {
    json!({
        "kind": "DaemonSet",
        "apiVersion": "apps/v1",
        "metadata": {"name": name},
        "spec": {
            "selector": {"matchLabels": {"app": name}},
            "template": {
                "metadata": {"labels": {"app": name}},
                "spec": {"containers": [{"name": "c", "image": "busybox:1"}]},
            },
        },
    })
}

/// Returns the causes of a `Status`: field and reason.
pub(crate) fn causes(status: &Value) -> Vec<(String, String)> {
    let causes = status["details"]["causes"]
        .as_array()
        .cloned()
        .unwrap_or_default();
    causes
        .iter()
        .map(|cause| (text(&cause["field"]), text(&cause["reason"])))
        .collect()
}

/// Opens a TLS connection to the server with the credential of a node's agent.
pub(crate) async fn dial(cluster: &Cluster, node: &str) -> TlsStream<TcpStream> {
    let credential = cluster.server.node_credential(node).await.unwrap();
    dial_with(cluster, &credential.certificate, &credential.key).await
}

/// Opens a TLS connection to the server with the administrator's credential.
pub(crate) async fn dial_as_admin(cluster: &Cluster) -> TlsStream<TcpStream> {
    let text = std::fs::read_to_string(cluster.server.kubeconfig()).unwrap();
    let kubeconfig: Value = serde_saphyr::from_str(&text).unwrap();
    let admin = &kubeconfig["users"][0]["user"];
    let pem =
        |field: &str| String::from_utf8(BASE64_STANDARD.decode(self::text(&admin[field])).unwrap()).unwrap();
    let (certificate, key) = (pem("client-certificate-data"), pem("client-key-data"));
    dial_with(cluster, &certificate, &key).await
}

/// Opens a TLS connection to the server without a credential.
pub(crate) async fn dial_as_stranger(cluster: &Cluster) -> TlsStream<TcpStream> {
    let config = trusting(cluster).with_no_client_auth();
    connect(cluster, config).await
}

/// Opens a TLS connection to the server with this credential.
pub(crate) async fn dial_with(cluster: &Cluster, certificate: &str, key: &str) -> TlsStream<TcpStream> {
    let config = trusting(cluster)
        .with_client_auth_cert(
            vec![CertificateDer::from_pem_slice(certificate.as_bytes()).unwrap()],
            PrivateKeyDer::from_pem_slice(key.as_bytes()).unwrap(),
        )
        .unwrap();
    connect(cluster, config).await
}

fn trusting(cluster: &Cluster) -> rustls::ConfigBuilder<rustls::ClientConfig, WantsClientCert> {
    let mut roots = rustls::RootCertStore::empty();
    roots
        .add(CertificateDer::from_pem_slice(cluster.server.authority().as_bytes()).unwrap())
        .unwrap();
    rustls::ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
}

async fn connect(cluster: &Cluster, config: rustls::ClientConfig) -> TlsStream<TcpStream> {
    let stream = TcpStream::connect(cluster.server.address()).await.unwrap();
    let name = ServerName::try_from("localhost").unwrap();
    TlsConnector::from(Arc::new(config))
        .connect(name, stream)
        .await
        .unwrap()
}

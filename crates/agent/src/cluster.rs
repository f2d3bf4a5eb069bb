//! The few calls that a node makes to the Kubernetes API.

use http::{Method, Request};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Node, Pod};
use kube::Api;
use kube::api::ListParams;
use serde_json::{Value, json};

/// The API, as a node uses it.
#[derive(Clone)]
pub(crate) struct Cluster {
    client: kube::Client,
}

/// A service account token and when it ends.
#[derive(Clone, Debug)]
pub(crate) struct Token {
    pub(crate) token: String,
    pub(crate) expires: Timestamp,
}

type Result<T> = std::result::Result<T, kube::Error>;

impl Cluster {
    pub(crate) fn new(client: kube::Client) -> Self {
        Self { client }
    }

    pub(crate) fn pods(&self) -> Api<Pod> {
        Api::all(self.client.clone())
    }

    pub(crate) async fn pod(&self, namespace: &str, name: &str) -> Result<Pod> {
        let api: Api<Pod> = Api::namespaced(self.client.clone(), namespace);
        api.get(name).await
    }

    /// The pods that are bound to a node.
    pub(crate) async fn pods_of(&self, node: &str) -> Result<Vec<Pod>> {
        let bound = ListParams::default().fields(&format!("spec.nodeName={node}"));
        Ok(self.pods().list(&bound).await?.items)
    }

    pub(crate) fn nodes(&self) -> Api<Node> {
        Api::all(self.client.clone())
    }

    /// A token of a service account, bound to a pod.
    pub(crate) async fn token(
        &self,
        pod: &PodRef,
        account: &str,
        audience: Option<&str>,
        seconds: i64,
    ) -> Result<Token> {
        let bound = json!({"kind": "Pod", "apiVersion": "v1", "name": pod.name, "uid": pod.uid});
        let audiences: Vec<&str> = audience
            .into_iter()
            .filter(|audience| !audience.is_empty())
            .collect();
        let body = json!({
            "apiVersion": "authentication.k8s.io/v1",
            "kind": "TokenRequest",
            "spec": {"audiences": audiences, "expirationSeconds": seconds, "boundObjectRef": bound},
        });
        let path = format!(
            "/api/v1/namespaces/{}/serviceaccounts/{account}/token",
            pod.namespace
        );
        let answer: Value = self.call(Method::POST, &path, "application/json", &body).await?;
        let expires = answer["status"]["expirationTimestamp"]
            .as_str()
            .and_then(|at| at.parse().ok());
        Ok(Token {
            token: answer["status"]["token"].as_str().unwrap_or_default().to_owned(),
            expires: expires.unwrap_or_else(Timestamp::now),
        })
    }

    /// Changes the status of this very pod; answers the object's new version and whole new status.
    pub(crate) async fn patch_pod_status(&self, pod: &PodRef, status: &Value) -> Result<(u64, Value)> {
        let body = json!({"metadata": {"uid": pod.uid}, "status": status});
        let path = format!("{}/status", pod.path());
        let patch = "application/strategic-merge-patch+json";
        let mut answer: Value = self.call(Method::PATCH, &path, patch, &body).await?;
        let version = answer["metadata"]["resourceVersion"].as_str();
        let version = version.and_then(|version| version.parse().ok()).unwrap_or(0);
        Ok((version, answer["status"].take()))
    }

    /// Removes this very pod's object at once: nothing of it runs any more.
    pub(crate) async fn delete_pod(&self, pod: &PodRef) -> Result<()> {
        let body = json!({
            "apiVersion": "v1",
            "kind": "DeleteOptions",
            "gracePeriodSeconds": 0,
            "preconditions": {"uid": pod.uid},
        });
        let _: Value = self
            .call(Method::DELETE, &pod.path(), "application/json", &body)
            .await?;
        Ok(())
    }

    /// One call with a JSON body and a JSON answer.
    pub(crate) async fn call(&self, method: Method, path: &str, kind: &str, body: &Value) -> Result<Value> {
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header("Content-Type", kind)
            .header("Accept", "application/json")
            .body(body.to_string().into_bytes())
            .map_err(kube::Error::HttpError)?;
        self.client.request(request).await
    }
}

/// Which pod: its name may be taken by another later, its uid not.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct PodRef {
    pub(crate) namespace: String,
    pub(crate) name: String,
    pub(crate) uid: String,
}

impl PodRef {
    pub(crate) fn of(pod: &Pod) -> Self {
        let field = |field: &Option<String>| field.clone().unwrap_or_default();
        Self {
            namespace: field(&pod.metadata.namespace),
            name: field(&pod.metadata.name),
            uid: field(&pod.metadata.uid),
        }
    }

    fn path(&self) -> String {
        format!("/api/v1/namespaces/{}/pods/{}", self.namespace, self.name)
    }
}

/// Whether the server did not answer, or answered that it cannot now.
pub(crate) fn is_away(error: &kube::Error) -> bool {
    match error {
        kube::Error::Api(status) => status.code >= 500 || status.code == 429,
        _ => true,
    }
}

/// Whether the object is not there (any more), or is another one of the same name.
pub(crate) fn is_gone(error: &kube::Error) -> bool {
    matches!(error, kube::Error::Api(status) if matches!(status.code, 404 | 409))
}

/// The server's own words where there are some.
pub(crate) fn message(error: &kube::Error) -> String {
    match error {
        kube::Error::Api(status) if !status.message.is_empty() => status.message.clone(),
        other => other.to_string(),
    }
}

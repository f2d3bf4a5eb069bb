//! The node's heartbeat: a Lease, renewed while the agent lives.

use std::time::Duration;

use http::Method;
use jiff::Timestamp;
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use crate::cluster::{Cluster, message};

/// How often the Lease is renewed.
const PERIOD: Duration = Duration::from_secs(10);
/// How long it holds, in seconds.
const DURATION_SECONDS: u32 = 40;
/// Wait after a renewal that failed.
const RETRY: Duration = Duration::from_secs(1);

/// Renews the node's Lease until `shutdown`.
pub(crate) async fn renew(cluster: Cluster, node: String, shutdown: CancellationToken) {
    loop {
        let renewed = renew_once(&cluster, &node).await;
        if let Err(error) = &renewed {
            tracing::warn!(node, error = message(error), "cannot renew the node's lease");
        }
        let wait = if renewed.is_ok() { PERIOD } else { RETRY };
        tokio::select! {
            () = shutdown.cancelled() => return,
            () = tokio::time::sleep(wait) => {}
        }
    }
}

/// How a Lease is changed in part.
const MERGE_PATCH: &str = "application/merge-patch+json";

async fn renew_once(cluster: &Cluster, node: &str) -> Result<(), kube::Error> {
    const LEASES: &str = "/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases";
    let spec = json!({
        "holderIdentity": node,
        "leaseDurationSeconds": DURATION_SECONDS,
        "renewTime": api::time::rfc3339_micro(Timestamp::now()),
    });
    let path = format!("{LEASES}/{node}");
    let patch = json!({ "spec": spec });
    match cluster.call(Method::PATCH, &path, MERGE_PATCH, &patch).await {
        Err(kube::Error::Api(status)) if status.code == 404 => {}
        Err(error) => return Err(error),
        Ok(lease) => return adopt(cluster, node, &path, &lease).await,
    }
    let mut lease = json!({
        "apiVersion": "coordination.k8s.io/v1",
        "kind": "Lease",
        "metadata": {"name": node, "namespace": "kube-node-lease"},
        "spec": spec,
    });
    if let Some(owner) = owner(cluster, node).await? {
        lease["metadata"]["ownerReferences"] = json!([owner]);
    }
    cluster
        .call(Method::POST, LEASES, "application/json", &lease)
        .await
        .map(drop)
}

/// Gives the Lease its Node as an owner, when it has none: it was created before the Node.
async fn adopt(cluster: &Cluster, node: &str, path: &str, lease: &Value) -> Result<(), kube::Error> {
    if !api::meta::owner_references(lease).is_empty() {
        return Ok(());
    }
    let Some(owner) = owner(cluster, node).await? else {
        return Ok(());
    };
    let patch = json!({"metadata": {"ownerReferences": [owner]}});
    cluster
        .call(Method::PATCH, path, MERGE_PATCH, &patch)
        .await
        .map(drop)
}

/// The Node, so that the Lease goes when it goes.
async fn owner(cluster: &Cluster, node: &str) -> Result<Option<Value>, kube::Error> {
    let found = cluster.nodes().get_metadata_opt(node).await?;
    let uid = found.and_then(|node| node.metadata.uid);
    Ok(uid.map(|uid| json!({"apiVersion": "v1", "kind": "Node", "name": node, "uid": uid})))
}

#[cfg(test)]
mod tests {
    use apiserver::{Config, Server, ServiceRanges, User};

    use super::*;

    #[tokio::test]
    async fn a_lease_that_is_older_than_its_node_gets_its_owner() {
        let dir = tempfile::tempdir().unwrap();
        let config = Config {
            data_dir: dir.path().to_owned(),
            listen: "127.0.0.1:0".parse().unwrap(),
            advertise: None,
            names: Vec::new(),
            service_ranges: ServiceRanges::default(),
        };
        let server = Server::start(config).await.unwrap();
        let cluster = Cluster::new(server.client(User::node("n")));
        let lease = async || {
            let path = "/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases/n";
            cluster
                .call(Method::GET, path, "application/json", &Value::Null)
                .await
                .unwrap()
        };
        renew_once(&cluster, "n").await.unwrap();
        assert!(api::meta::owner_references(&lease().await).is_empty());
        let node = json!({"kind": "Node", "apiVersion": "v1", "metadata": {"name": "n"}});
        let node = cluster
            .call(Method::POST, "/api/v1/nodes", "application/json", &node)
            .await
            .unwrap();
        for _ in 0..2 {
            renew_once(&cluster, "n").await.unwrap();
            let owner =
                json!({"apiVersion": "v1", "kind": "Node", "name": "n", "uid": node["metadata"]["uid"]});
            assert_eq!(api::meta::owner_references(&lease().await), [owner]);
        }
        server.shutdown().await.expect("stop the server");
    }
}

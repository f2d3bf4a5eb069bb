//! What another machine or person needs to connect to the cluster: the servers' addresses and the
//! certificate authority.

use std::time::Duration;

use anyhow::{Context, Result, bail};
use tokio::net::TcpStream;

use super::connection::Connection;

/// ConfigMap with the certificate authority. Every authenticated user may read it.
const AUTHORITY: &str = "/api/v1/namespaces/kube-public/configmaps/kube-root-ca.crt";
/// Timeout of a connection to a server.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(2);
/// Endpoints with the addresses of the API servers.
const SERVERS: &str = "/api/v1/namespaces/default/endpoints/kubernetes";

/// Addresses and certificate authority of a cluster.
pub(crate) struct ClusterInfo {
    /// `https://192.0.2.1:6443`, at least one.
    pub(crate) servers: Vec<String>,
    /// Certificates of the authority, PEM.
    pub(crate) authority: String,
}

impl ClusterInfo {
    pub(crate) async fn read(connection: &Connection) -> Result<ClusterInfo> {
        let config_map = connection
            .get(AUTHORITY)
            .await
            .context("read the cluster's authority")?;
        let authority = config_map["data"]["ca.crt"]
            .as_str()
            .unwrap_or_default()
            .to_owned();
        let endpoints = connection
            .get(SERVERS)
            .await
            .context("read the addresses of the API server")?;
        let subset = &endpoints["subsets"][0];
        let port = subset["ports"][0]["port"].as_u64().unwrap_or(6443);
        let addresses = subset["addresses"].as_array().into_iter().flatten();
        let servers: Vec<String> = addresses
            .filter_map(|address| address["ip"].as_str())
            .map(|ip| match ip.contains(':') {
                true => format!("https://[{ip}]:{port}"),
                false => format!("https://{ip}:{port}"),
            })
            .collect();
        if servers.is_empty() {
            bail!("the Service kubernetes has no address: start the server with --advertise-address");
        }
        Ok(ClusterInfo { servers, authority })
    }

    /// Warns about each address that does not accept a connection. Usually the server then listens
    /// only on loopback.
    pub(crate) async fn warn_unless_reachable(&self) {
        for server in &self.servers {
            let address = server.trim_start_matches("https://");
            let answered = tokio::time::timeout(ANSWER_TIMEOUT, TcpStream::connect(address)).await;
            if !matches!(answered, Ok(Ok(_))) {
                eprintln!(
                    "Warning: nothing answers at {server}. Is the server started with --listen 0.0.0.0:PORT, and is --advertise-address right?"
                );
            }
        }
    }
}

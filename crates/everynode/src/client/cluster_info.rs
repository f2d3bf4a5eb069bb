//! What a machine or a person elsewhere needs to reach the cluster: the servers' addresses and the authority.

use std::time::Duration;

use anyhow::{Context, Result, bail};
use tokio::net::TcpStream;

use super::connection::Connection;

/// Where the cluster publishes its authority, readable for everyone who may log in.
const AUTHORITY: &str = "/api/v1/namespaces/kube-public/configmaps/kube-root-ca.crt";
/// How long a server may take to accept a connection.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(2);
/// The addresses of the API servers, as the cluster itself knows them.
const SERVERS: &str = "/api/v1/namespaces/default/endpoints/kubernetes";

/// The cluster, as seen from other machines.
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

    /// Warns when nothing answers at an address. As a rule the server then listens on loopback only.
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

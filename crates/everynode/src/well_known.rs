//! Addresses that a node needs before it can read the cluster's Services: the API server and the
//! DNS for pods.

use std::net::{IpAddr, SocketAddr};
use std::path::Path;

use k8s_openapi::api::core::v1::Service;
use kube::Api;

/// Addresses of Services that exist in every cluster. The server chooses them
/// (`--service-cluster-ip-range`), so the agent reads them from it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct WellKnown {
    /// Address and port of `kubernetes`.
    pub(crate) api: Option<SocketAddr>,
    /// Addresses of `kube-dns`, the primary one first; empty in a cluster without it.
    pub(crate) dns: Vec<IpAddr>,
}

impl WellKnown {
    /// Reads both Services. A missing Service has no addresses.
    pub(crate) async fn read(client: &kube::Client) -> Result<WellKnown, kube::Error> {
        let read = async |namespace: &str, name: &str| {
            let services: Api<Service> = Api::namespaced(client.clone(), namespace);
            services.get_opt(name).await
        };
        let (api, dns) = tokio::join!(read("default", "kubernetes"), read("kube-system", "kube-dns"));
        Ok(WellKnown::of(api?.as_ref(), dns?.as_ref()))
    }

    /// Returns the addresses from the saved state of an agent with this data directory.
    pub(crate) fn kept(data_dir: &Path, node_name: &str) -> Option<WellKnown> {
        let kept = |namespace: &str, name: &str| agent::kept_service(data_dir, node_name, namespace, name);
        let api = kept("default", "kubernetes")?;
        let dns = kept("kube-system", "kube-dns");
        let port = api.ports.first().map(|port| port.port);
        Some(WellKnown {
            api: api.cluster_ips.first().copied().zip(port).map(SocketAddr::from),
            dns: dns
                .map(|service| service.cluster_ips.to_vec())
                .unwrap_or_default(),
        })
    }

    /// Returns the addresses in a cluster with the default range. Used when no server and no saved
    /// state is available.
    pub(crate) fn usual() -> WellKnown {
        const API_PORT: u16 = 443;
        let ranges = apiserver::ServiceRanges::default();
        WellKnown {
            api: Some((ranges.kubernetes(), API_PORT).into()),
            dns: ranges.dns(),
        }
    }

    fn of(api: Option<&Service>, dns: Option<&Service>) -> WellKnown {
        let port = api
            .and_then(|service| service.spec.as_ref()?.ports.as_ref()?.first())
            .and_then(|port| u16::try_from(port.port).ok());
        let address = addresses(api).into_iter().next();
        WellKnown {
            api: address.zip(port).map(SocketAddr::from),
            dns: addresses(dns),
        }
    }
}

fn addresses(service: Option<&Service>) -> Vec<IpAddr> {
    let ips = service.and_then(|service| service.spec.as_ref()?.cluster_ips.as_ref());
    ips.into_iter()
        .flatten()
        .filter_map(|ip| ip.parse().ok())
        .collect()
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    #[test]
    fn the_services_say_where_they_are() {
        let service = |spec: Value| -> Service { serde_json::from_value(json!({"spec": spec})).unwrap() };
        let api = service(json!({"clusterIPs": ["10.7.0.1"], "ports": [{"port": 443}]}));
        let dns = service(json!({"clusterIPs": ["10.7.0.10", "fd00:7::a"]}));
        let read = WellKnown::of(Some(&api), Some(&dns));
        assert_eq!(read.api, Some("10.7.0.1:443".parse().unwrap()));
        assert_eq!(
            read.dns,
            [
                "10.7.0.10".parse::<IpAddr>().unwrap(),
                "fd00:7::a".parse().unwrap()
            ]
        );
        let headless = service(json!({"clusterIPs": ["None"]}));
        let read = WellKnown::of(None, Some(&headless));
        assert_eq!((read.api, read.dns), (None, vec![]));
    }
}

//! Arguments for CNI plugins about a pod, under the names that Kubernetes uses.

use dns::ResolvConf;
use k8s_openapi::api::core::v1::Pod;
use runtime::PluginArgs;
use schema::quantity::Quantity;
use serde_json::{Map, Value, json};

use super::resolver::{self, ClusterNames};
use crate::cluster::PodRef;

/// What may be sent at once beside the lasting rate: the most that the plugin takes, as other runtimes have it.
const BURST_BITS: i64 = i32::MAX as i64;

/// Who the pod is, where it asks for names, and how much it may send and receive (`kubernetes.io/egress-bandwidth` and
/// `ingress-bandwidth`).
pub(super) fn args(pod: &Pod, names: &ClusterNames) -> PluginArgs {
    let PodRef { namespace, name, uid } = PodRef::of(pod);
    let arguments = [
        // For plugins that want none but theirs.
        ("IgnoreUnknown", "1".to_owned()),
        ("K8S_POD_NAMESPACE", namespace),
        ("K8S_POD_NAME", name),
        ("K8S_POD_INFRA_CONTAINER_ID", uid.clone()),
        ("K8S_POD_UID", uid),
    ];
    // The pod's addresses are yet to come from the plugins: of whatever family they are, it may ask where such pods ask.
    let servers = names.server.iter().flat_map(|server| &server.pods);
    let either: Vec<String> = servers.map(ToString::to_string).collect();
    let (resolv_conf, _) = resolver::resolv_conf(pod, &either, names, &resolver::machine());
    let resolver = ResolvConf::parse(&resolv_conf);
    let dns = json!({
        "servers": resolver.name_servers,
        "searches": resolver.searches,
        "options": resolver.options,
    });
    let bandwidth = bandwidth(pod).map(|bandwidth| ("bandwidth".to_owned(), bandwidth));
    PluginArgs {
        arguments: arguments.map(|(key, value)| (key.to_owned(), value)).into(),
        capabilities: [("dns".to_owned(), dns)].into_iter().chain(bandwidth).collect(),
    }
}

fn bandwidth(pod: &Pod) -> Option<Value> {
    let annotations = pod.metadata.annotations.as_ref()?;
    let mut limits = Map::new();
    for way in ["ingress", "egress"] {
        let text = annotations.get(&format!("kubernetes.io/{way}-bandwidth"));
        if let Some(rate) = text.and_then(|text| Quantity::parse(text).ok()) {
            limits.insert(format!("{way}Rate"), rate.value().into());
            limits.insert(format!("{way}Burst"), BURST_BITS.into());
        }
    }
    (!limits.is_empty()).then(|| limits.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plugins_are_told_who_the_pod_is_and_what_it_may_send() {
        let pod: Pod = serde_json::from_value(json!({
            "metadata": {
                "namespace": "shop", "name": "web", "uid": "7",
                "annotations": {"kubernetes.io/egress-bandwidth": "10M", "kubernetes.io/ingress-bandwidth": "much"},
            },
            "spec": {"containers": [], "dnsPolicy": "None", "dnsConfig": {"nameservers": ["192.0.2.53"], "searches": ["shop.example"]}},
        }))
        .expect("a pod");
        let names = ClusterNames {
            domain: "cluster.local".to_owned(),
            server: None,
        };
        let told = args(&pod, &names);
        let name = told.arguments.iter().find(|(key, _)| key == "K8S_POD_NAME");
        assert_eq!(name.map(|(_, value)| &**value), Some("web"));
        assert_eq!(
            told.capabilities["bandwidth"],
            json!({"egressRate": 10_000_000, "egressBurst": BURST_BITS})
        );
        assert_eq!(
            told.capabilities["dns"],
            json!({"servers": ["192.0.2.53"], "searches": ["shop.example"], "options": []})
        );
    }
}

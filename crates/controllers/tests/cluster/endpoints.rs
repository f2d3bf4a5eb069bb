//! EndpointSlices and Endpoints of daemons on simulated nodes.

use serde_json::{Value, json};

use crate::support::{Cluster, SETS, daemon_set, name};

const SERVICES: &str = "/api/v1/namespaces/default/services";
const ENDPOINTS: &str = "/api/v1/namespaces/default/endpoints";
const SLICES: &str = "/apis/discovery.k8s.io/v1/namespaces/default/endpointslices";

fn service(name: &str, change: impl FnOnce(&mut Value)) -> Value {
    let mut service = json!({
        "apiVersion": "v1", "kind": "Service", "metadata": {"name": name, "labels": {"team": "blue"}},
        "spec": {"selector": {"app": "a"}, "ports": [{"port": 80, "targetPort": 8080}]},
    });
    change(&mut service);
    service
}

fn endpoints(slices: &[Value]) -> Vec<Value> {
    let lists = slices.iter().filter_map(|slice| slice["endpoints"].as_array());
    lists.flatten().cloned().collect()
}

impl Cluster {
    async fn slices(&self, service: &str) -> Vec<Value> {
        let selector = format!("{SLICES}?labelSelector=kubernetes.io/service-name%3D{service}");
        self.items(&selector).await
    }

    /// Waits until the slices of the Service satisfy `wanted`, and returns them.
    async fn slices_are(&self, service: &str, what: &str, wanted: impl Fn(&[Value]) -> bool) -> Vec<Value> {
        self.until(&format!("the slices of {service}: {what}"), || async {
            let slices = self.slices(service).await;
            wanted(&slices).then_some(slices)
        })
        .await
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_service_leads_to_the_daemon_of_every_node() {
    let cluster = Cluster::start(3).await;
    cluster.create(SETS, daemon_set("a", |_| {})).await;
    cluster.create(SERVICES, service("web", |_| {})).await;
    cluster.ready("a", 3).await;
    let slices = cluster
        .slices_are("web", "three ready endpoints", |slices| {
            let all = endpoints(slices);
            all.len() == 3 && all.iter().all(|e| e["conditions"]["ready"] == true)
        })
        .await;
    let [slice] = &slices[..] else {
        panic!("one slice: {slices:?}")
    };
    let labels = &slice["metadata"]["labels"];
    assert_eq!(labels["team"], "blue");
    assert_eq!(
        labels["endpointslice.kubernetes.io/managed-by"],
        "endpointslice-controller.k8s.io"
    );
    assert_eq!(labels.get("service.kubernetes.io/headless"), None);
    let owner = &slice["metadata"]["ownerReferences"][0];
    assert_eq!(
        (&owner["name"], &owner["controller"]),
        (&json!("web"), &json!(true))
    );
    assert_eq!(
        slice["ports"],
        json!([{"name": "", "port": 8080, "protocol": "TCP"}])
    );
    let pods = cluster.pods().await;
    for endpoint in endpoints(&slices) {
        let pod = pods
            .iter()
            .find(|pod| pod["metadata"]["uid"] == endpoint["targetRef"]["uid"]);
        let pod = pod.expect("the endpoint's pod");
        assert_eq!(endpoint["nodeName"], pod["spec"]["nodeName"]);
        assert_eq!(endpoint["addresses"], json!([pod["status"]["podIP"]]));
        assert_eq!(
            endpoint["conditions"],
            json!({"ready": true, "serving": true, "terminating": false})
        );
    }
    let path = format!("{ENDPOINTS}/web");
    let older = cluster
        .until("three addresses in Endpoints", || async {
            let found = cluster.get(&path).await?;
            let addresses = found["subsets"][0]["addresses"].as_array()?.len();
            (addresses == 3).then_some(found)
        })
        .await;
    assert_eq!(
        older["subsets"][0]["ports"],
        json!([{"port": 8080, "protocol": "TCP"}])
    );
    assert_eq!(
        older["metadata"]["labels"]["endpoints.kubernetes.io/managed-by"],
        "endpoint-controller"
    );
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn slices_follow_selector_ports_and_the_end_of_the_service() {
    let cluster = Cluster::start(2).await;
    cluster.create(SETS, daemon_set("a", |_| {})).await;
    cluster.create(SETS, daemon_set("b", |_| {})).await;
    cluster
        .create(
            SERVICES,
            service("web", |s| s["spec"]["clusterIP"] = "None".into()),
        )
        .await;
    cluster.ready("a", 2).await;
    cluster.ready("b", 2).await;
    let is_of = |slices: &[Value], set: &str, port: i64| {
        let all = endpoints(slices);
        let of_set = |endpoint: &&Value| {
            endpoint["targetRef"]["name"]
                .as_str()
                .is_some_and(|name| name.starts_with(&format!("{set}-")))
        };
        all.len() == 2
            && all.iter().filter(of_set).count() == 2
            && slices.iter().all(|s| s["ports"][0]["port"] == port)
    };
    let slices = cluster
        .slices_are("web", "the pods of a", |slices| is_of(slices, "a", 8080))
        .await;
    assert_eq!(
        slices[0]["metadata"]["labels"]["service.kubernetes.io/headless"],
        ""
    );
    let path = format!("{SERVICES}/web");
    cluster
        .merge(&path, json!({"spec": {"selector": {"app": "b"}}}))
        .await;
    cluster
        .slices_are("web", "the pods of b", |slices| is_of(slices, "b", 8080))
        .await;
    cluster
        .merge(
            &path,
            json!({"spec": {"ports": [{"port": 80, "targetPort": 9090}]}}),
        )
        .await;
    cluster
        .slices_are("web", "the other port", |slices| is_of(slices, "b", 9090))
        .await;
    cluster
        .merge(&path, json!({"spec": {"selector": {"app": "none"}}}))
        .await;
    let empty = cluster
        .slices_are("web", "none", |slices| {
            slices.len() == 1 && endpoints(slices).is_empty()
        })
        .await;
    assert_eq!(empty[0]["ports"].as_array().map_or(0, Vec::len), 0);
    cluster.delete(&path, None).await;
    cluster
        .slices_are("web", "gone", |slices| slices.is_empty())
        .await;
    cluster
        .until("no Endpoints", || async {
            let all = cluster.items(ENDPOINTS).await;
            all.iter()
                .all(|endpoints| name(endpoints) == "kubernetes")
                .then_some(())
        })
        .await;
    cluster.stop().await;
}

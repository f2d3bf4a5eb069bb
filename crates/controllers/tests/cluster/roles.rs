//! Aggregated ClusterRoles.

use serde_json::json;

use crate::support::Cluster;

const ROLES: &str = "/apis/rbac.authorization.k8s.io/v1/clusterroles";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_added_to_view_is_in_edit_and_admin_too() {
    let cluster = Cluster::start(0).await;
    let role = json!({
        "kind": "ClusterRole", "apiVersion": "rbac.authorization.k8s.io/v1",
        "metadata": {"name": "see-things", "labels": {"rbac.authorization.k8s.io/aggregate-to-view": "true"}},
        "rules": [rule()],
    });
    cluster.create(ROLES, role).await;
    let have = async |name: &str| {
        let role = cluster.get(&format!("{ROLES}/{name}")).await;
        role.is_some_and(|found| {
            found["rules"]
                .as_array()
                .is_some_and(|rules| rules.contains(&rule()))
        })
    };
    cluster
        .until("all three have the rule", || async {
            let all = have("view").await && have("edit").await && have("admin").await;
            all.then_some(())
        })
        .await;
    cluster.delete(&format!("{ROLES}/see-things"), None).await;
    cluster
        .until("none of them has the rule", || async {
            let any = have("view").await || have("edit").await || have("admin").await;
            (!any).then_some(())
        })
        .await;
    cluster.stop().await;
}

fn rule() -> serde_json::Value {
    json!({"verbs": ["get"], "apiGroups": ["example.com"], "resources": ["things"]})
}

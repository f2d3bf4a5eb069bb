//! dryRun=All: does everything except storing the object.

use http::Method;
use serde_json::{Value, json};

use crate::common::*;

#[tokio::test]
async fn nothing_is_stored() {
    let cluster = Cluster::start().await;
    let path = format!("{CONFIG_MAPS}/a");
    let generated = json!({"kind": "ConfigMap", "apiVersion": "v1", "metadata": {"generateName": "a-"}});
    let answer = cluster
        .create(&format!("{CONFIG_MAPS}?dryRun=All"), &generated)
        .await
        .expect(201);
    assert_eq!(text(&answer["metadata"]["name"]).len(), 7);
    assert!(answer["metadata"]["uid"].is_string());
    cluster
        .create(&format!("{CONFIG_MAPS}?dryRun=All"), &config_map("a"))
        .await
        .expect(201);
    assert_eq!(cluster.get(&path).await.code, 404);

    let created = cluster.create(CONFIG_MAPS, &config_map("a")).await.expect(201);
    cluster
        .create(&format!("{CONFIG_MAPS}?dryRun=All"), &config_map("a"))
        .await
        .expect(409);
    let patch = json!({"data": {"a": "c"}});
    let patched = cluster
        .patch(&format!("{path}?dryRun=All"), MERGE, &patch)
        .await
        .expect(200);
    assert_eq!(patched["data"]["a"], "c");
    let mut object = config_map("a");
    object["data"]["a"] = "d".into();
    assert_eq!(
        cluster
            .put(&format!("{path}?dryRun=All"), &object)
            .await
            .expect(200)["data"]["a"],
        "d"
    );
    cluster
        .delete(&format!("{path}?dryRun=All"), &Value::Null)
        .await
        .expect(200);
    cluster
        .delete(&path, &json!({"dryRun": ["All"]}))
        .await
        .expect(200);
    assert_eq!(cluster.get(&path).await.expect(200), created);
}

#[tokio::test]
async fn rules_hold_in_a_dry_run() {
    let cluster = Cluster::start().await;
    let mut object = daemon_set("a");
    object["spec"]["template"]["spec"]["restartPolicy"] = "Never".into();
    assert_eq!(
        cluster
            .create(&format!("{DAEMON_SETS}?dryRun=All"), &object)
            .await
            .code,
        422
    );
    let status = cluster
        .create(&format!("{CONFIG_MAPS}?dryRun=Some"), &config_map("a"))
        .await
        .expect(422);
    assert_eq!(causes(&status), [seen("dryRun", "FieldValueNotSupported")]);
    let answer = cluster
        .send(Method::DELETE, &format!("{CONFIG_MAPS}/a?dryRun=Some"), &[], "")
        .await;
    assert_eq!(answer.code, 422);
}

//! Tables, which kubectl prints, and metadata, which collectors read.

use serde_json::{Value, json};

use crate::common::*;

const TABLE: &str = "application/json;as=Table;v=v1;g=meta.k8s.io,application/json";
const METADATA: &str = "application/json;as=PartialObjectMetadata;v=v1;g=meta.k8s.io";
const METADATA_LIST: &str = "application/json;as=PartialObjectMetadataList;v=v1;g=meta.k8s.io";

#[tokio::test]
async fn list_as_table_has_columns_and_rows() {
    let cluster = Cluster::start().await;
    cluster.create(DAEMON_SETS, &daemon_set("a")).await.expect(201);
    let table = cluster.get_as(DAEMON_SETS, TABLE).await.expect(200);
    assert_eq!(table["kind"], "Table");
    assert_eq!(table["apiVersion"], "meta.k8s.io/v1");
    let columns: Vec<String> = table["columnDefinitions"]
        .as_array()
        .unwrap()
        .iter()
        .map(|column| text(&column["name"]))
        .collect();
    assert_eq!(columns[..3], ["Name", "Desired", "Current"]);
    assert_eq!(table["rows"][0]["cells"][0], "a");
    assert_eq!(table["rows"][0]["cells"].as_array().unwrap().len(), columns.len());
    assert_eq!(table["rows"][0]["object"]["kind"], "PartialObjectMetadata");
    assert!(table["metadata"]["resourceVersion"].is_string());
}

#[tokio::test]
async fn rows_hold_as_much_of_the_object_as_asked() {
    let cluster = Cluster::start().await;
    cluster.create(CONFIG_MAPS, &config_map("a")).await.expect(201);
    let path = format!("{CONFIG_MAPS}/a");
    let with = cluster
        .get_as(&format!("{path}?includeObject=Object"), TABLE)
        .await
        .expect(200);
    assert_eq!(with["rows"][0]["object"]["data"], json!({"a": "b"}));
    let without = cluster
        .get_as(&format!("{path}?includeObject=None"), TABLE)
        .await
        .expect(200);
    assert!(without["rows"][0].get("object").is_none_or(Value::is_null));
    assert_eq!(
        cluster
            .get_as(&format!("{path}?includeObject=Half"), TABLE)
            .await
            .code,
        400
    );
}

#[tokio::test]
async fn watch_as_table_describes_its_columns_once() {
    let cluster = Cluster::start().await;
    let mut watch = cluster.watch_as(&format!("{CONFIG_MAPS}?watch=1"), TABLE).await;
    cluster.create(CONFIG_MAPS, &config_map("a")).await.expect(201);
    let first = watch.next().await.unwrap();
    assert!(first["object"]["columnDefinitions"].is_array());
    let second = watch.next().await.unwrap();
    assert_eq!(second["object"]["kind"], "Table");
    assert_eq!(second["object"]["rows"][0]["cells"][0], "a");
    assert!(!second["object"]["columnDefinitions"].is_array());
}

#[tokio::test]
async fn metadata_clients_get_metadata_alone() {
    let cluster = Cluster::start().await;
    let created = cluster.create(CONFIG_MAPS, &config_map("a")).await.expect(201);
    let one = cluster
        .get_as(&format!("{CONFIG_MAPS}/a"), METADATA)
        .await
        .expect(200);
    assert_eq!(one["kind"], "PartialObjectMetadata");
    assert_eq!(one["metadata"], created["metadata"]);
    assert!(one.get("data").is_none());
    let list = cluster.get_as(CONFIG_MAPS, METADATA_LIST).await.expect(200);
    assert_eq!(list["kind"], "PartialObjectMetadataList");
    assert_eq!(list["items"][0]["kind"], "PartialObjectMetadata");
    let mut watch = cluster
        .watch_as(&format!("{CONFIG_MAPS}?watch=1"), METADATA)
        .await;
    assert_eq!(
        watch.next().await.unwrap()["object"]["kind"],
        "PartialObjectMetadata"
    );
}

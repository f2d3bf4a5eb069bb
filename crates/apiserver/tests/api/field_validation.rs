//! fieldValidation: handling of unknown fields.

use http::Method;
use serde_json::json;

use crate::common::*;

fn misspelt() -> serde_json::Value {
    let mut object = daemon_set("a");
    object["spec"]["minReadySecond"] = 5.into();
    object
}

#[tokio::test]
async fn strict_refuses_unknown_fields() {
    let cluster = Cluster::start().await;
    let status = cluster
        .create(&format!("{DAEMON_SETS}?fieldValidation=Strict"), &misspelt())
        .await
        .expect(400);
    let message = text(&status["message"]);
    assert!(
        message.ends_with("strict decoding error: unknown field \"spec.minReadySecond\""),
        "{message}"
    );
    let body = r#"{"kind":"ConfigMap","apiVersion":"v1","metadata":{"name":"a"},"data":{"a":"1","a":"2"}}"#;
    let path = format!("{CONFIG_MAPS}?fieldValidation=Strict");
    let status = cluster
        .send(Method::POST, &path, &[("content-type", JSON)], body)
        .await
        .expect(400);
    assert!(text(&status["message"]).contains("duplicate field"), "{status}");
}

#[tokio::test]
async fn warn_is_the_default_and_drops_them() {
    let cluster = Cluster::start().await;
    let answer = cluster.create(DAEMON_SETS, &misspelt()).await;
    assert_eq!(
        answer.header("warning"),
        "299 - \"unknown field \\\"spec.minReadySecond\\\"\""
    );
    assert!(answer.expect(201)["spec"].get("minReadySecond").is_none());
}

#[tokio::test]
async fn ignore_says_nothing() {
    let cluster = Cluster::start().await;
    let answer = cluster
        .create(&format!("{DAEMON_SETS}?fieldValidation=Ignore"), &misspelt())
        .await;
    assert_eq!((answer.code, answer.header("warning")), (201, ""));
    assert_eq!(
        cluster
            .create(&format!("{CONFIG_MAPS}?fieldValidation=Hard"), &config_map("a"))
            .await
            .code,
        422
    );
}

#[tokio::test]
async fn patches_are_validated_too() {
    let cluster = Cluster::start().await;
    cluster.create(DAEMON_SETS, &daemon_set("a")).await.expect(201);
    let path = format!("{DAEMON_SETS}/a");
    let patch = json!({"spec": {"minReadySecond": 5}});
    for content_type in [MERGE, STRATEGIC] {
        let strict = cluster
            .patch(&format!("{path}?fieldValidation=Strict"), content_type, &patch)
            .await;
        assert_eq!(strict.code, 422, "{content_type}: {}", strict.text);
        assert!(strict.text.contains("unknown field"), "{}", strict.text);
        let warned = cluster.patch(&path, content_type, &patch).await;
        assert_eq!(warned.code, 200, "{}", warned.text);
        assert!(
            warned.header("warning").contains("spec.minReadySecond"),
            "{content_type}"
        );
    }
}

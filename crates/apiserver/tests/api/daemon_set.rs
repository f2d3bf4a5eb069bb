//! DaemonSets in the API: defaults, fields that a write may change, warnings, and Tables.

use serde_json::{Value, json};

use crate::common::*;

const CONTROLLER_REVISIONS: &str = "/apis/apps/v1/namespaces/default/controllerrevisions";
const TABLE: &str = "application/json;as=Table;v=v1;g=meta.k8s.io,application/json";
const TEMPLATE_GENERATION: &str = "deprecated.daemonset.template.generation";

fn path(name: &str) -> String {
    format!("{DAEMON_SETS}/{name}")
}

fn template_generation(object: &Value) -> &Value {
    &object["metadata"]["annotations"][TEMPLATE_GENERATION]
}

/// Returns the texts of the `Warning` headers.
fn warnings(answer: &Answer) -> Vec<String> {
    let all = answer.headers.get_all("warning").into_iter();
    all.map(|value| {
        let text = value.to_str().unwrap();
        let quoted = text.strip_prefix("299 - \"").unwrap().strip_suffix('"').unwrap();
        quoted.replace("\\\"", "\"")
    })
    .collect()
}

#[tokio::test]
async fn only_the_stable_version_is_served() {
    let cluster = Cluster::start().await;
    for gone in ["apps/v1beta1", "apps/v1beta2", "extensions/v1beta1"] {
        let path = format!("/apis/{gone}/namespaces/default/daemonsets");
        assert_eq!(cluster.get(&path).await.code, 404, "{gone}");
    }
    let resources = cluster.get("/apis/apps/v1").await.expect(200);
    let named = |name: &str| {
        let all = resources["resources"].as_array().unwrap();
        all.iter().find(|resource| resource["name"] == name).cloned()
    };
    let verbs = json!([
        "create",
        "delete",
        "deletecollection",
        "get",
        "list",
        "patch",
        "update",
        "watch"
    ]);
    let sets = named("daemonsets").unwrap();
    assert_eq!(
        (
            &sets["singularName"],
            &sets["kind"],
            &sets["namespaced"],
            &sets["verbs"]
        ),
        (&json!("daemonset"), &json!("DaemonSet"), &json!(true), &verbs)
    );
    assert_eq!(
        (&sets["shortNames"], &sets["categories"]),
        (&json!(["ds"]), &json!(["all"]))
    );
    assert_eq!(
        named("daemonsets/status").unwrap()["verbs"],
        json!(["get", "patch", "update"])
    );
    let revisions = named("controllerrevisions").unwrap();
    assert_eq!(revisions["verbs"], verbs);
    assert!(revisions.get("shortNames").is_none() && revisions.get("categories").is_none());
    assert!(named("controllerrevisions/status").is_none());
}

#[tokio::test]
async fn a_daemon_set_has_no_scale() {
    let cluster = Cluster::start().await;
    cluster.create(DAEMON_SETS, &daemon_set("a")).await.expect(201);
    let scale = format!("{}/scale", path("a"));
    cluster.get(&scale).await.expect(404);
    cluster
        .patch(&scale, MERGE, &json!({"spec": {"replicas": 2}}))
        .await
        .expect(404);
}

#[tokio::test]
async fn status_always_has_four_counts_and_others_if_not_zero() {
    let cluster = Cluster::start().await;
    let created = cluster.create(DAEMON_SETS, &daemon_set("a")).await.expect(201);
    let zeros = json!({"currentNumberScheduled": 0, "desiredNumberScheduled": 0, "numberMisscheduled": 0, "numberReady": 0});
    assert_eq!(created["status"], zeros);
    let mut changed = created;
    changed["status"]["numberAvailable"] = 2.into();
    changed["status"]["numberUnavailable"] = 0.into();
    changed["status"]["observedGeneration"] = 1.into();
    let stored = cluster
        .put(&format!("{}/status", path("a")), &changed)
        .await
        .expect(200);
    let mut expected = zeros;
    expected["numberAvailable"] = 2.into();
    expected["observedGeneration"] = 1.into();
    assert_eq!(stored["status"], expected);
}

#[tokio::test]
async fn conditions_merge_by_their_type() {
    let cluster = Cluster::start().await;
    cluster.create(DAEMON_SETS, &daemon_set("a")).await.expect(201);
    let status = format!("{}/status", path("a"));
    let condition = |kind: &str, status: &str| json!({"type": kind, "status": status});
    for one in [
        condition("A", "True"),
        condition("B", "True"),
        condition("A", "False"),
    ] {
        let patch = json!({"status": {"conditions": [one]}});
        cluster.patch(&status, STRATEGIC, &patch).await.expect(200);
    }
    let stored = cluster.get(&status).await.expect(200);
    let mut seen: Vec<(String, String)> = stored["status"]["conditions"]
        .as_array()
        .unwrap()
        .iter()
        .map(|condition| (text(&condition["type"]), text(&condition["status"])))
        .collect();
    seen.sort_unstable();
    assert_eq!(seen, [seen_as("A", "False"), seen_as("B", "True")]);
}

fn seen_as(kind: &str, status: &str) -> (String, String) {
    (kind.to_owned(), status.to_owned())
}

#[tokio::test]
async fn quantities_of_a_template_are_stored_in_their_canonical_form() {
    let cluster = Cluster::start().await;
    let mut object = daemon_set("a");
    object["spec"]["template"]["spec"]["containers"][0]["resources"] =
        json!({"limits": {"cpu": "1000m", "memory": "1024Mi"}, "requests": {"cpu": 0.5, "memory": "0.1m"}});
    let stored = cluster.create(DAEMON_SETS, &object).await.expect(201);
    assert_eq!(
        stored["spec"]["template"]["spec"]["containers"][0]["resources"],
        json!({"limits": {"cpu": "1", "memory": "1Gi"}, "requests": {"cpu": "500m", "memory": "1m"}})
    );
}

#[tokio::test]
async fn the_template_generation_is_the_servers_alone() {
    let cluster = Cluster::start().await;
    let mut object = daemon_set("a");
    object["metadata"]["annotations"] = json!({TEMPLATE_GENERATION: "5"});
    let created = cluster.create(DAEMON_SETS, &object).await.expect(201);
    assert_eq!(template_generation(&created), "5");
    let reset = cluster
        .patch(
            &path("a"),
            MERGE,
            &json!({"metadata": {"annotations": {TEMPLATE_GENERATION: "9"}}}),
        )
        .await
        .expect(200);
    assert_eq!(template_generation(&reset), "5");
    let dropped = cluster
        .patch(&path("a"), MERGE, &json!({"metadata": {"annotations": null}}))
        .await
        .expect(200);
    assert_eq!(template_generation(&dropped), "5");
    assert_eq!(
        dropped["metadata"]["resourceVersion"],
        created["metadata"]["resourceVersion"]
    );
    let image =
        json!([{"op": "replace", "path": "/spec/template/spec/containers/0/image", "value": "busybox:2"}]);
    let changed = cluster.patch(&path("a"), JSON_PATCH, &image).await.expect(200);
    assert_eq!(template_generation(&changed), "6");
    assert_eq!(changed["metadata"]["generation"], 2);
}

#[tokio::test]
async fn template_generation_is_refused_when_not_a_number() {
    let cluster = Cluster::start().await;
    let mut object = daemon_set("a");
    object["metadata"]["annotations"] = json!({TEMPLATE_GENERATION: "abc"});
    let status = cluster.create(DAEMON_SETS, &object).await.expect(400);
    assert_eq!(
        status["message"],
        "DaemonSet in version \"v1\" cannot be handled as a DaemonSet: strconv.ParseInt: parsing \"abc\": invalid syntax"
    );
    cluster.create(DAEMON_SETS, &daemon_set("a")).await.expect(201);
    cluster.put(&path("a"), &object).await.expect(400);
    let patch = json!({"metadata": {"annotations": {TEMPLATE_GENERATION: "abc"}}});
    let status = cluster.patch(&path("a"), MERGE, &patch).await.expect(422);
    assert_eq!(causes(&status)[0].0, "patch");
}

#[tokio::test]
async fn a_deletion_that_waits_for_a_finalizer_counts_as_a_generation() {
    let cluster = Cluster::start().await;
    let mut object = daemon_set("a");
    object["metadata"]["finalizers"] = json!(["example.com/wait"]);
    cluster.create(DAEMON_SETS, &object).await.expect(201);
    cluster.delete(&path("a"), &Value::Null).await.expect(200);
    let going = cluster.get(&path("a")).await.expect(200);
    assert_eq!(going["metadata"]["generation"], 2);
    assert_eq!(template_generation(&going), "1");
}

#[tokio::test]
async fn a_plain_deletion_leaves_no_finalizer_behind() {
    let cluster = Cluster::start().await;
    cluster.create(DAEMON_SETS, &daemon_set("a")).await.expect(201);
    cluster.delete(&path("a"), &Value::Null).await.expect(200);
    cluster.get(&path("a")).await.expect(404);
}

#[tokio::test]
async fn faults_are_told_with_their_fields_and_reasons() {
    let cluster = Cluster::start().await;
    let mut object = daemon_set("a");
    object["spec"]["template"]["spec"]["restartPolicy"] = "Never".into();
    object["spec"]["updateStrategy"] = json!({"rollingUpdate": {"maxUnavailable": 0}});
    let status = cluster.create(DAEMON_SETS, &object).await.expect(422);
    assert_eq!(status["reason"], "Invalid");
    assert_eq!(
        status["message"],
        "DaemonSet.apps \"a\" is invalid: [spec.template.spec.restartPolicy: Unsupported value: \"Never\": supported values: \"Always\", spec.updateStrategy.rollingUpdate.maxUnavailable: Required value: cannot be 0 when maxSurge is 0]"
    );
    assert_eq!(
        causes(&status),
        [
            seen_as("spec.template.spec.restartPolicy", "FieldValueNotSupported"),
            seen_as(
                "spec.updateStrategy.rollingUpdate.maxUnavailable",
                "FieldValueRequired"
            ),
        ]
    );
    let details = &status["details"];
    assert_eq!(
        (&details["name"], &details["group"], &details["kind"]),
        (&json!("a"), &json!("apps"), &json!("DaemonSet"))
    );
}

#[tokio::test]
async fn put_without_version_updates_and_never_creates() {
    let cluster = Cluster::start().await;
    let status = cluster.put(&path("a"), &daemon_set("a")).await.expect(404);
    assert_eq!(status["message"], "daemonsets.apps \"a\" not found");
    cluster.create(DAEMON_SETS, &daemon_set("a")).await.expect(201);
    let mut object = daemon_set("a");
    object["spec"]["minReadySeconds"] = 3.into();
    let stored = cluster.put(&path("a"), &object).await.expect(200);
    assert_eq!(stored["spec"]["minReadySeconds"], 3);
}

#[tokio::test]
async fn status_update_keeps_spec_and_spec_update_keeps_status() {
    let cluster = Cluster::start().await;
    let mut both = cluster.create(DAEMON_SETS, &daemon_set("a")).await.expect(201);
    both["metadata"]["labels"] = json!({"x": "y"});
    both["metadata"]
        .as_object_mut()
        .unwrap()
        .remove("resourceVersion");
    both["spec"]["minReadySeconds"] = 7.into();
    both["status"]["numberReady"] = 3.into();
    let by_status = cluster
        .put(&format!("{}/status", path("a")), &both)
        .await
        .expect(200);
    assert_eq!(by_status["metadata"]["labels"], json!({"x": "y"}));
    assert_eq!(by_status["spec"].get("minReadySeconds"), None);
    assert_eq!(by_status["status"]["numberReady"], 3);
    both["status"]["numberReady"] = 9.into();
    let by_main = cluster.put(&path("a"), &both).await.expect(200);
    assert_eq!(by_main["spec"]["minReadySeconds"], 7);
    assert_eq!(by_main["status"]["numberReady"], 3);
    let patch = json!({"spec": {"minReadySeconds": 8}, "status": {"numberReady": 4}});
    let patched = cluster
        .patch(&format!("{}/status", path("a")), MERGE, &patch)
        .await
        .expect(200);
    assert_eq!(
        (
            &patched["spec"]["minReadySeconds"],
            &patched["status"]["numberReady"]
        ),
        (&json!(7), &json!(4))
    );
}

#[tokio::test]
async fn write_without_change_keeps_version_and_sends_no_event() {
    let cluster = Cluster::start().await;
    let created = cluster.create(DAEMON_SETS, &daemon_set("a")).await.expect(201);
    let version = text(&created["metadata"]["resourceVersion"]);
    let mut watch = cluster
        .watch(&format!("{DAEMON_SETS}?watch=1&resourceVersion={version}"))
        .await;
    let same = |answer: Answer| {
        assert_eq!(
            answer.expect(200)["metadata"]["resourceVersion"],
            version.as_str()
        )
    };
    // As the user wrote it, without defaults; as it is stored; and with each type of patch.
    same(cluster.put(&path("a"), &daemon_set("a")).await);
    same(cluster.put(&path("a"), &created).await);
    same(cluster.put(&format!("{}/status", path("a")), &created).await);
    same(cluster.patch(&path("a"), STRATEGIC, &daemon_set("a")).await);
    same(
        cluster
            .patch(&path("a"), MERGE, &json!({"spec": {"minReadySeconds": 0}}))
            .await,
    );
    same(cluster.patch(&path("a"), JSON_PATCH, &json!([])).await);
    cluster.create(DAEMON_SETS, &daemon_set("b")).await.expect(201);
    assert_eq!(watch.next_seen().await, seen("ADDED", "b"));
}

#[tokio::test]
async fn unwise_template_fields_warn_when_the_template_changes() {
    let cluster = Cluster::start().await;
    let mut object = daemon_set("a");
    object["spec"]["template"]["spec"]["nodeSelector"] = json!({"beta.kubernetes.io/os": "linux"});
    let text = "spec.template.spec.nodeSelector[beta.kubernetes.io/os]: deprecated since v1.14; use \"kubernetes.io/os\" instead";
    let created = cluster.create(DAEMON_SETS, &object).await;
    assert_eq!((created.code, warnings(&created)), (201, vec![text.to_owned()]));
    let seconds = json!({"spec": {"minReadySeconds": 5}});
    let other = cluster.patch(&path("a"), MERGE, &seconds).await;
    assert_eq!((other.code, warnings(&other)), (200, Vec::new()));
    let labels = json!({"spec": {"template": {"metadata": {"annotations": {"x": "y"}}}}});
    let template = cluster.patch(&path("a"), MERGE, &labels).await;
    assert_eq!((template.code, warnings(&template)), (200, vec![text.to_owned()]));
}

#[tokio::test]
async fn a_patch_cannot_take_the_metadata_away() {
    let cluster = Cluster::start().await;
    cluster.create(DAEMON_SETS, &daemon_set("a")).await.expect(201);
    let status = cluster
        .patch(&path("a"), MERGE, &json!({"metadata": null}))
        .await
        .expect(422);
    assert_eq!(
        status["message"],
        "DaemonSet.apps \"a\" is invalid: metadata.name: Invalid value: \"\": field is immutable"
    );
}

#[tokio::test]
async fn a_daemon_set_prints_as_kubectl_shows_it() {
    let cluster = Cluster::start().await;
    cluster.create(DAEMON_SETS, &daemon_set("a")).await.expect(201);
    let table = cluster.get_as(DAEMON_SETS, TABLE).await.expect(200);
    let columns: Vec<(String, i64)> = table["columnDefinitions"]
        .as_array()
        .unwrap()
        .iter()
        .map(|column| (text(&column["name"]), column["priority"].as_i64().unwrap()))
        .collect();
    let expected = [
        ("Name", 0),
        ("Desired", 0),
        ("Current", 0),
        ("Ready", 0),
        ("Up-to-date", 0),
        ("Available", 0),
        ("Node Selector", 0),
        ("Age", 0),
        ("Containers", 1),
        ("Images", 1),
        ("Selector", 1),
    ];
    assert_eq!(
        columns,
        expected.map(|(name, priority)| (name.to_owned(), priority))
    );
    let mut cells = table["rows"][0]["cells"].as_array().unwrap().clone();
    let age = text(&cells.remove(7));
    assert!(age.ends_with('s') || age.ends_with('m'), "{age}");
    assert_eq!(
        cells,
        [
            json!("a"),
            json!(0),
            json!(0),
            json!(0),
            json!(0),
            json!(0),
            json!("<none>"),
            json!("c"),
            json!("busybox:1"),
            json!("app=a"),
        ]
    );
}

#[tokio::test]
async fn a_controller_revision_is_an_ordinary_object_whose_data_stays() {
    let cluster = Cluster::start().await;
    let revision = json!({"kind": "ControllerRevision", "apiVersion": "apps/v1",
        "metadata": {"generateName": "a-"}, "data": {"spec": {"z": 1, "a": [2]}}, "revision": 1});
    let created = cluster.create(CONTROLLER_REVISIONS, &revision).await.expect(201);
    let path = format!("{CONTROLLER_REVISIONS}/{}", text(&created["metadata"]["name"]));
    let renumbered = cluster
        .patch(
            &path,
            MERGE,
            &json!({"revision": 4, "metadata": {"labels": {"x": "y"}}}),
        )
        .await
        .expect(200);
    assert_eq!(
        (&renumbered["revision"], &renumbered["data"]),
        (&json!(4), &revision["data"])
    );
    let status = cluster
        .patch(&path, MERGE, &json!({"data": {"spec": null}}))
        .await
        .expect(422);
    assert_eq!(causes(&status), [seen_as("data", "FieldValueInvalid")]);
    let table = cluster.get_as(CONTROLLER_REVISIONS, TABLE).await.expect(200);
    assert_eq!(
        table["rows"][0]["cells"].as_array().unwrap()[1..3],
        [json!("<none>"), json!(4)]
    );
}

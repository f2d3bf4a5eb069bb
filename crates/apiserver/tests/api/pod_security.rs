//! Pod Security admission, as clients use it.

use serde_json::{Value, json};

use crate::common::*;

const NAMESPACES: &str = "/api/v1/namespaces";

/// Creates a namespace with labels `pod-security.kubernetes.io/<mode>`.
async fn namespace(cluster: &Cluster, name: &str, labels: &[(&str, &str)]) -> Answer {
    let mut namespace = json!({"kind": "Namespace", "apiVersion": "v1", "metadata": {"name": name}});
    for (mode, level) in labels {
        namespace["metadata"]["labels"][format!("pod-security.kubernetes.io/{mode}")] = (*level).into();
    }
    let answer = cluster.create(NAMESPACES, &namespace).await;
    if answer.code == 201 {
        let account = json!({"kind": "ServiceAccount", "apiVersion": "v1", "metadata": {"name": "default"}});
        cluster
            .create(&format!("{NAMESPACES}/{name}/serviceaccounts"), &account)
            .await
            .expect(201);
    }
    answer
}

fn hardened(name: &str) -> Value {
    let mut hardened = pod(name);
    hardened["spec"]["securityContext"] =
        json!({"runAsNonRoot": true, "seccompProfile": {"type": "RuntimeDefault"}});
    hardened["spec"]["containers"][0]["securityContext"] =
        json!({"allowPrivilegeEscalation": false, "capabilities": {"drop": ["ALL"]}});
    hardened
}

/// Returns the texts of the response's warnings.
fn warnings(answer: &Answer) -> Vec<String> {
    answer
        .headers
        .get_all("warning")
        .iter()
        .map(|value| {
            let text = value.to_str().unwrap();
            let text = text
                .strip_prefix("299 - \"")
                .and_then(|text| text.strip_suffix('"'));
            text.unwrap().replace("\\\"", "\"")
        })
        .collect()
}

const OF_A_BARE_POD: &str = "PodSecurity \"restricted:latest\": allowPrivilegeEscalation != false (container \"c\" must set \
     securityContext.allowPrivilegeEscalation=false), unrestricted capabilities (container \"c\" must set \
     securityContext.capabilities.drop=[\"ALL\"]), runAsNonRoot != true (pod or container \"c\" must set \
     securityContext.runAsNonRoot=true), seccompProfile (pod or container \"c\" must set \
     securityContext.seccompProfile.type to \"RuntimeDefault\" or \"Localhost\")";

#[tokio::test]
async fn a_namespace_refuses_pods_that_violate_its_level() {
    let cluster = Cluster::start().await;
    namespace(&cluster, "team", &[("enforce", "restricted")])
        .await
        .expect(201);
    let pods = format!("{NAMESPACES}/team/pods");
    let refused = cluster.create(&pods, &pod("x")).await.expect(403);
    assert_eq!(refused["reason"], "Forbidden");
    assert_eq!(
        refused["message"],
        format!("pods \"x\" is forbidden: violates {OF_A_BARE_POD}")
    );
    let dry_run = cluster.create(&format!("{pods}?dryRun=All"), &pod("x")).await;
    assert_eq!(dry_run.code, 403);
    cluster.create(&pods, &hardened("x")).await.expect(201);
    // An update may change fields that do not matter for the level. Validation comes first, so an
    // invalid pod gets 422.
    let label = json!({"metadata": {"labels": {"a": "b"}}});
    cluster
        .patch(&format!("{pods}/x"), MERGE, &label)
        .await
        .expect(200);
    let mut invalid = pod("y");
    invalid["spec"]["containers"] = json!([]);
    assert_eq!(cluster.create(&pods, &invalid).await.code, 422);
    // A namespace without labels accepts every pod.
    let mut privileged = pod("x");
    privileged["spec"]["containers"][0]["securityContext"] = json!({"privileged": true});
    cluster.create(PODS, &privileged).await.expect(201);
}

#[tokio::test]
async fn an_image_is_not_changed_in_a_pod_that_violates() {
    let cluster = Cluster::start().await;
    namespace(&cluster, "team", &[]).await.expect(201);
    let pods = format!("{NAMESPACES}/team/pods");
    cluster.create(&pods, &pod("x")).await.expect(201);
    let level = json!({"metadata": {"labels": {"pod-security.kubernetes.io/enforce": "restricted"}}});
    cluster
        .patch(&format!("{NAMESPACES}/team"), MERGE, &level)
        .await
        .expect(200);
    let image = json!({"spec": {"containers": [{"name": "c", "image": "busybox:2"}]}});
    let path = format!("{pods}/x");
    assert_eq!(cluster.patch(&path, STRATEGIC, &image).await.code, 403);
    let finalizer = json!({"metadata": {"finalizers": ["example.com/x"]}});
    cluster.patch(&path, MERGE, &finalizer).await.expect(200);
}

#[tokio::test]
async fn workloads_are_warned_about_and_not_refused() {
    let cluster = Cluster::start().await;
    namespace(
        &cluster,
        "team",
        &[("enforce", "restricted"), ("warn", "restricted")],
    )
    .await
    .expect(201);
    let sets = "/apis/apps/v1/namespaces/team/daemonsets";
    let expected = [format!("would violate {OF_A_BARE_POD}")];
    let created = cluster.create(sets, &daemon_set("d")).await;
    assert_eq!((created.code, warnings(&created)), (201, expected.to_vec()));
    let label = json!({"metadata": {"labels": {"a": "b"}}});
    let changed = cluster.patch(&format!("{sets}/d"), MERGE, &label).await;
    assert_eq!((changed.code, warnings(&changed)), (200, expected.to_vec()));
    let mut good = daemon_set("good");
    good["spec"]["template"]["spec"] = hardened("x")["spec"].clone();
    assert!(warnings(&cluster.create(sets, &good).await).is_empty());
}

#[tokio::test]
async fn pods_are_warned_about_by_the_level_to_warn() {
    let cluster = Cluster::start().await;
    namespace(
        &cluster,
        "team",
        &[
            ("warn", "baseline"),
            ("warn-version", "v1.30"),
            ("audit", "restricted"),
        ],
    )
    .await
    .expect(201);
    let pods = format!("{NAMESPACES}/team/pods");
    let mut host = pod("x");
    host["spec"]["hostNetwork"] = true.into();
    let created = cluster.create(&pods, &host).await;
    assert_eq!(created.code, 201, "{}", created.text);
    assert_eq!(
        warnings(&created),
        ["would violate PodSecurity \"baseline:v1.30\": host namespaces (hostNetwork)"]
    );
    assert!(warnings(&cluster.create(&pods, &pod("y")).await).is_empty());
}

#[tokio::test]
async fn labels_that_mean_nothing_are_refused() {
    let cluster = Cluster::start().await;
    let refused = namespace(
        &cluster,
        "team",
        &[("enforce", "strict"), ("warn-version", "1.2")],
    )
    .await;
    let refused = refused.expect(422);
    assert_eq!(
        causes(&refused),
        [
            (
                "metadata.labels[pod-security.kubernetes.io/enforce]",
                "FieldValueInvalid"
            ),
            (
                "metadata.labels[pod-security.kubernetes.io/warn-version]",
                "FieldValueInvalid"
            ),
        ]
        .map(|(field, reason)| (field.to_owned(), reason.to_owned()))
    );
    namespace(&cluster, "team", &[]).await.expect(201);
    let label = json!({"metadata": {"labels": {"pod-security.kubernetes.io/audit": "all"}}});
    let path = format!("{NAMESPACES}/team");
    let refused = cluster.patch(&path, MERGE, &label).await.expect(422);
    assert_eq!(
        refused["message"],
        "Namespace \"team\" is invalid: metadata.labels[pod-security.kubernetes.io/audit]: Invalid value: \"all\": must be one of \
         privileged, baseline, restricted"
    );
}

#[tokio::test]
async fn a_stricter_namespace_warns_about_its_pods() {
    let cluster = Cluster::start().await;
    namespace(&cluster, "team", &[]).await.expect(201);
    let pods = format!("{NAMESPACES}/team/pods");
    for name in ["b", "a"] {
        let mut host = pod(name);
        host["spec"]["hostPID"] = true.into();
        cluster.create(&pods, &host).await.expect(201);
    }
    cluster.create(&pods, &hardened("good")).await.expect(201);
    let path = format!("{NAMESPACES}/team");
    let level = |level: &str| json!({"metadata": {"labels": {"pod-security.kubernetes.io/enforce": level}}});
    let tightened = cluster.patch(&path, MERGE, &level("baseline")).await;
    assert_eq!(tightened.code, 200);
    assert_eq!(
        warnings(&tightened),
        [
            "existing pods in namespace \"team\" violate the new PodSecurity enforce level \"baseline:latest\"",
            "a (and 1 other pod): host namespaces",
        ]
    );
    let relaxed = cluster.patch(&path, MERGE, &level("privileged")).await;
    assert_eq!((relaxed.code, warnings(&relaxed)), (200, Vec::new()));
}

#[tokio::test]
async fn a_pod_of_a_runtime_class_that_is_not_there_is_refused() {
    let cluster = Cluster::start().await;
    let mut nvidia = pod("x");
    nvidia["spec"]["runtimeClassName"] = "nvidia".into();
    let refused = cluster.create(PODS, &nvidia).await.expect(403);
    assert_eq!(
        refused["message"],
        "pods \"x\" is forbidden: pod rejected: RuntimeClass \"nvidia\" not found"
    );
}

#[tokio::test]
async fn a_negative_grace_period_becomes_a_second() {
    let cluster = Cluster::start().await;
    let mut hasty = pod("x");
    hasty["spec"]["terminationGracePeriodSeconds"] = (-1).into();
    let created = cluster.create(PODS, &hasty).await;
    assert_eq!(created.json["spec"]["terminationGracePeriodSeconds"], 1);
    let warned = warnings(&created);
    assert!(
        warned
            .iter()
            .any(|text| text.contains("terminationGracePeriodSeconds")),
        "{warned:?}"
    );
}

//! Roles and bindings: the rights that they give, who may grant them, and access reviews.

use apiserver::User;
use http::{Method, Request};
use http_body_util::BodyExt;
use serde_json::{Value, json};

use crate::common::*;

const REVIEWS: &str = "/apis/authorization.k8s.io/v1";

/// Sends a request as `user`, and returns the code and the message.
async fn ask(cluster: &Cluster, user: User, method: Method, path: &str, body: &Value) -> (u16, Value) {
    let content_type = if method == Method::PATCH { MERGE } else { JSON };
    let body = if body.is_null() {
        String::new()
    } else {
        body.to_string()
    };
    let request = Request::builder()
        .method(method)
        .uri(path)
        .header("content-type", content_type)
        .body(kube::client::Body::from(body.into_bytes()))
        .unwrap();
    let response = cluster.server.client(user).send(request).await.unwrap();
    let code = response.status().as_u16();
    let bytes = response.into_body().collect().await.unwrap().to_bytes();
    (code, serde_json::from_slice(&bytes).unwrap_or_default())
}

async fn get(cluster: &Cluster, user: &str, path: &str) -> (u16, String) {
    let (code, answer) = ask(cluster, User::new(user, &[]), Method::GET, path, &Value::Null).await;
    (code, text(&answer["message"]))
}

fn user(name: &str) -> Value {
    json!([{"kind": "User", "name": name}])
}

fn role(name: &str, rules: Value) -> Value {
    json!({"kind": "Role", "apiVersion": "rbac.authorization.k8s.io/v1", "metadata": {"name": name}, "rules": rules})
}

fn binding(name: &str, (kind, role): (&str, &str), subjects: Value) -> Value {
    json!({
        "kind": "RoleBinding", "apiVersion": "rbac.authorization.k8s.io/v1", "metadata": {"name": name},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": kind, "name": role}, "subjects": subjects,
    })
}

#[tokio::test]
async fn who_has_no_role_hears_what_he_cannot() {
    let cluster = Cluster::start().await;
    let (code, message) = get(&cluster, "jane", PODS).await;
    assert_eq!(
        (code, message.as_str()),
        (
            403,
            r#"pods is forbidden: User "jane" cannot list resource "pods" in API group "" in the namespace "default""#
        )
    );
    let (code, message) = get(&cluster, "jane", "/api/v1/nodes/n").await;
    assert_eq!(
        (code, message.as_str()),
        (
            403,
            r#"nodes "n" is forbidden: User "jane" cannot get resource "nodes" in API group "" at the cluster scope"#
        )
    );
    let (code, message) = get(&cluster, "jane", "/metrics").await;
    assert_eq!(
        (code, message.as_str()),
        (403, r#"forbidden: User "jane" cannot get path "/metrics""#)
    );
    // Every authenticated user may read discovery and review their own rights.
    for path in ["/api", "/apis", "/api/v1", "/openapi/v3", "/version"] {
        assert_eq!(get(&cluster, "jane", path).await.0, 200, "{path}");
    }
    // Only users with rights on a resource get 404 if it is not served. Others get 403.
    cluster.bind("", "view", user("jane")).await;
    assert_eq!(get(&cluster, "jane", "/apis/apps/v1/deployments").await.0, 404);
    assert_eq!(get(&cluster, "jane", "/apis/example.com/v1/things").await.0, 403);
    assert_eq!(get(&cluster, "jane", "/nothing").await.0, 403);
}

#[tokio::test]
async fn a_binding_gives_its_role_at_once_and_takes_it_back_at_once() {
    let cluster = Cluster::start().await;
    let bindings = format!("{RBAC}/namespaces/default/rolebindings");
    for _ in 0..3 {
        let object = binding("b", ("ClusterRole", "view"), user("jane"));
        cluster.create(&bindings, &object).await.expect(201);
        assert_eq!(get(&cluster, "jane", PODS).await.0, 200);
        assert_eq!(get(&cluster, "jane", "/api/v1/namespaces/default").await.0, 200);
        assert_eq!(
            get(&cluster, "jane", "/api/v1/namespaces/default/secrets")
                .await
                .0,
            403
        );
        assert_eq!(get(&cluster, "jane", "/api/v1/pods").await.0, 403);
        assert_eq!(
            get(&cluster, "jane", "/api/v1/namespaces/kube-system/pods")
                .await
                .0,
            403
        );
        cluster
            .delete(&format!("{bindings}/b"), &Value::Null)
            .await
            .expect(200);
        assert_eq!(get(&cluster, "jane", PODS).await.0, 403);
    }
}

#[tokio::test]
async fn a_name_in_a_rule_is_met_by_a_selector_of_that_name() {
    let cluster = Cluster::start().await;
    let rules = json!([{"verbs": ["get", "list", "watch"], "apiGroups": [""], "resources": ["configmaps"], "resourceNames": ["a"]}]);
    cluster
        .create(&format!("{RBAC}/namespaces/default/roles"), &role("r", rules))
        .await
        .expect(201);
    let object = binding("b", ("Role", "r"), user("jane"));
    cluster
        .create(&format!("{RBAC}/namespaces/default/rolebindings"), &object)
        .await
        .expect(201);
    assert_eq!(get(&cluster, "jane", &format!("{CONFIG_MAPS}/a")).await.0, 404);
    assert_eq!(
        get(
            &cluster,
            "jane",
            &format!("{CONFIG_MAPS}?fieldSelector=metadata.name%3Da")
        )
        .await
        .0,
        200
    );
    for path in [
        "",
        "/b",
        "?fieldSelector=metadata.name%3Db",
        "?fieldSelector=metadata.name%21%3Da",
    ] {
        assert_eq!(
            get(&cluster, "jane", &format!("{CONFIG_MAPS}{path}")).await.0,
            403,
            "{path}"
        );
    }
}

#[tokio::test]
async fn nobody_gives_what_he_does_not_have() {
    let cluster = Cluster::start().await;
    cluster.bind("default", "admin", user("jane")).await;
    let jane = || User::new("jane", &[]);
    let (roles, bindings) = (
        format!("{RBAC}/namespaces/default/roles"),
        format!("{RBAC}/namespaces/default/rolebindings"),
    );
    let post = async |path: &str, object: Value| ask(&cluster, jane(), Method::POST, path, &object).await;
    let pods = json!([{"verbs": ["get"], "apiGroups": [""], "resources": ["pods"]}]);
    assert_eq!(post(&roles, role("own", pods)).await.0, 201);
    let storage = json!([{"verbs": ["get", "list"], "apiGroups": [""], "resources": ["persistentvolumes"]}]);
    let (code, answer) = post(&roles, role("more", storage.clone())).await;
    assert_eq!(
        (code, text(&answer["message"]).as_str()),
        (
            403,
            "roles.rbac.authorization.k8s.io \"more\" is forbidden: user \"jane\" (groups=[\"system:authenticated\"]) is attempting to \
               grant RBAC permissions not currently held:\n{APIGroups:[\"\"], Resources:[\"persistentvolumes\"], Verbs:[\"get\" \"list\"]}"
        )
    );
    let more = json!({"rules": storage});
    assert_eq!(
        ask(&cluster, jane(), Method::PATCH, &format!("{roles}/own"), &more)
            .await
            .0,
        403
    );
    assert_eq!(
        ask(
            &cluster,
            jane(),
            Method::PUT,
            &format!("{roles}/new"),
            &role("new", more["rules"].clone())
        )
        .await
        .0,
        403
    );
    assert_eq!(
        post(&bindings, binding("a", ("Role", "own"), user("bob")))
            .await
            .0,
        201
    );
    assert_eq!(
        post(&bindings, binding("b", ("ClusterRole", "view"), user("bob")))
            .await
            .0,
        201
    );
    assert_eq!(
        post(
            &bindings,
            binding("c", ("ClusterRole", "cluster-admin"), user("jane"))
        )
        .await
        .0,
        403
    );
    assert_eq!(
        post(&bindings, binding("d", ("Role", "none"), user("jane")))
            .await
            .0,
        404
    );
    // A user may change the labels of a role with more rights than their own, because that grants
    // nothing.
    cluster
        .create(
            &roles,
            &role(
                "strong",
                json!([{"verbs": ["*"], "apiGroups": ["*"], "resources": ["*"]}]),
            ),
        )
        .await
        .expect(201);
    let label = json!({"metadata": {"labels": {"a": "b"}}});
    assert_eq!(
        ask(
            &cluster,
            jane(),
            Method::PATCH,
            &format!("{roles}/strong"),
            &label
        )
        .await
        .0,
        200
    );

    // A user with `bind` may grant a role without having its rights. A user with `escalate` may
    // write any role.
    let rules = json!([
        {"verbs": ["bind"], "apiGroups": ["rbac.authorization.k8s.io"], "resources": ["clusterroles"], "resourceNames": ["system:node"]},
        {"verbs": ["escalate"], "apiGroups": ["rbac.authorization.k8s.io"], "resources": ["roles"]},
    ]);
    cluster.create(&roles, &role("giver", rules)).await.expect(201);
    cluster
        .create(&bindings, &binding("giver", ("Role", "giver"), user("jane")))
        .await
        .expect(201);
    assert_eq!(
        post(
            &bindings,
            binding("e", ("ClusterRole", "system:node"), user("bob"))
        )
        .await
        .0,
        201
    );
    assert_eq!(
        post(
            &bindings,
            binding("f", ("ClusterRole", "cluster-admin"), user("bob"))
        )
        .await
        .0,
        403
    );
    assert_eq!(post(&roles, role("more", storage)).await.0, 201);
}

#[tokio::test]
async fn identities_are_taken_by_the_right_to_impersonate() {
    let cluster = Cluster::start().await;
    let rules = json!([
        {"verbs": ["impersonate"], "apiGroups": [""], "resources": ["users"], "resourceNames": ["bob"]},
        {"verbs": ["impersonate"], "apiGroups": [""], "resources": ["groups"], "resourceNames": ["devs"]},
        {"verbs": ["impersonate"], "apiGroups": ["authentication.k8s.io"], "resources": ["userextras/scopes"], "resourceNames": ["view"]},
    ]);
    let mut object = role("actor", rules);
    object["kind"] = "ClusterRole".into();
    cluster
        .create(&format!("{RBAC}/clusterroles"), &object)
        .await
        .expect(201);
    cluster.bind("", "actor", user("jane")).await;
    let act = async |headers: &[(&str, &str)]| {
        let review = json!({"kind": "SelfSubjectReview", "apiVersion": "authentication.k8s.io/v1"});
        let mut request =
            Request::post("/apis/authentication.k8s.io/v1/selfsubjectreviews").header("content-type", JSON);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let request = request
            .body(kube::client::Body::from(review.to_string().into_bytes()))
            .unwrap();
        let response = cluster
            .server
            .client(User::new("jane", &[]))
            .send(request)
            .await
            .unwrap();
        let code = response.status().as_u16();
        let bytes = response.into_body().collect().await.unwrap().to_bytes();
        (code, serde_json::from_slice::<Value>(&bytes).unwrap())
    };
    let (code, answer) = act(&[
        ("impersonate-user", "bob"),
        ("impersonate-group", "devs"),
        ("impersonate-extra-scopes", "view"),
    ])
    .await;
    assert_eq!(code, 201, "{answer}");
    assert_eq!(
        answer["status"]["userInfo"],
        json!({"username": "bob", "groups": ["devs", "system:authenticated"], "extra": {"scopes": ["view"]}})
    );
    for (headers, refused) in [
        (
            vec![("impersonate-user", "eve")],
            r#"users "eve" is forbidden: User "jane" cannot impersonate resource "users" in API group "" at the cluster scope"#,
        ),
        (
            vec![
                ("impersonate-user", "bob"),
                ("impersonate-group", "system:masters"),
            ],
            r#"groups "system:masters" is forbidden: User "jane" cannot impersonate resource "groups" in API group "" at the cluster scope"#,
        ),
        (
            vec![("impersonate-user", "bob"), ("impersonate-uid", "1")],
            r#"uids.authentication.k8s.io "1" is forbidden: User "jane" cannot impersonate resource "uids" in API group "authentication.k8s.io" at the cluster scope"#,
        ),
        (
            vec![("impersonate-user", "bob"), ("impersonate-extra-scopes", "all")],
            r#"userextras.authentication.k8s.io "all" is forbidden: User "jane" cannot impersonate resource "userextras/scopes" in API group "authentication.k8s.io" at the cluster scope"#,
        ),
    ] {
        let (code, answer) = act(&headers).await;
        assert_eq!((code, text(&answer["message"]).as_str()), (403, refused));
    }
}

#[tokio::test]
async fn reviews_answer_what_would_be_allowed() {
    let cluster = Cluster::start().await;
    cluster.bind("default", "view", user("jane")).await;
    let attributes = |namespace: &str, resource: &str| json!({"verb": "list", "resource": resource, "namespace": namespace});
    let review = |kind: &str, spec: Value| json!({"kind": kind, "apiVersion": "authorization.k8s.io/v1", "spec": spec});
    for (namespace, resource, allowed) in [
        ("default", "pods", true),
        ("default", "secrets", false),
        ("", "pods", false),
    ] {
        let own = review(
            "SelfSubjectAccessReview",
            json!({"resourceAttributes": attributes(namespace, resource)}),
        );
        let path = format!("{REVIEWS}/selfsubjectaccessreviews");
        let (code, answer) = ask(&cluster, User::new("jane", &[]), Method::POST, &path, &own).await;
        assert_eq!(
            (code, &answer["status"]["allowed"]),
            (201, &json!(allowed)),
            "{answer}"
        );
        let other = review(
            "SubjectAccessReview",
            json!({"user": "jane", "resourceAttributes": attributes(namespace, resource)}),
        );
        let answer = cluster
            .create(&format!("{REVIEWS}/subjectaccessreviews"), &other)
            .await
            .expect(201);
        assert_eq!(answer["status"]["allowed"], allowed, "{answer}");
        if allowed {
            let reason = text(&answer["status"]["reason"]);
            assert!(
                reason.starts_with("RBAC: allowed by RoleBinding \"test-"),
                "{reason}"
            );
            assert!(
                reason.ends_with("/default\" of ClusterRole \"view\" to User \"jane\""),
                "{reason}"
            );
        }
    }
    let local = review(
        "LocalSubjectAccessReview",
        json!({"user": "jane", "resourceAttributes": attributes("default", "pods")}),
    );
    let path = |namespace: &str| format!("{REVIEWS}/namespaces/{namespace}/localsubjectaccessreviews");
    let answer = cluster.create(&path("default"), &local).await.expect(201);
    assert_eq!(answer["status"]["allowed"], true);
    assert_eq!(cluster.create(&path("kube-system"), &local).await.code, 422);
    let nobody = review(
        "SubjectAccessReview",
        json!({"resourceAttributes": attributes("", "pods")}),
    );
    assert_eq!(
        cluster
            .create(&format!("{REVIEWS}/subjectaccessreviews"), &nobody)
            .await
            .code,
        422
    );

    let rules = review("SelfSubjectRulesReview", json!({"namespace": "default"}));
    let path = format!("{REVIEWS}/selfsubjectrulesreviews");
    let (_, answer) = ask(&cluster, User::new("jane", &[]), Method::POST, &path, &rules).await;
    let status = &answer["status"];
    assert_eq!(status["incomplete"], false);
    let lists = |rule: &Value| {
        rule["resources"]
            .as_array()
            .is_some_and(|resources| resources.contains(&json!("pods")))
    };
    assert!(
        status["resourceRules"].as_array().unwrap().iter().any(lists),
        "{status}"
    );
    assert!(
        !status["nonResourceRules"].as_array().unwrap().is_empty(),
        "{status}"
    );
    let (_, answer) = ask(&cluster, User::node("n"), Method::POST, &path, &rules).await;
    assert_eq!(answer["status"]["incomplete"], true);
}

#[tokio::test]
async fn what_creates_needs_the_right_to_create() {
    let cluster = Cluster::start().await;
    let rules = json!([
        {"verbs": ["update"], "apiGroups": [""], "resources": ["services"]},
        {"verbs": ["get"], "apiGroups": [""], "resources": ["pods/exec"]},
    ]);
    cluster
        .create(&format!("{RBAC}/namespaces/default/roles"), &role("r", rules))
        .await
        .expect(201);
    let object = binding("b", ("Role", "r"), user("jane"));
    cluster
        .create(&format!("{RBAC}/namespaces/default/rolebindings"), &object)
        .await
        .expect(201);
    let service = json!({"kind": "Service", "apiVersion": "v1", "metadata": {"name": "s"}, "spec": {"ports": [{"port": 80}]}});
    let path = "/api/v1/namespaces/default/services/s";
    let (code, answer) = ask(&cluster, User::new("jane", &[]), Method::PUT, path, &service).await;
    assert_eq!(code, 403, "{answer}");
    assert!(
        text(&answer["message"]).contains("cannot create resource \"services\""),
        "{answer}"
    );
    // A WebSocket starts with GET, but it runs a command.
    let (code, message) = get(&cluster, "jane", &format!("{PODS}/p/exec?command=ls&stdout=1")).await;
    assert_eq!(code, 403);
    assert!(
        message.contains("cannot create resource \"pods/exec\""),
        "{message}"
    );
}

#[tokio::test]
async fn default_roles_get_what_they_lack_at_the_next_start() {
    let cluster = Cluster::start().await;
    let path = |name: &str| format!("{RBAC}/clusterroles/{name}");
    let bindings = format!("{RBAC}/clusterrolebindings");
    cluster
        .patch(&path("system:discovery"), MERGE, &json!({"rules": []}))
        .await
        .expect(200);
    let own = json!({"metadata": {"annotations": {"rbac.authorization.kubernetes.io/autoupdate": "false"}}, "rules": []});
    cluster
        .patch(&path("system:basic-user"), MERGE, &own)
        .await
        .expect(200);
    cluster
        .delete(&format!("{bindings}/system:discovery"), &Value::Null)
        .await
        .expect(200);
    assert_eq!(get(&cluster, "jane", "/api").await.0, 403);
    let cluster = cluster.restart().await;
    assert_eq!(get(&cluster, "jane", "/api").await.0, 200);
    let basic = cluster.get(&path("system:basic-user")).await.expect(200);
    assert!(basic["rules"].as_array().is_none_or(Vec::is_empty), "{basic}");
}

//! Mistakes of users, and the errors that they get: those of a Kubernetes API server.

use anyhow::{Context, Result};
use http::{Method, Request};
use http_body_util::BodyExt;
use kube::Client;
use kube::client::Body;
use kube::config::{KubeConfigOptions, Kubeconfig};
use serde_json::{Value, json};
use testkit::{FLUENTD, Process, kubectls};

const DAEMON_SETS: &str = "/apis/apps/v1/namespaces/kube-system/daemonsets";
const JSON: &str = "application/json";

/// Sends bytes as they are and gives the code and the Status.
struct Raw {
    runtime: tokio::runtime::Runtime,
    client: Client,
}

impl Raw {
    fn new(server: &Process) -> Result<Self> {
        let runtime = tokio::runtime::Runtime::new()?;
        let kubeconfig = Kubeconfig::read_from(server.kubeconfig()).context("read the kubeconfig")?;
        let client = runtime.block_on(async {
            let config =
                kube::Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await?;
            anyhow::Ok(Client::try_from(config)?)
        })?;
        Ok(Self { runtime, client })
    }

    fn send(
        &self,
        method: Method,
        path: &str,
        content_type: &str,
        body: impl Into<Vec<u8>>,
    ) -> Result<(u16, Value)> {
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header("content-type", content_type);
        let request = request.body(Body::from(body.into()))?;
        self.runtime.block_on(async {
            let response = self.client.send(request).await.context("send")?;
            let code = response.status().as_u16();
            let body = response
                .into_body()
                .collect()
                .await
                .context("read the answer")?
                .to_bytes();
            Ok((
                code,
                serde_json::from_slice(&body).with_context(|| String::from_utf8_lossy(&body).into_owned())?,
            ))
        })
    }
}

/// The seed's DaemonSet as JSON, named `name`.
fn daemon_set(name: &str) -> Value {
    json!({
        "apiVersion": "apps/v1", "kind": "DaemonSet", "metadata": {"name": name, "namespace": "kube-system"},
        "spec": {
            "selector": {"matchLabels": {"name": "x"}},
            "template": {
                "metadata": {"labels": {"name": "x"}},
                "spec": {"containers": [{"name": "x", "image": "example.com/x:1"}]},
            },
        },
    })
}

fn with(change: impl FnOnce(&mut Value)) -> Value {
    let mut object = daemon_set("x");
    change(&mut object);
    object
}

#[test]
fn each_mistake_in_a_daemon_set_is_named_as_kubernetes_names_it() -> Result<()> {
    let server = Process::start(super::binary(), "server", &[])?;
    let raw = Raw::new(&server)?;
    let invalid = |detail: &str| format!("DaemonSet.apps \"x\" is invalid: {detail}");
    let cases: Vec<(&str, Value, u16, String)> = vec![
        (
            "a selector that does not match the template",
            with(|object| object["spec"]["selector"]["matchLabels"] = json!({"name": "y"})),
            422,
            invalid("spec.template.metadata.labels: Invalid value: {\"name\":\"x\"}: `selector` does not match template `labels`"),
        ),
        (
            "a restart policy other than Always",
            with(|object| object["spec"]["template"]["spec"]["restartPolicy"] = "Never".into()),
            422,
            invalid("spec.template.spec.restartPolicy: Unsupported value: \"Never\": supported values: \"Always\""),
        ),
        (
            "a negative number of seconds",
            with(|object| object["spec"]["minReadySeconds"] = (-1).into()),
            422,
            invalid("spec.minReadySeconds: Invalid value: -1: must be greater than or equal to 0"),
        ),
        (
            "surge and unavailable both zero",
            with(|object| object["spec"]["updateStrategy"] = json!({"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": 0, "maxSurge": 0}})),
            422,
            invalid("spec.updateStrategy.rollingUpdate.maxUnavailable: Required value: cannot be 0 when maxSurge is 0"),
        ),
        (
            "an empty selector",
            with(|object| object["spec"]["selector"] = json!({})),
            422,
            "spec.selector: Invalid value: {}: empty selector is invalid for daemonset".to_owned(),
        ),
        (
            "a name that is no DNS subdomain",
            with(|object| object["metadata"]["name"] = "Bad_Name".into()),
            422,
            "DaemonSet.apps \"Bad_Name\" is invalid: metadata.name: Invalid value: \"Bad_Name\": a lowercase RFC 1123 subdomain must consist of".to_owned(),
        ),
        (
            "a wrong type",
            with(|object| object["spec"]["minReadySeconds"] = "ten".into()),
            400,
            "json: cannot unmarshal string into Go struct field DaemonSetSpec.spec.minReadySeconds of type int32".to_owned(),
        ),
        (
            "no namespace of that name",
            with(|object| object["metadata"]["namespace"] = "elsewhere".into()),
            400,
            "the namespace of the provided object does not match the namespace sent on the request".to_owned(),
        ),
    ];
    for (what, object, code, message) in cases {
        let (answered, status) = raw.send(Method::POST, DAEMON_SETS, JSON, object.to_string())?;
        let said = status["message"].as_str().unwrap_or_default();
        assert_eq!(
            (answered, status["kind"].as_str()),
            (code, Some("Status")),
            "{what}: {status}"
        );
        assert!(
            said.contains(&message),
            "{what}:\n  said   {said}\n  wanted {message}"
        );
    }
    Ok(())
}

#[test]
fn bodies_that_are_no_objects_are_refused_whole() -> Result<()> {
    let server = Process::start(super::binary(), "server", &[])?;
    let raw = Raw::new(&server)?;
    let protobuf = "application/vnd.kubernetes.protobuf";
    let deep = format!("{}{}", "{\"a\":".repeat(100_000), "1");
    let huge = format!(
        "{{\"apiVersion\":\"apps/v1\",\"kind\":\"DaemonSet\",\"x\":\"{}\"}}",
        "x".repeat(4 << 20)
    );
    let cases: Vec<(&str, &str, Vec<u8>, u16)> = vec![
        ("an empty body", JSON, Vec::new(), 400),
        ("half an object", JSON, b"{\"kind\":".to_vec(), 400),
        (
            "bytes that are no UTF-8",
            JSON,
            b"{\"kind\":\"\xff\xfe\"}".to_vec(),
            400,
        ),
        ("a deep object", JSON, deep.into_bytes(), 400),
        ("four mebibytes", JSON, huge.into_bytes(), 413),
        (
            "another kind",
            JSON,
            br#"{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"x"}}"#.to_vec(),
            400,
        ),
        ("no protobuf envelope", protobuf, b"k8s\0garbage".to_vec(), 400),
        ("protobuf without its magic", protobuf, b"garbage".to_vec(), 400),
        ("an unknown media type", "text/csv", b"a,b".to_vec(), 415),
        ("YAML that is none", "application/yaml", b"a: [".to_vec(), 400),
    ];
    for (what, content_type, body, code) in cases {
        let (answered, status) = raw.send(Method::POST, DAEMON_SETS, content_type, body)?;
        assert_eq!(
            (answered, status["kind"].as_str()),
            (code, Some("Status")),
            "{what}: {status}"
        );
        assert!(
            !status["message"].as_str().unwrap_or_default().is_empty(),
            "{what}: {status}"
        );
    }
    let (_, list) = raw.send(Method::GET, DAEMON_SETS, JSON, "")?;
    assert_eq!(list["items"], json!([]), "nothing was stored");
    Ok(())
}

#[test]
fn a_write_on_old_knowledge_is_a_conflict_and_loses_nothing() -> Result<()> {
    let server = Process::start(super::binary(), "server", &[])?;
    let raw = Raw::new(&server)?;
    let (code, created) = raw.send(Method::POST, DAEMON_SETS, JSON, daemon_set("x").to_string())?;
    assert_eq!(code, 201, "{created}");
    let path = format!("{DAEMON_SETS}/x");
    let (_, changed) = raw.send(
        Method::PATCH,
        &path,
        "application/merge-patch+json",
        r#"{"metadata":{"labels":{"a":"1"}}}"#,
    )?;
    assert_eq!(changed["metadata"]["labels"]["a"], "1");
    let (code, status) = raw.send(Method::PUT, &path, JSON, created.to_string())?;
    assert_eq!(
        (code, status["reason"].as_str()),
        (409, Some("Conflict")),
        "{status}"
    );
    assert_eq!(
        status["message"],
        "Operation cannot be fulfilled on daemonsets.apps \"x\": the object has been modified; please apply your changes to the latest version and try again"
    );
    let (_, held) = raw.send(Method::GET, &path, JSON, "")?;
    assert_eq!(held["metadata"]["labels"]["a"], "1");
    let (code, status) = raw.send(Method::POST, DAEMON_SETS, JSON, daemon_set("x").to_string())?;
    assert_eq!(
        (code, status["message"].as_str()),
        (409, Some("daemonsets.apps \"x\" already exists"))
    );
    Ok(())
}

#[test]
fn unknown_and_duplicate_fields_are_refused_under_strict_and_told_under_warn() -> Result<()> {
    let server = Process::start(super::binary(), "server", &[])?;
    let raw = Raw::new(&server)?;
    let strict = format!("{DAEMON_SETS}?fieldValidation=Strict");
    let unknown = with(|object| object["spec"]["foo"] = 1.into());
    let (code, status) = raw.send(Method::POST, &strict, JSON, unknown.to_string())?;
    assert_eq!(code, 400, "{status}");
    let said = status["message"].as_str().unwrap_or_default();
    assert!(
        said.ends_with("strict decoding error: unknown field \"spec.foo\""),
        "{said}"
    );
    let duplicate =
        daemon_set("x")
            .to_string()
            .replacen("{\"name\":\"x\"", "{\"name\":\"x\",\"name\":\"x\"", 1);
    let (code, status) = raw.send(Method::POST, &strict, JSON, duplicate)?;
    assert_eq!(code, 400, "{status}");
    assert!(
        status["message"]
            .as_str()
            .unwrap_or_default()
            .contains("duplicate field"),
        "{status}"
    );
    let (code, created) = raw.send(
        Method::POST,
        &format!("{DAEMON_SETS}?fieldValidation=Warn"),
        JSON,
        unknown.to_string(),
    )?;
    assert_eq!(
        (code, &created["spec"]["foo"]),
        (201, &Value::Null),
        "the field is dropped"
    );
    Ok(())
}

#[test]
fn a_manifest_without_indentation_is_refused_and_nothing_of_it_is_stored() -> Result<()> {
    let server = Process::start(super::binary(), "server", &[])?;
    let flat: String = FLUENTD
        .lines()
        .map(|line| format!("{}\n", line.trim_start()))
        .collect();
    let path = server.folder().join("daemon.yml");
    std::fs::write(&path, flat).context("write the manifest")?;
    let file = path.display().to_string();
    for program in kubectls().into_iter().chain([super::binary().to_owned()]) {
        let refused = server.client_at(&program).run(&["create", "-f", &file]);
        assert!(!refused.success, "{}", program.display());
        // Each client reads YAML with a parser of its own, and stumbles over another line of it; ours says what is wrong with them all.
        let named = [
            "none of its lines is indented",
            "error converting YAML to JSON",
            "already defined",
            "duplicate",
        ]
        .iter()
        .any(|word| refused.stderr.contains(word));
        assert!(named, "{}: {}", program.display(), refused.stderr);
    }
    let stored = server.client().ok(&["get", "ds", "-A", "-o", "name"]);
    assert_eq!(stored, "");
    Ok(())
}

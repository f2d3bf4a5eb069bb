//! Kubeconfigs: those that `everynode kubeconfig` makes, and what a verb prints when one does not fit.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use anyhow::{Context, Result};
use testkit::{Client, Process};

fn server() -> Result<Process> {
    Process::start(super::binary(), "server", &[])
}

fn url(server: &Process) -> String {
    format!("https://127.0.0.1:{}", server.port())
}

/// A client with another kubeconfig.
fn client(kubeconfig: &Path) -> Client {
    Client::new(super::binary(), kubeconfig)
}

#[track_caller]
fn refusal(client: &Client, words: &[&str]) -> String {
    let output = client.run(words);
    assert!(!output.success, "{words:?} printed {}", output.stdout);
    output.stderr
}

fn bind(server: &Process, subject: &str) -> Result<()> {
    let file = server.folder().join("binding.yaml");
    let text = format!(
        "apiVersion: rbac.authorization.k8s.io/v1\nkind: ClusterRoleBinding\nmetadata: {{name: test}}\n\
         roleRef: {{apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: view}}\nsubjects: [{subject}]\n"
    );
    std::fs::write(&file, text).context("write the binding")?;
    server.client().ok(&["apply", "-f", &file.display().to_string()]);
    Ok(())
}

#[test]
fn kubeconfig_of_a_user_has_the_rights_of_its_groups() -> Result<()> {
    let server = server()?;
    let file = server.folder().join("jane.kubeconfig");
    let path = file.display().to_string();
    let url = url(&server);
    let words = [
        "kubeconfig",
        "--user",
        "jane",
        "--group",
        "ops",
        "--group",
        "night",
        "--file",
        &path,
        "--server",
        &url,
    ];
    server.client().ok(&words);
    assert_eq!(file.metadata()?.permissions().mode() & 0o777, 0o600);
    let jane = client(&file);
    let said = refusal(&jane, &["get", "pods"]);
    assert!(
        said.contains("User \"jane\" cannot list resource \"pods\""),
        "{said}"
    );
    bind(
        &server,
        "{kind: Group, name: night, apiGroup: rbac.authorization.k8s.io}",
    )?;
    jane.ok(&["get", "pods", "-A"]);
    let said = refusal(&jane, &["delete", "namespace", "default"]);
    assert!(said.contains("forbidden"), "{said}");
    let third = [&words[..], &["--group", "third"]].concat();
    assert!(
        refusal(&server.client(), &third).contains("cannot name 3 organizations (groups): it can name 2")
    );
    let said = refusal(
        &server.client(),
        &["kubeconfig", "--user", "eve", "--group", "system:masters"],
    );
    assert!(said.contains("system:masters"), "{said}");
    Ok(())
}

#[test]
fn kubeconfig_of_a_service_account_uses_its_token() -> Result<()> {
    let server = server()?;
    let words = ["kubeconfig", "--service-account", "default", "--days", "1"];
    // The server listens on loopback only, and the warning says so.
    let warned = server.client().run(&words).stderr;
    assert!(
        warned.contains("Warning: nothing answers at https://"),
        "{warned}"
    );
    let text = server
        .client()
        .ok(&[&words[..], &["--server", &url(&server)]].concat());
    let file = server.folder().join("default.kubeconfig");
    std::fs::write(&file, text).context("write the kubeconfig")?;
    let account = client(&file);
    let said = refusal(&account, &["get", "nodes"]);
    assert!(said.contains("system:serviceaccount:default:default"), "{said}");
    bind(
        &server,
        "{kind: ServiceAccount, name: default, namespace: default}",
    )?;
    account.ok(&["get", "daemonsets"]);
    let said = refusal(&server.client(), &["kubeconfig", "--service-account", "nope"]);
    assert!(said.contains("\"nope\" not found"), "{said}");
    Ok(())
}

#[test]
fn secret_in_a_file_that_others_can_read_is_warned_of() -> Result<()> {
    let server = server()?;
    for (mode, warns) in [(0o644, true), (0o600, false)] {
        let path = server.folder().join(format!("token-{mode:o}"));
        let file = std::fs::File::create(&path).context("create the file")?;
        file.set_permissions(std::fs::Permissions::from_mode(mode))?;
        let mut command = server.client().command(&["token", "create", "--quiet"]);
        let output = command.stdout(file).output().context("run the verb")?;
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(said.contains("other users can read"), warns, "{said}");
    }
    Ok(())
}

#[test]
fn log_filter_with_a_mistake_is_an_error() {
    let output = std::process::Command::new(super::binary())
        .args(["get", "nodes"])
        .env("EVERYNODE_LOG", "inof")
        .output()
        .expect("run the verb");
    assert_eq!(output.status.code(), Some(2));
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(said.contains("\"inof\" is no level"), "{said}");
}

#[test]
fn connection_errors_name_the_address_the_file_and_the_cause() -> Result<()> {
    let (mut one, other) = (server()?, server()?);
    let text = std::fs::read_to_string(one.kubeconfig()).context("read the kubeconfig")?;
    let file = one.folder().join("k");
    let from = file.display().to_string();

    let said = refusal(&client(&file), &["get", "nodes"]);
    assert!(said.contains(&from) && said.contains("No such file"), "{said}");

    std::fs::write(&file, &text).context("write the kubeconfig")?;
    let said = refusal(&client(&file), &["get", "nodes", "--context", "nope"]);
    assert!(
        said.contains("context \"nope\" is not in ") && said.contains("it has: "),
        "{said}"
    );

    let foreign = text.replace(&format!(":{}", one.port()), &format!(":{}", other.port()));
    std::fs::write(&file, &foreign).context("write the kubeconfig")?;
    let said = refusal(&client(&file), &["get", "nodes"]);
    let wanted = format!(
        "{} (from {from}) answers with a certificate of another authority",
        url(&other)
    );
    assert!(said.contains(&wanted), "{said}");

    let misnamed = text.replace("127.0.0.1", "127.0.0.2");
    std::fs::write(&file, &misnamed).context("write the kubeconfig")?;
    let said = refusal(&client(&file), &["get", "nodes"]);
    assert!(
        said.contains("https://127.0.0.2:") && said.contains(&from),
        "{said}"
    );

    one.stop()?;
    std::fs::write(&file, &text).context("write the kubeconfig")?;
    let said = refusal(&client(&file), &["get", "nodes"]);
    assert!(
        said.contains("connection refused") && said.contains(&from),
        "{said}"
    );
    Ok(())
}

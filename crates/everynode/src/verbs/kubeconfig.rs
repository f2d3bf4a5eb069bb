//! `everynode kubeconfig`: creates a kubeconfig with limited rights for another person or a
//! program.

use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use clap::Args;
use http::Method;
use rcgen::{CertificateParams, KeyPair};
use serde_json::{Value, json};

use crate::client::cluster_info::ClusterInfo;
use crate::client::connection::{ConnectArgs, Connection, JSON, Payload, WatchEnd};
use crate::client::output;
use crate::client::resources::escape;
use crate::client::secret::print_secret;

const REQUESTS: &str = "/apis/certificates.k8s.io/v1/certificatesigningrequests";
/// Signer of client certificates for people and programs.
const SIGNER: &str = "kubernetes.io/kube-apiserver-client";
/// Timeout of the issue of a certificate after its approval.
const ISSUE_TIMEOUT: Duration = Duration::from_secs(30);
const DAY_SECONDS: u64 = 24 * 60 * 60;
/// File mode: a kubeconfig holds a key.
const OWNER_ONLY: u32 = 0o600;

/// Make a kubeconfig with limited rights for a person or a program
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  everynode kubeconfig --user jane --group ops --days 30 --file jane.kubeconfig
  everynode kubeconfig --service-account prometheus -n monitoring --days 365

A new user may do nothing until a RoleBinding or ClusterRoleBinding names the user or a group. To let jane read everything:
  kubectl create clusterrolebinding jane --clusterrole=view --user=jane

A certificate cannot be revoked before it ends; delete the binding instead. A token ends with its ServiceAccount.")]
pub(crate) struct NewKubeconfig {
    /// Name of the user; the kubeconfig contains a client certificate for it
    #[arg(long, value_name = "NAME", required_unless_present = "service_account")]
    user: Option<String>,

    /// Group of the user; can be repeated
    #[arg(long, value_name = "GROUP", requires = "user")]
    group: Vec<String>,

    /// Use a token of this ServiceAccount (namespace: -n) instead of a certificate
    #[arg(long, value_name = "NAME", conflicts_with = "user")]
    service_account: Option<String>,

    /// Days until the certificate or token expires
    #[arg(long, value_name = "DAYS", default_value_t = 30, value_parser = clap::value_parser!(u64).range(1..=3650))]
    days: u64,

    /// URL of the server in the kubeconfig (default: the address that other machines use)
    #[arg(long, value_name = "URL")]
    server: Option<String>,

    /// Write the kubeconfig to this file, readable by its owner only (default: standard output)
    #[arg(long, value_name = "FILE")]
    file: Option<PathBuf>,
}

impl NewKubeconfig {
    pub(crate) async fn run(self, connect: &ConnectArgs) -> Result<()> {
        let connection = connect.connect().await?;
        let cluster = ClusterInfo::read(&connection).await?;
        let seconds = self.days * DAY_SECONDS;
        let (name, user) = match (&self.user, &self.service_account) {
            (Some(user), _) => (
                user.clone(),
                certificate(&connection, user, &self.group, seconds).await?,
            ),
            (None, Some(account)) => {
                let name = format!("{}/{account}", connection.namespace);
                (name, token(&connection, account, seconds).await?)
            }
            (None, None) => bail!("name a --user or a --service-account"),
        };
        let server = match &self.server {
            Some(url) => url,
            None => {
                cluster.warn_unless_reachable().await;
                &cluster.servers[0]
            }
        };
        let namespace = self.service_account.as_ref().map(|_| &*connection.namespace);
        let text = kubeconfig(server, &cluster.authority, &name, &user, namespace)?;
        match &self.file {
            Some(path) => write_file(path, &text).with_context(|| format!("write {}", path.display())),
            None => print_secret(&text),
        }
    }
}

/// Requests, approves and fetches a client certificate.
async fn certificate(connection: &Connection, user: &str, groups: &[String], seconds: u64) -> Result<Value> {
    let key = KeyPair::generate().context("generate a key")?;
    let request = signing_request(&key, user, groups)?;
    let body = json!({
        "apiVersion": "certificates.k8s.io/v1", "kind": "CertificateSigningRequest",
        "metadata": {"generateName": "kubeconfig-"},
        "spec": {
            "request": STANDARD.encode(request), "signerName": SIGNER, "expirationSeconds": seconds,
            "usages": ["digital signature", "client auth"],
        },
    });
    let path = format!("{REQUESTS}?fieldManager=everynode-kubeconfig");
    let mut made = connection
        .request(Method::POST, &path, JSON, Some(Payload::json(&body)))
        .await?;
    let name = made["metadata"]["name"].as_str().unwrap_or_default().to_owned();
    made["status"] = json!({"conditions": [{
        "type": "Approved", "status": "True", "reason": "EverynodeKubeconfig",
        "message": "approved by the user who ran `everynode kubeconfig`",
    }]});
    let path = format!(
        "{REQUESTS}/{}/approval?fieldManager=everynode-kubeconfig",
        escape(&name)
    );
    connection
        .request(Method::PUT, &path, JSON, Some(Payload::json(&made)))
        .await
        .with_context(|| format!("approve the certificate signing request {name}"))?;
    let issued = tokio::time::timeout(ISSUE_TIMEOUT, issued(connection, &name)).await;
    let certificate = match issued {
        Ok(certificate) => certificate?,
        Err(_) => bail!(
            "no certificate was issued within {} s: see `everynode get csr {name} -o yaml`",
            ISSUE_TIMEOUT.as_secs()
        ),
    };
    Ok(json!({
        "client-certificate-data": certificate,
        "client-key-data": STANDARD.encode(key.serialize_pem()),
    }))
}

fn signing_request(key: &KeyPair, user: &str, groups: &[String]) -> Result<String> {
    let mut params = CertificateParams::default();
    params.distinguished_name = apiserver::subject(user, groups)?;
    let request = params
        .serialize_request(key)
        .context("make the signing request")?;
    request.pem().context("encode the signing request")
}

/// Waits for `status.certificate`, which is PEM in base64.
async fn issued(connection: &Connection, name: &str) -> Result<String> {
    let certificate = |request: &Value| -> Result<Option<String>> {
        let conditions = request["status"]["conditions"].as_array().into_iter().flatten();
        if let Some(failed) = conditions
            .into_iter()
            .find(|condition| condition["type"] == "Failed" || condition["type"] == "Denied")
        {
            bail!(
                "the certificate was refused: {}",
                failed["message"].as_str().unwrap_or_default()
            );
        }
        Ok(request["status"]["certificate"].as_str().map(str::to_owned))
    };
    loop {
        let current = connection.get(&format!("{REQUESTS}/{}", escape(name))).await?;
        if let Some(found) = certificate(&current)? {
            return Ok(found);
        }
        let revision = current["metadata"]["resourceVersion"]
            .as_str()
            .unwrap_or_default();
        let path = format!(
            "{REQUESTS}?watch=true&fieldSelector=metadata.name%3D{}&resourceVersion={revision}",
            escape(name)
        );
        if let WatchEnd::Answer(found) = connection
            .watch(&path, JSON, |_, object| certificate(object))
            .await?
        {
            return Ok(found);
        }
    }
}

/// Requests a token of a ServiceAccount.
async fn token(connection: &Connection, account: &str, seconds: u64) -> Result<Value> {
    let path = format!(
        "/api/v1/namespaces/{}/serviceaccounts/{}/token",
        escape(&connection.namespace),
        escape(account)
    );
    let body = json!({
        "apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest",
        "spec": {"expirationSeconds": seconds},
    });
    let answer = connection
        .request(Method::POST, &path, JSON, Some(Payload::json(&body)))
        .await?;
    match answer["status"]["token"].as_str() {
        Some(token) => Ok(json!({"token": token})),
        None => bail!("the server sent no token"),
    }
}

/// Returns the text of the kubeconfig.
fn kubeconfig(
    server: &str,
    authority: &str,
    name: &str,
    user: &Value,
    namespace: Option<&str>,
) -> Result<String> {
    let mut context = json!({"cluster": "everynode", "user": name});
    if let Some(namespace) = namespace {
        context["namespace"] = namespace.into();
    }
    let whole = json!({
        "apiVersion": "v1", "kind": "Config",
        "clusters": [{"name": "everynode", "cluster": {"server": server, "certificate-authority-data": STANDARD.encode(authority)}}],
        "users": [{"name": name, "user": user}],
        "contexts": [{"name": name, "context": context}],
        "current-context": name,
    });
    output::yaml(&whole)
}

/// Creates or replaces a file. Other users cannot read it at any time.
fn write_file(path: &Path, text: &str) -> std::io::Result<()> {
    let folder = path
        .parent()
        .filter(|folder| !folder.as_os_str().is_empty())
        .unwrap_or(Path::new("."));
    let temporary = folder.join(format!(
        ".{}.{}",
        path.file_name().unwrap_or_default().display(),
        std::process::id()
    ));
    let written = std::fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(OWNER_ONLY)
        .open(&temporary)
        .and_then(|mut file| file.write_all(text.as_bytes()))
        .and_then(|()| std::fs::rename(&temporary, path));
    if written.is_err() {
        // Report the first error.
        std::fs::remove_file(&temporary).ok();
    }
    written
}

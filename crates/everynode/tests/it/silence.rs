//! Connections that say nothing, at a server that may open few files.

use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, Result};
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use kube::config::Kubeconfig;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore};
use testkit::Process;

/// Files that the server may open.
const FILES: usize = 512;
/// Connections that are opened and stay silent.
const SILENT: usize = 600;

/// A program that runs the binary with few files.
fn with_few_files(folder: &Path) -> Result<std::path::PathBuf> {
    const EXECUTABLE: u32 = 0o755;
    let script = folder.join("everynode");
    let binary = crate::binary().display();
    let text = format!("#!/bin/sh\nulimit -n {FILES}\nexec '{binary}' \"$@\"\n");
    std::fs::write(&script, text).context("write the script")?;
    std::fs::set_permissions(&script, std::fs::Permissions::from_mode(EXECUTABLE))?;
    Ok(script)
}

fn trusting(server: &Process) -> Result<Arc<ClientConfig>> {
    let kubeconfig = Kubeconfig::read_from(server.kubeconfig())?;
    let cluster = kubeconfig
        .clusters
        .first()
        .and_then(|named| named.cluster.as_ref());
    let authority = cluster
        .and_then(|cluster| cluster.certificate_authority_data.as_ref())
        .context("the kubeconfig holds no authority")?;
    let authority = CertificateDer::from_pem_slice(&BASE64_STANDARD.decode(authority)?)?;
    let mut roots = RootCertStore::empty();
    roots.add(authority)?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok(Arc::new(config))
}

#[test]
fn silent_connections_keep_nobody_out_of_a_small_server() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let server = Process::start(with_few_files(folder.path())?, "server", &[])?;
    let config = trusting(&server)?;
    let mut silent = Vec::new();
    for number in 0..SILENT {
        let mut stream = TcpStream::connect(("127.0.0.1", server.port()))?;
        // Half of them begin no handshake, the others finish it.
        if number % 2 == 0 {
            let name = ServerName::try_from("127.0.0.1")?;
            let mut tls = ClientConnection::new(config.clone(), name)?;
            while tls.is_handshaking() {
                tls.complete_io(&mut stream).context("do the handshake")?;
            }
        }
        silent.push(stream);
        if number % 100 == 99 {
            let answer = server.client().run(&["get", "namespaces"]);
            assert!(answer.success, "after {number}: {}", answer.stderr);
        }
    }
    let files = std::fs::read_dir(format!("/proc/{}/fd", server.pid()))?.count();
    assert!(files < FILES, "{files}");
    let metrics = server.client().run(&["get", "--raw", "/metrics"]).stdout;
    let evicted = metrics
        .lines()
        .find_map(|line| line.strip_prefix("everynode_apiserver_connections_evicted_total "))
        .and_then(|count| count.parse::<usize>().ok())
        .context("the metrics do not count evictions")?;
    assert!(evicted > SILENT / 2, "{evicted}");
    Ok(())
}

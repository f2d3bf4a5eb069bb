//! Programs that the tests use: an old kubectl, the current Python client, and real daemons.

use std::fs;
use std::path::PathBuf;

use anyhow::{Context, Result};

use crate::command::{root, run};

/// Returns Debian's kubectl, which is old (1.20). It is unpacked, not installed, because an
/// installation would replace a newer one.
pub(crate) fn old_kubectl() -> Result<PathBuf> {
    let folder = tools("kubectl-debian")?;
    let program = folder.join("usr/bin/kubectl");
    if !program.exists() {
        let place = folder.display().to_string();
        let script =
            "cd \"$0\" && apt-get download --quiet kubernetes-client && dpkg -x kubernetes-client_*.deb .";
        run("sh", &["-c", script, &place]).context("unpack Debian's kubectl")?;
    }
    Ok(program)
}

/// Returns a Python interpreter with the package `kubernetes`.
pub(crate) fn python() -> Result<PathBuf> {
    let folder = tools("python")?;
    let program = folder.join("bin/python3");
    if !folder.join("complete").exists() {
        let place = folder.display().to_string();
        run("/usr/bin/python3", &["-m", "venv", &place]).context("make a Python environment")?;
        let python = program.display().to_string();
        run(
            &python,
            &["-m", "pip", "install", "--quiet", "kubernetes", "pyyaml"],
        )
        .context("install the Python client")?;
        fs::write(folder.join("complete"), "").context("mark the Python environment complete")?;
    }
    Ok(program)
}

/// Daemons and their servers from Debian: a metrics exporter, servers that gather metrics, a
/// log collector, a statistics collector with its database, and a file store.
const DAEMONS: &[&str] = &[
    "prometheus-node-exporter",
    "prometheus",
    "victoria-metrics",
    "rsyslog",
    "collectd-core",
    "influxdb",
    "glusterfs-server",
];

/// Returns a folder with one folder for each daemon. It contains the unpacked package, with its
/// dependencies that are not on this machine. Nothing is installed, because an installed daemon
/// would start and disturb the tests.
pub(crate) fn debian() -> Result<PathBuf> {
    let all = tools("debian")?;
    for package in DAEMONS {
        let folder = all.join(package);
        if folder.join("complete").exists() {
            continue;
        }
        let script = "set -e; rm -rf \"$0\"; mkdir -p \"$0/archives/partial\" \"$0/root\"
            apt-get install --quiet --yes --no-install-recommends --reinstall --download-only \\
                -o Dir::Cache::archives=\"$0/archives\" -o APT::Sandbox::User=root \"$1\"
            for archive in \"$0\"/archives/*.deb; do dpkg -x \"$archive\" \"$0/root\"; done
            rm -r \"$0/archives\"; touch \"$0/complete\"";
        let place = folder.display().to_string();
        run("sh", &["-c", script, &place, package]).with_context(|| format!("unpack Debian's {package}"))?;
    }
    Ok(all)
}

/// Returns a folder for tools that is kept between builds.
pub(crate) fn tools(name: &str) -> Result<PathBuf> {
    let folder = root().join("target/tools").join(name);
    fs::create_dir_all(&folder).with_context(|| format!("create {}", folder.display()))?;
    folder
        .canonicalize()
        .with_context(|| format!("find {}", folder.display()))
}

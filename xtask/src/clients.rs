//! What the tests drive beside our own programs: an old kubectl, the current Python client, and real daemons.

use std::fs;
use std::path::PathBuf;

use anyhow::{Context, Result};

use crate::command::{root, run};

/// Debian's kubectl, which is old (1.20), unpacked beside the build: installed, it would take the place of a newer one.
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

/// A Python with the package `kubernetes`.
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

/// Daemons and their servers, as Debian has them: an exporter of a machine's metrics, who gathers them, a collector of
/// logs, one of statistics and its database, a store of files.
const DAEMONS: &[&str] = &[
    "prometheus-node-exporter",
    "prometheus",
    "victoria-metrics",
    "rsyslog",
    "collectd-core",
    "influxdb",
    "glusterfs-server",
];

/// The folder in which each of the daemons' packages lies unpacked in a folder of its own, with the packages that it needs and this machine has
/// not. Nothing is installed: a daemon that started by itself here would be in the tests' way.
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

/// A folder of this name for tools, which outlives a build.
pub(crate) fn tools(name: &str) -> Result<PathBuf> {
    let folder = root().join("target/tools").join(name);
    fs::create_dir_all(&folder).with_context(|| format!("create {}", folder.display()))?;
    folder
        .canonicalize()
        .with_context(|| format!("find {}", folder.display()))
}

//! Clients that the tests drive the API with: an old kubectl and the current Python client.

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

fn tools(name: &str) -> Result<PathBuf> {
    let folder = root().join("target/tools").join(name);
    fs::create_dir_all(&folder).with_context(|| format!("create {}", folder.display()))?;
    folder
        .canonicalize()
        .with_context(|| format!("find {}", folder.display()))
}

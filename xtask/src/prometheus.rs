//! `cargo xtask prometheus`: tests that a current Prometheus finds daemons with its Kubernetes
//! discovery.
//!
//! Debian builds Prometheus without that discovery, and building it takes minutes. So `cargo xtask
//! ci` uses another program that reads the same configuration, and this command uses the real one.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::command::{cargo, output};
use crate::{clients, packages};

const MODULE: &str = "github.com/prometheus/prometheus";
/// Prometheus 3.13.5, in Go's version numbers.
const MODULE_VERSION: &str = "v0.313.5";
const VERSION: &str = "3.13.5";
/// Build tags that select only the Kubernetes discovery.
const TAGS: &str = "remove_all_sd,enable_kubernetes_sd";
/// Test that runs the program in the environment variable.
const TEST: &str = "every_exporter_is_found_by_the_api_in_each_role_and_targets_follow_nodes";
const VARIABLE: &str = "EVERYNODE_PROMETHEUS";

/// Builds Prometheus if it is missing, and runs the test of the roles `node`, `pod`, `endpoints`
/// and `endpointslice` with it.
pub(crate) fn run() -> Result<()> {
    packages::for_tests()?;
    let program = build()?;
    eprintln!("+ {VARIABLE}={} cargo test {TEST}", program.display());
    let status = cargo(&[
        "test",
        "--package",
        "everynode",
        "--test",
        "machines",
        "--",
        "--nocapture",
        TEST,
    ])
    .env(VARIABLE, &program)
    .env("EVERYNODE_DEBIAN", clients::debian()?)
    .status()
    .context("start cargo")?;
    if !status.success() {
        bail!("the test ended with {status}");
    }
    Ok(())
}

/// Builds Prometheus from the Go module proxy, with the versions in its `go.sum`, without its web
/// pages.
fn build() -> Result<PathBuf> {
    let program = clients::tools("prometheus")?.join(format!("prometheus-{VERSION}"));
    if program.exists() {
        return Ok(program);
    }
    output("go", &["mod", "download", &format!("{MODULE}@{MODULE_VERSION}")])
        .context("download Prometheus (this needs Go, of the version that it names or newer)")?;
    let cache = output("go", &["env", "GOMODCACHE"])?;
    let source = Path::new(cache.trim()).join(format!("{MODULE}@{MODULE_VERSION}"));
    let version = format!("-s -w -X github.com/prometheus/common/version.Version={VERSION}");
    eprintln!("+ go build {MODULE}/cmd/prometheus@{MODULE_VERSION}");
    let status = Command::new("go")
        .args([
            "build",
            "-mod=readonly",
            "-trimpath",
            "-tags",
            TAGS,
            "-ldflags",
            &version,
            "-o",
        ])
        .arg(&program)
        .arg("./cmd/prometheus")
        .env("GOWORK", "off")
        .env("CGO_ENABLED", "0")
        .current_dir(&source)
        .status()
        .context("start go")?;
    if !status.success() {
        bail!("go build ended with {status}");
    }
    Ok(program)
}

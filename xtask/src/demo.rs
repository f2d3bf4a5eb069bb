//! `cargo xtask demo`: from a fresh checkout to a running DaemonSet.

use std::os::unix::process::CommandExt;
use std::process::Command;

use anyhow::{Context, Result};

use crate::command::{built, root, run as run_program};
use crate::packages;

/// Installs missing packages, builds the release binary, and executes `everynode up --demo`.
pub(crate) fn run() -> Result<()> {
    packages::for_running()?;
    run_program("cargo", &["build", "--release", "--package", "everynode"])?;
    let binary = built("release", "everynode");
    eprintln!("+ {} up --demo", binary.display());
    let error = Command::new(&binary)
        .args(["up", "--demo"])
        .current_dir(root())
        .exec();
    Err(error).with_context(|| format!("start {}", binary.display()))
}

//! `cargo xtask fleet`: runs a cluster on several simulated machines of this computer, from a fresh
//! checkout.

use std::os::unix::process::CommandExt;
use std::process::Command;

use anyhow::{Context, Result};

use crate::command::{built, root, run as run_program};
use crate::packages;

/// Installs missing packages, builds the release binary and the program that simulates the
/// machines, and executes it.
pub(crate) fn run(arguments: &[&str]) -> Result<()> {
    packages::for_fleet()?;
    let packages = [
        "--package",
        "everynode",
        "--package",
        "testkit",
        "--bin",
        "everynode",
        "--bin",
        "fleet",
    ];
    run_program("cargo", &[&["build", "--release"], &packages[..]].concat())?;
    let (fleet, binary) = (built("release", "fleet"), built("release", "everynode"));
    eprintln!(
        "+ {} {} {}",
        fleet.display(),
        binary.display(),
        arguments.join(" ")
    );
    let error = Command::new(&fleet)
        .arg(&binary)
        .args(arguments)
        .current_dir(root())
        .exec();
    Err(error).with_context(|| format!("start {}", fleet.display()))
}

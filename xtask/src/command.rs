//! Runs other programs.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

/// Returns the folder of the workspace.
pub(crate) fn root() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/.."))
}

/// Returns the path of a binary that cargo builds for `profile` (`debug` or `release`).
pub(crate) fn built(profile: &str, binary: &str) -> PathBuf {
    let target = std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root().join("target"), PathBuf::from);
    target
        .join(format!("{}-unknown-linux-gnu", std::env::consts::ARCH))
        .join(profile)
        .join(binary)
}

/// Returns a cargo command in the workspace's folder.
pub(crate) fn cargo(args: &[&str]) -> Command {
    prepared("cargo", args)
}

fn prepared(program: &str, args: &[&str]) -> Command {
    let mut command = Command::new(program);
    command.args(args).current_dir(root()).stdin(Stdio::null());
    // With the variables that cargo sets for this package, the inner cargo would build the other
    // packages again.
    let ours = std::env::vars_os().map(|(name, _)| name);
    for name in
        ours.filter(|name| name.to_string_lossy().starts_with("CARGO_PKG_") || name == "CARGO_MANIFEST_DIR")
    {
        command.env_remove(name);
    }
    command
}

/// Runs a program in the workspace's folder. Fails when the program fails.
pub(crate) fn run(program: &str, args: &[&str]) -> Result<()> {
    eprintln!("+ {program} {}", args.join(" "));
    let status = prepared(program, args)
        .status()
        .with_context(|| format!("start {program}"))?;
    if !status.success() {
        bail!("{program} {} ended with {status}", args.join(" "));
    }
    Ok(())
}

/// Returns the output of a program, or its error.
pub(crate) fn output(program: &str, args: &[&str]) -> Result<String> {
    let mut command = Command::new(program);
    command.args(args).current_dir(root()).stdin(Stdio::null());
    let output = command.output().with_context(|| format!("start {program}"))?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        bail!(
            "{program} {} ended with {}: {}",
            args.join(" "),
            output.status,
            said.trim()
        );
    }
    String::from_utf8(output.stdout).with_context(|| format!("read what {program} printed"))
}

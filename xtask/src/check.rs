//! `cargo xtask check`: checks that a change must pass before review. It needs neither root nor
//! network, and installs nothing.

use anyhow::Result;

use crate::command::run as run_program;
use crate::tidy;

/// Packages whose tests only use their own temporary files.
const PACKAGES: &[&str] = &[
    "schema",
    "api",
    "plan",
    "clock",
    "disk",
    "store",
    "reflector",
    "controllers",
    "xtask",
];

/// Arguments of cargo for the lints, with warnings as errors.
pub(crate) const CLIPPY: &[&str] = &[
    "clippy",
    "--workspace",
    "--all-targets",
    "--",
    "--deny",
    "warnings",
];

/// Checks formatting, the rules of the project and lints, then runs the tests that do not change
/// the machine.
pub(crate) fn run() -> Result<()> {
    run_program("cargo", &["fmt", "--all", "--check"])?;
    tidy::run()?;
    run_program("cargo", CLIPPY)?;
    let packages = PACKAGES.iter().flat_map(|package| ["--package", package]);
    let arguments: Vec<&str> = ["test", "--quiet", "--tests"]
        .into_iter()
        .chain(packages)
        .collect();
    run_program("cargo", &arguments)
}

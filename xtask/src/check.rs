//! `cargo xtask check`: what a change must pass before anyone looks at it. It needs no root and no
//! network, and installs nothing.

use anyhow::Result;

use crate::command::run as run_program;
use crate::tidy;

/// Packages whose tests touch nothing but their own temporary files.
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

/// Arguments of cargo for the lints, which are errors.
pub(crate) const CLIPPY: &[&str] = &[
    "clippy",
    "--workspace",
    "--all-targets",
    "--",
    "--deny",
    "warnings",
];

/// Checks form, the rules of the house and lints, then runs the tests that need no machine.
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

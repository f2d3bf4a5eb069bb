//! `cargo xtask bench agent [MINUTES]`: measures what an idle node's agent costs the machine, the
//! network and the server.

use anyhow::Result;

use crate::command::{built, run as run_program};

/// Builds the release binary and the program that simulates the machines, and runs the program. The
/// program itself is not measured, so a debug build is enough.
pub(super) fn run(minutes: &[&str]) -> Result<()> {
    run_program("cargo", &["build", "--release", "--package", "everynode"])?;
    run_program("cargo", &["build", "--package", "testkit", "--bin", "agent-cost"])?;
    let (program, binary) = (built("debug", "agent-cost"), built("release", "everynode"));
    let (program, binary) = (program.display().to_string(), binary.display().to_string());
    run_program(&program, &[&[binary.as_str()], minutes].concat())
}

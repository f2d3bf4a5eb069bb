//! `cargo xtask bench`: measures the numbers in docs/benchmarks.md.

mod agent;
mod fleet;
mod node;
mod process;
mod size;

use anyhow::{Result, bail};

use crate::command::run as run_program;

/// Runs the benchmark that `words` names.
pub(crate) fn run(words: &[&str]) -> Result<()> {
    match words {
        ["fleet", "--nodes", nodes] => fleet::run(nodes.parse()?),
        ["node"] => node::run(),
        ["size"] => size::run(),
        ["agent", minutes @ ..] => agent::run(minutes),
        ["services"] => {
            // First the rules in a separate network namespace of the kernel, as in their tests.
            // Then the memory that they need.
            let rules = "network::services::tests::bench";
            let test = ["test", "--release", "--package", "runtime", "--lib", rules];
            run_program("cargo", &[&test[..], &["--", "--nocapture"]].concat())?;
            run_program("cargo", &["bench", "--package", "plan", "--bench", "endpoints"])
        }
        ["store", rest @ ..] => {
            let mut args = vec!["bench", "--package", "store", "--bench", "engines", "--"];
            args.extend(rest);
            run_program("cargo", &args)
        }
        ["counts", rest @ ..] => {
            let mut args = vec!["bench", "--package", "controllers", "--bench", "counts", "--"];
            args.extend(rest);
            run_program("cargo", &args)
        }
        ["dns"] => run_program("cargo", &["bench", "--package", "dns", "--bench", "answers"]),
        _ => bail!(
            "bench fleet --nodes N | bench node | bench size | bench agent | bench services | bench store | bench counts | bench dns"
        ),
    }
}

//! `cargo xtask ci`: everything that must hold, and a closing line that counts the tests.

use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

use crate::command::{root, run as run_program};
use crate::{clients, packages, tidy};

/// Seconds that the fuzzer gets.
const FUZZ_SECONDS: u32 = 60;

/// Installs what is missing, checks form and lints, runs every test, fuzzes, and counts.
pub(crate) fn run() -> Result<()> {
    packages::for_tests()?;
    run_program("cargo", &["fmt", "--all", "--check"])?;
    tidy::run()?;
    run_program(
        "cargo",
        &[
            "clippy",
            "--workspace",
            "--all-targets",
            "--",
            "--deny",
            "warnings",
        ],
    )?;
    // The tests of the whole drive the built binary.
    run_program("cargo", &["build", "--package", "everynode"])?;
    let counts = tests()?;
    fuzz()?;
    println!(
        "{} passed, {} failed, {} skipped",
        counts.passed, counts.failed, counts.skipped
    );
    if counts.failed > 0 {
        bail!("{} tests failed", counts.failed);
    }
    Ok(())
}

#[derive(Debug, Default, PartialEq, Eq)]
struct Counts {
    passed: u32,
    failed: u32,
    skipped: u32,
}

impl Counts {
    /// Adds what a line of cargo's output says.
    fn add(&mut self, line: &str) {
        if line.starts_with("skipped: ") {
            self.skipped += 1;
            return;
        }
        let Some(result) = line.strip_prefix("test result: ") else {
            return;
        };
        for part in result.split([';', '.']) {
            let mut words = part.split_whitespace();
            let (Some(number), Some(what)) = (
                words.next().and_then(|word| word.parse::<u32>().ok()),
                words.next(),
            ) else {
                continue;
            };
            match what {
                "passed" => self.passed += number,
                "failed" => self.failed += number,
                "ignored" => self.skipped += number,
                _ => {}
            }
        }
    }
}

/// Runs all tests of the workspace, one program after the other, and counts.
fn tests() -> Result<Counts> {
    let args = ["test", "--workspace", "--no-fail-fast", "--", "--show-output"];
    eprintln!("+ cargo {}", args.join(" "));
    let mut cargo = Command::new("cargo")
        .args(args)
        .env("EVERYNODE_KUBECTL_OLD", clients::old_kubectl()?)
        .env("EVERYNODE_PYTHON", clients::python()?)
        .current_dir(root())
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .context("start cargo test")?;
    let mut counts = Counts::default();
    let lines = BufReader::new(cargo.stdout.take().context("read what cargo prints")?).lines();
    for line in lines {
        let line = line.context("read what cargo prints")?;
        println!("{line}");
        counts.add(&line);
    }
    let status = cargo.wait().context("wait for cargo test")?;
    if counts.passed == 0 {
        bail!("cargo test ran no test and ended with {status}");
    }
    if !status.success() && counts.failed == 0 {
        bail!("cargo test ended with {status}");
    }
    Ok(counts)
}

/// Throws random bodies and patches at the API server. The fuzzer needs compiler flags that only a bootstrap
/// compiler takes, which is what the variable says.
fn fuzz() -> Result<()> {
    if Command::new("cargo")
        .args(["fuzz", "--version"])
        .output()
        .is_ok_and(|output| !output.status.success())
    {
        run_program("cargo", &["install", "--locked", "cargo-fuzz"])?;
    }
    let limit = format!("-max_total_time={FUZZ_SECONDS}");
    let found = root().join("fuzz/corpus/requests");
    std::fs::create_dir_all(&found).with_context(|| format!("create {}", found.display()))?;
    let run = [
        "RUSTC_BOOTSTRAP=1",
        "cargo",
        "fuzz",
        "run",
        "--sanitizer",
        "none",
        "requests",
    ];
    let args = [
        &run[..],
        &[
            "fuzz/corpus/requests",
            "fuzz/seeds",
            "--",
            &limit,
            "-print_final_stats=1",
        ],
    ]
    .concat();
    run_program("env", &args)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cargos_closing_lines_are_added_up() {
        let mut counts = Counts::default();
        counts.add(
            "test result: ok. 12 passed; 0 failed; 1 ignored; 0 measured; 0 filtered out; finished in 0.1s",
        );
        counts.add(
            "test result: FAILED. 3 passed; 2 failed; 0 ignored; 0 measured; 0 filtered out; finished in 1s",
        );
        counts.add("skipped: no newer kubectl on PATH");
        counts.add("test something ... ok");
        assert_eq!(
            counts,
            Counts {
                passed: 15,
                failed: 2,
                skipped: 2
            }
        );
    }
}

//! `cargo xtask ci`: runs all checks and prints the numbers of tests.

pub(crate) mod counts;
pub(crate) mod test_program;

use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use self::counts::Counts;
use crate::check::CLIPPY;
use crate::command::{root, run as run_program};
use crate::{clients, packages, tidy, vm};

/// Duration of the fuzzer, in seconds.
const FUZZ_SECONDS: u32 = 60;
/// Timeout of one request in the fuzzer, in seconds.
const FUZZ_PATIENCE: u32 = 60;

/// Seed of the property tests, so that every run of a change tests the same cases. To find new
/// cases, run `cargo test` without it and with more cases (`PROPTEST_CASES`).
const PROPERTIES_SEED: &str = "1";

/// Installs missing packages, checks formatting and lints, runs all tests and the fuzzer, and
/// prints the numbers.
pub(crate) fn run() -> Result<()> {
    let mut times = Times::default();
    times.step("packages", packages::for_tests)?;
    times.step("format", || run_program("cargo", &["fmt", "--all", "--check"]))?;
    times.step("tidy", tidy::run)?;
    times.step("clippy", || run_program("cargo", CLIPPY))?;
    let programs = times.step("build of the tests", test_program::build)?;
    let environment = times.step("clients", || {
        Ok([
            ("EVERYNODE_KUBECTL_OLD", clients::old_kubectl()?.into_os_string()),
            ("EVERYNODE_DEBIAN", clients::debian()?.into_os_string()),
            ("EVERYNODE_PYTHON", clients::python()?.into_os_string()),
            ("PROPTEST_RNG_SEED", PROPERTIES_SEED.into()),
        ])
    })?;
    let (mut counts, mut failures) = (Counts::default(), Vec::new());
    for program in &programs {
        let outcome = program.run(&environment)?;
        times.add(format!("tests: {}", program.name()), outcome.took);
        counts.add(&outcome.counts);
        failures.extend(outcome.failures);
    }
    let outcome = vm::run_quick(&programs)?;
    times.add("tests: on cgroup v2".to_owned(), outcome.took);
    counts.add(&outcome.counts);
    failures.extend(outcome.failures);
    if counts.passed == 0 {
        bail!("no test ran");
    }
    let fuzzed = times.step("fuzzing", fuzz);
    times.print();
    for failure in &failures {
        println!("failed: {failure}");
    }
    println!(
        "{} passed, {} failed, {} skipped",
        counts.passed, counts.failed, counts.skipped
    );
    if !failures.is_empty() {
        bail!("{} tests failed", counts.failed);
    }
    fuzzed
}

/// Duration of each step.
#[derive(Default)]
struct Times(Vec<(String, Duration)>);

impl Times {
    fn step<T>(&mut self, name: &str, work: impl FnOnce() -> Result<T>) -> Result<T> {
        let started = Instant::now();
        let result = work().with_context(|| name.to_owned());
        self.add(name.to_owned(), started.elapsed());
        result
    }

    fn add(&mut self, name: String, took: Duration) {
        self.0.push((name, took));
    }

    fn print(&self) {
        println!("\nseconds  step");
        for (name, took) in &self.0 {
            println!("{:7.1}  {name}", took.as_secs_f64());
        }
    }
}

/// Sends random bodies and patches to the API server. `RUSTC_BOOTSTRAP` makes the stable compiler
/// accept the unstable flags that the fuzzer needs.
fn fuzz() -> Result<()> {
    if Command::new("cargo")
        .args(["fuzz", "--version"])
        .output()
        .is_ok_and(|output| !output.status.success())
    {
        run_program("cargo", &["install", "--locked", "cargo-fuzz"])?;
    }
    let limit = format!("-max_total_time={FUZZ_SECONDS}");
    let patience = format!("-timeout={FUZZ_PATIENCE}");
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
            &patience,
            "-print_final_stats=1",
        ],
    ]
    .concat();
    run_program("env", &args)
}

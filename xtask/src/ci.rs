//! `cargo xtask ci`: everything that must hold, and a closing line that counts the tests.

pub(crate) mod counts;
pub(crate) mod test_program;

use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use self::counts::Counts;
use crate::check::CLIPPY;
use crate::command::{root, run as run_program};
use crate::{clients, packages, tidy, vm};

/// Seconds that the fuzzer gets.
const FUZZ_SECONDS: u32 = 60;
/// Seconds after which the fuzzer takes one request for hung.
const FUZZ_PATIENCE: u32 = 60;

/// Where the property tests' random numbers start: a change is judged by the same cases wherever and whenever it is
/// looked at. Whoever looks for new cases runs `cargo test` without it, and with more of them (`PROPTEST_CASES`).
const PROPERTIES_SEED: &str = "1";

/// Installs what is missing, checks form and lints, runs every test, fuzzes, and counts.
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

/// How long each step took.
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

//! The project's tools: `cargo xtask demo|fleet|check|ci|vm|tidy|bench|prometheus|schema`.
//!
//! This crate has few dependencies, because the README's first command compiles it first.

#![allow(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a tool's output is what it prints"
)]

mod bench;
mod check;
mod ci;
mod clients;
mod command;
mod demo;
mod fleet;
mod packages;
mod prometheus;
mod schema;
mod tidy;
mod vm;

use std::process::ExitCode;

const HELP: &str = "\
cargo xtask <task>

  demo                     install what is missing, build, and run a DaemonSet on this machine
  fleet [--nodes N]        the same over several machines on this one, drawn while it runs
  check                    format, lints and the tests that need neither root nor network
  ci                       install what is missing, check everything, run all the tests and count them
  vm [PARTS...]            run tests, the demo and the units of docs/join.md in a virtual Debian 12 with systemd
  vm quick                 run the tests of isolation on Debian's kernel with cgroup v2, in a virtual machine
  tidy                     check the house: layers, file headers, words that do not belong
  bench fleet --nodes N    drive N simulated nodes and measure the control plane
  bench node               start-up, memory and time to Ready of one machine with real containers
  bench size               what fills the release binary, by section and by crate
  bench agent [MINUTES]    what an idle node's agent costs: memory, processor, bytes, requests
  bench services           what rules and memory for 10,000 endpoints cost a node
  bench store [ARGS]       compare storage engines on our write pattern
  bench dns                answers a second of a node's DNS, beside other servers that are installed
  bench counts [NODES...]  count the work of each event at fleets of several sizes
  prometheus               build a current Prometheus, and let it find daemons by the API
  schema                   make the schema table of crates/schema anew
";

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = args.iter().map(String::as_str).collect();
    let result = match words.as_slice() {
        ["demo"] => demo::run(),
        ["fleet", rest @ ..] => fleet::run(rest),
        ["check"] => check::run(),
        ["ci"] => ci::run(),
        ["vm", rest @ ..] => vm::run(rest),
        ["tidy"] => tidy::run(),
        ["bench", rest @ ..] => bench::run(rest),
        ["prometheus"] => prometheus::run(),
        ["schema"] => schema::run(),
        _ => {
            eprint!("{HELP}");
            return ExitCode::from(2);
        }
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

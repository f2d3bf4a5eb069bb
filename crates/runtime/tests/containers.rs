//! Running containers: what a program sees, how it ends, what is told about it.

mod common;

use std::time::{Duration, Instant};

use common::{Machine, PATIENCE, exit_code, kind};
use runtime::{ContainerState, ErrorKind};

#[test]
fn a_program_runs_to_its_exit_code_and_its_output_is_kept() {
    let machine = Machine::new();
    let pod = machine.pod("p");
    let (log, status) = machine.run(&pod, "echo out; echo err >&2; exit 3", |_| {});
    assert_eq!(exit_code(&status), 3);
    let mut lines: Vec<&str> = log.lines().collect();
    lines.sort_unstable();
    assert_eq!(lines, ["err", "out"]);
    let ContainerState::Exited { signal, oom_killed, started_at, finished_at, .. } = status.state else { panic!() };
    assert_eq!((signal, oom_killed), (None, false));
    assert!(started_at <= finished_at);
}

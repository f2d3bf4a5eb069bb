//! Results of the programs that ran on a machine.

use crate::ci::counts::{Counts, Harness};

/// Lines before and after a program's output.
const BEGIN: &str = "vm: begin ";
const END: &str = "vm: end ";

/// A program that the machine must run, and its tests.
pub(super) struct Expected {
    name: String,
    tests: Vec<String>,
    harness: Harness,
    /// Exit status after its end.
    status: Option<i32>,
}

impl Expected {
    pub(super) fn new(name: &str, tests: Vec<String>) -> Expected {
        Expected {
            name: name.to_owned(),
            tests,
            harness: Harness::default(),
            status: None,
        }
    }

    fn left(&self) -> Vec<&str> {
        let tests: Vec<&str> = self.tests.iter().map(String::as_str).collect();
        self.harness.unfinished(&tests)
    }

    fn failures(&self) -> Vec<String> {
        let name = &self.name;
        let mut failures: Vec<String> = self
            .harness
            .failed()
            .map(|test| format!("{name}: {test}"))
            .collect();
        failures.extend(
            self.left()
                .iter()
                .map(|test| format!("{name}: {test} (had not ended)")),
        );
        if failures.is_empty() {
            match self.status {
                Some(0) if self.harness.has_closed() => {}
                Some(status) => failures.push(format!("{name}: ended with status {status}")),
                None => failures.push(format!("{name}: did not end")),
            }
        }
        failures
    }

    fn counts(&self) -> Counts {
        let unfinished = self.left().len();
        let mut counts = self.harness.counts(unfinished);
        if counts.failed == 0 && !self.failures().is_empty() {
            // The program failed, even if no test failed.
            counts.failed = 1;
        }
        counts
    }
}

/// Programs of a plan, with results from the machine's output.
#[derive(Default)]
pub(super) struct Report {
    programs: Vec<Expected>,
    current: Option<usize>,
}

impl Report {
    pub(super) fn new(programs: Vec<Expected>) -> Report {
        Report {
            programs,
            current: None,
        }
    }

    /// Adds the programs of another plan for the same machine.
    pub(super) fn join(&mut self, other: Report) {
        self.programs.extend(other.programs);
    }

    /// Parses a line of the machine's output.
    pub(super) fn take(&mut self, line: &str) {
        if let Some(name) = line.strip_prefix(BEGIN) {
            self.current = self.programs.iter().position(|program| program.name == name);
        } else if let Some(end) = line.strip_prefix(END) {
            let status = end
                .split_whitespace()
                .next()
                .and_then(|status| status.parse().ok());
            if let Some(program) = self.current.take().and_then(|index| self.programs.get_mut(index)) {
                program.status = status;
            }
        } else if let Some(program) = self.current.and_then(|index| self.programs.get_mut(index)) {
            program.harness.take(line);
        }
    }

    pub(super) fn counts(&self) -> Counts {
        let mut counts = Counts::default();
        for program in &self.programs {
            counts.add(&program.counts());
        }
        counts
    }

    pub(super) fn failures(&self) -> Vec<String> {
        self.programs.iter().flat_map(Expected::failures).collect()
    }

    /// Prints a line for each program with its numbers.
    pub(super) fn print(&self) {
        println!("\npassed  failed  skipped  program");
        for program in &self.programs {
            let counts = program.counts();
            println!(
                "{:6}  {:6}  {:7}  {}",
                counts.passed, counts.failed, counts.skipped, program.name
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn after(lines: &[&str]) -> Report {
        let tests = ["one", "two"].map(str::to_owned).to_vec();
        let mut report = Report::new(vec![
            Expected::new("a", tests),
            Expected::new("b c", vec!["three".to_owned()]),
        ]);
        for line in lines {
            report.take(line);
        }
        report
    }

    #[test]
    fn programs_that_close_are_counted_by_their_tests() {
        let report = after(&[
            "vm: begin a",
            "test one ... ok",
            "test two ... FAILED",
            "test result: FAILED. 1 passed; 1 failed; 0 ignored; 0 measured; 3 filtered out",
            "vm: end 101 a",
            "vm: begin b c",
            "test three ... ok",
            "test result: ok. 1 passed; 0 failed; 0 ignored; 0 measured; 0 filtered out",
            "vm: end 0 b c",
        ]);
        assert_eq!((report.counts().passed, report.counts().failed), (2, 1));
        assert_eq!(report.failures(), ["a: two"]);
    }

    #[test]
    fn tests_that_never_ran_have_failed_when_a_machine_ends() {
        let report = after(&["vm: begin a", "test one ... ok"]);
        assert_eq!((report.counts().passed, report.counts().failed), (1, 2));
        assert_eq!(
            report.failures(),
            ["a: two (had not ended)", "b c: three (had not ended)"]
        );
    }

    #[test]
    fn a_program_that_dies_after_its_last_test_has_failed() {
        let report = after(&[
            "vm: begin b c",
            "test three ... ok",
            "vm: end 137 b c",
            "vm: begin a",
            "test one ... ok",
            "test two ... ok",
            "test result: ok. 2 passed; 0 failed; 0 ignored; 0 measured; 0 filtered out",
            "vm: end 0 a",
        ]);
        assert_eq!((report.counts().passed, report.counts().failed), (3, 1));
        assert_eq!(report.failures(), ["b c: ended with status 137"]);
    }
}

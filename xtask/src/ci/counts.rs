//! Counts the results in the output of a test harness.

use std::collections::BTreeSet;

/// Numbers of tests that passed, failed and were ignored.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Counts {
    pub(crate) passed: u32,
    pub(crate) failed: u32,
    pub(crate) skipped: u32,
}

impl Counts {
    /// Adds the numbers of another program.
    pub(crate) fn add(&mut self, other: &Self) {
        self.passed += other.passed;
        self.failed += other.failed;
        self.skipped += other.skipped;
    }
}

/// Results in the output of a test program so far.
#[derive(Debug, Default)]
pub(crate) struct Harness {
    /// Numbers of the summary line; a killed program has none.
    closed: Option<Counts>,
    /// Names of tests, from their result lines.
    passed: BTreeSet<String>,
    failed: BTreeSet<String>,
    ignored: BTreeSet<String>,
    /// Number of tests that reported that they cannot run here. They pass.
    skipped: u32,
}

impl Harness {
    /// Parses a line. Returns whether the harness reports the end of a test. Other output does not
    /// count, because it may continue while a test hangs.
    pub(crate) fn take(&mut self, line: &str) -> bool {
        if line.starts_with("skipped: ") {
            self.skipped += 1;
            return false;
        }
        if let Some(result) = line.strip_prefix("test result: ") {
            let mut counts = closing(result);
            if let Some(earlier) = &self.closed {
                counts.add(earlier);
            }
            self.closed = Some(counts);
            return true;
        }
        let Some((name, outcome)) = line
            .strip_prefix("test ")
            .and_then(|test| test.rsplit_once(" ... "))
        else {
            return false;
        };
        let outcome = outcome.split([',', ' ']).next().unwrap_or_default();
        let list = match outcome {
            "ok" => &mut self.passed,
            "FAILED" => &mut self.failed,
            "ignored" => &mut self.ignored,
            _ => return false,
        };
        list.insert(name.to_owned())
    }

    /// Returns the names of failed tests.
    pub(crate) fn failed(&self) -> impl Iterator<Item = &str> {
        self.failed.iter().map(String::as_str)
    }

    /// Returns the tests of `all` that have not ended.
    pub(crate) fn unfinished<'a>(&self, all: &[&'a str]) -> Vec<&'a str> {
        let ended = |name: &str| {
            [&self.passed, &self.failed, &self.ignored]
                .iter()
                .any(|list| list.contains(name))
        };
        all.iter().copied().filter(|name| !ended(name)).collect()
    }

    /// Returns the numbers of the summary. Without a summary, returns those of single tests and
    /// `unfinished` failures.
    pub(crate) fn counts(&self, unfinished: usize) -> Counts {
        let number = |count: usize| u32::try_from(count).unwrap_or(u32::MAX);
        let counted = match &self.closed {
            Some(closed) => Counts {
                failed: closed.failed + number(unfinished),
                ..*closed
            },
            None => Counts {
                passed: number(self.passed.len()),
                failed: number(self.failed.len() + unfinished),
                skipped: number(self.ignored.len()),
            },
        };
        Counts {
            skipped: counted.skipped + self.skipped,
            ..counted
        }
    }

    /// Returns whether the summary line was printed.
    pub(crate) fn has_closed(&self) -> bool {
        self.closed.is_some()
    }
}

/// Parses the numbers of a summary line.
fn closing(result: &str) -> Counts {
    let mut counts = Counts::default();
    for part in result.split([';', '.']) {
        let mut words = part.split_whitespace();
        let (Some(number), Some(what)) = (
            words.next().and_then(|word| word.parse::<u32>().ok()),
            words.next(),
        ) else {
            continue;
        };
        match what {
            "passed" => counts.passed += number,
            "failed" => counts.failed += number,
            "ignored" => counts.skipped += number,
            _ => {}
        }
    }
    counts
}

#[cfg(test)]
mod tests {
    use super::*;

    fn after(lines: &[&str]) -> Harness {
        let mut harness = Harness::default();
        for line in lines {
            harness.take(line);
        }
        harness
    }

    #[test]
    fn closing_lines_are_added_up() {
        let harness = after(&[
            "test result: ok. 12 passed; 0 failed; 1 ignored; 0 measured; 0 filtered out; finished in 0.1s",
            "test result: FAILED. 3 passed; 2 failed; 0 ignored; 0 measured; 0 filtered out; finished in 1s",
            "skipped: no newer kubectl on PATH",
            "test something ... ok",
        ]);
        let counts = Counts {
            passed: 15,
            failed: 2,
            skipped: 2,
        };
        assert_eq!(harness.counts(0), counts);
    }

    #[test]
    fn a_program_that_was_ended_is_counted_by_its_tests() {
        let harness = after(&[
            "running 5 tests",
            "test a ... ok",
            "test b ... FAILED",
            "test c ... ignored, needs root",
            "test d has been running for over 60 seconds",
        ]);
        let left = harness.unfinished(&["a", "b", "c", "d", "e"]);
        assert_eq!(left, ["d", "e"]);
        assert_eq!(harness.failed().collect::<Vec<_>>(), ["b"]);
        let counts = Counts {
            passed: 1,
            failed: 3,
            skipped: 1,
        };
        assert_eq!(harness.counts(left.len()), counts);
    }

    #[test]
    fn only_the_end_of_a_test_is_a_sign_of_life() {
        let mut harness = Harness::default();
        assert!(harness.take("test a ... ok"));
        for line in [
            "2026-11-22 INFO something",
            "test d has been running for over 60 seconds",
            "skipped: no",
        ] {
            assert!(!harness.take(line), "{line}");
        }
    }
}

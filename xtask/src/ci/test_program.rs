//! Runs test programs one after the other, and kills those that hang.

use std::collections::VecDeque;
use std::ffi::OsString;
use std::io::{BufRead, BufReader, Read};
use std::num::NonZero;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use serde_json::Value;

use super::counts::{Counts, Harness};
use crate::command::{cargo, root};

/// A program hangs when none of its tests ends for this time. The longest tests (fifty kills of the
/// cluster, fifty simulated histories) take minutes on a slow machine, and waits in tests time out
/// after two minutes.
const HUNG_AFTER: Duration = Duration::from_secs(15 * 60);
/// Longest time to read a program's output after its end: a process that a test left may keep it
/// open.
const LAST_LINES: Duration = Duration::from_secs(5);
/// Most lines that are buffered, about as many as a pipe holds. Then the program waits.
const LINES_AHEAD: usize = 1024;
/// Program whose tests mostly wait for machines, one of them for two minutes. It gets one thread
/// more than there are processors.
const WAITS: &str = "everynode machines";
/// Number of last lines that are printed again when a program is killed.
const SHOWN_AGAIN: usize = 20;

/// A built test program.
pub(crate) struct TestProgram {
    /// `plan`, or `store contract` for one of several.
    name: String,
    command: Vec<String>,
    /// Working directory, as with cargo: the folder of its package.
    folder: PathBuf,
    /// Prints a line of its output.
    show: fn(&str),
}

/// Result of a program's tests.
pub(crate) struct Outcome {
    pub(crate) counts: Counts,
    /// Failures, one line each.
    pub(crate) failures: Vec<String>,
    pub(crate) took: Duration,
}

/// Builds all test programs of the workspace and returns them, with the documentation tests last.
pub(crate) fn build() -> Result<Vec<TestProgram>> {
    let args = [
        "test",
        "--workspace",
        "--no-run",
        "--message-format=json-render-diagnostics",
    ];
    eprintln!("+ cargo {}", args.join(" "));
    let output = cargo(&args)
        .stderr(Stdio::inherit())
        .output()
        .context("start cargo test")?;
    if !output.status.success() {
        bail!("cargo {} ended with {}", args.join(" "), output.status);
    }
    let messages = String::from_utf8(output.stdout).context("read what cargo printed")?;
    let mut programs = Vec::new();
    for line in messages.lines() {
        let message: Value = serde_json::from_str(line).with_context(|| format!("read {line}"))?;
        programs.extend(program(&message)?);
    }
    programs.sort_by(|a, b| a.name.cmp(&b.name));
    programs.push(TestProgram {
        name: "examples in the documentation".to_owned(),
        command: ["cargo", "test", "--workspace", "--doc"]
            .map(str::to_owned)
            .into(),
        folder: root().to_owned(),
        show: print_line,
    });
    Ok(programs)
}

/// Returns the test program of a message from cargo, if it has one.
fn program(message: &Value) -> Result<Option<TestProgram>> {
    let (Some(executable), Some(true)) = (
        message["executable"].as_str(),
        message["profile"]["test"].as_bool(),
    ) else {
        return Ok(None);
    };
    let text = |value: &Value| value.as_str().map(str::to_owned).context("a message of cargo's");
    let manifest = PathBuf::from(text(&message["manifest_path"])?);
    let folder = manifest.parent().context("the folder of a manifest")?.to_owned();
    let package = folder
        .file_name()
        .unwrap_or_default()
        .to_string_lossy()
        .into_owned();
    let target = text(&message["target"]["name"])?;
    let name = if package == target {
        package
    } else {
        format!("{package} {target}")
    };
    Ok(Some(TestProgram {
        name,
        command: vec![executable.to_owned()],
        folder,
        show: print_line,
    }))
}

fn print_line(line: &str) {
    println!("{line}");
}

impl TestProgram {
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    pub(crate) fn executable(&self) -> &Path {
        Path::new(&self.command[0])
    }

    /// Returns the folder of its package.
    pub(crate) fn folder(&self) -> &Path {
        &self.folder
    }

    /// Runs the program to its end, or kills it when it hangs. `environment` is added to the
    /// current one.
    pub(crate) fn run(&self, environment: &[(&str, OsString)]) -> Result<Outcome> {
        self.run_for(environment, HUNG_AFTER)
    }

    fn run_for(&self, environment: &[(&str, OsString)], patience: Duration) -> Result<Outcome> {
        println!("\n     Running {}", self.name);
        let started = Instant::now();
        let (send, events) = sync_channel(LINES_AHEAD);
        let pid = self.spawn(environment, send)?;
        let mut run = Run::new(self.show);
        let ended = run.follow(&events, patience);
        if ended.is_none() {
            end_group(pid);
        }
        run.read_rest(&events);
        let mut failures: Vec<String> = run
            .harness
            .failed()
            .map(|test| format!("{}: {test}", self.name))
            .collect();
        let mut unfinished = 0;
        match ended {
            Some(status) if run.harness.has_closed() && status.success() == failures.is_empty() => {}
            Some(status) if run.harness.has_closed() && failures.is_empty() => {
                unfinished = usize::from(run.harness.counts(0).failed == 0);
                failures.push(format!("{}: ended with {status}", self.name));
            }
            Some(status) => {
                failures.extend(self.cut_short(&run, &format!("ended with {status}"), &mut unfinished))
            }
            None => {
                let why = format!("ended by us: no test ended for {} s", patience.as_secs());
                failures.extend(self.cut_short(&run, &why, &mut unfinished));
            }
        }
        Ok(Outcome {
            counts: run.harness.counts(unfinished),
            failures,
            took: started.elapsed(),
        })
    }

    /// Starts the program in its own process group. Its lines and its end are sent to `events`.
    fn spawn(&self, environment: &[(&str, OsString)], events: SyncSender<Event>) -> Result<u32> {
        let (program, args) = self.command.split_first().context("a program")?;
        let processors = thread::available_parallelism().map_or(1, NonZero::get);
        let mut child = Command::new(program)
            .args(args)
            .args((program != "cargo").then_some("--show-output"))
            .args((self.name == WAITS).then(|| format!("--test-threads={}", processors + 1)))
            .current_dir(&self.folder)
            .env("CARGO_MANIFEST_DIR", &self.folder)
            .envs(environment.iter().map(|(name, value)| (name, value)))
            .process_group(0)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .with_context(|| format!("start {}", self.name))?;
        forward(child.stdout.take(), events.clone());
        forward(child.stderr.take(), events.clone());
        let pid = child.id();
        thread::spawn(move || {
            // The receiver is closed when the program was killed.
            let _ended = events.send(Event::Ended(child.wait()));
        });
        Ok(pid)
    }

    /// Returns the failures of a program that ended without a summary.
    fn cut_short(&self, run: &Run, why: &str, unfinished: &mut usize) -> Vec<String> {
        println!("\n{} {why}. Its last lines:", self.name);
        for line in &run.newest {
            println!("    {line}");
        }
        let all = self.tests(&[]);
        let left = run
            .harness
            .unfinished(&all.iter().map(String::as_str).collect::<Vec<_>>());
        // The program counts as one failure at least, even if the test is not known.
        *unfinished = left.len().max(1);
        let mut failures = vec![format!("{}: {why}", self.name)];
        failures.extend(
            left.iter()
                .map(|test| format!("{}: {test} (had not ended)", self.name)),
        );
        failures
    }

    /// Returns the names of its tests that `selection` selects; empty if it cannot list them.
    pub(crate) fn tests(&self, selection: &[&str]) -> Vec<String> {
        let listed = Command::new(&self.command[0])
            .args(&self.command[1..])
            .args(selection)
            .args(["--list", "--format=terse"])
            .current_dir(&self.folder)
            .stdin(Stdio::null())
            .output();
        let text = listed.map(|output| output.stdout).unwrap_or_default();
        let lines = String::from_utf8_lossy(&text).into_owned();
        lines
            .lines()
            .filter_map(|line| line.strip_suffix(": test"))
            .map(str::to_owned)
            .collect()
    }
}

enum Event {
    Line(String),
    Ended(std::io::Result<ExitStatus>),
}

/// Sends every line of a stream. Invalid UTF-8 is replaced.
fn forward(stream: Option<impl Read + Send + 'static>, events: SyncSender<Event>) {
    let Some(stream) = stream else { return };
    thread::spawn(move || {
        for line in BufReader::new(stream)
            .split(b'\n')
            .map_while(std::result::Result::ok)
        {
            let line = String::from_utf8_lossy(&line).into_owned();
            if events.send(Event::Line(line)).is_err() {
                return;
            }
        }
    });
}

/// State of a running program.
struct Run {
    harness: Harness,
    newest: VecDeque<String>,
    show: fn(&str),
}

impl Run {
    fn new(show: fn(&str)) -> Run {
        Run {
            harness: Harness::default(),
            newest: VecDeque::new(),
            show,
        }
    }

    /// Reads until the program ends and returns its exit status; `None` if it hangs.
    fn follow(&mut self, events: &Receiver<Event>, patience: Duration) -> Option<ExitStatus> {
        let mut deadline = Instant::now() + patience;
        loop {
            match events.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
                Ok(Event::Line(line)) => {
                    if self.take(line) {
                        deadline = Instant::now() + patience;
                    } else if Instant::now() > deadline {
                        return None;
                    }
                }
                Ok(Event::Ended(status)) => return status.ok(),
                Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => return None,
            }
        }
    }

    /// Reads the output that was printed before the end.
    fn read_rest(&mut self, events: &Receiver<Event>) {
        let deadline = Instant::now() + LAST_LINES;
        loop {
            match events.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
                Ok(Event::Line(line)) => {
                    self.take(line);
                }
                Ok(Event::Ended(_)) => {}
                Err(RecvTimeoutError::Disconnected) => return,
                Err(RecvTimeoutError::Timeout) => {
                    eprintln!("warning: a process that a test left behind still holds its output");
                    return;
                }
            }
        }
    }

    fn take(&mut self, line: String) -> bool {
        (self.show)(&line);
        let moved = self.harness.take(&line);
        if self.newest.len() == SHOWN_AGAIN {
            self.newest.pop_front();
        }
        self.newest.push_back(line);
        moved
    }
}

/// Kills a process group.
fn end_group(head: u32) {
    let group = format!("-{head}");
    let killed = Command::new("kill").args(["-KILL", "--", &group]).status();
    if !killed.is_ok_and(|status| status.success()) {
        eprintln!("warning: could not end the process group {head}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &str) -> TestProgram {
        TestProgram {
            name: "shell".to_owned(),
            command: ["sh", "-c", script].map(str::to_owned).into(),
            folder: root().to_owned(),
            // A runner parses our own output and must not count these lines.
            show: |_| {},
        }
    }

    #[test]
    fn a_program_in_which_no_test_ends_is_ended() {
        // The words after the script are `$0` and its arguments: here the flags of the harness.
        let script = "case \"$*\" in *--list*) echo 'a: test'; exit;; esac
            sleep 1000 & while :; do echo noise; sleep 0.01; done";
        let mut program = shell(script);
        program.command.push("sh".to_owned());
        let outcome = program.run_for(&[], Duration::from_millis(100)).unwrap();
        assert_eq!((outcome.counts.passed, outcome.counts.failed), (0, 1));
        assert_eq!(
            outcome.failures,
            [
                "shell: ended by us: no test ended for 0 s",
                "shell: a (had not ended)"
            ]
        );
    }

    #[test]
    fn a_test_that_ends_gives_the_program_time() {
        let (send, events) = sync_channel(8);
        for line in ["test a ... ok", "noise"] {
            send.send(Event::Line(line.to_owned())).unwrap();
        }
        let mut run = Run::new(|_| {});
        assert_eq!(run.follow(&events, Duration::from_millis(10)), None);
        assert_eq!(run.harness.unfinished(&["a", "b"]), ["b"]);
    }

    #[test]
    fn a_program_that_dies_without_a_closing_line_has_failed() {
        let outcome = shell("echo 'test a ... ok'; kill -ABRT $$").run(&[]).unwrap();
        assert_eq!((outcome.counts.passed, outcome.counts.failed), (1, 1));
        assert!(
            outcome.failures[0].contains("signal: 6"),
            "{:?}",
            outcome.failures
        );
    }

    #[test]
    fn a_program_that_closes_is_counted_by_its_closing_line() {
        let said = "echo 'test a ... ok'; echo 'test b ... FAILED'
            echo 'test result: FAILED. 1 passed; 1 failed; 0 ignored; 0 measured; 0 filtered out'; exit 101";
        let outcome = shell(said).run(&[]).unwrap();
        assert_eq!((outcome.counts.passed, outcome.counts.failed), (1, 1));
        assert_eq!(outcome.failures, ["shell: b"]);
    }

    #[test]
    fn a_message_of_cargo_names_a_program_and_its_folder() {
        let message = serde_json::json!({
            "reason": "compiler-artifact", "manifest_path": "/w/crates/store/Cargo.toml",
            "target": {"name": "contract", "kind": ["test"]}, "profile": {"test": true}, "executable": "/t/contract-1",
        });
        let found = program(&message).unwrap().unwrap();
        assert_eq!(
            (found.name.as_str(), found.folder.to_str()),
            ("store contract", Some("/w/crates/store"))
        );
        let library = serde_json::json!({"reason": "compiler-artifact", "profile": {"test": false}, "executable": null});
        assert!(program(&library).unwrap().is_none());
    }
}

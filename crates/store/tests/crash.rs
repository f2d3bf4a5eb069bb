//! A writing process is killed repeatedly. Everything that it reported as acknowledged must be
//! there.

mod support;

use std::collections::{BTreeMap, HashMap};
use std::hash::{BuildHasher, RandomState};
use std::io::{BufRead, BufReader, Write as _};
use std::path::Path;
use std::process::{Command, Stdio};

use store::{Durability, Expect, Store};
use support::*;

const ROUNDS: u64 = 60;
const TASKS: usize = 6;
const DIR: &str = "STORE_CRASH_TEST_DIR";

/// Not a test: the code of the killed process. Each line that it prints reports a result.
#[test]
fn killed_process() {
    let Some(dir) = std::env::var_os(DIR) else { return };
    report("starting".into());
    let store = Store::open(Path::new(&dir), options()).expect("it opens after a kill");
    report(format!("base {}", store.revision()));
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .build()
        .expect("a runtime");
    runtime.block_on(async {
        let tasks = (0..TASKS).map(|task| tokio::spawn(write_forever(store.clone(), task)));
        for task in tasks.collect::<Vec<_>>() {
            task.await.expect("no panic");
        }
    });
}

/// Writes one line at once, so that a kill cannot merge the lines of two tasks.
fn report(line: String) {
    std::io::stdout()
        .lock()
        .write_all(format!("\n@{line}\n").as_bytes())
        .expect("the parent reads on");
}

async fn write_forever(store: Store<Node>, task: usize) {
    for number in 0.. {
        let (name, lease) = (format!("{task}-{}", number % 5), format!("lease-{task}"));
        let there = store.get(key(&name).as_str()).is_some();
        let content = format!("{number}{}", "x".repeat(2000));
        if there && number % 7 == 0 {
            let done = one(&store, delete(&name, Expect::Exists)).await;
            report(format!("deleted {name} {}", done.revision));
        } else {
            let expect = if there { Expect::Exists } else { Expect::Absent };
            let done = one(&store, update(&name, expect, &content)).await;
            report(format!("put {name} {}", done.revision));
        }
        let pair = ["left", "right"].map(|side| {
            let name = format!("pair-{task}-{side}");
            let there = store.get(key(&name).as_str()).is_some();
            update(
                &name,
                if there { Expect::Exists } else { Expect::Absent },
                &number.to_string(),
            )
        });
        for done in commit(&store, pair.into())
            .await
            .expect("nobody else writes these")
        {
            let name = done
                .key
                .as_str()
                .rsplit('/')
                .next()
                .unwrap_or_default()
                .to_owned();
            report(format!("put {name} {}", done.revision));
        }
        let there = store.get(key(&lease).as_str()).is_some();
        let renewal = update(
            &lease,
            if there { Expect::Exists } else { Expect::Absent },
            "renewed",
        );
        let done = store
            .commit(vec![renewal], Durability::Relaxed)
            .await
            .expect("nobody else writes it");
        report(format!("relaxed {lease} {}", done[0].revision));
    }
}

/// The reports of the killed processes in all rounds.
#[derive(Default)]
struct Reports {
    /// The newest acknowledged revision of each key, and whether it was a deletion.
    newest: BTreeMap<String, (u64, bool)>,
    /// The key of each acknowledged revision.
    revisions: HashMap<u64, String>,
    lines: usize,
}

impl Reports {
    fn add(&mut self, line: &str) {
        let words: Vec<&str> = line.split(' ').collect();
        match words[..] {
            ["base", revision] => {
                let base: u64 = revision.parse().expect("a number");
                assert!(
                    self.revisions.keys().all(|earlier| *earlier <= base),
                    "{base} is below what was given out"
                );
            }
            [what @ ("put" | "deleted" | "relaxed"), name, revision] => {
                let revision = revision.parse().expect("a number");
                let earlier = self.revisions.insert(revision, name.to_owned());
                assert_eq!(earlier, None, "revision {revision} was given out twice");
                if what != "relaxed" {
                    self.newest.insert(name.to_owned(), (revision, what == "deleted"));
                }
            }
            _ => {}
        }
        self.lines += 1;
    }

    fn check(&self, store: &Store<Node>) {
        for (name, (revision, deleted)) in &self.newest {
            let found = store.get(key(name).as_str()).map(|object| object.revision.0);
            match found {
                // A write that was not acknowledged may have happened.
                Some(found) => assert!(
                    found > *revision || (found == *revision && !deleted),
                    "{name} went back"
                ),
                None => assert!(
                    *deleted || self.could_be_deleted(name),
                    "{name} of revision {revision} is lost"
                ),
            }
        }
        for task in 0..TASKS {
            let side = |side| store.get(key(&format!("pair-{task}-{side}")).as_str());
            let text = |object: std::sync::Arc<store::Object<Node>>| {
                describe(&object).split('=').nth(1).unwrap_or_default().to_owned()
            };
            assert_eq!(
                side("left").map(text),
                side("right").map(text),
                "a transaction happened by half"
            );
        }
        assert!(
            self.revisions
                .keys()
                .all(|earlier| *earlier <= store.revision().0)
        );
    }

    /// Returns whether the writer deletes this key at times, so that an unacknowledged deletion is
    /// possible.
    fn could_be_deleted(&self, name: &str) -> bool {
        name.starts_with(|first: char| first.is_ascii_digit())
    }
}

#[test]
fn acknowledged_writes_survive_sixty_kills() {
    let dir = tempfile::tempdir().expect("a directory");
    let mut reports = Reports::default();
    let random = RandomState::new();
    for round in 0..ROUNDS {
        // Early kills interrupt the opening, late ones the writing.
        let lines = match round % 5 {
            0 => random.hash_one(round) % 3,
            _ => random.hash_one(round) % 300,
        };
        run_and_kill(dir.path(), lines, &mut reports);
        if round % 3 != 0 {
            // In the other rounds the next process checks it by opening the store.
            let store =
                Store::open(dir.path(), options()).unwrap_or_else(|error| panic!("round {round}: {error}"));
            reports.check(&store);
        }
    }
    assert!(
        reports.lines as u64 > ROUNDS * 10,
        "{} lines are not much of a test",
        reports.lines
    );
}

#[test]
fn kill_during_the_first_start_prevents_no_later_start() {
    for _ in 0..20 {
        let dir = tempfile::tempdir().expect("a directory");
        // It is killed when it has reported its start.
        run_and_kill(dir.path(), 0, &mut Reports::default());
        let store = Store::open(dir.path(), options()).expect("it opens as if nothing had been");
        assert!(
            store
                .list("/pods/")
                .iter()
                .all(|object| object.revision <= store.revision())
        );
    }
}

/// Starts a process, kills it after this number of lines, and reads all reports.
fn run_and_kill(dir: &Path, lines: u64, reports: &mut Reports) {
    let mut child = Command::new(std::env::current_exe().expect("this is a program"))
        .args(["--exact", "killed_process", "--nocapture", "--test-threads=1"])
        .env(DIR, dir)
        .stdout(Stdio::piped())
        .stderr(Stdio::inherit())
        .spawn()
        .expect("it starts");
    let mut output = BufReader::new(child.stdout.take().expect("it is piped"));
    let mut lines_read = 0;
    let mut line = String::new();
    while output.read_line(&mut line).expect("it can be read") > 0 {
        // A line that the kill truncated was not reported.
        if let Some(text) = line.strip_prefix('@').and_then(|line| line.strip_suffix('\n')) {
            reports.add(text);
            lines_read += 1;
        }
        line.clear();
        if lines_read == lines + 1 {
            child.kill().expect("it is ours");
            lines_read += 1;
        }
    }
    let status = child.wait().expect("it ends");
    assert_eq!(status.code(), None, "it was killed and did not end by itself");
}

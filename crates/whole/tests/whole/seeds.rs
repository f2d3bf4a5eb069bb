//! Runs of seeds.
//!
//! `EVERYNODE_SEED=N` runs one seed, and `EVERYNODE_SEEDS=A..B` a range. With
//! `EVERYNODE_HISTORIES=DIR`, the history of each run is written to a file with the seed's name.

use std::collections::BTreeSet;
use std::ops::Range;

use crate::network::Fault;
use crate::world::{Report, run};

/// Number of seeds that are run by default.
const SEEDS: u64 = 200;

/// Number of tests over which the seeds are distributed.
const PARTS: u64 = 8;

/// Seeds that found faults which are fixed now.
const KEPT: [(u64, &str); 20] = [
    (
        3,
        "a deletion whose answer was lost was taken for undone, and another node's pod was taken beyond maxUnavailable",
    ),
    (
        31,
        "a status that arrived a second time set observedGeneration back",
    ),
    (
        76,
        "a third pod was made on a node in a surge while the second was only asked to go",
    ),
    (
        112,
        "a node renewed its Lease again while its status stayed Unknown: its pods were called unready for ever",
    ),
    (121, "orphans of a set are taken over by a new one of its name"),
    (
        137,
        "a pod was made for a node whose new taint waited in the queue behind",
    ),
    (
        91,
        "a deletion whose answer was lost was asked for again though the template had come back",
    ),
    (
        348,
        "a deletion whose answer was lost was asked for again though the new pod had failed",
    ),
    (
        445,
        "a node that was given up just after it had come back was never told so",
    ),
    (
        537,
        "a simulated node that met a conflict late reported a pod for ever, and heard of no other",
    ),
    (
        618,
        "a pod that changed while a simulated node reported it was never reported",
    ),
    (
        802,
        "a pod of a vanished node that somebody changed as it was collected stayed for ever",
    ),
    (
        855,
        "the controllers were held to know that another pod had ended before they heard of it",
    ),
    (
        993,
        "what was listed came in another order each time, so that a seed did not replay",
    ),
    (
        1763,
        "a creation that the network brought again, after its pod was deleted, was held against the controllers",
    ),
    (
        4355,
        "a share of the nodes was taken as they were first and last, not as they were between",
    ),
    (
        5816,
        "a surge beside a pod whose deletion was under way, when its template came back, was taken for a second pod",
    ),
    (
        6381,
        "a pod of an old template that can never start was held to be the controllers' to replace, with OnDelete",
    ),
    (
        9541,
        "a deletion that was long under way was counted though its node wanted no pod any more",
    ),
    (
        9131,
        "an orphan that waited for a vanished node was held to be somebody's to remove",
    ),
];

/// Number of seeds that run twice by default, to check that both runs are equal.
const REPEATED: u64 = 5;

/// Number of last lines in the report of a failure.
const LINES_TOLD: usize = 300;

/// Runs a seed on its own thread, so that runs do not share state.
fn run_apart(seed: u64, off: &BTreeSet<Fault>) -> Report {
    let apart = std::thread::scope(|scope| scope.spawn(|| run(seed, off)).join());
    apart.unwrap_or_else(|_| panic!("seed {seed} panicked: EVERYNODE_SEED={seed} runs it alone"))
}

/// Returns the report of a seed's failure; `None` if it passes.
fn failure(seed: u64) -> Option<String> {
    let report = run_apart(seed, &BTreeSet::new());
    if let Some(folder) = std::env::var_os("EVERYNODE_HISTORIES") {
        let file = std::path::Path::new(&folder).join(seed.to_string());
        std::fs::write(file, report.lines.join("\n"))
            .expect("the folder of EVERYNODE_HISTORIES can be written to");
    }
    if report.violations.is_empty() {
        return None;
    }
    // Find the faults without which it still fails.
    let mut off = BTreeSet::new();
    let mut smallest = report;
    for fault in Fault::ALL {
        if !smallest.faults.contains(&fault) {
            continue;
        }
        off.insert(fault);
        let without = run_apart(seed, &off);
        if without.violations.is_empty() {
            off.remove(&fault);
        } else {
            smallest = without;
        }
    }
    let Report {
        violations,
        lines,
        faults,
        ..
    } = smallest;
    Some(format!(
        "seed {seed} with {faults:?}:\n{}\nseed {seed} broke:\n  {}\n",
        lines[lines.len().saturating_sub(LINES_TOLD)..].join("\n"),
        violations.join("\n  ")
    ))
}

/// Returns the seeds from the environment: one seed, a number of seeds, or a range. `unless_told`
/// is the default number.
fn wanted(unless_told: u64) -> Range<u64> {
    let number = |text: &str| text.trim().parse::<u64>().expect("a number of a seed");
    if let Ok(seed) = std::env::var("EVERYNODE_SEED") {
        let seed = number(&seed);
        return seed..seed + 1;
    }
    match std::env::var("EVERYNODE_SEEDS") {
        Err(_) => 0..unless_told,
        Ok(text) => match text.split_once("..") {
            Some((first, end)) => number(first)..number(end),
            None => 0..number(&text),
        },
    }
}

/// Runs every [`PARTS`]th of the seeds.
fn run_part(part: u64) {
    let wanted = wanted(SEEDS);
    let mine = wanted.clone().filter(|seed| seed % PARTS == part);
    let mut first = None;
    let mut failed = Vec::new();
    for seed in mine {
        if let Some(failure) = failure(seed) {
            first.get_or_insert(failure);
            failed.push(seed);
        }
    }
    assert!(
        failed.is_empty(),
        "{}{} of part {part} of {wanted:?} fail: {failed:?}",
        first.unwrap_or_default(),
        failed.len()
    );
}

/// The parts are separate tests, so that the harness runs them in parallel.
mod no_seed_breaks_a_property_and_all_come_to_rest {
    macro_rules! parts {
        ($($name:ident = $part:literal)*) => {$(
            #[test]
            fn $name() {
                super::run_part($part);
            }
        )*};
    }

    parts! {
        part_0 = 0 part_1 = 1 part_2 = 2 part_3 = 3 part_4 = 4 part_5 = 5 part_6 = 6 part_7 = 7
    }
}

#[test]
fn what_was_found_once_stays_mended() {
    for (seed, found) in KEPT {
        if let Some(failure) = failure(seed) {
            panic!("{failure}\nIt is back: {found}");
        }
    }
}

#[test]
fn a_seed_gives_the_same_run_again() {
    for seed in wanted(REPEATED) {
        let (first, second) = (
            run_apart(seed, &BTreeSet::new()),
            run_apart(seed, &BTreeSet::new()),
        );
        assert!(
            first.writes > 20,
            "seed {seed} does something: {} writes",
            first.writes
        );
        if first.hash != second.hash {
            let mut both = first.lines.iter().zip(&second.lines).enumerate();
            let differs = both.find(|(_, (first, second))| first != second);
            let (at, _) = differs.unwrap_or((0, (&first.lines[0], &second.lines[0])));
            let around = at.saturating_sub(5)..(at + 5).min(first.lines.len().min(second.lines.len()));
            panic!(
                "seed {seed} went another way:\n{:#?}\n{:#?}",
                &first.lines[around.clone()],
                &second.lines[around]
            );
        }
    }
}

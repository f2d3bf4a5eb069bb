//! Sends the seeds of the fuzzer in every test run. So the fuzz target compiles with the current
//! API, and fixed faults stay fixed.

#[path = "../../../../fuzz/fuzz_targets/target.rs"]
mod target;

use std::path::Path;

#[test]
fn every_request_that_the_fuzzer_starts_from_is_answered() {
    let seeds = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz/seeds");
    let mut sent = 0;
    for seed in std::fs::read_dir(&seeds).expect("the fuzzer's seeds") {
        let seed = seed.expect("a seed").path();
        target::send(&std::fs::read(&seed).expect("a seed's bytes"));
        sent += 1;
    }
    assert!(sent > 0, "no seed in {}", seeds.display());
}

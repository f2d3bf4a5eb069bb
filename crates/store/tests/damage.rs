//! The effect of a damaged, torn, missing or foreign file: an error with the reason, or the
//! complete state.

mod support;

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use store::engine::FILE_NAME;
use store::{Durability, Expect, OpenError, Store};
use support::*;

/// The disk writes files in units of this size.
const SECTOR: usize = 512;

fn block_on<R>(future: impl Future<Output = R>) -> R {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime")
        .block_on(future)
}

/// Creates, changes and deletes some objects in several commits.
async fn fill(store: &Store<Node>) {
    for number in 0..12 {
        let name = number.to_string();
        one(store, create(&name, "first")).await;
        one(store, update(&name, Expect::Exists, &"second".repeat(200))).await;
    }
    one(store, delete("3", Expect::Exists)).await;
}

fn contents(dir: &Path) -> Result<Vec<String>, OpenError> {
    let store = Store::open(dir, options())?;
    Ok(names(&store.list("/pods/")))
}

/// Copies a directory with one changed file.
fn copy_with(from: &Path, name: &str, changed: &[u8]) -> tempfile::TempDir {
    // In memory if possible: only the bytes matter here, not the flushes.
    let memory = Path::new("/dev/shm");
    let parent = if memory.is_dir() {
        memory.to_owned()
    } else {
        std::env::temp_dir()
    };
    let copy = tempfile::tempdir_in(parent).expect("a directory");
    for entry in fs::read_dir(from).expect("it can be read") {
        let path = entry.expect("it can be read").path();
        fs::copy(&path, copy.path().join(path.file_name().expect("it has a name")))
            .expect("it can be copied");
    }
    fs::write(copy.path().join(name), changed).expect("it can be written");
    copy
}

/// Opens the store with one changed file. Returns its objects if it opens.
fn open_with(from: &Path, name: &str, changed: &[u8]) -> Option<Vec<String>> {
    let copy = copy_with(from, name, changed);
    match contents(copy.path()) {
        Ok(names) => Some(names),
        Err(error) => {
            let text = error.to_string();
            assert!(matches!(error, OpenError::Damaged { .. }), "{text}");
            assert!(text.contains(name), "the message names the file: {text}");
            None
        }
    }
}

/// Some positions of a file: all of its header, and the rest in steps, since all would take
/// minutes. The step is coprime to the size of a page, so it hits other fields in each page.
fn positions(length: usize, step: usize) -> impl Iterator<Item = usize> {
    (0..192).step_by(2).chain((192..length).step_by(step))
}

/// Returns the length without the zeros at the end, which are not read.
fn used_length(bytes: &[u8]) -> usize {
    bytes
        .iter()
        .rposition(|byte| *byte != 0)
        .map_or(0, |last| last + 1)
}

#[test]
fn flipped_byte_is_detected_or_harmless() {
    let dir = tempfile::tempdir().expect("a directory");
    let truth = block_on(async {
        let store = Store::open(dir.path(), options()).expect("it opens");
        fill(&store).await;
        names(&store.list("/pods/"))
    });
    let bytes = fs::read(dir.path().join(FILE_NAME)).expect("it can be read");
    let mut refused = 0;
    let mut bad = bytes.clone();
    for position in positions(used_length(&bytes), 2039) {
        bad[position] ^= 0x5a;
        match open_with(dir.path(), FILE_NAME, &bad) {
            None => refused += 1,
            Some(names) => assert_eq!(names, truth, "byte {position}"),
        }
        bad[position] = bytes[position];
    }
    assert!(refused > 0);
}

#[test]
fn flipped_byte_after_crash_costs_at_most_one_transaction() {
    let dir = tempfile::tempdir().expect("a directory");
    block_on(async {
        let store = Store::open(dir.path(), options()).expect("it opens");
        fill(&store).await;
        let before = names(&store.list("/pods/"));
        one(&store, create("last", "1")).await;
        let truth = names(&store.list("/pods/"));
        // The file now has the content that a killed process leaves.
        let bytes = fs::read(dir.path().join(FILE_NAME)).expect("it can be read");
        let mut bad = bytes.clone();
        for position in positions(used_length(&bytes), 2039) {
            bad[position] ^= 0x5a;
            if let Some(names) = open_with(dir.path(), FILE_NAME, &bad) {
                // Damage to the last commit looks like a torn last write.
                assert!(names == truth || names == before, "byte {position}");
            }
            bad[position] = bytes[position];
        }
    });
}

#[test]
fn truncated_file_is_detected_or_complete() {
    let dir = tempfile::tempdir().expect("a directory");
    let truth = block_on(async {
        let store = Store::open(dir.path(), options()).expect("it opens");
        fill(&store).await;
        names(&store.list("/pods/"))
    });
    let bytes = fs::read(dir.path().join(FILE_NAME)).expect("it can be read");
    for length in (0..330).step_by(7).chain((330..bytes.len()).step_by(8191)) {
        if let Some(names) = open_with(dir.path(), FILE_NAME, &bytes[..length]) {
            assert_eq!(names, truth, "cut to {length} of {}", bytes.len());
        }
    }
}

#[test]
fn torn_last_write_is_there_completely_or_not_at_all() {
    let dir = tempfile::tempdir().expect("a directory");
    block_on(async {
        let store = Store::open(dir.path(), options()).expect("it opens");
        fill(&store).await;
        for round in 0..6 {
            let file = dir.path().join(FILE_NAME);
            let (before, old) = (
                names(&store.list("/pods/")),
                fs::read(&file).expect("it can be read"),
            );
            let writes = (0..3)
                .map(|part| create(&format!("torn-{round}-{part}"), &"x".repeat(3000)))
                .collect();
            commit(&store, writes).await.expect("all are new");
            let (after, new) = (
                names(&store.list("/pods/")),
                fs::read(&file).expect("it can be read"),
            );
            let length = new.len().max(old.len());
            let sector = |bytes: &[u8], number: usize| -> Vec<u8> {
                let mut sector = bytes
                    .iter()
                    .copied()
                    .skip(number * SECTOR)
                    .take(SECTOR)
                    .collect::<Vec<u8>>();
                sector.resize(SECTOR, 0);
                sector
            };
            let changed: Vec<usize> = (0..length / SECTOR)
                .filter(|n| sector(&old, *n) != sector(&new, *n))
                .collect();
            assert!(!changed.is_empty());
            let mut seen = BTreeSet::new();
            let mut random = 0x9e37_79b9_7f4a_7c15_u64 + round;
            for _ in 0..40 {
                let mut torn = old.clone();
                torn.resize(length, 0);
                for number in &changed {
                    random ^= random << 13;
                    random ^= random >> 7;
                    random ^= random << 17;
                    if random.is_multiple_of(4) {
                        continue;
                    }
                    let range = number * SECTOR..(number + 1) * SECTOR;
                    torn[range.clone()].copy_from_slice(&new[range]);
                }
                let names =
                    open_with(dir.path(), FILE_NAME, &torn).expect("a torn write is nothing to refuse");
                assert!(names == before || names == after, "round {round}: {names:?}");
                seen.insert(names);
            }
            assert!(seen.contains(&before));
        }
    });
}

#[test]
fn missing_or_empty_file_is_not_a_new_store() {
    let dir = tempfile::tempdir().expect("a directory");
    block_on(async {
        let store = Store::open(dir.path(), options()).expect("it opens");
        fill(&store).await;
    });
    assert_eq!(open_with(dir.path(), FILE_NAME, b""), None);
    assert_eq!(open_with(dir.path(), FILE_NAME, b"this is no database"), None);
    assert_eq!(open_with(dir.path(), FILE_NAME, &vec![0; 1 << 20]), None);
    let copy = copy_with(dir.path(), "seal.new", b"");
    fs::remove_file(copy.path().join(FILE_NAME)).expect("it is there");
    let error = contents(copy.path()).unwrap_err().to_string();
    assert!(
        error.contains("store.redb is damaged: the file is missing. Restore the whole directory"),
        "{error}"
    );
}

#[test]
fn older_copy_of_the_file_is_rejected() {
    let dir = tempfile::tempdir().expect("a directory");
    let file = dir.path().join(FILE_NAME);
    block_on(async {
        let store = Store::open(dir.path(), options()).expect("it opens");
        fill(&store).await;
    });
    let old = fs::read(&file).expect("it can be read");
    block_on(async {
        let store = Store::open(dir.path(), options()).expect("it opens");
        one(&store, create("new", "1")).await;
        drop(store);
        assert_eq!(open_with(dir.path(), FILE_NAME, &old), None);
        // The same when the newer one was not closed.
        let store = Store::open(dir.path(), options()).expect("it opens");
        assert_eq!(open_with(dir.path(), FILE_NAME, &old), None);
        drop(store);
    });
}

#[test]
fn damaged_seal_is_rejected() {
    let dir = tempfile::tempdir().expect("a directory");
    block_on(async {
        let store = Store::open(dir.path(), options()).expect("it opens");
        fill(&store).await;
    });
    let bytes = fs::read(dir.path().join("seal")).expect("it can be read");
    for position in 0..bytes.len() {
        let mut bad = bytes.clone();
        bad[position] ^= 1;
        assert_eq!(open_with(dir.path(), "seal", &bad), None);
        assert_eq!(open_with(dir.path(), "seal", &bytes[..position]), None);
    }
}

#[test]
fn body_that_cannot_be_decoded_is_named() {
    let dir = tempfile::tempdir().expect("a directory");
    block_on(async {
        let store = Store::open(dir.path(), options()).expect("it opens");
        fill(&store).await;
    });
    let decode = |key: &store::Key, _: &[u8]| Err(format!("no idea of {key}").into());
    let error = Store::open(dir.path(), store::Options { decode, ..options() })
        .err()
        .expect("it is refused");
    assert!(error.to_string().contains("the object /pods/default/"), "{error}");
    assert!(contents(dir.path()).is_ok(), "the refusal changed nothing");
}

#[test]
fn directory_is_opened_by_one_process_at_a_time() {
    let dir = tempfile::tempdir().expect("a directory");
    let store = Store::open(dir.path(), options()).expect("it opens");
    let error = Store::open(dir.path(), options())
        .err()
        .expect("it is refused")
        .to_string();
    assert!(
        error.contains(&format!(
            "{} is in use by process {}",
            dir.path().display(),
            std::process::id()
        )),
        "{error}"
    );
    drop(store);
    Store::open(dir.path(), options()).expect("it is free again");
}

#[test]
fn relaxed_writes_survive_an_orderly_close() {
    let dir = tempfile::tempdir().expect("a directory");
    let (revision, truth) = block_on(async {
        let store = Store::open(dir.path(), options()).expect("it opens");
        for number in 0..10 {
            let write = create(&number.to_string(), "1");
            store
                .commit(vec![write], Durability::Relaxed)
                .await
                .expect("it is new");
        }
        assert_eq!(store.stats().flushes, 0, "they cost no flush");
        (store.revision(), names(&store.list("/pods/")))
    });
    let store = Store::open(dir.path(), options()).expect("it opens");
    assert_eq!(names(&store.list("/pods/")), truth);
    assert_eq!(store.revision(), revision, "an orderly end wastes no revision");
}

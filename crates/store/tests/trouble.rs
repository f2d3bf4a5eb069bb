//! A disk that is full, hangs or loses its directory while the store is open.

mod support;

use std::fs;
use std::io;
use std::path::Path;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Condvar, Mutex};

use disk::{Disk, Gate, Operation, Verdict};
use store::{CommitError, Durability, Expect, Options, REVISIONS_SKIPPED, Revision, Store, Trouble};
use support::*;

/// A disk that is full for some time: operations that need space fail.
#[derive(Default)]
struct Full {
    /// Operations that succeed before it is full.
    passes: AtomicI64,
    /// Operations that fail then.
    refuses: AtomicI64,
}

impl Full {
    fn for_now() -> Arc<Full> {
        let full = Full::default();
        full.refuses.store(i64::MAX, Ordering::SeqCst);
        Arc::new(full)
    }

    fn has_space(&self) {
        self.refuses.store(0, Ordering::SeqCst);
    }
}

impl Gate for Full {
    fn pass(&self, operation: Operation, _path: &Path) -> Verdict {
        if matches!(operation, Operation::Remove)
            || self.passes.fetch_sub(1, Ordering::SeqCst) > 0
            || self.refuses.fetch_sub(1, Ordering::SeqCst) <= 0
        {
            return Verdict::Pass;
        }
        const NO_SPACE: i32 = 28;
        Verdict::Tear(io::Error::from_raw_os_error(NO_SPACE))
    }
}

fn open(dir: &Path, gate: Arc<dyn Gate>) -> Store<Node> {
    let disk = Disk::gated(gate);
    Store::open(dir, Options { disk, ..options() }).expect("open")
}

async fn prepared() -> tempfile::TempDir {
    let dir = directory();
    let store = Store::open(dir.path(), options()).expect("open");
    one(&store, create("a", "old")).await;
    one(&store, create("b", "old")).await;
    store.close().expect("close");
    dir
}

#[tokio::test]
async fn store_is_writable_again_when_the_disk_has_space() {
    let dir = prepared().await;
    let full = Full::for_now();
    full.passes.store(i64::MAX, Ordering::SeqCst);
    let store = open(dir.path(), full.clone());
    one(&store, create("c", "1")).await;
    full.passes.store(0, Ordering::SeqCst);
    let failed = commit(&store, vec![create("d", "1"), delete("a", Expect::Exists)]).await;
    assert!(
        matches!(&failed, Err(CommitError::Failed(why)) if why.contains("No space left on device")),
        "{failed:?}"
    );
    assert!(
        matches!(store.trouble(), Some(Trouble::Refused(_))),
        "{:?}",
        store.trouble()
    );
    assert_eq!(names(&store.list("/pods/")), ["a=old", "b=old", "c=1"]);
    // Renewals of leases continue, so no node is lost because of a full disk.
    let lease = store
        .commit(vec![create("lease", "1")], Durability::Relaxed)
        .await
        .expect("commit");
    full.has_space();
    until_trouble(&store, false).await;
    let done = one(&store, create("e", "1")).await;
    assert!(done.revision > lease[0].revision);
    assert!(store.stats().failures > 0);
    let truth = ["a=old", "b=old", "c=1", "e=1", "lease=1"];
    assert_eq!(names(&store.list("/pods/")), truth);
    store.close().expect("close");
    let store = Store::open(dir.path(), options()).expect("open");
    assert_eq!(names(&store.list("/pods/")), truth);
}

/// The disk is full for one or for some operations, starting at each operation in turn.
#[tokio::test]
async fn store_matches_its_responses_whichever_write_failed() {
    for refuses in [1, 2] {
        for passes in 0.. {
            let dir = prepared().await;
            let full = Arc::new(Full::default());
            full.passes.store(passes, Ordering::SeqCst);
            full.refuses.store(refuses, Ordering::SeqCst);
            let store = open(dir.path(), full.clone());
            let mut revisions = vec![store.revision()];
            let mut known = vec!["a=old".to_owned(), "b=old".to_owned()];
            for (index, name) in ["c", "d", "e"].into_iter().enumerate() {
                let write = vec![create(name, &"x".repeat(3000 * index))];
                if let Ok(done) = commit(&store, write).await {
                    revisions.push(done[0].revision);
                    known.push(describe(&done[0]));
                }
            }
            let point = format!("{refuses} refused after {passes}");
            assert!(
                revisions.windows(2).all(|pair| pair[0] < pair[1]),
                "{point}: {revisions:?}"
            );
            assert_eq!(names(&store.list("/pods/")), known, "{point}");
            until_trouble(&store, false).await;
            let done = loop {
                match commit(&store, vec![create("f", "1")]).await {
                    Ok(done) => break done,
                    // It is the failed write; nothing of it happened.
                    Err(_) => until_trouble(&store, false).await,
                }
            };
            known.push(describe(&done[0]));
            assert_eq!(names(&store.list("/pods/")), known, "{point}");
            drop(store.close());
            let store = Store::open(dir.path(), options()).unwrap_or_else(|error| panic!("{point}: {error}"));
            assert_eq!(names(&store.list("/pods/")), known, "{point}");
            if full.refuses.load(Ordering::SeqCst) == refuses {
                assert!(passes > 20, "only {passes} operations were refused");
                break;
            }
        }
    }
}

#[tokio::test]
async fn store_can_be_read_when_the_disk_is_full_at_its_start() {
    let dir = prepared().await;
    let full = Full::for_now();
    let store = open(dir.path(), full.clone());
    assert_eq!(names(&store.list("/pods/")), ["a=old", "b=old"]);
    assert!(matches!(
        commit(&store, vec![create("c", "1")]).await,
        Err(CommitError::Failed(_))
    ));
    let relaxed = store.commit(vec![create("c", "1")], Durability::Relaxed).await;
    assert!(
        matches!(relaxed, Err(CommitError::Failed(_))),
        "no revision is reserved"
    );
    full.has_space();
    until_trouble(&store, false).await;
    one(&store, create("c", "1")).await;
    store.close().expect("close");
    let store = Store::open(dir.path(), options()).expect("open");
    assert_eq!(names(&store.list("/pods/")), ["a=old", "b=old", "c=1"]);
}

#[tokio::test]
async fn close_fails_when_the_disk_is_full() {
    let dir = prepared().await;
    let full = Full::for_now();
    full.passes.store(i64::MAX, Ordering::SeqCst);
    let store = open(dir.path(), full.clone());
    full.passes.store(0, Ordering::SeqCst);
    let error = store.close().expect_err("nothing can be written").to_string();
    assert!(error.contains("No space left on device"), "{error}");
}

#[tokio::test]
async fn nothing_is_acknowledged_without_the_directory() {
    let dir = prepared().await;
    let store = Store::open(dir.path(), options()).expect("open");
    let aside = dir.path().with_extension("aside");
    fs::rename(dir.path(), &aside).expect("move the directory away");
    let error = commit(&store, vec![create("c", "1")])
        .await
        .expect_err("it would be lost")
        .to_string();
    assert!(error.contains("was removed or replaced"), "{error}");
    assert!(store.trouble().is_some());
    // After the rename it is the same file.
    fs::rename(&aside, dir.path()).expect("put it back");
    until_trouble(&store, false).await;
    one(&store, create("d", "1")).await;
    fs::remove_dir_all(dir.path()).expect("remove the directory");
    assert!(commit(&store, vec![create("e", "1")]).await.is_err());
    assert!(store.close().is_err(), "it was not closed in order");
    assert!(!dir.path().exists(), "nothing was made in its place");
}

#[tokio::test]
async fn removed_directory_is_noticed_without_a_write() {
    let dir = prepared().await;
    let store = Store::open(dir.path(), options()).expect("open");
    fs::remove_dir_all(dir.path()).expect("remove the directory");
    until_trouble(&store, true).await;
}

/// A disk on which a flush takes until the test releases it.
#[derive(Default)]
struct Hanging {
    hangs: Mutex<bool>,
    changed: Condvar,
}

impl Hanging {
    fn set(&self, hangs: bool) {
        *self.hangs.lock().expect("lock") = hangs;
        self.changed.notify_all();
    }
}

impl Gate for Hanging {
    fn pass(&self, operation: Operation, _path: &Path) -> Verdict {
        let mut hangs = self.hangs.lock().expect("lock");
        while *hangs && operation == Operation::Sync {
            hangs = self.changed.wait(hangs).expect("lock");
        }
        Verdict::Pass
    }
}

#[tokio::test]
async fn hanging_disk_is_reported_while_it_hangs() {
    let dir = prepared().await;
    let gate = Arc::new(Hanging::default());
    let store = open(dir.path(), gate.clone());
    gate.set(true);
    let writing = tokio::spawn({
        let store = store.clone();
        async move { commit(&store, vec![create("c", "1")]).await.map(drop) }
    });
    until_trouble(&store, true).await;
    assert!(matches!(store.trouble(), Some(Trouble::Stalled(_))));
    assert!(!writing.is_finished());
    gate.set(false);
    writing.await.expect("no panic").expect("commit");
    until_trouble(&store, false).await;
}

#[tokio::test]
async fn copied_directory_skips_revisions() {
    let dir = prepared().await;
    let copy = tempfile::tempdir().expect("make a directory");
    for entry in fs::read_dir(dir.path()).expect("read") {
        let path = entry.expect("read").path();
        fs::copy(&path, copy.path().join(path.file_name().expect("a name"))).expect("copy");
    }
    // The changes after the copy are lost when the copy is used.
    let store = Store::open(dir.path(), options()).expect("open");
    let lost = one(&store, create("c", "1")).await.revision;
    store.close().expect("close");
    let again = Store::open(dir.path(), options()).expect("open");
    assert!(
        again.revision().0 < lost.0 + REVISIONS_SKIPPED,
        "the same file is no copy"
    );
    drop(again);
    let store = Store::open(copy.path(), options()).expect("open");
    assert!(store.revision() > Revision(lost.0 + REVISIONS_SKIPPED / 2));
    let watch = store.watch("/pods/", lost, store::Interest::All);
    assert!(watch.is_err(), "a watch from a lost revision has to begin anew");
    let base = store.revision();
    store.close().expect("close");
    let store = Store::open(copy.path(), options()).expect("open");
    assert_eq!(store.revision(), base, "a copy moves ahead once");
}

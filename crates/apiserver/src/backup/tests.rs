use std::sync::Arc;

use disk::CutOff;
use jiff::Timestamp;
use store::{Durability, Expect};

use super::*;
use crate::objects::{Objects, stored_form};
use crate::pki::Pki;

const NAMESPACE: &str = "Namespace";

async fn put(objects: &Objects, name: &str) -> u64 {
    let kind = objects::core(NAMESPACE).unwrap();
    let object = serde_json::json!({"kind": NAMESPACE, "apiVersion": "v1", "metadata": {"name": name}});
    let (body, attributes) = stored_form(kind, &object);
    let write = objects::Write {
        key: objects::key(kind, "", name),
        expect: Expect::Absent,
        change: store::Change::Put { body, attributes },
    };
    objects.commit(vec![write], Durability::Durable).await.unwrap()[0]
        .revision
        .0
}

fn names(objects: &Objects) -> Vec<String> {
    let kind = objects::core(NAMESPACE).unwrap();
    let list = objects.list(&objects::prefix(kind, ""));
    let name = |key: &str| key.rsplit('/').next().unwrap().to_owned();
    list.iter().map(|object| name(object.key.as_str())).collect()
}

/// Creates a data directory with these namespaces. Returns it with its newest revision.
async fn data_dir(namespaces: &[&str]) -> (tempfile::TempDir, u64) {
    let dir = tempfile::tempdir().unwrap();
    Pki::open(dir.path(), &Disk::default(), false, Timestamp::now()).unwrap();
    let objects = objects::open(&objects::folder(dir.path())).unwrap();
    let mut revision = 0;
    for name in namespaces {
        revision = put(&objects, name).await;
    }
    objects.close().unwrap();
    (dir, revision)
}

fn back_up(dir: &Path) -> tempfile::NamedTempFile {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    write(dir, &mut file).unwrap();
    file
}

fn authority(dir: &Path) -> String {
    fs::read_to_string(dir.join("pki/ca.crt")).unwrap()
}

#[tokio::test]
async fn restored_directory_holds_keys_and_objects_at_later_revisions() {
    let (dir, revision) = data_dir(&["a", "b"]).await;
    let backup = back_up(dir.path());
    assert_eq!(check(backup.path()).unwrap().objects, 2);
    let fresh = tempfile::tempdir().unwrap();
    let target = fresh.path().join("data");
    restore(backup.path(), &target, &Disk::default(), false).unwrap();
    assert_eq!(authority(&target), authority(dir.path()));
    let objects = objects::open(&objects::folder(&target)).unwrap();
    assert_eq!(names(&objects), ["a", "b"]);
    assert!(objects.revision().0 >= revision + store::REVISIONS_SKIPPED);
    let prefix = objects::prefix(objects::core(NAMESPACE).unwrap(), "");
    // Also a revision that a client saw after the backup.
    let watch = objects.watch(&prefix, store::Revision(revision + 1000), store::Interest::All);
    assert!(matches!(watch, Err(store::WatchError::Compacted { .. })));
    assert!(put(&objects, "c").await > revision + store::REVISIONS_SKIPPED);
}

#[tokio::test]
async fn restore_replaces_a_cluster_only_when_forced() {
    let (dir, _) = data_dir(&["a"]).await;
    let backup = back_up(dir.path());
    let (other, _) = data_dir(&["b"]).await;
    let error = restore(backup.path(), other.path(), &Disk::default(), false).unwrap_err();
    assert!(error.to_string().contains("--force"), "{error}");
    let running = objects::open(&objects::folder(other.path())).unwrap();
    let error = restore(backup.path(), other.path(), &Disk::default(), true).unwrap_err();
    assert!(error.is_of_a_running_server(), "{error}");
    running.close().unwrap();
    drop(running);
    restore(backup.path(), other.path(), &Disk::default(), true).unwrap();
    let objects = objects::open(&objects::folder(other.path())).unwrap();
    assert_eq!(names(&objects), ["a"]);
    let replaced = objects::open(&other.path().join("store.replaced")).unwrap();
    assert_eq!(names(&replaced), ["b"]);
}

#[tokio::test]
async fn altered_or_cut_backup_is_refused_and_changes_nothing() {
    let (dir, _) = data_dir(&["a", "b"]).await;
    let bytes = fs::read(back_up(dir.path()).path()).unwrap();
    let target = tempfile::tempdir().unwrap();
    let file = target.path().join("backup");
    let data = target.path().join("data");
    for at in (0..bytes.len()).step_by(37) {
        let mut altered = bytes.clone();
        altered[at] ^= 0x5a;
        for bad in [&altered[..], &bytes[..at]] {
            fs::write(&file, bad).unwrap();
            assert!(check(&file).is_err(), "byte {at}");
        }
    }
    fs::write(&file, &bytes[..bytes.len() - 1]).unwrap();
    assert!(restore(&file, &data, &Disk::default(), false).is_err());
    assert!(!data.join("store").exists() && !data.join("pki").exists());
}

#[tokio::test]
async fn restore_is_repeatable_wherever_it_was_cut_off() {
    let (dir, _) = data_dir(&["a"]).await;
    let backup = back_up(dir.path());
    for passes in 0.. {
        let (other, _) = data_dir(&["b"]).await;
        let before = authority(other.path());
        let cut = Arc::new(CutOff::after(passes));
        let done = restore(backup.path(), other.path(), &Disk::gated(cut.clone()), true);
        let point = format!("cut after {passes} operations");
        let mut is_complete = false;
        if unfinished(other.path()).is_none() {
            let objects = objects::open(&objects::folder(other.path())).unwrap();
            is_complete = names(&objects) == ["a"];
            assert!(is_complete || names(&objects) == ["b"], "{point}");
            assert!(is_complete || done.is_err(), "{point}");
            let keys = match is_complete {
                true => authority(dir.path()),
                false => before,
            };
            assert_eq!(authority(other.path()), keys, "{point}");
        }
        restore(backup.path(), other.path(), &Disk::default(), true).unwrap();
        assert!(unfinished(other.path()).is_none(), "{point}");
        let objects = objects::open(&objects::folder(other.path())).unwrap();
        assert_eq!(names(&objects), ["a"], "{point}");
        assert_eq!(authority(other.path()), authority(dir.path()), "{point}");
        if !cut.has_cut() {
            assert!(passes > 30, "only {passes} operations were cut off");
            break;
        }
        if !is_complete {
            let replaced = objects::open(&other.path().join("store.replaced")).unwrap();
            assert_eq!(names(&replaced), ["b"], "{point}: what was there before is lost");
        }
    }
}

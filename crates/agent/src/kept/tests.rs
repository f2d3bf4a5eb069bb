use std::os::unix::fs::PermissionsExt;

use proptest::prelude::*;
use tempfile::TempDir;

use super::*;

fn folder() -> TempDir {
    tempfile::tempdir().expect("a folder")
}

fn open(folder: &TempDir) -> (Kept, BTreeMap<String, String>) {
    let (kept, values) = Kept::open(&folder.path().join("agent"), "n", |_| true);
    let texts = values.into_iter();
    (kept, texts.map(|(key, value)| (key, value.to_string())).collect())
}

fn file(folder: &TempDir) -> PathBuf {
    folder.path().join("agent").join(FILE)
}

fn pairs<const N: usize>(pairs: [(&str, &str); N]) -> BTreeMap<String, String> {
    pairs
        .map(|(key, value)| (key.to_owned(), value.to_owned()))
        .into()
}

/// What is read when the file holds these bytes, and whether it was set aside.
fn after(bytes: &[u8]) -> (BTreeMap<String, String>, bool) {
    let folder = folder();
    fs::create_dir(folder.path().join("agent")).expect("make");
    fs::write(file(&folder), bytes).expect("write");
    let (kept, values) = open(&folder);
    // It can be written to all the same.
    kept.put("new", "1".into());
    assert!(kept.write());
    let (_, again) = open(&folder);
    let mut expected = values.clone();
    expected.insert("new".into(), "1".into());
    assert_eq!(again, expected);
    (values, file(&folder).with_extension("damaged").exists())
}

#[test]
fn what_is_kept_is_there_after_a_restart() {
    let folder = folder();
    let (kept, values) = open(&folder);
    assert_eq!(values, pairs([]));
    kept.put("pods/a", r#"{"a b":"c\nd"}"#.into());
    kept.put("pods/b", "1".into());
    kept.put("pods/b", "2".into());
    assert!(kept.write());
    kept.remove("pods/a");
    kept.remove("pods/never");
    kept.put("nodes/n", "[]".into());
    assert!(kept.write());
    let expected = pairs([("nodes/n", "[]"), ("pods/b", "2")]);
    let (kept, values) = open(&folder);
    assert_eq!(values, expected);
    assert_eq!(kept.keys("pods/"), ["pods/b"]);
    let mode = |path: &Path| fs::metadata(path).expect("stat").permissions().mode() & 0o777;
    assert_eq!(mode(&file(&folder)), 0o600);
    assert_eq!(mode(&folder.path().join("agent")), 0o700);
}

#[test]
fn what_is_kept_already_is_not_written_again() {
    let folder = folder();
    let (kept, _) = open(&folder);
    kept.put("pods/a", "1".into());
    assert!(kept.write());
    let before = fs::read(file(&folder)).expect("read");
    kept.put("pods/a", "1".into());
    assert!(kept.state().pending.is_empty());
    let (kept, _) = open(&folder);
    kept.put("pods/a", "1".into());
    assert!(kept.state().pending.is_empty());
    assert_eq!(fs::read(file(&folder)).expect("read"), before);
}

#[test]
fn a_change_costs_its_own_size_and_history_is_bounded() {
    let folder = folder();
    let (kept, _) = open(&folder);
    let large = format!("\"{}\"", "x".repeat(100_000));
    kept.put("a", large.clone());
    assert!(kept.write());
    let length = || fs::metadata(file(&folder)).expect("stat").len();
    let before = length();
    kept.put("b", "1".into());
    assert!(kept.write());
    assert!(length() - before < 64, "{} more", length() - before);
    for round in 0..20 {
        kept.put("a", format!("\"{round}{}", &large[1..]));
        assert!(kept.write());
        assert!(length() <= 3 * before + HISTORY);
    }
    let (_, values) = open(&folder);
    assert!(values["a"].starts_with("\"19"));
}

#[test]
fn a_secret_that_is_gone_or_replaced_is_not_left_in_the_file() {
    let folder = folder();
    let (kept, _) = open(&folder);
    kept.put("secrets/s", "\"first\"".into());
    kept.put("other", "1".into());
    assert!(kept.write());
    let holds = |text: &str| {
        let bytes = fs::read(file(&folder)).expect("read");
        String::from_utf8_lossy(&bytes).contains(text)
    };
    assert!(holds("first"));
    kept.put("secrets/s", "\"second\"".into());
    assert!(kept.write());
    assert!(!holds("first") && holds("second"));
    // Who keeps no Secrets any more finds none.
    let (_, values) = Kept::open(&folder.path().join("agent"), "n", |key| !key.starts_with(SECRETS));
    assert_eq!(values.len(), 1);
    assert!(!holds("second") && holds("other"));
}

#[test]
fn another_format_or_another_node_s_is_set_aside() {
    let line = line("a", Some("1"));
    for header in ["everynode told 0 n\n", "everynode told 1 m\n", "", "\0\0\0\0"] {
        assert_eq!(
            after(format!("{header}{line}").as_bytes()),
            (pairs([]), true),
            "{header:?}"
        );
    }
    assert_eq!(after(b""), (pairs([]), true));
}

#[test]
fn a_line_that_is_damaged_is_left_out_and_the_file_set_aside() {
    let whole = format!("{}{}{}", header("n"), line("a", Some("1")), line("b", Some("2")));
    assert_eq!(after(whole.as_bytes()), (pairs([("a", "1"), ("b", "2")]), false));
    let damaged = whole.replace("a 1", "a 7");
    assert_eq!(after(damaged.as_bytes()), (pairs([("b", "2")]), true));
}

#[tokio::test]
async fn what_cannot_be_written_now_is_written_later() {
    let folder = folder();
    let (kept, _) = open(&folder);
    // A file is where the folder should be.
    fs::write(folder.path().join("agent"), "").expect("write");
    kept.put("a", "1".into());
    kept.put("b", "1".into());
    assert!(!kept.flush().await);
    kept.put("b", "2".into());
    fs::remove_file(folder.path().join("agent")).expect("remove");
    assert!(kept.flush().await);
    assert_eq!(open(&folder).1, pairs([("a", "1"), ("b", "2")]));
}

#[tokio::test(start_paused = true)]
async fn changes_are_gathered() {
    let folder = folder();
    let (kept, _) = open(&folder);
    let stop = CancellationToken::new();
    let running = tokio::spawn(kept.clone().run(stop.clone()));
    kept.put("a", "1".into());
    tokio::time::sleep(GATHER / 2).await;
    assert!(!file(&folder).exists());
    kept.put("b", "2".into());
    let look = async || match file(&folder).exists() {
        true => Ok(()),
        false => Err("nothing".to_owned()),
    };
    testkit::wait_for_async("the file", look).await.expect("the file");
    assert_eq!(open(&folder).1, pairs([("a", "1"), ("b", "2")]));
    stop.cancel();
    running.await.expect("the end");
}

proptest! {
    /// Killed at any byte of any write, the next agent finds a state that was, no later than the last.
    #[test]
    fn a_write_that_breaks_off_leaves_the_state_before_it_or_a_part_of_its_changes(
        batches in prop::collection::vec(prop::collection::btree_map("[a-d]", prop::option::of(0..9_u8), 1..4), 1..5),
        cut in any::<prop::sample::Index>(),
    ) {
        let mut text = header("n");
        let mut states = vec![(text.len(), BTreeMap::new())];
        for (key, value) in batches.into_iter().flatten() {
            let value = value.map(|value| value.to_string());
            text.push_str(&line(&key, value.as_deref()));
            let mut state = states.last().expect("a state").1.clone();
            match value {
                Some(value) => state.insert(key, value),
                None => state.remove(&key),
            };
            states.push((text.len(), state));
        }
        let begin = states[0].0;
        let cut = begin + cut.index(text.len() - begin + 1);
        let expected = &states.iter().rev().find(|(length, _)| *length <= cut).expect("a state").1;
        let (values, aside) = after(&text.as_bytes()[..cut]);
        prop_assert_eq!(&values, expected);
        prop_assert!(!aside);
    }

    #[test]
    fn no_bytes_keep_an_agent_from_starting(bytes in prop::collection::vec(any::<u8>(), 0..200), headed in any::<bool>()) {
        let mut file = if headed { header("n").into_bytes() } else { Vec::new() };
        file.extend(bytes);
        after(&file);
    }
}

#[test]
fn kept_values_are_old_or_new_wherever_a_write_is_cut() {
    use disk::{CutOff, Disk};
    for torn in [false, true] {
        for passes in 0.. {
            let folder = folder();
            let (kept, _) = open(&folder);
            kept.put("pods/a", "1".into());
            kept.put("secrets/s", "1".into());
            assert!(kept.write());
            let cut = Arc::new(match torn {
                false => CutOff::after(passes),
                true => CutOff::within(passes),
            });
            let disk = Disk::gated(cut.clone());
            let (kept, _) = Kept::open_on(disk, &folder.path().join("agent"), "n", |_| true);
            // Appended, then written anew, since a secret goes.
            kept.put("pods/a", "2".into());
            let appended = kept.write();
            kept.remove("secrets/s");
            kept.put("pods/b", "1".into());
            let anew = kept.write();
            let (after, values) = open(&folder);
            let point = format!("cut after {passes} operations (torn: {torn}): {values:?}");
            let is = |key: &str| values.get(key).map(String::as_str);
            assert!(
                is("pods/a") == Some("2") || (is("pods/a") == Some("1") && !appended),
                "{point}"
            );
            assert!(is("secrets/s").is_none() || !anew, "{point}");
            assert!(is("pods/b") == Some("1") || !anew, "{point}");
            after.put("pods/c", "1".into());
            assert!(after.write(), "{point}");
            assert_eq!(
                open(&folder).1.get("pods/c").map(String::as_str),
                Some("1"),
                "{point}"
            );
            if !cut.has_cut() {
                assert!(passes >= 7, "only {passes} operations were cut off");
                break;
            }
        }
    }
}

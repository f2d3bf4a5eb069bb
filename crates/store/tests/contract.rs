//! The behavior of every log, tested with the one in memory and the one on the disk. The guarantees
//! of a watch have the names that etcd uses.

mod support;

use std::sync::Arc;
use std::time::Duration;

use futures::future::join_all;
use store::{
    CommitError, Durability, Expect, HistoryLimits, Interest, Key, ListError, Options, Revision, Store,
    WATCH_QUEUE_MAX, WatchError,
};
use support::*;

/// Runs a list of functions as tests of each log.
macro_rules! contract {
    ($($name:ident)*) => {
        mod memory {
            $(#[tokio::test] async fn $name() {
                super::$name(&|options| store::Store::in_memory(options)).await;
            })*
        }
        mod embedded {
            $(#[tokio::test] async fn $name() {
                let dir = tempfile::tempdir().expect("a directory");
                super::$name(&|options| store::Store::open(dir.path(), options).expect("it opens")).await;
            })*
        }
    };
}

type Open<'a> = &'a dyn Fn(Options<Node>) -> Store<Node>;

contract! {
    write_happens_only_when_its_condition_is_true
    transaction_is_atomic
    key_occurs_once_in_a_transaction
    one_of_concurrent_updates_from_one_revision_wins
    revisions_grow_strictly_and_every_write_has_its_own
    what_a_commit_returns_is_visible_everywhere
    bodies_are_encoded_once_and_shared
    list_is_in_key_order_and_by_prefix
    snapshot_does_not_change
    pages_follow_one_another_at_one_revision
    index_lists_only_its_members
    old_revision_can_be_listed_while_in_the_history
    watch_is_ordered
    watch_is_unique
    watch_is_atomic
    watch_is_reliable
    watch_is_resumable
    watch_is_bookmarkable
    watch_before_the_history_returns_compacted
    watch_may_start_in_the_future
    prefix_covers_only_its_own_keys
    indexed_watcher_receives_objects_that_enter_and_leave
    slow_watcher_continues_from_the_history
    watcher_slower_than_the_history_ends_with_compacted
    waiting_watcher_is_woken
    dropped_watcher_is_removed
    wait_for_ends_at_the_revision_or_the_timeout
    relaxed_and_durable_writes_keep_one_order
    closed_store_rejects_writes_and_ends_its_watches
}

async fn write_happens_only_when_its_condition_is_true(open: Open<'_>) {
    let store = open(options());
    let first = one(&store, create("a", "1")).await;
    for (write, holds) in [
        (create("a", "2"), false),
        (
            update("a", Expect::At(Revision(first.revision.0 - 1)), "2"),
            false,
        ),
        (update("a", Expect::At(first.revision), "2"), true),
        (update("a", Expect::At(first.revision), "3"), false),
        (update("a", Expect::Exists, "3"), true),
        (update("b", Expect::Exists, "1"), false),
        (update("b", Expect::At(first.revision), "1"), false),
        (delete("b", Expect::Exists), false),
        (delete("b", Expect::Absent), false),
        (delete("a", Expect::At(first.revision)), false),
        (delete("a", Expect::Exists), true),
        (create("a", "4"), true),
    ] {
        let text = format!("{write:?}");
        let before = store.get(write.key.as_str());
        match commit(&store, vec![write]).await {
            Ok(_) => assert!(holds, "{text} should not have happened"),
            Err(CommitError::Conflict { current, .. }) => {
                assert!(!holds, "{text} should have happened");
                assert_eq!(
                    current.map(|object| object.revision),
                    before.map(|object| object.revision)
                );
            }
            Err(error) => panic!("{text}: {error}"),
        }
    }
    assert_eq!(names(&store.list("/pods/")), ["a=4"]);
}

async fn transaction_is_atomic(open: Open<'_>) {
    let store = open(options());
    one(&store, create("a", "1")).await;
    let revision = store.revision();
    let refused = commit(
        &store,
        vec![
            create("b", "1"),
            update("a", Expect::Exists, "2"),
            create("a", "3"),
        ],
    )
    .await;
    assert!(matches!(refused, Err(CommitError::Duplicate { .. })));
    let refused = commit(&store, vec![create("b", "1"), create("a", "3"), create("c", "1")]).await;
    assert!(matches!(refused, Err(CommitError::Conflict { key, .. }) if key == support::key("a")));
    assert_eq!(names(&store.list("/pods/")), ["a=1"]);
    let done = commit(&store, vec![create("b", "1"), delete("a", Expect::Exists)])
        .await
        .expect("all conditions hold");
    assert_eq!(done.len(), 2);
    assert_eq!(names(&store.list("/pods/")), ["b=1"]);
    assert!(done[0].revision > revision && done[1].revision > done[0].revision);
    assert_eq!(store.revision(), done[1].revision);
}

async fn key_occurs_once_in_a_transaction(open: Open<'_>) {
    let store = open(options());
    let refused = commit(&store, vec![create("a", "1"), update("a", Expect::Exists, "2")]).await;
    assert!(matches!(refused, Err(CommitError::Duplicate { key }) if key == support::key("a")));
    assert!(store.list("/pods/").is_empty());
}

async fn one_of_concurrent_updates_from_one_revision_wins(open: Open<'_>) {
    let store = open(options());
    let first = one(&store, create("a", "0")).await;
    let updates = (0..16).map(|number| {
        let (store, expect) = (store.clone(), Expect::At(first.revision));
        tokio::spawn(async move {
            commit(&store, vec![update("a", expect, &number.to_string())])
                .await
                .is_ok()
        })
    });
    let mut won = 0;
    for update in updates.collect::<Vec<_>>() {
        won += usize::from(update.await.expect("no panic"));
    }
    assert_eq!(won, 1);
}

async fn revisions_grow_strictly_and_every_write_has_its_own(open: Open<'_>) {
    let store = open(options());
    let writers = (0..8).map(|writer| {
        let store = store.clone();
        tokio::spawn(async move {
            let mut revisions = Vec::new();
            for number in 0..10 {
                let before = store.revision();
                let revision = one(&store, create(&format!("{writer}-{number}"), "1"))
                    .await
                    .revision;
                assert!(revision > before);
                revisions.push(revision);
            }
            assert!(revisions.is_sorted_by(|a, b| a < b));
            revisions
        })
    });
    let mut all = Vec::new();
    for writer in writers.collect::<Vec<_>>() {
        all.extend(writer.await.expect("no panic"));
    }
    all.sort_unstable();
    all.dedup();
    assert_eq!(all.len(), 80);
    assert_eq!(store.revision(), all[79]);
}

async fn what_a_commit_returns_is_visible_everywhere(open: Open<'_>) {
    let store = open(options());
    let mut watcher = store
        .watch("/pods/", start(&store), Interest::All)
        .expect("it is the present");
    for durability in [Durability::Durable, Durability::Relaxed] {
        let name = format!("{durability:?}").to_lowercase();
        let done = store
            .commit(vec![create(&name, "1")], durability)
            .await
            .expect("it is new")
            .remove(0);
        assert!(Arc::ptr_eq(
            &store.get(done.key.as_str()).expect("it is there"),
            &done
        ));
        assert!(
            store
                .list("/pods/")
                .iter()
                .any(|object| Arc::ptr_eq(object, &done))
        );
        let event = watcher
            .try_next()
            .expect("the watch goes on")
            .expect("there is an event");
        assert!(Arc::ptr_eq(&event.object, &done));
        assert_eq!(store.revision(), done.revision);
    }
}

async fn bodies_are_encoded_once_and_shared(open: Open<'_>) {
    let store = open(options());
    let done = one(&store, create("a", "1")).await;
    let listed = store
        .list("/pods/")
        .iter()
        .next()
        .map(|object| object.body.as_ptr());
    assert_eq!(listed, Some(done.body.as_ptr()));
    assert_eq!(&done.body[..], format!("#{} 1@", done.revision).as_bytes());
}

async fn list_is_in_key_order_and_by_prefix(open: Open<'_>) {
    let store = open(options());
    let keys = [
        "/pods/b/1",
        "/pods/a/2",
        "/pods/a/1",
        "/pods/a-b/1",
        "/nodes//n",
        "/podsets/a/1",
    ];
    let writes = keys.map(|text| put_at(Key::new(text).expect("a key"), Expect::Absent, "x", None));
    commit(&store, writes.into()).await.expect("all are new");
    let list = |prefix| {
        store
            .list(prefix)
            .iter()
            .map(|object| object.key.to_string())
            .collect::<Vec<_>>()
    };
    assert_eq!(
        list("/pods/"),
        ["/pods/a-b/1", "/pods/a/1", "/pods/a/2", "/pods/b/1"]
    );
    assert_eq!(list("/pods/a/"), ["/pods/a/1", "/pods/a/2"]);
    assert_eq!(list("/pods/a/1"), ["/pods/a/1"]);
    assert_eq!(list("/pods/a"), [""; 0]);
    assert_eq!(list("/nodes/"), ["/nodes//n"]);
    assert_eq!(list("/nodes//"), ["/nodes//n"]);
    assert_eq!(list("/services/"), [""; 0]);
    assert_eq!(store.list("/pods/a/").len(), 2);
}

async fn snapshot_does_not_change(open: Open<'_>) {
    let store = open(options());
    for number in 0..300 {
        one(&store, create(&format!("{number:03}"), "1")).await;
    }
    let snapshot = store.list("/pods/");
    let before = names(&snapshot);
    for number in (0..300).step_by(7) {
        one(&store, delete(&format!("{number:03}"), Expect::Exists)).await;
        one(&store, create(&format!("{number:03}-again"), "2")).await;
    }
    assert_eq!(names(&snapshot), before);
    assert_eq!(snapshot.len(), 300);
    assert!(snapshot.revision() < store.revision());
    assert_eq!(store.list("/pods/").len(), 300);
    assert_ne!(names(&store.list("/pods/")), before);
}

async fn pages_follow_one_another_at_one_revision(open: Open<'_>) {
    let store = open(options());
    let writes = (0..25).map(|number| create(&format!("{number:02}"), "1"));
    commit(&store, writes.collect()).await.expect("all are new");
    let first = store.list("/pods/default/");
    one(&store, delete("10", Expect::Exists)).await;
    one(&store, create("10-new", "1")).await;
    one(&store, update("12", Expect::Exists, "2")).await;
    let mut pages = Vec::new();
    let mut after = String::new();
    loop {
        let snapshot = store
            .list_at("/pods/default/", first.revision())
            .expect("history reaches back");
        let mut rest = snapshot.after(&after);
        let page: Vec<_> = rest.by_ref().take(10).cloned().collect();
        after = page.last().expect("a page is not empty").key.to_string();
        pages.extend(page.iter().map(|object| describe(object)));
        if rest.len() == 0 {
            break;
        }
    }
    assert_eq!(pages, names(&first));
}

async fn index_lists_only_its_members(open: Open<'_>) {
    let store = open(options());
    let on = |name: &str, expect, node| put_at(key(name), expect, "x", node);
    one(&store, on("a", Expect::Absent, Some("n1"))).await;
    one(&store, on("b", Expect::Absent, None)).await;
    one(&store, on("c", Expect::Absent, Some("n1"))).await;
    one(&store, on("d", Expect::Absent, Some("n2"))).await;
    let members = |node: &str| names(&store.list_where("/pods/", 0, node));
    assert_eq!(members("n1"), ["a=x", "c=x"]);
    one(&store, on("b", Expect::Exists, Some("n1"))).await;
    one(&store, on("c", Expect::Exists, Some("n2"))).await;
    one(&store, delete("d", Expect::Exists)).await;
    assert_eq!(members("n1"), ["a=x", "b=x"]);
    assert_eq!(members("n2"), ["c=x"]);
    assert_eq!(members("n3"), [""; 0]);
    assert!(store.list_where("/pods/other/", 0, "n1").is_empty());
    assert_eq!(store.list_where("/pods/", 0, "n1").revision(), store.revision());
}

async fn old_revision_can_be_listed_while_in_the_history(open: Open<'_>) {
    let store = open(options());
    let mut truth = Vec::new();
    for number in 0..20 {
        let name = (number % 7).to_string();
        let write = match store.get(key(&name).as_str()) {
            None => create(&name, &number.to_string()),
            Some(_) if number % 3 == 0 => delete(&name, Expect::Exists),
            Some(_) => update(&name, Expect::Exists, &number.to_string()),
        };
        let done = one(&store, write).await;
        truth.push((done.revision, names(&store.list("/pods/"))));
    }
    for (revision, then) in &truth {
        let snapshot = store.list_at("/pods/", *revision).expect("history reaches back");
        assert_eq!(names(&snapshot), *then);
        assert_eq!(snapshot.revision(), *revision);
    }
    let current = store.revision();
    let asked = Revision(current.0 + 1);
    assert_eq!(
        store.list_at("/pods/", asked).unwrap_err(),
        ListError::Future { asked, current }
    );
    store.compact(truth[9].0);
    let asked = truth[8].0;
    assert_eq!(
        store.list_at("/pods/", asked).unwrap_err(),
        ListError::Compacted {
            asked,
            oldest: truth[9].0
        }
    );
    assert_eq!(
        names(&store.list_at("/pods/", truth[9].0).expect("it is the oldest")),
        truth[9].1
    );
}

/// Writes from several tasks. Returns all that a watcher received.
async fn busy(store: &Store<Node>) -> Vec<(Revision, String)> {
    let mut watcher = store
        .watch("/pods/", store.revision(), Interest::All)
        .expect("it is the present");
    let writers = (0..8).map(|writer| {
        let store = store.clone();
        tokio::spawn(async move {
            for number in 0..20 {
                let name = format!("{writer}-{}", number % 5);
                let write = match store.get(key(&name).as_str()) {
                    None => create(&name, &number.to_string()),
                    Some(_) if number % 4 == 3 => delete(&name, Expect::Exists),
                    Some(_) => update(&name, Expect::Exists, &number.to_string()),
                };
                let pair = create(&format!("{writer}-{number}-pair"), "1");
                commit(&store, vec![write, pair])
                    .await
                    .expect("nobody else writes these keys");
            }
        })
    });
    for writer in writers.collect::<Vec<_>>() {
        writer.await.expect("no panic");
    }
    let mut events = Vec::new();
    while let Some(event) = watcher.try_next().expect("the watch goes on") {
        events.push((event.revision(), text_of(&event)));
    }
    events
}

async fn watch_is_ordered(open: Open<'_>) {
    let events = busy(&open(options())).await;
    assert!(
        events.is_sorted_by(|a, b| a.0 < b.0),
        "events come in the order of their revisions"
    );
}

async fn watch_is_unique(open: Open<'_>) {
    let store = open(options());
    let mut events = busy(&store).await;
    let count = events.len();
    events.dedup_by_key(|(revision, _)| *revision);
    assert_eq!(events.len(), count, "no change comes twice");
}

async fn watch_is_atomic(open: Open<'_>) {
    let store = open(options());
    let mut watcher = store
        .watch("/pods/", store.revision(), Interest::All)
        .expect("it is the present");
    let writer = {
        let store = store.clone();
        tokio::spawn(async move {
            for number in 0..50 {
                let writes = (0..3)
                    .map(|part| create(&format!("{number}-{part}"), "1"))
                    .collect();
                commit(&store, writes).await.expect("all are new");
            }
        })
    };
    for _ in 0..50 {
        assert_eq!(
            store.list("/pods/").len() % 3,
            0,
            "a list shows whole transactions"
        );
        watcher.next().await.expect("the watch goes on");
        // The rest of the group is available as soon as its first event.
        for _ in 0..2 {
            assert!(watcher.try_next().expect("the watch goes on").is_some());
        }
    }
    writer.await.expect("no panic");
}

async fn watch_is_reliable(open: Open<'_>) {
    let store = open(options());
    let events = busy(&store).await;
    assert_eq!(events.len(), 8 * 20 * 2, "no change is left out");
    let mut state = std::collections::BTreeMap::new();
    for (_, event) in events {
        match event.split_at(1) {
            ("-", name) => drop(state.remove(name)),
            (_, text) => drop(state.insert(
                text.split('=').next().unwrap_or_default().to_owned(),
                text.to_owned(),
            )),
        }
    }
    let mut told: Vec<_> = state.into_values().collect();
    let mut listed = names(&store.list("/pods/"));
    told.sort_unstable();
    listed.sort_unstable();
    assert_eq!(told, listed, "what was told adds up to what is there");
}

async fn watch_is_resumable(open: Open<'_>) {
    let store = open(options());
    let from = store.revision();
    let events = busy(&store).await;
    for at in (0..events.len()).step_by(37) {
        let from = if at == 0 { from } else { events[at - 1].0 };
        let mut watcher = store
            .watch("/pods/", from, Interest::All)
            .expect("history reaches back");
        for expected in &events[at..] {
            let event = watcher
                .try_next()
                .expect("the watch goes on")
                .expect("there is more");
            assert_eq!((event.revision(), text_of(&event)), *expected);
        }
        assert!(watcher.try_next().expect("the watch goes on").is_none());
    }
}

async fn watch_is_bookmarkable(open: Open<'_>) {
    let store = open(options());
    let start = store.revision();
    let interest = Interest::Index {
        index: 0,
        value: "n1".into(),
    };
    let mut watcher = store.watch("/pods/", start, interest).expect("it is the present");
    assert_eq!(watcher.position(), start);
    let other = one(&store, put_at(key("other"), Expect::Absent, "x", Some("n2"))).await;
    assert_eq!(
        watcher.position(),
        other.revision,
        "what is of no interest still moves a bookmark"
    );
    let mine = one(&store, put_at(key("mine"), Expect::Absent, "x", Some("n1"))).await;
    assert!(
        watcher.position() < mine.revision,
        "a bookmark never passes what was not handed out"
    );
    watcher.next().await.expect("the watch goes on");
    assert_eq!(watcher.position(), mine.revision);
    // The same for a watcher that reads from the history.
    let mut late = store
        .watch("/pods/", start, Interest::All)
        .expect("history reaches back");
    assert!(late.position() < other.revision);
    late.next().await.expect("the watch goes on");
    assert!(late.position() >= other.revision && late.position() < mine.revision);
    late.next().await.expect("the watch goes on");
    assert_eq!(late.position(), mine.revision);
    let nodes = one(
        &store,
        put_at(Key::of("nodes", "", "n"), Expect::Absent, "x", None),
    )
    .await;
    assert!(late.try_next().expect("the watch goes on").is_none());
    assert_eq!(late.position(), nodes.revision);
}

async fn watch_before_the_history_returns_compacted(open: Open<'_>) {
    let store = open(options());
    let from = start(&store);
    let before = Revision(from.0 - 1);
    let error = store.watch("/pods/", before, Interest::All).err();
    assert_eq!(
        error,
        Some(WatchError::Compacted {
            from: before,
            oldest: from
        }),
        "nothing is known from before the start"
    );
    let first = one(&store, create("a", "1")).await;
    let second = one(&store, create("b", "1")).await;
    assert!(store.watch("/pods/", from, Interest::All).is_ok());
    store.compact(first.revision);
    let error = store.watch("/pods/", from, Interest::All).err();
    assert_eq!(
        error,
        Some(WatchError::Compacted {
            from,
            oldest: first.revision
        })
    );
    let mut watcher = store
        .watch("/pods/", first.revision, Interest::All)
        .expect("nothing after it is forgotten");
    assert_eq!(
        watcher.next().await.expect("the watch goes on").revision(),
        second.revision
    );
}

async fn watch_may_start_in_the_future(open: Open<'_>) {
    let store = open(options());
    let from = Revision(start(&store).0 + 2);
    let mut watcher = store
        .watch("/pods/", from, Interest::All)
        .expect("the future is not forgotten");
    for name in ["a", "b", "c"] {
        one(&store, create(name, "1")).await;
    }
    assert_eq!(drain(&mut watcher), ["+c=1"]);
}

async fn prefix_covers_only_its_own_keys(open: Open<'_>) {
    let store = open(options());
    let from = start(&store);
    let prefixes = ["/pods/", "/pods/a/", "/pods/a/1", "/nodes/", "/pods/a/12"];
    let watch = |prefix| {
        store
            .watch(prefix, from, Interest::All)
            .expect("it is the present")
    };
    let mut early = prefixes.map(watch);
    for text in ["/pods/a/1", "/pods/a/12", "/pods/b/1", "/pods/a-b/1", "/nodes//1"] {
        one(
            &store,
            put_at(Key::new(text).expect("a key"), Expect::Absent, text, None),
        )
        .await;
    }
    let mut late = prefixes.map(watch);
    let expected: [&[&str]; 5] = [
        &["+1=/pods/a/1", "+12=/pods/a/12", "+1=/pods/b/1", "+1=/pods/a-b/1"],
        &["+1=/pods/a/1", "+12=/pods/a/12"],
        &["+1=/pods/a/1"],
        &["+1=/nodes//1"],
        &["+12=/pods/a/12"],
    ];
    for ((early, late), expected) in early.iter_mut().zip(&mut late).zip(expected) {
        assert_eq!(drain(early), expected, "told as it happens");
        assert_eq!(drain(late), expected, "told from the history");
    }
}

async fn indexed_watcher_receives_objects_that_enter_and_leave(open: Open<'_>) {
    let store = open(options());
    let from = start(&store);
    let watch = |node: &str| {
        let interest = Interest::Index {
            index: 0,
            value: node.into(),
        };
        store.watch("/pods/", from, interest).expect("it is the present")
    };
    let (mut n1, mut n2) = (watch("n1"), watch("n2"));
    let on = |expect, content, node| put_at(key("a"), expect, content, node);
    one(&store, on(Expect::Absent, "1", None)).await;
    one(&store, on(Expect::Exists, "2", Some("n1"))).await;
    one(&store, on(Expect::Exists, "3", Some("n1"))).await;
    one(&store, on(Expect::Exists, "4", Some("n2"))).await;
    one(&store, delete("a", Expect::Exists)).await;
    let (mut late1, mut late2) = (watch("n1"), watch("n2"));
    for watcher in [&mut n1, &mut late1] {
        assert_eq!(drain(watcher), ["~a=2", "~a=3", "~a=4"]);
    }
    for watcher in [&mut n2, &mut late2] {
        assert_eq!(drain(watcher), ["~a=4", "-a"]);
    }
}

async fn slow_watcher_continues_from_the_history(open: Open<'_>) {
    let store = open(options());
    let mut watcher = store
        .watch("/pods/", start(&store), Interest::All)
        .expect("it is the present");
    let count = 5 * WATCH_QUEUE_MAX;
    let writes = (0..count)
        .map(|number| create(&format!("{number:05}"), "1"))
        .collect();
    commit(&store, writes).await.expect("all are new");
    let mut received = Vec::new();
    while received.len() <= count {
        received.extend(watcher.next_batch(100).await.expect("the watch goes on"));
        if received.len() >= 900 && store.get(key("99999").as_str()).is_none() {
            // More changes happen while it reads.
            one(&store, create("99999", "1")).await;
        }
    }
    assert_eq!(text_of(&received[0]), "+00000=1");
    assert!(received.is_sorted_by(|a, b| a.revision() < b.revision()));
    assert_eq!(text_of(&received[count]), "+99999=1");
    one(&store, delete("99999", Expect::Exists)).await;
    assert_eq!(drain(&mut watcher), ["-99999"]);
}

async fn watcher_slower_than_the_history_ends_with_compacted(open: Open<'_>) {
    let events = WATCH_QUEUE_MAX / 4;
    let store = open(Options {
        history: HistoryLimits {
            events,
            ..HistoryLimits::default()
        },
        ..options()
    });
    let mut watcher = store
        .watch("/pods/", start(&store), Interest::All)
        .expect("it is the present");
    for number in 0..WATCH_QUEUE_MAX + 2 * events {
        store
            .commit(vec![create(&number.to_string(), "1")], Durability::Relaxed)
            .await
            .expect("it is new");
    }
    for _ in 0..WATCH_QUEUE_MAX {
        watcher.next().await.expect("its queue is its own");
    }
    let end = watcher.next().await.err();
    assert!(matches!(end, Some(WatchError::Compacted { .. })), "{end:?}");
    assert_eq!(store.stats().cache.events, events);
}

async fn waiting_watcher_is_woken(open: Open<'_>) {
    let store = open(options());
    let interest = Interest::Index {
        index: 0,
        value: "n1".into(),
    };
    let mut watcher = store
        .watch("/pods/", start(&store), interest)
        .expect("it is the present");
    let waiting = tokio::spawn(async move { text_of(&watcher.next().await.expect("the watch goes on")) });
    tokio::task::yield_now().await;
    one(&store, put_at(key("a"), Expect::Absent, "1", Some("n2"))).await;
    one(&store, put_at(key("b"), Expect::Absent, "1", Some("n1"))).await;
    assert_eq!(waiting.await.expect("no panic"), "+b=1");
}

async fn dropped_watcher_is_removed(open: Open<'_>) {
    let store = open(options());
    let from = start(&store);
    let indexed = Interest::Index {
        index: 0,
        value: "n1".into(),
    };
    let watchers = [
        store.watch("/pods/", from, Interest::All),
        store.watch("/pods/a/1", from, Interest::All),
        store.watch("/pods/", from, indexed),
    ];
    assert_eq!(store.stats().cache.watchers, 3);
    drop(watchers);
    assert_eq!(store.stats().cache.watchers, 0);
    one(&store, create("a", "1")).await;
}

async fn wait_for_ends_at_the_revision_or_the_timeout(open: Open<'_>) {
    let store = open(options());
    let now = store.revision();
    assert_eq!(store.wait_for(now, Duration::from_secs(60)).await, now);
    assert_eq!(
        store
            .wait_for(Revision(now.0 + 1), Duration::from_millis(5))
            .await,
        now
    );
    let waiting = {
        let store = store.clone();
        tokio::spawn(async move { store.wait_for(Revision(now.0 + 1), Duration::from_secs(60)).await })
    };
    tokio::task::yield_now().await;
    let done = one(&store, create("a", "1")).await;
    assert_eq!(waiting.await.expect("no panic"), done.revision);
}

async fn relaxed_and_durable_writes_keep_one_order(open: Open<'_>) {
    let store = open(options());
    let mut watcher = store
        .watch("/pods/", start(&store), Interest::All)
        .expect("it is the present");
    let commits = (0..200).map(|number| {
        let durability = if number % 3 == 0 {
            Durability::Durable
        } else {
            Durability::Relaxed
        };
        let store = store.clone();
        async move {
            let done = store
                .commit(vec![create(&format!("{number:03}"), "1")], durability)
                .await;
            done.expect("it is new").remove(0)
        }
    });
    let mut done = join_all(commits).await;
    done.sort_by_key(|object| object.revision);
    let expected: Vec<_> = done
        .iter()
        .map(|object| format!("+{}", describe(object)))
        .collect();
    assert_eq!(drain(&mut watcher), expected);
}

async fn closed_store_rejects_writes_and_ends_its_watches(open: Open<'_>) {
    let store = open(options());
    let mut watcher = store
        .watch("/pods/", start(&store), Interest::All)
        .expect("it is the present");
    one(&store, create("a", "1")).await;
    store.close().expect("nothing is wrong");
    store.close().expect("twice is fine");
    assert!(matches!(
        commit(&store, vec![create("b", "1")]).await,
        Err(CommitError::Closed)
    ));
    assert_eq!(names(&store.list("/pods/")), ["a=1"]);
    assert_eq!(
        text_of(&watcher.next().await.expect("earlier events are still returned")),
        "+a=1"
    );
    assert_eq!(watcher.next().await.err(), Some(WatchError::Closed));
}

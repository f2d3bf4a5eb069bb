//! The store's disk operations (first start, opening, commits, close) are interrupted after each
//! operation, and within each write. The next start must find everything that was acknowledged.

mod support;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use disk::{CutOff, Disk};
use store::{Durability, Expect, Options, Revision, Store};
use support::*;

fn block_on<R>(future: impl Future<Output = R>) -> R {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("make a runtime")
        .block_on(future)
}

/// The clients' knowledge: the last acknowledged state of each object, and what else may have
/// happened.
#[derive(Default)]
struct Known {
    acknowledged: BTreeMap<String, Option<String>>,
    unanswered: BTreeMap<String, Option<String>>,
    revision: Revision,
}

impl Known {
    async fn write(&mut self, store: &Store<Node>, name: &str, content: Option<&str>) {
        let there = store.get(key(name).as_str()).is_some();
        let write = match content {
            Some(content) if there => update(name, Expect::Exists, content),
            Some(content) => create(name, content),
            None => delete(name, Expect::Exists),
        };
        let state = content.map(str::to_owned);
        match commit(store, vec![write]).await {
            Ok(done) => {
                self.revision = done[0].revision;
                self.unanswered.remove(name);
                self.acknowledged.insert(name.to_owned(), state);
            }
            Err(_) => {
                self.unanswered.insert(name.to_owned(), state);
            }
        }
    }

    fn check(&self, store: &Store<Node>, point: &str) {
        assert!(
            store.revision() >= self.revision,
            "{point}: a revision is given out twice"
        );
        for (name, state) in &self.acknowledged {
            let found = store.get(key(name).as_str()).map(|object| describe(&object));
            let text = |content: &Option<String>| content.as_ref().map(|content| format!("{name}={content}"));
            let maybe = self
                .unanswered
                .get(name)
                .is_some_and(|maybe| text(maybe) == found);
            assert!(found == text(state) || maybe, "{point}: {name} is {found:?}");
        }
    }
}

/// Opens the store, writes, and closes it. Everything may fail.
fn run(dir: &Path, disk: Disk, known: &mut Known) {
    let Ok(store) = Store::open(dir, Options { disk, ..options() }) else {
        return;
    };
    known.check(&store, "as opened");
    block_on(async {
        known.write(&store, "a", Some("new")).await;
        known.write(&store, "b", Some(&"long".repeat(2000))).await;
        known.write(&store, "c", None).await;
        // Only durable writes are guaranteed.
        let relaxed = vec![create("lease", "1")];
        drop(store.commit(relaxed, Durability::Relaxed).await);
    });
    drop(store.close());
}

fn cut_everywhere(prepare: fn(&Path, &mut Known)) {
    for torn in [false, true] {
        for passes in 0.. {
            let dir = directory();
            let mut known = Known::default();
            prepare(dir.path(), &mut known);
            let cut = Arc::new(match torn {
                false => CutOff::after(passes),
                true => CutOff::within(passes),
            });
            run(dir.path(), Disk::gated(cut.clone()), &mut known);
            let point = format!("cut after {passes} operations (torn: {torn})");
            let store = Store::open(dir.path(), options()).unwrap_or_else(|error| panic!("{point}: {error}"));
            known.check(&store, &point);
            block_on(known.write(&store, "next", Some("1")));
            assert!(
                !known.unanswered.contains_key("next"),
                "{point}: it accepts no writes"
            );
            store
                .close()
                .unwrap_or_else(|error| panic!("{point}: close: {error}"));
            let store =
                Store::open(dir.path(), options()).unwrap_or_else(|error| panic!("{point}, later: {error}"));
            known.check(&store, &point);
            if !cut.has_cut() {
                assert!(passes > 20, "only {passes} operations were cut off");
                break;
            }
        }
    }
}

#[test]
fn interrupted_first_start_prevents_no_later_start() {
    cut_everywhere(|_, _| {});
}

#[test]
fn interrupted_store_opens_with_all_acknowledged_writes() {
    cut_everywhere(|dir, known| {
        let store = Store::open(dir, options()).expect("open");
        block_on(async {
            for name in ["a", "b", "c"] {
                known.write(&store, name, Some("old")).await;
            }
        });
        store.close().expect("close");
    });
}

#[test]
fn store_opens_after_a_second_cut_at_any_point() {
    // A kill while closing, and then one at each point of the next run.
    cut_everywhere(|dir, known| {
        let store = Store::open(dir, options()).expect("open");
        block_on(known.write(&store, "a", Some("old")));
        drop(store);
        let cut = Arc::new(CutOff::after(25));
        run(dir, Disk::gated(cut), known);
    });
}

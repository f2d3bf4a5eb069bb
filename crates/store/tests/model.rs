//! Random operations on the store and on a very simple model of it, with crashes in between.

mod support;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError, mpsc};

use futures::{FutureExt, future::join_all, poll};
use proptest::prelude::*;
use store::engine::{Engine, EngineError, Entry};
use store::{
    CommitError, Durability, Expect, Interest, ListError, Revision, Store, WatchError, Watcher, Write,
};
use support::*;

/// The batches that were written before a crash.
#[derive(Default)]
struct Disk {
    records: BTreeMap<Vec<u8>, Vec<u8>>,
    writes: usize,
    /// Writes fail from now on.
    dead: bool,
    /// If set, a write reports its start and waits for permission to continue.
    gate: Option<(mpsc::SyncSender<()>, mpsc::Receiver<()>)>,
}

#[derive(Clone, Default)]
struct SharedDisk(Arc<Mutex<Disk>>);

impl SharedDisk {
    fn with<R>(&self, f: impl FnOnce(&mut Disk) -> R) -> R {
        f(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn open(&self) -> Store<Node> {
        self.with(|disk| disk.dead = false);
        Store::open_on(Box::new(self.clone()), options()).expect("it opens")
    }
}

impl Engine for SharedDisk {
    fn load(&mut self, visit: &mut dyn FnMut(&[u8], &[u8])) -> Result<(), EngineError> {
        self.with(|disk| disk.records.iter().for_each(|(key, record)| visit(key, record)));
        Ok(())
    }

    fn write(&mut self, batch: &[Entry]) -> Result<(), EngineError> {
        if let Some((arrived, go_on)) = self.with(|disk| disk.gate.take()) {
            arrived.send(()).expect("the test is there");
            go_on.recv().expect("the test is there");
            self.with(|disk| disk.gate = Some((arrived, go_on)));
        }
        self.with(|disk| {
            if disk.dead {
                let source = std::io::Error::other("the power is gone");
                return Err(EngineError::Io {
                    operation: "write",
                    path: "disk".into(),
                    source,
                });
            }
            disk.writes += 1;
            for (key, record) in batch {
                match record {
                    Some(record) => disk.records.insert(key.clone(), record.clone()),
                    None => disk.records.remove(key),
                };
            }
            Ok(())
        })
    }

    fn reopen(&mut self, key: &[u8]) -> Result<Option<Vec<u8>>, EngineError> {
        Ok(self.with(|disk| disk.records.get(key).cloned()))
    }
}

/// A key, its expectation, and content and node, or a deletion.
type PlannedWrite = (u8, u8, Option<(u8, u8)>);

#[derive(Clone, Debug)]
enum Step {
    /// One transaction.
    Commit {
        writes: Vec<PlannedWrite>,
        relaxed: bool,
    },
    /// A watch from this number of revisions ago, of one node or of all.
    Watch {
        back: u8,
        node: Option<u8>,
    },
    /// A watcher returns this number of events.
    Read {
        watcher: u8,
        count: u8,
    },
    /// A list at this number of revisions ago.
    ListAt {
        back: u8,
    },
    Compact {
        back: u8,
    },
    /// A power failure and a restart.
    Crash,
    /// An orderly restart.
    Restart,
}

fn step() -> impl Strategy<Value = Step> {
    let write = (0u8..8, 0u8..4, prop::option::weighted(0.8, (0u8..100, 0u8..4)));
    prop_oneof![
        12 => (prop::collection::vec(write, 1..4), any::<bool>())
            .prop_map(|(writes, relaxed)| Step::Commit { writes, relaxed }),
        3 => (0u8..12, prop::option::of(1u8..4)).prop_map(|(back, node)| Step::Watch { back, node }),
        4 => (any::<u8>(), 0u8..20).prop_map(|(watcher, count)| Step::Read { watcher, count }),
        2 => (0u8..12).prop_map(|back| Step::ListAt { back }),
        1 => (4u8..30).prop_map(|back| Step::Compact { back }),
        1 => Just(Step::Crash),
        1 => Just(Step::Restart),
    ]
}

/// A state in the model: content and node.
type State = (String, Option<String>);
#[derive(Clone, Debug)]
struct Change {
    revision: u64,
    name: String,
    after: Option<State>,
    before: Option<State>,
}

/// All changes that ever happened.
#[derive(Default)]
struct Model {
    changes: Vec<Change>,
    /// A crash may lose the changes from this index on.
    durable: usize,
    /// Changes up to this revision are not in the history.
    oldest: u64,
    /// All later revisions must be above this one.
    highest: u64,
}

impl Model {
    fn state_at(&self, revision: u64) -> BTreeMap<String, (u64, State)> {
        let mut state = BTreeMap::new();
        for change in self.changes.iter().filter(|change| change.revision <= revision) {
            match &change.after {
                Some(after) => drop(state.insert(change.name.clone(), (change.revision, after.clone()))),
                None => drop(state.remove(&change.name)),
            }
        }
        state
    }

    fn now(&self) -> BTreeMap<String, (u64, State)> {
        self.state_at(u64::MAX)
    }

    fn told(&self, after: u64, node: Option<&str>) -> Option<&Change> {
        let selects = |state: &Option<State>| match (node, state) {
            (None, _) => true,
            (Some(node), Some((_, Some(on)))) => on == node,
            _ => false,
        };
        self.changes
            .iter()
            .find(|change| change.revision > after && (selects(&change.after) || selects(&change.before)))
    }
}

struct Watching {
    watcher: Watcher<Node>,
    node: Option<String>,
    read: u64,
}

fn listing(snapshot: &store::Snapshot<Node>) -> Vec<(String, u64, String)> {
    let row = |object: &Arc<store::Object<Node>>| {
        let text = describe(object);
        let (name, content) = text.split_once('=').expect("a description");
        (name.to_owned(), object.revision.0, content.to_owned())
    };
    snapshot.iter().map(row).collect()
}

fn expected(state: BTreeMap<String, (u64, State)>) -> Vec<(String, u64, String)> {
    state
        .into_iter()
        .map(|(name, (revision, (content, _)))| (name, revision, content))
        .collect()
}

/// One run: the same steps on the store and on the model.
struct Run {
    disk: Option<SharedDisk>,
    store: Store<Node>,
    model: Model,
    watching: Vec<Watching>,
}

impl Run {
    async fn step(&mut self, step: Step) {
        match step {
            Step::Commit { writes, relaxed } => self.commit(writes, relaxed).await,
            Step::Watch { back, node } => self.watch(back, node),
            Step::Read { watcher, count } => {
                if !self.watching.is_empty() {
                    let at = usize::from(watcher) % self.watching.len();
                    self.read(at, count);
                }
            }
            Step::ListAt { back } => {
                let asked = Revision(self.store.revision().0.saturating_sub(back.into()));
                match self.store.list_at("/pods/", asked) {
                    Ok(snapshot) => assert_eq!(listing(&snapshot), expected(self.model.state_at(asked.0))),
                    Err(ListError::Compacted { .. }) => assert!(asked.0 < self.model.oldest),
                    Err(error) => panic!("{error}"),
                }
            }
            Step::Compact { back } => {
                let revision = self.store.revision().0.saturating_sub(back.into());
                self.store.compact(Revision(revision));
                self.model.oldest = self.model.oldest.max(revision);
            }
            Step::Crash | Step::Restart => self.restart(matches!(step, Step::Crash)),
        }
        assert_eq!(listing(&self.store.list("/pods/")), expected(self.model.now()));
    }

    async fn commit(&mut self, writes: Vec<PlannedWrite>, relaxed: bool) {
        let now = self.model.now();
        let mut wanted: Vec<Write<Node>> = Vec::new();
        let mut holds = true;
        let mut changes = Vec::new();
        for (number, expect, put) in writes {
            let name = number.to_string();
            let there = now.get(&name);
            let expect = match (expect, there) {
                (0, _) => Expect::Absent,
                (1, _) => Expect::Exists,
                (2, Some((revision, _))) => Expect::At(Revision(*revision)),
                (2, None) => Expect::Absent,
                _ => Expect::At(Revision(3)),
            };
            holds &= match expect {
                Expect::Absent => there.is_none() && put.is_some(),
                Expect::Exists => there.is_some(),
                Expect::At(at) => there.is_some_and(|(revision, _)| *revision == at.0),
            };
            holds &= changes.iter().all(|change: &Change| change.name != name);
            let after =
                put.map(|(content, node)| (content.to_string(), (node > 0).then(|| format!("n{node}"))));
            wanted.push(match &after {
                Some((content, node)) => put_at(key(&name), expect, content, node.as_deref()),
                None => delete(&name, expect),
            });
            let before = there.map(|(_, state)| state.clone());
            changes.push(Change {
                revision: 0,
                name,
                after,
                before,
            });
        }
        let durability = if relaxed {
            Durability::Relaxed
        } else {
            Durability::Durable
        };
        match self.store.commit(wanted, durability).await {
            Ok(done) => {
                assert!(holds, "{changes:?} happened");
                for (mut change, object) in changes.into_iter().zip(done) {
                    change.revision = object.revision.0;
                    assert!(change.revision > self.model.highest, "revisions grow");
                    self.model.highest = change.revision;
                    self.model.changes.push(change);
                }
                if !relaxed {
                    self.model.durable = self.model.changes.len();
                }
            }
            Err(CommitError::Conflict { .. } | CommitError::Duplicate { .. }) => {
                assert!(!holds, "{changes:?} was refused")
            }
            Err(error) => panic!("{error}"),
        }
    }

    fn watch(&mut self, back: u8, node: Option<u8>) {
        let from = Revision(self.store.revision().0.saturating_sub(back.into()));
        let node = node.map(|node| format!("n{node}"));
        let interest = match &node {
            Some(node) => Interest::Index {
                index: 0,
                value: node.as_str().into(),
            },
            None => Interest::All,
        };
        match self.store.watch("/pods/", from, interest) {
            Ok(watcher) => self.watching.push(Watching {
                watcher,
                node,
                read: from.0,
            }),
            Err(WatchError::Compacted { .. }) => assert!(from.0 < self.model.oldest),
            Err(error) => panic!("{error}"),
        }
    }

    /// Reads events from a watcher, which must be those of the model.
    fn read(&mut self, at: usize, count: u8) {
        let Watching { watcher, node, read } = &mut self.watching[at];
        for _ in 0..count {
            let expected = self.model.told(*read, node.as_deref());
            assert!(watcher.position().0 >= *read);
            assert!(expected.is_none_or(|change| watcher.position().0 < change.revision));
            match (watcher.try_next(), expected) {
                (Ok(None), None) => break,
                (Ok(Some(event)), Some(change)) => {
                    assert_eq!(event.revision().0, change.revision);
                    let text = text_of(&event);
                    let sign = match (&change.after, &change.before) {
                        (Some((content, _)), None) => format!("+{}={content}", change.name),
                        (Some((content, _)), Some(_)) => format!("~{}={content}", change.name),
                        (None, _) => format!("-{}", change.name),
                    };
                    assert_eq!(text, sign);
                    *read = change.revision;
                }
                (Err(WatchError::Compacted { .. }), _) if *read < self.model.oldest => {
                    self.watching.remove(at);
                    return;
                }
                (found, expected) => panic!("after {read}: {found:?} in the place of {expected:?}"),
            }
        }
    }

    fn restart(&mut self, crash: bool) {
        let Some(disk) = self.disk.clone() else { return };
        if crash {
            disk.with(|disk| disk.dead = true);
            // Dropping the failed store changes nothing on the disk.
            assert!(self.store.close().is_err());
            // A relaxed write becomes durable with the next durable one; those after the last
            // durable one are lost.
            self.model.changes.truncate(self.model.durable);
        } else {
            self.store.close().expect("nothing is wrong");
            self.model.durable = self.model.changes.len();
        }
        self.store = disk.open();
        assert!(
            self.store.revision().0 >= self.model.highest,
            "no revision is used twice"
        );
        self.model.oldest = self.store.revision().0;
        self.watching.clear();
    }
}

fn run(disk: Option<SharedDisk>, steps: Vec<Step>) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .build()
        .expect("a runtime");
    let store = match &disk {
        Some(disk) => disk.open(),
        None => Store::in_memory(options()),
    };
    let model = Model {
        oldest: store.revision().0,
        ..Model::default()
    };
    let mut run = Run {
        disk,
        store,
        model,
        watching: Vec::new(),
    };
    runtime.block_on(async {
        for step in steps {
            run.step(step).await;
        }
        for at in (0..run.watching.len()).rev() {
            run.read(at, u8::MAX);
        }
    });
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 128, ..ProptestConfig::default() })]

    #[test]
    fn store_in_memory_matches_the_model(steps in prop::collection::vec(step(), 1..80)) {
        run(None, steps);
    }

    #[test]
    fn embedded_store_matches_the_model_across_crashes(steps in prop::collection::vec(step(), 1..80)) {
        run(Some(SharedDisk::default()), steps);
    }
}

#[tokio::test]
async fn waiting_writes_share_one_flush() {
    let disk = SharedDisk::default();
    let store = disk.open();
    let (arrived_sender, arrived) = mpsc::sync_channel(1);
    let (go_on, go_on_receiver) = mpsc::sync_channel(1);
    disk.with(|disk| {
        disk.gate = Some((arrived_sender, go_on_receiver));
        disk.writes = 0;
    });
    let write = |name: &str| commit(&store, vec![create(name, "1")]).boxed();
    // A write that was polled once waits in the committer's queue.
    let mut first = write("first");
    assert!(poll!(&mut first).is_pending());
    arrived.recv().expect("the first flush begins");
    // Meanwhile more writes arrive (few enough for one poll of a tokio task).
    let mut others = join_all((0..32).map(|number| write(&number.to_string())));
    assert!(poll!(&mut others).is_pending());
    assert!(
        poll!(&mut first).is_pending() && store.get(key("first").as_str()).is_none(),
        "what is not durable is not visible"
    );
    go_on.send(()).expect("the flush waits");
    first.await.expect("it is written");
    arrived.recv().expect("the second flush begins");
    go_on.send(()).expect("the flush waits");
    for other in others.await {
        other.expect("it is written");
    }
    assert_eq!(disk.with(|disk| disk.writes), 2);
    disk.with(|disk| disk.gate = None);
}

#[tokio::test]
async fn writes_continue_after_a_failed_flush() {
    let disk = SharedDisk::default();
    let store = disk.open();
    one(&store, create("a", "1")).await;
    let revision = store.revision();
    disk.with(|disk| disk.dead = true);
    let failed = commit(&store, vec![create("b", "1")]).await;
    assert!(
        matches!(&failed, Err(CommitError::Failed(why)) if why.contains("the power is gone")),
        "{failed:?}"
    );
    assert_eq!(names(&store.list("/pods/")), ["a=1"]);
    assert_eq!(store.revision(), revision);
    disk.with(|disk| disk.dead = false);
    until_trouble(&store, false).await;
    assert!(one(&store, create("c", "1")).await.revision > revision);
    assert_eq!(names(&store.list("/pods/")), ["a=1", "c=1"]);
    store.close().expect("nothing is wrong any more");
    assert_eq!(names(&disk.open().list("/pods/")), ["a=1", "c=1"]);
}

#[tokio::test]
async fn relaxed_writes_stay_in_the_reserved_block() {
    let disk = SharedDisk::default();
    let store = disk.open();
    let mut expect = Expect::Absent;
    // More than a block of revisions. The transactions are large only to be fast.
    for round in 0..110 {
        let writes = (0..1000)
            .map(|number| update(&number.to_string(), expect, "x"))
            .collect();
        store
            .commit(writes, Durability::Relaxed)
            .await
            .unwrap_or_else(|error| panic!("round {round}: {error}"));
        expect = Expect::Exists;
    }
    let reached = store.revision();
    assert!(store.stats().flushes <= 3, "{} flushes", store.stats().flushes);
    disk.with(|disk| disk.dead = true);
    assert!(store.close().is_err());
    assert!(disk.open().revision() >= reached, "no revision is used twice");
}

//! Shared objects and options of the tests.

#![allow(
    clippy::mod_module_files,
    reason = "cargo would take `support.rs` itself for a test program"
)]
#![allow(dead_code, reason = "each test file uses its own part")]

use std::sync::Arc;

use bytes::Bytes;
use disk::Disk;
use store::{
    Attributes, Change, CommitError, DecodeError, Durability, Event, EventKind, Expect, HistoryLimits, Key,
    Object, Options, Revision, Store, Watcher, Write,
};

/// The attributes of a test object: the node in its body, if any.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Node(pub(crate) Option<String>);

impl Attributes for Node {
    fn index_value(&self, _index: usize) -> Option<&str> {
        self.0.as_deref()
    }
}

/// Returns a body `content@node`. A stored body has the prefix `#revision`.
pub(crate) fn body(content: &str, node: Option<&str>) -> Bytes {
    format!("{content}@{}", node.unwrap_or_default()).into()
}

pub(crate) fn splice(body: &[u8], revision: u64) -> Bytes {
    let mut spliced = format!("#{revision} ").into_bytes();
    spliced.extend(body);
    spliced.into()
}

pub(crate) fn decode(_key: &Key, body: &[u8]) -> Result<Node, DecodeError> {
    let text = std::str::from_utf8(body)?;
    let (_, node) = text.split_once('@').ok_or("a body has a node")?;
    Ok(Node((!node.is_empty()).then(|| node.to_owned())))
}

pub(crate) fn options() -> Options<Node> {
    Options {
        decode,
        splice,
        indexes: 1,
        history: HistoryLimits::default(),
        disk: Disk::default(),
    }
}

pub(crate) fn key(name: &str) -> Key {
    Key::of("pods", "default", name)
}

pub(crate) fn put_at(key: Key, expect: Expect, content: &str, node: Option<&str>) -> Write<Node> {
    let attributes = Node(node.map(str::to_owned));
    Write {
        key,
        expect,
        change: Change::Put {
            body: body(content, node),
            attributes,
        },
    }
}

pub(crate) fn create(name: &str, content: &str) -> Write<Node> {
    put_at(key(name), Expect::Absent, content, None)
}

pub(crate) fn update(name: &str, expect: Expect, content: &str) -> Write<Node> {
    put_at(key(name), expect, content, None)
}

pub(crate) fn delete(name: &str, expect: Expect) -> Write<Node> {
    let change = Change::Delete {
        last: body("gone", None),
        attributes: Node(None),
    };
    Write {
        key: key(name),
        expect,
        change,
    }
}

pub(crate) async fn commit(
    store: &Store<Node>,
    writes: Vec<Write<Node>>,
) -> Result<Vec<Arc<Object<Node>>>, CommitError<Node>> {
    store.commit(writes, Durability::Durable).await
}

/// Commits one write, which must succeed.
pub(crate) async fn one(store: &Store<Node>, write: Write<Node>) -> Arc<Object<Node>> {
    commit(store, vec![write])
        .await
        .expect("the write is fine")
        .remove(0)
}

/// Returns `name=content` of all objects under a prefix.
pub(crate) fn names(objects: &store::Snapshot<Node>) -> Vec<String> {
    objects.iter().map(|object| describe(object)).collect()
}

/// Returns `name=content`.
pub(crate) fn describe(object: &Object<Node>) -> String {
    let name = object.key.as_str().rsplit('/').next().unwrap_or_default();
    let text = std::str::from_utf8(&object.body).expect("bodies are text");
    let (revision, content) = text.split_once(' ').expect("bodies are spliced");
    assert_eq!(
        revision,
        format!("#{}", object.revision),
        "the body says its revision"
    );
    format!("{name}={}", content.split('@').next().unwrap_or_default())
}

/// Returns the available events of a watcher in order: `+name=content`, `~name=content`, `-name`.
pub(crate) fn drain(watcher: &mut Watcher<Node>) -> Vec<String> {
    let mut events = Vec::new();
    while let Some(event) = watcher.try_next().expect("the watch goes on") {
        events.push(text_of(&event));
    }
    events
}

pub(crate) fn text_of(event: &Event<Node>) -> String {
    let text = describe(&event.object);
    match (event.kind, &event.previous) {
        (EventKind::Put, None) => format!("+{text}"),
        (EventKind::Put, Some(_)) => format!("~{text}"),
        (EventKind::Delete, _) => format!("-{}", text.split('=').next().unwrap_or_default()),
    }
}

/// Waits until the store has trouble, or has none. (The wait of `testkit` would bring a whole client
/// of Kubernetes into these tests.)
pub(crate) async fn until_trouble(store: &Store<Node>, is_there: bool) {
    let look = async {
        while store.trouble().is_some() != is_there {
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
    };
    let timeout = std::time::Duration::from_secs(120);
    let seen = tokio::time::timeout(timeout, look).await;
    assert!(seen.is_ok(), "waited in vain; trouble: {:?}", store.trouble());
}

/// Returns the revision before all changes of a new store.
pub(crate) fn start(store: &Store<Node>) -> Revision {
    store.revision()
}

/// Returns a directory, in memory if possible: the order of writes matters here, not their
/// duration.
pub(crate) fn directory() -> tempfile::TempDir {
    let memory = std::path::Path::new("/dev/shm");
    let parent = match memory.is_dir() {
        true => memory.to_owned(),
        false => std::env::temp_dir(),
    };
    tempfile::tempdir_in(parent).expect("make a directory")
}

//! The API server's use of the store: the keys of objects, and the attributes beside their bytes.

use std::borrow::Cow;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use api::attributes::{self, Attributes};
use api::encode;
use api::kinds::{self, KINDS, Kind};
use api::status::Status;
use bytes::Bytes;
use serde_json::Value;
use store::{Key, OpenError, Store};

/// Index of pods by the node that they are bound to. A request for a node's pods reads only those.
pub(crate) const INDEX_NODE: usize = 0;
const INDEXES: usize = 1;
const NODE_NAME: &str = "spec.nodeName";

/// Attributes that the store holds beside the bytes of an object.
#[derive(Debug)]
pub(crate) struct Entry {
    pub(crate) attributes: Attributes,
    /// Position in the selectable fields of the value of each index.
    indexed: [Option<usize>; INDEXES],
}

impl Entry {
    fn of(kind: &Kind, object: &Value) -> Entry {
        let at = |wanted: &str| kind.selectable.iter().position(|path| *path == wanted);
        Entry {
            attributes: attributes::of(kind, object),
            indexed: [at(NODE_NAME).filter(|_| is_pod(kind))],
        }
    }
}

impl store::Attributes for Entry {
    fn index_value(&self, index: usize) -> Option<&str> {
        let at = self.indexed.get(index).copied().flatten()?;
        let value = self.attributes.field(at);
        (!value.is_empty()).then_some(value)
    }
}

/// A stored object.
pub(crate) type Object = store::Object<Entry>;
/// All objects.
pub(crate) type Objects = Store<Entry>;
/// A change of one object.
pub(crate) type Write = store::Write<Entry>;

/// Name of the store's directory in a data directory.
const STORE: &str = "store";

/// Returns the store's directory in a data directory.
pub(crate) fn folder(data_dir: &Path) -> PathBuf {
    data_dir.join(STORE)
}

/// Opens the store under `dir`.
pub(crate) fn open(dir: &Path) -> Result<Objects, OpenError> {
    Store::open(dir, options())
}

/// Creates a store that exists until its last handle is dropped.
pub(crate) fn in_memory() -> Objects {
    Store::in_memory(options())
}

fn options() -> store::Options<Entry> {
    store::Options {
        decode,
        splice: encode::splice,
        indexes: INDEXES,
        history: store::HistoryLimits::default(),
        disk: disk::Disk::default(),
    }
}

fn decode(key: &Key, body: &[u8]) -> Result<Entry, store::DecodeError> {
    let kind = of_collection(key.collection()).ok_or_else(|| format!("{key}: no such kind is served"))?;
    let value: Value = serde_json::from_slice(body)?;
    Ok(Entry::of(kind, &value))
}

/// Returns the core kind with this name.
pub(crate) fn core(kind: &str) -> Option<&'static Kind> {
    kinds::by_kind("", "v1", kind)
}

/// Returns whether this is the Pod of the core group.
pub(crate) fn is_pod(kind: &Kind) -> bool {
    kind.group.is_empty() && kind.kind == "Pod"
}

/// Returns whether this is the Namespace of the core group.
pub(crate) fn is_namespace(kind: &Kind) -> bool {
    kind.group.is_empty() && kind.kind == "Namespace"
}

/// Returns the collection of a stored kind's objects, such as `pods` or `daemonsets.apps`.
fn collection(kind: &Kind) -> Cow<'static, str> {
    match kind.group {
        "" => Cow::Borrowed(kind.plural),
        group => Cow::Owned(format!("{}.{group}", kind.plural)),
    }
}

fn of_collection(collection: &str) -> Option<&'static Kind> {
    let (plural, group) = collection.split_once('.').unwrap_or((collection, ""));
    let mut rows = KINDS.iter().copied();
    rows.find(|row| row.plural == plural && row.group == group && row.conversion.is_none())
}

/// Returns the key of an object.
pub(crate) fn key(kind: &'static Kind, namespace: &str, name: &str) -> Key {
    let kind = kind.stored_as();
    Key::of(
        &collection(kind),
        if kind.namespaced { namespace } else { "" },
        name,
    )
}

/// Returns the prefix of the keys of a kind's objects, in all namespaces or in one.
pub(crate) fn prefix(kind: &'static Kind, namespace: &str) -> String {
    let collection = collection(kind.stored_as());
    match namespace {
        "" => format!("/{collection}/"),
        namespace => format!("/{collection}/{namespace}/"),
    }
}

/// Parses a stored object, and converts it to `kind` if it is stored as another kind.
pub(crate) fn value(kind: &Kind, body: &[u8]) -> Result<Value, Status> {
    let mut value = serde_json::from_slice(body)
        .map_err(|error| Status::internal(format!("a stored {} cannot be read: {error}", kind.kind)))?;
    if let Some(conversion) = &kind.conversion {
        (conversion.from_stored)(&mut value);
    }
    Ok(value)
}

/// Returns the stored form of an object of `kind`: its bytes, and the attributes beside them.
pub(crate) fn stored_form(kind: &'static Kind, object: &Value) -> (Bytes, Entry) {
    let Some(conversion) = &kind.conversion else {
        return (encode::encode(object), Entry::of(kind, object));
    };
    let mut stored = object.clone();
    (conversion.to_stored)(&mut stored);
    (encode::encode(&stored), Entry::of(conversion.stored, &stored))
}

/// Returns the body of `object` at another revision. The revision is the first field of `metadata`,
/// where the store inserted it.
pub(crate) fn at_revision(body: &Bytes, revision: u64) -> Bytes {
    const FIELD: &[u8] = b"\"metadata\":{\"resourceVersion\":\"";
    let Some(start) = body.windows(FIELD.len()).position(|window| window == FIELD) else {
        return body.clone();
    };
    let start = start + FIELD.len();
    let digits = body[start..]
        .iter()
        .take_while(|byte| byte.is_ascii_digit())
        .count();
    let mut out = Vec::with_capacity(body.len() + 4);
    out.extend_from_slice(&body[..start]);
    out.extend_from_slice(revision.to_string().as_bytes());
    out.extend_from_slice(&body[start + digits..]);
    Bytes::from(out)
}

/// Returns whether a stored namespace is being deleted, from the phase in its attributes.
pub(crate) fn is_terminating(namespace: &Object) -> bool {
    let attributes = &namespace.attributes.attributes;
    attributes
        .fields
        .iter()
        .flatten()
        .any(|value| **value == *"Terminating")
}

/// Place of an object, which need not exist.
#[derive(Clone, Copy)]
pub(crate) struct Place<'a> {
    pub(crate) kind: &'static Kind,
    pub(crate) namespace: &'a str,
    pub(crate) name: &'a str,
}

impl Place<'_> {
    pub(crate) fn key(&self) -> Key {
        key(self.kind, self.namespace, self.name)
    }

    pub(crate) fn not_found(&self) -> Status {
        Status::not_found(self.kind, self.name)
    }
}

/// Returns one object, or 404.
pub(crate) fn get(
    objects: &Objects,
    kind: &'static Kind,
    namespace: &str,
    name: &str,
) -> Result<Arc<Object>, Status> {
    objects
        .get(key(kind, namespace, name).as_str())
        .ok_or_else(|| Status::not_found(kind, name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_stored_kind_is_found_by_its_collection() {
        for kind in KINDS.iter().copied().filter(|kind| kind.stored) {
            let key = key(kind, "ns", "name");
            assert_eq!(of_collection(key.collection()), Some(kind.stored_as()), "{key}");
            assert!(key.as_str().starts_with(&prefix(kind, "")), "{key}");
        }
    }

    #[test]
    fn revision_of_a_body_can_be_replaced() {
        let body = encode::splice(br#"{"kind":"Pod","metadata":{"name":"a"}}"#, 7);
        let later = at_revision(&body, 123);
        assert_eq!(
            &later[..],
            br#"{"kind":"Pod","metadata":{"resourceVersion":"123","name":"a"}}"#
        );
    }
}

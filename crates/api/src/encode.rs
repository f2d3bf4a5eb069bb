//! The only encoding of an object: the bytes that are stored, and that every list and watch sends.
//!
//! The resourceVersion is known only after the commit. So the stored bytes leave it out, and it is
//! inserted at the start of `metadata` once.

use bytes::Bytes;
use serde_json::{Map, Value};

/// The text that [`splice`] searches. Only `kind` and `apiVersion` are before it, and neither can
/// contain a quote.
const METADATA: &[u8] = b"\"metadata\":{";

/// Returns the canonical JSON of an object: `kind`, `apiVersion` and `metadata` first (as in Go),
/// the other fields sorted, without whitespace and without `metadata.resourceVersion`.
pub fn encode(object: &Value) -> Bytes {
    let mut out = Vec::with_capacity(1024);
    let Some(fields) = object.as_object() else {
        write(&mut out, object);
        return Bytes::from(out);
    };
    out.push(b'{');
    for key in ["kind", "apiVersion"] {
        if let Some(value) = fields.get(key) {
            entry(&mut out, key, value);
        }
    }
    match fields.get("metadata") {
        Some(Value::Object(metadata)) => {
            key(&mut out, "metadata");
            map_without(&mut out, metadata, "resourceVersion");
        }
        Some(other) => entry(&mut out, "metadata", other),
        None => {}
    }
    for (name, value) in fields {
        if !matches!(name.as_str(), "kind" | "apiVersion" | "metadata") {
            entry(&mut out, name, value);
        }
    }
    out.push(b'}');
    Bytes::from(out)
}

fn map_without(out: &mut Vec<u8>, map: &Map<String, Value>, left_out: &str) {
    out.push(b'{');
    for (name, value) in map {
        if name != left_out {
            entry(out, name, value);
        }
    }
    out.push(b'}');
}

fn entry(out: &mut Vec<u8>, name: &str, value: &Value) {
    key(out, name);
    write(out, value);
}

fn key(out: &mut Vec<u8>, name: &str) {
    if out.last() != Some(&b'{') {
        out.push(b',');
    }
    write(out, name);
    out.push(b':');
}

fn write<T: serde::Serialize + ?Sized>(out: &mut Vec<u8>, value: &T) {
    // serde_json can write any map with string keys, and a Vec accepts any write.
    serde_json::to_writer(out, value).expect("any JSON value can be serialized into memory");
}

/// Returns the bytes of [`encode`] with `"resourceVersion":"<revision>"` as the first field of
/// `metadata`. Bytes without a `metadata` object are returned unchanged.
pub fn splice(body: &[u8], revision: u64) -> Bytes {
    let Some(start) = body.windows(METADATA.len()).position(|window| window == METADATA) else {
        return Bytes::copy_from_slice(body);
    };
    let at = start + METADATA.len();
    let field = format!("\"resourceVersion\":\"{revision}\"");
    let mut out = Vec::with_capacity(body.len() + field.len() + 1);
    out.extend_from_slice(&body[..at]);
    out.extend_from_slice(field.as_bytes());
    if body.get(at) != Some(&b'}') {
        out.push(b',');
    }
    out.extend_from_slice(&body[at..]);
    Bytes::from(out)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;

    #[test]
    fn encoding_starts_with_metadata_and_has_no_resource_version() {
        let object = json!({"spec": {"b": 1, "a": 2}, "metadata": {"resourceVersion": "7", "name": "x"}, "apiVersion": "v1", "kind": "Pod", "data": null});
        assert_eq!(
            encode(&object),
            r#"{"kind":"Pod","apiVersion":"v1","metadata":{"name":"x"},"data":null,"spec":{"a":2,"b":1}}"#
        );
    }

    #[test]
    fn resource_version_is_inserted_only_into_outer_metadata() {
        let object = json!({"kind": "DaemonSet", "apiVersion": "apps/v1", "metadata": {"name": "x"}, "spec": {"template": {"metadata": {}}}});
        assert_eq!(
            splice(&encode(&object), 12),
            r#"{"kind":"DaemonSet","apiVersion":"apps/v1","metadata":{"resourceVersion":"12","name":"x"},"spec":{"template":{"metadata":{}}}}"#
        );
        let bare = json!({"kind": "Pod", "metadata": {}});
        assert_eq!(
            splice(&encode(&bare), 1),
            r#"{"kind":"Pod","metadata":{"resourceVersion":"1"}}"#
        );
        assert_eq!(splice(b"[]", 1), "[]");
    }

    fn value() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            ".{0,12}".prop_map(Value::from),
        ];
        leaf.prop_recursive(4, 32, 6, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
                prop::collection::btree_map(".{0,8}", inner, 0..4)
                    .prop_map(|map| Value::Object(map.into_iter().collect())),
            ]
        })
    }

    proptest! {
        #[test]
        fn spliced_encoding_decodes_to_the_object_with_its_revision(
            spec in value(), data in value(), name in ".{0,20}", revision in any::<u64>()
        ) {
            let mut object = json!({"kind": "ConfigMap", "apiVersion": "v1", "metadata": {"name": name, "resourceVersion": "1"}, "spec": spec, "data": data});
            let stored = encode(&object);
            let read: Value = serde_json::from_slice(&splice(&stored, revision)).expect("valid JSON");
            object["metadata"]["resourceVersion"] = revision.to_string().into();
            prop_assert_eq!(&read, &object);
            prop_assert_eq!(encode(&read), stored);
        }

        #[test]
        fn any_value_can_be_encoded_and_spliced(value in value()) {
            let read: Value = serde_json::from_slice(&encode(&value)).expect("valid JSON");
            let mut expected = value;
            if let Some(metadata) = expected.get_mut("metadata").and_then(Value::as_object_mut) {
                metadata.remove("resourceVersion");
            }
            prop_assert_eq!(read, expected);
        }
    }
}

//! `ObjectMeta` of a JSON object: accessors, and the fields that the server sets.
//!
//! Accessors never fail. A field that is missing or has the wrong type reads as empty, because any
//! stored object must be readable.

use jiff::Timestamp;
use serde_json::{Map, Value, json};

use crate::time::rfc3339;

/// The finalizer that keeps an object until its dependents are deleted.
pub const FOREGROUND_FINALIZER: &str = "foregroundDeletion";
/// The finalizer that keeps an object until the owner references of its dependents are removed.
pub const ORPHAN_FINALIZER: &str = "orphan";

/// Letters and digits of generated suffixes: no similar ones, and no vowels, so that no words
/// appear.
const SUFFIX_ALPHABET: &[u8; 27] = b"bcdfghjklmnpqrstvwxz2456789";
/// Number of characters of a generated suffix.
pub const SUFFIX_LENGTH: usize = 5;
/// Most bytes of a generated name, which must fit into a DNS label.
const GENERATED_NAME_LENGTH: usize = 63;

fn text<'a>(object: &'a Value, field: &str) -> &'a str {
    object["metadata"][field].as_str().unwrap_or_default()
}

/// Returns `metadata.name`, or empty.
pub fn name(object: &Value) -> &str {
    text(object, "name")
}

/// Returns `metadata.generateName`, or empty.
pub fn generate_name_base(object: &Value) -> &str {
    text(object, "generateName")
}

/// Returns `metadata.namespace`, or empty.
pub fn namespace(object: &Value) -> &str {
    text(object, "namespace")
}

/// Returns `metadata.uid`, or empty.
pub fn uid(object: &Value) -> &str {
    text(object, "uid")
}

/// Returns `metadata.resourceVersion`, or empty.
pub fn resource_version(object: &Value) -> &str {
    text(object, "resourceVersion")
}

/// Returns `metadata.generation`, or 0.
pub fn generation(object: &Value) -> i64 {
    object["metadata"]["generation"].as_i64().unwrap_or_default()
}

/// Returns `metadata.creationTimestamp`.
pub fn creation_timestamp(object: &Value) -> Option<&str> {
    object["metadata"]["creationTimestamp"].as_str()
}

/// Returns `metadata.deletionTimestamp`, which is set while the object is being deleted.
pub fn deletion_timestamp(object: &Value) -> Option<&str> {
    object["metadata"]["deletionTimestamp"].as_str()
}

/// Returns `metadata.labels`.
pub fn labels(object: &Value) -> Option<&Map<String, Value>> {
    object["metadata"]["labels"].as_object()
}

/// Returns the value of an annotation.
pub fn annotation<'a>(object: &'a Value, key: &str) -> Option<&'a str> {
    object["metadata"]["annotations"][key].as_str()
}

/// Returns `metadata.finalizers`.
pub fn finalizers(object: &Value) -> impl Iterator<Item = &str> {
    list(&object["metadata"]["finalizers"])
        .iter()
        .filter_map(Value::as_str)
}

/// Returns `metadata.ownerReferences`.
pub fn owner_references(object: &Value) -> &[Value] {
    list(&object["metadata"]["ownerReferences"])
}

/// Returns the owner reference with `controller: true`.
pub fn controller_of(object: &Value) -> Option<&Value> {
    owner_references(object)
        .iter()
        .find(|owner| owner["controller"] == true)
}

fn list(value: &Value) -> &[Value] {
    value.as_array().map(Vec::as_slice).unwrap_or_default()
}

/// Returns `metadata`, which is created when it is missing or not an object. A value that is not an
/// object is replaced by an empty object.
pub fn metadata_mut(object: &mut Value) -> &mut Map<String, Value> {
    if !object.is_object() {
        *object = json!({});
    }
    let metadata = &mut object["metadata"];
    if !metadata.is_object() {
        *metadata = json!({});
    }
    match metadata {
        Value::Object(map) => map,
        _ => unreachable!("metadata was set to an object above"),
    }
}

/// Returns a name from `metadata.generateName`: the base, cut so that the name fits a DNS label,
/// and five characters from `random`.
pub fn generate_name(base: &str, random: [u8; SUFFIX_LENGTH]) -> String {
    let mut end = base.len().min(GENERATED_NAME_LENGTH - SUFFIX_LENGTH);
    while !base.is_char_boundary(end) {
        end -= 1;
    }
    let mut name = base[..end].to_owned();
    name.push_str(&suffix(random));
    name
}

/// Returns five characters from an alphabet that is valid in names and forms no words.
pub fn suffix(random: [u8; SUFFIX_LENGTH]) -> String {
    random
        .iter()
        .map(|byte| SUFFIX_ALPHABET[usize::from(*byte) % SUFFIX_ALPHABET.len()] as char)
        .collect()
}

/// Returns a random (version 4) UUID in its usual form.
pub fn uuid(mut random: [u8; 16]) -> String {
    use std::fmt::Write as _;
    random[6] = random[6] & 0x0f | 0x40;
    random[8] = random[8] & 0x3f | 0x80;
    let mut text = String::with_capacity(36);
    for (index, byte) in random.iter().enumerate() {
        if matches!(index, 4 | 6 | 8 | 10) {
            text.push('-');
        }
        write!(text, "{byte:02x}").unwrap_or_default();
    }
    text
}

/// Sets the uid and the creation time of a new object, and removes fields that only a stored object
/// can have.
pub fn stamp_create(object: &mut Value, uid: &str, now: Timestamp) {
    let metadata = metadata_mut(object);
    for field in [
        "deletionTimestamp",
        "deletionGracePeriodSeconds",
        "selfLink",
        "resourceVersion",
    ] {
        metadata.remove(field);
    }
    metadata.insert("uid".to_owned(), uid.into());
    metadata.insert("creationTimestamp".to_owned(), rfc3339(now).into());
}

/// Copies the fields that an update cannot change from `old`. A name, namespace or uid from the
/// client stays, so that validation can reject a wrong one. A missing name also stays missing,
/// because a patch can remove it.
pub fn carry_over(new: &mut Value, old: &Value) {
    const SERVER_ONLY: [&str; 4] = [
        "creationTimestamp",
        "deletionTimestamp",
        "deletionGracePeriodSeconds",
        "generation",
    ];
    let metadata = metadata_mut(new);
    metadata.remove("selfLink");
    for field in SERVER_ONLY {
        copy(metadata, &old["metadata"], field);
    }
    for field in ["uid", "namespace"] {
        let given = metadata.get(field).and_then(Value::as_str).unwrap_or_default();
        if given.is_empty() {
            copy(metadata, &old["metadata"], field);
        }
    }
    if !metadata.contains_key("generateName") {
        copy(metadata, &old["metadata"], "generateName");
    }
}

fn copy(to: &mut Map<String, Value>, from: &Value, field: &str) {
    match from.get(field) {
        Some(value) => {
            to.insert(field.to_owned(), value.clone());
        }
        None => {
            to.remove(field);
        }
    }
}

/// Sets `metadata.generation`.
pub fn set_generation(object: &mut Value, generation: i64) {
    metadata_mut(object).insert("generation".to_owned(), generation.into());
}

/// Marks an object as being deleted: sets `deletionTimestamp` to `now` plus the grace period, and
/// increments the generation of kinds that have one.
pub fn stamp_deletion(object: &mut Value, now: Timestamp, grace_seconds: i64) {
    let next = generation(object) + 1;
    let counts_generations = generation(object) > 0;
    let at = now
        .saturating_add(jiff::SignedDuration::from_secs(grace_seconds))
        .unwrap_or(Timestamp::MAX);
    let metadata = metadata_mut(object);
    metadata.insert("deletionTimestamp".to_owned(), rfc3339(at).into());
    metadata.insert("deletionGracePeriodSeconds".to_owned(), grace_seconds.into());
    if counts_generations {
        metadata.insert("generation".to_owned(), next.into());
    }
}

/// Returns an owner reference to the managing controller, which blocks the foreground deletion of
/// the owner.
pub fn controller_reference(api_version: &str, kind: &str, name: &str, uid: &str) -> Value {
    json!({
        "apiVersion": api_version,
        "kind": kind,
        "name": name,
        "uid": uid,
        "controller": true,
        "blockOwnerDeletion": true,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn generated_name_fits_a_label_with_a_suffix_of_five() {
        assert_eq!(generate_name("web-", [0, 1, 26, 27, 255]), "web-bc9bq");
        let long = generate_name(&"é".repeat(40), [0; 5]);
        assert_eq!(long, format!("{}bbbbb", "é".repeat(29)));
        assert!(long.len() <= 63);
    }

    #[test]
    fn uid_is_a_version_4_uuid() {
        assert_eq!(uuid([0xff; 16]), "ffffffff-ffff-4fff-bfff-ffffffffffff");
        assert_eq!(uuid([0; 16]), "00000000-0000-4000-8000-000000000000");
    }

    #[test]
    fn update_keeps_server_fields_and_a_wrong_uid() {
        let old = json!({"metadata": {"name": "x", "uid": "1", "generation": 3, "creationTimestamp": "2026-01-01T00:00:00Z"}});
        let mut new =
            json!({"metadata": {"name": "x", "generation": 9, "deletionTimestamp": "2026-01-01T00:00:00Z"}});
        carry_over(&mut new, &old);
        assert_eq!(new, old);
        let mut foreign = json!({"metadata": {"uid": "2"}});
        carry_over(&mut foreign, &old);
        assert_eq!(uid(&foreign), "2");
    }

    #[test]
    fn odd_objects_read_as_empty() {
        for odd in [
            json!(null),
            json!([1]),
            json!({"metadata": 3}),
            json!({"metadata": {"name": 1, "ownerReferences": {}}}),
        ] {
            assert_eq!((name(&odd), uid(&odd), generation(&odd)), ("", "", 0));
            assert!(controller_of(&odd).is_none());
            assert_eq!(finalizers(&odd).count(), 0);
            let mut stamped = odd;
            stamp_create(&mut stamped, "u", Timestamp::UNIX_EPOCH);
            assert_eq!(uid(&stamped), "u");
        }
    }

    #[test]
    fn deletion_sets_its_time_and_increments_the_generation() {
        let mut object = json!({"metadata": {"generation": 1}});
        stamp_deletion(&mut object, Timestamp::UNIX_EPOCH, 30);
        assert_eq!(
            object["metadata"],
            json!({"generation": 2, "deletionTimestamp": "1970-01-01T00:00:30Z", "deletionGracePeriodSeconds": 30})
        );
    }
}

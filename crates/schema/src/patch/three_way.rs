//! The patch that `kubectl apply` sends. It adds what the manifest has, and removes what only the
//! last applied manifest had. It keeps what others added, for example the server's defaults.

use std::collections::{HashMap, HashSet};

use serde_json::{Map, Value, json};

use crate::{
    quantity::Quantity,
    types::{Field, FieldType, Omit, PatchStrategy, Type},
};

type Object = Map<String, Value>;

pub(super) fn make(
    ty: Option<&'static Type>,
    original: Option<&Value>,
    modified: &Value,
    current: &Value,
) -> Value {
    let context = Context {
        strategic: ty.is_some(),
    };
    let empty = Object::new();
    let place = ty.map_or(Place::Opaque, Place::Object);
    let original = original.and_then(Value::as_object).unwrap_or(&empty);
    let (Some(modified), Some(current)) = (modified.as_object(), current.as_object()) else {
        return json!({});
    };
    Value::Object(context.objects(place, original, modified, current))
}

struct Context {
    /// Whether lists merge by keys; otherwise they are replaced.
    strategic: bool,
}

#[derive(Clone, Copy)]
enum Place {
    Object(&'static Type),
    Map(&'static FieldType),
    Opaque,
}

impl Place {
    fn of(ty: Option<&'static FieldType>) -> Self {
        match ty {
            Some(FieldType::Object(ty)) => Self::Object(ty),
            Some(FieldType::Map(inner)) => Self::Map(inner),
            _ => Self::Opaque,
        }
    }

    fn field(self, key: &str) -> Option<&'static Field> {
        match self {
            Self::Object(ty) => ty.field(key),
            _ => None,
        }
    }

    fn content(self, key: &str) -> Option<&'static FieldType> {
        match self {
            Self::Object(ty) => ty.field(key).map(|field| &field.ty),
            Self::Map(inner) => Some(inner),
            Self::Opaque => None,
        }
    }
}

impl Context {
    fn objects(&self, place: Place, original: &Object, modified: &Object, current: &Object) -> Object {
        let mut patch = Object::new();
        for (key, wanted) in modified.iter().filter(|(_, wanted)| !wanted.is_null()) {
            self.field(
                place,
                key,
                original.get(key),
                wanted,
                current.get(key),
                &mut patch,
            );
        }
        for (key, _) in original.iter().filter(|(_, value)| !value.is_null()) {
            let gone = modified.get(key).is_none_or(Value::is_null);
            if gone && current.get(key).is_some_and(|value| !value.is_null()) {
                patch.insert(key.clone(), Value::Null);
            }
        }
        patch
    }

    fn field(
        &self,
        place: Place,
        key: &str,
        original: Option<&Value>,
        wanted: &Value,
        current: Option<&Value>,
        patch: &mut Object,
    ) {
        let (field, content) = (place.field(key), place.content(key));
        let current = current.filter(|current| !current.is_null());
        match (wanted, current) {
            // The server does not write zero values that Go leaves out.
            (_, None) if field.is_some_and(|field| field.omit == Omit::Empty) && is_zero(wanted) => {}
            (Value::Object(wanted), Some(Value::Object(current)))
                if field.is_none_or(|field| field.patch != PatchStrategy::Replace) =>
            {
                let empty = Object::new();
                let original = original.and_then(Value::as_object).unwrap_or(&empty);
                let inside = self.objects(Place::of(content), original, wanted, current);
                if !inside.is_empty() {
                    patch.insert(key.to_owned(), Value::Object(inside));
                }
            }
            (Value::Array(wanted), Some(Value::Array(current))) => {
                let original = original.and_then(Value::as_array);
                self.lists(field, key, original, wanted, current, patch);
            }
            (wanted, Some(current)) if same(content, wanted, current) => {}
            (wanted, _) => {
                patch.insert(key.to_owned(), wanted.clone());
            }
        }
    }

    fn lists(
        &self,
        field: Option<&'static Field>,
        key: &str,
        original: Option<&Vec<Value>>,
        wanted: &[Value],
        current: &[Value],
        patch: &mut Object,
    ) {
        let none = Vec::new();
        let merges = self.strategic
            && field.is_some_and(|field| {
                matches!(field.patch, PatchStrategy::Merge | PatchStrategy::MergeRetainKeys)
            });
        let content = field.and_then(|field| match &field.ty {
            FieldType::List(inner) => Some(*inner),
            _ => None,
        });
        match field.and_then(|field| field.merge_key) {
            Some(merge_key) if merges => {
                let before = original.unwrap_or(&none);
                let ids = (
                    by_key(before, merge_key),
                    by_key(wanted, merge_key),
                    by_key(current, merge_key),
                );
                if let (Some(before), Some(_), Some(now)) = ids {
                    let retain = field.is_some_and(|field| field.patch == PatchStrategy::MergeRetainKeys);
                    self.keyed(
                        Place::of(content),
                        key,
                        merge_key,
                        retain,
                        &before,
                        wanted,
                        &now,
                        patch,
                    );
                    return;
                }
                // Elements with the same key cannot be distinguished, so the whole list is
                // replaced.
                if !unchanged(content, original, wanted, current) {
                    let mut whole = wanted.to_vec();
                    whole.push(json!({"$patch": "replace"}));
                    patch.insert(key.to_owned(), Value::Array(whole));
                }
            }
            None if merges => scalars(key, original.unwrap_or(&none), wanted, current, patch),
            _ => {
                if !unchanged(content, original, wanted, current) {
                    patch.insert(key.to_owned(), Value::Array(wanted.to_vec()));
                }
            }
        }
    }

    #[allow(clippy::too_many_arguments, reason = "three sides, a position and a rule")]
    fn keyed(
        &self,
        place: Place,
        key: &str,
        merge_key: &str,
        retain: bool,
        before: &Keyed<'_>,
        wanted: &[Value],
        now: &Keyed<'_>,
        patch: &mut Object,
    ) {
        let empty = Object::new();
        let mut changes = Vec::new();
        let mut kept = Vec::new();
        let mut order = Vec::new();
        for element in wanted.iter().filter_map(Value::as_object) {
            let id = &element[merge_key];
            order.push(json!({merge_key: id}));
            let Some((at, current)) = now.get(&id.to_string()) else {
                changes.push(Value::Object(element.clone()));
                continue;
            };
            kept.push(*at);
            let original = before
                .get(&id.to_string())
                .map_or(&empty, |(_, original)| original);
            let mut change = self.objects(place, original, element, current);
            if !change.is_empty() {
                change.insert(merge_key.to_owned(), id.clone());
                if retain {
                    let keys = element
                        .iter()
                        .filter(|(_, value)| !value.is_null())
                        .map(|(key, _)| Value::from(key.as_str()));
                    change.insert("$retainKeys".to_owned(), keys.collect());
                }
                changes.push(Value::Object(change));
            }
        }
        let still: HashSet<String> = wanted
            .iter()
            .map(|element| element[merge_key].to_string())
            .collect();
        let vanished = before
            .iter()
            .filter(|(id, _)| !still.contains(*id) && now.contains_key(*id));
        let mut gone: Vec<&Value> = vanished.map(|(_, (_, element))| &element[merge_key]).collect();
        gone.sort_by_key(|id| id.to_string());
        changes.extend(
            gone.into_iter()
                .map(|id| json!({merge_key: id, "$patch": "delete"})),
        );
        let reordered = !kept.is_sorted();
        if !changes.is_empty() || reordered {
            patch.insert(format!("$setElementOrder/{key}"), Value::Array(order));
        }
        if !changes.is_empty() {
            patch.insert(key.to_owned(), Value::Array(changes));
        }
    }
}

/// Elements of a list by key (as JSON), with their indexes.
type Keyed<'a> = HashMap<String, (usize, &'a Object)>;

/// Returns `None` if an element is not an object, has no key, or shares its key.
fn by_key<'a>(items: &'a [Value], merge_key: &str) -> Option<Keyed<'a>> {
    let mut found = HashMap::with_capacity(items.len());
    for (at, item) in items.iter().enumerate() {
        let object = item.as_object()?;
        let id = object.get(merge_key)?.to_string();
        if found.insert(id, (at, object)).is_some() {
            return None;
        }
    }
    Some(found)
}

/// Patches a list that is a set of scalars.
fn scalars(key: &str, original: &[Value], wanted: &[Value], current: &[Value], patch: &mut Object) {
    let added: Vec<Value> = wanted
        .iter()
        .filter(|item| !current.contains(item))
        .cloned()
        .collect();
    let gone: Vec<Value> = original
        .iter()
        .filter(|item| !wanted.contains(item) && current.contains(item))
        .cloned()
        .collect();
    if added.is_empty() && gone.is_empty() {
        return;
    }
    patch.insert(format!("$setElementOrder/{key}"), wanted.into());
    if !added.is_empty() {
        patch.insert(key.to_owned(), added.into());
    }
    if !gone.is_empty() {
        patch.insert(format!("$deleteFromPrimitiveList/{key}"), gone.into());
    }
}

/// Returns whether a list that can only be replaced may stay: it has everything in the manifest,
/// and the manifest removed nothing.
fn unchanged(
    content: Option<&'static FieldType>,
    original: Option<&Vec<Value>>,
    wanted: &[Value],
    current: &[Value],
) -> bool {
    original.is_none_or(|original| original == wanted)
        && wanted.len() == current.len()
        && wanted
            .iter()
            .zip(current)
            .all(|(wanted, current)| covers(content, current, wanted))
}

/// Returns whether `current` has everything that `wanted` has.
fn covers(content: Option<&'static FieldType>, current: &Value, wanted: &Value) -> bool {
    match (current, wanted) {
        (Value::Object(current), Value::Object(wanted)) => {
            let place = Place::of(content);
            wanted.iter().all(|(key, wanted)| match current.get(key) {
                Some(current) => covers(place.content(key), current, wanted),
                None => {
                    wanted.is_null()
                        || place.field(key).is_some_and(|field| field.omit == Omit::Empty) && is_zero(wanted)
                }
            })
        }
        (Value::Array(current), Value::Array(wanted)) => {
            let inner = match content {
                Some(FieldType::List(inner)) => Some(*inner),
                _ => None,
            };
            current.len() == wanted.len()
                && current
                    .iter()
                    .zip(wanted)
                    .all(|(current, wanted)| covers(inner, current, wanted))
        }
        _ => wanted.is_null() || same(content, wanted, current),
    }
}

/// Returns whether two scalars are equal. Quantities may have different notations: `0.5` and
/// `500m`.
fn same(content: Option<&'static FieldType>, wanted: &Value, current: &Value) -> bool {
    match content {
        Some(FieldType::Quantity) => match (Quantity::from_value(wanted), Quantity::from_value(current)) {
            (Ok(wanted), Ok(current)) => wanted == current,
            _ => wanted == current,
        },
        _ => wanted == current,
    }
}

fn is_zero(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Bool(value) => !value,
        Value::Number(number) => number.as_i64() == Some(0),
        Value::String(text) => text.is_empty(),
        Value::Array(items) => items.is_empty(),
        Value::Object(map) => map.is_empty(),
    }
}

#[cfg(test)]
mod tests;

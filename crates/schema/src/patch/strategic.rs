//! Strategic merge patch.
//!
//! The rules are those of Kubernetes, including the order of merged lists: elements that the patch
//! does not contain keep their relative order, elements of the patch have its order (or that of
//! `$setElementOrder`), and new elements come before those that only the server has.

use std::collections::{HashMap, HashSet};

use serde_json::{Map, Value};

use super::PatchError;
use crate::types::{FieldType, PatchStrategy, Type};

const DIRECTIVE: &str = "$patch";
const RETAIN_KEYS: &str = "$retainKeys";
const SET_ORDER: &str = "$setElementOrder/";
const DELETE_FROM: &str = "$deleteFromPrimitiveList/";

type Result<T> = std::result::Result<T, PatchError>;
type Object = Map<String, Value>;

pub(super) fn apply(ty: &'static Type, document: &Value, patch: &Value) -> Result<Value> {
    let Value::Object(patch) = patch else {
        return Err(malformed(format!(
            "json: cannot unmarshal {} into Go value of type map[string]interface {{}}",
            kind_of(patch)
        )));
    };
    let document = document.as_object().cloned().unwrap_or_default();
    merge_objects(document, patch.clone(), Place::Object(ty)).map(Value::Object)
}

/// The table's information about the current value.
#[derive(Clone, Copy)]
enum Place {
    /// An object of a known type.
    Object(&'static Type),
    /// A map with values of one type.
    Map(&'static FieldType),
    /// A value whose content is not in the table.
    Opaque(&'static str),
}

/// How to patch a field.
struct Rule {
    inside: Place,
    strategy: PatchStrategy,
    merge_key: Option<&'static str>,
    name: String,
}

impl Rule {
    fn merges_lists(&self) -> bool {
        matches!(
            self.strategy,
            PatchStrategy::Merge | PatchStrategy::MergeRetainKeys
        )
    }
}

impl Place {
    fn of(ty: &'static FieldType) -> Self {
        match ty {
            FieldType::Object(ty) => Self::Object(ty),
            FieldType::Map(inner) => Self::Map(inner),
            FieldType::List(inner) => Self::of(inner),
            FieldType::Raw => Self::Opaque("RawExtension"),
            FieldType::FieldsV1 => Self::Opaque("FieldsV1"),
            _ => Self::Opaque("string"),
        }
    }

    fn name(self) -> String {
        match self {
            Self::Object(ty) => ty.short_name().to_owned(),
            Self::Map(_) => "map".to_owned(),
            Self::Opaque(name) => name.to_owned(),
        }
    }

    fn field(self, key: &str) -> Result<Rule> {
        let unknown = |holder: &str| {
            malformed(format!(
                "unable to find api field in struct {holder} for the json field {key:?}"
            ))
        };
        match self {
            Self::Object(ty) => {
                let field = ty.field(key).ok_or_else(|| unknown(ty.short_name()))?;
                let inside = Self::of(&field.ty);
                Ok(Rule {
                    inside,
                    strategy: field.patch,
                    merge_key: field.merge_key,
                    name: inside.name(),
                })
            }
            Self::Map(inner) => {
                let inside = Self::of(inner);
                Ok(Rule {
                    inside,
                    strategy: PatchStrategy::Default,
                    merge_key: None,
                    name: inside.name(),
                })
            }
            Self::Opaque(holder) => Err(unknown(holder)),
        }
    }
}

fn malformed(text: String) -> PatchError {
    PatchError::Malformed(text)
}

fn merge_objects(mut original: Object, mut patch: Object, place: Place) -> Result<Object> {
    if let Some(directive) = patch.remove(DIRECTIVE) {
        return match directive.as_str() {
            Some("replace") => Ok(patch),
            Some("delete") => Ok(Object::new()),
            // "merge" would mean the default, but Kubernetes rejects it for objects.
            _ => Err(bad_directive(&directive, &patch)),
        };
    }
    retain_keys(&mut original, &mut patch)?;
    merge_ordered_lists(&mut original, &mut patch, place)?;
    for (key, change) in patch {
        match key.strip_prefix(DELETE_FROM) {
            Some(name) => delete_from_list(&mut original, name, change)?,
            None => merge_field(&mut original, key, change, place)?,
        }
    }
    Ok(original)
}

fn merge_field(original: &mut Object, key: String, change: Value, place: Place) -> Result<()> {
    if change.is_null() {
        original.remove(&key);
        return Ok(());
    }
    match (original.remove(&key), change) {
        (Some(Value::Object(old)), Value::Object(new)) => {
            let rule = place.field(&key)?;
            let merged = if rule.strategy == PatchStrategy::Replace {
                new
            } else {
                merge_objects(old, new, rule.inside)?
            };
            original.insert(key, Value::Object(merged));
        }
        (Some(Value::Array(old)), Value::Array(new)) => {
            let rule = place.field(&key)?;
            let merged = if rule.merges_lists() {
                merge_lists(old, new, &rule)?
            } else {
                new
            };
            original.insert(key, Value::Array(merged));
        }
        (_, mut new) => {
            // There is nothing to merge with, so the value is used without nulls, which only have a
            // meaning in a patch.
            discard_nulls(&mut new);
            if let Some(new) = without_directives(new) {
                original.insert(key, new);
            }
        }
    }
    Ok(())
}

/// `$retainKeys`: removes every field that it does not name.
fn retain_keys(original: &mut Object, patch: &mut Object) -> Result<()> {
    let invalid = || malformed("invalid patch format of retainKeys".to_owned());
    let Some(directive) = patch.remove(RETAIN_KEYS) else {
        return Ok(());
    };
    let names: HashSet<&str> = directive
        .as_array()
        .ok_or_else(invalid)?
        .iter()
        .filter_map(Value::as_str)
        .collect();
    let stray = patch.iter().any(|(key, value)| {
        !value.is_null()
            && !key.starts_with(DELETE_FROM)
            && !key.starts_with(SET_ORDER)
            && !names.contains(key.as_str())
    });
    if stray {
        return Err(invalid());
    }
    original.retain(|key, _| names.contains(key.as_str()));
    Ok(())
}

/// `$setElementOrder/x`: merges the list `x` and then sorts it in that order.
fn merge_ordered_lists(original: &mut Object, patch: &mut Object, place: Place) -> Result<()> {
    let orders: Vec<String> = patch
        .keys()
        .filter(|key| key.starts_with(SET_ORDER))
        .cloned()
        .collect();
    for directive in orders {
        let Some(order) = patch.remove(&directive) else {
            continue;
        };
        let name = &directive[SET_ORDER.len()..];
        let order = into_list(order)?;
        let old = original.remove(name).map(into_list).transpose()?;
        let new = patch.remove(name).map(into_list).transpose()?;
        let rule = place.field(name)?;
        check_order(new.as_deref().unwrap_or_default(), &order, rule.merge_key)?;
        let server_order = old.clone().unwrap_or_default();
        let merged = match (old, new) {
            (None, None) => continue,
            (Some(old), None) => old,
            (None, Some(new)) => new.into_iter().filter_map(without_directives).collect(),
            (Some(old), Some(new)) if rule.merges_lists() => merge_lists(old, new, &rule)?,
            (Some(_), Some(new)) => new,
        };
        original.insert(
            name.to_owned(),
            Value::Array(in_order(merged, &order, &server_order, rule.merge_key)?),
        );
    }
    Ok(())
}

fn into_list(value: Value) -> Result<Vec<Value>> {
    match value {
        Value::Array(items) => Ok(items),
        other => Err(malformed(format!(
            "expected a list, but received a {}",
            kind_of(&other)
        ))),
    }
}

/// Checks that the elements of the patch are in the order of `$setElementOrder`.
fn check_order(patch: &[Value], order: &[Value], merge_key: Option<&str>) -> Result<()> {
    if patch.is_empty() || order.is_empty() {
        return Ok(());
    }
    let mut order = order.iter();
    for item in patch.iter().filter(|item| item.get(DIRECTIVE).is_none()) {
        let id = identity(item, merge_key)?;
        let found = order
            .by_ref()
            .map(|other| identity(other, merge_key))
            .find(|other| other.as_ref().is_ok_and(|other| *other == id));
        if found.is_none() {
            let text = format!(
                "The order in patch list:\n{}\n doesn't match {SET_ORDER} list\n",
                Value::from(patch)
            );
            return Err(malformed(text));
        }
    }
    Ok(())
}

/// Merges two lists: objects by their key, scalars as sets.
fn merge_lists(old: Vec<Value>, new: Vec<Value>, rule: &Rule) -> Result<Vec<Value>> {
    if old.is_empty() && new.is_empty() {
        return Ok(old);
    }
    if !holds_objects(&old, &new)? {
        let mut seen = HashSet::new();
        let mut merged = old.clone();
        merged.extend(new.iter().cloned());
        merged.retain(|item| seen.insert(item.to_string()));
        return in_order(merged, &new, &old, None);
    }
    let key = rule
        .merge_key
        .ok_or_else(|| malformed(format!("cannot merge lists without merge key for {}", rule.name)))?;
    let (old, new) = apply_element_directives(old, new, key)?;
    let mut at: HashMap<String, usize> = HashMap::new();
    for (position, item) in old.iter().enumerate() {
        at.entry(identity(item, Some(key))?).or_insert(position);
    }
    let mut merged = old.clone();
    for item in &new {
        let id = identity(item, Some(key))?;
        match at.get(&id) {
            Some(position) => {
                let previous = std::mem::take(&mut merged[*position]);
                let (Value::Object(previous), Value::Object(change)) = (previous, item.clone()) else {
                    continue;
                };
                merged[*position] = Value::Object(merge_objects(previous, change, rule.inside)?);
            }
            None => {
                at.insert(id, merged.len());
                merged.extend(without_directives(item.clone()));
            }
        }
    }
    in_order(merged, &new, &old, Some(key))
}

/// Returns whether the elements are objects. All must have the same type, and none may be a list.
fn holds_objects(old: &[Value], new: &[Value]) -> Result<bool> {
    let mut kinds = old.iter().chain(new).map(kind_of);
    let first = kinds.next().unwrap_or("object");
    if first == "array" {
        return Err(PatchError::Unprocessable(
            "lists of lists are not supported".to_owned(),
        ));
    }
    if kinds.any(|kind| kind != first) {
        return Err(malformed(format!(
            "list element types are not identical: [{} {}]",
            Value::from(old),
            Value::from(new)
        )));
    }
    Ok(first == "object")
}

/// Applies elements with `$patch`: `delete` removes the element with the same key, `replace`
/// replaces the whole list by the patch.
fn apply_element_directives(
    mut old: Vec<Value>,
    new: Vec<Value>,
    key: &str,
) -> Result<(Vec<Value>, Vec<Value>)> {
    let mut plain = Vec::with_capacity(new.len());
    let mut deleted = HashSet::new();
    let mut replace = false;
    for item in new {
        match item.get(DIRECTIVE) {
            None => plain.push(item),
            Some(directive) => match directive.as_str() {
                Some("delete") => {
                    deleted.insert(identity(&item, Some(key))?);
                }
                Some("replace") => replace = true,
                Some("merge") => {
                    return Err(malformed(
                        "merging lists cannot yet be specified in the patch".to_owned(),
                    ));
                }
                _ => {
                    return Err(bad_directive(
                        directive,
                        item.as_object().unwrap_or(&Object::new()),
                    ));
                }
            },
        }
    }
    if replace {
        return Ok((plain, Vec::new()));
    }
    if !deleted.is_empty() {
        let mut kept = Vec::with_capacity(old.len());
        for item in old {
            if !deleted.contains(&identity(&item, Some(key))?) {
                kept.push(item);
            }
        }
        old = kept;
    }
    Ok((old, plain))
}

/// `$deleteFromPrimitiveList/x`: removes these scalars from the list `x`.
fn delete_from_list(original: &mut Object, name: &str, gone: Value) -> Result<()> {
    let (Some(Value::Array(items)), Value::Array(gone)) = (original.get_mut(name), gone) else {
        return Ok(());
    };
    if items
        .iter()
        .chain(&gone)
        .any(|item| item.is_object() || item.is_array())
    {
        return Err(malformed("invalid patch format of primitive list".to_owned()));
    }
    let gone: HashSet<String> = gone.iter().map(Value::to_string).collect();
    items.retain(|item| !gone.contains(&item.to_string()));
    Ok(())
}

/// Sorts a merged list. The elements in `order` follow it, the others follow the server's order.
/// Elements of the two groups are placed by the server's order; those that the server does not have
/// come first.
fn in_order(
    merged: Vec<Value>,
    order: &[Value],
    server_order: &[Value],
    merge_key: Option<&str>,
) -> Result<Vec<Value>> {
    let by_order = positions(order, merge_key)?;
    let by_server = positions(server_order, merge_key)?;
    // (index in its own order, index on the server, element)
    let mut mentioned = Vec::new();
    let mut rest = Vec::new();
    for item in merged {
        let id = identity(&item, merge_key)?;
        let on_server = by_server.get(&id).copied();
        match by_order.get(&id) {
            Some(place) => mentioned.push((*place, on_server, item)),
            None => rest.push((on_server.unwrap_or(usize::MAX), on_server, item)),
        }
    }
    mentioned.sort_by_key(|(place, ..)| *place);
    rest.sort_by_key(|(place, ..)| *place);
    let mut out = Vec::with_capacity(mentioned.len() + rest.len());
    let (mut mentioned, mut rest) = (mentioned.into_iter().peekable(), rest.into_iter().peekable());
    loop {
        let rest_first = match (rest.peek(), mentioned.peek()) {
            (None, None) => return Ok(out),
            (Some(_), None) => true,
            (None, Some(_)) => false,
            (Some((_, left, _)), Some((_, right, _))) => {
                matches!((left, right), (Some(left), Some(right)) if left < right)
            }
        };
        let next = if rest_first { rest.next() } else { mentioned.next() };
        out.extend(next.map(|(.., item)| item));
    }
}

fn positions(items: &[Value], merge_key: Option<&str>) -> Result<HashMap<String, usize>> {
    let mut positions = HashMap::with_capacity(items.len());
    for (at, item) in items.iter().enumerate() {
        positions.entry(identity(item, merge_key)?).or_insert(at);
    }
    Ok(positions)
}

/// Returns the identity of an element: the value of its merge key, or a scalar itself. In JSON, so
/// that 1 and "1" differ.
fn identity(item: &Value, merge_key: Option<&str>) -> Result<String> {
    match (item, merge_key) {
        (Value::Object(map), Some(key)) => match map.get(key) {
            Some(value) => Ok(value.to_string()),
            None => Err(malformed(format!(
                "map: {item} does not contain declared merge key: {key}"
            ))),
        },
        (_, Some(key)) => Err(malformed(format!(
            "expected a map with merge key {key}, but received a {}",
            kind_of(item)
        ))),
        (_, None) => Ok(item.to_string()),
    }
}

/// Returns a new value without directives. An object with `$patch` is not a value.
fn without_directives(value: Value) -> Option<Value> {
    match value {
        Value::Object(map) if map.contains_key(DIRECTIVE) => None,
        Value::Object(map) => {
            let plain = map.into_iter().filter(|(key, _)| !is_directive(key));
            Some(
                plain
                    .filter_map(|(key, value)| Some((key, without_directives(value)?)))
                    .collect(),
            )
        }
        Value::Array(items) => Some(items.into_iter().filter_map(without_directives).collect()),
        other => Some(other),
    }
}

fn is_directive(key: &str) -> bool {
    key == RETAIN_KEYS || key.starts_with(SET_ORDER) || key.starts_with(DELETE_FROM)
}

fn discard_nulls(value: &mut Value) {
    match value {
        Value::Object(map) => map.retain(|_, value| {
            discard_nulls(value);
            !value.is_null()
        }),
        Value::Array(items) => items.iter_mut().for_each(discard_nulls),
        _ => {}
    }
}

fn bad_directive(directive: &Value, patch: &Object) -> PatchError {
    malformed(format!(
        "unknown patch type: {directive} in map: {}",
        Value::Object(patch.clone())
    ))
}

fn kind_of(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "bool",
        Value::Number(_) => "number",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    }
}

#[cfg(test)]
mod tests;

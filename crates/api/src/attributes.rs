//! What selectors need of an object, kept beside its bytes so that a list or a watch event never parses the object again.

use serde_json::{Map, Value};

use crate::kinds::Kind;
use crate::meta;

/// What selectors need of one object.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Attributes {
    /// `metadata.namespace`; empty for objects of the cluster.
    pub namespace: Box<str>,
    /// `metadata.name`.
    pub name: Box<str>,
    /// `metadata.uid`.
    pub uid: Box<str>,
    /// `metadata.labels`.
    pub labels: Labels,
    /// The values of the kind's selectable fields, in the order of [`Kind::selectable`]. `None` is the empty value.
    pub fields: Box<[Option<Box<str>>]>,
}

/// The attributes of an object in the form it is stored as.
pub fn of(kind: &Kind, object: &Value) -> Attributes {
    Attributes {
        namespace: meta::namespace(object).into(),
        name: meta::name(object).into(),
        uid: meta::uid(object).into(),
        labels: meta::labels(object).map(Labels::of).unwrap_or_default(),
        fields: kind
            .selectable
            .iter()
            .map(|path| kind.field(object, path).map(String::into_boxed_str))
            .collect(),
    }
}

impl Attributes {
    /// The value of the selectable field at `index` of [`Kind::selectable`]; empty when it is missing.
    pub fn field(&self, index: usize) -> &str {
        self.fields
            .get(index)
            .and_then(Option::as_deref)
            .unwrap_or_default()
    }
}

/// Labels in one piece of memory: a cache of 100,000 nodes and their pods holds millions of these.
///
/// Stored as `key NUL value NUL …`, which is safe because neither may contain a NUL.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Labels(Box<str>);

impl Labels {
    /// The labels of `metadata.labels`. What is not text, or holds a NUL (validation lets neither through), is left out.
    pub fn of(map: &Map<String, Value>) -> Labels {
        map.iter()
            .filter_map(|(key, value)| Some((key.as_str(), value.as_str()?)))
            .collect()
    }

    /// The value of a label.
    pub fn get(&self, key: &str) -> Option<&str> {
        self.iter().find(|(name, _)| *name == key).map(|(_, value)| value)
    }

    /// All labels.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        let mut parts = self.0.split('\0');
        std::iter::from_fn(move || Some((parts.next()?, parts.next()?)))
    }

    /// Whether there is no label.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl<'a> FromIterator<(&'a str, &'a str)> for Labels {
    fn from_iter<I: IntoIterator<Item = (&'a str, &'a str)>>(pairs: I) -> Labels {
        let mut packed = String::new();
        for (key, value) in pairs {
            if !key.contains('\0') && !value.contains('\0') {
                packed.push_str(key);
                packed.push('\0');
                packed.push_str(value);
                packed.push('\0');
            }
        }
        Labels(packed.into_boxed_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kinds::by_kind;
    use serde_json::json;

    #[test]
    fn labels_are_found_by_key() {
        let labels: Labels = [("app", "web"), ("empty", ""), ("tier", "front")]
            .into_iter()
            .collect();
        assert_eq!(labels.get("app"), Some("web"));
        assert_eq!(labels.get("empty"), Some(""));
        assert_eq!(labels.get("tier"), Some("front"));
        assert_eq!(labels.get("web"), None);
        assert_eq!(labels.iter().count(), 3);
        assert!(Labels::default().is_empty());
        assert_eq!(Labels::default().iter().count(), 0);
    }

    #[test]
    fn attributes_hold_the_selectable_fields_in_the_order_of_the_kind() {
        let pod = by_kind("", "v1", "Pod").expect("a served kind");
        let attributes = of(
            pod,
            &json!({"metadata": {"namespace": "d", "name": "x", "uid": "u", "labels": {"a": "b", "odd": 3}},
                "spec": {"nodeName": "n1"}, "status": {"phase": "Running"}}),
        );
        let field = |path| {
            attributes.field(
                pod.selectable
                    .iter()
                    .position(|p| *p == path)
                    .expect("selectable"),
            )
        };
        assert_eq!(field("spec.nodeName"), "n1");
        assert_eq!(field("status.phase"), "Running");
        assert_eq!(field("spec.hostNetwork"), "false");
        assert_eq!(field("status.podIP"), "");
        assert_eq!(attributes.labels.get("a"), Some("b"));
        assert_eq!(attributes.labels.get("odd"), None);
    }
}

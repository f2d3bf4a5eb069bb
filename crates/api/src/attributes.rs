//! The values of an object that selectors and credentials read. They are stored beside the object's
//! bytes, so that a list, a watch event or a check of a credential does not parse the object.

use serde_json::Value;

use crate::kinds::Kind;
use crate::meta;
use crate::view::Labels;

/// The values of an object that selectors and credentials read.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Attributes {
    /// `metadata.namespace`; empty for cluster-scoped objects.
    pub namespace: Box<str>,
    /// `metadata.name`.
    pub name: Box<str>,
    /// `metadata.uid`.
    pub uid: Box<str>,
    /// `metadata.deletionTimestamp`, in seconds since the epoch, when the object is being deleted.
    /// The time may be in the future: a pod's includes its grace period.
    pub deletion: Option<i64>,
    /// `metadata.labels`.
    pub labels: Labels,
    /// The values of the kind's selectable fields, in the order of [`Kind::selectable`]. `None` is
    /// the empty value.
    pub fields: Box<[Option<Box<str>>]>,
}

/// Returns the attributes of an object in its stored form.
pub fn of(kind: &Kind, object: &Value) -> Attributes {
    Attributes {
        namespace: meta::namespace(object).into(),
        name: meta::name(object).into(),
        uid: meta::uid(object).into(),
        deletion: meta::deletion_timestamp(object)
            .and_then(crate::time::parse)
            .map(|time| time.as_second()),
        labels: meta::labels(object).map(Labels::of).unwrap_or_default(),
        fields: kind
            .selectable
            .iter()
            .map(|path| kind.field(object, path).map(String::into_boxed_str))
            .collect(),
    }
}

impl Attributes {
    /// Returns the value of the selectable field at `index` of [`Kind::selectable`]; empty when it
    /// is missing.
    pub fn field(&self, index: usize) -> &str {
        self.fields
            .get(index)
            .and_then(Option::as_deref)
            .unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kinds::by_kind;
    use serde_json::json;

    #[test]
    fn attributes_have_selectable_fields_in_the_order_of_the_kind() {
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
        assert_eq!(attributes.deletion, None);
    }

    #[test]
    fn attributes_hold_the_time_of_the_deletion() {
        let pod = by_kind("", "v1", "Pod").expect("a served kind");
        let deleted = json!({"metadata": {"name": "x", "deletionTimestamp": "1970-01-01T00:02:00Z"}});
        assert_eq!(of(pod, &deleted).deletion, Some(120));
    }
}

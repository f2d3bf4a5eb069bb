//! The forms of an answer other than the objects themselves: `Table` for printing, `PartialObjectMetadata` for clients that
//! read metadata alone.

use jiff::Timestamp;
use serde_json::{Value, json};

use crate::kinds::Kind;

/// What a Table's row holds of its object (`includeObject`).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum IncludeObject {
    /// Nothing.
    None,
    /// Its metadata.
    #[default]
    Metadata,
    /// All of it.
    Object,
}

impl IncludeObject {
    /// Reads the query parameter; empty is the default.
    pub fn parse(text: &str) -> Option<IncludeObject> {
        match text {
            "" | "Metadata" => Some(IncludeObject::Metadata),
            "None" => Some(IncludeObject::None),
            "Object" => Some(IncludeObject::Object),
            _ => None,
        }
    }
}

/// How a Table is asked for.
#[derive(Clone, Copy, Debug)]
pub struct TableOptions<'a> {
    /// The version of `meta.k8s.io`: `v1` or `v1beta1`.
    pub version: &'a str,
    /// What rows hold of their objects.
    pub include: IncludeObject,
    /// Whether the columns are described; watch events after the first leave that out.
    pub headers: bool,
}

/// A `Table` of objects of `kind`, all columns wide ones included. `list_meta` is the list's `metadata` (for a single object
/// its own resourceVersion).
pub fn table<'a>(
    kind: &Kind,
    objects: impl IntoIterator<Item = &'a Value>,
    list_meta: Value,
    options: TableOptions<'_>,
    now: Timestamp,
) -> Value {
    let rows: Vec<Value> = objects
        .into_iter()
        .map(|object| row(kind, object, options, now))
        .collect();
    let mut table = json!({
        "kind": "Table",
        "apiVersion": format!("meta.k8s.io/{}", options.version),
        "metadata": list_meta,
        "columnDefinitions": column_definitions(kind, options.headers),
    });
    table["rows"] = rows.into();
    table
}

fn column_definitions(kind: &Kind, headers: bool) -> Value {
    if !headers {
        return Value::Null;
    }
    kind.columns
        .iter()
        .map(|column| {
            json!({
                "name": column.name,
                "type": column.ty,
                "format": column.format,
                "description": column.description,
                "priority": column.priority,
            })
        })
        .collect()
}

/// A row of a Table.
pub fn row(kind: &Kind, object: &Value, options: TableOptions<'_>, now: Timestamp) -> Value {
    let mut row = json!({});
    row["cells"] = kind.row(object, now).into();
    let conditions = kind.row_conditions(object);
    if !conditions.is_empty() {
        row["conditions"] = conditions.into();
    }
    match options.include {
        IncludeObject::None => {}
        IncludeObject::Metadata => row["object"] = partial_metadata(object, options.version),
        IncludeObject::Object => row["object"] = object.clone(),
    }
    row
}

/// The object's metadata alone, as `PartialObjectMetadata` of `meta.k8s.io/<version>`.
pub fn partial_metadata(object: &Value, version: &str) -> Value {
    json!({
        "kind": "PartialObjectMetadata",
        "apiVersion": format!("meta.k8s.io/{version}"),
        "metadata": object.get("metadata").cloned().unwrap_or_else(|| json!({})),
    })
}

/// A `PartialObjectMetadataList` of objects.
pub fn partial_metadata_list<'a>(
    objects: impl IntoIterator<Item = &'a Value>,
    list_meta: Value,
    version: &str,
) -> Value {
    let items: Vec<Value> = objects
        .into_iter()
        .map(|object| partial_metadata(object, version))
        .collect();
    let mut list = json!({
        "kind": "PartialObjectMetadataList",
        "apiVersion": format!("meta.k8s.io/{version}"),
        "metadata": list_meta,
    });
    list["items"] = items.into();
    list
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kinds::by_kind;

    const OPTIONS: TableOptions<'static> = TableOptions {
        version: "v1",
        include: IncludeObject::Metadata,
        headers: true,
    };

    #[test]
    fn a_row_has_a_cell_for_each_column_of_every_kind_even_for_odd_objects() {
        let now = Timestamp::UNIX_EPOCH;
        for kind in crate::kinds::KINDS {
            for object in [
                json!({}),
                json!(null),
                json!({"metadata": 1, "spec": [], "status": "x"}),
            ] {
                assert_eq!(
                    kind.row(&object, now).len(),
                    kind.columns.len(),
                    "{kind:?} of {object}"
                );
            }
        }
    }

    #[test]
    fn a_table_carries_columns_cells_and_partial_objects() {
        let kind = by_kind("", "v1", "ConfigMap").expect("a served kind");
        let object = json!({"metadata": {"name": "x", "creationTimestamp": "1970-01-01T00:00:00Z"}, "data": {"a": "b"}});
        let table = table(
            kind,
            [&object],
            json!({"resourceVersion": "5"}),
            OPTIONS,
            Timestamp::UNIX_EPOCH,
        );
        assert_eq!(table["apiVersion"], "meta.k8s.io/v1");
        assert_eq!(table["columnDefinitions"][0]["format"], "name");
        assert_eq!(table["rows"][0]["cells"], json!(["x", 1, "0s"]));
        assert_eq!(
            table["rows"][0]["object"],
            json!({"kind": "PartialObjectMetadata", "apiVersion": "meta.k8s.io/v1", "metadata": object["metadata"]})
        );
    }

    #[test]
    fn a_table_without_headers_or_objects_leaves_them_out() {
        let kind = by_kind("", "v1", "ConfigMap").expect("a served kind");
        let options = TableOptions {
            include: IncludeObject::None,
            headers: false,
            ..OPTIONS
        };
        let table = table(kind, [&json!({})], json!({}), options, Timestamp::UNIX_EPOCH);
        assert_eq!(table["columnDefinitions"], Value::Null);
        assert!(table["rows"][0].get("object").is_none());
        let empty = table_of_nothing(kind);
        assert_eq!(empty["rows"], json!([]));
    }

    fn table_of_nothing(kind: &Kind) -> Value {
        table(kind, [], json!({}), OPTIONS, Timestamp::UNIX_EPOCH)
    }
}

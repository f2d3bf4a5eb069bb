//! The other forms of a response: `Table` for printing, `PartialObjectMetadata` for clients that
//! read only metadata.

use jiff::Timestamp;
use serde_json::{Value, json};

use crate::kinds::Kind;

/// The part of the object in a row of a Table (`includeObject`).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum IncludeObject {
    /// Nothing.
    None,
    /// The metadata.
    #[default]
    Metadata,
    /// The whole object.
    Object,
}

impl IncludeObject {
    /// Parses the query parameter; empty is the default.
    pub fn parse(text: &str) -> Option<IncludeObject> {
        match text {
            "" | "Metadata" => Some(IncludeObject::Metadata),
            "None" => Some(IncludeObject::None),
            "Object" => Some(IncludeObject::Object),
            _ => None,
        }
    }
}

/// The options of a Table.
#[derive(Clone, Copy, Debug)]
pub struct TableOptions<'a> {
    /// The version of `meta.k8s.io`: `v1` or `v1beta1`.
    pub version: &'a str,
    /// The part of the object in each row.
    pub include: IncludeObject,
    /// Whether to describe the columns. Watch events after the first leave them out.
    pub headers: bool,
}

/// Returns a `Table` of objects of `kind` with all columns, including wide ones. `list_meta` is the
/// list's `metadata` (for a single object its own resourceVersion).
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

/// Returns a row of a Table.
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

/// Returns the object's metadata as `PartialObjectMetadata` of `meta.k8s.io/<version>`.
pub fn partial_metadata(object: &Value, version: &str) -> Value {
    json!({
        "kind": "PartialObjectMetadata",
        "apiVersion": format!("meta.k8s.io/{version}"),
        "metadata": object.get("metadata").cloned().unwrap_or_else(|| json!({})),
    })
}

/// Returns a `PartialObjectMetadataList` of objects.
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
    fn row_has_a_cell_for_each_column_even_for_invalid_objects() {
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
    fn table_has_columns_cells_and_partial_objects() {
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
    fn table_leaves_out_headers_and_objects_on_request() {
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

//! The schemas of objects.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use super::{Dialect, Route};
use crate::{
    lookup,
    types::{Field, FieldType, ListType, PatchStrategy, Type},
};

/// The body of a PATCH, which has no schema.
const PATCH: &str = "io.k8s.apimachinery.pkg.apis.meta.v1.Patch";

/// Returns the schemas of the routes' kinds, of their lists, and of all types that they refer to.
pub(super) fn all(routes: &[&Route], dialect: Dialect) -> Value {
    let mut types = BTreeMap::new();
    for route in routes {
        let list = format!("{}List", route.kind);
        for kind in [route.kind, &list, "DeleteOptions"] {
            reach(lookup(route.group, route.version, kind), &mut types);
        }
    }
    reach(lookup("", "v1", "Status"), &mut types);
    let mut schemas: Map<String, Value> = types
        .values()
        .map(|ty| (ty.name.to_owned(), object(ty, dialect)))
        .collect();
    schemas.insert(PATCH.to_owned(), json!({"type": "object"}));
    for (name, schema) in scalars(dialect) {
        schemas.insert(name.to_owned(), schema);
    }
    Value::Object(schemas)
}

fn reach(ty: Option<&'static Type>, types: &mut BTreeMap<&'static str, &'static Type>) {
    let Some(ty) = ty else { return };
    if types.insert(ty.name, ty).is_some() {
        return;
    }
    for field in ty.fields {
        let mut content = &field.ty;
        while let FieldType::List(inner) | FieldType::Map(inner) = content {
            content = inner;
        }
        if let FieldType::Object(inner) = content {
            reach(Some(inner), types);
        }
    }
}

/// Returns the types that are a single value in JSON and have a name in OpenAPI.
fn scalars(dialect: Dialect) -> [(&'static str, Value); 6] {
    let (quantity, int_or_string) = match dialect {
        Dialect::V2 => (
            json!({"type": "string"}),
            json!({"type": "string", "format": "int-or-string"}),
        ),
        Dialect::V3 => (
            json!({"oneOf": [{"type": "string"}, {"type": "number"}]}),
            json!({"oneOf": [{"type": "integer"}, {"type": "string"}], "format": "int-or-string"}),
        ),
    };
    [
        ("io.k8s.apimachinery.pkg.api.resource.Quantity", quantity),
        ("io.k8s.apimachinery.pkg.util.intstr.IntOrString", int_or_string),
        (
            "io.k8s.apimachinery.pkg.apis.meta.v1.Time",
            json!({"type": "string", "format": "date-time"}),
        ),
        (
            "io.k8s.apimachinery.pkg.apis.meta.v1.MicroTime",
            json!({"type": "string", "format": "date-time"}),
        ),
        (
            "io.k8s.apimachinery.pkg.apis.meta.v1.FieldsV1",
            json!({"type": "object"}),
        ),
        (
            "io.k8s.apimachinery.pkg.runtime.RawExtension",
            json!({"type": "object"}),
        ),
    ]
}

fn object(ty: &Type, dialect: Dialect) -> Value {
    let mut schema = Map::new();
    schema.insert("type".to_owned(), "object".into());
    let properties: Map<String, Value> = ty
        .fields
        .iter()
        .map(|field| (field.json.to_owned(), property(field, dialect)))
        .collect();
    if !properties.is_empty() {
        schema.insert("properties".to_owned(), Value::Object(properties));
    }
    let required: Vec<&str> = ty
        .fields
        .iter()
        .filter(|field| field.required)
        .map(|field| field.json)
        .collect();
    if !required.is_empty() {
        schema.insert("required".to_owned(), required.into());
    }
    if !ty.gvks.is_empty() {
        let kinds = ty
            .gvks
            .iter()
            .map(|gvk| json!({"group": gvk.group, "version": gvk.version, "kind": gvk.kind}))
            .collect();
        schema.insert("x-kubernetes-group-version-kind".to_owned(), Value::Array(kinds));
    }
    if ty.atomic {
        schema.insert("x-kubernetes-map-type".to_owned(), "atomic".into());
    }
    Value::Object(schema)
}

fn property(field: &Field, dialect: Dialect) -> Value {
    let mut schema = content(&field.ty, dialect);
    let Some(map) = schema.as_object_mut() else {
        return schema;
    };
    let mut say = |name: &str, value: Value| map.insert(name.to_owned(), value);
    match field.list {
        ListType::None => {}
        ListType::Atomic => drop(say("x-kubernetes-list-type", "atomic".into())),
        ListType::Set => drop(say("x-kubernetes-list-type", "set".into())),
        ListType::Map => {
            say("x-kubernetes-list-type", "map".into());
            say("x-kubernetes-list-map-keys", field.keys.into());
        }
    }
    let strategy = match field.patch {
        PatchStrategy::Default => None,
        PatchStrategy::Merge => Some("merge"),
        PatchStrategy::Replace => Some("replace"),
        PatchStrategy::RetainKeys => Some("retainKeys"),
        PatchStrategy::MergeRetainKeys => Some("merge,retainKeys"),
    };
    if let Some(strategy) = strategy {
        say("x-kubernetes-patch-strategy", strategy.into());
    }
    if let Some(key) = field.merge_key {
        say("x-kubernetes-patch-merge-key", key.into());
    }
    if field.atomic {
        say("x-kubernetes-map-type", "atomic".into());
    }
    // In version 3 a reference must be the only field, so a wrapper contains it with the other
    // fields.
    if dialect == Dialect::V3
        && map.len() > 1
        && let Some(reference) = map.remove("$ref")
    {
        map.insert("allOf".to_owned(), json!([{"$ref": reference}]));
    }
    schema
}

fn content(ty: &FieldType, dialect: Dialect) -> Value {
    let reference = |name: &str| {
        let base = match dialect {
            Dialect::V2 => "#/definitions/",
            Dialect::V3 => "#/components/schemas/",
        };
        json!({"$ref": format!("{base}{name}")})
    };
    match ty {
        FieldType::String => json!({"type": "string"}),
        FieldType::Bytes => json!({"type": "string", "format": "byte"}),
        FieldType::Bool => json!({"type": "boolean"}),
        FieldType::Int32 => json!({"type": "integer", "format": "int32"}),
        FieldType::Int64 => json!({"type": "integer", "format": "int64"}),
        FieldType::Time => reference("io.k8s.apimachinery.pkg.apis.meta.v1.Time"),
        FieldType::MicroTime => reference("io.k8s.apimachinery.pkg.apis.meta.v1.MicroTime"),
        FieldType::Quantity => reference("io.k8s.apimachinery.pkg.api.resource.Quantity"),
        FieldType::IntOrString => reference("io.k8s.apimachinery.pkg.util.intstr.IntOrString"),
        FieldType::Raw => reference("io.k8s.apimachinery.pkg.runtime.RawExtension"),
        FieldType::FieldsV1 => reference("io.k8s.apimachinery.pkg.apis.meta.v1.FieldsV1"),
        FieldType::Object(ty) => reference(ty.name),
        FieldType::List(inner) => json!({"type": "array", "items": content(inner, dialect)}),
        FieldType::StringList => json!({"type": "array", "items": {"type": "string"}}),
        FieldType::Map(inner) => json!({"type": "object", "additionalProperties": content(inner, dialect)}),
    }
}

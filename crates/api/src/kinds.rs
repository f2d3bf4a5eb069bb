//! The registry of kinds: one row for each kind. A row holds everything that the server knows about
//! the kind.
//!
//! To add a kind, add a file with its row and name the row in [`KINDS`]. A row holds the names of
//! the kind, its verbs and subresources, and how to default, prepare, validate and print its
//! objects. Rows use no storage and no clock.
//!
//! The server handles a write in these steps: decode, [`Kind::check_decoded`], [`Kind::default`],
//! then for a create [`Kind::prepare_create`], admission and [`Kind::validate`]; for an update
//! [`Kind::prepare_update`] and [`Kind::validate_update`]; for the status subresource
//! [`Kind::prepare_status`] and [`Kind::validate_status`].

use jiff::Timestamp;
use schema::Type;
use serde_json::Value;

use crate::field_error::FieldError;
use crate::meta;
use crate::validate;

pub mod apps;
pub mod certificates;
pub mod coordination;
pub mod core;
pub mod discovery;
pub mod events;
pub mod policy;
pub mod rbac;
pub mod reviews;
pub mod scheduling;

#[cfg(test)]
mod tests;

/// Every served kind, in the order of discovery.
pub static KINDS: &[&Kind] = &[
    &core::config_map::KIND,
    &core::endpoints::KIND,
    &core::event::KIND,
    &core::namespace::KIND,
    &core::node::KIND,
    &core::pod::KIND,
    &core::secret::KIND,
    &core::service::KIND,
    &core::service_account::KIND,
    &apps::controller_revision::KIND,
    &apps::daemon_set::KIND,
    &reviews::SELF_SUBJECT_REVIEW,
    &reviews::LOCAL_SUBJECT_ACCESS_REVIEW,
    &reviews::SELF_SUBJECT_ACCESS_REVIEW,
    &reviews::SELF_SUBJECT_RULES_REVIEW,
    &reviews::SUBJECT_ACCESS_REVIEW,
    &certificates::CERTIFICATE_SIGNING_REQUEST,
    &coordination::LEASE,
    &discovery::ENDPOINT_SLICE,
    &events::KIND,
    &policy::POD_DISRUPTION_BUDGET,
    &rbac::CLUSTER_ROLE_BINDING,
    &rbac::CLUSTER_ROLE,
    &rbac::ROLE_BINDING,
    &rbac::ROLE,
    &scheduling::PRIORITY_CLASS,
];

/// Returns the kind that is served as `<group>/<version>/<plural>`. The core group is the empty
/// string.
pub fn by_resource(group: &str, version: &str, plural: &str) -> Option<&'static Kind> {
    KINDS
        .iter()
        .copied()
        .find(|row| row.plural == plural && row.group == group && row.version == version)
}

/// Returns the kind of objects with `apiVersion: <group>/<version>` and `kind: <kind>`.
pub fn by_kind(group: &str, version: &str, kind: &str) -> Option<&'static Kind> {
    KINDS
        .iter()
        .copied()
        .find(|row| row.kind == kind && row.group == group && row.version == version)
}

/// One row of the registry.
#[derive(Clone, Copy)]
pub struct Kind {
    /// The API group; empty for the core group.
    pub group: &'static str,
    /// The version of the group.
    pub version: &'static str,
    /// `DaemonSet`.
    pub kind: &'static str,
    /// `daemonsets`, the resource's name in paths.
    pub plural: &'static str,
    /// `daemonset`.
    pub singular: &'static str,
    /// Abbreviations, for example `ds`.
    pub short_names: &'static [&'static str],
    /// Names of groups of resources, for example `all`.
    pub categories: &'static [&'static str],
    /// Whether objects have a namespace.
    pub namespaced: bool,
    /// Whether objects are stored. Reviews are answered and not stored.
    pub stored: bool,
    /// Verbs, as discovery lists them.
    pub verbs: &'static [&'static str],
    /// Paths below an object.
    pub subresources: &'static [Subresource],
    /// Fields that a field selector may name in addition to `metadata.name` and
    /// `metadata.namespace`.
    pub selectable: &'static [&'static str],
    /// The columns of a Table; [`Kind::row`] gives a cell for each.
    pub columns: &'static [Column],
    /// Whether a PUT may leave out the resourceVersion.
    pub unconditional_update: bool,
    /// Whether a PUT to a name that does not exist creates the object.
    pub create_on_update: bool,
    /// Set when objects of this kind are stored as another kind.
    pub conversion: Option<Conversion>,
    /// The functions that the methods of this type call.
    pub strategy: Strategy,
}

/// The functions of a kind. The server calls the methods of [`Kind`], which add what all kinds
/// share.
#[derive(Clone, Copy)]
pub struct Strategy {
    /// Whether there is a `status` that writes to the main resource must not change.
    pub status: StatusField,
    /// Whether `metadata.generation` counts changes of `spec`.
    pub generation: bool,
    /// Refuses an object that has the right types but cannot be decoded in Kubernetes, with the
    /// reason.
    pub decode: fn(&Value) -> Result<(), String>,
    /// Sets fields that the user left out.
    pub default: fn(&mut Value),
    /// Prepares a new object. Status and generation are already set.
    pub create: fn(&mut Value),
    /// Prepares an update. Metadata, status and generation are already set.
    pub update: fn(&mut Value, &Value),
    /// Prepares an update of the status. All but metadata and status is already reset to the old
    /// object.
    pub status_update: fn(&mut Value, &Value),
    /// Appends what is wrong with a name.
    pub name: fn(&str, &mut Vec<&'static str>),
    /// Validates a new object except its metadata.
    pub rules: fn(&Value, &mut Vec<FieldError>),
    /// Validates a changed object except its metadata, with the rules of [`Strategy::rules`] that
    /// hold for updates too.
    pub update_rules: fn(&Value, &Value, &mut Vec<FieldError>),
    /// Validates a changed status.
    pub status_rules: fn(&Value, &Value, &mut Vec<FieldError>),
    /// Warnings about a new object that is valid but unwise.
    pub warnings: fn(&Value) -> Vec<String>,
    /// Warnings about a changed object that is valid but unwise. Empty when no person reads the
    /// warnings, as with writes of controllers.
    pub update_warnings: fn(&Value, &Value) -> Vec<String>,
    /// Value of a selectable field for which the path is not enough.
    pub field: fn(&Value, &str) -> Option<String>,
    /// Cells of the row in a Table.
    pub row: fn(&Value, Timestamp) -> Vec<Value>,
    /// Conditions of the row in a Table.
    pub row_conditions: fn(&Value) -> Vec<Value>,
}

/// How writes to the main resource treat the status of a kind.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum StatusField {
    /// The kind has no status.
    Absent,
    /// Create removes it, update keeps the old one.
    Separate,
    /// Create accepts it, because a node registers itself with its status. Update keeps the old
    /// one.
    GivenAtCreate,
}

/// A path below an object, as discovery shows it.
#[derive(Clone, Copy, Debug)]
pub struct Subresource {
    /// `status`.
    pub name: &'static str,
    /// The group of the body's kind.
    pub group: &'static str,
    /// The version of the body's kind.
    pub version: &'static str,
    /// The body's kind.
    pub kind: &'static str,
    /// Verbs, as discovery lists them.
    pub verbs: &'static [&'static str],
}

/// A column of a Table.
#[derive(Clone, Copy, Debug)]
pub struct Column {
    /// The heading, for example `Up-to-date`. Clients print it in capitals.
    pub name: &'static str,
    /// The OpenAPI type: `string`, `integer`, `date`, `boolean`.
    pub ty: &'static str,
    /// The OpenAPI format: `name` for the column that identifies the object.
    pub format: &'static str,
    /// What it shows.
    pub description: &'static str,
    /// 0 is always shown, 1 with `-o wide`.
    pub priority: i32,
}

/// How objects of a kind are converted to and from the kind that they are stored as.
#[derive(Clone, Copy)]
pub struct Conversion {
    /// The kind of the stored objects.
    pub stored: &'static Kind,
    /// Converts an object of this kind to the stored kind.
    pub to_stored: fn(&mut Value),
    /// Converts a stored object to this kind.
    pub from_stored: fn(&mut Value),
}

/// The verbs of a stored kind.
pub const ALL_VERBS: &[&str] = &[
    "create",
    "delete",
    "deletecollection",
    "get",
    "list",
    "patch",
    "update",
    "watch",
];

const STATUS_VERBS: &[&str] = &["get", "patch", "update"];

/// Returns a string column of priority 0.
pub(crate) const fn column(name: &'static str, description: &'static str) -> Column {
    Column {
        name,
        ty: "string",
        format: "",
        description,
        priority: 0,
    }
}

/// Returns an integer column of priority 0.
pub(crate) const fn integer(name: &'static str, description: &'static str) -> Column {
    Column {
        name,
        ty: "integer",
        format: "",
        description,
        priority: 0,
    }
}

/// Returns a string column for `-o wide`.
pub(crate) const fn wide(name: &'static str, description: &'static str) -> Column {
    Column {
        name,
        ty: "string",
        format: "",
        description,
        priority: 1,
    }
}

/// The column that identifies the object.
pub(crate) const NAME: Column = Column {
    name: "Name",
    ty: "string",
    format: "name",
    description: "Name must be unique within a namespace.",
    priority: 0,
};

/// The column with the time since the object was created.
pub(crate) const AGE: Column = column("Age", "The time since the object was created.");

/// Returns a subresource whose body has the given group, version and kind.
pub(crate) const fn subresource(
    name: &'static str,
    (group, version, kind): (&'static str, &'static str, &'static str),
    verbs: &'static [&'static str],
) -> Subresource {
    Subresource {
        name,
        group,
        version,
        kind,
        verbs,
    }
}

/// Returns the `proxy` subresource of a kind, which forwards requests to the object.
pub(crate) const fn proxy_of(kind: &'static str) -> Subresource {
    let verbs = &["create", "delete", "get", "patch", "update"];
    subresource("proxy", ("", "v1", kind), verbs)
}

/// Returns the `status` subresource of a kind.
pub(crate) const fn status_of(kind: (&'static str, &'static str, &'static str)) -> Subresource {
    subresource("status", kind, STATUS_VERBS)
}

/// Returns a row with the values of most kinds: namespaced, stored, all verbs, no status, a DNS
/// subdomain as name, the columns Name and Age.
pub(crate) const fn row(
    group: &'static str,
    version: &'static str,
    kind: &'static str,
    plural: &'static str,
    singular: &'static str,
) -> Kind {
    Kind {
        group,
        version,
        kind,
        plural,
        singular,
        short_names: &[],
        categories: &[],
        namespaced: true,
        stored: true,
        verbs: ALL_VERBS,
        subresources: &[],
        selectable: &[],
        columns: &[NAME, AGE],
        unconditional_update: true,
        create_on_update: false,
        conversion: None,
        strategy: Strategy {
            status: StatusField::Absent,
            generation: false,
            decode: |_| Ok(()),
            default: |_| {},
            create: |_| {},
            update: |_, _| {},
            status_update: |_, _| {},
            name: validate::name::dns_subdomain,
            rules: |_, _| {},
            update_rules: |_, _, _| {},
            status_rules: |_, _, _| {},
            warnings: |_| Vec::new(),
            update_warnings: |_, _| Vec::new(),
            field: |_, _| None,
            row: |object, now| vec![meta::name(object).into(), crate::print::age(object, now)],
            row_conditions: |_| Vec::new(),
        },
    }
}

impl std::fmt::Debug for Kind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Kind({}/{} {})", self.group, self.version, self.kind)
    }
}

impl PartialEq for Kind {
    /// Rows are equal when they have the same group, version and kind.
    fn eq(&self, other: &Kind) -> bool {
        (self.group, self.version, self.kind) == (other.group, other.version, other.kind)
    }
}

impl Eq for Kind {}

impl Kind {
    /// Returns the schema of the kind's objects.
    pub fn ty(&self) -> &'static Type {
        schema::lookup(self.group, self.version, self.kind)
            .expect("every kind of the registry is in the schema table, as a test checks")
    }

    /// Returns `apps/v1`, or `v1` for the core group.
    pub fn api_version(&self) -> String {
        if self.group.is_empty() {
            self.version.to_owned()
        } else {
            format!("{}/{}", self.group, self.version)
        }
    }

    /// Returns whether the resource has this verb.
    pub fn has_verb(&self, verb: &str) -> bool {
        self.verbs.contains(&verb)
    }

    /// Returns the subresource of this name.
    pub fn subresource(&self, name: &str) -> Option<&'static Subresource> {
        self.subresources
            .iter()
            .find(|subresource| subresource.name == name)
    }

    /// Returns the kind that the objects are stored as: itself, or the target of its conversion.
    pub fn stored_as(&'static self) -> &'static Kind {
        self.conversion.map_or(self, |conversion| conversion.stored)
    }

    /// Returns an error when an object that fits the schema cannot be decoded as this kind in
    /// Kubernetes.
    pub fn check_decoded(&self, object: &Value) -> Result<(), String> {
        (self.strategy.decode)(object)
    }

    /// Sets the fields that the user left out. The server calls it for every object that it
    /// receives. A second call changes nothing.
    pub fn default(&self, object: &mut Value) {
        (self.strategy.default)(object);
    }

    /// Prepares a defaulted object for its creation: removes a status that the user may not set,
    /// sets generation 1, and does what the kind adds.
    pub fn prepare_create(&self, object: &mut Value) {
        if self.strategy.status == StatusField::Separate
            && let Some(fields) = object.as_object_mut()
        {
            fields.remove("status");
        }
        let metadata = meta::metadata_mut(object);
        if self.strategy.generation {
            metadata.insert("generation".to_owned(), 1.into());
        } else {
            metadata.remove("generation");
        }
        self.drop_foreign_namespace(object);
        (self.strategy.create)(object);
    }

    /// Removes the namespace of a cluster-scoped object, as Kubernetes does.
    fn drop_foreign_namespace(&self, object: &mut Value) {
        if !self.namespaced {
            meta::metadata_mut(object).remove("namespace");
        }
    }

    /// Prepares a defaulted update. The status and the metadata that only the server sets stay as
    /// they were. A change of the spec increments the generation.
    pub fn prepare_update(&self, new: &mut Value, old: &Value) {
        meta::carry_over(new, old);
        self.drop_foreign_namespace(new);
        if self.strategy.status != StatusField::Absent {
            keep_field(new, old, "status");
        }
        (self.strategy.update)(new, old);
        if self.strategy.generation && new["spec"] != old["spec"] {
            meta::set_generation(new, meta::generation(old) + 1);
        }
    }

    /// Prepares an update of the status. All but the status and the user's part of the metadata
    /// stays as it was.
    pub fn prepare_status(&self, new: &mut Value, old: &Value) {
        meta::carry_over(new, old);
        self.drop_foreign_namespace(new);
        if let (Some(fields), Some(before)) = (new.as_object_mut(), old.as_object()) {
            fields.retain(|name, _| {
                matches!(name.as_str(), "metadata" | "status") || before.contains_key(name)
            });
            for (name, value) in before {
                if !matches!(name.as_str(), "metadata" | "status") && fields.get(name) != Some(value) {
                    fields.insert(name.clone(), value.clone());
                }
            }
        }
        (self.strategy.status_update)(new, old);
    }

    /// Validates a new object.
    pub fn validate(&self, object: &Value) -> Vec<FieldError> {
        let mut errors = Vec::new();
        if self.stored {
            validate::meta::object_meta(object, self.namespaced, self.strategy.name, &mut errors);
        }
        (self.strategy.rules)(object, &mut errors);
        errors
    }

    /// Validates an update of the stored object `old`.
    pub fn validate_update(&self, new: &Value, old: &Value) -> Vec<FieldError> {
        let mut errors = Vec::new();
        validate::meta::object_meta_update(new, old, &mut errors);
        (self.strategy.update_rules)(new, old, &mut errors);
        errors
    }

    /// Validates an update of the status of the stored object `old`.
    pub fn validate_status(&self, new: &Value, old: &Value) -> Vec<FieldError> {
        let mut errors = Vec::new();
        validate::meta::object_meta_update(new, old, &mut errors);
        (self.strategy.status_rules)(new, old, &mut errors);
        errors
    }

    /// Returns warnings about a valid new object, which the server sends as `Warning` headers.
    pub fn warnings(&self, object: &Value) -> Vec<String> {
        (self.strategy.warnings)(object)
    }

    /// Returns warnings about a valid update of the stored object `old`.
    pub fn update_warnings(&self, new: &Value, old: &Value) -> Vec<String> {
        (self.strategy.update_warnings)(new, old)
    }

    /// Returns the value of a field for field selectors. A missing field is `None`, which selectors
    /// treat as empty.
    pub fn field(&self, object: &Value, path: &str) -> Option<String> {
        (self.strategy.field)(object, path)
            .or_else(|| field_at(object, path))
            .filter(|value| !value.is_empty())
    }

    /// Returns the cells of the object's row in a Table, one for each column.
    pub fn row(&self, object: &Value, now: Timestamp) -> Vec<Value> {
        (self.strategy.row)(object, now)
    }

    /// Returns the conditions of the object's row in a Table: `Completed` for a pod that has ended.
    pub fn row_conditions(&self, object: &Value) -> Vec<Value> {
        (self.strategy.row_conditions)(object)
    }
}

fn field_at(object: &Value, path: &str) -> Option<String> {
    let value = path.split('.').fold(object, |value, step| &value[step]);
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Bool(_) | Value::Number(_) => Some(value.to_string()),
        _ => None,
    }
}

/// Sets a top-level field to its value in `old`.
pub(crate) fn keep_field(new: &mut Value, old: &Value, field: &str) {
    let Some(fields) = new.as_object_mut() else { return };
    match old.get(field) {
        Some(value) if fields.get(field) == Some(value) => {}
        Some(value) => {
            fields.insert(field.to_owned(), value.clone());
        }
        None => {
            fields.remove(field);
        }
    }
}

//! The types of the schema table: object types and the properties of their fields.
//!
//! The table itself is generated (`cargo xtask schema`) as statics, so it needs no initialization.

/// One object type of the Kubernetes API, such as `io.k8s.api.core.v1.Pod`.
#[derive(Debug)]
pub struct Type {
    /// The OpenAPI name, e.g. `io.k8s.api.apps.v1.DaemonSet`.
    pub name: &'static str,
    /// The name of the type in Go's errors, e.g. `v1.DaemonSet`.
    pub go: &'static str,
    /// The kinds of bodies of this type; empty for types that occur only inside others.
    pub gvks: &'static [Gvk],
    /// All fields, sorted by the bytes of their JSON names.
    pub fields: &'static [Field],
    /// Whether the whole object has one owner under server-side apply
    /// (`x-kubernetes-map-type: atomic`).
    pub atomic: bool,
}

/// A group, version and kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Gvk {
    /// The API group; empty for the core group.
    pub group: &'static str,
    /// The version, e.g. `v1`.
    pub version: &'static str,
    /// The kind, e.g. `DaemonSet`.
    pub kind: &'static str,
}

/// One field of a [`Type`].
#[derive(Debug)]
pub struct Field {
    /// The name in JSON.
    pub json: &'static str,
    /// The protobuf field number; 0 for `apiVersion` and `kind`, which are in the envelope.
    pub number: u32,
    /// The number of the protobuf message that contains this field, when JSON flattens that message
    /// into its parent (Go's `json:",inline"`, as `VolumeSource` in `Volume`); otherwise 0.
    pub within: u32,
    /// The type of the field.
    pub ty: FieldType,
    /// The name of the field's type in Go's errors where `ty` does not determine it, e.g.
    /// `v1.PodPhase`; otherwise empty.
    pub go: &'static str,
    /// Whether OpenAPI lists the field as required.
    pub required: bool,
    /// When Go leaves the field out of JSON.
    pub omit: Omit,
    /// How server-side apply merges a list.
    pub list: ListType,
    /// The keys of a [`ListType::Map`].
    pub keys: &'static [&'static str],
    /// How a strategic merge patch treats the field.
    pub patch: PatchStrategy,
    /// The merge key of a list of objects in a strategic merge patch.
    pub merge_key: Option<&'static str>,
    /// Whether server-side apply treats a map or an object as one value.
    pub atomic: bool,
}

/// The type of a field.
#[derive(Debug, Clone, Copy)]
pub enum FieldType {
    /// A string.
    String,
    /// Bytes, base64 in JSON.
    Bytes,
    /// A boolean.
    Bool,
    /// A signed 32-bit integer.
    Int32,
    /// A signed 64-bit integer.
    Int64,
    /// A time with seconds, RFC 3339 in JSON.
    Time,
    /// A time with microseconds, RFC 3339 in JSON.
    MicroTime,
    /// A resource quantity such as `200Mi`.
    Quantity,
    /// A number or a string such as `10%`.
    IntOrString,
    /// Any JSON value (`RawExtension`).
    Raw,
    /// An object that only server-side apply reads (`FieldsV1`).
    FieldsV1,
    /// An object of a known type.
    Object(&'static Type),
    /// A list.
    List(&'static FieldType),
    /// A list of strings that is a message in protobuf (`ExtraValue`).
    StringList,
    /// A map from strings.
    Map(&'static FieldType),
}

/// When Go's JSON encoder leaves a field out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Omit {
    /// Never: an unset scalar or struct is written as its zero value (`0`, `""`, `false`, `{}`), an
    /// unset list, map or pointer as `null`.
    Never,
    /// An unset list, map or pointer is written as `null` (no `omitempty` on a nillable type).
    Null,
    /// Zero values are left out (`omitempty` on a scalar, a list or a map).
    Empty,
    /// Only an unset value is left out; an explicit zero value stays (a pointer with `omitempty`).
    Unset,
}

/// How server-side apply merges a list.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ListType {
    /// Not a list, or not specified: atomic.
    None,
    /// Replaced as a whole.
    Atomic,
    /// A set of scalars.
    Set,
    /// Objects that are identified by [`Field::keys`].
    Map,
}

/// How a strategic merge patch treats a field.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PatchStrategy {
    /// Objects merge, lists are replaced.
    Default,
    /// Lists merge, by [`Field::merge_key`] or as sets of scalars.
    Merge,
    /// The value is replaced.
    Replace,
    /// Fields that `$retainKeys` does not name are removed, then the objects merge.
    RetainKeys,
    /// Both [`PatchStrategy::Merge`] and [`PatchStrategy::RetainKeys`]: the list merges, and
    /// `$retainKeys` applies to its elements.
    MergeRetainKeys,
}

impl Type {
    /// Returns the field with this JSON name.
    pub fn field(&self, json: &str) -> Option<&'static Field> {
        self.fields
            .binary_search_by(|field| field.json.cmp(json))
            .ok()
            .map(|at| &self.fields[at])
    }

    /// Returns the kind of bodies of this type; empty for other types.
    pub fn kind(&self) -> &'static str {
        self.gvks.first().map_or("", |gvk| gvk.kind)
    }

    /// Returns the name without its package, e.g. `DaemonSetSpec`.
    pub fn short_name(&self) -> &'static str {
        self.go.rsplit('.').next().unwrap_or(self.go)
    }
}

impl PartialEq for Type {
    fn eq(&self, other: &Self) -> bool {
        std::ptr::eq(self, other)
    }
}

impl Eq for Type {}

impl Gvk {
    /// Returns `apps/v1`, or `v1` in the core group.
    pub fn api_version(&self) -> String {
        api_version(self.group, self.version)
    }
}

/// Returns `apps/v1`, or `v1` when the group is empty.
pub(crate) fn api_version(group: &str, version: &str) -> String {
    match group {
        "" => version.to_owned(),
        _ => format!("{group}/{version}"),
    }
}

/// Returns a row of the generated table's index.
pub(crate) const fn kind(group: &'static str, version: &'static str, kind: &'static str) -> Gvk {
    Gvk { group, version, kind }
}

/// Returns a field with default properties, which the generated table overrides as needed.
pub(crate) const fn plain(json: &'static str, number: u32, ty: FieldType, omit: Omit) -> Field {
    Field {
        json,
        number,
        within: 0,
        ty,
        go: "",
        required: false,
        omit,
        list: ListType::None,
        keys: &[],
        patch: PatchStrategy::Default,
        merge_key: None,
        atomic: false,
    }
}

//! `cargo xtask schema`: writes `crates/schema/src/table.rs` from the Go sources of the Kubernetes
//! API.
//!
//! The struct tags and markers of `k8s.io/api` and `k8s.io/apimachinery` (both Apache-2.0) have all
//! facts of the table: JSON names, omission, pointers, protobuf numbers, patch strategies, merge
//! keys, list types. The generator needs `go` on PATH, only to download the two modules in the
//! version below. To use another Kubernetes version, change [`VERSION`] and run the generator; the
//! diff of the table shows the changes of the API.
//!
//! The output contains only facts: no comment of the sources is copied.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write as _,
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result, bail, ensure};

/// Version of both modules; Kubernetes 1.N is v0.N.
const VERSION: &str = "v0.36.6";

/// Path of the table, from the workspace's root.
const TABLE: &str = "crates/schema/src/table.rs";

/// Kinds in the table. The `List` of a kind is included. To add a kind, add its name here.
const KINDS: &[(&str, &str, &[&str])] = &[
    (
        "k8s.io/api/core/v1",
        "",
        &[
            "Binding",
            "ConfigMap",
            "Endpoints",
            "Event",
            "Namespace",
            "Node",
            "Pod",
            "Secret",
            "Service",
            "ServiceAccount",
        ],
    ),
    ("k8s.io/api/apps/v1", "apps", &["ControllerRevision", "DaemonSet"]),
    (
        "k8s.io/api/authentication/v1",
        "authentication.k8s.io",
        &["SelfSubjectReview", "TokenRequest", "TokenReview"],
    ),
    (
        "k8s.io/api/authorization/v1",
        "authorization.k8s.io",
        &[
            "LocalSubjectAccessReview",
            "SelfSubjectAccessReview",
            "SelfSubjectRulesReview",
            "SubjectAccessReview",
        ],
    ),
    (
        "k8s.io/api/certificates/v1",
        "certificates.k8s.io",
        &["CertificateSigningRequest"],
    ),
    ("k8s.io/api/coordination/v1", "coordination.k8s.io", &["Lease"]),
    ("k8s.io/api/discovery/v1", "discovery.k8s.io", &["EndpointSlice"]),
    ("k8s.io/api/events/v1", "events.k8s.io", &["Event"]),
    (
        "k8s.io/api/policy/v1",
        "policy",
        &["Eviction", "PodDisruptionBudget"],
    ),
    (
        "k8s.io/api/rbac/v1",
        "rbac.authorization.k8s.io",
        &["ClusterRole", "ClusterRoleBinding", "Role", "RoleBinding"],
    ),
    (
        "k8s.io/api/scheduling/v1",
        "scheduling.k8s.io",
        &["PriorityClass"],
    ),
];

const META: &str = "k8s.io/apimachinery/pkg/apis/meta/v1";

/// Packages whose types only name scalars.
const SCALARS: &[&str] = &["k8s.io/apimachinery/pkg/types"];

/// Reads the Go sources and writes the table.
pub(crate) fn run() -> Result<()> {
    let modules = [module("k8s.io/api")?, module("k8s.io/apimachinery")?];
    let mut packages = Packages::default();
    for path in KINDS
        .iter()
        .map(|(package, ..)| *package)
        .chain([META])
        .chain(SCALARS.iter().copied())
    {
        packages.read(path, &modules)?;
    }
    let table = Table::build(&packages)?;
    let text = table.render()?;
    fs::write(TABLE, text)
        .with_context(|| format!("cannot write {TABLE}; is the working directory the workspace's root?"))?;
    println!(
        "{TABLE}: {} types, {} kinds",
        table.types.len(),
        table.kinds.len()
    );
    Ok(())
}

/// Path of a Go module and the folder with its files.
type Module = (&'static str, PathBuf);

fn module(path: &'static str) -> Result<Module> {
    let output = Command::new("go")
        .args(["mod", "download", "-json", &format!("{path}@{VERSION}")])
        // Outside any module, so that no go.mod applies.
        .current_dir(std::env::temp_dir())
        .output()
        .context("cannot run go, which downloads the sources of the Kubernetes API")?;
    ensure!(
        output.status.success(),
        "go mod download {path}@{VERSION} failed: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    let answer: serde_json::Value =
        serde_json::from_slice(&output.stdout).context("cannot read the answer of go mod download")?;
    let dir = answer["Dir"]
        .as_str()
        .context("go mod download names no folder")?;
    Ok((path, PathBuf::from(dir)))
}

/// A Go struct.
#[derive(Debug, Default)]
struct Struct {
    fields: Vec<Member>,
    atomic: bool,
}

/// A field of a Go struct, as written.
#[derive(Debug)]
struct Member {
    /// `None` for an embedded struct.
    name: Option<String>,
    ty: String,
    tags: BTreeMap<String, String>,
    markers: Vec<String>,
}

/// A named type that is not a struct.
#[derive(Debug)]
struct Named {
    underlying: String,
    /// `+protobuf.nullable`: the list is a message of its own.
    message: bool,
}

#[derive(Debug, Default)]
struct Package {
    structs: BTreeMap<String, Struct>,
    named: BTreeMap<String, Named>,
    imports: BTreeMap<String, String>,
}

#[derive(Debug, Default)]
struct Packages(BTreeMap<String, Package>);

impl Packages {
    fn read(&mut self, path: &str, modules: &[Module]) -> Result<()> {
        let dir = modules
            .iter()
            .find_map(|(module, dir)| {
                path.strip_prefix(module)
                    .filter(|rest| rest.is_empty() || rest.starts_with('/'))
                    .map(|rest| dir.join(rest.trim_start_matches('/')))
            })
            .with_context(|| format!("no module holds {path}"))?;
        let mut package = Package::default();
        for entry in fs::read_dir(&dir).with_context(|| format!("cannot list {}", dir.display()))? {
            let file = entry?.path();
            if is_source(&file) {
                let text =
                    fs::read_to_string(&file).with_context(|| format!("cannot read {}", file.display()))?;
                package
                    .parse(&text)
                    .with_context(|| format!("cannot parse {}", file.display()))?;
            }
        }
        self.0.insert(path.to_owned(), package);
        Ok(())
    }
}

/// Returns whether a file is handwritten, compiled Go. Generated files (`zz_generated…`,
/// `generated.pb.go`) have no declarations that are needed.
fn is_source(file: &Path) -> bool {
    let name = file
        .file_name()
        .and_then(|name| name.to_str())
        .unwrap_or_default();
    name.ends_with(".go") && !name.ends_with("_test.go") && !name.contains("generated")
}

impl Package {
    /// Parses the declarations of a file. It relies on the layout of gofmt: a declaration starts in
    /// the first column, its fields are indented by one tab, and its closing brace is in the first
    /// column.
    fn parse(&mut self, text: &str) -> Result<()> {
        let mut comments: Vec<String> = Vec::new();
        let mut lines = text.lines();
        let mut in_imports = false;
        while let Some(line) = lines.next() {
            if in_imports || line.starts_with("import \"") {
                in_imports = in_imports && line != ")";
                self.import(line.trim_start_matches("import "));
                continue;
            }
            if line == "import (" {
                in_imports = true;
            } else if let Some(comment) = line.strip_prefix("//") {
                comments.push(comment.trim().to_owned());
            } else if let Some(declaration) = line.strip_prefix("type ") {
                self.declaration(declaration, &comments, &mut lines)?;
                comments.clear();
            } else if !line.trim().is_empty() {
                comments.clear();
            }
        }
        Ok(())
    }

    fn import(&mut self, line: &str) {
        let mut words = line.split_whitespace();
        let (alias, path) = match (words.next(), words.next()) {
            (Some(alias), Some(path)) => (alias.to_owned(), path.trim_matches('"').to_owned()),
            (Some(path), None) if path.starts_with('"') => {
                let path = path.trim_matches('"');
                (
                    path.rsplit('/').next().unwrap_or(path).to_owned(),
                    path.to_owned(),
                )
            }
            _ => return,
        };
        self.imports.insert(alias, path);
    }

    fn declaration<'a>(
        &mut self,
        declaration: &str,
        comments: &[String],
        lines: &mut impl Iterator<Item = &'a str>,
    ) -> Result<()> {
        let (name, rest) = declaration
            .split_once(' ')
            .context("a type without a right-hand side")?;
        match rest {
            "struct {" => {
                let mut found = Struct {
                    fields: Vec::new(),
                    atomic: has_marker(comments, "structType=atomic"),
                };
                let mut comments: Vec<String> = Vec::new();
                for line in lines.take_while(|line| *line != "}") {
                    let line = line.trim();
                    if let Some(comment) = line.strip_prefix("//") {
                        comments.push(comment.trim().to_owned());
                    } else if !line.is_empty() {
                        found.fields.extend(member(line, std::mem::take(&mut comments)));
                    }
                }
                self.structs.insert(name.to_owned(), found);
            }
            _ if rest.ends_with('{') || name == "(" => {
                // Interfaces and function types are not needed.
                lines
                    .take_while(|line| *line != "}" && *line != ")")
                    .for_each(drop);
            }
            _ => {
                let underlying = rest
                    .split(" //")
                    .next()
                    .unwrap_or(rest)
                    .trim_start_matches("= ")
                    .trim()
                    .to_owned();
                let message = has_marker(comments, "protobuf.nullable=true");
                self.named.insert(name.to_owned(), Named { underlying, message });
            }
        }
        Ok(())
    }
}

fn has_marker(comments: &[String], marker: &str) -> bool {
    comments
        .iter()
        .any(|comment| comment.strip_prefix('+') == Some(marker))
}

/// Parses `Name Type `tags``. A line without a JSON name is not a field of the wire format.
fn member(line: &str, comments: Vec<String>) -> Option<Member> {
    let (left, rest) = line.split_once('`')?;
    let (tags, _) = rest.split_once('`')?;
    let tags = struct_tags(tags);
    if tags.get("json").is_none_or(|json| json == "-") {
        return None;
    }
    let mut words = left.split_whitespace();
    let first = words.next()?.to_owned();
    let (name, ty) = match words.next() {
        Some(ty) => (Some(first), ty.to_owned()),
        None => (None, first),
    };
    let markers = comments
        .iter()
        .filter_map(|comment| comment.strip_prefix('+'))
        .map(str::to_owned)
        .collect();
    Some(Member {
        name,
        ty,
        tags,
        markers,
    })
}

fn struct_tags(text: &str) -> BTreeMap<String, String> {
    let mut tags = BTreeMap::new();
    let mut rest = text.trim();
    while let Some((name, after)) = rest.split_once(":\"") {
        let Some((value, after)) = after.split_once('"') else {
            break;
        };
        tags.insert(name.trim().to_owned(), value.to_owned());
        rest = after.trim();
    }
    tags
}

impl Member {
    fn json(&self) -> (&str, bool, bool) {
        let mut parts = self.tags["json"].split(',');
        let name = parts.next().unwrap_or_default();
        let options: Vec<&str> = parts.collect();
        (
            name,
            options.contains(&"omitempty"),
            options.contains(&"omitzero"),
        )
    }

    fn inline(&self) -> bool {
        self.tags["json"]
            .split(',')
            .skip(1)
            .any(|option| option == "inline")
    }

    fn number(&self) -> Result<u32> {
        match self.tags.get("protobuf") {
            None => Ok(0),
            Some(tag) => tag
                .split(',')
                .nth(1)
                .context("a protobuf tag without a number")?
                .parse()
                .context("a protobuf number"),
        }
    }

    fn values(&self, marker: &str) -> Vec<&str> {
        self.markers
            .iter()
            .filter_map(|text| text.strip_prefix(marker)?.strip_prefix('='))
            .collect()
    }

    fn optional(&self) -> bool {
        self.markers.iter().any(|marker| marker == "optional") || self.json().1
    }
}

/// A type of the table.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Ty {
    Plain(&'static str),
    Object { package: String, name: String },
    List(Box<Ty>),
    Map(Box<Ty>),
}

/// A resolved Go type: its content, its name in Go, and whether it can be nil.
struct Resolved {
    ty: Ty,
    go: String,
    nil: bool,
}

#[derive(Debug)]
struct OutField {
    json: String,
    number: u32,
    within: u32,
    ty: Ty,
    go: String,
    required: bool,
    omit: &'static str,
    list: &'static str,
    keys: Vec<String>,
    patch: &'static str,
    merge_key: Option<String>,
    atomic: bool,
}

#[derive(Debug)]
struct OutType {
    fields: BTreeMap<String, OutField>,
    atomic: bool,
}

/// Group, version and kind.
type Gvk = (String, String, String);

struct Table<'a> {
    packages: &'a Packages,
    /// By package and name.
    types: BTreeMap<(String, String), OutType>,
    kinds: BTreeMap<Gvk, (String, String)>,
}

impl<'a> Table<'a> {
    fn build(packages: &'a Packages) -> Result<Self> {
        let mut table = Table {
            packages,
            types: BTreeMap::new(),
            kinds: BTreeMap::new(),
        };
        for (package, group, kinds) in KINDS {
            let version = package.rsplit('/').next().unwrap_or_default();
            for kind in *kinds {
                table.kind(package, group, version, kind)?;
                let list = format!("{kind}List");
                if packages.0[*package].structs.contains_key(&list) {
                    table.kind(package, group, version, &list)?;
                }
            }
            // Clients send DeleteOptions in the version of the object that they delete.
            table.kind(META, group, version, "DeleteOptions")?;
        }
        table.kind(META, "meta.k8s.io", "v1", "DeleteOptions")?;
        table.kind(META, "", "v1", "Status")?;
        Ok(table)
    }

    fn kind(&mut self, package: &str, group: &str, version: &str, kind: &str) -> Result<()> {
        let key = (package.to_owned(), kind.to_owned());
        self.kinds
            .insert((group.to_owned(), version.to_owned(), kind.to_owned()), key);
        self.object(package, kind)
    }

    /// Adds a struct and all types that it uses.
    fn object(&mut self, package: &str, name: &str) -> Result<()> {
        let key = (package.to_owned(), name.to_owned());
        if self.types.contains_key(&key) {
            return Ok(());
        }
        let atomic = self.structure(package, name)?.atomic;
        // Insert the type before its fields, because types may be recursive.
        self.types.insert(
            key.clone(),
            OutType {
                fields: BTreeMap::new(),
                atomic,
            },
        );
        let mut fields = BTreeMap::new();
        self.fields(package, name, 0, &mut fields)?;
        for field in fields.values() {
            let mut ty = &field.ty;
            while let Ty::List(inner) | Ty::Map(inner) = ty {
                ty = inner;
            }
            if let Ty::Object { package, name } = ty {
                self.object(package, name)?;
            }
        }
        if let Some(entry) = self.types.get_mut(&key) {
            entry.fields = fields;
        }
        Ok(())
    }

    fn structure(&self, package: &str, name: &str) -> Result<&'a Struct> {
        self.packages
            .0
            .get(package)
            .and_then(|found| found.structs.get(name))
            .with_context(|| format!("no struct {name} in {package}"))
    }

    fn fields(
        &self,
        package: &str,
        name: &str,
        within: u32,
        out: &mut BTreeMap<String, OutField>,
    ) -> Result<()> {
        for member in &self.structure(package, name)?.fields {
            let context = || {
                format!(
                    "{package}.{name}.{}",
                    member.name.as_deref().unwrap_or(&member.ty)
                )
            };
            let number = member.number().with_context(context)?;
            if member.inline() {
                ensure!(
                    within == 0,
                    "{}: a message flattened into a flattened message",
                    context()
                );
                let (inner_package, inner) = self.locate(package, &member.ty).with_context(context)?;
                if member.tags.contains_key("protobuf") {
                    self.fields(&inner_package, &inner, number, out)?;
                } else {
                    // TypeMeta: in protobuf its fields are in the envelope.
                    let mut envelope = BTreeMap::new();
                    self.fields(&inner_package, &inner, 0, &mut envelope)?;
                    out.extend(
                        envelope
                            .into_iter()
                            .map(|(name, field)| (name, OutField { number: 0, ..field })),
                    );
                }
                continue;
            }
            let field = self
                .field(package, member, number, within)
                .with_context(context)?;
            if let Some(twice) = out.insert(field.json.clone(), field) {
                bail!("{}: the JSON name {} is used twice", context(), twice.json);
            }
        }
        Ok(())
    }

    fn field(&self, package: &str, member: &Member, number: u32, within: u32) -> Result<OutField> {
        let (json, omit_empty, omit_zero) = member.json();
        let pointer = member.ty.starts_with('*');
        let resolved = self.resolve(package, member.ty.trim_start_matches('*'))?;
        let omit = omission(pointer, omit_empty, omit_zero, &resolved);
        let strategy = member
            .tags
            .get("patchStrategy")
            .map(String::as_str)
            .unwrap_or_default();
        Ok(OutField {
            json: json.to_owned(),
            number,
            within,
            go: if resolved.go == default_go(&resolved.ty) {
                String::new()
            } else {
                resolved.go
            },
            ty: resolved.ty,
            required: !member.optional(),
            omit,
            list: match member.values("listType").first() {
                None => "None",
                Some(&"atomic") => "Atomic",
                Some(&"set") => "Set",
                Some(&"map") => "Map",
                Some(other) => bail!("list type {other}"),
            },
            keys: member
                .values("listMapKey")
                .into_iter()
                .map(str::to_owned)
                .collect(),
            patch: match strategy {
                "" => "Default",
                "merge" => "Merge",
                "replace" => "Replace",
                "retainKeys" => "RetainKeys",
                "merge,retainKeys" => "MergeRetainKeys",
                other => bail!("patch strategy {other}"),
            },
            merge_key: member.tags.get("patchMergeKey").cloned(),
            atomic: member.values("mapType").contains(&"atomic")
                || member.values("structType").contains(&"atomic"),
        })
    }

    /// Returns package and name of a type as written in `package`.
    fn locate(&self, package: &str, ty: &str) -> Result<(String, String)> {
        match ty.split_once('.') {
            None => Ok((package.to_owned(), ty.to_owned())),
            Some((alias, name)) => {
                let imports = &self.packages.0[package].imports;
                let path = imports
                    .get(alias)
                    .with_context(|| format!("{package} imports no {alias}"))?;
                Ok((path.clone(), name.to_owned()))
            }
        }
    }

    fn resolve(&self, package: &str, ty: &str) -> Result<Resolved> {
        let plain = |name, nil| {
            Ok(Resolved {
                ty: Ty::Plain(name),
                go: ty.to_owned(),
                nil,
            })
        };
        match ty {
            "string" => return plain("String", false),
            "bool" => return plain("Bool", false),
            "int32" => return plain("Int32", false),
            "int64" => return plain("Int64", false),
            "[]byte" => {
                return Ok(Resolved {
                    ty: Ty::Plain("Bytes"),
                    go: "[]uint8".to_owned(),
                    nil: true,
                });
            }
            _ => {}
        }
        if let Some(element) = ty.strip_prefix("[]") {
            let element = self.resolve(package, element.trim_start_matches('*'))?;
            return Ok(Resolved {
                go: format!("[]{}", element.go),
                ty: Ty::List(Box::new(element.ty)),
                nil: true,
            });
        }
        if let Some(rest) = ty.strip_prefix("map[") {
            let (key, value) = rest.split_once(']').context("a map without an end")?;
            let (key, value) = (self.resolve(package, key)?, self.resolve(package, value)?);
            ensure!(
                key.ty == Ty::Plain("String"),
                "a map from something else than strings"
            );
            return Ok(Resolved {
                go: format!("map[{}]{}", key.go, value.go),
                ty: Ty::Map(Box::new(value.ty)),
                nil: true,
            });
        }
        let (package, name) = self.locate(package, ty)?;
        let go = format!("{}.{name}", package.rsplit('/').next().unwrap_or_default());
        let known = |plain| {
            Ok(Resolved {
                ty: Ty::Plain(plain),
                go: go.clone(),
                nil: false,
            })
        };
        match (package.as_str(), name.as_str()) {
            (META, "Time") => return known("Time"),
            (META, "MicroTime") => return known("MicroTime"),
            (META, "FieldsV1") => return known("FieldsV1"),
            ("k8s.io/apimachinery/pkg/api/resource", "Quantity") => return known("Quantity"),
            ("k8s.io/apimachinery/pkg/util/intstr", "IntOrString") => return known("IntOrString"),
            ("k8s.io/apimachinery/pkg/runtime", "RawExtension") => return known("Raw"),
            _ => {}
        }
        let found = self
            .packages
            .0
            .get(&package)
            .with_context(|| format!("package {package} is not read"))?;
        if let Some(named) = found.named.get(&name) {
            let inner = self.resolve(&package, &named.underlying)?;
            let ty = match (named.message, inner.ty) {
                (true, Ty::List(element)) if *element == Ty::Plain("String") => Ty::Plain("StringList"),
                (true, other) => bail!("a message of {other:?}"),
                (false, ty) => ty,
            };
            return Ok(Resolved {
                ty,
                go,
                nil: inner.nil,
            });
        }
        self.structure(&package, &name)?;
        Ok(Resolved {
            ty: Ty::Object { package, name },
            go,
            nil: false,
        })
    }

    fn render(&self) -> Result<String> {
        let mut names = BTreeMap::new();
        let mut taken = BTreeSet::new();
        for (package, name) in self.types.keys() {
            let ident = static_name(package, name);
            ensure!(taken.insert(ident.clone()), "two types are called {ident}");
            names.insert((package.clone(), name.clone()), ident);
        }
        let mut out = String::new();
        writeln!(
            out,
            "//! The facts of every type. Written by `cargo xtask schema` from k8s.io/api and k8s.io/apimachinery {VERSION}; do not edit."
        )?;
        writeln!(out)?;
        writeln!(
            out,
            "use crate::types::{{Field, FieldType::*, Gvk, ListType, Omit::*, PatchStrategy, Type, kind, plain}};"
        )?;
        writeln!(out)?;
        writeln!(out, "/// The types of bodies, sorted by group, version and kind.")?;
        writeln!(out, "pub(crate) static KINDS: &[(Gvk, &Type)] = &[")?;
        for ((group, version, kind), key) in &self.kinds {
            writeln!(
                out,
                "    (kind({group:?}, {version:?}, {kind:?}), &{}),",
                names[key]
            )?;
        }
        writeln!(out, "];")?;
        for (key, ty) in &self.types {
            self.render_type(key, ty, &names, &mut out)?;
        }
        Ok(out)
    }

    fn render_type(
        &self,
        key: &(String, String),
        ty: &OutType,
        names: &BTreeMap<(String, String), String>,
        out: &mut String,
    ) -> Result<()> {
        let (package, name) = key;
        let gvks: Vec<String> = self
            .kinds
            .iter()
            .filter(|(_, target)| *target == key)
            .map(|((group, version, kind), _)| format!("kind({group:?}, {version:?}, {kind:?})"))
            .collect();
        writeln!(out)?;
        writeln!(out, "static {}: Type = Type {{", names[key])?;
        writeln!(out, "    name: {:?},", openapi_name(package, name))?;
        writeln!(
            out,
            "    go: \"{}.{name}\",",
            package.rsplit('/').next().unwrap_or_default()
        )?;
        writeln!(out, "    gvks: &[{}],", gvks.join(", "))?;
        writeln!(out, "    atomic: {},", ty.atomic)?;
        writeln!(out, "    fields: &[")?;
        for field in ty.fields.values() {
            writeln!(out, "        {},", render_field(field, names))?;
        }
        writeln!(out, "    ],")?;
        writeln!(out, "}};")?;
        Ok(())
    }
}

/// Returns when Go's encoder omits the field. It never omits a struct, even with `omitempty`. Times
/// and raw values are structs that encode themselves as `null` when unset.
fn omission(pointer: bool, omit_empty: bool, omit_zero: bool, resolved: &Resolved) -> &'static str {
    let scalar = matches!(&resolved.ty, Ty::Plain("String" | "Bool" | "Int32" | "Int64"));
    let null = resolved.nil || matches!(&resolved.ty, Ty::Plain("Time" | "MicroTime" | "Raw" | "FieldsV1"));
    match (pointer, omit_empty) {
        (true, true) => "Unset",
        (true, false) => "Null",
        (false, _) if omit_zero => "Empty",
        (false, true) if scalar || resolved.nil => "Empty",
        (false, _) if null => "Null",
        (false, _) => "Never",
    }
}

/// Returns Go's name of an unnamed type. The schema crate derives the same name.
fn default_go(ty: &Ty) -> String {
    match ty {
        Ty::Plain("String") => "string".to_owned(),
        Ty::Plain("Bool") => "bool".to_owned(),
        Ty::Plain("Int32") => "int32".to_owned(),
        Ty::Plain("Int64") => "int64".to_owned(),
        Ty::Plain("Bytes") => "[]uint8".to_owned(),
        Ty::Plain("Time") => "v1.Time".to_owned(),
        Ty::Plain("MicroTime") => "v1.MicroTime".to_owned(),
        Ty::Plain("FieldsV1") => "v1.FieldsV1".to_owned(),
        Ty::Plain("Quantity") => "resource.Quantity".to_owned(),
        Ty::Plain("IntOrString") => "intstr.IntOrString".to_owned(),
        Ty::Plain("Raw") => "runtime.RawExtension".to_owned(),
        Ty::Plain("StringList") => "v1.ExtraValue".to_owned(),
        Ty::Plain(other) => (*other).to_owned(),
        Ty::Object { package, name } => format!("{}.{name}", package.rsplit('/').next().unwrap_or_default()),
        Ty::List(inner) => format!("[]{}", default_go(inner)),
        Ty::Map(inner) => format!("map[string]{}", default_go(inner)),
    }
}

fn render_ty(ty: &Ty, names: &BTreeMap<(String, String), String>) -> String {
    match ty {
        Ty::Plain(name) => (*name).to_owned(),
        Ty::Object { package, name } => format!("Object(&{})", names[&(package.clone(), name.clone())]),
        Ty::List(inner) => format!("List(&{})", render_ty(inner, names)),
        Ty::Map(inner) => format!("Map(&{})", render_ty(inner, names)),
    }
}

fn render_field(field: &OutField, names: &BTreeMap<(String, String), String>) -> String {
    let plain = format!(
        "plain({:?}, {}, {}, {})",
        field.json,
        field.number,
        render_ty(&field.ty, names),
        field.omit
    );
    let mut more = String::new();
    let mut add = |text: String| {
        more.push_str(&text);
        more.push_str(", ");
    };
    if field.within != 0 {
        add(format!("within: {}", field.within));
    }
    if !field.go.is_empty() {
        add(format!("go: {:?}", field.go));
    }
    if field.required {
        add("required: true".to_owned());
    }
    if field.list != "None" {
        add(format!("list: ListType::{}", field.list));
    }
    if !field.keys.is_empty() {
        add(format!("keys: &{:?}", field.keys));
    }
    if field.patch != "Default" {
        add(format!("patch: PatchStrategy::{}", field.patch));
    }
    if let Some(key) = &field.merge_key {
        add(format!("merge_key: Some({key:?})"));
    }
    if field.atomic {
        add("atomic: true".to_owned());
    }
    if more.is_empty() {
        plain
    } else {
        format!("Field {{ {more}..{plain} }}")
    }
}

/// Converts `k8s.io/api/core/v1` and `Pod` to `io.k8s.api.core.v1.Pod`.
fn openapi_name(package: &str, name: &str) -> String {
    let (host, path) = package.split_once('/').unwrap_or((package, ""));
    let host: Vec<&str> = host.split('.').rev().collect();
    format!("{}.{}.{name}", host.join("."), path.replace('/', "."))
}

/// Converts `k8s.io/api/core/v1` and `PodSpec` to `CORE_V1_POD_SPEC`.
fn static_name(package: &str, name: &str) -> String {
    let mut parts = package.rsplit('/');
    let version = parts.next().unwrap_or_default();
    let group = parts.next().unwrap_or_default();
    let mut ident = format!("{}_{}_", group.to_uppercase(), version.to_uppercase());
    let letters: Vec<char> = name.chars().collect();
    for (at, letter) in letters.iter().enumerate() {
        let after_lower = at > 0 && (letters[at - 1].is_lowercase() || letters[at - 1].is_ascii_digit());
        let before_lower = at > 0 && letters.get(at + 1).is_some_and(|next| next.is_lowercase());
        if letter.is_uppercase() && (after_lower || (before_lower && letters[at - 1].is_uppercase())) {
            ident.push('_');
        }
        ident.extend(letter.to_uppercase());
    }
    ident
}

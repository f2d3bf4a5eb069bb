//! Configuration of a network: a list of plugins, from the first file of a folder.

use crate::bounded;
use std::cmp::Ordering;
use std::fs;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// Supported versions of CNI, the oldest first.
const VERSIONS: [&str; 7] = ["0.1.0", "0.2.0", "0.3.0", "0.3.1", "0.4.0", "1.0.0", "1.1.0"];
/// Version of a configuration that names none.
const OLDEST: &str = VERSIONS[0];
/// Limit of files in the folder, more than any machine has.
const FILES: usize = 1000;
/// Limit of a file in bytes. A file with every option of every plugin has about a hundredth.
const FILE_BYTES: u64 = 1 << 20;

/// Configuration of one plugin, as in the file.
pub(super) type Plugin = Map<String, Value>;

/// A network.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct List {
    pub(super) name: String,
    /// One of [`VERSIONS`].
    version: String,
    /// The plugins, in the order in which pods are added.
    pub(super) plugins: Vec<Plugin>,
}

/// Returns the network of the first file of a folder by name, as other runtimes and kubelets before
/// 1.24 choose it. The error is the reason why there is none.
pub(super) fn find(folder: &Path) -> Result<List, String> {
    let none = || format!("no network config found in {}", folder.display());
    let entries = fs::read_dir(folder).map_err(|error| match error.kind() {
        std::io::ErrorKind::NotFound => none(),
        _ => format!("failed to read config folder {}: {error}", folder.display()),
    })?;
    let mut files: Vec<PathBuf> = entries
        .flatten()
        .take(FILES)
        .map(|entry| entry.path())
        .filter(|path| {
            let ending = path.extension().and_then(|ending| ending.to_str());
            matches!(ending, Some("conf" | "conflist" | "json"))
        })
        .collect();
    files.sort();
    let first = files.first().ok_or_else(none)?;
    let failed = |why: String| format!("failed to load CNI config file {}: {why}", first.display());
    let bytes = bounded::read(first, FILE_BYTES).map_err(|error| failed(error.to_string()))?;
    let file: Map<String, Value> =
        serde_json::from_slice(&bytes).map_err(|error| failed(error.to_string()))?;
    parse(file).map_err(failed)
}

/// Parses a list, or the single plugin of an old `.conf` file.
fn parse(mut file: Map<String, Value>) -> Result<List, String> {
    let name = file
        .get("name")
        .and_then(Value::as_str)
        .unwrap_or_default()
        .to_owned();
    let version = version(&file)?;
    let plugins = match file.remove("plugins") {
        Some(plugins) => serde_json::from_value(plugins).map_err(|error| format!("plugins: {error}"))?,
        None if file.contains_key("type") => vec![file],
        None => {
            return Err(
                "missing 'plugins', and it is no plugin's own configuration, for it has no 'type'".into(),
            );
        }
    };
    check_name(&name)?;
    if plugins.is_empty() {
        return Err(format!("CNI config list {name} has no networks"));
    }
    for plugin in &plugins {
        kind(plugin)?;
    }
    Ok(List {
        name,
        version,
        plugins,
    })
}

/// Returns the newest supported version in the file.
fn version(file: &Map<String, Value>) -> Result<String, String> {
    let one = file
        .get("cniVersion")
        .and_then(Value::as_str)
        .filter(|version| !version.is_empty());
    let more = file
        .get("cniVersions")
        .and_then(Value::as_array)
        .into_iter()
        .flatten();
    let mut named: Vec<&str> = one.into_iter().chain(more.filter_map(Value::as_str)).collect();
    if named.is_empty() {
        named.push(OLDEST);
    }
    let spoken = VERSIONS.iter().rev().find(|version| named.contains(*version));
    spoken.map(|version| (*version).to_owned()).ok_or_else(|| {
        format!(
            "unsupported CNI version {}: want one of {}",
            named.join(", "),
            VERSIONS.join(", ")
        )
    })
}

/// Checks the network's name, because plugins use it in file names.
fn check_name(name: &str) -> Result<(), String> {
    let first = name.bytes().next().ok_or("missing network name")?;
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'.' | b'-');
    match first.is_ascii_alphanumeric() && name.bytes().all(fits) {
        true => Ok(()),
        false => Err(format!("invalid characters found in network name {name:?}")),
    }
}

/// Returns the name of a plugin's program.
pub(super) fn kind(plugin: &Plugin) -> Result<&str, String> {
    match plugin.get("type").and_then(Value::as_str) {
        None | Some("") => Err("a plugin has no 'type'".into()),
        Some(kind) if kind.contains('/') || kind.starts_with('.') => {
            Err(format!("invalid plugin name: {kind}"))
        }
        Some(kind) => Ok(kind),
    }
}

impl List {
    /// Returns the input of a plugin: its own configuration, the network's name and version, the
    /// values for its capabilities, and the result of the plugins before it.
    pub(super) fn plugin(
        &self,
        plugin: &Plugin,
        runtime: &Map<String, Value>,
        answer: Option<&Value>,
    ) -> Plugin {
        let mut config = plugin.clone();
        config.insert("name".into(), self.name.clone().into());
        config.insert("cniVersion".into(), self.version.clone().into());
        let asked = runtime
            .iter()
            .filter(|(capability, _)| has_capability(plugin, capability));
        let asked: Map<String, Value> = asked.map(|(key, value)| (key.clone(), value.clone())).collect();
        if !asked.is_empty() {
            config.insert("runtimeConfig".into(), asked.into());
        }
        if let Some(answer) = answer {
            config.insert("prevResult".into(), answer.clone());
        }
        config
    }

    /// Returns whether one of the plugins declares a capability.
    pub(super) fn has_capability(&self, capability: &str) -> bool {
        self.plugins
            .iter()
            .any(|plugin| has_capability(plugin, capability))
    }

    /// Returns whether the version has the operation STATUS.
    pub(super) fn has_status(&self) -> bool {
        self.is_since("1.1.0")
    }

    /// Returns whether the version requires the last result when a pod is deleted.
    pub(super) fn deletes_by_answer(&self) -> bool {
        self.is_since("0.4.0")
    }

    fn is_since(&self, version: &str) -> bool {
        let place = |wanted: &str| VERSIONS.iter().position(|version| *version == wanted);
        place(&self.version).cmp(&place(version)) != Ordering::Less
    }
}

fn has_capability(plugin: &Plugin, capability: &str) -> bool {
    plugin.get("capabilities").and_then(|all| all.get(capability)) == Some(&Value::Bool(true))
}

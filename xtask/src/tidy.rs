//! Checks the rules of the project: layers, file headers, markers of unfinished work, and tests
//! that pages name.

mod shown_by;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

use crate::command::{output, root};

/// Our crates that each crate may use outside its tests, so that dependencies only point downwards.
const LAYERS: &[(&str, &[&str])] = &[
    ("schema", &[]),
    ("api", &["schema"]),
    ("plan", &["api", "schema"]),
    ("disk", &[]),
    ("store", &["disk"]),
    ("clock", &[]),
    ("tls", &[]),
    ("reflector", &["api"]),
    ("runtime", &["disk"]),
    ("apiserver", &["schema", "api", "disk", "store", "clock", "tls"]),
    ("controllers", &["api", "plan", "schema", "clock", "reflector"]),
    ("dns", &["plan"]),
    (
        "agent",
        &[
            "api",
            "disk",
            "dns",
            "plan",
            "reflector",
            "runtime",
            "schema",
            "tls",
        ],
    ),
    ("simulate", &["api", "clock"]),
    (
        "everynode",
        &[
            "schema",
            "api",
            "plan",
            "disk",
            "runtime",
            "apiserver",
            "controllers",
            "agent",
            "simulate",
        ],
    ),
    ("testkit", &["api"]),
    ("whole", &[]),
    ("xtask", &[]),
];

/// Crates with pure decisions: no runtime, no sockets, no randomness.
const PURE: &[&str] = &["schema", "api", "plan"];
const IMPURE_DEPENDENCIES: &[&str] = &[
    "tokio",
    "hyper",
    "kube",
    "reqwest",
    "nix",
    "rand",
    "getrandom",
    "libc",
];
/// Calls that read the clock or the environment. A pure crate gets these values as arguments.
const IMPURE_CALLS: &[&str] = &[
    "Timestamp::now",
    "Instant::now",
    "SystemTime::now",
    "std::env::",
    "std::fs::",
    "std::net::Tcp",
    "std::net::Udp",
];

/// Markers of unfinished work. They are split here, so that this file does not match.
const UNFINISHED: &[&str] = &[
    concat!("todo", "!("),
    concat!("unimplemented", "!("),
    concat!("FIX", "ME"),
    concat!("#[ig", "nore"),
];

/// Checks the workspace and lists all violations.
pub(crate) fn run() -> Result<()> {
    let mut breaches = Vec::new();
    layers(&mut breaches)?;
    let mut texts = Vec::new();
    for path in sources()? {
        let text = fs::read_to_string(&path).with_context(|| format!("read {}", path.display()))?;
        let name = path.strip_prefix(root()).unwrap_or(&path).display().to_string();
        source(&name, &text, &mut breaches);
        texts.push(text);
    }
    shown_by::check(&texts, &mut breaches)?;
    if breaches.is_empty() {
        return Ok(());
    }
    for breach in &breaches {
        eprintln!("tidy: {breach}");
    }
    bail!("{} breaches of the house's rules", breaches.len())
}

/// Returns the Rust files that git tracks.
fn sources() -> Result<Vec<PathBuf>> {
    let listed = output("git", &["ls-files", "*.rs"])?;
    Ok(listed
        .lines()
        .map(|line| root().join(line))
        .filter(|path| path.exists())
        .collect())
}

fn source(name: &str, text: &str, breaches: &mut Vec<String>) {
    let generated = text.starts_with("// @generated");
    let entry = Path::new(name).file_name().is_some_and(|file| file == "build.rs");
    // A module's test file needs no module doc.
    let beside = name.contains("/src/") && (name.ends_with("/tests.rs") || name.contains("/tests/"));
    if !text.starts_with("//!") && !generated && !entry && !beside {
        breaches.push(format!(
            "{name}: begins without `//!`, a line that says what the file is for"
        ));
    }
    for word in UNFINISHED {
        if text.contains(word) {
            breaches.push(format!("{name}: contains `{word}`: finish it"));
        }
    }
    let in_tests = name.contains("/tests/") || name.contains("tests.rs") || name.contains("/benches/");
    let pure = PURE
        .iter()
        .any(|pure| name.starts_with(&format!("crates/{pure}/src/")));
    if pure && !in_tests {
        let production = text.split("#[cfg(test)]").next().unwrap_or_default();
        for call in IMPURE_CALLS {
            if production.contains(call) {
                breaches.push(format!(
                    "{name}: a pure crate calls `{call}`: take it as a parameter"
                ));
            }
        }
    }
    let may_unsafe = name.starts_with("crates/runtime/");
    if !may_unsafe && text.lines().any(|line| line.trim_start().starts_with("unsafe ")) {
        breaches.push(format!("{name}: `unsafe` outside the runtime crate"));
    }
}

fn layers(breaches: &mut Vec<String>) -> Result<()> {
    let allowed: BTreeMap<&str, &[&str]> = LAYERS.iter().copied().collect();
    for (name, folder) in members()? {
        let manifest = fs::read_to_string(folder.join("Cargo.toml"))
            .with_context(|| format!("read the manifest of {name}"))?;
        let Some(may_use) = allowed.get(name.as_str()) else {
            breaches.push(format!(
                "{name}: has no place among the layers (xtask/src/tidy.rs)"
            ));
            continue;
        };
        for dependency in dependencies(&manifest) {
            let ours = allowed.contains_key(dependency);
            if ours && !may_use.contains(&dependency) {
                breaches.push(format!("{name}: may not use {dependency}: arrows go down only"));
            }
            if PURE.contains(&name.as_str()) && IMPURE_DEPENDENCIES.contains(&dependency) {
                breaches.push(format!("{name}: a pure crate uses {dependency}"));
            }
        }
        if !manifest.contains("[lints]\nworkspace = true") {
            breaches.push(format!("{name}: does not take the workspace's lints"));
        }
    }
    Ok(())
}

fn members() -> Result<Vec<(String, PathBuf)>> {
    let crates = root().join("crates");
    let mut members = vec![("xtask".to_owned(), root().join("xtask"))];
    for entry in fs::read_dir(&crates).with_context(|| format!("read {}", crates.display()))? {
        let entry = entry.with_context(|| format!("read {}", crates.display()))?;
        members.push((entry.file_name().to_string_lossy().into_owned(), entry.path()));
    }
    Ok(members)
}

/// Returns the names under `[dependencies]`.
fn dependencies(manifest: &str) -> impl Iterator<Item = &str> {
    let section = manifest
        .split("\n[")
        .find(|section| section.starts_with("dependencies]"));
    section.unwrap_or_default().lines().skip(1).filter_map(|line| {
        let name = line.split(['=', '.']).next()?.trim();
        (!name.is_empty() && !name.starts_with('#')).then_some(name)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_house_is_tidy() {
        run().unwrap();
    }

    #[test]
    fn a_breach_is_found() {
        let mut breaches = Vec::new();
        source(
            "crates/plan/src/x.rs",
            "fn f() { let t = Timestamp::now(); }",
            &mut breaches,
        );
        assert_eq!(breaches.len(), 2, "{breaches:?}");
        assert_eq!(
            dependencies(
                "[package]\n\n[dependencies]\na.workspace = true\nb = \"1\"\n\n[dev-dependencies]\nc = \"1\""
            )
            .collect::<Vec<_>>(),
            ["a", "b"]
        );
    }
}

//! The full machine: Debian 12 with systemd, in parts.

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use super::disk::RawDisk;
use super::kernel::Kernel;
use super::load::{Load, Run};
use super::machine::{Disk, Machine};
use super::report::Report;
use super::{debian, folder, initramfs};
use crate::ci::test_program::{Outcome, TestProgram};
use crate::command::{self, root};

const MEMORY_MIB: u32 = 3072;
/// Timeout. A machine that runs all parts needs half of it on two idle processors.
const LIMIT: Duration = Duration::from_secs(3 * 60 * 60);
/// Timeout of a test program, in seconds.
const PROGRAM_LIMIT: u32 = 45 * 60;

const PARTS_SCRIPT: &str = include_str!("guest/parts.sh");
const CHECKS: &str = include_str!("guest/checks.sh");
const IMAGE: &str = include_str!("guest/image.sh");
const PAGE: &str = include_str!("guest/page.yaml");
const KEPT: &str = include_str!("guest/kept.yaml");

/// A part of the tests that can run by itself.
struct Part {
    name: &'static str,
    work: Work,
}

enum Work {
    Tests(&'static [Run]),
    Script(&'static str),
}

const PARTS: &[Part] = &[
    Part {
        name: "demo",
        work: Work::Script(include_str!("guest/demo.sh")),
    },
    Part {
        name: "units",
        work: Work::Script(include_str!("guest/units.sh")),
    },
    Part {
        name: "containers",
        work: Work::Tests(&[
            test("runtime isolation", &[], &["runtime-test-shim"]),
            test("runtime containers", &[], &["runtime-test-shim"]),
            test("runtime pods", &[], &["runtime-test-shim"]),
            test("runtime images", &[], &["runtime-test-shim"]),
            test("runtime volumes", &[], &["runtime-test-shim"]),
        ]),
    },
    Part {
        name: "network",
        work: Work::Tests(&[test("runtime", &["network::"], &[])]),
    },
    Part {
        name: "agent",
        work: Work::Tests(&[
            test("agent pods", &[], &["agent-test-shim"]),
            test("agent changes", &[], &["agent-test-shim"]),
            test("agent volumes", &[], &["agent-test-shim"]),
            test("agent hanging", &[], &["agent-test-shim"]),
        ]),
    },
    Part {
        name: "joining",
        work: Work::Tests(&[
            test("everynode it", &["joining::"], &["everynode"]),
            test("everynode machines", &["join::"], &["everynode"]),
        ]),
    },
];

const fn test(
    program: &'static str,
    arguments: &'static [&'static str],
    binaries: &'static [&'static str],
) -> Run {
    Run {
        program,
        arguments,
        binaries,
        limit: PROGRAM_LIMIT,
    }
}

/// Returns the names of all parts.
pub(super) fn parts() -> Vec<&'static str> {
    PARTS.iter().map(|part| part.name).collect()
}

/// Runs the named parts, or all.
pub(super) fn run(names: &[&str], built: &[TestProgram]) -> Result<Outcome> {
    let started = Instant::now();
    if let Some(unknown) = names.iter().find(|name| !parts().contains(name)) {
        bail!("no part is called {unknown:?}: there are {}", parts().join(", "));
    }
    command::run("cargo", &["build", "--release", "--package", "everynode"])?;
    let folder = folder("debian")?;
    let kernel = Kernel::newest()?;
    let debian = debian::disk(&folder, &kernel)?;
    let initramfs = folder.join("initramfs");
    initramfs::write(&kernel, Path::new("/bin/busybox"), &initramfs)?;
    let load = Load::new(folder.join("load"))?;
    let mut report = Report::default();
    let chosen = PARTS
        .iter()
        .filter(|part| names.is_empty() || names.contains(&part.name));
    let mut list = String::new();
    for part in chosen {
        list += &format!("{}\n", part.name);
        match part.work {
            Work::Tests(runs) => {
                report.join(load.add_tests(&format!("{}.plan", part.name), runs, built)?);
            }
            Work::Script(text) => report.join(load.add_script(part.name, text)?),
        }
    }
    for (file, text) in [
        ("parts", list.as_str()),
        ("parts.sh", PARTS_SCRIPT),
        ("checks.sh", CHECKS),
        ("image.sh", IMAGE),
        ("page.yaml", PAGE),
        ("kept.yaml", KEPT),
    ] {
        load.write_file(file, text)?;
    }
    add_pages(&load)?;
    load.add_release("everynode")?;
    let load_disk = folder.join("load.img");
    load.write(&load_disk)?;
    let raw = RawDisk::new(folder.join("raw.img"))?;
    let machine = Machine {
        kernel: &kernel,
        initramfs: &initramfs,
        parameters: "",
        memory_mib: MEMORY_MIB,
        disks: &[
            Disk {
                file: &debian,
                keep: false,
            },
            Disk {
                file: &load_disk,
                keep: false,
            },
            Disk {
                file: raw.file(),
                keep: true,
            },
        ],
        console: folder.join("console.log"),
        limit: LIMIT,
    };
    super::run_machine(&machine, report, &raw, started)
}

/// Adds the units and command lines from the documentation's pages.
fn add_pages(load: &Load) -> Result<()> {
    let read = |page: &str| {
        let file = root().join(page);
        fs::read_to_string(&file).with_context(|| format!("read {}", file.display()))
    };
    let (readme, join) = (read("README.md")?, read("docs/join.md")?);
    for of in ["agent", "server"] {
        let unit = indented_block(&join, &format!("Description=Everynode {of}"))?;
        load.write_file(&format!("everynode-{of}.service"), &unit)?;
    }
    load.write_file(
        "upgrade.commands",
        &indented_block(&join, "systemctl restart everynode-agent")?,
    )?;
    load.write_file("demo.commands", &demo_commands(&readme)?)?;
    // The tests of joining read this page themselves.
    load.copy(&root().join("docs/join.md"))
}

/// Returns the indented block with this line in a page.
fn indented_block(page: &str, with: &str) -> Result<String> {
    let mut block: Vec<&str> = Vec::new();
    for line in page.lines().chain(["end"]) {
        if let Some(line) = line.strip_prefix("    ") {
            block.push(line);
        } else if line.is_empty() && !block.is_empty() {
            block.push("");
        } else if block.contains(&with) {
            return Ok(block.join("\n").trim_end().to_owned() + "\n");
        } else {
            block.clear();
        }
    }
    bail!("the page has no block with the line {with:?}")
}

/// Returns the command lines of the README for a running demo.
fn demo_commands(readme: &str) -> Result<String> {
    let (_, after) = readme
        .split_once("\nalias everynode=")
        .context("find the alias in the README")?;
    let (block, _) = after
        .split_once("```")
        .context("find the end of the README's block")?;
    let lines: Vec<&str> = block.lines().skip(1).collect();
    Ok(lines.join("\n") + "\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_block_of_a_page_is_found_by_a_line_of_it() {
        let page = "text\n\n    one\n\n    two\n\nmore\n\n    three\n";
        assert_eq!(indented_block(page, "two").unwrap(), "one\n\ntwo\n");
        assert_eq!(indented_block(page, "three").unwrap(), "three\n");
        indented_block(page, "more").unwrap_err();
    }

    #[test]
    fn the_readme_has_lines_for_the_demo() {
        let readme = fs::read_to_string(root().join("README.md")).unwrap();
        let commands = demo_commands(&readme).unwrap();
        assert!(commands.starts_with("everynode get pods"), "{commands}");
        assert!(commands.ends_with("/\n"), "{commands}");
    }
}

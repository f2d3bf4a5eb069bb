//! `cargo xtask vm`: tests in a virtual machine with Debian 12, its kernel and cgroup v2, as users
//! have it.

mod debian;
mod disk;
mod initramfs;
mod kernel;
mod load;
mod machine;
mod report;
mod tree;
mod whole;

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use self::disk::RawDisk;
use self::kernel::Kernel;
use self::load::{Load, Run};
use self::machine::{Disk, Machine};
use self::report::Report;
use self::tree::Tree;
use crate::ci::counts::Counts;
use crate::ci::test_program::{self, Outcome, TestProgram};
use crate::command::root;
use crate::packages;

/// Init of the quick machine.
const QUICK_INIT: &str = include_str!("vm/guest/quick.sh");
/// Programs of the quick machine besides those of busybox.
const QUICK_PROGRAMS: &[&str] = &["busybox", "kmod", "nft", "ip", "findmnt"];
/// Memory of the quick machine, in MiB: enough for the runtime's tests.
const QUICK_MEMORY_MIB: u32 = 2048;
/// Timeout of the quick machine: longer than it needs beside other load.
const QUICK_LIMIT: Duration = Duration::from_secs(15 * 60);

/// Tests of the quick machine: the isolation and limits of containers, and that pods run and leave
/// nothing behind.
const QUICK: &[Run] = &[
    Run {
        program: "runtime isolation",
        arguments: &["--test-threads=2"],
        binaries: &["runtime-test-shim"],
        limit: 400,
    },
    Run {
        program: "runtime containers",
        arguments: &[
            "--test-threads=2",
            "limits",
            "memory",
            "capabilities",
            "what_cannot_start",
        ],
        binaries: &["runtime-test-shim"],
        limit: 300,
    },
    Run {
        program: "runtime pods",
        arguments: &["--test-threads=2", "host_ports", "confined", "nothing_is_left"],
        binaries: &["runtime-test-shim"],
        limit: 300,
    },
];

/// Builds the binaries and runs the machines in `words`.
pub(crate) fn run(words: &[&str]) -> Result<()> {
    packages::for_machines()?;
    // Build the whole workspace like the other tests. A part of it would be compiled again, with
    // other features of its dependencies.
    let built = test_program::build()?;
    let outcome = match words {
        ["quick"] => run_quick(&built)?,
        names => whole::run(names, &built)?,
    };
    close(&outcome)
}

/// Prints the failures and the summary.
fn close(outcome: &Outcome) -> Result<()> {
    for failure in &outcome.failures {
        println!("failed: {failure}");
    }
    println!(
        "{} passed, {} failed",
        outcome.counts.passed, outcome.counts.failed
    );
    if !outcome.failures.is_empty() {
        bail!("{} tests failed in the machine", outcome.counts.failed);
    }
    Ok(())
}

/// Runs the isolation tests in a machine without a service manager, which boots in seconds.
pub(crate) fn run_quick(built: &[TestProgram]) -> Result<Outcome> {
    let started = Instant::now();
    if std::env::consts::ARCH != "x86_64" {
        println!("skipped: the virtual machine is made for x86_64 alone");
        return Ok(Outcome {
            counts: Counts {
                skipped: 1,
                ..Counts::default()
            },
            failures: Vec::new(),
            took: started.elapsed(),
        });
    }
    println!("\n     Running tests on cgroup v2, in a virtual machine");
    let folder = folder("quick")?;
    let kernel = Kernel::newest()?;
    let initramfs = folder.join("initramfs");
    initramfs::write(&kernel, Path::new("/bin/busybox"), &initramfs)?;
    let root_disk = folder.join("root.img");
    disk::of_tree(&quick_root(&folder, &kernel)?, 64, &root_disk)?;
    let load = Load::new(folder.join("load"))?;
    let report = load.add_tests("plan", QUICK, built)?;
    let load_disk = folder.join("load.img");
    load.write(&load_disk)?;
    let raw = RawDisk::new(folder.join("raw.img"))?;
    let machine = Machine {
        kernel: &kernel,
        initramfs: &initramfs,
        parameters: "",
        memory_mib: QUICK_MEMORY_MIB,
        disks: &[
            Disk {
                file: &root_disk,
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
        limit: QUICK_LIMIT,
    };
    run_machine(&machine, report, &raw, started)
}

/// Runs a machine and evaluates its output.
fn run_machine(machine: &Machine, mut report: Report, raw: &RawDisk, started: Instant) -> Result<Outcome> {
    let ended = machine.run(|line| {
        println!("{line}");
        report.take(line);
    });
    report.print();
    let (mut counts, mut failures) = (report.counts(), report.failures());
    for error in [ended, raw.check()].into_iter().filter_map(Result::err) {
        counts.failed += 1;
        failures.push(format!("virtual machine: {error:#}"));
    }
    Ok(Outcome {
        counts,
        failures,
        took: started.elapsed(),
    })
}

/// Creates the root of the quick machine: busybox, the programs that the runtime uses, and the
/// kernel's modules.
fn quick_root(folder: &Path, kernel: &Kernel) -> Result<Tree> {
    let tree = Tree::new(folder.join("root"))?;
    tree.make_debian_folders()?;
    tree.copy_modules(kernel)?;
    for program in QUICK_PROGRAMS {
        tree.copy_program(program)?;
    }
    tree.link("usr/sbin/modprobe", "../bin/kmod")?;
    tree.write("etc/passwd", "root:x:0:0:root:/root:/bin/sh\n")?;
    tree.write("etc/group", "root:x:0:\n")?;
    tree.write("sbin/init", QUICK_INIT)?;
    tree.link_busybox()?;
    Ok(tree)
}

/// Returns a folder for a machine's disks that is kept between runs.
fn folder(machine: &str) -> Result<PathBuf> {
    let folder = root().join("target/vm").join(machine);
    fs::create_dir_all(&folder).with_context(|| format!("create {}", folder.display()))?;
    folder
        .canonicalize()
        .with_context(|| format!("find {}", folder.display()))
}

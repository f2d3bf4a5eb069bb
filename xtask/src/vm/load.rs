//! The second disk: what a machine runs, and the files that this takes.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use super::disk;
use super::report::{Expected, Report};
use super::tree::Tree;
use crate::ci::test_program::TestProgram;
use crate::command::{built, root};

const TESTS: &str = include_str!("guest/tests.sh");
/// The binary that users build: the machine runs its release build everywhere, for under emulation a debug build answers
/// later than pods and tests wait.
const RELEASED: &str = "everynode";
/// Room for what is written to the disk, in MiB.
const FREE: u64 = 64;

/// A test program as a machine runs it.
pub(super) struct Run {
    /// Its name in the list of test programs.
    pub(super) program: &'static str,
    /// Words for its harness: which tests, and which not.
    pub(super) arguments: &'static [&'static str],
    /// The binaries that its tests start.
    pub(super) binaries: &'static [&'static str],
    /// Seconds after which it is ended.
    pub(super) limit: u32,
}

/// The contents of the disk, and what is expected of it.
pub(super) struct Load {
    tree: Tree,
}

impl Load {
    pub(super) fn new(folder: PathBuf) -> Result<Load> {
        let workspace = root().canonicalize().context("find the workspace")?;
        let tree = Tree::new(folder)?;
        tree.write("tests.sh", TESTS)?;
        tree.write("workspace", &workspace.display().to_string())?;
        Ok(Load { tree })
    }

    /// Adds a plan of test programs; gives the report that it is to fill.
    pub(super) fn add_tests(&self, plan: &str, runs: &[Run], built: &[TestProgram]) -> Result<Report> {
        let mut lines = String::new();
        let mut expected = Vec::new();
        for run in runs {
            let Some(program) = built.iter().find(|program| program.name() == run.program) else {
                // It was renamed or removed: the report says so, because nothing of it ends.
                expected.push(Expected::new(
                    run.program,
                    vec!["the program is built".to_owned()],
                ));
                continue;
            };
            let mut arguments = vec!["--show-output"];
            arguments.extend(run.arguments);
            expected.push(Expected::new(run.program, program.tests(run.arguments)));
            self.tree.copy_stripped(program.executable())?;
            for binary in run.binaries {
                self.copy_binary(binary)?;
            }
            let folder = program.folder().display().to_string();
            self.tree.make_folders(&[&folder])?;
            lines += &format!(
                "{}\t{folder}\t{}\t{} {}\n",
                run.program,
                run.limit,
                program.executable().display(),
                arguments.join(" ")
            );
        }
        self.tree.write(plan, &lines)?;
        Ok(Report::new(expected))
    }

    /// Adds a script whose checks are its tests.
    pub(super) fn add_script(&self, name: &str, script: &str) -> Result<Report> {
        self.tree.write(&format!("{name}.sh"), script)?;
        let lines = script.lines().map(str::trim_start);
        let checks = lines.filter_map(|line| line.strip_prefix("check \"")?.split('"').next());
        // A name that the script completes is judged by its closing line alone.
        let names = checks
            .filter(|name| !name.contains('$'))
            .map(str::to_owned)
            .collect();
        Ok(Report::new(vec![Expected::new(name, names)]))
    }

    /// Adds a file at the disk's top.
    pub(super) fn write_file(&self, name: &str, text: &str) -> Result<()> {
        self.tree.write(name, text)
    }

    /// Copies a file of the workspace to the same path below it.
    pub(super) fn copy(&self, file: &Path) -> Result<()> {
        let file = file
            .canonicalize()
            .with_context(|| format!("find {}", file.display()))?;
        self.tree.copy(&file.display().to_string())
    }

    /// Adds Everynode's binary as users build it.
    pub(super) fn add_release(&self, place: &str) -> Result<()> {
        self.tree.copy_as(&built("release", RELEASED), place)
    }

    /// Makes the disk.
    pub(super) fn write(&self, to: &Path) -> Result<()> {
        disk::of_tree(&self.tree, FREE, to)
    }

    /// Adds a binary where the tests look for it. Of Everynode itself it is the one that users build.
    fn copy_binary(&self, name: &str) -> Result<()> {
        let file = built("debug", name);
        // The path that the tests know; the workspace's folder has one name there.
        let file = file
            .canonicalize()
            .with_context(|| format!("find {}", file.display()))?;
        let place = file.display().to_string();
        if self.tree.at(&place).exists() {
            return Ok(());
        }
        match name {
            RELEASED => self.add_release(&place),
            _ => self.tree.copy_stripped(&file),
        }
    }
}

//! The second disk: programs that a machine runs, and their files.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use super::disk;
use super::report::{Expected, Report};
use super::tree::Tree;
use crate::ci::test_program::TestProgram;
use crate::command::{built, root};

const TESTS: &str = include_str!("guest/tests.sh");
/// Binary that runs as a release build on the machine. An emulated debug build would be too slow
/// for the timeouts of pods and tests.
const RELEASED: &str = "everynode";
/// Free space on the disk, in MiB.
const FREE: u64 = 64;

/// A test program as it runs on a machine.
pub(super) struct Run {
    /// Its name in the list of test programs.
    pub(super) program: &'static str,
    /// Arguments for its harness: which tests to run and to skip.
    pub(super) arguments: &'static [&'static str],
    /// Binaries that its tests start.
    pub(super) binaries: &'static [&'static str],
    /// Timeout in seconds.
    pub(super) limit: u32,
}

/// Content of the disk, and the expected results.
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

    /// Adds a plan of test programs. Returns the report for its results.
    pub(super) fn add_tests(&self, plan: &str, runs: &[Run], built: &[TestProgram]) -> Result<Report> {
        let mut lines = String::new();
        let mut expected = Vec::new();
        for run in runs {
            let Some(program) = built.iter().find(|program| program.name() == run.program) else {
                // The program was renamed or removed. The report shows it as not ended.
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

    /// Adds a script whose checks count as tests.
    pub(super) fn add_script(&self, name: &str, script: &str) -> Result<Report> {
        self.tree.write(&format!("{name}.sh"), script)?;
        let lines = script.lines().map(str::trim_start);
        let checks = lines.filter_map(|line| line.strip_prefix("check \"")?.split('"').next());
        // A name with a variable is only counted by the summary line.
        let names = checks
            .filter(|name| !name.contains('$'))
            .map(str::to_owned)
            .collect();
        Ok(Report::new(vec![Expected::new(name, names)]))
    }

    /// Adds a file in the root of the disk.
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

    /// Adds the release build of Everynode.
    pub(super) fn add_release(&self, place: &str) -> Result<()> {
        self.tree.copy_as(&built("release", RELEASED), place)
    }

    /// Writes the disk image.
    pub(super) fn write(&self, to: &Path) -> Result<()> {
        disk::of_tree(&self.tree, FREE, to)
    }

    /// Adds a binary where the tests look for it. Everynode itself is a release build.
    fn copy_binary(&self, name: &str) -> Result<()> {
        let file = built("debug", name);
        // The tests use this path; the workspace's folder has only one name there.
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

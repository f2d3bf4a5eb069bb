//! Disk images of a virtual machine.

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};

use super::tree::Tree;
use crate::command::output;

const MIB: u64 = 1 << 20;
/// Content of the raw disk, repeated. No container may read it.
const SECRET: &[u8] = b"secret of the machine's own disk\n";
const SECRET_SIZE: u64 = 8 * MIB;

/// Creates an ext4 file system of a tree, with `free` MiB of free space.
pub(super) fn of_tree(tree: &Tree, free: u64, to: &Path) -> Result<()> {
    let folder = tree.folder().display().to_string();
    let used = output("du", &["--summarize", "--block-size=1M", &folder])?;
    let used: u64 = used
        .split_whitespace()
        .next()
        .unwrap_or_default()
        .parse()
        .context("read the size of a tree")?;
    // A tenth is for the file system's metadata. The file is sparse.
    make_file(to, (used + used / 10 + free) * MIB)?;
    let image = to.display().to_string();
    let options = [
        "-q",
        "-F",
        "-m",
        "0",
        "-O",
        "^has_journal",
        "-E",
        "root_owner=0:0",
    ];
    output("mkfs.ext4", &[&options[..], &["-d", &folder, &image]].concat())?;
    Ok(())
}

/// A disk without a file system. Only the machine may access it.
pub(super) struct RawDisk(PathBuf);

impl RawDisk {
    pub(super) fn new(file: PathBuf) -> Result<RawDisk> {
        fs::write(&file, contents()).with_context(|| format!("write {}", file.display()))?;
        Ok(RawDisk(file))
    }

    pub(super) fn file(&self) -> &Path {
        &self.0
    }

    /// Fails if the disk was modified.
    pub(super) fn check(&self) -> Result<()> {
        let now = fs::read(&self.0).with_context(|| format!("read {}", self.0.display()))?;
        ensure!(now == contents(), "the machine's raw disk was written to");
        Ok(())
    }
}

fn contents() -> Vec<u8> {
    let size = usize::try_from(SECRET_SIZE).unwrap_or(usize::MAX);
    SECRET.iter().copied().cycle().take(size).collect()
}

fn make_file(path: &Path, size: u64) -> Result<()> {
    let file = File::create(path).with_context(|| format!("create {}", path.display()))?;
    file.set_len(size)
        .with_context(|| format!("make {} {size} bytes long", path.display()))
}

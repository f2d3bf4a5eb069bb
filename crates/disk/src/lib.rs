//! Writes that survive a kill and a power failure, and a hook at which a test cuts them off.
//!
//! A step that must be durable often consists of several writes, such as a key and its certificate,
//! or a database and its seal. Every such write passes through a [`Disk`]. In production a `Disk`
//! adds nothing. A test gives it a [`Gate`] that stops the step after any number of operations. The
//! test then checks how the next start handles the files that remain.

mod cut_off;

use std::fmt;
use std::fs::{self, File};
use std::io::{self, ErrorKind, Write};
use std::os::unix::fs::{DirBuilderExt, FileExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

pub use cut_off::CutOff;

/// Kind of access to a file or directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operation {
    /// Create a file or a directory, or empty a file.
    Create,
    /// Write bytes.
    Write,
    /// Change the length of a file.
    SetLength,
    /// Flush a file or a directory to the disk.
    Sync,
    /// Give a file another name.
    Rename,
    /// Remove a file.
    Remove,
}

/// Decision of a [`Gate`] about an operation.
#[derive(Debug)]
pub enum Verdict {
    /// The operation is performed.
    Pass,
    /// The operation fails with this error and changes nothing.
    Fail(io::Error),
    /// Half of the bytes are written, then the operation fails with this error. Operations that
    /// write no bytes change nothing.
    Tear(io::Error),
}

/// Decides about each operation before it is performed.
pub trait Gate: Send + Sync {
    /// Returns the decision about this operation on this path.
    fn pass(&self, operation: Operation, path: &Path) -> Verdict;
}

/// Access to the disk. A clone shares the gate.
#[derive(Clone, Default)]
pub struct Disk {
    gate: Option<Arc<dyn Gate>>,
}

impl fmt::Debug for Disk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Disk")
            .field("gated", &self.gate.is_some())
            .finish()
    }
}

impl Disk {
    /// Returns a disk whose operations pass through `gate`.
    pub fn gated(gate: Arc<dyn Gate>) -> Disk {
        Disk { gate: Some(gate) }
    }

    fn pass(&self, operation: Operation, path: &Path) -> io::Result<()> {
        match self.verdict(operation, path) {
            Verdict::Pass => Ok(()),
            Verdict::Fail(error) | Verdict::Tear(error) => Err(error),
        }
    }

    fn verdict(&self, operation: Operation, path: &Path) -> Verdict {
        self.gate
            .as_ref()
            .map_or(Verdict::Pass, |gate| gate.pass(operation, path))
    }

    /// Creates `path` and the missing directories above it, with mode 0700.
    pub fn create_private_dir(&self, path: &Path) -> io::Result<()> {
        self.create_dir(path, 0o700)
    }

    /// Creates `path` and the missing directories above it, all with this mode.
    pub fn create_dir(&self, path: &Path, mode: u32) -> io::Result<()> {
        if path.is_dir() {
            return Ok(());
        }
        self.pass(Operation::Create, path)?;
        fs::DirBuilder::new().recursive(true).mode(mode).create(path)
    }

    /// Replaces the content of `path` atomically. A reader, or a start after a kill or a power
    /// failure, sees either the old or the new content. The content is first written to
    /// `<path>.new`, whose mode is set before the write.
    pub fn replace(&self, path: &Path, content: &[u8], mode: u32) -> io::Result<()> {
        let mut draft = path.as_os_str().to_owned();
        draft.push(".new");
        let draft = PathBuf::from(draft);
        // A draft left by a crash may have another mode, or may be a link that another user
        // created.
        self.remove(&draft)?;
        let file = self.create(&draft, mode)?;
        self.write(&file, &draft, content)?;
        self.sync(&file, &draft)?;
        drop(file);
        self.rename(&draft, path)
    }

    /// Creates a file with exactly this mode, open for reading and writing. The file must not exist
    /// yet.
    pub fn create(&self, path: &Path, mode: u32) -> io::Result<File> {
        self.pass(Operation::Create, path)?;
        let file = fs::OpenOptions::new()
            .read(true)
            .write(true)
            .create_new(true)
            .mode(mode)
            .open(path)?;
        // The umask may have removed bits.
        file.set_permissions(fs::Permissions::from_mode(mode))?;
        Ok(file)
    }

    /// Writes at the current position of `file`, which is open at `path`.
    pub fn write(&self, mut file: &File, path: &Path, content: &[u8]) -> io::Result<()> {
        self.halved(path, content, |part| file.write_all(part))
    }

    /// Writes at an offset of `file`, which is open at `path`.
    pub fn write_at(&self, file: &File, path: &Path, offset: u64, content: &[u8]) -> io::Result<()> {
        self.halved(path, content, |part| file.write_all_at(part, offset))
    }

    fn halved(
        &self,
        path: &Path,
        content: &[u8],
        mut write: impl FnMut(&[u8]) -> io::Result<()>,
    ) -> io::Result<()> {
        match self.verdict(Operation::Write, path) {
            Verdict::Pass => write(content),
            Verdict::Fail(error) => Err(error),
            Verdict::Tear(error) => {
                write(&content[..content.len() / 2])?;
                Err(error)
            }
        }
    }

    /// Changes the length of `file`, which is open at `path`.
    pub fn set_len(&self, file: &File, path: &Path, length: u64) -> io::Result<()> {
        self.pass(Operation::SetLength, path)?;
        file.set_len(length)
    }

    /// Flushes the content of `file`, which is open at `path`.
    pub fn sync(&self, file: &File, path: &Path) -> io::Result<()> {
        self.pass(Operation::Sync, path)?;
        file.sync_data()
    }

    /// Flushes the file system that contains the directory `path`. Useful when many files were
    /// written.
    pub fn sync_file_system(&self, path: &Path) -> io::Result<()> {
        self.pass(Operation::Sync, path)?;
        Ok(rustix::fs::syncfs(File::open(path)?)?)
    }

    /// Creates a symbolic link at `path`, which must not exist yet.
    pub fn link(&self, target: &Path, path: &Path) -> io::Result<()> {
        self.pass(Operation::Create, path)?;
        std::os::unix::fs::symlink(target, path)
    }

    /// Renames a file or a directory, then flushes its new parent directory.
    pub fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.pass(Operation::Rename, to)?;
        fs::rename(from, to)?;
        self.sync_dir_of(to)
    }

    /// Removes a file. Succeeds when the file does not exist.
    pub fn remove(&self, path: &Path) -> io::Result<()> {
        if let Err(error) = fs::symlink_metadata(path)
            && error.kind() == ErrorKind::NotFound
        {
            return Ok(());
        }
        self.pass(Operation::Remove, path)?;
        fs::remove_file(path)
    }

    /// Flushes the parent directory of `path`. Names that were created, changed or removed in it
    /// are then durable.
    pub fn sync_dir_of(&self, path: &Path) -> io::Result<()> {
        let dir = path.parent().filter(|dir| !dir.as_os_str().is_empty());
        let dir = dir.unwrap_or(Path::new("."));
        self.pass(Operation::Sync, dir)?;
        File::open(dir)?.sync_all()
    }
}

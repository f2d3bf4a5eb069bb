//! A folder that becomes the file system of a virtual machine.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use super::kernel::Kernel;
use crate::command::{output, run};

/// Folders with Debian's programs.
const PROGRAM_FOLDERS: &[&str] = &["/usr/bin", "/usr/sbin", "/bin", "/sbin"];

pub(super) struct Tree(PathBuf);

impl Tree {
    /// Creates an empty folder. Removes the previous one.
    pub(super) fn new(folder: PathBuf) -> Result<Tree> {
        if folder.exists() {
            fs::remove_dir_all(&folder).with_context(|| format!("remove {}", folder.display()))?;
        }
        fs::create_dir_all(&folder).with_context(|| format!("create {}", folder.display()))?;
        Ok(Tree(folder))
    }

    pub(super) fn folder(&self) -> &Path {
        &self.0
    }

    /// Returns the path here of an absolute path on the virtual machine.
    pub(super) fn at(&self, path: &str) -> PathBuf {
        self.0.join(path.trim_start_matches('/'))
    }

    pub(super) fn make_folders(&self, paths: &[&str]) -> Result<()> {
        for path in paths {
            fs::create_dir_all(self.at(path)).with_context(|| format!("create {path}"))?;
        }
        Ok(())
    }

    pub(super) fn link(&self, path: &str, to: &str) -> Result<()> {
        symlink(to, self.at(path)).with_context(|| format!("link {path}"))
    }

    /// Writes a file; a script is executable.
    pub(super) fn write(&self, path: &str, content: &str) -> Result<()> {
        let file = self.room_for(path)?;
        fs::write(&file, content).with_context(|| format!("write {}", file.display()))?;
        let mode = if content.starts_with("#!") { 0o755 } else { 0o644 };
        fs::set_permissions(&file, fs::Permissions::from_mode(mode)).with_context(|| format!("open {path}"))
    }

    /// Copies a file to the same path.
    pub(super) fn copy(&self, path: &str) -> Result<()> {
        self.copy_as(Path::new(path), path)
    }

    /// Copies a file to another path.
    pub(super) fn copy_as(&self, from: &Path, path: &str) -> Result<()> {
        let file = self.room_for(path)?;
        fs::copy(from, &file).with_context(|| format!("copy {}", from.display()))?;
        Ok(())
    }

    /// Copies a program that was built here to the same path, without its symbols, which are the
    /// larger part.
    pub(super) fn copy_stripped(&self, path: &Path) -> Result<()> {
        let from = path.display().to_string();
        let to = self.room_for(&from)?.display().to_string();
        run("strip", &["-o", &to, &from])
    }

    /// Copies a program of this machine with its libraries.
    pub(super) fn copy_program(&self, name: &str) -> Result<()> {
        let found = PROGRAM_FOLDERS.iter().map(|folder| format!("{folder}/{name}"));
        let Some(program) = found.into_iter().find(|path| Path::new(path).exists()) else {
            bail!("{name} is not installed");
        };
        self.copy(&program)?;
        // The lines are `name => path (address)` and, for the loader, `path (address)`. For a
        // static program `ldd` fails.
        let linked = Command::new("ldd").arg(&program).output().context("start ldd")?;
        let linked = String::from_utf8_lossy(&linked.stdout).into_owned();
        for library in linked.split_whitespace().filter(|word| word.starts_with('/')) {
            if !self.at(library).exists() {
                self.copy(library)?;
            }
        }
        Ok(())
    }

    /// Links the names of busybox's programs to it, unless another program has the name.
    pub(super) fn link_busybox(&self) -> Result<()> {
        for path in output("/bin/busybox", &["--list-full"])?.lines() {
            let name = path.rsplit('/').next().unwrap_or(path);
            let taken = ["usr/bin", "usr/sbin"].iter().any(|folder| {
                let file = self.at(folder).join(name);
                file.symlink_metadata().is_ok()
            });
            if !taken {
                self.link(&format!("usr/bin/{name}"), "busybox")?;
            }
        }
        Ok(())
    }

    /// Copies a kernel's modules.
    pub(super) fn copy_modules(&self, kernel: &Kernel) -> Result<()> {
        let to = self.room_for(&format!("/lib/modules/{}", kernel.release))?;
        let (from, to) = (kernel.modules.display().to_string(), to.display().to_string());
        run("cp", &["-r", &from, &to])
    }

    /// Creates Debian's top folders: `/bin` and others are links into `/usr`.
    pub(super) fn make_debian_folders(&self) -> Result<()> {
        self.make_folders(&[
            "usr/bin",
            "usr/sbin",
            "usr/lib",
            "usr/lib64",
            "etc",
            "dev",
            "proc",
            "sys",
            "tmp",
            "run",
            "root",
            "load",
            "var/lib",
            "var/log",
            "var/tmp",
            "home",
            "mnt",
            "srv",
        ])?;
        for name in ["bin", "sbin", "lib", "lib64"] {
            self.link(name, &format!("usr/{name}"))?;
        }
        Ok(())
    }

    fn room_for(&self, path: &str) -> Result<PathBuf> {
        let file = self.at(path);
        let folder = file.parent().context("a file in a folder")?;
        fs::create_dir_all(folder).with_context(|| format!("create {}", folder.display()))?;
        Ok(file)
    }
}

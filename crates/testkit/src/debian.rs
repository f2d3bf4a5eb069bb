//! Real daemons and their clients from Debian: programs that run here, and images for nodes.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::images::{add_busybox, pack};

/// Symbolic links of the merged `/usr`: short names and their targets.
const MERGED: [(&str, &str); 4] = [
    ("bin", "usr/bin"),
    ("sbin", "usr/sbin"),
    ("lib", "usr/lib"),
    ("lib64", "usr/lib64"),
];
/// Folders that a container does not need.
const LEFT_OUT: [&str; 6] = [
    "usr/share/doc",
    "usr/share/man",
    "usr/share/locale",
    "usr/share/lintian",
    "usr/lib/systemd",
    "lib/systemd",
];

/// An unpacked Debian package, with its dependencies that are not installed on the machine.
#[derive(Clone, Debug)]
pub struct Package {
    root: PathBuf,
}

impl Package {
    /// Returns the package from the folder in `EVERYNODE_DEBIAN`, which `cargo xtask ci` fills;
    /// `None` if it is not there.
    pub fn find(name: &str) -> Option<Self> {
        let folder = PathBuf::from(std::env::var_os("EVERYNODE_DEBIAN")?).join(name);
        folder.join("complete").exists().then(|| Package {
            root: folder.join("root"),
        })
    }

    /// Returns the path of a file of the package.
    pub fn file(&self, path: &str) -> PathBuf {
        self.root.join(path.trim_start_matches('/'))
    }

    /// Creates an image of the package and busybox that runs `command`. `files` are additional
    /// files, by path.
    ///
    /// # Errors
    /// When a library of a program is missing, or the archive cannot be written.
    pub fn image(
        &self,
        folder: &Path,
        name: &str,
        command: &[&str],
        files: &[(&str, &str)],
    ) -> Result<PathBuf> {
        let work = tempfile::tempdir_in(folder).context("make a folder")?;
        let root = work.path().join("root");
        skeleton(&root)?;
        // `--keep-directory-symlink`: a package may have files in `/lib` and in `/usr/lib`.
        let excluded: Vec<String> = LEFT_OUT
            .iter()
            .map(|path| format!("--exclude=./{path}"))
            .collect();
        let script = "archive=$1 root=$2; shift 2; tar -C \"$archive\" \"$@\" -cf - . | tar -C \"$root\" --keep-directory-symlink -xf -";
        let copied = Command::new("sh")
            .args(["-c", script, "sh"])
            .args([&self.root, &root])
            .args(&excluded)
            .status()
            .context("copy the package")?;
        if !copied.success() {
            bail!("copy {}: {copied}", self.root.display());
        }
        add_libraries(&root, &executables(&root)?)?;
        for (path, text) in files {
            let path = root.join(path.trim_start_matches('/'));
            let parent = path.parent().context("a file's folder")?;
            fs::create_dir_all(parent).with_context(|| format!("create {}", parent.display()))?;
            fs::write(&path, text).with_context(|| format!("write {}", path.display()))?;
        }
        pack(folder, name, &root, command)
    }
}

/// Creates an image of busybox and programs of this machine, with their libraries, in `/usr/bin`.
/// Programs that use DNS must come from here, because busybox is static and cannot resolve names.
///
/// # Errors
/// When a program is missing or the archive cannot be written.
pub fn programs(folder: &Path, name: &str, programs: &[&Path], command: &[&str]) -> Result<PathBuf> {
    let work = tempfile::tempdir_in(folder).context("make a folder")?;
    let root = work.path().join("root");
    skeleton(&root)?;
    let mut inside = Vec::new();
    for program in programs {
        let target = root
            .join("usr/bin")
            .join(program.file_name().context("a program's name")?);
        // busybox may have a program of that name.
        if target.is_symlink() {
            fs::remove_file(&target).with_context(|| format!("remove {}", target.display()))?;
        }
        fs::copy(program, &target).with_context(|| format!("copy {}", program.display()))?;
        inside.push(target);
    }
    add_libraries(&root, &inside)?;
    pack(folder, name, &root, command)
}

/// Creates a root file system with busybox and the usual folders.
fn skeleton(root: &Path) -> Result<()> {
    for (short, real) in MERGED {
        fs::create_dir_all(root.join(real)).context("make the root file system")?;
        symlink(real, root.join(short)).context("make the root file system")?;
    }
    for folder in ["tmp", "run", "var/log", "var/lib", "var/spool"] {
        fs::create_dir_all(root.join(folder)).context("make the root file system")?;
    }
    symlink("/run", root.join("var/run")).context("make the root file system")?;
    add_busybox(root)
}

/// Returns the files that the dynamic linker may process: programs and libraries.
fn executables(root: &Path) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    let mut folders = vec![root.join("usr")];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).with_context(|| format!("read {}", folder.display()))? {
            let entry = entry.with_context(|| format!("read {}", folder.display()))?;
            let kind = entry.file_type().context("look at a file")?;
            let path = entry.path();
            if kind.is_dir() {
                folders.push(path);
            } else if kind.is_file() && is_elf(&path)? {
                found.push(path);
            }
        }
    }
    Ok(found)
}

fn is_elf(path: &Path) -> Result<bool> {
    use std::io::Read;
    let mut magic = [0; 4];
    let mut file = fs::File::open(path).with_context(|| format!("open {}", path.display()))?;
    Ok(file.read_exact(&mut magic).is_ok() && magic == *b"\x7fELF")
}

/// Adds the libraries that programs and libraries in `root` need, from this machine.
fn add_libraries(root: &Path, programs: &[PathBuf]) -> Result<()> {
    let own = format!("usr/lib/{}-linux-gnu", std::env::consts::ARCH);
    let listed = Command::new("ldd")
        .args(programs)
        .env("LD_LIBRARY_PATH", root.join(&own))
        .output()
        .context("start ldd")?;
    let text = String::from_utf8_lossy(&listed.stdout);
    let needed: BTreeSet<&str> = text
        .split_whitespace()
        .filter(|word| word.starts_with('/') && !word.ends_with(':'))
        .collect();
    for library in needed
        .iter()
        .filter(|library| !Path::new(library).starts_with(root))
    {
        let target = root.join(library.trim_start_matches('/'));
        if target.exists() {
            continue;
        }
        if let Some(parent) = target.parent() {
            fs::create_dir_all(parent).with_context(|| format!("create {}", parent.display()))?;
        }
        fs::copy(library, &target).with_context(|| format!("copy {library}"))?;
    }
    Ok(())
}

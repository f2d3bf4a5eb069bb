//! Paths inside folders to which a pod or an image writes.
//!
//! Checking a name first does not help: the writer can replace the name with a symbolic link before
//! it is used. Here the kernel resolves each path below an open folder in one step (`openat2`), and
//! all further operations use the descriptor.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::{self, Read as _, Seek as _, SeekFrom};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::{DirBuilderExt as _, PermissionsExt as _};

use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag, OpenHow, ResolveFlag, openat, openat2, readlinkat, renameat};
use nix::sys::stat::{FileStat, Mode, SFlag, fchmod, fstat, fstatat, mkdirat};
use nix::unistd::{UnlinkatFlags, unlinkat};

use crate::FileKind;

/// Number of attempts to resolve a path while another process renames parts of it. The kernel
/// requires another attempt only if the path contains `..`.
const ATTEMPTS: usize = 64;

/// Limit of symbolic links to missing files that are followed while folders are created. The same
/// as the kernel's limit.
const LINKS: usize = 40;

/// Depth to which [`usage`] descends. Each level holds an open descriptor.
const USAGE_DEPTH: usize = 128;

/// Bytes of a block in `st_blocks`.
const BLOCK: u64 = 512;

/// A folder below which paths are resolved.
#[derive(Debug)]
pub struct Root {
    folder: OwnedFd,
    resolve: ResolveFlag,
}

impl Root {
    /// Opens the root of a volume. Symbolic links are followed inside it; a link that leaves it or
    /// is absolute is an error. `path` itself is resolved like any path of the machine.
    pub fn volume(path: &Path) -> io::Result<Root> {
        Ok(Root::of_volume(open_path(path)?))
    }

    /// Uses an open folder as the root of a volume.
    pub fn of_volume(folder: OwnedFd) -> Root {
        Root {
            folder,
            resolve: ResolveFlag::RESOLVE_BENEATH | ResolveFlag::RESOLVE_NO_MAGICLINKS,
        }
    }

    /// Opens the root of a container or of an image's layer. Absolute links start there, and `..`
    /// cannot leave it.
    pub fn container(path: &Path) -> io::Result<Root> {
        Ok(Root::of_container(open_path(path)?))
    }

    /// Uses an open folder as the root of a container.
    pub fn of_container(folder: OwnedFd) -> Root {
        Root {
            folder,
            resolve: ResolveFlag::RESOLVE_IN_ROOT | ResolveFlag::RESOLVE_NO_MAGICLINKS,
        }
    }

    /// Returns the folder itself.
    pub fn folder(&self) -> BorrowedFd<'_> {
        self.folder.as_fd()
    }

    /// Opens a path for reference only (`O_PATH`): reads nothing and opens no device.
    pub fn open(&self, path: &Path) -> io::Result<OwnedFd> {
        self.resolve(path, OFlag::O_PATH)
    }

    /// Opens a folder for reference only.
    pub fn open_folder(&self, path: &Path) -> io::Result<OwnedFd> {
        self.resolve(path, OFlag::O_PATH | OFlag::O_DIRECTORY)
    }

    fn resolve(&self, path: &Path, flags: OFlag) -> io::Result<OwnedFd> {
        let path = match path.as_os_str().is_empty() {
            true => Path::new("."),
            false => path,
        };
        let how = OpenHow::new()
            .flags(flags | OFlag::O_CLOEXEC)
            .resolve(self.resolve);
        for _ in 0..ATTEMPTS {
            match openat2(&self.folder, path, how) {
                Err(Errno::EAGAIN) => {}
                Err(Errno::EXDEV) => return Err(io::Error::other("a link leads out of the folder")),
                other => return Ok(other?),
            }
        }
        Err(io::Error::other("a part of the path is renamed all the time"))
    }

    /// Opens a folder. Creates missing folders of the path with exactly this mode.
    pub fn make_folders(&self, path: &Path, mode: u32) -> io::Result<OwnedFd> {
        let mut left = u64::MAX;
        self.make_folders_within(path, mode, &mut left)
    }

    /// Like [`Root::make_folders`], but creates at most `left` folders and subtracts them from it,
    /// because symbolic links to missing folders can require many more folders than the path has
    /// parts. The error is [`io::ErrorKind::QuotaExceeded`].
    pub fn make_folders_within(&self, path: &Path, mode: u32, left: &mut u64) -> io::Result<OwnedFd> {
        let mut links = LINKS;
        self.make_missing(path.to_owned(), mode, &mut links, left)
    }

    /// Recurses only for symbolic links: a path may have 2,048 parts, and a thread's stack is
    /// limited.
    fn make_missing(
        &self,
        mut at: PathBuf,
        mode: u32,
        links: &mut usize,
        left: &mut u64,
    ) -> io::Result<OwnedFd> {
        let mut missing = Vec::new();
        let mut folder = loop {
            match self.open_folder(&at) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => {
                    let (Some(_), Some(name)) = (at.parent(), at.file_name()) else {
                        return Err(error);
                    };
                    missing.push(name.to_owned());
                    at.pop();
                }
                found => break found?,
            }
        };
        while let Some(name) = missing.pop() {
            *left = left.checked_sub(1).ok_or(io::ErrorKind::QuotaExceeded)?;
            let made = mkdirat(&folder, name.as_os_str(), Mode::empty());
            if made.is_err() {
                *left += 1;
            }
            folder = match made {
                Ok(()) => {
                    at.push(&name);
                    let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
                    let made = openat(&folder, name.as_os_str(), flags, Mode::empty())?;
                    fchmod(&made, Mode::from_bits_truncate(mode))?;
                    made
                }
                Err(Errno::EEXIST) => {
                    let is_container = self.resolve.contains(ResolveFlag::RESOLVE_IN_ROOT);
                    match readlinkat(&folder, name.as_os_str()) {
                        // A link to a missing folder, such as an image's /var/run to /run.
                        Ok(target) if is_container => {
                            *links = links.checked_sub(1).ok_or(Errno::ELOOP)?;
                            at.push(target);
                            self.make_missing(at.clone(), mode, links, left)?
                        }
                        _ => {
                            at.push(&name);
                            self.open_folder(&at)?
                        }
                    }
                }
                Err(error) => return Err(error.into()),
            };
        }
        Ok(folder)
    }

    /// Opens a path for reference only. If it is missing, creates an empty file with this mode, and
    /// the folders above it.
    pub fn make_file(&self, path: &Path, mode: u32) -> io::Result<OwnedFd> {
        match self.open(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            other => return other,
        }
        let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else {
            return Err(io::ErrorKind::NotFound.into());
        };
        let above = self.make_folders(parent, 0o755)?;
        let flags = OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC | OFlag::O_WRONLY;
        match openat(&above, name, flags, Mode::from_bits_truncate(mode)) {
            Ok(made) => Ok(made),
            Err(Errno::EEXIST) => self.open(path),
            Err(error) => Err(error.into()),
        }
    }

    /// Returns the first `limit` bytes of a regular file; `None` if it does not exist. A pipe or a
    /// device is an error and is not opened.
    pub fn read(&self, path: &Path, limit: u64) -> io::Result<Option<Vec<u8>>> {
        let found = match self.open(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            found => found?,
        };
        let mut bytes = Vec::new();
        regular(&found)?.take(limit).read_to_end(&mut bytes)?;
        Ok(Some(bytes))
    }

    /// Returns the last `limit` bytes of a regular file; `None` if it does not exist.
    pub fn read_end(&self, path: &Path, limit: u64) -> io::Result<Option<Vec<u8>>> {
        let found = match self.open(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            found => found?,
        };
        let mut file = regular(&found)?;
        let length = file.metadata()?.len();
        file.seek(SeekFrom::Start(length.saturating_sub(limit)))?;
        let mut bytes = Vec::new();
        // The file may grow meanwhile.
        file.take(limit).read_to_end(&mut bytes)?;
        Ok(Some(bytes))
    }
}

/// Creates a folder that only its owner may enter. Removes the permissions of others if the folder
/// exists. Images and pods may contain set-user-id programs and secrets, whose modes are meant for
/// users of containers.
pub fn make_private(path: &Path) -> io::Result<()> {
    const MODE: u32 = 0o700;
    fs::DirBuilder::new().recursive(true).mode(MODE).create(path)?;
    fs::set_permissions(path, fs::Permissions::from_mode(MODE))
}

/// Opens a path of the machine for reference only. Follows symbolic links.
pub fn open_path(path: &Path) -> io::Result<OwnedFd> {
    Ok(nix::fcntl::open(
        path,
        OFlag::O_PATH | OFlag::O_CLOEXEC,
        Mode::empty(),
    )?)
}

/// Opens the regular file that a descriptor refers to for reading.
fn regular(found: &OwnedFd) -> io::Result<File> {
    if kind(&fstat(found)?) != SFlag::S_IFREG {
        return Err(io::Error::other("it is not a regular file"));
    }
    // Without `O_NONBLOCK`, a process that holds a lease on the file could delay the open by up to
    // 45 s.
    let flags = OFlag::O_RDONLY | OFlag::O_NONBLOCK | OFlag::O_CLOEXEC;
    let file = nix::fcntl::open(&magic_path(found, OsStr::new("")), flags, Mode::empty())?;
    Ok(file.into())
}

/// Returns the kind of file in a status.
pub(crate) fn kind(status: &FileStat) -> SFlag {
    SFlag::from_bits_truncate(status.st_mode & SFlag::S_IFMT.bits())
}

impl FileKind {
    pub(crate) fn fits(self, kind: SFlag) -> bool {
        kind == match self {
            FileKind::Folder => SFlag::S_IFDIR,
            FileKind::File => SFlag::S_IFREG,
            FileKind::Socket => SFlag::S_IFSOCK,
            FileKind::CharDevice => SFlag::S_IFCHR,
            FileKind::BlockDevice => SFlag::S_IFBLK,
        }
    }

    /// Returns whether the file at a path is of this kind. Follows symbolic links.
    pub fn is(self, path: &Path) -> bool {
        let found = open_path(path).and_then(|found| Ok(fstat(&found)?));
        found.is_ok_and(|status| self.fits(kind(&status)))
    }
}

/// Returns a path to `name` in an open folder. No part before the name can be replaced or followed.
/// An empty name means the descriptor itself.
pub(crate) fn magic_path(folder: &impl std::os::fd::AsRawFd, name: &OsStr) -> PathBuf {
    let own = format!("/proc/self/fd/{}", folder.as_raw_fd());
    match name.is_empty() {
        true => own.into(),
        false => Path::new(&own).join(name),
    }
}

/// Opens a folder in a folder without following a link. Both must be on the same mount.
fn descend(folder: &impl AsFd, name: &OsStr) -> Result<OwnedFd, Errno> {
    let how = OpenHow::new()
        .flags(
            OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC | OFlag::O_NONBLOCK,
        )
        .resolve(
            ResolveFlag::RESOLVE_BENEATH | ResolveFlag::RESOLVE_NO_SYMLINKS | ResolveFlag::RESOLVE_NO_XDEV,
        );
    openat2(folder, name, how)
}

fn entries(folder: &OwnedFd) -> io::Result<fs::ReadDir> {
    fs::read_dir(magic_path(folder, OsStr::new("")))
}

/// Removes a file, or a folder with its content. Succeeds if it does not exist. Symbolic links are
/// removed, not followed. A mount below it is an error, and its content is not touched.
///
/// The cost does not depend on the depth: nested folders are moved up before they are emptied, so a
/// tree of any depth needs three descriptors.
pub fn remove_tree(path: &Path) -> io::Result<()> {
    let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else {
        return Err(io::ErrorKind::InvalidInput.into());
    };
    let parent = match File::open(parent) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        parent => OwnedFd::from(parent?),
    };
    if unlink(&parent, name)? {
        return Ok(());
    }
    let top = match descend(&parent, name) {
        Err(Errno::ENOENT) => return Ok(()),
        top => top.map_err(|error| in_the_way(name, error))?,
    };
    let mut moved = 0u64;
    loop {
        let mut empty = true;
        for entry in entries(&top)? {
            let name = entry?.file_name();
            empty = false;
            if !unlink(&top, &name)? {
                empty_folder(&top, &name, &mut moved)?;
            }
        }
        if empty {
            break;
        }
    }
    unlinkat(&parent, name, UnlinkatFlags::RemoveDir).map_err(|error| in_the_way(name, error))
}

/// Moves the folders in a folder of `top` up to `top`, and removes the folder.
fn empty_folder(top: &OwnedFd, name: &OsStr, moved: &mut u64) -> io::Result<()> {
    let folder = match descend(top, name) {
        Err(Errno::ENOENT) => return Ok(()),
        folder => folder.map_err(|error| in_the_way(name, error))?,
    };
    for entry in entries(&folder)? {
        let inner = entry?.file_name();
        if unlink(&folder, &inner)? {
            continue;
        }
        loop {
            *moved += 1;
            match renameat(
                &folder,
                inner.as_os_str(),
                top,
                format!(".removed-{moved}").as_str(),
            ) {
                // The name exists already.
                Err(Errno::ENOTEMPTY | Errno::EEXIST | Errno::ENOTDIR) => {}
                Ok(()) | Err(Errno::ENOENT) => break,
                Err(error) => return Err(in_the_way(&inner, error)),
            }
        }
    }
    match unlinkat(top, name, UnlinkatFlags::RemoveDir) {
        // Another process still writes there. The next round removes it.
        Ok(()) | Err(Errno::ENOENT | Errno::ENOTEMPTY) => Ok(()),
        Err(error) => Err(in_the_way(name, error)),
    }
}

/// Removes anything except a folder. Returns whether nothing is left there.
fn unlink(folder: &OwnedFd, name: &OsStr) -> io::Result<bool> {
    match unlinkat(folder, name, UnlinkatFlags::NoRemoveDir) {
        Ok(()) | Err(Errno::ENOENT) => Ok(true),
        Err(Errno::EISDIR | Errno::EPERM) if is_folder(folder, name) => Ok(false),
        Err(error) => Err(in_the_way(name, error)),
    }
}

fn is_folder(folder: &OwnedFd, name: &OsStr) -> bool {
    fstatat(folder, name, AtFlags::AT_SYMLINK_NOFOLLOW).is_ok_and(|status| kind(&status) == SFlag::S_IFDIR)
}

fn in_the_way(name: &OsStr, error: Errno) -> io::Error {
    let why = match error {
        Errno::EXDEV | Errno::EBUSY => "a file system is mounted there".to_owned(),
        other => io::Error::from(other).to_string(),
    };
    io::Error::other(format!("{}: {why}", Path::new(name).display()))
}

/// Disk usage of a tree of files.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// Bytes of all blocks of its files and folders. A file with several hard links counts once for
    /// each.
    pub bytes: u64,
    /// Number of counted files and folders.
    pub entries: u64,
    /// Whether the tree has more entries or levels than were counted, so that `bytes` is too small.
    pub is_partial: bool,
}

/// Measures the tree at `path`. Does not follow symbolic links or enter mounts. Counts at most
/// `limit` entries and [`USAGE_DEPTH`] levels. A missing tree uses nothing.
pub fn usage(path: &Path, limit: u64) -> io::Result<Usage> {
    let mut used = Usage::default();
    let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else {
        return Err(io::ErrorKind::InvalidInput.into());
    };
    let parent = match File::open(parent) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(used),
        parent => OwnedFd::from(parent?),
    };
    let top = match descend(&parent, name) {
        Err(Errno::ENOENT) => return Ok(used),
        top => top?,
    };
    let mut levels = vec![(entries(&top)?, top)];
    while let Some((left, folder)) = levels.last_mut() {
        let Some(entry) = left.next() else {
            levels.pop();
            continue;
        };
        let name = entry?.file_name();
        used.entries += 1;
        if used.entries > limit {
            used.is_partial = true;
            break;
        }
        let Ok(status) = fstatat(&*folder, name.as_os_str(), AtFlags::AT_SYMLINK_NOFOLLOW) else {
            // It has just been removed.
            continue;
        };
        used.bytes += u64::try_from(status.st_blocks).unwrap_or(0) * BLOCK;
        if kind(&status) == SFlag::S_IFDIR
            && let Ok(inner) = descend(folder, &name)
        {
            if levels.len() < USAGE_DEPTH {
                levels.push((entries(&inner)?, inner));
            } else {
                used.is_partial = true;
            }
        }
    }
    Ok(used)
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsRawFd as _;
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn a_link_out_of_a_volume_is_refused_and_one_inside_followed() {
        let folder = tempfile::tempdir().unwrap();
        let volume = folder.path().join("volume");
        fs::create_dir_all(volume.join("a")).unwrap();
        symlink("/etc", volume.join("out")).unwrap();
        symlink("../..", volume.join("up")).unwrap();
        symlink("a", volume.join("in")).unwrap();
        let root = Root::volume(&volume).unwrap();
        let made = root.make_folders(Path::new("in/b/c"), 0o2775).unwrap();
        assert_eq!(fstat(&made).unwrap().st_mode & 0o7777, 0o2775);
        assert!(volume.join("a/b/c").is_dir());
        for path in ["out", "out/passwd", "../x", "/etc", "up", "out/made"] {
            assert!(root.make_folders(Path::new(path), 0o755).is_err(), "{path}");
        }
    }

    #[test]
    fn links_of_a_container_end_at_its_root() {
        let folder = tempfile::tempdir().unwrap();
        let (root, secret) = (folder.path().join("root"), folder.path().join("secret"));
        fs::create_dir(&root).unwrap();
        fs::write(&secret, "secret").unwrap();
        symlink("../../../../secret", root.join("up")).unwrap();
        symlink("/run", root.join("dangling")).unwrap();
        let container = Root::container(&root).unwrap();
        assert_eq!(container.read(Path::new("/up"), 10).unwrap(), None);
        container
            .make_folders(Path::new("/dangling/secrets"), 0o755)
            .unwrap();
        assert!(root.join("run/secrets").is_dir());
        container.make_file(Path::new("/made/file"), 0o644).unwrap();
        assert!(root.join("made/file").is_file());
    }

    #[test]
    fn links_to_missing_folders_lead_to_no_more_of_them_than_are_left() {
        let folder = tempfile::tempdir().unwrap();
        let root = Root::container(folder.path()).unwrap();
        for number in 0..2 {
            let target = format!("{}{number}", "d/".repeat(1000));
            symlink(target, folder.path().join(number.to_string())).unwrap();
        }
        let mut left = 1500;
        let path = Path::new("/0/a/b");
        root.make_folders_within(path, 0o755, &mut left).unwrap();
        assert_eq!(
            left,
            1500 - 1003,
            "1,000 folders, the last one of the link, and two below it"
        );
        let error = root
            .make_folders_within(Path::new("/1/a"), 0o755, &mut 1)
            .unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::QuotaExceeded);
        // A chain of links, each of which is followed while the previous one is resolved. The use
        // of the stack does not grow with their paths.
        for number in 0..LINKS - 1 {
            let target = format!("/chain{}/{}", number + 1, "e/".repeat(200));
            symlink(target, folder.path().join(format!("chain{number}"))).unwrap();
        }
        root.make_folders(Path::new("/chain0/f"), 0o755).unwrap();
        symlink("/loop", folder.path().join("loop")).unwrap();
        assert!(root.make_folders(Path::new("/loop/f"), 0o755).is_err());
        // The standard library would call itself for each level.
        remove_tree(folder.path()).unwrap();
    }

    #[test]
    fn a_read_is_bounded_and_opens_regular_files_alone() {
        let folder = tempfile::tempdir().unwrap();
        let root = Root::volume(folder.path()).unwrap();
        let path = folder.path().join("huge");
        File::create(&path).unwrap().set_len(1 << 40).unwrap();
        assert_eq!(
            root.read_end(Path::new("huge"), 4096).unwrap(),
            Some(vec![0; 4096])
        );
        assert_eq!(root.read(Path::new("huge"), 16).unwrap(), Some(vec![0; 16]));
        nix::unistd::mkfifo(&folder.path().join("pipe"), Mode::S_IRWXU).unwrap();
        assert!(root.read(Path::new("pipe"), 16).is_err());
        assert_eq!(root.read(Path::new("none"), 16).unwrap(), None);
    }

    #[test]
    fn a_tree_is_removed_at_any_depth_and_links_are_not_followed() {
        let folder = tempfile::tempdir().unwrap();
        let kept = folder.path().join("kept");
        fs::create_dir(&kept).unwrap();
        fs::write(kept.join("file"), "").unwrap();
        let tree = folder.path().join("tree");
        fs::create_dir_all(tree.join(".removed-1/full")).unwrap();
        symlink(&kept, tree.join("link")).unwrap();
        fs::write(tree.join(".removed-2"), "").unwrap();
        let mut deepest = OwnedFd::from(File::open(&tree).unwrap());
        // Deeper than a path can name, and than descriptors could be held open.
        for _ in 0..3000 {
            mkdirat(&deepest, "d", Mode::S_IRWXU).unwrap();
            deepest = descend(&deepest, OsStr::new("d")).unwrap();
        }
        remove_tree(&tree).unwrap();
        assert!(!tree.exists());
        assert!(kept.join("file").exists());
        remove_tree(&tree).unwrap();
        fs::write(&tree, "").unwrap();
        remove_tree(&tree).unwrap();
        assert!(!tree.exists());
    }

    #[test]
    fn usage_counts_blocks_and_stops_at_its_limit() {
        let folder = tempfile::tempdir().unwrap();
        let tree = folder.path().join("tree");
        assert_eq!(usage(&tree, 10).unwrap(), Usage::default());
        fs::create_dir_all(tree.join("a/b")).unwrap();
        fs::write(tree.join("a/b/file"), vec![1; 1 << 20]).unwrap();
        symlink("/", tree.join("root")).unwrap();
        let used = usage(&tree, 100).unwrap();
        assert!((1 << 20..2 << 20).contains(&used.bytes), "{used:?}");
        assert_eq!(used.entries, 4);
        assert!(!used.is_partial);
        let partial = usage(&tree, 2).unwrap();
        assert!(partial.bytes < 1 << 20 && partial.is_partial);
        let deep = folder.path().join("deep");
        fs::create_dir_all(deep.join("d/".repeat(USAGE_DEPTH - 1))).unwrap();
        assert!(!usage(&deep, 1000).unwrap().is_partial);
        fs::create_dir(deep.join("d/".repeat(USAGE_DEPTH))).unwrap();
        assert!(usage(&deep, 1000).unwrap().is_partial);
    }

    #[test]
    fn read_does_not_wait_for_the_holder_of_a_lease() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("file"), "text").unwrap();
        let holder = File::options()
            .write(true)
            .open(folder.path().join("file"))
            .unwrap();
        // SAFETY: the descriptor is open, and the calls take no pointers. The kernel sends SIGIO
        // when another process opens the file, which ends a process.
        let leased = unsafe {
            libc::signal(libc::SIGIO, libc::SIG_IGN);
            libc::fcntl(holder.as_raw_fd(), libc::F_SETLEASE, libc::F_WRLCK)
        };
        assert_eq!(leased, 0);
        let root = Root::volume(folder.path()).unwrap();
        let refused = root.read(Path::new("file"), 100).unwrap_err();
        assert_eq!(refused.kind(), io::ErrorKind::WouldBlock);
        drop(holder);
        assert_eq!(root.read(Path::new("file"), 100).unwrap().unwrap(), b"text");
    }
}

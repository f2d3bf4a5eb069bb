//! Paths of container logs, as log collectors expect them:
//! `/var/log/pods/<namespace>_<pod>_<uid>/<container>/<n>.log`, with a link to each in
//! `/var/log/containers`.
//!
//! Collectors are pods that mount `/var/log`, and some may write there. So only the parent folder
//! of both (`/var/log`) is opened as a path of the machine. Everything below is opened one name at
//! a time by descriptor, without following links. Several agents may share these folders: all names
//! contain the pod's UID.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Component, Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag, openat, readlinkat};
use nix::sys::stat::{Mode, SFlag, fchmod, fstatat, mkdirat};
use nix::unistd::{UnlinkatFlags, symlinkat, unlinkat};
use serde::{Deserialize, Serialize};

use crate::error::Context as _;
use crate::{Error, Result, beneath, layout};

/// Limit of a log file in bytes, the default of Kubernetes' `containerLogMaxSize`.
pub const LOG_SIZE_LIMIT: u64 = 10 << 20;

/// Number of files of a log, the default of Kubernetes' `containerLogMaxFiles`: the current one and
/// `.1` (newest) to `.4`.
pub const LOG_FILES: u32 = 5;

/// Limit of a file name in bytes.
const NAME_LIMIT: usize = 255;

/// Folder of the links, next to that of the pods.
const LINKS: &str = "containers";

/// Mode of the folders. Collectors may run without root, as with the kubelet.
const FOLDER_MODE: u32 = 0o755;

/// Mode of a log. Other users must not read it.
const LOG_MODE: u32 = 0o640;

/// Returns the id of one run of a container, 64 hexadecimal digits. Collectors parse the name of a
/// link by an id of this form.
pub fn container_id(pod: &str, run: &str) -> String {
    layout::short_hash(format!("{pod}/{run}").as_bytes(), 64)
}

/// Folder of all pods' logs.
#[derive(Clone, Debug)]
pub struct PodLogs {
    /// Folder that only the machine writes to, such as `/var/log`.
    parent: PathBuf,
    /// Name of the logs' folder in it, such as `pods`.
    name: String,
}

impl PodLogs {
    /// Creates the folder and that of the links if they are missing.
    pub fn open(folder: &Path) -> Result<PodLogs> {
        let logs = PodLogs::at(folder)?;
        fs::create_dir_all(&logs.parent).context(|| format!("create {}", logs.parent.display()))?;
        for name in [logs.name.as_str(), LINKS] {
            enter(&logs.parent, Path::new(name), true)
                .context(|| format!("open the log folder {}", logs.parent.join(name).display()))?;
        }
        Ok(logs)
    }

    /// Uses the folder, which need not exist.
    pub fn at(folder: &Path) -> Result<PodLogs> {
        let parent = folder.parent().filter(|_| folder.is_absolute());
        let name = folder.file_name().and_then(|name| name.to_str());
        match (parent, name) {
            (Some(parent), Some(name)) if name != LINKS => Ok(PodLogs {
                parent: parent.to_owned(),
                name: name.to_owned(),
            }),
            _ => Err(Error::invalid(format!(
                "the log folder {} must be an absolute path, and its last part not {LINKS:?}, which holds the links",
                folder.display()
            ))),
        }
    }

    /// Returns the logs of one pod.
    pub fn pod(&self, namespace: &str, name: &str, uid: &str) -> PodLog {
        // Only the pod's name can make the file name too long: the namespace has at most 63 bytes
        // and the UID 36.
        let room = NAME_LIMIT.saturating_sub(namespace.len() + uid.len() + 2);
        let name = &name[..name.floor_char_boundary(room)];
        PodLog {
            logs: self.clone(),
            folder: format!("{namespace}_{name}_{uid}"),
        }
    }

    /// Removes all logs of the pods with this UID, and the links to them. Succeeds if there are
    /// none.
    pub fn remove(&self, uid: &str) -> io::Result<()> {
        let Some(pods) = absent_is_none(enter(&self.parent, Path::new(&self.name), false))? else {
            return Ok(());
        };
        for name in names(&pods)? {
            if name.rsplit_once('_').is_some_and(|(_, of)| of == uid) {
                self.unlink(|target| target.starts_with(&name))?;
                // All parent folders are open.
                beneath::remove_tree(&beneath::magic_path(&pods, OsStr::new(&name)))?;
            }
        }
        Ok(())
    }

    /// Removes the folder and that of the links if they are empty, because another agent may use
    /// them.
    pub fn remove_if_unused(&self) {
        for name in [self.name.as_str(), LINKS] {
            match fs::remove_dir(self.parent.join(name)) {
                Err(error)
                    if !matches!(
                        error.kind(),
                        io::ErrorKind::NotFound | io::ErrorKind::DirectoryNotEmpty
                    ) =>
                {
                    tracing::debug!(name, %error, "remove a log folder");
                }
                _ => {}
            }
        }
    }

    /// Removes the links for which `is_chosen` returns true. It gets the path of the log below the
    /// folder.
    fn unlink(&self, is_chosen: impl Fn(&Path) -> bool) -> io::Result<()> {
        let Some(links) = absent_is_none(enter(&self.parent, Path::new(LINKS), false))? else {
            return Ok(());
        };
        let own = self.parent.join(&self.name);
        for name in names(&links)? {
            let target = readlinkat(&links, name.as_str()).map(PathBuf::from);
            if target.is_ok_and(|target| target.strip_prefix(&own).is_ok_and(&is_chosen)) {
                unlink(&links, &name)?;
            }
        }
        Ok(())
    }
}

/// Logs of one pod.
#[derive(Clone, Debug)]
pub struct PodLog {
    logs: PodLogs,
    folder: String,
}

impl PodLog {
    /// Returns the path of the log of one run of a container.
    pub fn run(&self, container: &str, attempt: u32) -> LogPath {
        let below = Path::new(&self.logs.name)
            .join(&self.folder)
            .join(container)
            .join(format!("{attempt}.log"));
        LogPath {
            parent: self.logs.parent.clone(),
            below,
        }
    }

    /// Returns the folder of a container's logs, only for measuring it. Use [`PodLog::run`] to open
    /// files in it.
    pub fn folder(&self, container: &str) -> PathBuf {
        self.logs
            .parent
            .join(&self.logs.name)
            .join(&self.folder)
            .join(container)
    }

    /// Returns the names of the containers that have logs.
    pub fn containers(&self) -> Vec<String> {
        self.list("")
    }

    /// Returns the number of a container's newest run that has a log.
    pub fn newest(&self, container: &str) -> Option<u32> {
        let files = self.list(container).into_iter();
        files
            .filter_map(|name| name.split_once(".log")?.0.parse().ok())
            .max()
    }

    fn list(&self, below: &str) -> Vec<String> {
        let path = Path::new(&self.logs.name).join(&self.folder).join(below);
        let folder = enter(&self.logs.parent, &path, false);
        folder.and_then(|folder| names(&folder)).unwrap_or_default()
    }

    /// Creates the link to the log of a run: `<pod>_<namespace>_<container>-<id>.log`, shortened if
    /// it is too long, like the kubelet.
    pub fn link(&self, run: &LogPath, name: &str) -> io::Result<()> {
        const END: &str = ".log";
        let name = &name[..name.floor_char_boundary(NAME_LIMIT - END.len())];
        let name = format!("{name}{END}");
        let links = enter(&self.logs.parent, Path::new(LINKS), true)?;
        let path = run.path();
        match symlinkat(&path, &links, name.as_str()) {
            Err(Errno::EEXIST) => {
                unlink(&links, &name)?;
                Ok(symlinkat(&path, &links, name.as_str())?)
            }
            made => Ok(made?),
        }
    }

    /// Removes the log of a run, its rotated files and its link. Succeeds if there are none.
    pub fn remove_run(&self, run: &LogPath) -> io::Result<()> {
        let below = run.below.strip_prefix(&self.logs.name).unwrap_or(&run.below);
        self.logs.unlink(|target| target == below)?;
        let Some(folder) = absent_is_none(run.folder(false))? else {
            return Ok(());
        };
        for rotated in 0..LOG_FILES {
            unlink(&folder, &run.file_name(rotated))?;
        }
        Ok(())
    }
}

/// Path of a log: a folder that only the machine writes to, and a path below it that is opened
/// without following links.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogPath {
    parent: PathBuf,
    below: PathBuf,
}

impl LogPath {
    /// Returns the path of a log below a folder.
    pub fn new(parent: impl Into<PathBuf>, below: impl Into<PathBuf>) -> LogPath {
        LogPath {
            parent: parent.into(),
            below: below.into(),
        }
    }

    /// Returns the full path, for messages and links.
    pub fn path(&self) -> PathBuf {
        self.parent.join(&self.below)
    }

    /// Opens the log for reading, or a rotated file of it: 1 is the newest. Returns `None` if it
    /// does not exist.
    pub fn open(&self, rotated: u32) -> io::Result<Option<File>> {
        let Some(folder) = absent_is_none(self.folder(false))? else {
            return Ok(None);
        };
        absent_is_none(open_file(&folder, &self.file_name(rotated), OFlag::O_RDONLY))
    }

    /// Opens the log and its rotated files, the oldest first.
    pub fn open_all(&self) -> io::Result<Vec<File>> {
        let mut files = Vec::new();
        for rotated in (0..LOG_FILES).rev() {
            files.extend(self.open(rotated)?);
        }
        Ok(files)
    }

    /// Returns the inode number of the current file. It changes with a rotation.
    pub fn inode(&self) -> Option<u64> {
        let folder = self.folder(false).ok()?;
        let status = fstatat(&folder, self.file_name(0).as_str(), AtFlags::AT_SYMLINK_NOFOLLOW).ok()?;
        Some(status.st_ino)
    }

    /// Opens the folder of the log. Creates it if `make` is true.
    pub(crate) fn folder(&self, make: bool) -> io::Result<OwnedFd> {
        enter(&self.parent, self.below.parent().unwrap_or(Path::new("")), make)
    }

    pub(crate) fn file_name(&self, rotated: u32) -> String {
        let name = self.below.file_name().unwrap_or_default().to_string_lossy();
        match rotated {
            0 => name.into_owned(),
            rotated => format!("{name}.{rotated}"),
        }
    }
}

/// Opens a log in its folder for appending. Creates it if it is missing.
pub(crate) fn append(folder: &OwnedFd, name: &str) -> io::Result<File> {
    open_file(folder, name, OFlag::O_WRONLY | OFlag::O_APPEND | OFlag::O_CREAT)
}

/// Opens a regular file in a folder. Does not follow a link, and does not wait for a pipe.
fn open_file(folder: &OwnedFd, name: &str, flags: OFlag) -> io::Result<File> {
    let flags = flags | OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK | OFlag::O_CLOEXEC;
    let file = File::from(openat(folder, name, flags, Mode::from_bits_truncate(LOG_MODE))?);
    match file.metadata()?.is_file() {
        true => Ok(file),
        false => Err(io::Error::other(format!("{name} is not a regular file"))),
    }
}

/// Opens a folder below `parent`, one name at a time, without following links below `parent`.
/// Creates missing folders if `make` is true.
fn enter(parent: &Path, below: &Path, make: bool) -> io::Result<OwnedFd> {
    let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
    let mut folder = nix::fcntl::open(parent, flags, Mode::empty())?;
    for part in below.components() {
        let Component::Normal(name) = part else {
            return Err(io::Error::other(format!(
                "{} is no path below a folder",
                below.display()
            )));
        };
        let open = || openat(&folder, name, flags | OFlag::O_NOFOLLOW, Mode::empty());
        let inner = match open() {
            Err(Errno::ENOENT) if make => {
                let mode = Mode::from_bits_truncate(FOLDER_MODE);
                match mkdirat(&folder, name, mode) {
                    Ok(()) | Err(Errno::EEXIST) => {}
                    Err(error) => return Err(error.into()),
                }
                let made = open()?;
                // The umask of the process may have removed bits.
                fchmod(&made, mode)?;
                made
            }
            // With O_DIRECTORY the kernel returns this error for links, too.
            Err(Errno::ENOTDIR | Errno::ELOOP) => {
                let name = Path::new(name).display();
                return Err(io::Error::other(format!(
                    "{name} is a link or a file, not a folder"
                )));
            }
            other => other?,
        };
        folder = inner;
    }
    Ok(folder)
}

fn names(folder: &OwnedFd) -> io::Result<Vec<String>> {
    let entries = fs::read_dir(beneath::magic_path(folder, OsStr::new(".")))?;
    let mut names = Vec::new();
    for entry in entries {
        // Names that are not UTF-8 belong to other programs.
        names.extend(entry?.file_name().into_string());
    }
    Ok(names)
}

/// Removes anything except a folder. Succeeds if it does not exist.
fn unlink(folder: &impl AsFd, name: &str) -> io::Result<()> {
    match unlinkat(folder, name, UnlinkatFlags::NoRemoveDir) {
        Ok(()) | Err(Errno::ENOENT) => Ok(()),
        // Another program created a folder with that name.
        Err(Errno::EISDIR | Errno::EPERM) if is_folder(folder, name) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

fn is_folder(folder: &impl AsFd, name: &str) -> bool {
    let status = fstatat(folder, name, AtFlags::AT_SYMLINK_NOFOLLOW);
    status.is_ok_and(|status| status.st_mode & SFlag::S_IFMT.bits() == SFlag::S_IFDIR.bits())
}

fn absent_is_none<T>(result: io::Result<T>) -> io::Result<Option<T>> {
    match result {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        other => other.map(Some),
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;
    use std::os::unix::fs::{PermissionsExt as _, symlink};

    use super::*;

    fn logs(folder: &tempfile::TempDir) -> PodLogs {
        PodLogs::open(&folder.path().join("pods")).unwrap()
    }

    fn write(run: &LogPath, text: &str) {
        let folder = run.folder(true).unwrap();
        append(&folder, &run.file_name(0))
            .unwrap()
            .write_all(text.as_bytes())
            .unwrap();
    }

    #[test]
    fn a_log_lies_where_collectors_look() {
        let folder = tempfile::tempdir().unwrap();
        let logs = logs(&folder);
        let pod = logs.pod("ns", "web", "u-1");
        let run = pod.run("c", 3);
        write(&run, "x\n");
        let path = folder.path().join("pods/ns_web_u-1/c/3.log");
        assert_eq!(run.path(), path);
        assert_eq!(
            fs::metadata(&path).unwrap().permissions().mode() & 0o7777,
            LOG_MODE
        );
        assert_eq!(
            (pod.containers(), pod.newest("c")),
            (vec!["c".to_owned()], Some(3))
        );
        let id = container_id("u-1", "c-3");
        pod.link(&run, &format!("web_ns_c-{id}")).unwrap();
        // Another run of the agent creates it again.
        pod.link(&run, &format!("web_ns_c-{id}")).unwrap();
        let link = folder.path().join(format!("containers/web_ns_c-{id}.log"));
        assert_eq!(fs::read_to_string(&link).unwrap(), "x\n");
        // The pod of another agent stays.
        write(&logs.pod("ns", "web", "u-2").run("c", 0), "");
        logs.remove("u-1").unwrap();
        assert!(!path.exists() && fs::symlink_metadata(&link).is_err());
        assert!(folder.path().join("pods/ns_web_u-2/c/0.log").exists());
        logs.remove("u-1").unwrap();
    }

    #[test]
    fn a_run_is_removed_with_its_link_and_the_others_stay() {
        let folder = tempfile::tempdir().unwrap();
        let pod = logs(&folder).pod("ns", "web", "u");
        for attempt in 0..2 {
            let run = pod.run("c", attempt);
            write(&run, "x");
            fs::write(format!("{}.1", run.path().display()), "").unwrap();
            pod.link(&run, &format!("web_ns_c-{attempt}")).unwrap();
        }
        pod.remove_run(&pod.run("c", 0)).unwrap();
        let left = |below: &str| fs::read_dir(folder.path().join(below)).unwrap().count();
        assert_eq!((left("pods/ns_web_u/c"), left("containers")), (2, 1));
        assert!(folder.path().join("containers/web_ns_c-1.log").exists());
    }

    #[test]
    fn names_are_cut_to_what_a_file_system_takes() {
        let folder = tempfile::tempdir().unwrap();
        let logs = logs(&folder);
        let (namespace, name, uid) = ("n".repeat(63), "p".repeat(253), "u".repeat(36));
        let pod = logs.pod(&namespace, &name, &uid);
        let run = pod.run("c", 0);
        write(&run, "x");
        pod.link(
            &run,
            &format!("{name}_{namespace}_c-{}", container_id(&uid, "c-0")),
        )
        .unwrap();
        let links: Vec<_> = fs::read_dir(folder.path().join("containers")).unwrap().collect();
        let link = links[0].as_ref().unwrap().file_name();
        assert_eq!(link.len(), NAME_LIMIT);
        assert!(link.to_str().unwrap().ends_with(".log"));
        logs.remove(&uid).unwrap();
        logs.remove_if_unused();
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
    }

    #[test]
    fn links_and_pipes_of_a_pod_are_not_followed() {
        let folder = tempfile::tempdir().unwrap();
        let logs = logs(&folder);
        let secret = folder.path().join("secret");
        fs::create_dir(&secret).unwrap();
        fs::write(secret.join("0.log"), "secret").unwrap();
        let (pods, pod) = (folder.path().join("pods"), logs.pod("ns", "web", "u"));
        // The pod's folder, the container's folder and the file itself, each replaced with a link.
        symlink(&secret, pods.join("ns_web_u")).unwrap();
        let check = |container: &str| {
            let run = pod.run(container, 0);
            assert!(run.open(0).is_err(), "{container}");
            let written = run.folder(true).and_then(|folder| append(&folder, "0.log"));
            assert!(written.is_err(), "{container}");
            // The call may return an error, but must not touch anything.
            drop(pod.remove_run(&run));
            assert!(secret.join("0.log").exists());
        };
        check("c");
        logs.remove("u").unwrap();
        assert!(secret.exists());
        fs::create_dir(pods.join("ns_web_u")).unwrap();
        symlink(&secret, pods.join("ns_web_u/c")).unwrap();
        check("c");
        fs::create_dir(pods.join("ns_web_u/d")).unwrap();
        symlink(secret.join("0.log"), pods.join("ns_web_u/d/0.log")).unwrap();
        check("d");
        fs::create_dir(pods.join("ns_web_u/e")).unwrap();
        nix::unistd::mkfifo(&pods.join("ns_web_u/e/0.log"), Mode::S_IRWXU).unwrap();
        check("e");
        logs.remove("u").unwrap();
        assert_eq!(fs::read_to_string(secret.join("0.log")).unwrap(), "secret");
    }
}

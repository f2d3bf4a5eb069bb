//! Mounts a container's volumes by descriptor, from paths of the machine to paths in the container.
//!
//! Other containers may write to the same volumes at the same time, and may replace a folder with a
//! symbolic link at any moment. Therefore a source is opened once, below its volume. The descriptor
//! is checked and its mount is cloned ([`take`]). The clones are attached ([`Taken::attach`]) after
//! the container's standard mounts and root are in place and before its program starts. Targets are
//! opened below the container's root in the same way. libcontainer does not get the volumes: it
//! mounts by name, ignores the propagation of single mounts, and would create its device nodes in a
//! volume at `/dev`.

use std::ffi::CStr;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd as _, FromRawFd as _, OwnedFd};
use std::path::Path;

use nix::mount::MsFlags;
use nix::sched::{CloneFlags, setns};
use nix::sys::stat::{SFlag, fstat};
use nix::sys::statfs::{PROC_SUPER_MAGIC, fstatfs};
use nix::unistd::Pid;

use crate::beneath::{self, Root};
use crate::error::Context as _;
use crate::{Error, ErrorKind, Mount, Propagation, Result};

/// Files below `/proc` that volumes may cover, as in other runtimes: file systems such as LXCFS
/// show a container its own values there. A mount on any other path below `/proc` could hide what
/// the runtime checks.
const PROC_FILES: &[&str] = &[
    "/proc/cpuinfo",
    "/proc/diskstats",
    "/proc/loadavg",
    "/proc/meminfo",
    "/proc/net/dev",
    "/proc/slabinfo",
    "/proc/stat",
    "/proc/swaps",
    "/proc/sys/crypto/fips_enabled",
    "/proc/sys/kernel/ns_last_pid",
    "/proc/uptime",
];

/// The mount namespaces of a shim.
pub(super) struct Namespaces {
    /// The machine's mount namespace, in which the agent runs. Sources of volumes are opened there.
    machine: File,
    /// The shim's own mount namespace. Its mounts are not visible on the machine.
    own: File,
}

impl Namespaces {
    /// Creates it for a shim that is in its own mount namespace now. `machine` is the result of
    /// [`current`] before that.
    pub(super) fn new(machine: File) -> Result<Namespaces> {
        let own = current()?;
        Ok(Namespaces { machine, own })
    }

    /// Calls `act` in another mount namespace, at its root. This process has only one thread, so
    /// nothing else runs there meanwhile.
    pub(super) fn inside<T>(&self, other: &File, act: impl FnOnce() -> Result<T>) -> Result<T> {
        let result = setns(other, CloneFlags::CLONE_NEWNS)
            .context(|| "enter a mount namespace")
            .and_then(|()| act());
        if let Err(error) = setns(&self.own, CloneFlags::CLONE_NEWNS) {
            super::complain(&Error::machine(format!(
                "return to the own mount namespace: {error}"
            )));
            // Every further action would affect the wrong files.
            std::process::abort();
        }
        result
    }
}

/// Returns the mount namespace of this process.
pub(super) fn current() -> Result<File> {
    namespace("self")
}

pub(super) fn namespace(process: &str) -> Result<File> {
    let path = format!("/proc/{process}/ns/mnt");
    File::open(&path).context(|| format!("open {path}"))
}

/// A mount whose source is open.
pub(super) struct Taken {
    mount: Mount,
    /// Clone of the source's mount, not attached.
    tree: OwnedFd,
    folder: bool,
}

/// Opens the sources of `mounts` and clones their mounts. Returns them in the order in which they
/// must be attached: outer targets before inner ones, whatever their order in the list.
fn take(namespaces: &Namespaces, mounts: &[Mount]) -> Result<Vec<Taken>> {
    let mut taken = namespaces.inside(&namespaces.machine, || {
        mounts.iter().map(Taken::new).collect::<Result<Vec<Taken>>>()
    })?;
    taken.sort_by_key(|taken| taken.mount.target.components().count());
    Ok(taken)
}

/// Attaches the volumes to a container whose first process is created but not started. Creates its
/// working directory, and makes its root read-only if requested.
pub(super) fn attach(
    namespaces: &Namespaces,
    pid: Pid,
    mounts: &[Mount],
    working_dir: &Path,
    read_only_root: bool,
) -> Result<()> {
    // Not earlier, because the container's process would inherit the descriptors.
    let taken = take(namespaces, mounts)?;
    namespaces.inside(&namespace(&pid.to_string())?, || {
        let root = Root::container(Path::new("/")).context(|| "open the container's root")?;
        for taken in &taken {
            taken.attach(&root).map_err(|error| taken.failed(&error))?;
        }
        // It may be missing below a volume. If it cannot be created, the start of the program fails
        // with the reason.
        root.make_folders(working_dir, 0o755).ok();
        for taken in taken.iter().filter(|taken| taken.mount.read_only) {
            set_attributes(&taken.tree, false, libc::MOUNT_ATTR_RDONLY, MsFlags::empty())
                .map_err(|error| taken.failed(&error))?;
        }
        if read_only_root {
            set_attributes(&root.folder(), false, libc::MOUNT_ATTR_RDONLY, MsFlags::empty())
                .context(|| "make the container's root read-only")?;
        }
        Ok(())
    })
}

impl Taken {
    fn new(mount: &Mount) -> Result<Taken> {
        let Mount { name, source, .. } = mount;
        let shown = source.display();
        let failed = |error: io::Error| Error::invalid(format!("mount {name:?} from {shown}: {error}"));
        let mut held = beneath::open_path(source).map_err(failed)?;
        if let Some(kind) = mount.kind
            && !kind.fits(beneath::kind(
                &fstat(&held).map_err(|error| failed(error.into()))?,
            ))
        {
            let why = format!("hostPath type check failed: {shown} is not {}", kind.noun());
            return Err(failed(io::Error::other(why)));
        }
        if let Some(sub_path) = &mount.sub_path {
            held = sub_folder(Root::of_volume(held), sub_path).map_err(|error| {
                let why = format!(
                    "failed to prepare subPath for volumeMount {name:?}: {}: {error}",
                    sub_path.display()
                );
                Error::new(ErrorKind::SubPath, why)
            })?;
        }
        let tree = clone_tree(&held).map_err(failed)?;
        let propagation = match mount.propagation {
            Propagation::None => MsFlags::MS_PRIVATE,
            Propagation::HostToContainer => MsFlags::MS_SLAVE,
            Propagation::Bidirectional => MsFlags::MS_SHARED,
        };
        set_attributes(&tree, true, 0, propagation).map_err(failed)?;
        if mount.read_only && !mount.nests {
            set_attributes(&tree, false, libc::MOUNT_ATTR_RDONLY, MsFlags::empty()).map_err(failed)?;
        }
        let status = fstat(&held).map_err(|error| failed(error.into()))?;
        Ok(Taken {
            mount: mount.clone(),
            tree,
            folder: beneath::kind(&status) == SFlag::S_IFDIR,
        })
    }

    fn failed(&self, error: &io::Error) -> Error {
        let Mount { name, target, .. } = &self.mount;
        let why = format!("mount {name:?} at {}: {error}", target.display());
        Error::new(ErrorKind::StartFailed, why)
    }

    fn attach(&self, root: &Root) -> io::Result<()> {
        let path = &self.mount.target;
        let target = match self.folder {
            true => root.make_folders(path, 0o755)?,
            false => root.make_file(path, 0o644)?,
        };
        if fstatfs(&target)?.filesystem_type() == PROC_SUPER_MAGIC && !may_hide(path, &target)? {
            return Err(io::Error::other("nothing may be mounted below /proc"));
        }
        move_tree(&self.tree, &target)
    }
}

/// Returns whether a mount may cover a path in `/proc`: all of `/proc`, or one of the few files.
fn may_hide(path: &Path, target: &OwnedFd) -> io::Result<bool> {
    /// Inode of the root of every procfs.
    const PROC_ROOT: u64 = 1;
    let listed = PROC_FILES.iter().any(|file| path == Path::new(file));
    Ok(listed || fstat(target)?.st_ino == PROC_ROOT)
}

/// Opens a path below a volume. Creates it as a folder with the volume's mode if it is missing,
/// like the kubelet.
fn sub_folder(volume: Root, path: &Path) -> io::Result<OwnedFd> {
    match volume.open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let mode = fstat(volume.folder())?.st_mode & 0o2777;
            volume.make_folders(path, mode)
        }
        found => found,
    }
}

const EMPTY: &CStr = c"";

/// Clones the mounts at and below a descriptor. The clone is not attached.
fn clone_tree(source: &OwnedFd) -> io::Result<OwnedFd> {
    let flags = libc::OPEN_TREE_CLONE
        | libc::OPEN_TREE_CLOEXEC
        | libc::AT_EMPTY_PATH as libc::c_uint
        | libc::AT_RECURSIVE as libc::c_uint;
    // SAFETY: the path is a constant string that ends in NUL, and the kernel only reads it.
    let tree = unsafe { libc::syscall(libc::SYS_open_tree, source.as_raw_fd(), EMPTY.as_ptr(), flags) };
    if tree < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the kernel made this descriptor for us in this very call; nobody else owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(tree as i32) })
}

/// Sets attributes and propagation of a mount, and optionally of the mounts below it. Empty flags
/// keep the propagation.
fn set_attributes(tree: &impl AsFd, below: bool, set: u64, propagation: MsFlags) -> io::Result<()> {
    let attributes = libc::mount_attr {
        attr_set: set,
        attr_clr: 0,
        propagation: propagation.bits(),
        userns_fd: 0,
    };
    let flags = match below {
        true => libc::AT_EMPTY_PATH | libc::AT_RECURSIVE,
        false => libc::AT_EMPTY_PATH,
    };
    // SAFETY: the path is a constant string that ends in NUL, and the attributes are as long as said; the kernel only reads both.
    let result = unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            tree.as_fd().as_raw_fd(),
            EMPTY.as_ptr(),
            flags as libc::c_uint,
            &raw const attributes,
            size_of::<libc::mount_attr>(),
        )
    };
    match result {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Attaches a tree of mounts at a descriptor, in the mount namespace of this process.
fn move_tree(tree: &OwnedFd, target: &OwnedFd) -> io::Result<()> {
    // SAFETY: both paths are constant strings that end in NUL, and the kernel only reads them.
    let result = unsafe {
        libc::syscall(
            libc::SYS_move_mount,
            tree.as_raw_fd(),
            EMPTY.as_ptr(),
            target.as_raw_fd(),
            EMPTY.as_ptr(),
            libc::MOVE_MOUNT_F_EMPTY_PATH | libc::MOVE_MOUNT_T_EMPTY_PATH,
        )
    };
    match result {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::{PermissionsExt as _, symlink};
    use std::path::PathBuf;

    use super::*;
    use crate::FileKind;

    fn mount(source: PathBuf, sub_path: Option<&str>, target: &Path) -> Mount {
        Mount {
            name: "v".into(),
            source,
            sub_path: sub_path.map(PathBuf::from),
            target: target.to_owned(),
            ..Mount::default()
        }
    }

    /// Runs a test in its own mount namespace.
    fn apart(test: impl FnOnce() + Send) {
        std::thread::scope(|scope| {
            let apart = scope.spawn(|| {
                nix::sched::unshare(CloneFlags::CLONE_NEWNS).unwrap();
                let flags = MsFlags::MS_REC | MsFlags::MS_PRIVATE;
                nix::mount::mount(None::<&str>, "/", None::<&str>, flags, None::<&str>).unwrap();
                test();
            });
            apart.join().unwrap();
        });
    }

    #[test]
    fn a_swap_between_check_and_mount_changes_nothing() {
        apart(|| {
            let folder = tempfile::tempdir().unwrap();
            let (volume, target) = (folder.path().join("volume"), folder.path().join("root/target"));
            fs::create_dir_all(volume.join("x")).unwrap();
            fs::write(volume.join("x/inside"), "").unwrap();
            fs::create_dir_all(&target).unwrap();
            symlink("/", volume.join("y")).unwrap();
            let taken = Taken::new(&mount(volume.clone(), Some("x"), Path::new("/target"))).unwrap();
            // An attacker in another container does this at this moment.
            fs::rename(volume.join("x"), volume.join("z")).unwrap();
            fs::rename(volume.join("y"), volume.join("x")).unwrap();
            let root = Root::container(&folder.path().join("root")).unwrap();
            taken.attach(&root).unwrap();
            assert!(target.join("inside").exists());
            let error = Taken::new(&mount(volume, Some("x"), Path::new("/target")))
                .err()
                .unwrap();
            assert_eq!(error.kind, ErrorKind::SubPath);
            assert!(error.message.contains("leads out"), "{error}");
        });
    }

    #[test]
    fn a_target_does_not_leave_the_container_by_a_volumes_link() {
        apart(|| {
            let folder = tempfile::tempdir().unwrap();
            let (volume, root) = (folder.path().join("volume"), folder.path().join("root"));
            fs::create_dir_all(&volume).unwrap();
            fs::create_dir_all(&root).unwrap();
            symlink(folder.path(), volume.join("out")).unwrap();
            symlink("../../..", volume.join("up")).unwrap();
            let container = Root::container(&root).unwrap();
            for target in ["/a", "/a/out/b", "/a/up/c"] {
                let taken = Taken::new(&mount(volume.clone(), None, Path::new(target))).unwrap();
                taken.attach(&container).unwrap();
            }
            assert!(!folder.path().join("b").exists() && !folder.path().join("c").exists());
            assert!(root.join("c").is_dir());
        });
    }

    #[test]
    fn a_missing_sub_path_gets_the_mode_of_its_volume() {
        apart(|| {
            let folder = tempfile::tempdir().unwrap();
            fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o2777)).unwrap();
            Taken::new(&mount(folder.path().into(), Some("a/b"), Path::new("/t"))).unwrap();
            for path in ["a", "a/b"] {
                let mode = fs::metadata(folder.path().join(path))
                    .unwrap()
                    .permissions()
                    .mode();
                assert_eq!(mode & 0o7777, 0o2777, "{path}");
            }
        });
    }

    #[test]
    fn a_source_of_another_kind_is_refused_with_its_name() {
        let taken = Taken::new(&Mount {
            kind: Some(FileKind::Folder),
            ..mount("/dev/null".into(), None, Path::new("/t"))
        });
        let error = taken.err().unwrap();
        assert_eq!(
            error.message,
            "mount \"v\" from /dev/null: hostPath type check failed: /dev/null is not a directory"
        );
    }
}

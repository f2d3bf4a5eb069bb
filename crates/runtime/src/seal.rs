//! The executable of shims as a file to which nothing can write.
//!
//! A shim's processes enter containers before they become the container's program. There
//! `/proc/self/exe` refers to the shim's executable. A container can open it with a script that
//! starts with `#!/proc/self/exe`, or by inspecting a process that is being started. It must
//! therefore not be the file that the machine runs next.

use std::ffi::{CStr, CString};
use std::fs::{self, File, Metadata};
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use crate::Result;
use crate::error::Context as _;

// Numbers of `linux/mount.h`.
const FSOPEN_CLOEXEC: libc::c_uint = 1;
const FSCONFIG_SET_STRING: libc::c_uint = 1;
const FSCONFIG_CMD_CREATE: libc::c_uint = 6;
const FSMOUNT_CLOEXEC: libc::c_uint = 1;
const MOUNT_ATTR_RDONLY: libc::c_uint = 1;
const MOUNT_ATTR_NOSUID: libc::c_uint = 2;
const MOUNT_ATTR_NODEV: libc::c_uint = 4;

/// `MFD_EXEC` of `linux/memfd.h`, since Linux 6.3: the file may be executed even if the machine's
/// default forbids it for such files.
const MFD_EXEC: libc::c_uint = 0x10;

/// An executable that nothing can write to through any of its descriptors.
#[derive(Debug)]
pub(crate) struct SealedExecutable(OwnedFd);

impl SealedExecutable {
    /// Seals a program. `empty` is an empty folder of this instance.
    ///
    /// The program's folder is opened through a read-only overlay that is not attached anywhere. It
    /// shares the memory of the machine's file, and containers cannot reach the lower layers. If
    /// the kernel or the file system does not support this, the program is copied to memory once
    /// for all shims.
    pub(crate) fn new(program: &Path, empty: &Path) -> Result<SealedExecutable> {
        let running = File::open(program).context(|| format!("open {}", program.display()))?;
        // A program that was replaced while it runs has no path any more.
        let shown = fs::canonicalize(program).and_then(|path| through_overlay(&path, empty, &running));
        match shown {
            Ok(sealed) => Ok(SealedExecutable(sealed)),
            Err(error) => {
                tracing::info!(%error, program = %program.display(), "copying the shim's executable to memory");
                let copied = copy(running).context(|| format!("copy {} to memory", program.display()))?;
                Ok(SealedExecutable(copied))
            }
        }
    }

    /// Returns the path with which a child of this process executes it.
    pub(crate) fn path(&self) -> PathBuf {
        format!("/proc/self/fd/{}", self.0.as_raw_fd()).into()
    }
}

fn through_overlay(program: &Path, empty: &Path, running: &File) -> io::Result<OwnedFd> {
    let (Some(folder), Some(name)) = (program.parent(), program.file_name()) else {
        return Err(io::ErrorKind::InvalidInput.into());
    };
    fs::create_dir_all(empty)?;
    // An overlay without an upper layer needs two lower ones, and is read-only.
    let layers = CString::new(format!("{}:{}", escaped(folder)?, escaped(empty)?))?;
    // SAFETY: all of these calls take numbers and strings that end with NUL and outlive the call; descriptors that they answer are new.
    let mount = unsafe {
        let context = descriptor(libc::syscall(
            libc::SYS_fsopen,
            c"overlay".as_ptr(),
            FSOPEN_CLOEXEC,
        ))?;
        let configure = |command: libc::c_uint, key: *const libc::c_char, value: *const libc::c_char| {
            let raw = context.as_raw_fd();
            answer(libc::syscall(libc::SYS_fsconfig, raw, command, key, value, 0))
        };
        configure(FSCONFIG_SET_STRING, c"lowerdir".as_ptr(), layers.as_ptr())?;
        configure(FSCONFIG_CMD_CREATE, std::ptr::null(), std::ptr::null())?;
        let attributes = MOUNT_ATTR_RDONLY | MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV;
        let raw = context.as_raw_fd();
        descriptor(libc::syscall(libc::SYS_fsmount, raw, FSMOUNT_CLOEXEC, attributes))?
    };
    let name = CString::new(name.as_bytes())?;
    let flags = nix::fcntl::OFlag::O_PATH | nix::fcntl::OFlag::O_NOFOLLOW | nix::fcntl::OFlag::O_CLOEXEC;
    let sealed = nix::fcntl::openat(&mount, name.as_c_str(), flags, nix::sys::stat::Mode::empty())?;
    let seen = File::from(sealed.try_clone()?).metadata()?;
    if !same(&seen, &running.metadata()?) {
        return Err(io::Error::other("the program was replaced"));
    }
    Ok(sealed)
}

/// Returns whether two views show one file. An overlay may have its own device and inode numbers.
fn same(one: &Metadata, other: &Metadata) -> bool {
    let facts = |file: &Metadata| {
        (
            file.mode(),
            file.size(),
            file.mtime(),
            file.mtime_nsec(),
            file.ctime(),
            file.ctime_nsec(),
        )
    };
    facts(one) == facts(other)
}

/// Escapes colons, which separate the layers of an overlay.
fn escaped(folder: &Path) -> io::Result<String> {
    let text = folder.to_str().ok_or(io::ErrorKind::InvalidInput)?;
    Ok(text.replace('\\', "\\\\").replace(':', "\\:"))
}

fn copy(mut program: File) -> io::Result<OwnedFd> {
    let named = |flags| -> io::Result<OwnedFd> {
        const NAME: &CStr = c"everynode";
        // SAFETY: the name ends with NUL; the descriptor is new.
        unsafe { descriptor(libc::c_long::from(libc::memfd_create(NAME.as_ptr(), flags))) }
    };
    let flags = libc::MFD_CLOEXEC | libc::MFD_ALLOW_SEALING;
    let memory = match named(flags | MFD_EXEC) {
        Err(error) if error.raw_os_error() == Some(libc::EINVAL) => named(flags)?,
        other => other?,
    };
    let mut memory = File::from(memory);
    io::copy(&mut program, &mut memory)?;
    let seals = libc::F_SEAL_WRITE | libc::F_SEAL_SHRINK | libc::F_SEAL_GROW | libc::F_SEAL_SEAL;
    // SAFETY: the descriptor is open, and the command takes a number.
    answer(libc::c_long::from(unsafe {
        libc::fcntl(memory.as_raw_fd(), libc::F_ADD_SEALS, seals)
    }))?;
    // A file that is open for writing cannot be executed.
    File::open(format!("/proc/self/fd/{}", memory.as_raw_fd())).map(OwnedFd::from)
}

fn answer(answer: libc::c_long) -> io::Result<libc::c_long> {
    if answer < 0 {
        Err(io::Error::last_os_error())
    } else {
        Ok(answer)
    }
}

/// # Safety
///
/// A number that is not negative is a descriptor without another owner.
unsafe fn descriptor(number: libc::c_long) -> io::Result<OwnedFd> {
    let number = answer(number)? as RawFd;
    // SAFETY: the caller vouches for it.
    Ok(unsafe { OwnedFd::from_raw_fd(number) })
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;
    use std::os::unix::process::CommandExt as _;
    use std::process::Command;

    use super::*;

    /// Asserts that the file runs, is the program, and cannot be written to in any way.
    fn assert_sealed(sealed: &SealedExecutable) {
        let output = Command::new(sealed.path())
            .arg0("busybox")
            .args(["sh", "-c", "readlink /proc/self/exe"])
            .output()
            .unwrap();
        assert!(output.status.success(), "{output:?}");
        let opened = File::options().write(true).open(sealed.path());
        let written = opened.and_then(|mut file| file.write_all(b"x"));
        assert!(written.is_err());
    }

    /// Returns busybox in a folder whose name would separate layers without escaping.
    fn program() -> (tempfile::TempDir, PathBuf) {
        let folder = tempfile::tempdir().unwrap();
        let place = folder.path().join("a:b");
        fs::create_dir(&place).unwrap();
        fs::copy("/bin/busybox", place.join("busybox")).unwrap();
        let program = place.join("busybox");
        (folder, program)
    }

    #[test]
    fn a_program_runs_through_an_overlay_that_takes_no_writes() {
        let (folder, program) = program();
        let running = File::open(&program).unwrap();
        let sealed = through_overlay(&program, &folder.path().join("empty"), &running).unwrap();
        assert_sealed(&SealedExecutable(sealed));
        let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
        assert!(!mounts.contains(folder.path().to_str().unwrap()), "{mounts}");
    }

    #[test]
    fn a_program_that_was_replaced_is_not_taken_for_the_one_that_runs() {
        let (folder, program) = program();
        let running = File::open(&program).unwrap();
        fs::remove_file(&program).unwrap();
        fs::write(&program, "another").unwrap();
        assert!(through_overlay(&program, &folder.path().join("empty"), &running).is_err());
    }

    #[test]
    fn a_program_that_is_copied_to_memory_takes_no_writes() {
        let (_folder, program) = program();
        let sealed = copy(File::open(&program).unwrap()).unwrap();
        assert_sealed(&SealedExecutable(sealed));
    }
}

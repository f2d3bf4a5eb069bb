//! The mounts of this process's namespace. There may be 100,000 with arbitrary bytes in their
//! names, so they are read one by one.

use std::ffi::OsString;
use std::fs::File;
use std::io::{self, BufRead as _, BufReader};
use std::os::unix::ffi::OsStringExt as _;
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::mount::{MntFlags, umount2};

/// Number of attempts to unmount everything below a folder while another process mounts there.
const ATTEMPTS: usize = 16;

/// One mount.
pub(crate) struct Mount {
    /// The mount point.
    pub(crate) point: PathBuf,
    /// Whether mounts below it propagate to other namespaces.
    pub(crate) is_shared: bool,
}

/// Returns all mounts. Each comes after the mount that it is mounted on.
pub(crate) fn all() -> io::Result<impl Iterator<Item = io::Result<Mount>>> {
    let lines = BufReader::new(File::open("/proc/self/mountinfo")?).split(b'\n');
    Ok(lines.map(|line| line.map(|line| parse(&line))))
}

fn parse(line: &[u8]) -> Mount {
    let mut fields = line.split(|byte| *byte == b' ').skip(4);
    let point = unescaped(fields.next().unwrap_or_default());
    // Options, then optional fields up to a dash.
    let is_shared = fields
        .skip(1)
        .take_while(|field| *field != b"-")
        .any(|field| field.starts_with(b"shared:"));
    Mount { point, is_shared }
}

/// Decodes a path: the kernel writes spaces and backslashes as escapes such as `\040`.
fn unescaped(text: &[u8]) -> PathBuf {
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some((first, after)) = rest.split_first() {
        let code = after.get(..3).filter(|_| *first == b'\\');
        let code = code.and_then(|digits| u8::from_str_radix(std::str::from_utf8(digits).ok()?, 8).ok());
        match code {
            Some(byte) => {
                out.push(byte);
                rest = &after[3..];
            }
            None => {
                out.push(*first);
                rest = after;
            }
        }
    }
    PathBuf::from(OsString::from_vec(out))
}

/// Unmounts everything at or below `folder`. Succeeds if there is no such folder.
///
/// The topmost mounts go first, with everything that is mounted on them: a mount may cover others,
/// which then have no reachable path.
pub fn unmount_below(folder: &Path) -> io::Result<()> {
    let folder = match folder.canonicalize() {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        folder => folder?,
    };
    for _ in 0..ATTEMPTS {
        let mut points = Vec::new();
        for mount in all()? {
            let point = mount?.point;
            if point.starts_with(&folder) {
                points.push(point);
            }
        }
        points.sort();
        if points.is_empty() {
            return Ok(());
        }
        let mut gone: Option<&PathBuf> = None;
        for point in &points {
            if gone.is_some_and(|gone| point != gone && point.starts_with(gone)) {
                continue;
            }
            match umount2(point, MntFlags::MNT_DETACH | MntFlags::UMOUNT_NOFOLLOW) {
                // It was removed with another one, or is covered by one that was mounted meanwhile.
                // The next attempt shows it.
                Ok(()) | Err(Errno::EINVAL | Errno::ENOENT | Errno::ENOTDIR) => gone = Some(point),
                Err(error) => return Err(error.into()),
            }
        }
    }
    Err(io::Error::other(format!(
        "{} is mounted on again and again",
        folder.display()
    )))
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::ffi::OsStrExt as _;

    use nix::mount::{MsFlags, mount};

    use super::*;

    #[test]
    fn the_kernels_lines_are_read() {
        let shared = parse(br"1 2 0:3 / /a\040b\134c rw,relatime shared:7 master:1 - tmpfs t rw");
        assert_eq!(shared.point.to_str(), Some(r"/a b\c"));
        assert!(shared.is_shared);
        let private = parse(b"1 2 0:3 / /plain rw - tmpfs shared:1 rw");
        assert_eq!(private.point.to_str(), Some("/plain"));
        assert!(!private.is_shared);
    }

    #[test]
    fn everything_below_a_folder_is_unmounted_however_it_is_stacked() {
        let folder = tempfile::tempdir().unwrap();
        let below = |name: &[u8]| folder.path().join(std::ffi::OsStr::from_bytes(name));
        let on = |point: &Path| {
            fs::create_dir_all(point).unwrap();
            mount(Some("t"), point, Some("tmpfs"), MsFlags::empty(), None::<&str>).unwrap();
        };
        on(&below(b"a/covered"));
        on(&below(b"a"));
        on(&below(b"a"));
        on(&below(b"a/inner"));
        on(&below(b"no \xff text\\"));
        let file = below(b"file");
        fs::write(&file, "").unwrap();
        let bind = MsFlags::MS_BIND;
        mount(Some("/dev/null"), &file, None::<&str>, bind, None::<&str>).unwrap();
        unmount_below(folder.path()).unwrap();
        let left = all()
            .unwrap()
            .flatten()
            .filter(|mount| mount.point.starts_with(folder.path()));
        assert_eq!(left.count(), 0);
        unmount_below(&below(b"nothing")).unwrap();
    }
}

//! Volumes in memory.

use std::ffi::OsString;
use std::fs;
use std::io;
use std::os::unix::ffi::OsStringExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use nix::mount::{MntFlags, MsFlags};

/// Mounts a tmpfs on `folder`, unless one is there already; answers whether it did.
pub(super) fn mount(folder: &Path, bytes: Option<u64>) -> io::Result<bool> {
    let parent = folder.parent().unwrap_or(folder);
    if fs::metadata(folder)?.dev() != fs::metadata(parent)?.dev() {
        return Ok(false);
    }
    let mut options = String::from("mode=0777");
    if let Some(bytes) = bytes {
        options.push_str(&format!(",size={bytes}"));
    }
    let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV;
    nix::mount::mount(
        Some("tmpfs"),
        folder,
        Some("tmpfs"),
        flags,
        Some(options.as_str()),
    )?;
    Ok(true)
}

/// Unmounts everything that is mounted at or below `folder`, the deepest first.
pub(super) fn unmount_below(folder: &Path) -> io::Result<()> {
    let Ok(folder) = folder.canonicalize() else {
        return Ok(());
    };
    let mounts = fs::read_to_string("/proc/self/mountinfo")?;
    let points = mounts
        .lines()
        .filter_map(|line| line.split(' ').nth(4))
        .map(unescape);
    let mut points: Vec<PathBuf> = points.filter(|point| point.starts_with(&folder)).collect();
    points.sort();
    for point in points.iter().rev() {
        nix::mount::umount2(point, MntFlags::MNT_DETACH | MntFlags::UMOUNT_NOFOLLOW)?;
    }
    Ok(())
}

/// The kernel writes blanks and backslashes of a path as `\040`.
fn unescape(text: &str) -> PathBuf {
    let bytes = text.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        let octal = bytes.get(at + 1..at + 4).filter(|_| bytes[at] == b'\\');
        let code = octal.and_then(|digits| std::str::from_utf8(digits).ok());
        match code.and_then(|digits| u8::from_str_radix(digits, 8).ok()) {
            Some(byte) => {
                out.push(byte);
                at += 4;
            }
            None => {
                out.push(bytes[at]);
                at += 1;
            }
        }
    }
    PathBuf::from(OsString::from_vec(out))
}

#[cfg(test)]
mod tests {
    use super::unescape;

    #[test]
    fn the_kernels_escapes_are_undone() {
        assert_eq!(unescape(r"/a\040b\134c").to_str(), Some(r"/a b\c"));
        assert_eq!(unescape("/plain").to_str(), Some("/plain"));
    }
}

//! Volumes in memory.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use nix::mount::MsFlags;

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

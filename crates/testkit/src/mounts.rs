//! Checks for mounts that tests of containers leave.

use std::path::Path;

/// Fails when the machine's mount table still contains a test's folder: as a mount point, a source,
/// or a layer.
pub fn assert_no_mounts(folder: &Path) {
    let table = std::fs::read_to_string("/proc/self/mountinfo");
    let table = table.unwrap_or_else(|error| panic!("read the mounts: {error}"));
    // Compare only the name, because the path of a mount's source is relative to its own file
    // system.
    let name = folder.file_name().unwrap_or(folder.as_os_str()).to_string_lossy();
    let left: Vec<&str> = table.lines().filter(|line| line.contains(&*name)).collect();
    assert!(left.is_empty(), "left mounted: {left:#?}");
}

//! What tests of containers leave mounted.

use std::path::Path;

/// Fails when the machine's mounts still mention a test's folder: as a place, as what is mounted somewhere else, or as a layer.
pub fn assert_no_mounts(folder: &Path) {
    let table = std::fs::read_to_string("/proc/self/mountinfo");
    let table = table.unwrap_or_else(|error| panic!("read the mounts: {error}"));
    // Its name alone, because a mount's source is written as its own file system has it.
    let name = folder.file_name().unwrap_or(folder.as_os_str()).to_string_lossy();
    let left: Vec<&str> = table.lines().filter(|line| line.contains(&*name)).collect();
    assert!(left.is_empty(), "left mounted: {left:#?}");
}

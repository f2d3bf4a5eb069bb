//! The initramfs of a virtual machine: a cpio archive in the format `newc`, which the kernel
//! unpacks into memory.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result};

use super::kernel::Kernel;

/// Script of the first process.
const BOOT: &str = include_str!("guest/boot.sh");
/// Modules for the disks.
const MODULES: &[&str] = &["virtio_pci", "virtio_blk"];
/// Programs of busybox that the script uses.
const PROGRAMS: &[&str] = &["sh", "mount", "insmod", "sleep", "mkdir", "switch_root"];

/// File types of a cpio header, with permissions.
const FOLDER: u32 = 0o040_755;
const PROGRAM: u32 = 0o100_755;
const LINK: u32 = 0o120_777;

/// Writes the archive: busybox, the modules for the disks, and the script that mounts the root
/// disk.
pub(super) fn write(kernel: &Kernel, busybox: &Path, to: &Path) -> Result<()> {
    let mut archive = Archive::default();
    for folder in ["bin", "dev", "proc", "sys", "modules", "root"] {
        archive.add(folder, FOLDER, b"");
    }
    let read = |path: &Path| fs::read(path).with_context(|| format!("read {}", path.display()));
    archive.add("bin/busybox", PROGRAM, &read(busybox)?);
    for program in PROGRAMS {
        archive.add(&format!("bin/{program}"), LINK, b"busybox");
    }
    for (index, module) in kernel.load_order(MODULES)?.iter().enumerate() {
        // The script loads the modules in the order of their names.
        archive.add(&format!("modules/{index:02}.ko"), PROGRAM, &read(module)?);
    }
    archive.add("init", PROGRAM, BOOT.as_bytes());
    fs::write(to, archive.close()).with_context(|| format!("write {}", to.display()))
}

#[derive(Default)]
struct Archive {
    bytes: Vec<u8>,
    files: u32,
}

impl Archive {
    fn add(&mut self, name: &str, mode: u32, content: &[u8]) {
        self.files += 1;
        let number = |number: usize| u32::try_from(number).unwrap_or(u32::MAX);
        // Inode, mode, user, group, links, time, size, two device numbers of the file and two of
        // the node, length of the name, checksum.
        let fields = [
            self.files,
            mode,
            0,
            0,
            1,
            0,
            number(content.len()),
            0,
            0,
            0,
            0,
            number(name.len() + 1),
            0,
        ];
        self.bytes.extend(b"070701");
        for field in fields {
            self.bytes.extend(format!("{field:08x}").bytes());
        }
        self.bytes.extend(name.bytes().chain([0]));
        self.pad();
        self.bytes.extend(content);
        self.pad();
    }

    /// Pads names and contents to a multiple of four bytes.
    fn pad(&mut self) {
        self.bytes.resize(self.bytes.len().next_multiple_of(4), 0);
    }

    fn close(mut self) -> Vec<u8> {
        self.add("TRAILER!!!", 0, b"");
        self.bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_archive_has_headers_of_110_bytes_and_aligned_contents() {
        let mut archive = Archive::default();
        archive.add("ab", PROGRAM, b"hello");
        let bytes = archive.close();
        assert_eq!(&bytes[..14], b"07070100000001");
        assert_eq!(&bytes[110..113], b"ab\0");
        assert_eq!(&bytes[116..121], b"hello");
        assert_eq!(&bytes[124..130], b"070701");
        assert!(bytes.len().is_multiple_of(4));
    }
}

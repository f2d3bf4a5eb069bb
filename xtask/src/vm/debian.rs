//! Disk image of Debian 12 with systemd.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use super::disk;
use super::kernel::Kernel;
use super::tree::Tree;
use crate::command::run;

/// Packages besides Debian's essential ones: those that docs/join.md requires, and those that the
/// tests use.
const PACKAGES: &str = "systemd,systemd-sysv,udev,dbus,kmod,nftables,iproute2,busybox-static,procps,curl,openssl,apparmor,ca-certificates,binutils";
/// Free space for images, logs and data, in MiB.
const FREE: u64 = 3072;
/// Unit that starts the programs on the second disk.
const UNIT: &str = include_str!("guest/everynode-vm.service");
/// Network configuration with the server's address in docs/join.md.
const NETWORK: &str = "[Match]\nName=e*\nType=ether\n\n[Network]\nAddress=10.0.0.10/24\nGateway=10.0.0.1\n";

/// Creates the disk image, unless one with this kernel and these packages exists. It is kept
/// between runs; a machine modifies a copy.
pub(super) fn disk(folder: &Path, kernel: &Kernel) -> Result<PathBuf> {
    let image = folder.join("debian.img");
    let mark = folder.join("complete");
    let made_of = format!("{}\n{PACKAGES}\n{UNIT}{NETWORK}", kernel.release);
    if fs::read_to_string(&mark).is_ok_and(|text| text == made_of) {
        return Ok(image);
    }
    if mark.exists() {
        fs::remove_file(&mark).with_context(|| format!("remove {}", mark.display()))?;
    }
    let tree = Tree::new(folder.join("root"))?;
    let place = tree.folder().display().to_string();
    let include = format!("--include={PACKAGES}");
    run(
        "mmdebstrap",
        &["--mode=root", "--variant=minbase", &include, "bookworm", &place],
    )?;
    tree.copy_modules(kernel)?;
    tree.make_folders(&["load"])?;
    tree.write("etc/hostname", "debian\n")?;
    tree.write("etc/hosts", "127.0.0.1 localhost debian\n")?;
    tree.write("etc/fstab", "/dev/vda / ext4 defaults 0 1\n")?;
    tree.write("etc/systemd/network/10.network", NETWORK)?;
    tree.write("etc/systemd/system/everynode-vm.service", UNIT)?;
    for (unit, target) in [
        (
            "/etc/systemd/system/everynode-vm.service",
            "multi-user.target.wants/everynode-vm.service",
        ),
        (
            "/lib/systemd/system/systemd-networkd.service",
            "multi-user.target.wants/systemd-networkd.service",
        ),
        (
            "/lib/systemd/system/systemd-networkd-wait-online.service",
            "network-online.target.wants/systemd-networkd-wait-online.service",
        ),
    ] {
        let link = tree.at("etc/systemd/system").join(target);
        let parent = link.parent().context("a link in a folder")?;
        fs::create_dir_all(parent).with_context(|| format!("create {}", parent.display()))?;
        if link.symlink_metadata().is_err() {
            symlink(unit, &link).with_context(|| format!("link {}", link.display()))?;
        }
    }
    disk::of_tree(&tree, FREE, &image)?;
    fs::remove_dir_all(tree.folder()).with_context(|| format!("remove {}", tree.folder().display()))?;
    fs::write(&mark, made_of).with_context(|| format!("write {}", mark.display()))?;
    Ok(image)
}

//! Kernel settings that the network needs.

use std::fs;
use std::path::Path;

use crate::Result;
use crate::bounded;
use crate::error::Context as _;

/// Enables forwarding of IPv6. A kernel that forwards ignores router advertisements, which may give
/// the machine its default route. If the kernel accepted them before, it continues to.
pub(super) fn forward_ipv6() -> Result<()> {
    const FORWARDING: &str = "net/ipv6/conf/all/forwarding";
    let forwards = bounded::kernel(Path::new("/proc/sys").join(FORWARDING));
    if forwards.is_ok_and(|value| value.trim() == "1") {
        return Ok(());
    }
    let interfaces =
        fs::read_dir("/proc/sys/net/ipv6/conf").context(|| "list the machine's IPv6 settings")?;
    for interface in interfaces.flatten() {
        let listens = interface.path().join("accept_ra");
        if bounded::kernel(&listens).is_ok_and(|value| value.trim() == "1") {
            fs::write(&listens, "2").context(|| format!("set {} to 2", listens.display()))?;
        }
    }
    write_sysctl(FORWARDING, "1")
}

/// Makes the rules see packets between pods on one bridge. Otherwise the answers to forwarded
/// packets would not pass them. Needs the kernel module for it.
pub(super) fn filter_bridged() -> Result<()> {
    for family in ["iptables", "ip6tables"] {
        let name = format!("net/bridge/bridge-nf-call-{family}");
        if Path::new("/proc/sys").join(&name).exists() {
            write_sysctl(&name, "1")?;
        }
    }
    Ok(())
}

/// Sets a value below /proc/sys if it differs.
pub(super) fn write_sysctl(name: &str, value: &str) -> Result<()> {
    let path = Path::new("/proc/sys").join(name);
    if bounded::kernel(&path).is_ok_and(|current| current.trim() == value) {
        return Ok(());
    }
    fs::write(&path, value).context(|| format!("set {} to {value}", path.display()))
}

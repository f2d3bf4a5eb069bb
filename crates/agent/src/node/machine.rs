//! Facts of the machine: how much it has, what it is called, what it runs.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, UdpSocket};
use std::path::{Path, PathBuf};
use std::sync::LazyLock;

use runtime::bounded;
use serde_json::{Value, json};

/// Bytes of a file system.
#[derive(Clone, Copy, Debug)]
pub(super) struct Disk {
    pub(super) size: u64,
    pub(super) free: u64,
}

/// Processors, memory, disk and pods that the machine, or the agent's own cgroup, allows.
pub(super) fn capacity(data_dir: &Path, pods: u32) -> BTreeMap<String, String> {
    let processors = std::thread::available_parallelism().map_or(1, usize::from);
    let mut capacity = BTreeMap::from([
        ("cpu".to_owned(), processors.to_string()),
        ("memory".to_owned(), format!("{}Ki", memory() / 1024)),
        ("pods".to_owned(), pods.to_string()),
    ]);
    if let Some(disk) = disk(data_dir) {
        capacity.insert("ephemeral-storage".to_owned(), format!("{}Ki", disk.size / 1024));
    }
    capacity
}

/// Bytes of memory: the machine's, or the least limit of the cgroups that the agent is in.
pub(crate) fn memory() -> u64 {
    static MEMORY: LazyLock<u64> = LazyLock::new(|| {
        let machine = meminfo("MemTotal").unwrap_or(0);
        let cgroups = bounded::kernel("/proc/self/cgroup").unwrap_or_default();
        let limits = cgroups.lines().filter_map(cgroup_limit);
        limits.fold(machine, u64::min)
    });
    *MEMORY
}

/// Bytes that new processes could have.
pub(crate) fn available_memory() -> Option<u64> {
    meminfo("MemAvailable")
}

fn meminfo(name: &str) -> Option<u64> {
    let text = bounded::kernel("/proc/meminfo").ok()?;
    let line = text.lines().find(|line| line.starts_with(name))?;
    let kibibytes: u64 = line.split_whitespace().nth(1)?.parse().ok()?;
    Some(kibibytes * 1024)
}

/// The least memory limit on the way from a line of `/proc/self/cgroup` to its root.
fn cgroup_limit(line: &str) -> Option<u64> {
    let mut parts = line.splitn(3, ':').skip(1);
    let (controllers, path) = (parts.next()?, parts.next()?);
    let (root, file) = match controllers {
        "" => ("/sys/fs/cgroup", "memory.max"),
        list if list.split(',').any(|controller| controller == "memory") => {
            ("/sys/fs/cgroup/memory", "memory.limit_in_bytes")
        }
        _ => return None,
    };
    let root = Path::new(root);
    let own: PathBuf = root.join(path.trim_start_matches('/'));
    let up = own.ancestors().take_while(|folder| folder.starts_with(root));
    let limit = |folder: &Path| {
        bounded::kernel(folder.join(file))
            .ok()?
            .trim()
            .parse::<u64>()
            .ok()
    };
    up.filter_map(limit).min()
}

/// The file system that a folder is on.
pub(super) fn disk(folder: &Path) -> Option<Disk> {
    let folder = folder.ancestors().find(|folder| folder.exists())?;
    let facts = nix::sys::statvfs::statvfs(folder).ok()?;
    let block = facts.fragment_size();
    Some(Disk {
        size: facts.blocks().saturating_mul(block),
        free: facts.blocks_available().saturating_mul(block),
    })
}

/// Kubernetes' own labels of a node.
pub(super) fn labels(name: &str) -> [(String, String); 5] {
    [
        ("kubernetes.io/hostname", name),
        ("kubernetes.io/os", "linux"),
        ("kubernetes.io/arch", architecture()),
        ("beta.kubernetes.io/os", "linux"),
        ("beta.kubernetes.io/arch", architecture()),
    ]
    .map(|(label, value)| (label.to_owned(), value.to_owned()))
}

/// The processor as Go names it.
fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        "x86" => "386",
        other => other,
    }
}

/// `status.nodeInfo`.
pub(super) fn node_info() -> Value {
    let read = |path: &str| {
        let text = bounded::read_text(Path::new(path), bounded::FILE);
        text.unwrap_or_default().trim().to_owned()
    };
    let release = read("/etc/os-release");
    let name = release.lines().find_map(|line| line.strip_prefix("PRETTY_NAME="));
    let name = name.unwrap_or("Linux").trim_matches('"').to_owned();
    json!({
        "machineID": read("/etc/machine-id"),
        "systemUUID": read("/sys/class/dmi/id/product_uuid"),
        "bootID": read("/proc/sys/kernel/random/boot_id"),
        "kernelVersion": read("/proc/sys/kernel/osrelease"),
        "osImage": name,
        "containerRuntimeVersion": format!("{}://{}", crate::RUNTIME_NAME, env!("CARGO_PKG_VERSION")),
        "kubeletVersion": crate::KUBELET_VERSION,
        "kubeProxyVersion": "",
        "operatingSystem": "linux",
        "architecture": architecture(),
    })
}

/// The address from which the machine reaches others; loopback when it reaches nobody.
pub(crate) fn primary_address() -> IpAddr {
    routed_address()
        .or_else(first_address)
        .unwrap_or(IpAddr::V4(Ipv4Addr::LOCALHOST))
}

/// The address from which the machine reaches others, if it has a way to them.
pub(crate) fn routed_address() -> Option<IpAddr> {
    // Connecting a datagram socket sends nothing: the kernel only picks the route, and with it the address.
    let route = || -> std::io::Result<IpAddr> {
        let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0))?;
        socket.connect((Ipv4Addr::new(192, 0, 2, 1), 9))?;
        Ok(socket.local_addr()?.ip())
    };
    route().ok().filter(|ip| !ip.is_unspecified())
}

/// Whether an address is one of the machine's. One that cannot be asked has it still.
pub(crate) fn has_address(address: IpAddr) -> bool {
    let Ok(mut interfaces) = nix::ifaddrs::getifaddrs() else {
        return true;
    };
    interfaces.any(|interface| {
        interface.address.is_some_and(|own| match address {
            IpAddr::V4(address) => own.as_sockaddr_in().is_some_and(|own| own.ip() == address),
            IpAddr::V6(address) => own.as_sockaddr_in6().is_some_and(|own| own.ip() == address),
        })
    })
}

fn first_address() -> Option<IpAddr> {
    let addresses = nix::ifaddrs::getifaddrs().ok()?;
    let addresses = addresses.filter_map(|interface| {
        let address = interface.address?;
        Some(IpAddr::V4(address.as_sockaddr_in()?.ip()))
    });
    addresses.into_iter().find(|ip| !ip.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_machine_has_something_to_give() {
        let capacity = capacity(Path::new("/not/there/yet"), 110);
        assert_eq!(capacity["pods"], "110");
        assert_ne!(capacity["cpu"], "0");
        assert_ne!(capacity["memory"], "0Ki");
        assert!(capacity.contains_key("ephemeral-storage"));
    }

    #[test]
    fn lines_of_other_controllers_limit_nothing() {
        assert_eq!(cgroup_limit("3:cpu,cpuacct:/x"), None);
        assert_eq!(cgroup_limit("nonsense"), None);
    }
}

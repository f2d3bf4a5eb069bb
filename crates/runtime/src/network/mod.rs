//! The pods' network on this machine: one bridge an instance, a cable and an address a pod.
//!
//! A pod's network namespace is its shim's: it needs no name and no mount, and the kernel takes it back, with both ends of the
//! cable, when the last process in it ends.

mod forwarding;
mod link;

use std::fs::{self, File};
use std::io::Write as _;
use std::net::{IpAddr, Ipv4Addr, SocketAddrV4};
use std::path::Path;
use std::str::FromStr;
use std::sync::Arc;

use nix::fcntl::{Flock, FlockArg};
use nix::ifaddrs::getifaddrs;
use serde::{Deserialize, Serialize};

use crate::error::Context as _;
use crate::layout::Layout;
use crate::{Error, ErrorKind, HostPort, PodNetwork, Protocol, Result};

/// The machine's interfaces; who looks for free addresses locks it.
const INTERFACES: &str = "/sys/class/net";

/// A range of IPv4 addresses, `10.244.0.0/24`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Range {
    base: Ipv4Addr,
    prefix: u8,
}

impl Default for Range {
    /// `10.244.0.0/24`.
    fn default() -> Self {
        Range {
            base: Ipv4Addr::new(10, 244, 0, 0),
            prefix: 24,
        }
    }
}

impl Range {
    /// The bridge's address: the first of the range.
    pub fn gateway(&self) -> Ipv4Addr {
        Ipv4Addr::from_bits(self.base.to_bits() + 1)
    }

    /// Length of the prefix.
    pub fn prefix(&self) -> u8 {
        self.prefix
    }

    /// A range of 254 addresses below 10.244.0.0/16 that no interface uses: that of our own bridge if it stands, else the first.
    fn choose(interfaces: &[Interface], bridge: &str) -> Result<Range> {
        let Range { base, prefix } = Range::default();
        let ranges: Vec<Range> = (0..=u8::MAX)
            .map(|third| Range {
                base: Ipv4Addr::from_bits(base.to_bits() | u32::from(third) << 8),
                prefix,
            })
            .collect();
        let own = |range: &&Range| {
            let mut interfaces = interfaces.iter();
            interfaces.any(|interface| interface.name == bridge && interface.address == range.gateway())
        };
        let free = |range: &&Range| !interfaces.iter().any(|interface| interface.overlaps(**range));
        let chosen = ranges.iter().find(own).or_else(|| ranges.iter().find(free));
        chosen.copied().ok_or_else(|| {
            Error::new(
                ErrorKind::AddressesExhausted,
                "no range below 10.244.0.0/16 is free on this machine: name one for the pods",
            )
        })
    }

    fn mask(&self) -> u32 {
        u32::MAX << (32 - self.prefix)
    }

    fn overlaps(&self, address: Ipv4Addr, mask: u32) -> bool {
        let common = self.mask() & mask;
        self.base.to_bits() & common == address.to_bits() & common
    }

    /// Addresses for pods: neither the network's, nor the bridge's, nor the broadcast one.
    fn pods(&self) -> impl Iterator<Item = Ipv4Addr> {
        let size = 1u32 << (32 - self.prefix);
        let base = self.base.to_bits();
        (2..size - 1).map(move |offset| Ipv4Addr::from_bits(base + offset))
    }
}

impl FromStr for Range {
    type Err = Error;

    fn from_str(text: &str) -> Result<Range> {
        let parsed = text.split_once('/').and_then(|(base, prefix)| {
            let base: Ipv4Addr = base.parse().ok()?;
            let prefix: u8 = prefix.parse().ok().filter(|prefix| (8..=29).contains(prefix))?;
            let mask = u32::MAX << (32 - prefix);
            Some(Range {
                base: Ipv4Addr::from_bits(base.to_bits() & mask),
                prefix,
            })
        });
        parsed.ok_or_else(|| {
            Error::invalid(format!(
                "pod range {text:?}: want an IPv4 network of /8 to /29, such as 10.244.0.0/24"
            ))
        })
    }
}

impl TryFrom<String> for Range {
    type Error = Error;

    fn try_from(text: String) -> Result<Range> {
        text.parse()
    }
}

impl From<Range> for String {
    fn from(range: Range) -> String {
        range.to_string()
    }
}

impl std::fmt::Display for Range {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.base, self.prefix)
    }
}

/// An address at which this machine's pods reach another one, such as a Service's. Nobody else is redirected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Redirect {
    /// What is redirected.
    pub protocol: Protocol,
    /// The address that pods speak to.
    pub from: SocketAddrV4,
    /// Where what they send goes. It may be a loopback address of this machine, of which pods then reach this one port.
    pub to: SocketAddrV4,
}

/// The network of one data directory.
#[derive(Clone, Debug)]
pub(crate) struct Network {
    layout: Arc<Layout>,
    range: Range,
    redirects: Vec<Redirect>,
}

/// The ports of a living pod, for putting the rules in order again.
pub(crate) struct Forward<'a> {
    pub(crate) address: IpAddr,
    pub(crate) ports: &'a [HostPort],
}

impl Network {
    /// Makes the bridge, or puts an existing one in order. Without a range, one that is free is chosen; one that another
    /// interface uses is refused, because traffic for it would go astray.
    pub(crate) fn open(
        layout: Arc<Layout>,
        range: Option<Range>,
        redirects: Vec<Redirect>,
    ) -> Result<Network> {
        let bridge = layout.bridge();
        // Another instance that starts at this moment waits until our addresses can be seen.
        let claim = File::open(INTERFACES).context(|| format!("open {INTERFACES}"))?;
        let claim = Flock::lock(claim, FlockArg::LockExclusive)
            .map_err(|(_, error)| Error::machine(format!("lock {INTERFACES}: {error}")))?;
        let interfaces = interfaces()?;
        let range = match range {
            Some(range) => range,
            None => Range::choose(&interfaces, &bridge)?,
        };
        if let Some(holder) = holder(&interfaces, range, &bridge) {
            return Err(Error::invalid(format!(
                "pod range {range}: interface {holder} has addresses of it; choose another one"
            )));
        }
        link::ensure_bridge(&bridge, range)?;
        drop(claim);
        Ok(Network {
            layout,
            range,
            redirects,
        })
    }

    /// Makes the rules; those of living pods are part of the same change.
    pub(crate) fn ensure(&self, living: &[Forward<'_>]) -> Result<()> {
        let folder = self.layout.addresses();
        fs::create_dir_all(&folder).context(|| format!("create {}", folder.display()))?;
        let bridge = self.layout.bridge();
        write_sysctl("net/ipv4/ip_forward", "1")?;
        // Lets the machine itself reach host ports through 127.0.0.1, and redirects lead there; the rules keep pods from
        // reaching anything else in that way.
        write_sysctl(&format!("net/ipv4/conf/{bridge}/route_localnet"), "1")?;
        forwarding::apply(&forwarding::table(
            &self.layout.name(),
            &bridge,
            self.range,
            &self.redirects,
            living,
        ))
    }

    /// Gives a pod an address that no other pod holds; the file that says so goes with [`Network::release`].
    pub(crate) fn allocate(&self, pod: &str) -> Result<PodNetwork> {
        let folder = self.layout.addresses();
        for address in self.range.pods() {
            let path = folder.join(address.to_string());
            match File::options().write(true).create_new(true).open(&path) {
                Ok(mut file) => {
                    file.write_all(pod.as_bytes())
                        .context(|| format!("write {}", path.display()))?;
                    return Ok(PodNetwork {
                        address: IpAddr::V4(address),
                        gateway: IpAddr::V4(self.range.gateway()),
                        prefix: self.range.prefix(),
                    });
                }
                Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {}
                Err(error) => return Err(Error::machine(format!("create {}: {error}", path.display()))),
            }
        }
        Err(Error::new(
            ErrorKind::AddressesExhausted,
            format!("no address is left in the pod range {}", self.range),
        ))
    }

    /// Lays the cable into the namespace of a process and sets up the pod's end.
    pub(crate) fn attach(&self, pod: &str, network: &PodNetwork, pid: u32) -> Result<()> {
        link::attach(&self.layout.cable(pod), &self.layout.bridge(), network, pid)
    }

    /// Forwards a pod's host ports, all or none.
    pub(crate) fn forward(&self, forward: &Forward<'_>) -> Result<()> {
        if forward.ports.is_empty() {
            return Ok(());
        }
        forwarding::apply(&forwarding::add(&self.layout.name(), forward)).map_err(|error| {
            Error::new(
                error.kind,
                format!(
                    "forward host ports {}: {}",
                    forwarding::names(forward.ports),
                    error.message
                ),
            )
        })
    }

    /// Takes a pod's host ports back.
    pub(crate) fn unforward(&self, ports: &[HostPort]) -> Result<()> {
        if ports.is_empty() {
            return Ok(());
        }
        forwarding::apply(&forwarding::remove(&self.layout.name(), ports))
    }

    /// Removes a pod's cable and frees its address.
    pub(crate) fn release(&self, pod: &str) -> Result<()> {
        link::remove(&self.layout.cable(pod))?;
        let folder = self.layout.addresses();
        let Ok(entries) = fs::read_dir(&folder) else {
            return Ok(());
        };
        for entry in entries.flatten() {
            if fs::read(entry.path()).is_ok_and(|holder| holder == pod.as_bytes()) {
                fs::remove_file(entry.path()).context(|| format!("remove {}", entry.path().display()))?;
            }
        }
        Ok(())
    }

    /// Removes the bridge and the rules.
    pub(crate) fn tear_down(&self) -> Result<()> {
        link::remove(&self.layout.bridge())?;
        forwarding::apply(&forwarding::drop_table(&self.layout.name()))
    }
}

/// An IPv4 address of a network interface and what else lies behind it.
struct Interface {
    name: String,
    address: Ipv4Addr,
    mask: u32,
}

impl Interface {
    fn overlaps(&self, range: Range) -> bool {
        range.overlaps(self.address, self.mask)
    }
}

fn interfaces() -> Result<Vec<Interface>> {
    let all = getifaddrs().context(|| "list the network interfaces")?;
    let ipv4 = all.filter_map(|interface| {
        Some(Interface {
            address: interface.address?.as_sockaddr_in()?.ip(),
            mask: interface.netmask?.as_sockaddr_in()?.ip().to_bits(),
            name: interface.interface_name,
        })
    });
    Ok(ipv4.collect())
}

/// The interface, other than our own bridge, whose network shares addresses with a range.
fn holder<'a>(interfaces: &'a [Interface], range: Range, own: &str) -> Option<&'a str> {
    let mut others = interfaces.iter().filter(|interface| interface.name != own);
    let found = others.find(|interface| interface.overlaps(range));
    found.map(|interface| interface.name.as_str())
}

fn write_sysctl(name: &str, value: &str) -> Result<()> {
    let path = Path::new("/proc/sys").join(name);
    if fs::read_to_string(&path).is_ok_and(|current| current.trim() == value) {
        return Ok(());
    }
    fs::write(&path, value).context(|| format!("set {} to {value}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_range_gives_its_hosts() {
        let range: Range = "10.1.2.77/29".parse().unwrap();
        assert_eq!(range.to_string(), "10.1.2.72/29");
        assert_eq!(range.gateway(), Ipv4Addr::new(10, 1, 2, 73));
        let pods: Vec<String> = range.pods().map(|address| address.to_string()).collect();
        assert_eq!(
            pods,
            ["10.1.2.74", "10.1.2.75", "10.1.2.76", "10.1.2.77", "10.1.2.78"]
        );
    }

    #[test]
    fn a_range_overlaps_what_shares_an_address_with_it() {
        let range: Range = "10.1.2.0/24".parse().unwrap();
        let overlaps =
            |address: [u8; 4], prefix: u32| range.overlaps(address.into(), u32::MAX << (32 - prefix));
        assert!(overlaps([10, 1, 2, 77], 32) && overlaps([10, 1, 2, 1], 28) && overlaps([10, 9, 9, 9], 8));
        assert!(!overlaps([10, 1, 3, 1], 24) && !overlaps([10, 1, 1, 255], 32));
    }

    #[test]
    fn a_range_is_chosen_that_no_interface_has_and_a_bridge_keeps_its_own() {
        let interface = |name: &str, address: [u8; 4], prefix: u32| Interface {
            name: name.into(),
            address: address.into(),
            mask: u32::MAX << (32 - prefix),
        };
        let machine = [
            interface("eth0", [192, 0, 2, 2], 24),
            interface("en-1", [10, 244, 0, 1], 24),
            interface("en-2", [10, 244, 1, 1], 24),
        ];
        let choose = |bridge: &str| Range::choose(&machine, bridge).unwrap().to_string();
        assert_eq!(choose("en-2"), "10.244.1.0/24");
        assert_eq!(choose("en-3"), "10.244.2.0/24");
        let holder = |range: &str, own: &str| holder(&machine, range.parse().unwrap(), own);
        assert_eq!(holder("192.0.2.128/25", "en-3"), Some("eth0"));
        assert_eq!(holder("10.244.0.0/24", "en-1"), None);
        let all = [interface("vpn", [10, 1, 1, 1], 8)];
        assert!(Range::choose(&all, "en-1").is_err());
    }

    #[test]
    fn odd_ranges_are_refused() {
        for text in ["", "10.0.0.0", "10.0.0.0/30", "10.0.0.0/7", "::/64", "a/24"] {
            assert!(text.parse::<Range>().is_err(), "{text:?}");
        }
    }
}

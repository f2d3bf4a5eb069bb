//! The pods' network on this machine: one bridge an instance, a cable and an address a pod.
//!
//! A pod's network namespace is its shim's: it needs no name and no mount, and the kernel takes it back, with both ends of the
//! cable, when the last process in it ends.

mod forwarding;
mod link;

use std::fs::{self, File};
use std::io::Write as _;
use std::net::{IpAddr, Ipv4Addr};
use std::path::Path;
use std::str::FromStr;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::error::Context as _;
use crate::layout::Layout;
use crate::{Error, ErrorKind, HostPort, PodNetwork, Result};

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

/// The network of one data directory.
#[derive(Clone, Debug)]
pub(crate) struct Network {
    layout: Arc<Layout>,
    range: Range,
}

/// The ports of a living pod, for putting the rules in order again.
pub(crate) struct Forward<'a> {
    pub(crate) address: IpAddr,
    pub(crate) ports: &'a [HostPort],
}

impl Network {
    pub(crate) fn new(layout: Arc<Layout>, range: Range) -> Network {
        Network { layout, range }
    }

    /// Makes the bridge and the rules; those of living pods are part of the same change.
    pub(crate) fn ensure(&self, living: &[Forward<'_>]) -> Result<()> {
        let folder = self.layout.addresses();
        fs::create_dir_all(&folder).context(|| format!("create {}", folder.display()))?;
        let bridge = self.layout.bridge();
        link::ensure_bridge(&bridge, self.range)?;
        write_sysctl("net/ipv4/ip_forward", "1")?;
        // Lets the machine itself reach host ports through 127.0.0.1; the rules keep pods from reaching in that way.
        write_sysctl(&format!("net/ipv4/conf/{bridge}/route_localnet"), "1")?;
        forwarding::apply(&forwarding::table(
            &self.layout.name(),
            &bridge,
            self.range,
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
    fn odd_ranges_are_refused() {
        for text in ["", "10.0.0.0", "10.0.0.0/30", "10.0.0.0/7", "::/64", "a/24"] {
            assert!(text.parse::<Range>().is_err(), "{text:?}");
        }
    }
}

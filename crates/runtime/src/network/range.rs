//! Ranges of pod addresses, and the search for a free one on this machine.

use std::net::IpAddr;
use std::str::FromStr;

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use nix::ifaddrs::getifaddrs;
use serde::{Deserialize, Serialize};

use crate::error::Context as _;
use crate::{Error, ErrorKind, Result};

/// Number of addresses that are tried for a pod in one range. More than the pods of a node; bounds
/// the search in a large range.
const LOOKED_AT: u128 = 1 << 16;

/// Number of parts of a cluster's range that are tried.
const PARTS: u32 = 1 << 16;

/// Range of pod addresses of one node, such as `10.244.0.0/24` or `fd00:10:244::/64`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Range(IpNet);

impl Range {
    /// Returns the bridge's address: the first after the base address.
    pub fn gateway(&self) -> IpAddr {
        self.at(1)
    }

    /// Returns the base address, which no pod gets.
    pub fn base(&self) -> IpAddr {
        self.0.network()
    }

    /// Returns the prefix length.
    pub fn prefix(&self) -> u8 {
        self.0.prefix_len()
    }

    /// Returns the range as a network.
    pub fn net(&self) -> IpNet {
        self.0
    }

    /// Returns whether its addresses are IPv4.
    pub fn is_ipv4(&self) -> bool {
        self.0.addr().is_ipv4()
    }

    /// Returns whether two ranges have an address in common.
    pub fn overlaps(&self, other: &IpNet) -> bool {
        self.0.contains(&other.addr()) || other.contains(&self.0.addr())
    }

    fn at(&self, offset: u128) -> IpAddr {
        match self.0.network() {
            IpAddr::V4(base) => {
                let offset = u32::try_from(offset).unwrap_or(u32::MAX);
                IpAddr::V4(base.to_bits().saturating_add(offset).into())
            }
            IpAddr::V6(base) => IpAddr::V6(base.to_bits().saturating_add(offset).into()),
        }
    }

    /// Returns the addresses for pods, starting with the `first`-th and going around the range.
    /// Leaves out the base address, the bridge's and the broadcast address.
    pub(super) fn pods(&self, first: u128) -> impl Iterator<Item = (u128, IpAddr)> {
        let bits = u32::from(self.0.max_prefix_len() - self.0.prefix_len());
        let size = 1u128.checked_shl(bits).unwrap_or(u128::MAX);
        let count = (size - 3).min(LOOKED_AT);
        let range = *self;
        (0..count).map(move |step| {
            let index = (first + step) % count;
            (index, range.at(index + 2))
        })
    }
}

impl FromStr for Range {
    type Err = Error;

    fn from_str(text: &str) -> Result<Range> {
        let parsed = text.parse::<IpNet>().ok().filter(|net| match net {
            IpNet::V4(net) => (8..=29).contains(&net.prefix_len()),
            IpNet::V6(net) => (16..=120).contains(&net.prefix_len()),
        });
        parsed.map(|net| Range(net.trunc())).ok_or_else(|| {
            Error::invalid(format!(
                "pod range {text:?}: want an IPv4 network of /8 to /29 or an IPv6 one of /16 to /120, such as 10.244.0.0/24"
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
        self.0.fmt(f)
    }
}

/// Configuration of a node's pod ranges.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ranges {
    /// These ranges, at most one of each family.
    Given(Vec<Range>),
    /// One free part of each of these ranges, `(whole, prefix length of a part)`. A free part is
    /// used by no interface of this machine and is not in `except`. The previous part of this data
    /// directory is preferred.
    Free {
        /// The ranges to search.
        of: Vec<(IpNet, u8)>,
        /// Ranges of others.
        except: Vec<IpNet>,
    },
}

impl Default for Ranges {
    /// A /24 of 10.244.0.0/16.
    fn default() -> Self {
        let whole = Ipv4Net::new_assert([10, 244, 0, 0].into(), 16);
        Ranges::Free {
            of: vec![(whole.into(), 24)],
            except: Vec::new(),
        }
    }
}

impl Ranges {
    /// Returns the ranges. Refuses one that overlaps with the addresses of another interface,
    /// because its packets would go to the wrong interface.
    pub(super) fn choose(
        &self,
        interfaces: &[Interface],
        own: &[&str],
        before: &[Range],
    ) -> Result<Vec<Range>> {
        let chosen = match self {
            Ranges::Given(ranges) => ranges.clone(),
            Ranges::Free { of, except } => of
                .iter()
                .map(|(whole, prefix)| free(*whole, *prefix, except, interfaces, own, before))
                .collect::<Result<_>>()?,
        };
        let one_each = chosen.iter().filter(|range| range.is_ipv4()).count() <= 1
            && chosen.iter().filter(|range| !range.is_ipv4()).count() <= 1;
        if chosen.is_empty() || !one_each {
            return Err(Error::invalid(
                "a node has one pod range of each family, or of one",
            ));
        }
        for range in &chosen {
            if let Some(holder) = holder(interfaces, range, own) {
                return Err(Error::invalid(format!(
                    "pod range {range}: interface {holder} has addresses of it; choose another one"
                )));
            }
        }
        Ok(chosen)
    }
}

fn free(
    whole: IpNet,
    prefix: u8,
    except: &[IpNet],
    interfaces: &[Interface],
    own: &[&str],
    before: &[Range],
) -> Result<Range> {
    let may = |range: &Range| {
        holder(interfaces, range, own).is_none() && !except.iter().any(|taken| range.overlaps(taken))
    };
    let had = before
        .iter()
        .find(|range| range.prefix() == prefix && whole.contains(&range.net()) && may(range));
    if let Some(had) = had {
        return Ok(*had);
    }
    let parts = parts(whole, prefix).take(PARTS as usize).map(Range);
    parts.into_iter().find(may).ok_or_else(|| {
        Error::new(
            ErrorKind::AddressesExhausted,
            format!("no range below {whole} is free on this machine: name one for the pods"),
        )
    })
}

/// Returns the parts of a range in order; none if the prefix does not fit.
fn parts(whole: IpNet, prefix: u8) -> Box<dyn Iterator<Item = IpNet>> {
    match whole {
        IpNet::V4(whole) => match whole.subnets(prefix) {
            Ok(parts) => Box::new(parts.map(IpNet::V4)),
            Err(_) => Box::new(std::iter::empty()),
        },
        IpNet::V6(whole) => match whole.subnets(prefix) {
            Ok(parts) => Box::new(parts.map(IpNet::V6)),
            Err(_) => Box::new(std::iter::empty()),
        },
    }
}

/// Address of a network interface, and the network behind it.
pub(super) struct Interface {
    pub(super) name: String,
    pub(super) net: IpNet,
}

pub(super) fn interfaces() -> Result<Vec<Interface>> {
    let all = getifaddrs().context(|| "list the network interfaces")?;
    let addressed = all.filter_map(|interface| {
        let (address, mask) = (interface.address?, interface.netmask?);
        let net = match (address.as_sockaddr_in(), mask.as_sockaddr_in()) {
            (Some(address), Some(mask)) => IpNet::V4(Ipv4Net::with_netmask(address.ip(), mask.ip()).ok()?),
            _ => {
                let (address, mask) = (address.as_sockaddr_in6()?, mask.as_sockaddr_in6()?);
                IpNet::V6(Ipv6Net::with_netmask(address.ip(), mask.ip()).ok()?)
            }
        };
        Some(Interface {
            name: interface.interface_name,
            net,
        })
    });
    Ok(addressed.collect())
}

/// Returns the interface, except our own, whose network overlaps with a range.
fn holder<'a>(interfaces: &'a [Interface], range: &Range, own: &[&str]) -> Option<&'a str> {
    let mut others = interfaces
        .iter()
        .filter(|interface| !own.contains(&interface.name.as_str()));
    let found = others.find(|interface| range.overlaps(&interface.net));
    found.map(|interface| interface.name.as_str())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn range(text: &str) -> Range {
        text.parse().unwrap()
    }

    #[test]
    fn a_range_gives_its_hosts_round_from_any_of_them() {
        let range = range("10.1.2.77/29");
        assert_eq!(range.to_string(), "10.1.2.72/29");
        assert_eq!(range.gateway().to_string(), "10.1.2.73");
        let pods = |first| -> Vec<String> {
            range
                .pods(first)
                .map(|(_, address)| address.to_string())
                .collect()
        };
        assert_eq!(
            pods(0),
            ["10.1.2.74", "10.1.2.75", "10.1.2.76", "10.1.2.77", "10.1.2.78"]
        );
        assert_eq!(
            pods(3),
            ["10.1.2.77", "10.1.2.78", "10.1.2.74", "10.1.2.75", "10.1.2.76"]
        );
    }

    #[test]
    fn an_ipv6_range_is_as_good() {
        let range = range("fd00:10:244:7::/64");
        assert_eq!(range.gateway().to_string(), "fd00:10:244:7::1");
        assert_eq!(range.pods(0).next().unwrap().1.to_string(), "fd00:10:244:7::2");
        assert_eq!(range.pods(0).count() as u128, LOOKED_AT);
    }

    #[test]
    fn a_range_overlaps_what_shares_an_address_with_it() {
        let range = range("10.1.2.0/24");
        let overlaps = |other: &str| range.overlaps(&other.parse().unwrap());
        assert!(overlaps("10.1.2.77/32") && overlaps("10.1.2.1/28") && overlaps("10.9.9.9/8"));
        assert!(!overlaps("10.1.3.1/24") && !overlaps("10.1.1.255/32") && !overlaps("fd00::1/8"));
    }

    fn machine() -> [Interface; 3] {
        [
            ("eth0", "192.0.2.2/24"),
            ("pods-1", "10.244.0.1/24"),
            ("pods-2", "10.244.1.1/24"),
        ]
        .map(|(name, net)| Interface {
            name: name.into(),
            net: net.parse().unwrap(),
        })
    }

    #[test]
    fn a_range_is_chosen_that_nobody_has_and_an_instance_keeps_its_own() {
        let choose = |own: &str, before: &[Range], except: &str| {
            let ranges = Ranges::Free {
                of: vec![("10.244.0.0/16".parse().unwrap(), 24)],
                except: vec![except.parse().unwrap()],
            };
            ranges.choose(&machine(), &[own], before).unwrap()[0].to_string()
        };
        let before = [range("10.244.1.0/24")];
        assert_eq!(choose("pods-2", &before, "10.9.0.0/24"), "10.244.1.0/24");
        assert_eq!(choose("pods-3", &[], "10.9.0.0/24"), "10.244.2.0/24");
        assert_eq!(choose("pods-3", &before, "10.244.2.0/24"), "10.244.3.0/24");
        let all = [Interface {
            name: "vpn".into(),
            net: "10.1.1.1/8".parse().unwrap(),
        }];
        assert!(Ranges::default().choose(&all, &["pods-1"], &[]).is_err());
    }

    #[test]
    fn a_given_range_that_an_interface_uses_is_refused_by_that_interface_s_name() {
        let choose = |ranges: &[&str], own: &str| {
            let ranges = Ranges::Given(ranges.iter().map(|text| range(text)).collect());
            ranges
                .choose(&machine(), &[own], &[])
                .map_err(|error| error.message)
        };
        let refused = choose(&["192.0.2.128/25"], "pods-3").unwrap_err();
        assert!(
            refused.contains("interface eth0 has addresses of it"),
            "{refused}"
        );
        assert!(choose(&["10.244.0.0/24", "fd00::/64"], "pods-1").is_ok());
        assert!(choose(&["10.9.0.0/24", "10.8.0.0/24"], "pods-1").is_err());
        assert!(choose(&[], "pods-1").is_err());
    }

    #[test]
    fn odd_ranges_are_refused() {
        for text in [
            "",
            "10.0.0.0",
            "10.0.0.0/30",
            "10.0.0.0/7",
            "::/8",
            "fd00::/121",
            "a/24",
        ] {
            assert!(text.parse::<Range>().is_err(), "{text:?}");
        }
    }
}

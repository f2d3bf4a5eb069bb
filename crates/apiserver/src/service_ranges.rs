//! Address ranges of Services: one range, or one of each IP family.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use api::view::IpFamily;
use ipnet::IpNet;

/// Address ranges of Services, at most one of each family, the primary one first.
///
/// The first address of the primary range belongs to the Service `kubernetes`, and the tenth of
/// each range to the Service `kube-dns`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServiceRanges(Vec<IpNet>);

/// Why ranges cannot be used for Services.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ServiceRangesError {
    /// No range is given.
    #[error("--service-cluster-ip-range must contain at least one valid cidr")]
    None,
    /// More than two ranges are given.
    #[error("--service-cluster-ip-range must not contain more than two entries")]
    TooMany,
    /// The text is not a CIDR.
    #[error("--service-cluster-ip-range: invalid CIDR address: {0}")]
    Malformed(String),
    /// Both ranges are of the same family.
    #[error("--service-cluster-ip-range[0] and --service-cluster-ip-range[1] must be of different IP family")]
    OneFamily,
    /// A range has more than 2^20 addresses, the limit of Kubernetes.
    #[error(
        "specified --service-cluster-ip-range[{index}] is too large; for {bits}-bit addresses, the mask must be >= {least}"
    )]
    TooLarge {
        /// Index of the range.
        index: usize,
        /// Bits of an address of its family.
        bits: u8,
        /// The shortest prefix that is allowed.
        least: u8,
    },
    /// A range has no room for the well-known addresses.
    #[error(
        "--service-cluster-ip-range[{0}]: the service cluster IP range must be at least 16 IP addresses: the tenth is the cluster's DNS"
    )]
    TooSmall(usize),
}

/// Limits on the number of host bits of a range.
const HOST_BITS_MAX: u8 = 20;
const HOST_BITS_MIN: u8 = 4;
/// Offset of the Service `kubernetes`.
const KUBERNETES: u32 = 1;
/// Offset of the Service `kube-dns`, as in Kubernetes' own installers.
const DNS: u32 = 10;

impl ServiceRanges {
    /// Checks the ranges, the primary one first, and clears their host bits.
    ///
    /// # Errors
    ///
    /// The ranges that kube-apiserver refuses, with its messages, and ranges too small for the
    /// well-known addresses.
    pub fn new(ranges: &[IpNet]) -> Result<ServiceRanges, ServiceRangesError> {
        for (index, range) in ranges.iter().enumerate() {
            let host_bits = range.max_prefix_len() - range.prefix_len();
            if host_bits > HOST_BITS_MAX {
                return Err(ServiceRangesError::TooLarge {
                    index,
                    bits: range.max_prefix_len(),
                    least: range.max_prefix_len() - HOST_BITS_MAX,
                });
            }
            if host_bits < HOST_BITS_MIN {
                return Err(ServiceRangesError::TooSmall(index));
            }
        }
        match ranges {
            [] => Err(ServiceRangesError::None),
            [one, other] if one.addr().is_ipv4() == other.addr().is_ipv4() => {
                Err(ServiceRangesError::OneFamily)
            }
            [_] | [_, _] => Ok(ServiceRanges(ranges.iter().map(IpNet::trunc).collect())),
            _ => Err(ServiceRangesError::TooMany),
        }
    }

    /// Returns the default ranges of these families: `10.96.0.0/12` and `fd00:10:96::/112`. Without
    /// a family, returns the IPv4 range.
    pub fn usual(families: &[IpFamily]) -> ServiceRanges {
        let usual = |family: &IpFamily| match family {
            IpFamily::V4 => IpNet::from(ipnet::Ipv4Net::new_assert([10, 96, 0, 0].into(), 12)),
            IpFamily::V6 => IpNet::from(ipnet::Ipv6Net::new_assert(
                [0xfd00, 0x10, 0x96, 0, 0, 0, 0, 0].into(),
                112,
            )),
        };
        match families {
            [] => ServiceRanges(vec![usual(&IpFamily::V4)]),
            families => ServiceRanges(families.iter().map(usual).collect()),
        }
    }

    /// Iterates over the ranges, the primary one first.
    pub fn iter(&self) -> impl Iterator<Item = &IpNet> {
        self.0.iter()
    }

    /// Returns the families of the ranges, the primary one first.
    pub fn families(&self) -> Vec<IpFamily> {
        self.0.iter().map(|range| IpFamily::of(range.addr())).collect()
    }

    /// Returns the range of a family.
    pub fn of(&self, family: IpFamily) -> Option<&IpNet> {
        self.0.iter().find(|range| IpFamily::of(range.addr()) == family)
    }

    /// Returns whether an address is in one of the ranges.
    pub fn contain(&self, address: IpAddr) -> bool {
        self.0.iter().any(|range| range.contains(&address))
    }

    /// Returns the address of the Service `kubernetes`.
    pub fn kubernetes(&self) -> IpAddr {
        address_at(&self.0[0], KUBERNETES)
    }

    /// Returns the addresses of the Service `kube-dns`, one of each range.
    pub fn dns(&self) -> Vec<IpAddr> {
        self.0.iter().map(|range| address_at(range, DNS)).collect()
    }
}

impl Default for ServiceRanges {
    fn default() -> Self {
        ServiceRanges::usual(&[])
    }
}

impl FromStr for ServiceRanges {
    type Err = ServiceRangesError;

    /// Parses ranges separated by commas.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let read = |part: &str| {
            let malformed = |_| ServiceRangesError::Malformed(part.to_owned());
            part.trim().parse().map_err(malformed)
        };
        let parts = text.split(',').filter(|part| !part.trim().is_empty());
        let ranges: Vec<IpNet> = parts.map(read).collect::<Result<_, _>>()?;
        ServiceRanges::new(&ranges)
    }
}

impl fmt::Display for ServiceRanges {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let texts: Vec<String> = self.0.iter().map(IpNet::to_string).collect();
        f.write_str(&texts.join(","))
    }
}

/// Returns the address at an offset of a range. The offset must be within it.
pub(crate) fn address_at(range: &IpNet, offset: u32) -> IpAddr {
    match range {
        IpNet::V4(range) => IpAddr::V4((u32::from(range.network()) | offset).into()),
        IpNet::V6(range) => IpAddr::V6((u128::from(range.network()) | u128::from(offset)).into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn service_ranges_are_one_of_each_family_of_an_allowed_size() {
        for (given, said) in [
            ("10.96.0.0/12", ""),
            ("10.96.0.0/12,fd00::/108", ""),
            ("fd00::/112,10.96.0.0/28", ""),
            ("", "must contain at least one valid cidr"),
            ("10.0.0.0", "invalid CIDR address: 10.0.0.0"),
            (
                "10.0.0.0/11",
                "range[0] is too large; for 32-bit addresses, the mask must be >= 12",
            ),
            (
                "10.0.0.0/12,fd00::/64",
                "range[1] is too large; for 128-bit addresses, the mask must be >= 108",
            ),
            ("10.0.0.0/29", "must be at least 16 IP addresses"),
            ("10.0.0.0/24,10.1.0.0/24", "must be of different IP family"),
            (
                "10.0.0.0/24,10.1.0.0/24,fd00::/112",
                "must not contain more than two entries",
            ),
        ] {
            let read = given.parse::<ServiceRanges>();
            match said {
                "" => assert!(read.is_ok(), "{given}: {read:?}"),
                said => {
                    let why = read.expect_err(given).to_string();
                    assert!(why.contains(said), "{given}: {why}");
                }
            }
        }
    }

    #[test]
    fn well_known_addresses_are_the_first_and_the_tenth() {
        let ranges: ServiceRanges = "fd00:1::7/112,10.7.0.0/16".parse().unwrap();
        assert_eq!(ranges.to_string(), "fd00:1::/112,10.7.0.0/16");
        assert_eq!(ranges.kubernetes().to_string(), "fd00:1::1");
        let dns: Vec<String> = ranges.dns().iter().map(IpAddr::to_string).collect();
        assert_eq!(dns, ["fd00:1::a", "10.7.0.10"]);
        let usual = ServiceRanges::usual(&[IpFamily::V4, IpFamily::V6]);
        assert_eq!(usual.to_string(), "10.96.0.0/12,fd00:10:96::/112");
        assert_eq!(ServiceRanges::default().kubernetes().to_string(), "10.96.0.1");
    }
}

//! Names and addresses of the server, for its certificate and for other machines.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, UdpSocket};

/// Returns the names and addresses for the server's certificate: those `given`, the usual names of
/// an API server, and the addresses at which it can be reached. `services` are the addresses of the
/// Service `kubernetes`.
pub(crate) fn certified(
    given: &[String],
    services: &[IpAddr],
    listen: IpAddr,
    advertised: IpAddr,
) -> BTreeSet<String> {
    let mut names: BTreeSet<String> = [
        "localhost",
        "kubernetes",
        "kubernetes.default",
        "kubernetes.default.svc",
        "kubernetes.default.svc.cluster.local",
    ]
    .into_iter()
    .map(str::to_owned)
    .collect();
    names.insert(IpAddr::V4(Ipv4Addr::LOCALHOST).to_string());
    names.insert(IpAddr::V6(Ipv6Addr::LOCALHOST).to_string());
    names.extend(services.iter().map(IpAddr::to_string));
    // Included even if the server listens only on loopback, because the endpoint of the Service
    // `kubernetes` has the machine's address.
    names.extend(outward_address().map(|address| address.to_string()));
    let reached = [listen, advertised]
        .into_iter()
        .filter(|address| !address.is_unspecified());
    names.extend(reached.map(|address| address.to_string()));
    if let Ok(host) = std::fs::read_to_string("/proc/sys/kernel/hostname") {
        let host = host.trim().to_ascii_lowercase();
        if !host.is_empty()
            && host
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.'))
        {
            names.insert(host);
        }
    }
    names.extend(given.iter().cloned());
    names
}

/// Returns the address at which other machines reach the server: the given one, or else the listen
/// address. If the server listens on all addresses, returns the address of the default route.
pub(crate) fn advertised(given: Option<IpAddr>, listen: IpAddr) -> IpAddr {
    match given {
        Some(address) => address,
        None if listen.is_unspecified() => outward_address().unwrap_or(match listen {
            IpAddr::V4(_) => IpAddr::V4(Ipv4Addr::LOCALHOST),
            IpAddr::V6(_) => IpAddr::V6(Ipv6Addr::LOCALHOST),
        }),
        None => listen,
    }
}

/// Returns the source address of this machine's default route. Sends no packet.
pub(crate) fn outward_address() -> Option<IpAddr> {
    let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).ok()?;
    // An address reserved for documentation is never on a local link, so it uses the default route.
    socket.connect((Ipv4Addr::new(192, 0, 2, 1), 9)).ok()?;
    let address = socket.local_addr().ok()?.ip();
    (!address.is_loopback() && !address.is_unspecified()).then_some(address)
}

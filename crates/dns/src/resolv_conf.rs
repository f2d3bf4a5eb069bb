//! The machine's resolver configuration.

use std::net::IpAddr;

/// Name servers of a file that are used: as many as the C library uses.
pub const NAME_SERVERS: usize = 3;

/// Content of a `resolv.conf`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ResolvConf {
    /// Addresses of name servers, as written.
    pub name_servers: Vec<String>,
    /// Search domains.
    pub searches: Vec<String>,
    /// Options, such as `ndots:1`.
    pub options: Vec<String>,
}

impl ResolvConf {
    /// Parses the text of a file; ignores unknown lines.
    pub fn parse(text: &str) -> ResolvConf {
        let mut resolver = ResolvConf::default();
        for line in text.lines() {
            let mut words = line.split_whitespace();
            let keyword = words.next().unwrap_or_default();
            let words = words.map(str::to_owned);
            match keyword {
                "nameserver" => resolver.name_servers.extend(words.take(1)),
                // The last line applies; `.` means no search domain.
                "search" | "domain" => resolver.searches = words.filter(|domain| domain != ".").collect(),
                "options" => resolver.options.extend(words),
                _ => {}
            }
        }
        resolver
    }

    /// Returns the first name servers. An IPv6 address with a zone (`fe80::1%eth0`) is ignored.
    pub fn addresses(&self) -> Vec<IpAddr> {
        let addresses = self.name_servers.iter().filter_map(|text| text.parse().ok());
        addresses.take(NAME_SERVERS).collect()
    }

    /// Returns whether every name server is a stub on loopback, so that only this machine can use
    /// it.
    pub fn only_loopback(&self) -> bool {
        let addresses = self.addresses();
        !addresses.is_empty() && addresses.iter().all(IpAddr::is_loopback)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_s_servers_searches_and_options_are_read() {
        let text = "# comment\nnameserver 9.9.9.9 # first\nnameserver fe80::1%eth0\nnameserver ::1\ndomain old\n\
                    search lan example.org .\noptions ndots:1 edns0\nsortlist x\n";
        let read = ResolvConf::parse(text);
        assert_eq!(
            read.addresses(),
            ["9.9.9.9", "::1"].map(|text| text.parse::<IpAddr>().unwrap())
        );
        assert_eq!(read.searches, ["lan", "example.org"]);
        assert_eq!(read.options, ["ndots:1", "edns0"]);
    }

    #[test]
    fn a_stub_on_loopback_is_known() {
        let only = |text: &str| ResolvConf::parse(text).only_loopback();
        assert!(only("nameserver 127.0.0.53\n") && only("nameserver ::1\nnameserver 127.0.0.1\n"));
        assert!(!only("nameserver 127.0.0.53\nnameserver 9.9.9.9\n") && !only(""));
    }
}

//! The machine's resolver configuration.

use std::net::IpAddr;

/// Name servers that are used of a file, as the C library does.
pub const NAME_SERVERS: usize = 3;

/// What a `resolv.conf` says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ResolvConf {
    /// Addresses of name servers, as they are written.
    pub name_servers: Vec<String>,
    /// Domains to be searched.
    pub searches: Vec<String>,
    /// Options, `ndots:1`.
    pub options: Vec<String>,
}

impl ResolvConf {
    /// Reads a file's text; what is unknown is left out.
    pub fn parse(text: &str) -> ResolvConf {
        let mut resolver = ResolvConf::default();
        for line in text.lines() {
            let mut words = line.split_whitespace();
            let keyword = words.next().unwrap_or_default();
            let words = words.map(str::to_owned);
            match keyword {
                "nameserver" => resolver.name_servers.extend(words.take(1)),
                // The last line counts; `.` searches nothing.
                "search" | "domain" => resolver.searches = words.filter(|domain| domain != ".").collect(),
                "options" => resolver.options.extend(words),
                _ => {}
            }
        }
        resolver
    }

    /// The first name servers; an IPv6 zone (`fe80::1%eth0`) is left out with its address.
    pub fn addresses(&self) -> Vec<IpAddr> {
        let addresses = self.name_servers.iter().filter_map(|text| text.parse().ok());
        addresses.take(NAME_SERVERS).collect()
    }

    /// Whether nobody but this machine itself can ask its name servers: each is a stub on loopback.
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

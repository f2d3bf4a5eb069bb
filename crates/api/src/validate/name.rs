//! Validation of names. Each check adds one sentence for each violated rule. A valid name costs one
//! pass over its bytes and no allocation.

macro_rules! regex {
    ($message:expr, $regex:expr) => { concat!($message, " (regex used for validation is '", $regex, "')") };
    ($message:expr, $regex:expr, $first:expr $(, $more:expr)*) => {
        concat!($message, " (e.g. '", $first, "', ", $(" or '", $more, "', ",)* "regex used for validation is '", $regex, "')")
    };
}

macro_rules! subdomain_message {
    () => {
        regex!(
            "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', \
             and must start and end with an alphanumeric character",
            "[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*",
            "example.com"
        )
    };
}

macro_rules! label_key_message {
    () => {
        regex!(
            "must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character",
            "([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]",
            "MyName",
            "my.name",
            "123-abc"
        )
    };
}

const LABEL_LENGTH: usize = 63;
const SUBDOMAIN_LENGTH: usize = 253;
const PORT_NAME_LENGTH: usize = 15;

fn lower_alphanumeric(byte: u8) -> bool {
    byte.is_ascii_lowercase() || byte.is_ascii_digit()
}

/// Returns whether all bytes pass `inner`, and the first and the last pass `outer`. False for an
/// empty text.
fn framed(text: &str, outer: fn(u8) -> bool, inner: fn(u8) -> bool) -> bool {
    match text.as_bytes() {
        [] => false,
        [only] => outer(*only),
        [first, middle @ .., last] => outer(*first) && outer(*last) && middle.iter().all(|byte| inner(*byte)),
    }
}

fn is_label(text: &str) -> bool {
    framed(text, lower_alphanumeric, |byte| {
        lower_alphanumeric(byte) || byte == b'-'
    })
}

fn is_subdomain(text: &str) -> bool {
    text.split('.').all(is_label)
}

fn is_label_name(text: &str) -> bool {
    framed(
        text,
        |byte| byte.is_ascii_alphanumeric(),
        |byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.'),
    )
}

/// Checks a DNS label of RFC 1123: the name of a Namespace, a container, a volume.
pub fn dns_label(text: &str, messages: &mut Vec<&'static str>) {
    if text.len() > LABEL_LENGTH {
        messages.push("must be no more than 63 characters");
    }
    if is_label(text) {
        return;
    }
    messages.push(if is_subdomain(text) {
        "must not contain dots"
    } else {
        regex!(
            "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', \
             and must start and end with an alphanumeric character",
            "[a-z0-9]([-a-z0-9]*[a-z0-9])?",
            "my-name",
            "123-abc"
        )
    });
}

/// Checks a DNS subdomain of RFC 1123: the name of most objects.
pub fn dns_subdomain(text: &str, messages: &mut Vec<&'static str>) {
    if text.len() > SUBDOMAIN_LENGTH {
        messages.push("must be no more than 253 characters");
    }
    if !is_subdomain(text) {
        messages.push(subdomain_message!());
    }
}

/// Checks a DNS search domain: a subdomain that may contain underscores.
pub(crate) fn dns_search(text: &str, messages: &mut Vec<&'static str>) {
    if text.len() > SUBDOMAIN_LENGTH {
        messages.push("must be no more than 253 characters");
    }
    let is_part = |part: &str| {
        framed(
            part.strip_prefix('_').unwrap_or(part),
            lower_alphanumeric,
            |byte| lower_alphanumeric(byte) || matches!(byte, b'-' | b'_'),
        )
    };
    if !text.split('.').all(is_part) {
        messages.push(regex!(
            "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-', '_' or '.', \
             and must start and end with an alphanumeric character",
            "_?[a-z0-9]([-_a-z0-9]*[a-z0-9])?(\\._?[a-z0-9]([-_a-z0-9]*[a-z0-9])?)*",
            "example.com"
        ));
    }
}

/// Checks a name that is one segment of a URL path: RBAC objects.
pub fn path_segment(text: &str, messages: &mut Vec<&'static str>) {
    match text {
        "." => messages.push("may not be '.'"),
        ".." => messages.push("may not be '..'"),
        _ => {
            if text.contains('/') {
                messages.push("may not contain '/'");
            }
            if text.contains('%') {
                messages.push("may not contain '%'");
            }
        }
    }
}

/// Checks a qualified name: the key of a label, the name of a resource, a finalizer.
pub fn qualified(text: &str, messages: &mut Vec<&'static str>) {
    let mut parts = text.split('/');
    let first = parts.next().unwrap_or_default();
    let name = match (parts.next(), parts.next()) {
        (None, _) => first,
        (Some(name), None) => {
            prefix(first, messages);
            name
        }
        (Some(_), Some(_)) => {
            messages.push(concat!(
                "a valid label key ",
                label_key_message!(),
                " with an optional DNS subdomain prefix and '/' (e.g. 'example.com/MyName')"
            ));
            return;
        }
    };
    if name.is_empty() {
        messages.push("name part must be non-empty");
    } else if name.len() > LABEL_LENGTH {
        messages.push("name part must be no more than 63 bytes");
    }
    if !is_label_name(name) {
        messages.push(concat!("name part ", label_key_message!()));
    }
}

fn prefix(text: &str, messages: &mut Vec<&'static str>) {
    if text.is_empty() {
        messages.push("prefix part must be non-empty");
        return;
    }
    if text.len() > SUBDOMAIN_LENGTH {
        messages.push("prefix part must be no more than 253 bytes");
    }
    if !is_subdomain(text) {
        messages.push(concat!("prefix part ", subdomain_message!()));
    }
}

/// Checks the value of a label.
pub fn label_value(text: &str, messages: &mut Vec<&'static str>) {
    if text.len() > LABEL_LENGTH {
        messages.push("must be no more than 63 bytes");
    }
    if !text.is_empty() && !is_label_name(text) {
        messages.push(regex!(
            "a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or '.', \
             and must start and end with an alphanumeric character",
            "(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?",
            "MyValue",
            "my_value",
            "12345"
        ));
    }
}

/// Checks the name of an environment variable: printable ASCII without `=`.
pub fn env_var(text: &str, messages: &mut Vec<&'static str>) {
    if text.is_empty() {
        messages.push("environment variable name must be non-empty");
    }
    if !text
        .bytes()
        .all(|byte| (b' '..=b'~').contains(&byte) && byte != b'=')
    {
        messages.push(
            "a valid environment variable name must consist only of printable ASCII characters other than '='",
        );
    }
}

/// Checks a key of a ConfigMap's or Secret's data, which is also a file name.
pub fn config_key(text: &str, messages: &mut Vec<&'static str>) {
    if text.len() > SUBDOMAIN_LENGTH {
        messages.push("must be no more than 253 characters");
    }
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
    if text.is_empty() || !text.bytes().all(allowed) {
        messages.push(regex!(
            "a valid config key must consist of alphanumeric characters, '-', '_' or '.'",
            "[-._a-zA-Z0-9]+",
            "key.name",
            "KEY_NAME",
            "key-name"
        ));
    }
    match text {
        "." => messages.push("must not be '.'"),
        ".." => messages.push("must not be '..'"),
        _ if text.starts_with("..") => messages.push("must not start with '..'"),
        _ => {}
    }
}

/// Checks the name of a port.
pub fn port_name(text: &str, messages: &mut Vec<&'static str>) {
    if text.len() > PORT_NAME_LENGTH {
        messages.push("must be no more than 15 characters");
    }
    if text.is_empty() || !text.bytes().all(|byte| lower_alphanumeric(byte) || byte == b'-') {
        messages.push("must contain only alpha-numeric characters (a-z, 0-9), and hyphens (-)");
    }
    if !text.bytes().any(|byte| byte.is_ascii_lowercase()) {
        messages.push("must contain at least one letter (a-z)");
    }
    if text.contains("--") {
        messages.push("must not contain consecutive hyphens");
    }
    if text.starts_with('-') || text.ends_with('-') {
        messages.push("must not begin or end with a hyphen");
    }
}

/// Checks the name of an HTTP header.
pub(crate) fn http_header(text: &str, messages: &mut Vec<&'static str>) {
    if text.is_empty()
        || !text
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
    {
        messages.push(regex!(
            "a valid HTTP header must consist of alphanumeric characters or '-'",
            "[-A-Za-z0-9]+",
            "X-Header-Name"
        ));
    }
}

/// Checks a percentage such as `10%`.
pub(crate) fn percent(text: &str, messages: &mut Vec<&'static str>) {
    let digits = text.strip_suffix('%').unwrap_or_default();
    if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        messages.push(regex!(
            "a valid percent string must be a numeric string followed by an ending '%'",
            "[0-9]+%",
            "1%",
            "93%"
        ));
    }
}

/// Checks an IP address of either family.
pub(crate) fn ip(text: &str, messages: &mut Vec<&'static str>) {
    if text.parse::<std::net::IpAddr>().is_err() {
        messages.push("must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)");
    }
}

/// Checks a network of either family: an address and the length of its prefix.
pub(crate) fn cidr(text: &str, messages: &mut Vec<&'static str>) {
    let is_cidr = text.split_once('/').is_some_and(|(address, bits)| {
        let width = address
            .parse()
            .map(|address: std::net::IpAddr| if address.is_ipv4() { 32 } else { 128 });
        width.is_ok_and(|width| bits.parse::<u8>().is_ok_and(|bits| bits <= width))
    });
    if !is_cidr {
        messages.push("must be a valid CIDR value, (e.g. 10.9.8.0/24 or 2001:db8::/64)");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    type Rule = fn(&str, &mut Vec<&'static str>);

    fn check(rule: Rule, text: &str) -> Vec<&'static str> {
        let mut messages = Vec::new();
        rule(text, &mut messages);
        messages
    }

    fn check_all(rule: Rule, good: &[&str], bad: &[&str]) {
        for text in good {
            assert_eq!(
                check(rule, text),
                Vec::<&str>::new(),
                "{text:?} should be allowed"
            );
        }
        for text in bad {
            assert!(!check(rule, text).is_empty(), "{text:?} should be rejected");
        }
    }

    #[test]
    fn dns_labels_are_lower_case_with_inner_dashes() {
        let long = "a".repeat(64);
        check_all(
            dns_label,
            &["a", "a1", "1-a", "a--b"],
            &["", "-a", "a-", "A", "a_b", "a.b", "é", &long],
        );
        assert_eq!(check(dns_label, "a.b"), ["must not contain dots"]);
        assert_eq!(
            check(dns_label, "A"),
            [
                "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start and end with an alphanumeric character (e.g. 'my-name',  or '123-abc', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?')"
            ]
        );
    }

    #[test]
    fn dns_subdomains_are_labels_joined_by_dots() {
        let long = "a".repeat(254);
        check_all(
            dns_subdomain,
            &["a", "a.b-c.d", "1.2"],
            &["", ".", "a..b", ".a", "a.", "a.-b", "A.b", &long],
        );
        assert_eq!(
            check(dns_subdomain, "_"),
            [
                "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and end with an alphanumeric character (e.g. 'example.com', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')"
            ]
        );
    }

    #[test]
    fn search_domains_may_contain_underscores() {
        let long = "a".repeat(254);
        check_all(
            dns_search,
            &["a", "example.com", "_tcp.example.com", "a_b.c"],
            &[
                "",
                ".",
                "a.",
                "a..b",
                "A",
                "a b",
                "a\nnameserver 192.0.2.1",
                "_",
                "a_",
                &long,
            ],
        );
    }

    #[test]
    fn qualified_names_have_at_most_one_prefix() {
        let long = format!("a/{}", "b".repeat(64));
        check_all(
            qualified,
            &["app", "App_1.x", "example.com/App", "kubernetes.io/os"],
            &["", "/", "a/", "/a", "a/b/c", "-a", "a-", "A.com/b", "a b", &long],
        );
        assert_eq!(check(qualified, "/a"), ["prefix part must be non-empty"]);
        assert_eq!(
            check(qualified, &long),
            ["name part must be no more than 63 bytes"]
        );
        assert_eq!(check(label_value, &long[2..]), ["must be no more than 63 bytes"]);
        assert_eq!(
            check(qualified, "-")[0],
            "name part must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for validation is '([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]')"
        );
    }

    #[test]
    fn other_names_must_be_well_formed() {
        check_all(label_value, &["", "a", "A_b.c-1"], &["-a", "a-", "a b", "a/b"]);
        check_all(env_var, &["A", "a b", "1.x"], &["", "A=B", "é", "a\n"]);
        check_all(
            config_key,
            &["a", "..x.".trim_start_matches('.'), "KEY_1.x"],
            &["", ".", "..", "..a", "a/b", "a b"],
        );
        check_all(
            port_name,
            &["http", "a", "1a-b"],
            &["", "1", "HTTP", "a--b", "-a", "a-", "abcdefghijklmnop"],
        );
        check_all(
            percent,
            &["0%", "10%", "007%"],
            &["", "%", "10", "-1%", "1.5%", "a%"],
        );
        check_all(path_segment, &["system:node", "A b"], &[".", "..", "a/b", "a%b"]);
        check_all(ip, &["10.0.0.1", "::1"], &["", "10.0.0", "10.0.0.256", "x"]);
        check_all(http_header, &["X-A"], &["", "a b", "a:"]);
    }

    proptest! {
        #[test]
        fn no_text_makes_a_rule_panic(text in "\\PC{0,80}") {
            let rules: [Rule; 11] = [dns_label, dns_subdomain, path_segment, qualified, label_value, env_var,
                config_key, port_name, http_header, percent, ip];
            for rule in rules {
                check(rule, &text);
            }
        }

        #[test]
        fn every_label_is_a_subdomain_a_value_and_a_key(text in "[a-z0-9]([-a-z0-9]{0,30}[a-z0-9])?") {
            for rule in [dns_label as Rule, dns_subdomain, label_value, qualified, config_key] {
                prop_assert!(check(rule, &text).is_empty());
            }
        }
    }
}

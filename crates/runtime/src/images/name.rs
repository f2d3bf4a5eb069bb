//! The names of images: `[registry/]repository[:tag][@digest]`, as the distribution specification has them.
//!
//! The library that pulls reads them, too, by a regular expression with a repetition of all letters of Unicode; compiled, it takes 20 MiB
//! of an agent's memory for as long as it runs.

use oci_client::Reference;

use crate::Error;

/// Whose images have no registry in their name.
const DEFAULT_REGISTRY: &str = "docker.io";
/// An older name of the same.
const LEGACY_REGISTRY: &str = "index.docker.io";
/// The folder of its images whose name has no folder.
const OFFICIAL: &str = "library";
/// The tag of a name with neither tag nor digest.
const DEFAULT_TAG: &str = "latest";
/// The longest repository and the longest tag.
const LONGEST: (usize, usize) = (255, 128);
/// The kinds of digest and how many hexadecimal digits each has.
const DIGESTS: [(&str, usize); 3] = [("sha256", 64), ("sha384", 96), ("sha512", 128)];

/// The whole form of an image's name: `busybox` is `docker.io/library/busybox:latest`.
pub fn normalize_name(name: &str) -> crate::Result<String> {
    Ok(parse_name(name)?.whole())
}

pub(super) fn parse_name(name: &str) -> crate::Result<Reference> {
    parse(name).map_err(|why| Error::invalid(format!("image name {name:?}: {why}")))
}

fn parse(text: &str) -> Result<Reference, &'static str> {
    const FORMAT: &str = "invalid reference format";
    if text.is_empty() {
        return Err("repository name must have at least one component");
    }
    let (rest, digest) = match text.split_once('@') {
        Some((rest, digest)) => (rest, Some(check_digest(digest)?)),
        None => (text, None),
    };
    // A colon before the last slash is that of the registry's port.
    let (path, tag) = match rest.rsplit_once(':') {
        Some((path, tag)) if !tag.contains('/') => (path, Some(tag)),
        _ => (rest, None),
    };
    if !tag.is_none_or(is_tag) {
        return Err("invalid tag format");
    }
    let (registry, repository) = match path.split_once('/') {
        Some((first, rest)) if is_registry(first) => (first, rest),
        _ => (DEFAULT_REGISTRY, path),
    };
    if !is_domain(registry) || !repository.split('/').all(is_component) {
        let is_case = repository.contains(|c: char| c.is_ascii_uppercase());
        return Err(if is_case {
            "repository name must be lowercase"
        } else {
            FORMAT
        });
    }
    let registry = if registry == LEGACY_REGISTRY {
        DEFAULT_REGISTRY
    } else {
        registry
    };
    let repository = match registry == DEFAULT_REGISTRY && !repository.contains('/') {
        true => format!("{OFFICIAL}/{repository}"),
        false => repository.to_owned(),
    };
    if repository.len() > LONGEST.0 {
        return Err("repository name must not be more than 255 characters");
    }
    let (registry, tag) = (registry.to_owned(), tag.map(str::to_owned));
    Ok(match (tag, digest.map(str::to_owned)) {
        (tag, None) => Reference::with_tag(
            registry,
            repository,
            tag.unwrap_or_else(|| DEFAULT_TAG.to_owned()),
        ),
        (None, Some(digest)) => Reference::with_digest(registry, repository, digest),
        (Some(tag), Some(digest)) => Reference::with_tag_and_digest(registry, repository, tag, digest),
    })
}

/// Whether what stands before the first slash is a registry, not a folder of the default one.
fn is_registry(first: &str) -> bool {
    first == "localhost" || first.contains(|c: char| matches!(c, '.' | ':') || c.is_ascii_uppercase())
}

/// `example.com:5000`
fn is_domain(text: &str) -> bool {
    let (host, port) = match text.split_once(':') {
        Some((host, port)) => (host, Some(port)),
        None => (text, None),
    };
    let is_port = |port: &str| !port.is_empty() && port.bytes().all(|digit| digit.is_ascii_digit());
    let is_label = |label: &str| {
        let is_inner = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-';
        !label.is_empty() && !label.starts_with('-') && !label.ends_with('-') && label.bytes().all(is_inner)
    };
    host.split('.').all(is_label) && port.is_none_or(is_port)
}

/// A part of a repository between slashes: small letters and digits, with a dot, one or two underscores or any number of dashes between
/// them.
fn is_component(text: &str) -> bool {
    let is_inner = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    let is_between =
        |between: &str| matches!(between, "" | "." | "_" | "__") || between.bytes().all(|byte| byte == b'-');
    let is_ended = |byte: Option<u8>| byte.is_some_and(is_inner);
    let mut betweens = text.split(|c: char| c.is_ascii_lowercase() || c.is_ascii_digit());
    is_ended(text.bytes().next()) && is_ended(text.bytes().last()) && betweens.all(is_between)
}

fn is_tag(text: &str) -> bool {
    let is_word = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
    let is_inner = |byte: u8| is_word(byte) || matches!(byte, b'.' | b'-');
    text.len() <= LONGEST.1 && text.bytes().next().is_some_and(is_word) && text.bytes().all(is_inner)
}

fn check_digest(text: &str) -> Result<&str, &'static str> {
    let (kind, digits) = text.split_once(':').ok_or("invalid checksum digest format")?;
    if digits.is_empty() || !digits.bytes().all(|digit| digit.is_ascii_hexdigit()) {
        return Err("invalid checksum digest format");
    }
    match DIGESTS.iter().find(|(known, _)| *known == kind) {
        None => Err("unsupported digest algorithm"),
        Some((_, length)) if digits.len() != *length => Err("invalid checksum digest length"),
        Some(_) => Ok(text),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_name_is_made_whole() {
        let hash = "f".repeat(64);
        let whole = [
            ("busybox", "docker.io/library/busybox:latest"),
            ("busybox:1.35", "docker.io/library/busybox:1.35"),
            ("test.com:5000", "docker.io/library/test.com:5000"),
            ("grafana/loki", "docker.io/grafana/loki:latest"),
            ("index.docker.io/busybox", "docker.io/library/busybox:latest"),
            ("test.com/repo:tag", "test.com/repo:tag"),
            ("localhost/a/b__c", "localhost/a/b__c:latest"),
            ("test:5000/repo", "test:5000/repo:latest"),
            ("Host/repo", "Host/repo:latest"),
            ("lower:Upper", "docker.io/library/lower:Upper"),
        ];
        for (name, whole) in whole {
            assert_eq!(normalize_name(name).ok().as_deref(), Some(whole), "{name}");
        }
        for name in ["a.io/b", "a.io/b:c"] {
            let name = format!("{name}@sha256:{hash}");
            assert_eq!(normalize_name(&name).ok(), Some(name));
        }
    }

    #[test]
    fn a_wrong_name_is_told_why() {
        let short = "f".repeat(63);
        let long = format!("{}/b", "a".repeat(255));
        let tag = format!("a:{}", "t".repeat(129));
        for (name, why) in [
            ("", "at least one component"),
            ("a/", "invalid reference format"),
            (":tag", "invalid reference format"),
            ("a..b", "invalid reference format"),
            ("a:b:c", "invalid reference format"),
            ("foo_bar.com/a", "invalid reference format"),
            ("aBc", "must be lowercase"),
            ("a/Bc", "must be lowercase"),
            ("a:", "invalid tag format"),
            ("a:.b", "invalid tag format"),
            (&tag, "invalid tag format"),
            (&long, "more than 255 characters"),
            ("a@sha256", "invalid checksum digest format"),
            ("a@md5:00", "unsupported digest algorithm"),
            (&format!("a@sha256:{short}"), "invalid checksum digest length"),
        ] {
            let error = normalize_name(name).expect_err(name).to_string();
            assert!(error.contains(why), "{name}: {error}");
        }
    }

    proptest! {
        /// The library's reading of the same grammar. It takes for a registry what has an underscore, which no host has.
        #[test]
        fn names_are_read_as_the_library_reads_them(name in "[ab0./_:-]{1,12}|[ab./]{1,6}:[aB.0_-]{1,4}") {
            let theirs: Option<Reference> = name.parse().ok();
            let theirs = theirs.filter(|read| !read.registry().contains('_'));
            prop_assert_eq!(parse(&name).ok(), theirs);
        }
    }
}

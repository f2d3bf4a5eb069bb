//! Image names: `[registry/]repository[:tag][@digest]`, as in the distribution specification.

use std::fmt;

use crate::Error;

/// Registry of names without a registry.
const DEFAULT_REGISTRY: &str = "docker.io";
/// Older name of the same registry.
const LEGACY_REGISTRY: &str = "index.docker.io";
/// Folder of its images whose name has no folder.
const OFFICIAL: &str = "library";
/// The tag of a name with neither tag nor digest.
const DEFAULT_TAG: &str = "latest";
/// Limits of a repository and of a tag in characters.
const LONGEST: (usize, usize) = (255, 128);
/// Algorithms of digests, with their number of hexadecimal digits.
const DIGESTS: [(&str, usize); 3] = [("sha256", 64), ("sha384", 96), ("sha512", 128)];

/// Host of the default registry.
const DEFAULT_REGISTRY_HOST: &str = "registry-1.docker.io";

/// A parsed image name. Its text is the full form.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Reference {
    registry: String,
    repository: String,
    /// `latest` when the name has neither tag nor digest.
    tag: Option<String>,
    digest: Option<String>,
}

impl Reference {
    /// Returns the registry's host, with its port unless it is the default.
    pub(super) fn host(&self) -> &str {
        match self.registry.as_str() {
            DEFAULT_REGISTRY => DEFAULT_REGISTRY_HOST,
            other => other,
        }
    }

    pub(super) fn repository(&self) -> &str {
        &self.repository
    }

    pub(super) fn digest(&self) -> Option<&str> {
        self.digest.as_deref()
    }

    /// Returns the version to request: the digest if the name has one, because a tag may move.
    pub(super) fn version(&self) -> &str {
        let tag = self.tag.as_deref().unwrap_or(DEFAULT_TAG);
        self.digest.as_deref().unwrap_or(tag)
    }

    /// Returns `registry/repository@digest`.
    pub(super) fn with_digest(&self, digest: &str) -> String {
        format!("{}/{}@{digest}", self.registry, self.repository)
    }

    /// Returns whether both names have the same repository.
    pub(super) fn shares_repository(&self, other: &Reference) -> bool {
        (&self.registry, &self.repository) == (&other.registry, &other.repository)
    }
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.registry, self.repository)?;
        if let Some(tag) = &self.tag {
            write!(f, ":{tag}")?;
        }
        match &self.digest {
            Some(digest) => write!(f, "@{digest}"),
            None => Ok(()),
        }
    }
}

/// Returns the full form of an image's name: `busybox` becomes `docker.io/library/busybox:latest`.
pub fn normalize_name(name: &str) -> crate::Result<String> {
    Ok(parse_name(name)?.to_string())
}

/// Returns the registry's host of an image's name, with its port unless it is the default.
pub fn registry_of(name: &str) -> crate::Result<String> {
    Ok(parse_name(name)?.host().to_owned())
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
    // A colon before the last slash belongs to the registry's port.
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
    let is_bare = tag.is_none() && digest.is_none();
    Ok(Reference {
        registry: registry.to_owned(),
        repository,
        tag: tag.or(is_bare.then_some(DEFAULT_TAG)).map(str::to_owned),
        digest: digest.map(str::to_owned),
    })
}

/// Returns whether the text before the first slash is a registry, not a folder of the default one.
fn is_registry(first: &str) -> bool {
    first == "localhost" || first.contains(|c: char| matches!(c, '.' | ':') || c.is_ascii_uppercase())
}

/// Returns whether the text is a host with an optional port, such as `example.com:5000`.
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

/// Returns whether the text is a valid part of a repository between slashes: lower-case letters and
/// digits, separated by a dot, one or two underscores or any number of dashes.
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
    fn a_wrong_name_is_refused_with_its_reason() {
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
        /// The full form of a name refers to the same image, and is its own full form.
        #[test]
        fn a_whole_name_is_read_as_itself(name in "[ab0./_:-]{1,12}|[ab./]{1,6}:[aB.0_-]{1,4}") {
            if let Ok(read) = parse(&name) {
                prop_assert_eq!(parse(&read.to_string()), Ok(read));
            }
        }
    }
}

//! Resources of the server, from discovery, and the names that users may type for them.

use anyhow::{Result, bail};
use http::Method;
use serde_json::Value;

use super::connection::Connection;
use super::suggest::nearest;

/// A resource of the server, and the names that users may type for it.
#[derive(Debug, Clone)]
pub(crate) struct Resource {
    pub(crate) group: String,
    pub(crate) version: String,
    pub(crate) kind: String,
    pub(crate) plural: String,
    singular: String,
    short_names: Vec<String>,
    categories: Vec<String>,
    verbs: Vec<String>,
    pub(crate) namespaced: bool,
}

impl Resource {
    /// `apps/v1`, or `v1` in the core group.
    pub(crate) fn api_version(&self) -> String {
        if self.group.is_empty() {
            self.version.clone()
        } else {
            format!("{}/{}", self.group, self.version)
        }
    }

    /// Returns `daemonset.apps`, the form in kubectl's messages.
    pub(crate) fn display(&self) -> String {
        let singular = self.kind.to_lowercase();
        if self.group.is_empty() {
            singular
        } else {
            format!("{singular}.{}", self.group)
        }
    }

    /// Returns the path of all objects, in one namespace or in all.
    pub(crate) fn collection(&self, namespace: Option<&str>) -> String {
        let root = if self.group.is_empty() { "/api" } else { "/apis" };
        let prefix = format!("{root}/{}", self.api_version());
        match namespace.filter(|_| self.namespaced) {
            Some(namespace) => format!("{prefix}/namespaces/{}/{}", escape(namespace), self.plural),
            None => format!("{prefix}/{}", self.plural),
        }
    }

    /// Returns the path of one object.
    pub(crate) fn object(&self, namespace: &str, name: &str) -> String {
        format!("{}/{}", self.collection(Some(namespace)), escape(name))
    }

    /// Returns whether `name` may mean this resource (`ds`, `daemonset`, `DaemonSets`,
    /// `daemonsets.apps`, `daemonsets.v1.apps`).
    fn answers_to(&self, name: &str) -> bool {
        let (base, group) = name.split_once('.').unwrap_or((name, ""));
        let named = base == self.plural
            || base == self.singular
            || base == self.kind.to_lowercase()
            || self.short_names.iter().any(|short| short == base);
        let versioned = format!("{}.{}", self.version, self.group);
        named && (group.is_empty() || group == self.group || group == versioned.trim_end_matches('.'))
    }
}

/// Percent-encodes text for a path segment or a query value.
pub(crate) fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            escaped.push(byte as char);
        } else {
            escaped.push_str(&format!("%{byte:02X}"));
        }
    }
    escaped
}

/// All resources of the server.
pub(crate) struct Resources(Vec<Resource>);

/// Aggregated discovery returns all groups at once. Servers before 1.27 have only the plain form.
const AGGREGATED: &str =
    "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList,application/json";

impl Resources {
    /// Reads the discovery documents of the server.
    pub(crate) async fn discover(connection: &Connection) -> Result<Self> {
        let mut found = Vec::new();
        for root in ["/api", "/apis"] {
            let document = connection.request(Method::GET, root, AGGREGATED, None).await?;
            match document["kind"].as_str() {
                Some("APIGroupDiscoveryList") => aggregated(&document, &mut found),
                Some("APIVersions") => plain(connection, "", "v1", &mut found).await?,
                _ => {
                    for group in list(&document["groups"]) {
                        let (name, version) =
                            (text(&group["name"]), text(&group["preferredVersion"]["version"]));
                        plain(connection, &name, &version, &mut found).await?;
                    }
                }
            }
        }
        Ok(Self(found))
    }

    /// Returns the resource that a user calls `name`.
    pub(crate) fn named(&self, name: &str) -> Result<&Resource> {
        let name = name.to_lowercase();
        match self.0.iter().find(|resource| resource.answers_to(&name)) {
            Some(resource) => Ok(resource),
            None => bail!(
                "the server doesn't have a resource type \"{name}\"{}",
                self.meant(&name)
            ),
        }
    }

    /// Returns "did you mean" for a mistyped type.
    fn meant(&self, name: &str) -> String {
        let plurals = self.0.iter().map(|resource| resource.plural.as_str());
        // Compare with singulars too, because a plural is longer than the singular that the user
        // meant. Of equal matches the last is taken.
        let singulars = plurals.clone().map(|plural| plural.trim_end_matches('s'));
        match nearest(name, singulars.chain(plurals)) {
            Some(meant) => format!(" (did you mean {meant}?)"),
            None => String::new(),
        }
    }

    /// Returns the resources of a category such as `all`, or the resource `name`.
    pub(crate) fn in_category(&self, name: &str) -> Result<Vec<&Resource>> {
        let members: Vec<_> = self
            .0
            .iter()
            .filter(|resource| resource.categories.iter().any(|category| category == name))
            .filter(|resource| resource.verbs.iter().any(|verb| verb == "list"))
            .collect();
        if members.is_empty() {
            Ok(vec![self.named(name)?])
        } else {
            Ok(members)
        }
    }

    /// Returns the resource of an `apiVersion` and `kind`.
    pub(crate) fn of_kind(&self, api_version: &str, kind: &str) -> Result<&Resource> {
        match self
            .0
            .iter()
            .find(|resource| resource.kind == kind && resource.api_version() == api_version)
        {
            Some(resource) => Ok(resource),
            None => bail!(
                "no matches for kind \"{kind}\" in version \"{api_version}\"{}",
                self.served(kind)
            ),
        }
    }

    /// Returns where a kind is served, for a manifest with an old version or with other letter
    /// case.
    fn served(&self, kind: &str) -> String {
        let kinds = self.0.iter().map(|resource| resource.kind.as_str());
        let mut known = kinds.clone().filter(|known| known.eq_ignore_ascii_case(kind));
        let meant = known.next().or_else(|| nearest(kind, kinds));
        let resource = meant.and_then(|meant| self.0.iter().find(|resource| resource.kind == meant));
        match resource {
            Some(resource) => format!(" (here it is {} in {})", resource.kind, resource.api_version()),
            None => String::new(),
        }
    }
}

fn aggregated(document: &Value, found: &mut Vec<Resource>) {
    for group in list(&document["items"]) {
        for version in list(&group["versions"]).take(1) {
            for resource in list(&version["resources"]) {
                found.push(Resource {
                    group: text(&group["metadata"]["name"]),
                    version: text(&version["version"]),
                    kind: text(&resource["responseKind"]["kind"]),
                    plural: text(&resource["resource"]),
                    singular: text(&resource["singularResource"]),
                    short_names: texts(&resource["shortNames"]),
                    categories: texts(&resource["categories"]),
                    verbs: texts(&resource["verbs"]),
                    namespaced: resource["scope"] == "Namespaced",
                });
            }
        }
    }
}

async fn plain(connection: &Connection, group: &str, version: &str, found: &mut Vec<Resource>) -> Result<()> {
    let path = if group.is_empty() {
        format!("/api/{version}")
    } else {
        format!("/apis/{group}/{version}")
    };
    let document = connection.get(&path).await?;
    for resource in list(&document["resources"]).filter(|resource| !text(&resource["name"]).contains('/')) {
        found.push(Resource {
            group: group.to_owned(),
            version: version.to_owned(),
            kind: text(&resource["kind"]),
            plural: text(&resource["name"]),
            singular: text(&resource["singularName"]),
            short_names: texts(&resource["shortNames"]),
            categories: texts(&resource["categories"]),
            verbs: texts(&resource["verbs"]),
            namespaced: resource["namespaced"] == true,
        });
    }
    Ok(())
}

fn list(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().into_iter().flatten()
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

fn texts(value: &Value) -> Vec<String> {
    list(value).map(text).collect()
}

/// Resource types and object names after a verb.
///
/// `ds`, `ds NAME…`, `ds/NAME pod/OTHER`, `ds,pods`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Targets {
    /// Pairs of a type and an optional object name.
    pub(crate) pairs: Vec<(String, Option<String>)>,
}

impl Targets {
    /// Parses the words like kubectl.
    pub(crate) fn parse(words: &[String]) -> Result<Self> {
        if words.iter().any(|word| word.contains('/')) {
            let pairs = words.iter().map(|word| match word.split_once('/') {
                Some((kind, name)) if !kind.is_empty() && !name.is_empty() && !name.contains('/') => {
                    Ok((kind.to_owned(), Some(name.to_owned())))
                }
                _ => bail!("there is no need to specify a resource type as a separate argument when passing arguments in resource/name form (e.g. 'get ds/name', not 'get ds ds/name')"),
            });
            return Ok(Self {
                pairs: pairs.collect::<Result<_>>()?,
            });
        }
        let Some((kinds, names)) = words.split_first() else {
            bail!("you must name the type of resource, such as `ds`, `pods` or `nodes`");
        };
        let kinds = kinds.split(',').filter(|kind| !kind.is_empty());
        let pairs = if names.is_empty() {
            kinds.map(|kind| (kind.to_owned(), None)).collect()
        } else {
            kinds
                .flat_map(|kind| names.iter().map(|name| (kind.to_owned(), Some(name.clone()))))
                .collect()
        };
        Ok(Self { pairs })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(words: &str) -> Result<Vec<String>> {
        let words: Vec<String> = words.split_whitespace().map(str::to_owned).collect();
        let pairs = Targets::parse(&words)?.pairs.into_iter();
        Ok(pairs
            .map(|(kind, name)| format!("{kind}={}", name.unwrap_or_default()))
            .collect())
    }

    #[test]
    fn a_type_alone_means_all_its_objects() {
        assert_eq!(parse("ds").unwrap(), ["ds="]);
        assert_eq!(parse("ds,pods").unwrap(), ["ds=", "pods="]);
    }

    #[test]
    fn names_follow_their_type() {
        assert_eq!(parse("ds a b").unwrap(), ["ds=a", "ds=b"]);
        assert_eq!(parse("ds/a pod/b").unwrap(), ["ds=a", "pod=b"]);
    }

    #[test]
    fn the_two_forms_do_not_mix() {
        assert!(parse("ds ds/a").is_err());
        assert!(parse("ds/").is_err());
        assert!(parse("").is_err());
    }

    #[test]
    fn a_resource_answers_to_every_name_that_users_have_for_it() {
        let daemon_sets = Resource {
            group: "apps".into(),
            version: "v1".into(),
            kind: "DaemonSet".into(),
            plural: "daemonsets".into(),
            singular: "daemonset".into(),
            short_names: vec!["ds".into()],
            categories: vec!["all".into()],
            verbs: vec!["list".into()],
            namespaced: true,
        };
        for name in [
            "ds",
            "daemonset",
            "daemonsets",
            "daemonsets.apps",
            "ds.apps",
            "daemonset.v1.apps",
        ] {
            assert!(daemon_sets.answers_to(name), "{name}");
        }
        for name in ["d", "daemonsets.batch", "daemonsets.v2.apps", "pods"] {
            assert!(!daemon_sets.answers_to(name), "{name}");
        }
        assert_eq!(
            daemon_sets.object("kube-system", "x"),
            "/apis/apps/v1/namespaces/kube-system/daemonsets/x"
        );
        assert_eq!(daemon_sets.display(), "daemonset.apps");
    }
    #[test]
    fn who_mistypes_a_type_or_a_kind_is_told_what_there_is() {
        let resource = |group: &str, kind: &str| Resource {
            group: group.into(),
            version: "v1".into(),
            kind: kind.into(),
            plural: format!("{}s", kind.to_lowercase()),
            singular: kind.to_lowercase(),
            short_names: Vec::new(),
            categories: Vec::new(),
            verbs: Vec::new(),
            namespaced: true,
        };
        let resources = Resources(vec![resource("", "Pod"), resource("apps", "DaemonSet")]);
        let type_of = |name: &str| resources.named(name).unwrap_err().to_string();
        assert_eq!(
            type_of("podz"),
            "the server doesn't have a resource type \"podz\" (did you mean pods?)"
        );
        assert_eq!(
            type_of("deployments"),
            "the server doesn't have a resource type \"deployments\""
        );
        let kind_of = |version: &str, kind: &str| resources.of_kind(version, kind).unwrap_err().to_string();
        for (version, kind) in [("apps/v1", "Daemonset"), ("extensions/v1beta1", "DaemonSet")] {
            assert_eq!(
                kind_of(version, kind),
                format!(
                    "no matches for kind \"{kind}\" in version \"{version}\" (here it is DaemonSet in apps/v1)"
                )
            );
        }
        assert_eq!(
            kind_of("apps/v1", "Deployment"),
            "no matches for kind \"Deployment\" in version \"apps/v1\""
        );
    }
}

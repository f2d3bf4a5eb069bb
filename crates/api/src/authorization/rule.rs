//! One rule of a role: verbs, and the resources or paths that they apply to.

use std::fmt;

use serde_json::{Map, Value};

use super::{Action, Resource};
use crate::field_error::quote;

/// Matches everything, in any of the lists.
const ALL: &str = "*";

/// A PolicyRule of a Role or ClusterRole.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Rule {
    /// The allowed verbs.
    pub verbs: Box<[Box<str>]>,
    /// The API groups of the resources.
    pub api_groups: Box<[Box<str>]>,
    /// `pods`, `pods/log`, `*/scale`, `*`.
    pub resources: Box<[Box<str>]>,
    /// The names of the objects; empty for all.
    pub resource_names: Box<[Box<str>]>,
    /// The paths; a `*` at the end matches any rest.
    pub non_resource_urls: Box<[Box<str>]>,
}

impl Rule {
    /// Parses a rule of a role. Values that are not strings are left out.
    pub fn of(rule: &Value) -> Rule {
        let texts = |field: &str| {
            let items = rule[field].as_array().map(Vec::as_slice).unwrap_or_default();
            items.iter().filter_map(Value::as_str).map(Box::from).collect()
        };
        Rule {
            verbs: texts("verbs"),
            api_groups: texts("apiGroups"),
            resources: texts("resources"),
            resource_names: texts("resourceNames"),
            non_resource_urls: texts("nonResourceURLs"),
        }
    }

    /// Parses the rules of a Role or ClusterRole.
    pub fn all_of(role: &Value) -> Box<[Rule]> {
        let rules = role["rules"].as_array().map(Vec::as_slice).unwrap_or_default();
        rules.iter().map(Rule::of).collect()
    }

    /// Returns the rule in the form of a role.
    pub fn to_value(&self) -> Value {
        let mut fields = Map::new();
        for (field, texts) in self.fields() {
            if !texts.is_empty() || field == "verbs" {
                let texts: Vec<Value> = texts.iter().map(|text| Value::from(&**text)).collect();
                fields.insert(field.to_owned(), texts.into());
            }
        }
        Value::Object(fields)
    }

    /// Returns the lists with their names in the API, in the order in which Kubernetes prints them.
    fn fields(&self) -> [(&'static str, &[Box<str>]); 5] {
        [
            ("apiGroups", &self.api_groups),
            ("resources", &self.resources),
            ("nonResourceURLs", &self.non_resource_urls),
            ("resourceNames", &self.resource_names),
            ("verbs", &self.verbs),
        ]
    }

    /// Returns whether the rule allows the action.
    pub fn allows(&self, action: &Action<'_>) -> bool {
        match action {
            Action::Resource(resource) => self.allows_resource(resource),
            Action::Path { verb, path } => {
                has(&self.verbs, verb)
                    && self
                        .non_resource_urls
                        .iter()
                        .any(|pattern| path_covers(pattern, path))
            }
        }
    }

    fn allows_resource(&self, wanted: &Resource<'_>) -> bool {
        has(&self.verbs, wanted.verb)
            && has(&self.api_groups, wanted.group)
            && self
                .resources
                .iter()
                .any(|pattern| names_resource(pattern, wanted.resource, wanted.subresource))
            && (self.resource_names.is_empty()
                || self.resource_names.iter().any(|name| **name == *wanted.name))
    }

    /// Returns whether the rule applies to paths instead of objects.
    pub fn is_for_paths(&self) -> bool {
        !self.non_resource_urls.is_empty()
    }
}

/// In the form of Kubernetes' errors: `{APIGroups:[""], Resources:["pods"], Verbs:["get"]}`.
impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let go_name = |field: &str| match field {
            "apiGroups" => "APIGroups",
            "resources" => "Resources",
            "nonResourceURLs" => "NonResourceURLs",
            "resourceNames" => "ResourceNames",
            _ => "Verbs",
        };
        let parts: Vec<String> = self
            .fields()
            .into_iter()
            .filter(|(_, texts)| !texts.is_empty())
            .map(|(field, texts)| {
                let quoted: Vec<String> = texts.iter().map(|text| quote(text)).collect();
                format!("{}:[{}]", go_name(field), quoted.join(" "))
            })
            .collect();
        write!(f, "{{{}}}", parts.join(", "))
    }
}

/// Returns whether a list contains this text or `*`.
pub(super) fn has(list: &[Box<str>], text: &str) -> bool {
    list.iter().any(|item| **item == *ALL || **item == *text)
}

/// Returns whether `pattern` (`pods`, `pods/log`, `*/log`, `*`) matches this resource.
pub(super) fn names_resource(pattern: &str, resource: &str, subresource: &str) -> bool {
    if pattern == ALL {
        return true;
    }
    let (main, sub) = pattern.split_once('/').unwrap_or((pattern, ""));
    sub == subresource && (main == resource || main == ALL && !sub.is_empty())
}

/// Returns whether `pattern` matches `path`, which may be a pattern too.
pub(super) fn path_covers(pattern: &str, path: &str) -> bool {
    pattern == path
        || pattern
            .strip_suffix('*')
            .is_some_and(|head| path.starts_with(head.trim_end_matches('*')))
}

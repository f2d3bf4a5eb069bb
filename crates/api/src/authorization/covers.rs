//! Escalation check: users may grant only permissions that they have.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use super::rule::{Rule, has, names_resource, path_covers};

/// Most permissions of a rule that are checked one by one: verbs × groups × resources × names.
/// Roles written by people have a few hundred. A rule with more must be covered by a single rule of
/// the user.
const PERMISSIONS_MAX: usize = 10_000;

/// Permissions that a user wants to grant and does not have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Missing(Vec<Rule>);

/// One rule on each line, sorted, with all verbs on a resource together.
impl fmt::Display for Missing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut verbs: BTreeMap<Rule, Vec<Box<str>>> = BTreeMap::new();
        for permission in &self.0 {
            let mut on = permission.clone();
            on.verbs = Box::default();
            let verbs = verbs.entry(on).or_default();
            verbs.extend(
                permission
                    .verbs
                    .iter()
                    .filter(|verb| !verbs.contains(verb))
                    .cloned()
                    .collect::<Vec<_>>(),
            );
        }
        let lines: BTreeSet<String> = verbs
            .into_iter()
            .map(|(on, verbs)| {
                let verbs = verbs.into();
                Rule { verbs, ..on }.to_string()
            })
            .collect();
        let lines: Vec<&str> = lines.iter().map(String::as_str).collect();
        f.write_str(&lines.join("\n"))
    }
}

/// Returns the part of `wanted` that the rules in `held` do not allow; `None` when they allow
/// everything.
pub fn missing(held: &[Rule], wanted: &[Rule]) -> Option<Missing> {
    let missing: Vec<Rule> = wanted
        .iter()
        .filter(|rule| !held.iter().any(|own| covers(own, rule)))
        .flat_map(|rule| missing_of(held, rule))
        .collect();
    (!missing.is_empty()).then_some(Missing(missing))
}

/// Returns the permissions of `rule` that no rule in `held` covers; the whole rule when it has more
/// than [`PERMISSIONS_MAX`] permissions.
fn missing_of(held: &[Rule], rule: &Rule) -> Vec<Rule> {
    let names = rule.resource_names.len().max(1);
    let count = [rule.api_groups.len(), rule.resources.len(), names]
        .into_iter()
        .try_fold(rule.verbs.len(), usize::checked_mul)
        .and_then(|permissions| {
            permissions.checked_add(rule.verbs.len().checked_mul(rule.non_resource_urls.len())?)
        });
    if count.is_none_or(|count| count > PERMISSIONS_MAX) {
        return vec![rule.clone()];
    }
    let uncovered = |permission: &Rule| !held.iter().any(|own| covers(own, permission));
    single_permissions(rule).filter(uncovered).collect()
}

fn one(text: &str) -> Box<[Box<str>]> {
    Box::new([text.into()])
}

/// Splits a rule into rules with one verb on one object each.
fn single_permissions(rule: &Rule) -> impl Iterator<Item = Rule> {
    let names: Vec<Box<[Box<str>]>> = match rule.resource_names.is_empty() {
        true => vec![Box::default()],
        false => rule.resource_names.iter().map(|name| one(name)).collect(),
    };
    let on_objects = rule.api_groups.iter().flat_map(move |group| {
        let names = names.clone();
        rule.resources.iter().flat_map(move |resource| {
            let names = names.clone();
            rule.verbs.iter().flat_map(move |verb| {
                names.clone().into_iter().map(move |resource_names| Rule {
                    verbs: one(verb),
                    api_groups: one(group),
                    resources: one(resource),
                    resource_names,
                    non_resource_urls: Box::default(),
                })
            })
        })
    });
    let on_paths = rule.non_resource_urls.iter().flat_map(move |path| {
        rule.verbs.iter().map(move |verb| Rule {
            verbs: one(verb),
            non_resource_urls: one(path),
            ..Rule::default()
        })
    });
    on_objects.chain(on_paths)
}

/// Returns whether the rule `own` allows everything that `other` allows.
fn covers(own: &Rule, other: &Rule) -> bool {
    let all = |own: &[Box<str>], other: &[Box<str>]| other.iter().all(|text| has(own, text));
    let names = own.resource_names.is_empty()
        || !other.resource_names.is_empty()
            && other
                .resource_names
                .iter()
                .all(|name| own.resource_names.contains(name));
    let resource = |wanted: &str| {
        let (main, sub) = wanted.split_once('/').unwrap_or((wanted, ""));
        own.resources
            .iter()
            .any(|pattern| **pattern == *wanted || names_resource(pattern, main, sub))
    };
    let path = |wanted: &str| {
        own.non_resource_urls
            .iter()
            .any(|pattern| path_covers(pattern, wanted))
    };
    all(&own.verbs, &other.verbs)
        && all(&own.api_groups, &other.api_groups)
        && other.resources.iter().all(|wanted| resource(wanted))
        && names
        && other.non_resource_urls.iter().all(|wanted| path(wanted))
}

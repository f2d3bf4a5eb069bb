//! Whether somebody who has some rights may give others: only those that he has.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use super::rule::{Rule, has, names_resource, path_covers};

/// Rights of one rule that are looked at one by one: verbs times groups times resources times names. A role that people write
/// has some hundred; who writes one with more has to have them by a rule that covers the whole of it.
const RIGHTS_MAX: usize = 10_000;

/// Rights that somebody wants to give and does not have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Missing(Vec<Rule>);

/// One rule a line, sorted, with the verbs on one resource together.
impl fmt::Display for Missing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut verbs: BTreeMap<Rule, Vec<Box<str>>> = BTreeMap::new();
        for right in &self.0 {
            let mut on = right.clone();
            on.verbs = Box::default();
            let verbs = verbs.entry(on).or_default();
            verbs.extend(
                right
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

/// What of `wanted` the rules in `held` do not allow; None when they allow all of it.
pub fn missing(held: &[Rule], wanted: &[Rule]) -> Option<Missing> {
    let missing: Vec<Rule> = wanted
        .iter()
        .filter(|rule| !held.iter().any(|own| covers(own, rule)))
        .flat_map(|rule| missing_of(held, rule))
        .collect();
    (!missing.is_empty()).then_some(Missing(missing))
}

/// The single rights of `rule` that no rule in `held` covers; the whole rule when it has too many rights to look at each.
fn missing_of(held: &[Rule], rule: &Rule) -> Vec<Rule> {
    let names = rule.resource_names.len().max(1);
    let count = [rule.api_groups.len(), rule.resources.len(), names]
        .into_iter()
        .try_fold(rule.verbs.len(), usize::checked_mul)
        .and_then(|rights| rights.checked_add(rule.verbs.len().checked_mul(rule.non_resource_urls.len())?));
    if count.is_none_or(|count| count > RIGHTS_MAX) {
        return vec![rule.clone()];
    }
    let uncovered = |right: &Rule| !held.iter().any(|own| covers(own, right));
    single_rights(rule).filter(uncovered).collect()
}

fn one(text: &str) -> Box<[Box<str>]> {
    Box::new([text.into()])
}

/// The rule as rules with one verb on one thing each.
fn single_rights(rule: &Rule) -> impl Iterator<Item = Rule> {
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

/// Whether `own` alone allows all that `other` allows.
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

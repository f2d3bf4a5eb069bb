//! Aggregated ClusterRoles.

use serde_json::Value;

use super::Rule;
use crate::meta;
use crate::selector::LabelSelector;

/// Returns the aggregated ClusterRoles whose rules must change: the role's name and its new rules.
/// These are the rules of the selected roles, in the order of their names. Roles that aggregate
/// aggregated roles are complete only after a further call.
pub fn aggregated(roles: &[Value]) -> Vec<(&str, Value)> {
    let mut parts: Vec<&Value> = roles.iter().collect();
    parts.sort_unstable_by_key(|role| meta::name(role));
    let aggregates = roles.iter().filter(|role| role["aggregationRule"].is_object());
    aggregates
        .filter_map(|aggregate| {
            let rules = rules_of_parts(aggregate, &parts);
            let differs = rules != Rule::all_of(aggregate).into_vec();
            differs.then(|| (meta::name(aggregate), rules.iter().map(Rule::to_value).collect()))
        })
        .collect()
}

fn rules_of_parts(aggregate: &Value, parts: &[&Value]) -> Vec<Rule> {
    let selectors = aggregate["aggregationRule"]["clusterRoleSelectors"].as_array();
    let selectors: Vec<LabelSelector> = selectors
        .into_iter()
        .flatten()
        .filter_map(LabelSelector::from_value)
        .collect();
    let is_part = |role: &Value| {
        let labels = meta::labels(role);
        let label = |key: &str| labels.and_then(|labels| labels.get(key)?.as_str());
        selectors.iter().any(|selector| selector.matches(label))
    };
    let mut rules: Vec<Rule> = Vec::new();
    for part in parts {
        if meta::name(part) == meta::name(aggregate) || !is_part(part) {
            continue;
        }
        for rule in Rule::all_of(part) {
            if !rules.contains(&rule) {
                rules.push(rule);
            }
        }
    }
    rules
}

//! ClusterRoles that are the sum of others.

use serde_json::Value;

use super::Rule;
use crate::meta;
use crate::selector::LabelSelector;

/// The rules that sums among these ClusterRoles should have and do not: each role's name and its rules. What is summed are the rules of
/// the roles that a selector of the sum finds, in the order of their names; a sum of sums follows in a later look.
pub fn aggregated(roles: &[Value]) -> Vec<(&str, Value)> {
    let mut parts: Vec<&Value> = roles.iter().collect();
    parts.sort_unstable_by_key(|role| meta::name(role));
    let sums = roles.iter().filter(|role| role["aggregationRule"].is_object());
    sums.filter_map(|sum| {
        let rules = summed(sum, &parts);
        let differs = rules != Rule::all_of(sum).into_vec();
        differs.then(|| (meta::name(sum), rules.iter().map(Rule::to_value).collect()))
    })
    .collect()
}

fn summed(sum: &Value, parts: &[&Value]) -> Vec<Rule> {
    let selectors = sum["aggregationRule"]["clusterRoleSelectors"].as_array();
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
        if meta::name(part) == meta::name(sum) || !is_part(part) {
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

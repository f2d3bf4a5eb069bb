//! What a DaemonSet would do on each node, and in which order.

use std::collections::BTreeMap;
use std::fmt::Write;

use plan::fleet::{Forecast, NodeChange, NodeForecast, Verdict};
use serde_json::{Value, json};

use crate::client::fleet::Sight;

/// Most nodes of a group or wave in the output, and most waves, without `--all`.
const NAMED: usize = 5;

/// Forecast of a DaemonSet.
pub(super) struct Outlook {
    groups: Vec<Group>,
    /// Nodes of each wave.
    waves: Vec<Vec<String>>,
    /// Limit of a wave.
    pace: String,
    mistakes: Vec<String>,
}

/// Nodes with the same change.
struct Group {
    change: &'static str,
    text: (String, String),
    nodes: Vec<String>,
}

impl Outlook {
    /// Builds the forecast. `set` is the object as the server would store it.
    pub(super) fn new(set: &Value, forecast: &Forecast, sight: &Sight, mistakes: Vec<String>) -> Outlook {
        let mut groups: BTreeMap<(usize, (String, String)), Group> = BTreeMap::new();
        let mut waves = vec![Vec::new(); forecast.waves];
        for node in &forecast.nodes {
            let (rank, change) = sort(&node.change);
            let text = phrase(node, sight);
            let group = groups.entry((rank, text.clone())).or_insert_with(|| Group {
                change,
                text,
                nodes: Vec::new(),
            });
            group.nodes.push(node.node.to_string());
            if let Some(wave) = node.wave.and_then(|wave| waves.get_mut(wave - 1)) {
                wave.push(node.node.to_string());
            }
        }
        waves.retain(|wave| !wave.is_empty());
        Outlook {
            groups: groups.into_values().collect(),
            waves,
            pace: pace(set),
            mistakes,
        }
    }

    /// Returns text. `all` names every node.
    pub(super) fn text(&self, all: bool) -> String {
        let mut text = String::new();
        if self.groups.is_empty() {
            push(&mut text, format_args!("\n  There are no nodes.\n"));
        }
        let count = |group: &Group| super::super::why::nodes(group.nodes.len());
        let width = self
            .groups
            .iter()
            .map(|group| count(group).len())
            .max()
            .unwrap_or(0);
        for group in &self.groups {
            let phrase = match group.nodes.len() {
                1 => &group.text.0,
                _ => &group.text.1,
            };
            push(&mut text, format_args!("\n  {:>width$} {phrase}\n", count(group)));
            push(
                &mut text,
                format_args!("  {:width$} {}\n", "", names(&group.nodes, all)),
            );
        }
        self.order(&mut text, all);
        if !self.mistakes.is_empty() {
            push(&mut text, format_args!("\n  Likely mistakes:\n"));
        }
        for mistake in &self.mistakes {
            push(&mut text, format_args!("  - {mistake}\n"));
        }
        text
    }

    fn order(&self, text: &mut String, all: bool) {
        let count = self.waves.len();
        if self.groups.is_empty() {
            return;
        }
        match count {
            0 => return push(text, format_args!("\n  No pod would be started or stopped.\n")),
            1 => return push(text, format_args!("\n  All of it at once.\n")),
            _ => push(text, format_args!("\n  In {count} waves{}:\n", self.pace)),
        }
        let last = count.to_string().len();
        for (number, wave) in self.waves.iter().enumerate() {
            // The first waves and the last one are enough.
            if !all && count > NAMED + 1 && number >= NAMED && number + 1 < count {
                if number == NAMED {
                    push(text, format_args!("    {:>last$}\n", "…"));
                }
                continue;
            }
            push(
                text,
                format_args!("    {:>last$}. {}\n", number + 1, names(wave, all)),
            );
        }
    }

    /// Returns JSON data with the names of all nodes.
    pub(super) fn data(&self) -> Value {
        let groups = self.groups.iter().map(|group| {
            let text = match group.nodes.len() {
                1 => &group.text.0,
                _ => &group.text.1,
            };
            json!({"change": group.change, "text": text, "count": group.nodes.len(), "nodes": group.nodes})
        });
        json!({"groups": groups.collect::<Vec<_>>(), "waves": self.waves, "mistakes": self.mistakes})
    }
}

/// Writing to a String cannot fail.
fn push(text: &mut String, arguments: std::fmt::Arguments<'_>) {
    let _infallible = text.write_fmt(arguments);
}

fn names(nodes: &[String], all: bool) -> String {
    let shown = if all { nodes.len() } else { NAMED.min(nodes.len()) };
    let more = match nodes.len() - shown {
        0 => String::new(),
        more => format!(" and {more} more"),
    };
    format!("{}{more}", nodes[..shown].join(", "))
}

/// Returns the rank of a change in the output, and its name in JSON.
fn sort(change: &NodeChange) -> (usize, &'static str) {
    match change {
        NodeChange::Gains => (0, "Gains"),
        NodeChange::Replaces => (1, "Replaces"),
        NodeChange::Loses => (2, "Loses"),
        NodeChange::Waits => (3, "Waits"),
        NodeChange::KeepsOld => (4, "KeepsOld"),
        NodeChange::Keeps => (5, "Keeps"),
        NodeChange::NotHere(_) => (6, "NotHere"),
    }
}

/// Returns the text about one node, and about several nodes.
fn phrase(node: &NodeForecast, sight: &Sight) -> (String, String) {
    let both = |one: &str, several: &str, why: &str| (format!("{one}{why}"), format!("{several}{why}"));
    let trouble = match &node.verdict {
        Verdict::NotHere(why) | Verdict::Stays(why) => sight.trouble(&node.node, why),
        _ => None,
    };
    let end = match (&node.verdict, trouble) {
        (_, Some(trouble)) => format!(": the node {trouble}"),
        (Verdict::UpToDate | Verdict::AvailableAt(_), None) => String::new(),
        (Verdict::NotHere(why), None) => format!(": {why}"),
        (Verdict::Outdated, None) => " of an old template".to_owned(),
        (verdict, None) => format!(": {verdict}"),
    };
    match &node.change {
        NodeChange::Gains => both("gains a pod", "gain a pod", &end),
        NodeChange::Replaces => both(
            "gets a new pod in the place of the old one",
            "get a new pod in the place of the old one",
            &end,
        ),
        NodeChange::Loses => both("loses its pod", "lose their pod", &end),
        NodeChange::Waits => both("gets no pod yet", "get no pod yet", &end),
        NodeChange::KeepsOld => both("keeps its pod", "keep their pod", &end),
        NodeChange::Keeps => both("keeps its pod", "keep their pod", &end),
        NodeChange::NotHere(_) => both("is left out", "are left out", &end),
    }
}

/// Returns the limit of a wave of the update.
fn pace(set: &Value) -> String {
    let rolling = &set["spec"]["updateStrategy"]["rollingUpdate"];
    let text = |field: &str| match &rolling[field] {
        Value::String(text) => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        _ => None,
    };
    let surges = text("maxSurge").filter(|surge| !matches!(surge.as_str(), "0" | "0%"));
    match (surges, text("maxUnavailable")) {
        (Some(surge), _) => format!(" (maxSurge {surge})"),
        (None, Some(unavailable)) => format!(" (maxUnavailable {unavailable})"),
        (None, None) => String::new(),
    }
}

//! Report of a DaemonSet on all nodes, grouped by state.

use std::collections::BTreeMap;
use std::fmt::Write;

use jiff::Timestamp;
use plan::fleet::{Decision, Explanation, RolloutState};
use plan::rollout::Mode;
use serde_json::{Value, json};

use super::verdict::{self, Sort};
use crate::client::event;
use crate::client::fleet::Sight;

/// Most nodes of a group in the output, without `--all`.
const NAMED: usize = 5;
/// Most groups with details: each costs two requests.
const DETAILED: usize = 3;

/// State of a DaemonSet on all nodes.
pub(super) struct Report {
    name: String,
    summary: String,
    status: Value,
    rollout: RolloutState,
    notes: Vec<String>,
    groups: Vec<Group>,
    now: Timestamp,
}

/// Nodes with the same state.
struct Group {
    sort: Sort,
    verdict: &'static str,
    text: String,
    waits_for: Option<String>,
    /// Whether its nodes do not respond.
    down: bool,
    /// Details from the logs and events of one of its pods.
    details: Vec<String>,
    nodes: Vec<Row>,
}

/// A node of a group.
struct Row {
    node: String,
    pod: Option<String>,
    since: Option<Timestamp>,
    until: Option<Timestamp>,
}

impl Report {
    /// Builds the report. `warning` is the last one about the DaemonSet.
    pub(super) fn new(
        set: &Value,
        sight: &Sight,
        explanation: &Explanation,
        warning: Option<Value>,
    ) -> Report {
        let groups = groups(&explanation.decisions, sight);
        let metadata = |field: &str| set["metadata"][field].as_str().unwrap_or_default();
        let mut report = Report {
            name: format!("{}/{}", metadata("namespace"), metadata("name")),
            summary: summary(explanation, &groups),
            status: status(explanation),
            rollout: explanation.rollout,
            notes: Vec::new(),
            groups,
            now: sight.now,
        };
        report.notes.extend(unobserved(set));
        report
            .notes
            .extend(update(set, &explanation.rollout, &report.groups));
        report
            .notes
            .extend(warning.and_then(|event| self::warning(&event, sight.now)));
        report
    }

    /// Returns a pod of each failing group, with the index of the group.
    pub(super) fn broken_pods(&self) -> Vec<(usize, String)> {
        let broken = self
            .groups
            .iter()
            .enumerate()
            .filter(|(_, group)| group.sort == Sort::Broken);
        broken
            .filter_map(|(index, group)| Some((index, group.nodes.first()?.pod.clone()?)))
            .take(DETAILED)
            .collect()
    }

    /// Adds details to a group.
    pub(super) fn add_details(&mut self, group: usize, details: Vec<String>) {
        self.groups[group].details = details;
    }

    /// Returns one line for a list of DaemonSets, with the worst state first.
    pub(super) fn headline(&self) -> String {
        let mut line = format!("DaemonSet {}: {}\n", self.name, self.summary);
        if let Some(group) = self.groups.first().filter(|group| group.sort == Sort::Broken) {
            let first = group.nodes.first().map_or("", |row| &*row.node);
            push(&mut line, format_args!("  {first}: {}\n", group.text));
        }
        line
    }

    /// Returns whether a node needs repair.
    pub(super) fn is_broken(&self) -> bool {
        self.groups.iter().any(|group| group.sort == Sort::Broken)
    }

    /// Returns text. `all` names every node.
    pub(super) fn text(&self, all: bool) -> String {
        let mut text = format!("DaemonSet {}: {}\n", self.name, self.summary);
        for note in &self.notes {
            push(&mut text, format_args!("  {note}\n"));
        }
        let counts = self.groups.iter().map(|group| nodes(group.nodes.len()).len());
        let width = counts.max().unwrap_or(0);
        for group in &self.groups {
            push(&mut text, format_args!("\n"));
            push(
                &mut text,
                format_args!("{:>width$}: {}", nodes(group.nodes.len()), group.text),
            );
            if let Some(waits_for) = &group.waits_for
                && group.sort != Sort::Broken
                && !group.text.starts_with("waiting ")
            {
                push(&mut text, format_args!("; waiting for {waits_for}"));
            }
            push(&mut text, format_args!("\n"));
            if let Some(times) = group.times(self.now) {
                push(&mut text, format_args!("{:width$}  {times}\n", ""));
            }
            group.list(&mut text, all, width, self.now);
            for line in &group.details {
                push(&mut text, format_args!("{:width$}  {line}\n", ""));
            }
        }
        text
    }

    /// Returns JSON data with the names of all nodes.
    pub(super) fn data(&self) -> Value {
        let time = |moment: Option<Timestamp>| moment.map(api::time::rfc3339);
        let groups = self.groups.iter().map(|group| {
            let nodes = group.nodes.iter().map(|row| {
                json!({"name": row.node, "pod": row.pod, "since": time(row.since), "until": time(row.until)})
            });
            json!({
                "verdict": group.verdict, "text": group.text, "waitsFor": group.waits_for,
                "details": group.details, "count": group.nodes.len(), "nodes": nodes.collect::<Vec<_>>(),
            })
        });
        json!({
            "daemonSet": self.name,
            "summary": self.summary,
            "status": self.status,
            "update": {
                "mode": match self.rollout.mode {
                    Mode::OnDelete => "OnDelete",
                    Mode::InPlace => "RollingUpdate",
                    Mode::Surge => "Surge",
                },
                "budget": self.rollout.budget, "held": self.rollout.held, "candidates": self.rollout.candidates,
            },
            "notes": self.notes,
            "groups": groups.collect::<Vec<_>>(),
        })
    }
}

/// Writing to a String cannot fail.
fn push(text: &mut String, arguments: std::fmt::Arguments<'_>) {
    let _infallible = text.write_fmt(arguments);
}

/// Returns `1 node` or `2 nodes`.
pub(in crate::verbs) fn nodes(count: usize) -> String {
    match count {
        1 => "1 node".to_owned(),
        _ => format!("{count} nodes"),
    }
}

fn groups(decisions: &[Decision], sight: &Sight) -> Vec<Group> {
    let mut groups: BTreeMap<(Sort, String, Option<String>), Group> = BTreeMap::new();
    for decision in decisions {
        let sort = verdict::sort(decision, sight);
        let (text, waits_for) = (
            verdict::text(decision, sight),
            verdict::waits_for(decision, sight),
        );
        let group = groups
            .entry((sort, text.clone(), waits_for.clone()))
            .or_insert_with(|| Group {
                sort,
                verdict: verdict::name(&decision.verdict),
                text,
                waits_for,
                down: verdict::is_down(decision, sight),
                details: Vec::new(),
                nodes: Vec::new(),
            });
        group.nodes.push(Row {
            node: decision.node.to_string(),
            pod: decision.pod.as_ref().map(|pod| pod.meta.name.to_string()),
            since: verdict::since(decision, sight.now),
            until: verdict::until(decision, sight.now),
        });
    }
    let mut groups: Vec<Group> = groups.into_values().collect();
    groups.sort_by_key(|group| (group.sort, std::cmp::Reverse(group.nodes.len())));
    groups
}

impl Group {
    /// Returns since when and until when the state lasts, over all nodes of the group.
    fn times(&self, now: Timestamp) -> Option<String> {
        if !matches!(self.sort, Sort::Awaited | Sort::Broken) {
            return None;
        }
        let mut times = Vec::new();
        let since = || self.nodes.iter().filter_map(|row| row.since);
        if let (Some(first), Some(last)) = (since().min(), since().max()) {
            let (longest, shortest) = (verdict::ago(first, now), verdict::ago(last, now));
            times.push(match longest == shortest {
                true => format!("for {longest}"),
                false => format!("for {shortest} to {longest}"),
            });
        }
        let until = || self.nodes.iter().filter_map(|row| row.until);
        if let (Some(first), Some(last)) = (until().min(), until().max()) {
            times.push(match first == last {
                true => format!("until {}", verdict::moment(first, now)),
                false => format!(
                    "until {} at the first, {} at the last",
                    verdict::moment(first, now),
                    verdict::moment(last, now)
                ),
            });
        }
        (!times.is_empty()).then(|| times.join(", "))
    }

    fn list(&self, text: &mut String, all: bool, width: usize, now: Timestamp) {
        if !all {
            let named: Vec<&str> = self.nodes.iter().take(NAMED).map(|row| &*row.node).collect();
            let more = match self.nodes.len() - named.len() {
                0 => String::new(),
                more => format!(" and {more} more"),
            };
            return push(text, format_args!("{:width$}  {}{more}\n", "", named.join(", ")));
        }
        let rows: Vec<Vec<String>> = self
            .nodes
            .iter()
            .map(|row| {
                let pod = row.pod.clone().unwrap_or_else(|| "no pod".to_owned());
                let since = row
                    .since
                    .map_or_else(String::new, |since| verdict::ago(since, now));
                let until = row.until.map_or_else(String::new, |until| {
                    format!("until {}", verdict::moment(until, now))
                });
                vec![row.node.clone(), pod, since, until]
            })
            .collect();
        for line in crate::client::table::columns(&rows, 2).lines() {
            push(text, format_args!("{:width$}  {line}\n", ""));
        }
    }
}

fn summary(explanation: &Explanation, groups: &[Group]) -> String {
    if let Some(why) = explanation.halted {
        return format!("nothing is done for it: {why}.");
    }
    let count = |wanted: &dyn Fn(&Group) -> bool| {
        let wanted = groups.iter().filter(|group| wanted(group));
        wanted.map(|group| group.nodes.len()).sum::<usize>()
    };
    let served = count(&|group| group.sort == Sort::Served);
    let broken = count(&|group| group.sort == Sort::Broken);
    let down = count(&|group| group.down);
    let coming = count(&|group| group.sort == Sort::Awaited && !group.down);
    let desired = usize::try_from(explanation.status.desired_number_scheduled).unwrap_or(0);
    if groups.is_empty() {
        return "there are no nodes.".to_owned();
    }
    if (desired, broken, down, coming) == (0, 0, 0, 0) {
        return "no node should run it.".to_owned();
    }
    let mut text = match desired {
        1 if served == 1 => "the 1 node that should run it runs the current version.".to_owned(),
        _ => format!("{served} of {} run the current version.", nodes(desired)),
    };
    let parts = [
        (broken, "cannot run it"),
        (coming, "not done yet"),
        (down, "down"),
    ];
    for (count, what) in parts.into_iter().filter(|(count, _)| *count > 0) {
        let verb = match (what, count) {
            ("cannot run it", _) => "",
            (_, 1) => "is ",
            _ => "are ",
        };
        push(&mut text, format_args!(" {} {verb}{what}.", nodes(count)));
    }
    text
}

fn status(explanation: &Explanation) -> Value {
    let status = &explanation.status;
    json!({
        "desired": status.desired_number_scheduled, "current": status.current_number_scheduled,
        "ready": status.number_ready, "upToDate": status.updated_number_scheduled,
        "available": status.number_available, "unavailable": status.number_unavailable,
        "misscheduled": status.number_misscheduled,
    })
}

/// Returns a message if the controller has not processed the latest generation, because the report
/// is then outdated.
fn unobserved(set: &Value) -> Option<String> {
    let generation = set["metadata"]["generation"].as_i64()?;
    let observed = set["status"]["observedGeneration"].as_i64().unwrap_or(0);
    (observed < generation).then(|| {
        format!(
            "The DaemonSet controller has not acted on generation {generation} yet (its last is {observed})."
        )
    })
}

/// Returns the progress of an update, or what blocks it.
fn update(set: &Value, rollout: &RolloutState, groups: &[Group]) -> Option<String> {
    let field = match rollout.mode {
        Mode::OnDelete => return None,
        _ if rollout.candidates == 0 => return None,
        Mode::InPlace => "maxUnavailable",
        Mode::Surge => "maxSurge",
    };
    let budget = match &set["spec"]["updateStrategy"]["rollingUpdate"][field] {
        Value::Null => field.to_owned(),
        Value::String(text) => format!("{field} {text}"),
        number => format!("{field} {number}"),
    };
    let old = match rollout.candidates {
        1 => "1 node still runs the old version".to_owned(),
        count => format!("{count} nodes still run the old version"),
    };
    let full = rollout.held >= rollout.budget;
    let broken = groups
        .iter()
        .find(|group| group.sort == Sort::Broken)
        .and_then(|group| group.nodes.first());
    Some(match broken {
        Some(row) if full => {
            let text = |field: &str| set["metadata"][field].as_str().unwrap_or_default();
            format!(
                "The rollout is stuck on {} ({budget}). {old}. To go back: `everynode rollout undo ds/{} -n {}`",
                row.node,
                text("name"),
                text("namespace")
            )
        }
        _ => format!(
            "The rollout goes on: {} of at most {} at a time ({budget}). {old}.",
            rollout.held,
            nodes(rollout.budget)
        ),
    })
}

fn warning(event: &Value, now: Timestamp) -> Option<String> {
    let text = |field: &str| event[field].as_str().unwrap_or_default().trim();
    (!text("message").is_empty()).then(|| {
        format!(
            "Last warning, {} ago: {}: {}",
            api::time::age(Some(event::last_seen(event)), now),
            text("reason"),
            text("message")
        )
    })
}

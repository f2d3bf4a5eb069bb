//! Explains a DaemonSet on one node: whether it should run there, what runs there, and what it
//! waits for.

use std::collections::BTreeMap;

use api::affinity::NodeSelector;
use api::taint::{Effect, Taint};
use api::view::NodeView;
use jiff::Timestamp;
use plan::daemonset::{Misfit, Placement};
use plan::fleet::{Decision, WaitsFor};
use serde::Deserialize;
use serde_json::{Value, json};

use super::verdict;
use crate::client::event;
use crate::client::fleet::Sight;
use crate::client::node_affinity::{self, About, Requirement};
use crate::client::pod_state::PodState;
use crate::client::sheet::Sheet;
use crate::client::suggest::{did_you_mean, nearest};

/// State of a DaemonSet on a node.
pub(super) struct Story {
    set: String,
    node: String,
    verdict: &'static str,
    text: String,
    waits_for: Option<String>,
    since: Option<Timestamp>,
    until: Option<Timestamp>,
    should_run: Option<bool>,
    node_state: Vec<String>,
    checks: Vec<Check>,
    pods: Vec<PodStory>,
    events: Vec<Value>,
    now: Timestamp,
}

/// A condition for whether the node should run the DaemonSet.
#[derive(Debug, PartialEq, Eq)]
struct Check {
    what: String,
    holds: bool,
    because: String,
}

/// A pod of the DaemonSet on the node.
struct PodStory {
    name: String,
    state: String,
    template: String,
    troubles: Vec<String>,
}

impl Story {
    /// Builds the explanation. `pods` are those of the DaemonSet on the node. `events` are those of
    /// the first pod, or the DaemonSet's warnings if there is no pod.
    pub(super) fn new(
        set: &Value,
        sight: &Sight,
        decision: &Decision,
        pods: &[Value],
        events: Vec<Value>,
    ) -> Story {
        let metadata = |field: &str| set["metadata"][field].as_str().unwrap_or_default();
        let template = &set["spec"]["template"];
        let node = sight.nodes.get(&decision.node);
        let revisions = sight.revisions_of(metadata("uid"));
        Story {
            set: format!("{}/{}", metadata("namespace"), metadata("name")),
            node: decision.node.to_string(),
            verdict: verdict::name(&decision.verdict),
            text: verdict::text(decision, sight),
            waits_for: verdict::waits_for(decision, sight),
            since: verdict::since(decision, sight.now),
            until: verdict::until(decision, sight.now),
            should_run: node.map(|node| Placement::compile(template).fit(node).should_run()),
            node_state: node.map(|node| node_state(node)).unwrap_or_default(),
            checks: node.map(|node| checks(template, node, sight)).unwrap_or_default(),
            pods: pods
                .iter()
                .map(|pod| PodStory::new(pod, &revisions, sight, decision))
                .collect(),
            events,
            now: sight.now,
        }
    }

    /// Returns text.
    pub(super) fn text(&self) -> String {
        let mut sheet = Sheet::default();
        sheet.line(
            0,
            format_args!("DaemonSet {} on node {}: {}", self.set, self.node, self.text),
        );
        if let Some(since) = self.since {
            sheet.line(1, format_args!("since {}", verdict::moment(since, self.now)));
        }
        if let Some(until) = self.until {
            sheet.line(1, format_args!("until {}", verdict::moment(until, self.now)));
        }
        if let (Some(waits_for), None) = (&self.waits_for, self.until) {
            sheet.line(1, format_args!("waiting for {waits_for}"));
        }
        sheet.line(0, "");
        sheet.line(
            0,
            match self.should_run {
                Some(true) => "Should it run here? Yes.",
                Some(false) => "Should it run here? No.",
                None => "Should it run here? There is no such node any more.",
            },
        );
        for check in &self.checks {
            let holds = if check.holds { "yes" } else { "NO" };
            sheet.line(1, format_args!("{holds}\t{}\t{}", check.what, check.because));
        }
        if self.checks.is_empty() && self.should_run == Some(true) {
            sheet.line(
                1,
                "its template asks nothing of a node, and the node has no taints",
            );
        }
        for line in &self.node_state {
            sheet.line(1, line);
        }
        sheet.line(0, "");
        if self.pods.is_empty() {
            sheet.line(0, "No pod of it is here.");
        }
        for pod in &self.pods {
            sheet.line(
                0,
                format_args!("Pod {}: {}, {}", pod.name, pod.state, pod.template),
            );
            for trouble in &pod.troubles {
                sheet.line(1, trouble);
            }
        }
        if !self.events.is_empty() {
            sheet.line(0, "");
            sheet.line(
                0,
                match self.pods.is_empty() {
                    true => "Warnings about the DaemonSet:",
                    false => "Events of the pod:",
                },
            );
            for event in &self.events {
                let text = |field: &str| event[field].as_str().unwrap_or_default().trim();
                let times = match event::count(event) {
                    1 => String::new(),
                    count => format!(" (x{count})"),
                };
                sheet.line(
                    1,
                    format_args!(
                        "{}{times}\t{}\t{}",
                        api::time::age(Some(event::last_seen(event)), self.now),
                        text("reason"),
                        text("message").replace(['\n', '\t'], " ")
                    ),
                );
            }
        }
        sheet.finish()
    }

    /// Returns JSON data.
    pub(super) fn data(&self) -> Value {
        let time = |moment: Option<Timestamp>| moment.map(api::time::rfc3339);
        let checks = self
            .checks
            .iter()
            .map(|check| json!({"what": check.what, "holds": check.holds, "because": check.because}));
        let pods = self.pods.iter().map(
            |pod| json!({"name": pod.name, "state": pod.state, "template": pod.template, "troubles": pod.troubles}),
        );
        let events = self.events.iter().map(|event| {
            json!({
                "reason": event["reason"], "message": event["message"], "type": event["type"],
                "count": event::count(event), "lastSeen": event::last_seen(event),
            })
        });
        json!({
            "daemonSet": self.set, "node": self.node, "verdict": self.verdict, "text": self.text,
            "waitsFor": self.waits_for, "since": time(self.since), "until": time(self.until),
            "shouldRun": self.should_run, "nodeState": self.node_state,
            "checks": checks.collect::<Vec<_>>(),
            "pods": pods.collect::<Vec<_>>(),
            "events": events.collect::<Vec<_>>(),
        })
    }
}

/// Returns the conditions of the node that matter to its daemons.
fn node_state(node: &NodeView) -> Vec<String> {
    let mut lines = Vec::new();
    if let Some(ready) = node.condition("Ready").filter(|ready| &*ready.status != "True") {
        lines.push(format!(
            "the node is not Ready: {} ({})",
            ready.status, ready.reason
        ));
    }
    if node.unschedulable {
        lines.push("the node is cordoned, which keeps no daemon away".to_owned());
    }
    lines
}

fn checks(template: &Value, node: &NodeView, sight: &Sight) -> Vec<Check> {
    let spec = &template["spec"];
    let mut checks = Vec::new();
    if let Some(name) = spec["nodeName"].as_str().filter(|name| !name.is_empty()) {
        checks.push(Check {
            what: format!("nodeName {name}"),
            holds: *name == *node.meta.name,
            because: String::new(),
        });
    }
    for (key, value) in spec["nodeSelector"].as_object().into_iter().flatten() {
        let value = value.as_str().unwrap_or_default();
        checks.push(Check {
            what: format!("nodeSelector {key}={value}"),
            holds: node.meta.labels.get(key) == Some(value),
            because: label(node, key),
        });
    }
    let requirements = node_affinity::requirements(spec);
    checks.extend(
        requirements
            .iter()
            .map(|requirement| requirement_check(requirement, node)),
    );
    if node_affinity::terms(spec).len() > 1 {
        let required = NodeSelector::deserialize(node_affinity::required(spec));
        checks.push(Check {
            what: "node affinity".to_owned(),
            holds: required.is_ok_and(|selector| selector.matches(node)),
            because: "one of its terms must hold as a whole".to_owned(),
        });
    }
    checks.extend(
        node.taints
            .iter()
            .map(|taint| taint_check(spec, taint, node, sight)),
    );
    checks
}

/// Returns the node's value of a label.
fn label(node: &NodeView, key: &str) -> String {
    match node.meta.labels.get(key) {
        Some(value) => format!("the node has {key}={value}"),
        None => {
            let hint = did_you_mean(nearest(key, node.meta.labels.iter().map(|(key, _)| key)));
            format!("the node has no label {key}{hint}")
        }
    }
}

fn requirement_check(requirement: &Requirement<'_>, node: &NodeView) -> Check {
    let Requirement {
        term, key, operator, ..
    } = requirement;
    let values = match requirement.values.as_slice() {
        [] => String::new(),
        values => format!(" ({})", values.join(", ")),
    };
    Check {
        what: format!("node affinity, term {term}: {key} {operator}{values}"),
        holds: requirement.holds(node),
        because: match requirement.about {
            About::Fields => format!("the node is {}", node.meta.name),
            About::Labels => label(node, key),
        },
    }
}

fn taint_check(spec: &Value, taint: &Taint, node: &NodeView, sight: &Sight) -> Check {
    let what = format!("taint {taint}");
    if taint.effect == Effect::PreferNoSchedule {
        return Check {
            what,
            holds: true,
            because: "PreferNoSchedule keeps no daemon away".to_owned(),
        };
    }
    let own = || api::taint::Toleration::deserialize;
    let tolerations = spec["tolerations"].as_array().into_iter().flatten();
    let mut own = tolerations.filter_map(|toleration| own()(toleration).ok());
    if own.any(|toleration| toleration.tolerates(taint)) {
        return Check {
            what,
            holds: true,
            because: "tolerated by the template".to_owned(),
        };
    }
    // The template without labels and affinity, so that only its tolerations decide.
    let tolerant = Placement::compile(
        &json!({"spec": {"tolerations": spec["tolerations"], "hostNetwork": spec["hostNetwork"]}}),
    );
    let alone = NodeView {
        taints: [taint.clone()].into(),
        ..node.clone()
    };
    let added = || match taint.time_added {
        Some(added) => format!(", there for {}", verdict::ago(added, sight.now)),
        None => String::new(),
    };
    match tolerant.misfit(&alone) {
        Some(Misfit::Taint(_)) => Check {
            what,
            holds: false,
            because: match taint.effect {
                Effect::NoExecute => format!("not tolerated{}: pods must leave", added()),
                _ => format!(
                    "not tolerated{}: no new pod starts here, one that runs may stay",
                    added()
                ),
            },
        },
        _ => Check {
            what,
            holds: true,
            because: "tolerated, as every DaemonSet does".to_owned(),
        },
    }
}

impl PodStory {
    fn new(pod: &Value, revisions: &BTreeMap<&str, i64>, sight: &Sight, decision: &Decision) -> PodStory {
        let (metadata, status) = (&pod["metadata"], &pod["status"]);
        let age = |time: &Value| api::time::age(time.as_str(), sight.now);
        let phase = status["phase"].as_str().unwrap_or("Pending");
        let state = match metadata["deletionTimestamp"].as_str() {
            Some(_) => format!("{phase} and being deleted"),
            None if phase == "Running" && is_ready(pod) => "Running and Ready".to_owned(),
            None => phase.to_owned(),
        };
        PodStory {
            name: metadata["name"].as_str().unwrap_or_default().to_owned(),
            state: format!("{state}, {} old", age(&metadata["creationTimestamp"])),
            template: template(pod, revisions),
            troubles: troubles(pod, sight, decision),
        }
    }
}

fn condition<'a>(pod: &'a Value, kind: &str) -> Option<&'a Value> {
    let mut conditions = pod["status"]["conditions"].as_array()?.iter();
    conditions.find(|condition| condition["type"] == kind)
}

fn is_ready(pod: &Value) -> bool {
    condition(pod, "Ready").is_some_and(|ready| ready["status"] == "True")
}

/// Returns the revision of the pod.
fn template(pod: &Value, revisions: &BTreeMap<&str, i64>) -> String {
    let hash = pod["metadata"]["labels"][plan::daemonset::HASH_LABEL].as_str();
    let revision = |hash: &str| revisions.get(hash).copied();
    let newest = revisions.values().max().copied();
    match hash.map(|hash| (hash, revision(hash))) {
        Some((_, Some(number))) if Some(number) == newest => format!("of revision {number}, the current one"),
        Some((_, Some(number))) => match newest {
            Some(newest) => format!("of revision {number}, while {newest} is current"),
            None => format!("of revision {number}"),
        },
        Some((hash, None)) => format!("of a revision that is no longer kept ({hash})"),
        None => "without the label that names its revision".to_owned(),
    }
}

/// Returns all troubles of the pod.
fn troubles(pod: &Value, sight: &Sight, decision: &Decision) -> Vec<String> {
    let mut lines = Vec::new();
    if let Some(scheduled) = condition(pod, "PodScheduled").filter(|scheduled| scheduled["status"] == "False")
    {
        lines.push(format!(
            "not scheduled: {}: {}",
            scheduled["reason"].as_str().unwrap_or_default(),
            scheduled["message"].as_str().unwrap_or_default()
        ));
    }
    if let Some(deadline) = pod["metadata"]["deletionTimestamp"]
        .as_str()
        .and_then(api::time::parse)
    {
        lines.push(format!(
            "its time to end is over at {}",
            verdict::moment(deadline, sight.now)
        ));
        let finalizers = pod["metadata"]["finalizers"].as_array().into_iter().flatten();
        let finalizers: Vec<&str> = finalizers.filter_map(Value::as_str).collect();
        if !finalizers.is_empty() {
            lines.push(format!("held by its finalizers: {}", finalizers.join(", ")));
        }
    }
    if is_ready(pod) {
        return lines;
    }
    let state = PodState::of(pod);
    lines.extend(state.failure.clone());
    for container in &state.containers {
        let kind = if container.init {
            "init container"
        } else {
            "container"
        };
        let mut line = format!("{kind} {}: {}", container.name, container.reason);
        if container.reason == "Running" {
            line.push_str(", but not ready");
        }
        if !container.message.is_empty() {
            line.push_str(&format!(": {}", container.message));
        }
        if let Some(last) = &container.last {
            line.push_str(&format!("; it ended last with {last}"));
        }
        if container.restarts > 0 {
            line.push_str(&format!("; {} restarts", container.restarts));
        }
        lines.push(line);
    }
    lines.extend(state.condition.clone());
    let silent = lines.is_empty() && decision.waits_for == WaitsFor::Node;
    if silent && pod["spec"]["nodeName"].is_string() {
        lines.push(state.in_short());
    }
    lines
}
